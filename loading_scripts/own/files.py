"""The rows of the user's files: CSV, TSV, JSON, JSON Lines and Parquet; a folder of them; a data set on the Hub.

CSV values stay texts: "007", "NA" and "None" are read as written, and only an empty value is missing. The separator is
the one of the first line "sep=;" that Excel writes, else the most frequent one in the header. JSON is read by Python's
parser; the one of `datasets` changes numbers. Files of a folder whose names begin with "train", "test", "validation",
"valid", "val" or "dev" form these splits; all other files belong to "train". A warning names files of other formats and
folders inside it, which are not read.
"""

from __future__ import annotations

import csv
import functools
import itertools
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import DownloadManager, load_dataset, load_dataset_builder
from datasets.exceptions import DatasetNotFoundError

from toolrlef_data.checks import as_path
from toolrlef_data.loading_scripts.own.tables import LocatedRow, dataset_rows
from toolrlef_data.loading_scripts.text_files import read_json, read_lines
from toolrlef_data.records import InputError

__all__ = ["HUB", "OwnRows", "is_own_source", "read_own"]

log = logging.getLogger("toolrlef_data")
HUB = "hub:"
TEXT_FORMATS = frozenset({".csv", ".tsv", ".json", ".jsonl", ".ndjson"})
MAX_FIELD = 1 << 30  # characters of a CSV value; Python's default of 131,072 is too small for long contexts
_split_of = re.compile(r"(train|test|validation|valid|val|dev)(?![a-z])", re.IGNORECASE).match
_named_delimiter = re.compile(r"sep=([,;\t])").fullmatch
_quoted = re.compile(r'"[^"]*"')
SPLITS = {"valid": "validation", "val": "validation", "dev": "validation"}


class OwnRows(NamedTuple):
    """The rows of one split, the name of the data set, and what was read, without local paths."""

    rows: Iterator[LocatedRow]
    split: str
    dataset: str
    read_from: str


def is_own_source(name: str) -> bool:
    """Return whether a source is a file, a folder or a data set on the Hub instead of a name in `SOURCES`.

    >>> [is_own_source(name) for name in ("hub:org/name", "data/my.csv", "folder/", "gsm8k")]
    [True, True, True, False]
    """
    return name.startswith(HUB) or "." in name or "/" in name or os.sep in name or Path(name).is_dir()


def read_own(name: str, split: str | None, config: str | None = None, revision: str | None = None) -> OwnRows:
    """Return the rows of a file, of a folder, or of a data set on the Hub.

    Args:
        name: a path, or "hub:" and the id of a data set.
        split: the split. Default: the only one.
        config, revision: of a data set on the Hub.

    Raises:
        InputError: a missing file, an unknown format or split, or a file that cannot be read; the message names it.
    """
    if name.startswith(HUB):
        return _read_hub(name.removeprefix(HUB), split, config, revision)
    if config is not None or revision is not None:
        raise InputError(f"{name}: config= and revision= belong to data sets on the Hub, named hub:org/name")
    path = as_path("name", name)
    if path.is_dir():
        files = _files_by_split(path)
        split = _choose_split(name, split, list(files))
        return OwnRows(_rows_of(files[split], path), split, path.resolve().name, "files")
    if not path.is_file():
        raise InputError(f"{name}: no such file or folder")
    if path.suffix.lower() not in READERS:
        raise InputError(f"{name}: unknown format {path.suffix!r}; expected one of {', '.join(READERS)}")
    return OwnRows(_rows_of([path], path.parent), split or "train", path.stem, "files")


