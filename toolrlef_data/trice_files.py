"""trice_files: tables as the files that the original reads and writes, JSON Lines named .json.

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
summary line of the original's evaluator. `trice_reading` reads these files back.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from datasets import Dataset

from toolrlef_data.columns import DROPPED, GRADED, LABELLED, QUESTIONS, STAGE1, STAGE2, responders_of
from toolrlef_data.lineage import lineage
from toolrlef_data.records import InputError
from toolrlef_data.tasks import TASKS

__all__ = ["UPSTREAM_NAMES", "check_kinds", "own_name", "upstream_name", "write_trice"]

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


def check_kinds(tables: Tables) -> None:
    """Refuse tables that these files cannot hold, and two of a task that would share their files."""
    for task, named in tables.items():
        seen: dict[str, str] = {}
        for name, splits in named.items():
            for data in splits.values():
                kind = _kind(data)
                if kind is None:
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
        tables: task -> name -> split -> table, as `check_kinds` accepts them.
        dropped: rows as of `columns.DROPPED`.
        by_dataset: the older layout, with data sets in the place of tasks.
    """
    with contextlib.ExitStack() as stack:
        files: dict[str, IO[str]] = {}
        left: list[dict[str, Any]] = []

        def write(path: str, row: Row) -> None:
            if path not in files:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                files[path] = stack.enter_context(open(folder / path, "w", encoding="utf-8"))
            files[path].write(json.dumps(row, ensure_ascii=False) + "\n")

        for path, row in _all_lines(tables, dropped, by_dataset):
            if path == LEFT:
                left.append(row)
            else:
                write(path, row)
        # In an order of their own: what is read back and written again finds its rows in other tables.
        for row in sorted(left, key=lambda row: [str(row[name]) for name in LEFT_ORDER]):
            write(LEFT, row)


def _all_lines(tables: Tables, dropped: Iterable[Row], by_dataset: bool) -> Lines:
    """(path, line) of everything that is written."""
    for row in dropped:
        yield _left(row, row["stage"], row["reason"], row["detail"])
    kinds = {task: {_kind(d) for splits in named.values() for d in splits.values()} for task, named in tables.items()}
    mixed = {kind for kind in ("stage1", "stage2") if sum(kind in found for found in kinds.values()) > 1}
    for task, named in tables.items():
        cloned = {split for own in named.values() for split, data in own.items() if _kind(data) == "stage1"} - {"train"}
        for splits in named.values():
            others = [split for split in splits if split != "train"]
            for split, data in splits.items():
                # Two splits beside "train" (validation, test) must not become one either.
                dev = None if split == "train" else "" if len(others) == 1 else f"_{split}"
                for row in data:
                    unit = _unit_of_data_set(row, task) if by_dataset else task
                    kind = _kind(data)
                    if kind == "stage1":
                        yield from _stage1_lines(row, unit, dev, "stage1" in mixed)
                    elif kind == "stage2":
                        yield from _stage2_lines(row, unit, dev, "stage2" in mixed)
                    elif kind == "responded":
                        yield from _responded_lines(row, unit, dev, _fields(data), "stage1" not in kinds[task])
                    elif kind == "questions":
                        yield from _question_lines(row, unit, dev, "_questions" if cloned else "")
                    else:
                        yield from _graded_lines(row, unit, dev)


def _kind(data: Dataset) -> str | None:
    columns = set(data.column_names)
    if columns >= set(STAGE2):
        return "stage2"
    if columns >= set(GRADED) or columns >= set(LABELLED):
        return "graded"
    if columns >= set(STAGE1):
        return "responded" if responders_of(data.features) else "stage1"
    if columns >= set(QUESTIONS) and "response" not in columns:  # which would be lost
        return "questions"
    return None


def _question_lines(row: Row, unit: str, dev: str | None, mark: str) -> Lines:
    name = f"raw/{unit}/{_dataset_file(row, unit)}" if dev is None else f"dev/{unit}/{unit}{mark}{dev}"
    yield f"{name}.json", _raw_line(row, row["question"], _rendered(row))


