"""The tools that a row offers: the task's tool, or tools that cannot do what the row needs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from toolrlef_data.records import InputError
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.tool import Tool, tool_schema
from toolrlef_data.trice.not_calling.texts import OTHER_TOOLS

__all__ = ["OtherTool", "as_other_tools", "draw_tools", "fitting", "list_of_tools"]

MAX_OFFERED = 4


@dataclass(frozen=True)
class OtherTool:
    """A tool for another purpose: its schema as JSON text, and the tool itself if it can be executed at once."""

    name: str
    schema: str
    tool: Tool | None = None

    @property
    def function(self) -> dict[str, Any]:
        """The function of the schema: name, description and parameters."""
        function: dict[str, Any] = json.loads(self.schema)["function"]
        return function


def as_other_tools(others: Sequence[Tool | Mapping[str, Any]], tasks: Mapping[str, Task]) -> tuple[OtherTool, ...]:
    """Return the tools of an argument `others`, or `OTHER_TOOLS` if it is empty.

    Raises:
        InputError: a value is neither a tool nor a schema, two have the same name, or a task's tool is the only one.
    """
    if isinstance(others, (str, Mapping, Tool)) or not isinstance(others, Sequence):
        raise InputError(f"others: expected a list of Tools or function schemas, found {others!r:.80}")
    tools = tuple(_other_tool(value) for value in others or OTHER_TOOLS)
    names = [tool.name for tool in tools]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"others: expected tools with distinct names, found twice: {', '.join(repeated)}")
    for name, task in tasks.items():
        if not fitting(tools, task):
            raise InputError(f"others: expected tools beside {task.tool.name}, which the task {name!r} needs")
    return tools


def _other_tool(value: object) -> OtherTool:
    if isinstance(value, Tool):
        is_quick = not value.is_slow and isinstance(value.call_parameter, str)
        return OtherTool(value.name, tool_schema(value), value if is_quick else None)
    function = value.get("function", value) if isinstance(value, Mapping) else None
    texts = [function.get(key) for key in ("name", "description")] if isinstance(function, Mapping) else [None]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise InputError(f"others: expected a Tool, or a function schema with a name and a description: {value!r:.80}")
    try:
        schema = json.dumps({"type": "function", "function": function}, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"others: the schema of {texts[0]} is not JSON: {error}") from None
    return OtherTool(str(texts[0]), schema)


def fitting(tools: Sequence[OtherTool], task: Task) -> list[OtherTool]:
    """Return the tools that are not the task's tool, by name and by schema.

    >>> from toolrlef_data import TASKS
    >>> renamed = {"name": "compute", "description": "Computes."}
    >>> calculator = TASKS["math"].tool
    >>> [tool.name for tool in fitting(as_other_tools([calculator, renamed], {}), TASKS["math"])]
    ['compute']
    """
    needed = _content(json.loads(tool_schema(task.tool))["function"])
    name = task.tool.name.casefold()
    return [tool for tool in tools if tool.name.casefold() != name and _content(tool.function) != needed]


def _content(function: Mapping[str, Any]) -> tuple[Any, Any]:
    return function.get("description"), function.get("parameters")


def draw_tools(
    tools: Sequence[OtherTool], task: Task, argument: str, answers: Sequence[str], random: Random
) -> list[OtherTool]:
    """Return one to four tools; a tool that gives a gold answer for the argument of the row's call is left out."""
    able = [tool for tool in fitting(tools, task) if not _gives_gold(tool, task, argument, answers)]
    return random.sample(able, min(len(able), random.randint(1, MAX_OFFERED)))


def _gives_gold(other: OtherTool, task: Task, argument: str, answers: Sequence[str]) -> bool:
    if other.tool is None:
        return False
    result = other.tool.run(argument)
    return result.error is None and task.grade_output(str(result.value), answers) is True


def list_of_tools(tools: Sequence[OtherTool]) -> str:
    """Return the tools with their descriptions, one a line."""
    return "\n".join(f"- {tool.name}: {' '.join(tool.function['description'].split())}" for tool in tools)
