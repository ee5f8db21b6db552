"""Stores that are copied into another one: nothing is written to them, and an unusable one costs no other reply."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import sqlite3
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from toolrlef_data import InputError, merge_replies
from toolrlef_data.engines.database.sources import open_source
from toolrlef_data.engines.reply_store import SCHEMA, ReplyStore
from toolrlef_data.records import Reply, ToolrlefError

NOBODY = 65534
KEYS = [hashlib.md5(str(number).encode()).hexdigest() for number in range(40)]
KILLED: list[ReplyStore] = []
KNOWN = hashlib.md5(b"known").hexdigest()


def in_child(work: Callable[[], object], *, as_nobody: bool = False) -> None:
    """Run work in a process that ends as if it was killed, and fail if it fails."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            if as_nobody and os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            work()
            os.write(writer, b"done")
        except BaseException:  # noqa: BLE001  # the failure is reported by the parent
            os.write(writer, traceback.format_exc().encode()[-50_000:])
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert pipe.read().decode() == "done"


def fill(path: Path, keys: list[str], *, close: bool = True) -> Path:
    """Write a store, whose replies are withdrawn once for every third key; without `close`, leave its log."""

    def work() -> None:
        store = ReplyStore(path)
        store.put([(key, Reply("withdrawn")) for key in keys[::3]])
        store.withdraw(keys[::3])
        for key in keys:
            store.put([(key, Reply(f"{key} {'x' * 500}"))])
        if close:
            store.close()
        else:
            KILLED.append(store)  # a store that is collected is closed

    in_child(work)
    return path


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Return the folder of a closed store, and that of a killed process."""
    folders = {close: tmp_path_factory.mktemp("store") for close in (True, False)}
    for close, folder in folders.items():
        fill(folder / "r.sqlite", KEYS, close=close)
    return folders


@pytest.fixture
def copy(filled: dict[bool, Path], tmp_path: Path) -> Callable[[bool], Path]:
    """Return a function that returns a store of its own, closed or with the log of a killed process."""
    return lambda close: Path(shutil.copytree(filled[close], tmp_path / "source")) / "r.sqlite"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "out.sqlite"
    store = ReplyStore(path)
    store.put([(KNOWN, Reply("known"))])
    store.close()
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, apart from the index of a log, which readers also use for their locks."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}


def texts_in(path: Path) -> dict[str, str | None]:
    store = ReplyStore(path)
    try:
        return {key: reply.text for key, reply in store.get([KNOWN, *KEYS]).items()}
    finally:
        store.close()


@contextlib.contextmanager
def edited(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        yield connection


@pytest.mark.parametrize("close", [True, False])
def test_a_copied_store_stays_as_it_is(copy: Callable[[bool], Path], out: Path, close: bool) -> None:
    source = copy(close)
    before, names = contents(source.parent), {path.name for path in source.parent.iterdir()}
    assert len(names) == (2 if close else 4), "with the lock of its creation"
    (count,) = merge_replies(out, [source])
    assert (count.added, count.known, count.damaged) == (len(KEYS), 0, 0)
    assert texts_in(out) == {KNOWN: "known", **{key: f"{key} {'x' * 500}" for key in KEYS}}
    assert contents(source.parent) == before
    assert {path.name for path in source.parent.iterdir()} == names, "no file is left beside it"
    merged = ReplyStore(out)
    assert merged.withdrawals(KEYS) == dict.fromkeys(KEYS[::3], 1)
    merged.close()


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def spoil(path: Path, start: int, count: int) -> None:
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(bytes(count))


LOG = "r.sqlite-wal"
# Kind of damage -> (whether the store is closed, what damages it, part of the message).
DAMAGE: dict[str, tuple[bool, Callable[[Path], object], str]] = {
    "header": (True, lambda path: spoil(path, 0, 100), "file is not a database"),
    "page": (True, lambda path: spoil(path, path.stat().st_size // 4096 // 2 * 4096, 4096), "."),
    "cut": (True, cut, "."),
    "empty": (True, lambda path: os.truncate(path, 0), "the file is empty"),
    "interrupted repair": (
        True,
        lambda path: path.with_name(".r.sqlite.new").touch(),
        "an earlier repair was interrupted",
    ),
    "frame": (False, lambda path: spoil(path.with_name(LOG), 32 + 24 + 17, 20), "frames of its write-ahead log"),
    "cut log": (False, lambda path: cut(path.with_name(LOG)), "r.sqlite-wal was cut or removed"),
    "removed log": (False, lambda path: path.with_name(LOG).unlink(), "r.sqlite-wal was cut or removed"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_store_is_named_and_left_as_it_is(
    kind: str, copy: Callable[[bool], Path], out: Path, tmp_path: Path
) -> None:
    """And the advice repairs it."""
    close, spoil_it, message = DAMAGE[kind]
    source = copy(close)
    spoil_it(source)
    before = contents(source.parent)
    good = fill(tmp_path / "good.sqlite", KEYS[:2])
    pattern = (
        rf"^{re.escape(str(source))} is damaged \(.*{message}.*\), and a store that is copied is not changed\. .* first"
    )
    with pytest.raises(ToolrlefError, match=pattern) as raised:
        merge_replies(out, [good, source])
    assert "TOOLRLEF_REPLIES" not in str(raised.value)
    assert contents(source.parent) == before
    assert set(texts_in(out)) == {KNOWN, *KEYS[:2]}, "what the target had, and the store before"
    merge_replies(source, [out])
    assert {KNOWN, *KEYS[:2]} <= set(texts_in(source))
    if close and kind not in ("cut", "empty", "page"):
        assert set(texts_in(source)) >= {*KEYS} - {*KEYS[::3]}, "withdrawn replies are asked for again"
    assert merge_replies(out, [source])[0].damaged == 0, "it is repaired"


@pytest.mark.parametrize("content", [b"notes, and not a database" * 400, b""])
def test_what_is_no_store_is_not_changed(tmp_path: Path, out: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(ToolrlefError, match=r"notes\.txt is damaged"):
        merge_replies(out, [path])
    assert path.read_bytes() == content
    assert not list(tmp_path.glob("notes.txt?*"))


def test_a_database_of_another_program_is_named(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "places.sqlite"
    with edited(path) as connection:
        connection.execute("CREATE TABLE places (name TEXT)")
    with pytest.raises(InputError, match=r"places.sqlite is not a usable reply store: a database of another program"):
        merge_replies(out, [path])


def test_a_store_of_an_earlier_version_is_copied(copy: Callable[[bool], Path], out: Path) -> None:
    source = copy(True)
    with edited(source) as connection:
        connection.execute("DROP TABLE withdrawn")
        connection.execute("DROP TABLE jobs")
    assert merge_replies(out, [source])[0].added == len(KEYS)
    with edited(source) as connection:
        assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'withdrawn'").fetchall()


def test_rows_are_not_believed_if_another_process_wrote_meanwhile(copy: Callable[[bool], Path]) -> None:
    source = copy(True)

    def read_while_another_writes() -> None:
        with open_source(source, SCHEMA) as connection:
            assert connection.execute("SELECT COUNT(*) FROM replies").fetchone() == (len(KEYS),)
            fill(source, ["f" * 32])

    with pytest.raises(
        ToolrlefError, match=r"^another process has written to .*r\.sqlite while it was read: merge again$"
    ):
        read_while_another_writes()
    store = ReplyStore(source)
    with open_source(source, SCHEMA) as connection:  # one that is in use is read like by any other process
        store.put([("e" * 32, Reply("new"))])
        assert connection.execute("SELECT COUNT(*) FROM replies").fetchone() == (len(KEYS) + 2,)
    store.close()


# Other users ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def shared() -> Iterator[Path]:
    """Yield a folder that every user can enter; pytest's folders are private."""
    path = Path(tempfile.mkdtemp(prefix="toolrlef-tests-copied-"))
    path.chmod(0o755)
    yield path
    for folder in (path, *path.iterdir()):
        folder.chmod(0o755)
    shutil.rmtree(path)


