"""What the sources share: the builder, its checks, and the command line.

A source says where its rows come from and how one row is read. The builder makes two tables of the same splits from
that: config "questions" and config "dropped", the rows that the source cannot use. Its cache directory carries a digest
of the code, the options and the data files' content, which `datasets` itself does not look at. Every source is a
`TableSource`, whatever its columns; a `Source` is one of questions.

One question never stands in two splits. Two rows are one question where their ids agree up to "#", or their texts and
contexts do but for case, blanks and punctuation (`identity`). The split that `Source.files` (or the Hub) names first
keeps it; in a later one it is dropped as `in_another_split`. Not covered: the same question in other words, and in two
sources.

A row that one source or another may hold, and none can use, is dropped as `no_question`, `no_answer`, `not_text` (its
id is then made of its number) or `not_unicode` (a lone surrogate, which UTF-8 cannot hold).
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

import datasets
from datasets import (
    BuilderConfig,
    Dataset,
    DatasetBuilder,
    DatasetInfo,
    Features,
    GeneratorBasedBuilder,
    SplitGenerator,
    load_dataset,
)
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

from toolrlef_data.columns import DROPPED, QUESTIONS
from toolrlef_data.loading_scripts import SOURCES
from toolrlef_data.loading_scripts.fields import AnyCase, encodable, find, patterns_of, read_json
from toolrlef_data.loading_scripts.files import as_path
from toolrlef_data.records import Drop, InputError, ToolrlefError, UnusableRow, is_text
from toolrlef_data.tables.files import file_digest
from toolrlef_data.tables.fingerprint import canonical, code_digest, digest
from toolrlef_data.tables.identity import normal_form, text_hash

__all__ = ["Question", "Row", "Source", "TableSource", "Tables", "main", "tables_of"]


@dataclass(frozen=True, slots=True)
class Question:
    """One usable row.

    Rows that ask one upstream question in several ways share its id up to "#" ("mlqa-17#de", "mlqa-17#zh"); an id
    without variants has no "#". Of `answers`, every one is right; a row without any, or without a question, is dropped.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    solution: str = ""
    context: str = ""


Row = Question | tuple[str, Drop]  # a row that cannot be used: its id, and why


@dataclass(frozen=True, slots=True)
class Tables:
    """All splits of a source (`questions`: what can be used, of any kind), and what was read: "files", or a Hub id."""

    questions: Mapping[str, Dataset]
    dropped: Mapping[str, Dataset]
    read_from: str


class TableSource(DatasetBuilder, ABC):  # type: ignore[misc]  # datasets has no types
    """A builder of one table, and of the ledger of the rows that it cannot use.

    Args:
        data_dir: a folder with upstream's own files; without it, the Hub's Parquet.
        config_name: "questions", which is the table, or "dropped".
        cache_dir: where to keep the tables; None: the cache of `datasets`.
        beside: the builder of the other table, with the same arguments; it has looked at the files already.
        options: what this source lets one choose, with its default in the class.
    """

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [BuilderConfig("questions", VERSION), BuilderConfig("dropped", VERSION)]
    DEFAULT_CONFIG_NAME = "questions"
    source: ClassVar[str]
    columns: ClassVar[Features] = QUESTIONS
    task: ClassVar[str] = "math"
    hub: ClassVar[tuple[str, ...]] = ()  # Hub id, then the configs to read, where it has several
    home: ClassVar[Path | None] = None  # where the files are when no data_dir is given
    defaults: ClassVar[Mapping[str, Any]] = {}  # option -> default

    def __init__(
        self,
        data_dir: str | Path | None = None,
        config_name: str | None = None,
        cache_dir: str | None = None,
        *,
        beside: Any = None,
        **options: Any,
    ) -> None:
        for name in options:
            if name not in self.defaults:
                known = ", ".join(self.defaults) or "(none)"
                raise InputError(f"source {self.source}: unknown option {name!r}; choose from: {known}")
        self.options = {**self.defaults, **options}
        self.beside = beside
        if beside is not None:
            self.folder, self.found, self.key = beside.folder, beside.found, beside.key
        else:
            self.folder = as_path(data_dir) if data_dir is not None else self.home
            self.found, content = self.look()
            code = code_digest(type(self)), canonical(type(self))  # ours, and a source of somebody else's
            self.key = digest([code, content, self.options])
        super().__init__(config_name=config_name, cache_dir=cache_dir, dataset_name=self.source, hash=self.key)

    @abstractmethod
    def look(self) -> tuple[Mapping[str, Sequence[Any]], Any]:
        """The files of each split, and JSON that changes when the rows in them do."""

    def row(self, row_id: str, **columns: Any) -> dict[str, Any]:
        return {"id": row_id, "task": self.task, "dataset": self.source, **columns}

    def dropped_row(self, row_id: str, drop: Drop) -> dict[str, Any]:
        return self.row(row_id, stage="source", reason=drop.reason, detail=drop.detail)

    def _info(self) -> DatasetInfo:
        return DatasetInfo(features=self.columns if self.config.name == "questions" else DROPPED)

    def _split_generators(self, dl_manager: Any) -> list[SplitGenerator]:  # noqa: ARG002  # the files are at hand
        return [SplitGenerator(split, {"split": split}) for split in self.found]


