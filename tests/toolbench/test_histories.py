"""Histories and search trees: what a step had before it, against searches that kept their messages as they went."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.answer_trees import PROMPT_END, PROMPT_START, Message, RandomSearch, SearchNode, searches
from toolrlef_data.records import InputError, UnusableRow
from toolrlef_data.toolbench.histories import (
    HALLUCINATED,
    HISTORIES,
    all_steps,
    chosen_end,
    chosen_steps,
    frame_in,
    messages_of,
    opening_in,
    prompts_of,
    rebuilt,
)
from toolrlef_data.toolbench.messages import CUT, FLAGS, canonical, flags_of
from toolrlef_data.toolbench.prompts import DIVERSITY
from toolrlef_data.toolbench.tree import State, path_to, read_file_tree, read_tree, states_of, write_tree

Node = dict[str, Any]


def _loaded(search: RandomSearch) -> tuple[Node, list[list[Message]]]:
    """Its file as JSON holds it, and the lists of messages."""
    file = json.loads(json.dumps(search.file()))
    return file, file["answer_generation"].get("train_messages", [])


# Against searches that noted what they asked --------------------------------------------------------------------------


def test_every_step_of_a_tree_has_what_its_search_asked_with() -> None:
    seen: Counter[str] = Counter()
    for search in searches(120):
        file, lists = _loaded(search)
        asked = {state.place: state for state in search.root.descendants()}
        root, deep = read_file_tree(file), not search.ranked
        prompts = prompts_of(root, (PROMPT_START, PROMPT_END), deep)
        opening = search.root.child_messages[:2]
        states = {state.place: state for state in states_of(root)}
        assert list(states) == list(asked), "each before its children, children in order"
        for place, state in states.items():
            own = asked[place]
            assert (state.thought, state.observation, state.code) == (
                own.message["content"],
                own.observation,
                own.code,
            )
            assert (state.number, state.call is None) == (own.number, own.is_thought)
        on_path = [state.place for state in search.end.path()] if search.end else []
        for history in HISTORIES:
            end = states[search.end.place] if search.end else None
            steps = list(all_steps(root, opening, prompts, history, end))
            assert {step.place: list(step.messages) for step in steps} == {
                f"t{place}": own.histories()[history] for place, own in asked.items()
            }
            assert [step.place for step in steps if step.chosen] == [f"t{place}" for place in on_path]
            assert all(step.number == len(asked[step.place[1:]].path()) for step in steps)
        seen["hidden from a step that others were asked with"] += _shown_late(search)
        seen["third tries"] += any(
            sum(_hidden(m) for m in own.request) and own.place[-1] == "2" for own in asked.values()
        )
        seen["thoughts alone"] += any(own.is_thought and own.parent and own.parent.is_thought for own in asked.values())
        if not search.end:
            seen["no end"] += 1
            continue
        seen["a list twice"] += len(lists) > len(on_path)
        seen["gave up"] += search.end.code == 4
        seen["ranked"] += search.ranked

        # What the file shows, read without its tree and built again from it.
        assert opening_in(lists) == opening
        any_prompt = any(_hidden(message) for messages in lists for message in messages)
        assert frame_in(lists, root, deep) == ((PROMPT_START, PROMPT_END) if any_prompt else DIVERSITY)
        found = chosen_end(root, lists, opening, prompts)
        assert found is not None
        assert found.place == search.end.place
        assert rebuilt(found, opening, prompts) == lists
        for history in HISTORIES:
            shown = [list(step.messages) for step in chosen_steps(lists, history)]
            again = [own.histories()[history] for own in _path_with_repeats(search)]
            assert shown == again
    assert len(seen) == 7
    assert min(seen.values()) > 3, f"the searches do not do enough: {seen}"


def _hidden(message: Message) -> bool:
    return message.get("valid") is False


def _shown_late(search: RandomSearch) -> bool:
    """Whether `upstream` and `faithful` differ somewhere on the path."""
    return any(own.histories()["upstream"] != own.histories()["faithful"] for own in _path_with_repeats(search))


def _path_with_repeats(search: RandomSearch) -> list[SearchNode]:
    targets = [messages[-1] for messages in search.lists()]
    path = search.end.path() if search.end else []
    return [next(own for own in path if own.message is target) for target in targets]


def test_real_files_are_rebuilt_from_their_trees(shared: Path) -> None:
    valid = 0
    for path in sorted((shared / "data/toolbench/answer").glob("*/*.json")):
        file = json.loads(path.read_text(encoding="utf-8"))
        made, root = file["answer_generation"], read_file_tree(file)
        if not made["valid_data"]:
            assert "train_messages" not in made
            continue
        valid += 1
        lists = made["train_messages"]
        opening, prompts = opening_in(lists), prompts_of(root, frame_in(lists, root))
        end = chosen_end(root, lists, opening, prompts)
        assert end is not None
        assert end.call is not None
        assert rebuilt(end, opening, prompts) == lists
        assert end.call[1] == made["final_answer"]
        for history in HISTORIES:
            steps = {step.place: step for step in all_steps(root, opening, prompts, history, end)}
            from_tree = [steps[f"t{state.place}"].messages for state in path_to(end)]
            assert from_tree == [step.messages for step in chosen_steps(lists, history)]
            hidden = sum(_hidden(message) for messages in from_tree for message in messages)
            assert (history == "clean") == (not hidden) or not any(_hidden(m) for ms in lists for m in ms)
        written = write_tree(root)
        assert (written["size"], written["max_length"]) == (file["tree"]["size"], file["tree"]["max_length"])
    assert valid == 9


# Frames ---------------------------------------------------------------------------------------------------------------


def _root(*calls: tuple[str, str]) -> State:
    """A root with one child for each observation and what stands below it."""
    root = State()
    for name, observation in calls:
        root.add(State(call=(name, "{}"), observation=observation, code=0))
    return root


def _lists(*contents: str | None) -> list[list[Message]]:
    return [[{"role": "user", "content": content, "valid": False}, {"role": "assistant"}] for content in contents]


def test_the_frame_of_the_prompts_is_found_whatever_they_hold() -> None:
    root = _root(("a", "1"), ("b", "2"), ("c", "3"))
    below = root.children[0]
    below.add(State(call=("a", "{}"), observation="1", code=0))
    below.add(State("again"))
    second, third = (prompts_of(root, ("", ""))[id(child)] for child in root.children[1:])
    longer = prompts_of(root, ("", ""))[id(below.children[1])]
    assert second in longer, "what the root's second child was shown is a part of what stands below"
    assert second not in third
    cases: list[tuple[str, list[list[Message]], tuple[str, str]]] = [
        ("one", _lists(f"<{second}>"), ("<", ">")),
        ("the one that holds another", _lists(f"<{longer}>"), ("<", ">")),
        ("several", _lists(f"<{longer}>", f"<{second}>", f"<{third}>"), ("<", ">")),
        ("nothing around it", _lists(third), ("", "")),
        ("none", [[{"role": "user", "content": "Hi"}]], DIVERSITY),
        ("of another tree", _lists("<[]>"), DIVERSITY),
        ("one of another tree, one of this", _lists("<[]>", f"<{second}>"), ("<", ">")),
        ("null, and missing", [*_lists(None), [{"role": "user", "valid": False}]], DIVERSITY),
        ("null beside one", _lists(None, f"<{second}>"), ("<", ">")),
        ("shown to all is no prompt", [[{"role": "user", "content": f"<{second}>"}]], DIVERSITY),
        ("no lists", [], DIVERSITY),
    ]
    for why, lists, frame in cases:
        assert frame_in(lists, root) == frame, why


def test_an_observation_may_look_like_a_prompt() -> None:
    """The raw observation of the state stands in the prompts of its children, and may hold the body of another one."""
    root = _root(("a", "1"), ("b", "2"))
    body = prompts_of(root, ("", ""))[id(root.children[1])]
    root.children[1].observation = f"<{body}>"
    root.children[1].add(State(call=("c", "{}"), observation="3", code=0))
    root.children[1].add(State("again"))
    wanted = prompts_of(root, ("<<", ">>"))[id(root.children[1].children[1])]
    assert f"<{body}>" in wanted
    assert frame_in(_lists(wanted), root) == ("<<", ">>")


def test_relatives_leave_out_names_and_nulls() -> None:
    search = next(s for s in searches(50) if s.answer and len(s.answer.path()) > 2)
    file, lists = _loaded(search)
    lists = [[{k: v for k, v in m.items() if v is not None and k != "name"} for m in messages] for messages in lists]
    read = [list(step.messages) for step in chosen_steps(lists, "upstream")]
    root = read_file_tree(file)
    prompts = prompts_of(root, frame_in(read, root, not search.ranked), not search.ranked)
    end = chosen_end(root, read, opening_in(read), prompts)
    assert end is not None
    assert search.answer is not None
    assert end.place == search.answer.place


# Lists that are none --------------------------------------------------------------------------------------------------

SAYS: Message = {"role": "assistant", "content": "Hm."}


CALLS: list[Any] = [5, {}, [], "a", False, {"name": "a"}, {"arguments": "{}"}]
CALLS += [{"name": "a", "arguments": wrong} for wrong in CALLS[:3]]
NO_LISTS: list[Any] = [None, [], {}, 5, "ab", True, [[]], [None], ["ab"], [[SAYS], []], [5]]
NO_MESSAGES: list[Any] = [None, [], {}, 5, "ab", {"content": "a"}]
NO_MESSAGES += [{**SAYS, "role": role} for role in [*NO_MESSAGES, "tool", "Assistant", "\ud800"]]
NO_MESSAGES += [{**SAYS, key: value} for key in ("content", "name") for value in CALLS[:3]]
NO_MESSAGES += [{**SAYS, "function_call": call} for call in CALLS]
NO_MESSAGES += [{"role": "user", "content": "a", "function_call": {"name": "a", "arguments": ""}}]
WRONG = [("no_messages", wrong) for wrong in NO_LISTS] + [("not_a_message", [[wrong]]) for wrong in NO_MESSAGES]


@pytest.mark.parametrize(("reason", "wrong"), WRONG)
def test_lists_that_are_none(reason: str, wrong: Any) -> None:
    for history in HISTORIES:
        with pytest.raises(UnusableRow) as fault:
            chosen_steps(wrong, history)
        assert fault.value.reason == reason
        fault.value.detail.encode()


def test_what_is_read_of_a_message() -> None:
    call = {"name": "a", "arguments": "{", "id": 7}
    odd = [
        {"role": "assistant"},
        {"role": "assistant", "content": None, "function_call": None, "refusal": None, "valid": True},
        {"role": "function", "content": "b"},
        {"role": "user", "valid": False, "name": "me"},
        {"role": "assistant", "content": "c", "function_call": call},
    ]
    (step,) = chosen_steps([odd], "upstream")
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


def _gave(content: str | None = "b", **more: Any) -> Message:
    return {"role": "function", "name": "f", "content": content, **more}


USER: Message = {"role": "user", "content": "u"}
AGAIN: Message = {"role": "user", "content": "again", "valid": False}


@pytest.mark.parametrize(
    ("why", "messages", "kept", "dropped"),
    [
        ("a call", [USER, _call("a")], "user:u assistant:a+f1", "user:u assistant:None+f1"),
        ("thought and call", [_call("a"), _gave(), _call("c")], "a+f1 tool1:b c+f2", "None+f1 tool1:b None+f2"),
        ("a thought waits for its call", [{**SAYS}, _call()], "Hm.+f1", "Hm.+f1"),
        ("both thoughts", [{**SAYS}, _call("a")], "Hm.\na+f1", "Hm.+f1"),
        ("three thoughts", [{**SAYS}, {**SAYS}, _call("a")], "Hm.\nHm.\na+f1", "Hm.\nHm.+f1"),
        ("empty ones leave no line", [{**SAYS, "content": ""}, {**SAYS}, _call("")], "Hm.+f1", "Hm.+f1"),
        ("nothing said is null", [{**SAYS, "content": ""}, _call(None)], "None+f1", "None+f1"),
        ("a prompt stands between", [{**SAYS}, AGAIN, _call("a")], "Hm. user:again a+f1", "Hm. user:again None+f1"),
        ("a thought at the end", [_call(), _gave(), {**SAYS}], "None+f1 tool1:b Hm.", "None+f1 tool1:b Hm."),
        ("two results of a call", [_call(), _gave(), _gave("c")], "None+f1 tool1:b tool1:c", "None+f1 tool1:b tool1:c"),
        ("a null result", [_call(), _gave(None), _call()], "None+f1 tool1: None+f2", "None+f1 tool1: None+f2"),
        ("a result without name", [_call(), {"role": "function"}], "None+f1 tool1:", "None+f1 tool1:"),
        ("a null user", [{"role": "user", "content": None}, _call()], "user: None+f1", "user: None+f1"),
    ],
)  # fmt: skip
def test_openai_messages(why: str, messages: list[Message], kept: str, dropped: str) -> None:
    for keep_thought, expected in ((True, kept), (False, dropped)):
        made = canonical(messages, keep_thought)
        assert " ".join(map(_short, made)).replace("assistant:", "") == expected.replace("assistant:", ""), why
        names = {"role", "content", "name", "tool_call_id", "tool_calls"}
        assert all(set(message) == names for message in made)
        assert all(isinstance(message["content"], str) for message in made if message["role"] != "assistant")


def _short(message: Message) -> str:
    number = (message["tool_call_id"] or "").removeprefix("call_")
    assert (message["role"] == "tool") == (number != "")
    called = "".join(f"+{c['function']['name']}{c['id'].removeprefix('call_')}" for c in message["tool_calls"] or ())
    return f"{message['role']}{number}:{message['content']}{called}"


def test_a_result_before_any_call_is_said() -> None:
    with pytest.raises(UnusableRow, match="result_without_call"):
        canonical([USER, _gave(), _call()], True)


def test_equal_histories_stay_equal() -> None:
    """A merged sequence rests on it: the canonical history of a step begins that of each step that follows."""
    for search in searches(40):
        for own in search.root.descendants():
            if own.is_thought:
                continue
            *history, _ = own.histories()["clean"]
            for child in own.children:
                whole = canonical(child.histories()["clean"], True)
                assert whole[: len(canonical([*history, own.message], True))] == canonical(
                    [*history, own.message], True
                )


@pytest.mark.parametrize(
    ("why", "history", "target", "flags"),
    [
        ("nothing to say", [USER], _call(), []),
        ("rewritten", [USER], _call(name=HALLUCINATED), ["unknown_function"]),
        ("a suffix of a name, which upstream's executor takes", [USER], _call(name="f_for_x"), ["unknown_function"]),
        *[("no object", [USER], _call(arguments=a), ["invalid_arguments"]) for a in ("", "[]", "1", '"{}"', "{,}", "nul")],
        *[("an object", [USER], _call(arguments=a), []) for a in ('{"a": NaN}', ' {"a": 1, "a": 2}\n', '{"a": "\ud800"}')],
        ("deep", [USER], _call(arguments="[" * 100_000), ["invalid_arguments"]),
        ("a number too long for Python", [USER], _call(arguments='{"a": %s}' % ("9" * 5000)), ["invalid_arguments"]),
        ("a JSON text longer than others", [USER], _call(arguments='{"a": "%s"}' % ("b" * 100_000)), []),
        ("the same call", [_call(), _gave()], _call("again"), ["repeated_call", "lost_thought"]),
        ("other arguments", [_call(), _gave()], _call(arguments='{ }'), []),
        ("the same call by a name that is unknown", [_call(name="g")], _call(name="g"), ["unknown_function", "repeated_call"]),
        ("cut", [_call(), _gave("x" * CUT + "...")], _call(arguments='{"a": 1}'), ["truncated_observation"]),
        ("whole, and long", [_call(), _gave("x" * (CUT + 3))], _call(arguments='{"a": 1}'), []),
        ("whole, with dots", [_call(), _gave("x...")], _call(arguments='{"a": 1}'), []),
        ("a long user's message is not cut", [{"role": "user", "content": "x" * CUT + "..."}], _call(), []),
        ("null, and missing", [_call(), _gave(None), {"role": "function"}], _call(arguments='{"a": 1}'), []),
        ("a thought alone", [USER], {**SAYS}, []),
        ("all", [_call(HALLUCINATED, "no", ""), _gave("x" * CUT + "...")], _call("a", "no", ""), list(FLAGS)),
    ],
)  # fmt: skip
def test_flags(why: str, history: list[Message], target: Message, flags: list[str]) -> None:
    assert flags_of([*history, target], ["f", "Finish"], keep_thought=False) == flags, why
    kept = [flag for flag in flags if flag != "lost_thought"]
    assert flags_of([*history, target], ["f", "Finish"], keep_thought=True) == kept, why


# Trees ----------------------------------------------------------------------------------------------------------------


def _node(kind: Any, description: Any = "", *children: Any, **more: Any) -> Node:
    return {"node_type": kind, "description": description, "children": list(children), **more}


def _acts(*children: Any, name: str = "f", **more: Any) -> Node:
    return _node("Action", name, _node("Action Input", "{}", *children, **more))


@pytest.mark.parametrize(
    ("why", "node", "places"),
    [
        ("nothing", _node("Action Input"), ""),
        ("children are null", {**_node("Action Input"), "children": None}, ""),
        ("no children", {"node_type": "Action Input", "description": ""}, ""),
        ("a call", _node("Action Input", "", _acts()), "0:None+f"),
        ("a thought that was not visited", _node("Action Input", "", _node("Thought", "t", _acts())), "0:t+f"),
        ("one that was", _node("Action Input", "", _node("Thought", "t", _acts(), expand_num=1)), "0:t 0.0:None+f"),
        ("one with two calls below", _node("Action Input", "", _node("Thought", "t", _acts(), _acts())), "0:t 0.0:None+f 0.1:None+f"),
        ("thoughts", _node("Action Input", "", _node("Thought", "t", _node("Thought", "", _acts()))), "0:t 0.0:+f"),
        ("odd numbers", _node("Action Input", "", _node("Thought", "t", _acts(), expand_num="1")), "0:t+f"),
        ("odd facts", _node("Action Input", "", _acts(observation=[1], observation_code="3", pruned=1, finished="")), "0:None+f"),
        ("no text seen", _node("Action Input", "", _acts(observation=None)), "0:None+f"),
    ],
)  # fmt: skip
def test_trees(why: str, node: Node, places: str) -> None:
    root = read_tree(node)
    found = [f"{s.place}:{s.thought}" + (f"+{s.call[0]}" if s.call else "") for s in states_of(root)]
    assert " ".join(found) == places, why
    for state in states_of(root):
        assert isinstance(state.observation, str)
        assert state.code is None
        assert state.pruned is state.finished is False
    again = read_tree(write_tree(root)["tree"])
    assert [s.call for s in states_of(again)] == [s.call for s in states_of(root)] or "one with two" in why


@pytest.mark.parametrize(
    "node",
    [
        *(None, 5, "x", [], {}, _node("Action Input", None), _node(None), _node([])),
        _node("Action Input", "", 5),
        {**_node("Action Input"), "children": {"a": 1}},
        {**_node("Action Input"), "children": "ab"},
        _node("Action Input", "", _node("Action", "f")),
        _node("Action Input", "", _node("Action", "f", _acts())),
        _node("Action Input", "", _node("Action", "f", _node("Action Input"), _node("Action Input"))),
        _node("Action Input", "", _node("Thought", "t", _node("Action", "f"))),
        _node("Action Input", "", _node("Thought", None)),
        _node("Action Input", "", _node("Observation", "t")),
    ],
)
def test_trees_that_are_none(node: Any) -> None:
    with pytest.raises(InputError, match=r"node"):
        read_tree(node)


@pytest.mark.parametrize("file", [{}, {"tree": None}, {"tree": []}, {"trys": None}, {"trys": {}}, {"trys": [5]}])
def test_files_without_a_tree(file: Node) -> None:
    with pytest.raises(InputError):
        read_file_tree(file)
    with pytest.raises(InputError):
        read_file_tree({"trys": [{"chain": [5]}], **file} if "trys" not in file else file)


def test_deep_trees_need_no_stack() -> None:
    leaf = _node("Action Input", "{}", observation="o", observation_code=3)
    node = _node("Action", "f", leaf)
    for _ in range(5_000):
        node = _node("Action", "f", _node("Action Input", "{}", node))
    root = read_tree(_node("Action Input", "", node))
    end = list(states_of(root))[-1]
    assert len(path_to(end)) == 5_001
    assert len(messages_of(end, [], {})) == 10_001
    assert write_tree(root)["max_length"] == 10_003
