"""The variables of the card's templates, and what a card warns of."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetInfo, Features, SplitDict, SplitInfo

from tests.support.card_tables import need_rows, responded_rows, stage1_rows, stage2_rows
from toolrlef_data.columns import DROPPED, PAIRS, TRAJECTORIES
from toolrlef_data.loading_scripts.licences import Licence
from toolrlef_data.publishing.card import writing
from toolrlef_data.publishing.card.counts import summaries
from toolrlef_data.publishing.card.counts.counting import counts_of
from toolrlef_data.publishing.card.counts.keys import add
from toolrlef_data.publishing.card.row_facts import lost_responses
from toolrlef_data.publishing.card.source_facts import SourceFacts
from toolrlef_data.publishing.card.step_facts import step_facts
from toolrlef_data.trice.cassette import EXECUTIONS

Row = dict[str, Any]


def table(features: Any, *rows: Row) -> Dataset:
    return Dataset.from_list([{**dict.fromkeys(features), **row} for row in rows], features=Features(features))


@pytest.fixture(scope="module")
def splits() -> dict[str, dict[str, Dataset]]:
    """Tables of every kind; the ledger and the cassette have no rows that count."""
    return {
        "m-stage1": {"train": stage1_rows(4), "test": stage1_rows(2)},
        "m-stage2": {"train": stage2_rows(6)},
        "m-responded": {"train": responded_rows(3)},
        "m-need": {"train": need_rows(4)},
        "m-cassette": {"train": table(EXECUTIONS, {"tool": "t"})},
        "m-dropped": {"train": table(DROPPED, {"id": "1", "stage": "s", "reason": "r", "detail": "two words"})},
    }


def test_the_sums_of_counts(splits: Any, tmp_path: Path) -> None:
    found = writing._count_facts(tmp_path, splits, [])
    counts = {config: add(counts_of(data) for data in tables.values()) for config, tables in splits.items()}
    rows = [config for config in splits if config not in ("m-cassette", "m-dropped")]
    total = add(counts[config] for config in rows)
    lost = lost_responses(splits)
    assert found["scores"] == summaries.score_table(total, lost)
    assert found["rankings"] == summaries.rankings(total)
    assert found["tool_errors"] == summaries.by_name(total, "tool_error") != {}
    assert found["logprobs"] == summaries.logprob_table(total) != []
    assert found["lengths"] == {config: summaries.length_table(counts[config]) for config in rows}
    replies = {config: summaries.by_name(counts[config], "reply") | summaries.by_name(counts[config], "finish") for config in rows}  # fmt: skip
    assert found["replies"] == replies
    assert [bool(replies[config]) for config in rows] == [False, True, True, False]
    assert found["targets"] == summaries.target_table(counts)
    assert (found["texts"], found["patterns"]) == summaries.pattern_table(counts)
    assert found["logprob_models"] == ["tiny@0123456789ab"]
    assert found["pairs"] == {"all": total["pairs", "all"], "ordered": total["pairs", "ordered"]}
    assert found["learnt"] == {"learnt": total["learnt", "learnt"], "open": total["learnt", "open"]}
    assert 0 < found["pairs"]["ordered"] < found["pairs"]["all"]
    assert found["lost"] == {name: {reason: n for reason, n in reasons.items() if n} for name, reasons in lost.items()}
    assert list(found["figures"]) == ["scores", "tool_rates", "need", "lengths"]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(
        f"{name}.svg" for name in found["figures"]
    )
    for name, figure in found["figures"].items():
        assert (tmp_path / f"figures/{name}.svg").read_bytes() == figure.svg


def test_the_facts_of_tables(splits: Any) -> None:
    web = {"train": table(TRAJECTORIES, {"id": "1", "flags": [str(n) for n in range(9)]})}
    every = {**splits, "web": web}
    info = DatasetInfo(config_name="m-stage1")
    info.splits = SplitDict({"train": SplitInfo("train", num_examples=4), "test": SplitInfo("test", num_examples=2)})
    mixes = {"mix-a": {"train": ["m-stage2", "m-stage1"], "test": ["m-stage1"]}}
    found = writing._table_facts(every, mixes, {"m-stage1": info}, step_facts(every))
    assert found["splits"] == {"m-stage1": {"train": 4, "test": 2}}
    assert found["mixes"] == {"mix-a": ["m-stage1", "m-stage2"]}
    assert (found["cassettes"], found["ledgers"], found["dropped"]) == (["m-cassette"], ["m-dropped"], [("s", "r", 1)])
    assert list(found["examples"]) == list(every)
    assert found["examples"]["web"]["flags"] == ["0", "1", "2", "... 5 more ...", "8"], "long lists of steps are cut"
    assert found["examples"]["m-stage2"]["scores"] == splits["m-stage2"]["train"][0]["scores"]


def test_what_a_card_has_of_content(splits: Any, tmp_path: Path) -> None:
    """Questions are searched for repetitions where a table has one per row."""
    web = {"train": table(PAIRS, {"id": "1", "query": "q"})}
    cassette = {"train": Dataset.from_list([{"question": "q"}])}
    every = {"m-stage1": splits["m-stage1"], "web": web, "x-cassette": cassette, "x-dropped": cassette}
    card = {"tokenizer": None, "columns": {"id": "mine"}}
    found = writing._content_facts(every, {}, step_facts(every), {"stages": {}}, card)
    assert [repeats.config for repeats in found["repeats"]] == ["m-stage1"]
    assert [column.meaning for column in found["columns"][0][1] if column.name == "id"] == ["mine"]
    assert (found["tokenizer"], found["prompts"], found["graders"], found["engines"], found["tools"]) == (
        None,
        [],
        [],
        [],
        [],
    )
    assert {"response_columns", "training", "usage"} <= found.keys()


def test_facts_of_steps() -> None:
    rows = [{"id": "1", "dataset": name, "query": query} for name, query in (("b", "q"), ("a", "q"), (None, "r"))]
    splits = {"web": {"train": table(PAIRS, *rows[:2]), "test": table(PAIRS, *rows[1:])}}
    found = writing._trajectory_facts(step_facts(splits), {"stages": {}, "configs": {}})
    expected: Row = {
        "kinds": {"pairs"},
        "datasets": ["a", "b"],
        "queries": {"train": 1, "test": 2},
        "shared": [("train", "test", 1)],
    }
    assert {name: found[name] for name in expected} == expected
    assert (list(found["steps"]), found["tokenisers"], found["shuffles"], found["histories"]) == (
        ["web"],
        {},
        {},
        ["clean"],
    )


def test_facts_of_the_lineage() -> None:
    def stage(step: str, settings: Any, **dropped: int) -> Row:
        return {"step": step, "inputs": [], "rows_in": 4, "rows_out": 3, "dropped": dropped, "settings": settings}

    whole, gap = {"fingerprint": "s", "trail_is_whole": True}, {"fingerprint": "t", "trail_is_whole": False}
    provenance = {
        "version": "1.0.0", "packages": {"x": "1"}, "recipe": {"file": "recipe.yaml"},
        "stages": {"s": stage("decontaminate", {"test_sets": ["b", "a"]}, overlap=1), "t": stage("near duplicates", {"n": 3})},
        "configs": {"one": {"train": whole}, "two": {"train": whole, "test": gap}},
    }  # fmt: skip
    found = writing._provenance_facts(provenance)
    assert (found["version"], found["packages"], found["recipe"]) == ("1.0.0", {"x": "1"}, {"file": "recipe.yaml"})
    assert (found["incomplete"], found["test_set_names"]) == (["two"], ["a", "b"])
    assert [check["removed"] for check in found["test_sets"]] == [{"overlap": 1}]
    assert [check["n"] for check in found["near_duplicates"]] == [3]
    assert [stage["step"] for stage in found["stages"]] == ["decontaminate", "near duplicates"]
    del provenance["recipe"]
    assert writing._provenance_facts(provenance)["recipe"] is None


@pytest.mark.parametrize(
    ("names", "given", "unknown", "licence"),
    [
        (["MIT", ""], None, ["own1"], None),
        (["MIT", ""], "mit", ["own1"], None),
        (["MIT"], "mit", [], "mit"),
        ([], None, [], None),
    ],
)
def test_facts_of_licences(
    names: list[str], given: str | None, unknown: list[str], licence: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "toolrlef_data")
    sources = [SourceFacts(f"own{n}", Licence("h", name), {}) for n, name in enumerate(names)]
    found = writing._licence_facts(sources, given)
    assert found == {"sources": sources, "licence": given, "source_licence": licence, "unknown_licences": unknown, "source_ids": []}  # fmt: skip
    message = "the licence of own1 is unknown, so the data set has none: set one with card={'license': ...}"
    assert [record.message for record in caplog.records] == ([message] if unknown and given is None else [])
    (gsm8k,) = writing._licence_facts([SourceFacts("gsm8k", Licence("h", "MIT"), {})], None)["source_ids"]
    assert gsm8k == "openai/gsm8k"


def test_metadata_of_each_template() -> None:
    assert writing.CATEGORIES == {
        "tool_use": {"task_categories": ["question-answering", "text-generation"], "tags": ["tool-use", "synthetic", "trice"]},
        "trajectories": {"task_categories": ["text-generation"], "tags": ["tool-use", "synthetic", "function-calling", "agent"]},
        "both": {
            "task_categories": ["question-answering", "text-generation"],
            "tags": ["tool-use", "synthetic", "trice", "function-calling", "agent"],
        },
    }  # fmt: skip
    assert writing.TITLES == {
        "tool_use": "Tool-use training data with execution feedback",
        "trajectories": "Tool-use trajectories",
        "both": "Tool-use training data with execution feedback, and trajectories",
    }
