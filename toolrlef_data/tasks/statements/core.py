"""Core: whether the part of a sentence around the gold answer states it."""

from __future__ import annotations

from toolrlef_data.tasks.statements.assertion_words import (
    ADJUNCTS,
    CLASSIFIERS,
    COPULAS,
    DETERMINERS,
    LOCATIVES,
    MONTHS,
    MOTIONS,
    MULTIPLIERS,
    OTHER_THINGS,
    PRONOUNS,
    RELATED,
    REPORT_VERBS,
    SOURCES,
    STATING,
    SUFFIXES,
    SURROUNDINGS,
    TAILS,
    UNREAL,
    VERBS,
)
from toolrlef_data.tasks.statements.parts import Sentence, phrase_start
from toolrlef_data.tasks.statements.passage import LETTER_OPTIONS
from toolrlef_data.tasks.statements.vocabulary import AUXILIARIES, CORRECTIONS, FUNCTION_WORDS, stem

__all__ = ["continues", "starts_well"]

SUBORDINATORS = frozenset({"while", "when", "because", "since", "who", "whom", "whose", "which", "with", "like"})
CONNECTIVES = frozenset({"and", "but"})
LEADS = CONNECTIVES | CORRECTIONS


def starts_well(sentence: Sentence) -> bool:
    """Return whether the words before the gold answer in its part state it."""
    passage, gold = sentence.passage, sentence.gold[0]
    words = passage.words
    start = sentence.parts[sentence.here][0]
    if "(" in passage.marks[start] and sentence.here > 0:
        return False  # a remark about another answer: "Lyon (Paris)"
    while start < gold and words[start] in LEADS:
        start += 1
    p = phrase_start(sentence, start)
    for phrase in (["none", "other", "than"], ["go", "with"]):
        if words[start:p][-len(phrase) :] == phrase:
            p -= len(phrase)
    before = words[start:p]
    if not before or (len(before) == 1 and LETTER_OPTIONS(before[0]) and not sentence.is_number):
        return True
    if REPORT_VERBS & set(before):
        if not _is_own_opinion(before):
            return False
        start += 1 + max(k for k, word in enumerate(before) if word in REPORT_VERBS)
        start += start < p and words[start] == "that"
        before = words[start:p]
        if not before:
            return True
    is_predicate = words[p - 1] in COPULAS and words[start] in DETERMINERS  # "The person who wrote it was Oslo."
    is_subordinate = bool(SUBORDINATORS & set(before)) and sentence.is_name and not is_predicate
    if is_subordinate and sentence.has_rival(sentence.parts[0][0], p):
        return False  # "Bergen, which replaced Oslo"
    last, previous = before[-1], before[-2] if len(before) > 1 else ""
    if last == "of" and not sentence.are_known(p - 2, p):
        is_measure = sentence.is_number and not (MULTIPLIERS | RELATED) & set(before)
        return previous in CLASSIFIERS | MONTHS | {"died", "consists", "made"} or (
            is_measure and any(stem(w) in VERBS or w in COPULAS for w in before)
        )
    if last in ("from", "to", "by") and sentence.is_number:
        return False
    if last in ("from", "to"):
        # "is a politician from Oslo", unlike "is a town next to Oslo"
        is_origin = last == "from" and {"a", "an"} & set(before) and not RELATED & set(before)
        return not previous or previous in COPULAS | MOTIONS or sentence.is_known(p - 2) or bool(is_origin)
    if last == "by":
        return not RELATED & set(before)
    if last in ("for", "as"):
        is_named = last == "as" and bool(COPULAS & set(before)) and previous in ("to", "known", "described", "regarded")
        return previous in ("plays", "played", "works", "worked", "served", "looking") or is_named
    if sentence.are_known(start, p):
        return True
    if last in LOCATIVES:
        return not _has_agent(sentence, start, p) and not (RELATED | OTHER_THINGS | UNREAL) & set(before)
    be = next((q for q in range(p - 1, start - 1, -1) if words[q] in COPULAS), None)
    if be is not None and sentence.are_known(be + 1, p):
        return _is_subject(sentence, start, be)
    is_verb = (
        stem(last) in VERBS or _is_action(sentence, start, p - 1) or (sentence.is_asked(p - 1) and len(before) > 1)
    )
    return is_verb and not (RELATED | OTHER_THINGS) & set(before)


def _is_own_opinion(before: list[str]) -> bool:
    """Return whether the writer or a source states the answer, not other people."""
    k = max(k for k, word in enumerate(before) if word in REPORT_VERBS)
    subject = set(before[:k]) - STATING
    is_own = bool({"i", "we", "my"} & set(before[: k + 1]))
    return (is_own and not subject and before[k] in STATING) or (bool(subject) and subject <= SOURCES)


def _is_action(sentence: Sentence, start: int, p: int) -> bool:
    """Return whether a subject without a rival acts on the gold answer: "He attended Harvard"."""
    words = sentence.passage.words
    is_kind = sentence.is_name or sentence.is_number
    return is_kind and words[p].endswith("ed") and words[start] not in ("i", "we") and sentence.are_known(start, p)


