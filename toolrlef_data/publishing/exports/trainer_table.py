"""`to_trainer`: the records of a training file as a Dataset of the stage cache, with its drops in the ledger."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import pyarrow as pa
from datasets import Dataset, Features

from toolrlef_data.publishing.exports.conversion import Plan, Record, convert_rows, ledger_row, none_fits, plan_export
from toolrlef_data.publishing.exports.options import Options
from toolrlef_data.records import Drop
from toolrlef_data.tables.redaction import redact_path
from toolrlef_data.tables.row_files import chunks_of, materialize, table_from_batches
from toolrlef_data.tasks.task import Task

__all__ = ["to_trainer"]

log = logging.getLogger("toolrlef_data")


def to_trainer(
    samples: Dataset,
    format: str = "trl",
    *,
    unfit: str = "refuse",
    tokenizer: str | None = None,
    check_with: str | None = None,
    task: Task | Mapping[str, Task] | None = None,
    **options: Any,
) -> Dataset:
    """Return the records that `export` writes as a Dataset, for a trainer in the same process.

    Args:
        samples, format: as in `export`.
        unfit: as in `export`. The dropped rows are in `ledger([result])`, and a warning counts the reasons.
        tokenizer, check_with, task: as in `export`.
        options: style, calls, arguments, pairs, min_gap and score_range, as in `export`.

    Returns:
        The records. In its lineage, the rows in are the records and the drops.

    Raises:
        as `export`.

    >>> row = {"instruction": "Add.", "input": "1+1", "output": "2"}
    >>> to_trainer(Dataset.from_list([row]))[0]["completion"]
    [{'role': 'assistant', 'content': '2'}]
    """
    plan = plan_export(samples, format, unfit=unfit, tokenizer=tokenizer, check_with=check_with, task=task, **options)
    features = Features(plan.spec.features(plan.options))
    source = materialize(samples)
    drops: list[Record] = []

    def records() -> Iterator[Record]:
        for row, outcomes in convert_rows(source, plan):
            for record, _ in outcomes:
                if isinstance(record, Drop):
                    drops.append(ledger_row(row, record, plan))
                else:
                    yield record

    batches = (_arrow_table(chunk, features) for chunk in chunks_of(records()))
    name = f"export_{plan.format}"
    result = table_from_batches(batches, features.arrow_schema, name, [source._fingerprint], _settings(plan), drops)
    if drops and not result:
        raise none_fits(drops[-1], plan.format)
    if drops:
        counts = sorted(Counter(drop["reason"] for drop in drops).items())
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts)
        log.warning("to_trainer: %s: not in the format %s; ledger([...]) has the rows", reasons, format)
    plan.meter.report(format, "to_trainer")
    return result


def _arrow_table(records: list[Record], features: Features) -> pa.Table:
    """Return records as an Arrow table; `datasets` encodes the JSON columns."""
    columns = {name: [record.get(name) for record in records] for name in features}
    return Dataset.from_dict(columns, features=features).data.table


def _settings(plan: Plan) -> dict[str, Any]:
    """Return what decides the records of a table, as plain values: tasks only name the tools of native calls."""
    options = {f.name: getattr(plan.options, f.name) for f in fields(Options) if f.name != "tasks"}
    tools = {name: task.tool.published() for name, task in plan.options.tasks.items()}
    check_with = plan.check_with and redact_path(plan.check_with)
    return {"format": plan.format, "unfit": plan.unfit, "check_with": check_with, **options, "tools": tools}
