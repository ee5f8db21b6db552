"""claims: what is being asked right now, so that nobody pays for it twice: claims and batch jobs.

Both stand in the reply store. A process claims what it is about to ask, so that two that run the same at once share the
work. A claim counts as long as its owner holds the lock of a file beside the store, which the system frees when the
process ends in whatever way. A batch job goes on at its server when everything here has ended; its record says which
requests are in it.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Sequence

import filelock

from toolrlef_data.engines.reply_store import ReplyStore, parts_of

__all__ = ["BatchJobs", "Claims"]


class Owner:
    """One run, as others see it: alive as long as it holds the lock of its file beside the store."""

    def __init__(self, store: ReplyStore) -> None:
        self.store = store
        self.name = uuid.uuid4().hex
        self.folder = store.path.with_name(store.path.name + ".owners")

    def __enter__(self) -> Owner:
        self.lock = self._lock(self.name)
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            # In a transaction, since one that clears away after dead owners could take the new file for theirs.
            with contextlib.suppress(FileNotFoundError), self.store.writing():
                self.lock.acquire()
                return self

    def __exit__(self, *details: object) -> None:
        """Give up the claims of this run, and those of the dead."""
        try:
            with self.store.writing() as connection:
                owners = {owner for (owner,) in connection.execute("SELECT DISTINCT owner FROM claims")}
                owners |= {path.name for path in self.folder.iterdir()}
                gone = [owner for owner in owners if owner == self.name or not self.alive(owner)]
                connection.executemany("DELETE FROM claims WHERE owner = ?", [(owner,) for owner in gone])
        finally:
            self._end(self.name, self.lock)

    def alive(self, owner: str) -> bool:
        """Whether another run still goes on."""
        lock = self._lock(owner)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            return True
        except FileNotFoundError:  # nobody is left
            return False
        self._end(owner, lock)
        return False

    def _lock(self, owner: str) -> filelock.BaseFileLock:
        return filelock.FileLock(self.folder / owner, is_singleton=False)

    def _end(self, owner: str, lock: filelock.BaseFileLock) -> None:
        (self.folder / owner).unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):  # others are at work
            self.folder.rmdir()


class Claims(Owner):
    """What one run is about to ask; a context that ends with its claims, and those of the dead, given up.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = ReplyStore(Path(folder) / "replies.sqlite")
    ...     with Claims(store) as mine, Claims(store) as yours:
    ...         elsewhere = mine.take(["a", "b"]), yours.take(["b", "c"])
    ...     store.close()
    >>> elsewhere
    (set(), {'b'})
    """

    def __enter__(self) -> Claims:
        super().__enter__()
        return self

    def take(self, keys: Sequence[str]) -> set[str]:
        """Claim keys; returns those that somebody else is asking right now."""
        elsewhere: set[str] = set()
        if not keys:
            return elsewhere
        with self.store.writing() as connection:
            for part, marks in parts_of(keys):
                rows = connection.execute(f"SELECT key, owner FROM claims WHERE key IN ({marks})", part).fetchall()  # noqa: S608
                alive = {owner: self.alive(owner) for owner in {owner for _, owner in rows} - {self.name}}
                elsewhere.update(key for key, owner in rows if alive.get(owner))
                mine = [(key, self.name) for key in part if key not in elsewhere]
                connection.executemany("INSERT OR REPLACE INTO claims VALUES (?, ?)", mine)
        return elsewhere

    def give_up(self, keys: Iterable[str]) -> None:
        """Let others ask for these keys."""
        with self.store.writing() as connection:
            rows = [(key, self.name) for key in keys]
            connection.executemany("DELETE FROM claims WHERE key = ? AND owner = ?", rows)


class BatchJobs(Owner):
    """The batch jobs that a model of a server was given and that are not fetched yet.

    Args:
        store: the reply store.
        server: whose jobs; the URL and the model.
    """

    def __init__(self, store: ReplyStore, server: str) -> None:
        super().__init__(store)
        self.server = server

    def __enter__(self) -> BatchJobs:
        super().__enter__()
        return self

    def begin(self, job: str, keys: Iterable[str]) -> None:
        """Write down a job before the server hears of it, so that none is lost in between."""
        with self.store.writing() as connection:
            connection.execute("INSERT INTO jobs VALUES (?, ?, NULL, ?)", (job, self.server, self.name))
            connection.executemany("INSERT OR REPLACE INTO job_keys VALUES (?, ?)", ((key, job) for key in keys))

    def mark_accepted(self, job: str, remote: str) -> None:
        """The server has taken a job, under a name of its own."""
        with self.store.writing() as connection:
            connection.execute("UPDATE jobs SET remote = ? WHERE job = ?", (remote, job))

    def end(self, job: str) -> None:
        """A job is fetched and stored, or was never heard of."""
        with self.store.writing() as connection:
            connection.execute("DELETE FROM job_keys WHERE job = ?", (job,))
            connection.execute("DELETE FROM jobs WHERE job = ?", (job,))

    def pending_jobs(self) -> dict[str, str | None]:
        """All jobs: our name -> the server's name, None where the server may not have heard of it.

        A job that another run is just handing over is left to it.
        """
        with self.store.reading() as connection:
            rows = connection.execute("SELECT job, remote, owner FROM jobs WHERE server = ?", (self.server,)).fetchall()
        return {job: remote for job, remote, owner in rows if remote is not None or not self.alive(owner)}

    def job_of(self, key: str) -> str | None:
        """The job of this server that a request is in."""
        with self.store.reading() as connection:
            row = connection.execute("SELECT job FROM job_keys NATURAL JOIN jobs WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def keys(self, job: str) -> list[str]:
        """The requests of a job, in the order of its file."""
        with self.store.reading() as connection:
            rows = connection.execute("SELECT key FROM job_keys WHERE job = ? ORDER BY rowid", (job,))
            return [key for (key,) in rows]
