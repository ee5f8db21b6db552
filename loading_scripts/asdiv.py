"""ASDiv: diverse elementary problems (https://github.com/chaochun/nlu-asdiv-dataset, CC BY-NC 4.0).

A row of ASDiv.xml:

    <Problem ID="nluds-0001" Grade="1" Source="..."><Body>Ann has 7 red figs and 2 green ones.</Body>
      <Question>How many figs has she?</Question><Solution-Type>Addition</Solution-Type>
      <Answer>9 (figs)</Answer><Formula>7+2=9</Formula></Problem>

Only rows with one answer that is written as one number are questions; several answers, ratios, clock times, fractions,
yes/no and names are dropped with that reason. Upstream has no splits: all rows are "train".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from toolrlef_data.loading_scripts.base import Question, Row, Source, main
from toolrlef_data.loading_scripts.fields import plain_number, read_text, text
from toolrlef_data.records import Drop, InputError

_answer = re.compile(r"(-?[\d,]*\.?\d+)\s*(?:\([^()]*\))?").fullmatch
# Why an answer is not one number; the first that is found counts.
_REASONS = {
    "several_answers": re.compile(r";").search,
    "ratio_or_time": re.compile(r"\d:\d").search,
    "fraction": re.compile(r"-?\(?\d+\s*/\s*\d+\)?\s*(?:\([^()]*\))?").fullmatch,
    "yes_no": re.compile(r"(?:yes|no)\W*", re.IGNORECASE).fullmatch,
}


class Asdiv(Source):
    """Builder of the questions table of ASDiv."""

    source = "asdiv"
    files = {"train": "ASDiv.xml"}  # noqa: RUF012  # read only
    hub = ("EleutherAI/asdiv",)

    def read(self, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
        try:
            root = ElementTree.fromstring(read_text(path).encode())  # noqa: S314  # the user's own file; expat is recent
        except ElementTree.ParseError as error:
            raise InputError(f"{path}: not XML: {error}") from None
        for n, problem in enumerate(root.iter("Problem"), start=1):
            where = f"{path}, Problem {problem.get('ID') or n}"
            yield where, {**problem.attrib, **{part.tag: part.text or "" for part in problem}}

    def rows(self, raw: Mapping[str, Any], name: str, where: str) -> Iterator[Row]:
        row_id = f"asdiv-{raw['id']}" if raw.get("id") else name  # the Hub's copy has no ids
        body, asked, gold, formula = (text(raw, key, where) for key in ("Body", "Question", "Answer", "Formula"))
        question = " ".join(f"{body} {asked}".split()) if asked else ""
        found = _answer(gold)
        answer = plain_number(found[1]) if found else None
        if answer is None:
            reason = next((reason for reason, test in _REASONS.items() if test(gold)), "not_a_number")
            yield row_id, Drop(reason if gold else "no_answer", gold)
        else:
            yield Question(row_id, question, (answer,), formula)


if __name__ == "__main__":
    main("asdiv")
