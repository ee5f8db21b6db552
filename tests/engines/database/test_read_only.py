"""A store that other users share: permissions of its files, and use without write access."""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from toolrlef_data import answer, scripted
from toolrlef_data.engines.claims import Claims
from toolrlef_data.engines.reply_store import ReplyStore, open_store, store_path
from toolrlef_data.loading_scripts import load_source
from toolrlef_data.records import Reply, ToolrlefError

NOBODY = 65534
KEY = "a" * 32


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder that every user can enter; pytest's folders are private."""
    path = Path(tempfile.mkdtemp(prefix="toolrlef-tests-shared-"))
    path.chmod(0o755)
    yield path
    path.chmod(0o755)
    shutil.rmtree(path)


def without_write_access(folder: Path, work: Callable[[], object]) -> None:
    """Run work in a process that cannot write to a folder, and fail if it fails."""
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            work()
            os.write(writer, b"done")
        finally:
            os.write(writer, traceback.format_exc().encode())
            os._exit(0)
    os.wait()
    assert os.read(reader, 50_000).decode() == "doneNoneType: None\n"
    for end in (reader, writer):
        os.close(end)


def fill(path: Path, *, close: bool = True) -> None:
    child = os.fork()
    if child == 0:
        store = ReplyStore(path)
        store.put([(KEY, Reply("42"))])
        if close:
            store.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_stored_replies_are_read_without_write_access(folder: Path) -> None:
    path = folder / "r.sqlite"
    fill(path)

    def read() -> None:
        store = ReplyStore(path)
        assert store.get([KEY])[KEY].text == "42"
        assert (store.failures([KEY]), store.withdrawals([KEY]), store.count_withdrawals()) == ({}, {}, 0)
        with Claims(store) as claims:
            assert claims.acquire([]) == set()
        store.put([])
        store.withdraw([])

    without_write_access(folder, read)
    assert {file.name for file in folder.iterdir()} == {"r.sqlite", "r.sqlite.lock"}


@pytest.mark.parametrize("index", [True, False])
def test_log_of_a_killed_process_is_read_or_named(folder: Path, index: bool, caplog: pytest.LogCaptureFixture) -> None:
    path = folder / "r.sqlite"
    fill(path, close=False)
    if not index:
        path.with_name("r.sqlite-shm").unlink()

    def read() -> None:
        replies = ReplyStore(path).get([KEY])
        assert KEY in replies or "r.sqlite-wal cannot be read in a read-only folder" in caplog.text

    without_write_access(folder, read)


def test_store_of_an_earlier_version_lacks_tables_without_write_access(folder: Path) -> None:
    path = folder / "r.sqlite"
    store = ReplyStore(path)
    store.connection.execute("DROP TABLE withdrawn")
    store.close()

    def read() -> None:
        assert ReplyStore(path).count_withdrawals() == 0

    without_write_access(folder, read)


@pytest.mark.parametrize("missing", [False, True])
def test_new_reply_without_write_access_names_the_variable(folder: Path, missing: bool) -> None:
    path = folder / "r.sqlite"
    fill(path)

    def write() -> None:
        if missing:
            with pytest.raises(ToolrlefError, match=r"other\.sqlite cannot be used.*TOOLRLEF_REPLIES"):
                ReplyStore(folder / "other.sqlite")
            with pytest.raises(ToolrlefError, match=r"cannot be used.*TOOLRLEF_REPLIES"):
                ReplyStore(folder / "new" / "other.sqlite")
            return
        store = ReplyStore(path)
        with pytest.raises(ToolrlefError, match=r"is read-only, and a reply must be stored; .*TOOLRLEF_REPLIES"):
            store.put([("b", Reply("43"))])
        with Claims(store) as claims, pytest.raises(ToolrlefError, match="TOOLRLEF_REPLIES"):
            claims.acquire(["b"])  # before the request is sent

    without_write_access(folder, write)


@pytest.mark.parametrize("damage", ["header", "row"])
def test_damage_without_write_access_is_reported(folder: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    path = folder / "r.sqlite"
    fill(path)
    content = path.read_bytes()
    path.write_bytes(bytes(100) + content[100:] if damage == "header" else content.replace(b'["42"', b'["43"'))

    def read() -> None:
        if damage == "header":
            with pytest.raises(ToolrlefError, match=r"r.sqlite is damaged .* and read-only; TOOLRLEF_REPLIES"):
                ReplyStore(path)
        else:
            assert ReplyStore(path).get([KEY]) == {}
            assert "r.sqlite: 1 stored replies are damaged" in caplog.text

    without_write_access(folder, read)


def test_stage_without_new_requests_needs_no_write_access_to_the_store(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fresh_caches: Path
) -> None:
    monkeypatch.setenv("TOOLRLEF_REPLIES", str(folder / "r.sqlite"))
    questions = load_source("sample", split="train")
    spec = scripted({"": "The answer is 8."}, progress=False)
    child = os.fork()
    if child == 0:
        answer(questions, spec)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    shutil.rmtree(fresh_caches / "datasets", ignore_errors=True)
    questions = load_source("sample", split="train")
    for path in (fresh_caches.parent.parent, fresh_caches.parent, fresh_caches):
        path.chmod(0o755)
    for path in [fresh_caches / "datasets", *(fresh_caches / "datasets").rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)

    def run() -> None:
        assert set(answer(questions, spec)["response"][:][0]["text"]) == set("The answer is 8.")

    without_write_access(folder, run)


# Permissions ----------------------------------------------------------------------------------------------------------


def modes(path: Path) -> set[int]:
    return {file.stat().st_mode & 0o777 for file in path.parent.glob(f"{path.name}*") if file.suffix != ".lock"}


def test_only_the_owner_reads_the_store_in_the_default_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOOLRLEF_REPLIES")
    path = store_path()
    open_store().put([(KEY, Reply("42"))])
    assert path.name == "replies.sqlite"
    try:
        assert len(list(path.parent.glob("replies.sqlite-*"))) == 2
        assert modes(path) == {0o600}
    finally:
        open_store().close()
        for file in path.parent.glob("replies.sqlite*"):
            file.unlink()


def test_the_umask_decides_elsewhere_and_a_repair_keeps_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    before = os.umask(0o007)
    try:
        fill(path)
        assert modes(path) == {0o660}
        path.chmod(0o640)
        path.write_bytes(bytes(100) + path.read_bytes()[100:])
        store = ReplyStore(path)
        assert store.get([KEY])[KEY].text == "42"
        assert modes(path) == {0o640}
    finally:
        os.umask(before)
