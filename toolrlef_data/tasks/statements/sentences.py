"""Sentences: which sentence of an answer is its final statement."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from toolrlef_data.tasks.statements.assertion_words import ASIDES, STATING
from toolrlef_data.tasks.statements.passage import Passage, Span
from toolrlef_data.tasks.statements.vocabulary import (
    ANSWER_LEADS,
    BE,
    COMPLEMENT_LEADS,
    CORRECTIONS,
    EXPLANATIONS,
    FUNCTION_WORDS,
    REFERENCES,
    REMARKS,
    UPDATES,
)

__all__ = ["FinalStatement", "final_statement", "is_answer", "is_fragment"]

ANSWER_NOUNS = (["answer"], ["final"], ["correct"], ["right"])


@dataclass(frozen=True)
class FinalStatement:
    """The sentences of the final statement.

    Args:
        base: the sentence that states the answer.
        last: the last sentence of the statement; those after `base` explain it.
        marker: position after "the answer is"; only later words are the answer.
        is_stated: whether `base` has the form of an answer.
        replaces: whether `base` replaces earlier answers; a phrase may only add to them.
    """

    base: int
    last: int
    marker: int
    is_stated: bool
    replaces: bool

    def place(self, passage: Passage, span: Span) -> bool | None:
        """Return whether a gold answer is in the statement; None if that is unsure."""
        first, last = passage.sentence_of[span[0]], passage.sentence_of[span[1] - 1]
        if first <= self.base <= last:
            return span[0] >= self.marker
        if self.base < first <= self.last:
            if self.marker:
                return False
            return None if self.is_stated else True
        return False if self.replaces or first > self.base else None


def final_statement(passage: Passage, question: Set[str]) -> FinalStatement:
    """Return the final statement of an answer.

    Args:
        passage: the answer.
        question: the content words of the question; a sentence that repeats them states the answer.
    """
    last = len(passage.sentences) - 1
    first = max((k for k in range(1, last + 1) if _first_word(passage, k) in CORRECTIONS), default=0)
    for k in range(first + 1, last + 1):
        if _first_word(passage, k) in EXPLANATIONS and ":" in passage.marks[passage.sentences[k][0] + 1]:
            last = k - 1
            break
    marker = _marker(passage, passage.sentences[last][1])
    stated = passage.sentence_of[marker] if marker else -1
    if stated >= first and not any(is_answer(passage, passage.sentences[k]) for k in range(stated + 1, last + 1)):
        return FinalStatement(stated, last, marker, is_stated=True, replaces=True)
    base = last
    while base > first and _is_remark(passage, passage.sentences[base]):
        base -= 1
    is_stated = is_answer(passage, passage.sentences[base]) or is_fragment(passage, passage.sentences[base])
    if question and not is_stated:
        shared = {k: len(question & set(passage.words[slice(*passage.sentences[k])])) for k in range(first, base + 1)}
        best = max(shared, key=lambda k: (shared[k], k))
        if shared[best] >= 2 and shared[best] > shared[base]:
            return FinalStatement(best, best, 0, is_stated=True, replaces=True)
    replaces = first > 0 or is_answer(passage, passage.sentences[base])
    return FinalStatement(base, last, 0, is_stated=is_stated, replaces=replaces)


def is_answer(passage: Passage, part: Span) -> bool:
    """Return whether a sentence or clause has the form "it is X" with a short X, a name or a number."""
    start, end = part
    words = passage.words
    p = start
    while p < end and words[p] in ANSWER_LEADS and (words[p] != "the" or words[p + 1 : p + 2] in ANSWER_NOUNS):
        p += 1
    if p == start or not BE & set(words[start:p]):
        return False
    while p < end and words[p] in COMPLEMENT_LEADS:
        p += 1
    return p < end and (bool(UPDATES & set(words[start:end])) or (end - p <= 8 and passage.capital[p]))


def is_fragment(passage: Passage, sentence: Span) -> bool:
    """Return whether a sentence is a short phrase without a verb."""
    start, end = sentence
    words = passage.words[start:end]
    if len(words) > 4 and words[0] in ("the", "a", "an"):
        return False
    return len(words) <= 7 and not passage.has_verb(start, end) and words[-1] not in FUNCTION_WORDS


def _is_remark(passage: Passage, sentence: Span) -> bool:
    """Return whether a sentence refers to the answer before it: "It lies on the Seine.", "I am sure."."""
    words = passage.words[slice(*sentence)]
    return (words[0] in REFERENCES | REMARKS and not is_answer(passage, sentence)) or (STATING | ASIDES).issuperset(
        words
    )


def _first_word(passage: Passage, sentence: int) -> str:
    return passage.words[passage.sentences[sentence][0]]


def _marker(passage: Passage, end: int) -> int:
    """Return the position after the last "the answer is" or "answer:"; 0 if there is none."""
    words = passage.words
    for p in range(end - 2, -1, -1):
        if words[p] != "answer":
            continue
        if ":" in passage.marks[p + 1] or "-" in passage.marks[p + 1]:
            return p + 1
        sentence_end = passage.sentences[passage.sentence_of[p]][1]
        for q in range(p + 1, min(sentence_end - 1, p + 15)):
            if words[q] in BE and (q == p + 1 or words[p + 1] in ("to", "of", "for")):
                return q + 1
    return 0
