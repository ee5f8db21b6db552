"""Word problems that are unrelated although they share the phrases of their kind, and changed copies of them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

_words = re.compile(r"\w+").findall
NAMES = _words("Ann Ben Cleo Dan Eva Finn Gus Hana Ivo Jana Kai Lena Milo Nora Otto Pia Quinn Rosa Sven Tara")
THINGS = _words(
    "pens books stamps coins shells marbles apples pears candles jars ropes tiles bricks lamps drums kites "
    "buttons ribbons boxes tents"
)
FAMILIES = _words("Abel Brand Costa Diaz Engel Faber Gross Huber Ito Jung Kern Lang Moreau Novak Olsen Park Roth Silva")
KINDS = _words("red blue green old new small large wooden glass silver painted broken plain striped round")
PLACES = _words("market school harbour library garden museum station bakery farm theatre")
OPENINGS = (
    "{a} walks to the {place} and buys {n} {thing} for {m} dollars each.",
    "There are {n} {thing} in the {place}, and {a} brings {m} more in the morning.",
    "{a} has {n} times as many {thing} as {b}, who found {m} of them near the {place}.",
    "In the {place} {a} sorts {n} {thing} into bags of {m}.",
    "{a} works at the {place} for {n} hours a day and earns {m} dollars an hour.",
    "A truck carries {n} crates of {thing} to the {place}, with {m} in each crate.",
    "{a} and {b} share {n} {thing} that {m} friends gave them at the {place}.",
)
MIDDLES = (
    "On the way home {b} loses {k} of the {thing}.",
    "{b} already owns {k} {thing} and wants to give some to {a}.",
    "After {k} days half of the {thing} are broken.",
    "Each of the {thing} weighs {k} grams.",
    "It takes {k} minutes to count one row of {thing}.",
    "The price of the {thing} rises by {k} percent in the summer.",
)
QUESTIONS = (
    "How many {thing} does {a} have now?",
    "How much money does {a} spend in all?",
    "How many more {thing} does {a} have than {b}?",
    "How long does it take {b} to finish?",
    "What is the total number of {thing}?",
)


def word_problems(count: int, seed: int) -> list[str]:
    """Return different problems of three or four sentences; those of odd and even seeds have other templates."""
    rng = random.Random(seed)
    openings, middles = OPENINGS[seed % 2 :: 2], MIDDLES[seed % 2 :: 2]
    problems: dict[str, None] = {}
    while len(problems) < count:
        a, b = (f"{name} {rng.choice(FAMILIES)}" for name in rng.sample(NAMES, 2))
        thing = f"{rng.choice(KINDS)} {rng.choice(THINGS)}"
        values = {"a": a, "b": b, "thing": thing, "place": rng.choice(PLACES)}
        values |= {name: str(rng.randint(2, 3000)) for name in ("n", "m", "k")}
        parts = [rng.choice(openings), *rng.sample(middles, rng.randint(1, 2)), rng.choice(QUESTIONS)]
        problems[" ".join(part.format_map(values) for part in parts)] = None
    return list(problems)


def _sentences_permuted(text: str, rng: random.Random) -> str:
    sentences = re.findall(r"[^.?]+[.?]", text)
    first, *others = (sentence.strip() for sentence in sentences)
    rng.shuffle(others)
    return " ".join([*others, first])


def _part(text: str, rng: random.Random) -> str:
    words = text.split()
    half = " ".join(words[: max(13, len(words) * 3 // 5)])
    return half if rng.random() < 0.5 else f"My teacher wrote this on the board last week: {half} and so on."


CHANGES: dict[str, Callable[[str, random.Random], str]] = {
    "case": lambda text, rng: rng.choice([str.upper, str.lower, str.title, str.swapcase])(text),
    "punctuation": lambda text, rng: re.sub(r"[^\w\s]", rng.choice(["", " ", "!", " ;"]), text),
    "digits": lambda text, rng: re.sub(r"\d+", lambda match: str(rng.randint(3001, 9000)), text),
    "order of sentences": _sentences_permuted,
    "partial": _part,
}  # kind of planted overlap -> a changed copy of a text
