"""Arithmetic formulas as trees: read the formulas of upstream's solutions, evaluate them, write them back.

A tree is a number, or (operator, left, right) with the operators + - * / // % **. This reads what data sets' authors
wrote, which is trusted and tidy; it is no calculator for model text (that is `tools/calculator.py`), and covers no
functions, unknowns or units.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal

__all__ = ["Tree", "evaluate", "leaves", "parse", "render", "replace_leaves"]

Tree = float | tuple[str, "Tree", "Tree"]

_TOKEN = re.compile(r"\s*(?:(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.?\d*|\.\d+)|(\*\*|//|[-+*/^%()]))")
_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-", "–": "-", "$": " "})
_LEVEL = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2, "**": 3}
_MAX_CHARS = 400  # far above every formula of the three sources; keeps the recursion shallow
_MAX_POWER = 64.0


def parse(text: str) -> Tree | None:
    """Read one formula; None where it is not plain arithmetic.

    A percent sign with nothing to its right to divide by is "hundredths"; `^` is a power. A sign before a number
    belongs to it, so that a negative result of a step is found again.

    >>> parse("(12/60)*50")
    ('*', ('/', 12.0, 60.0), 50.0)
    >>> parse("20%*150"), parse("2x=10")
    (('*', ('/', 20.0, 100.0), 150.0), None)
    """
    tokens = _tokens(text.translate(_SIGNS).strip())
    if not tokens:
        return None
    try:
        tree, end = _sum(tokens, 0)
    except (_UnreadableError, IndexError):
        return None
    return tree if end == len(tokens) - 1 else None


def evaluate(tree: Tree, value_of: Callable[[float], float] = float) -> float | None:
    """The value of a tree, each leaf standing for `value_of(leaf)`; None where it has none.

    >>> evaluate(("-", 5.0, ("/", 6.0, 4.0))), evaluate(("/", 1.0, 0.0))
    (3.5, None)
    """
    try:
        value = _value(tree, value_of)
    except (ZeroDivisionError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def leaves(tree: Tree) -> list[float]:
    """The numbers of a tree, left to right.

    >>> leaves(("+", 48.0, ("/", 48.0, 2.0)))
    [48.0, 48.0, 2.0]
    """
    if isinstance(tree, tuple):
        return leaves(tree[1]) + leaves(tree[2])
    return [tree]


def replace_leaves(tree: Tree, new: Iterator[Tree]) -> Tree:
    """The tree with its leaves replaced, left to right.

    >>> replace_leaves(("+", 1.0, 2.0), iter([("*", 3.0, 4.0), 5.0]))
    ('+', ('*', 3.0, 4.0), 5.0)
    """
    if isinstance(tree, tuple):
        left = replace_leaves(tree[1], new)
        return (tree[0], left, replace_leaves(tree[2], new))
    return next(new)


def render(tree: Tree) -> str:
    """Write a tree with as few parentheses as keep its value, integers without ".0", no blanks.

    >>> render(("-", 100.0, ("+", ("/", 100.0, 2.0), 15.0))), render(("*", ("+", 1.0, 0.5), -2.0))
    ('100-(100/2+15)', '(1+0.5)*(-2)')
    """
    return _write(tree)[0]


class _UnreadableError(Exception):
    pass


def _tokens(text: str) -> list[str]:
    """Numbers and operators, closed by an empty token; nothing where another character stands between them."""
    if len(text) > _MAX_CHARS:
        return []
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return []
        found.append(match[1].replace(",", "") if match[1] else match[2].replace("^", "**"))
        at = match.end()
    return [*found, ""] if found else []


def _is_number(token: str) -> bool:
    return token[:1].isdigit() or token[:1] == "."


def _sum(tokens: list[str], at: int) -> tuple[Tree, int]:
    left, at = _product(tokens, at)
    while tokens[at] in ("+", "-"):
        right, end = _product(tokens, at + 1)
        left, at = (tokens[at], left, right), end
    return left, at


def _product(tokens: list[str], at: int) -> tuple[Tree, int]:
    left, at = _power(tokens, at)
    while tokens[at] in ("*", "/", "//", "%"):
        if tokens[at] == "%" and not (_is_number(tokens[at + 1]) or tokens[at + 1] == "("):
            left, at = ("/", left, 100.0), at + 1
            continue
        right, end = _power(tokens, at + 1)
        left, at = (tokens[at], left, right), end
    return left, at


def _power(tokens: list[str], at: int) -> tuple[Tree, int]:
    base, at = _atom(tokens, at)
    if tokens[at] == "**":
        exponent, at = _power(tokens, at + 1)
        return ("**", base, exponent), at
    return base, at


def _atom(tokens: list[str], at: int) -> tuple[Tree, int]:
    first = tokens[at]
    if first == "(":
        tree, at = _sum(tokens, at + 1)
        if tokens[at] != ")":
            raise _UnreadableError
        return tree, at + 1
    if first == "-" and _is_number(tokens[at + 1]) and tokens[at + 2] != "**":
        return -float(tokens[at + 1]), at + 2
    if not _is_number(first):
        raise _UnreadableError
    return float(first), at + 1


def _value(tree: Tree, value_of: Callable[[float], float]) -> float:
    if not isinstance(tree, tuple):
        return value_of(tree)
    left, right = _value(tree[1], value_of), _value(tree[2], value_of)
    if tree[0] == "**":
        if abs(right) > _MAX_POWER:
            raise OverflowError
        power = left**right
        return power if isinstance(power, float) else math.nan  # a root of a negative number
    return _OPERATIONS[tree[0]](left, right)


_OPERATIONS: Mapping[str, Callable[[float, float], float]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: left / right,
    "//": lambda left, right: left // right,
    "%": lambda left, right: left % right,
}


def _number(value: float) -> str:
    if value == int(value):
        return str(int(value))
    return format(Decimal(repr(value)), "f")


def _write(tree: Tree) -> tuple[str, int]:
    """The text and its level: a text of a lower level needs parentheses as an operand of a higher one."""
    if not isinstance(tree, tuple):
        return _number(tree), 1 if tree < 0 else 4
    operator, level = tree[0], _LEVEL[tree[0]]
    (left, left_level), (right, right_level) = _write(tree[1]), _write(tree[2])
    negative_start = left.startswith("-") and left_level == 1 and level == 1
    if (left_level < level and not negative_start) or (operator == "**" and left_level <= level):
        left = f"({left})"
    # a+(b-c) and a*(b/c) keep their values without parentheses; after - / // % and before // % they do not
    loose = operator == "+" or (operator == "*" and not _has_floor(tree[2]))
    if right_level < level or right.startswith("-") or (right_level == level and not loose and operator != "**"):
        right = f"({right})"
    return left + operator + right, level


def _has_floor(tree: Tree) -> bool:
    """Whether `//` or `%` stands at the top level of a product."""
    if not isinstance(tree, tuple) or tree[0] not in ("*", "/", "//", "%"):
        return False
    return tree[0] in ("//", "%") or _has_floor(tree[1])
