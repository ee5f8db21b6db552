"""Merge reply stores, such as those of shards, into one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from toolrlef_data.checks import as_path
from toolrlef_data.engines.database.rows import decode_reply
from toolrlef_data.engines.reply_store import ReplyStore, key_chunks
from toolrlef_data.records import InputError

__all__ = ["StoreCounts", "merge_replies"]

log = logging.getLogger("toolrlef_data")
PAGE_ROWS = 2_000  # replies that are read and written at once


class StoreCounts(NamedTuple):
    """How many replies of a store were added, were already known, and are damaged."""

    path: Path
    added: int
    known: int
    damaged: int


def merge_replies(out: str | Path, stores: Sequence[str | Path]) -> list[StoreCounts]:
    """Copy the final replies of several stores into one; the first reply of a key stays.

    Failed requests, claims and pending batch jobs are not copied; a warning names a store with pending jobs. It can be
    repeated after an interruption.

    Args:
        out: the store that receives the replies; created if it is missing.
        stores: the stores to copy, in order. They are not changed, but a damaged file is repaired.

    Returns:
        The counts of each store.

    Raises:
        InputError: a store does not exist, is named twice, or belongs to another program.
        ToolrlefError: a store cannot be used, or the disk is full.

    >>> import tempfile
    >>> from toolrlef_data.records import Reply
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first, second = (ReplyStore(Path(folder, name)) for name in ("a.sqlite", "b.sqlite"))
    ...     first.put([("k", Reply("42"))])
    ...     second.put([("k", Reply("43")), ("l", Reply("44"))])
    ...     counts = merge_replies(Path(folder, "all.sqlite"), [first.path, second.path])
    ...     first.close(); second.close()
    >>> [(count.added, count.known) for count in counts]
    [(1, 0), (1, 1)]
    """
    target = as_path("out", out)
    paths = [as_path("stores", path) for path in stores]
    if not paths:
        raise InputError("merge_replies: name at least one store to copy")
    for path in paths:
        if not path.is_file():
            raise InputError(f"no reply store {path}: expected a file such as replies.sqlite")
    resolved = [path.resolve() for path in (target, *paths)]
    if repeated := [path for path in resolved if resolved.count(path) > 1]:
        raise InputError(f"{repeated[0]} is named twice: name each store once, and none that is also written")
    with contextlib.closing(ReplyStore(target)) as merged:
        return [_copy(path, merged) for path in paths]


def _copy(path: Path, merged: ReplyStore) -> StoreCounts:
    added = known = damaged = 0
    with contextlib.closing(ReplyStore(path)) as store:
        for page in _pages(store):
            rows = {key: text for key, text in page if decode_reply(key, text) is not None}
            damaged += len(page) - len(rows)
            withdrawn = store.withdrawals(list(rows))
            with merged.writing() as connection:
                for chunk, marks in key_chunks(list(rows)):
                    found = connection.execute(f"SELECT key FROM replies WHERE key IN ({marks})", chunk)  # noqa: S608
                    stored = {key for (key,) in found}
                    new = [key for key in chunk if key not in stored]
                    connection.executemany("INSERT INTO replies VALUES (?, ?)", [(key, rows[key]) for key in new])
                    times = [(key, withdrawn[key]) for key in new if key in withdrawn]
                    connection.executemany("INSERT OR IGNORE INTO withdrawn VALUES (?, ?)", times)
                    added, known = added + len(new), known + len(stored)
        if jobs := store.count_jobs():
            log.warning(
                "%s has %d pending batch jobs, whose replies are not copied: run what has submitted them again, and "
                "merge again",
                path,
                jobs,
            )
    return StoreCounts(path, added, known, damaged)


def _pages(store: ReplyStore) -> Iterator[list[tuple[str, str]]]:
    """Yield the rows of a store in the order of their keys; other processes may write between two pages."""
    last = ""
    while True:
        with store.reading() as connection:
            query = "SELECT key, reply FROM replies WHERE key > ? ORDER BY key LIMIT ?"
            page = connection.execute(query, (last, PAGE_ROWS)).fetchall()
        if not page:
            return
        yield page
        last = page[-1][0]
