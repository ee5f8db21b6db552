"""The records of stage 1: the prompt of a row, and its output as the text to learn; see `formats`.

A row without gold answers does not fit the format "trl_grpo" (no_answer).

A row of `without_tool` is also a row of stage 2 with two responses: its output with the highest score of the package's
rules, and the rejected call with the lowest. A row of stage 1 in the same table has no pair (no_pair) and no label
(not_graded), and a variant without a call has no pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from datasets import Dataset

from toolrlef_data.columns import NOT_CALLING
from toolrlef_data.publishing.exports.messages import check_names
from toolrlef_data.publishing.exports.options import Options
from toolrlef_data.publishing.exports.turns import prompt_of, target_of, tools_column, tools_list
from toolrlef_data.records import Drop, UnusableRow
from toolrlef_data.trice.scoring import LEVELS

__all__ = ["OFFER", "RANKED", "alpaca", "axolotl", "is_not_calling", "openai", "ranked", "trl", "trl_grpo"]

Row = Mapping[str, Any]
Records = Iterator[dict[str, Any]]
RankedRecords = Iterable[dict[str, Any] | Drop | UnusableRow]
OFFER = ("kind", "tools")  # columns of `without_tool` that all formats of stage 1 read
RANKED = ("instruction", "input", "output", "rejected", *OFFER, "source", "task", "id")  # columns of `ranked`


def trl(row: Row, options: Options) -> Records:
    prompt = prompt_of(row, options)
    yield {"prompt": prompt, "completion": target_of(prompt, row, options), **tools_column(row, options)}


def alpaca(row: Row, options: Options) -> Records:
    prompt_of(row, options)
    output = target_of("\n", row, options)
    yield {"instruction": row["instruction"], "input": row["input"], "output": output}


def openai(row: Row, options: Options) -> Records:
    prompt = prompt_of(row, options)
    [reply] = target_of(prompt, row, options)
    tools = tools_list(row, options)
    check_names([reply], tools)
    yield {"messages": [*prompt, {**reply, "weight": 1}], **({"tools": tools} if tools else {})}


def axolotl(row: Row, options: Options) -> Records:
    prompt = [{**message, "train": False} for message in prompt_of(row, options)]
    [reply] = target_of(prompt, row, options)
    yield {"messages": [*prompt, {**reply, "train": True}], "tools": tools_list(row, options)}


def trl_grpo(row: Row, options: Options) -> Records:
    if not row["answers"] or None in row["answers"]:
        raise UnusableRow("no_answer", f"the grader needs gold answers, found {row['answers']!r:.80}")
    yield {"prompt": prompt_of(row, options), **{name: row[name] for name in ("answers", "task", "id", "input")}}


# Rows of `without_tool` -----------------------------------------------------------------------------------------------


def is_not_calling(samples: Dataset) -> bool:
    """Return whether a table has the columns of `without_tool`: a column `kind` alone may be the user's."""
    return all(samples.features.get(name) == feature for name, feature in NOT_CALLING.items())


def ranked(records: Callable[[Row, Options], RankedRecords]) -> Callable[[Row, Options], RankedRecords]:
    """Return the function of an export of stage 2 for rows of `without_tool`."""
    return lambda row, options: records(_as_stage2(row), options)


def _as_stage2(row: Row) -> Row:
    """Return a row of `without_tool` as a row of stage 2.

    >>> row = dict.fromkeys(RANKED, "") | {"output": "How many?", "rejected": "calculator(3*4)", "kind": "chat"}
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
