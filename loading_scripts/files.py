"""files: finding, digesting and reading many files of a folder tree, whatever their names are and whatever is there.

It stands apart from the builders because `datasets` replaces `open`, `os` and `Path` in every module that holds one, by
its own, which are slower and take "::" in a path for a way into an archive. Not covered: archives and compressed files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from toolrlef_data.loading_scripts.fields import encodable
from toolrlef_data.records import Drop, InputError

__all__ = ["MAX_BYTES", "as_path", "files_below", "tree_digest", "whole_text"]

MAX_BYTES = 64 << 20  # of a file


def as_path(place: str | Path) -> Path:
    """A place as a path, made here, where `Path` is Python's own."""
    return Path(place)


def files_below(folder: Path, part: str = "", suffix: str = ".json", recursive: bool = True) -> list[str]:
    """The files of a folder, relative to it, with "/", in the order of their paths; hidden ones are left out.

    A link to a folder is followed where it leads out of `folder`; no folder is listed twice. What is no folder is
    listed, be it readable or not; a folder that cannot be listed is so, too, with "/" at its end.

    Args:
        folder: where to look.
        part: what a file's name has to hold.
        suffix: how it has to end.
        recursive: look into the folders below, too.

    Raises:
        InputError: the folder itself cannot be listed, or nothing is found; the message lists what is there.
    """
    found = sorted(_below(str(folder), part, suffix, recursive))
    if not found:
        there = ", ".join(sorted(os.listdir(folder))[:8]) or "nothing"
        raise InputError(f"{folder} holds no *{part}*{suffix}; found: {encodable(there)}")
    return found


def _below(root: str, part: str, suffix: str, recursive: bool) -> Iterator[str]:
    real_root = os.path.join(os.path.realpath(root), "")
    listed: set[tuple[int, int]] = set()
    folders: list[str] = [""]
    links: list[str] = []
    while folders or links:  # links last, so that a folder has its own name where it has one
        prefix = folders.pop() if folders else links.pop()
        here = os.path.join(root, prefix)
        try:
            facts = os.stat(here)
            entries = [] if (facts.st_dev, facts.st_ino) in listed else list(os.scandir(here))
        except OSError as error:
            if not prefix:
                raise InputError(f"data_dir cannot be listed: {root} ({error.strerror})") from None
            yield prefix
            continue
        listed.add((facts.st_dev, facts.st_ino))
        for entry in sorted(entries, key=lambda entry: entry.name, reverse=True):
            if entry.name.startswith("."):
                continue
            if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                if not entry.is_symlink():
                    folders.append(f"{prefix}{entry.name}/")
                elif not real_root.startswith(os.path.join(os.path.realpath(entry.path), "")):
                    links.append(f"{prefix}{entry.name}/")  # it does not lead to where `root` is itself
            elif entry.name.endswith(suffix) and part in entry.name:
                yield f"{prefix}{entry.name}"
        if not recursive:
            return


def tree_digest(folder: Path, names: Iterable[str]) -> str:
    """A digest of files' names and content; what cannot be read has none."""
    whole, room = hashlib.sha256(), memoryview(bytearray(1 << 18))
    for name in names:
        content = hashlib.sha256()
        path = f"{folder}{os.sep}{name}"
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.stat(path).st_mode):  # a pipe would wait
                with open(path, "rb", buffering=0) as file:
                    while size := file.readinto(room):
                        content.update(room[:size])
        whole.update(f"{name}/{content.hexdigest()}/".encode(errors="surrogateescape"))
    return whole.hexdigest()


def whole_text(path: str) -> str | Drop:
    """The text of a file as it stands, without a byte order mark, or why there is none.

    Returns:
        The text, or a drop as `unreadable`, `too_large` (more than `MAX_BYTES`) or `not_json` (not UTF-8).
    """
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            return Drop("unreadable", "a folder that cannot be listed" if path.endswith("/") else "it is no file")
        if facts.st_size > MAX_BYTES:
            return Drop("too_large", f"{facts.st_size} bytes")
        with open(path, "rb", buffering=0) as file:
            return file.readall().decode("utf-8-sig")
    except OSError as error:
        return Drop("unreadable", error.strerror or type(error).__name__)
    except UnicodeDecodeError as error:
        return Drop("not_json", f"it is not UTF-8: {error.reason} at byte {error.start}")
