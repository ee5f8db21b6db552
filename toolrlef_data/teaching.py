"""Teaching: a tool call for every question that needs one, executed before it is believed.

Two kinds of teacher: a model, which is shown the gold answers, and `ANNOTATIONS`, which composes a formula from
upstream's own worked solution. A call is taken if executing it reaches a gold answer, and if it does not merely carry
that answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.annotations import Annotations, compose
from toolrlef_data.asking import ask
from toolrlef_data.calls import parse_call, render_call
from toolrlef_data.columns import LABELLED
from toolrlef_data.engines import EngineSpec, Request
from toolrlef_data.prompts import examples_order, render_prompt
from toolrlef_data.records import TOOL_FAULTS, InputError, Reply, ToolCall
from toolrlef_data.responses import request_of, response_of
from toolrlef_data.tasks import Task, tasks_of
from toolrlef_data.transform import apply

__all__ = ["LABELS", "Teacher", "propose_calls"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]
Teacher = EngineSpec | Annotations

QUESTION = ("id", "task", "dataset", "question", "context", "answers", "solution", "needs_tool")
LABELS = {name: LABELLED[name] for name in ("tool_call", "tool_output", "verified", "attempts", "teacher", "rejected")}
# How many gold answers a teacher is shown: as in TRICE's generate_tool_api.
GOLD_SHOWN = 10
# A second attempt at the same greedy prompt would say the same again.
RETRY_TEMPERATURE = 0.7


def propose_calls(
    graded: D, teacher: Teacher, *, attempts: int = 3, task: Task | None = None, num_proc: int | None = None
) -> D:
    """Write a tool call for every question that needs one, and execute it to check it.

    Args:
        graded: a table from `grade`, or from this function: rows that have a verified call are left alone.
        teacher: `ANNOTATIONS` or a model, which sees the gold answers.
        attempts: tries a model has for a row; from the second on it samples at a temperature of at least 0.7.

    Returns:
        the table + `tool_call`, `tool_output`, `verified`, `attempts`, `teacher`, and `rejected`: why each try was not
        taken.
    """
    tasks = tasks_of(graded, task)
    reads = [*QUESTION, *LABELS]
    first = graded if isinstance(graded, Dataset) else next(iter(graded.values()))
    if "tool_call" not in first.column_names:
        graded = apply(graded, _no_label, None, reads=["id"], adds=LABELS, num_proc=num_proc)
    if isinstance(teacher, Annotations):
        return apply(
            graded,
            _annotated,
            Teaching(tasks, teacher.name, 0),
            reads=reads,
            adds=LABELS,
            name="propose_calls",
            unfinished=_has_tool_fault,
            num_proc=num_proc,
        )
    if not isinstance(teacher, EngineSpec):
        raise InputError(f"a teacher is ANNOTATIONS or an EngineSpec; found {type(teacher).__name__}")
    for attempt in range(attempts):
        spec = teacher if attempt == 0 else replace(teacher, temperature=max(teacher.temperature, RETRY_TEMPERATURE))
        spec = replace(spec, seed=teacher.seed + attempt)
        settings = Teaching(tasks, teacher.model, attempt)
        graded = ask(
            graded,
            _teacher_request,
            _taught,
            settings,
            spec,
            reads=reads,
            adds=LABELS,
            name="propose_calls",
            label="teacher",
            unfinished=_has_tool_fault,
            num_proc=num_proc,
        )
    return graded


@dataclass(frozen=True)
class Teaching:
    """Who writes a call, and at which attempt."""

    tasks: Mapping[str, Task]
    teacher: str
    attempt: int


def _no_label(row: Row, settings: None) -> dict[str, Any]:
    return {"tool_call": None, "tool_output": None, "verified": None, "attempts": 0, "teacher": None, "rejected": []}


def _annotated(row: Row, settings: Teaching) -> dict[str, Any]:
    """A call composed from upstream's solution, verified like any other."""
    if not _open(row):
        return _labels(row)
    composed = compose(row["question"], row["solution"] or "", row["answers"])
    if composed.formula is None:
        return {**_labels(row), "rejected": [*row["rejected"], composed.reason or "no_annotation"]}
    call = ToolCall(settings.tasks[row["task"]].tool.name, composed.formula)
    return _verified(row, call, settings, attempt=row["attempts"])


def _teacher_request(row: Row, settings: Teaching) -> Request | None:
    if not _open(row):
        return None
    task = settings.tasks[row["task"]]
    examples = task.examples_for(row["dataset"])
    order = examples_order(len(examples), f"{row['id']}:{settings.attempt}")
    shown = [(_with_gold(examples[i].input, [examples[i].answer]), examples[i].call) for i in order]
    prompt = _with_gold(task.render(row), row["answers"][:GOLD_SHOWN])
    return request_of(render_prompt("chat", task.teacher_instruction, prompt, shown))


def _with_gold(input: str, answers: Sequence[str]) -> str:
    return f"{input}\nGolden answers: {' | '.join(answers)}"


def _taught(row: Row, replies: Sequence[Reply], settings: Teaching) -> dict[str, Any]:
    """The call in a teacher's reply, executed and checked."""
    if not replies:
        return _labels(row)
    attempt = row["attempts"] + 1
    response = response_of(replies[0])
    if response["error"]:
        return {**_labels(row), "attempts": attempt, "rejected": [*row["rejected"], f"no_reply:{response['error']}"]}
    call = parse_call(response["text"], settings.tasks[row["task"]].tool)
    if call is None:
        return {**_labels(row), "attempts": attempt, "rejected": [*row["rejected"], "no_call"]}
    return _verified(row, call, settings, attempt=attempt)


def _verified(row: Row, call: ToolCall, settings: Teaching, *, attempt: int) -> dict[str, Any]:
    """Execute a call; it is taken if it reaches a gold answer and does not merely carry it."""
    task = settings.tasks[row["task"]]
    result = task.tool.run(call.argument)
    outputs = list(result.value) if isinstance(result.value, tuple) else [str(result.value)]
    output = None if result.error else "\n\n".join(outputs)
    label = {"tool_call": render_call(call), "tool_output": output, "attempts": attempt, "teacher": settings.teacher}
    if result.error:
        reason = f"tool_error:{result.error}"
    elif not any(task.grade(each, row["answers"]) for each in outputs):
        reason = "wrong_value"
    elif task.leaks(call.argument, row["question"], row["answers"]):
        reason = "leaks_answer"
    else:
        return {**label, "verified": True, "rejected": row["rejected"]}
    return {**label, "verified": False, "rejected": [*row["rejected"], reason]}


def _has_tool_fault(labelled: Dataset) -> bool:
    """Whether a tool failed by its own fault at some call; the next run executes it again."""
    faults = {f"tool_error:{kind}" for kind in TOOL_FAULTS}
    return any(not faults.isdisjoint(rejected) for rejected in labelled["rejected"])


def _open(row: Row) -> bool:
    return bool(row["needs_tool"]) and not row["verified"]


def _labels(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in LABELS}
