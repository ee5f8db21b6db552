"""What the sources share: the builder, reading of JSON files, checks, and the command line.

A source says where its rows come from and how one row is read. The builder makes two tables of the same splits from
that: config "questions" and config "dropped", the rows that the source cannot use. Its cache directory carries a digest
of the code and of the data files' content, because `datasets` itself would not notice that either has changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import datasets
from datasets import BuilderConfig, Dataset, DatasetInfo, GeneratorBasedBuilder, SplitGenerator, load_dataset
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

from toolrlef_data.columns import DROPPED, QUESTIONS
from toolrlef_data.fingerprints import code_digest, digest
from toolrlef_data.loading_scripts import SOURCES
from toolrlef_data.records import Drop, InputError, ToolrlefError
from toolrlef_data.tasks.numbers import number

__all__ = ["Question", "Source", "Tables", "field", "main", "plain_number", "read_json", "read_text", "tables_of"]


@dataclass(frozen=True, slots=True)
class Question:
    """One usable row; `answer` is the gold answer as a plain number."""

    id: str
    question: str
    answer: str
    solution: str


@dataclass(frozen=True, slots=True)
class Tables:
    """All splits of a source, and where they were read from: "files", or a Hub id."""

    questions: Mapping[str, Dataset]
    dropped: Mapping[str, Dataset]
    read_from: str


class Source(GeneratorBasedBuilder):  # type: ignore[misc]  # datasets has no types
    """A builder of the questions table of one data set.

    Args:
        data_dir: a folder with upstream's own files; without it, the Hub's Parquet.
        config_name: "questions" or "dropped".
    """

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [BuilderConfig("questions", VERSION), BuilderConfig("dropped", VERSION)]
    DEFAULT_CONFIG_NAME = "questions"

    source: ClassVar[str]
    task: ClassVar[str] = "math"
    files: ClassVar[Mapping[str, str]]  # split -> upstream's file
    hub: ClassVar[tuple[str, str | None] | None] = None  # Hub id and config
    home: ClassVar[Path | None] = None  # where the files are when no data_dir is given

    def __init__(self, data_dir: str | Path | None = None, config_name: str | None = None, **options: Any) -> None:
        self.found = _find(type(self), data_dir)
        content = {split: _digest(path) for split, path in self.found.items()} or self._hub_digest()
        super().__init__(
            config_name=config_name,
            dataset_name=self.source,
            hash=digest(code_digest(type(self)), content),
            **options,
        )

    def read(self, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield (where the row stands, row) of one file."""
        return read_json(path)

    def row(self, raw: Mapping[str, Any], name: str, where: str) -> Question | tuple[str, Drop]:
        """Read one row: a question, or its id and why it cannot be used.

        Args:
            raw: the row as it is upstream, keys in lower case.
            name: an id made of data set, split and row number, for rows that have none.
            where: file and line, for messages.
        """
        raise NotImplementedError

    def _hub_digest(self) -> dict[str, str]:
        return {split: table._fingerprint for split, table in self._from_hub().items()}

    def _from_hub(self) -> Mapping[str, Dataset]:
        if self.hub is None:
            raise InputError(f"source {self.source}: pass data_dir= with {', '.join(self.files.values())}")
        try:
            tables: Mapping[str, Dataset] = load_dataset(*self.hub)
        except (ConnectionError, DatasetNotFoundError) as error:
            files = ", ".join(self.files.values())
            raise InputError(f"source {self.source}: {error}; to read files, pass data_dir= with {files}") from error
        return tables

    def _info(self) -> DatasetInfo:
        return DatasetInfo(features=QUESTIONS if self.config.name == "questions" else DROPPED)

    def _split_generators(self, dl_manager: Any) -> list[SplitGenerator]:  # noqa: ARG002  # the files are at hand
        splits = list(self.found or self._from_hub())
        return [SplitGenerator(split, {"split": split}) for split in splits]

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        seen: dict[str, str] = {}
        for n, (where, raw) in enumerate(self._raw_rows(split), start=1):
            lower = {str(key).lower(): value for key, value in raw.items()}
            row = self.row(lower, f"{self.source}-{split}-{n}", where)
            row_id = row.id if isinstance(row, Question) else row[0]
            if row_id in seen:
                raise InputError(f"{where}: the id {row_id!r} is also that of {seen[row_id]}; ids must be unique")
            seen[row_id] = where
            common = {"id": row_id, "task": self.task, "dataset": self.source}
            if isinstance(row, Question) and self.config.name == "questions":
                texts = {"question": row.question, "context": "", "solution": row.solution, "split_origin": split}
                yield n, {**common, **texts, "answers": [row.answer]}
            if isinstance(row, tuple) and self.config.name == "dropped":
                yield n, {**common, "stage": "source", "reason": row[1].reason, "detail": row[1].detail}
        if not seen:
            raise InputError(f"{self.found.get(split, split)} is empty: it holds no rows")

    def _raw_rows(self, split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        if self.found:
            yield from self.read(self.found[split])
        else:
            for n, raw in enumerate(self._from_hub()[split], start=1):
                yield f"{self.hub}, split {split}, row {n}", raw


def tables_of(source: type[Source], data_dir: str | Path | None = None, cache_dir: str | None = None) -> Tables:
    """Build, or read from the cache, all splits of a source."""
    made: dict[str, dict[str, Dataset]] = {}
    for config in ("questions", "dropped"):
        builder = source(data_dir, config, cache_dir=cache_dir)
        try:
            builder.download_and_prepare()
        except DatasetGenerationError as error:
            if isinstance(error.__cause__, ToolrlefError):
                raise error.__cause__ from None
            raise
        made[config] = {str(split): _split(builder, str(split)) for split in builder.info.splits}
    read_from = "files" if data_dir or source.home or source.hub is None else source.hub[0]
    return Tables(made["questions"], made["dropped"], read_from)


def _split(builder: Source, split: str) -> Dataset:
    if builder.info.splits[split].num_examples:
        table: Dataset = builder.as_dataset(split)
        return table
    empty = Dataset.from_dict({name: [] for name in builder.info.features}, features=builder.info.features, split=split)
    empty._fingerprint = builder._get_dataset_fingerprint(split)
    return empty


def read_json(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (where, row) of JSON Lines, or of one JSON array of rows, whatever the file's name says."""
    text = read_text(path)
    if text.lstrip()[:1] == "[":
        rows: Any = _json(text, str(path))
        numbered: Iterator[tuple[str, Any]] = ((f"{path}, row {n}", row) for n, row in enumerate(rows, start=1))
    else:
        lines = ((f"{path}, line {n}", line) for n, line in enumerate(text.split("\n"), start=1) if line.strip())
        numbered = ((where, _json(line, where)) for where, line in lines)
    for where, row in numbered:
        if not isinstance(row, dict):
            raise InputError(f"{where}: expected an object with keys, found {type(row).__name__}")
        yield where, row


def field(raw: Mapping[str, Any], key: str, where: str) -> str:
    """The text of a key; a missing one names the file, the line, the key and what was found."""
    value = raw.get(key)
    if value is None or isinstance(value, (dict, list)):
        found = ", ".join(raw) or "(nothing)"
        fault = f"is missing; found: {found}" if value is None else "holds no text"
        raise InputError(f"{where}: the key {key!r} {fault}")
    return str(value).strip()


def plain_number(text: str) -> str | None:
    """A number without grouping and needless zeros ("2,125" is 2125, "51.0" is 51); None for any other text.

    >>> plain_number("2,125"), plain_number("51.0"), plain_number("-0.50"), plain_number("5/2"), plain_number("3,4")
    ('2125', '51', '-0.5', None, None)
    """
    if "," in text and number(text) is None:
        return None  # a list or a decimal comma, no grouping
    digits = text.strip().replace(",", "")
    whole, _, decimals = digits.removeprefix("-").partition(".")
    if not (digits.isascii() and (whole + decimals).isdecimal()):
        return None
    whole, decimals = whole.lstrip("0") or "0", decimals.rstrip("0")
    plain = f"{whole}.{decimals}" if decimals else whole
    return f"-{plain}" if digits.startswith("-") and plain != "0" else plain


def main(name: str, arguments: list[str] | None = None) -> None:
    """Write a source's tables as files: one a split, and `dropped`."""
    source = SOURCES[name]  # not the class in `__main__`, which has another name and so another cache key
    parser = argparse.ArgumentParser(description=f"Write {name} as the questions table.")
    parser.add_argument("--data-dir", help="folder with upstream's files; without it, the Hub's Parquet")
    parser.add_argument("--out", required=True, type=Path, help="folder to write to")
    parser.add_argument("--format", choices=["jsonl", "parquet"], default="jsonl")
    options = parser.parse_args(arguments)
    try:
        tables = tables_of(source, options.data_dir)
    except InputError as error:
        parser.exit(2, f"{error}\n")
    options.out.mkdir(parents=True, exist_ok=True)
    dropped = datasets.concatenate_datasets(list(tables.dropped.values()))
    for split, table in {**tables.questions, "dropped": dropped}.items():
        path = options.out / f"{split}.{options.format}"
        if options.format == "parquet":
            table.to_parquet(str(path))
        else:  # Dataset.to_json escapes and rounds
            path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table), encoding="utf-8")
        sys.stdout.write(f"{path}: {len(table)} rows\n")


def _find(source: type[Source], data_dir: str | Path | None) -> dict[str, Path]:
    folder = Path(data_dir) if data_dir is not None else source.home
    if folder is None:
        return {}
    if not folder.is_dir():
        raise InputError(f"data_dir is not a folder: {folder}")
    found = {split: folder / name for split, name in source.files.items() if (folder / name).is_file()}
    if not found:
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise InputError(f"{folder} holds none of {', '.join(source.files.values())}; found: {there}")
    return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_text(path: Path) -> str:
    """The text of a file; an empty one, or one that is not UTF-8, is an `InputError`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    if not text.strip():
        raise InputError(f"{path} is empty: it holds no rows")
    return text


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON: {error}; it begins {text[:40]!r}") from None