def _graded_lines(row: Row, unit: str, dev: str | None) -> Lines:
    # A response that was right but is not known any more (`trice_reading`) has no use as a target.
    needs_tool = False if row["needs_tool"] is None and row["correct"] else row["needs_tool"]
    if needs_tool is None:
        yield _left(row, "publish", "not_graded", row["response"]["error"] or "")
        return
    raw = _raw_line(row, row["question"], _rendered(row))
    folder = f"raw/{unit}" if dev is None else f"dev/{unit}"
    name = _unit_of_data_set(row, unit)
    text = None if needs_tool else row["response"]["text"]
    path = f"{folder}/{name}_{'wrong' if needs_tool else 'right'}{dev or ''}.json"
    yield path, raw if text is None else {**raw, "output": text}
    # `verified` is null where nobody has checked the call, as in files that the original wrote.
    if needs_tool and row.get("tool_call") and row["verified"] is not False:
        path = f"stage1/{unit}/{name}_wrong.json" if dev is None else f"dev/{unit}/{name}_wrong_tool{dev}.json"
        yield path, {**raw, "tool": row["tool_call"]}


def _stage1_lines(row: Row, unit: str, dev: str | None, mixed: bool) -> Lines:
    small = {name: row[name] for name in ("instruction", "input", "output")}
    gold = _gold_line(row, row["output"])
    if dev is not None:
        yield f"dev/{unit}/{unit}{dev}.json", small
        yield f"dev/{unit}/{unit}_gold_response{dev}.json", gold
        return
    for name in sorted({unit, _dataset_file(row, unit)}):
        yield f"stage1/{unit}/{name}.json", small
    if mixed:
        yield "stage1/mix/mix.json", small
    yield f"stage2/{unit}/{unit}_gold_response.json", gold


def _stage2_lines(row: Row, unit: str, dev: str | None, mixed: bool) -> Lines:
    small = {name: row[name] for name in ("query", "responses", "origin", "scores", "answer")}
    small["scores"] = [int(score) if score == int(score) else score for score in row["scores"]]
    yield f"stage2/{unit}/{unit}.json" if dev is None else f"dev/{unit}/{unit}_stage2{dev}.json", small
    if mixed and dev is None:
        yield "stage2/mix/mix.json", small


def _responded_lines(row: Row, unit: str, dev: str | None, fields: Mapping[str, str], with_gold: bool) -> Lines:
    folder = f"stage2/{unit}" if dev is None else f"dev/{unit}"
    question = row["input"].rpartition("\nQuestion: ")[2] if row["task"] == "mlqa" else row["input"]
    raw = _raw_line(row, question, row["input"])
    for name, field in fields.items():
        path = f"{folder}/{unit}_{_file_name(name)}_response{dev or ''}.json"
        if name == "gold" and not with_gold:  # it is written from stage 1
            continue
        if row[name]["text"] is None:
            yield _left(row, "publish", "no_reply", f"{name}: {row[name]['error']}")
        elif name == "gold":
            yield path, _gold_line(row, row["gold"]["text"])
        else:
            asked = {"instruction": row["input"]} if field == "response" else {}
            yield path, {**raw, **asked, field: row[name]["text"]}


def _fields(data: Dataset) -> dict[str, str]:
    """responder -> where its text stands: `response` for models asked here, as its trail tells, else `output`."""
    fields = dict.fromkeys(responders_of(data.features), "output")
    for record in lineage(data):
        stage = record["settings"] if isinstance(record["settings"], dict) else {}
        settings, spec = stage.get("settings"), stage.get("spec")
        if isinstance(settings, dict) and "responder" in settings and (spec or {}).get("kind") == "local":
            fields |= {name: "response" for name in settings.get("columns", ()) if name in fields}
        if record["step"] == "load_trice":
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
