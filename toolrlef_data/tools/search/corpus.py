"""Passage corpora: reading tables and files in batches, and digests of their content.

A corpus has two text columns, `title` and `text`. Accepted sources:

- a `datasets.Dataset`;
- a .jsonl or .parquet file, or a folder of these files, read in the order of their names;
- a folder written by `Dataset.save_to_disk`.

A null title or text counts as empty. The digest depends only on the rows and their order.

Not covered: compressed files, other column names, names of datasets on the Hub (pass the result of `load_dataset`),
splitting articles into passages.
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

from toolrlef_data.checks import as_path, check_table
from toolrlef_data.records import InputError, MissingColumns, clean_text
from toolrlef_data.tables.stage_cache import as_arrow

__all__ = ["COLUMNS", "Content", "Passages", "digest_content", "first_words", "open_corpus"]

COLUMNS = ("title", "text")
SCHEMA = pa.schema([(name, pa.large_string()) for name in COLUMNS])
BATCH_ROWS = 1000
MAX_WORD_LENGTH = 20  # characters; the length limit of a passage is this times its maximum number of words

Passages = Callable[[], Iterator[Any]]  # each call iterates over batches: Arrow tables of SCHEMA without nulls


class Content(NamedTuple):
    """The content of a corpus: a digest of its titles and texts in order, and the number of rows."""

    digest: str
    rows: int


def open_corpus(corpus: Dataset | str | Path) -> Passages:
    """Open a corpus; its batches are read lazily.

    Args:
        corpus: a `datasets.Dataset` with the columns title and text, a path (see the module), or "sample" for the
            passages included in this package.

    Returns:
        A function that iterates over the batches of the corpus.

    Raises:
        InputError: the path does not exist, the content is invalid, or the type is not supported. Also raised during
            iteration.
        MissingColumns: a column is missing.

    >>> table = Dataset.from_dict({"title": ["Fig", None], "text": ["A fruit.", "Untitled."]})
    >>> [batch.to_pydict() for batch in open_corpus(table)()]
    [{'title': ['Fig', ''], 'text': ['A fruit.', 'Untitled.']}]
    """
    if isinstance(corpus, (str, Path)):
        return _open_path(_resolve_path(corpus))
    if not isinstance(corpus, Dataset):
        raise InputError(
            "a corpus must be a path or a datasets.Dataset with the columns title and text (one split, not streamed), "
            f"found {type(corpus).__name__}"
        )
    corpus = check_table(corpus)
    _require_columns(corpus.column_names, "the corpus")
    return partial(_read_dataset, corpus)


def digest_content(passages: Passages) -> Content:
    """Return the digest and the number of rows of a corpus, in one pass and constant memory.

    Raises:
        InputError: all texts are empty.
    """
    # Lengths and bytes of each column are hashed separately, so that the digest does not depend on the batches.
    hashes = [hashlib.sha256() for _ in range(2 * len(COLUMNS))]
    rows, text_bytes = 0, 0
    for batch in passages():
        rows += len(batch)
        for name, lengths, content in zip(COLUMNS, hashes[::2], hashes[1::2], strict=True):
            for array in batch.column(name).chunks:
                _, offsets_buffer, data = array.buffers()
                offsets = np.frombuffer(offsets_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
                lengths.update(np.diff(offsets).tobytes())
                if data is not None:
                    content.update(memoryview(data)[offsets[0] : offsets[-1]])
                text_bytes += int(offsets[-1] - offsets[0]) if name == "text" else 0
    if not text_bytes:
        raise InputError(f"the corpus has no text: all of its {rows} rows are empty" if rows else "the corpus is empty")
    return Content(hashlib.sha256(b"".join(part.digest() for part in hashes)).hexdigest(), rows)


def first_words(text: str, words: int) -> str:
    """Truncate a text to its first `words` words, and to `MAX_WORD_LENGTH` characters per word.

    The character limit truncates texts without spaces, such as Chinese. White space inside the result is unchanged.

    >>> first_words("one  two, three", 2), first_words("one", 2)
    ('one  two,', 'one')
    """
    text = text[: words * MAX_WORD_LENGTH].strip()
    parts = text.split(None, words)
    return text[: len(text) - len(parts[words])].rstrip() if len(parts) > words else text


def _resolve_path(corpus: str | Path) -> Path:
    if corpus == "sample":
        return Path(str(resources.files("toolrlef_data.samples") / "passages.jsonl"))
    path = as_path("corpus", corpus)
    if not path.exists():
        raise InputError(
            f"no file or folder {str(corpus)!r}; for a corpus from the Hub, pass load_dataset(..., split='train')"
        )
    return path


def _open_path(path: Path) -> Passages:
    if path.is_dir() and (path / "state.json").is_file():
        saved = load_from_disk(str(path))
        if not isinstance(saved, Dataset):
            raise InputError(f"{path} contains the splits {', '.join(sorted(saved))}; pass the folder of one split")
        return open_corpus(saved)
    paths = sorted(path.glob("*")) if path.is_dir() else [path]
    files = [file for file in paths if file.suffix in (".jsonl", ".parquet") and file.is_file()]
    if not files:
        raise InputError(f"{path}: expected a .jsonl or .parquet file, a folder of these, or a folder of save_to_disk")
    return partial(_read_files, files)


def _read_dataset(data: Dataset) -> Iterator[Any]:
    for batch in as_arrow(data.select_columns(list(COLUMNS))).iter(BATCH_ROWS):
        yield _normalise(batch, "the corpus")


def _read_files(files: list[Path]) -> Iterator[Any]:
    for file in files:
        yield from _read_jsonl(file) if file.suffix == ".jsonl" else _read_parquet(file)


def _read_parquet(file: Path) -> Iterator[Any]:
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            _require_columns(table.schema_arrow.names, str(file))
            for batch in table.iter_batches(BATCH_ROWS, columns=list(COLUMNS)):
                yield _normalise(pa.Table.from_batches([batch]), str(file))
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{file} cannot be read as Parquet: {error}") from error


def _read_jsonl(file: Path) -> Iterator[Any]:
    rows: list[tuple[str, str]] = []
    with open(file, encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                rows.append(_parse_line(line, f"{file}, line {number}"))
            if len(rows) == BATCH_ROWS:
                yield _table(rows)
                rows = []
    if rows:
        yield _table(rows)


def _parse_line(line: str, where: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: invalid JSON: {error}") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected an object with title and text, found {type(row).__name__}")
    _require_columns(list(row), where)
    title, text = ("" if row[name] is None else row[name] for name in COLUMNS)
    if not (isinstance(title, str) and isinstance(text, str)):
        raise InputError(
            f"{where}: title and text must be text, found {type(title).__name__} and {type(text).__name__}"
        )
    return title, text


def _table(rows: list[tuple[str, str]]) -> Any:
    return pa.table([list(map(clean_text, column)) for column in zip(*rows, strict=True)], schema=SCHEMA)


def _normalise(batch: Any, where: str) -> Any:
    """Return a batch with the types of SCHEMA and without nulls."""
    columns = []
    for name in COLUMNS:
        column = batch.column(name)
        column_type = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if str(column_type) not in ("string", "large_string", "string_view", "null"):
            raise InputError(f"{where}: expected text in the column {name!r}, found {column_type}")
        columns.append(column.cast(pa.large_string()).fill_null(""))
    return pa.table(columns, schema=SCHEMA)


def _require_columns(names: list[str], where: str) -> None:
    if missing := [name for name in COLUMNS if name not in names]:
        raise MissingColumns(
            f"{where}: missing {', '.join(missing)}; found {', '.join(map(str, names[:20])) or 'none'}. A corpus needs "
            "the columns title and text; use rename_column"
        )
