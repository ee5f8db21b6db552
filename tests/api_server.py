"""A scripted HTTP server on loopback that speaks the OpenAI-compatible API and can misbehave byte by byte.

It covers /v1/models, /v1/chat/completions, /v1/completions, /v1/files and /v1/batches over HTTP/1.1: keep-alive, chunked
request bodies, outages, and every fault of `Answer`. A normal reply is a function of the messages (or the prompt), the
seed and the sample's number, with fresh ids each time, as servers make them. It does not cover: TLS, HTTP/2, streaming,
stop sequences, logprobs, JSON schemas with `pattern`, `format`, `multipleOf` or recursion, reading rights between keys.
It needs SO_REUSEPORT (Linux, macOS).

    with ApiServer(lambda received, seen: error(503, "overloaded", "later") if seen == 0 else None) as server:
        ask(server.url)                     # each body fails once, then gets its normal reply
        assert len(server.requests) == 2

`python -m tests.api_server --port 8123 --latency 0.1 --fast` runs it in the foreground with one pre-rendered answer.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import signal
import socket
import struct
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from math import ceil, floor
from random import Random
from re import search
from types import TracebackType
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

Drop = Literal["before", "headers", "body", "stall", "stall_body", "reset"]
ENDPOINTS = ("/v1/chat/completions", "/v1/completions")
PHRASES = {status.value: status.phrase for status in HTTPStatus}


@dataclass(slots=True)
class Received:
    """One request, or one line of a batch; `answered` is when its last byte was handed out, None where that never was."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    raw: bytes
    time: float
    key: str | None
    connection: int
    query: dict[str, str] = field(default_factory=dict)
    answered: float | None = None


