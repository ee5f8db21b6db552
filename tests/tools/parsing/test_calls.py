"""Tests of the call parser: which texts are calls, which are not, and hostile texts in linear time."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest

from tests.support.corpora import hostile_cases, own_cases
from tests.support.cpu_time import cpu_limit
from toolrlef_data.records import ToolCall, clean_text
from toolrlef_data.tools.parsing.call_arguments import decode_arguments
from toolrlef_data.tools.parsing.calls import (
    call_from_json,
    count_calls,
    find_called_tool,
    parse_call,
    parse_calls,
    read_call,
    read_native_calls,
    render_call,
)
from toolrlef_data.tools.parsing.parameters import Parameters
from toolrlef_data.tools.tool import Tool

TOOLS_OF = {"Math": "calculator", "QA": "WikiSearch", "LAMA": "QA", "MLQA": "translator"}
NAMES = ("calculator", "WikiSearch", "QA", "translator")


@pytest.mark.parametrize("case", hostile_cases("parsing.jsonl"))
def test_hostile_responses(case: dict[str, Any]) -> None:
    call = parse_call(case["response"], [TOOLS_OF[case["task"]]])
    result = None if call is None else {"tool": call.tool, "argument": call.argument}
    accepted = [case["expect"]] if case["level"] != "either" else [case["expect"], *case["accept"]]
    assert result in accepted, case["why"]


@pytest.mark.parametrize("case", own_cases("calls.jsonl"))
def test_responses(case: dict[str, Any]) -> None:
    call = parse_call(case["text"], [case["tool"]])
    assert (None if call is None else call.argument) == case["argument"]


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
        ("calculator({'formula': '3+4'})", "3+4"),
        ("calculator({data[answer]})", "{data[answer]}"),
        ("functions.calculator(3+4)", "3+4"),
        ("calculator.call(3+4)", "3+4"),
        ('calculator("3+4", 2)', "3+4"),
        ("calculator(3, 4)", "3, 4"),  # not quoted: one text
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
        "calculator (or any tool) is not needed: 72.",
        "First:\n`calculator (3+4)` gives 7.",
        "Calculators (all) are useful.",
        "We use the calculator (3+4)",  # with a blank, only a line of its own is a call
        "supercalculator(3)",
        "calculator_2(3+4)",
        "calculator",
        "calculator)3(",
        "WikiSearch(3+4)",  # not one of the tools
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


@pytest.mark.parametrize("text", ["calculator()", "calculator( )"])
def test_a_call_without_an_argument_is_none(text: str) -> None:
    assert parse_calls(text, "calculator") == []


def test_short_names_are_case_sensitive() -> None:
    assert parse_call("qa(Where?)", ["QA"]) is None
    assert parse_call("AQUA(water)", ["QA"]) is None
    assert parse_call("QA(Where?)", ["QA"]) == ToolCall("QA", "Where?")


def test_several_tools_in_one_text() -> None:
    text = "QA(How?) calculator(3+4), then calculator(QA(x)) and calculator("
    assert parse_call(text, NAMES) == ToolCall("QA", "How?")
    assert parse_call(text, ["calculator"]) == ToolCall("calculator", "3+4")
    assert count_calls(text, NAMES) == 3  # a call inside an argument is text


def test_a_structured_call_names_the_tool_in_its_own_spelling() -> None:
    """Of two names that differ in case, and of names that contain each other."""
    for name in ("Search", "search", "search web"):
        text = json.dumps({"name": name, "arguments": {"query": "tides"}})
        assert parse_call(text, ["Search", "search", "search web"]) == ToolCall(name, "tides")
        assert parse_call(f"{name}(tides)", ["Search", "search", "search web"]) == ToolCall(name, "tides")
    assert parse_call('{"name": "SEARCH", "arguments": {"query": "tides"}}', ["Search", "search"]) is not None


def test_the_calls_in_an_object_keep_their_order() -> None:
    calls = [{"name": "WikiSearch", "arguments": {"query": query}} for query in ("tides", "moons")]
    for text in (json.dumps({"tool_calls": calls}), json.dumps({"steps": [{"calls": calls}]})):
        assert parse_calls(text, SEARCH) == [ToolCall("WikiSearch", "tides"), ToolCall("WikiSearch", "moons")]


def test_a_parameter_that_is_named_like_a_wrapping_of_arguments_is_a_parameter() -> None:
    for names in (("input", "k"), ("args", "input")):
        text = json.dumps({names[0]: {"arguments": "tides"}})
        arguments = decode_arguments(text, Parameters(names))
        assert arguments is not None
        assert json.loads(arguments.arguments) == json.loads(text)


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
        ('{"expression": "3*19", "unit": "km"}', "3*19"),  # a common name
        ('{"Expression": "3*19", "unit": "km"}', "3*19"),
        ("{'formula': '3*19'}", "3*19"),
        ('{"arguments": {"formula": "3*19"}}', "3*19"),
        ('{"name": "calculator", "arguments": "{\\"formula\\": \\"3*19\\"}"}', "3*19"),
        ('{"formula": "{\\"formula\\": \\"3*19\\"}"}', "3*19"),
        ('{"formula": "{\\"a\\": 1}"}', '{"a": 1}'),  # another object is the argument
        ('{"formula": "3*19"}}', "3*19"),
        ('{"formula": "3*19"}{"formula": "1+1"}', "3*19"),  # of two calls the first counts
        ('{"formula": "3*19"} or so', None),
        ('["3*19"]', "3*19"),
        ('["3*19", "5"]', None),  # of a tool of one argument
        ('```json\n{"formula": "3*19"}\n```', "3*19"),
        ('{"type": "object", "properties": {"formula": "3*19"}}', None),  # a schema
        ("3*19", "3*19"),
        ('{"formula": "3*19 \\ud83d"}', "3*19 \ufffd"),
        ('{"formula": "\\ud83d\\udc1f"}', "\U0001f41f"),
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


SEARCH = Tool("WikiSearch", "Searches.", str.upper, parameter="query")


@pytest.mark.parametrize(
    ("arguments", "argument", "why"),
    [
        ('lang="en", query="tides"', "tides", "the tool's parameter wins"),
        ("filters=['x'], query='salt tides'", "salt tides", "also after a list"),
        ("query=salt tides, k=3", "salt tides", "also without quotes"),
        ("k=3, query='tides'", "tides", "also after a number"),
        ('query="tides", k=3', "tides", ""),
        ('text="the sea", query="tides"', "tides", "also after another common name"),
        ('lang="en", term="tides"', "tides", "else a common name wins"),
        ('lang="en", title="tides"', "en", "else the first text"),
        ("lang=en, query=tides, low and high", "tides, low and high", "without quotes"),
        ("query=tides, low and high", "tides, low and high", ""),
        ('lang="en", query="meaning of :) and (:"', "meaning of :) and (:", "parentheses in quotes are text"),
        ('{"lang": "en", "query": "meaning of :)"}', "meaning of :)", "in an object too"),
        ('query="say \\"hi\\""', 'say "hi"', "escaped quotes"),
        ('"tides", query="moons"', "tides", "of two texts for the argument, the first counts"),
        ('"salt" or "pepper"', '"salt" or "pepper"', "two quoted texts are no list"),
    ],
)
def test_the_argument_among_several(arguments: str, argument: str, why: str) -> None:
    assert parse_call(f"WikiSearch({arguments})", SEARCH) == ToolCall("WikiSearch", argument), why


def test_all_arguments_of_a_call() -> None:
    def all_arguments(text: str) -> Any:
        return json.loads(read_call(text, SEARCH).arguments or "null")

    assert all_arguments("WikiSearch(tides)") == {"query": "tides"}
    assert all_arguments("WikiSearch(lang='en', query='tides', k=3)") == {"lang": "en", "query": "tides", "k": 3}
    assert all_arguments('WikiSearch("tides", 3)') == {"query": "tides", "1": 3}
    assert all_arguments('{"name": "WikiSearch", "arguments": {"query": "\\ud83d", "x": NaN}}') == {
        "query": "\ufffd",
        "x": None,
    }
    assert all_arguments("WikiSearch(") is None


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("3*19", "WikiSearch(3*19)"),
        ("height (m) of tides", "WikiSearch(height (m) of tides)"),
        ("O'Brien", "WikiSearch(O'Brien)"),
        ("x == 5", "WikiSearch(x == 5)"),
        ("meaning of :)", 'WikiSearch("meaning of :)")'),
        ("f(x", 'WikiSearch("f(x")'),
        ("text=harbour", 'WikiSearch("text=harbour")'),
        ('"exact phrase"', 'WikiSearch("\\"exact phrase\\"")'),
        ('"salt", "pepper"', 'WikiSearch("\\"salt\\", \\"pepper\\"")'),
        ("`ls -l`", 'WikiSearch("`ls -l`")'),
        ('C:\\ {"query": 1}', 'WikiSearch(C:\\ {"query": 1})'),
        ('{"query": "tides"}', 'WikiSearch("{\\"query\\": \\"tides\\"}")'),
    ],
)
def test_an_argument_is_quoted_only_where_it_would_be_read_differently(argument: str, text: str) -> None:
    assert render_call(ToolCall("WikiSearch", argument)) == text
    assert parse_call(text, SEARCH) == ToolCall("WikiSearch", argument)


PIECES = [
    *"()\"'`\u201c\u201d\u2018\u2019\\{}[]=,:;<>|\uff5c \n\ta1Z?é漢\ud800\x00",
    "query=",
    "zeile=",
    "k=3, ",
    "WikiSearch(",
    "WikiSearch",
]
PIECES += [
    '{"query": "',
    '{"name": "WikiSearch", "arguments": ',
    "[TOOL_CALLS]",
    "[ARGS]",
    "<function=WikiSearch>",
    "<parameter=query>",
]
PIECES += [
    "call:WikiSearch{",
    "<escape>",
    "\nAction: WikiSearch\n",
    "to=functions.WikiSearch ",
    "</tool_call>",
    "3.5",
    "None",
    '\\"',
]


def random_arguments(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    texts = ("".join(draw.choice(PIECES) for _ in range(draw.randint(1, 12))) for _ in itertools.count())
    return list(itertools.islice((text for text in texts if text.strip()), count))


def test_rendered_calls_read_back_to_the_same_argument() -> None:
    """For any argument, whatever the name of the tool's parameter, alone and in a sentence."""
    readers: list[Any] = [
        [Tool("WikiSearch", "Searches.", str.upper, parameter=name)] for name in ("query", "zeile", "argument")
    ]
    for argument in random_arguments(3000, 7):
        call = ToolCall("WikiSearch", clean_text(argument).strip())
        text = render_call(ToolCall("WikiSearch", argument))
        for tools in (*readers, NAMES):
            assert parse_calls(text, tools) == [call], text
        assert parse_call(f"Well, {text} (done)", NAMES) == call


