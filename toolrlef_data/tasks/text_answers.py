"""Answers in words: read from a response, compared with gold answers, looked for in a call.

Shared by the tasks qa, retrieval, lama and mlqa. One instance: the prediction "It is in New York City." is right for
the gold answer "New York". Every function is pure, never raises whatever the text, and takes linear time.

Two ways to compare (`grade`):

- the paper's rule, the default: a gold answer stands in the prediction, as a substring, in any case. Blanks of every
  kind are one blank (142 gold answers of NQ-open hold U+00A0), curly quotes and the dashes are the plain ones, and
  invisible characters are none. Letters are compared as they are coded: an accent, a ligature, a full-width letter or
  another composition (NFC, NFD) is another letter, as in the original.
- strict: whole words. Case, accents (U+0300 to U+036F), Arabic and Hebrew vowel points, tatweel, compatibility forms
  (NFKC), the digits' script, punctuation, `a`, `an`, `the`, the dots of initials and the commas of thousands do not
  count; a minus, a decimal point and the signs of C++ and C# do. Where no blank parts words (Chinese, Japanese, Thai,
  Lao, Khmer, Burmese, Tibetan) or particles hang on them (Korean), each character with its marks is a word. Vowel
  signs of Indian scripts are parts of their words.

To grade a task strictly: `replace(TASKS["qa"], grade=partial(TASKS["qa"].grade, strict=True))`.
Not covered: aliases that the gold answers lack, number words ("eighteen" for 18), dates in another order, negation
("not Poland" holds Poland), inflected forms in strict, articles of other languages.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["first_words", "grade", "leaks", "usable"]


def first_words(text: str, n: int = 20) -> str | None:
    """The first words of a text, parted by blanks; None where it holds none.

    A word is what stands between blanks, as in the paper: a sentence in a script without blanks is one word, however
    long.

    Args:
        text: a response.
        n: words; 20 as in the paper (TRICE, arXiv 2305.13068).

    >>> first_words(" It is\\n in New York. ", 4), first_words("\\u200b "), len(first_words("\\u5317" * 10_000))
    ('It is in New', None, 10000)
    """
    words = text.split(None, n)[:n]
    found = " ".join(words)
    return found if (found if found.isascii() else found.translate(_PLAIN).strip()) else None


def grade(
    prediction: str | None, answers: Sequence[str], *, strict: bool = False, words: int | None = 20
) -> bool | None:
    """Whether a gold answer stands in a prediction.

    Args:
        prediction: what a response answers; None is wrong.
        answers: gold answers, any of which will do; one without a letter or a digit never matches.
        strict: whole words, whatever their accents, articles and punctuation, in the place of the paper's rule.
        words: of the prediction that count; None: all. The paper counts 20; its code does not cut what the
            tools of qa and lama gave, which `compat` follows.

    Returns:
        None where no gold answer holds a letter or a digit: nothing can be compared with.

    >>> grade("It is in Bulgaria.", ["bulgaria"]), grade("Poland", ["Bulgaria"]), grade("Poland", ["", "?"])
    (True, False, None)
    >>> late = "word " * 20 + "Bulgaria"
    >>> grade(late, ["Bulgaria"]), grade(late, ["Bulgaria"], words=None)
    (False, True)
    >>> grade("because", ["US"]), grade("because", ["US"], strict=True), grade("Beatles", ["The Beatles"], strict=True)
    (True, False, True)
    """
    # A shorter prediction holds no more words.
    if words is not None and prediction is not None and len(prediction) >= 2 * words:
        prediction = first_words(prediction, words)
    if strict:
        words_of_golds = _gold_words(tuple(answers))
        if not words_of_golds or prediction is None:
            return False if words_of_golds else None
        said = _words(prediction)
        bare = _bare(said)
        # With the articles too: "vitamin A is" holds "vitamin A".
        return any(gold in said or bare_gold in bare for gold, bare_gold in words_of_golds)
    golds = _plain_golds(tuple(answers))
    if not golds or prediction is None:
        return False if golds else None
    said = _plain(prediction)
    return any(gold in said for gold in golds)


def usable(answers: Sequence[str]) -> str | None:
    """None where at least one gold answer can be compared with, else why the row cannot be graded.

    >>> usable(["", "Sofia"]), usable([]), usable([" ", "?!"])
    (None, 'no_answer', 'no_answer')
    """
    return None if any(map(_comparable, answers)) else "no_answer"


def leaks(argument: str, question: str, answers: Sequence[str]) -> bool:
    """Whether an argument holds a gold answer that the question does not hold.

    Compared as in strict grading; but a gold answer of at least four characters that ends in a letter may go on, so
    that "Bulgarian" carries Bulgaria. Shorter ones and numbers must be whole words: 2 is not in 1923, nor US in Russia.
    Not seen: a paraphrase, a translation, the answer in parts.

    >>> leaks("capital Sofia", "What is the capital of Bulgaria?", ["Sofia"])
    True
    >>> leaks("capital of Bulgaria", "What is the capital of Bulgaria?", ["Sofia", "Bulgaria"])
    False
    """
    held, given = _bare(_words(argument)), _bare(_words(question))
    for _, gold in _gold_words(tuple(answers)):
        if len(gold) >= 6 and not gold[-2].isdecimal():  # with a blank before and after it
            gold = gold[:-1]
        if gold in held and gold not in given:
            return True
    return False


_comparable = re.compile(r"[^\W_]").search

# Kept short on purpose: what is typed in different ways and read in one.
_PLAIN: dict[int, str | None] = {
    **dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u2032\u00b4\u02bc\uff07"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\uff02"), '"'),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d"), "-"),
    # soft hyphen, zero-width blanks and joiners, marks of direction, byte order mark
    **dict.fromkeys([0xAD, 0x61C, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF]),
}


def _plain(text: str) -> str:
    """The form in which the paper's rule compares."""
    if not text.isascii():
        text = text.translate(_PLAIN)
    return " ".join(text.lower().split())


