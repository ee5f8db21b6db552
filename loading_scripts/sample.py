"""The bundled samples: questions of every task, and trajectories, written for this project.

Rows of samples/math.jsonl (`sample`), qa.jsonl (`sample_qa`), lama.jsonl (`sample_lama`), mlqa.jsonl (`sample_mlqa`):

    {"id": "sample-001", "question": "What is 5 + 3?", "answer": "8", "solution": "5+3 = <<5+3=8>>8\\n#### 8"}
    {"id": "sample-qa-001", "question": "which planet has the shortest day", "answers": ["Jupiter"]}
    {"id": "sample-lama-001", "question": "Niels Bohr was born in ?", "answers": ["Copenhagen"]}
    {"id": "sample-mlqa-q01#de", "context": "...", "question": "...", "answers": ["1869"], "english": "..."}

The samples are too small to train on and are not representative of other data.

| source | quirks |
|---|---|
| `sample` | solutions in GSM8K's format, a few of them with missing or ambiguous annotations to demonstrate drops |
| `sample_qa`, `sample_lama` | the bundled passages (`tools.search.corpus`) answer most questions, but not all |
| `sample_mlqa` | questions in six languages and four scripts about English contexts |
| `sample_trajectories` | answer files (samples/answers) instead of questions, in the format of the source toolbench |

The answer files of `sample_trajectories` are the results of trajectory searches with a scripted model
(`toolbench.search.demo`) and the functions of `toolbench.search.demo_functions`.

The command accepts the name of a sample. Default: `sample`.

    python -m toolrlef_data.loading_scripts.sample sample_qa --out DIR
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import toolrlef_data
from toolrlef_data.loading_scripts.base import Question, Row, Source
from toolrlef_data.loading_scripts.command import main
from toolrlef_data.loading_scripts.fields import normalise_number, require_text
from toolrlef_data.loading_scripts.toolbench import Toolbench
from toolrlef_data.records import Drop


class Sample(Source):
    """Builder of the questions table of the bundled math problems."""

    source = "sample"
    files = {"train": "math.jsonl"}  # noqa: RUF012  # read only
    bundled_folder = Path(toolrlef_data.__file__).parent / "samples"

    def rows(self, raw: Mapping[str, Any], fallback_id: str, location: str) -> Iterator[Row]:  # noqa: ARG002
        row_id, answer = require_text(raw, "id", location), normalise_number(require_text(raw, "answer", location))
        if answer is None:
            yield row_id, Drop("not_a_number", require_text(raw, "answer", location))
        else:
            yield Question(
                row_id, require_text(raw, "question", location), (answer,), require_text(raw, "solution", location)
            )


class SampleQa(Source):
    """Builder of the questions table of the bundled open questions."""

    source = "sample_qa"
    task = "qa"
    files = {"train": "qa.jsonl"}  # noqa: RUF012  # read only
    bundled_folder = Sample.bundled_folder

    def rows(self, raw: Mapping[str, Any], fallback_id: str, location: str) -> Iterator[Row]:  # noqa: ARG002
        context = require_text(raw, "context", location) if raw.get("context") else ""
        answers = tuple(str(answer) for answer in raw["answers"])
        yield Question(
            require_text(raw, "id", location), require_text(raw, "question", location), answers, context=context
        )


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
    bundled_folder = Sample.bundled_folder / "answers"


def run(arguments: list[str]) -> None:
    """Run the command line: an optional name of a sample, then the options of `main`."""
    has_name = bool(arguments) and not arguments[0].startswith("-")
    main(arguments[0] if has_name else "sample", arguments[has_name:])


if __name__ == "__main__":
    run(sys.argv[1:])
