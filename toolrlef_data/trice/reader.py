"""Readers: a model extracts predictions from tool output, such as passages or a translation.

A task defines the prompt (`Task.reader_prompt`) and the model (`Task.reader`). A cassette can replay recorded
predictions instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.checks import features_of
from toolrlef_data.columns import QUESTIONS, RESPONSE
from toolrlef_data.engines.model_stage import ModelStage, run_model_stage
from toolrlef_data.engines.prompts import render_prompt
from toolrlef_data.engines.responses import build_request, build_response
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import Reply, ToolResult
from toolrlef_data.tables.transform import apply
from toolrlef_data.tasks.task import Task

__all__ = ["CassetteLookup", "ReaderSettings", "any_correct", "read_outputs", "reader_name"]

D = TypeVar("D", bound="Dataset | DatasetDict")
CassetteLookup = Callable[[str, str, str, str], ToolResult]  # (row id, task, tool, argument) -> recorded result

READER_FIELDS = ("tool_error", "predictions", "correct")


@dataclass(frozen=True)
class ReaderSettings:
    """The settings of a reader stage.

    Args:
        tasks: the tasks with this reader, by name.
        names: the struct columns of the responses.
        compat, verify: as in `execute_responses`.
    """

    kind: ClassVar[str] = "read"
    tasks: Mapping[str, Task]
    names: tuple[str, ...]
    compat: bool
    verify: bool


def read_outputs(
    executed: D, reader: EngineSpec | CassetteLookup, settings: ReaderSettings, *, num_proc: int | None = None
) -> D:
    """Replace tool outputs by the reader's predictions, one per text, and grade them.

    Args:
        executed: a table of executed responses whose `predictions` contain the tool output.
        reader: the model, or a cassette with recorded predictions.

    Returns:
        the table with updated predictions, correct and tool_error. tool_error is "reader" if the model returned no
        reply, or reached its token limit before any text.

    Raises:
        CassetteMiss: the cassette lacks a prediction.
    """
    question = [name for name in (QUESTIONS if settings.verify else ["input"]) if name in features_of(executed)]
    common = ["id", "task", "answers", *question]
    responses = [f"{name}.{field}" for name in settings.names for field in ("argument", *READER_FIELDS)]
    adds = {f"{name}.{field}": RESPONSE[field] for name in settings.names for field in READER_FIELDS}
    reads = [*dict.fromkeys(common), *responses]
    if isinstance(reader, EngineSpec):
        stage = ModelStage(
            _reader_requests,
            _columns_from_replies,
            settings,
            reader,
            reads=reads,
            adds=adds,
            name=ReaderSettings.kind,
            label="reader",
        )
        return run_model_stage(executed, stage, num_proc=num_proc)
    replay = ReplaySettings(settings, reader)
    return apply(executed, _replay, replay, reads=reads, adds=adds, name="replay readings", num_proc=num_proc)


def any_correct(grades: Sequence[bool | None]) -> bool | None:
    """Return True if a grade is True, None if none is and one is unsure, else False."""
    return True if True in grades else None if None in grades else False


@dataclass(frozen=True)
class ReplaySettings:
    """The settings of a stage that replays a reader's predictions from a cassette."""

    reading: ReaderSettings
    cassette: CassetteLookup


def reader_name(tool: str) -> str:
    """Return the name in a cassette of the reader of a tool."""
    return f"reader of {tool}"


def _names_to_read(row: Mapping[str, Any], settings: ReaderSettings) -> list[str]:
    """Return the responses whose predictions still contain tool output."""
    return [
        name
        for name in settings.names
        if row["task"] in settings.tasks
        and row[f"{name}.argument"] is not None
        and row[f"{name}.tool_error"] is None
        and not (settings.verify and row[f"{name}.correct"])
    ]


def _reader_requests(row: Mapping[str, Any], settings: ReaderSettings) -> list[Request]:
    task = settings.tasks.get(row["task"])
    if task is None or task.reader_prompt is None:
        return []
    text = task.render(row) if settings.verify else row["input"]
    return [
        build_request(render_prompt(task.reader_style, task.reader_instruction, task.reader_prompt(text, output)))
        for name in _names_to_read(row, settings)
        for output in row[f"{name}.predictions"]
    ]


def _columns_from_replies(row: Mapping[str, Any], replies: Sequence[Reply], settings: ReaderSettings) -> dict[str, Any]:
    """Grade the model's replies, one for each text of the tool outputs."""
    remaining = iter(replies)
    results = {}
    for name in _names_to_read(row, settings):
        parse_reply = settings.tasks[row["task"]].parse_reader_reply or str.strip
        responses = [build_response(next(remaining)) for _ in row[f"{name}.predictions"]]
        if any(r["error"] or (not r["text"] and r["finish_reason"] == "length") for r in responses):
            results[name] = ToolResult(error="reader")
        else:
            results[name] = ToolResult(tuple(parse_reply(response["text"]) or "" for response in responses))
    return _graded_columns(row, results, settings)


def _replay(row: Mapping[str, Any], replay: ReplaySettings) -> dict[str, Any]:
    """Grade the recorded predictions."""
    settings = replay.reading
    results = {
        name: replay.cassette(
            row["id"], row["task"], reader_name(settings.tasks[row["task"]].tool.name), row[f"{name}.argument"]
        )
        for name in _names_to_read(row, settings)
    }
    return _graded_columns(row, results, settings)


def _graded_columns(
    row: Mapping[str, Any], results: Mapping[str, ToolResult], settings: ReaderSettings
) -> dict[str, Any]:
    """Return the row's columns with the new predictions and grades; responses without a result are unchanged."""
    columns = {f"{name}.{field}": row[f"{name}.{field}"] for name in settings.names for field in READER_FIELDS}
    answers = row["answers"][:1] if settings.compat else row["answers"]
    for name, (value, error, _) in results.items():
        predictions = list(value) if isinstance(value, tuple) else []
        correct = None
        if error is None:
            task = settings.tasks[row["task"]]
            texts = row[f"{name}.predictions"]  # the tool output
            correct = any_correct(_grades(predictions, texts, answers, row, task, settings))
        columns |= {f"{name}.tool_error": error, f"{name}.predictions": predictions, f"{name}.correct": correct}
    return columns


def _grades(
    predictions: Sequence[str],
    texts: Sequence[str],
    answers: Sequence[str],
    row: Mapping[str, Any],
    task: Task,
    settings: ReaderSettings,
) -> list[bool | None]:
    """Grade the predictions from each text of the tool output; with `compat` only the first."""
    if settings.compat:
        return [task.grade_whole(prediction, answers, row_id=row["id"]) for prediction in predictions[:1]]
    if settings.verify:
        question, context = row.get("question") or "", row.get("context") or ""
    else:
        question, context = task.split_input(row.get("input") or "")
    contexts = texts if task.output_is_answer else [context] * len(predictions)
    return [
        task.grade_row(prediction, answers, question, passage, row_id=row["id"])
        for prediction, passage in zip(predictions, contexts, strict=False)
    ]
