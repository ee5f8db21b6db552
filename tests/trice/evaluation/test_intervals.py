"""Intervals cover the truth about as often as they say, and differences are paired by question."""

from __future__ import annotations

import numpy as np
import pytest

from toolrlef_data.trice.evaluation.intervals import MacroF1, Share, _value, difference, estimate, wilson


@pytest.mark.parametrize("truth", [0.05, 0.3, 0.5, 0.9])
def test_the_interval_of_a_share_covers_the_truth(truth: float) -> None:
    """By enumeration over all outcomes of 60 questions, not by chance."""
    n = 60
    outcomes = np.arange(n + 1)
    logs = np.cumsum([0.0, *np.log(np.arange(1, n + 1))])
    chances = np.exp(logs[n] - logs - logs[::-1] + outcomes * np.log(truth) + (n - outcomes) * np.log(1 - truth))
    covered = [low <= truth <= high for low, high in (wilson(int(k), n) for k in outcomes)]
    assert chances.sum() == pytest.approx(1)
    assert 0.93 <= chances[covered].sum() <= 0.985


def test_the_interval_of_a_difference_covers_the_truth() -> None:
    generator = np.random.default_rng(0)
    n, runs, truth = 100, 60, 0.2
    covered = 0
    for _ in range(runs):
        difficulty = generator.random(n)
        first, second = difficulty < 0.4, difficulty < 0.6  # paired: the second is right wherever the first is
        found = difference(Share(list(first), [True] * n), Share(list(second), [True] * n))
        covered += found.low is not None and found.high is not None and found.low <= truth <= found.high
    assert covered >= 0.9 * runs


def test_the_interval_of_a_difference_covers_the_truth_also_for_rare_events() -> None:
    """Such as calls where the tool is not needed, which are a part of the questions; 86 % without the two more."""
    generator = np.random.default_rng(1)
    n, runs, rates = 160, 150, (0.05, 0.02)
    covered = 0
    for run in range(runs):
        among = list(generator.random(n) < 0.3)
        first, second = (Share(list(generator.random(n) < rate), among) for rate in rates)
        found = difference(first, second, seed=run)
        covered += found.low is not None and found.high is not None and found.low <= rates[1] - rates[0] <= found.high
    assert covered >= 0.93 * runs
    same = difference(Share([True] * 9, [True] * 9), Share([True] * 9, [True] * 9))
    assert same.low is not None
    assert same.low < 0, "nine questions do not show that two models are equal"


def test_a_paired_difference_has_a_narrower_interval_than_an_unpaired_one() -> None:
    right = [True, False] * 50
    more = [True, False, True, True] * 25
    among = [True] * 100
    paired = difference(Share(right, among), Share(more, among))
    unpaired = difference(Share(right, among), Share(more[::-1], among))
    assert paired.value == unpaired.value == pytest.approx(0.25)
    assert (paired.high or 0) - (paired.low or 0) < (unpaired.high or 0) - (unpaired.low or 0)


def test_shares_of_nothing_have_no_value() -> None:
    assert estimate(Share([], [])).value is None
    assert difference(Share([True], [False]), Share([True], [True])).value is None
    assert difference(Share([True] * 2, [True, False]), Share([True] * 2, [True] * 2)).n == 2, (
        "those of the second share"
    )


def test_the_interval_of_a_share_encloses_it() -> None:
    for n in range(1, 200):
        for successes in range(n + 1):
            low, high = wilson(successes, n)
            assert 0 <= low <= successes / n <= high <= 1
            assert (low == 0, high == 1) == (successes == 0, successes == n)


def test_questions_outside_the_denominator_change_no_estimate() -> None:
    among = [True, True, False] * 10
    first, second = [True, False, False] * 10, [True, True, False] * 10
    everywhere = [[holds or not counts for holds, counts in zip(side, among, strict=True)] for side in (first, second)]
    found = [difference(Share(a, among), Share(b, among)) for a, b in ((first, second), everywhere)]
    assert found[0] == found[1]
    assert found[0].value == 0.5


def draw_classes(generator: np.random.Generator, n: int, accuracy: float) -> MacroF1:
    """Return n questions of four classes; a wrong choice is drawn from all classes."""
    right = generator.choice(list("abcd"), n, p=[0.4, 0.3, 0.2, 0.1])
    chosen = np.where(generator.random(n) < accuracy, right, generator.choice(list("abcd"), n))
    return MacroF1(right.tolist(), chosen.tolist())


def test_the_interval_of_macro_f1_covers_the_truth() -> None:
    generator = np.random.default_rng(0)
    truth = float(np.mean([_value(draw_classes(generator, 20_000, 0.6)) for _ in range(20)]))
    covered = 0
    for _ in range(60):
        found = estimate(draw_classes(generator, 200, 0.6))
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    assert covered >= 0.9 * 60


def test_macro_f1_of_questions_without_a_choice() -> None:
    assert estimate(MacroF1(["a", "b"], [None, None])).value is None
    assert estimate(MacroF1(["a", "b"], ["a", None])) == estimate(MacroF1(["a"], ["a"]))
    assert difference(MacroF1(["a"], [None]), MacroF1(["a"], ["a"])).value is None
