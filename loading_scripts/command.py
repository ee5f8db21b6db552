"""Build the tables of a source, and the command line of its file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import filelock
from datasets import Dataset, NamedSplit
from datasets.exceptions import DatasetGenerationError

from toolrlef_data.loading_scripts import SOURCES
from toolrlef_data.loading_scripts.base import TableSource
from toolrlef_data.records import InputError, ToolrlefError
from toolrlef_data.tables.files import explain_disk_errors, scratch_folder
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.stage_cache import build_record, load_stage, stages_dir, store_files, write_record

__all__ = ["Tables", "build_tables", "main"]


@dataclass(frozen=True, slots=True)
class Tables:
    """All splits of a source.

    Args:
        questions: split -> usable rows, with the columns of the source.
        dropped: split -> dropped rows.
        read_from: "files", or a Hub id.
    """

    questions: Mapping[str, Dataset]
    dropped: Mapping[str, Dataset]
    read_from: str


def build_tables(source: type[TableSource], data_dir: str | Path | None = None, **options: Any) -> Tables:
    """Build all splits of a source, or load them from the cache."""
    inspected = source.__new__(source)  # without the files that a builder creates in the cache
    inspected.inspect(data_dir, options)
    tables = _load_tables(inspected)
    if tables is None:
        with explain_disk_errors(stages_dir()):
            stages_dir().mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(stages_dir() / f"{inspected.key}.lock"):
                tables = _load_tables(inspected) or _build(inspected)
    read_from = "files" if data_dir or source.bundled_folder or not source.hub else source.hub[0]
    return Tables(tables["questions"], tables["dropped"], read_from)


def _load_tables(inspected: TableSource) -> dict[str, dict[str, Dataset]] | None:
    """Return the tables of both configs from the cache; None if one of them is missing or damaged."""
    tables: dict[str, dict[str, Dataset]] = {}
    for config in TableSource.builder_configs:
        for split in inspected.splits():
            table = load_stage(_table_key(inspected, config, split), split=NamedSplit(split))
            if table is None:
                return None
            tables.setdefault(config, {})[split] = table
    return tables


def _build(inspected: TableSource) -> dict[str, dict[str, Dataset]]:
    """Build the tables of both configs, and move them to the cache."""
    tables: dict[str, dict[str, Dataset]] = {}
    builder = inspected
    with scratch_folder(stages_dir()) as scratch:
        for config in TableSource.builder_configs:
            builder = type(inspected)(None, config, str(scratch), sibling=builder)
            builder.scratch = scratch
            try:
                builder.download_and_prepare()
            except DatasetGenerationError as error:
                if isinstance(error.__cause__, ToolrlefError):
                    raise error.__cause__ from None
                raise
            for split in builder.info.splits:
                patterns = (f"**/{config}/**/*-{split}{shard}.arrow" for shard in ("", "-*-of-*"))
                files = sorted(file for pattern in patterns for file in scratch.glob(pattern))
                key = _table_key(inspected, config, split)
                table = store_files(files, key, NamedSplit(split))
                write_record(key, build_record(f"source {builder.source}", [], {"split": split}, table))
                tables.setdefault(config, {})[split] = table
    return tables


def _table_key(source: TableSource, config: str, split: str) -> str:
    return digest(source.source, source.key, config, split)


def main(name: str, arguments: list[str] | None = None) -> None:
    """Run the command of a source: write its tables as files, one per split and one of the dropped rows.

    Args:
        name: a name in `SOURCES`.
        arguments: command line arguments. Default: those of the process.
    """
    source = SOURCES[name]  # not the class in `__main__`, whose qualified name and thus cache key differ
    parser = argparse.ArgumentParser(description=f"Write the tables of {name} as files.")
    parser.add_argument(
        "--data-dir", help="folder with upstream's files (default: Parquet on the Hub, or bundled files)"
    )
    parser.add_argument("--out", required=True, type=Path, help="output folder")
    parser.add_argument("--format", choices=["jsonl", "parquet"], default="jsonl")
    for option, default in source.defaults.items():
        flag = argparse.BooleanOptionalAction if default else "store_true"  # --no-NAME only if the default is True
        settings: dict[str, Any] = {"action": flag} if isinstance(default, bool) else {"type": type(default)}
        parser.add_argument(f"--{option}", default=default, help="see the source's docstring", **settings)
    args = vars(parser.parse_args(arguments))
    try:
        tables = build_tables(source, args["data_dir"], **{option: args[option] for option in source.defaults})
    except InputError as error:
        parser.exit(2, f"{error}\n")
    out: Path = args["out"]
    out.mkdir(parents=True, exist_ok=True)
    dropped = datasets.concatenate_datasets(list(tables.dropped.values()))
    for split, table in {**tables.questions, "dropped": dropped}.items():
        path = out / f"{split}.{args['format']}"
        if args["format"] == "parquet":
            table.to_parquet(str(path))
        else:  # Dataset.to_json escapes characters and rounds numbers
            with path.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table)
        sys.stdout.write(f"{path}: {len(table)} rows\n")
