"""What a source keeps of the rows that it has read: their locations and hashes in memory, dropped rows in a file."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from toolrlef_data.tables.identity import normal_form, text_hash

__all__ = ["Locations", "question_hashes", "read_rows", "write_row"]

NUMBER_BITS = 36


class Locations:
    """Packs locations such as "train.jsonl, line 7" into integers; the words before a last number are stored once.

    >>> locations = Locations()
    >>> numbers = [locations.pack(f"train.jsonl, line {n}") for n in (7, 8)]
    >>> [locations.unpack(number) for number in numbers], len(locations.words)
    (['train.jsonl, line 7', 'train.jsonl, line 8'], 1)
    """

    def __init__(self) -> None:
        self.words: dict[tuple[str, bool], int] = {}  # (text, whether a number follows) -> index + 1
        self._texts: list[tuple[str, bool]] = []

    def pack(self, location: str) -> int:
        """Return an integer above 0 with at most 62 bits."""
        text, _, number = location.rpartition(" ")
        has_number = number.isascii() and number.isdecimal() and str(int(number)) == number and len(number) <= 10
        key = (text, True) if has_number else (location, False)
        if key not in self.words:
            self._texts.append(key)
            self.words[key] = len(self._texts)
        return self.words[key] << NUMBER_BITS | (int(number) if has_number else 0)

    def unpack(self, packed: int) -> str:
        """Return the location of an integer."""
        text, has_number = self._texts[(packed >> NUMBER_BITS) - 1]
        return f"{text} {packed & ((1 << NUMBER_BITS) - 1)}" if has_number else text


def question_hashes(row_id: str, question: str, context: str) -> tuple[int, int]:
    """Return the hashes of the id up to "#" and of the texts; rows are the same question if one of them agrees."""
    form = normal_form(question)
    text = f"{_context_form(context)}\n{form}" if form else f"\n{row_id}"
    return text_hash(f"#{row_id.partition('#')[0]}"), text_hash(text)


_context_form = functools.lru_cache(1000)(normal_form)  # contexts repeat


def write_row(row: Mapping[str, Any], file: TextIO) -> None:
    file.write(f"{json.dumps(row)}\n")


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows that `write_row` wrote to a file."""
    with path.open() as file:
        yield from map(json.loads, file)
