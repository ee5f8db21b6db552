"""Stage 1, behaviour cloning: the student's correct responses, and verified calls for the other questions.

    questions ──answer──> answered ──grade──> graded ─┬─ correct: the student's response ───────────────┐
                                                      └─ wrong: propose_calls (`teachers`) ─────────────┴──> stage1

`build_stage1` runs the stages after `grade` as one chain over one table; rows with a correct response pass through
unchanged. A call becomes training data only if its execution reaches the gold answer.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.columns import ANSWERED, GRADED, LABELLED, QUESTIONS, STAGE1
from toolrlef_data.engines.model_stage import ModelStage, run_model_stage
from toolrlef_data.engines.prompts import render_prompt
from toolrlef_data.engines.responses import build_request, build_response
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import NO_RESPONSE_ERRORS, Drop, InputError, Reply
from toolrlef_data.tables.transform import apply, check_features, features_of, keep
from toolrlef_data.tasks.task import Task
from toolrlef_data.trice.annotations.composer import Annotations
from toolrlef_data.trice.reply_check import (
    ACCEPT_CUT,
    check_accept_cut,
    check_reply,
    text_as_original,
    warn_of_lost_replies,
)
from toolrlef_data.trice.row_tasks import tasks_of, warn_of_older_grades
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
    accept_cut: Collection[str] = ACCEPT_CUT,
    ask_again: Collection[str] = (),
    compat: bool = False,
    task: Task | Mapping[str, Task] | None = None,
    num_proc: int | None = None,
) -> D:
    """Build stage 1: the student's response if it is correct, otherwise a verified tool call.

    Args:
        graded: a table from `grade`, or a table that already has calls (`propose_calls`, `load_trice`); unverified
            calls are verified first.
        teacher: `ANNOTATIONS` (formulas composed from worked solutions), a model, or a sequence of teachers, each for
            the rows that still lack a verified call. Tasks with `Task.make_argument` and tables with calls need none.
        attempts: maximum number of requests per row to a model; default 3. TRICE sends 10 and verifies none.
        keep_unverified: keep the last call of a row without a verified call, as TRICE does; default False.
        accept_cut, ask_again: for a teacher's replies, as in `answer`.
        compat: verify calls with the original's reading of predictions, as in `build_stage2`; default False.
        task: one task for all rows, or a mapping of names to tasks; default: the task named in each row. Its tool
            executes the calls, and its reader verifies calls whose output is not an answer.
        num_proc: number of processes for the stages without a model.

    Returns:
        the stage 1 table (`columns.STAGE1`). Rows without a target are dropped; the ledger records the reasons.

    Raises:
        InputError: a task lacks a teacher or its reader, or a tool is not set up.
        TooManyFailures: too many requests or calls failed; all replies and results are saved.

    >>> from toolrlef_data import ANNOTATIONS, load_source, scripted
    >>> questions = load_source("sample", split="train").select(range(1))
    >>> graded = grade(answer(questions, scripted({"": "It is 0."}, progress=False)))
    >>> build_stage1(graded, ANNOTATIONS)["uses_tool"][:]
    [True]
    """
    tasks = tasks_of(graded, task)
    warn_of_older_grades([graded], tasks)
    teachers = [teacher] if isinstance(teacher, (EngineSpec, Annotations)) else list(teacher)
    teacher_tasks = [name for name, row_task in tasks.items() if row_task.make_argument is None]
    has_calls = "tool_call" in features_of(graded)
    if teacher_tasks and not teachers and not has_calls:
        raise InputError(
            f"build_stage1 needs a teacher for the task {teacher_tasks[0]!r}: expected ANNOTATIONS, an EngineSpec or a "
            "sequence of these, found none"
        )
    for name, row_task in tasks.items():
        if row_task.reader_prompt and not row_task.output_is_answer and row_task.reader is None and not keep_unverified:
            raise InputError(
                f"the calls of {row_task.tool.name} are verified by a reader, and the task {name!r} has none: pass "
                f"task=replace(TASKS[{name!r}], tool=..., reader=EngineSpec(...)), or keep_unverified=True"
            )
    for name, row_task in tasks.items():
        row_task.check_prompts()
        if row_task.reader_prompt and row_task.output_is_answer and row_task.reader is None:
            log.warning(
                "the task %r has no reader: its calls are verified by the output of %s alone", name, row_task.tool.name
            )
    labelled = graded
    if len(teacher_tasks) < len(tasks) or has_calls:
        labelled = write_calls(labelled, compat=compat, task=task, num_proc=num_proc)
    for next_teacher in teachers if teacher_tasks else ():
        labelled = propose_calls(
            labelled,
            next_teacher,
            attempts=attempts,
            accept_cut=accept_cut,
            ask_again=ask_again,
            compat=compat,
            task=task,
            num_proc=num_proc,
        )
    settings = TargetSettings(tasks, keep_unverified)
    response = [f"response.{field}" for field in ("text", "error", "error_detail")]
    reads = ["needs_tool", "prediction", *response, "answers", "task", "verified", "tool_call", "rejected"]
    usable = keep(labelled, _drop_without_target, settings, reads=reads, stage="stage1", num_proc=num_proc)
    reads = [*QUESTION, "needs_tool", "response.text", "tool_call", "teacher", "verified_by"]
    options: dict[str, Any] = {"removes": list(LABELLED), "name": "build_stage1", "num_proc": num_proc}
    return apply(usable, _target_columns, settings, reads=reads, adds=STAGE1, **options)


def answer(
    questions: D,
    student: EngineSpec,
    *,
    style: str = "chat",
    examples: int = 0,
    samples: int = 1,
    strip_reasoning: bool = True,
    accept_cut: Collection[str] = ACCEPT_CUT,
    ask_again: Collection[str] = (),
    task: Task | Mapping[str, Task] | None = None,
    num_proc: int | None = None,
) -> D:
    r"""Let the student answer every question; the prompt does not mention the tool.

    Args:
        questions: a table with the columns of `columns.QUESTIONS`.
        student: the model that stage 1 trains.
        style: the prompt style: "chat", "completion", "alpaca" or "vicuna" (`prompts`); default "chat".
        examples: number of few-shot examples, which are answered without the tool; default 0.
        samples: responses per question; default 1. More than one yield a pass rate and need a temperature.
        strip_reasoning: move reasoning before the answer to its own field, which is not parsed; default True.
        accept_cut: which replies count although they ended at the token limit: those with a complete tool call
            ("call") and those with a marked answer ("marked"), which is `\boxed{}`, a `####` line or "the answer is
            X."; default: both.
        ask_again: error kinds whose requests are sent again, such as {"cut_off", "too_long", "bad_request"} after a
            server or its limits were changed; default: none.
        task: one task for all rows, or a mapping of names to tasks; default: the task named in each row.
        num_proc: number of processes.

    Returns:
        the table with `response`, the first sample, and `samples`, the others. A reply that was cut off or is empty has
        a null text and the error `cut_off` or `empty`. Rows without a question or with a null gold answer are dropped.

    Raises:
        InputError: a column is missing or has another type, or several samples lack a temperature.
        TooManyFailures: the share of failed requests exceeds `EngineSpec.max_failed`; all received replies are saved.

    >>> from toolrlef_data import load_source, scripted
    >>> questions = load_source("sample", split="train").select(range(1))
    >>> answer(questions, scripted({"": "It is 0."}, progress=False))["response"][0]["text"]
    'It is 0.'
    """
    check_features(questions, QUESTIONS, "answer")
    questions = keep(questions, _drop_unusable, None, reads=["question", "answers"], stage="answer", num_proc=num_proc)
    accepted = check_accept_cut(accept_cut)
    settings = StudentSettings(
        tasks_of(questions, task), style, examples, strip_reasoning, accepted, getattr(student, "max_tokens", 0)
    )
    adds = {name: ANSWERED[name] for name in ("response", "samples")}
    stage = ModelStage(
        _student_request,
        _answer_columns,
        settings,
        student,
        reads=list(QUESTION),
        adds=adds,
        name="answer",
        samples=samples,
        label="student",
        ask_again=ask_again,
        error_of=_student_error,
    )
    answered = run_model_stage(questions, stage, num_proc=num_proc)
    warn_of_lost_replies(answered, ["response"], settings.max_tokens, "student")
    return answered


def grade(
    answered: D,
    *,
    threshold: float = 0.5,
    rule: str = "default",
    compat: bool = False,
    task: Task | Mapping[str, Task] | None = None,
    num_proc: int | None = None,
) -> D:
    """Grade the student's responses, and decide which questions need the tool.

    Args:
        answered: a table from `answer`.
        threshold: the pass rate below which a question needs the tool, above 0 and at most 1; default 0.5. With one
            sample, a wrong response always needs the tool.
        rule: "default": the final statement of a response must be a gold answer; "paper": a response is correct if its
            first 20 words contain a gold answer as a substring. Rules apply to answers in words, not to numbers.
        compat: grade as the original does, by the rule "paper", and also replies that were cut off or are empty;
            default False.
        task: one task for all rows, or a mapping of names to tasks; default: the task named in each row.
        num_proc: number of processes.

    Returns:
        the table with `prediction`, `correct`, `pass_rate` and `needs_tool`. `response` is the first correct sample, or
        else the first graded one. `correct` is null if no reply is a response, if the gold answer cannot be graded, if
        the grader is unsure, or if the response gives an answer that cannot be read.

    Raises:
        InputError: the threshold is out of range, or an unknown rule.

    >>> from toolrlef_data import load_source, scripted
    >>> questions = load_source("sample", split="train").select(range(1))
    >>> grade(answer(questions, scripted({"": "It is 0."}, progress=False)))["needs_tool"][:]
    [True]
    """
    if not 0 < threshold <= 1:
        raise InputError(f"threshold must be above 0 and at most 1, found {threshold}")
    adds = {name: GRADED[name] for name in ("response", "prediction", "correct", "pass_rate", "needs_tool")}
    tasks = {
        name: row_task.with_rule("paper" if compat else rule) for name, row_task in tasks_of(answered, task).items()
    }
    reads = ["task", "question", "context", "answers", "response", "samples"]
    return apply(
        answered,
        _grade_columns,
        GradeSettings(tasks, threshold, compat),
        reads=reads,
        adds=adds,
        name="graded",
        num_proc=num_proc,
    )


# The student ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StudentSettings:
    """The settings of the student's prompts."""

    tasks: Mapping[str, Task]
    style: str
    examples: int
    strip_reasoning: bool
    accept_cut: tuple[str, ...]
    max_tokens: int


