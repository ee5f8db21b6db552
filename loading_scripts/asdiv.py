"""ASDiv: diverse elementary word problems (https://github.com/chaochun/nlu-asdiv-dataset, CC BY-NC 4.0).

A row of ASDiv.xml:

    <Problem ID="nluds-0001" Grade="1" Source="..."><Body>Ann has 7 red figs and 2 green ones.</Body>
      <Question>How many figs has she?</Question><Solution-Type>Addition</Solution-Type>
      <Answer>9 (figs)</Answer><Formula>7+2=9</Formula></Problem>

- Splits: upstream has none; all rows are "train".
- Ids: upstream's, or row numbers for the Hub's copy, which has no ids.
- Drops: only rows with exactly one numeric answer are usable. Other answers are dropped as `several_answers`,
  `ratio_or_time`, `fraction`, `yes_no` or `not_a_number`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from toolrlef_data.loading_scripts.base import Question, Row, Source
from toolrlef_data.loading_scripts.command import main
from toolrlef_data.loading_scripts.fields import get_text, normalise_number
from toolrlef_data.loading_scripts.text_files import read_lines
from toolrlef_data.records import Drop, InputError

_match_answer = re.compile(r"(-?[\d,]*\.?\d+)\s*(?:\([^()]*\))?").fullmatch
# Drop reason -> function that matches such answers; the first match counts.
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
        for n, problem in enumerate(_problems(path), start=1):
            location = f"{path}, Problem {problem.get('ID') or n}"
            yield location, {**problem.attrib, **{part.tag: "".join(part.itertext()) for part in problem}}

    def rows(self, raw: Mapping[str, Any], fallback_id: str, location: str) -> Iterator[Row]:
        row_id = f"asdiv-{raw['id']}" if raw.get("id") else fallback_id  # the Hub's copy has no ids
        body, final, gold, formula = (get_text(raw, key, location) for key in ("Body", "Question", "Answer", "Formula"))
        question = " ".join(f"{body} {final}".split()) if final else ""
        match = _match_answer(gold)
        answer = normalise_number(match[1]) if match else None
        if answer is None:
            reason = next((reason for reason, matches in _REASONS.items() if matches(gold)), "not_a_number")
            yield row_id, Drop(reason if gold else "no_answer", gold)
        else:
            yield Question(row_id, question, (answer,), formula)


def _problems(path: Path) -> Iterator[ElementTree.Element]:
    parser: Any = ElementTree.XMLPullParser(("end",))
    try:
        for line in read_lines(path):
            parser.feed(f"{line}\n".encode())
            yield from _complete_problems(parser)
        parser.close()
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: not valid XML: {error}") from None
    yield from _complete_problems(parser)


def _complete_problems(parser: Any) -> Iterator[ElementTree.Element]:
    """Yield the problems that end in the text that the parser received, and remove them from the tree."""
    for _, element in parser.read_events():
        if element.tag == "Problem":
            yield element
            element.clear()


if __name__ == "__main__":
    main("asdiv")
