"""Verdicts: whether an answer states a gold answer, or only lists, negates, asks or repeats it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from toolrlef_data.tasks.statements.assertion import is_asserted
from toolrlef_data.tasks.statements.candidates import is_only_candidate
from toolrlef_data.tasks.statements.negation import is_affirmed
from toolrlef_data.tasks.statements.passage import Passage, Span, find_spans, read_passage
from toolrlef_data.tasks.statements.sentences import final_statement
from toolrlef_data.tasks.statements.structure import has_doubtful_symbol, marked_answers
from toolrlef_data.tasks.statements.vocabulary import FUNCTION_WORDS

__all__ = ["states"]


def states(
    text: str,
    golds: Sequence[tuple[str, str]],
    question: str = "",
    context: str = "",
    *,
    asks: frozenset[str] = frozenset(),
) -> bool | None:
    """Return whether the final statement of a text is one of the gold answers; None if it is unsure.

    Args:
        text: an answer.
        golds: the gold answers as word forms, with and without articles.
        question, context: the texts that an answer may repeat.
        asks: those gold answers that end with a question mark.

    >>> states("It is Oslo or Bergen.", [(" oslo ", " oslo ")]), states("It is Oslo.", [(" oslo ", " oslo ")])
    (False, True)
    """
    answers = marked_answers(text)
    verdicts = {_states(answer, golds, question, context, asks) for answer in answers}
    if has_doubtful_symbol(text) or len(verdicts) > 1:
        return None
    return verdicts.pop() if verdicts else False


def _states(
    text: str, golds: Sequence[tuple[str, str]], question: str, context: str, asks: frozenset[str]
) -> bool | None:
    passage = read_passage(text)
    spans = find_spans(passage, golds)
    if not spans:
        return None
    asked = _read(question)
    final = final_statement(passage, frozenset(w for w in asked.words if w not in FUNCTION_WORDS))
    verdict: bool | None = False
    for span in spans:
        judged = (
            final.place(passage, span),
            _question(passage, span, asks),
            is_affirmed(passage, span, asked),
            is_asserted(passage, span, spans, asked),
            is_only_candidate(passage, span, spans),
            _echo(passage, span, asked, 1),
            _echo(passage, span, _read(context), 9) if context else True,
        )
        if all(judged):
            return True
        if False not in judged:
            verdict = None
    return verdict


@lru_cache(maxsize=256)
def _read(text: str) -> Passage:
    return read_passage(text)


def _question(passage: Passage, span: Span, asks: frozenset[str]) -> bool | None:
    """Return False if the sentence asks whether the gold answer is correct."""
    start, end = passage.sentence(span)
    if "?" not in passage.marks[end] or (span[1] == end and f" {' '.join(passage.words[slice(*span)])} " in asks):
        return True
    return None if end - start - (span[1] - span[0]) <= 3 else False


def _echo(passage: Passage, span: Span, source: Passage, allowed: int) -> bool | None:
    """Return False if the gold answer is part of a long run of words that the source contains, None for a short run."""
    words, gold = passage.words, passage.words[slice(*span)]
    size, longest, best = len(gold), 0, (0, 0)
    positions = [q for q, word in enumerate(source.words) if word == gold[0] and source.words[q : q + size] == gold]
    for q in positions[:20]:
        left = 0
        while span[0] - left > 0 and q - left > 0 and words[span[0] - left - 1] == source.words[q - left - 1]:
            left += 1
        right, n, m = 0, len(words), len(source.words)
        while span[1] + right < n and q + size + right < m and words[span[1] + right] == source.words[q + size + right]:
            right += 1
        if left + right >= longest:
            longest, best = left + right, (span[0] - left, span[1] + right)
    return _echo_verdict(passage, span, source, best, allowed) if longest else True


def _echo_verdict(passage: Passage, span: Span, source: Passage, run: Span, allowed: int) -> bool | None:
    around = [*passage.words[run[0] : span[0]], *passage.words[span[1] : run[1]]]
    is_full = run[1] - run[0] == len(source.words)
    if allowed == 1:  # the question
        content = sum(word not in FUNCTION_WORDS for word in around)
        is_sentence = run == passage.sentence(span)
        return False if content > 1 or is_full else None if content and is_sentence else True
    if is_full or len(around) > 24:
        return None if len(around) <= 11 else False
    return None if len(around) > allowed else True
