r"""Notation of numbers and formulas: dashes that mean minus, LaTeX, and other signs, rewritten to plain text.

`MINUS_SIGNS` and `plain_latex` serve answers and formulas alike; `normalise` serves the calculator.

| written | plain |
|---|---|
| `9{,}700` `9\,700` `9,\!700` `{9\;700}` (groups of three digits) | `9,700` |
| `\$` `\%` and LaTeX's blanks | `$` `%` and a blank |
| `\frac{1}{2}` `\dfrac12` (formulas) | `((1)/(2))` |
| `2\frac{1}{2}` (formulas; a mixed number) | `(2+1/2)` |
| `\sqrt{9}` `\sqrt[3]{8}` `2^{10}` (formulas) | `sqrt(9)` `((8)^(1/3))` `2^(10)` |
"""

from __future__ import annotations

import re

from toolrlef_data.records import ToolError

__all__ = ["CURRENCY", "MINUS_SIGNS", "normalise", "plain_latex"]

# Hyphens, dashes and bars that models write for a minus, with the small and the full-width one.
MINUS_SIGNS = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63\uff0d"
CURRENCY = "$\u20ac\u00a3\u00a5\u20b9\u20a9"

# A separator of thousands in LaTeX: {,} {\,} \, \; \: "\ " and a comma next to the negative space \!
_SEPARATOR = r"(?:\{\\?,\}(?:\\!)?|\\!,(?:\\!)?|,\\!|\\[,;: ](?:\\!)?)"
_grouped = re.compile(rf"(?<![\d.,])(?<!,\}})(?<!,\\!)\d{{1,3}}(?:{_SEPARATOR}\d{{3}})+(?!\d)").sub
_separators = re.compile(_SEPARATOR).sub
_latex_comma = re.compile(r"\{,\}|\\!,|,\\!").sub
_latex_blank = re.compile(r"\\(?:[,;: ]|q?quad(?![a-zA-Z]))").sub


def plain_latex(text: str, separator: str = ",") -> str:
    r"""Rewrite LaTeX's grouped numbers, blanks and escaped signs to plain text.

    Args:
        text: any text.
        separator: the sign between groups of three digits. Default: a comma.

    Returns:
        the text; unchanged if it contains no LaTeX.

    >>> plain_latex(r"\$1{,}234{,}567"), plain_latex(r"9\,700\,\text{m}"), plain_latex(r"40\%")
    ('$1,234,567', '9,700 \\text{m}', '40%')
    """
    if "\\" not in text and "{," not in text:
        return text
    text = _grouped(lambda match: _separators(separator, match[0]), text)
    text = _latex_blank(" ", _latex_comma(",", text)).replace("\\!", "")
    return text.replace("\\$", "$").replace("\\%", "%")


_SIGNS = str.maketrans(
    dict.fromkeys("\u00d7\u00b7\u2217\u22c5\u2219\u2022\u2715\u2716\uff0a\u2a09", "*")
    | dict.fromkeys("\u00f7\u2044\u2215\uff0f", "/")
    | dict.fromkeys(MINUS_SIGNS, "-")
    | {"\uff0b": "+", "\uff08": "(", "\uff09": ")", "\uff05": "%", "\uff1d": "=", "\u00b2": "^2 ", "\u00b3": "^3 "}
    | {"\uff0e": ".", "\uff3e": "^", "\u03c0": " pi ", "\u00bd": " .5 ", "\u00bc": " .25 ", "\u00be": " .75 "}
    | dict.fromkeys("\u200b\u2060\ufeff\u200e\u200f", " ")  # zero-width; a blank keeps digits separate
)
_NAMED_SIGNS = {"times": "*", "cdot": "*", "div": "/", "divide": "/", "minus": "-", "pi": " pi ", "sqrt": "sqrt"}
# The signs without an entry are removed. Of \sqrt, only the form \sqrt(9) remains after `_expand_latex`.
_named_signs = re.compile(
    r"\\(times|cdot|div|pi|sqrt(?=\s*\()|left|right|[()\[\]])(?![a-z])|&(times|divide|minus);"
).sub
_annotation = re.compile(r"<<[^<>]*=[^<>]*>>").sub
_mixed = re.compile(r"(?<![\d.,_])(?<![\d.]\s)(\d+)\s+(\d+\s?/\s?\d+)(?![\d.,_])").sub
_percent_of = re.compile(r"(?:%|\bpercent)\s*of\b").sub
_percent = re.compile(r"%(?=\s*(?:[+*/^)=,]|$))|(?<!\s)%(?=\s*-\s)").sub
_math_prefix = re.compile(r"\bmath\.(?=[a-z])", re.IGNORECASE).sub
_hexadecimal = re.compile(r"(?<![\w.,])0[xob]\w", re.IGNORECASE).search
_number_after_group = re.compile(r"\)(?=\.?\d)").sub


