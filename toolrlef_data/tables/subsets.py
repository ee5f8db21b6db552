"""subsets: draw a fixed number of rows from a questions table, or splits of fixed sizes that share no question.

A question (see `identity`) goes to one split as a whole; where a split ends amid its rows, the others are left out. The
draw depends on the seed and the rows, not on their order; rows keep the order they came in. What is not drawn is in the
ledger.

    subset(load_source("svamp"), TRICE_SIZES["svamp"])      # DatasetDict: train 800, test 200

Not covered: which rows the authors of TRICE drew; they do not say.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from typing import Any, NamedTuple, TypeAlias, overload

import numpy as np
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray

from toolrlef_data.records import Drop, InputError
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.identity import Hashes, Numbers, groups, normal_form, text_hash
from toolrlef_data.tables.stage_cache import as_arrow, facts_of, write_record
from toolrlef_data.tables.transform import keep, require_columns

__all__ = ["TRICE_SIZES", "subset"]

Tables: TypeAlias = Dataset | DatasetDict

# Rows that TRICE drew (arXiv 2305.13068, the table of data sets); source -> split -> rows.
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
    """Draw rows of a questions table, at random by seed; one question never stands in two splits.

    Args:
        data: a questions table (`columns.QUESTIONS`).
        n: rows to draw, for a Dataset; or split -> rows, for a DatasetDict of these splits.
        seed: another one draws other rows.
        apart_from: tables whose questions are not to be drawn, such as upstream's test split.

    Raises:
        InputError: there are fewer rows than asked for (it says how many), or two rows have the same id.

    >>> from toolrlef_data import load_source
    >>> splits = subset(load_source("sample", split="train"), {"train": 30, "test": 10})
    >>> {name: len(table) for name, table in splits.items()}
    {'train': 30, 'test': 10}
    """
    wanted = _wanted(n)
    tables = _tables(data, apart_from)
    rows = _Rows(*(np.concatenate(parts) for parts in zip(*(_rows(table, seed) for table in tables), strict=True)))
    by_id = _by_id(rows.id[: len(data)], data)
    drawn = _draw(rows, len(data), wanted)
    draw = _Draw(seed, tuple(wanted.items()), _drops(wanted), rows.id[by_id].tobytes(), drawn.verdict[by_id].tobytes())
    pool = keep(data, _judge, draw, reads=["id"], stage="subset", batched=True)
    if isinstance(n, int):
        return pool
    home = drawn.split[drawn.split >= 0]
    return DatasetDict({split: _part(pool, home == i, split, draw) for i, split in enumerate(wanted)})


# The draw -------------------------------------------------------------------------------------------------------------


class _Rows(NamedTuple):
    """Per row: hashes of its id, of the id up to "#", of its text, and of seed and id, by which rows are ranked."""

    id: Hashes
    name: Hashes
    text: Hashes
    rank: Hashes


class _Drawn(NamedTuple):
    """Per row: the split it goes to, or -1, and the place of its verdict in `_drops`."""

    split: Numbers
    verdict: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Draw:
    """What `_judge` goes by: verdicts beside the sorted hashes of the ids."""

    seed: int
    rows: tuple[tuple[str, int], ...]
    drops: tuple[Drop | None, ...]
    ids: bytes
    verdicts: bytes


def _draw(rows: _Rows, count: int, wanted: Mapping[str, int]) -> _Drawn:
    """Where each of the first `count` rows goes; the rows after them are those to stay apart from."""
    group = groups(rows.name, rows.text)
    barred = np.zeros(len(group), np.bool_)
    barred[group[count:]] = True
    group, rank = group[:count], rows.rank[:count]
    free = np.flatnonzero(~barred[group])
    questions, place, sizes = np.unique(group[free], return_inverse=True, return_counts=True)
    # A question is ranked by one of its rows, so that one with many rows is not drawn more often than others.
    down = np.argsort(rows.id[free])[::-1]
    speaker = np.zeros(len(questions), np.int64)
    speaker[place[down]] = free[down]  # where several are written, the last stays
    homes, cut = _homes(sizes, np.argsort(rank[speaker]), wanted)

    split = np.full(count, -1, np.int64)
    split[free] = homes[place]
    verdict = np.where(split >= 0, 0, np.where(barred[group], 2, 1)).astype(np.uint8)
    for i, (question, stay) in cut.items():
        members = free[place == question]
        out = members[np.argsort(rank[members])][stay:]
        split[out], verdict[out] = -1, 3 + i
    return _Drawn(split, verdict)


def _homes(sizes: Numbers, order: Numbers, wanted: Mapping[str, int]) -> tuple[Numbers, dict[int, tuple[int, int]]]:
    """Which split each question goes to, or -1; and split -> (the question that it ends amid, rows that stay).

    Args:
        sizes: rows of each question.
        order: the questions, first those to be drawn first.
        wanted: split -> rows.

    Raises:
        InputError: the splits cannot be filled.
    """
    largest_first = order[np.argsort(-sizes[order], kind="stable")]  # wastes least, where order alone does not do
    for each, cutting in ((order, False), (largest_first, False), (largest_first, True)):
        homes, cut, missing = _filled(sizes, each, list(wanted.values()), cutting)
        if not any(missing):
            return homes, cut
    asked = ", ".join(f"{n} for {split}" if split else str(n) for split, n in wanted.items())
    message = f"subset: asked for {asked}; there are {sizes.sum()} rows of {len(sizes)} questions to draw from"
    if sizes.sum() >= sum(wanted.values()):
        short = ", ".join(f"{n} for {split}" for split, n in zip(wanted, missing, strict=True) if n)
        message += f", and with each question in one split there are too few by {short}"
    raise InputError(message)


def _filled(
    sizes: Numbers, order: Numbers, room: list[int], cutting: bool
) -> tuple[Numbers, dict[int, tuple[int, int]], list[int]]:
    """Put questions, in order, where they fit; then end each unfilled split amid one that did not fit.

    With `cutting`, put each into the split with the most room instead, whether it fits or ends that split.
    """
    homes = np.full(len(sizes), -1, np.int64)
    cut: dict[int, tuple[int, int]] = {}
    left = []
    for question, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        if not any(room):
            break
        i = room.index(max(room)) if cutting else next((i for i, rest in enumerate(room) if size <= rest), -1)
        if i < 0:
            left.append(question)
            continue
        if size > room[i]:
            cut[i] = question, room[i]
        homes[question], room[i] = i, max(0, room[i] - size)
    for i, question in zip([i for i, rest in enumerate(room) if rest], left, strict=False):
        homes[question], cut[i], room[i] = i, (question, room[i]), 0
    return homes, cut, room


# Tables ---------------------------------------------------------------------------------------------------------------


def _rows(data: Dataset, seed: int) -> _Rows:
    require_columns(data, ["id", "question", "context"], "subset")
    parts: tuple[list[Hashes], ...] = ([], [], [], [])
    known = functools.lru_cache(1000)(normal_form)  # contexts repeat
    for batch in as_arrow(data, ["id", "question", "context"]).iter(10_000):
        ids, questions, contexts = (batch.column(name).to_pylist() for name in ("id", "question", "context"))
        if None in ids:
            raise InputError("subset: the column id needs one value a row; a row has none")
        forms = map(normal_form, (question or "" for question in questions))
        texts = [f"{known(c or '')}\n{q}" if q else f"\n{i}" for i, q, c in zip(ids, forms, contexts, strict=True)]
        names = (row_id.partition("#")[0] for row_id in ids)
        for part, values in zip(parts, (ids, names, texts, (f"{seed}:{i}" for i in ids)), strict=True):
            part.append(np.array([text_hash(value) for value in values], np.uint64))
    none = np.zeros(0, np.uint64)
    return _Rows(*(np.concatenate([none, *part]) for part in parts))


def _by_id(ids: Hashes, data: Dataset) -> Numbers:
    order = np.argsort(ids)
    twice = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(twice):
        raise InputError(f"the column id needs one value a row; {data[int(order[twice[0]])]['id']!r} stands twice")
    return order


def _drops(wanted: Mapping[str, int]) -> tuple[Drop | None, ...]:
    rest = [Drop("not_drawn", f"the split {split} was full: it holds other rows of the question") for split in wanted]
    return (None, Drop("not_drawn"), Drop("excluded_question", "a table to stay apart from holds the question"), *rest)


def _judge(columns: Mapping[str, list[str]], draw: _Draw) -> list[Drop | None]:
    ids = np.frombuffer(draw.ids, np.uint64)
    found = np.searchsorted(ids, np.array([text_hash(row_id) for row_id in columns["id"]], np.uint64))
    return [draw.drops[verdict] for verdict in np.frombuffer(draw.verdicts, np.uint8)[found].tolist()]


def _part(pool: Dataset, mask: NDArray[np.bool_], split: str, draw: _Draw) -> Dataset:
    """One split of what was drawn. It drops nothing: the rows of the other splits have not left."""
    part = pool.select(np.flatnonzero(mask))
    part._fingerprint = digest(pool._fingerprint, split, blake2b(mask.tobytes()).hexdigest())
    settings = {"seed": draw.seed, "rows": dict(draw.rows)}
    write_record(part._fingerprint, {**facts_of(f"subset: {split}", [pool], settings, part), "rows_in": len(part)})
    return part


def _wanted(n: Any) -> dict[str, int]:
    wanted = dict(n) if isinstance(n, Mapping) else {"": n}
    fits = all(isinstance(rows, int) and not isinstance(rows, bool) and rows > 0 for rows in wanted.values())
    if not wanted or not fits or len(wanted) > 250:  # a verdict takes one byte
        raise InputError(f"subset: n is a number of rows from 1 on, or split -> such a number; found {n!r:.80}")
    return wanted


def _tables(data: Any, apart_from: Any) -> list[Dataset]:
    if not isinstance(data, Dataset):
        raise InputError(f"subset: expected one datasets.Dataset, found a {type(data).__name__}")
    given = [apart_from] if isinstance(apart_from, (Dataset, DatasetDict)) else list(apart_from)
    tables = [data, *chain(*(table.values() if isinstance(table, DatasetDict) else [table] for table in given))]
    for table in tables:
        if not isinstance(table, Dataset):
            raise InputError(f"subset: apart_from takes tables, found a {type(table).__name__}")
    return tables
