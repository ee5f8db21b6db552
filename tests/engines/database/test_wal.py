"""Damage in write-ahead logs: a committed transaction after a damaged frame is damage, an incomplete one is none."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from toolrlef_data.engines.database.wal import FRAME_HEADER, HEADER, is_log_damaged

PAGE = 4096


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return the log of a live process with five committed transactions."""
    path = tmp_path / "store.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (x)")
        for n in range(4):
            connection.execute("INSERT INTO t VALUES (?)", (str(n) * 900,))
        return Path(shutil.copy(f"{path}-wal", tmp_path / "copied.sqlite-wal"))


def frames(log: Path) -> list[bytes]:
    content = log.read_bytes()[HEADER:]
    return [content[start : start + FRAME_HEADER + PAGE] for start in range(0, len(content), FRAME_HEADER + PAGE)]


def torn(frame: bytes, is_commit: bool, salt: bytes | None = None) -> bytes:
    """Return a frame whose checksum is wrong; a commit states the number of pages."""
    size = (7 if is_commit else 0).to_bytes(4, "big")
    return frame[:4] + size + (salt or frame[8:16]) + bytes(8) + frame[FRAME_HEADER:]


def test_an_incomplete_transaction_at_the_end_is_no_damage(log: Path) -> None:
    """As after a power failure: its pages may reach the disk in any order."""
    content, last = log.read_bytes(), frames(log)[-1]
    assert not is_log_damaged(log, None)
    for count in range(1, 4):
        log.write_bytes(content + torn(last, False) * count)
        assert not is_log_damaged(log, None)
        log.write_bytes(content + torn(last, False) * count + torn(last, True))
        assert is_log_damaged(log, None), "a commit follows a damaged frame"
    log.write_bytes(content + torn(last, True))
    assert not is_log_damaged(log, None), "the damaged frame is the last one: nothing follows it"
    log.write_bytes(content + torn(last, False) + torn(last, True, salt=bytes(8)))
    assert not is_log_damaged(log, None), "frames with another salt are from before the last checkpoint"


def test_each_damaged_frame_before_the_last_commit_is_noticed(log: Path) -> None:
    content, count = log.read_bytes(), len(frames(log))
    assert count >= 5
    for number in range(count):
        for position in (0, 5, 17, FRAME_HEADER, FRAME_HEADER + PAGE - 1):
            damaged = bytearray(content)
            damaged[HEADER + number * (FRAME_HEADER + PAGE) + position] ^= 1
            log.write_bytes(damaged)
            assert is_log_damaged(log, None) is (number < count - 1), (number, position)
