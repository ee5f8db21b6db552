"""Damage in write-ahead logs: a committed transaction after a damaged frame is damage, an incomplete one is none."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from toolrlef_data.engines.database import wal
from toolrlef_data.engines.database.wal import FRAME_HEADER, HEADER, is_log_cut, is_log_damaged

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


def killed(folder: Path, page_size: int, transactions: int = 6) -> tuple[Path, Path]:
    """Return the log and the index that a killed process leaves."""
    path = folder / "killed.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (x)")
        for n in range(transactions):
            connection.execute("INSERT INTO t VALUES (?)", (str(n) * page_size,))
        names = [f"{path}{end}" for end in ("-wal", "-shm")]
        log, index = (Path(shutil.copy(name, folder / f"copy{name[-4:]}")) for name in names)
    return log, index


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
@pytest.mark.parametrize("block", [1, 3, 1000])
def test_logs_of_every_page_size_are_checked_in_blocks(
    tmp_path: Path, page_size: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "BLOCK", block)
    log, index = killed(tmp_path, page_size)
    content, size = log.read_bytes(), FRAME_HEADER + page_size
    count = (len(content) - HEADER) // size
    assert count >= 6
    for given in (index, None):
        assert not is_log_damaged(log, given)
    for number in range(count):
        damaged = bytearray(content)
        damaged[HEADER + (number + 1) * size - 1] ^= 1
        log.write_bytes(damaged)
        assert is_log_damaged(log, index), number
        assert is_log_damaged(log, None) is (number < count - 1), "the index tells that the last one is committed"
    for byte in range(HEADER):
        log.write_bytes(content[:byte] + bytes([content[byte] ^ 1]) + content[byte + 1 :])
        assert is_log_damaged(log, None), byte


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_a_log_is_cut_if_it_lacks_a_committed_frame(tmp_path: Path, page_size: int) -> None:
    log, index = killed(tmp_path, page_size)
    content, facts, size = log.read_bytes(), index.read_bytes(), FRAME_HEADER + page_size
    assert not is_log_cut(log, index)
    log.write_bytes(content + bytes(size - 1))
    assert not is_log_cut(log, index)
    for length in (len(content) - 1, len(content) - size, HEADER + size, HEADER, HEADER - 1, 5, 0):
        log.write_bytes(content[:length])
        assert is_log_cut(log, index), length
    log.unlink()
    assert is_log_cut(log, index)
    committed = (len(content) - HEADER) // size
    for stored, is_cut in ((committed - 1, True), (committed, False)):
        index.write_bytes(facts[:96] + stored.to_bytes(4, sys.byteorder) + facts[100:])
        assert is_log_cut(log, index) is is_cut, "the database has the frames already"
    unknown = {
        "short": facts[:99],
        "the two headers differ": facts[:47] + bytes([facts[47] ^ 1]) + facts[48:],
        "not initialised": (facts[:12] + b"\0" + facts[13:48]) * 2 + facts[96:],
        "a wrong checksum": (facts[:16] + bytes([facts[16] ^ 1]) + facts[17:48]) * 2 + facts[96:],
        "empty": b"",
    }
    for why, changed in unknown.items():
        index.write_bytes(changed)
        assert not is_log_cut(log, index), why
    index.write_bytes(facts)
    log.write_bytes(content[:16] + bytes(8) + content[24:HEADER])
    assert not is_log_cut(log, index), "the log is a newer one"
    index.unlink()
    assert not is_log_cut(log, index)
