"""Merge reply stores, such as those of shards, into one."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from toolrlef_data.checks import as_path
from toolrlef_data.engines.database.connection import is_writable
from toolrlef_data.engines.database.rows import decode_reply
from toolrlef_data.engines.database.sources import check_source, open_source, source_errors
from toolrlef_data.engines.reply_store import SCHEMA, ReplyStore, key_chunks
from toolrlef_data.records import InputError, ToolrlefError

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
        stores: the stores to copy, in order. They are not changed.

    Returns:
        The counts of each store.

    Raises:
        InputError: a store does not exist, is named twice, or belongs to another program.
        ToolrlefError: a store is damaged or cannot be read, or the disk is full. What was copied before stays.

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
        check_source(path)
    resolved = [path.resolve() for path in (target, *paths)]
    if repeated := [path for path in resolved if resolved.count(path) > 1]:
        raise InputError(f"{repeated[0]} is named twice: name each store once, and none that is also written")
    if os.access(target.parent, os.F_OK) and not is_writable(target.resolve()):
        raise ToolrlefError(f"{target} cannot be written: choose another file for the replies, in a folder of yours")
    with contextlib.closing(ReplyStore(target)) as merged:
        return [_copy(path, merged) for path in paths]


def _copy(path: Path, merged: ReplyStore) -> StoreCounts:
    added = known = damaged = 0
    with open_source(path, SCHEMA) as source:
        for page in _pages(path, source):
            rows = {key: text for key, text in page if decode_reply(key, text) is not None}
            damaged += len(page) - len(rows)
            with source_errors(path):
                withdrawn = _withdrawals(source, list(rows))
            with merged.writing() as connection:
                for chunk, marks in key_chunks(list(rows)):
                    found = connection.execute(f"SELECT key FROM replies WHERE key IN ({marks})", chunk)  # noqa: S608
                    stored = {key for (key,) in found}
                    new = [key for key in chunk if key not in stored]
                    connection.executemany("INSERT INTO replies VALUES (?, ?)", [(key, rows[key]) for key in new])
                    times = [(key, withdrawn[key]) for key in new if key in withdrawn]
                    connection.executemany("INSERT OR IGNORE INTO withdrawn VALUES (?, ?)", times)
                    added, known = added + len(new), known + len(stored)
        with source_errors(path):
            (jobs,) = source.execute("SELECT COUNT(*) FROM jobs").fetchone()
    if jobs:
        log.warning(
            "%s has %d pending batch jobs, whose replies are not copied: run what has submitted them again, and "
            "merge again",
            path,
            jobs,
        )
    return StoreCounts(path, added, known, damaged)


def _pages(path: Path, source: sqlite3.Connection) -> Iterator[list[tuple[str, str]]]:
    """Yield the rows of a store in the order of their keys; other processes may write between two pages."""
    last = ""
    while True:
        with source_errors(path):
            query = "SELECT key, reply FROM replies WHERE key > ? ORDER BY key LIMIT ?"
            page = source.execute(query, (last, PAGE_ROWS)).fetchall()
        if not page:
            return
        yield page
        last = page[-1][0]


def _withdrawals(source: sqlite3.Connection, keys: Sequence[str]) -> dict[str, int]:
    """Return how often the replies of those keys were withdrawn that were withdrawn at all."""
    counts: dict[str, int] = {}
    for chunk, marks in key_chunks(keys):
        counts.update(source.execute(f"SELECT key, times FROM withdrawn WHERE key IN ({marks})", chunk))  # noqa: S608
    return counts
