"""Scoring rules as tables of cases, each with its reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from toolrlef_data.records import InputError, Score
from toolrlef_data.trice.scoring import RULES
from toolrlef_data.trice.scoring.candidates import Candidate, apply_rule

# name, correct, uses_tool, distance; -1: no prediction.
Case = list[tuple[str, bool | None, bool, float | None]]
GOLD_TOOL = ("gold", True, True, None)
GOLD_PLAIN = ("gold", True, False, None)


def candidates(case: Case) -> list[dict[str, Any]]:
    return [
        {"name": n, "correct": c, "uses_tool": u, "distance": d, "prediction": None if d == -1 else "1"}
        for n, c, u, d in case
    ]


def scores(rule: str, case: Case, **options: Any) -> list[float]:
    return [score.score for score in RULES[rule](candidates(case), **{"numeric": True, **options})]


@pytest.mark.parametrize(
    ("why", "case", "options", "expected"),
    [
        (
            "the reference row of the documents",
            [GOLD_TOOL, ("chatgpt", True, True, 0), ("davinci", True, True, 0), ("vicuna", False, False, 32), ("alpaca", False, False, 3)],
            {},
            [20, 20, 20, 10, 15],
        ),
        ("a correct prediction without the tool gets the second level", [GOLD_TOOL, ("a", True, False, 0)], {}, [20, 15]),
        ("wrong predictions start at the third level if a correct one has the second", [GOLD_TOOL, ("a", True, False, 0), ("b", False, True, 1)], {}, [20, 15, 10]),
        ("two correct ones at the second level use up one level", [GOLD_TOOL, ("a", True, False, 0), ("b", True, False, 0), ("c", False, True, 1)], {}, [20, 15, 15, 10]),
        ("a correct one like gold, before or after it, does not give the second level back", [GOLD_TOOL, ("a", True, True, 0), ("b", True, False, 0), ("c", True, True, 0), ("d", False, True, 1)], {}, [20, 20, 15, 20, 10]),
        ("nor if the wrong one is first", [GOLD_PLAIN, ("a", False, True, 1), ("b", True, True, 0), ("c", True, False, 0)], {}, [20, 10, 15, 20]),
        ("levels follow distance, not responder order", [GOLD_TOOL, ("a", False, True, 9), ("b", False, True, 2), ("c", False, True, 5)], {}, [20, 5, 15, 10]),
        ("equal distances are ranked in responder order", [GOLD_TOOL, ("a", False, True, 2), ("b", False, True, 2)], {}, [20, 15, 10]),
        ("equal distances can share a level", [GOLD_TOOL, ("a", False, True, 2), ("b", False, True, 2), ("c", False, True, 3)], {"ties": "share"}, [20, 15, 15, 10]),
        ("a tie that is not the nearest shares a level, too", [GOLD_TOOL, ("a", False, True, 2), ("b", False, True, 3), ("c", False, True, 3)], {"ties": "share"}, [20, 15, 10, 10]),
        ("the last level repeats", [GOLD_PLAIN, *[(str(i), False, False, float(i)) for i in range(6)]], {}, [20, 15, 10, 5, 0, 0, 0]),
        ("a missing prediction scores the last level and uses up none", [GOLD_TOOL, ("a", False, True, -1), ("b", False, True, 3)], {}, [20, 0, 15]),
        ("missing=wrong ranks a missing prediction by its distance", [GOLD_TOOL, ("a", False, True, 1.0), ("b", False, True, 3)], {"missing": "wrong"}, [20, 15, 10]),
        ("missing=wrong ranks also a response without any prediction", [GOLD_TOOL, ("a", False, True, -1), ("b", False, True, 3)], {"missing": "wrong"}, [20, 15, 10]),
        ("without numbers, all wrong predictions get the first wrong level", [GOLD_TOOL, ("a", False, True, None), ("b", False, False, None)], {"numeric": False}, [20, 15, 15]),
        ("a trusted responder gets the top level if gold uses the tool, and uses up no level", [GOLD_TOOL, ("a", False, True, 1), ("b", False, True, 3)], {"trusted": ["a"]}, [20, 20, 15]),
        ("the tool use of a trusted responder is irrelevant", [GOLD_TOOL, ("a", False, False, 1), ("b", False, True, 3)], {"trusted": ["a"]}, [20, 20, 15]),
        ("the prediction of a trusted responder is irrelevant", [GOLD_TOOL, ("a", False, True, -1)], {"trusted": ["a"]}, [20, 20]),
        ("a trusted responder gets the second level if gold uses no tool, whether it uses the tool", [GOLD_PLAIN, ("a", True, True, 0), ("b", False, True, 3)], {"trusted": ["a"]}, [20, 15, 15]),
        ("or not, and does not lower the others", [GOLD_PLAIN, ("a", True, False, 0), ("b", False, True, 3)], {"trusted": ["a"]}, [20, 15, 15]),
        ("trust covers several responders", [GOLD_TOOL, ("a", False, False, 1), ("b", None, False, -1), ("c", True, False, 0)], {"trusted": ["a", "b"]}, [20, 20, 20, 15]),
        ("gold can be at any position", [("a", False, True, 4), GOLD_TOOL], {}, [15, 20]),
        ("levels can be changed", [GOLD_TOOL, ("a", False, True, 4)], {"levels": (4, 3, 2)}, [4, 3]),
        ("of three levels, too, the last repeats", [GOLD_TOOL, *[(str(i), False, False, float(i)) for i in range(4)]], {"levels": (4, 3, 2)}, [4, 3, 2, 2, 2]),
        ("of six levels, all are used", [GOLD_TOOL, *[(str(i), False, False, float(i)) for i in range(5)]], {"levels": (6, 5, 4, 3, 2, 1)}, [6, 5, 4, 3, 2, 1]),
    ],
)  # fmt: skip
def test_trice(why: str, case: Case, options: dict[str, Any], expected: list[float]) -> None:
    assert scores("trice", case, **options) == expected, why


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ([GOLD_TOOL, ("a", True, True, 0), ("b", True, False, 0), ("c", False, True, 1), ("d", False, False, 1)], [20, 15, 10, 5, 0]),
        ([GOLD_PLAIN, ("a", True, True, 0), ("b", True, False, 0), ("c", False, True, 1), ("d", False, False, 1)], [20, 10, 15, 0, 5]),
        ([GOLD_TOOL, ("a", True, True, 0), ("b", True, True, 0)], [20, 15, 15]),
        ([GOLD_TOOL, ("a", False, True, -1)], [20, 5]),
    ],
)  # fmt: skip
def test_paper_scores_by_state(case: Case, expected: list[float]) -> None:
    assert scores("paper", case) == expected


def test_scores_contain_names_and_states() -> None:
    rows = candidates([GOLD_TOOL, ("a", True, True, 0), ("b", False, True, 2), ("c", False, True, -1)])
    states = [(score.name, score.state) for score in RULES["trice"](rows, numeric=True)]
    assert states == [("gold", "gold"), ("a", "correct"), ("b", "wrong"), ("c", "missing")]


def test_the_scores_of_each_rule_in_full() -> None:
    case: Case = [("a", True, True, 0), GOLD_TOOL, ("b", False, True, 2), ("c", False, False, -1), ("d", None, True, 1)]
    case += [("e", True, False, 0), ("f", False, False, None)]
    rows = candidates(case)
    assert RULES["trice"](rows, numeric=True, trusted=("f",)) == [
        Score("a", 20.0, "correct"),
        Score("gold", 20.0, "gold"),
        Score("b", 5.0, "wrong"),
        Score("c", 0.0, "missing"),
        Score("d", 10.0, "wrong"),
        Score("e", 15.0, "correct"),
        Score("f", 20.0, "trusted"),
    ]
    assert RULES["paper"](rows, numeric=True, trusted=("f",)) == [
        Score("a", 15.0, "correct"),
        Score("gold", 20.0, "gold"),
        Score("b", 5.0, "wrong"),
        Score("c", 0.0, "missing"),
        Score("d", 5.0, "wrong"),
        Score("e", 10.0, "correct"),
        Score("f", 10.0, "trusted"),
    ]
    assert RULES["cost"](rows, numeric=True) == [
        Score("a", 20.0, "correct"),
        Score("gold", 20.0, "correct"),
        Score("b", 10.0, "wrong"),
        Score("c", 0.0, "missing"),
        Score("d", 10.0, "wrong"),
        Score("e", 15.0, "correct"),
        Score("f", 5.0, "wrong"),
    ]


def test_a_wrong_prediction_without_a_distance_is_the_farthest() -> None:
    case: Case = [GOLD_TOOL, ("a", False, True, None), ("b", False, True, 1e9), ("c", False, True, None)]
    assert scores("trice", case) == [20, 10, 15, 5]
    assert scores("trice", case, ties="share") == [20, 10, 15, 10]


LEVELS_MESSAGE = "levels: expected numbers from best to worst, found "


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        ("trice", {"levels": (2, 1)}, "the rule 'trice' needs at least three levels, found 2"),
        ("trice", {"levels": "abc"}, f"{LEVELS_MESSAGE}'abc'"),
        ("trice", {"levels": 5}, f"{LEVELS_MESSAGE}5"),
        ("paper", {"levels": [1, None]}, f"{LEVELS_MESSAGE}[1, None]"),
        ("paper", {"levels": (3, 2, 1)}, "the rule 'paper' has five states and needs five levels, found 3"),
        ("paper", {"levels": (6, 5, 4, 3, 2, 1)}, "the rule 'paper' has five states and needs five levels, found 6"),
        ("cost", {"levels": (3, 2, 1)}, "the rule 'cost' has five states and needs five levels, found 3"),
        ("cost", {"trusted": ["a", "b"]}, "the rule 'cost' trusts no responder, because it may be wrong; found a, b"),
        ("trice", {"missing": "zeros"}, "unknown missing 'zeros'; choose from: zero, wrong"),
        ("trice", {"ties": "no"}, "unknown ties 'no'; choose from: order, share"),
    ],
)
def test_the_message_of_a_wrong_option(rule: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        scores(rule, [GOLD_TOOL], **options)
    assert str(raised.value) == message


def returning(value: Any) -> Any:
    return lambda row: value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([20.0], "1 scores; expected a list of 2 scores, one for each response"),
        (7, "int; expected a list of 2 scores, one for each response"),
        (None, "NoneType; expected a list of 2 scores, one for each response"),
        ([Score("a", 1.0, "gold"), 2.0], "the score of 'a' instead of that of 'gold'"),
        ([1.0, "x"], "the score 'x' of 'a'; expected a finite number"),
        ([1.0, float("inf")], "the score inf of 'a'; expected a finite number"),
        ([None, 1.0], "the score None of 'gold'; expected a finite number"),
    ],
)
def test_what_a_rule_may_not_return(value: Any, message: str) -> None:
    row = [Candidate("gold", "1", True), Candidate("a")]
    with pytest.raises(InputError) as raised:
        apply_rule(returning(value), row, {}, "the row 'r1'")
    assert str(raised.value) == f"the rule <lambda> returned for the row 'r1' {message}"


def test_what_a_rule_may_return() -> None:
    row = [Candidate("gold", "1", True), Candidate("a")]
    for value in ([2, True], (2.0, Score("a", 1, "wrong")), np.array([2, 1]), [np.float32(2), np.int64(1)]):
        scores = apply_rule(returning(value), row, {}, "a row")
        assert (scores, [type(score) for score in scores]) == ([2.0, 1.0], [float, float])


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_row_without_gold_raises(rule: str) -> None:
    with pytest.raises(InputError, match="no candidate is named 'gold'; found: a"):
        scores(rule, [("a", True, True, 0)])
