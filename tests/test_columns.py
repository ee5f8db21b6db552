"""Tables of earlier versions: the columns and fields that they lack, and those that had another name."""

from __future__ import annotations

from typing import Any

from datasets import Features, List, Value

from toolrlef_data.columns import (
    BOOL,
    LATER_FIELDS,
    RESPONSE,
    STAGE1,
    STAGE2,
    STAGE2_LATER,
    STRING,
    completed,
    renamed_columns,
    responders_of,
)


def without(features: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: feature for name, feature in features.items() if name not in names}


OLD = without(RESPONSE, "arguments", "tool_error_detail")


def test_what_earlier_versions_lack() -> None:
    assert frozenset({"arguments", "tool_error_detail"}) == LATER_FIELDS
    assert frozenset({"instruction", "input", "correct", "finish_reasons", "error_details"}) == STAGE2_LATER
    response = List(RESPONSE)
    for old in (OLD, without(RESPONSE, "arguments"), without(RESPONSE, "tool_error_detail"), RESPONSE):
        assert completed(Features(a=old, b=List(old), c=List(old, length=4))) == Features(
            a=RESPONSE, b=response, c=List(RESPONSE, length=4)
        )
    others = Features(a=without(RESPONSE, "text"), b={**OLD, "mine": STRING}, c=List({"text": STRING}), d=List(STRING))
    assert completed(others) == others, "other structs are not those of a response"
    for n in range(len(STAGE2_LATER) + 1):
        lacking = sorted(STAGE2_LATER)[:n]
        found = completed(Features(**without(STAGE2, *lacking), mine=STRING))
        assert found == Features(**STAGE2, mine=STRING)
        assert list(found) == [*(name for name in STAGE2 if name not in lacking), "mine"] + [
            name for name in STAGE2 if name in lacking
        ]
    other = Features({**without(STAGE2, "input"), "correct": List(STRING)})
    assert completed(other) == Features({**other, "input": STRING}), "a column of another type stays"
    some = Features(without(STAGE2, "rule", "correct"))
    assert completed(some) == some, "a table that lacks another column is no stage 2"


def test_columns_that_had_another_name() -> None:
    numbers = List(Value("int64"))
    both = {"chosen": "on_path", "chosen_steps": "on_path_steps"}
    assert renamed_columns(Features(chosen=BOOL, chosen_steps=numbers, id=STRING)) == both
    assert renamed_columns(Features(chosen_steps=numbers)) == {"chosen_steps": "on_path_steps"}
    assert renamed_columns(Features(chosen=STRING, chosen_steps=List(STRING))) == {}, "columns of another type"
    assert renamed_columns(Features(chosen=BOOL, on_path=BOOL, chosen_steps=numbers)) == {
        "chosen_steps": "on_path_steps"
    }


def test_responders_are_the_columns_of_responses() -> None:
    features = Features(**STAGE1, gold=RESPONSE, old=OLD, other={"text": STRING}, wide={**RESPONSE, "more": STRING})
    assert responders_of(Features(**features, last=without(RESPONSE, "arguments"))) == ["gold", "old", "last"]
    assert responders_of(Features(a=without(RESPONSE, "correct"), b=List(RESPONSE))) == []
