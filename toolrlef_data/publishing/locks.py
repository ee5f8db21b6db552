"""The lock of a published folder: one process at a time publishes to it, whatever its caches and its user are."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from toolrlef_data.records import InputError

__all__ = ["locked_folder"]

log = logging.getLogger("toolrlef_data")


@contextlib.contextmanager
def locked_folder(out: Path) -> Iterator[None]:
    """Lock a folder against all other publishers; create it, and remove it again if the block raises an error.

    The lock is on the folder itself, since publishers may have different caches, and no file should remain beside it.
    """
    missing = [path for path in (out, *out.parents) if not path.exists()]
    with contextlib.ExitStack() as stack:
        try:
            is_locked = False
            while not is_locked:
                # Another publisher may remove the folder until it is locked: FileExistsError if it does so during
                # `mkdir`, FileNotFoundError afterwards.
                with contextlib.suppress(FileNotFoundError, FileExistsError):
                    _create(out)
                    descriptor = os.open(out, os.O_RDONLY)
                    stack.callback(os.close, descriptor)
                    _lock(descriptor, out)
                    is_locked = os.path.samestat(os.fstat(descriptor), os.stat(out))
            yield
        except BaseException:
            for path in missing:
                with contextlib.suppress(OSError):  # it was not created, or has files of another process
                    path.rmdir()
            raise


def _create(out: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISDIR(out.stat().st_mode):  # of one moment: another publisher may remove the folder
            raise InputError(f"{out} exists and is not a folder")
    out.mkdir(parents=True, exist_ok=True)


def _lock(descriptor: int, out: Path) -> None:
    """Lock an open folder; the lock ends when it is closed."""
    import fcntl  # POSIX only

    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another process publishes to %s: waiting for it", out)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        log.warning("%s cannot be locked (%s): publish to it from one process at a time", out, error.strerror)
