"""The teacher ANNOTATIONS: one formula composed from a source's worked solution, with precision before coverage.

A solution has one of three forms:

| source | form |
|---|---|
| GSM8K | steps such as `<<48/2=24>>` |
| ASDiv | "7+2=9", several separated by ";", units in parentheses, `47/6=7 r5` for quotient and remainder |
| SVAMP | "( 76.0 - 25.0 )" |

Execution alone cannot verify a composed formula. A 24 in a later step can be the result of an earlier step, or a 24 in
the question, and both formulas execute to the gold answer. A reading is one such choice for every number. All readings
are enumerated:

1. Readings that leave a step unused are discarded.
2. Among the others, those with the fewest re-uses of a step remain.
3. If several remain, their numbers are replaced by random values. Readings that always agree count as one; otherwise
   the row is `ambiguous`.

If the annotated steps are insufficient (`unknown_literal`, `wrong_value` or `ambiguous`), equations without an
annotation count as steps too. Not covered: unknowns (2x=10), ratios, comparisons, GCD and LCM, series. These rows need
a model teacher.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from toolrlef_data.records import UnusableRow
from toolrlef_data.tasks.numbers import numbers_in, parse_number
from toolrlef_data.trice.annotations.constants import constants_for
from toolrlef_data.trice.annotations.formulas import Tree, evaluate, leaves, parse, render, replace_leaves

__all__ = ["ANNOTATIONS", "REASONS", "Annotations", "Composed", "compose"]

REASONS = {
    "no_annotation": "the solution has no formula",
    "unparsable": "a step is not plain arithmetic",
    "wrong_value": "a step or the formula does not equal its stated result",
    "unknown_literal": "a number is not in the question, a known constant or the result of an earlier step",
    "unused_step": "no reading uses every step",
    "too_many_readings": "the number of readings exceeds the limit",
    "ambiguous": "several different readings remain",
    "single_literal": "the formula is a single number",
}


@dataclass(frozen=True)
class Annotations:
    """The teacher that composes calls from the column `solution`, without a model.

    >>> ANNOTATIONS.name
    'annotations'
    """

    name: str = "annotations"


ANNOTATIONS = Annotations()


@dataclass(frozen=True, slots=True)
class Composed:
    """A formula, or the reason (a key of `REASONS`) why there is none, with a detail for display."""

    formula: str | None
    reason: str | None = None
    detail: str = ""


def compose(question: str, solution: str, answers: Sequence[str]) -> Composed:
    """Compose one formula from a worked solution, or return the reason why no formula can be trusted.

    Args:
        question: the question, which must contain the numbers of the formula.
        solution: the source's worked solution, in one of the three forms.
        answers: the gold answers; the first must be a number.

    >>> compose("Ann picks 48 figs, then half as many.", "<<48/2=24>>24 <<48+24=72>>72 #### 72", ["72"]).formula
    '48+48/2'
    >>> compose("47 buns, 6 a box. How many remain?", "47/6=7 r5", ["5"]).formula
    '47%6'
    >>> compose("Ann is 7.", "<<7*6=42>>", ["42"]).reason
    'unknown_literal'
    """
    try:
        return Composed(_compose_formula(question, solution, answers))
    except UnusableRow as error:
        return Composed(None, error.reason, error.detail)


@dataclass(frozen=True, slots=True)
class _Step:
    """A step of a solution.

    Args:
        text: the step as written.
        tree: its formula.
        results: (operator, stated value) pairs: one with the operator "", or one for the quotient and one for the
            remainder.
    """

    text: str
    tree: Tree
    results: tuple[tuple[str, float], ...]


# The reading of a leaf: None for a plain number, or (index of an earlier step, index of its result).
_Choice = tuple[int, int] | None

_MAX_READINGS = 2048
_TRIALS = 4
_annotation = re.compile(r"<<([^<>]*)>>")
_unit = re.compile(r"\((?:\s*[A-Za-z][A-Za-z ./'-]*)\)")
_quotient_remainder = re.compile(r"\s*(\d+)\s*r\s*(\d+)\s*")
_times = re.compile(r"(?<=[\d)])\s*x\s*(?=[\d($])")
_equation = re.compile(
    r"<<([^<>]*)>>|(?<![\w.)%/*+-])((?:[$(\u2212\u2013\u00d7\u00f7)*/+ -]*\d[\d,.]*[) ]*)+)="
    r"\s*[$\u20ac\u00a3]?\s*(\d[\d,]*(?:\.\d+)?|\.\d+)(?![\d%]|\s*[-+*/x(=<])"
)
_bare_result = re.compile(r"=\s*[$\u20ac\u00a3]?\s*(\d[\d,]*\.?\d*|\.\d+)(?![\d%]|\s*[-+*/x(])")


def _compose_formula(question: str, solution: str, answers: Sequence[str]) -> str:
    gold = parse_number(answers[0]) if answers else None
    if gold is None:
        raise UnusableRow("wrong_value", f"the gold answer is not a number: {list(answers)[:3]}")
    known = numbers_in(question) | constants_for(question)
    steps = _parse_steps(solution, gold)
    try:
        return _select_formula(steps, known, _unstated_results(solution, steps), gold, question, answers[0])
    except UnusableRow as error:
        all_steps = (
            _parse_all_steps(solution) if error.reason in ("unknown_literal", "wrong_value", "ambiguous") else []
        )
        if len(all_steps) <= len(steps):
            raise
    return _select_formula(all_steps, known, _unstated_results(solution, all_steps), gold, question, answers[0])


def _select_formula(
    steps: Sequence[_Step], known: set[float], unstated: set[float], gold: float, question: str, gold_text: str
) -> str:
    """Return the formula of the readings with the fewest re-uses.

    These readings must be equivalent. If one of them is doubtful (`_is_overused`), all readings must be.
    """
    options = [_leaf_options(step, steps[:i], known, unstated) for i, step in enumerate(steps)]
    result_index = _final_result_index(steps[-1], gold)
    by_uses = _readings_by_uses(steps, options)
    fewest_uses = by_uses[min(by_uses)]
    formulas = compared = _render_readings(steps, fewest_uses, result_index)
    if len(by_uses) > 1 and any(_is_overused(steps, options, reading, question) for reading in fewest_uses):
        compared = _render_readings(steps, itertools.chain(*by_uses.values()), result_index)
    # The seed contains the repr of the steps, and so the names of `_Step` and its fields.
    if len(compared) > 1 and not _are_equivalent(list(compared.values()), Random(f"{question}\n{steps}")):
        raise UnusableRow("ambiguous", " or ".join(sorted(compared, key=_by_length)[:3]))
    text = min(formulas, key=_by_length)
    if not isinstance(formulas[text], tuple):
        raise UnusableRow("single_literal", text)
    value = evaluate(formulas[text])
    if value is None or not _is_equal(value, gold, gold_text):
        raise UnusableRow("wrong_value", f"{text} is {value}, not {gold_text}")
    return text


def _by_length(text: str) -> tuple[int, str]:
    return len(text), text


def _render_readings(
    steps: Sequence[_Step], readings: Iterable[tuple[_Choice, ...]], result_index: int
) -> dict[str, Tree]:
    trees = (_substitute(steps, reading, result_index) for reading in readings)
    return {render(tree): tree for tree in trees}


def _is_overused(
    steps: Sequence[_Step], options: Sequence[list[list[_Choice]]], reading: Sequence[_Choice], question: str
) -> bool:
    """Return whether a reading uses a number of the question more often than it occurs there.

    Only numbers that are also the result of a step are checked. For these, the fewest re-uses prove nothing: "3 times
    as many, and 3 + 1 more" hardly means the same 3 twice.
    """
    numbers = itertools.chain(*(leaves(step.tree) for step in steps))
    flat = list(zip(numbers, itertools.chain(*options), reading, strict=True))
    uses = Counter(abs(leaf) for leaf, _, choice in flat if choice is None)
    contested = {abs(leaf) for leaf, choices, choice in flat if choice is None and len(choices) > 1}
    if not contested:
        return False
    words = [numbers_in(word) for word in question.split()]
    percent = "%" in question or "percent" in question
    for value in contested:
        occurrences = sum(value in word for word in words) or int(value in numbers_in(question))
        if uses[value] + (uses[value / 100] + uses[value * 100] if percent else 0) > occurrences:
            return True
    return False


def _parse_steps(solution: str, gold: float) -> list[_Step]:
    """Return the annotated steps of a solution, or without annotations the formulas that ";" separates."""
    annotations: list[str] = _annotation.findall(solution)
    if annotations:
        return [_parse_step(text, gold=None) for text in annotations]
    texts = [text for text in _unit.sub(" ", solution).split(";") if text.strip()]
    if not texts or "####" in solution:
        raise UnusableRow("no_annotation", solution.strip()[-60:] or "the solution is empty")
    return [_parse_step(text, gold if len(texts) == 1 else None) for text in texts]


def _parse_all_steps(solution: str) -> list[_Step]:
    """Return, in order, the annotated steps and the plain equations whose results no annotation states."""
    annotated = [_parse_step(text, gold=None) for text in _annotation.findall(solution)]
    stated = {value for step in annotated for _, value in step.results}
    steps: list[_Step] = []
    for match in _equation.finditer(_times.sub("*", solution)):
        if match[1] is not None:
            steps.append(_parse_step(match[1], gold=None))
            continue
        tree, result = parse(match[2]), _plain_number(match[3])
        value = evaluate(tree) if isinstance(tree, tuple) else None
        if tree is None or result is None or value is None or result in stated:
            continue
        if not _is_equal(value, result, match[3]):
            continue
        steps.append(_Step(match[0], tree, (("", result),)))
        stated.add(result)
    return steps


def _parse_step(text: str, gold: float | None) -> _Step:
    """Parse one step; a formula without a stated result must equal the gold answer."""
    formula, equals, right = text.partition("=")
    tree = parse(formula)
    pair = _quotient_remainder.fullmatch(right)
    stated = float(pair[1]) if pair else _plain_number(right) if equals else gold
    if tree is None or stated is None:
        raise UnusableRow("unparsable", text.strip()[:80])
    if pair:
        if not isinstance(tree, tuple) or tree[0] != "/":
            raise UnusableRow("unparsable", text.strip()[:80])
        quotient, remainder = (evaluate((operator, tree[1], tree[2])) for operator in ("//", "%"))
        if (quotient, remainder) != (stated, float(pair[2])):
            raise UnusableRow("wrong_value", text.strip()[:80])
        return _Step(text, tree, (("//", stated), ("%", float(pair[2]))))
    value = evaluate(tree)
    if value is None or not _is_equal(value, stated, right):
        raise UnusableRow("wrong_value", f"{text.strip()[:80]}: the value is {value}")
    return _Step(text, tree, (("", stated),))


def _plain_number(text: str) -> float | None:
    tree = parse(text)
    return None if isinstance(tree, tuple) else tree


def _is_equal(value: float, stated: float, text: str) -> bool:
    """Return whether two values are equal up to truncation or rounding to two or more written decimals.

    An integer must be equal: without decimals nothing is rounded.
    """
    decimals = len(text.strip().partition(".")[2])
    allowed = 10.0**-decimals if decimals >= 2 else 0.0
    return abs(value - stated) <= max(allowed * 0.9999, 1e-9 * max(1.0, abs(stated)))


def _unstated_results(solution: str, steps: Sequence[_Step]) -> set[float]:
    """Return the results of equations without an annotation; an equal number in a later step can refer to them."""
    stated = {value for step in steps for _, value in step.results}
    bare = _bare_result.findall(_annotation.sub("", solution)) if "<<" in solution else []
    return {float(text.replace(",", "").rstrip(".")) for text in bare} - stated


def _leaf_options(
    step: _Step, earlier: Sequence[_Step], known: set[float], unstated: set[float]
) -> list[list[_Choice]]:
    """Return the possible readings of each leaf of a step."""
    options: list[list[_Choice]] = []
    for leaf in leaves(step.tree):
        choices: list[_Choice] = [
            (i, k) for i, other in enumerate(earlier) for k, (_, value) in enumerate(other.results) if value == leaf
        ]
        if abs(leaf) in known:
            choices.append(None)
            if leaf in unstated:
                detail = f"{render(leaf)} is in the question, or the result of a step without an annotation"
                raise UnusableRow("ambiguous", detail)
        if not choices:
            raise UnusableRow("unknown_literal", f"{render(leaf)} in {step.text.strip()[:60]}")
        options.append(choices)
    return options


def _readings_by_uses(
    steps: Sequence[_Step], options: Sequence[list[list[_Choice]]]
) -> dict[int, list[tuple[_Choice, ...]]]:
    """Return number of step uses -> readings that use every step; a reading is the choices of all leaves in order."""
    flat = list(itertools.chain(*options))
    count = 1
    for choices in flat:
        count *= len(choices)
        if count > _MAX_READINGS:
            raise UnusableRow("too_many_readings", f"more than {_MAX_READINGS} readings")
    needed = set(range(len(steps) - 1))
    readings: dict[int, list[tuple[_Choice, ...]]] = {}
    for reading in itertools.product(*flat):
        used = Counter(choice[0] for choice in reading if choice is not None)
        if needed <= used.keys():
            readings.setdefault(used.total(), []).append(reading)
    if not readings:
        raise UnusableRow("unused_step", "; ".join(step.text.strip() for step in steps)[:120])
    return readings


def _final_result_index(step: _Step, gold: float) -> int:
    """Return the index of the last step's result that is the gold answer."""
    matches = [k for k, (_, value) in enumerate(step.results) if _is_equal(value, gold, "")]
    if not matches:
        raise UnusableRow(
            "wrong_value", f"the last step is {step.text.strip()[:60]}, but the gold answer is {render(gold)}"
        )
    if len(matches) > 1:
        raise UnusableRow("ambiguous", f"the gold answer is both quotient and remainder: {step.text.strip()[:60]}")
    return matches[0]


