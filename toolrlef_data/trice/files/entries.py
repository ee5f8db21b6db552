"""entries: rows of the original's files as entries: of which task and data set, and what they hold.

The task: the unit's name; else the row's instruction (a task's own sentence, or one that names its tool); else that of
another row of the unit, or of its data set. The data set: as the id holds it, else the unit's or the file's name, else
"". An id that begins with the data set's name in the original's spelling gets ours (GSM8K-7 is gsm8k-7).
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
from toolrlef_data.trice.files.writer import UPSTREAM_NAMES, own_id, own_name

__all__ = ["Entry", "Naming", "answers_in", "context_of", "entry_of"]

Row = Mapping[str, Any]

TARGET = ("instruction", "output")
NEEDED = {"stage1": TARGET, "gold": TARGET, "tool": ("tool",), "stage2": ("query", "responses", "origin", "scores")}


@dataclass(slots=True)
class Entry:
    """One row of a file.

    Args:
        kind: that of its file; "raw" where it is right or wrong.
        split: of its file.
        name: the responder of a response; "right" or "wrong".
        level: see `Naming.level_of`.
        where: file and line.
        row: its fields, checked.
        text: the input as the model sees it.
        id: "" where the file has none, as in stage 1 and stage 2.
    """

    kind: str
    split: str
    name: str
    level: int
    where: str
    row: dict[str, Any]
    text: str
    task: str
    dataset: str
    id: str
    answers: list[str]


class Naming:
    """How a folder's units, tasks and data sets are called."""

    def __init__(self, tasks: Mapping[str, Task], files: Sequence[File]) -> None:
        self.tasks = tasks
        self._by_name = {name.lower(): name for name in tasks}
        self._told = cache(self._task_told)
        self.unit_tasks: dict[str, str | None] = {}
        for file in files:
            if not self.unit_tasks.get(file.unit):
                self.unit_tasks[file.unit] = self._by_name.get(file.unit.lower()) or self._told_by_rows(file)
        for unit, task in self.unit_tasks.items():
            source = own_name(unit)
            if task is None and source in SOURCES and SOURCES[source].task in tasks:
                self.unit_tasks[unit] = SOURCES[source].task
        named = {own_name(name) for file in files for name in (file.unit, file.name) if not self._is_shared(name)}
        self._data_sets = {_in_id(name): name for name in [*SOURCES, *UPSTREAM_NAMES, *named] if name}
        self._data_sets |= {_in_id(name): own for own, name in UPSTREAM_NAMES.items()}
        spelled = "|".join(
            re.escape(name).replace("_", "[-_]") for name in sorted(self._data_sets, key=len, reverse=True)
        )
        self._in_ids = re.compile(rf"(?<![A-Za-z0-9])({spelled})(?![A-Za-z])", re.IGNORECASE)

    def task_of(self, file: File, row: Row, kind: str) -> str | None:
        by_unit = self._by_name.get(file.unit.lower())
        return by_unit or self._told(_sentence(row, kind)) or self.unit_tasks[file.unit]

    def data_set_of(self, file: File, row_id: str) -> str:
        if found := self._in_ids.search(row_id):
            return self._data_sets[_in_id(found[1])]
        name = file.name if self._is_shared(file.unit) else file.unit
        return "" if self._is_shared(name) else own_name(name)

    def level_of(self, file: File) -> int:
        """Which of the files with the same rows comes first: the mix, a task's, the older layout's, gold, the parts."""
        if file.unit == MIX:
            return 0
        if file.kind == "gold":
            return 3
        is_part = file.name.lower() != file.unit.lower()
        return 4 if is_part else 1 if self._is_shared(file.unit) else 2

    def _is_shared(self, name: str) -> bool:
        """Whether this is a task or the mix, not a data set; MLQA is the data set of the task mlqa."""
        return name == MIX or (name.lower() in self._by_name and name not in UPSTREAM_NAMES.values())

    def _task_told(self, sentence: str) -> str | None:
        """The task of an instruction: one with this very sentence, else the only one whose tool it names."""
        named = [name for name, task in self.tasks.items() if sentence == task.instruction] or [
            name
            for name, task in self.tasks.items()
            if re.search(rf"(?<!\w){re.escape(task.tool.name)}(?!\w)", sentence)
        ]
        return named[0] if len({self.tasks[name].tool.name for name in named}) == 1 else None

    def _told_by_rows(self, file: File) -> str | None:
        rows = (line.row for line in file.lines if file.unit != MIX and not isinstance(line.row, Drop))
        return next((task for row in rows if (task := self._told(_sentence(row, _kind(file, row))))), None)


def _in_id(name: str) -> str:
    """A data set's name in the spelling by which ids are looked through: sample_lama stands in `sample-lama-009`."""
    return name.lower().replace("-", "_")


