"""Lineage and ledger of a table, read from the records of its stages.

A plain Dataset is sufficient: its fingerprint identifies its record, and the record lists the fingerprints of its
inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from datasets import Dataset, DatasetDict, concatenate_datasets

from toolrlef_data.columns import DROPPED
from toolrlef_data.tables.stage_cache import arrow_files, build_record, materialize, read_record, write_record

__all__ = ["ledger", "lineage", "record_source", "usage"]


def lineage(data: Dataset) -> list[dict[str, Any]]:
    """Return the records of the stages that produced a table, oldest first.

    Args:
        data: a table; a table that was shuffled or selected with `datasets` alone has no records.

    Returns:
        Dicts with the keys fingerprint, inputs (fingerprints), step (the stage's name), settings, published (the
        redacted settings), rows_in, rows_out, dropped (reason -> rows) and files. Optional keys: dropped_files (if rows
        were dropped) and usage (requests and tokens of a model).

    >>> from toolrlef_data import lineage, load_source, subset
    >>> [record["step"] for record in lineage(subset(load_source("sample", split="train"), 10))]
    ['source sample', 'subset']
    """
    records: dict[str, dict[str, Any]] = {}

    def visit(fingerprint: str) -> None:
        record = read_record(fingerprint)
        if record is None or fingerprint in records:
            return
        for parent in record["inputs"]:
            visit(parent)
        records[fingerprint] = record

    visit(materialize(data)._fingerprint)
    return list(records.values())


def ledger(tables: Iterable[Dataset | DatasetDict]) -> Dataset:
    """Return the ledger: the dropped rows of all stages that produced the given tables, each stage once.

    Args:
        tables: Datasets or DatasetDicts.

    Returns:
        A table with the columns id, task, dataset, stage, reason and detail (`columns.DROPPED`).

    >>> from toolrlef_data import ledger, load_source, subset
    >>> ledger([subset(load_source("sample", split="train"), 10)])["reason"][:2]
    ['not_drawn', 'not_drawn']
    """
    splits = [split for table in tables for split in (table.values() if isinstance(table, DatasetDict) else [table])]
    records = {record["fingerprint"]: record for split in splits for record in lineage(split)}
    files = [file for record in records.values() for file in record.get("dropped_files", ())]
    if not files:
        return Dataset.from_dict({name: [] for name in DROPPED}, features=DROPPED)
    return concatenate_datasets([Dataset.from_file(file) for file in files])


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
