"""folder: the files of a folder in the original's layouts, told by their names and read line by line.

| place | names | rows |
|---|---|---|
| raw/{unit}/ | {dataset}_right, {dataset}_wrong; {dataset} | right, wrong; question |
| stage1/{unit}/ | {dataset}_wrong; {unit}, {dataset} | tool; stage1 |
| stage2/{unit}/ | {prefix}_gold_response, {prefix}_{responder}_response; {unit} | gold, response; stage2 |
| dev/{unit}/ | {unit} | stage1, or question where a row has no `output` |

A unit is a task, a data set (the older layout) or "mix", where the rows' files have any name. A prefix is the unit, a
task or a data set (`Math_`, `math_`, `GSM8K_`). dev/ also holds what `write` writes of splits beside "train": the
other files by the names above, `{unit}_stage2`, `{unit}_questions` and `{dataset}_wrong_tool`, each of which may end in
the split (`math_test.json`), which is "dev" otherwise.
Files are JSON Lines named .json; a byte order mark, CRLF and empty lines do not matter. The first line of a response
file is the evaluator's summary where it is no JSON.
Not covered: what stands beside the four places; the log names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from toolrlef_data.records import Drop, InputError, is_text
from toolrlef_data.trice.files.writer import LEFT, UPSTREAM_NAMES

__all__ = ["MIX", "File", "Folder", "Line", "read_folder"]

MIX = "mix"
OWN_FILES = {LEFT, "provenance.json"}  # of `publish`
RESPONSES = {r"<prefix>_gold_response": "gold", r"<prefix>_(?P<responder>.+)_response": "response"}
# Place -> the names in it and what rows they hold, the first that fits; "": each row tells.
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
    """Where a line stands, "stage1/math/math.json, line 3", and its row, or why there is none."""

    where: str
    row: dict[str, Any] | Drop


class File(NamedTuple):
    """What a file's place and name tell, and its lines.

    Args:
        path: relative to the folder.
        unit: the folder it is in.
        kind: of its rows, see the table above; "" where each row tells.
        name: the data set whose rows it holds; the unit, where it holds all.
        responder: of a response file, else "".
        split: "train", or what `dev/` tells.
        summary: the evaluator's line, "" where there is none.
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
    """The files that hold rows, in sorted order; the lines of `publish`'s ledger; what stands beside."""

    files: list[File]
    ledger: list[Line]
    others: list[str]


def read_folder(folder: Path, tasks: Iterable[str]) -> Folder:
    """Read a folder that holds raw/, stage1/, stage2/ or dev/, or `data/` with these, as the original's repository.

    Args:
        folder: where the files are.
        tasks: names of tasks.

    Raises:
        InputError: no such folder, none of the places in it, a file in them whose name says nothing, or is not UTF-8.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    if not any((folder / place).is_dir() for place in NAMES) and (folder / "data").is_dir():
        folder = folder / "data"
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if not any((folder / place).is_dir() for place in NAMES):
        found = ", ".join(names[:8]) or "nothing"
        raise InputError(f"{folder} holds none of the folders {', '.join(NAMES)}; found: {found}")
    prefixes = [*tasks, *UPSTREAM_NAMES, *UPSTREAM_NAMES.values()]
    paths = [path for place in sorted(NAMES) for path in sorted((folder / place).rglob("*")) if path.is_file()]
    files = [_file(folder, path, prefixes) for path in paths if not path.name.startswith(".")]
    ledger = _lines(folder / LEFT, LEFT)[0] if LEFT in names else []
    return Folder(files, ledger, [name for name in names if name not in {*NAMES, *OWN_FILES}])


def _file(folder: Path, path: Path, prefixes: Iterable[str]) -> File:
    where = path.relative_to(folder)
    place, *units = where.parts[:-1]
    if len(units) == 1 and path.suffix == ".json":
        unit, is_dev = units[0], place == "dev"
        blanks = {
            "<unit>": ".+" if unit == MIX else re.escape(unit),
            "<prefix>": f"(?:{'|'.join(map(re.escape, [unit, *prefixes]))})",
        }
        end = r"(?:_(?P<split>\w+?))?" if is_dev else ""
        for pattern, kind in NAMES[place].items():
            known = re.sub("<(?:unit|prefix)>", lambda blank: blanks[blank[0]], pattern) + end
            if found := re.fullmatch(known, path.stem, re.IGNORECASE):
                told = {name: text for name, text in found.groupdict().items() if text}
                name = unit if unit == MIX else told.get("name", unit)
                split = told.get("split", "dev" if is_dev else "train")
                at = where.as_posix()
                return File(at, unit, kind, name, told.get("responder", ""), split, *_lines(path, at))
    raise InputError(
        f"{path}: no file of TRICE is called so. There are raw/math/GSM8K_right.json, _wrong.json; "
        "stage1/math/GSM8K_wrong.json, math.json; stage2/math/math_gold_response.json, math_chatgpt_response.json, "
        "math.json; dev/math/math.json, with other tasks, data sets and responders in their places. Move it elsewhere"
    )


def _lines(path: Path, where: str) -> tuple[list[Line], str]:
    """The lines of a file that are not empty, and the evaluator's summary."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    lines: list[Line] = []
    summary = ""
    for n, shown in enumerate(text.split("\n"), start=1):  # splitlines would split at U+2028, which stands in texts
        if not shown.strip():
            continue
        row = _row(shown.strip())
        is_first = not (lines or summary) and path.stem.endswith("_response")
        if is_first and isinstance(row, Drop) and row.reason == "not_json" and '"id"' not in shown:  # no row cut short
            summary = shown.strip()[:200]
        else:
            lines.append(Line(f"{where}, line {n}", row))
    return lines, summary


def _row(shown: str) -> dict[str, Any] | Drop:
    try:
        row = json.loads(shown)
        if "\\ud" in shown.lower() and not is_text(json.dumps(row, ensure_ascii=False)):
            return Drop("not_unicode", shown[:80])
    except (ValueError, RecursionError):
        return Drop("not_json", shown[:80])
    return row if isinstance(row, dict) else Drop("not_a_row", shown[:80])
