"""load: a folder in one of the original's layouts as tables; what was begun there goes on here.

| table | made from |
|---|---|
| questions | rows of raw/ and dev/ that are not answered |
| graded | {dataset}_right.json, _wrong.json |
| labelled | the same, in the place of graded, where there are calls: stage1/{unit}/{dataset}_wrong.json |
| stage1 | stage1/{unit}/*.json, stage1/mix, and the gold responses, which tell ids and gold answers |
| responded | {prefix}_{responder}_response.json, joined to the gold responses by id |
| stage2 | stage2/{unit}/{unit}.json, stage2/mix |

The same row in several files is one row. What a file cannot tell is null, or made by a rule:

- an id that stage 1 and stage 2 lack: that of the same question in another file, else made from the input text;
- gold answers: all that raw and response files hold, the gold response's first; where no file has any, `answer` of gold
  in stage 2, where the original puts the gold answer; else none; of a list there the column `answer` has the first;
- `context` is what `input` has beside the question;
- `uses_tool` and `source` come from parsing the response; `verified`, `verified_by`, `rule` are null: nobody knows;
- `dataset` is "" where neither the id nor a file's name tells it;
- a response that is not there has the error "not_found", or the one that dropped.json tells; `score` drops such a row;
- a right row whose response is in no file has a null `needs_tool`, so that nothing is made up as its target.

A file whose name says nothing, or of which no row can be used, is an error (`folder` has the names). Single rows
that cannot be used are in the ledger, with file and line, as are those of dropped.json; files that hold no row are
named in the log. Not covered: `pred` of the evaluator (predictions are made anew), the student's response to a wrong
row, order among the data sets of a task in the older layout.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features

from toolrlef_data.columns import DROPPED, GRADED, LABELLED, QUESTIONS, RESPONSE, STAGE1, STAGE2
from toolrlef_data.records import Drop, InputError
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.redaction import published
from toolrlef_data.tables.stage_cache import arrow_files, table_from_rows, write_record
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.task import Task
from toolrlef_data.trice.files.entries import Entry, Naming, entry_of
from toolrlef_data.trice.files.folder import File, Line, read_folder
from toolrlef_data.trice.files.rows import rows_of
from toolrlef_data.trice.files.task_entries import KINDS, Found, Row
from toolrlef_data.trice.files.writer import LOADED, NO_REPLY, own_id

__all__ = ["load_trice"]

FEATURES = {"questions": QUESTIONS, "graded": GRADED, "labelled": LABELLED, "stage1": STAGE1, "stage2": STAGE2}
log = logging.getLogger("toolrlef_data")


def load_trice(
    folder: str | Path, *, task: Task | Mapping[str, Task] | None = None
) -> dict[str, dict[str, Dataset | DatasetDict]]:
    """Read a folder in one of the original's layouts, by task or by data set, or a released mix.

    Args:
        folder: holds some of raw/, stage1/, stage2/, dev/ (or is the repository, with these in data/).
        task: tasks of your own beside, or in the place of, those in `TASKS`.

    Returns:
        task -> name -> table, as `publish` takes them: a Dataset where there is only the split "train".

    Raises:
        InputError: no such folder or nothing in it, a file that is not called as the original's are or of which no row
            can be used, or a responder that is called like a column; names the file and the line.

    >>> import json
    >>> Path("data/stage1/mix").mkdir(parents=True)
    >>> row = {"instruction": TASKS["math"].instruction, "input": "How much is 3*19?", "output": "calculator(3*19)"}
    >>> written = Path("data/stage1/mix/mix.json").write_text(json.dumps(row))
    >>> load_trice("data")["math"]["stage1"]["uses_tool"][:]
    [True]
    """
    own = {task.name: task} if isinstance(task, Task) else dict(task or {})
    tasks = {**own, **{name: TASKS[name] for name in TASKS if name not in own}}
    files, ledger, others = read_folder(Path(folder), tasks)
    if others:
        log.warning("%s: not read, for they hold no rows of TRICE's stages: %s", folder, ", ".join(others))
    if empty := [file.path for file in files if not file.lines]:
        log.warning("%s: these files hold no row: %s", folder, ", ".join(empty))
    naming = Naming(tasks, files)
    read = [_entries(Path(folder), file, naming) for file in files]
    found = _by_task([entry for entries, _ in read for entry in entries], tasks)
    if not found:
        raise InputError(f"{folder} holds no rows of TRICE's stages")
    left = [line for _, lines in read for line in lines]
    left += [line for line in map(_ledger_line, ledger) if not _noted(line, found)]
    tables: dict[str, dict[str, Dataset | DatasetDict]] = {}
    for name, own_found in found.items():
        rows = rows_of(own_found)
        own_found.left = [line for line in left if line["task"] == name or line["task"] not in found] + own_found.left
        tables[name] = _tables(own_found, rows, _told(own_found, files, others))
    return tables


def _entries(folder: Path, file: File, naming: Naming) -> tuple[list[Entry], list[Row]]:
    """The rows of a file that can be used, and the ledger of those that cannot."""
    if file.responder in STAGE1:
        raise InputError(f"{folder}: {file.path}: the responder {file.responder!r} is called like a column: rename it")
    read = [(line, entry_of(file, line, naming)) for line in file.lines]
    entries = [entry for _, entry in read if isinstance(entry, Entry)]
    drops = [(line, drop) for line, drop in read if isinstance(drop, Drop)]
    if drops and not entries:
        line, drop = drops[0]
        advice = "; pass task= with the task that has this instruction" if drop.reason == "unknown_task" else ""
        raise InputError(
            f"{folder}: {line.where}: no row of this file can be used: {drop.reason}: {drop.detail!r}{advice}"
        )
    left = []
    for line, drop in drops:
        row_id = line.row.get("id") if isinstance(line.row, dict) else None
        known = {"id": str(row_id or line.where), "task": naming.unit_tasks[file.unit], "dataset": ""}
        why = {"stage": LOADED, "reason": drop.reason, "detail": f"{line.where}: {drop.detail}"}
        left.append({**known, **why})
    return entries, left


def _by_task(entries: list[Entry], tasks: Mapping[str, Task]) -> dict[str, Found]:
    """The entries of each task, tasks in the order of the mix."""
    mixed = [entry.task for entry in entries if entry.level == 0]
    found = {name: Found(name, tasks[name]) for name in [*mixed, *sorted({entry.task for entry in entries})]}
    for entry in entries:
        found[entry.task].entries.setdefault((entry.kind, entry.split), []).append(entry)
    return found


def _ledger_line(line: Line) -> Row:
    """A row of dropped.json, its id as ours."""
    if not isinstance(line.row, dict) or not set(DROPPED) <= set(line.row):
        raise InputError(f"{line.where}: no row of a ledger; expected the keys {', '.join(DROPPED)}")
    told = {name: None if line.row[name] is None else str(line.row[name]) for name in DROPPED}
    return {**told, "id": own_id(told["dataset"] or "", told["id"] or ""), "detail": told["detail"] or ""}


def _noted(line: Row, found: Mapping[str, Found]) -> bool:
    """Note in its task's `Found` a line of the ledger that tells why a response is not there."""
    name, is_told, _ = line["detail"].partition(": ")
    is_note = is_told and name not in STAGE1 and (line["stage"], line["reason"]) == NO_REPLY
    if not is_note or line["task"] not in found:
        return False
    found[line["task"]].notes.setdefault(line["id"], {})[name] = line
    return True


