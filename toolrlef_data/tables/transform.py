"""Stages: `apply`, `keep`, `explode`, `join` and `stack`, the only callers of `datasets.map`.

A row function is a module-level function of one row and frozen settings; a batch function receives lists of values.
A stage maps the function over the batches of an Arrow table with explicit features, in a Dataset or in each split of a
DatasetDict. The cache key comes from `fingerprint`, and each stage writes a record (see `lineage`).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, cast

import datasets
import pyarrow as pa
from datasets import Dataset, DatasetDict, Features, concatenate_datasets

from toolrlef_data.columns import completed
from toolrlef_data.records import Drop, InputError, LedgerError, MissingColumns
from toolrlef_data.tables.batches import (
    DROP_COLUMNS,
    RowFunction,
    apply_to_batch,
    explode_batch,
    judge_batch,
    keep_batch,
    read_drops,
    split_path,
)
from toolrlef_data.tables.files import remove_stale_files, scratch_folder
from toolrlef_data.tables.fingerprint import canonical, code_digest, digest
from toolrlef_data.tables.identity import check_ids
from toolrlef_data.tables.lineage import write_dropped
from toolrlef_data.tables.stage_cache import (
    arrow_files,
    as_arrow,
    build_record,
    discard_record,
    load_stage,
    materialize,
    read_record,
    stages_dir,
    store_files,
    store_unfinished,
    with_fingerprint,
    write_record,
)

__all__ = [
    "Prepared",
    "apply",
    "check_features",
    "explode",
    "features_of",
    "function_name",
    "hide_progress_bars",
    "join",
    "keep",
    "require_columns",
    "stack",
]

log = logging.getLogger("toolrlef_data")
D = TypeVar("D", bound="Dataset | DatasetDict")
F = TypeVar("F", bound=Callable[..., Any])
MIN_ROWS_FOR_BAR = 20_000  # smaller tables have no progress bar
BATCH_BYTES = 4_000_000  # target size of the batches of small new rows
BATCH_ROWS = 2_000  # 5 % faster than 1,000 in the scoring of math responses; more rows are no faster


class Prepared(NamedTuple):
    """What `prepare` of `apply` returns.

    Args:
        salt: changes the cache key of the result; "" leaves it as it is.
        record: further entries of the stage's record.
        is_final: a salted result replaces the cached one for good; otherwise the next run computes it again.
    """

    salt: str = ""
    record: Mapping[str, Any] = MappingProxyType({})
    is_final: bool = False


def _renamed_argument(old: str, new: str) -> Callable[[F], F]:
    """Return a decorator that accepts the former name of a keyword argument, with a DeprecationWarning."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if old in kwargs and new not in kwargs:
                message = f"the argument {old!r} of {function.__name__} is deprecated: use {new!r}"
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return cast(F, wrapper)

    return decorate


@_renamed_argument("step", "function")
def apply(
    data: D,
    function: RowFunction,
    settings: Any = None,
    *,
    reads: Sequence[str],
    adds: Mapping[str, Any],
    removes: Sequence[str] = (),
    batched: bool = False,
    name: str = "",
    prepare: Callable[[Dataset], Prepared] | None = None,
    unfinished: Callable[[Dataset], bool] | None = None,
    refresh: bool = False,
    is_outdated: Callable[[Dataset, Mapping[str, Any]], bool] | None = None,
    num_proc: int | None = None,
) -> D:
    """Add the columns that a row function or batch function returns; no row is dropped.

    Args:
        data: a Dataset, or a DatasetDict whose splits are transformed separately.
        function: (row, settings) -> dict of new values; with `batched`, (columns as lists, settings) -> dict of lists.
        settings: plain values, frozen dataclasses or functions, all part of the cache key; default: None.
        reads: the columns that the function receives; "gpt.text" is the field `text` of the struct column `gpt`.
        adds: name -> feature of each new column; "gpt.tool" replaces a field of a struct column.
        removes: columns to remove; default: none.
        batched: whether `function` is a batch function; default: False.
        name: name of the stage in the lineage; default: the function's name.
        prepare: called before the map on a table whose result is not cached.
        unfinished: returns whether a result has retryable failures; if so, the next run computes it again.
        refresh: call `prepare` and compute the result even if it is cached; default: False.
        is_outdated: (table, record of the cached result) -> whether to compute the result again; default: never.
        num_proc: number of processes; does not change the result. Default: one.

    Returns:
        The table with the new columns.

    Raises:
        MissingColumns: the table lacks columns of `reads`.
        InputError: `data` is not a table, or ids are missing or not unique.
        UnhashableSetting: a setting cannot be part of a cache key.

    >>> def double(row, settings):
    ...     return {"twice": row["n"] * settings}
    >>> from datasets import Dataset, Value
    >>> apply(Dataset.from_dict({"n": [1, 2]}), double, 2, reads=["n"], adds={"twice": Value("int64")})["twice"][:]
    [2, 4]
    """
    name = name or function_name(function)

    def on_split(split: Dataset) -> Dataset:
        split = materialize(split)
        require_columns(split, reads, name)
        columns = {
            column: adds.get(column, feature) for column, feature in split.features.items() if column not in removes
        }
        # A path with a field, such as "gpt.tool", replaces values inside an existing column.
        new_columns = {path: feature for path, feature in adds.items() if not split_path(path, split.column_names)[1]}
        features = Features(columns | new_columns)
        key = _key(split, function, [settings, list(reads), list(adds)], features)
        cached = None if refresh else load_stage(key, split)
        if cached is not None:
            record = read_record(cached._fingerprint)
            if is_outdated is None or record is None or not is_outdated(split, record):
                return cached
        if "id" in features:
            check_ids(split)
        prepared = prepare(split) if prepare is not None else Prepared()
        unsalted_key = key
        if prepared.salt:
            key = digest(key, prepared.salt)
        batch_function = functools.partial(
            apply_to_batch,
            function=function,
            settings=settings,
            reads=tuple(reads),
            adds=tuple(adds),
            features=features,
            batched=batched,
        )
        result = _map(split, batch_function, features, key, name, num_proc)
        if len(result) != len(split):
            raise LedgerError(f"{name}: expected {len(split)} rows, found {len(result)}")
        if unfinished is not None and unfinished(result):
            result, key = store_unfinished(result, key)
        write_record(key, {**build_record(name, [split], settings, result), **prepared.record})
        if prepared.salt and prepared.is_final:
            write_record(unsalted_key, {"replaced_by": key})
        elif prepared.salt:
            discard_record(unsalted_key)
        return result

    return _by_split(data, on_split)


