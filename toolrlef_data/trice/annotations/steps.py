"""Steps of worked solutions: annotations, equations in prose, and equations with one unknown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from toolrlef_data.records import UnusableRow
from toolrlef_data.tasks.math import grade
from toolrlef_data.tasks.numbers import parse_number
from toolrlef_data.trice.annotations.evidence import find_contradiction
from toolrlef_data.trice.annotations.formulas import Tree, evaluate, leaves, parse, solve

__all__ = [
    "Step",
    "check_ending",
    "is_equal",
    "is_gold",
    "parse_all_steps",
    "parse_steps",
    "plain_number",
    "unstated_results",
]

_annotation = re.compile(r"<<([^<>]*)>>")
_unit = re.compile(r"\((?:\s*[A-Za-z][A-Za-z ./'-]*)\)")
_quotient_remainder = re.compile(r"\s*(\d+)\s*r\s*(\d+)\s*")
_times = re.compile(r"(?<=[\d)])\s*x\s*(?=[\d($])")
_equation = re.compile(
    r"<<([^<>]*)>>|(?<![\w.)%/*+-])((?:[$(\u2212\u2013\u00d7\u00f7)*/+ -]*\d[\d,.]*[) ]*)+)="
    r"\s*[$\u20ac\u00a3]?\s*(\d[\d,]*(?:\.\d+)?|\.\d+)(?![\d%]|\s*[-+*/x(=<])"
)
_bare_result = re.compile(r"=\s*[$\u20ac\u00a3]?\s*(\d[\d,]*\.?\d*|\.\d+)(?![\d%]|\s*[-+*/x(])")


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a solution.

    Args:
        text: the step as written.
        tree: its formula.
        results: (operator, stated value) pairs: one with the operator "", or one for the quotient and one for the
            remainder.
        span: where it is in a solution that also has prose.
    """

    text: str
    tree: Tree
    results: tuple[tuple[str, float], ...]
    span: tuple[int, int] = field(default=(0, 0), repr=False)


def parse_steps(solution: str, gold: str) -> list[Step]:
    annotations = [(match[1], match.span()) for match in _annotation.finditer(solution)]
    if annotations:
        return [_parse_step(text, gold=None, span=span) for text, span in annotations]
    texts = [text for text in _unit.sub(" ", solution).split(";") if text.strip()]
    if not texts or "####" in solution:
        raise UnusableRow("no_annotation", solution.strip()[-60:] or "the solution is empty")
    return [_parse_step(text, gold if len(texts) == 1 else None) for text in texts]


def parse_all_steps(solution: str) -> list[Step]:
    """Return the annotated steps, and in between the plain equations whose results no annotation states."""
    solution = _times.sub(lambda match: "*".center(len(match[0])), solution)  # positions remain
    annotated = [_parse_step(text, gold=None) for text in _annotation.findall(solution)]
    stated = {value for step in annotated for _, value in step.results}
    steps: list[Step] = []
    for match in _equation.finditer(solution):
        if match[1] is not None:
            steps.append(_parse_step(match[1], gold=None, span=match.span()))
            continue
        tree, result = parse(match[2]), plain_number(match[3])
        value = evaluate(tree) if isinstance(tree, tuple) else None
        if tree is None or result is None or value is None or result in stated:
            continue
        if not is_equal(value, result, match[3]):
            continue
        steps.append(Step(match[0], tree, (("", result),), match.span()))
        stated.add(result)
    return steps


def _parse_step(text: str, gold: str | None, span: tuple[int, int] = (0, 0)) -> Step:
    """Parse one step; a formula without a stated result, and an unknown, must equal the gold answer."""
    formula, equals, right = text.partition("=")
    unknown = solve(text) if gold is not None else None
    tree = parse(formula) if unknown is None else unknown
    pair = _quotient_remainder.fullmatch(right)
    is_final = unknown is not None or not equals
    stated = float(pair[1]) if pair else parse_number(gold or "") if is_final else plain_number(right)
    if tree is None or stated is None:
        raise UnusableRow("unparsable", text.strip()[:80])
    if pair:
        if not isinstance(tree, tuple) or tree[0] != "/":
            raise UnusableRow("unparsable", text.strip()[:80])
        quotient, remainder = (evaluate((operator, tree[1], tree[2])) for operator in ("//", "%"))
        if (quotient, remainder) != (stated, float(pair[2])):
            raise UnusableRow("wrong_value", text.strip()[:80])
        return Step(text, tree, (("//", stated), ("%", float(pair[2]))), span)
    value = evaluate(tree)
    if value is None or not (is_gold(value, gold) if gold and is_final else is_equal(value, stated, right)):
        raise UnusableRow("wrong_value", f"{text.strip()[:80]}: the value is {value}")
    return Step(text, tree, (("", stated),), span)


def plain_number(text: str) -> float | None:
    """Return the number of a text without operators; None if it is another one."""
    tree = parse(text)
    return None if isinstance(tree, tuple) else tree


def is_equal(value: float, stated: float, text: str) -> bool:
    """Return whether two values are equal up to truncation or rounding to two or more written decimals.

    An integer must be equal: without decimals nothing is rounded.
    """
    decimals = len(text.strip().partition(".")[2])
    allowed = 10.0**-decimals if decimals >= 2 else 0.0
    return abs(value - stated) <= max(allowed * 0.9999, 1e-9 * max(1.0, abs(stated)))


def is_gold(value: float, gold: str) -> bool:
    """Return whether a value is graded as the gold answer: 10/3 is 3.33333."""
    return grade(repr(value), [gold]) is True


def unstated_results(solution: str, steps: Sequence[Step]) -> set[float]:
    """Return the results of equations without an annotation, which an equal number in a later step can refer to."""
    stated = {value for step in steps for _, value in step.results}
    bare = _bare_result.findall(_annotation.sub("", solution)) if "<<" in solution else []
    return {float(text.replace(",", "").rstrip(".")) for text in bare} - stated


def check_ending(solution: str, last: Step, gold: str) -> None:
    """Raise if the text after the last step reaches the answer in another way."""
    start, end = last.span
    equations = [
        (tree, float(match[3].replace(",", "")))
        for match in _equation.finditer(_times.sub("*", solution[end:]))
        if match[1] is None and isinstance(tree := parse(match[2]), tuple)
    ]
    numbers = sorted(leaves(last.tree))
    others = [result for tree, result in equations if sorted(leaves(tree)) != numbers]
    results = [result for text in _bare_result.findall(solution[end:]) if (result := plain_number(text)) is not None]
    if others or any(not is_gold(result, gold) for result in results):
        raise UnusableRow("ambiguous", "an equation follows the last step")
    if contradiction := find_contradiction(solution, start, end, parse_number(gold)):
        raise UnusableRow("ambiguous", contradiction)
