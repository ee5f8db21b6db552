"""Tests of functions: arguments, callables, hostile servers, secrets, cache keys, and schemas of callables."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import logging
import pickle
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import pytest

from tests.support.api_server import ApiServer
from toolrlef_data.records import InputError, MissingExtra, ToolError, UnknownName
from toolrlef_data.tables.fingerprint import canonical, code_digest
from toolrlef_data.tables.redaction import Secrets
from toolrlef_data.tools import http as servers
from toolrlef_data.tools.boundary import call_safely
from toolrlef_data.tools.functions.execution import MAX_LENGTH, Observation, call, truncate
from toolrlef_data.tools.functions.function import FINISH, Function, function_from, functions_by_name

SHAPE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "times": {"type": "integer"},
        "ratio": {"type": "number"},
        "loud": {"type": "boolean"},
        "mode": {"type": "string", "enum": ["a", "b"]},
        "level": {"enum": [1, None]},
        "parts": {"type": "array"},
        "more": {"type": ["object", "null"]},
        "maybe": {"type": "string", "nullable": True},
        "odd": {"type": "STRING"},  # not a JSON schema type: any value is valid
    },
    "required": ["text"],
}


def short(value: Any) -> str:
    """Return the id of a test case."""
    return ascii(value)[:40] if isinstance(value, str) else type(value).__name__


def echo(**arguments: Any) -> Any:
    return arguments


def observe(function: Callable[..., Any], arguments: str = '{"text": "x"}') -> Observation:
    return call({"f": Function("f", "F.", SHAPE, function)}, "f", arguments)


def echo_arguments(arguments: str) -> Any:
    observation = observe(echo, arguments)
    assert observation.code == 0, observation.text
    return json.loads(observation.text)["response"]


# Names and arguments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "",
        " f",
        "f ",
        "F",
        "f\n",
        "Finis",
        "xf",
        "__class__",
        "__proto__",
        "get",
        "\ud800",
        "f" * 1_000_000,
        "f()",
        "\0",
        "ｆ",
    ],
    ids=short,
)
def test_names_must_match_exactly(name: str) -> None:
    observation = call({"f": Function("f", "F.", SHAPE, echo)}, name, '{"text": "x"}')
    assert observation.code == 1
    assert observation.tool_failure is None
    assert json.loads(observation.text)["error"].startswith("there is no function ")
    assert json.loads(observation.text)["error"].endswith("the functions are f, Finish")


def test_a_long_list_of_names_is_truncated() -> None:
    many = {f"function_{i}": Function(f"function_{i}", "F.", SHAPE, echo) for i in range(500)}
    assert len(call(many, "none", "{}").text) < 700


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"text": ""}', {"text": ""}),
        (' {"text": "a\\u0000b"}\n', {"text": "a\0b"}),
        ('{"text": "\\ud83d\\ude00"}', {"text": "\U0001f600"}),  # a surrogate pair
        ('{"text": "", "times": 3.0}', {"text": "", "times": 3}),
        ('{"text": "", "times": -0}', {"text": "", "times": 0}),
        ('{"text": "", "ratio": 3}', {"text": "", "ratio": 3}),
        ('{"text": "", "loud": true}', {"text": "", "loud": True}),
        ('{"text": "", "mode": "b"}', {"text": "", "mode": "b"}),
        ('{"text": "", "level": 1.0}', {"text": "", "level": 1.0}),
        ('{"text": "", "level": null}', {"text": "", "level": None}),
        ('{"text": "", "parts": [1, [2]]}', {"text": "", "parts": [1, [2]]}),
        ('{"text": "", "more": null}', {"text": "", "more": None}),
        ('{"text": "", "more": {"__proto__": {}}}', {"text": "", "more": {"__proto__": {}}}),
        ('{"text": "", "maybe": null}', {"text": "", "maybe": None}),
        ('{"text": "", "odd": true}', {"text": "", "odd": True}),
    ],
)
def test_valid_arguments(arguments: str, expected: dict[str, Any]) -> None:
    assert echo_arguments(arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("", "no JSON"),
        ("text", "no JSON"),
        ('{"text": "x"', "no JSON"),
        ('{"text": "x"} {"text": "x"}', "no JSON"),
        ("{'text': 'x'}", "no JSON"),
        ('\ufeff{"text": "x"}', "no JSON"),
        ('{"text": "\ud800"}', "half a character"),
        ('{"text": "\\udc00"}', "half a character"),
        ('{"text": "x", "text": "y"}', "'text' stands twice"),
        ('{"text": "", "more": {"a": 1, "a": 1}}', "'a' stands twice"),
        ('{"text": "", "ratio": NaN}', "NaN"),
        ('{"text": "", "ratio": -Infinity}', "Infinity"),
        ('{"text": "", "ratio": 1e999}', "range of a float"),
        ('{"text": "", "times": ' + "9" * 1_000_000 + "}", "4300 digits"),
        ("[" * 100_000, "too many"),
        ('{"a":' * 100_000, "too many"),
        ('{"text": "", "parts": ' + "[" * 65 + "]" * 65 + "}", "too many"),
        ("null", "found null"),
        ("[]", "found array"),
        ('"x"', "found string"),
        ("true", "found boolean"),
        ("7", "found number"),
        ("{}", "'text' is required; the parameters are text, times"),
        ('{"text": null}', "'text' must be string, found null"),
        ('{"text": 5}', "'text' must be string, found number"),
        ('{"text": "", "times": true}', "'times' must be integer, found boolean"),
        ('{"text": "", "times": 3.5}', "'times' must be integer, found number"),
        ('{"text": "", "times": "3"}', "'times' must be integer, found string"),
        ('{"text": "", "ratio": false}', "'ratio' must be number, found boolean"),
        ('{"text": "", "loud": 1}', "'loud' must be boolean, found number"),
        ('{"text": "", "mode": "A"}', "'mode' must be one of"),
        ('{"text": "", "level": true}', "'level' must be one of [1, null]"),
        ('{"text": "", "parts": {}}', "'parts' must be array, found object"),
        ('{"text": "", "more": []}', "'more' must be object or null, found array"),
        ('{"text": "", "Text": ""}', "no parameter 'Text'"),
        ('{"text": "", "__class__": ""}', "no parameter '__class__'"),
        ('{"text": "", "self": ""}', "no parameter 'self'"),
        ('{"text": "", "": ""}', "no parameter ''"),
        ('{"text": "", "' + "n" * 1_000_000 + '": ""}', "no parameter 'nnn"),
    ],
    ids=short,
)
def test_invalid_arguments(arguments: str, error: str) -> None:
    observation = observe(echo, arguments)
    assert (observation.code, observation.tool_failure) == (2, None)
    content = json.loads(observation.text)
    assert error in content["error"]
    assert content["response"] == ""


@pytest.mark.parametrize(
    ("additional", "is_accepted"),
    [({"additionalProperties": value}, value is not False) for value in (True, {}, {"type": "integer"}, False)]
    + [({}, False)],
)
def test_additional_parameters(additional: dict[str, Any], is_accepted: bool) -> None:
    function = Function("f", "F.", {"type": "object", **additional}, echo)
    observation = call({"f": function}, "f", '{"any": 1}')
    assert observation.code == (0 if is_accepted else 2)
    assert is_accepted or "there is no parameter 'any'; the parameters are none" in observation.text


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"return_type": "give_answer", "final_answer": "42"}, 3),
        ({"return_type": "give_up_and_restart"}, 4),
        ({"return_type": "give_up_and_restart", "final_answer": "sorry"}, 4),
        ({"return_type": "give_answer"}, 2),
        ({"return_type": "give_answer", "final_answer": " \n"}, 2),
        ({"return_type": "give_answer", "final_answer": 42}, 2),
        ({"return_type": "give_up"}, 2),
        ({"return_type": None}, 2),
        ({"final_answer": "42"}, 2),
        ({"return_type": "give_answer", "final_answer": "42", "more": 1}, 2),
        ([], 2),
    ],
)
def test_finish(arguments: Any, code: int) -> None:
    observation = call({}, "Finish", json.dumps(arguments))
    assert (observation.code, observation.tool_failure) == (code, None)
    assert bool(json.loads(observation.text)["error"]) == (code == 2)


def test_the_schema_of_finish_stays_the_same() -> None:
    """It is shown to models, and part of reply keys."""
    assert hashlib.sha256(json.dumps(FINISH).encode()).hexdigest()[:8] == "e8ae66fa"


@pytest.mark.parametrize("tools", ["forecast", 5])
def test_functions_are_a_list(tools: Any) -> None:
    with pytest.raises(InputError, match=f"^functions: expected a list of functions, found {tools!r}$"):
        functions_by_name(tools)


def test_finish_cannot_be_replaced() -> None:
    assert list(FINISH) == ["name", "description", "parameters"]
    functions = {"Finish": Function("f", "F.", SHAPE, echo)}
    assert call(functions, "Finish", '{"return_type": "give_up_and_restart"}').code == 4


# Callables ------------------------------------------------------------------------------------------------------------


def raising(error: BaseException) -> Callable[..., Any]:
    def function(text: str) -> Any:
        raise error

    return function


def circular_list() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def deep_list() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "response"),
    [
        ("é", "é"),
        (None, None),
        (True, True),
        (0.5, 0.5),
        ([1, {"a": None}], [1, {"a": None}]),
        (("a", "b"), ["a", "b"]),
        ("half \ud83d", "half \ufffd"),
    ],
)
def test_values_of_a_callable(value: Any, response: Any) -> None:
    observation = observe(lambda text: value)
    assert (observation.code, observation.tool_failure) == (0, None)
    assert json.loads(observation.text) == {"error": "", "response": response}
    assert "\\u00e9" not in observation.text, "only required JSON escapes"


@pytest.mark.parametrize(
    "value", [float("nan"), b"x", object(), {1, 2}, {(1, 2): 3}, 10**5000, circular_list(), deep_list()], ids=short
)
def test_values_that_are_not_json(value: Any) -> None:
    observation = observe(lambda text: value)
    assert (observation.code, observation.tool_failure) == (12, "crashed")
    assert json.loads(observation.text)["response"] == ""


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


class ErrorWithoutKind(ToolError):
    def __init__(self) -> None:
        """Skip the constructor, so that the kind is missing."""


def raise_with_kind(kind: Any) -> Callable[..., Any]:
    def function(text: str) -> Any:
        raise ToolError(kind, "x")

    return function


@pytest.mark.parametrize(
    ("error", "code", "tool_failure", "text"),
    [
        (ToolError("zero_division", "no value"), 12, None, "zero_division: no value"),
        (ToolError("no_result", "nothing"), 12, None, "no_result: nothing"),
        (ToolError("timeout", "late"), 5, "timeout", "timeout: late"),
        (ToolError("unavailable", "gone"), 12, "unavailable", "unavailable: gone"),
        (KeyError("x" * 999), 12, "crashed", "crashed: KeyError: 'xxx"),
        (RecursionError("deep"), 12, "crashed", "crashed: RecursionError"),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "\udfff"), 12, "crashed", "crashed: UnicodeEncodeError"),
        (UnprintableError(), 12, "crashed", "crashed: UnprintableError"),
        (ErrorWithoutKind(), 12, "crashed", "crashed: ErrorWithoutKind"),
        (ToolError("http", 5), 12, "crashed", "crashed: ToolError: http: 5"),  # type: ignore[arg-type]
        (SystemExit(3), 12, "crashed", "crashed: SystemExit: 3"),  # raised by sys.exit
        (asyncio.CancelledError(), 12, "crashed", "crashed: CancelledError"),
        (GeneratorExit(), 12, "crashed", "crashed: GeneratorExit"),
        (StopIteration(1), 12, "crashed", "crashed: StopIteration: 1"),
    ],
)
def test_failures_of_a_callable(error: BaseException, code: int, tool_failure: str | None, text: str) -> None:
    observation = observe(raising(error))
    assert (observation.code, observation.tool_failure) == (code, tool_failure)
    assert text in json.loads(observation.text)["error"]


@pytest.mark.parametrize("kind", ["Weird kind", "", None, ["http"]], ids=str)
def test_error_kinds_that_are_no_names(kind: Any) -> None:
    observation = observe(raise_with_kind(kind))
    assert (observation.code, observation.tool_failure) == (12, "crashed")
    _, failure = call_safely(raise_with_kind(kind), "x")
    assert failure is not None
    assert failure.error == "crashed"


@pytest.mark.parametrize(
    "error",
    [
        InputError("the corpus is gone"),
        MissingExtra("pip install it"),
        UnknownName("language", "xx", ["en"]),
        KeyboardInterrupt(),
    ],
    ids=short,
)
def test_setup_errors_are_raised(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised:
        observe(raising(error))
    assert raised.value is error


def test_truncate() -> None:
    assert truncate("x" * 1024) == "x" * 1024
    assert truncate("x" * 1025) == "x" * 1024 + "..."
    assert observe(lambda text: "x" * 1_000_000).text == '{"error": "", "response": "' + "x" * (1024 - 27) + "..."


def test_random_texts_yield_valid_observations() -> None:
    draw = random.Random(5)
    pieces = [
        '{"text": ',
        '"x"',
        "}",
        "{",
        "[",
        "]",
        ",",
        ":",
        "\\",
        '"',
        "\ud800",
        "\\ud800",
        "1e",
        "9" * 99,
        "NaN",
        "\0",
    ]
    pieces += [
        "null",
        "true",
        '"Finish"',
        '"return_type"',
        "give_answer",
        " ",
        "\n",
        "é",
        "\U0001f600",
        "-",
        "__proto__",
    ]
    functions = {"f": Function("f", "F.", SHAPE, echo), "g": Function("g", "G.", SHAPE, raising(ToolError("http")))}
    for _ in range(2000):
        name = draw.choice(["f", "g", "Finish", "".join(draw.choices(pieces, k=2))])
        text = (
            draw.choice(['{"text": ', ""]) + "".join(draw.choices(pieces, k=draw.randrange(8))) + draw.choice(["}", ""])
        )
        observation = call(functions, name, text)
        assert len(observation.text) <= 1024 + 3
        assert len(observation.text.encode()) > 0
        assert observation.code in (0, 1, 2, 3, 4, 12)


# Servers --------------------------------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """A server that responds by path and records requests; `finished` ends all waiting handlers."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, Any, dict[str, str]]] = []
        self.finished = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, address: Any) -> None:
        """Ignore clients that hang up; the tests provoke them."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.request_headers = {name.lower(): value for name, value in self.headers.items()}
        path = self.path.partition("?")[0]
        self.server.requests.append((self.path, json.loads(self.body), self.request_headers))
        is_repeated = sum(request_path.partition("?")[0] == path for request_path, _, _ in self.server.requests) > 1
        RESPONSES[path](self, is_repeated)

    def respond(self, content: Any, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def drip(self, start: bytes, piece: bytes, pause: float = 0.05) -> None:
        self.wfile.write(start)
        while not self.server.finished.wait(pause):
            self.wfile.write(piece)
        self.close_connection = True

    def hang_up(self, start: bytes = b"") -> None:
        self.wfile.write(start)
        self.close_connection = True


RESPONSES: dict[str, Callable[[Handler, bool], None]] = {
    "/json": lambda h, is_repeated: h.respond(b'{\n  "degrees": 4,\n  "sky": "gr\\u00e5"\n}'),
    "/text": lambda h, is_repeated: h.respond("grå".encode(), Content_Type="text/plain"),
    "/bom": lambda h, is_repeated: h.respond(b"\xef\xbb\xbf[1]"),
    "/nan": lambda h, is_repeated: h.respond(b'{"a": NaN}'),
    "/deep": lambda h, is_repeated: h.respond(b"[" * 500_000),
    "/nested": lambda h, is_repeated: h.respond(b"[" * 900 + b"]" * 900),
    "/number": lambda h, is_repeated: h.respond(b"9" * 50_000),
    "/twice": lambda h, is_repeated: h.respond(b'{"a": 1, "a": 2}'),
    "/surrogate": lambda h, is_repeated: h.respond(b'"half \\ud83d"'),
    "/binary": lambda h, is_repeated: h.respond(b"\xff\xfe\x00a\x80"),
    "/created": lambda h, is_repeated: h.respond({"id": 1}, 201),
    "/nothing": lambda h, is_repeated: h.respond(b"", 204),
    "/long": lambda h, is_repeated: h.respond(["word"] * 10_000),
    "/echo": lambda h, is_repeated: h.respond({"path": h.path, "headers": h.request_headers, "body": json.loads(h.body)}),
    "/echo400": lambda h, is_repeated: h.respond({"path": h.path, "headers": h.request_headers}, 400),
    "/400": lambda h, is_repeated: h.respond({"detail": "city is misspelt"}, 400),
    "/401": lambda h, is_repeated: h.respond(b"who is there", 401, WWW_Authenticate="Basic"),
    "/403": lambda h, is_repeated: h.respond(b"", 403),
    "/404": lambda h, is_repeated: h.respond(b"no such city", 404),
    "/404_endless": lambda h, is_repeated: h.drip(b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n", 0.0),
    "/429": lambda h, is_repeated: h.respond(b"slow down", 429),
    "/429_for_an_hour": lambda h, is_repeated: h.respond(b"slow down", 429, Retry_After="3600"),
    "/429_once": lambda h, is_repeated: h.respond([1]) if is_repeated else h.respond(b"", 429, Retry_After="0"),
    "/500": lambda h, is_repeated: h.respond(b"Traceback", 500),
    "/501": lambda h, is_repeated: h.respond(b"", 501),
    "/503_once": lambda h, is_repeated: h.respond([1]) if is_repeated else h.respond(b"", 503),
    "/hangs_up_once": lambda h, is_repeated: h.respond([1]) if is_repeated else h.hang_up(),
    "/silent_once": lambda h, is_repeated: h.respond([1]) if is_repeated else h.drip(b"", b"", 30),
    "/to_itself": lambda h, is_repeated: h.respond(b"", 307, Location=h.path),
    "/elsewhere": lambda h, is_repeated: h.respond(b"", 308, Location=f"http://localhost:{h.server.server_port}/json"),
    "/to_a_file": lambda h, is_repeated: h.respond(b"", 302, Location="file:///etc/passwd"),
    "/gzip": lambda h, is_repeated: h.respond(b"\x1f\x8b", Content_Encoding="gzip"),
    "/huge": lambda h, is_repeated: h.respond(b" " * 20_000_000),
    "/endless": lambda h, is_repeated: h.drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n", 0.0),
    "/silent": lambda h, is_repeated: h.drip(b"", b"", 30),
    "/slow": lambda h, is_repeated: h.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b" "),
    "/cut_short": lambda h, is_repeated: h.hang_up(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"a"'),
    "/no_http": lambda h, is_repeated: h.hang_up(b"SSH-2.0-OpenSSH_9.7\r\n"),
}  # fmt: skip


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(servers, "BACKOFF", 0.001)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.finished.set()
        server.shutdown()
        thread.join()


def post(url: str, arguments: str = '{"text": "Oslo"}', **settings: Any) -> Observation:
    return call({"f": Function("f", "F.", SHAPE, url=url, **settings)}, "f", arguments)


@pytest.mark.parametrize(
    ("path", "response", "requests"),
    [
        ("/json", {"degrees": 4, "sky": "grå"}, 1),
        ("/text", "grå", 1),
        ("/bom", [1], 1),
        ("/nan", '{"a": NaN}', 1),  # invalid JSON is text
        ("/twice", '{"a": 1, "a": 2}', 1),
        ("/surrogate", "half \ufffd", 1),
        ("/binary", "\ufffd\ufffd\0a\ufffd", 1),
        ("/created", {"id": 1}, 1),
        ("/nothing", "", 1),
        ("/429_once", [1], 2),
        ("/503_once", [1], 2),
        ("/hangs_up_once", [1], 2),
        ("/silent_once", [1], 2),
    ],
)
def test_responses_of_a_server(path: str, response: Any, requests: int, server: Server) -> None:
    observation = post(server.url + path, timeout=2 if path == "/silent_once" else 20)
    assert (observation.code, observation.tool_failure) == (0, None)
    assert json.loads(observation.text) == {"error": "", "response": response}
    assert [(request_path, body) for request_path, body, _ in server.requests] == [(path, {"text": "Oslo"})] * requests
    assert server.requests[0][2]["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "start"), [("/deep", '"[['), ("/nested", '"[['), ("/number", '"99'), ("/long", '["w')]
)
def test_long_responses_are_truncated(path: str, start: str, server: Server) -> None:
    text = post(server.url + path).text
    assert text.startswith('{"error": "", "response": ' + start)
    assert len(text) == 1024 + 3


@pytest.mark.parametrize(
    ("path", "code", "tool_failure", "error", "response", "requests"),
    [
        ("/400", 12, None, "status 400", {"detail": "city is misspelt"}, 1),
        ("/401", 7, None, "status 401", "who is there", 1),
        ("/403", 7, None, "status 403", "", 1),
        ("/404", 6, None, "status 404", "no such city", 1),
        ("/429", 9, "http", "status 429", "", 2),
        ("/429_for_an_hour", 9, "http", "status 429", "", 1),  # longer than the timeout of a call
        ("/500", 12, "http", "status 500", "", 2),
        ("/501", 12, "http", "status 501", "", 2),
        ("/to_itself", 12, None, "status 307; redirects are not followed", "", 1),
        ("/elsewhere", 12, None, "status 308; redirects are not followed", "", 1),
        ("/to_a_file", 12, None, "status 302; redirects are not followed", "", 1),
        ("/gzip", 12, None, "the answer is compressed, which was not asked for", "", 1),
        ("/huge", 12, None, "the answer has more than 2000000 bytes", "", 1),
        ("/endless", 12, None, "the answer has more than 2000000 bytes", "", 1),
        ("/cut_short", 12, "unavailable", "ClientPayloadError", "", 2),
    ],
)
def test_failures_of_a_server(
    path: str, code: int, tool_failure: str | None, error: str, response: Any, requests: int, server: Server
) -> None:
    observation = post(server.url + path, retries=1)
    assert (observation.code, observation.tool_failure) == (code, tool_failure)
    assert json.loads(observation.text) == {"error": error, "response": response}
    assert [request_path for request_path, _, _ in server.requests] == [path] * requests, (
        "no other server received a request"
    )


@pytest.mark.parametrize(
    ("failures", "retries", "pauses"),
    [
        ([{"is_retryable": True}] * 4, 3, [0.25, 0.5, 1.0]),
        ([{"is_retryable": True}] * 2, 3, [0.25, 0.5]),
        ([{"is_retryable": True}], 0, []),
        ([{"is_retryable": True, "retry_after": 1.5}, {"is_retryable": True, "retry_after": 0.1}], 3, [1.5, 0.5]),
        ([{"is_retryable": True, "retry_after": 10.0}], 3, []),  # longer than the caller waits
        ([{"is_retryable": True}, {}], 3, [0.25]),
        ([{}], 3, []),
    ],
)
def test_pauses_between_attempts_double_or_are_as_long_as_the_server_says(
    failures: list[dict[str, Any]], retries: int, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept, remaining = list[float](), list(failures)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def attempt() -> str:
        if remaining:
            raise servers.Failure("http", "busy", **remaining.pop(0))
        return "done"

    monkeypatch.setattr(asyncio, "sleep", sleep)
    ends_well = len(pauses) == len(failures)
    with contextlib.nullcontext() if ends_well else pytest.raises(servers.Failure, match="busy"):
        assert asyncio.run(servers.retry(attempt, retries, 10.0)) == "done"
    assert slept == pauses
    assert not remaining


@pytest.mark.parametrize("path", ["/silent", "/slow"])
def test_a_slow_server_cannot_exceed_the_timeout(path: str, server: Server) -> None:
    """The server keeps sending until the test ends, so a call without a total timeout would hang here."""
    observation = post(server.url + path, timeout=1, retries=1)
    assert observation == ('{"error": "no answer within 1 s", "response": ""}', 5, "timeout")
    assert len(server.requests) == 2


def test_other_failures_of_a_server(server: Server) -> None:
    observation = post(server.url + "/404_endless")
    assert (observation.code, len(observation.text)) == (6, 1024 + 3)
    assert post(server.url + "/no_http", retries=0).tool_failure == "unavailable"
    with ApiServer(start=False) as closed_server:  # reserves the port
        observation = post(closed_server.url, retries=0)
    assert (observation.code, observation.tool_failure) == (12, "unavailable")
    assert "refused" in observation.text


def test_hostile_arguments_arrive_unchanged(server: Server) -> None:
    text = 'a\r\nHost: evil\0"}{\U0001f600' + "x" * 1_000_000
    post(server.url + "/json", json.dumps({"text": text, "times": 10**4000, "parts": [[[]]]}))
    ((_, body, headers),) = server.requests
    assert body == {"text": text, "times": 10**4000, "parts": [[[]]]}
    assert "evil" not in headers["host"]


# Settings and secrets -------------------------------------------------------------------------------------------------


def test_secrets_are_sent_only_to_the_server(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = ["us-er-0123456789", "pass-word-012345", "to-ken-0123456789", 'k"ey/+0', "bea-rer-9876543210"]
    monkeypatch.setenv("X_KEY", secrets[3])
    monkeypatch.setenv("BEARER", f"Bearer {secrets[4]}")
    outputs: list[str] = []
    host = server.url.removeprefix("http://")
    addresses = [
        host + path for path in ("/echo", "/echo400", "/404", "/500", "/to_itself", "/cut_short", "/no_http", "/gzip")
    ]
    for address in [*addresses, "127.0.0.1:1/x"]:
        monkeypatch.setenv("SERVER_URL", f"http://{secrets[0]}:{secrets[1]}@{address}?token={secrets[2]}")
        headers = {"X-Key": "$X_KEY", "X-Other": "$BEARER"}
        function = Function("f", "F.", SHAPE, url="$SERVER_URL", headers=headers, retries=0)
        observation = call({"f": function}, "f", json.dumps({"text": f"say {secrets[1]}"}))
        outputs += [observation.text, repr(function), json.dumps(canonical(function)), str(pickle.dumps(function))]
        outputs.append(json.dumps(function.schema()))
    assert all(secret not in text for secret in [*secrets, 'k\\"ey'] for text in [*outputs, caplog.text])
    assert "say [key]" in outputs[0], "secrets are redacted in responses"
    path, body, headers = server.requests[0]
    assert (path, body) == (f"/echo?token={secrets[2]}", {"text": f"say {secrets[1]}"})
    assert headers["x-key"] == secrets[3]
    assert headers["x-other"] == f"Bearer {secrets[4]}"
    assert headers["authorization"].startswith("Basic ")


def echoing(content: str, status: int = 400) -> Callable[[Handler, bool], None]:
    return lambda h, is_repeated: h.respond(content.encode(), status)


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("is_json", [True, False])
def test_a_secret_at_the_truncation_is_redacted_completely(
    is_json: bool, status: int, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "abcdef" * 4
    monkeypatch.setenv("X_KEY", secret)
    texts = []
    for length in range(MAX_LENGTH - 80, MAX_LENGTH):  # every offset around the cut
        body = "-" * length + secret
        monkeypatch.setitem(RESPONSES, "/error", echoing(json.dumps([body]) if is_json else body, status))
        texts.append(post(server.url + "/error", headers={"A": "$X_KEY"}).text)
    assert not [text for text in texts if "a" in text.partition("--")[2]]
    assert "[key]" in texts[0], "complete before the cut"
    assert texts[-1].endswith("--..."), "behind the cut"


@pytest.mark.parametrize("status", [200, 400])
def test_a_secret_that_the_server_cuts_is_redacted(
    status: int, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "abc-0123456789-xyz"
    monkeypatch.setenv("X_KEY", secret)
    for length in range(6, len(secret) + 1):
        for body in (f"you sent {secret[:length]}", json.dumps({"sent": secret[:length], "type": "t"})):
            monkeypatch.setitem(RESPONSES, "/error", echoing(body, status))
            text = post(server.url + "/error", headers={"A": "$X_KEY"}).text
            assert "[key]" in text
            assert "abc" not in text


@pytest.mark.parametrize("shift", range(0, 60, 7))
def test_no_part_of_a_secret_remains_in_a_truncated_error(
    shift: int, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After redaction, 4096 bytes of keys are shorter than an observation, so the truncated end is visible."""
    key = "Zq7" + "abcdefghijklmnopqrstuvwxyz0123456789A"
    monkeypatch.setenv("X_KEY", f"Bearer {key}")
    for body in (key * 400, key.upper() * 400, f"Bearer {key}" * 200, "é" * 40 + key * 400):
        monkeypatch.setitem(RESPONSES, "/error", echoing("-" * shift + body))
        observation = post(server.url + "/error", headers={"Authorization": "$X_KEY"})
        assert observation.code == 12
        remainder = json.loads(observation.text)["response"].lower().replace("[key]", "").replace(" ", "")
        assert remainder.strip("-é") == "", "neither its beginning nor its end"


