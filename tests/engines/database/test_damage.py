"""A damaged reply store: no wrong reply is read, and no readable reply is lost."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolrlef_data.engines.claims import BatchJobs, Claims
from toolrlef_data.engines.database import connection as connection_module
from toolrlef_data.engines.database.connection import repair
from toolrlef_data.engines.database.rows import decode_reply, encode_reply
from toolrlef_data.engines.database.salvage import find_rows
from toolrlef_data.engines.database.wal import is_log_damaged
from toolrlef_data.engines.reply_store import SCHEMA, ReplyStore
from toolrlef_data.records import Reply, ToolrlefError

COUNT = 120
JOB = hashlib.md5(b"job").hexdigest()


def key_of(number: int) -> str:
    return hashlib.md5(str(number).encode()).hexdigest()


def reply_of(number: int) -> Reply:
    """Return replies of all sizes: in one page, and with one or several overflow pages."""
    text = "".join(random.Random(number).choices('abc dé"\\\n', k=(3, 150, 900, 1100, 4000, 9000)[number % 6]))
    return Reply(text, "why", (("search", '{"query": "figs"}'),) if number % 3 else (), "stop", None, "", number, 7)


REPLIES = {key_of(number): reply_of(number) for number in range(COUNT)}


def fork(work: Callable[[], object]) -> int:
    """Run work in a child process that ends at once, as if killed, and return its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fill(path: Path, *, close: bool = True) -> None:
    """Write a store with replies, failures and a batch job; without `close`, leave its write-ahead log."""

    def work() -> None:
        store = ReplyStore(path)
        for key, reply in REPLIES.items():
            store.put([(key, reply)])
        store.put([(key_of(-1), Reply(None, error="timeout", error_detail="late"))])
        with BatchJobs(store, "http://server m") as jobs:
            jobs.begin(JOB, [key_of(-2), key_of(-3)])
            jobs.mark_accepted(JOB, "batch_1")
        if close:
            store.close()
        else:
            os._exit(0)  # a store that is collected is closed

    assert fork(work) == 0


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Return the folder of a closed store, and that of a killed process."""
    folders = {close: tmp_path_factory.mktemp("store") for close in (True, False)}
    for close, folder in folders.items():
        fill(folder / "r.sqlite", close=close)
    return folders


@pytest.fixture
def path(filled: dict[bool, Path], tmp_path: Path) -> Path:
    shutil.copytree(filled[True], tmp_path / "store")
    return tmp_path / "store" / "r.sqlite"


@pytest.fixture
def killed(filled: dict[bool, Path], tmp_path: Path) -> Path:
    shutil.copytree(filled[False], tmp_path / "store")
    return tmp_path / "store" / "r.sqlite"


def overwrite(path: Path, start: int, content: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(content)


def flip(path: Path, byte: int, bit: int) -> None:
    overwrite(path, byte, bytes([path.read_bytes()[byte] ^ 1 << bit]))


def edit_row(path: Path, sql: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(sql, values)
    connection.close()


# Replies --------------------------------------------------------------------------------------------------------------


def test_every_change_of_a_stored_text_is_noticed() -> None:
    key, reply = key_of(1), reply_of(1)
    text = encode_reply(key, reply)
    assert decode_reply(key, text) == reply
    assert decode_reply(key_of(2), text) is None, "the reply of another key"
    content = text.encode()
    for byte in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[byte] ^= 1 << bit
            assert decode_reply(key, changed.decode("utf-8", "surrogateescape")) is None
        assert decode_reply(key, content[:byte].decode("utf-8", "ignore")) is None


def test_replies_without_checksum_are_read_and_left_as_they_are(path: Path) -> None:
    old = '["42","",[["search","{}"]],"stop",null,"",3,4]'
    edit_row(path, "INSERT INTO replies VALUES ('old', ?)", old)
    store = ReplyStore(path)
    assert store.get(["old"]) == {"old": Reply("42", "", (("search", "{}"),), "stop", None, "", 3, 4)}
    assert store.connection.execute("SELECT reply FROM replies WHERE key = 'old'").fetchone() == (old,)


def test_versions_without_checksums_can_read_a_reply() -> None:
    """They pair the first eight values with the fields."""
    assert encode_reply("k", Reply("42")).startswith('["42","",[],"stop",null,"",null,null,')


@pytest.mark.parametrize(
    "damaged",
    [
        *('["42","",', "", "null", "[]", "{}", "7", '["42"]', '["42","",[["a"]],"stop",null,"",1,2]', "[" * 100_000),
        *(
            b"\xff\xfe",
            5,
            1.5,
        ),
    ],
)
def test_damaged_reply_is_warned_of_once_and_replaced(
    path: Path, damaged: object, caplog: pytest.LogCaptureFixture
) -> None:
    key = key_of(0)
    edit_row(path, "UPDATE replies SET reply = ? WHERE key = ?", damaged, key)
    store = ReplyStore(path)
    assert set(store.get(list(REPLIES))) == REPLIES.keys() - {key}
    assert set(store.get(list(REPLIES))) == REPLIES.keys() - {key}
    (message,) = [record.getMessage() for record in caplog.records]
    assert str(path) in message
    assert key in message
    store.put([(key, Reply("again"))])
    assert store.get([key])[key].text == "again"


def test_reply_that_another_process_has_replaced_is_kept(path: Path) -> None:
    key = key_of(0)
    edit_row(path, "UPDATE replies SET reply = '[' WHERE key = ?", key)
    store, other = ReplyStore(path), ReplyStore(path)

    def replace_first(found: str, text: object) -> Reply | None:
        if (reply := decode_reply(found, text)) is None:
            other.get([key])
            other.put([(key, Reply("of the other"))])
        return reply

    assert store.get_as([key], replace_first) == {}
    assert store.get([key])[key].text == "of the other"


# Files ----------------------------------------------------------------------------------------------------------------


def damage(path: Path, kind: str, rng: random.Random) -> None:
    size = path.stat().st_size
    start = rng.randrange(size)
    if kind == "flip":
        flip(path, start if rng.random() < 0.5 else rng.randrange(min(size, 100)), rng.randrange(8))
    elif kind == "random":
        overwrite(path, start, rng.randbytes(min(size - start, rng.randrange(1, 5000))))
    elif kind == "zero":
        overwrite(path, start, bytes(min(size - start, rng.choice([10, 4096, 20_000]))))
    else:
        os.truncate(path, 0 if kind == "empty" else start)


@pytest.mark.parametrize("seed", range(24))
def test_random_damage(filled: dict[bool, Path], tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(seed)
    closed = rng.random() < 0.5
    path = tmp_path / "store" / "r.sqlite"
    shutil.copytree(filled[closed], path.parent)
    damaged = path if closed else path.with_name(f"r.sqlite{rng.choice(['', '-wal', '-shm'])}")
    kind = rng.choice(["flip", "random", "zero", "cut", "empty"])
    damage(damaged, kind, rng)
    store = ReplyStore(path)
    replies = store.get(list(REPLIES))
    assert all(reply == REPLIES[key] for key, reply in replies.items()), "no wrong reply"
    if len(replies) < COUNT:
        assert str(path) in caplog.text
    with Claims(store) as claims:
        assert claims.acquire([key for key in REPLIES if key not in replies]) == set()
        store.put(REPLIES.items())
        assert store.get(list(REPLIES)) == REPLIES
    with BatchJobs(store, "http://server m") as jobs:
        assert jobs.pending_jobs().keys() <= {JOB}
    store.failures([key_of(-1)])
    store.count_withdrawals()
    store.close()


@pytest.mark.parametrize("part", ["start", "header", "first page"])
def test_no_reply_is_lost_with_the_header(path: Path, part: str, caplog: pytest.LogCaptureFixture) -> None:
    start, content = {
        "start": (0, bytes(16)),
        "header": (0, bytes(100)),
        "first page": (0, bytes(4096)),
    }[part]
    overwrite(path, start, content)
    before = path.read_bytes()
    store = ReplyStore(path)
    assert store.get(list(REPLIES)) == REPLIES
    assert f"{COUNT} replies are saved, 0 are unreadable" in caplog.text
    assert path.with_name("r.sqlite.damaged-1").read_bytes() == before, "a damaged file is kept"
    with BatchJobs(store, "http://server m") as jobs:
        assert jobs.pending_jobs() == {JOB: "batch_1"}
        assert jobs.job_of(key_of(-3)) == JOB
    store.close()
    overwrite(path, 0, bytes(16))
    assert ReplyStore(path).get(list(REPLIES)) == REPLIES
    assert path.with_name("r.sqlite.damaged-2").exists()


@pytest.mark.parametrize("has_ended", [True, False])
def test_replies_of_batch_jobs_do_not_count_as_withdrawn(tmp_path: Path, has_ended: bool) -> None:
    """An entry of the index of `job_keys` looks like a withdrawn reply."""
    path = tmp_path / "r.sqlite"
    keys = [key_of(number) for number in range(300)]
    store = ReplyStore(path)
    with Claims(store) as claims:
        claims.acquire(keys)
        with BatchJobs(store, "http://server m") as jobs:
            jobs.begin(JOB, keys[:200])
            jobs.mark_accepted(JOB, "batch_1")
            store.put([(key, Reply(key)) for key in keys])
            if has_ended:
                jobs.end(JOB)
    store.withdraw([keys[0], keys[250]])
    store.close()
    overwrite(path, 0, bytes(100))
    store = ReplyStore(path)
    assert len(store.get(keys)) >= 298
    assert keys[250] not in store.get(keys)
    with BatchJobs(store, "http://server m") as jobs:
        assert jobs.pending_jobs() == ({} if has_ended else {JOB: "batch_1"})
        assert sorted(jobs.keys(JOB)) == ([] if has_ended else sorted(keys[:200]))
    store.close()


def test_every_field_of_the_header_may_be_damaged(path: Path) -> None:
    for byte in (3, 17, 18, 19, 20, 22, 31, 35, 44, 52, 59, 64):
        flip(path, byte, byte % 8)
        store = ReplyStore(path)
        if byte == 18:  # the version of the format for writing: noticed at the first write
            with pytest.raises(ToolrlefError, match="was damaged"):
                store.put([("a", Reply("42"))])
        store.put([(f"{byte}", Reply("42"))])
        assert len(store.get([f"{byte}", *REPLIES])) == COUNT + 1, f"byte {byte}"
        store.close()


def test_withdrawn_replies_are_not_final_after_a_repair(path: Path) -> None:
    store = ReplyStore(path)
    store.withdraw([key_of(0)])
    store.close()
    overwrite(path, 0, bytes(16))
    store = ReplyStore(path)
    assert set(store.get(list(REPLIES))) == REPLIES.keys() - {key_of(0)}
    assert store.failures([key_of(0)]) == {key_of(0): REPLIES[key_of(0)]}
    assert store.withdrawals([key_of(0)]) == {key_of(0): 1}


def test_table_whose_name_is_damaged_is_not_replaced_by_an_empty_one(path: Path) -> None:
    content = path.read_bytes()
    overwrite(path, content.index(b"replies"), b"rfplies")
    assert ReplyStore(path).get(list(REPLIES)) == REPLIES


def test_damage_during_the_run_is_repaired(path: Path) -> None:
    store = ReplyStore(path)
    root = store.connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'replies'").fetchone()[0]
    overwrite(path, (root - 1) * 4096, b"\xff" * 50)
    store.connection.execute("PRAGMA cache_size=0")
    with pytest.raises(ToolrlefError, match=r"r.sqlite was damaged; its readable replies are saved: run again"):
        store.get(list(REPLIES))
    assert len(store.get(list(REPLIES))) >= COUNT - 1, "a root page has one reply at most"


@pytest.mark.parametrize("size", [0, 16, 40, 500, 4000])
def test_cut_file_is_replaced(path: Path, size: int, caplog: pytest.LogCaptureFixture) -> None:
    os.truncate(path, size)
    assert ReplyStore(path).get(list(REPLIES)) == {}
    assert path.with_name("r.sqlite.damaged-1").stat().st_size == size
    assert str(path) in caplog.text


@pytest.mark.parametrize("content", [b"notes, and not a database" * 400, b"\x89PNG" + bytes(5000)])
def test_file_of_another_program_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes"
    path.write_bytes(content)
    with pytest.raises(ToolrlefError, match="is not a usable reply store"):
        ReplyStore(path)
    assert path.read_bytes() == content
    assert {file.name for file in tmp_path.iterdir()} <= {"notes", "notes.lock"}


def test_database_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "places.sqlite"
    edit_row(path, "CREATE TABLE places (name TEXT)")
    content = path.read_bytes()
    with pytest.raises(ToolrlefError, match="a database of another program: expected the table replies, found places"):
        ReplyStore(path)
    assert path.read_bytes() == content


def test_store_of_an_earlier_version_gets_the_tables_it_lacks(path: Path) -> None:
    edit_row(path, "DROP TABLE withdrawn")
    store = ReplyStore(path)
    store.withdraw([key_of(0)])
    assert store.count_withdrawals() == 1
    assert len(store.get(list(REPLIES))) == COUNT - 1


# Write-ahead logs -----------------------------------------------------------------------------------------------------


def frames_of(log: Path) -> int:
    return (log.stat().st_size - 32) // (4096 + 24)


def index_of(log: Path) -> Path:
    return log.with_name("r.sqlite-shm")


@pytest.mark.parametrize("size", [None, 0, 20, 32, 500, 0.3, 0.99])
def test_a_cut_log_is_warned_of_once(killed: Path, size: float | None, caplog: pytest.LogCaptureFixture) -> None:
    log = killed.with_name("r.sqlite-wal")
    if size is None:
        log.unlink()
    else:
        os.truncate(log, size if isinstance(size, int) else int(size * log.stat().st_size))
    store = ReplyStore(killed)
    assert len(store.get(list(REPLIES))) < COUNT or size == 0.99
    store.put(REPLIES.items())
    store.close()
    assert ReplyStore(killed).get(list(REPLIES)) == REPLIES
    (record,) = caplog.records
    assert f"{log} was cut or removed" in record.getMessage()


def test_a_damaged_last_transaction_is_noticed(killed: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = killed.with_name("r.sqlite-wal")
    overwrite(log, log.stat().st_size - 2 * 4120, bytes(2 * 4120))
    assert ReplyStore(killed).get(list(REPLIES)) == REPLIES
    assert "frames of its write-ahead log have wrong checksums" in caplog.text


def test_no_log_of_a_running_or_killed_process_counts_as_cut(
    killed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Copies of the files at any moment are those of a process that is killed then."""
    store = ReplyStore(killed)
    for number in range(60):
        store.put([(f"new {number}", Reply("x" * 5000))])
        if number % 7 == 3:
            store.connection.execute(f"PRAGMA wal_checkpoint({('PASSIVE', 'RESTART', 'TRUNCATE')[number % 3]})")
        copy = tmp_path / str(number)
        shutil.copytree(killed.parent, copy)
        assert len(ReplyStore(copy / "r.sqlite").get([f"new {n}" for n in range(number + 1)])) == number + 1
    assert not caplog.records


