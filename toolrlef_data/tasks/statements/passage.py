"""Passages: the words of an answer with the punctuation between them, its sentences and the items of its lists."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from toolrlef_data.tasks.statements.vocabulary import (
    ABBREVIATIONS,
    AUXILIARIES,
    JOINERS,
    NOT_ALTERNATIVES,
    SENTENCE_STARTS,
    SPANISH_JOINERS,
)
from toolrlef_data.tasks.words import TYPOGRAPHY, crowded_marks, initials, is_article, word_form

__all__ = ["Item", "Passage", "Span", "find_spans", "read_passage"]

Span = tuple[int, int]  # start and end of consecutive words

# Punctuation that stands alone after `_separator.sub`, and its kind: "." ends a sentence, "," separates items of a
# list, "/" alternatives, ":" and "-" clauses. Quotes are ignored.
KINDS = {
    **dict.fromkeys(".!\u3002\u0964\u06d4", "."),
    **dict.fromkeys("?\u061f", "?"),
    **dict.fromkeys(",\u060c\u3001", ","),
    **dict.fromkeys(";|\u2022\u00b7\u2192>+\u061b", "|"),
    "/": "/",
    ":": ":",
    "=": ":",
    "(": "(",
    ")": ")",
    "[": "(",
    "]": ")",
    "{": "(",
    "}": ")",
    "-": "-",
    "\n": "\n",
}
LIST_MARKS = ",/|-(\n"
_separator = re.compile(
    r"\n|[;|?!()\[\]{}=\"<>\u2022\u00b7\u2192\u3001\u3002\u0964\u06d4\u061f\u060c\u061b]"
    r"|,(?!\d{3}(?!\d))|(?<!\d),|/(?!\d)|(?<!\d)/|:(?!\d)|(?<!\d):|\.{3,}|-{2,}|[\u2014\u2015]|\u2013(?!\d)"
)
CONTINUATIONS = (",", ";", "(")  # after a full stop, these continue its sentence
MONTH = (
    "(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\b"
)
_date_comma = re.compile(rf"(\b{MONTH}\.? \d{{1,2}}(?:st|nd|rd|th)?|day), (?=\d|{MONTH})", re.IGNORECASE)
_latex_command = re.compile(r"\\(?:boxed|text\w*|mathrm|mathbf|mathit)(?=\{)")
_tag = re.compile(r"</?([A-Za-z]\w{0,20})(?: [^<>]{0,200})?/?>")
_letter_option = re.compile(r"(?<!\S)(?=[a-h]\.\s)")
_first_number = re.compile(r"(?:^|[:;.!?])\s*1[.)]\s")
_next_number = re.compile(r"(?<=[^\s:;.!?]\s)(?=[2-9][.)]\s+[^\W\d])")
_struck_out = re.compile(r"~~[^~\n]{1,200}~~")
_quotes = re.compile(r"([\"'])\s+(?=[\"'])")
_hashtag = re.compile(r"(?<!\S)#(?= ?[^\W\d])|(?<=\w)[_~](?=\w)")
_name_suffix_comma = re.compile(r",(?= (?:jr|sr|ii|iii|iv|inc|ltd|llc|phd|esq)\b)", re.IGNORECASE)
LETTER_OPTIONS = re.compile(r"[a-h]|\d|[ivx]{1,4}").fullmatch


@dataclass(frozen=True)
class Item:
    """The words from `start` to `end` of a list or sentence; `joiner` is the separator before it."""

    start: int
    end: int
    joiner: str


@dataclass
class Passage:
    """The words of a text in the form that grading compares.

    Args:
        words: the words.
        marks: for each word, the kinds of punctuation before it (`KINDS`), and one entry for the end.
        capital: for each word, whether it starts with a capital letter or is a number.
        sentences: start and end of each sentence.
        sentence_of: the sentence of each word.
    """

    words: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    capital: list[bool] = field(default_factory=list)
    sentences: list[Span] = field(default_factory=list)
    sentence_of: list[int] = field(default_factory=list)

    def sentence(self, span: Span) -> Span:
        """Return the words of the sentences that contain a span."""
        first, last = self.sentence_of[span[0]], self.sentence_of[span[1] - 1]
        return self.sentences[first][0], self.sentences[last][1]

    def has_verb(self, start: int, end: int) -> bool:
        """Return whether words contain an auxiliary verb; the month May is none."""
        words = self.words
        return any(words[p] in AUXILIARIES and not (words[p] == "may" and self.capital[p]) for p in range(start, end))

    def items(self, start: int, end: int, gold: Span) -> list[Item]:
        """Return the items between `start` and `end`; the words of a gold answer belong to one item."""
        items = []
        first, joiner = start, ""
        p = start
        while p < end:
            if gold[0] < p < gold[1]:
                p += 1
                continue
            kind = self._joiner(p, end) if not gold[0] <= p < gold[1] else ""
            if kind or (p > start and set(self.marks[p]) & set(LIST_MARKS) and self._separates(p)):
                if p > first:
                    items.append(Item(first, p, joiner))
                    joiner = ""
                joiner += kind or self.marks[p]
                first = p + 1 if kind else p
            p += 1
        return [*items, Item(first, end, joiner)] if end > first else items

    def _joiner(self, p: int, end: int) -> str:
        word = self.words[p]
        if word in SPANISH_JOINERS and not self.capital[p] and self.words[p + 1 : p + 2] not in ([], ["clock"]):
            return SPANISH_JOINERS[word]
        kind = JOINERS.get(word, "")
        if kind == "or" and (p + 1 == end or self._is_addition(p + 1, end)):
            return ""
        return kind

    def _is_addition(self, p: int, end: int) -> bool:
        """Return whether "or" and this word add no alternative: "in 1925 or later"."""
        is_last = p + 1 == end or self.marks[p + 1] != ""
        return self.words[p] == "so" or (self.words[p] in NOT_ALTERNATIVES and is_last)

    def _separates(self, p: int) -> bool:
        """Return whether punctuation before a word separates items, unlike in km/h and in ranges of dates."""
        if set(self.marks[p]) & set(",|(\n"):
            return True
        before, after = self.words[p - 1], self.words[p]
        return min(len(before), len(after)) > 2 and not before.isdecimal() and not after.isdecimal()


def read_passage(text: str) -> Passage:
    """Return the words of a text with the punctuation between them.

    >>> passage = read_passage("Not Paris, but Lyon. It is U.S. 1,234")
    >>> passage.words, passage.sentences
    (['not', 'paris', 'but', 'lyon', 'it', 'is', 'us', '1234'], [(0, 4), (4, 8)])
    """
    passage = Passage()
    pending, line_start = "", True
    chunks = _chunks(text)
    for chunk, following in pairwise([*chunks, ""]):
        if (kind := KINDS.get(chunk)) is not None:
            pending += _sentence_mark(kind, pending, following)
            line_start = line_start or kind == "\n"
            continue
        core = chunk.rstrip("'*_`).")
        words = [chunk.lower()] if chunk.isascii() and chunk.isalpha() else word_form(chunk).split()
        is_capital = chunk.lstrip("'*_`(\u2018")[:1].isupper()
        is_enumerator = line_start and len(core.strip("(")) <= 2 and core != chunk and bool(words)
        is_enumerator = is_enumerator and following.casefold() not in SENTENCE_STARTS
        for i, word in enumerate(words):
            passage.marks.append(pending + "|" * (is_enumerator and i == 0 and bool(passage.words)))
            passage.words.append(word)
            passage.capital.append(is_capital or word.isdecimal())
            pending = ""
        if not words and set(core) <= {"-", "\u2013"}:
            pending += "-"
        if chunk.rstrip("'*_`)").endswith(".") and not is_enumerator and _ends_sentence(core, following):
            pending += "."
        line_start = line_start and not words
    passage.marks.append(pending)
    _mark_options(passage)
    _add_sentences(passage)
    return passage


def _chunks(text: str) -> list[str]:
    """Return the text between white space, with line ends and separators as chunks of one character."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", crowded_marks.sub(r"\1", text))
        text = text.translate({code: plain for code, plain in TYPOGRAPHY.items() if plain in ("'", '"', None)})
    if "~~" in text:
        text = _struck_out.sub(" ", text)
    text = _quotes.sub(r"\1 | ", _hashtag.sub(" | ", text))
    text = _latex_command.sub(" ", text.replace(" & ", " and ").replace("\t", " | "))
    if "<" in text:
        text = _tag.sub(lambda match: "\n" if match[1].lower() in ("br", "li", "p", "td", "tr") else " ", text)
    if _first_number.search(text):
        text = _next_number.sub("| ", text)
    if "b. " in text:
        text = _letter_option.sub("| ", text)
    text = _name_suffix_comma.sub("", _date_comma.sub(r"\1 ", initials.sub(r"\1", text)))
    spaced = _separator.sub(lambda match: f" {'-' if len(match[0]) > 1 or match[0] in _DASHES else match[0]} ", text)
    return [chunk or "\n" for line in spaced.split("\n") for chunk in (*line.split(), "")][:-1]


