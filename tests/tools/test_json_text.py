"""Tests of strict JSON parsing and of the end of a JSON object in a text."""

from __future__ import annotations

import json

import pytest

from toolrlef_data.tools.json_text import json_value, object_end


@pytest.mark.parametrize("text", ['{"a": [1, {"b": null}]}', "0", '"é\\u0000"', "-1.5e3", "[" * 64 + "]" * 64])
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
