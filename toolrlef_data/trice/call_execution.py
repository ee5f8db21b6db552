"""How the calls in a batch of responses are executed: by a fast tool, from stored results, or from a cassette.

The calls of a slow tool without a stored result run in batches before the map over the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from datasets import Dataset

from toolrlef_data.engines.reply_store import open_store
from toolrlef_data.records import ToolResult
from toolrlef_data.tables.batches.functions import read_values
from toolrlef_data.tables.identity import distinct
from toolrlef_data.tables.stage_cache import as_arrow
from toolrlef_data.tables.transform import Prepared
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.parsing.calls import read_call
from toolrlef_data.tools.results import run_tool, stored_results
from toolrlef_data.tools.tool import Tool, ToolInput
from toolrlef_data.trice.reader import CassetteLookup

__all__ = [
    "CallExecutor",
    "Columns",
    "ExecutionSettings",
    "Response",
    "Row",
    "call_executor",
    "input_columns",
    "responses_of",
    "rows_of",
    "run_missing",
    "strict_executor",
]

Columns = Mapping[str, list[Any]]


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


def rows_of(columns: Columns, settings: ExecutionSettings) -> list[Row]:
    """Return the rows of a batch."""
    rows = []
    inputs = columns.get("input") or [""] * len(columns["id"])
    for row_id, name, answers, text in zip(columns["id"], columns["task"], columns["answers"], inputs, strict=True):
        task = settings.tasks[name]
        language = "" if task.language is None else task.language({"id": row_id, "task": name})
        question, context = task.split_input(text)
        rows.append(Row(row_id, name, answers[:1] if settings.compat else answers, language, question, context))
    return rows


def responses_of(columns: Columns, name: str) -> list[Response]:
    """Return the responses of a struct column in a batch."""
    fields = (columns[f"{name}.{field}"] for field in ("error", *Response._fields))
    return [Response(text if error is None else None, *rest) for error, text, *rest in zip(*fields, strict=True)]


def input_columns(names: Sequence[str]) -> list[str]:
    """Return the columns that `rows_of` and `responses_of` read, for struct columns."""
    fields = ("error", *Response._fields)
    return ["id", "task", "answers", *(f"{name}.{field}" for name in names for field in fields)]


# Call executors -------------------------------------------------------------------------------------------------------


def call_executor(task: str, rows: Sequence[Row], columns: Columns, settings: ExecutionSettings) -> CallExecutor:
    """Return the function that executes the calls of one task in a batch."""
    tool = settings.tasks[task].tool
    if settings.cassette is not None:
        return partial(_look_up_in_cassette, settings.cassette, tool.name)
    if not tool.is_slow:
        return partial(_run_fast_tool, tool)
    inputs = _tool_inputs(task, rows, columns, settings)
    return partial(_look_up_result, stored_results(inputs, settings.identities[task], open_store(Path(settings.store))))


def strict_executor(task: str, settings: ExecutionSettings) -> CallExecutor | None:
    """Return a function that raises the exceptions of a fast tool, for calls that must not fail; else None."""
    tool = settings.tasks[task].tool
    is_fast = settings.cassette is None and not tool.is_slow
    return partial(_run_strictly, tool) if is_fast else None


def _run_fast_tool(tool: Tool, row: Row, argument: str) -> ToolResult:
    return tool.run(argument)


def _run_strictly(tool: Tool, row: Row, argument: str) -> ToolResult:
    try:
        return tool.run(argument, raise_bugs=True)
    except Exception as error:
        if hasattr(error, "add_note"):  # Python 3.11
            error.add_note(f"raised by the tool {tool.name!r} at the call of {row.id!r} with {argument!r:.200}")
        raise


def _look_up_result(results: Mapping[ToolInput, ToolResult], row: Row, argument: str) -> ToolResult:
    return results[ToolInput(argument, row.language)]


def _look_up_in_cassette(cassette: CassetteLookup, tool: str, row: Row, argument: str) -> ToolResult:
    return cassette(row.id, row.task, tool, argument)


# Before the map -------------------------------------------------------------------------------------------------------


def run_missing(data: Dataset, settings: ExecutionSettings) -> Prepared:
    """Execute the calls of slow tools that have no stored result.

    The salt is empty, since `unfinished` already detects failures that can be retried.
    """
    store = open_store(Path(settings.store))
    fingerprints = [data._fingerprint]
    for name, identity in settings.identities.items():
        inputs = distinct(_inputs_of_table(name, data, settings))
        fingerprints += run_tool(inputs, settings.tasks[name].tool, identity, store, data._fingerprint)
    return Prepared(record={"inputs": fingerprints})


def _inputs_of_table(task: str, data: Dataset, settings: ExecutionSettings) -> Iterator[ToolInput]:
    """Yield the tool inputs of one task in a table, in order."""
    for table in as_arrow(data).iter(1000):
        columns = {path: read_values(table, path) for path in input_columns(settings.names)}
        yield from _tool_inputs(task, rows_of(columns, settings), columns, settings)


def _tool_inputs(task: str, rows: Sequence[Row], columns: Columns, settings: ExecutionSettings) -> list[ToolInput]:
    """Return the distinct tool inputs of one task in a batch, in the order of the rows, however these are divided."""
    tool = settings.tasks[task].tool
    inputs: dict[ToolInput, None] = {}
    for row, *responses in zip(rows, *(responses_of(columns, name) for name in settings.names), strict=True):
        for response in responses:
            if row.task == task and response.text is not None:
                argument = read_call(response.text, tool).argument
                if argument is not None:
                    inputs.setdefault(ToolInput(argument, row.language))
    return list(inputs)
