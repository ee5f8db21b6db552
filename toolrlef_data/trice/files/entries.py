"""Entries: the parsed rows of TRICE's files, with their task and data set.

A unit is a subfolder such as raw/math (see `folder`). The first source that yields a name determines the task and the
data set:

- Task: the unit's name; the row's instruction, which equals a task's or names its tool; another row of the unit; the
  data set that the unit is named after.
- Data set: the row's id; the unit's name or the file's name; else "".

An id that starts with the data set's name in TRICE's files gets the name in this package (GSM8K-7 is gsm8k-7).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from toolrlef_data.loading_scripts import SOURCES
from toolrlef_data.records import Drop
from toolrlef_data.tasks.task import Task
from toolrlef_data.trice.files.folder import MIX, File, Line
from toolrlef_data.trice.files.names import UPSTREAM_NAMES, normalise_id, normalise_name

__all__ = ["Entry", "NameResolver", "extract_context", "parse_answers", "parse_entry"]

Row = Mapping[str, Any]

TARGET = ("instruction", "output")
STAGE2_FIELDS = ("query", "responses", "origin", "scores")
REQUIRED_FIELDS = {"stage1": TARGET, "gold": TARGET, "tool": ("tool",), "stage2": STAGE2_FIELDS}


@dataclass(slots=True)
class Entry:
    """One row of a file.

    Args:
        kind: the kind of its file, one of `task_entries.KINDS`; "raw" for files of right and wrong rows.
        split: the split of its file.
        name: the responder of a response, or "right" or "wrong".
        precedence: see `NameResolver.precedence_of`.
        position: file and line.
        row: the checked fields.
        text: the rendered input.
        task: the name of its task.
        dataset: the name of its data set, or "".
        id: "" if the file has no ids, as in stage 1 and stage 2.
        answers: the gold answers in its row.
    """

    kind: str
    split: str
    name: str
    precedence: int
    position: str
    row: dict[str, Any]
    text: str
    task: str
    dataset: str
    id: str
    answers: list[str]


class NameResolver:
    """Resolver of the task and the data set of each row, from the names, instructions and ids in a folder."""

    def __init__(self, tasks: Mapping[str, Task], files: Sequence[File]) -> None:
        self.tasks = tasks
        self._by_name = {name.lower(): name for name in tasks}
        self._match_instruction = cache(self._task_of_instruction)
        self.unit_tasks: dict[str, str | None] = {}
        for file in files:
            if not self.unit_tasks.get(file.unit):
                self.unit_tasks[file.unit] = self._by_name.get(file.unit.lower()) or self._task_of_rows(file)
        for unit, task in self.unit_tasks.items():
            source = normalise_name(unit)
            if task is None and source in SOURCES and SOURCES[source].task in tasks:
                self.unit_tasks[unit] = SOURCES[source].task
        names = {normalise_name(name) for file in files for name in (file.unit, file.name) if not self._is_shared(name)}
        self._datasets = {_id_spelling(name): name for name in [*SOURCES, *UPSTREAM_NAMES, *names] if name}
        self._datasets |= {_id_spelling(upstream): name for name, upstream in UPSTREAM_NAMES.items()}
        spellings = "|".join(
            re.escape(name).replace("_", "[-_]") for name in sorted(self._datasets, key=len, reverse=True)
        )
        self._dataset_in_id = re.compile(rf"(?<![A-Za-z0-9])({spellings})(?![A-Za-z])", re.IGNORECASE)

    def task_of(self, file: File, row: Row, kind: str) -> str | None:
        by_unit = self._by_name.get(file.unit.lower())
        return by_unit or self._match_instruction(_instruction(row, kind)) or self.unit_tasks[file.unit]

    def dataset_of(self, file: File, row_id: str) -> str:
        if match := self._dataset_in_id.search(row_id):
            return self._datasets[_id_spelling(match[1])]
        name = file.name if self._is_shared(file.unit) else file.unit
        return "" if self._is_shared(name) else normalise_name(name)

    def precedence_of(self, file: File) -> int:
        """Return the rank of a file among files with the same rows; rows are taken from the lowest rank first.

        0: the mix, 1: a task's file, 2: the older layout's file, 3: gold responses, 4: a data set's part of a unit.
        """
        if file.unit == MIX:
            return 0
        if file.kind == "gold":
            return 3
        is_shared = self._is_shared(file.unit)
        is_part = file.name.lower() != file.unit.lower() or (is_shared and not self._is_shared(file.name))
        return 4 if is_part else 1 if is_shared else 2

    def _is_shared(self, name: str) -> bool:
        """Return whether the name is that of a task or of the mix, and not of a data set.

        The spelling MLQA is the data set, any other spelling the task.
        """
        return name == MIX or (name.lower() in self._by_name and name not in UPSTREAM_NAMES.values())

    def _task_of_instruction(self, instruction: str) -> str | None:
        """Return the task with exactly this instruction, or else the task of the only tool that it names."""
        names = [name for name, task in self.tasks.items() if instruction == task.instruction] or [
            name
            for name, task in self.tasks.items()
            if re.search(rf"(?<!\w){re.escape(task.tool.name)}(?!\w)", instruction)
        ]
        return names[0] if len({self.tasks[name].tool.name for name in names}) == 1 else None

    def _task_of_rows(self, file: File) -> str | None:
        """Return the task of the first row whose instruction determines one."""
        rows = (line.row for line in file.lines if file.unit != MIX and not isinstance(line.row, Drop))
        return next(
            (task for row in rows if (task := self._match_instruction(_instruction(row, _kind(file, row))))), None
        )


def _id_spelling(name: str) -> str:
    """Return a data set's name with underscores and in lower case, so that `sample-lama-009` matches sample_lama."""
    return name.lower().replace("-", "_")


