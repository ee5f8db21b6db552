"""Lineage and ledger of a table, read from the records of its stages.

A plain Dataset is sufficient: its fingerprint identifies its record, and the record lists the fingerprints of its
inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, concatenate_datasets

from toolrlef_data.columns import DROPPED
from toolrlef_data.records import Drop, InputError, ToolrlefError
from toolrlef_data.tables.files import scratch_file
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.row_files import materialize
from toolrlef_data.tables.stage_cache import (
    arrow_files,
    as_arrow,
    build_record,
    interrupts_held,
    open_recorded,
    read_record,
    record_path,
    stages_dir,
    store_files,
    write_record,
)

__all__ = ["has_records", "ledger", "lineage", "record_source", "usage", "without_tasks", "write_dropped"]


def lineage(data: Dataset) -> list[dict[str, Any]]:
    """Return the records of the stages that produced a table, oldest first.

    Args:
        data: a table; a table that was shuffled or selected with `datasets` alone has no records.

    Returns:
        Dicts with the keys fingerprint, inputs (fingerprints), step (the stage's name), settings, published (the
        redacted settings), rows_in, rows_out, dropped (reason -> rows), files and stamps (file -> size and checksum).
        Optional keys: dropped_files (if rows were dropped), usage (requests and tokens of a model) and step_digest
        (see `batches.step_digest`).

    Raises:
        ToolrlefError: a record is damaged; the stages must run again.

    >>> from toolrlef_data import lineage, load_source, subset
    >>> [record["step"] for record in lineage(subset(load_source("sample", split="train"), 10))]
    ['source sample', 'subset']
    """
    records: dict[str, dict[str, Any]] = {}

    def visit(fingerprint: str) -> None:
        record = read_record(fingerprint)
        if record is None and record_path(fingerprint).exists():
            raise ToolrlefError(f"{record_path(fingerprint)} is damaged: run the stages again")
        if record is None or "replaced_by" in record or fingerprint in records:
            return
        for parent in record["inputs"]:
            visit(parent)
        records[fingerprint] = record

    if isinstance(data, DatasetDict):
        raise InputError(f"lineage: expected a Dataset, found a DatasetDict: pass one of its splits {list(data)}")
    if not isinstance(data, Dataset):
        raise InputError(f"lineage: expected a Dataset, found {type(data).__name__}")
    visit(materialize(data)._fingerprint)
    return list(records.values())


def has_records(fingerprint: str, end: str) -> bool:
    """Return whether the records of a stage and of its inputs can be read, down to the table `end`."""
    record = read_record(fingerprint)
    return record is not None and all(parent == end or has_records(parent, end) for parent in record["inputs"])


def ledger(tables: Iterable[Dataset | DatasetDict]) -> Dataset:
    """Return the ledger: the dropped rows of all stages that produced the given tables, each stage once.

    Args:
        tables: Datasets or DatasetDicts.

    Returns:
        A table with the columns id, task, dataset, stage, reason and detail (`columns.DROPPED`).

    Raises:
        ToolrlefError: a record or a file of dropped rows is missing or damaged; the stages must run again.

    >>> from toolrlef_data import ledger, load_source, subset
    >>> ledger([subset(load_source("sample", split="train"), 10)])["reason"][:2]
    ['not_drawn', 'not_drawn']
    """
    if isinstance(tables, (Dataset, DatasetDict)) or not isinstance(tables, Iterable):
        raise InputError(f"ledger: expected a list of tables, as in `ledger([table])`, found {type(tables).__name__}")
    splits = [split for table in tables for split in (table.values() if isinstance(table, DatasetDict) else [table])]
    records = {record["fingerprint"]: record for split in splits for record in lineage(split)}
    tables = [open_recorded(record, "dropped_files") for record in records.values() if record.get("dropped_files")]
    if not tables:
        return _no_drops()
    with interrupts_held():
        return concatenate_datasets(tables)


def without_tasks(dropped: Dataset, tasks: Iterable[str]) -> Dataset:
    """Return the rows of a ledger whose task is none of the given ones."""
    excluded = pa.array(sorted(tasks), pa.string())
    columns = (table.column("task") for table in as_arrow(dropped, ["task"]).iter(10_000))
    masks = [pc.is_in(column, value_set=excluded).to_numpy() for column in columns]
    return dropped.select(np.flatnonzero(~np.concatenate([np.zeros(0, bool), *masks])))


def usage(tables: Iterable[Dataset]) -> dict[str, dict[str, int]]:
    """Return the numbers of requests, prompt tokens and completion tokens of the given tables' lineages, by model.

    A stage counts once, even if it occurs in several lineages. Rows that share a reply count separately.
    """
    records = {record["fingerprint"]: record for table in tables for record in lineage(table)}
    totals: dict[str, Counter[str]] = {}
    for counts in (record["usage"] for record in records.values() if "usage" in record):
        totals.setdefault(counts["model"], Counter()).update({name: n for name, n in counts.items() if name != "model"})
    return {model: dict(counts) for model, counts in sorted(totals.items())}


def record_source(data: Dataset, name: str, settings: Any, dropped: Dataset | None = None) -> None:
    """Write the record of a source, the first record of a lineage: its settings, row counts and dropped rows."""
    rows_in = len(data) + (len(dropped) if dropped is not None else 0)
    record = {**build_record(name, [], settings, data, dropped), "rows_in": rows_in}
    if dropped is not None and len(dropped):
        record["dropped_files"] = arrow_files(materialize(dropped))
    write_record(data._fingerprint, record)


def write_dropped(data: Dataset, judge: Callable[[pa.Table], list[Drop | None]], stage: str, key: str) -> Dataset:
    """Return the rows that the judge drops as a table (`columns.DROPPED`), in a file if there are any."""
    identity = [column for column in ("id", "task", "dataset") if column in data.column_names]
    with scratch_file(stages_dir()) as scratch:
        with open(scratch, "wb") as file, pa.ipc.new_stream(file, DROPPED.arrow_schema) as writer:
            for table in as_arrow(data).iter(1000):
                verdicts = judge(table)
                drops = [verdict for verdict in verdicts if verdict is not None]
                if not drops:
                    continue
                rows = [i for i, verdict in enumerate(verdicts) if verdict is not None]
                values = table.select(identity).take(pa.array(rows, pa.int64())).to_pydict()
                columns = {name: values.get(name, [None] * len(drops)) for name in ("id", "task", "dataset")}
                columns |= {"stage": [stage] * len(drops)}
                columns |= {name: [getattr(drop, name) for drop in drops] for name in ("reason", "detail")}
                writer.write_table(pa.table(columns, schema=DROPPED.arrow_schema))
        if not Dataset.from_file(str(scratch)):
            return _no_drops()
        return store_files([scratch], digest(key, "dropped"))


def _no_drops() -> Dataset:
    return Dataset.from_dict({name: [] for name in DROPPED}, features=DROPPED)
