"""A call that a model wrote is an observation, whatever its text and whatever the server does; secrets stay inside."""

from __future__ import annotations

import asyncio
import functools
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
from toolrlef_data.engines.credentials import Secrets
from toolrlef_data.records import InputError, MissingExtra, ToolError, UnknownName
from toolrlef_data.tables.fingerprint import canonical, code_digest
from toolrlef_data.tools import http as servers
from toolrlef_data.tools.functions.function import (
    FINISH,
    Function,
    Observation,
    call,
    function_from,
    functions_by_name,
    truncate,
)
from toolrlef_data.tools.tool import executed

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
        "odd": {"type": "STRING"},  # not a type of JSON schema: anything goes
    },
    "required": ["text"],
}


def short(value: Any) -> str:
    """The name of a case."""
    return ascii(value)[:40] if isinstance(value, str) else type(value).__name__


def echo(**given: Any) -> Any:
    return given


def seen_by(function: Callable[..., Any], arguments: str = '{"text": "x"}') -> Observation:
    return call({"f": Function("f", "F.", SHAPE, function)}, "f", arguments)


def echoed(arguments: str) -> Any:
    seen = seen_by(echo, arguments)
    assert seen.code == 0, seen.text
    return json.loads(seen.text)["response"]


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
def test_only_the_whole_name_counts(name: str) -> None:
    seen = call({"f": Function("f", "F.", SHAPE, echo)}, name, '{"text": "x"}')
    assert seen.code == 1
    assert seen.tool_failure is None
    assert json.loads(seen.text)["error"].startswith("there is no function ")
    assert json.loads(seen.text)["error"].endswith("the functions are f, Finish")


def test_a_long_list_of_names_is_cut() -> None:
    many = {f"function_{i}": Function(f"function_{i}", "F.", SHAPE, echo) for i in range(500)}
    assert len(call(many, "none", "{}").text) < 700


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ('{"text": ""}', {"text": ""}),
        (' {"text": "a\\u0000b"}\n', {"text": "a\0b"}),
        ('{"text": "\\ud83d\\ude00"}', {"text": "\U0001f600"}),  # both halves
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
def test_arguments_that_fit(arguments: str, given: dict[str, Any]) -> None:
    assert echoed(arguments) == given


@pytest.mark.parametrize(
    ("arguments", "why"),
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
def test_arguments_that_do_not_fit(arguments: str, why: str) -> None:
    seen = seen_by(echo, arguments)
    assert (seen.code, seen.tool_failure) == (2, None)
    told = json.loads(seen.text)
    assert why in told["error"]
    assert told["response"] == ""


def test_parameters_that_a_schema_leaves_open() -> None:
    shape = {"type": "object", "additionalProperties": True}
    assert call({"f": Function("f", "F.", shape, echo)}, "f", '{"any": 1}').code == 0


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
    seen = call({}, "Finish", json.dumps(arguments))
    assert (seen.code, seen.tool_failure) == (code, None)
    assert bool(json.loads(seen.text)["error"]) == (code == 2)


def test_finish_is_always_the_same() -> None:
    assert list(FINISH) == ["name", "description", "parameters"]
    hidden = {"Finish": Function("f", "F.", SHAPE, echo)}
    assert call(hidden, "Finish", '{"return_type": "give_up_and_restart"}').code == 4


# Callables ------------------------------------------------------------------------------------------------------------


def raising(error: BaseException) -> Callable[..., Any]:
    def function(text: str) -> Any:
        raise error

    return function


def around() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


def deep() -> list[Any]:
    made: list[Any] = []
    for _ in range(100_000):
        made = [made]
    return made


@pytest.mark.parametrize(
    ("value", "response"),
    [
        ("é", "é"),
        (None, None),
        (True, True),
        (0.5, 0.5),
        ([1, {"a": None}], [1, {"a": None}]),
        (("a", "b"), ["a", "b"]),
        ("half \ud83d", "half ?"),
    ],
)
def test_values(value: Any, response: Any) -> None:
    seen = seen_by(lambda text: value)
    assert (seen.code, seen.tool_failure) == (0, None)
    assert json.loads(seen.text) == {"error": "", "response": response}
    assert "\\u00e9" not in seen.text, "no escapes but those of JSON"


@pytest.mark.parametrize(
    "value", [float("nan"), b"x", object(), {1, 2}, {(1, 2): 3}, 10**5000, around(), deep()], ids=short
)
def test_values_that_are_no_json(value: Any) -> None:
    seen = seen_by(lambda text: value)
    assert (seen.code, seen.tool_failure) == (12, "crashed")
    assert json.loads(seen.text)["response"] == ""


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


class Nameless(ToolError):
    def __init__(self) -> None:
        """Without a kind."""


def odd_kind(kind: Any) -> Callable[..., Any]:
    def function(text: str) -> Any:
        raise ToolError(kind, "x")

    return function


@pytest.mark.parametrize(
    ("error", "code", "fault", "told"),
    [
        (ToolError("zero_division", "no value"), 12, None, "zero_division: no value"),
        (ToolError("no_result", "nothing"), 12, None, "no_result: nothing"),
        (ToolError("timeout", "late"), 5, "timeout", "timeout: late"),
        (ToolError("unavailable", "gone"), 12, "unavailable", "unavailable: gone"),
        (KeyError("x" * 999), 12, "crashed", "crashed: KeyError: 'xxx"),
        (RecursionError("deep"), 12, "crashed", "crashed: RecursionError"),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "\udfff"), 12, "crashed", "crashed: UnicodeEncodeError"),
        (Unspeakable(), 12, "crashed", "crashed: Unspeakable"),
        (Nameless(), 12, "crashed", "crashed: Nameless"),
        (ToolError("http", 5), 12, "crashed", "crashed: ToolError: http: 5"),  # type: ignore[arg-type]
        (SystemExit(3), 12, "crashed", "crashed: SystemExit: 3"),  # what a command line's code ends with
        (asyncio.CancelledError(), 12, "crashed", "crashed: CancelledError"),
        (GeneratorExit(), 12, "crashed", "crashed: GeneratorExit"),
        (StopIteration(1), 12, "crashed", "crashed: StopIteration: 1"),
    ],
)
def test_failures(error: BaseException, code: int, fault: str | None, told: str) -> None:
    seen = seen_by(raising(error))
    assert (seen.code, seen.tool_failure) == (code, fault)
    assert told in json.loads(seen.text)["error"]


