"""Tables of the Hub, in the cache of `datasets`, which is checked before it is read.

This module is separate from the builders because `datasets` replaces `Path` in every module that defines a builder.
"""

from __future__ import annotations

import contextlib
import logging
from json import JSONDecodeError
from pathlib import Path

import datasets
import pyarrow as pa
from datasets import DatasetDict, load_dataset

from toolrlef_data.records import ToolrlefError
from toolrlef_data.tables.files import STAMPS, damaged_file, read_json, seal, write_json
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.stage_cache import stages_dir

__all__ = ["load_hub_tables"]

log = logging.getLogger("toolrlef_data")


def load_hub_tables(hub_id: str, config: str) -> DatasetDict:
    """Return the splits of a config; "" is the only config. Damaged tables are converted again, with a warning.

    Raises:
        ToolrlefError: the tables were damaged before this function first loaded them.
    """
    record = stages_dir() / f"hub-{digest(hub_id, config)}.json"
    folders = [Path(name) for name in read_json(record) or []]
    for folder in folders:
        if (damaged := damaged_file(folder)) is not None:
            log.warning("%s is damaged or missing: the table is converted again", damaged)
            (folder / datasets.config.DATASET_INFO_FILENAME).unlink(missing_ok=True)  # without it, the rest is ignored
    try:
        tables = load_dataset(hub_id, config or None)
    except (pa.ArrowException, JSONDecodeError) as error:
        raise ToolrlefError(
            f"the tables of {hub_id} under {datasets.config.HF_DATASETS_CACHE} are damaged ({error}): delete them"
        ) from error
    files = [Path(file["filename"]) for table in tables.values() for file in table.cache_files]
    folders = sorted({file.parent for file in files})
    with contextlib.suppress(ToolrlefError):  # a cache that cannot be written is read without a check
        for folder in folders:
            if not (folder / STAMPS).exists():  # `datasets` replaces a folder as a whole
                seal(folder)
        if read_json(record) != (names := [str(folder) for folder in folders]):
            write_json(record, names)
    return tables
