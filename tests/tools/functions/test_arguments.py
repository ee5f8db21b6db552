"""Tests of argument validation: error texts for models, and hostile schemas and arguments."""

from __future__ import annotations

import inspect
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from toolrlef_data.records import InputError
from toolrlef_data.tools.functions import schemas
from toolrlef_data.tools.functions.arguments import read_arguments, validate_parameters
from toolrlef_data.tools.functions.execution import call
from toolrlef_data.tools.functions.function import Function

FIRST_LEVEL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "s": {"type": "string"},
        "i": {"type": "integer"},
        "n": {"type": "number"},
        "b": {"type": "boolean"},
        "a": {"type": "array"},
        "o": {"type": "object"},
        "z": {"type": "null"},
        "in": {"type": ["integer", "null"]},
        "si": {"type": ["string", "integer"]},
        "e": {"type": "string", "enum": ["a", "é"]},
        "ei": {"enum": [1, None, True, [1], {"k": 0.5}]},
        "e0": {"type": "integer", "enum": []},
        "sn": {"type": "string", "nullable": True},
        "en": {"type": "string", "enum": ["a"], "nullable": True},
        "up": {"type": "STRING"},
        "fl": {"type": "float", "enum": [0.5, 1]},
        "mix": {"type": ["integer", "date (YYYY-MM-DD)"]},
        "no": {"type": []},
        "any": {},
    },
}
VALUES = ["null", "true", "0", "1.0", "3.5", '"a"', "[1]", '{"k":0.5}']
SEVERAL_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"t": {"type": "string"}, "k": {"type": "integer", "enum": [1, 2]}, "r": {"type": "number"}},
    "required": ["r", "t"],
}


def call_function(schema: dict[str, Any], arguments: str) -> dict[str, Any]:
    function = Function("f", "F.", schema, lambda **arguments: arguments)
    observation = call({"f": function}, "f", arguments)
    assert observation.code in (0, 2), observation.text
    assert len(observation.text) <= 1024 + 3
    is_complete = observation.code == 2 or len(observation.text) < 1024
    content: dict[str, Any] = json.loads(observation.text) if is_complete else {"error": ""}
    assert bool(content["error"]) == (observation.code == 2)
    return content


def error_text(schema: dict[str, Any], arguments: str) -> str:
    return str(call_function(schema, arguments)["error"])


def object_schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


# Error texts are part of reply keys, so they do not change --------------------------------------------------------------

