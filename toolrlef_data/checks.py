"""Checks of a table before a stage reads it: its columns and their types, and that its values are those of its rows."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from datasets import Dataset, DatasetDict, Features

from toolrlef_data.records import InputError, MissingColumns

__all__ = [
    "as_path",
    "check_callable",
    "check_features",
    "check_names",
    "check_table",
    "check_type",
    "features_of",
    "is_url",
    "require_columns",
    "split_path",
]

D = TypeVar("D", bound="Dataset | DatasetDict")
_url = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/").match
STRING_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


def check_table(data: D) -> D:
    """Return a table without a format; raise an `InputError` for other objects, and for a table with a transform.

    A format such as "torch" changes only how values are shown. A transform computes values, which are not stored.
    """
    if isinstance(data, DatasetDict) and data:
        return DatasetDict({name: check_table(split) for name, split in data.items()})
    _require_table(data)
    if data.format["type"] == "custom":
        raise InputError(
            "the table has a transform (`with_transform`), which is not part of its rows: compute the values with "
            "`map`, or remove the transform with `with_format(None)`"
        )
    is_plain = data.format["type"] is None and data.format["columns"] == data.column_names
    return data if is_plain else data.with_format(None)


def _require_table(data: object) -> None:
    if not isinstance(data, Dataset):
        found = "a DatasetDict without splits" if isinstance(data, DatasetDict) else type(data).__name__
        raise InputError(f"expected a datasets.Dataset or DatasetDict, found {found}")


def check_features(data: D, expected: Features, name: str) -> D:
    """Return a table whose columns have the types of a schema; additional columns are allowed.

    Columns with the same values in another type are converted: large strings and lists, as pandas 3 and polars have
    them, and columns that contain only nulls.

    Raises:
        MissingColumns: the table lacks columns of the schema.
        InputError: a column has another type.
    """
    data = check_table(data)
    if isinstance(data, DatasetDict):
        return DatasetDict({split: check_features(table, expected, name) for split, table in data.items()})
    require_columns(data, list(expected), name)
    found = data.features
    for column, feature in expected.items():
        if not _is_convertible(*(types.arrow_schema.field(column).type for types in (found, expected))):
            raise InputError(
                f"{name} needs the column {column} as {feature}, found {found[column]}; convert it with "
                "`data.cast_column`"
            )
    if all(found[column] == feature for column, feature in expected.items()):
        return data
    return data.cast(
        Features({column: expected.get(column, feature) for column, feature in found.items()}),
        load_from_cache_file=False,
    )


def _is_convertible(found: pa.DataType, expected: pa.DataType) -> bool:
    """Return whether a type holds the same values as another one, or only nulls."""
    if pa.types.is_struct(found) and pa.types.is_struct(expected):
        pairs = zip(found, expected, strict=False)
        return found.num_fields == expected.num_fields and all(
            a.name == b.name and _is_convertible(a.type, b.type) for a, b in pairs
        )
    if pa.types.is_list(expected) and (pa.types.is_list(found) or pa.types.is_large_list(found)):
        return _is_convertible(found.value_type, expected.value_type)
    if pa.types.is_string(expected):
        return any(is_type(found) for is_type in (*STRING_TYPES, pa.types.is_null))
    return found == expected or pa.types.is_null(found)


def features_of(data: Dataset | DatasetDict) -> Features:
    """Return the features of a Dataset, or of the first split of a DatasetDict; raise an `InputError` for others."""
    first = next(iter(data.values())) if isinstance(data, DatasetDict) and data else data
    _require_table(first)
    return first.features


def require_columns(data: Dataset, columns: Sequence[str], name: str) -> None:
    """Raise `MissingColumns` if a table lacks columns; "gpt.text" requires the column `gpt`."""
    _require_table(data)
    names = dict.fromkeys(split_path(column, data.column_names)[0] for column in columns)
    missing = [column for column in names if column not in data.column_names]
    if missing:
        raise MissingColumns(
            f"{name} needs the columns {', '.join(missing)}; found: {', '.join(data.column_names) or '(none)'}"
        )


def check_names(argument: str, names: object) -> None:
    """Raise an `InputError` if an argument is not a list of column names.

    >>> check_names("reads", "question")
    Traceback (most recent call last):
    toolrlef_data.records.InputError: reads: expected a list of column names, found 'question'
    """
    if not isinstance(names, (list, tuple, dict, Features)) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{argument}: expected a list of column names, found {names!r:.80}")


def as_path(argument: str, path: object) -> Path:
    """Return the path that an argument contains; "~" is the home folder.

    `datasets` replaces `Path` in modules with builders; this module has that of the standard library.

    >>> as_path("folder", 5)
    Traceback (most recent call last):
    toolrlef_data.records.InputError: folder: expected a path, found 5
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise InputError(f"{argument}: expected a path, found {path!r:.80}")
    return Path(path).expanduser()


def is_url(path: object) -> bool:
    """Return whether a path is a URL, such as that of object storage; a `Path` has lost one of its two slashes.

    >>> is_url("s3://bucket/run"), is_url(Path("s3://bucket/run")), is_url("C:/run"), is_url("run/s3:/x")
    (True, True, False, False)
    """
    return _url(str(path)) is not None


def check_type(argument: str, value: object, expected: str, *types: type) -> None:
    """Raise an `InputError` if an argument has another type; a bool is no integer.

    >>> check_type("seed", "1", "an integer", int)
    Traceback (most recent call last):
    toolrlef_data.records.InputError: seed: expected an integer, found '1'
    """
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise InputError(f"{argument}: expected {expected}, found {value!r:.80}")


def check_callable(argument: str, function: object) -> None:
    """Raise an `InputError` if an argument is not a function."""
    if not callable(function):
        raise InputError(f"{argument}: expected a function, found {function!r:.80}")


def split_path(path: str, columns: Sequence[str]) -> tuple[str, str]:
    """Return ("gpt", "text") for the field "gpt.text" of the struct column "gpt", and (path, "") for a column.

    The name of a column may itself contain dots.
    """
    column, _, field = path.rpartition(".")
    return (column, field) if path not in columns and column in columns else (path, "")
