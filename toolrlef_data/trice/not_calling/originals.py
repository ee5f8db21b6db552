"""What a row of stage 1 or stage 2 has: a call, and an answer that was right without the tool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from datasets import Features

from toolrlef_data.records import MissingColumns
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.parsing.calls import read_call
from toolrlef_data.trice.annotations.consistency import target_flaw

__all__ = ["Original", "columns_to_read", "original_of"]

ROW = ("id", "task", "dataset", "instruction", "input", "answers", "uses_tool")
STAGE1 = ("output",)
STAGE2 = ("responses", "origin", "correct", "finish_reasons")


class Original(NamedTuple):
    """The call and the own answer of a row.

    Args:
        call: the text of a call, which was right in the row; None if it has none.
        argument: the argument of the call.
        answer: the text of a right answer without a call; None if the row has none.
        writer: who wrote the answer: "student", or the name of a responder.
    """

    call: str | None = None
    argument: str | None = None
    answer: str | None = None
    writer: str | None = None


def columns_to_read(features: Features) -> tuple[str, ...]:
    """Return the columns of a row that `original_of` reads, for a table of stage 1 or stage 2.

    Raises:
        MissingColumns: the table is neither.
    """
    names = (*ROW, *(STAGE2 if "responses" in features else STAGE1))
    if missing := [name for name in names if name not in features]:
        raise MissingColumns(
            f"without_tool needs a table of stage 1 or stage 2; this one lacks the columns {', '.join(missing)}; "
            f"found: {', '.join(features) or '(none)'}"
        )
    return names


def original_of(row: Mapping[str, Any], task: Task) -> Original:
    """Return the call and the own answer of a row; an answer counts only if the task's grader accepts it now.

    >>> from toolrlef_data import TASKS
    >>> row = {"output": "It is 7.", "uses_tool": False, "answers": ["7"], "input": "3+4?"}
    >>> original_of(row, TASKS["math"]).answer
    'It is 7.'
    """
    call = argument = answer = writer = None
    for text, uses_tool, origin in _right_responses(row):
        if uses_tool and call is None and (found := read_call(text, task.tool).argument) is not None:
            call, argument = text, found
        if not uses_tool and answer is None and _is_own_answer(text, row, task):
            answer, writer = text, "student" if origin == "gold" else origin
    return Original(call, argument, answer, writer)


def _right_responses(row: Mapping[str, Any]) -> Sequence[tuple[str, bool, str]]:
    """Return (text, whether it calls the tool, its responder) of the right responses; the output of stage 1 is gold."""
    if "output" in row:
        return [(row["output"], row["uses_tool"], "gold")] if row["output"] else []
    lists = (row["responses"], row["uses_tool"], row["origin"], row["correct"], row["finish_reasons"])
    return [
        (text, uses_tool, origin)
        for text, uses_tool, origin, correct, reason in zip(*(values or () for values in lists), strict=True)
        if text and correct and reason != "length"
    ]


def _is_own_answer(text: str, row: Mapping[str, Any], task: Task) -> bool:
    """Return whether a text is a right answer that can be a target and does not mention the tool."""
    if target_flaw(text, task) is not None or task.tool.name.casefold() in text.casefold():
        return False
    question, context = task.split_input(row["input"] or "")
    return task.grade_row(task.extract(text), row["answers"], question, context, text) is True
