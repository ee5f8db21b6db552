"""stage_cache: a finished stage on disk: an Arrow file, its record, and the rows that were dropped.

The record is a JSON file of the same name: inputs, step, settings, counts and dropped rows of the stage (`lineage`
follows records back). The folder may be deleted at any time; the stages are then computed again.
"""

from __future__ import annotations

import copy
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, concatenate_datasets

from toolrlef_data.columns import DROPPED
from toolrlef_data.records import Drop, InputError
from toolrlef_data.tables.files import atomic_file, file_digest, scratch_file
from toolrlef_data.tables.fingerprint import canonical, digest
from toolrlef_data.tables.redaction import published

__all__ = [
    "arrow_files",
    "as_arrow",
    "check_ids",
    "facts_of",
    "load",
    "materialize",
    "read_record",
    "stages_dir",
    "store_unfinished",
    "table_from_rows",
    "with_fingerprint",
    "write_dropped",
    "write_record",
]


def stages_dir() -> Path:
    """The folder of finished stages, under the cache of `datasets`."""
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "toolrlef_data"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def load(key: str, data: Dataset) -> Dataset | None:
    record = read_record(key)
    if record is not None and record["files"] == arrow_files(data) and record["rows_in"] == record["rows_out"]:
        return with_fingerprint(data, key)  # nothing was dropped, so nothing was written
    if record is None or not all(os.path.exists(f) for f in [*record["files"], *record.get("dropped_files", ())]):
        return None
    shards = [Dataset.from_file(file, split=data.split) for file in record["files"]]
    result = shards[0] if len(shards) == 1 else concatenate_datasets(shards)
    result._fingerprint = key
    return result


def with_fingerprint(data: Dataset, key: str) -> Dataset:
    same = copy.copy(data)
    same.reset_format()
    same._fingerprint = key
    return same


def store_unfinished(result: Dataset, key: str) -> tuple[Dataset, str]:
    """Move a result that is not to be kept for good to a name of its content, so that its key stays free."""
    key = digest(key, [file_digest(Path(file)) for file in arrow_files(result)])
    shards = []
    for i, file in enumerate(arrow_files(result)):
        path = stages_dir() / f"{key}_{i}.arrow"
        os.replace(file, path)
        shards.append(Dataset.from_file(str(path), split=result.split))
    moved = shards[0] if len(shards) == 1 else concatenate_datasets(shards)
    moved._fingerprint = key
    return moved, key


# Records --------------------------------------------------------------------------------------------------------------


def facts_of(
    name: str, inputs: list[Dataset], settings: Any, result: Dataset, dropped: Dataset | None = None
) -> dict[str, Any]:
    facts = {
        "step": name,
        "inputs": [d._fingerprint for d in inputs],
        "settings": canonical(settings),
        "published": published(settings),
        "rows_in": len(inputs[0]) if inputs else len(result),
        "rows_out": len(result),
        "dropped": dict(sorted(Counter(dropped["reason"][:]).items())) if dropped is not None and len(dropped) else {},
        "files": arrow_files(result),
    }
    if dropped is not None and len(dropped):
        facts["dropped_files"] = arrow_files(dropped)
    return facts


def arrow_files(data: Dataset) -> list[str]:
    return [file["filename"] for file in data.cache_files]


def write_record(key: str, facts: Mapping[str, Any]) -> None:
    with atomic_file(_record_path(key)) as scratch:
        scratch.write_text(json.dumps({"fingerprint": key, **facts}, sort_keys=True, indent=1), encoding="utf-8")


def read_record(key: str) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads(_record_path(key).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):  # cut by a full disk: computed again
        return None
    return record


def _record_path(key: str) -> Path:
    return stages_dir() / f"{key}.json"


# Tables in the cache --------------------------------------------------------------------------------------------------


def materialize(data: Dataset) -> Dataset:
    """A dataset that lives in memory, written to the cache under a name made from its content; others as they are.

    A source of which no row is left has no files either; what is known of it stays known.
    """
    if data.cache_files:
        return data
    schema = data.features.arrow_schema
    known = read_record(data._fingerprint)
    origin = data._fingerprint if known is not None else ""
    result = _written((batch.cast(schema) for batch in as_arrow(data).iter(1000)), schema, origin, split=data.split)
    if not _record_path(result._fingerprint).exists():
        facts = known or facts_of("rows", [], None, result)
        own = {"fingerprint": result._fingerprint, "files": arrow_files(result)}
        write_record(result._fingerprint, {**facts, **own})
    return result


def table_from_rows(
    rows: Iterable[Mapping[str, Any]], features: Mapping[str, Any], name: str, inputs: Iterable[str] = ()
) -> Dataset:
    """Rows that a stage makes, as a table in the cache; pulls rows as it writes.

    Args:
        name: of the step that made them.
        inputs: fingerprints of the tables that they were made from.
    """
    schema = Features(features).arrow_schema
    source = iter(rows)
    chunks = iter(lambda: list(islice(source, 1000)), [])
    parents = [each for each in inputs if each]
    # The same rows made from another table are another table: their trails differ.
    result = _written((pa.Table.from_pylist(chunk, schema) for chunk in chunks), schema, digest(name, parents))
    write_record(result._fingerprint, {**facts_of(name, [], None, result), "inputs": parents})
    return result


def _written(batches: Iterable[pa.Table], schema: pa.Schema, origin: str = "", split: Any = None) -> Dataset:
    """Tables as one file of the cache, under a name made from its content and where it is from."""
    with scratch_file(stages_dir()) as temporary:
        with open(temporary, "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            for batch in batches:
                writer.write_table(batch)
        name = digest(file_digest(temporary), origin) if origin else file_digest(temporary)
        os.replace(temporary, stages_dir() / f"{name}.arrow")
    result = Dataset.from_file(str(stages_dir() / f"{name}.arrow"), split=split)
    result._fingerprint = name
    return result


def as_arrow(data: Dataset, columns: list[str] | None = None) -> Dataset:
    """The same table, read as Arrow; unlike `with_format`, which copies all features deeply, for next to nothing."""
    same = copy.copy(data)
    same.set_format("arrow", columns)
    return same


def write_dropped(data: Dataset, judged: Callable[[pa.Table], list[Drop | None]], stage: str, key: str) -> Dataset:
    """The ledger's part of a stage, written as the table is read through once."""
    path = stages_dir() / f"{digest(key, 'dropped')}.arrow"
    identity = [column for column in ("id", "task", "dataset") if column in data.column_names]
    with (
        atomic_file(path) as scratch,
        open(scratch, "wb") as file,
        pa.ipc.new_stream(file, DROPPED.arrow_schema) as writer,
    ):
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
    return Dataset.from_file(str(path))


def check_ids(data: Dataset) -> None:
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
