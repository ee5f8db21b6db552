"""Lengths and checks: the longest record is counted in tokens, and a template that trains less is detected."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_dataset

from tests.support.models import bytes_chat, tiny_llama
from toolrlef_data import InputError, export, load_source, render_prompt, to_trainer, trajectories
from toolrlef_data.columns import STAGE1, TRAJECTORIES
from toolrlef_data.publishing.exports.lengths import targets_of
from toolrlef_data.publishing.exports.messages import changed_number

CALLS = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}</s>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def stage1(*outputs: str) -> Dataset:
    rows = [
        {
            **dict.fromkeys(STAGE1),
            "id": f"r{n}",
            "task": "math",
            "instruction": "Add.",
            "input": "1+1",
            "output": output,
        }
        for n, output in enumerate(outputs)
    ]
    return Dataset.from_list(rows, features=STAGE1)


def chat_model(folder: Path, template: str | None = None) -> str:
    bytes_chat(folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return str(folder)


def test_the_longest_record_is_logged_in_tokens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="toolrlef_data")
    model = chat_model(tmp_path / "model")
    table = stage1("2", "x" * 2000)
    prompt = render_prompt("alpaca", "Add.", "1+1")
    assert isinstance(prompt, str)
    # A byte is a token; the tokenizer adds one, and TRL ends a reply with another.
    length = len(prompt) + 2000 + 2
    export(table, "trl", tmp_path / "x", style="alpaca", tokenizer=model)
    assert (
        f"of 2 records has {length} tokens of {model}: train with max_length={length} or more; 1 exceed 1024"
        in caplog.text
    )
    assert caplog.records[-1].levelname == "WARNING"
    to_trainer(stage1("2"), "trl", tokenizer=model)
    assert caplog.records[-1].levelname == "INFO"
    assert "the longest of 1 records has 36 tokens" in caplog.text  # "system: Add.</s>user: 1+1</s>assistant: 2</s>"
    export(table, "alpaca", tmp_path / "x")
    assert "tokenizer= counts its tokens" in caplog.text


def test_a_template_that_omits_calls_is_detected(tmp_path: Path) -> None:
    table = stage1("calculator(1+1)", "It is 2.")
    plain = chat_model(tmp_path / "plain")
    for name in ("trl", "openai", "axolotl", "llamafactory"):
        with pytest.raises(
            InputError, match=r"template_without_tools: the chat template omits the function calculator \("
        ):
            export(table, name, tmp_path / "x", calls="native", check_with=plain)
        export(table, name, tmp_path / "x", check_with=plain)
    with_tools = "{% if tools %}{{ tools | tojson }}{% endif %}"
    no_calls = chat_model(tmp_path / "no_calls", with_tools + CALLS.replace("c.function | tojson", "''"))
    path = export(table, "trl", tmp_path / "x", calls="native", check_with=no_calls, unfit="drop")
    [drop] = [json.loads(line) for line in path.with_name("x.dropped.jsonl").read_text().splitlines()]
    assert (drop["id"], drop["reason"]) == ("r0", "template_without_calls")
    complete = chat_model(tmp_path / "complete", with_tools + CALLS)
    assert len(to_trainer(table, "trl", calls="native", check_with=complete)) == 2


def test_a_text_that_the_template_adds_to_a_reply_is_quoted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Templates of reasoning models put an empty block of reasoning before a reply without one."""
    table = stage1("calculator(1+1)", "It is 2.", "replyword")
    block = "{% if m.role == 'assistant' %}<think>\n\n</think>\n{% endif %}{{ m.content }}"
    tools = "{% if tools %}{{ tools | tojson }}{% endif %}"
    thinking = chat_model(tmp_path / "thinking", tools + CALLS.replace("{{ m.content }}", block))
    for calls in ("text", "native"):
        caplog.clear()
        to_trainer(table, "trl", calls=calls, check_with=thinking)
        assert r"puts '<think>\n\n</think>\n' before 3 of the replies" in caplog.text
    caplog.clear()
    to_trainer(table, "trl", check_with=chat_model(tmp_path / "plain"))
    assert "before" not in caplog.text


def test_a_text_that_the_tokenizer_loses_is_detected(tmp_path: Path) -> None:
    model = str(tiny_llama(tmp_path / "tiny", template=None))
    export(stage1("calculator(3*12)"), "trl", tmp_path / "x", style="completion", check_with=model)
    with pytest.raises(InputError, match="tokenizer_loses_text"):
        export(stage1("水"), "trl", tmp_path / "x", style="completion", check_with=model)


@pytest.mark.parametrize(
    ("value", "changed"),
    [
        ({"at": [1, 2.5, "north", None, True]}, None),
        ({"at": {"lat": 48.85837009999999}}, 48.85837009999999),
        ({"n": 2**63}, None),
        ({"n": [2**64]}, 2**64),
        ({"n": -(2**63) - 1}, -(2**63) - 1),
        ({"n": 0.3}, 0.3),
    ],
)
def test_numbers_that_datasets_would_change_are_in_the_ledger(
    value: Any, changed: float | None, tmp_path: Path
) -> None:
    assert changed_number(value) == changed
    empty = {"name": None, "tool_call_id": None, "tool_calls": None, "train": False}
    function = {"name": "f", "arguments": json.dumps(value)}
    call = {
        **empty,
        "content": None,
        "tool_calls": [{"id": "c", "type": "function", "function": function}],
        "train": True,
    }
    messages = [{"role": "user", "content": "Hi", **empty}, {"role": "assistant", **call}]
    row = {**dict.fromkeys(TRAJECTORIES), "id": "t", "messages": messages, "tools": "[]"}
    table = Dataset.from_list([row], features=TRAJECTORIES)
    if changed is not None:
        with pytest.raises(InputError, match=r"bad_number.*arguments=\"text\""):
            export(table, "trl", tmp_path / "x")
        export(table, "trl", tmp_path / "x", arguments="text")
        return
    path = export(table, "trl", tmp_path / "x")
    loaded = load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "hf"))
    for data in (loaded, to_trainer(table, "trl")):
        assert data[0]["completion"][0]["tool_calls"][0]["function"]["arguments"] == value


def test_every_trained_message_is_a_target(tmp_path: Path) -> None:
    samples = trajectories(load_source("sample_trajectories").select(range(2)), layout="merged", keep_thought=False)
    n_targets = sum(message["train"] for messages in samples["messages"] for message in messages)
    for name in ("trl", "openai", "axolotl"):
        lines = export(samples, name, tmp_path / name).read_text("utf-8").splitlines()
        targets = [target for line in lines for target in targets_of(json.loads(line))]
        assert len(targets) == n_targets
        assert all(target.reply[0]["role"] == "assistant" and target.tools for target in targets)
