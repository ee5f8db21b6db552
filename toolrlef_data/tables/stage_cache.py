"""The cache of finished stages: for each stage an Arrow file, its record, and the dropped rows.

The record is a JSON file with the inputs, stage name, settings and row counts (see `lineage`), and with the stamps of
its files. A result that differs from its record is computed again, with a warning. Processes share the folder: a file
is never changed after it was written, its name has its checksum, and the record names the files that belong together.
The folder may be deleted at any time; the stages are then computed again.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets import Dataset, concatenate_datasets

from toolrlef_data.records import ToolrlefError
from toolrlef_data.tables.batches.sizes import enlarge_batches
from toolrlef_data.tables.cache.processes import mark_used
from toolrlef_data.tables.checksums import stamp, warn_of_damage
from toolrlef_data.tables.files import read_json, write_json
from toolrlef_data.tables.fingerprint import canonical, digest
from toolrlef_data.tables.redaction import redact

__all__ = [
    "arrow_files",
    "as_arrow",
    "build_record",
    "count_values",
    "discard_record",
    "interrupts_held",
    "load_stage",
    "open_files",
    "open_recorded",
    "read_record",
    "record_path",
    "stages_dir",
    "stages_in",
    "store_files",
    "store_unfinished",
    "with_fingerprint",
    "write_record",
]

RECORD_KEYS = {"step", "inputs", "settings", "rows_in", "rows_out", "dropped", "files"}
AGAIN = "the stage is computed again"
_folder: ContextVar[Path | None] = ContextVar("stages", default=None)  # set by `stages_in`


def stages_dir() -> Path:
    """Return the folder of finished stages, inside the cache of `datasets`; it may be missing."""
    return _folder.get() or Path(datasets.config.HF_DATASETS_CACHE) / "toolrlef_data"


@contextlib.contextmanager
def stages_in(folder: Path) -> Iterator[None]:
    """Use another folder of finished stages within a block, whose tables are not mixed with those of other runs."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def load_stage(key: str, data: Dataset | None = None, split: Any = None) -> Dataset | None:
    """Return the cached result of a stage on a table; None if it is missing or, with a warning, if it is damaged.

    The record {"replaced_by": key} refers to the result of the same stage after replies were replaced.

    Args:
        key: the fingerprint of the result.
        data: the input of the stage, whose files the result shares if no row was dropped. Default: no input.
        split: the split of the result. Default: that of `data`.

    Raises:
        ToolrlefError: a file of the input changed that is not in this cache, and thus cannot be computed again.
    """
    result = _read_stage(key, data, split)
    return result if result is not None and mark_used(record_path(key)) else None


def _read_stage(key: str, data: Dataset | None, split: Any) -> Dataset | None:
    record = read_record(key)
    if record is None:
        return None
    if "replaced_by" in record:
        return load_stage(record["replaced_by"], data, split)
    files = [*record["files"], *record.get("dropped_files", ())]
    if not all(map(os.path.exists, files)):
        return None
    if (damaged := _damaged_file(record, files)) is not None:
        if data is not None and damaged in arrow_files(data) and Path(damaged).parent != stages_dir():
            remedy = f"if it is damaged, load the table again; if it is right, delete {record_path(key)}"
            raise ToolrlefError(f"{damaged} has changed since the stage {record['step']!r} read it: {remedy}")
        warn_of_damage(damaged, AGAIN)
        return None
    if data is not None and record["files"] == arrow_files(data) and record["rows_in"] == record["rows_out"]:
        return with_fingerprint(data, key)
    try:  # a record of an earlier version has no stamps
        result = open_files(record["files"], data.split if data is not None else split)
        dropped = sum(len(Dataset.from_file(file)) for file in record.get("dropped_files", ()))
    except (pa.ArrowException, OSError):
        result = dropped = None
    if result is None or (len(result), dropped) != (record["rows_out"], sum(record["dropped"].values())):
        warn_of_damage(record["files"][0], AGAIN)
        return None
    return with_fingerprint(result, key)


def open_recorded(record: Mapping[str, Any], entry: str = "files") -> Dataset:
    """Return the table of the files, or of the `dropped_files`, of a record.

    Raises:
        ToolrlefError: a file is missing or damaged.
    """
    files: list[str] = record[entry]
    missing = next((file for file in files if not os.path.exists(file)), None)
    if file := missing or _damaged_file(record, files):
        problem = f"is {'missing' if missing else 'damaged'}: run the stages again"
        raise ToolrlefError(f"{file} of the stage {record['step']!r} {problem}")
    return open_files(files)


def _damaged_file(record: Mapping[str, Any], files: Iterable[str]) -> str | None:
    stamps = record.get("stamps", {})
    return next((file for file in files if file in stamps and list(stamp(file)) != stamps[file]), None)


