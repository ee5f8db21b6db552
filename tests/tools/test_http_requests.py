"""Requests to a tool's server: what is sent, and each field of the failure for each kind of response."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from toolrlef_data import InputError
from toolrlef_data.tools.http import Failure, fetch, open_session, server_at

SIZE = 100


class Server(ThreadingHTTPServer):
    """A server that answers /STATUS?n=LENGTH&HEADER=VALUE, and records the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        parts = urlsplit(self.path)
        named = dict(parse_qsl(parts.query))
        size = int(named.pop("n", 3))
        self.send_response(int(parts.path.strip("/")))
        for name, value in {"Content-Length": str(size), **named}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"x" * size)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(url: str, *, times: int = 1, connections: int = 1, **options: Any) -> list[Any]:
    """Return the body or the failure of each of some requests that are sent together."""

    async def all_answers() -> list[Any]:
        async with open_session(server_at(url, "the server"), connections) as session:
            asked = [fetch(session, "GET", url, **{"max_bytes": SIZE, **options}) for _ in range(times)]
            return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(all_answers())


@pytest.mark.parametrize(
    ("path", "options", "failure"),
    [
        ("/200", {}, None),
        ("/200?n=100", {}, None),
        ("/204?n=0", {"accepted": range(200, 300)}, None),
        ("/299", {"accepted": range(200, 300)}, None),
        ("/200?n=101", {}, ("the answer has more than 100 bytes", 0, b"", False, 0.0)),
        ("/200?Content-Encoding=gzip", {}, ("the answer is compressed, which was not asked for", 0, b"", False, 0.0)),
        ("/200?Content-Encoding=Identity", {}, None),
        ("/201", {}, ("status 201", 201, b"", False, 0.0)),
        ("/300", {"accepted": range(200, 300)}, ("status 300; redirects are not followed", 300, b"", False, 0.0)),
        ("/399", {}, ("status 399; redirects are not followed", 399, b"", False, 0.0)),
        ("/400", {"max_error_bytes": 10}, ("status 400", 400, b"xxx", False, 0.0)),
        ("/404?n=99", {"max_error_bytes": 10}, ("status 404", 404, b"x" * 10, False, 0.0)),
        ("/404?Content-Encoding=gzip", {"max_error_bytes": 10}, ("status 404", 404, b"", False, 0.0)),
        ("/408", {}, ("status 408", 408, b"", False, 0.0)),
        ("/428", {}, ("status 428", 428, b"", False, 0.0)),
        ("/429?Retry-After=7", {}, ("status 429", 429, b"", True, 7.0)),
        ("/430", {}, ("status 430", 430, b"", False, 0.0)),
        ("/499", {}, ("status 499", 499, b"", False, 0.0)),
        ("/500", {}, ("status 500", 500, b"", True, 0.0)),
        ("/503?Retry-After=2", {}, ("status 503", 503, b"", True, 2.0)),
        ("/599", {}, ("status 599", 599, b"", True, 0.0)),
    ],
)
def test_each_response_is_a_body_or_a_failure(path: str, options: dict[str, Any], failure: Any, server: Server) -> None:
    (found,) = ask(server.url + path, **options)
    if failure is None:
        assert found in (b"", b"xxx", b"x" * SIZE)
        return
    assert (found.kind, found.detail) == ("http", failure[0])
    assert (found.status, found.body, found.is_retryable, found.retry_after) == failure[1:]


def test_a_server_that_cannot_be_reached_may_be_asked_again() -> None:
    (found,) = ask("http://127.0.0.1:1/x")
    assert (found.kind, found.detail) == ("unavailable", "ClientConnectorError: Connection refused")
    assert (found.status, found.body, found.is_retryable, found.retry_after) == (0, b"", True, 0.0)


def test_a_failure_has_no_status_and_is_final_by_default() -> None:
    failure = Failure("http", "why")
    assert (failure.kind, failure.detail, str(failure)) == ("http", "why", "http: why")
    assert (failure.status, failure.body, failure.is_retryable, failure.retry_after) == (0, b"", False, 0.0)


def test_the_headers_of_a_request_and_the_connections_of_a_session(server: Server) -> None:
    server.headers.clear()
    before = server.connections
    assert ask(server.url + "/200?Set-Cookie=a%3Db", times=6, connections=2) == [b"xxx"] * 6
    assert server.connections - before <= 2
    assert len(server.headers) == 6
    for headers in server.headers:
        assert (headers["accept"], headers["accept-encoding"]) == ("application/json, */*;q=0.5", "identity")
        assert not {"cookie", "authorization"} & headers.keys()


def test_the_settings_of_a_session(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "secretword")
    monkeypatch.setenv("http_proxy", "http://user:word@proxy.example:8080")

    async def look(url: str) -> Any:
        async with open_session(server_at(url, "the server", {"X-Key": "$KEY"}), 3) as session:
            return session.headers["X-Key"], session._default_proxy, session.timeout.total, session.connector.limit  # type: ignore[union-attr]

    assert asyncio.run(look("http://example.com/x")) == ("secretword", "http://user:word@proxy.example:8080", None, 3)
    assert asyncio.run(look(server.url)) == ("secretword", None, None, 3), "this machine needs no proxy"


def test_a_host_name_that_is_none_is_an_input_error() -> None:
    async def send() -> None:
        async with open_session(server_at("http://localhost/x", "the server"), 1) as session:
            await fetch(session, "GET", "http://", max_bytes=SIZE)

    with pytest.raises(InputError, match=r"^the URL has no host name, or an invalid one$"):
        asyncio.run(send())
