"""tool: what a tool is, and how one is executed.

Three kinds, all of them a `Tool`:

- quick: `function`, argument -> value (the calculator);
- slow: `many`, inputs -> results in batches (search, a translation model); results are kept in the reply store;
- asked: `engine` and `prompt`, a model that is asked through the usual engines (a QA model), alone or over what
  `many` found first.

To add one, write a file with a `Tool` in it and a line in `TOOLS`. Your own tool needs neither: make a `Tool` and put
it into a `Task`.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

from toolrlef_data.engines.spec import EngineSpec, Message
from toolrlef_data.records import (
    TOOL_ERRORS,
    InputError,
    ToolError,
    ToolResult,
    ToolrlefError,
    ToolValue,
    UnknownName,
    is_text,
)

__all__ = ["Tool", "ToolInput", "executed", "not_set_up", "tool_schema"]

MAX_BITS = 13_000  # of a whole number; Python writes no number of more than 4,300 digits
MAX_DETAIL = 200  # characters of what a crash says
# What a callable may raise. All else ends the run: KeyboardInterrupt, and what a signal or a test framework raises.
_CRASHES = (Exception, SystemExit, asyncio.CancelledError, GeneratorExit)


class ToolInput(NamedTuple):
    """What a slow tool is given: the argument, and its language (ISO 639-1) where the row tells it, else ""."""

    argument: str
    language: str = ""


@dataclass(frozen=True)
class Tool:
    """A tool: a name that stands in the text, and a function of its one argument.

    Args:
        name: as responses write it, `name(argument)`.
        description: one sentence, for prompts and for tool schemas.
        function: argument text -> value; raises `ToolError` with a kind where there is none.
        parameter: the argument's name in a tool schema.
        version: changes with the outputs; names the versions of packages, and the digests of corpora and models, that
            decide them.
        many: in the place of `function`, for a slow tool: inputs -> one `ToolResult` each, in order. What it gives is
            kept in the reply store under name, version, this function with its settings, argument and language.
        batch: inputs that `many` gets at once.
        engine: a model that gives the value; with `many`, from what that gave.
        prompt: (argument, texts that `many` gave) -> what `prompts.render_prompt` returns.
        max_failed: share of a stage's calls that may fail by the tool's own fault before the run stops.

    Raises:
        InputError: not exactly one of function, many, engine gives the value; no batch.

    >>> shout = Tool("shout", "Says it louder.", str.upper, parameter="text")
    >>> shout.run("hi").value
    'HI'
    """

    name: str
    description: str
    function: Callable[[str], ToolValue] | None = None
    parameter: str = "argument"
    version: str = "1"
    many: Callable[[Sequence[ToolInput]], Sequence[ToolResult]] | None = None
    batch: int = 256
    engine: EngineSpec | None = None
    prompt: Callable[[str, tuple[str, ...]], tuple[Message, ...] | str] | None = None
    max_failed: float = 0.2

    def __post_init__(self) -> None:
        if (self.function is None) == (self.many is None and self.engine is None):
            raise InputError(f"the tool {self.name!r} needs a function, or many= or engine=, and not both")
        if self.engine is not None and not isinstance(self.engine, EngineSpec):
            raise InputError(
                f"the tool {self.name!r} needs an EngineSpec as engine, found {type(self.engine).__name__}"
            )
        if not isinstance(self.batch, int) or self.batch < 1:
            raise InputError(
                f"the tool {self.name!r}: batch must be a whole number of at least 1, found {self.batch!r}"
            )
        if (self.engine is None) != (self.prompt is None):
            raise InputError(f"the tool {self.name!r} needs engine= and prompt= together")

    @cached_property
    def spelling(self) -> tuple[tuple[str, str], ...]:
        """What a parser needs to know: the name, and what its argument may be called."""
        return ((self.name, self.parameter),)

    def published(self) -> dict[str, Any]:
        """What others may read; the functions may hold paths."""
        return {"name": self.name, "version": self.version}

    def check(self) -> None:
        """Raise InputError where the tool stands for one that is still to be made."""
        if isinstance(self.many, partial) and self.many.func is not_set_up:
            raise InputError(f"the tool {self.name!r} is not set up: {self.many.args[0]}")

    @property
    def is_slow(self) -> bool:
        """Whether results are kept in the reply store."""
        return self.function is None

    def run(self, argument: str) -> ToolResult:
        """Execute one call; a failure is a `ToolResult` with an error kind, never an exception.

        Of a tool with an engine this is only what comes before it; `execute` asks the engine.
        """
        if self.function is None:
            return self.run_many([ToolInput(argument)])[0]
        value, failure = executed(self.function, argument)
        return _checked(value) if failure is None else failure

    def run_many(self, inputs: Sequence[ToolInput]) -> list[ToolResult]:
        """Execute calls at once; where that fails as a whole, one by one, so that one input costs only itself."""
        if self.many is None:
            return [ToolResult(()) if self.function is None else self.run(each.argument) for each in inputs]
        many = self.many
        results, failure = executed(lambda given: [_checked_result(result) for result in many(given)], inputs)
        if failure is None and len(results) == len(inputs):
            checked: list[ToolResult] = results
            return checked
        if failure is None:
            failure = ToolResult(error="crashed", detail=f"{len(inputs)} inputs gave {len(results)} results")
        if len(inputs) == 1 or failure.error != "crashed":  # what the tool says itself is said of all
            return [failure] * len(inputs)
        return [self.run_many([each])[0] for each in inputs]


def executed(function: Callable[[Any], Any], given: Any) -> tuple[Any, ToolResult | None]:
    """Run a tool's function: (value, None), or (None, why there is none).

    Raises:
        ToolrlefError: a mistake of the user's, which is none of what the function was given.
        KeyboardInterrupt: as the user's; like every other `BaseException` but those of `_CRASHES`.
    """
    try:
        return function(given), None
    except _CRASHES as error:  # the one boundary where a tool is executed
        kind, detail = getattr(error, "kind", None), getattr(error, "detail", None)
        if isinstance(error, ToolError) and isinstance(kind, str) and kind in TOOL_ERRORS and isinstance(detail, str):
            return None, ToolResult(error=kind, detail=detail)
        if isinstance(error, ToolrlefError) and not _is_unknown_kind(error):  # a missing package, a corpus that is gone
            raise
        return None, ToolResult(error="crashed", detail=_words_of(error))


def _is_unknown_kind(error: ToolrlefError) -> bool:
    """Whether a function made a `ToolError` of a kind that there is not."""
    return isinstance(error, UnknownName) and error.message.startswith("unknown tool error kind ")


def _words_of(error: BaseException) -> str:
    name = type(error).__name__
    try:
        return f"{name}: {error}"[:MAX_DETAIL]
    except _CRASHES:  # of its __str__
        return name


def _checked(value: object) -> ToolResult:
    if type(value) is int and value.bit_length() <= MAX_BITS:
        return ToolResult(value)
    if (type(value) is float and math.isfinite(value)) or is_text(value):
        return ToolResult(value)
    if isinstance(value, tuple) and value and all(map(is_text, value)):
        return ToolResult(value)
    found = type(value).__name__ if isinstance(value, (int, str, tuple)) else f"{value!r:.80}"
    return ToolResult(error="crashed", detail=f"expected text, a number or texts that can be written, found {found}")


def _checked_result(result: ToolResult) -> ToolResult:
    if result.error is None:
        return _checked(result.value)
    if result.error in TOOL_ERRORS:
        return result
    return ToolResult(error="crashed", detail=f"an unknown kind of error, {result.error!r:.40}: {result.detail}"[:200])


def not_set_up(advice: str, inputs: Sequence[ToolInput]) -> Sequence[ToolResult]:
    """What a task's tool does until it is given a corpus or a model: say what it needs.

    >>> Tool("WikiSearch", "Searches.", many=partial(not_set_up, "make one with wiki_search(corpus)")).check()
    Traceback (most recent call last):
    toolrlef_data.records.InputError: the tool 'WikiSearch' is not set up: make one with wiki_search(corpus)
    """
    raise InputError(advice)


def tool_schema(tool: Tool) -> str:
    """A tool as an OpenAI tool schema, a JSON string.

    >>> '"name": "shout"' in tool_schema(Tool("shout", "Says it louder.", str.upper))
    True
    """
    parameters = {"type": "object", "properties": {tool.parameter: {"type": "string"}}, "required": [tool.parameter]}
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return json.dumps({"type": "function", "function": function}, ensure_ascii=False)
