"""A folder in one of TRICE's layouts, loaded as tables, so that work can resume from any stage.

| table | files |
|---|---|
| questions | unanswered rows of raw/ and dev/ |
| graded | {dataset}_right.json, _wrong.json |
| labelled | replaces graded if there are calls: the files of graded, and stage1/{unit}/{dataset}_wrong.json |
| stage1 | stage1/{unit}/*.json, stage1/mix, and the gold responses, which contain ids and gold answers |
| responded | {prefix}_{responder}_response.json, joined to the gold responses by id |
| stage2 | stage2/{unit}/{unit}.json, stage2/mix |

Copies of a row in several files become one row. Values that the files lack are null, or follow these rules:

| value | rule |
|---|---|
| id (stage 1, stage 2) | the id of the same question in another file, else derived from the input text |
| gold answers | the gold response's, then the longest list in raw or response files; else gold's `answer` in stage 2 |
| `answer` in stage 2 | the first item of a list |
| `context` | `input` without the question |
| `uses_tool`, `source` | derived from the parsed response |
| `verified`, `verified_by`, `rule` | null |
| `dataset` | "" if neither the id nor a file or folder is named after it |
| a missing response | the error "not_found", or the one in dropped.json; `score` drops the row |
| `needs_tool` | null for a correct row whose response is in no file, so that it cannot become a target |

A file with an unknown name (see `folder`), or without any usable row, is an error. Single unusable rows are dropped,
with file and line, as are the rows of dropped.json. The log names empty and ignored files. Not covered: the evaluator's
`pred` (predictions are extracted again), the student's response to a wrong row, and the order of data sets within a
task in the older layout.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features

from toolrlef_data.checks import as_path
from toolrlef_data.columns import DROPPED, GRADED, LABELLED, QUESTIONS, RESPONSE, STAGE1, STAGE2
from toolrlef_data.records import Drop, InputError
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.redaction import redact
from toolrlef_data.tables.row_files import table_from_rows
from toolrlef_data.tables.stage_cache import arrow_files, write_record
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.task import Task
from toolrlef_data.trice.files.entries import Entry, NameResolver, parse_entry
from toolrlef_data.trice.files.folder import File, Line, read_folder
from toolrlef_data.trice.files.lines import NO_REPLY
from toolrlef_data.trice.files.names import normalise_id
from toolrlef_data.trice.files.rows import build_rows
from toolrlef_data.trice.files.task_entries import KINDS, Row, TaskEntries
from toolrlef_data.trice.files.writer import LOAD_STAGE
from toolrlef_data.trice.row_tasks import check_tasks

__all__ = ["load_trice"]

FEATURES = {"questions": QUESTIONS, "graded": GRADED, "labelled": LABELLED, "stage1": STAGE1, "stage2": STAGE2}
log = logging.getLogger("toolrlef_data")


def load_trice(
    folder: str | Path, *, task: Task | Mapping[str, Task] | None = None
) -> dict[str, dict[str, Dataset | DatasetDict]]:
    """Load a folder in one of TRICE's layouts, by task or by data set, or a published mix.

    Args:
        folder: the path of a folder that contains raw/, stage1/, stage2/ or dev/, or of the repository, which contains
            them in data/.
        task: a task, or a mapping of names to tasks, which extend or replace those in `TASKS`.

    Returns:
        task -> name -> table, as `publish` expects: a Dataset if "train" is the only split, else a DatasetDict.

    Raises:
        InputError: the folder is missing or empty, a file has an unknown name or no usable row, or a responder has the
            name of a column. The message names the file and the line.

    >>> import json
    >>> Path("data/stage1/mix").mkdir(parents=True)
    >>> row = {"instruction": TASKS["math"].instruction, "input": "How much is 3*19?", "output": "calculator(3*19)"}
    >>> written = Path("data/stage1/mix/mix.json").write_text(json.dumps(row))
    >>> load_trice("data")["math"]["stage1"]["uses_tool"][:]
    [True]
    """
    check_tasks(task)
    folder = as_path("folder", folder)
    custom = {task.name: task} if isinstance(task, Task) else dict(task or {})
    tasks = {**custom, **{name: TASKS[name] for name in TASKS if name not in custom}}
    files, ledger, ignored = read_folder(folder, tasks)
    if ignored:
        log.warning("%s: ignored, since these contain no rows of TRICE's stages: %s", folder, ", ".join(ignored))
    if empty := [file.path for file in files if not file.lines]:
        log.warning("%s: these files contain no rows: %s", folder, ", ".join(empty))
    resolver = NameResolver(tasks, files)
    parsed = [_parse_file(folder, file, resolver) for file in files]
    by_task = _group_by_task([entry for entries, _ in parsed for entry in entries], tasks)
    if not by_task:
        raise InputError(f"{folder} contains no rows of TRICE's stages")
    dropped = [line for _, dropped_rows in parsed for line in dropped_rows]
    dropped += [line for line in map(_parse_ledger_line, ledger) if not _add_note(line, by_task)]
    tables: dict[str, dict[str, Dataset | DatasetDict]] = {}
    for name, task_entries in by_task.items():
        rows = build_rows(task_entries)
        task_dropped = [line for line in dropped if line["task"] == name or line["task"] not in by_task]
        task_entries.dropped = task_dropped + task_entries.dropped
        tables[name] = _build_tables(task_entries, rows, _file_facts(task_entries, files, ignored))
    return tables


def _parse_file(folder: Path, file: File, resolver: NameResolver) -> tuple[list[Entry], list[Row]]:
    """Return the entries of the usable rows of a file, and the ledger rows of the other rows."""
    if file.responder in STAGE1:
        raise InputError(f"{folder}: {file.path}: the responder {file.responder!r} has the name of a column: rename it")
    parsed = [(line, parse_entry(file, line, resolver)) for line in file.lines]
    entries = [entry for _, entry in parsed if isinstance(entry, Entry)]
    drops = [(line, drop) for line, drop in parsed if isinstance(drop, Drop)]
    if drops and not entries:
        line, drop = drops[0]
        advice = "; pass task= with the task that has this instruction" if drop.reason == "unknown_task" else ""
        raise InputError(
            f"{folder}: {line.position}: the file has no usable row: {drop.reason}: {drop.detail!r}{advice}"
        )
    dropped = []
    for line, drop in drops:
        row_id = line.row.get("id") if isinstance(line.row, dict) else None
        identity = {"id": str(row_id or line.position), "task": resolver.unit_tasks[file.unit], "dataset": ""}
        reason = {"stage": LOAD_STAGE, "reason": drop.reason, "detail": f"{line.position}: {drop.detail}"}
        dropped.append({**identity, **reason})
    return entries, dropped


def _group_by_task(entries: list[Entry], tasks: Mapping[str, Task]) -> dict[str, TaskEntries]:
    """Return the entries of each task, with the tasks in the order of the mix."""
    mix_tasks = [entry.task for entry in entries if entry.precedence == 0]
    names = [*mix_tasks, *sorted({entry.task for entry in entries})]
    by_task = {name: TaskEntries(name, tasks[name]) for name in names}
    for entry in entries:
        by_task[entry.task].entries.setdefault((entry.kind, entry.split), []).append(entry)
    return by_task


def _parse_ledger_line(line: Line) -> Row:
    """Return a row of dropped.json with a normalised id."""
    if not isinstance(line.row, dict) or not set(DROPPED) <= set(line.row):
        raise InputError(f"{line.position}: not a row of a ledger; expected the keys {', '.join(DROPPED)}")
    row = {name: None if line.row[name] is None else str(line.row[name]) for name in DROPPED}
    return {**row, "id": normalise_id(row["dataset"] or "", row["id"] or ""), "detail": row["detail"] or ""}


def _add_note(line: Row, by_task: Mapping[str, TaskEntries]) -> bool:
    """Add a ledger row to its task's notes if it explains a missing response; return whether it was added."""
    name, separator, _ = line["detail"].partition(": ")
    is_note = separator and name not in STAGE1 and (line["stage"], line["reason"]) == NO_REPLY
    if not is_note or line["task"] not in by_task:
        return False
    by_task[line["task"]].notes.setdefault(line["id"], {})[name] = line
    return True