class Source(TableSource, GeneratorBasedBuilder):  # type: ignore[misc]
    """A builder of the questions table of one data set; arguments as of `TableSource`."""

    files: ClassVar[Mapping[str, str | tuple[str, ...]]]  # split -> upstream's file, or patterns; see `fields.find`
    repeats: ClassVar[bool] = False  # upstream holds copies: a second row of an id is dropped, not refused

    def look(self) -> tuple[Mapping[str, Sequence[Path]], Any]:
        found = find(self.files, self.folder) if self.folder is not None else {}
        content = {split: [(self._name(str(p)), file_digest(p)) for p in ps] for split, ps in found.items()}
        return found, content or self._hub_digest()

    def read(self, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield (where the row stands, row) of one file."""
        return read_json(path)

    @abstractmethod
    def rows(self, raw: Mapping[str, Any], name: str, where: str) -> Iterator[Row]:
        """Yield every row that one row of upstream holds: a question, or its id and why it cannot be used.

        Args:
            raw: the row as it is upstream, with keys that are found in any case; from the Hub, also "hub_config".
            name: an id made of data set, split and row number, for rows that have none.
            where: file and line, for messages.
        """

    def _name(self, place: str) -> str:
        """A path, or where a row stands, without what only this machine knows."""
        return place.removeprefix(f"{self.folder}{os.sep}")

    def _hub_digest(self) -> list[tuple[str, str, str]]:
        tables = self._hub_tables.items()
        return [(config, split, table._fingerprint) for config, splits in tables for split, table in splits.items()]

    @cached_property
    def _hub_tables(self) -> Mapping[str, Mapping[str, Dataset]]:
        """Tables by config and split."""
        files = ", ".join(pattern for wanted in self.files.values() for pattern in patterns_of(wanted))
        if not self.hub:
            raise InputError(f"source {self.source}: pass data_dir= with {files}")
        try:
            return {config: load_dataset(self.hub[0], config or None) for config in self.hub[1:] or ("",)}
        except (ConnectionError, DatasetNotFoundError) as error:
            raise InputError(f"source {self.source}: {error}; to read files, pass data_dir= with {files}") from error

    def _split_generators(self, dl_manager: Any) -> list[SplitGenerator]:  # noqa: ARG002  # the files are at hand
        self.kept_in: dict[str | int, str] = {}  # of all splits, which are read in turn: id up to "#", or text -> split
        splits = list(self.found) or [split for tables in self._hub_tables.values() for split in tables]
        return [SplitGenerator(split, {"split": split}) for split in dict.fromkeys(splits)]

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        n = 0
        for n, row in enumerate(self._checked(split), start=1):
            if isinstance(row, Question) and self.config.name == "questions":
                texts = {"question": row.question, "context": row.context, "solution": row.solution}
                yield n, self.row(row.id, **texts, answers=list(row.answers), split_origin=split)
            if isinstance(row, tuple) and self.config.name == "dropped":
                yield n, self.dropped_row(*row)
        if n == 0:
            raise InputError(f"{', '.join(map(str, self.found.get(split, [split])))} is empty: it holds no rows")

    def _checked(self, split: str) -> Iterator[Row]:
        """The rows of a split; none has the id of another one, and none is in a split that came before."""
        kept: dict[str, bool] = {}
        places: dict[str, str] = {}
        for n, (where, raw) in enumerate(self._raw_rows(split), start=1):
            for row in self._rows_of(raw, f"{self.source}-{split}-{n}", where):
                checked = self._usable(row, split)
                row_id = checked.id if isinstance(checked, Question) else checked[0]
                usable = isinstance(checked, Question)
                if row_id in places:
                    if not self.repeats:
                        also = f"the id {row_id!r} is also that of {places[row_id]}; ids must be unique"
                        raise InputError(f"{where}: {also}")
                    if kept[row_id] or not usable:
                        checked = row_id, Drop("repeated", encodable(f"as {self._name(places[row_id])}"))
                yield checked
                places.setdefault(row_id, where)
                kept[row_id] = kept.get(row_id, False) or usable

    def _rows_of(self, raw: Mapping[str, Any], name: str, where: str) -> Iterator[Row]:
        try:
            yield from self.rows(AnyCase(raw), name, where)
        except UnusableRow as fault:
            yield name, Drop(fault.reason, fault.detail)

    def _usable(self, row: Row, split: str) -> Row:
        """The row, or why it leaves: it lacks something, or its question is in a split that came before."""
        if isinstance(row, tuple):
            return encodable(row[0]), Drop(row[1].reason, encodable(row[1].detail))
        texts = (row.id, row.question, row.context, row.solution, *row.answers)
        if odd := [text for text in texts if not is_text(text)]:
            return encodable(row.id), Drop("not_unicode", encodable(odd[0])[:80])
        if not row.question or not row.answers:
            return row.id, Drop("no_answer" if row.question else "no_question", row.question[:80])
        form = normal_form(row.question)
        same = (row.id.partition("#")[0], text_hash(f"{_form(row.context)}\n{form}" if form else f"\n{row.id}"))
        home = next((self.kept_in[key] for key in same if self.kept_in.get(key, split) != split), split)
        for key in same:  # also of a row that is dropped here, so that its question's other variants go with it
            self.kept_in.setdefault(key, home)
        return row if home == split else (row.id, Drop("duplicate_across_splits", home))

    def _raw_rows(self, split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for path in self.found.get(split, ()):
            yield from self.read(path)
        for config, tables in () if self.found else self._hub_tables.items():
            for n, raw in enumerate(tables.get(split, ()), start=1):
                yield f"{self.hub[0]} {config}, split {split}, row {n}", {**raw, "hub_config": config}


_form = functools.lru_cache(1000)(normal_form)  # contexts repeat


def tables_of(
    source: type[TableSource], data_dir: str | Path | None = None, cache_dir: str | None = None, **options: Any
) -> Tables:
    """Build, or read from the cache, all splits of a source."""
    made: dict[str, dict[str, Dataset]] = {}
    builder: TableSource | None = None
    for config in ("questions", "dropped"):
        builder = source(data_dir, config, cache_dir, beside=builder, **options)
        try:
            builder.download_and_prepare()
        except DatasetGenerationError as error:
            if isinstance(error.__cause__, ToolrlefError):
                raise error.__cause__ from None
            raise
        made[config] = {str(split): _split(builder, str(split)) for split in builder.info.splits}
    read_from = "files" if data_dir or source.home or not source.hub else source.hub[0]
    return Tables(made["questions"], made["dropped"], read_from)


def _split(builder: TableSource, split: str) -> Dataset:
    if builder.info.splits[split].num_examples:
        return cast("Dataset", builder.as_dataset(split))
    empty = Dataset.from_dict({name: [] for name in builder.info.features}, features=builder.info.features, split=split)
    empty._fingerprint = builder._get_dataset_fingerprint(split)
    return empty


def main(name: str, arguments: list[str] | None = None) -> None:
    """Write a source's tables as files: one a split, and `dropped`."""
    source = SOURCES[name]  # not the class in `__main__`, which has another name and so another cache key
    parser = argparse.ArgumentParser(description=f"Write {name} as a table.")
    parser.add_argument("--data-dir", help="folder with upstream's files; without it, the Hub's Parquet")
    parser.add_argument("--out", required=True, type=Path, help="folder to write to")
    parser.add_argument("--format", choices=["jsonl", "parquet"], default="jsonl")
    for option, default in source.defaults.items():
        on_off = argparse.BooleanOptionalAction if default else "store_true"  # --no-NAME only for what is on
        kind: dict[str, Any] = {"action": on_off} if isinstance(default, bool) else {"type": type(default)}
        parser.add_argument(f"--{option}", default=default, help="see the source's docstring", **kind)
    given = vars(parser.parse_args(arguments))
    try:
        tables = tables_of(source, given["data_dir"], **{option: given[option] for option in source.defaults})
    except InputError as error:
        parser.exit(2, f"{error}\n")
    out: Path = given["out"]
    out.mkdir(parents=True, exist_ok=True)
    dropped = datasets.concatenate_datasets(list(tables.dropped.values()))
    for split, table in {**tables.questions, "dropped": dropped}.items():
        path = out / f"{split}.{given['format']}"
        if given["format"] == "parquet":
            table.to_parquet(str(path))
        else:  # Dataset.to_json escapes and rounds
            with path.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table)
        sys.stdout.write(f"{path}: {len(table)} rows\n")
