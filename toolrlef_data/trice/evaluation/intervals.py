"""Shares of questions and macro-F1 with 95 % intervals, and their paired differences.

A share has Wilson's interval (J. Am. Stat. Assoc. 22, 1927), which is not empty at 0 % and 100 %. Macro-F1, and a
difference between two models, have the percentile interval of the bootstrap over questions (Efron, Ann. Statist. 7(1),
1979). Both models are compared on the same drawn questions, even if each has its own denominator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Estimate", "MacroF1", "Measure", "Share", "difference", "estimate", "wilson"]

DRAWS = 2000
Z = 1.959963984540054  # the 97.5 % quantile of the normal distribution


class Share(NamedTuple):
    """For each question, whether it counts in the denominator, and whether it also counts in the numerator."""

    holds: Sequence[bool]
    among: Sequence[bool]


class MacroF1(NamedTuple):
    """For each question, its right class and the chosen class; a question without a chosen class does not count.

    The value is the mean of the F1 of all classes that are right or chosen at least once, as in scikit-learn's
    `f1_score(average="macro")`. The F1 of a class is 2 TP / (2 TP + FP + FN).
    """

    right: Sequence[str]
    chosen: Sequence[str | None]


Measure = Share | MacroF1


class Estimate(NamedTuple):
    """A value with its 95 % interval, and the number of questions behind it; without any, the value is None."""

    value: float | None
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        if self.value is None:
            return "none"
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}] of {self.n}"


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share; (0.0, 1.0) without trials.

    >>> [round(bound, 3) for bound in wilson(0, 20)]
    [0.0, 0.161]
    """
    if not trials:
        return 0.0, 1.0
    share, spread = successes / trials, Z * Z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt((share * (1 - share) + spread / 4) / trials) / (1 + spread)
    # Of no success, the lower bound is exactly 0, and of successes alone, the upper one is exactly 1.
    return (centre - half if successes else 0.0), (centre + half if successes < trials else 1.0)


def estimate(measure: Measure, seed: int = 0) -> Estimate:
    """Return a share or a macro-F1 with its interval.

    >>> print(estimate(Share([True, False, True], [True, True, False])))
    50.0% [9.5%, 90.5%] of 2
    >>> round(estimate(MacroF1(["a", "a", "b"], ["a", "b", "b"])).value, 3)
    0.667
    """
    count = _count(measure)
    if not count:
        return Estimate(None, None, None, 0)
    if isinstance(measure, Share):
        successes = sum(holds and among for holds, among in zip(measure.holds, measure.among, strict=True))
        return Estimate(successes / count, *wilson(successes, count), count)
    values = _values(measure, _draws(len(measure.right), seed))
    low, high = np.quantile(values[~np.isnan(values)], [0.025, 0.975])
    return Estimate(_value(measure), float(low), float(high), count)


def difference(first: Measure, second: Measure, seed: int = 0) -> Estimate:
    """Return the second measure minus the first one, of the same questions in the same order.

    The interval of two shares is that of the questions and two more, one in favour of each side. Without them, it is
    too narrow for rare events, and empty if all outcomes are equal (Bonett and Price, J. Educ. Behav. Stat. 37(4),
    2012).

    >>> print(difference(Share([False] * 9, [True] * 9), Share([True] * 9, [True] * 9)))
    100.0% [45.5%, 100.0%] of 9
    """
    count = _count(second)
    if not count or not _count(first):
        return Estimate(None, None, None, count)
    value = _value(second) - _value(first)
    if isinstance(first, Share) and isinstance(second, Share):
        first = Share([*first.holds, True, False], [*first.among, True, True])
        second = Share([*second.holds, False, True], [*second.among, True, True])
    draws = _draws(len(first[0]), seed)
    gaps = _values(second, draws) - _values(first, draws)
    low, high = np.quantile(gaps[~np.isnan(gaps)], [0.025, 0.975])
    return Estimate(value, min(value, float(low)), max(value, float(high)), count)


def _draws(n: int, seed: int) -> np.ndarray:
    """Return how often each question is drawn in each draw."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=DRAWS)


def _count(measure: Measure) -> int:
    return sum(measure.among) if isinstance(measure, Share) else sum(name is not None for name in measure.chosen)


def _value(measure: Measure) -> float:
    return float(_values(measure, np.ones((1, len(measure[0])), dtype=int))[0])


def _values(measure: Measure, draws: np.ndarray) -> np.ndarray:
    """Return the value in each draw; NaN where nothing counts."""
    if isinstance(measure, Share):
        among = draws @ np.asarray(measure.among, dtype=float)
        holds = draws @ (np.asarray(measure.holds, dtype=float) * np.asarray(measure.among, dtype=float))
        return np.divide(holds, among, out=np.full(len(draws), np.nan), where=among > 0)
    pairs = [(r, c) if c is not None else (None, None) for r, c in zip(measure.right, measure.chosen, strict=True)]
    scores = []
    for name in sorted({name for pair in pairs for name in pair if name is not None}):
        hits = draws @ np.array([float(right == chosen == name) for right, chosen in pairs])
        # 2 TP + FP + FN: how often the class is right, plus how often it is chosen.
        total = draws @ np.array([float(right == name) + float(chosen == name) for right, chosen in pairs])
        scores.append(np.divide(2 * hits, total, out=np.zeros(len(draws)), where=total > 0))
    counted = draws @ np.array([float(chosen is not None) for _, chosen in pairs])
    return np.where(counted > 0, np.mean(scores, axis=0), np.nan)