# Parameter, refused values, error text.
TYPE_ERRORS = [
    ("s", "null", "the parameter 's' must be string, found null"),
    ("s", "true", "the parameter 's' must be string, found boolean"),
    ("s", "0 1.0 3.5", "the parameter 's' must be string, found number"),
    ("s", "[1]", "the parameter 's' must be string, found array"),
    ("s", '{"k":0.5}', "the parameter 's' must be string, found object"),
    ("i", "null", "the parameter 'i' must be integer, found null"),
    ("i", "true", "the parameter 'i' must be integer, found boolean"),
    ("i", "3.5", "the parameter 'i' must be integer, found number"),
    ("i", '"a"', "the parameter 'i' must be integer, found string"),
    ("i", "[1]", "the parameter 'i' must be integer, found array"),
    ("i", '{"k":0.5}', "the parameter 'i' must be integer, found object"),
    ("n", "null", "the parameter 'n' must be number, found null"),
    ("n", "true", "the parameter 'n' must be number, found boolean"),
    ("n", '"a"', "the parameter 'n' must be number, found string"),
    ("n", "[1]", "the parameter 'n' must be number, found array"),
    ("n", '{"k":0.5}', "the parameter 'n' must be number, found object"),
    ("b", "null", "the parameter 'b' must be boolean, found null"),
    ("b", "0 1.0 3.5", "the parameter 'b' must be boolean, found number"),
    ("b", '"a"', "the parameter 'b' must be boolean, found string"),
    ("b", "[1]", "the parameter 'b' must be boolean, found array"),
    ("b", '{"k":0.5}', "the parameter 'b' must be boolean, found object"),
    ("a", "null", "the parameter 'a' must be array, found null"),
    ("a", "true", "the parameter 'a' must be array, found boolean"),
    ("a", "0 1.0 3.5", "the parameter 'a' must be array, found number"),
    ("a", '"a"', "the parameter 'a' must be array, found string"),
    ("a", '{"k":0.5}', "the parameter 'a' must be array, found object"),
    ("o", "null", "the parameter 'o' must be object, found null"),
    ("o", "true", "the parameter 'o' must be object, found boolean"),
    ("o", "0 1.0 3.5", "the parameter 'o' must be object, found number"),
    ("o", '"a"', "the parameter 'o' must be object, found string"),
    ("o", "[1]", "the parameter 'o' must be object, found array"),
    ("z", "true", "the parameter 'z' must be null, found boolean"),
    ("z", "0 1.0 3.5", "the parameter 'z' must be null, found number"),
    ("z", '"a"', "the parameter 'z' must be null, found string"),
    ("z", "[1]", "the parameter 'z' must be null, found array"),
    ("z", '{"k":0.5}', "the parameter 'z' must be null, found object"),
    ("in", "true", "the parameter 'in' must be integer or null, found boolean"),
    ("in", "3.5", "the parameter 'in' must be integer or null, found number"),
    ("in", '"a"', "the parameter 'in' must be integer or null, found string"),
    ("in", "[1]", "the parameter 'in' must be integer or null, found array"),
    ("in", '{"k":0.5}', "the parameter 'in' must be integer or null, found object"),
    ("si", "null", "the parameter 'si' must be string or integer, found null"),
    ("si", "true", "the parameter 'si' must be string or integer, found boolean"),
    ("si", "3.5", "the parameter 'si' must be string or integer, found number"),
    ("si", "[1]", "the parameter 'si' must be string or integer, found array"),
    ("si", '{"k":0.5}', "the parameter 'si' must be string or integer, found object"),
    ("e", "null", "the parameter 'e' must be string, found null"),
    ("e", "true", "the parameter 'e' must be string, found boolean"),
    ("e", "0 1.0 3.5", "the parameter 'e' must be string, found number"),
    ("e", "[1]", "the parameter 'e' must be string, found array"),
    ("e", '{"k":0.5}', "the parameter 'e' must be string, found object"),
    ("ei", '0 3.5 "a"', "the parameter 'ei' must be one of [1, null, true, [1], {\"k\": 0.5}]"),
    ("e0", "null", "the parameter 'e0' must be integer, found null"),
    ("e0", "true", "the parameter 'e0' must be integer, found boolean"),
    ("e0", "0 1.0", "the parameter 'e0' must be one of []"),
    ("e0", "3.5", "the parameter 'e0' must be integer, found number"),
    ("e0", '"a"', "the parameter 'e0' must be integer, found string"),
    ("e0", "[1]", "the parameter 'e0' must be integer, found array"),
    ("e0", '{"k":0.5}', "the parameter 'e0' must be integer, found object"),
    ("sn", "true", "the parameter 'sn' must be string, found boolean"),
    ("sn", "0 1.0 3.5", "the parameter 'sn' must be string, found number"),
    ("sn", "[1]", "the parameter 'sn' must be string, found array"),
    ("sn", '{"k":0.5}', "the parameter 'sn' must be string, found object"),
    ("en", "true", "the parameter 'en' must be string, found boolean"),
    ("en", "0 1.0 3.5", "the parameter 'en' must be string, found number"),
    ("en", "[1]", "the parameter 'en' must be string, found array"),
    ("en", '{"k":0.5}', "the parameter 'en' must be string, found object"),
    ("fl", 'null true 0 3.5 "a" [1] {"k":0.5}', "the parameter 'fl' must be one of [0.5, 1]"),
]
ERRORS_OF_SEVERAL = [
    ("{}", "the parameter 'r' is required; the parameters are t, k, r"),
    ('{"t": 5}', "the parameter 'r' is required; the parameters are t, k, r"),
    ('{"k": "x"}', "the parameter 'r' is required; the parameters are t, k, r"),
    ('{"r": "x", "t": 5}', "the parameter 'r' must be number, found string"),
    ('{"t": 5, "r": "x"}', "the parameter 't' must be string, found number"),
    ('{"x": 1, "r": "x", "t": 5}', "there is no parameter 'x'; the parameters are t, k, r"),
    ('{"r": 1, "x": 1, "t": 5}', "there is no parameter 'x'; the parameters are t, k, r"),
    ('{"k": 3, "y": 1, "r": true, "t": null}', "the parameter 'k' must be one of [1, 2]"),
    ('{"r": true, "k": 3, "t": null}', "the parameter 'r' must be number, found boolean"),
    ('{"r": 1, "t": "", "k": 3}', "the parameter 'k' must be one of [1, 2]"),
    ('{"r": 1, "t": "", "k": true}', "the parameter 'k' must be integer, found boolean"),
    ('{"r": 1, "t": "", "T": ""}', "there is no parameter 'T'; the parameters are t, k, r"),
    ("[]", "the arguments must be a JSON object, found array"),
    ("null", "the arguments must be a JSON object, found null"),
    ("7", "the arguments must be a JSON object, found number"),
    ('"x"', "the arguments must be a JSON object, found string"),
    ("true", "the arguments must be a JSON object, found boolean"),
    ("", "the arguments are no JSON: Expecting value: line 1 column 1 (char 0)"),
    ('{"r": NaN}', "the arguments are no JSON: NaN is no number of JSON"),
    ('{"r": 1, "r": 1}', "the arguments are no JSON: 'r' stands twice in one object"),
    ('{"r": 1e999}', "the arguments are no JSON: 1e999 is beyond the range of a float"),
    ('{"t": "\\ud800"}', "the arguments are no JSON: half a character (a lone surrogate)"),
]
FINISH_ERRORS = [
    ("{}", "the parameter 'return_type' is required; the parameters are return_type, final_answer"),
    ('{"return_type": null}', "the parameter 'return_type' must be string, found null"),
    (
        '{"return_type": "give_up"}',
        'the parameter \'return_type\' must be one of ["give_answer", "give_up_and_restart"]',
    ),
    ('{"return_type": "give_answer", "final_answer": 42}', "the parameter 'final_answer' must be string, found number"),
    (
        '{"return_type": "give_answer", "more": 1}',
        "there is no parameter 'more'; the parameters are return_type, final_answer",
    ),
]


