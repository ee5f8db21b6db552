r"""protocols: how a model is asked for its next message in a search, and what of its reply is a thought and a call.

`tools` is OpenAI's tool calling. `text` is for models without it: plain turns of system, user and assistant, the
functions as JSON in the system message, and messages in this form:

    Thought: I look up the weather.
    Action: weather
    Action Input: {"city": "Oslo"}

What a call gave is then a user's turn, "Observation: ...". A line of a thought or of a result that looks like one of
these four is written behind "> ", so that a text cannot pass for a call.

A thought without a call is followed by `GO_ON` when a model is asked to go on from it: many servers and templates
refuse a chat that ends with the assistant. It stands in the request alone, in no history.

Not covered: several calls in one message (the first counts); arguments that are no JSON object, on several lines (the
first counts); a call in the same line as the thought before it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from toolrlef_data.engines.responses import split_reasoning
from toolrlef_data.engines.spec import Message, Request
from toolrlef_data.records import Reply, UnknownName
from toolrlef_data.toolbench.messages import Raw, canonical
from toolrlef_data.tools.json_text import object_end

__all__ = ["GO_ON", "PROTOCOLS", "STOP", "message_from", "render_text_turns", "request_of"]

PROTOCOLS = ("tools", "text")
# At the beginning of a line: in JSON no text holds a bare line break, so an answer that quotes it is not cut.
STOP = ("\nObservation:",)
GO_ON = "Go on: call a function."
FORMAT = """Write every message of yours in this form:
Thought: what you think, in short
Action: the name of one function
Action Input: its arguments, as a JSON object
Nothing stands behind it: the next message shows what the call gave, as "Observation: ...".
These are the functions, as JSON, with a schema of their arguments:
"""
ARGUMENTS = ("arguments", "parameters")  # in calls that are written as JSON
_marker = re.compile(
    r"^[ \t*#_`-]{0,8}(?P<what>thought|action[ \t]{1,4}input|action|observation)[ \t*_`]{0,8}:[*_`]{0,3}[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_input_inside = re.compile(r"[ \t,;*`]{0,4}\baction[ \t]{1,4}input[ \t*_`]{0,8}:[*_`]{0,3}", re.IGNORECASE)
_before_arguments = re.compile(r"\s*(?:```(?:\w*[ \t\r]*\n|json\b)?\s*)?")
_object_end = partial(object_end, brackets=False)


# What is asked --------------------------------------------------------------------------------------------------------


def request_of(
    messages: Sequence[Raw], functions: Sequence[Mapping[str, Any]], protocol: str, sample: int = 0
) -> Request:
    """The request for the message that follows.

    Args:
        messages: as ToolBench has them, without the one that is asked for.
        functions: schemas; keys that only ToolBench has (optional, example_value) are left out. None for a question
            that is to be answered without a call.
        protocol: one of `PROTOCOLS`.
        sample: the number of the try.

    Raises:
        UnknownName: there is no such protocol.

    >>> asked = request_of([{"role": "user", "content": "Is it up?"}], [{"name": "ping"}], "tools")
    >>> asked.messages[0].content, asked.tools
    ('Is it up?', ('{"type": "function", "function": {"name": "ping"}}',))
    """
    if protocol not in PROTOCOLS:
        raise UnknownName("protocol", protocol, PROTOCOLS)
    told = canonical(messages, keep_thought=True)
    if told and told[-1]["role"] == "assistant":
        told.append({"role": "user", "content": GO_ON})
    tools = [{"type": "function", "function": _plain(function)} for function in functions]
    if protocol == "text":
        turns = render_text_turns(told, tools)
        return Request(tuple(Message(turn["role"], turn["content"]) for turn in turns), sample=sample)
    made = tuple(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return Request(tuple(map(_message, told)), tools=made, sample=sample)


def _plain(function: Mapping[str, Any]) -> dict[str, Any]:
    """A function without what only ToolBench's schemas have; parameters of these names stay."""
    parameters = function.get("parameters")
    return {**function, "parameters": _schema(parameters)} if isinstance(parameters, Mapping) else dict(function)


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    made = {key: value for key, value in schema.items() if key not in ("optional", "example_value")}
    properties = made.get("properties")
    if isinstance(properties, Mapping):
        made["properties"] = {
            name: _schema(each) if isinstance(each, Mapping) else each for name, each in properties.items()
        }
    return made


def _message(message: Raw) -> Message:
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
    """Messages and tools as plain turns, for a model that knows no tool calling.

    A history with one more message of the assistant gives the turns of the history, and one more.

    Args:
        messages: OpenAI's (`columns.MESSAGE`).
        tools: OpenAI's, {"type": "function", "function": schema}; keys that only ToolBench has are left out.

    >>> call = {"id": "call_1", "type": "function", "function": {"name": "ping", "arguments": "{}"}}
    >>> print(render_text_turns([{"role": "assistant", "content": "I look.", "tool_calls": [call]}], [])[0]["content"])
    Thought: I look.
    Action: ping
    Action Input: {}
    """
    turns: list[dict[str, str]] = []
    for message in messages:
        role, content = message["role"], message.get("content") or ""
        if role == "assistant":
            turns.append({"role": role, "content": _written(content, message.get("tool_calls") or ())})
            continue
        if role == "tool":
            role, content = "user", f"Observation: {_quoted(content)}"
        if role == "user" and turns and turns[-1]["role"] == "user":  # many templates want turns to alternate
            turns[-1]["content"] += f"\n{content}"
        else:
            turns.append({"role": role, "content": content})
    if tools:
        told = FORMAT + "\n".join(json.dumps(_plain(tool["function"]), ensure_ascii=False) for tool in tools)
        if turns and turns[0]["role"] == "system":
            turns[0]["content"] += f"\n\n{told}"
        else:
            turns.insert(0, {"role": "system", "content": told})
    return turns


