"""The arguments of a call: JSON text that a model wrote, read against the schema of the parameters.

JSON that has two meanings or none in Python is refused (`json_value`), half a character (a lone surrogate), and lists
in lists in lists beyond 64. What of a schema is checked, `schemas` says; a name that `properties` does not list is
refused, unless there are `additionalProperties`. Where a parameter is an integer, 3.0 is read as 3.

The texts of mistakes are shown to models, and so are part of later requests' keys: they do not change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from toolrlef_data.records import InputError, is_text
from toolrlef_data.tools.functions.schemas import (
    BOUNDS,
    LENGTHS,
    first_mistake,
    remote_reference,
    understood,
    validator_of,
)
from toolrlef_data.tools.json_text import json_value

__all__ = ["checked_parameters", "read_arguments"]


def checked_parameters(parameters: Mapping[str, Any] | str, what: str) -> str:
    """A schema of parameters as JSON text, in the order given.

    Raises:
        InputError: it is no JSON schema of an object, or refers to another document.

    >>> checked_parameters({"type": "object"}, "f")
    '{"type": "object", "properties": {}}'
    """
    try:
        written = parameters if isinstance(parameters, str) else json.dumps(parameters, allow_nan=False)
        schema = json_value(written)
        text = json.dumps(schema, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{what}: parameters is a JSON schema: {error}") from None
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise InputError(f'{what}: parameters is a JSON schema with "type": "object", found {text:.200}')
    schema.setdefault("properties", {})
    properties, required = schema["properties"], schema.get("required", [])
    if not isinstance(properties, dict) or not all(isinstance(each, dict) for each in properties.values()):
        raise InputError(f'{what}: "properties" gives a schema for each parameter, found {properties!r:.200}')
    if not isinstance(required, list) or not all(isinstance(name, str) and name in properties for name in required):
        raise InputError(f'{what}: "required" is a list of names of parameters, found {required!r:.200}')
    for name, each in properties.items():
        if not all(isinstance(kind, str) for kind in _kinds(each)) or not isinstance(each.get("enum", []), list):
            raise InputError(f"{what}: the schema of the parameter {name!r:.80} is wrong: {each!r:.200}")
    if remote := remote_reference(schema):
        raise InputError(
            f"{what}: a schema is never fetched, found a reference to {remote!r:.200}; write what it holds "
            'under "$defs", and refer to "#/$defs/NAME"'
        )
    return json.dumps(schema, ensure_ascii=False)


def read_arguments(text: str, parameters: str) -> dict[str, Any] | str:
    """The arguments of a call, or what is wrong with them, for the model.

    Args:
        text: as the model wrote it.
        parameters: a schema, as `checked_parameters` gives it.

    >>> shape = '{"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]}'
    >>> read_arguments('{"days": 3.0}', shape), read_arguments('{"days": "3"}', shape)
    ({'days': 3}, "the parameter 'days' must be integer, found string")
    """
    try:
        given = json_value(text)
    except ValueError as error:
        return f"the arguments are no JSON: {error}"
    if not is_text(json.dumps(given, ensure_ascii=False)):
        return "the arguments are no JSON: half a character (a lone surrogate)"
    if not isinstance(given, dict):
        return f"the arguments must be a JSON object, found {_kind_of(given)}"
    try:
        return _mistake(given, _checks(parameters)) or given
    except RecursionError:
        return "the arguments are too large: too many lists and objects in each other"


class _Checks(NamedTuple):
    """What is asked of arguments, by name; of names that the schema does not list; and of all together."""

    known: str
    required: Sequence[str]
    whole: frozenset[str]  # parameters for which 3.0 is read as 3
    named: Mapping[str, Any]
    others: Any
    together: Any


@lru_cache(maxsize=1024)
def _checks(parameters: str) -> _Checks:
    schema = json.loads(parameters)
    schema.pop("nullable", None)
    properties, copy = schema["properties"], understood(schema)
    whole = {
        name for name, each in properties.items() if {"integer", "number"}.intersection(_kinds(each)) == {"integer"}
    }
    named = {name: validator_of(each) for name, each in copy.pop("properties").items()}
    others = copy.pop("additionalProperties", None) or ({} if schema.get("additionalProperties") else None)
    together = {word: value for word, value in copy.items() if word not in ("type", "required")}
    return _Checks(
        ", ".join(properties) or "none",
        schema.get("required", []),
        frozenset(whole),
        named,
        None if others is None else validator_of(others),
        validator_of(together) if together else None,
    )


def _mistake(given: dict[str, Any], checks: _Checks) -> str:
    """What is wrong with arguments, by what is required and then in the order given; whole numbers become integers."""
    if lacking := [name for name in checks.required if name not in given]:
        return f"the parameter {lacking[0]!r:.80} is required; the parameters are {checks.known:.500}"
    for name, value in given.items():
        check = checks.named.get(name, checks.others)
        if check is None:
            return f"there is no parameter {name!r:.80}; the parameters are {checks.known:.500}"
        if error := first_mistake(check, value):
            return _told(error, name)
        if name in checks.whole and isinstance(value, float) and value.is_integer():
            given[name] = int(value)
    if checks.together is not None and (error := first_mistake(checks.together, given)):
        return _told(error)
    return ""


# What models are told -------------------------------------------------------------------------------------------------


def _told(error: Any, *name: str) -> str:
    """The text of a `ValidationError` of the parameter `name`, or of all arguments; none of the library's is shown."""
    error = _nearest(error)
    place = [*name, *error.absolute_path]
    if error.validator == "additionalProperties":
        return f"there is no parameter {_at(place)}; {_neighbours(error, place[:-1])}"
    if error.validator == "required":
        lacking = next(each for each in error.validator_value if each not in error.instance)
        return f"the parameter {_at([*place, lacking])} is required; {_neighbours(error, place)}"
    return f"{f'the parameter {_at(place)}' if place else 'the arguments'} must be {_expected(error)}"


