"""JSON text written by a model or a server: strict parsing, a lenient reader, and the end of an object in a text."""

from __future__ import annotations

import itertools
import json
import math
import re
from typing import Any, NamedTuple, NoReturn

from toolrlef_data.records import clean_text

__all__ = ["MAX_DEPTH", "Literal", "LiteralReader", "check_depth", "json_value", "object_end"]

MAX_DIGITS = 4300  # of an integer; the limit of Python
MAX_DEPTH = 64


def json_value(text: str, max_depth: int | None = MAX_DEPTH) -> Any:
    """Parse JSON text strictly.

    Duplicate names in an object, NaN, infinity, numbers beyond the range of a float and integers of more than
    `MAX_DIGITS` digits are errors. Error messages reach models (see `functions.arguments`), so they do not change.

    Args:
        max_depth: maximum nesting of lists and objects; None for Python's limit.

    Raises:
        ValueError: the text is not strict JSON; the message is short and for display.

    >>> json_value('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: 'a' stands twice in one object
    """
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object_of,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
            parse_int=_short_int,
        )
    except RecursionError:
        raise ValueError("too many lists and objects in each other") from None
    if max_depth is not None:
        check_depth(value, max_depth)
    return value


def check_depth(value: Any, max_depth: int) -> None:
    """Raise a `ValueError` if lists and objects of a JSON value are nested deeper than `max_depth`."""
    depth, level = 0, [value]
    while level := [child for parent in level for child in _children(parent)]:
        depth += 1
        if depth > max_depth:
            raise ValueError("too many lists and objects in each other")


# Strings, and brackets outside strings. `_brackets` must end at an unescaped quote: it searches the rest of the text
# for the end of an unclosed string. `_braces` extends an unclosed string to the end of the text and ignores escaped
# braces outside strings.
_brackets = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{\]}]', re.DOTALL)
_quotes = re.compile(r'\\.|"', re.DOTALL)
_bare_brackets = re.compile(r"[\[{\]}]")
_braces = re.compile(r'\\.|"[^"\\]*(?:\\.[^"\\]*)*"?|[{}]', re.DOTALL)


def object_end(
    text: str, start: int, *, brackets: bool = True, max_length: int | None = None, max_depth: int | None = None
) -> int:
    """Return the end of the JSON object that starts at `start`, or 0 if there is none; runs in linear time.

    There is none if no object starts there, or if it is cut off, longer than `max_length` or deeper than `max_depth`.

    Args:
        text: the text.
        start: index of the opening brace.
        brackets: also accept a list, and count square brackets.
        max_length: maximum number of characters; None for no limit.
        max_depth: maximum nesting; None for no limit.

    >>> object_end('ping {"host": "}"}, please', 5)
    18
    """
    depth = 0
    if text[start : start + 1] not in (("{", "[") if brackets else ("{",)):
        return 0
    end = len(text) if max_length is None else min(len(text), start + max_length)
    if brackets:  # an unclosed quote is ignored, and no string closes after the last unescaped quote
        last_quote = _last_quote(text, start, end)
        marks = itertools.chain(
            _brackets.finditer(text, start, last_quote), _bare_brackets.finditer(text, last_quote, end)
        )
    else:
        marks = itertools.chain(_braces.finditer(text, start, end))
    for mark in marks:
        if mark[0] in ("{", "["):
            depth += 1
            if max_depth is not None and depth > max_depth:
                return 0
        elif mark[0] in ("}", "]"):
            depth -= 1
            if not depth:
                return mark.end()
    return 0


class Literal(NamedTuple):
    """A value that was read from a text.

    Args:
        value: lists, objects, strings, numbers, booleans and None.
        end: the end of the value; if the state is not "complete", the end of what could be read.
        state: "complete"; "cut": the text, or the tag or fence around the value, ends inside it; or "invalid".
    """

    value: Any
    end: int
    state: str


