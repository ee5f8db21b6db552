"""The files of a folder in TRICE's layouts: their names and their lines.

| place | names | rows |
|---|---|---|
| raw/{unit}/ | {dataset}_right, {dataset}_wrong; {dataset} | right, wrong; question |
| stage1/{unit}/ | {dataset}_wrong; {unit}, {dataset} | tool; stage1 |
| stage2/{unit}/ | {prefix}_gold_response, {prefix}_{responder}_response; {unit} | gold, response; stage2 |
| dev/{unit}/ | {unit} | stage1, or question if a row has no `output` |

- A unit is a task, a data set (the older layout) or "mix", whose files can have any name.
- A prefix is the unit, a task or a data set (`Math_`, `math_`, `GSM8K_`).
- dev/ also contains the splits other than "train" that `writer` writes: the names above, `{unit}_stage2`,
  `{unit}_questions` and `{dataset}_wrong_tool`. Each name can end in the split (`math_test.json`), by default "dev".
- Files are JSON Lines named .json, with or without a byte order mark, CRLF and empty lines. The first line of a
  response file is the evaluator's summary if it is not JSON.

Not covered: files outside the four places; the log names them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from toolrlef_data.records import Drop, InputError, is_text
from toolrlef_data.trice.files.lines import LEDGER_FILE
from toolrlef_data.trice.files.names import UPSTREAM_NAMES

__all__ = ["MIX", "NAMES", "PENDING", "PROVENANCE", "File", "Folder", "Line", "read_folder", "read_lines"]

MIX = "mix"
PROVENANCE = "provenance.json"
PENDING = ".toolrlef_data.pending"  # the folder of `publish` for the files of a publication that is not complete
PUBLISHED_FILES = {LEDGER_FILE, PROVENANCE}  # written by `publish` beside the four places
RESPONSES = {r"<prefix>_gold_response": "gold", r"<prefix>_(?P<responder>.+)_response": "response"}
# Place -> pattern of a name -> kind of its rows; the first match counts. "": the kind depends on the row.
NAMES: dict[str, dict[str, str]] = {
    "raw": {r"(?P<name>.+)_right": "right", r"(?P<name>.+)_wrong": "wrong", r"(?P<name>.+)": "question"},
    "stage1": {r"(?P<name>.+)_wrong": "tool", r"(?P<name>.+)": "stage1"},
    "stage2": {**RESPONSES, "<unit>": "stage2"},
    "dev": {
        r"(?P<name>.+)_right": "right",
        r"(?P<name>.+)_wrong_tool": "tool",
        r"(?P<name>.+)_wrong": "wrong",
        **RESPONSES,
        "<unit>_stage2": "stage2",
        "<unit>_questions": "question",
        "<unit>": "",
    },
}


class Line(NamedTuple):
    """A line: its position, such as "stage1/math/math.json, line 3", and its row or the reason why it has none."""

    position: str
    row: dict[str, Any] | Drop


class File(NamedTuple):
    """A file, with the properties that its path determines, and its lines.

    Args:
        path: relative to the folder.
        unit: the name of the parent folder.
        kind: the kind of its rows (see the table above), or "" if it depends on the row.
        name: the data set of its rows, or the unit if it contains all data sets.
        responder: the responder of a response file, else "".
        split: "train", or the split of a file in `dev/`.
        lines: the non-empty lines.
        summary: the evaluator's summary line, or "".
    """

    path: str
    unit: str
    kind: str
    name: str
    responder: str
    split: str
    lines: list[Line]
    summary: str


class Folder(NamedTuple):
    """The files of rows in sorted order, the lines of dropped.json, and the names of ignored files."""

    files: list[File]
    ledger: list[Line]
    ignored: list[str]


def read_folder(folder: Path, tasks: Iterable[str]) -> Folder:
    """Read a folder with raw/, stage1/, stage2/ or dev/, or with these in data/, as in TRICE's repository.

    Args:
        folder: the folder's path.
        tasks: names of tasks.

    Raises:
        InputError: the folder or all four places are missing, a file has an unknown name or is not UTF-8, or `publish`
            was interrupted.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    if (folder / PENDING).is_dir() and not (folder / PROVENANCE).exists():
        raise InputError(f"{folder} has files of two publications, since `publish` was interrupted: publish again")
    if not any((folder / place).is_dir() for place in NAMES) and (folder / "data").is_dir():
        folder = folder / "data"
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if not any((folder / place).is_dir() for place in NAMES):
        raise InputError(
            f"{folder}: expected at least one of the folders {', '.join(NAMES)}, "
            f"found {', '.join(names[:8]) or 'an empty folder'}"
        )
    prefixes = [*tasks, *UPSTREAM_NAMES, *UPSTREAM_NAMES.values()]
    paths = [path for place in sorted(NAMES) for path in sorted((folder / place).rglob("*")) if path.is_file()]
    files = [_file(folder, path, prefixes) for path in paths if not path.name.startswith(".")]
    ledger = read_lines(folder / LEDGER_FILE, LEDGER_FILE)[0] if LEDGER_FILE in names else []
    return Folder(files, ledger, [name for name in names if name not in {*NAMES, *PUBLISHED_FILES}])