@pytest.mark.parametrize(("name", "values", "text"), TYPE_ERRORS)
def test_type_errors(name: str, values: str, text: str) -> None:
    for value in values.split():
        assert error_text(FIRST_LEVEL, f'{{"{name}": {value}}}') == text


def test_all_other_values_are_valid() -> None:
    refused = {(name, value) for name, values, _ in TYPE_ERRORS for value in values.split()}
    for name in FIRST_LEVEL["properties"]:
        for value in VALUES:
            if (name, value) not in refused:
                value_read = call_function(FIRST_LEVEL, f'{{"{name}": {value}}}')["response"][name]
                assert value_read == json.loads(value)
                is_integer = value == "1.0" and name in ("i", "in", "si", "mix")
                assert type(value_read) is (int if is_integer else type(json.loads(value)))


@pytest.mark.parametrize(("arguments", "text"), ERRORS_OF_SEVERAL)
def test_the_first_of_several_errors(arguments: str, text: str) -> None:
    assert error_text(SEVERAL_PARAMETERS, arguments) == text


@pytest.mark.parametrize(("arguments", "text"), FINISH_ERRORS)
def test_errors_of_finish(arguments: str, text: str) -> None:
    assert json.loads(call({}, "Finish", arguments).text)["error"] == text


def test_long_texts_are_truncated() -> None:
    schema = object_schema(
        **{"n" * 200: {"type": ["integer"] * 99}, "e": {"enum": ["x" * 90] * 99}}, **{f"p{i}": {} for i in range(300)}
    )
    types = ("integer or " * 99)[:200]
    assert (
        error_text(schema, json.dumps({"n" * 200: 1.5})) == f"the parameter '{'n' * 79} must be {types}, found number"
    )
    assert error_text(schema, '{"e": 1}') == f"the parameter 'e' must be one of {json.dumps(['x' * 90] * 99)[:500]}"
    names = ", ".join(["n" * 200, "e", *(f"p{i}" for i in range(300))])[:500]
    assert (
        error_text(schema, json.dumps({"m" * 200: 1}))
        == f"there is no parameter '{'m' * 79}; the parameters are {names}"
    )


