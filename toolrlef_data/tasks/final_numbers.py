r"""The number that a response gives as its answer, for `math`.

The number in the last `\boxed{}` or `####` line, otherwise the last number of the text. It is read as written:

| written | number |
|---|---|
| `9{,}700` `9\,700` `9,\!700` `\$4{,}250` | 9700, 9700, 9700, 4250 |
| a dash of `MINUS_SIGNS` directly before a number | a sign, unless a number, bracket or % precedes it: `10-3` is 3 |
| a dash and a blank before a number | a sign only after `=`, `is` or `:`, or at the start of an answer of one line |
| `3/4` `\frac{3}{4}` `2 1/2` `2 x 10^3` as the complete answer | 0.75, 0.75, 2.5, 2000 |
| the same elsewhere; `24/7` `50/50` `9/11` `3/4/2020` `5/2024` `3:45` `10-12` | their last number |
| `25 cm^2` | 25 |
| `\boxed{2\sqrt{3}}` `\boxed{\frac{\pi}{4}}` `\boxed{2^{10}}`: formulas without a variable | their value |
| a box with anything else: `\boxed{A}` `\boxed{x^2}` `\boxed{2x}`; `1/0` | None |
| outside boxes, a number in a root or before pi: `2\sqrt{3}` `25\pi` | None |

A fraction is the complete answer after "answer is", `=` or `####`, in a box, or if the text contains nothing else but a
unit.

If the number is None, `is_unreadable` tells an answer that cannot be read from a response that gives no answer.
"""

from __future__ import annotations

import re

from toolrlef_data.records import ToolError
from toolrlef_data.tasks.answer_marks import Mark, last_box, last_number_line, marked_answer
from toolrlef_data.tasks.number_forms import (
    MARKUP,
    SLASHES,
    SUPERSCRIPT,
    WINDOW,
    digits,
    form_alone,
    form_at,
    plain_number,
    unit_power,
)
from toolrlef_data.tasks.numbers import UNSIGNED, VULGAR_FRACTIONS
from toolrlef_data.tools.calculator import calculate
from toolrlef_data.tools.notation import CURRENCY, MINUS_SIGNS, plain_latex

__all__ = ["final_number", "is_unreadable"]

# A minus is a sign only if no operand precedes it: 10-3 ends in 3, not in -3.
_signed = re.compile(rf"(?:(?<![\w.)\]%])[{MINUS_SIGNS}][{CURRENCY}]?)?{UNSIGNED}").findall
_to_last_digit = re.compile(r".*\d", re.DOTALL).match
_to_last_vulgar = re.compile(rf".*[{VULGAR_FRACTIONS}]", re.DOTALL).match
_JOINING = frozenset(MINUS_SIGNS + CURRENCY + "+.,eE")  # these can join digits to the text before them
# Signs before (or after) the last digits that can make them a part of another number.
_BEFORE = frozenset(MINUS_SIGNS + CURRENCY + SLASHES + "^{*(\u221a")
_after = re.compile(rf"\s?[{VULGAR_FRACTIONS}{SUPERSCRIPT}\u207a\u207b\u03c0]").match
# The last number is the radicand of a root or the denominator of a formula, or pi follows: it is not the answer.
_in_formula = re.compile(
    r"(?:\\sqrt\s*(?:\[[^\]]{0,9}\]\s*)?\{?|\bsqrt\(|\u221a[\s({]*)[^{}()\s]*\Z|\}\}\s*\{[^{}]*\Z"
).search
_pi = re.compile(r"\s*(?:\\pi(?![a-zA-Z])|\u03c0)").match
_MAX_LENGTH = 2000  # characters searched: a longer number is far beyond the range of a float


def final_number(text: str) -> str | None:
    r"""Return the number that a response gives as its answer, as plain digits; None if it gives none that is certain.

    >>> final_number(r"\boxed{9{,}700}"), final_number("She pays $1,234.50."), final_number("10-3")
    ('9700', '1234.50', '3')
    >>> final_number("The answer is 3/4."), final_number("It is open 24/7"), final_number(r"\boxed{2\sqrt{3}}")
    ('0.75', '7', '3.4641016151377544')
    """
    if "\\" in text or "#" in text:
        box = last_box(text)
        line = last_number_line(text)
        if box is not None and (line is None or box.end > line.end):
            return _number_in_box(box, text)
        if line is not None:
            return _last_number(line.answer)
    return _last_number(text)


_one_letter = re.compile(r"[\W_]*[^\W\d_][\W_]*").fullmatch


def is_unreadable(text: str) -> bool:
    r"""Return whether a response without a `final_number` gives an answer, one that cannot be read as a number.

    >>> [is_unreadable(text) for text in (r"\boxed{x^2}", "The answer is B.", "x", "1/0")]
    [True, True, True, True]
    >>> is_unreadable("I do not know the answer."), is_unreadable("many")
    (False, False)
    """
    if any(character.isdecimal() for character in text) or last_box(text):
        return True
    return _one_letter(text) is not None or marked_answer(f"{text.rstrip()}.\n") is not None


# Boxes ----------------------------------------------------------------------------------------------------------------

