"""The scoring rules: those of TRICE (arXiv 2305.13068) and its published code, and one by the cost of calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toolrlef_data.engines.rules import is_number
from toolrlef_data.records import InputError, Score
from toolrlef_data.trice.scoring.candidates import gold_in, records_of

__all__ = ["LEVELS", "cost", "paper", "trice"]

LEVELS = (20.0, 15.0, 10.0, 5.0, 0.0)
Row = Sequence[Mapping[str, Any]]  # a row of candidates: records, or dicts with their fields


def trice(
    candidates: Row,
    *,
    numeric: bool,
    trusted: Sequence[str] = (),
    missing: str = "zero",
    ties: str = "order",
    levels: Sequence[float] = LEVELS,
) -> list[Score]:
    """Score as the published code does: correct predictions by tool use, wrong numbers by distance.

    Args:
        candidates: the candidates of one row, in responder order.
        numeric: rank wrong predictions by distance, nearest first; otherwise all of them get the first wrong level.
        trusted: names that get the top level if gold uses the tool, else the second level, whatever their responses
            are. They do not change the levels of wrong predictions.
        missing: "zero": a response without a prediction scores the last level and does not use up a level; "wrong": it
            is ranked by its distance, as in the original.
        ties: "order": each of several equal distances uses up a level; "share": they share a level.
        levels: scores from best to worst, at least three; default: the original's five.

    >>> row = [("gold", True, True, 0), ("a", True, True, 0), ("b", False, False, 32.0), ("c", False, False, 3.0)]
    >>> named = [dict(name=n, prediction="", correct=c, uses_tool=u, distance=d) for n, c, u, d in row]
    >>> [score.score for score in trice(named, numeric=True)]
    [20.0, 20.0, 10.0, 15.0]
    """
    if _count_levels(levels) < 3:
        raise InputError(f"the rule 'trice' needs at least three levels, found {len(levels)}")
    _check_choice(missing, ("zero", "wrong"), "missing")
    _check_choice(ties, ("order", "share"), "ties")
    records = records_of(candidates)
    gold_uses_tool = gold_in(records).uses_tool
    scores: list[Score] = []
    wrong: list[tuple[float, int]] = []
    level = 1
    for i, candidate in enumerate(records):
        name, is_like_gold = candidate.name, candidate.uses_tool == gold_uses_tool
        if name == "gold":
            scores.append(Score(name, levels[0], "gold"))
        elif name in trusted:
            scores.append(Score(name, levels[0 if gold_uses_tool else 1], "trusted"))
        elif candidate.correct:
            scores.append(Score(name, levels[0 if is_like_gold else 1], "correct"))
            level = level if is_like_gold else 2
        elif candidate.prediction is None and missing == "zero":
            scores.append(Score(name, levels[-1], "missing"))
        else:
            wrong.append((float("inf") if candidate.distance is None else candidate.distance, i))
            scores.append(Score(name, levels[-1], "wrong"))  # a placeholder until all distances are known
    wrong.sort()  # by distance, then in responder order
    for rank, (distance, i) in enumerate(wrong):
        if numeric and rank and not (ties == "share" and distance == wrong[rank - 1][0]):
            level += 1
        scores[i] = Score(records[i].name, levels[min(level, len(levels) - 1)], "wrong")
    return scores


def paper(
    candidates: Row,
    *,
    numeric: bool,
    trusted: Sequence[str] = (),
    levels: Sequence[float] = LEVELS,
) -> list[Score]:
    """Score by the paper's five states: gold, then correct and wrong predictions with and without gold's tool use.

    Args:
        candidates: the candidates of one row, in responder order.
        numeric: ignored; equal states get equal scores.
        trusted: names that are scored as correct.
        levels: five scores from best to worst.

    >>> row = [("gold", True, True), ("a", True, True), ("b", True, False), ("c", False, True), ("d", False, False)]
    >>> named = [dict(name=n, prediction="1", correct=c, uses_tool=u) for n, c, u in row]
    >>> [score.score for score in paper(named, numeric=True)]
    [20.0, 15.0, 10.0, 5.0, 0.0]
    """
    if _count_levels(levels) != 5:
        raise InputError(f"the rule 'paper' has five states and needs five levels, found {len(levels)}")
    records = records_of(candidates)
    gold_uses_tool = gold_in(records).uses_tool
    scores = []
    for candidate in records:
        name, is_unlike_gold = candidate.name, candidate.uses_tool != gold_uses_tool
        if name == "gold":
            scores.append(Score(name, levels[0], "gold"))
        elif candidate.correct or name in trusted:
            scores.append(Score(name, levels[1 + is_unlike_gold], "trusted" if name in trusted else "correct"))
        else:
            state = "missing" if candidate.prediction is None else "wrong"
            scores.append(Score(name, levels[3 + is_unlike_gold], state))
    return scores


def cost(
    candidates: Row,
    *,
    numeric: bool,
    trusted: Sequence[str] = (),
    threshold: float = 0.5,
    levels: Sequence[float] = LEVELS,
) -> list[Score]:
    """Score by correctness first, then by whether the model needs the tool for this question.

    | level | response |
    |---|---|
    | 1 | right, in the better way: without the tool if `p_plain` reaches the threshold, else with it |
    | 2 | right, in the other way |
    | 3, 4 | wrong, in the better and in the other way |
    | 5 | no prediction |

    Gold is scored as the others are; if it has no grade, it counts as right. Where `p_plain` is None, the better way is
    that of gold. No wrong response reaches the level of a right one, whatever a call costs.

    Args:
        candidates: the candidates of one row.
        numeric: ignored; equal states get equal scores.
        trusted: must be empty: a trusted response may be wrong.
        threshold: the share of right samples without the tool from which a call is a waste; default 0.5.
        levels: five scores from best to worst; those of right responses are above all others.

    Source: rewards for correctness alone teach models to call tools that they do not need (arXiv 2604.19749), and a
    reward for fewer calls must not reach a wrong answer (arXiv 2504.14870).

    >>> row = [("gold", True, True), ("a", True, False), ("b", False, True), ("c", False, False)]
    >>> named = [dict(name=n, prediction="1", correct=c, uses_tool=u, p_plain=0.9) for n, c, u in row]
    >>> [score.score for score in cost(named, numeric=True)]
    [15.0, 20.0, 5.0, 10.0]
    """
    if _count_levels(levels) != 5:
        raise InputError(f"the rule 'cost' has five states and needs five levels, found {len(levels)}")
    if min(levels[:2]) <= max(levels[2:]):
        raise InputError(f"levels: expected the first two, of right responses, above the others, found {levels!r:.80}")
    if not is_number(threshold):
        raise InputError(f"threshold: expected a number, found {threshold!r:.80}")
    if trusted:
        raise InputError(f"the rule 'cost' trusts no responder, because it may be wrong; found {', '.join(trusted)}")
    records = records_of(candidates)
    gold_uses_tool = gold_in(records).uses_tool
    scores = []
    for candidate in records:
        better_with_tool = gold_uses_tool if candidate.p_plain is None else candidate.p_plain < threshold
        is_other_way = candidate.uses_tool != better_with_tool
        if candidate.correct or (candidate.name == "gold" and candidate.correct is None):
            state, level = "correct", 0 + is_other_way
        elif candidate.prediction is None:
            state, level = "missing", 4
        else:
            state, level = "wrong", 2 + is_other_way
        scores.append(Score(candidate.name, levels[level], state))
    return scores


def _count_levels(levels: Sequence[float]) -> int:
    if not isinstance(levels, Sequence) or not all(map(is_number, levels)):
        raise InputError(f"levels: expected numbers from best to worst, found {levels!r:.80}")
    return len(levels)


def _check_choice(value: str, choices: Sequence[str], option: str) -> None:
    if value not in choices:
        raise InputError(f"unknown {option} {value!r}; choose from: {', '.join(choices)}")
