"""Conversion: the rows of a table as the records of a format, which `writing` and `trainer_table` store.

A row that does not fit the format is an error, or with `unfit="drop"` a row of the ledger. The reasons are listed in
`stage2`, `trajectories`, `turns`, `llamafactory` and `lengths`, and:

| reason | cause |
|---|---|
| not_json | a value has no JSON form (NaN) |
| not_unicode | a text has an unpaired surrogate, which UTF-8 cannot encode |

Not covered: `input_ids` and labels (see `tokenise`), tables of questions and responses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from datasets import Dataset

from toolrlef_data.checks import check_table
from toolrlef_data.choices import check_choice
from toolrlef_data.columns import DROPPED
from toolrlef_data.publishing.exports.formats import EXPORTS, Export
from toolrlef_data.publishing.exports.lengths import Meter
from toolrlef_data.publishing.exports.options import Options, check_options
from toolrlef_data.publishing.exports.stage1 import OFFER, is_not_calling
from toolrlef_data.records import Drop, InputError, MissingColumns, UnusableRow
from toolrlef_data.tables.stage_cache import as_arrow
from toolrlef_data.tasks.task import Task
from toolrlef_data.trice.row_tasks import tasks_of

__all__ = ["Plan", "Record", "convert_rows", "ledger_row", "none_fits", "plan_export"]

Row = Mapping[str, Any]
Record = dict[str, Any]

UNFIT = ("refuse", "drop")
LEDGER_COLUMNS = ("id", "task", "dataset")
BATCH_ROWS = 16  # a row has about 10 kB, and can have several MB


class Plan(NamedTuple):
    """The checked arguments of an export."""

    format: str
    spec: Export
    options: Options
    unfit: str
    check_with: str | None
    meter: Meter


def plan_export(
    samples: Dataset,
    format: str,
    *,
    unfit: str = "refuse",
    tokenizer: str | None = None,
    check_with: str | None = None,
    task: Task | Mapping[str, Task] | None = None,
    **given: Any,
) -> Plan:
    """Return the plan of an export, or raise the errors of `export` that do not depend on a row."""
    for kind, value, choices in (("format", format, EXPORTS), ("unfit", unfit, UNFIT)):
        check_choice(kind, value, choices)
    if not isinstance(samples, Dataset):
        raise InputError(f"export expects one Dataset, found a {type(samples).__name__}: pass one of its splits")
    check_table(samples)
    spec = next((spec for spec in EXPORTS[format] if set(spec.columns) <= set(samples.column_names)), None)
    if spec is None:
        missing = [
            ", ".join(name for name in spec.columns if name not in samples.column_names) for spec in EXPORTS[format]
        ]
        fitting = [
            name
            for name, specs in EXPORTS.items()
            if any(set(spec.columns) <= set(samples.column_names) for spec in specs)
        ]
        raise MissingColumns(
            f"the format {format!r} needs other columns; this table lacks {'; or '.join(missing)}; "
            f"formats that fit it: {', '.join(fitting) or '(none)'}"
        )
    options = check_options(format, spec.options, given)
    if options.calls == "native" or is_not_calling(samples):
        options = replace(options, tasks=tasks_of(samples, task))
    return Plan(format, spec, options, unfit, check_with, Meter(tokenizer, check_with))


def convert_rows(samples: Dataset, plan: Plan) -> Iterator[tuple[Row, list[tuple[Record | Drop, bytes]]]]:
    """Yield each row with its records, which are encoded as well, and its drops."""
    for number, row in enumerate(_rows(samples, plan)):
        outcomes: list[tuple[Record | Drop, bytes]] = []
        texts = [text.strip() for text in row.get("responses") or () if text is not None]
        plan.meter.n_repeated += len(texts) - len(set(texts))
        try:
            for record in plan.spec.records(row, plan.options):
                if isinstance(record, UnusableRow):
                    outcomes.append((_drop(record, number, row, plan), b""))
                elif isinstance(record, Drop):
                    outcomes.append((record, b""))
                else:
                    text = _encode(record, plan.spec.array)
                    try:
                        plan.meter.add(record, text)
                        outcomes.append((record, text))
                    except UnusableRow as error:  # the other records of the row stay
                        outcomes.append((_drop(error, number, row, plan), b""))
        except UnusableRow as error:
            outcomes = [(_drop(error, number, row, plan), b"")]
        yield row, outcomes


def ledger_row(row: Row, drop: Drop, plan: Plan) -> Record:
    """Return the row of the ledger (`columns.DROPPED`) for a drop."""
    values = {**row, "stage": f"export_{plan.format}", "reason": drop.reason, "detail": drop.detail}
    return {name: values.get(name) for name in DROPPED}


def none_fits(drop: Record, format: str) -> InputError:
    """Return the error of an export whose rows are all dropped, from the last row of its ledger."""
    return InputError(
        f"none of the rows fits the format {format!r}; the reason of the last one: {drop['reason']}: {drop['detail']}"
    )


def _drop(error: UnusableRow, number: int, row: Row, plan: Plan) -> Drop:
    """Return the drop of an unfit row or of an unfit part of it, or raise an error for it."""
    if plan.unfit == "refuse":
        name = f"row {number} ({row['id']})" if "id" in row else f"row {number}"
        hint = "unfit='drop' drops these rows and records the reasons"
        raise InputError(f"{name} does not fit the format {plan.format!r}: {error} ({hint})") from error
    return Drop(error.reason, error.detail)


def _rows(samples: Dataset, plan: Plan) -> Iterator[Record]:
    columns = dict.fromkeys([*LEDGER_COLUMNS, *plan.spec.columns, *(OFFER if is_not_calling(samples) else ())])
    for table in as_arrow(samples, [name for name in columns if name in samples.column_names]).iter(BATCH_ROWS):
        yield from table.to_pylist()


def _encode(record: Record, indented: bool) -> bytes:
    """Return a record as `json.dump` writes it: on one line, or as an entry of an indented array."""
    try:
        if not indented:
            return json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
        return json.dumps(record, ensure_ascii=False, indent=4).replace("\n", "\n    ").encode()
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        raise UnusableRow("not_unicode", f"a text has the unpaired surrogate U+{code:04X}") from None
    except ValueError as error:
        raise UnusableRow("not_json", str(error)) from None
