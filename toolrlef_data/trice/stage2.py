"""Stage 2, ranking data: several responses to every question, their calls executed, scored by the outcome.

    stage1 ──respond (`respond`)──> responded: one struct column a responder; gold is stage 1's own output
           ──execute──> executed: calls parsed and executed, predictions graded
           ──score (`scoring`)──> stage2: one row a question, with a score for every response

`build_stage2` runs what follows `respond`. A response is data: it is parsed, its call is executed by the task's tool,
its prediction is graded, and a rule (`scoring.RULES`) turns one row's outcomes into scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.tasks.task import Task
from toolrlef_data.trice.cassette import open_cassette
from toolrlef_data.trice.execution import execute_responses
from toolrlef_data.trice.row_tasks import tasks_of
from toolrlef_data.trice.scoring import Rule, responders_in, score

__all__ = ["build_stage2", "execute"]

D = TypeVar("D", bound="Dataset | DatasetDict")


def build_stage2(
    candidates: D,
    *,
    rule: str | Rule = "trice",
    trusted: Sequence[str] = (),
    compat: bool = False,
    task: Task | Mapping[str, Task] | None = None,
    cassette: Dataset | None = None,
    num_proc: int | None = None,
    **options: Any,
) -> D:
    """Make stage 2: execute the responses of every question, grade and score them.

    Args:
        candidates: a table from `respond`: stage 1's columns and one RESPONSE struct a responder, `gold` among them.
        rule: a name in `scoring.RULES`, or a function like those.
        trusted: responders that the rule gives a right one's score, by name; `("chatgpt",)` in the original.
        compat: the original's reading: the tool's name anywhere is tool use, the first gold answer and the first
            prediction count, and a response without a prediction is ranked among the wrong ones.
        task: a task of your own for all rows, or some by their names; default: the task that each row names. It says
            which tool runs and, where the tool's output is no answer yet, which model reads it (`Task.reader`).
        cassette: recorded tool executions (`cassette`), replayed strictly: no tool runs, no model is asked.
        options: further options of the rule, such as `ties="share"`.

    Returns:
        the stage 2 table (`columns.STAGE2`). Rows that lack a response, or whose tool failed by its own fault, are in
        the ledger.
    """
    executed = execute(candidates, compat=compat, task=task, cassette=cassette, num_proc=num_proc)
    return score(executed, rule=rule, trusted=trusted, compat=compat, task=task, num_proc=num_proc, **options)


def execute(
    candidates: D,
    *,
    compat: bool = False,
    task: Task | Mapping[str, Task] | None = None,
    cassette: Dataset | None = None,
    num_proc: int | None = None,
) -> D:
    """Execute the call in every response, or read its answer, and grade the prediction.

    Args:
        candidates: a table from `respond`.
        compat, task, cassette: as in `build_stage2`.

    Returns:
        the table with n_calls, tool, argument, tool_output, tool_error, predictions and correct of every RESPONSE.
        `correct` is null where the model gave no response or the tool failed by its own fault.
    """
    tasks = tasks_of(candidates, task)
    names = responders_in(candidates)
    play = None if cassette is None else open_cassette(cassette)
    return execute_responses(candidates, names, tasks, compat=compat, cassette=play, num_proc=num_proc)
