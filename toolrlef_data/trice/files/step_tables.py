"""The rows of a step's file as tables, so that the library's stages run on them, and the rows that a step writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from toolrlef_data.columns import GRADED, QUESTIONS, STAGE1
from toolrlef_data.loading_scripts import SOURCES
from toolrlef_data.records import Drop, InputError, UnknownName
from toolrlef_data.tables.row_files import table_from_rows
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.task import Task
from toolrlef_data.trice.files.entries import Entry, NameResolver, parse_entry
from toolrlef_data.trice.files.folder import File, Line
from toolrlef_data.trice.files.lines import ANSWER_AS_TEXT, QUESTION_IN_INSTRUCTION, answer_text
from toolrlef_data.trice.files.names import UPSTREAM_TASKS, find_dataset, normalise_id, upstream_name
from toolrlef_data.trice.files.rows import graded_rows, question_row
from toolrlef_data.trice.files.steps import StepRow, describe
from toolrlef_data.trice.files.task_entries import TaskEntries

__all__ = [
    "build_file",
    "check_dataset",
    "gold_row",
    "graded_table",
    "parse_rows",
    "prompt_table",
    "question_table",
    "response_row",
    "stage1_row",
    "task_of_dataset",
    "task_of_rows",
]

STEP = "step file"  # the name of the rows in the lineage
# The data sets of the original's training data; each belongs to one task.
TRAINING_SETS = {"asdiv", "gsm8k", "mlqa", "nq_open", "svamp", "trex", "triviaqa", "webquestions"}
SUFFIXES = ("_right", "_wrong", "_response")


def task_of_dataset(dataset: str) -> str:
    """Return the task of a data set of the original, given in any spelling.

    Raises:
        UnknownName: another data set.

    >>> task_of_dataset("T-REx"), task_of_dataset("SVAMP")
    ('lama', 'math')
    """
    return str(SOURCES[find_dataset(dataset)].task)


def task_of_rows(path: Path, rows: Sequence[StepRow], kind: str) -> str:
    """Return the task of a file: that of its folder, of its name, of the ids, or of the instruction in its rows.

    Raises:
        InputError: none of these is known.
    """
    file = build_file(path, path.parent.name, kind, rows)
    resolver = NameResolver(TASKS, [file])
    names = [resolver.unit_tasks[file.unit]]
    for name in (file.name, *(resolver.dataset_of(file, row.id) for row in rows[:1] if "id" in row.row)):
        try:
            names.append(task_of_dataset(name))
        except UnknownName:
            continue
    names += [resolver.task_of(file, rows[0].row, kind)]
    if not (found := [name for name in names if name]):
        raise InputError(f"{path}: unknown task; name it with --task")
    return found[0]


def build_file(path: Path, unit: str, kind: str, rows: Sequence[StepRow], responder: str = "") -> File:
    """Return rows as a `File`, which `entries` parses.

    Args:
        path: its path. Its name, or that of its folder, is the data set of rows whose ids name none.
        unit: the name of a task or a folder.
        kind: the kind of its rows (see `folder`).
        rows: the rows.
        responder: the responder of a response file, else "".
    """
    name = path.stem
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    lines = [Line(row.position, {**row.row, **({"id": row.id} if "id" in row.row else {})}) for row in rows]
    return File(str(path), unit, kind, name, responder, "train", lines, "")


def parse_rows(path: Path, rows: Sequence[StepRow], kind: str, task: Task, dataset: str = "") -> list[Entry]:
    """Return the rows of a file as entries, in order.

    Args:
        path: the file.
        rows: its rows.
        kind: "question", "right", "wrong" or "tool".
        task: the task of all rows.
        dataset: the data set of all rows; default: derived from the id, the file's name or its folder.

    Raises:
        InputError: a row cannot be used, or two ids are equal in this package. The message names the file and the line.
    """
    file = build_file(path, task.name, kind, rows)
    resolver = NameResolver({task.name: task}, [file])
    entries: dict[str, Entry] = {}
    for row, line in zip(rows, file.lines, strict=True):
        entry = parse_entry(file, line, resolver)
        if isinstance(entry, Drop):
            raise InputError(describe(row, f"{entry.reason}: {entry.detail}"))
        check_dataset(row, entry, task)
        if dataset:
            entry.dataset, entry.id = dataset, normalise_id(dataset, row.id)
        if (first := entries.setdefault(entry.id, entry)) is not entry:
            raise InputError(f"{row.position}: the id {row.id!r} is also in {first.position}; remove one of the rows")
    return list(entries.values())


def check_dataset(row: StepRow, entry: Entry, task: Task) -> None:
    """Raise an `InputError` if a row is of a data set that the original uses for another of its tasks.

    Args:
        row: the row.
        entry: the same row as an entry, with the data set that its id, its file or its folder names.
        task: the task of the command.
    """
    own = SOURCES[entry.dataset].task if entry.dataset in TRAINING_SETS else task.name
    if own != task.name and task.name in UPSTREAM_TASKS:
        name = upstream_name(entry.dataset)
        raise InputError(f"{row.position}: {row.id!r} is a row of {name}, of the task {own}, not {task.name}")


def question_table(task: Task, entries: Sequence[Entry]) -> Dataset:
    """Return entries as a table of questions (`columns.QUESTIONS`)."""
    task_entries = _task_entries(task, entries)
    return table_from_rows((question_row(task_entries, entry) for entry in entries), QUESTIONS, STEP)


def graded_table(task: Task, entries: Sequence[Entry]) -> Dataset:
    """Return entries of right or wrong rows as a graded table (`columns.GRADED`)."""
    rows = graded_rows(_task_entries(task, entries), "train", {}, False)
    return table_from_rows(rows, GRADED, STEP)


def prompt_table(task: Task, entries: Sequence[Entry], instruction: str) -> Dataset:
    """Return entries as a table that `respond` reads; `output`, which it copies to gold, is empty."""
    task_entries = _task_entries(task, entries)
    rows = (
        {
            "instruction": instruction,
            "input": entry.text,
            "output": "",
            **task_entries.identity(entry),
            **dict.fromkeys(("uses_tool", "source", "verified_by")),
        }
        for entry in entries
    )
    return table_from_rows(rows, STAGE1, STEP)


def response_row(row: Mapping[str, Any], entry: Entry, task: str, fields: Mapping[str, str]) -> dict[str, Any]:
    """Return a raw row with a response, in the form that the original's evaluator and scorer read.

    Args:
        row: the raw row; its other fields are unchanged.
        entry: the same row as an entry.
        task: the name of the task.
        fields: the fields of the response.
    """
    line = {**row, "input": row.get("input") or entry.text}
    if task in QUESTION_IN_INSTRUCTION:
        line["instruction"] = row.get("instruction") or entry.text
    answer = row.get("answer")
    if task in ANSWER_AS_TEXT and not isinstance(answer, str) and entry.answers:
        line |= {"answer": answer_text({"task": task, "answers": entry.answers}), "answers": entry.answers}
    elif task not in ANSWER_AS_TEXT and not isinstance(answer, list) and entry.answers:
        line["answer"] = entry.answers
    return {**line, **fields}


def stage1_row(row: StepRow, entry: Entry, task: Task, output: str) -> dict[str, str]:
    """Return a row of stage 1: instruction, input and output."""
    if not output.strip():
        raise InputError(describe(row, "the output is empty"))
    return {"instruction": task.instruction, "input": entry.text, "output": output}


def gold_row(line: Mapping[str, str], row: StepRow, entry: Entry, task: Task) -> dict[str, str]:
    """Return a row of stage 1 as a gold response, with the id of its row and its gold answer as one text."""
    return {**line, "id": row.id, "answer": answer_text({"task": task.name, "answers": entry.answers})}


def _task_entries(task: Task, entries: Sequence[Entry]) -> TaskEntries:
    kinds: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        kinds.setdefault((entry.kind, entry.split), []).append(entry)
    return TaskEntries(task.name, task, kinds)
