"""`make_questions`: a table with any columns as questions of a task."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from datasets import Dataset, DatasetDict

from toolrlef_data.columns import QUESTIONS
from toolrlef_data.loading_scripts.own.contradictions import GoldAnswers
from toolrlef_data.loading_scripts.own.files import read_own
from toolrlef_data.loading_scripts.own.rows import Column, Columns, Converted, convert_row
from toolrlef_data.loading_scripts.own.tables import LocatedRow, rows_by_split
from toolrlef_data.loading_scripts.rows_read import Locations, question_hashes, read_rows, write_row
from toolrlef_data.records import Drop, InputError, MissingColumns, UnknownName, is_text
from toolrlef_data.tables.batches.mapping import function_name
from toolrlef_data.tables.files import scratch_folder
from toolrlef_data.tables.identity import HashTable, text_hash
from toolrlef_data.tables.row_files import digest_rows, spool, spooled_tables, table_from_batches, writable_folder
from toolrlef_data.tables.stage_cache import read_record
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.given.checks import check_name
from toolrlef_data.tasks.given.memory import remember_tasks
from toolrlef_data.tasks.task import Task

__all__ = ["check_task", "load_own", "make_questions", "questions_from_rows"]

log = logging.getLogger("toolrlef_data")
OPTIONS = ("answers", "context", "id", "question", "solution", "task")
SCHEMA = QUESTIONS.arrow_schema
SHOWN = 3  # dropped rows that a warning names


def make_questions(
    table: Any,
    *,
    task: Task | str,
    question: Column = "question",
    answers: Column = "answers",
    context: Column | None = None,
    id: Column | None = None,
    solution: Column | None = None,
    dataset: str = "mine",
    rows: int | None = None,
) -> Any:
    """Turn a table of your own into a table of questions.

    A row without a question or a usable gold answer, and a row that equals an earlier one, is dropped into the ledger;
    a warning names the first of them. Rows with the same question and no gold answer in common are kept, with a
    warning. `Task.clean_answer` reads gold answers as people write them: "$68" is 68.

    Args:
        table: a Dataset, DatasetDict, IterableDataset, pandas or Polars frame, Arrow table, or a list of dicts.
        task: the task of all rows, which holds for all tables that are computed from the result; or a name in `TASKS`.
        question, answers, context, id, solution: the name of a column, or a function of the row, a dict. `answers` is a
            text, a number, or a list of these, each of which is right. Default: no context and no solution; an id that
            is made from the content.
        dataset: the name of the data set.
        rows: the number of rows to read from each split, from the first on; needed for an IterableDataset. Default:
            all.

    Returns:
        The questions (`columns.QUESTIONS`), a DatasetDict if `table` is one.

    Raises:
        InputError: a missing column, an id of two different rows, or no usable row; the message names the row.

    >>> from toolrlef_data import make_questions
    >>> rows = [{"problem": "What do 4 tickets of $17 cost?", "gold": "$68"}, {"problem": "Why?", "gold": None}]
    >>> questions = make_questions(rows, task="math", question="problem", answers="gold")
    >>> questions["answers"][:]
    [['68']]
    """
    columns = Columns(question, answers, context, id, solution)
    splits = rows_by_split(table, rows)
    inputs = {split: [table[split] if isinstance(table, DatasetDict) else table] for split in splits}
    made = questions_from_rows(splits, columns, task=task, dataset=dataset, limit=rows, inputs=inputs)
    return made if isinstance(table, DatasetDict) else next(iter(made.values()))


def load_own(
    name: str,
    split: str | None = None,
    *,
    config: str | None = None,
    revision: str | None = None,
    dataset: str | None = None,
    rows: int | None = None,
    **options: Any,
) -> Dataset:
    """Return the questions of a file, of a folder, or of a data set on the Hub; see `load_source`."""
    if unknown := sorted(options.keys() - OPTIONS):
        raise UnknownName(f"option of {name}:", unknown[0], [*OPTIONS, "config", "dataset", "revision", "rows"])
    if "task" not in options:
        raise InputError(f"{name}: pass task=, a Task or one of {', '.join(TASKS)}")
    task = check_task(options.pop("task"))
    columns = Columns(**{"question": "question", "answers": "answers", **options})
    own = read_own(name, split, config, revision)
    made = questions_from_rows(
        {own.split: own.rows},
        columns,
        task=task,
        dataset=own.dataset if dataset is None else dataset,
        limit=rows,
        read_from=own.read_from,
    )
    return made[own.split]


def questions_from_rows(
    splits: Mapping[str, Iterable[LocatedRow]],
    columns: Columns,
    *,
    task: Task | str,
    dataset: str,
    limit: int | None = None,
    inputs: Mapping[str, list[Any]] | None = None,
    read_from: str = "",
) -> DatasetDict:
    """Return the questions of located rows, by split; see `make_questions`.

    Args:
        splits: split -> (location, row) pairs.
        columns: where the parts of a question stand.
        task, dataset: of all rows.
        limit: the number of rows of each split. Default: all.
        inputs: split -> the tables that the rows come from.
        read_from: what was read, for the record; "" are rows in memory.
    """
    checked = check_task(task)
    _check_arguments(columns, dataset, limit)
    reader = _Reader(columns, checked, dataset, list(splits))
    made = {}
    with scratch_folder(writable_folder()) as scratch:
        salts = {split: reader.read(split, itertools.islice(rows, limit), scratch) for split, rows in splits.items()}
        reader.check()
        kept = (table for split in splits for table in spooled_tables(scratch / f"{split}.arrow"))
        reader.gold_answers.warn_of_contradictions(dataset, kept)
        for split, salt in salts.items():
            parents = [parent for parent in (inputs or {}).get(split, []) if _has_record(parent)]
            name = f"source {dataset}" if read_from else "make_questions" if parents else "rows"
            settings: dict[str, Any] = {"split": split, "task": checked.name, "columns": _published(columns)}
            settings |= {"read_from": read_from} if read_from else {}
            keys = [parent._fingerprint for parent in parents]
            questions, drops = spooled_tables(scratch / f"{split}.arrow"), read_rows(scratch / f"{split}.jsonl")
            made[split] = table_from_batches(questions, SCHEMA, name, keys, settings, drops, split, salt)
    return remember_tasks(DatasetDict(made), {checked.name: checked})


def check_task(task: Task | str) -> Task:
    """Return a task, or the task of a name in `TASKS`; refuse a task whose name stands for another one."""
    if isinstance(task, str):
        return TASKS[task]
    if not isinstance(task, Task):
        raise InputError(f"task: expected a Task or a name in TASKS, found {type(task).__name__}")
    check_name(task.name, task)
    return task


def _check_arguments(columns: Columns, dataset: str, limit: int | None) -> None:
    for part, column in columns.items():
        if not isinstance(column, str) and not callable(column):
            raise InputError(f"{part}: expected the name of a column or a function, found {type(column).__name__}")
    for part in ("question", "answers"):
        if getattr(columns, part) is None:
            raise InputError(f"{part}: expected the name of a column or a function, found None")
    if not is_text(dataset) or not dataset.strip():
        raise InputError(f"dataset: expected a name, found {dataset!r:.80}")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise InputError(f"rows: expected a whole number above 0, found {limit!r:.80}")


def _has_record(table: Any) -> bool:
    return isinstance(table, Dataset) and read_record(table._fingerprint) is not None


def _published(columns: Columns) -> dict[str, str]:
    return {part: column if isinstance(column, str) else function_name(column) for part, column in columns.items()}


class _Reader:
    """Reads the splits of one table one after the other: a question is in one of them only."""

    def __init__(self, columns: Columns, task: Task, dataset: str, splits: Sequence[str]) -> None:
        self.columns, self.task, self.dataset, self.splits = columns, task, dataset, splits
        self.names = {part: column for part, column in columns.items() if isinstance(column, str)}
        self.missing, self.found = dict(self.names), dict[str, None]()
        self.locations = Locations()
        self.ids = HashTable("Q")  # hash of an id -> the packed location of its row
        self.contents = HashTable()  # hashes of an id with the content of its row
        self.question_splits = HashTable()  # hash of a question -> number of its split
        self.gold_answers = GoldAnswers()
        self.n_rows = self.n_kept = self.n_problems = 0
        self.problems: list[str] = []  # the first ones

    def read(self, split: str, rows: Iterable[LocatedRow], folder: Path) -> str:
        """Write the questions and the dropped rows of a split to files of a folder; return a digest of the latter."""
        with (folder / f"{split}.jsonl").open("w") as drops:
            spool(self._questions(split, rows, drops), SCHEMA, folder / f"{split}.arrow")
        return digest_rows(read_rows(folder / f"{split}.jsonl"))

    def _questions(self, split: str, rows: Iterable[LocatedRow], drops: TextIO) -> Iterator[dict[str, Any]]:
        for location, row in rows:
            self.n_rows += 1
            self.missing = {part: name for part, name in self.missing.items() if name not in row}
            self.found.update(dict.fromkeys(map(str, row)))
            converted = convert_row(row, location, self.columns, self.task, self.dataset)
            drop = converted.drop or self._repeated(converted, location, split)
            identity = {"id": converted.id, "task": self.task.name, "dataset": self.dataset}
            if drop is not None:
                write_row({**identity, "stage": "source", "reason": drop.reason, "detail": drop.detail}, drops)
                self._note(f"{drop.detail} ({drop.reason})")
                continue
            question = converted.question
            assert question is not None
            if converted.note:
                self._note(f"{converted.note} (the other answers are kept)")
            texts = {"question": question.question, "context": question.context, "solution": question.solution}
            self.n_kept += 1
            self.gold_answers.add(question.question, question.context, question.answers)
            yield {**identity, **texts, "answers": list(question.answers), "split_origin": split}

    def _note(self, problem: str) -> None:
        self.n_problems += 1
        if self.n_problems <= SHOWN:
            self.problems.append(problem)

    def _repeated(self, converted: Converted, location: str, split: str) -> Drop | None:
        question = converted.question
        assert question is not None
        content = repr((question.question, question.context, question.answers, question.solution))
        packed = self.ids.setdefault(text_hash(converted.id), self.locations.pack(location))
        is_known = self.contents.setdefault(text_hash(f"{converted.id}\n{content}"), 1)
        if packed:
            first = self.locations.unpack(packed)
            if is_known:
                return Drop("duplicate", f"{location}: it equals {first}")
            raise InputError(f"{location}: the id {converted.id!r} is also the id of {first}; ids must be unique")
        if len(self.splits) > 1:
            own = self.splits.index(split) + 1
            _, key = question_hashes(converted.id, question.question, question.context)
            first_split = self.question_splits.setdefault(key, own) or own
            if first_split != own:
                return Drop("duplicate_across_splits", f"{location}: its question is in {self.splits[first_split - 1]}")
        return None

    def check(self) -> None:
        """Raise an `InputError` if a column is missing or no row is usable, and warn of dropped rows."""
        if self.n_rows and self.missing:
            found = ", ".join(self.found) or "(none)"
            missing = ", ".join(f"{part}={name!r}" for part, name in self.missing.items())
            raise MissingColumns(f"the table lacks the columns of {missing}; found: {found}")
        shown = "; ".join(self.problems) + ("; ..." if self.n_problems > SHOWN else "")
        if self.n_rows and not self.n_kept:
            raise InputError(f"none of the {self.n_rows} rows can be used: {shown}")
        if self.problems:
            dropped = self.n_rows - self.n_kept
            log.warning("%s: %d of %d rows were dropped: %s", self.dataset, dropped, self.n_rows, shown)
