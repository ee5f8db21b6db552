"""The rule "cost": by enumeration, no wrong response reaches a right one, and need decides between right ones."""

from __future__ import annotations

from itertools import product

import pytest

from toolrlef_data import Candidate, InputError
from toolrlef_data.records import UnknownName
from toolrlef_data.trice.scoring import RULES, cost
from toolrlef_data.trice.scoring.candidates import apply_rule

PLAIN = (None, 0.0, 0.49, 0.5, 1.0)
STATES = list(
    product((True, False, None), (True, False), ("42", None), (None, "syntax"))
)  # correct, uses_tool, prediction, error


def test_no_wrong_response_reaches_a_right_one() -> None:
    for p_plain, gold_calls, states in product(PLAIN, (True, False), product(STATES, repeat=2)):
        row = [Candidate("gold", "42", True, gold_calls, p_plain=p_plain)]
        row += [
            Candidate(f"r{n}", prediction, correct, uses_tool, error=error, p_plain=p_plain)
            for n, (correct, uses_tool, prediction, error) in enumerate(states)
        ]
        scores = apply_rule(cost, row, {"numeric": True}, "a row")
        right = [score for score, candidate in zip(scores, row, strict=True) if candidate.correct]
        others = [score for score, candidate in zip(scores, row, strict=True) if not candidate.correct]
        assert min(right) > max(others, default=-1.0)


@pytest.mark.parametrize(("p_plain", "better"), [(1.0, False), (0.5, False), (0.49, True), (0.0, True)])
def test_need_decides_between_right_responses(p_plain: float, better: bool) -> None:
    for gold_calls in (True, False):
        row = [
            Candidate("gold", "42", True, gold_calls, p_plain=p_plain),
            Candidate("a", "42", True, not gold_calls, p_plain=p_plain),
        ]
        scores = {c.uses_tool: s.score for c, s in zip(row, cost(row, numeric=True), strict=True)}
        assert scores[better] > scores[not better]


@pytest.mark.parametrize("gold_calls", [True, False])
def test_without_a_measurement_the_way_of_gold_is_better(gold_calls: bool) -> None:
    row = [Candidate("gold", "42", None, gold_calls), Candidate("a", "42", True, not gold_calls)]
    assert [score.score for score in cost(row, numeric=True)] == [20.0, 15.0]


def test_wrong_gold_is_wrong() -> None:
    row = [Candidate("gold", "41", False, True, p_plain=0.0), Candidate("a", "42", True, False, p_plain=0.0)]
    assert [score.score for score in cost(row, numeric=True)] == [10.0, 15.0]


def test_options() -> None:
    row = [Candidate("gold", "42", True, True, p_plain=0.3)]
    assert cost(row, numeric=True, threshold=0.2, levels=(5, 4, 3, 2, 1))[0].score == 4
    with pytest.raises(InputError, match="five levels"):
        cost(row, numeric=True, levels=(2, 1))
    for levels in ((0, 5, 10, 15, 20), (20, 10, 10, 5, 0), (1, 1, 1, 1, 1)):
        with pytest.raises(InputError, match="of right responses, above the others"):
            cost(row, numeric=True, levels=levels)
    with pytest.raises(InputError, match="threshold: expected a number, found 'low'"):
        cost(row, numeric=True, threshold="low")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="trusts no responder"):
        cost(row, numeric=True, trusted=("chatgpt",))
    with pytest.raises(UnknownName, match="cost, paper, trice"):
        RULES["coast"]
