"""The words of a text, as overlaps are searched: without case and punctuation, and optionally without numbers.

| in the text | words |
|---|---|
| upper case, full-width and other forms | case folded, in Unicode's form NFKC; digits of all scripts are 0 to 9 |
| punctuation and symbols | removed; they separate words, except for apostrophes |
| "team's", "teams", "team s" | one word: the ending after an apostrophe is joined, also if a space replaces it |
| "1,250.50" | one word, without the comma |
| an operator before a number | a word, since "5 - 3" is not "5 + 3"; not the hyphen of "covid-19" |
| Chinese, Japanese, Thai and other scripts without spaces | each character is a word |

`without_numbers` replaces numbers by `NUMBER`, so that texts are equal that differ in numbers, or in their notation.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

from toolrlef_data.tables.identity import Hashes, text_hash

__all__ = ["FACTOR", "NUMBER", "ngrams", "without_numbers", "words_of"]

NUMBER = "0"  # the word that replaces numbers
APOSTROPHES = "'\u2018\u2019\u02bc`"
# First and last code points of scripts without spaces between words.
UNSPACED = ((0xE00, 0xEFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
OPERATORS = "-+*/="
NUMBER_WORDS = frozenset(
    re.findall(
        r"\w+",
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred "
        "thousand million billion",
    )
)
NUMBER_JOINS = ("and", "point")  # between two numbers: "two hundred and five", "one point five"
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd; a power of it for each position in an n-gram

_other_sign = re.compile(rf"(?:(?<=[^\W\d_])[{OPERATORS}]|[{OPERATORS}](?!\s*[\d(])|\.(?!\d)|(?<!\d)\.)").sub
_thousands_comma = re.compile(r"(?<=\d),(?=\d{3}(?!\d))").sub
_space_before_ending = re.compile(r"(?:(?<=[^\W\d_])\s+(?=(?:s|d|ll|re|ve)(?:\s|$))|(?<=n)\s+(?=t(?:\s|$)))").sub
_digits = re.compile(r"\d+(?:\.\d+)?").sub


class _Signs(dict[int, str | None]):
    """A table for `str.translate` that keeps letters, marks, digits, operators and points."""

    def __missing__(self, code: int) -> str | None:
        sign, category = chr(code), unicodedata.category(chr(code))
        if category == "Cf" or sign in APOSTROPHES:
            self[code] = None
        elif sign in OPERATORS or any(first <= code <= last for first, last in UNSPACED):
            self[code] = f" {sign} "
        elif category == "Nd":
            self[code] = str(unicodedata.decimal(sign))
        else:
            self[code] = sign if category[0] in "LMN" or sign == "." else " "
        return self[code]


_SIGNS = _Signs({ord("\u2212"): " - ", ord("\u00d7"): " * ", ord("\u00f7"): " / "})


def words_of(text: str) -> list[str]:
    """Return the words of a text, without case and punctuation.

    >>> words_of("Tom\u2019s bag: \uff11,250.5 kg (7 - 3, covid-19).")
    ['toms', 'bag', '1250.5', 'kg', '7', '-', '3', 'covid', '19']
    """
    text = text.replace("\u00b4", "'")  # NFKC would make a space and an accent of it
    text = _thousands_comma("", unicodedata.normalize("NFKC", text).casefold())
    return _space_before_ending("", _other_sign(" ", text).translate(_SIGNS)).split()


def without_numbers(words: Iterable[str]) -> list[str]:
    """Return words with each number, number word and formula replaced by `NUMBER`.

    >>> without_numbers(words_of("Twenty-five cats and 3 + 4 dogs in 7days for two hundred and five dollars"))
    ['0', 'cats', 'and', '0', 'dogs', 'in', '0days', 'for', '0', 'dollars']
    """
    result: list[str] = []
    for word in words:
        if word in NUMBER_WORDS or word in OPERATORS:
            word = NUMBER
        elif not word.isalpha():
            word = _digits(NUMBER, word)
        if word == NUMBER and result[-2:-1] == [NUMBER] and result[-1] in NUMBER_JOINS:
            del result[-1]
        elif word != NUMBER or result[-1:] != [NUMBER]:
            result.append(word)
    return result


def ngrams(words: Sequence[str], n: int) -> Hashes:
    """Return the hash of each n-gram of consecutive words, in their order; none if there are fewer than n words."""
    hashes = np.fromiter(map(_word_hash, words), np.uint64, len(words))
    count = max(0, len(words) - n + 1)
    result, factor = np.zeros(count, np.uint64), np.uint64(1)
    with np.errstate(over="ignore"):
        for i in range(n if count else 0):
            result += hashes[i : i + count] * factor
            factor *= FACTOR
    return result


_word_hash = functools.lru_cache(1 << 16)(text_hash)