def parse_entry(file: File, line: Line, resolver: NameResolver) -> Entry | Drop:
    """Return a line as an entry, or the reason why it is dropped."""
    row = line.row
    if isinstance(row, Drop):
        return row
    kind = _kind(file, row)
    checked = _check_row(kind, row)
    if isinstance(checked, Drop):
        return checked
    task = resolver.task_of(file, row, kind)
    if task is None:
        return Drop("unknown_task", _instruction(row, kind)[:200])
    row_id = _text(row, "id")
    if not row_id and kind not in ("stage1", "stage2"):
        return Drop("no_id", f"`id` is missing or not text; found the keys {', '.join(row)}")
    dataset = resolver.dataset_of(file, row_id)
    if kind == "stage2":
        text = checked["query"].partition("\n")[2]
        # TRICE stores the gold answers as the `answer` of the response named gold.
        answers = parse_answers(dict(zip(checked["origin"], row.get("answer", ()), strict=False)).get("gold"))
    else:
        has_question = kind not in ("stage1", "gold")
        text = _text(row, "input", *(("question", "instruction") if has_question else ()))
        answers = _gold_answers(row)
    name = file.kind if kind == "raw" else file.responder
    precedence, row_id = resolver.precedence_of(file), normalise_id(dataset, row_id)
    return Entry(kind, file.split, name, precedence, line.position, checked, text, task, dataset, row_id, answers)


def parse_answers(value: Any) -> list[str]:
    """Return the distinct gold answers in a text, a number, or a list of these.

    >>> parse_answers("57"), parse_answers(57.0), parse_answers(["NYC", None, "New York", "NYC"]), parse_answers("")
    (['57'], ['57.0'], ['NYC', 'New York'], [])
    """
    values: Iterable[Any] = value if isinstance(value, list) else [value]
    texts = (str(item) for item in values if item is not None and not isinstance(item, (dict, list)))
    return list(dict.fromkeys(text for text in texts if text.strip()))


def _gold_answers(row: Row) -> list[str]:
    """Return the gold answers in `answers`, which `writer` adds if `answer` lacks some, else those in `answer`."""
    answers = row.get("answers")
    return parse_answers(answers if isinstance(answers, list) and answers else row.get("answer"))


