"""The teacher ANNOTATIONS: one formula composed from upstream's own worked solution. Precision before coverage.

Three forms are told apart by the text: GSM8K's `<<48/2=24>>` steps, ASDiv's "7+2=9" (several with ";", units in
parentheses, `47/6=7 r5` for quotient and remainder) and SVAMP's "( 76.0 - 25.0 )".

Putting each step's formula in the place of its result would execute to the answer in most rows, and yet be wrong in
many: a 24 in a later step may be that result, or a 24 of the question, and execution cannot tell. So every reading is
enumerated; those that leave a step without use are out; of the rest the ones with the fewest re-uses stay. Where
several stay, each distinct number gets random values: readings that always agree are one, others make the row
`ambiguous`. An equation of the sentences that has no annotation is taken as a step where the annotated ones do not do.

Not covered: unknowns (2x=10), ratios, comparisons, GCD and LCM, series. Such rows are for a model teacher.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from toolrlef_data.records import UnusableRow
from toolrlef_data.tasks.numbers import number, numbers_in
from toolrlef_data.trice.annotations.constants import constants_for
from toolrlef_data.trice.annotations.formulas import Tree, evaluate, leaves, parse, render, replace_leaves

__all__ = ["ANNOTATIONS", "REASONS", "Annotations", "Composed", "compose"]

REASONS = {
    "no_annotation": "the solution holds no formula",
    "unparsable": "a step is not plain arithmetic",
    "wrong_value": "a step, or the whole, does not give its stated result",
    "unknown_literal": "a number that neither the question, nor a known constant, nor an earlier step gives",
    "unused_step": "no reading uses every step",
    "too_many_readings": "more readings than are tried",
    "ambiguous": "readings remain that differ",
    "single_literal": "the formula is only a number",
}


@dataclass(frozen=True)
class Annotations:
    """The teacher that needs no model: its calls are composed from the column `solution`."""

    name: str = "annotations"


ANNOTATIONS = Annotations()


@dataclass(frozen=True, slots=True)
class Composed:
    """A formula, or the reason (of `REASONS`) why there is none, with a detail for people."""

    formula: str | None
    reason: str | None = None
    detail: str = ""


def compose(question: str, solution: str, answers: Sequence[str]) -> Composed:
    """Compose one formula from a worked solution, or say why none can be trusted.

    Args:
        question: where the formula's numbers must come from.
        solution: upstream's worked solution, in one of the three forms.
        answers: the gold answer, a number, stands first.

    >>> compose("Ann picks 48 figs, then half as many.", "<<48/2=24>>24 <<48+24=72>>72 #### 72", ["72"]).formula
    '48+48/2'
    >>> compose("47 buns, 6 a box. How many remain?", "47/6=7 r5", ["5"]).formula
    '47%6'
    >>> compose("Ann is 7.", "<<7*6=42>>", ["42"]).reason
    'unknown_literal'
    """
    try:
        return Composed(_formula(question, solution, answers))
    except UnusableRow as why:
        return Composed(None, why.reason, why.detail)


@dataclass(frozen=True, slots=True)
class _Step:
    """One step; `results` pairs what it gives (itself, or quotient and remainder) with the value as it is stated."""

    text: str
    tree: Tree
    results: tuple[tuple[str, float], ...]


# A leaf of a step is read as a number of its own (None) or as (step, which of its results).
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


def _formula(question: str, solution: str, answers: Sequence[str]) -> str:
    gold = number(answers[0]) if answers else None
    if gold is None:
        raise UnusableRow("wrong_value", f"the gold answer is no number: {list(answers)[:3]}")
    known = numbers_in(question) | constants_for(question)
    steps = _steps(solution, gold)
    try:
        return _composed(steps, known, _unstated(solution, steps), gold, question, answers[0])
    except UnusableRow as why:
        more = _all_steps(solution) if why.reason in ("unknown_literal", "wrong_value", "ambiguous") else []
        if len(more) <= len(steps):
            raise
    return _composed(more, known, _unstated(solution, more), gold, question, answers[0])


def _composed(
    steps: Sequence[_Step], known: set[float], unstated: set[float], gold: float, question: str, written: str
) -> str:
    """The formula of the readings with the fewest re-uses; all readings have to agree where these few are doubtful."""
    options = [_options(step, steps[:i], known, unstated) for i, step in enumerate(steps)]
    which = _final_result(steps[-1], gold)
    by_reuse = _readings(steps, options)
    fewest_reuses = by_reuse[min(by_reuse)]
    formulas = rivals = _rendered(steps, fewest_reuses, which)
    if len(by_reuse) > 1 and any(_overused(steps, options, reading, question) for reading in fewest_reuses):
        rivals = _rendered(steps, itertools.chain(*by_reuse.values()), which)
    if len(rivals) > 1 and not _equivalent(list(rivals.values()), Random(f"{question}\n{steps}")):
        raise UnusableRow("ambiguous", " or ".join(sorted(rivals, key=_by_length)[:3]))
    text = min(formulas, key=_by_length)
    if not isinstance(formulas[text], tuple):
        raise UnusableRow("single_literal", text)
    value = evaluate(formulas[text])
    if value is None or not _same(value, gold, written):
        raise UnusableRow("wrong_value", f"{text} is {value}, not {written}")
    return text


def _by_length(text: str) -> tuple[int, str]:
    return len(text), text


def _rendered(steps: Sequence[_Step], readings: Iterable[tuple[_Choice, ...]], which: int) -> dict[str, Tree]:
    trees = (_substituted(steps, reading, which) for reading in readings)
    return {render(tree): tree for tree in trees}


def _overused(
    steps: Sequence[_Step], options: Sequence[list[list[_Choice]]], reading: Sequence[_Choice], question: str
) -> bool:
    """Whether a reading takes a number, which a step gives too, from the question more often than it stands there.

    Then the fewest re-uses prove nothing: "3 times as many, and 3 + 1 more" hardly means the same 3 twice.
    """
    numbers = itertools.chain(*(leaves(step.tree) for step in steps))
    flat = list(zip(numbers, itertools.chain(*options), reading, strict=True))
    taken = Counter(abs(leaf) for leaf, _, choice in flat if choice is None)
    contested = {abs(leaf) for leaf, choices, choice in flat if choice is None and len(choices) > 1}
    if not contested:
        return False
    words = [numbers_in(word) for word in question.split()]
    percent = "%" in question or "percent" in question
    for value in contested:
        there = sum(value in word for word in words) or int(value in numbers_in(question))
        if taken[value] + (taken[value / 100] + taken[value * 100] if percent else 0) > there:
            return True
    return False


def _steps(solution: str, gold: float) -> list[_Step]:
    annotations: list[str] = _annotation.findall(solution)
    if annotations:
        return [_step(text, gold=None) for text in annotations]
    texts = [text for text in _unit.sub(" ", solution).split(";") if text.strip()]
    if not texts or "####" in solution:
        raise UnusableRow("no_annotation", solution.strip()[-60:] or "the solution is empty")
    return [_step(text, gold if len(texts) == 1 else None) for text in texts]


def _all_steps(solution: str) -> list[_Step]:
    """The annotated steps, and between them the plain equations whose results no annotation states."""
    annotated = [_step(text, gold=None) for text in _annotation.findall(solution)]
    stated = {value for step in annotated for _, value in step.results}
    found: list[_Step] = []
    for match in _equation.finditer(_times.sub("*", solution)):
        if match[1] is not None:
            found.append(_step(match[1], gold=None))
            continue
        tree, result = parse(match[2]), _number(match[3])
        value = evaluate(tree) if isinstance(tree, tuple) else None
        if tree is None or result is None or value is None or result in stated or not _same(value, result, match[3]):
            continue
        found.append(_Step(match[0], tree, (("", result),)))
        stated.add(result)
    return found


def _step(text: str, gold: float | None) -> _Step:
    """Read one step; a formula that stands alone has no stated result, its own is then the gold answer."""
    left, equals, right = text.partition("=")
    tree = parse(left)
    pair = _quotient_remainder.fullmatch(right)
    stated = float(pair[1]) if pair else _number(right) if equals else gold
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
    if value is None or not _same(value, stated, right):
        raise UnusableRow("wrong_value", f"{text.strip()[:80]}: it is {value}")
    return _Step(text, tree, (("", stated),))


def _number(text: str) -> float | None:
    tree = parse(text)
    return None if isinstance(tree, tuple) else tree


def _same(value: float, stated: float, text: str) -> bool:
    """Equal, or cut or rounded to the two or more decimals that are written; a whole number rounds nothing away."""
    decimals = len(text.strip().partition(".")[2])
    allowed = 10.0**-decimals if decimals >= 2 else 0.0
    return abs(value - stated) <= max(allowed * 0.9999, 1e-9 * max(1.0, abs(stated)))


def _unstated(solution: str, steps: Sequence[_Step]) -> set[float]:
    """Results that the solution's sentences compute without an annotation: a number equal to one may stand for it."""
    stated = {value for step in steps for _, value in step.results}
    bare = _bare_result.findall(_annotation.sub("", solution)) if "<<" in solution else []
    return {float(text.replace(",", "").rstrip(".")) for text in bare} - stated


