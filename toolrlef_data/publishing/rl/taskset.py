r"""A taskset for verifiers: the rows of a published table, with the task's tool, grader and gold answers.

    validate toolrlef-data --taskset.data out/math --taskset.subset math-stage1 --taskset.task.name math \
        --runtime.type subprocess

verifiers imports a taskset by the name of a top-level module and takes the class from its public names. Therefore
`ToolTaskset` is a public name of `toolrlef_data` if verifiers is installed. A response is graded like a response of
stage 2. A response that cannot be graded has no reward. The tool is a server that verifiers starts once for all rows.

Not covered: tools and readers that need a model.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from datasets import load_dataset

from toolrlef_data import TASKS, Task
from toolrlef_data.checks import require_columns
from toolrlef_data.publishing.rl.environments import trainable_task
from toolrlef_data.publishing.rl.rewards import response_text
from toolrlef_data.records import InputError
from toolrlef_data.trice.execution import grade_text

try:
    import verifiers.v1 as vf
except ImportError as error:
    raise ImportError('the taskset needs verifiers: pip install "toolrlef-data[verifiers]" (Python 3.11)') from error

if TYPE_CHECKING:
    from mcp.server.fastmcp import FastMCP

__all__ = ["ToolTaskset"]


def task_named(name: str) -> Task:
    """Return a task of `TASKS`, or your own by its import path, such as "my_tasks:FIGS"."""
    task = pkgutil.resolve_name(name) if ":" in name else TASKS[name]
    if not isinstance(task, Task):
        raise InputError(f"expected a Task as {name}, found {type(task).__name__}")
    return trainable_task(task)


class ToolTaskConfig(vf.TaskConfig):
    """The task of all rows.

    Args:
        name: its name in `TASKS`, or an import path such as "my_tasks:FIGS".
    """

    name: str = ""


class ToolTasksetConfig(vf.TasksetConfig):
    """The rows.

    Args:
        data: a folder that `publish` wrote, or a data set on the Hub.
        subset: its config, such as "math-stage1".
        split: the split. Default: "train".
        revision: the tag of the release. Default: the newest state.
        task: the task.
    """

    data: str = ""
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    task: ToolTaskConfig = ToolTaskConfig()


class ToolTaskData(vf.TaskData):
    """A row: its prompt, the text of the question, the gold answers, and the output of stage 1."""

    input: str
    answers: list[str]
    output: str | None = None


class ToolTask(vf.Task[ToolTaskData, vf.State, ToolTaskConfig]):
    """One row, its reward and its check."""

    @property
    def key(self) -> str:
        return self.data.name or self.hash

    @vf.reward
    async def correctness(self, trace: vf.Trace) -> dict[str, float]:
        """Return 1 for a right response, 0 for a wrong one, and nothing if it cannot be graded."""
        messages = [message.model_dump() for message in trace.assistant_messages[-1:]]
        for message in messages:
            message["tool_calls"] = [{"function": call} for call in message["tool_calls"] or ()]
        task = task_named(self.config.name)
        finish_reason = "length" if trace.is_truncated else None
        text = response_text(messages, task, finish_reason)
        grade = grade_text(text, self.data.answers, self.data.input, task, finish_reason)
        return {} if grade is None else {"correctness": float(grade)}

    async def validate(self, runtime: vf.Runtime) -> bool:  # noqa: ARG002 - verifiers passes it
        """Return whether the output of stage 1 and the gold answers are right; unreadable gold answers are skipped."""
        task, data = task_named(self.config.name), self.data
        question, context = task.split_input(data.input)
        golds = [gold for gold in data.answers if task.ungradable_reason([gold]) is None]
        grades = [task.grade_row(gold, data.answers, question, context) for gold in golds]
        if data.output is not None:
            grades.append(grade_text(data.output, data.answers, data.input, task))
        return bool(golds) and all(grades)


class ToolServerConfig(vf.SharedToolsetConfig):
    """The task whose tool is served."""

    name: str = ""


class ToolServer(vf.Toolset[ToolServerConfig, vf.State]):
    """The tool of a task as a server."""

    TOOL_PREFIX = None

    def register(self, mcp: FastMCP) -> None:
        function = task_named(self.config.name).tool.as_function()
        mcp.add_tool(function, name=function.__name__, description=function.__doc__)


class ToolTaskset(vf.Taskset[ToolTask, ToolTasksetConfig]):
    """The rows of a table with the columns instruction, input, answers and id: stage 1, stage 2."""

    def load(self) -> Iterator[ToolTask]:
        config = self.config
        task = task_named(config.task.name)
        rows = load_dataset(config.data, config.subset, split=config.split, revision=config.revision)
        require_columns(rows, ["id", "task", "instruction", "input", "answers"], "the taskset")
        for number, row in enumerate(rows):
            if row["task"] != task.name:
                raise InputError(f"row {number}: expected the task {task.name!r}, found {row['task']!r}")
            prompts = {"system_prompt": row["instruction"], "prompt": row["input"] or row["instruction"]}
            gold = {"input": row["input"], "answers": row["answers"], "output": row.get("output")}
            yield ToolTask(ToolTaskData(idx=number, name=row["id"], **prompts, **gold), config.task)

    @classmethod
    def toolsets(cls, config: ToolTasksetConfig) -> list[vf.Toolset]:
        return [ToolServer(ToolServerConfig(name=config.task.name))]


if __name__ == "__main__":
    ToolServer.run()
