"""Text <-> `ToolCall`: the calls that stand in a response, read and written.

A call is a tool's name, an opening parenthesis directly after it, and everything up to the parenthesis that closes it:
`calculator((12/60)*50)`. The scan balances parentheses, spans lines, and takes the first call that is complete.
Beside it, tool calls as JSON in the text are read: {"name", "arguments"} and the like, in Hermes tags, in an OpenAI
array. Every function is pure, never raises whatever the text, and takes linear time.

Quirks: a name is a whole word (no QA in AQUA), in any case if it is longer than three letters; one blank before the
parenthesis is allowed only where the call has a line of its own, so that "no calculator (or any tool)" is none;
quotes round the whole argument and a keyword (`query=`) are taken off; full-width parentheses are text; a call inside
another's argument is text; a call without an argument is none.
Not covered: ReAct ("Action: ..."), <function=...>, brackets or braces in place of parentheses, XML arguments. An
argument with a lone parenthesis ends at the first balanced place, unless it is quoted.
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

_JSON_TRIES = 16  # objects looked at in one text
_NAME_KEYS = ("name", "tool", "tool_name", "function", "action")
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "input", "tool_input", "action_input")
_KEYWORDS = frozenset(
    {"argument", "expression", "formula", "input", "prompt", "q", "query", "question", "search", "term", "text"}
)

_parentheses = re.compile(r"\(+|\)+").finditer
# An argument that is taken as it is: nothing that wraps it, and parentheses of one level.
_simple = re.compile(r"""[^()"'=`{\u201c\u2018]*(?:\([^()"'=`{\u201c\u2018]*\)[^()"'=`{\u201c\u2018]*)*""").fullmatch
_rest_of_line = re.compile(r"[ \t.`*]*(?:$|[\r\n])").match
# A quoted first argument, up to what closes the call or to a second argument: a parenthesis in quotes is text.
_quoted = re.compile(
    r"""\s{0,9}(?:\w+\s*=\s*)?(?:"([^"\\]*(?:\\.[^"\\]*)*)"|'([^'\\]*(?:\\.[^'\\]*)*)')\s*(\)|,(?=\s*(?:["']|\w+\s*=)))""",
    re.DOTALL,
).match
_object_end = partial(object_end, max_length=100_000, max_depth=MAX_DEPTH)
_escaped = re.compile(r"\\([\"'\\])").sub
_keyword = re.compile(r"(\w+)\s*=(?!=)\s*").match


Tools = str | Tool | Iterable[str | Tool]


class _Names(NamedTuple):
    """The patterns for a set of tools: compiled once for each."""

    call: Any  # search: name, blank, the argument where it is short and simple
    direct: Any  # search: name, and directly after it a parenthesis
    canonical: dict[str, str]  # a name as it may be written -> the name
    parameters: dict[str, str]  # name -> its argument's name, "" where it is not known


def parse_call(text: str, tools: Tools) -> ToolCall | None:
    """The first complete call of any of the tools; None where there is none, also where it was cut off.

    Args:
        text: a response.
        tools: a name, a `Tool`, or several; calls of other tools are text.

    >>> parse_call("It is calculator((12/60)*50).", ["calculator"])
    ToolCall(tool='calculator', argument='(12/60)*50')
    >>> parse_call("No calculator (or any tool) is needed: 72.", ["calculator"])
    """
    return next(_calls(text, _names(_key(tools))), None)


def count_calls(text: str, tools: Tools) -> int:
    """How many complete calls of the tools stand in a text; those inside an argument do not count.

    >>> count_calls("calculator(2+3) and calculator(4*5), calculator(", ["calculator"])
    2
    """
    return sum(1 for _ in _calls(text, _names(_key(tools))))


def parse_calls(text: str, tools: Tools) -> list[ToolCall]:
    """All complete calls of the tools in a text, in order; those inside an argument do not count.

    >>> [call.argument for call in parse_calls("calculator(2+3) and calculator(4*5), calculator(", ["calculator"])]
    ['2+3', '4*5']
    """
    names = _names(_key(tools))
    head, _, rest = text.partition("(")
    if rest.endswith(")") and head in names.parameters and _simple(rest, 0, len(rest) - 1):
        argument = rest[:-1].strip()  # the common case: the response is one simple call
        return [ToolCall(head, argument)] if argument else []
    return list(_calls(text, names))


def find_called_tool(text: str, tools: Tools) -> str | None:
    """The tool that a response uses: of its first complete call, else of one that was cut off after the parenthesis.

    >>> find_called_tool("calculator(48+48/", ["calculator"]), find_called_tool("a calculator", ["calculator"])
    ('calculator', None)
    """
    names = _names(_key(tools))
    call = next(_calls(text, names), None)
    if call is not None:
        return call.tool
    found = names.direct(text)
    return None if found is None else _canonical(found[1], names)


def render_call(call: ToolCall) -> str:
    """A call as it stands in a response.

    >>> render_call(ToolCall("calculator", "3*19"))
    'calculator(3*19)'
    """
    return f"{call.tool}({call.argument})"


