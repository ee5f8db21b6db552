"""Cassettes: the tool executions of a run recorded as a table, and their strict replay (a missing call is an error).

| column | content |
|---|---|
| id, task | the row whose response called the tool |
| tool, version, argument | the executed call |
| output | the tool output: one text, or one text per passage; empty if the tool failed |
| error, detail | the error kind (`records.ToolError`) and its message; null if the tool succeeded |

The predictions of a reader are recorded as rows too. Their tool is "reader of WikiSearch", their version is the name of
the model, and their output contains the predictions.

`publish(..., cassette=True)` writes a cassette. `build_stage2(candidates, cassette=table)` rebuilds stage 2 from it,
without network, corpus or model. A call that was executed for stage 1 and for stage 2 is recorded once, with the later
result. Not covered: predictions of readers that verified calls for stage 1.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value

from toolrlef_data.records import CassetteMiss, InputError, MissingColumns, ToolResult
from toolrlef_data.tables.identity import HashTable, distinct, text_hash
from toolrlef_data.tables.lineage import lineage
from toolrlef_data.tables.row_files import table_from_rows
from toolrlef_data.tables.stage_cache import arrow_files, as_arrow, open_recorded, read_record
from toolrlef_data.trice.call_execution import ExecutionSettings
from toolrlef_data.trice.reader import ReaderSettings, reader_name

__all__ = ["EXECUTIONS", "Cassette", "collect_executions", "open_cassette", "stages_called", "stages_read"]

Record = Mapping[str, Any]

STRING = Value("string")
EXECUTIONS = Features(
    id=STRING,
    task=STRING,
    tool=STRING,
    version=STRING,
    argument=STRING,
    output=List(STRING),
    error=STRING,
    detail=STRING,
)
CALL = ("id", "task", "tool", "argument")
LATER = ("detail",)  # missing in cassettes published before


# Recording ------------------------------------------------------------------------------------------------------------


def collect_executions(tables: Iterable[Dataset]) -> Dataset:
    """Return the distinct tool executions that produced the tables, with the features `EXECUTIONS`.

    Raises:
        InputError: the lineage of the tables has no execution.
        ToolrlefError: the file of a stage is missing or damaged.
    """
    tables = list(tables)
    records = {record["fingerprint"]: record for table in tables for record in lineage(table)}
    stages = [(_kind(record), record) for record in records.values()]
    if not any(kind == ExecutionSettings.kind for kind, _ in stages):
        raise InputError(
            "a cassette needs tables with executed responses, such as those of `build_stage2`; found no execution in "
            "the lineage of these tables, which ends at a table that was shuffled, selected or built elsewhere"
        )
    rows = (row for kind, record in reversed(stages) if kind in ROW_READERS for row in ROW_READERS[kind](record))
    first_rows = distinct(rows, lambda row: [row[name] for name in CALL])
    return table_from_rows(first_rows, EXECUTIONS, "executions", [table._fingerprint for table in tables])


def stages_read(tables: Iterable[Dataset]) -> list[str]:
    """Return the fingerprints of the stages whose rows `collect_executions` reads."""
    records = {record["fingerprint"]: record for table in tables for record in lineage(table)}
    kinds = {key: _kind(record) for key, record in records.items()}
    executed = [key for key, kind in kinds.items() if kind == ExecutionSettings.kind]
    readers = [key for key, kind in kinds.items() if kind == ReaderSettings.kind]
    used = [key for key in readers if not records[key]["settings"]["settings"]["verify"]]
    return list(dict.fromkeys([*executed, *(name for key in used for name in (records[key]["inputs"][0], key))]))


def stages_called(record: Record) -> list[str]:
    """Return the fingerprints of the stages in which engines of tools answer the calls of an execution."""
    called: list[str] = record["inputs"][1:] if _kind(record) == ExecutionSettings.kind else []
    return called


def _kind(record: Record) -> str:
    """Return the `kind` of a stage's settings, which distinguishes it from a user's stage of the same name."""
    settings = record["settings"] if isinstance(record["settings"], dict) else {}
    model_settings = settings.get("settings")  # of a model stage
    return str((model_settings if isinstance(model_settings, dict) else settings).get("", ""))


def _tool_rows(record: Record) -> Iterator[dict[str, Any]]:
    """Yield the tool executions of a stage."""
    names, tools = record["settings"]["names"], _tools(record["settings"])
    for row in _rows(record, ["id", "task", *names]):
        tool = tools[row["task"]]
        for name in names:
            if (argument := row[name]["argument"]) is not None:
                yield _execution_row(row, tool["name"], tool["version"], argument, row[name])


def _reader_rows(record: Record) -> Iterator[dict[str, Any]]:
    """Yield the predictions of a reader stage, except of one that verified calls for stage 1."""
    settings, model = record["settings"]["settings"], record["settings"]["spec"]["model"]
    executed = read_record(record["inputs"][0])
    if settings["verify"] or executed is None:
        return
    names, tools = settings["names"], _tools(settings)
    rows = zip(_rows(executed, ["id", "task", *names]), _rows(record, names), strict=True)
    for row, predicted in rows:
        for name in names:
            argument, error = row[name]["argument"], row[name]["tool_error"]
            if row["task"] in tools and argument is not None and error is None:
                tool = reader_name(tools[row["task"]]["name"])
                yield _execution_row(row, tool, Path(model).name, argument, predicted[name])


def _tools(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: task["tool"] for name, task in settings["tasks"].items()}


def _execution_row(
    row: Mapping[str, Any], tool: str, version: str, argument: str, response: Mapping[str, Any]
) -> dict[str, Any]:
    error = response["tool_error"]
    output = [] if error else response["predictions"]
    call = {"id": row["id"], "task": row["task"], "tool": tool, "version": version, "argument": argument}
    return {**call, "output": output, "error": error, "detail": response.get("tool_error_detail")}


def _rows(record: Record, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for table in as_arrow(open_recorded(record)).iter(500):
        yield from table.select(list(columns)).to_pylist()


ROW_READERS = {ExecutionSettings.kind: _tool_rows, ReaderSettings.kind: _reader_rows}


# Replay ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cassette:
    """A cassette in the cache.

    Args:
        content: a digest of the rows.
        store: the path of its Arrow file.
    """

    content: str
    store: str

    def __call__(self, row_id: str, task: str, tool: str, argument: str) -> ToolResult:
        """Return the recorded result of a call.

        Raises:
            CassetteMiss: the cassette does not contain the call.
        """
        table, indices = _load_index(self.store)
        index = indices[text_hash(repr((row_id, task, tool, argument)))] - 1
        if index < 0:
            raise CassetteMiss(f"the cassette does not contain {tool}({argument!r:.200}) for {task} {row_id!r}")
        if error := table["error"][index].as_py():
            return ToolResult(error=error, detail=table["detail"][index].as_py() or "")
        return ToolResult(tuple(table["output"][index].as_py()))


def open_cassette(table: Dataset) -> Cassette:
    """Store the table of a cassette in the cache, and return it as a `Cassette`.

    Raises:
        InputError: `table` is not a single Dataset.
        MissingColumns: the table lacks columns of `EXECUTIONS`.
    """
    if not isinstance(table, Dataset):
        raise InputError(f"cassette: expected one Dataset, found {type(table).__name__}")
    if missing := [name for name in EXECUTIONS if name not in (*table.column_names, *LATER)]:
        raise MissingColumns(
            f"the cassette lacks the columns {', '.join(missing)}; found {', '.join(table.column_names)}"
        )
    stored = table_from_rows(({name: row.get(name) for name in EXECUTIONS} for row in table), EXECUTIONS, "cassette")
    return Cassette(stored._fingerprint, arrow_files(stored)[0])


@functools.lru_cache(maxsize=2)
def _load_index(file: str) -> tuple[Any, HashTable]:
    """Return the memory-mapped table, and hash of each call -> its row number + 1."""
    data, indices = Dataset.from_file(file), HashTable("Q")
    calls = (call for batch in data.select_columns(list(CALL)).iter(1000) for call in zip(*batch.values(), strict=True))
    for n, call in enumerate(calls, start=1):
        indices[text_hash(repr(call))] = n
    return data.data.table, indices
