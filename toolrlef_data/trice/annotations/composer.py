"""The teacher ANNOTATIONS: one formula composed from a source's worked solution, with precision before coverage.

The text determines the form:

| source | form |
|---|---|
| GSM8K | steps such as `<<48/2=24>>` |
| ASDiv | "7+2=9", several separated by ";", units in parentheses, `47/6=7 r5` for quotient and remainder |
| SVAMP | "( 76.0 - 25.0 )" |
| AddSub, MultiArith | the same, or an equation with one unknown: "35 + X = 56" |

Execution alone cannot verify a composed formula. A 24 in a later step can be the result of an earlier step, or a 24 in
the question, and both formulas execute to the gold answer. A reading is one such choice for every number. All readings
are enumerated:

1. Readings that leave a step unused are discarded.
2. Among the others, those with the fewest re-uses of a step remain.
3. If several remain, their numbers are replaced by random values. Readings that always agree count as one; otherwise
   the row is `ambiguous`.

An equation without an annotation counts as a step if the annotated steps are insufficient. `evidence` recognises
solutions whose text contradicts a reading. Not covered: unknowns in annotations, several unknowns, ratios, comparisons,
GCD and LCM, series. Such rows need a model teacher.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from toolrlef_data.records import UnusableRow
from toolrlef_data.tasks.numbers import numbers_in, parse_number
from toolrlef_data.trice.annotations.constants import UNIT_SIZES, constants_for
from toolrlef_data.trice.annotations.evidence import has_comparison, is_mentioned
from toolrlef_data.trice.annotations.formulas import Tree, evaluate, leaves, render, replace_leaves
from toolrlef_data.trice.annotations.steps import (
    Step,
    check_ending,
    is_gold,
    parse_all_steps,
    parse_steps,
    unstated_results,
)

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


# The reading of a leaf: None for a plain number, or (index of an earlier step, index of its result).
_Choice = tuple[int, int] | None

_MAX_READINGS = 2048
_TRIALS = 4


def _compose_formula(question: str, solution: str, answers: Sequence[str]) -> str:
    gold = parse_number(answers[0]) if answers else None
    if gold is None:
        raise UnusableRow("wrong_value", f"the gold answer is not a number: {list(answers)[:3]}")
    if has_comparison(solution):
        raise UnusableRow("ambiguous", "the solution compares numbers")
    numbers = numbers_in(question)
    known = numbers | constants_for(question)
    steps = parse_steps(solution, answers[0])
    try:
        return _select_formula(steps, known, numbers, solution, question, answers[0])
    except UnusableRow as error:
        all_steps = parse_all_steps(solution) if error.reason in ("unknown_literal", "wrong_value", "ambiguous") else []
        if len(all_steps) <= len(steps):
            raise
    return _select_formula(all_steps, known, numbers, solution, question, answers[0])


def _select_formula(
    steps: Sequence[Step], known: set[float], numbers: set[float], solution: str, question: str, gold: str
) -> str:
    """Return the formula of the readings with the fewest re-uses; if these are doubtful, all readings must agree."""
    unstated = unstated_results(solution, steps)
    options = [_leaf_options(step, steps[:i], known, unstated) for i, step in enumerate(steps)]
    result_index = _final_result_index(steps[-1], gold)
    if "<<" in solution:
        check_ending(solution, steps[-1], gold)
    by_uses = _readings_by_uses(steps, options)
    fewest_uses = by_uses[min(by_uses)]
    _check_references(solution, steps, options, fewest_uses, numbers)
    formulas = rivals = _render_readings(steps, fewest_uses, result_index)
    if len(by_uses) > 1 and any(_is_overused(steps, options, reading, question) for reading in fewest_uses):
        rivals = _render_readings(steps, itertools.chain(*by_uses.values()), result_index)
    # The seed contains the repr of the steps, and so the names of the class `Step` and its fields.
    if len(rivals) > 1 and not _are_equivalent(list(rivals.values()), Random(f"{question}\n{steps}")):
        raise UnusableRow("ambiguous", " or ".join(sorted(rivals, key=_by_length)[:3]))
    text = min(formulas, key=_by_length)
    if not isinstance(formulas[text], tuple):
        raise UnusableRow("single_literal", text)
    value = evaluate(formulas[text])
    if value is None or not is_gold(value, gold):
        raise UnusableRow("wrong_value", f"{text} is {value}, not {gold}")
    return text


def _check_references(
    solution: str,
    steps: Sequence[Step],
    options: Sequence[list[list[_Choice]]],
    readings: Sequence[tuple[_Choice, ...]],
    numbers: set[float],
) -> None:
    """Raise if a number that the question has or implies is the result of a step by its value only.

    After "72 / 6 = 12", the 12 of "60 / 12" can mean inches in a foot. It does so if the text says that a foot equals
    12 inches.
    """
    uses = [(step, use) for step in steps for use in _leaf_uses(step.tree)]
    for n, ((step, (leaf, is_divisor)), choices) in enumerate(zip(uses, itertools.chain(*options), strict=True)):
        if len(choices) == 1 or None not in choices:
            continue
        sources = {choice[0] for reading in readings if (choice := reading[n]) is not None}
        if sources and is_divisor and leaf in UNIT_SIZES - numbers:
            raise UnusableRow("ambiguous", f"{render(leaf)} is the size of a unit, or the result of a step")
        if any(is_mentioned(abs(leaf), solution[steps[i].span[1] : step.span[0]]) for i in sources):
            raise UnusableRow("ambiguous", f"{render(leaf)} is the result of a step, and the text names it again")


def _leaf_uses(tree: Tree, is_divisor: bool = False) -> Iterator[tuple[float, bool]]:
    """Yield the numbers of a tree, from left to right, and whether each one is a divisor."""
    if isinstance(tree, tuple):
        yield from _leaf_uses(tree[1])
        yield from _leaf_uses(tree[2], tree[0] in ("/", "//"))
    else:
        yield tree, is_divisor


def _by_length(text: str) -> tuple[int, str]:
    return len(text), text


def _render_readings(
    steps: Sequence[Step], readings: Iterable[tuple[_Choice, ...]], result_index: int
) -> dict[str, Tree]:
    trees = (_substitute(steps, reading, result_index) for reading in readings)
    return {render(tree): tree for tree in trees}


def _is_overused(
    steps: Sequence[Step], options: Sequence[list[list[_Choice]]], reading: Sequence[_Choice], question: str
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
    words = [_numbers_of_word(word) for word in question.split()]
    percent = "%" in question or "percent" in question
    for value in contested:
        occurrences = sum(value in word for word in words) or int(value in numbers_in(question))
        if uses[value] + (uses[value / 100] + uses[value * 100] if percent else 0) > occurrences:
            return True
    return False


_numbers_of_word = functools.lru_cache(1_000)(numbers_in)


def _leaf_options(step: Step, earlier: Sequence[Step], known: set[float], unstated: set[float]) -> list[list[_Choice]]:
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
    steps: Sequence[Step], options: Sequence[list[list[_Choice]]]
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


def _final_result_index(step: Step, gold: str) -> int:
    """Return the index of the last step's result that is the gold answer."""
    matches = [k for k, (_, value) in enumerate(step.results) if is_gold(value, gold)]
    if not matches:
        raise UnusableRow("wrong_value", f"the last step is {step.text.strip()[:60]}, the answer {gold}")
    if len(matches) > 1:
        raise UnusableRow("ambiguous", f"the gold answer is both quotient and remainder: {step.text.strip()[:60]}")
    return matches[0]


def _substitute(steps: Sequence[Step], reading: Sequence[_Choice], result_index: int) -> Tree:
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