def test_replies_after_a_damaged_frame_are_recovered(killed: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = killed.with_name("r.sqlite-wal")
    flip(log, 32 + 24 + 17, 3)
    store = ReplyStore(killed)
    assert len(store.get(list(REPLIES))) >= COUNT - 1
    assert "frames of its write-ahead log have wrong checksums" in caplog.text
    assert killed.with_name("r.sqlite.damaged-1-wal").exists()


def test_damage_of_each_frame_is_noticed(killed: Path) -> None:
    log = killed.with_name("r.sqlite-wal")
    count, content = frames_of(log), log.read_bytes()
    assert count > 100
    assert not is_log_damaged(log, index_of(log))
    rng = random.Random(0)
    for frame in rng.sample(range(count - 10), 30):
        flip(log, 32 + frame * 4120 + rng.choice([8, 9, 16, 20, 24, 4000]), rng.randrange(8))
        assert is_log_damaged(log, index_of(log)), f"frame {frame}"
        log.write_bytes(content)
    for byte in range(32):
        flip(log, byte, rng.randrange(8))
        assert is_log_damaged(log, index_of(log)), f"byte {byte} of the header"
        log.write_bytes(content)


def test_logs_of_live_and_killed_processes_are_undamaged(killed: Path) -> None:
    log = killed.with_name("r.sqlite-wal")
    store = ReplyStore(killed)
    for number in range(30):  # begins the log again, with older frames after the newer ones
        store.connection.execute("PRAGMA wal_checkpoint(RESTART)")
        store.put([(f"new {number}", Reply("x" * 5000))])
        assert not is_log_damaged(log, index_of(log))
    content = log.read_bytes()
    for size in (0, 5, 32, 40, 56, 3000, 32 + 4120, len(content) - 1):
        log.write_bytes(content[:size])
        assert not is_log_damaged(log, index_of(log)), "a killed process leaves an incomplete frame"
    log.write_bytes(content)


def test_log_of_a_missing_file_is_not_applied_to_a_new_one(killed: Path) -> None:
    killed.unlink()
    assert ReplyStore(killed).get(list(REPLIES)) == REPLIES
    assert killed.with_name("r.sqlite.damaged-1-wal").exists()


# Processes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["header", "log"])
def test_one_process_repairs_and_the_others_wait(
    path: Path, filled: dict[bool, Path], tmp_path: Path, state: str
) -> None:
    if state == "log":
        shutil.copytree(filled[False], path.parent, dirs_exist_ok=True)
        overwrite(path.with_name("r.sqlite-wal"), 32 + 24, bytes(50))
    else:
        overwrite(path, 0, bytes(100))

    def work(name: str) -> None:
        logging.basicConfig(filename=tmp_path / f"{name}.log", force=True)
        for number in range(10):
            store = ReplyStore(path)
            with Claims(store) as claims:
                claims.acquire([f"{name} {number}"])
                store.put([(f"{name} {number}", Reply(name))])

    children = []
    for name in "abcd":
        if (child := os.fork()) == 0:
            status = 1
            try:
                work(name)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    store = ReplyStore(path)
    assert len(store.get([f"{name} {number}" for name in "abcd" for number in range(10)])) == 40
    assert len(store.get(list(REPLIES))) >= COUNT - 1
    warnings = [line for file in tmp_path.glob("*.log") for line in file.read_text().splitlines()]
    assert len(warnings) == 1
    assert str(path) in warnings[0]
    assert len(list(path.parent.glob("r.sqlite.damaged-?"))) == 1


@pytest.mark.parametrize("step", ["copymode", "keep", "second keep", "unlink", "replace", "after"])
def test_killed_repair_loses_nothing(killed: Path, step: str) -> None:
    flip(killed.with_name("r.sqlite-wal"), 32 + 24 + 17, 3)
    module = connection_module

    def die(*arguments: object) -> None:
        os._exit(9)

    def work() -> None:
        keep = module._keep
        kept: list[Any] = []

        def keep_first(path: Path, name: Path) -> None:
            keep(path, name) if not kept else die()
            kept.append(path)

        with pytest.MonkeyPatch.context() as patch:
            if step == "copymode":
                patch.setattr(shutil, "copymode", die)
            elif step == "keep":
                patch.setattr(module, "_keep", die)
            elif step == "second keep":
                patch.setattr(module, "_keep", keep_first)
            elif step == "unlink":
                unlink = Path.unlink
                patch.setattr(Path, "unlink", lambda p, **k: die() if p.name.endswith("-shm") else unlink(p, **k))
            elif step == "replace":
                patch.setattr(os, "replace", die)
            else:
                patch.setattr(module.log, "warning", die)
            ReplyStore(killed)

    assert fork(work) == 9
    assert len(ReplyStore(killed).get(list(REPLIES))) >= COUNT - 1
    assert len(list(killed.parent.glob("r.sqlite.damaged-?"))) == 1
    assert len(list(killed.parent.glob("r.sqlite.damaged-?-wal"))) == 1
    assert not list(killed.parent.glob(".*"))


def test_reply_stored_while_another_process_repairs_is_kept(path: Path) -> None:
    """The process that repairs may have read the old file before the reply is committed to it."""
    store = ReplyStore(path)
    replaced: list[Any] = []

    def replace_file(statement: str) -> None:
        if statement == "COMMIT" and not replaced:
            replaced.append(path)
            repair(path, SCHEMA, lambda damaged, logs, connection: "nothing", "test", path.stat())

    store.connection.set_trace_callback(replace_file)
    store.put([("late", Reply("42"))])
    assert replaced
    assert ReplyStore(path).get(["late"])["late"].text == "42"


# The format of SQLite -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [512, 1024, 4096, 16384])
def test_rows_of_every_length_are_found(tmp_path: Path, page_size: int) -> None:
    rows = {key_of(length): "x" * length for length in [*range(60), *range(400, 560, 3), *range(900, 20_000, 331)]}
    path = tmp_path / "rows.sqlite"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA page_size={page_size}")
    connection.execute("CREATE TABLE t (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
    connection.execute("CREATE TABLE u (key TEXT PRIMARY KEY, number INTEGER)")
    with connection:
        connection.executemany("INSERT INTO t VALUES (?, ?)", rows.items())
        connection.executemany("INSERT INTO u VALUES (?, ?)", [(key_of(-n), n * n * n - 5) for n in range(1, 200, 9)])
    connection.close()
    found = set(find_rows(path, []))
    assert found >= set(rows.items())
    assert {row for row in found if isinstance(row[1], int)} >= {(key_of(-n), n * n * n - 5) for n in range(1, 200, 9)}
