"""Scoring rules as tables of cases, each with its reason."""

from __future__ import annotations

from typing import Any

import pytest

from toolrlef_data.records import InputError
from toolrlef_data.trice.scoring import RULES

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
        ("levels follow distance, not responder order", [GOLD_TOOL, ("a", False, True, 9), ("b", False, True, 2), ("c", False, True, 5)], {}, [20, 5, 15, 10]),
        ("equal distances are ranked in responder order", [GOLD_TOOL, ("a", False, True, 2), ("b", False, True, 2)], {}, [20, 15, 10]),
        ("equal distances can share a level", [GOLD_TOOL, ("a", False, True, 2), ("b", False, True, 2), ("c", False, True, 3)], {"ties": "share"}, [20, 15, 15, 10]),
        ("a tie that is not the nearest shares a level, too", [GOLD_TOOL, ("a", False, True, 2), ("b", False, True, 3), ("c", False, True, 3)], {"ties": "share"}, [20, 15, 10, 10]),
        ("the last level repeats", [GOLD_PLAIN, *[(str(i), False, False, float(i)) for i in range(6)]], {}, [20, 15, 10, 5, 0, 0, 0]),
        ("a missing prediction scores the last level and uses up none", [GOLD_TOOL, ("a", False, True, -1), ("b", False, True, 3)], {}, [20, 0, 15]),
        ("missing=wrong ranks a missing prediction by its distance", [GOLD_TOOL, ("a", False, True, 1.0), ("b", False, True, 3)], {"missing": "wrong"}, [20, 15, 10]),
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


@pytest.mark.parametrize(
    ("options", "words"),
    [({"missing": "zeros"}, "choose from: zero, wrong"), ({"ties": "no"}, "choose from: order, share")],
)
def test_unknown_options_list_the_choices(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        scores("trice", [GOLD_TOOL], **options)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_row_without_gold_raises(rule: str) -> None:
    with pytest.raises(InputError, match="no candidate is named 'gold'; found: a"):
        scores(rule, [("a", True, True, 0)])
