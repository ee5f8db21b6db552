"""Every keyword of a schema: the values that it allows, by a naive second implementation, and each message."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from toolrlef_data.records import InputError
from toolrlef_data.tools.functions.arguments import read_arguments, validate_parameters
from toolrlef_data.tools.functions.schemas import BOUNDS, LENGTHS, find_remote_reference

POINT = {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "string"}}, "required": ["x"]}
SCHEMAS: list[Any] = [
    *({"type": kind} for kind in ("integer", "number", "string", "boolean", "null", "array", "object")),
    *({"type": kinds} for kinds in (["integer", "null"], ["string", "number"], ["integer", "other"], [], "other")),
    {"enum": ["a", 1, None, [1], {"x": 1}]},
    {"enum": []},
    {"const": 1},
    {"const": "a"},
    {"minimum": 2, "maximum": 3},
    {"exclusiveMinimum": 1, "exclusiveMaximum": 3},
    {"minLength": 1, "maxLength": 2},
    {"minItems": 1, "maxItems": 2},
    {"minProperties": 1, "maxProperties": 2},
    {"multipleOf": 2},
    {"multipleOf": 2**53},
    {"multipleOf": 2**53 + 1},
    {"uniqueItems": True},
    {"uniqueItems": False},
    {"items": {"type": "integer"}},
    {"items": False},
    {"items": True},
    {"items": [{"type": "integer"}, {"type": "string"}]},
    {"prefixItems": [{"type": "integer"}], "items": {"type": "string"}},
    POINT,
    {**POINT, "additionalProperties": False},
    {**POINT, "additionalProperties": {"type": "integer"}},
    {"additionalProperties": {"type": "integer"}},
    {"additionalProperties": False, "patternProperties": {"z": {}}},
    {"required": ["x", "z"]},
    {"type": "string", "nullable": True},
    {"type": "string", "nullable": False},
    {"allOf": [{"minimum": 2}, {"maximum": 3}]},
    {"anyOf": [{"type": "integer"}, {"type": "string", "minLength": 2}]},
    {"oneOf": [{"type": "integer"}, {"type": "number"}]},
    {"$ref": "#/$defs/point"},
    {"$ref": "#/$defs/list/0"},
    {"$ref": "#/$defs/a~1b~0"},
    {"$ref": "#/$defs/a%20b"},
    {"$ref": "#/$defs/none"},
    {"$ref": "#/$defs/list/01x"},
    {"pattern": "^z", "format": "date", "not": {}, "contains": {"type": "null"}},
]
DEFINITIONS: dict[str, Any] = {
    "point": POINT,
    "list": [{"type": "string"}],
    "a/b~": {"minimum": 2},
    "a b": {"type": "null"},
}
VALUES: list[Any] = [
    *(None, True, False, 0, 1, 1.0, 1.5, 2, 3, 3.0, 4, -1, 2**53, "", "a", "ab", "abc", "\u00e9"),
    *([], [1], [1, 1], [1, 1.0], [1, "a"], ["a", 1], [1, "a", "b"], [1, 2, 3], [{"x": 1}, {"x": 1}], [None]),
    *(
        {},
        {"x": 1},
        {"x": "a"},
        {"y": "a"},
        {"x": 1, "y": 2},
        {"x": 1, "z": 2},
        {"x": 1, "z": "a"},
        {"x": 1, "y": "a", "z": 3},
    ),
]


def kind_of(value: Any) -> str:
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "null")


def has_type(value: Any, kind: str) -> bool:
    return kind_of(value) == kind or (kind == "integer" and kind_of(value) == "number" and value == int(value))


def is_same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal: 1 equals 1.0, but not true."""
    return bool(one == other) and kind_of(one) == kind_of(other)


def resolve(reference: str) -> Any:
    """Return the target of a reference to the definitions, or the schema that allows everything."""
    node: Any = DEFINITIONS
    for part in reference.removeprefix("#/$defs/").replace("%20", " ").split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        node = (node[int(name)] if name.isdecimal() else {}) if isinstance(node, list) else node.get(name, {})
    return node