def _files_by_split(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    ignored: list[str] = []
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    for name in names:
        if (folder / name).is_file() and Path(name).suffix.lower() in READERS:
            match = _split_of(name)
            split = match[1].lower() if match else "train"
            files.setdefault(SPLITS.get(split, split), []).append(folder / name)
        elif Path(name).suffix.lower() != ".md":
            ignored.append(name)
    if not files:
        found = ", ".join(names[:8]) or "nothing"
        raise InputError(f"{folder} contains no file of the formats {', '.join(READERS)}; found: {found}")
    if ignored:
        log.warning("%s: not read: %s; formats that are read: %s", folder, ", ".join(ignored[:8]), ", ".join(READERS))
    return files


def _choose_split(name: str, split: str | None, splits: list[str]) -> str:
    if split is None and len(splits) == 1:
        return splits[0]
    if split not in splits:
        problem = "split= is missing" if split is None else f"unknown split {split!r}"
        raise InputError(f"{name}: {problem}; choose from: {', '.join(splits)}")
    return split


def _rows_of(paths: list[Path], folder: Path) -> Iterator[LocatedRow]:
    for path in paths:
        is_empty = True
        for location, row in READERS[path.suffix.lower()](path):
            is_empty = False
            yield location.removeprefix(f"{folder}{os.sep}"), row
        if is_empty:
            raise InputError(f"{path} is empty: it contains no rows")


# Formats --------------------------------------------------------------------------------------------------------------


def _read_csv(path: Path, delimiter: str = "") -> Iterator[LocatedRow]:
    remaining = read_lines(path)
    first_lines: list[str] = []  # up to the first one that is not blank
    while not first_lines or not first_lines[-1].strip():
        first_lines.append(next(remaining))
    first_line = first_lines[-1].lstrip()
    if named := _named_delimiter(first_line):
        first_lines[-1] = ""  # the empty line keeps the numbers of the others
    outside_quotes = _quoted.sub("", first_line)  # a semicolon separates where the comma is the decimal sign
    delimiter = delimiter or (named[1] if named else max(",;\t", key=outside_quotes.count))
    limit = csv.field_size_limit(MAX_FIELD)
    texts = (f"{line}\n" for line in itertools.chain(first_lines, remaining))
    lines = csv.reader(texts, delimiter=delimiter, strict=True)
    try:
        header: list[str] = []
        for values in lines:
            if not any(value.strip() for value in values):
                continue
            if not header:
                header = [value.strip() for value in values]
                _check_header(header, path)
                continue
            if len(values) != len(header):
                problem = f"{len(values)} values, but the header has {len(header)}"
                raise InputError(f"{path}, line {lines.line_num}: {problem}; is a quote or a comma missing?")
            row = {name: value if value.strip() else None for name, value in zip(header, values, strict=True)}
            yield f"{path}, line {lines.line_num}", row
    except csv.Error as error:
        raise InputError(f"{path}, line {lines.line_num}: not CSV: {error}") from None
    finally:
        csv.field_size_limit(limit)


def _check_header(header: list[str], path: Path) -> None:
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise InputError(f"{path}: the header names {', '.join(map(repr, repeated))} more than once")


def _read_parquet(path: Path) -> Iterator[LocatedRow]:
    try:
        with pq.ParquetFile(path) as file:
            n = 0
            for batch in file.iter_batches(1000):
                for row in batch.to_pylist():
                    n += 1
                    yield f"{path}, row {n}", row
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a Parquet file that can be read: {error}") from None


# Suffix -> the function that yields the (location, row) pairs of a file.
READERS: dict[str, Callable[[Path], Iterator[LocatedRow]]] = {
    ".csv": _read_csv,
    ".tsv": functools.partial(_read_csv, delimiter="\t"),
    ".json": read_json,
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".parquet": _read_parquet,
}


# The Hub --------------------------------------------------------------------------------------------------------------


def _read_hub(hub_id: str, split: str | None, config: str | None, revision: str | None) -> OwnRows:
    """Return the rows of a split; text files are read as local ones, since `datasets` reads "007" of a CSV as 7."""
    name = f"{HUB}{hub_id}"
    try:
        builder = load_dataset_builder(hub_id, config, revision=revision)
        files = {str(part): list(urls) for part, urls in (builder.config.data_files or {}).items()}
        is_text = bool(files) and all(_suffix(url) in TEXT_FORMATS for urls in files.values() for url in urls)
        tables: Any = None if is_text else load_dataset(hub_id, config, revision=revision)
        split = _choose_split(name, split, list(files if is_text else tables))
        paths = DownloadManager().download_and_extract(files[split]) if is_text else []
    except (ConnectionError, DatasetNotFoundError, FileNotFoundError) as error:
        raise InputError(f"{name}: {error}") from error
    except ValueError as error:  # an unknown config; also our own errors
        raise error if isinstance(error, InputError) else InputError(f"{name}: {error}") from error
    located = _text_rows(files[split], paths, name) if is_text else _hub_rows(tables[split], f"{name}, {split}")
    read_from = "@".join(part for part in (hub_id, revision) if part)
    return OwnRows(located, split, hub_id.rpartition("/")[2], read_from)


def _suffix(url: str) -> str:
    """Return the suffix of a file's name, without that of its compression."""
    return Path(re.sub(r"\.(gz|bz2|xz|zst)$", "", url)).suffix.lower()


def _text_rows(urls: list[str], paths: list[str], name: str) -> Iterator[LocatedRow]:
    for url, path in zip(urls, paths, strict=True):
        file = re.sub(r"^hf://datasets/[^@]*@[^/]*/", "", url)
        for location, row in READERS[_suffix(url)](Path(path)):
            yield f"{name}, {file}{location.removeprefix(path)}", row


def _hub_rows(table: Any, name: str) -> Iterator[LocatedRow]:
    for n, row in enumerate(dataset_rows(table), start=1):
        yield f"{name}, row {n}", row
