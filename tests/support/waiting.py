"""Waiting for other threads and processes on machines of any speed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

# Seconds after which a hanging test ends; longer than any expected wait.
HANG_TIMEOUT = float(os.environ.get("HANG_TIMEOUT", "300"))


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true; fail after `HANG_TIMEOUT`."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < HANG_TIMEOUT, "the condition was not met in time"
        time.sleep(0.005)
