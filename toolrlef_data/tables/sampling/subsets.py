"""Subsets: draw a fixed number of rows from a questions table, or splits of fixed sizes without common questions.

All rows of a question (see `identity`) go to one split. If a split is full before all rows of its last question fit,
the remaining rows are dropped. The draw depends on the rows and the seed, not on the order of the rows, and the rows
stay in their order. Rows that are not drawn are in the ledger.

    subset(load_source("svamp"), TRICE_SIZES["svamp"])      # DatasetDict: train 800, test 200

Not covered: the same rows as in TRICE, whose authors did not publish which rows they drew.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from typing import Any, NamedTuple, TypeAlias, overload

import numpy as np
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray

from toolrlef_data.checks import check_table, check_type, require_columns
from toolrlef_data.records import Drop, InputError
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.identity import Hashes, RowNumbers, group_questions, normal_form, text_hash
from toolrlef_data.tables.stage_cache import as_arrow, build_record, write_record
from toolrlef_data.tables.transform import keep

__all__ = ["TRICE_SIZES", "subset"]

Tables: TypeAlias = Dataset | DatasetDict
MAX_SPLITS = 250  # a verdict is stored in one byte

# Rows per split in TRICE (arXiv 2305.13068, the table of data sets); source -> split -> rows.
TRICE_SIZES: Mapping[str, Mapping[str, int]] = {
    "asdiv": {"train": 952, "test": 266},
    "svamp": {"train": 800, "test": 200},
    "gsm8k": {"train": 6255, "test": 1319},
    "webquestions": {"train": 2000, "test": 1000},
    "nq_open": {"train": 6000, "test": 1000},
    "triviaqa": {"train": 6000, "test": 1000},
    "trex": {"train": 12607, "test": 3154},
    "mlqa": {"train": 3607, "test": 2364},
}


@overload
def subset(data: Dataset, n: int, seed: int = 0, *, apart_from: Tables | Iterable[Tables] = ()) -> Dataset: ...


@overload
def subset(
    data: Dataset, n: Mapping[str, int], seed: int = 0, *, apart_from: Tables | Iterable[Tables] = ()
) -> DatasetDict: ...


def subset(
    data: Dataset, n: int | Mapping[str, int], seed: int = 0, *, apart_from: Tables | Iterable[Tables] = ()
) -> Dataset | DatasetDict:
    """Draw random rows of a questions table; splits have no common questions.

    Args:
        data: a questions table (`columns.QUESTIONS`).
        n: number of rows, for a Dataset; or split -> number of rows, for a DatasetDict.
        seed: seed of the random draw; default: 0.
        apart_from: tables whose questions are excluded, such as the test split of the source; default: none.

    Returns:
        The drawn rows in their original order. The other rows are in the ledger.

    Raises:
        InputError: there are too few rows (the message states how many), ids are missing or not unique, `n` is invalid,
            or an argument is not a table.
        MissingColumns: a table has no column `id`, `question` or `context`.

    >>> from toolrlef_data import load_source
    >>> splits = subset(load_source("sample", split="train"), {"train": 30, "test": 10})
    >>> {name: len(table) for name, table in splits.items()}
    {'train': 30, 'test': 10}
    """
    sizes = _split_sizes(n)
    check_type("seed", seed, "an integer", int)
    check_type("apart_from", apart_from, "a table, or a list of tables", Dataset, DatasetDict, Iterable)
    tables = _tables(data, apart_from)
    hashes = _RowHashes(*map(np.concatenate, zip(*(_row_hashes(table, seed) for table in tables), strict=True)))
    by_id = _sort_by_id(hashes.id[: len(data)], data)
    drawn = _draw_rows(hashes, len(data), sizes)
    draw = _Draw(seed, tuple(sizes.items()), _drops(sizes), hashes.id[by_id].tobytes(), drawn.verdict[by_id].tobytes())
    pool = keep(data, _judge, draw, reads=["id"], stage="subset", batched=True)
    if isinstance(n, int):
        return pool
    split_numbers = drawn.split[drawn.split >= 0]
    return DatasetDict({split: _select_split(pool, split_numbers == i, split, draw) for i, split in enumerate(sizes)})


# The draw -------------------------------------------------------------------------------------------------------------


class _RowHashes(NamedTuple):
    """Hashes of each row: of its id, of the id up to "#", of its text, and of seed and id, which ranks the rows."""

    id: Hashes
    base_id: Hashes
    text: Hashes
    rank: Hashes


class _DrawnRows(NamedTuple):
    """For each row the number of its split, or -1, and the index of its verdict in `_drops`."""

    split: RowNumbers
    verdict: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Draw:
    """The settings of `_judge`: the verdicts, in the order of the sorted hashes of the ids."""

    seed: int
    rows: tuple[tuple[str, int], ...]
    drops: tuple[Drop | None, ...]
    ids: bytes
    verdicts: bytes


def _draw_rows(hashes: _RowHashes, count: int, sizes: Mapping[str, int]) -> _DrawnRows:
    """Assign the first `count` rows to splits; the questions of the remaining rows are excluded."""
    question = group_questions(hashes.base_id, hashes.text)
    is_excluded = np.zeros(len(question), np.bool_)
    is_excluded[question[count:]] = True
    question, rank = question[:count], hashes.rank[:count]
    candidates = np.flatnonzero(~is_excluded[question])
    # `index` is the position of each candidate's question in `questions`.
    questions, index, row_counts = np.unique(question[candidates], return_inverse=True, return_counts=True)
    # One row represents each question, so a question with many rows is not drawn more often than others.
    descending = np.argsort(hashes.id[candidates])[::-1]
    representative = np.zeros(len(questions), np.int64)
    representative[index[descending]] = candidates[descending]  # numpy keeps the last write: the smallest hash
    assignment, truncated = _assign_questions(row_counts, np.argsort(rank[representative]), sizes)

    split = np.full(count, -1, np.int64)
    split[candidates] = assignment[index]
    verdict = np.where(split >= 0, 0, np.where(is_excluded[question], 2, 1)).astype(np.uint8)
    for i, (truncated_question, retained) in truncated.items():
        members = candidates[index == truncated_question]
        dropped = members[np.argsort(rank[members])][retained:]
        split[dropped], verdict[dropped] = -1, 3 + i
    return _DrawnRows(split, verdict)


def _assign_questions(
    row_counts: RowNumbers, order: RowNumbers, sizes: Mapping[str, int]
) -> tuple[RowNumbers, dict[int, tuple[int, int]]]:
    """Return the number of each question's split, or -1; and split number -> (truncated question, its retained rows).

    Args:
        row_counts: number of rows of each question.
        order: the questions in the order of the draw.
        sizes: split -> rows.

    Raises:
        InputError: the splits cannot be filled.
    """
    largest_first = order[np.argsort(-row_counts[order], kind="stable")]  # drops the fewest rows
    for question_order, prefer_largest_gap in ((order, False), (largest_first, False), (largest_first, True)):
        assignment, truncated, missing = _fill_splits(
            row_counts, question_order, list(sizes.values()), prefer_largest_gap
        )
        if not any(missing):
            return assignment, truncated
    requested = ", ".join(f"{n} rows for {split}" if split else f"{n} rows" for split, n in sizes.items())
    message = f"subset: requested {requested}; found {row_counts.sum()} rows of {len(row_counts)} questions"
    if row_counts.sum() >= sum(sizes.values()):
        shortage = ", ".join(f"{n} for {split}" for split, n in zip(sizes, missing, strict=True) if n)
        message += f". All rows of a question must be in one split, so rows are missing: {shortage}"
    raise InputError(message)


def _fill_splits(
    row_counts: RowNumbers, order: RowNumbers, gaps: list[int], prefer_largest_gap: bool
) -> tuple[RowNumbers, dict[int, tuple[int, int]], list[int]]:
    """Assign each question to the first split with enough free rows, then fill each gap with a truncated question.

    Args:
        row_counts: number of rows of each question.
        order: the questions in the order of the draw.
        gaps: free rows of each split; modified in place.
        prefer_largest_gap: assign each question to the split with the most free rows, and truncate it if necessary.

    Returns:
        The number of each question's split, or -1; split number -> (truncated question, its retained rows); and the
        remaining gaps.
    """
    assignment = np.full(len(row_counts), -1, np.int64)
    truncated: dict[int, tuple[int, int]] = {}
    skipped = []
    for question, size in zip(order.tolist(), row_counts[order].tolist(), strict=True):
        if not any(gaps):
            break
        i = gaps.index(max(gaps)) if prefer_largest_gap else next((i for i, gap in enumerate(gaps) if size <= gap), -1)
        if i < 0:
            skipped.append(question)
            continue
        if size > gaps[i]:
            truncated[i] = question, gaps[i]
        assignment[question], gaps[i] = i, max(0, gaps[i] - size)
    for i, question in zip([i for i, gap in enumerate(gaps) if gap], skipped, strict=False):
        assignment[question], truncated[i], gaps[i] = i, (question, gaps[i]), 0
    return assignment, truncated, gaps


# Tables ---------------------------------------------------------------------------------------------------------------


def _row_hashes(data: Dataset, seed: int) -> _RowHashes:
    """Return the hashes of all rows of a table, in their order."""
    require_columns(data, ["id", "question", "context"], "subset")
    columns: tuple[list[Hashes], ...] = ([], [], [], [])
    normalise_context = functools.lru_cache(1000)(normal_form)  # many rows have the same context
    for batch in as_arrow(data, ["id", "question", "context"]).iter(10_000):
        ids, questions, contexts = (batch.column(name).to_pylist() for name in ("id", "question", "context"))
        if None in ids:
            raise InputError("subset: expected an id in each row, found a row without one")
        normal_questions = map(normal_form, (question or "" for question in questions))
        texts = [
            f"{normalise_context(context or '')}\n{question}" if question else f"\n{row_id}"
            for row_id, question, context in zip(ids, normal_questions, contexts, strict=True)
        ]
        base_ids = (row_id.partition("#")[0] for row_id in ids)
        ranks = (f"{seed}:{row_id}" for row_id in ids)
        for column, values in zip(columns, (ids, base_ids, texts, ranks), strict=True):
            column.append(np.array([text_hash(value) for value in values], np.uint64))
    empty = np.zeros(0, np.uint64)
    return _RowHashes(*(np.concatenate([empty, *column]) for column in columns))


def _sort_by_id(ids: Hashes, data: Dataset) -> RowNumbers:
    """Return the order of the rows by the hashes of their ids; raise an `InputError` if an id is repeated."""
    order = np.argsort(ids)
    repeated = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(repeated):
        raise InputError(f"subset: expected unique ids, found {data[int(order[repeated[0]])]['id']!r} twice")
    return order


def _drops(sizes: Mapping[str, int]) -> tuple[Drop | None, ...]:
    """Return the verdicts: drawn, not drawn, excluded, and for each split the remaining rows of its last question."""
    truncated = [Drop("not_drawn", f"the split {split} is full; it has other rows of the question") for split in sizes]
    return (None, Drop("not_drawn"), Drop("excluded_question", "a table of apart_from has the question"), *truncated)


def _judge(columns: Mapping[str, list[str]], draw: _Draw) -> list[Drop | None]:
    """Return the verdict of the draw on each row of a batch."""
    ids = np.frombuffer(draw.ids, np.uint64)
    positions = np.searchsorted(ids, np.array([text_hash(row_id) for row_id in columns["id"]], np.uint64))
    return [draw.drops[verdict] for verdict in np.frombuffer(draw.verdicts, np.uint8)[positions].tolist()]


def _select_split(pool: Dataset, mask: NDArray[np.bool_], split: str, draw: _Draw) -> Dataset:
    """Return one split of the drawn rows, with a lineage record; rows of other splits do not count as dropped."""
    key = digest(pool._fingerprint, split, blake2b(mask.tobytes()).hexdigest())
    table = copy.copy(pool).select(np.flatnonzero(mask), new_fingerprint=key)
    table._fingerprint = key  # of a pool without rows, `select` returns the copy
    settings = {"seed": draw.seed, "rows": dict(draw.rows)}
    record = build_record(f"subset: {split}", [pool], settings, table)
    write_record(table._fingerprint, {**record, "rows_in": len(table)})
    return table


def _split_sizes(n: Any) -> dict[str, int]:
    """Return split -> number of rows; the single split of a plain number is named ""."""
    sizes = dict(n) if isinstance(n, Mapping) else {"": n}
    is_valid = all(isinstance(rows, int) and not isinstance(rows, bool) and rows > 0 for rows in sizes.values())
    if not sizes or not is_valid or len(sizes) > MAX_SPLITS:
        raise InputError(
            f"subset: expected n as a positive number of rows, or as split -> number of rows (at most {MAX_SPLITS} "
            f"splits), found {n!r:.80}"
        )
    return sizes


def _tables(data: Any, apart_from: Any) -> list[Dataset]:
    """Return the questions table, followed by the tables of excluded questions."""
    if not isinstance(data, Dataset):
        raise InputError(f"subset: expected a datasets.Dataset, found {type(data).__name__}")
    excluded = [apart_from] if isinstance(apart_from, (Dataset, DatasetDict)) else list(apart_from)
    tables = [data, *chain(*(table.values() if isinstance(table, DatasetDict) else [table] for table in excluded))]
    for table in tables:
        if not isinstance(table, Dataset):
            raise InputError(f"subset: expected tables in apart_from, found {type(table).__name__}")
        check_table(table)
    return tables
