"""JSON schemas of somebody else, as validators of `jsonschema` that never fetch anything and never raise.

A schema is copied before it is used. The copy holds what stands in the tables below, where its value means something,
in one order; a reference becomes the copy of its target. Whatever is ignored, more is accepted and never less.

Read: type, nullable, enum, const, bounds and lengths, multipleOf whole numbers, uniqueItems, items, prefixItems,
properties, required, additionalProperties, allOf, anyOf, oneOf (as anyOf), $ref to "#" and a JSON pointer.

Ignored: pattern and patternProperties (a regular expression can run for hours), format, not, if, contains,
propertyNames, dependent..., unevaluated..., anchors, and whatever cannot be understood: the type "STRING", a `required`
that is no list, a reference that leads nowhere or in a circle.
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

__all__ = ["BOUNDS", "LENGTHS", "first_mistake", "remote_reference", "understood", "validator_of"]

_TYPES: dict[str, Callable[[Any], bool]] = {
    "array": lambda value: isinstance(value, list),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: type(value) is int or (isinstance(value, float) and value.is_integer()),
    "null": lambda value: value is None,
    "number": lambda value: type(value) in (int, float),
    "object": lambda value: isinstance(value, dict),
    "string": lambda value: isinstance(value, str),
}
# What a value must be, for keywords that hold a number, and for those that hold a whole number.
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
NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")  # hold schemas by name
DATA = ("const", "default", "enum", "example", "examples")  # hold values, in which a reference is none
# References and alternatives that are followed for one parameter; those in each other double the work at each level.
MAX_FOLLOWED = 10_000
FOLLOWED_A_PART = 4  # and more for each number, text, list or object in the value, since each may be asked once
MAX_FACTOR = 2**53  # of `multipleOf`: Python compares a float with no number beyond its range
_left_to_follow: ContextVar[list[int]] = ContextVar("left_to_follow")

Schema = dict[str, Any]


def remote_reference(schema: Any) -> str | None:
    """A reference to another document, wherever it stands; None where all lead into the schema itself.

    >>> remote_reference({"items": [{"$ref": "https://example.org/x"}, {"$ref": "#/items"}]})
    'https://example.org/x'
    """
    left = [(schema, False)]
    while left:
        each, holds_names = left.pop()
        if isinstance(each, dict):
            for found in map(each.get, REFERENCES):
                if isinstance(found, str) and found and not found.startswith("#"):
                    return found
            parts = each.items() if holds_names else ((word, part) for word, part in each.items() if word not in DATA)
            left += [(part, word in NAMED and not holds_names) for word, part in parts]
        left += [(part, False) for part in each] if isinstance(each, list) else ()
    return None


def understood(root: Schema) -> Schema:
    """The copy of a schema; references are Python's, so that it may contain itself."""
    targets: dict[str, Schema] = {}
    copy, done = _copied(root, targets), set[str]()
    while left := [reference for reference in targets if reference not in done]:
        for reference in left:
            targets[reference].update(_copied(_target(root, reference), targets))
        done.update(left)
    for target in targets.values():
        if _leads_to(target):
            target.clear()
    return copy


def validator_of(schema: Schema) -> Any:
    """A validator of a copy; `first_mistake` asks it."""
    return _Validator(schema, registry=Registry())


def first_mistake(validator: Any, value: Any) -> Any:
    """The first `ValidationError` of a value, or None.

    Raises:
        RecursionError: value and schema are too deep in each other, or branch too often.
    """
    token = _left_to_follow.set([MAX_FOLLOWED + FOLLOWED_A_PART * _parts(value)])
    try:
        return next(validator.iter_errors(value), None)
    finally:
        _left_to_follow.reset(token)


def _parts(value: Any) -> int:
    """Numbers, texts, lists and objects in a value."""
    count, left = 0, [value]
    while left:
        count += 1
        each = left.pop()
        left += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
    return count


# The copy -------------------------------------------------------------------------------------------------------------


def _is_type(value: Any) -> bool:
    kinds = value if isinstance(value, list) else [value]
    return bool(kinds) and all(isinstance(kind, str) and kind in _TYPES for kind in kinds)


