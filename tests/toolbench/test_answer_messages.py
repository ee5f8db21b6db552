"""Whole values of the parts of an answer file: messages, tools, the nodes of a tree and the histories of its states."""

from __future__ import annotations

from typing import Any

import pytest

from toolrlef_data.records import UnusableRow
from toolrlef_data.toolbench.histories import HALLUCINATED, Step, all_steps, messages_of, rebuild_train_messages
from toolrlef_data.toolbench.messages import checked_message, parse_tools, template_messages
from toolrlef_data.toolbench.tree import State, read_tree, states_of, write_tree

Message = dict[str, Any]
CALL = {"name": "a", "arguments": "{}"}
OTHER = {"name": "b", "arguments": {"x": "é"}}


@pytest.mark.parametrize(
    ("message", "checked"),
    [
        (
            {"role": "assistant", "tool_calls": [{"id": "1", "function": CALL}, {"id": 5, "function": OTHER}]},
            {"function_calls": [CALL, {"name": "b", "arguments": '{"x": "é"}'}], "call_ids": ["1", None]},
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": "i", "function": CALL}]},
            {"function_call": CALL, "call_id": "i"},
        ),
        (
            {"role": "assistant", "function_call": CALL, "tool_calls": [{"id": "i", "function": CALL}]},
            {"function_call": CALL, "call_id": "i"},
        ),
        ({"role": "assistant", "function_call": CALL}, {"function_call": CALL}),
        ({"role": "assistant", "tool_calls": []}, {}),
        ({"role": "tool", "tool_call_id": "i", "name": "a"}, {"role": "function", "name": "a", "call_id": "i"}),
        ({"role": "tool", "tool_call_id": 5}, {"role": "function", "name": None}),
        ({"role": "function", "tool_call_id": "i"}, {"name": None}),
        ({"role": "system", "name": "n", "valid": False}, {"valid": False}),
        ({"role": "user", "valid": None, "other": 1}, {}),
    ],
)
def test_a_message_with_its_known_keys(message: Message, checked: Message) -> None:
    assert checked_message({"content": "x", **message}, "here") == {
        "role": message["role"],
        "content": "x",
        **checked,
    }


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        ([], "expected a message, found list"),
        ({"role": "judge"}, "unknown role 'judge'"),
        ({"role": "user", "content": 5}, "expected content as text, found int"),
        ({"role": "user", "name": []}, "expected name as text, found list"),
        ({"role": "user", "function_call": CALL}, "a message of the role user has a call"),
        ({"role": "tool", "function_call": CALL}, "a message of the role function has a call"),
        *(
            ({"role": "assistant", "tool_calls": calls}, "expected calls with name and arguments as text")
            for calls in ("x", {"a": 1}, [5], [{"function": {**CALL, "name": 1}}])
        ),
        (
            {"role": "assistant", "function_call": {"name": "a", "arguments": {}}},
            "expected calls with name and arguments as text",
        ),
        (
            {"role": "assistant", "function_call": CALL, "tool_calls": [{"function": OTHER}]},
            "function_call and tool_calls are different calls",
        ),
    ],
)
def test_a_malformed_message_is_named(message: Any, detail: str) -> None:
    with pytest.raises(UnusableRow) as raised:
        checked_message(message, "list 3")
    assert (raised.value.reason, raised.value.detail) == ("not_a_message", f"list 3: {detail}")


PING = {"type": "function", "function": {"name": "ping"}}


@pytest.mark.parametrize(
    ("text", "tools"),
    [
        (None, []),
        ("", []),
        ("[]", []),
        ('[{"name": "ping"}, {"type": "function", "function": {"name": "ping"}}]', [PING, PING]),
        ("{}", "expected a JSON list of function schemas"),
        ("[5]", "expected a JSON list of function schemas"),
        *((text, "a function schema has no name") for text in ("[{}]", '[{"name": 5}]', '[{"function": 5}]')),
        ('[{"name": "a"}, {"function": {}}]', "a function schema has no name"),
        ("{", "invalid JSON: "),
    ],
)
def test_the_tools_of_a_text(text: str | None, tools: list[Any] | str) -> None:
    if isinstance(tools, list):
        assert parse_tools(text) == tools
        return
    with pytest.raises(UnusableRow) as raised:
        parse_tools(text)
    assert raised.value.reason == "invalid_tools"
    assert raised.value.detail[: len(tools)] == tools


def test_messages_for_templates_have_no_null_fields() -> None:
    empty = {"content": None, "name": None, "tool_call_id": None, "tool_calls": None}
    call = {"id": None, "type": "x", "function": {"name": None, "arguments": "{}"}}
    assert template_messages(
        [
            {**empty, "role": "tool", "name": "f", "tool_call_id": "call_3"},
            {**empty, "role": "tool", "content": "x", "name": "", "tool_call_id": "call_123456", "tool_calls": []},
            {**empty, "role": "assistant", "content": "y", "tool_calls": [call]},
        ]
    ) == [
        {"role": "tool", "content": "", "name": "f", "tool_call_id": "call00003"},
        {"role": "tool", "content": "x", "tool_call_id": "call_123456"},
        {"role": "assistant", "content": "y", "tool_calls": [{"type": "x", "function": {"name": "", "arguments": {}}}]},
    ]


