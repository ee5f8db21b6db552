"""The functions that are mapped over batches: they apply a user's row function or batch function to a batch.

A row function or batch function receives only the columns that it reads, and only the named fields of a struct column;
that of `explode` also `task` and `dataset`. All other columns are passed on without conversion to Python objects.
"""

from __future__ import annotations

import contextlib
import decimal
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Features, Value

from toolrlef_data.checks import split_path
from toolrlef_data.records import Drop, InputError, LedgerError
from toolrlef_data.tables.batches.memory import system_memory

__all__ = [
    "DROP_COLUMNS",
    "RowFunction",
    "apply_to_batch",
    "explode_batch",
    "judge_batch",
    "keep_batch",
    "read_drops",
    "read_values",
]

RowFunction = Callable[[Any, Any], Any]  # (row or batch, settings) -> result
FRACTIONAL = (float, np.floating, decimal.Decimal)
LISTS = (pa.ListType, pa.LargeListType, pa.FixedSizeListType)
DROP_COLUMNS = {"drop_reason": Value("string"), "drop_detail": Value("string")}  # set in the dropped rows of `explode`


@contextlib.contextmanager
def _one_batch() -> Iterator[None]:
    """Allocate from the system, and disable the garbage collector.

    The collector took a fifth of the time; a batch contains no reference cycles.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with system_memory():
            yield
    finally:
        if was_enabled:
            gc.enable()


@_one_batch()
def apply_to_batch(
    table: pa.Table,
    *,
    function: RowFunction,
    settings: Any,
    reads: Sequence[str],
    adds: Sequence[str],
    features: Features,
    batched: bool,
) -> pa.Table:
    """Apply a row function or batch function to a batch, and return the batch with the new columns.

    `features` are those of the result; columns that are not in `features` are removed.
    """
    columns = {path: read_values(table, path) for path in reads}
    rows = _rows(columns, table.num_rows)
    results: Any = function(columns, settings) if batched else [function(row, settings) for row in rows]
    try:
        new_values = {path: results[path] if batched else [row[path] for row in results] for path in adds}
    except (KeyError, TypeError) as error:
        raise InputError(f"function: expected a dict with {', '.join(adds)}, found {error!r:.80}") from error
    schema = features.arrow_schema
    arrays: dict[str, Any] = {
        name: table.column(name) for name in table.column_names if name in features and name not in adds
    }
    structs: dict[str, dict[str, Any]] = {}
    for path in adds:
        column, field = split_path(path, table.column_names)
        if field:
            kind = schema.field(column).type
            names = [part.name for part in kind] if pa.types.is_struct(kind) else []
            if field not in names:
                raise InputError(f"adds: {column} has no field {field!r}; its fields: {', '.join(names) or '(none)'}")
            structs.setdefault(column, {})[field] = new_values[path]
        else:
            arrays[column] = _array(column, new_values[path], schema.field(column).type)
    for column, fields in structs.items():
        arrays[column] = _with_fields(arrays[column], fields, schema.field(column).type)
    return pa.table([arrays[name] for name in schema.names], schema=schema)


def read_values(table: pa.Table, path: str) -> list[Any]:
    """Return the values of a column, or of a field of a struct column, as Python objects."""
    column, field = split_path(path, table.column_names)
    array = table.column(column)
    values: list[Any] = (pc.struct_field(array, [field]) if field else array).to_pylist()
    return values


def _array(name: str, values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return values as an array; raise an `InputError` for a value that `pa.array` would change without an error."""
    if (mistake := next(_mistakes(name, values, kind), None)) is not None:
        raise InputError(mistake)
    return pa.array(values, type=kind)


def _mistakes(name: str, values: Iterable[Any], kind: pa.DataType) -> Iterator[str]:
    """Yield a message for each fraction in place of an integer, which would be cut, and text in place of a list.

    The text would become the list of its letters.
    """
    if pa.types.is_integer(kind):
        fractions = (value for value in values if isinstance(value, FRACTIONAL) and value % 1)
        yield from (f"{name}: expected an integer, found {value!r:.80}" for value in fractions)
    elif pa.types.is_struct(kind):
        structs = [value for value in values if isinstance(value, Mapping)]
        for field in kind:
            yield from _mistakes(f"{name}.{field.name}", (value.get(field.name) for value in structs), field.type)
    elif isinstance(kind, LISTS):
        lists = []
        for value in values:
            if isinstance(value, str):
                yield f"{name}: expected a list, found {value!r:.80}"
            elif value is not None:
                lists.append(value)
        yield from _mistakes(name, chain.from_iterable(lists), kind.value_type)


