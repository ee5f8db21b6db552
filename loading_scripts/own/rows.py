"""A row with the user's columns as a question, or as a drop with its location.

| value | as a text | as gold answers |
|---|---|---|
| text | without surrounding white space | one answer; a list, as JSON or Python writes it, is several |
| number | its digits; 72.0 is "72", as a frame turns integers into floats where a value is missing | one answer |
| null, NaN, "" | no text | no answer |
| list | refused | several answers, without nulls |
| text of a list without commas, as numpy writes it | | refused |
| other, also true and false | refused | refused |
"""

from __future__ import annotations

import ast
import datetime
import decimal
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from toolrlef_data.loading_scripts.base import Question
from toolrlef_data.loading_scripts.fields import escape_surrogates, gold_answers
from toolrlef_data.records import Drop, InputError, UnusableRow, is_text
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tasks.task import Task

__all__ = ["Column", "Columns", "Converted", "convert_row"]

Column = str | Callable[[Mapping[str, Any]], Any]  # the name of a column, or a function of the row
TEXT_PARTS = ("id", "question", "context", "solution")
_quotes_in_a_row = re.compile(r"""^\s*\[\s*(?:'[^']*'\s+'|"[^"]*"\s+")""").match
NULL_TYPES = ("NAType", "NaTType")  # of pandas


@dataclass(frozen=True)
class Columns:
    """Where the parts of a question stand in a row; None is a part that the rows lack."""

    question: Column
    answers: Column
    context: Column | None = None
    id: Column | None = None
    solution: Column | None = None

    def items(self) -> list[tuple[str, Column]]:
        """Return (part, column) of the parts that the rows have."""
        return [(part, column) for part, column in vars(self).items() if column is not None]


@dataclass(frozen=True)
class Converted:
    """A converted row: its id, the question or why there is none, and a note about answers that were left out."""

    id: str
    question: Question | None = None
    drop: Drop | None = None
    note: str = ""


def convert_row(row: Mapping[str, Any], location: str, columns: Columns, task: Task, dataset: str) -> Converted:
    """Return a row as a question of a task, with the row's id, or with one made from its content.

    Raises:
        InputError: a function of `columns` failed; the message names the row.
    """
    values = {part: _plain(_read(row, column, part, location)) for part, column in columns.items()}
    places = {part: f"{location}, {_described(column, part)}" for part, column in columns.items()}
    try:
        texts = {part: _text(values.get(part), places.get(part, "")) for part in TEXT_PARTS}
        written = _answers(values.get("answers"), places["answers"])
    except UnusableRow as error:
        return Converted(_content_id(dataset, [location]), drop=Drop(error.reason, error.detail))
    row_id = texts["id"]
    located = [*texts.items(), *(("answers", answer) for answer in written)]
    if invalid := [(part, text) for part, text in located if not is_text(text)]:
        part, text = invalid[0]
        row_id = escape_surrogates(row_id) or _content_id(dataset, [location])
        return Converted(row_id, drop=Drop("not_unicode", f"{places[part]}: {escape_surrogates(text)[:80]}"))
    cleaned = {answer: _clean(answer, task, location) for answer in written}
    refused = [answer for answer, clean in cleaned.items() if clean is None]
    answers = gold_answers(cleaned.values())
    content = [texts["question"], texts["context"], list(answers), texts["solution"]]
    row_id = row_id or _content_id(dataset, content if answers else [*content, written])
    where = f"{places['answers']}: {' | '.join(refused or written)[:80]!r}"
    if not texts["question"]:
        return Converted(row_id, drop=Drop("no_question", f"{places['question']}: {_missing(columns.question, row)}"))
    if not answers:
        empty = f"{places['answers']}: {_missing(columns.answers, row)}"
        return Converted(row_id, drop=Drop("unreadable_answer", where) if refused else Drop("no_answer", empty))
    if reason := task.ungradable_reason(answers):
        return Converted(row_id, drop=Drop(reason, where))
    question = Question(row_id, texts["question"], answers, texts["solution"], texts["context"])
    return Converted(row_id, question, note=where if refused else "")


def _missing(column: Column, row: Mapping[str, Any]) -> str:
    return "the row lacks it" if isinstance(column, str) and column not in row else "it is empty"


def _described(column: Column, part: str) -> str:
    return f"column {column!r}" if isinstance(column, str) else f"the function {part}="


def _read(row: Mapping[str, Any], column: Column, part: str, location: str) -> Any:
    if isinstance(column, str):
        return row.get(column)
    try:
        return column(row)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{location}: the function {part}= raised {type(error).__name__}: {error}") from error


def _plain(value: Any) -> Any:
    """Return a value of numpy, pandas or Polars as a Python value, and a missing one as None."""
    if type(value).__name__ in NULL_TYPES or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, (str, int, float, Mapping)) and type(value).__module__ == "builtins":
        return value
    for method in ("tolist", "to_list"):  # of numpy, of Polars
        if hasattr(value, method):
            return _plain(getattr(value, method)())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    is_written_out = isinstance(value, (decimal.Decimal, datetime.date, datetime.time))
    return str(value) if is_written_out else value


def _text(value: Any, place: str) -> str:
    """Return a text or number as text, and a missing value as ""."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UnusableRow("not_text", f"{place}: expected text or a number, found {value!r:.80}")
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    return str(int(value)) if is_whole else str(value)


def _answers(value: Any, place: str) -> list[str]:
    items = value if isinstance(value, list) else _listed(value, place)
    texts = [_text(item, place) for item in items]
    return [text for text in texts if text]


def _listed(value: Any, place: str) -> list[Any]:
    """Return a text that is a list of texts and numbers as a list, as JSON or Python writes it into a CSV file."""
    if not (isinstance(value, str) and value.strip()[:1] == "[" and value.strip()[-1:] == "]"):
        return [value]
    if _quotes_in_a_row(value):  # numpy writes no commas, and Python reads 'a' 'b' as 'ab'
        raise UnusableRow("not_text", f"{place}: expected a list with commas, found {value!r:.80}")
    for read in (json.loads, ast.literal_eval):
        try:
            items = read(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return list(items) if all(map(_is_text_or_number, items)) else [value]
    return [value]


def _is_text_or_number(item: Any) -> bool:
    return item is None or (isinstance(item, (str, int, float)) and not isinstance(item, bool))


def _clean(answer: str, task: Task, location: str) -> str | None:
    if task.clean_answer is None:
        return answer
    cleaned = task.clean_answer(answer)
    if cleaned is not None and not isinstance(cleaned, str):
        found = type(cleaned).__name__
        raise InputError(
            f"{location}: clean_answer of the task {task.name!r} must return a text or None, found {found}"
        )
    return cleaned


def _content_id(dataset: str, content: list[Any]) -> str:
    return f"{dataset}-{digest(content)[:16]}"
