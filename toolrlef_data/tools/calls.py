"""Parsing and rendering of tool calls in the text of a response.

A call is a tool's name, directly followed by parentheses that contain the argument: `calculator((12/60)*50)`. The
parser balances parentheses across lines. If a response has no such call, JSON tool calls in the text count instead:
{"name", "arguments"} and variants, in Hermes tags, in an OpenAI array. All functions are pure, accept any text without
raising, and run in linear time.

Rules:

- A name is a complete word (no QA in AQUA). Case is ignored if the name is longer than three letters.
- One blank before the parenthesis is allowed only if the call is alone on its line, so that "no calculator (or any
  tool)" is not a call.
- Quotes around the argument and a keyword (`query=`) are removed.
- A call inside the argument of another call is text.
- A call without an argument does not count.
- Full-width parentheses are text.

Not covered: ReAct ("Action: ..."), <function=...>, brackets or braces instead of parentheses, XML arguments. An
argument with an unbalanced parenthesis ends at the first balanced position, unless it is quoted.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple

from toolrlef_data.records import ToolCall
from toolrlef_data.tools.json_text import MAX_DEPTH, object_end
from toolrlef_data.tools.tool import Tool

__all__ = ["call_from_json", "count_calls", "find_called_tool", "parse_call", "parse_calls", "render_call"]

_MAX_JSON_OBJECTS = 16  # per text
_NAME_KEYS = ("name", "tool", "tool_name", "function", "action")
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "input", "tool_input", "action_input")
_KEYWORDS = frozenset(
    {"argument", "expression", "formula", "input", "prompt", "q", "query", "question", "search", "term", "text"}
)

_parentheses = re.compile(r"\(+|\)+").finditer
# An argument that needs no unwrapping: no quotes or keyword, and parentheses of one level.
_simple = re.compile(r"""[^()"'=`{\u201c\u2018]*(?:\([^()"'=`{\u201c\u2018]*\)[^()"'=`{\u201c\u2018]*)*""").fullmatch
_rest_of_line = re.compile(r"[ \t.`*]*(?:$|[\r\n])").match
# A quoted first argument, up to the closing parenthesis or a second argument. Parentheses in quotes are text.
_quoted = re.compile(
    r"""\s{0,9}(?:\w+\s*=\s*)?(?:"([^"\\]*(?:\\.[^"\\]*)*)"|'([^'\\]*(?:\\.[^'\\]*)*)')\s*(\)|,(?=\s*(?:["']|\w+\s*=)))""",
    re.DOTALL,
).match
_object_end = partial(object_end, max_length=100_000, max_depth=MAX_DEPTH)
_escaped = re.compile(r"\\([\"'\\])").sub
_keyword = re.compile(r"(\w+)\s*=(?!=)\s*").match


Tools = str | Tool | Iterable[str | Tool]


class _Names(NamedTuple):
    """The compiled patterns and the names of a set of tools."""

    call: Any  # search function; groups: name, blank, the argument if it is short and simple
    direct: Any  # search function for a name that is directly followed by a parenthesis
    canonical: dict[str, str]  # accepted spelling -> name of the tool
    parameters: dict[str, str]  # name of the tool -> name of its argument, "" if unknown


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
    return next(_calls(text, _names(_key(tools))), None)


def count_calls(text: str, tools: Tools) -> int:
    """Return the number of complete calls of the tools in a text; calls inside an argument do not count.

    >>> count_calls("calculator(2+3) and calculator(4*5), calculator(", ["calculator"])
    2
    """
    return sum(1 for _ in _calls(text, _names(_key(tools))))


def parse_calls(text: str, tools: Tools) -> list[ToolCall]:
    """Return all complete calls of the tools in a text, in order; calls inside an argument do not count.

    >>> [call.argument for call in parse_calls("calculator(2+3) and calculator(4*5), calculator(", ["calculator"])]
    ['2+3', '4*5']
    """
    names = _names(_key(tools))
    head, _, rest = text.partition("(")
    if rest.endswith(")") and head in names.parameters and _simple(rest, 0, len(rest) - 1):
        argument = rest[:-1].strip()  # fast path: the response is one simple call
        return [ToolCall(head, argument)] if argument else []
    return list(_calls(text, names))


