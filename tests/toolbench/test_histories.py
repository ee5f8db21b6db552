"""Histories and search trees, compared with random searches that record their requests."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.answer_trees import PROMPT_END, PROMPT_START, Message, RandomSearch, SearchNode, searches
from toolrlef_data.records import InputError, UnusableRow
from toolrlef_data.toolbench.flags import FLAGS, TRUNCATED_LENGTH, flags_of
from toolrlef_data.toolbench.histories import (
    HALLUCINATED,
    HISTORIES,
    all_steps,
    chosen_steps,
    diversity_prompts,
    find_chosen_end,
    find_opening,
    find_prompt_frame,
    messages_of,
    rebuild_train_messages,
)
from toolrlef_data.toolbench.messages import openai_messages, template_messages
from toolrlef_data.toolbench.prompts import DIVERSITY
from toolrlef_data.toolbench.tree import State, path_to, read_file_tree, read_tree, states_of, write_tree

Node = dict[str, Any]


def _load(search: RandomSearch) -> tuple[Node, list[list[Message]]]:
    """Return the answer file of a search, loaded from JSON, and its lists of messages."""
    file = json.loads(json.dumps(search.file()))
    return file, file["answer_generation"].get("train_messages", [])


# Compared with recorded requests --------------------------------------------------------------------------------------


def test_histories_equal_the_recorded_requests() -> None:
    counts: Counter[str] = Counter()
    for search in searches(120):
        file, lists = _load(search)
        nodes = {state.place: state for state in search.root.descendants()}
        root, depth_first = read_file_tree(file), not search.ranked
        prompts = diversity_prompts(root, (PROMPT_START, PROMPT_END), depth_first)
        opening = search.root.child_messages[:2]
        states = {state.place: state for state in states_of(root)}
        assert list(states) == list(nodes), "the states are not in preorder"
        for place, state in states.items():
            node = nodes[place]
            assert (state.thought, state.observation, state.code) == (
                node.message["content"],
                node.observation,
                node.code,
            )
            assert (state.number, state.call is None) == (node.number, node.is_thought)
        on_path = [state.place for state in search.end.path()] if search.end else []
        for history in HISTORIES:
            end = states[search.end.place] if search.end else None
            steps = list(all_steps(root, opening, prompts, history, end))
            assert {step.place: list(step.messages) for step in steps} == {
                f"t{place}": node.histories()[history] for place, node in nodes.items()
            }
            assert [step.place for step in steps if step.chosen] == [f"t{place}" for place in on_path]
            assert all(step.number == len(nodes[step.place[1:]].path()) for step in steps)
        counts["late prompts"] += _has_late_prompt(search)
        counts["third attempts"] += any(
            sum(_is_prompt(m) for m in node.request) and node.place[-1] == "2" for node in nodes.values()
        )
        counts["repeated thoughts"] += any(
            node.is_thought and node.parent and node.parent.is_thought for node in nodes.values()
        )
        if not search.end:
            counts["no end"] += 1
            continue
        counts["a list twice"] += len(lists) > len(on_path)
        counts["gave up"] += search.end.code == 4
        counts["ranked"] += search.ranked

        # The chosen path, read without the tree and rebuilt from it.
        assert find_opening(lists) == opening
        any_prompt = any(_is_prompt(message) for messages in lists for message in messages)
        assert find_prompt_frame(lists, root, depth_first) == ((PROMPT_START, PROMPT_END) if any_prompt else DIVERSITY)
        end = find_chosen_end(root, lists, opening, prompts)
        assert end is not None
        assert end.place == search.end.place
        assert rebuild_train_messages(end, opening, prompts) == lists
        for history in HISTORIES:
            shown_messages = [list(step.messages) for step in chosen_steps(lists, history)]
            expected = [node.histories()[history] for node in _path_with_repeats(search)]
            assert shown_messages == expected
    assert len(counts) == 7
    assert min(counts.values()) > 3, f"the searches cover too few cases: {counts}"


def _is_prompt(message: Message) -> bool:
    return message.get("valid") is False


def _has_late_prompt(search: RandomSearch) -> bool:
    """Return whether `upstream` and `faithful` differ for a step of the path."""
    return any(node.histories()["upstream"] != node.histories()["faithful"] for node in _path_with_repeats(search))


def _path_with_repeats(search: RandomSearch) -> list[SearchNode]:
    targets = [messages[-1] for messages in search.lists()]
    path = search.end.path() if search.end else []
    return [next(node for node in path if node.message is target) for target in targets]


def test_real_files_are_rebuilt_from_their_trees(shared: Path) -> None:
    n_valid = 0
    for path in sorted((shared / "data/toolbench/answer").glob("*/*.json")):
        file = json.loads(path.read_text(encoding="utf-8"))
        generation, root = file["answer_generation"], read_file_tree(file)
        if not generation["valid_data"]:
            assert "train_messages" not in generation
            continue
        n_valid += 1
        lists = generation["train_messages"]
        opening, prompts = find_opening(lists), diversity_prompts(root, find_prompt_frame(lists, root))
        end = find_chosen_end(root, lists, opening, prompts)
        assert end is not None
        assert end.call is not None
        assert rebuild_train_messages(end, opening, prompts) == lists
        assert end.call[1] == generation["final_answer"]
        for history in HISTORIES:
            steps = {step.place: step for step in all_steps(root, opening, prompts, history, end)}
            from_tree = [steps[f"t{state.place}"].messages for state in path_to(end)]
            assert from_tree == [step.messages for step in chosen_steps(lists, history)]
            hidden = sum(_is_prompt(message) for messages in from_tree for message in messages)
            assert (history == "clean") == (not hidden) or not any(_is_prompt(m) for ms in lists for m in ms)
        written = write_tree(root)
        assert (written["size"], written["max_length"]) == (file["tree"]["size"], file["tree"]["max_length"])
    assert n_valid == 9


# Prompt frames --------------------------------------------------------------------------------------------------------


def _root(*calls: tuple[str, str]) -> State:
    """Return a root with one child per (function name, observation)."""
    root = State()
    for name, observation in calls:
        root.add(State(call=(name, "{}"), observation=observation, code=0))
    return root


def _lists(*contents: str | None) -> list[list[Message]]:
    return [[{"role": "user", "content": content, "valid": False}, {"role": "assistant"}] for content in contents]


def test_prompt_frames_are_extracted() -> None:
    root = _root(("a", "1"), ("b", "2"), ("c", "3"))
    first = root.children[0]
    first.add(State(call=("a", "{}"), observation="1", code=0))
    first.add(State("again"))
    second, third = (diversity_prompts(root, ("", ""))[id(child)] for child in root.children[1:])
    longer = diversity_prompts(root, ("", ""))[id(first.children[1])]
    assert second in longer, "the prompt of the root's second child is part of a longer one"
    assert second not in third
    cases: list[tuple[str, list[list[Message]], tuple[str, str]]] = [
        ("one prompt", _lists(f"<{second}>"), ("<", ">")),
        ("a prompt that contains another", _lists(f"<{longer}>"), ("<", ">")),
        ("several", _lists(f"<{longer}>", f"<{second}>", f"<{third}>"), ("<", ">")),
        ("an empty frame", _lists(third), ("", "")),
        ("no prompt", [[{"role": "user", "content": "Hi"}]], DIVERSITY),
        ("of another tree", _lists("<[]>"), DIVERSITY),
        ("one of another tree, one of this tree", _lists("<[]>", f"<{second}>"), ("<", ">")),
        ("null, and missing", [*_lists(None), [{"role": "user", "valid": False}]], DIVERSITY),
        ("null and one prompt", _lists(None, f"<{second}>"), ("<", ">")),
        ("a visible message is no prompt", [[{"role": "user", "content": f"<{second}>"}]], DIVERSITY),
        ("no lists", [], DIVERSITY),
    ]
    for why, lists, frame in cases:
        assert find_prompt_frame(lists, root) == frame, why


def test_an_observation_may_look_like_a_prompt() -> None:
    """The prompts of a state's children contain its raw observation, which may contain another prompt's body."""
    root = _root(("a", "1"), ("b", "2"))
    body = diversity_prompts(root, ("", ""))[id(root.children[1])]
    root.children[1].observation = f"<{body}>"
    root.children[1].add(State(call=("c", "{}"), observation="3", code=0))
    root.children[1].add(State("again"))
    prompt = diversity_prompts(root, ("<<", ">>"))[id(root.children[1].children[1])]
    assert f"<{body}>" in prompt
    assert find_prompt_frame(_lists(prompt), root) == ("<<", ">>")


def test_files_may_omit_names_and_nulls() -> None:
    search = next(candidate for candidate in searches(50) if candidate.answer and len(candidate.answer.path()) > 2)
    file, lists = _load(search)
    lists = [[{k: v for k, v in m.items() if v is not None and k != "name"} for m in messages] for messages in lists]
    train_messages = [list(step.messages) for step in chosen_steps(lists, "upstream")]
    root = read_file_tree(file)
    prompts = diversity_prompts(root, find_prompt_frame(train_messages, root, not search.ranked), not search.ranked)
    end = find_chosen_end(root, train_messages, find_opening(train_messages), prompts)
    assert end is not None
    assert search.answer is not None
    assert end.place == search.answer.place


# Malformed lists ------------------------------------------------------------------------------------------------------

THOUGHT: Message = {"role": "assistant", "content": "Hm."}


CALLS: list[Any] = [5, {}, [], "a", False, {"name": "a"}, {"arguments": "{}"}]
CALLS += [{"name": "a", "arguments": wrong} for wrong in CALLS[:3]]
NO_LISTS: list[Any] = [None, [], {}, 5, "ab", True, [[]], [None], ["ab"], [[THOUGHT], []], [5]]
NO_MESSAGES: list[Any] = [None, [], {}, 5, "ab", {"content": "a"}]
NO_MESSAGES += [{**THOUGHT, "role": role} for role in [*NO_MESSAGES, "developer", "Assistant", "\ud800"]]
NO_MESSAGES += [{**THOUGHT, key: value} for key in ("content", "name") for value in CALLS[:3]]
NO_MESSAGES += [{**THOUGHT, "function_call": call} for call in CALLS]
NO_MESSAGES += [{"role": "user", "content": "a", "function_call": {"name": "a", "arguments": ""}}]
# One call in both formats, but not the same.
NO_MESSAGES += [
    {**THOUGHT, "function_call": {"name": "a", "arguments": "{}"}, "tool_calls": [{"function": other}]}
    for other in ({"name": "b", "arguments": "{}"}, {"name": "a", "arguments": '{"x": 1}'})
]
MALFORMED = [("no_messages", wrong) for wrong in NO_LISTS] + [("not_a_message", [[wrong]]) for wrong in NO_MESSAGES]


@pytest.mark.parametrize(("reason", "malformed"), MALFORMED)
def test_malformed_train_messages_are_unusable(reason: str, malformed: Any) -> None:
    for history in HISTORIES:
        with pytest.raises(UnusableRow) as error:
            chosen_steps(malformed, history)
        assert error.value.reason == reason
        error.value.detail.encode()


def test_known_keys_of_a_message() -> None:
    call = {"name": "a", "arguments": "{", "id": 7}
    messages = [
        {"role": "assistant"},
        {"role": "assistant", "content": None, "function_call": None, "refusal": None, "valid": True},
        {"role": "function", "content": "b"},
        {"role": "user", "valid": False, "name": "me"},
        {"role": "assistant", "content": "c", "function_call": call},
    ]
    (step,) = chosen_steps([messages], "upstream")
    assert list(step.messages) == [
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": None},
        {"role": "function", "content": "b", "name": None},
        {"role": "user", "content": None, "valid": False},
        {"role": "assistant", "content": "c", "function_call": {"name": "a", "arguments": "{"}},
    ]
    assert (step.place, step.number) == ("1", 3)


# OpenAI's messages ----------------------------------------------------------------------------------------------------


def _call(content: str | None = None, name: str = "f", arguments: str = "{}") -> Message:
    return {"role": "assistant", "content": content, "function_call": {"name": name, "arguments": arguments}}


def _result(content: str | None = "b", **more: Any) -> Message:
    return {"role": "function", "name": "f", "content": content, **more}


USER: Message = {"role": "user", "content": "u"}
PARALLEL: Message = {"role": "assistant", "content": None, "function_calls": [_call()["function_call"]] * 2}
PROMPT: Message = {"role": "user", "content": "again", "valid": False}


@pytest.mark.parametrize(
    ("why", "messages", "with_thoughts", "without_thoughts"),
    [
        ("a call", [USER, _call("a")], "user:u assistant:a+f1", "user:u assistant:None+f1"),
        ("thought and call", [_call("a"), _result(), _call("c")], "a+f1 tool1:b c+f2", "None+f1 tool1:b None+f2"),
        ("a thought before its call", [{**THOUGHT}, _call()], "Hm.+f1", "Hm.+f1"),
        ("both thoughts", [{**THOUGHT}, _call("a")], "Hm.\na+f1", "Hm.+f1"),
        ("three thoughts", [{**THOUGHT}, {**THOUGHT}, _call("a")], "Hm.\nHm.\na+f1", "Hm.\nHm.+f1"),
        ("empty thoughts add no line", [{**THOUGHT, "content": ""}, {**THOUGHT}, _call("")], "Hm.+f1", "Hm.+f1"),
        ("an empty thought is null", [{**THOUGHT, "content": ""}, _call(None)], "None+f1", "None+f1"),
        ("a prompt in between", [{**THOUGHT}, PROMPT, _call("a")], "Hm. user:again a+f1", "Hm. user:again None+f1"),
        ("a thought at the end", [_call(), _result(), {**THOUGHT}], "None+f1 tool1:b Hm.", "None+f1 tool1:b Hm."),
        ("two results of a call", [_call(), _result(), _result("c")], "None+f1 tool1:b tool:c", "None+f1 tool1:b tool:c"),
        ("a null result", [_call(), _result(None), _call()], "None+f1 tool1: None+f2", "None+f1 tool1: None+f2"),
        ("a result without name", [_call(), {"role": "function"}], "None+f1 tool1:", "None+f1 tool1:"),
        ("a null user", [{"role": "user", "content": None}, _call()], "user: None+f1", "user: None+f1"),
    ],
)  # fmt: skip
def test_openai_messages(why: str, messages: list[Message], with_thoughts: str, without_thoughts: str) -> None:
    for keep_thought, expected in ((True, with_thoughts), (False, without_thoughts)):
        converted = openai_messages(messages, keep_thought)
        assert " ".join(map(_render, converted)).replace("assistant:", "") == expected.replace("assistant:", ""), why
        names = {"role", "content", "name", "tool_call_id", "tool_calls"}
        assert all(set(message) == names for message in converted)
        assert all(isinstance(message["content"], str) for message in converted if message["role"] != "assistant")


def _render(message: Message) -> str:
    number = (message["tool_call_id"] or "").removeprefix("call_")
    assert message["role"] == "tool" or number == ""
    called = "".join(f"+{c['function']['name']}{c['id'].removeprefix('call_')}" for c in message["tool_calls"] or ())
    return f"{message['role']}{number}:{message['content']}{called}"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [('{"a": 1}', {"a": 1}), ("[1]", "[1]"), ("1", "1"), ('{"a": 1', '{"a": 1'), ("", ""), (None, "")],
)
def test_templates_get_an_object_of_arguments_or_the_text(arguments: str | None, expected: Any) -> None:
    call = {"id": "call_12", "type": None, "function": {"name": "f", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "name": None, "tool_call_id": None, "tool_calls": [call]}
    function = {"name": "f", "arguments": expected}
    assert template_messages([message]) == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "call00012", "type": "function", "function": function}],
        }
    ]


def test_all_nodes_of_a_finished_state_are_finished() -> None:
    root = State()
    root.add(State("I know it.", ("Finish", "{}"), code=3, finished=True))
    root.add(State("I do not.", ("Finish", "{}"), code=4))
    for child, is_finished in zip(write_tree(root)["tree"]["children"], (True, False), strict=True):
        nodes = [child]
        while nodes[-1]["children"]:
            nodes += nodes[-1]["children"]
        assert [node["node_type"] for node in nodes] == ["Thought", "Action", "Action Input"]
        assert [node["finished"] for node in nodes] == [is_finished] * 3


def test_a_result_without_a_call_is_unusable() -> None:
    with pytest.raises(UnusableRow, match="result_without_call"):
        openai_messages([USER, _result(), _call()], True)


def test_equal_histories_stay_equal() -> None:
    """Merging depends on it: the converted history of a step is a prefix of those of its children."""
    for search in searches(40):
        for node in search.root.descendants():
            if node.is_thought:
                continue
            *history, _ = node.histories()["clean"]
            for child in node.children:
                messages = openai_messages(child.histories()["clean"], True)
                assert messages[: len(openai_messages([*history, node.message], True))] == openai_messages(
                    [*history, node.message], True
                )


def _calls(first: str, second: str, arguments: str = "{}") -> Message:
    calls = [{"name": first, "arguments": "{}"}, {"name": second, "arguments": arguments}]
    return {"role": "assistant", "content": None, "function_calls": calls, "call_ids": ["a", "b"]}


@pytest.mark.parametrize(
    ("why", "history", "target", "flags"),
    [
        ("no flags", [USER], _call(), []),
        ("upstream's placeholder", [USER], _call(name=HALLUCINATED), ["unknown_function"]),
        ("a suffix of a name, which upstream's executor accepts", [USER], _call(name="f_for_x"), ["unknown_function"]),
        *[("no object", [USER], _call(arguments=a), ["invalid_arguments"]) for a in ("", "[]", "1", '"{}"', "{,}", "nul")],
        *[("an object", [USER], _call(arguments=a), []) for a in ('{"a": NaN}', ' {"a": 1, "a": 2}\n', '{"a": "\ud800"}')],
        ("deeply nested", [USER], _call(arguments="[" * 100_000), ["invalid_arguments"]),
        ("a number too long for Python", [USER], _call(arguments='{"a": %s}' % ("9" * 5000)), ["invalid_arguments"]),
        ("a long JSON text", [USER], _call(arguments='{"a": "%s"}' % ("b" * 100_000)), []),
        ("the same call", [_call(), _result()], _call("again"), ["repeated_call", "lost_thought"]),
        ("the same call twice in a message", [USER], PARALLEL, ["repeated_call"]),
        ("one of two calls is of an unknown function", [USER], _calls("f", "g"), ["unknown_function"]),
        ("one of two calls has no object", [USER], _calls("f", "Finish", "[]"), ["invalid_arguments"]),
        ("other arguments", [_call(), _result()], _call(arguments='{ }'), []),
        ("the same call of an unknown function", [_call(name="g")], _call(name="g"), ["unknown_function", "repeated_call", "unpaired_call"]),
        ("truncated", [_call(), _result("x" * TRUNCATED_LENGTH + "...")], _call(arguments='{"a": 1}'), ["truncated_observation"]),
        ("complete and long", [_call(), _result("x" * (TRUNCATED_LENGTH + 3))], _call(arguments='{"a": 1}'), []),
        ("complete, with dots", [_call(), _result("x...")], _call(arguments='{"a": 1}'), []),
        ("a long user message is not an observation", [{"role": "user", "content": "x" * TRUNCATED_LENGTH + "..."}], _call(), []),
        ("null, and missing", [_call(), _result(None), {"role": "function"}], _call(arguments='{"a": 1}'), ["unpaired_call"]),
        ("a call without a result", [_call(), USER], _call(arguments='{"a": 1}'), ["unpaired_call"]),
        ("equal ids", [{**_call(), "call_id": "a"}, {**_result(), "call_id": "a"}], _call(arguments='{"a": 1}'), []),
        ("one id", [{**_call(), "call_id": "a"}, _result()], _call(arguments='{"a": 1}'), []),
        ("other ids", [{**_call(), "call_id": "a"}, {**_result(), "call_id": "b"}], _call(arguments='{"a": 1}'), ["unpaired_call"]),
        ("only a thought", [USER], {**THOUGHT}, []),
        ("all", [_call(HALLUCINATED, "no", ""), _result("x" * TRUNCATED_LENGTH + "...")], _call("a", "no", ""), list(FLAGS[:-1])),
        ("an unpaired call, too", [_call(HALLUCINATED, "no", ""), _result("x" * TRUNCATED_LENGTH + "..."), _result()], _call("a", "no", ""), list(FLAGS)),
    ],
)  # fmt: skip
def test_flags(why: str, history: list[Message], target: Message, flags: list[str]) -> None:
    assert flags_of([*history, target], ["f", "Finish"], keep_thought=False) == flags, why
    other_flags = [flag for flag in flags if flag != "lost_thought"]
    assert flags_of([*history, target], ["f", "Finish"], keep_thought=True) == other_flags, why


# Trees ----------------------------------------------------------------------------------------------------------------


def _node(kind: Any, description: Any = "", *children: Any, **more: Any) -> Node:
    return {"node_type": kind, "description": description, "children": list(children), **more}


def _action(*children: Any, name: str = "f", **more: Any) -> Node:
    return _node("Action", name, _node("Action Input", "{}", *children, **more))


@pytest.mark.parametrize(
    ("why", "node", "places"),
    [
        ("an empty tree", _node("Action Input"), ""),
        ("children are null", {**_node("Action Input"), "children": None}, ""),
        ("no children", {"node_type": "Action Input", "description": ""}, ""),
        ("a call", _node("Action Input", "", _action()), "0:None+f"),
        ("a thought that was not visited", _node("Action Input", "", _node("Thought", "t", _action())), "0:t+f"),
        ("a thought that was visited", _node("Action Input", "", _node("Thought", "t", _action(), expand_num=1)), "0:t 0.0:None+f"),
        ("a thought with two calls below", _node("Action Input", "", _node("Thought", "t", _action(), _action())), "0:t 0.0:None+f 0.1:None+f"),
        ("thoughts", _node("Action Input", "", _node("Thought", "t", _node("Thought", "", _action()))), "0:t 0.0:+f"),
        ("malformed numbers", _node("Action Input", "", _node("Thought", "t", _action(), expand_num="1")), "0:t+f"),
        ("malformed values", _node("Action Input", "", _action(observation=[1], observation_code="3", pruned=1, finished="")), "0:None+f"),
        ("a null observation", _node("Action Input", "", _action(observation=None)), "0:None+f"),
    ],
)  # fmt: skip
def test_states_of_a_tree(why: str, node: Node, places: str) -> None:
    root = read_tree(node)
    rendered = [f"{s.place}:{s.thought}" + (f"+{s.call[0]}" if s.call else "") for s in states_of(root)]
    assert " ".join(rendered) == places, why
    for state in states_of(root):
        assert isinstance(state.observation, str)
        assert state.code is None
        assert state.pruned is state.finished is False
    reloaded = read_tree(write_tree(root)["tree"])
    assert [s.call for s in states_of(reloaded)] == [s.call for s in states_of(root)]


@pytest.mark.parametrize(
    "node",
    [
        *(None, 5, "x", [], {}, _node("Action Input", None), _node(None), _node([])),
        _node("Action Input", "", 5),
        {**_node("Action Input"), "children": {"a": 1}},
        {**_node("Action Input"), "children": "ab"},
        _node("Action Input", "", _node("Action", "f")),
        _node("Action Input", "", _node("Action", "f", _action())),
        _node("Action Input", "", _node("Action", "f", _node("Action Input"), _node("Action Input"))),
        _node("Action Input", "", _node("Thought", "t", _node("Action", "f"))),
        _node("Action Input", "", _node("Thought", None)),
        _node("Action Input", "", _node("Observation", "t")),
    ],
)
def test_malformed_trees(node: Any) -> None:
    with pytest.raises(InputError, match=r"node"):
        read_tree(node)


@pytest.mark.parametrize("file", [{}, {"tree": None}, {"tree": []}, {"trys": None}, {"trys": {}}, {"trys": [5]}])
def test_files_without_a_tree(file: Node) -> None:
    with pytest.raises(InputError):
        read_file_tree(file)
    with pytest.raises(InputError):
        read_file_tree({"trys": [{"chain": [5]}], **file} if "trys" not in file else file)


def test_deep_trees_need_no_recursion() -> None:
    leaf = _node("Action Input", "{}", observation="o", observation_code=3)
    node = _node("Action", "f", leaf)
    for _ in range(5_000):
        node = _node("Action", "f", _node("Action Input", "{}", node))
    root = read_tree(_node("Action Input", "", node))
    end = list(states_of(root))[-1]
    assert len(path_to(end)) == 5_001
    assert len(messages_of(end, [], {})) == 10_001
    assert write_tree(root)["max_length"] == 10_003


@pytest.mark.parametrize(
    ("result", "name"), [(_result(), "f"), ({"role": "function", "content": "b"}, "f"), (_result(name="g"), "g")]
)
def test_a_result_without_a_name_has_that_of_its_call(result: Message, name: str) -> None:
    message = openai_messages([USER, _call(), result], True)[-1]
    assert (message["name"], message["tool_call_id"]) == (name, "call_1")
