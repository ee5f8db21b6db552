"""Steps, formulas and evidence of worked solutions on their own: whole values and whole messages."""

from __future__ import annotations

from typing import Any

import pytest

from toolrlef_data import TASKS
from toolrlef_data.records import Drop, UnusableRow
from toolrlef_data.trice.annotations.composer import Composed, compose
from toolrlef_data.trice.annotations.consistency import false_step, target_flaw
from toolrlef_data.trice.annotations.evidence import find_contradiction, has_comparison, is_mentioned
from toolrlef_data.trice.annotations.formulas import evaluate, parse, render, solve
from toolrlef_data.trice.annotations.steps import (
    Step,
    check_ending,
    is_equal,
    is_gold,
    parse_all_steps,
    parse_steps,
    plain_number,
    unstated_results,
)

# Formulas -------------------------------------------------------------------------------------------------------------

# Text -> tree
TREES: list[tuple[str, Any]] = [
    ("7", 7.0),
    ("-7", -7.0),
    ("(7)", 7.0),
    (".5", 0.5),
    ("1,234.5", 1234.5),
    ("1,23", None),
    ("12,345,678", 12345678.0),
    ("2-3+4", ("+", ("-", 2.0, 3.0), 4.0)),
    ("2--3", ("-", 2.0, -3.0)),
    ("-2**2", None),
    ("-2*3", ("*", -2.0, 3.0)),
    ("-(2)", None),
    ("2*-3", ("*", 2.0, -3.0)),
    ("8//3%2", ("%", ("//", 8.0, 3.0), 2.0)),
    ("5%", ("/", 5.0, 100.0)),
    ("5%+1", ("+", ("/", 5.0, 100.0), 1.0)),
    ("5%%", ("/", ("/", 5.0, 100.0), 100.0)),
    ("5%.5", ("%", 5.0, 0.5)),
    ("5%-1", ("-", ("/", 5.0, 100.0), 1.0)),
    ("2^3^2", ("**", 2.0, ("**", 3.0, 2.0))),
    ("$5\u00d72\u00f74\u22121\u20131", ("-", ("-", ("/", ("*", 5.0, 2.0), 4.0), 1.0), 1.0)),
    ("2 3", None),
    ("2+", None),
    ("2**", None),
    ("(2", None),
    ("-", None),
    ("-(", None),
    ("x", None),
    ("nan", None),
]


@pytest.mark.parametrize(("text", "tree"), TREES)
def test_the_tree_of_a_formula(text: str, tree: Any) -> None:
    assert parse(text) == tree


def test_the_length_of_a_formula_is_limited() -> None:
    assert parse("1" + "+1" * 199) is not None, "399 characters"
    assert parse("1" + "+1" * 200) is None, "401 characters"
    assert parse("12" + "+1" * 199) is not None, "400 characters"


def test_values_at_the_borders() -> None:
    assert evaluate(("**", 2.0, 64.0)) == 2.0**64
    assert evaluate(("**", 2.0, -64.0)) == 2.0**-64
    assert evaluate(("**", 1.0, 65.0)) is evaluate(("**", 1.0, -65.0)) is evaluate(("**", -4.0, 0.5)) is None
    assert evaluate(("*", 1e308, 10.0)) is None
    assert evaluate(("+", 1.0, 2.0), lambda leaf: leaf * 10) == 30
    assert [evaluate((sign, 7.0, 2.0)) for sign in ("+", "-", "*", "/", "//", "%", "**")] == [9, 5, 14, 3.5, 3, 1, 49]


RENDERED = [
    "1-(2-3)", "1-(2+3)", "1+2-3", "(1+2)/(3*4)", "1*2/3", "1/(2/3)", "1/2*3", "8//(4//2)", "8%(4*2)", "2*(4%3)", "2*3//4",
    "(1+2)**2", "2**(1+2)", "(2**3)**2", "2**3**2", "2+(-3)", "-3+2", "(-3)*2", "2-(-3)", "2**(-3)",
    "0.5+1000000", "5*(6*7//2)",
]  # fmt: skip


@pytest.mark.parametrize("text", RENDERED)
def test_a_formula_is_rendered_as_it_is_parsed(text: str) -> None:
    tree = parse(text)
    assert tree is not None
    assert render(tree) == text


