"""Questions as rows of stage 1 without an output, so that models can respond to them with the tool offered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasets import Dataset

from toolrlef_data.columns import QUESTIONS, STAGE1
from toolrlef_data.tables.transform import apply
from toolrlef_data.tasks.task import Task

__all__ = ["offer_tool"]


def offer_tool(questions: Dataset, tasks: Mapping[str, Task], num_proc: int | None = None) -> Dataset:
    """Return questions with the columns of stage 1: the instruction names the tool, and there is no output.

    Args:
        questions: a table with the columns of `columns.QUESTIONS`; others are removed.
        tasks: every task of the table, by name.
        num_proc: number of processes.
    """
    adds = {name: feature for name, feature in STAGE1.items() if name not in QUESTIONS}
    removes = [name for name in questions.column_names if name not in STAGE1]
    columns: dict[str, Any] = {"reads": list(QUESTIONS), "adds": adds, "removes": removes}
    return apply(questions, _offer, tasks, **columns, name="offered", num_proc=num_proc)


def _offer(row: Mapping[str, Any], tasks: Mapping[str, Task]) -> dict[str, Any]:
    task = tasks[row["task"]]
    unknown = {"output": "", "uses_tool": None, "source": None, "verified_by": None}
    return {"instruction": task.instruction, "input": task.render(row), **unknown}
