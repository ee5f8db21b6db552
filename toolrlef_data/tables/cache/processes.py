"""Which processes use the stages of a folder, and when a stage was last used, so that no stage in use is removed.

A process holds the lock of a file until it ends; the name of the file has the time of its first use of the folder. The
time of the last use of a stage is the modification time of its record.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import time
from pathlib import Path
from typing import Any

__all__ = ["in_use_since", "is_locked", "mark_used"]

PREFIX = ".in-use-"
MAX_FOLDERS = 8  # of which a process holds the locks
MARGIN = 60_000_000_000  # nanoseconds by which the clocks of processes and of the disk may differ
_locks: dict[Path, Any] = {}  # folder -> lock of this process


def mark_used(record: Path) -> bool:
    """Note that this process uses a stage; return False if its record was removed meanwhile."""
    _mark_process(record.parent)
    try:
        os.utime(record)
    except FileNotFoundError:
        return False
    except OSError:  # a cache that cannot be written is read as it is
        pass
    return True


def in_use_since(folder: Path) -> int | None:
    """Return the earliest time in nanoseconds at which a running process used the folder; None if none runs.

    A stage that was used later can be in use. The files of ended processes are removed.
    """
    times = []
    for path in folder.glob(f"{PREFIX}*"):
        if is_locked(path):
            times.append(int(path.name.removeprefix(PREFIX).partition("-")[0]) - MARGIN)
        else:
            path.unlink(missing_ok=True)
    return min(times, default=None)


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of a file."""
    import filelock

    lock = filelock.FileLock(path, is_singleton=False)
    try:
        with lock.acquire(timeout=0):
            return False
    except filelock.Timeout:
        return True


def _mark_process(folder: Path) -> None:
    import filelock

    if folder in _locks:
        return
    lock = filelock.FileLock(folder / f"{PREFIX}{time.time_ns()}-{os.getpid()}", is_singleton=False)
    if not _locks:
        atexit.register(_release, 0, os.getpid())
    _release(MAX_FOLDERS - 1, os.getpid())
    _locks[folder] = lock
    with contextlib.suppress(OSError, NotImplementedError):  # the folder cannot be written or locked
        lock.acquire()


def _release(n: int, pid: int) -> None:
    """Release all but the last n locks, unless this is a child of the process that holds them."""
    for folder in list(_locks)[: max(0, len(_locks) - n)] if os.getpid() == pid else ():
        lock = _locks.pop(folder)
        if lock.is_locked:
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()
