"""Numbers of rows for the data card: dropped rows and lost responses; and an example row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from datasets import Dataset

from toolrlef_data.columns import DROPPED
from toolrlef_data.publishing.card.counts import summaries
from toolrlef_data.publishing.card.counts.counting import counts_of
from toolrlef_data.publishing.card.counts.keys import add
from toolrlef_data.tables.identity import distinct
from toolrlef_data.tables.stage_cache import as_arrow, count_values
from toolrlef_data.trice.scoring.stage import lost_in_ledger, responders_scored

__all__ = ["MAX_ITEMS", "dropped_counts", "example", "lost_responses", "score_table", "shorten"]

Splits = Mapping[str, Mapping[str, Dataset]]
MAX_CHARS = 240  # of a text in an example row
MAX_ITEMS = 4  # of a list in an example row


def dropped_counts(splits: Splits) -> list[tuple[str, str, int]]:
    """Return (stage, reason, rows) of all `dropped` configs, most rows first."""
    counts: Counter[tuple[Any, ...]] = Counter()
    for data in _ledgers(splits):
        counts.update(count_values(data, "stage", "reason"))
    return [
        (stage, reason, rows) for (stage, reason), rows in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def _ledgers(splits: Splits) -> list[Dataset]:
    """Return the ledgers, each row once: a dropped row of a task that is not published is in those of all tasks."""
    ledgers = [data for config, tables in splits.items() if config.endswith("-dropped") for data in tables.values()]
    if (
        len(ledgers) == 1
        or max(Counter(task for data in ledgers for task in data.unique("task")).values(), default=1) == 1
    ):
        return ledgers
    rows = ((n, i, row) for n, data in enumerate(ledgers) for i, row in enumerate(data.select_columns(list(DROPPED))))
    kept: list[list[int]] = [[] for _ in ledgers]
    for n, i, _ in distinct(rows, lambda place: place[2]):
        kept[n].append(i)
    return [data.select(numbers) for data, numbers in zip(ledgers, kept, strict=True)]


def score_table(splits: Splits) -> list[dict[str, Any]]:
    """Return one record per responder over all stage 2 tables (see `summaries.score_table`).

    Args:
        splits: config -> split -> table; the configs of ledgers end with "-dropped".
    """
    data_tables = [tables for config, tables in splits.items() if not config.endswith("-dropped")]
    counts = add(counts_of(data) for tables in data_tables for data in tables.values())
    return summaries.score_table(counts, lost_responses(splits))


def lost_responses(splits: Splits) -> dict[str, Counter[str]]:
    """Return responder -> reason -> rows in which its response is missing.

    The order is that of the lineage of stage 2; other responders follow by name, gold first. The reason is empty for
    the responses that `build_stage2(lacking="drop_response")` dropped without their row.
    """
    lost: dict[str, Counter[str]] = {}
    in_ledger: Counter[tuple[str, str]] = Counter()
    for data in _ledgers(splits):
        in_ledger.update(lost_in_ledger(data))
    for tables in splits.values():
        for data in tables.values():
            if not {"origin", "scores", "uses_tool"} <= set(data.column_names):
                continue
            rows: Counter[str] = Counter()
            for batch in as_arrow(data, ["origin"]).iter(1000):
                for row in batch["origin"].to_pylist():
                    rows.update(row or ())
            others = sorted(rows, key=lambda name: (name != "gold", name))
            for name in dict.fromkeys([*responders_scored(data), *others]):
                lost.setdefault(name, Counter())[""] += len(data) - rows[name]
    for (name, reason), count in sorted(in_ledger.items()):
        lost.setdefault(name, Counter())[reason] += count
    return lost


def example(tables: Mapping[str, Dataset], max_items: int | None) -> dict[str, Any] | None:
    """Return the first row of a config in a short form."""
    first = next(iter(tables.values()))
    return {name: shorten(value, max_items) for name, value in first[0].items()} if len(first) else None


def shorten(value: Any, max_items: int | None = None) -> Any:
    """Return a JSON value whose texts are cut to `MAX_CHARS` and whose lists are cut to about `max_items` items.

    >>> shorten({"a": [1, 2, 3, 4, 5, 6]}, 3)
    {'a': [1, 2, '... 3 more ...', 6]}
    """
    if isinstance(value, str):
        return value[:MAX_CHARS] + " ..." if len(value) > MAX_CHARS else value
    if isinstance(value, dict):
        return {name: shorten(part, max_items) for name, part in value.items()}
    if isinstance(value, list):
        if max_items is not None and len(value) > max_items:
            value = [*value[: max_items - 1], f"... {len(value) - max_items} more ...", value[-1]]
        return [shorten(part, max_items) for part in value]
    return value
