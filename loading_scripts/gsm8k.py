"""GSM8K: grade school math word problems with worked solutions (https://github.com/openai/grade-school-math, MIT).

A row of train.jsonl or test.jsonl:

    {"question": "Ann picks 48 figs ...", "answer": "... 48/2 = <<48/2=24>>24 figs.\\n#### 72"}

The final answer stands after `####`, some with thousands commas, some negative. Not covered: the "socratic" variant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from toolrlef_data.loading_scripts.base import Question, Row, Source, main
from toolrlef_data.loading_scripts.fields import plain_number, text
from toolrlef_data.records import Drop


class Gsm8k(Source):
    """Builder of the questions table of GSM8K."""

    source = "gsm8k"
    files = {"train": "train.jsonl", "test": "test.jsonl"}  # noqa: RUF012  # read only
    hub = ("openai/gsm8k", "main")

    def rows(self, raw: Mapping[str, Any], name: str, where: str) -> Iterator[Row]:
        question, solution = text(raw, "question", where), text(raw, "answer", where)
        _, marker, final = solution.rpartition("####")
        answer = plain_number(final)
        if not solution:
            yield name, Drop("no_answer", question[:80])
        elif not marker or answer is None:
            yield name, Drop("not_a_number" if marker else "no_final_answer", solution[-80:])
        else:
            yield Question(name, question, (answer,), solution)


if __name__ == "__main__":
    main("gsm8k")
