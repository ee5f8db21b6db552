"""Execution: the calls in responses are executed, readers extract predictions, and predictions are graded.

    responses ──> tool, argument ──tool──> tool_output ──reader, if the task has one──> predictions ──> correct

A fast tool runs inside the map. For a slow tool (`Tool.many`, `Tool.engine`), the calls without a stored result run in
batches first; the map then looks up the results in the reply store. If the tool output is not a prediction, such as
passages or a translation, the task's reader returns one prediction per text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict

from toolrlef_data.checks import features_of
from toolrlef_data.columns import RESPONSE
from toolrlef_data.engines.reply_store import store_path
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import TOOL_FAILURES, InputError, ToolResult
from toolrlef_data.tables.batches.mapping import BATCH_ROWS
from toolrlef_data.tables.stage_cache import as_arrow
from toolrlef_data.tables.transform import apply
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.parsing.call_arguments import decode_arguments
from toolrlef_data.tools.parsing.calls import read_call
from toolrlef_data.tools.results import tool_identity
from toolrlef_data.trice.call_execution import (
    CallExecutor,
    Columns,
    ExecutionSettings,
    Response,
    Row,
    call_executor,
    input_columns,
    responses_of,
    rows_of,
    run_missing,
    strict_executor,
)
from toolrlef_data.trice.reader import CassetteLookup, ReaderSettings, any_correct, read_outputs

__all__ = ["execute_responses", "grade_result", "grade_text"]

D = TypeVar("D", bound="Dataset | DatasetDict")


class ExecutionResult(NamedTuple):
    """The fields of a response that execution sets; the defaults are those of a missing response."""

    n_calls: int | None = None
    tool: str | None = None
    argument: str | None = None
    arguments: str | None = None
    tool_output: str | None = None
    tool_error: str | None = None
    tool_error_detail: str | None = None
    predictions: Sequence[str] = ()
    correct: bool | None = None


def execute_responses(
    data: D,
    names: Sequence[str],
    tasks: Mapping[str, Task],
    *,
    compat: bool = False,
    verify: bool = False,
    cassette: CassetteLookup | None = None,
    num_proc: int | None = None,
) -> D:
    """Execute the call in every response, or extract its answer, and grade the prediction.

    Args:
        data: a table with the columns id, task, answers, the columns of `Task.render` or `input`, and RESPONSE structs.
        names: the struct columns.
        tasks: every task of the table, by name.
        compat: as in `build_stage2`.
        verify: the responses are proposed calls. An output that contains a gold answer needs no reader, and a task
            without a reader is graded by the output alone.
        cassette: recorded executions that replace every tool and reader (`cassette`).
        num_proc: number of processes.

    Returns:
        the table with n_calls, tool, argument, arguments, tool_output, tool_error, tool_error_detail, predictions and
        correct of every struct. `correct` is null if the model returned no response, if the tool failed, if the answer
        cannot be read, or if the grader is unsure.

    Raises:
        InputError: a tool is not set up, or a task lacks its reader.
        CassetteMiss: the cassette lacks an execution.
        TooManyFailures: the share of tool failures exceeds `Tool.max_failed`; all results are saved.
        Exception: the exception of a tool's `function` at a proposed call or at a call of gold: a bug of the tool.
    """
    if compat:
        tasks = {name: task.with_rule("paper") if task.has_rules else task for name, task in tasks.items()}
    if cassette is None:
        _check_tasks(tasks, verify)
    data = _with_later_fields(data, names, num_proc)
    slow = [name for name, task in tasks.items() if task.tool.is_slow and cassette is None]
    identities = {name: tool_identity(tasks[name].tool) for name in slow}
    store = str(store_path()) if slow else ""
    settings = ExecutionSettings(dict(tasks), tuple(names), compat, verify, identities, cassette, store)
    executed = apply(
        data,
        _executed_columns,
        settings,
        reads=[*input_columns(names), *(["input"] if "input" in features_of(data) else [])],
        adds={f"{name}.{field}": RESPONSE[field] for name in names for field in ExecutionResult._fields},
        batched=True,
        name=ExecutionSettings.kind,
        prepare=(lambda split: run_missing(split, settings)) if slow else None,
        unfinished=lambda result: _has_tool_failure(result, names),
        num_proc=num_proc,
    )
    readers = {name: cassette or task.reader for name, task in tasks.items() if task.reader_prompt}
    finished: list[EngineSpec | CassetteLookup] = []
    for reader in readers.values():
        if reader is not None and reader not in finished:
            finished.append(reader)
            reader_tasks = {name: tasks[name] for name, other in readers.items() if other == reader}
            reader_settings = ReaderSettings(reader_tasks, tuple(names), compat, verify)
            executed = read_outputs(executed, reader, reader_settings, num_proc=num_proc)
    return executed


def grade_text(
    text: str, answers: Sequence[str], input: str, task: Task, finish_reason: str | None = None
) -> bool | None:
    """Grade one response by executing its call, or by its answer; an output that contains a gold answer is right.

    >>> from toolrlef_data.tasks import TASKS
    >>> grade_text("calculator(3*4)", ["12"], "", TASKS["math"]), grade_text("It is 13.", ["12"], "", TASKS["math"])
    (True, False)
    """
    settings = ExecutionSettings({task.name: task}, (), False, True, {}, None, "")
    row = Row("", task.name, answers, "", *task.split_input(input))
    response = Response(text, finish_reason, None)
    return _execute_response(response, row, settings, lambda _, argument: task.tool.run(argument)).correct


def grade_result(
    result: ToolResult,
    answers: Sequence[str],
    task: Task,
    *,
    compat: bool = False,
    verify: bool = True,
    row_id: str = "",
) -> bool | None:
    """Grade the result of a call: False for an error of the call, None for a failure of the tool.

    Also None if a reader has to extract a prediction. `compat` and `verify` are those of `execute_responses`.

    >>> from toolrlef_data.tasks import TASKS
    >>> [grade_result(result, ["12"], TASKS["math"]) for result in (ToolResult(12), ToolResult(error="timeout"))]
    [True, None]
    """
    if result.error is not None:
        return None if result.error in TOOL_FAILURES else False
    if task.reader_prompt and not (verify and task.output_is_answer):
        return None
    is_full = compat or task.reader_prompt is not None  # a passage
    grade = task.grade_whole if is_full else task.grade_output
    return any_correct([grade(output, answers, row_id=row_id) for output in _outputs(result)[: 1 if compat else None]])


def _outputs(result: ToolResult) -> tuple[str, ...]:
    return result.value if isinstance(result.value, tuple) else (str(result.value),)


def _check_tasks(tasks: Mapping[str, Task], verify: bool) -> None:
    for task in tasks.values():
        task.tool.check()
        if task.reader_prompt and task.reader is None and not verify:
            raise InputError(
                f"the output of {task.tool.name} is not an answer, so the task {task.name!r} needs a reader: pass "
                f"task=replace(TASKS[{task.name!r}], tool=..., reader=EngineSpec(...))"
            )


# The map --------------------------------------------------------------------------------------------------------------


def _executed_columns(columns: Columns, settings: ExecutionSettings) -> dict[str, list[Any]]:
    rows = rows_of(columns, settings)
    lenient = {name: call_executor(name, rows, columns, settings) for name in settings.tasks}
    strict = {name: strict_executor(name, settings) or lenient[name] for name in settings.tasks}
    new_columns: dict[str, list[Any]] = {}
    for name in settings.names:
        executors = strict if settings.verify or name == "gold" else lenient
        results = [
            _execute_response(response, row, settings, executors[row.task])
            for row, response in zip(rows, responses_of(columns, name), strict=True)
        ]
        for field, values in zip(ExecutionResult._fields, zip(*results, strict=True), strict=True):
            new_columns[f"{name}.{field}"] = list(values)
    return new_columns


def _execute_response(
    response: Response, row: Row, settings: ExecutionSettings, execute_call: CallExecutor
) -> ExecutionResult:
    text, finish_reason, native_arguments = response
    if text is None:
        return ExecutionResult()
    task = settings.tasks[row.task]
    tool = task.tool
    call = read_call(text, tool, finish_reason)
    if (argument := call.argument) is not None:
        arguments = call.arguments
        if native_arguments and native_arguments != arguments:  # the text of a native call has only its argument
            native = decode_arguments(native_arguments, tool.call_parameter)
            arguments = native_arguments if native is not None and native.argument == argument else arguments
        result = execute_call(row, argument)
        options: dict[str, Any] = {"compat": settings.compat, "verify": settings.verify, "row_id": row.id}
        correct = grade_result(result, row.answers, task, **options)
        called = ExecutionResult(call.n_calls, tool.name, argument, arguments)
        if result.error is not None:
            detail = result.detail or None
            return called._replace(tool_error=result.error, tool_error_detail=detail, correct=correct)
        outputs = _outputs(result)
        output = outputs[0] if len(outputs) == 1 else "\n\n".join(outputs)
        return called._replace(tool_output=output, predictions=outputs, correct=correct)
    if call.tool is not None or (settings.compat and tool.name in text):
        error = call.error or "incomplete_call"
        return ExecutionResult(n_calls=0, tool=tool.name, tool_error=error, correct=False)
    prediction = task.extract(text)
    predictions = () if prediction is None else (prediction,)
    correct = task.grade_row(prediction, row.answers, row.question, row.context, text, row.id)
    return ExecutionResult(n_calls=0, predictions=predictions, correct=correct)


def _with_later_fields(data: D, names: Sequence[str], num_proc: int | None) -> D:
    """Return a table whose responses have all fields of RESPONSE; tables published before lack some."""
    features = features_of(data)
    older = [name for name in names if RESPONSE.keys() - features[name].keys()]
    if not older:
        return data
    adds = dict.fromkeys(older, RESPONSE)
    return apply(data, _add_later_fields, None, reads=older, adds=adds, batched=True, num_proc=num_proc)


def _add_later_fields(columns: Columns, settings: None) -> dict[str, list[Any]]:
    empty = dict.fromkeys(RESPONSE)
    return {name: [value and {**empty, **value} for value in values] for name, values in columns.items()}


def _has_tool_failure(executed: Dataset, names: Sequence[str]) -> bool:
    """Return whether any call ended in a tool failure, which the next run retries."""
    failures = pa.array(sorted(TOOL_FAILURES))
    for table in as_arrow(executed).iter(BATCH_ROWS):
        for name in names:
            if pc.any(pc.is_in(pc.struct_field(table.column(name), ["tool_error"]), value_set=failures)).as_py():
                return True
    return False
