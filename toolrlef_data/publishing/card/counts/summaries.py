"""Rows of the card's tables from sums of counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from toolrlef_data.publishing.card.counts.keys import Counts, group
from toolrlef_data.publishing.card.counts.rankings import MILLION
from toolrlef_data.publishing.card.counts.texts import MEASURED, PATTERNS
from toolrlef_data.publishing.figures.charts import Histogram, bins, quantile

__all__ = [
    "by_name",
    "length_table",
    "logprob_table",
    "pattern_table",
    "rankings",
    "score_table",
    "target_table",
    "tool_rate_groups",
    "word_histograms",
]

ByConfig = Mapping[str, Counts]
Rate = tuple[int, int]  # rows with a call, rows
CALL = "call"


def score_table(counts: Counts, lost: Mapping[str, Counter[str]]) -> list[dict[str, Any]]:
    """Return one record per responder over all stage 2 tables.

    Args:
        counts: the sum of their counts.
        lost: result of `lost_responses`; the records have its order, and other responders follow by name.

    Returns:
        Records with name, rows, lost, mean (None without a score), grades, calls, responses, as_gold, others (responses
        beside one of gold), levels (score or range of scores, rows) and scores (score -> rows).
    """
    scores = _nested(group(counts, "score"))
    grades, as_gold = (_nested(group(counts, name)) for name in ("grade", "as_gold"))
    n_lost = {name: reasons.total() for name, reasons in lost.items()}
    known = dict.fromkeys([*lost, *scores])
    names = [name for name in known if scores.get(name) or n_lost.get(name)]
    levels, binned = bins({name: _of(scores, name) for name in names})
    table = []
    for name in names:
        rows = sum(_of(scores, name).values())
        calls = sum(n for (*_, target), n in group(counts, "tool", name).items() if target == CALL)
        table.append(
            {
                "name": name,
                "rows": rows,
                "lost": n_lost.get(name, 0),
                "mean": counts["score_sum", name] / MILLION / rows if rows else None,
                "grades": _of(grades, name),
                "calls": calls,
                "responses": sum(group(counts, "tool", name).values()),
                "as_gold": _of(as_gold, name)["same"],
                "others": _of(as_gold, name).total(),
                "levels": [(level, binned[name][level]) for level in levels],
                "scores": dict(sorted(_of(scores, name).items())),
            }
        )
    return table


def by_name(counts: Counts, key: str) -> dict[str, dict[str, int]]:
    """Return first value of a key -> second value -> number, most first.

    >>> by_name(Counter({("reply", "small", "stop"): 2, ("reply", "small", "empty"): 3}), "reply")
    {'small': {'empty': 3, 'stop': 2}}
    """
    found = _nested(group(counts, key))
    return {name: dict(sorted(found[name].items(), key=lambda item: (-item[1], item[0]))) for name in found}


def rankings(counts: Counts) -> dict[str, int]:
    """Return the numbers of rows by the scores of their responses; empty without stage 2.

    >>> rankings(Counter({("ranking", "all_equal"): 2, ("ranking", "some_equal"): 1}))
    {'rows': 3, 'all_different': 0, 'some_equal': 1, 'all_equal': 2, 'one': 0}
    """
    found = group(counts, "ranking")
    names = ("all_different", "some_equal", "all_equal", "one")
    return {"rows": found.total(), **{name: found[(name,)] for name in names}} if found else {}


def target_table(counts: ByConfig) -> dict[str, dict[str, Any]]:
    """Return config -> numbers of rows, of targets that are tool calls, and of these calls by verifier ("": none)."""
    table = {}
    for config, found in ((config, group(part, "target")) for config, part in counts.items()):
        calls: Counter[str] = Counter()
        for (*_, verified_by, target), rows in found.items():
            if target == CALL:
                calls[str(verified_by)] += rows
        if found:
            table[config] = {"rows": found.total(), "calls": calls.total(), "verified_by": sorted(calls.items())}
    return table


def tool_rate_groups(counts: Counts) -> dict[str, dict[str, Rate]]:
    """Return heading -> name -> (rows with a call, rows), for the figure of tool rates."""
    groups: dict[str, dict[str, Rate]] = {}
    for heading, key in (
        ("targets by task", "target"),
        ("targets by need", "need"),
        ("responses by responder", "tool"),
    ):
        rates: dict[str, Rate] = {}
        for (name, *_, target), rows in group(counts, key).items():
            calls, total = rates.get(str(name), (0, 0))
            rates[str(name)] = (calls + rows * (target == CALL), total + rows)
        if rates:
            groups[heading] = {name or "unknown": rates[name] for name in sorted(rates, key=_place)}
    return groups


def word_histograms(counts: Counts) -> dict[str, dict[str, Histogram]]:
    """Return unit -> name of the texts -> length -> number of texts."""
    units = {"words": _nested(group(counts, "words"))}
    units["tokens, as the engine counted them"] = _nested(group(counts, "tokens"))
    units["tokens of the model of the log-probabilities"] = _nested(group(counts, "logprob_tokens"))
    return {unit: {name: dict(values) for name, values in named.items()} for unit, named in units.items() if named}


def length_table(counts: Counts) -> list[dict[str, Any]]:
    """Return one record per kind of text: unit, name, texts, mean, median, high (95 % quantile) and longest."""
    table = []
    for unit, named in word_histograms(counts).items():
        for name, histogram in named.items():
            texts = sum(histogram.values())
            mean = sum(length * n for length, n in histogram.items()) / texts
            quantiles = {key: quantile(histogram, share) for key, share in (("median", 0.5), ("high", 0.95))}
            table.append(
                {"unit": unit, "name": name, "texts": texts, "mean": mean, **quantiles, "longest": max(histogram)}
            )
    return table


def logprob_table(counts: Counts) -> list[dict[str, Any]]:
    """Return one record per responder: name, values, missing (error -> responses) and mean per token in nats."""
    table = []
    for name, found in _nested(group(counts, "logprob")).items():
        values = found.pop("value", 0)
        mean = counts["logprob_sum", name] / MILLION / values if values else None
        table.append({"name": name, "values": values, "missing": dict(sorted(found.items())), "mean": mean})
    return table


def pattern_table(counts: ByConfig) -> tuple[int, list[dict[str, Any]]]:
    """Return the number of searched texts, and one record per config and column with a match of `PATTERNS`."""
    total, table = 0, []
    for config, part in counts.items():
        for (column,), texts in sorted(group(part, "texts").items()):
            total += texts
            found = {kind: part["pattern", column, kind] for kind in PATTERNS}
            if any(found.values()):
                table.append({"config": config, "column": column, "texts": texts, "found": found})
    return total, table


def _nested(counts: Counts) -> dict[str, Counter[Any]]:
    """Return first value of the keys -> second value -> number."""
    nested: dict[str, Counter[Any]] = {}
    for (name, value, *_), number in counts.items():
        nested.setdefault(str(name), Counter())[value] += number
    return {name: nested[name] for name in sorted(nested, key=_place)}


def _place(name: str) -> tuple[int, str]:
    """Return the place of a name in a table, whatever the order of the rows: columns, then gold, then responders."""
    order = [*MEASURED, "gold"]
    return (order.index(name) if name in order else len(order), name)


def _of(nested: Mapping[str, Counter[Any]], name: str) -> Counter[Any]:
    return nested.get(name, Counter())
