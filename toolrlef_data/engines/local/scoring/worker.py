"""The program of a worker process: it receives windows of requests, and sends the replies of each batch.

The argument is the file descriptor of the connection. The first message is (spec, number of workers, tolerance).
"""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing.connection import Connection

from toolrlef_data.engines.local.scoring.engine import ScoringEngine
from toolrlef_data.records import ToolrlefError

__all__: list[str] = []


def main() -> None:
    """Compute windows of requests until the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the caller closes the connection
    connection = Connection(int(sys.argv[1]))
    try:
        _serve(connection)
    except (EOFError, ConnectionError):  # the caller has closed the connection
        return
    except ToolrlefError as error:
        connection.send(ToolrlefError(f"{type(error).__name__}: {error}"))


def _serve(connection: Connection) -> None:
    spec, n_workers, tolerance = connection.recv()
    if spec.device == "cpu":
        import torch

        torch.set_num_threads(max(1, (os.cpu_count() or 1) // n_workers))
    with ScoringEngine(spec, tolerance=tolerance) as engine:
        while True:
            for replies in engine.generate(iter(connection.recv())):
                connection.send(replies)
            connection.send(engine.layouts)


if __name__ == "__main__":
    main()
