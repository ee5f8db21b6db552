"""Replace the files of a published folder, and nothing else in it.

provenance.json lists the files of a publication with their sizes and digests. A new publication is written to the
hidden folder `PENDING` in the folder, its provenance.json last. Once that is there, the publication is completed,
if need be by the next run:

1. The earlier provenance.json moves to `PENDING`, so that it never contradicts the other files.
2. The Parquet files move beside the earlier ones; their names contain a digest.
3. README.md, which names the exact Parquet files, is replaced: from now on, readers see the new publication.
4. The files of the earlier publication are removed, and the new provenance.json moves into the folder.

Files and folders are flushed to the disk before the steps 1, 3 and 4, so that the order also holds if the machine
stops. The layouts of TRICE's files have no README.md: each file is replaced in one piece, and provenance.json is
missing until all of them are new; `load_trice` refuses a folder in that state.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from toolrlef_data.checks import as_path, is_url
from toolrlef_data.publishing.figures.charts import FIGURES
from toolrlef_data.publishing.locks import locked_folder
from toolrlef_data.publishing.manifest import (
    CARD,
    OLD,
    RECIPE,
    Files,
    as_json,
    check_version,
    file_entry,
    files_in,
    is_file,
    name_exact_files,
    publications_in,
    row_files,
    seal,
)
from toolrlef_data.publishing.parquet_files import have_equal_rows
from toolrlef_data.records import InputError
from toolrlef_data.tables.files import explain_disk_errors, remove
from toolrlef_data.tables.stage_cache import stages_dir
from toolrlef_data.trice.files.folder import PENDING, PROVENANCE

__all__ = ["check_replaceable", "replace_publication", "usable_path"]

NEW = "files"  # in PENDING: the folder of the new files
PATTERN = re.compile(r"[*?]|\[.*\]|::", re.DOTALL)  # `load_dataset` reads a path with one of these as a pattern or URL
LONGEST_PATH = "/".join(["x" * 200] * 3)  # no path in a publication is longer
log = logging.getLogger("toolrlef_data")
REMEDY = "raise the version, choose another folder, or replace it with replace=True (--replace)"


def check_replaceable(
    out: str | Path, version: str = "", *, layout: str = "hub", replace: bool = False, recipe: bool = False
) -> Path:
    """Return the absolute path of a folder to publish to, after every check that needs no tables.

    Args:
        out: the folder. It is missing, has hidden files only, or is an earlier publication.
        version: the version to publish. Default: not checked.
        layout, replace: as in `publish`.
        recipe: whether recipe.yaml is published, too. Default: False.

    Raises:
        InputError: the folder cannot be written, `load_dataset` could not read it, `publish` did not write it, one of
            its files has changed since, its version is newer, or the given version is not one.
    """
    if version:
        check_version(version)
    out = usable_path(out, layout)
    with locked_folder(out) if out.is_dir() else contextlib.nullcontext():
        _check_folder(out, version, layout, replace, recipe)
    return out


def replace_publication(
    out: Path, write: Callable[[Path], Mapping[str, Any]], version: str, *, layout: str, replace: bool
) -> None:
    """Publish the files that `write` writes; a folder that already has the same files is not changed.

    Args:
        out: result of `usable_path`.
        write: writes all files except provenance.json into a folder, and returns the contents of provenance.json.
        version, layout, replace: as in `publish`.

    Raises:
        InputError: as in `check_replaceable`; or the publication has other rows under the same version, or the folder
            has a file with the name of a new file.
    """
    pending = out / PENDING
    with explain_disk_errors(out), locked_folder(out):
        try:
            _complete(out)
            _check_folder(out, version, layout, replace)
            (pending / NEW).mkdir(parents=True)
            facts = dict(write(pending / NEW))
            files = {path.relative_to(pending / NEW).as_posix(): path for path in files_in(pending / NEW)}
            facts["files"] = {name: file_entry(path) for name, path in files.items()}
            text = seal(facts)
            publications = publications_in(out)
            if publications and as_json(publications[0]) == text and all(map(os.path.exists, map(out.joinpath, files))):
                return
            if publications and not replace:
                _check_rows(out, publications[0], version, facts["files"])
            _check_targets(out, files, publications)
            _flush(*files.values(), *_folders(pending / NEW, files))
            _write(pending / PROVENANCE, text)
            _complete(out)
        finally:
            if not (pending / PROVENANCE).exists():
                remove(pending)


def _check_folder(out: Path, version: str, layout: str, replace: bool, recipe: bool = False) -> None:
    """Check the contents of a folder for `check_replaceable`; the caller holds the lock."""
    publications = publications_in(out)
    if not publications and out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise InputError(f"{out} exists and is not a published data set: choose another folder, or move it away")
    for name in dict.fromkeys(name for facts in publications for name in facts["files"]):
        entries = [facts["files"][name] for facts in publications if name in facts["files"]]
        if os.path.lexists(out / name) and not any(is_file(out / name, entry) for entry in entries):
            raise InputError(
                f"{out / name} has changed since it was published: move it out of the folder, and publish again "
                "(card= sets the metadata of README.md)"
            )
    if layout == "hub":
        _check_targets(out, [CARD, *FIGURES, *([RECIPE] if recipe else [])], publications)
    current = publications[0]["version"] if publications else version
    if version and not replace and _numbers(version) < _numbers(current):
        raise InputError(f"{out} has the version {current}, which is newer than {version}: {REMEDY}")


def usable_path(out: str | Path, layout: str) -> Path:
    """Return an absolute path without links; raise InputError if no data set can be written or read there."""
    if is_url(out):
        raise InputError(
            f"out: {str(out)!r:.80} is object storage or another URL: publish to a folder, and copy it there"
        )
    try:
        path = as_path("out", out).resolve()  # replace the target of a link, not the link
        existing = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
        names = path.relative_to(existing).parts
        for probe in (*map(existing.joinpath, names), path / LONGEST_PATH):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.lstat(probe)  # an error for names and paths that are too long
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links, or ~ of an unknown user
        raise InputError(f"{str(out)!r} cannot be a folder: {error}") from None
    if path.is_relative_to(cache := stages_dir().resolve()):
        raise InputError(f"{path} is in the cache of stages {cache}, which can be removed at any time: choose another")
    if layout == "hub" and PATTERN.search(str(path)):
        raise InputError(f"load_dataset cannot read a folder with *, ?, [...] or :: in its path: {path}")
    if not existing.is_dir():
        raise InputError(f"{existing} exists and is not a folder, so {path} cannot be one: choose another")
    if not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        raise InputError(f"{existing} is not writable: choose another folder for {path}, or change its permissions")
    return path


def _check_targets(out: Path, names: Iterable[str], publications: Iterable[Mapping[str, Any]]) -> None:
    """Raise InputError if a new file would replace a file, or need a folder, that `publish` did not write."""
    own = [facts["files"] for facts in publications]
    for name in names:
        for parent in [out / path for path in PurePosixPath(name).parents if path.name]:
            is_usable = parent.is_dir() and not parent.is_symlink() and parent.stat().st_dev == out.stat().st_dev
            if os.path.lexists(parent) and not is_usable:
                raise InputError(f"{parent} must be a folder, no link or mount point: move it away")
        if os.path.lexists(out / name) and not any(is_file(out / name, files.get(name)) for files in own):
            raise InputError(f"{out / name} was not written by `publish`, which needs this name: move it away")


def _check_rows(out: Path, facts: Mapping[str, Any], version: str, new: Files) -> None:
    """Raise InputError if a publication has the same version and other rows, or files that cannot be replaced."""
    old, folder = facts["files"], out / PENDING / NEW
    stale = [name for name in sorted(old.keys() - new.keys()) if "sha256" not in facts and name.endswith(".json")]
    if stale:
        raise InputError(
            f"{out} is of an earlier version of this package, which kept no list of its files: remove {stale[0]}, "
            f"or pass replace=True to remove {len(stale)} files: {', '.join(stale)}"
        )
    if _numbers(version) > _numbers(facts["version"]):
        return
    before, after = row_files(old), row_files(new)
    if before.keys() != after.keys() or not all(
        [old[name]["sha256"] for name in before[part]] == [new[name]["sha256"] for name in after[part]]
        or (len(part) == 2 and have_equal_rows((out, before[part]), (folder, after[part])))
        for part in after
    ):
        raise InputError(f"{out} has other rows under the same version {version}: {REMEDY}")


def _complete(out: Path) -> None:
    """Move the files of a complete pending publication into the folder, and discard an incomplete one.

    Every step can be repeated, so that the next run can complete what a killed one began.
    """
    pending = out / PENDING
    publications = publications_in(out)
    if not (pending / PROVENANCE).exists():
        remove(pending)
        return
    new: Files = publications[0]["files"]
    _check_targets(out, new, publications)
    if (out / PROVENANCE).exists():
        _set_aside(out, publications[1])
    old: Files = {name: entry for facts in publications_in(out)[1:] for name, entry in facts["files"].items()}
    has_card = (out / CARD).exists()
    # Without a card, `load_dataset` would read any Parquet file: then the card is the first file.
    for name in sorted(new, key=lambda name: ((name == CARD) == has_card, name)):
        target, source = out / name, pending / NEW / name
        if not source.exists() or is_file(target, new[name]):
            continue
        if name == CARD:
            _flush(*_folders(out, new))
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
    _flush(*_folders(out, new))
    for name in sorted(old.keys() - new.keys(), key=lambda name: (name == CARD, name)):
        if is_file(out / name, old[name]):
            (out / name).unlink()
            with contextlib.suppress(OSError):  # a folder with other files
                for parent in PurePosixPath(name).parents[:-1]:
                    (out / parent).rmdir()
    os.replace(pending / PROVENANCE, out / PROVENANCE)
    _flush(out)
    remove(pending)


def _set_aside(out: Path, facts: Mapping[str, Any]) -> None:
    """Move the provenance.json of the earlier publication to the pending one; it has a list of files afterwards."""
    if "sha256" not in facts:
        log.warning(
            "%s is of an earlier version of this package, which kept no list of its files: replacing these files, also "
            "if they have changed since: %s",
            out,
            ", ".join(sorted(facts["files"])),
        )
        if CARD in facts["files"]:
            _write(out / PENDING / CARD, name_exact_files((out / CARD).read_text(encoding="utf-8"), out))
            os.replace(out / PENDING / CARD, out / CARD)
            facts = {**facts, "files": {**facts["files"], CARD: file_entry(out / CARD)}}
    _write(out / PENDING / OLD, seal(facts))
    (out / PROVENANCE).unlink()
    _flush(out)


def _write(path: Path, text: str) -> None:
    """Write a file in one piece, on the disk."""
    scratch = path.with_name(f"{path.name}.unfinished")
    scratch.write_text(text, encoding="utf-8")
    _flush(scratch)
    os.replace(scratch, path)
    _flush(path.parent)


def _folders(root: Path, names: Iterable[str]) -> set[Path]:
    """Return the existing folders of files, with the root."""
    folders = {root / parent for name in names for parent in PurePosixPath(name).parents}
    return {folder for folder in folders if folder.is_dir()}


def _flush(*paths: Path) -> None:
    """Write files or folders to the disk, so that a later rename cannot overtake them if the machine stops."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # some file systems cannot flush folders
                raise
        finally:
            os.close(descriptor)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
