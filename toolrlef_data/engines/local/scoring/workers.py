"""Worker processes, one per device: each loads the model and computes windows of requests.

A worker is a new Python process that runs `worker`, and not a child of `multiprocessing`: that would import the
caller's script again, and a fork cannot use a GPU. It ends when the connection to this process is closed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any

from toolrlef_data.engines.local.scoring.requests import ScoringRequest
from toolrlef_data.engines.spec import PULL_INTERVAL, EngineSpec
from toolrlef_data.records import Reply, ToolrlefError

__all__ = ["generate_in_workers"]

WORKER_WINDOW = 128  # requests that a worker receives at a time: about 25 rows
END_SECONDS = 10.0  # for a worker to end by itself

Requests = Iterable["tuple[str, ScoringRequest] | None"]


def generate_in_workers(
    spec: EngineSpec, devices: Sequence[str], tolerance: float, requests: Requests, layouts: set[str]
) -> Generator[list[tuple[str, Reply]], None, None]:
    """Yield the replies of worker processes as they arrive.

    Args:
        spec: settings of the engine.
        devices: device of each worker.
        tolerance: that of `LayoutSelection`.
        requests: (tag, request) pairs; None means that no request is ready.
        layouts: receives the layouts that the workers use.

    Raises:
        ToolrlefError: a worker failed or was killed. All replies so far are yielded before.
    """
    unread = iter(requests)
    has_more = True
    with ExitStack() as stack:
        idle = [stack.enter_context(_Worker(spec, device, len(devices), tolerance)) for device in devices]
        busy: dict[Any, _Worker] = {}  # by connection
        while has_more or busy:
            while idle and has_more:
                window, has_more = _pull(unread)
                if not window:
                    break
                worker = idle.pop()
                worker.send(window)
                busy[worker.connection] = worker
            if not busy:
                time.sleep(PULL_INTERVAL if has_more else 0)
                continue
            for connection in wait(list(busy), PULL_INTERVAL if idle and has_more else None):
                message = busy[connection].receive()
                if isinstance(message, list):
                    yield message
                else:  # the window is complete
                    layouts.update(message)
                    idle.append(busy.pop(connection))


def _pull(
    requests: Iterator[tuple[str, ScoringRequest] | None],
) -> tuple[list[tuple[str, ScoringRequest]], bool]:
    """Return the requests of a window that are ready, and whether further ones can follow."""
    window: list[tuple[str, ScoringRequest]] = []
    for pair in requests:
        if pair is None:
            return window, True
        window.append(pair)
        if len(window) == WORKER_WINDOW:
            return window, True
    return window, False


class _Worker:
    """A worker process and the connection to it."""

    def __init__(self, spec: EngineSpec, device: str, n_workers: int, tolerance: float) -> None:
        self.device = device
        self.connection, end = Pipe()
        # The process finds this package where this process found it.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-m", "toolrlef_data.engines.local.scoring.worker", str(end.fileno())]
        # No shell is involved, and no argument comes from the user.
        self.process = subprocess.Popen(  # noqa: S603
            command, env=environment, pass_fds=[end.fileno()], stdin=subprocess.DEVNULL
        )
        end.close()
        self.send((replace(spec, device=device, progress=False), n_workers, tolerance))

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def send(self, message: object) -> None:
        try:
            self.connection.send(message)
        except OSError:
            raise self._ended() from None

    def receive(self) -> Any:
        """Return a list of (tag, reply), or the set of layouts at the end of a window."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        if isinstance(message, ToolrlefError):
            raise message
        return message

    def _ended(self) -> ToolrlefError:
        code = self.process.wait()
        return ToolrlefError(
            f"the worker for {self.device} ended with exit code {code}. All received values are saved: run again"
        )
