"""MultiArith: elementary multi-step word problems (Roy & Roth 2015, https://aclanthology.org/D15-1202).

A row of MultiArith.json, a JSON array of 600 rows, which is also part of MAWPS:

    {"iIndex": 1, "sQuestion": "Ann picks 7 figs and 5 plums. She eats 3. How many has she? ",
     "lEquations": ["X=((7.0+5.0)-3.0)"], "lSolutions": [9.0], "lAlignments": [11, 22, 40]}

- Splits: all rows are "test", because TRICE uses the data set for tests only. The Hub's copy has two splits that
  upstream lacks; they are retained.
- Ids: built from row numbers, because `iIndex` starts at 0 or at 1 depending on the copy of the file.
- Repeats: some questions are in the file more than once. Only the first row of a question remains; the others are
  dropped as `repeated` under its id.
- Solution: the equation without "X =". The Hub's copy has the keys `question` and `final_ans`, and no equations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from toolrlef_data.loading_scripts.base import Question, Row, Source
from toolrlef_data.loading_scripts.command import main
from toolrlef_data.loading_scripts.fields import get_text, normalise_number, require
from toolrlef_data.records import Drop, InputError
from toolrlef_data.tables.identity import normal_form

_match_unknown = re.compile(r"\s*[A-Za-z]\s*=").match


class Multiarith(Source):
    """Builder of the questions table of MultiArith."""

    source = "multiarith"
    files = {"test": "MultiArith.json"}  # noqa: RUF012  # read only
    hub = ("ChilleD/MultiArith",)
    has_repeats = True

    def rows(self, raw: Mapping[str, Any], fallback_id: str, location: str) -> Iterator[Row]:
        row = parse_word_problem(raw, fallback_id, location)
        if isinstance(row, Question):
            split = fallback_id.rpartition("-")[0]
            form = normal_form(row.question) or row.id  # a question of punctuation only has no normal form
            row = replace(row, id=self.first_ids.setdefault(f"{split} {form}", row.id))
        yield row

    @cached_property
    def first_ids(self) -> dict[str, str]:
        """Split and question -> id of its first row; filled while the rows are read."""
        return {}


def parse_word_problem(raw: Mapping[str, Any], fallback_id: str, location: str) -> Row:
    """Convert a row in MAWPS's format or that of the Hub's copy; see `Source.rows` for the arguments.

    >>> raw = {"sQuestion": "What is 8 - 2 ? ", "lEquations": ["X = 8 - 2"], "lSolutions": ["6"]}
    >>> parse_word_problem(raw, "row-1", "")
    Question(id='row-1', question='What is 8 - 2 ?', answers=('6',), solution='8 - 2', context='')
    """
    if "sQuestion" not in raw and "final_ans" in raw:
        question, solutions, equations = get_text(raw, "question", location), [get_text(raw, "final_ans", location)], []
    else:
        question = get_text(raw, "sQuestion", location)
        solutions = _list_of_texts(raw, "lSolutions", location)
        equations = _list_of_texts(raw, "lEquations", location) if "lEquations" in raw else []
    answers = list(dict.fromkeys(normalise_number(solution) or solution for solution in solutions if solution))
    if len(answers) != 1:
        return fallback_id, Drop("several_answers" if answers else "no_answer", "; ".join(answers))
    answer = normalise_number(answers[0])
    if answer is None:
        return fallback_id, Drop("not_a_number", answers[0])
    solution = "; ".join(
        equation[match.end() :].strip() if (match := _match_unknown(equation)) else equation for equation in equations
    )
    return Question(fallback_id, " ".join(question.split()), (answer,), solution)


def _list_of_texts(raw: Mapping[str, Any], key: str, location: str) -> list[str]:
    """Return the texts and numbers of a list as texts, without nulls."""
    values = require(raw, key, location)
    values = [] if values is None else values
    values = [value for value in values if value is not None] if isinstance(values, list) else values
    if not isinstance(values, list) or not all(isinstance(v, (str, int, float)) for v in values):
        raise InputError(
            f"{location}: expected a list of texts or numbers under the key {key!r}; found: {values!r:.80}"
        )
    return [str(value).strip() for value in values]


if __name__ == "__main__":
    main("multiarith")