def keep(
    data: D,
    judge: RowFunction,
    settings: Any = None,
    *,
    reads: Sequence[str],
    stage: str,
    batched: bool = False,
    num_proc: int | None = None,
) -> D:
    """Drop the rows for which a judge returns a `Drop`, and record them in the ledger.

    Args:
        data: a Dataset, or a DatasetDict whose splits are filtered separately.
        judge: (row, settings) -> None or a `Drop`; with `batched`, (columns as lists, settings) -> list of these.
        settings: plain values, frozen dataclasses or functions, all part of the cache key; default: None.
        reads: the columns that the judge receives.
        stage: name of the stage in the ledger and the lineage.
        batched: whether `judge` is a batch function; default: False.
        num_proc: number of processes; does not change the result. Default: one.

    Returns:
        The table without the dropped rows.

    Raises:
        MissingColumns: the table lacks columns of `reads`.
        UnhashableSetting: a setting cannot be part of a cache key.
        LedgerError: the retained and dropped rows do not add up to the input rows.

    >>> def not_empty(row, settings):
    ...     return None if row["text"] else Drop("empty")
    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"id": ["a", "b"], "text": ["", "fish"]})
    >>> keep(rows, not_empty, reads=["text"], stage="filter")["id"][:]
    ['b']
    """

    def on_split(split: Dataset) -> Dataset:
        split = materialize(split)
        require_columns(split, reads, stage)
        key = _key(split, judge, [settings, stage, list(reads)], split.features)
        if (cached := load_stage(key, split)) is not None:
            return cached
        verdicts = functools.partial(judge_batch, judge=judge, settings=settings, reads=tuple(reads), batched=batched)
        dropped = write_dropped(split, verdicts, stage, key)
        if len(dropped):
            batch_function = functools.partial(keep_batch, judge=verdicts)
            result = _map(split, batch_function, split.features, key, f"{stage}: keep", num_proc)
        else:
            result = with_fingerprint(split, key)
        if len(result) + len(dropped) != len(split):
            raise LedgerError(
                f"{stage}: expected {len(split)} rows, found {len(result)} retained and {len(dropped)} dropped"
            )
        write_record(key, build_record(stage, [split], settings, result, dropped))
        _warn_if_empty(result, dropped, stage)
        return result

    return _by_split(data, on_split)


