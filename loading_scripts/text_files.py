"""Reading upstream's text files row by row: lines of UTF-8, JSON Lines, JSON arrays, JSON objects with a list of rows.

JSON Lines and JSON arrays of any size are read in constant memory. A file that is one JSON object, such as those of
MLQA and TriviaQA, is parsed as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from toolrlef_data.records import InputError

__all__ = ["read_json", "read_json_object", "read_lines"]

CHARS = 1 << 20  # characters of a JSON array that are read at once
_blanks = re.compile(r"[ \t\n\r]*").match
_decoder = json.JSONDecoder()


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file without their ends; raise `InputError` if it is not UTF-8 or has only white space."""
    is_empty = True
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line in file:
                is_empty = is_empty and not line.strip()
                yield line.removesuffix("\n")
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    if is_empty:
        raise InputError(f"{path} is empty: it contains no rows")


def read_json(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (location, row) of a file of JSON Lines or one JSON array of rows, whatever its extension."""
    if _is_array(path):
        rows: Iterator[tuple[str, Any]] = ((f"{path}, row {n}", row) for n, row in enumerate(_items(path), start=1))
    else:
        lines = ((f"{path}, line {n}", line) for n, line in enumerate(read_lines(path), start=1) if line.strip())
        rows = ((location, _parse_json(line, location)) for location, line in lines)
    for location, row in rows:
        yield location, _require_object(row, location)


def read_json_object(
    path: Path, key: str, trim: Callable[[dict[str, Any]], Any] | None = None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (location, row) of a file that is one JSON object with a list of rows under a key, such as {"data": [...]}.

    Args:
        path: the file.
        key: the key of the rows.
        trim: JSON object -> its replacement, which can be smaller to save memory; called for inner objects first.
    """
    document = _require_object(_parse_json(_read_text(path), str(path), trim), str(path))
    rows = document.get(key)
    if not isinstance(rows, list):
        raise InputError(f"{path}: expected a list under the key {key!r}; found the keys: {', '.join(document)}")
    for n, row in enumerate(rows, start=1):
        yield f"{path}, {key} {n}", _require_object(row, f"{path}, {key} {n}")


def _is_array(path: Path) -> bool:
    """Return whether the first character of a file that is no white space is "["."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            parts = iter(lambda: file.read(1000), "")
            return next((part.lstrip()[0] for part in parts if part.strip()), "") == "["
    except UnicodeDecodeError:
        raise _not_utf8(path) from None


def _items(path: Path) -> Iterator[Any]:
    """Yield the items of a file that is one JSON array; an error has the position in the whole file."""
    with path.open(encoding="utf-8-sig") as file:
        try:
            yield from _parse_items(lambda count: file.read(count))
        except UnicodeDecodeError:
            raise _not_utf8(path) from None
        except (ValueError, RecursionError):
            _parse_json(_read_text(path), str(path))
            raise


def _parse_items(read: Callable[[int], str]) -> Iterator[Any]:
    """Yield the items of a JSON array, whose text is read in parts; raise a `ValueError` if it is not JSON.

    >>> import io
    >>> list(_parse_items(io.StringIO('[{"a": 1}, {"b": [2, 3]}]').read))
    [{'a': 1}, {'b': [2, 3]}]
    """
    text, at = "", 0

    def more() -> bool:
        nonlocal text, at
        part = read(max(CHARS, len(text) - at))  # an item that is longer than the text doubles it
        text, at = text[at:] + part, 0
        return bool(part)

    def next_character() -> str:
        nonlocal at
        while True:
            blanks = _blanks(text, at)
            at = at if blanks is None else blanks.end()
            if at < len(text) or not more():
                return text[at : at + 1]

    def next_item() -> tuple[Any, int]:
        while True:
            try:
                item, end = _decoder.raw_decode(text, at)
                if end < len(text):  # else 1 may be the beginning of 12
                    return item, end
            except ValueError:
                pass  # the text may end within the item
            if not more():
                return _decoder.raw_decode(text, at)

    if next_character() != "[":
        raise ValueError("expected an array")
    at += 1
    if next_character() == "]":
        at += 1
    else:
        mark = ","
        while mark == ",":
            next_character()
            item, at = next_item()
            yield item
            mark = next_character()
            at += 1
        if mark != "]":
            raise ValueError("expected a comma or the end of the array")
    if next_character():
        raise ValueError("expected the end of the file")


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    if not text.strip():
        raise InputError(f"{path} is empty: it contains no rows")
    return text


def _not_utf8(path: Path) -> InputError:
    """Return an error with the place of the first byte of a file that is not UTF-8."""
    with path.open("rb") as file:
        at = 0
        for n, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                place = f"{error.reason} at byte {at + error.start}, in line {n}"
                return InputError(f"{path} is not UTF-8 text: {place}; save the file as UTF-8")
            at += len(line)
    raise AssertionError(f"{path} is UTF-8")


def _parse_json(text: str, location: str, trim: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    try:
        return json.loads(text, object_hook=trim)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{location}: not JSON: {error}; it begins {text[:40]!r}") from None


def _require_object(row: Any, location: str) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise InputError(f"{location}: expected a JSON object, found {type(row).__name__}")
    return row
