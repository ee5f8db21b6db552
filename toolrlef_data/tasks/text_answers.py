"""Answers in words: extracting them from a response, grading them, and finding them in the argument of a call.

The tasks `qa`, `retrieval`, `lama` and `mlqa` share this module. One instance: the prediction "It is in New York City."
is correct for the gold answer "New York". All functions are pure, accept any text, and run in linear time.

`grade` has two modes:

| | paper (default) | strict |
|---|---|---|
| a gold answer matches as | a substring of the prediction | a sequence of words of the prediction |
| case, repeated and non-breaking spaces | ignored (142 gold answers of NQ-open contain U+00A0) | ignored |
| curly quotes and dashes | equal to the plain ones | equal to the plain ones |
| invisible characters | ignored | ignored |
| accents (U+0300 to U+036F), Arabic and Hebrew vowel points, tatweel | compared | ignored |
| full-width letters, ligatures, composition (NFC, NFD), script of digits | compared, as in the original | ignored |
| other punctuation, `a`, `an`, `the`, dots of initials, commas of thousands | compared | ignored |
| minus, decimal point, the signs of C++ and C# | compared | compared |

In strict mode each character with its marks is a word if the script has no spaces between words (Chinese, Japanese,
Thai, Lao, Khmer, Burmese, Tibetan). The same holds for Korean, where particles are attached to words. Vowel signs of
Indian scripts belong to their words.

To grade a task strictly, use `replace(TASKS["qa"], grade=partial(TASKS["qa"].grade, strict=True))`.
Not covered: missing aliases, number words ("eighteen" for 18), other date orders, negation ("not Poland" contains
Poland), inflected forms in strict mode, articles of other languages.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["first_words", "grade", "leaks", "ungradable_reason"]


def first_words(text: str, n: int = 20) -> str | None:
    """Return the first `n` words of a text, separated by single spaces; None if it contains none.

    Words are separated by white space, as in the paper: a sentence in a script without spaces is one word.

    Args:
        text: a response.
        n: number of words. Default: 20, as in the paper (TRICE, arXiv 2305.13068).

    >>> first_words(" It is\\n in New York. ", 4), first_words("\\u200b "), len(first_words("\\u5317" * 10_000))
    ('It is in New', None, 10000)
    """
    start = " ".join(text.split(None, n)[:n])
    return start if (start if start.isascii() else start.translate(_TYPOGRAPHY).strip()) else None


def grade(
    prediction: str | None, answers: Sequence[str], *, strict: bool = False, words: int | None = 20
) -> bool | None:
    """Return whether a prediction contains a gold answer.

    Args:
        prediction: the answer of a response. None is incorrect.
        answers: gold answers; matching any one suffices. Those without a letter or digit never match.
        strict: compare words and ignore accents, articles and punctuation, instead of the paper's rule. Default: False.
        words: number of words of the prediction that are graded; None: all. Default: 20, as in the paper. Its published
            code grades the full tool output of qa and lama, as `compat` does.

    Returns:
        None if no gold answer contains a letter or digit, so that none is comparable.

    >>> grade("It is in Bulgaria.", ["bulgaria"]), grade("Poland", ["Bulgaria"]), grade("Poland", ["", "?"])
    (True, False, None)
    >>> late = "word " * 20 + "Bulgaria"
    >>> grade(late, ["Bulgaria"]), grade(late, ["Bulgaria"], words=None)
    (False, True)
    >>> grade("because", ["US"]), grade("because", ["US"], strict=True), grade("Beatles", ["The Beatles"], strict=True)
    (True, False, True)
    """
    # A shorter prediction cannot contain more words.
    if words is not None and prediction is not None and len(prediction) >= 2 * words:
        prediction = first_words(prediction, words)
    if strict:
        gold_words = _gold_word_forms(tuple(answers))
        if not gold_words or prediction is None:
            return False if gold_words else None
        predicted = _word_form(prediction)
        bare = _without_articles(predicted)
        # Compared with articles, too: "vitamin A is" contains "vitamin A".
        return any(gold in predicted or bare_gold in bare for gold, bare_gold in gold_words)
    golds = _gold_forms(tuple(answers))
    if not golds or prediction is None:
        return False if golds else None
    predicted = _comparison_form(prediction)
    return any(gold in predicted for gold in golds)


def ungradable_reason(answers: Sequence[str]) -> str | None:
    """Return why no prediction can be graded with these gold answers; None if at least one has a letter or digit.

    >>> ungradable_reason(["", "Sofia"]), ungradable_reason([]), ungradable_reason([" ", "?!"])
    (None, 'no_answer', 'no_answer')
    """
    return None if any(map(_has_word_character, answers)) else "no_answer"


def leaks(argument: str, question: str, answers: Sequence[str]) -> bool:
    """Return whether an argument contains a gold answer that the question does not contain.

    Texts are compared as in strict grading, with one exception: a gold answer of four or more characters that ends in a
    letter also matches the start of a longer word. "Bulgarian" contains Bulgaria, but 1923 does not contain 2, nor
    Russia US.
    Not covered: paraphrases, translations, answers split into parts.

    >>> leaks("capital Sofia", "What is the capital of Bulgaria?", ["Sofia"])
    True
    >>> leaks("capital of Bulgaria", "What is the capital of Bulgaria?", ["Sofia", "Bulgaria"])
    False
    """
    argument_words = _without_articles(_word_form(argument))
    question_words = _without_articles(_word_form(question))
    for _, gold in _gold_word_forms(tuple(answers)):
        if len(gold) >= 6 and not gold[-2].isdecimal():  # includes a space at each end
            gold = gold[:-1]
        if gold in argument_words and gold not in question_words:
            return True
    return False


_has_word_character = re.compile(r"[^\W_]").search

# Deliberately short: characters that are typed in several ways and read the same.
_TYPOGRAPHY: dict[int, str | None] = {
    **dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u2032\u00b4\u02bc\uff07"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\uff02"), '"'),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d"), "-"),
    # Soft hyphen, zero-width spaces and joiners, direction marks, byte order mark.
    **dict.fromkeys([0xAD, 0x61C, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF]),
}


def _comparison_form(text: str) -> str:
    """Return the text in the form that the paper's rule compares."""
    if not text.isascii():
        text = text.translate(_TYPOGRAPHY)
    return " ".join(text.lower().split())


