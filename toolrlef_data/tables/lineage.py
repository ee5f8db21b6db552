"""lineage: what every stage leaves behind, and the ledger of rows that left.

A finished stage is an Arrow file beside a record, a JSON file of the same name: its inputs, step, settings, counts and
dropped rows. `publish` follows the records back, so a bare Dataset is all that is passed around. The folder may be
deleted at any time; the stages are then computed again.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import hashlib
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets import Dataset, DatasetDict, Features, concatenate_datasets

from toolrlef_data.columns import DROPPED
from toolrlef_data.records import ToolrlefError
from toolrlef_data.tables.fingerprint import canonical, digest
from toolrlef_data.tables.published import published

__all__ = [
    "as_arrow",
    "clear_when_full",
    "facts_of",
    "file_digest",
    "files_of",
    "ledger",
    "lineage",
    "read_record",
    "record_source",
    "settle",
    "stages_dir",
    "sweep",
    "table_of",
    "unbroken_write",
    "usage",
    "write_record",
]


def lineage(data: Dataset) -> list[dict[str, Any]]:
    """The records of the stages that led to a table, oldest first; empty where none is known.

    A record holds fingerprint, inputs, step, settings, `published` (what others may read of the settings), rows_in,
    rows_out, dropped (reason -> rows), `dropped_files` where rows were dropped, and `usage` (requests and tokens) where
    a model was asked. After somebody's own shuffle or select the trail ends there: the list is empty.
    """
    records: dict[str, dict[str, Any]] = {}

    def visit(fingerprint: str) -> None:
        record = read_record(fingerprint)
        if record is None or fingerprint in records:
            return
        for parent in record["inputs"]:
            visit(parent)
        records[fingerprint] = record

    visit(settle(data)._fingerprint)
    return list(records.values())


def ledger(tables: Iterable[Dataset | DatasetDict]) -> Dataset:
    """The rows that left at every stage that led to some of the tables, each stage once (`columns.DROPPED`)."""
    parts = [part for table in tables for part in (table.values() if isinstance(table, DatasetDict) else [table])]
    records = {record["fingerprint"]: record for part in parts for record in lineage(part)}
    files = [file for record in records.values() for file in record.get("dropped_files", ())]
    if not files:
        return Dataset.from_dict({name: [] for name in DROPPED}, features=DROPPED)
    return concatenate_datasets([Dataset.from_file(file) for file in files])


def usage(tables: Iterable[Dataset]) -> dict[str, dict[str, int]]:
    """What the replies behind some tables took, by model: requests, prompt_tokens and completion_tokens.

    Each stage counts once; rows that ask the same share a reply and count each.
    """
    records = {record["fingerprint"]: record for table in tables for record in lineage(table)}
    used: dict[str, Counter[str]] = {}
    for taken in (record["usage"] for record in records.values() if "usage" in record):
        used.setdefault(taken["model"], Counter()).update({k: v for k, v in taken.items() if k != "model"})
    return {model: dict(counts) for model, counts in sorted(used.items())}


def record_source(data: Dataset, name: str, settings: Any, dropped: Dataset | None = None) -> None:
    """Write the record at which a trail begins: a source, its settings, and the rows it could not use."""
    rows_in = len(data) + (len(dropped) if dropped is not None else 0)
    facts = {**facts_of(name, [], settings, data, dropped), "rows_in": rows_in}
    if dropped is not None and len(dropped):
        facts["dropped_files"] = files_of(settle(dropped))
    write_record(data._fingerprint, facts)


def settle(data: Dataset) -> Dataset:
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
        own = {"fingerprint": result._fingerprint, "files": files_of(result)}
        write_record(result._fingerprint, {**facts, **own})
    return result


def table_of(
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
    with unbroken_write(stages_dir()) as temporary:
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


def stages_dir() -> Path:
    """The folder of finished stages, under the cache of `datasets`."""
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "toolrlef_data"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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
        "files": files_of(result),
    }
    if dropped is not None and len(dropped):
        facts["dropped_files"] = files_of(dropped)
    return facts


def files_of(data: Dataset) -> list[str]:
    return [file["filename"] for file in data.cache_files]


def write_record(key: str, facts: Mapping[str, Any]) -> None:
    with unbroken_write(stages_dir()) as temporary:
        temporary.write_text(json.dumps({"fingerprint": key, **facts}, sort_keys=True, indent=1), encoding="utf-8")
        os.replace(temporary, _record_path(key))


def read_record(key: str) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads(_record_path(key).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):  # cut by a full disk: computed again
        return None
    return record


def _record_path(key: str) -> Path:
    return stages_dir() / f"{key}.json"


@contextlib.contextmanager
def unbroken_write(folder: Path) -> Iterator[Path]:
    """A temporary path in a folder, gone afterwards unless it was renamed; a full disk gets a clear message."""
    handle, name = tempfile.mkstemp(dir=folder, prefix="tmp")
    os.close(handle)
    try:
        with clear_when_full(folder):
            yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def clear_when_full(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC or "No space left" in str(error):
            raise ToolrlefError(
                f"the disk under {folder} is full; free some space and run again: what was finished is kept"
            ) from error
        raise


def sweep(folder: Path) -> None:
    """Remove what killed writers left behind more than a day ago."""
    for path in folder.glob("tmp*"):
        with contextlib.suppress(FileNotFoundError):  # another process sweeps too
            if time.time() - path.stat().st_mtime > 86400:
                path.unlink()


def file_digest(path: Path, digits: int = 32) -> str:
    """The first hexadecimal digits of the SHA-256 of a file's content; 64 are all of them."""
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()[:digits]
