"""Tools of Python functions: one argument text for every form of a call, and errors by whose fault they are."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import fractions
import json
import uuid
from pathlib import PurePosixPath
from time import process_time as time_used
from typing import Any, Literal
from urllib.error import URLError

import numpy as np
import pytest

from toolrlef_data import InputError, Tool, ToolCall, ToolError, ToolUnavailable, parse_call, render_call, tool_schema
from toolrlef_data.records import CALL_ERRORS, TOOL_FAILURES
from toolrlef_data.tools.parsing.calls import read_call, read_native_calls

METRES = {"km": 1000, "m": 1, "mi": 1609.344}


class Unit(enum.Enum):
    KM = "km"
    M = "m"


def convert(value: float, source: Literal["km", "m", "mi"], target: Literal["km", "m", "mi"] = "m") -> float:
    """Converts a length.

    Args:
        value: The length.
        source: Its unit.
        target: The unit of the result.
    """
    return value * METRES[source] / METRES[target]


def days_between(first: str, last: str) -> int:
    """Counts the days between two dates.

    Args:
        first: A date as YYYY-MM-DD.
        last: A date as YYYY-MM-DD.
    """
    return (datetime.date.fromisoformat(last) - datetime.date.fromisoformat(first)).days


async def look_up(code: str, column: str = "city") -> str:
    """Looks up an airport.

    Args:
        code: Its code.
        column: The column.
    """
    await asyncio.sleep(0)
    table = {"007": {"city": "Bond (Wales)"}}
    if code not in table:
        raise ToolError("unknown_airport", f"no airport {code}")
    return table[code][column]


def total(orders: list[dict[str, int]], options: dict[str, bool] | None = None) -> int:
    """Adds up orders.

    Args:
        orders: Pieces by product.
        options: Whether to double the sum.
    """
    pieces = sum(sum(order.values()) for order in orders)
    return 2 * pieces if options and options.get("double") else pieces


def shout(text: str) -> str:
    """Says it louder.

    Args:
        text: What to say.
    """
    return text.upper()


def scale(value: int, unit: Unit = Unit.M) -> str:
    """Names a length.

    Args:
        value: The length.
        unit: Its unit.
    """
    return f"{value} {unit.name}"


def today() -> str:
    """Says which day it is."""
    return "Monday"


def shorten(text: str, unit: Unit | None = None) -> str:
    """Shortens a unit.

    Args:
        text: Any.
        unit: The unit.
    """
    return text if unit is None else unit.name


def time(zone: str = "UTC") -> str:
    """Says how late it is.

    Args:
        zone: The time zone.
    """
    return f"noon in {zone}"


CONVERT, DAYS, LOOK_UP = (Tool.from_function(convert), Tool.from_function(days_between), Tool.from_function(look_up))
TODAY, TIME = Tool.from_function(today), Tool.from_function(time)
TOTAL, SHOUT, SCALE = (Tool.from_function(total), Tool.from_function(shout), Tool.from_function(scale))
THREE_KM = {"value": 3, "source": "km", "target": "m"}


@pytest.mark.parametrize(
    ("tool", "text", "arguments"),
    [
        (CONVERT, 'convert(3, "km", "m")', THREE_KM),
        (CONVERT, "It is convert(3, km, target='m').", THREE_KM),
        (CONVERT, 'convert(target="m",\n  source="km", value=3,)', THREE_KM),
        (CONVERT, 'convert({"target": "m", "source": "km", "value": 3})', THREE_KM),
        (CONVERT, '{"name": "convert", "arguments": {"source": "km", "target": "m", "value": 3}}', THREE_KM),
        (CONVERT, '{"name": "convert", "arguments": [3, "km", "m"]}', THREE_KM),
        (CONVERT, '<tool_call>{"name": "convert", "arguments": "{\\"value\\": 3, \\"source\\": \\"km\\", \\"target\\": \\"m\\"}"}</tool_call>', THREE_KM),
        (CONVERT, "<function=convert><parameter=source>km</parameter><parameter=value>3</parameter><parameter=target>m</parameter></function>", THREE_KM),
        (CONVERT, "convert(-3.5e2, km)", {"value": -350.0, "source": "km"}),
        (CONVERT, "convert(+.5, km)", {"value": 0.5, "source": "km"}),
        (CONVERT, 'convert("3", (km))', {"value": "3", "source": "(km)"}),  # quotes are a text
        (CONVERT, 'convert(3, "km", "m", "cm")', {**THREE_KM, "3": "cm"}),
        (CONVERT, 'convert(3, "km", to="m")', {"value": 3, "source": "km", "to": "m"}),
        (DAYS, "days_between(2024-02-28, 2024-03-01)", {"first": "2024-02-28", "last": "2024-03-01"}),
        (LOOK_UP, "look_up(007)", {"code": "007"}),
        (LOOK_UP, 'look_up("a \\"b\\", (c")', {"code": 'a "b", (c'}),
        (TOTAL, "total([{'fig': 3}, {'nut': 4}], {'double': True})", {"orders": [{"fig": 3}, {"nut": 4}], "options": {"double": True}}),
        (TOTAL, "total([], None)", {"orders": [], "options": None}),
        (TODAY, "It is today().", {}),
        (TODAY, '{"name": "today", "arguments": {}}', {}),
        (TODAY, '{"name": "today"}', {}),
        (TOTAL, 'total({"orders": [{"fig": 3}]})', {"orders": [{"fig": 3}]}),
        (TOTAL, 'total({"orders": [{"fig": 3}], "nuts": 4})', {"orders": {"orders": [{"fig": 3}], "nuts": 4}}),  # an order
        (TIME, "time()", {}),
        (TIME, "time(Oslo)", {"zone": "Oslo"}),
    ],
)  # fmt: skip
def test_every_form_has_the_same_arguments(tool: Tool, text: str, arguments: dict[str, Any]) -> None:
    reading = read_call(text, tool)
    assert reading.argument is not None
    assert list(json.loads(reading.argument).items()) == list(arguments.items()), "in the order of the signature"
    assert reading.arguments == reading.argument
    rendered = render_call(ToolCall(tool.name, reading.argument), tool)
    assert parse_call(rendered, tool) == (tool.name, reading.argument)
    native = read_native_calls([(tool.name, reading.argument)], tool)
    assert (native.text, native.arguments) == (rendered, reading.argument) if native else False


def test_calls_are_rendered_by_position_and_then_by_keyword() -> None:
    assert render_call(ToolCall("convert", json.dumps(THREE_KM)), CONVERT) == 'convert(3, "km", "m")'
    assert render_call(ToolCall("scale", '{"unit": "km"}'), SCALE) == 'scale(unit="km")'
    assert render_call(ToolCall("shout", "hi, (you)"), SHOUT) == "shout(hi, (you))", "a tool of one text"
    assert read_call("shout(hi, (you))", SHOUT).argument == "hi, (you)"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('convert(3, "km"', "incomplete_call"),
        ('convert(3, "km" "m")', "unreadable_call"),
        ("convert(3, km, value=4)", "unreadable_call"),
        ("convert(value=3, source=km, value=4)", "unreadable_call"),
        ("convert(value=4, km)", "unreadable_call"),
        ("convert(3,, km)", "unreadable_call"),
        ("convert(inf, km)", "unreadable_call"),  # no number of JSON
        ('{"name": "convert", "arguments": {"value": 3', "incomplete_call"),
    ],
)
def test_calls_that_cannot_be_read(text: str, error: str) -> None:
    reading = read_call(text, CONVERT)
    assert (reading.tool, reading.argument, reading.error) == ("convert", None, error)


def test_many_unclosed_calls_take_linear_time() -> None:
    start = time_used()
    for part in ("convert(3, a(", "convert(x ", 'convert("', "convert([", "convert(value="):
        assert read_call(part * 20_000 + ")", CONVERT).tool in ("convert", None)
    assert time_used() - start < 20, "in quadratic time one text takes minutes"


def result(tool: Tool, text: str) -> tuple[Any, str | None, str]:
    argument = read_call(text, tool).argument
    assert argument is not None, text
    return tool.run(argument, raise_bugs=True)


def test_values() -> None:
    assert result(CONVERT, "convert(3, km, m)")[0] == 3000
    assert result(DAYS, "days_between(2024-02-28, 2024-03-01)")[0] == 2
    assert result(LOOK_UP, "look_up(007)")[0] == "Bond (Wales)", "an asynchronous function"
    assert result(TOTAL, "total([{'fig': 3}, {'nut': 4}], options={'double': True})")[0] == 14
    assert result(SHOUT, "shout(hi)")[0] == "HI"
    assert result(SCALE, "scale(3, km)")[0] == "3 KM", "the function receives the member of the Enum"
    units = ("", ', "unit": null', ', "unit": "km"')
    shortened = [result(Tool.from_function(shorten), f'shorten({{"text": "a"{unit}}})')[0] for unit in units]
    assert shortened == ["a", "a", "KM"], "null is no member"

    async def in_notebook() -> Any:
        return result(LOOK_UP, "look_up(007)")[0]

    assert asyncio.run(in_notebook()) == "Bond (Wales)"


class Size(enum.Enum):
    SMALL = 1


def label(units: list[Unit], by_name: dict[str, Unit | int] | None = None, either: Unit | Size = Unit.M) -> str:
    """Writes labels.

    Args:
        units: The units.
        by_name: Units or numbers.
        either: A unit or a size.
    """
    return str([units, by_name, either])


def test_members_of_an_enum_inside_lists_and_unions() -> None:
    tool = Tool.from_function(label)
    call = '{"units": ["km", "m"], "by_name": {"a": "m", "b": 3}, "either": 1}'
    assert tool.run(call).value == str([[Unit.KM, Unit.M], {"a": Unit.M, "b": 3}, Size.SMALL])


@pytest.mark.parametrize(
    ("tool", "text", "kind", "detail"),
    [
        (CONVERT, "convert(3, parsec)", "wrong_arguments", "must be one of"),
        (CONVERT, 'convert("3", km)', "wrong_arguments", "must be number, found string"),
        (CONVERT, "convert(3)", "wrong_arguments", "'source' is required"),
        (CONVERT, "convert(3, km, m, cm)", "wrong_arguments", "no parameter '3'"),
        (DAYS, "days_between(2024-02-30, 2024-03-01)", "invalid_value", "day"),
        (LOOK_UP, "look_up(OSL)", "unknown_airport", "no airport OSL"),
        (TOTAL, "total([{'fig': 'three'}])", "wrong_arguments", "orders[0].fig"),
    ],
)
def test_bad_arguments_are_the_fault_of_the_call(tool: Tool, text: str, kind: str, detail: str) -> None:
    value, error, message = result(tool, text)
    assert (value, error) == (None, kind)
    assert detail in message
    assert kind not in TOOL_FAILURES
    assert kind in CALL_ERRORS or kind == "unknown_airport"


class ReadTimeout(Exception):
    """As in an HTTP client whose exceptions are not those of Python."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ZeroDivisionError(), "zero_division"),
        (ValueError("x" * 999), "invalid_value"),
        (ToolUnavailable("restarting"), "unavailable"),
        (ConnectionRefusedError("refused"), "unavailable"),
        (TimeoutError("slow"), "timeout"),
        (asyncio.TimeoutError(), "timeout"),
        (ReadTimeout("slow"), "timeout"),
        (URLError(ConnectionRefusedError("refused")), "unavailable"),
        (URLError("unknown url type"), None),
        (KeyError("bug"), None),
        (TypeError("bug"), None),
        (OSError("disk"), None),
        (InputError("no corpus"), None),
    ],
)
def test_the_fault_of_an_exception(error: Exception, kind: str | None) -> None:
    def fail(text: str) -> str:
        """Fails.

        Args:
            text: Any.
        """
        raise error

    tool = Tool.from_function(fail)
    if kind is None:
        with pytest.raises(type(error)):
            tool.run("x", raise_bugs=True)
        return
    found = tool.run("x", raise_bugs=True)
    assert found.error == kind
    assert 0 < len(found.detail) <= 210


