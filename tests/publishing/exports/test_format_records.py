"""The complete records of every export format: of small tables, each record is written out here."""

from __future__ import annotations

import itertools
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from toolrlef_data import EXPORTS, TOOLS, InputError, export, to_trainer, tool_schema
from toolrlef_data.columns import PAIRS, STAGE1, STAGE2, TRAJECTORIES
from toolrlef_data.publishing.exports.options import Options

Row = dict[str, Any]
SCHEMA = json.loads(tool_schema(TOOLS["calculator"]))
SYSTEM, USER = {"role": "system", "content": "Add."}, {"role": "user", "content": "3*19?"}
PROMPT: list[Row] = [SYSTEM, USER]
TEXTS = {
    "gold": "calculator(3*19)",
    "a": "It is 57.",
    "b": " It is 57.\n",
    "c": "It is 50.",
    "d": "It is 3.",
    "e": None,
}
SCORES = {"gold": 20.0, "a": 15.0, "b": 15.0, "c": 10.0, "d": 0.0, "e": 5.0}
CORRECT = {"gold": True, "a": True, "b": False, "c": None, "d": False, "e": None}
SHARED = {"id": "r", "task": "math", "dataset": "x", "instruction": "Add.", "input": "3*19?", "answers": ["57"]}
RANKED = ("gold", "a", "c", "d")  # `b` has the text of `a`, and `e` has none
STEPS = list(itertools.pairwise(RANKED))


def table(features: Any, **row: Any) -> Dataset:
    return Dataset.from_list([{**dict.fromkeys(features), **row}], features=features)


TABLES = {
    "stage1": table(STAGE1, **SHARED, output=TEXTS["gold"], uses_tool=True),
    "stage2": table(
        STAGE2, **SHARED, origin=list(TEXTS), responses=list(TEXTS.values()), scores=list(SCORES.values()),
        correct=list(CORRECT.values()),
    ),
}  # fmt: skip


def call(arguments: str) -> Row:
    """Return the message of the gold response with a native call."""
    value: Any = {"formula": "3*19"} if arguments == "object" else '{"formula": "3*19"}'
    function = {"name": "calculator", "arguments": value}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
    }


def reply(origin: str, arguments: str = "") -> Row:
    text = TEXTS[origin]
    return call(arguments) if arguments and origin == "gold" else {"role": "assistant", "content": text}


def pair(better: str, worse: str) -> Row:
    scores = {"score_chosen": SCORES[better], "score_rejected": SCORES[worse]}
    margin = (SCORES[better] - SCORES[worse]) / 20
    return {"margin": margin, **scores, "origin_chosen": better, "origin_rejected": worse, "id": "r"}


def turn(origin: str) -> Row:
    value = json.dumps({"name": "calculator", "arguments": {"formula": "3*19"}})
    return (
        {"from": "function_call", "value": value} if origin == "gold" else {"from": "gpt", "value": str(TEXTS[origin])}
    )


