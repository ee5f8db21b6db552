"""Execution: the calls in responses are executed, readers extract predictions, and predictions are graded.

    responses ──> tool, argument ──tool──> tool_output ──reader, if the task has one──> predictions ──> correct

A fast tool runs inside the map. For a slow tool (`Tool.many`, `Tool.engine`), the calls without a stored result run in
batches first; the map then looks up the results in the reply store. If the tool output is not a prediction, such as
passages or a translation, the task's reader returns one prediction per text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict

from toolrlef_data.columns import RESPONSE
from toolrlef_data.engines.reply_store import open_store, store_path
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import CALL_ERRORS, TOOL_FAILURES, InputError, ToolResult
from toolrlef_data.tables.batches import read_values
from toolrlef_data.tables.stage_cache import as_arrow
from toolrlef_data.tables.transform import Prepared, apply, features_of
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.call_arguments import decode_arguments
from toolrlef_data.tools.calls import read_call
from toolrlef_data.tools.results import run_tool, stored_results, tool_identity
from toolrlef_data.tools.tool import Tool, ToolInput
from toolrlef_data.trice.reader import CassetteLookup, ReaderSettings, any_correct, read_outputs

__all__ = ["ExecutionSettings", "execute_responses"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Columns = Mapping[str, list[Any]]


class Row(NamedTuple):
    """The part of a row that determines how a call is executed and a prediction is graded."""

    id: str
    task: str
    answers: Sequence[str]
    language: str
    question: str = ""
    context: str = ""


CallExecutor = Callable[[Row, str], ToolResult]  # (row, argument of the call) -> result; for one task


class Response(NamedTuple):
    """The part of a response that determines its execution; the text is None if the model returned no response."""

    text: str | None
    finish_reason: str | None
    arguments: str | None


class ExecutionResult(NamedTuple):
    """The fields of a response that execution sets; the defaults are those of a missing response."""

    n_calls: int | None = None
    tool: str | None = None
    argument: str | None = None
    arguments: str | None = None
    tool_output: str | None = None
    tool_error: str | None = None
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
        the table with n_calls, tool, argument, arguments, tool_output, tool_error, predictions and correct of every
        struct. `correct` is null if the model returned no response, if the tool failed, if the answer
        cannot be read, or if the grader is unsure.

    Raises:
        InputError: a tool is not set up, or a task lacks its reader.
        CassetteMiss: the cassette lacks an execution.
        TooManyFailures: the share of tool failures exceeds `Tool.max_failed`; all results are saved.
    """
    if compat:
        tasks = {name: task.with_rule("paper") for name, task in tasks.items()}
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
        reads=[*_input_columns(names), *(["input"] if "input" in features_of(data) else [])],
        adds={f"{name}.{field}": RESPONSE[field] for name in names for field in ExecutionResult._fields},
        batched=True,
        name=ExecutionSettings.kind,
        prepare=(lambda split: _run_missing(split, settings)) if slow else None,
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


