"""The scripted API server: its faults, counts, replies and batches."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel, Field, TypeAdapter

from tests.support.api_replies import schema_value
from tests.support.api_server import (
    ApiServer,
    BatchPlan,
    ReceivedRequest,
    ServerReply,
    completion,
    error,
    html,
    rate_limited,
)
from tests.support.waiting import HANG_TIMEOUT, wait_until

BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "How many boxes?"}], "seed": 1}


def request(body: Any = BODY, path: str = "/v1/chat/completions", headers: str = "") -> bytes:
    """Return a POST request as bytes."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {len(raw)}\r\n\r\n".encode() + raw


@contextmanager
def connect(server: ApiServer) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=HANG_TIMEOUT) as sock:
        yield sock


def read(sock: socket.socket) -> tuple[str, dict[str, str], bytes]:
    """Return a complete HTTP response: status line, headers and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(1)
    first, *rest = data.decode().strip().split("\r\n")
    headers = dict(row.split(": ", 1) for row in rest)
    body = b""
    while len(body) < int(headers["content-length"]):
        body += sock.recv(int(headers["content-length"]) - len(body))
    return first, headers, body


def post(server: ApiServer, body: Any = BODY, path: str = "/v1/chat/completions") -> Any:
    with connect(server) as sock:
        sock.sendall(request(body, path))
        return json.loads(read(sock)[2])


def texts(reply: Any) -> list[str]:
    return [choice["message"]["content"] for choice in reply["choices"]]


def client(server: ApiServer, key: str = "good-key", **settings: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key=key, max_retries=0, **settings)


# Reply, whether the client receives the head, the bytes of the body that it receives, and how the connection ends.
FAULTS = [
    (ServerReply(body="0123456789", drop="before"), False, b"", "closed"),
    (ServerReply(body="0123456789", drop="headers"), True, b"", "closed"),
    (ServerReply(body="0123456789", drop="body"), True, b"01234", "closed"),
    (ServerReply(body="0123456789", drop="stall"), True, b"", "silent"),
    (ServerReply(body="0123456789", drop="stall_body"), True, b"01234", "silent"),
    (ServerReply(body="0123456789", drop="reset"), False, b"", "reset"),
    (ServerReply(body="0123456789", delay=60), False, b"", "silent"),
    (ServerReply(body="0123456789"), True, b"0123456789", "silent"),  # no fault: keep-alive
]


@pytest.mark.parametrize(("reply", "head", "body", "end"), FAULTS, ids=lambda value: str(getattr(value, "drop", "")))
def test_a_fault_sends_exactly_its_bytes(reply: ServerReply, head: bool, body: bytes, end: str) -> None:
    with ApiServer(lambda received, repeats: reply) as server, connect(server) as sock:
        sock.sendall(request())
        data, ended = b"", ""
        while not ended:
            is_complete = end == "silent" and bool(data) == head and data.partition(b"\r\n\r\n")[2] == body
            sock.settimeout(0.2 if is_complete else HANG_TIMEOUT)
            try:
                piece = sock.recv(65536)
                ended = "" if piece else "closed"
                data += piece
            except TimeoutError:
                ended = "silent"
            except ConnectionResetError:
                ended = "reset"
        assert ended == end
        assert bool(data) == head
        assert data.partition(b"\r\n\r\n")[2] == body
        assert b"content-length: 10\r\n" in data or not head
        wait_until(lambda: bool(server.requests))
        assert (server.requests[0].answered is not None) == (body == b"0123456789")
        sock.close()
        wait_until(
            lambda: server.in_flight == 0 and not server.connections
        )  # a stalled request ends when its client closes


@pytest.mark.parametrize("aiohttp", [False, True])
def test_the_openai_client_raises_the_matching_error(aiohttp: bool) -> None:
    cases: list[tuple[ServerReply, type[Exception]]] = [
        (rate_limited(retry_after="2"), openai.RateLimitError),
        (error(429, "insufficient_quota", "You exceeded your current quota."), openai.RateLimitError),
        (error(401, "invalid_api_key", "no"), openai.AuthenticationError),
        (error(404, "model_not_found", "no"), openai.NotFoundError),
        (error(529, None, "odd status"), openai.InternalServerError),
        (html(502), openai.InternalServerError),
        (ServerReply(drop="before"), openai.APIConnectionError),
        (ServerReply(drop="headers"), openai.APIConnectionError),
        (ServerReply(drop="body"), openai.APIConnectionError),
        (ServerReply(drop="reset"), openai.APIConnectionError),
        (ServerReply(drop="stall"), openai.APITimeoutError),
        (ServerReply(drop="stall_body"), openai.APITimeoutError),
        (ServerReply(delay=HANG_TIMEOUT), openai.APITimeoutError),
        (ServerReply(body='{"id": "x", "choi'), json.JSONDecodeError),
    ]

    async def ask(url: str) -> None:
        http = openai.DefaultAioHttpClient() if aiohttp else None
        async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0, http_client=http) as api:
            for number, (_, expected) in enumerate(cases):
                timeout = 0.4 if expected is openai.APITimeoutError else HANG_TIMEOUT
                with pytest.raises(expected):
                    await api.chat.completions.create(**{**BODY, "seed": number}, timeout=timeout)

    with ApiServer(lambda received, repeats: cases[received.body["seed"]][0]) as server:
        asyncio.run(ask(server.url))
        assert len(server.requests) == len(cases)


def test_rate_limit_headers_and_malformed_replies_are_sent_unchanged() -> None:
    scripted = [rate_limited(retry_after="2", x_ratelimit_reset_tokens="6m0s"), html(), ServerReply(body=b"\xff\x00")]
    with ApiServer(lambda received, repeats: scripted[repeats]) as server, connect(server) as sock:
        replies = []
        for _ in scripted:
            sock.sendall(request())
            replies.append(read(sock))
    assert replies[0][0] == "HTTP/1.1 429 Too Many Requests"
    assert (replies[0][1]["retry-after"], replies[0][1]["x-ratelimit-reset-tokens"]) == ("2", "6m0s")
    assert (replies[1][0], replies[1][1]["content-type"]) == ("HTTP/1.1 200 OK", "text/html")
    assert replies[2][2] == b"\xff\x00"


def test_a_normal_reply_depends_only_on_messages_seed_and_sample() -> None:
    with ApiServer() as server:
        first, again = post(server), post(server, {**BODY, "temperature": 0.3})
        others = [
            post(server, {**BODY, "seed": 2}),
            post(server, {**BODY, "messages": [{"role": "user", "content": ""}]}),
        ]
        three = post(server, {**BODY, "n": 3})
        truncated = post(server, {**BODY, "max_completion_tokens": 4})
        surrogate = post(server, {**BODY, "messages": [{"role": "user", "content": "\ud800\0" + "x" * 1_000_000}]})
    assert texts(first) == texts(again) == texts(three)[:1]
    assert first["id"] != again["id"]  # as real servers do
    assert len({*texts(first), *texts(three), *(texts(reply)[0] for reply in others), texts(surrogate)[0]}) == 6
    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    assert first["usage"] == {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}
    assert three["usage"]["completion_tokens"] == 27
    assert (truncated["choices"][0]["finish_reason"], truncated["usage"]["completion_tokens"]) == ("length", 4)
    assert texts(first)[0].startswith(texts(truncated)[0] + " ")


def test_several_prompts_have_the_completions_of_each_prompt() -> None:
    with ApiServer() as server:
        body = {"model": "m", "seed": 1, "n": 2}
        packed = post(server, {**body, "prompt": ["a", "b"]}, "/v1/completions")
        single = [post(server, {**body, "prompt": prompt}, "/v1/completions") for prompt in "ab"]
    assert packed["object"] == "text_completion"
    expected = [choice["text"] for reply in single for choice in reply["choices"]]
    assert [choice["text"] for choice in packed["choices"]] == expected


class Inner(BaseModel):
    unit: str = Field(min_length=12, max_length=12)
    share: float = Field(gt=0, lt=0.1)


class Outer(BaseModel):
    count: int = Field(gt=2, le=4)
    below: int = Field(lt=0)
    names: list[str] = Field(min_length=2)
    inner: Inner  # a $ref
    maybe: int | None  # anyOf
    flag: bool


def test_arguments_of_a_native_tool_call_are_valid() -> None:
    schema = Outer.model_json_schema()
    for number in range(200):
        Outer.model_validate(schema_value(schema, number, schema), strict=True)
    kinds: list[tuple[dict[str, Any], type]] = [
        ({"enum": ["a", "b"]}, str),
        ({"const": 5}, int),
        ({"type": ["string", "null"]}, str),
        ({}, str),
    ]
    for small, kind in kinds:
        assert isinstance(schema_value(small, 7, small), kind)


def test_tools_are_called_natively_unless_tool_choice_is_none() -> None:
    function = {"name": "calculator", "parameters": {"type": "object", "properties": {"input": {"type": "string"}}}}
    tools: Any = [{"type": "function", "function": {**function, "name": name}} for name in ("calculator", "search")]
    named: Any = {"type": "function", "function": {"name": "search"}}
    with ApiServer() as server, client(server) as api:
        create = api.chat.completions.create
        calls = [
            create(**BODY, tools=tools),
            create(**BODY, tools=tools),
            create(**BODY, tools=tools, tool_choice=named),
        ]
        plain = create(**BODY, tools=tools, tool_choice="none")
    tool_calls = [reply.choices[0].message.tool_calls for reply in calls]
    functions = [call[0].function for call in tool_calls if call and call[0].type == "function"]
    assert [f.name for f in functions] == ["calculator", "calculator", "search"]
    assert functions[0].arguments == functions[1].arguments
    assert TypeAdapter(dict[str, str]).validate_json(functions[0].arguments).keys() == {"input"}
    assert (calls[0].choices[0].finish_reason, plain.choices[0].finish_reason) == ("tool_calls", "stop")
    assert plain.choices[0].message.content


def test_completion_returns_all_its_arguments() -> None:
    scripted = completion(None, reasoning="I think", tool_calls=[("f", {"a": 1}), ("g", '{"a": ')], n=2, usage=None)
    with ApiServer(lambda received, repeats: scripted) as server, client(server) as api:
        reply = api.chat.completions.create(**BODY)
    assert reply.usage is None
    assert len(reply.choices) == 2
    message = reply.choices[1].message.model_dump()
    assert (message["content"], message["reasoning_content"]) == (None, "I think")
    assert [call["function"]["arguments"] for call in message["tool_calls"]] == ['{"a": 1}', '{"a": ']


def test_a_revoked_key_is_refused_and_echoed() -> None:
    with ApiServer(keys={"good-key"}) as server:
        with client(server) as api:
            assert api.models.list().data[0].id == "scripted"
            server.keys = set()
            with pytest.raises(openai.AuthenticationError, match="good-key") as raised:
                api.models.list()
        assert raised.value.code == "invalid_api_key"
        assert {received.key for received in server.requests} == {"good-key"}


def test_requests_are_parsed_from_pieces_of_any_size() -> None:
    raw = json.dumps(BODY).encode()
    sizes = (1, 20, len(raw) - 21)
    ends = [0, 1, 21, len(raw)]
    chunks = b"".join(b"%x;a=b\r\n%s\r\n" % (n, raw[a:b]) for n, a, b in zip(sizes, ends, ends[1:], strict=False))
    head = b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    stream = head + chunks + b"0\r\n" + b"x-trailer: 1\r\n" + b"\r\n" + head + chunks + b"0\r\n\r\n" + request()
    with ApiServer() as server:
        for size in (1, 7, len(stream)):  # single bytes, pieces, and three requests in one piece
            server.latency = 0.01 * (size > 7)
            with connect(server) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for start in range(0, len(stream), size):
                    sock.sendall(stream[start : start + size])
                replies = [json.loads(read(sock)[2]) for _ in range(3)]
                assert len({texts(reply)[0] for reply in replies}) == 1
        assert [received.connection for received in server.requests] == [1] * 3 + [2] * 3 + [3] * 3
        assert all(received.body == BODY for received in server.requests)
        assert server.count("boxes") == server.count("boxes", "/chat/completions") == 9


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (request(b"{not json"), 400),
        (request(b"\xff\xfe"), 400),
        (request({**BODY, "stream": True}), 400),
        (request(path="/chat/completions"), 404),  # no /v1 in the path
        (b"GET /v1/files/nothing HTTP/1.1\r\n\r\n", 404),
    ],
)
def test_invalid_requests_are_refused(data: bytes, status: int) -> None:
    # the script adds a header; the status is that of the normal reply
    with ApiServer(lambda received, repeats: ServerReply(headers={"x-a": "1"})) as server, connect(server) as sock:
        sock.sendall(data)
        assert int(read(sock)[0].split()[1]) == status


def test_the_headers_connection_and_expect_are_respected() -> None:
    with ApiServer() as server, connect(server) as sock:
        head, _, body = request(headers="connection: close\r\nexpect: 100-continue\r\n").partition(b"\r\n\r\n")
        sock.sendall(head + b"\r\n\r\n")
        assert sock.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        read(sock)
        assert sock.recv(1) == b""


def test_latency_and_maximum_of_in_flight_requests() -> None:
    async def send(url: str) -> None:
        async with openai.AsyncOpenAI(base_url=url, api_key="k", http_client=openai.DefaultAioHttpClient()) as api:
            await asyncio.gather(*(api.chat.completions.create(**{**BODY, "seed": n}) for n in range(7)))

    with ApiServer(latency=0.1, gather=7) as server:
        asyncio.run(send(server.url))
        assert server.max_in_flight == 7
        assert server.in_flight == 0
        post(server)
        assert server.requests[-1].answered is not None
        assert server.requests[-1].answered - server.requests[-1].time >= 0.1


def test_an_outage_aborts_connections_and_ends_on_the_same_port() -> None:
    with ApiServer(start=False) as server:
        with pytest.raises(ConnectionRefusedError):
            post(server)
        server.start()
        for _ in range(3):
            server.latency = 60
            with connect(server) as sock:
                sock.sendall(request())
                wait_until(lambda: server.in_flight == 1)
                server.stop()
                assert sock.recv(1) == b""  # the in-flight request is aborted
            with pytest.raises(ConnectionRefusedError):
                post(server)
            server.start()
            server.latency = 0
            assert post(server)["choices"]
    assert sum(received.answered is None for received in server.requests) == 3


def test_an_outage_aborts_connections_that_are_being_accepted() -> None:
    with ApiServer() as server:
        for _ in range(50):  # the server stops while it accepts
            with connect(server) as sock:
                server.stop()
                server.start()
                with suppress(ConnectionError):
                    sock.sendall(request())
                    assert sock.recv(1) == b""
    assert server.requests == []


def test_faults_and_outages_reach_the_client_if_a_forked_process_has_the_sockets() -> None:
    duplicates: list[int] = []
    with ApiServer(
        lambda received, repeats: ServerReply(drop="body") if repeats == 0 else ServerReply(delay=60)
    ) as server:
        for drops in (True, False):
            wait_until(lambda: not server.connections)
            with connect(server) as sock:
                wait_until(lambda: len(server.connections) == 1)
                (connection,) = server.connections
                assert server._listener is not None
                for shared in (server._listener, connection.transport.get_extra_info("socket")):
                    duplicates.append(os.dup(shared.fileno()))  # as a fork does
                sock.sendall(request())
                if not drops:
                    wait_until(lambda: server.in_flight == 1)
                    server.stop()
                while sock.recv(65536):
                    pass
        with pytest.raises(ConnectionRefusedError):
            post(server)
    for duplicate in duplicates:
        os.close(duplicate)


def test_repeats_are_counted_across_connections_and_key_orders() -> None:
    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        return error(503, "overloaded", "later") if repeats < 2 else None

    with ApiServer(script) as server:
        bodies = [BODY, dict(reversed(BODY.items())), BODY]
        replies = [post(server, body) for body in bodies] + [post(server, {**BODY, "seed": 2})]
    assert ["error" in reply for reply in replies] == [True, True, False, True]


def test_a_script_may_stop_the_server() -> None:
    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        if repeats == 1:
            server.stop()
        return None

    with ApiServer(script) as server:
        with connect(server) as sock:
            sock.sendall(request())
            read(sock)
            sock.sendall(request())
            assert sock.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            post(server)
        assert [received.answered is None for received in server.requests] == [False, True]


def test_an_error_in_a_script_aborts_the_connection_and_is_raised_at_the_end() -> None:
    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        if repeats == 1:
            raise LookupError("a script with a mistake")
        return None

    def run(latency: float) -> None:
        with ApiServer(script, latency) as server, connect(server) as sock:
            sock.sendall(request() * 2)
            read(sock)
            assert sock.recv(1) == b""

    for latency in (0, 0.05):
        with pytest.raises(LookupError, match="a mistake"):
            run(latency)


def test_the_server_ends_its_thread_and_closes_its_port() -> None:
    threads = threading.active_count()
    with ApiServer() as server:
        post(server)
    assert threading.active_count() == threads
    with pytest.raises(ConnectionRefusedError):
        post(server)


def batch_file(seeds: int, **changes: Any) -> bytes:
    """Return a batch file with the seeds 0, 1, 2, ..."""
    rows: list[dict[str, Any]] = []
    for seed in range(seeds):
        body = {**BODY, "seed": seed}
        rows.append({"custom_id": f"row-{seed}", "method": "POST", "url": "/v1/chat/completions", "body": body})
    rows[-1].update(changes)
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def submit(api: openai.OpenAI, content: bytes) -> str:
    source = api.files.create(file=("in.jsonl", content), purpose="batch")
    batch = api.batches.create(
        input_file_id=source.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"run": "a"}
    )
    assert (batch.status, batch.metadata) == ("validating", {"run": "a"})
    return batch.id


def wait_for_batch(api: openai.OpenAI, name: str) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Wait for the end of a batch, and return it with its output and error rows by custom id, in file order."""
    batch = api.batches.retrieve(name)
    while batch.status in ("validating", "in_progress", "finalizing", "cancelling"):
        batch = api.batches.retrieve(name)
    rows: list[dict[str, Any]] = []
    for source in (batch.output_file_id, batch.error_file_id):
        lines = api.files.content(source).text.splitlines() if source else []
        rows.append({row["custom_id"]: row for row in map(json.loads, lines)})
    return batch, rows[0], rows[1]


