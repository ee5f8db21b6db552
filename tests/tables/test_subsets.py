"""Drawn tables: exact sizes, the same for the same seed, no question in two splits, and nothing lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from toolrlef_data.columns import QUESTIONS
from toolrlef_data.loading_scripts import SOURCES, load_source
from toolrlef_data.records import InputError, MissingColumns
from toolrlef_data.tables.identity import normal_form
from toolrlef_data.tables.lineage import ledger, lineage
from toolrlef_data.tables.subsets import TRICE_SIZES, subset

Row = tuple[str, str] | tuple[str, str, str]  # id, question, context


def table(rows: list[Row]) -> Dataset:
    columns = ("id", "question", "context")
    made = [{**dict.fromkeys(QUESTIONS, ""), "answers": ["1"], **dict(zip(columns, row, strict=False))} for row in rows]
    return Dataset.from_dict({name: [row[name] for row in made] for name in QUESTIONS}, features=QUESTIONS)


def plain(count: int, prefix: str = "q") -> Dataset:
    return table([(f"{prefix}-{n}", f"What is {n} and {prefix}?") for n in range(count)])


def languages(questions: int, seed: int = 0) -> Dataset:
    """Questions in one to six languages, as of mlqa, some of which stand twice under other ids."""
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
    """What may stand in one split only."""
    names = {("id", row_id.split("#")[0]) for row_id in data["id"]}
    return names | {("text", normal_form(row["question"]), normal_form(row["context"])) for row in data}


def drawn(data: Dataset | DatasetDict) -> Any:
    return {name: part["id"][:] for name, part in data.items()} if isinstance(data, DatasetDict) else data["id"][:]


@pytest.mark.parametrize(
    "n", [1, 7, 40, {"train": 30, "test": 10}, {"test": 10, "train": 30}, {"a": 1, "b": 1, "c": 38}]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_sizes_are_exact_and_nothing_is_lost(n: int | Mapping[str, int], seed: int) -> None:
    data = plain(40)
    parts = subset(data, n, seed)
    tables = list(parts.values()) if isinstance(parts, DatasetDict) else [parts]
    assert [len(part) for part in tables] == (list(n.values()) if isinstance(n, Mapping) else [n])
    assert all(part.features == QUESTIONS for part in tables)
    kept = [row_id for part in tables for row_id in part["id"]]
    out = ledger(tables)["id"][:]
    assert sorted(kept + out) == sorted(data["id"]), "each row is in one split or, once, in the ledger"
    for record in (record for part in tables for record in lineage(part)):
        assert record["rows_in"] == record["rows_out"] + sum(record["dropped"].values())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "sizes", [{"train": 60, "test": 40}, {"train": 3, "test": 1, "dev": 2}, {"train": 110, "test": 1}]
)
def test_no_question_crosses_splits(seed: int, sizes: dict[str, int]) -> None:
    data = languages(50, seed)
    parts = subset(data, sizes, seed)
    assert {name: len(part) for name, part in parts.items()} == sizes
    names = list(parts)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert not questions_of(parts[one]) & questions_of(parts[other])
    assert sum(sizes.values()) + len(ledger(parts.values())) == len(data)


def test_questions_that_share_a_row_only_through_others_stay_together() -> None:
    chain: list[Row] = [(f"c-{n // 2}#{n}", f"Who is {(n + 1) // 2}?") for n in range(200)]  # id, text, id, text ...
    random.Random(0).shuffle(chain)
    data = table([*chain, *[(f"s-{n}", f"Which is {n}?") for n in range(20)]])
    parts = subset(data, {"train": 100, "test": 20})
    assert {row_id[0] for row_id in parts["train"]["id"]} == {"c"}
    assert {row_id[0] for row_id in parts["test"]["id"]} == {"s"}


@pytest.mark.parametrize("n", [11, {"train": 20, "test": 9}])
def test_the_draw_hangs_on_the_rows_and_the_seed_alone(n: Any) -> None:
    data = languages(30)
    order = list(range(len(data)))
    random.Random(3).shuffle(order)
    other = table([(data[i]["id"], data[i]["question"], data[i]["context"]) for i in order])
    first, again = drawn(subset(data, n)), drawn(subset(other, n))
    sets = [{k: set(v) for k, v in x.items()} if isinstance(x, dict) else set(x) for x in (first, again)]
    assert sets[0] == sets[1]
    assert drawn(subset(data, n)) == first, "again the same"
    assert drawn(subset(data, n, seed=1)) != first


def test_rows_keep_their_order_and_their_columns() -> None:
    data = languages(20)
    place = {row_id: n for n, row_id in enumerate(data["id"])}
    parts = subset(data, {"train": 20, "test": 10})
    for part in [*parts.values(), subset(data, 12)]:
        places = [place[row_id] for row_id in part["id"]]
        assert places == sorted(places)
        assert [data[n] for n in places] == list(part)


def test_a_larger_draw_does_not_favour_questions_with_many_rows() -> None:
    """Half of the questions have six rows. Drawn by row, nearly all of the first drawn would be of these."""
    rows: list[Row] = [(f"m-{n}#{k}", f"Which {n}, {k}?") for n in range(400) for k in range(1 if n % 2 else 6)]
    shares = []
    for seed in range(5):
        part = subset(table(rows), 350, seed)
        met = {int(row_id.split("#")[0][2:]) for row_id in part["id"]}
        shares.append(sum(n % 2 == 0 for n in met) / len(met))
    assert 0.4 < sum(shares) / len(shares) < 0.6


def test_one_split_is_drawn_as_a_table_is() -> None:
    data = languages(20)
    assert drawn(subset(data, {"train": 17})) == {"train": drawn(subset(data, 17))}


def test_apart_from_tables_whose_questions_are_taken() -> None:
    data = languages(40)
    train = subset(data, 50)
    test = subset(data, 20, apart_from=train)
    assert not questions_of(train) & questions_of(test)
    reasons = Counter(ledger([test])["reason"])
    assert set(reasons) == {"not_drawn", "excluded_question"}
    assert reasons.total() + len(test) == len(data)
    for others in ([train], DatasetDict(train=train), (table([]), train), iter([train])):
        assert drawn(subset(data, 20, apart_from=others)) == drawn(test)


def test_apart_from_knows_a_question_by_its_text_and_by_its_id() -> None:
    data = table(
        [("a#de", "Wer?"), ("b", "Who  ate the FIGS"), ("c", "Who ate figs?"), ("d", "Who ate the figs?", "At noon")]
    )
    others = table([("a#en", "Who?"), ("z", "who ate the figs?")])
    assert drawn(subset(data, 2, apart_from=others)) == ["c", "d"], "another context is another question"
    with pytest.raises(InputError, match="asked for 3; there are 2 rows of 2 questions"):
        subset(data, 3, apart_from=others)


@pytest.mark.parametrize(
    ("n", "message"),
    [
        (11, "asked for 11; there are 10 rows of 5 questions to draw from$"),
        ({"train": 9, "test": 2}, "asked for 9 for train, 2 for test; there are 10 rows of 5 questions to draw from$"),
        ({"train": 5, "test": 5}, "with each question in one split there are too few by 1 for (train|test)$"),
        (0, "a number of rows from 1 on"),
        (-1, "a number of rows from 1 on"),
        (True, "a number of rows from 1 on"),
        ({}, "a number of rows from 1 on"),
        ({"train": 0}, "a number of rows from 1 on"),
        (2.5, "a number of rows from 1 on"),
    ],
)
def test_what_cannot_be_drawn_is_said(n: Any, message: str) -> None:
    pairs = table([(f"q-{n // 2}#{n % 2}", f"Which {n}?") for n in range(10)])
    with pytest.raises(InputError, match=message):
        subset(pairs, n)


@pytest.mark.parametrize("seed", range(20))
def test_splits_are_filled_where_whole_questions_fit(seed: int) -> None:
    """Sizes 3, 2, 2, 1 for 5 and 3 rows: no row may be wasted, whatever comes first."""
    data = table([(f"q-{q}#{k}", f"Which {q}, {k}?") for q, size in enumerate([3, 2, 2, 1]) for k in range(size)])
    assert {name: len(part) for name, part in subset(data, {"a": 5, "b": 3}, seed).items()} == {"a": 5, "b": 3}


def test_tables_that_cannot_be_drawn_from() -> None:
    with pytest.raises(InputError, match="'q-1' stands twice"):
        subset(table([("q-1", "a"), ("q-2", "b"), ("q-1", "c")]), 1)
    with pytest.raises(InputError, match="a row has none"):
        subset(Dataset.from_dict({"id": ["a", None], "question": ["b", "c"], "context": ["", ""]}), 1)
    with pytest.raises(MissingColumns, match="question, context"):
        subset(Dataset.from_dict({"id": ["a"]}), 1)
    with pytest.raises(InputError, match="found a DatasetDict"):
        subset(DatasetDict(train=plain(3)), 1)
    with pytest.raises(InputError, match="apart_from takes tables, found a str"):
        subset(plain(3), 1, apart_from=["test"])
    with pytest.raises(InputError, match="there are 0 rows"):
        subset(table([]), 1)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Who wrote it?", "  who WROTE\tit ", True),
        ("Who wrote «it»", "Who wrote, it...", True),
        ("Straße", "STRASSE", True),
        ("caf\u00e9", "cafe\u0301", True),  # composed and not
        ("\uff37\uff48\uff4f", "Who", True),  # full width
        ("zero\u200bwidth", "zerowidth", True),
        ("well-known", "well known", True),
        ("5 * 3", "5 - 3", False),
        ("5 + 3", "5 = 3", False),
        ("-5", "5", False),
        ("100% of 3", "100 of 3", True),
        ("\u0915\u093f", "\u0915\u0940", False),  # Hindi: vowel signs are no punctuation
        ("1, 2", "12", False),
        ("a b", "ab", False),
    ],
)
def test_normal_form(one: str, other: str, same: bool) -> None:
    assert (normal_form(one) == normal_form(other)) is same


def test_questions_without_a_word_are_not_all_one() -> None:
    assert len(subset(table([("a", "?"), ("b", "!"), ("c", "")]), {"x": 1, "y": 1, "z": 1})) == 3


def test_the_trail_goes_back_to_the_source() -> None:
    data = load_source("sample", split="train")
    parts = subset(data, {"train": 30, "test": 10})
    steps = [record["step"] for record in lineage(parts["test"])]
    assert steps == ["source sample", "subset", "subset: test"]
    settings = lineage(parts["test"])[-1]["settings"]
    assert settings == {"seed": 0, "rows": {"train": 30, "test": 10}}
    reasons = Counter(ledger(parts.values())["reason"])
    assert reasons["not_drawn"] == len(data) - 40


def test_a_second_draw_reads_the_cache() -> None:
    data = load_source("sample", split="train")
    first, again = subset(data, {"train": 30, "test": 10}), subset(data, {"train": 30, "test": 10})
    assert {k: v._fingerprint for k, v in first.items()} == {k: v._fingerprint for k, v in again.items()}
    assert len({part._fingerprint for part in first.values()}) == 2


def test_all_rows_may_be_drawn() -> None:
    assert drawn(subset(plain(5), 5)) == drawn(plain(5))
    assert len(ledger([subset(plain(5), 5)])) == 0


def test_sizes_of_trice() -> None:
    assert sum(sizes["train"] for sizes in TRICE_SIZES.values()) == 38_221, "as the paper's total"
    assert all(set(sizes) == {"train", "test"} for sizes in TRICE_SIZES.values())
    assert {"asdiv", "gsm8k", "svamp"} <= set(SOURCES) & set(TRICE_SIZES)
