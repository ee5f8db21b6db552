"""Rows of a table for the eye, as text and as HTML: the question, and the responses side by side.

| table | columns of a row's view |
|---|---|
| stage 2 | one for each response: score, grade, call, result |
| responded, executed, answered, graded | one for each response: grade, call, result |
| stage 1, labelled and others | one with all values of the row |

Texts come from models: escape sequences and control characters are removed, and HTML is escaped.
"""

from __future__ import annotations

import html
import io
import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, DatasetDict

from toolrlef_data.checks import split_path
from toolrlef_data.columns import STAGE2, STAGE2_LATER, responders_of
from toolrlef_data.records import InputError, ToolCall, UnknownName
from toolrlef_data.tasks import TASKS
from toolrlef_data.tools.parsing.calls import read_call, render_call

__all__ = ["Panel", "Sample", "View", "call_in", "plain_text", "show"]

Row = Mapping[str, Any]
Where = Mapping[str, Any] | Callable[[dict[str, Any]], bool] | None

MAX_TEXT = 2000  # characters of a text
CELL = "text-align: left; vertical-align: top; white-space: pre-wrap"
NO_FORMULAS = '<div class="tex2jax_ignore mathjax_ignore">'  # a notebook takes "$4 and $5" for a formula
BATCH = 100  # rows that are read at once
INPUTS = ("input", "question", "query")  # the column with the question
GRADES = {True: "correct", False: "wrong", None: "not graded"}
_escape_sequence = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x9b[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?"
)
# Control characters other than tab and newline, and characters that change the direction of text.
_control = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Panel:
    """A column of a row's view: a title, and texts by label."""

    title: str
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Sample:
    """The view of a row: a title, the question with its gold answers, and panels side by side."""

    title: str
    question: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class View:
    """The view of rows: `str` returns it as text, and a notebook displays it as HTML.

    Args:
        samples: the rows.
        note: how many rows the table has.
    """

    samples: Sequence[Sample]
    note: str

    def __str__(self) -> str:
        return "\n".join([*map(_sample_text, self.samples), self.note])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = [NO_FORMULAS, *map(_sample_html, self.samples), f"<p>{html.escape(self.note)}</p>", "</div>"]
        return "\n".join(parts)


def show(table: Dataset | DatasetDict, n: int = 3, *, where: Where = None) -> View:
    """Return the first rows of a table for display: each question, with its responses side by side.

    Args:
        table: any table; of a DatasetDict, `n` rows of each split.
        n: maximum number of rows. Default 3.
        where: which rows: a function of a row, or values by column, such as `{"errors": "syntax"}`. A list matches if
            one of its values does; `"gpt.tool"` is a field of the column `gpt`. Default: all rows.

    Returns:
        the view. A notebook displays it; in a script, `print(show(table))`.

    Raises:
        InputError: `n` is below 1, or `table` is no table.
        UnknownName: `where` names an unknown column.

    >>> from toolrlef_data import load_source
    >>> print(show(load_source("sample", split="train"), 1, where={"id": "sample-002"}).samples[0].title)
    sample-002 (math, sample)
    """
    if not isinstance(table, (Dataset, DatasetDict)):
        raise InputError(f"show: expected a Dataset or a DatasetDict, found {type(table).__name__}")
    if not isinstance(n, int) or n < 1:
        raise InputError(f"n: expected a number of rows of at least 1, found {n!r:.80}")
    if not (where is None or isinstance(where, Mapping) or callable(where)):
        raise InputError(f"where: expected columns with their values, or a function of a row, found {where!r:.80}")
    splits = table if isinstance(table, DatasetDict) else {"": table}
    samples: list[Sample] = []
    notes = []
    for name, split in splits.items():
        found = [_sample(row, split, name) for row in itertools.islice(_matching(split, where), n)]
        samples += found
        which = "" if where is None else " that match"
        notes.append(f"{f'{name}: ' if name else ''}{len(found)} of {len(split):,} rows{which}")
    return View(samples, "; ".join(notes))


def _matching(data: Dataset, where: Where) -> Iterator[dict[str, Any]]:
    """Yield the rows that match, one after another."""
    paths = {}
    for path in where if isinstance(where, Mapping) else ():
        column, field = split_path(path, data.column_names)
        struct = data.features.get(column)
        if column not in data.column_names or (field and not (isinstance(struct, dict) and field in struct)):
            raise UnknownName("column in where:", path, data.column_names)
        paths[path] = (column, field)
    plain = data.with_format(None)
    for start in range(0, len(plain), BATCH):
        columns = plain[start : start + BATCH]
        for values in zip(*columns.values(), strict=True):
            row = dict(zip(columns, values, strict=True))
            if isinstance(where, Mapping):
                found = {path: row[c] if not f else (row[c] or {}).get(f) for path, (c, f) in paths.items()}
                if all(_equals(found[path], value) for path, value in where.items()):
                    yield row
            elif where is None or where(row):
                yield row


def _equals(value: Any, expected: Any) -> bool:
    if isinstance(value, list) and not isinstance(expected, list):
        return any(_equals(item, expected) for item in value)
    return value == expected or (isinstance(expected, str) and not isinstance(value, str) and _text(value) == expected)


