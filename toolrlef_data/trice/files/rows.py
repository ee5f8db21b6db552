"""Rows of the tables, built from the entries of one task.

Rows are joined by id, never by position. `loader` documents the content of the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolrlef_data.engines.responses import build_response
from toolrlef_data.trice.files.entries import Entry, extract_context
from toolrlef_data.trice.files.task_entries import (
    Row,
    TaskEntries,
    assign_ids,
    drop_other_questions,
    drop_repeated_ids,
    merge_copies,
)

__all__ = ["RESPONDER_ORDER", "build_rows", "graded_rows", "question_row"]

MISSING_RESPONSE = "not_found"  # a kind of `records.REPLY_ERRORS`
RESPONDER_ORDER = ("chatgpt", "davinci", "vicuna", "alpaca")  # as in TRICE


def build_rows(task_entries: TaskEntries) -> dict[str, dict[str, list[Row]]]:
    """Return table name -> split -> rows; entries that cannot become a row are dropped."""
    for kind in ("gold", "raw", "tool", "question", "response"):
        first: dict[str, Entry] = {}  # by id
        for split in task_entries.splits:
            entries = drop_repeated_ids(task_entries, task_entries.of(kind, split=split))
            task_entries.entries[kind, split] = drop_other_questions(task_entries, entries, first)
    targets = {split: _target_entries(task_entries, split) for split in task_entries.splits}
    tables: dict[str, dict[str, list[Row]]] = {}
    graded_name = "labelled" if any(task_entries.of("tool")) else "graded"
    has_responses = any(task_entries.of("response"))
    has_stage1 = any(task_entries.of("stage1")) or not has_responses
    for split in task_entries.splits:
        graded = graded_rows(task_entries, split, targets, graded_name == "labelled")
        split_tables = {
            "questions": _question_rows(task_entries, split, {row["id"] for row in graded}),
            graded_name: graded,
            "stage1": [_stage1_row(task_entries, entry) for entry in targets[split]] if has_stage1 else [],
            "responded": _responded_rows(task_entries, split, targets, not has_stage1) if has_responses else [],
            "stage2": _stage2_rows(task_entries, split, targets),
        }
        for name, rows in split_tables.items():
            if rows:
                tables.setdefault(name, {})[split] = rows
    # Notes whose response is in no row.
    task_entries.dropped += [line for notes in task_entries.notes.values() for line in notes.values()]
    return tables


def _target_entries(task_entries: TaskEntries, split: str) -> list[Entry]:
    """Return the training targets of a split: the entries of stage 1 and the gold responses."""
    entries = merge_copies(
        task_entries.of("stage1", "gold", split=split), lambda entry: (entry.text, entry.row["output"])
    )
    return assign_ids(task_entries, entries, lambda entry: task_entries.ids_by_text.get(entry.text, ()))


def _stage1_row(task_entries: TaskEntries, entry: Entry) -> Row:
    uses_tool = task_entries.uses_tool(entry.row["output"])
    source = ("question" if task_entries.task.make_argument else "teacher") if uses_tool else "student"
    texts = {name: entry.row[name] for name in ("instruction", "input", "output")}
    identity = task_entries.identity(entry)
    return {**texts, **identity, "uses_tool": uses_tool, "source": source, "verified_by": None}


def _question_rows(task_entries: TaskEntries, split: str, graded_ids: set[str]) -> list[Row]:
    entries = task_entries.of("question", split=split)
    return [question_row(task_entries, entry) for entry in entries if entry.id not in graded_ids]


def question_row(task_entries: TaskEntries, entry: Entry) -> Row:
    """Return the row of a questions table."""
    question = entry.row["question"]
    context = extract_context(entry.row["input"], question, task_entries.task)
    fields = {"question": question, "context": context, "solution": "", "split_origin": entry.split}
    return {**task_entries.identity(entry), **fields}


def graded_rows(
    task_entries: TaskEntries, split: str, targets: Mapping[str, list[Entry]], is_labelled: bool
) -> list[Row]:
    """Return the rows of a graded or labelled table, from the entries of right and wrong rows and of calls.

    Args:
        task_entries: the entries.
        split: the split.
        targets: split -> entries of stage 1, which can contain the student's response to a right row.
        is_labelled: whether to return the columns of `columns.LABELLED`.
    """
    all_targets = (entry for entries in targets.values() for entry in entries)
    student_texts = {
        entry.id: entry.row["output"] for entry in all_targets if not task_entries.uses_tool(entry.row["output"])
    }
    calls = {entry.id: entry for entry in task_entries.of("tool", split=split)}
    raw_entries = list(task_entries.of("raw", split=split))
    raw_ids = {entry.id for entry in raw_entries}
    rows = []
    for entry in [*raw_entries, *(call for call in calls.values() if call.id not in raw_ids)]:
        is_correct = entry.name == "right" and entry.kind == "raw"
        text = entry.row.get("text")
        if text is None and is_correct:
            text = student_texts.get(entry.id)
        row = {
            **question_row(task_entries, entry),
            "samples": [],
            "correct": is_correct,
            "pass_rate": float(is_correct),
        }
        row["response"] = {**_response(text, "the student's response is in no file"), "correct": is_correct}
        row["prediction"] = None if text is None else task_entries.task.extract(text)
        row["needs_tool"] = None if is_correct and text is None else not is_correct
        if is_labelled:
            call = calls.get(entry.id)
            row |= {"tool_call": call.row["tool"] if call else None, "teacher": "unknown" if call else None}
            row |= {"tool_output": None, "verified": None, "verified_by": None, "attempts": 0, "rejected": []}
        rows.append(row)
    return rows


def _response(text: str | None, detail: str, error: str = MISSING_RESPONSE) -> Row:
    if text is None:
        missing = {"reasoning": None, "finish_reason": None, "error": error, "error_detail": detail}
        return {**build_response(None), **missing}
    return {**build_response(None, text=text), "finish_reason": None}


def _responded_rows(
    task_entries: TaskEntries, split: str, targets: Mapping[str, list[Entry]], include_unanswered: bool
) -> list[Row]:
    """Return one row per id, with the gold response and the response of each responder.

    Args:
        include_unanswered: whether to return also the targets without any response.
    """
    responses: dict[str, dict[str, Entry]] = {}  # responder -> id -> response
    for entry in task_entries.of("response", split=split):
        responses.setdefault(entry.name, {})[entry.id] = entry
    if not responses:
        return []
    noted_names = {name for notes in task_entries.notes.values() for name in notes} - {"gold"}
    names = _ordered_names(task_entries, {entry.name for entry in task_entries.of("response")} | noted_names)
    # A question is in one split, but the file of its gold response can name another split, or none.
    golds = {entry.id: entry for other in task_entries.splits for entry in targets[other]}
    golds |= {entry.id: entry for entry in targets[split]}
    instructions = {entry.id: entry.row["instruction"] for entry in task_entries.of("gold")}
    # id -> its first response
    answered = {row_id: entry for by_id in reversed(list(responses.values())) for row_id, entry in by_id.items()}
    target_ids = [
        entry.id
        for entry in targets[split]
        if include_unanswered or entry.id in answered or entry.id in task_entries.notes
    ]
    rows = []
    for row_id in dict.fromkeys([*target_ids, *answered]):
        gold = golds.get(row_id)
        if gold is not None:
            row = _stage1_row(task_entries, gold)
            row["instruction"] = instructions.get(row_id, row["instruction"])
            row["gold"] = build_response(None, text=gold.row["output"])
        else:
            entry = answered[row_id]
            instruction = task_entries.task.instruction
            row = {"instruction": instruction, "input": entry.text, "output": None, "verified_by": None}
            row |= {**task_entries.identity(entry), "uses_tool": None, "source": None}
            row["gold"] = _response(None, "no gold response has this id")
        notes = task_entries.notes.pop(row_id, {})
        for name in names:
            response = responses.get(name, {}).get(row_id)
            text = response.row["text"] if response else None
            error = notes.get(name, {}).get("detail", "").partition(": ")[2] or MISSING_RESPONSE
            row[name] = _response(text, f"the file of {name} holds no response with this id", error)
        rows.append(row)
    return rows


def _ordered_names(task_entries: TaskEntries, names: set[str]) -> list[str]:
    """Return responders in the order of stage 2, then of `RESPONDER_ORDER`, then by name."""
    stage2_names = next((entry.row["origin"] for entry in task_entries.of("stage2")), ())
    order = {name: i for i, name in enumerate(dict.fromkeys([*stage2_names, *RESPONDER_ORDER]))}
    return sorted(names, key=lambda name: (order.get(name, len(order)), name))


def _stage2_rows(task_entries: TaskEntries, split: str, targets: Mapping[str, list[Entry]]) -> list[Row]:
    entries = merge_copies(
        task_entries.of("stage2", split=split),
        lambda entry: (entry.row["query"], *entry.row["responses"], *entry.row["scores"]),
    )
    ids: dict[Any, list[str]] = {}
    for target in (target for name in [split, *task_entries.splits] for target in targets[name]):
        for key in ((target.text, target.row["output"]), target.text):
            ids.setdefault(key, []).append(target.id)

    def known_ids(entry: Entry) -> list[str]:
        gold = dict(zip(entry.row["origin"], entry.row["responses"], strict=True)).get("gold")
        by_gold, by_target_text = ids.get((entry.text, gold), ()), ids.get(entry.text, ())
        return [*by_gold, *by_target_text, *task_entries.ids_by_text.get(entry.text, ())]

    return [_stage2_row(task_entries, entry) for entry in assign_ids(task_entries, entries, known_ids)]


def _stage2_row(task_entries: TaskEntries, entry: Entry) -> Row:
    count = len(entry.row["responses"])
    names = ("tool_outputs", "errors", "correct", "finish_reasons", "error_details")
    unknown = {**{name: [None] * count for name in names}, "rule": None, "instruction": None, "input": None}
    uses_tool = [task_entries.uses_tool(text) for text in entry.row["responses"]]
    return {**entry.row, **task_entries.identity(entry), "uses_tool": uses_tool, **unknown}