def _file(folder: Path, path: Path, prefixes: Iterable[str]) -> File:
    """Return the file at a path; raise InputError if no pattern matches its name."""
    relative = path.relative_to(folder)
    place, *units = relative.parts[:-1]
    if len(units) == 1 and path.suffix == ".json":
        unit, is_dev = units[0], place == "dev"
        blanks = {
            "<unit>": ".+" if unit == MIX else re.escape(unit),
            "<prefix>": f"(?:{'|'.join(map(re.escape, [unit, *prefixes]))})",
        }
        split_suffix = r"(?:_(?P<split>\w+?))?" if is_dev else ""
        for pattern, kind in NAMES[place].items():
            filled_pattern = re.sub("<(?:unit|prefix)>", lambda blank: blanks[blank[0]], pattern) + split_suffix
            if match := re.fullmatch(filled_pattern, path.stem, re.IGNORECASE):
                groups = {name: text for name, text in match.groupdict().items() if text}
                name = unit if unit == MIX else groups.get("name", unit)
                split = groups.get("split", "dev" if is_dev else "train")
                posix = relative.as_posix()
                return File(posix, unit, kind, name, groups.get("responder", ""), split, *read_lines(path, posix))
    raise InputError(
        f"{path}: not the name of a TRICE file. Expected names such as raw/math/GSM8K_right.json, _wrong.json; "
        "stage1/math/GSM8K_wrong.json, math.json; stage2/math/math_gold_response.json, math_chatgpt_response.json, "
        "math.json; dev/math/math.json, with any task, data set and responder. Rename the file or move it elsewhere"
    )


def read_lines(path: Path, name: str) -> tuple[list[Line], str]:
    """Return the non-empty lines of a file, and the evaluator's summary line or ""."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line_number = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line_number}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    lines: list[Line] = []
    summary = ""
    for n, line in enumerate(text.split("\n"), start=1):  # splitlines would split at U+2028, which texts contain
        if not line.strip():
            continue
        row = _row(line.strip())
        can_be_summary = not (lines or summary) and path.stem.endswith("_response")
        is_truncated_row = '"id"' in line or line.lstrip().startswith("{")
        if can_be_summary and isinstance(row, Drop) and row.reason == "not_json" and not is_truncated_row:
            summary = line.strip()[:200]
        else:
            lines.append(Line(f"{name}, line {n}", row))
    return lines, summary


def _row(line: str) -> dict[str, Any] | Drop:
    try:
        row = json.loads(line)
        if "\\ud" in line.lower() and not is_text(json.dumps(row, ensure_ascii=False)):
            return Drop("not_unicode", line[:80])
    except (ValueError, RecursionError):
        return Drop("not_json", line[:80])
    return row if isinstance(row, dict) else Drop("not_a_row", line[:80])
