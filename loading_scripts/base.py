"""Base classes of all sources: the builders of tables, and the checks of rows.

A source defines which files it reads and how it converts a row. The builder produces two tables with the same splits:
the config "questions", and the config "dropped" with the unusable rows. `build_tables` moves them to the stage cache,
under a key of the code, the options and the contents of the data files, which `datasets` itself ignores.

| class | rows |
|---|---|
| `TableSource` | any columns |
| `Source` | questions |

A question appears in one split only. Two rows are the same question if their ids agree up to "#", or if their texts and
contexts agree apart from case, white space and punctuation (`identity`). The question is in the split that is
first in `Source.files` or on the Hub, and is dropped from later splits. Not covered: paraphrases; equal questions of
two sources.

Drop reasons of all `Source` classes:

| reason | row |
|---|---|
| `no_question`, `no_answer` | has no question or no gold answer |
| `not_text` | has a value that is not text although text is required; the id of the drop contains the row number |
| `not_unicode` | contains an unpaired surrogate, which UTF-8 cannot encode |
| `duplicate_across_splits` | has a question of an earlier split |
| `repeated` | has the id of an earlier row (only sources with `has_repeats`; an error in others) |
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TextIO

import datasets
from datasets import (
    BuilderConfig,
    Dataset,
    DatasetBuilder,
    DatasetInfo,
    Features,
    GeneratorBasedBuilder,
    SplitGenerator,
)
from datasets.exceptions import DatasetNotFoundError

from toolrlef_data.checks import as_path
from toolrlef_data.columns import DROPPED, QUESTIONS
from toolrlef_data.loading_scripts.fields import (
    CaseInsensitiveRow,
    as_patterns,
    escape_surrogates,
    find_files,
)
from toolrlef_data.loading_scripts.hub import load_hub_tables
from toolrlef_data.loading_scripts.rows_read import Locations, question_hashes, read_rows, write_row
from toolrlef_data.loading_scripts.text_files import read_json
from toolrlef_data.records import Drop, InputError, UnusableRow, is_text
from toolrlef_data.tables.files import file_digest
from toolrlef_data.tables.fingerprint import canonical, code_digest, digest
from toolrlef_data.tables.identity import HashTable, text_hash

__all__ = ["Question", "Row", "Source", "TableSource"]


@dataclass(frozen=True, slots=True)
class Question:
    """A usable row.

    Args:
        id: unique id. Variants of one upstream question share it up to "#" ("mlqa-17#de", "mlqa-17#zh"); ids without
            variants contain no "#".
        question: the question; a row without one is dropped.
        answers: the gold answers, each of which is correct; a row without any is dropped.
        solution: a worked solution or formula. Default: none.
        context: the text that the question is about. Default: none.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    solution: str = ""
    context: str = ""


Row = Question | tuple[str, Drop]  # a dropped row: its id and the reason


