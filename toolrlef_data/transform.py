"""apply, keep, join and stack: the only callers of `map`.

A step is a module-level function of a row (or of a batch) and frozen settings. `apply` runs it inside a batched map
over Arrow tables with explicit features, under a key of our own (`fingerprints`), on a Dataset or on each split of a
DatasetDict, and leaves a record behind (`lineage`).
"""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import datasets
import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict, Features, concatenate_datasets

from toolrlef_data.batches import Step, judged_rows, kept_rows, place, run_step
from toolrlef_data.columns import DROPPED
from toolrlef_data.fingerprints import canonical, code_digest, digest
from toolrlef_data.lineage import (
    as_arrow,
    clear_when_full,
    facts_of,
    file_digest,
    files_of,
    read_record,
    settle,
    stages_dir,
    sweep,
    unbroken_write,
    write_record,
)
from toolrlef_data.records import Drop, InputError, LedgerError, MissingColumns

__all__ = ["apply", "check_features", "features_of", "join", "keep", "quiet_bars", "require", "stack", "step_name"]

log = logging.getLogger("toolrlef_data")
D = TypeVar("D", bound="Dataset | DatasetDict")
BAR_FROM = 20_000  # rows
BATCH_ROWS = 2_000  # 5 % faster than 1,000 at scoring math responses; more gains nothing


def apply(
    data: D,
    step: Step,
    settings: Any = None,
    *,
    reads: Sequence[str],
    adds: Mapping[str, Any],
    removes: Sequence[str] = (),
    batched: bool = False,
    name: str = "",
    prepare: Callable[[Dataset], tuple[str, dict[str, Any]]] | None = None,
    unfinished: Callable[[Dataset], bool] | None = None,
    num_proc: int | None = None,
) -> D:
    """Add the columns that a step returns; every row stays.

    Args:
        data: a Dataset, or a DatasetDict of which each split is taken.
        step: (row, settings) -> new columns; with `batched`, (columns as lists, settings) -> columns as lists.
        settings: plain values, frozen dataclasses, functions; all of it is in the cache key.
        reads: the columns that the step sees; "gpt.text" is the field `text` of the struct column `gpt`.
        adds: name -> feature of each new column; "gpt.tool" replaces a field of a struct column.
        removes: columns to leave out.
        name: of the step in the lineage; default: the function's.
        prepare: called on a split that is not in the cache, before the map; returns a salt, "" where the result may be
            kept for good, and facts for the stage's record.
        unfinished: whether a result holds failures that may pass; it is then computed again the next time.
        num_proc: processes; does not change the result.

    Raises:
        MissingColumns: names the columns that the step reads and the table lacks.

    >>> def double(row, settings):
    ...     return {"twice": row["n"] * settings}
    >>> from datasets import Dataset, Value
    >>> apply(Dataset.from_dict({"n": [1, 2]}), double, 2, reads=["n"], adds={"twice": Value("int64")})["twice"][:]
    [2, 4]
    """
    _check_table(data)
    if isinstance(data, DatasetDict):
        options: dict[str, Any] = {"reads": reads, "adds": adds, "removes": removes, "batched": batched, "name": name}
        options |= {"prepare": prepare, "unfinished": unfinished, "num_proc": num_proc}
        return DatasetDict({split: apply(part, step, settings, **options) for split, part in data.items()})
    name = name or step_name(step)
    data = settle(data)
    require(data, reads, name)
    stay = {k: adds.get(k, f) for k, f in data.features.items() if k not in removes}
    features = Features(stay | {path: f for path, f in adds.items() if not place(path, data.column_names)[1]})
    key = _key(data, step, [settings, list(reads), list(adds)], features)
    if (cached := _load(key, data)) is not None:
        return cached
    if "id" in features:
        _check_ids(data)
    salt, facts = prepare(data) if prepare is not None else ("", {})
    if salt:
        key = digest(key, salt)
    run = functools.partial(
        run_step, step=step, settings=settings, reads=tuple(reads), adds=tuple(adds), features=features, batched=batched
    )
    result = _map(data, run, features, key, name, num_proc)
    if len(result) != len(data):
        raise LedgerError(f"{name}: {len(data)} rows in, {len(result)} rows out")
    if unfinished is not None and unfinished(result):
        result, key = _set_aside(result, key)
    write_record(key, {**facts_of(name, [data], settings, result), **facts})
    return result


