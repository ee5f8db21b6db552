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
from toolrlef_data.tasks.given.checks import is_same_task, shipped_differences, with_setup_of
from toolrlef_data.tasks.given.memory import find_task, tasks_on_trail
from toolrlef_data.tasks.task import RULES, Task

__all__ = ["check_tasks", "tasks_of", "warn_of_older_grades"]

GRADING_STAGES = ("graded", "execute", "read")  # names of the stages of `grade` and `execute`
log = logging.getLogger("toolrlef_data")


def tasks_of(data: Dataset | DatasetDict, task: Task | Mapping[str, Task] | None) -> dict[str, Task]:
    """Return the tasks of a table by the names in its column `task`.

    A name that `task` lacks is looked up among the tasks that were given for this table or its inputs. Otherwise it is
    a name in `TASKS`, or the latest task of that name that was given in this process. A table without rows has the
    names in `task`, so that its stages have the same settings as with rows.

    Args:
        data: a table with the column `task`.
        task: one task for every row, or a mapping of names in the column to tasks.

    Raises:
        UnknownName: a row, or a name in `task`, has an unknown task.
        InputError: `task` has another type, or differs from the task that was given before, or from the one of this
            package that the rows name. Their set-up may differ: the reader, the examples, a tool with the same name.
    """
    check_tasks(task)
    custom = {} if task is None or isinstance(task, Task) else task
    splits = list(data.values()) if isinstance(data, DatasetDict) else [data]
    for split in splits:
        require_columns(split, ["task"], "the task of a row")
    names = sorted({name for split in splits for name in split.unique("task")}, key=str)
    if not any(len(split) for split in splits):
        names = sorted(custom) if not isinstance(task, Task) else [task.name]
    for name, value in custom.items():
        if name not in names and name not in TASKS and name != value.name:
            raise UnknownName("task in task=", name, [*names, *TASKS])
    earlier = tasks_on_trail(data)
    tasks: dict[str, Task] = {}
    for name in names:
        given = task if isinstance(task, Task) else custom.get(name)
        if (
            given is not None
            and name in earlier
            and not is_same_task(with_setup_of(earlier[name], given), earlier[name])
        ):
            raise InputError(
                f"another task was given for the rows {name!r} of this table at an earlier stage: omit task=, or run "
                "the earlier stages again with the new task"
            )
        if given is not None and name not in earlier and (differing := shipped_differences(name, given)):
            raise InputError(
                f"the rows have the task {name!r} of this package, and the given task differs from it in "
                f"{', '.join(differing)}: other processes would take one for the other. Give your task its own name, "
                'and the rows your task: make_questions(questions, task=replace(task, name="mine"), id="id", '
                'context="context", solution="solution")'
            )
        tasks[name] = given or earlier.get(name) or find_task(name)
    return tasks


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
