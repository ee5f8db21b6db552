"""AddSub: elementary problems of addition and subtraction (Hosseini et al. 2014, https://aclanthology.org/D14-1058).

A row of AddSub.json of MAWPS, a JSON array of 395 rows:

    {"iIndex": 1, "sQuestion": "Ann had 8 figs . She ate 2 of them . How many figs are left ? ",
     "lEquations": ["X = 8 - 2"], "lSolutions": ["6"]}

- Splits: all rows are "test", because TRICE uses the data set for tests only.
- Quirks: upstream's texts are tokenised, with spaces before full stops; this source does not change them.
- Not covered: the first release, in text files; other parts of MAWPS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from toolrlef_data.loading_scripts.base import Row, Source
from toolrlef_data.loading_scripts.command import main
from toolrlef_data.loading_scripts.multiarith import parse_word_problem


class Addsub(Source):
    """Builder of the questions table of AddSub."""

    source = "addsub"
    files = {"test": "AddSub.json"}  # noqa: RUF012  # read only

    def rows(self, raw: Mapping[str, Any], fallback_id: str, location: str) -> Iterator[Row]:
        yield parse_word_problem(raw, fallback_id, location)


if __name__ == "__main__":
    main("addsub")
