"""execute: the calls in responses are executed, what the tool gave is read, predictions are graded.

    responses ──> tool, argument ──run the tool──> tool_output ──read, where the task says so──> predictions ──> correct

A quick tool runs inside the map. A slow one (`Tool.many`, `Tool.engine`) runs before it: what the reply store lacks is
executed in batches and stored as it comes, then the map reads the store, as in `run_model_stage`. Where the tool's
output is no prediction yet (passages, a translation), the task's reader is asked, one prediction a text of the output.
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
from toolrlef_data.tables.transform import apply
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.calls import find_called_tool, parse_calls
from toolrlef_data.tools.results import run_tool, stored_results, tool_identity
from toolrlef_data.tools.tool import Tool, ToolInput
from toolrlef_data.trice.reader import Play, Reading, any_right, read_outputs

__all__ = ["ExecutionSettings", "execute_responses"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Columns = Mapping[str, list[Any]]


class Row(NamedTuple):
    """What decides, beside a response's text, how its call is executed and its prediction graded."""

    id: str
    task: str
    answers: Sequence[str]
    language: str


Runner = Callable[[Row, str], ToolResult]  # of one task's calls: the row, the call's argument -> what the tool gave


class Outcome(NamedTuple):
    """The fields of a response that are filled here; the defaults are those of a response that no model gave."""

    n_calls: int | None = None
    tool: str | None = None
    argument: str | None = None
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
    cassette: Play | None = None,
    num_proc: int | None = None,
) -> D:
    """Execute the call in every response, or read its answer, and grade the prediction.

    Args:
        data: a table with the columns id, task, answers, what `Task.render` reads or `input`, and RESPONSE structs.
        names: of the struct columns.
        tasks: by name; every task of the table.
        compat: as in `build_stage2`.
        verify: the responses are calls to be verified: an output that holds a gold answer is not read, and a task
            without a reader is judged by the output alone.
        cassette: recorded executions to be replayed (`cassette`), in the place of every tool and reader.

    Returns:
        the table with n_calls, tool, argument, tool_output, tool_error, predictions and correct of every struct.
        `correct` is null where the model gave no response or the tool failed by its own fault.

    Raises:
        InputError: a tool that is not set up, or a task that needs a reader and has none.
        CassetteMiss: the cassette lacks an execution.
        TooManyFailures: more than `Tool.max_failed` of the calls failed by the tool's own fault; all results are kept.
    """
    if cassette is None:
        _check(tasks, verify)
    slow = [name for name, task in tasks.items() if task.tool.is_slow and cassette is None]
    identities = {name: tool_identity(tasks[name].tool) for name in slow}
    store = str(store_path()) if slow else ""
    settings = ExecutionSettings(dict(tasks), tuple(names), compat, verify, identities, cassette, store)
    executed = apply(
        data,
        _executed,
        settings,
        reads=_reads(names),
        adds={f"{name}.{field}": RESPONSE[field] for name in names for field in Outcome._fields},
        batched=True,
        name=ExecutionSettings.kind,
        prepare=(lambda split: _run_missing(split, settings)) if slow else None,
        unfinished=lambda result: _has_tool_fault(result, names),
        num_proc=num_proc,
    )
    readers = {name: cassette or task.reader for name, task in tasks.items() if task.reader_prompt}
    done: list[EngineSpec | Play] = []
    for reader in readers.values():
        if reader is not None and reader not in done:
            done.append(reader)
            read = {name: tasks[name] for name, other in readers.items() if other == reader}
            executed = read_outputs(executed, reader, Reading(read, tuple(names), compat, verify), num_proc=num_proc)
    return executed


@dataclass(frozen=True)
class ExecutionSettings:
    """How responses are executed; `identities` are those of the slow tools, by task."""

    kind: ClassVar[str] = "execute"
    tasks: Mapping[str, Task]
    names: tuple[str, ...]
    compat: bool
    verify: bool
    identities: Mapping[str, str]
    cassette: Play | None
    store: str


def _check(tasks: Mapping[str, Task], verify: bool) -> None:
    for task in tasks.values():
        task.tool.check()
        if task.reader_prompt and task.reader is None and not verify:
            raise InputError(
                f"what {task.tool.name} gives is no answer yet, a model reads it: give the task {task.name!r} one, "
                f"task=replace(TASKS[{task.name!r}], tool=..., reader=EngineSpec(...))"
            )


# The map --------------------------------------------------------------------------------------------------------------


def _executed(columns: Columns, settings: ExecutionSettings) -> dict[str, list[Any]]:
    rows = _rows(columns, settings)
    runners = {name: _runner(name, rows, columns, settings) for name in settings.tasks}
    filled: dict[str, list[Any]] = {}
    for name in settings.names:
        outcomes = [
            Outcome() if text is None else _outcome(text, row, settings, runners[row.task])
            for row, text in zip(rows, _texts(columns, name), strict=True)
        ]
        for field, values in zip(Outcome._fields, zip(*outcomes, strict=True), strict=True):
            filled[f"{name}.{field}"] = list(values)
    return filled


