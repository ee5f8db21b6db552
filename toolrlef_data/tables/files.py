"""Atomic writes, checks of stored files and folders, and the folder for data that outlives the stage cache.

A stored file is checked against its size and checksum before it is read: a JSON file ends with its checksum
(`write_json`), and a folder has a list of its files (`seal`). A file of an earlier version has neither, and is read
without a check (`checksums`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pyarrow as pa
import xxhash

from toolrlef_data.records import ToolrlefError
from toolrlef_data.tables.checksums import stamp, warn_of_damage

__all__ = [
    "SEALED",
    "STAMPS",
    "atomic_file",
    "create_folder",
    "damaged_file",
    "explain_disk_errors",
    "file_digest",
    "fill_once",
    "home_dir",
    "read_json",
    "remove",
    "remove_stale_files",
    "replace_folder",
    "scratch_file",
    "scratch_folder",
    "seal",
    "write_json",
    "write_tables",
]

log = logging.getLogger("toolrlef_data")
SCRATCH = ".tmp-"  # hidden, so that readers of a folder ignore the scratch files of a killed process
STALE_SECONDS = 86_400  # older scratch files belong to killed processes
STAMPS = ".stamps.json"  # the list of the files of a sealed folder
SEALED = ".sealed"  # an empty file of a sealed folder, so that a missing list is noticed
# A full disk, a used-up quota of the user or group, and the largest file that a system or `ulimit -f` allows.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}
_checksum_line = re.compile(rb"[0-9a-f]{32}")


def home_dir() -> Path:
    """Return the folder for data that outlives the stage cache: replies, converted weights, indexes and adapters.

    It may be missing: `scratch_file`, `write_json` and `fill_once` create the folders that they write to.
    """
    return Path(huggingface_hub.constants.HF_HOME) / "toolrlef_data"


@contextlib.contextmanager
def scratch_file(folder: Path, prefix: str = SCRATCH) -> Iterator[Path]:
    """Yield a temporary path in a folder; a file that the caller has not renamed at the end is removed."""
    with explain_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{prefix}{uuid.uuid4().hex}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Yield a new, empty folder in `parent`, which is removed at the end."""
    path = parent / f"{SCRATCH}{uuid.uuid4().hex}"
    with explain_disk_errors(parent):
        path.mkdir(parents=True)
        try:
            yield path
        finally:
            remove(path)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a new file, and rename the file to `path` if the block ends without an error.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_file(Path(folder, "rows.txt")) as scratch:
    ...         _ = scratch.write_text("complete")
    ...     Path(folder, "rows.txt").read_text()
    'complete'
    """
    with scratch_file(path.parent) as scratch:
        yield scratch
        os.replace(scratch, path)


@contextlib.contextmanager
def create_folder(folder: Path) -> Iterator[None]:
    """Create a folder and its missing parents, and remove them again if the block raises an error."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in missing:
            with contextlib.suppress(OSError):  # it was not created, or has files of another process
                path.rmdir()
        raise