def small_tree() -> State:
    root = State(number=2)
    root.add(State("I look.", ("ping", "{}"), "ok", 0, number=1, pruned=True))
    root.add(State("Hm.", number=3)).add(State(None, ("Finish", '{"a": 1}'), "", 3, number=4, finished=True))
    root.add(State(None, ("nope", "{}"), "no such", 1)).add(State("", ("ping", "{}"), "late", 12))
    return root


def node(kind: str, text: str, depth: int, *children: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a node of an answer file."""
    flags = {"is_terminal": False, "pruned": False, "finished": False, "depth": depth}
    inputs: dict[str, Any] = {"io_state": {}} if kind == "Action Input" else {}
    counts = {"Elo": 1000.0, "child_count": len(children), "expand_num": 0}
    return {**flags, "node_type": kind, "description": text, **counts, **inputs, **more, "children": [*children]}


def test_the_nodes_of_a_tree() -> None:
    ping = node("Action Input", "{}", 3, observation="ok", observation_code=0, expand_num=1, pruned=True)
    finish = node("Action Input", '{"a": 1}', 3, observation_code=3, expand_num=4, finished=True)
    late = node("Action Input", "{}", 5, observation="late", observation_code=12)
    last = node("Thought", "", 3, node("Action", "ping", 4, late))
    first = node("Thought", "I look.", 1, node("Action", "ping", 2, ping))
    second = node("Thought", "Hm.", 1, node("Action", "Finish", 2, finish, finished=True), expand_num=3)
    third = node("Action", "nope", 1, node("Action Input", "{}", 2, last, observation="no such", observation_code=1))
    root = node("Action Input", "", 0, first, second, third, expand_num=2)
    assert write_tree(small_tree()) == {"size": 12, "max_length": 6, "tree": root}


def fields(root: State) -> list[tuple[Any, ...]]:
    return [
        (s.place, s.thought, s.call, s.observation, s.code, s.number, s.pruned, s.finished) for s in states_of(root)
    ]


def test_a_tree_is_read_back_with_every_field() -> None:
    tree = small_tree()
    read = read_tree(write_tree(tree)["tree"])
    assert (read.number, fields(read)) == (2, fields(tree))
    assert fields(tree)[2] == ("1.0", None, ("Finish", '{"a": 1}'), "", 3, 4, False, True)


OPENING = [{"role": "user", "content": "q"}]
PROMPT = {"role": "user", "content": "Again!", "valid": False}
HM = {"role": "assistant", "content": "Hm."}
FINISH = {"role": "assistant", "content": None, "function_call": {"name": "Finish", "arguments": '{"a": 1}'}}
UNKNOWN = {"role": "assistant", "content": None, "function_call": {"name": HALLUCINATED, "arguments": "{}"}}
LATE = {"role": "assistant", "content": "", "function_call": {"name": "ping", "arguments": "{}"}}


def test_the_messages_of_a_state() -> None:
    root = small_tree()
    thought, unknown = root.children[1], root.children[2]
    finish, late = thought.children[0], unknown.children[0]
    prompts = {id(thought): "Again!"}
    assert messages_of(finish, OPENING, prompts) == [*OPENING, PROMPT, HM, FINISH]
    assert messages_of(finish, OPENING, prompts, "faithful") == [*OPENING, HM, FINISH]
    assert messages_of(thought, OPENING, prompts, "faithful") == [*OPENING, PROMPT, HM]
    assert messages_of(thought, OPENING, prompts, "clean") == [*OPENING, HM]
    result = {"role": "function", "name": HALLUCINATED, "content": "no such"}
    assert messages_of(late, [], prompts) == [UNKNOWN, result, LATE]
    assert rebuild_train_messages(finish, OPENING, prompts) == [[*OPENING, PROMPT, HM], [*OPENING, PROMPT, HM, FINISH]]
    finish.thought = "Done."  # upstream writes the thought before it twice
    assert rebuild_train_messages(finish, [], {}) == [[HM], [HM], [HM, {**FINISH, "content": "Done."}]]


def test_the_steps_of_a_tree() -> None:
    root = small_tree()
    steps = list(all_steps(root, [], {}, "clean", root.children[1].children[0]))
    assert [(step.place, step.number, step.chosen) for step in steps] == [
        ("t0", 1, False),
        ("t1", 1, True),
        ("t1.0", 2, True),
        ("t2", 1, False),
        ("t2.0", 2, False),
    ]
    assert steps[2] == Step("t1.0", 2, (HM, FINISH), True)
    assert not any(step.chosen for step in all_steps(root, [], {}, "clean", None))