def entry_of(file: File, line: Line, naming: Naming) -> Entry | Drop:
    """A line as an entry, or why it cannot be used."""
    row = line.row
    if isinstance(row, Drop):
        return row
    kind = _kind(file, row)
    checked = _checked(kind, row)
    if isinstance(checked, Drop):
        return checked
    task = naming.task_of(file, row, kind)
    if task is None:
        return Drop("unknown_task", _sentence(row, kind)[:200])
    row_id = _text(row, "id")
    if not row_id and kind not in ("stage1", "stage2"):
        return Drop("no_id", f"`id` is no text; its keys: {', '.join(row)}")
    dataset = naming.data_set_of(file, row_id)
    if kind == "stage2":
        text = checked["query"].partition("\n")[2]
        # The gold answers stand in the place of gold's prediction.
        answers = answers_in(dict(zip(checked["origin"], row.get("answer", ()), strict=False)).get("gold"))
    else:
        is_asked = kind not in ("stage1", "gold")
        text = _text(row, "input", *(("question", "instruction") if is_asked else ()))
        answers = answers_in(row.get("answer"))
    name = file.kind if kind == "raw" else file.responder
    level, own = naming.level_of(file), own_id(dataset, row_id)
    return Entry(kind, file.split, name, level, line.where, checked, text, task, dataset, own, answers)


def answers_in(value: Any) -> list[str]:
    """Gold answers, each once: of a text, a number, or a list of these.

    >>> answers_in("57"), answers_in(57.0), answers_in(["NYC", None, "New York", "NYC"]), answers_in("")
    (['57'], ['57.0'], ['NYC', 'New York'], [])
    """
    values: Iterable[Any] = value if isinstance(value, list) else [value]
    texts = (str(each) for each in values if each is not None and not isinstance(each, (dict, list)))
    return list(dict.fromkeys(text for text in texts if text.strip()))


def context_of(text: str, question: str, task: Task) -> str:
    """The context of a raw row: what its input has beside what `Task.render` puts round a context.

    >>> from toolrlef_data.tasks import TASKS
    >>> context_of("Ann has 3.\\nHow many?", "How many?", TASKS["math"]), context_of("A. B?", "A. B?", TASKS["math"])
    ('Ann has 3.', '')
    """
    if text in ("", question):
        return ""
    before, _, after = task.render({"question": question, "context": "\0"}).partition("\0")
    is_held = text.startswith(before) and text.endswith(after) and len(text) >= len(before) + len(after)
    return text[len(before) : len(text) - len(after)] if is_held else text


def _kind(file: File, row: Row) -> str:
    if file.kind in ("right", "wrong"):
        return "raw"
    return file.kind or ("stage1" if {*TARGET} <= set(row) and "question" not in row else "question")


def _sentence(row: Row, kind: str) -> str:
    """The instruction, where the kind of row has one: in others `instruction` is a question of lama or qa."""
    if kind == "stage2":
        return _text(row, "query").partition("\n")[0]
    return _text(row, "instruction") if kind in ("stage1", "gold") else ""


def _checked(kind: str, row: Row) -> dict[str, Any] | Drop:
    """The fields that the tables are made from."""
    # Local models' responses stand in `response`; the row they answer may hold an `output` of its own.
    field = "response" if "response" in row else "output"
    needed = (field,) if kind == "response" else NEEDED.get(kind, ())
    if any(name not in row for name in needed):
        return Drop("not_a_row", f"its keys: {', '.join(row)}")
    if kind == "stage2":
        return _ranked(row)
    if kind == "response" and row[field] is None:
        return {"text": None, "field": field}
    if wrong := [name for name in needed if not isinstance(row[name], str)]:
        return Drop("no_text", f"{', '.join(wrong)} is no text")
    if kind == "response":
        return {"text": row[field], "field": field}
    if kind in ("stage1", "gold"):
        return {"instruction": row["instruction"], "input": _text(row, "input"), "output": row["output"]}
    question = _text(row, "question", "instruction")
    if not question:
        return Drop("no_question", f"its keys: {', '.join(row)}")
    told = {"question": question, "input": _text(row, "input")}
    output = row.get("output")
    return told | ({"tool": row["tool"]} if kind == "tool" else {"text": output if isinstance(output, str) else None})


def _ranked(row: Row) -> dict[str, Any] | Drop:
    query, responses, origin, scores = (row[name] for name in NEEDED["stage2"])
    if not isinstance(query, str) or not isinstance(responses, list) or not all(isinstance(r, str) for r in responses):
        return Drop("no_text", "query is no text, or responses are no list of texts")
    answer = row.get("answer", [None] * len(responses))
    lists = (origin, scores, answer)
    if not all(isinstance(each, list) and len(each) == len(responses) for each in lists):
        return Drop("ragged", "responses, origin, scores and answer must be lists of one length")
    if not all(isinstance(score, (int, float)) and abs(score) < 1e300 for score in scores):
        return Drop("no_score", f"scores are no numbers: {scores!r:.80}")
    # The column holds one text each: of a list of gold answers the first; all of them are in `answers`.
    firsts = [value if isinstance(value, str) else next(iter(answers_in(value)), None) for value in answer]
    told = {"query": query, "responses": responses, "origin": [str(name) for name in origin]}
    return {**told, "scores": [float(score) for score in scores], "answer": firsts}


def _text(row: Row, *names: str) -> str:
    """The first of these fields that holds a text, else ""."""
    return next((value for name in names if isinstance(value := row.get(name), str) and value), "")
