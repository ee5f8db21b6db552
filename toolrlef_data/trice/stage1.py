"""Stage 1, behaviour cloning: the student's correct responses, and verified calls for the other questions.

    graded (`student`) ─┬─ correct: the student's response ───────────────┐
                        └─ wrong: propose_calls (`teachers`) ─────────────┴──> stage1

`build_stage1` runs these stages as one chain over one table; rows with a correct response pass through unchanged. A
call becomes training data only if its execution reaches the gold answer.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.checks import features_of
from toolrlef_data.columns import LABELLED, STAGE1
from toolrlef_data.engines.rules import FLAG
from toolrlef_data.records import NO_RESPONSE_ERRORS, Drop, InputError
from toolrlef_data.tables.transform import apply, keep
from toolrlef_data.tasks.given.memory import remember_tasks
from toolrlef_data.tasks.task import Task
from toolrlef_data.trice.annotations.consistency import target_flaw
from toolrlef_data.trice.need.labels import label_by_need
from toolrlef_data.trice.reply_check import ACCEPT_CUT
from toolrlef_data.trice.row_tasks import tasks_of, warn_of_older_grades
from toolrlef_data.trice.student import QUESTION
from toolrlef_data.trice.teachers import Teacher, check_teacher, propose_calls, write_calls

__all__ = ["build_stage1"]

log = logging.getLogger("toolrlef_data")
D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]


def build_stage1(
    graded: D,
    teacher: Teacher | Sequence[Teacher] = (),
    *,
    attempts: int = 3,
    keep_unverified: bool = False,
    accept_cut: Collection[str] = ACCEPT_CUT,
    ask_again: Collection[str] = (),
    compat: bool = False,
    need: Dataset | None = None,
    unsure: str = "drop",
    hopeless: str = "call",
    task: Task | Mapping[str, Task] | None = None,
    num_proc: int | None = None,
) -> D:
    """Build stage 1: the student's response if it is correct, otherwise a verified tool call.

    Args:
        graded: a table from `grade`, or a table that already has calls (`propose_calls`, `load_trice`); unverified
            calls are verified first.
        teacher: `ANNOTATIONS` (formulas composed from worked solutions), a model, or a sequence of teachers, each for
            the rows that still lack a verified call. Tasks with `Task.make_argument` and tables with calls need none.
        attempts: maximum number of requests per row to a model; default 3. From the second attempt on, the temperature
            is at least 0.7. TRICE sends 10 and verifies none.
        keep_unverified: keep the last call of a row without a verified call, as TRICE does; default False.
        accept_cut, ask_again: for a teacher's replies, as in `answer`.
        compat: verify calls with the original's reading of predictions, as in `build_stage2`, and take right responses
            that contain a call or whose steps do not hold (`annotations.consistency`), unless `need` is given; default
            False.
        need: a table from `counterfactual` with these questions. The class of a question then decides on its target,
            instead of `needs_tool`: a call for needs_tool, the student's own right answer for indifferent and harmed.
            Its columns become columns of stage 1. Default: none.
        unsure, hopeless: what becomes of these classes of `need`: "drop", "call" (a verified call), or "grade" (as
            without `need`). Default: "drop" and "call", since an untrained student writes few right calls.
        task: one task for all rows, or a mapping of names to tasks; default: the task named in each row. Its tool
            executes the calls, and its reader verifies calls whose output is not an answer.
        num_proc: number of processes for the stages without a model.

    Returns:
        the stage 1 table (`columns.STAGE1`). Rows without a target are dropped; the ledger records the reasons.

    Raises:
        InputError: a task lacks a teacher or its reader, or a tool is not set up.
        TooManyFailures: too many requests or calls failed; all replies and results are saved.

    >>> from toolrlef_data import ANNOTATIONS, answer, grade, load_source, scripted
    >>> questions = load_source("sample", split="train").select(range(1))
    >>> graded = grade(answer(questions, scripted({"": "It is 0."}, progress=False)))
    >>> build_stage1(graded, ANNOTATIONS)["uses_tool"][:]
    [True]
    """
    tasks = tasks_of(graded, task)
    warn_of_older_grades([graded], tasks)
    teachers = list(teacher) if isinstance(teacher, Sequence) else [teacher]
    for next_teacher in teachers:
        check_teacher(next_teacher)
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
    for name, value in {"keep_unverified": keep_unverified, "compat": compat}.items():
        FLAG.check(name, value)
    labelled = graded
    if need is not None:
        labelled = label_by_need(labelled, need, unsure=unsure, hopeless=hopeless, num_proc=num_proc)
    options: dict[str, Any] = {"compat": compat, "task": task, "num_proc": num_proc}
    if has_calls or not teacher_tasks or len(teacher_tasks) < len(tasks):  # without rows, there are no tasks
        labelled = write_calls(labelled, **options)
    options |= {"attempts": attempts, "accept_cut": accept_cut, "ask_again": ask_again}
    for next_teacher in teachers if teacher_tasks else ():
        labelled = propose_calls(labelled, next_teacher, **options)
    settings = TargetSettings(tasks, keep_unverified, takes_flawed=compat and need is None)
    response = [f"response.{field}" for field in ("text", "error", "error_detail")]
    reads = ["needs_tool", "prediction", *response, "answers", "task", "verified", "tool_call", "rejected"]
    usable = keep(labelled, _drop_without_target, settings, reads=reads, stage="stage1", num_proc=num_proc)
    reads = [*QUESTION, "needs_tool", "response.text", "tool_call", "teacher", "verified_by"]
    changes: dict[str, Any] = {"reads": reads, "adds": STAGE1, "removes": list(LABELLED)}
    stage1 = apply(usable, _target_columns, settings, **changes, name="build_stage1", num_proc=num_proc)
    return remember_tasks(stage1, tasks)


# Targets --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TargetSettings:
    """The settings of the training targets."""

    tasks: Mapping[str, Task]
    keep_unverified: bool
    takes_flawed: bool  # right responses with a call or a false step, as the original does


def _drop_without_target(row: Row, settings: TargetSettings) -> Drop | None:
    if row["needs_tool"] is None:
        if reason := settings.tasks[row["task"]].ungradable_reason(row["answers"]):
            return Drop(reason, " | ".join(row["answers"]))
        error, detail = row["response.error"], row["response.error_detail"]
        if error is None:
            text, prediction = row["response.text"] or "", row["prediction"]
            return Drop("unreadable_answer" if prediction is None else "unsure_grade", text.strip()[-100:])
        return Drop(error, detail or "") if error in NO_RESPONSE_ERRORS else Drop("no_reply", error)
    if not row["needs_tool"]:
        return None if settings.takes_flawed else target_flaw(row["response.text"] or "", settings.tasks[row["task"]])
    if row["verified"] or (settings.keep_unverified and row["tool_call"]):
        return None
    rejected = row["rejected"] or ["no_call"]
    return Drop(rejected[-1].partition(": ")[0], "; ".join(row["rejected"]))


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