_text_commands = re.compile(
    r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}(?:\s*\^\s*(?:\{\s*\d\s*\}|\d))?"
).sub
_degrees = re.compile(r"\^\s*\{?\s*\\circ\s*\}?").sub
_layout = re.compile(r"\\(?:left|right|displaystyle)(?![a-zA-Z])").sub
_result = re.compile(r"=|\u2248|\\approx").split
_expression = re.compile(
    r"\\(?:[cdt]?frac|sqrt|pi|pm|times|cdot|div|log|ln|exp|(?:arc)?(?:sin|cos|tan|cot|sec|csc)|d?binom|sum|prod|int|"
    r"overline|bar|dot|lfloor|lceil|bmod|pmod|mod)(?![a-zA-Z])|[\^\u00b1\u221a\u03c0]|(?<![^\W\d_])[xyz](?![^\W_])"
).search
# Not certain: the base of a logarithm, an angle's unit, what a percentage refers to.
_uncertain = re.compile(r"log|exp|ln|sin|cos|tan|%").search
_unit_words = re.compile(r"(?:\s+[a-z]{2,})+\.?\s*\Z").sub
_minus_before_box = re.compile(rf"(?:\A|[=:$(]|\bis)\s*[{MINUS_SIGNS}]\s*\Z").search


def _number_in_box(box: Mark, text: str) -> str | None:
    content = _degrees("", _layout("", box.answer))
    content = _text_commands(lambda match: f" {match[1]} ", content)
    result = _result(content)[-1].strip()
    has_minus = _minus_before_box(text[max(0, box.start - 20) : box.start]) is not None
    signed = f"-{result}" if has_minus else result
    form = form_alone(plain_latex(signed))
    if form is not None:
        return form.number
    if _expression(result) and not unit_power(result):
        return _value(result, -1 if has_minus else 1)
    return _last_number(signed)


def _value(formula: str, sign: int) -> str | None:
    """Return the value of a formula, perhaps with a unit; None if it has a variable or its value is not certain."""
    if _uncertain(formula):
        return None
    try:
        return plain_number(sign * float(calculate(_unit_words("", formula))))
    except ToolError:
        return None


# The last number ------------------------------------------------------------------------------------------------------


def _last_number(text: str) -> str | None:
    """Return the last number of a text without grouping and currency; None if it contains no digit."""
    if "\\" in text or "{" in text:
        text = plain_latex(text)
    to_digit = _to_last_digit(text)
    # A vulgar fraction after the last digit counts if it is the complete answer.
    if not text.isascii() and (to_vulgar := _to_last_vulgar(text, 0 if to_digit is None else to_digit.end())):
        form = form_at(text, to_vulgar.end())
        if form is not None:
            return form.number
    if to_digit is None:
        return None
    # Numbers contain no space, so only the last word with a digit is searched.
    end = to_digit.end()
    start = max(text.rfind(" ", 0, end) + 1, end - _MAX_LENGTH)
    word = text[start:end]
    prefix = word.rstrip("0123456789")
    unsigned_start = start + len(word.rstrip("0123456789.,"))
    before = text[max(0, unsigned_start - 4) : unsigned_start].rstrip()
    if "\\" in text or before[-1:] in _BEFORE or _after(text, end):
        form = form_at(text, end)
        if form is not None:
            return form.number
        if unit := unit_power(text[max(0, end - WINDOW) : end]):
            return digits(unit[1])
        if _in_formula(text[max(0, end - WINDOW) : end]) or _pi(text, end):
            return None
    elif len(prefix) < len(word) and (not prefix or not (prefix[-1] in _JOINING or prefix[-1].isdecimal())):
        return word[len(prefix) :]
    match: str = _signed(text, start, end)[-1]
    number_start = end - len(match)
    is_negative = match[0] in MINUS_SIGNS
    if is_negative and match[0] not in "-\u2212":
        is_negative = _dash_is_sign(text, number_start)
    elif not is_negative:
        is_negative = _follows_separate_sign(text, number_start, end)
    return ("-" if is_negative else "") + digits(match.lstrip(MINUS_SIGNS + CURRENCY))


# Signs ----------------------------------------------------------------------------------------------------------------

_after_operand = re.compile(r"[\d)\]}%](?:\*\*|__|\$)?[ \t\u00a0]*\Z").search
# After these a dash is a sign. A line break in between would make it a list item.
_LABEL = r"(?:=|\bis(?=[ \t:*$(])|(?<!\d):)"
_before_sign = re.compile(rf"(?:{_LABEL}{MARKUP}|[$(\[{{*]|\A{MARKUP})\Z").search
_separate_sign = re.compile(rf"(?:(?P<label>{_LABEL})|\A){MARKUP}[{MINUS_SIGNS}][ \t]*[{CURRENCY}]?[ \t]*\Z").search
_bullets = re.compile(rf"^[ \t]*[{MINUS_SIGNS}]", re.MULTILINE).findall
# What may follow the only number of an answer: a closing sign, a unit of one word, and punctuation.
_unit_only = re.compile(r"[%\u00b0]?[*_$)\]\\]*[ \t]*(?:[^\W\d]+|\u00b0[CF]|%)?[*_$)\]\\.!\s]*\Z").match


def _dash_is_sign(text: str, position: int) -> bool:
    """Return whether a dash directly before a number, other than a hyphen or a minus, is its sign."""
    before = text[max(0, position - WINDOW) : position]
    if _after_operand(before):  # pages 10 \u201315
        return False
    if text[position] in "\u2014\u2015":  # a dash that is mostly punctuation
        return _before_sign(before) is not None and (position <= WINDOW or before.strip() != "")
    line = before.rpartition("\n")[2]
    return line.strip() != "" or len(_bullets(text)) < 2


def _follows_separate_sign(text: str, position: int, end: int) -> bool:
    """Return whether the number at a position has a sign before the blank, or the currency, in front of it."""
    start = max(0, position - WINDOW)
    match = _separate_sign(text[start:position].lstrip() if start == 0 else text[start:position])
    if match is None:
        return False
    # At the start, a sign and a bullet look the same: a sign only if the text contains nothing but the number.
    return match["label"] is not None or (start == 0 and _unit_only(text, end) is not None)
