"""Tables written as TRICE's files: JSON Lines named .json.

| table | files |
|---|---|
| questions | raw/{unit}/{dataset}.json |
| graded | raw/{unit}/{dataset}_right.json (`output` is the student's response), _wrong.json |
| labelled; graded with stage1 | those of graded, and stage1/{unit}/{dataset}_wrong.json: rows with a call (`tool`) |
| stage1 | stage1/{unit}/{dataset}.json, {unit}.json; stage2/{unit}/{prefix}_gold_response.json |
| responded | stage2/{unit}/{prefix}_{responder}_response.json |
| stage2 | stage2/{unit}/{unit}.json |

- A unit is a task or, in the older layout, a data set. Rows without a known data set are in the unit's files.
- A prefix is what the original's scorer opens: its name of the task (`Math`), or the unit in the older layout.
- Splits other than "train" are written below dev/{unit}/: stage 1 as {unit}.json, stage 2 as {unit}_stage2.json.
  Questions are {unit}.json, or {unit}_questions.json if the task also has stage 1 rows in such a split.
- Several tasks are also mixed in stage1/mix/mix.json and stage2/mix/mix.json.
- `input` is the rendered question. For lama and qa, `instruction` contains it too, since TRICE's local models
  and its reader expect it there.
- The original's evaluator and scorer read `answer` as one text in math, mlqa and the gold responses, and as a list
  elsewhere. If a math or mlqa row has several gold answers, all of them are in `answers`.
- Every response is in `response`; those of APIs are in `output` too.
- Ids contain the data set's name in the original's files (`names`).
- dropped.json records what these files cannot represent.

Not covered: the column `solution`, and `pred` and the summary line of TRICE's evaluator. `loader` reads these
files.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import IO, Any

from datasets import Dataset

from toolrlef_data.columns import GRADED, QUESTIONS, STAGE1, STAGE2, STAGE2_LATER, responders_of
from toolrlef_data.records import InputError
from toolrlef_data.tables.identity import HashTable, text_hash
from toolrlef_data.tables.lineage import lineage
from toolrlef_data.trice.files.lines import LEDGER_FILE, LINES, Lines, Part, dataset_unit, ledger_line
from toolrlef_data.trice.files.names import UPSTREAM_TASKS, upstream_id
from toolrlef_data.trice.responders import RespondSettings

__all__ = ["LOAD_STAGE", "check_tables", "write_trice"]

Tables = Mapping[str, Mapping[str, Mapping[str, Dataset]]]
Row = Mapping[str, Any]

LOAD_STAGE = "load_trice"  # the stage of loaded tables in the lineage and in the ledger
LEDGER_ORDER = ("task", "dataset", "id", "stage", "reason", "detail")


def check_tables(tables: Tables) -> None:
    """Raise InputError for a table that TRICE's files cannot contain, or two tables of a task with the same files.

    These files know a question by its id, so one id may not be that of two questions, such as in two splits.
    """
    for task, task_tables in tables.items():
        names_by_kind: dict[str, str] = {}  # kind of table -> name of the table
        questions = HashTable("Q")  # column of the question and id in the files -> its text
        for name, splits in task_tables.items():
            for data in splits.values():
                kind = _kind(data)
                if not kind:
                    raise InputError(
                        f"the table {name!r} of {task!r} cannot be written as TRICE's files: expected a questions, "
                        "graded, labelled, stage1, responded or stage2 table, found the columns "
                        f"{', '.join(data.column_names)}"
                    )
                if names_by_kind.setdefault(kind, name) != name:
                    raise InputError(
                        f"the tables {names_by_kind[kind]!r} and {name!r} of {task!r} would be written to the same "
                        "files: publish one of them"
                    )
                column = "question" if "question" in data.column_names else "input"
                for row in data.select_columns(["id", "dataset", column]) if kind != "stage2" else ():
                    place = text_hash(f"{column} {upstream_id(row['dataset'], str(row['id']))}")
                    text = text_hash(row[column]) or 1
                    if questions.setdefault(place, text) not in (0, text):
                        raise InputError(
                            f"two questions of {task!r} have the id {row['id']!r}, by which TRICE's files join rows: "
                            f"one of them is {row[column]!r:.80}; give each its own id"
                        )


def write_trice(folder: Path, tables: Tables, dropped: Iterable[Row], *, by_dataset: bool = False) -> None:
    """Write tables as TRICE's files, and the dropped rows as dropped.json.

    Args:
        folder: the target folder.
        tables: task -> name -> split -> table, which `check_tables` accepts.
        dropped: rows with the columns of `columns.DROPPED`.
        by_dataset: whether to write the older layout, whose units are data sets; default: False.
    """
    dropped_lines = (ledger_line(row, row["stage"], row["reason"], row["detail"]) for row in dropped)
    ledger = []
    with contextlib.ExitStack() as stack:
        files: dict[str, IO[str]] = {}

        def write(path: str, row: Row) -> None:
            if path not in files:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                files[path] = stack.enter_context(open(folder / path, "w", encoding="utf-8"))
            files[path].write(json.dumps(row, ensure_ascii=False) + "\n")

        for path, row in chain(dropped_lines, _table_lines(tables, by_dataset)):
            if path == LEDGER_FILE:
                ledger.append(row)
            else:
                write(path, row)
        # Sorted, so that loading and writing a folder again yields the same order.
        for row in sorted(ledger, key=lambda row: [str(row[name]) for name in LEDGER_ORDER]):
            write(LEDGER_FILE, row)


def _table_lines(tables: Tables, by_dataset: bool) -> Lines:
    """Yield (path, line) for every line of the tables."""
    kinds = {
        task: {_kind(data) for splits in task_tables.values() for data in splits.values()}
        for task, task_tables in tables.items()
    }
    mixed = {kind for kind in ("stage1", "stage2") if sum(kind in task_kinds for task_kinds in kinds.values()) > 1}
    for task, task_tables in tables.items():
        stage1_splits = {
            split for splits in task_tables.values() for split, data in splits.items() if _kind(data) == "stage1"
        }
        for splits in task_tables.values():
            for split, data in splits.items():
                # The suffix separates two splits in dev/, such as validation and test.
                suffix = None if split == "train" else "" if len(splits.keys() - {"train"}) == 1 else f"_{split}"
                kind = _kind(data)
                fields = _response_fields(data) if kind == "responded" else {}
                calls = _stage1_calls(task_tables) if kind == "graded" and "tool_call" not in data.column_names else {}
                in_dev = bool(stage1_splits - {"train"})
                prefixes = {} if by_dataset else UPSTREAM_TASKS
                part = Part(suffix, fields, kind in mixed, "stage1" in kinds[task], in_dev, calls, prefixes)
                for row in data:
                    yield from LINES[kind](row, dataset_unit(row, task) if by_dataset else task, part)


def _stage1_calls(task_tables: Mapping[str, Mapping[str, Dataset]]) -> dict[str, str]:
    """Return id -> output of the stage 1 rows that use the tool."""
    return {
        row["id"]: row["output"]
        for splits in task_tables.values()
        for data in splits.values()
        if _kind(data) == "stage1"
        for row in data.select_columns(["id", "output", "uses_tool"])
        if row["uses_tool"]
    }


def _kind(data: Dataset) -> str:
    """Return the kind of a table, a key of `LINES`; "" for other tables."""
    columns = set(data.column_names)
    if columns >= set(STAGE2) - STAGE2_LATER:
        return "stage2"
    if columns >= set(GRADED):  # labelled, too
        return "graded"
    if columns >= set(STAGE1):
        return "responded" if responders_of(data.features) else "stage1"
    if columns >= set(QUESTIONS) and "response" not in columns:  # the files would lose it
        return "questions"
    return ""


def _response_fields(data: Dataset) -> dict[str, str]:
    """Return responder -> `response` for local models, else `output`; the lineage has the kinds."""
    fields = dict.fromkeys(responders_of(data.features), "output")
    for record in lineage(data):
        stage = record["settings"] if isinstance(record["settings"], dict) else {}
        settings = stage.get("settings")
        if isinstance(settings, dict) and settings.get("") == RespondSettings.kind and stage["spec"]["kind"] == "local":
            fields |= {name: "response" for name in settings["columns"] if name in fields}
        if record["step"] == LOAD_STAGE:
            fields |= {name: field for name, field in stage["fields"].items() if name in fields}
    return fields