def giving(value: Any) -> Tool:
    def give(text: str) -> Any:
        """Gives.

        Args:
            text: Any.
        """
        return value

    return Tool.from_function(give)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(2.5), 2.5),
        (np.int64(3), 3),
        (np.array([1, 2]), "[1, 2]"),
        (True, "true"),
        ([1, None], "[1, null]"),
        ({"é": 1}, '{"é": 1}'),
        (Unit.KM, "km"),
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (decimal.Decimal("0.10"), "0.10"),
        (fractions.Fraction(1, 3), "1/3"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("a/b"), "a/b"),
        (datetime.datetime(2024, 2, 29, 12), "2024-02-29 12:00:00"),
        (datetime.time(12, 30), "12:30:00"),
        (datetime.timedelta(days=1), "1 day, 0:00:00"),
        (("a", "b"), ("a", "b")),
    ],
)
def test_what_a_function_returns_is_a_value_for_models(value: Any, expected: Any) -> None:
    assert giving(value).run("x").value == expected


@pytest.mark.parametrize("value", [None, float("nan"), np.float64("inf"), object(), ()])
def test_values_that_are_none_are_bugs(value: Any) -> None:
    tool = giving(value)
    assert tool.run("x").error == "crashed"
    with pytest.raises(TypeError, match="the tool returned"):
        tool.run("x", raise_bugs=True)


