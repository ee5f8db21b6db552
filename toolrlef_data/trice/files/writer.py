"""Tables written as TRICE's files: JSON Lines named .json.

| table | files |
|---|---|
| questions | raw/{unit}/{dataset}.json |
| graded | raw/{unit}/{dataset}_right.json (`output` is the student's response), _wrong.json |
| labelled; graded with stage1 | those of graded, and stage1/{unit}/{dataset}_wrong.json: rows with a call (`tool`) |
| stage1 | stage1/{unit}/{dataset}.json, {unit}.json; stage2/{unit}/{unit}_gold_response.json |
| responded | stage2/{unit}/{unit}_{responder}_response.json |
| stage2 | stage2/{unit}/{unit}.json |

- A unit is a task or, in the older layout, a data set. Rows without a known data set are in the unit's files.
- Splits other than "train" are written below dev/{unit}/: stage 1 as {unit}.json, stage 2 as {unit}_stage2.json.
  Questions are {unit}.json, or {unit}_questions.json if the task also has stage 1 rows in such a split.
- Several tasks are also mixed in stage1/mix/mix.json and stage2/mix/mix.json.
- `input` is the rendered question. For lama and qa, `instruction` contains it too, since TRICE's local models
  and its reader expect it there.
- The original's evaluator and scorer read `answer` as one text in math, mlqa and the gold responses, and as a list
  elsewhere. If a math or mlqa row has several gold answers, all of them are in `answers`.
- Every response is in `response`; those of APIs are in `output` too.
- Ids contain the data set's name in the original's files (`names`).
- dropped.json records what these files cannot represent.

Not covered: the column `solution`, and `pred` and the summary line of TRICE's evaluator. `loader` reads these
files.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

from datasets import Dataset

from toolrlef_data.columns import DROPPED, GRADED, LABELLED, QUESTIONS, STAGE1, STAGE2, STAGE2_LATER, responders_of
from toolrlef_data.records import InputError
from toolrlef_data.tables.lineage import lineage
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.numbers import parse_number
from toolrlef_data.trice.files.names import upstream_id, upstream_name
from toolrlef_data.trice.responders import RespondSettings

__all__ = ["LEDGER_FILE", "LOAD_STAGE", "NO_REPLY", "check_tables", "write_trice"]

Tables = Mapping[str, Mapping[str, Mapping[str, Dataset]]]
Row = Mapping[str, Any]
Lines = Iterator[tuple[str, dict[str, Any]]]

# Tasks whose question the original's local models and its reader expect in `instruction`.
QUESTION_IN_INSTRUCTION = frozenset({"lama", "qa", "retrieval"})
ANSWER_AS_TEXT = frozenset({"math", "mlqa"})  # tasks whose `answer` the original's evaluator reads as one text
LEDGER_FILE = "dropped.json"
LOAD_STAGE = "load_trice"  # the stage of loaded tables in the lineage and in the ledger
NO_REPLY = ("publish", "no_reply")  # stage and reason of a missing response in the ledger
LEDGER_ORDER = ("task", "dataset", "id", "stage", "reason", "detail")


def check_tables(tables: Tables) -> None:
    """Raise InputError for a table that TRICE's files cannot contain, or two tables of a task with the same files."""
    for task, task_tables in tables.items():
        names_by_kind: dict[str, str] = {}  # kind of table -> name of the table
        for name, splits in task_tables.items():
            for data in splits.values():
                kind = _kind(data)
                if not kind:
                    raise InputError(
                        f"the table {name!r} of {task!r} cannot be written as TRICE's files: expected a questions, "
                        "graded, labelled, stage1, responded or stage2 table, found the columns "
                        f"{', '.join(data.column_names)}"
                    )
                if names_by_kind.setdefault(kind, name) != name:
                    raise InputError(
                        f"the tables {names_by_kind[kind]!r} and {name!r} of {task!r} would be written to the same "
                        "files: publish one of them"
                    )


def write_trice(folder: Path, tables: Tables, dropped: Iterable[Row], *, by_dataset: bool = False) -> None:
    """Write tables as TRICE's files, and the dropped rows as dropped.json.

    Args:
        folder: the target folder.
        tables: task -> name -> split -> table, which `check_tables` accepts.
        dropped: rows with the columns of `columns.DROPPED`.
        by_dataset: whether to write the older layout, whose units are data sets; default: False.
    """
    dropped_lines = (_ledger_line(row, row["stage"], row["reason"], row["detail"]) for row in dropped)
    ledger = []
    with contextlib.ExitStack() as stack:
        files: dict[str, IO[str]] = {}

        def write(path: str, row: Row) -> None:
            if path not in files:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                files[path] = stack.enter_context(open(folder / path, "w", encoding="utf-8"))
            files[path].write(json.dumps(row, ensure_ascii=False) + "\n")

        for path, row in chain(dropped_lines, _table_lines(tables, by_dataset)):
            if path == LEDGER_FILE:
                ledger.append(row)
            else:
                write(path, row)
        # Sorted, so that loading and writing a folder again yields the same order.
        for row in sorted(ledger, key=lambda row: [str(row[name]) for name in LEDGER_ORDER]):
            write(LEDGER_FILE, row)