def keep(
    data: D,
    judge: Step,
    settings: Any = None,
    *,
    reads: Sequence[str],
    stage: str,
    batched: bool = False,
    num_proc: int | None = None,
) -> D:
    """Leave out the rows that a judge drops; they are in the ledger with their reasons.

    Args:
        judge: (row, settings) -> None to keep the row, or a `Drop`; with `batched`, a list of these.
        stage: the name of the stage in the ledger.

    Raises:
        LedgerError: kept + dropped is not what came in.
    """
    _check_table(data)
    if isinstance(data, DatasetDict):
        return DatasetDict(
            {
                n: keep(s, judge, settings, reads=reads, stage=stage, batched=batched, num_proc=num_proc)
                for n, s in data.items()
            }
        )
    data = settle(data)
    require(data, reads, stage)
    key = _key(data, judge, [settings, stage, list(reads)], data.features)
    if (cached := _load(key, data)) is not None:
        return cached
    judged = functools.partial(judged_rows, judge=judge, settings=settings, reads=tuple(reads), batched=batched)
    out = _dropped(data, judged, stage, key)
    if len(out):
        kept = _map(data, functools.partial(kept_rows, judged=judged), data.features, key, f"{stage}: keep", num_proc)
    else:
        kept = _renamed(data, key)
    if len(kept) + len(out) != len(data):
        raise LedgerError(f"{stage}: {len(data)} rows in, {len(kept)} kept and {len(out)} dropped")
    write_record(key, facts_of(stage, [data], settings, kept, out))
    if len(data) and not len(kept):
        reasons = ", ".join(f"{reason} {rows}" for reason, rows in Counter(out["reason"][:]).most_common())
        log.warning("%s: none of %d rows is left (%s)", stage, len(data), reasons)
    return kept


def join(parts: Sequence[D], name: str) -> D:
    """Put tables of the same rows side by side, columns in order; no column may stand twice."""
    return _concatenated(parts, name, axis=1)


def stack(parts: Sequence[D], name: str) -> D:
    """Put tables with the same columns one below the other, in order."""
    return _concatenated(parts, name, axis=0)


def _concatenated(parts: Sequence[D], name: str, axis: int) -> D:
    if isinstance(parts[0], DatasetDict):
        return DatasetDict({split: _concatenated([part[split] for part in parts], name, axis) for split in parts[0]})
    tables = [settle(part) for part in parts]
    with quiet_bars():
        result = concatenate_datasets(tables, axis=axis)
    result._fingerprint = digest(name, axis, [table._fingerprint for table in tables])
    rows_in = sum(len(table) for table in tables) if axis == 0 else len(tables[0])
    if axis == 0 and "id" in result.column_names:
        _check_ids(result)
    write_record(result._fingerprint, {**facts_of(name, tables, None, result), "rows_in": rows_in})
    return result


@contextlib.contextmanager
def quiet_bars(quiet: bool = True) -> Iterator[None]:
    """No progress bars of `datasets` meanwhile; those of a stage that is done in a moment only hide the others."""
    if quiet := quiet and not datasets.are_progress_bars_disabled():
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if quiet:
            datasets.enable_progress_bars()


def check_features(data: Dataset | DatasetDict, expected: Features, name: str) -> None:
    """Raise where a table lacks columns of a schema, or has them with other types; further columns are fine."""
    _check_table(data)
    for split in data.values() if isinstance(data, DatasetDict) else [data]:
        require(split, list(expected), name)
        for column, feature in expected.items():
            if split.features[column] != feature:
                found = split.features[column]
                raise InputError(
                    f"{name} needs the column {column} as {feature}, found {found}; `data.cast_column` may help"
                )


def features_of(data: Dataset | DatasetDict) -> Features:
    """The features of a table, or of a DatasetDict's first split."""
    first = data if isinstance(data, Dataset) else next(iter(data.values()))
    return first.features


def require(data: Dataset, columns: Sequence[str], name: str) -> None:
    """Raise `MissingColumns` where a table lacks some of the columns, naming them and what was found."""
    roots = dict.fromkeys(place(column, data.column_names)[0] for column in columns)
    missing = [column for column in roots if column not in data.column_names]
    if missing:
        raise MissingColumns(
            f"{name} needs the columns {', '.join(missing)}; found: {', '.join(data.column_names) or '(none)'}"
        )


# The ledger, keys and files ------------------------------------------------------------------------------------------


