"""Scoring rules: one row's candidates in, one `Score` each out. Plain functions; `RULES` names them.

A candidate is a mapping {name, prediction, correct, uses_tool, distance}: the prediction as text or None; correct is a
bool, or None where nothing could be graded; distance is |prediction - gold| of values rounded to 2 decimals, for
numeric tasks. Gold is the candidate of that name. Levels and rules: TRICE (arXiv 2305.13068) and its published code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from toolrlef_data.records import Choices, InputError, Score

__all__ = ["LEVELS", "RULES", "paper", "trice"]

LEVELS = (20.0, 15.0, 10.0, 5.0, 0.0)
Candidate = Mapping[str, Any]


def trice(
    candidates: Sequence[Candidate],
    *,
    numeric: bool,
    trusted: Sequence[str] = (),
    missing: str = "zero",
    ties: str = "order",
    levels: Sequence[float] = LEVELS,
) -> list[Score]:
    """The published code's scores: gold first, right ones by tool use, wrong numbers by distance.

    Args:
        candidates: one row's, in responder order.
        numeric: wrong predictions are ranked by distance, nearest first; else all wrong ones get the first wrong level.
        trusted: names that get the top level where their tool use is gold's, else the second, whatever they answered;
            they neither set nor take a level below.
        missing: "zero": no prediction by the response's own fault scores the last level and takes none; "wrong": it is
            ranked among the wrong ones at its distance, as in the original.
        ties: "order": equal distances take one level each; "share": they share one.
        levels: from best to worst, five in the original.

    >>> row = [("gold", True, True, 0), ("a", True, True, 0), ("b", False, False, 32.0), ("c", False, False, 3.0)]
    >>> named = [dict(name=n, prediction="", correct=c, uses_tool=u, distance=d) for n, c, u, d in row]
    >>> [score.score for score in trice(named, numeric=True)]
    [20.0, 20.0, 10.0, 15.0]
    """
    if len(levels) < 3:
        raise InputError(f"the rule 'trice' needs at least three levels, found {len(levels)}")
    _check(missing, ("zero", "wrong"), "missing")
    _check(ties, ("order", "share"), "ties")
    gold_tool = _gold(candidates)["uses_tool"]
    scores: list[Score] = []
    wrong: list[tuple[float, int]] = []
    level = 1
    for i, candidate in enumerate(candidates):
        name, same = candidate["name"], candidate["uses_tool"] == gold_tool
        if name == "gold":
            scores.append(Score(name, levels[0], "gold"))
        elif name in trusted:
            scores.append(Score(name, levels[0 if same else 1], "trusted"))
        elif candidate["correct"]:
            scores.append(Score(name, levels[0 if same else 1], "correct"))
            level = level if same else 2
        elif candidate["prediction"] is None and missing == "zero":
            scores.append(Score(name, levels[-1], "missing"))
        else:
            distance = candidate.get("distance")
            wrong.append((float("inf") if distance is None else distance, i))
            scores.append(Score(name, levels[-1], "wrong"))  # its level is known when all distances are
    wrong.sort()  # by distance; ties stay in responder order
    for place, (distance, i) in enumerate(wrong):
        if numeric and place and not (ties == "share" and distance == wrong[place - 1][0]):
            level += 1
        scores[i] = Score(candidates[i]["name"], levels[min(level, len(levels) - 1)], "wrong")
    return scores


def paper(
    candidates: Sequence[Candidate],
    *,
    numeric: bool,
    trusted: Sequence[str] = (),
    levels: Sequence[float] = LEVELS,
) -> list[Score]:
    """The paper's five states: gold; right with gold's tool use, right without; wrong with it, wrong without.

    Args:
        candidates: one row's, in responder order.
        numeric: not used: equal states get equal scores.
        trusted: names that count as right, whatever they answered.
        levels: from best to worst, five.

    >>> row = [("gold", True, True), ("a", True, True), ("b", True, False), ("c", False, True), ("d", False, False)]
    >>> named = [dict(name=n, prediction="1", correct=c, uses_tool=u) for n, c, u in row]
    >>> [score.score for score in paper(named, numeric=True)]
    [20.0, 15.0, 10.0, 5.0, 0.0]
    """
    if len(levels) != 5:
        raise InputError(f"the rule 'paper' has five states and needs five levels, found {len(levels)}")
    gold_tool = _gold(candidates)["uses_tool"]
    scores = []
    for candidate in candidates:
        name, other = candidate["name"], candidate["uses_tool"] != gold_tool
        if name == "gold":
            scores.append(Score(name, levels[0], "gold"))
        elif candidate["correct"] or name in trusted:
            scores.append(Score(name, levels[1 + other], "trusted" if name in trusted else "correct"))
        else:
            state = "missing" if candidate["prediction"] is None else "wrong"
            scores.append(Score(name, levels[3 + other], state))
    return scores


def _gold(candidates: Sequence[Candidate]) -> Candidate:
    for candidate in candidates:
        if candidate["name"] == "gold":
            return candidate
    raise InputError(
        f"no candidate is named 'gold'; found: {', '.join(str(c['name']) for c in candidates) or '(none)'}"
    )


def _check(value: str, choices: Sequence[str], what: str) -> None:
    if value not in choices:
        raise InputError(f"unknown {what} {value!r}; choose from: {', '.join(choices)}")


RULES: Choices[Callable[..., list[Score]]] = Choices(
    "scoring rule", {"trice": "toolrlef_data.scoring:trice", "paper": "toolrlef_data.scoring:paper"}
)
