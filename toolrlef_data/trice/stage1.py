"""Stage 1, behaviour cloning: which questions need the tool, and a verified call for each that does.

    questions ──answer──> answered ──grade──> graded ─┬─ right: its own response ───────────────┐
                                                      └─ wrong: propose_calls (`teach`) ─────┴──> stage1

`build_stage1` runs what follows `grade`. All of it is one chain over one table: a right row passes through the steps
for wrong rows untouched. A call is executed before it becomes training data, and it must reach the gold answer.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.columns import ANSWERED, GRADED, LABELLED, QUESTIONS, STAGE1
from toolrlef_data.engines.model_stage import ModelStage, run_model_stage
from toolrlef_data.engines.prompts import render_prompt
from toolrlef_data.engines.responses import build_request, build_response
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import Drop, InputError, Reply
from toolrlef_data.tables.transform import apply, check_features, features_of, keep
from toolrlef_data.tasks.task import Task
from toolrlef_data.trice.annotations.composer import Annotations
from toolrlef_data.trice.row_tasks import tasks_of
from toolrlef_data.trice.teachers import Teacher, propose_calls, write_calls

__all__ = ["answer", "build_stage1", "grade"]

log = logging.getLogger("toolrlef_data")
D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]

QUESTION = ("id", "task", "dataset", "question", "context", "answers")


def build_stage1(
    graded: D,
    teacher: Teacher | Sequence[Teacher] = (),
    *,
    attempts: int = 3,
    keep_unverified: bool = False,
    task: Task | Mapping[str, Task] | None = None,
    num_proc: int | None = None,
) -> D:
    """Make stage 1: the student's own response where it was right, a verified tool call where it was wrong.

    Args:
        graded: a table from `grade`, or one whose rows have calls already (`propose_calls`, `load_trice`); those that
            nobody verified are verified first.
        teacher: who writes the calls: `ANNOTATIONS` (composed from upstream's solutions), a model, or several in
            order: a row that one cannot serve goes on to the next. None is needed where all calls are written without
            one (the translator's), or where the table has calls.
        attempts: tries a model teacher has for a row; 10 in TRICE, which never checks what it gets.
        keep_unverified: keep the last call where none was verified, as TRICE does.
        task: a task of your own for all rows, or some by their names; default: the task that each row names. Its tool
            executes the calls, and its reader verifies those whose output is only read.
        num_proc: processes for the steps that ask no model.

    Returns:
        the stage 1 table (`columns.STAGE1`). Rows without a target are in the ledger with their reasons.
    """
    tasks = tasks_of(graded, task)
    teachers = [teacher] if isinstance(teacher, (EngineSpec, Annotations)) else list(teacher)
    taught = [name for name, own in tasks.items() if own.make_argument is None]
    has_calls = "tool_call" in features_of(graded)
    if taught and not teachers and not has_calls:
        raise InputError(
            f"build_stage1 needs a teacher for the task {taught[0]!r}: ANNOTATIONS, an EngineSpec, or several; found "
            "none"
        )
    for name, own in tasks.items():
        if own.reader_prompt and not own.output_is_answer and own.reader is None and not keep_unverified:
            raise InputError(
                f"a call of {own.tool.name} is verified by what a model reads from it: give the task {name!r} one, "
                f"task=replace(TASKS[{name!r}], tool=..., reader=EngineSpec(...)), or pass keep_unverified=True"
            )
    for name, own in tasks.items():
        own.check_prompts()
        if own.reader_prompt and own.output_is_answer and own.reader is None:
            log.warning("the task %r has no reader: its calls are verified by what %s gives alone", name, own.tool.name)
    labelled = graded
    if len(taught) < len(tasks) or has_calls:
        labelled = write_calls(labelled, task=task, num_proc=num_proc)
    for each in teachers if taught else ():
        labelled = propose_calls(labelled, each, attempts=attempts, task=task, num_proc=num_proc)
    settings = Targets(tasks, keep_unverified)
    reads = ["needs_tool", "response.error", "answers", "task", "verified", "tool_call", "rejected"]
    usable = keep(labelled, _has_target, settings, reads=reads, stage="stage1", num_proc=num_proc)
    reads = [*QUESTION, "needs_tool", "response.text", "tool_call", "teacher", "verified_by"]
    options: dict[str, Any] = {"removes": list(LABELLED), "name": "build_stage1", "num_proc": num_proc}
    return apply(usable, _target, settings, reads=reads, adds=STAGE1, **options)


def answer(
    questions: D,
    student: EngineSpec,
    *,
    style: str = "chat",
    examples: int = 0,
    samples: int = 1,
    strip_reasoning: bool = True,
    task: Task | Mapping[str, Task] | None = None,
    num_proc: int | None = None,
) -> D:
    """Ask the student every question, without naming a tool.

    Args:
        questions: a table with the columns of `columns.QUESTIONS`.
        student: the model whose need for the tool is asked after.
        style: "chat", "completion", "alpaca" or "vicuna" (`prompts`).
        examples: few-shot examples, answered without the tool.
        samples: responses a question; more than one gives a pass rate and needs a temperature.
        strip_reasoning: keep reasoning apart from the answer.

    Returns:
        the table + `response` (the first sample) and `samples` (the others).
    """
    check_features(questions, QUESTIONS, "answer")
    questions = keep(questions, _askable, None, reads=["question", "answers"], stage="answer", num_proc=num_proc)
    settings = Prompting(tasks_of(questions, task), style, examples, strip_reasoning)
    adds = {name: ANSWERED[name] for name in ("response", "samples")}
    stage = ModelStage(
        _question,
        _answered,
        settings,
        student,
        reads=list(QUESTION),
        adds=adds,
        name="answer",
        samples=samples,
        label="student",
    )
    return run_model_stage(questions, stage, num_proc=num_proc)


def grade(
    answered: D,
    *,
    threshold: float = 0.5,
    task: Task | Mapping[str, Task] | None = None,
    num_proc: int | None = None,
) -> D:
    """Grade the student's responses, and decide which questions need the tool.

    Args:
        answered: a table from `answer`.
        threshold: the share of right samples below which a question needs the tool; with one sample any value above 0
            means: it was wrong.

    Returns:
        the table + `prediction`, `correct`, `pass_rate`, `needs_tool`. `correct` is null where nothing could be graded:
        the model gave no reply, or the gold answer is not one. Of several samples `response` becomes the first right
        one.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"threshold must be above 0 and at most 1, found {threshold}")
    adds = {name: GRADED[name] for name in ("response", "prediction", "correct", "pass_rate", "needs_tool")}
    reads = ["task", "answers", "response", "samples"]
    return apply(
        answered, _graded, Grading(tasks_of(answered, task), threshold), reads=reads, adds=adds, num_proc=num_proc
    )


# The student ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prompting:
    """How the student is asked."""

    tasks: Mapping[str, Task]
    style: str
    examples: int
    strip_reasoning: bool


def _askable(row: Row, settings: None) -> Drop | None:
    if not (row["question"] or "").strip():
        return Drop("no_question")
    return Drop("no_answer", "a gold answer is null") if None in (row["answers"] or [None]) else None


def _question(row: Row, settings: Prompting) -> Request:
    task = settings.tasks[row["task"]]
    shown = [(example.input, example.plain) for example in task.examples_for(row["dataset"])[: settings.examples]]
    return build_request(render_prompt(settings.style, task.plain_instruction, task.render(row), shown))


def _answered(row: Row, replies: Sequence[Reply], settings: Prompting) -> dict[str, Any]:
    first, *others = [build_response(reply, strip_reasoning=settings.strip_reasoning) for reply in replies]
    return {"response": first, "samples": others}


@dataclass(frozen=True)
class Grading:
    """How the student is graded."""

    tasks: Mapping[str, Task]
    threshold: float


def _graded(row: Row, settings: Grading) -> dict[str, Any]:
    task = settings.tasks[row["task"]]
    responses = [row["response"], *row["samples"]]
    predictions = [None if r["error"] else task.extract(r["text"]) for r in responses]
    if task.ungradable_reason(row["answers"]):
        grades: list[bool | None] = [None] * len(responses)
    else:
        grades = [
            None if r["error"] else task.grade(p, row["answers"]) for r, p in zip(responses, predictions, strict=True)
        ]
    chosen = grades.index(True) if True in grades else 0
    scored = [grade for grade in grades if grade is not None]
    rate = sum(scored) / len(scored) if scored else None
    return {
        "response": {**responses[chosen], "correct": grades[chosen]},
        "prediction": predictions[chosen],
        "correct": grades[chosen],
        "pass_rate": rate,
        "needs_tool": None if rate is None else rate < settings.threshold,
    }


# The target -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Targets:
    """What may become a training target."""

    tasks: Mapping[str, Task]
    keep_unverified: bool


def _has_target(row: Row, settings: Targets) -> Drop | None:
    if row["needs_tool"] is None:
        if unusable := settings.tasks[row["task"]].ungradable_reason(row["answers"]):
            return Drop(unusable, " | ".join(row["answers"]))
        return Drop("no_reply", row["response.error"] or "")
    if not row["needs_tool"] or row["verified"] or (settings.keep_unverified and row["tool_call"]):
        return None
    tries = row["rejected"]
    return Drop(tries[-1] if tries else "no_call", "; ".join(tries))


def _target(row: Row, settings: Targets) -> dict[str, Any]:
    task = settings.tasks[row["task"]]
    kept = {name: row[name] for name in ("id", "task", "dataset", "answers")}
    return {
        "instruction": task.instruction,
        "input": task.render(row),
        "output": row["tool_call"] if row["needs_tool"] else row["response.text"],
        "uses_tool": row["needs_tool"],
        "source": ("teacher" if row["teacher"] else "question") if row["needs_tool"] else "student",
        "verified_by": row["verified_by"],
        **kept,
    }
