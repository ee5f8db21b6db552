"""Listing, digesting and reading the files of a folder tree, with any file names and any types of entries.

This module is separate from the builders because `datasets` replaces `open`, `os` and `Path` in every module that
defines a builder. Its replacements are slower and interpret "::" in a path as a path into an archive.
Not covered: archives and compressed files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from toolrlef_data.loading_scripts.fields import escape_surrogates
from toolrlef_data.records import Drop, InputError

__all__ = ["MAX_FILE_BYTES", "list_files", "read_file", "tree_digest"]

MAX_FILE_BYTES = 64 << 20


def list_files(folder: Path, part: str = "", suffix: str = ".json", recursive: bool = True) -> list[str]:
    """Return the sorted paths of the files in a folder, relative to it, with "/"; hidden entries are skipped.

    Unreadable files and special files are included. A folder whose contents cannot be listed is included as a path that
    ends in "/". A link to a folder is followed if its target is outside `folder`. No folder is read twice.

    Args:
        folder: the folder to list.
        part: a text that the file names must contain. Default: "", which accepts all names.
        suffix: the end of the file names. Default: ".json".
        recursive: whether to list subfolders. Default: True.

    Raises:
        InputError: the folder cannot be listed, or no file matches; the message lists its contents.
    """
    names = sorted(_walk(str(folder), part, suffix, recursive))
    if not names:
        contents = ", ".join(sorted(os.listdir(folder))[:8]) or "nothing"
        raise InputError(f"{folder} contains no *{part}*{suffix}; found: {escape_surrogates(contents)}")
    return names


def _walk(root: str, part: str, suffix: str, recursive: bool) -> Iterator[str]:
    """Yield the paths that `list_files` returns, unsorted."""
    real_root = os.path.join(os.path.realpath(root), "")
    listed: set[tuple[int, int]] = set()  # device and inode
    folders: list[str] = [""]
    links: list[str] = []
    while folders or links:  # links last, so that a folder is listed under its real name if possible
        prefix = folders.pop() if folders else links.pop()
        path = os.path.join(root, prefix)
        try:
            status = os.stat(path)
            entries = [] if (status.st_dev, status.st_ino) in listed else list(os.scandir(path))
        except OSError as error:
            if not prefix:
                raise InputError(f"data_dir cannot be listed: {root} ({error.strerror})") from None
            yield prefix
            continue
        listed.add((status.st_dev, status.st_ino))
        for entry in sorted(entries, key=lambda entry: entry.name, reverse=True):
            if entry.name.startswith("."):
                continue
            if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                if not entry.is_symlink():
                    folders.append(f"{prefix}{entry.name}/")
                elif not real_root.startswith(os.path.join(os.path.realpath(entry.path), "")):
                    links.append(f"{prefix}{entry.name}/")  # the target does not contain `root`
            elif entry.name.endswith(suffix) and part in entry.name:
                yield f"{prefix}{entry.name}"
        if not recursive:
            return


def tree_digest(folder: Path, names: Iterable[str]) -> str:
    """Return a digest of the names and contents of files; unreadable files count as empty."""
    total, buffer = hashlib.sha256(), memoryview(bytearray(1 << 18))
    for name in names:
        content = hashlib.sha256()
        path = f"{folder}{os.sep}{name}"
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe would block
                with open(path, "rb", buffering=0) as file:
                    while size := file.readinto(buffer):
                        content.update(buffer[:size])
        total.update(f"{name}/{content.hexdigest()}/".encode(errors="surrogateescape"))
    return total.hexdigest()


def read_file(path: str) -> str | Drop:
    """Return the exact text of a file, without a byte order mark, or a drop.

    Returns:
        The text, or a drop with the reason `unreadable`, `too_large` (more than `MAX_FILE_BYTES`) or `not_json` (not
        UTF-8).
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return Drop("unreadable", "the folder cannot be listed" if path.endswith("/") else "not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            return Drop("too_large", f"{status.st_size} bytes")
        with open(path, "rb", buffering=0) as file:
            return file.readall().decode("utf-8-sig")
    except OSError as error:
        return Drop("unreadable", error.strerror or type(error).__name__)
    except UnicodeDecodeError as error:
        return Drop("not_json", f"not UTF-8: {error.reason} at byte {error.start}")
