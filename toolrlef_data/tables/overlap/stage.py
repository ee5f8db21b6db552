"""The stages that list the rows of a table that overlap test questions, and drop them."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from datasets import Dataset, Features, Value

from toolrlef_data.checks import require_columns
from toolrlef_data.tables.batches.mapping import map_batches, stage_key
from toolrlef_data.tables.identity import check_ids
from toolrlef_data.tables.overlap.removal import drop_listed
from toolrlef_data.tables.overlap.search import TestIndex
from toolrlef_data.tables.row_files import materialize
from toolrlef_data.tables.stage_cache import build_record, load_stage, open_files, write_record

__all__ = ["OVERLAPS", "TEST_QUESTIONS", "OverlapSearch", "drop_overlaps", "find_overlaps"]

STRING = Value("string")
TEST_QUESTIONS = Features(test_set=STRING, test_id=STRING, text=STRING)
OVERLAPS = Features(
    id=STRING,
    kind=STRING,  # see `search`
    share=Value("float64"),  # of the words of the test question
    text=STRING,
    test_set=STRING,
    test_id=STRING,
    test_text=STRING,
)


@dataclass(frozen=True, slots=True)
class OverlapSearch:
    """The settings of a search for overlaps.

    Args:
        n: number of words of an n-gram.
        ignore_numbers: whether texts that differ in numbers overlap.
        column: the column with the text.
        tests: fingerprint of the table of test questions.
        test_sets: name of each test set, and its number of questions.
        files: the files of the table of test questions; not part of the key, which has the fingerprint.
        found: kind -> number of overlapping rows, as pairs; empty before the search.
    """

    n: int
    ignore_numbers: bool
    column: str
    tests: str
    test_sets: tuple[tuple[str, int], ...]
    files: tuple[str, ...]
    found: tuple[tuple[str, int], ...] = ()

    def in_key(self) -> dict[str, Any]:
        """Return the fields that have another value in the key."""
        return {"files": ()}

    def published(self) -> dict[str, Any]:
        """Return the settings that are published."""
        numbers = {"test_sets": dict(self.test_sets), "found": dict(self.found)}
        return {"n": self.n, "ignore_numbers": self.ignore_numbers, "column": self.column, **numbers}


def find_overlaps(data: Dataset, tests: Dataset, search: OverlapSearch, num_proc: int | None = None) -> Dataset:
    """Return the rows that overlap a test question (`OVERLAPS`), each with the question that it overlaps most."""
    data = materialize(data)
    require_columns(data, ["id", search.column], "overlaps")
    key = stage_key(data, _overlaps_in_batch, search, OVERLAPS)
    if (cached := load_stage(key)) is not None:
        return cached
    check_ids(data)
    batch_function = functools.partial(_overlaps_in_batch, search=search)
    result = map_batches(data, batch_function, OVERLAPS, key, "overlaps", num_proc)
    write_record(key, build_record("overlaps", [data, tests], search, result))
    return result


def drop_overlaps(data: Dataset, tests: Dataset, search: OverlapSearch, num_proc: int | None = None) -> Dataset:
    """Return a table without the rows that overlap a test question."""
    data = materialize(data)
    overlaps = find_overlaps(data, tests, search, num_proc)
    found = replace(search, found=tuple(sorted(Counter(overlaps["kind"][:]).items())))
    return drop_listed(data, overlaps, found, "decontaminate", "overlap", num_proc)


def _overlaps_in_batch(table: pa.Table, search: OverlapSearch) -> pa.Table:
    """Return the overlaps of the rows of a batch."""
    index = _index(search)
    rows = []
    ids, texts = (table.column(column).to_pylist() for column in ("id", search.column))
    for row_id, text in zip(ids, texts, strict=True):
        overlap = index.find(text or "")
        if overlap is not None:
            (question,) = index.tests[overlap.row : overlap.row + 1].to_pylist()
            facts = {"id": row_id, "kind": overlap.kind, "share": overlap.share, "text": text}
            rows.append({**facts, **question, "test_text": question["text"], "text": text})
    return pa.Table.from_pylist(rows, OVERLAPS.arrow_schema)


@functools.lru_cache(1)
def _index(search: OverlapSearch) -> TestIndex:
    """Return the index of the test questions; each process builds its own."""
    return TestIndex(open_files(search.files), search.n, search.ignore_numbers)
