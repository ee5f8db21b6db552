"""SVAMP: elementary word problems with small misleading variations (https://github.com/arkilpatel/SVAMP, MIT).

A row of SVAMP.json, a JSON array:

    {"ID": "chal-1", "Body": "Ann has 7 figs. If she eats 2 figs", "Question": "How many are left?",
     "Equation": "( 7.0 - 2.0 )", "Answer": 5.0, "Type": "Subtraction"}

- Splits: upstream has none; all rows are "train". The Hub's copy has two splits, which are retained.
- Quirks: a Body can end in a condition without a full stop, which the Question continues. They are then joined with a
  comma.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from toolrlef_data.loading_scripts.base import Question, Row, Source
from toolrlef_data.loading_scripts.command import main
from toolrlef_data.loading_scripts.fields import get_text, normalise_number, require_text
from toolrlef_data.records import Drop

_ends_in_condition = re.compile(r"(?:^|[.!?]\s+)If [^,.!?]+$").search


class Svamp(Source):
    """Builder of the questions table of SVAMP."""

    source = "svamp"
    files = {"train": "SVAMP.json"}  # noqa: RUF012  # read only
    hub = ("ChilleD/SVAMP",)

    def rows(self, raw: Mapping[str, Any], fallback_id: str, location: str) -> Iterator[Row]:  # noqa: ARG002
        row_id = f"svamp-{require_text(raw, 'ID', location)}"
        body, question, gold = (get_text(raw, key, location) for key in ("Body", "Question", "Answer"))
        answer = normalise_number(gold)
        if answer is None:
            yield row_id, Drop("not_a_number" if gold else "no_answer", gold)
        else:
            problem = join_texts(body, question) if question else ""
            yield Question(row_id, problem, (answer,), get_text(raw, "Equation", location))


def join_texts(body: str, question: str) -> str:
    """Return the text of a problem: its body and its question.

    >>> join_texts("Ann has 7 figs. If she eats 2 figs", "How many are left?")
    'Ann has 7 figs. If she eats 2 figs, how many are left?'
    >>> join_texts("Ann has 7 figs", "How many figs has Ann?")
    'Ann has 7 figs. How many figs has Ann?'
    """
    if not body or body[-1] in ".!?":
        return f"{body} {question}".strip()
    if _ends_in_condition(body):
        return f"{body}, {question[:1].lower()}{question[1:]}"
    return f"{body.rstrip(',;: ')}. {question}"


if __name__ == "__main__":
    main("svamp")
