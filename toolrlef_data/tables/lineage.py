"""lineage: how a table was made, from the records of its stages, and the ledger of rows that were dropped.

`publish` follows the records back, so a bare Dataset is all that is passed around.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from datasets import Dataset, DatasetDict, concatenate_datasets

from toolrlef_data.columns import DROPPED
from toolrlef_data.tables.stage_cache import arrow_files, facts_of, materialize, read_record, write_record

__all__ = ["ledger", "lineage", "record_source", "usage"]


def lineage(data: Dataset) -> list[dict[str, Any]]:
    """The records of the stages that led to a table, oldest first; empty where none is known.

    A record holds fingerprint, inputs, step, settings, `published` (what others may read of the settings), rows_in,
    rows_out, dropped (reason -> rows), `dropped_files` where rows were dropped, and `usage` (requests and tokens) where
    a model was asked. After somebody's own shuffle or select the trail ends there: the list is empty.
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
    """The rows that left at every stage that led to some of the tables, each stage once (`columns.DROPPED`)."""
    parts = [part for table in tables for part in (table.values() if isinstance(table, DatasetDict) else [table])]
    records = {record["fingerprint"]: record for part in parts for record in lineage(part)}
    files = [file for record in records.values() for file in record.get("dropped_files", ())]
    if not files:
        return Dataset.from_dict({name: [] for name in DROPPED}, features=DROPPED)
    return concatenate_datasets([Dataset.from_file(file) for file in files])


def usage(tables: Iterable[Dataset]) -> dict[str, dict[str, int]]:
    """What the replies behind some tables took, by model: requests, prompt_tokens and completion_tokens.

    Each stage counts once; rows that ask the same share a reply and count each.
    """
    records = {record["fingerprint"]: record for table in tables for record in lineage(table)}
    used: dict[str, Counter[str]] = {}
    for taken in (record["usage"] for record in records.values() if "usage" in record):
        used.setdefault(taken["model"], Counter()).update({k: v for k, v in taken.items() if k != "model"})
    return {model: dict(counts) for model, counts in sorted(used.items())}


def record_source(data: Dataset, name: str, settings: Any, dropped: Dataset | None = None) -> None:
    """Write the record at which a trail begins: a source, its settings, and the rows it could not use."""
    rows_in = len(data) + (len(dropped) if dropped is not None else 0)
    facts = {**facts_of(name, [], settings, data, dropped), "rows_in": rows_in}
    if dropped is not None and len(dropped):
        facts["dropped_files"] = arrow_files(materialize(dropped))
    write_record(data._fingerprint, facts)