def test_a_secret_is_redacted_in_text_that_is_not_json(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text body is escaped as a JSON string, so the secret must be found before escaping."""
    monkeypatch.setenv("X_KEY", 'zy"xw\\vuts')
    for body in ('wrong key zy"xw\\vuts', 'wrong {"key": "zy\\"xw\\\\vuts"', '{"key": "zy\\"xw\\\\vuts"}'):
        for status in (200, 400):
            monkeypatch.setitem(RESPONSES, "/error", echoing(body, status))
            text = post(server.url + "/error", headers={"A": "$X_KEY"}).text
            assert "[key]" in text
            assert "xw" not in text


@pytest.mark.parametrize(
    ("text", "secrets", "expected"),
    [
        ("-- abcab", ["abcabc"], "-- "),  # more than its last two characters
        ("-- abcabcabcabcabc", ["abcabcabcabc"], "-- [key]"),
        ("-- ABCABC", ["abcabc"], "-- "),
        ("-- user12:pass", ["user12", "user12:password"], "-- "),  # one secret is a prefix of another
        ("-- abc - abcabc -", ["abcabc"], "-- abc - [key] -"),  # a beginning that is not at the end stays
        ("-- end", ["abcabc"], "-- end"),
        ("", ["abcabc"], ""),
        ("abc", [], "abc"),
    ],
)
def test_a_partial_secret_at_the_end_is_removed(text: str, secrets: list[str], expected: str) -> None:
    assert Secrets(secrets).redact_truncated(text) == expected


@pytest.mark.parametrize("value", ["a\r\nHost: evil", "grå", "\x7f"])
def test_invalid_header_values(value: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X_KEY", value)
    with pytest.raises(InputError, match="X-Key") as raised:
        post(server.url + "/json", headers={"X-Key": "$X_KEY"})
    assert value not in str(raised.value)
    monkeypatch.delenv("X_KEY")
    with pytest.raises(InputError, match="X_KEY is not set"):
        post(server.url + "/json", headers={"X-Key": "$X_KEY"})
    assert server.requests == []


@pytest.mark.parametrize(
    "setting",
    [
        {"url": "http://user:secretword@host/x"},
        {"url": "http://host/x?key=secretword"},
        {"url": "http://host/#secretword"},
        {"url": "http://user:secretword@[host/x"},
        {"url": "file:///secretword"},
        {"url": "ftp://host/secretword"},
        {"url": "unix:///secretword"},
        {"url": "secretword"},
        {"url": "$secretword"},
        {"url": ""},
        {"url": 5},
        {"headers": {"Authorization": "secretword"}},
        {"headers": {"Authorization": "Bearer $SECRETWORD"}},
        {"headers": (("secretword",),)},
        {"headers": "secretword"},
        {"headers": {"A\r\nB": "$KEY"}},
        {"headers": {"Host": "$KEY"}},
        {"headers": (("a", "$KEY"), ("A", "$KEY"))},
        {"url": None},
        {"url": None, "function": echo, "headers": {"A": "$KEY"}},
        {"url": None, "function": "echo"},
        {"function": echo},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"retries": -1},
        {"version": 2},
        {"name": ""},
        {"name": "a b"},
        {"name": "a" * 65},
        {"name": "Finish"},
        {"name": "f\n"},
        {"parameters": "{"},
        {"parameters": []},
        {"parameters": {"type": "string"}},
        {"parameters": {"type": "object", "properties": ["a"]}},
        {"parameters": {"type": "object", "properties": {"a": True}}},
        {"parameters": {"type": "object", "properties": {"a": {"type": {}}}}},
        {"parameters": {"type": "object", "properties": {"a": {"enum": 3}}}},
        {"parameters": {"type": "object", "required": ["a"]}},
        {"parameters": {"type": "object", "default": float("inf")}},
        {"parameters": {"type": "object", "title": "\ud800"}},
        {"parameters": {"type": "object", "title": object()}},
    ],
)
def test_invalid_settings(setting: dict[str, Any]) -> None:
    settings = {"name": "f", "description": "F.", "parameters": SHAPE, "url": "http://localhost/f", **setting}
    with pytest.raises(InputError) as raised:
        Function(**settings)
    assert "secretword" not in str(raised.value).lower()


def test_cache_keys_contain_what_determines_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "http://user:one@host/f")
    monkeypatch.setenv("THERE", "http://user:two@host/f?token=three")
    monkeypatch.setenv("ELSEWHERE", "http://host/g")

    def key(**changed: Any) -> str:
        settings = {"name": "f", "description": "F.", "parameters": SHAPE, "url": "http://host/f", **changed}
        return json.dumps(canonical(Function(**settings)), sort_keys=True)

    equal_keys = [
        key(timeout=1),
        key(retries=9),
        key(url="$HERE"),
        key(url="$THERE"),
        key(parameters=json.dumps(SHAPE)),
    ]
    assert set(equal_keys) == {key()}
    assert key(headers={"A": "$ONE"}) == key(headers=[("A", "$TWO")])
    other_keys = [
        key(name="g"),
        key(description="G."),
        key(url="http://host/f/"),
        key(url="$ELSEWHERE"),
        key(version="2"),
    ]
    other_keys += [key(headers={"A": "$ONE"}), key(headers={"B": "$ONE"}), key(parameters={"type": "object"})]
    other_keys += [
        key(url=None, function=echo),
        key(url=None, function=lambda text: 1),
        key(url=None, function=lambda text: 2),
    ]
    other_keys.append(
        key(parameters={**SHAPE, "properties": dict(reversed(SHAPE["properties"].items()))})
    )  # the order is visible to the model
    assert len({key(), *other_keys}) == 1 + len(other_keys)
    with pytest.raises(InputError, match="NOWHERE is not set"):
        key(url="$NOWHERE")


@dataclass(frozen=True)
class Client:
    key: str

    def ask(self, text: str) -> str:
        return text


def with_key(text: str, key: str = "") -> str:
    return text


def bound_by_closure(key: str) -> Callable[..., Any]:
    return lambda text: with_key(text, key)


def bound_by_default(key: str) -> Callable[..., Any]:
    def function(text: str, key: str = key) -> str:
        return text

    return function


def call_itself(text: str) -> str:
    return call(TABLE, "itself", text).text


TABLE: dict[str, Function] = {}
TABLE["itself"] = Function("itself", "F.", SHAPE, call_itself)
TABLE["other"] = Function("other", "F.", SHAPE, lambda text: len(TABLE))


@pytest.mark.parametrize(
    "bound",
    [
        lambda key: functools.partial(with_key, key=key),
        lambda key: functools.partial(functools.partial(with_key), key),
        lambda key: functools.partial(Client(key).ask),
        lambda key: Client(key).ask,
        bound_by_closure,
        bound_by_default,
        lambda key: functools.partial(call, {"g": Function("g", "G.", SHAPE, functools.partial(with_key, key=key))}),
    ],
)
def test_bound_values_are_not_stored(bound: Callable[[str], Callable[..., Any]]) -> None:
    def canonical_json(key: str) -> str:
        function = Function("f", "Says it.", SHAPE, bound(key), version="7")
        assert key not in repr(function)
        return json.dumps(canonical(("around", function)))

    stored = canonical_json("secretword-1")
    assert "secretword" not in stored
    assert stored == canonical_json("secretword-1")
    assert stored != canonical_json("secretword-2"), "the digest depends on bound values"
    assert all(part in stored for part in ('"f"', '"7"', "Says it.", "times")), "public fields are stored"


def test_a_callable_that_reaches_itself_has_a_key() -> None:
    one, other = map(canonical, TABLE.values())
    assert one["function"] != other["function"]
    assert canonical(list(TABLE.values())) == [one, other]


def test_an_unhashable_bound_value_is_an_error() -> None:
    client: Any = threading.Event()
    with pytest.raises(InputError, match="read secrets from an environment variable inside the function"):
        canonical(Function("f", "F.", SHAPE, functools.partial(with_key, key=client)))


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "secretword",
        "http://",
        "ftp://secretword/x",
        "http://[secretword",
        "http://secretword:99999999/x",
        "http://secretword..host/x",
        "http://user:secretword@" + "a" * 64 + "/x",
        "http://\u200b/secretword",
        "http://user:secretword\udcff@host/x",  # bytes that are not UTF-8
        "http://host/secretword\udcff",
        None,
    ],
)
def test_a_server_is_checked_without_a_request(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Function("f", "F.", SHAPE, echo).server() is None
    function = Function("f", "F.", SHAPE, url="$SERVER_URL", headers={"X-Key": "$X_KEY"})
    monkeypatch.setenv("X_KEY", "one")
    monkeypatch.setenv("SERVER_URL", "http://user:word@localhost:1/x?y=z")
    server = function.server()
    assert server is not None
    assert server.url == "http://localhost:1/x"
    if value is None:
        monkeypatch.delenv("SERVER_URL")
    else:
        monkeypatch.setenv("SERVER_URL", value)
    with pytest.raises(InputError) as raised:
        function.server()
    assert "secretword" not in str(raised.value)


def test_functions_are_hashable_values() -> None:
    function = Function("f", "F.", SHAPE, url="http://host/f", headers={"b": "$B", "a": "$A"})
    equal = Function("f", "F.", json.dumps(SHAPE), url="http://host/f", headers=(("a", "$A"), ("b", "$B")))
    assert function == equal == replace(function) == pickle.loads(pickle.dumps(function))
    assert len({function, equal}) == 1
    assert function.schema() == {"name": "f", "description": "F.", "parameters": SHAPE}
    assert code_digest(function) == code_digest(equal)
    assert json.dumps(canonical(function)) == json.dumps(canonical(equal))


# Schemas of callables -------------------------------------------------------------------------------------------------


def forecast(city: str, days: int = 1, unit: Literal["C", "F"] = "C") -> str:
    """Tells the weather.

    Args:
        city: Where.
        days: How many days from now.
        unit: Of the temperature.

    Returns:
        a sentence.
    """
    return f"{city} {days} {unit}"


def without_docstring(city: str) -> str:
    return city


def without_hint(city) -> str:  # type: ignore[no-untyped-def]
    """Tells.

    Args:
        city: Where.
    """
    return str(city)


def with_unknown_hint(city: Mapping[str, Server]) -> str:
    """Tells.

    Args:
        city: Where.
    """
    return str(city)


def positional_only(city: str, /) -> str:
    """Tells.

    Args:
        city: Where.
    """
    return city


def with_var_args(*city: str) -> str:
    """Tells.

    Args:
        city: Where.
    """
    return str(city)


async def coroutine(city: str) -> str:
    """Tells.

    Args:
        city: Where.
    """
    return city


def test_a_schema_from_hints_and_docstring() -> None:
    function = function_from(forecast, version="7")
    assert function.schema() == {
        "name": "forecast",
        "description": "Tells the weather.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Where."},
                "days": {"type": "integer", "description": "How many days from now."},
                "unit": {"type": "string", "enum": ["C", "F"], "description": "Of the temperature."},
            },
            "required": ["city"],
        },
    }
    assert function.version == "7"
    functions = functions_by_name([forecast, Function("f", "F.", SHAPE, echo)])
    assert list(functions) == ["forecast", "f"]
    assert call(functions, "forecast", '{"city": "Oslo", "days": 2.0}').text == '{"error": "", "response": "Oslo 2 C"}'
    with pytest.raises(InputError, match="same name: forecast"):
        functions_by_name([forecast, function])


@pytest.mark.parametrize(
    "function",
    [
        without_docstring,
        without_hint,
        with_unknown_hint,
        positional_only,
        with_var_args,
        coroutine,
        lambda text: text,
        5,
        print,
    ],
)
def test_callables_without_a_schema(function: Any) -> None:
    with pytest.raises(InputError):
        function_from(function)
