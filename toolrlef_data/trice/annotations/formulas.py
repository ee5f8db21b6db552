"""Arithmetic formulas as trees: parse the formulas of worked solutions, evaluate and render them.

A tree is a number, or (operator, left, right) with the operators + - * / // % **. The input is the text of data set
authors, not of models (see `tools/calculator.py`). Not covered: functions, units, and more than one unknown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal

__all__ = ["Tree", "evaluate", "leaves", "parse", "render", "replace_leaves", "solve"]

Tree = float | tuple[str, "Tree", "Tree"]

_TOKEN = re.compile(r"\s*(?:(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.?\d*|\.\d+|nan)|(\*\*|//|[-+*/^%()]))")
_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-", "–": "-", "$": " "})
_LEVEL = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2, "**": 3}
_INVERSE = {"+": "-", "-": "+", "*": "/", "/": "*"}
_letter = re.compile(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])")
_factor = re.compile(r"(?<=[\d)])\s{0,9}(?=[A-Za-z])")  # the place of a multiplication sign: 4x, (1+2)x
_MAX_CHARS = 400  # far above every formula of the three sources; limits the recursion depth
_MAX_POWER = 64.0


def parse(text: str, *, has_unknown: bool = False) -> Tree | None:
    """Return the tree of a formula, or None if it is not plain arithmetic.

    A percent sign without a right operand divides by 100; `^` is a power. A sign before a number belongs to the number,
    so that a later step can refer to a negative result. With `has_unknown`, a letter is a number, namely NaN.

    >>> parse("(12/60)*50")
    ('*', ('/', 12.0, 60.0), 50.0)
    >>> parse("20%*150"), parse("2x=10")
    (('*', ('/', 20.0, 100.0), 150.0), None)
    """
    text = text.translate(_SIGNS).strip()
    tokens = _tokenise(_letter.sub("nan", text) if has_unknown else text)
    if "nan" in tokens and not has_unknown:
        return None
    if not tokens:
        return None
    try:
        tree, end = _parse_sum(tokens, 0)
    except (_SyntaxError, IndexError):
        return None
    return tree if end == len(tokens) - 1 else None


def solve(equation: str) -> Tree | None:
    """Return the tree of the value of an equation's unknown, or None if there is no single unknown.

    The unknown is one letter that occurs once, in an operand of + - * /. A number directly before it is a factor.

    >>> render(solve("35 + X = 56")), render(solve("60 = 4x")), render(solve("50 - (n * 3) = 20")), solve("x + x = 4")
    ('56-35', '60/4', '(50-20)/3', None)
    """
    if equation.count("=") != 1 or len(_letter.findall(equation)) != 1:
        return None
    left_side, right_side = (parse(_factor.sub("*", side), has_unknown=True) for side in equation.split("="))
    if left_side is None or right_side is None:
        return None
    is_left = _contains_unknown(left_side)
    unknown, value = (left_side, right_side) if is_left else (right_side, left_side)
    while isinstance(unknown, tuple):
        operator, left, right = unknown
        if operator not in _INVERSE:
            return None
        if _contains_unknown(left):
            unknown, value = left, (_INVERSE[operator], value, right)
        else:  # a-x=b and a/x=b are x=a-b and x=a/b; a+x=b and a*x=b are x=b-a and x=b/a
            unknown, value = right, (operator, left, value) if operator in "-/" else (_INVERSE[operator], value, left)
    return value


def evaluate(tree: Tree, value_of: Callable[[float], float] = float) -> float | None:
    """Return the value of a tree whose leaves are replaced by `value_of(leaf)`, or None if it is undefined.

    >>> evaluate(("-", 5.0, ("/", 6.0, 4.0))), evaluate(("/", 1.0, 0.0))
    (3.5, None)
    """
    try:
        value = _evaluate(tree, value_of)
    except (ZeroDivisionError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def leaves(tree: Tree) -> list[float]:
    """Return the numbers of a tree, from left to right.

    >>> leaves(("+", 48.0, ("/", 48.0, 2.0)))
    [48.0, 48.0, 2.0]
    """
    if isinstance(tree, tuple):
        return leaves(tree[1]) + leaves(tree[2])
    return [tree]


def replace_leaves(tree: Tree, replacements: Iterator[Tree]) -> Tree:
    """Return the tree with each leaf replaced by the next replacement, from left to right.

    >>> replace_leaves(("+", 1.0, 2.0), iter([("*", 3.0, 4.0), 5.0]))
    ('+', ('*', 3.0, 4.0), 5.0)
    """
    if isinstance(tree, tuple):
        left = replace_leaves(tree[1], replacements)
        return (tree[0], left, replace_leaves(tree[2], replacements))
    return next(replacements)


def render(tree: Tree) -> str:
    """Return a tree as text with the fewest parentheses, without blanks; integers have no ".0".

    >>> render(("-", 100.0, ("+", ("/", 100.0, 2.0), 15.0))), render(("*", ("+", 1.0, 0.5), -2.0))
    ('100-(100/2+15)', '(1+0.5)*(-2)')
    """
    return _render_with_level(tree)[0]


def _contains_unknown(tree: Tree) -> bool:
    return any(math.isnan(leaf) for leaf in leaves(tree))


class _SyntaxError(Exception):
    pass


def _tokenise(text: str) -> list[str]:
    """Return numbers and operators with a final empty token, or an empty list if the text has other characters."""
    if len(text) > _MAX_CHARS:
        return []
    tokens, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return []
        tokens.append(match[1].replace(",", "") if match[1] else match[2].replace("^", "**"))
        at = match.end()
    return [*tokens, ""] if tokens else []


def _is_number(token: str) -> bool:
    return token[:1].isdigit() or token[:1] in (".", "n")


def _parse_sum(tokens: list[str], at: int) -> tuple[Tree, int]:
    """Return the tree of the sum that starts at an index, and the index after it; likewise the next three functions."""
    left, at = _parse_product(tokens, at)
    while tokens[at] in ("+", "-"):
        right, end = _parse_product(tokens, at + 1)
        left, at = (tokens[at], left, right), end
    return left, at


def _parse_product(tokens: list[str], at: int) -> tuple[Tree, int]:
    left, at = _parse_power(tokens, at)
    while tokens[at] in ("*", "/", "//", "%"):
        if tokens[at] == "%" and not (_is_number(tokens[at + 1]) or tokens[at + 1] == "("):
            left, at = ("/", left, 100.0), at + 1
            continue
        right, end = _parse_power(tokens, at + 1)
        left, at = (tokens[at], left, right), end
    return left, at


def _parse_power(tokens: list[str], at: int) -> tuple[Tree, int]:
    base, at = _parse_atom(tokens, at)
    if tokens[at] == "**":
        exponent, at = _parse_power(tokens, at + 1)
        return ("**", base, exponent), at
    return base, at


def _parse_atom(tokens: list[str], at: int) -> tuple[Tree, int]:
    first = tokens[at]
    if first == "(":
        tree, at = _parse_sum(tokens, at + 1)
        if tokens[at] != ")":
            raise _SyntaxError
        return tree, at + 1
    if first == "-" and _is_number(tokens[at + 1]) and tokens[at + 1] != "nan" and tokens[at + 2] != "**":
        return -float(tokens[at + 1]), at + 2
    if not _is_number(first):
        raise _SyntaxError
    return float(first), at + 1


def _evaluate(tree: Tree, value_of: Callable[[float], float]) -> float:
    if not isinstance(tree, tuple):
        return value_of(tree)
    left, right = _evaluate(tree[1], value_of), _evaluate(tree[2], value_of)
    if tree[0] == "**":
        if abs(right) > _MAX_POWER:
            raise OverflowError
        power = left**right
        return power if isinstance(power, float) else math.nan  # a root of a negative number is complex
    return _OPERATIONS[tree[0]](left, right)


_OPERATIONS: Mapping[str, Callable[[float, float], float]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: left / right,
    "//": lambda left, right: left // right,
    "%": lambda left, right: left % right,
}


def _render_number(value: float) -> str:
    if value == int(value):
        return str(int(value))
    return format(Decimal(repr(value)), "f")


def _render_with_level(tree: Tree) -> tuple[str, int]:
    """Return the text and its precedence level; an operand of a lower level needs parentheses."""
    if not isinstance(tree, tuple):
        return _render_number(tree), 1 if tree < 0 else 4
    operator, level = tree[0], _LEVEL[tree[0]]
    (left, left_level), (right, right_level) = _render_with_level(tree[1]), _render_with_level(tree[2])
    negative_start = left.startswith("-") and left_level == 1 and level == 1
    if (left_level < level and not negative_start) or (operator == "**" and left_level <= level):
        left = f"({left})"
    # A right operand of the same level needs no parentheses in a+(b-c) and a*(b/c). It needs them after - / // %, and
    # if it contains // or %.
    is_associative = operator == "+" or (operator == "*" and not _has_floor(tree[2]))
    needs_grouping = right_level == level and not is_associative and operator != "**"
    if right_level < level or right.startswith("-") or needs_grouping:
        right = f"({right})"
    return left + operator + right, level


def _has_floor(tree: Tree) -> bool:
    """Return whether the top level of a product contains `//` or `%`."""
    if not isinstance(tree, tuple) or tree[0] not in ("*", "/", "//", "%"):
        return False
    return tree[0] in ("//", "%") or _has_floor(tree[1])