def records(format: str, kind: str, native: bool, pairs: str) -> list[Row] | None:
    """Return the records of a format; None if it has no such table or option."""
    chosen = {"best": [("gold", "d")], "adjacent": STEPS}[pairs]
    form = ("text" if format in ("openai", "openai_preference", "axolotl") else "object") if native else ""
    as_text = {"tools": json.dumps([SCHEMA])} if native else {}
    as_list: Row = {"tools": [SCHEMA]} if native else {}
    human: Row = {"conversations": [{"from": "human", "value": "3*19?"}], "system": "Add."}
    human |= {"tools": json.dumps([SCHEMA["function"]])}
    texts: Row = {"instruction": "Add.", "input": "3*19?"}
    prompt: Row = {"prompt": PROMPT}
    gold = reply("gold", form)
    if format == "trl_grpo":
        return None if native else [{**prompt, "answers": ["57"], "task": "math", "id": "r", "input": "3*19?"}]
    if kind == "stage1":
        return {
            "alpaca": None if native else [{**texts, "output": "calculator(3*19)"}],
            "axolotl": [{"messages": [*({**m, "train": False} for m in PROMPT), {**gold, "train": True}], "tools": as_list.get("tools", [])}],
            "llamafactory": [{**human, "conversations": [*human["conversations"], turn("gold")]} if native else {**texts, "output": "calculator(3*19)"}],
            "openai": [{"messages": [*PROMPT, {**gold, "weight": 1}], **as_list}],
            "trl": [{**prompt, "completion": [gold], **as_text}],
        }.get(format)  # fmt: skip
    sides: list[Row] = [{"chosen": [reply(a, form)], "rejected": [reply(b, form)]} for a, b in chosen]
    preference = [{**prompt, **side, **as_text, **pair(*names)} for side, names in zip(sides, chosen, strict=True)]
    turns: list[Row] = [{"chosen": turn(a), "rejected": turn(b)} for a, b in chosen]
    plain: list[Row] = [{"chosen": TEXTS[a], "rejected": TEXTS[b]} for a, b in chosen]
    factory = zip(turns if native else plain, chosen, strict=True)
    graded = [name for name in RANKED if CORRECT[name] is not None]
    origins: Row = {"origin_reference": "gold", "origin_chosen": "a", "origin_rejected": "d"}
    triple: Row = {"reference": [gold], "chosen": [reply("a")], "rejected": [reply("d")]}
    lists: Row = {"responses": [[reply(name)] for name in RANKED], "scores": [SCORES[name] for name in RANKED]}
    return {
        "llamafactory": [{**(human if native else texts), **side, **pair(*names)} for side, names in factory],
        "openai_preference": [{"input": {"messages": PROMPT, **as_list}, "preferred_output": side["chosen"], "non_preferred_output": side["rejected"]} for side in sides],
        "rrhf": None if native else [{"query": PROMPT, **lists, "origins": list(RANKED), "id": "r"}],
        "trl_kto": [{**prompt, "completion": [reply(name, form)], **as_text, "label": CORRECT[name], "origin": name, "id": "r"} for name in graded],
        "trl_preference": preference,
        "trl_reward": preference,
        "trl_tpo": [{**prompt, **triple, **as_text, **origins, "id": "r"}],
    }.get(format)  # fmt: skip


