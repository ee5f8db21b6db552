"""Rows in the bytes of a store: those of the file, of its log, and deleted ones."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from toolrlef_data.engines.database.rows import _may_be_store, encode_reply, recover
from toolrlef_data.engines.database.salvage import find_rows
from toolrlef_data.engines.reply_store import SCHEMA, ReplyStore
from toolrlef_data.records import InputError, Reply

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


NUMBERS = [0, 1, -1, 127, -128, 128, 40_000, 2**23, 2**31 - 1, -(2**31), 2**40, -(2**40), 2**62, -(2**63), None]


@pytest.mark.parametrize("page_size", [512, 4096])
def test_numbers_and_texts_of_every_length_are_read(tmp_path: Path, page_size: int) -> None:
    path = tmp_path / "store.sqlite"
    pairs = [(f"{n:032x}", number) for n, number in enumerate(NUMBERS)]
    fours = [(f"{n:031x}a", "é" * n, number, "x" * (n % 3)) for n, number in enumerate(NUMBERS)]
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute("CREATE TABLE t1 (key TEXT PRIMARY KEY, a INTEGER) WITHOUT ROWID")
        connection.execute("CREATE TABLE t2 (key TEXT PRIMARY KEY, a TEXT, b INTEGER, c TEXT) WITHOUT ROWID")
        connection.executemany("INSERT INTO t1 VALUES (?, ?)", pairs)
        connection.executemany("INSERT INTO t2 VALUES (?, ?, ?, ?)", fours)
    assert {*pairs, *fours} <= set(find_rows(path, []))
    damaged = path.read_bytes().replace("é".encode() * 9, b"\xff" * 18)
    path.write_bytes(damaged)
    assert {row for row in fours if row in set(find_rows(path, []))} == set(fours[:9]), (
        "a text that is no UTF-8 makes its row unreadable"
    )


@pytest.mark.parametrize(
    ("content", "may_be"),
    [
        (None, True),
        (b"", True),
        (bytes(16) + b"x" * 5000, True),
        (bytes(15) + b"x" * 5000, False),
        (b"SQLite format 3" + b"x" * (4096 - 16), True),
        (b"SQLite format 3" + b"x" * (4096 - 15), False),
        (b"x" * 5000 + b"CREATE TABLE replies", True),
        (b"x" * ((1 << 16) - 19) + b"CREATE TABLE replies", False),
        (b"x" * 20, False),
    ],
    ids=str,
)
def test_what_may_be_the_rest_of_a_store(tmp_path: Path, content: bytes | None, may_be: bool) -> None:
    if content is not None:
        (tmp_path / "r").write_bytes(content)
    assert _may_be_store(tmp_path / "r") is may_be


def recovered(path: Path) -> tuple[str, dict[str, list[tuple[Any, ...]]]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        text = recover(path, [], connection)
        tables = ("replies", "failures", "withdrawn", "claims", "jobs", "job_keys")
        return text, {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in tables}


def test_each_kind_of_row_is_recovered_or_left_out(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    keys = [f"{n:032x}" for n in range(9)]
    final = {key: encode_reply(key, Reply(f"reply {key}")) for key in keys[:3]}
    store = ReplyStore(path)
    store.put([(key, Reply(f"reply {key}")) for key in final])
    store.put([(keys[3], Reply(None, error="timeout"))])
    store.withdraw([keys[2]])
    with store.writing() as connection:
        connection.execute("INSERT INTO replies VALUES (?, '[broken')", (keys[4],))
        connection.execute("INSERT INTO claims VALUES (?, ?)", (keys[5], "c" * 32))
        connection.execute("INSERT INTO jobs VALUES (?, 's', 'r', 'o')", (FIRST,))
        connection.executemany(
            "INSERT INTO job_keys VALUES (?, ?)", [(keys[6], FIRST), (keys[7], SECOND), (keys[8], FIRST)]
        )
    store.close()
    text, tables = recovered(path)
    assert text == "2 replies are saved, 1 are unreadable and requested again"
    assert tables == {
        "replies": [(key, final[key]) for key in keys[:2]],
        "failures": [(keys[2], final[keys[2]])],
        "withdrawn": [(keys[2], 1)],
        "claims": [],
        "jobs": [(FIRST, "s", "r", "o")],
        "job_keys": [(keys[6], FIRST), (keys[8], FIRST)],
    }
    (tmp_path / "notes").write_text("notes" * 2000)
    with pytest.raises(InputError) as caught:
        recovered(tmp_path / "notes")
    assert str(caught.value) == (
        f"{tmp_path / 'notes'} is not a usable reply store; move the file away to start a new store"
    )
    assert recovered(tmp_path / "missing")[0] == "0 replies are saved, 0 are unreadable and requested again"
