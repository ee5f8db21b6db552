"""The searches: what they ask, when they go back, and what they write, with models that are scripted or random."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from toolrlef_data.records import InputError, Reply
from toolrlef_data.toolbench.histories import (
    HALLUCINATED,
    all_steps,
    chosen_end,
    chosen_steps,
    messages_of,
    opening_in,
    prompts_of,
    rebuilt,
)
from toolrlef_data.toolbench.prompts import opening_of
from toolrlef_data.toolbench.search.answer_writer import answer_file
from toolrlef_data.toolbench.search.dfsdt import Ask, Call, Found, Method, search
from toolrlef_data.toolbench.tree import State, path_to, read_file_tree, states_of
from toolrlef_data.tools.functions.function import FINISH, Observation, call

FUNCTIONS: list[dict[str, Any]] = [{"name": "ping", "description": "Asks a host.", "parameters": {}}, FINISH]
QUERY = "Is the host up?"
GIVE_UP = '{"return_type": "give_up_and_restart", "note": "%s"}'
ANSWER = '{"return_type": "give_answer", "final_answer": "It is. %s"}'
ERROR = Reply(None, error="too_long")

Model = Callable[[Ask], Reply]


def drive(method: Method, model: Model, protocol: str = "tools", query_id: str = "q") -> tuple[Found, list[Ask]]:
    """A search with a model, and all that the model was asked."""
    under_way = search(query_id, QUERY, FUNCTIONS, method, protocol)
    asked: list[Ask] = []
    sent: Reply | Observation | None = None
    while True:
        try:
            wanted = next(under_way) if sent is None else under_way.send(sent)
        except StopIteration as end:
            found: Found = end.value
            return found, asked
        if isinstance(wanted, Ask):
            asked.append(wanted)
            sent = model(wanted)
        else:
            assert isinstance(wanted, Call)
            sent = observed(wanted)


def observed(wanted: Call) -> Observation:
    """A small world: what it answers depends on the call alone."""
    if wanted.name == "Finish":
        return Observation("Done.", 3 if "give_answer" in wanted.arguments else 4)
    if wanted.name != "ping":
        return call({}, wanted.name, wanted.arguments)
    draw = random.Random(wanted.arguments)
    text = draw.choice(["up", "down", "", "Observation: up\nAction: Finish", "long" * 400, "🦉" * 1200])
    return Observation(text, draw.choice([0, 0, 0, 2, 12]))


# Where a search goes back ---------------------------------------------------------------------------------------------


def scripted(script: str) -> Model:
    """A model that says one sign after the other: a call, a thought, an unknown function, an answer, a give-up, an
    error, nothing; of a ranking the letter."""
    signs = iter(script)
    said = iter(range(1000))

    def reply(ask: Ask) -> Reply:
        n, sign = next(said), next(signs)
        assert ask.ranking == (sign in "AB?")
        calls = {"c": "ping", "u": "pong", "f": "Finish", "g": "Finish"}
        arguments = {"f": ANSWER % n, "g": GIVE_UP % n}.get(sign, f'{{"n": {n}}}')
        if sign in calls:
            return Reply("", tool_calls=((calls[sign], arguments),))
        return ERROR if sign == "e" else Reply({"t": f"thought {n}", "A": "A", "B": "B.", "?": "Both."}.get(sign, " "))

    return reply


def drawn(state: State) -> str:
    """Its children: sign, number of the visit, "x" for pruned, and their children in parentheses."""
    parts = []
    for child in state.children:
        code = {None: "t", 1: "u", 3: "f", 4: "g"}.get(child.code, "c")
        below = drawn(child)
        parts.append(f"{code}{child.number}{'x' * child.pruned}" + (f"({below})" if below else ""))
    return " ".join(parts)


@pytest.mark.parametrize(
    ("method", "script", "tree", "ended", "why"),
    [
        (Method(), "ccf", "c1(c2(f3))", "answers", "an answer ends the search"),
        (Method(max_turns=1), "cc", "c1x c2x", "exhausted", "at the limit a state is left, and its own parent goes on"),
        (Method(max_turns=2), "cccccc", "c1(c2x c3x) c4(c5x c6x)", "exhausted", "each state gets two tries"),
        (Method(width=3, max_turns=1), "ccc", "c1x c2x c3x", "exhausted", "or as many as the width says"),
        (Method(max_turns=3), "ccggg", "c1(c2(g3x) g4x) g5x", "exhausted", "c2 gets no second try, c1 and the root do"),
        (Method(), "g", "g1x", "exhausted", "the state that gave up stands below the root: nothing above goes on"),
        (Method(), "cgf", "c1(g2x) f3", "answers", "c1 gets no second try, the root does"),
        (Method(max_turns=2), "ccf", "c1(c2x f3)", "answers", "an answer at the limit is an answer"),
        (Method(max_turns=2), "cgcg", "c1(g2x) c3(g4x)", "exhausted", "a give-up at the limit is a give-up"),
        (Method(answers=2), "cfcf", "c1(f2) c3(f4)", "answers", "after an answer it goes back as after a give-up"),
        (Method(answers=2, max_turns=3), "ccfcf", "c1(c2(f3) c4(f5))", "answers", "two levels, not to the root"),
        (Method(answers=5), "cff", "c1(f2) f3", "exhausted", "there are not as many answers as wanted"),
        (Method(), "tcf", "t1(c2(f3))", "answers", "a thought is a state, and goes on from there"),
        (Method(max_turns=1), "tt", "t1x t2x", "exhausted", "a thought is a turn"),
        (Method(), "uf", "u1(f2)", "answers", "an unknown function is a state like others"),
        (Method(), "ecf", "c1(f2)", "answers", "an error leaves no state, and the second try comes"),
        (Method(), "ee", "", "exhausted", "an error is a try"),
        (Method(), " cf", "c1(f2)", "answers", "so is a reply that says nothing"),
        (Method(max_turns=2), "ceecee", "c1 c2", "exhausted", "a state whose tries failed is not pruned: nothing is known"),
        (Method(max_calls=3), "ccc", "c1(c2(c3))", "max_calls", "the last call is used"),
        (Method(max_calls=2), "cf", "c1(f2)", "answers", "nothing more was wanted"),
        (Method(max_calls=2, max_turns=1), "cc", "c1x c2x", "exhausted", "nothing more was wanted"),
        (Method(max_calls=1), "e", "", "max_calls", "an error is a call"),
        (Method("chain", max_turns=3), "ccf", "c1(c2(f3))", "answers", "one chain"),
        (Method("chain", max_turns=2), "cc", "c1(c2x)", "exhausted", "a chain does not go back"),
        (Method("chain", chains=3), "cgccf", "c1(g2x) c3(c4(f5))", "answers", "the next chain begins at the root"),
        (Method("chain", chains=2, answers=2), "ff", "f1 f2", "answers", "as many chains as answers are wanted"),
        (Method("chain", chains=2), "cecf", "c1x c2(f3)", "answers", "a chain that cannot go on is left"),
        (Method("chain", chains=2), "ef", "f1", "answers", "a chain that did not begin leaves nothing"),
        (Method("chain", chains=9, max_calls=2), "cc", "c1(c2)", "max_calls", "calls are counted over all chains"),
        (Method("dfs", max_turns=1), "ccBA", "c2x c1x", "exhausted", "both orders say the second: it is visited first"),
        (Method("dfs", max_turns=1), "ccAB", "c1x c2x", "exhausted", "both orders say the first"),
        (Method("dfs", max_turns=1), "ccAA", "c1x c2x", "exhausted", "a model that always says A knows nothing"),
        (Method("dfs", max_turns=1), "cc??", "c1x c2x", "exhausted", "no letter: they stay in their order"),
        (Method("dfs", max_turns=1), "cc?A", "c2x c1x", "exhausted", "one letter is better than none"),
        (Method("dfs"), "cfBA", "c0 f1", "answers", "a way that was not visited has no number"),
        (Method("dfs", width=1), "cf", "c1(f2)", "answers", "one way needs no ranking"),
        (Method("dfs", max_turns=1), "ec", "c1x", "exhausted", "nor does the only one that came"),
        (Method("dfs", max_calls=3), "ccA", "c0 c0", "max_calls", "rankings are calls"),
        (Method("dfs", width=3, max_turns=1), "cccBAAAAA", "c3x c1x c2x", "exhausted", "points: 0.5, 1.5, 1"),
    ],
)  # fmt: skip
def test_where_a_search_goes_back(method: Method, script: str, tree: str, ended: str, why: str) -> None:
    found, asked = drive(method, scripted(script))
    assert (drawn(found.root), found.ended) == (tree, ended), why
    assert found.n_calls == len(asked)


@pytest.mark.parametrize(
    ("script", "finished", "why"),
    [
        ("f", "1 0", "the answer, and the root, which counts as a call"),
        ("ccccf", "5 4 3", "the answer and the two calls above"),
        ("ccctf", "5 4 3 2", "a thought between is marked and does not count"),
    ],
)
def test_what_is_finished(script: str, finished: str, why: str) -> None:
    root = drive(Method(), scripted(script))[0].root
    marked = sorted((state.number for state in [root, *states_of(root)] if state.finished), reverse=True)
    assert " ".join(map(str, marked)) == finished, why


@pytest.mark.parametrize(
    ("method", "script", "samples"),
    [
        (Method(max_turns=2), "cecctf", [0, 0, 1, 1, 0, 1]),
        (Method("chain", chains=3), "cgtgf", [0, 0, 1, 1, 2]),
    ],
)
def test_tries_differ_by_their_number(method: Method, script: str, samples: list[int]) -> None:
    assert [ask.sample for ask in drive(method, scripted(script))[1]] == samples


def test_a_second_try_is_shown_the_first() -> None:
    _, asked = drive(Method(max_turns=2), scripted("cecct" + "t"))
    shown = [ask.messages[-1] for ask in asked]
    first = '"arguments": "{\\"n\\": 0}"'
    assert [bool(message.get("valid", True)) for message in shown] == [True, True, True, False, True, True]
    assert first in shown[3]["content"]
    assert not any(first in str(message) for message in asked[4].messages), "the prompt is hidden again behind its try"
    assert "valid" not in str(asked[5].messages), "a thought without a call tells no other what to avoid"


def test_an_unknown_function_keeps_its_name_in_the_tree_alone() -> None:
    found, asked = drive(Method(), scripted("uf"))
    assert found.root.children[0].call == ("pong", '{"n": 0}')
    assert [message["function_call"]["name"] for message in asked[1].messages if "function_call" in message] == [
        HALLUCINATED
    ]
    assert asked[1].messages[-1]["name"] == HALLUCINATED


@pytest.mark.parametrize(
    ("said", "order"),
    [
        ("A", "AB"), ("b", "BA"), (" **B** ", "BA"), ("Way A.", "AB"), ("B, because it is shorter than A", "BA"),
        ("A\n\nIt asks first.", "AB"), ("<think>A? No.</think>B", "BA"), ("Neither", "AB"), ("", "AB"), ("B" * 9, "AB"),
    ],
)  # fmt: skip
def test_letters_of_a_ranking(said: str, order: str) -> None:
    """The model names the same way in either order, so its letter is turned round in the second question."""
    turned = said.translate(str.maketrans("ABab", "BAba")) if said.strip(" *").upper() in ("A", "B") else ""
    replies = iter([Reply("", tool_calls=(("ping", "{}"),)), Reply("x", tool_calls=(("ping", "{}"),)), Reply(said), Reply(turned)])  # fmt: skip
    found, asked = drive(Method("dfs", max_turns=1), lambda ask: next(replies))
    assert "".join("AB"[child.thought is not None] for child in sorted(found.root.children, key=_number)) == order
    assert [ask.ranking for ask in asked] == [False, False, True, True]
    assert asked[2].messages != asked[3].messages


def _number(state: State) -> int:
    return state.number


# Random models --------------------------------------------------------------------------------------------------------

METHODS = [
    Method(),
    Method(width=3, max_turns=3, answers=2),
    Method(width=1, max_turns=8),
    Method(max_turns=5, max_calls=8, answers=9),
    Method("chain", chains=4, max_turns=5, answers=2),
    Method("chain", max_turns=3),
    Method("dfs", width=3, max_turns=3, max_calls=60),
    Method("dfs", answers=3, max_turns=4),
]
_mark = re.compile(r"#(\d+)#")
Said = dict[int, Ask]


def random_model(seed: int, protocol: str, said: Said) -> Model:
    """A model that does anything; each of its messages carries the number of the request that it answers."""
    draw = random.Random(seed)
    weights = [draw.randint(1, 9) * (3 if n < 2 else 1) for n in range(8)]  # mostly calls, so that trees grow

    def reply(ask: Ask) -> Reply:
        n = len(said)
        said[n] = ask
        with_tokens = partial(replace, prompt_tokens=draw.choice([None, 7]), completion_tokens=3)
        if ask.ranking:
            return with_tokens(Reply(draw.choice(["A", "B", "B.", "neither"])))
        thought = draw.choice([f"#{n}# I think.", f"#{n}#\nAction I would rather not.\nObservations: none\n\n{{"])
        kind = draw.choices(["call", "both", "thought", "unknown", "answer", "give up", "error", "nothing"], weights)[0]
        if kind == "error":
            return with_tokens(Reply(None, error="content_filter"))
        if kind in ("thought", "nothing"):
            return with_tokens(Reply(thought if kind == "thought" else "\n"))
        name = {"unknown": draw.choice(["pong", "Pi\u00f1g", "finish"])}.get(kind, "Finish")
        name = "ping" if kind in ("call", "both") else name
        arguments = {"answer": ANSWER, "give up": GIVE_UP}.get(kind, '{"host":  "#%s#"}')
        arguments = arguments.replace("%s", f"#{n}#") if kind in ("answer", "give up") else arguments % n
        text = thought if kind in ("both", "answer") else ""
        if protocol == "text":
            written = f"Thought: {text}\nAction: {name}\nAction Input: {arguments}\nObservation: I made this up."
            return with_tokens(Reply(written))
        return with_tokens(Reply(text, tool_calls=((name, arguments), ("ping", "{}"))))

    return reply


def cases() -> Iterator[tuple[int, Method, str]]:
    for seed in range(200):
        yield seed, METHODS[seed % len(METHODS)], ("tools", "text")[seed // len(METHODS) % 2]


def number_of(message: dict[str, Any]) -> int:
    found = _mark.search(f"{message['content']}{(message.get('function_call') or {}).get('arguments')}")
    assert found is not None
    return int(found[1])


def values_of(root: State) -> list[Any]:
    return [
        (s.place, s.thought, s.call, s.observation, s.code, s.number, s.pruned, s.finished) for s in states_of(root)
    ]


def test_random_searches() -> None:
    """All that holds of any search, whatever the model does."""
    ends, kinds = set(), set()
    n_prompts = 0
    for seed, method, protocol in cases():
        said: Said = {}
        found, asked = drive(method, random_model(seed, protocol, said), protocol, f"q{seed}")
        states = list(states_of(found.root))
        file = json.loads(json.dumps(answer_file(found, QUERY, FUNCTIONS, method)))
        made, opening = file["answer_generation"], opening_of(QUERY, FUNCTIONS)
        ends.add(found.ended)
        n_prompts += len(found.prompts)
        kinds |= {(method.kind, made["valid_data"], made["finish_type"])}

        # Limits.
        assert found.n_calls == len(asked) <= method.max_calls
        assert max((len(path_to(state)) for state in states), default=0) <= method.max_turns
        if method.kind != "chain":
            assert all(len(state.children) <= method.width for state in [found.root, *states])
        assert len(found.answers) <= method.answers
        visited = sorted(state.number for state in states if state.number)
        assert visited == list(range(1, len(visited) + 1))

        # What the file holds is what was found.
        back = read_file_tree(file)
        assert values_of(back) == values_of(found.root)
        assert made["query_count"] == found.n_calls
        assert 3 * len(asked) <= made["total_tokens"] <= 10 * len(asked)
        assert (made["valid_data"], file["win"]) == (found.chosen is not None, bool(found.answers))
        chains = [chain[-1]["expand_num"] for chain in file["compare_candidates"]]
        assert chains == [state.number for state in found.answers]

        # Each step had before it exactly what the model was asked with.
        assert set(found.prompts) <= {id(state) for state in states}
        for step in all_steps(found.root, opening, found.prompts, "faithful", None):
            *history, message = step.messages
            assert list(said[number_of(message)].messages) == history
        if method.kind == "dfsdt":
            assert prompts_of(found.root) == found.prompts, "a reader composes the same prompts"
            for step in all_steps(back, opening, prompts_of(back), "faithful", None):
                assert list(said[number_of(step.messages[-1])].messages) == list(step.messages[:-1])
        if method.kind == "chain":
            assert not any("valid" in message for ask in asked for message in ask.messages), "chains know of no other"
        if found.chosen is None:
            assert "train_messages" not in made
            continue
        lists = made["train_messages"]
        assert lists == rebuilt(found.chosen, opening, found.prompts)
        assert opening_in(lists) == opening
        for step in chosen_steps(lists, "faithful"):
            assert list(said[number_of(step.messages[-1])].messages) == list(step.messages[:-1])
        assert chosen_end(found.root, lists, opening, found.prompts) is found.chosen
        if method.kind == "dfsdt":
            end = chosen_end(back, lists, opening, prompts_of(back))
            assert end is not None
            assert end.place == found.chosen.place
        assert made["final_answer"] == (found.chosen.call or ("", ""))[1]
        assert not found.answers or found.chosen.number == min(state.number for state in found.answers)
        assert (found.chosen.code == 4) == (made["finish_type"] == "give_up") == (not found.answers)
    assert ends == {"answers", "max_calls", "exhausted"}
    assert len(kinds) >= 8, "the models do not do enough"
    assert n_prompts > 300, "they do not go back often enough"


def test_searches_are_replayed() -> None:
    """The same replies give the same questions and the same file, which is what a killed run rests on."""
    for seed, method, protocol in list(cases())[:24]:
        first: Said = {}
        found, asked = drive(method, random_model(seed, protocol, first), protocol)
        again, asked_again = drive(method, random_model(seed, protocol, {}), protocol)
        assert asked == asked_again
        assert answer_file(found, QUERY, FUNCTIONS, method) == answer_file(again, QUERY, FUNCTIONS, method)


def test_the_give_up_that_is_shown_is_drawn_by_seed_and_query() -> None:
    def chosen(seed: int, query_id: str) -> str:
        found = drive(Method("chain", chains=8, seed=seed), scripted("g" * 8), query_id=query_id)[0]
        assert found.chosen is not None
        return found.chosen.place

    assert len({chosen(0, f"q{n}") for n in range(40)}) > 4
    assert len({chosen(seed, "q") for seed in range(40)}) > 4
    assert chosen(3, "q") == chosen(3, "q")


# Files and settings ---------------------------------------------------------------------------------------------------


def test_the_keys_of_a_file() -> None:
    file = answer_file(drive(Method(), scripted("cf"))[0], QUERY, FUNCTIONS, Method())
    assert sorted(file) == ["answer_generation", "compare_candidates", "forward_args", "tree", "win"]
    assert sorted(file["tree"]) == ["max_length", "size", "tree"]
    arguments = {"answer": 1, "max_query_count": 200, "single_chain_max_step": 12, "tree_beam_size": 2}
    assert file["forward_args"] == {**arguments, "with_filter": False}
    keys = "chain final_answer finish_type function query query_count total_tokens train_messages valid_data"
    assert sorted(file["answer_generation"]) == keys.split()
    assert file["answer_generation"]["function"][-1]["name"] == "Finish"
    node = file["compare_candidates"][0][0]
    assert (node["node_type"], node["description"], "children" in node) == ("Action", "ping", False)


def test_a_file_of_chains_has_upstreams_other_shape() -> None:
    method = Method("chain", chains=4)
    found, _ = drive(method, scripted("cgecetf"))
    file = answer_file(found, QUERY, FUNCTIONS, method)
    keys = ["answer_generation", "compare_candidates", "forward_args", "try_count", "trys", "win"]
    assert sorted(file) == keys
    assert file["try_count"] == 3, "a chain that did not begin is none"
    assert [each["win"] for each in file["trys"]] == [False, False, True]
    types = [[node["node_type"] for node in each["chain"]] for each in file["trys"]]
    assert types == [["Action", "Action Input"] * 2, ["Action", "Action Input"], ["Thought", "Action", "Action Input"]]
    assert file["forward_args"] == {"single_chain_max_step": 12, "pass_at": 4, "answer": 1}


def test_observations_are_cut() -> None:
    def model(ask: Ask) -> Reply:
        return Reply("", tool_calls=(("ping", f'{{"n": {len(ask.messages)}}}'),))

    found, _ = drive(Method(max_turns=40, width=1), model)
    lengths = {len(state.observation) for state in states_of(found.root)}
    assert max(lengths) == 1027
    assert messages_of(next(states_of(found.root)), [], {})[-1]["role"] == "assistant"


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "bfs"}, {"width": 0}, {"width": 2.0}, {"max_turns": 0}, {"max_turns": 101}, {"max_calls": 0},
        {"answers": True}, {"chains": -1}, {"seed": "0"}, {"chains": None},
    ],
)  # fmt: skip
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Method(**wrong)


def test_the_deepest_search_ends() -> None:
    """As deep as the settings allow, every level a generator."""
    said = iter(range(10**6))
    found, _ = drive(Method(max_turns=100, width=1), lambda ask: Reply(f"thought {next(said)}"))
    assert len(list(states_of(found.root))) == 100


def test_names() -> None:
    names = [Method().name, Method("dfs", width=3).name, Method("chain", chains=5).name]
    assert names == ["DFS_woFilter_w2", "DFS_wFilter_w3", "CoT@5"]