def _with_fields(
    column: pa.ChunkedArray, fields: Mapping[str, list[Any]], struct_type: pa.StructType
) -> pa.StructArray:
    """Return a struct column with the given fields replaced; the others are not converted to Python objects."""
    struct = column.combine_chunks()
    children = [
        _array(field.name, fields[field.name], field.type)
        if field.name in fields
        else pc.struct_field(struct, [field.name])
        for field in struct_type
    ]
    return pa.StructArray.from_arrays(children, fields=list(struct_type))


def _rows(columns: Mapping[str, list[Any]], count: int) -> Iterator[dict[str, Any]]:
    for i in range(count):
        yield {name: values[i] for name, values in columns.items()}


@_one_batch()
def judge_batch(
    table: pa.Table, *, judge: RowFunction, settings: Any, reads: Sequence[str], batched: bool
) -> list[Drop | None]:
    """Return the judge's verdict on each row: None to keep the row, or a `Drop`."""
    columns = {path: read_values(table, path) for path in reads}
    rows = _rows(columns, table.num_rows)
    verdicts: list[Drop | None] = [*judge(columns, settings)] if batched else [judge(row, settings) for row in rows]
    if len(verdicts) != table.num_rows:
        raise InputError(f"judge: expected {table.num_rows} verdicts for as many rows, found {len(verdicts)}")
    if unknown := [verdict for verdict in verdicts if not (verdict is None or isinstance(verdict, Drop))]:
        raise InputError(f"judge: expected None or a Drop for each row, found {unknown[0]!r:.80}")
    return verdicts


def keep_batch(
    table: pa.Table, *, judge: Callable[[pa.Table], list[Drop | None]], columns: Sequence[str] = ()
) -> pa.Table:
    """Return the rows of a batch that are not dropped, with the given columns (default: all)."""
    retained = table.filter(pa.array([verdict is None for verdict in judge(table)], type=pa.bool_()))
    return retained.select(list(columns)) if columns else retained


@_one_batch()
def explode_batch(
    table: pa.Table, *, function: RowFunction, settings: Any, reads: Sequence[str], features: Features
) -> pa.Table:
    """Return the new rows that a row function yields, and one row with `DROP_COLUMNS` for each `Drop`."""
    ledger_columns = [name for name in ("task", "dataset") if name in features and name in table.column_names]
    columns = {path: read_values(table, path) for path in dict.fromkeys([*reads, *ledger_columns])}
    allowed_columns = set(features) - set(DROP_COLUMNS)
    new_rows: list[dict[str, Any]] = []
    for row in _rows(columns, table.num_rows):
        previous_count = len(new_rows)
        for result in function(row, settings):
            if isinstance(result, tuple):
                row_id, drop = result
                drop_row = {"drop_reason": drop.reason, "drop_detail": drop.detail, "id": row_id}
                new_rows.append({name: row[name] for name in ledger_columns} | drop_row)
            elif not allowed_columns.issuperset(result):
                unknown = ", ".join(sorted(set(result) - allowed_columns))
                raise InputError(f"a new row has columns that are not in features: {unknown}")
            else:
                new_rows.append(result)
        if len(new_rows) == previous_count:
            raise LedgerError(f"expected new rows or a Drop, found neither for the row {str(row.get('id'))!r:.80}")
    schema = features.arrow_schema
    arrays = [_array(field.name, [row.get(field.name) for row in new_rows], field.type) for field in schema]
    return pa.table(arrays, schema=schema)


def read_drops(table: pa.Table) -> list[Drop | None]:
    """Return the `Drop` of each row in a result of `explode_batch`; None for a new row."""
    drops = zip(table.column("drop_reason").to_pylist(), table.column("drop_detail").to_pylist(), strict=True)
    return [None if reason is None else Drop(reason, detail) for reason, detail in drops]
