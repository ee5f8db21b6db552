"""Subsets: exact sizes, reproducible draws, no question in two splits, and a ledger of all other rows."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from toolrlef_data.columns import QUESTIONS
from toolrlef_data.loading_scripts import SOURCES, load_source
from toolrlef_data.records import InputError, MissingColumns
from toolrlef_data.tables.identity import normal_form, text_id
from toolrlef_data.tables.lineage import ledger, lineage
from toolrlef_data.tables.sampling.subsets import TRICE_SIZES, subset

Row = tuple[str, str] | tuple[str, str, str]  # id, question, context


def table(rows: list[Row]) -> Dataset:
    columns = ("id", "question", "context")
    records = [
        {**dict.fromkeys(QUESTIONS, ""), "answers": ["1"], **dict(zip(columns, row, strict=False))} for row in rows
    ]
    return Dataset.from_dict({name: [record[name] for record in records] for name in QUESTIONS}, features=QUESTIONS)


def plain(count: int, prefix: str = "q") -> Dataset:
    return table([(f"{prefix}-{n}", f"What is {n} and {prefix}?") for n in range(count)])


def multilingual(questions: int, seed: int = 0) -> Dataset:
    """Return questions in one to six languages, as in mlqa; some of them are repeated under other ids."""
    rng = random.Random(seed)
    rows: list[Row] = []
    for n in range(questions):
        for language in rng.sample(["ar", "de", "en", "es", "hi", "zh"], rng.randint(1, 6)):
            rows.append((f"m-{n}#{language}", f"{language} asks {n}", f"context {n % 7}"))
        if n % 5 == 0:
            rows.append((f"twin-{n}", f"EN  asks {n}!", f"Context {n % 7}."))
    rng.shuffle(rows)
    return table(rows)


def questions_of(data: Dataset) -> set[tuple[str, ...]]:
    """Return the ids and texts that must not be in two splits."""
    ids = {("id", row_id.split("#")[0]) for row_id in data["id"]}
    return ids | {("text", normal_form(row["question"]), normal_form(row["context"])) for row in data}


def ids_of(data: Dataset | DatasetDict) -> Any:
    """Return the ids of a table, or split -> ids."""
    return {name: part["id"][:] for name, part in data.items()} if isinstance(data, DatasetDict) else data["id"][:]


@pytest.mark.parametrize(
    "n", [1, 7, 40, {"train": 30, "test": 10}, {"test": 10, "train": 30}, {"a": 1, "b": 1, "c": 38}]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_sizes_are_exact_and_other_rows_are_in_the_ledger(n: int | Mapping[str, int], seed: int) -> None:
    data = plain(40)
    parts = subset(data, n, seed)
    tables = list(parts.values()) if isinstance(parts, DatasetDict) else [parts]
    assert [len(part) for part in tables] == (list(n.values()) if isinstance(n, Mapping) else [n])
    assert all(part.features == QUESTIONS for part in tables)
    retained = [row_id for part in tables for row_id in part["id"]]
    dropped = ledger(tables)["id"][:]
    assert sorted(retained + dropped) == sorted(data["id"]), "each row is in one split or, once, in the ledger"
    for record in (record for part in tables for record in lineage(part)):
        assert record["rows_in"] == record["rows_out"] + sum(record["dropped"].values())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "sizes", [{"train": 60, "test": 40}, {"train": 3, "test": 1, "dev": 2}, {"train": 110, "test": 1}]
)
def test_no_question_is_in_two_splits(seed: int, sizes: dict[str, int]) -> None:
    data = multilingual(50, seed)
    parts = subset(data, sizes, seed)
    assert {name: len(part) for name, part in parts.items()} == sizes
    names = list(parts)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert not questions_of(parts[one]) & questions_of(parts[other])
    assert sum(sizes.values()) + len(ledger(parts.values())) == len(data)


def test_indirectly_equal_questions_are_in_one_split() -> None:
    chain: list[Row] = [
        (f"c-{n // 2}#{n}", f"Who is {(n + 1) // 2}?") for n in range(200)
    ]  # neighbours share an id or a text, in turn
    random.Random(0).shuffle(chain)
    data = table([*chain, *[(f"s-{n}", f"Which is {n}?") for n in range(20)]])
    parts = subset(data, {"train": 100, "test": 20})
    assert {row_id[0] for row_id in parts["train"]["id"]} == {"c"}
    assert {row_id[0] for row_id in parts["test"]["id"]} == {"s"}


@pytest.mark.parametrize("n", [11, {"train": 20, "test": 9}])
def test_the_draw_depends_only_on_rows_and_seed(n: Any) -> None:
    data = multilingual(30)
    order = list(range(len(data)))
    random.Random(3).shuffle(order)
    shuffled = table([(data[i]["id"], data[i]["question"], data[i]["context"]) for i in order])
    ids, ids_of_shuffled = ids_of(subset(data, n)), ids_of(subset(shuffled, n))
    sets = [{k: set(v) for k, v in x.items()} if isinstance(x, dict) else set(x) for x in (ids, ids_of_shuffled)]
    assert sets[0] == sets[1]
    assert ids_of(subset(data, n)) == ids
    assert ids_of(subset(data, n, seed=1)) != ids


@pytest.mark.parametrize("seed", range(6))
def test_which_rows_of_a_cut_question_are_drawn_does_not_depend_on_their_order(seed: int) -> None:
    rows: list[Row] = [(f"a#{n}", f"How many in {n}?") for n in range(6)]
    drawn = [set(subset(table(order), 3, seed)["id"]) for order in (rows, rows[::-1], rows[3:] + rows[:3])]
    assert drawn[0] == drawn[1] == drawn[2]


@pytest.mark.parametrize("seed", range(6))
def test_splits_are_filled_in_whatever_order_the_questions_are_drawn(seed: int) -> None:
    """Only 3, 4 + 1 and 2 + 2 rows fit."""
    rows: list[Row] = [(f"q{q}#{n}", f"{q}: {n}?") for q, count in enumerate((2, 3, 2, 1, 4)) for n in range(count)]
    parts = subset(table(rows), {"a": 3, "b": 5, "c": 4}, seed)
    assert {name: len(part) for name, part in parts.items()} == {"a": 3, "b": 5, "c": 4}


def test_rows_stay_in_order_with_all_columns() -> None:
    data = multilingual(20)
    number_of = {row_id: n for n, row_id in enumerate(data["id"])}
    parts = subset(data, {"train": 20, "test": 10})
    for part in [*parts.values(), subset(data, 12)]:
        numbers = [number_of[row_id] for row_id in part["id"]]
        assert numbers == sorted(numbers)
        assert [data[n] for n in numbers] == list(part)


def test_questions_with_many_rows_are_not_drawn_more_often() -> None:
    """Half of the questions have six rows. A draw of rows would select mostly these."""
    rows: list[Row] = [(f"m-{n}#{k}", f"Which {n}, {k}?") for n in range(400) for k in range(1 if n % 2 else 6)]
    shares = []
    for seed in range(5):
        part = subset(table(rows), 350, seed)
        questions = {int(row_id.split("#")[0][2:]) for row_id in part["id"]}
        shares.append(sum(n % 2 == 0 for n in questions) / len(questions))
    assert 0.4 < sum(shares) / len(shares) < 0.6


def test_a_single_split_has_the_rows_of_a_single_table() -> None:
    data = multilingual(20)
    assert ids_of(subset(data, {"train": 17})) == {"train": ids_of(subset(data, 17))}


def test_apart_from_excludes_questions() -> None:
    data = multilingual(40)
    train = subset(data, 50)
    test = subset(data, 20, apart_from=train)
    assert not questions_of(train) & questions_of(test)
    reasons = Counter(ledger([test])["reason"])
    assert set(reasons) == {"not_drawn", "excluded_question"}
    assert reasons.total() + len(test) == len(data)
    for others in ([train], DatasetDict(train=train), (table([]), train), iter([train])):
        assert ids_of(subset(data, 20, apart_from=others)) == ids_of(test)


def test_apart_from_compares_ids_and_texts() -> None:
    data = table(
        [("a#de", "Wer?"), ("b", "Who  ate the FIGS"), ("c", "Who ate figs?"), ("d", "Who ate the figs?", "At noon")]
    )
    others = table([("a#en", "Who?"), ("z", "who ate the figs?")])
    assert ids_of(subset(data, 2, apart_from=others)) == ["c", "d"], "another context is another question"
    with pytest.raises(InputError, match="requested 3 rows; found 2 rows of 2 questions"):
        subset(data, 3, apart_from=others)


@pytest.mark.parametrize(
    ("n", "message"),
    [
        (11, "requested 11 rows; found 10 rows of 5 questions$"),
        ({"train": 9, "test": 2}, "requested 9 rows for train, 2 rows for test; found 10 rows of 5 questions$"),
        ({"train": 5, "test": 5}, "must be in one split, so rows are missing: 1 for (train|test)$"),
        (0, "a positive number of rows"),
        (-1, "a positive number of rows"),
        (True, "a positive number of rows"),
        ({}, "a positive number of rows"),
        ({"train": 0}, "a positive number of rows"),
        (2.5, "a positive number of rows"),
    ],
)
def test_an_impossible_draw_is_rejected(n: Any, message: str) -> None:
    pairs = table([(f"q-{n // 2}#{n % 2}", f"Which {n}?") for n in range(10)])
    with pytest.raises(InputError, match=message):
        subset(pairs, n)


@pytest.mark.parametrize("seed", range(20))
def test_splits_are_filled_with_complete_questions(seed: int) -> None:
    """Questions of 3, 2, 2 and 1 rows fill splits of 5 and 3 rows, in any order of the draw."""
    data = table([(f"q-{q}#{k}", f"Which {q}, {k}?") for q, size in enumerate([3, 2, 2, 1]) for k in range(size)])
    assert {name: len(part) for name, part in subset(data, {"a": 5, "b": 3}, seed).items()} == {"a": 5, "b": 3}


def test_unusable_tables_are_rejected() -> None:
    with pytest.raises(InputError, match="expected unique ids, found 'q-1' twice"):
        subset(table([("q-1", "a"), ("q-2", "b"), ("q-1", "c")]), 1)
    with pytest.raises(InputError, match="found a row without one"):
        subset(Dataset.from_dict({"id": ["a", None], "question": ["b", "c"], "context": ["", ""]}), 1)
    with pytest.raises(MissingColumns, match="question, context"):
        subset(Dataset.from_dict({"id": ["a"]}), 1)
    with pytest.raises(InputError, match="found DatasetDict"):
        subset(DatasetDict(train=plain(3)), 1)
    with pytest.raises(InputError, match="expected tables in apart_from, found str"):
        subset(plain(3), 1, apart_from=["test"])
    with pytest.raises(InputError, match="found 0 rows"):
        subset(table([]), 1)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Who wrote it?", "  who WROTE\tit ", True),
        ("Who wrote «it»", "Who wrote, it...", True),
        ("Straße", "STRASSE", True),
        ("caf\u00e9", "cafe\u0301", True),  # composed and decomposed
        ("\uff37\uff48\uff4f", "Who", True),  # full width
        ("zero\u200bwidth", "zerowidth", True),
        ("well-known", "well known", True),
        ("5 * 3", "5 - 3", False),
        ("5 + 3", "5 = 3", False),
        ("-5", "5", False),
        ("100% of 3", "100 of 3", True),
        ("\u0915\u093f", "\u0915\u0940", False),  # Hindi vowel signs are not punctuation
        ("1, 2", "12", False),
        ("a b", "ab", False),
    ],
)
def test_normal_form(one: str, other: str, same: bool) -> None:
    assert (normal_form(one) == normal_form(other)) is same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Who wrote it?", "  who WROTE\tit? ", True),
        ("Straße", "STRASSE", True),
        ("Who wrote it?", "Who wrote it", False),
        ("a b", "ab", False),
    ],
)
def test_the_id_of_a_text_ignores_case_and_white_space(one: str, other: str, same: bool) -> None:
    assert (text_id(one) == text_id(other)) is same
    assert re.fullmatch("[0-9a-f]{16}", text_id(one))


def test_questions_without_words_are_different_questions() -> None:
    assert len(subset(table([("a", "?"), ("b", "!"), ("c", "")]), {"x": 1, "y": 1, "z": 1})) == 3


def test_the_lineage_begins_at_the_source() -> None:
    data = load_source("sample", split="train")
    parts = subset(data, {"train": 30, "test": 10})
    stages = [record["step"] for record in lineage(parts["test"])]
    assert stages == ["source sample", "subset", "subset: test"]
    settings = lineage(parts["test"])[-1]["settings"]
    assert settings == {"seed": 0, "rows": {"train": 30, "test": 10}}
    reasons = Counter(ledger(parts.values())["reason"])
    assert reasons["not_drawn"] == len(data) - 40


def test_a_second_draw_is_cached() -> None:
    data = load_source("sample", split="train")
    first, again = subset(data, {"train": 30, "test": 10}), subset(data, {"train": 30, "test": 10})
    assert {k: v._fingerprint for k, v in first.items()} == {k: v._fingerprint for k, v in again.items()}
    assert len({part._fingerprint for part in first.values()}) == 2


def test_all_rows_can_be_drawn() -> None:
    assert ids_of(subset(plain(5), 5)) == ids_of(plain(5))
    assert len(ledger([subset(plain(5), 5)])) == 0


def test_sizes_of_trice() -> None:
    assert sum(sizes["train"] for sizes in TRICE_SIZES.values()) == 38_221, "the total in the paper"
    assert all(set(sizes) == {"train", "test"} for sizes in TRICE_SIZES.values())
    assert {"asdiv", "gsm8k", "svamp"} <= set(SOURCES) & set(TRICE_SIZES)
