"""The ladder: templated arithmetic questions of graded difficulty, with templates that only the held-out ones have.

A template is a text and a formula. The level sets the range of its numbers, so the same text is easy at level 1, where
a small model solves most questions by itself, and hopeless at level 4. Most questions are of level 1.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from toolrlef_data.tools.arithmetic import evaluate

__all__ = ["LEVELS", "ladder"]

NAMES = [
    "Ada",
    "Bo",
    "Carla",
    "Dev",
    "Emil",
    "Fatma",
    "Gina",
    "Hugo",
    "Ines",
    "Jon",
    "Kira",
    "Liam",
    "Mona",
    "Nils",
    "Olga",
    "Paul",
    "Rosa",
    "Sven",
    "Tara",
    "Umar",
]
THINGS = [
    "apples",
    "books",
    "coins",
    "pens",
    "cards",
    "shells",
    "stamps",
    "cups",
    "balls",
    "keys",
    "plums",
    "eggs",
    "tiles",
    "bricks",
    "beads",
    "tickets",
]
# Level -> (share of the questions, range of a, range of b, range of c)
LEVELS = {
    1: (0.7, (2, 6), (2, 5), (2, 5)),
    2: (0.1, (11, 29), (6, 19), (4, 9)),
    3: (0.1, (31, 98), (12, 49), (11, 29)),
    4: (0.1, (101, 899), (37, 98), (31, 99)),
}
# {n} and {m} are names, {o} is a thing; a, b and c are the numbers of the level. Formulas of two steps begin at level 2.
TRAINED = [
    ("{n} has {a} {o} and buys {b} more. How many {o} does {n} have now?", "{a}+{b}"),
    ("{n} had {a} {o}. {m} gave {n} {b} more {o}. How many {o} does {n} have now?", "{a}+{b}"),
    ("{n} has {a} {o} and {m} has {b} {o}. How many {o} do they have together?", "{a}+{b}"),
    ("{n} has {a} {o} and picks {b} more. How many {o} does {n} have now?", "{a}+{b}"),
    ("{n} bought {a} {o} and {m} bought {b} {o}. How many {o} did they buy together?", "{a}+{b}"),
    ("{n} has {a} bags with {b} {o} in each bag. How many {o} does {n} have?", "{a}*{b}"),
    ("{n} fills {a} bags with {b} {o} in each bag. How many {o} does {n} need?", "{a}*{b}"),
    ("Calculate {a} + {b}.", "{a}+{b}"),
    ("Compute {a} + {b}.", "{a}+{b}"),
    ("Calculate {a} * {b}.", "{a}*{b}"),
    ("Find {a} * {b}.", "{a}*{b}"),
    ("{n} has {a} {o}, buys {b} more and finds {c}. How many {o} does {n} have now?", "{a}+{b}+{c}"),
    ("{n} has {a} bags with {b} {o} in each bag, and {c} more {o}. How many {o} does {n} have?", "{a}*{b}+{c}"),
]
HELD_OUT = [
    ("{n} had {a} {o} and won {b} more {o}. How many {o} does {n} have now?", "{a}+{b}"),
    ("{n} had {a} {o} and then found {b} more. How many {o} does {n} have now?", "{a}+{b}"),
    ("{n} and {m} put their {o} together: {a} and {b}. How many {o} do they have together?", "{a}+{b}"),
    ("{n} made {a} {o} and {m} made {b} {o}. How many {o} did they make together?", "{a}+{b}"),
    ("{n} buys {a} packs with {b} {o} in each pack. How many {o} does {n} have now?", "{a}*{b}"),
    ("{n} has {a} boxes with {b} {o} in each box. How many {o} does {n} have?", "{a}*{b}"),
    ("Evaluate {a} + {b}.", "{a}+{b}"),
    ("Evaluate {a} * {b}.", "{a}*{b}"),
    ("Calculate {a} times {b}.", "{a}*{b}"),
    ("{n} has {a} boxes with {b} {o} in each box and buys {c} more {o}. How many {o} does {n} have?", "{a}*{b}+{c}"),
]


def ladder(templates: Sequence[tuple[str, str]], count: int, seed: int) -> list[dict[str, Any]]:
    """Return distinct questions in random order, each a dict of question, answer, solution, level and template.

    Args:
        templates: `TRAINED` or `HELD_OUT`.
        count: number of questions; each level has its share of them.
        seed: determines names, things, numbers and order.

    >>> [row["solution"] for row in ladder(TRAINED[:1], 4, seed=0)]
    ['<<25+6=31>>', '<<71+39=110>>', '<<6+2=8>>', '<<4+2=6>>']
    """
    draw = random.Random(f"{seed}:{count}:{templates[0][0]}")
    found: dict[str, dict[str, Any]] = {}
    total = 0.0
    for level, (share, *ranges) in LEVELS.items():
        total, tried = total + share, 0
        while len(found) < round(total * count):
            text, formula = templates[tried % len(templates)]
            tried += 1
            if level == 1 and "{c}" in formula:
                continue
            n, m = draw.sample(NAMES, 2)
            numbers = {name: draw.randint(*span) for name, span in zip("abc", ranges, strict=True)}
            question = text.format(n=n, m=m, o=draw.choice(THINGS), **numbers)
            formula = formula.format(**numbers)
            value = evaluate(formula)
            found.setdefault(
                question,
                {"question": question, "answer": f"{value}", "solution": f"<<{formula}={value}>>", "level": level,
                 "template": text},
            )  # fmt: skip
    rows = list(found.values())
    draw.shuffle(rows)
    return rows
