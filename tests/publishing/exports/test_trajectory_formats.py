"""Exports: every format preserves all histories and targets, and trains flagged messages only."""

from __future__ import annotations

import json
import re
import stat
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, load_dataset

from toolrlef_data.columns import DROPPED, PAIRS, QUESTIONS, TOOLLLAMA, TRAJECTORIES
from toolrlef_data.publishing.exports.formats import EXPORTS
from toolrlef_data.publishing.exports.trainer_table import to_trainer
from toolrlef_data.publishing.exports.writing import export
from toolrlef_data.records import InputError, MissingColumns, UnknownName
from toolrlef_data.toolbench.messages import template_messages

Message = dict[str, Any]
Pair = tuple[list[Message], Message, list[Any]]

TIDES = {
    "name": "tides",
    "parameters": {"type": "object", "properties": {"day": {"type": "string", "example_value": 3}}},
}
FINISH = {"name": "Finish", "parameters": {"type": "object", "properties": {}, "required": []}}
TOOLS = json.dumps([TIDES, FINISH])
WRAPPED = [{"type": "function", "function": TIDES}, {"type": "function", "function": FINISH}]
HARD = [
    "",
    " ",
    'She said "no"\\ and \'so\'',
    "line\nline\r\n\ttab",
    "\x00\x01\x1b\x7f\x85",
    "above\u2028below\u2029",
    "água, вода, 水, 🌊, e\u0301",
    "</s><unk>\nAssistant:",
    '[\n    {"a": 1},\n    ]',
]  # fmt: skip
REPLIES = [text for text in HARD if text.strip()]  # an empty reply is no target
TEXT_FORMATS = ["axolotl", "openai", "trl"]


def _message(role: str, content: str | None = None, train: bool | None = False, **fields: Any) -> Message:
    empty = {"name": None, "tool_call_id": None, "tool_calls": None}
    return {"role": role, "content": content, **empty, "train": train, **fields}


def _call(n: int, content: str | None = None, train: bool | None = False, arguments: str = '{"day": 1}') -> Message:
    function = {"name": "tides", "arguments": arguments}
    return _message(
        "assistant", content, train, tool_calls=[{"id": f"call_{n}", "type": "function", "function": function}]
    )


def _result(n: int, content: str) -> Message:
    return _message("tool", content, name="tides", tool_call_id=f"call_{n}")


def _row(messages: list[Message], tools: str | None = TOOLS, **fields: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(TRAJECTORIES),
        "id": "t-1",
        "task": "toolbench",
        "messages": messages,
        "tools": tools,
        **fields,
    }


def _trajectory(random: Random, layout: str) -> list[Message]:
    """Return a sequence of calls in which the last message (split) or a random selection (merged) is trained."""
    messages = [_message("system", "Rules."), _message("user", random.choice(HARD))]
    for n in range(1, random.randint(2, 5)):
        if random.random() < 0.3:
            messages.append(_message("user", "Something else!"))
        arguments = json.dumps({"day": random.choice(HARD)}, ensure_ascii=random.random() < 0.5)
        messages += [_call(n, random.choice([None, *HARD]), arguments=arguments), _result(n, random.choice(HARD))]
    messages.append(_call(n + 1) if random.random() < 0.7 else _message("assistant", random.choice(REPLIES)))
    messages[-1]["train"] = True
    if layout == "merged":
        for message in messages[:-1]:
            message["train"] = message["role"] == "assistant" and random.random() < 0.5
        messages[-1]["train"] = random.random() < 0.5 or not any(message["train"] for message in messages[:-1])
    return messages


def _plain(message: Any) -> Message:
    """Return a message without training flags and null values; missing content is empty."""
    fields = {name: value for name, value in message.items() if value is not None and name not in ("train", "weight")}
    return {"content": "", **fields}


def _parsed(message: Message) -> Message:
    if "tool_calls" not in message:
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def _pairs(messages: list[Message], tools: list[Any], objects: bool = False) -> list[Pair]:
    plain = [_parsed(_plain(message)) if objects else _plain(message) for message in messages]
    return [(plain[:n], plain[n], tools) for n, message in enumerate(messages) if message["train"]]


def _read(format: str, path: Path) -> Iterator[Pair]:
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        record = json.loads(line)
        messages = [*record["prompt"], *record["completion"]] if format == "trl" else record["messages"]
        assert all("content" in message for message in messages) or format == "openai"
        if format == "trl":
            [target] = record["completion"]
            assert set(record) == {"prompt", "completion", "tools"}
            yield [_plain(message) for message in record["prompt"]], _plain(target), json.loads(record["tools"])
            continue
        for message in record["messages"]:
            assert None not in message.values()
            if format == "axolotl":
                assert isinstance(message["train"], bool)
            else:
                assert message.get("weight") in ((0, 1) if message["role"] == "assistant" else (None,))
                message["train"] = message.get("weight") == 1
        yield from _pairs(record["messages"], record.get("tools", []))


