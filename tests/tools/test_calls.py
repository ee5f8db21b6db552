"""Tests of the call parser: which texts are calls, which are not, and hostile_cases texts in linear time."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from toolrlef_data.records import ToolCall
from toolrlef_data.tools.calls import call_from_json, count_calls, find_called_tool, parse_call, render_call
from toolrlef_data.tools.tool import Tool

HOSTILE = Path(__file__).parents[3] / "shared" / "hostile" / "parsing.jsonl"
TOOLS_OF = {"Math": "calculator", "QA": "WikiSearch", "LAMA": "QA", "MLQA": "translator"}
NAMES = ("calculator", "WikiSearch", "QA", "translator")


def decode(value: Any) -> Any:
    """Undo the run-length encoding of long texts."""
    if isinstance(value, dict):
        if "parts" in value:
            return "".join(unit * count for unit, count in value["parts"])
        return {key: decode(item) for key, item in value.items()}
    return value


def hostile_cases() -> list[Any]:
    if not HOSTILE.exists():
        return []
    lines = HOSTILE.read_text(encoding="utf-8").splitlines()
    return [pytest.param(case, id=case["id"]) for case in map(json.loads, lines)]


@pytest.mark.parametrize("case", hostile_cases())
def test_hostile_responses(case: dict[str, Any]) -> None:
    text = case["response"] if case["response"] is not None else decode({"parts": case["response_parts"]})
    call = parse_call(text, [TOOLS_OF[case["task"]]])
    result = None if call is None else {"tool": call.tool, "argument": call.argument}
    accepted = [case["expect"]] if case["level"] != "either" else [case["expect"], *case["accept"]]
    assert result in map(decode, accepted), case["why"]


@pytest.mark.parametrize(
    ("text", "argument"),
    [
        ("calculator((12/60)*50)", "(12/60)*50"),  # ends at the matching parenthesis, not the first
        ("calculator(3+4) (I think)", "3+4"),  # nor at the last of the line
        ("calculator(((2+3)*(4-1))/5)", "((2+3)*(4-1))/5"),
        ("calculator(3 +\n4)", "3 +\n4"),
        ("(calculator(3+4))", "3+4"),
        ("calculator(3+ calculator(5*6)", "5*6"),  # the first complete call is not the first name
        ("sad :( calculator(3+4)", "3+4"),
        ("calculator() calculator(3+4)", "3+4"),
        ("Calculator(3+4)", "3+4"),
        ("tool.calculator(3+4)", "3+4"),
        ("calculator (3 + 4)", "3 + 4"),  # alone on its line
        ("First:\n`calculator (3+4)`\nDone (ok).", "3+4"),
        ('calculator("3+4")', "3+4"),
        ("calculator('(3+4')", "(3+4"),  # in quotes, an unbalanced parenthesis is text
        ("calculator(“3+4”)", "3+4"),
        ("calculator(`3+4`)", "3+4"),
        ('calculator("3+4", "en")', "3+4"),
        ('calculator("a" or "b")', '"a" or "b"'),  # two quoted texts
        (r'calculator("say \"x\"")', 'say "x"'),
        ("calculator(formula=3+4)", "3+4"),
        ("calculator(E=mc2)", "E=mc2"),  # not a keyword
        ('calculator({"formula": "3+4"})', "3+4"),
        ("calculator({data[answer]})", "{data[answer]}"),
        ("calculator(（3+4）)", "（3+4）"),  # full-width parentheses are text
        ('{"name": "calculator", "arguments": {"formula": "(3+4)*2"}}', "(3+4)*2"),
        ('{"arguments": {"formula": "3+4"}, "name": "calculator"}', "3+4"),
        ('<tool_call>\n{"name": "calculator", "arguments": {"x": "3+4"}}\n</tool_call>', "3+4"),
        ('[{"type":"function","function":{"name":"calculator","arguments":"{\\"x\\":\\"3+4\\"}"}}]', "3+4"),
        ('{"a": {"b": [{"name": "calculator", "arguments": {"x": 7}}]}}', "7"),
        (
            '{"tool_calls": [{"name": "calculator", "arguments": {"x": "3+4"}}',
            "3+4",
        ),  # only the outer object is cut off
    ],
)
def test_calls(text: str, argument: str) -> None:
    assert parse_call(text, ["calculator"]) == ToolCall("calculator", argument)
    assert find_called_tool(text, ["calculator"]) == "calculator"


@pytest.mark.parametrize(
    "text",
    [
        "No calculator (or any tool) is needed: 72.",
        "Calculators (all) are useful.",
        "supercalculator(3)",
        "calculator_2(3+4)",
        "calculator",
        "calculator)3(",
        "WikiSearch(3+4)",  # not one of the tools
        '{"name": "calculator"}',
        '{"name": "calculator", "arguments": {}}',
        '{"name": "calculator", "arguments": {"a": "3", "b": "4"}}',  # ambiguous
        '{"name": "calculator", "arguments": {"a": true}}',
        '{"name": "calculator", "arguments": {"a": NaN}}',
        '{"name": "calculator", "arguments": {"formula": "3+',
        "",
    ],
)
def test_texts_without_a_call(text: str) -> None:
    assert parse_call(text, ["calculator"]) is None
    assert find_called_tool(text, ["calculator"]) is None
    assert count_calls(text, ["calculator"]) == 0


@pytest.mark.parametrize("text", ["calculator(48+48/2", "calculator(", "calculator()", "calculator(((3+4))"])
def test_incomplete_calls_name_a_tool(text: str) -> None:
    assert parse_call(text, ["calculator"]) is None
    assert find_called_tool(text, ["calculator"]) == "calculator"


def test_short_names_are_case_sensitive() -> None:
    assert parse_call("qa(Where?)", ["QA"]) is None
    assert parse_call("AQUA(water)", ["QA"]) is None
    assert parse_call("QA(Where?)", ["QA"]) == ToolCall("QA", "Where?")


def test_several_tools_in_one_text() -> None:
    text = "QA(How?) calculator(3+4), then calculator(QA(x)) and calculator("
    assert parse_call(text, NAMES) == ToolCall("QA", "How?")
    assert parse_call(text, ["calculator"]) == ToolCall("calculator", "3+4")
    assert count_calls(text, NAMES) == 3  # a call inside an argument is text


def test_a_tool_object_provides_its_parameter_name() -> None:
    tool = Tool("look.up", "Looks it up.", str.upper, parameter="term_to_find")
    assert parse_call("look.up(term_to_find=Perugia)", (tool,)) == ToolCall("look.up", "Perugia")
    assert parse_call("lookXup(Perugia)", (tool,)) is None  # the name is not a regular expression
    assert parse_call("look.up(x)", []) is None


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ('{"formula": "3*19"}', "3*19"),
        ('{"formula": "3*19", "unit": "km"}', "3*19"),
        ('{"expression": " 3*19 "}', "3*19"),
        ('{"value": 57}', "57"),
        ('"{\\"formula\\": \\"3*19\\"}"', "3*19"),
        ('{"a": "3", "b": "19"}', None),
        ('{"formula": null}', None),
        ('{"formula": ""}', None),
        ('{"formula": ["3*19"]}', None),
        ('{"formula": "3*', None),
        ("[]", None),
        ("", None),
        ("[" * 100_000, None),
        ('{"formula":' * 100_000, None),
        ('{"formula": ' + "9" * 5000 + "}", None),  # more digits than int() accepts
    ],
)
def test_native_calls(arguments: str, argument: str | None) -> None:
    expected = None if argument is None else ToolCall("calculator", argument)
    assert call_from_json("calculator", arguments, "formula") == expected


def test_rendered_calls_round_trip() -> None:
    draw = random.Random(7)
    for _ in range(2000):
        argument = "".join(draw.choice("ab 12+*(),.?é漢\n") for _ in range(draw.randint(1, 30))).strip()
        depth = min_depth = 0
        for character in argument:
            depth += (character == "(") - (character == ")")
            min_depth = min(min_depth, depth)
        if argument and depth == 0 == min_depth:
            call = ToolCall("translator", argument)
            assert parse_call(f"Well, {render_call(call)} (done)", NAMES) == call


def test_random_texts_never_raise() -> None:
    draw = random.Random(11)
    pieces = [
        "calculator(",
        "calculator (",
        "QA(",
        ")",
        "(",
        '"',
        "'",
        "\\",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\n",
        " ",
        "=",
    ]
    pieces += ['{"name": "calculator", "arguments": ', "3+4", "\x00", "\ud800", "\u202e", "é", "query=", "`", "“"]
    for _ in range(4000):
        text = "".join(draw.choice(pieces) for _ in range(draw.randint(0, 25)))
        call = parse_call(text, NAMES)
        count = count_calls(text, NAMES)
        assert (call is None) == (count == 0)
        assert call is None or (call.argument and call.argument == call.argument.strip() and call.tool in NAMES)
        assert call is None or find_called_tool(text, NAMES) == call.tool
        call_from_json("calculator", text, "formula")


@pytest.mark.parametrize(
    "text",
    [
        "calculator(" * 90_000,
        "calculator(" * 90_000 + ")",
        "calculator (\n" * 75_000 + ")" * 75_000,
        "calculator(" + "(" * 1_000_000,
        "calculator(()" * 75_000,
        'calculator("' * 80_000,
        'calculator(a="\\' * 60_000,
        "calculator(" + " " * 1_000_000,
        '{"a":' * 200_000,
        '{"name":"calculator","arguments":' * 30_000,
        '{"' * 500_000,
        '"' * 1_000_000,
    ],
    ids=lambda text: repr(text[:14]),
)
def test_incomplete_calls_take_linear_time(text: str) -> None:
    """Quadratic time would take hours here."""
    parse_call(text, NAMES)
    assert count_calls(text, NAMES) <= 1
    find_called_tool(text, NAMES)


def test_a_call_next_to_a_megabyte_of_prose() -> None:
    prose = "lorem ipsum (dolor) sit " * 40_000
    assert parse_call(prose + "calculator(3+4)", NAMES) == ToolCall("calculator", "3+4")
    assert parse_call("calculator((3)+4)" + prose, NAMES) == ToolCall("calculator", "(3)+4")
    deep = "(" * 20_000 + "x" + ")" * 20_000
    assert parse_call(f"QA({deep})", NAMES) == ToolCall("QA", deep)
