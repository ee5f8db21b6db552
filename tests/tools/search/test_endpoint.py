"""A search server that misbehaves costs one query its time and its bytes, and never more; credentials stay inside."""

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

from tests.support.api_server import ApiServer
from toolrlef_data.records import InputError
from toolrlef_data.tables.fingerprint import canonical, code_digest
from toolrlef_data.tools.search.endpoint import search_endpoint
from toolrlef_data.tools.tool import ToolInput

HITS = {
    "topk": [{"text": f"T{i} | passage {i}", "rank": i, "score": 9.5 - i, "pid": i, "prob": 0.1} for i in (1, 2, 3)]
}
BIG = 60_000_000


class Server(ThreadingHTTPServer):
    """Answers by path; remembers requests; `finished` ends every handler that waits."""

    daemon_threads = False  # so that closing joins them
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.finished = threading.Event()
        self.lock = threading.Lock()
        self.under_way = self.most = 0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, address: Any) -> None:
        """Clients that hang up are what is tested."""

    def count(self, path: str) -> int:
        return sum(asked == path for asked, _, _ in self.asked)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        with self.server.lock:
            self.server.asked.append((parts.path, query, {k.lower(): v for k, v in self.headers.items()}))
            self.server.under_way += 1
            self.server.most = max(self.server.most, self.server.under_way)
        try:
            ANSWERS[parts.path](self, query)
        finally:
            with self.server.lock:
                self.server.under_way -= 1

    def answer(self, content: Any, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def late(self, content: Any) -> None:
        self.server.finished.wait(0.1)
        self.answer(content)

    def after_failures(self, status: int, failures: int, path: str, **headers: str) -> None:
        if self.server.count(path) > failures:
            self.answer(HITS)
        else:
            self.answer(b"no", status, **headers)

    def hang_up_once(self, path: str) -> None:
        if self.server.count(path) > 1:
            self.answer(HITS)
        self.close_connection = True

    def drip(self, start: bytes, piece: bytes, pause: float = 0.05, pieces: int = 10_000) -> None:
        self.wfile.write(start)
        for _ in range(pieces):
            if self.server.finished.wait(pause):
                break
            self.wfile.write(piece)
        self.close_connection = True


def text_of(value: Any) -> dict[str, Any]:
    return {"topk": [{"text": value, "rank": 1, "score": 1.0}]}


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n"
ANSWERS: dict[str, Callable[[Handler, dict[str, str]], None]] = {
    "/search": lambda h, q: h.answer(HITS),
    "/search/": lambda h, q: h.answer(text_of("with a slash")),
    "/echo": lambda h, q: h.answer(text_of(q["query"])),
    "/late": lambda h, q: h.late(text_of(q["query"])),
    "/nan": lambda h, q: h.answer(b'{"topk": [{"text": "a", "rank": 1, "score": NaN}, {"text": "b", "score": -Infinity}]}'),
    "/many": lambda h, q: h.answer({"topk": [{"text": f"t{i}"} for i in range(50_000)]}),
    "/blank": lambda h, q: h.answer({"topk": [{"text": " \n"}, {"text": "b"}]}),
    "/blank_first": lambda h, q: h.answer({"topk": [{"text": t} for t in ("", "a", " \n", "\u3000", "b", "c")]}),
    "/blank_only": lambda h, q: h.answer({"topk": [{"text": " "}] * 9}),
    "/surrogate": lambda h, q: h.answer(b'{"topk": [{"text": "half \\ud83d"}]}'),
    "/words": lambda h, q: h.answer(text_of("w  " * 1000)),
    "/empty": lambda h, q: h.answer({"topk": []}),
    "/html": lambda h, q: h.answer(b"<html>Welcome to this hotel's network</html>", Content_Type="text/html"),
    "/nothing": lambda h, q: h.answer(b""),
    "/no_content": lambda h, q: h.answer(b"", 204),
    "/binary": lambda h, q: h.answer(bytes(range(256)) * 10),
    "/deep": lambda h, q: h.answer(b"[" * 500_000),
    "/long_number": lambda h, q: h.answer(b'{"topk": ' + b"9" * 50_000 + b"}"),
    "/list": lambda h, q: h.answer([1, 2]),
    "/no_topk": lambda h, q: h.answer({"hits": []}),
    "/topk_is_text": lambda h, q: h.answer({"topk": "abc"}),
    "/topk_is_null": lambda h, q: h.answer({"topk": None}),
    "/hit_is_text": lambda h, q: h.answer({"topk": ["abc"]}),
    "/text_is_number": lambda h, q: h.answer(text_of(5)),
    "/text_is_null": lambda h, q: h.answer(text_of(None)),
    "/no_text": lambda h, q: h.answer({"topk": [{"rank": 1}]}),
    "/400": lambda h, q: h.answer(HITS, 400),
    "/401": lambda h, q: h.answer(b"who is there", 401, WWW_Authenticate="Basic"),
    "/404": lambda h, q: h.answer(b"nowhere", 404),
    "/500": lambda h, q: h.answer(b"Traceback", 500),
    "/429": lambda h, q: h.answer(b"slow down", 429),
    "/429_for_an_hour": lambda h, q: h.answer(b"slow down", 429, Retry_After="3600"),
    "/500_once": lambda h, q: h.after_failures(500, 1, "/500_once"),
    "/429_twice": lambda h, q: h.after_failures(429, 2, "/429_twice", Retry_After="0"),
    "/hangs_up_once": lambda h, q: h.hang_up_once("/hangs_up_once"),
    "/to_itself": lambda h, q: h.answer(b"", 302, Location=h.path),
    "/elsewhere": lambda h, q: h.answer(b"", 307, Location=f"http://localhost:{h.server.server_port}/search?query=x&k=2"),
    "/gzip": lambda h, q: h.answer(gzip.compress(json.dumps(HITS).encode()), Content_Encoding="gzip"),
    "/bomb": lambda h, q: h.answer(gzip.compress(b" " * BIG), Content_Encoding="gzip"),
    "/huge": lambda h, q: h.answer(b" " * BIG),
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
    before = threading.active_count()
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.finished.set()
        made.shutdown()
        thread.join()
    assert threading.active_count() == before, "no thread is left"


def test_texts_come_in_the_servers_order(server: Server) -> None:
    tool = search_endpoint(f"{server.url}/search", name="Find")
    assert tool.run("figs & plums=ü?").value == ("T1 | passage 1", "T2 | passage 2")
    ((path, query, headers),) = server.asked
    assert (path, query) == ("/search", {"query": "figs & plums=ü?", "k": "2"})
    assert headers["accept-encoding"] == "identity"
    assert not {"authorization", "cookie"} & set(headers)
    assert (tool.name, tool.parameter, tool.is_slow) == ("Find", "query", True)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/search/", ("with a slash",)),  # another path than /search
        ("/nan", ("a", "b")),  # scores are not read
        ("/many", ("t0", "t1")),
        ("/blank", ("b",)),
        ("/blank_first", ("a", "b")),  # k texts, wherever they stand
        ("/surrogate", ("half ?",)),
        ("/words", (("w  " * 384).rstrip(),)),
        ("/500_once", ("T1 | passage 1", "T2 | passage 2")),
        ("/429_twice", ("T1 | passage 1", "T2 | passage 2")),
        ("/hangs_up_once", ("T1 | passage 1", "T2 | passage 2")),
    ],
)
def test_answers_that_hold_texts(path: str, value: tuple[str, ...], server: Server) -> None:
    assert search_endpoint(server.url + path).run("figs").value == value


