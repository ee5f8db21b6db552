"""Figures from counts: rows by stage, scores by responder, tool calls, need and lengths."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from toolrlef_data.publishing.figures.drawing import COLOURS, Line, Part, draw
from toolrlef_data.publishing.markdown import visible

__all__ = ["FIGURES", "Figure", "bins", "funnel", "lengths", "need", "quantile", "scores", "tool_rates"]

# Names of the files in a published folder.
FIGURES = tuple(f"figures/{name}.svg" for name in ("funnel", "scores", "tool_rates", "need", "lengths"))

Histogram = Mapping[int, int]  # value -> number

MAX_PARTS = len(COLOURS)
RANGE = (0.05, 0.5, 0.95)  # quantiles that the figure of lengths shows
LOGARITHMIC = 20  # lengths have a logarithmic scale if the longest is so many times the shortest


class Figure(NamedTuple):
    """A figure.

    Args:
        file: path in a published folder, one of `FIGURES`.
        svg: contents of the file.
        alt: the numbers of the figure as text.
    """

    file: str
    svg: bytes
    alt: str


def funnel(stages: Sequence[tuple[str, int, int]]) -> Figure | None:
    """Return the rows that remained after each stage and those that it dropped; None without rows.

    Args:
        stages: (name, output rows, dropped rows) of each stage, in their order.

    >>> funnel([("source gsm8k", 90, 10), ("build_stage1", 60, 30)]).alt
    'Rows by stage. source gsm8k: 90 rows, 10 dropped. build_stage1: 60 rows, 30 dropped.'
    """
    most = max((out + dropped for _, out, dropped in stages), default=0)
    if not most:
        return None
    lines = [
        Line(
            name,
            (Part(0, out / most, 2), Part(out / most, dropped / most, 6)),
            f"{out:,}" + (f", {dropped:,} dropped" if dropped else ""),
        )
        for name, out, dropped in stages
    ]
    texts = [f"{name}: {_rows(out)}, {dropped:,} dropped" for name, out, dropped in stages]
    return _figure("funnel", [("rows", 2), ("dropped", 6)], lines, "Rows by stage", texts)


def scores(counts: Mapping[str, Mapping[float, int]]) -> Figure | None:
    """Return the shares of the scores of each responder; None without scores.

    Args:
        counts: responder -> score -> number of rows. More than eight different scores are shown in eight ranges.

    >>> scores({"gold": {20.0: 4}, "small": {20.0: 1, 5.0: 3}}).alt
    'Scores by responder. gold: 4 rows; 20: 4, 5: 0. small: 4 rows; 20: 1, 5: 3.'
    """
    names, binned = bins(counts)
    return _shares("scores", binned, names, "Scores by responder")


def need(counts: Mapping[str, Mapping[str, int]]) -> Figure | None:
    """Return the shares of the classes of need of each model; None without questions.

    Args:
        counts: model -> class -> number of questions; all models have the same classes.

    >>> need({"small": {"needs_tool": 3, "harmed": 1}}).alt
    'Need of the tool by model. small: 4 rows; needs_tool: 3, harmed: 1.'
    """
    names = list(dict.fromkeys(name for by_class in counts.values() for name in by_class))
    return _shares("need", counts, names, "Need of the tool by model")


def tool_rates(groups: Mapping[str, Mapping[str, tuple[int, int]]]) -> Figure | None:
    """Return the shares of tool calls in groups of rows; None without rows.

    Args:
        groups: heading, such as "by task" -> name -> (rows with a call, rows).

    >>> tool_rates({"targets by task": {"math": (3, 4)}}).alt
    'Share of tool calls. targets by task: math 75.0 % (3 of 4).'
    """
    lines, texts = [], []
    for heading, rates in groups.items():
        rates = {name: rate for name, rate in rates.items() if rate[1]}
        shares = {name: f"{100 * calls / rows:.1f} % ({calls:,} of {rows:,})" for name, (calls, rows) in rates.items()}
        if rates:
            lines.append(Line(heading))
            lines += [
                Line(name, (Part(0, calls / rows, 2),), shares[name], tick=1.0) for name, (calls, rows) in rates.items()
            ]
            texts.append(f"{heading}: " + ", ".join(f"{name} {share}" for name, share in shares.items()))
    return _figure("tool_rates", [], lines, "Share of tool calls", texts) if lines else None


def lengths(histograms: Mapping[str, Mapping[str, Histogram]]) -> Figure | None:
    """Return the ranges of lengths: the 5 % quantile, the median and the 95 % quantile; None without texts.

    Args:
        histograms: unit, such as "words" -> name -> length -> number of texts.

    >>> lengths({"words": {"input": {10: 1, 20: 2, 40: 1}}}).alt
    'Lengths (5 % quantile, median, 95 % quantile, longest). words: input 10, 20, 40, 40.'
    """
    lines, texts = [], []
    for unit, named in histograms.items():
        found = {name: counts for name, counts in named.items() if sum(counts.values())}
        values = {name: [*(quantile(counts, q) for q in RANGE), max(counts)] for name, counts in found.items()}
        if not found:
            continue
        longest = max(row[2] for row in values.values())
        shortest = max(1, min(row[0] for row in values.values()))
        scale = functools.partial(_position, longest=longest, logarithmic=longest > LOGARITHMIC * shortest)
        lines.append(Line(unit + (" (logarithmic scale)" if longest > LOGARITHMIC * shortest else "")))
        for name, (low, median, high, most) in values.items():
            start, middle, end = map(scale, (low, median, high))
            text = f"{median:,} ({low:,} to {high:,}), longest {most:,}"
            bar = (Part(start, middle - start, 1), Part(middle, end - middle, 1))
            lines.append(Line(name, bar, text, tick=middle))
        texts.append(
            f"{unit}: " + "; ".join(f"{name} {', '.join(f'{n:,}' for n in row)}" for name, row in values.items())
        )
    title = "Lengths (5 % quantile, median, 95 % quantile, longest)"
    return _figure("lengths", [("5 % to 95 % quantile, and median", 1)], lines, title, texts) if lines else None


# Counts ---------------------------------------------------------------------------------------------------------------


def quantile(counts: Histogram, share: float) -> int:
    """Return the lowest value that at least this share of the values does not exceed.

    >>> quantile({1: 5, 9: 5}, 0.5), quantile({1: 5, 9: 5}, 0.51)
    (1, 9)
    """
    total, seen = sum(counts.values()), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= share * total:
            return value
    raise ValueError("no values")


def bins(counts: Mapping[str, Mapping[float, int]]) -> tuple[list[str], dict[str, dict[str, int]]]:
    """Return names of scores, highest first, and name -> name of the score -> number.

    More than `MAX_PARTS` different scores become that many ranges of equal width.

    >>> bins({"a": {20.0: 1, 5.5: 2}, "b": {}})
    (['20', '5.5'], {'a': {'20': 1, '5.5': 2}, 'b': {'20': 0, '5.5': 0}})
    """
    values = sorted({value for histogram in counts.values() for value in histogram}, reverse=True)
    if len(values) <= MAX_PARTS:
        names = {value: f"{value:.6g}" for value in values}
    else:
        low, width = values[-1], (values[0] - values[-1]) / MAX_PARTS
        index = {value: min(MAX_PARTS - 1, math.floor((value - low) / width)) for value in values}
        names = {v: f"{low + i * width:.4g} to {low + (i + 1) * width:.4g}" for v, i in index.items()}
    binned = {name: dict.fromkeys(names.values(), 0) for name in counts}
    for name, histogram in counts.items():
        for value, number in histogram.items():
            binned[name][names[value]] += number
    return list(dict.fromkeys(names.values())), binned


# Common parts ---------------------------------------------------------------------------------------------------------


def _shares(name: str, counts: Mapping[str, Mapping[str, int]], parts: Sequence[str], title: str) -> Figure | None:
    """Return a figure with one bar per key of `counts`, whose parts are shares of it."""
    lines, texts = [], []
    step = max(1, MAX_PARTS // max(1, len(parts)))
    colours = {part: i * step % MAX_PARTS for i, part in enumerate(parts)}
    for label, by_part in counts.items():
        total, start, bar = sum(by_part.values()), 0.0, []
        for part in parts if total else ():
            share = by_part[part] / total
            bar.append(Part(start, share, colours[part], f"{100 * share:.0f} %"))
            start += share
        if total:
            lines.append(Line(label, tuple(bar), _rows(total)))
            texts.append(f"{label}: {_rows(total)}; " + ", ".join(f"{part}: {by_part[part]:,}" for part in parts))
    return _figure(name, list(colours.items()), lines, title, texts) if lines else None


def _figure(
    name: str, legend: Sequence[tuple[str, int]], lines: Sequence[Line], title: str, texts: Iterable[str]
) -> Figure:
    alt = visible(f"{title}. {'. '.join(texts)}.")
    return Figure(f"figures/{name}.svg", draw(tuple(legend), tuple(lines)), alt)


def _position(value: float, longest: int, logarithmic: bool) -> float:
    """Return the place of a length on the scale, as a share of its width."""
    return math.log1p(value) / math.log1p(longest) if logarithmic else value / max(longest, 1)


def _rows(number: int) -> str:
    return f"{number:,} row{'' if number == 1 else 's'}"
