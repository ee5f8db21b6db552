"""The search for overlapping test questions: planted copies are found, and unrelated questions are not."""

from __future__ import annotations

import random

import pytest
from datasets import Dataset

from tests.support.word_problems import CHANGES, word_problems
from toolrlef_data.tables.overlap.search import TestIndex

STAMPS = (
    "Ann collects old stamps from her uncle's shop in Lyon. She has 26 stamps of trains and 14 stamps of ships. "
    "Her brother takes 9 of the stamps. How many stamps does she keep?"
)

# Without 13 words in a row between the numbers, and within the sentences.
PENS = "Ann has 5 red pens. Ben gives her 6 more. Then 7 of them are lost. How many pens has Ann now?"
CHANGED = {
    "other": "Nobody knew where the road to the old mill began. It was late.",
    "numbers": "Ann has 15 red pens. Ben gives her 2.5 more. Then 1,007 of them are lost. How many pens has Ann now?",
    "order": "How many pens has Ann now? Then 7 of them are lost. Ann has 5 red pens. Ben gives her 6 more.",
    "long_numbers": "Ann has two hundred and five red pens. Ben gives her one point five more. Then one thousand, "
    "three hundred and twelve of them are lost. How many pens has Ann now?",
}


def index_of(*texts: str, n: int = 13, ignore_numbers: bool = True) -> TestIndex:
    return TestIndex(Dataset.from_dict({"text": list(texts)}), n, ignore_numbers)


@pytest.mark.parametrize("kind", CHANGES)
def test_planted_copies_are_found(kind: str) -> None:
    rng = random.Random(kind)
    tests = word_problems(300, seed=1)
    index = index_of(*tests)
    for row in rng.sample(range(len(tests)), 50):
        copy = CHANGES[kind](tests[row], rng)
        assert copy != tests[row]
        overlap = index.find(copy)
        assert overlap is not None, copy
        assert overlap.row == row, copy


@pytest.mark.parametrize("seed", [2, 4, 6])
def test_unrelated_questions_overlap_none(seed: int) -> None:
    index = index_of(*word_problems(300, seed=1))
    assert [text for text in word_problems(1000, seed) if index.find(text)] == []


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        (STAMPS, "words", "the same text"),
        (STAMPS.replace("26", "31").replace("14", "8").replace("9", "5"), "numbers", "other numbers"),
        (STAMPS.replace("26", "twenty-six").replace("14", "fourteen").replace("9", "nine"), "numbers", "number words"),
        (f"Read this: {STAMPS} Thank you.", "words", "inside a longer text"),
        (STAMPS[:75], "words", "its beginning"),
        ("{other} {numbers} {other}", "numbers", "other numbers, inside a longer text"),
        ("{numbers} {other}", "numbers", "other numbers, before a longer text"),
        ("{other}\n{order}\n{other}", "order", "sentences in another order, inside a longer text"),
        ("{long_numbers}", "numbers", "numbers of several words"),
        ("How many stamps does she keep?", None, "a phrase of it"),
        (STAMPS.replace("stamps", "coins").replace("Lyon", "Bern").replace("takes", "loses"), None, "other words"),
        ("", None, "no text"),
    ],
)
def test_the_kind_of_an_overlap(text: str, kind: str | None, reason: str) -> None:
    for name, value in CHANGED.items():
        text = text.replace(f"{{{name}}}", value)
    overlap = index_of("Who sings in the rain?", STAMPS, PENS).find(text)
    assert (overlap.kind if overlap else None) == kind, reason
    assert overlap is None or overlap.row == (2 if "pens" in text else 1)


@pytest.mark.parametrize(
    ("question", "text", "overlaps", "reason"),
    [
        ("What is 5 + 3?", "what is 5 + 3", True, "equal"),
        ("What is 5 + 3?", "What is 5 - 3?", False, "another operator"),
        ("What is 5 + 3?", "What is 6 + 3?", False, "a short question with other numbers"),
        ("who wrote the iliad", "who wrote the iliad and the odyssey", False, "contains a question of 4 words"),
        ("who is the mayor of rome", "Q: Who is the mayor of Rome? A: I do not know.", True, "contains one of 6 words"),
        ("what's the name of tom's cat", "tell me what s the name of tom s cat", True, "spaces for apostrophes"),
        ("what shirt isn't made of wool", "Tell me: what shirt isn t made of wool", True, "a space in a negation"),
        (
            "how much is each t-shirt in there",
            "I ask how much is each T shirt in there",
            True,
            "a letter with a hyphen",
        ),
        ("how many push-ups did he do", "how many pushups did he do", True, "the hyphen was removed"),
        ("when was the last time the bears won the cup", "when was the last time the lions won the cup", False, "name"),
        ("what is the name of the capital of spain", "what is the name of the capital of peru", False, "last word"),
        ("who sang the song at the end of the film", "tell me who sang the song at the end of the film", True, "whole"),
    ],
)
def test_short_questions_are_compared_as_a_whole(question: str, text: str, overlaps: bool, reason: str) -> None:
    assert (index_of(question).find(text) is not None) == overlaps, reason


def test_words_that_are_far_apart_are_no_overlap() -> None:
    """A long text has every run of 3 words of the question, but no passage has them together."""
    words = PENS.rstrip("?").split()
    runs = [" ".join(words[i : i + 3]) for i in range(len(words) - 2)]
    assert index_of(PENS).find(" then somebody else came in. ".join(runs)) is None


def test_n_is_the_number_of_words_in_a_row() -> None:
    common = " ".join(f"word{chr(97 + i)}" for i in range(13))
    question = (
        f"Before it {common} and then twenty different words follow so that the half of this question is much longer."
    )
    assert index_of(question).find(f"Other text {common} in another place") is not None
    assert index_of(question).find(f"Other text {common.rpartition(' ')[0]} in another place") is None
    assert index_of(question, n=12).find(f"Other text {common.rpartition(' ')[0]} in another place") is not None


def test_numbers_count_if_they_are_not_ignored() -> None:
    assert index_of(STAMPS, ignore_numbers=False).find(STAMPS.replace("26", "31").replace("9", "5")) is None
    assert index_of(STAMPS, ignore_numbers=False).find(STAMPS) is not None


def test_frequent_phrases_hide_no_overlap() -> None:
    """Most shingles of these questions are frequent, so they are not searched for every question."""
    tests = [
        f"There are 5 {a}{b} in the box and 6 on the table. Of the 7 others 8 are lost. How many does he see at 9 today?"
        for a in "abcdefghijklmnopqrstuvwxyzäöü"
        for b in ("ro", "ri", "ra", "ru", *"abcdefghijklmnopqrstuvwxyz")
    ]
    index = index_of(*tests)
    for row in range(0, len(tests), 50):
        first, other = tests[row].partition(". ")[::2]
        overlap = index.find(f"{other.replace('8', '33')} {first.replace('5', '17')}.")
        assert overlap is not None
        assert overlap == (row, "order", 1.0)
    assert (
        index.find("There are 5 zebras in the box and 6 on the roof. Of the 7 others 4 are new. How many are here?")
        is None
    )
