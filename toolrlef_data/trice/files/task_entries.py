"""Entries of one task, joined across files by id if the files have ids, else by the input text.

The same row can be in several files: of a task, of a data set, of the mix and of the gold responses. A missing id is
taken from the same question in another file, or derived from the text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, count, groupby
from typing import Any

from toolrlef_data.tables.identity import text_id
from toolrlef_data.tasks.task import Task
from toolrlef_data.tools.parsing.calls import find_called_tool
from toolrlef_data.trice.files.entries import Entry
from toolrlef_data.trice.files.writer import LOAD_STAGE

__all__ = ["KINDS", "Row", "TaskEntries", "assign_ids", "drop_other_questions", "drop_repeated_ids", "merge_copies"]

Row = dict[str, Any]
KINDS = ("stage1", "gold", "raw", "tool", "question", "response", "stage2")


@dataclass
class TaskEntries:
    """All entries of one task.

    Args:
        name: the task's name.
        task: the task.
        entries: (kind, split) -> entries in the order of their files; the kind is one of `KINDS`.
        notes: id -> responder -> the line of dropped.json with the reason of the missing response.
        dropped: rows of the ledger (`columns.DROPPED`).
    """

    name: str
    task: Task
    entries: dict[tuple[str, str], list[Entry]] = field(default_factory=dict)
    notes: dict[str, dict[str, Row]] = field(default_factory=dict)
    dropped: list[Row] = field(default_factory=list)

    def of(self, *kinds: str, split: str | None = None) -> Iterator[Entry]:
        """Yield the entries of some kinds, in one split or, with None, in all splits."""
        for kind in kinds:
            for (entry_kind, entry_split), entries in self.entries.items():
                if entry_kind == kind and split in (None, entry_split):
                    yield from entries

    def drop(self, entry: Entry, reason: str, detail: str) -> None:
        """Record an entry in the ledger."""
        identity = {"id": entry.id, "task": self.name, "dataset": entry.dataset}
        detail = f"{entry.position}: {detail}"
        self.dropped.append({**identity, "stage": LOAD_STAGE, "reason": reason, "detail": detail})

    @cached_property
    def splits(self) -> list[str]:
        """The names of the splits, "train" first."""
        names = {split for _, split in self.entries}
        return [name for name in ("train",) if name in names] + sorted(names - {"train"})

    @cached_property
    def ids_by_text(self) -> dict[str, list[str]]:
        """Input text -> its ids in all files."""
        ids: dict[str, dict[str, None]] = {}
        for entry in self.of("gold", "raw", "tool", "question", "response"):
            ids.setdefault(entry.text, {})[entry.id] = None
        return {text: list(text_ids) for text, text_ids in ids.items()}

    @cached_property
    def datasets(self) -> dict[str, str]:
        """id -> data set, from any file that names one."""
        return {entry.id: entry.dataset for entry in self.of(*KINDS) if entry.id and entry.dataset}

    @cached_property
    def answers(self) -> dict[str, list[str]]:
        """id -> gold answers: the longest list in any file, preceded by the answer of the gold response."""
        answers: dict[str, list[str]] = {}
        for entry in self.of("raw", "tool", "question", "response"):
            if len(entry.answers) > len(answers.get(entry.id, ())):
                answers[entry.id] = entry.answers
        for entry in self.of("gold", "stage1"):
            if entry.id and entry.answers:
                answers[entry.id] = list(dict.fromkeys([*entry.answers, *answers.get(entry.id, ())]))
        return answers

    @cached_property
    def stage2_answers(self) -> dict[str, list[str]]:
        """Input text -> gold answers in stage 2."""
        answers: dict[str, list[str]] = {}
        for entry in self.of("stage2"):
            if entry.answers:
                answers.setdefault(entry.text, entry.answers)
        return answers

    def identity(self, entry: Entry) -> Row:
        """Return the columns that all tables share."""
        answers = self.answers.get(entry.id) or entry.answers or self.stage2_answers.get(entry.text, [])
        dataset = self.datasets.get(entry.id) or entry.dataset
        return {"id": entry.id, "task": self.name, "dataset": dataset, "answers": answers}

    def uses_tool(self, text: str) -> bool:
        return find_called_tool(text, self.task.tool) is not None


def drop_repeated_ids(task_entries: TaskEntries, entries: Iterable[Entry]) -> list[Entry]:
    """Return the first entry per id (of responses: per id and responder).

    Later copies of its row are skipped; different rows with its id are dropped.
    """
    first: dict[tuple[str, str], Entry] = {}
    distinct = []
    for entry in entries:
        other = first.setdefault((entry.name if entry.kind == "response" else "", entry.id), entry)
        if other is entry:
            distinct.append(entry)
        elif other.row != entry.row:
            task_entries.drop(entry, "repeated_id", f"differs from the row with the same id in {other.position}")
    return distinct


def drop_other_questions(task_entries: TaskEntries, entries: Iterable[Entry], first: dict[str, Entry]) -> list[Entry]:
    """Return the entries without those whose id is that of another question in an earlier split.

    Args:
        task_entries: all entries of the task.
        entries: the entries of one kind and split.
        first: id -> its first entry of this kind; the ids of `entries` are added.
    """
    kept = []
    for entry in entries:
        other = first.setdefault(entry.id, entry)
        if other.split == entry.split or other.text == entry.text:
            kept.append(entry)
        else:
            task_entries.drop(entry, "repeated_id", f"is another question than that with this id in {other.position}")
    return kept


def assign_ids(
    task_entries: TaskEntries, entries: Sequence[Entry], known_ids: Callable[[Entry], Iterable[str]]
) -> list[Entry]:
    """Return the entries with unique ids: the file's, else an unused known one, else one derived from the text."""
    used = {entry.id for entry in entries if entry.id}
    for entry in entries:
        if not entry.id:
            derived = f"{entry.dataset or 'trice'}-{text_id(entry.text)}"
            choices = chain(known_ids(entry), [derived], (f"{derived}-{n}" for n in count(2)))
            entry.id = next(row_id for row_id in choices if row_id not in used)
            used.add(entry.id)
    return drop_repeated_ids(task_entries, entries)


def merge_copies(entries: Iterable[Entry], key: Callable[[Entry], Hashable]) -> list[Entry]:
    """Merge entries with equal keys across precedences.

    Each key then occurs as often as in the precedence that contains it most often.
    """
    rows: list[Entry] = []
    rows_by_key: dict[Hashable, list[Entry]] = {}
    by_precedence = sorted(entries, key=lambda entry: entry.precedence)
    for _, group in groupby(by_precedence, key=lambda entry: entry.precedence):
        counts: Counter[Hashable] = Counter()
        for entry in group:
            copies = rows_by_key.setdefault(key(entry), [])
            n = counts[key(entry)]
            counts[key(entry)] += 1
            if n < len(copies):
                copies[n].id, copies[n].dataset = copies[n].id or entry.id, copies[n].dataset or entry.dataset
            else:
                copies.append(entry)
                rows.append(entry)
    return rows