@contextlib.contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Yield a new, empty folder that replaces the given one if the block ends without an error.

    The caller must hold a lock. If an earlier call was interrupted between its two renames, the old folder is restored
    first.
    """
    new, old = (folder.with_name(f".{folder.name}.{word}") for word in ("new", "old"))
    with explain_disk_errors(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
    if old.is_dir() and not old.is_symlink() and not folder.exists():
        old.rename(folder)
    for path in (new, old):
        remove(path)
    new.mkdir()
    try:
        with explain_disk_errors(folder.parent):
            yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        remove(new)
        raise
    remove(old)


def fill_once(folder: Path, fill: Callable[[Path], object], is_complete: Callable[[Path], bool] = Path.is_dir) -> Path:
    """Return a folder, filled by the first process that needs it; other processes wait for it.

    A folder with a damaged file is filled again, with a warning.

    Args:
        folder: the name must identify the content.
        fill: writes the content into the folder that it receives.
        is_complete: returns whether the folder is already filled; default: whether it exists.
    """
    import filelock

    if not is_complete(folder) or damaged_file(folder):
        with explain_disk_errors(folder.parent):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(folder.with_name(f"{folder.name}.lock")):
                damaged = damaged_file(folder)
                if damaged is not None:
                    log.warning("%s is damaged or missing: its folder is built again", damaged)
                if damaged is not None or not is_complete(folder):
                    with replace_folder(folder) as new:
                        fill(new)
                        seal(new)
    return folder


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with its content; do nothing if the path does not exist."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def explain_disk_errors(folder: Path) -> Iterator[None]:
    """Convert the error of a full disk, or of a folder or file without access, into a `ToolrlefError`."""
    try:
        yield
    except OSError as error:
        # Arrow has some of these errors as text only.
        full = [os.strerror(code) for code in FULL if error.errno == code or os.strerror(code) in str(error)]
        if full:
            raise ToolrlefError(
                f"the disk under {folder} is full ({full[0]}). Completed work is saved; free some space and run again."
            ) from error
        if error.errno in UNWRITABLE and _is_related(folder, error.filename):
            is_file = error.errno == errno.EACCES and os.path.isfile(error.filename)  # perhaps of another user
            place = f"read or write {os.fsdecode(error.filename)}" if is_file else f"write to {folder}"
            raise ToolrlefError(f"cannot {place} ({error.strerror}){_remedy(folder)}") from error
        raise


def _is_related(folder: Path, name: Any) -> bool:
    """Return whether an error names a folder, a path inside it or a parent that cannot be created."""
    path = Path(os.fsdecode(name)) if isinstance(name, (str, bytes)) else None
    return path is not None and (path.is_relative_to(folder) or folder.is_relative_to(path))


def _remedy(folder: Path) -> str:
    """Return the part of a message that names the environment variables of a cache folder."""
    import datasets

    if folder.is_relative_to(datasets.config.HF_DATASETS_CACHE):
        return ": set HF_DATASETS_CACHE or HF_HOME to a folder that can be written"
    if folder.is_relative_to(huggingface_hub.constants.HF_HOME):
        return ": set HF_HOME to a folder that can be written"
    return ""


def remove_stale_files(folder: Path, prefixes: tuple[str, ...] = (SCRATCH, "tmp")) -> None:
    """Remove scratch files and folders older than `STALE_SECONDS`, and files of `datasets`, which are named tmp*."""
    for path in (path for prefix in prefixes for path in folder.glob(f"{prefix}*")):
        with contextlib.suppress(FileNotFoundError):  # another process may remove the same file
            is_ours = path.name.startswith(SCRATCH) or path.is_file()
            if is_ours and time.time() - path.stat().st_mtime > STALE_SECONDS:
                remove(path)


def write_tables(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Write Arrow tables to one file, which `datasets` can open."""
    with open(path, "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for table in tables:
            writer.write_table(table)


def file_digest(path: Path, digits: int = 32) -> str:
    """Return the first `digits` hexadecimal digits of the SHA-256 of a file."""
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()[:digits]


# Checks of stored files -----------------------------------------------------------------------------------------------


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value, followed by a line with its checksum."""
    text = json.dumps(value, sort_keys=True, indent=1).encode()
    with atomic_file(path) as scratch:
        scratch.write_bytes(text + b"\n" + xxhash.xxh3_128_hexdigest(text).encode())


def read_json(path: Path) -> Any:
    """Return the value that `write_json` wrote; None if the file is missing or, with a warning, if it is damaged.

    A JSON file without a checksum is read as it is.
    """
    try:
        return _checked_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        warn_of_damage(path, "it is ignored")
        return None


def _checked_json(path: Path) -> Any:
    """Return the value of a JSON file; raise a `ValueError` if it does not fit its checksum or is not JSON."""
    content = path.read_bytes()
    text, _, checksum = content.rpartition(b"\n")
    if _checksum_line.fullmatch(checksum) is None:
        return json.loads(content)
    if xxhash.xxh3_128_hexdigest(text).encode() != checksum:
        raise ValueError("the checksum differs")
    return json.loads(text)


def seal(folder: Path) -> None:
    """Write the list of the files in a folder with their stamps, which `damaged_file` compares with the disk."""
    (folder / SEALED).touch()
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    write_json(folder / STAMPS, {name: stamp(folder / name) for name in names if name != SEALED})


def damaged_file(folder: Path) -> Path | None:
    """Return a missing or damaged file of a sealed folder; None if there is none, or if the folder is not sealed."""
    try:
        stamps: dict[str, Any] = _checked_json(folder / STAMPS)
    except (FileNotFoundError, NotADirectoryError):
        return folder / STAMPS if (folder / SEALED).exists() else None
    except ValueError:
        return folder / STAMPS
    paths = ((folder / name, expected) for name, expected in stamps.items())
    return next((path for path, expected in paths if not path.is_file() or list(stamp(path)) != expected), None)
