"""Exports of rows without a call: each offers its own tools, none has a call as target, and the call is rejected."""

from __future__ import annotations

import json
from typing import Any

import pytest
from datasets import Dataset, concatenate_datasets

from tests.support.caches import use_caches
from toolrlef_data import (
    ANNOTATIONS,
    InputError,
    answer,
    build_stage1,
    grade,
    ledger,
    make_questions,
    scripted,
    to_trainer,
    without_tool,
)

CALL = "calculator(215+31-9*12)"
SFT_FORMATS = ("alpaca", "axolotl", "llamafactory", "openai", "trl")
PAIR_FORMATS = ("openai_preference", "trl_preference", "trl_reward")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two rows of stage 1, a call and an answer, and their variants."""
    with use_caches(tmp_path_factory.mktemp("caches")):
        question = "Ann had 215 lamps. She made 31 lamps in May. She sold 9 boxes of 12 lamps. How many are left?"
        solution = "<<9*12=108>>108 <<215+31=246>>246 <<246-108=138>>138 #### 138"
        rows = [
            {"question": question, "solution": solution, "answers": "138"},
            {"question": "What is 40+7?", "solution": "<<40+7=47>>47 #### 47", "answers": "47"},
        ]
        questions = make_questions(Dataset.from_list(rows), task="math", solution="solution")
        student = scripted({"": "The answer is 47."}, progress=False)
        stage1 = build_stage1(grade(answer(questions, student)), ANNOTATIONS)
        variants = without_tool(stage1, kind=["no_tools", "other_tools", "missing_argument", "chat"])
        table = concatenate_datasets([stage1, variants])
        assert [row["kind"] for row in table if row["rejected"]] == [
            "no_tools",
            "other_tools",
            "missing_argument",
            "chat",
        ]
        return Dataset.from_list(table.to_list(), features=table.features)


def names_of(tools: Any) -> list[str]:
    """Return the names of a list of schemas, or of its JSON text."""
    schemas = json.loads(tools or "[]") if isinstance(tools, str) else tools or []
    return sorted(schema.get("function", schema)["name"] for schema in schemas)


@pytest.mark.parametrize("format", ["trl", "openai", "axolotl", "llamafactory"])
def test_native_records_offer_the_tools_of_their_row(format: str, mixed: Dataset) -> None:
    records = to_trainer(mixed, format, calls="native")
    assert len(records) == len(mixed)
    for row, record in zip(mixed, records, strict=True):
        expected = ["calculator"] if row["kind"] is None else names_of(row["tools"])
        assert names_of(record["tools"]) == expected, row["id"]
    offered = {row["kind"]: names_of(record["tools"]) for row, record in zip(mixed, records, strict=True)}
    assert offered["no_tools"] == []
    assert "calculator" not in offered["other_tools"] != []
    assert offered["chat"] == offered[None] == ["calculator"]


def target(record: dict[str, Any]) -> tuple[str, Any]:
    """Return the text and the calls of the trained message of a record."""
    if "output" in record:
        return record["output"], None
    if "conversations" in record:
        turn = record["conversations"][-1]
        return turn["value"], turn["value"] if turn["from"] == "function_call" else None
    message = (record.get("completion") or record["messages"])[-1]
    return message["content"], message.get("tool_calls")


@pytest.mark.parametrize("calls", ["text", "native"])
@pytest.mark.parametrize("format", SFT_FORMATS)
def test_a_variant_is_never_exported_with_a_call_as_target(format: str, calls: str, mixed: Dataset) -> None:
    if format == "alpaca" and calls == "native":
        return
    options: dict[str, Any] = {} if format == "alpaca" else {"calls": calls}
    for row, record in zip(mixed, to_trainer(mixed, format, **options), strict=True):
        text, called = target(record)
        assert bool(called) == (calls == "native" and row["uses_tool"])
        if row["kind"]:
            assert text == row["output"]
    rows = mixed.to_list()
    rows[-1]["output"] = CALL  # a user's `map` can do this
    changed = Dataset.from_list(rows, features=mixed.features)
    with pytest.raises(InputError, match=f"call_as_target: a row of the kind {rows[-1]['kind']} calls a tool"):
        to_trainer(changed, format, **options)


@pytest.mark.parametrize("calls", ["text", "native"])
@pytest.mark.parametrize("format", PAIR_FORMATS)
def test_the_target_is_preferred_to_the_call(format: str, calls: str, mixed: Dataset) -> None:
    records = to_trainer(mixed, format, calls=calls)
    rows = [row for row in mixed if row["rejected"]]
    assert len(records) == len(rows) == 4
    assert sorted(set(ledger([records])["reason"])) == ["no_pair"]
    for row, record in zip(rows, records, strict=True):
        chosen, rejected = (
            (record["preferred_output"], record["non_preferred_output"])
            if format == "openai_preference"
            else (record["chosen"], record["rejected"])
        )
        assert chosen[0]["content"] == row["output"]
        if calls == "text":
            assert rejected[0]["content"] == CALL
            continue
        [call] = rejected[0]["tool_calls"]
        assert call["function"]["name"] == "calculator"
        tools = record["input"]["tools"] if format == "openai_preference" else record["tools"]
        assert names_of(tools) == names_of(row["tools"])


def test_labels_are_of_the_variants_only(mixed: Dataset) -> None:
    records = to_trainer(mixed, "trl_kto")
    labels = {(record["id"].partition("#")[2], record["label"]) for record in records}
    assert labels == {(kind, label) for kind in mixed["kind"] if kind for label in (True, False)}
    assert [record["completion"][0]["content"] for record in records if not record["label"]] == [CALL] * 4


def test_no_reward_grades_a_variant(mixed: Dataset) -> None:
    records = to_trainer(mixed, "trl_grpo", unfit="drop")
    assert [record["id"] for record in records] == [row["id"] for row in mixed if row["kind"] is None]
    assert set(ledger([records])["reason"]) == {"no_answer"}


def test_a_column_of_the_user_named_kind_changes_nothing(mixed: Dataset) -> None:
    stage1 = mixed.select(range(2)).remove_columns(["kind", "tools", "rejected", "check"])
    own = stage1.add_column("kind", ["easy", "hard"]).add_column("tools", ["", ""])
    assert to_trainer(own, "trl", calls="native").to_list() == to_trainer(stage1, "trl", calls="native").to_list()
