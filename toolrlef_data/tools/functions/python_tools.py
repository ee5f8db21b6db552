"""Python functions as tools: the schema from type hints and docstring, checked arguments, and errors by their kind.

| the function | the call has |
|---|---|
| returns a text, a number or a tuple of texts | that value |
| returns a bool, list, dict, date or Decimal | its JSON or text |
| is called with arguments that its schema does not allow | `wrong_arguments`: the call's fault |
| raises `ValueError` | `invalid_value`: the call's fault |
| raises `ZeroDivisionError` | `zero_division`: the call's fault |
| raises `ToolError(kind, detail)` | that kind |
| raises `ToolUnavailable`, a timeout or a connection error | `unavailable` or `timeout`: a re-run calls it again |
| raises anything else | `crashed`: a bug of the tool |
"""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import fractions
import inspect
import json
import math
import typing
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Any, NoReturn

from toolrlef_data.records import InputError, ToolError, ToolrlefError, ToolUnavailable, ToolValue
from toolrlef_data.tables.redaction import Secrets
from toolrlef_data.tools.parsing.parameters import Parameters, parameters_in

__all__ = ["Described", "PythonCall", "describe_function"]

MAX_MESSAGE = 200  # characters of an exception's message
# Values whose text is shown to models.
TEXT_TYPES = (
    *(decimal.Decimal, fractions.Fraction, uuid.UUID, PurePath),
    *(datetime.date, datetime.time, datetime.timedelta),
)


class Described(typing.NamedTuple):
    """A Python function as a tool: its name, the description for prompts, and the function of one argument text."""

    name: str
    description: str
    call: PythonCall


@dataclass(frozen=True)
class PythonCall:
    """A Python function that a tool calls with the text of an argument.

    Args:
        function: the function; it may be asynchronous.
        parameters: the JSON schema of its arguments, as JSON text.
        enums: the parameters whose values are members of an `Enum`, or have such items, with that class.
    """

    function: Callable[..., Any]
    parameters: str
    enums: tuple[tuple[str, type[enum.Enum]], ...] = ()

    @property
    def names(self) -> Parameters:
        """The parameters, as the parser of calls needs them."""
        return parameters_in(self.parameters)

    @property
    def takes_text(self) -> bool:
        """Whether the function has one required argument that is a text, so that the text of a call needs no quotes."""
        return len(self.names.names) == 1 and bool(self.names.texts & self.names.required)

    def __call__(self, argument: str) -> ToolValue:
        """Return the value of a call.

        Args:
            argument: the argument of a function that takes a text; else all arguments as a JSON object.

        Raises:
            ToolError: the call is at fault, or the tool is not available.
        """
        from toolrlef_data.tools.functions.arguments import read_arguments

        text = json.dumps({self.names.names[0]: argument}) if self.takes_text else argument
        arguments = read_arguments(text, self.parameters)
        if isinstance(arguments, str):
            raise ToolError("wrong_arguments", arguments)
        for name, members in self.enums:
            if name in arguments:
                arguments[name] = _with_members(arguments[name], members)
        try:
            return _tool_value(_run(self.function, arguments))
        except (ToolError, ToolrlefError):
            raise
        except (TimeoutError, asyncio.TimeoutError) as error:
            _raise_as(partial(ToolError, "timeout"), error)
        except ConnectionError as error:
            _raise_as(ToolUnavailable, error)
        except ZeroDivisionError as error:
            _raise_as(partial(ToolError, "zero_division"), error)
        except ValueError as error:
            _raise_as(partial(ToolError, "invalid_value"), error)
        except OSError as error:  # such as `urllib.error.URLError`, whose reason is a connection error
            if isinstance(reason := getattr(error, "reason", None), OSError):
                _raise_as(ToolUnavailable, reason)
            raise
        except Exception as error:
            if kind := _network_kind(error):
                _raise_as(partial(ToolError, kind), error)
            raise


