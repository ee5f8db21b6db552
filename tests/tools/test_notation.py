"""Notation of formulas: every sign and LaTeX command that the calculator reads, and the whole message of each error."""

from __future__ import annotations

import math

import pytest

from toolrlef_data.records import ToolError
from toolrlef_data.tools.calculator import CALCULATOR, MAX_LENGTH, calculate
from toolrlef_data.tools.notation import CURRENCY, MINUS_SIGNS, normalise, plain_latex


def test_every_sign_has_its_meaning() -> None:
    for sign in "*\u00d7\u00b7\u2217\u22c5\u2219\u2022\u2715\u2716\uff0a\u2a09":
        assert calculate(f"3{sign}4") == calculate(f"3 {sign} 4") == 12, sign
    for sign in "/\u00f7\u2044\u2215\uff0f":
        assert calculate(f"8{sign}2") == 4, sign
    for sign in "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63\uff0d":
        assert sign in MINUS_SIGNS
        assert calculate(f"8{sign}2") == 6, sign
    for sign in "$\u20ac\u00a3\u00a5\u20b9\u20a9":
        assert sign in CURRENCY
        assert calculate(f"{sign}8+{sign}-2") == 6, sign
    for sign in "\u200b\u2060\ufeff\u200e\u200f":
        assert calculate(f"3{sign}+{sign}4") == 7, ascii(sign)
        assert CALCULATOR.run(f"3{sign}4").error == "syntax", "never 34"
    assert (len(MINUS_SIGNS), len(CURRENCY)) == (10, 6)


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("\uff083\uff0b4\uff09*2", 14),
        ("20\uff05*5", 1.0),
        ("3*4\uff1d12", 12),
        ("5\u00b2+1", 26),
        ("2\u00b3", 8),
        ("1\uff0e5*2", 3.0),
        ("2\uff3e3", 8),
        ("2\u03c0", 2 * math.pi),
        ("\u00bd+\u00bc+\u00be", 1.5),
        (r"3 \times 4 \cdot 2 \div 6", 4.0),
        ("3 &times; 4 &divide; 6 &minus; 1", 1.0),
        (r"2\pi", 2 * math.pi),
        (r"\left(3+4\right) \cdot \left(2\right)", 14),
        (r"\(3+4\)", 7),
        (r"\[3+4\]", 7),
        ("$3+4$", 7),
        ("$$3+4$$", 7),
        ("1 1/2 * 2", 3.0),
        ("1  1 / 2 * 2", 3.0),
        (r"\frac 1 2", 0.5),
        (r"\frac 1 {2}", 0.5),
        (r"\frac{ 1 }{ 2 }", 0.5),
        (r"\cfrac12 + \tfrac12 + \dfrac12", 1.5),
        (r"2\frac{ 1 }{ 2 } * 2", 5.0),
        (r"2 \frac{1} 2 * 2", 5.0),
        (r"2^3\frac{1}{2}", 4.0),
        (r"2**3\frac{1}{2}", 4.0),
        (r"1{,}002\frac{1}{2}", 501.0),
        (r"\sqrt [ 3 ] {8}", 2.0),
        (r"\sqrt 9", 3.0),
        (r"\sqrt (9)", 3.0),
        (r"2^ {3}", 8),
        ("20 percent of 50", 10.0),
        ("20%of 50", 10.0),
        ("20 % of 50", 10.0),
        ("7 % 3", 1),
        ("7% 3", 1),
        ("50%+1", 1.5),
        ("(50%)", 0.5),
        ("50%^2", 0.25),
        ("max(50%, 0)", 0.5),
        ("50% = 0.5", 0.5),
        ("50 % - 1", 0),
        ("50% - 1", -0.5),
        ("MATH.Sqrt(9)", 3.0),
        ("<<3*4=12>> 5", 5),
        ("5 <<3*4=12>>", 5),
        ("<<3*4=12>>", 12),
    ],
)
def test_the_value_of_a_notation(formula: str, value: float) -> None:
    found = calculate(formula)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "plain", "grouped"),
    [
        *((text, "9,700", "9_700") for text in (r"9{,}700", r"9{\,}700", r"9{,}\!700", r"9\!,700", r"9\!,\!700")),
        *((text, "9,700", "9_700") for text in (r"9,\!700", r"9\,700", r"9\:700", r"9\;700", r"9\ 700", r"9\,\!700")),
        (r"1{,}234{,}567", "1,234,567", "1_234_567"),
        (r"12{,}34", "12,34", "12,34"),
        (r"1234\,567", "1234 567", "1234 567"),
        (r"1.5\,700", "1.5 700", "1.5 700"),
        (r"1,5\,700", "1,5 700", "1,5 700"),
        (r"1{,}00{,}000", "1,00,000", "1,00,000"),
        (r"9\,7000", "9 7000", "9 7000"),
        (r"a\quad b\qquad c\quadrat", "a  b  c\\quadrat", "a  b  c\\quadrat"),
        (r"\$5 40\% a\!b", "$5 40% ab", "$5 40% ab"),
        ("5, 700", "5, 700", "5, 700"),
    ],
)
def test_plain_latex(text: str, plain: str, grouped: str) -> None:
    assert (plain_latex(text), plain_latex(text, "_")) == (plain, grouped)


