"""Tools of Python functions: the whole result of each exception and of each value that is none, and of each default."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Literal
from urllib.error import URLError

import pytest

from toolrlef_data import InputError, Tool, ToolError, ToolUnavailable
from toolrlef_data.records import ToolResult
from toolrlef_data.tools.functions.execution import MAX_LENGTH, Observation, call, truncate
from toolrlef_data.tools.functions.function import Function
from toolrlef_data.tools.functions.python_tools import describe_function

KEY = "sk-proj-0123456789abcdefABCDEF"


class ConnectError(Exception):
    """As in an HTTP client with exceptions of its own."""


class APIConnectionError(Exception):
    """As in a client of a model."""


class PoolTimeout(ConnectError):
    """A timeout while it connects."""


class Reconnect(Exception):  # no error of a network by its name
    """Another exception."""


def tool_that(act: Callable[[], Any]) -> Tool:
    def say(text: str) -> Any:
        """Says it.

        Args:
            text: Any.
        """
        return act()

    return Tool.from_function(say)


def raising(error: BaseException) -> Callable[[], Any]:
    def act() -> Any:
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "kind", "detail"),
    [
        (ValueError("x" * 999), "invalid_value", "x" * 200),
        (ValueError(), "invalid_value", "ValueError"),
        (ValueError(f"bad {KEY}"), "invalid_value", "bad [key]"),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), "invalid_value", "'utf-8' codec can't decode byte 0x78 in position 0: bad"),
        (ZeroDivisionError("by 0"), "zero_division", "by 0"),
        (TimeoutError("late"), "timeout", "late"),
        (ConnectionResetError("reset"), "unavailable", "reset"),
        (URLError(ConnectionRefusedError("refused")), "unavailable", "refused"),
        (URLError(TimeoutError("late")), "unavailable", "late"),
        (ConnectError("no"), "unavailable", "no"),
        (APIConnectionError("no"), "unavailable", "no"),
        (PoolTimeout("late"), "timeout", "late"),
        (ToolError("my_kind", "why"), "my_kind", "why"),
        (ToolUnavailable("gone"), "unavailable", "gone"),
        (Reconnect("x"), "crashed", "Reconnect: x"),
        (OSError("disk"), "crashed", "OSError: disk"),
        (URLError("unknown"), "crashed", "URLError: <urlopen error unknown>"),
        (KeyError("x"), "crashed", "KeyError: 'x'"),
        (OverflowError("big"), "crashed", "OverflowError: big"),
    ],
)  # fmt: skip
def test_the_result_of_an_exception(error: Exception, kind: str, detail: str) -> None:
    assert tool_that(raising(error)).run("x") == ToolResult(error=kind, detail=detail)


MORE = 'expected a text, a number or a tuple of texts; raise ToolError("no_result") if there is no result'


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, f"the tool returned NoneType, {MORE}"),
        ((), f"the tool returned tuple, {MORE}"),
        (("a", 1), f"the tool returned tuple, {MORE}"),
        (b"a", f"the tool returned bytes, {MORE}"),
        (float("inf"), "the tool returned inf, expected a finite number"),
        (float("nan"), "the tool returned nan, expected a finite number"),
    ],
)
def test_the_message_of_a_value_that_is_none(value: Any, message: str) -> None:
    with pytest.raises(TypeError) as raised:
        tool_that(lambda: value).run("x", raise_bugs=True)
    assert str(raised.value) == message
    assert tool_that(lambda: value).run("x").detail == f"TypeError: {message}"[:200]


class Unit(enum.Enum):
    KM = "km"


def with_default(default: Any, hint: Any) -> Callable[..., str]:
    def say(text: str, unit: Any = default) -> str:
        """Says it.

        Args:
            text: Any.
            unit: The unit.
        """
        return f"{text} {unit}"

    say.__annotations__["unit"] = hint
    return say


@pytest.mark.parametrize(
    ("default", "hint", "error"),
    [
        (3, int, None),
        (3.0, int, None),
        ("km", Literal["km", "m"], None),
        (Unit.KM, Unit, None),
        (None, int | None, None),
        ("3", int, "the default '3' does not match the type hint: the parameter 'unit' must be integer, found string"),
        (None, int, "the default None does not match the type hint: the parameter 'unit' must be integer, found null"),
        ("cm", Literal["km"], "the default 'cm' does not match the type hint: the parameter 'unit' must be one of [\"km\"]"),
        ({1}, list[int], "the default {1} does not match the type hint: Object of type set is not JSON serializable"),
    ],
)  # fmt: skip
def test_a_default_that_does_not_match_is_named(default: Any, hint: Any, error: str | None) -> None:
    function = with_default(default, hint)
    if error is None:
        described = describe_function(function)
        assert (described.name, described.description) == ("say", "Says it.")
        assert described.call.names.required == {"text"}
        assert not described.call.takes_text
        assert described.call.enums == ((("unit", Unit),) if hint is Unit else ())
        return
    with pytest.raises(InputError) as raised:
        describe_function(function)
    assert str(raised.value) == f"the function 'say': {error}"


SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


def test_the_whole_text_of_an_observation() -> None:
    """It is shown to models, and part of the keys of later replies."""

    def observe(act: Callable[[], Any], name: str = "f", arguments: str = '{"text": "x"}') -> Observation:
        function = Function("f", "F.", SCHEMA, lambda text: act())
        return call({"f": function}, name, arguments)

    def failed(code: int, error: str, failure: str | None = None) -> Observation:
        return Observation(f'{{"error": "{error}", "response": ""}}', code, failure)

    assert observe(lambda: {"a": ["\u00e9"]}) == ('{"error": "", "response": {"a": ["\u00e9"]}}', 0, None)
    assert observe(lambda: 1, "g") == failed(1, "there is no function 'g'; the functions are f, Finish")
    assert observe(lambda: 1, arguments="{}") == failed(2, "the parameter 'text' is required; the parameters are text")
    assert observe(raising(ToolError("timeout", "late"))) == failed(5, "timeout: late", "timeout")
    assert observe(raising(ToolError("my_kind", "why"))) == failed(12, "my_kind: why")
    assert observe(raising(ToolError("http", "why"))) == failed(12, "http: why", "http")
    assert observe(raising(KeyError("x"))) == failed(12, "crashed: KeyError: 'x'", "crashed")
    assert observe(lambda: float("nan")).tool_failure == "crashed"
    finished = [call({}, "Finish", text) for text in (
        '{"return_type": "give_answer", "final_answer": "42"}',
        '{"return_type": "give_answer", "final_answer": " "}',
        '{"return_type": "give_up_and_restart"}',
    )]  # fmt: skip
    assert finished == [
        ('{"error": "", "response": "The final answer is given."}', 3, None),
        failed(2, "give_answer needs a final_answer that is not empty"),
        ('{"error": "", "response": "This attempt is given up."}', 4, None),
    ]
    names = [f"name_{n:03}" for n in range(100)]
    many = {name: Function(name, "F.", SCHEMA, len) for name in names}
    known = ", ".join([*names, "Finish"])[:512]
    assert call(many, "g", "{}") == failed(1, f"there is no function 'g'; the functions are {known}...")
    assert (MAX_LENGTH, truncate("abc", 3), truncate("abcd", 3), truncate("\ud800", 3)) == (
        1024,
        "abc",
        "abc...",
        "\ufffd",
    )
