"""Answers in words: extracting them from a response, grading them, and finding them in the argument of a call.

The tasks `qa`, `retrieval`, `lama` and `mlqa` share this module. One instance: the prediction "It is in New York City."
is correct for the gold answer "New York". All functions are pure, accept any text, and run in linear time.

`grade` has two rules:

| | default | paper |
|---|---|---|
| a gold answer matches as | a sequence of words | a substring |
| where | in the final statement of the prediction (`statements`) | in its first 20 words |
| lists, negations, questions, echoes | incorrect, or None if unsure | correct if they contain the gold answer |
| case, repeated and non-breaking spaces | ignored (142 gold answers of NQ-open contain U+00A0) | ignored |
| curly quotes and dashes | equal to the plain ones | equal to the plain ones |
| invisible characters | ignored | ignored |
| accents (U+0300 to U+036F), Arabic and Hebrew vowel points, tatweel | ignored | compared |
| full-width letters, ligatures, composition (NFC, NFD), script of digits | ignored | compared, as in the original |
| other punctuation, `a`, `an`, `the`, dots of initials, commas of thousands | ignored | compared |
| minus, decimal point, the signs of C++ and C# | compared | compared |
| number words up to ninety, order of day and month, if the gold answer has no other words | ignored | compared |

By the default rule each character with its marks is a word if the script has no spaces between words (Chinese,
Japanese, Thai, Lao, Khmer, Burmese, Tibetan). The same holds for Korean, where particles are attached to words. Vowel
signs of Indian scripts belong to their words.

To grade a task by the paper's rule, use `TASKS["qa"].with_rule("paper")`.
Not covered: missing aliases, dates in digits, inflected forms, articles of other languages.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache

from toolrlef_data.records import InputError
from toolrlef_data.tasks.statements.verdicts import states
from toolrlef_data.tasks.task import RULES
from toolrlef_data.tasks.words import (
    TYPOGRAPHY,
    comparison_form,
    equal_forms,
    has_word_character,
    is_article,
    without_articles,
    word_form,
)

__all__ = ["extract", "first_words", "grade", "leaks", "ungradable_reason"]


def extract(text: str, *, rule: str = "default") -> str | None:
    """Return the prediction in a response: the full text, by the paper's rule its first 20 words; None if it is blank.

    >>> extract(" It is in\\n New York. "), extract("\\u200b ")
    ('It is in\\n New York.', None)
    """
    if rule == "paper":
        return first_words(text)
    text = text.strip()
    return text if (text if text.isascii() else text.translate(TYPOGRAPHY).strip()) else None


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
    return start if (start if start.isascii() else start.translate(TYPOGRAPHY).strip()) else None


def grade(
    prediction: str | None,
    answers: Sequence[str],
    *,
    question: str = "",
    context: str = "",
    rule: str = "default",
    anywhere: bool = False,
    words: int | None = 20,
    strict: bool | None = None,
) -> bool | None:
    """Return whether a prediction is a gold answer.

    Args:
        prediction: the answer of a response. None is incorrect.
        answers: gold answers; matching any one suffices. Those without a letter or digit never match.
        question: the question. A prediction that only repeats it is incorrect. Default: unknown.
        context: the text that contains the answer. A prediction that copies it is incorrect. Default: unknown.
        rule: "default": the final statement must be a gold answer; "paper": the prediction must contain one.
        anywhere: the text is the output of a tool, which may contain a gold answer anywhere as words. Default: False.
        words: number of words that the paper's rule reads; None: all. Default: 20, as in the paper. Its published
            code grades the full tool output of qa and lama, as `compat` does.
        strict: deprecated, without effect.

    Returns:
        None if no gold answer contains a letter or digit, or if it is unsure whether the prediction states one.

    Raises:
        InputError: an unknown rule, or another rule than "default" with `strict=True`.

    >>> grade("It is in Bulgaria.", ["bulgaria"]), grade("Poland", ["Bulgaria"]), grade("Poland", ["", "?"])
    (True, False, None)
    >>> grade("Not Poland, but Bulgaria.", ["Poland"]), grade("Poland, Bulgaria or Greece", ["Bulgaria"])
    (False, False)
    >>> grade("because", ["US"]), grade("because", ["US"], rule="paper"), grade("Beatles", ["The Beatles"])
    (False, True, True)
    """
    if strict and rule != "default":
        raise InputError(f"strict=True and rule={rule!r} exclude each other; omit strict")
    if strict is not None:
        warnings.warn(
            "strict= is deprecated and has no effect: the default is strict; rule='paper' selects the paper's rule",
            DeprecationWarning,
            stacklevel=2,
        )
    if rule == "paper":
        return _grade_as_paper(prediction, answers, words)
    if rule != "default":
        raise InputError(f"unknown rule {rule!r}; choose from: {', '.join(RULES)}")
    golds = _gold_word_forms(tuple(answers))
    if not golds or prediction is None:
        return False if golds else None
    predicted = word_form(prediction)
    bare = without_articles(predicted)
    # Compared with articles, too: "vitamin A is" contains "vitamin A".
    present = [gold for gold in golds if gold[0] in predicted or gold[1] in bare]
    if not present or anywhere:
        return bool(present)
    asks = frozenset(word_form(answer) for answer in answers if answer.rstrip().endswith("?"))
    return states(prediction, present, question, context, asks=asks)


def _grade_as_paper(prediction: str | None, answers: Sequence[str], words: int | None) -> bool | None:
    # A shorter prediction cannot contain more words.
    if words is not None and prediction is not None and len(prediction) >= 2 * words:
        prediction = first_words(prediction, words)
    golds = _gold_forms(tuple(answers))
    if not golds or prediction is None:
        return False if golds else None
    predicted = comparison_form(prediction)
    return any(gold in predicted for gold in golds)


def ungradable_reason(answers: Sequence[str]) -> str | None:
    """Return why no prediction can be graded with these gold answers; None if at least one has a letter or digit.

    >>> ungradable_reason(["", "Sofia"]), ungradable_reason([]), ungradable_reason([" ", "?!"])
    (None, 'no_answer', 'no_answer')
    """
    return None if any(map(has_word_character, answers)) else "no_answer"


def leaks(argument: str, question: str, answers: Sequence[str]) -> bool:
    """Return whether an argument contains a gold answer that the question does not contain.

    Texts are compared as words, as by the default rule of `grade`, with one exception: a gold answer of four or more
    characters that ends in a letter also matches the start of a longer word. "Bulgarian" contains Bulgaria, but 1923
    does not contain 2, nor Russia US.
    Not covered: paraphrases, translations, answers split into parts.

    >>> leaks("capital Sofia", "What is the capital of Bulgaria?", ["Sofia"])
    True
    >>> leaks("capital of Bulgaria", "What is the capital of Bulgaria?", ["Sofia", "Bulgaria"])
    False
    """
    in_argument, in_question = word_form(argument), word_form(question)
    bare_argument, bare_question = without_articles(in_argument), without_articles(in_question)
    for form, bare in _gold_word_forms(tuple(answers)):
        if _opens_word(bare, bare_argument) and not _opens_word(bare, bare_question):
            return True
        # With articles, too: "vitamin A pills" contains "vitamin A".
        if not is_article(form.strip()) and _opens_word(form, in_argument) and not _opens_word(form, in_question):
            return True
    return False


def _opens_word(gold: str, words: str) -> bool:
    """Return whether words contain a gold answer, of four or more characters also as the start of a longer word."""
    is_start = len(gold) >= 6 and not gold[-2].isdecimal()  # includes a space at each end
    return (gold[:-1] if is_start else gold) in words


# All predictions for a question are compared with the same gold answers: caching is 3 times as fast if there are many.
@lru_cache(maxsize=4096)
def _gold_forms(answers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(comparison_form(answer) for answer in answers if has_word_character(answer))


@lru_cache(maxsize=4096)
def _gold_word_forms(answers: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return the word forms of each gold answer, with and without articles."""
    forms = [form for answer in answers if has_word_character(answer) for form in equal_forms(word_form(answer))]
    return tuple((form, without_articles(form)) for form in forms if form != " ")
