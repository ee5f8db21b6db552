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
| a box without a number, or with an expression: `\boxed{2\sqrt{3}}` `\boxed{x^2}` | None |

A fraction is the complete answer after "answer is", `=` or `####`, in a box, or if the text contains nothing else but a
unit.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from toolrlef_data.tasks.answer_marks import Mark, last_box, last_number_line
from toolrlef_data.tasks.numbers import GROUPED, UNSIGNED, VULGAR_FRACTIONS
from toolrlef_data.tools.notation import CURRENCY, MINUS_SIGNS, plain_latex

__all__ = ["final_number"]

_SLASHES = "/\u2044\u2215"
_SUPERSCRIPT = "\u2070\u00b9\u00b2\u00b3\u2074-\u2079"
_TIMES = r"(?:[xX*\u00d7\u00b7\u22c5\u2219]|\\times|\\cdot)"
_MARKUP = r"(?:\*\*|__|[$(\[]|\\[(\[]|[ \t])*"

# A minus is a sign only if no operand precedes it: 10-3 ends in 3, not in -3.
_signed = re.compile(rf"(?:(?<![\w.)\]%])[{MINUS_SIGNS}][{CURRENCY}]?)?{UNSIGNED}").findall
_to_last_digit = re.compile(r".*\d", re.DOTALL).match
_to_last_vulgar = re.compile(rf".*[{VULGAR_FRACTIONS}]", re.DOTALL).match
_JOINING = frozenset(MINUS_SIGNS + CURRENCY + "+.,eE")  # these can join digits to the text before them
# Signs before (or after) the last digits that can make them a part of another number.
_BEFORE = frozenset(MINUS_SIGNS + CURRENCY + _SLASHES + "^{*")
_after = re.compile(rf"\s?[{VULGAR_FRACTIONS}{_SUPERSCRIPT}\u207a\u207b]").match
_MAX_LENGTH = 2000  # characters searched: a longer number is far beyond the range of a float
_WINDOW = 160  # characters before the last digit that decide how it is read


def final_number(text: str) -> str | None:
    r"""Return the number that a response gives as its answer, as plain digits; None if it gives none that is certain.

    >>> final_number(r"\boxed{9{,}700}"), final_number("She pays $1,234.50."), final_number("10-3")
    ('9700', '1234.50', '3')
    >>> final_number("The answer is 3/4."), final_number("It is open 24/7"), final_number(r"\boxed{2\sqrt{3}}")
    ('0.75', '7', None)
    """
    if "\\" in text or "#" in text:
        box = last_box(text)
        line = last_number_line(text)
        if box is not None and (line is None or box.end > line.end):
            return _number_in_box(box, text)
        if line is not None:
            return _last_number(line.answer)
    return _last_number(text)


# Boxes ----------------------------------------------------------------------------------------------------------------

_text_commands = re.compile(
    r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}(?:\s*\^\s*(?:\{\s*\d\s*\}|\d))?"
).sub
_degrees = re.compile(r"\^\s*\{?\s*\\circ\s*\}?").sub
_layout = re.compile(r"\\(?:left|right|displaystyle)(?![a-zA-Z])").sub
_result = re.compile(r"=|\u2248|\\approx").split
_expression = re.compile(
    r"\\(?:[cdt]?frac|sqrt|pi|pm|times|cdot|div|log|ln|exp|(?:arc)?(?:sin|cos|tan|cot|sec|csc)|d?binom|sum|prod|int|"
    r"overline|bar|dot|lfloor|lceil|bmod|pmod|mod)(?![a-zA-Z])|[\^\u00b1\u221a\u03c0]"
).search
_minus_before_box = re.compile(rf"(?:\A|[=:$(]|\bis)\s*[{MINUS_SIGNS}]\s*\Z").search


def _number_in_box(box: Mark, text: str) -> str | None:
    content = _degrees("", _layout("", box.answer))
    content = _text_commands(lambda match: f" {match[1]} ", content)
    result = _result(content)[-1].strip()
    if _minus_before_box(text[max(0, box.start - 20) : box.start]):
        result = f"-{result}"
    form = _form_alone(plain_latex(result))
    if form is not None:
        return form.number
    return None if _expression(result) and not _unit_power(result) else _last_number(result)


# The last number ------------------------------------------------------------------------------------------------------


