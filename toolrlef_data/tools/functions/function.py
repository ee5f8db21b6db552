"""Functions that a model calls by name with JSON arguments: Python callables and HTTP endpoints.

A `Function` has a schema in OpenAI's format, and either a callable or a URL. The callable receives the arguments as
keywords; the URL receives them as a POST request:

    POST http://localhost:8000/weather
    {"city": "Oslo"}

Secrets are read from the environment when a request is sent. Cache keys contain only a digest of a callable and its
bound values.

Not covered: methods other than POST, streaming, parts of JSON schema (see `schemas`).
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any

from toolrlef_data.records import InputError
from toolrlef_data.tables.fingerprint import canonical, code_digest, digest
from toolrlef_data.tools.functions.arguments import validate_parameters
from toolrlef_data.tools.http import Server, check_headers, check_retry_settings, check_url, server_at

__all__ = ["FINISH", "Function", "function_from", "functions_by_name", "read_schema"]

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # as required by OpenAI's API
# `id()` of a callable -> its number in the digest that is being computed; None while no digest is computed.
_visited: ContextVar[dict[int, int] | None] = ContextVar("visited", default=None)

FINISH: dict[str, Any] = {
    "name": "Finish",
    "description": "Ends the task. Call it with the answer as soon as you have one, or to give up this attempt and "
    "start again from an earlier step where you cannot go on. Only the final_answer is shown to the user.",
    "parameters": {
        "type": "object",
        "properties": {
            "return_type": {
                "type": "string",
                "enum": ["give_answer", "give_up_and_restart"],
                "description": "give_answer with a final_answer, or give_up_and_restart.",
            },
            "final_answer": {
                "type": "string",
                "description": "What the user is told, with all that was asked for; needed for give_answer.",
            },
        },
        "required": ["return_type"],
    },
}


@dataclass(frozen=True)
class Function:
    """A function for a model to call: a schema in OpenAI's format, and a callable or a URL that executes it.

    Args:
        name: 1 to 64 letters, digits, "_" and "-"; not "Finish".
        description: what the function does, for the model.
        parameters: JSON schema of an object, as a mapping or JSON text; stored as JSON text in the same order.
        function: callable that receives the arguments as keywords and returns a JSON value. It reports a failure by
            raising `ToolError`. It must read any API key from the environment when it is called.
        url: instead of `function`, the URL that receives the arguments as a POST request with a JSON object. A URL with
            credentials or a query must be passed as "$NAME", where the environment variable NAME contains it.
        version: must change whenever outputs change in a way that neither the code nor the URL shows. Default "1".
        timeout: seconds for one response of the server. Default 30.
        retries: maximum number of retries after a timeout, a broken connection, or status 429 or 5xx. Use 0 for a
            server that must not execute a call twice. Default 2.
        headers: HTTP headers for a URL, as a mapping or pairs: name -> "$NAME", where the environment
            variable NAME contains the full value. Default: none.

    Raises:
        InputError: a value is invalid; secrets are not repeated in the message.

    >>> from toolrlef_data.tools.functions.execution import call
    >>> text = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    >>> shout = Function("shout", "Says it louder.", text, lambda text: text.upper())
    >>> call({"shout": shout}, "shout", '{"text": "hi"}').text
    '{"error": "", "response": "HI"}'
    """

    name: str
    description: str
    parameters: Mapping[str, Any] | str
    function: Callable[..., Any] | None = field(default=None, repr=False)  # the repr of a partial shows bound values
    url: str | None = None
    version: str = "1"
    timeout: float = 30.0
    retries: int = 2
    headers: tuple[tuple[str, str], ...] | Mapping[str, str] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name) or self.name == FINISH["name"]:
            raise InputError(
                "a function's name must have 1 to 64 letters, digits, _ and -, and must not be Finish; found "
                f"{self.name!r:.80}"
            )
        what = f"the function {self.name!r}"
        if (self.function is None) == (self.url is None):
            raise InputError(f"{what} needs either function= or url=")
        if not isinstance(self.description, str) or not isinstance(self.version, str):
            raise InputError(f"{what}: description and version must be text")
        if self.function is not None and (not callable(self.function) or inspect.iscoroutinefunction(self.function)):
            raise InputError(f"{what}: function must be a callable and not a coroutine function")
        if self.url is not None:
            if not isinstance(self.url, str):
                raise InputError(f"{what}: url must be text, found {type(self.url).__name__}")
            check_url(self.url, f"the URL of {what}")
        check_retry_settings(self.timeout, self.retries)
        object.__setattr__(self, "parameters", validate_parameters(self.parameters, what))
        object.__setattr__(self, "headers", check_headers(self.headers, what))
        if self.headers and self.url is None:
            raise InputError(f"{what}: headers= needs url=")

    def schema(self) -> dict[str, Any]:
        """Return the schema in OpenAI's format: the value of "function" in {"type": "function", "function": ...}."""
        return {"name": self.name, "description": self.description, "parameters": json.loads(str(self.parameters))}

    def server(self) -> Server | None:
        """Return the server with the current values of environment variables, or None for a callable.

        No request is sent, so that a run can check all functions before the first paid request.

        Raises:
            InputError: a variable is not set or its value is invalid. No other exception is raised.
        """
        if self.url is None:
            return None
        return server_at(self.url, f"the function {self.name!r}", dict(self.headers))

    def published(self) -> dict[str, Any]:
        """Return the fields that may be published, without the callable and the URL."""
        schema = digest({"name": self.name, "description": self.description, "parameters": self.parameters})
        return {"name": self.name, "version": self.version, "schema_sha256": schema}

    def in_key(self) -> dict[str, Any]:
        """Return the values for cache keys: the callable's digest, the URL without credentials, the header names."""
        url = None if self.url is None else server_at(self.url, f"the function {self.name!r}").url
        function = None if self.function is None else _digest_callable(self.function)
        return {"function": function, "url": url, "headers": [pair[0] for pair in self.headers]}


