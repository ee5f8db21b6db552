"""Scoring rules, which rank the responses to every question.

| file | contents |
|---|---|
| `rules` | the rules |
| `stage` | `score`, the stage that applies a rule to every row |

A rule is a function that maps the candidates of one row to a list of scores, one per candidate. `RULES` contains the
rules by name. A candidate is a mapping with these keys:

| key | value |
|---|---|
| name | the responder; `gold` is the output of stage 1 |
| prediction | the prediction as text, or None |
| correct | a bool, or None if the prediction cannot be graded |
| uses_tool | whether the response calls the tool |
| distance | numeric tasks: abs(prediction - gold) of values rounded to 2 decimals; else None |

Levels and rules are those of TRICE (arXiv 2305.13068) and its published code.
"""

from __future__ import annotations

from collections.abc import Callable

from toolrlef_data.choices import Choices
from toolrlef_data.records import Score
from toolrlef_data.trice.scoring.rules import LEVELS, paper, trice

__all__ = ["LEVELS", "RULES", "Rule", "paper", "trice"]

Rule = Callable[..., list[Score]]

RULES: Choices[Rule] = Choices(
    "scoring rule",
    {"trice": "toolrlef_data.trice.scoring.rules:trice", "paper": "toolrlef_data.trice.scoring.rules:paper"},
)
