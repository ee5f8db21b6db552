"""The reply store: an SQLite file with all replies, addressed by reply key.

A reply key covers everything that determines a reply (`reply_key`). A request with a stored reply is therefore not sent
again, even if the process was killed or the stage cache was deleted. Each reply is committed when it arrives.

Texts and permanent errors are final, unless they are withdrawn (`ask_again` of a model stage). Retryable errors go to a
separate table: the stage reads them, and a re-run sends their requests again. The file also contains the claims on
pending requests and the records of batch jobs (`claims`). It contains no API keys, headers or credentials: a reply key
is a digest of `Engine.identity`, settings and request.

The path is `$TOOLRLEF_REPLIES`, else `replies.sqlite` in `$HF_HOME/toolrlef_data`, which only its owner can read. The
database is in WAL mode: several processes can share it on a local disk, but not on a network file system.

Each reply has a checksum. A damaged reply is deleted with a warning, so its request is sent again. If SQLite cannot
read the file, its readable rows are copied to a new one (`database`). A read-only store can be read, but not written.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from toolrlef_data.engines.database.connection import is_damage, is_writable, open_database, repair
from toolrlef_data.engines.database.rows import TRANSIENT_ERRORS, decode_reply, encode_reply, recover
from toolrlef_data.records import Reply, ToolrlefError
from toolrlef_data.tables.files import home_dir
from toolrlef_data.tables.fingerprint import digest

__all__ = ["ReplyStore", "key_chunks", "open_store", "replies_in", "reply_key", "store_path"]

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
ADVICE = "the variable TOOLRLEF_REPLIES names another path, such as that of a copy in a writable folder"
INDEX_BYTES = 1 << 16  # for the index of the write-ahead log, which has 32 kB at least, and a page of the log
log = logging.getLogger(__name__)

T = TypeVar("T")
Read = Callable[[str, Any], T | None]
_path: ContextVar[Path | None] = ContextVar("replies", default=None)  # set by `replies_in`


def store_path() -> Path:
    """Return the path of the reply store; the environment is read at each call."""
    if (path := _path.get()) is not None:
        return path
    configured = os.environ.get("TOOLRLEF_REPLIES")
    return Path(configured).expanduser() if configured else home_dir() / "replies.sqlite"


@contextlib.contextmanager
def replies_in(path: Path) -> Iterator[None]:
    """Use another reply store within a block, such as that of a shard."""
    token = _path.set(path)
    try:
        yield
    finally:
        _path.reset(token)


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
        self._connect()

    def put(self, replies: Iterable[tuple[str, Reply]]) -> None:
        """Store (reply key, reply) pairs in one transaction; the first final reply of a key is never overwritten."""
        final: list[tuple[str, str]] = []
        failed: list[tuple[str, str]] = []
        for key, reply in replies:
            (failed if reply.error in TRANSIENT_ERRORS else final).append((key, encode_reply(key, reply)))
        is_stored = not (final or failed)
        while not is_stored:
            with self.writing() as connection:
                connection.executemany("INSERT OR IGNORE INTO replies VALUES (?, ?)", final)
                connection.executemany("INSERT OR REPLACE INTO failures VALUES (?, ?)", failed)
            is_stored = self._is_current()  # otherwise a repair may have copied the rows before this transaction

    def get(self, keys: Sequence[str]) -> dict[str, Reply]:
        """Return the final replies of those keys that have one."""
        return self._read("replies", keys, decode_reply)

    def get_as(self, keys: Sequence[str], read: Read[T]) -> dict[str, T]:
        """Return what `read` makes of final replies: (reply key, stored text) -> value, or None for a damaged text."""
        return self._read("replies", keys, read)

    def failures(self, keys: Sequence[str]) -> dict[str, Reply]:
        """Return the latest retryable error of those keys that have one."""
        return self._read("failures", keys, decode_reply)

    def withdraw(self, keys: Sequence[str]) -> None:
        """Make final replies retryable: they remain readable as failures until a new final reply is stored."""
        if not keys:
            return
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

    def count_jobs(self) -> int:
        """Return the number of batch jobs whose results are not fetched yet."""
        with self.reading() as connection:
            (count,) = connection.execute("SELECT COUNT(*) FROM jobs").fetchone()
        return int(count)

    def close(self) -> None:
        """Close the connection until the store is used again; a store that is collected closes it too."""
        self._close_connection()

    def _read(self, table: str, keys: Sequence[str], read: Read[T]) -> dict[str, T]:
        replies: dict[str, T] = {}
        damaged: list[str] = []
        with self.reading() as connection:
            for chunk, placeholders in key_chunks(keys):
                rows = connection.execute(f"SELECT key, reply FROM {table} WHERE key IN ({placeholders})", chunk)  # noqa: S608
                for key, text in rows:
                    if (reply := read(key, text)) is not None:
                        replies[key] = reply
                    else:
                        damaged.append(key)
        if damaged:
            self._discard(table, damaged, read)
        return replies

    def _discard(self, table: str, keys: Sequence[str], read: Read[Any]) -> None:
        """Delete damaged replies that no other process has replaced, so that their requests are sent again."""
        log.warning("%s: %d stored replies are damaged and requested again, such as %s", self.path, len(keys), keys[0])
        if self.is_read_only:
            return
        with self.writing() as connection:
            for chunk, marks in key_chunks(keys):
                rows = connection.execute(f"SELECT key, reply FROM {table} WHERE key IN ({marks})", chunk)  # noqa: S608
                damaged = [(key,) for key, text in rows.fetchall() if read(key, text) is None]
                connection.executemany(f"DELETE FROM {table} WHERE key = ?", damaged)  # noqa: S608

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection, locked for queries."""
        with self.lock, self._readable_errors():
            if not self._is_current():
                self.close()
                self._connect()
            try:
                yield self.connection
            except sqlite3.DatabaseError as error:
                if self.is_read_only or not is_damage(error):
                    raise
                repair(self.path, SCHEMA, recover, str(error), self.file_stat)
                raise ToolrlefError(f"{self.path} was damaged; its readable replies are saved: run again") from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection in a transaction, which an exception rolls back.

        Raises:
            ToolrlefError: the store is read-only, or the disk is full.
        """
        with self.reading() as connection:
            if self.is_read_only:
                raise ToolrlefError(f"the reply store {self.path} is read-only, and a reply must be stored; {ADVICE}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                with contextlib.suppress(sqlite3.DatabaseError):  # on a full disk, SQLite has rolled back itself
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _connect(self) -> None:
        mode = 0o666 if os.environ.get("TOOLRLEF_REPLIES") else 0o600  # in another place, the umask decides
        with self._readable_errors():
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.is_read_only = not is_writable(self.path)
                self.connection = open_database(self.path, SCHEMA, recover, mode)
                # `open_store` discards stores that another thread may still use.
                self._close_connection = weakref.finalize(self, self.connection.close)
                self._close_connection.atexit = False  # threads may still use it
                self.file_stat = self.path.stat()
            except OSError as error:
                raise ToolrlefError(f"the reply store {self.path} cannot be used: {error}; {ADVICE}") from error

    def _is_current(self) -> bool:
        """Return whether the path still names the open file: it may have been closed, moved, deleted or repaired."""
        try:
            return self._close_connection.alive and os.path.samestat(self.path.stat(), self.file_stat)
        except FileNotFoundError:
            return False

    @contextlib.contextmanager
    def _readable_errors(self) -> Iterator[None]:
        """Convert SQLite errors into `ToolrlefError`."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if "full" in str(error) or _is_full(self.path.parent):
                raise ToolrlefError(
                    f"the disk of {self.path} is full; free some space and run again (stored replies are intact)"
                ) from error
            raise ToolrlefError(f"the reply store {self.path} cannot be used: {error}; {ADVICE}") from error


def _is_full(folder: Path) -> bool:
    """Return whether a disk is full, for which SQLite has several errors: it may fail to open a file or its index."""
    if not folder.is_dir():
        return False
    disk = os.statvfs(folder)
    has_no_inode = disk.f_files > 0 and disk.f_favail == 0  # some file systems have no fixed number
    return has_no_inode or disk.f_bavail * disk.f_frsize < INDEX_BYTES


def open_store(path: Path | None = None) -> ReplyStore:
    """Return this process's store for a path (default: `store_path()`); a forked child opens a separate connection."""
    return _open(str(path or store_path()), os.getpid())


@functools.lru_cache(maxsize=8)
def _open(path: str, pid: int) -> ReplyStore:
    return ReplyStore(Path(path))


def key_chunks(keys: Sequence[str]) -> Iterator[tuple[Sequence[str], str]]:
    """Yield (up to 500 keys, their SQL placeholders); every SQLite accepts 999 values per statement."""
    for start in range(0, len(keys), 500):
        chunk = keys[start : start + 500]
        yield chunk, ",".join("?" * len(chunk))
