"""Sources: loaders that convert upstream data into a table. `SOURCES` lists them, one file each.

Each file defines a builder of `datasets`, such as a `GeneratorBasedBuilder`. This package calls the builders directly,
because `load_dataset` no longer runs loading scripts. A builder reads upstream's files from `data_dir=`. By default it
reads the Parquet files on the Hub, or bundled files. Each file is also a command:

    python -m toolrlef_data.loading_scripts.gsm8k --data-dir DIR --out DIR

`own/` reads your own questions: `make_questions`, and files or data sets of the Hub by `load_source`. `test_sets/`
drops questions that overlap test sets.

To add a source of questions, write a file with a subclass of `base.Source` and add it to `SOURCES`. A source of other
rows, such as toolbench, is a subclass of `base.TableSource`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolrlef_data.choices import Choices
from toolrlef_data.records import InputError

if TYPE_CHECKING:
    from datasets import Dataset

    from toolrlef_data.loading_scripts.base import TableSource
    from toolrlef_data.loading_scripts.command import Tables

__all__ = ["SOURCES", "load_source", "load_tables"]

SOURCES: Choices[type[TableSource]] = Choices(
    "source",
    {
        "addsub": "toolrlef_data.loading_scripts.addsub:Addsub",
        "asdiv": "toolrlef_data.loading_scripts.asdiv:Asdiv",
        "gsm8k": "toolrlef_data.loading_scripts.gsm8k:Gsm8k",
        "hotpotqa": "toolrlef_data.loading_scripts.hotpotqa:Hotpotqa",
        "mlqa": "toolrlef_data.loading_scripts.mlqa:Mlqa",
        "multiarith": "toolrlef_data.loading_scripts.multiarith:Multiarith",
        "nq_open": "toolrlef_data.loading_scripts.nq_open:NqOpen",
        "sample": "toolrlef_data.loading_scripts.sample:Sample",
        "sample_lama": "toolrlef_data.loading_scripts.sample:SampleLama",
        "sample_mlqa": "toolrlef_data.loading_scripts.sample:SampleMlqa",
        "sample_qa": "toolrlef_data.loading_scripts.sample:SampleQa",
        "sample_trajectories": "toolrlef_data.loading_scripts.sample:SampleTrajectories",
        "squad": "toolrlef_data.loading_scripts.squad:Squad",
        "svamp": "toolrlef_data.loading_scripts.svamp:Svamp",
        "toolbench": "toolrlef_data.loading_scripts.toolbench:Toolbench",
        "trex": "toolrlef_data.loading_scripts.trex:Trex",
        "triviaqa": "toolrlef_data.loading_scripts.triviaqa:Triviaqa",
        "webquestions": "toolrlef_data.loading_scripts.webquestions:Webquestions",
    },
)


def load_source(
    name: str | Path, split: str | None = None, data_dir: str | Path | None = None, **options: Any
) -> Dataset:
    """Load a split of a source as a table on disk; loading a named source again reads the cache.

    Args:
        name: a name in `SOURCES`; or the path of a CSV, TSV, JSON, JSON Lines or Parquet file, or of a folder of these;
            or "hub:org/name", a data set on the Hub. CSV values are read as texts.
        split: upstream's name of the split. Default: the only split. "dropped" selects the dropped rows of all splits
            of a named source. For a file it is the name of its split, "train" by default.
        data_dir: a folder with upstream's files; for toolbench also a single file. Default: the Parquet files on the
            Hub, or for the samples the bundled files.
        options: options of the source, such as `cut=True` of trex; see the source's docstring. For a file, a folder or
            the Hub: the arguments of `make_questions`, with the name of the file as default of `dataset`; for the Hub
            also `config` and `revision`.

    Returns:
        The questions of the split (columns `columns.QUESTIONS`), the answer files of toolbench (`columns.ANSWERS`), or
        the dropped rows with their reasons (`columns.DROPPED`).

    Raises:
        InputError: unknown source, split or option (the message lists the choices), missing file, or unreadable rows.

    >>> from toolrlef_data import load_source
    >>> load_source("sample", split="train")[0]["id"]
    'sample-001'
    """
    from datasets import concatenate_datasets

    from toolrlef_data.loading_scripts.own.files import is_own_source
    from toolrlef_data.tables.lineage import record_source

    name = str(name) if isinstance(name, Path) else name
    if isinstance(name, str) and name not in SOURCES and is_own_source(name):
        from toolrlef_data.loading_scripts.own.questions import load_own

        if data_dir is not None:
            raise InputError(f"{name}: data_dir= belongs to the sources of this package")
        return load_own(name, split, **options)
    tables = load_tables(name, data_dir, **options)
    if split == "dropped":
        return concatenate_datasets(list(tables.dropped.values()))
    split = _resolve_split(name, split, tables)
    questions, dropped = tables.questions[split], tables.dropped[split]
    record_source(questions, f"source {name}", {"split": split, "read_from": tables.read_from, **options}, dropped)
    return questions


def load_tables(name: str, data_dir: str | Path | None = None, **options: Any) -> Tables:
    """Load all splits of a source, each as a table of usable rows and a table of dropped rows."""
    from toolrlef_data.loading_scripts.command import build_tables

    return build_tables(SOURCES[name], data_dir, **options)


def _resolve_split(name: str, split: str | None, tables: Tables) -> str:
    splits = list(tables.questions)
    if split is None and len(splits) == 1:
        return splits[0]
    if split not in splits:
        problem = "split= is missing" if split is None else f"unknown split {split!r}"
        raise InputError(f"source {name}: {problem}; choose from: {', '.join([*splits, 'dropped'])}")
    return split
