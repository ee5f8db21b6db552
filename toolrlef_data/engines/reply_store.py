"""The reply store: an SQLite file with all replies, addressed by reply key.

A reply key covers everything that determines a reply (`reply_key`). A request with a stored reply is therefore not sent
again, even if the process was killed or the stage cache was deleted. Each reply is committed when it arrives.

Texts and permanent errors are final, unless they are withdrawn (`ask_again` of a model stage). Retryable errors go to a
separate table: the stage reads them, and a re-run sends their requests again. The file also contains the claims on
pending requests and the records of batch jobs (`claims`). It contains no API keys, headers or credentials: a reply key
is a digest of `Engine.identity`, settings and request.

The path is `$TOOLRLEF_REPLIES`, else `replies.sqlite` in `$HF_HOME/toolrlef_data`. The database is in WAL mode: several
processes can share it on a local disk, but not on a network file system.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from toolrlef_data.records import RETRYABLE_ERRORS, TOOL_FAILURES, Reply, ToolrlefError, clean_text
from toolrlef_data.tables.files import home_dir
from toolrlef_data.tables.fingerprint import digest

__all__ = ["ReplyStore", "key_chunks", "open_store", "reply_key", "store_path"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS withdrawn (key TEXT PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS jobs (
    job TEXT PRIMARY KEY, server TEXT NOT NULL, remote TEXT, owner TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS job_keys (key TEXT PRIMARY KEY, job TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS job_keys_by_job ON job_keys (job);
"""
BUSY_TIMEOUT = 60.0  # seconds to wait for the locks of other processes
TRANSIENT_ERRORS = RETRYABLE_ERRORS | TOOL_FAILURES  # never final
REPLY_FIELDS = tuple(field.name for field in fields(Reply))  # the order of the stored JSON list


def store_path() -> Path:
    """Return the path of the reply store; the environment is read at each call."""
    configured = os.environ.get("TOOLRLEF_REPLIES")
    return Path(configured).expanduser() if configured else home_dir() / "replies.sqlite"


def reply_key(identity: dict[str, Any], sampling: dict[str, Any], request: dict[str, Any]) -> str:
    """Return the reply key of a request.

    Args:
        identity: the result of `Engine.identity`.
        sampling: the sampling settings (temperature, stop strings, token limit, ...).
        request: the result of `Request.in_key`: messages or prompt, tools, seed and sample number.

    >>> short = reply_key({"model": "m"}, {"max_tokens": 8}, {"prompt": "hi"})
    >>> short == reply_key({"model": "m"}, {"max_tokens": 9}, {"prompt": "hi"})
    False
    """
    return digest(identity, sampling, request)