def test_an_uploaded_file_can_be_downloaded_unchanged() -> None:
    content = b'\r\n{"a": "\\ud800"}\r\n--\0\xff\r\n'
    with ApiServer() as server, client(server) as api:
        file = api.files.create(file=("in.jsonl", content), purpose="batch")
        assert (file.bytes, file.filename, file.purpose, file.status) == (
            len(content),
            "in.jsonl",
            "batch",
            "processed",
        )
        assert api.files.retrieve(file.id) == file
        assert api.files.content(file.id).content == content


def test_a_batch_has_the_replies_of_direct_requests() -> None:
    with ApiServer() as server, client(server) as api:
        server.batch_polls = 3
        name = submit(api, batch_file(20))
        assert [api.batches.retrieve(name).status for _ in range(4)] == [
            "in_progress",
            "in_progress",
            "finalizing",
            "completed",
        ]
        batch, output, errors = wait_for_batch(api, name)
        assert batch.request_counts.model_dump() == {"completed": 20, "failed": 0, "total": 20}
        assert (errors, batch.error_file_id) == ({}, None)
        assert list(output) != [f"row-{n}" for n in range(20)]  # shuffled
        assert len(server.lines) == 20
        for seed in range(20):
            row = output[f"row-{seed}"]
            assert (row["error"], row["response"]["status_code"]) == (None, 200)
            assert texts(row["response"]["body"]) == texts(post(server, {**BODY, "seed": seed}))


