"""The type of counts, their sum and their groups.

A count has a key such as ("score", "gold", 20.0): its name, and the values that it is of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeAlias

import pyarrow as pa

__all__ = ["CountBatch", "Counts", "Key", "add", "group"]

Key: TypeAlias = tuple[str | int | float, ...]
Counts: TypeAlias = Counter[Key]
# The columns to read, and the function that adds the counts of a batch of them.
CountBatch: TypeAlias = tuple[list[str], Callable[[pa.Table, Counts], None]]


def add(parts: Iterable[Counts]) -> Counts:
    """Return the sum of counts.

    >>> add([Counter({("rows",): 1}), Counter({("rows",): 2})])
    Counter({('rows',): 3})
    """
    total: Counts = Counter()
    for counts in parts:
        total.update(counts)
    return total


def group(counts: Counts, *start: str) -> Counts:
    """Return the counts whose keys start with these values, with the remainder of their keys.

    >>> group(Counter({("score", "gold", 20.0): 3, ("rows",): 3}), "score")
    Counter({('gold', 20.0): 3})
    """
    return Counter({key[len(start) :]: n for key, n in counts.items() if key[: len(start)] == start})
