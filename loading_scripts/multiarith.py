"""MultiArith: elementary problems of several steps (Roy & Roth 2015, https://aclanthology.org/D15-1202).

A row of MultiArith.json (a JSON array of 600, also part of MAWPS):

    {"iIndex": 1, "sQuestion": "Ann picks 7 figs and 5 plums. She eats 3. How many has she? ",
     "lEquations": ["X=((7.0+5.0)-3.0)"], "lSolutions": [9.0], "lAlignments": [11, 22, 40]}

Ids are made of row numbers, because copies of the file number from 0 or from 1. TRICE uses it for tests only, so all
rows are "test". The Hub's copy has {"question", "final_ans"}, no equations, and is split in two by others; its splits
are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from toolrlef_data.loading_scripts.base import Question, Row, Source, main
from toolrlef_data.loading_scripts.fields import plain_number, required, text
from toolrlef_data.records import Drop, InputError

_unknown = re.compile(r"\s*[A-Za-z]\s*=").match


class Multiarith(Source):
    """Builder of the questions table of MultiArith."""

    source = "multiarith"
    files = {"test": "MultiArith.json"}  # noqa: RUF012  # read only
    hub = ("ChilleD/MultiArith",)

    def rows(self, raw: Mapping[str, Any], name: str, where: str) -> Iterator[Row]:
        yield word_problem(raw, name, where)


def word_problem(raw: Mapping[str, Any], name: str, where: str) -> Row:
    """Read one row in the manner of MAWPS, or of the Hub's copies; arguments as of `Source.rows`.

    >>> word_problem({"sQuestion": "What is 8 - 2 ? ", "lEquations": ["X = 8 - 2"], "lSolutions": ["6"]}, "row-1", "")
    Question(id='row-1', question='What is 8 - 2 ?', answers=('6',), solution='8 - 2', context='')
    """
    if "sQuestion" not in raw and "final_ans" in raw:
        question, solutions, equations = text(raw, "question", where), [text(raw, "final_ans", where)], []
    else:
        question = text(raw, "sQuestion", where)
        solutions = _listed(raw, "lSolutions", where)
        equations = _listed(raw, "lEquations", where) if "lEquations" in raw else []
    answers = list(dict.fromkeys(plain_number(solution) or solution for solution in solutions if solution))
    if len(answers) != 1:
        return name, Drop("several_answers" if answers else "no_answer", "; ".join(answers))
    answer = plain_number(answers[0])
    if answer is None:
        return name, Drop("not_a_number", answers[0])
    solution = "; ".join(
        equation[match.end() :].strip() if (match := _unknown(equation)) else equation for equation in equations
    )
    return Question(name, " ".join(question.split()), (answer,), solution)


def _listed(raw: Mapping[str, Any], key: str, where: str) -> list[str]:
    """The texts or numbers of a list, as texts, without nulls."""
    values = required(raw, key, where)
    values = [] if values is None else values
    values = [value for value in values if value is not None] if isinstance(values, list) else values
    if not isinstance(values, list) or not all(isinstance(v, (str, int, float)) for v in values):
        raise InputError(f"{where}: expected a list of texts or numbers under the key {key!r}; found: {values!r:.80}")
    return [str(value).strip() for value in values]


if __name__ == "__main__":
    main("multiarith")
