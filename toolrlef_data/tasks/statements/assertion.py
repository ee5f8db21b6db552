"""Assertions: whether a sentence states the gold answer, judged by every other word of the sentence.

A sentence states its gold answer if each other word is accounted for. It may belong to a known way to state an answer
("I believe that it is"), the question, the subject of "is", or a detail of the gold answer. A sentence with any other
word is unsure: "Lyon replaced Paris.", "Near Paris", "Some say Paris".
"""

from __future__ import annotations

from toolrlef_data.tasks.statements.assertion_words import (
    CONTAINERS,
    COPULAS,
    DETAIL_STARTS,
    DETERMINERS,
    DISCLAIMERS,
    INTRODUCTIONS,
    LOCATIVES,
    OPENINGS,
    PRONOUNS,
    REGIONS,
    ROLES,
    SOURCES,
    STATES,
    STATING,
    UNREAL,
    VERBS,
)
from toolrlef_data.tasks.statements.core import CONNECTIVES, continues, starts_well
from toolrlef_data.tasks.statements.negation import negator_at
from toolrlef_data.tasks.statements.parts import DENIALS, Sentence, split_sentence
from toolrlef_data.tasks.statements.passage import LETTER_OPTIONS, Passage, Span
from toolrlef_data.tasks.statements.vocabulary import AUXILIARIES, CORRECTIONS, FUNCTION_WORDS, HEDGES, UPDATES, stem

__all__ = ["is_asserted"]

COMMON = STATING | FUNCTION_WORDS


def is_asserted(passage: Passage, span: Span, golds: list[Span], asked: Passage) -> bool | None:
    """Return True if a sentence states the gold answer, None if it has words that are not accounted for.

    Args:
        passage: the answer.
        span: the gold answer.
        golds: all gold answers in the passage.
        asked: the question.
    """
    sentence = split_sentence(passage, span, golds, asked)
    here = sentence.here
    is_stated = (
        starts_well(sentence)
        and continues(sentence, sentence.mention[1], sentence.parts[here][1])
        and all(_introduces(sentence, k) for k in range(here))
        and all(_adds_detail(sentence, k) for k in range(here + 1, len(sentence.parts)))
        and sum(_is_short_phrase(sentence, k) for k in range(here + 1, len(sentence.parts))) < 3
        and not _follows_rival(sentence)
        and not any(_answers_better(sentence, k) for k in range(here + 1, len(sentence.parts)))
        and not _is_past(sentence, asked)
    )
    is_polar = passage.words[slice(*span)] in (["yes"], ["no"]) and span[0] == sentence.parts[0][0]
    return True if is_stated or is_polar else None


def _introduces(sentence: Sentence, k: int) -> bool:
    """Return whether a part before that of the gold answer states no other answer."""
    passage, (start, end) = sentence.passage, sentence.parts[k]
    words = passage.words
    head = words[start]
    here = sentence.parts[sentence.here][0]
    if words[here] == "and" and k + 1 < sentence.here and not STATING.issuperset(words[start:end]):
        return head in INTRODUCTIONS
    if head == "if" and not sentence.are_known(start, end):
        return "i" in words[start:end]
    if any(negator_at(passage, p) for p in range(start, end)) or sentence.are_known(start, end):
        return True  # the part denies another answer, or gives none
    is_region = " ".join(words[here : sentence.parts[sentence.here][1]]) in REGIONS
    if is_region and k + 1 == sentence.here and (LOCATIVES | {"of"}) & set(words[start:end]):
        return REGIONS.isdisjoint(words[start:end])  # "in Bergen, Norway" with gold Norway
    if head == "according":
        return bool(SOURCES & set(words[start:end]))
    is_introduction = head in INTRODUCTIONS and "|" not in passage.marks[end]
    if is_introduction or head in CORRECTIONS or (LETTER_OPTIONS(head) and end - start == 1 and not sentence.is_number):
        return True
    if head in ROLES and ":" in passage.marks[end]:
        return True
    corrector = words[here + (words[here] == "but")]
    if corrector in CORRECTIONS | UPDATES and "or" not in words[start:end]:
        return True
    if sentence.here > 1 and words[here] in AUXILIARIES:
        return True  # the subject and its appositions
    if _asked_words(sentence, sentence.here) > _asked_words(sentence, k) and words[here] in CONNECTIVES:
        return True  # "It began in 1933 and the bridge was completed in 1937."
    if k + 1 == sentence.here and words[here] == "and":  # "Lyon and Paris"
        is_clause = passage.has_verb(start, end) or any(stem(w) in VERBS for w in words[start:end])
        is_pair = sentence.are_known(here, sentence.gold[0]) and not is_clause
        return is_pair or not sentence.has_rival(start, end)
    is_full = sentence.gold[0] - here > 1
    if k > 0 and (words[here] in AUXILIARIES or stem(words[here]) in VERBS):
        return True  # an apposition of the subject
    if is_full and k > 0 and (head in DETAIL_STARTS or head.endswith("ed")):
        return True
    are_names = all(passage.capital[start:end])
    return (is_full or are_names) and not sentence.has_rival(start, end)