def _has_agent(sentence: Sentence, start: int, end: int) -> bool:
    """Return whether words before the gold answer state another answer: "It was won by Bergen in Oslo"."""
    by = next((q for q in range(start, end) if sentence.passage.words[q] == "by"), end)
    return sentence.has_rival(by, end)


def _is_subject(sentence: Sentence, start: int, end: int) -> bool:
    """Return whether words before "is" are its subject: a pronoun after known words, or a noun phrase."""
    words = sentence.passage.words
    text = words[start:end]
    if not text or text[0] in PRONOUNS | {"i", "we"} or text[-1] in PRONOUNS | {"to"}:
        return all(sentence.is_known(p) or words[p] in SOURCES | REPORT_VERBS for p in range(start, end))
    return not set(text) & OTHER_THINGS


def continues(sentence: Sentence, start: int, end: int) -> bool:
    """Return whether words after the gold answer keep it stated."""
    passage, first = sentence.passage, sentence.gold[0]
    words = passage.words
    # "Martin Luther King Jr.", "the Amazon River"
    while start < end and (words[start] in SUFFIXES or (passage.capital[start] and sentence.is_asked(start))):
        start += 1
    start += words[start : start + 1] == ["co"]  # "co-founded"
    # "Oslo is larger than Bergen" answers "Which city is larger?".
    end = next((p for p in range(start + 1, end) if words[p] == "than" and sentence.is_asked(p - 1)), end)
    after = words[start:end]
    if not after:
        return True
    if after[0] in ("s", "or") and not sentence.golds & set(range(start, end)):
        return False  # "Paris's rival", "Paris or so"
    if sentence.are_known(start, end):
        return after[-1] not in AUXILIARIES or after in (["it", "is"], ["did"], ["does"])
    others = OTHER_THINGS.intersection(after) - sentence.asked
    is_other = bool(others) and any(words[p] in others and not passage.capital[p] for p in range(start, end))
    if sentence.is_asked(start) and _acts(sentence, start):
        return not sentence.states_rival(start, end)
    is_tail = after[0] in TAILS and any(_acts(sentence, p) for p in range(sentence.parts[sentence.here][0], first))
    if is_tail and (sentence.is_name or (sentence.is_number and not sentence.has_rival(start, end))):
        return True
    has_relation = bool((RELATED & set(after)) - sentence.asked - SURROUNDINGS)
    has_relation = has_relation or (bool(SURROUNDINGS & set(after)) and sentence.has_rival(start, end))
    if has_relation or is_other or sentence.states_rival(start, end):
        return False
    head = after[0]
    if (UNREAL & set(after)) - sentence.asked or (head == "with" and sentence.has_rival(start, end)):
        return False
    if head in ADJUNCTS | SURROUNDINGS:
        is_epithet = head == "of" and sentence.is_name and first > 0 and words[first - 1] in DETERMINERS
        return not is_epithet or passage.capital[start + 1]  # "the Paris of the east", "the Andes of Peru"
    if head == "to":
        return after[1:2] != [] and (stem(after[1]) in VERBS or sentence.is_asked(start + 1)) and not sentence.is_number
    if head in ("who", "that") and (not sentence.asked or any(map(sentence.is_asked, range(start, end)))):
        return not sentence.has_rival(start, end)
    if head in COPULAS or head in AUXILIARIES:
        is_defined = passage.capital[first] and after[1:2] == ["the"]
        is_defined = is_defined and (not sentence.asked or any(map(sentence.is_asked, range(start, end))))
        is_repeated = all(
            w in FUNCTION_WORDS or stem(w) in VERBS or sentence.is_known(start + k) for k, w in enumerate(after)
        )
        is_repeated = is_repeated and any(map(sentence.is_asked, range(start, end)))
        return is_defined or is_repeated or (head in COPULAS and _is_described(sentence, start + 1))
    if stem(head) in VERBS:
        return head != "born"
    if sentence.is_asked(start):
        return not passage.capital[start]
    if sentence.is_number and head.isalpha() and not passage.capital[start]:
        is_unit = head not in FUNCTION_WORDS and not MULTIPLIERS & set(after)
        return is_unit and (len(after) <= 3 or bool(ADJUNCTS & set(after[1:3])))
    return False


def _acts(sentence: Sentence, p: int) -> bool:
    """Return whether a word is a verb."""
    word = sentence.passage.words[p]
    return stem(word) in VERBS or word in AUXILIARIES or (sentence.is_asked(p) and word.endswith("ed"))


def _is_described(sentence: Sentence, start: int) -> bool:
    """Return whether words after "Paris is" describe it with another name or number: "the capital of France"."""
    passage = sentence.passage
    end = sentence.parts[-1][1]
    names = [p for p in range(start, end) if passage.capital[p] and not sentence.is_known(p)]
    is_passive = bool({"by", "to"} & set(passage.words[start:end]))
    return bool(names) and not is_passive and passage.words[start] not in ("a", "an")
