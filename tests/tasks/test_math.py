"""The task math: parsing of numbers, grading, leaks and few-shot examples."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.support.corpora import hostile_cases
from tests.support.cpu_time import cpu_limit
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.math import (
    MATH,
    clean_answer,
    distance,
    extract,
    grade,
    leaks,
    numbers_in,
    parse_number,
    render,
    ungradable_reason,
)
from toolrlef_data.tools.parsing.calls import find_called_tool, parse_call


@pytest.mark.parametrize("case", hostile_cases("grading.jsonl", "Math"))
def test_hostile_predictions(case: dict[str, Any]) -> None:
    text = case["prediction"]
    prediction = MATH.extract(text) if case["kind"] == "text" else text
    # A fraction or a power of ten that is the complete answer is read as written, unlike in the paper.
    accepted = {case["expect"], case["sensible"]} if "/" in text or "^" in text else {case["expect"]}
    assert MATH.grade(prediction, case["gold"]) in accepted, case["why"]


def test_random_texts() -> None:
    draw = random.Random(2)
    parts = [*"0123456789,.-+eE$%/ \n()", "\u2212", "٣", "①", "½", "\ud800", "\x00", "half", "twenty", " and ", "dozen"]
    for _ in range(5000):
        text = "".join(draw.choice(parts) for _ in range(draw.randint(0, 14)))
        last = extract(text)
        has_number = any(c.isdecimal() for c in text)
        assert has_number or last in {None, "0.5", "-0.5"}
        # A fraction with the denominator 0 has no value.
        assert last is not None or not has_number or "/" in text
        assert last is None or last.isascii()
        assert last is None or "e" in last.lower() or parse_number(last) is not None
        assert grade(last, [text]) in {True, False, None}
        distance(last, [text])
        assert all(value >= 0 for value in numbers_in(text))
        leaks(text, text, [text])


@pytest.mark.parametrize(
    "text", ["1" * 10**6, "1," * 10**5, "1,111" * 10**5 + "1", "." * 10**6, "- " * 10**5, "one " * 10**5]
)
def test_long_texts_take_linear_time(text: str) -> None:
    with cpu_limit():
        extract(text)
        parse_number(text)
        numbers_in(text[: 10**5])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("72", 72.0),
        (" -7.50 ", -7.5),
        ("1e22", 1e22),
        ("1,234,567.5", 1234567.5),
        ("1,2", None),
        ("$5", None),
        ("50%", None),
        ("1_000", None),  # float() accepts it
        ("inf", None),
        ("nan", None),
        ("1e400", None),
        ("True", None),
        ("(1+2j)", None),
        ("9 (apples)", None),
        ("", None),
    ],
)
def test_parse_number(text: str, value: float | None) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("57.0", ["57"], True),
        ("33.333333", ["33.33"], True),
        ("57.01", ["57"], False),
        ("0.995", ["1"], False),  # Python's round, as in the original
        ("5", ["4", "5"], True),
        ("5", ["unknown", "5"], True),
        ("1234567", ["1,234,567"], True),
        ("-0", ["0"], True),
        (None, ["5"], False),  # not a number: incorrect, not equal to 0
        (None, ["0"], False),
        ("True", ["1"], False),
        ("inf", ["inf 0"], False),
        ("nan", ["0"], False),
        ("(1+2j)", ["1"], False),
        ("5", ["$5"], False),
        ("5", ["unknown"], None),  # not gradable
        ("unknown", ["unknown"], None),
        ("5", [], None),
    ],
)
def test_grade(prediction: str | None, answers: list[str], expected: bool | None) -> None:
    assert grade(prediction, answers) is expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        *((text, False) for text in ("", "many", "five", "nan", "I do not know the answer.", "The answer is unknown.")),
        *((text, False) for text in ("The answer is 7.", "\\boxed{}", "...", "There is no answer.")),
        *((text, None) for text in (r"\boxed{A}, that is 5", r"\boxed{2x}", r"\boxed{\text{no solution}}", "#### x")),
        *((text, None) for text in ("1/0", "The answer is 2 x 10^999", "x", "(B)", "**C.**", "$x$", "The answer is B")),
        *((text, None) for text in ("The answer is five.", r"It is $2\sqrt{3}$", r"\boxed{A} Wait, that is wrong.")),
        *((text, True) for text in (r"\boxed{2\sqrt{3}}", r"It is \boxed{\sqrt{12}} m", "3.46")),
    ],
)
def test_an_answer_that_cannot_be_read_is_not_graded(response: str, expected: bool | None) -> None:
    answers = ["3.464101615"] if expected and "sqrt" in response else ["3.46"]
    paper = MATH.with_rule("paper")
    assert MATH.grade_row(MATH.extract(response), answers, "How long?", "", response) is expected
    assert paper.grade_row(paper.extract(response), answers, "How long?", "", response) is (expected or False)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        *((text, True) for text in ("18.02", "18.02 g/mol", "The molar mass is 18.02.", "mass = 18.02 g", "1.802e1")),
        *((text, False) for text in ("17.02 g/mol", "about 18.02", "18.02 or 19", "18.02 million", "18.02 of 20 g")),
        *((text, False) for text in ('{"mass": 18.02}', "18,02", "18.02k", "not 18.02", "C18.02", "none")),
    ],
)
def test_only_an_output_that_is_one_number_with_a_unit_is_the_number(output: str, expected: bool) -> None:
    assert MATH.grade_output(output, ["18.02"]) is expected
    assert MATH.grade(output, ["18.02"]) is (expected and parse_number(output) is not None), "a response is extracted"
    assert MATH.with_rule("paper").grade_output(output, ["18.02"]) is (expected and parse_number(output) is not None)
    assert (distance(output, ["20"]) is not None) >= expected


def test_ungradable_reason_and_distance() -> None:
    assert ungradable_reason(["many", "72"]) is None
    assert ungradable_reason([]) == ungradable_reason([" "]) == "no_answer"
    assert ungradable_reason(["$5"]) == ungradable_reason(["inf"]) == "answer_not_a_number"
    assert distance("25.0", ["57", "30"]) == 5.0
    assert distance("0.333", ["1/3", "0.33"]) == 0.0
    assert distance("apples", ["57"]) is None
    assert distance("5", ["apples"]) is None


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,200 pens at $1.50", {1200, 1.5}),
        ("twenty-five", {25}),
        ("Twenty five-dollar notes", {20, 5, 25}),
        ("twenty fifteen-cent stamps", {20, 15}),
        ("one hundred and five", {105}),
        ("nine hundred ninety-nine thousand nine hundred and ninety-nine", {999_999}),
        ("two thousand five hundred", {2500}),
        ("2.5 million", {2.5, 2_500_000}),
        ("3 dozen", {3, 12, 36}),
        ("half a dozen", {0.5, 2, 6, 12}),
        ("two thirds", {2, 3, 1 / 3, 2 / 3}),
        ("two and a half", {2, 0.5, 2.5}),
        ("1 1/2 cups", {1, 2, 0.5, 1.5}),
        ("40%", {40, 0.4}),
        ("forty percent", {40, 0.4}),
        ("50 cents", {50, 0.5}),
        ("twice as many", {2}),
        ("one and two, ten or sixty and seventy", {1, 2, 10, 60, 70}),
        ("someone, tent, nineties", set()),  # words that merely contain a number word
    ],
)
def test_numbers_in(text: str, values: set[float]) -> None:
    assert numbers_in(text) == values


@pytest.mark.parametrize(
    ("argument", "question", "answers", "expected"),
    [
        ("72", "72?", ["72"], True),  # no computation
        ("(-$72.0)", "72?", ["72"], True),
        ("round(72)", "72?", ["72"], True),
        ("sqrt(16)", "What is the side of a square of 16?", ["4"], False),
        ("72+0", "How many?", ["72"], True),
        ("0-72.00", "How many?", ["-72"], True),
        ("1,200*1", "How many?", ["1200"], True),
        ("7_2+0", "How many?", ["72"], True),
        ("7200%*1", "How many?", ["72"], True),
        (r"7{,}200 \times 1", "How many?", ["7200"], True),
        ("1200*1", "Of 1,200 pens?", ["1200"], False),
        ("72-8", "Of 72 pens?", ["72", "8"], True),  # the question has one of the two
        ("12*1", "A dozen?", ["12"], False),
        ("20*0.5", "Half of 20?", ["0.5"], False),
        ("24*3", "24 and three?", ["72"], False),
        ("70+2", "How many?", ["72"], False),  # not covered: the answer in parts
        ("9", "The square of 9?", ["81"], False),  # another tool than the calculator
        ("H2O", "The molar mass of water?", ["18.02"], False),
        ("CO2", "How many atoms of oxygen has CO2?", ["2"], False),
        ('{"formula": "H2O", "moles": 2.0}', "The mass of two moles of water?", ["36.04"], False),
        ("18.02 g/mol", "The molar mass of water?", ["18.02"], True),
    ],
)
def test_leaks(argument: str, question: str, answers: list[str], expected: bool) -> None:
    assert leaks(argument, question, answers) is expected


def test_render_puts_the_context_first() -> None:
    assert render({"question": "How many?", "context": ""}) == "How many?"
    assert render({"question": "How many?", "context": "In May."}) == "In May.\nHow many?"


def test_the_task() -> None:
    assert TASKS["math"] is MATH
    assert MATH.numeric
    assert MATH.instruction == "Given a math problem, please answer it and you can use a calculator for help."
    for word in ("tool", "calculator", "formula"):
        assert word not in MATH.plain_instruction.lower()
    assert find_called_tool(MATH.teacher_instruction, [MATH.tool]) == "calculator"


@pytest.mark.parametrize("dataset", ["", "gsm8k", "svamp", "asdiv", "sample"])
def test_examples_are_correct_and_do_not_leak(dataset: str) -> None:
    examples = MATH.examples_for(dataset)
    assert len({example.input for example in examples}) == 4
    for example in examples:
        call = parse_call(example.call, [MATH.tool])
        assert call is not None
        value = MATH.tool.run(call.argument).value
        assert grade(str(value), [example.answer]), example.input
        assert grade(extract(example.plain), [example.answer])
        assert not leaks(call.argument, example.input, [example.answer])
        assert "calculator" not in example.plain


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        *(
            ("$68", "68"),
            ("920 litres", "920"),
            ("1,044", "1044"),
            ("3/4", "0.75"),
            ("12%", "12"),
            ("2 1/2 cups", "2.5"),
        ),
        *(
            ("-$5", "-5"),
            ("Answer: 5", "5"),
            ("x = 5", "5"),
            ("25 cm^2", "25"),
            ("\u00bd", "0.5"),
            ("12.50 \u20ac", "12.50"),
        ),
        *(
            ("steps\n#### 1,044", "1044"),
            (r"so \boxed{\frac{3}{4}}", "0.75"),
            ("1e3", "1e3"),
            ("007", "007"),
            ("5.", "5"),
        ),
        # Another number, several numbers, or an uncertain one.
        *(
            (text, None)
            for text in ("3 million", "5k", "\u00bd dozen", "5!", "<5", "~5", "2x", "A2", "1/0", "inf", "5 m^4")
        ),
        *(
            (text, None)
            for text in ("2 or 3", "10-12", "3:45", "1 044", "0,5", "1.234,56", "1,23", "many", "", "minus 5")
        ),
    ],
)
def test_a_gold_answer_as_people_write_it(written: str, expected: str | None) -> None:
    assert clean_answer(written) == expected
    assert expected is None or grade(expected, [expected])


def test_a_long_gold_answer_takes_no_long_time() -> None:
    assert clean_answer("word " * 20_000 + "5" + " unit" * 20_000) is None
    assert clean_answer("1," * 50_000) is None
