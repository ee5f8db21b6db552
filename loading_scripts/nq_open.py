"""NQ-open: Natural Questions with short answers (https://github.com/google-research-datasets/natural-questions).

A row of NQ-open.train.jsonl or NQ-open.dev.jsonl (CC BY-SA 3.0):

    {"question": "who wrote the song about figs", "answer": ["Ann Lee", "Lee"]}

- Gold answers: all items of `answer`. Non-breaking spaces (U+00A0) become spaces.
- Splits: "train", "dev", and "efficientqa_dev" and "efficientqa_test" from the files of EfficientQA in the same folder.
- Ids: digests of the questions, as upstream has none.
- Quirks: questions are in lower case, without "?".
- Not covered: the long answers and pages of Natural Questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from toolrlef_data.loading_scripts.base import Question, Row, Source
from toolrlef_data.loading_scripts.command import main
from toolrlef_data.loading_scripts.fields import get_text, get_texts, gold_answers
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
    has_repeats = True  # ids are digests of questions, so equal questions have equal ids

    def rows(self, raw: Mapping[str, Any], fallback_id: str, location: str) -> Iterator[Row]:
        question = get_text(raw, "question", location)
        row_id = f"nq_open-{text_id(question)}" if question else fallback_id
        yield Question(row_id, question, gold_answers(get_texts(raw, "answer", location)))


if __name__ == "__main__":
    main("nq_open")