def _last_number(text: str) -> str | None:
    """Return the last number of a text without grouping and currency; None if it contains no digit."""
    if "\\" in text or "{" in text:
        text = plain_latex(text)
    to_digit = _to_last_digit(text)
    # A vulgar fraction after the last digit counts if it is the complete answer.
    if not text.isascii() and (to_vulgar := _to_last_vulgar(text, 0 if to_digit is None else to_digit.end())):
        form = _form_at(text, to_vulgar.end())
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
        form = _form_at(text, end)
        if form is not None:
            return form.number
        if unit := _unit_power(text[max(0, end - _WINDOW) : end]):
            return _digits(unit[1])
    elif len(prefix) < len(word) and (not prefix or not (prefix[-1] in _JOINING or prefix[-1].isdecimal())):
        return word[len(prefix) :]
    match: str = _signed(text, start, end)[-1]
    number_start = end - len(match)
    is_negative = match[0] in MINUS_SIGNS
    if is_negative and match[0] not in "-\u2212":
        is_negative = _dash_is_sign(text, number_start)
    elif not is_negative:
        is_negative = _follows_separate_sign(text, number_start, end)
    return ("-" if is_negative else "") + _digits(match.lstrip(MINUS_SIGNS + CURRENCY))


def _digits(number: str) -> str:
    """Return an unsigned number without grouping, in ASCII digits, with a digit before its decimal point."""
    number = number.replace(",", "")
    if not number.isascii():
        number = "".join(str(int(c)) if c.isdecimal() else c for c in number)
    return f"0{number}" if number[0] == "." else number


# Signs ----------------------------------------------------------------------------------------------------------------

_after_operand = re.compile(r"[\d)\]}%](?:\*\*|__|\$)?[ \t\u00a0]*\Z").search
# After these a dash is a sign. A line break in between would make it a list item.
_LABEL = r"(?:=|\bis(?=[ \t:*$(])|(?<!\d):)"
_before_sign = re.compile(rf"(?:{_LABEL}{_MARKUP}|[$(\[{{*]|\A{_MARKUP})\Z").search
_separate_sign = re.compile(rf"(?:(?P<label>{_LABEL})|\A){_MARKUP}[{MINUS_SIGNS}][ \t]*[{CURRENCY}]?[ \t]*\Z").search
_bullets = re.compile(rf"^[ \t]*[{MINUS_SIGNS}]", re.MULTILINE).findall
# What may follow the only number of an answer: a closing sign, a unit of one word, and punctuation.
_unit_only = re.compile(r"[%\u00b0]?[*_$)\]\\]*[ \t]*(?:[^\W\d]+|\u00b0[CF]|%)?[*_$)\]\\.!\s]*\Z").match


def _dash_is_sign(text: str, position: int) -> bool:
    """Return whether a dash directly before a number, other than a hyphen or a minus, is its sign."""
    before = text[max(0, position - _WINDOW) : position]
    if _after_operand(before):  # pages 10 \u201315
        return False
    if text[position] in "\u2014\u2015":  # a dash that is mostly punctuation
        return _before_sign(before) is not None and (position <= _WINDOW or before.strip() != "")
    line = before.rpartition("\n")[2]
    return line.strip() != "" or len(_bullets(text)) < 2


def _follows_separate_sign(text: str, position: int, end: int) -> bool:
    """Return whether the number at a position has a sign before the blank, or the currency, in front of it."""
    start = max(0, position - _WINDOW)
    match = _separate_sign(text[start:position].lstrip() if start == 0 else text[start:position])
    if match is None:
        return False
    # At the start, a sign and a bullet look the same: a sign only if the text contains nothing but the number.
    return match["label"] is not None or (start == 0 and _unit_only(text, end) is not None)


# Fractions and powers of ten ------------------------------------------------------------------------------------------


class _Form(NamedTuple):
    """The number of a fraction, mixed number or power of ten; None if it has no value."""

    number: str | None


_INTEGER = rf"(?:{GROUPED}|\d+)"  # 1.5/2 is a quotient, not a fraction
_form = re.compile(
    rf"""(?P<sign>[{MINUS_SIGNS}]\s?)?[{CURRENCY}]?
    (?: (?:(?P<whole_latex>\d+)\s*)?\\[cdt]?frac\s*(?:\{{\s*
          (?P<n_sign>[{MINUS_SIGNS}]\s?)?(?P<n_latex>{UNSIGNED})\s*\}}|(?P<n_digit>\d))
        \s*(?:\{{\s*(?P<d_latex>{UNSIGNED})\s*\}}|(?P<d_digit>\d)(?!\d))
    | (?:(?P<whole>\d+)\s+(?:and\s+)?)?(?P<n>{_INTEGER})\s?[{_SLASHES}]\s?(?P<d>{_INTEGER})(?![{_SLASHES}\d]|[.,]\d)
    | (?P<whole_vulgar>\d+)?\s?(?P<vulgar>[{VULGAR_FRACTIONS}])
    | (?:(?P<factor>{UNSIGNED})\s*{_TIMES}\s*)?10\s*
        (?: (?:\^|(?<!\*\*10)\*\*)\s*[{{(]?\s*(?P<exponent>[{MINUS_SIGNS}+]?\s?\d{{1,4}})\s*[)}}]?
          | (?P<superscript>[\u207a\u207b]?[{_SUPERSCRIPT}]{{1,4}}) )
    )""",
    re.VERBOSE,
).match
_leads = re.compile(
    r"(?:=\s*(?:<<[^<>]*>>)?|\banswer(?:\s+is)?\s*[:=]?(?:\s+(?:approximately|about|exactly|equal to|therefore))?)"
    + _MARKUP,
    re.IGNORECASE,
).finditer
# After a complete answer no operator, variable or further part of a number follows.
_continues = re.compile(
    r"[ \t]*(?:[-+*/^=\u00d7\u00f7<>:~{_]|\\[a-zA-Z]|[bcefi-kn-rt-z\u03c0\u221a]\b(?!\.)|[A-Za-z]\b[ \t]*[\^(])|\("
).match
_markup = re.compile(r"(?:\*\*|__|\$|\\[(\[]|[ \t])*").match  # without parentheses: "(18 / 3)" is a formula
_closers = re.compile(r"(?:\*\*|__|[$)\]}%\u00b0]|\\[)\]])*").match
_units = re.compile(r"\s*(?:(?:\\(?:text|mathrm)\s*\{)?\s*[^\W\d]+[.}]?\s*){0,3}[*_$)\]}%.!\\\s]*\Z").match