@_renamed_argument("step", "function")
def explode(
    data: D,
    function: Callable[[Any, Any], Iterable[Mapping[str, Any] | tuple[str, Drop]]],
    settings: Any = None,
    *,
    reads: Sequence[str],
    features: Mapping[str, Any],
    stage: str,
    batch_rows: int = BATCH_ROWS,
    num_proc: int | None = None,
) -> D:
    """Replace each row by the new rows that a row function yields.

    Args:
        data: a Dataset, or a DatasetDict whose splits are transformed separately.
        function: (row, settings) -> iterable of new rows, and of (id, `Drop`) for the ledger; at least one of them.
        settings: plain values, frozen dataclasses or functions, all part of the cache key; default: None.
        reads: the columns that the function receives.
        features: name -> feature of each column of the new rows; the column `id` must be unique.
        stage: name of the stage in the ledger and the lineage.
        batch_rows: rows per batch; default: 2,000. Reduce it for large rows.
        num_proc: number of processes; does not change the result. Default: one.

    Returns:
        The table of the new rows.

    Raises:
        MissingColumns: the table lacks columns of `reads`.
        InputError: a new row has unknown columns, or the new ids are missing or not unique.
        UnhashableSetting: a setting cannot be part of a cache key.
        LedgerError: a row yields neither a new row nor a `Drop`.

    >>> def words(row, settings):
    ...     for n, word in enumerate(row["text"].split()):
    ...         yield {"id": f"{row['id']}#{n}", "word": word} if word != "..." else (row["id"], Drop("no_word"))
    >>> from datasets import Dataset, Value
    >>> string = Value("string")
    >>> table = explode(
    ...     Dataset.from_dict({"id": ["a"], "text": ["two ... words"]}), words, reads=["id", "text"],
    ...     features={"id": string, "word": string}, stage="words")
    >>> table["word"][:]
    ['two', 'words']
    """
    features = Features(features)

    def on_split(split: Dataset) -> Dataset:
        split = materialize(split)
        require_columns(split, reads, stage)
        key = _key(split, function, [settings, stage, list(reads)], features)
        if (cached := load_stage(key, split)) is not None:
            return cached
        extended = Features(**features, **DROP_COLUMNS)  # new rows, and dropped rows with their reasons
        batch_function = functools.partial(
            explode_batch, function=function, settings=settings, reads=tuple(reads), features=extended
        )
        # Unique to this process; `remove_stale_files` removes it if the process is killed.
        scratch_key = f"tmp{digest(key, uuid.uuid4().hex)}"
        rows = _map(split, batch_function, extended, scratch_key, stage, num_proc, batch_rows)
        dropped = write_dropped(rows, read_drops, stage, key)
        retain = functools.partial(keep_batch, judge=read_drops, columns=tuple(features))
        # Opening a file takes memory for each of its batches, so small new rows go into larger batches.
        larger_batch_rows = max(batch_rows, BATCH_BYTES * len(rows) // max(1, rows.data.nbytes))
        result = _map(rows, retain, features, key, f"{stage}: keep", num_proc, min(larger_batch_rows, BATCH_ROWS))
        if len(result) + len(dropped) != len(rows):
            raise LedgerError(
                f"{stage}: expected {len(rows)} new rows, found {len(result)} retained and {len(dropped)} dropped"
            )
        if "id" in features:
            check_ids(result)
        write_record(key, {**build_record(stage, [split], settings, result, dropped), "rows_in": len(rows)})
        for file in rows.cache_files:
            Path(file["filename"]).unlink()
        _warn_if_empty(result, dropped, stage)
        return result

    return _by_split(data, on_split)


def join(parts: Sequence[D], name: str) -> D:
    """Return the columns of several tables side by side; the tables have the same rows and different column names."""
    return _concatenate(parts, name, axis=1)


def stack(parts: Sequence[D], name: str) -> D:
    """Return the rows of several tables with the same columns, one table after the other; ids must be unique.

    If only some tables have a column or field that earlier versions lacked, it is null in the other rows.
    """
    return _concatenate(parts, name, axis=0)


def _by_split(data: D, transform: Callable[[Dataset], Dataset]) -> D:
    """Return a transformed Dataset, or a DatasetDict with each split transformed."""
    _check_table(data)
    if isinstance(data, DatasetDict):
        return DatasetDict({name: transform(split) for name, split in data.items()})
    return transform(data)


def _concatenate(parts: Sequence[D], name: str, axis: int) -> D:
    if isinstance(parts[0], DatasetDict):
        return DatasetDict({split: _concatenate([part[split] for part in parts], name, axis) for split in parts[0]})
    tables = [materialize(part) for part in parts]
    key = digest(name, axis, [table._fingerprint for table in tables])
    uniform = _with_same_columns(tables, name) if axis == 0 else tables
    if any(len(table) for table in tables):
        with hide_progress_bars():
            result = with_fingerprint(concatenate_datasets(uniform, axis=axis), key)
    else:  # concatenate_datasets would return the first table without the columns of the others
        features = Features({column: feature for table in uniform for column, feature in table.features.items()})
        result = with_fingerprint(Dataset.from_dict({column: [] for column in features}, features=features), key)
    rows_in = sum(len(table) for table in tables) if axis == 0 else len(tables[0])
    if axis == 0 and "id" in result.column_names:
        check_ids(result)
    write_record(result._fingerprint, {**build_record(name, tables, None, result), "rows_in": rows_in})
    return result


def _with_same_columns(tables: Sequence[Dataset], name: str) -> Sequence[Dataset]:
    """Return tables with the same features: columns and fields that earlier versions lacked are added as null."""
    if all(table.features == tables[0].features for table in tables):
        return tables
    features = [completed(table.features) for table in tables]
    first, *others = features
    different = sorted({c for other in others for c in first.keys() | other.keys() if first.get(c) != other.get(c)})
    if different:
        raise InputError(f"{name}: expected tables with the same columns, found differences in {', '.join(different)}")
    return [_complete(table, first) for table in tables]


def _complete(table: Dataset, features: Features) -> Dataset:
    for column in features.keys() - table.features.keys():
        table = table.add_column(column, [None] * len(table), feature=features[column])
    with hide_progress_bars():
        # `datasets` would read the file of an earlier cast without a check.
        return table.select_columns(list(features)).cast(features, load_from_cache_file=False)


@contextlib.contextmanager
def hide_progress_bars(hide: bool = True) -> Iterator[None]:
    """Disable the progress bars of `datasets`, which clutter the output of short stages."""
    if hide := hide and not datasets.are_progress_bars_disabled():
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if hide:
            datasets.enable_progress_bars()


def check_features(data: Dataset | DatasetDict, expected: Features, name: str) -> None:
    """Raise an `InputError` if a table lacks columns of a schema or has other types; additional columns are allowed."""
    _check_table(data)
    for split in data.values() if isinstance(data, DatasetDict) else [data]:
        require_columns(split, list(expected), name)
        for column, feature in expected.items():
            if split.features[column] != feature:
                raise InputError(
                    f"{name} needs the column {column} as {feature}, found {split.features[column]}; "
                    "convert it with `data.cast_column`"
                )


def features_of(data: Dataset | DatasetDict) -> Features:
    """Return the features of a Dataset, or of the first split of a DatasetDict."""
    first = data if isinstance(data, Dataset) else next(iter(data.values()))
    return first.features


def require_columns(data: Dataset, columns: Sequence[str], name: str) -> None:
    """Raise `MissingColumns` if a table lacks columns; "gpt.text" requires the column `gpt`."""
    names = dict.fromkeys(split_path(column, data.column_names)[0] for column in columns)
    missing = [column for column in names if column not in data.column_names]
    if missing:
        raise MissingColumns(
            f"{name} needs the columns {', '.join(missing)}; found: {', '.join(data.column_names) or '(none)'}"
        )


# Keys and maps --------------------------------------------------------------------------------------------------------


def function_name(function: Any) -> str:
    """Return the name of a function, or of the function in a partial, without leading and trailing underscores."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__)).strip("_")


def _key(data: Dataset, function: RowFunction, settings: Any, features: Features) -> str:
    code = code_digest(function, settings)
    return digest(data._fingerprint, canonical(function), canonical(settings), features.to_dict(), code)


def _map(
    data: Dataset,
    batch_function: Callable[[pa.Table], pa.Table],
    features: Features,
    key: str,
    description: str,
    num_proc: int | None,
    batch_rows: int = BATCH_ROWS,
) -> Dataset:
    """Map a function over the batches of a table, and return the result, stored in the file of a cache key."""
    folder = stages_dir()
    with scratch_folder(folder) as scratch, hide_progress_bars(len(data) < MIN_ROWS_FOR_BAR):
        remove_stale_files(folder)
        path = scratch / "rows.arrow"
        if len(data) == 0:  # map would return the table with the old features
            with open(path, "wb") as file, pa.ipc.new_stream(file, features.arrow_schema):
                pass
            return store_files([path], key, data.split)
        result = as_arrow(data).map(
            batch_function,
            batched=True,
            batch_size=batch_rows,
            remove_columns=data.column_names,
            features=features,
            new_fingerprint=key,
            cache_file_name=str(path),
            num_proc=num_proc if num_proc and num_proc > 1 and len(data) >= num_proc else None,
            desc=description,
        )
        return store_files(arrow_files(result), key, data.split)


def _warn_if_empty(result: Dataset, dropped: Dataset, stage: str) -> None:
    if len(dropped) and not len(result):
        reasons = ", ".join(f"{reason} {rows}" for reason, rows in Counter(dropped["reason"][:]).most_common())
        log.warning("%s: all %d rows were dropped (%s)", stage, len(dropped), reasons)


def _check_table(data: Any) -> None:
    if not isinstance(data, (Dataset, DatasetDict)):
        raise InputError(f"expected a datasets.Dataset or DatasetDict, found {type(data).__name__}")
