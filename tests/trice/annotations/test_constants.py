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
