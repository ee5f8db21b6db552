"""The stage `without_tool`: rows on which the right behaviour is not to call a tool, for training and for pairs.

A row without a variant is in the ledger; `kinds` and `withholding` list the reasons, and:

| reason | the row |
|---|---|
| target_calls | its target contains a call of an offered tool or of the task's tool |
| target_answers | its target is a fixed text, and states the gold answer |
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.checks import features_of
from toolrlef_data.columns import NOT_CALLING
from toolrlef_data.engines.rules import integer_from
from toolrlef_data.records import Drop, InputError, UnknownName, UnusableRow
from toolrlef_data.tables.reshape import explode
from toolrlef_data.tasks.given.memory import remember_tasks
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.parsing.calls import read_call
from toolrlef_data.tools.tool import Tool
from toolrlef_data.trice.not_calling.kinds import FIXED, KINDS, Variant
from toolrlef_data.trice.not_calling.offers import OtherTool, as_other_tools
from toolrlef_data.trice.not_calling.originals import Original, columns_to_read, original_of
from toolrlef_data.trice.row_tasks import tasks_of

__all__ = ["without_tool"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Settings:
    """The settings of the stage."""

    kind: ClassVar[str] = "without_tool"
    kinds: tuple[str, ...]
    tasks: Mapping[str, Task]
    others: tuple[OtherTool, ...]
    seed: int


def without_tool(
    table: D,
    *,
    kind: str | Sequence[str],
    others: Sequence[Tool | Mapping[str, Any]] = (),
    seed: int = 0,
    task: Task | Mapping[str, Task] | None = None,
    num_proc: int | None = None,
) -> D:
    """Build variants of rows on which the right behaviour is not to call a tool, each checked by execution.

    Args:
        table: a table of stage 1 or stage 2.
        kind: one kind or several; each row yields a variant of each kind, with the id "ID#KIND".
            "no_tools": nothing is offered. The target is an answer of the row that was right without the tool, or a
            refusal. "other_tools": the tools are for other purposes, and the target says that none of them fits.
            "missing_argument": a number that the call needs is withheld, and the target asks for it; only for tasks
            with numeric answers and a tool that computes formulas. "chat": a message that asks nothing.
        others: for "other_tools", tools or function schemas that cannot answer the questions. Default: tools of a phone
            or a home (`texts.OTHER_TOOLS`). The task's tool is never offered.
        seed: draws texts, tools and the withheld number, with the id of the row; default 0.
        task: one task for all rows, or a mapping of names to tasks; default: the task named in each row.
        num_proc: number of processes.

    Returns:
        a table with the columns of stage 1, and `kind`, `tools`, `rejected` and `check` (`columns.NOT_CALLING`).
        `rejected` is the call of the row; null for an answer of stage 1, which has none. `answers` is empty, so that no
        reward and no stage 2 grades these rows. Rows without a variant are dropped; the ledger records the reasons.

    Raises:
        InputError: the table has variants already, a task has no numbers to withhold, or `others` are not tools.
        UnknownName: an unknown kind or task.
        MissingColumns: the table is neither stage 1 nor stage 2.

    >>> from toolrlef_data import ANNOTATIONS, answer, build_stage1, grade, load_source, scripted
    >>> questions = load_source("sample", split="train").select(range(1))
    >>> graded = grade(answer(questions, scripted({"": "It is 0."}, progress=False)))
    >>> [row] = without_tool(build_stage1(graded, ANNOTATIONS), kind="other_tools")
    >>> row["id"], row["rejected"], "calculator" in row["tools"]
    ('sample-001#other_tools', 'calculator(36+36/2)', False)
    """
    kinds = (kind,) if isinstance(kind, str) else tuple(kind)
    for name in kinds:
        if name not in KINDS:
            raise UnknownName("kind", name, KINDS)
    if not kinds or len(set(kinds)) < len(kinds):
        raise InputError(f"kind: expected one or several different kinds of {', '.join(KINDS)}, found {kind!r:.80}")
    integer_from(0).check("seed", seed)
    features = features_of(table)
    if {"kind", "tools", "rejected"} <= set(features):
        raise InputError("the table has variants without a call already: pass the table of stage 1 or stage 2")
    reads = columns_to_read(features)
    tasks = tasks_of(table, task)
    for name, row_task in tasks.items():
        if "missing_argument" in kinds and (not row_task.numeric or row_task.tool.is_slow):
            raise InputError(
                f"missing_argument needs numeric answers and a tool that computes formulas; the task {name!r} with the "
                f"tool {row_task.tool.name} has no number whose absence can be proved: choose another kind"
            )
    settings = Settings(kinds, tasks, as_other_tools(others, tasks), seed)
    rows = explode(
        table, _variants, settings, reads=reads, features=NOT_CALLING, stage=Settings.kind, num_proc=num_proc
    )
    return remember_tasks(rows, tasks)


def _variants(row: Row, settings: Settings) -> Iterator[dict[str, Any] | tuple[str, Drop]]:
    task = settings.tasks[row["task"]]
    original = original_of(row, task)
    for kind in settings.kinds:
        row_id = f"{row['id']}#{kind}"
        try:
            _check_prompt(row)
            variant = KINDS[kind](row, original, task, settings.others, Random(f"{settings.seed}:{row['id']}"))
            _check_target(variant, row, task)
            yield _new_row(row_id, kind, variant, original, row)
        except UnusableRow as error:
            yield row_id, Drop(error.reason, error.detail)


def _check_prompt(row: Row) -> None:
    if not row["instruction"] or not row["input"]:
        raise UnusableRow("no_prompt", "instruction or input is null or empty")


def _check_target(variant: Variant, row: Row, task: Task) -> None:
    """Raise `UnusableRow` for a target with a call, and for a fixed text that states the gold answer."""
    names = [task.tool.name, *(schema["function"]["name"] for schema in variant.tools)]
    if read_call(variant.output, names).tool is not None:
        raise UnusableRow("target_calls", variant.output[:100])
    if variant.source != FIXED:
        return
    prediction = task.extract(variant.output)
    if task.grade_row(prediction, row["answers"], *task.split_input(variant.input), variant.output) is True:
        raise UnusableRow("target_answers", variant.output[:100])


def _new_row(row_id: str, kind: str, variant: Variant, original: Original, row: Row) -> dict[str, Any]:
    return {
        "instruction": variant.instruction,
        "input": variant.input,
        "output": variant.output,
        "id": row_id,
        "task": row["task"],
        "dataset": row["dataset"],
        "answers": [],
        "uses_tool": False,
        "source": variant.source,
        "verified_by": None,
        "kind": kind,
        "tools": json.dumps(variant.tools, ensure_ascii=False),
        "rejected": original.call,
        "check": variant.check,
    }
