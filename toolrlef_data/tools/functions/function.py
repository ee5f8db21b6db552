"""Functions that a model may call by name with JSON arguments: Python callables and HTTP endpoints.

A `Function` has OpenAI's schema, and a callable that gets the arguments as keywords, or a URL that gets them as a POST:

    POST http://localhost:8000/weather
    {"city": "Oslo"}

`call` executes one call of a model and gives an `Observation` in ToolBench's shape, whatever the text:

    {"error": "", "response": {"degrees": 4}}         0   the function's value, or the server's JSON, or its text
    {"error": "there is no function ...", ...}        1   also where only the case or a part of the name differs
    {"error": "the parameter 'city' ...", ...}        2   no JSON object; parameters that lack or do not fit
    {"error": "", "response": "..."}                3 4   `Finish`: an answer, or giving up
    {"error": "timeout: ...", ...}                    5
    {"error": "status 404", "response": "no city"}    6   with what the server says; 401 and 403: 7, 429: 9
    {"error": "zero_division: ...", ...}             12   every other failure of a callable or a server

Secrets are read from the environment when a server is asked, and cleaned from what it answers; those of less than six
characters are not looked for there. Of a callable, and of all values bound to it, only a digest is written down with
the settings; its own errors are shown to the model as they are.

Not covered: some keywords of schemas (see `schemas`); a callable that runs on (it is not interrupted); other methods
than POST; answers that are no UTF-8 (odd bytes become U+FFFD); streaming.
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

from toolrlef_data.engines.credentials import Secrets
from toolrlef_data.records import TOOL_FAILURES, InputError
from toolrlef_data.tables.fingerprint import canonical, code_digest, digest
from toolrlef_data.tools.functions.arguments import checked_parameters, read_arguments
from toolrlef_data.tools.http import (
    Failure,
    Server,
    check_headers,
    check_patience,
    check_url,
    fetch,
    open_session,
    retry,
    run_loop,
    scrub_cut,
    server_at,
)
from toolrlef_data.tools.json_text import json_value
from toolrlef_data.tools.tool import MAX_DETAIL, executed

__all__ = ["FINISH", "Function", "Observation", "call", "function_from", "functions_by_name", "truncate"]

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what OpenAI's API takes
MAX_LENGTH = 1024  # characters of an observation, as upstream cuts it
MAX_BYTES = 2_000_000  # of a server's answer
MAX_REASON = 4096  # bytes that are read of the answer of a server that refuses
NO_SECRETS = Secrets([])
_met: ContextVar[dict[int, int] | None] = ContextVar("met", default=None)
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
    """What a call gave: the text a model is shown, its code (see the module), and the kind of `TOOL_FAILURES` where the
    tool itself failed in a way that may pass, else None."""

    text: str
    code: int
    tool_failure: str | None = None


@dataclass(frozen=True)
class Function:
    """A function that a model may call: OpenAI's schema, and what is executed.

    Args:
        name: 1 to 64 letters, digits, "_" and "-"; all but "Finish".
        description: what it does, for the model.
        parameters: a JSON schema of an object, a mapping or JSON text; kept as JSON text in the order given.
        function: is called with the arguments as keywords, and returns a JSON value; raises `ToolError` where there is
            none. A key that it needs, it reads from the environment when it is called.
        url: in its place, where the arguments are POSTed as a JSON object; or "$NAME" of an environment variable that
            holds it, which it must where the URL carries credentials or a query.
        version: changes with the outputs; for what neither the code nor the URL shows.
        timeout: seconds that a server may take for one answer.
        retries: how often a server is asked again after a timeout, a broken connection, or status 429 or 5xx; 0 for
            one that must not do things twice.
        headers: for a URL: (name, "$NAME" of the environment variable that holds the whole value) pairs or a mapping.

    Raises:
        InputError: something of it cannot be used; secrets are not repeated.

    >>> text = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    >>> shout = Function("shout", "Says it louder.", text, lambda text: text.upper())
    >>> call({"shout": shout}, "shout", '{"text": "hi"}').text
    '{"error": "", "response": "HI"}'
    """

    name: str
    description: str
    parameters: Mapping[str, Any] | str
    function: Callable[..., Any] | None = field(default=None, repr=False)  # a partial's shows what is bound
    url: str | None = None
    version: str = "1"
    timeout: float = 30.0
    retries: int = 2
    headers: tuple[tuple[str, str], ...] | Mapping[str, str] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name) or self.name == FINISH["name"]:
            raise InputError(
                f"a function's name has 1 to 64 letters, digits, _ and -, and is not Finish; found {self.name!r:.80}"
            )
        what = f"the function {self.name!r}"
        if (self.function is None) == (self.url is None):
            raise InputError(f"{what} needs function= or url=, and not both")
        if not isinstance(self.description, str) or not isinstance(self.version, str):
            raise InputError(f"{what}: description and version are text")
        if self.function is not None and (not callable(self.function) or inspect.iscoroutinefunction(self.function)):
            raise InputError(f"{what}: function is a callable, and no coroutine")
        if self.url is not None:
            if not isinstance(self.url, str):
                raise InputError(f"{what}: url is text, found {type(self.url).__name__}")
            check_url(self.url, f"the URL of {what}")
        check_patience(self.timeout, self.retries)
        object.__setattr__(self, "parameters", checked_parameters(self.parameters, what))
        object.__setattr__(self, "headers", check_headers(self.headers, what))
        if self.headers and self.url is None:
            raise InputError(f"{what}: headers are for a url")

    def schema(self) -> dict[str, Any]:
        """OpenAI's schema of the function, the object inside {"type": "function", "function": ...}."""
        return {"name": self.name, "description": self.description, "parameters": json.loads(str(self.parameters))}

    def server(self) -> Server | None:
        """The server with what the environment holds now; None for a callable.

        Nothing is asked or looked up, so that a run can check all its functions before it costs.

        Raises:
            InputError: a variable is not set, or holds what cannot be used; nothing else is raised.
        """
        if self.url is None:
            return None
        return server_at(self.url, f"the function {self.name!r}", dict(self.headers))

    def published(self) -> dict[str, Any]:
        """What others may read: neither what is executed nor where."""
        schema = digest({"name": self.name, "description": self.description, "parameters": self.parameters})
        return {"name": self.name, "version": self.version, "schema_sha256": schema}

    def in_key(self) -> dict[str, Any]:
        """What stands in a cache key, and is written down with it: of a callable a digest; of a server its address
        without credentials and the names of headers."""
        place = None if self.url is None else server_at(self.url, f"the function {self.name!r}").place
        made = None if self.function is None else _digest_of(self.function)
        return {"function": made, "url": place, "headers": [pair[0] for pair in self.headers]}