def find_called_tool(text: str, tools: Tools) -> str | None:
    """Return the tool of the first complete call, else of a call that is cut off after the parenthesis, else None.

    >>> find_called_tool("calculator(48+48/", ["calculator"]), find_called_tool("a calculator", ["calculator"])
    ('calculator', None)
    """
    names = _names(_key(tools))
    call = next(_calls(text, names), None)
    if call is not None:
        return call.tool
    match = names.direct(text)
    return None if match is None else _canonical(match[1], names)


def render_call(call: ToolCall) -> str:
    """Return a call as the text `tool(argument)`.

    Args:
        call: tool name and argument text.

    Returns:
        The text, which `parse_call` reads back.

    >>> render_call(ToolCall("calculator", "3*19"))
    'calculator(3*19)'
    """
    return f"{call.tool}({call.argument})"


def call_from_json(name: str, arguments_json: str, parameter: str = "argument") -> ToolCall | None:
    """Return a native tool call, a name with JSON arguments, as a `ToolCall`.

    The argument is the value of `parameter`, else the only string or number among the values. Otherwise return None.

    >>> call_from_json("calculator", '{"formula": "3*19"}', "formula")
    ToolCall(tool='calculator', argument='3*19')
    >>> call_from_json("calculator", '{"a": 3, "b": 19}', "formula")
    """
    argument = _only_argument(_decoded(arguments_json.strip()), parameter)
    return ToolCall(name, argument) if argument else None


def _key(tools: Tools) -> tuple[str | tuple[str, str], ...]:
    if isinstance(tools, str):
        return (tools,)
    if isinstance(tools, Tool):
        return tools.signatures
    return tuple([tool if isinstance(tool, str) else (tool.name, tool.parameter) for tool in tools])


@lru_cache(maxsize=256)
def _names(key: tuple[str | tuple[str, str], ...]) -> _Names:
    parameters = dict((item, "") if isinstance(item, str) else item for item in key)
    any_case = {name: len(name) > 3 for name in parameters}  # "qa" and "Qa" do not mean a tool QA
    choices = [f"(?ai:{re.escape(name)})" if any_case[name] else re.escape(name) for name in sorted(parameters)]
    name = f"({'|'.join(choices)})" if choices else "(?!)()"
    plain = r"""[^()"'=`\u201c\u2018]{0,200}"""
    return _Names(
        call=re.compile(rf"(?<!\w){name}( ?)\((?:({plain}(?:\({plain}\){plain}){{0,20}})\))?").search,
        direct=re.compile(rf"(?<!\w){name}\(").search,
        canonical={name.lower(): name for name in parameters if any_case[name]} | {name: name for name in parameters},
        parameters=parameters,
    )


def _canonical(name: str, names: _Names) -> str:
    return names.canonical.get(name) or names.canonical[name.lower()]


def _calls(text: str, names: _Names) -> Iterator[ToolCall]:
    """Yield the complete calls in order: calls in parentheses, or if there are none, JSON calls."""
    if "(" not in text and "{" not in text:
        return
    position = 0
    closing: dict[int, int] | None = None
    has_calls = False
    last_parenthesis = text.rfind(")")
    while position < last_parenthesis and (match := names.call(text, position)):
        start, position = match.start(), match.end()
        name, blank, argument = match.groups()
        if blank and not _begins_line(text, start):
            continue
        end, quoted = position, None
        if argument is None:
            quoted = _quoted(text, position)
            if quoted and quoted[3] == ")":
                end = quoted.end()
            else:
                closing = _closing_positions(text, position - 1) if closing is None else closing
                end = closing.get(position, 0)
        if not end or (blank and not _rest_of_line(text, end)):
            continue
        tool = _canonical(name, names)
        if argument is None:
            argument = _unwrapped(text[position : end - 1].strip(), quoted, names.parameters[tool])
        position = end
        argument = argument.strip()
        if argument:
            has_calls = True
            yield ToolCall(tool, argument)
    if not has_calls and "{" in text:
        yield from _json_calls(text, names)