def open_files(files: Sequence[str], split: Any = None) -> Dataset:
    shards = [Dataset.from_file(file, split=split) for file in files]
    with interrupts_held():
        return shards[0] if len(shards) == 1 else concatenate_datasets(shards, split=split)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C until a short block ends: `datasets` computes fingerprints within an `except:` that swallows it.

    `concatenate_datasets` and `shard` do so; `map` and `select` accept a fingerprint. Other threads get no Ctrl-C.
    """
    received: list[tuple[int, Any]] = []
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: received.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if received:
            previous(*received[0])


def store_files(files: Iterable[str | Path], key: str, split: Any = None) -> Dataset:
    """Move new Arrow files to the cache, and return them as the table with a fingerprint.

    Processes that compute the same rows store the same file; other rows have another name.
    """
    stored = []
    for file in files:
        enlarge_batches(Path(file))
        path = stages_dir() / f"{key}-{stamp(file).checksum[:16]}.arrow"
        os.replace(file, path)
        stored.append(str(path))
    return with_fingerprint(open_files(stored, split), key)


def with_fingerprint(data: Dataset, key: str) -> Dataset:
    """Return a copy of a table with another fingerprint and without a format; the copy shares the files."""
    result = _with_format(data, None)
    result._fingerprint = key
    return result


def store_unfinished(result: Dataset, key: str) -> tuple[Dataset, str]:
    """Return a result with retryable failures under a key derived from its content, and that key.

    The stage's key stays unused, so that the next run computes the stage again.
    """
    key = digest(key, [stamp(file).checksum for file in arrow_files(result)])
    return with_fingerprint(result, key), key


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
        "dropped": {reason: n for (reason,), n in sorted(count_values(dropped, "reason").items())} if dropped else {},
        "files": arrow_files(result),
    }
    if dropped is not None and len(dropped):
        record["dropped_files"] = arrow_files(dropped)
    return record


def arrow_files(data: Dataset) -> list[str]:
    """Return the paths of the Arrow files of a table."""
    return [file["filename"] for file in data.cache_files]


def write_record(key: str, record: Mapping[str, Any]) -> None:
    """Write the record of a stage under its fingerprint, with the stamps of its files, unless it is already written."""
    files = [*record.get("files", ()), *record.get("dropped_files", ())]
    known = record.get("stamps", {})
    stamps = {"stamps": {file: known.get(file) or stamp(file) for file in files}} if files else {}
    complete = {"fingerprint": key, **record, **stamps}
    if read_record(key) != json.loads(json.dumps(complete)):
        folder = stages_dir()
        write_json(record_path(key), _with_paths(complete, lambda file: str(Path(file)).removeprefix(f"{folder}/")))
    mark_used(record_path(key))


def discard_record(key: str) -> None:
    """Remove the record of a stage, so that the next run computes its result."""
    record_path(key).unlink(missing_ok=True)


def read_record(key: str) -> dict[str, Any] | None:
    """Return the record of a fingerprint; None if it is missing or, with a warning, if it is damaged."""
    record = read_json(record_path(key))
    if isinstance(record, dict) and ("replaced_by" in record or record.keys() >= RECORD_KEYS):
        folder = stages_dir()
        return _with_paths(record, lambda file: str(folder / file))
    if record is not None:
        warn_of_damage(record_path(key), "it is ignored")
    return None


def _with_paths(record: Mapping[str, Any], convert: Callable[[str], str]) -> dict[str, Any]:
    """Return a record with other paths: the stored ones are relative to the folder, so that the cache can be moved."""
    paths = {name: [*map(convert, record[name])] for name in ("files", "dropped_files") if name in record}
    stamps = {convert(file): expected for file, expected in record.get("stamps", {}).items()}
    return {**record, **paths, **({"stamps": stamps} if stamps else {})}


def record_path(key: str) -> Path:
    """Return the path of the record of a fingerprint."""
    return stages_dir() / f"{key}.json"


def as_arrow(data: Dataset, columns: list[str] | None = None) -> Dataset:
    """Return the same table in Arrow format."""
    return _with_format(data, "arrow", columns)


def count_values(data: Dataset, *columns: str) -> Counter[tuple[Any, ...]]:
    """Return the number of rows with each combination of values of the columns.

    >>> count_values(Dataset.from_dict({"correct": [True, False, True]}), "correct")
    Counter({(True,): 2, (False,): 1})
    """
    counts: Counter[tuple[Any, ...]] = Counter()
    for table in as_arrow(data, list(columns)).iter(10_000):
        for row in table.group_by(list(columns), use_threads=False).aggregate([([], "count_all")]).to_pylist():
            counts[tuple(row[column] for column in columns)] += row["count_all"]
    return counts


def _with_format(data: Dataset, format_type: str | None, columns: list[str] | None = None) -> Dataset:
    """Return a shallow copy of a table in another format.

    `with_format` would copy the features. `set_format` would compute a fingerprint, within an `except:` that swallows
    Ctrl-C. These attributes are those of datasets 4.7 to 5.2.
    """
    result = copy.copy(data)
    result._format_type, result._format_columns = format_type, columns
    result._format_kwargs, result._output_all_columns = {}, False
    return result
