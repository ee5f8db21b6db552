"""Counts of columns with one response per row: of the student in graded tables, and of responders.

| key | number of |
|---|---|
| reply, column, reason | responses, by the error kind, or else by the reason why the reply ended |
| tokens, column, number | replies with this number of tokens, as the engine counted them |
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Features

from toolrlef_data.columns import responders_of
from toolrlef_data.publishing.card.counts.keys import CountBatch, Counts

__all__ = ["counter"]


def counter(features: Features) -> CountBatch | None:
    """Return the columns to read and the function that counts them; None if the table has no responses."""
    names = responders_of(features)
    return (names, count) if names else None


def count(batch: pa.Table, counts: Counts) -> None:
    """Add the counts of a batch."""
    for name in batch.column_names:
        column = batch.column(name).combine_chunks()
        ends = pc.coalesce(pc.struct_field(column, "error"), pc.struct_field(column, "finish_reason"))
        tokens = pc.struct_field(column, "completion_tokens")
        for key, values in (("reply", ends), ("tokens", tokens)):
            for pair in pc.value_counts(values).to_pylist():
                if pair["values"] is not None:
                    counts[key, name, pair["values"]] += pair["counts"]
