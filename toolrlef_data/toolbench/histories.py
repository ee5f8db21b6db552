"""histories: the steps of an answer file, each with its message history.

A step is one assistant message. A diversity prompt is a user message that lists the earlier attempts at a state and
asks for another one. Three histories are available, in ToolBench's message format. They differ in the diversity prompts
that they contain:

- `upstream`: the last one of the path, as in the file's `train_messages`, even if the model did not see it at this
  step;
- `faithful`: the one that asked for this step, if any, so that the history is what the model saw;
- `clean`: none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolrlef_data.records import UnusableRow
from toolrlef_data.toolbench.messages import RawMessage, calls_of, checked_message, is_hidden
from toolrlef_data.toolbench.prompts import DIVERSITY
from toolrlef_data.toolbench.tree import FINAL_ANSWER, GIVE_UP, State, path_to, states_of

__all__ = [
    "HALLUCINATED",
    "HISTORIES",
    "Step",
    "all_steps",
    "chosen_steps",
    "diversity_body",
    "diversity_prompts",
    "find_chosen_end",
    "find_opening",
    "find_prompt_frame",
    "messages_of",
    "rebuild_train_messages",
]

HISTORIES = ("upstream", "faithful", "clean")
HALLUCINATED = "invalid_hallucination_function_name"  # upstream's placeholder for the name of an unknown function
NO_SUCH_FUNCTION = 1  # the observation code of a call of an unknown function

Prompts = Mapping[int, str]  # id() of a state -> the diversity prompt that asked for it


@dataclass(frozen=True, slots=True)
class Step:
    """One assistant message and its history.

    Args:
        place: unique in a file: the number on the chosen path ("3"), or the place in the tree ("t0.1").
        number: number of assistant messages on the path to the step, including the step itself.
        messages: history and target, in ToolBench's format; the last message is the target.
        chosen: whether the step is on the chosen path.
    """

    place: str
    number: int
    messages: tuple[RawMessage, ...]
    chosen: bool = True


def chosen_steps(train_messages: Any, history: str) -> list[Step]:
    """Return the steps of the chosen path; the search tree is not needed.

    StableToolBench writes the list of a message with several calls once per call; this is one step.

    Args:
        train_messages: the file's lists of messages, each ending with an assistant message.
        history: one of `HISTORIES`.

    Raises:
        UnusableRow: a list or a message is malformed.

    >>> prompt = {"role": "user", "content": "Something else!", "valid": False}
    >>> target = {"role": "assistant", "content": "Done."}
    >>> train_messages = [[{"role": "user", "content": "Hi"}, prompt, target]]
    >>> [len(chosen_steps(train_messages, history)[0].messages) for history in HISTORIES]
    [3, 3, 2]
    """
    if not isinstance(train_messages, list) or not train_messages:
        raise UnusableRow("no_messages", "expected train_messages as a non-empty list")
    steps: list[Step] = []
    for n, raw_messages in enumerate(train_messages, start=1):
        if n > 1 and raw_messages == train_messages[n - 2] and len(calls_of(steps[-1].messages[-1])) > 1:
            continue
        messages: list[RawMessage] = []
        if isinstance(raw_messages, list):
            messages = [checked_message(message, f"list {n}") for message in raw_messages]
        if not messages:
            raise UnusableRow("no_messages", f"list {n} of train_messages has no messages")
        if history != "upstream":
            # The prompt that asked for a step directly precedes its target.
            prompt_index = len(messages) - 2 if history == "faithful" else -1
            messages = [message for i, message in enumerate(messages) if not is_hidden(message) or i == prompt_index]
        number = sum(message["role"] == "assistant" for message in messages)
        steps.append(Step(str(n), number, tuple(messages)))
    return steps


def all_steps(
    root: State, opening: Sequence[RawMessage], prompts: Prompts, history: str, end: State | None
) -> Iterator[Step]:
    """Yield all steps of a tree in preorder.

    Args:
        root: the root of the search tree.
        opening: the messages before the first step.
        prompts: the result of `diversity_prompts`.
        history: one of `HISTORIES`.
        end: the last state of the chosen path; None without a chosen path.
    """
    chosen = {id(state) for state in path_to(end)} if end is not None else set()
    for state in states_of(root):
        messages = messages_of(state, opening, prompts, history)
        yield Step(f"t{state.place}", len(path_to(state)), tuple(messages), id(state) in chosen)


def messages_of(
    state: State, opening: Sequence[RawMessage], prompts: Prompts, history: str = "upstream"
) -> list[RawMessage]:
    """Return the history and the message of a state, in ToolBench's format."""
    path = path_to(state)
    prompted = [ancestor for ancestor in path if id(ancestor) in prompts]
    # At most one state, whose prompt is part of the history.
    with_prompt = {"upstream": prompted[-1:], "faithful": [state] if id(state) in prompts else [], "clean": []}[history]
    messages = [dict(message) for message in opening]
    for ancestor in path:
        if with_prompt and ancestor is with_prompt[0]:
            messages.append({"role": "user", "content": prompts[id(ancestor)], "valid": False})
        name = HALLUCINATED if ancestor.code == NO_SUCH_FUNCTION else (ancestor.call or ("", ""))[0]
        messages.append({"role": "assistant", "content": ancestor.thought})
        if ancestor.call is not None:
            messages[-1]["function_call"] = {"name": name, "arguments": ancestor.call[1]}
            if ancestor is not state:
                messages.append({"role": "function", "name": name, "content": ancestor.observation})
    return messages


