"""The number that a response gives as its answer: signs, dashes, LaTeX, fractions, boxes and `####` lines."""

from __future__ import annotations

import random

import pytest

from tests.support.cpu_time import cpu_limit
from toolrlef_data.tasks.final_numbers import final_number
from toolrlef_data.tasks.numbers import parse_number
from toolrlef_data.tools.notation import MINUS_SIGNS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is 72.", "72"),
        ("72", "72"),
        ("It is -5.", "-5"),
        ("It is \u22125 degrees", "-5"),
        ("10-3", "3"),  # a difference
        ("(4)-3", "3"),
        ("x=-3", "-3"),
        ("COVID-19", "19"),
        ("-$1,234.50!", "-1234.50"),
        ("$57.00", "57.00"),
        ("1,234,567", "1234567"),
        ("12,34,567", "1234567"),  # Indian grouping
        ("1,2", "2"),  # a list
        ("12,1,234", "234"),
        ("1,23,4567", "4567"),
        ("1234,567", "567"),
        ("0,5", "5"),
        ("is .75", "0.75"),
        ("v1.5.2", "2"),
        ("the end.5", "5"),
        ("1.5e-3", "1.5e-3"),
        ("2e", "2"),
        ("٣٤", "34"),
        ("x٣5", "35"),
        ("<<48/2=24>>24", "24"),
        ("H2O", "2"),
        ("72\u200b", "72"),
        ("8 and then\tno more", "8"),
        ("none", None),
        ("① ²", None),  # not decimal digits
        ("", None),
    ],
)
def test_last_number(text: str, expected: str | None) -> None:
    assert final_number(text) == expected
    assert expected is None or parse_number(expected) is not None


@pytest.mark.parametrize("dash", MINUS_SIGNS)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("~5", "-5"),
        ("The answer is ~5.", "-5"),
        ("The answer is ~$1,250.", "-1250"),
        ("x = ~5", "-5"),
        ("#### ~5", "-5"),
        (r"\boxed{~5}", "-5"),
        ("**~5**", "-5"),
        ("$~5$", "-5"),
        ("(~5)", "-5"),
        ("between ~5 and (~3)", "-3"),
        # A sign apart from its number
        ("x = ~ 5", "-5"),
        ("The answer is ~ 5.", "-5"),
        ("Answer: ~ 5 degrees", "-5"),
        ("Net: ~ $1,250", "-1250"),
        ("Net: ~$ 5", "-5"),
        ("The answer is **~ 5**", "-5"),
        ("~ 5", "-5"),
        ("~ 5 degrees.", "-5"),
        (r"\boxed{~ 5}", "-5"),
        ("#### ~ 5", "-5"),
        # No sign: a range or a difference
        ("10~5", "5"),
        ("pages 10 ~ 15", "15"),
        ("(10)~5", "5"),
        ("[1] ~ 5", "5"),
        ("10%~5", "5"),
        ("50% ~ 5", "5"),
        ("May 3~5", "5"),
        ("2020~05~17", "17"),
        ("a 5~4 vote", "4"),
        ("It is 7 ~ 3", "3"),
        # No sign: punctuation
        ("He sold them~5 in all", "5"),
        ("He left ~ 5 stayed", "5"),
        ("There it is~5 eggs", "5"),
        ("this ~ 5 eggs", "5"),  # "this" does not end in the word "is"
        # No sign: list items
        ("~ 12 eggs\n~ 30 hens", "30"),
        ("Items:\n~ 30 hens", "30"),
        ("The answer is\n~ 30 hens", "30"),
        ("~ 40 hens remain.", "40"),
        ("1. ~ 5", "5"),
        ("Step 2: ~ 5", "5"),
    ],
)
def test_dashes(text: str, expected: str, dash: str) -> None:
    assert final_number(text.replace("~", dash)) == expected


