"""Calls of functions: every name and every argument text that a model writes yields an `Observation`.

`call` executes one call and returns an `Observation` in ToolBench's format:

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

Secrets of at least six characters are redacted in the response. A callable's error messages are shown to the model
unchanged. Bytes of a response that are not UTF-8 become U+FFFD.

Not covered: interrupting a callable that hangs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from toolrlef_data.records import TOOL_FAILURES, clean_text
from toolrlef_data.tables.redaction import Secrets
from toolrlef_data.tools.boundary import MAX_DETAIL, call_safely
from toolrlef_data.tools.functions.arguments import read_arguments
from toolrlef_data.tools.functions.function import FINISH, Function
from toolrlef_data.tools.http import Failure, Server, fetch, open_session, retry, run_coroutine
from toolrlef_data.tools.parsing.json_text import json_value

__all__ = ["Observation", "call", "truncate"]

MAX_LENGTH = 1024  # characters of an observation, as in ToolBench
MAX_BYTES = 2_000_000  # of a response body
MAX_ERROR_BYTES = 4096  # of the body of a failed response
NO_SECRETS = Secrets([])
STATUS_CODES = {401: 7, 403: 7, 404: 6, 429: 9}
FINISH_PARAMETERS = json.dumps(FINISH["parameters"])


class Observation(NamedTuple):
    """The result of a call: the text for the model, the code (see the module), and the error kind of a tool failure.

    `tool_failure` is one of `TOOL_FAILURES` if a retry of the call may succeed, else None.
    """

    text: str
    code: int
    tool_failure: str | None = None


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
        return json.dumps(secrets.redact_known(text), ensure_ascii=False)


def _observation(code: int, error: str = "", response: str = "", tool_failure: str | None = None) -> Observation:
    return _json_observation(code, error, json.dumps(response, ensure_ascii=False), tool_failure)


def _json_observation(
    code: int, error: str, response: str, tool_failure: str | None = None, secrets: Secrets = NO_SECRETS
) -> Observation:
    """Return an observation whose `response` is JSON text."""
    text = f'{{"error": {json.dumps(error, ensure_ascii=False)}, "response": {response}}}'
    # Redact before truncating: a truncated secret would not be recognised.
    return Observation(truncate(secrets.redact_known(text)), code, tool_failure)


def truncate(text: str, length: int = MAX_LENGTH) -> str:
    """Truncate a text to `length` characters and append "..."; unpaired surrogates are replaced (`clean_text`).

    >>> truncate("a long story", 6), truncate("short", 6)
    ('a long...', 'short')
    """
    text = clean_text(text)
    return text if len(text) <= length else text[:length] + "..."