def _digest_callable(function: Callable[..., Any]) -> str:
    """Return a digest of a callable, its bound values, and all code of this package that it reaches.

    A callable that reaches itself, for example through a table of functions, is represented by its number instead.
    """
    if (visited := _visited.get()) is None:
        return copy_context().run(_start_digest, function)
    if id(function) in visited:
        return f"met {visited[id(function)]}"
    visited[id(function)] = len(visited)
    return digest(canonical(function), code_digest(function))


def _start_digest(function: Callable[..., Any]) -> str:
    _visited.set({})
    return _digest_callable(function)


def function_from(function: Callable[..., Any], *, version: str = "1") -> Function:
    """Build a `Function` from a callable; the schema comes from its name, type hints and Google-style docstring.

    Args:
        function: a callable. Each argument needs a type hint and an entry in the docstring, in the format of
            `transformers.utils.get_json_schema`.
        version: see `Function`. Default "1".

    Returns:
        The function, ready for `generate_trajectories`.

    Raises:
        InputError: an argument has no type hint or no entry in the docstring, or cannot be passed by keyword.

    >>> def shout(text: str) -> str:
    ...     '''Says it louder.
    ...
    ...     Args:
    ...         text: What to say.
    ...     '''
    ...     return text.upper()
    >>> function_from(shout).schema()["parameters"]["required"]
    ['text']
    """
    schema = read_schema(function)
    return Function(schema["name"], schema["description"], schema["parameters"], function, version=version)


def read_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the name, description and parameters of a callable, from its type hints and Google-style docstring.

    Raises:
        InputError: an argument has no type hint or no entry in the docstring, or cannot be passed by keyword.
    """
    from transformers.utils import get_json_schema
    from transformers.utils.chat_template_utils import DocstringParsingException, TypeHintParsingException

    name = getattr(function, "__name__", "")
    try:
        parameter_kinds = {parameter.kind for parameter in inspect.signature(function).parameters.values()}
        schema: dict[str, Any] = get_json_schema(function)["function"]
    except (DocstringParsingException, TypeHintParsingException, TypeError, NameError, ValueError) as error:
        raise InputError(f"cannot build a schema from {name or function!r}: {error}") from error
    if not parameter_kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}:
        raise InputError(f"cannot build a schema from {name}: every argument must be passed by keyword")
    return {"name": name, "description": schema["description"], "parameters": schema["parameters"]}


def functions_by_name(tools: Iterable[Function | Callable[..., Any]]) -> dict[str, Function]:
    """Return functions by name, for `call`; plain callables are converted with `function_from`.

    Raises:
        InputError: two functions have the same name.
    """
    if not isinstance(tools, Iterable) or isinstance(tools, str):
        raise InputError(f"functions: expected a list of functions, found {tools!r:.80}")
    functions = [tool if isinstance(tool, Function) else function_from(tool) for tool in tools]
    names = [function.name for function in functions]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"two functions have the same name: {', '.join(duplicates)}")
    return dict(zip(names, functions, strict=True))
