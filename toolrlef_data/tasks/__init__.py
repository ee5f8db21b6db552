"""Tasks: what a question looks like, how an answer is read and graded. One file a task; `TASKS` names them.

`task` says what a `Task` is. `math` grades with `numbers`; `qa`, `lama` and `mlqa` with `text_answers`.

To add one, write a file with a `Task` in it and a line in `TASKS`. Your own task needs neither: make a `Task`, in any
language, and pass it as `task=`.
"""

from __future__ import annotations

from toolrlef_data.records import Choices
from toolrlef_data.tasks.task import Task

__all__ = ["TASKS"]

TASKS: Choices[Task] = Choices(
    "task",
    {
        "math": "toolrlef_data.tasks.math:MATH",
        "qa": "toolrlef_data.tasks.qa:QA",
        "retrieval": "toolrlef_data.tasks.qa:RETRIEVAL",
        "lama": "toolrlef_data.tasks.lama:LAMA",
        "mlqa": "toolrlef_data.tasks.mlqa:MLQA",
    },
)
