"""Front matter of the data card: the metadata from which the Hub and `load_dataset` know the configs and features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from datasets import Dataset, DatasetInfo, Features, SplitDict, SplitInfo
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCardData

__all__ = ["card_metadata", "config_infos"]

Splits = Mapping[str, Mapping[str, Dataset]]
Mixes = Mapping[str, Mapping[str, list[str]]]
# Size categories of the Hub's card specification.
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


class Quoted(str):
    """A text that YAML has in quotes."""


yaml.add_representer(
    Quoted, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="'")
)


def card_metadata(
    fields: Mapping[str, Any],
    folder: Path,
    splits: Splits,
    mixes: Mixes,
    infos: Mapping[str, DatasetInfo],
    version: str,
) -> DatasetCardData:
    """Return the front matter: given fields, size category, and `configs` and `dataset_info` for `load_dataset`."""
    metadata = DatasetCardData(**{name: value for name, value in fields.items() if name != "title"})
    rows = sum(len(data) for tables in splits.values() for data in tables.values())
    metadata["size_categories"] = [next((name for limit, name in SIZES if rows < limit), "n>10M")]
    DatasetInfosDict(infos).to_dataset_card_data(metadata)
    sources = {config: {name: [config] for name in tables} for config, tables in splits.items()} | dict(mixes)
    # `datasets` reads the version of a config here, and nowhere else.
    files: dict[str, dict[str, Any]] = {
        config: {"version": Quoted(version), "data_files": _data_files(folder, configs_by_split)}
        for config, configs_by_split in sources.items()
    }
    files[next(iter(splits))]["default"] = True
    MetadataConfigs(files).to_dataset_card_data(metadata)
    for name in ("configs", "dataset_info"):  # datasets sorts them by name; the default config must be first
        entries = metadata[name] if isinstance(metadata[name], list) else [metadata[name]]
        metadata[name] = sorted(entries, key=lambda entry: list(files).index(entry["config_name"]))
    return metadata


def config_infos(folder: Path, splits: Splits, mixes: Mixes) -> dict[str, DatasetInfo]:
    """Return the `DatasetInfo` of every config, mixes included."""
    infos: dict[str, DatasetInfo] = {}
    for config, tables in splits.items():
        files = {name: list((folder / config).glob(f"{name}-*.parquet")) for name in tables}
        sizes = {name: (sum(map(_num_bytes, files[name])), len(data)) for name, data in tables.items()}
        download = sum(file.stat().st_size for parts in files.values() for file in parts)
        infos[config] = _info(config, next(iter(tables.values())).features, sizes, download)
    for config, configs_by_split in mixes.items():
        parts = {name: [infos[part].splits[name] for part in configs] for name, configs in configs_by_split.items()}
        sizes = {
            name: (sum(part.num_bytes for part in split_infos), sum(part.num_examples for part in split_infos))
            for name, split_infos in parts.items()
        }
        origins = [infos[part] for part in {part: None for configs in configs_by_split.values() for part in configs}]
        infos[config] = _info(config, origins[0].features, sizes, sum(origin.download_size for origin in origins))
    return infos


def _num_bytes(file: Path) -> int:
    """Return the uncompressed size of a Parquet file, which does not depend on the number of processes."""
    metadata = pq.read_metadata(file)
    return sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))


def _info(config: str, features: Features, sizes: Mapping[str, tuple[int, int]], download: int) -> DatasetInfo:
    """Return a `DatasetInfo`; `sizes`: split -> (bytes, rows), `download`: bytes of all files."""
    splits = {name: SplitInfo(name, num_bytes=size, num_examples=rows) for name, (size, rows) in sizes.items()}
    info = DatasetInfo(features=features, config_name=config)
    info.splits = SplitDict(splits)
    info.download_size = download
    info.dataset_size = sum(size for size, _ in sizes.values())
    return info


def _data_files(folder: Path, configs_by_split: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """Return split -> the paths of its files in the folders of one or more configs, as metadata of a config."""
    files = []
    for name, configs in configs_by_split.items():
        paths = [path for config in configs for path in sorted((folder / config).glob(f"{name}-*.parquet"))]
        names = [path.relative_to(folder).as_posix() for path in paths]
        files.append({"split": name, "path": names[0] if len(names) == 1 else names})
    return files
