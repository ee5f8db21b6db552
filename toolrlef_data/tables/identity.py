"""Question identity: which rows are the same question and must not be in different splits.

Two rows are the same question if one of these agrees:

- their ids up to "#" (`mlqa-5700a#es`, `mlqa-5700a#de`),
- their context and question, ignoring case, whitespace and punctuation.

Not covered: the same question in other words. `check_ids` requires unique ids.
"""

from __future__ import annotations

import re
import unicodedata
from hashlib import blake2b, sha256
from typing import TypeAlias

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from toolrlef_data.records import InputError
from toolrlef_data.tables.stage_cache import as_arrow, read_record

__all__ = ["Hashes", "RowNumbers", "check_ids", "group_questions", "normal_form", "text_hash", "text_id"]

Hashes: TypeAlias = NDArray[np.uint64]
RowNumbers: TypeAlias = NDArray[np.int64]

_remove_signs = re.compile(r"[-*/%](?!\s*[\d(])").sub  # keeps the signs of numbers and formulas


def normal_form(text: str) -> str:
    """Return a text without case, punctuation and repeated whitespace, to compare questions.

    >>> normal_form(' Who wrote\\tthe "Iliad"? ') == normal_form("who wrote the iliad")
    True
    >>> normal_form("What is 5 * 3?") == normal_form("What is 5 - 3?"), normal_form("¿Qué?") == "qué"
    (False, True)
    """
    text = _remove_signs(" ", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(text.translate(_PUNCTUATION).split())


def text_id(text: str) -> str:
    """Return an id of 16 hexadecimal digits for a text; texts that differ in case or whitespace have the same id."""
    return sha256(" ".join(text.casefold().split()).encode(errors="surrogatepass")).hexdigest()[:16]


def group_questions(*hash_columns: Hashes) -> RowNumbers:
    """Return for each row the number of the first row of the same question.

    Args:
        hash_columns: arrays with one hash per row. Rows with an equal hash in any column are the same question, also
            indirectly, through other rows.
    """
    parent = np.arange(len(hash_columns[0]))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = int(parent[parent[row]])
        return row

    for hashes in hash_columns:
        _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        first_equal = first[inverse]
        for row in np.flatnonzero(first_equal != np.arange(len(hashes))).tolist():
            a, b = root(row), root(int(first_equal[row]))
            parent[max(a, b)] = min(a, b)
    while (parent[parent] != parent).any():
        parent = parent[parent]
    return parent


def text_hash(text: str) -> int:
    """Return a 64-bit hash of a text that is the same in every process."""
    return int.from_bytes(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "big")


class _Punctuation(dict[int, str | None]):
    """A table for `str.translate` that replaces punctuation by spaces, removes format marks and keeps signs."""

    def __missing__(self, code: int) -> str | None:
        category = unicodedata.category(chr(code))
        is_blank = category[0] in "PZC" and chr(code) not in "-*/%"
        self[code] = None if category == "Cf" else " " if is_blank else chr(code)
        return self[code]


_PUNCTUATION = _Punctuation()


def check_ids(data: Dataset) -> None:
    """Raise an `InputError` if the ids of a table are null or not unique; a table may lack the column.

    A table with inputs in its lineage is not checked: its ids come from a checked table.
    """
    record = read_record(data._fingerprint)
    if "id" not in data.column_names or (record is not None and record.get("inputs")):
        return
    ids = as_arrow(data, ["id"])
    hashes = np.empty(len(data), np.int64)  # eight bytes per row, since a set of a million ids may not fit in memory
    count = 0
    for batch in ids.iter(10000):
        values = batch.column("id").to_pylist()
        if None in values:
            raise InputError(f"expected an id in each row, found none in row {count + values.index(None)}")
        hashes[count : count + len(values)] = [hash(value) for value in values]
        count += len(values)
    hashes.sort()
    repeated_hashes = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    candidates: set[str] = set()
    for batch in ids.iter(10000) if repeated_hashes else ():
        for value in batch.column("id").to_pylist():
            if hash(value) in repeated_hashes:
                if value in candidates:
                    raise InputError(f"expected unique ids, found {value!r} twice")
                candidates.add(value)
