"""The grader of a task as a reward function for TRL's GRPO.

A completion is graded like a response of stage 2: its call is executed and the output is graded, or its answer is. Of a
conversation with tool results, the last message of the model counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from toolrlef_data.publishing.exports.messages import call_text
from toolrlef_data.publishing.rl.environments import Environment, trainable_task
from toolrlef_data.records import InputError
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.parsing.calls import read_native_calls
from toolrlef_data.trice.execution import grade_text

__all__ = ["Completion", "Reward", "response_text", "reward"]

Completion = str | Sequence[Mapping[str, Any]]
Reward = Callable[..., list[float | None]]


def reward(task: Task | str | Sequence[Task | str]) -> Reward:
    """Return a reward function for TRL: 1 for a right completion, 0 for a wrong one, None if it cannot be graded.

    Args:
        task: the task of all rows, or its name. A list grades each row by its task, which the column `task` names. The
            tools execute the calls in the trainer's process.

    Returns:
        A function for `GRPOTrainer(reward_funcs=...)`. It reads the columns `answers`, `task` and, for graders that
        need the question, `input` of the format "trl_grpo". A row of another task is an `InputError`.

    Raises:
        InputError: a tool is not set up or needs a model, a task needs a reader, or two tasks have one name.
        UnknownName: an unknown task.

    >>> reward("math")(completions=["It is 12.", "calculator(3*4)", "calculator(3*"], answers=[["12"]] * 3)
    [1.0, 1.0, 0.0]
    """
    given = [trainable_task(each) for each in (task if isinstance(task, (list, tuple)) else [task])]  # type: ignore[arg-type]
    tasks = {each.name: each for each in given}
    if len(tasks) < len(given) or not tasks:
        raise InputError(f"reward: expected tasks with different names, found {[each.name for each in given]}")
    only = next(iter(tasks)) if len(tasks) == 1 else None

    def correctness(
        completions: Sequence[Completion],
        answers: Sequence[Sequence[str]],
        input: Sequence[str] | None = None,
        task: Sequence[str | None] | None = None,
        environments: Sequence[Any] = (),
        **columns: Any,
    ) -> list[float | None]:
        for environment in environments:
            if isinstance(environment, Environment):
                environment.is_graded = True  # so that it adds no second reward
        inputs = input if input is not None else [""] * len(completions)
        names = [only if name is None else name for name in task or [None] * len(completions)]
        if others := sorted({str(name) for name in names if name not in tasks}):
            raise InputError(
                f"reward: expected {' or '.join(map(repr, tasks))} in the column task, found {', '.join(others)}; "
                "reward([...]) with all tasks grades each row by its task"
            )
        grades = []
        for completion, golds, text, name in zip(completions, answers, inputs, names, strict=True):
            checked = tasks[str(name)]
            grades.append(grade_text(response_text(completion, checked), golds, text, checked))
        return [None if grade is None else float(grade) for grade in grades]

    correctness.__name__ = f"{'_'.join(tasks)}_correctness"
    return correctness


def response_text(completion: Completion, task: Task, finish_reason: str | None = None) -> str:
    """Return the response in a completion: a text, or the model's last message with a native call as text.

    After the finish reason "length" the last native call is incomplete.
    """
    if isinstance(completion, str):
        return completion
    last = next((message for message in reversed(completion) if message["role"] == "assistant"), None)
    if last is None:
        return ""
    calls = [call["function"] for call in last.get("tool_calls") or ()]
    native = read_native_calls([(call["name"], call_text(call)) for call in calls], task.tool, finish_reason)
    return str(last.get("content") or "") if native is None else native.text