# Nested values --------------------------------------------------------------------------------------------------------

TRIP: dict[str, Any] = {
    "type": "object",
    "properties": {
        "trip": {
            "type": "object",
            "properties": {
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
                "stops": {"type": "array", "items": {"$ref": "#/$defs/stop"}, "minItems": 1, "uniqueItems": True},
                "note": {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]},
            },
            "required": ["days"],
            "additionalProperties": False,
        },
        "means": {
            "oneOf": [
                {"type": "object", "properties": {"by": {"const": "train"}, "seat": {"type": "integer"}}},
                {"type": "object", "properties": {"by": {"const": "car"}, "seat": {"type": "string"}}},
            ]
        },
        "pair": {"type": "array", "items": [{"type": "string"}, {"type": "number", "nullable": True}]},
        "step": {"type": "integer", "multipleOf": 5, "exclusiveMinimum": 0},
        "tags": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 2},
    },
    "$defs": {
        "stop": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "then": {"$ref": "#/$defs/stop"}},
            "required": ["city"],
        }
    },
}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"trip": {}}, "the parameter 'trip.days' is required; the parameters of 'trip' are days, stops, note"),
        ({"trip": {"days": "2"}}, "the parameter 'trip.days' must be integer, found string"),
        ({"trip": {"days": 0}}, "the parameter 'trip.days' must be at least 1"),
        ({"trip": {"days": 10**4000}}, "the parameter 'trip.days' must be at most 9"),
        ({"trip": {"days": True}}, "the parameter 'trip.days' must be integer, found boolean"),
        (
            {"trip": {"days": 1, "x": 1}},
            "there is no parameter 'trip.x'; the parameters of 'trip' are days, stops, note",
        ),
        ({"trip": {"days": 1, "stops": []}}, "the parameter 'trip.stops' must be at least 1 items long"),
        ({"trip": {"days": 1, "stops": ["Oslo"]}}, "the parameter 'trip.stops[0]' must be object, found string"),
        (
            {"trip": {"days": 1, "stops": [{"city": "a"}, {"city": "a"}]}},
            "the parameter 'trip.stops' must be an array in which nothing stands twice",
        ),
        (
            {"trip": {"days": 1, "stops": [{"city": "a", "then": {"city": "b", "then": {}}}]}},
            "the parameter 'trip.stops[0].then.then.city' is required; "
            "the parameters of 'trip.stops[0].then.then' are city, then",
        ),
        ({"trip": {"days": 1, "note": 5}}, "the parameter 'trip.note' must be string or null, found number"),
        ({"trip": {"days": 1, "note": "long"}}, "the parameter 'trip.note' must be at most 3 characters long"),
        ({"means": {"by": "train", "seat": "x"}}, "the parameter 'means.seat' must be integer, found string"),
        ({"means": {"by": "foot"}}, "the parameter 'means' must be as one of its 2 schemas says"),
        ({"means": 5}, "the parameter 'means' must be object, found number"),
        ({"pair": [1, 2]}, "the parameter 'pair[0]' must be string, found number"),
        ({"pair": ["", ""]}, "the parameter 'pair[1]' must be number, found string"),
        ({"step": 7}, "the parameter 'step' must be a multiple of 5"),
        ({"step": 0}, "the parameter 'step' must be more than 0"),
        ({"tags": {"b": "", "a": 1, "c": 1}}, "the parameter 'tags' must be an object of at most 2 parameters"),
        ({"tags": {"b": 1, "a": 1}}, "the parameter 'tags.b' must be string, found number"),
        ({"tags": {"b" * 999: 1}}, f"the parameter 'tags.{'b' * 194} must be string, found number"),
    ],
)
def test_errors_in_nested_values(arguments: Any, text: str) -> None:
    assert error_text(TRIP, json.dumps(arguments)) == text


