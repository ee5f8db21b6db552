"""The records of stage 1: the prompt of a row, and its output as the text to learn; see `formats`.

A row without gold answers does not fit the format "trl_grpo" (no_answer).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from toolrlef_data.publishing.exports.messages import check_names
from toolrlef_data.publishing.exports.options import Options
from toolrlef_data.publishing.exports.turns import prompt_of, target_of, tools_column, tools_list
from toolrlef_data.records import UnusableRow

__all__ = ["alpaca", "axolotl", "openai", "trl", "trl_grpo"]

Row = Mapping[str, Any]
Records = Iterator[dict[str, Any]]


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
