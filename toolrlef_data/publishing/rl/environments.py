"""A task as an environment for TRL's `GRPOTrainer(environment_factory=...)`.

The tool of the task is a method, from whose type hints and docstring TRL makes the schema. TRL executes native calls in
a rollout and shows the environment these calls, but not the text of the model. Therefore the environment grades the
output of the last call, and `reward` grades the last message of the model, with or without a call. With both, only
`reward` counts.

Not covered: tools and readers that need a model.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from toolrlef_data.records import InputError, ToolResult
from toolrlef_data.tasks.given.memory import find_task
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.boundary import result_text
from toolrlef_data.tools.tool import Tool
from toolrlef_data.trice.execution import grade_result

__all__ = ["Environment", "environment", "trainable_task"]

RESERVED = ("get_reward", "reset")  # methods that TRL does not show to the model


class Environment:
    """The state of one rollout: the gold answers of its row, and the results of its calls.

    `environment` makes a subclass for each task, with the tool as a method. TRL shows all public methods to the model
    except `reset` and `get_reward`.

    Args:
        is_graded: whether a reward function has graded the rollout; set by `reward`.
    """

    _task: ClassVar[Task]

    def __init__(self) -> None:
        self.is_graded = False
        self._answers: Sequence[str] = ()
        self._results: list[ToolResult] = []

    if TYPE_CHECKING:  # the tools

        def __getattr__(self, name: str) -> Any: ...

    def __call__(self) -> Environment:
        """Return a new environment of the same task: an environment is the factory of its like."""
        return type(self)()

    def reset(self, **row: Any) -> str | None:
        """Begin the rollout of a row.

        Args:
            row: a row of the format "trl_grpo", or of questions.

        Returns:
            None, because the row has its prompt; without one, the instruction and the input.

        Raises:
            InputError: the row lacks `answers`, or is of another task.
        """
        if row.get("task") not in (None, self._task.name):
            raise InputError(f"environment: expected a row of the task {self._task.name!r}, found {row['task']!r}")
        if row.get("answers") is None:
            found = ", ".join(row) or "none"
            raise InputError(f'environment: expected the column answers, as in the format "trl_grpo", found {found}')
        self.is_graded = False
        self._answers, self._results = row["answers"], []
        if row.get("prompt"):
            return None
        text = row["input"] if "input" in row else self._task.render(row)
        return f"{row.get('instruction') or self._task.instruction}\n\n{text}"

    def get_reward(self) -> float | None:
        """Return 1 if the output of the last call is right, 0 if it is wrong.

        None if there is no call, the output cannot be graded, or a reward function has graded the rollout.
        """
        if self.is_graded or not self._results:
            return None
        grade = grade_result(self._results[-1], self._answers, self._task)
        return None if grade is None else float(grade)


def environment(task: Task | str) -> Environment:
    """Return a task as an environment, for `GRPOTrainer(environment_factory=...)` of TRL.

    Args:
        task: the task of all rows, or its name, as in the column `task`; `task.with_rule("paper")` grades with another
            rule. Its tool executes the calls in the trainer's process.

    Returns:
        An environment with the methods `reset(**row)` and `get_reward()`, and with the tool as a method. Called, it
        returns a new one.

    Raises:
        InputError: the tool is not set up or needs a model, its name is no Python name, or the task needs a reader.
        UnknownName: an unknown task.

    >>> math = environment("math")
    >>> math.reset(prompt="What is 3 times 4?", answers=["12"])
    >>> math.calculator(formula="3*4"), math.get_reward()
    ('12', 1.0)
    """
    checked = trainable_task(task)
    name = checked.tool.name
    if name in RESERVED or name.startswith("_"):
        raise InputError(f"environment: a tool may not be named {name!r}")
    members = {"_task": checked, name: _tool_method(checked.tool), "__doc__": f"A rollout of the task {checked.name}."}
    made: Environment = type(f"{checked.name}_environment", (Environment,), members)()
    return made


def trainable_task(task: Task | str) -> Task:
    """Return a task whose calls and answers can be graded inside a trainer, or raise the errors of `reward`."""
    checked = find_task(task) if isinstance(task, str) else task
    if not isinstance(checked, Task):
        raise InputError(f"task: expected a Task or the name of one, found {task!r:.80}")
    checked.tool.check()
    if checked.tool.engine is not None:
        raise InputError(f"the tool {checked.tool.name!r} needs a model, which cannot run inside a trainer")
    if checked.reader_prompt is not None and not checked.output_is_answer:
        raise InputError(f"the task {checked.name!r} needs a reader, which cannot run inside a trainer")
    return checked


def _tool_method(tool: Tool) -> Callable[..., str]:
    """Return a tool as a method that records its results, with the type hints and the docstring of `as_function`."""
    function = tool.as_function()
    signature = inspect.signature(function)

    def method(self: Environment, *args: Any, **kwargs: Any) -> str:
        result = tool.run(tool.argument_of(signature.bind(*args, **kwargs).arguments))
        self._results.append(result)
        return result_text(result)

    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    method.__name__ = method.__qualname__ = function.__name__
    method.__doc__, method.__annotations__ = function.__doc__, function.__annotations__
    method.__signature__ = signature.replace(parameters=[itself, *signature.parameters.values()])  # type: ignore[attr-defined]
    return method