def test_valid_nested_values() -> None:
    valid: list[dict[str, Any]] = [
        {"trip": {"days": 3.0, "stops": [{"city": "a", "then": {"city": "b", "more": 1}}], "note": None}},
        {"means": {"by": "car", "seat": "x"}, "pair": ["", None, True], "step": 5, "tags": {"a": "b"}},
    ]
    for arguments in valid:
        assert call_function(TRIP, json.dumps(arguments)) == {"error": "", "response": arguments}


def test_keywords_of_the_root_schema() -> None:
    schema = {**object_schema(a={}, b={}), "anyOf": [{"required": ["a"]}, {"required": ["b"]}], "maxProperties": 1}
    assert error_text(schema, '{"b": 1}') == ""
    assert error_text(schema, "{}") == "the arguments must be as one of its 2 schemas says"
    assert error_text(schema, '{"a": 1, "b": 1}') == "the arguments must be an object of at most 1 parameters"
    assert error_text({**object_schema(a={}), "additionalProperties": {"type": "string"}}, '{"x": 1}') == (
        "the parameter 'x' must be string, found number"
    )


# Untrusted schemas ----------------------------------------------------------------------------------------------------


class RecordingHandler(BaseHTTPRequestHandler):
    paths: list[str]

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_error(404)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def recorded_requests() -> Iterator[tuple[str, list[str]]]:
    RecordingHandler.paths = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), RecordingHandler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/s.json", RecordingHandler.paths
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("word", ["$ref", "$dynamicRef", "$recursiveRef"])
@pytest.mark.parametrize("address", ["{}", "{}#/$defs/x", "file:///etc/passwd", "other.json", "//host/x", "urn:x"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda part: {**object_schema(a={}), **part},
        lambda part: object_schema(a=part),
        lambda part: object_schema(a={"type": "array", "items": {"anyOf": [{}, {"not": part}]}}),
        lambda part: object_schema(a={"properties": {"default": part}}),
        lambda part: {**object_schema(a={"$ref": "#/parts/0"}), "parts": [part]},
        lambda part: {**object_schema(a={}), "$id": "http://127.0.0.1:1/", "$defs": {"unused": part}},
    ],
)
def test_remote_references_are_refused(
    word: str, address: str, wrap: Any, recorded_requests: tuple[str, list[str]]
) -> None:
    url, paths = recorded_requests
    with pytest.raises(InputError, match="never fetched"):
        Function("f", "F.", wrap({word: address.format(url)}), lambda **arguments: arguments)
    assert paths == []


def test_no_url_in_a_schema_is_requested(recorded_requests: tuple[str, list[str]]) -> None:
    url, paths = recorded_requests
    for address in (url, "file:///etc/passwd"):
        inner = {"$id": address, "$schema": address, "$dynamicRef": "#x", "$anchor": "x", "format": "uri"}
        schema = {
            **object_schema(a={**inner, "type": "integer"}, b={"$ref": "#/$defs/b"}),
            **inner,
            "$vocabulary": {address: True},
        }
        schema["$defs"] = {"b": {**inner, "type": "string"}}
        assert error_text(schema, '{"a": "x"}') == "the parameter 'a' must be integer, found string"
        assert error_text(schema, '{"a": 1, "b": 1}') == "the parameter 'b' must be string, found number"
    assert paths == []


def values(*values: Any) -> tuple[Any, ...]:
    return values


