"""The quick search for plain texts finds every match of the slow patterns, in questions and in texts made from them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from toolrlef_data.tasks.numbers import numbers_in
from toolrlef_data.trice.annotations.constants import _CUES, _needles, constants_for

FIXTURES = Path(__file__).parents[2] / "fixtures"
QUESTIONS = [json.loads(line)["question"] for line in (FIXTURES / "gsm8k.jsonl").read_text().splitlines()]


def texts_of(parsed: Any) -> Iterator[str]:
    """Yield texts of a parsed pattern: each alternative, and each optional part once without and once with it."""
    texts = [""]
    for kind, value in parsed:
        name = str(kind)
        if name == "LITERAL":
            options = [chr(value)]
        elif name == "IN":
            options = [
                chr(item) if str(op) == "LITERAL" else "7" for op, item in value if str(op) in ("LITERAL", "CATEGORY")
            ]
        elif name == "BRANCH":
            options = [text for branch in value[1] for text in texts_of(branch)]
        elif name == "SUBPATTERN":
            options = list(texts_of(value[-1]))
        elif name == "MAX_REPEAT":
            low, _, inner = value
            options = [text * count for count in (low, low + 1) for text in texts_of(inner)]
        else:
            options = ["x" if name == "ANY" else ""]
        texts = [text + option for text in texts for option in options]
    yield from texts


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in _CUES])
def test_every_match_of_a_pattern_contains_one_of_its_plain_texts(pattern: str) -> None:
    parser: Any = getattr(re, "_parser", None) or __import__("sre_parse")
    texts = [f" {text} " for text in texts_of(parser.parse(pattern))]
    matched = [text for text in texts if re.search(pattern, text)]
    assert len(matched) >= len(_needles(pattern)), "each alternative has a text"
    assert [text for text in matched if not any(needle in text for needle in _needles(pattern))] == []


def test_constants_are_those_of_all_patterns() -> None:
    for question in [*QUESTIONS, "It costs 5\u00a2. How much?", "Ann, Bo and Cy; a, b, or c?"]:
        expected = {
            float(value) for pattern, values in _CUES if re.search(pattern, question.lower()) for value in values
        }
        assert expected <= constants_for(question)
    assert constants_for("Why; Ann, Bo and Cy?") == {1.0, 2.0, 3.0}


@pytest.mark.parametrize(
    "text",
    [*QUESTIONS, "1,234.5 and .5", "40% of 3/4", "1 1/2 cups", "25 cents, 7\u00a2", "5 per cent", "12,34,567 x", "1e3"],
)
def test_a_text_with_digits_only_has_the_same_numbers_as_with_number_words(text: str) -> None:
    assert numbers_in(f"{text}\n; zero") == numbers_in(text) | {0.0}


# Constants beside 1 -> words that imply exactly these.
IMPLIED: dict[tuple[float, ...], str] = {
    (2, 0.5, 50): "half a cake; two halves; it was halved",
    (2, 0.5, 50, 1.5): "half as many; half again; half more; half times; a cake and a half",
    (2, 0.5, 50, 1.5, 60, 24): "half of an hour; half of a hour",
    (2,): "twice; it doubled; both; a pair; two pairs; a couple; a twin; twins; round trip; round-trip; each way; two-story; "
    "again as much; every other; opposite; alternating; to and from; there and back; back home; he returns; an equal part; "
    "evenly; she and his cat; he and her cat; they and their cat; me and my cat; with his cat; with a cat; with their cat; "
    "perimeter; 4 m wide; the width; a border; a fence; a pint; two pints; a bicycle; a bike; bikes; a shoe; shoes; a sock; "
    "an eye; ears; a hand; parents",
    (2, 7): "biweekly; a weekend",
    (2, 3.14): "the radius; a diameter; the circumference; circular; a circle",
    (2, 180, 360, 90): "a rectangle",
    (2, 3, 180, 360, 90): "a triangle",
    (3,): "tripled; thrice; a third; a trio; a tricycle",
    (4,): "a fourth; quadrupled; a square; a car; cars; a wall; walls; a season",
    (4, 2): "a quart",
    (4, 2, 0.25, 25, 100): "a quarter",
    (4, 0.25, 25): "one-fourth",
    (5, 0.2): "a fifth; quintupled",
    (6,): "a sixth; a cube; a dice; a die; a hexagon",
    (10, 0.1): "a tenth",
    (5,): "a pentagon; business",
    (8,): "an octagon; an octopus; a spider",
    (10, 0.1, 100): "a dime",
    (5, 0.05, 100): "a nickel",
    (0.01, 100): "a penny; pennies; 5 percent; 5 %; a century; centuries",
    (100,): "50 cents; a cent; 5\u00a2; $1.25; a centimeter; 3 cm; a centimetre",
    (10, 1000): "a millimeter; 3 mm",
    (1000,): "a kilo; 3 km; 2 kg; a millilitre; 3 ml; a litre; a liter; a milligram; 3 mg; a gram; grams",
    (60,): "a minute; a second; 3 mph; 3 mins; a min",
    (60, 3600): "3 mph, a second",
    (60, 24): "an hour; hours",
    (60, 24, 3600): "an hour has how many seconds; how many seconds has an hour",
    (60, 12): "at 8 am; at 8 pm; at 8 a.m.; at 8 p.m.",
    (24, 7): "a day; days; daily; every day; each day; per day; a day",
    (24, 12): "at 8 o'clock",
    (7,): "a week; sunday; saturday",
    (7, 5): "monday; a work week; a workweek; a weekday; a school week",
    (24, 7, 5): "a school day; work days; a working day; he works days",
    (2, 14): "a fortnight",
    (4, 12, 30): "a month",
    (12, 52, 365): "a year; annual",
    (12, 52, 365, 10): "a decade; decades",
    (12, 6): "a dozen",
    (12,): "a foot; an inch; 3 ft; noon; midnight",
    (12, 2, 4): "3 feet",
    (3, 36): "a yard",
    (16,): "an ounce; a pound; 3 lb; 3 lbs; 3 oz",
    (16, 8, 4): "a gallon",
    (16, 8): "a cup; cups",
    (2000, 1000): "a ton; tons",
    (5280,): "a mile",
    (180, 360, 90): "an angle; a degree",
    (31,): "january; march; in may; july; august; october; december",
    (30,): "april; june; september; november",
    (28,): "february",
    (2, 4): "a leg; legs; a paw; paws; a wheel; wheels; a tire; hooves",
}  # fmt: skip


def test_words_imply_their_constants_and_no_others() -> None:
    for constants, phrases in IMPLIED.items():
        for phrase in phrases.split("; "):
            assert constants_for(phrase) == {1.0, *constants}, phrase
            assert constants_for(phrase.capitalize()) == {1.0, *constants}, phrase


@pytest.mark.parametrize(
    ("question", "count"),
    [
        ("Ann and Bo share it", 2),
        ("Ann and bo share it", None),
        ("figs, limes and nuts", 3),
        ("figs, limes, and nuts", 3),
        ("figs, limes,nuts or eggs", 4),
        ("figs; limes and nuts", None),
        ("figs, limes. Nuts and eggs", None),
    ],
)
def test_the_length_of_a_list_is_a_constant(question: str, count: int | None) -> None:
    assert constants_for(question) == {1.0, *([] if count is None else [float(count)])}
