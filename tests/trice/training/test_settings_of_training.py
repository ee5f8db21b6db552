"""The settings that a training run gets, the name of its adapter, and the whole message about each unusable one."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from tests.support.models import tiny_llama
from toolrlef_data import InputError, train
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import MissingColumns
from toolrlef_data.trice.training import adapter as training
from toolrlef_data.trice.training.losses import count_pairs
from toolrlef_data.trice.training.samples import split
from toolrlef_data.trice.training.updates import Updates, trainer_arguments
from toolrlef_data.trice.training.warm_up import warm_up

STAGE1 = Dataset.from_list(
    [{"id": str(n), "instruction": "Do it.", "input": f"{n}?", "output": f"f({n})"} for n in range(3)]
)
STAGE2 = Dataset.from_list(
    [{"instruction": "Do it.", "input": f"{n}?", "responses": ["a", "b"], "scores": [1.0, 0.0]} for n in range(3)]
)
LORA = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.05, "target_modules": ["q_proj", "v_proj"]}
UPDATES = {
    "batch_size": 4,
    "accumulation": 1,
    "learning_rate": 1e-4,
    "schedule": "linear",
    "weight": 1.0,
    "compat": False,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> EngineSpec:
    return EngineSpec("local", str(tiny_llama(tmp_path_factory.mktemp("tiny"))), max_tokens=16, progress=False)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Return a list that receives what each training run gets, which then trains nothing."""
    made: list[tuple[Any, ...]] = []

    def fill(folder: Path, *args: Any) -> list[Any]:
        made.append(args)
        return []

    monkeypatch.setattr(training, "home_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(training, "_fill", fill)
    return made


def test_a_run_has_the_defaults_of_its_stage(base: EngineSpec, runs: list[tuple[Any, ...]]) -> None:
    for table, epochs, rate in ((STAGE1, 5, 1e-4), (STAGE2, 2, 2e-5)):
        trained = train(table, base)
        rows, held_out, spec, settings = runs.pop()
        assert rows.column_names == [name for name in table.column_names if name != "id"]
        assert (held_out, spec, replace(trained, adapter=None)) == (None, base, base)
        updates = {**UPDATES, "learning_rate": rate, "seed": 0, "kept_steps": ()}
        prompts = {"style": "alpaca", "max_tokens": 512}
        expected = {
            "lora": LORA,
            "epochs": epochs,
            "updates": updates,
            "steps": None,
            "prompts": prompts,
            "options": (),
        }
        assert settings == expected
        train(table, base, steps=7, kept_steps=[3, 1, 3], held_out=table)
        _, held_out, _, settings = runs.pop()
        assert held_out is not None
        assert settings == {**expected, "epochs": None, "steps": 7, "updates": {**updates, "kept_steps": (1, 3)}}
    warm_up(STAGE1, base)
    settings = runs.pop()[-1]
    assert (settings["steps"], settings["epochs"], settings["prompts"]) == (
        12,
        None,
        {"style": "alpaca", "max_tokens": 512},
    )
    assert settings["updates"] == {**UPDATES, "schedule": "constant", "seed": 0, "kept_steps": ()}


def test_the_name_of_an_adapter_depends_on_every_setting(base: EngineSpec, runs: list[tuple[Any, ...]]) -> None:
    import peft

    changes: list[dict[str, Any]] = [
        {}, {"epochs": 3}, {"steps": 5}, {"batch_size": 2}, {"accumulation": 2}, {"learning_rate": 0.5}, {"weight": 0.1},
        {"schedule": "cosine"}, {"compat": True}, {"style": "completion"}, {"max_tokens": 7}, {"seed": 1},
        {"held_out": STAGE2}, {"held_out": STAGE2.select([0])}, {"kept_steps": [1]}, {"kept_steps": [2]},
        {"lora": peft.LoraConfig(r=4)},
    ]  # fmt: skip
    names = [train(STAGE2, base, **change).adapter for change in changes]
    names.append(train(STAGE2, replace(base, options=(("a", 1),))).adapter)
    names.append(train(STAGE2.map(lambda row: {"scores": [0.0, 1.0]}), base).adapter)
    assert len(set(names)) == len(runs) == len(changes) + 2
    assert train(STAGE2, replace(base, max_tokens=3, temperature=1.0, progress=True)).adapter == names[0]
    assert train(STAGE2, base, kept_steps=[1, 1]).adapter == names[changes.index({"kept_steps": [1]})]
    assert train(STAGE2, base, epochs=2, learning_rate=2e-5).adapter == names[0]
    assert len(runs) == len(changes) + 2


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"epochs": 1, "steps": 1}, "train: expected epochs or steps, found both"),
    ({"epochs": 0}, "epochs must be an integer of at least 1, found 0"),
    ({"steps": 0}, "steps must be an integer of at least 1, found 0"),
    ({"batch_size": 0}, "batch_size must be an integer of at least 1, found 0"),
    ({"accumulation": 0}, "accumulation must be an integer of at least 1, found 0"),
    ({"max_tokens": 0}, "max_tokens must be an integer of at least 1, found 0"),
    ({"kept_steps": [1, 0]}, "kept_steps must be an integer of at least 1, found 0"),
    ({"seed": -1}, "seed must be an integer of at least 0, found -1"),
    ({"learning_rate": 0}, "learning_rate must be a number above 0, found 0"),
    ({"learning_rate": math.inf}, "learning_rate must be a number above 0, found inf"),
    ({"weight": -0.1}, "weight must be a number of at least 0, found -0.1"),
    ({"schedule": "polynomial"}, "unknown schedule 'polynomial'; choose from: linear, cosine, constant"),
    ({"held_out": STAGE1}, "train: held_out must be of the same stage as the table"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=range(len(REFUSED)))
