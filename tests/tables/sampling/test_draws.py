"""Draws, splits and orders, against a plain second implementation; the sizes of TRICE's splits; and the ledger."""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import pytest
from datasets import Dataset

from toolrlef_data import split_queries, subset
from toolrlef_data.columns import QUESTIONS
from toolrlef_data.records import InputError
from toolrlef_data.tables.lineage import ledger, lineage
from toolrlef_data.tables.sampling.splits import shuffle_steps
from toolrlef_data.tables.sampling.subsets import TRICE_SIZES

NAMES = [f"q-{n}" for n in range(40)]


def table(ids: list[str], questions: list[str] | None = None) -> Dataset:
    texts = questions or [f"What is {row_id}?" for row_id in ids]
    rows = [
        {**dict.fromkeys(QUESTIONS, ""), "id": a, "question": b, "answers": ["1"]}
        for a, b in zip(ids, texts, strict=True)
    ]
    return Dataset.from_list(rows, features=QUESTIONS)


def rank(seed: int, row_id: str) -> int:
    return int.from_bytes(blake2b(f"{seed}:{row_id}".encode(), digest_size=8).digest(), "big")


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_a_draw_of_different_questions(seed: int) -> None:
    order = sorted(NAMES, key=lambda name: rank(seed, name))
    assert set(subset(table(NAMES), 9, seed)["id"]) == set(order[:9])
    parts = subset(table(NAMES), {"a": 5, "b": 3}, seed)
    assert {name: set(part["id"]) for name, part in parts.items()} == {"a": set(order[:5]), "b": set(order[5:8])}
    if seed == 0:
        assert subset(table(NAMES), 9)["id"][:] == subset(table(NAMES), 9, 0)["id"][:]


@pytest.mark.parametrize("seed", [0, 3])
def test_an_order_of_steps(seed: int) -> None:
    data = Dataset.from_dict({"id": NAMES})
    assert shuffle_steps(data, seed)["id"][:] == sorted(NAMES, key=lambda name: rank(seed, name))
    assert lineage(shuffle_steps(data, seed))[-1]["settings"] == {"seed": seed}
    assert shuffle_steps(data)["id"][:] == shuffle_steps(data, 0)["id"][:]


@pytest.mark.parametrize(("test", "seed"), [(0.1, 0), (0.4, 0), (0.4, 2)])
def test_splits_by_query(test: float, seed: int) -> None:
    data = Dataset.from_dict(
        {"id": [str(n) for n in range(300)], "query": [f"How is {n // 2}, then?" for n in range(300)]}
    )
    expected = [n for n in range(300) if random.Random(f"{seed}:how is {n // 2} then").random() < test]
    parts = split_queries(data, test, seed)
    assert list(map(int, parts["test"]["id"])) == expected
    assert list(map(int, parts["train"]["id"])) == sorted({*range(300)} - {*expected})
    assert lineage(parts["test"])[-1]["settings"] == {"test": test, "seed": seed}
    assert list(parts) == ["train", "test"]
    if (test, seed) == (0.1, 0):
        assert split_queries(data)["test"]["id"][:] == parts["test"]["id"][:], "the defaults"


@pytest.mark.parametrize("seed", ["0", 1.5, True, None])
def test_a_wrong_seed(seed: Any) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: subset(table(NAMES), 3, seed),
        lambda: shuffle_steps(table(NAMES), seed),
        lambda: split_queries(Dataset.from_dict({"id": ["a"], "query": ["a"]}), 0.1, seed),
    ]
    for call in calls:
        with pytest.raises(InputError, match=f"^seed: expected an integer, found {seed!r}$"):
            call()


def test_the_sizes_of_the_splits_of_trice() -> None:
    assert {name: dict(sizes) for name, sizes in TRICE_SIZES.items()} == {
        "asdiv": {"train": 952, "test": 266},
        "svamp": {"train": 800, "test": 200},
        "gsm8k": {"train": 6255, "test": 1319},
        "webquestions": {"train": 2000, "test": 1000},
        "nq_open": {"train": 6000, "test": 1000},
        "triviaqa": {"train": 6000, "test": 1000},
        "trex": {"train": 12607, "test": 3154},
        "mlqa": {"train": 3607, "test": 2364},
    }


def test_why_a_row_was_not_drawn() -> None:
    data = table(["a#1", "a#2", "a#3", "b", "c"])
    parts = subset(data, {"x": 1, "y": 2}, apart_from=table(["c"]))
    dropped = {row["id"]: (row["stage"], row["reason"], row["detail"]) for row in ledger(parts.values())}
    assert dropped.pop("c") == ("subset", "excluded_question", "a table of apart_from has the question")
    (cut,) = dropped.values()
    assert cut == ("subset", "not_drawn", "the split y is full; it has other rows of the question")
    assert [parts["x"]["id"][:], len(parts["y"])] == [["b"], 2]
    assert ledger([subset(table(["a", "b"]), 1)])[0]["detail"] == ""
    assert lineage(parts["y"])[-1]["step"] == "subset: y"
    assert lineage(parts["y"])[-1]["settings"] == {"seed": 0, "rows": {"x": 1, "y": 2}}


def test_the_largest_number_of_splits() -> None:
    ids = [f"q-{n}" for n in range(251)]
    parts = subset(table(ids), {f"s{n}": 1 for n in range(250)})
    assert len({part["id"][0] for part in parts.values()}) == 250
    message = r"^subset: expected n as a positive number of rows, or as split -> number of rows \(at most 250 splits\), found "
    wrong: Any
    for wrong in ({f"s{n}": 1 for n in range(251)}, "5", None, [3], {"a": 1.0}, {"a": True}):
        with pytest.raises(InputError, match=message):
            subset(table(ids), wrong)


def test_the_same_text_with_another_context_is_another_question() -> None:
    data = table(["a", "b", "c"], ["Why?", "why", "Why?"])
    other = data.select([2]).map(lambda row: {"context": "At noon.", "id": "x"})
    assert len(ledger([subset(data, 1, apart_from=other)])) == 2
    with pytest.raises(InputError, match=r"^subset: requested 4 rows; found 3 rows of 1 questions$"):
        subset(data, 4, apart_from=other)
    with pytest.raises(InputError, match=r"^subset: expected tables in apart_from, found str$"):
        subset(data, 1, apart_from="ab")
    with pytest.raises(InputError, match=r"^apart_from: expected a table, or a list of tables, found 5$"):
        subset(data, 1, apart_from=5)
