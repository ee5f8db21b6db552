"""The demo functions: correct values, and a value or a `ToolError` for any text."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

import pytest

from toolrlef_data.records import ToolError
from toolrlef_data.tables.fingerprint import canonical, code_digest
from toolrlef_data.toolbench.search.demo_functions import (
    DEMO_FUNCTIONS,
    UNITS,
    calculator,
    calendar,
    convert_units,
    search,
)
from toolrlef_data.tools.functions.execution import call
from toolrlef_data.tools.functions.function import functions_by_name

HOSTILE = ["", " ", "\x00", "x" * 1_000_000, "(" * 100_000, "\ud800", "1e999", "__class__", "9" * 5000, "٣", "%s{0}"]


@pytest.mark.parametrize(
    ("value", "source", "target", "converted"),
    [
        (5, "mile", "km", 8.04672),
        (0.1, "km", "m", 100.0),  # exactly a tenth
        (1, "Nautical  Miles", "METRES", 1852.0),
        (1, "cubic_metre", "litre", 1000.0),
        (1, "us gallon", "cup", 16.0),
        (8, "imperial_pint", "imperial gallon", 1.0),
        (14, "pounds", "stone", 1.0),
        (16, "oz", "lb", 1.0),
        (-40, "F", "C", -40.0),
        (100, "celsius", "fahrenheit", 212.0),
        (-273.15, "°C", "K", 0.0),
        (-459.67, "°F", "celsius", -273.15),
        (1, "week", "h", 168.0),
        (36, "km/h", "m/s", 10.0),
        (1, "knot", "km/h", 1.852),
        (0, "kg", "g", 0.0),
        (-3, "ft", "in", -36.0),
    ],
)
def test_unit_conversions(value: float, source: str, target: str, converted: float) -> None:
    assert convert_units(value, source, target) == converted


def test_units_convert_there_and_back() -> None:
    for name in UNITS:
        base = next(other for other, unit in UNITS.items() if unit.kind == UNITS[name].kind)
        assert UNITS[base].factor == 1, "the first unit of a kind is its base unit"
        converted = convert_units(12.5, name, base)
        assert math.isclose(convert_units(converted, base, name), 12.5), name
        assert UNITS[name].factor > 0, name
        assert isinstance(UNITS[name].zero, Fraction), name


@pytest.mark.parametrize(
    ("value", "source", "target", "kind"),
    [
        (1, "km", "kg", "domain"),
        (1, "month", "day", "unknown_name"),  # which month?
        (1, "km", "", "unknown_name"),
        (-1, "kelvin", "celsius", "domain"),
        (1e308, "km", "mm", "overflow"),
        (10**400, "km", "m", "overflow"),
        (float("nan"), "km", "m", "domain"),
        (float("-inf"), "km", "m", "domain"),
    ],
)
def test_invalid_quantities(value: float, source: str, target: str, kind: str) -> None:
    with pytest.raises(ToolError) as raised:
        convert_units(value, source, target)
    assert raised.value.kind == kind


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (("weekday", "2024-02-29"), "Thursday"),
        (("weekday", "0001-01-01"), "Monday"),
        (("weekday", "9999-12-31"), "Friday"),
        (("days_between", "2023-12-31", "2024-12-31"), 366),
        (("days_between", "2024-03-01", "2024-02-28"), -2),
        (("add_days", "2024-02-28", "", 2), "2024-03-01"),
        (("add_days", "2024-03-01", "", -1), "2024-02-29"),
        (("add_days", "1900-02-28", "", 1), "1900-03-01"),  # 1900 was not a leap year
        (("add_days", "2024-01-01"), "2024-01-01"),
    ],
)
def test_calendar_operations(arguments: tuple[Any, ...], value: str | int) -> None:
    assert calendar(*arguments) == value


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("weekday", "2023-02-29"), "domain"),
        (("weekday", "0000-01-01"), "domain"),
        (("weekday", "20240229"), "syntax"),  # also ISO, but Python 3.10 cannot parse it
        (("weekday", "2024-W09-4"), "syntax"),
        (("weekday", "29.2.2024"), "syntax"),
        (("weekday", "２０２４-02-29"), "syntax"),
        (("days_between", "2024-02-29"), "syntax"),
        (("add_days", "9999-12-31", "", 1), "overflow"),
        (("add_days", "2024-02-29", "", -(10**400)), "overflow"),
        (("subtract", "2024-02-29"), "unknown_name"),
    ],
)
def test_invalid_dates(arguments: tuple[Any, ...], kind: str) -> None:
    with pytest.raises(ToolError) as raised:
        calendar(*arguments)
    assert raised.value.kind == kind


def test_calculator_and_search() -> None:
    assert calculator("(12/60)*50") == 10.0
    assert search("highest mountain in Africa")[0].startswith("Kilimanjaro | ")
    with pytest.raises(ToolError, match="zero_division"):
        calculator("1/0")
    with pytest.raises(ToolError, match="no_result"):
        search("zzzqqq")


def test_no_text_causes_a_tool_failure() -> None:
    functions = functions_by_name(DEMO_FUNCTIONS)
    assert list(functions) == ["calculator", "search", "convert_units", "calendar"]
    for text in HOSTILE:
        for name, arguments in [
            ("calculator", {"formula": text}),
            ("search", {"query": text}),
            ("convert_units", {"value": 1, "source": text, "target": text}),
            ("calendar", {"operation": "weekday", "date": text}),
        ]:
            observation = call(functions, name, json.dumps(arguments))
            assert observation.tool_failure is None, (name, text[:20], observation.text)
            assert observation.code in (0, 2, 12)


def test_schemas_and_cache_keys() -> None:
    functions = functions_by_name(DEMO_FUNCTIONS)
    schema = functions["calendar"].schema()
    assert schema["parameters"]["required"] == ["operation", "date"]
    assert schema["parameters"]["properties"]["operation"]["enum"] == ["weekday", "days_between", "add_days"]
    assert all(part["description"] for part in schema["parameters"]["properties"].values())
    for function in functions.values():
        assert function == functions_by_name([function])[function.name]
        assert code_digest(function) == code_digest(functions_by_name([function])[function.name])
    assert len({json.dumps(canonical(function)) for function in functions.values()}) == 4
    assert len({hash(function) for function in functions.values()}) == 4
