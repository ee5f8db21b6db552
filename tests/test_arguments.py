"""What a model is told of arguments that do not fit, and that no schema and no arguments do harm."""

from __future__ import annotations

import json
from typing import Any

import pytest

from toolrlef_data.tools.functions import Function, call

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
            if (name, value) not in refused | {("mix", "3.5")}:
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
