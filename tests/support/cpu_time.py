"""A limit of CPU time, for inputs whose processing must not take quadratic time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["cpu_limit"]


@contextmanager
def cpu_limit(seconds: float = 5.0) -> Iterator[None]:
    """Fail if the block takes more CPU time of this process; other processes do not count.

    Linear time on texts of 100,000 characters is below half a second; quadratic time, at 100 million steps per second,
    is near a minute.
    """
    start = time.process_time()
    yield
    used = time.process_time() - start
    assert used < seconds, f"expected at most {seconds:g} s of CPU time, found {used:.1f} s"
