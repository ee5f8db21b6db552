"""messages: validation and conversion of ToolBench messages, and the quality flags of a step.

A ToolBench message has the keys role, content, function_call or name, and valid. StableToolBench has OpenAI's newer
keys: the role "tool", `tool_calls` and `tool_call_id`. `checked_message` reads both. `openai_messages` converts to
OpenAI's format. Call ids are positions, so that equal histories stay equal. A result that does not follow its call has
no id, and the step has the flag "unpaired_call". A message with only a thought is joined to the call right after it.
`template_messages` converts OpenAI's format to the form that chat templates expect.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

from toolrlef_data.records import UnusableRow
from toolrlef_data.tools.json_text import json_value

__all__ = [
    "FLAGS",
    "TRUNCATED_LENGTH",
    "RawMessage",
    "Turn",
    "checked_message",
    "decode_arguments",
    "flags_of",
    "is_hidden",
    "openai_messages",
    "paired_results",
    "parse_tools",
    "template_messages",
]

FLAGS = (
    "unknown_function",
    "invalid_arguments",
    "truncated_observation",
    "repeated_call",
    "lost_thought",
    "unpaired_call",
)
TRUNCATED_LENGTH = 1024  # characters of a truncated observation, before the closing "..."

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
    n_calls = 0
    results = paired_results(messages)
    follows_thought = False  # whether the previous message is only a thought
    for i, raw in enumerate(messages):
        role, content, call = raw["role"], raw.get("content"), raw.get("function_call")
        message: dict[str, Any] = {"role": role, "content": content, "name": None, "tool_call_id": None}
        message["tool_calls"] = None
        if role == "assistant":
            if call is not None and not keep_thought:
                message["content"] = None
            if follows_thought:
                thought = converted.pop()["content"]
                message["content"] = "\n".join(part for part in (thought, message["content"]) if part) or None
            if call is not None:
                n_calls += 1
                function = {"name": call["name"], "arguments": call["arguments"]}
                message["tool_calls"] = [{"id": f"call_{n_calls}", "type": "function", "function": function}]
        elif role == "function":
            if not n_calls:
                raise UnusableRow("result_without_call", "a function message has no preceding call")
            name = raw.get("name") or (messages[results[i]]["function_call"]["name"] if i in results else None)
            call_id = f"call_{n_calls}" if i in results else None
            message |= {"role": "tool", "name": name, "tool_call_id": call_id, "content": content or ""}
        else:
            message["content"] = content or ""
        follows_thought = role == "assistant" and call is None
        converted.append(message)
    return converted


def paired_results(messages: Sequence[RawMessage]) -> dict[int, int]:
    """Return index of a result -> index of its call, for the results that directly follow an unanswered call.

    If both have a call id, the ids must be equal.

    >>> call, result = {"role": "assistant", "function_call": {}}, {"role": "function"}
    >>> paired_results([call, result, result]), paired_results([call, result | {"call_id": "a"}])
    ({1: 0}, {1: 0})
    """
    pairs = {}
    for i, (previous, message) in enumerate(itertools.pairwise(messages), start=1):
        if message["role"] == "function" and previous.get("function_call") is not None:
            ids = {other["call_id"] for other in (previous, message) if "call_id" in other}
            if len(ids) < 2:
                pairs[i] = i - 1
    return pairs


def flags_of(messages: Sequence[RawMessage], functions: Sequence[str], keep_thought: bool) -> list[str]:
    """Return the quality flags of a step, in the order of `FLAGS`.

    Args:
        messages: history and target, in ToolBench's format.
        functions: names of the available functions.
        keep_thought: as for `openai_messages`.
    """
    target, history = messages[-1], messages[:-1]
    call = target.get("function_call")
    flags = set()
    if call is not None:
        if call["name"] not in functions:
            flags.add("unknown_function")
        if not _is_json_object(call["arguments"]):
            flags.add("invalid_arguments")
        if any(message.get("function_call") == call for message in history):
            flags.add("repeated_call")
        if target.get("content") and not keep_thought:
            flags.add("lost_thought")
        if history and is_hidden(history[-1]):  # a thought before the diversity prompt cannot be joined to the call
            previous = next((message for message in reversed(history) if not is_hidden(message)), {})
            if (
                previous.get("role") == "assistant"
                and previous.get("content")
                and previous.get("function_call") is None
            ):
                flags.add("lost_thought")
    for message in history:
        content = message.get("content")
        if message["role"] == "function" and content and len(content) >= TRUNCATED_LENGTH and content.endswith("..."):
            flags.add("truncated_observation")
    pairs = paired_results(history)
    n_results = sum(message["role"] == "function" for message in history)
    n_calls = sum(message.get("function_call") is not None for message in history)
    if not len(pairs) == n_results == n_calls:
        flags.add("unpaired_call")
    return [flag for flag in FLAGS if flag in flags]


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


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
    role, content, call = message.get("role"), message.get("content"), message.get("function_call")
    calls, is_tool = message.get("tool_calls"), role == "tool"
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
    if calls not in (None, []):
        calls = _function_calls(calls, where)
        if len(calls) > 1 or call not in (None, calls[0]["function_call"]):
            return checked | {"n_calls": len(calls) + (call is not None)}
        call = calls[0]["function_call"]
        checked |= {name: value for name, value in calls[0].items() if name == "call_id"}
    if call is not None:
        texts = [call.get("name"), call.get("arguments")] if isinstance(call, dict) else [None]
        if role != "assistant" or not all(isinstance(text, str) for text in texts):
            raise UnusableRow("not_a_message", f"{where}: expected an assistant's call with name and arguments as text")
        checked["function_call"] = {"name": call["name"], "arguments": call["arguments"]}
    return checked


def _function_calls(calls: Any, where: str) -> list[RawMessage]:
    """Return the keys `function_call` and, if known, `call_id` of each of a message's `tool_calls`."""
    converted: list[RawMessage] = []
    for call in calls if isinstance(calls, list) else [{}]:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(function, dict):
            raise UnusableRow("not_a_message", f"{where}: expected tool_calls as a list of functions")
        arguments = function.get("arguments")
        if isinstance(arguments, dict):
            arguments = json.dumps(arguments, ensure_ascii=False)
        keys: RawMessage = {"function_call": {"name": function.get("name"), "arguments": arguments}}
        converted.append(keys | ({"call_id": call["id"]} if isinstance(call.get("id"), str) else {}))
    return converted


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
