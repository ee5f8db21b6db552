"""JSON text that a model or a server wrote: its value in the strict sense, and where an object in a text ends."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

__all__ = ["MAX_DEPTH", "json_value", "object_end"]

MAX_DIGITS = 4300  # Python reads and writes no longer whole number
MAX_DEPTH = 64


def json_value(text: str, max_depth: int | None = MAX_DEPTH) -> Any:
    """The value of JSON text, in the strict sense.

    Refused is what has two meanings or none in Python: a name that stands twice in an object, NaN, numbers beyond a
    float or of more than 4,300 digits.

    Args:
        max_depth: lists and objects in each other; None for as many as Python reads.

    Raises:
        ValueError: it is none; the message is for people, and short.

    >>> json_value('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: 'a' stands twice in one object
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite, parse_int=_short
        )
    except RecursionError:
        raise ValueError("too many lists and objects in each other") from None
    depth, layer = 0, [value]
    while max_depth is not None and (layer := [part for each in layer for part in _parts(each)]):
        depth += 1
        if depth > max_depth:
            raise ValueError("too many lists and objects in each other")
    return value


# Strings, and brackets outside of them. With all brackets, a quote that nothing closes is passed over; with braces
# alone, its string goes to the end of the text, and an escape outside of strings is no brace.
_brackets = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{\]}]', re.DOTALL)
_braces = re.compile(r'\\.|"[^"\\]*(?:\\.[^"\\]*)*"?|[{}]', re.DOTALL)


def object_end(
    text: str, start: int, *, brackets: bool = True, max_length: int | None = None, max_depth: int | None = None
) -> int:
    """The end of the JSON object that begins here; 0 where none begins, or it is cut off, too long or too deep.

    Args:
        brackets: square ones count as well, and a list may begin here.

    >>> object_end('ping {"host": "}"}, please', 5)
    18
    """
    depth, marks = 0, _brackets if brackets else _braces
    if text[start : start + 1] not in (("{", "[") if brackets else ("{",)):
        return 0
    for found in marks.finditer(text, start, len(text) if max_length is None else start + max_length):
        if found[0] in ("{", "["):
            depth += 1
            if max_depth is not None and depth > max_depth:
                return 0
        elif found[0] in ("}", "]"):
            depth -= 1
            if not depth:
                return found.end()
    return 0


def _parts(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise ValueError(f"{name!r:.80} stands twice in one object")
        made[name] = value
    return made


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    if math.isfinite(value := float(digits)):
        return value
    raise ValueError(f"{digits:.40} is beyond the range of a float")


def _short(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of more than {MAX_DIGITS} digits")
    return int(digits)
