"""Checksums of stored files, and the warning of a damaged one.

A process computes a checksum again if the file's size, modification time or inode changes.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import NamedTuple

import xxhash

__all__ = ["FileStamp", "stamp", "warn_of_damage"]

log = logging.getLogger("toolrlef_data")
TICK_SECONDS = 0.1  # exceeds the resolution of modification times
_checksums: dict[tuple[str, int, int, int], str] = {}  # by path, size, modification time and inode
_damaged: set[tuple[str, int, int, int]] = set()  # files of which the user was warned


class FileStamp(NamedTuple):
    """The size of a file in bytes, and its XXH3 checksum."""

    size: int
    checksum: str


def stamp(path: str | Path) -> FileStamp:
    """Return the stamp of a file; the checksum is computed once for each path, size, modification time and inode."""
    version = _version(path)
    checksum = _checksums.get(version) or _checksum(path)
    if time.time() - version[2] / 1e9 > TICK_SECONDS:  # a newer file could change without a new modification time
        _checksums[version] = checksum
    return FileStamp(version[1], checksum)


def _version(path: str | Path) -> tuple[str, int, int, int]:
    status = os.stat(path)
    return str(path), status.st_size, status.st_mtime_ns, status.st_ino


def _checksum(path: str | Path) -> str:
    """Return the XXH3 checksum of a file; it takes 0.15 s of CPU time a gigabyte, and writing the file takes 2 s."""
    hasher, buffer = xxhash.xxh3_128(), memoryview(bytearray(1 << 20))
    with open(path, "rb", buffering=0) as file:
        while size := file.readinto(buffer):
            hasher.update(buffer[:size])
    return hasher.hexdigest()


def warn_of_damage(path: str | Path, remedy: str) -> None:
    """Warn, once a process, of a stored file that does not fit its record."""
    if (version := _version(path)) not in _damaged:
        _damaged.add(version)
        log.warning("%s is damaged: %s", path, remedy)
