"""Negation: whether the sentence of a gold answer negates or retracts it."""

from __future__ import annotations

from collections.abc import Sequence

from toolrlef_data.tasks.statements.passage import LETTER_OPTIONS, Passage, Span
from toolrlef_data.tasks.statements.vocabulary import (
    AFFIRMING_PAIRS,
    AUXILIARIES,
    CLAUSE_STARTS,
    CONTRACTED,
    FOREIGN_NEGATORS,
    NEGATING_PAIRS,
    NEGATORS,
    REJECTIONS,
    RETRACTIONS,
    SUBJECTS,
)

__all__ = ["is_affirmed", "negator_at"]

NO_QUESTION = Passage()


def is_affirmed(passage: Passage, span: Span, asked: Passage) -> bool | None:
    """Return False if the gold answer is negated, None if the sentence negates something else about it."""
    start, end = passage.sentence(span)
    words, marks = passage.words, passage.marks
    p = span[0] - 1
    after_label = _is_label(passage, span[0], start)
    if not after_label and _is_label(passage, p, start):
        p, after_label = p - 1, True
    first = p
    while p >= start and span[0] - p <= 40:
        if after_label and passage.capital[p] and words[p] not in SUBJECTS and not negator_at(passage, p, asked):
            break  # the option before: "A) not Bergen B) Oslo"
        if after_label and p == first:
            pass  # the mark belongs to the letter of the option
        elif ")" in marks[p + 1] and p + 1 > start:  # skip a remark in brackets
            p = next((q for q in range(p, start - 1, -1) if "(" in marks[q]), start) - 1
        elif set(marks[p + 1]) & set(",|-(") and not (p + 1 == span[0] and _is_bracketed(passage, span)):
            break
        if p >= start and (kind := negator_at(passage, p, asked)):
            return None if kind == "foreign" else False
        if words[p] in CLAUSE_STARTS and tuple(words[p - 1 : p + 1]) not in NEGATING_PAIRS:
            break
        p -= 1
    for p in range(span[1], min(end, span[1] + 8)):
        is_after_colon = p == span[1] and ":" in marks[p]
        if p > span[1] and (set(marks[p]) & set(",|-()") or words[p] in CLAUSE_STARTS):
            break
        if p == span[1] and set(marks[p]) & set(",|-("):
            is_denied = p + 1 == end and words[p] in NEGATORS  # "Oslo, not!"
            is_denied = is_denied or words[p : p + 2] == ["i", "doubt"]
            is_denied = is_denied or (words[p] == "which" and bool(REJECTIONS & set(words[p:end])))
            return None if is_denied else _retraction(passage, p, end)
        is_rejection = words[p] in REJECTIONS or words[p : p + 2] == ["ruled", "out"]
        is_rejection = is_rejection or words[p : p + 4] == ["out", "of", "the", "question"]
        if is_rejection and (is_after_colon or _has_verb(words[span[1] : p])):
            return False
        if (kind := negator_at(passage, p, asked)) == "foreign":
            return None
        if kind and (is_after_colon or _has_verb(words[span[1] : p])):
            following = [word for word in words[p + 1 : end] if word not in ("the", "a", "an", "my", "our")][:1]
            is_answer_denied = not following or following[0] in ("answer", "right", "correct", "it", "one", "true")
            return False if is_answer_denied else None
    if _is_rejected_later(passage, end) or any(
        words[p] == "not" and "," in marks[p + 1] for p in range(start, span[0])
    ):
        return None
    return _retraction(passage, span[1], end)


def _is_rejected_later(passage: Passage, start: int) -> bool:
    """Return whether the next sentence rejects the answer: "Oslo. That is wrong."."""
    if start >= len(passage.words):
        return False
    words = passage.words[slice(*passage.sentences[passage.sentence_of[start]])]
    is_denial = "not" in words and bool({"correct", "right", "true"} & set(words))
    return words[0] in ("that", "this", "it", "they") and (is_denial or bool(REJECTIONS & set(words)))


def _is_bracketed(passage: Passage, span: Span) -> bool:
    """Return whether a bracket before a gold answer closes within it: "(Harry) Sinclair Lewis"."""
    return passage.marks[span[0]] == "(" and any(")" in passage.marks[p] for p in range(span[0] + 1, span[1]))


def _is_label(passage: Passage, p: int, start: int) -> bool:
    """Return whether a word is the letter of an option, as in "B) Oslo"."""
    is_letter = p > start and LETTER_OPTIONS(passage.words[p]) is not None
    return is_letter and ")" in passage.marks[p + 1] and "(" not in passage.marks[p]


def _has_verb(words: Sequence[str]) -> bool:
    return any(word in AUXILIARIES or word in SUBJECTS or word in CONTRACTED for word in words)


def negator_at(passage: Passage, p: int, asked: Passage = NO_QUESTION) -> str:
    """Return "yes" for a negating word, "foreign" for one of another language, else ""."""
    words = passage.words
    word, following = words[p], words[p + 1] if p + 1 < len(words) else ""
    if word in FOREIGN_NEGATORS:
        return "foreign"
    is_contraction = word == "t" and p > 0 and words[p - 1] in CONTRACTED
    if not (is_contraction or word in NEGATORS or (word, following) in NEGATING_PAIRS):
        return ""
    if (word, following) in AFFIRMING_PAIRS or (word == "no" and following.isdecimal()):
        return ""
    if (p > 0 and (words[p - 1], word) in AFFIRMING_PAIRS) or (
        word == "doubt" and words[max(p - 2, 0) : p] == ["without", "a"]
    ):
        return ""
    # A negation that repeats the question: "Norway is not in the EU".
    pairs = zip(asked.words, asked.words[1:], strict=False)
    is_repeated = any(other == following and (w in NEGATORS or w == "t") for w, other in pairs)
    return "" if is_repeated else "yes"


def _retraction(passage: Passage, start: int, end: int) -> bool | None:
    """Return None if the sentence retracts what it stated before: "Oslo, no, Bergen"."""
    for p in range(start, end):
        if not passage.marks[p]:
            continue
        word, following = passage.words[p], passage.words[p + 1] if p + 1 < end else ""
        is_retracted = word in RETRACTIONS and following not in ("than", "in", "a", "the")
        if is_retracted or (word, following) == ("i", "mean") or (word == "no" and passage.marks[p + 1]):
            return None
    return True
