"""Calls at the edges of the parser's rules: blanks, line ends, quotes, marks before a name, and keys of answers."""

from __future__ import annotations

import re

import pytest

from toolrlef_data import Tool, ToolCall, parse_call, render_call
from toolrlef_data.tools.parsing.calls import CallReading, parse_calls, read_call
from toolrlef_data.tools.parsing.json_text import LiteralReader, json_value

SUM = Tool("calculator", "Computes.", str.upper, parameter="formula")
ASK = Tool("QA", "Answers.", str.upper, parameter="question")


@pytest.mark.parametrize(
    ("text", "argument"),
    [
        # With a blank before the parenthesis, a call is alone on its line, behind at most eight blanks and signs.
        ("x\rQA (a)\ry", "a"),
        ("x\nQA (a)`. \ny", "a"),
        (" " * 8 + "QA (a)", "a"),
        (" " * 9 + "QA (a)", None),
        ("x\n" + " " * 7 + "QA (a)", "a"),
        ("x\n* **QA (a)**", "a"),
        ("x\n- QA (a)", None),
        ("QA  (a)", None),
        ("QA\n(a)", None),
        # Quotes and keywords
        ("QA( question=x )", "x"),
        ("QA(Question=x)", "x"),
        ("QA(query == x)", "query == x"),
        ("QA(\u201ca\u201cb\u201d)", "\u201ca\u201cb\u201d"),
        ("QA(\u2018a\u2019)", "a"),
        ("QA(\u201ca\u2019)", "\u201ca\u2019"),
        ("QA(`a`b`)", "`a`b`"),
        ("QA(``)", None),
        ("QA('a b', \"c\" d)", "a b"),
        ("QA('it\\'s')", "it's"),
        ("QA('a\\\\b')", "a\\b"),
        ("QA(\"a\", k=3, question='b')", "a"),
        ("QA(k=3, 'b')", "b"),
        ("QA(other='b', k=3)", "b"),
        ("QA(lang=en, question=tides, k=3)", "tides"),
        ("QA(lang=en, question='the tides', k=3 4)", "the tides"),
        ("QA(q=x, term=y)", "x, term=y"),
        # Objects, lists and methods
        ("QA([])", "[]"),
        ("QA({'question': 'a'})", "a"),
        ("QA({question: a})", "{question: a}"),
        ("QA.ask(a)", "a"),
        ("QA.Ask(a)", None),
        ("QA.ask (a)", None),
        ("xQA(a)", None),
        ("QAx(a)", None),
        # Parentheses
        ("QA((a) (b))", "(a) (b)"),
        ("QA(a))", "a"),
        ("(QA(a)", "a"),
        ("QA((a)", None),
        ("QA() QA(a)", "a"),
        ("QA(a QA(b)", "b"),
        ("QA(\uff08a)", "\uff08a"),
    ],
)
def test_the_argument_of_a_call(text: str, argument: str | None) -> None:
    assert parse_call(text, ASK) == (None if argument is None else ToolCall("QA", argument))
    assert [call.argument for call in parse_calls(text, ASK)][:1] == ([] if argument is None else [argument])


@pytest.mark.parametrize(("name", "is_any_case"), [("a", False), ("abc", False), ("abcd", True), ("ABCD", True)])
def test_a_name_of_more_than_three_letters_is_read_in_any_case(name: str, is_any_case: bool) -> None:
    other = name.swapcase()
    assert parse_call(f"{name}(x)", name) == ToolCall(name, "x")
    assert parse_call(f"{other}(x)", name) == (ToolCall(name, "x") if is_any_case else None)
    assert read_call(f"{other}(x", name).tool == (name if is_any_case else None)
    assert parse_call(f'{{"name": "{other}", "arguments": "x"}}', name) == ToolCall(name, "x"), "JSON names it"