@pytest.mark.parametrize("file", ["r.sqlite", "r.sqlite-wal"])
def test_a_store_that_the_user_may_not_read_is_named_with_its_owner(
    filled: dict[bool, Path], shared: Path, file: str
) -> None:
    source = Path(shutil.copytree(filled[False], shared / "source")) / "r.sqlite"
    source.parent.chmod(0o755)
    mode = 0o600 if os.geteuid() == 0 else 0o000
    for path in source.parent.iterdir():
        path.chmod(mode if path.name == file else 0o644)
    (shared / "mine").mkdir()
    (shared / "mine").chmod(0o777)
    before = contents(source.parent) if os.geteuid() == 0 else None

    def work() -> None:
        own = fill(shared / "mine" / "own.sqlite", KEYS[:2])
        with pytest.raises(ToolrlefError) as raised:
            merge_replies(shared / "mine" / "out.sqlite", [own, source])
        owner = r"\w+ and has the mode 0[06]00"
        assert re.match(rf"cannot read {shared}/source/{file}: it belongs to the user {owner}\. Its", str(raised.value))
        assert "TOOLRLEF_REPLIES" not in str(raised.value)
        assert not (shared / "mine" / "out.sqlite").exists(), "it is noticed before the target is created"

    in_child(work, as_nobody=True)
    assert before is None or contents(source.parent) == before


