"""The name of a tool, and a tool as a function: the schema that a trainer reads from it is the tool's."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from toolrlef_data import TASKS, TOOLS, EngineSpec, InputError, Tool, ToolCall, ToolError, tool_schema
from toolrlef_data.engines.reply_store import open_store, store_path
from toolrlef_data.records import ToolResult, TooManyFailures
from toolrlef_data.tools.parsing.calls import parse_call, render_call
from toolrlef_data.tools.results import run_tool, tool_identity
from toolrlef_data.tools.tool import ToolInput


def test_the_schema_of_the_function_is_that_of_the_tool() -> None:
    from transformers.utils import get_json_schema

    for tool in (TOOLS["calculator"], Tool("look", "Looks it up.", str.upper, parameter="query")):
        schema = get_json_schema(tool.as_function())
        schema["function"].pop("return")
        for parameter in schema["function"]["parameters"]["properties"].values():
            parameter.pop("description")
        assert schema == json.loads(tool_schema(tool))


def test_the_function_returns_text_and_raises_failures() -> None:
    function = TOOLS["calculator"].as_function()
    assert (function.__name__, function("3*4"), function(formula="1/4")) == ("calculator", "12", "0.25")
    with pytest.raises(ToolError, match="zero_division"):
        function(formula="1/0")
    with pytest.raises(TypeError):
        function(expression="3*4")
    assert Tool("pages", "Finds pages.", lambda text: (text, text)).as_function()("a") == "a\n\na"


def test_tools_without_a_function_are_refused() -> None:
    with pytest.raises(InputError, match="not set up"):
        TASKS["qa"].tool.as_function()
    engine = EngineSpec("openai_api", "m")
    with pytest.raises(InputError, match="needs a model"):
        Tool("QA", "Answers.", engine=engine, prompt=lambda argument, texts: argument).as_function()
    with pytest.raises(InputError, match="Python names"):
        Tool("look up", "Looks it up.", str.upper).as_function()


@pytest.mark.parametrize(
    "name", ["a(", "a)", "(", "", " ", " a", "a ", "a\nb", 'a"b', "a[0]", "<a>", "a{", "a\\b", "a\0", None, 3]
)
def test_a_name_that_no_call_can_contain_is_refused(name: Any) -> None:
    with pytest.raises(InputError, match="name must be a name"):
        Tool(name, "Says it louder.", str.upper)


@pytest.mark.parametrize("name", ["look up", "look.up", "look-up", "search/v2", "suche_ähnlich", "検索", "a"])
def test_a_call_of_each_accepted_name_is_read_back(name: str) -> None:
    tool = Tool(name, "Says it louder.", str.upper)
    call = ToolCall(name, "figs")
    assert parse_call(render_call(call), tool) == call


class Batches:
    """The sizes of the executed batches; not a global list, which would be part of the tool's key."""

    sizes: ClassVar[list[int]] = []


def fail_as(error: str | None, inputs: Sequence[ToolInput]) -> list[ToolResult]:
    Batches.sizes.append(len(inputs))
    if error is not None:
        raise ToolError(error, "no answer")
    if any(call.argument == "poison" for call in inputs):
        raise ValueError("a bug in the tool")
    return [ToolResult(call.argument.upper()) for call in inputs]


def test_a_reported_failure_applies_to_the_batch_and_a_crash_to_one_call() -> None:
    """A server that is down is not asked once for each call."""
    inputs = [ToolInput(text) for text in ("a", "poison", "b")]
    for error in ("timeout", "unavailable", "no_result"):
        Batches.sizes.clear()
        results = Tool("shout", "", many=functools.partial(fail_as, error)).run_many(inputs)
        assert results == [ToolResult(error=error, detail="no answer")] * 3
        assert Batches.sizes == [3]
    Batches.sizes.clear()
    results = Tool("shout", "", many=functools.partial(fail_as, None)).run_many(inputs)
    assert [(result.value, result.error) for result in results] == [("A", None), (None, "crashed"), ("B", None)]
    assert Batches.sizes == [3, 1, 1, 1]


@pytest.mark.parametrize("value", [(), ("a", None), ["a"], None, b"a", True, float("inf")])
def test_a_value_of_another_form_is_a_crash(value: Any) -> None:
    for tool in (Tool("odd", "", lambda argument: value), Tool("odd", "", many=lambda inputs: [ToolResult(value)])):
        assert tool.run("x").error == "crashed"


KEY = "sk-proj-0123456789abcdefABCDEF"


class Unprintable(Exception):
    def __str__(self) -> str:
        raise KeyError("a bug in the exception")


def failing(error: Exception) -> Callable[[Any], Any]:
    def fail(argument: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    "tool",
    [
        Tool("odd", "", failing(ToolError("unavailable", f"bad key {KEY}"))),
        Tool("odd", "", failing(RuntimeError(f"bad key {KEY}"))),
        Tool("odd", "", many=failing(ToolError("timeout", f"bad key {KEY}"))),
        Tool("odd", "", many=failing(RuntimeError(f"bad key {KEY}"))),
        Tool("odd", "", many=lambda inputs: [ToolResult(error="http", detail=f"bad key {KEY}")]),
        Tool("odd", "", many=lambda inputs: [ToolResult(error="No kind!", detail=f"bad key {KEY}")]),
    ],
)
def test_no_failure_of_a_tool_shows_a_key(tool: Tool) -> None:
    result = tool.run("x")
    assert result.error is not None
    assert "bad key [key]" in result.detail


def test_an_exception_without_a_message_is_named_by_its_type() -> None:
    assert Tool("odd", "", failing(Unprintable())).run("x") == ToolResult(error="crashed", detail="Unprintable")


def test_an_error_of_this_package_in_a_tool_is_raised() -> None:
    """A tool that is not set up is no failed call."""
    for tool in (
        Tool("odd", "", failing(InputError("no corpus"))),
        Tool("odd", "", many=failing(InputError("no corpus"))),
    ):
        with pytest.raises(InputError, match="no corpus"):
            tool.run("x")


@pytest.mark.parametrize("value", ["half \ud800", ("whole", "half \ud800")])
def test_the_text_of_a_value_can_be_encoded(value: Any) -> None:
    for tool in (Tool("odd", "", lambda argument: value), Tool("odd", "", many=lambda inputs: [ToolResult(value)])):
        result = tool.run("x")
        assert result.error is None
        json.dumps(result.value, ensure_ascii=False).encode()


def test_a_run_with_too_many_failures_names_their_number_and_the_last() -> None:
    def refuse(inputs: Sequence[ToolInput]) -> list[ToolResult]:
        return [ToolResult(error="unavailable", detail=f"busy with {call.argument}") for call in inputs]

    tool = Tool("odd", "", many=refuse, batch=2, max_failed=0.0)
    inputs = [ToolInput(str(n)) for n in range(40)]
    with pytest.raises(TooManyFailures, match=r"^12 of 12 calls of odd failed(?s:.*)unavailable: busy with 11$"):
        run_tool(inputs, tool, "identity", open_store(store_path()))


def test_results_of_a_model_belong_to_its_weights(tmp_path: Path) -> None:
    """The folder of a model may get other weights under the same name."""
    files = {"config.json": "{}", "model.safetensors": "weights", "tokenizer.json": "{}", "tokenizer_config.json": "{}"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    spec = EngineSpec("local", str(tmp_path), device="cpu")
    tool = Tool("QA", "Answers.", engine=spec, prompt=lambda argument, texts: argument)
    before = tool_identity(tool)
    assert tool_identity(tool) == before
    (tmp_path / "model.safetensors").write_text("other weights")
    assert tool_identity(tool) != before
