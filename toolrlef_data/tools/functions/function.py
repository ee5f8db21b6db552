"""Functions that a model calls by name with JSON arguments: Python callables and HTTP endpoints.

A `Function` has a schema in OpenAI's format, and either a callable or a URL. The callable receives the arguments as
keywords; the URL receives them as a POST request:

    POST http://localhost:8000/weather
    {"city": "Oslo"}

`call` executes one call of a model and returns an `Observation` in ToolBench's format, for any name and arguments:

| code | text | when |
|---|---|---|
| 0 | {"error": "", "response": {"degrees": 4}} | success: the callable's value, or the server's body as JSON or text |
| 1 | {"error": "there is no function ...", ...} | unknown name; names must match exactly |
| 2 | {"error": "the parameter 'city' ...", ...} | the arguments are not a JSON object or do not match the schema |
| 3, 4 | {"error": "", "response": "..."} | `Finish`: with an answer (3), or giving up (4) |
| 5 | {"error": "timeout: ...", ...} | timeout |
| 6, 7, 9 | {"error": "status 404", "response": "no city"} | status 404 (6), 401 or 403 (7), 429 (9) |
| 12 | {"error": "zero_division: ...", ...} | any other failure of the callable or the server |

All these texts are shown to models and are part of reply keys, so they must not change.

Secrets are read from the environment when a request is sent. Secrets of at least six characters are redacted in the
response. Cache keys contain only a digest of a callable and its bound values. The callable's error messages are shown
to the model unchanged.

Not covered: methods other than POST, streaming, interrupting a callable that hangs, parts of JSON schema (see
`schemas`). Bytes of a response that are not UTF-8 become U+FFFD.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from toolrlef_data.records import TOOL_FAILURES, InputError, clean_text
from toolrlef_data.tables.fingerprint import canonical, code_digest, digest
from toolrlef_data.tables.redaction import Secrets
from toolrlef_data.tools.functions.arguments import read_arguments, validate_parameters
from toolrlef_data.tools.http import (
    Failure,
    Server,
    check_headers,
    check_retry_settings,
    check_url,
    fetch,
    open_session,
    retry,
    run_coroutine,
    server_at,
)
from toolrlef_data.tools.json_text import json_value
from toolrlef_data.tools.tool import MAX_DETAIL, call_safely

__all__ = ["FINISH", "Function", "Observation", "call", "function_from", "functions_by_name", "truncate"]

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # as required by OpenAI's API
MAX_LENGTH = 1024  # characters of an observation, as in ToolBench
MAX_BYTES = 2_000_000  # of a response body
MAX_ERROR_BYTES = 4096  # of the body of a failed response
NO_SECRETS = Secrets([])
# `id()` of a callable -> its number in the digest that is being computed; None while no digest is computed.
_visited: ContextVar[dict[int, int] | None] = ContextVar("visited", default=None)
STATUS_CODES = {401: 7, 403: 7, 404: 6, 429: 9}

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
FINISH_PARAMETERS = json.dumps(FINISH["parameters"])


class Observation(NamedTuple):
    """The result of a call: the text for the model, the code (see the module), and the error kind of a tool failure.

    `tool_failure` is one of `TOOL_FAILURES` if a retry of the call may succeed, else None.
    """

    text: str
    code: int
    tool_failure: str | None = None


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
    from transformers.utils import get_json_schema
    from transformers.utils.chat_template_utils import DocstringParsingException, TypeHintParsingException

    name = getattr(function, "__name__", "")
    try:
        parameter_kinds = {parameter.kind for parameter in inspect.signature(function).parameters.values()}
        schema = get_json_schema(function)["function"]
    except (DocstringParsingException, TypeHintParsingException, TypeError, NameError, ValueError) as error:
        raise InputError(f"cannot build a schema from {name or function!r}: {error}") from error
    if not parameter_kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}:
        raise InputError(f"cannot build a schema from {name}: every argument must be passed by keyword")
    return Function(name, schema["description"], schema["parameters"], function, version=version)


def functions_by_name(tools: Iterable[Function | Callable[..., Any]]) -> dict[str, Function]:
    """Return functions by name, for `call`; plain callables are converted with `function_from`.

    Raises:
        InputError: two functions have the same name.
    """
    functions = [tool if isinstance(tool, Function) else function_from(tool) for tool in tools]
    names = [function.name for function in functions]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"two functions have the same name: {', '.join(duplicates)}")
    return dict(zip(names, functions, strict=True))


def truncate(text: str, length: int = MAX_LENGTH) -> str:
    """Truncate a text to `length` characters and append "..."; unpaired surrogates are replaced (`clean_text`).

    >>> truncate("a long story", 6), truncate("short", 6)
    ('a long...', 'short')
    """
    text = clean_text(text)
    return text if len(text) <= length else text[:length] + "..."


# Calls ----------------------------------------------------------------------------------------------------------------


def call(functions: Mapping[str, Function], name: str, arguments: str) -> Observation:
    """Execute one call of a model; every name and every argument text yields an observation.

    Args:
        functions: functions by name. `Finish` is always available.
        name: the name written by the model; it must match exactly.
        arguments: the arguments written by the model, as raw text.

    Raises:
        ToolrlefError: the setup is wrong, independent of the model's text: a variable is not set, or a callable reports
            a missing package or file.
    """
    function = None if name == FINISH["name"] else functions.get(name)
    if function is None and name != FINISH["name"]:
        known = truncate(", ".join([*functions, FINISH["name"]]), 512)
        return _observation(1, f"there is no function {name!r:.80}; the functions are {known}")
    parsed = read_arguments(arguments, FINISH_PARAMETERS if function is None else str(function.parameters))
    if isinstance(parsed, str):
        return _observation(2, parsed)
    return _finish(parsed) if function is None else _run(function, parsed)


def _finish(arguments: Mapping[str, Any]) -> Observation:
    if arguments["return_type"] == "give_up_and_restart":
        return _observation(4, response="This attempt is given up.")
    if not arguments.get("final_answer", "").strip():
        return _observation(2, "give_answer needs a final_answer that is not empty")
    return _observation(3, response="The final answer is given.")


def _run(function: Function, arguments: dict[str, Any]) -> Observation:
    server = function.server()
    execute = partial(_call_function, function) if server is None else partial(_call_server, function, server)
    observation, failure = call_safely(execute, arguments)
    if failure is None:
        return observation
    detail = failure.detail if server is None else _redact_detail(failure.detail, server.secrets)
    tool_failure = failure.error if failure.error in TOOL_FAILURES else None
    return _observation(5 if tool_failure == "timeout" else 12, f"{failure.error}: {detail}", tool_failure=tool_failure)


def _redact_detail(detail: str, secrets: Secrets) -> str:
    return secrets.redact(secrets.redact_truncated(detail) if len(detail) >= MAX_DETAIL else detail)


def _call_function(function: Function, arguments: Mapping[str, Any]) -> Observation:
    assert function.function is not None
    return _json_observation(0, "", json.dumps(function.function(**arguments), ensure_ascii=False, allow_nan=False))


def _call_server(function: Function, server: Server, arguments: Mapping[str, Any]) -> Observation:
    try:
        body = run_coroutine(partial(_post, function, server, json.dumps(arguments).encode()))
    except Failure as failure:
        code = 5 if failure.kind == "timeout" else STATUS_CODES.get(failure.status, 12)
        body = b"" if failure.is_retryable else failure.body  # error pages of a broken server are useless to a model
        tool_failure = failure.kind if failure.is_retryable else None
        return _json_observation(
            code, failure.detail, _as_json(body, server.secrets, MAX_ERROR_BYTES), tool_failure, server.secrets
        )
    return _json_observation(0, "", _as_json(body, server.secrets), None, server.secrets)


async def _post(function: Function, server: Server, content: bytes) -> bytes:
    async with open_session(server, 1) as session:

        async def attempt() -> bytes:
            post = fetch(
                session,
                "POST",
                server.url,
                max_bytes=MAX_BYTES,
                accepted=range(200, 300),
                max_error_bytes=MAX_ERROR_BYTES,
                params=server.query,
                data=content,
                headers={"Content-Type": "application/json"},
            )
            try:
                return await asyncio.wait_for(post, function.timeout)
            except asyncio.TimeoutError:
                raise Failure("timeout", f"no answer within {function.timeout:g} s", is_retryable=True) from None

        return await retry(attempt, function.retries, function.timeout)


def _as_json(body: bytes, secrets: Secrets, limit: int = MAX_BYTES + 1) -> str:
    """Return a response body as JSON text: its JSON value, else its text as a string.

    A body of at least `limit` bytes is truncated, so it counts as text.
    """
    text = body.decode("utf-8-sig", "replace")
    if len(body) >= limit:
        return json.dumps(secrets.redact_truncated(text.rstrip("\ufffd")), ensure_ascii=False)
    try:
        return json.dumps(json_value(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        return json.dumps(secrets.pattern.sub("[key]", text), ensure_ascii=False)


def _observation(code: int, error: str = "", response: str = "", tool_failure: str | None = None) -> Observation:
    return _json_observation(code, error, json.dumps(response, ensure_ascii=False), tool_failure)


def _json_observation(
    code: int, error: str, response: str, tool_failure: str | None = None, secrets: Secrets = NO_SECRETS
) -> Observation:
    """Return an observation whose `response` is JSON text."""
    text = f'{{"error": {json.dumps(error, ensure_ascii=False)}, "response": {response}}}'
    # Redact before truncating: a truncated secret would not be recognised.
    return Observation(truncate(secrets.pattern.sub("[key]", text)), code, tool_failure)
