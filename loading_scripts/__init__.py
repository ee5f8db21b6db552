"""Sources: upstream's data as the questions table. One file a source; `SOURCES` names them.

Each file holds a `datasets.GeneratorBasedBuilder`, used directly, because `load_dataset` no longer runs loading
scripts. It reads upstream's own files from `data_dir=`, else the Hub's Parquet, and is runnable:

    python -m toolrlef_data.loading_scripts.gsm8k --data-dir DIR --out DIR

To add a source, write a file with a subclass of `base.Source` and a line in `SOURCES`. One of other rows than
questions, as toolbench, is a subclass of `base.TableSource`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolrlef_data.records import Choices, InputError

if TYPE_CHECKING:
    from datasets import Dataset

    from toolrlef_data.loading_scripts.base import Tables, TableSource

__all__ = ["SOURCES", "load_source", "prepare"]

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


def load_source(name: str, split: str | None = None, data_dir: str | Path | None = None, **options: Any) -> Dataset:
    """The questions of a source as an ordinary table on disk; a second load reads the cache.

    Args:
        name: one of `SOURCES`.
        split: as upstream calls it; may be left out where there is one. "dropped" gives the rows of all splits that
            the source cannot use, each with its reason.
        data_dir: a folder with upstream's own files (toolbench: or one file); without it, the Hub's Parquet is loaded.
        options: what the source lets one choose, as `cut=True` of trex; see its file.

    Raises:
        InputError: no such split (it lists the splits) or option, no such file, or rows that cannot be read.

    >>> from toolrlef_data import load_source
    >>> load_source("sample", split="train")[0]["id"]
    'sample-001'
    """
    from datasets import concatenate_datasets

    from toolrlef_data.tables.lineage import record_source

    tables = prepare(name, data_dir, **options)
    if split == "dropped":
        return concatenate_datasets(list(tables.dropped.values()))
    split = _known_split(name, split, tables)
    questions, dropped = tables.questions[split], tables.dropped[split]
    record_source(questions, f"source {name}", {"split": split, "read_from": tables.read_from, **options}, dropped)
    return questions


def prepare(name: str, data_dir: str | Path | None = None, **options: Any) -> Tables:
    """All splits of a source: `questions` and `dropped`, each a table by split."""
    from toolrlef_data.loading_scripts.base import tables_of

    return tables_of(SOURCES[name], data_dir, **options)


def _known_split(name: str, split: str | None, tables: Tables) -> str:
    splits = list(tables.questions)
    if split is None and len(splits) == 1:
        return splits[0]
    if split not in splits:
        found = "no split was named" if split is None else f"unknown split {split!r}"
        raise InputError(f"source {name}: {found}; choose from: {', '.join([*splits, 'dropped'])}")
    return split
