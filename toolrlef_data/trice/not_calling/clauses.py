"""Clauses of a question that state a number: "Paco had 26 cookies", "There were 9 roses in the vase".

`clauses_in` returns the clauses that are safe to rewrite: the number becomes "some", and the question for it follows
from the clause. The patterns are strict; a sentence of another form yields no clause. English only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from toolrlef_data.tasks.numbers import numbers_in
from toolrlef_data.trice.not_calling.grammar import (
    BASES,
    COMMON_KNOWLEDGE,
    CURRENCIES,
    DETERMINERS,
    MONEY_VERBS,
    NAMES_ON_S,
    NO_NAMES,
    NO_NOUNS,
    PLURALS,
    REST,
    UNITS,
)

__all__ = ["Clause", "clauses_in", "last_sentence"]

MAX_REST = 8  # words after the noun phrase
EACH = ("each ", "every ")
MIN_VALUE = 3  # "both" gives away two


class Clause(NamedTuple):
    """A clause that states a number.

    Args:
        start, end: the characters of the number in the question, with its currency sign.
        number: the number as it is written.
        value: its value.
        replacement: the text that replaces the characters, such as "some".
        statement: the clause after the replacement, as it continues "The problem says that".
        direct: the question for the number, without its question mark: "how many cookies did Paco have".
        indirect: the same as an indirect question: "how many cookies Paco had".
        noun: the last word of its noun phrase, such as "cookies"; empty for an amount of money.
    """

    start: int
    end: int
    number: str
    value: float
    replacement: str
    statement: str
    direct: str
    indirect: str
    noun: str


_NUMBER_WORDS = (
    "three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen twenty thirty forty fifty sixty seventy eighty ninety"
)
_NUMBER = rf"(?:\d{{1,3}}(?:,\d{{3}})+|\d+(?:\.\d+)?|{_NUMBER_WORDS.replace(' ', '|')})"
_VERB = "|".join(sorted(map(re.escape, BASES), key=len, reverse=True))
_SUBJECT = r"(?:Mrs?\. |Ms\. |Dr\. )?[A-Z][A-Za-z']*(?: and [A-Z][a-z]+)?(?: (?!and\b)[a-z'-]+){0,3}?"
_sentences = re.compile(r"(?:Mrs?\.|Ms\.|Dr\.|St\.|\b[A-Z]\.|\d\.\d|[^.?!])+[.?!]*").finditer
_AFTER = r"(?P<after>(?:Mrs?\.|Ms\.|Dr\.|St\.|\d\.\d|[^.;:?!])*)[.?!]*"  # up to the end of the sentence
_object = re.compile(rf"(?P<subject>{_SUBJECT}) (?P<verb>{_VERB}) (?P<number>{_NUMBER}) {_AFTER}").fullmatch
_money = re.compile(
    rf"(?P<subject>{_SUBJECT}) (?P<verb>{_VERB}) (?P<number>\$ ?{_NUMBER}(?: dollars)?|{_NUMBER} dollars){_AFTER}"
).fullmatch
_there = re.compile(rf"There (?P<verb>are|were) (?P<number>{_NUMBER}) {_AFTER}").fullmatch
# What may follow the clause in its sentence: another number, a statement about a person, or after "if" the question.
_goes_on = re.compile(
    rf"(?:,? and|,? but|,) (?:(?:then )?(?:he|she|they)\b|\$? ?{_NUMBER} (?!times?\b))|, (?:then )?(?:how|what)\b"
).match
_time = re.compile(
    r"\b(?:in the (?:morning|afternoon|evening)|on \w+day|yesterday|today|last|this|during|first|second|each|every)\b"
).search
_asks = re.compile(r", (?:then )?(?:how|what)\b").match
_break = re.compile(r",| and | but ").search


def clauses_in(question: str) -> Iterator[Clause]:
    """Yield the clauses of a question that state a number and are safe to rewrite, in order.

    >>> [clause.direct for clause in clauses_in("Paco had 26 salty cookies. He ate 9 of them. How many are left?")]
    ['how many salty cookies did Paco have']
    """
    for sentence in _sentences(question):
        text = sentence[0]
        start = sentence.start() + len(text) - len(text.lstrip())
        text = text.strip()
        if text.startswith("If "):
            if not text.endswith("?"):
                continue
            text, start = text[3:4].upper() + text[4:], start + 3
        elif text.endswith("?"):
            continue
        if '"' in text:
            continue
        for pattern, build in ((_there, _of_there), (_money, _of_money), (_object, _of_object)):
            if (match := pattern(text)) and (clause := build(match, start)):
                yield clause
                break


def last_sentence(question: str) -> str:
    """Return the last sentence of a question, without a clause before its question word.

    >>> last_sentence("Ann has 4 figs. If she eats one, how many has she?")
    'how many has she?'
    """
    sentence = ([match[0].strip() for match in _sentences(question) if match[0].strip()] or [question])[-1]
    start = max(sentence.lower().rfind(word) for word in ("how ", "what "))
    return sentence[max(0, start) :]


# The three forms ------------------------------------------------------------------------------------------------------


def _of_there(match: re.Match[str], start: int) -> Clause | None:
    phrase = _noun_phrase(match["after"])
    if phrase is None:
        return None
    noun, rest = phrase
    if not rest and match["after"] != noun:
        return None  # its place is in another part of the sentence
    verb = match["verb"]
    if verb == "are" and UNITS.intersection(noun.split()):
        return None  # may be common knowledge: "There are 60 minutes in an hour"
    some = "the same number of" if _is_distributive(rest) else _quantity(noun, rest, "", is_last=True)
    place = rest or "there"
    direct = f"how many {noun} {verb} {place}"
    indirect = direct if rest else f"how many {noun} there {verb}"
    return _clause(match, start, some, f"there {verb} {some} {noun}{_joined(rest)}", direct, indirect, noun)


def _of_object(match: re.Match[str], start: int) -> Clause | None:
    phrase, subject = _noun_phrase(match["after"]), _subject(match["subject"], match["verb"])
    if phrase is None or subject is None:
        return None
    noun, rest = phrase
    if subject.startswith(EACH) and _is_distributive(rest):
        return None
    auxiliary, base = BASES[match["verb"]]
    if auxiliary != "did" and UNITS.intersection(noun.split()):
        return None  # may be common knowledge: "It takes 24 hours"
    some = _quantity(noun, rest, subject, is_last=_is_last(match["after"], noun, rest))
    statement = f"{subject} {match['verb']} {some} {noun}{_joined(rest)}"
    known = _known(subject)
    direct = f"how many {noun} {auxiliary} {known} {base}{_joined(rest)}"
    indirect = f"how many {noun} {known} {match['verb']}{_joined(rest)}"
    return _clause(match, start, some, statement, direct, indirect, noun)


def _of_money(match: re.Match[str], start: int) -> Clause | None:
    subject = _subject(match["subject"], match["verb"])
    rest = _rest(match["after"])
    auxiliary, base = BASES[match["verb"]]
    if subject is None or rest is None or base not in MONEY_VERBS:
        return None
    kind = _quantity("", rest, subject, is_last=_is_last(match["after"], "", rest))
    some = {"some": "some money", "a certain number of": "a certain amount of money"}.get(
        kind, "the same amount of money"
    )
    known = _known(subject)
    direct = f"how much money {auxiliary} {known} {base}{_joined(rest)}"
    indirect = f"how much money {known} {match['verb']}{_joined(rest)}"
    statement = f"{subject} {match['verb']} {some}{_joined(rest)}"
    return _clause(match, start, some, statement, direct, indirect, "")


def _clause(
    match: re.Match[str], start: int, some: str, statement: str, direct: str, indirect: str, noun: str
) -> Clause | None:
    number = match["number"]
    values = numbers_in(number.strip("$ ").removesuffix(" dollars"))
    words = noun.partition(" of ")[0].split() or [""]
    is_counted = noun and words[-1] not in UNITS
    if len(values) != 1 or COMMON_KNOWLEDGE.intersection(noun.split()):
        return None
    value = values.pop()
    if value < MIN_VALUE or (is_counted and value != int(value)):
        return None
    first, end = match.span("number")
    return Clause(start + first, start + end, number, value, some, statement, direct, indirect, words[-1])


# Parts of a clause ----------------------------------------------------------------------------------------------------


def _subject(text: str, verb: str) -> str | None:
    """Return a subject as it continues a sentence; None if it may be no subject, or if its verb does not agree."""
    first, *others = text.replace("Mr. ", "Mr.").replace("Mrs. ", "Mrs.").split()
    if any(word in NO_NOUNS or word in BASES or word.endswith("ly") for word in others if word != "and"):
        return None
    auxiliary = BASES[verb][0]
    if first in ("He", "She", "They", "It"):
        fits = auxiliary in ("did", "can") or (auxiliary == "do") == (first == "They")
        return first.lower() if fits and not others else None
    if first in DETERMINERS:
        if not others:
            return None
        is_plural = others[-1].endswith("s") or others[-1] in PLURALS
        fits = auxiliary in ("did", "can") or (auxiliary == "do") == is_plural
        return f"{first.lower()} {text.split(' ', 1)[1]}" if fits else None
    if first in NO_NAMES or len(first) == 1 or (others and others[0] != "and" and not first.endswith("'s")):
        return None
    if first.endswith("s") and not first.endswith("'s") and first not in NAMES_ON_S:
        return None
    fits = auxiliary in ("did", "can") or (auxiliary == "do") == ("and" in others)
    return text if fits else None


def _known(subject: str) -> str:
    """Return a subject as a question mentions it for the second time: "a waiter" as "the waiter"."""
    return re.sub(r"^an? ", "the ", subject)


def _is_distributive(rest: str) -> bool:
    return any(word in ("each", "every", "per") for word in rest.split())


def _is_last(after: str, noun: str, rest: str) -> bool:
    """Return whether nothing follows a noun phrase and its rest, but a question after "if"."""
    phrase = f"{noun} {rest}".strip()
    tail = after.partition(phrase)[2] if phrase else after
    return not tail.strip() or _asks(tail) is not None


def _quantity(noun: str, rest: str, subject: str, is_last: bool) -> str:
    """Return what stands for the number: "the same number of" for each of several things, else "some"."""
    if is_last and subject.startswith(EACH):  # "the same number of figs and 3 pears" is ambiguous
        return "the same number of"
    if is_last and _is_distributive(rest):
        return "a certain number of"
    return "several" if UNITS.intersection(noun.split()) else "some"


def _noun_phrase(after: str) -> tuple[str, str] | None:
    """Return the plural noun phrase at the start of a text, and what follows it in its clause; None if it has none."""
    words = after.split()
    for n, word in enumerate(words[:4]):
        bare = word.rstrip(",")
        if bare in NO_NOUNS or not re.fullmatch(r"[a-z][a-z-]*", bare):
            return None
        if (bare.endswith("s") and not bare.endswith("ss")) or bare in PLURALS:
            following = words[n + 1] if word == bare and n + 1 < len(words) else ""
            if following and (following.endswith("s") and following not in NO_NOUNS | REST):
                continue  # a compound, such as "hats stands"
            if bare in CURRENCIES:
                return None
            noun, tail = " ".join([*words[:n], bare]), after.split(bare, 1)[1]
            if following == "of":
                part = re.match(r" of ((?:his |her |their |the )?[a-z]+)(?=$|,| (?:and|but|\w+))", tail)
                if part is None or part[1].split()[-1] in NO_NOUNS:
                    return None
                noun, tail = f"{noun} of {part[1]}", tail[part.end() :]
            rest = _rest(tail)
            return None if rest is None else (noun, rest)
        if word != bare:
            return None
    return None


def _rest(tail: str) -> str | None:
    """Return what follows a noun phrase in its clause; None if the clause may go on in another way."""
    stop = _break(tail)
    rest = (tail[: stop.start()] if stop else tail).strip()
    if stop and not _goes_on(tail[stop.start() :].replace("  ", " ")):
        return None
    if stop and not rest and not _asks(tail) and _time(tail):
        return None  # when this is the case stands after other numbers: "6 emails and 2 letters in the morning"
    words = rest.split()
    if not words:
        return ""
    is_plain = all(re.fullmatch(r"[A-Za-z'-]+", word) for word in words)
    has_clause = any(
        word in BASES or word in ("that", "who", "which", "when", "is", "was", "were") for word in words[1:]
    )
    if words[0] not in REST or len(words) > MAX_REST or not is_plain or has_clause or numbers_in(rest):
        return None
    return rest


def _joined(rest: str) -> str:
    return f" {rest}" if rest else ""
