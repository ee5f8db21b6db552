"""The figures of each kind of evaluation, as functions of its rows.

| kind | rows |
|---|---|
| questions | of `evaluate` on questions: without the tool and with it |
| choices | of `evaluate` on multiple choices: When2Call |
| calls | of `evaluate` on function calls: BFCL |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from toolrlef_data.trice.evaluation.intervals import MacroF1, Measure, Share

__all__ = ["FIGURES"]

Row = Mapping[str, Any]
Figure = Callable[[Sequence[Row]], Measure]


def _share(holds: Callable[[Row], Any], among: Callable[[Row], Any]) -> Figure:
    """Return a figure: the rows that `holds` accepts, of those that `among` accepts."""

    def share(rows: Sequence[Row]) -> Share:
        counted = [bool(among(row)) for row in rows]
        return Share([counts and bool(holds(row)) for counts, row in zip(counted, rows, strict=True)], counted)

    return share


def _has_tools(row: Row) -> bool:
    return row["offered"] is not None


def _responded(row: Row) -> bool:
    return _has_tools(row) and row["offered"]["error"] is None


def _calls(row: Row) -> bool:
    return _responded(row) and row["offered"]["uses_tool"]


def _is_scored(row: Row) -> bool:
    return row["error"] is None


def _macro_f1(rows: Sequence[Row]) -> MacroF1:
    return MacroF1([row["right"] for row in rows], [row["chosen"] for row in rows])


FIGURES: dict[str, dict[str, Figure]] = {
    "questions": {
        "right without the tool": _share(
            lambda row: row["plain"]["correct"], lambda row: row["plain"]["correct"] is not None
        ),
        "right with the tool offered": _share(
            lambda row: row["offered"]["correct"],
            lambda row: _has_tools(row) and row["offered"]["correct"] is not None,
        ),
        "calls where the tool is needed": _share(_calls, lambda row: _responded(row) and row["needs_tool"] is True),
        "calls where it is not needed": _share(_calls, lambda row: _responded(row) and row["needs_tool"] is False),
        "calls that execute": _share(lambda row: row["offered"]["tool_error"] is None, _calls),
        "calls that are right": _share(
            lambda row: row["offered"]["correct"],
            lambda row: _calls(row) and row["offered"]["correct"] is not None,
        ),
        "no response without the tool": _share(lambda row: row["plain"]["error"] is not None, bool),
        "no response with the tool offered": _share(lambda row: row["offered"]["error"] is not None, _has_tools),
    },
    # The first four are those of When2Call's evaluation (see `benchmarks.choices`).
    "choices": {
        "macro-F1": _macro_f1,
        "accuracy": _share(lambda row: row["chosen"] == row["right"], _is_scored),
        "length-normalised accuracy": _share(lambda row: row["chosen_normalised"] == row["right"], _is_scored),
        "tool hallucination": _share(
            lambda row: row["chosen"] == "tool_call",
            lambda row: _is_scored(row) and row["right"] == "cannot_answer" and not row["n_tools"],
        ),
        "calls where a call is right": _share(
            lambda row: row["chosen"] == "tool_call", lambda row: _is_scored(row) and row["right"] == "tool_call"
        ),
        "calls where a call is wrong": _share(
            lambda row: row["chosen"] == "tool_call", lambda row: _is_scored(row) and row["right"] != "tool_call"
        ),
        "not scored": _share(lambda row: row["error"] is not None, bool),
    },
    # The first two are BFCL's accuracies (see `benchmarks.function_calls`).
    "calls": {
        "no call where no function fits": _share(
            lambda row: not row["n_calls"], lambda row: _is_scored(row) and not row["needs_call"]
        ),
        "right call": _share(lambda row: row["correct"], lambda row: _is_scored(row) and row["needs_call"]),
        "calls where a function fits": _share(
            lambda row: row["n_calls"], lambda row: _is_scored(row) and row["needs_call"]
        ),
        "calls of functions not offered": _share(lambda row: row["is_invented"], _is_scored),
        "replies at the token limit": _share(lambda row: row["is_cut"], _is_scored),
        "no reply": _share(lambda row: row["error"] is not None, bool),
    },
}
