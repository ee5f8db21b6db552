"""publish: tables out to a folder that `load_dataset` reads without this package.

The folder is written beside, the old one is moved away, the new one renamed, the old removed; a run after an
interruption first repairs what it left. The same tables give the same bytes.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
from datasets import Dataset, DatasetDict, concatenate_datasets

from toolrlef_data.card import write_card
from toolrlef_data.columns import responders_of
from toolrlef_data.fingerprints import digest
from toolrlef_data.lineage import clear_when_full, ledger, lineage, settle
from toolrlef_data.records import InputError, UnknownName
from toolrlef_data.replies import home_dir
from toolrlef_data.transform import quiet_bars

__all__ = ["LAYOUTS", "publish"]

Tables = Mapping[str, Mapping[str, Dataset | DatasetDict]]

SHARD_BYTES = 500_000_000  # as push_to_hub
PACKAGES = ("toolrlef_data", "datasets", "pyarrow", "torch", "transformers", "peft")
# How the original's files call its data sets.
UPSTREAM_NAMES = {"gsm8k": "GSM8K", "svamp": "SVAMP", "asdiv": "ASDiv"}
log = logging.getLogger("toolrlef_data")


def publish(
    tables: Tables,
    out: str | Path,
    *,
    version: str,
    layout: str = "hub",
    dropped: Dataset | None = None,
    provenance: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
) -> Path:
    """Write tables to a folder as a data set.

    Args:
        tables: task -> name of the table -> table; a table becomes the config "task-name", a bare Dataset its split
            "train".
        out: the folder; replaced as a whole where it is one that this function wrote.
        version: of the data set, "1.0.0".
        layout: "hub": Parquet for each config and split, README.md, provenance.json; "trice": the original's JSON Lines
            files by task; "trice-old": the same by data set.
        dropped: the rows that left (`columns.DROPPED`); default: those that the tables' lineage knows.
        provenance: facts to add to provenance.json, such as where a table came from whose trail ends.
        card: for the card: title, license, language, source_datasets and other fields of its metadata.

    Returns:
        the folder.

    Raises:
        InputError: the folder exists and holds something else.
        UnknownName: an unknown layout.
    """
    if layout not in LAYOUTS:
        raise UnknownName("layout", layout, LAYOUTS)
    splits = {f"{task}-{name}": _splits(table) for task, named in tables.items() for name, table in named.items()}
    if not splits or any(not table for table in splits.values()):
        raise InputError("publish needs at least one table, and every table at least one split")
    if empty := [f"{c} ({s})" for c, named in splits.items() for s, data in named.items() if not len(data)]:
        raise InputError(f"no rows to publish in {', '.join(empty)}: `lineage.ledger` says why each row left")
    out = Path(out)
    with clear_when_full(out.parent), _replaced(out) as folder, quiet_bars():
        LAYOUTS[layout](folder, tables, splits, version, dropped, dict(provenance or {}), dict(card or {}))
    return out


# The folder -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _replaced(out: Path) -> Iterator[Path]:
    """A new folder that takes the place of the old one when all of it is written."""
    out = out.absolute()
    new, old = (out.with_name(f".{out.name}.{word}") for word in ("new", "old"))
    out.parent.mkdir(parents=True, exist_ok=True)
    locks = home_dir() / "locks"
    locks.mkdir(exist_ok=True)
    with filelock.FileLock(locks / f"{digest(str(out))}.lock"):
        if old.exists() and not out.exists():
            old.rename(out)  # interrupted between the two renames
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
        if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "provenance.json").exists())):
            raise InputError(f"{out} exists and is not a published data set: choose another folder, or move it away")
        new.mkdir()
        try:
            yield new
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        if out.exists():
            out.rename(old)
        new.rename(out)
        shutil.rmtree(old, ignore_errors=True)


def _splits(table: Dataset | DatasetDict) -> dict[str, Dataset]:
    return {str(name): split for name, split in table.items()} if isinstance(table, DatasetDict) else {"train": table}


def _write_hub(
    folder: Path,
    tables: Tables,
    splits: dict[str, dict[str, Dataset]],
    version: str,
    dropped: Dataset | None,
    provenance: dict[str, Any],
    card: dict[str, Any],
) -> None:
    trails = {config: {split: lineage(data) for split, data in named.items()} for config, named in splits.items()}
    provenance |= _provenance(splits, trails, version)
    for task in tables:
        own = [data for name in tables[task] for data in splits[f"{task}-{name}"].values()]
        left = dropped if dropped is not None else ledger(own)
        if len(left):  # load_dataset cannot read a split without rows
            splits[f"{task}-dropped"] = {"train": left}
    for config, named in splits.items():
        for split, data in named.items():
            _write_parquet(data, folder / config, split)
    write_json(folder / "provenance.json", provenance)
    write_card(folder, splits, provenance, card)


def _write_parquet(data: Dataset, folder: Path, split: str) -> None:
    folder.mkdir(exist_ok=True)
    shards = max(1, math.ceil((data.data.nbytes if len(data) else 0) / SHARD_BYTES))
    for i in range(shards):
        part = data.shard(shards, i, contiguous=True) if shards > 1 else data
        part.to_parquet(str(folder / f"{split}-{i:05d}-of-{shards:05d}.parquet"))


# Where it came from ---------------------------------------------------------------------------------------------------


def _provenance(
    splits: Mapping[str, Mapping[str, Dataset]], trails: Mapping[str, Mapping[str, list[dict[str, Any]]]], version: str
) -> dict[str, Any]:
    """Models, settings, hashes of prompts, counts and versions, from the lineage of the tables."""
    stages: dict[str, dict[str, Any]] = {}
    configs: dict[str, Any] = {}
    for config, named in trails.items():
        for split, trail in named.items():
            for record in trail:
                stages[record["fingerprint"]] = {
                    name: _told(record[name])
                    for name in ("step", "inputs", "rows_in", "rows_out", "dropped", "settings")
                }
            told = _trail_of(trail)
            configs.setdefault(config, {})[split] = {
                "rows": len(splits[config][split]),
                "fingerprint": settle(splits[config][split])._fingerprint,
                "trail": told,
            }
            if told != KNOWN:
                log.warning("%s (%s): %s", config, split, told)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"version": version, "configs": configs, "stages": stages, "packages": versions}


KNOWN = "known from its source on"


def _trail_of(trail: list[dict[str, Any]]) -> str:
    """Whether the records of a table lead back to where its rows began."""
    known = {record["fingerprint"] for record in trail}
    ends = [record["step"] for record in trail if not known.issuperset(record["inputs"])]
    if trail and not ends:
        return KNOWN
    where = f"before the step {ends[0]!r}" if ends else "here"
    return (
        f"the trail ends {where}: that table is not the output of a stage (it was shuffled, selected or made elsewhere)"
        "; pass dropped= and provenance= to say what is known of it"
    )


def _told(value: Any) -> Any:
    """A setting as it is published: prompts as hashes, no path of this machine."""
    if isinstance(value, dict):
        if value.get("") == "toolrlef_data.tasks:Task":
            prompts = {
                k: v
                for k, v in value.items()
                if k in ("instruction", "plain_instruction", "teacher_instruction", "examples")
            }
            tool = {k: value["tool"][k] for k in ("name", "version")}
            return {"task": value["name"], "tool": tool, "prompts_sha256": {k: digest(v) for k, v in prompts.items()}}
        return {k: _told(v) for k, v in value.items() if k != ""}
    if isinstance(value, list):
        return [_told(v) for v in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file: sorted keys, UTF-8 as it is, a newline at the end."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")


# The original's files -------------------------------------------------------------------------------------------------


def _write_trice(
    folder: Path,
    tables: Tables,
    splits: dict[str, dict[str, Dataset]],
    version: str,
    dropped: Dataset | None,
    provenance: dict[str, Any],
    card: dict[str, Any],
    *,
    by_dataset: bool = False,
) -> None:
    """JSON Lines in files named .json, by task or, in the older layout, by data set."""
    for task, named in tables.items():
        for table in named.values():
            data = concatenate_datasets(list(_splits(table).values()))
            for row in data:
                _write_row(folder, task, dict(row), responders_of(data.features), by_dataset)
    trails = {config: {split: lineage(data) for split, data in named.items()} for config, named in splits.items()}
    write_json(folder / "provenance.json", {**provenance, **_provenance(splits, trails, version)})


def _write_row(folder: Path, task: str, row: dict[str, Any], responders: list[str], by_dataset: bool) -> None:
    dataset = UPSTREAM_NAMES.get(row["dataset"], row["dataset"])
    unit = dataset if by_dataset else task
    if "scores" in row:
        small = {name: row[name] for name in ("query", "responses", "origin", "scores", "answer")}
        small["scores"] = [int(score) if score == int(score) else score for score in row["scores"]]
        _append(folder / "stage2" / unit / f"{unit}.json", small)
        return
    if responders:
        raw = {"id": row["id"], "question": row["input"], "answer": row["answers"], "input": ""}
        for name in responders:
            if name != "gold":
                _append(folder / "stage2" / unit / f"{unit}_{name}_response.json", {**raw, "output": row[name]["text"]})
        return
    if "output" in row:
        small = {name: row[name] for name in ("instruction", "input", "output")}
        _append(folder / "stage1" / unit / f"{unit}.json", small)
        if not by_dataset:
            _append(folder / "stage1" / unit / f"{dataset}.json", small)
        gold = {**small, "id": row["id"], "answer": row["answers"][0]}
        _append(folder / "stage2" / unit / f"{unit}_gold_response.json", gold)


def _append(path: Path, row: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


LAYOUTS: dict[str, Callable[..., None]] = {
    "hub": _write_hub,
    "trice": _write_trice,
    "trice-old": functools.partial(_write_trice, by_dataset=True),
}
