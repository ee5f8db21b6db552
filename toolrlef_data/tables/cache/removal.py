"""The stages on disk, and their removal by age or by fingerprint.

A stage is kept if a running process may use it, and with it all stages that it was computed from. A table that is open
stays readable, because its file is in memory until it is closed. Files that this package did not write are left alone.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolrlef_data.tables.files import SCRATCH
from toolrlef_data.tables.stage_cache import read_record, record_path, stages_dir

__all__ = ["StoredStage", "choose_stages", "remove_stages", "size_of", "stored_stages"]

_is_table = re.compile(r"[0-9a-f]{32}(?:-[0-9a-f]{16})?\.arrow").fullmatch
_is_record = re.compile(r"[0-9a-f]{32}\.json").fullmatch


@dataclass(frozen=True, slots=True)
class StoredStage:
    """A stage on disk.

    Args:
        key: the fingerprint; for a table without a record, such as that of a killed process, the name of its file.
        step: the name of the stage; "" without a record.
        inputs: the fingerprints of its inputs.
        files: its tables and its record; several stages can share a table.
        last_use: time of the last use in nanoseconds.
        replaced_by: the fingerprint of the stage that its record names in its place; "" if there is none.
    """

    key: str
    step: str
    inputs: tuple[str, ...]
    files: tuple[Path, ...]
    last_use: int
    replaced_by: str = ""


def stored_stages() -> list[StoredStage]:
    """Return the stages on disk, those with a record first."""
    folder = stages_dir()
    times = {path: path.stat().st_mtime_ns for path in _files_in(folder)}
    stages, recorded = [], set()
    for path in [path for path in times if _is_record(path.name)]:
        record = read_record(path.stem) or {}
        names = [Path(name) for name in (*record.get("files", ()), *record.get("dropped_files", ()))]
        tables = [name for name in dict.fromkeys(names) if name in times]  # not the user's files, elsewhere
        recorded.update(tables)
        inputs = tuple(record.get("inputs", ()))
        replaced_by = record.get("replaced_by", "")
        stages.append(StoredStage(path.stem, record.get("step", ""), inputs, (*tables, path), times[path], replaced_by))
    lost = [path for path in times if _is_table(path.name) and path not in recorded]
    return [*stages, *(StoredStage(path.name, "", (), (path,), times[path]) for path in lost)]


def choose_stages(
    stages: Iterable[StoredStage],
    *,
    used_before: int | None = None,
    only: Collection[str] | None = None,
    keep: Collection[str] = (),
) -> list[StoredStage]:
    """Return the stages that fulfil all conditions and that no other stage was computed from.

    Args:
        stages: all stages on disk.
        used_before: a time in nanoseconds; later used stages are kept. Default: none.
        only: fingerprints; other stages are kept. Default: all.
        keep: fingerprints of stages to keep. Default: none.

    >>> a, b = StoredStage("a", "load", (), (), 1), StoredStage("b", "grade", ("a",), (), 9)
    >>> choose_stages([a, b], used_before=5), [stage.key for stage in choose_stages([a, b])]
    ([], ['a', 'b'])
    """
    by_key = {stage.key: stage for stage in stages}
    pending = [
        stage.key
        for stage in by_key.values()
        if not stage.replaced_by
        and (
            (used_before is not None and stage.last_use >= used_before)
            or (only is not None and stage.key not in only)
            or stage.key in keep
        )
    ]
    kept: set[str] = set()
    while pending:
        key = pending.pop()
        if key in by_key and key not in kept:
            kept.add(key)
            pending += by_key[key].inputs
    return [stage for stage in by_key.values() if (stage.replaced_by or stage.key) not in kept]


def remove_stages(chosen: Sequence[StoredStage], stages: Iterable[StoredStage]) -> int:
    """Remove the chosen ones of the stages on disk; return the number of bytes.

    A stage that was used since it was listed stays.
    """
    keys = {stage.key for stage in chosen}
    needed = {file for stage in stages if stage.key not in keys for file in stage.files}
    before = time.time_ns()
    removable: set[Path] = set()
    n_bytes = 0
    for stage in chosen:
        record = record_path(stage.key)
        if record in stage.files:
            size = record.stat().st_size if record.exists() else 0
            if not _remove_record(record, stage.last_use):
                needed.update(stage.files)
                continue
            n_bytes += size
        removable.update(file for file in stage.files if file != record)
    for file in removable - needed:
        if file.exists() and file.stat().st_mtime_ns < before:  # not written again meanwhile
            n_bytes += file.stat().st_size
            file.unlink()
    return n_bytes


def size_of(stages: Iterable[StoredStage]) -> tuple[int, int]:
    """Return the number of bytes and of files; a file that several stages share counts once."""
    files = {file for stage in stages for file in stage.files if file.exists()}
    return sum(file.stat().st_size for file in files), len(files)


def _remove_record(path: Path, last_use: int) -> bool:
    """Remove a record unless it was used since; a process that reads it meanwhile computes the stage again."""
    removed = path.with_name(f"{SCRATCH}{uuid.uuid4().hex}")
    try:
        os.rename(path, removed)
    except FileNotFoundError:
        return True
    if removed.stat().st_mtime_ns > last_use:
        os.rename(removed, path)
        return False
    removed.unlink()
    return True


def _files_in(folder: Path) -> list[Path]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in paths if (_is_table(path.name) or _is_record(path.name)) and path.is_file()]
