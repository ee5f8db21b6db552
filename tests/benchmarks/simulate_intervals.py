"""How often the intervals of the proof cover the truth, in simulated runs.

    python tests/benchmarks/simulate_intervals.py [--runs 1000] [--questions 150 300]

A simulated run draws the outcomes of questions of which the true shares are known. Each line has the share of the runs
whose interval of 95 % covers the truth; with 1,000 runs, 93.6 to 96.4 % are what chance gives an exact interval.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import proof_report

from toolrlef_data.trice.evaluation.intervals import Share, difference, estimate

Simulation = Callable[[np.random.Generator, int], tuple[float | None, float, float | None]]
NEEDED = 0.4  # share of the questions that need the tool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--questions", type=int, nargs="+", default=[150, 300])
    options = parser.parse_args()
    for name, simulate in SIMULATIONS.items():
        shares = []
        for count in options.questions:
            draw = np.random.default_rng(count)
            found = [simulate(draw, count) for _ in range(options.runs)]
            covered = [low <= truth <= high for low, truth, high in found if low is not None and high is not None]
            shares.append(f"{sum(covered) / len(covered):.1%} with {count} questions")
        print(f"{name}: {', '.join(shares)}", flush=True)


def share(truth: float, among: float = 1.0) -> Simulation:
    """Simulate a share of those questions that belong to a part of all."""

    def simulate(draw: np.random.Generator, count: int) -> tuple[float | None, float, float | None]:
        counted = draw.random(count) < among
        found = estimate(Share(list(draw.random(count) < truth), list(counted)))
        return found.low, truth, found.high

    return simulate


def paired(lost: float, gained: float, both: float, among: float = 1.0) -> Simulation:
    """Simulate a difference of two arms: the share of questions that only the first, only the second, or both have."""

    def simulate(draw: np.random.Generator, count: int) -> tuple[float | None, float, float | None]:
        place, counted = draw.random(count), list(draw.random(count) < among)
        first = (place < lost) | ((place >= lost + gained) & (place < lost + gained + both))
        second = (place >= lost) & (place < lost + gained + both)
        found = difference(Share(list(first), counted), Share(list(second), counted))
        return found.low, gained - lost, found.high

    return simulate


def first(*gaps: float) -> Simulation:
    """Simulate "needed first" of one arm, or the difference of two: needed questions are higher by a gap."""

    def simulate(draw: np.random.Generator, count: int) -> tuple[float | None, float, float | None]:
        needs, common = draw.random(count) < NEEDED, draw.normal(size=count)
        chances = [(0.6 * common + 0.8 * draw.normal(size=count) + gap * needs).tolist() for gap in gaps]
        truths = [NormalDist().cdf(gap / math.sqrt(2)) for gap in gaps]
        _, low, high = proof_report._first(chances, needs)
        return low, truths[0] - (truths[1] if len(truths) == 2 else 0.0), high

    return simulate


SIMULATIONS: dict[str, Simulation] = {
    "share of 98 %": share(0.98),
    "share of 25 %": share(0.25),
    "share of 7 %, of 60 % of the questions": share(0.07, 1 - NEEDED),
    "difference of right answers, 1 % lost": paired(0.015, 0.005, 0.97),
    "difference of right answers, 3 % lost, 3 % gained": paired(0.03, 0.03, 0.9),
    "difference of calls, 75 % fewer": paired(0.75, 0.0, 0.25),
    "difference of calls, 10 % fewer": paired(0.12, 0.02, 0.8),
    "difference of calls where needed, 45 % fewer": paired(0.45, 0.0, 0.55, NEEDED),
    "difference of calls where needed, equal": paired(0.01, 0.01, 0.95, NEEDED),
    "needed first, chance": first(0.0),
    "needed first, 78 %": first(1.1),
    "needed first, 98 %": first(3.0),
    "difference of needed first, equal": first(1.1, 1.1),
    "difference of needed first, 10 points": first(1.1, 0.65),
}


if __name__ == "__main__":
    main()
