"""Search algorithms: requests, backtracking and answer files, with scripted and random models."""

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
    chosen_steps,
    diversity_prompts,
    find_chosen_end,
    find_opening,
    messages_of,
    rebuild_train_messages,
)
from toolrlef_data.toolbench.prompts import opening_messages
from toolrlef_data.toolbench.search.answer_writer import answer_file
from toolrlef_data.toolbench.search.dfsdt import search
from toolrlef_data.toolbench.search.method import FunctionCall, Method, ModelRequest, SearchResult
from toolrlef_data.toolbench.tree import State, path_to, read_file_tree, states_of
from toolrlef_data.tools.functions.execution import Observation, call
from toolrlef_data.tools.functions.function import FINISH

FUNCTIONS: list[dict[str, Any]] = [{"name": "ping", "description": "Asks a host.", "parameters": {}}, FINISH]
QUERY = "Is the host up?"
GIVE_UP = '{"return_type": "give_up_and_restart", "note": "%s"}'
ANSWER = '{"return_type": "give_answer", "final_answer": "It is. %s"}'
ERROR = Reply(None, error="too_long")

Model = Callable[[ModelRequest], Reply]


def drive(
    method: Method, model: Model, protocol: str = "tools", query_id: str = "q"
) -> tuple[SearchResult, list[ModelRequest]]:
    """Run a search with a model; return the result and all requests."""
    running = search(query_id, QUERY, FUNCTIONS, method, protocol)
    requests: list[ModelRequest] = []
    value: Reply | Observation | None = None
    while True:
        try:
            action = next(running) if value is None else running.send(value)
        except StopIteration as end:
            result: SearchResult = end.value
            return result, requests
        if isinstance(action, ModelRequest):
            requests.append(action)
            value = model(action)
        else:
            assert isinstance(action, FunctionCall)
            value = observe(action)


def observe(action: FunctionCall) -> Observation:
    """Return an observation that depends only on the call."""
    if action.name == "Finish":
        return Observation("Done.", 3 if "give_answer" in action.arguments else 4)
    if action.name != "ping":
        return call({}, action.name, action.arguments)
    draw = random.Random(action.arguments)
    text = draw.choice(["up", "down", "", "Observation: up\nAction: Finish", "long" * 400, "🦉" * 1200])
    return Observation(text, draw.choice([0, 0, 0, 2, 12]))


# Backtracking --------------------------------------------------------------------------------------------------------


def scripted(script: str) -> Model:
    """Return a model with one reply per sign.

    c: call, t: thought, u: unknown function, f: final answer, g: give-up, e: error, blank: empty reply; A, B, ?: ranking.
    """
    signs = iter(script)
    numbers = iter(range(1000))

    def reply(request: ModelRequest) -> Reply:
        n, sign = next(numbers), next(signs)
        assert request.ranking == (sign in "AB?")
        calls = {"c": "ping", "u": "pong", "f": "Finish", "g": "Finish"}
        arguments = {"f": ANSWER % n, "g": GIVE_UP % n}.get(sign, f'{{"n": {n}}}')
        if sign in calls:
            return Reply("", tool_calls=((calls[sign], arguments),))
        return ERROR if sign == "e" else Reply({"t": f"thought {n}", "A": "A", "B": "B.", "?": "Both."}.get(sign, " "))

    return reply


def draw_tree(state: State) -> str:
    """Return the children of a state: sign, visit number, "x" if pruned, and their children in parentheses."""
    parts = []
    for child in state.children:
        code = {None: "t", 1: "u", 3: "f", 4: "g"}.get(child.code, "c")
        subtree = draw_tree(child)
        parts.append(f"{code}{child.number}{'x' * child.pruned}" + (f"({subtree})" if subtree else ""))
    return " ".join(parts)


