"""Contradictions: rows with the same question and context whose gold answers have none in common.

Such rows are kept, since each can be right, and a warning names them. Texts are equal if they differ in white space
only: "CO" is not "Co".
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import pyarrow as pa

from toolrlef_data.tables.identity import HashTable, text_hash

__all__ = ["GoldAnswers"]

log = logging.getLogger("toolrlef_data")


class GoldAnswers:
    """Hashes of the gold answers of each question; 20 bytes a row."""

    def __init__(self) -> None:
        self._hashes = HashTable("Q")  # hash of a question -> hash of the gold answers of its first row
        self._suspects: set[int] = set()  # hashes of the questions with other gold answers in a later row

    def add(self, question: str, context: str, answers: Sequence[str]) -> None:
        """Add a row."""
        key, gold = _key(question, context), text_hash(repr(sorted(set(answers)))) or 1
        if self._hashes.setdefault(key, gold) not in (0, gold):
            self._suspects.add(key)

    def warn_of_contradictions(self, dataset: str, tables: Iterable[pa.Table]) -> None:
        """Log a warning with the number of rows that contradict the first one with their question, and two ids.

        Args:
            dataset: the name of the data set.
            tables: all added rows, which are only read if one of them can contradict another.
        """
        if not self._suspects:
            return
        first_rows: dict[int, tuple[str, set[str]]] = {}
        pairs = []
        for row in (row for table in tables for row in table.to_pylist()):
            if (key := _key(row["question"], row["context"])) in self._suspects:
                first_id, answers = first_rows.setdefault(key, (row["id"], set(row["answers"])))
                if answers.isdisjoint(row["answers"]):
                    pairs.append((first_id, row["id"]))
        if pairs:
            log.warning(
                "%s: %d rows have the question of an earlier row, but no gold answer in common with it, such as the "
                "ids %r and %r",
                dataset,
                len(pairs),
                *pairs[0],
            )


def _key(question: str, context: str) -> int:
    return text_hash("\n".join(" ".join(text.split()) for text in (context, question)))
