"""Figures, intervals, need classes and agreement on small tables, against counts by hand and plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from toolrlef_data import Evaluation, InputError, agreement, drop_learnt, ledger, rank_agreement
from toolrlef_data.columns import NEED
from toolrlef_data.trice.benchmarks.choices import CHOICES
from toolrlef_data.trice.benchmarks.function_calls import CALLS
from toolrlef_data.trice.evaluation.figures import FIGURES
from toolrlef_data.trice.evaluation.intervals import (
    DRAWS,
    Estimate,
    MacroF1,
    Share,
    Z,
    _draws,
    difference,
    estimate,
    wilson,
)
from toolrlef_data.trice.evaluation.outcomes import OUTCOMES
from toolrlef_data.trice.need.classes import need_class
from toolrlef_data.trice.ranking.agreement import pair_differences


def counts(kind: str, rows: list[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    """Return for each share its numerator and its denominator."""
    measures = {name: measure(rows) for name, measure in FIGURES[kind].items() if name != "macro-F1"}
    shares = {name: measure for name, measure in measures.items() if isinstance(measure, Share)}
    assert shares == measures
    return {name: (sum(share.holds), sum(share.among)) for name, share in shares.items()}


def outcome(
    error: str | None = None, uses_tool: bool = False, tool_error: str | None = None, correct: bool | None = None
) -> Any:
    return {"error": error, "uses_tool": uses_tool, "tool_error": tool_error, "correct": correct}


def test_the_figures_of_questions() -> None:
    right, wrong, unsure, lost = outcome(correct=True), outcome(correct=False), outcome(), outcome("empty")
    called, failed = outcome(uses_tool=True, correct=True), outcome(uses_tool=True, tool_error="syntax", correct=False)
    ungraded = outcome(uses_tool=True)
    pairs: list[tuple[Any, Any, bool | None]] = [
        (right, called, True),
        (wrong, failed, True),
        (wrong, right, True),
        (lost, wrong, False),
        (unsure, called, False),
    ]
    pairs += [
        (right, lost, True),
        (right, lost, False),
        (right, None, True),
        (right, ungraded, None),
        (wrong, unsure, False),
    ]
    rows = [{"plain": plain, "offered": offered, "needs_tool": needs} for plain, offered, needs in pairs]
    assert counts("questions", rows) == {
        "right without the tool": (5, 8),
        "right with the tool offered": (3, 5),
        "calls where the tool is needed": (2, 3),
        "calls where it is not needed": (1, 3),
        "calls that execute": (3, 4),
        "calls that are right": (2, 3),
        "no response without the tool": (1, 10),
        "no response with the tool offered": (2, 9),
    }


def test_the_figures_of_choices() -> None:
    values = [
        ("tool_call", "tool_call", "direct", 1, None), ("tool_call", "direct", "tool_call", 0, None),
        ("cannot_answer", "tool_call", "cannot_answer", 0, None), ("cannot_answer", "tool_call", "tool_call", 1, None),
        ("cannot_answer", "direct", "cannot_answer", 0, None), ("direct", "tool_call", "direct", 0, None),
        ("cannot_answer", None, None, 0, "too_long"), ("tool_call", None, None, 0, "too_long"),
    ]  # fmt: skip
    names = ("right", "chosen", "chosen_normalised", "n_tools", "error")
    rows: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in values]
    assert counts("choices", rows) == {
        "accuracy": (1, 6),
        "length-normalised accuracy": (4, 6),
        "tool hallucination": (1, 2),
        "calls where a call is right": (1, 2),
        "calls where a call is wrong": (3, 4),
        "not scored": (2, 8),
    }
    measure = FIGURES["choices"]["macro-F1"](rows)
    assert measure == MacroF1([row["right"] for row in rows], [row["chosen"] for row in rows])
    # tool_call: right 2, chosen 4, both 1; cannot_answer: 3, 0, 0; direct: 1, 2, 0.
    assert estimate(measure).value == pytest.approx((2 / 6 + 0 + 0) / 3)


def test_the_figures_of_calls() -> None:
    values = [
        (True, 1, True, False, False, None), (True, 2, False, True, False, None), (True, 0, False, False, True, None),
        (False, 0, None, False, False, None), (False, 1, None, True, False, None), (True, 0, False, False, False, "server"),
        (False, 0, None, False, False, "server"),
    ]  # fmt: skip
    names = ("needs_call", "n_calls", "correct", "is_invented", "is_cut", "error")
    assert counts("calls", [dict(zip(names, row, strict=True)) for row in values]) == {
        "no call where no function fits": (1, 2),
        "right call": (1, 3),
        "calls where a function fits": (2, 3),
        "calls of functions not offered": (2, 5),
        "replies at the token limit": (1, 5),
        "no reply": (2, 7),
    }


# Intervals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (1, 4), (7, 9), (50, 100), (0, 0)])
def test_the_interval_solves_the_equation_of_wilson(successes: int, trials: int) -> None:
    """Each bound p is at the distance of Z standard errors of p from the share."""
    low, high = wilson(successes, trials)
    if not trials:
        assert (low, high) == (0.0, 1.0)
        return
    for bound in (low, high):
        error = math.sqrt(bound * (1 - bound) / trials)
        assert bound in (0.0, 1.0) or abs(successes / trials - bound) == pytest.approx(Z * error)
    assert pytest.approx(1.96, abs=1e-4) == Z


def test_an_estimate_as_text() -> None:
    assert str(Estimate(0.125, 0.0, 1.0, 8)) == "12.5% [0.0%, 100.0%] of 8"
    assert str(Estimate(None, None, None, 0)) == "none"
    share = Share([True, True, False], [True, False, True])
    assert estimate(share) == Estimate(0.5, *wilson(1, 2), 2)
    assert estimate(Share([True], [False])) == Estimate(None, None, None, 0)


def test_draws_and_quantiles_of_a_macro_f1() -> None:
    right, chosen = list("aabbc"), ["a", "b", "b", None, "b"]
    found = estimate(MacroF1(right, chosen), seed=3)

    def macro_f1(indices: list[int]) -> float:
        pairs = [(right[i], chosen[i]) for i in indices if chosen[i] is not None]
        if not pairs:
            return math.nan
        scores = []
        for name in "abc":  # of all classes of the questions
            hits = sum(r == c == name for r, c in pairs)
            total = sum((r == name) + (c == name) for r, c in pairs)
            scores.append(2 * hits / total if total else 0.0)
        return sum(scores) / 3

    draws = _draws(5, 3)
    assert draws.shape == (DRAWS, 5) == (2000, 5)
    assert set(draws.sum(axis=1)) == {5}
    values = np.array([macro_f1([i for i in range(5) for _ in range(row[i])]) for row in draws])
    low, high = np.quantile(values[~np.isnan(values)], [0.025, 0.975])
    assert found == pytest.approx((macro_f1(list(range(5))), low, high, 4))
    assert (_draws(5, 0) != draws).any(), "another seed"


def test_a_difference_is_that_of_the_questions_and_two_more() -> None:
    first = Share([True, False, False, True], [True, True, True, False])
    second = Share([True, True, False, False], [True, True, False, True])
    found = difference(first, second, seed=5)
    draws = _draws(6, 5)

    def shares(holds: list[bool], among: list[bool]) -> np.ndarray:
        counted = draws @ np.array(among, dtype=float)
        with np.errstate(invalid="ignore"):
            return (draws @ np.array([h and a for h, a in zip(holds, among, strict=True)], dtype=float)) / counted

    gaps = shares([*second.holds, False, True], [*second.among, True, True]) - shares(
        [*first.holds, True, False], [*first.among, True, True]
    )
    low, high = np.quantile(gaps[~np.isnan(gaps)], [0.025, 0.975])
    assert found == pytest.approx((2 / 3 - 1 / 3, low, high, 3))
    reverse = difference(second, first, seed=5)
    assert (reverse.value, reverse.n) == pytest.approx((-1 / 3, 3))
    nothing = Share([False] * 4, [False] * 4)
    assert difference(first, nothing) == Estimate(None, None, None, 0)
    assert difference(nothing, first) == Estimate(None, None, None, 3)
    perfect, constant = (MacroF1(list("ab"), list(text)) for text in ("ab", "bb"))
    assert difference(perfect, constant).value == pytest.approx((0 + 2 / 3) / 2 - 1)


# Evaluations ----------------------------------------------------------------------------------------------------------


def called(*n_calls: int, name: str = "m", ids: str = "abcdef") -> Evaluation:
    rows = [
        {**dict.fromkeys(CALLS), "id": row_id, "needs_call": False, "n_calls": n, "is_invented": False, "is_cut": False}
        for row_id, n in zip(ids, n_calls, strict=False)
    ]
    return Evaluation(Dataset.from_list(rows, features=CALLS), name, "calls")


def test_an_evaluation_as_text_and_its_differences() -> None:
    first, second = called(0, 1, 0, 0), called(1, 0, 0, 0, name="n", ids="dcba")
    assert str(first) == "\n".join(
        [
            "m: 4 questions; 95 % intervals",
            "no call where no function fits    75.0% [30.1%, 95.4%] of 4",
            "calls of functions not offered    0.0% [0.0%, 49.0%] of 4",
            "replies at the token limit        0.0% [0.0%, 49.0%] of 4",
            "no reply                          0.0% [0.0%, 49.0%] of 4",
        ]
    )
    gaps = first.differences(second)
    assert list(gaps) == list(FIGURES["calls"])
    in_order = called(0, 0, 0, 1, name="n")
    assert gaps == first.differences(in_order)
    assert gaps["no call where no function fits"].value == 0.0
    assert first.differences(called(0, 0, 0, 0))["no call where no function fits"].value == 0.25
    wrong = "the evaluations are of different questions: evaluate both models on the same table"
    other_kind = Evaluation(first.rows, "m", "choices")
    for other in (called(0, 1, 0), called(0, 1, 0, 0, ids="abce"), other_kind):
        with pytest.raises(InputError) as refused:
            first.differences(other)
        assert str(refused.value) == wrong


def test_the_columns_of_evaluations() -> None:
    assert list(OUTCOMES) == ["id", "task", "dataset", "needs_tool", "plain", "offered"]
    assert OUTCOMES["plain"] == OUTCOMES["offered"]
    assert list(CHOICES)[2:5] == ["right", "chosen", "chosen_normalised"]


# Need -----------------------------------------------------------------------------------------------------------------


def need_rows(model: str | None, **classes: str) -> Dataset:
    rows = [
        {**dict.fromkeys(NEED), "id": row_id, "task": "math", "dataset": "d", "need": need, "model": model}
        for row_id, need in classes.items()
    ]
    return Dataset.from_list(rows, features=NEED)


def test_the_classes_of_two_models_as_text() -> None:
    first = need_rows("small", a="needs_tool", b="harmed", c="unsure", d="harmed", e="hopeless")
    second = need_rows(None, e="hopeless", d="harmed", c="harmed", b="needs_tool", a="needs_tool")
    found = agreement(first, second)
    assert str(found) == "\n".join(
        [
            "small (rows) and unnamed (columns): 5 questions",
            "              needs_tool indifferent      harmed    hopeless      unsure",
            "needs_tool             1           0           0           0           0",
            "indifferent            0           0           0           0           0",
            "harmed                 1           0           1           0           0",
            "hopeless               0           0           0           1           0",
            "unsure                 0           0           1           0           0",
            "same class, where both are clear: 75.0% [30.1%, 95.4%] of 4; Cohen's kappa 0.64",
        ]
    )
    assert found.counts == dict.fromkeys(sorted(found.pairs), 1)
    assert found.kappa == pytest.approx((3 / 4 - 5 / 16) / (1 - 5 / 16))
    gaps = {name: estimate.value for name, estimate in found.differences().items()}
    assert gaps == pytest.approx({"needs_tool": 0.2, "indifferent": 0, "harmed": 0, "hopeless": 0, "unsure": -0.2})
    both = need_rows("b", a="harmed")
    assert agreement(both, both).models == ("b", "b")
    messages = []
    for other in (need_rows("x", a="harmed", b="harmed"), need_rows("x", c="harmed")):
        with pytest.raises(InputError) as refused:
            agreement(both, other)
        messages.append(str(refused.value))
    alone = "questions are in one table alone: measure both models on the same questions"
    assert messages == [f"agreement: 1 {alone}", f"agreement: 2 {alone}"]


def test_a_class_for_every_pair_of_sides() -> None:
    sides = {"below": (0, 8), "above": (8, 8), "around": (4, 8)}
    classes = {(a, b): need_class(*sides[a], *sides[b]) for a in sides for b in sides}
    assert classes == {
        ("below", "above"): "needs_tool", ("above", "above"): "indifferent", ("above", "below"): "harmed",
        ("below", "below"): "hopeless", **{pair: "unsure" for pair in classes if "around" in pair},
    }  # fmt: skip


# Ranking --------------------------------------------------------------------------------------------------------------


def test_pairs_of_a_ranking() -> None:
    scores = [20.0, 10.0, 10.0, None, math.inf, 0.0]
    values = [-1.0, -2.0, -0.5, -9.0, -9.0, None]
    assert sorted(pair_differences(scores, values)) == [-0.5, 1.0]
    assert pair_differences([1.0, 2.0], [-3.0, -1.0]) == [2.0]


def test_a_learnt_ranking_is_recorded_with_its_margin() -> None:
    rows = [{"id": n, "scores": [20.0, 0.0], "logprobs": [-1.0, low], "logprob_tokens": [2, 2]} for n, low in (("a", -1.25), ("b", -9.0), ("c", -1.0))]  # fmt: skip
    found = rank_agreement(Dataset.from_list(rows))
    assert found.to_list()[1] == {
        **rows[1], "logprobs_normalised": [-0.5, -4.5], "ranking_pairs": 1, "ranking_ordered": 1, "ranking_margin": 4.0,
        "ranking_loss": 0.0, "ranking_learnt": True, "ranking_weight": 0.0,
    }  # fmt: skip
    dropped = ledger([drop_learnt(found, margin=0.125)])
    assert [(row["id"], row["stage"], row["reason"], row["detail"]) for row in dropped] == [
        ("a", "drop_learnt", "ranking_learnt", "smallest difference of a pair: 0.125 nats per token"),
        ("b", "drop_learnt", "ranking_learnt", "smallest difference of a pair: 4 nats per token"),
    ]
    for margin in (-1, math.inf, None):
        with pytest.raises(InputError) as refused:
            drop_learnt(found, margin=margin)  # type: ignore[arg-type]
        assert str(refused.value) == f"margin must be a number from 0 on, found {margin}"
