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
        hashes = {split: _hashes(data) for split, data in tables.items()}
        named = {split: values for split, values in hashes.items() if values is not None}
        if len(named) == len(tables):
            different = {split: np.unique(values) for split, values in named.items()}
            shared = [(a, b, len(np.intersect1d(different[a], different[b]))) for a, b in combinations(different, 2)]
            questions = len(np.unique(np.concatenate(list(different.values()))))
            found.append(Repeats(config, sum(map(len, named.values())), questions, shared))
    return found


def _hashes(data: Dataset) -> Hashes | None:
    name = next((name for name in COLUMNS if data.features.get(name) == Value("string")), None)
    if name is None:
        return None
    parts = [
        np.array([text_hash(normal_form(text or "")) for text in batch[name].to_pylist()], np.uint64)
        for batch in as_arrow(data, [name]).iter(BATCH_ROWS)
    ]
    return np.concatenate(parts) if parts else np.array([], np.uint64)
