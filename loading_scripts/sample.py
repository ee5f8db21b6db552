"""The bundled samples: questions of every task, and trajectories, written for this project.

Rows of samples/math.jsonl (`sample`), qa.jsonl (`sample_qa`), lama.jsonl (`sample_lama`), mlqa.jsonl (`sample_mlqa`):

    {"id": "sample-001", "question": "What is 5 + 3?", "answer": "8", "solution": "5+3 = <<5+3=8>>8\\n#### 8"}
    {"id": "sample-qa-001", "question": "which planet has the shortest day", "answers": ["Jupiter"]}
    {"id": "sample-lama-001", "question": "Niels Bohr was born in ?", "answers": ["Copenhagen"]}
    {"id": "sample-mlqa-q01#de", "context": "...", "question": "...", "answers": ["1869"], "english": "..."}

Worked solutions of math problems are in GSM8K's manner; a few are left without annotations, or with ambiguous ones, so
that a run shows what is dropped and why. Most questions of qa and lama are answered by the bundled passages
(`tools.search.corpus`), some by none of them. Those of mlqa are in six languages and four scripts over English
contexts.
`sample_trajectories` has the answer files of samples/answers in the place of questions, as the source toolbench reads
them: searches with the functions of `demo_functions`, in which a script played the model (`demo`).
`python -m toolrlef_data.loading_scripts.sample sample_qa --out DIR` writes the one that is named, or else `sample`.
All of it is too small to train on, and says nothing about other data.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import toolrlef_data
from toolrlef_data.loading_scripts.base import Question, Row, Source, main
from toolrlef_data.loading_scripts.fields import field, plain_number
from toolrlef_data.loading_scripts.toolbench import Toolbench
from toolrlef_data.records import Drop


class Sample(Source):
    """Builder of the questions table of the bundled sample."""

    source = "sample"
    files = {"train": "math.jsonl"}  # noqa: RUF012  # read only
    home = Path(toolrlef_data.__file__).parent / "samples"

    def rows(self, raw: Mapping[str, Any], name: str, where: str) -> Iterator[Row]:  # noqa: ARG002
        row_id, answer = field(raw, "id", where), plain_number(field(raw, "answer", where))
        if answer is None:
            yield row_id, Drop("not_a_number", field(raw, "answer", where))
        else:
            yield Question(row_id, field(raw, "question", where), (answer,), field(raw, "solution", where))


class SampleQa(Source):
    """Builder of the questions table of the bundled open questions."""

    source = "sample_qa"
    task = "qa"
    files = {"train": "qa.jsonl"}  # noqa: RUF012  # read only
    home = Sample.home

    def rows(self, raw: Mapping[str, Any], name: str, where: str) -> Iterator[Row]:  # noqa: ARG002
        context = field(raw, "context", where) if raw.get("context") else ""
        answers = tuple(str(answer) for answer in raw["answers"])
        yield Question(field(raw, "id", where), field(raw, "question", where), answers, context=context)


class SampleLama(SampleQa):
    """Builder of the questions table of the bundled clozes."""

    source = "sample_lama"
    task = "lama"
    files = {"train": "lama.jsonl"}  # noqa: RUF012  # read only


class SampleMlqa(SampleQa):
    """Builder of the questions table of the bundled questions in other languages."""

    source = "sample_mlqa"
    task = "mlqa"
    files = {"train": "mlqa.jsonl"}  # noqa: RUF012  # read only


class SampleTrajectories(Toolbench):
    """Builder of the answers table of the bundled answer files."""

    source = "sample_trajectories"
    home = Sample.home / "answers"


def run(arguments: list[str]) -> None:
    """The command line: the name of one of these sources, `sample` where none is given, and the options of `main`."""
    named = bool(arguments) and not arguments[0].startswith("-")
    main(arguments[0] if named else "sample", arguments[named:])


if __name__ == "__main__":
    run(sys.argv[1:])
