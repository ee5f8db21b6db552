"""TriviaQA: trivia questions with answer aliases (https://nlp.cs.washington.edu/triviaqa, research use only).

A file is one JSON object, here without the keys that are ignored:

    {"Data": [{"QuestionId": "tc_1", "Question": "Who wrote Two Figs?",
               "Answer": {"Value": "Ann Lee", "Aliases": ["Lee, Ann", "Ann Lee"]},
               "EntityPages": [], "SearchResults": []}], "Domain": "Web", ...}

- Files: those of the archives unfiltered, rc and rc-with-entities, in the data folder, its subfolders, or their qa/.
- Gold answers: `Value`, `Aliases`, and `HumanAnswers` of the verified files. Normalised aliases are ignored, because
  graders ignore case and punctuation.
- Drops: copies of a question (web, wikipedia, verified) as `repeated`; test questions, which have no answers, as
  `no_answer`.
- Quirks: aliases are noisy ("Mary Jane Truman" for Harry Truman). Test answers on the Hub are "<unk>".
- Memory: a file can have hundreds of MB and is read into memory, one file at a time.
- Not covered: the evidence pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from toolrlef_data.loading_scripts.base import Question, Row, Source
from toolrlef_data.loading_scripts.command import main
from toolrlef_data.loading_scripts.fields import (
    CaseInsensitiveRow,
    get_text,
    get_texts,
    gold_answers,
    require_text,
)
from toolrlef_data.loading_scripts.text_files import read_json_object
from toolrlef_data.records import InputError

_EVIDENCE = ("SearchResults", "EntityPages")


def _patterns(split: str) -> tuple[str, ...]:
    names = (f"*web-{split}.json", f"*wikipedia-{split}.json")  # with the prefix unfiltered- or verified-, or none
    return (*names, *(f"*/{name}" for name in names), *(f"*/qa/{name}" for name in names))


class Triviaqa(Source):
    """Builder of the questions table of TriviaQA."""

    source = "triviaqa"
    task = "qa"
    files = {  # noqa: RUF012  # read only
        "train": _patterns("train"),
        "dev": _patterns("dev"),
        "test": _patterns("test-without-answers"),
    }
    hub = ("mandarjoshi/trivia_qa", "unfiltered.nocontext")
    has_repeats = True

    def read(self, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
        return read_json_object(path, "Data", trim=_without_evidence)

    def rows(self, raw: Mapping[str, Any], fallback_id: str, location: str) -> Iterator[Row]:  # noqa: ARG002
        row_id = f"triviaqa-{require_text(raw, 'question_id' if 'question_id' in raw else 'QuestionId', location)}"
        yield Question(row_id, get_text(raw, "Question", location), _answers(raw.get("answer"), location))


def _answers(answer: Any, location: str) -> tuple[str, ...]:
    """Return the gold answers in the value of the key `Answer`."""
    if answer is None:
        return ()
    if not isinstance(answer, dict):
        raise InputError(f"{location}: the key 'answer': expected an object, found {type(answer).__name__}")
    row = CaseInsensitiveRow(answer)
    answers = [get_text(row, "Value", location)] if "Value" in row else []
    for key in ("Aliases", "HumanAnswers"):
        answers += get_texts(row, key, location) if key in row else []
    return gold_answers(answer for answer in answers if answer != "<unk>")


def _without_evidence(row: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object without its evidence, which is most of a file."""
    return {key: value for key, value in row.items() if key not in _EVIDENCE}


if __name__ == "__main__":
    main("triviaqa")
