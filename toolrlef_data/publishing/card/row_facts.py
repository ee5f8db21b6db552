"""Numbers of rows for the data card: dropped rows, scores by responder, tool use; and an example row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from datasets import Dataset

from toolrlef_data.columns import responders_of
from toolrlef_data.trice.scoring.stage import lost_in_ledger, responders_scored

__all__ = ["MAX_ITEMS", "dropped_counts", "example", "score_table", "shorten", "uses_tool"]

Splits = Mapping[str, Mapping[str, Dataset]]
MAX_CHARS = 300  # of a text in an example row
MAX_ITEMS = 4  # of a list in an example row


def dropped_counts(splits: Splits) -> list[tuple[str, str, int]]:
    """Return (stage, reason, rows) of all `dropped` configs, most rows first."""
    counts: Counter[tuple[str, str]] = Counter()
    for config, tables in splits.items():
        if config.endswith("-dropped"):
            for data in tables.values():
                counts.update(zip(data["stage"], data["reason"], strict=True))
    return [
        (stage, reason, rows) for (stage, reason), rows in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def score_table(splits: Splits) -> list[dict[str, Any]]:
    """Return one record per responder over all stage 2 tables.

    A record has the scored rows, the mean score, the share of tool use, the counts of the scores, and the share of lost
    rows, in which the responder's response is missing (see `build_stage2`). The mean score and the share of tool use of
    a responder without a scored row are None.
    """
    totals: dict[str, dict[str, Any]] = {}
    lost: Counter[str] = Counter()
    for config, tables in splits.items():
        for data in tables.values():
            if config.endswith("-dropped"):
                lost.update(lost_in_ledger(data))
            if not {"origin", "scores", "uses_tool"} <= set(data.column_names):
                continue
            rows: Counter[str] = Counter(dict.fromkeys(responders_scored(data), 0))
            for batch in data.select_columns(["origin", "scores", "uses_tool"]).iter(1000):
                for names, scores, uses_tool in zip(batch["origin"], batch["scores"], batch["uses_tool"], strict=True):
                    for name, score, uses in zip(names, scores, uses_tool, strict=True):
                        total = totals.setdefault(name, {"rows": 0, "sum": 0.0, "tool": 0, "levels": Counter()})
                        rows[name] += 1
                        total["rows"] += 1
                        total["sum"] += score
                        total["tool"] += uses
                        total["levels"][score] += 1
            lost.update({name: len(data) - count for name, count in rows.items()})
    levels = sorted({level for total in totals.values() for level in total["levels"]}, reverse=True)
    totals |= {name: {"rows": 0, "levels": Counter()} for name, count in lost.items() if count and name not in totals}
    return [
        {
            "name": name,
            "rows": total["rows"],
            "mean": total["sum"] / total["rows"] if total["rows"] else None,
            "tool": total["tool"] / total["rows"] if total["rows"] else None,
            "lost": lost[name] / (total["rows"] + lost[name]),
            "levels": [(level, total["levels"][level]) for level in levels],
        }
        for name, total in totals.items()
    ]


def uses_tool(splits: Splits) -> dict[str, dict[str, Any]]:
    """Return config -> numbers of rows, of targets that are tool calls, and of these calls by verifier ("": none)."""
    counts: dict[str, dict[str, Any]] = {}
    for config, tables in splits.items():
        if not all({"output", "uses_tool"} <= set(data.column_names) for data in tables.values()):
            continue
        if any(responders_of(data.features) for data in tables.values()):
            continue
        calls: Counter[str] = Counter()
        for data in tables.values():
            verifiers = data["verified_by"][:] if "verified_by" in data.column_names else [None] * len(data)
            calls.update(by or "" for by, uses in zip(verifiers, data["uses_tool"][:], strict=True) if uses)
        rows = sum(len(data) for data in tables.values())
        counts[config] = {"rows": rows, "calls": calls.total(), "verified_by": sorted(calls.items())}
    return counts


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