_DASHES = "\u2013\u2014\u2015"


def _sentence_mark(kind: str, pending: str, following: str) -> str:
    """Return the kind of a mark; a line that ends within a sentence has none."""
    if kind == "\n":
        return "\n" if following[:1].islower() and "\n" not in pending else ".\n"
    return "" if kind == "." and (following[:1].islower() or following in CONTINUATIONS) else kind


def _ends_sentence(core: str, following: str) -> bool:
    """Return whether the full stop after a word ends a sentence."""
    if not following or following in CONTINUATIONS:
        return not following
    if following[:1].isupper() and following.casefold() in SENTENCE_STARTS:
        return True
    if core.casefold() == "no" and not following[:1].isdigit():
        return not following[:1].islower()  # "No. Paris.", unlike "No. 5"
    is_abbreviation = len(core) == 1 or core.casefold() in ABBREVIATIONS or (core.isupper() and len(core) <= 3)
    return not following[:1].islower() and not (is_abbreviation and following not in ("\n", '"'))


def _mark_options(passage: Passage) -> None:
    """Mark the letters of a choice as separators: A) Oslo B) Bergen."""
    for p, word in enumerate(passage.words):
        is_option = LETTER_OPTIONS(word) and (")" in passage.marks[p + 1] or ":" in passage.marks[p + 1])
        if is_option and p and "(" not in passage.marks[p + 1]:
            passage.marks[p] += "|"


