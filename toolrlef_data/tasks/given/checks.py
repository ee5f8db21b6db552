"""When two tasks are the same, and which tasks may have the name of a task of this package."""

from __future__ import annotations

import functools
from dataclasses import fields, replace
from typing import Any

from toolrlef_data.records import InputError
from toolrlef_data.tables.fingerprint import canonical
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.task import Task

__all__ = ["check_name", "is_same_task", "shipped_differences", "with_setup_of"]

# The fields that set up a task of this package. Its rows mean the same with another reader or other examples.
SETUP = ("reader", "reader_style", "reader_instruction", "examples")


def is_same_task(first: Task, second: Task) -> bool:
    """Return whether two tasks are equal by value, apart from the grading rule, which a stage may choose.

    >>> from toolrlef_data import TASKS
    >>> is_same_task(TASKS["qa"], TASKS["qa"].with_rule("paper")), is_same_task(TASKS["qa"], TASKS["retrieval"])
    (True, False)
    """
    return first is second or canonical(_without_rule(first)) == canonical(_without_rule(second))


def check_name(name: str, task: Task) -> None:
    """Raise an `InputError` if a task with the name of another one differs from it (`shipped_differences`)."""
    if name in TASKS.added and not is_same_task(task, TASKS[name]):
        raise InputError(f'another task is registered as TASKS["{name}"]: register the new one, or rename it')
    if differing := shipped_differences(name, task):
        raise InputError(
            f"{name!r} is a task of this package, and the given task differs from it in {', '.join(differing)}: other "
            'processes would take one for the other. Give your task its own name: task=replace(task, name="mine")'
        )


def shipped_differences(name: str, task: Task) -> list[str]:
    """Return the fields in which a task differs from the one of this package whose name the rows have.

    The reader, the few-shot examples, and a tool with the same name, may differ: they are part of the set-up.
    """
    if name not in TASKS.import_paths or task is TASKS[name]:
        return []
    original = TASKS[name]
    comparable = with_setup_of(original, task)
    if is_same_task(comparable, original):
        return []
    return [f.name for f in fields(task) if f.name != "name" and not _is_equal(f.name, comparable, original)]


def with_setup_of(original: Task, task: Task) -> Task:
    """Return a task with the reader and the examples of another one, and with its tool if both have the same name."""
    tool = original.tool if task.tool.name == original.tool.name else task.tool
    return replace(task, tool=tool, **{field: getattr(original, field) for field in SETUP})


def _is_equal(field: str, first: Task, second: Task) -> bool:
    values = [canonical(getattr(_without_rule(task), field)) for task in (first, second)]
    return bool(values[0] == values[1])


def _without_rule(task: Task) -> Task:
    """Return a task whose functions have no grading rule bound (`Task.with_rule`)."""
    values = {f.name: getattr(task, f.name) for f in fields(task)}
    bound = {name: f for name, f in values.items() if isinstance(f, functools.partial) and _binds_only_rule(f)}
    functions: dict[str, Any] = {name: f.func for name, f in bound.items()}
    return replace(task, **functions) if functions else task


def _binds_only_rule(function: functools.partial[Any]) -> bool:
    return not function.args and function.keywords.keys() == {"rule"}
