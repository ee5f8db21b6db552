"""A server that answers each connection with given bytes, in any form that HTTP forbids or does not limit."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress


class RawServer:
    """A server on loopback; a context manager.

    Args:
        reply: the head of a request -> the chunks of bytes to send. It may be endless: it ends with the connection.
        tls: the server's certificate, or None for plain HTTP.
    """

    def __init__(self, reply: Callable[[str], Iterable[bytes]], tls: ssl.SSLContext | None = None) -> None:
        self.reply, self.tls = reply, tls
        self.heads: list[str] = []
        self.num_sent = 0
        self.num_connections = 0
        self._is_closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/v1"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> RawServer:
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._is_closed = True
        socket.create_connection(("127.0.0.1", self.port)).close()  # `accept` does not notice a closed socket
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        workers = []
        while True:
            connection, _ = self._listener.accept()
            if self._is_closed:
                connection.close()
                break
            self.num_connections += 1
            workers.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
            workers[-1].start()
        for worker in workers:
            worker.join()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):  # the client has closed the connection
            connection.settimeout(10)
            stream = self.tls.wrap_socket(connection, server_side=True) if self.tls else connection
            with stream:
                data = b""
                while b"\r\n\r\n" not in data:
                    if not (received := stream.recv(65536)):
                        return
                    data += received
                head = data.partition(b"\r\n\r\n")[0].decode("latin-1")
                self.heads.append(head)
                for chunk in self.reply(head):
                    if self._is_closed:
                        return
                    stream.sendall(chunk)
                    self.num_sent += len(chunk)
                with suppress(OSError):
                    stream.shutdown(socket.SHUT_WR)
                while stream.recv(65536):
                    pass
