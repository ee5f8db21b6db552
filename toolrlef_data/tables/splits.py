"""splits: train and test by query, and a random order of all steps."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from datasets import Dataset, DatasetDict

from toolrlef_data.records import InputError
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.identity import normal_form, text_hash
from toolrlef_data.tables.stage_cache import as_arrow, facts_of, materialize, write_record
from toolrlef_data.tables.transform import require_columns

__all__ = ["SHUFFLE", "shuffle_steps", "split_queries"]

SHUFFLE = "shuffle_steps"  # the step in records

D = TypeVar("D", bound="Dataset | DatasetDict")


def split_queries(answers: Dataset, test: float = 0.1, seed: int = 0) -> DatasetDict:
    """Train and test; all files of one query go to the same side, whatever other files there are.

    Args:
        answers: a table with the column `query`; what is made of one is best split before it is taken apart.
        test: share of the queries, between 0 and 1; which ones depends on each query and the seed alone.
        seed: another one draws others.

    >>> from toolrlef_data import load_source, split_queries
    >>> parts = split_queries(load_source("sample_trajectories"), test=0.3)
    >>> set(parts["train"]["query"][:]) & set(parts["test"]["query"][:])
    set()
    """
    if not isinstance(answers, Dataset):
        raise InputError(f"split_queries takes one Dataset, found a {type(answers).__name__}")
    if isinstance(test, bool) or not isinstance(test, (int, float)) or not 0 < test < 1:
        raise InputError(f"test is a share between 0 and 1, found {test!r}")
    answers = materialize(answers)
    require_columns(answers, ["query"], "split_queries")
    drawn = [
        random.Random(f"{seed}:{normal_form(query or '')}").random() < test
        for batch in as_arrow(answers, ["query"]).iter(1000)
        for query in batch.column("query").to_pylist()
    ]
    here = np.array(drawn, dtype=bool)
    settings = {"test": test, "seed": seed}
    sides = {"train": np.flatnonzero(~here), "test": np.flatnonzero(here)}
    return DatasetDict(
        {side: _selected(answers, rows, f"split_queries: {side}", settings) for side, rows in sides.items()}
    )


def shuffle_steps(samples: D, seed: int = 0) -> D:
    """All rows in a random order that depends on each row's id and the seed alone.

    >>> from datasets import Dataset
    >>> shuffle_steps(Dataset.from_dict({"id": ["a", "b", "c"]}))["id"][:]
    ['c', 'b', 'a']
    """
    if isinstance(samples, DatasetDict):
        return DatasetDict({split: shuffle_steps(data, seed) for split, data in samples.items()})
    data = materialize(samples)
    require_columns(data, ["id"], SHUFFLE)
    ranks = [
        text_hash(f"{seed}:{row_id}")
        for batch in as_arrow(data, ["id"]).iter(10_000)
        for row_id in batch.column("id").to_pylist()
    ]
    return _selected(data, np.argsort(np.array(ranks, np.uint64), kind="stable"), SHUFFLE, {"seed": seed})


def _selected(data: Dataset, rows: Any, name: str, settings: Mapping[str, Any]) -> Dataset:
    part = data.select(rows)
    part._fingerprint = digest(data._fingerprint, name, settings)
    write_record(part._fingerprint, {**facts_of(name, [data], settings, part), "rows_in": len(part)})
    return part