INVALID_KEYWORDS: list[dict[str, Any]] = [
    *({"type": kind} for kind in values("STRING", "float", "enum", "date (YYYY-MM-DD)", "", ["string", "any"], [])),
    *(
        {"items": each}
        for each in values(None, 5, "string", [], [None], {"type": None}, {"type": {}}, {"type": [["a"]]})
    ),
    *({word: value} for word in schemas.BOUNDS for value in values("3", None, True, [], {})),
    *({word: value} for word in schemas.LENGTHS for value in values("3", None, True, -1, 0.1, 2.5, [])),
    *({"properties": each} for each in values(None, [], {"a": None}, {"a": "string"}, {"a": {"required": True}})),
    *(
        {word: value}
        for word in ("anyOf", "oneOf", "allOf")
        for value in values(None, [], {}, [None], "x", [{"type": 5}])
    ),
    *({"items": {"enum": value}} for value in values(None, "a", {})),
    *({"required": value} for value in values(True, False, None, "a", [5], [None], {})),
    *({"additionalProperties": value} for value in values(None, 5, "no", [], {"type": "float"})),
    *({"$ref": value} for value in values(None, 5, [], {}, "", "#x", "#/", "#/nowhere", "#/%", "#/properties/9/~2")),
    {"multipleOf": 0},
    {"pattern": "("},
    {"pattern": "(a+)+$"},
    {"pattern": 5},
    {"patternProperties": {"(": {"type": "integer"}, "(a+)+$": False}, "additionalProperties": False},
    {"patternProperties": 5},
    {"format": "no such format"},
    {"format": {}},
    {"uniqueItems": "yes"},
    {"not": 5},
    {"not": {"type": "STRING"}},
    {"if": True, "then": False},
    {"contains": 5},
    {"dependentRequired": 5},
    {"dependencies": {"a": 5}},
    {"propertyNames": {"pattern": "("}},
    {"unevaluatedProperties": "x"},
    {"$schema": 5, "$id": 5, "$anchor": 5, "$defs": 5, "definitions": []},
]
ARGUMENTS = [
    "null",
    "true",
    "0",
    "-1e308",
    "1" * 4300,
    '"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"',
    '""',
    "[]",
    '[1, "a", null]',
]
ARGUMENTS += ["{}", '{"a": 1, "b": [{}]}', '{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!": 1}']


@pytest.mark.parametrize("invalid", INVALID_KEYWORDS, ids=lambda invalid: json.dumps(invalid)[:60])
def test_invalid_keywords_are_ignored(invalid: dict[str, Any]) -> None:
    """A schema without valid keywords accepts all values, at every position of a schema."""
    nested_schema = {"anyOf": [{"allOf": [invalid]}]}
    for schema in (
        object_schema(p=invalid),
        object_schema(p=nested_schema),
        {**object_schema(p={"$ref": "#/x"}), "x": invalid},
        object_schema(p={"$ref": "#/~1"}, **{"/": nested_schema}),
    ):
        for value in ARGUMENTS:
            assert error_text(schema, f'{{"p": {value}}}') == ""
    for value in ARGUMENTS:
        assert error_text(object_schema(p={"items": invalid}), f'{{"p": [{value}]}}') == ""
        assert error_text(object_schema(p={"properties": {"a": invalid}}), f'{{"p": {{"a": {value}}}}}') == ""


def test_a_false_schema_refuses_everything() -> None:
    assert (
        error_text(object_schema(p={"properties": {"a": False}}), '{"p": {"a": 1}}')
        == "the parameter 'p.a' must be one of []"
    )


@pytest.mark.parametrize("value", [*ARGUMENTS, "1e308", "0.1"])
def test_comparison_keywords_never_raise(value: str) -> None:
    words = {**dict.fromkeys(schemas.BOUNDS, 0.5), **dict.fromkeys(schemas.LENGTHS, 10**30), "uniqueItems": True}
    for word, number in words.items():
        text = error_text(object_schema(p={word: number}), f'{{"p": {value}}}')
        assert text == "" or text.startswith("the parameter 'p' must be "), word


