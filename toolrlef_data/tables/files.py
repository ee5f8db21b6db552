"""files: writing that is whole or not there at all, digests of files, and the folder that outlives the stage cache."""

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
    "clear_when_full",
    "file_digest",
    "fill_once",
    "home_dir",
    "remove",
    "replace_folder",
    "scratch_file",
    "sweep",
]

SCRATCH = ".tmp-"  # hidden, so that no reader of a folder takes what a killed process left for a file of its own
LEFT_BEHIND = 86_400  # seconds after which a scratch file is taken for one of a killed process


def home_dir() -> Path:
    """The folder for what must outlive the stage cache: replies, converted weights, indexes, adapters."""
    folder = Path(huggingface_hub.constants.HF_HOME) / "toolrlef_data"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def scratch_file(folder: Path) -> Iterator[Path]:
    """A path in a folder for a file whose name is found as it is written; gone afterwards unless it was renamed."""
    path = folder / f"{SCRATCH}{uuid.uuid4().hex}"
    try:
        with clear_when_full(folder):
            yield path
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A scratch path that takes the place of a file when the block ends without an error.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_file(Path(folder, "rows.txt")) as scratch:
    ...         _ = scratch.write_text("whole")
    ...     Path(folder, "rows.txt").read_text()
    'whole'
    """
    with scratch_file(path.parent) as scratch:
        yield scratch
        os.replace(scratch, path)


@contextlib.contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside a folder, which takes its place when the block ends without an error.

    Whoever calls holds a lock. What an interrupted call left is mended first: the old folder comes back where it was
    moved away and nothing had taken its place.
    """
    new, old = (folder.with_name(f".{folder.name}.{word}") for word in ("new", "old"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    if old.is_dir() and not old.is_symlink() and not folder.exists():
        old.rename(folder)  # interrupted between the two renames
    for left in (new, old):
        remove(left)
    new.mkdir()
    try:
        with clear_when_full(folder.parent):
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


def fill_once(folder: Path, fill: Callable[[Path], object], is_whole: Callable[[Path], bool] = Path.is_dir) -> Path:
    """A folder that is filled by the first process that needs it, while the others wait.

    Args:
        folder: its name stands for its content.
        fill: writes the content into the folder that it is given.
        is_whole: whether the folder need not be filled (again).
    """
    import filelock

    if not is_whole(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder.with_name(f"{folder.name}.lock")):
            if not is_whole(folder):
                with replace_folder(folder) as new:
                    fill(new)
    return folder


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it; nothing where there is none."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def clear_when_full(folder: Path) -> Iterator[None]:
    """Say which disk is full, where one is."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC or "No space left" in str(error):
            raise ToolrlefError(
                f"the disk under {folder} is full; free some space and run again: what was finished is kept"
            ) from error
        raise


def sweep(folder: Path) -> None:
    """Remove what killed writers left behind more than a day ago."""
    for path in (*folder.glob(f"{SCRATCH}*"), *folder.glob("tmp*")):
        with contextlib.suppress(FileNotFoundError):  # another process sweeps too
            if path.is_file() and time.time() - path.stat().st_mtime > LEFT_BEHIND:
                path.unlink()


def file_digest(path: Path, digits: int = 32) -> str:
    """The first hexadecimal digits of the SHA-256 of a file's content."""
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()[:digits]
