"""identity: when two rows are one question, which must never stand in two splits.

Rows are of one question where their ids agree up to "#" (`mlqa-5700a#es`, `mlqa-5700a#de`), or where their context and
question are the same text but for case, blanks and punctuation. Not covered: the same question in other words.
"""

from __future__ import annotations

import re
import unicodedata
from hashlib import blake2b, sha256
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Hashes", "Numbers", "groups", "normal_form", "text_hash", "text_id"]

Hashes: TypeAlias = NDArray[np.uint64]
Numbers: TypeAlias = NDArray[np.int64]

_no_sign = re.compile(r"[-*/%](?!\s*[\d(])").sub  # unless it belongs to a number or formula


def normal_form(text: str) -> str:
    """A text without case, punctuation and doubled blanks, for telling whether two questions are the same.

    >>> normal_form(' Who wrote\\tthe "Iliad"? ') == normal_form("who wrote the iliad")
    True
    >>> normal_form("What is 5 * 3?") == normal_form("What is 5 - 3?"), normal_form("¿Qué?") == "qué"
    (False, True)
    """
    text = _no_sign(" ", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(text.translate(_PUNCTUATION).split())


def text_id(text: str) -> str:
    """16 hexadecimal digits that stand for a question where upstream has no id; case and blanks do not count."""
    return sha256(" ".join(text.casefold().split()).encode(errors="surrogatepass")).hexdigest()[:16]


def groups(*keys: Hashes) -> Numbers:
    """The question of each row, as the number of one of its rows: rows that agree in some key are of one question."""
    top = np.arange(len(keys[0]))

    def find(row: int) -> int:
        while top[row] != row:
            top[row] = row = int(top[top[row]])
        return row

    for key in keys:
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        same = first[inverse]
        for row in np.flatnonzero(same != np.arange(len(key))).tolist():
            a, b = find(row), find(int(same[row]))
            top[max(a, b)] = min(a, b)
    while (top[top] != top).any():
        top = top[top]
    return top


def text_hash(text: str) -> int:
    """64 bits that stand for a text, the same in every process."""
    return int.from_bytes(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "big")


class _Punctuation(dict[int, str | None]):
    """For `str.translate`: punctuation, blanks and control characters as a blank; invisible marks go; signs stay."""

    def __missing__(self, code: int) -> str | None:
        kind = unicodedata.category(chr(code))
        blank = kind[0] in "PZC" and chr(code) not in "-*/%"
        self[code] = None if kind == "Cf" else " " if blank else chr(code)
        return self[code]


_PUNCTUATION = _Punctuation()
