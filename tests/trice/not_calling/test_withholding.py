"""A withheld number cannot be recovered, the call needs it, and nothing else of the question changes."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from toolrlef_data import TASKS
from toolrlef_data.records import UnusableRow
from toolrlef_data.tasks.numbers import numbers_in
from toolrlef_data.trice.not_calling.recoverable import is_recoverable, reachable
from toolrlef_data.trice.not_calling.withholding import Withheld, withhold

MATH = TASKS["math"]


def withheld(question: str, argument: str, gold: str, seed: int = 0) -> Withheld:
    return withhold(question, argument, [gold], MATH, Random(seed))


# question, argument of the call, gold answer, reason
REFUSED = [
    ("Tom had 26 figs. He ate 9. How many are left?", "26-8", "17", "unreadable_formula"),
    ("Tom had 26 figs. He ate 9. How many are left?", "26-", "17", "unreadable_formula"),
    ("What is 26 - 9?", "26-9", "17", "no_clause"),
    ("Tom had 26 figs and 26 limes. How many has he?", "26+26", "52", "no_clause"),
    ("Tom had 26 figs, so 13 pairs. He ate half. How many are left?", "26/2", "13", "no_clause"),
    ("Tom had 26 figs. Ann has half of them, 13 figs. How many have both?", "26+13", "39", "recoverable"),
    ("Tom had 26 figs. He ate 9. So 17 figs are left. How many figs are left?", "26-9", "17", "recoverable"),
    ("Tom ran 48 miles on Sunday, twice as far as the 24 miles of Ann. How far did he run?", "48", "48", "no_clause"),
    ("Tom ran 48 miles on Sunday. Ann ran half of it, or 24 miles. How far did he run?", "48", "48", "recoverable"),
    ("From his 20 figs, he ate 34 figs. Ann ate 18 figs. How many were eaten?", "34+18", "52", "bounded"),
    ("Tom got 26 notes on Sunday and 9 notes on Monday. How many notes did he get on Monday?", "26-9", "17", "stated"),
    ("Tom had 26 figs. Of 7 bags of 6 limes and 5 limes, how many are his?", "7*6+5+26*0", "47", "not_needed"),
    ("Tom has 26 figs. He has 9 figs less than Ann. How many figs does Tom have?", "26+0*9", "26", "same_question"),
]


@pytest.mark.parametrize(("question", "argument", "gold", "reason"), REFUSED, ids=[f"{r[3]} {r[1]}" for r in REFUSED])
def test_doubtful_numbers_are_not_withheld(question: str, argument: str, gold: str, reason: str) -> None:
    with pytest.raises(UnusableRow) as error:
        withheld(question, argument, gold)
    assert error.value.reason == reason


def test_only_the_number_changes_and_the_call_fails_without_it() -> None:
    question = "Paco had 26 salty cookies and 40 figs. He ate 9 salty cookies. How many salty ones are left?"
    found = withheld(question, "26-9", "17", seed=1)
    start, end = found.clause.start, found.clause.end
    assert found.question == question[:start] + found.clause.replacement + question[end:]
    assert found.clause.value in (26.0, 9.0)
    assert MATH.tool.run(found.check.split(": ")[1].split(" -> ")[0]).error == "syntax"


# Questions with a slot for the number of the clause; the other numbers stay.
FRAMES = [
    ("Tom had {n} figs. He ate 13 figs. How many figs are left?", "{n}-13"),
    ("There are {n} figs in a bowl. Ann eats 4 figs a day. How long do they last?", "{n}/4"),
    ("Each box holds {n} figs. There are 14 boxes on a shelf. How many figs fit on it?", "14*{n}"),
    ("Tom saved ${n} in May and $85 in June. How much did he save?", "{n}+85"),
    ("Tom ran {n} miles on Sunday. Ann ran twice as far. How far did they run?", "{n}+2*{n}"),
]


@pytest.mark.parametrize(("frame", "formula"), FRAMES, ids=[formula for _, formula in FRAMES])
def test_a_withheld_number_is_in_no_form_in_the_question(frame: str, formula: str) -> None:
    """Every number from 3 to 150 is either refused or absent, and its question has more than one answer."""
    questions: dict[str, set[str]] = {}
    for n in range(3, 151):
        argument = formula.format(n=n)
        gold = str(MATH.tool.run(argument).value)
        try:
            found = withheld(frame.format(n=n), argument, gold, seed=n)
        except UnusableRow:
            continue
        if found.clause.value == n:
            assert n not in numbers_in(found.question)
            questions.setdefault(found.question, set()).add(gold)
    assert formula.count("{n}") > 1 or max(map(len, questions.values())) > 20


@pytest.mark.parametrize(
    ("value", "question", "expected"),
    [
        (36, "He has some eggs. That is three dozen.", True),
        (16, "He ran several kilometers, or 10 miles.", True),
        (48, "It takes several hours, two days.", True),
        (25, "He has some figs. The rest are 12 limes and 13 nuts.", True),
        (70, "He has some figs, 5 bags of 14.", True),
        (3, "He saw Ann, Bo and Cy.", True),
        (7, "He reads every day of the week.", True),
        (997, f"He has bags of {', '.join(map(str, range(41, 80, 3)))} limes.", True),  # too many numbers to compute
        (
            11,
            "He has figs, limes, nuts, eggs, pens, cups, hats, bags, toys, keys, mats.",
            False,
        ),  # nobody counts so far
        (37, "He has 5 bags and 40 limes.", False),
        (190, "He has 5 bags and 40 limes.", False),
    ],
)
def test_a_number_is_recoverable_in_another_unit_or_by_arithmetic(value: float, question: str, expected: bool) -> None:
    assert is_recoverable(value, question) is expected


def test_the_reachable_numbers_are_those_of_all_formulas() -> None:
    """A plain enumeration of formulas over three numbers, with both groupings, reaches nothing else."""
    numbers = (3.0, 5.0, 8.0)
    formulas = {
        form.format(*order, *signs)
        for order in itertools.permutations(numbers)
        for signs in itertools.product("+-*/", repeat=2)
        for form in ("({0}{3}{1}){4}{2}", "{0}{3}({1}{4}{2})")
    }
    values = [MATH.tool.run(formula).value for formula in formulas]
    expected = {round(value, 6) for value in values if isinstance(value, (int, float))}
    assert expected <= {round(value, 6) for value in reachable(numbers, 3)}
    fewer = {round(value, 6) for value in reachable(numbers, 2)}
    assert {round(value, 6) for value in reachable(numbers, 3)} == expected | fewer