class TableSource(DatasetBuilder, ABC):  # type: ignore[misc]  # datasets has no types
    """Builder of one table, and of the table of its dropped rows.

    Args:
        data_dir: a folder with upstream's files. Default: `bundled_folder` if set, else the Parquet files on the Hub.
        config_name: "questions" or "dropped". Default: "questions".
        cache_dir: the folder in which tables are cached. Default: the cache folder of `datasets`.
        sibling: another builder with the same arguments. Its cache key is reused, so that the files are digested only
            once.
        options: options of the source; see `defaults`.
    """

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [BuilderConfig("questions", VERSION), BuilderConfig("dropped", VERSION)]
    DEFAULT_CONFIG_NAME = "questions"
    source: ClassVar[str]
    columns: ClassVar[Features] = QUESTIONS
    task: ClassVar[str] = "math"
    hub: ClassVar[tuple[str, ...]] = ()  # Hub id, followed by the configs to read if it has several
    bundled_folder: ClassVar[Path | None] = None  # the default of data_dir
    defaults: ClassVar[Mapping[str, Any]] = {}  # option -> default
    scratch: Path | None = None  # a folder in which the builder of the questions leaves the drops for the other one

    def __init__(
        self,
        data_dir: str | Path | None = None,
        config_name: str | None = None,
        cache_dir: str | None = None,
        *,
        sibling: Any = None,
        **options: Any,
    ) -> None:
        self.sibling = sibling
        if sibling is not None:
            shared = ("options", "folder", "split_files", "key", "_hub_tables")
            self.__dict__.update({name: value for name, value in vars(sibling).items() if name in shared})
        else:
            self.inspect(data_dir, options)
        super().__init__(config_name=config_name, cache_dir=cache_dir, dataset_name=self.source, hash=self.key)

    def inspect(self, data_dir: str | Path | None, options: Mapping[str, Any]) -> None:
        """Set the options, the files of each split and the cache key; nothing is written."""
        for name in options:
            if name not in self.defaults:
                known = ", ".join(self.defaults) or "(none)"
                raise InputError(f"source {self.source}: unknown option {name!r}; choose from: {known}")
        self.options = {**self.defaults, **options}
        self.folder = as_path("data_dir", data_dir) if data_dir is not None else self.bundled_folder
        self.split_files, content = self.inspect_files()
        code = code_digest(type(self)), canonical(type(self))  # the latter covers sources that the user defines
        self.key = digest([code, content, self.options])

    @abstractmethod
    def inspect_files(self) -> tuple[Mapping[str, Sequence[Any]], Any]:
        """Return the files of each split, and a JSON value that changes with their contents."""

    def row(self, row_id: str, **columns: Any) -> dict[str, Any]:
        """Return a row of the table, with the columns `id`, `task` and `dataset` and those given."""
        return {"id": row_id, "task": self.task, "dataset": self.source, **columns}

    def dropped_row(self, row_id: str, drop: Drop) -> dict[str, Any]:
        """Return a row of the table of dropped rows."""
        return self.row(row_id, stage="source", reason=drop.reason, detail=drop.detail)

    def _info(self) -> DatasetInfo:
        return DatasetInfo(features=self.columns if self.config.name == "questions" else DROPPED)

    def splits(self) -> list[str]:
        """Return the names of the splits."""
        return list(self.split_files)

    def _split_generators(self, dl_manager: Any) -> list[SplitGenerator]:  # noqa: ARG002  # nothing to download
        return [SplitGenerator(split, {"split": split}) for split in self.splits()]