def test_unknowns() -> None:
    solved = {
        "x - (2 - 3) = 4": "4+2-3", "6 = 2 * (x - 1)": "6/2+1", "12 / (x + 1) = 3": "12/3-1", "7 - x = 2": "7-2", "2x + 1 = 7": "(7-1)/2",
        "(2)x = 8": "8/2", "y = 3": "3", "3 = y": "3",
    }  # fmt: skip
    assert {text: render(tree) if (tree := solve(text)) is not None else None for text in solved} == solved
    refused = (
        "x + 3",
        "x = 3 = 4",
        "x * x = 4",
        "xy = 4",
        "x // 2 = 4",
        "5 = 4",
        "x = ?",
        "? = x",
        "x ** 2 = 9",
        "2 % x = 1",
    )
    assert [solve(text) for text in refused] == [None] * len(refused)


# Steps ----------------------------------------------------------------------------------------------------------------


def test_the_steps_of_each_form() -> None:
    text = "She has <<3*4=12>>12, then <<12+5=17>>17."
    assert parse_steps(text, "17") == [
        Step("3*4=12", ("*", 3.0, 4.0), (("", 12.0),), (8, 18)), Step("12+5=17", ("+", 12.0, 5.0), (("", 17.0),), (27, 38))
    ]  # fmt: skip
    assert [step.span for step in parse_steps(text, "17")] == [(8, 18), (27, 38)]
    assert parse_steps("47/6=7 r5", "5") == [Step("47/6=7 r5", ("/", 47.0, 6.0), (("//", 7.0), ("%", 5.0)))]
    assert parse_steps("7 (boxes) + 2 (m./s) = 9", "9")[0].tree == ("+", 7.0, 2.0)
    assert [step.text for step in parse_steps("7+2=9; ;9*2=18", "18")] == ["7+2=9", "9*2=18"]
    assert parse_steps("( 7 - 2 )", "5")[0].results == (("", 5.0),)
    assert parse_steps("35 + X = 56", "21") == [Step("35 + X = 56", ("-", 56.0, 35.0), (("", 21.0),))]
    assert parse_steps("10/3", "3.33333")[0].results == (("", 3.33333),)


@pytest.mark.parametrize(
    ("solution", "gold", "reason", "detail"),
    [
        ("", "1", "no_annotation", "the solution is empty"),
        (" ; ", "1", "no_annotation", ";"),
        ("x" * 70 + "#### 1", "1", "no_annotation", "x" * 54 + "#### 1"),
        ("<<a=1>>", "1", "unparsable", "a=1"),
        ("<<1+1=b>>", "1", "unparsable", "1+1=b"),
        ("<<1+1>>", "2", "unparsable", "1+1"),
        ("<<1+1=3>>", "3", "wrong_value", "1+1=3: the value is 2.0"),
        ("<<1/0=3>>", "3", "wrong_value", "1/0=3: the value is None"),
        ("7+2=8", "8", "wrong_value", "7+2=8: the value is 9.0"),
        ("7+2", "8", "wrong_value", "7+2: the value is 9.0"),
        ("7*2=3 r1", "3", "unparsable", "7*2=3 r1"),
        ("7=3 r1", "3", "unparsable", "7=3 r1"),
        ("7/2=3 r2", "3", "wrong_value", "7/2=3 r2"),
        ("7/2=4 r1", "3", "wrong_value", "7/2=4 r1"),
    ],
)
def test_steps_that_cannot_be_used(solution: str, gold: str, reason: str, detail: str) -> None:
    with pytest.raises(UnusableRow) as refused:
        parse_steps(solution, gold)
    assert (refused.value.reason, refused.value.detail) == (reason, detail)


def test_equations_in_prose_are_steps_where_no_annotation_states_their_result() -> None:
    text = "5*3=15 trees, 2 x 4 = $8. 1+1=3. 15*4=<<15*4=60>>60 in all. 60-8=52 and 2+6=8."
    steps = parse_all_steps(text)
    assert [(step.text.strip(), step.results) for step in steps] == [
        ("5*3=15", (("", 15.0),)), ("2 * 4 = $8", (("", 8.0),)), ("15*4=60", (("", 60.0),)), ("60-8=52", (("", 52.0),))
    ]  # fmt: skip
    assert [text[slice(*step.span)] for step in steps][2] == "<<15*4=60>>"
    assert parse_all_steps("7=7 and 9 apples, 10/2=4 and 10/0=5") == []


def test_results_without_an_annotation() -> None:
    steps = [Step("", 1.0, (("", 12.0),))]
    assert unstated_results("3*4 = 12, 1+1 = $2. 9= 9, 5*1,000=5,000. <<3*4=12>>", steps) == {2.0, 9.0, 5000.0}
    assert unstated_results("1+1=2", steps) == set()