def written(data: Dataset, format: str, path: Path, **options: Any) -> list[Row]:
    text = export(data, format, path, unfit="drop", **options).read_text("utf-8")
    return json.loads(text) if format == "toolllama" else [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("format", sorted(EXPORTS))
def test_every_field_of_the_records_of_stage_1_and_2(format: str, tmp_path: Path) -> None:
    count = 0
    for kind, data in TABLES.items():
        specs = [spec for spec in EXPORTS[format] if set(spec.columns) <= set(data.column_names)]
        for native in (False, True) if specs and "calls" in specs[0].options else (False,):
            for pairs in ("best", "adjacent") if specs and "pairs" in specs[0].options else ("best",):
                expected = records(format, kind, native, pairs) if specs else None
                assert (expected is not None) == bool(specs), "every format is written out above"
                given = {"calls": "native" if native else None, "pairs": "adjacent" if pairs == "adjacent" else None}
                if expected is not None:
                    path = tmp_path / f"{kind}.jsonl"
                    assert written(data, format, path, **given) == expected, (kind, native, pairs)
                    count += 1
    assert count or format == "toolllama"


PING = {"name": "ping", "arguments": '{"host": "a"}'}
OBJECTS = {**PING, "arguments": {"host": "a"}}
TOOL = {"type": "function", "function": {"name": "ping", "description": "Ask a host.", "parameters": {}}}


def message(role: str, content: str | None, train: bool, number: int = 0) -> Row:
    fields: Row = {
        "role": role,
        "content": content,
        "name": None,
        "tool_call_id": None,
        "tool_calls": None,
        "train": train,
    }
    if role == "tool":
        fields |= {"name": "ping", "tool_call_id": f"call_{number}"}
    elif number:
        fields["tool_calls"] = [{"id": f"call_{number}", "type": "function", "function": PING}]
    return fields


def plain(part: Row, arguments: str, **fields: Any) -> Row:
    """Return a message as the formats have it: no nulls, no flag, and "" for a missing content."""
    found = {name: value for name, value in part.items() if value is not None and name != "train"}
    found = {**found, "content": part["content"] or ""}
    for entry in found.get("tool_calls", ()):
        found["tool_calls"] = [{**entry, "function": OBJECTS if arguments == "object" else PING}]
    return {**found, **fields}


MERGED = [
    message("system", "Use functions.", False), message("user", "Is a up?", False), message("assistant", None, True, 1),
    message("tool", "no", False, 1), message("assistant", "", False, 2), message("tool", "yes", False, 2),
    message("assistant", None, True, 3),
]  # fmt: skip
SHARED_STEP = {
    "id": "f#1+3",
    "task": "toolbench",
    "dataset": "toolbench",
    "query": "Is a up?",
    "tools": json.dumps([TOOL]),
}
SAMPLE = table(TRAJECTORIES, **SHARED_STEP, messages=MERGED, steps=[1, 3], layout="merged")
CHOSEN, REJECTED = message("assistant", None, True, 2), message("assistant", "I stop.", False)
PAIR = table(PAIRS, **SHARED_STEP, prompt=MERGED[:4], chosen=[CHOSEN], rejected=[REJECTED])
TURNS = [
    {"from": "human", "value": "Is a up?"}, {"from": "function_call", "value": json.dumps(OBJECTS)},
    {"from": "observation", "value": "no"}, {"from": "function_call", "value": json.dumps(OBJECTS)},
    {"from": "observation", "value": "yes"}, {"from": "function_call", "value": json.dumps(OBJECTS)},
]  # fmt: skip


def test_every_field_of_the_records_of_a_merged_sample(tmp_path: Path) -> None:
    """Two of three assistant messages are trained: one record each, or one record with flags."""
    texts, objects = ([plain(part, form) for part in MERGED] for form in ("text", "object"))
    flags = {2: 1, 4: 0, 6: 1}
    no_content = [{k: v for k, v in part.items() if k != "content" or n not in (2, 6)} for n, part in enumerate(texts)]
    rest = {"system": "Use functions.", "tools": json.dumps([TOOL["function"]])}
    expected: dict[str, list[Row]] = {
        "axolotl": [{"messages": [{**part, "train": bool(flags.get(n))} for n, part in enumerate(texts)], "tools": [TOOL]}],
        "openai": [{"messages": [{**part, **({"weight": flags[n]} if n in flags else {})} for n, part in enumerate(no_content)], "tools": [TOOL]}],
        "trl": [{"prompt": objects[:n], "completion": [objects[n]], "tools": json.dumps([TOOL])} for n in (2, 6)],
        "llamafactory": [{"conversations": TURNS[:n], **rest} for n in (2, 6)],
    }  # fmt: skip
    for name, found in expected.items():
        assert written(SAMPLE, name, tmp_path / "x.jsonl") == found, name
    as_text = [{"prompt": texts[:n], "completion": [texts[n]], "tools": json.dumps([TOOL])} for n in (2, 6)]
    assert written(SAMPLE, "trl", tmp_path / "x.jsonl", arguments="text") == as_text


def test_every_field_of_the_records_of_a_preference_pair(tmp_path: Path) -> None:
    sides = {"prompt": MERGED[:4], "chosen": [CHOSEN], "rejected": [REJECTED]}
    for form in ("object", "text"):
        expected = {side: [plain(part, form) for part in parts] for side, parts in sides.items()}
        for name in ("trl_preference", "trl_reward"):
            found = written(PAIR, name, tmp_path / "x.jsonl", arguments=form)
            assert found == [{**expected, "tools": json.dumps([TOOL])}]
    rest = {"system": "Use functions.", "tools": json.dumps([TOOL["function"]])}
    replies = {"chosen": TURNS[1], "rejected": {"from": "gpt", "value": "I stop."}}
    assert written(PAIR, "llamafactory", tmp_path / "x.jsonl") == [{"conversations": TURNS[:3], **rest, **replies}]


def test_a_conversation_without_a_system_message_loses_no_message(tmp_path: Path) -> None:
    sample = table(TRAJECTORIES, **SHARED_STEP, messages=MERGED[1:3], steps=[1], layout="split")
    (record,) = written(sample, "llamafactory", tmp_path / "x.jsonl")
    expected = {"conversations": TURNS[:2], "system": "", "tools": json.dumps([TOOL["function"]])}
    assert record == expected
    (record,) = written(sample, "trl", tmp_path / "x.jsonl")
    assert (record["prompt"], len(record["completion"])) == ([plain(MERGED[1], "object")], 1)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(field) for name, field in value.items() if field is not None}
    return [*map(without_nulls, value)] if isinstance(value, list) else value


