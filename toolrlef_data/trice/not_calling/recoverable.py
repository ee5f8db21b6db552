"""Whether a withheld number can be computed from what a question still says."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from toolrlef_data.tasks.numbers import numbers_in
from toolrlef_data.trice.annotations.constants import UNIT_SIZES, constants_for
from toolrlef_data.trice.not_calling.grammar import UNITS

__all__ = ["is_recoverable", "reachable"]

# Sizes of units that `UNIT_SIZES` lacks: kilometres of a mile, pounds of a kilogram, centimetres of an inch, ...
OTHER_SIZES = frozenset((3.0, 4.0, 8.0, 10.0, 1.6, 1.609, 2.2, 2.205, 2.54, 28.35, 0.454, 3.785, 1760.0))
MAX_NUMBERS = 12  # of a question whose combinations are computed
ROUNDING = 0.02  # share by which a value in another system of units may differ
_words = re.compile(r"[a-z]+").findall
_names = re.compile(r"\b[A-Z][a-z]+").findall


def is_recoverable(value: float, question: str) -> bool:
    """Return whether a number follows from a question that no longer states it, by a generous reading.

    It does if the question has it in any notation or another unit, if up to three of its numbers give it by + - * /, or
    if something that the question lists has that count.

    Args:
        value: the number.
        question: the question without it.

    >>> is_recoverable(8, "He has some figs: 5 red ones and 3 green ones."), is_recoverable(8, "He has 5 red figs.")
    (True, False)
    >>> is_recoverable(26, "A hat costs some money. Half of it is 13 dollars.")
    True
    >>> is_recoverable(8, "He ran several kilometers. That is 5 miles."), is_recoverable(36, "He has 3 feet of rope.")
    (True, True)
    """
    numbers = numbers_in(question)
    constants = constants_for(question) - {1.0}
    if value in constants or len(numbers) > MAX_NUMBERS:
        return True
    counts = {len(re.findall(r"\d+", question)), len(set(_names(question))), question.count(",") + 1}
    if any(abs(value - count) <= 1 for count in counts) and value <= 10:
        return True
    in_units = {result for number in numbers for result in _in_units(number, UNIT_SIZES | constants)}
    if any(abs(result - value) <= 1e-6 * value for result in reachable(numbers, 3) | in_units):
        return True
    if not UNITS.intersection(_words(question.lower())):
        return False
    rounded = [result for number in numbers for result in _in_units(number, OTHER_SIZES)]
    return any(abs(result - value) <= ROUNDING * value for result in rounded)


def _in_units(number: float, sizes: Iterable[float]) -> list[float]:
    return [result for size in sizes for result in (number * size, number / size)]


def reachable(numbers: Iterable[float], size: int) -> set[float]:
    """Return the values of all formulas with + - * / over up to `size` of the given numbers, each at most once.

    >>> sorted(reachable([2.0, 6.0], 2))
    [-4.0, 0.3333333333333333, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0]
    """
    values: set[float] = set()
    for count in range(1, size + 1):
        for chosen in itertools.combinations(sorted(set(numbers)), count):
            values |= _values(chosen)
    return values


def _values(numbers: tuple[float, ...]) -> set[float]:
    """Return the values of all formulas that use each of the numbers once."""
    if len(numbers) == 1:
        return set(numbers)
    values: set[float] = set()
    for size in range(1, len(numbers)):
        for indices in itertools.combinations(range(len(numbers)), size):
            left = _values(tuple(numbers[i] for i in indices))
            right = _values(tuple(numbers[i] for i in range(len(numbers)) if i not in indices))
            for a, b in itertools.product(left, right):
                values |= {a + b, a - b, a * b} | ({a / b} if b else set())
    return values