_PLAIN: dict[str, Callable[[Any], bool]] = {
    "type": _is_type,
    "enum": lambda value: isinstance(value, list),
    "const": lambda _: True,
    **dict.fromkeys(BOUNDS, _TYPES["number"]),
    **dict.fromkeys(LENGTHS, lambda value: type(value) is int and value >= 0),
    "multipleOf": lambda value: type(value) is int and 0 < value <= MAX_FACTOR,
    "uniqueItems": lambda value: value is True,
    "required": lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
}


def _copied(schema: Any, targets: dict[str, Schema]) -> Schema:
    if not isinstance(schema, dict):
        return {"enum": []} if schema is False else {}
    copy = {word: schema[word] for word, fits in _PLAIN.items() if word in schema and fits(schema[word])}
    if isinstance(reference := schema.get("$ref"), str):
        copy["refers"] = targets.setdefault(reference, {})
    if isinstance(properties := schema.get("properties"), dict):
        copy["properties"] = {name: _copied(each, targets) for name, each in properties.items()}
    rest = schema.get("additionalProperties")
    if isinstance(rest, (bool, dict)) and "patternProperties" not in schema:
        copy["additionalProperties"] = rest and _copied(rest, targets)
    items = schema.get("items")
    parts: Mapping[str, Any] = {**schema, "prefixItems": items} if isinstance(items, list) else schema  # before 2020
    for word in ("prefixItems", "allOf", "anyOf", "oneOf"):
        if isinstance(listed := parts.get(word), list) and listed:
            copy[word] = [_copied(each, targets) for each in listed]
    if isinstance(items, (bool, dict)):
        copy["items"] = _copied(items, targets)
    return {"unlessNull": copy} if schema.get("nullable") else copy


def _target(root: Any, reference: str) -> Any:
    """What a JSON pointer leads to; True, which all fits, where that is nothing."""
    place = root
    for part in unquote(reference).split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(place, list) and part.isascii() and part.isdecimal() and len(part) < 9:
            place = dict(enumerate(place)).get(int(part), True)
        else:
            place = place.get(part, True) if isinstance(place, dict) else True
    return place if reference == "#" or reference.startswith("#/") else True


def _same_value(schema: Schema) -> list[Schema]:
    """The schemas that a schema asks about the same value."""
    single = [schema[word] for word in ("refers", "unlessNull") if word in schema]
    return [*single, *(each for word in ("allOf", "anyOf", "oneOf") for each in schema.get(word, ()))]


def _leads_to(target: Schema) -> bool:
    """Whether a schema asks itself about the same value, without end."""
    left, seen = _same_value(target), set[int]()
    while left:
        each = left.pop()
        if each is target:
            return True
        if id(each) not in seen:
            seen.add(id(each))
            left += _same_value(each)
    return False


# Keywords -------------------------------------------------------------------------------------------------------------

Errors = Iterator[ValidationError]


def _refers(validator: Any, target: Schema, value: Any, schema: Schema) -> Errors:
    _follow(1)
    yield from validator.descend(value, target)


def _follow(count: int) -> None:
    left = _left_to_follow.get()
    left[0] -= count
    if left[0] < 0:
        raise RecursionError


def _any_of(validator: Any, schemas: list[Schema], value: Any, schema: Schema) -> Errors:
    _follow(len(schemas))
    yield from Draft202012Validator.VALIDATORS["anyOf"](validator, schemas, value, schema)


def _unless_null(validator: Any, inner: Schema, value: Any, schema: Schema) -> Errors:
    if value is not None:
        yield from validator.descend(value, inner)


def _additional(validator: Any, rest: Any, value: Any, schema: Schema) -> Errors:
    """In the order given, where `jsonschema` takes that of a set."""
    for name in value if isinstance(value, dict) else ():
        if name not in schema.get("properties", ()):
            if rest is False:
                yield ValidationError("", path=[name])
            else:
                yield from validator.descend(value[name], rest, path=name)


def _unique(validator: Any, unique: bool, value: Any, schema: Schema) -> Errors:
    """In linear time, where `jsonschema` compares all with all; 1 and 1.0 count as two."""
    if isinstance(value, list) and len({json.dumps(each, sort_keys=True) for each in value}) < len(value):
        yield ValidationError("")


# The library's own table of types is written in Rust, and panics where it meets a RecursionError.
_types = SimpleNamespace(is_type=lambda value, kind: _TYPES[kind](value))
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
    type_checker=_types,
)