@pytest.mark.parametrize("layout", ["split", "merged"])
@pytest.mark.parametrize(
    ("format", "arguments"), [("axolotl", None), ("openai", None), ("trl", None), ("trl", "text"), ("trl", "object")]
)
def test_formats_preserve_every_history_and_target(
    tmp_path: Path, format: str, arguments: str | None, layout: str
) -> None:
    random = Random(f"{format} {layout}")
    rows = [_row(_trajectory(random, layout), random.choice([TOOLS, "[]"]), id=f"t-{n}") for n in range(40)]
    table = Dataset.from_list(rows, features=TRAJECTORIES)
    path = export(table, format, tmp_path / "train.jsonl", arguments=arguments)
    objects = format == "trl" and arguments != "text"
    expected = [
        pair for row in rows for pair in _pairs(row["messages"], WRAPPED if row["tools"] == TOOLS else [], objects)
    ]
    assert list(_read(format, path)) == expected


def test_format_preserves_pairs(tmp_path: Path) -> None:
    random = Random("pairs")
    rows: list[dict[str, Any]] = []
    for _ in range(20):
        *prompt, chosen = _trajectory(random, "split")
        row = {
            "id": "p",
            "prompt": prompt,
            "chosen": [chosen],
            "rejected": [_call(9, random.choice(HARD))],
            "tools": TOOLS,
        }
        rows.append({**dict.fromkeys(PAIRS), **row})
    sides = ("prompt", "chosen", "rejected")
    for arguments in (None, "text"):
        table = Dataset.from_list(rows, features=PAIRS)
        path = export(table, "trl_preference", tmp_path / "pairs.jsonl", arguments=arguments)
        tools = json.dumps(WRAPPED)
        expected: list[dict[str, Any]] = [
            {**{side: [_plain(m) for m in row[side]] for side in sides}, "tools": tools} for row in rows
        ]
        if arguments is None:
            expected = [
                {name: [_parsed(m) for m in value] if name in sides else value for name, value in row.items()}
                for row in expected
            ]
        assert [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]] == expected


def test_complete_lines(tmp_path: Path) -> None:
    messages = [_message("user", "When?"), _call(1, "Look.", True), _result(1, ""), _call(1), _result(1, ""), _message("assistant", "1", True)]  # fmt: skip
    table = Dataset.from_list([_row(messages, json.dumps([FINISH]))], features=TRAJECTORIES)
    call = '"tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "tides", "arguments": %s}}]'
    user, look = '{"role": "user", "content": "When?"%s}', '{"role": "assistant", "content": "Look.", ' + call + "%s}"
    empty, bare = '{"role": "assistant", "content": "", ' + call + "%s}", '{"role": "assistant", ' + call + "%s}"
    result = '{"role": "tool", "content": "", "name": "tides", "tool_call_id": "call_1"%s}'
    done = '{"role": "assistant", "content": "1"%s}'
    tools = '"tools": [{"type": "function", "function": {"name": "Finish", "parameters": {"type": "object", "properties": {}, "required": []}}}]'
    tools_text = '"tools": ' + json.dumps(tools.split(" ", 1)[1])
    text, parsed = '"{\\"day\\": 1}"', '{"day": 1}'
    no, yes, one, zero = ', "train": false', ', "train": true', ', "weight": 1', ', "weight": 0'
    expected = {
        "axolotl": [
            f'{{"messages": [{user % no}, {look % (text, yes)}, {result % no}, {empty % (text, no)}, {result % no}, {done % yes}], {tools}}}'
        ],
        "openai": [
            f'{{"messages": [{user % ""}, {look % (text, one)}, {result % ""}, {bare % (text, zero)}, {result % ""}, {done % one}], {tools}}}'
        ],
        "trl": [
            f'{{"prompt": [{user % ""}], "completion": [{look % (parsed, "")}], {tools_text}}}',
            f'{{"prompt": [{user % ""}, {look % (parsed, "")}, {result % ""}, {empty % (parsed, "")}, {result % ""}], "completion": [{done % ""}], {tools_text}}}',
        ],
    }
    for name, lines in expected.items():
        written = export(table, name, tmp_path / name).read_text(encoding="utf-8")
        assert written == "".join(f"{line}\n" for line in lines)
    written = export(table, "trl", tmp_path / "trl", arguments="text").read_text(encoding="utf-8")
    assert written == "".join(f"{line}\n" for line in expected["trl"]).replace(
        f'"arguments": {parsed}', f'"arguments": {text}'
    )


