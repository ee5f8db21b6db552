"""A calculator for formulas that a language model wrote: safe, total, and bounded in time and memory.

`calculator((12/60)*50)` gives 10.0. A tokenizer and a precedence parser with a stack of their own: no text of a model
is compiled or executed, nothing recurses, and every formula ends in a number or in a `ToolError`.

Covered:
- Python's + - * / // % ** with Python's precedence, floor division and modulo; ^ is power, right associative and
  tighter than a minus before it; integers stay exact; a group after a number or a group multiplies: 2(3), (2)(3), 2pi;
- numbers: decimals, exponents, leading zeros, valid grouping (1,234 and 1,00,000 and 1_000), a currency sign before
  them, mixed numbers (1 1/2), digits of any script; pi;
- other signs for the operators: × · ∙ ÷ ⁄ − ² ³, full-width ones, x between numbers, LaTeX's \\times \\cdot \\div and
  \\frac{1}{2}, &times; &divide; &minus;
- `20%` is a hundredth where no right operand follows, or "of" does, and modulo where one follows (17%5). A signed right
  operand counts only where nothing stands before: 7%-3 is modulo; 5*20%-1, 100%-20% and 100% - 20% are percent;
- functions: abs ceil exp factorial float floor fmod gcd int lcm ln log log10 log2 max min mod pow round sqrt sum trunc,
  in any case, with or without "math."; commas between their arguments separate, so round(2.567,2) is 2.57. Where one
  call may hold both kinds of comma, as in min(1,000, 999), the formula is refused. A factorial may be written 5!;
- `48/2 =`, `= 3*4`, `3*4 = ?`, `x = 3*4`, `3+4=7`: sides that have a value must agree; <<48/2=24>> is left out.

Not covered, each an error: equations with an unknown, comparisons, and/or/not, units and scale words (5 kg, 2 million),
words as operators (but "of" after percent), brackets and braces, |-5|, plus-minus, times of day, hexadecimal, complex
numbers, strings, names other than those above. A date is read as a quotient. Results beyond the range of a float, inf
and nan are errors, as are formulas longer than `MAX_LENGTH` characters and powers of integers beyond that range.
"""

from __future__ import annotations

import re

from toolrlef_data.records import ToolError
from toolrlef_data.tools.arithmetic import HUGE, MAX_LENGTH, Number, evaluate
from toolrlef_data.tools.tool import Tool

__all__ = ["CALCULATOR", "MAX_LENGTH", "calculate"]

_PLAIN_LENGTH = 300  # keeps the integers of the quick path below a thousand bits

_plain_tokens = re.compile(r"\d+(?:\.\d+)?|\S").findall


def calculate(formula: str) -> int | float:
    """The value of a formula.

    Args:
        formula: as in the module's docstring, at most `MAX_LENGTH` characters beside blanks at its ends.

    Raises:
        ToolError: empty, syntax, unknown_name, zero_division, overflow, domain or too_large.

    >>> calculate("(12/60)*50"), calculate("1,234 + 10%"), calculate("round(2/3, 2)"), calculate("-2^2")
    (10.0, 1234.1, 0.67, -4)
    >>> calculate("10/0")
    Traceback (most recent call last):
    toolrlef_data.records.ToolError: zero_division: division by zero
    """
    try:
        value = _plain(formula) if len(formula) < _PLAIN_LENGTH else None
        if value is None:
            value = evaluate(formula)
        if -HUGE <= value <= HUGE:
            return value
    except ZeroDivisionError:
        raise ToolError("zero_division", "division by zero") from None
    except OverflowError:
        pass
    raise ToolError("overflow", "the value is beyond the range of a float")


def _plain(formula: str) -> Number | None:
    """The value of a formula of numbers, + - * / and parentheses; None for every other formula, right or wrong.

    Four in five formulas of models are of this form. Two levels of precedence need no parser: `total` collects
    terms and `term` collects factors.
    """
    stack: list[tuple[Number, str, Number, str]] = []
    total: Number = 0
    term: Number = 0
    plus, times = "+", ""
    tokens = iter(_plain_tokens(formula))
    for symbol in tokens:
        if symbol == "(":
            stack.append((total, plus, term, times))
            total, plus, times = 0, "+", ""
            continue
        try:
            value: Number = int(symbol) if symbol.isdecimal() else float(symbol)
        except ValueError:
            return None
        while True:
            if times:
                value = term * value if times == "*" else term / value
            times = next(tokens, "")
            if times == "*" or times == "/":
                term = value
                break
            value = total + value if plus == "+" else total - value
            if times == "+" or times == "-":
                total, plus, times = value, times, ""
                break
            if times == "":
                return None if stack else value
            if times != ")" or not stack:
                return None
            total, plus, term, times = stack.pop()
    return None


CALCULATOR = Tool(
    "calculator",
    "Computes an arithmetic formula, such as (12/60)*50, and gives its value.",
    calculate,
    parameter="formula",
)