def _drop_unusable(row: Row, settings: None) -> Drop | None:
    if not (row["question"] or "").strip():
        return Drop("no_question")
    return Drop("no_answer", "a gold answer is null") if None in (row["answers"] or [None]) else None


def _student_request(row: Row, settings: StudentSettings) -> Request:
    task = settings.tasks[row["task"]]
    shots = [(example.input, example.plain) for example in task.examples_for(row["dataset"])[: settings.examples]]
    return build_request(render_prompt(settings.style, task.plain_instruction, task.render(row), shots))


def _answer_columns(row: Row, replies: Sequence[Reply], settings: StudentSettings) -> dict[str, Any]:
    first, *others = [_student_response(row, reply, settings) for reply in replies]
    return {"response": first, "samples": others}


def _student_response(row: Row, reply: Reply, settings: StudentSettings) -> dict[str, Any]:
    response = build_response(reply, strip_reasoning=settings.strip_reasoning)
    return check_reply(response, settings.tasks[row["task"]], settings.accept_cut, settings.max_tokens)


def _student_error(row: Row, reply: Reply, settings: StudentSettings) -> str | None:
    error: str | None = _student_response(row, reply, settings)["error"]
    return error


@dataclass(frozen=True)
class GradeSettings:
    """The settings of the student's grades."""

    tasks: Mapping[str, Task]
    threshold: float
    compat: bool