class ReplyStore:
    """The replies of an SQLite file, by reply key.

    Args:
        path: the file; created if it does not exist.

    Raises:
        ToolrlefError: the file cannot be used, or the disk is full.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = ReplyStore(Path(folder) / "replies.sqlite")
    ...     store.put([("k", Reply("42"))])
    ...     replies = store.get(["k", "other"])
    ...     store.close()
    >>> replies["k"].text, len(replies)
    ('42', 1)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.RLock()  # threads of one process share the connection
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._readable_errors():
            self.connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
            _enter_wal_mode(self.connection)
            # In WAL mode, a killed process loses no committed reply with NORMAL (sqlite.org/wal.html).
            self.connection.execute("PRAGMA synchronous=NORMAL")
            self.connection.executescript(SCHEMA)
        self.file_stat = path.stat()

    def put(self, replies: Iterable[tuple[str, Reply]]) -> None:
        """Store (reply key, reply) pairs in one transaction.

        The first final reply of a key is never overwritten. Unpaired surrogates are replaced (`records.clean_text`).
        """
        final: list[tuple[str, str]] = []
        failed: list[tuple[str, str]] = []
        for key, reply in replies:
            text = json.dumps(
                [getattr(reply, name) for name in REPLY_FIELDS], ensure_ascii=False, separators=(",", ":")
            )
            (failed if reply.error in TRANSIENT_ERRORS else final).append((key, clean_text(text)))
        with self.writing() as connection:
            connection.executemany("INSERT OR IGNORE INTO replies VALUES (?, ?)", final)
            connection.executemany("INSERT OR REPLACE INTO failures VALUES (?, ?)", failed)

    def get(self, keys: Sequence[str]) -> dict[str, Reply]:
        """Return the final replies of those keys that have one."""
        return self._read("replies", keys)

    def failures(self, keys: Sequence[str]) -> dict[str, Reply]:
        """Return the latest retryable error of those keys that have one."""
        return self._read("failures", keys)

    def withdraw(self, keys: Sequence[str]) -> None:
        """Make final replies retryable: they remain readable as failures until a new final reply is stored."""
        with self.writing() as connection:
            for chunk, marks in key_chunks(keys):
                connection.execute(
                    f"INSERT OR REPLACE INTO failures SELECT * FROM replies WHERE key IN ({marks})",  # noqa: S608
                    chunk,
                )
                connection.execute(f"DELETE FROM replies WHERE key IN ({marks})", chunk)  # noqa: S608
                connection.executemany(
                    "INSERT INTO withdrawn VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET times = times + 1",
                    [(key,) for key in chunk],
                )

    def withdrawals(self, keys: Sequence[str]) -> dict[str, int]:
        """Return how often the replies of those keys were withdrawn that were withdrawn at all."""
        counts: dict[str, int] = {}
        with self.reading() as connection:
            for chunk, marks in key_chunks(keys):
                counts.update(
                    connection.execute(f"SELECT key, times FROM withdrawn WHERE key IN ({marks})", chunk)  # noqa: S608
                )
        return counts

    def count_withdrawals(self) -> int:
        """Return how many replies were withdrawn in total, each as often as it was withdrawn."""
        with self.reading() as connection:
            (count,) = connection.execute("SELECT COALESCE(SUM(times), 0) FROM withdrawn").fetchone()
        return int(count)

    def close(self) -> None:
        self.connection.close()

    def _read(self, table: str, keys: Sequence[str]) -> dict[str, Reply]:
        replies: dict[str, Reply] = {}
        with self.reading() as connection:
            for chunk, placeholders in key_chunks(keys):
                rows = connection.execute(f"SELECT key, reply FROM {table} WHERE key IN ({placeholders})", chunk)  # noqa: S608
                replies.update((key, _parse_reply(text)) for key, text in rows)
        return replies

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection, locked for queries."""
        with self.lock, self._readable_errors():
            yield self.connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection in a transaction, which an exception rolls back."""
        with self.lock, self._readable_errors():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
            except BaseException:
                with contextlib.suppress(sqlite3.OperationalError):  # on a full disk, SQLite has rolled back itself
                    self.connection.execute("ROLLBACK")
                raise
            self.connection.execute("COMMIT")

    @contextlib.contextmanager
    def _readable_errors(self) -> Iterator[None]:
        """Convert SQLite errors into `ToolrlefError`."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise ToolrlefError(
                    f"the disk of {self.path} is full; free some space and run again (stored replies are intact)"
                ) from error
            raise ToolrlefError(f"the reply store {self.path} cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            raise ToolrlefError(
                f"{self.path} is not a usable reply store: {error}; move the file away to start a new store"
            ) from error


def open_store(path: Path | None = None) -> ReplyStore:
    """Return this process's store for a path (default: `store_path()`); a forked child opens a separate connection."""
    path = path or store_path()
    store = _open(str(path), os.getpid())
    if not (path.exists() and os.path.samestat(path.stat(), store.file_stat)):  # moved or deleted
        _open.cache_clear()
        store = _open(str(path), os.getpid())
    return store


def _enter_wal_mode(connection: sqlite3.Connection) -> None:
    """Put a database in WAL mode, and wait for other connections that do the same.

    Two connections that convert a new file each hold a read lock and want the exclusive one. SQLite then refuses one
    of them at once, whatever the connection's `timeout` (sqlite.org/c3ref/busy_handler.html).
    """
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


@functools.lru_cache(maxsize=8)
def _open(path: str, pid: int) -> ReplyStore:
    return ReplyStore(Path(path))


def key_chunks(keys: Sequence[str]) -> Iterator[tuple[Sequence[str], str]]:
    """Yield (up to 500 keys, their SQL placeholders); every SQLite accepts 999 values per statement."""
    for start in range(0, len(keys), 500):
        chunk = keys[start : start + 500]
        yield chunk, ",".join("?" * len(chunk))


def _parse_reply(text: str) -> Reply:
    values = dict(zip(REPLY_FIELDS, json.loads(text), strict=False))
    values["tool_calls"] = tuple((name, arguments) for name, arguments in values["tool_calls"])
    return Reply(**values)