def _digest_of(function: Callable[..., Any]) -> str:
    """A callable's value in a cache key, with all that is bound to it and all code of this package that it reaches.

    A callable that reaches itself, through a table of functions that it uses, is numbered where it is met again.
    """
    if (met := _met.get()) is None:
        return copy_context().run(_begun, function)
    if id(function) in met:
        return f"met {met[id(function)]}"
    met[id(function)] = len(met)
    return digest(canonical(function), code_digest(function))


def _begun(function: Callable[..., Any]) -> str:
    _met.set({})
    return _digest_of(function)


def function_from(function: Callable[..., Any], *, version: str = "1") -> Function:
    """A callable as a `Function`: name, type hints and Google docstring give the schema.

    Args:
        function: every argument has a type hint and a line in the docstring, as `transformers.utils.get_json_schema`
            reads them.

    Raises:
        InputError: one has not, or takes no keyword.
    """
    from transformers.utils import get_json_schema
    from transformers.utils.chat_template_utils import DocstringParsingException, TypeHintParsingException

    name = getattr(function, "__name__", "")
    try:
        taken = {parameter.kind for parameter in inspect.signature(function).parameters.values()}
        schema = get_json_schema(function)["function"]
    except (DocstringParsingException, TypeHintParsingException, TypeError, NameError, ValueError) as error:
        raise InputError(f"no schema can be made of {name or function!r}: {error}") from error
    if not taken <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}:
        raise InputError(f"no schema can be made of {name}: a model gives each argument by its name")
    return Function(name, schema["description"], schema["parameters"], function, version=version)


def functions_by_name(tools: Iterable[Function | Callable[..., Any]]) -> dict[str, Function]:
    """Functions by name, as `call` takes them; plain callables go through `function_from`.

    Raises:
        InputError: two have one name.
    """
    made = [tool if isinstance(tool, Function) else function_from(tool) for tool in tools]
    names = [function.name for function in made]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"two functions have one name: {', '.join(twice)}")
    return dict(zip(names, made, strict=True))


def truncate(text: str, length: int = MAX_LENGTH) -> str:
    """A text as a model is shown it: at most `length` characters and "..."; half a character becomes "?".

    >>> truncate("a long story", 6), truncate("short", 6)
    ('a long...', 'short')
    """
    text = text if len(text) <= length else text[:length] + "..."
    return text.encode("utf-8", "replace").decode()


# Calls ----------------------------------------------------------------------------------------------------------------


