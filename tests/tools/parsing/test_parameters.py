"""Parameters of a tool of several arguments: the end and the values of a list, and the forms of its text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from toolrlef_data.tools.parsing.json_text import LiteralReader
from toolrlef_data.tools.parsing.parameters import Parameters, parameters_in, read_list, render_arguments

NAMES = Parameters(("value", "source", "target"), frozenset({"source"}), frozenset({"value", "source"}))
OPTIONAL = NAMES._replace(required=frozenset())


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("3, km", {"value": 3, "source": "km"}),
        ("3 ,\n km \n", {"value": 3, "source": "km"}),
        ("3,km,", {"value": 3, "source": "km"}),
        ("source=km, value=3", {"value": 3, "source": "km"}),
        ("3, target='m', source = km", {"value": 3, "source": "km", "target": "m"}),
        ("3, 007", {"value": 3, "source": "007"}),  # the source is a text
        ("007, 3", {"value": 7, "source": "3"}),
        ('"3", ["km"]', {"value": "3", "source": ["km"]}),
        ("3, {'a': 1}", {"value": 3, "source": {"a": 1}}),
        ("True, None", {"value": True, "source": "None"}),
        ("nan, null", {"value": "nan", "source": "null"}),
        (".5, +.5e1", {"value": 0.5, "source": "+.5e1"}),
        ("inf, x", {"value": "inf", "source": "x"}),
        ("f(x, y), (z)", {"value": "f(x, y)", "source": "(z)"}),
        ("3 km, it's", {"value": "3 km", "source": "it's"}),
        ("3, a == b", {"value": 3, "source": "a == b"}),
        ("3, km km=4", {"value": 3, "source": "km km=4"}),
        ("half \ud83d, x", {"value": "half \ufffd", "source": "x"}),
        ("1, 2, 3, 4, 5", {"value": 1, "source": "2", "target": 3, "3": 4, "4": 5}),
        ("more=1, value=2", {"value": 2, "more": 1}),
        ('{"source": "km", "value": 3}', {"value": 3, "source": "km"}),
        ('{"source": "km", "more": 3}', {"value": {"source": "km", "more": 3}}),
        ("{}", {"value": {}}),
        ("value={'source': 'km'}", {"value": {"source": "km"}}),
        *(
            (text, "unreadable")
            for text in (
                "3, , km",
                "'a' b, km",
                '"a" b',
                "[1, km",
                "{1 2}, km",
                "value=3, km",
                "a, b=1, c",
            )
        ),
        *((text, "unreadable") for text in ("source=a, source=b", "3, value=4", "a (b", "3, target=", "=3", ", 3")),
    ],
)
def test_the_values_and_the_end_of_a_list(text: str, members: Any) -> None:
    """Whatever stands before the list and behind its parenthesis."""
    before = "see (x) convert("
    if text == "=3":
        members = {"value": "=3"}
    for after in (")", ") and more (x)"):
        whole = f"{before}{text}{after}"
        found = read_list(whole, len(before), LiteralReader(whole), OPTIONAL)
        if members == "unreadable":
            assert found == (0, None)
        else:
            assert found.end == len(before) + len(text) + 1
            assert json.dumps(found.members) == json.dumps(members), "in the order of the parameters"
    assert read_list(f"{before}{text}", len(before), LiteralReader(f"{before}{text}"), NAMES) == (0, None), "cut off"


def test_an_empty_list_is_a_call_without_arguments_unless_some_are_required() -> None:
    for text in ("f()", "f( \n)"):
        reader = LiteralReader(text)
        assert read_list(text, 2, reader, OPTIONAL) == (len(text), {})
        assert read_list(text, 2, reader, NAMES) == (len(text), None)


def test_the_forms_of_a_text_begin_with_the_shortest() -> None:
    forms = {
        '{"value": 3, "source": "km", "target": "m"}': ['3, "km", "m"', 'value=3, source="km", target="m"'],
        '{"value": 3, "target": "\u00e9"}': ['3, target="\u00e9"', 'value=3, target="\u00e9"'],
        '{"source": [1, null]}': ["source=[1, null]", "source=[1, null]"],
        '{"value": 3, "more": true}': ["3, more=true", "value=3, more=true"],
        '{"a \u00e9": 1}': [],  # no keyword
        "{}": ["", ""],
    }
    for text, expected in forms.items():
        assert list(render_arguments(json.loads(text), NAMES)) == [*expected, text]


def test_the_parameters_of_a_schema() -> None:
    schema = {
        "type": "object",
        "properties": {"b": {"type": "string"}, "a": {"type": ["string", "null"]}, "c": {"enum": ["x"]}},
        "required": ["c", "b"],
    }
    assert parameters_in(json.dumps(schema)) == Parameters(("b", "a", "c"), frozenset({"b"}), frozenset({"b", "c"}))
    kinds = {"a": "number", "b": ["integer", "number"], "c": ["integer", "null"], "d": ["integer", "string"]}
    others = {"e": "null", "f": ["null"], "g": [], "h": "boolean", "i": "string"}
    several = {"type": "object", "properties": {name: {"type": kind} for name, kind in (kinds | others).items()}}
    assert parameters_in(json.dumps(several)).numbers == {"a", "b", "c"}
    del schema["required"]
    assert parameters_in(json.dumps(schema)).required == frozenset()


def test_values_and_keywords_are_bound_in_the_order_of_the_parameters() -> None:
    assert NAMES.bind([], {"target": 1, "more": 2, "value": 3}) == {"value": 3, "target": 1, "more": 2}
    assert [*(NAMES.bind([1], {"target": 2, "source": 3}) or {})] == ["value", "source", "target"]
    assert NAMES.bind([1], {"value": 2}) is NAMES.bind([1, 2, 3, 4], {"3": 5}) is None
    assert NAMES.bind([{"source": 1}], {}) == {"source": 1}
    assert NAMES.bind([{"source": 1}], {"target": 2}) == {"value": {"source": 1}, "target": 2}
    assert NAMES.bind([{"source": 1}, 2], {}) == {"value": {"source": 1}, "source": 2}
    assert [NAMES.holds(value) for value in ({"value": 1}, {}, {"more": 1}, ["value"], "value")] == [True] + [False] * 4
