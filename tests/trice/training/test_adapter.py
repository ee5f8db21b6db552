"""`train` learns the ranking of stage 2, continues an adapter, and keeps adapters and a log of its updates."""

from __future__ import annotations

import gc
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tests.support.models import tiny_llama
from toolrlef_data import train
from toolrlef_data.engines.local.engine import LocalEngine, unload
from toolrlef_data.engines.local.loading import load_model
from toolrlef_data.engines.local.scoring.layouts import token_logprobs
from toolrlef_data.engines.local.scoring.requests import request_tokeniser
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import InputError, MissingColumns
from toolrlef_data.trice.training.samples import tokenise_row
from toolrlef_data.trice.training.updates import Updates, trainer_arguments

ROWS: list[dict[str, Any]] = [
    {
        "instruction": "Write a call.",
        "input": f"How many in {n} boxes of 12?",
        "responses": [f"calculator({n}*12)", f"calculator({n}+12)", f"It is {n}."],
        "scores": [20.0, 10.0, 0.0],
    }
    for n in range(2, 8)
]
QUICK: dict[str, Any] = {"steps": 4, "batch_size": 3, "learning_rate": 2e-2, "style": "completion"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, since threads do not speed up a model of this size."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    unload()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> EngineSpec:
    return EngineSpec("local", str(tiny_llama(tmp_path_factory.mktemp("tiny"))), max_tokens=16, progress=False)


@pytest.fixture
def stage2() -> Dataset:
    return Dataset.from_list(ROWS)


@pytest.fixture
def stage1() -> Dataset:
    return Dataset.from_list([{**row, "output": row["responses"][0]} for row in ROWS]).remove_columns(
        ["responses", "scores"]
    )


def test_nothing_of_the_trained_model_stays_in_memory(base: EngineSpec, stage2: Dataset) -> None:
    from peft import PeftModel

    def models() -> set[int]:
        return {id(thing) for thing in gc.get_objects() if issubclass(type(thing), PeftModel)}

    gc.collect()
    before = models()
    gc.disable()
    try:
        train(stage2, base, **QUICK)
        assert models() == before
    finally:
        gc.enable()


def log_of(spec: EngineSpec) -> list[dict[str, float]]:
    entries: list[dict[str, float]] = json.loads((Path(spec.adapter or "") / "training.json").read_text())["log"]
    return entries


def weights_of(spec: EngineSpec) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(Path(spec.adapter or "", "adapter_model.safetensors")))


def order(spec: EngineSpec, row: dict[str, Any]) -> list[str]:
    """Return the responses of a row from the most to the least probable one per token."""
    import torch

    loaded = load_model(spec.model, adapter=spec.adapter)
    sample = tokenise_row(row, request_tokeniser(spec, loaded.tokenizer), "completion")
    assert sample is not None
    with torch.inference_mode():
        ((values),) = token_logprobs(loaded.model, [sample.tokens], "single")
    p = [float(tokens.mean()) for tokens in values]
    return [row["responses"][n] for n in sorted(range(len(p)), key=p.__getitem__, reverse=True)]


def test_training_learns_the_scores_and_not_the_order_of_responses(stage2: Dataset, base: EngineSpec) -> None:
    settings = {**QUICK, "steps": 24}
    reversed_scores = Dataset.from_list([{**row, "scores": row["scores"][::-1]} for row in ROWS])
    for table, step in ((stage2, 1), (reversed_scores, -1)):
        trained = train(table, base, **settings)
        row = table[0]
        assert order(trained, row) == row["responses"][::step]
    assert log_of(trained)[-1]["loss"] < log_of(trained)[0]["loss"]


def test_stage2_continues_the_adapter_of_stage1(stage1: Dataset, stage2: Dataset, base: EngineSpec) -> None:
    cloned = train(stage1, base, **QUICK)
    ranked = train(stage2, cloned, **{**QUICK, "steps": 1, "learning_rate": 1e-9})
    assert ranked.adapter != cloned.adapter
    assert order(ranked, ROWS[0]) == order(cloned, ROWS[0])
    from_base = train(stage2, base, **{**QUICK, "steps": 1, "learning_rate": 1e-9})
    assert log_of(ranked)[0]["loss"] < log_of(from_base)[0]["loss"], "the first update begins at the adapter of stage 1"


def test_kept_steps_are_adapters_and_held_out_rows_are_evaluated(stage2: Dataset, base: EngineSpec) -> None:
    trained = train(stage2, base, held_out=stage2, kept_steps=[2], **QUICK)
    log = log_of(trained)
    assert [entry["step"] for entry in log] == [1, 2, 3, 4]
    assert ["held_out_loss" in entry for entry in log] == [False, True, False, True]
    assert all(0 <= log[n]["held_out_ranked"] <= 1 for n in (1, 3))
    kept = replace(trained, adapter=f"{trained.adapter}/step-2")
    assert LocalEngine(kept).identity() != LocalEngine(trained).identity()
    two_steps = train(stage2, base, **{**QUICK, "steps": 2, "schedule": "constant"}, kept_steps=[2])  # the last one
    four_steps = train(stage2, base, **{**QUICK, "schedule": "constant"}, kept_steps=[2])
    name = "adapter_model.safetensors"
    assert (
        Path(two_steps.adapter or "", name).read_bytes() == Path(four_steps.adapter or "", "step-2", name).read_bytes()
    )


