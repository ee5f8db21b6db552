"""Tasks: the prompts, tool, parsing and grading of a kind of question. `TASKS` lists them, one file each.

| file | contents |
|---|---|
| `task` | the class `Task` |
| `math` | math word problems, a calculator |
| `qa` | open questions, a Wikipedia search |
| `lama` | clozes, a QA model |
| `mlqa` | questions in other languages, a translator |
| `numbers` | numbers in text, for `math` |
| `final_numbers` | the number that a response gives as its answer, for `math` |
| `number_forms` | fractions, powers of ten and units, for `final_numbers` |
| `answer_marks` | answers that a response marks: boxes, `####` lines, "the answer is X." |
| `text_answers` | grading of answers in words, for `qa`, `lama` and `mlqa` |
| `statements` | what an answer states, for `text_answers` |
| `words` | forms in which words are compared |
| `audit` | error rates of a grader, measured with generated answers |
| `given/` | the tasks of the user: which task belongs to the rows of a table |

To add a task, write a file with a `Task` and add it to `TASKS`. A custom task needs neither: pass a `Task` as `task=`
to `make_questions`, or register it with `TASKS["dates"] = my_task`.
"""

from __future__ import annotations

from toolrlef_data.choices import Choices
from toolrlef_data.records import InputError
from toolrlef_data.tasks.task import Task

__all__ = ["TASKS"]


class TaskChoices(Choices[Task]):
    """The registry of tasks; `TASKS["dates"] = my_task` registers a task of the user in this process."""

    def __setitem__(self, name: str, task: Task) -> None:
        if not isinstance(task, Task):
            raise InputError(f"TASKS[{name!r}]: expected a Task, found {type(task).__name__}")
        if name in self.import_paths:
            raise InputError(f"TASKS[{name!r}] is a task of this package: give your task another name")
        if name != task.name:
            raise InputError(f"TASKS[{name!r}]: expected a task of this name, found {task.name!r}")
        self.added[name] = task


TASKS: TaskChoices = TaskChoices(
    "task",
    {
        "math": "toolrlef_data.tasks.math:MATH",
        "qa": "toolrlef_data.tasks.qa:QA",
        "retrieval": "toolrlef_data.tasks.qa:RETRIEVAL",
        "lama": "toolrlef_data.tasks.lama:LAMA",
        "mlqa": "toolrlef_data.tasks.mlqa:MLQA",
    },
)