def _told(found: Found, files: list[File], others: list[str]) -> dict[str, Any]:
    """What the trail says of a task's files."""
    counts = dict(Counter(entry.where.rpartition(", ")[0] for entry in found.of(*KINDS)))
    fields = {entry.name: entry.row["field"] for entry in found.of("response") if entry.row["text"] is not None}
    summaries = {file.path: file.summary for file in files if file.summary and file.path in counts}
    return {"files": counts, "fields": fields, "summary_lines": summaries, "not_read": others}


def _tables(
    found: Found, rows: Mapping[str, Mapping[str, list[dict[str, Any]]]], told: Mapping[str, Any]
) -> dict[str, Dataset | DatasetDict]:
    """Tables whose trail begins at one record of the task's files, which knows the rows that left."""
    made = {}
    for name, splits in rows.items():
        for split, own in splits.items():
            features = FEATURES.get(name) or Features(
                **STAGE1, **{column: RESPONSE for column in own[0] if column not in STAGE1}
            )
            made[name, split] = table_from_rows(own, features, f"{LOADED} rows")
    dropped = table_from_rows(found.left, DROPPED, f"{LOADED} dropped")
    key = digest(LOADED, found.name, told, dropped._fingerprint, [data._fingerprint for data in made.values()])
    kept = sum(len(data) for data in made.values())
    facts: dict[str, Any] = {"step": LOADED, "inputs": [], "settings": dict(told), "files": []}
    facts |= {"published": published(told)}
    facts |= {"rows_in": kept + len(dropped), "rows_out": kept, "dropped": {}}
    if len(dropped):
        reasons = sorted(dropped["reason"])
        facts |= {"dropped": {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}}
        facts |= {"dropped_files": arrow_files(dropped)}
    write_record(key, facts)
    tables: dict[str, dict[str, Dataset]] = {}
    for (name, split), data in made.items():
        data._fingerprint = digest(key, name, split)
        counts = {"rows_in": len(data), "rows_out": len(data), "dropped": {}}
        write_record(
            data._fingerprint,
            {
                "step": f"{LOADED}: {name}",
                "inputs": [key],
                "settings": None,
                "published": None,
                "files": arrow_files(data),
                **counts,
            },
        )
        tables.setdefault(name, {})[split] = data
    return {
        name: splits["train"] if list(splits) == ["train"] else DatasetDict(splits) for name, splits in tables.items()
    }
