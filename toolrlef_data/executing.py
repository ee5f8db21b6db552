"""executing: the calls in responses are executed, what the tool gave is read, predictions are graded.

    responses ──> tool, argument ──run the tool──> tool_output ──read, where the task says so──> predictions ──> correct

A quick tool runs inside the map. A slow one (`Tool.many`, `Tool.engine`) runs before it: what the reply store lacks is
executed in batches and stored as it comes, then the map reads the store, as in `asking`. Where the tool's output is no
prediction yet (passages, a translation), the task's reader is asked, one prediction a text of the output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict

from toolrlef_data.batches import read_values
from toolrlef_data.calls import calls_in, names_call
from toolrlef_data.columns import RESPONSE
from toolrlef_data.engines import EngineSpec
from toolrlef_data.lineage import as_arrow
from toolrlef_data.reading import Play, any_right, read_outputs
from toolrlef_data.records import OWN_FAULTS, TOOL_FAULTS, InputError, ToolResult
from toolrlef_data.replies import open_store, store_path
from toolrlef_data.tasks import Task
from toolrlef_data.tool_results import get_results, run_tool, tool_identity, tool_key
from toolrlef_data.tools import Tool, ToolInput
from toolrlef_data.transform import apply

__all__ = ["Executing", "execute_responses"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Columns = Mapping[str, list[Any]]
Run = Callable[[ToolInput, str], ToolResult]  # of a call in the row of an id

EXECUTED = ("n_calls", "tool", "argument", "tool_output", "tool_error", "predictions", "correct")
NO_OUTCOME: tuple[Any, ...] = (None, None, None, None, None, [], None)


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
    slow = {name: task.tool for name, task in tasks.items() if task.tool.is_slow and cassette is None}
    identities = {name: tool_identity(tool) for name, tool in slow.items()}
    store = str(store_path()) if slow else ""
    settings = Executing(dict(tasks), tuple(names), compat, verify, identities, cassette, store)
    reads = ["id", "task", "answers", *(f"{name}.{field}" for name in names for field in ("text", "error"))]
    executed = apply(
        data,
        _executed,
        settings,
        reads=reads,
        adds={f"{name}.{field}": RESPONSE[field] for name in names for field in EXECUTED},
        batched=True,
        name=Executing.kind,
        prepare=(lambda split: _run_missing(split, settings)) if slow else None,
        unfinished=lambda result: _has_tool_fault(result, names),
        num_proc=num_proc,
    )
    readers: list[EngineSpec | Play] = []
    for task in tasks.values():
        reader = task.reader if cassette is None else cassette
        if task.reading and reader is not None and reader not in readers:
            readers.append(reader)
    for reader in readers:
        executed = read_outputs(executed, reader, names, tasks, compat=compat, verify=verify, num_proc=num_proc)
    return executed


@dataclass(frozen=True)
class Executing:
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
        if task.reading and task.reader is None and not verify:
            raise InputError(
                f"what {task.tool.name} gives is no answer yet, a model reads it: give the task {task.name!r} one, "
                f"task=replace(TASKS[{task.name!r}], tool=..., reader=EngineSpec(...))"
            )


# The map --------------------------------------------------------------------------------------------------------------


def _executed(columns: Columns, settings: Executing) -> dict[str, list[Any]]:
    tasks = [settings.tasks[name] for name in columns["task"]]
    answers = [a[:1] for a in columns["answers"]] if settings.compat else columns["answers"]
    runs = _runs(columns, settings)
    languages = _languages(columns, settings)
    filled: dict[str, list[Any]] = {}
    for name in settings.names:
        outcomes = [
            NO_OUTCOME
            if error is not None or text is None
            else _outcome(text, task, gold, settings, runs[own], (row_id, language))
            for row_id, text, error, own, task, gold, language in zip(
                columns["id"],
                columns[f"{name}.text"],
                columns[f"{name}.error"],
                columns["task"],
                tasks,
                answers,
                languages,
                strict=True,
            )
        ]
        for field, values in zip(EXECUTED, zip(*outcomes, strict=True), strict=True):
            filled[f"{name}.{field}"] = list(values)
    return filled


def _outcome(
    text: str, task: Task, answers: Sequence[str], settings: Executing, run: Run | None, where: tuple[str, str]
) -> tuple[Any, ...]:
    """One response's fields, in the order of EXECUTED."""
    tool = task.tool
    name = tool.name
    calls = calls_in(text, tool)
    if calls:
        argument = calls[0].argument
        value, error, _ = tool.run(argument) if run is None else run(ToolInput(argument, where[1]), where[0])
        if error is not None:
            return len(calls), name, argument, None, error, [], False if error in OWN_FAULTS else None
        outputs = list(value) if isinstance(value, tuple) else [str(value)]
        correct = None
        if not task.reading or (settings.verify and task.output_answers):
            whole = settings.compat or task.reading is not None  # a passage
            correct = any_right(outputs, task, answers, compat=settings.compat, whole=whole)
        return len(calls), name, argument, "\n\n".join(outputs), None, outputs, correct
    if ("(" in text and names_call(text, tool)) or (settings.compat and name in text):
        return 0, name, None, None, "incomplete_call", [], False
    prediction = task.extract(text)
    return 0, None, None, None, None, [] if prediction is None else [prediction], task.grade(prediction, answers)


