"""trice_reading: a folder in one of the original's layouts as tables; what was begun there goes on here.

| table | made from |
|---|---|
| questions | rows of raw/ and dev/ that are not answered, of any file with id, question, answer |
| graded | {dataset}_right.json, _wrong.json |
| labelled | the same, in the place of graded, where there are calls: stage1/{unit}/{dataset}_wrong.json |
| stage1 | stage1/{unit}/*.json, stage1/mix, and the gold responses, which tell ids and gold answers |
| responded | {unit}_{responder}_response.json, joined to the gold responses by id |
| stage2 | stage2/{unit}/{unit}.json, stage2/mix |

The same row in several files is one row. Files of dev/ are the split "dev" (`math_test.json`: "test"), all others
"train". What a file cannot tell is null, or made by a rule:

- an id that is missing: that of the same question in another file, else made from the input text;
- gold answers: all that raw and response files hold, the gold response's first; where no file has any, `answer` of gold
  in stage 2, where the original puts the gold answer; else none; of a list there the column `answer` has the first;
- `context` is the row's own key of that name, else what `input` has beside the question;
- `uses_tool` and `source` come from parsing the response; `verified`, `verified_by`, `rule` are null: nobody knows;
- `dataset` is "" where neither the id nor a file's name tells it;
- a response that is not there has the error "not_found", or the one that dropped.json tells; `score` drops such a row;
- a right row whose response is in no file has a null `needs_tool`, so that nothing is made up as its target.

Rows that cannot be used are in the ledger, with file and line, as are those of dropped.json; files that are not read or
hold no row are named in the log. Not covered: `pred` of the
evaluator (predictions are made anew), the student's response to a wrong row, order among the data sets of a task in the
older layout.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features

from toolrlef_data.columns import DROPPED, GRADED, LABELLED, QUESTIONS, RESPONSE, STAGE1, STAGE2
from toolrlef_data.fingerprints import digest
from toolrlef_data.lineage import files_of, table_of, write_record
from toolrlef_data.published import published
from toolrlef_data.records import InputError
from toolrlef_data.tasks import TASKS, Task
from toolrlef_data.trice_entries import Entry, Naming, entry_of
from toolrlef_data.trice_files import upstream_name
from toolrlef_data.trice_folder import MIX, File, read_folder
from toolrlef_data.trice_joining import KINDS, Found
from toolrlef_data.trice_rows import rows_of

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
        InputError: no such folder or nothing in it, a file of which no row can be read, a unit whose task cannot be
            told, or a responder that is called like a column; names the file and the line.

    >>> import json
    >>> Path("data/stage1/mix").mkdir(parents=True)
    >>> row = {"instruction": TASKS["math"].instruction, "input": "How much is 3*19?", "output": "calculator(3*19)"}
    >>> written = Path("data/stage1/mix/mix.json").write_text(json.dumps(row))
    >>> load_trice("data")["math"]["stage1"]["uses_tool"][:]
    [True]
    """
    own = {task.name: task} if isinstance(task, Task) else dict(task or {})
    naming_tasks = {**own, **{name: TASKS[name] for name in TASKS if name not in own}}
    files, others = read_folder(Path(folder))
    if others:
        log.warning("%s: not read, for they hold no rows of TRICE's stages: %s", folder, ", ".join(others))
    if empty := [file.path for file in files if not file.lines and not file.faults and file.role != "dropped"]:
        log.warning("%s: these files hold no row: %s", folder, ", ".join(empty))
    found, left = _found(Path(folder), files, Naming(naming_tasks, files))
    for line in _ledger_lines(files):
        name, told, _ = line["detail"].partition(": ")
        is_note = told and name not in STAGE1 and (line["stage"], line["reason"]) == ("publish", "no_reply")
        if is_note and line["task"] in found:
            found[line["task"]].notes.setdefault(line["id"], {})[name] = line
        else:
            left.append(line)
    tables: dict[str, dict[str, Dataset | DatasetDict]] = {}
    for name, own_found in found.items():
        rows = rows_of(own_found)
        own_found.left = [line for line in left if line["task"] == name or line["task"] not in found] + own_found.left
        tables[name] = _tables(own_found, rows, _told(own_found, files, others))
    return tables