@pytest.mark.parametrize("word", ["tool", "call", "sep", "recipient", "tag", "name", "function", "action"])
def test_every_word_of_a_mark_before_a_name(word: str) -> None:
    for mark in (f"<|{word}|>", f"<{word}>", f"<|begin_{word}_x|>", f"<\uff5c{word}\uff5c>"):
        assert parse_call(f'{mark}calculator\n{{"formula": "6*7"}}', SUM) == ToolCall("calculator", "6*7"), mark
    for mark in (f"<|end_{word}|>", f"</{word}>"):
        assert read_call(f"{mark}calculator is a tool", SUM) == CallReading(), mark
    assert read_call("<|other|>calculator is a tool", SUM) == CallReading()


@pytest.mark.parametrize("key", ["answer", "final_answer", "output", "response", "result", "solution"])
def test_an_object_with_an_answer_is_no_call_unless_it_has_arguments(key: str) -> None:
    assert read_call(f'{{"tool": "calculator", "{key}": "42"}}', SUM) == CallReading()
    assert read_call(f'{{"tool": "calculator", "{key}": "42", "formula": "6*7"}}', SUM).argument == "6*7"
    assert read_call(f'{{"tool": "calculator", "{key}": "42", "args": "6*7"}}', SUM).argument == "6*7"
    nested = f'{{"tool": "calculator", "{key}": {{"name": "calculator", "arguments": "6*7"}}}}'
    assert read_call(nested, SUM).argument == "6*7"


@pytest.mark.parametrize("key", ["id", "type", "call_id", "tool_call_id", "index"])
def test_an_object_that_only_numbers_a_call_is_a_call_without_arguments(key: str) -> None:
    assert read_call(f'{{"name": "calculator", "{key}": "1"}}', SUM).error == "unreadable_call"
    assert read_call('{"name": "calculator", "other": "1"}', SUM).error == "unreadable_call"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"name": "functions.calculator:1234", "arguments": "6*7"}', "6*7"),
        ('{"name": "tool:calculator:", "arguments": "6*7"}', "6*7"),
        ('{"name": "default_api.calculator", "arguments": "6*7"}', "6*7"),
        ('{"name": "my.calculator", "arguments": "6*7"}', None),
        ('{"name": "calculator:12345", "arguments": "6*7"}', None),
        ("{'name'  :  'calculator', 'arguments': '6*7'}", "6*7"),
        ("<tool_call>calculator\n<arg_key>formula</arg_key><arg_value>6*7</tool_call>", "6*7"),
        ("<tool_call>calculator\n<arg_key>k</arg_key><arg_value>1<arg_key>formula</arg_key><arg_value>6*7</arg_value>", "6*7"),
        ("<function=calculator><parameter=k>1<parameter=formula>6*7</function>", "6*7"),
        (">>>calculator\n'6*7'", "6*7"),
        ("call:calculator{formula:<escape>6*7<escape>}", "6*7"),
        ("recall:calculator{formula:<escape>6*7<escape>}", "6*7"),  # a name before braces
        ("to=calculator code<|message|>'6*7'", "6*7"),
        ("see?to=calculator '6*7'", None),
        ("**Action:** calculator\n", "incomplete_call"),
        ("**Action:** calculator\n6*7", "unreadable_call"),
        ("  * Action : calculator[6*7]", "unreadable_call"),
        ("My Action: calculator\n", None),
        ("Action: calculator is a tool", None),
        ("<calculator/>", "incomplete_call"),
        ("<calculator >6*7", "unreadable_call"),
        ("<calculators>", None),
        ("calculator {6*7}", None),
        ("calculator {}", None),
        ('calculator {"a": 1, "b": 2}', "unreadable_call"),
        ('"calculator": {"formula": "6*7"}', None),
        ('{"formula": "6*7", "for": "calculator"}', None),
        ('see {x} {"name": "calculator", "arguments": "6*7"}', "6*7"),
        ('{"a": {"name": "calculator", "arguments": "6*7"}, "b": {"name": "calculator", "arguments": "1"}}', "6*7"),
        ('{"name": "calculator", "arguments": {"a": 1, "b": 2}} calculator(6*7)', "6*7"),
        ('calculator({"a": "1", "b": "2"}) calculator(6*7)', "6*7"),
        ('calculator(6*7) {"name": "calculator", "arguments": {"a": 1, "b": 2}}', "6*7"),
    ],
)  # fmt: skip
def test_the_other_formats(text: str, expected: str | None) -> None:
    reading = read_call(text, SUM)
    found = reading.error if reading.argument is None else reading.argument
    assert (found, reading.tool) == (expected, None if expected is None else "calculator")