def test_wrapped_tools_are_unchanged_and_openai_omits_empty_lists(tmp_path: Path) -> None:
    messages = [_message("user", "Hi"), _message("assistant", "Yes?", True)]
    rows = [_row(messages, json.dumps(WRAPPED)), _row(messages, "[]"), _row(messages, None)]
    table = Dataset.from_list(rows, features=TRAJECTORIES)
    for name, tools in [
        ("trl", [WRAPPED, [], []]),
        ("axolotl", [WRAPPED, [], []]),
        ("openai", [WRAPPED, None, None]),
    ]:
        lines = export(table, name, tmp_path / name).read_text(encoding="utf-8").splitlines()
        found = [json.loads(line).get("tools") for line in lines]
        assert [json.loads(value) if isinstance(value, str) else value for value in found] == tools


def test_datasets_loads_the_written_lines(tmp_path: Path) -> None:
    random = Random("load")
    rows = [_row(_trajectory(random, "merged"), random.choice([TOOLS, json.dumps([FINISH])])) for _ in range(10)]
    mixed = ['{}', '{"day": 1}', '{"day": "x", "at": [1, "a", null]}', '{"deep": {"day": [{"a": 1}, {"b": 2.5}]}}', '{"day": null}']  # fmt: skip
    rows += [_row([_message("user", "Hi"), _call(1, train=True, arguments=text)]) for text in mixed]
    path = export(Dataset.from_list(rows, features=TRAJECTORIES), "trl", tmp_path / "train.jsonl")
    loaded = load_dataset("json", data_files=str(path), split="train")
    written = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    for row, line in zip(loaded, written, strict=True):
        for side in ("prompt", "completion"):
            assert [_plain(message) for message in row[side]] == [_plain(message) for message in line[side]]
        assert row["tools"] == line["tools"]


@pytest.mark.parametrize("count", [0, 1, 40])
def test_toolllama_file_equals_json_dump(tmp_path: Path, count: int) -> None:
    rows = [_conversations(HARD[n % len(HARD)], None if n == 7 else "x" * n * 10_000) for n in range(count)]
    columns = {name: [row[name] for row in rows] for name in TOOLLLAMA}
    path = export(Dataset.from_dict(columns, features=TOOLLLAMA), "toolllama", tmp_path / "train.json")
    records = [{"id": row["name"], "conversations": row["conversations"]} for row in rows]
    assert path.read_bytes() == json.dumps(records, indent=4, ensure_ascii=False).encode()


def _conversations(text: str, reply: str | None = "") -> dict[str, Any]:
    turns = [{"from": "user", "value": text}, {"from": "assistant", "value": reply}, {"from": text, "value": ""}]
    return {**dict.fromkeys(TOOLLLAMA), "name": f"Step 1: {text}", "conversations": turns if text else []}


def test_records_have_the_order_of_the_table(tmp_path: Path) -> None:
    table = Dataset.from_list([_conversations(str(n)) for n in range(50)], features=TOOLLLAMA).shuffle(seed=3)
    records = json.loads(export(table, "toolllama", tmp_path / "train.json").read_text(encoding="utf-8"))
    assert [record["id"] for record in records] == table["name"][:]