def call_from_json(name: str, arguments_json: str, parameter: str = "argument") -> ToolCall | None:
    """A native tool call (a name, and its arguments as JSON) as a call of ours.

    The argument is the value of `parameter`, else the only string or number among the values; None where there is no
    such value.

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
        return tools.spelling
    return tuple([tool if isinstance(tool, str) else (tool.name, tool.parameter) for tool in tools])


@lru_cache(maxsize=256)
def _names(key: tuple[str | tuple[str, str], ...]) -> _Names:
    parameters = dict((item, "") if isinstance(item, str) else item for item in key)
    any_case = {name: len(name) > 3 for name in parameters}  # "qa" and "Qa" are no sign of a tool QA
    choices = [f"(?ai:{re.escape(name)})" if any_case[name] else re.escape(name) for name in sorted(parameters)]
    name = f"({'|'.join(choices)})" if choices else "(?!)()"
    plain = r"""[^()"'=`\u201c\u2018]{0,200}"""
    return _Names(
        call=re.compile(rf"(?<!\w){name}( ?)\((?:({plain}(?:\({plain}\){plain}){{0,20}})\))?").search,
        direct=re.compile(rf"(?<!\w){name}\(").search,
        canonical={name.lower(): name for name in parameters if any_case[name]} | {name: name for name in parameters},
        parameters=parameters,
    )


def _canonical(found: str, names: _Names) -> str:
    return names.canonical.get(found) or names.canonical[found.lower()]


def _calls(text: str, names: _Names) -> Iterator[ToolCall]:
    """The complete calls in order: those in parentheses, or where there are none, those in JSON."""
    if "(" not in text and "{" not in text:
        return
    position = 0
    closing: dict[int, int] | None = None
    none_yet = True
    last = text.rfind(")")
    while position < last and (found := names.call(text, position)):
        start, position = found.start(), found.end()
        written, blank, argument = found.groups()
        if blank and not _begins_line(text, start):
            continue
        end, quoted = position, None
        if argument is None:
            quoted = _quoted(text, position)
            if quoted and quoted[3] == ")":
                end = quoted.end()
            else:
                closing = _closing(text, position - 1) if closing is None else closing
                end = closing.get(position, 0)
        if not end or (blank and not _rest_of_line(text, end)):
            continue
        tool = _canonical(written, names)
        if argument is None:
            argument = _unwrapped(text[position : end - 1].strip(), quoted, names.parameters[tool])
        position = end
        argument = argument.strip()
        if argument:
            none_yet = False
            yield ToolCall(tool, argument)
    if none_yet and "{" in text:
        yield from _json_calls(text, names)


def _begins_line(text: str, start: int) -> bool:
    before = text[max(0, start - 8) : start].rstrip(" \t`*")
    return before.endswith(("\n", "\r")) if before else start <= 8


def _closing(text: str, position: int) -> dict[int, int]:
    """Where each argument from here on ends, after its parenthesis; one pass, however many calls are left open."""
    closing: dict[int, int] = {}
    opened: list[tuple[int, int]] = []  # where an argument begins, and the depth outside it
    depth = 0
    for found in _parentheses(text, position):
        start, end = found.span()
        if text[start] == "(":
            if text[start - 1] not in "()":
                opened.append((start + 1, depth))
            depth += end - start
        else:
            left = max(0, depth - (end - start))
            while opened and opened[-1][1] >= left:
                begin, outside = opened.pop()
                closing[begin] = start + depth - outside
            depth = left
    return closing


def _unwrapped(inside: str, quoted: re.Match[str] | None, parameter: str) -> str:
    """The argument without what only wraps it: a keyword, quotes, a JSON object of one value."""
    if quoted:
        return _escaped(r"\1", quoted[1] or quoted[2] or "").strip()
    keyword = _keyword(inside)
    if keyword and (keyword[1].lower() in _KEYWORDS or keyword[1] == parameter):
        inside = inside[keyword.end() :]
    between = inside[1:-1]
    if inside[:1] + inside[-1:] in {"``", "\u201c\u201d", "\u2018\u2019"} and not {*between} & {inside[0], inside[-1]}:
        return between.strip()
    if inside.startswith("{") and inside.endswith("}"):
        return _only_argument(_decoded(inside), parameter) or inside
    return inside


# --- JSON --------------------------------------------------------------------------------------------------------


def _json_calls(text: str, names: _Names) -> Iterator[ToolCall]:
    position = 0
    for _ in range(_JSON_TRIES):
        start = text.find("{", position)
        if start < 0:
            return
        end = _object_end(text, start)
        if end:
            yield from _calls_within(_decoded(text[start:end]), names)
        position = end or start + 1


def _decoded(text: str) -> Any:
    """The value of a JSON text; None where it is none, or an object that is too long or nested too deeply."""
    if text.startswith(("{", "[")) and _object_end(text, 0) != len(text):
        return None
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _calls_within(value: Any, names: _Names) -> Iterator[ToolCall]:
    """The calls in a decoded value, at any depth, in order."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, list):
            left += reversed(value)
        elif isinstance(value, dict):
            named = [value[key] for key in _NAME_KEYS if isinstance(value.get(key), str)]
            given = [value[key] for key in _ARGUMENT_KEYS if key in value]
            tool = names.canonical.get(named[0]) or names.canonical.get(named[0].lower()) if named else None
            if tool is None:
                left += reversed(list(value.values()))
            elif given and (argument := _only_argument(given[0], names.parameters[tool])):
                yield ToolCall(tool, argument)


def _only_argument(value: Any, parameter: str) -> str | None:
    """The text of the one argument among decoded arguments; None where there is none, or several."""
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
