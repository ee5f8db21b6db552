"""Parsing and rendering of tool calls in the text of a response.

A call is a tool's name, directly followed by parentheses that contain the argument: `calculator((12/60)*50)`. The
parser balances parentheses across lines. JSON calls and the other formats of `call_formats` count too; of several calls
the first one counts. All functions are pure, accept any text without raising, and run in linear time.

Rules:

- A name is a complete word (no QA in AQUA). Case is ignored if the name is longer than three letters.
- One blank before the parenthesis is allowed only if the call is alone on its line, so that "no calculator (or any
  tool)" is not a call. A method of the tool counts: `calculator.call(3+4)`.
- Quotes around the argument and a keyword (`query=`) are removed. Of several keywords the tool's parameter counts.
- A call inside the argument of another call is text.
- A call without an argument does not count.
- Full-width parentheses are text.

A call that cannot be read is a failed call of its tool, not an answer: "incomplete_call" if the text ends inside the
call, otherwise "unreadable_call".

Not covered: brackets instead of parentheses. An argument with an unbalanced parenthesis ends at the first balanced
position, unless it is quoted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from toolrlef_data.checks import check_type
from toolrlef_data.records import InputError, ToolCall, clean_text
from toolrlef_data.tools.parsing.call_arguments import decode_arguments
from toolrlef_data.tools.parsing.call_formats import CallMatch, CallNames, call_names
from toolrlef_data.tools.parsing.call_parser import find_calls
from toolrlef_data.tools.parsing.parameters import Parameters, render_arguments
from toolrlef_data.tools.tool import Tool

__all__ = [
    "CallReading",
    "NativeCall",
    "call_from_json",
    "count_calls",
    "find_called_tool",
    "parse_call",
    "parse_calls",
    "read_call",
    "read_native_calls",
    "render_call",
]

# An argument that needs no unwrapping: no quotes or keyword, and parentheses of one level.
_simple = re.compile(r"""[^()"'=`{\u201c\u2018]*(?:\([^()"'=`{\u201c\u2018]*\)[^()"'=`{\u201c\u2018]*)*""").fullmatch
_keyword = re.compile(r"(\w+)\s*=(?!=)\s*").match


Tools = str | Tool | Iterable[str | Tool]


class CallReading(NamedTuple):
    """The calls in a response.

    Args:
        n_calls: number of complete calls.
        tool: the tool of the first complete call, else of the first failed call; None for an answer without a call.
        argument: the argument of the first complete call.
        arguments: all arguments of that call as a JSON object.
        error: "incomplete_call" or "unreadable_call" for a failed call.
    """

    n_calls: int = 0
    tool: str | None = None
    argument: str | None = None
    arguments: str | None = None
    error: str | None = None


_NO_CALL = CallReading()
_TOOLS = "one or more tools or names of tools"
_encode = json.JSONEncoder(ensure_ascii=False).encode


class NativeCall(NamedTuple):
    """The native call of a reply as a text.

    Args:
        text: a call that `parse_call` reads back; for a call that cannot be read, a text with its name and arguments,
            which is read as a failed call.
        arguments: all arguments as a JSON object; None for a call that cannot be read.
        names_tool: whether the call names the tool.
    """

    text: str
    arguments: str | None = None
    names_tool: bool = True


def parse_call(text: str, tools: Tools) -> ToolCall | None:
    """Return the first complete call of any of the tools, or None; a call that is cut off is not complete.

    Args:
        text: text of a response.
        tools: one or more tool names or `Tool`s. Calls of other tools are text.

    Returns:
        The call, with the tool's canonical name and the unwrapped argument.

    >>> parse_call("It is calculator((12/60)*50).", ["calculator"])
    ToolCall(tool='calculator', argument='(12/60)*50')
    >>> parse_call("No calculator (or any tool) is needed: 72.", ["calculator"])
    """
    return next(_calls(text, _names_for(text, tools)), None)


def count_calls(text: str, tools: Tools) -> int:
    """Return the number of complete calls of the tools in a text; calls inside an argument do not count.

    >>> count_calls("calculator(2+3) and calculator(4*5), calculator(", ["calculator"])
    2
    """
    return sum(1 for _ in _calls(text, _names_for(text, tools)))


def parse_calls(text: str, tools: Tools) -> list[ToolCall]:
    """Return all complete calls of the tools in a text, in order; calls inside an argument do not count.

    >>> [call.argument for call in parse_calls("calculator(2+3) and calculator(4*5), calculator(", ["calculator"])]
    ['2+3', '4*5']
    """
    names = _names_for(text, tools)
    simple = _simple_call(text, names)
    return list(_calls(text, names)) if simple is None else [simple] if simple.argument else []


def read_call(text: str, tools: Tools, finish_reason: str | None = None) -> CallReading:
    """Return the first complete call in a response with all its arguments, or the error of a failed call.

    Args:
        text: text of a response.
        tools: one or more tool names or `Tool`s.
        finish_reason: of the reply, if known. After "length" a failed call is always incomplete.

    >>> read_call('{"name": "calculator", "arguments": {"formula": "3*1', ["calculator"]).error
    'incomplete_call'
    """
    names = _names_for(text, tools)
    simple = _simple_call(text, names)
    if simple is not None and simple.argument:
        arguments = f"{{{_encode(names.parameters[simple.tool] or 'argument')}: {_encode(simple.argument)}}}"
        return CallReading(1, simple.tool, simple.argument, arguments)
    if not names.occur_in(text):
        return _NO_CALL
    first: CallMatch | None = None
    count = 0
    for match in find_calls(text, names):
        if match.arguments is not None:
            count += 1
            first = match if first is None or first.arguments is None else first
        elif first is None:
            first = match
    if first is not None and first.arguments is not None:
        return CallReading(count, first.tool, *first.arguments)
    tool, error = (first.tool, first.error) if first is not None else (None, None)
    if first is None and (match := names.direct(text)):
        tool, error = names.canonical_name(match[1]), "incomplete_call"
    return CallReading(tool=tool, error="incomplete_call" if tool and finish_reason == "length" else error)


def find_called_tool(text: str, tools: Tools) -> str | None:
    """Return the tool of the first complete call, else of a failed call, else None.

    >>> find_called_tool("calculator(48+48/", ["calculator"]), find_called_tool("a calculator", ["calculator"])
    ('calculator', None)
    """
    return read_call(text, tools).tool


def render_call(call: ToolCall, tool: Tool | None = None) -> str:
    """Return a call as the text `tool(argument)`, with quotes around an argument that would be read differently.

    Args:
        call: tool name and argument text.
        tool: the tool; needed for a tool of several arguments, whose argument text is a JSON object.

    Returns:
        The text, which `parse_call` reads back: the argument without surrounding whitespace, and with unpaired
        surrogates replaced (`records.clean_text`). Only an empty argument yields no call.

    >>> render_call(ToolCall("calculator", "3*19")), render_call(ToolCall("WikiSearch", "meaning of :)"))
    ('calculator(3*19)', 'WikiSearch("meaning of :)")')
    """
    if not isinstance(call, ToolCall):
        raise InputError(f"render_call: expected a ToolCall, found {call!r:.80}")
    if tool is not None:
        check_type("tool", tool, "a Tool", Tool)
    name, argument = call.tool, clean_text(call.argument)
    if tool is not None and isinstance(tool.call_parameter, Parameters):
        return _render_several(call, tool, tool.call_parameter)
    text = f"{name}({argument})"
    if _simple(argument) or (not _keyword(argument.lstrip()) and parse_calls(text, name) == [(name, argument.strip())]):
        return text
    escaped = argument.strip().replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}("{escaped}")'


def _render_several(call: ToolCall, tool: Tool, parameters: Parameters) -> str:
    """Return a call of a tool of several arguments: by position, by keyword, or with a JSON object."""
    decoded = decode_arguments(call.argument, parameters)
    if decoded is None:
        return f"{call.tool}({clean_text(call.argument)})"
    forms = [f"{call.tool}({form})" for form in render_arguments(json.loads(decoded.argument), parameters)]
    return next((form for form in forms if parse_calls(form, tool) == [(call.tool, decoded.argument)]), forms[-1])


def call_from_json(name: str, arguments_json: str, parameter: str | Parameters = "argument") -> ToolCall | None:
    """Return a native tool call, a name with JSON arguments, as a `ToolCall`.

    The argument is the value of `parameter`, else the only string or number among the values, else the only one with a
    common name such as "query". Python literals and wrapped arguments are read too. Otherwise return None.

    >>> call_from_json("calculator", '{"formula": "3*19"}', "formula")
    ToolCall(tool='calculator', argument='3*19')
    >>> call_from_json("calculator", '{"a": 3, "b": 19}', "formula")
    """
    check_type("arguments_json", arguments_json, "a text", str)
    check_type("parameter", parameter, "a name or Parameters", str, Parameters)
    arguments = decode_arguments(arguments_json, parameter)
    return None if arguments is None else ToolCall(name, arguments.argument)


def read_native_calls(
    calls: Sequence[tuple[str, str]], tool: Tool, finish_reason: str | None = None
) -> NativeCall | None:
    """Return the first readable native call of a tool as a text, else a failed call, else None if there are no calls.

    Args:
        calls: (name, JSON arguments) of the native calls of a reply.
        tool: the tool. Its name may be in another case or have a prefix such as "functions.".
        finish_reason: after "length" the last call is incomplete, even if its arguments are valid JSON by chance.

    >>> look_up = Tool("WikiSearch", "Searches.", str.upper, parameter="query")
    >>> read_native_calls([("functions.wikisearch", '{"query": "1) north", "k": 2}')], look_up).text
    'WikiSearch("1) north")'
    """
    check_type("tool", tool, "a Tool", Tool)
    if not calls:
        return None
    names = call_names(tool.signatures)
    complete = calls if finish_reason != "length" else calls[:-1]
    for name, text in complete:
        arguments = decode_arguments(text, tool.call_parameter) if names.tool(name) else None
        if arguments is not None:
            rendered = render_call(ToolCall(tool.name, arguments.argument), tool)
            if parse_call(rendered, tool) == ToolCall(tool.name, arguments.argument):
                return NativeCall(rendered, arguments.arguments)
    name, text = next((call for call in calls if names.tool(call[0])), calls[0])
    name, text = clean_text(name), clean_text(text)
    names_tool = names.tool(name) is not None
    raw = f'<tool_call>{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {text}}}</tool_call>'
    reading = read_call(raw, tool, finish_reason)
    if reading.tool is None or reading.n_calls:  # another name, or raw arguments that contain a call
        unread = {"name": tool.name, "arguments": None, "unread": {"name": name, "arguments": text}}
        raw = f"<tool_call>{json.dumps(unread, ensure_ascii=False)}</tool_call>"
    return NativeCall(raw, None, names_tool)


def _names_for(text: str, tools: Tools) -> CallNames:
    """Return the names of the tools whose calls are searched in a text; raise an `InputError` for other arguments."""
    check_type("text", text, "a text", str)
    if isinstance(tools, Tool):
        return call_names(tools.signatures)
    check_type("tools", tools, _TOOLS, str, Iterable)
    return call_names(tuple([_signature(tool) for tool in ([tools] if isinstance(tools, str) else tools)]))


def _signature(tool: str | Tool) -> str | tuple[str, str | Parameters]:
    check_type("tools", tool, _TOOLS, str, Tool)
    return tool if isinstance(tool, str) else (tool.name, tool.call_parameter)


def _simple_call(text: str, names: CallNames) -> ToolCall | None:
    """Return the call if the complete text is one simple call, perhaps without an argument; otherwise None."""
    head, _, rest = text.partition("(")
    is_one = isinstance(names.parameters.get(head), str)
    if is_one and rest.endswith(")") and _simple(rest, 0, len(rest) - 1):
        return ToolCall(head, clean_text(rest[:-1]).strip())
    return None


def _calls(text: str, names: CallNames) -> Iterator[ToolCall]:
    """Yield the complete calls in order."""
    for match in find_calls(text, names):
        if match.arguments is not None:
            yield ToolCall(match.tool, match.arguments.argument)