GOOD = [_message("user", "Hi"), _call(1, train=True)]
SURROGATE = json.dumps([{**TIDES, "description": "\ud83c"}])
# (drop reason, formats, messages, tools) of rows that do not fit.
UNFIT = [
    ("no_target", TEXT_FORMATS, [_message("user", "Hi"), _call(1)], TOOLS),
    ("no_target", TEXT_FORMATS, [], TOOLS),
    ("no_flag", TEXT_FORMATS, [_message("user", "Hi", None), _call(1, train=True)], TOOLS),
    ("no_flag", TEXT_FORMATS, [_message("user", "Hi"), _call(1, train=None), _result(1, ""), _call(2, train=True)], TOOLS),
    ("not_assistant", TEXT_FORMATS, [_message("user", "Hi", True), _call(1, train=True)], TOOLS),
    ("not_assistant", TEXT_FORMATS, [_call(1), {**_result(1, ""), "train": True}], TOOLS),
    ("no_prompt", ["trl"], [_call(1, train=True)], TOOLS),
    ("bad_arguments", ["axolotl", "trl"], [_message("user", "Hi"), _call(1, arguments="{day"), _result(1, ""), _call(2, train=True)], TOOLS),
    ("bad_arguments", ["axolotl", "trl"], [_message("user", "Hi"), _call(1, train=True, arguments="")], TOOLS),
    ("bad_arguments", ["trl"], [_message("user", "Hi"), _call(1, train=True, arguments="[1]")], TOOLS),
    ("unpaired_call", TEXT_FORMATS, [_message("user", "Hi"), _call(1), _result(1, "a"), _result(1, "b"), _call(2, train=True)], TOOLS),
    ("unpaired_call", TEXT_FORMATS, [_message("user", "Hi"), _call(1), {**_result(1, "a"), "tool_call_id": None}, _call(2, train=True)], TOOLS),
    ("unpaired_call", TEXT_FORMATS, [_message("user", "Hi"), _call(1), _result(2, "a"), _call(2, train=True)], TOOLS),
    ("unpaired_call", ["openai"], [_message("user", "Hi"), _call(1), _message("user", "And?"), _call(2, train=True)], TOOLS),
    ("bad_tools", TEXT_FORMATS, GOOD, "[{"),
    ("bad_tools", TEXT_FORMATS, GOOD, "{}"),
    ("bad_tools", TEXT_FORMATS, GOOD, '["tides"]'),
    ("bad_tools", TEXT_FORMATS, GOOD, '[{"description": "no name"}]'),
    ("bad_tools", TEXT_FORMATS, GOOD, "[" * 100_000),
    ("not_json", TEXT_FORMATS, GOOD, '[{"name": "tides", "default": NaN}]'),
    ("not_unicode", TEXT_FORMATS, GOOD, SURROGATE),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "formats", "messages", "tools"), UNFIT)
def test_unfit_rows_are_refused_or_dropped(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    reason: str,
    formats: list[str],
    messages: list[Message],
    tools: str,
) -> None:
    # More than one batch of fitting rows is written before the unfit row.
    rows = [_row(GOOD, id=f"t-{n}") for n in range(40)] + [_row(messages, tools, id="t-bad"), _row(GOOD)]
    table = Dataset.from_list(rows, features=TRAJECTORIES)
    for name in formats:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("old", encoding="utf-8")
        with pytest.raises(InputError, match=rf"t-bad.*{name}.*{reason}.*unfit='drop'"):
            export(table, name, path)
        assert path.read_text(encoding="utf-8") == "old"
        assert len(list(_read(name, export(table, name, path, unfit="drop")))) == 41
        ledger = tmp_path / f"{name}.jsonl.dropped.jsonl"
        [drop] = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
        assert list(drop) == list(DROPPED)
        assert [drop[column] for column in ("id", "stage", "reason")] == ["t-bad", f"export_{name}", reason]
        assert drop["detail"]
        assert "1 of 42 rows" in caplog.text
        export(table.select(range(40)), name, path)
        assert not ledger.exists()  # the old ledger described the replaced file
    for name in set(TEXT_FORMATS) - set(formats):
        export(table, name, tmp_path / name)
    assert not list(tmp_path.glob("tmp*"))


@pytest.mark.parametrize("arguments", ["{", "", "[1]", '"text"', "null", '{"a": NaN}', '{"a": 1, "a": 2}'])
def test_non_object_arguments_fit_only_as_text(tmp_path: Path, arguments: str) -> None:
    """`tokenise` passes the same arguments to a template as text."""
    messages = [_message("user", "Hi"), _call(1, train=True, arguments=arguments)]
    table = Dataset.from_list([_row(messages)], features=TRAJECTORIES)
    with pytest.raises(InputError, match=r'bad_arguments.*arguments="text" exports them'):
        export(table, "trl", tmp_path / "train.jsonl")
    pair = {**dict.fromkeys(PAIRS), "prompt": messages[:1], "chosen": messages[1:], "rejected": [_call(1)]}
    with pytest.raises(InputError, match=r'bad_arguments.*arguments="text" exports them'):
        export(Dataset.from_list([pair], features=PAIRS), "trl_preference", tmp_path / "pairs.jsonl")
    [(_, target, _)] = _read("trl", export(table, "trl", tmp_path / "train.jsonl", arguments="text"))
    assert template_messages([messages[1]])[0]["tool_calls"][0]["function"]["arguments"] == arguments
    assert target["tool_calls"][0]["function"]["arguments"] == arguments


