"""messages: validation and conversion of ToolBench messages.

A ToolBench message has the keys role, content, function_call or name, and valid. StableToolBench has OpenAI's newer
keys: the role "tool", `tool_calls` and `tool_call_id`. `checked_message` reads both; a message with several calls has
the key `function_calls`. `openai_messages` converts to OpenAI's format. Call ids are positions, so that equal histories
stay equal. A result that does not follow its call has no id, and the step has the flag "unpaired_call". A message with
only a thought is joined to the call right after it. `template_messages` converts OpenAI's format to the form that chat
templates expect.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

from toolrlef_data.records import UnusableRow
from toolrlef_data.tools.parsing.json_text import json_value

__all__ = [
    "RawMessage",
    "Turn",
    "calls_of",
    "checked_message",
    "decode_arguments",
    "is_hidden",
    "openai_messages",
    "paired_results",
    "parse_tools",
    "template_messages",
]

# Mistral's templates require ids of nine letters and digits; `openai_messages` writes call_1, call_2, ...
_positional_id = re.compile(r"call_(\d{1,5})")

RawMessage = dict[str, Any]  # in ToolBench's format
Turn = Mapping[str, Any]  # in the format of chat templates


def openai_messages(messages: Sequence[RawMessage], keep_thought: bool) -> list[dict[str, Any]]:
    """Convert ToolBench messages to OpenAI's format (`columns.MESSAGE`, without `train`).

    Args:
        messages: in ToolBench's format.
        keep_thought: whether to keep the text beside a function call, which upstream omits.

    Raises:
        UnusableRow: a function message without a preceding call.

    >>> call = {"role": "assistant", "content": "I look.", "function_call": {"name": "ping", "arguments": "{}"}}
    >>> openai_messages([call], True)[0]["content"], openai_messages([call], False)[0]["content"]
    ('I look.', None)
    """
    converted: list[dict[str, Any]] = []
    call_ids: dict[tuple[int, int], str] = {}  # (message, call) -> id
    results = paired_results(messages)
    follows_thought = False  # whether the previous message is only a thought
    for i, raw in enumerate(messages):
        role, content, calls = raw["role"], raw.get("content"), calls_of(raw)
        message: dict[str, Any] = {"role": role, "content": content, "name": None, "tool_call_id": None}
        message["tool_calls"] = None
        if role == "assistant":
            if calls and not keep_thought:
                message["content"] = None
            if follows_thought:
                thought = converted.pop()["content"]
                message["content"] = "\n".join(part for part in (thought, message["content"]) if part) or None
            for k in range(len(calls)):
                call_ids[i, k] = f"call_{len(call_ids) + 1}"
            message["tool_calls"] = [
                {"id": call_ids[i, k], "type": "function", "function": dict(call)} for k, call in enumerate(calls)
            ] or None
        elif role == "function":
            if not call_ids:
                raise UnusableRow("result_without_call", "a function message has no preceding call")
            name, call_id = raw.get("name"), None
            if i in results:
                n, k = results[i]
                name, call_id = name or calls_of(messages[n])[k]["name"], call_ids[n, k]
            message |= {"role": "tool", "name": name, "tool_call_id": call_id, "content": content or ""}
        else:
            message["content"] = content or ""
        follows_thought = role == "assistant" and not calls
        converted.append(message)
    return converted


def calls_of(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the calls of a message in ToolBench's format, each with name and arguments.

    >>> calls_of({"role": "assistant", "function_call": {"name": "ping", "arguments": "{}"}})
    [{'name': 'ping', 'arguments': '{}'}]
    """
    call = message.get("function_call")
    return message.get("function_calls", ()) if call is None else [call]


def paired_results(messages: Sequence[RawMessage]) -> dict[int, tuple[int, int]]:
    """Return index of a result -> (index of a message, index of its call) for each result of an unanswered call.

    The results of a message's calls directly follow it. If both have a call id, the ids must be equal.

    >>> call, result = {"role": "assistant", "function_call": {}}, {"role": "function"}
    >>> paired_results([call, result, result]), paired_results([call, result | {"call_id": "a"}])
    ({1: (0, 0)}, {1: (0, 0)})
    """
    pairs = {}
    unanswered: list[tuple[int, int, str | None]] = []  # message, call, call id
    for i, message in enumerate(messages):
        if message["role"] != "function":
            ids = message.get("call_ids") or [message.get("call_id")]
            unanswered = [(i, k, call_id) for k, (_, call_id) in enumerate(zip(calls_of(message), ids, strict=False))]
            continue
        result_id = message.get("call_id")
        match = next((call for call in unanswered if None in (result_id, call[2]) or call[2] == result_id), None)
        if match is not None:
            unanswered.remove(match)
            pairs[i] = match[:2]
    return pairs


