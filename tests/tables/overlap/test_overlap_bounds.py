"""The numbers in the rules of overlaps and near-duplicates: one less, and a text does not count."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, Features, Value

from toolrlef_data import InputError, drop_near_duplicates, ledger, lineage, near_duplicates
from toolrlef_data.tables.overlap.minhash import band_sizes, bands, candidate_pairs, jaccard, shingles
from toolrlef_data.tables.overlap.removal import drop_listed, table_text_column, text_column
from toolrlef_data.tables.overlap.search import TestIndex
from toolrlef_data.tables.overlap.words import ngrams, without_numbers, words_of
from toolrlef_data.tables.row_files import table_from_rows

WORDS = [f"k{a}{b}x" for a in "abcdefgh" for b in "abcdefgh"]
OTHERS = [f"z{a}{b}y" for a in "abcdefgh" for b in "abcdefgh"]


def index_of(*texts: str, n: int = 13, ignore_numbers: bool = True) -> TestIndex:
    return TestIndex(Dataset.from_dict({"text": list(texts)}), n, ignore_numbers)


# Number of words of a test question -> words in a row that are an overlap.
RUNS = {6: 6, 7: 7, 10: 10, 11: 10, 19: 10, 20: 10, 21: 11, 22: 11, 23: 12, 24: 12, 25: 13, 26: 13, 27: 13, 40: 13}


@pytest.mark.parametrize("count", RUNS)
def test_how_many_words_in_a_row_are_an_overlap(count: int) -> None:
    index = index_of(" ".join(OTHERS[:30]), " ".join(WORDS[:count]))
    run = RUNS[count]
    for start in (0, (count - run) // 2, count - run):
        row = " ".join(["aa", *WORDS[start : start + run], "bb"])
        found = index.find(row)
        assert found is not None
        assert (found.row, found.kind) == (1, "words")
        assert found.share == pytest.approx(run / count)
        assert index.find(" ".join(["aa", *WORDS[start : start + run - 1], "bb"])) is None
    assert index_of(" ".join(WORDS[:40]), n=20).find(" ".join(WORDS[:19])) is None
    assert index_of(" ".join(WORDS[:40]), n=20).find(" ".join(WORDS[:20])) is not None


def test_a_question_of_fewer_than_six_words_must_be_equal() -> None:
    index = index_of(" ".join(WORDS[:5]))
    assert index.find(" ".join(WORDS[:5]).upper() + "?!") == (0, "words", 1.0)
    assert index.find("".join(WORDS[:5])) == (0, "words", 1.0), "also without the spaces"
    assert index.find(" ".join(WORDS[:6])) is None


def test_only_texts_of_eight_words_may_differ_in_numbers() -> None:
    for count, kind in ((7, None), (8, "numbers")):
        question = [*WORDS[:3], "5", *WORDS[3 : count - 1]]
        found = index_of(" ".join(question)).find(" ".join(question).replace("5", "61"))
        assert (found and found.kind) == kind
        assert index_of(" ".join(question), ignore_numbers=False).find(" ".join(question).replace("5", "61")) is None
    long = index_of(" ".join([*WORDS[:4], "5", *WORDS[4:8]]))
    assert long.find(" ".join([*WORDS[:4], "6", *WORDS[4:6]])) is None


@pytest.mark.parametrize(
    ("count", "changed", "kind"), [(20, 0, "numbers"), (20, 1, "order"), (19, 1, None), (20, 2, None), (40, 2, "order")]
)
def test_one_of_twenty_words_may_differ(count: int, changed: int, kind: str | None) -> None:
    """Numbers break the runs of words."""
    question = [f"{n}" if n % 6 == 5 else word for n, word in enumerate(WORDS[:count])]
    text = [f"{n + 100}" if n % 6 == 5 else word for n, word in enumerate(question)]
    text[len(text) - changed :] = OTHERS[:changed]
    found = index_of(" ".join(question)).find(" ".join(text))
    assert (found and found.kind) == kind
    if found:
        assert found.share == pytest.approx(1 - changed / count)
    if not changed:
        inside = index_of(" ".join(question)).find(" ".join([*OTHERS[10:40], *text, *OTHERS[30:60]]))
        assert inside is not None
        assert (inside.row, inside.kind) == (0, kind)


def test_the_question_with_the_largest_share_is_found() -> None:
    index = index_of(" ".join(WORDS[:26]), " ".join(WORDS[:14]), " ".join(WORDS[:20]))
    assert index.find(" ".join(WORDS[:14])) == (1, "words", 1.0)
    found = index.find(" ".join([*OTHERS[:5], *WORDS[:20]]))
    assert found is not None
    assert (found.row, found.share) == (2, 1.0)


# Words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a-b a+b a*b a/b a=b", "a b a b a b a b a b"),
        ("1-2 1+2 1*2 1/2 1=2 1 - (2) a - 3", "1 - 2 1 + 2 1 * 2 1 / 2 1 = 2 1 - 2 a - 3"),
        ("3 \u2212 4 \u00d7 5 \u00f7 6", "3 - 4 * 5 / 6"),
        ("it's it\u2018s it\u2019s it\u02bcs it\u00b4s it`s", "its its its its its its"),
        ("he s we d i ll you re we ve isn t an x", "hes wed ill youre weve isnt an x"),
        ("it t a sm 5 s", "it t a sm 5 s"),
        ("1,250.50, 12,34 1,234,567 1,2345", "1250.50 12 34 1234567 1 2345"),
        ("3.5 .5 5. a.b", "3.5 5 5 a b"),
        ("\u0e01\u0e02 \u1000\u1001 \u1780\u1781 \u6f22\u5b57 \u3042\u3044 \U00020000a", "\u0e01 \u0e02 \u1000 \u1001 \u1780 \u1781 \u6f22 \u5b57 \u3042 \u3044 \U00020000 a"),
        ("\ud55c\uad6d \u0431\u0435\u0433 \u0660\u0663", "\ud55c\uad6d \u0431\u0435\u0433 03"),
        ("a_b $5 #x \u00bd \u00b2 e\u0301", "a b 5 x 1\u20442 2 \u00e9"),
        ("a\u200bb\u00adc", "abc"),
    ],
)  # fmt: skip
def test_the_words_of_a_text(text: str, words: str) -> None:
    assert words_of(text) == [word for word in words.replace("\u2044", " ").split(" ") if word]


NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion"
)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        *((word, "0") for word in NUMBER_WORDS.split()),
        *((word, word) for word in ("and", "point", "dozen", "half", "a", "first", "ones")),
        ("5 cats", "0 cats"),
        ("two hundred and five cats", "0 cats"),
        ("one point five", "0"),
        ("5 and cats and 6 and", "0 and cats and 0 and"),
        ("and 5 or 6", "and 0 or 0"),
        ("3 + 4 - 5 * 6 / 7 = 8", "0"),
        ("1.50 2nd x3y4 7days", "0 0nd x0y0 0days"),
        ("0 0 a 0", "0 a 0"),
        ("", ""),
    ],
)
def test_numbers_become_one_word(words: str, expected: str) -> None:
    assert without_numbers(words.split()) == expected.split()


# Near-duplicates


@pytest.mark.parametrize("threshold", [0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_bands_are_as_long_as_the_missed_pairs_allow(threshold: float) -> None:
    count, size = band_sizes(threshold)
    assert count * size <= 256

    def missed(count: int, size: int) -> float:
        return (1 - min(threshold**size, 1 - 1e-12)) ** count

    assert missed(count, size) <= 0.01 or math.isclose(missed(count, size), 0.01)
    assert count == 1 or missed(count - 1, size) > 0.01
    assert missed(256 // (size + 1), size + 1) > 0.01 or size == 255


def test_the_bands_of_texts() -> None:
    texts = [shingles(text) for text in ("a b c g e f", "", "f e g c b a x y", "A, b c g e f!", "a b c g e")]
    made = bands(texts, 12, 2)
    assert [len(made), *{len(band) for band in made}] == [13, 5]
    for band in made:
        assert (band[1], band[0] == band[3]) == (0, True)
        assert all(band[n] > 0 for n in (0, 2, 3, 4))
        assert band[0] != band[2]
    assert made[-1][0] != made[-1][4], "the last band is of all shingles"
    assert any(band[0] == band[4] for band in made[:-1]), "of four shingles, three are common"
    assert len({tuple(band.tolist()) for band in made}) == 13
    assert [band.tolist() for band in bands([texts[1]], 2, 2)] == [[0], [0], [0]]
    assert [band.tolist() for band in bands(texts[:1], 12, 2)] == [[value] for value in (band[0] for band in made)]


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 0), ("a", 1), ("a b", 1), ("a b c", 1), ("a b c g", 2), ("a b c a b c", 3), ("a b c a b c a", 3)],
)
def test_shingles_have_three_words(text: str, count: int) -> None:
    assert len(shingles(text)) == count
    assert shingles("5 a b c", ignore_numbers=True).tolist() == shingles("six a b c", ignore_numbers=True).tolist()
    assert shingles("5 a b c").tolist() != shingles("6 a b c").tolist()
    assert shingles("a b").tolist() == ngrams(["a", "b"], 2).tolist()


def test_the_similarity_is_the_common_share() -> None:
    a, b = np.array([1, 2, 3], np.uint64), np.array([3, 4], np.uint64)
    assert (jaccard(a, b), jaccard(b, a), jaccard(a, a), jaccard(a, b[:0])) == (0.25, 0.25, 1.0, 0.0)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("others", [0, 30])
def test_candidates_are_the_ten_first_rows_and_the_ten_before(seed: int, others: int) -> None:
    band = np.random.default_rng(seed).integers(0, 3 + seed, 90).astype(np.uint64)
    expected = set()
    for later in range(90):
        earlier = [row for row in range(later) if band[row] == band[later] != 0]
        for row in {*earlier[:10], *earlier[-10:]}:
            if not others or (later >= others > row):
                expected.add(later * 90 + row)
    assert candidate_pairs(band, others).tolist() == sorted(expected)


def test_the_bounds_of_a_threshold() -> None:
    data = Dataset.from_dict({"id": ["a", "b"], "question": ["one two three four", "one two three nine"]})
    for threshold in (0.1, 0.33, 1, 1.0):
        pairs = near_duplicates(data, threshold=threshold)
        assert len(pairs) == (threshold < 0.34), "one of three shingles is common"
        assert lineage(pairs)[-1]["published"]["threshold"] == threshold
    wrong: Any
    for wrong in (0.099, 1.001, math.nan, None):
        message = f"^threshold must be a number from 0.1 to 1, found {wrong!r}$"
        with pytest.raises(InputError, match=message):
            near_duplicates(data, threshold=wrong)
    wrong = [data]
    with pytest.raises(InputError, match=r"^other: expected a Dataset, such as a split, found list$"):
        near_duplicates(data, wrong)


def test_numbers_may_be_ignored_and_the_default_is_that_they_are_not() -> None:
    data = Dataset.from_dict({"id": ["a", "b"], "question": ["Ann has 5 red pens", "Ann has 6 red pens"]})
    assert [len(near_duplicates(data)), len(near_duplicates(data, ignore_numbers=True))] == [0, 1]
    assert drop_near_duplicates(data, ignore_numbers=True)["id"][:] == ["a"]
    assert lineage(near_duplicates(data, ignore_numbers=True))[-1]["published"] == {
        "threshold": 0.8,
        "column": "question",
        "ignore_numbers": True,
        "pairs_checked": 1,
        "pairs_found": 1,
    }


TEXT_COLUMNS = ("question", "query", "problem", "text", "prompt", "instruction")


def test_the_column_of_the_texts() -> None:
    for n, name in enumerate(TEXT_COLUMNS):
        assert text_column(["id", *reversed(TEXT_COLUMNS[n:])], None, "near") == name
    assert text_column(["question", "story"], "story", "near") == "story"
    for column, known in ((None, " or ".join(map(repr, TEXT_COLUMNS))), ("a", "'a'")):
        with pytest.raises(InputError, match=f"^near: no column {re.escape(known)}; choose from: id, b$"):
            text_column(["id", "b"], column, "near")
    large = Features(id=Value("large_string"), text=Value("large_string"))
    assert table_text_column(Dataset.from_dict({"id": [], "text": []}, features=large), None, "near") == "text"
    with pytest.raises(InputError, match=r"^near: expected texts in the column 'id', found int64$"):
        table_text_column(Dataset.from_dict({"id": [1], "text": ["a"]}), None, "near")
    assert table_text_column(Dataset.from_dict({"text": ["a"]}), None, "near") == "text", (
        "a missing id is noticed later"
    )


@dataclass(frozen=True)
class Search:
    n: int = 7

    def published(self) -> dict[str, Any]:
        return {"published": self.n}


LISTED = Features(id=Value("string"), kind=Value("string"), share=Value("float64"), text=Value("string"))


def listed(rows: list[dict[str, Any]]) -> Dataset:
    return table_from_rows(rows, LISTED, "list")


def test_listed_rows_are_dropped_with_all_columns_of_the_list() -> None:
    data = Dataset.from_dict({"id": [f"r{n}" for n in range(2500)]})
    rows: list[dict[str, Any]] = [
        {"id": "r7", "kind": "far", "share": 0.12345, "text": "é"},
        {"id": "r2400", "kind": None, "share": 1.0, "text": None},
    ]
    kept = drop_listed(data, listed([*rows, {**rows[0], "id": "none"}]), Search(), "clean", "same")
    dropped = ledger([kept])
    assert len(kept) == 2498
    assert [(row["id"], row["stage"], row["reason"], row["detail"]) for row in dropped] == [
        ("r7", "clean", "same_far", '{"share": 0.123, "text": "é"}'),
        ("r2400", "clean", "same", '{"share": 1.0, "text": null}'),
    ]
    assert lineage(kept)[-1]["published"] == {"published": 7}
    assert Counter(map(type, json.loads(dropped[1]["detail"]).values())) == {float: 1, type(None): 1}
    assert len(drop_listed(data, listed([]), Search(), "clean", "same")) == 2500