def test_a_dataset_has_the_columns_and_rows_of_the_file(tmp_path: Path) -> None:
    """Of every format, with the last value of each option beside the defaults of the others."""
    checked = set()
    for name, specs in EXPORTS.items():
        for number, spec in enumerate(specs):
            tables = [data for data in (*TABLES.values(), SAMPLE, PAIR) if set(spec.columns) <= set(data.column_names)]
            others = {
                option: values[-1] for option, values in spec.options.items() if len(values) > 1 and option != "pairs"
            }
            chosen: list[dict[str, Any]] = [{}, *({option: value} for option, value in others.items())]
            for options in chosen:
                for data in tables[:1]:
                    rows = written(data, name, tmp_path / "x.jsonl", **options)
                    made = to_trainer(data, name, unfit="drop", **options)
                    assert made.column_names == list(spec.features(Options(**{**defaults(spec), **options})))
                    assert without_nulls(made.to_list()) == without_nulls(rows), (name, options)
                    assert set(rows[0]) <= set(made.column_names)
                    checked.add((name, number))
    assert {name for name, _ in checked} == set(EXPORTS) - {"toolllama"}
    assert len(checked) == 20


def defaults(spec: Any) -> Row:
    return {name: values[0] for name, values in spec.options.items() if values}


@pytest.mark.parametrize(
    ("results", "is_fit"), [([1], True), ([], True), ([1, 1], False), ([2], False), ([2, 1], False)]
)
def test_each_call_has_at_most_one_result_which_follows_it(results: list[int], is_fit: bool, tmp_path: Path) -> None:
    messages = [*MERGED[1:3], *(message("tool", "yes", False, n) for n in results), MERGED[-1]]
    sample = table(TRAJECTORIES, **SHARED_STEP, messages=messages, steps=[1, 2], layout="merged")
    for name in ("trl", "axolotl"):
        if is_fit:
            assert written(sample, name, tmp_path / f"{name}.jsonl")
        else:
            with pytest.raises(InputError, match="unpaired_call"):
                export(sample, name, tmp_path / f"{name}.jsonl")


@pytest.mark.parametrize(("characters", "level"), [(1000, logging.INFO), (2900, logging.INFO), (3200, logging.WARNING)])
def test_a_record_that_trl_would_cut_is_warned_of(
    characters: int, level: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """TRL cuts at 1,024 tokens, which have 3 characters or more; other trainers have other limits."""
    caplog.set_level(logging.INFO, "toolrlef_data")
    data = table(STAGE1, **SHARED, output="x" * characters)
    for name, expected in (("trl", level), ("alpaca", logging.INFO)):
        export(data, name, tmp_path / "x.jsonl")
        assert (caplog.records[-1].levelno, "characters" in caplog.records[-1].message) == (expected, True)
