"""ToolLLaMA samples: equal to upstream's file, with every thought kept or reported as lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from toolrlef_data.columns import TOOLLLAMA
from toolrlef_data.publishing.exports.writing import export
from toolrlef_data.toolbench.toolllama import loses_thought, sample_name, system_text, to_conversation

Message = dict[str, Any]

CALL = "\nAction: tides\nAction Input: {}"
USER: Message = {"role": "user", "content": "When is high water?"}
RESULT: Message = {"role": "function", "name": "tides", "content": "at noon"}
AGAIN: Message = {"role": "user", "content": "Do something else.", "valid": False}


def _thought(content: str | None) -> Message:
    return {"role": "assistant", "content": content}


def _call(content: str | None = None, arguments: str = "{}") -> Message:
    return {"role": "assistant", "content": content, "function_call": {"name": "tides", "arguments": arguments}}


# Reason, messages, values of upstream's turns after the user's, values with keep_thought if different, whether a thought
# of the target is lost.
SAME = None
CASES: list[tuple[str, list[Message], list[str | None] | None, list[str] | None, bool]] = [
    ("null content", [_call()], [f"\nThought: {CALL}"], SAME, False),
    ("empty content", [_call("")], [f"\nThought: {CALL}"], SAME, False),
    ("content beside the call is ignored", [_call("a")], [f"\nThought: {CALL}"], [f"\nThought: a{CALL}"], True),
    ("a thought before its call", [_thought("a"), _call()], [f"\nThought: a{CALL}"], SAME, False),
    ("thought, thought, call: both, each on its line", [_thought("a"), _thought("b"), _call()], [f"\nThought: a\nThought: b{CALL}"], SAME, False),
    ("thought, diversity prompt, call: lost", [_thought("a"), AGAIN, _call()], [AGAIN["content"], f"\nThought: {CALL}"], [AGAIN["content"], f"\nThought: a{CALL}"], True),
    ("a thought after the prompt is kept", [AGAIN, _thought("a"), _call()], [AGAIN["content"], f"\nThought: a{CALL}"], SAME, False),
    ("one thought before and one after the prompt", [_thought("a"), AGAIN, _thought("b"), _call()], [AGAIN["content"], f"\nThought: b{CALL}"], [AGAIN["content"], f"\nThought: a\nThought: b{CALL}"], True),
    ("thought, then thought and call in one message: the second is lost", [_thought("a"), _call("b")], [f"\nThought: a{CALL}"], [f"\nThought: a\nThought: b{CALL}"], True),
    ("a null thought is an empty line", [_thought(None), _call()], [f"\nThought: {CALL}"], SAME, False),
    ("and stays before another thought", [_thought(""), _thought("a"), _call()], [f"\nThought: \nThought: a{CALL}"], [f"\nThought: a{CALL}"], False),
    ("an empty thought before the prompt is no loss", [_thought(""), AGAIN, _call()], [AGAIN["content"], f"\nThought: {CALL}"], SAME, False),
    ("an ordinary message also discards the thought", [_thought("a"), USER, _call()], [USER["content"], f"\nThought: {CALL}"], SAME, False),
    ("only the target's thought counts as lost", [_call("a"), RESULT, _call()], [f"\nThought: {CALL}", "at noon", f"\nThought: {CALL}"], [f"\nThought: a{CALL}", "at noon", f"\nThought: {CALL}"], False),
    ("an earlier call already has its thought", [_thought("a"), _call(), AGAIN, _call()], [f"\nThought: a{CALL}", AGAIN["content"], f"\nThought: {CALL}"], SAME, False),
    ("name and valid flag are omitted", [_call(), RESULT, AGAIN, _call()], [f"\nThought: {CALL}", "at noon", AGAIN["content"], f"\nThought: {CALL}"], SAME, False),
    ("a user's null content stays null", [{"role": "user", "content": None}, _call()], [None, f"\nThought: {CALL}"], SAME, False),
    ("arguments are raw text", [_call(arguments='{"a":1,\n "a": é')], ['\nThought: \nAction: tides\nAction Input: {"a":1,\n "a": é'], SAME, False),
    ("a null call is no call", [{**_thought("a"), "function_call": None}, _call()], [f"\nThought: a{CALL}"], SAME, False),
    ("a last message without a call yields no sample", [_call(), RESULT, _thought("a")], None, SAME, False),
    ("a single thought yields no sample", [_thought("a")], None, SAME, False),
    ("a last function message yields no sample", [_call(), RESULT], None, SAME, False),
    ("a last user message yields no sample", [_call(), AGAIN], None, SAME, False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("messages", "values", "kept_values", "is_lost"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_turns_with_and_without_kept_thoughts(
    messages: list[Message], values: list[str | None] | None, kept_values: list[str] | None, is_lost: bool
) -> None:
    for content_key in ("as it is", "missing"):  # variants of ToolBench omit null contents
        variant = [_without_null(message) for message in messages] if content_key == "missing" else messages
        turns, extended = (
            to_conversation([USER, *variant], []),
            to_conversation([USER, *variant], [], keep_thought=True),
        )
        turn_values = None if turns is None else [turn["value"] for turn in turns[1:]]
        assert turn_values == values
        assert (None if extended is None else [turn["value"] for turn in extended[1:]]) == (kept_values or values)
        assert loses_thought([USER, *variant]) is is_lost
        if turns is not None and extended is not None:
            roles = [
                message["role"] for message in variant if message["role"] != "assistant" or message.get("function_call")
            ]
            assert [turn["from"] for turn in turns[1:]] == [turn["from"] for turn in extended[1:]] == roles
            if is_lost:
                assert turns[-1] != extended[-1]


def test_no_messages_yield_no_sample() -> None:
    assert to_conversation([], []) is None
    assert not loses_thought([])


SENTENCE = "with a function call to actually excute your step."
FORMAT = " Your output should follow this format:\nThought:\nAction\nAction Input:\n"


@pytest.mark.parametrize(
    ("reason", "content", "start"),
    [
        ("after upstream's sentence", f"Think, {SENTENCE} Go.", f"Think, {SENTENCE}{FORMAT} Go."),
        ("at its end", SENTENCE, SENTENCE + FORMAT),
        ("without the sentence", "Think.", "Think."),
        (
            "spelt correctly",
            "Think, with a function call to actually execute your step.",
            "Think, with a function call to actually execute your step.",
        ),
        ("null", None, ""),
    ],
)
def test_the_system_message_has_output_format_and_functions(reason: str, content: str | None, start: str) -> None:
    # Python's repr: None and True, single quotes, escapes of unprintable characters.
    functions = [{"name": "tides", "optional": [], "strict": True, "default": None, "about": "it's é\u2028"}]
    printed = "[{'name': 'tides', 'optional': [], 'strict': True, 'default': None, 'about': \"it's é\\u2028\"}]"
    expected = f"{start}\nSpecifically, you have access to the following APIs: {printed}"
    assert system_text(content, functions) == expected
    turns = to_conversation([{"role": "system", "content": content}, USER, _call()], functions)
    assert turns is not None
    assert turns[0] == {"from": "system", "value": expected}


def test_the_name_counts_all_messages() -> None:
    assert sample_name([USER, AGAIN, _call()], "Why?") == "Step 2: Why?"


@pytest.mark.parametrize(("level", "count"), [("G1", 16), ("G2", 17)])
@pytest.mark.parametrize("omits_nulls", [False, True])
def test_the_file_equals_upstreams(shared: Path, tmp_path: Path, level: str, count: int, omits_nulls: bool) -> None:
    folder, reference = shared / "data/toolbench/answer" / f"{level}_answer", shared / "data/toolbench/reference"
    rows = list(_samples(folder, "DFS_woFilter_w2", omits_nulls))
    table = Dataset.from_list(rows, features=TOOLLLAMA)
    written = export(table, "toolllama", tmp_path / "train.json").read_bytes()
    assert len(rows) == count
    assert written == (reference / f"toollama_{level}_dfs.json").read_bytes()


def _samples(folder: Path, method: str, omits_nulls: bool) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.iterdir()):
        answer = json.loads(path.read_text(encoding="utf-8"))["answer_generation"]
        if method not in path.name or not answer["valid_data"]:
            continue
        for n, messages in enumerate(answer["train_messages"]):
            if omits_nulls:
                messages = [_without_null(message) for message in messages]
            turns = to_conversation(messages, answer["function"])
            if turns is not None:
                columns = {"id": f"{path.stem}#{n}", "query": answer["query"], "source_file": path.name}
                empty = dict.fromkeys(TOOLLLAMA)
                yield {**empty, **columns, "name": sample_name(messages, answer["query"]), "conversations": turns}


def _without_null(message: Message) -> Message:
    return {name: value for name, value in message.items() if value is not None}