def _written(thought: str, calls: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"Thought: {_quoted(thought)}"] if thought or not calls else []
    for call in calls:
        function = call["function"]
        lines += [f"Action: {' '.join(function['name'].split())}", f"Action Input: {function['arguments']}"]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return _marker.sub(r"> \g<0>", text)


# What is replied ------------------------------------------------------------------------------------------------------


def message_from(reply: Reply, protocol: str) -> tuple[str | None, tuple[str, str] | None]:
    """The thought and the call (name, arguments as raw text) of a reply, each None where there is none; never raises.

    A call that was cut off by the limit of tokens is none. Where there is no call of the protocol, one that is written
    as JSON is taken: behind <tool_call>, or as the whole text.

    Args:
        reply: of a model; one with an error says nothing.
        protocol: that it was asked in.

    >>> message_from(Reply("Thought: I look.\\nAction: ping\\nAction Input: {}\\nObservation: up"), "text")
    ('I look.', ('ping', '{}'))
    >>> message_from(Reply("It is up."), "text")
    ('It is up.', None)
    """
    if reply.error is not None:
        return None, None
    text = _unfenced(split_reasoning(reply.text or "")[1])
    cut_off = reply.finish_reason == "length"
    native = reply.tool_calls[:-1] if cut_off else reply.tool_calls
    if native:
        return text or None, native[0]
    thought, call = _read(text, cut_off) if protocol == "text" else (text, None)
    if call is None and (found := _json_call(thought)):
        thought, call = found
    return thought or None, call


def _unfenced(text: str) -> str:
    """A text without the code fence round all of it."""
    if text.startswith("```"):
        text = text.partition("\n")[2].strip().removesuffix("```")
    return text.strip()


def _read(text: str, cut_off: bool) -> tuple[str, tuple[str, str] | None]:
    """The thought and the first call of a text; what is behind an observation is the model's own invention."""
    markers = list(_marker.finditer(text))
    kinds = [" ".join(marker["what"].lower().split()) for marker in markers]
    first = next((n for n, kind in enumerate(kinds) if kind in ("action", "observation")), len(kinds))
    thought = _thought(text[: markers[first].start()] if first < len(kinds) else text)
    if first == len(kinds) or kinds[first] == "observation":
        return thought, None
    after = [marker.start() for marker in markers[first + 1 :]] + [len(text)]
    named = text[markers[first].end() : after[0]]
    name = named.strip().partition("\n")[0]
    if kinds[first + 1 : first + 2] == ["action input"]:
        start, end = markers[first + 1].end(), after[1]
    elif inside := _input_inside.search(named):
        name = named[: inside.start()].strip().partition("\n")[0]
        start, end = markers[first].end() + inside.end(), after[0]
    elif "{" in named:  # ping {"host": "a"} or ping({"host": "a"})
        name = named.partition("{")[0].strip().partition("\n")[0]
        start, end = text.index("{", markers[first].end()), after[0]
    else:
        start = end = after[0]
    name = name.strip(" \t\r`*\"'[](),.:")
    arguments = _arguments(text, start, end)
    if not name or (cut_off and _object_end(arguments, 0) < max(1, len(arguments))):
        return thought, None
    return thought, (name, arguments or "{}")


def _thought(text: str) -> str:
    """A text without the first mark of a thought."""
    marker = next((each for each in _marker.finditer(text) if each["what"].lower() == "thought"), None)
    return (text if marker is None else text[: marker.start()] + text[marker.end() :]).strip()


def _arguments(text: str, start: int, end: int) -> str:
    """The arguments that begin here: an object over any lines, what there is of one, or the rest of the line."""
    found = _before_arguments.match(text, start, end)
    place = found.end() if found else start
    if not text.startswith("{", place):
        return text[place:end].partition("\n")[0].strip(" \t\r`")
    return text[place : _object_end(text, place) or end].rstrip("` \t\r\n")


def _json_call(text: str) -> tuple[str, tuple[str, str]] | None:
    """What stands before a call that is written as JSON, and the call."""
    before, tag, rest = text.partition("<tool_call>")
    rest, before = (_unfenced(rest.strip()), before.strip()) if tag else (text, "")
    end = _object_end(rest, 0)
    try:
        value = json.loads(rest[:end]) if end else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    given = next((value[key] for key in ARGUMENTS if key in value), None)
    if given is None:
        return None
    return before, (value["name"], given if isinstance(given, str) else json.dumps(given, ensure_ascii=False))
