"""Scoring rules, which rank the responses to every question.

| file | contents |
|---|---|
| `rules` | the rules |
| `candidates` | the records that a rule reads, and its application to one row |
| `stage` | `score`, the stage that applies a rule to every row |
| `rescoring` | `rescore`, another rule for a stage 2 table |

A rule is a function that maps the candidates of one row to a list of scores, one per candidate. `RULES` contains the
rules by name. A candidate is a `Candidate`; a score is a number or a `Score`.

Levels and rules are those of TRICE (arXiv 2305.13068) and its published code.
"""

from __future__ import annotations

from collections.abc import Callable

from toolrlef_data.choices import Choices
from toolrlef_data.records import Score
from toolrlef_data.trice.scoring.candidates import Candidate, Rule
from toolrlef_data.trice.scoring.rules import LEVELS, cost, paper, trice

__all__ = ["LEVELS", "RULES", "Candidate", "Rule", "cost", "paper", "trice"]

RULES: Choices[Callable[..., list[Score]]] = Choices(
    "scoring rule",
    {name: f"toolrlef_data.trice.scoring.rules:{name}" for name in ("trice", "paper", "cost")},
)
