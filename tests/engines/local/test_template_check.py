"""What a chat template leaves out is found part by part, whatever it does to the words."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from toolrlef_data.engines.local.template_check import Part, find_omitted_parts

TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "Rain?"},
    {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [
            {"function": {"name": "rain", "arguments": {"in": "Oslo"}}},
            {"function": {"name": "wind", "arguments": "{3"}},
        ],
    },
    {"role": "tool", "content": "Yes."},
]
TOOLS = [{"type": "function", "function": {"name": "rain"}}, {"type": "function", "function": {"name": "wind"}}]
CONTENTS = {0: "Rain?", 1: "", 2: "Yes."}


def whole(turns: Sequence[Any], tools: Sequence[Any]) -> str:
    return json.dumps([turns, tools])


def contents(turns: Sequence[Any], tools: Sequence[Any]) -> str:
    return json.dumps([[turn["content"] for turn in turns], tools])


def first_calls(turns: Sequence[Any], tools: Sequence[Any]) -> str:
    return json.dumps([[{**turn, "tool_calls": turn.get("tool_calls", [])[:1]} for turn in turns], tools[:1]])


def names(turns: Sequence[Any], tools: Sequence[Any]) -> str:
    return contents(turns, tools) + "".join(c["function"]["name"] for t in turns for c in t.get("tool_calls", []))


def cut(turns: Sequence[Any], tools: Sequence[Any]) -> str:
    return whole([{**turn, "content": turn["content"][:10]} for turn in turns], tools)


FUNCTIONS = [Part("function", 0, "rain"), Part("function", 0, "wind")]
CALLS = [Part("call", 1, "rain"), Part("arguments", 1, "rain"), Part("call", 1, "wind"), Part("arguments", 1, "wind")]


@pytest.mark.parametrize(
    ("render", "lost"),
    [
        (whole, []),
        (contents, CALLS),
        (names, CALLS[1::2]),
        (first_calls, [FUNCTIONS[1], *CALLS[2:]]),
        (cut, [Part("content", 0), Part("content", 2)]),  # the end of a text counts where its beginning stays
        (lambda turns, tools: "", [*FUNCTIONS, Part("content", 0), Part("content", 1), *CALLS, Part("content", 2)]),
    ],
)
def test_every_part_that_is_not_rendered_is_listed(render: Callable[[Any, Any], str], lost: list[Part]) -> None:
    assert find_omitted_parts(TURNS, TOOLS, CONTENTS, render) == lost


def test_what_is_shown_is_a_copy_and_only_what_is_looked_for_is_rendered() -> None:
    before = json.dumps([TURNS, TOOLS])
    assert find_omitted_parts(TURNS, TOOLS, {}, contents) == CALLS
    assert json.dumps([TURNS, TOOLS]) == before

    def refuse(turns: Sequence[Any], tools: Sequence[Any]) -> str:
        raise AssertionError("there is nothing to look for")

    assert find_omitted_parts(TURNS[:1], [], {}, refuse) == []
