"""Damage in a write-ahead log, which SQLite does not report: it ignores all transactions from the first damaged one on.

A log that was cut or emptied looks like that of a killed process. The index beside it (`-shm`), which the operating
system keeps after a process was killed, has the number of committed frames. Without the index, as after a copy of only
the other files, a cut log counts as undamaged.

Formats: sqlite.org/fileformat2.html, "The Write-Ahead Log", and sqlite.org/walformat.html, "The WAL-Index Header". The
checksum of a frame covers all frames up to it.

A process must not read the index of a database that it has open: closing any of its file descriptors releases the locks
of SQLite (sqlite.org/howtocorrupt.html, "Posix advisory locks canceled").
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FRAME_HEADER", "HEADER", "is_log_cut", "is_log_damaged"]

HEADER, FRAME_HEADER = 32, 24  # bytes
INDEX_HEADER = 100  # bytes: two copies of the header, and the number of frames in the database
MAGIC = b"\x37\x7f\x06"  # then 0x82 for checksums of little-endian numbers, 0x83 for those of big-endian numbers
MASK = 0xFFFFFFFF
BLOCK = 1000  # frames that are read at once


def is_log_cut(log: Path, index: Path) -> bool:
    """Return whether a log lacks committed frames that are not in the database yet, according to its index.

    Args:
        log: the log; it may be missing.
        index: the index of the log; it may be missing.
    """
    committed, stored, frame_bytes = _committed_frames(log, index)
    size = log.stat().st_size if log.exists() else 0
    return committed > max(stored, (size - HEADER) // frame_bytes)


def is_log_damaged(log: Path, index: Path | None) -> bool:
    """Return whether a committed frame is damaged, or the header.

    A killed process may leave an incomplete transaction at the end: that is no damage.

    Args:
        log: the log.
        index: the index of the log; without it, the last transaction of a log is committed only if it is undamaged.
    """
    committed = _committed_frames(log, index)[0] if index is not None else 0
    num_frames = 0
    with open(log, "rb") as file:
        header = file.read(HEADER)
        if not file.read(FRAME_HEADER):
            return False  # a log without frames
        size = int.from_bytes(header[8:12], "big")
        order = "<" if header[3] == 0x82 else ">"
        state = _checksum(header[:24], order)
        if (
            header[:3] != MAGIC
            or state != (_number(header, 24), _number(header, 28))
            or size & (size - 1)
            or size < 512
        ):
            return True
        file.seek(HEADER)
        is_valid, frame_bytes = True, FRAME_HEADER + size
        powers = _powers((8 + size) // 8)
        while block := file.read(BLOCK * frame_bytes):
            frames = np.frombuffer(block, np.uint8, len(block) // frame_bytes * frame_bytes).reshape(-1, frame_bytes)
            content = np.concatenate([frames[:, :8], frames[:, FRAME_HEADER:]], axis=1)
            sums = _sums(content, order, powers)
            for frame, (first, second) in zip(frames, sums.tolist(), strict=True):
                head = frame[:FRAME_HEADER].tobytes()
                has_salt = head[8:16] == header[16:24]  # other frames are older than the header
                if is_valid:
                    a, b, c, d = (int(power[-1]) for power in powers)
                    state = (a * state[0] + b * state[1] + first) & MASK, (c * state[0] + d * state[1] + second) & MASK
                    is_valid = has_salt and state == (_number(head, 16), _number(head, 20))
                    num_frames += 1
                    if not is_valid and num_frames <= committed:
                        return True
                elif has_salt and _number(head, 4):
                    return True
    return False


def _committed_frames(log: Path, index: Path) -> tuple[int, int, int]:
    """Return (committed frames, those of them in the database, bytes of a frame); zero frames if they are unknown."""
    unknown = 0, 0, 1
    try:
        header = _read_start(index, INDEX_HEADER)
        start = _read_start(log, HEADER) if log.exists() else b""
    except FileNotFoundError:  # another process has removed it
        return unknown
    order = "<" if sys.byteorder == "little" else ">"
    if len(header) < INDEX_HEADER or header[:48] != header[48:96] or not header[12]:
        return unknown
    size, committed = np.frombuffer(header, f"{order}u2", 1, 14)[0], np.frombuffer(header, f"{order}u4", 1, 16)[0]
    checksum = tuple(np.frombuffer(header, f"{order}u4", 2, 40).tolist())
    # The index of an older log does not fit a newer one, which begins with other salts.
    if checksum != _checksum(header[:40], order) or (len(start) == HEADER and start[16:24] != header[32:40]):
        return unknown
    stored = np.frombuffer(header, f"{order}u4", 1, 96)[0]
    return int(committed), int(stored), FRAME_HEADER + (int(size) if size > 1 else 1 << 16)


def _read_start(path: Path, count: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(count)


def _number(content: bytes, start: int) -> int:
    return int.from_bytes(content[start : start + 4], "big")


def _checksum(content: bytes, order: str) -> tuple[int, int]:
    first = second = 0
    words = np.frombuffer(content, f"{order}u4").tolist()
    for x, y in zip(words[::2], words[1::2], strict=True):
        first = (first + x + second) & MASK
        second = (second + y + first) & MASK
    return first, second


@cache
def _powers(count: int) -> Any:
    """Return the entries of the powers 0 to `count` of the matrix by which `_checksum` multiplies its state."""
    powers = [(1, 0, 0, 1)]
    for _ in range(count):
        a, b, c, d = powers[-1]
        powers.append(((a + b) & MASK, (a + 2 * b) & MASK, (c + d) & MASK, (c + 2 * d) & MASK))
    return np.array(powers, np.uint32).T


def _sums(content: Any, order: str, powers: Any) -> Any:
    """Return what the words of each frame add to the state of the checksum: (first, second) for each row."""
    words = content.view(f"{order}u4").astype(np.uint32)
    x, y = words[:, ::2], words[:, 1::2]
    a, b, c, d = powers[:, -2::-1]
    return np.stack([x @ (a + b) + y @ b, x @ (c + d) + y @ d], axis=1)