def _runs(columns: Columns, settings: Executing) -> dict[str, Run | None]:
    """task -> how a call of its tool runs: None at once; by a look at the results of this batch; from the cassette."""
    return {name: _run_of(name, task.tool, columns, settings) for name, task in settings.tasks.items()}


def _run_of(task: str, tool: Tool, columns: Columns, settings: Executing) -> Run | None:
    if (cassette := settings.cassette) is not None:
        return lambda given, row_id: cassette(row_id, task, tool.name, given.argument)
    if not tool.is_slow:
        return None
    keys = {each: tool_key(settings.identities[task], each) for each in _inputs(columns, task, settings)}
    found = get_results(open_store(Path(settings.store)), list(keys.values()), failures=True)
    return lambda given, _: found.get(keys[given], LOST)


LOST = ToolResult(error="unavailable", detail="its result was removed from the reply store meanwhile")


def _inputs(columns: Columns, task: str, settings: Executing) -> list[ToolInput]:
    """The distinct inputs of one task's calls in a batch, in order."""
    tool = settings.tasks[task].tool
    languages = _languages(columns, settings)
    inputs: dict[ToolInput, None] = {}
    for name in settings.names:
        texts, errors = columns[f"{name}.text"], columns[f"{name}.error"]
        for text, error, own, language in zip(texts, errors, columns["task"], languages, strict=True):
            if own == task and error is None and text is not None and (calls := calls_in(text, tool)):
                inputs.setdefault(ToolInput(calls[0].argument, language))
    return list(inputs)


def _languages(columns: Columns, settings: Executing) -> list[str]:
    tell = {name: task.language for name, task in settings.tasks.items() if task.language is not None}
    if not tell:
        return [""] * len(columns["id"])
    return [
        tell[name]({"id": row_id, "task": name}) if name in tell else ""
        for name, row_id in zip(columns["task"], columns["id"], strict=True)
    ]


def _has_tool_fault(executed: Dataset, names: Sequence[str]) -> bool:
    """Whether a tool failed by its own fault somewhere; the next run executes again."""
    faults = pa.array(sorted(TOOL_FAULTS))
    for table in as_arrow(executed).iter(10_000):
        for name in names:
            if pc.any(pc.is_in(pc.struct_field(table.column(name), ["tool_error"]), value_set=faults)).as_py():
                return True
    return False


# Before the map -------------------------------------------------------------------------------------------------------


def _run_missing(data: Dataset, settings: Executing) -> tuple[str, dict[str, Any]]:
    """Execute the calls of slow tools that the store has no result of; a salt is never needed, see `unfinished`."""
    store = open_store(Path(settings.store))
    inputs = [data._fingerprint]
    for name, task in settings.tasks.items():
        if task.tool.is_slow:
            given = _each_input(data, name, settings)
            inputs += run_tool(given, task.tool, settings.identities[name], store, data._fingerprint)
    return "", {"inputs": inputs}


def _each_input(data: Dataset, task: str, settings: Executing) -> Iterator[ToolInput]:
    """The distinct inputs of one task's calls, in order."""
    seen: set[ToolInput] = set()
    for table in as_arrow(data).iter(1000):
        fields = (f"{name}.{field}" for name in settings.names for field in ("text", "error"))
        columns = {path: read_values(table, path) for path in ("id", "task", *fields)}
        new = [each for each in _inputs(columns, task, settings) if each not in seen]
        seen.update(new)
        yield from new
