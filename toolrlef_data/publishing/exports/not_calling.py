"""The pairs of rows of `without_tool`: the output is chosen, and the call is rejected; see `formats`.

Each row becomes a row of stage 2 with two responses, with the highest and the lowest score of the package's rules. A
row of stage 1 in the same table has no pair (no_pair) and no label (not_graded), and a row without a call has no pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from datasets import Dataset

from toolrlef_data.columns import NOT_CALLING
from toolrlef_data.publishing.exports.options import Options
from toolrlef_data.records import Drop, UnusableRow
from toolrlef_data.trice.scoring import LEVELS

__all__ = ["COLUMNS", "OFFER", "is_not_calling", "ranked"]

Row = Mapping[str, Any]
Records = Iterable[dict[str, Any] | Drop | UnusableRow]
OFFER = ("kind", "tools")  # what the exports of stage 1 read beside its columns
COLUMNS = ("instruction", "input", "output", "rejected", *OFFER, "source", "task", "id")


def is_not_calling(samples: Dataset) -> bool:
    """Return whether a table has the columns of `without_tool`: a column `kind` alone may be the user's."""
    return all(samples.features.get(name) == feature for name, feature in NOT_CALLING.items())


def ranked(records: Callable[[Row, Options], Records]) -> Callable[[Row, Options], Records]:
    """Return the function of an export of stage 2 for rows of `without_tool`."""
    return lambda row, options: records(_as_stage2(row), options)


def _as_stage2(row: Row) -> Row:
    """Return a row of `without_tool` as a row of stage 2.

    >>> row = dict.fromkeys(COLUMNS, "") | {"output": "How many?", "rejected": "calculator(3*4)", "kind": "chat"}
    >>> _as_stage2(row)["responses"], _as_stage2(row)["scores"]
    (['How many?', 'calculator(3*4)'], [20.0, 0.0])
    """
    is_variant = row["kind"] is not None
    return {
        **row,
        "responses": [row["output"], row["rejected"] if is_variant else None],
        "scores": [LEVELS[0], LEVELS[-1]],
        "correct": [True, False] if is_variant else [None, None],
        "origin": [row["source"], "call"],
    }
