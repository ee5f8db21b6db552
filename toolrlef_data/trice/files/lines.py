"""The lines of TRICE's files: one function per kind of table that turns a row into (path, line) pairs; see `writer`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from toolrlef_data.columns import DROPPED
from toolrlef_data.records import InputError
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.numbers import parse_number
from toolrlef_data.trice.files.names import upstream_id, upstream_name

__all__ = [
    "ANSWER_AS_TEXT",
    "LEDGER_FILE",
    "LINES",
    "NO_REPLY",
    "QUESTION_IN_INSTRUCTION",
    "Lines",
    "Part",
    "answer_text",
    "dataset_unit",
    "ledger_line",
]

Row = Mapping[str, Any]
Lines = Iterator[tuple[str, dict[str, Any]]]

# Tasks whose question the original's local models and its reader expect in `instruction`.
QUESTION_IN_INSTRUCTION = frozenset({"lama", "qa", "retrieval"})
ANSWER_AS_TEXT = frozenset({"math", "mlqa"})  # tasks whose `answer` the original's evaluator reads as one text
LEDGER_FILE = "dropped.json"
NO_REPLY = ("publish", "no_reply")  # stage and reason of a missing response in the ledger


class Part(NamedTuple):
    """The properties of one split of a table that determine its files."""

    suffix: str | None  # of file names in dev/; None for "train"
    fields: Mapping[str, str]  # responder -> field of the response, see `_response_fields`
    is_mixed: bool  # the rows are part of the mix too
    has_stage1: bool  # the gold responses are written from the task's stage 1
    has_dev_stage1: bool  # stage 1 occupies the names of question files in dev/
    calls: Mapping[str, str]  # id -> call in the task's stage 1, for a graded table without calls
    prefixes: Mapping[str, str]  # unit -> prefix of the names of response files, where it is not the unit

    def path(self, place: str, unit: str, name: str, dev_name: str = "") -> str:
        """Return the path of a file: below `place` for the split "train", else below dev/ as `dev_name` or `name`."""
        if self.suffix is None:
            return f"{place}/{unit}/{name}.json"
        return f"dev/{unit}/{dev_name or name}{self.suffix}.json"

    def response_path(self, unit: str, responder: str) -> str:
        return self.path("stage2", unit, f"{self.prefixes.get(unit, unit)}_{_file_name(responder)}_response")


def _question_lines(row: Row, unit: str, part: Part) -> Lines:
    path = part.path("raw", unit, _dataset_file(row, unit), f"{unit}_questions" if part.has_dev_stage1 else unit)
    yield path, _raw_line(row, row["question"], _render_input(row))


def _graded_lines(row: Row, unit: str, part: Part) -> Lines:
    # A correct response whose text is unknown (`loader`) cannot become a target.
    needs_tool = False if row["needs_tool"] is None and row["correct"] else row["needs_tool"]
    if needs_tool is None:
        yield ledger_line(row, "publish", "not_graded", row["response"]["error"] or "")
        return
    raw, name = _raw_line(row, row["question"], _render_input(row)), dataset_unit(row, unit)
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
    yield part.response_path(unit, "gold"), _gold_line(row, row["output"])


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
        yield ledger_line(row, "publish", reason, " | ".join(row["answers"])[:200])
    for name, field in part.fields.items():
        path = part.response_path(unit, name)
        if name == "gold" and part.has_stage1:
            continue
        text = row[name]["text"]
        if text is None:
            yield ledger_line(row, *NO_REPLY, f"{name}: {row[name]['error']}")
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


def _raw_line(row: Row, question: str, text: str) -> dict[str, Any]:
    answers = row["answers"]
    gold: dict[str, Any] = {"answer": answers}
    if row["task"] in ANSWER_AS_TEXT:
        first = answer_text(row)
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
    return {**line, "id": upstream_id(row["dataset"], str(row["id"])), "answer": answer_text(row)}


def answer_text(row: Row) -> str:
    """Return the first gold answer of a row; in math the first number, which the original's code reads."""
    answers: list[str] = row["answers"]
    usable = (answer for answer in answers if row["task"] != "math" or parse_number(answer) is not None)
    return next(usable, answers[0] if answers else "")


def ledger_line(row: Row, stage: str, reason: str, detail: str) -> tuple[str, dict[str, Any]]:
    identity = {"id": upstream_id(row["dataset"], str(row["id"])), "task": row["task"], "dataset": row["dataset"]}
    line = {**identity, "stage": stage, "reason": reason, "detail": detail}
    return LEDGER_FILE, {name: line[name] for name in DROPPED}


def dataset_unit(row: Row, task: str) -> str:
    """Return the unit of a row in the older layout: its data set, or the task if it has none."""
    return _file_name(upstream_name(row["dataset"])) if row["dataset"] else task


def _dataset_file(row: Row, unit: str) -> str:
    """Return the name of the data set's file in a unit: the data set, or the unit if the row has none."""
    name = dataset_unit(row, unit)
    # Case-insensitive file systems cannot distinguish MLQA.json from mlqa.json.
    return unit if name.lower() == unit.lower() else name


def _file_name(name: str) -> str:
    if name.startswith(".") or not name.strip() or any(c in '/\\:*?"<>|' or not c.isprintable() for c in name):
        raise InputError(f"{name!r} cannot be part of a file name: rename that responder or data set")
    return name
