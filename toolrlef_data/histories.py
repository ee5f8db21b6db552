"""histories: the steps of an answer file, each with what stood before it.

A step is one message of the model. Its history is one of three:

- `upstream`: what the file's `train_messages` hold: all ordinary messages, and the last diversity prompt of the way,
  also where the model did not see it at this step;
- `faithful`: what the model had before it: all ordinary messages, and a diversity prompt only where this step was asked
  with one;
- `clean`: no diversity prompts.

Messages are ToolBench's ({role, content, function_call | name, valid}) up to `canonical`, which makes OpenAI's of them:
calls get ids by their position, so that equal histories stay equal, and a thought of its own is joined with the call
right after it. Not covered: several calls in one message, which ToolBench does not have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any

from toolrlef_data.records import InputError
from toolrlef_data.search_prompts import DIVERSITY
from toolrlef_data.search_trees import FINAL_ANSWER, GIVE_UP, State, path_to, states_of

__all__ = [
    "CUT",
    "FLAGS",
    "HALLUCINATED",
    "HISTORIES",
    "Irregular",
    "Step",
    "all_steps",
    "canonical",
    "chosen_end",
    "chosen_steps",
    "diversity_body",
    "flags_of",
    "frame_in",
    "messages_of",
    "opening_in",
    "prompts_of",
    "rebuilt",
]

HISTORIES = ("upstream", "faithful", "clean")
FLAGS = ("unknown_function", "invalid_arguments", "truncated_observation", "repeated_call", "lost_thought")
HALLUCINATED = "invalid_hallucination_function_name"  # what a message of the files calls a function that there is not
NO_SUCH_FUNCTION = 1  # the code of its observation
CUT = 1024  # characters of an observation, behind which "..." stands

Raw = dict[str, Any]
Prompts = Mapping[int, str]  # id() of a state -> the diversity prompt that it was asked with


class Irregular(InputError):
    """What a file holds that no sample can be made of: a short reason, and a detail for people."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


@dataclass(frozen=True, slots=True)
class Step:
    """One message of the model and its history.

    Args:
        place: unique among the steps of a file: its number on the chosen path ("3"), or its place in the tree.
        number: how many messages of the model stand on the way to it, itself included.
        messages: history and target, as ToolBench has them; the last one is the target.
        chosen: whether it is on the path that the file shows.
        state: in the tree, where the step was read from it.
    """

    place: str
    number: int
    messages: tuple[Raw, ...]
    chosen: bool = True
    state: State | None = None


def chosen_steps(train_messages: Any, history: str) -> list[Step]:
    """The steps that a file shows, from its `train_messages` alone.

    Args:
        train_messages: lists of messages, each ending in one of the model's.
        history: one of `HISTORIES`.

    Raises:
        Irregular: these are not lists of messages.

    >>> prompt = {"role": "user", "content": "Something else!", "valid": False}
    >>> target = {"role": "assistant", "content": "Done."}
    >>> lists = [[{"role": "user", "content": "Hi"}, prompt, target]]
    >>> [len(chosen_steps(lists, history)[0].messages) for history in HISTORIES]
    [3, 3, 2]
    """
    if not isinstance(train_messages, list) or not train_messages:
        raise Irregular("no_messages", "train_messages is no list with something in it")
    steps = []
    for n, messages in enumerate(train_messages, start=1):
        kept = [_checked(message, f"list {n}") for message in messages] if isinstance(messages, list) else []
        if not kept:
            raise Irregular("no_messages", f"list {n} of train_messages holds no messages")
        if history != "upstream":
            own = len(kept) - 2 if history == "faithful" else -1  # a prompt of its own stands right before the target
            kept = [message for i, message in enumerate(kept) if not _hidden(message) or i == own]
        number = sum(message["role"] == "assistant" for message in kept)
        steps.append(Step(str(n), number, tuple(kept)))
    return steps


def all_steps(root: State, opening: Sequence[Raw], prompts: Prompts, history: str, end: State | None) -> Iterator[Step]:
    """Every step of a tree, each before those that follow from it.

    Args:
        root: of the tree.
        opening: the messages before the first step.
        prompts: from `prompts_of`.
        history: one of `HISTORIES`.
        end: where the chosen path ends; None where none was chosen.
    """
    on_path = {id(state) for state in path_to(end)} if end is not None else set()
    for state in states_of(root):
        messages = messages_of(state, opening, prompts, history)
        yield Step(state.place, len(path_to(state)), tuple(messages), id(state) in on_path, state)


