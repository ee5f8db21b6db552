"""Words and n-grams: what counts as equal, and what does not."""

from __future__ import annotations

import numpy as np
import pytest

from toolrlef_data.tables.overlap.words import ngrams, without_numbers, words_of


@pytest.mark.parametrize(
    ("text", "other", "is_equal", "reason"),
    [
        ("Who wrote THE Iliad?", "who wrote the iliad", True, "case and punctuation"),
        ("Tom’s bag", "Tom's bag", True, "forms of the apostrophe"),
        ("Toms bag", "Tom's bag", True, "the apostrophe was removed"),
        ("twenty-five cats", "twenty five cats", True, "the hyphen separates words"),
        ("2,125 cats", "2125 cats", True, "thousands comma"),
        ("2,12 cats", "212 cats", False, "no thousands comma"),
        ("It costs 2.5.", "it costs 2.5", True, "a full stop after a number"),
        ("2.5 kg", "25 kg", False, "the decimal point counts"),
        ("12 cats", "12 cats", True, "full-width digits"),
        ("٣ قطط", "3 قطط", True, "digits of another script"),
        ("What is 5 - 3?", "What is 5 + 3?", False, "operators count"),
        ("What is 5−3?", "What is 5 - 3?", True, "forms of the minus sign"),
        ("covid-19", "covid 19", True, "a hyphen after a letter is no operator"),
        ("naïve", "naive", False, "accents count"),
        ("naïve", "nai\u0308ve", True, "composed and decomposed letters"),
        ("soft\u00adhyphen", "softhyphen", True, "invisible characters"),
        ("हिन्दी में", "हिन्दी  में।", True, "marks belong to words"),
        ("", "?!", True, "no words"),
    ],
)
def test_words_ignore_case_and_punctuation(text: str, other: str, is_equal: bool, reason: str) -> None:
    assert (words_of(text) == words_of(other)) == is_equal, reason


def test_scripts_without_spaces_have_a_word_per_character() -> None:
    assert words_of("東京の人口は?") == list("東京の人口は")
    assert words_of("Tokyo は 1,400万人") == ["tokyo", "は", "1400", "万", "人"]


@pytest.mark.parametrize(
    ("text", "other", "is_equal", "reason"),
    [
        ("Ann has 5 cats", "Ann has 1,250.75 cats", True, "another number"),
        ("Ann has 5 cats", "Ann has twenty-five cats", True, "another notation"),
        ("He ran 3/4 mile", "He ran 3 mile", True, "a formula is one number"),
        ("the 2nd cat", "the 45th cat", False, "an ordinal keeps its ending"),
        ("the 4th cat", "the 45th cat", True, "the number of an ordinal"),
        ("Ann has 5 cats", "Ann has cats", False, "no number is not a number"),
        ("Ann has 5 cats and 6 dogs", "Ann has 5 dogs and 6 cats", False, "the other words count"),
    ],
)
def test_numbers_are_replaced(text: str, other: str, is_equal: bool, reason: str) -> None:
    assert (without_numbers(words_of(text)) == without_numbers(words_of(other))) == is_equal, reason


def test_ngrams_are_equal_where_the_words_are() -> None:
    words, n = list("abcabcd"), 3
    hashes = ngrams(words, n)
    windows = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    assert [[int(a == b) for a in windows] for b in windows] == [[int(a == b) for a in hashes] for b in hashes]
    assert len(ngrams(words, 8)) == 0
    assert len(ngrams([], 1)) == 0


def test_ngrams_depend_on_the_order_of_the_words_and_on_no_process() -> None:
    assert ngrams(["a", "b"], 2)[0] != ngrams(["b", "a"], 2)[0]
    assert ngrams(["fish", "and", "chips"], 3).tolist() == [FISH_AND_CHIPS]
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in rng.integers(0, 30, 20_000)]
    windows = {tuple(words[i : i + 3]) for i in range(len(words) - 2)}
    assert len(np.unique(ngrams(words, 3))) == len(windows)


FISH_AND_CHIPS = 1073269446540947673  # of an earlier process