def without_hint(text) -> str:  # type: ignore[no-untyped-def]
    """Says.

    Args:
        text: Any.
    """
    return str(text)


def without_entry(text: str) -> str:
    """Says."""
    return text


def wrong_default(text: str, times: int = "two") -> str:  # type: ignore[assignment]
    """Says.

    Args:
        text: Any.
        times: How often.
    """
    return text * times


def any_number(*texts: str) -> str:
    """Says.

    Args:
        texts: Any.
    """
    return "".join(texts)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (without_hint, "type hint"),
        (without_entry, "docstring"),
        (wrong_default, "the default 'two' does not match"),
        (any_number, "^cannot build a schema from any_number: every argument must be passed by keyword$"),
    ],
)
def test_functions_without_a_schema(function: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Tool.from_function(function)


@pytest.mark.parametrize("tool", [CONVERT, LOOK_UP, TOTAL, SHOUT, SCALE, TODAY, TIME])
def test_the_schema_of_the_function_is_that_of_the_tool(tool: Tool) -> None:
    from transformers.utils import get_json_schema

    schema = get_json_schema(tool.as_function())
    assert schema["function"].pop("return") == {"type": "string"}
    assert schema == json.loads(tool_schema(tool))


def test_the_tool_as_a_function() -> None:
    assert CONVERT.as_function()(3, source="km") == "3000.0"
    assert LOOK_UP.as_function()("007") == "Bond (Wales)"
    assert SHOUT.as_function()(text="hi") == "HI"
    assert (TODAY.as_function()(), TIME.as_function()()) == ("Monday", "noon in UTC")
    with pytest.raises(ToolError, match="wrong_arguments"):
        CONVERT.as_function()(3, "parsec")