def describe_function(function: Callable[..., Any]) -> Described:
    """Return a Python function as a tool.

    Args:
        function: a function with a type hint and an entry in its Google docstring for each argument.

    Raises:
        InputError: there is no schema for the function, or a default does not match it.
    """
    from toolrlef_data.tools.functions.arguments import validate_parameters
    from toolrlef_data.tools.functions.function import read_schema

    schema = read_schema(function)
    what = f"the function {schema['name']!r}"
    parameters = validate_parameters(schema["parameters"], what)
    signature = inspect.signature(function).parameters.values()
    _check_defaults({p.name: p.default for p in signature if p.default is not p.empty}, schema["parameters"], what)
    hints = typing.get_type_hints(function)
    enums = [(name, kind) for name, hint in hints.items() if name != "return" for kind in _enums_in(hint)]
    return Described(schema["name"], schema["description"], PythonCall(function, parameters, tuple(enums)))


def _check_defaults(defaults: Mapping[str, Any], schema: Mapping[str, Any], what: str) -> None:
    """Raise InputError if the default of an argument is no value that the schema allows."""
    from toolrlef_data.tools.functions.arguments import read_arguments, validate_parameters

    for name, default in defaults.items():
        value = default.value if isinstance(default, enum.Enum) else default
        alone = {"type": "object", "properties": {name: schema["properties"][name]}}
        try:
            error = read_arguments(json.dumps({name: value}), validate_parameters(alone, what))
        except TypeError as unserialisable:
            error = str(unserialisable)
        if isinstance(error, str):
            raise InputError(f"{what}: the default {value!r:.80} does not match the type hint: {error}")


def _enums_in(hint: Any) -> list[type[enum.Enum]]:
    """Return the Enum classes in a type hint, also those of `Unit | None` and `list[Unit]`."""
    own = [typing.cast(type[enum.Enum], hint)] if isinstance(hint, enum.EnumMeta) else []
    return [*own, *(kind for part in typing.get_args(hint) for kind in _enums_in(part))]


def _with_members(value: Any, kind: type[enum.Enum]) -> Any:
    """Return a JSON value with members of an Enum in place of their values; other values stay, as of a union."""
    if isinstance(value, list):
        return [_with_members(item, kind) for item in value]
    if isinstance(value, dict):
        return {name: _with_members(item, kind) for name, item in value.items()}
    return next((member for member in kind if member.value == value), value)


def _run(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    from toolrlef_data.tools.http import run_coroutine

    value = partial(function, **arguments)
    return run_coroutine(value) if inspect.iscoroutinefunction(function) else value()


def _tool_value(value: Any) -> ToolValue:
    """Return what a function returned as a value of a tool.

    Raises:
        TypeError: it is no such value, such as None.
    """
    if isinstance(value, enum.Enum):
        value = value.value
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (bool, list, dict)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, TEXT_TYPES):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"the tool returned {value}, expected a finite number")
    if isinstance(value, (str, int, float)) or (
        isinstance(value, tuple) and value and all(isinstance(text, str) for text in value)
    ):
        return value
    raise TypeError(
        f"the tool returned {type(value).__name__}, expected a text, a number or a tuple of texts; "
        'raise ToolError("no_result") if there is no result'
    )


def _network_kind(error: Exception) -> str | None:
    """Return the error kind of a timeout or connection error of an HTTP client that has exceptions of its own."""
    names = [kind.__name__ for kind in type(error).__mro__]
    if any("Timeout" in name for name in names):
        return "timeout"
    return "unavailable" if any(name.startswith(("Connect", "APIConnection")) for name in names) else None


def _raise_as(make_error: Callable[[str], ToolError], error: BaseException) -> NoReturn:
    """Raise an exception of a function as a `ToolError`, with its message."""
    raise make_error(Secrets([]).excerpt(str(error) or type(error).__name__, MAX_MESSAGE)) from error
