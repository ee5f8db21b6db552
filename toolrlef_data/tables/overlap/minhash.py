"""MinHash: short signatures of texts, of which similar texts share a band.

The similarity of two texts is the Jaccard index of their sets of word shingles. The share of minima in which the
signatures of two texts agree estimates it (Broder 1997). A signature is divided into bands; texts that agree in a
complete band are candidates (locality-sensitive hashing). `band_sizes` chooses bands that miss at most 1 % of the pairs
at the threshold, and fewer above it; the candidates are compared exactly by the caller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from toolrlef_data.tables.identity import Hashes, RowNumbers, text_hash
from toolrlef_data.tables.overlap.words import FACTOR, ngrams, without_numbers, words_of

__all__ = ["MAX_CANDIDATES", "NO_TEXT", "band_sizes", "bands", "candidate_pairs", "jaccard", "shingles"]

SHINGLE = 3  # words
MAX_MINIMA = 256
MAX_MISSED = 0.01
MAX_CANDIDATES = 10
NO_TEXT = np.uint64(0)  # the bands of a text without words, which equals no other


def shingles(text: str, ignore_numbers: bool = False) -> Hashes:
    """Return the distinct hashes of the word shingles of a text; a shorter text is one shingle."""
    words = words_of(text)
    words = without_numbers(words) if ignore_numbers else words
    return np.unique(ngrams(words, min(SHINGLE, len(words)))) if words else np.zeros(0, np.uint64)


def jaccard(a: Hashes, b: Hashes) -> float:
    """Return the Jaccard index of two sets of distinct hashes: their common share of all hashes; 0 if both are empty.

    >>> jaccard(np.array([1, 2, 3]), np.array([2, 3, 4]))
    0.5
    """
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / max(1, len(a) + len(b) - common)


def band_sizes(threshold: float) -> tuple[int, int]:
    """Return the number of bands and the number of minima in each, as many as `MAX_MINIMA` allows.

    >>> band_sizes(0.8), band_sizes(0.5)
    ((26, 8), (35, 3))
    """
    sizes = (1, 1)
    for size in range(1, MAX_MINIMA):
        missed = 1 - min(threshold**size, 1 - 1e-12)  # the share of pairs that one band misses
        count = max(1, math.ceil(math.log(MAX_MISSED) / math.log(missed))) if missed < 1 else MAX_MINIMA
        if count * size <= MAX_MINIMA:
            sizes = (count, size)
    return sizes


def bands(texts: Sequence[Hashes], count: int, size: int) -> list[Hashes]:
    """Return the bands of texts, an array for each band with one hash for each text.

    A last array has a hash of all shingles, so that equal texts are candidates in any case.

    Args:
        texts: the shingles of each text.
        count: number of bands.
        size: number of minima in each.
    """
    has_words = np.array([len(text) > 0 for text in texts], np.bool_)
    present = [text for text in texts if len(text)]
    result = [np.full(len(texts), NO_TEXT) for _ in range(count + 1)]
    if not present:
        return result
    hashes = np.concatenate(present)
    starts = [0, *accumulate(len(text) for text in present[:-1])]
    with np.errstate(over="ignore"):
        result[-1][has_words] = np.maximum(np.add.reduceat(hashes * hashes, starts), np.uint64(1))
        for band, values in enumerate(result[:-1]):
            combined = np.zeros(len(present), np.uint64)
            for i in range(band * size, (band + 1) * size):
                factor, summand = (np.uint64(text_hash(f"minhash {name} {i}") | 1) for name in ("factor", "summand"))
                combined = combined * FACTOR + np.minimum.reduceat(hashes * factor + summand, starts)
            values[has_words] = np.maximum(combined, np.uint64(1))
    return result


def candidate_pairs(band: Hashes, others: int = 0) -> RowNumbers:
    """Return the pairs of rows to compare, sorted, each as the number `later * len(band) + earlier`.

    A row is compared with the first `MAX_CANDIDATES` rows of its group, and with as many rows before it.

    Args:
        band: the hash of one band of each row.
        others: number of rows at the beginning that belong to another table. If there are any, a pair has one row of
            either table.
    """
    order = np.argsort(band, kind="stable")
    values = band[order]
    is_first = np.append(True, values[1:] != values[:-1])
    positions = np.arange(len(band))
    first = np.maximum.accumulate(np.where(is_first, positions, 0))
    rank = np.where(values == NO_TEXT, 0, positions - first)
    pairs = []
    for distance in range(1, MAX_CANDIDATES + 1):
        is_later: NDArray[np.bool_] = rank >= distance
        later = positions[is_later]
        for earlier in (later - distance, first[is_later] + distance - 1):
            pairs.append(order[later] * len(band) + order[earlier])
    keys = np.unique(np.concatenate(pairs)) if pairs else np.zeros(0, np.int64)
    if others:
        keys = keys[(keys // len(band) >= others) & (keys % len(band) < others)]
    return keys