def _substitute(steps: Sequence[_Step], reading: Sequence[_Choice], result_index: int) -> Tree:
    """Return the last step's tree with the trees of the earlier steps substituted."""
    choices = iter(reading)
    step_trees: list[Tree] = []

    def result_tree(i: int, k: int) -> Tree:
        tree, operator = step_trees[i], steps[i].results[k][0]
        return (operator, tree[1], tree[2]) if operator and isinstance(tree, tuple) else tree

    def chosen_leaves(tree: Tree) -> Iterator[Tree]:
        for leaf in leaves(tree):
            choice = next(choices)
            yield leaf if choice is None else result_tree(*choice)

    for step in steps:
        step_trees.append(replace_leaves(step.tree, chosen_leaves(step.tree)))
    return result_tree(len(steps) - 1, result_index)


def _are_equivalent(trees: Sequence[Tree], random: Random) -> bool:
    """Return whether the trees have equal values for random numbers."""
    numbers = sorted({leaf for tree in trees for leaf in leaves(tree)})
    for _ in range(_TRIALS):
        drawn = dict(zip(numbers, (float(random.randint(2, 997)) for _ in numbers), strict=True))
        values = [evaluate(tree, drawn.__getitem__) for tree in trees]
        first = values[0]
        for value in values[1:]:
            if value is None or first is None or abs(value - first) > 1e-9 * max(1.0, abs(first)):
                return False
    return True