def test_partial_results_are_in_the_files_that_openai_uses() -> None:
    plans = [
        BatchPlan("expired", answered=[0, 2]),
        BatchPlan(errors={1: error(400, "bad", "too long"), 2: {"code": "request_timeout", "message": "late"}}),
        BatchPlan(answered=[3]),  # a server that loses lines
        BatchPlan(failed="The file is too large."),
        BatchPlan(answered=[1]),  # the last two are cancelled below
        BatchPlan(),
    ]
    with ApiServer() as server, client(server) as api:
        server.batch_plan = lambda number, lines: plans[number]
        names = [submit(api, batch_file(4)) for _ in plans]
        assert [api.batches.cancel(name).status for name in names[4:]] == ["cancelling"] * 2
        results = [wait_for_batch(api, name) for name in names]
        with pytest.raises(openai.ConflictError):
            api.batches.cancel(names[0])
    assert [batch.status for batch, _, _ in results] == [
        "expired",
        "completed",
        "completed",
        "failed",
        *["cancelled"] * 2,
    ]
    outcomes = [
        ({*output}, {name: (row["error"] or {}).get("code") for name, row in errors.items()})
        for _, output, errors in results
    ]
    assert outcomes == [
        ({"row-0", "row-2"}, {"row-1": "batch_expired", "row-3": "batch_expired"}),
        ({"row-0", "row-3"}, {"row-1": None, "row-2": "request_timeout"}),
        ({"row-3"}, {}),
        (set(), {}),
        ({"row-1"}, {f"row-{n}": "batch_cancelled" for n in (0, 2, 3)}),
        (set(), {f"row-{n}": "batch_cancelled" for n in range(4)}),
    ]
    assert results[1][2]["row-1"]["response"]["status_code"] == 400
    assert results[3][0].errors.data[0].message == "The file is too large."


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        (b"", "empty_file", None),
        (b"{", "invalid_json_line", 1),
        (b"{}\n", "missing_field", 1),
        (batch_file(2, custom_id="row-0"), "duplicate_custom_id", 2),
        (batch_file(2, url="/v1/completions"), "url_mismatch", 2),
    ],
)
def test_a_batch_file_with_a_mistake_fails_validation(content: bytes, code: str, line: int | None) -> None:
    with ApiServer() as server, client(server) as api:
        batch, _, _ = wait_for_batch(api, submit(api, content))
    assert batch.status == "failed"
    assert (batch.errors.data[0].code, batch.errors.data[0].line) == (code, line)


