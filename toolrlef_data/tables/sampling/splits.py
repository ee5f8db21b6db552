"""Train and test splits by query, and a reproducible shuffle of training samples."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from datasets import Dataset, DatasetDict

from toolrlef_data.checks import check_table, check_type, require_columns
from toolrlef_data.records import InputError
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.identity import check_ids, normal_form, text_hash
from toolrlef_data.tables.row_files import materialize
from toolrlef_data.tables.stage_cache import as_arrow, build_record, write_record

__all__ = ["SHUFFLE", "shuffle_steps", "split_queries"]

SHUFFLE = "shuffle_steps"  # the stage name in the lineage

D = TypeVar("D", bound="Dataset | DatasetDict")


def split_queries(answers: Dataset, test: float = 0.1, seed: int = 0) -> DatasetDict:
    """Split answer files by query; all files of a query are in the same split.

    Args:
        answers: a table of answer files with the column `query`; split it before `trajectories` builds samples from it.
        test: share of the queries in the test split, between 0 and 1; default: 0.1.
        seed: seed of the random draw; default: 0. The split of a query depends only on the query and the seed.

    Returns:
        A DatasetDict with the splits "train" and "test".

    Raises:
        InputError: `answers` is not a Dataset, or `test` is not between 0 and 1.
        MissingColumns: `answers` has no column `query`.

    >>> from toolrlef_data import load_source, split_queries
    >>> parts = split_queries(load_source("sample_trajectories"), test=0.3)
    >>> set(parts["train"]["query"][:]) & set(parts["test"]["query"][:])
    set()
    """
    if not isinstance(answers, Dataset):
        raise InputError(f"split_queries: expected a datasets.Dataset, found {type(answers).__name__}")
    if isinstance(test, bool) or not isinstance(test, (int, float)) or not 0 < test < 1:
        raise InputError(f"split_queries: expected test between 0 and 1, found {test!r}")
    check_type("seed", seed, "an integer", int)
    check_table(answers)
    answers = materialize(answers)
    require_columns(answers, ["query"], "split_queries")
    is_test = (
        random.Random(f"{seed}:{normal_form(query or '')}").random() < test
        for batch in as_arrow(answers, ["query"]).iter(1000)
        for query in batch.column("query").to_pylist()
    )
    mask = np.fromiter(is_test, bool)
    settings = {"test": test, "seed": seed}
    splits = {"train": np.flatnonzero(~mask), "test": np.flatnonzero(mask)}
    return DatasetDict(
        {split: _select_rows(answers, rows, f"split_queries: {split}", settings) for split, rows in splits.items()}
    )


def shuffle_steps(samples: D, seed: int = 0) -> D:
    """Shuffle the rows of a table; the order depends only on the ids and the seed.

    Args:
        samples: a Dataset, or a DatasetDict whose splits are shuffled separately; needs the column `id`.
        seed: seed of the order; default: 0.

    Returns:
        All rows of the table in the new order.

    Raises:
        MissingColumns: the table has no column `id`.

    >>> from datasets import Dataset
    >>> shuffle_steps(Dataset.from_dict({"id": ["a", "b", "c"]}))["id"][:]
    ['c', 'b', 'a']
    """
    check_type("seed", seed, "an integer", int)
    if isinstance(samples, DatasetDict):
        return DatasetDict({split: shuffle_steps(data, seed) for split, data in samples.items()})
    check_table(samples)
    data = materialize(samples)
    require_columns(data, ["id"], SHUFFLE)
    ranks = (
        text_hash(f"{seed}:{row_id}")
        for batch in as_arrow(data, ["id"]).iter(10_000)
        for row_id in batch.column("id").to_pylist()
    )
    return _select_rows(data, np.argsort(np.fromiter(ranks, np.uint64), kind="stable"), SHUFFLE, {"seed": seed})


def _select_rows(data: Dataset, rows: Any, name: str, settings: Mapping[str, Any]) -> Dataset:
    """Return the rows with the given numbers, with a lineage record; the other rows do not count as dropped."""
    check_ids(data)
    key = digest(data._fingerprint, name, settings)
    selection = copy.copy(data).select(rows, new_fingerprint=key)
    selection._fingerprint = key  # of a table without rows, `select` returns the copy
    write_record(selection._fingerprint, {**build_record(name, [data], settings, selection), "rows_in": len(selection)})
    return selection