def _adds_detail(sentence: Sentence, k: int) -> bool:
    """Return whether a part after that of the gold answer only adds to it."""
    passage, (start, end) = sentence.passage, sentence.parts[k]
    words = passage.words
    text = words[start:end]
    heads = [words[first] for first, _ in sentence.parts[sentence.here + 1 : k + 1]]
    if "not" in heads or "not" in text[1:2] or tuple(text[:2]) in DENIALS:
        return True
    if text[0] == "but" or any(negator_at(passage, p) for p in range(start, end)):
        return bool(DISCLAIMERS & set(text)) and not sentence.has_rival(start, end)
    is_content = any(p not in sentence.golds and words[p] not in COMMON for p in range(start, end))
    if text[0] in UNREAL | {"had", "were"} and not sentence.are_known(start, end):
        return False
    if is_content and ((text[0] in HEDGES and end - start > 1) or (text[0] in PRONOUNS and COPULAS & set(text))):
        return False
    if sentence.are_known(start, end):
        return True
    if any(_opens_clause(sentence, i) for i in range(sentence.here + 1, k)):
        return not sentence.states_rival(start, end)
    region = next((n for n in (4, 3, 2, 1) if " ".join(w for w in text[:n] if w != "the") in REGIONS), 0)
    if region and k == sentence.here + 1:
        gold = " ".join(words[slice(*sentence.gold)])
        is_inside = gold not in REGIONS or gold in STATES or " ".join(text[:region]) in CONTAINERS
        return is_inside and continues(sentence, start + region, end)
    is_pair = text[0] == "and" and sentence.gold[1] == start
    if sentence.states_rival(start, end) and (text[0] not in DETAIL_STARTS or text[0] == "and") and not is_pair:
        return False
    is_bracketed = "(" in passage.marks[start]
    if sentence.is_number and all(word.isdecimal() for word in text) and not is_bracketed:
        return False  # a range or a sum
    if is_bracketed or text[0] in DETAIL_STARTS or (LOCATIVES | {"of"}) & set(text[1:2]):
        return True
    is_participle = text[0].endswith("ing") or (text[0].endswith("ed") and not sentence.is_number)
    return is_participle or not sentence.has_rival(start, end)


def _opens_clause(sentence: Sentence, k: int) -> bool:
    """Return whether a part after a name starts a clause or phrase, to which the parts after it belong."""
    passage, start = sentence.passage, sentence.parts[k][0]
    words = passage.words
    start += words[start] == "and"
    is_verb = words[start].endswith(("ed", "ing", "s")) or stem(words[start]) in VERBS
    return sentence.is_name and not passage.capital[start] and (is_verb or words[start] in OPENINGS)


def _is_short_phrase(sentence: Sentence, k: int) -> bool:
    """Return whether a part could be an item of a list."""
    start, end = sentence.parts[k]
    words = sentence.passage.words
    if any(_opens_clause(sentence, i) for i in range(sentence.here + 1, k)):
        return False
    is_item = words[start] in DETERMINERS | {"and"} or words[start] not in DETAIL_STARTS
    is_other = not sentence.are_known(start, end) and (not sentence.is_number or sentence.has_rival(start, end))
    return is_item and end - start <= 4 and is_other


def _answers_better(sentence: Sentence, k: int) -> bool:
    """Return whether a clause with a rival repeats more of the question: "It began in 1939 and ended in 1945."."""
    start, end = sentence.parts[k]
    if sentence.passage.words[start] != "and" or not sentence.has_rival(start, end):
        return False
    here, there = (sum(map(sentence.is_asked, range(*part))) for part in (sentence.parts[sentence.here], (start, end)))
    has_verb = any(stem(word) in VERBS for word in sentence.passage.words[start:end])
    return has_verb and (there > here or (sentence.is_number and here == there == 0))


def _asked_words(sentence: Sentence, k: int) -> int:
    return sum(map(sentence.is_asked, range(*sentence.parts[k])))


def _follows_rival(sentence: Sentence) -> bool:
    """Return whether an earlier sentence states another answer that this sentence does not correct."""
    passage = sentence.passage
    words = passage.words
    start = sentence.parts[0][0]
    if words[start] in CORRECTIONS | UPDATES:
        return False
    for first, last in passage.sentences[: passage.sentence_of[start]][-3:]:
        is_open = "?" in passage.marks[last] or any(negator_at(passage, p) for p in range(first, last))
        if is_open or words[first] in CORRECTIONS:
            continue
        if LETTER_OPTIONS(words[first]) and last - first > 1:
            first += 1
        is_bare = all(sentence.is_rival(p) or sentence.is_known(p) for p in range(first, last))
        is_it = words[first] in PRONOUNS and sentence.states_rival(first, last)
        if is_it or (is_bare and sentence.has_rival(first, last) and not passage.has_verb(first, last)):
            return True
    return False


def _is_past(sentence: Sentence, asked: Passage) -> bool:
    """Return whether a question about the present has an answer about the past."""
    present, past = {"is", "are"}, {"was", "were"}
    start, end = sentence.parts[sentence.here]
    words = set(sentence.passage.words[start:end])
    is_past = bool(present & set(asked.words[:3])) and bool(past & words) and not past & set(asked.words)
    return is_past and any(sentence.is_asked(p) for p in range(start, end) if p not in sentence.golds)
