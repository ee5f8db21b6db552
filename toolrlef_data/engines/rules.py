"""Validation rules for settings, declared in the type of a field: `Annotated[int, integer_from(1)]`.

`apply_rules` applies them to settings created in Python. pydantic applies them to settings read from a recipe, so that
an error refers to its line.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from numbers import Integral, Real
from typing import Any, NamedTuple, get_type_hints

from toolrlef_data.records import InputError, is_text

__all__ = [
    "FLAG",
    "FUNCTION",
    "FUNCTION_OR_NONE",
    "NAME",
    "TEXT",
    "Rule",
    "apply_rules",
    "integer_from",
    "is_number",
    "must_be",
]


class Rule(NamedTuple):
    """A validation rule.

    Args:
        apply: value -> normalised value. It raises an InputError for an invalid value; the message follows the name of
            the setting, as in "must be a name".
    """

    apply: Callable[[Any], Any]

    def check(self, name: str, value: Any) -> Any:
        """Return the normalised value of the argument `name` of a function; an error begins with the name.

        >>> integer_from(1).check("samples", 0)
        Traceback (most recent call last):
        toolrlef_data.records.InputError: samples must be an integer of at least 1, found 0
        """
        try:
            return self.apply(value)
        except InputError as error:
            raise InputError(f"{name} {error}") from None

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema  # only recipes need pydantic

        return core_schema.no_info_after_validator_function(self.apply, handler(source))


def must_be(expected: str, is_valid: Callable[[Any], object]) -> Rule:
    """Return a rule that checks values without changing them.

    >>> must_be("a name", str.isidentifier).apply("2")
    Traceback (most recent call last):
    toolrlef_data.records.InputError: must be a name, found '2'
    """

    def apply(value: Any) -> Any:
        if not is_valid(value):
            raise InputError(f"must be {expected}, found {value!r:.80}")
        return value

    return Rule(apply)


NAME = must_be("a name", lambda value: is_text(value) and value.strip())
TEXT = must_be("text", is_text)
FLAG = must_be("True or False", lambda value: isinstance(value, bool))
FUNCTION = must_be("a function", callable)
FUNCTION_OR_NONE = must_be("a function", lambda value: value is None or callable(value))


def integer_from(minimum: int) -> Rule:
    """Return a rule for integers of at least `minimum`; booleans are no integers."""
    return must_be(
        f"an integer of at least {minimum}",
        lambda value: isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= minimum,
    )


def is_number(value: object, *allowed: float) -> bool:
    """Return whether a value is a finite number, or one of the non-finite numbers `allowed`; booleans are no numbers.

    >>> is_number(2), is_number("2"), is_number(True), is_number(math.inf), is_number(math.inf, math.inf)
    (True, False, False, False, True)
    """
    return isinstance(value, Real) and not isinstance(value, bool) and (math.isfinite(value) or value in allowed)


def apply_rules(settings: Any, prefix: str = "") -> None:
    """Validate and normalise the fields of a frozen dataclass; to be called in its `__post_init__`.

    Args:
        settings: the dataclass.
        prefix: text before the field's name in error messages. Default: "".

    Raises:
        InputError: a value violates its rule.
    """
    for name, hint in _type_hints(settings.__class__).items():
        for rule in getattr(hint, "__metadata__", ()):
            object.__setattr__(settings, name, rule.check(f"{prefix}{name}", getattr(settings, name)))


@cache
def _type_hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)