def messages_of(state: State, opening: Sequence[Raw], prompts: Prompts, history: str = "upstream") -> list[Raw]:
    """What the list of a state holds: history and message."""
    path = path_to(state)
    asked = [each for each in path if id(each) in prompts]
    shown = {"upstream": asked[-1:], "faithful": [state] if id(state) in prompts else [], "clean": []}[history]
    messages = [dict(message) for message in opening]
    for each in path:
        if shown and each is shown[0]:
            messages.append({"role": "user", "content": prompts[id(each)], "valid": False})
        name = HALLUCINATED if each.code == NO_SUCH_FUNCTION else (each.call or ("", ""))[0]
        messages.append({"role": "assistant", "content": each.thought})
        if each.call is not None:
            messages[-1]["function_call"] = {"name": name, "arguments": each.call[1]}
            if each is not state:
                messages.append({"role": "function", "name": name, "content": each.observation})
    return messages


def rebuilt(end: State, opening: Sequence[Raw], prompts: Prompts) -> list[list[Raw]]:
    """The `train_messages` of the path to a state, as upstream makes them.

    A thought that shares its message with a call, right after a thought of its own, makes upstream write that one's
    list twice.
    """
    lists = []
    for state in path_to(end):
        assert state.parent is not None
        if state.thought is not None and state.call is not None and state.parent.parent and state.parent.call is None:
            lists.append(messages_of(state.parent, opening, prompts))
        lists.append(messages_of(state, opening, prompts))
    return lists


def opening_in(train_messages: Sequence[Sequence[Raw]]) -> list[Raw]:
    """The messages of a file before the first step."""
    opening = []
    for message in train_messages[0]:
        if message["role"] == "assistant" or _hidden(message):
            break
        opening.append(message)
    return opening


def frame_in(train_messages: Sequence[Sequence[Raw]], root: State, deep: bool = True) -> tuple[str, str]:
    """What stands before and behind the earlier tries in a file's diversity prompts; our own where it has none."""
    bodies = sorted({diversity_body(state, deep) for state in states_of(root)}, key=len, reverse=True)
    prompts = {message.get("content") or "" for messages in train_messages for message in messages if _hidden(message)}
    for prompt in sorted(prompts):
        for body in filter(None, bodies):  # the longest first: a shorter one may be a part of it
            before, found, behind = prompt.partition(body)
            if found:
                return before, behind
    return DIVERSITY


def prompts_of(root: State, frame: tuple[str, str] = DIVERSITY, deep: bool = True) -> dict[int, str]:
    """The diversity prompts of a tree, by the id() of the state that each one asked for.

    Args:
        root: of a search; chains that only share their beginning have no prompts.
        frame: what stands before and behind the earlier tries.
        deep: as of `diversity_body`.
    """
    bodies = ((id(state), diversity_body(state, deep)) for state in states_of(root))
    return {state: f"{frame[0]}{body}{frame[1]}" for state, body in bodies if body}


def chosen_end(
    root: State, train_messages: Sequence[Sequence[Raw]], opening: Sequence[Raw], prompts: Prompts
) -> State | None:
    """The state whose path a file's `train_messages` show, found by building them again; None where there is none."""
    shown = _without_names(train_messages)
    ends = (state for state in states_of(root) if state.code in (FINAL_ANSWER, GIVE_UP))
    fitting = (end for end in ends if len(path_to(end)) <= len(shown))
    return next((end for end in fitting if _without_names(rebuilt(end, opening, prompts)) == shown), None)


def _without_names(train_messages: Sequence[Sequence[Raw]]) -> list[list[Raw]]:
    """Relatives of ToolBench leave out the name in a function's message, and keys whose value is null."""
    return [
        [
            {name: value for name, value in message.items() if name != "name" and value is not None}
            for message in messages
        ]
        for messages in train_messages
    ]


def diversity_body(state: State, deep: bool = True) -> str:
    """The middle of the prompt that a state was asked with: the calls of the children before it, and what they gave.

    Empty for a first child, and where none of the earlier ones came to a call.

    Args:
        state: that was asked for.
        deep: whether the earlier ones were followed before it was, so that a thought shows the first call below it; not
            so where all children are asked for first (`with_filter`).

    >>> root = State()
    >>> _, second = root.add(State(call=("ping", "{}"), observation="no", code=0)), root.add(State("Again."))
    >>> print(diversity_body(second))
    [
      {
        "name": "ping",
        "arguments": "{}",
        "function_output": "no",
        "mento-carlo-action-value": 0.0
      }
    ]
    <BLANKLINE>
    """
    parent = state.parent
    assert parent is not None
    tried = []
    for child in parent.children:
        if child is state:
            break
        while deep and child.call is None and child.children:
            child = child.children[0]  # down to the first call
        if child.call is not None:
            own = {"name": child.call[0], "arguments": child.call[1], "function_output": child.observation}
            tried.append({**own, "mento-carlo-action-value": 0.0})  # upstream's name; it never computes one
    if not tried:
        return ""
    again = f"again, your former observation: {parent.observation}\n" if parent.observation else ""
    return f"{json.dumps(tried, indent=2)}\n{again}"


