"""AddSub: elementary problems of addition and subtraction (Hosseini et al. 2014, https://aclanthology.org/D14-1058).

A row of AddSub.json of MAWPS (a JSON array of 395):

    {"iIndex": 1, "sQuestion": "Ann had 8 figs . She ate 2 of them . How many figs are left ? ",
     "lEquations": ["X = 8 - 2"], "lSolutions": ["6"]}

Texts are in tokens, with blanks before full stops, and are kept so. TRICE uses it for tests only, so all rows are
"test". Not covered: the first release, in text files, and other parts of MAWPS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from toolrlef_data.loading_scripts.base import Row, Source, main
from toolrlef_data.loading_scripts.multiarith import word_problem


class Addsub(Source):
    """Builder of the questions table of AddSub."""

    source = "addsub"
    files = {"test": "AddSub.json"}  # noqa: RUF012  # read only

    def rows(self, raw: Mapping[str, Any], name: str, where: str) -> Iterator[Row]:
        yield word_problem(raw, name, where)


if __name__ == "__main__":
    main("addsub")