def _file_facts(task_entries: TaskEntries, files: list[File], ignored: list[str]) -> dict[str, Any]:
    """Return the facts about a task's files for the lineage."""
    counts = dict(Counter(entry.position.rpartition(", ")[0] for entry in task_entries.of(*KINDS)))
    responses = [entry for entry in task_entries.of("response") if entry.row["text"] is not None]
    # A local responder, whose text is in `response` alone, can by chance repeat the `output` of some rows.
    local = {entry.name for entry in responses if entry.row["field"] == "response"}
    fields = {entry.name: "response" if entry.name in local else "output" for entry in responses}
    summaries = {file.path: file.summary for file in files if file.summary and file.path in counts}
    return {"files": counts, "fields": fields, "summary_lines": summaries, "not_read": ignored}


def _build_tables(
    task_entries: TaskEntries, rows: Mapping[str, Mapping[str, list[dict[str, Any]]]], file_facts: Mapping[str, Any]
) -> dict[str, Dataset | DatasetDict]:
    """Return the tables of a task; their lineage starts at one record of the files and the dropped rows."""
    split_tables = {}
    for name, splits in rows.items():
        for split, split_rows in splits.items():
            features = FEATURES.get(name) or Features(
                **STAGE1, **{column: RESPONSE for column in split_rows[0] if column not in STAGE1}
            )
            split_tables[name, split] = table_from_rows(split_rows, features, f"{LOAD_STAGE} rows")
    dropped = table_from_rows(task_entries.dropped, DROPPED, f"{LOAD_STAGE} dropped")
    fingerprints = [data._fingerprint for data in split_tables.values()]
    key = digest(LOAD_STAGE, task_entries.name, file_facts, dropped._fingerprint, fingerprints)
    rows_out = sum(len(data) for data in split_tables.values())
    facts: dict[str, Any] = {"step": LOAD_STAGE, "inputs": [], "settings": dict(file_facts), "files": []}
    facts |= {"published": redact(file_facts)}
    facts |= {"rows_in": rows_out + len(dropped), "rows_out": rows_out, "dropped": {}}
    if len(dropped):
        reasons = sorted(dropped["reason"])
        facts |= {"dropped": {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}}
        facts |= {"dropped_files": arrow_files(dropped)}
    write_record(key, facts)
    tables: dict[str, dict[str, Dataset]] = {}
    for (name, split), data in split_tables.items():
        data._fingerprint = digest(key, name, split)
        counts = {"rows_in": len(data), "rows_out": len(data), "dropped": {}}
        write_record(
            data._fingerprint,
            {
                "step": f"{LOAD_STAGE}: {name}",
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
