"""messages: ToolBench's messages, checked, and as OpenAI's; and what there is to say of a step.

ToolBench's are {role, content, function_call | name, valid}. `canonical` makes OpenAI's of them: calls get ids by their
position, so that equal histories stay equal, and a thought of its own is joined with the call right after it. Not
covered: several calls in one message, which ToolBench does not have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

from toolrlef_data.records import InputError

__all__ = ["CUT", "FLAGS", "Irregular", "Raw", "canonical", "checked_message", "flags_of", "is_hidden"]

FLAGS = ("unknown_function", "invalid_arguments", "truncated_observation", "repeated_call", "lost_thought")
CUT = 1024  # characters of an observation, behind which "..." stands

Raw = dict[str, Any]


class Irregular(InputError):
    """What a file holds that no sample can be made of: a short reason, and a detail for people."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


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
    if is_hidden(message):
        checked["valid"] = False
    if call is not None:
        texts = [call.get("name"), call.get("arguments")] if isinstance(call, dict) else [None]
        if role != "assistant" or not all(isinstance(text, str) for text in texts):
            raise Irregular("not_a_message", f"{where} holds a call without a name and arguments that are texts")
        checked["function_call"] = {"name": call["name"], "arguments": call["arguments"]}
    return checked


def is_hidden(message: Mapping[str, Any]) -> bool:
    """Whether a message is a diversity prompt, which the model saw at one step alone."""
    return message.get("valid") is False