def test_numbers_as_they_are_compared() -> None:
    assert [plain_number(text) for text in ("7", " 1,200 ", "-3", "$5", "7+1", "", "a")] == [
        7,
        1200,
        -3,
        5,
        None,
        None,
        None,
    ]
    cases = [
        (3.336, 3.33, "3.33", True),
        (3.341, 3.33, "3.33", False),
        (3.3, 3.0, "3", False),
        (3.34, 3.3, "3.3", False),
    ]
    cases += [(3.3334, 3.333, "3.333", True), (3.3341, 3.333, "3.333", False), (1e6, 1e6 + 1, "1000001", False)]
    cases += [(0.3, 0.1 + 0.2, "0.3", True), (2.0, 2.0, " 2 ", True), (3.34, 3.33, "3.33", False)]
    assert [(value, stated, text, is_equal(value, stated, text)) for value, stated, text, _ in cases] == cases
    assert [is_gold(value, gold) for value, gold in ((10 / 3, "3.33"), (10 / 3, "3.34"), (72.0, "72"))] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("tail", "detail"),
    [
        ("12.", ""),
        ("12. So 3*4 = 12.", ""),
        ("12. So 6+6 = 12.", "an equation follows the last step"),
        ("12. So x = 13.", "an equation follows the last step"),
        ("12. So x = 12.00", ""),
        ("12. She has $12.", "the last step is no amount of money, and the answer is one"),
    ],
)
def test_the_text_after_the_last_step(tail: str, detail: str) -> None:
    solution = f"<<3*4=12>>{tail}"
    (step,) = parse_steps(solution, "12")
    if not detail:
        check_ending(solution, step, "12")
        assert not detail
        return
    with pytest.raises(UnusableRow) as refused:
        check_ending(solution, step, "12")
    assert (refused.value.reason, refused.value.detail) == ("ambiguous", detail)


# Evidence -------------------------------------------------------------------------------------------------------------


def test_comparisons_and_mentions() -> None:
    compared = ["5 < 6", "5>6", "5 >= $6", "5 \u2264 .6", "5 &lt; 6", "5 &gt;= 6", "5 \u2265 6"]
    plain = ["a < 6", "5 <<1+1=2>> 6", "5 = 6", "5 < x"]
    assert [has_comparison(text) for text in compared + plain] == [True] * len(compared) + [False] * len(plain)
    between = {
        "12\nA foot has 12 inches.\nSo": True,
        "12 A foot has 12 inches. So": False,
        "12! A foot has 12 inches! So": True,
    }
    between |= {
        "12.\nA foot = 12 inches.\nSo": False,
        "12.\nA foot <<12>>.\nSo": False,
        "12.\nA foot has 1.2 inches.\nSo": False,
    }
    between |= {"12? A foot has 1,200 or 12 inches? So": True, "12.\nA foot has 12": False, "12.\n12": False}
    assert {text: is_mentioned(12, text) for text in between} == between


MONEY, COUNT = (
    "the last step is no amount of money, and the answer is one",
    "the last step is an amount of money, and the answer counts ",
)
CONTRADICTIONS = [
    ("It is <<3*4=12>>12. It costs \u20ac12.", MONEY),
    ("It is <<3*4=12>>12. It costs 12 euros.", MONEY),
    ("It is <<3*4=12>>12. It costs $13.", ""),
    ("It is <<3*4=12>>13. It costs $12.", ""),
    ("It is <<3*4=12>>. It costs $12.", ""),
    ("In cents, it is <<3*4=12>>12. It costs $12.", ""),
    ("5 cents.\nIt is <<3*4=12>>12. It costs $12.", MONEY),
    ("It is $<<3*4=12>>12. So 12 pens, 12 cups.", f"{COUNT}pens"),
    ("It is \u00a3 <<3*4=12>>12. So 12 Pens.", f"{COUNT}pens"),
    ("It is <<3*4=12>>$12. So 12 pens.", f"{COUNT}pens"),
    ("It is <<3*4=12>>$12. So 13 pens, 12 dollars.", ""),
    ("It is <<3*4=12>>$12. So 12 a week, 12 of them.", ""),
    ("It is <<3*4=12>>$12. #### 12 pens", ""),
    ("$It is <<3*4=12>>12. So 12 pens.", ""),
]


@pytest.mark.parametrize(("solution", "expected"), CONTRADICTIONS)
def test_contradictions_of_units(solution: str, expected: str) -> None:
    start, end = solution.index("<<"), solution.index(">>") + 2
    assert find_contradiction(solution, start, end, 12.0) == expected


# Composed formulas ----------------------------------------------------------------------------------------------------

