"""trice_entries: rows of the original's files as entries: of which kind, task and data set, and what they hold.

| kind | what tells it |
|---|---|
| stage2 | `query` and `responses` |
| gold, response | a file `..._{responder}_response` |
| tool | `tool`, the call for a question |
| raw | a file `..._right` or `..._wrong` |
| stage1 | `instruction` and `output` |
| question | anything else with a question: questions that nobody has answered yet |

The task: the unit's name; else the instruction (a task's own sentence, or one that names its tool); else that of other
rows of the unit; else that of the data set. The data set: as the id holds it, else the file's or the unit's name, else
"". An id that begins with the data set's name in the original's spelling gets ours (GSM8K-7 is gsm8k-7).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from toolrlef_data.loading_scripts import SOURCES
from toolrlef_data.records import Drop
from toolrlef_data.tasks import Task
from toolrlef_data.trice_files import UPSTREAM_NAMES, own_name, upstream_name
from toolrlef_data.trice_folder import MIX, File, Line

__all__ = ["Entry", "Naming", "answers_in", "asked", "entry_of"]

Row = Mapping[str, Any]


@dataclass(slots=True)
class Entry:
    """One row of a file.

    Args:
        kind: see the table above.
        split, name: of its file; `name` is the responder of a response, "right" or "wrong" of a raw row.
        level: 0 for the files whose order counts first; see `_level`.
        where: file and line.
        row: its fields, checked.
        text: the input as the model sees it.
        id: "" where the file has none.
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


@dataclass(frozen=True)
class Naming:
    """How a folder's units, tasks and data sets are called."""

    tasks: Mapping[str, Task]
    files: Sequence[File]

    @cached_property
    def _tasks_by_name(self) -> dict[str, str]:
        return {name.lower(): name for name in self.tasks}

    @cached_property
    def _data_sets(self) -> re.Pattern[str]:
        names = {*UPSTREAM_NAMES, *UPSTREAM_NAMES.values(), *SOURCES}
        for file in self.files:
            if not self.is_shared(file.unit):
                names.add(file.unit)
            if file.role in ("right", "wrong") or (file.role == "rows" and file.place == "stage1"):
                names |= {file.name} - {MIX} if file.name.lower() != file.unit.lower() else set()
        spelled = [re.escape(name).replace("_", "[-_]") for name in sorted(names, key=len, reverse=True)]
        return re.compile(rf"(?<![A-Za-z0-9])({'|'.join(spelled)})(?![A-Za-z])", re.IGNORECASE)

    @cached_property
    def _own_names(self) -> dict[str, str]:
        """A data set's name with every sign but letters and digits left out -> ours."""
        known = {_bare(own): own for own in SOURCES}
        known |= {_bare(own_name(name)): own_name(name) for file in self.files for name in (file.unit, file.name)}
        return known | {_bare(each): own for own, up in UPSTREAM_NAMES.items() for each in (own, up)}

    @cached_property
    def _unit_tasks(self) -> dict[str, str | None]:
        told: dict[str, str | None] = {}
        for file in self.files:
            if told.get(file.unit) is None:
                told[file.unit] = self._tasks_by_name.get(file.unit.lower()) or self._told_by_rows(file)
        for unit in told:
            source = own_name(unit)
            if told[unit] is None and source in SOURCES and SOURCES[source].task in self.tasks:
                told[unit] = SOURCES[source].task
        return told

    def _told_by_rows(self, file: File) -> str | None:
        sentences = (_sentence(line.row, _kind(file, line.row)) for line in file.lines)
        first = next((sentence for sentence in sentences if sentence), "")
        return self.told(first) if file.unit != MIX else None

    def is_shared(self, unit: str) -> bool:
        """Whether a unit is a task or the mix, not a data set; MLQA is the data set of the task mlqa."""
        return unit == MIX or (unit.lower() in self._tasks_by_name and unit not in UPSTREAM_NAMES.values())

    @cached_property
    def _tasks_by_sentence(self) -> dict[str, str | None]:
        return {}

    def told(self, sentence: str) -> str | None:
        """The task of an instruction: one with this very sentence, else the only one whose tool it names."""
        if sentence not in self._tasks_by_sentence:
            self._tasks_by_sentence[sentence] = self._told_by(sentence)
        return self._tasks_by_sentence[sentence]

    def _told_by(self, sentence: str) -> str | None:
        for name, task in self.tasks.items():
            if sentence == task.instruction:
                return name
        named = {
            task.tool.name: name
            for name, task in reversed(list(self.tasks.items()))
            if re.search(rf"(?<!\w){re.escape(task.tool.name)}(?!\w)", sentence)
        }
        return next(iter(named.values())) if len(named) == 1 else None

    def task_of(self, file: File, row: Row, kind: str) -> str | None:
        by_unit = self._tasks_by_name.get(file.unit.lower())
        return by_unit or self.told(_sentence(row, kind)) or self._unit_tasks[file.unit]

    def unit_task(self, file: File) -> str | None:
        return self._unit_tasks[file.unit]

    def data_set_of(self, row_id: str, file: File) -> str:
        if found := self._data_sets.search(row_id):
            return self._own_names.get(_bare(found[1]), found[1])
        if not self.is_shared(file.unit):
            return own_name(file.unit)
        is_part = file.role in ("right", "wrong") or (file.role == "rows" and file.place != "stage2")
        is_whole = file.name.lower() in (file.unit.lower(), MIX) and file.name not in UPSTREAM_NAMES.values()
        return own_name(file.name) if is_part and not is_whole else ""