def test_a_native_call_is_rendered_with_exactly_its_argument() -> None:
    for argument in random_arguments(1500, 8):
        native = read_native_calls([("WikiSearch", json.dumps({"lang": "en", "query": argument}))], SEARCH)
        assert native is not None
        reading = read_call(native.text, SEARCH)
        assert (reading.argument, reading.n_calls) == (clean_text(argument).strip(), 1)


def test_a_native_call_that_cannot_be_read_is_a_failed_call() -> None:
    """Whatever its arguments contain, such as closing tags and other calls."""
    unreadable = 0
    for argument, reason in itertools.product(random_arguments(1500, 9), ("tool_calls", "length")):
        native = read_native_calls([("WikiSearch", argument)], SEARCH, reason)
        assert native is not None
        native.text.encode()
        reading = read_call(native.text, SEARCH, reason)
        assert reading.tool == "WikiSearch"
        assert (native.arguments is None) == (reading.n_calls == 0) == (reading.error is not None), argument
        assert reading.error in (None, "incomplete_call") or reason != "length"
        unreadable += native.arguments is None
    assert unreadable > 1500


@pytest.mark.parametrize(
    ("calls", "reason", "text"),
    [
        ([("wikisearch", '{"query": "tides"}')], "stop", "WikiSearch(tides)"),
        ([("functions.WikiSearch", '{"query": "tides"}')], "stop", "WikiSearch(tides)"),
        ([("WikiSearch", '{"query": "a"}'), ("WikiSearch", '{"query": "b"}')], "stop", "WikiSearch(a)"),
        ([("WikiSearch", '{"query": "a"}'), ("WikiSearch", '{"query": "b"}')], "length", "WikiSearch(a)"),
        (
            [("WikiSearch", '{"query": "a"}')],  # it may have been longer
            "length",
            '<tool_call>{"name": "WikiSearch", "arguments": null, '
            '"unread": {"name": "WikiSearch", "arguments": "{\\"query\\": \\"a\\"}"}}</tool_call>',
        ),
        (
            [("wikisearch", '{"query": "ti')],
            "stop",
            '<tool_call>{"name": "wikisearch", "arguments": {"query": "ti}</tool_call>',
        ),
        (
            [("browser", '{"url": "x"}')],
            "stop",
            '<tool_call>{"name": "WikiSearch", "arguments": null, '
            '"unread": {"name": "browser", "arguments": "{\\"url\\": \\"x\\"}"}}</tool_call>',
        ),
        (
            [("browser", '{"url": "x"}'), ("WikiSearch", '{"query": "ti')],
            "stop",
            '<tool_call>{"name": "WikiSearch", "arguments": {"query": "ti}</tool_call>',
        ),
    ],
)
def test_the_text_of_native_calls(calls: list[tuple[str, str]], reason: str, text: str) -> None:
    native = read_native_calls(calls, SEARCH, reason)
    assert native is not None
    assert native.text == text
    assert read_native_calls([], SEARCH, reason) is None


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


