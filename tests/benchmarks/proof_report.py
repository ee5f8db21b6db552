"""The figures of the proof: shares with intervals, paired differences, a table and a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolrlef_data.trice.evaluation.intervals import Share, difference, estimate

__all__ = [
    "as_markdown",
    "choice_differences_of",
    "choice_of",
    "differences_of",
    "figures_of",
    "levels_of",
    "outcomes_of",
    "plot",
]

Row = Mapping[str, Any]
ALWAYS, STARTS = "always", ("zero-shot", "always", "stage 1", "stage 2")  # what other arms are compared with

ORDERS = ("pairs in order", "texts above calls")  # of candidates by score; of held-out rows on which no call is right
SHARES_OF_CALLS = (0.25, 0.5, 0.75)


def _right(row: Row) -> bool:
    return row["offered"]["correct"] is True


def _calls(row: Row) -> bool:
    return row["offered"]["uses_tool"] is True


# Name -> (whether a question counts in the numerator, whether it counts in the denominator). A response that is missing
# or cannot be graded is wrong.
SHARES: dict[str, tuple[Callable[[Row], bool], Callable[[Row], bool]]] = {
    "right": (_right, lambda row: True),
    "right without the tool": (lambda row: row["plain"]["correct"] is True, lambda row: True),
    "calls": (_calls, lambda row: True),
    "calls where needed": (_calls, lambda row: row["needs_tool"]),
    "calls where not needed": (_calls, lambda row: not row["needs_tool"]),
    "right where needed": (_right, lambda row: row["needs_tool"]),
    "right where not needed": (_right, lambda row: not row["needs_tool"]),
    "calls that execute": (lambda row: row["offered"]["tool_error"] is None, _calls),
    "calls that are right": (_right, _calls),
}


def _share(name: str, rows: Sequence[Row]) -> Share:
    holds, among = SHARES[name]
    counted = [among(row) for row in rows]
    return Share([n and holds(row) for n, row in zip(counted, rows, strict=True)], counted)


def figures_of(rows: Sequence[Row], orders: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """Return the figures of one arm: (share, low, high, n) by name, mean tokens, and (ordered pairs, pairs) of each order."""
    shares = {name: tuple(estimate(_share(name, rows))) for name in SHARES}
    tokens = [row["offered"]["tokens"] for row in rows if row["offered"]["tokens"] is not None]
    return shares | {"tokens": sum(tokens) / len(tokens) if tokens else None, **orders}


def differences_of(rows: Mapping[str, Sequence[Row]]) -> dict[str, dict[str, Any]]:
    """Return the shares of each arm minus those of the arms in `STARTS`, paired by question."""
    return {
        f"{name} - {start}": {
            share: tuple(difference(_share(share, rows[start]), _share(share, rows[name])))
            for share in ("right", "calls", "calls where needed", "calls where not needed")
        }
        for start in STARTS
        if start in rows
        for name in rows
        if name != start
    }


def choice_of(rows: Sequence[Row], chances: Sequence[float], levels: Mapping[str, int]) -> dict[str, Any]:
    """Return how well one arm chooses where to call, whatever the number of its calls.

    Args:
        rows: the outcomes, one per question.
        chances: the log-probability of the beginning of a call, one per question.
        levels: level of each question by id; empty for real rows.

    Returns:
        "needed first": of the pairs of a question that needs the tool and one that does not, the share in which the first
        has the higher chance, with its interval. A random choice has 0.5. "harder first": the same for questions above
        level 1 and of level 1. "right at N % calls": the share of right answers if N % of the questions, those with the
        highest chances, get a right call. The others get the untrained model's answer.
    """
    needs = np.array([bool(row["needs_tool"]) for row in rows])
    order = np.argsort(-np.asarray(chances), kind="stable")
    found: dict[str, Any] = {
        name: (*_first([chances], wanted), len(rows)) for name, wanted in _wanted(rows, levels).items()
    }
    for share in SHARES_OF_CALLS:
        without = order[round(share * len(order)) :]
        found[f"right at {share:.0%} calls"] = 1 - float(needs[without].sum()) / len(order)
    return found


def choice_differences_of(
    rows: Mapping[str, Sequence[Row]], chances: Mapping[str, Sequence[float]], levels: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    """Return "needed first" and "harder first" of each arm minus those of the arms in `STARTS`, over the same questions."""
    return {
        f"{name} - {start}": {
            kind: (*_first([chances[name], chances[start]], wanted), len(rows[name]))
            for kind, wanted in _wanted(rows[name], levels).items()
        }
        for start in STARTS
        if start in rows
        for name in rows
        if name != start
    }


def _wanted(rows: Sequence[Row], levels: Mapping[str, int]) -> dict[str, NDArray[Any]]:
    """Return for both measures which questions a good choice calls for first."""
    wanted = {"needed first": np.array([bool(row["needs_tool"]) for row in rows])}
    return wanted | ({"harder first": np.array([levels[row["id"]] > 1 for row in rows])} if levels else {})


def _first(
    chances: Sequence[Sequence[float]], wanted: NDArray[Any], resamples: int = 2000
) -> tuple[float | None, float | None, float | None]:
    """Return the share of ordered pairs by the first chances, less that by the second, with its interval of 95 %.

    The interval is a percentile bootstrap over the questions of both kinds, with two more of the rarer kind, one in
    favour of each side, as in `difference`. Without them it is empty if all pairs are ordered: of 43 questions that each
    are below all others with a chance of 1 %, it covers the truth in 35 % of the draws.
    """
    if wanted.all() or not wanted.any():
        return None, None, None
    ordered = []
    for values in map(np.asarray, chances):
        first, second = values[wanted][:, None], values[~wanted]
        ordered.append((first > second) + 0.5 * (first == second))
    pairs = ordered[0] - ordered[1] if len(ordered) == 2 else ordered[0]
    value, worst = float(pairs.mean()), -1.0 if len(ordered) == 2 else 0.0
    rarer = pairs if len(pairs) <= pairs.shape[1] else pairs.T
    drawn_from = np.vstack([rarer, np.full(rarer.shape[1], worst), np.ones(rarer.shape[1])])
    draw = np.random.default_rng(0)
    counts = [draw.multinomial(n, np.full(n, 1 / n), size=resamples) for n in drawn_from.shape]
    drawn = ((counts[0] @ drawn_from) * counts[1]).sum(axis=1) / drawn_from.size
    low, high = np.quantile(drawn, [0.025, 0.975])
    return value, min(value, float(low)), max(value, float(high))


def levels_of(rows: Mapping[str, Sequence[Row]], levels: Mapping[str, int]) -> dict[str, dict[int, list[int]]]:
    """Return the number of questions, of right responses and of calls for each arm and level."""
    return {
        name: {
            level: [len(found), sum(map(_right, found)), sum(map(_calls, found))]
            for level in sorted(set(levels.values()))
            for found in [[row for row in of_arm if levels[row["id"]] == level]]
        }
        for name, of_arm in rows.items()
    }


def outcomes_of(
    rows: Mapping[str, Sequence[Row]], chances: Mapping[str, Sequence[float]], levels: Mapping[str, int]
) -> dict[str, list[dict[str, Any]]]:
    """Return what each arm did on each question: with these, all figures can be computed again without a model."""
    return {
        name: [
            {"id": row["id"], "level": levels.get(row["id"]), "needs_tool": row["needs_tool"], "right": _right(row),
             "right without the tool": row["plain"]["correct"] is True, "calls": _calls(row),
             "tool_error": row["offered"]["tool_error"], "tokens": row["offered"]["tokens"], "chance": chance}
            for row, chance in zip(of_arm, chances[name], strict=True)
        ]
        for name, of_arm in rows.items()
    }  # fmt: skip


def as_markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the figures of all seeds as tables; a value is the mean over the seeds, with the interval of each seed."""
    arms = list(results[0]["arms"])
    names = [*SHARES]
    held_out, needed = (
        ", ".join(map(str, found))
        for found in ([r["rows"]["held out"] for r in results], [r["needed"] for r in results])
    )
    lines = [f"{len(results)} seed(s), {held_out} held-out questions, {needed} need the tool", ""]
    header = ["arm", *names, "tokens", *ORDERS]
    lines += ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for arm in arms:
        of_arm = [result["arms"][arm] for result in results if arm in result["arms"]]
        cells = [_cell([figures[name] for figures in of_arm]) for name in names]
        tokens = [figures["tokens"] for figures in of_arm if figures["tokens"] is not None]
        mean = f"{sum(tokens) / len(tokens):.1f}" if tokens else "-"
        lines.append(
            f"| {' | '.join([arm, *cells, mean, *(_order([found[name] for found in of_arm]) for name in ORDERS)])} |"
        )
    firsts = ["needed first", *(["harder first"] if "harder first" in results[0]["arms"][arms[0]] else [])]
    choices = [*firsts, *(f"right at {share:.0%} calls" for share in SHARES_OF_CALLS)]
    lines += ["", "| arm | " + " | ".join(choices) + " |", "|---" * (len(choices) + 1) + "|"]
    for arm in arms:
        of_arm = [result["arms"][arm] for result in results if arm in result["arms"]]
        cells = [_cell([figures[name] for figures in of_arm]) for name in firsts]
        cells += [f"{sum(figures[name] for figures in of_arm) / len(of_arm):.1%}" for name in choices[len(firsts) :]]
        lines.append("| " + " | ".join([arm, *cells]) + " |")
    lines += [
        "",
        "| difference | right | calls | calls where needed | calls where not needed | " + " | ".join(firsts) + " |",
        "|---" * (5 + len(firsts)) + "|",
    ]
    for name in results[0]["differences"]:
        cells = [_cell([r["differences"][name][share] for r in results]) for share in results[0]["differences"][name]]
        cells += [_cell([r["differences of the choice"][name][kind] for r in results]) for kind in firsts]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for path in results[0]["settings"]["benchmarks"]:
        outside = {arm: [r["outside"][arm][path] for r in results] for arm in results[0]["outside"]}
        measured = list(next(iter(outside.values()))[0])
        lines += ["", f"| {Path(path).name} | " + " | ".join(measured) + " |", "|---" * (len(measured) + 1) + "|"]
        lines += [
            f"| {arm} | " + " | ".join(_cell([found[name] for found in of_arm]) for name in measured) + " |"
            for arm, of_arm in outside.items()
        ]
    return "\n".join(lines) + "\n"