@pytest.mark.parametrize("dash", MINUS_SIGNS[1:6])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pages 10 ~15", "15"),  # the blank is misplaced
        ("5% ~6%", "6"),
        ("**10**~5", "5"),
        ("~12 eggs\n~30 hens", "30"),  # a list, without blanks
    ],
)
def test_other_dashes_after_an_operand_or_in_a_list_are_no_signs(text: str, expected: str, dash: str) -> None:
    assert final_number(text.replace("~", dash)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{8{,}300}", "8300"),
        (r"They pay $2{,}345{,}678$ in total.", "2345678"),
        (r"The answer is \$7{,}150.", "7150"),
        (r"$8\,300$", "8300"),
        (r"$8\;300$", "8300"),
        (r"$8\ 300$", "8300"),
        (r"\boxed{8,\!300}", "8300"),
        (r"$2{,}345.75$", "2345.75"),
        (r"$-8{,}300$", "-8300"),
        (r"1{,}00{,}000", "100000"),
        ("8{,}300", "8300"),
        (r"$8\,30$", "30"),  # no group of three digits
        (r"$3{,}5$", "5"),  # a decimal comma, as 3,5
        (r"$5\,\text{cm}$", "5"),
        (r"-\$5", "-5"),
        (r"40\%", "40"),
    ],
)
def test_latex(text: str, expected: str) -> None:
    assert final_number(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{42} for 5 boxes", "42"),
        (r"\boxed{3} and then \boxed{4}", "4"),
        (r"\fbox{4}, 5", "4"),
        (r"\boxed{\textbf{42}} 5", "42"),
        (r"\boxed{\text{12 dollars}} 5", "12"),
        (r"\boxed{x = 5}", "5"),
        (r"\boxed{5 + 3 = 8}", "8"),
        (r"\boxed{25 \text{ cm}^2}", "25"),
        (r"\boxed{25\ \mathrm{m}^{3}}", "25"),
        (r"\boxed{90^\circ}", "90"),
        (r"\boxed{\$12.50}", "12.50"),
        (r"x = -\boxed{5}", "-5"),
        (r"\boxed{10-12}", "12"),  # a range, as outside boxes
        (r"\boxed{42", "42"),  # cut off
        (r"Write it in \boxed{}. It is 5", "5"),
        (r"Write it in \boxed{answer}. It is 5", "5"),
        (r"\boxed{\text{five}} 5", None),
        (r"\boxed{A}, that is 5", None),
        (r"\boxed{2x}", None),
        (r"\boxed{x+5}", None),
        (r"\boxed{5 = x}", None),
        (r"\boxed{5 \pm 2}", None),
        (r"\boxed{\log 100}", None),  # of which base
        (r"\boxed{\sqrt{-1}}", None),
        (r"\boxed{\frac{2\sqrt{3}}{0}}", None),
        (r"\boxed{(\sqrt{4}, 5)}", None),
        (r"\boxed{2\sqrt{3}\text{ or }4}", None),
        (r"\boxed{2\sqrt{3}}", "3.4641016151377544"),
        (r"\boxed{x = 2\sqrt{4} \text{ cm}}", "4"),
        (r"\boxed{2\sqrt{3} \approx 3.46}", "3.46"),
        (r"x = -\boxed{1 + \sqrt{4}}", "-3"),
        (r"\boxed{2^{10}}", "1024"),
        (r"\boxed{3 \times 4 \text{ dollars}}", "12"),
        (r"The answer is $2\sqrt{3}$.", None),
        (r"$\frac{\sqrt{3}}{2}$", None),
        ("x = 2*sqrt(3)", None),
        ("x = 2\u221a3", None),
        (r"The area is $25\pi$.", None),
        ("The area is 25\u03c0.", None),
        (r"\sqrt{16} = 4", "4"),
        (r"25\pi \approx 78.5", "78.5"),
        (r"\boxed{0.\overline{3}}", None),
        (r"\boxed{\sin 30}", None),
        (r"\boxed{\binom{5}{2}}", None),
        ("The answer is \u00bd.", "0.5"),
        ("So 6/12 = \u00bd", "0.5"),
        ("He has 5 and gives away \u00bd of them", "5"),
        ("So 5/2 = 7\n#### 2 1/2", "2.5"),
        ("So 5/2 = 7\n#### 2\u00bd cups", "2.5"),
        (r"\boxed{\frac{\pi}{4}}", "0.7853981633974483"),
        (r"\boxed{\frac{1}{2} + \frac{1}{3}}", "0.8333333333333333"),
        (r"\boxed{x^2}", None),
        ("5+3=8\n#### 8\n\nQuestion: 4 more", "8"),
        ("#### 12 eggs\nThis took 3 steps", "12"),
        ("#### $1,250\nok 3", "1250"),
        ("#### The answer is 42\nok 3", "42"),
        ("It is 42 #### 42\nok 3", "42"),
        ("#### 3\nNo: #### 4\nok 5", "4"),
        (r"\boxed{3}, so" + "\n#### 4\nok 5", "4"),
        ("#### 1. Add\nWe get 7", "7"),  # headings
        ("#### Step 2\n7 jars", "7"),
        ("#### 3 Compute the sum\nIt is 9", "9"),
        ("##### 4\n5", "5"),
        # A power of a unit is no formula; of a formula, the base of a logarithm and what a percentage refers to are unknown.
        (r"\boxed{25 cm^2}", "25"),
        (r"\boxed{50\% \times 4}", None),
        (r"\boxed{log(100) + \pi}", None),
    ],
)
def test_boxes_and_answer_lines(text: str, expected: str | None) -> None:
    assert final_number(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3/4", "0.75"),
        ("-3/4", "-0.75"),
        ("3/4 cup", "0.75"),
        ("The answer is 3/4.", "0.75"),
        ("The answer is **3 / 4** of the cake.", "0.75"),
        ("The answer is 1/1,000.", "0.001"),
        ("The answer is approximately 3/4 of the cake.", "0.75"),
        ("The answer is 3/4 (three quarters).", "0.75"),
        ("x = 3/4 h\n\n- Done", "0.75"),
        ("#### 3/4", "0.75"),
        ("1/2 + 1/4 = 3/4", "0.75"),
        ("1*3/4=<<1*3/4=0.75>>3/4", "0.75"),
        ("2 1/2", "2.5"),
        ("-1 1/2", "-1.5"),
        ("The answer is 2 and 1/2 hours.", "2.5"),
        ("The answer is 2½.", "2.5"),
        ("½", "0.5"),
        (r"\boxed{\frac{3}{4}}", "0.75"),
        (r"\boxed{-\frac{1}{2}}", "-0.5"),
        (r"\boxed{\frac{-1}{2}}", "-0.5"),
        (r"\boxed{\dfrac34}", "0.75"),
        (r"\boxed{2\frac{1}{2} \text{ cups}}", "2.5"),
        (r"The answer is $\frac{3}{4}$.", "0.75"),
        ("1/0", None),
        # Not the complete answer
        ("It is 3/4.", "4"),
        ("( 18.0 / 3.0 )", "3.0"),  # a formula, not a fraction
        ("(18 / 3)", "3"),
        ("1.5/2", "2"),
        ("on 5/6 he left", "6"),
        ("3/4 or 1/2", "2"),
        ("x = 3/4 + 1/8", "8"),
        ("x = 5 * 3/4", "4"),
        ("x = 3/4y", "4"),
        ("x = 3/4(y + z)", "4"),
        ("7/10 girls and 3/10 boys", "10"),
        # Dates, idioms, seasons, ratios, times, ranges
        ("24/7", "7"),
        ("The answer is 24/7.", "7"),
        ("It is open 24/7/365", "365"),
        ("50/50", "50"),
        ("9/11", "11"),
        ("3/4/2020", "2020"),
        ("The answer is 3/4/2020.", "2020"),
        ("The date is 12/25", "25"),
        ("5/2024", "2024"),
        ("2023/24", "24"),
        ("2023/2024", "2024"),
        ("12.05.2020", "2020"),
        ("The ratio is 3:4", "4"),
        ("The answer is 3:4.", "4"),
        ("at 10:30 pm", "30"),
        ("3:45", "45"),
        ("The answer is 10 to 12.", "12"),
        ("The answer is: 10-12", "12"),
        ("60 km/h", "60"),
        # Powers of ten
        ("2 x 10^3", "2000"),
        ("2.5 \u00d7 10^6 people", "2500000"),
        ("The answer is 2.5 x 10^-3 meters.", "0.0025"),
        ("x = 2 \u00d7 10^\u22122", "0.02"),
        ("x = 6 * 10**2", "600"),
        ("1.5\u00b710\u00b3", "1500"),
        ("10^6", "1000000"),
        (r"\boxed{2 \times 10^{3}}", "2000"),
        ("about 2 x 10^3 of them", "3"),
        ("2 x 10^999", None),
        ("1.23456789 x 10^18", "1.23456789e+18"),  # a float has no more digits
        ("1e3 x 10^5", "5"),  # two exponents
        ("5 x 3", "3"),
        ("5^2", "2"),
        # Units
        ("The area is 25 cm^2.", "25"),
        (r"$1{,}250 \text{ m}^2$", "1250"),
        ("25 m\u00b2", "25"),
        ("5 kg/m^3", "3"),  # not covered: compound units
    ],
)
def test_fractions_powers_and_what_looks_like_them(text: str, expected: str | None) -> None:
    assert final_number(text) == expected


def test_random_texts_yield_a_number_or_none() -> None:
    draw = random.Random(4)
    pieces = [
        *r"\boxed{ } { #### \frac \, {,} 5 / 10 x^ 10^ ½ ² . ! ( ) $ % = : is answer ** \text{ cm^2 24/7 ٣ - –".split(),  # noqa: SIM905  # longer as a list
        *["\n", " ", "The answer is ", "\ud800"],
    ]
    for _ in range(10_000):
        number = final_number("".join(draw.choice(pieces) for _ in range(draw.randint(0, 12))))
        assert number is None or (number.isascii() and "," not in number and float(number) is not None)


@pytest.mark.parametrize(
    "unit",
    ["\\boxed{", "\\boxed{1}", "#### 1\n", "1{,}", "1\\,000", "= - ", "\u20135\n", "1/2 ", "\\frac{1}", "2 x 10^", "$"],
)
def test_long_texts_take_linear_time(unit: str) -> None:
    with cpu_limit():
        for end in ("", "5", " - 5", "/4"):
            final_number(unit * (10**5 // len(unit)) + end)
