"""The `Tool` class: what a tool is and how a call is executed.

| kind | fields | example | results |
|---|---|---|---|
| quick | `function`: argument -> value | the calculator | computed each time |
| slow | `many`: a batch of inputs -> results | search, a translation model | cached in the reply store |
| engine | `engine` and `prompt`, optionally with `many` for context | a QA model | cached in the reply store |

A quick tool may take several arguments: `Tool.from_function` reads them from the signature of a Python function.

To add a tool to the package, write a module that defines a `Tool` and register it in `TOOLS`. A custom tool needs no
registration: construct a `Tool` and pass it to a `Task`.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated, Any, NamedTuple

from toolrlef_data.engines.rules import FUNCTION_OR_NONE, NAME, TEXT, apply_rules, integer_from, is_number, must_be
from toolrlef_data.engines.spec import EngineSpec, Message
from toolrlef_data.records import InputError, ToolResult, ToolValue
from toolrlef_data.tools.boundary import call_safely, checked_result, checked_value, result_text
from toolrlef_data.tools.functions.python_tools import PythonCall, describe_function
from toolrlef_data.tools.parsing.parameters import Parameters

__all__ = ["Tool", "ToolInput", "not_set_up", "tool_schema"]

# Rules of the fields of a tool.
# A call is found by the text of the name before an opening parenthesis, in a JSON string or in a tag.
CALL_NAME = must_be(
    "a name without brackets, quotes, line breaks and blanks at its ends",
    lambda value: isinstance(value, str) and re.fullmatch(r"(?!\s)[^()\[\]{}<>\"'`\\\x00-\x1f\x7f]+(?<!\s)", value),
)
SHARE = must_be("a share from 0 to 1", lambda value: is_number(value) and 0 <= value <= 1)


class ToolInput(NamedTuple):
    """The input of a slow tool: the argument, and the language of its row (ISO 639-1; "" if unknown)."""

    argument: str
    language: str = ""


@dataclass(frozen=True)
class Tool:
    """A tool: a name that responses call, and a function of one argument.

    Args:
        name: the name in a call, `name(argument)`.
        description: one sentence, for prompts and tool schemas.
        function: argument text -> value (text, number or tuple of texts). It reports a failure by raising `ToolError`.
        parameter: name of the argument in the tool schema. Default "argument".
        version: must change whenever outputs change. Name the package versions and the digests of corpora and models
            that determine the outputs. Default "1".
        many: for a slow tool, instead of `function`: a batch of inputs -> one `ToolResult` per input, in order.
            Results are cached in the reply store. The key covers name, version, this function and its settings, the
            argument and its language.
        batch: maximum number of inputs per call of `many`. Default 256.
        engine: a model that produces the value, from the output of `many` if both are set.
        prompt: (argument, texts returned by `many`) -> a prompt, as returned by `prompts.render_prompt`.
        max_failed: share of a stage's calls that may end in a tool failure before the run stops, 0 to 1. Default 0.2.

    Raises:
        InputError: the combination of `function`, `many`, `engine` and `prompt` is invalid, `engine` is not an
            `EngineSpec`, or another field has a value of another type or out of range.

    >>> shout = Tool("shout", "Says it louder.", str.upper, parameter="text")
    >>> shout.run("hi").value
    'HI'
    """

    name: Annotated[str, CALL_NAME]
    description: Annotated[str, TEXT]
    function: Annotated[Callable[[str], ToolValue] | None, FUNCTION_OR_NONE] = None
    parameter: Annotated[str, NAME] = "argument"
    version: Annotated[str, TEXT] = "1"
    many: Annotated[Callable[[Sequence[ToolInput]], Sequence[ToolResult]] | None, FUNCTION_OR_NONE] = None
    batch: Annotated[int, integer_from(1)] = 256
    engine: EngineSpec | None = None
    prompt: Annotated[Callable[[str, tuple[str, ...]], tuple[Message, ...] | str] | None, FUNCTION_OR_NONE] = None
    max_failed: Annotated[float, SHARE] = 0.2

    def __post_init__(self) -> None:
        apply_rules(self, f"the tool {self.name!r}: ")
        if (self.function is None) == (self.many is None and self.engine is None):
            raise InputError(f"the tool {self.name!r} needs either function=, or many= and/or engine=")
        if self.engine is not None and not isinstance(self.engine, EngineSpec):
            raise InputError(
                f"the tool {self.name!r} needs an EngineSpec as engine, found {type(self.engine).__name__}"
            )
        if (self.engine is None) != (self.prompt is None):
            raise InputError(f"the tool {self.name!r} needs engine= and prompt= together")

    @classmethod
    def from_function(cls, function: Callable[..., Any], *, version: str = "1") -> Tool:
        """Build a tool from a Python function; name, description and schema come from its signature and docstring.

        The arguments of a call are checked against the schema (see `functions.python_tools` for errors and values).

        Args:
            function: a function, perhaps asynchronous. Each argument needs a type hint and an entry in the docstring,
                in Google's format. Supported: text, numbers, bool, `Literal`, `Enum`, lists, dicts, tuples, unions.
            version: as in `Tool`. Default "1".

        Raises:
            InputError: an argument has no type hint or no entry in the docstring, has a type without a JSON schema, or
                a default that does not match its type.

        >>> def convert(value: float, factor: int = 1000) -> float:
        ...     '''Converts a length.
        ...
        ...     Args:
        ...         value: The length.
        ...         factor: What it is multiplied by.
        ...     '''
        ...     return value * factor
        >>> Tool.from_function(convert).run('{"value": 3}').value
        3000
        """
        name, description, call = describe_function(function)
        parameter = call.names.names[0] if call.names.names else "argument"
        return cls(name, description, call, parameter=parameter, version=version)

    @cached_property
    def call_parameter(self) -> str | Parameters:
        """The name of the argument, or the parameters of a tool that takes several arguments."""
        if isinstance(self.function, PythonCall) and not self.function.takes_text:
            return self.function.names
        return self.parameter

    @cached_property
    def signatures(self) -> tuple[tuple[str, str | Parameters], ...]:
        """The (name, parameter) pairs that the call parser recognises."""
        return ((self.name, self.call_parameter),)

    def published(self) -> dict[str, Any]:
        """Return the fields that may be published; functions may contain local paths."""
        return {"name": self.name, "version": self.version}

    def check(self) -> None:
        """Raise InputError if the tool is a placeholder that still needs a corpus or a model."""
        if isinstance(self.many, partial) and self.many.func is not_set_up:
            raise InputError(f"the tool {self.name!r} is not set up: {self.many.args[0]}")

    @property
    def is_slow(self) -> bool:
        """Whether results are cached in the reply store."""
        return self.function is None

    def run(self, argument: str, *, raise_bugs: bool = False) -> ToolResult:
        """Execute one call and return its result; failures are results with an error kind, not exceptions.

        For a tool with an engine this runs only `many`; the stage `execute` queries the engine.

        Args:
            argument: the text between the parentheses; for a tool of several arguments, a JSON object.
            raise_bugs: whether an exception of `function` other than `ToolError` is raised, instead of the error
                "crashed".

        Raises:
            Exception: what the function raised; with `raise_bugs`.
        """
        if self.function is None:
            return self.run_many([ToolInput(argument)])[0]
        value, failure = call_safely(self.function, argument, raise_bugs=raise_bugs)
        return checked_value(value) if failure is None else failure

    def run_many(self, inputs: Sequence[ToolInput]) -> list[ToolResult]:
        """Execute a batch of calls and return their results in order.

        If the batch crashes, the calls are executed one by one, so that one bad input fails alone.
        """
        if self.many is None:
            return [ToolResult(()) if self.function is None else self.run(call.argument) for call in inputs]
        many = self.many
        results, failure = call_safely(lambda batch: [checked_result(result) for result in many(batch)], inputs)
        if failure is None and len(results) == len(inputs):
            checked: list[ToolResult] = results
            return checked
        if failure is None:
            failure = ToolResult(error="crashed", detail=f"expected {len(inputs)} results, found {len(results)}")
        if len(inputs) == 1 or failure.error != "crashed":  # a `ToolError` raised by `many` applies to the batch
            return [failure] * len(inputs)
        return [self.run_many([call])[0] for call in inputs]

    def argument_of(self, arguments: Mapping[str, Any]) -> str:
        """Return the argument text of a call with these arguments: the only text, or a JSON object of several."""
        if isinstance(self.call_parameter, str):
            return str(next(iter(arguments.values())))
        return json.dumps(dict(arguments), ensure_ascii=False)

    def as_function(self) -> Callable[..., str]:
        """Return the tool as a function with a type hint and a Google docstring, for `tools=` of a trainer.

        The function returns the value as text. It reports a failure by raising `ToolError`.

        Raises:
            InputError: the tool needs a model, or its name or parameter is no Python name.

        >>> Tool("shout", "Says it louder.", str.upper, parameter="text").as_function()(text="hi")
        'HI'
        """
        self.check()
        if self.engine is not None:
            raise InputError(f"the tool {self.name!r} needs a model, which a function cannot run")
        if isinstance(self.function, PythonCall):
            return _with_signature(self, self.function)
        if not (self.name.isidentifier() and self.parameter.isidentifier()):
            raise InputError(
                f"expected Python names of a tool and its parameter, found {self.name!r}({self.parameter!r})"
            )

        def function(*args: str, **kwargs: str) -> str:
            argument = function.__signature__.bind(*args, **kwargs).args[0]  # type: ignore[attr-defined]
            return result_text(self.run(argument))

        parameter = inspect.Parameter(self.parameter, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str)
        function.__name__ = function.__qualname__ = self.name
        function.__doc__ = f"{self.description}\n\nArgs:\n    {self.parameter}: the argument of the call.\n"
        function.__annotations__ = {self.parameter: str, "return": str}
        function.__signature__ = inspect.Signature([parameter], return_annotation=str)  # type: ignore[attr-defined]
        return function


def _with_signature(tool: Tool, call: PythonCall) -> Callable[..., str]:
    """Return a tool of a Python function as a function with the same signature, which returns the value as text."""

    @functools.wraps(call.function)
    def function(*args: Any, **kwargs: Any) -> str:
        return result_text(tool.run(tool.argument_of(inspect.signature(call.function).bind(*args, **kwargs).arguments)))

    function.__name__ = function.__qualname__ = tool.name
    function.__annotations__ = {**call.function.__annotations__, "return": str}
    return function


def not_set_up(advice: str, inputs: Sequence[ToolInput]) -> Sequence[ToolResult]:
    """Raise InputError with advice: the `many` of a placeholder for a tool that needs a corpus or a model.

    >>> Tool("WikiSearch", "Searches.", many=partial(not_set_up, "make one with wiki_search(corpus)")).check()
    Traceback (most recent call last):
    toolrlef_data.records.InputError: the tool 'WikiSearch' is not set up: make one with wiki_search(corpus)
    """
    raise InputError(advice)


def tool_schema(tool: Tool) -> str:
    """Return a tool's OpenAI tool schema as a JSON string.

    >>> '"name": "shout"' in tool_schema(Tool("shout", "Says it louder.", str.upper))
    True
    """
    if not isinstance(tool, Tool):
        raise InputError(f"tool_schema: expected a Tool, found {tool!r:.80}")
    parameters = {"type": "object", "properties": {tool.parameter: {"type": "string"}}, "required": [tool.parameter]}
    if isinstance(tool.function, PythonCall):
        parameters = json.loads(tool.function.parameters)
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return json.dumps({"type": "function", "function": function}, ensure_ascii=False)
