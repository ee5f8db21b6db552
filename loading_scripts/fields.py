"""Finding upstream's files, and reading and normalising the values of a row; `text_files` reads the files.

| value of a key | `require_text` (ids) | `get_text` | `get_texts` |
|---|---|---|---|
| missing | `InputError` | `InputError` | `InputError` |
| null | `InputError` | "" | [] |
| empty text | `InputError` | "" | `InputError` |
| text or finite number | text | text | `InputError` |
| list | `InputError` | `UnusableRow` | texts without nulls; `UnusableRow` for other items |
| other | `InputError` | `UnusableRow` | `InputError` |

An `UnusableRow` drops the row; an `InputError` stops the run and names the location.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from toolrlef_data.records import InputError, UnusableRow
from toolrlef_data.tasks.numbers import parse_number

__all__ = ["CaseInsensitiveRow", "as_patterns", "as_text", "escape_surrogates", "find_files", "get_text", "get_texts"]
__all__ += ["gold_answers", "normalise_number", "require", "require_text"]


class CaseInsensitiveRow(Mapping[str, Any]):
    """A row with case-insensitive keys, which iterates over them in their original case.

    >>> row = CaseInsensitiveRow({"sQuestion": "Why?"})
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


def find_files(files: Mapping[str, str | tuple[str, ...]], folder: Path) -> dict[str, list[Path]]:
    """Return the existing files of each split, sorted; splits without files are omitted.

    Args:
        files: split -> file name or patterns of `Path.glob`, relative to the folder. All matching files belong to it.
        folder: the folder to search.

    Raises:
        InputError: the folder does not exist, or contains none of the files. The message lists the expected and
            the found files.
    """
    if not folder.is_dir():
        raise InputError(f"data_dir is not a folder: {folder}")
    split_files = {}
    for split, patterns in files.items():
        paths = {path for pattern in as_patterns(patterns) for path in folder.glob(pattern) if path.is_file()}
        if paths:
            split_files[split] = sorted(paths)
    if not split_files:
        contents = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        expected = ", ".join(pattern for patterns in files.values() for pattern in as_patterns(patterns))
        raise InputError(f"{folder} contains none of {expected}; found: {contents}")
    return split_files


def as_patterns(patterns: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the value of a split in `Source.files`, one pattern or several, as a tuple."""
    return (patterns,) if isinstance(patterns, str) else patterns


def require(raw: Mapping[str, Any], key: str, location: str) -> Any:
    """Return the value of a key; raise `InputError` if the key is missing."""
    if key not in raw:
        raise InputError(f"{location}: the key {key!r} is missing; found: {', '.join(raw) or '(nothing)'}")
    return raw[key]


def as_text(value: Any) -> str | None:
    """Return a text or finite number as text, a null as ""; None for any other value.

    >>> as_text(" a "), as_text(5.0), as_text(None), as_text(True), as_text(["a"]), as_text(float("nan"))
    ('a', '5.0', '', None, None, None)
    """
    if value is None:
        return ""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return str(value).strip() if isinstance(value, str) or is_number else None


def require_text(raw: Mapping[str, Any], key: str, location: str) -> str:
    """Return the text of a key that every row needs, such as its id; raise `InputError` if it is empty or not text."""
    value = require(raw, key, location)
    text = as_text(value)
    if not text:
        problem = "is null" if value is None else "is not text" if text is None else "is empty"
        raise InputError(f"{location}: the value of the key {key!r} {problem}")
    return text


def get_text(raw: Mapping[str, Any], key: str, location: str) -> str:
    """Return the text of a key, "" for a null; raise `UnusableRow` for other values."""
    text = as_text(require(raw, key, location))
    if text is None:
        raise UnusableRow("not_text", f"the key {key!r}: expected text, found {type(raw[key]).__name__}")
    return text


def get_texts(raw: Mapping[str, Any], key: str, location: str) -> list[str]:
    """Return the list of texts of a key, without nulls; raise `UnusableRow` if an item is not text."""
    value = require(raw, key, location)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InputError(f"{location}: the value of the key {key!r} is not a list of texts")
    items = [item for item in value if item is not None]
    if not all(isinstance(item, str) for item in items):
        raise UnusableRow("not_text", f"the key {key!r}: expected a list of texts")
    return items


def gold_answers(answers: Iterable[str | None]) -> tuple[str, ...]:
    """Return the answers without duplicates and empty answers, with each run of white space (also U+00A0) as one space.

    >>> gold_answers(["18\\u00a0May", None, " ", "May", "18 May"])
    ('18 May', 'May')
    """
    normalised = (" ".join(answer.split()) for answer in answers if answer)
    return tuple(dict.fromkeys(answer for answer in normalised if answer))


def escape_surrogates(text: str) -> str:
    r"""Return the text with unpaired surrogates, which UTF-8 and Arrow cannot encode, as escapes.

    >>> escape_surrogates("a\ud83d")
    'a\\ud83d'
    """
    return text.encode(errors="backslashreplace").decode()


def normalise_number(text: str) -> str | None:
    """Return the text of a number without thousands separators and redundant zeros; None for any other text.

    >>> [normalise_number(text) for text in ("2,125", "51.0", "-0.50", "5/2", "3,4")]
    ['2125', '51', '-0.5', None, None]
    """
    if "," in text and parse_number(text) is None:
        return None  # the comma separates items or decimals, not thousands
    digits = text.strip().replace(",", "")
    integer, _, decimals = digits.removeprefix("-").partition(".")
    if not (digits.isascii() and (integer + decimals).isdecimal()):
        return None
    integer, decimals = integer.lstrip("0") or "0", decimals.rstrip("0")
    unsigned = f"{integer}.{decimals}" if decimals else integer
    return f"-{unsigned}" if digits.startswith("-") and unsigned != "0" else unsigned
