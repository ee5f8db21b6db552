"""trice_folder: the files of a folder in the original's layouts, found and read line by line.

What a file holds is told from its place and name: `raw/`, `stage1/`, `stage2/` and `dev/` hold a folder for each unit
(a task, a data set, or "mix"); `_right`, `_wrong` and `_response` end a name, any prefix begins it (`Math_`, `math_`,
the data set's). In `dev/` the name may go on with the split, `math_test.json`; without one the split is "dev";
`math_stage2.json` and `math_questions.json` have names of their own beside the `math.json` of stage 1.
A file is JSON Lines, or one JSON array; a byte order mark, empty lines and CRLF do not matter. What cannot be read as a
row is a `Fault`. The first line of a response file is the evaluator's summary where it is no row.
Not covered: evaluation results (`_result.json`), folders below a unit's, compressed files; they are listed as not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from toolrlef_data.records import InputError

__all__ = ["DEV", "MIX", "Fault", "File", "Line", "read_folder"]

PLACES = ("raw", "stage1", "stage2", "dev")
DEV, MIX = "dev", "mix"
LEFT = "dropped.json"
OWN_FILES = {"provenance.json", "README.md"}  # of `publish`
UNNAMED = "model"  # a response file that names no responder
ROW_KEYS = {"id", "question", "input", "instruction", "query", "output", "response"}
SPLIT = r"(?:_(?P<split>\w+?))?"


class Line(NamedTuple):
    """A row, and where it stands: "stage1/math/math.json, line 3"."""

    where: str
    row: dict[str, Any]


class Fault(NamedTuple):
    """What is no row: where, why, and the beginning of what stands there."""

    where: str
    reason: str
    detail: str


@dataclass(frozen=True)
class File:
    """A file's place and what it holds.

    Args:
        path: relative to the folder.
        place: "raw", "stage1", "stage2" or "dev".
        unit: the folder it is in.
        role: "right", "wrong", "response", "dropped" (the ledger that `publish` wrote), or "rows" for all others.
        name: the data set of a right, wrong or rows file (the unit's name where it holds all); the responder.
        split: "train", or what `dev/` tells.
        summary: the evaluator's line, "" where there is none.
    """

    path: str
    place: str
    unit: str
    role: str
    name: str
    split: str
    lines: list[Line] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    summary: str = ""


def read_folder(folder: Path) -> tuple[list[File], list[str]]:
    """The files that hold rows, in sorted order, and the paths of those that are not read.

    Raises:
        InputError: no such folder, none of the places in it, or a file of which no line can be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    if not any((folder / place).is_dir() for place in PLACES) and (folder / "data").is_dir():
        folder = folder / "data"  # the original's repository
    if not any((folder / place).is_dir() for place in PLACES):
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise InputError(f"{folder} holds none of the folders {', '.join(PLACES)}; found: {found}")
    files, others = [], []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        parts = path.relative_to(folder).parts
        if path.name.startswith(".") or (len(parts) == 1 and path.name in OWN_FILES):
            continue
        if parts == (LEFT,):
            files.append(_read(path, File(LEFT, "", "", "dropped", "", "")))
            continue
        known = parts[0] in PLACES and len(parts) in (2, 3) and path.suffix in (".json", ".jsonl")
        if not known or path.stem.endswith("_result"):
            others.append("/".join(parts))
            continue
        unit = parts[1] if len(parts) == 3 else path.stem.partition("_")[0]  # also stage1/mix.json
        role, name, split = _told(parts[0], unit, path.stem)
        files.append(_read(path, File("/".join(parts), parts[0], unit, role, name, split)))
    return files, others


def _told(place: str, unit: str, stem: str) -> tuple[str, str, str]:
    """(role, name, split) by a file's name.

    >>> _told("stage2", "math", "Math_alpaca_response"), _told("dev", "math", "math_test")
    (('response', 'alpaca', 'train'), ('rows', 'math', 'test'))
    """
    split = SPLIT if place == DEV else "(?P<split>)"
    default = DEV if place == DEV else "train"
    if found := re.fullmatch(rf"(?P<name>.+)_(?P<role>right|wrong)(?:_tool)?{split}", stem):
        return found["role"], found["name"], found["split"] or default
    prefix = f"{unit}_"
    if found := re.fullmatch(rf"(?P<name>.+)_response{split}", stem):
        name = found["name"]
        if name.lower().startswith(prefix.lower()):
            name = name[len(prefix) :]
        elif name.lower() == unit.lower():
            name = UNNAMED
        else:
            name = name.partition("_")[2] or name
        return "response", name, found["split"] or default
    if place == DEV and stem.lower().startswith(prefix.lower()):
        return "rows", unit, re.sub(r"(stage2|questions)(?:_|$)", "", stem[len(prefix) :], count=1) or DEV
    return "rows", stem, default


def _read(path: Path, file: File) -> File:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    lines, faults, summary = file.lines, file.faults, ""
    for n, (where, value, shown) in enumerate(_values(text, file.path)):
        first = n == 0 and file.role == "response"
        if isinstance(value, dict) and not (first and not ROW_KEYS & set(value)):
            if _writable(value, shown):
                lines.append(Line(where, value))
            else:
                faults.append(Fault(where, "not_unicode", shown[:80]))
        elif first and not any(f'"{key}"' in shown for key in ("id", "question")):
            summary = shown[:200]
        else:
            faults.append(Fault(where, "not_json" if isinstance(value, ValueError) else "not_a_row", shown[:80]))
    if faults and not lines:
        where, reason, shown = faults[0]
        raise InputError(
            f"{path}{where.removeprefix(file.path)}: no row can be read in this file ({reason}); expected JSON Lines, "
            f"found {shown!r}"
        )
    return File(file.path, file.place, file.unit, file.role, file.name, file.split, lines, faults, summary)


def _values(text: str, path: str) -> Iterator[tuple[str, Any, str]]:
    """(where, value, as it is written) of each row of an array, else of each line; a ValueError where it is no JSON."""
    if text.lstrip()[:1] == "[" and isinstance(rows := _json(text), list):
        for n, row in enumerate(rows, start=1):
            yield f"{path}, row {n}", row, json.dumps(row)
        return
    for n, line in enumerate(text.split("\n"), start=1):  # splitlines would split at U+2028, which stands in texts
        if line.strip():
            yield f"{path}, line {n}", _json(line), line.strip()


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        return ValueError(str(error))


def _writable(row: dict[str, Any], shown: str) -> bool:
    """Whether no text holds half a character, an escaped surrogate alone, which no table can hold."""
    if "\\ud" not in shown and "\\uD" not in shown:
        return True
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
