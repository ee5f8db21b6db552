"""folder: tables out to a folder that `load_dataset` reads without this package.

The folder is written beside, the old one is moved away, the new one renamed, the old removed; a run after an
interruption first repairs what it left. The same tables give the same bytes. The original's own files are written by
`trice.files.write`.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
from datasets import Dataset, DatasetDict

from toolrlef_data.columns import DROPPED
from toolrlef_data.publishing.card import write_card
from toolrlef_data.publishing.provenance import provenance_of
from toolrlef_data.records import InputError, MissingColumns, UnknownName
from toolrlef_data.tables.files import home_dir, replace_folder
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.lineage import ledger
from toolrlef_data.tables.transform import hide_progress_bars
from toolrlef_data.trice.cassette import collect_executions
from toolrlef_data.trice.files.writer import check_tables, write_trice

__all__ = ["LAYOUTS", "publish", "refuse_foreign"]

Tables = Mapping[str, Mapping[str, Dataset | DatasetDict]]
Splits = dict[str, dict[str, dict[str, Dataset]]]  # task -> name of the table -> split

log = logging.getLogger("toolrlef_data")
SHARD_BYTES = 500_000_000  # as push_to_hub
VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")  # of `datasets.Version`
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # of a folder and of a config
SPLIT = re.compile(r"[A-Za-z0-9_]+")  # of a file `load_dataset` finds by its split


def publish(
    tables: Tables,
    out: str | Path,
    *,
    version: str,
    layout: str = "hub",
    dropped: Dataset | None = None,
    provenance: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    cassette: bool = False,
) -> Path:
    """Write tables to a folder as a data set.

    Args:
        tables: task -> name of the table -> table; a table becomes the config "task-name", a bare Dataset its split
            "train". A split without rows is left out with a warning where its table has others. Tables of one name and
            one schema of several tasks are also joined in the config "mix-name", which reads the tasks' own files.
        out: the folder; replaced as a whole where it is one that this function wrote.
        version: of the data set, "1.0.0".
        layout: "hub": Parquet for each config and split, README.md, provenance.json; "trice": the original's JSON Lines
            files by task; "trice-old": the same by data set.
        dropped: the rows that left (`columns.DROPPED`), of all tasks; default: those that the tables' lineage knows.
            Each goes to the task it names; one that names no published task goes to all of them.
        provenance: facts to add to provenance.json, such as where a table came from whose trail ends.
        card: for the card of the layout "hub": title, license, language, source_datasets and other metadata.
        cassette: add each task's tool executions as the config "task-cassette" (`cassette`), from which stage 2 can be
            built again without its tools.

    Returns:
        the folder.

    Raises:
        InputError: the folder exists and holds something else; a name, version or table that cannot be published, such
            as one without any rows.
        MissingColumns: `dropped` is no ledger.
        UnknownName: an unknown layout.
    """
    if layout not in LAYOUTS:
        raise UnknownName("layout", layout, LAYOUTS)
    given = _checked(tables, version)
    splits = _with_rows(given)
    if layout != "hub":
        if card:
            raise InputError(f"the layout {layout!r} has no card: leave card= out, or publish with layout='hub'")
        if cassette:
            raise InputError(f"the layout {layout!r} has no place for a cassette: publish with layout='hub'")
        check_tables(splits)
    if dropped is not None:
        _check_ledger(dropped)
    if cassette:
        _add_cassettes(splits)
    out = Path(out).resolve()  # a link to a folder stays one
    with _lock_of(out), replace_folder(out) as folder, hide_progress_bars():
        refuse_foreign(out)
        ways = {
            task: {name: given[task].get(name, {}) | named[name] for name in named} for task, named in splits.items()
        }
        told = {**(provenance or {}), "version": version, **provenance_of(_configs(ways))}
        LAYOUTS[layout](folder, splits, _ledgers(ways, dropped), told, dict(card or {}))
        _write_json(folder / "provenance.json", told)
    return out


# What is published ----------------------------------------------------------------------------------------------------


def _checked(tables: Tables, version: str) -> Splits:
    """The tables by split, or an error that says what cannot be published."""
    if not VERSION.fullmatch(str(version)):
        raise InputError(f"version must be three numbers like '1.2.3', found {version!r}")
    shape = 'publish takes {task: {name: table}}, such as {"math": {"stage1": stage1}}'
    if not isinstance(tables, Mapping) or isinstance(tables, DatasetDict):
        raise InputError(f"{shape}; found a {type(tables).__name__}")
    splits: Splits = {}
    for task, named in tables.items():
        if not isinstance(named, Mapping) or isinstance(named, DatasetDict):
            raise InputError(f"{shape}; found a {type(named).__name__} at {task!r}")
        for name, table in named.items():
            if not isinstance(table, (Dataset, DatasetDict)):
                found = f"a {type(table).__name__} at {task!r}, {name!r}"
                raise InputError(f"{shape}; found {found}: a table is a Dataset or a DatasetDict")
            splits.setdefault(task, {})[name] = dict(table) if isinstance(table, DatasetDict) else {"train": table}
    if not splits or any(not table for named in splits.values() for table in named.values()):
        raise InputError("publish needs at least one table, and every table at least one split")
    seen: dict[str, tuple[str, str]] = {}
    for task, name, split, _ in _each(splits):
        for what, text, form in (("task", task, NAME), ("table", name, NAME), ("split", split, SPLIT)):
            if not isinstance(text, str) or not form.fullmatch(text):
                signs = "letters A-Z, digits and _" + (" . -, the first no . or -" if form is NAME else "")
                raise InputError(f"the name of a {what} is made of {signs}; found {text!r}")
        if name == "dropped" or name.endswith("-dropped"):
            raise InputError(f"a table cannot be named {name!r}, the config of the rows that left: pass dropped=")
        if seen.setdefault(_config(task, name), (task, name)) != (task, name):
            raise InputError(f"two tables would be the config {_config(task, name)!r}: rename one")
    return splits


def _with_rows(given: Splits) -> Splits:
    """The tables without their empty splits, which `load_dataset` cannot read; what is said of them stays."""
    splits: Splits = {}
    for task, name in ((task, name) for task, named in given.items() for name in named):
        table = given[task][name]
        splits.setdefault(task, {})[name] = kept = {split: data for split, data in table.items() if len(data)}
        empty, config = ", ".join(split for split in table if split not in kept), _config(task, name)
        if not kept:
            raise InputError(f"no rows to publish in {config} ({empty}): `ledger([table])` says why each row left")
        if empty:
            log.warning("%s: left out %s, which holds no rows: `ledger` says why each row left", config, empty)
    return splits


def _check_ledger(dropped: Dataset) -> None:
    if not isinstance(dropped, Dataset):
        raise InputError(f"dropped= takes one Dataset, found a {type(dropped).__name__}")
    if missing := [name for name in DROPPED if name not in dropped.column_names]:
        raise MissingColumns(f"dropped= lacks {', '.join(missing)}; found {', '.join(dropped.column_names)}")


def _ledgers(splits: Splits, dropped: Dataset | None) -> dict[str, Dataset]:
    """task -> the rows that left on the way to its tables; where there are none, the task is left out."""
    own = {task: [data for table in named.values() for data in table.values()] for task, named in splits.items()}
    # A key of `tables` may be a name of the user's own for rows of another task.
    names = {task: {task}.union(*(d.unique("task") for d in own[task] if "task" in d.column_names)) for task in own}
    known: set[str] = set().union(*names.values())
    ledgers = {}
    for task, tables in own.items():
        left = ledger(tables) if dropped is None else dropped
        rows = [i for i, name in enumerate(left["task"]) if name in names[task] or name not in known]
        if rows:  # load_dataset cannot read a split without rows
            ledgers[task] = left.select(rows)
    return ledgers


def _each(splits: Splits) -> Iterator[tuple[str, str, str, Dataset]]:
    for task, named in splits.items():
        for name, table in named.items():
            for split, data in table.items():
                yield task, name, split, data


def _config(task: str, name: str) -> str:
    return f"{task}-{name}"


def _configs(splits: Splits) -> dict[str, dict[str, Dataset]]:
    return {_config(task, name): table for task, named in splits.items() for name, table in named.items()}


def _add_cassettes(splits: Splits) -> None:
    """Add the tool executions behind each task's tables as one more table of it, where there are any."""
    for task, named in splits.items():
        if "cassette" in named:
            raise InputError(f"the table 'cassette' of {task!r} is the config of its tool executions: rename yours")
        tables = [data for table in named.values() for data in table.values() if "uses_tool" in data.column_names]
        table = collect_executions(tables) if tables else None
        if table is not None and len(table):
            named["cassette"] = {"train": table}


