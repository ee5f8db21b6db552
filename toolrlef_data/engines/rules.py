"""Rules: what holds of a setting, said once, in its type, as `Annotated[int, whole(1)]`.

`apply_rules` applies them where settings are made in Python; pydantic does where they are read from a recipe, so that
a mistake is told at its own line.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from numbers import Integral, Real
from typing import Any, NamedTuple, get_type_hints

from toolrlef_data.records import InputError

__all__ = ["Rule", "apply_rules", "is_number", "must_be", "whole"]


class Rule(NamedTuple):
    """What holds of a setting.

    Args:
        apply: gives the value back in its one form, or raises InputError with what is said after the setting's name.
    """

    apply: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema  # only recipes need pydantic

        return core_schema.no_info_after_validator_function(self.apply, handler(source))


def must_be(expected: str, holds: Callable[[Any], object]) -> Rule:
    """A rule that keeps values as they are.

    >>> must_be("a name", str.isidentifier).apply("2")
    Traceback (most recent call last):
    toolrlef_data.records.InputError: must be a name, found '2'
    """

    def apply(value: Any) -> Any:
        if not holds(value):
            raise InputError(f"must be {expected}, found {value!r:.80}")
        return value

    return Rule(apply)


def whole(least: int) -> Rule:
    """A whole number, not below some other."""
    return must_be(
        f"a whole number of at least {least}", lambda value: isinstance(value, Integral) and int(value) >= least
    )


def is_number(value: object, *others: float) -> bool:
    """Whether a value is a finite number, or one of the others.

    >>> is_number(2), is_number("2"), is_number(True), is_number(math.inf), is_number(math.inf, math.inf)
    (True, False, False, False, True)
    """
    return isinstance(value, Real) and not isinstance(value, bool) and (math.isfinite(value) or value in others)


def apply_rules(settings: Any, before: str = "") -> None:
    """Apply the rules of a frozen dataclass, in its `__post_init__`.

    Args:
        settings: the dataclass.
        before: what stands before a field's name in an error.

    Raises:
        InputError: a value against its rule.
    """
    for name, hint in _hints(settings.__class__).items():
        for rule in getattr(hint, "__metadata__", ()):
            try:
                object.__setattr__(settings, name, rule.apply(getattr(settings, name)))
            except InputError as error:
                raise InputError(f"{before}{name} {error}") from None


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)
