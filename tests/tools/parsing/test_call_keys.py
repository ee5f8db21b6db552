"""Calls as JSON: every key of a name and of the arguments, and calls of tools of several arguments."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest

from toolrlef_data import InputError, Tool, ToolCall, parse_call, render_call, tool_schema
from toolrlef_data.tools.parsing.call_arguments import decode_arguments
from toolrlef_data.tools.parsing.calls import (
    CallReading,
    NativeCall,
    call_from_json,
    count_calls,
    find_called_tool,
    parse_calls,
    read_call,
    read_native_calls,
)

NAME_KEYS = ["name", "tool", "tool_name", "function", "action", "recipient_name"]
ARGUMENT_KEYS = ["arguments", "parameters", "args", "input", "tool_input", "action_input", "kwargs"]
KEYWORDS = ["argument", "expression", "formula", "input", "prompt", "q", "query", "question", "search", "term", "text"]
SEARCH = Tool("WikiSearch", "Searches.", str.upper, parameter="topic")


def convert(value: float, source: Literal["km", "m"], target: Literal["km", "m"] = "m") -> float:
    """Converts a length.

    Args:
        value: The length.
        source: Its unit.
        target: The unit of the result.
    """
    return value


def time(zone: str = "UTC") -> str:
    """Says how late it is.

    Args:
        zone: The time zone.
    """
    return zone


CONVERT, TIME = Tool.from_function(convert), Tool.from_function(time)
THREE_KM = '{"value": 3, "source": "km"}'


@pytest.mark.parametrize("name_key", NAME_KEYS)
@pytest.mark.parametrize("key", ARGUMENT_KEYS)
def test_every_key_of_a_name_and_of_arguments(name_key: str, key: str) -> None:
    figs = ToolCall("WikiSearch", "figs")
    for arguments in ({"topic": "figs"}, {"topic": "figs", "k": 3}, {"other": "figs"}, "figs", '{"topic": "figs"}'):
        call = {name_key: "WikiSearch", key: arguments}
        assert parse_call(json.dumps(call), SEARCH) == figs
        assert parse_call(json.dumps({"id": "1", **call}), SEARCH) == figs
    several = {name_key: "convert", key: {"value": 3, "source": "km"}}
    assert parse_call(json.dumps(several), CONVERT) == ToolCall("convert", THREE_KM)


@pytest.mark.parametrize("word", KEYWORDS)
def test_a_common_name_of_an_argument_is_its_name(word: str) -> None:
    for keyword in (word, word.upper()):
        assert decode_arguments(json.dumps({keyword: "figs", "k": "3"}), "topic") == (
            "figs",
            f'{{"{keyword}": "figs", "k": "3"}}',
        )
        assert parse_call(f"WikiSearch({keyword}=figs)", SEARCH) == ToolCall("WikiSearch", "figs")
    assert parse_call(json.dumps({"name": "WikiSearch", word: "figs"}), SEARCH) == ToolCall("WikiSearch", "figs")


@pytest.mark.parametrize(
    ("text", "argument"),
    [
        (THREE_KM, THREE_KM),
        (f'{{"name": "convert", "arguments": {THREE_KM}}}', THREE_KM),
        (f'{{"arguments": {THREE_KM}}}', THREE_KM),
        (json.dumps({"input": THREE_KM}), THREE_KM),
        (json.dumps(THREE_KM), THREE_KM),
        (f'{{"arguments": {THREE_KM}, "k": 1}}', f'{{"arguments": {THREE_KM}, "k": 1}}'),  # no wrapping
        ('[3, "km"]', THREE_KM),
        ('[3, "km", "m", "x"]', '{"value": 3, "source": "km", "target": "m", "3": "x"}'),
        ("3", '{"value": 3}'),
        ("null", "{}"),
        ('{"source": "km", "value": 3, "z": 1}', '{"value": 3, "source": "km", "z": 1}'),
    ],
)
def test_several_arguments_of_a_native_call(text: str, argument: str) -> None:
    assert decode_arguments(text, CONVERT.call_parameter) == (argument, argument)


@pytest.mark.parametrize(
    ("text", "tool", "arguments"),
    [
        ('convert(3, "km")', "convert", THREE_KM),
        ("convert(3, km)", "convert", THREE_KM),
        ("convert(3 km, km)", "convert", '{"value": "3 km", "source": "km"}'),
        ("convert(value=3, source=km)", "convert", THREE_KM),
        ('convert(3, "km",)', "convert", THREE_KM),
        (f"convert({THREE_KM})", "convert", THREE_KM),
        ('convert(3, source="km", target="m")', "convert", '{"value": 3, "source": "km", "target": "m"}'),
        ("time()", "time", "{}"),
        ("time(UTC)", "time", '{"zone": "UTC"}'),
        ("time(zone=UTC)", "time", '{"zone": "UTC"}'),
        ('time("UTC", "x")', "time", '{"zone": "UTC", "1": "x"}'),
    ],
)
def test_several_arguments_in_a_text(text: str, tool: str, arguments: str) -> None:
    assert read_call(text, [CONVERT, TIME]) == CallReading(1, tool, arguments, arguments, None)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("convert()", "incomplete_call"),
        ('convert(3, "km"', "incomplete_call"),
        ("convert(value=3", "incomplete_call"),
        ('convert(3,, "km")', "unreadable_call"),
        ('convert(3, "km" "m")', "unreadable_call"),
        ('convert(value=3, value=4, source="km")', "unreadable_call"),
        ("convert[3]", None),
        ("convert(1e999, 'km')", "unreadable_call"),
        ("convert(value=-1e999, source='km')", "unreadable_call"),
        ('{"name": "convert", "arguments": {"value": NaN, "source": "km"}}', "unreadable_call"),
        ('{"name": "convert", "arguments": {"value": [3, {"x": 1e999}], "source": "km"}}', "unreadable_call"),
        (json.dumps({"name": "convert", "arguments": '{"value": Infinity, "source": "km"}'}), "unreadable_call"),
    ],
)
def test_several_arguments_that_cannot_be_read(text: str, error: str | None) -> None:
    assert read_call(text, [CONVERT, TIME]) == CallReading(tool="convert" if error else None, error=error)


def scale(factor: float, note: str = "", times: int | None = None, either: float | str = 1) -> float:
    """Scales.

    Args:
        factor: How much.
        note: A remark.
        times: How often.
        either: A number or a remark.
    """
    return factor


SCALE = Tool.from_function(scale)
NO_FINITE_NUMBERS = ["nan", "-nan", "inf", "+inf", "-INF", "Infinity", "-Infinity", "1e999", "+1e999"]


@pytest.mark.parametrize("word", NO_FINITE_NUMBERS)
def test_a_number_without_quotes_that_json_does_not_have_is_unreadable(word: str) -> None:
    for text in (
        f"scale({word})",
        f"scale({word}, it)",
        f"scale(note='it', factor={word})",
        f"scale(1, it, {word})",
        f"scale(1, times={word})",
        f"<function=scale><parameter=factor>{word}</parameter></function>",
    ):
        assert read_call(text, SCALE) == CallReading(tool="scale", error="unreadable_call"), text
    assert decode_arguments(word, SCALE.call_parameter) is None


@pytest.mark.parametrize("word", NO_FINITE_NUMBERS)
def test_a_text_that_reads_like_an_infinite_number_stays_a_text(word: str) -> None:
    """That of a text, of a parameter that may be one, and in quotes, which the tool refuses by its schema."""
    for text, arguments in {
        f"scale(1, {word})": {"factor": 1, "note": word},
        f"scale(1, note='{word}')": {"factor": 1, "note": word},
        f"scale('{word}')": {"factor": word},
        f"scale(1, either='{word}')": {"factor": 1, "either": word},
        f"<function=scale><parameter=factor>1</parameter><parameter=note>{word}</parameter></function>": {
            "factor": 1,
            "note": word,
        },
    }.items():
        assert read_call(text, SCALE).arguments == json.dumps(arguments), text
    if "1e999" not in (word, word[1:]):
        assert read_call(f"scale(1, either={word})", SCALE).arguments == json.dumps({"factor": 1, "either": word})
        assert decode_arguments(word, TIME.call_parameter) == (json.dumps({"zone": word}),) * 2


def unread(name: str, arguments: str) -> str:
    call = {"name": "WikiSearch", "arguments": None, "unread": {"name": name, "arguments": arguments}}
    return f"<tool_call>{json.dumps(call)}</tool_call>"


FIGS = ("WikiSearch", '{"topic": "figs", "k": 2}')


@pytest.mark.parametrize(
    ("calls", "finish_reason", "native"),
    [
        ([FIGS], None, NativeCall("WikiSearch(figs)", FIGS[1], True)),
        ([("functions.wikisearch", FIGS[1])], None, NativeCall("WikiSearch(figs)", FIGS[1], True)),
        ([("WikiSearch", "{"), FIGS], None, NativeCall("WikiSearch(figs)", FIGS[1], True)),
        ([FIGS, ("WikiSearch", "{")], "length", NativeCall("WikiSearch(figs)", FIGS[1], True)),
        ([("other", FIGS[1])], None, NativeCall(unread("other", FIGS[1]), None, False)),
        ([("other", "WikiSearch(figs)")], None, NativeCall(unread("other", "WikiSearch(figs)"), None, False)),
        ([("functions.wikisearch", FIGS[1])], "length", NativeCall(unread("functions.wikisearch", FIGS[1]))),
        (
            [("other", "1"), ("WikiSearch", "{")],
            None,
            NativeCall('<tool_call>{"name": "WikiSearch", "arguments": {}</tool_call>'),
        ),
        (
            [("WikiSearch", '{"a":1,"b":2}')],
            None,
            NativeCall('<tool_call>{"name": "WikiSearch", "arguments": {"a":1,"b":2}}</tool_call>'),
        ),
        ([], None, None),
    ],
)
def test_native_calls(calls: list[tuple[str, str]], finish_reason: str | None, native: NativeCall | None) -> None:
    assert read_native_calls(calls, SEARCH, finish_reason) == native


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda anything: render_call(anything), "render_call: expected a ToolCall, found 5"),
        (lambda anything: tool_schema(anything), "tool_schema: expected a Tool, found 5"),
        (lambda anything: render_call(ToolCall("f", "3"), anything), "tool: expected a Tool, found 5"),
        (lambda anything: read_native_calls([FIGS], anything), "tool: expected a Tool, found 5"),
        (lambda anything: call_from_json("f", anything), "arguments_json: expected a text, found 5"),
        (lambda anything: call_from_json("f", "3", anything), "parameter: expected a name or Parameters, found 5"),
    ],
)
def test_arguments_of_another_type(call: Any, message: str) -> None:
    with pytest.raises(InputError) as raised:
        call(5)
    assert str(raised.value) == message


@pytest.mark.parametrize("function", [parse_call, parse_calls, count_calls, read_call, find_called_tool])
def test_what_is_no_text_or_no_tool_is_refused(function: Any) -> None:
    expected = {
        (5, SEARCH): "text: expected a text, found 5",
        (None, SEARCH): "text: expected a text, found None",
        ("x", 5): "tools: expected one or more tools or names of tools, found 5",
        ("x", None): "tools: expected one or more tools or names of tools, found None",
        ("x", (SEARCH, 5)): "tools: expected one or more tools or names of tools, found 5",
    }
    for (text, tools), message in expected.items():
        with pytest.raises(InputError) as raised:
            function(text, tools)
        assert str(raised.value) == message


def test_arguments_that_are_no_json_are_rendered_as_they_are() -> None:
    assert render_call(ToolCall("convert", "not json"), CONVERT) == 'convert("not json")'
    assert render_call(ToolCall("convert", "{3"), CONVERT) == "convert({3)"
    assert render_call(ToolCall("convert", THREE_KM), CONVERT) == 'convert(3, "km")'