def _dropped(data: Dataset, judged: Callable[[pa.Table], list[Drop | None]], stage: str, key: str) -> Dataset:
    """The ledger's part of a stage, written as the table is read through once."""
    folder = stages_dir()
    identity = [column for column in ("id", "task", "dataset") if column in data.column_names]
    with unbroken_write(folder) as temporary:
        with open(temporary, "wb") as file, pa.ipc.new_stream(file, DROPPED.arrow_schema) as writer:
            for table in as_arrow(data).iter(1000):
                verdicts = judged(table)
                where = [i for i, verdict in enumerate(verdicts) if verdict is not None]
                if not where:
                    continue
                drops = [verdict for verdict in verdicts if verdict is not None]
                known = table.select(identity).take(pa.array(where, pa.int64())).to_pydict()
                columns = {name: known.get(name, [None] * len(drops)) for name in ("id", "task", "dataset")}
                columns |= {"stage": [stage] * len(drops)}
                columns |= {name: [getattr(drop, name) for drop in drops] for name in ("reason", "detail")}
                writer.write_table(pa.table(columns, schema=DROPPED.arrow_schema))
        path = folder / f"{digest(key, 'dropped')}.arrow"
        os.replace(temporary, path)
    return Dataset.from_file(str(path))


def step_name(step: Any) -> str:
    """The name of a function, also inside a partial."""
    while isinstance(step, functools.partial):
        step = step.func
    return str(getattr(step, "__name__", type(step).__name__)).strip("_")


def _key(data: Dataset, step: Step, settings: Any, features: Features) -> str:
    return digest(
        data._fingerprint, canonical(step), canonical(settings), features.to_dict(), code_digest(step, settings)
    )


def _map(data: Dataset, function: Any, features: Features, key: str, what: str, num_proc: int | None) -> Dataset:
    folder = stages_dir()
    sweep(folder)
    path = folder / f"{key}.arrow"
    if len(data) == 0:  # map would return the table as it came, with the old features
        with unbroken_write(folder) as temporary:
            with open(temporary, "wb") as file, pa.ipc.new_stream(file, features.arrow_schema):
                pass
            os.replace(temporary, path)
        result = Dataset.from_file(str(path), split=data.split)
    else:
        with clear_when_full(folder), quiet_bars(len(data) < BAR_FROM):
            result = as_arrow(data).map(
                function,
                batched=True,
                batch_size=BATCH_ROWS,
                remove_columns=data.column_names,
                features=features,
                new_fingerprint=key,
                cache_file_name=str(path),
                num_proc=num_proc if num_proc and num_proc > 1 and len(data) >= num_proc else None,
                desc=what,
            )
    result.reset_format()
    result._fingerprint = key
    return result


def _check_ids(data: Dataset) -> None:
    """Ids must be there and unique; looked at where a trail begins, since steps keep them as they are."""
    record = read_record(data._fingerprint)
    if record is not None and record["inputs"]:
        return
    ids = as_arrow(data, ["id"])
    hashes = np.empty(len(data), np.int64)  # eight bytes a row, so that a million rows fit anywhere
    done = 0
    for batch in ids.iter(10000):
        values = batch.column("id").to_pylist()
        if None in values:
            raise InputError(f"the column id needs one value a row; row {done + values.index(None)} has none")
        hashes[done : done + len(values)] = [hash(value) for value in values]
        done += len(values)
    hashes.sort()
    suspects = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    seen: set[str] = set()
    for batch in ids.iter(10000) if suspects else ():
        for value in batch.column("id").to_pylist():
            if hash(value) in suspects:
                if value in seen:
                    raise InputError(f"the column id needs one value a row; {value!r} stands twice")
                seen.add(value)


def _check_table(data: Any) -> None:
    if not isinstance(data, (Dataset, DatasetDict)):
        raise InputError(f"expected a datasets.Dataset or DatasetDict, found {type(data).__name__}")


def _set_aside(result: Dataset, key: str) -> tuple[Dataset, str]:
    """Move a result that is not to be kept for good to a name of its content, so that its key stays free."""
    key = digest(key, [file_digest(Path(file)) for file in files_of(result)])
    shards = []
    for i, file in enumerate(files_of(result)):
        path = stages_dir() / f"{key}_{i}.arrow"
        os.replace(file, path)
        shards.append(Dataset.from_file(str(path), split=result.split))
    moved = shards[0] if len(shards) == 1 else concatenate_datasets(shards)
    moved._fingerprint = key
    return moved, key


def _renamed(data: Dataset, key: str) -> Dataset:
    same = copy.copy(data)
    same.reset_format()
    same._fingerprint = key
    return same


def _load(key: str, data: Dataset) -> Dataset | None:
    record = read_record(key)
    if record is not None and record["files"] == files_of(data) and record["rows_in"] == record["rows_out"]:
        return _renamed(data, key)  # nothing was dropped, so nothing was written
    if record is None or not all(os.path.exists(f) for f in [*record["files"], *record.get("dropped_files", ())]):
        return None
    shards = [Dataset.from_file(file, split=data.split) for file in record["files"]]
    result = shards[0] if len(shards) == 1 else concatenate_datasets(shards)
    result._fingerprint = key
    return result
