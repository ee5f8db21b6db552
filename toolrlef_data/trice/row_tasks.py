"""The tasks of a table, looked up by the names in its column `task`, and the graders in its lineage."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping

from datasets import Dataset, DatasetDict

from toolrlef_data.checks import require_columns
from toolrlef_data.records import InputError, UnknownName
from toolrlef_data.tables.lineage import lineage
from toolrlef_data.tables.redaction import redact
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.task import RULES, Task

__all__ = ["check_tasks", "tasks_of", "warn_of_older_grades"]

GRADING_STAGES = ("graded", "execute", "read")  # names of the stages of `grade` and `execute`
log = logging.getLogger("toolrlef_data")


def tasks_of(data: Dataset | DatasetDict, task: Task | Mapping[str, Task] | None) -> dict[str, Task]:
    """Return the tasks of a table by the names in its column `task`.

    Args:
        data: a table with the column `task`.
        task: one task for every row, or a mapping of names in the column to tasks; missing names use `TASKS`.

    Raises:
        UnknownName: a row, or a name in `task`, has a task that is not in `TASKS`.
        InputError: `task` has another type.
    """
    check_tasks(task)
    custom = {} if task is None or isinstance(task, Task) else task
    splits = list(data.values()) if isinstance(data, DatasetDict) else [data]
    for split in splits:
        require_columns(split, ["task"], "the task of a row")
    names = sorted({name for split in splits for name in split.unique("task")}, key=str)
    for name, value in custom.items():
        if name not in names and name not in TASKS and name != value.name:
            raise UnknownName("task in task=", name, [*names, *TASKS])
    return {name: task if isinstance(task, Task) else custom[name] if name in custom else TASKS[name] for name in names}


def check_tasks(task: object) -> None:
    """Raise an `InputError` for an argument `task` that is neither None, a task, nor a mapping of names to tasks."""
    custom = {} if task is None or isinstance(task, Task) else task
    if not isinstance(custom, Mapping) or not all(isinstance(value, Task) for value in custom.values()):
        raise InputError(
            f"task: expected a Task, or a mapping of names to Tasks such as {{'qa': qa}}, found {task!r:.80}"
        )


def warn_of_older_grades(tables: Iterable[Dataset | DatasetDict], tasks: Mapping[str, Task]) -> None:
    """Log a warning if a grader has been changed in this package since it graded rows in the lineage of tables.

    A table that was made before an upgrade keeps its grades, also if it is pickled and read after it.
    """
    splits = [split for table in tables for split in (table.values() if isinstance(table, DatasetDict) else [table])]
    for step, name in sorted({outdated for split in splits for outdated in _outdated(split, tasks)}):
        log.warning(
            "the stage %r graded the task %r by an earlier version of its grader: run it again on its input", step, name
        )


def _outdated(data: Dataset, tasks: Mapping[str, Task]) -> Iterator[tuple[str, str]]:
    """Yield (stage, task) for the grades of a lineage that were made by the same function, but by other code."""
    latest = {}  # a later stage on the same columns replaces the grades
    for record in lineage(data):
        settings = record.get("published") or {}  # missing in records of earlier versions
        if record["step"] in GRADING_STAGES and "tasks" in settings:
            latest[record["step"], repr(settings.get("names"))] = settings["tasks"]
    for (step, _), used_tasks in latest.items():
        for name, used in used_tasks.items():
            task = tasks.get(name)
            if task is None or used.get("grader_code") == task.grader_code():
                continue
            if used.get("grade") in [
                redact(task.with_rule(rule).grade) for rule in (RULES if task.has_rules else RULES[:1])
            ]:
                yield step, name