def rebuild_train_messages(end: State, opening: Sequence[RawMessage], prompts: Prompts) -> list[list[RawMessage]]:
    """Return the `train_messages` of the path to a state, as upstream writes them.

    Upstream writes the list of a thought-only message twice if the next message has both a thought and a call.
    """
    lists = []
    for state in path_to(end):
        assert state.parent is not None
        if state.thought is not None and state.call is not None and state.parent.parent and state.parent.call is None:
            lists.append(messages_of(state.parent, opening, prompts))
        lists.append(messages_of(state, opening, prompts))
    return lists


def find_opening(train_messages: Sequence[Sequence[RawMessage]]) -> list[RawMessage]:
    """Return the messages of a file before its first step."""
    opening = []
    for message in train_messages[0]:
        if message["role"] == "assistant" or is_hidden(message):
            break
        opening.append(message)
    return opening


def find_prompt_frame(
    train_messages: Sequence[Sequence[RawMessage]], root: State, depth_first: bool = True
) -> tuple[str, str]:
    """Return the text before and after the earlier attempts in a file's diversity prompts.

    A file without diversity prompts yields `prompts.DIVERSITY`.
    """
    bodies = sorted({diversity_body(state, depth_first) for state in states_of(root)}, key=len, reverse=True)
    prompts = {
        message.get("content") or "" for messages in train_messages for message in messages if is_hidden(message)
    }
    for prompt in sorted(prompts):
        for body in filter(None, bodies):  # longest first: a shorter one may be part of it
            start, separator, end = prompt.partition(body)
            if separator:
                return start, end
    return DIVERSITY


def diversity_prompts(root: State, frame: tuple[str, str] = DIVERSITY, depth_first: bool = True) -> dict[int, str]:
    """Return id() of a state -> the diversity prompt that asked for it.

    Args:
        root: the root of a search tree, not of chains, which have no diversity prompts.
        frame: the text before and after the earlier attempts.
        depth_first: as for `diversity_body`.
    """
    bodies = ((id(state), diversity_body(state, depth_first)) for state in states_of(root))
    return {state: f"{frame[0]}{body}{frame[1]}" for state, body in bodies if body}


def find_chosen_end(
    root: State, train_messages: Sequence[Sequence[RawMessage]], opening: Sequence[RawMessage], prompts: Prompts
) -> State | None:
    """Return the last state of the chosen path, or None if no path of the tree matches the `train_messages`."""
    expected = _without_names(train_messages)
    ends = (state for state in states_of(root) if state.code in (FINAL_ANSWER, GIVE_UP))
    candidates = (end for end in ends if len(path_to(end)) <= len(expected))
    return next(
        (end for end in candidates if _without_names(rebuild_train_messages(end, opening, prompts)) == expected),
        None,
    )


def _without_names(train_messages: Sequence[Sequence[RawMessage]]) -> list[list[RawMessage]]:
    """Return messages without names, call ids and null values, which some variants of ToolBench omit."""
    return [
        [
            {key: value for key, value in message.items() if key not in ("name", "call_id") and value is not None}
            for message in messages
        ]
        for messages in train_messages
    ]


def diversity_body(state: State, depth_first: bool = True) -> str:
    """Return the middle part of a diversity prompt: the calls of the earlier siblings, with their observations.

    It is empty for a first child, and if no earlier sibling led to a call.

    Args:
        state: the state that the prompt asks for; its siblings before it are the earlier attempts.
        depth_first: whether the search explored each sibling before requesting the next. A thought-only sibling is
            then represented by the first call below it. False for a search that requests all children first.

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
    attempts = []
    for child in parent.children:
        if child is state:
            break
        while depth_first and child.call is None and child.children:
            child = child.children[0]  # to the first call
        if child.call is not None:
            attempt = {"name": child.call[0], "arguments": child.call[1], "function_output": child.observation}
            attempts.append({**attempt, "mento-carlo-action-value": 0.0})  # upstream's key; it never computes a value
    if not attempts:
        return ""
    observation = f"again, your former observation: {parent.observation}\n" if parent.observation else ""
    return f"{json.dumps(attempts, indent=2)}\n{observation}"