HALF = "Ann picks 48 figs, and then half as many."
DETAILS: list[tuple[str, str, list[str], Composed]] = [
    (HALF, "<<48/2=24>>24\n<<48+24=72>>72\n#### 72", ["72"], Composed("48+48/2", None, "")),
    (HALF, "<<48/2=24>>", [], Composed(None, "wrong_value", "the gold answer is not a number: []")),
    (HALF, "<<48/2=24>>", ["a", "b", "c", "d"], Composed(None, "wrong_value", "the gold answer is not a number: ['a', 'b', 'c']")),
    (HALF, "5 < 6 <<48/2=24>>", ["24"], Composed(None, "ambiguous", "the solution compares numbers")),
    (HALF, "<<48/2=24>>", ["72"], Composed(None, "wrong_value", "the last step is 48/2=24, the answer 72")),
    (HALF, "<<48/2=24>> <<48*2=96>>", ["96"], Composed(None, "unused_step", "48/2=24; 48*2=96")),
    ("6 figs", "<<6=6>>", ["6"], Composed(None, "single_literal", "6")),
    ("7 figs", "<<7*6=42>>", ["42"], Composed(None, "unknown_literal", "6 in 7*6=42")),
    ("40 in 7", "40/7=5 r5", ["5"], Composed(None, "ambiguous", "the gold answer is both quotient and remainder: 40/7=5 r5")),
    ("10 apples, 5 pears, 4 days, half", "Half of 10 = 5. <<5*4=20>>20", ["20"],
     Composed(None, "ambiguous", "5 is in the question, or the result of a step without an annotation")),
    ("3 times as many as 1, and 1 more", "<<3*1=3>>3 <<3+1=4>>4 <<3+4=7>>7", ["7"], Composed(None, "ambiguous", "3*1+3+1 or 3+3*1+1 or 3*1+3*1+1")),
    ("6 feet of rope in 6 inch pieces, 60 inches", "<<6*12=72>>72 <<72/6=12>>12 <<60/12=5>>5", ["5"],
     Composed(None, "ambiguous", "12 is the size of a unit, or the result of a step")),
    ("6 feet of rope, 6 inch pieces, 12 cats, 60 pens", "<<6*12=72>>72 <<72/6=12>>12\nShe has 12 cats.\n<<60/12=5>>5", ["5"],
     Composed(None, "ambiguous", "12 is the result of a step, and the text names it again")),
    ("Half of 4", "<<2+2=4>>" * 12 + "<<4+4+4+4+4+4+4+4+4+4+4+4=48>>", ["48"], Composed(None, "too_many_readings", "more than 2048 readings")),
]  # fmt: skip


@pytest.mark.parametrize(("question", "solution", "answers", "expected"), DETAILS, ids=range(len(DETAILS)))
def test_a_composed_formula_or_why_there_is_none(
    question: str, solution: str, answers: list[str], expected: Composed
) -> None:
    assert compose(question, solution, answers) == expected


# Flaws of a response --------------------------------------------------------------------------------------------------


def test_flaws_of_a_target() -> None:
    math = TASKS["math"]
    long_call = "calculator(1+1) " + "x" * 200
    assert target_flaw(long_call, math) == Drop("target_calls", long_call[:100])
    assert target_flaw("2*8 = 24. <<3*4=13>>", math) == Drop("false_step", "3*4=13"), "annotations first"
    assert target_flaw("2*8 = 16. <<3*4=12>>", math) is None
    assert target_flaw("calculator(", math) is not None


def test_equations_in_prose_that_are_no_false_steps() -> None:
    false = {
        "3 + 4 = 8": "3 + 4 = 8", "1,000 x 2 = 3,000": "1,000 x 2 = 3,000", "$3 + $4 = $8.": "$3 + $4 = $8", "3+4=8\n": "3+4=8",
        "3 + 4 = -7": "3 + 4 = -7", "so: 3 + 4 = 8, then": "", "(3 + 4 = 8)": "", "3 + 4 = 8 apples": "3 + 4 = 8",
        "a3 + 4 = 8": "", "3 + 4 = 8.5": "", "3 + 4 = 8 + 1": "", "3 + 4 = $8": "", "3 / 4 = 8": "", "03 + 4 = 8": "", "3 + 4 = 8 1/2": "",
        "3 + 4 = 8 (2)": "", "3 + 4 = 8:1": "", "2 - 3 + 4 = 8": "", "1,00 + 4 = 8": "", "<<3+4=8.00>>": "3+4=8.00", "<<3=8>>": "",
    }  # fmt: skip
    assert {text: false_step(text) for text in false} == false
