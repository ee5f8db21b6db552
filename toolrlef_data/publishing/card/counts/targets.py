"""Counts of tables with training targets: stage 1, and rows of `without_tool`.

| key | number of |
|---|---|
| target, task, dataset, source, verified_by, call or answer | rows |
| need, class, call or answer | rows, if need was measured |
| kind, kind | rows of `without_tool` |
"""

from __future__ import annotations

import pyarrow as pa
from datasets import Features, Value

from toolrlef_data.columns import responders_of
from toolrlef_data.publishing.card.counts.keys import CountBatch, Counts

__all__ = ["counter"]

GROUPS = ("task", "dataset", "source", "verified_by")


def counter(features: Features) -> CountBatch | None:
    """Return the columns to read and the function that counts them; None if the table has no targets."""
    is_target = features.get("output") == Value("string") and features.get("uses_tool") == Value("bool")
    if not is_target or responders_of(features):
        return None
    names = [name for name in (*GROUPS, "need", "kind") if features.get(name) == Value("string")]
    return ["uses_tool", *names], count


def count(batch: pa.Table, counts: Counts) -> None:
    """Add the counts of a batch."""
    for row in batch.to_pylist():
        target = "call" if row["uses_tool"] else "answer"
        counts[("target", *(row.get(name) or "" for name in GROUPS), target)] += 1
        for name in ("need", "kind"):
            if row.get(name) is not None:
                counts[(name, row[name], target)] += 1