# Views of a row -------------------------------------------------------------------------------------------------------


def _sample(row: Row, data: Dataset, split: str) -> Sample:
    question = next((str(row[name]) for name in INPUTS if row.get(name)), "")
    context = f"{_clean(row['context'])}\n" if row.get("context") else ""
    gold = f"\nGold: {' | '.join(row['answers'])}" if row.get("answers") else ""
    place = ", ".join(str(row[name]) for name in ("task", "dataset") if row.get(name))
    title = " ".join(filter(None, [split and f"{split}:", str(row.get("id", "")), place and f"({place})"]))
    names = responders_of(data.features)
    if set(STAGE2) - STAGE2_LATER <= row.keys():
        panels = [_stage2_panel(row, i) for i in range(len(row["origin"]))]
    elif names:
        panels = [_response_panel(name, row[name]) for name in names]
    else:
        hidden = {"id", "task", "dataset", "context", "answers", *INPUTS}
        panels = [Panel("row", {name: _clean(value) for name, value in row.items() if name not in hidden})]
    return Sample(plain_text(title), plain_text(context + question + gold), panels)


def _stage2_panel(row: Row, i: int) -> Panel:
    grades, details = row.get("correct"), row.get("error_details")
    facts = {
        "score": f"{row['scores'][i]:g}",
        "grade": GRADES[grades[i]] if grades else "",
        "call": call_in(row["task"], row["responses"][i]) if row["uses_tool"][i] else "",
        "result": row["tool_outputs"][i],
        "error": _error(row["errors"][i], details[i] if details else None),
        "prediction": row["answer"][i],
        "response": row["responses"][i],
    }
    return _panel(row["origin"][i], facts)


def call_in(task: str, text: str) -> str:
    """Return the call in a response of a known task; "yes" if the task is unknown or the call cannot be read.

    >>> call_in("math", "So it is calculator(6*7).")
    'calculator(6*7)'
    """
    if task not in TASKS:
        return "yes"
    tool = TASKS[task].tool
    argument = read_call(text, tool).argument
    return "yes" if argument is None else render_call(ToolCall(tool.name, argument), tool)


def _response_panel(name: str, response: Mapping[str, Any] | None) -> Panel:
    if response is None:
        return Panel(name, {"response": "(none)"})
    tool, argument = response["tool"], response["argument"]
    is_graded = response["n_calls"] is not None or response["correct"] is not None
    facts = {
        "grade": GRADES[response["correct"]] if is_graded else "",
        "call": f"{tool}({argument if argument is not None else '...'})" if tool else "",
        "result": response["tool_output"],
        "error": _error(response["tool_error"] or response["error"], response.get("tool_error_detail")),
        "prediction": " | ".join(response["predictions"] or ()),
        "response": response["text"],
    }
    return _panel(name, facts)


def _panel(title: str, facts: Mapping[str, Any]) -> Panel:
    return Panel(plain_text(title), {label: _clean(text) for label, text in facts.items() if text})


def _error(kind: str | None, detail: str | None) -> str:
    return f"{kind}: {detail}" if kind and detail else kind or ""


# Texts ----------------------------------------------------------------------------------------------------------------


def plain_text(text: str) -> str:
    r"""Return a text without escape sequences of terminals, control characters and marks of text direction.

    >>> plain_text("a \x1b[31mred\x1b[0m word\x07")
    'a red word'
    """
    return _control.sub("", _escape_sequence.sub("", text))


def _clean(value: Any) -> str:
    text = plain_text(_text(value))
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({len(text):,} characters)"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _labels(sample: Sample) -> list[str]:
    return list(dict.fromkeys(label for panel in sample.panels for label in panel.facts))


def _sample_text(sample: Sample) -> str:
    """Return a sample as a text table with a column for each panel."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=None, show_lines=True, expand=False)
    for name in ("", *(panel.title for panel in sample.panels)):
        table.add_column(Text(name), overflow="fold")
    for label in _order(_labels(sample)):
        table.add_row(Text(label), *(Text(panel.facts.get(label, "")) for panel in sample.panels))
    file = io.StringIO()
    console = Console(file=file, width=max(80, shutil.get_terminal_size().columns), no_color=True, force_jupyter=False)
    console.print(Text(sample.title), Text(sample.question), table, sep="\n")
    return file.getvalue()


def _order(labels: Sequence[str]) -> list[str]:
    known = ["score", "grade", "call", "result", "error", "prediction", "response"]
    return sorted(labels, key=lambda label: known.index(label) if label in known else len(known))


def _sample_html(sample: Sample) -> str:
    """Return a sample as an HTML table with a column for each panel."""

    def cell(tag: str, text: str) -> str:
        return f'<{tag} style="{CELL}">{html.escape(text)}</{tag}>'

    rows = ["".join([cell("th", ""), *(cell("th", panel.title) for panel in sample.panels)])]
    for label in _order(_labels(sample)):
        rows.append(cell("th", label) + "".join(cell("td", panel.facts.get(label, "")) for panel in sample.panels))
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    head = f"<b>{html.escape(sample.title)}</b>\n{html.escape(sample.question)}"
    return f'<div style="white-space: pre-wrap">{head}</div>\n<table>\n{body}\n</table>'
