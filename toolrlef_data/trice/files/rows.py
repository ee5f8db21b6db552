"""rows: rows of our tables, made from the entries of one task in the original's files.

Rows are joined by id, never by position. What the tables hold is told in `trice.files.load`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolrlef_data.engines.responses import build_response
from toolrlef_data.trice.files.entries import Entry, context_of
from toolrlef_data.trice.files.task_entries import Found, Row, identified, merged, once

__all__ = ["rows_of"]

NOT_THERE = "not_found"  # of `records.REPLY_ERRORS`
ORIGINAL_ORDER = ("chatgpt", "davinci", "vicuna", "alpaca")


def rows_of(found: Found) -> dict[str, dict[str, list[Row]]]:
    """Table -> split -> rows; what cannot be a row of them is added to the ledger."""
    for split in found.splits:
        for kind in ("gold", "raw", "tool", "question", "response"):
            found.entries[kind, split] = once(found, found.of(kind, split=split))
    clones = {split: _clones(found, split) for split in found.splits}
    tables: dict[str, dict[str, list[Row]]] = {}
    graded = "labelled" if any(found.of("tool")) else "graded"
    is_responded = any(found.of("response"))
    has_stage1 = any(found.of("stage1")) or not is_responded
    for split in found.splits:
        checked = _graded(found, split, clones, graded == "labelled")
        made = {
            "questions": _questions(found, split, {row["id"] for row in checked}),
            graded: checked,
            "stage1": [_stage1(found, entry) for entry in clones[split]] if has_stage1 else [],
            "responded": _responded(found, split, clones, not has_stage1) if is_responded else [],
            "stage2": _stage2(found, split, clones),
        }
        for name, rows in made.items():
            if rows:
                tables.setdefault(name, {})[split] = rows
    found.left += [line for told in found.notes.values() for line in told.values()]  # those of no row
    return tables


def _clones(found: Found, split: str) -> list[Entry]:
    """Stage 1 of a split: its own files, and the gold responses."""
    whole = merged(found.of("stage1", "gold", split=split), lambda entry: (entry.text, entry.row["output"]))
    return identified(found, whole, lambda entry: found.ids_by_text.get(entry.text, ()))


def _stage1(found: Found, entry: Entry) -> Row:
    uses_tool = found.uses_tool(entry.row["output"])
    source = ("question" if found.task.make_argument else "teacher") if uses_tool else "student"
    told = {name: entry.row[name] for name in ("instruction", "input", "output")}
    return {**told, **found.identity(entry), "uses_tool": uses_tool, "source": source, "verified_by": None}


def _questions(found: Found, split: str, graded: set[str]) -> list[Row]:
    return [_question(found, entry) for entry in found.of("question", split=split) if entry.id not in graded]


def _question(found: Found, entry: Entry) -> Row:
    question = entry.row["question"]
    context = context_of(entry.row["input"], question, found.task)
    rest = {"question": question, "context": context, "solution": "", "split_origin": entry.split}
    return {**found.identity(entry), **rest}


def _graded(found: Found, split: str, clones: Mapping[str, list[Entry]], labelled: bool) -> list[Row]:
    targets = (entry for rows in clones.values() for entry in rows)
    own = {entry.id: entry.row["output"] for entry in targets if not found.uses_tool(entry.row["output"])}
    calls = {entry.id: entry for entry in found.of("tool", split=split)}
    raws = list(found.of("raw", split=split))
    known = {entry.id for entry in raws}
    rows = []
    for entry in [*raws, *(call for call in calls.values() if call.id not in known)]:
        right = entry.name == "right" and entry.kind == "raw"
        text = entry.row.get("text")
        if text is None and right:
            text = own.get(entry.id)
        row = {**_question(found, entry), "samples": [], "correct": right, "pass_rate": float(right)}
        row["response"] = {**_response(text, "the student's response is in no file"), "correct": right}
        row["prediction"] = None if text is None else found.task.extract(text)
        row["needs_tool"] = None if right and text is None else not right
        if labelled:
            call = calls.get(entry.id)
            row |= {"tool_call": call.row["tool"] if call else None, "teacher": "unknown" if call else None}
            row |= {"tool_output": None, "verified": None, "verified_by": None, "attempts": 0, "rejected": []}
        rows.append(row)
    return rows


def _response(text: str | None, why: str, error: str = NOT_THERE) -> Row:
    if text is None:
        return {**build_response(None), "reasoning": None, "finish_reason": None, "error": error, "error_detail": why}
    return {**build_response(None, text=text), "finish_reason": None}


def _responded(found: Found, split: str, clones: Mapping[str, list[Entry]], whole: bool) -> list[Row]:
    """Gold and one response a responder, by id; with `whole` also the questions that nobody responded to."""
    texts: dict[str, dict[str, Entry]] = {}  # responder -> id -> response
    for entry in found.of("response", split=split):
        texts.setdefault(entry.name, {})[entry.id] = entry
    if not texts:
        return []
    noted = {name for told in found.notes.values() for name in told} - {"gold"}
    names = _ordered(found, {entry.name for entry in found.of("response")} | noted)
    # A question stands in one split; the files of its gold response may name another, or none.
    golds = {entry.id: entry for other in found.splits for entry in clones[other]}
    golds |= {entry.id: entry for entry in clones[split]}
    instructions = {entry.id: entry.row["instruction"] for entry in found.of("gold")}
    answered = {row_id: entry for own in reversed(list(texts.values())) for row_id, entry in own.items()}
    here = [entry.id for entry in clones[split] if whole or entry.id in answered or entry.id in found.notes]
    rows = []
    for row_id in dict.fromkeys([*here, *answered]):
        gold = golds.get(row_id)
        if gold is not None:
            row = _stage1(found, gold)
            row["instruction"] = instructions.get(row_id, row["instruction"])
            row["gold"] = build_response(None, text=gold.row["output"])
        else:
            entry = answered[row_id]
            row = {"instruction": found.task.instruction, "input": entry.text, "output": None, "verified_by": None}
            row |= {**found.identity(entry), "uses_tool": None, "source": None}
            row["gold"] = _response(None, "no gold response has this id")
        notes = found.notes.pop(row_id, {})
        for name in names:
            response = texts.get(name, {}).get(row_id)
            text = response.row["text"] if response else None
            why = notes.get(name, {}).get("detail", "").partition(": ")[2] or NOT_THERE
            row[name] = _response(text, f"the file of {name} holds no response with this id", why)
        rows.append(row)
    return rows


def _ordered(found: Found, names: set[str]) -> list[str]:
    """Responders as stage 2 has them, else as the original, others by name."""
    ranked = next((entry.row["origin"] for entry in found.of("stage2")), ())
    order = {name: i for i, name in enumerate(dict.fromkeys([*ranked, *ORIGINAL_ORDER]))}
    return sorted(names, key=lambda name: (order.get(name, len(order)), name))


def _stage2(found: Found, split: str, clones: Mapping[str, list[Entry]]) -> list[Row]:
    whole = merged(
        found.of("stage2", split=split),
        lambda entry: (entry.row["query"], *entry.row["responses"], *entry.row["scores"]),
    )
    ids: dict[Any, list[str]] = {}
    for entry in (entry for own in [split, *found.splits] for entry in clones[own]):
        for key in ((entry.text, entry.row["output"]), entry.text):
            ids.setdefault(key, []).append(entry.id)

    def known(entry: Entry) -> list[str]:
        gold = dict(zip(entry.row["origin"], entry.row["responses"], strict=True)).get("gold")
        return [*ids.get((entry.text, gold), ()), *ids.get(entry.text, ()), *found.ids_by_text.get(entry.text, ())]

    return [_ranked(found, entry) for entry in identified(found, whole, known)]


def _ranked(found: Found, entry: Entry) -> Row:
    count = len(entry.row["responses"])
    unknown = {"tool_outputs": [None] * count, "errors": [None] * count, "rule": None}
    used = [found.uses_tool(text) for text in entry.row["responses"]]
    return {**entry.row, **found.identity(entry), "uses_tool": used, **unknown}
