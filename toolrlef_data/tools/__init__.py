"""Tools: what a response may call. One file a tool; `TOOLS` names them.

To add one, write a file with a `Tool` in it and a line in `TOOLS`. Your own tool needs neither: make a `Tool` and put
it into a `Task`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from toolrlef_data.records import Choices, ToolError, ToolResult, ToolValue

__all__ = ["TOOLS", "Tool", "tool_schema"]


@dataclass(frozen=True)
class Tool:
    """A tool: a name that stands in the text, and a function of its one argument.

    Args:
        name: as responses write it, `name(argument)`.
        description: one sentence, for prompts and for tool schemas.
        function: argument text -> value; raises `ToolError` with a kind where there is none.
        parameter: the argument's name in a tool schema.
        version: changes with the outputs; name the versions of packages that decide them.

    >>> shout = Tool("shout", "Says it louder.", str.upper, parameter="text")
    >>> shout.run("hi").value
    'HI'
    """

    name: str
    description: str
    function: Callable[[str], ToolValue]
    parameter: str = "argument"
    version: str = "1"

    @cached_property
    def spelling(self) -> tuple[tuple[str, str], ...]:
        """What a parser needs to know: the name, and what its argument may be called."""
        return ((self.name, self.parameter),)

    def run(self, argument: str) -> ToolResult:
        """Execute one call; a failure is a `ToolResult` with an error kind, never an exception."""
        try:
            value = self.function(argument)
        except ToolError as error:
            return ToolResult(error=error.kind, detail=error.detail)
        except Exception as error:  # the one boundary where a tool is executed
            return ToolResult(error="crashed", detail=f"{type(error).__name__}: {error}"[:200])
        if type(value) is int or type(value) is str or (type(value) is float and math.isfinite(value)):
            return ToolResult(value)
        if isinstance(value, tuple) and value and all(isinstance(part, str) for part in value):
            return ToolResult(value)
        return ToolResult(error="crashed", detail=f"expected text, a number or texts, found {value!r:.80}")


TOOLS: Choices[Tool] = Choices("tool", {"calculator": "toolrlef_data.tools.calculator:CALCULATOR"})


def tool_schema(tool: Tool) -> str:
    """A tool as an OpenAI tool schema, a JSON string.

    >>> '"name": "shout"' in tool_schema(Tool("shout", "Says it louder.", str.upper))
    True
    """
    parameters = {"type": "object", "properties": {tool.parameter: {"type": "string"}}, "required": [tool.parameter]}
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return json.dumps({"type": "function", "function": function}, ensure_ascii=False)