def entry_of(file: File, line: Line, naming: Naming) -> Entry | Drop:
    """A line as an entry, or why it cannot be used."""
    kind = _kind(file, line.row)
    if kind is None:
        return Drop("not_a_row", f"its keys: {', '.join(line.row)}")
    row = _checked(kind, line.row)
    if isinstance(row, Drop):
        return row
    task = naming.task_of(file, line.row, kind)
    if task is None:
        return Drop("unknown_task", _sentence(line.row, kind)[:200])
    given = line.row.get("id")
    row_id = "" if given is None or isinstance(given, (dict, list, bool)) else str(given)
    if kind == "response" and not row_id:
        return Drop("no_id", "responses are joined by id")
    dataset = naming.data_set_of(row_id, file)
    upstream = upstream_name(dataset)
    if dataset and row_id.startswith(f"{upstream}-"):
        row_id = dataset + row_id[len(upstream) :]
    if row.get("input") and not row.get("question", True) and naming.told(row["instruction"] or ""):
        row["instruction"] = None  # the task's sentence, no question
    text = _input_text(kind, row, naming.tasks[task])
    answers = _gold_answers(line.row) if kind == "stage2" else answers_in(line.row.get("answer"))
    name = file.role if kind == "raw" else file.name
    return Entry(
        kind, file.split, name, _level(kind, file, naming), line.where, row, text, task, dataset, row_id, answers
    )


def answers_in(value: Any) -> list[str]:
    """Gold answers, each once: of a text, a number, or a list of these.

    >>> answers_in("57"), answers_in(57.0), answers_in(["NYC", None, "New York", "NYC"]), answers_in("")
    (['57'], ['57.0'], ['NYC', 'New York'], [])
    """
    if isinstance(value, str):
        return [value] if value.strip() else []
    values: Iterable[Any] = value if isinstance(value, list) else [value]
    texts = (str(each) for each in values if each is not None and not isinstance(each, (dict, list)))
    return list(dict.fromkeys(text for text in texts if text.strip()))


def asked(text: str, question: str, task: Task, context: str = "") -> tuple[str, str]:
    """(question, context) of a raw row, found by what `Task.render` puts round them.

    Args:
        text: `input`; one that `render` would not give is the context itself.
        question: "" where the file has only the input.
        context: "" where the file does not name it.

    >>> from toolrlef_data.tasks import TASKS
    >>> asked("Ann has 3.\\nHow many?", "How many?", TASKS["math"]), asked("Ann has 3.", "How many?", TASKS["math"])
    (('How many?', 'Ann has 3.'), ('How many?', 'Ann has 3.'))
    >>> asked("Context: A.\\nQuestion: B?", "", TASKS["mlqa"]), asked("A. B?", "", TASKS["math"])
    (('B?', 'A.'), ('A. B?', ''))
    >>> asked("A.\\nB?", "", TASKS["math"], "A."), asked("", "B?", TASKS["math"], "A.")
    (('B?', 'A.'), ('B?', 'A.'))
    """
    if context.strip():
        before, _, after = task.render({"question": "\0", "context": context}).partition("\0")
        held = text.startswith(before) and text.endswith(after) and len(text) > len(before) + len(after)
        return question or (text[len(before) : len(text) - len(after)] if held else text), context
    if not text.strip() or text in (question, task.render({"question": question, "context": ""})):
        return question, ""
    if question:
        before, _, after = task.render({"question": question, "context": "\0"}).partition("\0")
        held = text.startswith(before) and text.endswith(after) and len(text) >= len(before) + len(after)
        return question, text[len(before) : len(text) - len(after)] if held else text
    before, between, _ = re.split("[\0\1]", task.render({"question": "\1", "context": "\0"}) + "\1")[:3]
    context, mark, found = text.rpartition(between) if between else ("", "", "")
    named = before and mark and text.startswith(before)  # else nothing tells where a context would end
    return (found, context[len(before) :]) if named else (text, "")


