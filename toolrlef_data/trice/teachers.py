"""Teachers: they propose a tool call for every question that needs one, and execution verifies it.

There are two kinds of teachers: a model, whose prompt contains the gold answers, and `ANNOTATIONS`, which composes a
formula from a source's worked solution. Some calls need no teacher, such as the translation of a question. A call is
verified if its execution reaches a gold answer and its argument does not leak that answer.

| verified_by | evidence |
|---|---|
| value | the tool computed the gold answer |
| output | the tool output is a gold answer, or a passage that contains one |
| reader | the reader extracted a gold answer from the tool output |
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.checks import features_of
from toolrlef_data.columns import GRADED, LABELLED, RESPONSE
from toolrlef_data.engines.model_stage import ModelStage, run_model_stage
from toolrlef_data.engines.prompts import check_prompt, render_prompt, shuffled_indices
from toolrlef_data.engines.responses import build_request, build_response
from toolrlef_data.engines.rules import FLAG, integer_from
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import NO_RESPONSE_ERRORS, InputError, Reply, ToolCall, clean_text
from toolrlef_data.tables.transform import apply
from toolrlef_data.tasks.given.memory import remember_tasks
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.parsing.call_arguments import decode_arguments
from toolrlef_data.tools.parsing.calls import parse_call, render_call
from toolrlef_data.tools.parsing.parameters import Parameters
from toolrlef_data.trice.annotations.composer import ANNOTATIONS, Annotations, compose
from toolrlef_data.trice.execution import execute_responses
from toolrlef_data.trice.reply_check import ACCEPT_CUT, check_accept_cut, check_reply
from toolrlef_data.trice.row_tasks import tasks_of
from toolrlef_data.trice.student import QUESTION

__all__ = ["MAX_GOLD_ANSWERS", "Teacher", "propose_calls", "with_gold", "write_calls"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]
Teacher = EngineSpec | Annotations

LABELS = {name: feature for name, feature in LABELLED.items() if name not in GRADED}
PROPOSAL = "proposal"  # the column of unverified calls
MAX_GOLD_ANSWERS = 10  # in a teacher's prompt, as in TRICE's generate_tool_api
RETRY_TEMPERATURE = 0.7  # a second greedy attempt would return the same reply
MAX_REJECTED = 200  # characters of each text in an entry of `rejected`
PROPOSAL_FIELDS = (
    *("text", "error", "error_detail", "argument"),
    *("tool_output", "tool_error", "tool_error_detail", "correct", "predictions"),
)
READS = [*QUESTION, "solution", "needs_tool", *LABELS]
ADDS = {PROPOSAL: RESPONSE}


def propose_calls(
    graded: D,
    teacher: Teacher,
    *,
    attempts: int = 3,
    accept_cut: Collection[str] = ACCEPT_CUT,
    ask_again: Collection[str] = (),
    style: str = "chat",
    verify: bool = True,
    compat: bool = False,
    task: Task | Mapping[str, Task] | None = None,
    num_proc: int | None = None,
) -> D:
    """Propose a tool call for every question that needs one, and verify it by execution.

    Args:
        graded: a table from `grade` or from this function; rows with a verified call are unchanged.
        teacher: `ANNOTATIONS`, or a model whose prompt contains the gold answers. Tasks with `Task.make_argument` need
            no teacher.
        attempts, accept_cut, ask_again, compat, task, num_proc: as in `build_stage1`.
        style: the prompt style of a model: "chat", "completion", "alpaca" or "vicuna" (`prompts`); default "chat".
        verify: whether to execute the calls; default True. With False, no tool is needed, `verified` is null, and each
            question keeps its first readable call.

    Returns:
        the table with `tool_call`, `tool_output`, `verified`, `verified_by`, `attempts`, `teacher` and `rejected`: for
        each rejected attempt the reason, what the teacher wrote, and what the tool returned, such as "wrong_value:
        calculator(36*2) -> 72".

    Raises:
        InputError: the teacher has another type, `attempts` is below 1, or a tool is not set up.
        UnknownName: an unknown style.
        TooManyFailures: too many requests or calls failed; all replies and results are saved.

    >>> from toolrlef_data import answer, grade, load_source, scripted
    >>> questions = load_source("sample", split="train").select(range(1))
    >>> graded = grade(answer(questions, scripted({"": "It is 0."}, progress=False)))
    >>> propose_calls(graded, ANNOTATIONS)["verified_by"][:]
    ['value']
    """
    check_teacher(teacher)
    integer_from(1).check("attempts", attempts)
    for name, value in {"verify": verify, "compat": compat}.items():
        FLAG.check(name, value)
    check_prompt(style)
    tasks, accepted = tasks_of(graded, task), check_accept_cut(accept_cut)
    labelled = _with_labels(graded, num_proc)
    if isinstance(teacher, Annotations):
        settings = TeachSettings(tasks, teacher.name, 0, compat, verify=verify)
        labelled = _propose_without_model(labelled, _propose_from_annotations, settings, num_proc)
        return remember_tasks(labelled, tasks)
    for attempt in range(attempts):
        spec = teacher if attempt == 0 else replace(teacher, temperature=max(teacher.temperature, RETRY_TEMPERATURE))
        spec = replace(spec, seed=teacher.seed + attempt)
        settings = TeachSettings(tasks, teacher.model, attempt, compat, accepted, teacher.max_tokens, style, verify)
        options: dict[str, Any] = {"ask_again": ask_again, "response_of": _teacher_response}
        options["label"] = f"teacher (attempt {attempt + 1} of {attempts})" if attempts > 1 else "teacher"
        stage = ModelStage(
            _teacher_request, _propose_from_reply, settings, spec, READS, ADDS, "propose_calls", **options
        )
        proposed = run_model_stage(labelled, stage, num_proc=num_proc)
        labelled = _verify_proposals(proposed, settings, num_proc)
    return remember_tasks(labelled, tasks)


def check_teacher(teacher: Any) -> None:
    """Raise an `InputError` for a teacher of another type."""
    if not isinstance(teacher, (EngineSpec, Annotations)):
        raise InputError(f"teacher: expected ANNOTATIONS or an EngineSpec, found {type(teacher).__name__}")


def write_calls(
    graded: D,
    *,
    verify: bool = True,
    compat: bool = False,
    task: Task | Mapping[str, Task] | None = None,
    num_proc: int | None = None,
) -> D:
    """Write and verify the calls that need no teacher, and verify the table's existing calls.

    Args and Returns are those of `propose_calls`.
    """
    settings = TeachSettings(tasks_of(graded, task), "", 0, compat, verify=verify)
    return _propose_without_model(_with_labels(graded, num_proc), _propose_from_row, settings, num_proc)


@dataclass(frozen=True)
class TeachSettings:
    """The teacher's name, the number of the attempt, its prompts, and how replies are checked and calls verified."""

    tasks: Mapping[str, Task]
    teacher: str
    attempt: int
    compat: bool
    accept_cut: tuple[str, ...] = ()
    max_tokens: int = 0
    style: str = "chat"
    verify: bool = True


