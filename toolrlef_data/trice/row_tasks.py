"""The tasks of a table, looked up by the names in its column `task`."""

from __future__ import annotations

from collections.abc import Mapping

from datasets import Dataset, DatasetDict

from toolrlef_data.columns import require_columns
from toolrlef_data.records import InputError, UnknownName
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.task import Task

__all__ = ["tasks_of"]


def tasks_of(data: Dataset | DatasetDict, task: Task | Mapping[str, Task] | None) -> dict[str, Task]:
    """Return the tasks of a table by the names in its column `task`.

    Args:
        data: a table with the column `task`.
        task: one task for every row, or a mapping of names in the column to tasks; missing names use `TASKS`.

    Raises:
        UnknownName: a row, or a name in `task`, has a task that is not in `TASKS`.
        InputError: `task` has another type.
    """
    custom = {} if task is None or isinstance(task, Task) else task
    if not isinstance(custom, Mapping) or not all(isinstance(value, Task) for value in custom.values()):
        raise InputError(
            f"task: expected a Task, or a mapping of names to Tasks such as {{'qa': qa}}, found {task!r:.80}"
        )
    splits = list(data.values()) if isinstance(data, DatasetDict) else [data]
    for split in splits:
        require_columns(split, ["task"], "the task of a row")
    names = sorted({name for split in splits for name in split.unique("task")}, key=str)
    for name, value in custom.items():
        if name not in names and name not in TASKS and name != value.name:
            raise UnknownName("task in task=", name, [*names, *TASKS])
    return {name: task if isinstance(task, Task) else custom[name] if name in custom else TASKS[name] for name in names}
