"""cassette: every tool execution of a run as a table, and a strict replay from it.

| column | |
|---|---|
| task, tool, version, argument | what was executed |
| output | what it gave: one text, or one a passage; empty where it failed |
| error | a kind of `records.TOOL_ERRORS`, null where it gave something |

Where a model read what a tool gave, that is a row too: the tool is called "reader of WikiSearch", its version is the
model's name, its argument a digest of the input and the tool's output, its output the predictions.

`publish(..., cassette=True)` writes it; `build_stage2(candidates, cassette=table)` rebuilds stage 2 from it, without a
network, a corpus or a model. A row holds what one execution gave; the same call with another result is not recorded.
Not covered: readings while stage 1 was verified.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict, Features, List, Value

from toolrlef_data.columns import RESPONSE
from toolrlef_data.fingerprints import digest
from toolrlef_data.lineage import as_arrow, files_of, lineage, read_record, table_of
from toolrlef_data.reading import READ, any_right
from toolrlef_data.records import CassetteMiss, InputError, MissingColumns, ToolError
from toolrlef_data.tasks import Task
from toolrlef_data.tools import Tool
from toolrlef_data.transform import apply

__all__ = ["EXECUTIONS", "Cassette", "executions", "open_cassette", "replay_readings", "replayed"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Record = Mapping[str, Any]

STRING = Value("string")
EXECUTIONS = Features(task=STRING, tool=STRING, version=STRING, argument=STRING, output=List(STRING), error=STRING)


# Recording ------------------------------------------------------------------------------------------------------------


def executions(tables: Iterable[Dataset]) -> Dataset:
    """Every tool execution behind some tables, each once (`EXECUTIONS`).

    Raises:
        InputError: a stage on the way to them is gone from the cache; building the tables again brings it back.
    """
    records = {record["fingerprint"]: record for table in tables for record in lineage(table)}
    return table_of(_each_once(list(records.values())), EXECUTIONS, "executions")


def _each_once(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for record in records:
        if record["step"] not in ("execute", "read"):
            continue
        for row in _calls(record) if record["step"] == "execute" else _readings(record):
            key = digest(row["task"], row["tool"], row["version"], row["argument"])
            if key not in seen:
                seen.add(key)
                yield row


def _calls(record: Record) -> Iterator[dict[str, Any]]:
    settings = record["settings"]
    tools = {name: task["tool"] for name, task in settings["tasks"].items()}
    for row in _rows(record["files"], ["task", *settings["names"]]):
        for name in settings["names"]:
            if (argument := row[name]["argument"]) is not None:
                tool, error = tools[row["task"]], row[name]["tool_error"]
                told = {"task": row["task"], "tool": tool["name"], "version": tool["version"], "argument": argument}
                yield {**told, "output": [] if error else row[name]["predictions"], "error": error}


def _readings(record: Record) -> Iterator[dict[str, Any]]:
    settings, model = record["settings"]["settings"], record["settings"]["spec"]["model"]
    before = read_record(record["inputs"][0])
    files = before["files"] if before else []
    first = Dataset.from_file(files[0]) if files else None
    if first is None or "input" not in first.column_names:
        return
    names, tools = settings["names"], {name: task["tool"]["name"] for name, task in settings["tasks"].items()}
    rows = zip(_rows(files, ["task", "input", *names]), _rows(record["files"], names), strict=True)
    for given, read in rows:
        for name in names:
            if given["task"] in tools and given[name]["argument"] is not None and given[name]["tool_error"] is None:
                error = read[name]["tool_error"]
                told = {"task": given["task"], "tool": _reader_of(tools[given["task"]]), "version": Path(model).name}
                argument = digest(given["input"], given[name]["predictions"])
                output = [] if error else read[name]["predictions"]
                yield {**told, "argument": argument, "output": output, "error": error}


def _rows(files: Sequence[str], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for file in files:
        if not Path(file).exists():
            raise InputError("a stage that the cassette is made from is gone from the cache: build the tables again")
        for table in as_arrow(Dataset.from_file(file)).iter(500):
            yield from table.select(list(columns)).to_pylist()


def _reader_of(tool: str) -> str:
    return f"reader of {tool}"


# Replaying ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cassette:
    """A cassette in the cache: a digest of its content, and its file."""

    content: str
    store: str

    def play(self, tool: str, argument: str, shown: str = "") -> tuple[str, ...]:
        """What an execution gave.

        Raises:
            ToolError: it failed then, so it fails now.
            CassetteMiss: the cassette does not hold it.
        """
        table, places = _opened(self.store)
        place = places.get((tool, argument))
        if place is None:
            raise CassetteMiss(f"the cassette holds no {shown or f'{tool}({argument!r:.200})'}")
        if error := table["error"][place].as_py():
            raise ToolError(error, "as recorded in the cassette")
        return tuple(table["output"][place].as_py())


def open_cassette(table: Dataset) -> Cassette:
    """A published cassette, ready to be played."""
    if not isinstance(table, Dataset):
        raise InputError(f"cassette= takes one Dataset, found a {type(table).__name__}")
    if missing := [name for name in EXECUTIONS if name not in table.column_names]:
        raise MissingColumns(f"cassette= lacks {', '.join(missing)}; found {', '.join(table.column_names)}")
    own = table_of(({name: row[name] for name in EXECUTIONS} for row in table), EXECUTIONS, "cassette")
    return Cassette(own._fingerprint, files_of(own)[0])


def replayed(task: Task, cassette: Cassette) -> Task:
    """A task whose tool plays a cassette."""
    tool = Tool(
        task.tool.name,
        task.tool.description,
        functools.partial(_play, cassette, task.tool.name),
        task.tool.parameter,
        f"cassette {cassette.content}",
    )
    return replace(task, tool=tool)


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
    settings = Replaying(dict(tasks), tuple(names), compat, cassette)
    fields = ("argument", *READ)
    return apply(
        executed,
        _read_again,
        settings,
        reads=["task", "input", "answers", *(f"{name}.{field}" for name in names for field in fields)],
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


def _play(cassette: Cassette, tool: str, argument: str) -> tuple[str, ...]:
    return cassette.play(tool, argument)


def _read_again(row: Mapping[str, Any], settings: Replaying) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    task = settings.tasks[row["task"]]
    for name in settings.names:
        columns |= {f"{name}.{field}": row[f"{name}.{field}"] for field in READ}
        if task.reading is None or row[f"{name}.argument"] is None or row[f"{name}.tool_error"] is not None:
            continue
        argument = digest(row["input"], row[f"{name}.predictions"])
        shown = f"{_reader_of(task.tool.name)}({row[f'{name}.argument']!r:.200}) for {name} of {row['input']!r:.80}"
        try:
            predictions = list(settings.cassette.play(_reader_of(task.tool.name), argument, shown))
        except ToolError as error:
            columns |= {f"{name}.tool_error": error.kind, f"{name}.predictions": [], f"{name}.correct": None}
            continue
        answers = row["answers"][:1] if settings.compat else row["answers"]
        columns[f"{name}.predictions"] = predictions
        columns[f"{name}.correct"] = any_right(
            predictions, task, answers, compat=settings.compat, whole=settings.compat
        )
    return columns


@functools.lru_cache(maxsize=2)
def _opened(file: str) -> tuple[Any, dict[tuple[str, str], int]]:
    """The table, memory-mapped, and where each execution stands in it."""
    table = Dataset.from_file(file).data.table
    named = zip(table["tool"].to_pylist(), table["argument"].to_pylist(), strict=True)
    return table, {key: place for place, key in enumerate(named)}
