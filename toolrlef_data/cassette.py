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
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict, Features, List, Value

from toolrlef_data.columns import RESPONSE
from toolrlef_data.fingerprints import digest
from toolrlef_data.lineage import as_arrow, files_of, lineage, read_record, table_of
from toolrlef_data.reading import READ, any_right
from toolrlef_data.records import CassetteMiss, InputError, MissingColumns, ToolResult
from toolrlef_data.tasks import Task
from toolrlef_data.transform import apply

__all__ = ["EXECUTIONS", "Cassette", "executions", "open_cassette", "replay_readings"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Record = Mapping[str, Any]

STRING = Value("string")
EXECUTIONS = Features(
    id=STRING, task=STRING, tool=STRING, version=STRING, argument=STRING, output=List(STRING), error=STRING
)


# Recording ------------------------------------------------------------------------------------------------------------


def executions(tables: Iterable[Dataset]) -> Dataset:
    """Every tool execution behind some tables, each once (`EXECUTIONS`).

    Raises:
        InputError: no execution is known, since the trail of the tables is cut; or a stage on the way to them is gone
            from the cache, which building the tables again brings back.
    """
    tables = list(tables)
    records = {record["fingerprint"]: record for table in tables for record in lineage(table)}
    kinds = [(_kind(record), record) for record in records.values()]
    if not any(kind == EXECUTE for kind, _ in kinds):
        raise InputError(
            "a cassette needs tables whose responses were executed, as `build_stage2` gave them: no execution is known "
            "behind these, whose trail ends at a table that was shuffled, selected or made elsewhere"
        )
    rows = (row for kind, record in reversed(kinds) for row in READ_BY.get(kind, _none)(record))
    return table_of(_each_once(rows), EXECUTIONS, "executions", [table._fingerprint for table in tables])


def _kind(record: Record) -> str:
    """Which settings a stage had: what tells a stage of ours from a step of the user's that has its name."""
    settings = record["settings"] if isinstance(record["settings"], dict) else {}
    inner = settings.get("settings")
    return str((inner if isinstance(inner, dict) else settings).get("", ""))


def _each_once(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for row in rows:
        key = digest(row["id"], row["task"], row["tool"], row["argument"])
        if key not in seen:
            seen.add(key)
            yield row


def _none(record: Record) -> Iterator[dict[str, Any]]:
    yield from ()


def _calls(record: Record) -> Iterator[dict[str, Any]]:
    settings = record["settings"]
    tools = {name: task["tool"] for name, task in settings["tasks"].items()}
    for row in _rows(record["files"], ["id", "task", *settings["names"]]):
        for name in settings["names"]:
            if (argument := row[name]["argument"]) is not None:
                tool, error = tools[row["task"]], row[name]["tool_error"]
                told = {"id": row["id"], "task": row["task"], "tool": tool["name"], "version": tool["version"]}
                yield {
                    **told,
                    "argument": argument,
                    "output": [] if error else row[name]["predictions"],
                    "error": error,
                }


def _readings(record: Record) -> Iterator[dict[str, Any]]:
    settings, model = record["settings"]["settings"], record["settings"]["spec"]["model"]
    before = read_record(record["inputs"][0])
    if settings["verify"] or before is None:
        return
    names, tools = settings["names"], {name: task["tool"]["name"] for name, task in settings["tasks"].items()}
    rows = zip(_rows(before["files"], ["id", "task", *names]), _rows(record["files"], names), strict=True)
    for given, read in rows:
        for name in names:
            if given["task"] in tools and given[name]["argument"] is not None and given[name]["tool_error"] is None:
                error, argument = read[name]["tool_error"], given[name]["argument"]
                told = {"id": given["id"], "task": given["task"], "tool": _reader_of(tools[given["task"]])}
                output = [] if error else read[name]["predictions"]
                yield {**told, "version": Path(model).name, "argument": argument, "output": output, "error": error}


def _rows(files: Sequence[str], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for file in files:
        if not Path(file).exists():
            raise InputError("a stage that the cassette is made from is gone from the cache: build the tables again")
        for table in as_arrow(Dataset.from_file(file)).iter(500):
            yield from table.select(list(columns)).to_pylist()


def _reader_of(tool: str) -> str:
    return f"reader of {tool}"


EXECUTE = "toolrlef_data.executing:Executing"
READ_BY = {EXECUTE: _calls, "toolrlef_data.reading:Reading": _readings}


# Replaying ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cassette:
    """A cassette in the cache: a digest of its content, and its file."""

    content: str
    store: str

    def play(self, row_id: str, task: str, tool: str, argument: str) -> ToolResult:
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
    own = table_of(({name: row[name] for name in EXECUTIONS} for row in table), EXECUTIONS, "cassette")
    return Cassette(own._fingerprint, files_of(own)[0])


def replay_readings(
    executed: D,
    cassette: Cassette,
    names: Sequence[str],
    tasks: Mapping[str, Task],
    *,
    compat: bool = False,
    num_proc: int | None = None,
) -> D:
    """`reading.read_outputs` from a cassette."""
    if not any(task.reading for task in tasks.values()):
        return executed
    settings = Replaying(dict(tasks), tuple(names), compat, cassette)
    fields = ("argument", *READ)
    return apply(
        executed,
        _read_again,
        settings,
        reads=["id", "task", "answers", *(f"{name}.{field}" for name in names for field in fields)],
        adds={f"{name}.{field}": RESPONSE[field] for name in names for field in READ},
        name="replay readings",
        num_proc=num_proc,
    )


@dataclass(frozen=True)
class Replaying:
    """How readings are replayed."""

    tasks: Mapping[str, Task]
    names: tuple[str, ...]
    compat: bool
    cassette: Cassette


def _read_again(row: Mapping[str, Any], settings: Replaying) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    task = settings.tasks[row["task"]]
    for name in settings.names:
        columns |= {f"{name}.{field}": row[f"{name}.{field}"] for field in READ}
        if task.reading is None or row[f"{name}.argument"] is None or row[f"{name}.tool_error"] is not None:
            continue
        tool = _reader_of(task.tool.name)
        value, error, _ = settings.cassette.play(row["id"], row["task"], tool, row[f"{name}.argument"])
        if error is not None:
            columns |= {f"{name}.tool_error": error, f"{name}.predictions": [], f"{name}.correct": None}
            continue
        predictions = list(value) if isinstance(value, tuple) else []
        answers = row["answers"][:1] if settings.compat else row["answers"]
        columns[f"{name}.predictions"] = predictions
        columns[f"{name}.correct"] = any_right(
            predictions, task, answers, compat=settings.compat, whole=settings.compat
        )
    return columns


@functools.lru_cache(maxsize=2)
def _opened(file: str) -> tuple[Any, dict[tuple[str, ...], int]]:
    """The table, memory-mapped, and where each execution stands in it."""
    table = Dataset.from_file(file).data.table
    named = zip(*(table[name].to_pylist() for name in ("id", "task", "tool", "argument")), strict=True)
    return table, {key: place for place, key in enumerate(named)}
