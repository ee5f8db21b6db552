"""What a model is told of arguments that do not fit, and that no schema and no arguments do harm."""

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
from toolrlef_data.tools.functions.arguments import checked_parameters, read_arguments
from toolrlef_data.tools.functions.function import Function, call

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
SEVERAL: dict[str, Any] = {
    "type": "object",
    "properties": {"t": {"type": "string"}, "k": {"type": "integer", "enum": [1, 2]}, "r": {"type": "number"}},
    "required": ["r", "t"],
}


def answer(schema: dict[str, Any], arguments: str) -> dict[str, Any]:
    function = Function("f", "F.", schema, lambda **given: given)
    seen = call({"f": function}, "f", arguments)
    assert seen.code in (0, 2), seen.text
    assert len(seen.text) <= 1024 + 3
    found: dict[str, Any] = json.loads(seen.text) if seen.code == 2 or len(seen.text) < 1024 else {"error": ""}
    assert bool(found["error"]) == (seen.code == 2)
    return found


def told(schema: dict[str, Any], arguments: str) -> str:
    return str(answer(schema, arguments)["error"])


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


# Texts that stand in reply keys: they never change --------------------------------------------------------------------

# A parameter, the values that it refuses with a text, and the text.
REFUSED = [
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
SEVERAL_MISTAKES = [
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
FINISH_MISTAKES = [
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


@pytest.mark.parametrize(("name", "values", "text"), REFUSED)
def test_texts_of_the_first_level(name: str, values: str, text: str) -> None:
    for value in values.split():
        assert told(FIRST_LEVEL, f'{{"{name}": {value}}}') == text


def test_all_other_values_fit() -> None:
    refused = {(name, value) for name, values, _ in REFUSED for value in values.split()}
    for name in FIRST_LEVEL["properties"]:
        for value in VALUES:
            if (name, value) not in refused:
                found = answer(FIRST_LEVEL, f'{{"{name}": {value}}}')["response"][name]
                assert found == json.loads(value)
                whole = value == "1.0" and name in ("i", "in", "si", "mix")
                assert type(found) is (int if whole else type(json.loads(value)))


@pytest.mark.parametrize(("arguments", "text"), SEVERAL_MISTAKES)
def test_texts_of_several_mistakes(arguments: str, text: str) -> None:
    assert told(SEVERAL, arguments) == text


@pytest.mark.parametrize(("arguments", "text"), FINISH_MISTAKES)
def test_texts_of_finish(arguments: str, text: str) -> None:
    assert json.loads(call({}, "Finish", arguments).text)["error"] == text


def test_long_texts_are_cut() -> None:
    schema = of(
        **{"n" * 200: {"type": ["integer"] * 99}, "e": {"enum": ["x" * 90] * 99}}, **{f"p{i}": {} for i in range(300)}
    )
    kinds = ("integer or " * 99)[:200]
    assert told(schema, json.dumps({"n" * 200: 1.5})) == f"the parameter '{'n' * 79} must be {kinds}, found number"
    assert told(schema, '{"e": 1}') == f"the parameter 'e' must be one of {json.dumps(['x' * 90] * 99)[:500]}"
    known = ", ".join(["n" * 200, "e", *(f"p{i}" for i in range(300))])[:500]
    assert told(schema, json.dumps({"m" * 200: 1})) == f"there is no parameter '{'m' * 79}; the parameters are {known}"


# Below the first level ------------------------------------------------------------------------------------------------

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
def test_texts_below_the_first_level(arguments: Any, text: str) -> None:
    assert told(TRIP, json.dumps(arguments)) == text


def test_what_fits_below_the_first_level() -> None:
    fitting: list[dict[str, Any]] = [
        {"trip": {"days": 3.0, "stops": [{"city": "a", "then": {"city": "b", "more": 1}}], "note": None}},
        {"means": {"by": "car", "seat": "x"}, "pair": ["", None, True], "step": 5, "tags": {"a": "b"}},
    ]
    for arguments in fitting:
        assert answer(TRIP, json.dumps(arguments)) == {"error": "", "response": arguments}


def test_all_arguments_together() -> None:
    schema = {**of(a={}, b={}), "anyOf": [{"required": ["a"]}, {"required": ["b"]}], "maxProperties": 1}
    assert told(schema, '{"b": 1}') == ""
    assert told(schema, "{}") == "the arguments must be as one of its 2 schemas says"
    assert told(schema, '{"a": 1, "b": 1}') == "the arguments must be an object of at most 1 parameters"
    assert told({**of(a={}), "additionalProperties": {"type": "string"}}, '{"x": 1}') == (
        "the parameter 'x' must be string, found number"
    )


# Schemas of somebody else ---------------------------------------------------------------------------------------------


class Counting(BaseHTTPRequestHandler):
    paths: list[str]

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_error(404)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def counted() -> Iterator[tuple[str, list[str]]]:
    Counting.paths = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/s.json", Counting.paths
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("word", ["$ref", "$dynamicRef", "$recursiveRef"])
@pytest.mark.parametrize("address", ["{}", "{}#/$defs/x", "file:///etc/passwd", "other.json", "//host/x", "urn:x"])
@pytest.mark.parametrize(
    "around",
    [
        lambda part: {**of(a={}), **part},
        lambda part: of(a=part),
        lambda part: of(a={"type": "array", "items": {"anyOf": [{}, {"not": part}]}}),
        lambda part: of(a={"properties": {"default": part}}),
        lambda part: {**of(a={"$ref": "#/parts/0"}), "parts": [part]},
        lambda part: {**of(a={}), "$id": "http://127.0.0.1:1/", "$defs": {"unused": part}},
    ],
)
def test_a_reference_to_another_document_is_refused(
    word: str, address: str, around: Any, counted: tuple[str, list[str]]
) -> None:
    url, paths = counted
    with pytest.raises(InputError, match="never fetched"):
        Function("f", "F.", around({word: address.format(url)}), lambda **given: given)
    assert paths == []


def test_no_address_in_a_schema_is_asked(counted: tuple[str, list[str]]) -> None:
    url, paths = counted
    for address in (url, "file:///etc/passwd"):
        inner = {"$id": address, "$schema": address, "$dynamicRef": "#x", "$anchor": "x", "format": "uri"}
        schema = {
            **of(a={**inner, "type": "integer"}, b={"$ref": "#/$defs/b"}),
            **inner,
            "$vocabulary": {address: True},
        }
        schema["$defs"] = {"b": {**inner, "type": "string"}}
        assert told(schema, '{"a": "x"}') == "the parameter 'a' must be integer, found string"
        assert told(schema, '{"a": 1, "b": 1}') == "the parameter 'b' must be string, found number"
    assert paths == []


def these(*values: Any) -> tuple[Any, ...]:
    return values


ODD: list[dict[str, Any]] = [
    *({"type": kind} for kind in these("STRING", "float", "enum", "date (YYYY-MM-DD)", "", ["string", "any"], [])),
    *(
        {"items": each}
        for each in these(None, 5, "string", [], [None], {"type": None}, {"type": {}}, {"type": [["a"]]})
    ),
    *({word: value} for word in schemas.BOUNDS for value in these("3", None, True, [], {})),
    *({word: value} for word in schemas.LENGTHS for value in these("3", None, True, -1, 0.1, 2.5, [])),
    *({"properties": each} for each in these(None, [], {"a": None}, {"a": "string"}, {"a": {"required": True}})),
    *(
        {word: value}
        for word in ("anyOf", "oneOf", "allOf")
        for value in these(None, [], {}, [None], "x", [{"type": 5}])
    ),
    *({"items": {"enum": value}} for value in these(None, "a", {})),
    *({"required": value} for value in these(True, False, None, "a", [5], [None], {})),
    *({"additionalProperties": value} for value in these(None, 5, "no", [], {"type": "float"})),
    *({"$ref": value} for value in these(None, 5, [], {}, "", "#x", "#/", "#/nowhere", "#/%", "#/properties/9/~2")),
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
GIVEN = [
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
GIVEN += ["{}", '{"a": 1, "b": [{}]}', '{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!": 1}']


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: json.dumps(odd)[:60])
def test_a_keyword_that_cannot_be_understood_is_ignored(odd: dict[str, Any]) -> None:
    """At every place; all values fit, as none of the schemas says anything that means something."""
    deeper = {"anyOf": [{"allOf": [odd]}]}
    for schema in (
        of(p=odd),
        of(p=deeper),
        {**of(p={"$ref": "#/x"}), "x": odd},
        of(p={"$ref": "#/~1"}, **{"/": deeper}),
    ):
        for value in GIVEN:
            assert told(schema, f'{{"p": {value}}}') == ""
    for value in GIVEN:
        assert told(of(p={"items": odd}), f'{{"p": [{value}]}}') == ""
        assert told(of(p={"properties": {"a": odd}}), f'{{"p": {{"a": {value}}}}}') == ""


def test_a_false_schema_fits_nothing() -> None:
    assert told(of(p={"properties": {"a": False}}), '{"p": {"a": 1}}') == "the parameter 'p.a' must be one of []"


@pytest.mark.parametrize("value", [*GIVEN, "1e308", "0.1"])
def test_keywords_that_compare_never_raise(value: str) -> None:
    words = {**dict.fromkeys(schemas.BOUNDS, 0.5), **dict.fromkeys(schemas.LENGTHS, 10**30), "uniqueItems": True}
    for word, number in words.items():
        said = told(of(p={word: number}), f'{{"p": {value}}}')
        assert said == "" or said.startswith("the parameter 'p' must be "), word


@pytest.mark.parametrize(
    "circle",
    [
        {"$ref": "#/properties/p"},
        {"allOf": [{"$ref": "#/$defs/a"}]},
        {"$ref": "#/$defs/a"},
        {"anyOf": [{"type": "integer"}, {"$ref": "#/properties/p"}], "nullable": True},
    ],
)
def test_a_reference_that_leads_in_a_circle_is_ignored(circle: dict[str, Any]) -> None:
    schema = {**of(p=circle), "$defs": {"a": {"oneOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}}
    assert told(schema, '{"p": "x"}') == ""


def test_a_schema_that_contains_itself() -> None:
    schema = of(value={"type": "integer"}, next={"$ref": "#"})
    assert told(schema, '{"next": {"next": {"value": 1}}}') == ""
    assert told(schema, '{"next": {"next": {"value": ""}}}') == (
        "the parameter 'next.next.value' must be integer, found string"
    )


NODE = {"$ref": "#/$defs/node"}
TREE: dict[str, Any] = {
    **of(tree=NODE),
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


def test_alternatives_in_each_other_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each level doubles what is asked: 60 would take for ever."""
    monkeypatch.setattr(schemas, "MAX_FOLLOWED", 500)
    assert told(TREE, nested(5, "1")) == ""
    text = "the parameter 'tree.left.left.left.left' must be object or integer, found string"
    assert told(TREE, nested(4, '"x"')) == text
    for depth in (20, 60):
        assert told(TREE, nested(depth, '"x"')).startswith("the arguments are too large")
    assert told(TREE, nested(4, '"x"')) == text, "each call is counted anew"


def test_deep_and_long_arguments_give_a_result() -> None:
    schema = of(
        tree={"type": "object", "properties": {"left": {"$ref": "#/properties/tree"}}}, a={"items": {"type": "integer"}}
    )
    assert told(schema, nested(30, "{}")) == ""
    limit, used = sys.getrecursionlimit(), len(inspect.stack(0))
    try:
        for more in range(80, 400, 3):  # wherever the stack ends
            sys.setrecursionlimit(used + more)
            assert told(schema, nested(60, '{"op": "x", "left": 5}')).startswith("the ")
    finally:
        sys.setrecursionlimit(limit)
    unlike = json.dumps([1, "a", {}, [], None] * 4_000)
    assert told(of(a={"uniqueItems": True}), f'{{"a": {unlike}}}').endswith("nothing stands twice")
    assert told(schema, f'{{"a": {unlike}}}') == "the parameter 'a[1]' must be integer, found string"
    assert told(schema, f'{{"a": {json.dumps([1] * 20_000)}}}') == ""


def nested_alternatives(depth: int) -> dict[str, Any]:
    if not depth:
        return {"type": "string"}
    return {"anyOf": [{"type": "array", "items": nested_alternatives(depth - 1)}] * 2}


def test_alternatives_in_each_other_end_and_large_data_that_fits_passes() -> None:
    """The work is bounded by a count and not by a clock: whoever branches without end is told so."""
    value: Any = 0
    for _ in range(12):
        value = [value] * 2
    shape = {"type": "object", "properties": {"a": nested_alternatives(12)}}
    assert "too large" in str(read_arguments(json.dumps({"a": value}), checked_parameters(shape, "f")))
    number = {"$ref": "#/$defs/number"}
    point = {"type": "object", "properties": {"x": number, "y": number}, "required": ["x", "y"]}
    defs = {"number": {"type": "number"}, "point": point}
    shape = {
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"$ref": "#/$defs/point"}}},
        "$defs": defs,
    }
    points = {"a": [{"x": n, "y": 0.5} for n in range(10_000)]}
    assert read_arguments(json.dumps(points), checked_parameters(shape, "f")) == points


def test_a_factor_beyond_a_float_is_ignored() -> None:
    shape = {"type": "object", "properties": {"a": {"type": "number", "multipleOf": 10**400}}}
    assert read_arguments('{"a": 0.5}', checked_parameters(shape, "f")) == {"a": 0.5}


def test_what_looks_like_a_reference_among_values_is_none() -> None:
    for word in ("enum", "examples"):
        checked_parameters({"type": "object", "properties": {"a": {word: [{"$ref": "http://x/y"}]}}}, "f")
    checked_parameters({"type": "object", "properties": {"a": {"default": {"$ref": "common.yaml"}}}}, "f")
    named = {"type": "object", "properties": {"default": {"$ref": "http://x/y"}}}
    with pytest.raises(InputError, match="never fetched"):
        checked_parameters(named, "f")
