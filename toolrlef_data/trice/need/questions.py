"""The questions of a table: ids alone can be equal in two data sets or tasks."""

from __future__ import annotations

from typing import NamedTuple

from datasets import Dataset

__all__ = ["Question", "questions_of"]


class Question(NamedTuple):
    """What identifies a question: its id, in its task and data set."""

    id: str
    task: str
    dataset: str


def questions_of(table: Dataset) -> list[Question]:
    """Return the question of each row.

    >>> questions_of(Dataset.from_dict({"id": ["1"], "task": ["math"], "dataset": ["mine"]}))
    [Question(id='1', task='math', dataset='mine')]
    """
    return [Question(*values) for values in zip(table["id"], table["task"], table["dataset"], strict=True)]