def normalise(formula: str) -> str:
    r"""Rewrite the alternative signs and notations of a formula to those of the calculator's tokenizer.

    Raises:
        ToolError: syntax, for a number that is not decimal.

    >>> normalise(r"\sqrt{9} \times 1{,}000"), normalise("(3+4)5"), normalise("\u20145")
    ('sqrt(9) * 1_000', '(3+4)*5', '-5')
    """
    text = formula if formula.isascii() else formula.translate(_SIGNS)
    if "\\" in text or "&" in text or "{" in text:
        # An underscore groups digits also between the arguments of a function, where a comma separates.
        text = _expand_latex(plain_latex(text, "_"))
        text = _named_signs(lambda match: _NAMED_SIGNS.get(match[1] or match[2], ""), text).strip()
    if "<<" in text:
        text = _annotation(" ", text).strip() or text.strip("<>")
    for delimiter in ("$$", "$"):
        if text.startswith(delimiter) and text.endswith(delimiter):
            text = text[len(delimiter) : -len(delimiter)]
            break
    if "%" in text or "percent" in text:
        text = _percent(" percent ", _percent_of(" percent *", text))
    if _hexadecimal(text):
        raise ToolError("syntax", "a hexadecimal, octal or binary number")
    return _number_after_group(")*", _math_prefix("", _mixed(r"(\1+\2)", text)))


_FRAC = r"\\[cdt]?frac\s*"
_digit_fraction = re.compile(rf"{_FRAC}(\d)\s*(\d)(?!\d)").sub
_digit_numerator = re.compile(rf"{_FRAC}(\d)\s*(?=\{{)").sub
_digit_root = re.compile(r"\\sqrt\s*(\d)(?![\d.])").sub
_latex_mixed = re.compile(
    rf"(?<![\d.,_^])(?<!\*\*)(\d+)\s*{_FRAC}\{{\s*(\d+)\s*\}}\s*(?:\{{\s*(\d+)\s*\}}|(\d)(?!\d))"
).sub
_braces = re.compile(rf"(?P<frac>{_FRAC}\{{)|\\sqrt\s*(?:\[\s*(?P<degree>\d+)\s*\]\s*)?\{{|\^\s*\{{|\{{|\}}")
_denominator = re.compile(r"\s*(?:\{|(\d)(?!\d))").match


def _expand_latex(text: str) -> str:
    """Rewrite fractions, roots and exponents in braces with parentheses; other braces remain, and are errors."""
    if "\\" in text:
        text = _digit_numerator(r"\\frac{\1}", _digit_fraction(r"\\frac{\1}{\2}", text))
        text = _digit_root(r"\\sqrt{\1}", text)
        text = _latex_mixed(lambda match: f"({match[1]}+{match[2]}/{match[3] or match[4]})", text)
    parts: list[str] = []
    closings: list[str] = []  # the text that replaces the closing brace of each open one; "" for a numerator
    position = 0
    while match := _braces.search(text, position):
        parts.append(text[position : match.start()])
        position = match.end()
        symbol = match[0]
        if symbol == "}":
            closing = closings.pop() if closings else "}"
            if closing == "" and (denominator := _denominator(text, position)):
                position = denominator.end()
                if denominator[1]:
                    closing = f")/({denominator[1]}))"
                else:
                    parts.append(")/(")
                    closings.append("))")
            elif closing == "":
                closing = "}"  # a fraction without a denominator
            parts.append(closing)
            continue
        opening, closing = "{", "}"
        if match["frac"]:
            opening, closing = "((", ""
        elif symbol[0] == "^":
            opening, closing = "^(", ")"
        elif symbol != "{":
            opening, closing = ("((", f")^(1/{match['degree']}))") if match["degree"] else ("sqrt(", ")")
        parts.append(opening)
        closings.append(closing)
    return "".join(parts) + text[position:]