class Part(NamedTuple):
    """The properties of one split of a table that determine its files."""

    suffix: str | None  # of file names in dev/; None for "train"
    fields: Mapping[str, str]  # responder -> field of the response, see `_response_fields`
    is_mixed: bool  # the rows are part of the mix too
    has_stage1: bool  # the gold responses are written from the task's stage 1
    has_dev_stage1: bool  # stage 1 occupies the names of question files in dev/
    calls: Mapping[str, str]  # id -> call in the task's stage 1, for a graded table without calls

    def path(self, place: str, unit: str, name: str, dev_name: str = "") -> str:
        """Return the path of a file: below `place` for the split "train", else below dev/ as `dev_name` or `name`."""
        if self.suffix is None:
            return f"{place}/{unit}/{name}.json"
        return f"dev/{unit}/{dev_name or name}{self.suffix}.json"


def _table_lines(tables: Tables, by_dataset: bool) -> Lines:
    """Yield (path, line) for every line of the tables."""
    kinds = {
        task: {_kind(data) for splits in task_tables.values() for data in splits.values()}
        for task, task_tables in tables.items()
    }
    mixed = {kind for kind in ("stage1", "stage2") if sum(kind in task_kinds for task_kinds in kinds.values()) > 1}
    for task, task_tables in tables.items():
        stage1_splits = {
            split for splits in task_tables.values() for split, data in splits.items() if _kind(data) == "stage1"
        }
        for splits in task_tables.values():
            for split, data in splits.items():
                # The suffix separates two splits in dev/, such as validation and test.
                suffix = None if split == "train" else "" if len(splits.keys() - {"train"}) == 1 else f"_{split}"
                kind = _kind(data)
                fields = _response_fields(data) if kind == "responded" else {}
                calls = _stage1_calls(task_tables) if kind == "graded" and "tool_call" not in data.column_names else {}
                in_dev = bool(stage1_splits - {"train"})
                part = Part(suffix, fields, kind in mixed, "stage1" in kinds[task], in_dev, calls)
                for row in data:
                    yield from LINES[kind](row, _dataset_unit(row, task) if by_dataset else task, part)


def _stage1_calls(task_tables: Mapping[str, Mapping[str, Dataset]]) -> dict[str, str]:
    """Return id -> output of the stage 1 rows that use the tool."""
    return {
        row["id"]: row["output"]
        for splits in task_tables.values()
        for data in splits.values()
        if _kind(data) == "stage1"
        for row in data.select_columns(["id", "output", "uses_tool"])
        if row["uses_tool"]
    }


def _kind(data: Dataset) -> str:
    """Return the kind of a table, a key of `LINES`; "" for other tables."""
    columns = set(data.column_names)
    if columns >= set(STAGE2) - STAGE2_LATER:
        return "stage2"
    if columns >= set(GRADED) or columns >= set(LABELLED):
        return "graded"
    if columns >= set(STAGE1):
        return "responded" if responders_of(data.features) else "stage1"
    if columns >= set(QUESTIONS) and "response" not in columns:  # the files would lose it
        return "questions"
    return ""


def _question_lines(row: Row, unit: str, part: Part) -> Lines:
    path = part.path("raw", unit, _dataset_file(row, unit), f"{unit}_questions" if part.has_dev_stage1 else unit)
    yield path, _raw_line(row, row["question"], _render_input(row))


def _graded_lines(row: Row, unit: str, part: Part) -> Lines:
    # A correct response whose text is unknown (`loader`) cannot become a target.
    needs_tool = False if row["needs_tool"] is None and row["correct"] else row["needs_tool"]
    if needs_tool is None:
        yield _ledger_line(row, "publish", "not_graded", row["response"]["error"] or "")
        return
    raw, name = _raw_line(row, row["question"], _render_input(row)), _dataset_unit(row, unit)
    if not needs_tool:
        text = row["response"]["text"]
        yield part.path("raw", unit, f"{name}_right"), raw if text is None else {**raw, "output": text}
        return
    yield part.path("raw", unit, f"{name}_wrong"), raw
    call = part.calls.get(row["id"])
    # `verified` is null if the call was not checked, as in the original's files.
    if row.get("tool_call") and row["verified"] is not False:
        call = row["tool_call"]
    if call:
        yield part.path("stage1", unit, f"{name}_wrong", f"{name}_wrong_tool"), {**raw, "tool": call}


def _stage1_lines(row: Row, unit: str, part: Part) -> Lines:
    line = {name: row[name] for name in ("instruction", "input", "output")}
    for name in sorted({unit, _dataset_file(row, unit)}) if part.suffix is None else [unit]:
        yield part.path("stage1", unit, name), line
    if part.is_mixed and part.suffix is None:
        yield "stage1/mix/mix.json", line
    yield part.path("stage2", unit, f"{unit}_gold_response"), _gold_line(row, row["output"])


