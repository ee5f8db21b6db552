"""Repeated questions within a config and between its splits, by a hash of 8 bytes per row.

Two questions are equal if they differ in case, punctuation and white space only (`normal_form`). Tables of steps are
not counted here: the rows of one search share its query.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
from datasets import Dataset, Value

from toolrlef_data.tables.identity import Hashes, normal_form, text_hash
from toolrlef_data.tables.stage_cache import as_arrow

__all__ = ["Repeats", "repeated_questions"]

BATCH_ROWS = 1000
COLUMNS = ("input", "question", "query")


class Repeats(NamedTuple):
    """The questions of a config: rows, different questions, and (split, other split, shared questions)."""

    config: str
    rows: int
    questions: int
    shared: list[tuple[str, str, int]]


def repeated_questions(splits: Mapping[str, Mapping[str, Dataset]]) -> list[Repeats]:
    """Return the counts of every config with questions.

    Args:
        splits: config -> split -> table.

    >>> table = Dataset.from_list([{"question": "Who?"}, {"question": "who"}, {"question": "When?"}])
    >>> repeated_questions({"qa": {"train": table, "test": table.select([1])}})
    [Repeats(config='qa', rows=4, questions=2, shared=[('train', 'test', 1)])]
    """
    found = []
    for config, tables in splits.items():
        names = {split: _question_column(data) for split, data in tables.items()}
        if all(names.values()):
            different = {split: _different(data, str(names[split])) for split, data in tables.items()}
            shared = [(a, b, len(np.intersect1d(different[a], different[b]))) for a, b in combinations(different, 2)]
            first, *others = different.values()
            questions = len(np.unique(np.concatenate([first, *others])) if others else first)
            found.append(Repeats(config, sum(map(len, tables.values())), questions, shared))
    return found


def _question_column(data: Dataset) -> str | None:
    return next((name for name in COLUMNS if data.features.get(name) == Value("string")), None)


def _different(data: Dataset, name: str) -> Hashes:
    """Return the sorted hashes of the different questions of a column; 17 bytes a row while they are computed."""
    hashes = np.empty(len(data), np.uint64)
    start = 0
    for batch in as_arrow(data, [name]).iter(BATCH_ROWS):
        texts = batch[name].to_pylist()
        hashes[start : start + len(texts)] = [text_hash(normal_form(text or "")) for text in texts]
        start += len(texts)
    hashes.sort()
    return hashes[np.append(True, hashes[1:] != hashes[:-1])] if len(hashes) else hashes