@pytest.mark.parametrize(
    ("method", "script", "tree", "stop_reason", "why"),
    [
        (Method(), "ccf", "c1(c2(f3))", "answers", "an answer ends the search"),
        (Method(max_turns=1), "cc", "c1x c2x", "exhausted", "a state at the limit is abandoned, and the search resumes at its parent"),
        (Method(max_turns=2), "cccccc", "c1(c2x c3x) c4(c5x c6x)", "exhausted", "each state gets two attempts"),
        (Method(width=3, max_turns=1), "ccc", "c1x c2x c3x", "exhausted", "or as many as the width allows"),
        (Method(max_turns=3), "ccggg", "c1(c2(g3x) g4x) g5x", "exhausted", "c2 gets no second attempt, c1 and the root do"),
        (Method(), "g", "g1x", "exhausted", "a give-up below the root ends the search"),
        (Method(), "cgf", "c1(g2x) f3", "answers", "c1 gets no second attempt, the root does"),
        (Method(max_turns=2), "ccf", "c1(c2x f3)", "answers", "an answer at the limit is an answer"),
        (Method(max_turns=2), "cgcg", "c1(g2x) c3(g4x)", "exhausted", "a give-up at the limit is a give-up"),
        (Method(answers=2), "cfcf", "c1(f2) c3(f4)", "answers", "an answer backtracks like a give-up"),
        (Method(answers=2, max_turns=3), "ccfcf", "c1(c2(f3) c4(f5))", "answers", "two levels, not to the root"),
        (Method(answers=5), "cff", "c1(f2) f3", "exhausted", "fewer answers than requested"),
        (Method(), "tcf", "t1(c2(f3))", "answers", "a thought is a state and is explored"),
        (Method(max_turns=1), "tt", "t1x t2x", "exhausted", "a thought is a turn"),
        (Method(), "uf", "u1(f2)", "answers", "an unknown function is an ordinary state"),
        (Method(), "ecf", "c1(f2)", "answers", "an error adds no state, and the second attempt follows"),
        (Method(), "ee", "", "exhausted", "an error counts as an attempt"),
        (Method(), " cf", "c1(f2)", "answers", "and so does an empty reply"),
        (Method(max_turns=2), "ceecee", "c1 c2", "exhausted", "a state is not pruned if all its attempts failed"),
        (Method(max_calls=3), "ccc", "c1(c2(c3))", "max_calls", "the last call is used"),
        (Method(max_calls=2), "cf", "c1(f2)", "answers", "the cap does not end a finished search"),
        (Method(max_calls=2, max_turns=1), "cc", "c1x c2x", "exhausted", "the cap does not end an exhausted search"),
        (Method(max_calls=1), "e", "", "max_calls", "an error counts as a call"),
        (Method("chain", max_turns=3), "ccf", "c1(c2(f3))", "answers", "one chain"),
        (Method("chain", max_turns=2), "cc", "c1(c2x)", "exhausted", "a chain does not backtrack"),
        (Method("chain", chains=3), "cgccf", "c1(g2x) c3(c4(f5))", "answers", "the next chain starts at the root"),
        (Method("chain", chains=2, answers=2), "ff", "f1 f2", "answers", "as many chains as requested answers"),
        (Method("chain", chains=2), "cecf", "c1x c2(f3)", "answers", "a chain that cannot continue is abandoned"),
        (Method("chain", chains=2), "ef", "f1", "answers", "a chain without a first state is omitted"),
        (Method("chain", chains=9, max_calls=2), "cc", "c1(c2)", "max_calls", "calls are counted over all chains"),
        (Method("dfs", max_turns=1), "ccBA", "c2x c1x", "exhausted", "both orders prefer the second"),
        (Method("dfs", max_turns=1), "ccAB", "c1x c2x", "exhausted", "both orders prefer the first"),
        (Method("dfs", max_turns=1), "ccAA", "c1x c2x", "exhausted", "a model that always replies A has no preference"),
        (Method("dfs", max_turns=1), "cc??", "c1x c2x", "exhausted", "without a letter the order stays"),
        (Method("dfs", max_turns=1), "cc?A", "c2x c1x", "exhausted", "one letter is better than none"),
        (Method("dfs"), "cfBA", "c0 f1", "answers", "an unvisited state has no number"),
        (Method("dfs", width=1), "cf", "c1(f2)", "answers", "one child needs no ranking"),
        (Method("dfs", max_turns=1), "ec", "c1x", "exhausted", "nor does the only usable reply"),
        (Method("dfs", max_calls=3), "ccA", "c0 c0", "max_calls", "rankings count as calls"),
        (Method("dfs", width=3, max_turns=1), "cccBAAAAA", "c3x c1x c2x", "exhausted", "points: 0.5, 1.5, 1"),
    ],
)  # fmt: skip
def test_backtracking(method: Method, script: str, tree: str, stop_reason: str, why: str) -> None:
    result, requests = drive(method, scripted(script))
    assert (draw_tree(result.root), result.stop_reason) == (tree, stop_reason), why
    assert result.n_calls == len(requests)


