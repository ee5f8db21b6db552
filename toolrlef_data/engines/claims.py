"""Cross-process claims on pending requests, and records of submitted batch jobs.

Both are stored in the reply store, so that no request is paid for twice. A process claims requests before it sends
them; two processes that run the same stage share the work. A claim is valid while its owner has locked a file next to
the store; the operating system releases the lock when the process ends. A batch job continues on the server after the
process has ended; its record lists its requests.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import stat
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import filelock
import xxhash

from toolrlef_data.engines.reply_store import ReplyStore, key_chunks
from toolrlef_data.records import ToolrlefError

__all__ = ["BatchJobs", "Claims"]

log = logging.getLogger(__name__)
AnyOwner = TypeVar("AnyOwner", bound="Owner")


class Owner:
    """The owner of claims or job records: one run, alive while its file next to the store is locked.

    A folder beside that file has the temporary files of the run (`files`). It is removed with the file: by the run, or
    by a later one if the run was killed.
    """

    def __init__(self, store: ReplyStore) -> None:
        self.store = store
        self.name = uuid.uuid4().hex
        self.folder = store.path.with_name(store.path.name + ".owners")
        self.files = self.folder / f"{self.name}.files"
        self.lock = self._lock(self.name)

    def __enter__(self: AnyOwner) -> AnyOwner:
        return self

    def start(self) -> None:
        """Lock this owner's file, before its first claim or record. A run that needs none writes nothing."""
        while not self.lock.is_locked:
            # Another process may remove the folder at any time until it holds the file: FileExistsError if it does so
            # during `mkdir`, FileNotFoundError afterwards.
            with contextlib.suppress(FileExistsError, FileNotFoundError), self.store.writing():
                if self._is_blocked():
                    raise ToolrlefError(f"{self.folder} must be a folder for the locks of runs: move this file away")
                self.folder.mkdir(parents=True, exist_ok=True)
                # In a transaction: otherwise another process could delete the new file as that of a dead owner.
                self.lock.acquire()

    def make_files(self) -> None:
        """Create the folder `files`, which only this user can read."""
        self.start()
        self.files.mkdir(mode=0o700, exist_ok=True)

    def _is_blocked(self) -> bool:
        """Return whether the folder cannot be created because another file has its name."""
        try:  # one look: another process may remove the folder between two
            return not stat.S_ISDIR(self.folder.stat().st_mode)
        except FileNotFoundError:
            return self.folder.is_symlink()  # to nothing

    def __exit__(self, *details: object) -> None:
        """Delete the claims of this run and of dead owners."""
        if not self.lock.is_locked:
            return
        try:
            with self.store.writing() as connection:
                owners = {owner for (owner,) in connection.execute("SELECT DISTINCT owner FROM claims")}
                owners |= {path.name for path in self.folder.iterdir() if is_name(path.name)}
                others = [owner for owner in owners - {self.name} if self.is_alive(owner)]
                marks = ",".join("?" * len(others))
                connection.execute(f"DELETE FROM claims WHERE owner NOT IN ({marks})", others)  # noqa: S608
        finally:
            self._remove_lock(self.name, self.lock)

    def is_alive(self, owner: str) -> bool:
        """Return whether the run with this owner name is still active; that of a damaged name is not."""
        if not is_name(owner):
            return False
        lock = self._lock(owner)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            return True
        except FileNotFoundError:  # the folder is gone: no owner is alive
            return False
        self._remove_lock(owner, lock)
        return False

    def _lock(self, owner: str) -> filelock.BaseFileLock:
        return filelock.FileLock(self.folder / owner, is_singleton=False)

    def _remove_lock(self, owner: str, lock: filelock.BaseFileLock) -> None:
        shutil.rmtree(self.folder / f"{owner}.files", ignore_errors=True)
        (self.folder / owner).unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):  # other owners are alive
            self.folder.rmdir()


def is_name(name: object) -> bool:
    """Return whether a value is the name of an owner, and not a damaged one."""
    return isinstance(name, str) and re.fullmatch("[0-9a-f]{32}", name) is not None


def _is_id(value: object) -> bool:
    """Return whether a value can be an id of a job, and not a damaged one."""
    return isinstance(value, str) and value.isascii() and value.isprintable()


def _checksum(*values: object) -> str:
    return xxhash.xxh3_64_hexdigest("\n".join(map(str, values)).encode(errors="surrogateescape"))


def _job_row(job: str, server: object, remote: object, owner: str, keys: str) -> tuple[object, ...]:
    """Return the record of a batch job; two checksums follow the owner's name: of all fields, and of the keys."""
    fields = [job, server, remote, owner, *([keys] if keys else [])]
    return job, server, remote, " ".join([owner, _checksum(*fields), *([keys] if keys else [])])


def _split_owner(text: object) -> tuple[str, str, str]:
    """Return (owner, checksum of the record, checksum of the keys); records of earlier versions have none."""
    owner, checksum, keys, *_ = [*str(text).split(" "), "", ""]
    return owner, checksum, keys


def _is_damaged(row: tuple[Any, ...]) -> bool:
    """Return whether a record of a batch job differs from its checksum; those of earlier versions have none."""
    job, server, remote, owner = row
    name, checksum, keys = _split_owner(owner)
    is_text = remote is None or _is_id(remote)
    return not is_text or (checksum != "" and row != _job_row(job, server, remote, name, keys))