def _with_labels(graded: D, num_proc: int | None) -> D:
    if "tool_call" in features_of(graded):
        return graded
    return apply(graded, _empty_labels, None, reads=["id"], adds=LABELS, name="no_label", num_proc=num_proc)


def _empty_labels(row: Row, settings: None) -> dict[str, Any]:
    return {**dict.fromkeys(LABELS), "attempts": 0, "rejected": []}


def _propose_without_model(
    labelled: D, propose: Callable[[Row, TeachSettings], dict[str, Any]], settings: TeachSettings, num_proc: int | None
) -> D:
    proposed = apply(labelled, propose, settings, reads=READS, adds=ADDS, name="propose_calls", num_proc=num_proc)
    return _verify_proposals(proposed, settings, num_proc)


# Proposals ------------------------------------------------------------------------------------------------------------
# A proposal is a RESPONSE struct. Its text is the call, or `error` states why there is none. Both are null if the row
# needs no call.


def _propose_from_row(row: Row, settings: TeachSettings) -> dict[str, Any]:
    """Return the row's unverified call, or the call whose argument is part of the question."""
    task = settings.tasks[row["task"]]
    if not _needs_call(row, settings):
        return _proposal()
    if row["tool_call"] and row["verified"] is None:
        return _proposal(row["tool_call"])
    return _proposal() if task.make_argument is None else _call_proposal(task, task.make_argument(row))


def _propose_from_annotations(row: Row, settings: TeachSettings) -> dict[str, Any]:
    """Return a call that is composed from the row's worked solution."""
    task = settings.tasks[row["task"]]
    if task.make_argument is not None or not _needs_call(row, settings):
        return _proposal()
    if not task.numeric:  # a formula computes numbers only
        return _proposal(error="no_annotation")
    composed = compose(row["question"], row["solution"] or "", row["answers"])
    if composed.formula is None:
        return _proposal(error=composed.reason or "no_annotation")
    return _call_proposal(task, composed.formula)


def _teacher_request(row: Row, settings: TeachSettings) -> Request | None:
    task = settings.tasks[row["task"]]
    if task.make_argument is not None or not _needs_call(row, settings):
        return None
    examples = task.examples_for(row["dataset"])
    order = shuffled_indices(len(examples), f"{row['id']}:{settings.attempt}")
    shots = [(with_gold(examples[i].input, [examples[i].answer]), examples[i].call) for i in order]
    prompt = with_gold(task.render(row), row["answers"][:MAX_GOLD_ANSWERS])
    return build_request(render_prompt(settings.style, task.teacher_instruction, prompt, shots))


