"""Sources for the data card: the data sets of the rows, with their licences, and the numbers of rows by config."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import pyarrow.compute as pc
from datasets import Dataset

from toolrlef_data.columns import DROPPED
from toolrlef_data.loading_scripts.licences import LICENCES, Licence
from toolrlef_data.tables.stage_cache import as_arrow

__all__ = ["SourceFacts", "source_facts"]

BATCH_ROWS = 10_000
UNKNOWN = Licence("", "", "not a source of this package; the publisher knows its terms")


class SourceFacts(NamedTuple):
    """A data set in the column `dataset`: its licence, and its rows by config."""

    name: str
    licence: Licence
    rows: dict[str, int]


def source_facts(splits: Mapping[str, Mapping[str, Dataset]]) -> list[SourceFacts]:
    """Return the data sets of all tables, sorted by name; dropped rows are not counted.

    Args:
        splits: config -> split -> table.
    """
    rows: dict[str, Counter[str]] = {}
    for config, tables in splits.items():
        for data in tables.values():
            if config.endswith("-dropped") or data.features.get("dataset") != DROPPED["dataset"]:
                continue
            for batch in as_arrow(data, ["dataset"]).iter(BATCH_ROWS):
                for pair in pc.value_counts(batch["dataset"]).to_pylist():
                    if pair["values"] is not None:
                        rows.setdefault(pair["values"], Counter())[config] += pair["counts"]
    return [SourceFacts(name, LICENCES.get(name, UNKNOWN), dict(rows[name])) for name in sorted(rows)]