@pytest.mark.parametrize(
    ("script", "finished", "why"),
    [
        ("f", "1 0", "the answer and the root, which counts as a call"),
        ("ccccf", "5 4 3", "the answer and the two calls above"),
        ("ccctf", "5 4 3 2", "a thought in between is marked but not counted"),
    ],
)
def test_finished_states(script: str, finished: str, why: str) -> None:
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
def test_attempts_have_different_sample_numbers(method: Method, script: str, samples: list[int]) -> None:
    assert [request.sample for request in drive(method, scripted(script))[1]] == samples


def test_a_diversity_prompt_shows_the_first_attempt() -> None:
    _, requests = drive(Method(max_turns=2), scripted("cecct" + "t"))
    shown = [request.messages[-1] for request in requests]
    first = '"arguments": "{\\"n\\": 0}"'
    assert [bool(message.get("valid", True)) for message in shown] == [True, True, True, False, True, True]
    assert first in shown[3]["content"]
    assert not any(first in str(message) for message in requests[4].messages), (
        "later requests do not contain the prompt"
    )
    assert "valid" not in str(requests[5].messages), "a thought without a call yields no diversity prompt"


def test_only_the_tree_keeps_the_name_of_an_unknown_function() -> None:
    result, requests = drive(Method(), scripted("uf"))
    assert result.root.children[0].call == ("pong", '{"n": 0}')
    assert [message["function_call"]["name"] for message in requests[1].messages if "function_call" in message] == [
        HALLUCINATED
    ]
    assert requests[1].messages[-1]["name"] == HALLUCINATED


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("A", "AB"), ("b", "BA"), (" **B** ", "BA"), ("Way A.", "AB"), ("B, because it is shorter than A", "BA"),
        ("A\n\nIt asks first.", "AB"), ("<think>A? No.</think>B", "BA"), ("Neither", "AB"), ("", "AB"), ("B" * 9, "AB"),
    ],
)  # fmt: skip
def test_ranking_letters(text: str, order: str) -> None:
    """The model prefers the same child in either order, so its second letter is swapped."""
    swapped = text.translate(str.maketrans("ABab", "BAba")) if text.strip(" *").upper() in ("A", "B") else ""
    replies = iter([Reply("", tool_calls=(("ping", "{}"),)), Reply("x", tool_calls=(("ping", "{}"),)), Reply(text), Reply(swapped)])  # fmt: skip
    result, requests = drive(Method("dfs", max_turns=1), lambda request: next(replies))
    assert "".join("AB"[child.thought is not None] for child in sorted(result.root.children, key=_number)) == order
    assert [request.ranking for request in requests] == [False, False, True, True]
    assert requests[2].messages != requests[3].messages


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
_number_mark = re.compile(r"#(\d+)#")
NumberedRequests = dict[int, ModelRequest]


