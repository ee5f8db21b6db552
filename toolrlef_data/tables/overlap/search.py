"""The search for test questions that a text overlaps, in an index of hashes of the test questions.

| kind | the text and the test question |
|---|---|
| `words` | have n words in a row in common; of a question shorter than 2n words its half, at least `MIN_RUN` |
| `numbers` | are equal except for numbers, or the text contains the test question except for numbers |
| `order` | have the same runs of `SHINGLE` or more words, such as sentences in another order, except for numbers |

A test question of fewer than `MIN_RUN` words must be contained as a whole, and one of fewer than `MIN_CONTAINED` must
be equal. The kinds `numbers` and `order` require `MIN_WORDS` words, numbers included, and `order` a share of
`MIN_SHARE` of the words of the test question and of the text, or of a passage of it as long as the test question.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from toolrlef_data.tables.identity import Hashes, RowNumbers
from toolrlef_data.tables.overlap.words import ngrams, without_numbers, words_of
from toolrlef_data.tables.stage_cache import as_arrow

__all__ = ["Overlap", "TestIndex"]

MIN_WORDS = 8  # GPT-3 (arXiv 2005.14165, appendix C) compares no fewer words; shorter questions are often similar
MIN_RUN = 10
MIN_CONTAINED = 6  # "who is Angelina Jolie" is also the beginning of other questions
SHINGLE = 3
MIN_SHARE = 0.95  # of 20 words, one may differ; two questions of 13 words often differ in a single name
MAX_CHECKED = 20  # test questions that are compared with a text, those with the most common n-grams first
MAX_ROWS = 500  # test questions of a shingle; more frequent shingles are searched only where necessary


class Overlap(NamedTuple):
    """The test question that a text overlaps most: its row number, the kind, and the common share of its words."""

    row: int
    kind: str
    share: float


class _Postings(NamedTuple):
    """Sorted hashes, and for each the number of a test question."""

    hashes: Hashes
    rows: RowNumbers


class TestIndex:
    """An index of test questions, which finds the test question that a text overlaps.

    Args:
        tests: a table with the column `text`, which is read again for each candidate.
        n: number of words of an n-gram.
        ignore_numbers: whether texts that differ in numbers overlap.
    """

    __test__ = False  # no test class of pytest

    def __init__(self, tests: Dataset, n: int, ignore_numbers: bool) -> None:
        self.n, self.ignore_numbers = n, ignore_numbers
        self.tests = as_arrow(tests)
        self.words = functools.lru_cache(4096)(self._words)
        runs: dict[int, list[tuple[Hashes, int]]] = defaultdict(list)
        shingles: list[tuple[Hashes, int]] = []
        equal: list[tuple[Hashes, int]] = []
        needed: dict[int, int] = {}  # number of common shingles of an overlap
        first: dict[bytes, int] = {}
        for row in range(len(tests)):
            words, compared = self.words(row)
            if words:
                equal.append((_joined(words), row))
            if len(words) >= MIN_CONTAINED:
                length = self._run_length(len(words))
                runs[length].append((np.unique(ngrams(words, length)), row))
            # One of several test questions that differ only in numbers represents them.
            if len(compared) >= MIN_WORDS and first.setdefault(ngrams(compared, len(compared)).tobytes(), row) == row:
                distinct, counts = np.unique(ngrams(compared, SHINGLE), return_counts=True)
                covered = SHINGLE * np.cumsum(np.sort(counts)[::-1])
                needed[row] = int(np.searchsorted(covered, MIN_SHARE * len(compared))) + 1
                shingles.append((distinct, row))
        self.runs = {length: _postings(found) for length, found in sorted(runs.items())}
        self.equal = _postings(equal)
        self.needed = np.ones(len(tests), np.int64)
        self.shingles = self._frequent_omitted(shingles, needed)

    def find(self, text: str) -> Overlap | None:
        """Return the overlap of a text with the test questions, or None."""
        words = words_of(text)
        overlaps = self._runs(words) + self._same_words(self._compared(words))
        return max(overlaps, key=lambda overlap: overlap.share, default=None)

    def _runs(self, words: Sequence[str]) -> list[Overlap]:
        equal = _look_up(self.equal, _joined(words))[:1] if words else ()
        overlaps = [Overlap(int(row), "words", 1.0) for row in equal]
        for length, postings in self.runs.items():
            grams = ngrams(words, length)
            for row in _most_frequent(_look_up(postings, np.unique(grams)), 1):
                share = _covered(ngrams(self.words(row)[0], length), grams, length).mean()
                overlaps.append(Overlap(row, "words", float(share)))
        return overlaps

    def _same_words(self, compared: list[str]) -> list[Overlap]:
        if len(compared) < MIN_WORDS:
            return []
        overlaps, shingles = [], ngrams(compared, SHINGLE)
        for row in _most_frequent(_look_up(self.shingles, np.unique(shingles)), self.needed):
            other = self.words(row)[1]
            other_shingles = ngrams(other, SHINGLE)
            for passage in (shingles, _passage(shingles, other_shingles)):
                share = _covered(other_shingles, passage, SHINGLE).mean()
                if min(share, _covered(passage, other_shingles, SHINGLE).mean()) >= MIN_SHARE:
                    is_contained = np.isin(ngrams(other, len(other)), ngrams(compared, len(other))).any()
                    overlaps.append(Overlap(row, "numbers" if is_contained else "order", float(share)))
                    break
        return overlaps

    def _words(self, row: int) -> tuple[list[str], list[str]]:
        """Return the words of a test question, and those without numbers."""
        words = words_of(self.tests[row : row + 1].column("text")[0].as_py())
        return words, self._compared(words)

    def _compared(self, words: list[str]) -> list[str]:
        return without_numbers(words) if self.ignore_numbers else words

    def _run_length(self, count: int) -> int:
        """Return how many words in a row of a test question with `count` words are an overlap."""
        return min(self.n, count, max(MIN_RUN, math.ceil(count / 2)))

    def _frequent_omitted(self, shingles: Iterable[tuple[Hashes, int]], needed: dict[int, int]) -> _Postings:
        """Return the postings without frequent shingles, and reduce the numbers of common shingles accordingly.

        An overlap has `needed` of the shingles of a test question, so it has one of any `len(shingles) - needed + 1`.
        """
        found = list(shingles)
        distinct, counts = np.unique(_postings(found).hashes, return_counts=True)
        kept = []
        for hashes, row in found:
            frequencies = counts[np.searchsorted(distinct, hashes)]
            least = len(hashes) - needed[row] + 1
            count = max(least, int((frequencies <= MAX_ROWS).sum()))
            self.needed[row] = max(1, needed[row] - (len(hashes) - count))
            kept.append((hashes[np.argsort(frequencies, kind="stable")[:count]], row))
        return _postings(kept)


def _joined(words: Sequence[str]) -> Hashes:
    """Return the hash of words without spaces: "push-ups" is "pushups" where punctuation is removed."""
    return ngrams(["".join(words)], 1)


def _postings(found: Sequence[tuple[Hashes, int]]) -> _Postings:
    hashes = np.concatenate([np.zeros(0, np.uint64), *(hashes for hashes, _ in found)])
    rows = np.repeat(np.array([row for _, row in found], np.int64), [len(hashes) for hashes, _ in found])
    order = np.argsort(hashes, kind="stable")
    return _Postings(hashes[order], rows[order])


def _look_up(postings: _Postings, hashes: Hashes) -> RowNumbers:
    """Return the test questions of each of the hashes, one after the other."""
    first = np.searchsorted(postings.hashes, hashes)
    ends = np.searchsorted(postings.hashes, hashes, side="right")
    return np.concatenate(
        [np.zeros(0, np.int64), *(postings.rows[a:b] for a, b in zip(first, ends, strict=True) if a < b)]
    )


def _most_frequent(rows: RowNumbers, needed: Any) -> list[int]:
    """Return the `MAX_CHECKED` most frequent numbers, each at least as often as `needed` says for it."""
    distinct, counts = np.unique(rows, return_counts=True)
    is_candidate = counts >= (needed if isinstance(needed, int) else needed[distinct])
    order = np.argsort(-counts[is_candidate], kind="stable")[:MAX_CHECKED]
    return distinct[is_candidate][order].tolist()


def _passage(shingles: Hashes, others: Hashes) -> Hashes:
    """Return the shingles of the passage of a text that has the most words of another text, and as many words."""
    length = int((len(others) + SHINGLE - 1) / MIN_SHARE)  # as many words as may differ are added
    if len(shingles) + SHINGLE - 1 <= length:
        return shingles
    sums = np.append(0, np.cumsum(_covered(shingles, others, SHINGLE)))
    start = int(np.argmax(sums[length:] - sums[:-length]))
    return shingles[start : start + length - SHINGLE + 1]


def _covered(grams: Hashes, others: Hashes, n: int) -> NDArray[np.bool_]:
    """Return for each word of a text whether n-grams cover it which another text has, too."""
    is_common = np.isin(grams, others)
    covered: NDArray[np.bool_] = np.zeros(len(grams) + n - 1, np.bool_)
    for i in range(n):
        covered[i : i + len(grams)] |= is_common
    return covered
