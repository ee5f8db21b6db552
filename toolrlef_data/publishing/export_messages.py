"""The messages and tools of a row as trainers read them: without training flags and null values; see `exports`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toolrlef_data.records import UnusableRow
from toolrlef_data.toolbench.messages import decode_arguments, parse_tools

__all__ = ["check_results", "plain_messages", "target_indices", "tools_of"]

Messages = Sequence[Mapping[str, Any]]
Record = dict[str, Any]


def target_indices(messages: Messages) -> list[int]:
    """Return the indices of the trained messages; raise UnusableRow unless they are one or more assistant messages."""
    for n, message in enumerate(messages or ()):
        if message.get("train") is None:
            raise UnusableRow("no_flag", f"message {n} has no value for train")
        if message["train"] and message["role"] != "assistant":
            raise UnusableRow("not_assistant", f"message {n} has the train flag, but its role is {message['role']!r}")
    targets = [n for n, message in enumerate(messages or ()) if message["train"]]
    if not targets:
        raise UnusableRow("no_target", "no message has the train flag")
    return targets


def plain_messages(messages: Messages, arguments: str, pad_content: bool = True) -> list[Record]:
    """Return messages without training flags and null values; `pad_content` adds "" also to messages with calls."""
    check_results(messages)
    plain = []
    for message in messages:
        calls = [_call(call, arguments) for call in message.get("tool_calls") or ()]
        fields = {"role": message["role"], **({"content": ""} if pad_content or not calls else {})}
        fields |= _without_nulls(message, "content", "name", "tool_call_id")
        plain.append({**fields, "tool_calls": calls} if calls else fields)
    return plain


def check_results(messages: Messages, all_answered: bool = False) -> None:
    """Raise `UnusableRow` if a result does not follow its call, or with `all_answered`, if a call has no result."""
    unanswered: list[Any] = []
    for n, message in enumerate(messages):
        if message["role"] == "tool":
            if message.get("tool_call_id") not in unanswered:
                raise UnusableRow("unpaired_call", f"message {n} is the result of no call before it")
            unanswered.remove(message["tool_call_id"])
            continue
        if unanswered and all_answered:
            raise UnusableRow("unpaired_call", f"a call before message {n} has no result")
        unanswered = [call["id"] for call in message.get("tool_calls") or ()]


def _call(call: Mapping[str, Any], arguments: str) -> Record:
    function = {name: call["function"][name] for name in ("name", "arguments")}
    if arguments == "object":
        function = {"name": function["name"] or "", "arguments": decode_arguments(function)}
        if not isinstance(value := function["arguments"], dict):
            hint = 'arguments="text" exports them unchanged'
            raise UnusableRow("bad_arguments", f"arguments are not a JSON object: {value!r:.80}; {hint}")
    return {**_without_nulls(call, "id", "type"), "function": function}


def _without_nulls(record: Mapping[str, Any], *names: str) -> Record:
    return {name: record[name] for name in names if record.get(name) is not None}


def tools_of(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the row's functions as OpenAI tools."""
    try:
        return parse_tools(row["tools"])
    except UnusableRow as error:
        raise UnusableRow("bad_tools", f"{error.detail}: {row['tools']!r:.80}") from None