def _options(step: _Step, earlier: Sequence[_Step], known: set[float], unstated: set[float]) -> list[list[_Choice]]:
    """What each leaf of a step may be."""
    found: list[list[_Choice]] = []
    for leaf in leaves(step.tree):
        choices: list[_Choice] = [
            (i, k) for i, other in enumerate(earlier) for k, (_, value) in enumerate(other.results) if value == leaf
        ]
        if abs(leaf) in known:
            choices.append(None)
            if leaf in unstated:
                raise UnusableRow("ambiguous", f"{render(leaf)} is of the question, or of a step without annotation")
        if not choices:
            raise UnusableRow("unknown_literal", f"{render(leaf)} in {step.text.strip()[:60]}")
        found.append(choices)
    return found


def _readings(steps: Sequence[_Step], options: Sequence[list[list[_Choice]]]) -> dict[int, list[tuple[_Choice, ...]]]:
    """The readings that use every step, each the choices of all leaves in order, by how often they use a step."""
    flat = list(itertools.chain(*options))
    count = 1
    for choices in flat:
        count *= len(choices)
        if count > _MAX_READINGS:
            raise UnusableRow("too_many_readings", f"more than {_MAX_READINGS}")
    needed = set(range(len(steps) - 1))
    found: dict[int, list[tuple[_Choice, ...]]] = {}
    for reading in itertools.product(*flat):
        used = Counter(choice[0] for choice in reading if choice is not None)
        if needed <= used.keys():
            found.setdefault(used.total(), []).append(reading)
    if not found:
        raise UnusableRow("unused_step", "; ".join(step.text.strip() for step in steps)[:120])
    return found


