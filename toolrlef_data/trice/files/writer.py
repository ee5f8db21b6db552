"""write: tables as the files that the original reads and writes, JSON Lines named .json.

| table | files |
|---|---|
| questions | raw/{unit}/{dataset}.json |
| graded | raw/{unit}/{dataset}_right.json (with the student's response as `output`), _wrong.json |
| labelled | the same, and stage1/{unit}/{dataset}_wrong.json: the rows with a verified call, as `tool` |
| stage1 | stage1/{unit}/{dataset}.json, {unit}.json; stage2/{unit}/{unit}_gold_response.json |
| responded | stage2/{unit}/{unit}_{responder}_response.json |
| stage2 | stage2/{unit}/{unit}.json |

A unit is a task or, in the older layout, a data set. Rows of every split but "train" go below dev/{unit}/ instead:
stage 1 as {unit}.json, stage 2 as {unit}_stage2.json, questions as {unit}.json, or {unit}_questions.json where the task
has such rows of stage 1. Several tasks are also mixed: stage1/mix/mix.json and stage2/mix/mix.json. `input` is the
question as the model sees it; for lama and qa it is also `instruction`, where the original's local models and its
reader look for it. Rows of no known data set stand in the unit's own files.
What these files have no place for is a line in dropped.json. Not covered: `solution` of a question, `pred` and the
summary line of the original's evaluator. `trice.files.load` reads these files back.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

from datasets import Dataset

from toolrlef_data.columns import DROPPED, GRADED, LABELLED, QUESTIONS, STAGE1, STAGE2, responders_of
from toolrlef_data.records import InputError
from toolrlef_data.tables.lineage import lineage
from toolrlef_data.tasks import TASKS
from toolrlef_data.trice.responders import Responding

__all__ = ["LEFT", "LOADED", "NO_REPLY", "UPSTREAM_NAMES", "check_tables", "own_id", "own_name", "upstream_name"]
__all__ += ["write_trice"]

Tables = Mapping[str, Mapping[str, Mapping[str, Dataset]]]
Row = Mapping[str, Any]
Lines = Iterator[tuple[str, dict[str, Any]]]

# How the original's files call its data sets.
UPSTREAM_NAMES = {
    "addsub": "AddSub",
    "asdiv": "ASDiv",
    "gsm8k": "GSM8K",
    "hotpotqa": "HotpotQA",
    "mlqa": "MLQA",
    "multiarith": "MultiArith",
    "nq_open": "NaturalQuestions",
    "squad": "SQuAD",
    "svamp": "SVAMP",
    "trex": "TREx",
    "triviaqa": "TriviaQA",
    "webquestions": "WebQuestions",
}
OWN_NAMES = {upstream.lower(): own for own, upstream in UPSTREAM_NAMES.items()}
# Of these the original's local models and its reader take the question from `instruction`.
ASKED_IN_INSTRUCTION = frozenset({"lama", "qa", "retrieval"})
LEFT = "dropped.json"
LOADED = "load_trice"  # the step in records of tables that `load` read, and in the ledger of what it left
NO_REPLY = ("publish", "no_reply")  # stage and reason in the ledger, where a response is not there
LEFT_ORDER = ("task", "dataset", "id", "stage", "reason", "detail")


def upstream_name(dataset: str) -> str:
    """A data set's name as the original writes it.

    >>> upstream_name("nq_open"), upstream_name("mine")
    ('NaturalQuestions', 'mine')
    """
    return UPSTREAM_NAMES.get(dataset, dataset)


def own_name(upstream: str) -> str:
    """The name of a data set that the original's files call so, in any case.

    >>> own_name("NaturalQuestions"), own_name("gsm8k"), own_name("Mine")
    ('nq_open', 'gsm8k', 'Mine')
    """
    known = upstream.lower()
    return known if known in UPSTREAM_NAMES else OWN_NAMES.get(known, upstream)


def own_id(dataset: str, row_id: str) -> str:
    """An id that begins with its data set's name as the original writes it, with ours in its place.

    >>> own_id("gsm8k", "GSM8K-7"), own_id("gsm8k", "GSM8K_7")
    ('gsm8k-7', 'GSM8K_7')
    """
    upstream = upstream_name(dataset)
    return dataset + row_id[len(upstream) :] if dataset and row_id.startswith(f"{upstream}-") else row_id


def check_tables(tables: Tables) -> None:
    """Refuse tables that these files cannot hold, and two of a task that would share their files."""
    for task, named in tables.items():
        seen: dict[str, str] = {}
        for name, splits in named.items():
            for data in splits.values():
                kind = _kind(data)
                if not kind:
                    raise InputError(
                        f"the table {name!r} of {task!r} has no place in the original's files, which hold questions, "
                        "graded, labelled, stage1, responded and stage2 tables; its columns: "
                        f"{', '.join(data.column_names)}"
                    )
                if seen.setdefault(kind, name) != name:
                    raise InputError(
                        f"the tables {seen[kind]!r} and {name!r} of {task!r} would go into the same files: publish one"
                    )


def write_trice(folder: Path, tables: Tables, dropped: Iterable[Row], *, by_dataset: bool = False) -> None:
    """Write tables as the original's files, and dropped.json with the rows that left.

    Args:
        folder: to write into.
        tables: task -> name -> split -> table, as `check_tables` accepts them.
        dropped: rows as of `columns.DROPPED`.
        by_dataset: the older layout, with data sets in the place of tasks.
    """
    ledger = (_left(row, row["stage"], row["reason"], row["detail"]) for row in dropped)
    left = []
    with contextlib.ExitStack() as stack:
        files: dict[str, IO[str]] = {}

        def write(path: str, row: Row) -> None:
            if path not in files:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                files[path] = stack.enter_context(open(folder / path, "w", encoding="utf-8"))
            files[path].write(json.dumps(row, ensure_ascii=False) + "\n")

        for path, row in chain(ledger, _table_lines(tables, by_dataset)):
            if path == LEFT:
                left.append(row)
            else:
                write(path, row)
        # In an order of their own: what is read back and written again finds its rows in other tables.
        for row in sorted(left, key=lambda row: [str(row[name]) for name in LEFT_ORDER]):
            write(LEFT, row)


class Part(NamedTuple):
    """What decides on the files of one split of a table, besides its rows."""

    end: str | None  # of the names of its files in dev/; None for "train"
    fields: Mapping[str, str]  # of responses, see `_fields`
    is_mixed: bool  # its rows stand in the mix too
    has_stage1: bool  # the task's gold responses are written from its stage 1
    has_dev_stage1: bool  # which takes the names of questions there

    def path(self, place: str, unit: str, name: str, dev_name: str = "") -> str:
        if self.end is None:
            return f"{place}/{unit}/{name}.json"
        return f"dev/{unit}/{dev_name or name}{self.end}.json"


def _table_lines(tables: Tables, by_dataset: bool) -> Lines:
    """(path, line) of everything that is written of the tables."""
    kinds = {task: {_kind(d) for splits in named.values() for d in splits.values()} for task, named in tables.items()}
    mixed = {kind for kind in ("stage1", "stage2") if sum(kind in found for found in kinds.values()) > 1}
    for task, named in tables.items():
        cloned = {split for splits in named.values() for split, data in splits.items() if _kind(data) == "stage1"}
        for splits in named.values():
            for split, data in splits.items():
                # Two splits beside "train" (validation, test) must not become one either.
                end = None if split == "train" else "" if len(splits.keys() - {"train"}) == 1 else f"_{split}"
                kind = _kind(data)
                fields = _fields(data) if kind == "responded" else {}
                part = Part(end, fields, kind in mixed, "stage1" in kinds[task], bool(cloned - {"train"}))
                for row in data:
                    yield from LINES[kind](row, _unit_of_data_set(row, task) if by_dataset else task, part)


def _kind(data: Dataset) -> str:
    columns = set(data.column_names)
    if columns >= set(STAGE2):
        return "stage2"
    if columns >= set(GRADED) or columns >= set(LABELLED):
        return "graded"
    if columns >= set(STAGE1):
        return "responded" if responders_of(data.features) else "stage1"
    if columns >= set(QUESTIONS) and "response" not in columns:  # which would be lost
        return "questions"
    return ""


def _question_lines(row: Row, unit: str, part: Part) -> Lines:
    path = part.path("raw", unit, _dataset_file(row, unit), f"{unit}_questions" if part.has_dev_stage1 else unit)
    yield path, _raw_line(row, row["question"], _rendered(row))


def _graded_lines(row: Row, unit: str, part: Part) -> Lines:
    # A response that was right but is not known any more (`trice.files.load`) has no use as a target.
    needs_tool = False if row["needs_tool"] is None and row["correct"] else row["needs_tool"]
    if needs_tool is None:
        yield _left(row, "publish", "not_graded", row["response"]["error"] or "")
        return
    raw, name = _raw_line(row, row["question"], _rendered(row)), _unit_of_data_set(row, unit)
    if not needs_tool:
        text = row["response"]["text"]
        yield part.path("raw", unit, f"{name}_right"), raw if text is None else {**raw, "output": text}
        return
    yield part.path("raw", unit, f"{name}_wrong"), raw
    # `verified` is null where nobody has checked the call, as in files that the original wrote.
    if row.get("tool_call") and row["verified"] is not False:
        yield part.path("stage1", unit, f"{name}_wrong", f"{name}_wrong_tool"), {**raw, "tool": row["tool_call"]}


def _stage1_lines(row: Row, unit: str, part: Part) -> Lines:
    small = {name: row[name] for name in ("instruction", "input", "output")}
    for name in sorted({unit, _dataset_file(row, unit)}) if part.end is None else [unit]:
        yield part.path("stage1", unit, name), small
    if part.is_mixed and part.end is None:
        yield "stage1/mix/mix.json", small
    yield part.path("stage2", unit, f"{unit}_gold_response"), _gold_line(row, row["output"])


def _stage2_lines(row: Row, unit: str, part: Part) -> Lines:
    small = {name: row[name] for name in ("query", "responses", "origin", "scores", "answer")}
    small["scores"] = [int(score) if score == int(score) else score for score in row["scores"]]
    yield part.path("stage2", unit, unit, f"{unit}_stage2"), small
    if part.is_mixed and part.end is None:
        yield "stage2/mix/mix.json", small


def _responded_lines(row: Row, unit: str, part: Part) -> Lines:
    question = row["input"].rpartition("\nQuestion: ")[2] if row["task"] == "mlqa" else row["input"]
    raw = _raw_line(row, question, row["input"])
    for name, field in part.fields.items():
        path = part.path("stage2", unit, f"{unit}_{_file_name(name)}_response")
        if name == "gold" and part.has_stage1:
            continue
        if row[name]["text"] is None:
            yield _left(row, *NO_REPLY, f"{name}: {row[name]['error']}")
        elif name == "gold":
            yield path, _gold_line(row, row["gold"]["text"])
        else:
            asked = {"instruction": row["input"]} if field == "response" else {}
            yield path, {**raw, **asked, field: row[name]["text"]}


LINES: dict[str, Callable[[Row, str, Part], Lines]] = {
    "questions": _question_lines,
    "graded": _graded_lines,
    "stage1": _stage1_lines,
    "responded": _responded_lines,
    "stage2": _stage2_lines,
}


def _fields(data: Dataset) -> dict[str, str]:
    """responder -> where its text stands: `response` for models asked here, as its trail tells, else `output`."""
    fields = dict.fromkeys(responders_of(data.features), "output")
    for record in lineage(data):
        stage = record["settings"] if isinstance(record["settings"], dict) else {}
        settings = stage.get("settings")
        if isinstance(settings, dict) and settings.get("") == Responding.kind and stage["spec"]["kind"] == "local":
            fields |= {name: "response" for name in settings["columns"] if name in fields}
        if record["step"] == LOADED:
            fields |= {name: field for name, field in stage["fields"].items() if name in fields}
    return fields


def _raw_line(row: Row, question: str, text: str) -> dict[str, Any]:
    raw = {"id": _id(row), "question": question, "answer": row["answers"], "input": text}
    return {**raw, "instruction": question} if row["task"] in ASKED_IN_INSTRUCTION else raw


def _rendered(row: Row) -> str:
    """The input text of a row that was graded; a task of the user's own is not known here."""
    if row["task"] in TASKS:
        return TASKS[row["task"]].render(row)
    return f"{row['context']}\n{row['question']}" if row["context"] else str(row["question"])


