"""Merged reply stores: the first reply of a key stays, nothing damaged or unfinished is copied."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import pytest

from toolrlef_data import InputError, merge_replies
from toolrlef_data.engines.claims import BatchJobs
from toolrlef_data.engines.database.merging import PAGE_ROWS
from toolrlef_data.engines.reply_store import ReplyStore
from toolrlef_data.records import Reply


def store(path: Path, texts: Mapping[str, str]) -> Path:
    with contextlib.closing(ReplyStore(path)) as opened:
        opened.put([(key, Reply(text)) for key, text in texts.items()])
    return path


def texts_in(path: Path, keys: list[str]) -> dict[str, str | None]:
    with contextlib.closing(ReplyStore(path)) as opened:
        return {key: reply.text for key, reply in opened.get(keys).items()}


def test_the_first_reply_of_a_key_stays(tmp_path: Path) -> None:
    out = store(tmp_path / "out", {"a": "old"})
    parts = [store(tmp_path / "1", {"a": "new", "b": "1"}), store(tmp_path / "2", {"b": "2", "c": "3"})]
    counts = merge_replies(out, parts)
    assert [(count.added, count.known, count.damaged) for count in counts] == [(1, 1, 0), (1, 1, 0)]
    assert texts_in(out, ["a", "b", "c"]) == {"a": "old", "b": "1", "c": "3"}
    assert [count.added for count in merge_replies(out, parts)] == [0, 0]


def test_all_pages_are_copied(tmp_path: Path) -> None:
    texts = {f"{n:064x}": str(n) for n in range(2 * PAGE_ROWS + 1)}
    (count,) = merge_replies(tmp_path / "out", [store(tmp_path / "1", texts)])
    assert count.added == len(texts)
    assert texts_in(tmp_path / "out", list(texts)) == texts


def test_damaged_replies_and_failures_are_not_copied(tmp_path: Path) -> None:
    path = store(tmp_path / "1", {"a": "fine", "b": "fine"})
    with contextlib.closing(ReplyStore(path)) as opened:
        opened.put([("c", Reply(None, error="timeout"))])
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE replies SET reply = replace(reply, 'fine', 'fime') WHERE key = 'b'")
        connection.commit()
    (count,) = merge_replies(tmp_path / "out", [path])
    assert (count.added, count.damaged) == (1, 1)
    assert texts_in(tmp_path / "out", ["a", "b", "c"]) == {"a": "fine"}
    assert texts_in(path, ["a"]) == {"a": "fine"}, "a copied store is not changed"


def test_a_store_with_pending_batch_jobs_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Their requests would be sent and paid again by a run that has the merged store alone."""
    path = store(tmp_path / "1", {"a": "1"})
    with contextlib.closing(ReplyStore(path)) as opened, BatchJobs(opened, "server") as jobs:
        jobs.begin("j" * 32, ["b", "c"])
        assert opened.count_jobs() == 1
    merge_replies(tmp_path / "out", [path, store(tmp_path / "2", {"d": "1"})])
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} has 1 pending batch jobs, whose replies are not copied: run what has submitted them again, and merge again"
    ]


def test_a_withdrawn_reply_keeps_its_count(tmp_path: Path) -> None:
    """Otherwise the stage cache would have the rows from before the withdrawal under the same key."""
    path = store(tmp_path / "1", {"a": "first", "b": "1"})
    with contextlib.closing(ReplyStore(path)) as opened:
        opened.withdraw(["a"])
        opened.put([("a", Reply("second"))])
    merge_replies(tmp_path / "out", [path])
    with contextlib.closing(ReplyStore(tmp_path / "out")) as merged:
        assert merged.withdrawals(["a", "b"]) == {"a": 1}


def test_unusable_stores_are_refused(tmp_path: Path) -> None:
    path = store(tmp_path / "1", {"a": "1"})
    with pytest.raises(InputError, match=r"no reply store .*missing"):
        merge_replies(tmp_path / "out", [tmp_path / "missing"])
    with pytest.raises(InputError, match="is named twice"):
        merge_replies(path, [path])
    with pytest.raises(InputError, match="name at least one"):
        merge_replies(tmp_path / "out", [])
    assert not (tmp_path / "out").exists()
