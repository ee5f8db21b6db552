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

from toolrlef_data.loading_scripts.reading import field, gold, text_id, texts
from toolrlef_data.loading_scripts.source import Question, Row, Source, main
from toolrlef_data.records import Drop

_begin = re.compile(r"\s*\(list\b").match
_item = re.compile(
    r'\s*\(description\s+(?:"(?P<quoted>.*?)"|(?P<bare>[^\s"].*?)?)\)(?=\s*(?:\(description\s|\)\s*\Z))', re.DOTALL
).match
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

    def rows(self, raw: Mapping[str, Any], name: str, where: str) -> Iterator[Row]:  # noqa: ARG002
        question = field(raw, "utterance" if "utterance" in raw else "question", where)
        row_id = f"webquestions-{text_id(question)}"
        if "answers" in raw:
            yield Question(row_id, question, gold(texts(raw, "answers", where)))
            return
        value = field(raw, "targetvalue", where)
        found = descriptions(value)
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
    while found := _item(value, at):
        items.append(_escaped.sub(r"\1", found["quoted"] if found["quoted"] is not None else found["bare"] or ""))
        at = found.end()
    return items if _end(value, at) else None


if __name__ == "__main__":
    main("webquestions")
