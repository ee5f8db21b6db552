"""The calculator: evaluates arithmetic formulas written by a language model, in bounded time and memory.

`calculator((12/60)*50)` returns 10.0. A tokenizer and an iterative precedence parser evaluate the formula; no text is
compiled or executed. Every formula yields a number or a `ToolError`.

Syntax:

- Operators: Python's + - * / // % ** with Python's precedence, floor division and modulo. ^ is power, right
  associative, and binds tighter than a minus before it. Integers stay exact.
- Implicit multiplication: a group after a number or a group, as in 2(3), (2)(3) and 2pi, and a number directly after
  a group, as in (3+4)5. With a blank between them, (1) 25 is an error: it may be a list item.
- Numbers: decimals, exponents, leading zeros, grouped digits (1,234 and 1,00,000 and 1_000), a currency sign before the
  number, mixed numbers (1 1/2), digits of any script, pi.
- Other operator signs: × · ∙ ÷ ⁄ ² ³, every dash of `notation.MINUS_SIGNS`, full-width signs, x between numbers,
  &times; &divide; &minus;.
- LaTeX: \\times \\cdot \\div \\pi \\% \\$, \\frac{1}{2}, 2\\frac{1}{2} (a mixed number), \\sqrt{9}, \\sqrt[3]{8},
  2^{10}, 9{,}700, blanks, and the delimiters $ \\( \\[ \\left \\right.
- Percent: `20%` is a hundredth if no right operand follows, or if "of" follows. Otherwise % is modulo (17%5). Before a
  sign, % is modulo only if no operator precedes its left operand: 7%-3 is modulo. 5*20%-1, 100%-20% and 100% - 20% are
  percent.
- Functions: abs ceil exp factorial float floor fmod gcd int lcm ln log log10 log2 max min mod pow round sqrt sum trunc.
  Case is ignored, and "math." before the name is allowed. A factorial may be written 5!.
- Commas between the arguments of a function separate them, so round(2.567,2) is 2.57. A call whose commas could mean
  both grouping and separation, such as min(1,000, 999), is an error.
- Equations: `48/2 =`, `= 3*4`, `3*4 = ?`, `x = 3*4` and `3+4=7`. All sides that have a value must agree. An
  annotation such as <<48/2=24>> is ignored.

Not covered, each an error:

- equations with an unknown, comparisons, and/or/not;
- units and scale words (5 kg, 2 million), words as operators (except "of" after percent);
- brackets and braces, |-5|, plus-minus, times of day, hexadecimal, complex numbers, strings, other names;
- results beyond the range of a float, infinity and NaN, powers of integers beyond that range;
- formulas longer than `MAX_LENGTH` characters.

A date is read as a quotient.
"""

from __future__ import annotations

import re

from toolrlef_data.records import ToolError
from toolrlef_data.tools.arithmetic import MAX_FLOAT, MAX_LENGTH, Number, evaluate
from toolrlef_data.tools.tool import Tool

__all__ = ["CALCULATOR", "MAX_LENGTH", "calculate"]

_MAX_PLAIN_LENGTH = 300  # characters; keeps the integers of the fast path below a thousand bits

_plain_tokens = re.compile(r"\d+(?:\.\d+)?|\S").findall


def calculate(formula: str) -> int | float:
    """Return the value of a formula.

    Args:
        formula: syntax as in the module's docstring; at most `MAX_LENGTH` characters after stripping.

    Raises:
        ToolError: the kind is empty, syntax, unknown_name, zero_division, overflow, domain or too_large.

    >>> calculate("(12/60)*50"), calculate("1,234 + 10%"), calculate("round(2/3, 2)"), calculate("-2^2")
    (10.0, 1234.1, 0.67, -4)
    >>> calculate("10/0")
    Traceback (most recent call last):
    toolrlef_data.records.ToolError: zero_division: division by zero
    """
    try:
        value = _plain(formula) if len(formula) < _MAX_PLAIN_LENGTH else None
        if value is None:
            value = evaluate(formula)
        if -MAX_FLOAT <= value <= MAX_FLOAT:
            return value
    except ZeroDivisionError:
        raise ToolError("zero_division", "division by zero") from None
    except OverflowError:
        pass
    raise ToolError("overflow", "the value is beyond the range of a float")


def _plain(formula: str) -> Number | None:
    """Return the value of a formula of numbers, + - * / and parentheses; None for any other text, valid or not.

    A division by zero gives None, too, since the rest of the text may be no formula. This fast path covers four in five
    formulas of models. `total` accumulates terms and `term` accumulates factors.
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
                if times == "/" and not value:
                    return None
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