# All responders' answers to a question are compared with the same golds: 3 times as fast where they are many.
@lru_cache(maxsize=4096)
def _plain_golds(answers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_plain(answer) for answer in answers if _comparable(answer))


@lru_cache(maxsize=4096)
def _gold_words(answers: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Each gold answer's words, with and without articles."""
    words = [_words(answer) for answer in answers if _comparable(answer)]
    return tuple((gold, _bare(gold)) for gold in words if gold != " ")


class _WordSigns(dict[int, str | None]):
    """What becomes of a character in `_words`, filled as characters occur: itself, a digit, a blank, or nothing."""

    def __missing__(self, code: int) -> str | None:
        sign = chr(code)
        kind = unicodedata.category(sign)
        kept: str | None = sign
        if kind == "Nd":
            kept = str(unicodedata.decimal(sign))
        elif kind == "Cf" or (kind == "Mn" and _UNCOUNTED(sign)):
            kept = None
        elif kind[0] not in "LNM":
            kept = " "
        self[code] = kept
        return kept


# Accents; the vowel points of Hebrew and Arabic; variation selectors. Marks of other scripts tell words apart.
_UNCOUNTED = re.compile("[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u0652\u0670\ufe00-\ufe0f]").match
_SIGNS = _WordSigns(
    {ord(sign): sign for sign in ".,-+#"}
    | {code: "-" for code, plain in _PLAIN.items() if plain == "-"}
    | {ord("\u0640"): None, ord("\u00f8"): "o", ord("\u0142"): "l", ord("\u0111"): "d", ord("\u0131"): "i"}
)
# Python sorts the marks on one letter in quadratic time; no word has 30.
_crowded = re.compile(r"([^\w\s]{30})[^\w\s]+")
_sign = re.compile("[-.,+#]").search
_initials = re.compile(r"(?<!\w)([^\W\d_])\.(?:(?=[^\W\d_](?!\w))|\s(?=[^\W\d_]\.))")
_thousands = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_punctuation = re.compile(r",|\.(?!\d)|(?<!\d)\.|-(?!\d)|(?<=\w)-|(?<![a-z+])\+|(?<![a-z])#")
_UNSPACED = (
    "[\u0e00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff"
    "\ua960-\ua97f\uaa60-\uaa7f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_unspaced = re.compile(rf"((?=\w){_UNSPACED}(?:(?!\w){_UNSPACED})*)")
_articles = re.compile(r"(?<= )(?:the|an?) (?=\S)")


def _words(text: str) -> str:
    """The form in which whole words are compared: each with a blank before and after it."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", _crowded.sub(r"\1", text))
    text = text.casefold().translate(_SIGNS)
    if not text.isascii():
        text = " ".join(_unspaced.split(unicodedata.normalize("NFC", text)))
    text = text.rstrip(" .")
    if _sign(text):
        text = _punctuation.sub(" ", _thousands.sub("", _initials.sub(r"\1", text)))
    words = text.split()
    return f" {' '.join(words)} " if words else " "


def _bare(words: str) -> str:
    """The words without articles; one at the end stays, since it is none there ("vitamin a")."""
    return _articles.sub("", words) if " the " in words or " a " in words or " an " in words else words
