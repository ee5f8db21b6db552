"""The list of published files in provenance.json, by which `publish` knows which files of a folder it wrote."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from toolrlef_data.publishing.figures.charts import FIGURES
from toolrlef_data.records import InputError, clean_text
from toolrlef_data.tables.files import file_digest
from toolrlef_data.trice.files.folder import NAMES, PENDING, PROVENANCE
from toolrlef_data.trice.files.lines import LEDGER_FILE

__all__ = [
    "CARD",
    "OLD",
    "RECIPE",
    "RESERVED",
    "VERSION",
    "Files",
    "as_json",
    "bytes_entry",
    "check_version",
    "file_entry",
    "files_in",
    "is_file",
    "name_exact_files",
    "parse_facts",
    "publications_in",
    "row_files",
    "seal",
]

Files = Mapping[str, Mapping[str, Any]]  # path in the folder -> {"bytes": size, "sha256": digest}

CARD = "README.md"
RECIPE = "recipe.yaml"
OLD = "provenance.old.json"  # in PENDING: provenance.json of the publication that is replaced
VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")  # the format of `datasets.Version`
RESERVED = ("version", "configs", "stages", "packages", "files", "sha256")  # keys of provenance.json
# Of earlier versions of this package:
SHARD = re.compile(r"\w+-\d{5}-of-\d{5}\.parquet")  # names of Parquet files
PATTERN = re.compile(r"^( *(?:path: |- ))(\w[\w.-]*/\w+-)\*$", re.MULTILINE)  # patterns of file names in cards


def check_version(version: str) -> None:
    """Raise InputError unless a version has the format of `datasets.Version`."""
    if not VERSION.fullmatch(str(version)):
        raise InputError(f"version must be three numbers like '1.2.3', found {version!r}")


def publications_in(out: Path) -> list[dict[str, Any]]:
    """Return the contents of provenance.json of each publication with files in a folder, newest first."""
    paths = (out / PENDING / PROVENANCE, out / PROVENANCE, out / PENDING / OLD)
    return [facts for path in paths if (facts := _read_facts(path, out))]


def _read_facts(path: Path, out: Path) -> dict[str, Any] | None:
    """Return the contents of a provenance.json; None if it is missing.

    Raises:
        InputError: `publish` did not write the file, or it has changed since.
    """
    if not os.path.lexists(path):
        return None
    facts = parse_facts(path.read_bytes() if path.is_file() and os.access(path, os.R_OK) else b"", str(path))
    if "files" not in facts:  # of an earlier version of this package
        facts["files"] = {name: file_entry(out / name) for name in _earlier_files(out, facts["configs"])}
    return facts


def parse_facts(text: bytes, origin: str) -> dict[str, Any]:
    """Return the contents of a provenance.json; those of an earlier version of this package have no `files`.

    Args:
        text: the file.
        origin: its place, for the message of an error.

    Raises:
        InputError: `publish` did not write the file, or it has changed since.
    """
    try:
        facts = json.loads(text)
        is_published = facts.keys() >= set(RESERVED[:4]) and "toolrlef_data" in facts["packages"]
        is_published = is_published and bool(VERSION.fullmatch(facts["version"]))
        has_list = is_published and facts.keys() >= {"files", "sha256"}
        is_published = is_published and (not has_list or _are_inside(facts["files"]))
    except (ValueError, TypeError, AttributeError, RecursionError):
        is_published = False
    if not is_published:
        raise InputError(f"{origin} was not written by `publish`: choose another folder, or move the file away")
    if has_list and seal(facts) != as_json(facts):
        raise InputError(
            f"{origin} has changed since it was published: undo the change, or choose another folder (provenance= adds "
            "entries)"
        )
    return dict(facts) if has_list else {name: facts[name] for name in facts if name not in ("files", "sha256")}


def _are_inside(files: Files) -> bool:
    """Return whether a list of files has the right form, with paths inside the folder only."""
    return all(
        name
        and not PurePosixPath(name).is_absolute()
        and not {"..", PENDING} & set(PurePosixPath(name).parts)
        and entry.keys() == {"bytes", "sha256"}
        for name, entry in files.items()
    )


def as_json(value: Any) -> str:
    """Return JSON with sorted keys, unescaped UTF-8 and a final newline."""
    return clean_text(json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True)) + "\n"


def seal(facts: Mapping[str, Any]) -> str:
    """Return the text of a provenance.json, with a digest of its other entries."""
    facts = json.loads(as_json({**facts, "sha256": ""}))
    return as_json({**facts, "sha256": hashlib.sha256(as_json(facts).encode()).hexdigest()})


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def file_entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_digest(path, 64)}


def bytes_entry(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def is_file(path: Path, entry: Mapping[str, Any] | None) -> bool:
    """Return whether a path is a file with the recorded size and digest."""
    return entry is not None and path.is_file() and path.stat().st_size == entry["bytes"] and file_entry(path) == entry


def row_files(files: Collection[str]) -> dict[tuple[str, ...], list[str]]:
    """Return (config, split) -> its Parquet files; (path,) -> the path of another file with rows."""
    parts: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(set(files) - {CARD, RECIPE, *FIGURES}):
        folder, _, file = name.rpartition("/")
        part = (folder, file.partition("-")[0]) if name.endswith(".parquet") else (name,)
        parts.setdefault(part, []).append(name)
    return parts


# Folders of earlier versions of this package, whose provenance.json has no list of files ------------------------------


def _earlier_files(out: Path, configs: Collection[str]) -> list[str]:
    """Return the paths of the published files in a folder.

    Args:
        out: the folder.
        configs: the names of the configs with lineage; the configs of dropped rows have none.
    """

    def is_config(name: str) -> bool:
        task, is_dropped = name.removesuffix("dropped"), name.endswith("-dropped")
        return name in configs or (is_dropped and any(config.startswith(task) for config in configs))

    shards = [path for path in out.glob("*/*.parquet") if is_config(path.parent.name) and SHARD.fullmatch(path.name)]
    if shards:
        paths = [out / CARD, *shards]
    else:
        paths = [out / LEDGER_FILE, *(path for place in NAMES for path in out.glob(f"{place}/*/*.json"))]
    return sorted(path.relative_to(out).as_posix() for path in paths if path.is_file())


def name_exact_files(text: str, out: Path) -> str:
    """Return the text of a card whose patterns (`math-stage1/train-*`) are replaced by the names of the present files.

    A pattern would also match the files of the next publication.
    """

    def exact(match: re.Match[str]) -> str:
        names = sorted(path.relative_to(out).as_posix() for path in out.glob(f"{match[2]}*"))
        if not names:
            return match[0]
        if match[1].endswith("- "):
            return "\n".join(match[1] + name for name in names)
        return match[1] + (names[0] if len(names) == 1 else json.dumps(names))

    return PATTERN.sub(exact, text)
