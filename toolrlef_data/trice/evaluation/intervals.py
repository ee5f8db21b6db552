"""Shares of questions with 95 % intervals, and paired differences of shares.

A share has Wilson's interval (J. Am. Stat. Assoc. 22, 1927), which is not empty at 0 % and 100 %. A difference between
two models has the percentile interval of the bootstrap over questions (Efron, Ann. Statist. 7(1), 1979). Both
models are compared on the same drawn questions, even if each has its own denominator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Estimate", "Share", "difference", "estimate", "wilson"]

DRAWS = 2000
Z = 1.959963984540054  # the 97.5 % quantile of the normal distribution


class Share(NamedTuple):
    """For each question, whether it counts in the denominator, and whether it also counts in the numerator."""

    holds: Sequence[bool]
    among: Sequence[bool]


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


def estimate(share: Share) -> Estimate:
    """Return a share with its interval.

    >>> print(estimate(Share([True, False, True], [True, True, False])))
    50.0% [9.5%, 90.5%] of 2
    """
    count = sum(share.among)
    successes = sum(holds and among for holds, among in zip(share.holds, share.among, strict=True))
    return Estimate(successes / count, *wilson(successes, count), count) if count else Estimate(None, None, None, 0)


def difference(first: Share, second: Share, seed: int = 0) -> Estimate:
    """Return the second share minus the first one, of the same questions in the same order.

    >>> print(difference(Share([False] * 9, [True] * 9), Share([True] * 9, [True] * 9)))
    100.0% [100.0%, 100.0%] of 9
    """
    n = len(first.among)
    values = [estimate(share).value for share in (first, second)]
    count = sum(second.among)
    if values[0] is None or values[1] is None:
        return Estimate(None, None, None, count)
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=DRAWS)  # how often each one is drawn
    gaps = _shares(second, draws) - _shares(first, draws)
    gaps = gaps[~np.isnan(gaps)]
    low, high = np.quantile(gaps, [0.025, 0.975])
    return Estimate(values[1] - values[0], float(low), float(high), count)


def _shares(share: Share, draws: np.ndarray) -> np.ndarray:
    """Return the share in each draw; NaN where nothing counts."""
    among = draws @ np.asarray(share.among, dtype=float)
    holds = draws @ (np.asarray(share.holds, dtype=float) * np.asarray(share.among, dtype=float))
    return np.divide(holds, among, out=np.full(len(draws), np.nan), where=among > 0)