@dataclass(frozen=True)
class ExecutionSettings:
    """The settings of an execution stage; `identities` are those of the slow tools, by task."""

    kind: ClassVar[str] = "execute"
    tasks: Mapping[str, Task]
    names: tuple[str, ...]
    compat: bool
    verify: bool
    identities: Mapping[str, str]
    cassette: CassetteLookup | None
    store: str


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
    rows = _rows(columns, settings)
    executors = {name: _call_executor(name, rows, columns, settings) for name in settings.tasks}
    new_columns: dict[str, list[Any]] = {}
    for name in settings.names:
        results = [
            _execute_response(response, row, settings, executors[row.task])
            for row, response in zip(rows, _responses(columns, name), strict=True)
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
            native = decode_arguments(native_arguments, tool.parameter)
            arguments = native_arguments if native is not None and native.argument == argument else arguments
        called = partial(ExecutionResult, n_calls=call.n_calls, tool=tool.name, argument=argument, arguments=arguments)
        value, error, _ = execute_call(row, argument)
        if error is not None:
            return called(tool_error=error, correct=False if error in CALL_ERRORS else None)
        outputs = value if isinstance(value, tuple) else (str(value),)
        correct = None
        if not task.reader_prompt or (settings.verify and task.output_is_answer):
            is_full = settings.compat or task.reader_prompt is not None  # a passage
            grade = task.grade_whole if is_full else task.grade_output
            correct = any_correct([grade(output, row.answers) for output in outputs[: 1 if settings.compat else None]])
        return called(tool_output="\n\n".join(outputs), predictions=outputs, correct=correct)
    if call.tool is not None or (settings.compat and tool.name in text):
        error = call.error or "incomplete_call"
        return ExecutionResult(n_calls=0, tool=tool.name, tool_error=error, correct=False)
    prediction = task.extract(text)
    predictions = () if prediction is None else (prediction,)
    correct = task.grade_row(prediction, row.answers, row.question, row.context, text)
    return ExecutionResult(n_calls=0, predictions=predictions, correct=correct)


def _rows(columns: Columns, settings: ExecutionSettings) -> list[Row]:
    rows = []
    inputs = columns.get("input") or [""] * len(columns["id"])
    for row_id, name, answers, text in zip(columns["id"], columns["task"], columns["answers"], inputs, strict=True):
        task = settings.tasks[name]
        language = "" if task.language is None else task.language({"id": row_id, "task": name})
        question, context = task.split_input(text)
        rows.append(Row(row_id, name, answers[:1] if settings.compat else answers, language, question, context))
    return rows


def _responses(columns: Columns, name: str) -> list[Response]:
    fields = (columns[f"{name}.{field}"] for field in ("error", *Response._fields))
    return [Response(text if error is None else None, *rest) for error, text, *rest in zip(*fields, strict=True)]


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
    for table in as_arrow(executed).iter(10_000):
        for name in names:
            if pc.any(pc.is_in(pc.struct_field(table.column(name), ["tool_error"]), value_set=failures)).as_py():
                return True
    return False


# Call executors -------------------------------------------------------------------------------------------------------


def _call_executor(task: str, rows: Sequence[Row], columns: Columns, settings: ExecutionSettings) -> CallExecutor:
    """Return the function that executes the calls of one task in a batch."""
    tool = settings.tasks[task].tool
    if settings.cassette is not None:
        return partial(_look_up_in_cassette, settings.cassette, tool.name)
    if not tool.is_slow:
        return partial(_run_fast_tool, tool)
    inputs = _tool_inputs(task, rows, columns, settings)
    return partial(_look_up_result, stored_results(inputs, settings.identities[task], open_store(Path(settings.store))))


def _run_fast_tool(tool: Tool, row: Row, argument: str) -> ToolResult:
    return tool.run(argument)


def _look_up_result(results: Mapping[ToolInput, ToolResult], row: Row, argument: str) -> ToolResult:
    return results[ToolInput(argument, row.language)]


def _look_up_in_cassette(cassette: CassetteLookup, tool: str, row: Row, argument: str) -> ToolResult:
    return cassette(row.id, row.task, tool, argument)


# Before the map -------------------------------------------------------------------------------------------------------


def _run_missing(data: Dataset, settings: ExecutionSettings) -> Prepared:
    """Execute the calls of slow tools that have no stored result.

    The salt is empty, since `unfinished` already detects failures that can be retried.
    """
    store = open_store(Path(settings.store))
    fingerprints = [data._fingerprint]
    for name, identity in settings.identities.items():
        inputs = _distinct_inputs(name, data, settings)
        fingerprints += run_tool(inputs, settings.tasks[name].tool, identity, store, data._fingerprint)
    return Prepared(record={"inputs": fingerprints})


def _distinct_inputs(task: str, data: Dataset, settings: ExecutionSettings) -> Iterator[ToolInput]:
    """Yield the distinct tool inputs of one task in a table, in order."""
    known: set[ToolInput] = set()
    for table in as_arrow(data).iter(1000):
        columns = {path: read_values(table, path) for path in _input_columns(settings.names)}
        inputs = _tool_inputs(task, _rows(columns, settings), columns, settings)
        new = [tool_input for tool_input in inputs if tool_input not in known]
        known.update(new)
        yield from new


def _tool_inputs(task: str, rows: Sequence[Row], columns: Columns, settings: ExecutionSettings) -> list[ToolInput]:
    """Return the distinct tool inputs of one task in a batch, in order."""
    tool = settings.tasks[task].tool
    inputs: dict[ToolInput, None] = {}
    for name in settings.names:
        for row, response in zip(rows, _responses(columns, name), strict=True):
            if row.task == task and response.text is not None:
                argument = read_call(response.text, tool).argument
                if argument is not None:
                    inputs.setdefault(ToolInput(argument, row.language))
    return list(inputs)


def _input_columns(names: Sequence[str]) -> list[str]:
    fields = ("error", *Response._fields)
    return ["id", "task", "answers", *(f"{name}.{field}" for name in names for field in fields)]
