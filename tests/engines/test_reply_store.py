"""The reply store: replies are stored completely, once, and under distinct keys."""

from __future__ import annotations

import gc
import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from toolrlef_data.engines.reply_store import ReplyStore, open_store, reply_key, store_path
from toolrlef_data.records import (
    CALL_ERRORS,
    FINAL_ERRORS,
    RETRYABLE_ERRORS,
    TOOL_FAILURES,
    Reply,
    ToolrlefError,
)


def test_every_field_of_a_reply_is_restored(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "r.sqlite")
    reply = Reply("", "why", (("calculator", '{"formula": "1+1"}'),), "tool_calls", None, "", 12, 3)
    store.put([("a", reply), ("b", Reply(None, error="too_long", error_detail="9 tokens"))])
    assert store.get(["a", "b", "c"]) == {"a": reply, "b": Reply(None, error="too_long", error_detail="9 tokens")}


def test_first_final_reply_is_never_overwritten(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "r.sqlite")
    store.put([("a", Reply("first"))])
    store.put([("a", Reply("second"))])
    assert store.get(["a"])["a"].text == "first"


def test_retryable_error_is_not_final(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "r.sqlite")
    store.put([("a", Reply(None, error="timeout"))])
    assert store.get(["a"]) == {}
    assert store.failures(["a"])["a"].error == "timeout"
    store.put([("a", Reply("late"))])
    assert store.get(["a"])["a"].text == "late"


@pytest.mark.parametrize("error", sorted(RETRYABLE_ERRORS | TOOL_FAILURES | FINAL_ERRORS | CALL_ERRORS))
def test_faults_of_servers_and_tools_are_never_final(tmp_path: Path, error: str) -> None:
    store = ReplyStore(tmp_path / "r.sqlite")
    reply = Reply(None, error=error, error_detail="why")
    store.put([("a", reply)])
    is_final = error in FINAL_ERRORS | CALL_ERRORS
    assert store.get(["a"]) == ({"a": reply} if is_final else {})
    assert store.failures(["a"]) == ({} if is_final else {"a": reply})


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("half \ud83d pair", "half \ufffd pair"),  # an unpaired surrogate cannot be encoded in UTF-8
        ("whole \U0001f600", "whole \U0001f600"),
        ("null \x00 byte", "null \x00 byte"),
        ("x" * 1_000_000, "x" * 1_000_000),
    ],
)
def test_unusual_text_is_stored(tmp_path: Path, text: str, stored: str) -> None:
    store = ReplyStore(tmp_path / "r.sqlite")
    store.put([("a", Reply(text, reasoning=text, tool_calls=((text, text),)))])
    assert store.get(["a"])["a"] == Reply(stored, reasoning=stored, tool_calls=((stored, stored),))


def test_each_withdrawal_of_a_reply_is_counted(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "r.sqlite")
    store.put([(key, Reply(None, error="too_long")) for key in "abc"])
    for keys in ("ab", "a", ""):
        store.withdraw([*keys])
        store.put([(key, Reply(None, error="too_long")) for key in keys])
    assert store.withdrawals([*"abcd"]) == {"a": 2, "b": 1}
    assert store.count_withdrawals() == 3


def test_many_keys_are_queried_in_chunks(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "r.sqlite")
    store.put((str(i), Reply(str(i))) for i in range(2500))
    assert {key: reply.text for key, reply in store.get([str(i) for i in range(3000)]).items()} == {
        str(i): str(i) for i in range(2500)
    }


def test_full_disk_is_reported_and_stored_replies_survive(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "r.sqlite")
    store.put([("a", Reply("small"))])
    pages = store.connection.execute("PRAGMA page_count").fetchone()[0]
    store.connection.execute(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(ToolrlefError, match=r"the disk of .* is full; free some space"):
        store.put([("b", Reply("x" * 100_000))])
    store.connection.execute("PRAGMA max_page_count=1000000")
    store.put([("c", Reply("later"))])
    assert set(store.get(["a", "b", "c"])) == {"a", "c"}


def test_file_that_is_no_database_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    path.write_text("not a database, but long enough to be read as one" * 20)
    with pytest.raises(ToolrlefError, match="is not a usable reply store"):
        ReplyStore(path)


def test_forked_child_opens_a_separate_connection(tmp_path: Path) -> None:
    parent = open_store(tmp_path / "r.sqlite")
    parent.put([("a", Reply("parent"))])
    child = os.fork()
    if child == 0:
        separate = open_store(tmp_path / "r.sqlite")
        separate.put([("b", Reply("child"))])
        os._exit(0 if separate.connection is not parent.connection else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert set(parent.get(["a", "b"])) == {"a", "b"}


def test_reply_key_depends_on_every_input() -> None:
    base = ({"model": "m", "adapter": None}, {"max_tokens": 8, "stop": ["\n"]}, {"prompt": "hi", "sample": 0})
    keys = {reply_key(*base)}
    for index in range(3):
        for name in base[index]:
            changed = [dict(part) for part in base]
            changed[index][name] = "other"
            keys.add(reply_key(*changed))
    assert len(keys) == 7


def test_many_connections_open_a_new_store_at_once(tmp_path: Path) -> None:
    for attempt in range(25):
        path = tmp_path / f"{attempt}.sqlite"
        start = threading.Barrier(8)

        def write(number: int, path: Path = path, start: threading.Barrier = start) -> None:
            start.wait()
            store = ReplyStore(path)
            store.put([(f"k{number}", Reply("42"))])
            store.close()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(8)))
        assert len(ReplyStore(path).get([f"k{number}" for number in range(8)])) == 8


def test_a_home_folder_in_the_variable_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TOOLRLEF_REPLIES", "~/replies/r.sqlite")
    assert store_path() == tmp_path / "replies" / "r.sqlite"


def test_a_store_without_references_is_closed(tmp_path: Path) -> None:
    """`open_store` discards stores without closing them; other threads may still use them."""
    stores = [open_store(tmp_path / f"{number}.sqlite") for number in range(2)]
    connection = stores[0].connection
    for number in range(2, 12):
        open_store(tmp_path / f"{number}.sqlite")
    assert stores[0].get(["k"]) == {}, "a discarded store can be used"
    stores.clear()
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")