# All predictions for a question are compared with the same gold answers: caching is 3 times as fast if there are many.
@lru_cache(maxsize=4096)
def _gold_forms(answers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_comparison_form(answer) for answer in answers if _has_word_character(answer))


@lru_cache(maxsize=4096)
def _gold_word_forms(answers: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return the word form of each gold answer, with and without articles."""
    forms = [_word_form(answer) for answer in answers if _has_word_character(answer)]
    return tuple((form, _without_articles(form)) for form in forms if form != " ")


class _WordCharacters(dict[int, str | None]):
    """The translation table of `_word_form`, filled on demand: to the character, its digit, a space, or nothing."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        category = unicodedata.category(character)
        translated: str | None = character
        if category == "Nd":
            translated = str(unicodedata.decimal(character))
        elif category == "Cf" or (category == "Mn" and _is_ignored_mark(character)):
            translated = None
        elif category[0] not in "LNM":
            translated = " "
        self[code] = translated
        return translated


# Accents, vowel points of Hebrew and Arabic, variation selectors. Marks of other scripts distinguish words.
_is_ignored_mark = re.compile("[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u0652\u0670\ufe00-\ufe0f]").match
_WORD_CHARACTERS = _WordCharacters(
    {ord(character): character for character in ".,-+#"}
    | {code: "-" for code, plain in _TYPOGRAPHY.items() if plain == "-"}
    | {ord("\u0640"): None, ord("\u00f8"): "o", ord("\u0142"): "l", ord("\u0111"): "d", ord("\u0131"): "i"}
)
# Unicode normalisation sorts the marks on a letter in quadratic time. No word has 30 marks on one letter.
_crowded_marks = re.compile(r"([^\w\s]{30})[^\w\s]+")
_has_punctuation = re.compile("[-.,+#]").search
_initials = re.compile(r"(?<!\w)([^\W\d_])\.(?:(?=[^\W\d_](?!\w))|\s(?=[^\W\d_]\.))")
_thousands = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_punctuation = re.compile(r",|\.(?!\d)|(?<!\d)\.|-(?!\d)|(?<=\w)-|(?<![a-z+])\+|(?<![a-z])#")
_UNSPACED_SCRIPTS = (
    "[\u0e00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff"
    "\ua960-\ua97f\uaa60-\uaa7f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_unspaced = re.compile(rf"((?=\w){_UNSPACED_SCRIPTS}(?:(?!\w){_UNSPACED_SCRIPTS})*)")
_articles = re.compile(r"(?<= )(?:the|an?) (?=\S)")


def _word_form(text: str) -> str:
    """Return the text in the form that strict grading compares: words with a space on each side."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", _crowded_marks.sub(r"\1", text))
    text = text.casefold().translate(_WORD_CHARACTERS)
    if not text.isascii():
        text = " ".join(_unspaced.split(unicodedata.normalize("NFC", text)))
    text = text.rstrip(" .")
    if _has_punctuation(text):
        text = _punctuation.sub(" ", _thousands.sub("", _initials.sub(r"\1", text)))
    words = text.split()
    return f" {' '.join(words)} " if words else " "


def _without_articles(words: str) -> str:
    """Return the word form without articles, except at its end, where "a" is not an article ("vitamin a")."""
    return _articles.sub("", words) if " the " in words or " a " in words or " an " in words else words
