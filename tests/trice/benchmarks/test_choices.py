"""`evaluate` on When2Call's rows chooses as a plain loop does, and its figures equal a count by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from tests.support.benchmarks import WHEN2CALL, write_lines
from tests.support.models import tiny_llama
from toolrlef_data import EngineSpec, Evaluation, InputError, evaluate, render_prompt
from toolrlef_data.engines.local.engine import load_model, unload
from toolrlef_data.engines.prompts import continuation
from toolrlef_data.trice.benchmarks.choices import CHOICES
from toolrlef_data.trice.benchmarks.files import read_benchmark
from toolrlef_data.trice.benchmarks.offered import instruction_for


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineSpec]:
    texts = [row["question"] for row in WHEN2CALL] + [text for row in WHEN2CALL for text in row["answers"].values()]
    folder = tiny_llama(tmp_path_factory.mktemp("model"), context=2048, texts=texts)
    yield EngineSpec("local", str(folder), dtype="float32", device="cpu", progress=False)
    unload()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))


def naive_values(spec: EngineSpec, row: dict[str, Any], choices: list[str], style: str) -> list[float]:
    """Return the log-probability of each choice, one token after the other, without the end token."""
    loaded = load_model(spec.model, dtype="float32", device="cpu")
    model, tokenizer = loaded.model, loaded.tokenizer
    prompt = render_prompt(style, instruction_for(row["functions"]), row["question"])
    if isinstance(prompt, str):
        before = tokenizer(prompt, add_special_tokens=False).input_ids
        choices = [continuation(prompt, text) for text in choices]
    else:
        turns = [{"role": message.role, "content": message.content} for message in prompt]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        before = tokenizer(text, add_special_tokens=False).input_ids
    values = []
    for text in choices:
        ids, value = list(before), 0.0
        for token in tokenizer(text, add_special_tokens=False).input_ids:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
            value += float(torch.log_softmax(logits.double(), -1)[token])
            ids.append(token)
        values.append(value)
    return values


@pytest.mark.parametrize("style", ["chat", "completion"])
def test_choices_and_figures_equal_those_of_a_plain_loop(style: str, spec: EngineSpec, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", WHEN2CALL)
    found = evaluate(spec, benchmark=path, style=style)
    raw, normalised = [], []
    for row, ours in zip(read_benchmark(path).rows, found.rows, strict=True):
        values = naive_values(spec, row, ours["choices"], style)
        assert ours["logprobs"] == pytest.approx(values, abs=1e-3)
        raw.append(ours["classes"][values.index(max(values))])
        per_character = [value / len(text) for value, text in zip(values, ours["choices"], strict=True)]
        normalised.append(ours["classes"][per_character.index(max(per_character))])
    assert found.rows["chosen"][:] == raw
    assert found.rows["chosen_normalised"][:] == normalised
    rights = [row["correct_answer"] for row in WHEN2CALL]
    figures = found.figures()
    assert figures["accuracy"].value == sum(a == b for a, b in zip(raw, rights, strict=True)) / 4
    assert (
        figures["length-normalised accuracy"].value == sum(a == b for a, b in zip(normalised, rights, strict=True)) / 4
    )
    assert figures["tool hallucination"].value == (raw[2] == "tool_call")
    assert figures["tool hallucination"].n == 1


def test_calls_are_written_as_the_prompt_asks_for_them(spec: EngineSpec, tmp_path: Path) -> None:
    found = evaluate(spec, benchmark=write_lines(tmp_path / "rows.jsonl", WHEN2CALL[:1]))
    assert dict(zip(found.rows["classes"][0], found.rows["choices"][0], strict=True)) == {
        **WHEN2CALL[0]["answers"],
        "tool_call": 'turn_on_light(room="hall")',
    }


def test_rows_beyond_the_context_are_not_scored(spec: EngineSpec, tmp_path: Path) -> None:
    rows = [WHEN2CALL[0], {**WHEN2CALL[1], "question": "light " * 3000}]
    found = evaluate(replace(spec, max_failed=1.0), benchmark=write_lines(tmp_path / "rows.jsonl", rows))
    assert found.rows["error"][:] == [None, "too_long"]
    assert found.rows["chosen"][1] is None
    assert found.figures()["accuracy"].n == found.figures()["macro-F1"].n == 1
    assert found.figures()["not scored"].value == 0.5


def rows_with(*pairs: tuple[str, str | None], n_tools: int = 0) -> Evaluation:
    """Return an evaluation with these right and chosen classes."""
    rows = [
        {**dict.fromkeys(CHOICES), "id": str(n), "right": right, "chosen": chosen, "chosen_normalised": chosen}
        | {"n_tools": n_tools, "error": None if chosen else "too_long"}
        for n, (right, chosen) in enumerate(pairs)
    ]
    return Evaluation(Dataset.from_list(rows, features=CHOICES), "model", "choices")


def test_macro_f1_is_the_mean_over_the_classes_that_occur() -> None:
    """Values of scikit-learn 1.9.1: f1_score(right, chosen, average="macro")."""
    pairs = [("tool_call", "tool_call"), ("tool_call", "direct"), ("cannot_answer", "tool_call")]
    pairs += [("request_for_info", "request_for_info"), ("cannot_answer", "cannot_answer"), ("tool_call", "tool_call")]
    value = rows_with(*pairs).figures()["macro-F1"].value
    assert value == pytest.approx((2 / 3 + 2 / 3 + 1 + 0) / 4), "direct is never right, and chosen once"
    without_direct = [(right, "tool_call" if chosen == "direct" else chosen) for right, chosen in pairs]
    value = rows_with(*without_direct).figures()["macro-F1"].value
    assert value == pytest.approx((6 / 7 + 2 / 3 + 1) / 3)


def test_tool_hallucination_is_of_unanswerable_rows_without_tools() -> None:
    pairs: list[tuple[str, str | None]] = [("cannot_answer", "tool_call"), ("cannot_answer", "direct")]
    pairs += [("tool_call", "tool_call"), ("cannot_answer", None)]
    figure = rows_with(*pairs).figures()["tool hallucination"]
    assert (figure.value, figure.n) == (0.5, 2)
    assert rows_with(*pairs, n_tools=1).figures()["tool hallucination"].n == 0


def test_differences_of_macro_f1_are_paired() -> None:
    classes = ("tool_call", "request_for_info", "cannot_answer")
    rights = [classes[n % 3] for n in range(60)]
    before = rows_with(*[(right, classes[n // 3 % 3]) for n, right in enumerate(rights)])
    after = rows_with(*[(right, right) for right in rights])
    change = before.differences(after)["macro-F1"]
    assert change.value == pytest.approx(1 - (before.figures()["macro-F1"].value or math.nan))
    assert 0.4 < (change.low or 0) < (change.value or 0) < (change.high or 0) < 0.9
    assert before.differences(before)["macro-F1"][:3] == (0, 0, 0)


def test_multiple_choice_needs_a_local_model_and_no_reply_settings(spec: EngineSpec, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", WHEN2CALL)
    with pytest.raises(InputError, match="need a model on this machine"):
        evaluate(EngineSpec("openai_api", "gpt-4o-mini"), benchmark=path)
    with pytest.raises(InputError, match="leave out stop and protocol"):
        evaluate(spec, benchmark=path, stop=("\n",))
