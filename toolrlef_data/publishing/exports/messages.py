"""The messages and tools of a trajectory as trainers read them: without training flags and null values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Features, Json, List

from toolrlef_data.records import UnusableRow
from toolrlef_data.toolbench.messages import decode_arguments, parse_tools
from toolrlef_data.tools.functions.function import NAME

__all__ = [
    "call_text",
    "changed_number",
    "check_messages",
    "check_names",
    "check_numbers",
    "check_results",
    "is_empty",
    "plain_messages",
    "target_indices",
    "tools_of",
    "tools_text",
]

Messages = Sequence[Mapping[str, Any]]
Record = dict[str, Any]
JSON_COLUMN = Features(value=List(Json()))
HINT = 'arguments="text" exports them unchanged'


def target_indices(messages: Messages) -> list[int]:
    """Return the indices of the trained messages; raise UnusableRow unless they are one or more assistant messages."""
    check_messages(messages or ())
    for n, message in enumerate(messages or ()):
        if message.get("train") is None:
            raise UnusableRow("no_flag", f"message {n} has no value for train")
        if message["train"] and message["role"] != "assistant":
            raise UnusableRow("not_assistant", f"message {n} has the train flag, but its role is {message['role']!r}")
    targets = [n for n, message in enumerate(messages or ()) if message["train"]]
    if not targets:
        raise UnusableRow("no_target", "no message has the train flag")
    if empty := [n for n in targets if is_empty(messages[n])]:
        raise UnusableRow("no_reply", f"message {empty[0]} has the train flag, but neither text nor a call")
    return targets


def check_messages(messages: Messages) -> None:
    """Raise `UnusableRow` for a message, a role, a call or a function that is null."""
    for n, message in enumerate(messages):
        if message is None or message["role"] is None:
            raise UnusableRow("malformed", f"message {n} or its role is null")
        for call in message.get("tool_calls") or ():
            if call is None or call["function"] is None:
                raise UnusableRow("malformed", f"a call of message {n} or its function is null")


def is_empty(message: Mapping[str, Any]) -> bool:
    """Return whether a message has neither text nor a call."""
    return not (message.get("content") or "").strip() and not message.get("tool_calls")


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
    """Raise `UnusableRow` for a result without its call; with `all_answered` also for one without result or id."""
    unanswered: list[Any] = []
    for n, message in enumerate(messages):
        if message["role"] == "tool":
            if message.get("tool_call_id") not in unanswered:
                raise UnusableRow("unpaired_call", f"message {n} is the result of no call before it")
            unanswered.remove(message["tool_call_id"])
            continue
        if unanswered and all_answered:
            raise UnusableRow("unpaired_call", f"a call before message {n} has no result")
        unanswered = [call.get("id") for call in message.get("tool_calls") or ()]
        if all_answered and None in unanswered:
            raise UnusableRow("unpaired_call", f"a call of message {n} has no id")


def _call(call: Mapping[str, Any], arguments: str) -> Record:
    function = {name: call["function"][name] for name in ("name", "arguments")}
    if arguments == "object":
        function = {"name": function["name"] or "", "arguments": decode_arguments(function)}
        if not isinstance(value := function["arguments"], dict):
            raise UnusableRow("bad_arguments", f"arguments are not a JSON object: {value!r:.80}; {HINT}")
    return {**_without_nulls(call, "id", "type"), "function": function}


def check_numbers(messages: Messages) -> None:
    """Raise `UnusableRow` if arguments as objects have a number that `datasets` changes when it reads the file."""
    for call in (call for message in messages for call in message.get("tool_calls", ())):
        if (number := changed_number(call["function"]["arguments"])) is not None:
            raise UnusableRow("bad_number", f"`datasets` changes or refuses the number {number!r} of arguments; {HINT}")


def changed_number(value: Any) -> int | float | None:
    """Return a number in a JSON value that the JSON columns of `datasets` change or cannot read, or None.

    >>> changed_number({"at": [48.5, 2**63]}), changed_number({"at": [48.85837009999999]})
    (None, 48.85837009999999)
    """
    if isinstance(value, (dict, list)):
        numbers = map(changed_number, value.values() if isinstance(value, dict) else value)
        return next((number for number in numbers if number is not None), None)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        read = JSON_COLUMN.decode_example(JSON_COLUMN.encode_example({"value": [value]}))["value"]
    except (ValueError, OverflowError):
        return value
    return None if read == [value] and type(read[0]) is type(value) else value


def _without_nulls(record: Mapping[str, Any], *names: str) -> Record:
    return {name: record[name] for name in names if record.get(name) is not None}


def tools_of(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the row's functions as OpenAI tools."""
    try:
        return parse_tools(row["tools"])
    except UnusableRow as error:
        raise UnusableRow("bad_tools", f"{error.detail}: {row['tools']!r:.80}") from None


def tools_text(row: Mapping[str, Any]) -> str:
    """Return the row's functions as JSON text: in a JSON column, `datasets` would change their numbers."""
    tools = tools_of(row)
    try:
        return json.dumps(tools, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise UnusableRow("not_json", str(error)) from None


def check_names(messages: Messages, tools: Sequence[Mapping[str, Any]]) -> None:
    """Raise `UnusableRow` for a function name that OpenAI's API refuses."""
    names = [tool["function"]["name"] for tool in tools]
    names += [call["function"]["name"] for message in messages for call in message.get("tool_calls") or ()]
    if bad := [name for name in names if not NAME.fullmatch(name or "")]:
        raise UnusableRow(
            "bad_name", f"expected 1 to 64 letters, digits, _ and - as function name, found {bad[0]!r:.100}"
        )


def call_text(function: Mapping[str, Any]) -> str:
    """Return the arguments of a call as text; objects as JSON."""
    arguments = function["arguments"]
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