def _stage2_lines(row: Row, unit: str, part: Part) -> Lines:
    line = {name: row[name] for name in ("query", "responses", "origin", "scores", "answer")}
    line["scores"] = [int(score) if score == int(score) else score for score in row["scores"]]
    yield part.path("stage2", unit, unit, f"{unit}_stage2"), line
    if part.is_mixed and part.suffix is None:
        yield "stage2/mix/mix.json", line


def _responded_lines(row: Row, unit: str, part: Part) -> Lines:
    question = row["input"].rpartition("\nQuestion: ")[2] if row["task"] == "mlqa" else row["input"]
    raw = _raw_line(row, question, row["input"])
    # The original's evaluator cannot grade a row without a usable gold answer; in math, it would stop.
    reason = TASKS[row["task"]].ungradable_reason(row["answers"]) if row["task"] in TASKS else None
    if reason:
        yield _ledger_line(row, "publish", reason, " | ".join(row["answers"])[:200])
    for name, field in part.fields.items():
        path = part.path("stage2", unit, f"{unit}_{_file_name(name)}_response")
        if name == "gold" and part.has_stage1:
            continue
        text = row[name]["text"]
        if text is None:
            yield _ledger_line(row, *NO_REPLY, f"{name}: {row[name]['error']}")
        elif name == "gold":
            yield path, _gold_line(row, text)
        elif not reason:
            more = {"instruction": row["input"]} if field == "response" else {"output": text}
            yield path, {**raw, **more, "response": text}


LINES: dict[str, Callable[[Row, str, Part], Lines]] = {
    "questions": _question_lines,
    "graded": _graded_lines,
    "stage1": _stage1_lines,
    "responded": _responded_lines,
    "stage2": _stage2_lines,
}


def _response_fields(data: Dataset) -> dict[str, str]:
    """Return responder -> `response` for local models, else `output`; the lineage has the kinds."""
    fields = dict.fromkeys(responders_of(data.features), "output")
    for record in lineage(data):
        stage = record["settings"] if isinstance(record["settings"], dict) else {}
        settings = stage.get("settings")
        if isinstance(settings, dict) and settings.get("") == RespondSettings.kind and stage["spec"]["kind"] == "local":
            fields |= {name: "response" for name in settings["columns"] if name in fields}
        if record["step"] == LOAD_STAGE:
            fields |= {name: field for name, field in stage["fields"].items() if name in fields}
    return fields


def _raw_line(row: Row, question: str, text: str) -> dict[str, Any]:
    answers = row["answers"]
    gold: dict[str, Any] = {"answer": answers}
    if row["task"] in ANSWER_AS_TEXT:
        first = _answer_text(row)
        gold = {"answer": first, **({"answers": answers} if answers not in ([first], []) else {})}
    raw = {"id": upstream_id(row["dataset"], str(row["id"])), "question": question, **gold, "input": text}
    return {**raw, "instruction": question} if row["task"] in QUESTION_IN_INSTRUCTION else raw


def _render_input(row: Row) -> str:
    """Return the input text of a row; of a custom task, whose prompts are unknown here, context and question."""
    if row["task"] in TASKS:
        return TASKS[row["task"]].render(row)
    return f"{row['context']}\n{row['question']}" if row["context"] else str(row["question"])


def _gold_line(row: Row, output: str) -> dict[str, Any]:
    line = {"instruction": row["instruction"], "input": row["input"], "output": output}
    return {**line, "id": upstream_id(row["dataset"], str(row["id"])), "answer": _answer_text(row)}


def _answer_text(row: Row) -> str:
    """Return the first gold answer; in math the first number, in a form that the original's code reads."""
    answers: list[str] = row["answers"]
    if row["task"] != "math":
        return answers[0] if answers else ""
    numbers = ((answer, number) for answer in answers if (number := parse_number(answer)) is not None)
    answer, number = next(numbers, (answers[0] if answers else "", None))
    try:
        float(answer.replace(",", ""))
    except ValueError:
        return answer if number is None else str(number)
    return answer


def _ledger_line(row: Row, stage: str, reason: str, detail: str) -> tuple[str, dict[str, Any]]:
    identity = {"id": upstream_id(row["dataset"], str(row["id"])), "task": row["task"], "dataset": row["dataset"]}
    line = {**identity, "stage": stage, "reason": reason, "detail": detail}
    return LEDGER_FILE, {name: line[name] for name in DROPPED}


def _dataset_unit(row: Row, task: str) -> str:
    """Return the unit of a row in the older layout: its data set, or the task if it has none."""
    return _file_name(upstream_name(row["dataset"])) if row["dataset"] else task


def _dataset_file(row: Row, unit: str) -> str:
    """Return the name of the data set's file in a unit: the data set, or the unit if the row has none."""
    name = _dataset_unit(row, unit)
    # Case-insensitive file systems cannot distinguish MLQA.json from mlqa.json.
    return unit if name.lower() == unit.lower() else name


def _file_name(name: str) -> str:
    if name.startswith(".") or not name.strip() or any(c in '/\\:*?"<>|' or not c.isprintable() for c in name):
        raise InputError(f"{name!r} cannot be part of a file name: rename that responder or data set")
    return name
