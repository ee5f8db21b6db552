"""Writing: `export` writes a training file, and `to_trainer` returns the same records as a Dataset.

A row that does not fit the format is an error, or with `unfit="drop"` an entry of a ledger beside the file. The reasons
are listed in `stage2`, `trajectories`, `turns`, `llamafactory` and `lengths`, and:

| reason | cause |
|---|---|
| not_json | a value has no JSON form (NaN) |
| not_unicode | a text has an unpaired surrogate, which UTF-8 cannot encode |

Not covered: `input_ids` and labels (see `tokenise`), tables of questions and responses.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NamedTuple

from datasets import Dataset, Features, concatenate_datasets

from toolrlef_data.checks import check_table
from toolrlef_data.columns import DROPPED
from toolrlef_data.publishing.exports.formats import EXPORTS, Export
from toolrlef_data.publishing.exports.lengths import Meter
from toolrlef_data.publishing.exports.llamafactory import dataset_entry
from toolrlef_data.publishing.exports.options import Options, check_options
from toolrlef_data.records import Drop, InputError, MissingColumns, UnknownName, UnusableRow
from toolrlef_data.tables.files import atomic_file, create_folder, scratch_file
from toolrlef_data.tables.stage_cache import as_arrow
from toolrlef_data.tasks.task import Task
from toolrlef_data.trice.row_tasks import tasks_of

__all__ = ["export", "pending_export", "to_trainer"]

Row = Mapping[str, Any]
Record = dict[str, Any]

UNFIT = ("refuse", "drop")
INFO = "dataset_info.json"
LEDGER_COLUMNS = ("id", "task", "dataset")
BATCH_ROWS = 16  # a row has about 10 kB, and can have several MB
CHUNK = 1000  # records that `to_trainer` converts at once
log = logging.getLogger("toolrlef_data")


def export(
    samples: Dataset,
    format: str,
    path: str | Path,
    *,
    style: str | None = None,
    calls: str | None = None,
    arguments: str | None = None,
    pairs: str | None = None,
    min_gap: float | None = None,
    score_range: float | None = None,
    task: Task | Mapping[str, Task] | None = None,
    unfit: str = "refuse",
    tokenizer: str | None = None,
    check_with: str | None = None,
) -> Path:
    """Write one split to a training file in a trainer's format, atomically, and log the length of its longest row.

    Args:
        samples: one split of stage 1, stage 2, trajectories or preference pairs, with the columns of the format.
        format: one of `EXPORTS`.
        path: the file to write; an existing file is replaced. The format "llamafactory" also writes the entry of the
            file in `dataset_info.json` in the same folder.
        style: prompt style of the TRL formats and "rrhf" for stage 1 and stage 2: "chat" (default), "alpaca",
            "completion" or "vicuna". A prompt has no few-shot examples.
        calls: stage 1 and stage 2: "text" (default), or "native": calls in the field `tool_calls`, with the schema of
            the task's tool in `tools`.
        arguments: form of the call arguments. "object" (default of the TRL formats): parsed, for templates that render
            them; arguments that are not a JSON object do not fit. "text" (the only form of the other formats): as the
            model wrote them.
        pairs: pairs of a row of stage 2. "best" (default): the best and the worst response; "adjacent": each response
            and the next one in rank; "all". Equal scores and equal texts are never a pair.
        min_gap: the smallest difference of the scores of a pair; default 0.
        score_range: the difference of scores that is the margin 1; default 20, that of the rules of this package.
        task: one task for all rows, or a mapping of names to tasks; default: the task named in each row. Native calls
            name its tool.
        unfit: treatment of rows that do not fit the format. "refuse" (default): raise an error. "drop": write the row
            to the ledger "<path>.dropped.jsonl" (`columns.DROPPED`). Rows of stage 2 without a pair, and responses
            without a label, are written to the ledger in any case.
        tokenizer: model whose tokens are counted, as in `tokenise`; default: none, characters are counted.
        check_with: model whose chat template renders each record. A record whose target it does not train, or not
            completely, does not fit. Default: no check.

    Returns:
        The path.

    Raises:
        InputError: a row does not fit the format, or with `unfit="drop"` none does; the path is not a file;
            `samples` is not a single split.
        MissingColumns: the table lacks columns of the format; the message lists the formats that fit it.
        UnknownName: an unknown format or option.

    >>> import tempfile
    >>> row = {"instruction": "You can use a calculator.", "input": "3 * 19?", "output": "calculator(3*19)"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = export(Dataset.from_list([row]), "trl", f"{folder}/train.jsonl", style="completion")
    ...     print(path.read_text(), end="")
    {"prompt": "You can use a calculator.\\n\\nQuestion: 3 * 19?\\nAnswer:", "completion": " calculator(3*19)"}
    """
    given: dict[str, Any] = {"style": style, "calls": calls, "arguments": arguments, "pairs": pairs}
    given |= {"min_gap": min_gap, "score_range": score_range, "task": task}
    given |= {"unfit": unfit, "tokenizer": tokenizer, "check_with": check_with}
    with pending_export(samples, format, path, **given) as written:
        return written


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
    """Return the records that `export` writes as a Dataset, in memory, for a trainer in the same process.

    Args:
        samples, format: as in `export`.
        unfit: as in `export`; with "drop", a warning counts the reasons.
        tokenizer, check_with, task: as in `export`.
        options: style, calls, arguments, pairs, min_gap and score_range, as in `export`.

    Raises:
        as `export`.

    >>> row = {"instruction": "Add.", "input": "1+1", "output": "2"}
    >>> to_trainer(Dataset.from_list([row]))[0]["completion"]
    [{'role': 'assistant', 'content': '2'}]
    """
    plan = _plan(samples, format, unfit=unfit, tokenizer=tokenizer, check_with=check_with, task=task, **options)
    features = Features(plan.spec.features(plan.options))
    parts = [Dataset.from_dict({name: [] for name in features}, features=features)]
    reasons: Counter[str] = Counter()
    records: list[Record] = []

    def flush() -> None:
        columns = {name: [record.get(name) for record in records] for name in features}
        parts.append(Dataset.from_dict(columns, features=features))
        records.clear()

    for _, outcomes in _outcomes(samples, plan):
        for record, _ in outcomes:
            if isinstance(record, Drop):
                reasons[record.reason] += 1
            else:
                records.append(record)
        if len(records) >= CHUNK:
            flush()
    flush()
    if reasons:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        log.warning("to_trainer: %s: not in the format %s", counts, format)
    plan.meter.report(format, "to_trainer")
    return concatenate_datasets(parts)


@contextlib.contextmanager
def pending_export(samples: Dataset, format: str, path: str | Path, **options: Any) -> Iterator[Path]:
    """Export like `export`, but replace the file only if the block ends without an error; else nothing is left."""
    plan = _plan(samples, format, **options)
    path = Path(path).resolve()  # replace the target of a link, not the link
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a folder or a device; expected the path of a file")
    ledger = path.with_name(f"{path.name}.dropped.jsonl")
    with create_folder(path.parent), atomic_file(path) as new_file, scratch_file(path.parent) as new_ledger:
        with open(new_file, "wb") as file, open(new_ledger, "wb") as ledger_file:
            n_dropped, first = _write(samples, plan, file, ledger_file)
        entry = {path.stem: dataset_entry(path.name, first)} if plan.spec.has_entry and first is not None else {}
        _dataset_info(path.parent, entry)  # raises before the file is replaced
        yield path
        if entry:
            with atomic_file(path.with_name(INFO)) as new_info:
                new_info.write_text(_dataset_info(path.parent, entry), "utf-8")
        if n_dropped:
            log.warning("%s: %d of %d rows do not fit %s: see %s", path.name, n_dropped, len(samples), format, ledger)
            os.replace(new_ledger, ledger)
    if not n_dropped:
        ledger.unlink(missing_ok=True)  # the ledger of the replaced file
    plan.meter.report(format, path.name)


class Plan(NamedTuple):
    """The checked arguments of an export."""

    format: str
    spec: Export
    options: Options
    unfit: str
    meter: Meter


def _plan(
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
        if value not in choices:
            raise UnknownName(kind, str(value), choices)
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
    if options.calls == "native":
        options = replace(options, tasks=tasks_of(samples, task))
    return Plan(format, spec, options, unfit, Meter(tokenizer, check_with))


def _write(samples: Dataset, plan: Plan, file: IO[bytes], ledger: IO[bytes]) -> tuple[int, Record | None]:
    """Write the records of all rows; return the number of rows with a drop, and the first record."""
    n_written = n_dropped = 0
    first: Record | None = None
    for row, outcomes in _outcomes(samples, plan):
        for record, text in outcomes:
            if isinstance(record, Drop):
                drop = {**row, "stage": f"export_{plan.format}", "reason": record.reason, "detail": record.detail}
                ledger.write(json.dumps({name: drop.get(name) for name in DROPPED}).encode() + b"\n")
                continue
            prefix, suffix = (b",\n    " if n_written else b"[\n    ", b"") if plan.spec.array else (b"", b"\n")
            file.write(prefix + text + suffix)
            first = first or record
            n_written += 1
        n_dropped += any(isinstance(record, Drop) for record, _ in outcomes)
    if n_dropped and not n_written:
        raise InputError(
            f"none of the {n_dropped} rows fits the format {plan.format!r}; "
            f"the reason of the last one: {drop['reason']}: {drop['detail']}"
        )
    if plan.spec.array:
        file.write(b"\n]" if n_written else b"[]")
    return n_dropped, first


def _outcomes(samples: Dataset, plan: Plan) -> Iterator[tuple[Row, list[tuple[Record | Drop, bytes]]]]:
    """Yield each row with its records, which are encoded as well, and its drops."""
    for number, row in enumerate(_rows(samples, plan)):
        outcomes: list[tuple[Record | Drop, bytes]] = []
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


def _drop(error: UnusableRow, number: int, row: Row, plan: Plan) -> Drop:
    """Return the drop of an unfit row or of an unfit part of it, or raise an error for it."""
    if plan.unfit == "refuse":
        name = f"row {number} ({row['id']})" if "id" in row else f"row {number}"
        hint = "unfit='drop' drops these rows and records the reasons"
        raise InputError(f"{name} does not fit the format {plan.format!r}: {error} ({hint})") from error
    return Drop(error.reason, error.detail)


def _dataset_info(folder: Path, entry: Mapping[str, Any]) -> str:
    """Return the text of `dataset_info.json` in a folder with another entry; the other entries stay."""
    if not entry:
        return ""
    info_path = folder / INFO
    try:
        info = json.loads(info_path.read_text("utf-8")) if info_path.exists() else {}
    except ValueError as error:
        raise InputError(f"{info_path} is not JSON: {error}") from None
    if not isinstance(info, dict):
        raise InputError(f"{info_path}: expected a JSON object with an entry for each file")
    return json.dumps({**info, **entry}, indent=2, ensure_ascii=False) + "\n"


def _rows(samples: Dataset, plan: Plan) -> Iterator[Record]:
    columns = dict.fromkeys([*LEDGER_COLUMNS, *plan.spec.columns])
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
