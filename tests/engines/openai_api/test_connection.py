"""The connection: hostile bodies stay small, proxies of the environment are used, certificates are checked."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import ssl
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.api_replies import always
from tests.support.api_server import ApiServer, ReceivedRequest, ServerReply, completion, error
from tests.support.raw_server import RawServer
from toolrlef_data.engines.credentials import find_proxy, resolve_address
from toolrlef_data.engines.openai_api.client import Connection
from toolrlef_data.engines.openai_api.engine import OpenAIEngine
from toolrlef_data.engines.openai_api.payloads import max_response_bytes
from toolrlef_data.engines.spec import EngineSpec, Limits, Message, Request
from toolrlef_data.records import AllRequestsRefused, InputError, Reply, ToolrlefError
from toolrlef_data.tools.http import Failure, fetch, open_session, server_at

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"  # as `RawServer` does
REPLY = json.dumps({"choices": [{"message": {"content": "8"}}]}).encode()
MEGABYTE = 1_000_000


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def ask(url: str, count: int = 1, **settings: Any) -> list[Reply]:
    fixed = {"limits": Limits(backoff=0.01), "retries": 1, "timeout": 20.0, "progress": False, "base_url": url}
    requests = [(str(i), Request(messages=(Message("user", f"question {i}"),))) for i in range(count)]
    with OpenAIEngine(EngineSpec("openai_api", "m", **{**fixed, **settings})) as engine:
        replies = dict(chain.from_iterable(engine.generate(requests)))
    return [replies[str(i)] for i in range(count)]


# The size of a response ----------------------------------------------------------------------------------------------


def chunked(parts: Iterable[bytes]) -> Iterator[bytes]:
    yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    for part in parts:
        yield b"%x\r\n%s\r\n" % (len(part), part)


def compressed(encoding: str, body: bytes) -> Iterator[bytes]:
    yield HEAD + f"Content-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


BLOCK = b" " * 65536
BOMB = b'{"choices": "' + b" " * (100 * MEGABYTE) + b'"}'


def deflate_bomb() -> bytes:
    return zlib.compress(BOMB, 9)


# What the server sends -> the error kind. Each is endless, or has 100 MB after decompression.
HOSTILE: dict[str, tuple[Callable[[], Iterable[bytes]], str]] = {
    "a body without end": (lambda: chain([HEAD + b"\r\n"], itertools.repeat(BLOCK)), "too_long"),
    "a body of a gigabyte": (
        lambda: chain([HEAD + b"Content-Length: 1000000000\r\n\r\n"], [BLOCK] * 20000),
        "too_long",
    ),
    "chunks without end": (lambda: chunked(itertools.repeat(BLOCK)), "too_long"),
    "an endless text in JSON": (lambda: chunked(chain([REPLY[:-5]], itertools.repeat(b"8" * 65536))), "too_long"),
    "a gzip bomb": (lambda: compressed("gzip", gzip.compress(BOMB, 9)), "too_long"),
    "a gzip body above the limit before it is decompressed": (
        lambda: compressed("gzip", gzip.compress(b"8" * (2 * MEGABYTE), 0)),
        "too_long",
    ),
    "a deflate bomb": (lambda: compressed("deflate", deflate_bomb()), "too_long"),
    "headers without end": (
        lambda: chain([HEAD], (b"X-%d: %s\r\n" % (i, b"x" * 4000) for i in itertools.count())),
        "connection",
    ),
    "a header without end": (lambda: chain([HEAD + b"X: "], itertools.repeat(b"x" * 65536)), "connection"),
    "a blank header without end": (lambda: chain([HEAD + b"X: "], itertools.repeat(BLOCK)), "timeout"),
    "a status line without end": (lambda: chain([b"HTTP/1.1 200 "], itertools.repeat(BLOCK)), "connection"),
    "a chunk size without end": (
        lambda: chain([HEAD + b"Transfer-Encoding: chunked\r\n\r\n"], itertools.repeat(b"0" * 65536)),
        "timeout",
    ),
    "brotli, which was not asked for": (lambda: compressed("br", b"\x0b\x80abc\x03" * 20), "connection"),
    "two encodings": (lambda: compressed("gzip, gzip", gzip.compress(gzip.compress(REPLY))), "connection"),
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_body_ends_with_an_error_and_little_memory(hostile: str) -> None:
    make, kind = HOSTILE[hostile]
    response = make() if "bomb" not in hostile else list(make())
    with RawServer(lambda head: response if "bomb" in hostile else make()) as server:
        tracemalloc.start()
        (reply,) = ask(server.url, timeout=1.0 if kind == "timeout" else 20.0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (reply.text, reply.error) == (None, kind), reply.error_detail
        assert len(reply.error_detail) < 500
        assert peak < 30 * MEGABYTE
        assert server.num_connections == (1 if kind == "too_long" else 2), "a final error is not sent again"


def test_a_hostile_error_page_keeps_the_kind_of_its_status() -> None:
    head = HEAD.replace(b"200 OK", b"503 Busy") + b"\r\n"
    with RawServer(lambda _: chain([head], itertools.repeat(BLOCK))) as server:
        (reply,) = ask(server.url)
        assert (reply.error, server.num_connections) == ("server", 2)


def test_a_slow_body_ends_at_the_deadline() -> None:
    """Each byte arrives soon after the last one, so that no pause is long."""
    with RawServer(lambda _: chain([HEAD + b"Content-Length: 1000000\r\n\r\n"], slowly())) as server:
        (reply,) = ask(server.url, limits=Limits(deadline=0.5), retries=0)
        assert reply.error == "timeout"
        assert reply.error_detail == "no HTTP response within the deadline of 0.5 s"


def slowly(byte: bytes = b" ") -> Iterator[bytes]:
    import threading

    never = threading.Event()
    while True:
        never.wait(0.02)
        yield byte


FILE = {"id": "file-1", "object": "file", "bytes": 1, "created_at": 1, "filename": "f", "purpose": "batch"}
BATCH = {"id": "batch-1", "object": "batch", "status": "completed", "created_at": 1, "endpoint": "/v1/chat/completions"}
BATCH |= {"completion_window": "24h", "input_file_id": "file-1", "output_file_id": "file-2"}
BATCH_STEPS = {
    "POST /v1/files": FILE,
    "POST /v1/batches": BATCH,
    "GET /v1/batches/batch-1": BATCH,
    "GET /v1/files/file-2/content": {},
}
# Each sends bytes in time, and nothing that a client could return. 200 pieces take 4 s or more.
SLOW: dict[str, Callable[[], Iterable[bytes]]] = {
    "a slow header": lambda: chain([HEAD + b"X: "], islice(slowly(), 200)),
    "a slow body": lambda: chain([HEAD + b"Content-Length: 200\r\n\r\n"], islice(slowly(), 200)),
    "slow events": lambda: islice(chunked(b"data: {}\n\n" for _ in slowly()), 200),
    "a slow chunk size": lambda: chain([HEAD + b"Transfer-Encoding: chunked\r\n\r\n"], islice(slowly(b"0"), 200)),
    "a slow error page": lambda: chain(
        [HEAD.replace(b"200 OK", b"500 X") + b"Content-Length: 200\r\n\r\n"], islice(slowly(), 200)
    ),
}


@pytest.mark.parametrize("step", BATCH_STEPS)
@pytest.mark.parametrize("slow", SLOW)
def test_a_slow_response_of_a_batch_endpoint_ends_in_time(slow: str, step: str) -> None:
    def reply(head: str) -> Iterable[bytes]:
        path = head.partition(" HTTP")[0]
        body = json.dumps(BATCH_STEPS[path]).encode()
        return SLOW[slow]() if path == step else [HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)]

    limits = Limits(mode="batch", poll=0.01, backoff=0.01)
    with RawServer(reply) as server, pytest.raises(ToolrlefError, match=r"no complete HTTP response within 0\.2 s"):
        ask(server.url, limits=limits, timeout=0.2, retries=0)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "GZIP", "identity"])
def test_an_answer_up_to_the_limit_is_read(encoding: str) -> None:
    spec = EngineSpec("openai_api", "m", max_tokens=20_000)
    limit = max_response_bytes(spec, 0, 1)
    text = "8" * (limit - len(REPLY))
    body = REPLY.replace(b"8", text.encode())
    encoders: dict[str, Callable[[bytes], bytes]] = {"identity": bytes, "deflate": zlib.compress}
    encode = encoders.get(encoding, gzip.compress)
    with RawServer(lambda _: compressed(encoding, encode(body))) as server:
        (reply,) = ask(server.url, max_tokens=20_000)
        assert reply.text == text
        assert ask(server.url, max_tokens=1)[0].error == "too_long", "the limit follows max_tokens"


@pytest.mark.parametrize(
    ("settings", "num_sent", "n"),
    [
        ({"max_tokens": 4096}, 0, 1),
        ({}, 0, 64),
        ({"options": {"extra_body": {"max_completion_tokens": 4096}}}, 0, 1),
        ({"options": {"extra_body": {"logprobs": True, "top_logprobs": 20}}}, 0, 1),
        ({"options": {"extra_body": {"prompt_logprobs": 1}}}, 30_000, 1),
        ({}, 3_000_000, 1),  # a server that echoes the prompt
    ],
)
def test_the_limit_follows_what_is_asked_for(settings: dict[str, Any], num_sent: int, n: int) -> None:
    default = max_response_bytes(EngineSpec("openai_api", "m"), 0, 1)
    assert max_response_bytes(EngineSpec("openai_api", "m", **settings), num_sent, n) > default + 500_000


def test_a_byte_order_mark_is_no_part_of_a_body() -> None:
    with RawServer(lambda _: compressed("identity", "\ufeff".encode() + REPLY)) as server:
        assert ask(server.url, retries=0)[0].text == "8"


def test_a_damaged_compressed_body_is_retried() -> None:
    body = gzip.compress(REPLY)
    damaged = [body[:-9], body[:-9] + b"garbage!!", b"\x1f\x8b", b"no gzip"]
    responses = [*map(bytes, damaged), body]
    with RawServer(lambda _: compressed("gzip", responses[min(server.num_connections, 5) - 1])) as server:
        (reply,) = ask(server.url, retries=5)
        assert (reply.text, server.num_connections) == ("8", 5)


# Proxies -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["direct", "batch"])
def test_a_proxy_of_the_environment_is_used(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No name server knows the host: only the proxy reaches it."""
    secret = "proxy-Password-0123456789"

    def echo(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        return completion(f"via {secret}") if received.path.endswith("/completions") else None

    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        with ApiServer(echo) as proxy:
            monkeypatch.setenv(variable, f"http://me:{secret}@127.0.0.1:{proxy.port}")
            (reply,) = ask("http://models.corp.invalid/v1", limits=Limits(mode=mode, poll=0.01, backoff=0.01))
            assert reply.text == "via [key]"
            assert {received.headers["host"] for received in proxy.requests} == {"models.corp.invalid"}
            assert all(r.headers["proxy-authorization"].startswith("Basic ") for r in proxy.requests)
            monkeypatch.delenv(variable)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_only_a_proxy_that_reads_the_request_gets_its_login_in_a_header_of_it(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a tunnel, the header would reach the server."""
    monkeypatch.setenv(f"{scheme}_proxy", "http://me:word@proxy.example.com:3128")
    spec = EngineSpec("openai_api", "m", base_url=f"{scheme}://models.corp.invalid/v1")

    async def sent_headers() -> set[str]:
        connection = Connection(spec, resolve_address(spec), {}, find_proxy(str(spec.base_url)))
        names = {name.lower() for name in connection.client.default_headers}
        await connection.close()
        return names

    assert ("proxy-authorization" in asyncio.run(sent_headers())) == (scheme == "http")


def test_a_tunnel_through_a_proxy_hides_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "key-0123456789abcdef")
    refused = [b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"]
    with RawServer(lambda _: refused) as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:word@127.0.0.1:{proxy.port}")
        (reply,) = ask("https://models.corp.invalid/v1", keys="A", retries=0)
        assert reply.error == "connection"
        assert "models.corp" not in reply.error_detail
    (head,) = proxy.heads
    assert head.startswith("CONNECT models.corp.invalid:443 ")
    assert "Proxy-Authorization: Basic " in head
    assert "key-0123456789abcdef" not in head


@pytest.mark.parametrize("mode", ["direct", "batch"])
def test_a_proxy_is_not_used_for_this_machine(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    limits = Limits(mode=mode, poll=0.01, backoff=0.01)
    with ApiServer() as server:
        for host in ("127.0.0.1", "localhost"):
            (reply,) = ask(server.url.replace("127.0.0.1", host), retries=0, limits=limits)
            assert reply.text


@pytest.mark.parametrize(
    ("url", "no_proxy", "is_used"),
    [
        ("http://api.example.com/v1", "", True),
        ("http://api.example.com/v1", "example.com", False),
        ("http://api.example.com/v1", ".example.com", False),
        ("http://api.example.com/v1", "other.org, api.example.com", False),
        ("http://api.example.com:8000/v1", "api.example.com:8000", False),
        ("http://api.example.com/v1", "*", False),
        ("http://api.example.com/v1", "ample.com", True),
        ("http://10.1.2.3/v1", "10.0.0.0/8", False),
        ("http://11.1.2.3/v1", "10.0.0.0/8,nonsense/99", True),
        ("http://[fd00::1]/v1", "fd00::/8", False),
        ("http://[fd00::1]:8000/v1", "fd00::1", False),
        ("http://[fd00::1]:8000/v1", "[fd00::1]", False),
        ("http://[fd00::1]:8000/v1", "[fd00::1]:8000", False),
        ("http://[fd00::1]:8000/v1", "[fd00::1]:9000", True),
        ("http://[::ffff:10.1.2.3]/v1", "10.0.0.0/8", False),
        ("http://10.1.2.3:8000/v1", "10.1.2.3", False),
        ("http://10.1.2.3:8000/v1", "10.1.2.3:9000", True),
        ("http://api.example.com:8000/v1", "api.example.com:9000", True),
        ("http://api.example.com/v1", "example.com:80", False),  # the port of the scheme
        ("http://api.example.com/v1", "*.example.com", False),
        ("http://API.Example.com./v1", "EXAMPLE.com", False),
        ("http://badexample.com/v1", "*.example.com", True),
        ("http://api.example.com/v1", ",., ,", True),  # empty entries
        ("http://127.0.0.1.example.com/v1", "", True),
        ("http://localhost:8000/v1", "", False),
        ("http://me.localhost:8000/v1", "", False),
        ("http://127.8.8.8/v1", "", False),
        ("http://[::1]:8000/v1", "", False),
        ("http://[::ffff:127.0.0.1]:8000/v1", "", False),
        ("http://localhost.:8000/v1", "", False),
        ("https://api.example.com/v1", "", False),  # only HTTP_PROXY is set
    ],
)
def test_which_hosts_a_proxy_serves(monkeypatch: pytest.MonkeyPatch, url: str, no_proxy: str, is_used: bool) -> None:
    monkeypatch.setenv("http_proxy", "proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    proxy = find_proxy(url)
    assert (proxy is not None) == is_used
    assert proxy is None or proxy.url == "http://proxy.example.com:3128"


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["socks5", "SOCKS5h", "ftp"])
def test_an_unusable_proxy_is_reported_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    monkeypatch.setenv(variable, f"{scheme}://me:CANARY@127.0.0.1:1080")
    remedy = "SOCKS.* NO_PROXY" if scheme != "ftp" else "not a valid http or https URL"
    with pytest.raises(InputError, match=f"{variable} .*{remedy}") as caught:
        ask("http://api.example.com/v1")
    assert "CANARY" not in str(caught.value)
    monkeypatch.setenv("NO_PROXY", "api.example.com")
    assert find_proxy("http://api.example.com/v1") is None


def test_the_variable_in_lower_case_wins_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:3128")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1080")
    proxy = find_proxy("http://api.example.com/v1")
    assert proxy is not None
    assert proxy.url == "http://127.0.0.1:1080"
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(InputError, match=r"^http_proxy names a SOCKS proxy"):
        find_proxy("http://api.example.com/v1")


def test_a_proxy_for_the_scheme_goes_before_a_socks_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:3128")
    proxy = find_proxy("http://api.example.com/v1")
    assert proxy is not None
    assert proxy.url == "http://127.0.0.1:3128"


def test_tools_use_the_proxy_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with ApiServer(lambda received, repeats: ServerReply(200, b"ok")) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:word@127.0.0.1:{proxy.port}")
        assert fetch_once("http://tools.corp.invalid/x") == b"ok"
        assert proxy.requests[0].headers["proxy-authorization"].startswith("Basic ")
    with ApiServer(lambda received, repeats: ServerReply(200, b"direct")) as server:
        assert fetch_once(server.url) == b"direct"


def fetch_once(url: str) -> bytes:
    async def run() -> bytes:
        server = server_at(url, "the tool")
        async with open_session(server, 1) as session:
            return await fetch(session, "GET", server.url, max_bytes=1000)

    return asyncio.run(run())


def test_headers_of_the_user_replace_the_login_in_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOL_TOKEN", "Bearer of-the-tool-0123456789")
    url = "http://me:word@tools.corp.invalid/x/?page=1"
    assert server_at(url, "the tool").headers["Authorization"].startswith("Basic ")
    server = server_at(url, "the tool", {"Authorization": "$TOOL_TOKEN"})
    assert server.headers == {"Authorization": "Bearer of-the-tool-0123456789"}
    assert (server.url, server.query) == ("http://tools.corp.invalid/x/", {"page": "1"})
    assert server.secrets.redact_known("of-the-tool-0123456789") == "[key]"


# Certificates --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority that no machine trusts."""
    return trustme.CA()


@pytest.fixture
def tls_server(authority: trustme.CA) -> Iterator[RawServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with RawServer(lambda _: compressed("identity", REPLY), tls=context) as server:
        yield server


@pytest.mark.parametrize("mode", ["direct", "batch"])
def test_an_untrusted_certificate_stops_the_run(mode: str, tls_server: RawServer) -> None:
    with pytest.raises(ToolrlefError, match=r"certificate of the server is not trusted: unable to get local") as caught:
        ask(tls_server.url, 40, concurrency=4, retries=5, limits=Limits(mode=mode, backoff=0.01))
    assert tls_server.num_connections <= 5
    assert "SSL_CERT_FILE" in str(caught.value)
    assert mode == "batch" or isinstance(caught.value, AllRequestsRefused)


def test_a_trusted_certificate_is_accepted(
    tls_server: RawServer, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    assert ask(tls_server.url)[0].text == "8"


def test_an_untrusted_certificate_of_a_tool_is_a_setup_error(tls_server: RawServer) -> None:
    with pytest.raises(InputError, match="not trusted"):
        fetch_once(tls_server.url)


# Paths ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "reply", "advice"),
    [
        (
            Request(prompt="1+1="),
            ServerReply(404, {"detail": "Not Found"}),
            'no POST /v1/completions: pass style="chat"',
        ),
        (Request(prompt="1+1="), ServerReply(405, b""), 'no POST /v1/completions: pass style="chat"'),
        (Request(messages=(Message("user", "?"),)), ServerReply(404, b"404 page not found"), "check base_url"),
    ],
)
def test_a_server_without_an_endpoint_is_explained(request_: Request, reply: ServerReply, advice: str) -> None:
    with ApiServer(lambda received, repeats: reply) as server:
        spec = EngineSpec("openai_api", "m", base_url=server.url, progress=False)
        with OpenAIEngine(spec) as engine:
            ((_, received),) = chain.from_iterable(engine.generate([("0", request_)]))
        assert advice in received.error_detail


def test_an_unknown_model_is_not_blamed_on_the_path() -> None:
    with ApiServer(lambda received, repeats: error(404, None, "The model `m` does not exist.")) as server:
        assert "check base_url" not in ask(server.url)[0].error_detail


def test_a_failure_of_a_tool_waits_as_long_as_the_server_asks() -> None:
    date = {"date": "Thu, 01 Jan 2026 00:00:00 GMT", "retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}
    for headers, seconds in ((date, 30.0), ({"retry-after": "1.5"}, 1.5), ({"retry-after-ms": "250"}, 0.25), ({}, 0.0)):
        reply = ServerReply(503, b"", headers)
        with ApiServer(always(reply)) as server:
            with pytest.raises(Failure) as caught:
                fetch_once(server.url)
            assert caught.value.retry_after == pytest.approx(seconds)
