r"""Fractions, mixed numbers, powers of ten and units at the end of a response, for `final_numbers`.

A form counts if it is the complete answer: after "answer is", `=` or `####`, or alone but for a unit.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from toolrlef_data.tasks.numbers import GROUPED, UNSIGNED, VULGAR_FRACTIONS
from toolrlef_data.tools.notation import CURRENCY, MINUS_SIGNS

__all__ = [
    "MARKUP",
    "SLASHES",
    "SUPERSCRIPT",
    "WINDOW",
    "Form",
    "digits",
    "form_alone",
    "form_at",
    "plain_number",
    "unit_power",
]

SLASHES = "/\u2044\u2215"
SUPERSCRIPT = "\u2070\u00b9\u00b2\u00b3\u2074-\u2079"
_TIMES = r"(?:[xX*\u00d7\u00b7\u22c5\u2219]|\\times|\\cdot)"
MARKUP = r"(?:\*\*|__|[$(\[]|\\[(\[]|[ \t])*"
WINDOW = 160  # characters before the last digit that decide how it is read


class Form(NamedTuple):
    """The number of a fraction, mixed number or power of ten; None if it has no value."""

    number: str | None


_INTEGER = rf"(?:{GROUPED}|\d+)"  # 1.5/2 is a quotient, not a fraction
_form = re.compile(
    rf"""(?P<sign>[{MINUS_SIGNS}]\s?)?[{CURRENCY}]?
    (?: (?:(?P<whole_latex>\d+)\s*)?\\[cdt]?frac\s*(?:\{{\s*
          (?P<n_sign>[{MINUS_SIGNS}]\s?)?(?P<n_latex>{UNSIGNED})\s*\}}|(?P<n_digit>\d))
        \s*(?:\{{\s*(?P<d_latex>{UNSIGNED})\s*\}}|(?P<d_digit>\d)(?!\d))
    | (?:(?P<whole>\d+)\s+(?:and\s+)?)?(?P<n>{_INTEGER})\s?[{SLASHES}]\s?(?P<d>{_INTEGER})(?![{SLASHES}\d]|[.,]\d)
    | (?P<whole_vulgar>\d+)?\s?(?P<vulgar>[{VULGAR_FRACTIONS}])
    | (?:(?P<factor>{UNSIGNED})\s*{_TIMES}\s*)?10\s*
        (?: (?:\^|(?<!\*\*10)\*\*)\s*[{{(]?\s*(?P<exponent>[{MINUS_SIGNS}+]?\s?\d{{1,4}})\s*[)}}]?
          | (?P<superscript>[\u207a\u207b]?[{SUPERSCRIPT}]{{1,4}}) )
    )""",
    re.VERBOSE,
).match
_leads = re.compile(
    r"(?:=\s*(?:<<[^<>]*>>)?"
    r"|\banswer(?:\s+is)?(?:\s*[:=]?\s+(?:approximately|about|exactly|equal to|therefore)|\s*[:=]?))" + MARKUP,
    re.IGNORECASE,
).finditer
# After a complete answer no operator, variable or further part of a number follows.
_continues = re.compile(
    r"[ \t]*(?:[-+*/^=\u00d7\u00f7<>:~{_]|\\[a-zA-Z]|[bcefi-kn-rt-z\u03c0\u221a]\b(?!\.)|[A-Za-z]\b[ \t]*[\^(])|\("
).match
_markup = re.compile(r"(?:\*\*|__|\$|\\[(\[]|[ \t])*").match  # without parentheses: "(18 / 3)" is a formula
_closers = re.compile(r"(?:\*\*|__|[$)\]}%\u00b0]|\\[)\]])*").match
_units = re.compile(r"\s*(?:(?:\\(?:text|mathrm)\s*\{)?\s*[^\W\d]+[.}]?\s*){0,3}[*_$)\]}%.!\\\s]*\Z").match


def form_at(text: str, end: int) -> Form | None:
    """Return the complete answer that the last digit of a text belongs to, if it is a fraction or a power of ten."""
    start = max(0, end - WINDOW)
    if start == 0 and len(text) <= 2 * WINDOW and (form := form_alone(text)):
        return form
    window, length = text[start : end + WINDOW], end - start
    for lead in reversed(list(_leads(window, 0, length))):
        match = _form(window, lead.end())
        if match is not None and match.end() >= length and not _continues(window, _closed_end(window, match.end())):
            return _form_value(match)
    return None


def form_alone(text: str) -> Form | None:
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


def _form_value(match: re.Match[str]) -> Form | None:
    sign = -1.0 if match["sign"] else 1.0
    if match["exponent"] or match["superscript"]:
        exponent = unicodedata.normalize("NFKC", match["exponent"] or match["superscript"])
        factor = digits(match["factor"] or "1")
        exponent = exponent.translate(_PLAIN_MINUS).replace(" ", "")
        if "e" in factor.lower():
            return None
        value = float(f"{factor}e{exponent}")
        if not value < float("inf"):
            return Form(None)
        return Form(plain_number(sign * value))
    if match["vulgar"]:
        return Form(plain_number(sign * (float(match["whole_vulgar"] or 0) + unicodedata.numeric(match["vulgar"]))))
    whole = match["whole"] or match["whole_latex"] or "0"
    numerator = digits(match["n"] or match["n_latex"] or match["n_digit"])
    denominator = digits(match["d"] or match["d_latex"] or match["d_digit"])
    if match["n"] and whole == "0" and _is_no_fraction(numerator, denominator):
        return None
    if match["n_sign"]:
        sign = -sign
    try:
        value = sign * (float(whole) + float(numerator) / float(denominator))
    except ZeroDivisionError:
        return Form(None)
    return Form(plain_number(value) if abs(value) < float("inf") else None)


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


def plain_number(value: float) -> str:
    """Return a number as text, an integer without a decimal point."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e16 else repr(value)


# A length with the exponent of an area or a volume, such as 25 cm^2.
unit_power = re.compile(
    rf"({UNSIGNED})[\s$]*(?:\\(?:text|mathrm)\s*\{{)?\s*(?:[cdkm]?m|in|inch|inches|ft|feet|foot|yd|yards?|mi|miles?|units?|"
    r"(?:centi|milli|kilo)?(?:meter|metre)s?)\}?\s*\^\s*\{?\s*[23]\Z"
).search


def digits(number: str) -> str:
    """Return an unsigned number without grouping, in ASCII digits, with a digit before its decimal point."""
    number = number.replace(",", "")
    if not number.isascii():
        number = "".join(str(int(c)) if c.isdecimal() else c for c in number)
    return f"0{number}" if number[0] == "." else number
