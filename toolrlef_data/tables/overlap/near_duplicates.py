"""Near-duplicates: rows whose texts have nearly the same word shingles, within a table or between two tables.

Candidates come from MinHash signatures, which are a cached stage of their own; each candidate is compared exactly. The
memory grows by about 40 bytes a row, and by 8 bytes a candidate.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict, Features, Value

from toolrlef_data.checks import check_table, check_type, require_columns
from toolrlef_data.records import InputError
from toolrlef_data.tables.batches.mapping import (
    by_split,
    check_num_proc,
    map_batches,
    stage_key,
)
from toolrlef_data.tables.files import scratch_file
from toolrlef_data.tables.identity import Hashes, RowNumbers, check_ids
from toolrlef_data.tables.overlap.minhash import band_sizes, bands, candidate_pairs, jaccard, shingles
from toolrlef_data.tables.overlap.removal import drop_listed, table_text_column
from toolrlef_data.tables.row_files import materialize, spool
from toolrlef_data.tables.stage_cache import (
    as_arrow,
    build_record,
    load_stage,
    read_record,
    stages_dir,
    store_files,
    write_record,
)

__all__ = ["NEAR_DUPLICATES", "drop_near_duplicates", "near_duplicates"]

D = TypeVar("D", bound="Dataset | DatasetDict")
STRING = Value("string")
NEAR_DUPLICATES = Features(
    id=STRING,
    other_id=STRING,  # of the first row that is similar
    similarity=Value("float64"),
    text=STRING,
    other_text=STRING,
)


def near_duplicates(
    data: D,
    other: Dataset | None = None,
    *,
    threshold: float = 0.8,
    column: str | None = None,
    ignore_numbers: bool = False,
    num_proc: int | None = None,
) -> D:
    """List the rows that are similar to an earlier row, or to a row of another table.

    The similarity of two texts is the Jaccard index of their sets of runs of 3 words, without case and punctuation. One
    other word among 30 gives about 0.8. MinHash finds at least 99 % of the pairs at the threshold, and all equal texts;
    each pair that it finds is compared exactly. Of many rows with an equal band of their signatures, each is compared
    with the first 10, and with the 10 before it.

    Args:
        data: a Dataset, or a DatasetDict whose splits are searched separately, with the column `id`.
        other: a table with the same column of texts, and `id`. Default: the earlier rows of `data`.
        threshold: least similarity, from 0.1 to 1; default: 0.8.
        column: the column with the text. Default: the first of `question`, `query`, `problem`, `text`, `prompt` and
            `instruction`.
        ignore_numbers: whether all numbers are equal; default: False.
        num_proc: number of processes for the signatures; does not change the result. Default: one.

    Returns:
        One row for each row with a near-duplicate, in the order of `data`: id, other_id (the first similar row that was
        compared), similarity, text and other_text. Its lineage has the threshold, and the numbers of pairs checked and
        found.

    Raises:
        InputError: a column is missing, ids are null or not unique, or the threshold is out of range.

    >>> from datasets import Dataset
    >>> texts = ["Ann gives two of the red pens to Ben.", "", "ann gives two of the red pens to ben"]
    >>> pairs = near_duplicates(Dataset.from_dict({"id": ["a", "b", "c"], "question": texts}))
    >>> pairs["id"][:], pairs["other_id"][:], pairs["similarity"][:]
    (['c'], ['a'], [1.0])
    """
    search = _settings(data, other, threshold, column, ignore_numbers, num_proc)
    return by_split(data, lambda split: _find(split, other, search, num_proc))


def drop_near_duplicates(
    data: D,
    other: Dataset | None = None,
    *,
    threshold: float = 0.8,
    column: str | None = None,
    ignore_numbers: bool = False,
    num_proc: int | None = None,
) -> D:
    """Drop the rows that are similar to an earlier row, or to a row of another table.

    Of rows that are similar in a chain, the first is kept.

    Args:
        data, other, threshold, column, ignore_numbers, num_proc: as in `near_duplicates`.

    Returns:
        The table without these rows. The ledger has the reason `near_duplicate`, with both texts.

    Raises:
        InputError: as in `near_duplicates`.

    >>> from toolrlef_data import load_source
    >>> train = load_source("sample", split="train")
    >>> len(train) - len(drop_near_duplicates(train, train.select(range(4))))
    4
    """
    search = _settings(data, other, threshold, column, ignore_numbers, num_proc)

    def on_split(split: Dataset) -> Dataset:
        split = materialize(split)
        pairs = _find(split, other, search, num_proc)
        record = read_record(pairs._fingerprint) or {}
        counted = replace(search, checked=record["published"]["pairs_checked"], found=len(pairs))
        return drop_listed(split, pairs, counted, "near duplicates", "near_duplicate", num_proc)

    return by_split(data, on_split)


@dataclass(frozen=True, slots=True)
class _Search:
    """The settings of a search; the numbers of pairs are those of its result, or 0 before it."""

    threshold: float
    column: str
    ignore_numbers: bool
    checked: int = 0
    found: int = 0

    def published(self) -> dict[str, Any]:
        """Return the settings that are published."""
        settings = {"threshold": self.threshold, "column": self.column, "ignore_numbers": self.ignore_numbers}
        return {**settings, "pairs_checked": self.checked, "pairs_found": self.found}


def _settings(
    data: Dataset | DatasetDict,
    other: Dataset | None,
    threshold: float,
    column: str | None,
    ignore_numbers: bool,
    num_proc: int | None,
) -> _Search:
    check_table(data)
    check_num_proc(num_proc)
    check_type("ignore_numbers", ignore_numbers, "True or False", bool)
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0.1 <= threshold <= 1:
        raise InputError(f"threshold must be a number from 0.1 to 1, found {threshold!r:.80}")
    if other is not None and not isinstance(other, Dataset):
        raise InputError(f"other: expected a Dataset, such as a split, found {type(other).__name__}")
    column = table_text_column(data, column, "near_duplicates")
    if other is not None:
        table_text_column(other, column, "near_duplicates, other")
    return _Search(float(threshold), column, ignore_numbers)


def _find(data: Dataset, other: Dataset | None, search: _Search, num_proc: int | None) -> Dataset:
    """Return the near-duplicates of one table (`NEAR_DUPLICATES`), from the cache if they are known."""
    tables = [materialize(table) for table in (other, data) if table is not None]
    for table in tables:
        require_columns(table, ["id", search.column], "near_duplicates")
    key = stage_key(tables[-1], near_duplicates, [search, [table._fingerprint for table in tables]], NEAR_DUPLICATES)
    if (cached := load_stage(key)) is not None:
        return cached
    for table in tables:
        check_ids(table)
    candidates = _candidates(tables, search, num_proc)
    checked: Counter[str] = Counter()
    with scratch_file(stages_dir()) as scratch:
        spool(_similar_pairs(tables, candidates, search, checked), NEAR_DUPLICATES.arrow_schema, scratch)
        result = store_files([scratch], key)
    counted = replace(search, checked=checked["pairs"], found=len(result))
    write_record(key, build_record("near_duplicates", tables[::-1], counted, result))
    return result


def _candidates(tables: list[Dataset], search: _Search, num_proc: int | None) -> RowNumbers:
    """Return the pairs of rows to compare, as in `candidate_pairs`, of tables one after the other."""
    count, size = band_sizes(search.threshold)
    features = Features({f"band{i}": Value("uint64") for i in range(count + 1)})
    settings = {"column": search.column, "ignore_numbers": search.ignore_numbers, "count": count, "size": size}
    signatures = []
    for table in tables:
        key = stage_key(table, _bands_of_batch, settings, features)
        signature = load_stage(key)
        if signature is None:
            batch_function = functools.partial(_bands_of_batch, settings=settings)
            signature = map_batches(table, batch_function, features, key, "minhash", num_proc)
            write_record(key, build_record("minhash", [table], settings, signature))
        signatures.append(as_arrow(signature))
    others = len(tables[0]) if len(tables) > 1 else 0
    pairs = np.zeros(0, np.int64)
    for name in features:
        columns = [column.to_numpy() for table in signatures for column in table.data.column(name).chunks]
        pairs = np.union1d(pairs, candidate_pairs(np.concatenate([np.zeros(0, np.uint64), *columns]), others))
    return pairs


def _bands_of_batch(table: pa.Table, settings: Mapping[str, Any]) -> pa.Table:
    """Return the bands of the texts of a batch."""
    texts = table.column(settings["column"]).to_pylist()
    hashes = [shingles(text or "", settings["ignore_numbers"]) for text in texts]
    columns = bands(hashes, settings["count"], settings["size"])
    return pa.table({f"band{i}": column for i, column in enumerate(columns)})


def _similar_pairs(
    tables: list[Dataset], pairs: RowNumbers, search: _Search, checked: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Yield for each later row the first earlier row of the pairs whose similarity reaches the threshold.

    The number of compared pairs is added to `checked["pairs"]`.
    """
    columns = [as_arrow(table, ["id", search.column]) for table in tables]
    rows, offset = sum(map(len, tables)), len(tables[0])

    @functools.lru_cache(10_000)
    def read(row: int) -> tuple[str, str, Hashes]:
        table, row = (columns[0], row) if row < offset else (columns[1], row - offset)
        batch = table[row : row + 1]
        row_id, text = batch.column("id")[0].as_py(), batch.column(search.column)[0].as_py()
        return row_id, text, shingles(text, search.ignore_numbers)

    previous = -1
    for pair in pairs.tolist():
        later, earlier = divmod(pair, rows)
        if later == previous:
            continue
        checked["pairs"] += 1
        row_id, text, hashes = read(later)
        other_id, other_text, other_hashes = read(earlier)
        similarity = jaccard(hashes, other_hashes)
        if similarity >= search.threshold:
            previous = later
            texts = {"text": text, "other_text": other_text}
            yield {"id": row_id, "other_id": other_id, "similarity": similarity, **texts}
