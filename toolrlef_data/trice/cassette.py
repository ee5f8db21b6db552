"""cassette: every tool execution of a run as a table, and a strict replay from it.

| column | |
|---|---|
| id, task | of the row whose response called the tool |
| tool, version, argument | what was executed |
| output | what it gave: one text, or one a passage; empty where it failed |
| error | a kind of `records.TOOL_ERRORS`, null where it gave something |

Where a model read what a tool gave, that is a row too: the tool is called "reader of WikiSearch", its version is the
model's name, its output the predictions.

`publish(..., cassette=True)` writes it; `build_stage2(candidates, cassette=table)` rebuilds stage 2 from it, without a
network, a corpus or a model. Of a call that was executed twice for one row, while stage 1 was verified and for stage 2,
the later execution stands. Not covered: readings while stage 1 was verified.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value

from toolrlef_data.records import CassetteMiss, InputError, MissingColumns, ToolResult
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.lineage import lineage
from toolrlef_data.tables.stage_cache import arrow_files, as_arrow, read_record, table_from_rows
from toolrlef_data.trice.execution import ExecutionSettings
from toolrlef_data.trice.reader import Reading, reader_of

__all__ = ["EXECUTIONS", "Cassette", "collect_executions", "open_cassette"]

Record = Mapping[str, Any]

STRING = Value("string")
EXECUTIONS = Features(
    id=STRING, task=STRING, tool=STRING, version=STRING, argument=STRING, output=List(STRING), error=STRING
)


# Recording ------------------------------------------------------------------------------------------------------------


def collect_executions(tables: Iterable[Dataset]) -> Dataset:
    """Every tool execution behind some tables, each once (`EXECUTIONS`).

    Raises:
        InputError: no execution is known, since the trail of the tables is cut; or a stage on the way to them is gone
            from the cache, which building the tables again brings back.
    """
    tables = list(tables)
    records = {record["fingerprint"]: record for table in tables for record in lineage(table)}
    stages = [(_kind(record), record) for record in records.values()]
    if not any(kind == ExecutionSettings.kind for kind, _ in stages):
        raise InputError(
            "a cassette needs tables whose responses were executed, as `build_stage2` gave them: no execution is known "
            "behind these, whose trail ends at a table that was shuffled, selected or made elsewhere"
        )
    rows = (row for kind, record in reversed(stages) if kind in ROWS_OF for row in ROWS_OF[kind](record))
    return table_from_rows(_each_once(rows), EXECUTIONS, "executions", [table._fingerprint for table in tables])


def _kind(record: Record) -> str:
    """The kind of a stage's settings: what tells a stage of ours from a step of the user's that has its name."""
    settings = record["settings"] if isinstance(record["settings"], dict) else {}
    inner = settings.get("settings")  # of a stage that asks a model
    return str((inner if isinstance(inner, dict) else settings).get("", ""))


def _each_once(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for row in rows:
        key = digest(row["id"], row["task"], row["tool"], row["argument"])
        if key not in seen:
            seen.add(key)
            yield row


def _calls(record: Record) -> Iterator[dict[str, Any]]:
    names, tools = record["settings"]["names"], _tools(record["settings"])
    for row in _rows(record["files"], ["id", "task", *names]):
        tool = tools[row["task"]]
        for name in names:
            if (argument := row[name]["argument"]) is not None:
                yield _execution(row, tool["name"], tool["version"], argument, row[name])


def _readings(record: Record) -> Iterator[dict[str, Any]]:
    settings, model = record["settings"]["settings"], record["settings"]["spec"]["model"]
    before = read_record(record["inputs"][0])
    if settings["verify"] or before is None:
        return
    names, tools = settings["names"], _tools(settings)
    rows = zip(_rows(before["files"], ["id", "task", *names]), _rows(record["files"], names), strict=True)
    for row, read in rows:
        for name in names:
            argument, error = row[name]["argument"], row[name]["tool_error"]
            if row["task"] in tools and argument is not None and error is None:
                yield _execution(row, reader_of(tools[row["task"]]["name"]), Path(model).name, argument, read[name])


def _tools(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: task["tool"] for name, task in settings["tasks"].items()}


def _execution(
    row: Mapping[str, Any], tool: str, version: str, argument: str, response: Mapping[str, Any]
) -> dict[str, Any]:
    error = response["tool_error"]
    output = [] if error else response["predictions"]
    named = {"id": row["id"], "task": row["task"], "tool": tool, "version": version, "argument": argument}
    return {**named, "output": output, "error": error}


def _rows(files: Sequence[str], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for file in files:
        if not Path(file).exists():
            raise InputError("a stage that the cassette is made from is gone from the cache: build the tables again")
        for table in as_arrow(Dataset.from_file(file)).iter(500):
            yield from table.select(list(columns)).to_pylist()


ROWS_OF = {ExecutionSettings.kind: _calls, Reading.kind: _readings}


# Replaying ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cassette:
    """A cassette in the cache: a digest of its content, and its file."""

    content: str
    store: str

    def __call__(self, row_id: str, task: str, tool: str, argument: str) -> ToolResult:
        """What an execution gave.

        Raises:
            CassetteMiss: the cassette does not hold it.
        """
        table, places = _opened(self.store)
        place = places.get((row_id, task, tool, argument))
        if place is None:
            raise CassetteMiss(f"the cassette holds no {tool}({argument!r:.200}) for {task} {row_id!r}")
        if error := table["error"][place].as_py():
            return ToolResult(error=error, detail="as recorded in the cassette")
        return ToolResult(tuple(table["output"][place].as_py()))


def open_cassette(table: Dataset) -> Cassette:
    """A published cassette, ready to be played."""
    if not isinstance(table, Dataset):
        raise InputError(f"cassette= takes one Dataset, found a {type(table).__name__}")
    if missing := [name for name in EXECUTIONS if name not in table.column_names]:
        raise MissingColumns(f"cassette= lacks {', '.join(missing)}; found {', '.join(table.column_names)}")
    own = table_from_rows(({name: row[name] for name in EXECUTIONS} for row in table), EXECUTIONS, "cassette")
    return Cassette(own._fingerprint, arrow_files(own)[0])


@functools.lru_cache(maxsize=2)
def _opened(file: str) -> tuple[Any, dict[tuple[str, ...], int]]:
    """The table, memory-mapped, and where each execution stands in it."""
    table = Dataset.from_file(file).data.table
    named = zip(*(table[name].to_pylist() for name in ("id", "task", "tool", "argument")), strict=True)
    return table, {key: place for place, key in enumerate(named)}
