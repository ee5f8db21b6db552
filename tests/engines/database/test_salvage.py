"""Rows in the bytes of a store: those of the file, of its log, and deleted ones."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from toolrlef_data.engines.database.salvage import find_rows

FIRST, SECOND, THIRD = "a" * 32, "b" * 32, "c" * 32


@pytest.mark.parametrize("length", [100, 5_000, 30_000])
def test_a_deleted_row_is_found_although_its_pages_are_used_again_in_the_log(tmp_path: Path, length: int) -> None:
    """A withdrawn reply stays readable; a long one continues on overflow pages."""
    path = tmp_path / "store.sqlite"
    texts = {key: f"{key[:1]}{n:05d}" * (length // 6) for n, key in enumerate((FIRST, SECOND, THIRD))}
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID")
        connection.execute("INSERT INTO replies VALUES (?, ?)", (FIRST, texts[FIRST]))
        connection.execute("INSERT INTO replies VALUES (?, ?)", (SECOND, texts[SECOND]))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("DELETE FROM replies WHERE key = ?", (FIRST,))
        connection.execute("INSERT INTO replies VALUES (?, ?)", (THIRD, texts[THIRD]))
        copied, log = shutil.copy(path, tmp_path / "copy"), shutil.copy(f"{path}-wal", tmp_path / "copy-wal")
    found = set(find_rows(Path(copied), [Path(log)]))
    assert set(texts.items()) <= found
    assert {(FIRST, texts[FIRST]), (SECOND, texts[SECOND])} <= set(find_rows(Path(copied), []))
    in_log = set(find_rows(tmp_path / "missing", [Path(log)]))
    assert (THIRD, texts[THIRD]) in in_log
