"""Strict parsing of JSON text written by a model or a server, and detection of the end of a JSON object in a text."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

__all__ = ["MAX_DEPTH", "json_value", "object_end"]

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
    depth, level = 0, [value]
    while max_depth is not None and (level := [child for parent in level for child in _children(parent)]):
        depth += 1
        if depth > max_depth:
            raise ValueError("too many lists and objects in each other")
    return value


# Strings, and brackets outside strings. `_brackets` ignores an unclosed quote. `_braces` extends an unclosed string to
# the end of the text and ignores escaped braces outside strings.
_brackets = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{\]}]', re.DOTALL)
_braces = re.compile(r'\\.|"[^"\\]*(?:\\.[^"\\]*)*"?|[{}]', re.DOTALL)


def object_end(
    text: str, start: int, *, brackets: bool = True, max_length: int | None = None, max_depth: int | None = None
) -> int:
    """Return the end of the JSON object that starts at `start`, or 0 if there is none.

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
    depth, marks = 0, _brackets if brackets else _braces
    if text[start : start + 1] not in (("{", "[") if brackets else ("{",)):
        return 0
    for mark in marks.finditer(text, start, len(text) if max_length is None else start + max_length):
        if mark[0] in ("{", "["):
            depth += 1
            if max_depth is not None and depth > max_depth:
                return 0
        elif mark[0] in ("}", "]"):
            depth -= 1
            if not depth:
                return mark.end()
    return 0


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