@dataclass(frozen=True)
class Answer:
    """What to send. With `body=None` the normal reply is made, with its effects, and sent in the way given here.

    drop: "before" closes without a byte, "headers" closes after headers that promise the whole body, "body" after half
    of it; "stall" and "stall_body" send as much and then nothing until the client goes; "reset" sends a TCP reset.
    A server that never says a word is a `delay` (seconds, added to the latency) longer than the client waits.
    """

    status: int = 200
    body: bytes | str | dict[str, Any] | list[Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: Drop | None = None

    def rendered(self) -> tuple[bytes, bytes]:
        """Head and body as bytes; `headers` take the place of those that the server would send."""
        body = json.dumps(self.body) if isinstance(self.body, (dict, list)) else self.body or b""
        raw = body.encode() if isinstance(body, str) else body
        lines = {"content-type": "application/json", "content-length": str(len(raw)), "x-request-id": _id("req")}
        lines.update((name.lower(), value) for name, value in self.headers.items())
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"HTTP/1.1 {self.status} {PHRASES.get(self.status, 'Odd')}\r\n{head}\r\n".encode("latin-1"), raw


@dataclass(frozen=True)
class BatchPlan:
    """How a batch ends: "completed", "failed", "expired" or "cancelled".

    answered: indices of the lines that are run, None for all. The others stand in the error file where the batch expired
        or was cancelled, and are lost without a word where it completed.
    errors: {index: an `Answer`, or the `error` object of a line that got no response}, for the error file.
    failed: why validation failed, as a message or as an error object; implies the status "failed".
    """

    status: Literal["completed", "failed", "expired", "cancelled"] = "completed"
    answered: Collection[int] | None = None
    errors: Mapping[int, Answer | dict[str, Any]] = field(default_factory=dict)
    failed: str | dict[str, Any] | None = None


Script = Callable[[Received, int], Answer | None]
Planner = Callable[[int, list[dict[str, Any]]], BatchPlan]


def completion(
    text: str | None,
    *,
    reasoning: str | None = None,
    tool_calls: Sequence[tuple[str, Any]] = (),
    finish_reason: str | None = None,
    n: int = 1,
    usage: tuple[int, int] | None = (8, 4),
    chat: bool = True,
    reasoning_field: str = "reasoning_content",
) -> Answer:
    """A reply of `n` equal choices; tool calls are (name, arguments), where a string goes out as it is, broken or not."""
    choices: list[dict[str, Any]] = []
    for index in range(n):
        end = finish_reason or ("tool_calls" if tool_calls else "stop")
        choices.append({"index": index, "finish_reason": end, "logprobs": None})
        if not chat:
            choices[-1]["text"] = text
            continue
        message = choices[-1]["message"] = {"role": "assistant", "content": text, "refusal": None}
        if reasoning is not None:
            message[reasoning_field] = reasoning
        if tool_calls:
            functions = [{"name": a, "arguments": b if isinstance(b, str) else json.dumps(b)} for a, b in tool_calls]
            message["tool_calls"] = [{"id": _id("call"), "type": "function", "function": f} for f in functions]
    kind = ("chat.completion", "chatcmpl") if chat else ("text_completion", "cmpl")
    body = {"id": _id(kind[1]), "object": kind[0], "created": _now(), "model": "scripted", "choices": choices}
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return Answer(body=body)


def error(status: int, code: str | None, message: str, type: str = "invalid_request_error") -> Answer:
    """An error body as OpenAI sends it."""
    return Answer(status, {"error": {"message": message, "type": type, "param": None, "code": code}})


def html(status: int = 200) -> Answer:
    """The page of a proxy where JSON was expected."""
    page = "<html><head><title>Welcome</title></head><body>Please wait.</body></html>"
    return Answer(status, page, {"content-type": "text/html"})


def rate_limited(**headers: str) -> Answer:
    """A 429 with these headers: `rate_limited(retry_after="2", x_ratelimit_reset_requests="1s")`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    limited = error(429, "rate_limit_exceeded", "Rate limit reached. Please try again later.", "requests")
    return replace(limited, headers=named)


def generated(body: Any, chat: bool) -> Answer:
    """The normal reply: texts of nine words, or a call of the first tool (or of the one that `tool_choice` names)."""
    asked = body.get("messages" if chat else "prompt") if isinstance(body, dict) else None
    if not asked or body.get("stream"):
        return error(400, None, "This server needs a JSON body with messages (or a prompt), and does not stream.")
    several = not chat and isinstance(asked, list) and isinstance(asked[0], (str, list))
    tools, choice = body.get("tools") or [], body.get("tool_choice")
    if isinstance(choice, dict):
        tools = [tool for tool in tools if tool["function"]["name"] == choice["function"]["name"]]
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or 16384
    choices: list[dict[str, Any]] = []
    spent = 0
    for prompt in asked if several else [asked]:
        for sample in range(body.get("n") or 1):
            digest = hashlib.sha256(_canonical([prompt, body.get("seed"), sample])).hexdigest()
            words = ["reply", *(digest[at : at + 4] for at in range(0, 32, 4))]
            one = completion(" ".join(words[:limit]), finish_reason="length" if limit < len(words) else None, chat=chat)
            spent += min(limit, len(words))
            if tools and choice != "none":
                function = tools[0]["function"]
                schema = function.get("parameters") or {}
                one = completion(None, tool_calls=[(function["name"], fitting(schema, int(digest, 16), schema))])
            assert isinstance(one.body, dict)
            choices.append({**one.body["choices"][0], "index": len(choices)})
    counted = [message.get("content") for message in asked] if chat else asked
    whole = completion("", usage=(_words(counted), spent), chat=chat).body
    assert isinstance(whole, dict)
    return Answer(body={**whole, "model": body.get("model"), "choices": choices})


def fitting(schema: dict[str, Any], number: int, root: dict[str, Any]) -> Any:
    """A value that the JSON schema allows, chosen by `number`: required properties only, all where none is required."""
    if "$ref" in schema:
        target: Any = root
        for name in schema["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        return fitting(target, number, root)
    if "const" in schema or "enum" in schema:
        values = schema.get("enum") or [schema["const"]]
        return values[number % len(values)]
    for options in (schema.get("anyOf"), schema.get("oneOf"), schema.get("allOf")):
        if options:
            return fitting(options[0], number, root)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        parts = schema.get("properties", {})
        return {name: fitting(parts[name], number, root) for name in schema.get("required") or parts}
    if kind == "array":
        items = range(max(1, schema.get("minItems", 1)))
        return [fitting(schema.get("items", {}), number + item, root) for item in items]
    if kind in ("integer", "number"):
        return _between(schema, number % 97, kind == "integer")
    if kind == "string":
        width = max(8, schema.get("minLength", 0))
        return format(number, "064x").ljust(width, "x")[:width][: schema.get("maxLength")]
    return bool(number % 2) if kind == "boolean" else None


def _between(schema: dict[str, Any], step: int, whole: bool) -> Any:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if not whole and low is not None and high is not None:
        return (low + high) / 2
    first = None if low is None else ceil(low) if "minimum" in schema else floor(low) + 1
    last = None if high is None else floor(high) if "maximum" in schema else ceil(high) - 1
    first = first if first is not None else last - 96 if last is not None else 0
    return first + step % (97 if last is None else last - first + 1)


def _id(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex}"


def _now() -> int:
    return int(time.time())


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()  # ASCII only, so that a lone surrogate passes


def _words(value: Any) -> int:
    if isinstance(value, str):
        return len(value.split())
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(_words(part) for part in inner)


@dataclass
class _Job:
    shown: dict[str, Any]
    lines: list[dict[str, Any]]
    plan: BatchPlan
    number: int
    polls: int = 0


class Batches:
    """Files and batches in memory. Both a look at a batch and a list that shows it bring it one step on."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.files: dict[str, tuple[dict[str, Any], bytes]] = {}
        self.jobs: dict[str, _Job] = {}

    def add_file(self, name: str, purpose: str, content: bytes) -> dict[str, Any]:
        """Keep a file and return its object."""
        shown = {"object": "file", "bytes": len(content), "created_at": _now(), "filename": name}
        shown |= {"id": (key := _id("file")), "purpose": purpose, "status": "processed"}
        self.files[key] = (shown, content)
        return shown

    def upload(self, received: Received) -> Answer:
        """POST /v1/files."""
        boundary = search(r'boundary="?([^";]+)', received.headers.get("content-type", ""))
        fields: dict[str, tuple[str, bytes]] = {}
        cut = b"\r\n--" + boundary[1].encode() if boundary else b"\0"
        for part in (b"\r\n" + received.raw).split(cut)[1:-1]:
            head, _, content = part.partition(b"\r\n\r\n")
            name, filename = (search(rb"[ ;]" + word + rb'="([^"]*)"', head) for word in (b"name", b"filename"))
            fields[name[1].decode() if name else ""] = (filename[1].decode() if filename else "", content)
        if "file" not in fields or "purpose" not in fields:
            return error(400, None, f"A file and its purpose are needed, found {sorted(fields)}.")
        return Answer(body=self.add_file(fields["file"][0], fields["purpose"][1].decode(), fields["file"][1]))

    def create(self, received: Received) -> Answer:
        """POST /v1/batches."""
        body = received.body if isinstance(received.body, dict) else {}
        source, endpoint = self.files.get(body.get("input_file_id", "")), body.get("endpoint")
        if source is None or endpoint not in ENDPOINTS or body.get("completion_window") != "24h":
            return error(400, "invalid_value", "A known input_file_id, an endpoint and the window 24h are needed.")
        number = len(self.jobs)
        lines, wrong = _batch_lines(source[1], endpoint)
        plan = BatchPlan(failed=wrong) if wrong else self.server.batch_plan(number, lines)
        plan = replace(plan, status="failed") if plan.failed else plan
        shown = {name: body[name] for name in ("input_file_id", "endpoint", "completion_window")}
        shown |= {"id": _id("batch"), "object": "batch", "status": "validating", "created_at": _now()}
        shown |= {"metadata": body.get("metadata"), "expires_at": _now() + 86400, "errors": None}
        shown |= {"output_file_id": None, "error_file_id": None}
        shown["request_counts"] = {"total": len(lines), "completed": 0, "failed": 0}
        self.jobs[shown["id"]] = _Job(shown, lines, plan, number)
        return Answer(body={**shown})

    def listed(self, query: Mapping[str, str]) -> Answer:
        """GET /v1/batches: newest first."""
        names = list(reversed(self.jobs))
        names = names[names.index(query["after"]) + 1 :] if query.get("after") in names else names
        page = names[: int(query.get("limit", 20))]
        shown = [self.look(self.jobs[name]) for name in page]
        ends = {"first_id": page[0] if page else None, "last_id": page[-1] if page else None}
        return Answer(body={"object": "list", "data": shown, **ends, "has_more": len(page) < len(names)})

    def look(self, job: _Job) -> dict[str, Any]:
        """The batch as it is shown now, one step further."""
        shown, polls = job.shown, self.server.batch_polls
        if shown["status"] == "cancelling":
            self.end(job, "cancelled")
        elif shown["status"] in ("validating", "in_progress", "finalizing"):
            if job.polls >= polls:
                self.end(job, job.plan.status)
            elif job.plan.status != "failed":
                shown["status"] = "finalizing" if job.polls + 1 == polls > 1 else "in_progress"
                shown.setdefault(f"{shown['status']}_at", _now())
            job.polls += 1
        return {**shown}

    def cancel(self, job: _Job) -> Answer:
        """POST /v1/batches/ID/cancel: at the next look it is cancelled, and only lines that its plan names were run."""
        if job.shown["status"] not in ("validating", "in_progress", "finalizing"):
            return error(409, None, f"Cannot cancel a batch with status '{job.shown['status']}'.")
        job.plan = replace(job.plan, answered=job.plan.answered or ())
        job.shown |= {"status": "cancelling", "cancelling_at": _now()}
        return Answer(body={**job.shown})

    def end(self, job: _Job, status: str) -> None:
        """Run the lines that the plan runs, and write the files in an order of their own."""
        shown, plan = job.shown, job.plan
        shown |= {"status": status, f"{status}_at": _now()}
        if status == "failed":
            reason = plan.failed if isinstance(plan.failed, dict) else {"code": "batch_failed", "message": plan.failed}
            shown["errors"] = {"object": "list", "data": [{"line": None, "param": None, **reason}]}
            return
        output: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for index, line in enumerate(job.lines):
            result: Answer | dict[str, Any] | None = plan.errors.get(index)
            if result is None and (plan.answered is None or index in plan.answered):
                result = self.server.run_line(line)
            elif result is None and status != "completed":
                result = {"code": f"batch_{status}", "message": f"This request was not executed: the batch {status}."}
            row = {"id": _id("batch_req"), "custom_id": line["custom_id"], "response": None, "error": None}
            if isinstance(result, Answer):
                row["response"] = {"status_code": result.status, "request_id": _id("req"), "body": result.body}
            elif result is not None:
                row["error"] = result
            if result is not None:
                (output if isinstance(result, Answer) and result.status == 200 else failed).append(row)
        for rows, name in ((output, "output"), (failed, "error")):
            if rows:
                Random(job.number).shuffle(rows)
                content = "".join(json.dumps(row) + "\n" for row in rows).encode()
                shown[f"{name}_file_id"] = self.add_file(f"{shown['id']}_{name}.jsonl", "batch_output", content)["id"]
        shown["request_counts"] = {"total": len(job.lines), "completed": len(output), "failed": len(failed)}


def _batch_lines(content: bytes, endpoint: str) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The lines of a batch's input, and what is wrong with the first bad one, in OpenAI's codes where they are known."""
    lines: list[dict[str, Any]] = []
    names: set[str] = set()
    for number, raw in enumerate(content.splitlines(), 1):
        try:
            line = json.loads(raw)
        except ValueError:
            return lines, {"code": "invalid_json_line", "line": number, "message": "This line is not JSON."}
        if not isinstance(line, dict) or not {"custom_id", "method", "url", "body"} <= line.keys():
            return lines, {"code": "missing_field", "line": number, "message": f"Found only {list(line)}."}
        if line["url"] != endpoint or line["method"] != "POST":
            return lines, {"code": "url_mismatch", "line": number, "message": f"The batch is for POST {endpoint}."}
        if line["custom_id"] in names:
            return lines, {"code": "duplicate_custom_id", "line": number, "message": f"Again {line['custom_id']}."}
        names.add(line["custom_id"])
        lines.append(line)
    return lines, None if lines else {"code": "empty_file", "message": "The file is empty."}


class Connection(asyncio.Protocol):
    """One connection: requests are read, answered and counted one after the other."""

    transport: asyncio.Transport

    def __init__(self, server: ApiServer, outages: int) -> None:
        self.server = server
        self.outages = outages
        self.buffer = bytearray()
        self.head: tuple[str, str, dict[str, str]] | None = None
        self.chunks = bytearray()
        self.timer: asyncio.TimerHandle | None = None
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a number."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.connected += 1
        self.number = self.server.connected
        self.server.connections.add(self)
        if self.outages != self.server.outages:  # accepted just before the server stopped
            transport.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Give up what was under way."""
        if self.timer is not None:
            self.timer.cancel()
        self.ended()
        self.server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Collect bytes until a request is whole."""
        self.buffer += data
        self.advance()

    def advance(self) -> None:
        """Start on every whole request that waits, as soon as the one before it is answered."""
        while not self.busy and not self.transport.is_closing():
            try:
                if self.head is None and not self.read_head():
                    return
                raw = self.read_body()
            except (ValueError, IndexError):
                self.transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                self.transport.close()
                return
            if raw is None or self.head is None:
                return
            head, self.head = self.head, None
            self.begin(*head, raw)

    def read_head(self) -> bool:
        """Whether the head is whole; IndexError or ValueError where it is no HTTP."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > 65536:
                raise ValueError("a head of more than 64 KiB")
            return False
        first, *lines = self.buffer[:end].decode("latin-1").split("\r\n")
        del self.buffer[: end + 4]
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.head = (method, target, headers)
        if headers.get("expect", "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def read_body(self) -> bytes | None:
        """The body once it is whole: of a given length, or in chunks."""
        assert self.head is not None
        headers = self.head[2]
        if headers.get("transfer-encoding", "").lower() != "chunked":
            length = int(headers.get("content-length", "0"))
            if len(self.buffer) < length:
                return None
            raw = bytes(self.buffer[:length])
            del self.buffer[:length]
            return raw
        while (end := self.buffer.find(b"\r\n")) >= 0:
            size = int(self.buffer[:end].split(b";")[0], 16)
            if size == 0:
                last = self.buffer.find(b"\r\n\r\n", end)  # trailers, if any, stand between
                if last < 0:
                    return None
                del self.buffer[: last + 4]
                raw, self.chunks = bytes(self.chunks), bytearray()
                return raw
            if len(self.buffer) < end + size + 4:
                return None
            self.chunks += self.buffer[end + 2 : end + 2 + size]
            del self.buffer[: end + size + 4]
        return None

    def begin(self, method: str, target: str, headers: dict[str, str], raw: bytes) -> None:
        """Count the request, choose its answer, and send it after the latency."""
        server = self.server
        self.busy = True
        server.in_flight += 1
        server.in_flight_max = max(server.in_flight_max, server.in_flight)
        server.served += 1
        loop = asyncio.get_running_loop()
        if server.fast is not None:
            self.timer = loop.call_later(server.latency, self.send, server.fast)
            return
        url = urlsplit(target)
        received = Received(method, url.path, headers, None, raw, time.monotonic(), None, self.number)
        received.query = dict(parse_qsl(url.query))
        scheme, _, key = headers.get("authorization", "").partition(" ")
        received.key = key if scheme.lower() == "bearer" else None
        try:
            received.body = json.loads(raw)
        except ValueError:
            received.body = None
        server.requests.append(received)
        try:
            answer = server.choose(received, server.reply)
            head, body = answer.rendered()
        except BaseException:
            self.transport.abort()
            raise
        delay = server.latency + answer.delay
        if delay > 0:
            self.timer = loop.call_later(delay, self.finish, received, answer, head, body)
        else:
            self.finish(received, answer, head, body)

    def finish(self, received: Received, answer: Answer, head: bytes, body: bytes) -> None:
        """Send the answer, or as much of it as its fault lets through."""
        if self.transport.is_closing():
            return
        if answer.drop == "reset":
            self.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            self.transport.abort()
            return
        if answer.drop in ("headers", "stall"):
            self.transport.write(head)
        elif answer.drop in ("body", "stall_body"):
            self.transport.write(head + body[: len(body) // 2])
        elif answer.drop is None:
            received.answered = time.monotonic()
            last = "close" in (received.headers.get("connection", ""), answer.headers.get("connection", ""))
            self.send(head + body, last)
        if answer.drop in ("before", "headers", "body"):
            self.transport.write_eof()  # a close alone does nothing where a forked process holds the socket
            self.transport.close()

    def send(self, answer: bytes, last: bool = False) -> None:
        """Write a whole answer and go on with the next request."""
        self.ended()
        self.transport.write(answer)
        if last:
            self.transport.close()
        elif self.buffer:
            self.advance()

    def ended(self) -> None:
        """The request is no longer under way."""
        self.server.in_flight -= self.busy
        self.busy = False


class ApiServer:
    """The server in a thread of its own, used as a context manager; an error in a script is raised at its end.

    Args:
        answer: called in the server's thread with a request and how often its path and body came before; it sees uploads
            and polls as well. It may call `stop()`. None is the normal reply.
        latency: seconds from a whole request to its answer.
        keys: those that are let in, None for all; may be changed while it runs.
        start: False leaves the port closed (connections are refused) until `start()`.
        port: 0 takes a free one.
        fast: record nothing and send one pre-rendered answer.
    """

    def __init__(
        self,
        answer: Script | None = None,
        latency: float = 0.0,
        keys: Collection[str] | None = None,
        *,
        start: bool = True,
        port: int = 0,
        fast: bool = False,
    ) -> None:
        self.answer, self.latency, self.keys = answer, latency, keys
        self.requests: list[Received] = []
        self.lines: list[Received] = []
        self.batch_polls = 2
        self.batch_plan: Planner = lambda number, lines: BatchPlan()
        self.batches = Batches(self)
        self.connections: set[Connection] = set()
        self.outages = self.connected = self.served = self.in_flight = self.in_flight_max = 0
        self.fast = b"".join(completion("The answer is 48.").rendered()) if fast else None
        self.failures: list[BaseException] = []
        self._seen: Counter[bytes] = Counter()
        self._start_now = start
        self._listener: socket.socket | None = None
        self._accepting: set[asyncio.Task[Any]] = set()
        self._holder = self._bound(port)  # bound but not listening: keeps the port through outages
        self.port: int = self._holder.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._failed)
        self._thread = threading.Thread(target=self._loop.run_forever, name="api-server", daemon=True)

    @staticmethod
    def _bound(port: int) -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", port))
        return made

    def _failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.failures.append(context.get("exception") or RuntimeError(context["message"]))

    def __enter__(self) -> ApiServer:
        self._thread.start()
        if self._start_now:
            self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._holder.close()
        if kind is None and self.failures:
            raise self.failures[0]

    def start(self) -> None:
        """Listen, on the same port as before."""
        if self._listener is None:
            self._listener = self._bound(self.port)
            self._listener.setblocking(False)
            self._listener.listen(4096)
            self._loop.call_soon_threadsafe(self._loop.add_reader, self._listener, self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:  # asyncio.Server loses those that come while it closes
        outages = self.outages
        with suppress(BlockingIOError):
            while True:
                made = self._loop.connect_accepted_socket(lambda: Connection(self, outages), listener.accept()[0])
                task = self._loop.create_task(made)
                self._accepting.add(task)
                task.add_done_callback(self._accepting.discard)

    def stop(self) -> None:
        """Refuse connections and break those that stand; nothing more is sent."""

        async def closed() -> None:
            self._close()
            while self.connections or self._accepting:
                await asyncio.sleep(0)

        if threading.current_thread() is self._thread:
            self._close()
        else:
            asyncio.run_coroutine_threadsafe(closed(), self._loop).result()

    def _close(self) -> None:
        self.outages += 1
        sockets = [connection.transport.get_extra_info("socket") for connection in self.connections]
        for shared in (*([self._listener] if self._listener else []), *sockets):
            with suppress(OSError):  # the other side was first
                shared.shutdown(socket.SHUT_RDWR)  # a close alone does nothing where a forked process holds the socket
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for connection in self.connections:
            connection.transport.abort()

    def count(self, text: str, path: str = "") -> int:
        """How many requests' raw bodies hold `text`, of those whose path ends with `path`."""
        return sum(text.encode() in received.raw for received in self.requests if received.path.endswith(path))

    def choose(self, received: Received, normal: Callable[[Received], Answer]) -> Answer:
        """The scripted answer, filled up with the normal one."""
        same = received.path.encode() + (_canonical(received.body) if received.body is not None else received.raw)
        seen = hashlib.sha256(same).digest()
        self._seen[seen] += 1
        scripted = self.answer(received, self._seen[seen] - 1) if self.answer is not None else None
        if scripted is not None and scripted.body is not None:
            return scripted
        usual = normal(received)
        if scripted is None:
            return usual
        status = scripted.status if scripted.status != 200 else usual.status
        return replace(scripted, status=status, body=usual.body, headers={**usual.headers, **scripted.headers})

    def run_line(self, line: dict[str, Any]) -> Answer | dict[str, Any]:
        """The answer to a line of a batch, or its error where the script drops it."""
        raw = _canonical(line["body"])
        received = Received("POST", line["url"], {}, line["body"], raw, time.monotonic(), None, 0)
        self.lines.append(received)
        answer = self.choose(received, lambda r: generated(r.body, chat=r.path == ENDPOINTS[0]))
        if answer.drop is not None:
            return {"code": "request_timeout", "message": "The request timed out."}
        received.answered = time.monotonic()
        return answer

    def reply(self, received: Received) -> Answer:
        """The normal reply to a request."""
        if self.keys is not None and received.key not in self.keys:
            return error(401, "invalid_api_key", f"Incorrect API key provided: {received.key}.")
        batches = self.batches
        match [received.method, *received.path.split("/")[1:]]:
            case ["GET", "v1", "models"]:
                model = {"id": "scripted", "object": "model", "created": 0, "owned_by": "tests"}
                return Answer(body={"object": "list", "data": [model]})
            case ["POST", "v1", "chat", "completions"]:
                return generated(received.body, chat=True)
            case ["POST", "v1", "completions"]:
                return generated(received.body, chat=False)
            case ["POST", "v1", "files"]:
                return batches.upload(received)
            case ["GET", "v1", "files", name] if name in batches.files:
                return Answer(body=batches.files[name][0])
            case ["GET", "v1", "files", name, "content"] if name in batches.files:
                return Answer(body=batches.files[name][1], headers={"content-type": "application/octet-stream"})
            case ["POST", "v1", "batches"]:
                return batches.create(received)
            case ["GET", "v1", "batches"]:
                return batches.listed(received.query)
            case ["GET", "v1", "batches", name] if name in batches.jobs:
                return Answer(body=batches.look(batches.jobs[name]))
            case ["POST", "v1", "batches", name, "cancel"] if name in batches.jobs:
                return batches.cancel(batches.jobs[name])
        return error(404, None, f"Nothing is found at {received.method} {received.path}.")


def main() -> None:
    """Serve in the foreground until a signal comes, then tell how much was served."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds from a request to its answer")
    parser.add_argument("--fast", action="store_true", help="one pre-rendered answer for every request")
    args = parser.parse_args()
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    with ApiServer(latency=args.latency, port=args.port, fast=args.fast) as server:
        print(server.url, flush=True)
        signal.sigwait(ends)
    print(f"{server.served} requests on {server.connected} connections, {server.in_flight_max} at once at most")


if __name__ == "__main__":
    main()
