"""A formula is composed only if a worked solution has a single reading."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from toolrlef_data.tools.calculator import calculate
from toolrlef_data.trice.annotations.composer import ANNOTATIONS, REASONS, Annotations, compose
from toolrlef_data.trice.annotations.constants import constants_for
from toolrlef_data.trice.annotations.evidence import find_contradiction

HALF = "Ann picks 48 figs, and then half as many."


@pytest.mark.parametrize(
    ("question", "solution", "answer", "formula", "why"),
    [
        (HALF, "48/2=<<48/2=24>>24\n<<48+24=72>>72\n#### 72", "72", "48+48/2", "a result is replaced by its formula"),
        ("7 and 2 figs", "7+2=9", "9", "7+2", "ASDiv's form"),
        ("A rope of 76 m, 25 m cut off", "( 76.0 - 25.0 )", "51", "76-25", "SVAMP's form"),
        ("47 buns, boxes of 6: how many full boxes?", "47/6=7 r5", "7", "47//6", "the quotient is asked"),
        ("47 buns, boxes of 6: how many remain?", "47/6=7 r5", "5", "47%6", "the remainder is asked"),
        ("59 buns for 8, one more box?", "59/8=7 r3; 7+1=8", "8", "59//8+1", "a quotient in a later step"),
        (
            "650 buns in 42 bags, how many short?",
            "650/42=15 r20; 42-20=22",
            "22",
            "42-650%42",
            "a remainder in a later step",
        ),
        (
            "2 hours and 5 minutes",
            "2 (hour)*60 (min/hour) + 5 (min) = 125 (min)",
            "125",
            "2*60+5",
            "units in parentheses",
        ),
        ("20% of 50 figs", "<<50*20/100=10>>10\n#### 10", "10", "50*20/100", "percent implies 100"),
        ("It is -4, then 9 warmer, then 12 colder", "<<-4+9=5>>5 <<5-12=-7>>-7\n#### -7", "-7", "-4+9-12", "negative"),
        ("10 for 3, and 6 more", "<<10/3=3.33>>3.33 <<3.33+6=9.33>>9.33\n#### 9.33", "9.33", "10/3+6", "two decimals"),
        (
            "5 rows of 3 trees, 4 times as many",
            "5*3=15 trees.\n15*4=<<15*4=60>>60\n#### 60",
            "60",
            "5*3*4",
            "an equation without an annotation",
        ),
        (
            "6 ducks, twice as many hens, as many cats as hens",
            "<<6*2=12>>12 <<6+12+12=30>>30\n#### 30",
            "30",
            "6+6*2+6*2",
            "a necessary re-use",
        ),
        (
            "Two of 10 and one of 10",
            "<<2*10=20>>20 <<20+10=30>>30\n#### 30",
            "30",
            "2*10+10",
            "the 10 is in the question",
        ),
        ("35 eggs, 56 with hers", "35 + X = 56", "21", "56-35", "the unknown is a summand"),
        ("56 figs, 35 are left", "56 = X + 35", "21", "56-35", "the unknown is on the right"),
        ("50 figs, 20 are left", "50 - x = 20", "30", "50-20", "the unknown is subtracted"),
        ("12 figs, 3 each", "12 / n = 3", "4", "12/3", "the unknown is the divisor"),
        ("54 cm for 3 sides", "3L=54", "18", "54/3", "a number before the unknown is a factor"),
        ("180 degrees, one has 54, 2 others", "54+2x=180", "63", "(180-54)/2", "a product inside a sum"),
        ("10 for 3", "( 10.0 / 3.0 )", "3.33333", "10/3", "gold is compared as in grading"),
        ("10 for 3", "10/3=3.33", "3.33333", "10/3", "the result has fewer digits than gold"),
        ("10 for 3", "<<10/3=3.33>>3.33\n#### 3.33333", "3.33333", "10/3", "an annotated result, too"),
        (
            "3 dogs, 4 cats, each week",
            "<<3+4=7>>7 pets\nOf these 7 pets, 2*7=<<7*3=21>>21\n#### 21",
            "21",
            "(3+4)*3",
            "the sentence of the calculation itself names the 7",
        ),
    ],
)
def test_composes(question: str, solution: str, answer: str, formula: str, why: str) -> None:
    composed = compose(question, solution, [answer])
    assert composed.formula == formula, (why, composed)
    assert composed.reason is None
    assert calculate(formula) == pytest.approx(float(answer), abs=0.005), why


@pytest.mark.parametrize(
    ("question", "solution", "answer", "reason", "why"),
    [
        (HALF, "He counts them.\n#### 72", "72", "no_annotation", "no step"),
        (HALF, "", "72", "no_annotation", "no solution at all"),
        ("A sum of 10", "<<2x=10>>\n#### 5", "5", "unparsable", "an unknown"),
        ("15, 9 and 18 figs", "GCD(15,9,18)=3", "3", "unparsable", "a function"),
        ("6 cats and 9 dogs", "6:9=2:3", "3", "unparsable", "a ratio"),
        ("40 markers in 7 boxes", "40/7=5 r5", "5", "ambiguous", "quotient and remainder are both 5"),
        ("40 markers in 7 boxes", "40/7=5 r4", "5", "wrong_value", "the remainder is 5"),
        ("40 markers in 7 boxes", "40*7=5 r5", "5", "unparsable", "a product has no remainder"),
        ("Six figs", "6", "6", "single_literal", "a number is no formula"),
        ("Six figs", "<<6=6>>6\n#### 6", "6", "single_literal", "a step without an operation"),
        ("Ann is 7", "<<7*6=42>>42\n#### 42", "42", "unknown_literal", "6 is not in the question"),
        ("3 apples and 4 pears", "<<3*7=21>>21\n#### 21", "21", "unknown_literal", "7 needs the word week"),
        (HALF, "<<48/2=24>>24 <<48*2=96>>96\n#### 96", "96", "unused_step", "24 is unused"),
        ("7 figs for 2", "<<7/2=3>>3 <<3+7=10>>10\n#### 10", "10", "wrong_value", "3 was rounded"),
        (HALF, "<<48/2=24>>24\n#### 72", "72", "wrong_value", "the last step is not the answer"),
        (HALF, "<<48/2=24>>24", "many", "wrong_value", "the gold answer is not a number"),
        ("2 groups of 12 and 12 others share 24", "<<2*12=24>>24 <<24*24=576>>576 <<576/24=24>>24\n#### 24", "24", "ambiguous",
         "two different readings of 24"),
        ("3 times as many as 1, and 1 more", "<<3*1=3>>3 <<3+1=4>>4 <<3+4=7>>7\n#### 7", "7", "ambiguous",
         "the question has only one 3"),
        ("12 figs, 3 each", "12 / n = 3", "5", "wrong_value", "12/3 is not 5"),
        ("35 and 56", "X + X = 56", "28", "unparsable", "the unknown occurs twice"),
        ("35 and 56", "35 + X = 56; X * 2 = 42", "42", "unparsable", "several equations with an unknown"),
        ("3 and 5", "3 x 5 = 15", "15", "unparsable", "x between numbers is no unknown"),
        ("10 for 4", "10/4=2.5", "3", "wrong_value", "grading rounds to two decimals, not to integers"),
        ("A rope of 60 inches costs $5, pieces of a foot", "<<60/12=5>>5 pieces.\nThe cheapest costs $5, because 5 < 6.\n#### 5", "5", "ambiguous",
         "a comparison decides"),
        ("A rope of 60 inches costs $5, pieces of a foot", "<<60/12=5>>5 pieces.\nThe rope costs $5.\n#### 5", "5", "ambiguous",
         "5 pieces are not 5 dollars"),
        ("$12 for 3 kg", "<<12/3=4>>$4 each.\nShe carries it home 4 times.\n#### 4", "4", "ambiguous", "4 dollars are not 4 times"),
        ("$100, she pays 20, twice as much, and half of that", "<<2*20=40>>40 <<40/2=20>>20\nShe keeps 40-20=20\n#### 20", "20", "ambiguous",
         "a later equation with the same value"),
        ("6 feet of rope in 6 inch pieces, 60 inches", "<<6*12=72>>72 <<72/6=12>>12\nA foot has 12 inches.\n<<60/12=5>>5\n#### 5", "5", "ambiguous",
         "the text introduces another 12"),
        ("6 feet of rope in 6 inch pieces, 60 inches", "<<6*12=72>>72 <<72/6=12>>12 <<60/12=5>>5\n#### 5", "5", "ambiguous",
         "a divisor can be the size of a unit"),
        ("6 figs, 3 pears", "6-3=3 are gone; <<9-3=6>>", "6", "unknown_literal", "9 is unknown"),
        ("Half of 4", "<<2+2=4>>" * 12 + "<<4+4+4+4+4+4+4+4+4+4+4+4=48>>", "48", "too_many_readings",
         "each of twelve fours has thirteen readings"),
    ],
)  # fmt: skip
def test_unusable_solutions(question: str, solution: str, answer: str, reason: str, why: str) -> None:
    composed = compose(question, solution, [answer])
    assert (composed.formula, composed.reason) == (None, reason), (why, composed)
    assert reason in REASONS
    assert composed.detail, "a reason has a detail"


def test_equivalent_readings_count_as_one() -> None:
    # Either 10 of the sum can be the result of the step; the two formulas differ only in their order.
    composed = compose("5 bags of 2 and 10 more", "<<5*2=10>>10 <<10+10=20>>20\n#### 20", ["20"])
    assert composed.formula in ("10+5*2", "5*2+10")


def test_a_number_equal_to_an_unannotated_result_is_ambiguous() -> None:
    solution = "Half of 10 apples = 5. He has <<5*4=20>>20.\n#### 20"
    assert compose("10 apples, 5 pears, 4 days, half", solution, ["20"]).reason == "ambiguous"


@pytest.mark.parametrize(
    ("question", "value", "why"),
    [
        ("in a week", 7, "days"),
        ("half of it", 2, "a half"),
        ("three dozen", 12, "a dozen"),
        ("Ann, Bo and Cy share it", 3, "the length of the list"),
        ("Ann, Bo, and Cy share it", 3, "the length of the list"),
        ("Ann and Bo share it", 2, "two names"),
        ("a program for goods", 1, "always"),
    ],
)
def test_words_imply_constants(question: str, value: float, why: str) -> None:
    assert value in constants_for(question), why


def test_without_a_word_only_1_is_implied() -> None:
    assert constants_for("She has some figs.") == {1.0}
    assert 12 not in constants_for("the program")  # no p.m.


def test_composition_is_deterministic() -> None:
    row = ("5 bags of 2 and 10 more", "<<5*2=10>>10 <<10+10=20>>20\n#### 20", ["20"])
    assert len({compose(*row) for _ in range(20)}) == 1


def test_the_teacher_compares_by_value() -> None:
    assert Annotations() == ANNOTATIONS
    assert ANNOTATIONS.name == "annotations"


def test_random_text_never_raises() -> None:
    random = Random(5)
    for _ in range(3000):
        text = "".join(random.choices("<<>>==r;()+-*/%. 0123456789x#$,", k=random.randrange(40)))
        composed = compose("7 figs and 12 pears", text, ["12"])
        assert (composed.formula is None) == (composed.reason is not None)


def test_real_gsm8k(shared: Path) -> None:
    lines = (shared / "data/gsm8k/train.jsonl").read_text(encoding="utf-8").splitlines()[::4]
    start, reasons = time.process_time(), Counter[str | None]()
    for line in lines:
        row = json.loads(line)
        gold = row["answer"].rpartition("####")[2].strip().replace(",", "")
        composed = compose(row["question"], row["answer"], [gold])
        reasons[composed.reason] += 1
        if composed.formula is not None:
            assert calculate(composed.formula) == pytest.approx(float(gold), abs=0.005), composed
    assert 0.70 < reasons[None] / len(lines) < 0.82, reasons
    assert (time.process_time() - start) / len(lines) < 0.1, "seconds per row"


@pytest.mark.parametrize(
    ("solution", "expected"),
    [
        ("She has 3*4=<<3*4=12>>12. She has $12.", "the last step is no amount of money"),
        ("In dollars, she has 3*4=<<3*4=12>>12. She has $12.", ""),
        ("She has 3*$4=<<3*4=12>>12. She has $12.", ""),
        ("It was $5.\nShe has 3*4=<<3*4=12>>12. She has $12.", "the last step is no amount of money"),
        ("She has $<<3*4=12>>12. She has 12 pens.", "an amount of money, and the answer counts pens"),
        ("She pays <<3*4=12>>12 dollars. So 12 pens.", "an amount of money, and the answer counts pens"),
        ("She has $<<3*4=12>>12. She has 12 in total.", ""),
        ("She has $<<3*4=12>>12. #### 12 pens", ""),
    ],
)
def test_an_amount_of_money_is_no_number_of_things(solution: str, expected: str) -> None:
    start, end = solution.index("<<"), solution.index(">>") + 2
    found = find_contradiction(solution, start, end, 12.0)
    assert (expected in found) if expected else not found