def _final_result(step: _Step, gold: float) -> int:
    """Which result of the last step is the gold answer."""
    fitting = [k for k, (_, value) in enumerate(step.results) if _same(value, gold, "")]
    if not fitting:
        raise UnusableRow("wrong_value", f"the last step is {step.text.strip()[:60]}, the answer {render(gold)}")
    if len(fitting) > 1:
        raise UnusableRow("ambiguous", f"quotient or remainder: {step.text.strip()[:60]}")
    return fitting[0]


def _substituted(steps: Sequence[_Step], reading: Sequence[_Choice], which: int) -> Tree:
    """The last step's tree with the steps that it builds on put in."""
    choices = iter(reading)
    done: list[Tree] = []

    def result(step: int, k: int) -> Tree:
        tree, operator = done[step], steps[step].results[k][0]
        return (operator, tree[1], tree[2]) if operator and isinstance(tree, tuple) else tree

    def read(tree: Tree) -> Iterator[Tree]:
        for leaf in leaves(tree):
            choice = next(choices)
            yield leaf if choice is None else result(*choice)

    for step in steps:
        done.append(replace_leaves(step.tree, read(step.tree)))
    return result(len(steps) - 1, which)


def _equivalent(trees: Sequence[Tree], random: Random) -> bool:
    numbers = sorted({leaf for tree in trees for leaf in leaves(tree)})
    for _ in range(_TRIALS):
        drawn = dict(zip(numbers, (float(random.randint(2, 997)) for _ in numbers), strict=True))
        values = [evaluate(tree, drawn.__getitem__) for tree in trees]
        first = values[0]
        for value in values[1:]:
            if value is None or first is None or abs(value - first) > 1e-9 * max(1.0, abs(first)):
                return False
    return True