def allows(schema: Any, value: Any) -> bool:
    """Return whether a schema allows a value, read from the specification of each keyword."""
    if isinstance(schema, bool):
        return schema
    if schema.get("nullable") and value is None:
        return True
    kinds = schema.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    is_known = bool(kinds) and "other" not in kinds
    results = [not is_known or any(has_type(value, kind) for kind in kinds)]
    if "enum" in schema:
        results.append(any(is_same(value, item) for item in schema["enum"]))
    if "const" in schema:
        results.append(is_same(value, schema["const"]))
    if kind_of(value) == "number":
        results += [value >= schema.get("minimum", value), value <= schema.get("maximum", value)]
        results.append("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
        results.append("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"])
        results.append(
            schema.get("multipleOf", 1) > 2**53 or "multipleOf" not in schema or value % schema["multipleOf"] == 0
        )
    for kind, unit in (("string", "Length"), ("array", "Items"), ("object", "Properties")):
        if kind_of(value) == kind:
            size = len(value)
            results += [size >= schema.get(f"min{unit}", size), size <= schema.get(f"max{unit}", size)]
    if isinstance(value, list):
        items = schema.get("items", True)
        first = items if isinstance(items, list) else schema.get("prefixItems", [])
        results += [allows(part, item) for part, item in zip(first, value, strict=False)]
        if not isinstance(items, list):
            results += [allows(items, item) for item in value[len(first) :]]
        if schema.get("uniqueItems") is True:
            results.append(len({json.dumps(item) for item in value}) == len(value))
    if isinstance(value, dict):
        named = schema.get("properties", {})
        additional = True if "patternProperties" in schema else schema.get("additionalProperties", True)
        results += [allows(named.get(name, additional), item) for name, item in value.items()]
        results += [name in value for name in schema.get("required", [])]
    results += [allows(part, value) for part in schema.get("allOf", [])]
    for keyword in ("anyOf", "oneOf"):  # one alternative suffices
        results.append(keyword not in schema or any(allows(part, value) for part in schema[keyword]))
    results.append("$ref" not in schema or allows(resolve(schema["$ref"]), value))
    return all(results)


def read(schema: Any, value: Any) -> dict[str, Any] | str:
    root = {"type": "object", "properties": {"a": schema}, "$defs": DEFINITIONS}
    return read_arguments(json.dumps({"a": value}), validate_parameters(root, "f"))


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[:60])
def test_a_keyword_allows_what_its_specification_allows(schema: Any) -> None:
    for value in VALUES:
        found = read(schema, value)
        assert isinstance(found, dict) == allows(schema, value), (value, found)
        assert isinstance(found, str) or found == {"a": value}


@pytest.mark.parametrize(
    ("schema", "value", "message"),
    [
        ({"minimum": 2}, 1, "at least 2"),
        ({"maximum": 2}, 3, "at most 2"),
        ({"exclusiveMinimum": 2.5}, 1, "more than 2.5"),
        ({"exclusiveMaximum": 2}, 3, "less than 2"),
        ({"minLength": 2}, "a", "at least 2 characters long"),
        ({"maxLength": 2}, "abc", "at most 2 characters long"),
        ({"minItems": 2}, [], "at least 2 items long"),
        ({"maxItems": 0}, [1], "at most 0 items long"),
        ({"minProperties": 2}, {}, "an object of at least 2 parameters"),
        ({"maxProperties": 0}, {"x": 1}, "an object of at most 0 parameters"),
        ({"multipleOf": 2}, 3, "a multiple of 2"),
        ({"uniqueItems": True}, [1, 1], "an array in which nothing stands twice"),
        ({"const": {"x": "\u00e9"}}, 1, '{"x": "\u00e9"}'),
        ({"enum": ["\u00e9", 1]}, 2, 'one of ["\u00e9", 1]'),
        ({"type": "integer"}, 1.5, "integer, found number"),
        ({"type": ["integer", "null"]}, "a", "integer or null, found string"),
        ({"allOf": [{"type": "string"}]}, [], "string, found array"),
        ({"anyOf": [{"type": "string"}, {"type": ["null", "string"]}]}, 1, "string or null, found number"),
        ({"anyOf": [{"minimum": 5}, {"maximum": 1}]}, 3, "as one of its 2 schemas says"),
        ({"oneOf": [{"type": "string"}, {"minimum": 5}]}, 3, "at least 5"),
        ({"anyOf": [{"const": 1}, {"type": "integer", "minimum": 5}]}, 3, "at least 5"),
        ({"anyOf": [{"const": 1}, {"enum": [2]}]}, 3, "as one of its 2 schemas says"),
        ({"minimum": 10**50}, 3, f"at least {'1' + '0' * 39}"),
    ],
)
def test_the_message_of_a_keyword(schema: Any, value: Any, message: str) -> None:
    assert read(schema, value) == f"the parameter 'a' must be {message}"
    assert read({"properties": {"b": schema}}, {"b": value}) == f"the parameter 'a.b' must be {message}"
    assert read({"items": schema}, [value]) == f"the parameter 'a[0]' must be {message}"


def test_every_bound_and_length_has_a_message() -> None:
    assert [*BOUNDS] == ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]
    units = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "multipleOf")
    assert (*LENGTHS,) == units