def test_scripts_apply_to_the_lines_of_a_batch() -> None:
    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        faults = {0: error(500, None, "broken"), 1: ServerReply(drop="reset"), 2: completion("scripted")}
        return (
            faults.get(received.body["seed"]) if isinstance(received.body, dict) and "seed" in received.body else None
        )

    with ApiServer(script) as server, client(server) as api:
        _, output, errors = wait_for_batch(api, submit(api, batch_file(4)))
    assert texts(output["row-2"]["response"]["body"]) == ["scripted"]
    assert {*output} == {"row-2", "row-3"}
    assert (errors["row-0"]["response"]["status_code"], errors["row-1"]["error"]["code"]) == (500, "request_timeout")


def test_batches_are_listed_newest_first_in_pages() -> None:
    with ApiServer() as server, client(server) as api:
        names = [submit(api, batch_file(1)) for _ in range(5)]
        page = api.batches.list(limit=2)
        assert ([batch.id for batch in page.data], page.has_more) == (names[:2:-1], True)
        assert [batch.id for batch in api.batches.list(limit=2)] == names[::-1]  # the client fetches all pages


def test_a_lost_normal_reply_has_taken_effect() -> None:
    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        if received.path != "/v1/batches" or received.method != "POST":
            return None
        return ServerReply(drop="before") if repeats == 0 else ServerReply(body=b"", drop="before")

    with ApiServer(script) as server, client(server) as api:
        for _ in range(2):
            with pytest.raises(openai.APIConnectionError):
                submit_same(api, server)
        assert len(server.batches.jobs) == 1


def submit_same(api: openai.OpenAI, server: ApiServer) -> None:
    """Submit a batch; all calls use the same uploaded file."""
    if not server.batches.files:
        api.files.create(file=("in.jsonl", batch_file(1)), purpose="batch")
    name = next(iter(server.batches.files))
    api.batches.create(input_file_id=name, endpoint="/v1/chat/completions", completion_window="24h")


@pytest.mark.parametrize("fast", [False, True])
def test_the_foreground_server_replies_and_ends_on_a_signal(fast: bool) -> None:
    command = [sys.executable, "-m", "tests.support.api_server", "--port", "0", "--latency", "0.05", *["--fast"] * fast]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as api:
            replies = [api.chat.completions.create(**BODY).choices[0].message.content for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert process.stdout.read().startswith("3 requests on 1 connections, at most 1 in flight")
        assert process.wait(HANG_TIMEOUT) == 0
    assert len(set(replies)) == 1
    assert (replies[0] == "The answer is 48.") == fast