class Claims(Owner):
    """The claims of one run on pending requests; leaving the context deletes them, and those of dead owners.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = ReplyStore(Path(folder) / "replies.sqlite")
    ...     with Claims(store) as first, Claims(store) as second:
    ...         claimed_elsewhere = first.acquire(["a", "b"]), second.acquire(["b", "c"])
    ...     store.close()
    >>> claimed_elsewhere
    (set(), {'b'})
    """

    def acquire(self, keys: Sequence[str]) -> set[str]:
        """Claim reply keys, and return those that another live owner has claimed."""
        claimed_elsewhere: set[str] = set()
        if not keys:
            return claimed_elsewhere
        self.start()
        with self.store.writing() as connection:
            for chunk, placeholders in key_chunks(keys):
                query = f"SELECT key, owner FROM claims WHERE key IN ({placeholders})"  # noqa: S608
                rows = connection.execute(query, chunk).fetchall()
                live_owners = {owner for owner in {owner for _, owner in rows} - {self.name} if self.is_alive(owner)}
                claimed_elsewhere.update(key for key, owner in rows if owner in live_owners)
                acquired = [(key, self.name) for key in chunk if key not in claimed_elsewhere]
                connection.executemany("INSERT OR REPLACE INTO claims VALUES (?, ?)", acquired)
        return claimed_elsewhere

    def release(self, keys: Iterable[str]) -> None:
        """Release this run's claims on reply keys."""
        with self.store.writing() as connection:
            rows = [(key, self.name) for key in keys]
            connection.executemany("DELETE FROM claims WHERE key = ? AND owner = ?", rows)


class BatchJobs(Owner):
    """The records of batch jobs whose results are not fetched yet.

    Args:
        store: the reply store.
        server: the server's URL and the model.
    """

    def __init__(self, store: ReplyStore, server: str) -> None:
        super().__init__(store)
        self.server = server

    def begin(self, job: str, keys: Iterable[str]) -> None:
        """Record a job before it is submitted, so that no submitted job is lost.

        Args:
            job: local name of the job.
            keys: reply keys of its requests, in the order of its file.
        """
        self.start()
        keys = list(keys)
        row = _job_row(job, self.server, None, self.name, _checksum(*keys))
        with self.store.writing() as connection:
            connection.execute("INSERT INTO jobs VALUES (?, ?, ?, ?)", row)
            connection.executemany("INSERT OR REPLACE INTO job_keys VALUES (?, ?)", ((key, job) for key in keys))

    def mark_accepted(self, job: str, remote: str) -> None:
        """Record the server's name (`remote`) of an accepted job."""
        with self.store.writing() as connection:
            keys = [
                _split_owner(owner)[2]
                for (owner,) in connection.execute("SELECT owner FROM jobs WHERE job = ?", (job,))
            ]
            row = _job_row(job, self.server, remote, self.name, "".join(keys))
            connection.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?)", row)

    def end(self, job: str) -> None:
        """Delete the record of a job that is fetched, or that the server never received.

        A record with another server stays, and counts as undamaged: it may be right.
        """
        with self.store.writing() as connection:
            rows = connection.execute("SELECT server, remote, owner FROM jobs WHERE job = ?", (job,)).fetchall()
            for server, remote, owner in rows:
                if server != self.server:
                    name, _, keys = _split_owner(owner)
                    row = _job_row(job, server, remote, name, keys)
                    connection.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?)", row)
                    return
            connection.execute("DELETE FROM job_keys WHERE job = ?", (job,))
            connection.execute("DELETE FROM jobs WHERE job = ?", (job,))

    def pending_jobs(self) -> dict[str, str | None]:
        """Return the jobs as local name -> server's name; None if it is unknown, and has to be found by the local name.

        Jobs that another live run is submitting are omitted. Jobs whose record is damaged are included: the damage may
        concern the server.
        """
        with self.store.reading() as connection:
            rows = connection.execute("SELECT job, server, remote, owner FROM jobs").fetchall()
            orphans = connection.execute("SELECT DISTINCT job FROM job_keys WHERE job NOT IN (SELECT job FROM jobs)")
            damaged = {job for (job,) in orphans if _is_id(job)}
        damaged |= {row[0] for row in rows if _is_id(row[0]) and _is_damaged(row)}
        for job in sorted(damaged):
            log.warning("%s: the record of batch job %s is damaged; asking the server for it", self.store.path, job)
        known = {
            job: remote
            for job, server, remote, owner in rows
            if server == self.server and _is_id(job) and (remote or not self.is_alive(_split_owner(owner)[0]))
        }
        return known | dict.fromkeys(damaged)

    def lists_all_requests(self, job: str) -> bool:
        """Return whether the list of a job's requests is undamaged; those of earlier versions count as undamaged."""
        with self.store.reading() as connection:
            rows = connection.execute("SELECT owner FROM jobs WHERE job = ?", (job,)).fetchall()
        checksums = [_split_owner(owner)[2] for (owner,) in rows]
        return all(checksum in ("", _checksum(*self.keys(job))) for checksum in checksums)

    def job_of(self, key: str) -> str | None:
        """Return the local name of the job that contains the request with this reply key."""
        with self.store.reading() as connection:
            row = connection.execute("SELECT job FROM job_keys NATURAL JOIN jobs WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def keys(self, job: str) -> list[str]:
        """Return the reply keys of a job's requests, in the order of its file."""
        with self.store.reading() as connection:
            rows = connection.execute("SELECT key FROM job_keys WHERE job = ? ORDER BY rowid", (job,))
            return [key for (key,) in rows]
