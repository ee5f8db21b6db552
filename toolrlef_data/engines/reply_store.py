"""The durable store of replies: a content-addressed SQLite file under every model call.

The key of a request holds everything that determines its reply (`reply_key`), so a request that was answered once is
never sent again, whatever happened to the process or to the stage cache. A reply is committed as it arrives. Values
and permanent errors are final; a retryable error is kept in a table of its own, where the stage reads it and a re-run
looks past it. No key, header or credential ever comes here: only what `Engine.identity` and a `Request` hold.

What is being asked right now stands in it as well, see `claims`.

The file is `$TOOLRLEF_REPLIES`, else `reply_store.sqlite` in `$HF_HOME/toolrlef_data`. It is a WAL database: several
processes may use one at once, on a local disk (not on a network file system).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from toolrlef_data.records import RETRYABLE_ERRORS, TOOL_FAILURES, Reply, ToolrlefError, clean_text
from toolrlef_data.tables.files import home_dir
from toolrlef_data.tables.fingerprint import digest

__all__ = ["ReplyStore", "open_store", "parts_of", "reply_key", "store_path"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS jobs (
    job TEXT PRIMARY KEY, server TEXT NOT NULL, remote TEXT, owner TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS job_keys (key TEXT PRIMARY KEY, job TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS job_keys_by_job ON job_keys (job);
"""
PASSING = RETRYABLE_ERRORS | TOOL_FAILURES  # never final
REPLY_FIELDS = tuple(field.name for field in fields(Reply))


def store_path() -> Path:
    """Where replies are kept, read from the environment at every call."""
    named = os.environ.get("TOOLRLEF_REPLIES")
    return Path(named).expanduser() if named else home_dir() / "replies.sqlite"


def reply_key(identity: dict[str, Any], sampling: dict[str, Any], request: dict[str, Any]) -> str:
    """The key of a reply.

    Args:
        identity: what `Engine.identity` says of the model.
        sampling: the settings that shape a reply (temperature, stop strings, token limit, ...).
        request: rendered messages or prompt, tools; seed and sample number where replies are sampled.

    >>> short = reply_key({"model": "m"}, {"max_tokens": 8}, {"prompt": "hi"})
    >>> short == reply_key({"model": "m"}, {"max_tokens": 9}, {"prompt": "hi"})
    False
    """
    return digest(identity, sampling, request)


class ReplyStore:
    """Replies by key; see the module for what is kept and how.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = ReplyStore(Path(folder) / "replies.sqlite")
    ...     store.put([("k", Reply("42"))])
    ...     found = store.get(["k", "other"])
    ...     store.close()
    >>> found["k"].text, len(found)
    ('42', 1)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.RLock()  # threads of one process share the connection
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._clear_errors():
            self.connection = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            self.connection.execute("PRAGMA journal_mode=WAL")
            self.connection.execute(
                "PRAGMA synchronous=NORMAL"
            )  # a killed process loses nothing; see sqlite.org/wal.html
            self.connection.executescript(SCHEMA)
        self.file = path.stat()

    def put(self, replies: Iterable[tuple[str, Reply]]) -> None:
        """Store replies, cleaned, in one transaction; a key that has a final reply keeps its first one."""
        final: list[tuple[str, str]] = []
        failed: list[tuple[str, str]] = []
        for key, reply in replies:
            text = json.dumps(
                [getattr(reply, name) for name in REPLY_FIELDS], ensure_ascii=False, separators=(",", ":")
            )
            (failed if reply.error in PASSING else final).append((key, clean_text(text)))
        with self.writing() as connection:
            connection.executemany("INSERT OR IGNORE INTO replies VALUES (?, ?)", final)
            connection.executemany("INSERT OR REPLACE INTO failures VALUES (?, ?)", failed)

    def get(self, keys: Sequence[str]) -> dict[str, Reply]:
        """Final replies of the keys that have one."""
        return self._read("replies", keys)

    def failures(self, keys: Sequence[str]) -> dict[str, Reply]:
        """The last retryable error of the keys that have one."""
        return self._read("failures", keys)

    def close(self) -> None:
        self.connection.close()

    def _read(self, table: str, keys: Sequence[str]) -> dict[str, Reply]:
        found: dict[str, Reply] = {}
        with self.reading() as connection:
            for part, marks in parts_of(keys):
                rows = connection.execute(f"SELECT key, reply FROM {table} WHERE key IN ({marks})", part)  # noqa: S608
                found.update((key, _reply(text)) for key, text in rows)
        return found

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        with self.lock, self._clear_errors():
            yield self.connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; what it writes is there as a whole or not at all."""
        with self.lock, self._clear_errors():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
            except BaseException:
                with contextlib.suppress(sqlite3.OperationalError):  # SQLite has rolled back by itself on a full disk
                    self.connection.execute("ROLLBACK")
                raise
            self.connection.execute("COMMIT")

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise ToolrlefError(
                    f"the disk of {self.path} is full; free some space and run again: every stored reply is kept"
                ) from error
            raise ToolrlefError(f"the reply store {self.path} cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            raise ToolrlefError(
                f"{self.path} is not a usable reply store: {error}; move it away to begin a new one"
            ) from error


def open_store(path: Path | None = None) -> ReplyStore:
    """The store of this process at a path (default: `store_path()`); a forked child opens its own."""
    path = path or store_path()
    store = _open(str(path), os.getpid())
    if not (path.exists() and os.path.samestat(path.stat(), store.file)):  # moved away or removed since
        _open.cache_clear()
        store = _open(str(path), os.getpid())
    return store


@functools.lru_cache(maxsize=8)
def _open(path: str, pid: int) -> ReplyStore:
    return ReplyStore(Path(path))


def parts_of(keys: Sequence[str]) -> Iterator[tuple[Sequence[str], str]]:
    """Keys in parts with the marks of a statement: SQLite takes at least 999 values in one."""
    for start in range(0, len(keys), 500):
        part = keys[start : start + 500]
        yield part, ",".join("?" * len(part))


def _reply(text: str) -> Reply:
    values = dict(zip(REPLY_FIELDS, json.loads(text), strict=False))
    values["tool_calls"] = tuple((name, arguments) for name, arguments in values["tool_calls"])
    return Reply(**values)
