"""Prompts and replies of stage 1 and stage 2: in a prompt style, with calls as text or as native calls.

A text prompt and a reply join to what a responder of that style saw and wrote. With native calls, a call that the
message of a chat cannot express is an error:

| reason | cause |
|---|---|
| unreadable_call | the call cannot be read |
| several_calls | the response has more than one call |
| text_after_call | the response goes on after its call |
| other_arguments | the call has arguments that the tool lacks |

A row of `without_tool` has a `kind`, and offers the tools of its column `tools`. Its output is never a call
(call_as_target), also if the row was changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from toolrlef_data.engines.prompts import continuation, render_prompt
from toolrlef_data.engines.spec import Message
from toolrlef_data.publishing.exports.messages import tools_of
from toolrlef_data.publishing.exports.options import Options
from toolrlef_data.records import UnusableRow
from toolrlef_data.tools.parsing.call_formats import call_names
from toolrlef_data.tools.parsing.call_parser import find_calls
from toolrlef_data.tools.parsing.calls import read_call
from toolrlef_data.tools.parsing.parameters import Parameters
from toolrlef_data.tools.tool import Tool, tool_schema

__all__ = ["Turns", "native_message", "prompt_of", "reply_to", "target_of", "tools_column", "tools_list"]

Row = Mapping[str, Any]
Turns = Any  # a text, or a list of messages


def prompt_of(row: Row, options: Options) -> Turns:
    """Return the prompt of a row in the style of the options, without few-shot examples."""
    if row["instruction"] is None or row["input"] is None:
        raise UnusableRow("no_prompt", "instruction or input is null: an earlier version built the table")
    prompt = render_prompt(options.style, row["instruction"], row["input"])
    return prompt if isinstance(prompt, str) else [_as_dict(message) for message in prompt]


def _as_dict(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": message.content}


def reply_to(prompt: Turns, text: str | None, row: Row, options: Options) -> Turns:
    """Return a response as the text that continues a prompt, or as a list with one message.

    Raises:
        UnusableRow: the response is empty, or has a call that a native call cannot express.
    """
    if text is None or not text.strip():
        raise UnusableRow("no_reply", "the response is empty")
    if isinstance(prompt, str):
        return continuation(prompt, text)
    if options.calls == "native":
        return [native_message(text, options.tasks[row["task"]].tool, options.arguments)]
    return [{"role": "assistant", "content": text.strip()}]


def native_message(text: str, tool: Tool, arguments: str = "object") -> dict[str, Any]:
    """Return a response as an assistant message, whose call of the tool is a native call.

    Args:
        text: the response.
        tool: the tool.
        arguments: "object", or "text" for arguments as JSON text.

    >>> from toolrlef_data import TOOLS
    >>> native_message("calculator(3*19)", TOOLS["calculator"])["tool_calls"][0]["function"]
    {'name': 'calculator', 'arguments': {'formula': '3*19'}}
    """
    reading = read_call(text, tool)
    if reading.tool is None:
        return {"role": "assistant", "content": text.strip()}
    if reading.argument is None:
        raise UnusableRow("unreadable_call", f"{reading.error}: {text!r:.80}")
    if reading.n_calls > 1:
        raise UnusableRow("several_calls", f"{reading.n_calls} calls: {text!r:.80}")
    takes_several = isinstance(tool.call_parameter, Parameters)
    if not takes_several and len(json.loads(reading.arguments or "{}")) > 1:
        raise UnusableRow("other_arguments", f"expected {tool.parameter} alone, found {reading.arguments!r:.80}")
    match = next(match for match in find_calls(text, call_names(tool.signatures)) if match.arguments is not None)
    if not _is_wrapping(rest := text[match.end :]):
        raise UnusableRow("text_after_call", f"text after the call: {rest!r:.80}")
    value = json.loads(reading.argument) if takes_several else {tool.parameter: reading.argument}
    function = {
        "name": tool.name,
        "arguments": value if arguments == "object" else json.dumps(value, ensure_ascii=False),
    }
    call = {"id": "call_1", "type": "function", "function": function}
    return {"role": "assistant", "content": _opening.sub("", text[: match.start]).strip(), "tool_calls": [call]}


# What stands around a call in a format of `call_formats`: tags, fences, brackets.
_is_wrapping = re.compile(r"(?:</?\w+>|<\|\w+\|>|```|[\s.\]])*").fullmatch
_opening = re.compile(r"(?:<\w+>|<\|\w+\|>|```\w*|\[|\s)+$")


def target_of(prompt: Turns, row: Row, options: Options) -> Turns:
    """Return the output of a row of stage 1 as `reply_to` does; a row of `without_tool` must not call.

    Raises:
        UnusableRow: as `reply_to`; or the row has a `kind`, and its output calls a tool.
    """
    if row.get("kind"):
        names = [tool["function"]["name"] for tool in tools_of(row)]
        if options.tasks:
            names.append(options.tasks[row["task"]].tool.name)
        if row["output"] and names and read_call(row["output"], names).tool is not None:
            raise UnusableRow("call_as_target", f"a row of the kind {row['kind']} calls a tool: {row['output']!r:.80}")
    return reply_to(prompt, row["output"], row, options)


def tools_list(row: Row, options: Options) -> list[Any]:
    """Return the schemas of the tools that a row offers; empty for calls as text.

    These are the tools that a row of `without_tool` lists, and the tool of the task for other rows.
    """
    if options.calls != "native":
        return []
    return list(tools_of(row)) if row.get("kind") else [json.loads(tool_schema(options.tasks[row["task"]].tool))]


def tools_column(row: Row, options: Options) -> dict[str, str]:
    """Return the column `tools` as JSON text, which trainers parse; no column for calls as text."""
    return {"tools": json.dumps(tools_list(row, options), ensure_ascii=False)} if options.calls == "native" else {}
