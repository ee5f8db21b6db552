"""The labels of stage 1 by measured need: which questions get a call, which the student's own answer, and which leave.

| class | target |
|---|---|
| needs_tool | a verified call |
| indifferent, harmed | the student's own right answer, never a call |
| hopeless, unsure | a setting: "call", "grade" (as without the measurement), or "drop" |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.checks import check_features, check_table
from toolrlef_data.choices import check_choice
from toolrlef_data.columns import GRADED, NEED
from toolrlef_data.records import Drop, InputError, UnknownName
from toolrlef_data.tables.reshape import join
from toolrlef_data.tables.transform import apply, keep
from toolrlef_data.trice.need.classes import CLASSES
from toolrlef_data.trice.need.questions import questions_of

__all__ = ["MEASURED", "label_by_need"]

D = TypeVar("D", bound="Dataset | DatasetDict")
Row = Mapping[str, Any]

MEASURED = [name for name in NEED if name not in ("id", "task", "dataset")]  # columns that stage 1 and stage 2 get
CHOICES = ("drop", "call", "grade")


@dataclass(frozen=True)
class LabelSettings:
    """What becomes of the classes without a clear label."""

    unsure: str
    hopeless: str

    def choice(self, need: str) -> str:
        """Return "call", "own", "grade" or "drop" for a class."""
        settings = {"unsure": self.unsure, "hopeless": self.hopeless, "needs_tool": "call"}
        return settings.get(need, "own")


def label_by_need(graded: D, need: Dataset, *, unsure: str, hopeless: str, num_proc: int | None = None) -> D:
    """Return graded questions with the columns of `need`; `needs_tool` follows the class.

    Args:
        graded: a table from `grade`.
        need: a table from `counterfactual` with every question of `graded`.
        unsure, hopeless: what becomes of these classes: "drop", "call" or "grade".
        num_proc: number of processes.

    Raises:
        InputError: a question is not measured or measured twice, a class is unknown, or the table has such columns.
        UnknownName: an unknown value of `unsure` or `hopeless`.
    """
    for name, value in {"unsure": unsure, "hopeless": hopeless}.items():
        check_choice(f"value of {name}:", value, CHOICES)
    if not isinstance(need, Dataset):
        raise InputError(f"need= expects a table from `counterfactual`, found a {type(need).__name__}")
    need = check_features(need, NEED, "need=")
    if unknown := sorted(set(need.unique("need")) - set(CLASSES), key=str):
        raise UnknownName("class in need=:", unknown[0], CLASSES)
    if isinstance(graded, DatasetDict):
        labelled = {name: _with_columns(split, need) for name, split in graded.items()}
        joined: Any = DatasetDict(labelled)
    else:
        joined = _with_columns(graded, need)
    settings = LabelSettings(unsure, hopeless)
    reads = ["needs_tool", "correct", "need", "p_plain", "n_plain", "p_tool", "n_tool"]
    kept = keep(joined, _drop_without_label, settings, reads=reads, stage="need", num_proc=num_proc)
    return apply(
        kept,
        _label_columns,
        settings,
        reads=["needs_tool", "need"],
        adds={"needs_tool": GRADED["needs_tool"]},
        name="label by need",
        num_proc=num_proc,
    )


def _with_columns(graded: Dataset, need: Dataset) -> Dataset:
    """Return a table with the measured columns of its rows."""
    graded = check_table(graded)
    if existing := sorted(set(MEASURED) & set(graded.column_names)):
        raise InputError(f"the table already has the columns {', '.join(existing)}: remove them, or omit need=")
    rows, measured = questions_of(graded), questions_of(need)
    columns = need.select_columns(MEASURED)
    if rows != measured:
        places = {question: n for n, question in enumerate(measured)}
        if len(places) < len(measured):
            raise InputError("need= has questions twice: measure each question once")
        if missing := next((question for question in rows if question not in places), None):
            raise InputError(
                f"need= lacks the question {missing.id!r} of the task {missing.task!r} and the data set "
                f"{missing.dataset!r}: measure the same questions, or select those it has"
            )
        columns = columns.select([places[question] for question in rows])
    return join([graded, columns], "need", inputs=[graded, need])


def _drop_without_label(row: Row, settings: LabelSettings) -> Drop | None:
    choice = settings.choice(row["need"])
    if choice == "drop":
        sides = [f"{_count(row, 'plain')} without the tool", f"{_count(row, 'tool')} with it"]
        return Drop(f"need_{row['need']}", "right in " + ", in ".join(sides))
    if choice == "own" and row["correct"] is not True:
        return Drop("no_right_answer", f"{row['need']}: right in {_count(row, 'plain')} without the tool")
    return None


def _count(row: Row, side: str) -> str:
    return f"{round((row[f'p_{side}'] or 0) * row[f'n_{side}'])} of {row[f'n_{side}']}"


def _label_columns(row: Row, settings: LabelSettings) -> dict[str, Any]:
    choice = settings.choice(row["need"])
    return {"needs_tool": row["needs_tool"] if choice == "grade" else choice == "call"}
