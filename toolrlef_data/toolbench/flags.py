"""flags: what is unusual about a step."""

from __future__ import annotations

import json
from collections.abc import Sequence

from toolrlef_data.toolbench.messages import RawMessage, calls_of, is_hidden, paired_results

__all__ = ["FLAGS", "TRUNCATED_LENGTH", "flags_of"]

FLAGS = (
    "unknown_function",
    "invalid_arguments",
    "invalid_arguments_in_history",
    "truncated_observation",
    "repeated_call",
    "lost_thought",
    "unpaired_call",
)
TRUNCATED_LENGTH = 1024  # characters of a truncated observation, before the closing "..."


def flags_of(messages: Sequence[RawMessage], functions: Sequence[str], keep_thought: bool) -> list[str]:
    """Return the quality flags of a step, in the order of `FLAGS`.

    Args:
        messages: history and target, in ToolBench's format.
        functions: names of the available functions.
        keep_thought: as for `openai_messages`.
    """
    target, history = messages[-1], messages[:-1]
    calls, earlier_calls = calls_of(target), [call for message in history for call in calls_of(message)]
    flags = set()
    if calls:
        if any(call["name"] not in functions for call in calls):
            flags.add("unknown_function")
        if not all(_is_json_object(call["arguments"]) for call in calls):
            flags.add("invalid_arguments")
        if any(call in earlier_calls or call in calls[:k] for k, call in enumerate(calls)):
            flags.add("repeated_call")
        if target.get("content") and not keep_thought:
            flags.add("lost_thought")
        if history and is_hidden(history[-1]):  # a thought before the diversity prompt cannot be joined to the call
            previous = next((message for message in reversed(history) if not is_hidden(message)), {})
            if previous.get("role") == "assistant" and previous.get("content") and not calls_of(previous):
                flags.add("lost_thought")
    if not all(_is_json_object(call["arguments"]) for call in earlier_calls):
        flags.add("invalid_arguments_in_history")
    for message in history:
        content = message.get("content")
        if message["role"] == "function" and content and len(content) >= TRUNCATED_LENGTH and content.endswith("..."):
            flags.add("truncated_observation")
    pairs = paired_results(history)
    n_results = sum(message["role"] == "function" for message in history)
    if not len(pairs) == n_results == len(earlier_calls):
        flags.add("unpaired_call")
    return [flag for flag in FLAGS if flag in flags]


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
