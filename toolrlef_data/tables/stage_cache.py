"""The cache of finished stages: for each stage an Arrow file, its record, and the dropped rows.

The record is a JSON file of the same name with the inputs, stage name, settings and row counts (see `lineage`). The
folder may be deleted at any time; the stages are then computed again.
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
from toolrlef_data.tables.redaction import redact

__all__ = [
    "arrow_files",
    "as_arrow",
    "build_record",
    "check_ids",
    "discard_record",
    "load_stage",
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
    """Return the folder of finished stages, inside the cache of `datasets`."""
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "toolrlef_data"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def load_stage(key: str, data: Dataset) -> Dataset | None:
    """Return the cached result of a stage on a table; None if it must be computed.

    The record {"replaced_by": key} refers to the result of the same stage after replies were replaced.
    """
    record = read_record(key)
    if record is not None and "replaced_by" in record:
        return load_stage(record["replaced_by"], data)
    if record is not None and record["files"] == arrow_files(data) and record["rows_in"] == record["rows_out"]:
        return with_fingerprint(data, key)  # no row was dropped, so the result shares the files of its input
    if record is None or not all(os.path.exists(f) for f in [*record["files"], *record.get("dropped_files", ())]):
        return None
    shards = [Dataset.from_file(file, split=data.split) for file in record["files"]]
    result = shards[0] if len(shards) == 1 else concatenate_datasets(shards)
    result._fingerprint = key
    return result


def with_fingerprint(data: Dataset, key: str) -> Dataset:
    """Return a copy of a table with another fingerprint and without a format; the copy shares the files."""
    result = copy.copy(data)
    result.reset_format()
    result._fingerprint = key
    return result


def store_unfinished(result: Dataset, key: str) -> tuple[Dataset, str]:
    """Move a result with retryable failures to a key derived from its content, and return the table and that key.

    The stage's key stays unused, so that the next run computes the stage again.
    """
    key = digest(key, [file_digest(Path(file)) for file in arrow_files(result)])
    shards = []
    for i, file in enumerate(arrow_files(result)):
        path = stages_dir() / f"{key}_{i}.arrow"
        os.replace(file, path)
        shards.append(Dataset.from_file(str(path), split=result.split))
    result = shards[0] if len(shards) == 1 else concatenate_datasets(shards)
    result._fingerprint = key
    return result, key


# Records --------------------------------------------------------------------------------------------------------------


def build_record(
    name: str, inputs: list[Dataset], settings: Any, result: Dataset, dropped: Dataset | None = None
) -> dict[str, Any]:
    """Return the record of a stage, which `write_record` completes with the fingerprint."""
    record = {
        "step": name,
        "inputs": [data._fingerprint for data in inputs],
        "settings": canonical(settings),
        "published": redact(settings),
        "rows_in": len(inputs[0]) if inputs else len(result),
        "rows_out": len(result),
        "dropped": dict(sorted(Counter(dropped["reason"][:]).items())) if dropped is not None and len(dropped) else {},
        "files": arrow_files(result),
    }
    if dropped is not None and len(dropped):
        record["dropped_files"] = arrow_files(dropped)
    return record


def arrow_files(data: Dataset) -> list[str]:
    """Return the paths of the Arrow files of a table."""
    return [file["filename"] for file in data.cache_files]


def write_record(key: str, record: Mapping[str, Any]) -> None:
    """Write the record of a stage under its fingerprint."""
    with atomic_file(_record_path(key)) as scratch:
        scratch.write_text(json.dumps({"fingerprint": key, **record}, sort_keys=True, indent=1), encoding="utf-8")


def discard_record(key: str) -> None:
    """Remove the record of a stage, so that the next run computes its result."""
    _record_path(key).unlink(missing_ok=True)


def read_record(key: str) -> dict[str, Any] | None:
    """Return the record of a fingerprint; None if it is missing or incomplete."""
    try:
        record: dict[str, Any] = json.loads(_record_path(key).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):  # JSONDecodeError: a full disk truncated the file
        return None
    return record


def _record_path(key: str) -> Path:
    return stages_dir() / f"{key}.json"


# Tables in the cache --------------------------------------------------------------------------------------------------


def materialize(data: Dataset) -> Dataset:
    """Return a table that has files: a table in memory is written to the cache, any other is returned unchanged.

    The fingerprint of a written table is derived from its content. A source without rows has no files either; its
    record is copied to the new fingerprint. A table from `load_from_disk` gets the fingerprint of the saved table.
    """
    if data.cache_files:
        known = _known_fingerprint(data)
        return data if known == data._fingerprint else with_fingerprint(data, known)
    schema = data.features.arrow_schema
    record = read_record(data._fingerprint)
    origin = data._fingerprint if record is not None else ""
    result = _write_batches(
        (batch.cast(schema) for batch in as_arrow(data).iter(1000)), schema, origin, split=data.split
    )
    if not _record_path(result._fingerprint).exists():
        record = record or build_record("rows", [], None, result)
        identity = {"fingerprint": result._fingerprint, "files": arrow_files(result)}
        write_record(result._fingerprint, {**record, **identity})
    return result


def _known_fingerprint(data: Dataset) -> str:
    """Return the fingerprint of the stage whose rows a table has, although `datasets` gave it another fingerprint.

    `load_from_disk` and `with_format` do so. A table with other rows or columns, or of an unknown stage, keeps its own.
    """
    own, files = data._fingerprint, arrow_files(data)
    if data._indices is not None or read_record(own) is not None:
        return own
    folder = Path(files[0]).parent
    if folder == stages_dir():
        known = Path(files[0]).stem.partition("_")[0]
        names = (read_record(known) or {}).get("files", [])
    else:
        try:
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))  # of `save_to_disk`
            known, names = state["_fingerprint"], [str(folder / file["filename"]) for file in state["_data_files"]]
        except (OSError, ValueError, KeyError, TypeError):
            return own
    if names != files or read_record(known) is None:
        return own
    # Other tables can have the same files: with other columns, a part of the rows, or further rows in memory.
    stored = pa.concat_tables([as_arrow(Dataset.from_file(file))[:] for file in files])
    return known if stored.equals(as_arrow(data)[:]) else own


def table_from_rows(
    rows: Iterable[Mapping[str, Any]], features: Mapping[str, Any], name: str, inputs: Iterable[str] = ()
) -> Dataset:
    """Write rows to the cache, in chunks of 1,000, and return the table.

    Args:
        rows: the rows; consumed lazily.
        features: name -> feature of each column.
        name: the name of the stage in the lineage.
        inputs: fingerprints of the tables from which the rows are computed.
    """
    schema = Features(features).arrow_schema
    remaining = iter(rows)
    chunks = iter(lambda: list(islice(remaining, 1000)), [])
    parents = [fingerprint for fingerprint in inputs if fingerprint]
    # Equal rows that are computed from other inputs are another table, with another lineage.
    result = _write_batches((pa.Table.from_pylist(chunk, schema) for chunk in chunks), schema, digest(name, parents))
    write_record(result._fingerprint, {**build_record(name, [], None, result), "inputs": parents})
    return result


def _write_batches(batches: Iterable[pa.Table], schema: pa.Schema, origin: str = "", split: Any = None) -> Dataset:
    """Write batches to one file of the cache under a key derived from content and `origin`, and return the table."""
    with scratch_file(stages_dir()) as scratch:
        with open(scratch, "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            for batch in batches:
                writer.write_table(batch)
        key = digest(file_digest(scratch), origin) if origin else file_digest(scratch)
        os.replace(scratch, stages_dir() / f"{key}.arrow")
    result = Dataset.from_file(str(stages_dir() / f"{key}.arrow"), split=split)
    result._fingerprint = key
    return result


def as_arrow(data: Dataset, columns: list[str] | None = None) -> Dataset:
    """Return the same table in Arrow format, without the deep copy of the features that `with_format` makes."""
    result = copy.copy(data)
    result.set_format("arrow", columns)
    return result


def write_dropped(data: Dataset, judge: Callable[[pa.Table], list[Drop | None]], stage: str, key: str) -> Dataset:
    """Write the rows that the judge drops to a ledger file, and return them as a table (`columns.DROPPED`)."""
    path = stages_dir() / f"{digest(key, 'dropped')}.arrow"
    identity = [column for column in ("id", "task", "dataset") if column in data.column_names]
    with (
        atomic_file(path) as scratch,
        open(scratch, "wb") as file,
        pa.ipc.new_stream(file, DROPPED.arrow_schema) as writer,
    ):
        for table in as_arrow(data).iter(1000):
            verdicts = judge(table)
            drops = [verdict for verdict in verdicts if verdict is not None]
            if not drops:
                continue
            rows = [i for i, verdict in enumerate(verdicts) if verdict is not None]
            values = table.select(identity).take(pa.array(rows, pa.int64())).to_pydict()
            columns = {name: values.get(name, [None] * len(drops)) for name in ("id", "task", "dataset")}
            columns |= {"stage": [stage] * len(drops)}
            columns |= {name: [getattr(drop, name) for drop in drops] for name in ("reason", "detail")}
            writer.write_table(pa.table(columns, schema=DROPPED.arrow_schema))
    return Dataset.from_file(str(path))


def check_ids(data: Dataset) -> None:
    """Raise an `InputError` if the ids of a table are null or not unique; a table may lack the column.

    A table with inputs in its lineage is not checked: its ids come from a checked table.
    """
    record = read_record(data._fingerprint)
    if "id" not in data.column_names or (record is not None and record["inputs"]):
        return
    ids = as_arrow(data, ["id"])
    hashes = np.empty(len(data), np.int64)  # eight bytes per row, since a set of a million ids may not fit in memory
    count = 0
    for batch in ids.iter(10000):
        values = batch.column("id").to_pylist()
        if None in values:
            raise InputError(f"expected an id in each row, found none in row {count + values.index(None)}")
        hashes[count : count + len(values)] = [hash(value) for value in values]
        count += len(values)
    hashes.sort()
    repeated_hashes = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    candidates: set[str] = set()
    for batch in ids.iter(10000) if repeated_hashes else ():
        for value in batch.column("id").to_pylist():
            if hash(value) in repeated_hashes:
                if value in candidates:
                    raise InputError(f"expected unique ids, found {value!r} twice")
                candidates.add(value)
