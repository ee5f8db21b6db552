"""WebQuestions: questions people typed, answered from Freebase (https://nlp.stanford.edu/software/sempre, CC BY 4.0).

A row of webquestions.examples.train.json or webquestions.examples.test.json, each one JSON array:

    {"url": "http://www.freebase.com/view/en/ann_lee", "utterance": "what did ann lee write?",
     "targetValue": "(list (description \\"Two figs\\") (description ""Figs" and me") (description Poems))"}

Every description is a gold answer. One is quoted only where it holds blanks, and quotes inside it are raw, so a quote
ends a description only where the next one, or the end, follows. Upstream has no ids: a digest of the question stands
for it, so the Hub's copy, which has a list `answers`, has the same ids. Not covered: other values of that Lisp
(`(number 3)`, `(date ...)`), which WebQuestions does not use; such rows are dropped as `unreadable_answer`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from toolrlef_data.loading_scripts.base import Question, Row, Source, main
from toolrlef_data.loading_scripts.fields import gold, text, texts
from toolrlef_data.records import Drop
from toolrlef_data.tables.identity import text_id

_begin = re.compile(r"\s*\(list\b").match
_description = re.compile(r"\s*\(description\s+").match
_unquote = re.compile(r'"\s*\)').finditer
_parentheses = re.compile(r"[()]").finditer
_goes_on = re.compile(r"\s*(?:\(description\s|\)\s*\Z)").match
_end = re.compile(r"\s*\)\s*\Z").match
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
    repeats = True  # its ids are digests of questions

    def rows(self, raw: Mapping[str, Any], name: str, where: str) -> Iterator[Row]:
        question = text(raw, "question" if "question" in raw else "utterance", where)
        row_id = f"webquestions-{text_id(question)}" if question else name
        if "answers" in raw:
            yield Question(row_id, question, gold(texts(raw, "answers", where)))
            return
        value = text(raw, "targetValue", where)
        found = descriptions(value) if value else []
        if found is None:
            yield row_id, Drop("unreadable_answer", value[:200])
        else:
            yield Question(row_id, question, gold(found))


def descriptions(value: str) -> list[str] | None:
    """The answers in a `targetValue`; None for anything but a list of descriptions.

    >>> descriptions('(list (description ""Figs" and me") (description Poems))')
    ['"Figs" and me', 'Poems']
    >>> descriptions("(list (number 3))")
    """
    begun = _begin(value)
    if begun is None:
        return None
    items, at = [], begun.end()
    while opened := _description(value, at):
        found = _quoted(value, opened.end()) or _bare(value, opened.end())
        if found is None:
            return None
        items.append(_escaped.sub(r"\1", found[0]))
        at = found[1]
    return items if _end(value, at) else None


def _quoted(value: str, begin: int) -> tuple[str, int] | None:
    """A quoted text and where its description ends; `")` amid it is read only where it closes the text's own "("."""
    if not value.startswith('"', begin):
        return None
    begin = last = begin + 1
    depth = 0
    for close in _unquote(value, begin):
        depth += value.count("(", last, close.start()) - value.count(")", last, close.start())
        if _goes_on(value, close.end()):
            return value[begin : close.start()], close.end()
        if depth <= 0:
            return None
        last = close.start()
    return None


def _bare(value: str, begin: int) -> tuple[str, int] | None:
    """A text without quotes around it, up to the first ")" that it did not open, and where its description ends."""
    depth = 0
    for sign in _parentheses(value, begin):
        depth += 1 if sign[0] == "(" else -1
        if depth < 0:
            return (value[begin : sign.start()], sign.end()) if _goes_on(value, sign.end()) else None
    return None


if __name__ == "__main__":
    main("webquestions")
