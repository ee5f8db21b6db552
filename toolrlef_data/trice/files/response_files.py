"""The response files of one folder, such as stage2/math, scored into stage 2 as the original's scorer does.

A response whose row has `pred` was executed before, by the original's evaluator: its prediction is kept. The others are
executed. A gold response is never executed; its prediction is its gold answer, as in the original.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset, Features, Value

from toolrlef_data.columns import RESPONSE, STAGE1
from toolrlef_data.records import Drop, InputError
from toolrlef_data.tables.row_files import table_from_rows
from toolrlef_data.tables.transform import apply
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.parsing.calls import find_called_tool
from toolrlef_data.trice.files.entries import Entry, NameResolver, parse_entry
from toolrlef_data.trice.files.folder import File
from toolrlef_data.trice.files.names import UPSTREAM_NAMES, UPSTREAM_TASKS
from toolrlef_data.trice.files.rows import RESPONDER_ORDER, build_rows
from toolrlef_data.trice.files.step_tables import build_file, check_dataset
from toolrlef_data.trice.files.steps import StepRow, describe, read_rows
from toolrlef_data.trice.files.task_entries import TaskEntries
from toolrlef_data.trice.scoring.stage import score
from toolrlef_data.trice.stage2 import execute

__all__ = ["ResponseFiles", "called_arguments", "read_responses", "score_responses", "stage2_rows"]

KEPT = "kept"  # the column of kept predictions, as JSON: responder -> text and predictions
KEPT_FIELDS = ("text", "n_calls", "tool", "argument", "tool_output", "tool_error", "predictions", "correct")
GOLD = "gold"
ORDER = {name: n for n, name in enumerate((GOLD, *RESPONDER_ORDER))}


class ResponseFiles(NamedTuple):
    """The response files of a folder.

    Args:
        paths: responder -> its file; the gold responses, or the file of stage 1, under "gold".
        rows: rows with the columns of stage 1 and a RESPONSE struct for each responder, in the order of gold.
        predictions: (id, responder) -> the predictions in `pred`.
        answers: id -> the gold answer in the file of gold responses.
        dropped: rows of the ledger.
    """

    paths: dict[str, Path]
    rows: list[dict[str, Any]]
    predictions: dict[tuple[str, str], list[str]]
    answers: dict[str, str]
    dropped: list[dict[str, Any]]


def read_responses(folder: Path, task: Task, stage1: Path | None = None) -> ResponseFiles:
    """Read the files {prefix}_{responder}_response.json of a folder.

    Args:
        folder: the folder. The prefix is its name, that of the task or of a data set, in any case.
        task: the task of all rows.
        stage1: the file that replaces a missing file of gold responses; its rows are joined by their input. Default:
            the file in stage1/ with the name of the folder.

    Raises:
        InputError: the folder has no responses or no gold, a file has another name, or a row cannot be used. The
            message names the file and the line.
    """
    paths = _find_files(folder, task)
    if GOLD in paths:
        gold_kind = GOLD
    else:
        name = folder.resolve().name
        stage1 = stage1 or folder.resolve().parents[1] / "stage1" / name / f"{name}.json"
        if not stage1.is_file():
            raise InputError(f"{folder}: no gold responses: expected {name}_gold_response.json, or {stage1}")
        paths, gold_kind = {GOLD: stage1, **paths}, "stage1"
    files: list[File] = []
    rows_of_files: list[list[StepRow]] = []
    for responder, path in paths.items():
        kind = gold_kind if responder == GOLD else "response"
        needs = ("instruction", "input", "output") if responder == GOLD else ("output|response",)
        rows = read_rows(path, needs=(*needs, *(() if kind == "stage1" else ("id",))))
        files.append(build_file(path, task.name, kind, rows, "" if responder == GOLD else responder))
        rows_of_files.append(rows)
    data_set = folder.resolve().name
    files = [file._replace(name=data_set) for file in files]
    resolver = NameResolver({task.name: task}, files)
    task_entries = TaskEntries(task.name, task)
    predictions = {}
    for file, rows in zip(files, rows_of_files, strict=True):
        for line, row in zip(file.lines, rows, strict=True):
            entry = parse_entry(file, line, resolver)
            if isinstance(entry, Drop):
                raise InputError(describe(row, f"{entry.reason}: {entry.detail}"))
            if "id" in row.row:
                check_dataset(row, entry, task)
            task_entries.entries.setdefault((entry.kind, entry.split), []).append(entry)
            if file.responder and "pred" in row.row:
                predictions[entry.id, file.responder] = _predictions(row.row["pred"])
    responded = build_rows(task_entries).get("responded", {}).get("train", [])
    golds: Iterable[Entry] = task_entries.of(GOLD)
    answers = {entry.id: entry.answers[0] for entry in golds if entry.answers}
    return ResponseFiles(paths, responded, predictions, answers, task_entries.dropped)


def called_arguments(files: ResponseFiles, task: Task) -> list[str]:
    """Return the texts of the responses that have to be executed by the tool, those without a kept prediction."""
    return [
        text
        for row in files.rows
        for name in files.paths
        if name != GOLD and (row["id"], name) not in files.predictions
        if (text := row[name]["text"]) and find_called_tool(text, task.tool)
    ]


def score_responses(files: ResponseFiles, task: Task, *, compat: bool = True) -> Dataset:
    """Execute the responses without a kept prediction, and score all.

    Args:
        files: the responses.
        task: the task, with the tool and the reader that the calls need.
        compat: as in `build_stage2`. The original trusts the responder chatgpt.

    Raises:
        InputError: a call needs a tool or a reader that is not set up.
        TooManyFailures: too many calls ended in tool failures; all results are saved.
    """
    names = list(files.paths)
    features = Features(**STAGE1, **dict.fromkeys(names, RESPONSE), **{KEPT: Value("string")})
    table = table_from_rows((_with_kept(row, files, names) for row in files.rows), features, "response files")
    executed = execute(table, compat=compat, task=task)
    paths = [f"{name}.{field}" for name in names for field in KEPT_FIELDS]
    adds = {f"{name}.{field}": RESPONSE[field] for name in names for field in KEPT_FIELDS}
    restored = apply(
        executed,
        _restore,
        KeptSettings(task, tuple(names), compat),
        reads=["id", "answers", "input", KEPT, *paths],
        adds=adds,
        removes=[KEPT],
        name="keep predictions",
    )
    trusted = [name for name in ("chatgpt",) if name in names]
    return score(restored, trusted=trusted, compat=compat, task=task)


def stage2_rows(stage2: Dataset, files: ResponseFiles, *, compat: bool = True) -> list[dict[str, Any]]:
    """Return the rows of the original's file, whose answers are the texts in `pred` and, with `compat`, in gold."""
    rows = []
    for row in stage2.select_columns(["id", "query", "responses", "origin", "scores", "answer"]):
        line = {name: row[name] for name in ("query", "responses", "origin", "scores", "answer")}
        line["scores"] = [int(score) if score == int(score) else score for score in row["scores"]]
        line["answer"] = [
            files.answers.get(row["id"], answer)
            if compat and name == GOLD
            # The table has numbers that are rounded to 2 decimals.
            else files.predictions.get((row["id"], name), [answer])[0]
            for name, answer in zip(row["origin"], row["answer"], strict=True)
        ]
        rows.append(line)
    return rows