def checked_message(message: Any, where: str) -> RawMessage:
    """Return a message with its known keys only.

    Args:
        message: a value parsed from an answer file.
        where: place of the message in the file, for the error message.

    Raises:
        UnusableRow: the message is malformed.
    """
    if not isinstance(message, dict):
        raise UnusableRow("not_a_message", f"{where}: expected a message, found {type(message).__name__}")
    role, content, is_tool = message.get("role"), message.get("content"), message.get("role") == "tool"
    if is_tool:
        role = "function"
    if role not in ("system", "user", "assistant", "function"):
        raise UnusableRow("not_a_message", f"{where}: unknown role {role!r:.40}")
    for key in ("content", "name"):
        if not isinstance(message.get(key), (str, NoneType)):
            raise UnusableRow("not_a_message", f"{where}: expected {key} as text, found {type(message[key]).__name__}")
    checked: RawMessage = {"role": role, "content": content}
    if role == "function":
        checked["name"] = message.get("name")
        if is_tool and isinstance(message.get("tool_call_id"), str):
            checked["call_id"] = message["tool_call_id"]
    if is_hidden(message):
        checked["valid"] = False
    calls, ids = _checked_calls(message, where)
    if calls and role != "assistant":
        raise UnusableRow("not_a_message", f"{where}: a message of the role {role} has a call")
    if len(calls) > 1:
        checked |= {"function_calls": calls, "call_ids": ids}
    elif calls:
        checked |= {"function_call": calls[0], **({} if ids[0] is None else {"call_id": ids[0]})}
    return checked


def _checked_calls(message: Mapping[str, Any], where: str) -> tuple[list[dict[str, str]], list[str | None]]:
    """Return the calls of a message in either format, each with name and arguments, and their ids."""
    single, several = message.get("function_call"), message.get("tool_calls")
    is_newer = several not in (None, [])
    items = several if is_newer else [] if single is None else [{"function": single}]
    calls: list[dict[str, str]] = []
    ids: list[str | None] = []
    for entry in items if isinstance(items, list) else [None]:
        item = entry if isinstance(entry, dict) else {}
        call = _name_and_arguments(item.get("function"))
        if is_newer and isinstance(call["arguments"], dict):
            call["arguments"] = json.dumps(call["arguments"], ensure_ascii=False)
        if not all(isinstance(text, str) for text in call.values()):
            raise UnusableRow("not_a_message", f"{where}: expected calls with name and arguments as text")
        calls.append(call)
        call_id = item.get("id")
        ids.append(call_id if isinstance(call_id, str) else None)
    if single is not None and _name_and_arguments(single) != calls[0]:
        raise UnusableRow("not_a_message", f"{where}: function_call and tool_calls are different calls")
    return calls, ids


def _name_and_arguments(function: Any) -> dict[str, Any]:
    return {name: function.get(name) if isinstance(function, dict) else None for name in ("name", "arguments")}


def is_hidden(message: Mapping[str, Any]) -> bool:
    """Return whether a message is a diversity prompt, which is shown for one step only."""
    return message.get("valid") is False


# Formats of chat templates and trainers -------------------------------------------------------------------------------


def parse_tools(text: str | None) -> list[Turn]:
    """Return the function schemas of a JSON text, each as {"type": "function", "function": ...}; bare ones are wrapped.

    Raises:
        UnusableRow: the text is not a JSON list of function schemas.

    >>> parse_tools('[{"name": "ping"}]')
    [{'type': 'function', 'function': {'name': 'ping'}}]
    """
    try:
        schemas = json.loads(text or "[]")
    except (ValueError, RecursionError) as error:
        raise UnusableRow("invalid_tools", f"invalid JSON: {error}") from None
    if not isinstance(schemas, list) or not all(isinstance(schema, dict) for schema in schemas):
        raise UnusableRow("invalid_tools", "expected a JSON list of function schemas")
    tools = [schema if "function" in schema else {"type": "function", "function": schema} for schema in schemas]
    if not all(isinstance(tool["function"], dict) and isinstance(tool["function"].get("name"), str) for tool in tools):
        raise UnusableRow("invalid_tools", "a function schema has no name")
    return tools


def template_messages(messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """Convert messages (`columns.MESSAGE`) for chat templates: arguments as objects, without null fields.

    A null content becomes "", since some templates concatenate it unchecked.
    """
    return [_template_message(message) for message in messages]


def _template_message(message: Mapping[str, Any]) -> Turn:
    turn: dict[str, Any] = {"role": message["role"], "content": message["content"] or ""}
    if message.get("name"):
        turn["name"] = message["name"]
    if message.get("tool_call_id"):
        turn["tool_call_id"] = _template_call_id(message["tool_call_id"])
    if message.get("tool_calls"):
        turn["tool_calls"] = [
            {
                **({"id": _template_call_id(call["id"])} if call["id"] else {}),
                "type": call["type"] or "function",
                "function": {"name": call["function"]["name"] or "", "arguments": decode_arguments(call["function"])},
            }
            for call in message["tool_calls"]
        ]
    return turn


def _template_call_id(call_id: str) -> str:
    match = _positional_id.fullmatch(call_id)
    return f"call{int(match[1]):05d}" if match else call_id


def decode_arguments(function: Mapping[str, Any]) -> Any:
    """Return the arguments of a call as an object, or as text if they are not a JSON object."""
    text = function["arguments"] or ""
    try:
        arguments = json_value(text, max_depth=None)
    except ValueError:
        return text
    return arguments if isinstance(arguments, dict) else text
