"""join: the entries of one task joined, by id where files have one, else by the input text.

The same row stands in several files (a task's, a data set's, the mix, the gold responses); it is one row here. An id
that a file lacks is that of the same question in another file, else made from the text.
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
from toolrlef_data.tools.calls import find_called_tool
from toolrlef_data.trice.files.entries import Entry
from toolrlef_data.trice.files.writer import LOADED

__all__ = ["KINDS", "Found", "Row", "identified", "merged", "once"]

Row = dict[str, Any]
KINDS = ("stage1", "gold", "raw", "tool", "question", "response", "stage2")


@dataclass
class Found:
    """All entries of one task.

    Args:
        name, task: its name, and the task itself.
        entries: (kind, split) -> entries in the order of their files.
        notes: id -> responder -> the line of dropped.json that tells why there is no response.
        left: the ledger, rows as of `columns.DROPPED`.
    """

    name: str
    task: Task
    entries: dict[tuple[str, str], list[Entry]] = field(default_factory=dict)
    notes: dict[str, dict[str, Row]] = field(default_factory=dict)
    left: list[Row] = field(default_factory=list)

    def of(self, *kinds: str, split: str | None = None) -> Iterator[Entry]:
        for kind in kinds:
            for (own, where), entries in self.entries.items():
                if own == kind and split in (None, where):
                    yield from entries

    def leave(self, entry: Entry, reason: str, detail: str) -> None:
        known = {"id": entry.id, "task": self.name, "dataset": entry.dataset}
        self.left.append({**known, "stage": LOADED, "reason": reason, "detail": f"{entry.where}: {detail}"})

    @cached_property
    def splits(self) -> list[str]:
        found = {split for _, split in self.entries}
        return [split for split in ("train",) if split in found] + sorted(found - {"train"})

    @cached_property
    def ids_by_text(self) -> dict[str, list[str]]:
        """Input text -> the ids that any file gives it."""
        ids: dict[str, dict[str, None]] = {}
        for entry in self.of("gold", "raw", "tool", "question", "response"):
            ids.setdefault(entry.text, {})[entry.id] = None
        return {text: list(found) for text, found in ids.items()}

    @cached_property
    def data_sets(self) -> dict[str, str]:
        """id -> the data set that any file tells."""
        return {entry.id: entry.dataset for entry in self.of(*KINDS) if entry.id and entry.dataset}

    @cached_property
    def answers(self) -> dict[str, list[str]]:
        """id -> gold answers: the longest list in any file, the gold response's answer first."""
        answers: dict[str, list[str]] = {}
        for entry in self.of("raw", "tool", "question", "response"):
            if len(entry.answers) > len(answers.get(entry.id, ())):
                answers[entry.id] = entry.answers
        for entry in self.of("gold", "stage1"):
            if entry.id and entry.answers:
                answers[entry.id] = list(dict.fromkeys([*entry.answers, *answers.get(entry.id, ())]))
        return answers

    @cached_property
    def ranked_answers(self) -> dict[str, list[str]]:
        """Input text -> what stage 2 has as gold's answers."""
        answers: dict[str, list[str]] = {}
        for entry in self.of("stage2"):
            if entry.answers:
                answers.setdefault(entry.text, entry.answers)
        return answers

    def identity(self, entry: Entry) -> Row:
        """The columns that all tables have."""
        answers = self.answers.get(entry.id) or entry.answers or self.ranked_answers.get(entry.text, [])
        dataset = self.data_sets.get(entry.id) or entry.dataset
        return {"id": entry.id, "task": self.name, "dataset": dataset, "answers": answers}

    def uses_tool(self, text: str) -> bool:
        return find_called_tool(text, self.task.tool) is not None


def once(found: Found, entries: Iterable[Entry]) -> list[Entry]:
    """Each id once, or once for a responder: a copy is left out, another row of the same id goes to the ledger."""
    first: dict[tuple[str, str], Entry] = {}
    kept = []
    for entry in entries:
        other = first.setdefault((entry.name if entry.kind == "response" else "", entry.id), entry)
        if other is entry:
            kept.append(entry)
        elif other.row != entry.row:
            found.leave(entry, "repeated_id", f"another row than {other.where}")
    return kept


def identified(found: Found, entries: Sequence[Entry], known: Callable[[Entry], Iterable[str]]) -> list[Entry]:
    """Entries with ids of their own: those of the file, else known ones that are still free, else made ones."""
    taken = {entry.id for entry in entries if entry.id}
    for entry in entries:
        if not entry.id:
            made = f"{entry.dataset or 'trice'}-{text_id(entry.text)}"
            choices = chain(known(entry), [made], (f"{made}-{n}" for n in count(2)))
            entry.id = next(row_id for row_id in choices if row_id not in taken)
            taken.add(entry.id)
    return once(found, entries)


def merged(entries: Iterable[Entry], key: Callable[[Entry], Hashable]) -> list[Entry]:
    """Rows that stand in several files once, as often as in the file that has them most often."""
    rows: list[Entry] = []
    alike: dict[Hashable, list[Entry]] = {}
    for _, level in groupby(sorted(entries, key=lambda entry: entry.level), key=lambda entry: entry.level):
        used: Counter[Hashable] = Counter()
        for entry in level:
            same = alike.setdefault(key(entry), [])
            n = used[key(entry)]
            used[key(entry)] += 1
            if n < len(same):
                same[n].id, same[n].dataset = same[n].id or entry.id, same[n].dataset or entry.dataset
            else:
                same.append(entry)
                rows.append(entry)
    return rows
