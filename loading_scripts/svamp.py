"""SVAMP: elementary problems with small changes that mislead (https://github.com/arkilpatel/SVAMP, MIT).

A row of SVAMP.json (a JSON array; JSON Lines are read too):

    {"ID": "chal-1", "Body": "Ann has 7 figs. If she eats 2 figs", "Question": "How many are left?",
     "Equation": "( 7.0 - 2.0 )", "Answer": 5.0, "Type": "Subtraction"}

A Body may end in a condition without a full stop; then the Question goes on with it. Upstream has no splits: all rows
are "train". The Hub's copy is split in two by others, and its splits are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from toolrlef_data.loading_scripts.base import Question, Row, Source, main
from toolrlef_data.loading_scripts.fields import field, plain_number, text
from toolrlef_data.records import Drop

_condition = re.compile(r"(?:^|[.!?]\s+)If [^,.!?]+$").search


class Svamp(Source):
    """Builder of the questions table of SVAMP."""

    source = "svamp"
    files = {"train": "SVAMP.json"}  # noqa: RUF012  # read only
    hub = ("ChilleD/SVAMP",)

    def rows(self, raw: Mapping[str, Any], name: str, where: str) -> Iterator[Row]:  # noqa: ARG002
        row_id = f"svamp-{field(raw, 'ID', where)}"
        body, question, found = (text(raw, key, where) for key in ("Body", "Question", "Answer"))
        answer = plain_number(found)
        if answer is None:
            yield row_id, Drop("not_a_number" if found else "no_answer", found)
        else:
            asked = joined(body, question) if question else ""
            yield Question(row_id, asked, (answer,), text(raw, "Equation", where))


def joined(body: str, question: str) -> str:
    """The text of a problem.

    >>> joined("Ann has 7 figs. If she eats 2 figs", "How many are left?")
    'Ann has 7 figs. If she eats 2 figs, how many are left?'
    >>> joined("Ann has 7 figs", "How many figs has Ann?")
    'Ann has 7 figs. How many figs has Ann?'
    """
    if not body or body[-1] in ".!?":
        return f"{body} {question}".strip()
    if _condition(body):
        return f"{body}, {question[:1].lower()}{question[1:]}"
    return f"{body.rstrip(',;: ')}. {question}"


if __name__ == "__main__":
    main("svamp")