@pytest.mark.parametrize("compat", [False, True])
def test_an_update_of_several_batches_is_that_of_one_large_batch(
    stage1: Dataset, stage2: Dataset, base: EngineSpec, compat: bool
) -> None:
    import peft

    # Rows of different lengths, so that a mean of the means of the batches would differ.
    longer: list[dict[str, Any]] = [{**row, "input": row["input"] * (n % 3 + 1)} for n, row in enumerate(ROWS)]
    stage2 = Dataset.from_list(
        [{**row, "responses": [row["responses"][0] * 2, *row["responses"][1:]]} for row in longer]
    )
    lora = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], lora_dropout=0.0)  # draws differ between batches
    settings = {**QUICK, "steps": 3, "learning_rate": 1e-3, "lora": lora, "compat": compat}
    for table in (stage1, stage2):
        small = train(table, base, **{**settings, "batch_size": 2, "accumulation": 2})
        large = train(table, base, **{**settings, "batch_size": 4})
        losses = [[entry["loss"] for entry in log_of(spec)] for spec in (large, small)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
        assert weights_of(large).keys() == weights_of(small).keys()
        for name, weight in weights_of(large).items():
            assert abs(weight - weights_of(small)[name]).max() < 1e-4, name


def test_the_trainer_uses_the_device_of_the_model() -> None:
    import torch
    from accelerate import PartialState  # type: ignore[import-untyped]

    updates = Updates(1, 1, 1, 1e-3, "linear", 1.0, False, 0, ())
    before = dict(os.environ)
    # Without a second GPU, "meta" stands for a device that transformers would not select.
    for name in ("meta", "cpu"):
        arguments = trainer_arguments("unused", updates, torch.device(name))
        assert arguments.device == PartialState().device == torch.device(name)
        assert arguments.n_gpu <= 1
    assert dict(os.environ) == before


def test_epochs_cover_all_rows(stage1: Dataset, base: EngineSpec) -> None:
    settings = {name: value for name, value in QUICK.items() if name != "steps"}
    assert len(log_of(train(stage1, base, epochs=2, **{**settings, "batch_size": 4}))) == 4


def test_a_model_without_q_proj_is_adapted_in_all_linear_layers(tmp_path: Path, stage1: Dataset) -> None:
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    folder = tiny_llama(tmp_path / "gpt2")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.random.fork_rng([]):
        shape = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
        GPT2LMHeadModel(shape).save_pretrained(folder)
    trained = train(stage1, EngineSpec("local", str(folder), progress=False), **QUICK)
    config = json.loads((Path(trained.adapter or "") / "adapter_config.json").read_text())
    assert {name.rpartition(".")[2] for name in config["target_modules"]} == {"c_attn", "c_fc", "c_proj"}


def test_skipped_rows_are_counted(stage1: Dataset, base: EngineSpec, caplog: pytest.LogCaptureFixture) -> None:
    long_row = {**stage1[0], "input": "How many? " * 200}
    with caplog.at_level(logging.WARNING, "toolrlef_data"):
        train(Dataset.from_list([*stage1, long_row]), base, **QUICK)
    assert "training skips 1 of 7 rows: 1 exceed max_tokens=512, 0 have no response" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 1}, "expected epochs or steps, found both"),
        ({"schedule": "polynomial"}, "unknown schedule 'polynomial'"),
        ({"weight": -1}, "weight must be a number of at least 0"),
        ({"kept_steps": [5]}, "kept_steps: 5 is after the last of 4 updates"),
        ({"kept_steps": [0]}, "kept_steps must be an integer of at least 1"),
        ({"max_tokens": 3}, "no row can be used: 6 exceed max_tokens=3"),
    ],
)
def test_unusable_options_are_errors(stage2: Dataset, base: EngineSpec, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train(stage2, base, **{**QUICK, **changes})


def test_tables_that_cannot_be_trained_on_are_errors(stage1: Dataset, stage2: Dataset, base: EngineSpec) -> None:
    import peft

    with pytest.raises(MissingColumns, match=r"responses, scores \(stage 2\); found instruction, input"):
        train(stage2.remove_columns("scores"), base)
    with pytest.raises(InputError, match="held_out must be of the same stage"):
        train(stage2, base, held_out=stage1)
    with pytest.raises(InputError, match="pass a base without adapter"):
        train(stage2, replace(base, adapter="a"), lora=peft.LoraConfig())