@pytest.mark.parametrize(
    "circular",
    [
        {"$ref": "#/properties/p"},
        {"allOf": [{"$ref": "#/$defs/a"}]},
        {"$ref": "#/$defs/a"},
        {"anyOf": [{"type": "integer"}, {"$ref": "#/properties/p"}], "nullable": True},
    ],
)
def test_circular_references_are_ignored(circular: dict[str, Any]) -> None:
    schema = {
        **object_schema(p=circular),
        "$defs": {"a": {"oneOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}},
    }
    assert error_text(schema, '{"p": "x"}') == ""


def test_a_recursive_schema() -> None:
    schema = object_schema(value={"type": "integer"}, next={"$ref": "#"})
    assert error_text(schema, '{"next": {"next": {"value": 1}}}') == ""
    assert error_text(schema, '{"next": {"next": {"value": ""}}}') == (
        "the parameter 'next.next.value' must be integer, found string"
    )


NODE = {"$ref": "#/$defs/node"}
TREE: dict[str, Any] = {
    **object_schema(tree=NODE),
    "$defs": {
        "node": {
            "anyOf": [
                {"type": "object", "properties": {"left": NODE, "right": NODE, "op": {"const": "add"}}},
                {"type": "object", "properties": {"left": NODE, "right": NODE, "op": {"const": "or"}}},
                {"type": "integer"},
            ]
        }
    },
}


def nested(depth: int, leaf: str) -> str:
    return '{"tree": ' + '{"op": "or", "left": ' * depth + leaf + "}" * depth + "}"


def test_nested_alternatives_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each level doubles the work, so 60 levels would never end."""
    monkeypatch.setattr(schemas, "MAX_FOLLOWED", 500)
    assert error_text(TREE, nested(5, "1")) == ""
    text = "the parameter 'tree.left.left.left.left' must be object or integer, found string"
    assert error_text(TREE, nested(4, '"x"')) == text
    for depth in (20, 60):
        assert error_text(TREE, nested(depth, '"x"')).startswith("the arguments are too large")
    assert error_text(TREE, nested(4, '"x"')) == text, "each call has a new budget"


def test_deep_and_long_arguments() -> None:
    schema = object_schema(
        tree={"type": "object", "properties": {"left": {"$ref": "#/properties/tree"}}}, a={"items": {"type": "integer"}}
    )
    assert error_text(schema, nested(30, "{}")) == ""
    limit, used = sys.getrecursionlimit(), len(inspect.stack(0))
    try:
        for extra in range(80, 400, 3):  # at many stack depths
            sys.setrecursionlimit(used + extra)
            assert error_text(schema, nested(60, '{"op": "x", "left": 5}')).startswith("the ")
    finally:
        sys.setrecursionlimit(limit)
    mixed = json.dumps([1, "a", {}, [], None] * 4_000)
    assert error_text(object_schema(a={"uniqueItems": True}), f'{{"a": {mixed}}}').endswith("nothing stands twice")
    assert error_text(schema, f'{{"a": {mixed}}}') == "the parameter 'a[1]' must be integer, found string"
    assert error_text(schema, f'{{"a": {json.dumps([1] * 20_000)}}}') == ""


def nested_alternatives(depth: int) -> dict[str, Any]:
    if not depth:
        return {"type": "string"}
    return {"anyOf": [{"type": "array", "items": nested_alternatives(depth - 1)}] * 2}


def test_branching_is_bounded_but_large_valid_data_passes() -> None:
    """The limit counts alternatives relative to the size of the value; it is not a time limit."""
    value: Any = 0
    for _ in range(12):
        value = [value] * 2
    shape = {"type": "object", "properties": {"a": nested_alternatives(12)}}
    assert "too large" in str(read_arguments(json.dumps({"a": value}), validate_parameters(shape, "f")))
    number = {"$ref": "#/$defs/number"}
    point = {"type": "object", "properties": {"x": number, "y": number}, "required": ["x", "y"]}
    defs = {"number": {"type": "number"}, "point": point}
    shape = {
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"$ref": "#/$defs/point"}}},
        "$defs": defs,
    }
    points = {"a": [{"x": n, "y": 0.5} for n in range(10_000)]}
    assert read_arguments(json.dumps(points), validate_parameters(shape, "f")) == points


def test_a_multiple_of_beyond_the_range_of_a_float_is_ignored() -> None:
    shape = {"type": "object", "properties": {"a": {"type": "number", "multipleOf": 10**400}}}
    assert read_arguments('{"a": 0.5}', validate_parameters(shape, "f")) == {"a": 0.5}


def test_references_in_data_are_ignored() -> None:
    for word in ("enum", "examples"):
        validate_parameters({"type": "object", "properties": {"a": {word: [{"$ref": "http://x/y"}]}}}, "f")
    validate_parameters({"type": "object", "properties": {"a": {"default": {"$ref": "common.yaml"}}}}, "f")
    named = {"type": "object", "properties": {"default": {"$ref": "http://x/y"}}}
    with pytest.raises(InputError, match="never fetched"):
        validate_parameters(named, "f")
