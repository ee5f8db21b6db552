"""TriviaQA: trivia questions with aliases of the answer (https://nlp.cs.washington.edu/triviaqa, research use only).

A file is one JSON object, here without the many keys that are not read:

    {"Data": [{"QuestionId": "tc_1", "Question": "Who wrote Two Figs?",
               "Answer": {"Value": "Ann Lee", "Aliases": ["Lee, Ann", "Ann Lee"]},
               "EntityPages": [], "SearchResults": []}], "Domain": "Web", ...}

Read are the files of the archives unfiltered, rc and rc-with-entities, in the folder given, in folders of it, or in qa/
of these. The gold answers are `Value`, then `Aliases` and `HumanAnswers`, which only verified files have; normalised
forms add nothing to a grader that looks past case and punctuation, and are left out. Aliases are noisy ("Mary Jane
Truman" for Harry Truman). The archives hold many copies of a question (web, wikipedia, verified): the first is kept,
and the others are dropped as `repeated`. Test files have no answers: `no_answer`, or "<unk>" on the Hub. A question
that the archives put into two splits stays in the first (`source`). Files of hundreds of MB are read whole, one at a
time. Not covered: the evidence pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from toolrlef_data.loading_scripts.base import Question, Row, Source, main
from toolrlef_data.loading_scripts.fields import AnyCase, field, gold, read_object, text, texts
from toolrlef_data.records import InputError

_EVIDENCE = ("SearchResults", "EntityPages")


def _patterns(split: str) -> tuple[str, ...]:
    names = (f"*web-{split}.json", f"*wikipedia-{split}.json")  # the star: unfiltered-, verified-
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
    repeats = True

    def read(self, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
        return read_object(path, "Data", trim=_without_evidence)

    def rows(self, raw: Mapping[str, Any], name: str, where: str) -> Iterator[Row]:  # noqa: ARG002
        row_id = f"triviaqa-{field(raw, 'question_id' if 'question_id' in raw else 'QuestionId', where)}"
        yield Question(row_id, text(raw, "Question", where), _answers(raw.get("answer"), where))


def _answers(answer: Any, where: str) -> tuple[str, ...]:
    if answer is None:
        return ()
    if not isinstance(answer, dict):
        raise InputError(f"{where}: the key 'answer' holds no object, but {type(answer).__name__}")
    known = AnyCase(answer)
    found = [text(known, "Value", where)] if "Value" in known else []
    for key in ("Aliases", "HumanAnswers"):
        found += texts(known, key, where) if key in known else []
    return gold(alias for alias in found if alias != "<unk>")


def _without_evidence(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in _EVIDENCE}


if __name__ == "__main__":
    main("triviaqa")