def _add_sentences(passage: Passage) -> None:
    starts = [p for p in range(len(passage.words)) if p == 0 or set(passage.marks[p]) & set(".?")]
    passage.sentences = list(pairwise([*starts, len(passage.words)]))
    passage.sentence_of = [i for i, (start, end) in enumerate(passage.sentences) for _ in range(start, end)]


def find_spans(passage: Passage, forms: Iterable[tuple[str, str]], most: int = 20) -> list[Span]:
    """Return start and end of the last occurrences of gold answers, without those inside longer ones."""
    last = len(passage.words) - 1
    bare = [p for p, word in enumerate(passage.words) if p == last or not is_article(word)]
    spans: set[Span] = set()
    for index, which in ((range(last + 1), 0), (bare, 1)):
        spans.update(_find(passage.words, index, [form[which] for form in forms], most))
    kept: list[Span] = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not kept or end > kept[-1][1]:
            kept.append((start, end))
    return kept[-most:]


def _find(words: list[str], index: Iterable[int], forms: Iterable[str], most: int) -> Iterator[Span]:
    positions = list(index)
    joined = f" {' '.join(words[p] for p in positions)} "
    offsets, offset = dict[int, int](), 0
    for k, p in enumerate(positions):
        offsets[offset] = k
        offset += len(words[p]) + 1
    for form in forms:
        size, at = form.count(" ") - 1, len(joined)
        for _ in range(most):
            at = joined.rfind(form, 0, at + len(form) - 1)
            if at == -1:
                break
            k = offsets[at]
            yield positions[k], positions[k + size - 1] + 1