def _mixes(splits: Splits) -> dict[str, dict[str, list[str]]]:
    """config -> split -> configs that it joins, of every table that several tasks have with the same features."""
    mixes: dict[str, dict[str, list[str]]] = {}
    for name in dict.fromkeys(name for named in splits.values() for name in named):
        tables = {_config(task, name): named[name] for task, named in splits.items() if name in named}
        kinds = {repr(data.features) for table in tables.values() for data in table.values()}
        if len(tables) > 1 and len(kinds) == 1 and _config("mix", name) not in tables:
            for split in dict.fromkeys(split for table in tables.values() for split in table):
                joined = [config for config, table in tables.items() if split in table]
                mixes.setdefault(_config("mix", name), {})[split] = joined
    return mixes


# The folder -----------------------------------------------------------------------------------------------------------


def refuse_foreign(out: str | Path) -> None:
    """Raise InputError where a path holds something that `publish` did not write."""
    out = Path(out).resolve()
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "provenance.json").exists())):
        raise InputError(f"{out} exists and is not a published data set: choose another folder, or move it away")


def _lock_of(out: Path) -> filelock.BaseFileLock:
    """The lock of a folder, apart from it, since nothing of ours may stay beside a user's folder."""
    locks = home_dir() / "locks"
    locks.mkdir(exist_ok=True)
    return filelock.FileLock(locks / f"{digest(str(out))}.lock")


