"""Teaching: a tool call for every question that needs one, executed before it is believed.

Two kinds of teacher: a model, which is shown the gold answers, and `ANNOTATIONS`, which composes a formula from
upstream's own worked solution. Calls that need neither (a translation of the question) are written as they are. A call
is taken if executing it reaches a gold answer, and if it does not merely carry that answer:

| verified_by | what reached the gold answer |
|---|---|
| value | the number that the tool computed |
| output | the tool's output: an answer, or a passage that holds one |
| reader | what the task's reader answered over the tool's output |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.columns import GRADED, LABELLED, RESPONSE
from toolrlef_data.engines.model_stage import ModelStage, run_model_stage
from toolrlef_data.engines.prompts import render_prompt, shuffled_indices
from toolrlef_data.engines.responses import build_request, build_response
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import InputError, Reply, ToolCall
from toolrlef_data.tables.transform import apply, features_of
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.calls import parse_call, render_call
from toolrlef_data.trice.annotations.composer import ANNOTATIONS, Annotations, compose
from toolrlef_data.trice.execution import execute_responses
from toolrlef_data.trice.row_tasks import tasks_of

__all__ = ["Teacher", "propose_calls", "write_calls"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]
Teacher = EngineSpec | Annotations

QUESTION = ("id", "task", "dataset", "question", "context", "answers", "solution", "needs_tool")
LABELS = {name: feature for name, feature in LABELLED.items() if name not in GRADED}
PROPOSAL = "proposal"  # the column of a call that is still to be verified
# How many gold answers a teacher is shown: as in TRICE's generate_tool_api.
GOLD_SHOWN = 10
# A second attempt at the same greedy prompt would say the same again.
RETRY_TEMPERATURE = 0.7
JUDGED = ("text", "error", "argument", "tool_output", "tool_error", "correct", "predictions")
READS = [*QUESTION, *LABELS]
ADDS = {PROPOSAL: RESPONSE}


def propose_calls(
    graded: D,
    teacher: Teacher,
    *,
    attempts: int = 3,
    task: Task | Mapping[str, Task] | None = None,
    num_proc: int | None = None,
) -> D:
    """Write a tool call for every question that needs one, and execute it to check it.

    Args:
        graded: a table from `grade`, or from this function: rows that have a verified call are left alone.
        teacher: `ANNOTATIONS` or a model, which sees the gold answers. Tasks whose calls need no teacher
            (`Task.make_argument`) have none.
        attempts: tries a model has for a row; from the second on it samples at a temperature of at least 0.7.

    Returns:
        the table + `tool_call`, `tool_output`, `verified`, `verified_by`, `attempts`, `teacher`, and `rejected`: why
        each try was not taken.
    """
    if not isinstance(teacher, (EngineSpec, Annotations)):
        raise InputError(f"a teacher is ANNOTATIONS or an EngineSpec; found {type(teacher).__name__}")
    tasks = tasks_of(graded, task)
    labelled = _labelled(graded, num_proc)
    if isinstance(teacher, Annotations):
        return _without_model(labelled, _annotated, Teaching(tasks, teacher.name, 0), num_proc)
    for attempt in range(attempts):
        spec = teacher if attempt == 0 else replace(teacher, temperature=max(teacher.temperature, RETRY_TEMPERATURE))
        spec = replace(spec, seed=teacher.seed + attempt)
        settings = Teaching(tasks, teacher.model, attempt)
        stage = ModelStage(
            _teacher_request, _taught, settings, spec, reads=READS, adds=ADDS, name="propose_calls", label="teacher"
        )
        proposed = run_model_stage(labelled, stage, num_proc=num_proc)
        labelled = _verified(proposed, settings, num_proc)
    return labelled


def write_calls(graded: D, *, task: Task | Mapping[str, Task] | None = None, num_proc: int | None = None) -> D:
    """Write the calls that need no teacher, and execute them; also calls that a table came with and nobody verified.

    Arguments and result as of `propose_calls`.
    """
    return _without_model(_labelled(graded, num_proc), _written, Teaching(tasks_of(graded, task), "", 0), num_proc)


@dataclass(frozen=True)
class Teaching:
    """Who writes a call, and at which attempt."""

    tasks: Mapping[str, Task]
    teacher: str
    attempt: int


def _labelled(graded: D, num_proc: int | None) -> D:
    if "tool_call" in features_of(graded):
        return graded
    return apply(graded, _no_label, None, reads=["id"], adds=LABELS, num_proc=num_proc)


def _no_label(row: Row, settings: None) -> dict[str, Any]:
    return {**dict.fromkeys(LABELS), "attempts": 0, "rejected": []}


def _without_model(
    labelled: D, write: Callable[[Row, Teaching], dict[str, Any]], settings: Teaching, num_proc: int | None
) -> D:
    proposed = apply(labelled, write, settings, reads=READS, adds=ADDS, name="propose_calls", num_proc=num_proc)
    return _verified(proposed, settings, num_proc)


# Proposals: a RESPONSE whose text is the call; `error` says why there is none, null for a row that needs none --------


def _written(row: Row, settings: Teaching) -> dict[str, Any]:
    """The call that a row came with, or that of a task whose argument stands in the question."""
    task = settings.tasks[row["task"]]
    if not _needs_call(row):
        return _proposal()
    if row["tool_call"] and row["verified"] is None:
        return _proposal(row["tool_call"])
    if task.make_argument is None:
        return _proposal()
    return _proposal(render_call(ToolCall(task.tool.name, task.make_argument(row))))


def _annotated(row: Row, settings: Teaching) -> dict[str, Any]:
    """A call composed from upstream's solution."""
    task = settings.tasks[row["task"]]
    if task.make_argument is not None or not _needs_call(row):
        return _proposal()
    if not task.numeric:  # formulas
        return _proposal(error="no_annotation")
    composed = compose(row["question"], row["solution"] or "", row["answers"])
    if composed.formula is None:
        return _proposal(error=composed.reason or "no_annotation")
    return _proposal(render_call(ToolCall(task.tool.name, composed.formula)))


