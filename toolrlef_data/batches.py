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
from datasets import Features

from toolrlef_data.records import Drop

__all__ = ["Step", "judged_rows", "kept_rows", "place", "run_step"]

Step = Callable[[Any, Any], Any]


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


def kept_rows(table: pa.Table, *, judged: Callable[[pa.Table], list[Drop | None]]) -> pa.Table:
    """What `keep` maps over each batch: the rows that stay."""
    return table.filter(pa.array([verdict is None for verdict in judged(table)], type=pa.bool_()))
