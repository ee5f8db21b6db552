"""Waiting for what another thread or process does, however slow the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

# Seconds. Nothing is expected to take so long: it only ends a test that would hang.
HANG_TIMEOUT = 300.0


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < HANG_TIMEOUT, "it never came to that"
        time.sleep(0.005)