def test_unusable_settings(
    options: dict[str, Any], message: str, base: EngineSpec, runs: list[tuple[Any, ...]]
) -> None:
    with pytest.raises(InputError) as refused:
        train(STAGE2, base, **options)
    assert (str(refused.value), runs) == (message, [])


def test_unusable_models_and_tables(base: EngineSpec, runs: list[tuple[Any, ...]]) -> None:
    import peft

    def message(*args: Any, **options: Any) -> str:
        with pytest.raises(InputError) as refused:
            train(*args, **options)
        return str(refused.value)

    assert message(STAGE1, replace(base, kind="scripted")) == "train: expected a local model, found kind='scripted'"
    assert message(STAGE1, replace(base, adapter="a"), lora=peft.LoraConfig()) == (
        "train: lora is for a new adapter, and base has one: pass a base without adapter, or no lora"
    )
    both = DatasetDict(a=STAGE1, b=STAGE1)
    assert message(both, base) == "train: expected one split, found several: pass one of a, b"
    with pytest.raises(MissingColumns) as missing:
        train(STAGE1.remove_columns("output"), base)
    assert str(missing.value) == (
        "train needs the columns instruction, input, output (stage 1), or instruction, input, responses, scores (stage 2); "
        "found id, instruction, input"
    )
    with pytest.raises(InputError) as refused:
        warm_up(STAGE1, replace(base, adapter="a"))
    assert str(refused.value) == ("warm_up: expected a local model without an adapter, found kind='local', adapter='a'")
    assert runs == []


def test_skipped_rows_and_late_steps(
    base: EngineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(training, "home_dir", lambda: tmp_path / "cache")
    rows = [*STAGE2, {**STAGE2[0], "input": "x" * 900}, {**STAGE2[0], "responses": [None, "b"], "scores": [1.0, None]}]
    with caplog.at_level(logging.WARNING, "toolrlef_data"), pytest.raises(InputError) as refused:
        train(Dataset.from_list(rows), base, epochs=2, batch_size=1, accumulation=2, kept_steps=[4, 5], max_tokens=300)
    assert str(refused.value) == "kept_steps: 5 is after the last of 4 updates"
    assert "training skips 2 of 5 rows: 1 exceed max_tokens=300, 1 have no response" in caplog.text
    with pytest.raises(InputError) as refused:
        train(Dataset.from_list(rows), base, max_tokens=3)
    assert str(refused.value) == "no row can be used: 4 exceed max_tokens=3, 1 have no response"


def test_the_arguments_of_the_trainer(tmp_path: Path) -> None:
    import torch

    updates = Updates(3, 2, 1, 1e-3, "cosine", 1.0, False, 5, ())
    found = trainer_arguments(str(tmp_path), updates, torch.device("cpu"))
    assert (found.output_dir, found.per_device_train_batch_size, found.num_train_epochs) == (str(tmp_path), 1, 1)
    assert (found.learning_rate, found.lr_scheduler_type.value, found.seed, found.use_cpu) == (1e-3, "cosine", 5, True)
    assert (found.weight_decay, found.max_grad_norm, found.remove_unused_columns) == (0.0, 1.0, False)
    assert (found.save_strategy.value, found.logging_strategy.value, found.report_to) == ("no", "no", [])
    assert (found.disable_tqdm, found.dataloader_pin_memory, found.place_model_on_device) == (True, False, False)


def test_pairs_and_parts() -> None:
    assert count_pairs([-1.0, -0.5, -2.0, -2.0], [20, 10, 0, 0]) == (4, 5)
    assert count_pairs([-1.0, -1.0], [1, 0]) == (0, 1)
    samples: Any = ["a", "b", "c", "d", "e"]
    parts: Any = split(samples, 2)
    assert parts == [["a", "b"], ["c", "d"], ["e"]]