def _begins_line(text: str, start: int) -> bool:
    prefix = text[max(0, start - 8) : start].rstrip(" \t`*")
    return prefix.endswith(("\n", "\r")) if prefix else start <= 8


def _closing_positions(text: str, position: int) -> dict[int, int]:
    """Return argument start -> end after its closing parenthesis, from `position` on.

    One pass over the text, so that many unclosed calls still take linear time.
    """
    closing: dict[int, int] = {}
    opened: list[tuple[int, int]] = []  # start of an argument, and the depth outside it
    depth = 0
    for match in _parentheses(text, position):
        start, end = match.span()
        if text[start] == "(":
            if text[start - 1] not in "()":
                opened.append((start + 1, depth))
            depth += end - start
        else:
            new_depth = max(0, depth - (end - start))
            while opened and opened[-1][1] >= new_depth:
                begin, outside = opened.pop()
                closing[begin] = start + depth - outside
            depth = new_depth
    return closing


def _unwrapped(inside: str, quoted: re.Match[str] | None, parameter: str) -> str:
    """Return the argument without a keyword, quotes or a JSON object of one value around it."""
    if quoted:
        return _escaped(r"\1", quoted[1] or quoted[2] or "").strip()
    keyword = _keyword(inside)
    if keyword and (keyword[1].lower() in _KEYWORDS or keyword[1] == parameter):
        inside = inside[keyword.end() :]
    unquoted = inside[1:-1]
    if inside[:1] + inside[-1:] in {"``", "\u201c\u201d", "\u2018\u2019"} and not {*unquoted} & {inside[0], inside[-1]}:
        return unquoted.strip()
    if inside.startswith("{") and inside.endswith("}"):
        return _only_argument(_decoded(inside), parameter) or inside
    return inside


# --- JSON --------------------------------------------------------------------------------------------------------


def _json_calls(text: str, names: _Names) -> Iterator[ToolCall]:
    position = 0
    for _ in range(_MAX_JSON_OBJECTS):
        start = text.find("{", position)
        if start < 0:
            return
        end = _object_end(text, start)
        if end:
            yield from _calls_within(_decoded(text[start:end]), names)
        position = end or start + 1


def _decoded(text: str) -> Any:
    """Return the value of a JSON text, or None if it is invalid, too long or nested too deeply."""
    if text.startswith(("{", "[")) and _object_end(text, 0) != len(text):
        return None
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _calls_within(value: Any, names: _Names) -> Iterator[ToolCall]:
    """Yield the calls in a decoded value, at any depth, in order."""
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack += reversed(value)
        elif isinstance(value, dict):
            spellings = [value[key] for key in _NAME_KEYS if isinstance(value.get(key), str)]
            arguments = [value[key] for key in _ARGUMENT_KEYS if key in value]
            tool = names.canonical.get(spellings[0]) or names.canonical.get(spellings[0].lower()) if spellings else None
            if tool is None:
                stack += reversed(list(value.values()))
            elif arguments and (argument := _only_argument(arguments[0], names.parameters[tool])):
                yield ToolCall(tool, argument)


def _only_argument(value: Any, parameter: str) -> str | None:
    """Return the text of the only argument among decoded arguments, or None if there are none or several."""
    if isinstance(value, str) and value.lstrip().startswith("{"):  # arguments encoded twice
        value = _decoded(value.strip()) or value
    if isinstance(value, dict):
        candidates = [value[parameter]] if parameter in value else list(value.values())
        candidates = [item for item in candidates if _text(item)]
        value = candidates[0] if len(candidates) == 1 else None
    return _text(value) or None


def _text(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    return str(value).strip() if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""
