"""Evaluation of the calculator's full syntax: tokenizer, operator precedence, functions.

`calculator.py` documents the syntax. `notation.normalise` rewrites alternative signs and notations, a regular
expression splits the text into symbols, and operator precedence with explicit stacks evaluates them. The fast path for
plain formulas and the range check of the final value are in `calculator.py`.

The texts of errors reach models through the demo functions, so they do not change.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable

from toolrlef_data.records import ToolError
from toolrlef_data.tools.notation import CURRENCY, normalise

__all__ = ["MAX_FLOAT", "MAX_LENGTH", "Number", "evaluate"]

Number = int | float

MAX_LENGTH = 4000  # characters; formulas of word problems have fewer than a hundred
MAX_FLOAT = 1.7976931348623157e308
_MAX_BITS = 8192  # of intermediate integers: beyond the range of a float, so that quotients of large ones are exact

_unknown = re.compile(r"\?|_+|[a-z]+", re.IGNORECASE).fullmatch
_tokens = re.compile(
    rf"""\s*(
    [{CURRENCY}]?(?:
        (?<!\d,)(?!0)(?:\d{{1,3}}(?:[,_]\d{{3}})+|\d{{1,2}}(?:,\d{{2}})+,\d{{3}})(?![,_]?\d)(?:\.\d*)?(?:[eE][-+]?\d+)?
        | (?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)? )
    | \*\* | // | [xX](?=\s*[\d.($]) | [^\W\d]\w* | ,\s* | \S
    )""",
    re.VERBOSE,
).findall


def evaluate(formula: str) -> Number:
    """Return the value of a formula; the sides of an equation must agree.

    An integer value may exceed the range of a float; the caller checks it.

    Raises:
        ToolError: the kind is empty, syntax, unknown_name, domain or too_large.
        ZeroDivisionError, OverflowError: raised as by Python's arithmetic.

    >>> evaluate("2^10 = 1,024")
    1024
    """
    text = formula.strip()
    if len(text) > MAX_LENGTH:
        raise ToolError("too_large", f"{len(text)} characters; at most {MAX_LENGTH}")
    text = normalise(text)
    if "=" not in text:
        return _value(text)
    if "==" in text or "!=" in text:
        raise ToolError("syntax", "a comparison")
    sides = [side.strip() for side in text.split("=")]
    if len(sides) > 1 and (not sides[-1] or _unknown(sides[-1])):
        sides.pop()
    if len(sides) > 1 and (not sides[0] or _unknown(sides[0])):
        sides.pop(0)
    value, *others = map(_value, sides)
    for other in others:
        if not (math.isclose(value, other, rel_tol=1e-9) or round(value, 2) == round(other, 2)):
            raise ToolError("syntax", "the sides of the equation differ")
    return value


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int) and max(0, abs(base).bit_length() - 1) * exponent > 1024:
        raise OverflowError
    value: Number | complex = base**exponent
    if isinstance(value, complex):
        raise ToolError("domain", "a fractional power of a negative number")
    return value


def _round(value: Number, digits: Number = 0, /) -> Number:
    if digits != int(digits) or abs(digits) > 400:
        raise ToolError("domain", "round takes a whole number of digits, at most 400")
    return round(value, int(digits)) if digits else round(value)


def _whole(value: Number) -> int:
    if value != int(value):
        raise ToolError("domain", "a whole number is needed")
    return int(value)


def _factorial(value: Number, /) -> int:
    if value > 170:
        raise OverflowError
    if value < 0:
        raise ToolError("domain", "the factorial of a negative number")
    return math.factorial(_whole(value))


_FUNCTIONS: dict[str, Callable[..., Number]] = {
    "abs": abs,
    "ceil": math.ceil,
    "exp": math.exp,
    "factorial": _factorial,
    "float": lambda value, /: float(value),
    "floor": math.floor,
    "fmod": math.fmod,
    "gcd": lambda *values: math.gcd(*map(_whole, values)),
    "int": lambda value, /: math.trunc(value),
    "lcm": lambda *values: math.lcm(*map(_whole, values)),
    "ln": lambda value, /: math.log(value),
    "log": math.log,
    "log10": math.log10,
    "log2": math.log2,
    "max": lambda *values: max(values),
    "min": lambda *values: min(values),
    "mod": operator.mod,
    "pow": lambda base, exponent, /: _power(base, exponent),
    "round": _round,
    "sqrt": math.sqrt,
    "sum": lambda *values: sum(values),
    "trunc": math.trunc,
}
_MINUS = "minus"  # the unary minus
_BINARY: dict[str, tuple[int, Callable[[Number, Number], Number]]] = {
    "+": (1, operator.add),
    "-": (1, operator.sub),
    "*": (2, operator.mul),
    "/": (2, operator.truediv),
    "//": (2, operator.floordiv),
    "%": (2, operator.mod),
    "**": (4, _power),
    "^": (4, _power),
}
_LEVEL = {name: level for name, (level, _) in _BINARY.items()} | {_MINUS: 3, "(": 0}


class _Group:
    """An open parenthesis, with its function ("" for none) and the spacing of its commas."""

    __slots__ = ("base", "function", "spaced", "tight")

    def __init__(self, function: str, base: int) -> None:
        self.function = function
        self.base = base  # number of values below its arguments
        self.spaced = self.tight = False  # whether commas are followed by blanks, or may group digits


def _value(text: str) -> Number:
    """Return the value of one side of a formula: operator precedence with two stacks."""
    symbols: list[str] = _tokens(text)[::-1]  # a stack: the next symbol is last
    if not symbols:
        raise ToolError("empty", "the formula is empty")
    values: list[Number] = []
    pending: list[str] = []  # operators and "(" whose right side is not evaluated yet
    groups: list[_Group] = []
    complete = False  # whether the previous symbol ends an operand
    while symbols:
        symbol = symbols.pop()
        if not complete:
            complete = _operand(symbol, symbols, values, pending, groups)
        elif (
            symbol == "%"
            and symbols[-1:] == ["-"]
            and (pending[-1:] not in ([], ["("]) or symbols[-3:-2] == ["percent"])
        ):
            values[-1] /= 100
        elif symbol in _BINARY:
            level = _LEVEL[symbol]
            _apply(values, pending, level + 1 if level == 4 else level)
            pending.append(symbol)
            complete = False
        elif symbol == ")" and groups:
            _close(values, pending, groups.pop())
        elif symbol[0] == "," and groups and groups[-1].function:
            _apply(values, pending, 1)
            groups[-1].spaced = groups[-1].spaced or symbol != ","
            complete = False
        elif symbol == "percent":
            values[-1] /= 100
        elif symbol == "!":
            values[-1] = _factorial(values[-1])
        elif symbol in {"x", "X"} and symbols and (symbols[-1][0].isdecimal() or symbols[-1][0] in "(.$"):
            symbols.append("*")
        elif symbol == "(" or symbol.lower() in {"pi", *_FUNCTIONS}:  # implicit multiplication
            symbols += [symbol, "*"]
        else:
            raise _unexpected(symbol)
    if complete:
        _apply(values, pending, 1)
    if not complete or pending:
        raise ToolError("syntax", "the formula is not complete")
    return values[0]


def _operand(symbol: str, symbols: list[str], values: list[Number], pending: list[str], groups: list[_Group]) -> bool:
    """Process a symbol where an operand is expected; return whether it completes the operand."""
    if symbol == "(":
        pending.append("(")
        groups.append(_Group("", len(values)))
    elif symbol == "-":
        pending.append(_MINUS)
    elif symbol == "+" or (symbol in CURRENCY and symbols and symbols[-1] in {"-", "("}):
        pass
    elif symbol.lower() == "pi":
        values.append(math.pi)
        return True
    elif symbol.lower() in _FUNCTIONS and symbols and symbols[-1] == "(":
        pending.append(symbols.pop())
        groups.append(_Group(symbol.lower(), len(values)))
    elif "," in symbol[1:] and groups and groups[-1].function:
        parts = symbol.split(",")
        if any(part[0] == "0" for part in parts[1:]):
            raise ToolError("syntax", "a comma that groups digits among commas that separate arguments")
        groups[-1].tight = True
        symbols += ",".join(reversed(parts)).replace(",", " , ").split()
    elif symbol[0].isdecimal() or (symbol[0] in "." + CURRENCY and len(symbol) > 1):
        values.append(_literal(symbol))
        return True
    else:
        raise _unexpected(symbol)
    return False


def _literal(symbol: str) -> Number:
    digits = symbol.lstrip(CURRENCY).replace(",", "").replace("_", "")
    if digits.isdecimal() and len(digits) < 320:
        return int(digits)
    value = float(digits)
    if value > MAX_FLOAT:
        raise OverflowError
    return value


def _apply(values: list[Number], pending: list[str], level: int) -> None:
    """Apply the pending operators of at least this level, back to the last open parenthesis."""
    while pending and _LEVEL[pending[-1]] >= level:
        name = pending.pop()
        if name is _MINUS:
            values[-1] = -values[-1]
            continue
        right = values.pop()
        values[-1] = _bounded(_BINARY[name][1](values[-1], right))


def _close(values: list[Number], pending: list[str], group: _Group) -> None:
    """Close a parenthesis; the values above its base are the arguments of its function."""
    _apply(values, pending, 1)
    pending.pop()
    if not group.function:
        return
    if group.tight and group.spaced:
        raise ToolError("syntax", "commas that may group digits among commas that separate arguments")
    arguments = values[group.base :]
    try:
        values[group.base :] = [_bounded(_FUNCTIONS[group.function](*arguments))]
    except TypeError:
        raise ToolError("syntax", f"{group.function} does not take {len(arguments)} arguments") from None
    except ValueError as error:
        raise ToolError("domain", f"{group.function}: {error}") from None


def _bounded(value: Number) -> Number:
    if value.bit_length() > _MAX_BITS if isinstance(value, int) else not -MAX_FLOAT <= value <= MAX_FLOAT:
        raise OverflowError
    return value


def _unexpected(symbol: str) -> ToolError:
    if symbol[0].isalpha():
        return ToolError("unknown_name", f"{symbol[:40]!r} is not a name that the calculator knows")
    return ToolError("syntax", f"{symbol[:40]!r} does not fit here")
