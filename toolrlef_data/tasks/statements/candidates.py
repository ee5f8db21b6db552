"""Candidates: whether a gold answer is the only one that a sentence gives, or one of several candidates."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from toolrlef_data.tasks.statements.negation import negator_at
from toolrlef_data.tasks.statements.passage import Item, Passage, Span
from toolrlef_data.tasks.statements.sentences import is_answer, is_fragment
from toolrlef_data.tasks.statements.vocabulary import (
    AUXILIARIES,
    BE,
    CHOICES,
    FUNCTION_WORDS,
    HEDGES,
    ITEM_LEADS,
    NEGATING_PAIRS,
    NO_CANDIDATE,
    PARTICLES,
    REJECTIONS,
    SUBJECTS,
)

__all__ = ["is_only_candidate"]


class Candidate(NamedTuple):
    """An item of a list beside the gold answer; `is_sure` is False if it may be part of a sentence."""

    item: Item
    is_sure: bool
    is_gold: bool


def is_only_candidate(passage: Passage, span: Span, spans: Sequence[Span]) -> bool | None:
    """Return False if the gold answer is one of several candidates, None if that is unsure."""
    start, end = passage.sentence(span)
    items = passage.items(start, end, span)
    here = next(k for k, item in enumerate(items) if item.start <= span[0] < item.end)
    first, last = _list_bounds(passage, span, items, here)
    verdicts = (
        _in_list(passage, span, spans, items[first : last + 1], here - first),
        _in_clauses(passage, span, items, here),
        _in_sentences(passage, span, spans),
    )
    return False if False in verdicts else None if None in verdicts else True


def _list_bounds(passage: Passage, span: Span, items: Sequence[Item], here: int) -> tuple[int, int]:
    """Return the first and last item of the list that contains the gold answer."""
    words = passage.words
    first = last = here
    is_clause = any(word in AUXILIARIES or word in SUBJECTS for word in words[items[here].start : span[0]])
    while first > 0:
        starts_clause = _starts_clause(passage, items[first]) or (first == here and is_clause)
        if starts_clause and "or" not in items[first].joiner:
            break
        first -= 1
    following = pairwise(words[span[1] : items[here].end])
    if any(pair in NEGATING_PAIRS for pair in following):  # the other items are what the answer is not
        return first, last
    while last + 1 < len(items):
        item = items[last + 1]
        is_denied = bool(negator_at(passage, item.start)) and words[item.start] not in PARTICLES
        if "or" not in item.joiner and (is_denied or _starts_clause(passage, item)):
            break
        last += 1
    return first, last


def _starts_clause(passage: Passage, item: Item) -> bool:
    return passage.words[item.start] in NO_CANDIDATE and not passage.capital[item.start]


def _in_list(passage: Passage, span: Span, spans: Sequence[Span], chain: Sequence[Item], here: int) -> bool | None:
    """Return False if the list contains other candidates, None if that is unsure."""
    words = passage.words
    candidates = [
        Candidate(item, is_sure, any(s[0] < item.end and item.start < s[1] for s in spans))
        for item in chain
        if item != chain[here] and (is_sure := _is_candidate(passage, item, passage.capital[span[0]])) is not None
    ]
    others = sum(not candidate.is_gold for candidate in candidates)
    if others == 0:
        return None if _is_run_of_names(passage, span, chain[here]) else True
    joiners = "".join(item.joiner for item in chain[1:])
    if "or" in joiners:
        return False
    start = passage.sentence(span)[0]
    for item, _, _ in candidates:
        if item.end <= span[0] and any(negator_at(passage, p) for p in range(item.start, item.end)):
            return None
        if HEDGES & set(words[item.start : item.end]) and words[item.start] != "i":
            return None
    if (
        "/" in joiners
        or ("between" in words[start : span[0]] and "&" in joiners)
        or CHOICES & set(words[start : span[0]])
    ):
        return None
    if others < len(candidates):
        return True if len(candidates) == 1 else None if others <= len(candidates) - others else False
    sure = 1 + sum(candidate.is_sure for candidate in candidates)
    if sure < 3:
        return True if len(candidates) == 1 else None
    is_place = here == 0 and sure == 3 and set(joiners) <= set(",(")
    return None if is_place else False  # as in "Paris, Texas, United States"


def _is_candidate(passage: Passage, item: Item, is_name: bool) -> bool | None:
    """Return whether an item is a candidate beside an answer that is a name or not; None if it is none."""
    words, p, end = passage.words, item.start, item.end
    has_article = False
    while p < end and words[p] in ITEM_LEADS:
        has_article = has_article or words[p] in ("the", "a", "an")
        p += 1
    if p == end or words[p] in NO_CANDIDATE or (end == p + 1 and words[p] in PARTICLES):
        return None
    if passage.capital[p] or ord(words[p][0]) > 0x370:
        return True
    if has_article and is_name:
        return None  # an apposition: "Oslo, the capital of Norway"
    return end - p <= 3 and not any(word in FUNCTION_WORDS for word in words[p:end])


def _is_run_of_names(passage: Passage, span: Span, item: Item) -> bool:
    """Return whether the gold answer stands among five or more names without punctuation."""
    others = [p for p in range(item.start, item.end) if not span[0] <= p < span[1]]
    return len(others) >= 5 and all(passage.capital[p] and passage.words[p].isalpha() for p in others)


def _in_clauses(passage: Passage, span: Span, items: Sequence[Item], here: int) -> bool | None:
    """Return False or None if the clauses of a sentence give different answers: "It was Oslo, but now it is Bergen"."""
    words = passage.words
    stated = 0
    for k, item in enumerate(items):
        text = words[item.start : item.end]
        be = next((p for p in range(item.start, item.end - 1) if words[p] in BE), None)
        stated += k == here or (be is not None and passage.capital[be + 1])
        if k == here:
            continue
        if text[0] == "if" and (REJECTIONS | {"not"}) & set(text):
            return None
        is_contrast = text[0] in ("but", "now", "today", "actually", "then") and k > here
        if is_contrast and is_answer(passage, (item.start, item.end)):
            return None
        is_hedged = bool(HEDGES & set(text)) and text[0] != "i"
        if is_hedged and HEDGES & set(words[items[here].start : items[here].end]):
            return None
        if is_hedged and {"others", "unless", "alternatively", "otherwise"} & set(text):
            return None
    after = words[span[1] : passage.sentence(span)[1]]
    if ("if", "not") in pairwise(after) or "unless" in after:
        return None
    return stated < 3


def _in_sentences(passage: Passage, span: Span, spans: Sequence[Span]) -> bool | None:
    """Return False if the sentence is one of three or more short sentences with different answers."""
    here = passage.sentence_of[span[0]]
    with_gold = {passage.sentence_of[s[0]] for s in spans}
    for is_listed in (is_fragment, is_answer):
        first = last = here
        if not is_listed(passage, passage.sentences[here]):
            continue
        while first > 0 and is_listed(passage, passage.sentences[first - 1]):
            first -= 1
        while last + 1 < len(passage.sentences) and is_listed(passage, passage.sentences[last + 1]):
            last += 1
        listed = [passage.sentences[k] for k in range(first, last + 1) if k not in with_gold]
        others = {" ".join(passage.words[start:end]) for start, end in listed}
        if len(others) >= 2:
            return False
        if others and is_listed is is_answer and HEDGES & set(passage.words[slice(*passage.sentences[here])]):
            return None
    return True