# OpenAI's messages ----------------------------------------------------------------------------------------------------


def canonical(messages: Sequence[Raw], keep_thought: bool) -> list[Raw]:
    """Messages as OpenAI has them (`columns.MESSAGE`, without `train`).

    Args:
        messages: as ToolBench has them.
        keep_thought: keep the content that stands beside a call, which upstream drops.

    Raises:
        Irregular: a function's message stands before any call.

    >>> call = {"role": "assistant", "content": "I look.", "function_call": {"name": "ping", "arguments": "{}"}}
    >>> canonical([call], True)[0]["content"], canonical([call], False)[0]["content"]
    ('I look.', None)
    """
    done: list[Raw] = []
    calls = 0
    joined = False  # whether the message before is a thought that waits for its call
    for message in messages:
        role, content, call = message["role"], message.get("content"), message.get("function_call")
        made: Raw = {"role": role, "content": content, "name": None, "tool_call_id": None, "tool_calls": None}
        if role == "assistant":
            if call is not None and not keep_thought:
                made["content"] = None
            if joined:
                before = done.pop()["content"]
                made["content"] = "\n".join(part for part in (before, made["content"]) if part) or None
            if call is not None:
                calls += 1
                function = {"name": call["name"], "arguments": call["arguments"]}
                made["tool_calls"] = [{"id": f"call_{calls}", "type": "function", "function": function}]
        elif role == "function":
            if not calls:
                raise Irregular("result_without_call", "a function's message stands before any call")
            made |= {
                "role": "tool",
                "name": message.get("name"),
                "tool_call_id": f"call_{calls}",
                "content": content or "",
            }
        else:
            made["content"] = content or ""
        joined = role == "assistant" and call is None
        done.append(made)
    return done


def flags_of(messages: Sequence[Raw], functions: Sequence[str], keep_thought: bool) -> list[str]:
    """What there is to say of a step (`FLAGS`).

    Args:
        messages: history and target, as ToolBench has them.
        functions: the names that may be called.
        keep_thought: as of `canonical`.
    """
    target, history = messages[-1], messages[:-1]
    call = target.get("function_call")
    found = set()
    if call is not None:
        if call["name"] not in functions:
            found.add("unknown_function")
        if not _is_object(call["arguments"]):
            found.add("invalid_arguments")
        if any(message.get("function_call") == call for message in history):
            found.add("repeated_call")
        if target.get("content") and not keep_thought:
            found.add("lost_thought")
    for message in history:
        content = message.get("content")
        if message["role"] == "function" and content and len(content) >= CUT and content.endswith("..."):
            found.add("truncated_observation")
    return [flag for flag in FLAGS if flag in found]


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _hidden(message: Raw) -> bool:
    return message.get("valid") is False


def _checked(message: Any, where: str) -> Raw:
    """A message of a file, with the keys that are read here, or why it is none."""
    if not isinstance(message, dict):
        raise Irregular("not_a_message", f"{where} holds a {type(message).__name__}")
    role, content, call = message.get("role"), message.get("content"), message.get("function_call")
    if role not in ("system", "user", "assistant", "function"):
        raise Irregular("not_a_message", f"{where} holds the role {role!r:.40}")
    for key in ("content", "name"):
        if not isinstance(message.get(key), (str, NoneType)):
            raise Irregular(
                "not_a_message", f"{where} holds a {key} that is a {type(message[key]).__name__}, not a text"
            )
    checked: Raw = {"role": role, "content": content}
    if role == "function":
        checked["name"] = message.get("name")
    if _hidden(message):
        checked["valid"] = False
    if call is not None:
        texts = [call.get("name"), call.get("arguments")] if isinstance(call, dict) else [None]
        if role != "assistant" or not all(isinstance(text, str) for text in texts):
            raise Irregular("not_a_message", f"{where} holds a call without a name and arguments that are texts")
        checked["function_call"] = {"name": call["name"], "arguments": call["arguments"]}
    return checked
