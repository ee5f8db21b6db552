"""histories: the steps of an answer file, each with what stood before it.

A step is one message of the model. Its history is one of three:

- `upstream`: what the file's `train_messages` hold: all ordinary messages, and the last diversity prompt of the way,
  also where the model did not see it at this step;
- `faithful`: what the model had before it: all ordinary messages, and a diversity prompt only where this step was asked
  with one;
- `clean`: no diversity prompts.

Messages are ToolBench's (`messages`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolrlef_data.records import UnusableRow
from toolrlef_data.toolbench.messages import Raw, checked_message, is_hidden
from toolrlef_data.toolbench.prompts import DIVERSITY
from toolrlef_data.toolbench.tree import FINAL_ANSWER, GIVE_UP, State, path_to, states_of

__all__ = [
    "HALLUCINATED",
    "HISTORIES",
    "Step",
    "all_steps",
    "chosen_end",
    "chosen_steps",
    "diversity_body",
    "frame_in",
    "messages_of",
    "opening_in",
    "prompts_of",
    "rebuilt",
]

HISTORIES = ("upstream", "faithful", "clean")
HALLUCINATED = "invalid_hallucination_function_name"  # what a message of the files calls a function that there is not
NO_SUCH_FUNCTION = 1  # the code of its observation

Prompts = Mapping[int, str]  # id() of a state -> the diversity prompt that it was asked with


@dataclass(frozen=True, slots=True)
class Step:
    """One message of the model and its history.

    Args:
        place: unique among the steps of a file: its number on the chosen path ("3"), or its place in the tree ("t0.1").
        number: how many messages of the model stand on the way to it, itself included.
        messages: history and target, as ToolBench has them; the last one is the target.
        chosen: whether it is on the path that the file shows.
    """

    place: str
    number: int
    messages: tuple[Raw, ...]
    chosen: bool = True


def chosen_steps(train_messages: Any, history: str) -> list[Step]:
    """The steps that a file shows, from its `train_messages` alone.

    Args:
        train_messages: lists of messages, each ending in one of the model's.
        history: one of `HISTORIES`.

    Raises:
        Unusable: these are not lists of messages.

    >>> prompt = {"role": "user", "content": "Something else!", "valid": False}
    >>> target = {"role": "assistant", "content": "Done."}
    >>> lists = [[{"role": "user", "content": "Hi"}, prompt, target]]
    >>> [len(chosen_steps(lists, history)[0].messages) for history in HISTORIES]
    [3, 3, 2]
    """
    if not isinstance(train_messages, list) or not train_messages:
        raise UnusableRow("no_messages", "train_messages is no list with something in it")
    steps = []
    for n, messages in enumerate(train_messages, start=1):
        kept = [checked_message(message, f"list {n}") for message in messages] if isinstance(messages, list) else []
        if not kept:
            raise UnusableRow("no_messages", f"list {n} of train_messages holds no messages")
        if history != "upstream":
            own = len(kept) - 2 if history == "faithful" else -1  # a prompt of its own stands right before the target
            kept = [message for i, message in enumerate(kept) if not is_hidden(message) or i == own]
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
        yield Step(f"t{state.place}", len(path_to(state)), tuple(messages), id(state) in on_path)


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
        if message["role"] == "assistant" or is_hidden(message):
            break
        opening.append(message)
    return opening


def frame_in(train_messages: Sequence[Sequence[Raw]], root: State, deep: bool = True) -> tuple[str, str]:
    """What stands before and behind the earlier tries in a file's diversity prompts; our own where it has none."""
    bodies = sorted({diversity_body(state, deep) for state in states_of(root)}, key=len, reverse=True)
    prompts = {
        message.get("content") or "" for messages in train_messages for message in messages if is_hidden(message)
    }
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