def _write_json(path: Path, value: Any) -> None:
    """Write a JSON file: sorted keys, UTF-8 as it is, a newline at the end."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")


# The layouts ----------------------------------------------------------------------------------------------------------


def _write_hub(
    folder: Path, splits: Splits, ledgers: Mapping[str, Dataset], provenance: Mapping[str, Any], card: Mapping[str, Any]
) -> None:
    configs = _configs(splits)
    configs |= {_config(task, "dropped"): {"train": left} for task, left in ledgers.items()}
    for config, table in configs.items():
        for split, data in table.items():
            _write_parquet(data, folder / config, split)
    write_card(folder, configs, provenance, card, _mixes(splits))


def _write_parquet(data: Dataset, folder: Path, split: str) -> None:
    folder.mkdir(exist_ok=True)
    shards = max(1, math.ceil((data.data.nbytes if len(data) else 0) / SHARD_BYTES))
    for i in range(shards):
        part = data.shard(shards, i, contiguous=True) if shards > 1 else data
        part.to_parquet(str(folder / f"{split}-{i:05d}-of-{shards:05d}.parquet"))


def _write_original(
    folder: Path,
    splits: Splits,
    ledgers: Mapping[str, Dataset],
    provenance: Mapping[str, Any],
    card: Mapping[str, Any],
    *,
    by_dataset: bool = False,
) -> None:
    # A row that names no published task stands in all ledgers, and in this one file once.
    dropped = {digest(row): row for left in ledgers.values() for row in left.select_columns(list(DROPPED))}
    write_trice(folder, splits, dropped.values(), by_dataset=by_dataset)


LAYOUTS: dict[str, Callable[..., None]] = {
    "hub": _write_hub,
    "trice": _write_original,
    "trice-old": functools.partial(_write_original, by_dataset=True),
}
