"""Mentions: whether a sentence names the gold answer only beside another answer, as in "Lyon, near Paris"."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from toolrlef_data.tasks.statements.passage import Passage, Span
from toolrlef_data.tasks.statements.vocabulary import (
    CHOICE_NOUNS,
    COMPARISONS,
    OPINIONS,
    RELATIONS,
    REPORTERS,
    SUPPOSITIONS,
)

__all__ = ["is_stated"]

REACH = 12  # words before a gold answer that are read


def is_stated(passage: Passage, span: Span, asked: Passage) -> bool | None:
    """Return None if the words around a gold answer compare, report or suppose it, else True.

    Args:
        passage: the answer.
        span: the gold answer.
        asked: the question. A comparison that it contains is no mention.
    """
    start, end = passage.sentence(span)
    before = passage.words[max(start, span[0] - REACH) : span[0]]
    after = passage.words[span[1] : min(end, span[1] + 4)]
    is_name = not passage.words[span[0]].isdecimal()
    is_compared = is_name and _is_compared(before) and "than" not in asked.words
    is_related = is_name and _is_related(passage, span, start)
    is_reported = _is_reported(passage, span, start)
    is_option = after[:1] == ["etc"] or (
        after[:2] in (["is", "one"], ["is", "a"]) and bool(CHOICE_NOUNS & set(after[2:3]))
    )
    is_denied = after[:2] in (["i", "dont"], ["i", "don"]) or after[:3] == ["i", "do", "not"]
    is_doubted = is_denied and bool(OPINIONS & set(after))
    is_supposed = any(pair in SUPPOSITIONS for pair in pairwise(before))
    mentions = (is_compared, is_related, is_reported, is_option, is_doubted, is_supposed)
    return None if any(mentions) else True


def _is_compared(before: Sequence[str]) -> bool:
    """Return whether a gold answer follows "longer than", but neither "rather than" nor "other than"."""
    words = [word for word in before[-3:] if word not in ("the", "a", "an")]
    return len(words) > 1 and words[-1] == "than" and words[-2] not in COMPARISONS


def _is_related(passage: Passage, span: Span, start: int) -> bool:
    """Return whether a clause after a name relates it to the gold answer: "Lyon, which is south of Paris"."""
    for p in range(span[0] - 1, max(start, span[0] - REACH), -1):
        if set(passage.marks[p + 1]) & set(",("):
            return False
        if passage.words[p] in RELATIONS:
            first = next((q for q in range(p, start, -1) if set(passage.marks[q]) & set(",(")), start)
            return first > start and passage.capital[first - 1]
    return False


def _is_reported(passage: Passage, span: Span, start: int) -> bool:
    """Return whether the clause of a gold answer reports an opinion of others: "Some would say Paris"."""
    first = next((p for p in range(span[0], start, -1) if set(passage.marks[p]) & set(",(")), start)
    is_first_answer = first == 0
    return not is_first_answer and first < span[0] and passage.words[first] in REPORTERS
