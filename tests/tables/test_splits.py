"""Splits and shuffles: one side for all that is one query, whatever else is there, and an order of its own."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from tests.support.answer_trees import searches, table
from toolrlef_data.records import InputError, MissingColumns
from toolrlef_data.tables.identity import normal_form
from toolrlef_data.tables.lineage import ledger, lineage
from toolrlef_data.tables.splits import shuffle_steps, split_queries
from toolrlef_data.tables.transform import join
from toolrlef_data.toolbench.preferences import preference_pairs
from toolrlef_data.toolbench.samples import trajectories

QUERIES = [f"How deep is lake number {n}?" for n in range(2000)]


def rows(queries: Sequence[str | None]) -> Dataset:
    return Dataset.from_dict({"id": [f"r{n}" for n in range(len(queries))], "query": queries})


def side_of(parts: DatasetDict) -> dict[str | None, str]:
    """Query -> the side that it is on; fails where it is on both."""
    sides: dict[str | None, str] = {}
    for side in ("train", "test"):
        for query in parts[side]["query"]:
            assert sides.setdefault(query, side) == side
    return sides


@pytest.mark.parametrize("test", [0.02, 0.1, 0.5, 0.9])
def test_the_shares_are_about_right(test: float) -> None:
    parts = split_queries(rows(QUERIES), test=test)
    assert len(parts["train"]) + len(parts["test"]) == 2000
    off = 4 * (test * (1 - test) * 2000) ** 0.5  # four standard deviations
    assert abs(len(parts["test"]) - test * 2000) < off


def test_what_is_the_same_query_goes_to_one_side() -> None:
    variants = ["{}", " {}\n", "{}?", "¿{}", "{}  .", '"{}"']
    texts = [query.rstrip("?").replace(" ", "  ") for query in QUERIES[:60]]
    many: list[str | None] = [v.format(text) for v in variants for text in texts]
    many += [text.upper() for text in texts] + [text.title() for text in texts]
    many += [text.replace(" ", "\u00a0") for text in texts] + [text.replace("ee", "\uff45\uff45") for text in texts]
    parts = split_queries(rows(many), test=0.5)
    by_form: dict[str, set[str]] = {}
    for query, side in side_of(parts).items():
        by_form.setdefault(normal_form(query or ""), set()).add(side)
    assert len(by_form) == 60
    assert all(len(sides) == 1 for sides in by_form.values())
    assert {side for sides in by_form.values() for side in sides} == {"train", "test"}


def test_a_side_does_not_change_when_rows_come_and_go() -> None:
    before = side_of(split_queries(rows(QUERIES[:200]), test=0.3))
    other = list(QUERIES)
    random.Random(1).shuffle(other)
    after = side_of(split_queries(rows(list(other)), test=0.3))
    assert {query: after[query] for query in before} == before
    larger = side_of(split_queries(rows(QUERIES), test=0.4))
    assert all(larger[query] == "test" for query, side in after.items() if side == "test"), "a larger test holds it"
    assert side_of(split_queries(rows(QUERIES), test=0.3, seed=1)) != after


def test_rows_stay_in_order_and_nulls_and_empty_sides_are_no_trouble() -> None:
    parts = split_queries(rows([None, "a", "", "b", None, "?"]), test=0.5)
    assert sorted(parts["train"]["id"][:] + parts["test"]["id"][:]) == [f"r{n}" for n in range(6)]
    for side in parts.values():
        assert side["id"][:] == sorted(side["id"][:])
    empty = split_queries(rows(["a"]), test=1e-9)
    assert (len(empty["train"]), len(empty["test"])) == (1, 0)
    nothing = split_queries(rows(["a"]).select([]), test=0.5)
    assert (len(nothing["train"]), len(nothing["test"])) == (0, 0)
    answers = table({"a": searches(1)[0].file()})
    made = trajectories(split_queries(answers, test=1e-9))
    assert (len(made["train"]) > 0, len(made["test"]), made["test"].features) == (True, 0, made["train"].features)


@pytest.mark.parametrize("test", [0, 1, -0.1, 2, True, None, "0.1", float("nan")])
def test_shares_that_are_none(test: Any) -> None:
    with pytest.raises(InputError, match="share between 0 and 1"):
        split_queries(rows(["a"]), test=test)


def test_tables_that_cannot_be_split_or_shuffled() -> None:
    with pytest.raises(InputError, match="takes one Dataset, found a DatasetDict"):
        split_queries(DatasetDict({"train": rows(["a"])}))
    with pytest.raises(InputError, match="takes one Dataset, found a list"):
        split_queries([{"query": "a"}])
    with pytest.raises(MissingColumns, match="query"):
        split_queries(Dataset.from_dict({"id": ["a"]}))
    with pytest.raises(MissingColumns, match="id"):
        shuffle_steps(Dataset.from_dict({"query": ["a"]}))


def test_an_order_of_its_own() -> None:
    data = rows(list(QUERIES[:500]))
    order = shuffle_steps(data)["id"][:]
    assert sorted(order) == sorted(data["id"])
    assert order != data["id"][:]
    for other in (data.select(range(499, -1, -1)), data.shuffle(seed=4)):
        assert shuffle_steps(other)["id"][:] == order, "whatever order the rows come in"
    some = set(shuffle_steps(data.select(range(100)))["id"][:])
    assert shuffle_steps(data.select(range(100)))["id"][:] == [row_id for row_id in order if row_id in some]
    assert shuffle_steps(data, seed=1)["id"][:] != order
    assert shuffle_steps(data.select([]))["id"][:] == []
    both = shuffle_steps(DatasetDict({"train": data, "test": data.select([3])}))
    assert (both["train"]["id"][:], both["test"]["id"][:]) == (order, ["r3"])
    assert shuffle_steps(data)["query"][:] == [QUERIES[int(row_id[1:])] for row_id in order], "rows stay whole"
    near = sum(abs(int(a[1:]) - int(b[1:])) < 5 for a, b in itertools.pairwise(order))
    assert near < 30, "steps of one search do not stand side by side"


def test_the_trail_stays_whole() -> None:
    """Each side and each shuffle leads back to the files, and the ledger of what is made of a side is the side's own."""
    answers = table({str(search.seed): search.file() for search in searches(12)})
    parts = split_queries(answers, test=0.4)
    dropped = set()
    for side in ("train", "test"):
        samples = trajectories(parts[side], steps="all")
        done = shuffle_steps(samples)
        steps = [record["step"] for record in lineage(done)]
        assert steps == ["rows", f"split_queries: {side}", "trajectories", "shuffle_steps"]
        assert all(record["rows_in"] >= record["rows_out"] for record in lineage(done))
        assert lineage(done)[-1]["settings"] == {"seed": 0}
        left = ledger([done])
        assert left[:] == ledger([samples])[:]
        files = set(parts[side]["id"])
        assert {row_id.partition("#")[0] for row_id in [*left["id"], *done["id"]]} <= files
        dropped |= set(left["id"])
        pairs = preference_pairs(shuffle_steps(parts[side]))
        assert [r["step"] for r in lineage(pairs)][1:] == [steps[1], "shuffle_steps", "preference pairs"]
    assert dropped == set(ledger([trajectories(answers, steps="all")])["id"])
    again = split_queries(answers, test=0.4)
    assert {side: part._fingerprint for side, part in again.items()} == {
        side: part._fingerprint for side, part in parts.items()
    }
    assert parts["train"]._fingerprint != parts["test"]._fingerprint
    assert split_queries(answers, test=0.4, seed=1)["train"]._fingerprint != parts["train"]._fingerprint


def test_a_side_is_a_table_like_others() -> None:
    """What selects rows by their place meets steps that read Arrow: they see the selected rows, in their order."""
    data = shuffle_steps(split_queries(rows(QUERIES[:100]), test=0.5)["test"])
    doubled = join([data, data.select_columns(["query"]).rename_column("query", "again")], "both")
    assert doubled["query"][:] == doubled["again"][:] == data["query"][:]
