"""Tests of the formats of calls that models write as text, and of calls that cannot be read."""

from __future__ import annotations

import json

import pytest

from toolrlef_data.tools.parsing.call_formats import call_names, find_structured_calls
from toolrlef_data.tools.parsing.calls import find_called_tool, parse_call, read_call
from toolrlef_data.tools.parsing.json_text import LiteralReader
from toolrlef_data.tools.tool import Tool

SUM = Tool("calculator", "Computes.", str.upper, parameter="formula")
SEARCH = Tool("WikiSearch", "Searches.", str.upper, parameter="query")
ASK = Tool("QA", "Answers.", str.upper, parameter="question")

FORMATS = {
    "Hermes": '<tool_call>\n{"name": "calculator", "arguments": {"formula": "6*7"}}\n</tool_call>',
    "Llama 3, JSON": '<|python_tag|>{"type": "function", "name": "calculator", "parameters": {"formula": "6*7"}}',
    "Llama 3, method": '<|python_tag|>calculator.call(formula="6*7")',
    "Llama 3, tag": '<function=calculator>{"formula": "6*7"}</function>',
    "Llama 3, tag without its bracket": '<function=calculator{"formula": "6*7"}</function>',
    "Mistral, list": '[TOOL_CALLS] [{"name": "calculator", "arguments": {"formula": "6*7"}, "id": "a1b2c3d4e"}]',
    "Mistral, marks": '[TOOL_CALLS]calculator[ARGS]{"formula": "6*7"}',
    "Mistral, marks and id": '[TOOL_CALLS]calculator[CALL_ID]a1b2c3d4e[ARGS]{"formula": "6*7"}',
    "Mistral, marks removed": 'calculator{"formula": "6*7"}',
    "Qwen-coder": "<tool_call>\n<function=calculator>\n<parameter=formula>\n6*7\n</parameter>\n</function>\n</tool_call>",
    "Qwen-coder, parameter not closed": "<function=calculator>\n<parameter=formula>\n6*7\n</function>",
    "MiniMax": '<invoke name="calculator">\n<parameter name="formula">6*7</parameter>\n</invoke>',
    "GLM": "<tool_call>calculator\n<arg_key>formula</arg_key>\n<arg_value>6*7</arg_value>\n</tool_call>",
    "Gemma 3": "<start_function_call>call:calculator{formula:<escape>6*7<escape>}<end_function_call>",
    "Gemma 4": '<|tool_call>call:calculator{formula:<|"|>6*7<|"|>}<tool_call|>',
    "Gemma 2": "```tool_code\nprint(default_api.calculator(formula='6*7'))\n```",
    "DeepSeek 3": (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>calculator\n"
        '```json\n{"formula": "6*7"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
    ),
    "DeepSeek 3.1": '<｜tool▁call▁begin｜>calculator<｜tool▁sep｜>{"formula": "6*7"}<｜tool▁call▁end｜>',
    "DeepSeek 3.2": (
        '<｜DSML｜invoke name="calculator">\n'
        '<｜DSML｜parameter name="formula" string="true">6*7</｜DSML｜parameter>\n</｜DSML｜invoke>'
    ),
    "Kimi": '<|tool_call_begin|>functions.calculator:0<|tool_call_argument_begin|>{"formula": "6*7"}<|tool_call_end|>',
    "Functionary": '>>>calculator\n{"formula": "6*7"}',
    "harmony": '<|channel|>commentary to=functions.calculator <|constrain|>json<|message|>{"formula":"6*7"}<|call|>',
    "harmony, role": '<|start|>assistant to=functions.calculator<|channel|>commentary json<|message|>{"formula":"6*7"}',
    "harmony, marks removed": 'commentary to=functions.calculator json{"formula":"6*7"}',
    "elements": '<tool_call><name>calculator</name>\n<arguments>{"formula": "6*7"}</arguments></tool_call>',
    "blanks around the name": '{"name": " calculator ", "arguments": {"formula": "6*7"}}',
    "number of the call": '{"name": "functions.calculator:0", "arguments": {"formula": "6*7"}}',
    "parallel": '{"tool_uses":[{"recipient_name":"functions.calculator","parameters":{"formula":"6*7"}}]}',
    "Python literals": "{'name': 'calculator', 'arguments': {'formula': '6*7', 'exact': True,}}",
    "another case": '{"name": "Calculator", "arguments": {"formula": "6*7"}}',
    "arguments as text": '{"name": "calculator", "arguments": "{\\"formula\\": \\"6*7\\"}"}',
    "arguments wrapped": '{"name": "calculator", "arguments": {"arguments": {"formula": "6*7"}}}',
    "calls as text": '{"calls": "[{\\"name\\": \\"calculator\\", \\"arguments\\": {\\"formula\\": \\"6*7\\"}}]"}',
    "arguments beside the name": '{"thought": "easy", "tool": "calculator", "formula": "6*7"}',
    "after many braces": "\\frac{1}{2} " * 30 + '{"name": "calculator", "arguments": {"formula": "6*7"}}',
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats_of_models(name: str) -> None:
    reading = read_call(f"I need a tool.\n{FORMATS[name]}", SUM)
    assert (reading.n_calls, reading.tool, reading.argument, reading.error) == (1, "calculator", "6*7", None)
    assert reading.arguments is not None
    assert json.loads(reading.arguments)["formula"] == "6*7"


@pytest.mark.parametrize("name", FORMATS)
def test_a_call_that_is_cut_off_is_never_an_answer(name: str) -> None:
    """Every cut after the name yields a complete call or a failed call, also without a finish reason."""
    text = FORMATS[name]
    start = text.lower().rindex("calculator") + len("calculator")
    start = max(start, text.find("{") + 1) if "braces" not in name and "removed" in name else start
    for end in range(start + 1, len(text)):
        reading = read_call(text[:end], SUM)
        expected = {None} if reading.n_calls else {"incomplete_call", "unreadable_call"}
        assert (reading.tool, reading.error in expected) == ("calculator", True), text[:end]
        assert reading.n_calls or read_call(text[:end], SUM, "length").error == "incomplete_call"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"name": "calculator", "arguments": {"formula": "6*', "incomplete_call"),
        ('{"name": "calculator", "arguments": {"formula": "6*7"}', "incomplete_call"),
        ('<tool_call>{"name": "calculator", "arguments": {"formula": "6*7"}</tool_call>', "incomplete_call"),
        ('```json\n{"name": "calculator", "arguments": {"formula": "6*7"}\n```', "incomplete_call"),
        ('[{"name": "calculator", "arguments": {', "incomplete_call"),
        ('[TOOL_CALLS][{"name": "calculator", "arguments": {"formula": "6*7"}[/TOOL_CALLS]', "incomplete_call"),
        ('{"name": "calculator', "incomplete_call"),
        ("<function=calculator>\n<parameter=formula>\n6*", "incomplete_call"),
        ("call:calculator{formula:<escape>6*7", "incomplete_call"),
        ("<｜tool▁sep｜>calculator\n```json\n", "incomplete_call"),
        ("<|channel|>commentary to=functions.calculator", "incomplete_call"),
        ("calculator(6*7", "incomplete_call"),
        ('{"name": "calculator"}', "unreadable_call"),  # no arguments
        ('{"name": "calculator", "arguments": {}}', "unreadable_call"),
        ('{"name": "calculator", "arguments": null}', "unreadable_call"),
        ('{"name": "calculator", "arguments": {"a": "6", "b": "7"}}', "unreadable_call"),  # ambiguous
        ('{"name": "calculator", "arguments": {"a": true}}', "unreadable_call"),
        ('{"name": "calculator", "arguments": {"a": NaN}}', "unreadable_call"),
        ('{"name": "calculator", "arguments": {formula = 6*7}}', "unreadable_call"),
        ('{"thought": "a "good" idea", "name": "calculator", "arguments": {"formula": "6*7"}}', "unreadable_call"),
        ("<function=calculator>6*7</function>", "unreadable_call"),
        ("<function=calculator></function>", "unreadable_call"),
        ("<tool_name>calculator</tool_name><formula>6*7</formula>", "unreadable_call"),
        ("call:calculator{formula:6*7}", "unreadable_call"),
        ('calculator({"a": "6", "b": "7"})', "unreadable_call"),
        ("Action: calculator\nAction Input: 6*7", "unreadable_call"),  # ReAct is recognised, but not read
        ("<calculator>6*7</calculator>", "unreadable_call"),
    ],
)
def test_failed_calls(text: str, error: str) -> None:
    reading = read_call(text, SUM, "stop")
    assert (reading.tool, reading.n_calls, reading.argument, reading.error) == ("calculator", 0, None, error)
    assert read_call(text, SUM, "length").error == "incomplete_call"
    assert parse_call(text, SUM) is None
    assert find_called_tool(text, SUM) == "calculator"