class LiteralReader:
    """Reads JSON and Python literals at any positions of one text, without evaluation, in linear time in total.

    Beyond JSON it accepts single quotes, True, False and None, names without quotes as keys, trailing commas, and the
    quotes of Gemma. After `steps` exceeds its limit, every literal is invalid.

    >>> LiteralReader("call: {'formula': '7*8', 'exact': True,} please").read(6)
    Literal(value={'formula': '7*8', 'exact': True}, end=40, state='complete')
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.steps = 0  # searched characters, including those that are searched again
        self.max_steps = 6 * len(text) + 1000

    def read(self, start: int) -> Literal:
        """Return the literal that starts at a position, after optional whitespace."""
        containers: list[Any] = []
        keys: list[str] = []  # the last key of each container
        position, expected = start, "value"
        while self.steps <= self.max_steps:
            match = _token(self.text, position)
            if match is None:
                return self._failure(position)
            item, kind = match[match.lastgroup or 0], match.lastgroup
            self.steps += match.end() - position
            inside_object = bool(containers) and isinstance(containers[-1], dict)
            value: Any = None
            if item in (":", ",") and kind == "mark":
                if expected != ("colon" if item == ":" else "comma"):
                    break
                expected = "key" if item == "," and inside_object else "value"
            elif item in ("{", "[") and kind == "mark":
                if expected != "value" or len(containers) >= MAX_DEPTH:
                    break
                containers.append({} if item == "{" else [])
                keys.append("")
                expected = "key" if item == "{" else "value"
            elif expected == "key" and (kind != "mark"):
                keys[-1], expected = str(_scalar(item, kind)) if kind in _STRINGS else item, "colon"
            else:
                if kind == "mark":  # a closing bracket
                    is_open = inside_object if item == "}" else bool(containers) and not inside_object
                    if not is_open or expected not in ("comma", "key" if inside_object else "value"):
                        break
                    value = containers.pop()
                    keys.pop()
                elif expected != "value" or (value := _scalar(item, kind)) is _INVALID:
                    break
                if not containers:
                    return Literal(value, match.end(), "complete")
                if isinstance(containers[-1], dict):
                    containers[-1][keys[-1]] = value
                else:
                    containers[-1].append(value)
                expected = "comma"
            position = match.end()
        return Literal(None, position, "invalid")

    def _failure(self, position: int) -> Literal:
        """Return the literal that ends before something that is not a token."""
        blank = _blank(self.text, position)
        rest = blank.end() if blank else position
        self.steps += rest - position + 1
        if self.text.startswith(("'", '"', *_GEMMA_QUOTES), rest):  # an unclosed string ends with its line
            self.steps += len(self.text) - rest
            line_end = self.text.find("\n", rest)
            return Literal(None, len(self.text) if line_end < 0 else line_end, "cut")
        return Literal(None, position, "cut" if _outer_end(self.text, rest) else "invalid")


_GEMMA_QUOTES = ('<|"|>', "<escape>")
_INVALID = object()
_STRINGS = {"double", "single", "gemma", "escape"}
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None, "NaN": math.nan}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0"} | {mark: mark for mark in "\"'\\/"}
_token = re.compile(
    r"""\s*(?:(?P<mark>[{}\]:,]|\[(?!/))
    |"(?P<double>[^"\\]*(?:\\.[^"\\]*)*)"|'(?P<single>[^'\\]*(?:\\.[^'\\]*)*)'
    |<\|"\|>(?P<gemma>.*?)<\|"\|>|<escape>(?P<escape>.*?)<escape>
    |(?P<number>-?[0-9][0-9.]*(?:[eE][-+]?[0-9]+)?)|(?P<word>\w+))""",
    re.DOTALL | re.VERBOSE,
).match
_blank = re.compile(r"\s*").match
_outer_end = re.compile(r"$|</|<[|\uff5c]|```|\[/").match
_string_escape = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL).sub


def _scalar(token: str, kind: str | None) -> Any:
    """Return the value of a string, number or word; `_INVALID` for a word without a value and a number without end."""
    if kind in ("double", "single"):
        return clean_text(_string_escape(_unescaped, token) if "\\" in token else token)
    if kind == "word":
        return _WORDS.get(token, _INVALID)
    if kind == "number":
        try:
            return int(token) if token.lstrip("-").isdigit() else float(token)
        except ValueError:  # more than `MAX_DIGITS` digits, or two points
            return _INVALID
    return clean_text(token)


def _unescaped(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    return chr(int(code, 16)) if code else _ESCAPES.get(match[3], match[0])


def _last_quote(text: str, start: int, end: int) -> int:
    """Return the position after the last unescaped quote of a range, or `start` if there is none."""
    return max((mark.end() for mark in _quotes.finditer(text, start, end) if mark[0] == '"'), default=start)


def _children(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"{name!r:.80} stands twice in one object")
        members[name] = value
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite_float(digits: str) -> float:
    if math.isfinite(value := float(digits)):
        return value
    raise ValueError(f"{digits:.40} is beyond the range of a float")


def _short_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of more than {MAX_DIGITS} digits")
    return int(digits)