@pytest.mark.parametrize("kind", ["weird", "", None, ["http"]], ids=str)
def test_a_kind_of_error_that_there_is_not(kind: Any) -> None:
    seen = seen_by(odd_kind(kind))
    assert (seen.code, seen.tool_failure) == (12, "crashed")
    _, failure = executed(odd_kind(kind), "x")
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
def test_a_mistake_of_the_user_is_raised(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised:
        seen_by(raising(error))
    assert raised.value is error


def test_cut() -> None:
    assert truncate("x" * 1024) == "x" * 1024
    assert truncate("x" * 1025) == "x" * 1024 + "..."
    assert seen_by(lambda text: "x" * 1_000_000).text == '{"error": "", "response": "' + "x" * (1024 - 27) + "..."


def test_any_text_gives_an_observation_that_can_be_written() -> None:
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
        seen = call(functions, name, text)
        assert len(seen.text) <= 1024 + 3
        assert len(seen.text.encode()) > 0
        assert seen.code in (0, 1, 2, 3, 4, 12)


# Servers --------------------------------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """Answers by path; remembers requests; `finished` ends every handler that waits."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, Any, dict[str, str]]] = []
        self.finished = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, address: Any) -> None:
        """Clients that hang up are what is tested."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.told = {name.lower(): value for name, value in self.headers.items()}
        path = self.path.partition("?")[0]
        self.server.asked.append((self.path, json.loads(self.body), self.told))
        again = sum(asked.partition("?")[0] == path for asked, _, _ in self.server.asked) > 1
        ANSWERS[path](self, again)

    def answer(self, content: Any, status: int = 200, **headers: str) -> None:
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


ANSWERS: dict[str, Callable[[Handler, bool], None]] = {
    "/json": lambda h, again: h.answer(b'{\n  "degrees": 4,\n  "sky": "gr\\u00e5"\n}'),
    "/text": lambda h, again: h.answer("grå".encode(), Content_Type="text/plain"),
    "/bom": lambda h, again: h.answer(b"\xef\xbb\xbf[1]"),
    "/nan": lambda h, again: h.answer(b'{"a": NaN}'),
    "/deep": lambda h, again: h.answer(b"[" * 500_000),
    "/nested": lambda h, again: h.answer(b"[" * 900 + b"]" * 900),
    "/number": lambda h, again: h.answer(b"9" * 50_000),
    "/twice": lambda h, again: h.answer(b'{"a": 1, "a": 2}'),
    "/surrogate": lambda h, again: h.answer(b'"half \\ud83d"'),
    "/binary": lambda h, again: h.answer(b"\xff\xfe\x00a\x80"),
    "/created": lambda h, again: h.answer({"id": 1}, 201),
    "/nothing": lambda h, again: h.answer(b"", 204),
    "/long": lambda h, again: h.answer(["word"] * 10_000),
    "/echo": lambda h, again: h.answer({"path": h.path, "headers": h.told, "body": json.loads(h.body)}),
    "/echo400": lambda h, again: h.answer({"path": h.path, "headers": h.told}, 400),
    "/400": lambda h, again: h.answer({"detail": "city is misspelt"}, 400),
    "/401": lambda h, again: h.answer(b"who is there", 401, WWW_Authenticate="Basic"),
    "/403": lambda h, again: h.answer(b"", 403),
    "/404": lambda h, again: h.answer(b"no such city", 404),
    "/404_endless": lambda h, again: h.drip(b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n", 0.0),
    "/429": lambda h, again: h.answer(b"slow down", 429),
    "/429_for_an_hour": lambda h, again: h.answer(b"slow down", 429, Retry_After="3600"),
    "/429_once": lambda h, again: h.answer([1]) if again else h.answer(b"", 429, Retry_After="0"),
    "/500": lambda h, again: h.answer(b"Traceback", 500),
    "/501": lambda h, again: h.answer(b"", 501),
    "/503_once": lambda h, again: h.answer([1]) if again else h.answer(b"", 503),
    "/hangs_up_once": lambda h, again: h.answer([1]) if again else h.hang_up(),
    "/silent_once": lambda h, again: h.answer([1]) if again else h.drip(b"", b"", 30),
    "/to_itself": lambda h, again: h.answer(b"", 307, Location=h.path),
    "/elsewhere": lambda h, again: h.answer(b"", 308, Location=f"http://localhost:{h.server.server_port}/json"),
    "/to_a_file": lambda h, again: h.answer(b"", 302, Location="file:///etc/passwd"),
    "/gzip": lambda h, again: h.answer(b"\x1f\x8b", Content_Encoding="gzip"),
    "/huge": lambda h, again: h.answer(b" " * 20_000_000),
    "/endless": lambda h, again: h.drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n", 0.0),
    "/silent": lambda h, again: h.drip(b"", b"", 30),
    "/slow": lambda h, again: h.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b" "),
    "/cut_short": lambda h, again: h.hang_up(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"a"'),
    "/no_http": lambda h, again: h.hang_up(b"SSH-2.0-OpenSSH_9.7\r\n"),
}  # fmt: skip


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(servers, "BACKOFF", 0.001)
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.finished.set()
        made.shutdown()
        thread.join()


def posted(url: str, arguments: str = '{"text": "Oslo"}', **settings: Any) -> Observation:
    return call({"f": Function("f", "F.", SHAPE, url=url, **settings)}, "f", arguments)


@pytest.mark.parametrize(
    ("path", "response", "requests"),
    [
        ("/json", {"degrees": 4, "sky": "grå"}, 1),
        ("/text", "grå", 1),
        ("/bom", [1], 1),
        ("/nan", '{"a": NaN}', 1),  # no JSON, so it is text
        ("/twice", '{"a": 1, "a": 2}', 1),
        ("/surrogate", "half ?", 1),
        ("/binary", "\ufffd\ufffd\0a\ufffd", 1),
        ("/created", {"id": 1}, 1),
        ("/nothing", "", 1),
        ("/429_once", [1], 2),
        ("/503_once", [1], 2),
        ("/hangs_up_once", [1], 2),
        ("/silent_once", [1], 2),
    ],
)
def test_answers_of_a_server(path: str, response: Any, requests: int, server: Server) -> None:
    seen = posted(server.url + path, timeout=2 if path == "/silent_once" else 20)
    assert (seen.code, seen.tool_failure) == (0, None)
    assert json.loads(seen.text) == {"error": "", "response": response}
    assert [(asked, given) for asked, given, _ in server.asked] == [(path, {"text": "Oslo"})] * requests
    assert server.asked[0][2]["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "start"), [("/deep", '"[['), ("/nested", '"[['), ("/number", '"99'), ("/long", '["w')]
)
def test_answers_that_are_cut(path: str, start: str, server: Server) -> None:
    text = posted(server.url + path).text
    assert text.startswith('{"error": "", "response": ' + start)
    assert len(text) == 1024 + 3


@pytest.mark.parametrize(
    ("path", "code", "fault", "error", "response", "requests"),
    [
        ("/400", 12, None, "status 400", {"detail": "city is misspelt"}, 1),
        ("/401", 7, None, "status 401", "who is there", 1),
        ("/403", 7, None, "status 403", "", 1),
        ("/404", 6, None, "status 404", "no such city", 1),
        ("/429", 9, "http", "status 429", "", 2),
        ("/429_for_an_hour", 9, "http", "status 429", "", 1),  # longer than a call may take
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
    path: str, code: int, fault: str | None, error: str, response: Any, requests: int, server: Server
) -> None:
    seen = posted(server.url + path, retries=1)
    assert (seen.code, seen.tool_failure) == (code, fault)
    assert json.loads(seen.text) == {"error": error, "response": response}
    assert [asked for asked, _, _ in server.asked] == [path] * requests, "nobody else was asked"


@pytest.mark.parametrize("path", ["/silent", "/slow"])
def test_a_call_ends_in_time_whatever_drips(path: str, server: Server) -> None:
    """The server drips on until the test ends; a call that waited for it would hang here."""
    seen = posted(server.url + path, timeout=1, retries=1)
    assert seen == ('{"error": "no answer within 1 s", "response": ""}', 5, "timeout")
    assert len(server.asked) == 2


def test_other_failures(server: Server) -> None:
    seen = posted(server.url + "/404_endless")
    assert (seen.code, len(seen.text)) == (6, 1024 + 3)
    assert posted(server.url + "/no_http", retries=0).tool_failure == "unavailable"
    with ApiServer(start=False) as gone:  # it holds the port, so that nobody else can take it
        seen = posted(gone.url, retries=0)
    assert (seen.code, seen.tool_failure) == (12, "unavailable")
    assert "refused" in seen.text


def test_hostile_arguments_reach_a_server_as_they_are(server: Server) -> None:
    text = 'a\r\nHost: evil\0"}{\U0001f600' + "x" * 1_000_000
    posted(server.url + "/json", json.dumps({"text": text, "times": 10**4000, "parts": [[[]]]}))
    ((_, given, headers),) = server.asked
    assert given == {"text": text, "times": 10**4000, "parts": [[[]]]}
    assert "evil" not in headers["host"]


# Settings and secrets -------------------------------------------------------------------------------------------------


def test_secrets_go_to_the_server_and_nowhere_else(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = ["us-er-0123456789", "pass-word-012345", "to-ken-0123456789", 'k"ey/+0', "bea-rer-9876543210"]
    monkeypatch.setenv("X_KEY", secrets[3])
    monkeypatch.setenv("BEARER", f"Bearer {secrets[4]}")
    told: list[str] = []
    host = server.url.removeprefix("http://")
    places = [
        host + path for path in ("/echo", "/echo400", "/404", "/500", "/to_itself", "/cut_short", "/no_http", "/gzip")
    ]
    for place in [*places, "127.0.0.1:1/x"]:
        monkeypatch.setenv("PLACE", f"http://{secrets[0]}:{secrets[1]}@{place}?token={secrets[2]}")
        headers = {"X-Key": "$X_KEY", "X-Other": "$BEARER"}
        function = Function("f", "F.", SHAPE, url="$PLACE", headers=headers, retries=0)
        seen = call({"f": function}, "f", json.dumps({"text": f"say {secrets[1]}"}))
        told += [seen.text, repr(function), json.dumps(canonical(function)), str(pickle.dumps(function))]
        told.append(json.dumps(function.schema()))
    assert all(secret not in text for secret in [*secrets, 'k\\"ey'] for text in [*told, caplog.text])
    assert "say [key]" in told[0], "what a server echoes is cleaned"
    path, given, headers = server.asked[0]
    assert (path, given) == (f"/echo?token={secrets[2]}", {"text": f"say {secrets[1]}"})
    assert headers["x-key"] == secrets[3]
    assert headers["x-other"] == f"Bearer {secrets[4]}"
    assert headers["authorization"].startswith("Basic ")


def test_a_secret_at_the_cut_is_hidden_whole(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "abcdef" * 10
    monkeypatch.setenv("X_KEY", secret)
    for length in range(900, 1000, 7):
        text = posted(server.url + "/echo", json.dumps({"text": "-" * length + secret}), headers={"A": "$X_KEY"}).text
        assert "abcdef" not in text


def echoing(content: str, status: int = 400) -> Callable[[Handler, bool], None]:
    return lambda h, again: h.answer(content.encode(), status)


@pytest.mark.parametrize("shift", range(0, 60, 7))
def test_no_part_of_a_secret_is_left_where_a_refusal_is_cut(
    shift: int, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4096 bytes of keys without blanks become fewer characters than a model is shown: the cut is in sight."""
    key = "Zq7" + "abcdefghijklmnopqrstuvwxyz0123456789A"
    monkeypatch.setenv("X_KEY", f"Bearer {key}")
    for told in (key * 400, key.upper() * 400, f"Bearer {key}" * 200, "é" * 40 + key * 400):
        monkeypatch.setitem(ANSWERS, "/told", echoing("-" * shift + told))
        seen = posted(server.url + "/told", headers={"Authorization": "$X_KEY"})
        assert seen.code == 12
        rest = json.loads(seen.text)["response"].lower().replace("[key]", "").replace(" ", "")
        assert rest.strip("-é") == "", "neither its beginning nor its end"


