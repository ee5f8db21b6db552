"""A scripted HTTP server on loopback that speaks the OpenAI-compatible API and can misbehave byte by byte.

It covers /v1/models, /v1/chat/completions, /v1/completions, /v1/files and /v1/batches over HTTP/1.1: keep-alive, chunked
request bodies, outages, and every fault of `ServerReply`. A normal reply is a function of the messages (or the prompt), the
seed and the sample's number, with fresh ids each time, as servers make them. It does not cover: TLS, HTTP/2, streaming,
stop sequences, logprobs, JSON schemas with `pattern`, `format`, `multipleOf` or recursion, reading rights between keys.
It needs SO_REUSEPORT (Linux, macOS).

    with ApiServer(lambda received, seen: error(503, "overloaded", "later") if seen == 0 else None) as server:
        ask(server.url)                     # each body fails once, then gets its normal reply
        assert len(server.requests) == 2

`python -m tests.support.api_server --port 8123 --latency 0.1 --fast` runs it in the foreground with one pre-rendered answer.
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
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.support.api_batches import Batches
from tests.support.api_replies import (
    ENDPOINTS,
    BatchPlan,
    Planner,
    ReceivedRequest,
    Script,
    ServerReply,
    canonical,
    completion,
    error,
    generated,
    html,
    rate_limited,
)

__all__ = [
    "ApiServer",
    "BatchPlan",
    "ReceivedRequest",
    "ServerReply",
    "completion",
    "error",
    "html",
    "rate_limited",
]


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
        self.held: Callable[[], None] | None = None
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
        server.max_in_flight = max(server.max_in_flight, server.in_flight)
        server.served += 1
        loop = asyncio.get_running_loop()
        if server.fast is not None:
            self.timer = loop.call_later(server.latency, self.send, server.fast)
            return
        url = urlsplit(target)
        received = ReceivedRequest(method, url.path, headers, None, raw, time.monotonic(), None, self.number)
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
        self.held = partial(self.finish, received, answer, head, body)
        if server.gather:
            if server.in_flight == server.gather:
                server.gather = 0
                for connection in [*server.connections]:
                    if connection.held is not None:
                        connection.held()
        elif delay > 0:
            self.timer = loop.call_later(delay, self.held)
        else:
            self.held()

    def finish(self, received: ReceivedRequest, answer: ServerReply, head: bytes, body: bytes) -> None:
        """Send the answer, or as much of it as its fault lets through."""
        self.held = None
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
        gather: send no answer until so many requests are in flight.
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
        gather: int = 0,
    ) -> None:
        self.script, self.latency, self.keys, self.gather = answer, latency, keys, gather
        self.requests: list[ReceivedRequest] = []
        self.lines: list[ReceivedRequest] = []
        self.batch_polls = 2
        self.batch_plan: Planner = lambda number, lines: BatchPlan()
        self.batches = Batches(self)
        self.connections: set[Connection] = set()
        self.outages = self.connected = self.served = self.in_flight = self.max_in_flight = 0
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

    def choose(self, received: ReceivedRequest, normal: Callable[[ReceivedRequest], ServerReply]) -> ServerReply:
        """The scripted answer, filled up with the normal one."""
        same = received.path.encode() + (canonical(received.body) if received.body is not None else received.raw)
        seen = hashlib.sha256(same).digest()
        self._seen[seen] += 1
        scripted = self.script(received, self._seen[seen] - 1) if self.script is not None else None
        if scripted is not None and scripted.body is not None:
            return scripted
        usual = normal(received)
        if scripted is None:
            return usual
        status = scripted.status if scripted.status != 200 else usual.status
        return replace(scripted, status=status, body=usual.body, headers={**usual.headers, **scripted.headers})

    def run_line(self, line: dict[str, Any]) -> ServerReply | dict[str, Any]:
        """The answer to a line of a batch, or its error where the script drops it."""
        raw = canonical(line["body"])
        received = ReceivedRequest("POST", line["url"], {}, line["body"], raw, time.monotonic(), None, 0)
        self.lines.append(received)
        answer = self.choose(received, lambda r: generated(r.body, chat=r.path == ENDPOINTS[0]))
        if answer.drop is not None:
            return {"code": "request_timeout", "message": "The request timed out."}
        received.answered = time.monotonic()
        return answer

    def reply(self, received: ReceivedRequest) -> ServerReply:
        """The normal reply to a request."""
        if self.keys is not None and received.key not in self.keys:
            return error(401, "invalid_api_key", f"Incorrect API key provided: {received.key}.")
        batches = self.batches
        match [received.method, *received.path.split("/")[1:]]:
            case ["GET", "v1", "models"]:
                model = {"id": "scripted", "object": "model", "created": 0, "owned_by": "tests"}
                return ServerReply(body={"object": "list", "data": [model]})
            case ["POST", "v1", "chat", "completions"]:
                return generated(received.body, chat=True)
            case ["POST", "v1", "completions"]:
                return generated(received.body, chat=False)
            case ["POST", "v1", "files"]:
                return batches.upload(received)
            case ["GET", "v1", "files", name] if name in batches.files:
                return ServerReply(body=batches.files[name][0])
            case ["GET", "v1", "files", name, "content"] if name in batches.files:
                return ServerReply(body=batches.files[name][1], headers={"content-type": "application/octet-stream"})
            case ["POST", "v1", "batches"]:
                return batches.create(received)
            case ["GET", "v1", "batches"]:
                return batches.listed(received.query)
            case ["GET", "v1", "batches", name] if name in batches.jobs:
                return ServerReply(body=batches.look(batches.jobs[name]))
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
    print(f"{server.served} requests on {server.connected} connections, {server.max_in_flight} at once at most")


if __name__ == "__main__":
    main()
