"""Whether the arguments of a call are accepted: the rules of BFCL's check of the syntax tree, for Python types.

Source: `ast_checker.py` of the package bfcl-eval (2026.3.23). Types are exact: an integer counts as a
float, but not the reverse, and no boolean is a number. Texts are compared without blanks, case and the characters
`,./-_*^`. A value of another type is accepted if the accepted values have that type, such as the name of a variable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["TYPES", "are_accepted"]

TYPES: dict[str, type] = {
    "string": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "any": str,
}
MAY_BE_OMITTED = ""  # among the accepted values of a parameter
_ignored = re.compile(r"[ ,./\-_*^]").sub


def are_accepted(
    arguments: Mapping[str, Any], parameters: Mapping[str, Any], accepted: Mapping[str, Sequence[Any]]
) -> bool:
    """Return whether the arguments of a call are those of the right call.

    Args:
        arguments: the arguments by name.
        parameters: the parameters of the function's schema, with properties and required.
        accepted: the accepted values of each parameter.

    >>> schema = {"properties": {"town": {"type": "string"}, "days": {"type": "integer"}}, "required": ["town"]}
    >>> accepted = {"town": ["St. Gallen"], "days": [3, ""]}
    >>> are_accepted({"town": "st gallen"}, schema, accepted), are_accepted({"town": "Bern"}, schema, accepted)
    (True, False)
    """
    properties = parameters["properties"]
    has_all = all(name in arguments for name in parameters["required"])
    has_optional = all(name in arguments or MAY_BE_OMITTED in values for name, values in accepted.items())
    return (
        has_all
        and has_optional
        and all(
            name in properties and name in accepted and _fits(value, properties[name], accepted[name])
            for name, value in arguments.items()
        )
    )


def _fits(value: Any, schema: Mapping[str, Any], accepted: Sequence[Any]) -> bool:
    expected: Any = TYPES[schema["type"]]
    if schema["type"] == "float" and type(value) is int:
        value = float(value)
    # The type of the accepted values, where it differs from that of the schema: the right call has a variable.
    given: Any = _type_of(accepted)
    if type(value) is expected:
        is_variable = given not in (None, expected)
        items = TYPES.get(schema.get("items", {}).get("type")) if expected is list else None
        if items is not None and not any(_have_type(value, items, other) for other in accepted):
            return False
    elif given is not None and type(value) is given:
        is_variable, items = True, None
    else:
        return False
    if is_variable or expected in (int, float, bool):
        return value in accepted
    if expected is dict:
        return _is_object(value, accepted)
    if expected is list and items is dict:
        return any(
            len(value) == len(other) and all(_is_object(*pair) for pair in zip(value, map(_single, other), strict=True))
            for other in accepted
        )
    if expected is list:
        return [_plain(item) for item in value] in [[_plain(item) for item in other] for other in accepted]
    return _plain(value) in [_plain(other) for other in accepted if isinstance(other, str)]


def _type_of(accepted: Sequence[Any]) -> type | None:
    return next((type(value) for value in accepted if value != MAY_BE_OMITTED), None)


def _have_type(values: Sequence[Any], expected: type, accepted: Any) -> bool:
    """Return whether all values of a list have a type, or that of the first item of an accepted list."""
    return isinstance(accepted, list) and all(type(value) in (expected, _type_of(accepted)) for value in values)


def _is_object(value: Mapping[str, Any], accepted: Sequence[Any]) -> bool:
    return any(
        all(key in other and _plain(item) in map(_plain, other[key]) for key, item in value.items())
        and all(key in value or MAY_BE_OMITTED in items for key, items in other.items())
        for other in accepted
        if other != MAY_BE_OMITTED
    )


def _single(value: Any) -> list[Any]:
    return [value]


def _plain(value: Any) -> Any:
    """Return a text as it is compared; other values as they are."""
    return _ignored("", value).lower().replace("'", '"') if isinstance(value, str) else value