def test_a_secret_is_hidden_in_text_that_is_no_json(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text is escaped once more than the server wrote it."""
    monkeypatch.setenv("X_KEY", 'zy"xw\\vuts')
    for body in ('wrong key zy"xw\\vuts', 'wrong {"key": "zy\\"xw\\\\vuts"', '{"key": "zy\\"xw\\\\vuts"}'):
        for status in (200, 400):
            monkeypatch.setitem(ANSWERS, "/told", echoing(body, status))
            text = posted(server.url + "/told", headers={"A": "$X_KEY"}).text
            assert "[key]" in text
            assert "xw" not in text


@pytest.mark.parametrize(
    ("text", "secrets", "left"),
    [
        ("-- abcab", ["abcabc"], "-- "),  # not only its last two characters
        ("-- abcabcabcabcabc", ["abcabcabcabc"], "-- [key]"),
        ("-- ABCABC", ["abcabc"], "-- "),
        ("-- user12:pass", ["user12", "user12:password"], "-- "),  # a secret that another begins with
        ("-- abc - abcabc -", ["abcabc"], "-- abc - [key] -"),  # no cut where it is not the end
        ("-- end", ["abcabc"], "-- end"),
        ("", ["abcabc"], ""),
        ("abc", [], "abc"),
    ],
)
def test_a_secret_at_the_end_of_what_was_read(text: str, secrets: list[str], left: str) -> None:
    assert servers.scrub_cut(text, Secrets(secrets)) == left


@pytest.mark.parametrize("value", ["a\r\nHost: evil", "grå", "\x7f"])
def test_values_that_no_header_can_carry(value: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X_KEY", value)
    with pytest.raises(InputError, match="X-Key") as raised:
        posted(server.url + "/json", headers={"X-Key": "$X_KEY"})
    assert value not in str(raised.value)
    monkeypatch.delenv("X_KEY")
    with pytest.raises(InputError, match="X_KEY is not set"):
        posted(server.url + "/json", headers={"X-Key": "$X_KEY"})
    assert server.asked == []


@pytest.mark.parametrize(
    "wrong",
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
def test_settings_that_are_refused(wrong: dict[str, Any]) -> None:
    settings = {"name": "f", "description": "F.", "parameters": SHAPE, "url": "http://localhost/f", **wrong}
    with pytest.raises(InputError) as raised:
        Function(**settings)
    assert "secretword" not in str(raised.value).lower()


def test_a_key_holds_what_determines_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "http://user:one@host/f")
    monkeypatch.setenv("THERE", "http://user:two@host/f?token=three")
    monkeypatch.setenv("ELSEWHERE", "http://host/g")

    def key(**changed: Any) -> str:
        settings = {"name": "f", "description": "F.", "parameters": SHAPE, "url": "http://host/f", **changed}
        return json.dumps(canonical(Function(**settings)), sort_keys=True)

    same = [key(timeout=1), key(retries=9), key(url="$HERE"), key(url="$THERE"), key(parameters=json.dumps(SHAPE))]
    assert set(same) == {key()}
    assert key(headers={"A": "$ONE"}) == key(headers=[("A", "$TWO")])
    other = [key(name="g"), key(description="G."), key(url="http://host/f/"), key(url="$ELSEWHERE"), key(version="2")]
    other += [key(headers={"A": "$ONE"}), key(headers={"B": "$ONE"}), key(parameters={"type": "object"})]
    other += [
        key(url=None, function=echo),
        key(url=None, function=lambda text: 1),
        key(url=None, function=lambda text: 2),
    ]
    other.append(
        key(parameters={**SHAPE, "properties": dict(reversed(SHAPE["properties"].items()))})
    )  # as a model sees it
    assert len({key(), *other}) == 1 + len(other)
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


def itself(text: str) -> str:
    return call(TABLE, "itself", text).text


TABLE: dict[str, Function] = {}
TABLE["itself"] = Function("itself", "F.", SHAPE, itself)
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
def test_what_is_bound_to_a_callable_is_not_written_down(bound: Callable[[str], Callable[..., Any]]) -> None:
    def made(key: str) -> str:
        function = Function("f", "Says it.", SHAPE, bound(key), version="7")
        assert key not in repr(function)
        return json.dumps(canonical(("around", function)))

    written = made("secretword-1")
    assert "secretword" not in written
    assert written == made("secretword-1")
    assert written != made("secretword-2"), "another key is another function"
    assert all(shown in written for shown in ('"f"', '"7"', "Says it.", "times")), "what it is, is told"


def test_a_callable_that_uses_the_table_it_stands_in_has_a_key() -> None:
    one, other = map(canonical, TABLE.values())
    assert one["function"] != other["function"]
    assert canonical(list(TABLE.values())) == [one, other]


def test_who_binds_what_has_no_value_is_told_where_a_key_belongs() -> None:
    client: Any = threading.Event()
    with pytest.raises(InputError, match="an environment variable that the function reads inside"):
        canonical(Function("f", "F.", SHAPE, functools.partial(with_key, key=client)))


@pytest.mark.parametrize(
    "held",
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
        "http://user:secretword\udcff@host/x",  # bytes that are no UTF-8
        "http://host/secretword\udcff",
        None,
    ],
)
def test_all_that_can_be_known_of_a_server_is_known_before_it_is_asked(
    held: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Function("f", "F.", SHAPE, echo).server() is None
    function = Function("f", "F.", SHAPE, url="$PLACE", headers={"X-Key": "$X_KEY"})
    monkeypatch.setenv("X_KEY", "one")
    monkeypatch.setenv("PLACE", "http://user:word@localhost:1/x?y=z")
    server = function.server()
    assert server is not None
    assert server.place == "http://localhost:1/x"
    if held is None:
        monkeypatch.delenv("PLACE")
    else:
        monkeypatch.setenv("PLACE", held)
    with pytest.raises(InputError) as raised:
        function.server()
    assert "secretword" not in str(raised.value)


def test_functions_are_values() -> None:
    function = Function("f", "F.", SHAPE, url="http://host/f", headers={"b": "$B", "a": "$A"})
    again = Function("f", "F.", json.dumps(SHAPE), url="http://host/f", headers=(("a", "$A"), ("b", "$B")))
    assert function == again == replace(function) == pickle.loads(pickle.dumps(function))
    assert len({function, again}) == 1
    assert function.schema() == {"name": "f", "description": "F.", "parameters": SHAPE}
    assert code_digest(function)


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


def no_docstring(city: str) -> str:
    return city


def no_hint(city) -> str:  # type: ignore[no-untyped-def]
    """Tells.

    Args:
        city: Where.
    """
    return str(city)


def unknown_hint(city: Mapping[str, Server]) -> str:
    """Tells.

    Args:
        city: Where.
    """
    return str(city)


def by_place(city: str, /) -> str:
    """Tells.

    Args:
        city: Where.
    """
    return city


def any_number(*city: str) -> str:
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
    with pytest.raises(InputError, match="one name: forecast"):
        functions_by_name([forecast, function])


@pytest.mark.parametrize(
    "function", [no_docstring, no_hint, unknown_hint, by_place, any_number, coroutine, lambda text: text, 5, print]
)
def test_callables_without_a_schema(function: Any) -> None:
    with pytest.raises(InputError):
        function_from(function)
