"""The calls in a text: those in parentheses, merged by position with those of other formats.

The rules of calls in parentheses are listed in `calls`. Every search is linear: `_closing_positions` pairs all
parentheses in one pass, and a `LiteralReader` limits the characters that are read repeatedly.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import Any

from toolrlef_data.tools.parsing.call_arguments import (
    KEYWORDS,
    Arguments,
    bare_argument,
    json_object,
    select_argument,
    several_arguments,
)
from toolrlef_data.tools.parsing.call_formats import CallMatch, CallNames, find_structured_calls
from toolrlef_data.tools.parsing.json_text import LiteralReader
from toolrlef_data.tools.parsing.parameters import Parameters, read_list

__all__ = ["find_calls"]

_parentheses = re.compile(r"\(+|\)+").finditer
_rest_of_line = re.compile(r"[ \t.`*]*(?:$|[\r\n])").match
# A quoted first argument, up to the closing parenthesis or a second argument. Parentheses in quotes are text.
_STRING = r""""([^"\\]*(?:\\.[^"\\]*)*)"|'([^'\\]*(?:\\.[^'\\]*)*)'"""
_quoted = re.compile(
    rf"""\s{{0,9}}(?:\w+\s*=\s*)?(?:{_STRING})\s*(\)|,(?=\s*(?:["']|\w+\s*=)))""",
    re.DOTALL,
).match
# One of several arguments: a keyword, and a string, a number or a word.
_member = re.compile(
    rf"""\s{{0,9}}(?:(\w{{1,60}})\s{{0,9}}=(?!=)\s{{0,9}})?(?:{_STRING}|([\w.+-]{{1,60}}))\s{{0,9}}([,)])""", re.DOTALL
).match
_one_string = re.compile(_STRING, re.DOTALL).fullmatch
_escaped = re.compile(r"\\([\"'\\])").sub
_keyword = re.compile(r"(\w+)\s*=(?!=)\s*").match
_keywords = re.compile(r"(?:^|,)\s*(\w+)\s*=(?!=)\s*").finditer
_closing = re.compile(r"\s*\)").match
_object_key = re.compile(r"""\s*\{\s*["']\w+["']\s*:""").match


def find_calls(text: str, names: CallNames) -> Iterator[CallMatch]:
    """Yield the complete and the failed calls of all formats in order; the calls inside a call are text."""
    if not names.occur_in(text):
        return
    reader = LiteralReader(text)
    structured = deque(find_structured_calls(text, names))
    parenthesised = _Parenthesised(text, names, reader)
    position, span = 0, (0, 0)
    call = parenthesised.next_call(0)
    while structured or call is not None:
        if structured and (call is None or structured[0].start <= call.start):
            match = structured.popleft()
            if match.start < position and (match.start, match.end) != span:
                continue
        else:
            assert call is not None
            match = call
        yield match
        position, span = max(position, match.end), (match.start, match.end)
        if call is not None and (match is call or call.start < position):
            call = parenthesised.next_call(position)


class _Parenthesised:
    """The complete calls `tool(argument)` of a text."""

    def __init__(self, text: str, names: CallNames, reader: LiteralReader) -> None:
        self.text, self.names, self.reader = text, names, reader
        self.closing: dict[int, int] | None = None
        self.last_parenthesis = text.rfind(")")

    def next_call(self, position: int) -> CallMatch | None:
        """Return the first complete call that starts at or after a position; positions must not decrease."""
        text, names = self.text, self.names
        while position < self.last_parenthesis and (match := names.call(text, position)):
            start, position = match.start(), match.end()
            name, blank, argument = match.groups()
            if blank and not _begins_line(text, start):
                continue
            tool = names.canonical_name(name)
            parameter = names.parameters[tool]
            end, arguments, error = position, None, None
            if isinstance(parameter, Parameters):
                position = position if argument is None else match.start(3)
                end, arguments, error = self._several(position, parameter)
            elif argument is not None:
                arguments = bare_argument(argument, parameter)
            else:
                end, arguments, error = self._arguments(position, parameter)
            if not end or (blank and not _rest_of_line(text, end)):
                continue
            position = end
            if arguments is not None or error is not None:
                return CallMatch(start, end, tool, arguments, error)
        return None

    def _arguments(self, position: int, parameter: str) -> tuple[int, Arguments | None, str | None]:
        """Return the end of the call whose arguments start at a position, its arguments, and its error.

        The end is 0 if the call is cut off. A call without an argument has no arguments and no error.
        """
        text = self.text
        if _object_key(text, position):
            return self._object(position, parameter)
        if (strict := self._members(position, parameter)) is not None:
            return strict
        end = self._closing_end(position)
        if not end:
            return 0, None, None
        quoted = _quoted(text, position)  # the rest is not a list of values
        if quoted and quoted[3] == ",":
            argument = _escaped(r"\1", quoted[1] or quoted[2] or "")
        else:
            argument = _unwrapped(text[position : end - 1].strip(), parameter)
        return end, bare_argument(argument, parameter), None

    def _several(self, position: int, parameters: Parameters) -> tuple[int, Arguments | None, str | None]:
        """Read the arguments of a tool of several arguments; see `_arguments`."""
        end, members = read_list(self.text, position, self.reader, parameters)
        if not end:
            return self._closing_end(position), None, "unreadable_call"
        arguments = several_arguments(members)
        return end, arguments, "unreadable_call" if members and arguments is None else None

    def _object(self, position: int, parameter: str) -> tuple[int, Arguments | None, str | None]:
        """Read an object of arguments, such as `({"query": "tides"})`."""
        literal = self.reader.read(position)
        if literal.state == "complete" and (closing := _closing(self.text, literal.end)):
            arguments = select_argument(literal.value, parameter)
            return closing.end(), arguments, None if arguments else "unreadable_call"
        return self._closing_end(position), None, "unreadable_call"

    def _members(self, position: int, parameter: str) -> tuple[int, Arguments | None, str | None] | None:
        """Read a list of values, some of them quoted, such as `("tides", k=3)`; return None for another text."""
        members: dict[str, Any] = {}
        first_quoted = ""
        while self.reader.steps <= self.reader.max_steps and (match := _member(self.text, position)):
            keyword, *quoted, word, mark = match.groups()
            self.reader.steps += match.end() - position
            position = match.end()
            value = _value(word) if word else _escaped(r"\1", quoted[0] or quoted[1] or "")
            if word and not keyword and (not members or isinstance(value, str)):
                return None  # bare words are part of a text
            key = keyword or (str(len(members)) if members else parameter or "argument")
            members.setdefault(key, value)
            first_quoted = first_quoted or ("" if word else key)
            if mark == ")":
                break
        else:
            return None
        if not first_quoted:
            return None
        named = [key for key in members if key == parameter] or [key for key in members if key.lower() in KEYWORDS]
        chosen = members[(named or [first_quoted])[0]]
        argument = bare_argument(str(chosen), parameter)
        return position, argument and argument._replace(arguments=json_object(members)), None

    def _closing_end(self, position: int) -> int:
        """Return the end after the balanced closing parenthesis of the argument at a position, or 0."""
        if self.closing is None:
            self.closing = _closing_positions(self.text, position - 1)
        return self.closing.get(position, 0)


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


def _unwrapped(inside: str, parameter: str) -> str:
    """Return the argument without a keyword or curly quotes; of several keywords, the value of the parameter."""
    keyword = _keyword(inside)
    keywords = list(_keywords(inside)) if keyword else []
    if len(keywords) > 1 and (named := next((i for i, match in enumerate(keywords) if match[1] == parameter), -1)) >= 0:
        end = keywords[named + 1].start() if named + 1 < len(keywords) else len(inside)
        value = inside[keywords[named].end() : end].strip()
        string = _one_string(value)
        return _escaped(r"\1", string[1] or string[2] or "") if string else value
    if keyword and (keyword[1].lower() in KEYWORDS or keyword[1] == parameter):
        inside = inside[keyword.end() :]
    unquoted = inside[1:-1]
    if inside[:1] + inside[-1:] in {"``", "\u201c\u201d", "\u2018\u2019"} and not {*unquoted} & {inside[0], inside[-1]}:
        return unquoted
    return inside


def _value(word: str) -> Any:
    literal = LiteralReader(word).read(0)
    return literal.value if literal.state == "complete" and literal.end == len(word) else word
