"""reading: a model reads what a tool gave, passages or a translation, and answers: one prediction a text.

A task says what its reader is asked (`Task.reading`) and who that is (`Task.reader`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.asking import ask
from toolrlef_data.columns import QUESTIONS, RESPONSE
from toolrlef_data.engines import EngineSpec, Request
from toolrlef_data.prompts import render_prompt
from toolrlef_data.records import Reply
from toolrlef_data.responses import request_of, response_of
from toolrlef_data.tasks import Task
from toolrlef_data.transform import features_of

__all__ = ["any_right", "read_outputs"]

D = TypeVar("D", bound="Dataset | DatasetDict")

READ = ("tool_error", "predictions", "correct")


def read_outputs(
    executed: D,
    reader: EngineSpec,
    names: Sequence[str],
    tasks: Mapping[str, Task],
    *,
    compat: bool = False,
    verify: bool = False,
    num_proc: int | None = None,
) -> D:
    """Put a reader's answers in the place of what the tool gave, and grade them.

    Args:
        executed: a table whose responses were executed, `predictions` being what the tool gave.
        reader: the model that reads for those of the tasks that name it.
        names, tasks, compat, verify: as of `executing.execute_responses`.

    Returns:
        the table with predictions, correct and tool_error of the responses that were read; tool_error is "reader" where
        the model gave no reply, or was cut off before it said anything.
    """
    reading = Reading(
        {name: task for name, task in tasks.items() if task.reading and task.reader == reader},
        tuple(names),
        compat,
        verify,
    )
    shown = [name for name in QUESTIONS if name in features_of(executed)] if verify else ["input"]
    fields = ("argument", *READ)
    return ask(
        executed,
        _reading_requests,
        _read,
        reading,
        reader,
        reads=[*dict.fromkeys(["task", "answers", *shown]), *(f"{name}.{field}" for name in names for field in fields)],
        adds={f"{name}.{field}": RESPONSE[field] for name in names for field in READ},
        name="read",
        label="reader",
        num_proc=num_proc,
    )


def any_right(
    predictions: Sequence[str], task: Task, answers: Sequence[str], *, compat: bool = False, whole: bool = False
) -> bool | None:
    """Whether any prediction is right: there is one a passage.

    Args:
        compat: only the first counts.
        whole: each counts however long it is (`Task.grade_whole`).
    """
    grade = task.grade_whole if whole else task.grade
    correct = grade(predictions[0], answers)
    if len(predictions) > 1 and not correct and not compat:
        correct = any(grade(prediction, answers) for prediction in predictions[1:])
    return correct


@dataclass(frozen=True)
class Reading:
    """Who reads which tasks' tool outputs."""

    tasks: Mapping[str, Task]
    names: tuple[str, ...]
    compat: bool
    verify: bool


def _is_read(row: Mapping[str, Any], name: str, reading: Reading) -> bool:
    """Whether a response's predictions are still what the tool gave."""
    return (
        row["task"] in reading.tasks
        and row[f"{name}.argument"] is not None
        and row[f"{name}.tool_error"] is None
        and not (reading.verify and row[f"{name}.correct"])
    )


def _reading_requests(row: Mapping[str, Any], reading: Reading) -> list[Request]:
    task = reading.tasks.get(row["task"])
    if task is None or task.reading is None:
        return []
    shown = task.render(row) if reading.verify else row["input"]
    return [
        request_of(render_prompt(task.reader_style, task.reader_instruction, task.reading(shown, output)))
        for name in reading.names
        if _is_read(row, name, reading)
        for output in row[f"{name}.predictions"]
    ]


def _read(row: Mapping[str, Any], replies: Sequence[Reply], reading: Reading) -> dict[str, Any]:
    """The reader's answers in the place of what the tool gave."""
    told = iter(replies)
    columns: dict[str, Any] = {}
    for name in reading.names:
        columns |= {f"{name}.{field}": row[f"{name}.{field}"] for field in READ}
        if not _is_read(row, name, reading):
            continue
        task = reading.tasks[row["task"]]
        responses = [response_of(next(told)) for _ in row[f"{name}.predictions"]]
        cut = any(not each["text"] and each["finish_reason"] == "length" for each in responses)
        if cut or any(each["error"] for each in responses):
            columns |= {f"{name}.tool_error": "reader", f"{name}.predictions": [], f"{name}.correct": None}
            continue
        read_answer = task.read_answer or str.strip
        predictions = [read_answer(each["text"]) or "" for each in responses]
        answers = row["answers"][:1] if reading.compat else row["answers"]
        columns[f"{name}.predictions"] = predictions
        columns[f"{name}.correct"] = any_right(predictions, task, answers, compat=reading.compat, whole=reading.compat)
    return columns
