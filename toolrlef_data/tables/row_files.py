"""Tables that no stage made: rows and tables in memory are written to the stage cache, where stages can read them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, Features, NamedSplit

from toolrlef_data.columns import DROPPED
from toolrlef_data.tables.batches.memory import system_memory
from toolrlef_data.tables.checksums import stamp
from toolrlef_data.tables.files import atomic_file, file_digest, scratch_file, write_tables
from toolrlef_data.tables.fingerprint import canonical, digest
from toolrlef_data.tables.stage_cache import (
    arrow_files,
    as_arrow,
    build_record,
    open_files,
    read_record,
    stages_dir,
    with_fingerprint,
    write_record,
)

__all__ = [
    "chunks_of",
    "digest_rows",
    "materialize",
    "spool",
    "spooled_tables",
    "table_from_batches",
    "table_from_rows",
]
__all__ += ["writable_folder"]


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
    if read_record(result._fingerprint) is None:
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
        known = Path(files[0]).stem.partition("-")[0]
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
    return table_from_batches(_tables_of(rows, schema), schema, name, inputs)


def chunks_of(rows: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield rows in lists of 1,000."""
    remaining = iter(rows)
    return iter(lambda: list(islice(remaining, 1000)), [])


def _tables_of(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> Iterator[pa.Table]:
    return (pa.Table.from_pylist(chunk, schema) for chunk in chunks_of(rows))


@system_memory()
def table_from_batches(
    batches: Iterable[pa.Table],
    schema: pa.Schema,
    name: str,
    inputs: Iterable[str] = (),
    settings: Any = None,
    dropped: Iterable[Mapping[str, Any]] = (),
    split: str | None = None,
    salt: str = "",
) -> Dataset:
    """Write Arrow tables to the cache, and return them as one table with a record.

    Args:
        batches: the tables; consumed lazily.
        schema: their schema.
        name: the name of the stage in the lineage.
        inputs: fingerprints of the tables from which the rows are computed.
        settings: the settings of the stage; default: none.
        dropped: the rows of the ledger (`columns.DROPPED`); consumed after the batches.
        split: the split of the table; default: none.
        salt: further changes the cache key; default: "" leaves it as it is.
    """
    parents = [fingerprint for fingerprint in inputs if fingerprint]
    # Equal rows that are computed from other inputs, or with other settings, are another table, with another lineage.
    origin = digest(name, parents) if settings is None else digest(name, parents, canonical(settings))
    origin = digest(origin, salt) if salt else origin
    result = _write_batches(batches, schema, origin, NamedSplit(split) if split is not None else None)
    ledger = None
    drops = _tables_of(dropped, DROPPED.arrow_schema)
    if (first := next(drops, None)) is not None:
        ledger = _write_batches(chain([first], drops), DROPPED.arrow_schema, digest(result._fingerprint, "dropped"))
    rows_in = len(result) + (len(ledger) if ledger is not None else 0)
    record = build_record(name, [], settings, result, ledger)
    write_record(result._fingerprint, {**record, "inputs": parents, "rows_in": rows_in})
    return result


def writable_folder() -> Path:
    """Return a folder for scratch files: that of the stages, or the system's if the cache cannot be written."""
    folder = stages_dir()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir())


def digest_rows(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the digest of a list of rows without building the list.

    >>> digest_rows(iter([{"n": 1}, {"n": 2}])) == digest([{"n": 1}, {"n": 2}])
    True
    """
    sha = hashlib.sha256(b"[[")
    for n, row in enumerate(rows):
        sha.update(b"," * (n > 0) + json.dumps(row, sort_keys=True, separators=(",", ":")).encode())
    sha.update(b"]]")
    return sha.hexdigest()[:32]


def spool(rows: Iterable[Mapping[str, Any]], schema: pa.Schema, path: Path) -> None:
    """Write rows to a file in chunks of 1,000, from which `spooled_tables` reads them once all are known."""
    write_tables(path, schema, _tables_of(rows, schema))


def spooled_tables(path: Path) -> Iterator[pa.Table]:
    """Yield the chunks of a file of `spool` as tables."""
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
        yield from (pa.Table.from_batches([batch]) for batch in reader)


def _write_batches(batches: Iterable[pa.Table], schema: pa.Schema, origin: str = "", split: Any = None) -> Dataset:
    """Write batches to one file of the cache under a key derived from content and `origin`, and return the table.

    In a cache that cannot be written, the file must already exist.
    """
    with scratch_file(writable_folder()) as scratch:
        write_tables(scratch, schema, batches)
        key = digest(file_digest(scratch), origin) if origin else file_digest(scratch)
        path = stages_dir() / f"{key}.arrow"
        if not path.exists() or stamp(path) != stamp(scratch):
            with atomic_file(path) as target:
                shutil.move(scratch, target)
    return with_fingerprint(open_files([str(path)], split), key)
