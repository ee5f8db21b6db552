"""A scripted HTTP server on loopback that speaks the OpenAI-compatible API and can fail at any byte.

It serves /v1/models, /v1/chat/completions, /v1/completions, /v1/files and /v1/batches over HTTP/1.1, with keep-alive,
chunked request bodies, outages, and the faults of `ServerReply`. A normal reply is a function of the messages (or the
prompt), the seed and the sample's number, with fresh ids each time. It needs SO_REUSEPORT (Linux, macOS).

Not covered: TLS, HTTP/2, streaming, stop sequences, logprobs, permissions of API keys, and JSON schemas with `pattern`,
`format`, `multipleOf` or recursion.

    with ApiServer(lambda received, repeats: error(503, "overloaded", "later") if repeats == 0 else None) as server:
        ask(server.url)                     # each body fails once, then gets its normal reply
        assert len(server.requests) == 2

`python -m tests.support.api_server --port 8123 --latency 0.1 --fast` runs it in the foreground with one fixed reply.
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
    html,
    normal_reply,
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
    """A connection that reads, counts and answers one request after the other."""

    transport: asyncio.Transport

    def __init__(self, server: ApiServer, outages: int) -> None:
        self.server = server
        self.outages = outages
        self.buffer = bytearray()
        self.head: tuple[str, str, dict[str, str]] | None = None
        self.chunks = bytearray()
        self.timer: asyncio.TimerHandle | None = None
        self.send_later: Callable[[], None] | None = None
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.connected += 1
        self.number = self.server.connected
        self.server.connections.add(self)
        if self.outages != self.server.outages:  # accepted just before the server stopped
            transport.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Cancel the in-flight request."""
        if self.timer is not None:
            self.timer.cancel()
        self.end_request()
        self.server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Collect bytes until a request is complete."""
        self.buffer += data
        self.advance()

    def advance(self) -> None:
        """Begin the next complete request, unless one is in flight."""
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
        """Return whether the head is complete; raise IndexError or ValueError if it is not HTTP."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > 65536:
                raise ValueError("the request head exceeds 64 KiB")
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
        """Return the body, of a given length or in chunks; None if it is not complete."""
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
                last = self.buffer.find(b"\r\n\r\n", end)  # after the trailers, if any
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
        """Count the request, choose its reply, and send it after the latency."""
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
            reply = server.choose(received, server.reply)
            head, body = reply.render()
        except BaseException:
            self.transport.abort()
            raise
        delay = server.latency + reply.delay
        self.send_later = partial(self.finish, received, reply, head, body)
        if server.gather:
            if server.in_flight == server.gather:
                server.gather = 0
                for connection in [*server.connections]:
                    if connection.send_later is not None:
                        connection.send_later()
        elif delay > 0:
            self.timer = loop.call_later(delay, self.send_later)
        else:
            self.send_later()

    def finish(self, received: ReceivedRequest, reply: ServerReply, head: bytes, body: bytes) -> None:
        """Send the reply, or only the bytes that its fault `drop` allows."""
        self.send_later = None
        if self.transport.is_closing():
            return
        if reply.drop == "reset":
            self.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            self.transport.abort()
            return
        if reply.drop in ("headers", "stall"):
            self.transport.write(head)
        elif reply.drop in ("body", "stall_body"):
            self.transport.write(head + body[: len(body) // 2])
        elif reply.drop is None:
            received.answered = time.monotonic()
            is_last = "close" in (received.headers.get("connection", ""), reply.headers.get("connection", ""))
            self.send(head + body, is_last)
        if reply.drop in ("before", "headers", "body"):
            self.transport.write_eof()  # `close` has no effect while a forked process has the socket
            self.transport.close()

    def send(self, reply: bytes, is_last: bool = False) -> None:
        """Write a complete reply and begin the next request."""
        self.end_request()
        self.transport.write(reply)
        if is_last:
            self.transport.close()
        elif self.buffer:
            self.advance()

    def end_request(self) -> None:
        """Count the request as no longer in flight."""
        self.server.in_flight -= self.busy
        self.busy = False


class ApiServer:
    """The server in a background thread; a context manager that raises the first error of the script at its end.

    Args:
        script: called in the server's thread with a request and `repeats`, the number of earlier requests with the
            same path and body; also called for uploads and polls. It returns a reply, or None for the normal one, and may call `stop()`.
        latency: seconds between a complete request and its reply.
        keys: the accepted API keys, or None for all; may change while the server runs.
        start: if False, connections are refused until `start()`.
        port: 0 for a free port.
        fast: send one fixed reply and record no requests.
        gather: number of in-flight requests before the first reply.
    """

    def __init__(
        self,
        script: Script | None = None,
        latency: float = 0.0,
        keys: Collection[str] | None = None,
        *,
        start: bool = True,
        port: int = 0,
        fast: bool = False,
        gather: int = 0,
    ) -> None:
        self.script, self.latency, self.keys, self.gather = script, latency, keys, gather
        self.requests: list[ReceivedRequest] = []
        self.lines: list[ReceivedRequest] = []
        self.batch_polls = 2
        self.batch_plan: Planner = lambda number, lines: BatchPlan()
        self.batches = Batches(self)
        self.connections: set[Connection] = set()
        self.outages = self.connected = self.served = self.in_flight = self.max_in_flight = 0
        self.fast = b"".join(completion("The answer is 48.").render()) if fast else None
        self.failures: list[BaseException] = []
        self._repeats: Counter[bytes] = Counter()
        self._start_now = start
        self._listener: socket.socket | None = None
        self._accepting: set[asyncio.Task[Any]] = set()
        self._holder = self._bound(port)  # bound but not listening, so that the port stays reserved during outages
        self.port: int = self._holder.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._failed)
        self._thread = threading.Thread(target=self._loop.run_forever, name="api-server", daemon=True)

    @staticmethod
    def _bound(port: int) -> socket.socket:
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port))
        return bound

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
        """Start to listen on the port."""
        if self._listener is None:
            self._listener = self._bound(self.port)
            self._listener.setblocking(False)
            self._listener.listen(4096)
            self._loop.call_soon_threadsafe(self._loop.add_reader, self._listener, self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:  # asyncio.Server loses connections while it closes
        outages = self.outages
        with suppress(BlockingIOError):
            while True:
                accepted = self._loop.connect_accepted_socket(lambda: Connection(self, outages), listener.accept()[0])
                task = self._loop.create_task(accepted)
                self._accepting.add(task)
                task.add_done_callback(self._accepting.discard)

    def stop(self) -> None:
        """Refuse new connections and abort the existing ones."""

        async def close() -> None:
            self._close()
            while self.connections or self._accepting:
                await asyncio.sleep(0)

        if threading.current_thread() is self._thread:
            self._close()
        else:
            asyncio.run_coroutine_threadsafe(close(), self._loop).result()

    def _close(self) -> None:
        self.outages += 1
        sockets = [connection.transport.get_extra_info("socket") for connection in self.connections]
        for shared in (*([self._listener] if self._listener else []), *sockets):
            with suppress(OSError):  # the client has closed the connection
                shared.shutdown(socket.SHUT_RDWR)  # `close` has no effect while a forked process has the socket
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for connection in self.connections:
            connection.transport.abort()

    def count(self, text: str, path: str = "") -> int:
        """Return the number of requests whose body contains a text and whose path ends with `path`."""
        return sum(text.encode() in received.raw for received in self.requests if received.path.endswith(path))

    def choose(self, received: ReceivedRequest, normal: Callable[[ReceivedRequest], ServerReply]) -> ServerReply:
        """Return the scripted reply; the normal reply provides the parts that the script does not set."""
        identity = received.path.encode() + (canonical(received.body) if received.body is not None else received.raw)
        key = hashlib.sha256(identity).digest()
        self._repeats[key] += 1
        scripted = self.script(received, self._repeats[key] - 1) if self.script is not None else None
        if scripted is not None and scripted.body is not None:
            return scripted
        default = normal(received)
        if scripted is None:
            return default
        status = scripted.status if scripted.status != 200 else default.status
        return replace(scripted, status=status, body=default.body, headers={**default.headers, **scripted.headers})

    def run_line(self, line: dict[str, Any]) -> ServerReply | dict[str, Any]:
        """Return the reply to a line of a batch, or an error if the script drops it."""
        raw = canonical(line["body"])
        received = ReceivedRequest("POST", line["url"], {}, line["body"], raw, time.monotonic(), None, 0)
        self.lines.append(received)
        reply = self.choose(received, lambda r: normal_reply(r.body, chat=r.path == ENDPOINTS[0]))
        if reply.drop is not None:
            return {"code": "request_timeout", "message": "The request timed out."}
        received.answered = time.monotonic()
        return reply

    def reply(self, received: ReceivedRequest) -> ServerReply:
        """Return the normal reply to a request."""
        if self.keys is not None and received.key not in self.keys:
            return error(401, "invalid_api_key", f"Incorrect API key provided: {received.key}.")
        batches = self.batches
        match [received.method, *received.path.split("/")[1:]]:
            case ["GET", "v1", "models"]:
                model = {"id": "scripted", "object": "model", "created": 0, "owned_by": "tests"}
                return ServerReply(body={"object": "list", "data": [model]})
            case ["POST", "v1", "chat", "completions"]:
                return normal_reply(received.body, chat=True)
            case ["POST", "v1", "completions"]:
                return normal_reply(received.body, chat=False)
            case ["POST", "v1", "files"]:
                return batches.upload(received)
            case ["GET", "v1", "files", name] if name in batches.files:
                return ServerReply(body=batches.files[name][0])
            case ["GET", "v1", "files", name, "content"] if name in batches.files:
                return ServerReply(body=batches.files[name][1], headers={"content-type": "application/octet-stream"})
            case ["POST", "v1", "batches"]:
                return batches.create(received)
            case ["GET", "v1", "batches"]:
                return batches.list_batches(received.query)
            case ["GET", "v1", "batches", name] if name in batches.jobs:
                return ServerReply(body=batches.poll(batches.jobs[name]))
            case ["POST", "v1", "batches", name, "cancel"] if name in batches.jobs:
                return batches.cancel(batches.jobs[name])
        return error(404, None, f"Nothing is found at {received.method} {received.path}.")


def main() -> None:
    """Serve in the foreground until a signal arrives, then print the counts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds between a request and its reply")
    parser.add_argument("--fast", action="store_true", help="one fixed reply for every request")
    args = parser.parse_args()
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with ApiServer(latency=args.latency, port=args.port, fast=args.fast) as server:
        print(server.url, flush=True)
        signal.sigwait(signals)
    print(f"{server.served} requests on {server.connected} connections, at most {server.max_in_flight} in flight")


if __name__ == "__main__":
    main()