def _teacher_request(row: Row, settings: Teaching) -> Request | None:
    task = settings.tasks[row["task"]]
    if task.make_argument is not None or not _needs_call(row):
        return None
    examples = task.examples_for(row["dataset"])
    order = shuffled_indices(len(examples), f"{row['id']}:{settings.attempt}")
    shown = [(_with_gold(examples[i].input, [examples[i].answer]), examples[i].call) for i in order]
    prompt = _with_gold(task.render(row), row["answers"][:GOLD_SHOWN])
    return build_request(render_prompt("chat", task.teacher_instruction, prompt, shown))


def _with_gold(input: str, answers: Sequence[str]) -> str:
    return f"{input}\nGolden answers: {' | '.join(answers)}"


def _taught(row: Row, replies: Sequence[Reply], settings: Teaching) -> dict[str, Any]:
    """The call in a teacher's reply."""
    if not replies:
        return _proposal()
    response = build_response(replies[0])
    if response["error"]:
        return _proposal(error=f"no_reply:{response['error']}")
    call = parse_call(response["text"], settings.tasks[row["task"]].tool)
    return _proposal(error="no_call") if call is None else _proposal(render_call(call))


def _proposal(call: str | None = None, error: str | None = None) -> dict[str, Any]:
    return {PROPOSAL: {**build_response(None, text=call), "error": error}}


def _needs_call(row: Row) -> bool:
    return bool(row["needs_tool"]) and not row["verified"]


# Verification ---------------------------------------------------------------------------------------------------------


def _verified(proposed: D, settings: Teaching, num_proc: int | None) -> D:
    """Execute the proposed calls; one is taken if it reaches a gold answer and does not merely carry it."""
    executed = execute_responses(proposed, [PROPOSAL], settings.tasks, verify=True, num_proc=num_proc)
    reads = ["task", "question", "answers", *LABELS, *(f"{PROPOSAL}.{field}" for field in JUDGED)]
    return apply(
        executed,
        _judged,
        settings,
        reads=reads,
        adds=LABELS,
        removes=[PROPOSAL],
        name="verify_calls",
        num_proc=num_proc,
    )


def _judged(row: Row, settings: Teaching) -> dict[str, Any]:
    labels = {name: row[name] for name in LABELS}
    proposal = {field: row[f"{PROPOSAL}.{field}"] for field in JUDGED}
    call, argument, output = proposal["text"], proposal["argument"], proposal["tool_output"]
    if call is None and proposal["error"] is None:
        return labels
    task = settings.tasks[row["task"]]
    by_model = settings.teacher not in ("", ANNOTATIONS.name)
    labels |= {"attempts": row["attempts"] + by_model}
    if call is None:
        return {**labels, "rejected": [*row["rejected"], proposal["error"]]}
    labels |= {"tool_call": call, "tool_output": output, "teacher": settings.teacher or row["teacher"]}
    if proposal["tool_error"] is not None:
        reason = f"tool_error:{proposal['tool_error']}"
    elif argument is None:  # a text that a table came with and that calls nothing
        reason = "no_call"
    elif not proposal["correct"]:
        reason = "wrong_value"
    elif task.leaks(argument, row["question"], row["answers"]):
        reason = "leaks_answer"
    else:
        return {**labels, "verified": True, "verified_by": _reached_by(task, output, proposal["predictions"])}
    return {**labels, "verified": False, "rejected": [*row["rejected"], reason]}


def _reached_by(task: Task, output: str, predictions: Sequence[str]) -> str:
    if task.numeric:
        return "value"
    unread = task.reader_prompt is None or "\n\n".join(predictions) == output
    return "output" if unread else "reader"
