"""The memory of Arrow: stages allocate from the system, which takes back what is freed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

__all__ = ["system_memory"]


@contextmanager
def system_memory() -> Iterator[None]:
    """Let Arrow allocate from the system, and return to it what is free.

    Arrow's own allocator keeps freed memory: with it, the peaks of stages were up to 33 MB higher, and no CPU time was
    saved (`tests/benchmarks/bench_scale.py`).
    """
    before, system = pa.default_memory_pool(), pa.system_memory_pool()
    is_other = before.backend_name != "system"  # else another thread may be about to restore the pool
    if is_other:
        pa.set_memory_pool(system)
    system.release_unused()
    try:
        yield
    finally:
        if is_other:
            pa.set_memory_pool(before)
