"""Tests of strict JSON parsing and of the end of a JSON object in a text."""

from __future__ import annotations

import json
import random
import re

import pytest

from tests.support.cpu_time import cpu_limit
from toolrlef_data.tools.parsing.json_text import LiteralReader, json_value, object_end


@pytest.mark.parametrize(
    "text", ['{"a": [1, {"b": null}]}', "0", '"é\\u0000"', "-1.5e3", "[" * 65 + "]" * 65, "9" * 4300]
)
def test_valid_json(text: str) -> None:
    assert json_value(text) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 1}', '[{"a": 1, "a": 2}]', "NaN", "-Infinity", "1e999", "9" * 4301, "[1] 2", "", "'a'", "\ufeff1"],
    ids=lambda text: ascii(text)[:20],
)
@pytest.mark.parametrize("max_depth", [64, None])
def test_strict_json_refuses(text: str, max_depth: int | None) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # some messages come from the json module
        json_value(text, max_depth)


def test_nesting_is_limited() -> None:
    deep = "[" * 66 + "]" * 66
    json_value(deep, max_depth=None)
    with pytest.raises(ValueError, match="too many"):
        json_value(deep)
    for max_depth in (64, None):
        with pytest.raises(ValueError, match="too many"):
            json_value("[" * 200_000 + "]" * 200_000, max_depth)


@pytest.mark.parametrize(
    ("text", "with_brackets", "braces_only"),
    [
        ('{"a": "}"} x', 10, 10),
        ('{"a": {"b": [1]}}', 17, 17),
        ('{"a": "\\"}"}', 12, 12),
        ("[1, 2]", 6, 0),
        ("x{}", 0, 0),
        ("", 0, 0),
        ('{"a": 1', 0, 0),
        ("{]", 2, 0),
        ("{[}", 0, 3),
        ('{"a}', 4, 0),  # an unclosed quote
        ("{\\}}", 3, 4),  # an escape outside a string
    ],
)
def test_end_of_an_object(text: str, with_brackets: int, braces_only: int) -> None:
    assert object_end(text, 0) == with_brackets
    assert object_end(text, 0, brackets=False) == braces_only
    assert object_end("{" + text, 1) == (with_brackets and with_brackets + 1)


def test_length_and_depth_limits_of_an_object() -> None:
    assert object_end('{"a": 1}', 0, max_length=8) == 8
    assert object_end('{"a": 1}', 0, max_length=7) == 0
    assert object_end("{[{}]}", 0, max_depth=3) == 6
    assert object_end("{[{}]}", 0, max_depth=2) == 0


@pytest.mark.parametrize(
    "text",
    ['{\\"' * 250_000, "{" + '\\"' * 250_000, '{"' * 250_000, '{"a\\\\' * 150_000, '{"' + "\\" * 500_001],
    ids=lambda text: repr(text[:6]),
)
def test_the_end_of_an_object_is_found_in_linear_time(text: str) -> None:
    with cpu_limit(10.0):
        assert object_end(text, 0) == object_end(text, 0, brackets=False) == 0


def test_the_last_unescaped_quote_is_the_last_end_of_a_string() -> None:
    """The search for the end of a string equals a search that tries every quote, as before."""
    draw = random.Random(3)
    mark = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{\]}]', re.DOTALL)
    for _ in range(5000):
        text = "{" + "".join(draw.choice('{}[]"\\a') for _ in range(draw.randint(0, 14)))
        depth = end = 0
        for match in mark.finditer(text):
            depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(match[0], 0)
            if not depth:
                end = match.end()
                break
        assert object_end(text, 0) == end, text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, -2.5, {"b": null}], "c": "x\\n\\u00e9"}', {"a": [1, -2.5, {"b": None}], "c": "x\n\u00e9"}),
        ("{'a': True, 'b': None, 'c': \"it's\",}", {"a": True, "b": None, "c": "it's"}),
        (r"{'a': 'it\'s \x41 \d'}", {"a": "it's A \\d"}),
        ("{a:<escape>x, {y}<escape>,b:3}", {"a": "x, {y}", "b": 3}),
        ('{a:<|"|>x "y"<|"|>}', {"a": 'x "y"'}),
        ('"\\ud83d\\udc1f \\ud83d"', "\U0001f41f \ufffd"),  # a pair, and an unpaired surrogate
        ('{"a": 1, "a": 2}', {"a": 2}),
        ("[]", []),
        ("  7 apples", 7),
    ],
)
def test_literals(text: str, value: object) -> None:
    literal = LiteralReader(text).read(0)
    assert (literal.value, literal.state) == (value, "complete")


@pytest.mark.parametrize(
    ("text", "state", "end"),
    [
        ('{"a": "x', "cut", 8),
        ('{"a": "x\nand more', "cut", 8),  # an unclosed string ends with its line
        ('{"a": {"b": 1}', "cut", 14),
        ('{"a": 1\n</tool_call> more', "cut", 7),
        ("{'a': 1 ```", "cut", 7),
        ("['a' [/TOOL_CALLS]", "cut", 4),
        ("", "cut", 0),
        ('{"a" 1}', "invalid", 4),
        ('{"a": b}', "invalid", 5),
        ("{__import__('os')}", "invalid", 11),  # nothing is evaluated
        ('{"a": 1 + 1}', "invalid", 7),
        ("{]", "invalid", 1),
        ("]", "invalid", 0),
        ('{"a": ' + "9" * 5000 + "}", "invalid", 5),
        ("[" * 65 + "]" * 65, "invalid", 64),
    ],
)
def test_literals_that_cannot_be_read(text: str, state: str, end: int) -> None:
    assert LiteralReader(text).read(0) == (None, end, state)


def test_valid_json_is_read_as_by_the_json_module() -> None:
    draw = random.Random(4)
    for _ in range(500):
        value = random_value(draw, 0)
        for ensure_ascii in (True, False):
            text = json.dumps(value, ensure_ascii=ensure_ascii, indent=draw.choice((None, 1)))
            assert LiteralReader(f"x {text} y").read(1).value == value
        assert LiteralReader(repr(value)).read(0).value == value


def random_value(draw: random.Random, depth: int) -> object:
    kind = draw.randint(0, 5 if depth < 4 else 3)
    if kind < 2:
        return "".join(draw.choice("ab\"'\\\n{}[]:,é\U0001f41f") for _ in range(draw.randint(0, 8)))
    if kind < 4:
        return draw.choice([None, True, False, 0, -17, 2.5, 1e-7, 10**30])
    values = [random_value(draw, depth + 1) for _ in range(draw.randint(0, 3))]
    return values if kind == 4 else {str(random_value(draw, 9)): item for item in values}
