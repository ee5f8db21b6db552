"""Splits by query, and shuffles that depend only on ids and seed."""

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
from toolrlef_data.tables.reshape import join
from toolrlef_data.tables.sampling.splits import shuffle_steps, split_queries
from toolrlef_data.toolbench.preferences import preference_pairs
from toolrlef_data.toolbench.samples import trajectories

QUERIES = [f"How deep is lake number {n}?" for n in range(2000)]


def rows(queries: Sequence[str | None]) -> Dataset:
    return Dataset.from_dict({"id": [f"r{n}" for n in range(len(queries))], "query": queries})


def split_of_queries(parts: DatasetDict) -> dict[str | None, str]:
    """Return query -> split; fail if a query is in both splits."""
    splits: dict[str | None, str] = {}
    for split in ("train", "test"):
        for query in parts[split]["query"]:
            assert splits.setdefault(query, split) == split
    return splits


@pytest.mark.parametrize("test", [0.02, 0.1, 0.5, 0.9])
def test_the_share_of_the_test_split_is_close(test: float) -> None:
    parts = split_queries(rows(QUERIES), test=test)
    assert len(parts["train"]) + len(parts["test"]) == 2000
    tolerance = 4 * (test * (1 - test) * 2000) ** 0.5  # four standard deviations
    assert abs(len(parts["test"]) - test * 2000) < tolerance


def test_variants_of_a_query_are_in_one_split() -> None:
    variants = ["{}", " {}\n", "{}?", "¿{}", "{}  .", '"{}"']
    texts = [query.rstrip("?").replace(" ", "  ") for query in QUERIES[:60]]
    queries: list[str | None] = [variant.format(text) for variant in variants for text in texts]
    queries += [text.upper() for text in texts] + [text.title() for text in texts]
    queries += [text.replace(" ", "\u00a0") for text in texts] + [text.replace("ee", "\uff45\uff45") for text in texts]
    parts = split_queries(rows(queries), test=0.5)
    by_form: dict[str, set[str]] = {}
    for query, split in split_of_queries(parts).items():
        by_form.setdefault(normal_form(query or ""), set()).add(split)
    assert len(by_form) == 60
    assert all(len(splits) == 1 for splits in by_form.values())
    assert {split for splits in by_form.values() for split in splits} == {"train", "test"}


def test_the_split_of_a_query_does_not_depend_on_other_rows() -> None:
    subset_splits = split_of_queries(split_queries(rows(QUERIES[:200]), test=0.3))
    shuffled = list(QUERIES)
    random.Random(1).shuffle(shuffled)
    all_splits = split_of_queries(split_queries(rows(list(shuffled)), test=0.3))
    assert {query: all_splits[query] for query in subset_splits} == subset_splits
    larger = split_of_queries(split_queries(rows(QUERIES), test=0.4))
    assert all(larger[query] == "test" for query, split in all_splits.items() if split == "test"), (
        "a larger share only adds queries to the test split"
    )
    assert split_of_queries(split_queries(rows(QUERIES), test=0.3, seed=1)) != all_splits


def test_rows_stay_in_order_with_nulls_and_empty_splits() -> None:
    parts = split_queries(rows([None, "a", "", "b", None, "?"]), test=0.5)
    assert sorted(parts["train"]["id"][:] + parts["test"]["id"][:]) == [f"r{n}" for n in range(6)]
    for split in parts.values():
        assert split["id"][:] == sorted(split["id"][:])
    no_test = split_queries(rows(["a"]), test=1e-9)
    assert (len(no_test["train"]), len(no_test["test"])) == (1, 0)
    no_rows = split_queries(rows(["a"]).select([]), test=0.5)
    assert (len(no_rows["train"]), len(no_rows["test"])) == (0, 0)
    answers = table({"a": searches(1)[0].file()})
    samples = trajectories(split_queries(answers, test=1e-9))
    assert len(samples["train"]) > 0
    assert (len(samples["test"]), samples["test"].features) == (0, samples["train"].features)


@pytest.mark.parametrize("test", [0, 1, -0.1, 2, True, None, "0.1", float("nan")])
def test_an_invalid_share_is_rejected(test: Any) -> None:
    with pytest.raises(InputError, match="expected test between 0 and 1"):
        split_queries(rows(["a"]), test=test)


