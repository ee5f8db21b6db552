"""Damage in a write-ahead log, which SQLite does not report: it ignores all transactions from the first damaged one on.

A log that was cut or emptied looks like that of a killed process, and counts as undamaged.

Format: sqlite.org/fileformat2.html, "The Write-Ahead Log". The checksum of a frame covers all frames up to it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FRAME_HEADER", "HEADER", "is_log_damaged"]

HEADER, FRAME_HEADER = 32, 24  # bytes
MAGIC = b"\x37\x7f\x06"  # then 0x82 for checksums of little-endian numbers, 0x83 for those of big-endian numbers
MASK = 0xFFFFFFFF
BLOCK = 1000  # frames that are read at once


def is_log_damaged(log: Path) -> bool:
    """Return whether a committed transaction follows a damaged frame, or the header is damaged.

    A killed process may leave an incomplete transaction at the end: that is no damage.
    """
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
                elif has_salt and _number(head, 4):
                    return True
    return False


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
