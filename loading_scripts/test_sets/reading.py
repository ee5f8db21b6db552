"""The questions of test sets, from tables, files and the sources of this package, in one table on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from toolrlef_data.checks import as_path, check_table
from toolrlef_data.loading_scripts import SOURCES, load_tables
from toolrlef_data.loading_scripts.own.files import is_own_source, read_own
from toolrlef_data.loading_scripts.own.tables import dataset_rows
from toolrlef_data.loading_scripts.text_files import read_lines
from toolrlef_data.records import InputError
from toolrlef_data.tables.overlap.removal import text_column
from toolrlef_data.tables.overlap.stage import TEST_QUESTIONS
from toolrlef_data.tables.row_files import table_from_rows

__all__ = ["read_test_sets"]

Located = tuple[str, str, Mapping[str, Any]]  # name of the test set, id or place of the row, the row


def read_test_sets(against: Any, data_dir: str | Path | None = None, column: str | None = None) -> Dataset:
    """Return the questions of test sets (`TEST_QUESTIONS`); rows without a text are left out.

    Args:
        against: a table, the path of a file, the name of a source, or a list of these; see `decontaminate`.
        data_dir: the folder with the files of the named sources, or with a folder of each source's name.
        column: the column with the text; see `decontaminate`.
    """
    items = list(against) if isinstance(against, (list, tuple)) else [against]
    rows = (row for n, item in enumerate(items, start=1) for row in _questions(item, n, data_dir, column))
    table = table_from_rows(rows, TEST_QUESTIONS, "test sets")
    if not len(table):
        raise InputError("against: the test sets contain no question")
    return table


def _questions(item: Any, n: int, data_dir: str | Path | None, column: str | None) -> Iterator[dict[str, str]]:
    columns: dict[str, str] = {}  # of each test set, since the splits of an item may differ
    for test_set, place, row in _rows(item, n, data_dir):
        found = columns.get(test_set) or columns.setdefault(test_set, text_column(list(row), column, test_set))
        text = row.get(found)
        if text is not None and not isinstance(text, str):
            raise InputError(f"{test_set}, {place}: expected a text in {found!r}, found {type(text).__name__}")
        if text and not text.isspace():
            yield {"test_set": test_set, "test_id": place, "text": text}


def _rows(item: Any, n: int, data_dir: str | Path | None) -> Iterator[Located]:
    if isinstance(item, Dataset):
        yield from _table_rows(item, f"table {n}")
    elif isinstance(item, DatasetDict):
        for split, table in item.items():
            yield from _table_rows(table, f"table {n}, {split}")
    elif not isinstance(item, (str, Path)):
        raise InputError(
            f"against: expected a table, the path of a file, the name of a source, or a list of these, found "
            f"{type(item).__name__}"
        )
    elif Path(item).suffix.lower() == ".txt":
        path = as_path("against", item)
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        for line, text in enumerate(read_lines(path), start=1):
            yield path.name, f"line {line}", {"text": text}
    elif str(item) not in SOURCES and is_own_source(str(item)):
        own = read_own(str(item), None)
        for location, row in own.rows:
            yield str(item) if own.read_from != "files" else Path(item).name, location, row
    else:
        folder = as_path("data_dir", data_dir) if data_dir is not None else None
        own_folder = folder / str(item) if folder is not None and (folder / str(item)).is_dir() else folder
        tables = load_tables(str(item), own_folder).questions
        for split, table in tables.items():
            if split != "train" or len(tables) == 1:
                yield from _table_rows(table, f"{item} {split}")


def _table_rows(table: Dataset, name: str) -> Iterator[Located]:
    for n, row in enumerate(dataset_rows(check_table(table)), start=1):
        yield name, str(row["id"]) if row.get("id") is not None else f"row {n}", row
