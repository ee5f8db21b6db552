r"""protocols: rendering of search messages as requests, and parsing of replies into a thought and a call.

The protocol `tools` is OpenAI's tool calling. The protocol `text` is for models without it: plain system, user and
assistant turns, with the functions as JSON in the system message. An assistant message has the form

    Thought: I look up the weather.
    Action: weather
    Action Input: {"city": "Oslo"}

and the observation follows as a user turn, "Observation: ...". A line in a thought or an observation that looks like
one of these four lines is prefixed with "> ", so that it is not parsed as a call.

If a history ends with a thought, the request adds `GO_ON` as a user turn, because many servers and templates reject a
chat that ends with an assistant message. Histories and samples do not contain it.

Not covered:

- several calls in one message: the first counts;
- arguments over several lines that are not a JSON object: the first line counts;
- a call on the same line as its thought.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from toolrlef_data.choices import check_choice
from toolrlef_data.engines.responses import split_reasoning
from toolrlef_data.engines.spec import Message, Request
from toolrlef_data.records import Reply
from toolrlef_data.toolbench.messages import RawMessage, openai_messages
from toolrlef_data.tools.parsing.json_text import object_end

__all__ = ["GO_ON", "PROTOCOLS", "STOP", "build_request", "parse_reply", "render_text_turns"]

PROTOCOLS = ("tools", "text")
# Only at the start of a line: JSON escapes line breaks, so an answer that quotes it is not truncated.
STOP = ("\nObservation:",)
GO_ON = "Go on: call a function."
FORMAT = """Write every message of yours in this form:
Thought: what you think, in short
Action: the name of one function
Action Input: its arguments, as a JSON object
Nothing stands behind it: the next message shows what the call gave, as "Observation: ...".
These are the functions, as JSON, with a schema of their arguments:
"""
ARGUMENTS = ("arguments", "parameters")  # keys of the arguments in calls written as JSON
_marker = re.compile(
    r"^[ \t*#_`-]{0,8}(?P<what>thought|action[ \t]{1,4}input|action|observation)[ \t*_`]{0,8}:[*_`]{0,3}[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_input_inside = re.compile(r"[ \t,;*`]{0,4}\baction[ \t]{1,4}input[ \t*_`]{0,8}:[*_`]{0,3}", re.IGNORECASE)
_before_arguments = re.compile(r"\s*(?:```(?:\w*[ \t\r]*\n|json\b)?\s*)?")
_object_end = partial(object_end, brackets=False)


# Requests -------------------------------------------------------------------------------------------------------------


def build_request(
    messages: Sequence[RawMessage], functions: Sequence[Mapping[str, Any]], protocol: str, sample: int = 0
) -> Request:
    """Return the request for the next message.

    Args:
        messages: the history, in ToolBench's format.
        functions: schemas; ToolBench-specific keys (optional, example_value) are removed. Empty for a request that
            needs no call.
        protocol: one of `PROTOCOLS`.
        sample: number of the attempt.

    Raises:
        UnknownName: an unknown protocol.

    >>> request = build_request([{"role": "user", "content": "Is it up?"}], [{"name": "ping"}], "tools")
    >>> request.messages[0].content, request.tools
    ('Is it up?', ('{"type": "function", "function": {"name": "ping"}}',))
    """
    check_choice("protocol", protocol, PROTOCOLS)
    history = openai_messages(messages, keep_thought=True)
    if history and history[-1]["role"] == "assistant":
        history.append({"role": "user", "content": GO_ON})
    tools = [{"type": "function", "function": _plain_function(function)} for function in functions]
    if protocol == "text":
        turns = render_text_turns(history, tools)
        return Request(tuple(Message(turn["role"], turn["content"]) for turn in turns), sample=sample)
    schemas = tuple(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return Request(tuple(map(_request_message, history)), tools=schemas, sample=sample)


def _plain_function(function: Mapping[str, Any]) -> dict[str, Any]:
    """Return a function without ToolBench-specific schema keys; parameters with these names are not removed."""
    parameters = function.get("parameters")
    return {**function, "parameters": _plain_schema(parameters)} if isinstance(parameters, Mapping) else dict(function)


def _plain_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in schema.items() if key not in ("optional", "example_value")}
    properties = plain.get("properties")
    if isinstance(properties, Mapping):
        plain["properties"] = {
            name: _plain_schema(part) if isinstance(part, Mapping) else part for name, part in properties.items()
        }
    return plain


def _request_message(message: Mapping[str, Any]) -> Message:
    calls = message.get("tool_calls") or ()
    return Message(
        message["role"],
        message["content"] or "",
        tuple((call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls),
        message.get("tool_call_id") or "",
        message.get("name") or "",
    )


def render_text_turns(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    """Render messages and tools as plain turns, for a model without tool calling.

    Appending one assistant message to the history appends exactly one turn.

    Args:
        messages: in OpenAI's format (`columns.MESSAGE`).
        tools: in OpenAI's format; ToolBench-specific schema keys are removed.

    >>> call = {"id": "call_1", "type": "function", "function": {"name": "ping", "arguments": "{}"}}
    >>> message = {"role": "assistant", "content": "I look.", "tool_calls": [call]}
    >>> print(render_text_turns([message], [])[0]["content"])
    Thought: I look.
    Action: ping
    Action Input: {}
    """
    turns: list[dict[str, str]] = []
    for message in messages:
        role, content = message["role"], message.get("content") or ""
        if role == "assistant":
            turns.append({"role": role, "content": _render_assistant(content, message.get("tool_calls") or ())})
            continue
        if role == "tool":
            role, content = "user", f"Observation: {_quote_markers(content)}"
        if role == "user" and turns and turns[-1]["role"] == "user":  # many templates require alternating turns
            turns[-1]["content"] += f"\n{content}"
        else:
            turns.append({"role": role, "content": content})
    if tools:
        schemas = [json.dumps(_plain_function(tool["function"]), ensure_ascii=False) for tool in tools]
        instruction = FORMAT + "\n".join(schemas)
        if turns and turns[0]["role"] == "system":
            turns[0]["content"] += f"\n\n{instruction}"
        else:
            turns.insert(0, {"role": "system", "content": instruction})
    return turns


def _render_assistant(thought: str, calls: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"Thought: {_quote_markers(thought)}"] if thought or not calls else []
    for call in calls:
        function = call["function"]
        lines += [f"Action: {' '.join(function['name'].split())}", f"Action Input: {function['arguments']}"]
    return "\n".join(lines)


def _quote_markers(text: str) -> str:
    return _marker.sub(r"> \g<0>", text)


# Replies --------------------------------------------------------------------------------------------------------------


def parse_reply(reply: Reply, protocol: str) -> tuple[str | None, tuple[str, str] | None]:
    """Return the thought and the call (name, arguments as raw text) of a reply, each None if missing; never raises.

    A call that was truncated by the token limit is ignored. Without a call in the form of the protocol, a call written
    as JSON counts: after <tool_call>, or as the complete text.

    Args:
        reply: the model's reply; a reply with an error has neither thought nor call.
        protocol: the protocol of the request, one of `PROTOCOLS`.

    >>> parse_reply(Reply("Thought: I look.\\nAction: ping\\nAction Input: {}\\nObservation: up"), "text")
    ('I look.', ('ping', '{}'))
    >>> parse_reply(Reply("It is up."), "text")
    ('It is up.', None)
    """
    if reply.error is not None:
        return None, None
    text = _strip_fence(split_reasoning(reply.text or "")[1])
    is_truncated = reply.finish_reason == "length"
    native_calls = reply.tool_calls[:-1] if is_truncated else reply.tool_calls
    if native_calls:
        return text or None, native_calls[0]
    thought, call = _parse_text(text, is_truncated) if protocol == "text" else (text, None)
    if call is None and (parsed := _parse_json_call(thought)):
        thought, call = parsed
    return thought or None, call


def _strip_fence(text: str) -> str:
    """Return a text without an enclosing code fence."""
    if text.startswith("```"):
        text = text.partition("\n")[2].strip().removesuffix("```")
    return text.strip()


def _parse_text(text: str, is_truncated: bool) -> tuple[str, tuple[str, str] | None]:
    """Return the thought and the first call of a text; all text after an "Observation:" is ignored as invented."""
    markers = list(_marker.finditer(text))
    kinds = [" ".join(marker["what"].lower().split()) for marker in markers]
    first = next((n for n, kind in enumerate(kinds) if kind in ("action", "observation")), len(kinds))
    thought = _strip_marker(text[: markers[first].start()] if first < len(kinds) else text)
    if first == len(kinds) or kinds[first] == "observation":
        return thought, None
    next_starts = [marker.start() for marker in markers[first + 1 :]] + [len(text)]
    action = text[markers[first].end() : next_starts[0]]
    name = action.strip().partition("\n")[0]
    if kinds[first + 1 : first + 2] == ["action input"]:
        start, end = markers[first + 1].end(), next_starts[1]
    elif match := _input_inside.search(action):
        name = action[: match.start()].strip().partition("\n")[0]
        start, end = markers[first].end() + match.end(), next_starts[0]
    elif "{" in action:  # such as ping {"host": "a"} or ping({"host": "a"})
        name = action.partition("{")[0].strip().partition("\n")[0]
        start, end = text.index("{", markers[first].end()), next_starts[0]
    else:
        start = end = next_starts[0]
    name = name.strip(" \t\r`*\"'[](),.:")
    arguments = _parse_arguments(text, start, end)
    if not name or (is_truncated and _object_end(arguments, 0) < max(1, len(arguments))):
        return thought, None
    return thought, (name, arguments or "{}")


def _strip_marker(text: str) -> str:
    """Return a text without its first "Thought:"."""
    marker = next((match for match in _marker.finditer(text) if match["what"].lower() == "thought"), None)
    return (text if marker is None else text[: marker.start()] + text[marker.end() :]).strip()


def _parse_arguments(text: str, start: int, end: int) -> str:
    """Return the text of the arguments at a position: a complete or truncated object, or else the rest of the line."""
    match = _before_arguments.match(text, start, end)
    begin = match.end() if match else start
    if not text.startswith("{", begin):
        return text[begin:end].partition("\n")[0].strip(" \t\r`")
    return text[begin : _object_end(text, begin) or end].rstrip("` \t\r\n")


def _parse_json_call(text: str) -> tuple[str, tuple[str, str]] | None:
    """Return the text before a call written as JSON, and the call."""
    before, tag, after = text.partition("<tool_call>")
    body, thought = (_strip_fence(after.strip()), before.strip()) if tag else (text, "")
    end = _object_end(body, 0)
    try:
        value = json.loads(body[:end]) if end else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = next((value[key] for key in ARGUMENTS if key in value), None)
    if arguments is None:
        return None
    return thought, (
        value["name"],
        arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False),
    )
