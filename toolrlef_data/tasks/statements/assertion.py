"""Assertions: whether a sentence states the gold answer, judged by every other word of the sentence.

A sentence states its gold answer if each other word is accounted for. It may belong to a known way to state an answer
("I believe that it is"), the question, the subject of "is", or a detail of the gold answer. A sentence with any other
word is unsure: "Lyon replaced Paris.", "Near Paris", "Some say Paris".
"""

from __future__ import annotations

from toolrlef_data.tasks.statements.assertion_words import (
    ADJUNCTS,
    CLASSIFIERS,
    COPULAS,
    DETAIL_STARTS,
    DETERMINERS,
    DISCLAIMERS,
    INTRODUCTIONS,
    LOCATIVES,
    MONTHS,
    MOTIONS,
    MULTIPLIERS,
    OPENINGS,
    OTHER_THINGS,
    PRONOUNS,
    RELATED,
    REPORT_VERBS,
    ROLES,
    SOURCES,
    STATING,
    SUFFIXES,
    SURROUNDINGS,
    TAILS,
    UNIVERSAL,
    UNREAL,
    VERBS,
)
from toolrlef_data.tasks.statements.negation import negator_at
from toolrlef_data.tasks.statements.parts import DENIALS, Sentence, phrase_start, split_sentence
from toolrlef_data.tasks.statements.passage import LETTER_OPTIONS, Passage, Span
from toolrlef_data.tasks.statements.regions import CONTAINERS, REGIONS
from toolrlef_data.tasks.statements.vocabulary import AUXILIARIES, CORRECTIONS, FUNCTION_WORDS, HEDGES, UPDATES, stem

__all__ = ["is_asserted"]

SUBORDINATORS = frozenset({"while", "when", "because", "since", "who", "whom", "whose", "which", "with", "like"})
CONNECTIVES = frozenset({"and", "but"})
LEADS = CONNECTIVES | CORRECTIONS
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
        _starts_well(sentence)
        and _continues(sentence, sentence.mention[1], sentence.parts[here][1])
        and all(_introduces(sentence, k) for k in range(here))
        and all(_adds_detail(sentence, k) for k in range(here + 1, len(sentence.parts)))
        and sum(_is_short_phrase(sentence, k) for k in range(here + 1, len(sentence.parts))) < 3
        and not _follows_rival(sentence)
        and not any(_answers_better(sentence, k) for k in range(here + 1, len(sentence.parts)))
        and not _is_past(sentence, asked)
    )
    is_polar = passage.words[slice(*span)] in (["yes"], ["no"]) and span[0] == sentence.parts[0][0]
    return True if is_stated or is_polar else None


# The part with the gold answer ----------------------------------------------------------------------------------------


def _starts_well(sentence: Sentence) -> bool:
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
        is_origin = {"a", "an"} & set(before) and not RELATED & set(before)  # "is a politician from Oslo"
        return not previous or previous in COPULAS | MOTIONS or sentence.is_known(p - 2) or bool(is_origin)
    if last == "by":
        return not RELATED & set(before)
    if last in ("for", "as"):
        is_named = last == "as" and bool(COPULAS & set(before)) and previous in ("to", "known", "described", "regarded")
        return stem(previous) in ("play", "work", "serv") or is_named
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


def _continues(sentence: Sentence, start: int, end: int) -> bool:
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
    is_other = any(words[p] in OTHER_THINGS - sentence.asked and not passage.capital[p] for p in range(start, end))
    if sentence.is_asked(start) and _acts(sentence, start):
        return not sentence.states_rival(start, end)
    if after[0] in TAILS and any(_acts(sentence, p) for p in range(sentence.parts[sentence.here][0], first)):
        if sentence.is_name or (sentence.is_number and not sentence.has_rival(start, end)):
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


# Other parts of the sentence, and the sentence before -----------------------------------------------------------------


def _introduces(sentence: Sentence, k: int) -> bool:
    """Return whether a part before that of the gold answer states no other answer."""
    passage, (start, end) = sentence.passage, sentence.parts[k]
    words = passage.words
    head = words[start]
    here = sentence.parts[sentence.here][0]
    if words[here] == "but" and head in UNIVERSAL:
        return False  # "everything but nectar"
    if words[here] == "and" and k + 1 < sentence.here and not STATING.issuperset(words[start:end]):
        return head in INTRODUCTIONS
    if head == "if" and not sentence.are_known(start, end):
        return "i" in words[start:end]
    if any(negator_at(passage, p) for p in range(start, end)) or sentence.are_known(start, end):
        return True  # the part denies another answer, or gives none
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
        is_inside = words[sentence.gold[0]] not in REGIONS or " ".join(text[:region]) in CONTAINERS
        return is_inside and _continues(sentence, start + region, end)
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
    return is_item and end - start <= 4 and not sentence.are_known(start, end)


def _answers_better(sentence: Sentence, k: int) -> bool:
    """Return whether a clause with a rival repeats more of the question: "It began in 1939 and ended in 1945."."""
    start, end = sentence.parts[k]
    if sentence.passage.words[start] != "and" or not sentence.has_rival(start, end):
        return False
    here, there = (sum(map(sentence.is_asked, range(*part))) for part in (sentence.parts[sentence.here], (start, end)))
    has_verb = any(stem(word) in VERBS for word in sentence.passage.words[start:end])
    return there > here or (sentence.is_number and has_verb and here == there == 0)


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
