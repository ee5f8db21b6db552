"""messages: ToolBench's messages, checked, and as OpenAI's; and what there is to say of a step.

ToolBench's are {role, content, function_call | name, valid}. `canonical` makes OpenAI's of them: calls get ids by their
position, so that equal histories stay equal, and a thought of its own is joined with the call right after it;
`template_messages` makes of those what chat templates take. Not covered: several calls in one message, which
ToolBench does not have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

from toolrlef_data.records import UnusableRow
from toolrlef_data.tools.json_text import json_value

__all__ = [
    "CUT",
    "FLAGS",
    "Raw",
    "Turn",
    "canonical",
    "checked_message",
    "decode_arguments",
    "flags_of",
    "is_hidden",
    "parse_tools",
    "template_messages",
]

FLAGS = ("unknown_function", "invalid_arguments", "truncated_observation", "repeated_call", "lost_thought")
CUT = 1024  # characters of an observation, behind which "..." stands

# `canonical` gives calls the ids call_1, call_2, ...; Mistral's templates refuse all but nine letters and digits.
_own_id = re.compile(r"call_(\d{1,5})")

Raw = dict[str, Any]
Turn = Mapping[str, Any]


def canonical(messages: Sequence[Raw], keep_thought: bool) -> list[Raw]:
    """Messages as OpenAI has them (`columns.MESSAGE`, without `train`).

    Args:
        messages: as ToolBench has them.
        keep_thought: keep the content that stands beside a call, which upstream drops.

    Raises:
        Unusable: a function's message stands before any call.

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
                raise UnusableRow("result_without_call", "a function's message stands before any call")
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
        if history and is_hidden(history[-1]):  # what the model thought before it was asked again stays in the history
            before = next((message for message in reversed(history) if not is_hidden(message)), {})
            if before.get("role") == "assistant" and before.get("content") and before.get("function_call") is None:
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


def checked_message(message: Any, where: str) -> Raw:
    """A message of a file, with the keys that are read here, or why it is none."""
    if not isinstance(message, dict):
        raise UnusableRow("not_a_message", f"{where} holds a {type(message).__name__}")
    role, content, call = message.get("role"), message.get("content"), message.get("function_call")
    if role not in ("system", "user", "assistant", "function"):
        raise UnusableRow("not_a_message", f"{where} holds the role {role!r:.40}")
    for key in ("content", "name"):
        if not isinstance(message.get(key), (str, NoneType)):
            raise UnusableRow(
                "not_a_message", f"{where} holds a {key} that is a {type(message[key]).__name__}, not a text"
            )
    checked: Raw = {"role": role, "content": content}
    if role == "function":
        checked["name"] = message.get("name")
    if is_hidden(message):
        checked["valid"] = False
    if call is not None:
        texts = [call.get("name"), call.get("arguments")] if isinstance(call, dict) else [None]
        if role != "assistant" or not all(isinstance(text, str) for text in texts):
            raise UnusableRow("not_a_message", f"{where} holds a call without a name and arguments that are texts")
        checked["function_call"] = {"name": call["name"], "arguments": call["arguments"]}
    return checked


def is_hidden(message: Mapping[str, Any]) -> bool:
    """Whether a message is a diversity prompt, which the model saw at one step alone."""
    return message.get("valid") is False


# What templates and trainers take -------------------------------------------------------------------------------------


def parse_tools(text: str | None) -> list[Turn]:
    """Function schemas from JSON text, each as {"type": "function", "function": ...}; bare ones are wrapped.

    >>> parse_tools('[{"name": "ping"}]')
    [{'type': 'function', 'function': {'name': 'ping'}}]
    """
    try:
        listed = json.loads(text or "[]")
    except (ValueError, RecursionError) as error:
        raise UnusableRow("invalid_tools", f"no JSON: {error}") from None
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise UnusableRow("invalid_tools", "expected a JSON list of function schemas")
    wrapped = [each if "function" in each else {"type": "function", "function": each} for each in listed]
    if not all(
        isinstance(each["function"], dict) and isinstance(each["function"].get("name"), str) for each in wrapped
    ):
        raise UnusableRow("invalid_tools", "a function schema has no name")
    return wrapped


def template_messages(messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """Messages (`columns.MESSAGE`) as templates expect them: arguments as an object, no field that is empty.

    A content that is not there becomes "", since some templates add to it without a look.
    """
    return [_native(message) for message in messages]


def _native(message: Mapping[str, Any]) -> Turn:
    turn: dict[str, Any] = {"role": message["role"], "content": message["content"] or ""}
    if message.get("name"):
        turn["name"] = message["name"]
    if message.get("tool_call_id"):
        turn["tool_call_id"] = _call_id(message["tool_call_id"])
    if message.get("tool_calls"):
        turn["tool_calls"] = [
            {
                **({"id": _call_id(call["id"])} if call["id"] else {}),
                "type": call["type"] or "function",
                "function": {"name": call["function"]["name"] or "", "arguments": decode_arguments(call["function"])},
            }
            for call in message["tool_calls"]
        ]
    return turn


def _call_id(found: str) -> str:
    own = _own_id.fullmatch(found)
    return f"call{int(own[1]):05d}" if own else found


def decode_arguments(function: Mapping[str, Any]) -> Any:
    """The object that a JSON text stands for; where it stands for none, or not for one alone, the text itself."""
    text = function["arguments"] or ""
    try:
        found = json_value(text, max_depth=None)
    except ValueError:
        return text
    return found if isinstance(found, dict) else text
