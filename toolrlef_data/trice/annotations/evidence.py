"""Evidence in the prose of a worked solution that its steps do not lead to the answer as they are written.

Annotations state numbers, not what they count. A result can equal the gold answer by number only: 5 ropes, and $5. Not
covered: units other than money, number words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from toolrlef_data.tasks.numbers import parse_number

__all__ = ["find_contradiction", "has_comparison", "is_mentioned"]

_annotation = re.compile(r"<<[^<>]*>>")
_comparison = re.compile(r"\d\s{0,9}(?:[<>\u2264\u2265]|&[lg]t;)=?\s{0,9}\$?\.?\d")
_sentence_end = re.compile(r"\n|(?<=[\w)])[.!?]\s")
_number = re.compile(r"(?<![\w.,])([$\u20ac\u00a3]\s?)?(\d[\d,]*(?:\.\d+)?)(\s?[A-Za-z]+)?")
_SIGNS = ("$", "\u20ac", "\u00a3")
_MONEY_WORDS = ("dollar", "dollars", "cent", "cents", "euro", "euros")
# Words after a number that are no unit of it: "$5 in total", "5 more".
_NO_UNITS = """
a after all altogether and as at because before by each every for from if in into is less left more of off on or over
overall per since so than that then to together total under until when which while with
"""
_other_words = frozenset(_NO_UNITS.split())


def has_comparison(solution: str) -> bool:
    """Return whether the prose compares two numbers, so that its answer is a choice rather than a result.

    >>> has_comparison("It is cheaper because 5 < 6.25"), has_comparison("<<2+3=5>>5")
    (True, False)
    """
    return _comparison.search(_annotation.sub(" ", solution)) is not None


def is_mentioned(value: float, between: str) -> bool:
    """Return whether a complete sentence without a calculation, in the text between two steps, contains a number.

    >>> is_mentioned(12, "12\\nA foot equals 12 inches.\\nShe needs "), is_mentioned(12, "12\\nOf these 12 she needs ")
    (True, False)
    """
    prose = (part for part in _sentence_end.split(between)[1:-1] if "=" not in part and "<<" not in part)
    return any(number == value for part in prose for number, _, _ in _numbers(part))


def find_contradiction(solution: str, start: int, end: int, gold: float | None) -> str:
    """Return how the text after the last step contradicts its unit, or "".

    Args:
        solution: the text of a worked solution.
        start, end: the position of the last step.
        gold: the gold answer.

    >>> text = "She needs <<60/12=5>>5 ropes. The long rope costs $5.\\n#### 5"
    >>> find_contradiction(text, text.index("<<"), text.index(">>") + 2, 5.0)
    'the last step is no amount of money, and the answer is one'
    """
    tail = solution[end:].partition("####")[0]
    value, is_money, _ = next(_numbers(tail), (None, False, ""))
    if value != gold:  # the result is not repeated after the step
        return ""
    is_money = is_money or solution[max(0, start - 2) : start].strip()[-1:] in _SIGNS
    line = solution[solution.rfind("\n", 0, start) + 1 : end]
    has_money = is_money or any(sign in line for sign in _SIGNS) or any(word in line.lower() for word in _MONEY_WORDS)
    for value, other_is_money, unit in [*_numbers(tail)][1:]:
        if value == gold and other_is_money and not has_money:
            return "the last step is no amount of money, and the answer is one"
        if value == gold and is_money and unit and not other_is_money:
            return f"the last step is an amount of money, and the answer counts {unit}"
    return ""


def _numbers(text: str) -> Iterator[tuple[float | None, bool, str]]:
    """Yield the value of each number, whether it is an amount of money, and the unit after it, if any."""
    for match in _number.finditer(text):
        word = (match[3] or "").strip().lower()
        is_money = match[1] is not None or word in _MONEY_WORDS
        yield parse_number(match[2].rstrip(",")), is_money, "" if is_money or word in _other_words else word
