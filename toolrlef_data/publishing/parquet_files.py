"""The Parquet files of a published folder, which old versions of `datasets` and other libraries can read, too.

`datasets` 4 and later record the features of every column in a file, with type names that earlier versions refuse. The
Arrow types already determine most features. The files record only the others, such as class labels, in the old form.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset, Features, LargeList, List, Value

from toolrlef_data.tables.files import file_digest
from toolrlef_data.tables.stage_cache import as_arrow, interrupts_held, read_record

__all__ = [
    "READY_FILES",
    "have_equal_rows",
    "is_read_unchanged",
    "old_schema",
    "table_bytes",
    "write_file",
    "write_parquet",
]

SHARD_BYTES = 500_000_000  # as in push_to_hub
# A reader of one row reads its row group, and the writer holds one in memory. `push_to_hub` has 100 MB.
ROW_GROUP_BYTES = 10_000_000
READY_FILES = "parquet_files"  # entry of the record of a table: finished Parquet files with its rows
COMPARED_ROWS = 1_000  # of two publications, compared at a time
SIZE_ROWS = 10_000  # rows whose size is computed at once
NUMBER_BYTES, OFFSET_BYTES = 8, 4  # counted for a number, and for a list or text besides its values
LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
TEXTS = (pa.types.is_string, pa.types.is_binary, pa.types.is_large_string, pa.types.is_large_binary)


def write_parquet(data: Dataset, folder: Path, split: str) -> None:
    """Write a table as one or more Parquet files, whose names end with a digest.

    Args:
        data: the table.
        folder: the folder of the config; created if it is missing.
        split: name of the split, the first part of the file names.
    """
    folder.mkdir(exist_ok=True)
    if ready := (read_record(data._fingerprint) or {}).get(READY_FILES):
        for i, file in enumerate(map(Path, ready)):
            _link(file, folder / f"{split}-{i:05d}-of-{len(ready):05d}-{file_digest(file, 16)}.parquet")
        return
    n_bytes = table_bytes(data)
    shards = max(1, math.ceil(n_bytes / SHARD_BYTES))
    for i in range(shards):
        with interrupts_held():
            part = data.shard(shards, i, contiguous=True) if shards > 1 else data
        path = folder / f"{split}-{i:05d}-of-{shards:05d}.parquet"
        write_file(part, path, _group_rows(len(data), n_bytes))
        path.rename(path.with_stem(f"{path.stem}-{file_digest(path, 16)}"))


def _link(file: Path, path: Path) -> None:
    """Give a file a second name; on another file system, copy it."""
    try:
        os.link(file, path)
    except OSError:
        shutil.copyfile(file, path)


def _group_rows(rows: int, n_bytes: int) -> int:
    return max(1, rows * ROW_GROUP_BYTES // max(n_bytes, 1))


def write_file(data: Dataset, path: Path, group_rows: int | None = None) -> None:
    """Write a table as one Parquet file with row groups of `group_rows` rows. Default: of about `ROW_GROUP_BYTES`."""
    group_rows = group_rows or _group_rows(len(data), table_bytes(data))
    schema = old_schema(data.features)
    # With chunks that depend on the contents, a later version of a file shares most of its bytes on the Hub.
    options = {"use_content_defined_chunking": True, "write_page_index": True}
    with pq.ParquetWriter(path, schema, **options, memory_pool=pa.default_memory_pool()) as file:
        for batch in as_arrow(data).iter(group_rows):
            file.write_table(batch.combine_chunks().replace_schema_metadata(schema.metadata))


def table_bytes(data: Dataset) -> int:
    """Return the size of the values of a table in bytes, which does not depend on how its rows are divided in batches.

    `nbytes` of Arrow does depend on it, and tables that were made in parts would be divided into other row groups.
    """
    return sum(_value_bytes(column) for batch in as_arrow(data).iter(SIZE_ROWS) for column in batch.columns)


def _value_bytes(array: pa.Array | pa.ChunkedArray) -> int:
    if isinstance(array, pa.ChunkedArray):
        return sum(map(_value_bytes, array.chunks))
    if pa.types.is_struct(array.type):
        return sum(map(_value_bytes, array.flatten()))
    if any(is_kind(array.type) for is_kind in LISTS):
        return OFFSET_BYTES * len(array) + _value_bytes(array.flatten())
    if any(is_kind(array.type) for is_kind in TEXTS):
        return OFFSET_BYTES * len(array) + (pc.sum(pc.binary_length(array)).as_py() or 0)
    return NUMBER_BYTES * len(array)


def old_schema(features: Features) -> pa.Schema:
    """Return the Arrow schema of a table with metadata that every version of `datasets` reads.

    The metadata has the features that the Arrow types do not determine; there is none if they determine all.

    >>> from datasets import ClassLabel
    >>> old_schema(Features(answers=List(Value("string")))).metadata
    >>> labels = List(ClassLabel(names=["no", "yes"]))
    >>> json.loads(old_schema(Features(id=Value("string"), label=labels)).metadata[b"huggingface"])["info"]["features"]
    {'label': {'feature': {'names': ['no', 'yes'], '_type': 'ClassLabel'}, '_type': 'Sequence'}}
    """
    schema = features.arrow_schema.remove_metadata()
    by_type = Features.from_arrow_schema(schema)
    recorded = Features({name: feature for name, feature in features.items() if by_type[name] != feature})
    if not recorded:
        return schema
    info = {"info": {"features": {name: _old_form(form) for name, form in recorded.to_dict().items()}}}
    return schema.with_metadata({"huggingface": json.dumps(info)})


def _old_form(form: Any) -> Any:
    """Return the recorded form of a feature without the type List, which `datasets` 2 and 3 lack.

    In these versions, `Sequence` is a list, but turns a struct into a struct of lists; [struct] is a list of structs.
    """
    if isinstance(form, list):
        return [_old_form(part) for part in form]
    if not isinstance(form, dict):
        return form
    fields = {name: _old_form(part) if isinstance(part, dict) else part for name, part in form.items()}
    if form.get("_type") != "List":
        return fields
    return [fields["feature"]] if "_type" not in form["feature"] else {**fields, "_type": "Sequence"}


_number = re.compile(r"(u?int|float)(\d+)").fullmatch


def is_read_unchanged(feature: Any, other: Any) -> bool:
    """Return whether values of another feature are the same if `load_dataset` reads them with this one.

    The features of the first split hold for all splits of a config.

    >>> is_read_unchanged(Value("int64"), Value("int32")), is_read_unchanged(Value("int64"), Value("string"))
    (True, False)
    """
    if other in (feature, Value("null")):
        return True
    if isinstance(feature, (List, LargeList)) and isinstance(other, (List, LargeList)):
        return is_read_unchanged(feature.feature, other.feature)
    if isinstance(feature, dict) and isinstance(other, dict):
        return other.keys() <= feature.keys() and all(is_read_unchanged(feature[name], other[name]) for name in other)
    if not isinstance(feature, Value) or not isinstance(other, Value):
        return False
    if (wide := _number(feature.dtype)) and (narrow := _number(other.dtype)):
        is_narrower = wide[1] == narrow[1] and int(narrow[2]) <= int(wide[2])
        return is_narrower or (wide[1] == "float" and narrow[1] != "float")
    return {feature.dtype, other.dtype} <= {"string", "large_string"}


def have_equal_rows(*parts: tuple[Path, Iterable[str]]) -> bool:
    """Return whether two lists of Parquet files, each in a folder, have the same rows in any row groups and files.

    Another version of this package or of pyarrow writes the same rows with other bytes.
    """
    pairs = itertools.zip_longest(*(_equal_parts(folder, names) for folder, names in parts))
    return all(first is not None and second is not None and first.equals(second) for first, second in pairs)


def _equal_parts(folder: Path, names: Iterable[str]) -> Iterator[pa.Table]:
    """Yield the rows of Parquet files in parts of `COMPARED_ROWS` rows; the last part has the remaining ones."""
    pending: list[pa.Table] = []
    for path in (path for path in map(folder.joinpath, names) if path.exists()):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(COMPARED_ROWS):
                pending.append(pa.Table.from_batches([batch]))
                if sum(map(len, pending)) >= COMPARED_ROWS:
                    rows = pa.concat_tables(pending)
                    yield rows.slice(0, COMPARED_ROWS)
                    pending = [rows.slice(COMPARED_ROWS)]
    yield pa.concat_tables(pending) if pending else pa.table({})
