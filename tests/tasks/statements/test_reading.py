"""How an answer is read: its words and sentences, its final statement, the parts of a sentence, and each single judgement.

The verdict of an answer is the weakest of seven judgements, which hides the others; here each of them is compared.

| written | meaning |
|---|---|
| `.^it is ,oslo` | the words, each after its marks; `^` is a capital letter or a number, `\\` the end of a line |
| `//` | the start of a sentence |
| `0-1 3 +-` | the final statement: its first and last sentence, its marker, whether it is stated, whether it replaces others |
| `it is | in oslo [oslo] 1` | the parts of a sentence, the mention of the gold answer, and the part that contains it |
| `+++?+++` | judged by place, question, negation, assertion, candidates, echo of the question and of the context |
| `+-r` | for each word whether it is known, and `r` for a rival |
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from toolrlef_data.tasks.statements.assertion import is_asserted
from toolrlef_data.tasks.statements.candidates import is_only_candidate
from toolrlef_data.tasks.statements.negation import is_affirmed
from toolrlef_data.tasks.statements.parts import split_sentence
from toolrlef_data.tasks.statements.passage import Passage, Span, find_spans, read_passage
from toolrlef_data.tasks.statements.sentences import final_statement
from toolrlef_data.tasks.statements.verdicts import _echo, _question
from toolrlef_data.tasks.statements.vocabulary import FUNCTION_WORDS
from toolrlef_data.tasks.words import equal_forms, without_articles, word_form

CORPORA = Path(__file__).parents[2] / "fixtures" / "corpora"
MARK = {True: "+", False: "-", None: "?"}


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CORPORA / name).read_text(encoding="utf-8").splitlines()]


def as_text(passage: Passage) -> str:
    starts = {start for start, _ in passage.sentences if start}
    words = [
        f"{'// ' * (p in starts)}{passage.marks[p]}{'^' * passage.capital[p]}{word}"
        for p, word in enumerate(passage.words)
    ]
    return f"{' '.join(words)} {passage.marks[-1]}".replace("\n", "\\")


def reading(text: str, gold: str, question: str = "", context: str = "") -> list[str]:
    """Return the words of an answer, and with a gold answer in it the final statement and each occurrence."""
    passage, asked = read_passage(text), read_passage(question)
    spans = find_spans(passage, [(form, without_articles(form)) for form in equal_forms(word_form(gold))])
    if not spans:
        return [as_text(passage)]
    final = final_statement(passage, frozenset(word for word in asked.words if word not in FUNCTION_WORDS))
    stated = f"{final.base}-{final.last} {final.marker} {MARK[final.is_stated]}{MARK[final.replaces]}"

    def occurrence(span: Span) -> str:
        sentence = split_sentence(passage, span, spans, asked)
        parts = " | ".join(" ".join(passage.words[slice(*part)]) for part in sentence.parts)
        judged = (
            final.place(passage, span),
            _question(passage, span, frozenset([word_form(gold)] if gold.endswith("?") else [])),
            is_affirmed(passage, span, asked),
            is_asserted(passage, span, spans, asked),
            is_only_candidate(passage, span, spans),
            _echo(passage, span, asked, 1),
            _echo(passage, span, read_passage(context), 9) if context else True,
        )
        known = (MARK[sentence.is_known(p)] + "r" * sentence.is_rival(p) for p in range(*passage.sentence(span)))
        mention = " ".join(passage.words[slice(*sentence.mention)])
        return f"{parts} [{mention}] {sentence.here} {''.join(map(MARK.__getitem__, judged))} {''.join(known)}"

    return [as_text(passage), stated, *map(occurrence, spans)]


def test_every_answer_is_read_as_before() -> None:
    rows = rows_of("passages.jsonl")
    assert len(rows) > 1100
    for row in rows:
        expected = row.pop("read")
        assert reading(**row) == expected, row


def test_every_word_has_its_part_in_a_sentence() -> None:
    """Each row has a sentence, and by their reading the words that change it; most words of the vocabulary do not."""
    num_words = 0
    for row in rows_of("sentence_words.jsonl"):
        for expected, words in row["words"].items():
            for word in words.split():
                text = row["text"].replace("{}", word).replace("{C}", word.capitalize())
                _, stated, *occurrences = reading(text, row["gold"], row["question"])
                judged = [occurrence.partition("] ")[2] for occurrence in occurrences]
                assert " / ".join([stated, *judged]) == expected, text
                num_words += 1
    assert num_words > 8_000
