"""batches: what happens inside a map, between Arrow tables and the plain columns that a step sees.

A step gets only the columns it reads, and only the fields of a struct column that it names; everything else is passed
on without being looked at.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Features, Value

from toolrlef_data.records import Drop, InputError, LedgerError

__all__ = ["LEFT", "Step", "exploded_rows", "judged_rows", "kept_rows", "left_rows", "place", "run_step"]

Step = Callable[[Any, Any], Any]
LEFT = {"left_reason": Value("string"), "left_detail": Value("string")}  # beside the rows of `explode`


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """A batch makes thousands of short-lived objects without cycles; looking for cycles took a fifth of its time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_no_collector()
def run_step(
    table: pa.Table,
    *,
    step: Step,
    settings: Any,
    reads: Sequence[str],
    adds: Sequence[str],
    features: Features,
    batched: bool,
) -> pa.Table:
    """What `apply` maps over each batch: the table with what the step adds to it."""
    columns = {path: read_values(table, path) for path in reads}
    if batched:
        new = step(columns, settings)
    else:
        rows = [step(row, settings) for row in _rows(columns, table.num_rows)]
        new = {path: [row[path] for row in rows] for path in adds}
    schema = features.arrow_schema
    arrays: dict[str, Any] = {
        name: table.column(name) for name in table.column_names if name in features and name not in adds
    }
    structs: dict[str, dict[str, Any]] = {}
    for path in adds:
        column, child = place(path, table.column_names)
        if child:
            structs.setdefault(column, {})[child] = new[path]
        else:
            arrays[column] = pa.array(new[path], type=schema.field(column).type)
    for column, fields in structs.items():
        arrays[column] = _with_fields(arrays[column], fields, schema.field(column).type)
    return pa.table([arrays[name] for name in schema.names], schema=schema)


def place(path: str, columns: Sequence[str]) -> tuple[str, str]:
    """("gpt", "text") for the field `text` of the column `gpt`; (path, "") for a column, whose name may hold dots."""
    column, _, child = path.rpartition(".")
    return (column, child) if path not in columns and column in columns else (path, "")


def read_values(table: pa.Table, path: str) -> list[Any]:
    column, child = place(path, table.column_names)
    array = table.column(column)
    values: list[Any] = (pc.struct_field(array, [child]) if child else array).to_pylist()
    return values


def _with_fields(column: pa.ChunkedArray, fields: Mapping[str, list[Any]], kind: pa.StructType) -> pa.StructArray:
    """A struct column with some of its fields replaced; the others are not even read."""
    whole = column.combine_chunks()
    children = [
        pa.array(fields[field.name], type=field.type) if field.name in fields else pc.struct_field(whole, [field.name])
        for field in kind
    ]
    return pa.StructArray.from_arrays(children, fields=list(kind))


def _rows(columns: Mapping[str, list[Any]], count: int) -> Iterator[dict[str, Any]]:
    for i in range(count):
        yield {name: values[i] for name, values in columns.items()}


@_no_collector()
def judged_rows(
    table: pa.Table, *, judge: Step, settings: Any, reads: Sequence[str], batched: bool
) -> list[Drop | None]:
    """What `keep` asks of each batch: for every row None, or why it leaves."""
    columns = {path: read_values(table, path) for path in reads}
    verdicts: list[Drop | None] = (
        judge(columns, settings) if batched else [judge(row, settings) for row in _rows(columns, table.num_rows)]
    )
    return verdicts


def kept_rows(
    table: pa.Table, *, judged: Callable[[pa.Table], list[Drop | None]], columns: Sequence[str] = ()
) -> pa.Table:
    """What `keep` maps over each batch: the rows that stay, of all columns or of some."""
    stay = table.filter(pa.array([verdict is None for verdict in judged(table)], type=pa.bool_()))
    return stay.select(list(columns)) if columns else stay


@_no_collector()
def exploded_rows(
    table: pa.Table, *, step: Callable[[Any, Any], Any], settings: Any, reads: Sequence[str], features: Features
) -> pa.Table:
    """What `explode` maps over each batch: the new rows, and those that cannot be made, with what is left of them."""
    known = [name for name in ("task", "dataset") if name in features and name in table.column_names]
    columns = {path: read_values(table, path) for path in dict.fromkeys([*reads, *known])}
    names = set(features) - set(LEFT)
    made: list[dict[str, Any]] = []
    for row in _rows(columns, table.num_rows):
        before = len(made)
        for each in step(row, settings):
            if isinstance(each, tuple):
                row_id, drop = each
                left = {"left_reason": drop.reason, "left_detail": drop.detail, "id": row_id}
                made.append({name: row[name] for name in known} | left)
            elif not names.issuperset(each):
                odd = ", ".join(sorted(set(each) - names))
                raise InputError(f"a new row has columns that the table it is made for has not: {odd}")
            else:
                made.append(each)
        if len(made) == before:
            raise LedgerError(f"a row made neither new rows nor a reason: {str(row.get('id'))!r:.80}")
    return pa.Table.from_pylist(made, features.arrow_schema)


def left_rows(table: pa.Table) -> list[Drop | None]:
    """Why each row of `exploded_rows` could not be made; None where it was."""
    told = zip(table.column("left_reason").to_pylist(), table.column("left_detail").to_pylist(), strict=True)
    return [None if reason is None else Drop(reason, detail) for reason, detail in told]
