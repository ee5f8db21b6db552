"""The exceptions and small records: their tree, as the docstring draws it, their messages and their defaults."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from toolrlef_data import records
from toolrlef_data.choices import Choices
from toolrlef_data.records import (
    Drop,
    InputError,
    Reply,
    Score,
    ToolCall,
    ToolError,
    ToolResult,
    ToolUnavailable,
    UnknownName,
    UnusableRow,
)

BUILT_IN: dict[str, tuple[type, ...]] = {
    "InputError": (ValueError,),
    "UnknownName": (KeyError,),
    "MissingExtra": (ImportError,),
}


def test_the_exceptions_are_those_of_the_tree_in_the_docstring() -> None:
    parents: dict[str, str] = {}
    above: list[str] = ["ToolrlefError"]
    for lead, name in re.findall(r"^ +([│ ]*)[├└]── (\w+)", records.__doc__ or "", re.MULTILINE):
        depth = 1 + len(lead) // 4
        parents[name] = above[depth - 1]
        above[depth:] = [name]
    assert len(parents) == 13
    for name, parent in parents.items():
        assert list(getattr(records, name).__bases__) == [getattr(records, parent), *BUILT_IN.get(name, ())]
    exceptions = {name for name in records.__all__ if isinstance(getattr(records, name), type)}
    exceptions = {name for name in exceptions if issubclass(getattr(records, name), Exception)}
    assert exceptions == {*parents, "ToolrlefError", "ToolError", "ToolUnavailable"}
    assert records.ToolrlefError.__bases__ == ToolError.__bases__ == (Exception,)


@pytest.mark.parametrize(
    ("choices", "listed"),
    [
        (["b", "a", "b"], "a, b"),
        (("b", 3), "3, b"),
        ({"b", "a"}, "a, b"),
        (frozenset({"a"}), "a"),
        ({"b": 1, "a": 2}, "a, b"),
        (Choices("digit", {"pi": "math:pi", "e": "math:e"}), "e, pi"),
        ([], "(none)"),
        ("text", "(none)"),
        (5, "(none)"),
    ],
)
def test_an_unknown_name_lists_the_choices(choices: Any, listed: str) -> None:
    error = UnknownName("task", ["x"], choices)
    assert str(error) == error.message == error.args[0] == f"unknown task ['x']; choose from: {listed}"


def test_the_reason_of_an_unusable_row() -> None:
    error = UnusableRow("too_long", "812 tokens")
    assert (error.reason, error.detail, str(error)) == ("too_long", "812 tokens", "too_long: 812 tokens")
    assert (UnusableRow("empty").detail, isinstance(error, InputError)) == ("", True)


@pytest.mark.parametrize("kind", ["a", "unknown_unit", "http2", "a" * 40, "a_"])
def test_a_tool_error_has_a_kind_and_a_detail(kind: str) -> None:
    error = ToolError(kind, "why")
    assert (error.kind, error.detail, str(error)) == (kind, "why", f"{kind}: why")
    assert ToolError(kind).detail == ""


@pytest.mark.parametrize("kind", ["", "a" * 41, "2a", "_a", "Timeout", "a b", "a\n", "ä", None, ["a"], "x" * 200])
def test_another_kind_of_a_tool_error_is_refused(kind: Any) -> None:
    message = f"the kind of a ToolError must be a name such as 'unknown_unit', found {kind!r:.80}"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        ToolError(kind)


def test_a_tool_that_cannot_be_reached() -> None:
    error = ToolUnavailable("the server restarts")
    assert (error.kind, error.detail, isinstance(error, ToolError)) == ("unavailable", "the server restarts", True)
    assert ToolUnavailable().detail == ""


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (lambda: ToolResult(), "ToolResult(value=None, error=None, detail='')"),
        (lambda: ToolCall("a", "b"), "ToolCall(tool='a', argument='b')"),
        (lambda: Drop("a"), "Drop(reason='a', detail='')"),
        (lambda: Score("a", 1.0, "gold"), "Score(name='a', score=1.0, state='gold')"),
        (
            lambda: Reply("a"),
            "Reply(text='a', reasoning='', tool_calls=(), finish_reason='stop', error=None, error_detail='', "
            "prompt_tokens=None, completion_tokens=None)",
        ),
    ],
)
def test_the_fields_and_defaults_of_a_record(make: Callable[[], object], shown: str) -> None:
    assert repr(make()) == shown


def test_a_registry_prefers_the_objects_of_the_user_and_refuses_what_cannot_be_a_name() -> None:
    digits: Choices[Any] = Choices("digit", {"pi": "math:pi"})
    digits.added.update(pi=3, e=2.7)
    assert (digits["pi"], digits["e"]) == (3, 2.7)
    for name in (["pi"], 5, None, "tau"):
        with pytest.raises(UnknownName, match=r"^unknown digit .*; choose from: e, pi$"):
            digits[name]  # type: ignore[index]
    assert Choices("digit", {"a": "math:pi"}).added == {}, "each registry has its own"
