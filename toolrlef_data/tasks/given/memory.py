"""The memory of this process: the tasks that were given for a table, by its lineage, and for a name.

A task is given with `make_questions(task=...)` or `task=` of a stage. It holds for all tables that are computed from
that table, also after `select` or `shuffle` of `datasets`, whose tables share the files of a stage. A table without a
known lineage, such as after `map` of `datasets`, has the latest task of that name. Nothing is written: another process
knows only `TASKS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.records import InputError, UnknownName
from toolrlef_data.tables.lineage import lineage
from toolrlef_data.tables.stage_cache import arrow_files, stages_dir, with_fingerprint
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.given.checks import is_same_task
from toolrlef_data.tasks.task import Task

__all__ = ["find_task", "remember_tasks", "tasks_on_trail"]

D = TypeVar("D", bound="Dataset | DatasetDict")
_of_tables: dict[str, dict[str, Task]] = {}  # fingerprint -> the tasks that were given for the table, by name
_by_name: dict[str, Task] = {}  # the latest task of each name that is not in TASKS


def remember_tasks(data: D, tasks: Mapping[str, Task]) -> D:
    """Return a table, and remember the tasks of its rows by the names in its column `task`.

    A task that is the one of this package is not remembered: another one may still be given.
    """
    own = {name: task for name, task in tasks.items() if name not in TASKS.import_paths or task is not TASKS[name]}
    if own or _of_tables:
        for key in [key for split in _splits(data) for key in _keys(split)]:
            earlier = _of_tables.pop(key, {})
            if new := {name: task for name, task in earlier.items() if name not in tasks} | own:
                _of_tables[key] = new
    _by_name.update({name: task for name, task in own.items() if name not in TASKS})
    return data


def tasks_on_trail(data: Dataset | DatasetDict) -> dict[str, Task]:
    """Return the tasks that were given for a table or for a table that it was computed from, by name.

    Raises:
        InputError: the table was put together from tables with different tasks of one name.
    """
    found: dict[str, Task] = {}
    for split in _splits(data) if _of_tables else ():
        for name, task in _tasks_of_split(split).items():
            _add(found, name, task)
    return found


def find_task(name: str) -> Task:
    """Return the task of a name in `TASKS`, or the latest task of that name that was given in this process.

    Raises:
        UnknownName: no task has this name; the message says how to register one.
    """
    if name in TASKS:
        return TASKS[name]
    if name in _by_name:
        return _by_name[name]
    error = UnknownName("task", name, [*TASKS, *_by_name])
    error.message += f'; register your task with TASKS["{name}"] = my_task, or pass task='
    error.args = (error.message,)
    raise error


def _splits(data: Dataset | DatasetDict) -> Iterable[Dataset]:
    return data.values() if isinstance(data, DatasetDict) else [data]


def _tasks_of_split(split: Dataset) -> dict[str, Task]:
    """Return the tasks of the nearest tables of the lineage; after `select`, of the stages whose files it shares."""
    if records := lineage(split):
        return _nearest(records)
    tasks: dict[str, Task] = {}
    for key in _keys(split):
        for name, task in _nearest(lineage(with_fingerprint(split, key))).items():
            _add(tasks, name, task)
    return tasks


def _nearest(records: Sequence[Mapping[str, Any]]) -> dict[str, Task]:
    tasks: dict[str, Task] = {}
    for record in reversed(records):
        tasks = {**_of_tables.get(record["fingerprint"], {}), **tasks}
    return tasks


def _add(tasks: dict[str, Task], name: str, task: Task) -> None:
    if not is_same_task(tasks.setdefault(name, task), task):
        raise InputError(f"the table holds rows of two different tasks named {name!r}: rename one of them")


def _keys(split: Dataset) -> list[str]:
    """Return the fingerprint of a table, and those of the stages whose files it shares."""
    files = [Path(file) for file in arrow_files(split)]
    shared = [file.stem.partition("-")[0] for file in files if file.parent == stages_dir()]
    return list(dict.fromkeys([split._fingerprint, *shared]))
