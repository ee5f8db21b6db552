"""The removal of the rows that a table lists, with all columns of the list as the detail in the ledger."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict

from toolrlef_data.checks import features_of, require_columns
from toolrlef_data.records import Drop, InputError
from toolrlef_data.tables.identity import Hashes, RowNumbers, text_hash
from toolrlef_data.tables.stage_cache import arrow_files, as_arrow, open_files
from toolrlef_data.tables.transform import keep

__all__ = ["drop_listed", "table_text_column", "text_column"]

TEXT_COLUMNS = ("question", "query", "problem", "text", "prompt", "instruction")


def text_column(columns: Sequence[str], column: str | None, name: str) -> str:
    """Return the given column, or else the first of `TEXT_COLUMNS`; raise an `InputError` if it is missing."""
    known = [column] if column is not None else TEXT_COLUMNS
    found = next((candidate for candidate in known if candidate in columns), None)
    if found is None:
        raise InputError(f"{name}: no column {' or '.join(map(repr, known))}; choose from: {', '.join(columns)}")
    return found


def table_text_column(data: Dataset | DatasetDict, column: str | None, name: str) -> str:
    """Return the column of a table with the text; raise an `InputError` unless it and `id` are texts."""
    features = features_of(data)
    found = text_column(list(features), column, name)
    for needed in ("id", found):
        dtype = getattr(features.get(needed), "dtype", None)
        if needed in features and dtype not in ("string", "large_string"):
            raise InputError(f"{name}: expected texts in the column {needed!r}, found {dtype or features[needed]}")
    return found


def drop_listed(
    data: Dataset, listed: Dataset, search: Any, stage: str, reason: str, num_proc: int | None = None
) -> Dataset:
    """Return a table without the rows that another table lists by `id`.

    Args:
        data: the table.
        listed: the list; its other columns are the detail in the ledger, and `kind`, if it has one, ends the reason.
        search: the settings with which the list was made, for the lineage.
        stage: name of the stage in the ledger and the lineage.
        reason: the reason in the ledger.
        num_proc: number of processes. Default: one.
    """
    require_columns(data, ["id"], stage)
    removal = _Removal(search, reason, listed._fingerprint, tuple(arrow_files(listed)))
    return keep(data, _judge, removal, reads=["id"], stage=stage, batched=True, num_proc=num_proc)


@dataclass(frozen=True, slots=True)
class _Removal:
    """The settings of `_judge`; the fingerprint of the list is in the key, its files are not."""

    search: Any
    reason: str
    listed: str
    files: tuple[str, ...]

    def in_key(self) -> dict[str, Any]:
        return {"files": ()}

    def published(self) -> Any:
        return self.search.published()


def _judge(columns: Mapping[str, list[str]], removal: _Removal) -> list[Drop | None]:
    """Return a drop for each row of a batch that is listed."""
    listed, hashes, order = _listed_by_id(removal)
    verdicts: list[Drop | None] = [None] * len(columns["id"])
    if not len(hashes):
        return verdicts
    ids = np.array([text_hash(row_id) for row_id in columns["id"]], np.uint64)
    positions = np.minimum(np.searchsorted(hashes, ids), len(hashes) - 1)
    for i in np.flatnonzero(hashes[positions] == ids).tolist():
        row = int(order[positions[i]])
        (facts,) = listed[row : row + 1].to_pylist()
        kind = facts.pop("kind", None)
        detail = {name: round(value, 3) if isinstance(value, float) else value for name, value in facts.items()}
        del detail["id"]
        reason = f"{removal.reason}_{kind}" if kind else removal.reason
        verdicts[i] = Drop(reason, json.dumps(detail, ensure_ascii=False))
    return verdicts


@functools.lru_cache(1)
def _listed_by_id(removal: _Removal) -> tuple[Dataset, Hashes, RowNumbers]:
    """Return the list, the sorted hashes of its ids, and the row of each."""
    listed = as_arrow(open_files(removal.files))
    hashes = np.array([text_hash(row_id) for row_id in listed["id"].to_pylist()], np.uint64)
    order = np.argsort(hashes)
    return listed, hashes[order], order