def test_unusable_tables_are_rejected() -> None:
    with pytest.raises(InputError, match=r"expected a datasets\.Dataset, found DatasetDict"):
        split_queries(DatasetDict({"train": rows(["a"])}))
    with pytest.raises(InputError, match=r"expected a datasets\.Dataset, found list"):
        split_queries([{"query": "a"}])
    with pytest.raises(MissingColumns, match="query"):
        split_queries(Dataset.from_dict({"id": ["a"]}))
    with pytest.raises(MissingColumns, match="id"):
        shuffle_steps(Dataset.from_dict({"query": ["a"]}))


def test_the_shuffle_depends_only_on_ids_and_seed() -> None:
    data = rows(list(QUERIES[:500]))
    order = shuffle_steps(data)["id"][:]
    assert sorted(order) == sorted(data["id"])
    assert order != data["id"][:]
    for other in (data.select(range(499, -1, -1)), data.shuffle(seed=4)):
        assert shuffle_steps(other)["id"][:] == order, "the order of the input does not matter"
    subset = set(shuffle_steps(data.select(range(100)))["id"][:])
    assert shuffle_steps(data.select(range(100)))["id"][:] == [row_id for row_id in order if row_id in subset]
    assert shuffle_steps(data, seed=1)["id"][:] != order
    assert shuffle_steps(data.select([]))["id"][:] == []
    both = shuffle_steps(DatasetDict({"train": data, "test": data.select([3])}))
    assert (both["train"]["id"][:], both["test"]["id"][:]) == (order, ["r3"])
    assert shuffle_steps(data)["query"][:] == [QUERIES[int(row_id[1:])] for row_id in order], (
        "all columns move together"
    )
    neighbours = sum(abs(int(a[1:]) - int(b[1:])) < 5 for a, b in itertools.pairwise(order))
    assert neighbours < 30, "steps of one trajectory are not adjacent"


def test_splits_and_shuffles_have_complete_lineage() -> None:
    """The lineage begins at the answer files; the ledger of a split contains only rows of that split."""
    answers = table({str(search.seed): search.file() for search in searches(12)})
    parts = split_queries(answers, test=0.4)
    dropped = set()
    for split in ("train", "test"):
        samples = trajectories(parts[split], steps="all")
        shuffled = shuffle_steps(samples)
        stages = [record["step"] for record in lineage(shuffled)]
        assert stages == ["rows", f"split_queries: {split}", "trajectories", "shuffle_steps"]
        assert all(record["rows_in"] >= record["rows_out"] for record in lineage(shuffled))
        counts = {record["step"]: (record["rows_in"], record["rows_out"]) for record in lineage(shuffled)}
        for name, data in ((f"split_queries: {split}", parts[split]), ("shuffle_steps", shuffled)):
            assert counts[name] == (len(data), len(data)), "the rows of the other split are not dropped"
        assert lineage(shuffled)[-1]["settings"] == {"seed": 0}
        drops = ledger([shuffled])
        assert drops[:] == ledger([samples])[:]
        files = set(parts[split]["id"])
        assert {row_id.partition("#")[0] for row_id in [*drops["id"], *shuffled["id"]]} <= files
        dropped |= set(drops["id"])
        pairs = preference_pairs(shuffle_steps(parts[split]))
        assert [r["step"] for r in lineage(pairs)][1:] == [stages[1], "shuffle_steps", "preference pairs"]
    assert dropped == set(ledger([trajectories(answers, steps="all")])["id"])
    again = split_queries(answers, test=0.4)
    assert {split: part._fingerprint for split, part in again.items()} == {
        split: part._fingerprint for split, part in parts.items()
    }
    assert parts["train"]._fingerprint != parts["test"]._fingerprint
    assert split_queries(answers, test=0.4, seed=1)["train"]._fingerprint != parts["train"]._fingerprint


def test_a_stage_reads_the_selected_rows_of_a_split() -> None:
    """Stages that read Arrow respect the row selection of a split, and its order."""
    data = shuffle_steps(split_queries(rows(QUERIES[:100]), test=0.5)["test"])
    joined = join([data, data.select_columns(["query"]).rename_column("query", "copy")], "both")
    assert joined["query"][:] == joined["copy"][:] == data["query"][:]