def _order(counts: Sequence[Sequence[int]]) -> str:
    """Return the share of ordered pairs of all seeds."""
    ordered, pairs = map(sum, zip(*counts, strict=True))
    return f"{ordered / pairs:.1%} of {pairs}" if pairs else "-"


def _cell(estimates: Sequence[Sequence[Any]]) -> str:
    """Return the mean of the values of all seeds, with the intervals of the seeds."""
    found = [values for values in estimates if values[0] is not None]
    if not found:
        return "-"
    mean = sum(values[0] for values in found) / len(found)
    return f"{mean:.1%} " + " ".join(f"[{low:.1%}, {high:.1%}]" for _, low, high, _ in found)


def plot(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw accuracy against calls: one point for each arm and seed, and the line of random calls.

    The line joins the untrained model without the tool and the arm "always": what one gets by calling at random.
    """
    import matplotlib
    from matplotlib.figure import Figure

    grey = "#7a7a7a"  # legible on white and on black
    with matplotlib.rc_context({"svg.hashsalt": "toolrlef_data", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.add_subplot()
        colours = matplotlib.colormaps["tab10"](range(10))
        for n, arm in enumerate(results[0]["arms"]):
            for result in results:
                (calls, *_), (right, low, high, _) = result["arms"][arm]["calls"], result["arms"][arm]["right"]
                label = arm if result is results[0] else None
                spread = [[right - low], [high - right]]
                axes.errorbar(
                    calls, right, yerr=spread, fmt="os"[n // 10], color=colours[n % 10], label=label, capsize=2
                )
        first = results[0]["arms"]
        if {"zero-shot", ALWAYS} <= set(first):
            ends = [first["zero-shot"]["right without the tool"][0], first[ALWAYS]["right"][0]]
            axes.plot([0, first[ALWAYS]["calls"][0]], ends, "--", color=grey, label="calls at random")
        axes.set(xlabel="calls per question", ylabel="right answers", xlim=(-0.05, 1.05), ylim=(0, 1))
        axes.xaxis.label.set_color(grey)
        axes.yaxis.label.set_color(grey)
        axes.tick_params(colors=grey)
        for side in axes.spines.values():
            side.set_color(grey)
        legend = axes.legend(frameon=False, labelcolor=grey, loc="center left", bbox_to_anchor=(1, 0.5))
        legend.set_in_layout(True)
        figure.savefig(path, transparent=True, metadata={"Date": None})