def _found(folder: Path, files: list[File], naming: Naming) -> tuple[dict[str, Found], list[dict[str, Any]]]:
    """The entries of each task, tasks in the order of the mix, and the ledger of what cannot be used."""
    read: dict[str, list[Entry]] = {}
    left: list[dict[str, Any]] = []
    for file in files:
        if file.role == "response" and file.name in STAGE1:
            raise InputError(f"{folder}: {file.path}: the responder {file.name!r} is called like a column: rename it")
        faults = [(fault.where, "", fault.reason, fault.detail) for fault in file.faults]
        entries = read[file.path] = []
        for line in file.lines if file.role != "dropped" else ():
            entry = entry_of(file, line, naming)
            if isinstance(entry, Entry):
                entries.append(entry)
            else:
                faults.append((line.where, str(line.row.get("id") or ""), entry.reason, entry.detail))
        faults.sort(key=lambda fault: int(fault[0].rpartition(" ")[2]))
        if faults and not entries and file.role != "dropped":
            where, _, reason, detail = faults[0]
            advice = "; pass task= with the task that has this instruction" if reason == "unknown_task" else ""
            raise InputError(f"{folder}: {where}: no row of this file can be used: {reason}: {detail!r}{advice}")
        unit_task = naming.unit_task(file)
        for where, row_id, reason, detail in faults:
            known = {"id": row_id or where, "task": unit_task, "dataset": "", "stage": "load_trice"}
            left.append({**known, "reason": reason, "detail": f"{where}: {detail}"})
    mixed = [entry.task for file in files if file.unit == MIX for entry in read[file.path]]
    others = sorted({entry.task for entries in read.values() for entry in entries})
    found = {name: Found(name, naming.tasks[name]) for name in dict.fromkeys([*mixed, *others])}
    for entry in (entry for entries in read.values() for entry in entries):
        found[entry.task].entries.setdefault((entry.kind, entry.split), []).append(entry)
    if not found:
        raise InputError(f"{folder} holds no rows of TRICE's stages")
    return found, left


def _ledger_lines(files: list[File]) -> list[dict[str, Any]]:
    """The rows of dropped.json, ids as ours."""
    lines = []
    for line in (line for file in files if file.role == "dropped" for line in file.lines):
        told = {name: None if line.row.get(name) is None else str(line.row[name]) for name in DROPPED}
        if told["stage"] is None or told["reason"] is None:
            told |= {"stage": "load_trice", "reason": "not_a_row", "detail": f"{line.where}: of the ledger"}
        dataset, row_id = told["dataset"] or "", told["id"] or ""
        if dataset and row_id.startswith(f"{upstream_name(dataset)}-"):
            told["id"] = dataset + row_id[len(upstream_name(dataset)) :]
        lines.append({**told, "detail": told["detail"] or ""})
    return lines


def _told(found: Found, files: list[File], others: list[str]) -> dict[str, Any]:
    """What the trail says of a task's files."""
    counts: dict[str, int] = {}
    for entry in found.of(*KINDS):
        path = entry.where.rpartition(", ")[0]
        counts[path] = counts.get(path, 0) + 1
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
            made[name, split] = table_of(own, features, "load_trice rows")
    dropped = table_of(found.left, DROPPED, "load_trice dropped")
    key = digest("load_trice", found.name, told, dropped._fingerprint, [data._fingerprint for data in made.values()])
    kept = sum(len(data) for data in made.values())
    facts: dict[str, Any] = {"step": "load_trice", "inputs": [], "settings": dict(told), "files": []}
    facts |= {"published": published(told)}
    facts |= {"rows_in": kept + len(dropped), "rows_out": kept, "dropped": {}}
    if len(dropped):
        reasons = sorted(dropped["reason"])
        facts |= {"dropped": {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}}
        facts |= {"dropped_files": files_of(dropped)}
    write_record(key, facts)
    tables: dict[str, dict[str, Dataset]] = {}
    for (name, split), data in made.items():
        data._fingerprint = digest(key, name, split)
        counts = {"rows_in": len(data), "rows_out": len(data), "dropped": {}}
        write_record(
            data._fingerprint,
            {
                "step": f"load_trice: {name}",
                "inputs": [key],
                "settings": None,
                "published": None,
                "files": files_of(data),
                **counts,
            },
        )
        tables.setdefault(name, {})[split] = data
    return {
        name: splits["train"] if list(splits) == ["train"] else DatasetDict(splits) for name, splits in tables.items()
    }
