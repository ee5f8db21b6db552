"""The student, the model that stage 1 trains: it answers every question without the tool, and its responses are graded.

A question needs the tool if the student's response, or most of its samples, are incorrect.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.checks import check_features
from toolrlef_data.columns import ANSWERED, GRADED, QUESTIONS
from toolrlef_data.engines.model_stage import ModelStage, run_model_stage
from toolrlef_data.engines.prompts import check_prompt, render_prompt
from toolrlef_data.engines.responses import build_request, build_response
from toolrlef_data.engines.rules import FLAG, is_number, must_be
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import NO_RESPONSE_ERRORS, Drop, Reply
from toolrlef_data.tables.transform import apply, keep
from toolrlef_data.tasks.given.memory import remember_tasks
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.parsing.calls import read_call
from toolrlef_data.trice.annotations.consistency import target_flaw
from toolrlef_data.trice.reply_check import (
    ACCEPT_CUT,
    check_accept_cut,
    check_reply,
    text_as_original,
    warn_of_lost_replies,
)
from toolrlef_data.trice.row_tasks import tasks_of

__all__ = ["QUESTION", "answer", "grade", "grade_samples"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]

QUESTION = ("id", "task", "dataset", "question", "context", "answers")  # the columns of a question in a prompt


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
    check_prompt(style, examples)
    checked = check_features(questions, QUESTIONS, "answer")
    FLAG.check("strip_reasoning", strip_reasoning)
    tasks = tasks_of(questions, task)
    questions = keep(checked, _drop_unusable, None, reads=["question", "answers"], stage="answer", num_proc=num_proc)
    accepted = check_accept_cut(accept_cut)
    settings = StudentSettings(tasks, style, examples, strip_reasoning, accepted, getattr(student, "max_tokens", 0))
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
        response_of=_student_response,
    )
    answered = run_model_stage(questions, stage, num_proc=num_proc)
    warn_of_lost_replies(answered, ["response", "samples"], settings.max_tokens, "student")
    return remember_tasks(answered, tasks)


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
            first 20 words contain a gold answer as a substring. Numbers are compared in the same way; by "paper" an
            answer that cannot be read as a number is incorrect.
        compat: grade as the original does, by the rule "paper", and also replies that were cut off or are empty;
            default False.
        task: one task for all rows, or a mapping of names to tasks; default: the task named in each row.
        num_proc: number of processes.

    Returns:
        the table with `prediction`, `correct`, `pass_rate` and `needs_tool`. `response` is the first correct sample
        that can be a target (`annotations.consistency`), else the first correct one, else the first graded one. A
        response that calls the tool is incorrect. `correct` is null if no reply is a response, if the gold answer
        cannot be graded, if the grader is unsure, or if the response gives an answer that cannot be read.

    Raises:
        InputError: the threshold is out of range, an unknown rule, or a task whose grader does not support the rule.

    >>> from toolrlef_data import load_source, scripted
    >>> questions = load_source("sample", split="train").select(range(1))
    >>> grade(answer(questions, scripted({"": "It is 0."}, progress=False)))["needs_tool"][:]
    [True]
    """
    FLAG.check("compat", compat)
    must_be("a number above 0, up to 1", lambda n: is_number(n) and 0 < n <= 1).check("threshold", threshold)
    adds = {name: GRADED[name] for name in ("response", "prediction", "correct", "pass_rate", "needs_tool")}
    tasks = tasks_of(answered, task)
    ruled = {
        name: row_task.with_rule("paper" if compat and row_task.has_rules else rule) for name, row_task in tasks.items()
    }
    reads = ["id", "task", "question", "context", "answers", "response", "samples"]
    graded = apply(
        answered,
        _grade_columns,
        GradeSettings(ruled, threshold, compat),
        reads=reads,
        adds=adds,
        name="graded",
        num_proc=num_proc,
    )
    return remember_tasks(graded, tasks)


# The steps ------------------------------------------------------------------------------------------------------------


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
    predictions, grades = grade_samples(row, responses, task, settings.compat)
    known_grades = [grade for grade in grades if grade is not None]
    chosen = grades.index(max(known_grades)) if known_grades else 0
    if grades[chosen] and not settings.compat:  # prefer one that can be a target
        right = [i for i, grade in enumerate(grades) if grade]
        chosen = next((i for i in right if target_flaw(responses[i]["text"], task) is None), chosen)
    rate = sum(known_grades) / len(known_grades) if known_grades else None
    return {
        "response": {**responses[chosen], "correct": grades[chosen]},
        "prediction": predictions[chosen],
        "correct": grades[chosen],
        "pass_rate": rate,
        "needs_tool": None if rate is None else rate < settings.threshold,
    }


def grade_samples(
    row: Row, responses: Sequence[Row], task: Task, compat: bool = False
) -> tuple[list[str | None], list[bool | None]]:
    """Return the predictions and the grades of several responses to a question; a grade is None as in `grade`."""
    predictions = [None if r["error"] else task.extract(r["text"]) for r in responses]
    if task.ungradable_reason(row["answers"]):
        return predictions, [None] * len(responses)
    pairs = zip(responses, predictions, strict=True)
    return predictions, [_grade_response(response, prediction, row, task, compat) for response, prediction in pairs]


def _grade_response(
    response: Mapping[str, Any], prediction: str | None, row: Row, task: Task, compat: bool
) -> bool | None:
    """Grade a response without a tool; a call is no answer without the tool, and the original reads it as text."""
    if response["error"]:
        return None
    if not compat and read_call(response["text"], task.tool).tool is not None:
        return False
    return task.grade_row(prediction, row["answers"], row["question"], row["context"], response["text"], row["id"])


def _read_as_original(response: Mapping[str, Any]) -> dict[str, Any]:
    response = {**response, "text": text_as_original(response)}
    is_lost = response["error"] in NO_RESPONSE_ERRORS
    return response | ({"error": None, "error_detail": None} if is_lost else {})