def _outcome(text: str, row: Row, settings: ExecutionSettings, run: Runner) -> Outcome:
    task = settings.tasks[row.task]
    tool = task.tool
    if calls := parse_calls(text, tool):
        argument = calls[0].argument
        called = partial(Outcome, n_calls=len(calls), tool=tool.name, argument=argument)
        value, error, _ = run(row, argument)
        if error is not None:
            return called(tool_error=error, correct=False if error in CALL_ERRORS else None)
        outputs = value if isinstance(value, tuple) else (str(value),)
        correct = None
        if not task.reader_prompt or (settings.verify and task.output_is_answer):
            whole = settings.compat or task.reader_prompt is not None  # a passage
            correct = any_right(outputs, task, row.answers, compat=settings.compat, whole=whole)
        return called(tool_output="\n\n".join(outputs), predictions=outputs, correct=correct)
    if ("(" in text and find_called_tool(text, tool)) or (settings.compat and tool.name in text):
        return Outcome(n_calls=0, tool=tool.name, tool_error="incomplete_call", correct=False)
    prediction = task.extract(text)
    predictions = () if prediction is None else (prediction,)
    return Outcome(n_calls=0, predictions=predictions, correct=task.grade(prediction, row.answers))


def _rows(columns: Columns, settings: ExecutionSettings) -> list[Row]:
    rows = []
    for row_id, task, answers in zip(columns["id"], columns["task"], columns["answers"], strict=True):
        tell = settings.tasks[task].language
        language = "" if tell is None else tell({"id": row_id, "task": task})
        rows.append(Row(row_id, task, answers[:1] if settings.compat else answers, language))
    return rows


def _texts(columns: Columns, name: str) -> list[str | None]:
    """The responses of a column; None where the model gave none."""
    pairs = zip(columns[f"{name}.text"], columns[f"{name}.error"], strict=True)
    return [text if error is None else None for text, error in pairs]


def _has_tool_fault(executed: Dataset, names: Sequence[str]) -> bool:
    """Whether a tool failed by its own fault somewhere; the next run executes again."""
    faults = pa.array(sorted(TOOL_FAILURES))
    for table in as_arrow(executed).iter(10_000):
        for name in names:
            if pc.any(pc.is_in(pc.struct_field(table.column(name), ["tool_error"]), value_set=faults)).as_py():
                return True
    return False


# Runners --------------------------------------------------------------------------------------------------------------


def _runner(task: str, rows: Sequence[Row], columns: Columns, settings: ExecutionSettings) -> Runner:
    """How the calls of one task run in a batch."""
    tool = settings.tasks[task].tool
    if settings.cassette is not None:
        return partial(_from_cassette, settings.cassette, tool.name)
    if not tool.is_slow:
        return partial(_direct, tool)
    inputs = _inputs(task, rows, columns, settings)
    return partial(_from_store, stored_results(inputs, settings.identities[task], open_store(Path(settings.store))))


def _direct(tool: Tool, row: Row, argument: str) -> ToolResult:
    return tool.run(argument)


def _from_store(results: Mapping[ToolInput, ToolResult], row: Row, argument: str) -> ToolResult:
    return results[ToolInput(argument, row.language)]


def _from_cassette(cassette: Play, tool: str, row: Row, argument: str) -> ToolResult:
    return cassette(row.id, row.task, tool, argument)


# Before the map -------------------------------------------------------------------------------------------------------


def _run_missing(data: Dataset, settings: ExecutionSettings) -> tuple[str, dict[str, Any]]:
    """Execute the calls of slow tools that the store has no result of; a salt is never needed, see `unfinished`."""
    store = open_store(Path(settings.store))
    inputs = [data._fingerprint]
    for name, identity in settings.identities.items():
        given = _each_input(name, data, settings)
        inputs += run_tool(given, settings.tasks[name].tool, identity, store, data._fingerprint)
    return "", {"inputs": inputs}


def _each_input(task: str, data: Dataset, settings: ExecutionSettings) -> Iterator[ToolInput]:
    """The distinct inputs of one task's calls, in order."""
    seen: set[ToolInput] = set()
    for table in as_arrow(data).iter(1000):
        columns = {path: read_values(table, path) for path in _reads(settings.names)}
        new = [each for each in _inputs(task, _rows(columns, settings), columns, settings) if each not in seen]
        seen.update(new)
        yield from new


def _inputs(task: str, rows: Sequence[Row], columns: Columns, settings: ExecutionSettings) -> list[ToolInput]:
    """The distinct inputs of one task's calls in a batch, in order."""
    tool = settings.tasks[task].tool
    inputs: dict[ToolInput, None] = {}
    for name in settings.names:
        for row, text in zip(rows, _texts(columns, name), strict=True):
            if row.task == task and text is not None and (calls := parse_calls(text, tool)):
                inputs.setdefault(ToolInput(calls[0].argument, row.language))
    return list(inputs)


def _reads(names: Sequence[str]) -> list[str]:
    return ["id", "task", "answers", *(f"{name}.{field}" for name in names for field in ("text", "error"))]