def with_gold(input: str, answers: Sequence[str]) -> str:
    """Return the input of a teacher's request: that of the row, with its gold answers."""
    return f"{input}\nGolden answers: {' | '.join(answers)}"


def _propose_from_reply(row: Row, replies: Sequence[Reply], settings: TeachSettings) -> dict[str, Any]:
    """Return the call in a teacher's reply."""
    if not replies:
        return _proposal()
    response = _teacher_response(row, replies[0], settings)
    if response["error"] in NO_RESPONSE_ERRORS:
        return _proposal(error=response["error"], detail=response["raw"])
    if response["error"]:
        return _proposal(error=f"no_reply:{response['error']}", detail=response["error_detail"])
    task = settings.tasks[row["task"]]
    call = parse_call(response["text"], task.tool)
    return _proposal(error="no_call", detail=response["text"]) if call is None else _call_proposal(task, call.argument)


def _call_proposal(task: Task, argument: str) -> dict[str, Any]:
    """Return a proposed call, which is executed and published as a text: it must read back to the same argument."""
    if isinstance(parameters := task.tool.call_parameter, Parameters):  # its arguments in the order of the schema
        decoded = decode_arguments(argument, parameters)
        argument = argument if decoded is None else decoded.argument
    call = ToolCall(task.tool.name, clean_text(argument).strip())
    text = render_call(call, task.tool)
    return _proposal(text) if parse_call(text, task.tool) == call else _proposal(error="unreadable_call", detail=text)


def _teacher_response(row: Row, reply: Reply, settings: TeachSettings) -> dict[str, Any]:
    task = settings.tasks[row["task"]]
    return check_reply(build_response(reply), task, settings.accept_cut, settings.max_tokens)


def _proposal(call: str | None = None, error: str | None = None, detail: str | None = None) -> dict[str, Any]:
    return {PROPOSAL: {**build_response(None, text=call), "error": error, "error_detail": detail}}


def _needs_call(row: Row, settings: TeachSettings) -> bool:
    return bool(row["needs_tool"]) and not row["verified" if settings.verify else "tool_call"]


# Verification ---------------------------------------------------------------------------------------------------------


def _verify_proposals(proposed: D, settings: TeachSettings, num_proc: int | None) -> D:
    if settings.verify:
        proposed = execute_responses(
            proposed, [PROPOSAL], settings.tasks, compat=settings.compat, verify=True, num_proc=num_proc
        )
    reads = ["task", "question", "answers", *LABELS, *(f"{PROPOSAL}.{field}" for field in PROPOSAL_FIELDS)]
    changes: dict[str, Any] = {"reads": reads, "adds": LABELS, "removes": [PROPOSAL], "name": "verify_calls"}
    return apply(proposed, _verified_labels, settings, **changes, num_proc=num_proc)


def _verified_labels(row: Row, settings: TeachSettings) -> dict[str, Any]:
    """Return the labels with a verified proposal, or with the reason of its rejection."""
    labels = {name: row[name] for name in LABELS}
    proposal = {field: row[f"{PROPOSAL}.{field}"] for field in PROPOSAL_FIELDS}
    call, argument, output = proposal["text"], proposal["argument"], proposal["tool_output"]
    if call is None and proposal["error"] is None:
        return labels
    task = settings.tasks[row["task"]]
    is_from_model = settings.teacher not in ("", ANNOTATIONS.name)
    labels |= {"attempts": row["attempts"] + is_from_model}
    if call is None:
        return {**labels, "rejected": [*row["rejected"], _rejection(proposal["error"], proposal["error_detail"])]}
    labels |= {"tool_call": call, "tool_output": output, "teacher": settings.teacher or row["teacher"]}
    if not settings.verify:
        return labels
    if proposal["tool_error"] is not None:
        reason = f"tool_error:{proposal['tool_error']}"
    elif argument is None:  # the table's text contains no call
        reason = "no_call"
    elif not proposal["correct"]:
        reason = "wrong_value"
    elif task.leaks(argument, row["question"], row["answers"]):
        reason = "leaks_answer"
    else:
        return {**labels, "verified": True, "verified_by": _evidence(task, output, proposal["predictions"])}
    rejection = _rejection(reason, call, output or proposal["tool_error_detail"])
    return {**labels, "verified": False, "rejected": [*row["rejected"], rejection]}


def _rejection(reason: str, written: str | None, output: str | None = None) -> str:
    """Return an entry of `rejected`: the reason, what the teacher wrote, and what the tool returned."""
    texts = [" ".join(text.split()) for text in (written, output) if text]
    return ": ".join([reason, " -> ".join(f"{text:.{MAX_REJECTED}}" for text in texts)] if texts else [reason])


def _evidence(task: Task, output: str, predictions: Sequence[str]) -> str:
    """Return the value of `verified_by`."""
    if task.numeric:
        return "value"
    is_unread = task.reader_prompt is None or "\n\n".join(predictions) == output
    return "output" if is_unread else "reader"
