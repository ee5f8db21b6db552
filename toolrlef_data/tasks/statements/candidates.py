"""Candidates: whether a gold answer is the only one that a sentence gives, or one of several candidates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from toolrlef_data.tasks.statements.assertion_words import VERBS
from toolrlef_data.tasks.statements.negation import negator_at
from toolrlef_data.tasks.statements.passage import Item, Passage, Span
from toolrlef_data.tasks.statements.sentences import is_answer, is_fragment
from toolrlef_data.tasks.statements.vocabulary import (
    AUXILIARIES,
    CHOICES,
    FUNCTION_WORDS,
    HEDGES,
    ITEM_LEADS,
    NEGATING_PAIRS,
    NO_CANDIDATE,
    PARTICLES,
    SUBJECTS,
    stem,
)
from toolrlef_data.tasks.words import equal_forms

__all__ = ["is_only_candidate"]

REACH = 300  # words on each side of a gold answer that are read


class Candidate(NamedTuple):
    """An item of a list beside the gold answer; `is_sure` is False if it may be part of a sentence."""

    item: Item
    is_sure: bool
    is_gold: bool


def is_only_candidate(passage: Passage, span: Span, spans: Sequence[Span]) -> bool | None:
    """Return False if the gold answer is one of several candidates, None if that is unsure."""
    start, end = passage.sentence(span)
    items = passage.items(max(start, span[0] - REACH), min(end, span[1] + REACH), span)
    here = next(k for k, item in enumerate(items) if item.start <= span[0] < item.end)
    first, last = _list_bounds(passage, span, items, here)
    verdicts = (
        _in_list(passage, span, spans, items[first : last + 1], here - first),
        _in_sentences(passage, span, spans),
    )
    return False if False in verdicts else None if None in verdicts else True


def _list_bounds(passage: Passage, span: Span, items: Sequence[Item], here: int) -> tuple[int, int]:
    """Return the first and last item of the list that contains the gold answer."""
    words = passage.words
    first = last = here
    is_clause = any(word in AUXILIARIES or word in SUBJECTS for word in words[items[here].start : span[0]])
    while first > 0:
        joiner = items[first].joiner
        if first == here and is_clause and "or" not in joiner:
            break
        is_gold = first == here and items[here].start == span[0]
        if _starts_clause(passage, items[first]) and not is_gold and not _is_sure_joiner(joiner):
            break
        first -= 1
    following = words[span[1] : items[here].end]
    # The other items are what the answer is not, or is compared with.
    if "than" in following or any(pair in NEGATING_PAIRS for pair in pairwise(following)):
        return first, last
    while last + 1 < len(items):
        item = items[last + 1]
        is_denied = bool(negator_at(passage, item.start)) and words[item.start] not in PARTICLES | {"non"}
        is_clause = _starts_clause(passage, item) or _adds_clause(passage, span, item)
        if not _is_sure_joiner(item.joiner) and (is_denied or is_clause):
            break
        last += 1
    return first, last


def _is_sure_joiner(joiner: str) -> bool:
    """Return whether a joiner only joins items of a list, unlike commas, which also separate clauses."""
    return "or" in joiner or "|" in joiner


def _starts_clause(passage: Passage, item: Item) -> bool:
    return passage.words[item.start] in NO_CANDIDATE and not passage.capital[item.start]


def _adds_clause(passage: Passage, span: Span, item: Item) -> bool:
    """Return whether an item after a name cannot be a name: "Oslo, a city with a fjord", "Oslo and lies on a fjord"."""
    words, p = passage.words, item.start
    if not _is_name(passage, span):
        return False
    if words[p] in ("a", "an"):
        return True
    while p < item.end and words[p] in ITEM_LEADS:
        p += 1
    return p < item.end and words[p].isascii() and not passage.capital[p]


def _is_name(passage: Passage, span: Span) -> bool:
    """Return whether the gold answer is written as a name; any first word of a sentence has a capital letter."""
    is_capital = passage.capital[span[0]] and not passage.words[span[0]].isdecimal()
    return is_capital and (span[1] - span[0] > 1 or span[0] > passage.sentence(span)[0])


def _in_list(passage: Passage, span: Span, spans: Sequence[Span], chain: Sequence[Item], here: int) -> bool | None:
    """Return False if the list contains other candidates, None if that is unsure."""
    words = passage.words
    candidates = [
        Candidate(item, is_sure, _is_gold(passage, item, spans))
        for k, item in enumerate(chain)
        if k != here and (is_sure := _is_candidate(passage, span, chain, k, here)) is not None
    ]
    others = sum(not candidate.is_gold for candidate in candidates)
    if others == 0:
        return True
    joiners = "".join(item.joiner for item in chain[1:])
    if "or" in joiners:
        return False
    start = passage.sentence(span)[0]
    if (
        "/" in joiners
        or ("between" in words[start : span[0]] and "&" in joiners)
        or CHOICES & set(words[start : span[0]])
        or ("one", "of") in pairwise(words[start : span[0]])
    ):
        return None
    if others < len(candidates):
        return True if len(candidates) == 1 else None if others <= len(candidates) - others else False
    sure = 1 + sum(candidate.is_sure for candidate in candidates)
    if sure < 3:
        return True if len(candidates) == 1 else None
    # As in "Paris, Texas, United States" and "Shakespeare wrote Hamlet, Macbeth and Othello".
    is_place = here == 0 and sure == 3 and set(joiners) <= set(",(")
    is_subject = here == 0 and chain[0].end > span[1]
    if is_subject and (words[span[1]] in AUXILIARIES or stem(words[span[1]]) in VERBS):
        return True  # the other items belong to its predicate
    return None if is_place or is_subject else False


def _is_gold(passage: Passage, item: Item, spans: Sequence[Span]) -> bool:
    is_denied = bool(negator_at(passage, item.start))
    return not is_denied and any(start < item.end and item.start < end for start, end in spans)


def _is_candidate(passage: Passage, span: Span, chain: Sequence[Item], k: int, here: int) -> bool | None:
    """Return whether an item of a list is a candidate, False if that is unsure; None if it is none."""
    item = chain[k]
    words, p, end = passage.words, item.start, item.end
    is_capital = passage.capital[span[0]]
    is_name = _is_name(passage, span)
    has_article = False
    joiners = item.joiner + "".join(other.joiner for other in chain[k + 1 : k + 2] if "or" in other.joiner)
    if "or" in joiners:
        return True
    while p < end and words[p] in ITEM_LEADS:
        has_article = has_article or words[p] in ("the", "a", "an")
        p += 1
    if p == end or (end == p + 1 and words[p] in PARTICLES):
        return None
    if "|" in joiners or has_hedge(passage, item.start, end):
        return True
    is_sentence_start = passage.sentences[passage.sentence_of[p]][0] == item.start
    if words[p] in NO_CANDIDATE and (is_sentence_start or not passage.capital[p]):
        return None
    here_item = words[chain[here].start : chain[here].end]
    if is_name and any(map(str.isdecimal, words[p:end])) and not any(map(str.isdecimal, here_item)):
        return None  # a date: "in London, England, in 1865"
    is_number_word = len(equal_forms(f" {words[span[0]]} ")) > 1 and span[1] - span[0] == 1
    if is_number_word and not any(map(str.isdecimal, words[p:end])) and passage.capital[p]:
        return None  # names after a number: "eight: Mercury, Venus"
    if passage.capital[p] or ord(words[p][0]) > 0x370:
        return True
    is_apposition = has_article and is_capital and k == here + 1
    if is_name or is_apposition or words[item.start] in AUXILIARIES:
        return None  # no name, or the predicate: "Oslo, the capital of Norway, is a port"
    return end - p <= 3 and not any(word in FUNCTION_WORDS for word in words[p:end])


def _in_sentences(passage: Passage, span: Span, spans: Sequence[Span]) -> bool | None:
    """Return False if the sentence is one of three or more short sentences with different answers."""
    here = passage.sentence_of[span[0]]
    for k in range(max(0, here - 1), min(len(passage.sentences), here + 2)):
        start, end = passage.sentences[k]
        is_alternative = k > 0 and k >= here and passage.words[start] in ("or", "otherwise", "alternatively")
        if is_alternative or (
            k != here and has_hedge(passage, start, end) and has_hedge(passage, *passage.sentences[here])
        ):
            return None
    with_gold = {passage.sentence_of[s[0]] for s in spans}
    for is_listed in (is_fragment, is_answer, partial(_starts_like, other=passage.sentences[here])):
        first = last = here
        if not is_listed(passage, passage.sentences[here]):
            continue
        while first > 0 and is_listed(passage, passage.sentences[first - 1]):
            first -= 1
        while last + 1 < len(passage.sentences) and is_listed(passage, passage.sentences[last + 1]):
            last += 1
        listed = [passage.sentences[k] for k in range(first, last + 1) if k not in with_gold]
        listed = [(s, e) for s, e in listed if "?" not in passage.marks[e] and passage.words[s] not in PARTICLES]
        others = {" ".join(passage.words[start:end]) for start, end in listed}
        if len(others) >= 2:
            return False
        if others and is_listed is is_answer and has_hedge(passage, *passage.sentences[here]):
            return None
    return _in_lines(passage, span, spans)


def _in_lines(passage: Passage, span: Span, spans: Sequence[Span]) -> bool:
    """Return False if the gold answer is in one of three or more lines that are no sentences."""
    low, high = max(0, span[0] - REACH), min(len(passage.words), span[1] + REACH)
    breaks = [p for p in range(low + 1, high) if "\n" in passage.marks[p]]
    lines = list(pairwise([low, *breaks, high]))
    # Each end of a line adds a full stop.
    is_listed = [
        end - start <= 12 and (passage.marks[end].count(".") < 2 or not passage.has_verb(start, end))
        for start, end in lines
    ]
    here = next(k for k, (start, end) in enumerate(lines) if start <= span[0] < end)
    if not is_listed[here] or "answer" in passage.words[slice(*lines[here])]:
        return True
    first = last = here
    while first > 0 and is_listed[first - 1]:
        first -= 1
    while last + 1 < len(lines) and is_listed[last + 1]:
        last += 1
    others = [line for line in lines[first : last + 1] if not any(s[0] < line[1] and line[0] < s[1] for s in spans)]
    return len({" ".join(passage.words[start:end]) for start, end in others}) < 2


def has_hedge(passage: Passage, start: int, end: int) -> bool:
    """Return whether words mark one of several guesses; the month May and "I could be wrong" do not."""
    words = passage.words
    is_marked = any(words[p] in HEDGES and not (words[p] == "may" and passage.capital[p]) for p in range(start, end))
    return is_marked and words[start] != "i"


def _starts_like(passage: Passage, sentence: Span, other: Span) -> bool:
    """Return whether two sentences have the same first two words, and the first sentence is short."""
    start, end = sentence
    return 2 < end - start <= 12 and passage.words[start : start + 2] == passage.words[other[0] : other[0] + 2]
