"""Corpora of passages: read in pieces from tables and files, and named by their content.

A corpus has two columns of text, `title` and `text`. It is a `datasets.Dataset`, or a place on the disk: a file
(*.jsonl, *.parquet), a folder of such files in the order of their names, or a folder that `Dataset.save_to_disk` wrote.
A missing title or text (null) is an empty one. Equal rows in equal order have one digest, wherever they come from.

Not covered: compressed files, other names of the columns, names of data sets on the Hub (pass what `load_dataset`
returns), splitting articles into passages.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Dataset, load_from_disk

from toolrlef_data.records import InputError, MissingColumns, clean_text
from toolrlef_data.tables.stage_cache import as_arrow

__all__ = ["COLUMNS", "Content", "Passages", "content_of", "cut", "open_corpus"]

COLUMNS = ("title", "text")
SCHEMA = pa.schema([(name, pa.large_string()) for name in COLUMNS])
ROWS = 1000  # in a piece
WORD_LENGTH = 20  # characters; what a word takes at most, on average, before a passage is cut by its length

Passages = Callable[[], Iterator[Any]]  # each call gives the pieces again: Arrow tables of SCHEMA without nulls


class Content(NamedTuple):
    """What a corpus holds: a digest of its titles and texts in order, and the number of rows."""

    digest: str
    rows: int


def open_corpus(corpus: Dataset | str | Path) -> Passages:
    """The pieces of a corpus, read when they are asked for.

    Args:
        corpus: a table with the columns title and text; a file or folder (see the module); or "sample", the passages
            that come with this package.

    Raises:
        InputError: there is no such file, it holds no such rows, or the object is no table; also while reading.
        MissingColumns: a column is missing.

    >>> table = Dataset.from_dict({"title": ["Fig", None], "text": ["A fruit.", "Untitled."]})
    >>> [piece.to_pydict() for piece in open_corpus(table)()]
    [{'title': ['Fig', ''], 'text': ['A fruit.', 'Untitled.']}]
    """
    if isinstance(corpus, (str, Path)):
        return _in_folder(_path_of(corpus))
    if not isinstance(corpus, Dataset):
        raise InputError(
            f"a corpus is a datasets.Dataset with the columns title and text (one split, not streamed), or a path; "
            f"found {type(corpus).__name__}"
        )
    _require(corpus.column_names, "the corpus")
    return partial(_in_dataset, corpus)


def content_of(passages: Passages) -> Content:
    """The digest and the number of rows of a corpus, in one pass and constant memory.

    Raises:
        InputError: no passage holds any text.
    """
    hashes = [hashlib.sha256() for _ in range(2 * len(COLUMNS))]  # of lengths and of bytes, so that pieces do not count
    rows, held = 0, 0
    for piece in passages():
        rows += len(piece)
        for name, lengths, content in zip(COLUMNS, hashes[::2], hashes[1::2], strict=True):
            for array in piece.column(name).chunks:
                _, offsets_buffer, data = array.buffers()
                offsets = np.frombuffer(offsets_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
                lengths.update(np.diff(offsets).tobytes())
                if data is not None:
                    content.update(memoryview(data)[offsets[0] : offsets[-1]])
                held += int(offsets[-1] - offsets[0]) if name == "text" else 0
    if not held:
        raise InputError(f"the corpus holds no text: {rows} rows, all of them empty" if rows else "the corpus is empty")
    return Content(hashlib.sha256(b"".join(each.digest() for each in hashes)).hexdigest(), rows)


def cut(text: str, words: int) -> str:
    """The first words of a text, apart by white space, which stays as it is.

    Also at most `WORD_LENGTH` characters a word: a text without spaces (Chinese, or hostile) ends somewhere too.

    >>> cut("one  two, three", 2), cut("one", 2)
    ('one  two,', 'one')
    """
    text = text[: words * WORD_LENGTH].strip()
    parts = text.split(None, words)
    return text[: len(text) - len(parts[words])].rstrip() if len(parts) > words else text


def _path_of(corpus: str | Path) -> Path:
    if corpus == "sample":
        return Path(str(resources.files("toolrlef_data.samples") / "passages.jsonl"))
    path = Path(corpus).expanduser()
    if not path.exists():
        raise InputError(
            f"no file or folder {str(corpus)!r}; a corpus from the Hub is passed as load_dataset(..., split='train')"
        )
    return path


def _in_folder(path: Path) -> Passages:
    if path.is_dir() and (path / "state.json").is_file():
        saved = load_from_disk(str(path))
        if not isinstance(saved, Dataset):
            raise InputError(f"{path} holds the splits {', '.join(sorted(saved))}; name the folder of one of them")
        return open_corpus(saved)
    found = sorted(path.glob("*")) if path.is_dir() else [path]
    files = [file for file in found if file.suffix in (".jsonl", ".parquet") and file.is_file()]
    if not files:
        raise InputError(f"{path}: expected .jsonl or .parquet, or a folder with such files or of Dataset.save_to_disk")
    return partial(_in_files, files)


def _in_dataset(data: Dataset) -> Iterator[Any]:
    for piece in as_arrow(data.select_columns(list(COLUMNS))).iter(ROWS):
        yield _clean(piece, "the corpus")


def _in_files(files: list[Path]) -> Iterator[Any]:
    for file in files:
        yield from _in_lines(file) if file.suffix == ".jsonl" else _in_parquet(file)


def _in_parquet(file: Path) -> Iterator[Any]:
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            _require(table.schema_arrow.names, str(file))
            for batch in table.iter_batches(ROWS, columns=list(COLUMNS)):
                yield _clean(pa.Table.from_batches([batch]), str(file))
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{file} cannot be read as Parquet: {error}") from error


def _in_lines(file: Path) -> Iterator[Any]:
    rows: list[tuple[str, str]] = []
    with open(file, encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                rows.append(_row(line, f"{file}, line {number}"))
            if len(rows) == ROWS:
                yield _table(rows)
                rows = []
    if rows:
        yield _table(rows)


def _row(line: str, where: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: no JSON: {error}") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected an object with title and text, found {type(row).__name__}")
    _require(list(row), where)
    title, text = ("" if row[name] is None else row[name] for name in COLUMNS)
    if not (isinstance(title, str) and isinstance(text, str)):
        raise InputError(f"{where}: title and text are text, found {type(title).__name__} and {type(text).__name__}")
    return title, text


def _table(rows: list[tuple[str, str]]) -> Any:
    return pa.table([list(map(clean_text, column)) for column in zip(*rows, strict=True)], schema=SCHEMA)


def _clean(piece: Any, where: str) -> Any:
    """A piece with the types of SCHEMA and without nulls."""
    columns = []
    for name in COLUMNS:
        column = piece.column(name)
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if str(kind) not in ("string", "large_string", "string_view", "null"):
            raise InputError(f"{where}: the column {name!r} holds {kind}, expected text")
        columns.append(column.cast(pa.large_string()).fill_null(""))
    return pa.table(columns, schema=SCHEMA)


def _require(names: list[str], where: str) -> None:
    if missing := [name for name in COLUMNS if name not in names]:
        raise MissingColumns(
            f"{where}: missing {', '.join(missing)}; found {', '.join(map(str, names[:20])) or 'none'}; "
            "a corpus has the columns title and text (rename_column)"
        )
