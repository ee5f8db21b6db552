"""Waiting for what another thread or process does, however slow the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

# Seconds. Nothing is expected to take so long: it only ends a test that would hang.
LAST_RESORT = 300.0


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < LAST_RESORT, "it never came to that"
        time.sleep(0.005)