@pytest.mark.parametrize(
    "text",
    [
        "I do not need the calculator. The answer is {42}.",
        "\\text{calculator} gives \\boxed{42}",
        "The calculator {see above} shows 42.",
        "Use <b>calculator</b>, key [1], to={x}: 42",
        '{"tool": "calculator", "answer": 42}',  # an answer that mentions the tool
        '{"name": "someone", "text": "calculator"}',
        '{"name": "calculators", "arguments": {"formula": "6*7"}}',
        "supercalculator{1}",
        "recall:calculator",
        "https://example.org/?to=calculator",
    ],
)
def test_texts_that_only_mention_a_tool(text: str) -> None:
    assert read_call(text, SUM) == (0, None, None, None, None)


def test_of_two_calls_the_first_counts_in_any_format() -> None:
    hermes = '<tool_call>{"name": "calculator", "arguments": {"formula": "6*7"}}</tool_call>'
    for text in (f"{hermes} or calculator(1+1)", f"{hermes}\n{hermes.replace('6*7', '1+1')}"):
        assert read_call(text, SUM)[:3] == (2, "calculator", "6*7")
    assert read_call(f"calculator(1+1) or {hermes}", SUM)[:3] == (2, "calculator", "1+1")


def test_a_call_inside_an_argument_is_text() -> None:
    inner = {"query": "how to write WikiSearch(x) or <function=WikiSearch>"}
    for text in (
        json.dumps({"name": "WikiSearch", "arguments": inner}),
        f"[TOOL_CALLS]WikiSearch[ARGS]{json.dumps(inner)}",
        f"WikiSearch({json.dumps(inner)})",
        f"<function=WikiSearch><parameter=query>{inner['query']}</parameter></function>",
    ):
        assert read_call(text, SEARCH)[:3] == (1, "WikiSearch", inner["query"]), text
    cut = '{"name": "WikiSearch", "arguments": {"query": "how to write WikiSearch(x) or'
    assert read_call(cut, SEARCH).error == "incomplete_call"