@dataclass(frozen=True)
class KeptSettings:
    """The settings of the stage that restores kept predictions."""

    task: Task
    names: tuple[str, ...]
    compat: bool


def _find_files(folder: Path, task: Task) -> dict[str, Path]:
    """Return responder -> file, in the order of the original's responders, then by name."""
    if not folder.is_dir():
        raise InputError(f"{folder}: {'is a file, not a folder' if folder.exists() else 'no such folder'}")
    prefixes = [folder.resolve().name, task.name, *UPSTREAM_TASKS.values(), *UPSTREAM_NAMES, *UPSTREAM_NAMES.values()]
    pattern = re.compile(rf"({'|'.join(map(re.escape, prefixes))})_(.+)_response", re.IGNORECASE)
    paths: dict[str, Path] = {}
    for path in sorted(folder.glob("*_response.json")):
        if not (match := pattern.fullmatch(path.stem)):
            raise InputError(f"{path}: expected a name such as {task.name}_chatgpt_response.json")
        if (other := paths.setdefault(match[2], path)) != path:
            raise InputError(f"{other} and {path}: two files of the responder {match[2]!r}; move one of them")
    if not set(paths) - {GOLD}:
        raise InputError(f"{folder}: no response files; expected names such as {task.name}_chatgpt_response.json")
    return {name: paths[name] for name in sorted(paths, key=lambda name: (ORDER.get(name, len(ORDER)), name))}


def _predictions(pred: Any) -> list[str]:
    """Return the predictions in `pred`, as the original's scorer reads it: the first of a list, as text."""
    value = pred[0] if isinstance(pred, list) and pred else pred
    return ["" if value is None else str(value)]


def _with_kept(row: Mapping[str, Any], files: ResponseFiles, names: Sequence[str]) -> dict[str, Any]:
    """Return a row whose responses with a kept prediction have no text, so that they are not executed."""
    kept = {}
    columns = {name: dict(row[name]) for name in names}
    for name in names:
        predictions = files.predictions.get((row["id"], name))
        if name == GOLD:
            predictions = row["answers"][:1]
        if predictions is not None and columns[name]["text"] is not None:
            kept[name] = {"text": columns[name]["text"], "predictions": predictions}
            columns[name]["text"] = None
    return {**row, **columns, KEPT: json.dumps(kept)}


def _restore(row: Mapping[str, Any], settings: KeptSettings) -> dict[str, Any]:
    """Return the responses with their kept predictions, graded."""
    task = settings.task
    columns = {f"{name}.{field}": row[f"{name}.{field}"] for name in settings.names for field in KEPT_FIELDS}
    for name, kept in json.loads(row[KEPT]).items():
        text, predictions = kept["text"], kept["predictions"]
        is_call = task.tool.name in text if settings.compat else find_called_tool(text, task.tool) is not None
        values = {"text": text, "n_calls": int(is_call), "tool": task.tool.name if is_call else None}
        values |= {"predictions": predictions, "correct": name == GOLD or _is_correct(predictions[0], row, settings)}
        columns |= {f"{name}.{field}": value for field, value in values.items()}
    return columns


def _is_correct(prediction: str, row: Mapping[str, Any], settings: KeptSettings) -> bool:
    """Return whether a kept prediction is correct, by the rule of the original or of the task."""
    task = settings.task
    if settings.compat:
        task = task.with_rule("paper") if task.has_rules else task
        return bool(task.grade_whole(prediction, row["answers"][:1]))
    return bool(task.grade_row(prediction, row["answers"], *task.split_input(row["input"] or "")))
