"""Stages that make other rows or put tables together: `explode`, `join` and `stack`."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from datasets import Dataset, DatasetDict, Features, concatenate_datasets

from toolrlef_data.checks import check_callable, check_names, check_type, require_columns
from toolrlef_data.columns import completed
from toolrlef_data.records import Drop, InputError, LedgerError
from toolrlef_data.tables.batches.functions import (
    DROP_COLUMNS,
    explode_batch,
    keep_batch,
    read_drops,
)
from toolrlef_data.tables.batches.mapping import (
    BATCH_ROWS,
    by_split,
    check_num_proc,
    hide_progress_bars,
    map_batches,
    renamed_argument,
    stage_key,
    warn_if_empty,
)
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.identity import check_ids
from toolrlef_data.tables.lineage import write_dropped
from toolrlef_data.tables.row_files import materialize
from toolrlef_data.tables.stage_cache import build_record, interrupts_held, load_stage, with_fingerprint, write_record

__all__ = ["explode", "join", "stack"]

D = TypeVar("D", bound="Dataset | DatasetDict")
BATCH_BYTES = 4_000_000  # target size of the batches of small new rows


@renamed_argument("step", "function")
def explode(
    data: D,
    function: Callable[[Any, Any], Iterable[Mapping[str, Any] | tuple[str, Drop]]],
    settings: Any = None,
    *,
    reads: Sequence[str],
    features: Mapping[str, Any],
    stage: str,
    batch_rows: int = BATCH_ROWS,
    num_proc: int | None = None,
) -> D:
    """Replace each row by the new rows that a row function yields.

    Args:
        data: a Dataset, or a DatasetDict whose splits are transformed separately.
        function: (row, settings) -> iterable of new rows, and of (id, `Drop`) for the ledger; at least one of them.
        settings: plain values, frozen dataclasses or functions, all part of the cache key; default: None.
        reads: the columns that the function receives.
        features: name -> feature of each column of the new rows; the column `id` must be unique.
        stage: name of the stage in the ledger and the lineage.
        batch_rows: rows per batch; default: 2,000. Reduce it for large rows.
        num_proc: number of processes; does not change the result. Default: one.

    Returns:
        The table of the new rows.

    Raises:
        MissingColumns: the table lacks columns of `reads`.
        InputError: a new row has unknown columns, or ids are null or not unique: those of the table, or the new ones.
        UnhashableSetting: a setting cannot be part of a cache key.
        LedgerError: a row yields neither a new row nor a `Drop`.

    >>> def words(row, settings):
    ...     for n, word in enumerate(row["text"].split()):
    ...         yield {"id": f"{row['id']}#{n}", "word": word} if word != "..." else (row["id"], Drop("no_word"))
    >>> from datasets import Dataset, Value
    >>> string = Value("string")
    >>> table = explode(
    ...     Dataset.from_dict({"id": ["a"], "text": ["two ... words"]}), words, reads=["id", "text"],
    ...     features={"id": string, "word": string}, stage="words")
    >>> table["word"][:]
    ['two', 'words']
    """
    check_num_proc(num_proc)
    check_callable("function", function)
    check_names("reads", reads)
    if not isinstance(features, Mapping):
        raise InputError(f"features: expected a mapping of columns to features, found {features!r:.80}")
    check_type("stage", stage, "a name", str)
    if not isinstance(batch_rows, int) or batch_rows < 1:
        raise InputError(f"batch_rows must be an integer of at least 1, found {batch_rows!r}")
    features = Features(features)

    def on_split(split: Dataset) -> Dataset:
        split = materialize(split)
        require_columns(split, reads, stage)
        key = stage_key(split, function, [settings, stage, list(reads)], features)
        if (cached := load_stage(key, split)) is not None:
            return cached
        check_ids(split)
        extended = Features(**features, **DROP_COLUMNS)  # new rows, and dropped rows with their reasons
        batch_function = functools.partial(
            explode_batch, function=function, settings=settings, reads=tuple(reads), features=extended
        )
        # Unique to this process; `remove_stale_files` removes it if the process is killed.
        scratch_key = f"tmp{digest(key, uuid.uuid4().hex)}"
        rows = map_batches(split, batch_function, extended, scratch_key, stage, num_proc, batch_rows)
        dropped = write_dropped(rows, read_drops, stage, key)
        retain = functools.partial(keep_batch, judge=read_drops, columns=tuple(features))
        # Opening a file takes memory for each of its batches, so small new rows go into larger batches.
        larger_batch_rows = max(batch_rows, BATCH_BYTES * len(rows) // max(1, rows.data.nbytes))
        result = map_batches(
            rows, retain, features, key, f"{stage}: keep", num_proc, min(larger_batch_rows, BATCH_ROWS)
        )
        if len(result) + len(dropped) != len(rows):
            raise LedgerError(
                f"{stage}: expected {len(rows)} new rows, found {len(result)} retained and {len(dropped)} dropped"
            )
        check_ids(result)
        write_record(key, {**build_record(stage, [split], settings, result, dropped), "rows_in": len(rows)})
        for file in rows.cache_files:
            Path(file["filename"]).unlink()
        warn_if_empty(result, dropped, stage)
        return result

    return by_split(data, on_split)


def join(parts: Sequence[D], name: str, inputs: Sequence[D] = ()) -> D:
    """Return the columns of several tables side by side; the tables have the same rows and different column names.

    Args:
        parts: the tables.
        name: name of the stage in the lineage.
        inputs: the tables from which `datasets` alone made the parts, for the lineage. Default: the parts.
    """
    return _concatenate(parts, name, axis=1, inputs=inputs)


def stack(parts: Sequence[D], name: str) -> D:
    """Return the rows of several tables with the same columns, one table after the other; ids must be unique.

    If only some tables have a column or field that earlier versions lacked, it is null in the other rows.
    """
    return _concatenate(parts, name, axis=0)


def _concatenate(parts: Sequence[D], name: str, axis: int, inputs: Sequence[D] = ()) -> D:
    if isinstance(parts[0], DatasetDict):
        return DatasetDict(
            {
                split: _concatenate([part[split] for part in parts], name, axis, [table[split] for table in inputs])
                for split in parts[0]
            }
        )
    tables = [materialize(part) for part in parts]
    key = digest(name, axis, [table._fingerprint for table in tables])
    uniform = _with_same_columns(tables, name) if axis == 0 else tables
    if any(len(table) for table in tables):
        with hide_progress_bars(), interrupts_held():
            result = with_fingerprint(concatenate_datasets(uniform, axis=axis), key)
    else:  # concatenate_datasets would return the first table without the columns of the others
        features = Features({column: feature for table in uniform for column, feature in table.features.items()})
        result = map_batches(tables[0], _unchanged, features, key, name, None)  # a file, so that the key stays
    rows_in = sum(len(table) for table in tables) if axis == 0 else len(tables[0])
    for table in [result] if axis == 0 else tables:
        check_ids(table)
    recorded = [materialize(table) for table in inputs] or tables
    write_record(result._fingerprint, {**build_record(name, recorded, None, result), "rows_in": rows_in})
    return result


def _unchanged(table: pa.Table) -> pa.Table:
    return table


def _with_same_columns(tables: Sequence[Dataset], name: str) -> Sequence[Dataset]:
    """Return tables with the same features: columns and fields that earlier versions lacked are added as null."""
    if all(table.features == tables[0].features for table in tables):
        return tables
    features = [completed(table.features) for table in tables]
    first, *others = features
    different = sorted({c for other in others for c in first.keys() | other.keys() if first.get(c) != other.get(c)})
    if different:
        raise InputError(f"{name}: expected tables with the same columns, found differences in {', '.join(different)}")
    return [_complete(table, first) for table in tables]


def _complete(table: Dataset, features: Features) -> Dataset:
    for column in features.keys() - table.features.keys():
        table = table.add_column(column, [None] * len(table), feature=features[column])
    with hide_progress_bars():
        return table.select_columns(list(features)).cast(features, load_from_cache_file=False)
