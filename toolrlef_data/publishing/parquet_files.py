"""Write the Parquet files of a published folder, which old versions of `datasets` and other libraries can read, too.

`datasets` 4 and later record the features of every column in a file, with type names that earlier versions refuse. The
Arrow types already determine most features. The files record only the others, such as class labels, in the old form.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features

from toolrlef_data.tables.files import file_digest
from toolrlef_data.tables.stage_cache import as_arrow, interrupts_held

__all__ = ["old_schema", "write_parquet"]

SHARD_BYTES = 500_000_000  # as in push_to_hub
ROW_GROUP_BYTES = 100_000_000  # as in push_to_hub; a reader of one row reads its row group


def write_parquet(data: Dataset, folder: Path, split: str) -> None:
    """Write a table as one or more Parquet files, whose names end with a digest.

    Args:
        data: the table.
        folder: the folder of the config; created if it is missing.
        split: name of the split, the first part of the file names.
    """
    folder.mkdir(exist_ok=True)
    n_bytes = data.data.nbytes if len(data) else 0
    shards = max(1, math.ceil(n_bytes / SHARD_BYTES))
    group_rows = max(1, len(data) * ROW_GROUP_BYTES // max(n_bytes, 1))
    schema = old_schema(data.features)
    for i in range(shards):
        with interrupts_held():
            part = data.shard(shards, i, contiguous=True) if shards > 1 else data
        path = folder / f"{split}-{i:05d}-of-{shards:05d}.parquet"
        # With chunks that depend on the contents, a later version of a file shares most of its bytes on the Hub.
        with pq.ParquetWriter(path, schema, use_content_defined_chunking=True, write_page_index=True) as file:
            for batch in as_arrow(part).iter(group_rows):
                file.write_table(batch.combine_chunks().replace_schema_metadata(schema.metadata))
        path.rename(path.with_stem(f"{path.stem}-{file_digest(path, 16)}"))


def old_schema(features: Features) -> pa.Schema:
    """Return the Arrow schema of a table with metadata that every version of `datasets` reads.

    The metadata has the features that the Arrow types do not determine; there is none if they determine all.

    >>> from datasets import ClassLabel, List, Value
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
