"""Near-duplicates: the pairs are those of a comparison of all rows, and no setting that may not change them does."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from tests.support.word_problems import word_problems
from toolrlef_data import InputError, drop_near_duplicates, ledger, lineage, near_duplicates
from toolrlef_data.tables.overlap.minhash import band_sizes, bands, candidate_pairs, jaccard, shingles


def with_changes(texts: list[str], seed: int) -> list[str]:
    """Return texts, each followed somewhere by a copy with up to four other words."""
    rng = random.Random(seed)
    copies = []
    for text in texts:
        words = text.split()
        for position in rng.sample(range(len(words)), rng.randint(0, 4)):
            words[position] = rng.choice(["word", "other", "thing"])
        copies.append(" ".join(words))
    result = [*texts, *copies]
    rng.shuffle(result)
    return result


TEXTS = with_changes(word_problems(90, seed=1), seed=0)


def table(texts: list[Any], prefix: str = "r") -> Dataset:
    return Dataset.from_dict({"id": [f"{prefix}{i}" for i in range(len(texts))], "question": texts})


def similarities(texts: list[str], others: list[str]) -> np.ndarray[Any, Any]:
    """Return the Jaccard index of each pair, from sets of words and without hashes."""

    def sets(text: str) -> set[tuple[str, ...]]:
        words = text.lower().replace(".", "").replace("?", "").split()
        return {tuple(words[i : i + 3]) for i in range(len(words) - 2)}

    rows, columns = [sets(text) for text in texts], [sets(text) for text in others]
    return np.array([[len(a & b) / len(a | b) for b in columns] for a in rows])


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_the_pairs_are_those_of_a_comparison_of_all_rows(threshold: float) -> None:
    similarity = similarities(TEXTS, TEXTS)
    expected = {
        later: int(np.flatnonzero(similarity[later, :later] >= threshold)[0])
        for later in range(len(TEXTS))
        if (similarity[later, :later] >= threshold).any()
    }
    pairs = near_duplicates(table(TEXTS), threshold=threshold)
    found = {int(row["id"][1:]): int(row["other_id"][1:]) for row in pairs}
    assert len(expected) > 15
    assert found.items() <= expected.items()
    assert len(found) >= 0.99 * len(expected)
    for row in pairs:
        later, earlier = int(row["id"][1:]), int(row["other_id"][1:])
        assert row["similarity"] == pytest.approx(similarity[later, earlier])
        assert (row["text"], row["other_text"]) == (TEXTS[later], TEXTS[earlier])


def test_two_tables_are_compared_only_with_each_other() -> None:
    data, other = table(TEXTS[:120]), table(TEXTS[120:], "o")
    similarity = similarities(TEXTS[:120], TEXTS[120:])
    expected = {row: int(np.flatnonzero(hits)[0]) for row, hits in enumerate(similarity >= 0.8) if hits.any()}
    pairs = near_duplicates(data, other)
    assert {int(row["id"][1:]): int(row["other_id"][1:]) for row in pairs} == expected
    assert set(pairs["text"][:]) <= set(TEXTS[:120])
    assert {identifier[0] for identifier in pairs["other_id"][:]} == {"o"}
    assert not len(near_duplicates(data, table(["Why?"], "o"))), "each pair of tables has a result of its own"
    assert near_duplicates(data, other)["id"][:] == pairs["id"][:]


def test_the_candidates_depend_on_the_threshold_as_the_theory_says() -> None:
    """Of 2,000 pairs of a similarity, (1 - s^r)^b are missed: the share of candidates is within four deviations."""
    count, size = band_sizes(0.8)
    rng = np.random.default_rng(0)
    for common in (50, 80, 90):
        hashes = rng.integers(0, 2**64, (2000, 100 + 100 - common), np.uint64)
        first, second = hashes[:, :100], hashes[:, 100 - common :]
        similarity = common / (200 - common)
        a, b = (np.array(bands(list(side), count, size)[:-1]) for side in (first, second))
        found = (a == b).any(axis=0).mean()
        expected = 1 - (1 - similarity**size) ** count
        assert abs(found - expected) < 4 * (expected * (1 - expected) / 2000) ** 0.5 + 0.002
    assert 1 - (1 - 0.8**size) ** count >= 0.99


def test_equal_texts_are_found_among_many_similar_ones() -> None:
    """All rows are of one template, so they share bands with hundreds of others."""
    rng = random.Random(0)
    texts = [
        f"A shop sells {rng.randint(1, 10**6)} pens and {rng.randint(1, 10**6)} books in a week. How many things does it sell?"
        for _ in range(600)
    ]
    pairs = near_duplicates(table([*texts, *texts[300:400]]), threshold=1.0)
    assert pairs["id"][:] == [f"r{i}" for i in range(600, 700)]
    assert pairs["other_id"][:] == [f"r{i}" for i in range(300, 400)]
    assert len(near_duplicates(table(texts), ignore_numbers=True)) == 599


def test_texts_without_words_and_short_texts() -> None:
    pairs = near_duplicates(table(["", None, "?!", "fish", "two fish", "Fish!", "two", ""]))
    assert [(row["id"], row["other_id"]) for row in pairs] == [("r5", "r3")]


def test_dropped_rows_are_in_the_ledger_and_the_first_is_kept() -> None:
    texts = [
        "Ann has two red pens and a book.",
        "So?",
        "ann has TWO red pens, and a book",
        "Ann has two red pens and a book!",
    ]
    kept = drop_near_duplicates(table(texts))
    assert kept["id"][:] == ["r0", "r1"]
    dropped = ledger([kept])
    assert list(zip(dropped["id"], dropped["stage"], dropped["reason"], strict=True)) == [
        ("r2", "near duplicates", "near_duplicate"),
        ("r3", "near duplicates", "near_duplicate"),
    ]
    detail = {"other_id": "r0", "similarity": 1.0, "text": texts[2], "other_text": texts[0]}
    assert json.loads(dropped[0]["detail"]) == detail
    assert lineage(kept)[-1]["published"] == {
        "threshold": 0.8,
        "column": "question",
        "ignore_numbers": False,
        "pairs_checked": 2,
        "pairs_found": 2,
    }


def test_processes_and_later_rows_do_not_change_the_pairs() -> None:
    pairs = near_duplicates(table(TEXTS))
    assert near_duplicates(table(TEXTS), num_proc=2)._fingerprint == pairs._fingerprint
    others = near_duplicates(table([*TEXTS, "Another text."]), num_proc=2)
    assert others.to_list() == pairs.to_list()
    assert lineage(others)[-1]["published"] == lineage(pairs)[-1]["published"]


def test_splits_are_searched_separately() -> None:
    splits = drop_near_duplicates(DatasetDict(a=table(["fish", "fish"]), b=table(["fish"])))
    assert {name: len(split) for name, split in splits.items()} == {"a": 1, "b": 1}


def test_the_pairs_of_a_band_are_bounded() -> None:
    assert len(candidate_pairs(np.full(1000, 7, np.uint64))) <= 20 * 1000
    assert candidate_pairs(np.array([7, 0, 7, 0], np.uint64)).tolist() == [2 * 4 + 0]
    assert candidate_pairs(np.array([7, 7, 7, 9, 7], np.uint64), others=2).tolist() == [10, 11, 20, 21]
    assert candidate_pairs(np.zeros(0, np.uint64)).tolist() == []


def test_jaccard_of_empty_sets() -> None:
    empty = shingles("?")
    assert jaccard(empty, empty) == jaccard(empty, shingles("a b c d")) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0}, "threshold must be a number from 0.1 to 1"),
        ({"threshold": True}, "threshold"),
        ({"threshold": "0.8"}, "threshold"),
        ({"column": "text"}, "no column 'text'"),
        ({"other": DatasetDict(a=table(["fish"]))}, "other: expected a Dataset"),
        ({"other": Dataset.from_dict({"id": ["a"], "text": ["fish"]})}, "question"),
        (
            {"other": Dataset.from_dict({"id": ["a"], "question": [5]})},
            "expected texts in the column 'question', found int64",
        ),
        ({"num_proc": 0}, "num_proc"),
        ({"ignore_numbers": None}, "ignore_numbers"),
    ],
)
def test_wrong_arguments_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        near_duplicates(table(["fish"]), **options)


def test_ids_and_texts_of_another_type_are_an_error() -> None:
    for columns in ({"id": [5], "question": ["fish"]}, {"id": ["a"], "question": [["fish"]]}):
        with pytest.raises(InputError, match="expected texts in the column"):
            near_duplicates(Dataset.from_dict(columns))


def test_repeated_ids_are_an_error() -> None:
    with pytest.raises(InputError, match="unique ids"):
        near_duplicates(Dataset.from_dict({"id": ["a", "a"], "question": ["fish", "fish"]}))
