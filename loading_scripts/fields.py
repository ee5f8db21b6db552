"""How sources read upstream's files: finding them, JSON, XML's text, single fields, and gold answers.

Every fault names the file, the line and what was found. A missing key is a fault; a null, or what is no text, is a row
that cannot be used (`text`, `texts`), unless the key is an id's (`field`). One file is held in memory at a time,
however many a split has.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from toolrlef_data.records import InputError, UnusableRow
from toolrlef_data.tasks.numbers import number

__all__ = ["AnyCase", "as_text", "encodable", "field", "find", "gold", "patterns_of", "plain_number"]
__all__ += ["read_json", "read_object", "read_text", "required", "text", "texts"]


class AnyCase(Mapping[str, Any]):
    """A row whose keys are found in any case, and listed as they stand.

    >>> row = AnyCase({"sQuestion": "Why?"})
    >>> row["squestion"], "SQUESTION" in row, list(row)
    ('Why?', True, ['sQuestion'])
    """

    def __init__(self, row: Mapping[Any, Any]) -> None:
        self._keys = [str(key) for key in row]
        self._values = {str(key).lower(): value for key, value in row.items()}

    def __getitem__(self, key: str) -> Any:
        return self._values[key.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def find(files: Mapping[str, str | tuple[str, ...]], folder: Path) -> dict[str, list[Path]]:
    """The files of each split that are there, in sorted order.

    Args:
        files: split -> file name, or patterns (as of `Path.glob`), relative to the folder; all that match count.
        folder: where to look.

    Raises:
        InputError: no such folder, or none of the files is there; the message lists both.
    """
    if not folder.is_dir():
        raise InputError(f"data_dir is not a folder: {folder}")
    found = {}
    for split, wanted in files.items():
        there = {path for pattern in patterns_of(wanted) for path in folder.glob(pattern) if path.is_file()}
        if there:
            found[split] = sorted(there)
    if not found:
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        wanted_names = ", ".join(pattern for wanted in files.values() for pattern in patterns_of(wanted))
        raise InputError(f"{folder} holds none of {wanted_names}; found: {names}")
    return found


def patterns_of(wanted: str | tuple[str, ...]) -> tuple[str, ...]:
    """What `Source.files` says of one split, as patterns."""
    return (wanted,) if isinstance(wanted, str) else wanted


def read_json(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (where, row) of JSON Lines, or of one JSON array of rows, whatever the file's name says."""
    text = read_text(path)
    if text.lstrip()[:1] == "[":
        rows: Any = _json(text, str(path))
        numbered: Iterator[tuple[str, Any]] = ((f"{path}, row {n}", row) for n, row in enumerate(rows, start=1))
    else:
        lines = ((f"{path}, line {n}", line) for n, line in enumerate(text.split("\n"), start=1) if line.strip())
        numbered = ((where, _json(line, where)) for where, line in lines)
    for where, row in numbered:
        yield where, _an_object(row, where)


def read_object(
    path: Path, key: str, trim: Callable[[dict[str, Any]], Any] | None = None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (where, row) of a file that is one JSON object with its rows under a key, as {"data": [...]}.

    Args:
        path: the file.
        key: where the rows are.
        trim: is given each object of the file, innermost first, and returns what to keep in its place.
    """
    whole = _an_object(_json(read_text(path), str(path), trim), str(path))
    rows = whole.get(key)
    if not isinstance(rows, list):
        raise InputError(f"{path}: expected a list under the key {key!r}; found the keys: {', '.join(whole)}")
    for n, row in enumerate(rows, start=1):
        yield f"{path}, {key} {n}", _an_object(row, f"{path}, {key} {n}")


def read_text(path: Path) -> str:
    """The text of a file; an empty one, or one that is not UTF-8, is an `InputError`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    if not text.strip():
        raise InputError(f"{path} is empty: it holds no rows")
    return text


def required(raw: Mapping[str, Any], key: str, where: str) -> Any:
    """What a key holds; a missing one names the file, the line, the key and what was found."""
    if key not in raw:
        raise InputError(f"{where}: the key {key!r} is missing; found: {', '.join(raw) or '(nothing)'}")
    return raw[key]


def as_text(value: Any) -> str | None:
    """A text or number as text, a null as ""; None for anything else.

    >>> as_text(" a "), as_text(5.0), as_text(None), as_text(True), as_text(["a"]), as_text(float("nan"))
    ('a', '5.0', '', None, None, None)
    """
    if value is None:
        return ""
    number_like = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return str(value).strip() if isinstance(value, str) or number_like else None


def field(raw: Mapping[str, Any], key: str, where: str) -> str:
    """The text of a key that no row can do without, as its id."""
    value = required(raw, key, where)
    found = as_text(value)
    if value is None or found is None:
        raise InputError(f"{where}: the key {key!r} " + ("is null" if value is None else "holds no text"))
    return found


def text(raw: Mapping[str, Any], key: str, where: str) -> str:
    """The text of a key, "" for a null; a missing key is an `InputError`, anything that is no text `UnusableRow`."""
    found = as_text(required(raw, key, where))
    if found is None:
        raise UnusableRow("not_text", f"the key {key!r} holds no text, but {type(raw[key]).__name__}")
    return found


def texts(raw: Mapping[str, Any], key: str, where: str) -> list[str]:
    """The list of texts under a key, without nulls; a missing key, or anything else under it, is named."""
    value = required(raw, key, where)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InputError(f"{where}: the key {key!r} holds no list of texts")
    found = [item for item in value if item is not None]
    if not all(isinstance(item, str) for item in found):
        raise UnusableRow("not_text", f"the key {key!r} holds a list of other things than texts")
    return found


def gold(answers: Iterable[str | None]) -> tuple[str, ...]:
    """Gold answers as a row holds them: each once, in order, none empty, all blanks (also U+00A0) single spaces.

    >>> gold(["18\\u00a0May", None, " ", "May", "18 May"])
    ('18 May', 'May')
    """
    tidy = (" ".join(answer.split()) for answer in answers if answer)
    return tuple(dict.fromkeys(answer for answer in tidy if answer))


def encodable(text: str) -> str:
    r"""A text with its lone surrogates, which UTF-8 and Arrow do not have, written as escapes.

    >>> encodable("a\ud83d")
    'a\\ud83d'
    """
    return text.encode(errors="backslashreplace").decode()


def plain_number(text: str) -> str | None:
    """A number without grouping and needless zeros ("2,125" is 2125, "51.0" is 51); None for any other text.

    >>> plain_number("2,125"), plain_number("51.0"), plain_number("-0.50"), plain_number("5/2"), plain_number("3,4")
    ('2125', '51', '-0.5', None, None)
    """
    if "," in text and number(text) is None:
        return None  # a list or a decimal comma, no grouping
    digits = text.strip().replace(",", "")
    whole, _, decimals = digits.removeprefix("-").partition(".")
    if not (digits.isascii() and (whole + decimals).isdecimal()):
        return None
    whole, decimals = whole.lstrip("0") or "0", decimals.rstrip("0")
    plain = f"{whole}.{decimals}" if decimals else whole
    return f"-{plain}" if digits.startswith("-") and plain != "0" else plain


def _json(text: str, where: str, trim: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    try:
        return json.loads(text, object_hook=trim)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON: {error}; it begins {text[:40]!r}") from None


def _an_object(row: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected an object with keys, found {type(row).__name__}")
    return row