def test_random_markup_never_raises_and_fits_into_a_table() -> None:
    draw = random.Random(12)
    pieces = [
        *PIECES,
        '"name": "WikiSearch"',
        "<tool_call>",
        "functions.",
        "<arg_key>",
        "<arg_value>",
        "</",
        "```json\n",
        "<|call|>",
    ]
    for _ in range(5000):
        text = "".join(draw.choice(pieces) for _ in range(draw.randint(1, 25)))
        n_calls, tool, argument, arguments, error = read_call(text, SEARCH)
        assert (n_calls > 0) == (argument is not None) == (arguments is not None)
        assert (error is not None) == (tool is not None and not n_calls)
        assert n_calls == count_calls(text, SEARCH) == len(parse_calls(text, SEARCH))
        assert json.loads(arguments or "{}") is not None
        (f"{argument}{arguments}").encode()


@pytest.mark.parametrize(
    "text",
    [
        "calculator(" * 90_000,
        "calculator(" * 40_000 + ")",
        "calculator (\n" * 75_000 + ")" * 75_000,
        "calculator(" + "(" * 1_000_000,
        "calculator(()" * 40_000,
        'calculator("' * 80_000,
        'calculator(a="\\' * 60_000,
        "calculator(" + " " * 1_000_000,
        '{"a":' * 200_000,
        '{"name":"calculator","arguments":' * 6_000,
        '{"' * 500_000,
        '{\\"' * 300_000,
        '"' * 1_000_000,
    ],
    ids=lambda text: repr(text[:14]),
)
def test_incomplete_calls_take_linear_time(text: str) -> None:
    with cpu_limit(10.0):
        parse_call(text, NAMES)
        assert count_calls(text, NAMES) <= 1
        find_called_tool(text, NAMES)


def test_a_call_next_to_a_megabyte_of_prose() -> None:
    prose = "lorem ipsum (dolor) sit " * 40_000
    assert parse_call(prose + "calculator(3+4)", NAMES) == ToolCall("calculator", "3+4")
    assert parse_call("calculator((3)+4)" + prose, NAMES) == ToolCall("calculator", "(3)+4")
    deep = "(" * 20_000 + "x" + ")" * 20_000
    assert parse_call(f"QA({deep})", NAMES) == ToolCall("QA", deep)
