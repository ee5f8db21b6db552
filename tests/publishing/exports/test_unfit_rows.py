"""Rows with null values or uneven lists: every export records them in the ledger, and keeps the other rows."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from datasets import Dataset, Features

from toolrlef_data import EXPORTS, InputError, ledger, to_trainer
from toolrlef_data.columns import PAIRS, STAGE1, STAGE2, TOOLLLAMA, TRAJECTORIES
from toolrlef_data.publishing.exports.conversion import convert_rows, plan_export
from toolrlef_data.records import Drop

Row = dict[str, Any]
Place = tuple[str | int, ...]
SHARED = {"task": "math", "instruction": "Add.", "input": "3*19?", "answers": ["57"]}
TEXTS = ["calculator(3*19)", "It is 57.", "It is 5."]
CALL = {"id": "call_1", "type": "function", "function": {"name": "ping", "arguments": '{"host": "a"}'}}
EMPTY = {"content": "", "name": None, "tool_call_id": None, "tool_calls": None, "train": False}
USER: Row = {**EMPTY, "role": "user", "content": "Is a up?"}
ASKS: Row = {**EMPTY, "role": "assistant", "tool_calls": [CALL], "train": True}
RESULT: Row = {**EMPTY, "role": "tool", "content": "no", "name": "ping", "tool_call_id": "call_1"}
SAYS: Row = {**EMPTY, "role": "assistant", "content": "No.", "train": True}
TOOLS = '[{"type": "function", "function": {"name": "ping", "description": "", "parameters": {}}}]'
SIDES = {"prompt": [USER], "chosen": [ASKS], "rejected": [SAYS]}
ROWS: list[tuple[Features, Row]] = [
    (STAGE1, {**SHARED, "output": TEXTS[0]}),
    (
        STAGE2,
        {**SHARED, "responses": TEXTS, "scores": [20, 15, 0], "origin": ["gold", "a", "b"], "correct": [True, True, False]},
    ),
    (TRAJECTORIES, {"messages": [USER, ASKS, RESULT, SAYS], "tools": TOOLS}),
    (PAIRS, {**SIDES, "tools": TOOLS}),
    (TOOLLLAMA, {"name": "n", "conversations": [{"from": "user", "value": "Hi"}, {"from": "assistant", "value": "Ho"}]}),
]  # fmt: skip
CASES = [
    (name, features, {**dict.fromkeys(features), "id": "good", **row}, spec.columns, calls)
    for name, specs in EXPORTS.items()
    for features, row in ROWS
    if (spec := next((spec for spec in specs if set(spec.columns) <= set(features)), None))
    for calls in spec.options.get("calls", (None,))
]


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Yield the places of all values inside a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield (*place, key)
        yield from places(part, (*place, key))


def at(row: Any, place: Place) -> Any:
    for key in place:
        row = row[key]
    return row


def changed(row: Row, columns: tuple[str, ...]) -> Iterator[Row]:
    """Yield the row with each value null, each list empty, and each list without one of its values."""
    for place in places({name: row[name] for name in columns}):
        *above, key = place
        edits: list[Any] = [None, *([[]] if isinstance(at(row, place), list) else [])]
        for edit in edits:
            other = copy.deepcopy(row)
            at(other, tuple(above))[key] = edit
            yield other
        if isinstance(key, int):
            other = copy.deepcopy(row)
            del at(other, tuple(above))[key]
            yield other


@pytest.mark.parametrize(("format", "features", "row", "columns", "calls"), CASES, ids=lambda value: str(value)[:12])
def test_a_row_with_a_missing_value_ends_no_export(
    format: str, features: Features, row: Row, columns: tuple[str, ...], calls: str | None
) -> None:
    options: dict[str, Any] = {"calls": calls} if calls else {}
    good = to_trainer(Dataset.from_list([row], features=features), format, **options).to_list()
    table = Dataset.from_list([row, *changed(row, columns)], features=features)
    result = to_trainer(table, format, unfit="drop", **options)
    assert result.to_list()[: len(good)] == good
    outcomes = [found for _, found in convert_rows(table, plan_export(table, format, unfit="drop", **options))]
    assert [n for n, found in enumerate(outcomes) if not found] == [], "a row is in neither the records nor the ledger"
    drops = [record.reason for found in outcomes for record, _ in found if isinstance(record, Drop)]
    assert drops
    assert [drop["reason"] for drop in ledger([result])] == drops


STAGE2_ROW = {**dict.fromkeys(STAGE2), "id": "bad", **ROWS[1][1]}
MESSAGES = {**dict.fromkeys(TRAJECTORIES), "id": "bad", **ROWS[2][1]}
PAIR = {**dict.fromkeys(PAIRS), "id": "bad", **ROWS[3][1]}
EMPTY_TARGET = [USER, {**SAYS, "content": " "}]
NULL_ROLE = [{**USER, "role": None}, SAYS]
NULL_CALL = [USER, {**ASKS, "tool_calls": [None]}]


@pytest.mark.parametrize(
    ("format", "features", "row", "reason"),
    [
        *((name, STAGE2, {**STAGE2_ROW, "scores": None}, "ragged") for name in ("trl_preference", "trl_tpo", "rrhf")),
        ("openai_preference", STAGE2, {**STAGE2_ROW, "responses": TEXTS[:2]}, "ragged"),
        ("llamafactory", STAGE2, {**STAGE2_ROW, "origin": []}, "ragged"),
        ("trl_kto", STAGE2, {**STAGE2_ROW, "correct": [True]}, "ragged"),
        ("trl_grpo", STAGE2, {**STAGE2_ROW, "answers": []}, "no_answer"),  # the reward could not be computed
        ("trl_grpo", STAGE2, {**STAGE2_ROW, "answers": None}, "no_answer"),
        ("trl_grpo", STAGE2, {**STAGE2_ROW, "answers": ["57", None]}, "no_answer"),
        ("llamafactory", PAIRS, {**PAIR, "rejected": [SAYS, SAYS]}, "not_alternating"),
        ("trl_preference", PAIRS, {**PAIR, "chosen": [SAYS, {**SAYS, "content": " "}]}, "no_reply"),
        *((name, TRAJECTORIES, {**MESSAGES, "messages": EMPTY_TARGET}, "no_reply") for name in ("trl", "openai")),
        *((name, TRAJECTORIES, {**MESSAGES, "messages": NULL_ROLE}, "malformed") for name in ("trl", "axolotl")),
        *((name, TRAJECTORIES, {**MESSAGES, "messages": NULL_CALL}, "malformed") for name in ("trl", "llamafactory")),
        ("openai", TRAJECTORIES, {**MESSAGES, "messages": [USER, {**ASKS, "tool_calls": [{**CALL, "id": None}]}]}, "unpaired_call"),
    ],
)  # fmt: skip
def test_the_reason_names_what_is_missing(format: str, features: Features, row: Row, reason: str) -> None:
    table = Dataset.from_list([row], features=features)
    with pytest.raises(InputError, match=rf"row 0 \(bad\) does not fit the format '{format}': {reason}"):
        to_trainer(table, format)
    with pytest.raises(InputError, match=f"none of the rows fits.*{reason}"):
        to_trainer(table, format, unfit="drop")