def test_a_structured_call_names_a_tool_in_any_case() -> None:
    assert parse_call('{"name": "qa", "arguments": {"question": "Who?"}}', ASK) == ("QA", "Who?")
    assert parse_call("<function=functions.qa>{'question': 'Who?'}</function>", ASK) == ("QA", "Who?")
    assert parse_call("qa(Who?)", ASK) is None
    dotted = Tool("tools.search", "Searches.", str.upper, parameter="query")
    assert parse_call('<function=Tools.Search>{"query": "tides"}', dotted) == ("tools.search", "tides")


UNITS = [
    '{"name":"calculator",', '{"name":"calculator","arguments":', '{"name":"calculator","x":[', '{"name":"calculator"}',
    'calculator({"a":"', 'calculator("calculator(",', "calculator('a',b=2,", "<function=calculator><parameter=x>",
    "<tool_call>calculator<arg_key>a</arg_key><arg_value>", 'call:calculator{"', "call:calculator{a:<escape>",
    "calculator{'a':[", "to=calculator ", '"name":"calculator"', '{\\"', '{"', "{",
]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_the_searched_characters_are_proportional_to_the_text(unit: str) -> None:
    """A text four times as long takes four times as many steps, up to the limit of the reader."""
    names = call_names(SUM.signatures)
    steps = []
    for count in (200, 800):
        text = '{"name": "calculator"' + unit * count
        reader = LiteralReader(text)
        start = text.find("{")
        while start >= 0:
            reader.read(start)
            start = text.find("{", start + 1)
        assert reader.steps <= 7 * len(text) + 2000
        steps.append(reader.steps)
        find_structured_calls(text, names)
    assert steps[1] <= 5 * steps[0] + 1000


@pytest.mark.parametrize("unit", UNITS)
def test_many_openings_are_read_in_linear_time(unit: str) -> None:
    """Quadratic time would take minutes here."""
    text = "calculator " + unit * (100_000 // len(unit))
    assert read_call(text, SUM).n_calls <= len(text)
