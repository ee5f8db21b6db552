"""Parsing of a call's arguments and validation against the function's JSON schema.

Arguments must be strict JSON (see `json_value`) with at most 64 levels of nesting and without unpaired surrogates.
`schemas` lists the supported keywords. A name that `properties` does not list is an error unless `additionalProperties`
is set. For an integer parameter, 3.0 is accepted as 3.

Error texts are shown to models and are therefore part of the reply keys of later requests; they must not change.
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
    copy_schema,
    find_remote_reference,
    first_error,
    make_validator,
)
from toolrlef_data.tools.parsing.json_text import json_value

__all__ = ["read_arguments", "validate_parameters"]


def validate_parameters(parameters: Mapping[str, Any] | str, what: str) -> str:
    """Validate the JSON schema of a function's parameters and return it as JSON text, with its keys in the same order.

    Args:
        parameters: the schema, as a mapping or JSON text.
        what: the function's name in messages.

    Raises:
        InputError: the schema is not a JSON schema of an object, or refers to another document.

    >>> validate_parameters({"type": "object"}, "f")
    '{"type": "object", "properties": {}}'
    """
    try:
        json_text = parameters if isinstance(parameters, str) else json.dumps(parameters, allow_nan=False)
        schema = json_value(json_text)
        text = json.dumps(schema, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{what}: parameters must be a JSON schema: {error}") from None
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise InputError(f'{what}: parameters must be a JSON schema with "type": "object", found {text:.200}')
    schema.setdefault("properties", {})
    properties, required = schema["properties"], schema.get("required", [])
    if not isinstance(properties, dict) or not all(isinstance(subschema, dict) for subschema in properties.values()):
        raise InputError(f'{what}: "properties" must map each parameter to a schema, found {properties!r:.200}')
    if not isinstance(required, list) or not all(isinstance(name, str) and name in properties for name in required):
        raise InputError(f'{what}: "required" must be a list of parameter names, found {required!r:.200}')
    for name, subschema in properties.items():
        types_are_text = all(isinstance(kind, str) for kind in _types(subschema))
        if not types_are_text or not isinstance(subschema.get("enum", []), list):
            raise InputError(f"{what}: the schema of the parameter {name!r:.80} is invalid: {subschema!r:.200}")
    if remote := find_remote_reference(schema):
        raise InputError(
            f"{what}: remote schemas are never fetched, found a reference to {remote!r:.200}. Copy the schema to "
            '"$defs" and refer to it as "#/$defs/NAME"'
        )
    return json.dumps(schema, ensure_ascii=False)


def read_arguments(text: str, parameters: str) -> dict[str, Any] | str:
    """Return the arguments of a call, or an error text for the model.

    Args:
        text: the arguments as the model wrote them.
        parameters: a schema returned by `validate_parameters`.

    >>> shape = '{"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]}'
    >>> read_arguments('{"days": 3.0}', shape), read_arguments('{"days": "3"}', shape)
    ({'days': 3}, "the parameter 'days' must be integer, found string")
    """
    try:
        arguments = json_value(text)
    except ValueError as error:
        return f"the arguments are no JSON: {error}"
    if not is_text(json.dumps(arguments, ensure_ascii=False)):
        return "the arguments are no JSON: half a character (a lone surrogate)"
    if not isinstance(arguments, dict):
        return f"the arguments must be a JSON object, found {_type_of(arguments)}"
    try:
        return _error_text(arguments, _checks(parameters)) or arguments
    except RecursionError:
        return "the arguments are too large: too many lists and objects in each other"


class _Checks(NamedTuple):
    """The compiled checks of a schema."""

    names: str  # of all parameters, for messages
    required: Sequence[str]
    integers: frozenset[str]  # parameters for which 3.0 becomes 3
    by_name: Mapping[str, Any]  # parameter -> validator
    additional: Any  # validator of parameters without an entry in `properties`; None if they are not allowed
    overall: Any  # validator of the complete object, or None


@lru_cache(maxsize=1024)
def _checks(parameters: str) -> _Checks:
    """Compile a schema returned by `validate_parameters`."""
    schema = json.loads(parameters)
    schema.pop("nullable", None)
    properties, copy = schema["properties"], copy_schema(schema)
    integers = {
        name
        for name, subschema in properties.items()
        if {"integer", "number"}.intersection(_types(subschema)) == {"integer"}
    }
    by_name = {name: make_validator(subschema) for name, subschema in copy.pop("properties").items()}
    additional = copy.pop("additionalProperties", {})
    is_closed = schema.get("additionalProperties") in (None, False)  # unlike {}, which accepts every value
    overall = {keyword: value for keyword, value in copy.items() if keyword not in ("type", "required")}
    return _Checks(
        ", ".join(properties) or "none",
        schema.get("required", []),
        frozenset(integers),
        by_name,
        None if is_closed else make_validator(additional),
        make_validator(overall) if overall else None,
    )


def _error_text(arguments: dict[str, Any], checks: _Checks) -> str:
    """Return the first error of the arguments, or ""; convert whole floats of integer parameters in place.

    Missing parameters come first, then errors in the order of the arguments.
    """
    if missing := [name for name in checks.required if name not in arguments]:
        return f"the parameter {missing[0]!r:.80} is required; the parameters are {checks.names:.500}"
    for name, value in arguments.items():
        check = checks.by_name.get(name, checks.additional)
        if check is None:
            return f"there is no parameter {name!r:.80}; the parameters are {checks.names:.500}"
        if error := first_error(check, value):
            return _describe(error, name)
        if name in checks.integers and isinstance(value, float) and value.is_integer():
            arguments[name] = int(value)
    if checks.overall is not None and (error := first_error(checks.overall, arguments)):
        return _describe(error)
    return ""


# Error texts for models -----------------------------------------------------------------------------------------------


def _describe(error: Any, *name: str) -> str:
    """Return the error text for the model, instead of the message of `jsonschema`.

    Args:
        error: a `ValidationError`.
        name: the parameter with the error; absent if the error is in the complete arguments.
    """
    error = _most_specific(error)
    path = [*name, *error.absolute_path]
    if error.validator == "additionalProperties":
        return f"there is no parameter {_format_path(path)}; {_available_parameters(error, path[:-1])}"
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"the parameter {_format_path([*path, missing])} is required; {_available_parameters(error, path)}"
    return f"{f'the parameter {_format_path(path)}' if path else 'the arguments'} must be {_expected(error)}"


def _most_specific(error: Any) -> Any:
    """Return the error inside the only plausible alternative of an anyOf or oneOf, else the error itself.

    An alternative is implausible if the value has another type, or differs from its constant.
    """
    while error.context:
        alternatives: dict[Any, list[Any]] = {}
        for inner in error.context:
            alternatives.setdefault(inner.relative_schema_path[0], []).append(inner)
        plausible = [errors for errors in alternatives.values() if not any(map(_is_type_error, errors))]
        plausible = [
            errors for errors in plausible if not {"const", "enum"} & {inner.validator for inner in errors}
        ] or plausible
        if len(plausible) != 1:
            break
        error = plausible[0][0]
    return error


def _is_type_error(error: Any) -> bool:
    return error.validator == "type" and not error.relative_path


def _expected(error: Any) -> str:
    """Return the part of an error text that follows "must be"."""
    keyword, value = error.validator, error.validator_value
    if keyword in ("anyOf", "oneOf"):
        if not all(map(_is_type_error, error.context)):
            return f"as one of its {len(value)} schemas says"
        types = [kind for inner in error.context for kind in _as_list(inner.validator_value)]
        keyword, value = "type", list(dict.fromkeys(types))
    if keyword == "type":
        return f"{' or '.join(_as_list(value)):.200}, found {_type_of(error.instance)}"
    if keyword == "uniqueItems":
        return "an array in which nothing stands twice"
    if keyword in ("enum", "const"):
        return f"{'one of ' if keyword == 'enum' else ''}{json.dumps(value, ensure_ascii=False):.500}"
    return (BOUNDS | LENGTHS)[keyword].format(f"{value!r:.40}")


def _format_path(path: Sequence[Any]) -> str:
    """Return a path as text, such as 'trip.stops[2].days'."""
    inner = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path[1:])
    return f"{path[0] + inner!r:.{200 if inner else 80}}"


def _available_parameters(error: Any, path: Sequence[Any]) -> str:
    """Return a text with the names of the parameters of the object at a path."""
    names = ", ".join(error.schema.get("properties", ())) or "none"
    return f"the parameters {f'of {_format_path(path)} ' if path else ''}are {names:.500}"


def _types(schema: Mapping[str, Any]) -> Sequence[Any]:
    return _as_list(schema.get("type", []))


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _type_of(value: Any) -> str:
    if isinstance(value, (bool, str)) or value is None:
        return {bool: "boolean", str: "string"}.get(type(value), "null")
    return "number" if isinstance(value, (int, float)) else "array" if isinstance(value, list) else "object"
