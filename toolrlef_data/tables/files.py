"""Atomic writes of files and folders, file digests, and the folder for data that outlives the stage cache."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub.constants

from toolrlef_data.records import ToolrlefError

__all__ = [
    "atomic_file",
    "explain_full_disk",
    "file_digest",
    "fill_once",
    "home_dir",
    "remove",
    "remove_stale_files",
    "replace_folder",
    "scratch_file",
]

SCRATCH = ".tmp-"  # hidden, so that readers of a folder ignore the scratch files of a killed process
STALE_SECONDS = 86_400  # older scratch files belong to killed processes


def home_dir() -> Path:
    """Return the folder for data that outlives the stage cache: replies, converted weights, indexes and adapters."""
    folder = Path(huggingface_hub.constants.HF_HOME) / "toolrlef_data"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def scratch_file(folder: Path) -> Iterator[Path]:
    """Yield a temporary path in a folder; a file that the caller has not renamed at the end is removed."""
    path = folder / f"{SCRATCH}{uuid.uuid4().hex}"
    try:
        with explain_full_disk(folder):
            yield path
    finally:
        path.unlink(missing_ok=True)


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
    folder.parent.mkdir(parents=True, exist_ok=True)
    if old.is_dir() and not old.is_symlink() and not folder.exists():
        old.rename(folder)
    for path in (new, old):
        remove(path)
    new.mkdir()
    try:
        with explain_full_disk(folder.parent):
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

    Args:
        folder: the name must identify the content.
        fill: writes the content into the folder that it receives.
        is_complete: returns whether the folder is already filled; default: whether it exists.
    """
    import filelock

    if not is_complete(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder.with_name(f"{folder.name}.lock")):
            if not is_complete(folder):
                with replace_folder(folder) as new:
                    fill(new)
    return folder


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with its content; do nothing if the path does not exist."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Convert the error of a full disk into a `ToolrlefError` that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC or "No space left" in str(error):
            raise ToolrlefError(
                f"the disk under {folder} is full. Completed work is saved; free some space and run again."
            ) from error
        raise


def remove_stale_files(folder: Path) -> None:
    """Remove scratch files older than `STALE_SECONDS`, including those of `datasets`, which are named tmp*."""
    for path in (*folder.glob(f"{SCRATCH}*"), *folder.glob("tmp*")):
        with contextlib.suppress(FileNotFoundError):  # another process may remove the same file
            if path.is_file() and time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


def file_digest(path: Path, digits: int = 32) -> str:
    """Return the first `digits` hexadecimal digits of the SHA-256 of a file."""
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()[:digits]