@pytest.mark.parametrize(
    ("reason", "changed"),
    [
        ("no_prompt", {"prompt": []}),
        ("no_reply", {"chosen": []}),
        ("no_reply", {"rejected": []}),
        ("not_assistant", {"rejected": [_call(2), _result(2, "no"), _call(3)]}),  # the loss would cover the tool result
    ],
)
def test_pair_that_would_train_other_roles_is_refused(tmp_path: Path, reason: str, changed: dict[str, Any]) -> None:
    row = {**dict.fromkeys(PAIRS), "prompt": [_message("user", "Hi")], "chosen": [_call(1)], "rejected": [_call(2)]}
    table = Dataset.from_list([row, {**row, **changed}], features=PAIRS)
    with pytest.raises(InputError, match=f"row 1 .*{reason}"):
        export(table, "trl_preference", tmp_path / "pairs.jsonl")


def test_no_file_is_written_if_no_row_fits(tmp_path: Path) -> None:
    table = Dataset.from_list([_row([_message("user", "Hi")])] * 3, features=TRAJECTORIES)
    with pytest.raises(InputError, match="none of the rows fits"):
        export(table, "openai", tmp_path / "train.jsonl", unfit="drop")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="none of the rows fits"):
        to_trainer(table, "openai", unfit="drop")


def test_several_calls_of_a_turn_are_a_list(tmp_path: Path) -> None:
    both = [*_call(1)["tool_calls"], *_call(2, arguments='{"day": 2}')["tool_calls"]]
    messages = [_message("user", "Tides?"), _message("assistant", "", train=True, tool_calls=both)]
    table = Dataset.from_list([_row(messages)], features=TRAJECTORIES)
    [line] = export(table, "llamafactory", tmp_path / "x.jsonl").read_text(encoding="utf-8").splitlines()
    turn = json.loads(line)["conversations"][1]
    assert [call["arguments"] for call in json.loads(turn["value"])] == [{"day": 1}, {"day": 2}]


@pytest.mark.parametrize(
    ("features", "fitting"),
    [
        (TRAJECTORIES, ["axolotl", "llamafactory", "openai", "trl"]),
        (TOOLLLAMA, ["toolllama"]),
        (PAIRS, ["llamafactory", "trl_preference", "trl_reward"]),
        (QUESTIONS, []),
    ],
)
def test_error_for_a_wrong_table_lists_fitting_formats(tmp_path: Path, features: Any, fitting: list[str]) -> None:
    table = Dataset.from_dict({name: [] for name in features}, features=features)
    for name in EXPORTS:
        if name in fitting:
            text = export(table, name, tmp_path / name).read_text(encoding="utf-8")
            assert text == ("[]" if name == "toolllama" else "")
        else:
            with pytest.raises(MissingColumns, match=f"{name}.*fit it: {', '.join(fitting) or re.escape('(none)')}"):
                export(table, name, tmp_path / name)


def test_invalid_options_raise_before_writing(tmp_path: Path) -> None:
    table = Dataset.from_list([_row(GOOD)], features=TRAJECTORIES)
    path = tmp_path / "train.jsonl"
    with pytest.raises(
        UnknownName, match=r"format 'TRL'; choose from: alpaca, axolotl, llamafactory, openai, .*, trl, trl_grpo"
    ):
        export(table, "TRL", path)
    with pytest.raises(UnknownName, match="choose from: object, text"):
        export(table, "trl", path, arguments="dict")
    with pytest.raises(UnknownName, match="choose from: drop, refuse"):
        export(table, "trl", path, unfit="ignore")
    with pytest.raises(InputError, match=r"openai.*arguments as text"):
        export(table, "openai", path, arguments="object")
    with pytest.raises(InputError, match="DatasetDict: pass one of its splits"):
        export(DatasetDict(train=table), "trl", path)
    with pytest.raises(InputError, match="folder"):
        export(table, "trl", tmp_path)
    assert not list(tmp_path.iterdir())


def test_link_is_kept_and_file_mode_is_the_default(tmp_path: Path) -> None:
    reference = tmp_path / "reference"
    reference.touch()
    (tmp_path / "link").symlink_to(tmp_path / "below" / "train.jsonl")
    table = Dataset.from_list([_row(GOOD)], features=TRAJECTORIES)
    path = export(table, "trl", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert path == tmp_path / "below" / "train.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(reference.stat().st_mode)


def test_memory_is_independent_of_the_table_size(tmp_path: Path) -> None:
    rows = [_conversations("x" * 50_000)] * 100
    table = Dataset.from_list(rows, features=TOOLLLAMA)
    tracemalloc.start()
    try:
        path = export(table, "toolllama", tmp_path / "train.json")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 10_000_000
    assert peak < 6_000_000