def test_the_first_complete_call_counts_and_else_the_first_failed_one() -> None:
    failed = 'calculator({"a": "1", "b": "2"})'
    assert read_call(f"{failed} QA(b) QA(c)", [SUM, ASK]) == CallReading(2, "QA", "b", '{"question": "b"}')
    assert read_call(f"{failed} QA(", [SUM, ASK]) == CallReading(tool="calculator", error="unreadable_call")
    assert read_call(f"{failed} QA(", [SUM, ASK], "length").error == "incomplete_call"
    assert read_call("QA( calculator(", [SUM, ASK]) == CallReading(tool="QA", error="incomplete_call")
    assert read_call("QA(b)", ["QA"]) == CallReading(1, "QA", "b", '{"argument": "b"}'), "of an unknown parameter"


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        (" a ", "QA( a )"),
        ("topic=a", 'QA("topic=a")'),
        ("a == b", "QA(a == b)"),
        ("a=b c", 'QA("a=b c")'),
        ("half \ud83d", "QA(half \ufffd)"),
        ('a) \\ "b"', 'QA("a) \\\\ \\"b\\"")'),
        ("", "QA()"),
    ],
)
def test_the_text_of_a_call(argument: str, text: str) -> None:
    assert render_call(ToolCall("QA", argument)) == text
    expected = argument.replace("\ud83d", "\ufffd").strip()
    assert parse_call(text, ASK) == (ToolCall("QA", expected) if expected else None)


def test_the_literals_of_models() -> None:
    escapes = r'"\n\t\r\b\f\0\/\"\'\\\x41\u00e9\q"'
    assert LiteralReader(escapes).read(0).value == "\n\t\r\b\f\0/\"'\\A\u00e9\\q"
    for text, value in (
        ('{<escape>a<escape>: true, <|"|>b<|"|>: [null]}', {"a": True, "b": [None]}),
        ("{'a': NaN}", None),
        ("<escape>half \ud83d<escape>", "half \ufffd"),
        ("{1: 2, true: 3, None: 4, a_b: 5}", {"1": 2, "true": 3, "None": 4, "a_b": 5}),
        ("-5", -5),
        ("-5.50", -5.5),
        ("1e3", 1000.0),
        ("False", False),
        ("null", None),
    ):
        literal = LiteralReader(text).read(0)
        assert literal.state == "complete", text
        assert literal.value == value or text == "{'a': NaN}", text
    for text, end in (
        ('{a:<|"|>x', 9),
        ("{a:<escape>x", 12),
        ("{'a': 'x", 8),
        ("{'a': 1 <|x", 7),
        ("[1 </x", 2),
    ):
        assert LiteralReader(text).read(0) == (None, end, "cut"), text
    for text in ("1.2.3", "[1 2]", "[,]", "{,}", "[1}", "{1]", "{'a' 'b'}", "{'a',}", "nan", "--5", "[1] ]"[3:]):
        assert LiteralReader(text).read(0).state == "invalid", text


def test_the_messages_of_strict_json() -> None:
    for text, message in (
        ('{"a": 1, "a": 1}', "'a' stands twice in one object"),
        ("[-Infinity]", "-Infinity is no number of JSON"),
        ("1e999", "1e999 is beyond the range of a float"),
        ("-" + "9" * 4300, "a number of more than 4300 digits"),
        ("[" * 65 + "0" + "]" * 65, None),
        ("[" * 66 + "]" * 66, "too many lists and objects in each other"),
        ('{"a":' * 65 + "0" + "}" * 65, "too many lists and objects in each other"),
    ):
        if message is None:
            with pytest.raises(ValueError, match="too many"):
                json_value(text)
            continue
        with pytest.raises(ValueError, match=re.escape(message)) as raised:
            json_value(text)
        assert str(raised.value) == message
    assert json_value("[" * 64 + "0" + "]" * 64) is not None