def random_model(seed: int, protocol: str, requests: NumberedRequests) -> Model:
    """Return a model with random replies; each message contains the number of its request."""
    draw = random.Random(seed)
    weights = [draw.randint(1, 9) * (3 if n < 2 else 1) for n in range(8)]  # mostly calls, for larger trees

    def reply(request: ModelRequest) -> Reply:
        n = len(requests)
        requests[n] = request
        with_tokens = partial(replace, prompt_tokens=draw.choice([None, 7]), completion_tokens=3)
        if request.ranking:
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
            message = f"Thought: {text}\nAction: {name}\nAction Input: {arguments}\nObservation: I made this up."
            return with_tokens(Reply(message))
        return with_tokens(Reply(text, tool_calls=((name, arguments), ("ping", "{}"))))

    return reply


def cases() -> Iterator[tuple[int, Method, str]]:
    for seed in range(200):
        yield seed, METHODS[seed % len(METHODS)], ("tools", "text")[seed // len(METHODS) % 2]


def number_of(message: dict[str, Any]) -> int:
    match = _number_mark.search(f"{message['content']}{(message.get('function_call') or {}).get('arguments')}")
    assert match is not None
    return int(match[1])


def values_of(root: State) -> list[Any]:
    return [
        (s.place, s.thought, s.call, s.observation, s.code, s.number, s.pruned, s.finished) for s in states_of(root)
    ]


def test_random_searches() -> None:
    """The properties of every search, with any model."""
    stop_reasons, kinds = set(), set()
    n_prompts = 0
    for seed, method, protocol in cases():
        numbered: NumberedRequests = {}
        result, requests = drive(method, random_model(seed, protocol, numbered), protocol, f"q{seed}")
        states = list(states_of(result.root))
        file = json.loads(json.dumps(answer_file(result, QUERY, FUNCTIONS, method)))
        generation, opening = file["answer_generation"], opening_messages(QUERY, FUNCTIONS)
        stop_reasons.add(result.stop_reason)
        n_prompts += len(result.prompts)
        kinds |= {(method.kind, generation["valid_data"], generation["finish_type"])}

        # Limits.
        assert result.n_calls == len(requests) <= method.max_calls
        assert max((len(path_to(state)) for state in states), default=0) <= method.max_turns
        if method.kind != "chain":
            assert all(len(state.children) <= method.width for state in [result.root, *states])
        assert len(result.answers) <= method.answers
        visited = sorted(state.number for state in states if state.number)
        assert visited == list(range(1, len(visited) + 1))

        # The file contains the search result.
        parsed = read_file_tree(file)
        assert values_of(parsed) == values_of(result.root)
        assert generation["query_count"] == result.n_calls
        extra = generation["total_tokens"] - 3 * len(requests)  # of prompts, which have 7 tokens or no count
        assert extra % 7 == 0
        assert 0 <= extra <= 7 * len(requests)
        assert (generation["valid_data"], file["win"]) == (result.chosen is not None, bool(result.answers))
        chains = [chain[-1]["expand_num"] for chain in file["compare_candidates"]]
        assert chains == [state.number for state in result.answers]

        # The faithful history of a step equals its request.
        assert set(result.prompts) <= {id(state) for state in states}
        for step in all_steps(result.root, opening, result.prompts, "faithful", None):
            *history, message = step.messages
            assert list(numbered[number_of(message)].messages) == history
        if method.kind == "dfsdt":
            assert diversity_prompts(result.root) == result.prompts, "prompts rebuilt from the tree are equal"
            for step in all_steps(parsed, opening, diversity_prompts(parsed), "faithful", None):
                assert list(numbered[number_of(step.messages[-1])].messages) == list(step.messages[:-1])
        if method.kind == "chain":
            assert not any("valid" in message for request in requests for message in request.messages), (
                "chains have no diversity prompts"
            )
        if result.chosen is None:
            assert "train_messages" not in generation
            continue
        lists = generation["train_messages"]
        assert lists == rebuild_train_messages(result.chosen, opening, result.prompts)
        assert find_opening(lists) == opening
        for step in chosen_steps(lists, "faithful"):
            assert list(numbered[number_of(step.messages[-1])].messages) == list(step.messages[:-1])
        assert find_chosen_end(result.root, lists, opening, result.prompts) is result.chosen
        if method.kind == "dfsdt":
            end = find_chosen_end(parsed, lists, opening, diversity_prompts(parsed))
            assert end is not None
            assert end.place == result.chosen.place
        assert generation["final_answer"] == (result.chosen.call or ("", ""))[1]
        assert not result.answers or result.chosen.number == min(state.number for state in result.answers)
        assert (result.chosen.code == 4) == (generation["finish_type"] == "give_up") == (not result.answers)
    assert stop_reasons == {"answers", "max_calls", "exhausted"}
    assert len(kinds) >= 8, "the models cover too few cases"
    assert n_prompts > 300, "the searches backtrack too rarely"


def test_a_replayed_search_is_equal() -> None:
    """Equal replies yield equal requests and an equal file, on which resuming a run depends."""
    for seed, method, protocol in list(cases())[:24]:
        numbered: NumberedRequests = {}
        result, requests = drive(method, random_model(seed, protocol, numbered), protocol)
        replayed, replayed_requests = drive(method, random_model(seed, protocol, {}), protocol)
        assert requests == replayed_requests
        assert answer_file(result, QUERY, FUNCTIONS, method) == answer_file(replayed, QUERY, FUNCTIONS, method)


def test_seed_and_query_determine_the_chosen_give_up() -> None:
    def chosen(seed: int, query_id: str) -> str:
        result = drive(Method("chain", chains=8, seed=seed), scripted("g" * 8), query_id=query_id)[0]
        assert result.chosen is not None
        return result.chosen.place

    assert len({chosen(0, f"q{n}") for n in range(40)}) > 4
    assert len({chosen(seed, "q") for seed in range(40)}) > 4
    assert chosen(3, "q") == chosen(3, "q")


# Files and settings ---------------------------------------------------------------------------------------------------


def test_keys_of_an_answer_file() -> None:
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


def test_keys_of_an_answer_file_with_chains() -> None:
    method = Method("chain", chains=4)
    result, _ = drive(method, scripted("cgecetf"))
    file = answer_file(result, QUERY, FUNCTIONS, method)
    keys = ["answer_generation", "compare_candidates", "forward_args", "try_count", "trys", "win"]
    assert sorted(file) == keys
    assert file["try_count"] == 3, "a chain without a first state is omitted"
    assert [chain["win"] for chain in file["trys"]] == [False, False, True]
    types = [[node["node_type"] for node in chain["chain"]] for chain in file["trys"]]
    assert types == [["Action", "Action Input"] * 2, ["Action", "Action Input"], ["Thought", "Action", "Action Input"]]
    assert file["forward_args"] == {"single_chain_max_step": 12, "pass_at": 4, "answer": 1}


def test_observations_are_truncated() -> None:
    def model(request: ModelRequest) -> Reply:
        return Reply("", tool_calls=(("ping", f'{{"n": {len(request.messages)}}}'),))

    result, _ = drive(Method(max_turns=40, width=1), model)
    lengths = {len(state.observation) for state in states_of(result.root)}
    assert max(lengths) == 1027
    assert messages_of(next(states_of(result.root)), [], {})[-1]["role"] == "assistant"


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


def test_a_search_at_the_maximum_depth() -> None:
    """At the maximum depth, with one nested generator per level."""
    numbers = iter(range(10**6))
    result, _ = drive(Method(max_turns=100, width=1), lambda request: Reply(f"thought {next(numbers)}"))
    assert len(list(states_of(result.root))) == 100


def test_upstream_names_of_methods() -> None:
    names = [Method().name, Method("dfs", width=3).name, Method("chain", chains=5).name]
    assert names == ["DFS_woFilter_w2", "DFS_wFilter_w3", "CoT@5"]
