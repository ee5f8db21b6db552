"""The boundary around the code of a tool: each value and exception as a result, with its whole message."""

from __future__ import annotations

from typing import Any

import pytest

from toolrlef_data import EngineSpec, InputError, Tool, ToolError, tool_schema
from toolrlef_data.records import ToolResult
from toolrlef_data.tools.boundary import call_safely, checked_result, checked_value, result_text
from toolrlef_data.tools.tool import ToolInput

KEY = "sk-proj-0123456789abcdefABCDEF"
EXPECTED = "expected a text, a finite number or a tuple of texts, found "


@pytest.mark.parametrize(
    ("value", "found"),
    [
        *((value, None) for value in ("", "text", 0, -3, 2.5, ("",), ("a", "b"), 2**13_000 - 1, -(2**12_999))),
        (2**13_000, "int"),  # more digits than Python formats
        (True, "bool"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ((), "tuple"),
        (("a", 1), "tuple"),
        (None, "None"),
        (["a"], "['a']"),
        ({"key": KEY}, "{'key': '[key]'}"),
        (b"x" * 99, "b'" + "x" * 78),  # 80 characters
    ],
)
def test_a_value_is_a_result_or_a_crash(value: Any, found: str | None) -> None:
    result = ToolResult(value) if found is None else ToolResult(error="crashed", detail=EXPECTED + found)
    assert checked_value(value) == checked_result(ToolResult(value)) == result
    assert type(checked_value(value).value) is type(result.value)


def test_a_reported_result_keeps_its_kind_and_loses_keys() -> None:
    assert checked_result(ToolResult(error="my_kind", detail=f"bad {KEY}")) == (None, "my_kind", "bad [key]")
    assert checked_result(ToolResult("ignored", "http")) == (None, "http", "")
    for kind in ("My kind", "", "a" * 41):
        crash = checked_result(ToolResult(error=kind, detail=f"{KEY} {'x' * 300}"))
        assert crash == (None, "crashed", f"the error kind {kind!r} is no name: [key] {'x' * 300}"[:200])
    assert checked_result(ToolResult(error="a" * 40)).error == "a" * 40


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (ToolError("my_kind", f"bad {KEY} {'x' * 300}"), ToolResult(error="my_kind", detail=f"bad [key] {'x' * 300}")),
        (KeyError("a"), ToolResult(error="crashed", detail="KeyError: 'a'")),
        (OSError(f"{KEY} {'x' * 300}"), ToolResult(error="crashed", detail=f"OSError: [key] {'x' * 300}"[:200])),
        (SystemExit(3), ToolResult(error="crashed", detail="SystemExit: 3")),
        (GeneratorExit(), ToolResult(error="crashed", detail="GeneratorExit: ")),
    ],
)
def test_an_exception_is_a_result(error: BaseException, result: ToolResult) -> None:
    def fail(argument: str) -> str:
        raise error

    assert call_safely(fail, "x") == (None, result)
    if isinstance(error, ToolError) or not isinstance(error, Exception):
        assert call_safely(fail, "x", raise_bugs=True) == (None, result), "no bug of the function"
    else:
        with pytest.raises(type(error)):
            call_safely(fail, "x", raise_bugs=True)


def test_the_text_of_a_result() -> None:
    assert [result_text(ToolResult(value)) for value in (("a", "b"), ("a",), 2.5, 7, "x")] == [
        *("a\n\nb", "a", "2.5", "7", "x")
    ]
    with pytest.raises(ToolError) as raised:
        result_text(ToolResult("value", "my_kind", "why"))
    assert (raised.value.kind, raised.value.detail) == ("my_kind", "why")


def test_a_batch_with_another_number_of_results_is_a_crash() -> None:
    def lose(inputs: Any) -> list[ToolResult]:
        texts = [call.argument for call in inputs if call.argument != "lost"]
        return [ToolResult(text) for text in (*texts, *texts[:1] * ("twice" in texts))]

    tool = Tool("odd", "Loses.", many=lose)
    for texts in (["a", "lost"], ["lost", "a"], ["a", "twice"]):
        counts = {"a": None, "lost": 0, "twice": 2}
        alone = [ToolResult(text) if (n := counts[text]) is None else crash(1, n) for text in texts]
        assert tool.run_many([ToolInput(text) for text in texts]) == alone, "each call alone"
    assert Tool("fast", "Says.", str.upper).run_many([ToolInput("a", "de"), ToolInput("b")]) == [
        *map(ToolResult, ("A", "B"))
    ]
    assert Tool("QA", "Answers.", engine=EngineSpec("scripted", "m"), prompt=lambda argument, texts: argument).run_many(
        [ToolInput("a")]
    ) == [ToolResult(())]


def crash(expected: int, found: int) -> ToolResult:
    return ToolResult(error="crashed", detail=f"expected {expected} results, found {found}")


ENGINE = EngineSpec("scripted", "m")
WAYS = "the tool 'odd' needs either function=, or many= and/or engine="
TOGETHER = "the tool 'odd' needs engine= and prompt= together"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, WAYS),
        ({"function": str, "many": list}, WAYS),
        ({"function": str, "engine": ENGINE, "prompt": str}, WAYS),
        ({"engine": ENGINE}, TOGETHER),
        ({"many": list, "prompt": str}, TOGETHER),
        ({"function": str, "prompt": str}, TOGETHER),
        ({"engine": "gpt", "prompt": str}, "the tool 'odd' needs an EngineSpec as engine, found str"),
        ({"function": 5}, "the tool 'odd': function must be a function, found 5"),
        ({"many": 5}, "the tool 'odd': many must be a function, found 5"),
        ({"function": str, "description": 5}, "the tool 'odd': description must be text, found 5"),
        ({"function": str, "parameter": " "}, "the tool 'odd': parameter must be a name, found ' '"),
        ({"function": str, "version": 5}, "the tool 'odd': version must be text, found 5"),
        ({"function": str, "batch": 0}, "the tool 'odd': batch must be an integer of at least 1, found 0"),
        ({"function": str, "max_failed": 1.1}, "the tool 'odd': max_failed must be a share from 0 to 1, found 1.1"),
        ({"function": str, "max_failed": -0.1}, "the tool 'odd': max_failed must be a share from 0 to 1, found -0.1"),
        ({"function": str, "max_failed": True}, "the tool 'odd': max_failed must be a share from 0 to 1, found True"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        Tool("odd", **{"description": "Says.", **settings})
    assert str(raised.value) == message


def test_the_defaults_and_the_limits_of_the_settings() -> None:
    tool = Tool("odd", "Says it.", str.upper)
    assert (tool.parameter, tool.version, tool.batch, tool.max_failed, tool.is_slow) == (
        "argument",
        "1",
        256,
        0.2,
        False,
    )
    for max_failed in (0, 1):
        assert Tool("odd", "Says.", many=lambda inputs: [], max_failed=max_failed).is_slow
    assert tool.published() == {"name": "odd", "version": "1"}
    assert tool.signatures == (("odd", "argument"),)
    assert tool_schema(Tool("odd", "Says \u00e9.", str.upper, parameter="text")) == (
        '{"type": "function", "function": {"name": "odd", "description": "Says \u00e9.", "parameters": '
        '{"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}}}'
    )
    function = Tool("odd", "Says it.", str.upper, parameter="text").as_function()
    assert (function.__name__, function.__qualname__) == ("odd", "odd")
    assert function.__doc__ == "Says it.\n\nArgs:\n    text: the argument of the call.\n"
    assert function.__annotations__ == {"text": str, "return": str}
