"""reader: a model reads what a tool gave, passages or a translation, and answers: one prediction a text.

A task says what its reader is asked (`Task.reader_prompt`) and who that is (`Task.reader`); a cassette may answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.columns import QUESTIONS, RESPONSE
from toolrlef_data.engines.model_stage import ModelStage, run_model_stage
from toolrlef_data.engines.prompts import render_prompt
from toolrlef_data.engines.responses import build_request, build_response
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import Reply, ToolResult
from toolrlef_data.tables.transform import apply, features_of
from toolrlef_data.tasks.task import Task

__all__ = ["Play", "Reading", "any_right", "read_outputs", "reader_of"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Play = Callable[[str, str, str, str], ToolResult]  # recorded: id and task of a row, tool, argument -> what was given

READ = ("tool_error", "predictions", "correct")


@dataclass(frozen=True)
class Reading:
    """Which tasks' tool outputs are read in which columns; `compat` and `verify` as of `execute_responses`."""

    kind: ClassVar[str] = "read"
    tasks: Mapping[str, Task]
    names: tuple[str, ...]
    compat: bool
    verify: bool


def read_outputs(executed: D, reader: EngineSpec | Play, reading: Reading, *, num_proc: int | None = None) -> D:
    """Put a reader's answers in the place of what the tool gave, and grade them.

    Args:
        executed: a table whose responses were executed, `predictions` being what the tool gave.
        reader: the model that reads, or the cassette that holds what was read.

    Returns:
        the table with predictions, correct and tool_error of the responses that were read; tool_error is "reader" where
        the model gave no reply, or was cut off before it said anything.

    Raises:
        CassetteMiss: the cassette lacks what was read.
    """
    question = [name for name in QUESTIONS if name in features_of(executed)] if reading.verify else ["input"]
    common = ["id", "task", "answers", *(question if isinstance(reader, EngineSpec) else ())]
    responses = [f"{name}.{field}" for name in reading.names for field in ("argument", *READ)]
    adds = {f"{name}.{field}": RESPONSE[field] for name in reading.names for field in READ}
    reads = [*dict.fromkeys(common), *responses]
    if isinstance(reader, EngineSpec):
        stage = ModelStage(_requests, _read, reading, reader, reads=reads, adds=adds, name=Reading.kind, label="reader")
        return run_model_stage(executed, stage, num_proc=num_proc)
    settings = Replaying(reading, reader)
    return apply(executed, _replay, settings, reads=reads, adds=adds, name="replay readings", num_proc=num_proc)


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
class Replaying:
    """The same from recorded executions."""

    reading: Reading
    cassette: Play


def reader_of(tool: str) -> str:
    """What the reader of a tool is called in a cassette."""
    return f"reader of {tool}"


def _names_read(row: Mapping[str, Any], reading: Reading) -> list[str]:
    """The responses whose predictions are still what the tool gave."""
    return [
        name
        for name in reading.names
        if row["task"] in reading.tasks
        and row[f"{name}.argument"] is not None
        and row[f"{name}.tool_error"] is None
        and not (reading.verify and row[f"{name}.correct"])
    ]


def _requests(row: Mapping[str, Any], reading: Reading) -> list[Request]:
    task = reading.tasks.get(row["task"])
    if task is None or task.reader_prompt is None:
        return []
    shown = task.render(row) if reading.verify else row["input"]
    return [
        build_request(render_prompt(task.reader_style, task.reader_instruction, task.reader_prompt(shown, output)))
        for name in _names_read(row, reading)
        for output in row[f"{name}.predictions"]
    ]


def _read(row: Mapping[str, Any], replies: Sequence[Reply], reading: Reading) -> dict[str, Any]:
    """A model's replies, one for each text of the outputs."""
    following = iter(replies)
    results = {}
    for name in _names_read(row, reading):
        read_answer = reading.tasks[row["task"]].parse_reader_reply or str.strip
        responses = [build_response(next(following)) for _ in row[f"{name}.predictions"]]
        if any(each["error"] or (not each["text"] and each["finish_reason"] == "length") for each in responses):
            results[name] = ToolResult(error="reader")
        else:
            results[name] = ToolResult(tuple(read_answer(each["text"]) or "" for each in responses))
    return _graded(row, results, reading)


def _replay(row: Mapping[str, Any], replaying: Replaying) -> dict[str, Any]:
    """The recorded predictions."""
    reading = replaying.reading
    results = {
        name: replaying.cassette(
            row["id"], row["task"], reader_of(reading.tasks[row["task"]].tool.name), row[f"{name}.argument"]
        )
        for name in _names_read(row, reading)
    }
    return _graded(row, results, reading)


def _graded(row: Mapping[str, Any], results: Mapping[str, ToolResult], reading: Reading) -> dict[str, Any]:
    """The predictions in the place of what the tool gave; responses that were not read stay as they are."""
    columns = {f"{name}.{field}": row[f"{name}.{field}"] for name in reading.names for field in READ}
    answers = row["answers"][:1] if reading.compat else row["answers"]
    for name, (value, error, _) in results.items():
        predictions = list(value) if isinstance(value, tuple) else []
        correct = None
        if error is None:
            task = reading.tasks[row["task"]]
            correct = any_right(predictions, task, answers, compat=reading.compat, whole=reading.compat)
        columns |= {f"{name}.tool_error": error, f"{name}.predictions": predictions, f"{name}.correct": correct}
    return columns
