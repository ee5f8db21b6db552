"""The rows of a table in memory: of `datasets`, pandas, Polars and others that export Arrow, or a list of dicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from toolrlef_data.checks import check_table
from toolrlef_data.records import InputError
from toolrlef_data.tables.stage_cache import as_arrow

__all__ = ["LocatedRow", "dataset_rows", "rows_by_split"]

LocatedRow = tuple[str, Mapping[str, Any]]  # where the row stands, for messages; the row
EXPECTED = "a Dataset, DatasetDict, IterableDataset, pandas or Polars frame, Arrow table, or a list of dicts"


def rows_by_split(table: Any, limit: int | None) -> dict[str, Iterator[LocatedRow]]:
    """Return split -> (location, row) pairs of a table; a table without splits is "train" unless it names its split.

    Raises:
        InputError: the table has another type, a transform, or, as an `IterableDataset`, no limit.
    """
    if isinstance(table, DatasetDict):
        check_table(table)
        return {split: _located(dataset_rows(data), f"{split}, ") for split, data in table.items()}
    if isinstance(table, Dataset):
        return {str(table.split or "train"): _located(dataset_rows(check_table(table)))}
    if isinstance(table, IterableDataset):
        if limit is None:
            raise InputError("an IterableDataset may have no end: pass rows=, the number of rows to read")
        return {str(table.split or "train"): _located(iter(table))}
    return {"train": _located(_frame_rows(table))}


def _located(rows: Iterator[Any], prefix: str = "") -> Iterator[LocatedRow]:
    for n, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise InputError(f"{prefix}row {n}: expected a dict, found {type(row).__name__}")
        yield f"{prefix}row {n}", row


def dataset_rows(data: Dataset) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table, with the names of labels instead of their numbers."""
    labels = {name: feature for name, feature in data.features.items() if isinstance(feature, ClassLabel)}
    for batch in as_arrow(data).iter(1000):
        for row in batch.to_pylist():
            numbers = {name: row[name] for name in labels}
            names = {name: None if n in (None, -1) else labels[name].int2str(n) for name, n in numbers.items()}
            yield {**row, **names}


def _frame_rows(table: Any) -> Iterator[Any]:
    if type(table).__module__.partition(".")[0] == "pandas" and hasattr(table, "columns"):
        columns = [str(column) for column in table.columns]
        if repeated := sorted({column for column in columns if columns.count(column) > 1}):
            raise InputError(f"the frame has several columns named {', '.join(repeated)}: rename them")
        return (dict(zip(columns, row, strict=True)) for row in table.itertuples(index=False, name=None))
    if hasattr(table, "__arrow_c_stream__") and hasattr(table, "columns"):  # a Series has no columns
        return (row for batch in pa.RecordBatchReader.from_stream(table) for row in batch.to_pylist())
    if isinstance(table, (list, tuple)):
        return iter(table)
    found = type(table).__name__
    if isinstance(table, IterableDatasetDict):
        raise InputError("expected one split of the IterableDatasetDict: pass table['train']")
    if isinstance(table, Mapping):
        raise InputError(f"expected {EXPECTED}, found {found}; a dict of columns is Dataset.from_dict(...)")
    if isinstance(table, str) or hasattr(table, "__fspath__"):
        raise InputError(f"expected {EXPECTED}, found {found}; load_source({str(table)!r}, ...) reads a file")
    raise InputError(f"expected {EXPECTED}, found {found}")
