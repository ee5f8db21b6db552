"""ToolLLaMA's samples: upstream's file byte for byte, every thought accounted for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from toolrlef_data.columns import TOOLLLAMA
from toolrlef_data.publishing.exports import export
from toolrlef_data.toolbench.toolllama import conversations_of, lost_thought, name_of, system_text

Message = dict[str, Any]

CALL = "\nAction: tides\nAction Input: {}"
USER: Message = {"role": "user", "content": "When is high water?"}
RESULT: Message = {"role": "function", "name": "tides", "content": "at noon"}
AGAIN: Message = {"role": "user", "content": "Do something else.", "valid": False}


def _thought(content: str | None) -> Message:
    return {"role": "assistant", "content": content}


def _call(content: str | None = None, arguments: str = "{}") -> Message:
    return {"role": "assistant", "content": content, "function_call": {"name": "tides", "arguments": arguments}}


# Why, messages, upstream's turns without the user's; those with keep_thought where they differ; whether a thought of the
# target is lost.
SAME = None
CASES: list[tuple[str, list[Message], list[str | None] | None, list[str] | None, bool]] = [
    ("null content", [_call()], [f"\nThought: {CALL}"], SAME, False),
    ("empty content", [_call("")], [f"\nThought: {CALL}"], SAME, False),
    ("content beside the call is ignored", [_call("a")], [f"\nThought: {CALL}"], [f"\nThought: a{CALL}"], True),
    ("a thought waits for its call", [_thought("a"), _call()], [f"\nThought: a{CALL}"], SAME, False),
    ("thought, thought, call: both, each on its line", [_thought("a"), _thought("b"), _call()], [f"\nThought: a\nThought: b{CALL}"], SAME, False),
    ("thought, diversity prompt, call: lost", [_thought("a"), AGAIN, _call()], [AGAIN["content"], f"\nThought: {CALL}"], [AGAIN["content"], f"\nThought: a{CALL}"], True),
    ("a thought behind the prompt is not", [AGAIN, _thought("a"), _call()], [AGAIN["content"], f"\nThought: a{CALL}"], SAME, False),
    ("one before and one behind the prompt", [_thought("a"), AGAIN, _thought("b"), _call()], [AGAIN["content"], f"\nThought: b{CALL}"], [AGAIN["content"], f"\nThought: a\nThought: b{CALL}"], True),
    ("thought, then thought and call in one message: the second is lost", [_thought("a"), _call("b")], [f"\nThought: a{CALL}"], [f"\nThought: a\nThought: b{CALL}"], True),
    ("a thought without a text is a line", [_thought(None), _call()], [f"\nThought: {CALL}"], SAME, False),
    ("and stays one before another", [_thought(""), _thought("a"), _call()], [f"\nThought: \nThought: a{CALL}"], [f"\nThought: a{CALL}"], False),
    ("an empty one behind the prompt is no loss", [_thought(""), AGAIN, _call()], [AGAIN["content"], f"\nThought: {CALL}"], SAME, False),
    ("an ordinary message clears the thought, too", [_thought("a"), USER, _call()], [USER["content"], f"\nThought: {CALL}"], SAME, False),
    ("only the target's thought counts as lost", [_call("a"), RESULT, _call()], [f"\nThought: {CALL}", "at noon", f"\nThought: {CALL}"], [f"\nThought: a{CALL}", "at noon", f"\nThought: {CALL}"], False),
    ("a call between them keeps an older thought apart", [_thought("a"), _call(), AGAIN, _call()], [f"\nThought: a{CALL}", AGAIN["content"], f"\nThought: {CALL}"], SAME, False),
    ("name and valid flag are dropped", [_call(), RESULT, AGAIN, _call()], [f"\nThought: {CALL}", "at noon", AGAIN["content"], f"\nThought: {CALL}"], SAME, False),
    ("a user's null content stays null", [{"role": "user", "content": None}, _call()], [None, f"\nThought: {CALL}"], SAME, False),
    ("arguments are raw text", [_call(arguments='{"a":1,\n "a": é')], ['\nThought: \nAction: tides\nAction Input: {"a":1,\n "a": é'], SAME, False),
    ("a null call is none", [{**_thought("a"), "function_call": None}, _call()], [f"\nThought: a{CALL}"], SAME, False),
    ("a last message without a call is no sample", [_call(), RESULT, _thought("a")], None, SAME, False),
    ("nor a thought alone", [_thought("a")], None, SAME, False),
    ("nor a list that ends in a function's message", [_call(), RESULT], None, SAME, False),
    ("nor one that ends in a user's", [_call(), AGAIN], None, SAME, False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("messages", "values", "kept", "lost"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_turns_are_upstreams_and_kept_thoughts_ours(
    messages: list[Message], values: list[str | None] | None, kept: list[str] | None, lost: bool
) -> None:
    for content_key in ("as it is", "missing"):  # relatives of ToolBench leave out a content that is null
        own = [_without_null(message) for message in messages] if content_key == "missing" else messages
        turns, ours = conversations_of([USER, *own], []), conversations_of([USER, *own], [], keep_thought=True)
        found = None if turns is None else [turn["value"] for turn in turns[1:]]
        assert found == values
        assert (None if ours is None else [turn["value"] for turn in ours[1:]]) == (kept or values)
        assert lost_thought([USER, *own]) is lost
        if turns is not None and ours is not None:
            roles = [
                message["role"] for message in own if message["role"] != "assistant" or message.get("function_call")
            ]
            assert [turn["from"] for turn in turns[1:]] == [turn["from"] for turn in ours[1:]] == roles
            if lost:
                assert turns[-1] != ours[-1]


def test_no_messages_are_no_sample() -> None:
    assert conversations_of([], []) is None
    assert not lost_thought([])


SENTENCE = "with a function call to actually excute your step."
FORMAT = " Your output should follow this format:\nThought:\nAction\nAction Input:\n"


@pytest.mark.parametrize(
    ("reason", "content", "begin"),
    [
        ("behind upstream's sentence", f"Think, {SENTENCE} Go.", f"Think, {SENTENCE}{FORMAT} Go."),
        ("at its end", SENTENCE, SENTENCE + FORMAT),
        ("without the sentence", "Think.", "Think."),
        (
            "spelt right",
            "Think, with a function call to actually execute your step.",
            "Think, with a function call to actually execute your step.",
        ),
        ("null", None, ""),
    ],
)
def test_the_system_message_tells_the_form_and_the_functions(reason: str, content: str | None, begin: str) -> None:
    # As Python prints them: None and True, single quotes, escapes of what is not printable.
    functions = [{"name": "tides", "optional": [], "strict": True, "default": None, "about": "it's é\u2028"}]
    printed = "[{'name': 'tides', 'optional': [], 'strict': True, 'default': None, 'about': \"it's é\\u2028\"}]"
    expected = f"{begin}\nSpecifically, you have access to the following APIs: {printed}"
    assert system_text(content, functions) == expected
    turns = conversations_of([{"role": "system", "content": content}, USER, _call()], functions)
    assert turns is not None
    assert turns[0] == {"from": "system", "value": expected}


def test_the_name_counts_all_messages() -> None:
    assert name_of([USER, AGAIN, _call()], "Why?") == "Step 2: Why?"


@pytest.mark.parametrize(("level", "count"), [("G1", 16), ("G2", 17)])
@pytest.mark.parametrize("relative", [False, True])
def test_the_file_is_upstreams_byte_for_byte(
    shared: Path, tmp_path: Path, level: str, count: int, relative: bool
) -> None:
    folder, reference = shared / "data/toolbench/answer" / f"{level}_answer", shared / "data/toolbench/reference"
    rows = list(_samples(folder, "DFS_woFilter_w2", relative))
    table = Dataset.from_list(rows, features=TOOLLLAMA)
    written = export(table, "toolllama", tmp_path / "train.json").read_bytes()
    assert len(rows) == count
    assert written == (reference / f"toollama_{level}_dfs.json").read_bytes()


def _samples(folder: Path, method: str, relative: bool) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.iterdir()):
        answer = json.loads(path.read_text(encoding="utf-8"))["answer_generation"]
        if method not in path.name or not answer["valid_data"]:
            continue
        for n, messages in enumerate(answer["train_messages"]):
            if relative:
                messages = [_without_null(message) for message in messages]
            turns = conversations_of(messages, answer["function"])
            if turns is not None:
                known = {"id": f"{path.stem}#{n}", "query": answer["query"], "source_file": path.name}
                empty = dict.fromkeys(TOOLLLAMA)
                yield {**empty, **known, "name": name_of(messages, answer["query"]), "conversations": turns}


def _without_null(message: Message) -> Message:
    return {name: value for name, value in message.items() if value is not None}
