"""WebQuestions: search queries with answers from Freebase (https://nlp.stanford.edu/software/sempre, CC BY 4.0).

A row of webquestions.examples.train.json or webquestions.examples.test.json, each one JSON array:

    {"url": "http://www.freebase.com/view/en/ann_lee", "utterance": "what did ann lee write?",
     "targetValue": "(list (description \\"Two figs\\") (description ""Figs" and me") (description Poems))"}

- Gold answers: all descriptions. The Hub's copy has a list `answers` instead.
- Ids: digests of the questions, as upstream has none; the Hub's copy has the same ids.
- Quirks: a description is quoted only if it contains spaces, and quotes inside it are not escaped. A quote therefore
  closes a description only if the next description or the end of the list follows.
- Not covered: other Lisp values (`(number 3)`, `(date ...)`), which WebQuestions does not use; they are dropped
  as `unreadable_answer`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from toolrlef_data.loading_scripts.base import Question, Row, Source
from toolrlef_data.loading_scripts.command import main
from toolrlef_data.loading_scripts.fields import get_text, get_texts, gold_answers
from toolrlef_data.records import Drop
from toolrlef_data.tables.identity import text_id

_list_start = re.compile(r"\s*\(list\b").match
_description_start = re.compile(r"\s*\(description\s+").match
_closing_quotes = re.compile(r'"\s*\)').finditer
_parentheses = re.compile(r"[()]").finditer
_starts_next_or_ends = re.compile(r"\s*(?:\(description\s|\)\s*\Z)").match
_list_end = re.compile(r"\s*\)\s*\Z").match
_escaped = re.compile(r'\\(["\\])')


class Webquestions(Source):
    """Builder of the questions table of WebQuestions."""

    source = "webquestions"
    task = "qa"
    files = {  # noqa: RUF012  # read only
        "train": "webquestions.examples.train.json",
        "test": "webquestions.examples.test.json",
    }
    hub = ("stanfordnlp/web_questions",)
    has_repeats = True  # ids are digests of questions, so equal questions have equal ids

    def rows(self, raw: Mapping[str, Any], fallback_id: str, location: str) -> Iterator[Row]:
        question = get_text(raw, "question" if "question" in raw else "utterance", location)
        row_id = f"webquestions-{text_id(question)}" if question else fallback_id
        if "answers" in raw:
            yield Question(row_id, question, gold_answers(get_texts(raw, "answers", location)))
            return
        value = get_text(raw, "targetValue", location)
        answers = parse_descriptions(value) if value else []
        if answers is None:
            yield row_id, Drop("unreadable_answer", value[:200])
        else:
            yield Question(row_id, question, gold_answers(answers))


def parse_descriptions(value: str) -> list[str] | None:
    """Return the answers in the text of a `targetValue`; None if it is not a list of descriptions.

    >>> parse_descriptions('(list (description ""Figs" and me") (description Poems))')
    ['"Figs" and me', 'Poems']
    >>> parse_descriptions("(list (number 3))")
    """
    list_start = _list_start(value)
    if list_start is None:
        return None
    answers, position = [], list_start.end()
    while start := _description_start(value, position):
        parsed = _parse_quoted(value, start.end()) or _parse_unquoted(value, start.end())
        if parsed is None:
            return None
        text, position = parsed
        answers.append(_escaped.sub(r"\1", text))
    return answers if _list_end(value, position) else None


def _parse_quoted(value: str, start: int) -> tuple[str, int] | None:
    """Parse a quoted text and return it with the end position of its description; None if it is not quoted.

    A `")` ends the description if the next description or the end of the list follows. Any other `")` is part of the
    text and must close a "(" of the text.
    """
    if not value.startswith('"', start):
        return None
    start = last = start + 1
    depth = 0
    for closing in _closing_quotes(value, start):
        depth += value.count("(", last, closing.start()) - value.count(")", last, closing.start())
        if _starts_next_or_ends(value, closing.end()):
            return value[start : closing.start()], closing.end()
        if depth <= 0:
            return None
        last = closing.start()
    return None


def _parse_unquoted(value: str, start: int) -> tuple[str, int] | None:
    """Parse an unquoted text, up to the first unpaired ")", and return it with the end position of its description."""
    depth = 0
    for match in _parentheses(value, start):
        depth += 1 if match[0] == "(" else -1
        if depth < 0:
            return (value[start : match.start()], match.end()) if _starts_next_or_ends(value, match.end()) else None
    return None


if __name__ == "__main__":
    main("webquestions")
