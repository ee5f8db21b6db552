"""The folder of the shards of one run: the names of its files, the locks, and the checks of finished shards.

| file | content |
|---|---|
| `kept/TASK-NAME-I-of-N.parquet` | the rows of a table to publish; for a cassette also of its executions |
| `kept/calls-M-I-of-N.parquet` | the calls that the engine of a tool answers |
| `dropped/I-of-N.parquet` | the dropped rows, in the order of the stages |
| `done/I-of-N.json` | the record, written last |
| `replies-I-of-N.sqlite` | the reply store |
| `stages/I-of-N` | the stage cache, until the shard is finished |
| `shards.json` | the number of shards |

Files are written beside their place and renamed. A record has the SHA-256 of the files of its shard.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from toolrlef_data.checks import as_path, is_url
from toolrlef_data.recipes.shards.numbers import Shard
from toolrlef_data.records import InputError
from toolrlef_data.tables.files import explain_disk_errors, file_digest, read_json, write_json

__all__ = ["ShardFolder", "shard_folder", "shard_names"]

MAX_NAMES = 12  # shards that a message names
OWN_FOLDERS = ("dropped", "done", "kept", "locks", "parts", "stages", "tables")  # parts and tables: of a Ray cluster
RECORD_KEYS = {"chain", "rows_in", "rows_out", "dropped", "usage", "stages", "files"}


@dataclass(frozen=True)
class ShardFolder:
    """The folder of all shards of one run.

    >>> ShardFolder(Path("run")).record(Shard(3, 64)).as_posix()
    'run/done/00003-of-00064.json'
    """

    path: Path

    def kept(self, label: str, shard: Shard) -> Path:
        return self.path / "kept" / f"{label}-{shard.name}.parquet"

    def dropped(self, shard: Shard) -> Path:
        return self.path / "dropped" / f"{shard.name}.parquet"

    def record(self, shard: Shard) -> Path:
        return self.path / "done" / f"{shard.name}.json"

    def replies(self, shard: Shard) -> Path:
        return self.path / f"replies-{shard.name}.sqlite"

    def stages(self, shard: Shard) -> Path:
        return self.path / "stages" / shard.name

    def count(self) -> int | None:
        """Return the number of shards; None if no shard has run."""
        with explain_disk_errors(self.path):
            known = read_json(self.path / "shards.json")
        count = known.get("shards") if isinstance(known, dict) else None
        return count if isinstance(count, int) and count > 0 else None

    def check_out(self, out: str | Path) -> None:
        """Raise InputError if a folder to publish to is this folder or in one whose files a run writes and removes."""
        path, own = as_path("out", out).resolve(), self.path.resolve()
        used = own if path == own else next((own / n for n in OWN_FOLDERS if path.is_relative_to(own / n)), None)
        if used is not None:
            raise InputError(
                f"out: {path} cannot be published to, since a run writes and removes files of its own in {used}: "
                f"choose another folder, such as {own / 'published'}"
            )

    def bind(self, count: int) -> None:
        """Write the number of shards at the first run; raise InputError if it differs at a later one."""
        with explain_disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.path / "shards.lock"):
                known = self.count()
                if known is None:
                    write_json(self.path / "shards.json", {"shards": count})
        if known not in (None, count):
            raise InputError(
                f"{self.path} is the folder of {known} shards, and this is one of {count}: pass --shard I/{known} (on "
                f"Ray --shards {known}), or another folder. A Slurm array with a part of the shards needs --shard "
                f"$SLURM_ARRAY_TASK_ID/{known}"
            )

    @contextlib.contextmanager
    def locked(self, shard: Shard, wait: float = 0.0) -> Iterator[None]:
        """Hold the lock of a shard; raise InputError if another process still runs it after `wait` seconds."""
        folder = self.path / "locks"
        with explain_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(folder / f"{shard.name}.lock", is_singleton=False)
            try:
                lock.acquire(timeout=wait)
            except filelock.Timeout:
                raise InputError(
                    f"the shard {shard} in {self.path} is run by another process: wait for it, or end it"
                ) from None
            try:
                yield
            finally:
                lock.release()

    def read_record(self, shard: Shard, chain: str) -> tuple[dict[str, Any] | None, str]:
        """Return the record of a finished shard and "", or None and the reason why it does not count.

        Args:
            shard: the shard.
            chain: the fingerprint of the chain.
        """
        record = read_json(self.record(shard))
        if record is None:
            return None, "damaged" if self.record(shard).exists() else "missing"
        if not isinstance(record, dict) or not record.keys() >= RECORD_KEYS:
            return None, "damaged"
        if record["chain"] != chain:
            return None, "of another recipe, source or version"
        paths = [*(self.kept(label, shard) for label in record["rows_out"]), self.dropped(shard)]
        if record["files"].keys() != {path.relative_to(self.path).as_posix() for path in paths}:
            return None, "with the record of another shard"
        for name, expected in record["files"].items():
            path = self.path / name
            if not path.exists():
                return None, f"without {name}"
            if file_digest(path, 64) != expected:
                return None, f"with a damaged {name}"
        return record, ""


def shard_folder(folder: str | Path) -> ShardFolder:
    """Return the folder of all shards; raise InputError for a URL, such as that of object storage.

    >>> shard_folder("s3://bucket/run")
    Traceback (most recent call last):
    toolrlef_data.records.InputError: folder: 's3://bucket/run' is object storage or another URL. The shards need a ...
    """
    if is_url(folder):
        raise InputError(
            f"folder: {str(folder)!r:.80} is object storage or another URL. The shards need a file system with renames "
            "and locks that all machines share, such as NFS: pass its path"
        )
    return ShardFolder(as_path("folder", folder))


def shard_names(numbers: list[int]) -> str:
    """Return the numbers of shards as text.

    >>> shard_names([1, 2, 3, 7])
    '1-3, 7'
    """
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    names = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    more = [f"and {len(names) - MAX_NAMES} more"] if len(names) > MAX_NAMES else []
    return ", ".join([*names[:MAX_NAMES], *more])
