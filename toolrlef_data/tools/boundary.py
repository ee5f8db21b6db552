"""The boundary around the code of tools: an exception or an invalid value becomes a result with an error."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

from toolrlef_data.records import ERROR_KIND, ToolError, ToolResult, ToolrlefError, clean_text
from toolrlef_data.tables.redaction import Secrets

__all__ = ["MAX_DETAIL", "call_safely", "checked_result", "checked_value", "result_text"]

MAX_BITS = 13_000  # of an integer; Python formats no integer of more than 4,300 digits
MAX_DETAIL = 200  # characters of an exception's message
# Exceptions of a tool that become a result with an error. All others, such as KeyboardInterrupt, stop the run.
_CRASHES = (Exception, SystemExit, asyncio.CancelledError, GeneratorExit)


def result_text(result: ToolResult) -> str:
    """Return the value of a result as text; raise its error as `ToolError`.

    >>> result_text(ToolResult(("one passage", "another")))
    'one passage\\n\\nanother'
    """
    if result.error is not None:
        raise ToolError(result.error, result.detail)
    return "\n\n".join(result.value) if isinstance(result.value, tuple) else str(result.value)


def call_safely(
    function: Callable[[Any], Any], argument: Any, *, raise_bugs: bool = False
) -> tuple[Any, ToolResult | None]:
    """Call a tool's function and return (value, None), or (None, failure).

    Raises:
        ToolrlefError: the setup is wrong, whatever the argument: a missing package, a deleted corpus.
        Exception: with `raise_bugs`, an exception of the function other than `ToolError`.
        BaseException: exceptions outside `_CRASHES`, such as KeyboardInterrupt.
    """
    try:
        return function(argument), None
    except _CRASHES as error:  # the one boundary where a tool is executed
        kind, detail = getattr(error, "kind", None), getattr(error, "detail", None)
        if isinstance(error, ToolError) and _is_kind(kind) and isinstance(detail, str):
            return None, ToolResult(error=kind, detail=Secrets([]).redact(detail))
        if isinstance(error, ToolrlefError) or (raise_bugs and isinstance(error, Exception)):
            raise
        return None, ToolResult(error="crashed", detail=_describe(error))


def _is_kind(kind: object) -> bool:
    return isinstance(kind, str) and ERROR_KIND.fullmatch(kind) is not None


def _describe(error: BaseException) -> str:
    """Return the type and message of an exception without API keys, then truncated to `MAX_DETAIL` characters."""
    name = type(error).__name__
    try:
        return Secrets([]).excerpt(f"{name}: {error}", MAX_DETAIL)
    except _CRASHES:  # raised by the exception's `__str__`
        return name


def checked_value(value: object) -> ToolResult:
    """Return a tool's value as a result; an invalid value becomes the error `crashed`.

    Unpaired surrogates in a text are replaced, as in replies (`records.clean_text`).
    """
    if type(value) is int and value.bit_length() <= MAX_BITS:
        return ToolResult(value)
    if type(value) is float and math.isfinite(value):
        return ToolResult(value)
    if isinstance(value, str):
        return ToolResult(clean_text(value))
    if isinstance(value, tuple) and value and all(isinstance(text, str) for text in value):
        return ToolResult(tuple(map(clean_text, value)))
    found = type(value).__name__ if isinstance(value, (int, str, tuple)) else Secrets([]).excerpt(repr(value), 80)
    return ToolResult(error="crashed", detail=f"expected a text, a finite number or a tuple of texts, found {found}")


def checked_result(result: ToolResult) -> ToolResult:
    """Return a result of `Tool.many`; an invalid value or an unknown error kind becomes the error `crashed`."""
    if result.error is None:
        return checked_value(result.value)
    if _is_kind(result.error):
        return ToolResult(error=result.error, detail=Secrets([]).redact(result.detail))
    detail = f"the error kind {result.error!r} is no name: {result.detail}"
    return ToolResult(error="crashed", detail=Secrets([]).excerpt(detail, MAX_DETAIL))
