"""Count the rows of a table: the sum of the counts of its batches, as that of a data set is the sum of its shards."""

from __future__ import annotations

from collections import Counter

from datasets import Dataset

from toolrlef_data.publishing.card.counts import rankings, responses, targets, texts
from toolrlef_data.publishing.card.counts.keys import Counts
from toolrlef_data.tables.stage_cache import as_arrow

__all__ = ["counts_of"]

BATCH_ROWS = 100  # a row can have a megabyte
COUNTERS = (targets.counter, rankings.counter, responses.counter, texts.counter)


def counts_of(data: Dataset) -> Counts:
    """Return the counts of a table.

    >>> rows = [{"output": "It is 8.", "uses_tool": False, "source": "student"}] * 2
    >>> counts_of(Dataset.from_list(rows))["target", "", "", "student", "", "answer"]
    2
    """
    counts: Counts = Counter()
    for counter in COUNTERS:
        if (plan := counter(data.features)) is not None:
            columns, count = plan
            for batch in as_arrow(data, columns).iter(BATCH_ROWS):
                count(batch, counts)
    return counts