def extract_context(text: str, question: str, task: Task) -> str:
    """Return the context of a raw row: its input without the text that `Task.render` adds around a context.

    >>> from toolrlef_data.tasks import TASKS
    >>> extract_context("Ann has 3.\\nHow many?", "How many?", TASKS["math"])
    'Ann has 3.'
    >>> extract_context("A. B?", "A. B?", TASKS["math"])
    ''
    """
    if text in ("", question):
        return ""
    prefix, _, suffix = task.render({"question": question, "context": "\0"}).partition("\0")
    is_rendered = text.startswith(prefix) and text.endswith(suffix) and len(text) >= len(prefix) + len(suffix)
    return text[len(prefix) : len(text) - len(suffix)] if is_rendered else text


def _kind(file: File, row: Row) -> str:
    """Return the kind of a row, one of `task_entries.KINDS`."""
    if file.kind in ("right", "wrong"):
        return "raw"
    return file.kind or ("stage1" if {*TARGET} <= set(row) and "question" not in row else "question")


def _instruction(row: Row, kind: str) -> str:
    """Return the row's instruction; "" for the kinds whose field `instruction` contains the question (lama, qa)."""
    if kind == "stage2":
        return _text(row, "query").partition("\n")[0]
    return _text(row, "instruction") if kind in ("stage1", "gold") else ""


def _check_row(kind: str, row: Row) -> dict[str, Any] | Drop:
    """Return the fields that the tables need, or the reason why the row is dropped."""
    # Responses of local models are in `response`, and their rows can have another `output`; responses of APIs are in
    # `output`, or in both.
    is_local = "response" in row and ("output" not in row or row["output"] != row["response"])
    field = "response" if is_local else "output"
    required = (field,) if kind == "response" else REQUIRED_FIELDS.get(kind, ())
    if any(name not in row for name in required):
        return Drop("not_a_row", f"expected the keys {', '.join(required)}, found {', '.join(row)}")
    if kind == "stage2":
        return _check_stage2_row(row)
    if kind == "response" and row[field] is None:
        return {"text": None, "field": field}
    if wrong := [name for name in required if not isinstance(row[name], str)]:
        return Drop("no_text", f"{', '.join(wrong)}: expected text")
    if kind == "response":
        return {"text": row[field], "field": field}
    if kind in ("stage1", "gold"):
        return {"instruction": row["instruction"], "input": _text(row, "input"), "output": row["output"]}
    question = _text(row, "question", "instruction")
    if not question:
        return Drop("no_question", f"`question` and `instruction` have no text; found the keys {', '.join(row)}")
    fields = {"question": question, "input": _text(row, "input")}
    output = row.get("output")
    return fields | ({"tool": row["tool"]} if kind == "tool" else {"text": output if isinstance(output, str) else None})


def _check_stage2_row(row: Row) -> dict[str, Any] | Drop:
    query, responses, origin, scores = (row[name] for name in STAGE2_FIELDS)
    if not isinstance(query, str) or not isinstance(responses, list) or not all(isinstance(r, str) for r in responses):
        return Drop("no_text", "query must be text, and responses must be a list of texts")
    answer = row.get("answer", [None] * len(responses))
    if not all(isinstance(values, list) and len(values) == len(responses) for values in (origin, scores, answer)):
        return Drop("ragged", "responses, origin, scores and answer must be lists of the same length")
    if not all(type(score) in (int, float) and abs(score) < 1e300 for score in scores):
        return Drop("no_score", f"scores must be numbers: {scores!r:.80}")
    # The column has one text per response. The first of several gold answers represents the list in `answers`.
    firsts = [value if isinstance(value, str) else next(iter(parse_answers(value)), None) for value in answer]
    fields = {"query": query, "responses": responses, "origin": [str(name) for name in origin]}
    return {**fields, "scores": [float(score) for score in scores], "answer": firsts}


def _text(row: Row, *names: str) -> str:
    """Return the first non-empty text of these fields, or ""."""
    return next((value for name in names if isinstance(value := row.get(name), str) and value), "")
