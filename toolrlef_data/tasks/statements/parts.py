"""Parts: a sentence around a gold answer, its parts between punctuation, and what each word may be."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from toolrlef_data.tasks.statements.assertion_words import (
    ASIDES,
    CLASSIFIERS,
    COPULAS,
    DETERMINERS,
    GENERIC,
    LOCATIVES,
    MONTHS,
    NAME_PARTS,
    NO_NAMES,
    OTHER_THINGS,
    PARTICLES,
    RELATED,
    REPORT_VERBS,
    ROLES,
    STATING,
    STATING_ABROAD,
    TITLES,
    UNREAL,
    VERBS,
)
from toolrlef_data.tasks.statements.negation import negator_at
from toolrlef_data.tasks.statements.passage import LETTER_OPTIONS, Passage, Span
from toolrlef_data.tasks.statements.vocabulary import AUXILIARIES, FUNCTION_WORDS, stem
from toolrlef_data.tasks.words import equal_forms

__all__ = ["DENIALS", "Sentence", "phrase_start", "split_sentence"]

BORDERS = frozenset(",|-():/\n")
DENIALS = frozenset({("rather", "than"), ("instead", "of")})
CERTAINTY = frozenset({"sure", "certain", "confident", "percent"})
NO_MODIFIERS = FUNCTION_WORDS | RELATED | OTHER_THINGS | NAME_PARTS | REPORT_VERBS
REACH = 60  # words on each side of a gold answer that are read


@dataclass(frozen=True)
class Sentence:
    """A sentence around a gold answer.

    Args:
        passage: the answer.
        gold: the gold answer.
        mention: the gold answer with the other words of its name: "Albert Einstein" for Einstein.
        golds: the positions of all gold answers.
        asked: the content words of the question.
        parts: the parts of the sentence between punctuation.
        here: the index of the part with the gold answer.
    """

    passage: Passage
    gold: Span
    mention: Span
    golds: frozenset[int]
    asked: frozenset[str]
    parts: list[Span]
    here: int

    @property
    def is_name(self) -> bool:
        """Whether the gold answer is a name."""
        return self.passage.capital[self.gold[0]] and not self.is_number

    @property
    def is_number(self) -> bool:
        """Whether the gold answer contains a number."""
        words = self.passage.words[slice(*self.gold)]
        return any(word.isdecimal() or len(equal_forms(f" {word} ")) > 1 for word in words)

    def is_known(self, p: int) -> bool:
        """Return whether a word belongs to a gold answer, a way to state an answer, or the question."""
        words = self.passage.words
        word, following = words[p], words[p + 1] if p + 1 < len(words) else ""
        is_label = len(word) > 1 and word[0].isalpha() and word[1:].isdecimal()
        return (
            p in self.golds
            or word in STATING
            or word in STATING_ABROAD
            or (word in ASIDES and not self._is_here(p))
            or word in ROLES
            or self.is_asked(p)
            or is_label
            or (word.isdecimal() and following in CERTAINTY)
        )

    def _is_here(self, p: int) -> bool:
        start, end = self.parts[self.here]
        return start <= p < end

    def is_asked(self, p: int) -> bool:
        """Return whether the question contains a word, or another form of it."""
        word = self.passage.words[p]
        return word in self.asked or (len(word) > 3 and stem(word) in self.asked)

    def are_known(self, start: int, end: int) -> bool:
        """Return whether all words are known."""
        return all(self.is_known(p) for p in range(start, end))

    def is_rival(self, p: int) -> bool:
        """Return whether a word may be another answer of the kind of the gold answer: a name, a number, any noun."""
        words, capital, first = self.passage.words, self.passage.capital, self.gold[0]
        word = words[p]
        if self.is_known(p) or word in FUNCTION_WORDS or negator_at(self.passage, p):
            return False
        if self.is_number:
            is_year = len(words[self.gold[1] - 1]) == 4
            return word[0].isdecimal() and (len(word) == 4 or not is_year)
        if capital[first] or not words[first].isascii():
            return capital[p] and not word.isdecimal()
        return not word.isdecimal() and word not in AUXILIARIES

    def has_rival(self, start: int, end: int) -> bool:
        """Return whether words may contain another answer."""
        return any(self.is_rival(p) for p in range(start, end))

    def states_rival(self, start: int, end: int) -> bool:
        """Return whether words state another answer: "it is Lyon", "Lyon is"."""
        words = self.passage.words
        for p in range(start, end):
            if stem(words[p]) in VERBS and p > start and self.is_rival(p - 1) and words[start] == "and":
                return True
            if words[p] not in COPULAS or self.passage.capital[p]:  # "World War"
                continue
            q = p + 1
            while q < end and words[q] in STATING and words[q] not in COPULAS:
                q += 1
            is_complement = q < end and self.is_rival(q) and words[q + 1 : q + 2] != ["s"]
            is_subject = p > start and self.is_rival(p - 1) and words[start] not in DETERMINERS | LOCATIVES
            if is_complement or is_subject:
                return True
        return False


def split_sentence(passage: Passage, span: Span, golds: list[Span], asked: Passage) -> Sentence:
    """Return the sentence of a gold answer with its parts."""
    start, end = passage.sentence(span)
    start, end = max(start, span[0] - REACH), min(end, span[1] + REACH)
    mention = _mention(passage, span, start, end)
    borders = [p for p in range(start + 1, end) if _is_border(passage, p, mention[0]) and not span[0] < p < span[1]]
    parts = list(pairwise([start, *borders, end]))
    here = next(k for k, (first, last) in enumerate(parts) if first <= span[0] < last)
    content = {word for word in asked.words if word not in FUNCTION_WORDS or word in RELATED | UNREAL}
    content |= {stem(word) for word in content}
    known = frozenset(p for s in [*golds, mention] for p in range(*s))
    return Sentence(passage, span, mention, known, frozenset(content), parts, here)


def _mention(passage: Passage, span: Span, start: int, end: int) -> Span:
    """Return the gold answer with the words of its name before it, and a generic noun after it."""
    words, capital, marks = passage.words, passage.capital, passage.marks
    first, last = span
    is_name = capital[first] and not words[first].isdecimal()
    p = first
    while is_name and p > start and not marks[p] and first - p < 4:
        p -= 1
        if p == start and span[1] - span[0] > 1 and words[p] not in TITLES and words[span[0]] not in PARTICLES:
            break  # rather a verb than a name: "See Albert Einstein."
        if capital[p] and not words[p].isdecimal() and words[p] not in NO_NAMES:
            first = p
        elif words[p] not in PARTICLES:
            break
    is_adjective = not capital[span[0]] and first > start and capital[first - 1] and not marks[first]
    if is_adjective and not words[first - 1].isdecimal() and words[first - 1] not in NO_NAMES:
        first -= 1  # "the Mexican peso"
    is_inside = span[0] > first and is_name and last + 1 == end and capital[last]  # "Miguel de Cervantes Saavedra"
    if last < end and not marks[last] and (words[last] in GENERIC or is_inside):
        last += 1
    return first, last


def _is_border(passage: Passage, p: int, mention: int) -> bool:
    """Return whether a part of a sentence starts at a word; "is, of course, Paris" is one part."""
    words, marks = passage.words, passage.marks[p]
    if (
        words[p] == "and"
        and p + 2 == mention
        and passage.capital[mention]
        and not (passage.capital[p - 1] or passage.capital[p + 1])
    ):
        return words[p + 1] in FUNCTION_WORDS  # "the author and scholar Tolkien" is one part
    if words[p] in ("and", "but") or tuple(words[p : p + 2]) in DENIALS:
        return True
    is_aside = words[p - 1] in COPULAS or words[p - 2 : p] == ["of", "course"]
    is_option = LETTER_OPTIONS(words[p - 1]) and marks == ")"
    is_option = is_option and "(" not in passage.marks[p - 1]
    return bool(BORDERS & set(marks)) and not is_option and not (is_aside and marks == ",")


def phrase_start(sentence: Sentence, start: int) -> int:
    """Return the start of the noun phrase of the gold answer: "the physicist Marie Curie", "20 July 1969"."""
    passage, p = sentence.passage, sentence.mention[0]
    words = passage.words
    while p > start and (
        words[p - 1] in TITLES
        or (words[p - 1] in sentence.asked and words[p - 1] not in COPULAS and stem(words[p - 1]) not in VERBS)
    ):
        p -= 1
    if sentence.is_number and p > start and words[p - 1] in MONTHS:
        p -= 1
    if sentence.is_number and p > start and words[p - 1].isdecimal() and MONTHS & set(words[max(start, p - 2) : p + 1]):
        p -= 1 + (p - 2 >= start and words[p - 2] in MONTHS)
    if p > start and words[p - 1] in ROLES:
        p -= 1
        if p - 1 == start or (p > start and passage.capital[p - 1] and words[p - 1] not in STATING):
            p -= 1
    if p - 1 > start and words[p - 1] == "of" and words[p - 2] in CLASSIFIERS:
        p -= 2
    for q in range(p - 1, max(start, p - 6) - 1, -1):
        word = words[q]
        if word == "and":
            continue
        if word in DETERMINERS:
            return q
        if sentence.is_name and (word in COPULAS or word == "by"):
            return q + 1
        is_verb = word.endswith(("s", "ed", "ing")) and not word.endswith("ss")
        if word in NO_MODIFIERS or len(word) < 3 or is_verb:
            break
    return p