def _grade_columns(row: Row, settings: GradeSettings) -> dict[str, Any]:
    task = settings.tasks[row["task"]]
    responses = [row["response"], *row["samples"]]
    if settings.compat:
        responses = [_read_as_original(response) for response in responses]
    predictions = [None if r["error"] else task.extract(r["text"]) for r in responses]
    if task.ungradable_reason(row["answers"]):
        grades: list[bool | None] = [None] * len(responses)
    else:
        grades = [
            None if r["error"] else task.grade_row(p, row["answers"], row["question"], row["context"], r["text"])
            for r, p in zip(responses, predictions, strict=True)
        ]
    known_grades = [grade for grade in grades if grade is not None]
    chosen = grades.index(max(known_grades)) if known_grades else 0
    rate = sum(known_grades) / len(known_grades) if known_grades else None
    return {
        "response": {**responses[chosen], "correct": grades[chosen]},
        "prediction": predictions[chosen],
        "correct": grades[chosen],
        "pass_rate": rate,
        "needs_tool": None if rate is None else rate < settings.threshold,
    }


def _read_as_original(response: Mapping[str, Any]) -> dict[str, Any]:
    response = {**response, "text": text_as_original(response)}
    is_lost = response["error"] in NO_RESPONSE_ERRORS
    return response | ({"error": None, "error_detail": None} if is_lost else {})


# Targets --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TargetSettings:
    """The settings of the training targets."""

    tasks: Mapping[str, Task]
    keep_unverified: bool


def _drop_without_target(row: Row, settings: TargetSettings) -> Drop | None:
    if row["needs_tool"] is None:
        if reason := settings.tasks[row["task"]].ungradable_reason(row["answers"]):
            return Drop(reason, " | ".join(row["answers"]))
        error, detail = row["response.error"], row["response.error_detail"]
        if error is None:
            text, prediction = row["response.text"] or "", row["prediction"]
            return Drop("unreadable_answer" if prediction is None else "unsure_grade", text.strip()[-100:])
        return Drop(error, detail or "") if error in NO_RESPONSE_ERRORS else Drop("no_reply", error)
    if not row["needs_tool"] or row["verified"] or (settings.keep_unverified and row["tool_call"]):
        return None
    reasons = row["rejected"]
    return Drop(reasons[-1] if reasons else "no_call", "; ".join(reasons))


def _target_columns(row: Row, settings: TargetSettings) -> dict[str, Any]:
    task = settings.tasks[row["task"]]
    return {
        "instruction": task.instruction,
        "input": task.render(row),
        "output": row["tool_call"] if row["needs_tool"] else row["response.text"],
        "uses_tool": row["needs_tool"],
        "source": ("teacher" if row["teacher"] else "question") if row["needs_tool"] else "student",
        "verified_by": row["verified_by"],
        **{name: row[name] for name in ("id", "task", "dataset", "answers")},
    }
