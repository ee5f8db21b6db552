"""Question identity: which rows are the same question and must not be in different splits.

Two rows are the same question if one of these agrees:

- their ids up to "#" (`mlqa-5700a#es`, `mlqa-5700a#de`),
- their context and question, ignoring case, whitespace and punctuation.

Not covered: the same question in other words. `check_ids` requires unique ids. A `HashTable` remembers what was read.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b, sha256
from typing import TypeAlias, TypeVar

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from toolrlef_data.records import InputError
from toolrlef_data.tables.stage_cache import as_arrow, read_record

__all__ = ["HashTable", "Hashes", "RowNumbers", "check_ids", "distinct", "group_questions", "normal_form", "text_hash"]
__all__ += ["text_id"]

Hashes: TypeAlias = NDArray[np.uint64]
RowNumbers: TypeAlias = NDArray[np.int64]
T = TypeVar("T")

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


class HashTable:
    """A dict of 64-bit hashes to numbers above 0, for one hash a row: 12 to 16 bytes each instead of 100.

    Two of 100 million texts have the same hash with a probability of 0.03 %.

    Args:
        typecode: the `array` type of the numbers. Default: "B", numbers up to 255 in one byte.

    >>> table = HashTable()
    >>> table[text_hash("a")] = 7
    >>> table[text_hash("a")], table[text_hash("b")]
    (7, 0)
    """

    # Linear probing. One of the parts grows at a time, so that little memory is held twice.
    PARTS, SMALLEST = 256, 4

    def __init__(self, typecode: str = "B") -> None:
        self._keys = [array("Q", [0]) * self.SMALLEST for _ in range(self.PARTS)]
        self._numbers = [array(typecode, [0]) * self.SMALLEST for _ in range(self.PARTS)]
        self._counts = [0] * self.PARTS

    def __getitem__(self, key: int) -> int:
        """Return the number of a hash, or 0."""
        part = key % self.PARTS
        return self._numbers[part][_slot(self._keys[part], key)]

    def __setitem__(self, key: int, number: int) -> None:
        part = key % self.PARTS
        slot = _slot(self._keys[part], key)
        is_new = not self._numbers[part][slot]
        self._keys[part][slot], self._numbers[part][slot] = key or 1, number
        if is_new:
            self._counted(part)

    def setdefault(self, key: int, number: int) -> int:
        """Return the number of a hash, or 0 for a new one, which gets the given number."""
        part = key % self.PARTS
        keys, numbers = self._keys[part], self._numbers[part]
        slot = _slot(keys, key)
        if found := numbers[slot]:
            return found
        keys[slot], numbers[slot] = key or 1, number
        self._counted(part)
        return 0

    def _counted(self, part: int) -> None:
        """Count a new hash of a part, and make the part larger if it is nearly full."""
        self._counts[part] += 1
        keys, numbers = self._keys[part], self._numbers[part]
        if 5 * self._counts[part] <= 4 * len(keys):
            return
        size = len(keys) * 5 // 4 + 1
        larger, moved = array("Q", [0]) * size, array(numbers.typecode, [0]) * size
        for key, number in zip(keys, numbers, strict=True):
            if number:
                slot = _slot(larger, key)
                larger[slot], moved[slot] = key, number
        self._keys[part], self._numbers[part] = larger, moved


def _slot(keys: array[int], key: int) -> int:
    """Return the index of a key, or the free index where it belongs; a free index has the key 0."""
    key, size = key or 1, len(keys)
    slot = key // HashTable.PARTS % size
    while (found := keys[slot]) and found != key:
        slot = slot + 1 if slot + 1 < size else 0
    return slot


def distinct(values: Iterable[T], key: Callable[[T], object] = lambda value: value) -> Iterator[T]:
    """Yield each value once, in the order of its first place; values whose keys have the same `repr` are equal.

    >>> list(distinct(["a", "b", "a"]))
    ['a', 'b']
    """
    known = HashTable()
    for value in values:
        if not known.setdefault(text_hash(repr(key(value))), 1):
            yield value


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