@pytest.mark.parametrize(
    ("path", "kind", "detail", "requests"),
    [
        ("/empty", "no_result", "nothing", 1),
        ("/blank_only", "no_result", "nothing", 1),
        ("/html", "http", "no JSON", 1),
        ("/nothing", "http", "no JSON", 1),
        ("/no_content", "http", "status 204", 1),
        ("/binary", "http", "no JSON", 1),
        ("/deep", "http", "no JSON", 1),
        ("/long_number", "http", "no JSON", 1),
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
        ("/429_for_an_hour", "http", "status 429", 1),  # longer than the query may take
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
def test_answers_that_hold_none(path: str, kind: str, detail: str, requests: int, server: Server) -> None:
    result = search_endpoint(server.url + path).run("figs")
    assert (result.value, result.error) == (None, kind)
    assert detail in result.detail
    assert len(server.asked) == requests == server.count(path), "nobody else was asked"


@pytest.mark.parametrize("path", ["/silent", "/slow_headers", "/slow_body"])
def test_a_query_ends_in_time_whatever_drips(path: str, server: Server) -> None:
    """The server drips on for minutes; a query that waited for it would hang here."""
    results = search_endpoint(server.url + path, timeout=0.5).run_many([ToolInput("a"), ToolInput("b")])
    assert [result.error for result in results] == ["timeout", "timeout"]
    assert results[0].detail == "no answer within 0.5 s"


def test_headers_without_end(server: Server) -> None:
    assert search_endpoint(server.url + "/endless_headers", timeout=2).run("a").error in ("unavailable", "timeout")


def test_a_server_that_is_not_there(server: Server) -> None:
    with ApiServer(start=False) as gone:  # it holds the port, so that nobody else can take it
        result = search_endpoint(gone.url, retries=1).run("figs")
    assert result.error == "unavailable"
    assert "refused" in result.detail


def test_results_stand_in_the_order_of_the_inputs_and_few_are_under_way(server: Server) -> None:
    queries = [f"query {i}" for i in range(20)]
    tool = search_endpoint(server.url + "/late", concurrency=4)
    results = tool.run_many([ToolInput(query) for query in queries])
    assert [result.value for result in results] == [(query,) for query in queries]
    assert 2 <= server.most <= 4


@pytest.mark.parametrize(("query", "kind"), [("", "empty"), (" \n", "empty"), ("x" * 1_000_000, "too_large")])
def test_queries_that_are_not_sent(query: str, kind: str, server: Server) -> None:
    assert search_endpoint(server.url + "/echo").run(query).error == kind
    assert server.asked == []


@pytest.mark.parametrize(
    "query", ["a\x00b", "a\r\nHost: evil", "../../x?k=9#y", "東京 " * 300, "%00%zz&query=b", "a+b"]
)
def test_any_query_arrives_as_it_is(query: str, server: Server) -> None:
    assert search_endpoint(server.url + "/echo").run(query).value == (query.strip(),)
    assert search_endpoint(server.url + "/echo").run("\ud800").value == ("?",)
    assert [asked["k"] for _, asked, _ in server.asked] == ["2", "2"]


def test_one_bad_answer_costs_only_itself(server: Server) -> None:
    seen = iter([b"<html>", HITS, HITS])
    ANSWERS["/mixed"] = lambda handler, query: handler.answer(next(seen))
    results = search_endpoint(server.url + "/mixed", concurrency=1).run_many([ToolInput(q) for q in "abc"])
    assert [result.error for result in results] == ["http", None, None]


def test_inside_a_running_loop(server: Server) -> None:
    async def notebook() -> Any:
        return search_endpoint(server.url + "/search", k=1).run("figs")

    assert asyncio.run(notebook()).value == ("T1 | passage 1",)


# Settings and secrets -------------------------------------------------------------------------------------------------


def test_credentials_of_a_variable_go_to_the_server_and_nowhere_else(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = ["us-er-0123456789", "pass-word-0123456789", "to-ken-0123456789"]
    login, host = f"{secrets[0]}:{secrets[1]}", server.url.removeprefix("http://")
    told: list[str] = []
    for path in ("/echo", "/404", "/500", "/to_itself", "/html", "/cut_short", "/gzip", "/no_http"):
        monkeypatch.setenv("SEARCH_URL", f"http://{login}@{host}{path}?token={secrets[2]}&k=99")
        tool = search_endpoint("$SEARCH_URL", retries=0)
        told += [tool.version, repr(tool), json.dumps(canonical(tool)), str(tool.run(f"figs {secrets[1]}"))]
    monkeypatch.setenv("SEARCH_URL", f"http://{login}@127.0.0.1:1/x?token={secrets[2]}")
    told.append(str(search_endpoint("$SEARCH_URL", retries=0).run("figs")))
    monkeypatch.setenv("SEARCH_URL", f"http://{login}@a..b/x?token={secrets[2]}")
    with pytest.raises(InputError, match="no host name") as raised:
        search_endpoint("$SEARCH_URL", retries=0).run("figs")
    told += [str(raised.value), caplog.text]
    assert all(secret not in text for secret in secrets for text in told)
    assert "figs [key]" in told[3], "what a server echoes is cleaned too"
    for _, query, headers in server.asked:
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
def test_urls_that_are_refused_are_not_repeated(url: str) -> None:
    with pytest.raises(InputError) as raised:
        search_endpoint(url)
    assert "secretword" not in str(raised.value)


@pytest.mark.parametrize(
    "wrong",
    [{"k": 0}, {"words": 0}, {"timeout": 0}, {"timeout": float("nan")}, {"max_bytes": 0}, {"concurrency": 0}, {"retries": -1}],
)  # fmt: skip
def test_numbers_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        search_endpoint("http://localhost/search", **wrong)


def test_the_version_names_the_server_or_the_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(url: str = "http://a/search", **settings: Any) -> str:
        return search_endpoint(url, **settings).version

    variants = [version(), version("http://b/search"), version("http://a/search/"), version(k=3), version(words=9)]
    variants += [version(revision="wiki17"), version(revision="wiki18")]
    assert len(set(variants)) == 7
    assert version(timeout=1, concurrency=2, retries=9, max_bytes=10) == version()
    assert re.fullmatch("endpoint [0-9a-f]{16} k=2 words=384", version()), "no address of one's own is published"
    with pytest.raises(InputError, match="SEARCH_URL is not set"):
        version("$SEARCH_URL")
    named = version("$SEARCH_URL", revision="wiki17")
    assert named == "endpoint $SEARCH_URL k=2 words=384 revision=wiki17"
    monkeypatch.setenv("SEARCH_URL", "http://a/search")
    first = version("$SEARCH_URL")
    monkeypatch.setenv("SEARCH_URL", "http://user:changed@a/search?token=changed")
    assert version("$SEARCH_URL") == first, "credentials are no part of it"
    monkeypatch.setenv("SEARCH_URL", "http://b/search")
    assert version("$SEARCH_URL") != first
    assert version("$SEARCH_URL", revision="wiki17") == named


def test_a_variable_is_read_when_the_tool_runs(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCH_URL", "http://127.0.0.1:1/nobody")
    fixed, moving = search_endpoint("$SEARCH_URL"), search_endpoint("$SEARCH_URL", revision="1")
    monkeypatch.setenv("SEARCH_URL", server.url + "/search")
    assert moving.run("figs").value == ("T1 | passage 1", "T2 | passage 2")
    with pytest.raises(InputError, match="another address than when the tool was made"):
        fixed.run("figs")
    monkeypatch.delenv("SEARCH_URL")
    with pytest.raises(InputError, match="SEARCH_URL is not set"):
        moving.run("figs")
    assert code_digest(moving)