EXTRA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("schema", "text", "found"),
    [
        ({"type": "object"}, '{"b": 1}', "there is no parameter 'b'; the parameters are none"),
        (EXTRA, '{"b": 1}', "there is no parameter 'b'; the parameters are a"),
        ({**EXTRA, "additionalProperties": False}, '{"b": 1}', "there is no parameter 'b'; the parameters are a"),
        ({**EXTRA, "additionalProperties": True}, '{"b": 1, "a": 2.0}', {"b": 1, "a": 2}),
        ({**EXTRA, "additionalProperties": {}}, '{"b": 1.0}', {"b": 1.0}),
        ({**EXTRA, "additionalProperties": {"type": "null"}}, '{"b": 1}', "the parameter 'b' must be null, found number"),
        ({**EXTRA, "required": ["a"]}, "{}", "the parameter 'a' is required; the parameters are a"),
        ({**EXTRA, "nullable": True}, "null", "the arguments must be a JSON object, found null"),
        ({**EXTRA, "maxProperties": 0}, '{"a": 1}', "the arguments must be an object of at most 0 parameters"),
        ({**EXTRA, "minProperties": 1}, "{}", "the arguments must be an object of at least 1 parameters"),
        ({**EXTRA, "anyOf": [{"required": ["a"]}]}, "{}", "the parameter 'a' is required; the parameters are none"),
        ({"type": "object", "properties": {"a": {"type": ["integer", "number"]}}}, '{"a": 2.0}', {"a": 2.0}),
        ({"type": "object", "properties": {"a": {"type": ["integer", "null"]}}}, '{"a": 2.0}', {"a": 2}),
        ({"type": "object", "properties": {"a": POINT}}, '{"a": {"y": "b"}}', "the parameter 'a.x' is required; the parameters of 'a' are x, y"),
        ({"type": "object", "properties": {"a": {"additionalProperties": False}}}, '{"a": {"y": 1}}', "there is no parameter 'a.y'; the parameters of 'a' are none"),
        (EXTRA, "[]", "the arguments must be a JSON object, found array"),
        (EXTRA, "1.5", "the arguments must be a JSON object, found number"),
        (EXTRA, "true", "the arguments must be a JSON object, found boolean"),
    ],
)  # fmt: skip
def test_the_arguments_as_a_whole(schema: Any, text: str, found: Any) -> None:
    result = read_arguments(text, validate_parameters(schema, "f"))
    assert result == found
    assert isinstance(result, str) or [*map(type, result.values())] == [*map(type, found.values())]


OBJECT = 'f: parameters must be a JSON schema with "type": "object", found '
FETCHED = (
    "f: remote schemas are never fetched, found a reference to 'x'. Copy the schema to \"$defs\" and refer to it as "
)
FETCHED += '"#/$defs/NAME"'


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("5", f"{OBJECT}5"),
        ({"type": "array"}, OBJECT + '{"type": "array"}'),
        ({"type": ["object"]}, OBJECT + '{"type": ["object"]}'),
        ("{", "f: parameters must be a JSON schema: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ({"type": "object", "properties": []}, 'f: "properties" must map each parameter to a schema, found []'),
        ({"type": "object", "properties": {"a": 1}}, "f: \"properties\" must map each parameter to a schema, found {'a': 1}"),
        ({"type": "object", "required": "a"}, "f: \"required\" must be a list of parameter names, found 'a'"),
        ({"type": "object", "required": ["a"]}, "f: \"required\" must be a list of parameter names, found ['a']"),
        ({"type": "object", "properties": {"a": {}}, "required": ["a", 1]}, "f: \"required\" must be a list of parameter names, found ['a', 1]"),
        ({"type": "object", "properties": {"a": {"type": 5}}}, "f: the schema of the parameter 'a' is invalid: {'type': 5}"),
        ({"type": "object", "properties": {"a": {"type": ["null", 5]}}}, "f: the schema of the parameter 'a' is invalid: {'type': ['null', 5]}"),
        ({"type": "object", "properties": {"a": {"enum": "x"}}}, "f: the schema of the parameter 'a' is invalid: {'enum': 'x'}"),
        ({"type": "object", "properties": {"a": {"$ref": "x"}}}, FETCHED),
    ],
)  # fmt: skip
def test_the_message_of_a_refused_schema(parameters: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        validate_parameters(parameters, "f")


def test_a_schema_is_stored_in_the_same_order() -> None:
    text = '{"z": "\u00e9", "type": "object", "required": ["b"], "properties": {"b": {}, "a": {}}}'
    assert validate_parameters(text, "f") == validate_parameters(json.loads(text), "f") == text
    assert validate_parameters('{"type":"object"}', "f") == '{"type": "object", "properties": {}}'


def test_a_reference_to_another_document_is_found_at_any_depth() -> None:
    reference = {"$ref": "x"}
    for keyword in ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"):
        assert find_remote_reference({keyword: dict.fromkeys(("const", "a"), reference)}) == "x", keyword
        assert find_remote_reference({keyword: {"default": {"default": reference}}}) is None, keyword
        assert find_remote_reference({keyword: {keyword: {"enum": [reference]}}}) is None, keyword
    for keyword in ("const", "default", "enum", "example", "examples"):
        assert (
            find_remote_reference({keyword: [reference]}) is find_remote_reference({"a": {keyword: reference}}) is None
        )
    for word in ("$ref", "$dynamicRef", "$recursiveRef"):
        assert find_remote_reference([{"items": [{"not": {word: "x"}}]}]) == "x", word
        assert find_remote_reference({word: "#/x"}) is find_remote_reference({word: 5}) is None
    assert find_remote_reference({"$ref": ""}) is find_remote_reference(5) is None
