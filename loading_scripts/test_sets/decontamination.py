"""`decontaminate` and `overlaps`: the rows of a table that overlap test questions, dropped or listed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict

from toolrlef_data.checks import check_table, check_type
from toolrlef_data.loading_scripts.test_sets.reading import read_test_sets
from toolrlef_data.records import InputError
from toolrlef_data.tables.batches.mapping import by_split, check_num_proc
from toolrlef_data.tables.overlap.removal import table_text_column
from toolrlef_data.tables.overlap.stage import OverlapSearch, drop_overlaps, find_overlaps
from toolrlef_data.tables.stage_cache import arrow_files

__all__ = ["decontaminate", "overlaps"]

D = TypeVar("D", bound="Dataset | DatasetDict")
MIN_N = 5


def decontaminate(
    data: D,
    against: Any,
    *,
    n: int = 13,
    data_dir: str | Path | None = None,
    column: str | None = None,
    against_column: str | None = None,
    ignore_numbers: bool = True,
    num_proc: int | None = None,
) -> D:
    """Drop the rows that overlap a question of a test set, and record them in the ledger.

    A row overlaps a test question if they have n words in a row in common (kind `words`), if they differ only in
    numbers (`numbers`), or if they have the same sentences in another order (`order`). Case and punctuation do not
    count. For the exact rules, and those of short questions, see the module `tables.overlap.search`.

    Args:
        data: a Dataset, or a DatasetDict whose splits are compared separately, with the column `id`.
        against: a table; the path of a CSV, TSV, JSON, JSON Lines, Parquet or text file (one question a line); the name
            of a source; or a list of these. Of a source, all splits but "train" are read, or its only split.
        n: number of words of an n-gram; default: 13, as in GPT-3 (arXiv 2005.14165, appendix C).
        data_dir: the folder with the files of the named sources, or with a folder of each source's name, such as
            "gsm8k". Default: as in `load_source`.
        column: the column of `data` with the text. Default: the first of `question`, `query`, `problem`, `text`,
            `prompt` and `instruction`.
        against_column: the column of the test sets with the text. Default: as for `column`.
        ignore_numbers: whether rows of at least 8 words overlap that differ in numbers; default: True.
        num_proc: number of processes; does not change the result. Default: one.

    Returns:
        The table without these rows. The ledger has the reasons `overlap_words`, `overlap_numbers` and `overlap_order`,
        with both texts.

    Raises:
        InputError: a test set is missing, unreadable or has no question, a column is missing, or `n` is below 5.

    >>> from toolrlef_data import decontaminate, ledger, load_source
    >>> train = load_source("sample", split="train")
    >>> clean = decontaminate(train, train.select(range(4)))
    >>> len(train) - len(clean), ledger([clean])["reason"][:]
    (4, ['overlap_words', 'overlap_words', 'overlap_words', 'overlap_words'])
    """
    tests, search = _search(data, against, n, data_dir, column, against_column, ignore_numbers, num_proc)
    return by_split(data, lambda split: drop_overlaps(split, tests, search, num_proc))


def overlaps(
    data: D,
    against: Any,
    *,
    n: int = 13,
    data_dir: str | Path | None = None,
    column: str | None = None,
    against_column: str | None = None,
    ignore_numbers: bool = True,
    num_proc: int | None = None,
) -> D:
    """List the rows that overlap a question of a test set, without dropping them.

    Args:
        data, against, n, data_dir, column, against_column, ignore_numbers, num_proc: as in `decontaminate`.

    Returns:
        One row for each row of `data` that overlaps a test question, with the question that it overlaps most: id, kind,
        share (of the words of the test question), text, test_set, test_id and test_text.

    Raises:
        InputError: as in `decontaminate`.

    >>> from datasets import Dataset
    >>> train = Dataset.from_dict({"id": ["a"], "question": ["Ann buys 3 pens at $2 each. How much does she pay?"]})
    >>> test = Dataset.from_dict({"question": ["How much does she pay? Ann buys 12 pens at $5 each."]})
    >>> overlaps(train, test)["kind"][:]
    ['order']
    """
    tests, search = _search(data, against, n, data_dir, column, against_column, ignore_numbers, num_proc)
    return by_split(data, lambda split: find_overlaps(split, tests, search, num_proc))


def _search(
    data: Dataset | DatasetDict,
    against: Any,
    n: int,
    data_dir: str | Path | None,
    column: str | None,
    against_column: str | None,
    ignore_numbers: bool,
    num_proc: int | None,
) -> tuple[Dataset, OverlapSearch]:
    """Return the table of test questions, and the settings of the search."""
    check_table(data)
    check_num_proc(num_proc)
    check_type("ignore_numbers", ignore_numbers, "True or False", bool)
    if not isinstance(n, int) or isinstance(n, bool) or n < MIN_N:
        raise InputError(f"n must be an integer of at least {MIN_N} words, found {n!r:.80}")
    column = table_text_column(data, column, "decontaminate")
    tests = read_test_sets(against, data_dir, against_column)
    sizes = tuple(Counter(tests["test_set"][:]).items())
    return tests, OverlapSearch(n, ignore_numbers, column, tests._fingerprint, sizes, tuple(arrow_files(tests)))