@pytest.mark.parametrize("index", [True, False])
def test_a_log_in_a_folder_without_access_is_read_or_an_error(
    filled: dict[bool, Path], shared: Path, index: bool
) -> None:
    source = Path(shutil.copytree(filled[False], shared / "source")) / "r.sqlite"
    if not index:
        source.with_name("r.sqlite-shm").unlink()
    for path in source.parent.iterdir():
        path.chmod(0o444)
    source.parent.chmod(0o555)
    (shared / "mine").mkdir()
    (shared / "mine").chmod(0o777)

    def work() -> None:
        out, error = shared / "mine" / "out.sqlite", ""
        try:
            merge_replies(out, [source])
        except ToolrlefError as raised:
            error = str(raised)
        if error:
            assert "cannot be read" in error
            assert "copy it, and its -wal, to a folder that can be written" in error
            moved = Path(shutil.copytree(source.parent, shared / "mine" / "copy"))
            for path in (moved, *moved.iterdir()):
                path.chmod(0o755)
            merge_replies(out, [moved / "r.sqlite"])
        assert set(texts_in(out)) == set(KEYS)

    in_child(work, as_nobody=True)


def test_a_target_that_cannot_be_written_is_named(filled: dict[bool, Path], shared: Path) -> None:
    target = fill(shared / "theirs.sqlite", KEYS[:1])
    source = Path(shutil.copytree(filled[True], shared / "source")) / "r.sqlite"
    for path, mode in ((target, 0o444), (source, 0o444), (source.parent, 0o755), (shared, 0o555)):
        path.chmod(mode)

    def work() -> None:
        for out in (target, shared / "new.sqlite"):
            with pytest.raises(ToolrlefError, match=rf"^{out} cannot be written: choose another file for the replies"):
                merge_replies(out, [source])

    in_child(work, as_nobody=True)


def test_a_store_in_a_folder_that_the_user_may_not_enter_is_named(filled: dict[bool, Path], shared: Path) -> None:
    source = Path(shutil.copytree(filled[True], shared / "source")) / "r.sqlite"
    source.parent.chmod(0o700 if os.geteuid() == 0 else 0o000)
    own = Path(shutil.copy(filled[True] / "r.sqlite", shared))
    own.chmod(0o644)

    def work() -> None:
        with pytest.raises(ToolrlefError, match=rf"^cannot read {source} \(Permission denied\): ask the owner"):
            merge_replies(shared / "out.sqlite", [source])
        with pytest.raises(ToolrlefError, match=r"^the reply store .*out\.sqlite cannot be used: .*Permission denied"):
            merge_replies(source.parent / "new" / "out.sqlite", [own])

    in_child(work, as_nobody=True)
