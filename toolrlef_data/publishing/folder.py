"""Publish tables to a folder that `load_dataset` reads without this package.

`placement` replaces the files of an earlier publication, and no others. The same tables produce the same bytes.
`trice.files.writer` writes the files in TRICE's format.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from toolrlef_data.checks import check_table
from toolrlef_data.choices import check_choice
from toolrlef_data.columns import DROPPED, STAGE2, STAGE2_LATER
from toolrlef_data.publishing.card.writing import misspelt_keys, write_card
from toolrlef_data.publishing.manifest import RECIPE, RESERVED, check_version
from toolrlef_data.publishing.parquet_files import is_read_unchanged, write_parquet
from toolrlef_data.publishing.placement import replace_publication, usable_path
from toolrlef_data.publishing.provenance import provenance_of
from toolrlef_data.publishing.recipe_file import RECIPE_KEY, RecipeFile
from toolrlef_data.records import InputError, MissingColumns
from toolrlef_data.tables.batches.mapping import hide_progress_bars
from toolrlef_data.tables.batches.memory import system_memory
from toolrlef_data.tables.identity import distinct
from toolrlef_data.tables.lineage import ledger, without_tasks
from toolrlef_data.trice.cassette import collect_executions
from toolrlef_data.trice.files.writer import check_tables, write_trice

__all__ = ["LAYOUTS", "publish"]

Tables = Mapping[str, Mapping[str, Dataset | DatasetDict]]
Splits = dict[str, dict[str, dict[str, Dataset]]]  # task -> table name -> split -> rows

log = logging.getLogger("toolrlef_data")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # valid as the name of a folder and of a config
LONGEST_NAME = 100  # characters; a folder has the names of a task and a table, and file names have up to 255
SPLIT = re.compile(r"[A-Za-z0-9_]+")  # valid in a file name from which `load_dataset` reads the split


@system_memory()
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
    recipe: RecipeFile | None = None,
    replace: bool = False,
) -> Path:
    """Write tables to a folder as a versioned data set.

    Args:
        tables: task -> table name -> table. A table becomes the config "task-name", a plain Dataset its split "train".
            If its rows have another task, a warning names both. Empty splits are skipped with a warning if the table
            has other rows. Tables with the same name and schema in several tasks are also published as the config "mix-
            name", which reads the files of those tasks.
        out: the folder. The files of an earlier publication in it are replaced; all other files stay as they are.
        version: the version of the data set, such as "1.0.0".
        layout: "hub" (default): one set of Parquet files per config and split, README.md with its figures, and
            provenance.json; "trice": TRICE's JSON Lines files by task; "trice-old": the same files by data set.
        dropped: the dropped rows of all tasks (`columns.DROPPED`); default: the ledger of the tables. A row is
            published with the task in its column `task`, or with all tasks if that task is not published.
        provenance: entries to add to provenance.json, such as the origin of a table with incomplete lineage.
        card: title, license, language, source_datasets and other metadata of the card; `tokenizer`, the model whose
            tokens the card counts; `columns`, your own columns with their meanings. For the layout "hub" only.
        cassette: whether to publish the tool executions of each task as the config "task-cassette", from which
            `build_stage2` can rebuild stage 2 without the tools. Default: False.
        recipe: the recipe that built the tables, which is published as recipe.yaml. Default: none.
        replace: whether to replace a newer version, or other rows under the same version. Default: False.

    Returns:
        The folder.

    Raises:
        InputError: the folder was not written by `publish`, has a newer version, other rows under the same version, or
            files that changed since. A name, version, table or key of `card` cannot be published, such as a table
            without rows.
        MissingColumns: `dropped` is not a ledger.
        UnknownName: an unknown layout.

    >>> import tempfile
    >>> table = Dataset.from_list([{"id": "1", "question": "1 + 1?"}])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     out = publish({"math": {"questions": table}}, f"{folder}/data", version="1.0.0")
    ...     print(sorted(path.name for path in out.iterdir()))
    ['README.md', 'figures', 'math-questions', 'provenance.json']
    """
    check_choice("layout", layout, LAYOUTS)
    expected = {"card": (card, Mapping), "provenance": (provenance, Mapping), "recipe": (recipe, RecipeFile)}
    for name, (value, kind) in {**expected, "cassette": (cassette, bool), "replace": (replace, bool)}.items():
        if not (isinstance(value, kind) or (value is None and name in expected)):
            raise InputError(f"{name}= must be a {kind.__name__}, found {value!r:.80}")
    if others := [key for key in card or () if not isinstance(key, str)]:
        raise InputError(f"card= must have texts as keys, found {others[0]!r:.80}")
    for key, known in misspelt_keys(card or {}).items():
        raise InputError(f"card= has the unknown key {key!r}: did you mean {known!r}?")
    all_splits = _split_tables(tables, version)
    splits = _without_empty(all_splits)
    if layout != "hub":
        given = {"card": card, "cassette": cassette, "recipe": recipe is not None}
        for name in [name for name, value in given.items() if value]:
            raise InputError(f"the layout {layout!r} has no {name}: omit {name}=, or publish with layout='hub'")
        check_tables(splits)
    else:
        _check_columns(splits)
    _warn_of_other_tasks(splits)
    if dropped is not None:
        _check_ledger(dropped)
    if cassette:
        _add_cassettes(splits)
    if reserved := sorted({*RESERVED, RECIPE_KEY}.intersection(provenance or ())):
        raise InputError(f"provenance= has the reserved key {reserved[0]!r}: rename it")
    out = usable_path(out, layout)
    recipe_text = recipe.text() if recipe is not None else ""

    def write(folder: Path) -> dict[str, Any]:
        # Empty splits are not written, but their lineage and ledger are.
        documented = {
            task: {name: all_splits[task].get(name, {}) | task_tables[name] for name in task_tables}
            for task, task_tables in splits.items()
        }
        facts = {**(provenance or {}), "version": version, **provenance_of(_configs(documented))}
        if recipe is not None:
            facts[RECIPE_KEY] = {"file": RECIPE, "commit": recipe.commit, "date": recipe.date}
            (folder / RECIPE).write_text(recipe_text, encoding="utf-8")
        LAYOUTS[layout](folder, splits, _ledgers(documented, dropped), facts, dict(card or {}))
        return facts

    with hide_progress_bars():
        replace_publication(out, write, version, layout=layout, replace=replace)
    return out


# Tables, configs and ledgers ------------------------------------------------------------------------------------------


def _split_tables(tables: Tables, version: str) -> Splits:
    """Return the tables by split; raise InputError for a shape, name or version that cannot be published."""
    check_version(version)
    shape = 'publish expects {task: {name: table}}, such as {"math": {"stage1": stage1}}'
    if not isinstance(tables, Mapping) or isinstance(tables, DatasetDict):
        raise InputError(f"{shape}; found a {type(tables).__name__}")
    splits: Splits = {}
    for task, task_tables in tables.items():
        if not isinstance(task_tables, Mapping) or isinstance(task_tables, DatasetDict):
            raise InputError(f"{shape}; found a {type(task_tables).__name__} at {task!r}")
        for name, table in task_tables.items():
            if not isinstance(table, (Dataset, DatasetDict)):
                found = f"a {type(table).__name__} at {task!r}, {name!r}"
                raise InputError(f"{shape}; found {found}: a table is a Dataset or a DatasetDict")
            table_splits = table if isinstance(table, DatasetDict) else {"train": table}
            splits.setdefault(task, {})[name] = {split: check_table(data) for split, data in table_splits.items()}
    if not splits or any(not table for task_tables in splits.values() for table in task_tables.values()):
        raise InputError("publish needs at least one table, and every table at least one split")
    config_tables: dict[str, tuple[str, str]] = {}
    for task, name, split, _ in _iter_splits(splits):
        for kind, text, pattern in (("task", task, NAME), ("table", name, NAME), ("split", split, SPLIT)):
            if isinstance(text, str) and len(text) > LONGEST_NAME:
                raise InputError(f"the name of a {kind} must have at most {LONGEST_NAME} characters; found {text!r}")
            if not isinstance(text, str) or not pattern.fullmatch(text):
                allowed = "letters A-Z, digits and _" + ("; also . and - after the first" if pattern is NAME else "")
                raise InputError(f"the name of a {kind} must consist of {allowed}; found {text!r}")
        if name == "dropped" or name.endswith("-dropped"):
            raise InputError(f"a table cannot be named {name!r}, which is reserved for the dropped rows: pass dropped=")
        if config_tables.setdefault(_config(task, name), (task, name)) != (task, name):
            raise InputError(f"two tables have the same config name {_config(task, name)!r}: rename one")
    return splits


def _without_empty(all_splits: Splits) -> Splits:
    """Return the tables without their empty splits, which `load_dataset` cannot read."""
    splits: Splits = {}
    for task, name in ((task, name) for task, task_tables in all_splits.items() for name in task_tables):
        table = all_splits[task][name]
        splits.setdefault(task, {})[name] = filled = {split: data for split, data in table.items() if len(data)}
        empty, config = ", ".join(split for split in table if split not in filled), _config(task, name)
        if not filled:
            raise InputError(f"no rows to publish in {config} ({empty}): `ledger([table])` lists the dropped rows")
        if empty:
            log.warning("%s: skipped %s, which has no rows: `ledger` lists the dropped rows", config, empty)
    return splits


def _check_columns(splits: Splits) -> None:
    """Raise InputError for splits of a config with different columns, which `load_dataset` cannot read or changes."""
    for config, table in _configs(splits).items():
        first, *others = table
        for split in others:
            features, expected = table[split].features, table[first].features
            different = sorted(features.keys() ^ expected.keys())
            if different:
                raise InputError(
                    f"{config}: expected the same columns in every split, found {', '.join(different)} only in one of "
                    f"{first} and {split}: build the split of an earlier version again, or publish it as another table"
                )
            if changed := [name for name in expected if not is_read_unchanged(expected[name], features[name])]:
                raise InputError(
                    f"{config}: expected the same features in every split, found {expected[changed[0]]} in {first} and "
                    f"{features[changed[0]]} in {split} for {changed[0]}: `cast` one of them"
                )
        lacking = [name for name in STAGE2 if name not in table[first].column_names]
        if lacking and set(lacking) <= STAGE2_LATER:
            log.warning("%s: a table of an earlier version, without the columns %s", config, ", ".join(lacking))


def _check_ledger(dropped: Dataset) -> None:
    if not isinstance(dropped, Dataset):
        raise InputError(f"dropped= expects one Dataset, found a {type(dropped).__name__}")
    if missing := [name for name in DROPPED if name not in dropped.column_names]:
        raise MissingColumns(f"dropped= lacks {', '.join(missing)}; found {', '.join(dropped.column_names)}")


def _ledgers(splits: Splits, dropped: Dataset | None) -> dict[str, Dataset]:
    """Return task -> its dropped rows, without tasks that have none."""
    tables = {
        task: [data for table in task_tables.values() for data in table.values()]
        for task, task_tables in splits.items()
    }
    # The user can publish rows of one task under another name.
    row_tasks = {task: {task}.union(*map(_tasks_in, parts)) for task, parts in tables.items()}
    published: set[str] = set().union(*row_tasks.values())
    ledgers = {}
    for task, parts in tables.items():
        drops = ledger(parts) if dropped is None else dropped
        drops = without_tasks(drops, published - row_tasks[task])
        if len(drops):  # load_dataset cannot read a split without rows
            ledgers[task] = drops
    return ledgers


def _warn_of_other_tasks(splits: Splits) -> None:
    """Log a warning if questions of one task are published under the name of another, on purpose or by mistake."""
    others: dict[str, set[str]] = {}
    for task, _, _, data in _iter_splits(splits):
        if "answers" in data.column_names:  # the task of trajectories is any name
            others.setdefault(task, set()).update(_tasks_in(data) - {task})
    for task, names in others.items():
        if names:
            found = ", ".join(map(repr, sorted(names)))
            log.warning("the tables published as %r have rows of the task %s: is the name meant so?", task, found)


def _tasks_in(data: Dataset) -> set[str]:
    """Return the values of the column `task`; empty if there is none."""
    return set(data.unique("task")) - {None} if "task" in data.column_names else set()


def _iter_splits(splits: Splits) -> Iterator[tuple[str, str, str, Dataset]]:
    for task, task_tables in splits.items():
        for name, table in task_tables.items():
            for split, data in table.items():
                yield task, name, split, data


def _config(task: str, name: str) -> str:
    return f"{task}-{name}"


def _configs(splits: Splits) -> dict[str, dict[str, Dataset]]:
    return {_config(task, name): table for task, task_tables in splits.items() for name, table in task_tables.items()}


def _add_cassettes(splits: Splits) -> None:
    """Add the tool executions of each task, if any, to its tables."""
    for task, task_tables in splits.items():
        if "cassette" in task_tables:
            raise InputError(f"the table name 'cassette' of {task!r} is reserved for tool executions: rename the table")
        tables = [data for table in task_tables.values() for data in table.values() if "uses_tool" in data.column_names]
        table = collect_executions(tables) if tables else None
        if table is not None and len(table):
            task_tables["cassette"] = {"train": table}


def _mixes(splits: Splits) -> dict[str, dict[str, list[str]]]:
    """Return mix config -> split -> joined configs, for each table that several tasks have with the same features."""
    mixes: dict[str, dict[str, list[str]]] = {}
    for name in dict.fromkeys(name for task_tables in splits.values() for name in task_tables):
        tables = {_config(task, name): task_tables[name] for task, task_tables in splits.items() if name in task_tables}
        schemas = {repr(data.features) for table in tables.values() for data in table.values()}
        if len(tables) > 1 and len(schemas) > 1:
            log.warning("no %s: %s have different columns", _config("mix", name), " and ".join(tables))
        if len(tables) > 1 and len(schemas) == 1 and _config("mix", name) not in tables:
            for split in dict.fromkeys(split for table in tables.values() for split in table):
                joined = [config for config, table in tables.items() if split in table]
                mixes.setdefault(_config("mix", name), {})[split] = joined
    return mixes


# Layouts --------------------------------------------------------------------------------------------------------------


def _write_hub(
    folder: Path, splits: Splits, ledgers: Mapping[str, Dataset], provenance: Mapping[str, Any], card: Mapping[str, Any]
) -> None:
    configs = _configs(splits)
    configs |= {_config(task, "dropped"): {"train": drops} for task, drops in ledgers.items()}
    for config, table in configs.items():
        for split, data in table.items():
            write_parquet(data, folder / config, split)
    write_card(folder, configs, provenance, card, _mixes(splits))


def _write_trice(
    folder: Path, splits: Splits, ledgers: Mapping[str, Dataset], *unused: Mapping[str, Any], by_dataset: bool = False
) -> None:
    # A row of an unpublished task is in every ledger, but only once in this file.
    dropped = distinct(row for drops in ledgers.values() for row in drops.select_columns(list(DROPPED)))
    write_trice(folder, splits, dropped, by_dataset=by_dataset)


LAYOUTS: dict[str, Callable[..., None]] = {
    "hub": _write_hub,
    "trice": _write_trice,
    "trice-old": functools.partial(_write_trice, by_dataset=True),
}
