"""The arguments of a call: JSON text that a model wrote, read against the simple part of a schema.

Covered: the type of each parameter of the first level (also a list of types, and `nullable`), `enum`, `required`,
parameters that the schema does not know. JSON that has two meanings or none in Python is refused: a name that stands
twice, NaN, numbers beyond a float or of more than 4,300 digits, half a character (a lone surrogate), lists in lists in
lists beyond 64. A whole number may be written 3.0.

Not covered, taken as it is: everything below the first level, anyOf, $ref, pattern, minimum, format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from toolrlef_data.records import InputError
from toolrlef_data.tools.json_text import json_value

__all__ = ["checked_parameters", "read_arguments"]

TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}


def checked_parameters(parameters: Mapping[str, Any] | str, what: str) -> str:
    """A schema of parameters as JSON text, in the order given.

    Raises:
        InputError: it is no JSON schema of an object.

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
    return json.dumps(schema, ensure_ascii=False)


def read_arguments(text: str, parameters: Mapping[str, Any]) -> dict[str, Any] | str:
    """The arguments of a call, or what is wrong with them, for the model.

    Args:
        text: as the model wrote it.
        parameters: a schema that `checked_parameters` has seen.

    >>> shape = {"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]}
    >>> read_arguments('{"days": 3.0}', shape), read_arguments('{"days": "3"}', shape)
    ({'days': 3}, "the parameter 'days' must be integer, found string")
    """
    try:
        given = json_value(text)
        json.dumps(given, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "the arguments are no JSON: half a character (a lone surrogate)"
    except ValueError as error:
        return f"the arguments are no JSON: {error}"
    if not isinstance(given, dict):
        return f"the arguments must be a JSON object, found {_kind_of(given)}"
    properties = parameters["properties"]
    known = ", ".join(properties) or "none"
    if lacking := [name for name in parameters.get("required", []) if name not in given]:
        return f"the parameter {lacking[0]!r:.80} is required; the parameters are {known:.500}"
    for name, value in given.items():
        if name in properties:
            if wrong := _wrong(value, properties[name]):
                return f"the parameter {name!r:.80} must be {wrong}"
            if isinstance(value, float) and {"integer", "number"}.intersection(_kinds(properties[name])) == {"integer"}:
                given[name] = int(value)
        elif not parameters.get("additionalProperties"):
            return f"there is no parameter {name!r:.80}; the parameters are {known:.500}"
    return given


def _wrong(value: Any, schema: Mapping[str, Any]) -> str:
    """What a value had to be; empty where it fits."""
    kinds = _kinds(schema)
    if value is None and schema.get("nullable"):
        return ""
    if kinds and not any(_fits(value, kind) for kind in kinds):
        return f"{' or '.join(kinds):.200}, found {_kind_of(value)}"
    # True is no 1 in JSON.
    if "enum" in schema and not any(_kind_of(each) == _kind_of(value) and each == value for each in schema["enum"]):
        return f"one of {json.dumps(schema['enum'], ensure_ascii=False):.500}"
    return ""


def _kinds(schema: Mapping[str, Any]) -> Sequence[Any]:
    kinds = schema.get("type", [])
    return kinds if isinstance(kinds, list) else [kinds]


def _fits(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean" or kind not in TYPES
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return kind not in TYPES or isinstance(value, TYPES[kind])


def _kind_of(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "number"
    return next(kind for kind in ("boolean", "string", "array", "object", "null") if _fits(value, kind))