@pytest.mark.parametrize(
    ("formula", "plain"),
    [
        ("1.5 1/2", "1.5 1/2"),
        ("2 1 1/2", "2 1 1/2"),
        ("1 1/2.5", "1 1/2.5"),
        ("1,1 1/2", "1,1 1/2"),
        ("1 1/2 + 3 3/4", "(1+1/2) + (3+3/4)"),
        (r"\frac{1}{2}+\frac12+\frac{1}2", "((1)/(2))+((1)/(2))+((1)/(2))"),
        (r"\frac{1+\frac{2}{3}}{4}", "((1+((2)/(3)))/(4))"),
        (r"\frac{1}23", r"((1}23"),
        (r"\sqrt[3]{8}^{2}", "((8)^(1/3))^(2)"),
        (r"{1}", "{1}"),
        ("(3)4 (3).5 (3) 4", "(3)*4 (3)*.5 (3) 4"),
        ("\u20145 \u00d7 2", "-5 * 2"),
    ],
)
def test_the_plain_text_of_a_formula(formula: str, plain: str) -> None:
    assert normalise(formula) == plain


NO_NUMBER = ("syntax", "a hexadecimal, octal or binary number")
INCOMPLETE = ("syntax", "the formula is not complete")
BEYOND = ("overflow", "the value is beyond the range of a float")
ROUND = ("domain", "round takes a whole number of digits, at most 400")


@pytest.mark.parametrize(
    ("formula", "error"),
    [
        ("", ("empty", "the formula is empty")),
        ("1" + "+1" * (MAX_LENGTH // 2), ("too_large", f"{MAX_LENGTH + 1} characters; at most {MAX_LENGTH}")),
        *((formula, NO_NUMBER) for formula in ("0x1", "0X1F", "0o7", "3+0b1")),
        *((formula, ("syntax", "a comparison")) for formula in ("3==3", "3!=4")),
        ("3=4", ("syntax", "the sides of the equation differ")),
        ("3.004=3.006", ("syntax", "the sides of the equation differ")),
        *((formula, INCOMPLETE) for formula in ("3+", "(3", "sqrt(", "-")),
        ("3 4", ("syntax", "'4' does not fit here")),
        ("3)", ("syntax", "')' does not fit here")),
        ("kg", ("unknown_name", "'kg' is not a name that the calculator knows")),
        ("3 " + "k" * 60, ("unknown_name", f"'{'k' * 40}' is not a name that the calculator knows")),
        ("1/0", ("zero_division", "division by zero")),
        ("7 % 0", ("zero_division", "division by zero")),
        *((formula, BEYOND) for formula in ("1e400", "10**309", "2^1025", "171!", "1e308*10", "-1e308*10")),
        ("(-8)^0.5", ("domain", "a fractional power of a negative number")),
        *((formula, ROUND) for formula in ("round(5, 1.5)", "round(5, 401)", "round(5, -401)")),
        ("gcd(1.5, 2)", ("domain", "a whole number is needed")),
        ("2.5!", ("domain", "a whole number is needed")),
        ("(-3)!", ("domain", "the factorial of a negative number")),
        ("sqrt(1, 2)", ("syntax", "sqrt does not take 2 arguments")),
        ("max(2,345, 1)", ("syntax", "commas that may group digits among commas that separate arguments")),
        ("max(1,002, 2)", ("syntax", "a comma that groups digits among commas that separate arguments")),
    ],
)
def test_the_message_of_an_error(formula: str, error: tuple[str, str]) -> None:
    result = CALCULATOR.run(formula)
    assert (result.value, result.error) == (None, error[0])
    assert result.detail == error[1]
    with pytest.raises(ToolError):
        calculate(formula)


def test_the_sides_of_an_equation_agree_to_two_decimals_or_nine_digits() -> None:
    for formula, value in (
        ("3.001 = 3.004", 3.001),
        ("10000000001 = 10000000000", 10000000001),
        ("x = 5 = ?", 5),
        ("? = 5", 5),
        ("__ = 5", 5),
        ("= 5 =", 5),
        ("total = 5", 5),
        ("5 = total", 5),
    ):
        assert calculate(formula) == value, formula
    for formula in ("1000001 = 1000000", "x1 = 5", "5 = 6 = ?", "a b = 5", "="):
        assert CALCULATOR.run(formula).error is not None, formula