def _form_at(text: str, end: int) -> _Form | None:
    """Return the complete answer that the last digit of a text belongs to, if it is a fraction or a power of ten."""
    start = max(0, end - _WINDOW)
    if start == 0 and len(text) <= 2 * _WINDOW and (form := _form_alone(text)):
        return form
    window, length = text[start : end + _WINDOW], end - start
    for lead in reversed(list(_leads(window, 0, length))):
        match = _form(window, lead.end())
        if match is not None and match.end() >= length and not _continues(window, _closed_end(window, match.end())):
            return _form_value(match)
    return None


def _form_alone(text: str) -> _Form | None:
    """Return the fraction or power of ten of a text that contains nothing else but a unit."""
    text = text.strip()
    markup = _markup(text)
    match = _form(text, 0 if markup is None else markup.end())
    if match is None or not _units(text, _closed_end(text, match.end())):
        return None
    return _form_value(match)


def _closed_end(text: str, end: int) -> int:
    """Return the end of a number with its closing brackets and markup."""
    closers = _closers(text, end)
    return end if closers is None else closers.end()


def _form_value(match: re.Match[str]) -> _Form | None:
    sign = -1.0 if match["sign"] else 1.0
    if match["exponent"] or match["superscript"]:
        exponent = unicodedata.normalize("NFKC", match["exponent"] or match["superscript"])
        factor = _digits(match["factor"] or "1")
        exponent = exponent.translate(_PLAIN_MINUS).replace(" ", "")
        if "e" in factor.lower():
            return None
        value = float(f"{factor}e{exponent}")
        if not value < float("inf"):
            return _Form(None)
        return _Form(_plain(sign * value))
    if match["vulgar"]:
        return _Form(_plain(sign * (float(match["whole_vulgar"] or 0) + unicodedata.numeric(match["vulgar"]))))
    whole = match["whole"] or match["whole_latex"] or "0"
    numerator = _digits(match["n"] or match["n_latex"] or match["n_digit"])
    denominator = _digits(match["d"] or match["d_latex"] or match["d_digit"])
    if match["n"] and whole == "0" and _is_no_fraction(numerator, denominator):
        return None
    if match["n_sign"]:
        sign = -sign
    try:
        value = sign * (float(whole) + float(numerator) / float(denominator))
    except ZeroDivisionError:
        return _Form(None)
    return _Form(_plain(value) if abs(value) < float("inf") else None)


_PLAIN_MINUS = str.maketrans(dict.fromkeys(MINUS_SIGNS, "-"))
_IDIOMS = {("24", "7"), ("50", "50"), ("9", "11")}
_is_year = re.compile(r"(?:19|20)\d\d").fullmatch


def _is_no_fraction(numerator: str, denominator: str) -> bool:
    """Return whether "a/b" is rather an idiom, a month ("5/2024") or a season ("2023/24")."""
    return (
        (numerator, denominator) in _IDIOMS
        or (_is_year(denominator) is not None and len(numerator) <= 2)
        or (_is_year(numerator) is not None and len(denominator) in {2, 4})
    )


def _plain(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e16 else repr(value)


# Units ----------------------------------------------------------------------------------------------------------------

_unit_power = re.compile(
    rf"({UNSIGNED})[\s$]*(?:\\(?:text|mathrm)\s*\{{)?\s*(?:[cdkm]?m|in|inch|inches|ft|feet|foot|yd|yards?|mi|miles?|units?|"
    r"(?:centi|milli|kilo)?(?:meter|metre)s?)\}?\s*\^\s*\{?\s*[23]\Z"
).search
