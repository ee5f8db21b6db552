"""Detection of message parts that a chat template omits."""

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


def render_all(turns: Sequence[Any], tools: Sequence[Any]) -> str:
    return json.dumps([turns, tools])


def render_contents(turns: Sequence[Any], tools: Sequence[Any]) -> str:
    return json.dumps([[turn["content"] for turn in turns], tools])


def render_first_calls(turns: Sequence[Any], tools: Sequence[Any]) -> str:
    return json.dumps([[{**turn, "tool_calls": turn.get("tool_calls", [])[:1]} for turn in turns], tools[:1]])


def render_names(turns: Sequence[Any], tools: Sequence[Any]) -> str:
    return render_contents(turns, tools) + "".join(
        c["function"]["name"] for t in turns for c in t.get("tool_calls", [])
    )


def render_truncated(turns: Sequence[Any], tools: Sequence[Any]) -> str:
    return render_all([{**turn, "content": turn["content"][:10]} for turn in turns], tools)


FUNCTIONS = [Part("function", 0, "rain"), Part("function", 0, "wind")]
CALLS = [Part("call", 1, "rain"), Part("arguments", 1, "rain"), Part("call", 1, "wind"), Part("arguments", 1, "wind")]


@pytest.mark.parametrize(
    ("render", "omitted"),
    [
        (render_all, []),
        (render_contents, CALLS),
        (render_names, CALLS[1::2]),
        (render_first_calls, [FUNCTIONS[1], *CALLS[2:]]),
        (render_truncated, [Part("content", 0), Part("content", 2)]),  # the marker is at the end of the text
        (lambda turns, tools: "", [*FUNCTIONS, Part("content", 0), Part("content", 1), *CALLS, Part("content", 2)]),
    ],
)
def test_omitted_parts_are_listed(render: Callable[[Any, Any], str], omitted: list[Part]) -> None:
    assert find_omitted_parts(TURNS, TOOLS, CONTENTS, render) == omitted


def test_arguments_keep_their_form() -> None:
    """Some templates iterate over an object, and join a text."""

    def render(turns: Sequence[Any], tools: Sequence[Any]) -> str:
        (first, second) = (call["function"] for call in turns[1]["tool_calls"])
        return first["name"] + "".join(first["arguments"]) + second["name"] + second["arguments"]

    assert find_omitted_parts(TURNS, [], {}, render) == []


def test_input_is_not_modified_and_only_checked_parts_are_rendered() -> None:
    before = json.dumps([TURNS, TOOLS])
    assert find_omitted_parts(TURNS, TOOLS, {}, render_contents) == CALLS
    assert json.dumps([TURNS, TOOLS]) == before

    def refuse(turns: Sequence[Any], tools: Sequence[Any]) -> str:
        raise AssertionError("`render` was called without a part to check")

    assert find_omitted_parts(TURNS[:1], [], {}, refuse) == []
