"""The bundled sample: math word problems written for this project, one to four steps, with worked solutions.

A row of samples/math.jsonl:

    {"id": "sample-001", "question": "What is 5 + 3?", "answer": "8", "solution": "5+3 = <<5+3=8>>8\\n#### 8"}

Solutions are in GSM8K's manner. A few are left without annotations, or with ambiguous ones, so that a run over the
sample shows what is dropped and why. It is too small to train on, and says nothing about other data.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import toolrlef_data
from toolrlef_data.loading_scripts.source import Question, Source, field, main, plain_number
from toolrlef_data.records import Drop


class Sample(Source):
    """Builder of the questions table of the bundled sample."""

    source = "sample"
    files = {"train": "math.jsonl"}  # noqa: RUF012  # read only
    home = Path(toolrlef_data.__file__).parent / "samples"

    def row(self, raw: Mapping[str, Any], name: str, where: str) -> Question | tuple[str, Drop]:  # noqa: ARG002
        row_id, answer = field(raw, "id", where), plain_number(field(raw, "answer", where))
        if answer is None:
            return row_id, Drop("not_a_number", field(raw, "answer", where))
        return Question(row_id, field(raw, "question", where), answer, field(raw, "solution", where))


if __name__ == "__main__":
    main("sample")
