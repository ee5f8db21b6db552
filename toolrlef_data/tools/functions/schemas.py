"""Compilation of untrusted JSON schemas into `jsonschema` validators that never access the network and never raise.

A schema is copied first. The copy contains only supported keywords with valid values, in a fixed order, and references
are replaced by copies of their targets. Ignoring a keyword can only make validation more permissive.

Supported:

- type, nullable, enum, const, bounds and lengths, multipleOf with a positive integer, uniqueItems
- items, prefixItems, properties, required, additionalProperties
- allOf, anyOf, oneOf (treated as anyOf)
- $ref to "#" and a JSON pointer

Ignored:

- pattern and patternProperties, because a regular expression can run for hours
- format, not, if, contains, propertyNames, dependent..., unevaluated..., anchors
- invalid values: the type "STRING", a `required` that is not a list, a reference with a missing or circular target
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend
from referencing import Registry

__all__ = ["BOUNDS", "LENGTHS", "copy_schema", "find_remote_reference", "first_error", "make_validator"]

_TYPES: dict[str, Callable[[Any], bool]] = {
    "array": lambda value: isinstance(value, list),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: type(value) is int or (isinstance(value, float) and value.is_integer()),
    "null": lambda value: value is None,
    "number": lambda value: type(value) in (int, float),
    "object": lambda value: isinstance(value, dict),
    "string": lambda value: isinstance(value, str),
}
# Keyword -> its part of an error text. The keywords in BOUNDS have a number as value, those in LENGTHS an integer.
BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
}
LENGTHS = {
    "minLength": "at least {} characters long",
    "maxLength": "at most {} characters long",
    "minItems": "at least {} items long",
    "maxItems": "at most {} items long",
    "minProperties": "an object of at least {} parameters",
    "maxProperties": "an object of at most {} parameters",
    "multipleOf": "a multiple of {}",
}
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
SCHEMA_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")  # name -> schema
VALUES = (
    "const",
    "default",
    "enum",
    "example",
    "examples",
)  # keywords with data: a "$ref" in it is no reference
# Maximum number of references and alternatives to follow for one parameter, since the work can double with each level.
MAX_FOLLOWED = 10_000
FOLLOWED_PER_VALUE = 4  # additional budget for each number, text, list or object in the value
MAX_FACTOR = 2**53  # maximum value of `multipleOf`: the remainder by a larger integer can overflow for a float
_follow_budget: ContextVar[list[int]] = ContextVar("follow_budget")

Schema = dict[str, Any]


def find_remote_reference(schema: Any) -> str | None:
    """Return the first reference to another document, at any depth, or None.

    >>> find_remote_reference({"items": [{"$ref": "https://example.org/x"}, {"$ref": "#/items"}]})
    'https://example.org/x'
    """
    stack = [(schema, False)]
    while stack:
        node, is_map = stack.pop()
        if isinstance(node, dict):
            for reference in map(node.get, REFERENCES):
                if isinstance(reference, str) and reference and not reference.startswith("#"):
                    return reference
            children = ((name, child) for name, child in node.items() if is_map or name not in VALUES)
            stack += [(child, name in SCHEMA_MAPS and not is_map) for name, child in children]
        stack += [(child, False) for child in node] if isinstance(node, list) else ()
    return None


def copy_schema(root: Schema) -> Schema:
    """Return the copy of a schema, as described in the module docstring.

    Each `$ref` is replaced by the copy of its target, so a recursive schema becomes a dict that contains itself.
    """
    targets: dict[str, Schema] = {}
    copy, done = _copy(root, targets), set[str]()
    while pending := [reference for reference in targets if reference not in done]:
        for reference in pending:
            targets[reference].update(_copy(_target(root, reference), targets))
        done.update(pending)
    for target in targets.values():
        if _is_circular(target):
            target.clear()
    return copy


def make_validator(schema: Schema) -> Any:
    """Return a validator for a copied schema; use it through `first_error`."""
    return _Validator(schema, registry=Registry())


def first_error(validator: Any, value: Any) -> Any:
    """Return the first `ValidationError` of a value, or None.

    Raises:
        RecursionError: value and schema are nested too deeply, or too many references and alternatives are followed.
    """
    token = _follow_budget.set([MAX_FOLLOWED + FOLLOWED_PER_VALUE * _count_values(value)])
    try:
        return next(validator.iter_errors(value), None)
    finally:
        _follow_budget.reset(token)


def _count_values(value: Any) -> int:
    """Return the number of JSON values in a value: itself and all nested values."""
    count, stack = 0, [value]
    while stack:
        count += 1
        node = stack.pop()
        stack += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return count


# Copying --------------------------------------------------------------------------------------------------------------


def _is_type(value: Any) -> bool:
    kinds = value if isinstance(value, list) else [value]
    return bool(kinds) and all(isinstance(kind, str) and kind in _TYPES for kind in kinds)


# Keyword without subschemas -> function that returns whether the keyword's value is valid.
_SIMPLE: dict[str, Callable[[Any], bool]] = {
    "type": _is_type,
    "enum": lambda value: isinstance(value, list),
    "const": lambda _: True,
    **dict.fromkeys(BOUNDS, _TYPES["number"]),
    **dict.fromkeys(LENGTHS, lambda value: type(value) is int and value >= 0),
    "multipleOf": lambda value: type(value) is int and 0 < value <= MAX_FACTOR,
    "uniqueItems": lambda value: value is True,
    "required": lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
}


def _copy(schema: Any, targets: dict[str, Schema]) -> Schema:
    """Return the copy of a schema; each reference is added to `targets`, with an empty copy to be filled later."""
    if not isinstance(schema, dict):
        return {"enum": []} if schema is False else {}
    copy = {
        keyword: schema[keyword]
        for keyword, is_valid in _SIMPLE.items()
        if keyword in schema and is_valid(schema[keyword])
    }
    if isinstance(reference := schema.get("$ref"), str):
        copy["refers"] = targets.setdefault(reference, {})
    if isinstance(properties := schema.get("properties"), dict):
        copy["properties"] = {name: _copy(subschema, targets) for name, subschema in properties.items()}
    additional = schema.get("additionalProperties")
    if isinstance(additional, (bool, dict)) and "patternProperties" not in schema:
        copy["additionalProperties"] = additional and _copy(additional, targets)
    items = schema.get("items")
    # Drafts before 2020-12 use a list in "items" for what is now "prefixItems".
    source: Mapping[str, Any] = {**schema, "prefixItems": items} if isinstance(items, list) else schema
    for keyword in ("prefixItems", "allOf", "anyOf", "oneOf"):
        if isinstance(subschemas := source.get(keyword), list) and subschemas:
            copy[keyword] = [_copy(subschema, targets) for subschema in subschemas]
    if isinstance(items, (bool, dict)):
        copy["items"] = _copy(items, targets)
    return {"unlessNull": copy} if schema.get("nullable") else copy


def _target(root: Any, reference: str) -> Any:
    """Return the target of a JSON pointer, or True (the schema that accepts everything) if there is none."""
    node = root
    for part in unquote(reference).split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list) and part.isascii() and part.isdecimal() and len(part) < 9:
            node = dict(enumerate(node)).get(int(part), True)
        else:
            node = node.get(part, True) if isinstance(node, dict) else True
    return node if reference == "#" or reference.startswith("#/") else True


def _in_place_subschemas(schema: Schema) -> list[Schema]:
    """Return the subschemas that apply to the same value as the schema."""
    single = [schema[keyword] for keyword in ("refers", "unlessNull") if keyword in schema]
    return [*single, *(subschema for keyword in ("allOf", "anyOf", "oneOf") for subschema in schema.get(keyword, ()))]


def _is_circular(target: Schema) -> bool:
    """Whether validation with a schema leads back to the schema with the same value, and would never end."""
    stack, visited = _in_place_subschemas(target), set[int]()
    while stack:
        schema = stack.pop()
        if schema is target:
            return True
        if id(schema) not in visited:
            visited.add(id(schema))
            stack += _in_place_subschemas(schema)
    return False


# Keyword functions of `jsonschema`, which yield the errors of a value -------------------------------------------------

Errors = Iterator[ValidationError]


def _refers(validator: Any, target: Schema, value: Any, schema: Schema) -> Errors:
    """Validate with the copy of the target of a reference."""
    _follow(1)
    yield from validator.descend(value, target)


def _follow(count: int) -> None:
    """Subtract `count` from the budget of references and alternatives; raise RecursionError if it is exceeded."""
    budget = _follow_budget.get()
    budget[0] -= count
    if budget[0] < 0:
        raise RecursionError


def _any_of(validator: Any, schemas: list[Schema], value: Any, schema: Schema) -> Errors:
    """Validate as `jsonschema` does, after charging the alternatives to the budget."""
    _follow(len(schemas))
    yield from Draft202012Validator.VALIDATORS["anyOf"](validator, schemas, value, schema)


def _unless_null(validator: Any, inner: Schema, value: Any, schema: Schema) -> Errors:
    """Validate with the schema that has `nullable`, unless the value is null."""
    if value is not None:
        yield from validator.descend(value, inner)


def _additional(validator: Any, additional: Any, value: Any, schema: Schema) -> Errors:
    """Validate in the order of the value; `jsonschema` uses the order of a set."""
    for name in value if isinstance(value, dict) else ():
        if name not in schema.get("properties", ()):
            if additional is False:
                yield ValidationError("", path=[name])
            else:
                yield from validator.descend(value[name], additional, path=name)


def _unique(validator: Any, unique: bool, value: Any, schema: Schema) -> Errors:
    """Validate in linear time; `jsonschema` compares all pairs. 1 and 1.0 count as different."""
    if isinstance(value, list) and len({json.dumps(item, sort_keys=True) for item in value}) < len(value):
        yield ValidationError("")


# The type checker of `jsonschema` uses a Rust extension that panics on a RecursionError.
_type_checker = SimpleNamespace(is_type=lambda value, kind: _TYPES[kind](value))
_Validator = extend(
    Draft202012Validator,
    {
        "refers": _refers,
        "unlessNull": _unless_null,
        "additionalProperties": _additional,
        "uniqueItems": _unique,
        "anyOf": _any_of,
        "oneOf": _any_of,
    },
    type_checker=_type_checker,
)
