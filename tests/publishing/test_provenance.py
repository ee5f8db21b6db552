"""provenance.json: the whole record of a lineage, and what the card reads from it."""

from __future__ import annotations

import importlib.metadata
import logging
from pathlib import Path
from typing import Any

import pytest

from toolrlef_data import answer, decontaminate, drop_near_duplicates, lineage, load_source, scripted, subset
from toolrlef_data.publishing.provenance import (
    DECONTAMINATE,
    NEAR_DUPLICATES,
    _lineage_gap,
    overlap_checks,
    provenance_of,
    stage_summaries,
)
from toolrlef_data.records import Reply

OWN = (
    ", which no stage made: it is your own table, or `datasets` has selected, reordered or changed its rows; describe "
    "its origin with provenance=, and rows dropped before with dropped="
)
MEMORY = "the lineage starts at rows given in memory, your own table; describe their origin with provenance="


def test_the_whole_provenance_of_tables(caplog: pytest.LogCaptureFixture) -> None:
    """The record of each stage without what is local; of a table without records only its rows."""
    caplog.set_level(logging.WARNING, "toolrlef_data")
    questions = subset(load_source("sample", split="train"), 3)
    replies = [Reply("It is 8.", prompt_tokens=7, completion_tokens=2)] * 3
    answered = answer(questions, scripted(replies, progress=False))
    own = questions.select([2, 0])
    found = provenance_of({"a": {"train": answered, "test": questions}, "b": {"train": own}})
    records = lineage(answered)
    assert [record["step"] for record in records] == ["source sample", "subset", "answer", "answer"]
    made = next(record for record in records if "usage" in record)["usage"]
    assert (made["prompt_tokens"], made["completion_tokens"]) == (21, 6)
    assert found["stages"] == {
        record["fingerprint"]: {
            "step": record["step"],
            "inputs": record["inputs"],
            "rows_in": record["rows_in"],
            "rows_out": record["rows_out"],
            "dropped": record["dropped"],
            "settings": record["published"],
            **({"usage": record["usage"]} if "usage" in record else {}),
        }
        for record in records
    }
    whole = {"trail": "complete from the source on", "trail_is_whole": True}
    gap = f"the lineage starts at this table{OWN}"
    assert found["configs"]["a"] == {
        "train": {"rows": 3, "fingerprint": records[-1]["fingerprint"], **whole},
        "test": {"rows": 3, "fingerprint": records[1]["fingerprint"], **whole},
    }
    facts = found["configs"]["b"]["train"]
    assert {**facts, "fingerprint": ""} == {"rows": 2, "fingerprint": "", "trail": gap, "trail_is_whole": False}
    assert f"b (train): {gap}" in [record.message for record in caplog.records]
    assert sum("lineage starts" in record.message for record in caplog.records) == 1
    names = ["toolrlef_data", "datasets", "pyarrow", "torch", "transformers", "peft"]
    assert found["packages"] == {name: importlib.metadata.version(name) for name in names}


@pytest.mark.parametrize(
    ("stages", "gap"),
    [
        ([], f"the lineage starts at this table{OWN}"),
        ([("source sample", []), ("subset", ["0"])], ""),
        ([("answer", ["gone"]), ("grade", ["0"])], f"the lineage starts at the input of the stage 'answer'{OWN}"),
        ([("source sample", []), ("grade", ["0", "gone"])], f"the lineage starts at the input of the stage 'grade'{OWN}"),
        ([("rows", []), ("answer", ["0"])], MEMORY),
        ([("rows", []), ("answer", ["0", "gone"])], f"the lineage starts at the input of the stage 'answer'{OWN}"),
    ],
)  # fmt: skip
def test_where_a_lineage_starts(stages: list[tuple[str, list[str]]], gap: str) -> None:
    records = [{"fingerprint": str(n), "step": step, "inputs": inputs} for n, (step, inputs) in enumerate(stages)]
    assert _lineage_gap(records) == gap


SETTINGS: dict[str, Any] = {
    "seed": 3, "too_long": "drop", "options": {"a": 1, "b": 2}, "protocol": "text", "max_length": 0, "keep_thought": False,
    "without": ["x", "y"], "finish": ["give_up"], "steps": "all", "history": "clean", "style": "openai", "layout": "split",
}  # fmt: skip
TEXT = (
    "layout split, style openai, history clean, steps all, finish give_up, without x + y, keep_thought no, "
    "protocol text, max_length 0, too_long drop, options a=1 + b=2"
)


def summaries(step: str, settings: Any) -> dict[str, Any]:
    stage = {"step": step, "inputs": [], "rows_in": 9, "rows_out": 9, "dropped": {}, "settings": settings}
    facts = {"stages": {"s": stage}, "configs": {"a": {"train": {"fingerprint": "s"}}}}
    (found,) = stage_summaries(facts)
    assert {name: found[name] for name in stage} == stage
    return found


@pytest.mark.parametrize("step", ["trajectories", "preference pairs", "tokenise", "without_tool"])
def test_the_settings_of_stages_that_make_rows_are_told(step: str) -> None:
    """In one order, without those that have no value."""
    found = summaries(step, SETTINGS)
    assert (found["expands"], found["settings_text"], found["tables"], found["input_rows"]) == (True, TEXT, "a", 0)
    empty: dict[str, Any] = {
        "layout": None,
        "style": "",
        "without": [],
        "options": {},
        "keep_thought": True,
        "other": 1,
    }
    assert summaries(step, empty)["settings_text"] == "keep_thought yes"
    assert summaries(step, None)["settings_text"] == ""


def test_the_settings_of_other_stages_are_not_told() -> None:
    found = summaries("answer", SETTINGS)
    assert (found["expands"], found["settings_text"]) == (False, "")


def test_checks_of_overlap_have_their_settings_and_what_they_removed() -> None:
    stages = [
        {"step": step, "settings": settings, "tables": tables, "rows_in": 9, "dropped": {"overlap": n}}
        for n, (step, settings, tables) in enumerate(
            [
                ("decontaminate", {"test_sets": ["x"]}, "all"), ("near duplicates", {"threshold": 0.8}, "a"),
                ("decontaminate", None, "b"), ("answer", {"x": 1}, "c"),
            ]
        )
    ]  # fmt: skip
    assert overlap_checks(stages, DECONTAMINATE) == [
        {"test_sets": ["x"], "tables": "all", "rows_in": 9, "removed": {"overlap": 0}}
    ]
    assert overlap_checks(stages, NEAR_DUPLICATES) == [
        {"threshold": 0.8, "tables": "a", "rows_in": 9, "removed": {"overlap": 1}}
    ]


def test_the_names_of_the_checks_are_those_of_the_stages(tmp_path: Path) -> None:
    questions = load_source("sample", split="train").select(range(4))
    checked = decontaminate(questions, [questions.select([1])])
    found = provenance_of({"a": {"train": checked}})
    (check,) = overlap_checks(stage_summaries(found), DECONTAMINATE)
    assert (check["rows_in"], sum(check["removed"].values())) == (4, 1)
    assert lineage(drop_near_duplicates(questions))[-1]["step"] == NEAR_DUPLICATES
