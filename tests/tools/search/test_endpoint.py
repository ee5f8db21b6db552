"""Tests of the search client: responses, hostile servers with bounded time and size, and secrets."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.engines.openai_api.test_rate_limits import simulated
from tests.support.api_server import ApiServer
from toolrlef_data.records import InputError
from toolrlef_data.tables.fingerprint import canonical, code_digest
from toolrlef_data.tools.http import Failure, retry
from toolrlef_data.tools.search.endpoint import search_endpoint
from toolrlef_data.tools.tool import ToolInput

HITS = {
    "topk": [{"text": f"T{i} | passage {i}", "rank": i, "score": 9.5 - i, "pid": i, "prob": 0.1} for i in (1, 2, 3)]
}
BIG_SIZE = 60_000_000


class Server(ThreadingHTTPServer):
    """A server that responds by path and records requests; `finished` ends all waiting handlers."""

    daemon_threads = False  # closing joins the handlers
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.finished = threading.Event()
        self.lock = threading.Lock()
        self.in_flight = self.max_in_flight = 0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, address: Any) -> None:
        """Ignore clients that hang up; the tests provoke them."""

    def count(self, path: str) -> int:
        return sum(request_path == path for request_path, _, _ in self.requests)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        with self.server.lock:
            self.server.requests.append((parts.path, query, {k.lower(): v for k, v in self.headers.items()}))
            self.server.in_flight += 1
            self.server.max_in_flight = max(self.server.max_in_flight, self.server.in_flight)
        try:
            RESPONSES[parts.path](self, query)
        finally:
            with self.server.lock:
                self.server.in_flight -= 1

    def respond(self, content: Any, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def respond_late(self, content: Any) -> None:
        self.server.finished.wait(0.1)
        self.respond(content)

    def respond_after_failures(self, status: int, failures: int, path: str, **headers: str) -> None:
        if self.server.count(path) > failures:
            self.respond(HITS)
        else:
            self.respond(b"no", status, **headers)

    def hang_up_once(self, path: str) -> None:
        if self.server.count(path) > 1:
            self.respond(HITS)
        self.close_connection = True

    def drip(self, start: bytes, piece: bytes, pause: float = 0.05, pieces: int = 10_000) -> None:
        self.wfile.write(start)
        for _ in range(pieces):
            if self.server.finished.wait(pause):
                break
            self.wfile.write(piece)
        self.close_connection = True


def one_hit(value: Any) -> dict[str, Any]:
    return {"topk": [{"text": value, "rank": 1, "score": 1.0}]}


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n"
RESPONSES: dict[str, Callable[[Handler, dict[str, str]], None]] = {
    "/search": lambda h, q: h.respond(HITS),
    "/search/": lambda h, q: h.respond(one_hit("with a slash")),
    "/echo": lambda h, q: h.respond(one_hit(q["query"])),
    "/late": lambda h, q: h.respond_late(one_hit(q["query"])),
    "/nan": lambda h, q: h.respond(b'{"topk": [{"text": "a", "rank": 1, "score": NaN}, {"text": "b", "score": -Infinity}]}'),
    "/many": lambda h, q: h.respond({"topk": [{"text": f"t{i}"} for i in range(50_000)]}),
    "/blank": lambda h, q: h.respond({"topk": [{"text": " \n"}, {"text": "b"}]}),
    "/blank_first": lambda h, q: h.respond({"topk": [{"text": t} for t in ("", "a", " \n", "\u3000", "b", "c")]}),
    "/blank_only": lambda h, q: h.respond({"topk": [{"text": " "}] * 9}),
    "/surrogate": lambda h, q: h.respond(b'{"topk": [{"text": "half \\ud83d"}]}'),
    "/words": lambda h, q: h.respond(one_hit("w  " * 1000)),
    "/empty": lambda h, q: h.respond({"topk": []}),
    "/html": lambda h, q: h.respond(b"<html>Welcome to this hotel's network</html>", Content_Type="text/html"),
    "/nothing": lambda h, q: h.respond(b""),
    "/no_content": lambda h, q: h.respond(b"", 204),
    "/binary": lambda h, q: h.respond(bytes(range(256)) * 10),
    "/deep": lambda h, q: h.respond(b"[" * 500_000),
    "/long_number": lambda h, q: h.respond(b'{"topk": ' + b"9" * 50_000 + b"}"),
    "/list": lambda h, q: h.respond([1, 2]),
    "/no_topk": lambda h, q: h.respond({"hits": []}),
    "/topk_is_text": lambda h, q: h.respond({"topk": "abc"}),
    "/topk_is_null": lambda h, q: h.respond({"topk": None}),
    "/hit_is_text": lambda h, q: h.respond({"topk": ["abc"]}),
    "/text_is_number": lambda h, q: h.respond(one_hit(5)),
    "/text_is_null": lambda h, q: h.respond(one_hit(None)),
    "/no_text": lambda h, q: h.respond({"topk": [{"rank": 1}]}),
    "/400": lambda h, q: h.respond(HITS, 400),
    "/401": lambda h, q: h.respond(b"who is there", 401, WWW_Authenticate="Basic"),
    "/404": lambda h, q: h.respond(b"nowhere", 404),
    "/500": lambda h, q: h.respond(b"Traceback", 500),
    "/429": lambda h, q: h.respond(b"slow down", 429),
    "/429_for_an_hour": lambda h, q: h.respond(b"slow down", 429, Retry_After="3600"),
    "/500_once": lambda h, q: h.respond_after_failures(500, 1, "/500_once"),
    "/429_twice": lambda h, q: h.respond_after_failures(429, 2, "/429_twice", Retry_After="0"),
    "/hangs_up_once": lambda h, q: h.hang_up_once("/hangs_up_once"),
    "/to_itself": lambda h, q: h.respond(b"", 302, Location=h.path),
    "/elsewhere": lambda h, q: h.respond(b"", 307, Location=f"http://localhost:{h.server.server_port}/search?query=x&k=2"),
    "/gzip": lambda h, q: h.respond(gzip.compress(json.dumps(HITS).encode()), Content_Encoding="gzip"),
    "/bomb": lambda h, q: h.respond(gzip.compress(b" " * BIG_SIZE), Content_Encoding="gzip"),
    "/huge": lambda h, q: h.respond(b" " * BIG_SIZE),
    "/endless": lambda h, q: h.drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n", 0.0),
    "/silent": lambda h, q: h.drip(b"", b"", 30),
    "/slow_headers": lambda h, q: h.drip(b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "/slow_body": lambda h, q: h.drip(OK + b"\r\n", b" "),
    "/endless_headers": lambda h, q: h.drip(b"HTTP/1.1 200 OK\r\n", b"X: " + b"x" * 60_000, 0.0),
    "/cut_short": lambda h, q: h.drip(OK + b"\r\n", b'{"topk": [', 0.0, 1),
    "/no_http": lambda h, q: h.drip(b"SSH-2.0-OpenSSH_9.7\r\n", b"x", 0.0, 1),
}  # fmt: skip


@pytest.fixture
def server() -> Iterator[Server]:
    threads = threading.active_count()
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.finished.set()
        server.shutdown()
        thread.join()
    assert threading.active_count() == threads, "all threads have ended"


def test_texts_are_in_the_order_of_the_server(server: Server) -> None:
    tool = search_endpoint(f"{server.url}/search", name="Find")
    assert tool.run("figs & plums=ü?").value == ("T1 | passage 1", "T2 | passage 2")
    ((path, query, headers),) = server.requests
    assert (path, query) == ("/search", {"query": "figs & plums=ü?", "k": "2"})
    assert headers["accept-encoding"] == "identity"
    assert not {"authorization", "cookie"} & set(headers)
    assert (tool.name, tool.parameter, tool.is_slow) == ("Find", "query", True)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/search/", ("with a slash",)),  # a different path than /search
        ("/nan", ("a", "b")),  # scores are ignored
        ("/many", ("t0", "t1")),
        ("/blank", ("b",)),
        ("/blank_first", ("a", "b")),  # the first k non-blank texts
        ("/surrogate", ("half \ufffd",)),
        ("/words", (("w  " * 384).rstrip(),)),
        ("/500_once", ("T1 | passage 1", "T2 | passage 2")),
        ("/429_twice", ("T1 | passage 1", "T2 | passage 2")),
        ("/hangs_up_once", ("T1 | passage 1", "T2 | passage 2")),
    ],
)
def test_responses_with_texts(path: str, value: tuple[str, ...], server: Server) -> None:
    assert search_endpoint(server.url + path).run("figs").value == value


@pytest.mark.parametrize(
    ("path", "kind", "detail", "requests"),
    [
        ("/empty", "no_result", "no hits", 1),
        ("/blank_only", "no_result", "no hits", 1),
        ("/html", "http", "not JSON", 1),
        ("/nothing", "http", "not JSON", 1),
        ("/no_content", "http", "status 204", 1),
        ("/binary", "http", "not JSON", 1),
        ("/deep", "http", "not JSON", 1),
        ("/long_number", "http", "not JSON", 1),
        ("/list", "http", "topk", 1),
        ("/no_topk", "http", "topk", 1),
        ("/topk_is_text", "http", "topk", 1),
        ("/topk_is_null", "http", "topk", 1),
        ("/hit_is_text", "http", "text", 1),
        ("/text_is_number", "http", "text", 1),
        ("/text_is_null", "http", "text", 1),
        ("/no_text", "http", "text", 1),
        ("/400", "http", "status 400", 1),
        ("/401", "http", "status 401", 1),
        ("/404", "http", "status 404", 1),
        ("/500", "http", "status 500", 3),
        ("/429", "http", "status 429", 3),
        ("/429_for_an_hour", "http", "status 429", 1),  # longer than the timeout of a query
        ("/to_itself", "http", "status 302; redirects are not followed", 1),
        ("/elsewhere", "http", "status 307; redirects are not followed", 1),
        ("/gzip", "http", "compressed", 1),
        ("/bomb", "http", "compressed", 1),
        ("/huge", "http", "more than 2000000 bytes", 1),
        ("/endless", "http", "more than 2000000 bytes", 1),
        ("/cut_short", "unavailable", "ClientPayloadError", 3),
        ("/no_http", "unavailable", "", 3),
    ],
)
def test_responses_without_texts(path: str, kind: str, detail: str, requests: int, server: Server) -> None:
    result = search_endpoint(server.url + path).run("figs")
    assert (result.value, result.error) == (None, kind)
    assert detail in result.detail
    assert len(server.requests) == requests == server.count(path), "no other server received a request"


@pytest.mark.parametrize("path", ["/silent", "/slow_headers", "/slow_body"])
def test_a_slow_server_cannot_exceed_the_timeout(path: str, server: Server) -> None:
    """The server keeps sending for minutes, so a query without a total timeout would hang here."""
    results = search_endpoint(server.url + path, timeout=0.5).run_many([ToolInput("a"), ToolInput("b")])
    assert [result.error for result in results] == ["timeout", "timeout"]
    assert results[0].detail == "no response within 0.5 s"


def test_endless_headers(server: Server) -> None:
    assert search_endpoint(server.url + "/endless_headers", timeout=2).run("a").error in ("unavailable", "timeout")


def test_an_unreachable_server(server: Server) -> None:
    with ApiServer(start=False) as closed_server:  # reserves the port
        result = search_endpoint(closed_server.url, retries=1).run("figs")
    assert result.error == "unavailable"
    assert "refused" in result.detail


def test_results_are_in_input_order_and_concurrency_is_limited(server: Server) -> None:
    queries = [f"query {i}" for i in range(20)]
    tool = search_endpoint(server.url + "/late", concurrency=4)
    results = tool.run_many([ToolInput(query) for query in queries])
    assert [result.value for result in results] == [(query,) for query in queries]
    assert 2 <= server.max_in_flight <= 4


@pytest.mark.parametrize(("query", "kind"), [("", "empty"), (" \n", "empty"), ("x" * 1_000_000, "too_large")])
def test_invalid_queries_are_not_sent(query: str, kind: str, server: Server) -> None:
    assert search_endpoint(server.url + "/echo").run(query).error == kind
    assert server.requests == []


@pytest.mark.parametrize(
    "query", ["a\x00b", "a\r\nHost: evil", "../../x?k=9#y", "東京 " * 300, "%00%zz&query=b", "a+b"]
)
def test_queries_arrive_unchanged(query: str, server: Server) -> None:
    assert search_endpoint(server.url + "/echo").run(query).value == (query.strip(),)
    assert search_endpoint(server.url + "/echo").run("\ud800").value == ("\ufffd",)
    assert [query["k"] for _, query, _ in server.requests] == ["2", "2"]


def test_one_bad_response_affects_only_its_query(server: Server) -> None:
    contents = iter([b"<html>", HITS, HITS])
    RESPONSES["/mixed"] = lambda handler, query: handler.respond(next(contents))
    results = search_endpoint(server.url + "/mixed", concurrency=1).run_many([ToolInput(q) for q in "abc"])
    assert [result.error for result in results] == ["http", None, None]


def test_inside_a_running_event_loop(server: Server) -> None:
    async def notebook() -> Any:
        return search_endpoint(server.url + "/search", k=1).run("figs")

    assert asyncio.run(notebook()).value == ("T1 | passage 1",)


# Settings and secrets -------------------------------------------------------------------------------------------------


def test_credentials_are_sent_only_to_the_server(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = ["us-er-0123456789", "pass-word-0123456789", "to-ken-0123456789"]
    login, host = f"{secrets[0]}:{secrets[1]}", server.url.removeprefix("http://")
    outputs: list[str] = []
    for path in ("/echo", "/404", "/500", "/to_itself", "/html", "/cut_short", "/gzip", "/no_http"):
        monkeypatch.setenv("SEARCH_URL", f"http://{login}@{host}{path}?token={secrets[2]}&k=99")
        tool = search_endpoint("$SEARCH_URL", retries=0)
        outputs += [tool.version, repr(tool), json.dumps(canonical(tool)), str(tool.run(f"figs {secrets[1]}"))]
    monkeypatch.setenv("SEARCH_URL", f"http://{login}@127.0.0.1:1/x?token={secrets[2]}")
    outputs.append(str(search_endpoint("$SEARCH_URL", retries=0).run("figs")))
    monkeypatch.setenv("SEARCH_URL", f"http://{login}@a..b/x?token={secrets[2]}")
    with pytest.raises(InputError, match="valid host name") as raised:
        search_endpoint("$SEARCH_URL", retries=0).run("figs")
    outputs += [str(raised.value), caplog.text]
    assert all(secret not in text for secret in secrets for text in outputs)
    assert "figs [key]" in outputs[3], "secrets are redacted in responses"
    for _, query, headers in server.requests:
        assert query == {"token": secrets[2], "query": f"figs {secrets[1]}", "k": "2"}
        assert headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secretword@host/x",
        "http://host/x?key=secretword",
        "http://host/#secretword",
        "http://user:secretword@[host/x",
        "ftp://host/secretword",
        "secretword",
        "",
        "$secretword",
        "$",
    ],
)
def test_errors_do_not_repeat_an_invalid_url(url: str) -> None:
    with pytest.raises(InputError) as raised:
        search_endpoint(url)
    assert "secretword" not in str(raised.value)


@pytest.mark.parametrize(
    "setting",
    [{"k": 0}, {"words": 0}, {"timeout": 0}, {"timeout": float("nan")}, {"max_bytes": 0}, {"concurrency": 0}, {"retries": -1}],
)  # fmt: skip
def test_numbers_out_of_range(setting: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(setting))):
        search_endpoint("http://localhost/search", **setting)


def test_the_version_names_the_server_or_the_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(url: str = "http://a/search", **settings: Any) -> str:
        return search_endpoint(url, **settings).version

    variants = [version(), version("http://b/search"), version("http://a/search/"), version(k=3), version(words=9)]
    variants += [version(revision="wiki17"), version(revision="wiki18")]
    assert len(set(variants)) == 7
    assert version(timeout=1, concurrency=2, retries=9, max_bytes=10) == version()
    assert re.fullmatch("endpoint [0-9a-f]{16} k=2 words=384", version()), "the URL is not published"
    with pytest.raises(InputError, match="SEARCH_URL is not set"):
        version("$SEARCH_URL")
    named = version("$SEARCH_URL", revision="wiki17")
    assert named == "endpoint $SEARCH_URL k=2 words=384 revision=wiki17"
    monkeypatch.setenv("SEARCH_URL", "http://a/search")
    first = version("$SEARCH_URL")
    monkeypatch.setenv("SEARCH_URL", "http://user:changed@a/search?token=changed")
    assert version("$SEARCH_URL") == first, "credentials are not part of the version"
    monkeypatch.setenv("SEARCH_URL", "http://b/search")
    assert version("$SEARCH_URL") != first
    assert version("$SEARCH_URL", revision="wiki17") == named


def test_a_variable_is_read_at_run_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCH_URL", "http://127.0.0.1:1/unused")
    fixed, labelled = search_endpoint("$SEARCH_URL"), search_endpoint("$SEARCH_URL", revision="1")
    digest_before = code_digest(labelled)
    monkeypatch.setenv("SEARCH_URL", server.url + "/search")
    assert labelled.run("figs").value == ("T1 | passage 1", "T2 | passage 2")
    with pytest.raises(InputError, match="has changed since the tool was created"):
        fixed.run("figs")
    monkeypatch.delenv("SEARCH_URL")
    with pytest.raises(InputError, match="SEARCH_URL is not set"):
        labelled.run("figs")
    assert code_digest(labelled) == digest_before, "a missing variable does not change the key"


@pytest.mark.parametrize(
    ("waits", "slept"), [((0.0, 0.0), 0.25 + 0.5), ((3.0, 0.0), 3.0 + 0.5), ((0.0, 7.5), 0.25 + 7.5)]
)
def test_a_retry_waits_for_the_backoff_and_at_least_as_long_as_the_server_asks(
    waits: tuple[float, ...], slept: float
) -> None:
    remaining = list(waits)

    async def attempt() -> float:
        if remaining:
            raise Failure("http", "status 503", status=503, is_retryable=True, retry_after=remaining.pop(0))
        return asyncio.get_running_loop().time()

    assert simulated(lambda clock: retry(attempt, 2, max_wait=10.0)) == pytest.approx(slept)
    for max_wait, retries, is_retryable in ((7.0, 2, True), (10.0, 0, True), (10.0, 2, False)):
        attempts: list[int] = []

        async def fail(attempts: list[int] = attempts, is_retryable: bool = is_retryable) -> None:
            attempts.append(1)
            raise Failure("http", "status 503", is_retryable=is_retryable, retry_after=7.0)

        with pytest.raises(Failure):
            simulated(lambda clock, fail=fail, n=retries, wait=max_wait: retry(fail, n, max_wait=wait))  # type: ignore[misc]
        assert len(attempts) == 1


def test_a_body_of_exactly_the_maximum_size_is_read(server: Server) -> None:
    size = len(json.dumps(HITS).encode())
    results = [search_endpoint(server.url + "/search", max_bytes=size + more).run("figs") for more in (0, -1)]
    assert [result.error for result in results] == [None, "http"]


@pytest.mark.parametrize("words", range(1, 9))
def test_no_part_of_a_secret_of_several_words_remains_at_the_end_of_a_passage(
    words: int, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEARCH_URL", f"{server.url}/echo?token=correct%20horse%20battery%20staple")
    tool = search_endpoint("$SEARCH_URL", words=words, revision="1")
    result = tool.run("see correct horse battery staple and figs")
    assert result.value == (" ".join(["see", "[key]", "and", "figs"][:words]),)
