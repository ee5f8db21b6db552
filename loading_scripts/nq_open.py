"""NQ-open: Natural Questions with short answers (https://github.com/google-research-datasets/natural-questions).

A row of NQ-open.train.jsonl or NQ-open.dev.jsonl (CC BY-SA 3.0):

    {"question": "who wrote the song about figs", "answer": ["Ann Lee", "Lee"]}

`answer` is a list, and every one is gold; questions are in lower case, without "?". Some answers hold U+00A0, which
becomes a blank. EfficientQA's files beside them, NQ-open.efficientqa.dev.1.1.jsonl and its test, are splits of their
own. Upstream has no ids: a digest of the question stands for it. Not covered: the long answers and pages of Natural
Questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from toolrlef_data.loading_scripts.base import Question, Row, Source, main
from toolrlef_data.loading_scripts.fields import gold, text, texts
from toolrlef_data.tables.identity import text_id


class NqOpen(Source):
    """Builder of the questions table of NQ-open."""

    source = "nq_open"
    task = "qa"
    files = {  # noqa: RUF012  # read only
        "train": "NQ-open.train.jsonl",
        "dev": "NQ-open.dev.jsonl",
        "efficientqa_dev": "NQ-open.efficientqa.dev.1.1.jsonl",
        "efficientqa_test": "NQ-open.efficientqa.test.1.1.jsonl",
    }
    hub = ("google-research-datasets/nq_open",)
    repeats = True  # its ids are digests of questions

    def rows(self, raw: Mapping[str, Any], name: str, where: str) -> Iterator[Row]:
        question = text(raw, "question", where)
        row_id = f"nq_open-{text_id(question)}" if question else name
        yield Question(row_id, question, gold(texts(raw, "answer", where)))


if __name__ == "__main__":
    main("nq_open")
