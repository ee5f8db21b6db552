"""The name of a tool, and a tool as a function: the schema that a trainer reads from it is the tool's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from toolrlef_data import TASKS, TOOLS, EngineSpec, InputError, Tool, ToolCall, ToolError, tool_schema
from toolrlef_data.tools.calls import parse_call, render_call


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