def _gold_line(row: Row, output: str) -> dict[str, Any]:
    small = {"instruction": row["instruction"], "input": row["input"], "output": output}
    return {**small, "id": _id(row), "answer": row["answers"][0] if row["answers"] else ""}


def _left(row: Row, stage: str, reason: str, detail: str) -> tuple[str, dict[str, Any]]:
    known = {"id": _id(row), "task": row["task"], "dataset": row["dataset"]}
    line = {**known, "stage": stage, "reason": reason, "detail": detail}
    return LEFT, {name: line[name] for name in DROPPED}


def _id(row: Row) -> str:
    """The row's id with the name of its data set as the original has it."""
    dataset, own = row["dataset"], str(row["id"])
    return upstream_name(dataset) + own[len(dataset) :] if dataset and own.startswith(f"{dataset}-") else own


def _unit_of_data_set(row: Row, task: str) -> str:
    """The unit of a row in the older layout; the task where the row has no data set."""
    return _file_name(upstream_name(row["dataset"])) if row["dataset"] else task


def _dataset_file(row: Row, unit: str) -> str:
    """What a data set's file in a unit is called; as the unit where the row has no data set."""
    name = _unit_of_data_set(row, unit)
    # MLQA.json and mlqa.json would be one file on many disks.
    return unit if name.lower() == unit.lower() else name


def _file_name(name: str) -> str:
    if name.startswith(".") or not name.strip() or any(c in '/\\:*?"<>|' or not c.isprintable() for c in name):
        raise InputError(f"{name!r} cannot be part of a file name: rename that responder or data set")
    return name