def call(functions: Mapping[str, Function], name: str, arguments: str) -> Observation:
    """Execute one call that a model wrote; whatever the text, the answer is an observation.

    Args:
        functions: by name, beside which there is always `Finish`.
        name: as the model wrote it; only the whole name counts.
        arguments: the raw text, a JSON object.

    Raises:
        ToolrlefError: a mistake of the user's, which no text of a model brings about: a variable is not set, a callable
            says that a package or a file is missing.
    """
    function = None if name == FINISH["name"] else functions.get(name)
    if function is None and name != FINISH["name"]:
        known = truncate(", ".join([*functions, FINISH["name"]]), 512)
        return _observation(1, f"there is no function {name!r:.80}; the functions are {known}")
    given = read_arguments(arguments, FINISH_PARAMETERS if function is None else str(function.parameters))
    if isinstance(given, str):
        return _observation(2, given)
    return _finished(given) if function is None else _run(function, given)


def _finished(given: Mapping[str, Any]) -> Observation:
    if given["return_type"] == "give_up_and_restart":
        return _observation(4, response="This attempt is given up.")
    if not given.get("final_answer", "").strip():
        return _observation(2, "give_answer needs a final_answer that is not empty")
    return _observation(3, response="The final answer is given.")


def _run(function: Function, given: dict[str, Any]) -> Observation:
    server = function.server()
    work = partial(_returned, function) if server is None else partial(_posted, function, server)
    seen, failure = executed(work, given)
    if failure is None:
        return seen
    detail = failure.detail if server is None else _cleaned(failure.detail, server.secrets)
    tool_failure = failure.error if failure.error in TOOL_FAILURES else None
    return _observation(5 if tool_failure == "timeout" else 12, f"{failure.error}: {detail}", tool_failure=tool_failure)


def _cleaned(detail: str, secrets: Secrets) -> str:
    return secrets.redact(scrub_cut(detail, secrets) if len(detail) >= MAX_DETAIL else detail)


def _returned(function: Function, given: Mapping[str, Any]) -> Observation:
    assert function.function is not None
    return _told(0, "", json.dumps(function.function(**given), ensure_ascii=False, allow_nan=False))


def _posted(function: Function, server: Server, given: Mapping[str, Any]) -> Observation:
    try:
        body = run_loop(partial(_post, function, server, json.dumps(given).encode()))
    except Failure as failure:
        code = 5 if failure.kind == "timeout" else STATUS_CODES.get(failure.status, 12)
        body = b"" if failure.passing else failure.body  # a broken server's pages tell nothing
        tool_failure = failure.kind if failure.passing else None
        return _told(code, failure.detail, _as_json(body, server.secrets, MAX_REASON), tool_failure, server.secrets)
    return _told(0, "", _as_json(body, server.secrets), None, server.secrets)


async def _post(function: Function, server: Server, content: bytes) -> bytes:
    async with open_session(server, 1) as session:

        async def attempt() -> bytes:
            post = fetch(
                session,
                "POST",
                server.place,
                limit=MAX_BYTES,
                accepted=range(200, 300),
                explain=MAX_REASON,
                params=server.query,
                data=content,
                headers={"Content-Type": "application/json"},
            )
            try:
                return await asyncio.wait_for(post, function.timeout)
            except asyncio.TimeoutError:
                raise Failure("timeout", f"no answer within {function.timeout:g} s", passing=True) from None

        return await retry(attempt, function.retries, function.timeout)


def _as_json(body: bytes, secrets: Secrets, limit: int = MAX_BYTES + 1) -> str:
    """A server's answer as JSON text: its value where it is JSON, else its text; one of `limit` bytes was cut."""
    text = body.decode("utf-8-sig", "replace")
    if len(body) >= limit:
        return json.dumps(scrub_cut(text.rstrip("\ufffd"), secrets), ensure_ascii=False)
    try:
        return json.dumps(json_value(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        return json.dumps(secrets.pattern.sub("[key]", text), ensure_ascii=False)


def _observation(code: int, error: str = "", response: str = "", tool_failure: str | None = None) -> Observation:
    return _told(code, error, json.dumps(response, ensure_ascii=False), tool_failure)


def _told(
    code: int, error: str, response: str, tool_failure: str | None = None, secrets: Secrets = NO_SECRETS
) -> Observation:
    """An observation; `response` is JSON text."""
    text = f'{{"error": {json.dumps(error, ensure_ascii=False)}, "response": {response}}}'
    # Secrets go first: a cut would leave the beginning of one.
    return Observation(truncate(secrets.pattern.sub("[key]", text)), code, tool_failure)
