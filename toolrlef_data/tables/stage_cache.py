"""stage_cache: the files of finished stages: found again, renamed, set aside; and the ledger's part of a stage."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset, concatenate_datasets

from toolrlef_data.columns import DROPPED
from toolrlef_data.records import Drop, InputError
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.lineage import as_arrow, file_digest, files_of, read_record, stages_dir, unbroken_write

__all__ = ["check_ids", "load", "renamed", "set_aside", "write_dropped"]


def write_dropped(data: Dataset, judged: Callable[[pa.Table], list[Drop | None]], stage: str, key: str) -> Dataset:
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


def set_aside(result: Dataset, key: str) -> tuple[Dataset, str]:
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


def renamed(data: Dataset, key: str) -> Dataset:
    same = copy.copy(data)
    same.reset_format()
    same._fingerprint = key
    return same


def load(key: str, data: Dataset) -> Dataset | None:
    record = read_record(key)
    if record is not None and record["files"] == files_of(data) and record["rows_in"] == record["rows_out"]:
        return renamed(data, key)  # nothing was dropped, so nothing was written
    if record is None or not all(os.path.exists(f) for f in [*record["files"], *record.get("dropped_files", ())]):
        return None
    shards = [Dataset.from_file(file, split=data.split) for file in record["files"]]
    result = shards[0] if len(shards) == 1 else concatenate_datasets(shards)
    result._fingerprint = key
    return result