def _nearest(error: Any) -> Any:
    """The mistake within the one alternative that a value was meant for, if that can be told; else the error itself.

    Alternatives of another type are out of the question, and then those with another constant.
    """
    while error.context:
        alternatives: dict[Any, list[Any]] = {}
        for each in error.context:
            alternatives.setdefault(each.relative_schema_path[0], []).append(each)
        meant = [errors for errors in alternatives.values() if not any(map(_of_type, errors))]
        meant = [errors for errors in meant if not {"const", "enum"} & {each.validator for each in errors}] or meant
        if len(meant) != 1:
            break
        error = meant[0][0]
    return error


def _of_type(error: Any) -> bool:
    return error.validator == "type" and not error.relative_path


def _expected(error: Any) -> str:
    word, value = error.validator, error.validator_value
    if word in ("anyOf", "oneOf"):
        if not all(map(_of_type, error.context)):
            return f"as one of its {len(value)} schemas says"
        word, value = (
            "type",
            list(dict.fromkeys(kind for each in error.context for kind in _listed(each.validator_value))),
        )
    if word == "type":
        return f"{' or '.join(_listed(value)):.200}, found {_kind_of(error.instance)}"
    if word == "uniqueItems":
        return "an array in which nothing stands twice"
    if word in ("enum", "const"):
        return f"{'one of ' if word == 'enum' else ''}{json.dumps(value, ensure_ascii=False):.500}"
    return (BOUNDS | LENGTHS)[word].format(f"{value!r:.40}")


def _at(place: Sequence[Any]) -> str:
    """A place as it is shown: 'trip.stops[2].days'; a parameter of the first level is its name."""
    inner = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in place[1:])
    return f"{place[0] + inner!r:.{200 if inner else 80}}"


def _neighbours(error: Any, place: Sequence[Any]) -> str:
    known = ", ".join(error.schema.get("properties", ())) or "none"
    return f"the parameters {f'of {_at(place)} ' if place else ''}are {known:.500}"


def _kinds(schema: Mapping[str, Any]) -> Sequence[Any]:
    return _listed(schema.get("type", []))


def _listed(kinds: Any) -> Sequence[Any]:
    return kinds if isinstance(kinds, list) else [kinds]


def _kind_of(value: Any) -> str:
    if isinstance(value, (bool, str)) or value is None:
        return {bool: "boolean", str: "string"}.get(type(value), "null")
    return "number" if isinstance(value, (int, float)) else "array" if isinstance(value, list) else "object"
