"""Steps of a response that do not hold, such as `<<3*4=13>>` or "2*8 = 24": the right answer came about by luck.

Annotations are checked in full. In prose, only sums, differences and products of two integers are: this flags 5 of the
6,706 worked solutions of GSM8K (0.07 %), all of which are false, and no annotation of theirs.

`target_flaw` says why a right response without the tool is no training target:

| reason | the response |
|---|---|
| target_calls | contains a call of the task's tool, which its prompt did not offer |
| false_step | has a step that does not hold |
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from toolrlef_data.records import Drop
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.parsing.calls import read_call
from toolrlef_data.trice.annotations.formulas import evaluate, parse
from toolrlef_data.trice.annotations.steps import is_equal, plain_number

__all__ = ["false_step", "target_flaw"]

_annotation = re.compile(r"<<([^<>]*)=([^<>=]*)>>")
_integer = r"(?:0|[1-9]\d{0,11}|[1-9]\d{0,2}(?:,\d{3}){1,3})"
_equation = re.compile(
    rf"(?<![\w$.,])(\$?)({_integer})\s*(?:([-+*\u00d7\u2212])|(?<=\d)\s+x\s+(?=\$?\d))\s*(\$?)({_integer})\s*=\s*"
    rf"(\$?)(-?{_integer})(?![\w%]|[.,:]\d|\s*[-+*/x\u00d7\u00f7\u2212^(=]|\s+(?:and\s+)?\d|\s+\()"
)
# The end of a text that the formula continues.
_continues = re.compile(r"[-+*/x\u00d7\u00f7\u2212\u2013\u2014^():%]$").search


def target_flaw(text: str, task: Task) -> Drop | None:
    """Return why a right response without the tool is no target; None if it can be one.

    >>> from toolrlef_data import TASKS
    >>> flaws = [target_flaw(text, TASKS["math"]) for text in ("It is 42.", "calculator(6*7) = 42", "5+1 = 7. 42")]
    >>> [flaw and flaw.reason for flaw in flaws]
    [None, 'target_calls', 'false_step']
    """
    if read_call(text, task.tool).tool is not None:
        return Drop("target_calls", text[:100])
    step = false_step(text)
    return Drop("false_step", step) if step else None


def false_step(text: str) -> str:
    """Return the first step of a response that does not hold; "" if there is none.

    A step that cannot be read is none. A result may be rounded to two or more decimals.

    >>> false_step("Each costs 12/4 = <<12/4=3>>3, so 2*8 = 24 in total. The answer is 24.")
    '2*8 = 24'
    >>> false_step("2/3 of 60 is 40, and 100/3 = <<100/3=33.33>>33.33. 3 x 4 = 12"), false_step("<<3*4=13>>13")
    ('', '3*4=13')
    """
    return next(_false_annotations(text), "") or next(_false_equations(_annotation.sub(" ", text)), "")


def _false_annotations(text: str) -> Iterator[str]:
    for formula, result in _annotation.findall(text):
        tree, stated = parse(formula), plain_number(result)
        value = evaluate(tree) if isinstance(tree, tuple) else None
        if value is not None and stated is not None and not is_equal(value, stated, result):
            yield f"{formula}={result}"


def _false_equations(text: str) -> Iterator[str]:
    for match in _equation.finditer(text):
        dollar, left, operator, other_dollar, right, result_dollar, result = match.groups()
        if _continues(text[: match.start()].rstrip()) or (result_dollar and not (dollar or other_dollar)):
            continue
        a, b, stated = (int(number.replace(",", "")) for number in (left, right, result))
        value = a + b if operator == "+" else a - b if operator in ("-", "\u2212") else a * b
        if value != stated:
            yield match[0]
