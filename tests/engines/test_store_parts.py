"""The reply store and its claims in detail: transactions, chunks of keys, damage in each table, owners and jobs."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from toolrlef_data.engines.claims import BatchJobs, Claims, _checksum, _job_row, is_name
from toolrlef_data.engines.database import schema as schema_module
from toolrlef_data.engines.database.connection import is_damage, is_writable, repair
from toolrlef_data.engines.database.rows import REPLY_FIELDS, decode_reply, encode_reply
from toolrlef_data.engines.database.schema import DamagedDatabase, check_tables
from toolrlef_data.engines.reply_store import SCHEMA, ReplyStore, key_chunks, open_store, replies_in, store_path
from toolrlef_data.records import InputError, Reply, ToolrlefError
from toolrlef_data.tables.files import home_dir

LATE = Reply(None, error="timeout", error_detail="late")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ReplyStore]:
    opened = ReplyStore(tmp_path / "r.sqlite")
    yield opened
    opened.close()


# Replies --------------------------------------------------------------------------------------------------------------


def test_an_error_in_a_transaction_rolls_it_back(store: ReplyStore) -> None:
    with suppress(KeyboardInterrupt), store.writing() as connection:
        connection.execute("INSERT INTO claims VALUES ('a', 'b')")
        raise KeyboardInterrupt
    with store.writing() as connection:
        assert connection.execute("SELECT * FROM claims").fetchall() == []
        connection.execute("INSERT INTO claims VALUES ('a', 'b')")
    other = sqlite3.connect(store.path)
    assert other.execute("SELECT * FROM claims").fetchall() == [("a", "b")], "committed"
    other.close()


def test_keys_are_read_in_chunks_of_500() -> None:
    keys = [f"{n}" for n in range(1001)]
    chunks = list(key_chunks(keys))
    assert [key for chunk, _ in chunks for key in chunk] == keys
    assert [(len(chunk), marks.count("?"), marks.count(",")) for chunk, marks in chunks] == [
        (500, 500, 499), (500, 500, 499), (1, 1, 0)
    ]  # fmt: skip
    assert list(key_chunks([])) == []


def test_failures_are_replaced_by_later_ones_and_final_replies_are_not(store: ReplyStore) -> None:
    keys = [f"{n}" for n in range(1200)]
    store.put((key, LATE) for key in keys)
    store.put([("7", Reply(None, error="server"))])
    assert store.failures(["7", "8"]) == {"7": Reply(None, error="server"), "8": LATE}
    store.put((key, Reply(key)) for key in keys)
    store.put([("7", LATE)])
    assert (store.get(["7"]), store.failures(["7"])) == ({"7": Reply("7")}, {"7": LATE})
    store.withdraw(keys)
    assert (store.get(keys), store.count_withdrawals()) == ({}, 1200)
    assert store.failures(keys) == {key: Reply(key) for key in keys}, "a withdrawn reply replaces an older failure"
    assert store.withdrawals([*keys, "none"]) == dict.fromkeys(keys, 1)
    store.withdraw(["none"])
    assert (store.count_withdrawals(), store.withdrawals(["none"])) == (1201, {"none": 1})


def test_a_reader_decides_what_a_stored_text_is(store: ReplyStore, caplog: pytest.LogCaptureFixture) -> None:
    store.put([(key, Reply(key)) for key in "abc"])
    found = store.get_as([*"abcd"], lambda key, text: None if key == "b" else len(text))
    assert found == {"a": len(encode_reply("a", Reply("a"))), "c": len(encode_reply("c", Reply("c")))}
    assert caplog.messages == [f"{store.path}: 1 stored replies are damaged and requested again, such as b"]
    assert set(store.get([*"abc"])) == {"a", "c"}


@pytest.mark.parametrize("table", ["replies", "failures"])
def test_damage_is_removed_from_the_table_that_has_it(
    store: ReplyStore, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    keys = [f"{n:03}" for n in range(600)]
    store.put((key, LATE if table == "failures" else Reply(key)) for key in keys)
    with store.writing() as connection:
        connection.execute(f"UPDATE {table} SET reply = '[' WHERE key >= '100'")
    for _ in range(2):
        assert len(store.failures(keys) if table == "failures" else store.get(keys)) == 100
    assert caplog.messages == [f"{store.path}: 500 stored replies are damaged and requested again, such as 100"]
    with store.reading() as connection:
        assert connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (100,)


def test_a_closed_moved_or_deleted_store_is_opened_again(store: ReplyStore, tmp_path: Path) -> None:
    store.put([("a", Reply("1"))])
    store.close()
    assert store.get(["a"]) == {"a": Reply("1")}
    store.close()
    store.path.rename(tmp_path / "moved.sqlite")
    assert store.get(["a"]) == {}
    store.put([("b", Reply("2"))])
    assert set(ReplyStore(store.path).get([*"ab"])) == {"b"}
    assert set(ReplyStore(tmp_path / "moved.sqlite").get([*"ab"])) == {"a"}


def test_the_path_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLRLEF_REPLIES", str(tmp_path / "own"))
    assert open_store() is open_store(tmp_path / "own")
    with replies_in(tmp_path / "a"):
        with replies_in(tmp_path / "b"):
            assert store_path() == tmp_path / "b"
            assert open_store().path == tmp_path / "b"
        assert store_path() == tmp_path / "a"
        with pytest.raises(KeyError), replies_in(tmp_path / "c"):
            raise KeyError
        assert store_path() == tmp_path / "a"
    assert store_path() == tmp_path / "own"
    monkeypatch.setenv("TOOLRLEF_REPLIES", "")
    assert store_path() == home_dir() / "replies.sqlite"


def test_a_store_that_cannot_be_used_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    advice = "the variable TOOLRLEF_REPLIES names another path, such as that of a copy in a writable folder"
    with pytest.raises(ToolrlefError, match=rf"^the reply store .*file/r.sqlite cannot be used: .*; {advice}$"):
        ReplyStore(tmp_path / "file" / "r.sqlite")
    store = ReplyStore(tmp_path / "new" / "folder" / "r.sqlite")
    assert store.path.exists(), "the folder is created"
    with (
        pytest.raises(
            ToolrlefError, match=rf"^the reply store {store.path} cannot be used: no such table: none; {advice}$"
        ),
        store.reading() as connection,
    ):
        connection.execute("SELECT * FROM none")
    store.close()


# Rows of the store ----------------------------------------------------------------------------------------------------


def test_the_text_of_a_reply_has_all_fields_in_a_fixed_order() -> None:
    assert REPLY_FIELDS == (
        "text", "reasoning", "tool_calls", "finish_reason", "error", "error_detail", "prompt_tokens", "completion_tokens"
    )  # fmt: skip
    reply = Reply("é", "r", (("f", "{}"),), "length", "server", "d", 1, 2)
    text = encode_reply("k", reply)
    assert text.startswith('["é","r",[["f","{}"]],"length","server","d",1,2,{"xxh3":"')
    assert decode_reply("k", text) == reply
    assert decode_reply("k", text.encode()) is None
    assert decode_reply("k", '["8","",[],"stop",null,"",null,null,"of a later version"]') == Reply("8")


# Files ----------------------------------------------------------------------------------------------------------------


def test_what_sqlite_says_of_a_damaged_file() -> None:
    damage = [
        "malformed",
        "file is not a database",
        "file is encrypted",
        "unsupported file format",
        "attempt to write a readonly database",
    ]
    assert [is_damage(sqlite3.DatabaseError(text)) for text in damage] == [True] * 5
    others = ["database is locked", "database or disk is full", "disk I/O error", "no such table"]
    assert [is_damage(sqlite3.DatabaseError(text)) for text in others] == [False] * 4


def test_a_new_file_needs_a_writable_folder(tmp_path: Path) -> None:
    (tmp_path / "r").touch()
    assert [is_writable(tmp_path / name) for name in ("r", "new")] == [True, True]
    assert not is_writable(tmp_path / "missing" / "r")


TABLES = [table.strip() for table in SCHEMA.split(";") if "CREATE TABLE" in table]


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (["CREATE TABLE other (x)", *[f"DROP TABLE {name}" for name in ("replies", "failures", "withdrawn", "claims", "jobs", "job_keys")]], InputError, "a database of another program: expected the table replies, found other"),
        (["CREATE TABLE other (x)", "DROP TABLE withdrawn"], DamagedDatabase, "expected the table withdrawn, found other"),
        (["CREATE TABLE other (x)"], None, ""),  # of a later version
        (["DROP TABLE withdrawn", "DROP TABLE failures"], None, ""),  # of an earlier version
        (["DROP TABLE claims", "CREATE TABLE claims (key TEXT PRIMARY KEY)"], DamagedDatabase, "the definition of the table claims differs"),
        (["CREATE TABLE with_counter (id INTEGER PRIMARY KEY AUTOINCREMENT)", "DROP TABLE with_counter", "DROP TABLE claims"], None, ""),
    ],
)  # fmt: skip
def test_the_tables_of_a_file_are_compared_with_the_schema(
    changes: list[str], kind: type[Exception] | None, message: str
) -> None:
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    for change in changes:
        connection.execute(change)
    if kind is None:
        check_tables(connection, SCHEMA)
    else:
        with pytest.raises(kind) as caught:
            check_tables(connection, SCHEMA)
        assert str(caught.value) == message
    assert len(schema_module._tables(SCHEMA)) == len(TABLES) == 6
    connection.close()


# Claims ---------------------------------------------------------------------------------------------------------------


def owned(store: ReplyStore) -> dict[str, str]:
    with store.reading() as connection:
        return dict(connection.execute("SELECT key, owner FROM claims").fetchall())


def test_a_run_that_ends_leaves_no_claims_of_its_own_or_of_dead_owners(store: ReplyStore) -> None:
    keys = [f"{n}" for n in range(1100)]
    dead, folder = "d" * 32, store.path.with_name("r.sqlite.owners")
    with Claims(store) as live:
        assert live.acquire(["live"]) == set()
        with store.writing() as connection:
            connection.executemany("INSERT INTO claims VALUES (?, ?)", [("x", dead), ("0", dead)])
        (folder / dead).touch()
        (folder / "note.txt").touch()
        with Claims(store) as claims:
            assert claims.acquire([*keys, "live"]) == {"live"}
            assert owned(store) == {**dict.fromkeys(keys, claims.name), "live": live.name, "x": dead}
            assert {path.name for path in folder.iterdir()} == {live.name, claims.name, "note.txt"}
            assert claims.is_alive(live.name)
            assert not claims.is_alive(dead)
            claims.release(["0", "1", "live"])
            assert len(owned(store)) == 1100
            assert owned(store)["live"] == live.name
        assert owned(store) == {"live": live.name}
        assert {path.name for path in folder.iterdir()} == {live.name, "note.txt"}
        (folder / "note.txt").unlink()
    assert owned(store) == {}
    assert not folder.exists()


def test_a_run_without_claims_writes_nothing(store: ReplyStore) -> None:
    with Claims(store) as claims:
        assert claims.acquire([]) == set()
        assert not claims.lock.is_locked
        assert not claims.folder.exists()
    assert claims.folder == store.path.with_name("r.sqlite.owners")


def test_the_names_of_owners() -> None:
    names = ["0123456789abcdef" * 2, "A" * 32, "a" * 31, "a" * 33, "a" * 32 + "\n", b"a" * 32, None]
    assert [is_name(name) for name in names] == [True, *[False] * 6]


# Batch jobs -----------------------------------------------------------------------------------------------------------

SERVER = "http://server/v1 m"
FIRST, SECOND = "1" * 32, "2" * 32


def test_the_life_of_the_record_of_a_job(store: ReplyStore, caplog: pytest.LogCaptureFixture) -> None:
    with BatchJobs(store, SERVER) as jobs:
        jobs.begin(FIRST, iter(["b", "a", "c"]))
        jobs.begin(SECOND, ["d"])
        assert (jobs.keys(FIRST), jobs.keys(SECOND), jobs.keys("none")) == (["b", "a", "c"], ["d"], [])
        assert [jobs.job_of(key) for key in "acdx"] == [FIRST, FIRST, SECOND, None]
        assert jobs.pending_jobs() == {}, "this run is submitting them"
        jobs.mark_accepted(FIRST, "batch_1")
        assert jobs.pending_jobs() == {FIRST: "batch_1"}
        assert jobs.lists_all_requests(FIRST)
    with BatchJobs(store, SERVER) as jobs:
        assert jobs.pending_jobs() == {FIRST: "batch_1", SECOND: None}, "the other run has ended"
        jobs.mark_accepted(FIRST, "batch_2")
        assert jobs.pending_jobs() == {FIRST: "batch_2", SECOND: None}
        assert jobs.lists_all_requests(FIRST)
        with store.writing() as connection:
            connection.execute("DELETE FROM job_keys WHERE key = 'a'")
        assert (jobs.lists_all_requests(FIRST), jobs.lists_all_requests(SECOND)) == (False, True)
        assert jobs.lists_all_requests("none")
        jobs.end(FIRST)
        assert (jobs.keys(FIRST), jobs.job_of("b"), jobs.pending_jobs()) == ([], None, {SECOND: None})
        jobs.end("none")
        assert not caplog.messages
        jobs.begin(FIRST, ["d"])
        assert (jobs.job_of("d"), jobs.keys(SECOND)) == (FIRST, []), "a request belongs to its latest job"
    assert BatchJobs(store, "other").pending_jobs() == {}


def test_damaged_records_of_jobs_are_asked_for_by_name(store: ReplyStore, caplog: pytest.LogCaptureFixture) -> None:
    with BatchJobs(store, SERVER) as jobs:
        for name in (FIRST, SECOND):
            jobs.begin(name, [f"key of {name}"])
            jobs.mark_accepted(name, f"batch of {name[:1]}")
        with store.writing() as connection:
            connection.execute("UPDATE jobs SET remote = 'b\u0001' WHERE job = ?", (FIRST,))
            connection.execute(
                "INSERT INTO job_keys VALUES ('orphan', 'lost'), ('other', 'bad\u0001name'), ('third', 'lost')"
            )
            old = ("3" * 32, SERVER, "batch_3", "o" * 32)  # of a version without checksums
            connection.execute("INSERT INTO jobs VALUES (?, ?, ?, ?)", old)
            connection.execute("INSERT INTO jobs VALUES ('bad\u0001name', ?, 'b', 'o')", (SERVER,))
        assert jobs.pending_jobs() == {FIRST: None, SECOND: "batch of 2", "3" * 32: "batch_3", "lost": None}
        names = [
            f"{store.path}: the record of batch job {name} is damaged; asking the server for it"
            for name in (FIRST, "lost")
        ]
        assert caplog.messages == names
        assert {record.levelno for record in caplog.records} == {logging.WARNING}
        assert jobs.job_of("orphan") is None, "its job has no record"
        for name in (FIRST, "lost"):
            jobs.end(name)
        assert jobs.pending_jobs() == {SECOND: "batch of 2", "3" * 32: "batch_3"}


def test_the_record_of_another_server_is_kept_as_undamaged(store: ReplyStore) -> None:
    with BatchJobs(store, "other") as other:
        other.begin(FIRST, ["a"])
        other.mark_accepted(FIRST, "batch_1")
        with BatchJobs(store, SERVER) as jobs:
            jobs.end(FIRST)
        assert other.pending_jobs() == {FIRST: "batch_1"}
        assert (other.keys(FIRST), other.lists_all_requests(FIRST)) == (["a"], True)


def test_checksums_of_records_depend_on_every_field_and_its_place() -> None:
    rows = [
        _job_row(*fields)
        for fields in (
            ("j", "s", "r", "o", ""),
            ("k", "s", "r", "o", ""),
            ("j", "t", "r", "o", ""),
            ("j", "s", None, "o", ""),
            ("j", "s", "r", "p", ""),
            ("j", "s", "r", "o", "x"),
        )
    ]
    assert len({str(row[3]).split(" ")[1] for row in rows}) == len(rows)
    assert str(rows[5][3]) == f"o {_checksum('j', 's', 'r', 'o', 'x')} x"
    assert str(rows[0][3]) == f"o {_checksum('j', 's', 'r', 'o')}"
    assert len({_checksum(), _checksum("ab"), _checksum("a", "b"), _checksum("b", "a"), _checksum("a\udcff")}) == 5


# Creation and repair --------------------------------------------------------------------------------------------------


def test_the_settings_of_the_connection(store: ReplyStore) -> None:
    pragmas = {"synchronous": 1, "journal_mode": "wal", "busy_timeout": 60_000}
    with store.reading() as connection:
        assert {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas} == pragmas
        assert connection.isolation_level is None
        assert connection.execute("SELECT CAST(X'61FF' AS TEXT)").fetchone() == ("a\udcff",)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def without_file(path: Path) -> None:
    path.with_name("r.sqlite-wal").write_bytes(bytes(100))
    path.unlink()


def interrupted(path: Path) -> None:
    path.with_name(".r.sqlite.new").write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "reason", "count"),
    [
        (empty, "the file is empty", 0),
        (without_file, "the file is missing, but its write-ahead log exists", 0),
        (interrupted, "an earlier repair was interrupted", 1),
    ],
)
def test_a_repair_names_its_reason_and_the_kept_file(
    tmp_path: Path, damage: Callable[[Path], None], reason: str, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "r.sqlite"
    before = ReplyStore(path)
    before.put([("a" * 32, Reply("1"))])
    before.close()
    damage(path)
    store = ReplyStore(path)
    assert len(store.get(["a" * 32])) == count
    assert caplog.messages == [
        f"{path} is damaged ({reason}): {count} replies are saved, 0 are unreadable and requested again. The damaged file "
        "is kept as r.sqlite.damaged-1"
    ]
    store.close()
    assert {file.name for file in tmp_path.iterdir()} - {"r.sqlite.damaged-1", "r.sqlite.damaged-1-wal"} == {
        "r.sqlite", "r.sqlite.lock"
    }  # fmt: skip


def nothing(damaged: Path, logs: list[Path], connection: sqlite3.Connection) -> str:
    return "nothing"


def test_a_file_that_another_process_has_repaired_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    ReplyStore(path).close()
    old = path.stat()
    repair(path, SCHEMA, nothing, "test", old)
    assert (tmp_path / "r.sqlite.damaged-1").stat().st_ino == old.st_ino
    repair(path, SCHEMA, nothing, "test", old)
    repair(tmp_path / "missing", SCHEMA, nothing, "test", old)
    assert not (tmp_path / "r.sqlite.damaged-2").exists()
    assert not (tmp_path / "missing").exists()


def test_a_damaged_file_is_copied_where_a_file_has_one_name_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("this file system has no hard links")

    path = tmp_path / "r.sqlite"
    path.write_bytes(bytes(5000))
    path.chmod(0o640)
    monkeypatch.setattr(os, "link", refuse)
    ReplyStore(path).close()
    kept = tmp_path / "r.sqlite.damaged-1"
    assert (kept.read_bytes(), kept.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (bytes(5000), 0o640, 0o640)


def test_a_second_connection_of_a_process_keeps_the_locks_of_the_first(store: ReplyStore) -> None:
    """Closing a file that SQLite has open releases its locks, and two processes would write at once."""
    code = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\n"
        "try:\n    connection.execute('BEGIN IMMEDIATE')\nexcept sqlite3.OperationalError as error:\n    print(error)"
    )
    store.put([("a", Reply("1"))])
    with store.writing() as connection:
        connection.execute("INSERT INTO claims VALUES ('a', 'b')")
        second = ReplyStore(store.path)
        assert second.get(["a"]) == {"a": Reply("1")}
        done = subprocess.run([sys.executable, "-c", code, store.path], capture_output=True, text=True, check=True)
        second.close()
    assert done.stdout == "database is locked\n"
