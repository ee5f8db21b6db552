"""GSM8K: grade school math word problems with worked solutions (https://github.com/openai/grade-school-math, MIT).

A row of train.jsonl or test.jsonl:

    {"question": "Ann picks 48 figs ...", "answer": "... 48/2 = <<48/2=24>>24 figs.\\n#### 72"}

- Gold answer: the number after `####`; thousands separators are removed.
- Ids: split and row number, as upstream has none.
- Drops: `no_final_answer` if there is no `####`, `not_a_number` if no number follows it.
- Not covered: the "socratic" variant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from toolrlef_data.loading_scripts.base import Question, Row, Source
from toolrlef_data.loading_scripts.command import main
from toolrlef_data.loading_scripts.fields import get_text, normalise_number
from toolrlef_data.records import Drop


class Gsm8k(Source):
    """Builder of the questions table of GSM8K."""

    source = "gsm8k"
    files = {"train": "train.jsonl", "test": "test.jsonl"}  # noqa: RUF012  # read only
    hub = ("openai/gsm8k", "main")

    def rows(self, raw: Mapping[str, Any], fallback_id: str, location: str) -> Iterator[Row]:
        question, solution = get_text(raw, "question", location), get_text(raw, "answer", location)
        _, marker, final = solution.rpartition("####")
        answer = normalise_number(final)
        if not solution:
            yield fallback_id, Drop("no_answer", question[:80])
        elif not marker or answer is None:
            yield fallback_id, Drop("not_a_number" if marker else "no_final_answer", solution[-80:])
        else:
            yield Question(fallback_id, question, (answer,), solution)


if __name__ == "__main__":
    main("gsm8k")