def _kind(file: File, row: Row) -> str | None:
    if file.role == "response":
        return "gold" if file.name.lower() == "gold" else "response"
    if "query" in row and "responses" in row:
        return "stage2"
    if file.role in ("right", "wrong") and file.place != "stage1":
        return "tool" if "tool" in row else "raw"
    if "tool" in row:
        return "tool"
    if file.place != "raw" and {"instruction", "output"} <= set(row) and "question" not in row:
        return "stage1"
    if file.role in ("right", "wrong"):
        return "raw"
    return "question" if {"question", "input", "instruction"} & set(row) else None


def _sentence(row: Row, kind: str | None) -> str:
    """The instruction, where the kind of row has one: in others `instruction` is a question of lama or qa."""
    if kind == "stage2":
        return str(row["query"]).partition("\n")[0]
    return str(row.get("instruction") or "") if kind in ("stage1", "gold") else ""


def _checked(kind: str, row: Row) -> dict[str, Any] | Drop:
    if kind == "stage2":
        return _ranked(row)
    told = {name: _text(row.get(name)) for name in ("instruction", "input", "question", "context")}
    if kind in ("stage1", "gold"):
        output = _text(row.get("output"))
        if output is None or told["instruction"] is None:
            return Drop("no_text", f"{'instruction' if output is not None else 'output'} is no text")
        return {"instruction": told["instruction"], "input": told["input"] or "", "output": output}
    if kind != "response" and not (told["question"] or told["input"] or told["instruction"]):
        return Drop("no_question", f"its keys: {', '.join(row)}")
    if kind == "tool":
        call = _text(row["tool"])
        return {**told, "tool": call} if call else Drop("no_text", "tool is no text")
    # Local models' responses stand in `response`; the row they answer may hold an `output` of its own.
    field = "response" if "response" in row else "output"
    if kind == "response" and row.get(field) is not None and _text(row[field]) is None:
        return Drop("no_text", f"{field} is no text")
    return {**told, "text": _text(row.get(field)), "field": field}


def _ranked(row: Row) -> dict[str, Any] | Drop:
    query, responses = _text(row["query"]), row["responses"]
    origin, scores, answer = row.get("origin"), row.get("scores"), row.get("answer")
    if query is None or not isinstance(responses, list) or not all(isinstance(text, str) for text in responses):
        return Drop("no_text", "query is no text, or responses are no list of texts")
    if not isinstance(origin, list) or not isinstance(scores, list) or not len(responses) == len(origin) == len(scores):
        return Drop("ragged", "responses, origin and scores must be lists of one length")
    if not all(isinstance(score, (int, float)) and abs(score) < 1e300 for score in scores):
        return Drop("no_score", f"scores are no numbers: {scores!r:.80}")
    answer = answer if isinstance(answer, list) and len(answer) == len(responses) else [None] * len(responses)
    told = {"query": query, "responses": responses, "origin": [str(name) for name in origin]}
    # The column holds one text each: of a list of gold answers the first; all of them are in `answers`.
    firsts = [next(iter(answers_in(value)), None) if isinstance(value, list) else _text(value) for value in answer]
    return told | {"scores": [float(score) for score in scores], "answer": firsts}


def _gold_answers(row: Row) -> list[str]:
    """The gold answers of a row of stage 2, which stand in the place of gold's prediction."""
    origin, answer = row["origin"], row.get("answer")
    if "gold" not in origin or not isinstance(answer, list) or len(answer) != len(origin):
        return []
    return answers_in(answer[origin.index("gold")])


def _text(value: Any) -> str | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def _input_text(kind: str, row: Row, task: Task) -> str:
    if kind == "stage2":
        return str(row["query"]).partition("\n")[2]
    if kind in ("stage1", "gold") or row["input"]:
        return str(row["input"])
    question = str(row["question"] or row["instruction"] or "")
    return task.render({"question": question, "context": row["context"]}) if row["context"] else question


def _level(kind: str, file: File, naming: Naming) -> int:
    """Which of the files with the same rows comes first: the mix, the task's, a data set's unit, gold, the parts."""
    if file.unit == MIX:
        return 0
    if kind == "gold":
        return 3
    is_whole = file.name.lower() == file.unit.lower()
    return (1 if naming.is_shared(file.unit) else 2) if is_whole else 4


def _bare(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()
