"""Claims of processes that start and end at the same moment, and damaged records of batch jobs."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest

from toolrlef_data.engines.claims import BatchJobs, Claims
from toolrlef_data.engines.reply_store import ReplyStore
from toolrlef_data.records import ToolrlefError

JOB = "0123456789abcdef" * 2


@pytest.mark.parametrize("error", [FileExistsError, FileNotFoundError])
def test_a_folder_that_another_process_removes_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    """`mkdir` finds a folder that is gone before it checks its type, or the folder is gone after `mkdir`."""
    mkdir, calls = Path.mkdir, []

    def raced_mkdir(path: Path, *args: Any, **options: Any) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise error(str(path))
        mkdir(path, *args, **options)

    store = ReplyStore(tmp_path / "replies.sqlite")
    monkeypatch.setattr(Path, "mkdir", raced_mkdir)
    with Claims(store) as claims:
        assert claims.acquire(["key"]) == set()
        assert calls[0] == calls[1] == tmp_path / "replies.sqlite.owners"
    store.close()


def test_a_file_in_place_of_the_folder_of_owners_is_an_error(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "replies.sqlite")
    (tmp_path / "replies.sqlite.owners").write_text("mine")
    with pytest.raises(ToolrlefError, match=r"replies.sqlite.owners must be a folder"), Claims(store) as claims:
        claims.acquire(["key"])
    assert (tmp_path / "replies.sqlite.owners").read_text() == "mine"
    store.close()


def test_a_link_to_nothing_in_place_of_the_folder_of_owners_is_an_error(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "r.sqlite")
    (tmp_path / "r.sqlite.owners").symlink_to(tmp_path / "nothing")
    with pytest.raises(ToolrlefError, match="must be a folder for the locks of runs"), Claims(store) as claims:
        claims.acquire(["key"])
    store.close()


def test_a_run_starts_while_other_processes_remove_the_folder_of_owners(tmp_path: Path) -> None:
    store, folder, is_done = ReplyStore(tmp_path / "r.sqlite"), tmp_path / "r.sqlite.owners", threading.Event()

    def remove_and_create() -> None:
        while not is_done.is_set():
            with contextlib.suppress(OSError):
                folder.mkdir()
                folder.rmdir()

    other = threading.Thread(target=remove_and_create)
    other.start()
    try:
        for number in range(100):
            with Claims(store) as claims:
                assert claims.acquire([f"{number}"]) == set()
    finally:
        is_done.set()
        other.join()
    store.close()


def test_the_claims_of_a_killed_run_pass_to_the_next_one(tmp_path: Path) -> None:
    """The operating system releases its lock; its claims and its file stay."""
    store = ReplyStore(tmp_path / "replies.sqlite")
    killed = Claims(store)
    assert killed.acquire(["a", "b"]) == set()
    killed.lock.release()
    with Claims(store) as second, Claims(store) as third:
        assert second.acquire(["a"]) == set()
        assert not (killed.folder / killed.name).exists()
        assert third.acquire(["a", "b"]) == {"a"}
        third.release(["a", "b"])
        assert Claims(store).acquire(["a"]) == {"a"}, "a run releases its own claims only"
    store.close()


def test_the_files_of_a_killed_run_are_removed_by_the_next_one(tmp_path: Path) -> None:
    """They have the prompts of a batch job."""
    store = ReplyStore(tmp_path / "replies.sqlite")
    killed = BatchJobs(store, "http://server/v1 m")
    killed.make_files()
    (killed.files / "job.jsonl").write_text("prompts")
    with BatchJobs(store, "http://server/v1 m") as live:
        live.make_files()
        assert live.files.stat().st_mode & 0o777 == 0o700
        with Claims(store) as other:
            other.start()
        assert (killed.files / "job.jsonl").exists(), "its run is alive"
        killed.lock.release()
        with Claims(store) as other:
            other.start()
        assert not killed.files.exists()
        assert live.files.is_dir()
    assert not live.folder.exists()
    store.close()


def test_a_run_finds_the_jobs_of_its_server_and_model_only(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "replies.sqlite")
    servers = {"http://server/v1 m": "1" * 32, "http://server/v1 n": "2" * 32, "http://other/v1 m": "3" * 32}
    for server, job in servers.items():
        with BatchJobs(store, server) as jobs:
            jobs.begin(job, [f"key of {job}"])
            jobs.mark_accepted(job, f"batch of {server}")
    for server, job in servers.items():
        with BatchJobs(store, server) as jobs:
            assert jobs.pending_jobs() == {job: f"batch of {server}"}
    store.close()


@pytest.mark.parametrize("column", ["server", "remote", "owner"])
def test_each_changed_character_of_a_job_record_is_noticed(
    tmp_path: Path, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = ReplyStore(tmp_path / "replies.sqlite")
    with BatchJobs(store, "http://server/v1 m") as jobs:
        jobs.begin(JOB, ["a" * 32])
        jobs.mark_accepted(JOB, "batch_1")
    with BatchJobs(store, "http://server/v1 m") as jobs:
        assert jobs.pending_jobs() == {JOB: "batch_1"}
        assert not caplog.records
        (value,) = store.connection.execute(f"SELECT {column} FROM jobs").fetchone()
        changed = [value[:i] + chr(ord(value[i]) ^ 1) + value[i + 1 :] for i in range(len(value)) if value[i] != " "]
        for text in [*changed, value[:-1], ""]:
            store.connection.execute(f"UPDATE jobs SET {column} = ?", (text,))
            assert jobs.pending_jobs() == {JOB: None} or (column == "owner" and len(text) <= 33)
    assert str(tmp_path / "replies.sqlite") in caplog.text
    store.close()


def test_a_damaged_record_of_another_server_is_kept_and_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ReplyStore(tmp_path / "replies.sqlite")
    with BatchJobs(store, "http://other/v1 m") as jobs:
        jobs.begin(JOB, ["a" * 32])
        jobs.mark_accepted(JOB, "batch_1")
    store.connection.execute("UPDATE jobs SET remote = 'batch_3'")
    for _ in range(2):
        with BatchJobs(store, "http://server/v1 m") as jobs:
            for job in jobs.pending_jobs():
                jobs.end(job)  # this server does not know it
    assert len(caplog.records) == 1
    with BatchJobs(store, "http://other/v1 m") as jobs:
        assert jobs.pending_jobs() == {JOB: "batch_3"}, "the server is asked, and then looks for the name"
        jobs.end(JOB)
        assert jobs.pending_jobs() == {}
    store.close()