class Source(TableSource, GeneratorBasedBuilder):  # type: ignore[misc]
    """Builder of the questions table of one data set; see `TableSource` for the arguments."""

    files: ClassVar[Mapping[str, str | tuple[str, ...]]]  # split -> file name or patterns; see `fields.find_files`
    has_repeats: ClassVar[bool] = False  # a row with the id of an earlier row is dropped instead of raising an error

    def inspect_files(self) -> tuple[Mapping[str, Sequence[Path]], Any]:
        split_files = find_files(self.files, self.folder) if self.folder is not None else {}
        digests = {
            split: [(self._relative(str(path)), file_digest(path)) for path in paths]
            for split, paths in split_files.items()
        }
        return split_files, digests or self._hub_digest()

    def read(self, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield (location, row) of one file."""
        return read_json(path)

    @abstractmethod
    def rows(self, raw: Mapping[str, Any], fallback_id: str, location: str) -> Iterator[Row]:
        """Yield the rows that one upstream row contains: questions, or (id, drop) pairs.

        Args:
            raw: the upstream row, with case-insensitive keys; rows of the Hub have the additional key "hub_config".
            fallback_id: an id built from data set, split and row number, for rows without an id.
            location: file and line, for messages.
        """

    def _relative(self, location: str) -> str:
        """Return a path or location relative to the data folder, so that it is the same on all machines."""
        return location.removeprefix(f"{self.folder}{os.sep}")

    def _hub_digest(self) -> list[tuple[str, str, str]]:
        tables = self._hub_tables.items()
        return [(config, split, table._fingerprint) for config, splits in tables for split, table in splits.items()]

    @cached_property
    def _hub_tables(self) -> Mapping[str, Mapping[str, Dataset]]:
        """The tables on the Hub, by config and split."""
        files = ", ".join(pattern for patterns in self.files.values() for pattern in as_patterns(patterns))
        if not self.hub:
            raise InputError(f"source {self.source}: pass data_dir= with {files}")
        try:
            return {config: load_hub_tables(self.hub[0], config) for config in self.hub[1:] or ("",)}
        except (ConnectionError, DatasetNotFoundError) as error:
            raise InputError(f"source {self.source}: {error}; to read files, pass data_dir= with {files}") from error

    def splits(self) -> list[str]:
        splits = self.split_files or (split for tables in self._hub_tables.values() for split in tables)
        return list(dict.fromkeys(splits))

    def _split_generators(self, dl_manager: Any) -> list[SplitGenerator]:
        # Filled while the splits are read one after the other: hash of the id up to "#", or of the text -> number of
        # the first split.
        self.question_splits, self.split_names = HashTable(), self.splits()
        generators: list[SplitGenerator] = super()._split_generators(dl_manager)
        return generators

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        drops = self.scratch / f"drops-{split}.jsonl" if self.scratch is not None else Path(os.devnull)
        if self.config.name == "questions":
            with drops.open("w") as file:
                yield from self._questions(split, file)
        else:
            dropped = (self.dropped_row(*row) for row in self._checked_rows(split) if isinstance(row, tuple))
            yield from enumerate(dropped if self.scratch is None else read_rows(drops))

    def _questions(self, split: str, drops: TextIO) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the questions of a split, and write the drops to a file."""
        n = 0
        for n, row in enumerate(self._checked_rows(split), start=1):
            if isinstance(row, Question):
                texts = {"question": row.question, "context": row.context, "solution": row.solution}
                yield n, self.row(row.id, **texts, answers=list(row.answers), split_origin=split)
            else:
                write_row(self.dropped_row(*row), drops)
        if n == 0:
            raise InputError(
                f"{', '.join(map(str, self.split_files.get(split, [split])))} is empty: it contains no rows"
            )

    def _checked_rows(self, split: str) -> Iterator[Row]:
        """Yield the rows of a split; repeated rows and questions of earlier splits are replaced by drops."""
        locations = Locations()
        ids = HashTable("Q")  # hash -> twice the packed location of the first row, plus 1 if a row has a question
        for n, (location, raw) in enumerate(self._raw_rows(split), start=1):
            for row in self._converted_rows(raw, f"{self.source}-{split}-{n}", location):
                checked = self._check(row, split)
                is_usable = isinstance(checked, Question)
                row_id = checked.id if isinstance(checked, Question) else checked[0]
                key = text_hash(row_id)
                if found := ids.setdefault(key, 2 * locations.pack(location) + is_usable):
                    first, has_question = locations.unpack(found // 2), found % 2
                    if not self.has_repeats:
                        problem = f"the id {row_id!r} is also the id of {first}; ids must be unique"
                        raise InputError(f"{location}: {problem}")
                    if has_question or not is_usable:
                        checked = row_id, Drop("repeated", f"as {escape_surrogates(self._relative(first))}")
                    else:
                        ids[key] = found + 1
                yield checked

    def _converted_rows(self, raw: Mapping[str, Any], fallback_id: str, location: str) -> Iterator[Row]:
        try:
            yield from self.rows(CaseInsensitiveRow(raw), fallback_id, location)
        except UnusableRow as error:
            yield fallback_id, Drop(error.reason, error.detail)

    def _check(self, row: Row, split: str) -> Row:
        """Return the row, or a drop if it is incomplete, cannot be encoded, or is in an earlier split."""
        if isinstance(row, tuple):
            return escape_surrogates(row[0]), Drop(row[1].reason, escape_surrogates(row[1].detail))
        texts = (row.id, row.question, row.context, row.solution, *row.answers)
        if invalid := [text for text in texts if not is_text(text)]:
            return escape_surrogates(row.id), Drop("not_unicode", escape_surrogates(invalid[0])[:80])
        if not row.question or not row.answers:
            return row.id, Drop("no_answer" if row.question else "no_question", row.question[:80])
        hashes = question_hashes(row.id, row.question, row.context)
        names = self.split_names
        own = first = names.index(split) + 1
        for key in hashes:
            first = (self.question_splits[key] or own) if first == own else first
        if own < len(names) or first != own:  # no split after the last one has to know its questions
            for key in hashes:  # also for a dropped row, so that other variants of its question are dropped, too
                self.question_splits.setdefault(key, first)
        return row if first == own else (row.id, Drop("duplicate_across_splits", names[first - 1]))

    def _raw_rows(self, split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for path in self.split_files.get(split, ()):
            yield from self.read(path)
        for config, tables in () if self.split_files else self._hub_tables.items():
            for n, raw in enumerate(tables.get(split, ()), start=1):
                yield f"{self.hub[0]} {config}, split {split}, row {n}", {**raw, "hub_config": config}
