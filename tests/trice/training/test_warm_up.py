"""`warm_up` trains once per set of inputs, stores complete adapters only, and lowers the loss."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tests.support.models import tiny_llama
from toolrlef_data.engines.local import weights
from toolrlef_data.engines.local.engine import LocalEngine, unload
from toolrlef_data.engines.prompts import render_prompt
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import InputError, MissingColumns, UnknownName
from toolrlef_data.tables.files import SEALED, STAMPS
from toolrlef_data.tables.fingerprint import canonical
from toolrlef_data.trice.training import adapter as training
from toolrlef_data.trice.training.warm_up import warm_up

ROWS = [
    {"instruction": "Write a call.", "input": f"How many in {n} boxes of 12?", "output": f"calculator({n}*12)"}
    for n in range(2, 10)
]
QUICK: dict[str, Any] = {"steps": 3, "batch_size": 2, "learning_rate": 1e-2, "style": "completion"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, since threads do not speed up a model of this size."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    unload()


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> EngineSpec:
    return EngineSpec("local", str(tiny_llama(tmp_path_factory.mktemp("tiny"))), max_tokens=16)


@pytest.fixture(autouse=True)
def adapters_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (training, weights):
        monkeypatch.setattr(module, "home_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "adapters"


@pytest.fixture
def stage1() -> Dataset:
    return Dataset.from_list(ROWS)


def lora(**changed: Any) -> Any:
    import peft

    return peft.LoraConfig(**{**training.LORA, **changed})


def losses(spec: EngineSpec) -> list[float]:
    log = json.loads((Path(spec.adapter or "") / "training.json").read_text())["log"]
    return [entry["loss"] for entry in log]


def test_training_teaches_the_format_of_the_output(stage1: Dataset, base: EngineSpec) -> None:
    style = "completion"
    warmed = warm_up(
        stage1, base, steps=60, batch_size=8, learning_rate=2e-2, lora=lora(r=16, lora_dropout=0.0), style=style
    )
    curve = losses(warmed)
    assert len(curve) == 60
    assert curve[-1] < curve[0] / 3
    prompt = render_prompt(style, ROWS[0]["instruction"], ROWS[0]["input"])
    assert isinstance(prompt, str)
    (((_, reply),),) = LocalEngine(warmed).generate([("a", Request(prompt=prompt))])
    (((_, base_reply),),) = LocalEngine(base).generate([("a", Request(prompt=prompt))])
    assert "calculator(" in (reply.text or "")
    assert reply.finish_reason == "stop", "the model learns the end of a response"
    assert "calculator(" not in (base_reply.text or "")


def test_a_second_call_uses_the_stored_adapter(
    stage1: Dataset, base: EngineSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = warm_up(stage1, base, **QUICK)
    times = {path: path.stat().st_mtime_ns for path in Path(first.adapter or "").iterdir()}
    monkeypatch.setattr(training, "_fill", None)
    again = warm_up(stage1, replace(base, temperature=1.0, batch_tokens=99), **QUICK)
    assert again.adapter == first.adapter, "sampling and batch settings do not affect training"
    copy = Dataset.from_list([{**row, "id": str(n)} for n, row in enumerate(ROWS)])
    assert warm_up(copy, base, **QUICK).adapter == first.adapter, "other columns do not affect training"
    assert {path: path.stat().st_mtime_ns for path in Path(first.adapter or "").iterdir()} == times
    assert replace(first, adapter=None) == base


CHANGES: list[dict[str, Any]] = [
    {"steps": 4},
    {"batch_size": 3},
    {"learning_rate": 2e-2},
    {"lora": {"r": 4}},
    {"lora": {"lora_alpha": 8}},
    {"lora": {"lora_dropout": 0.0}},
    {"lora": {"target_modules": ["q_proj"]}},
    {"lora": {"target_modules": "q_proj"}},
    {"lora": {"use_rslora": True}},
    {"lora": {"bias": "lora_only"}},
    {"lora": {"init_lora_weights": "olora"}},
    {"lora": {"exclude_modules": ["v_proj"]}},
    {"lora": {"rank_pattern": {"q_proj": 4}}},
    {"lora": {"velora_config": {"rank": 2}}},
    {"max_tokens": 200},
    {"seed": 1},
    {"style": "alpaca"},
]


def test_the_name_of_an_adapter_depends_on_all_its_inputs(
    stage1: Dataset, base: EngineSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def fill(*args: Any) -> list[Any]:
        trained.append(args)
        return []

    monkeypatch.setattr(training, "_fill", fill)
    changes = [{**change, "lora": lora(**change["lora"])} if "lora" in change else change for change in CHANGES]
    names = {warm_up(stage1, base, **{**QUICK, **change}).adapter for change in [{}, *changes]}
    names.add(warm_up(stage1.select(range(4)), base, **QUICK).adapter)
    names.add(warm_up(stage1, replace(base, dtype="bfloat16"), **QUICK).adapter)
    assert len(names) == len(trained) == len(CHANGES) + 3


def test_equal_configurations_share_an_adapter(
    stage1: Dataset, base: EngineSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    import peft

    first = warm_up(stage1, base, **QUICK)
    monkeypatch.setattr(training, "_fill", None)
    reordered = lora(target_modules=["v_proj", "q_proj"])
    original_values = reordered.to_dict()
    equal = [reordered, lora(task_type="CAUSAL_LM", base_model_name_or_path="another", inference_mode=True)]
    assert {warm_up(stage1, base, lora=config, **QUICK).adapter for config in equal} == {first.adapter}
    assert reordered.to_dict() == original_values
    for other in (peft.AdaLoraConfig(total_step=9), {"r": 8}):
        with pytest.raises(InputError, match=r"lora: expected a peft\.LoraConfig, found"):
            warm_up(stage1, base, lora=other, **QUICK)


def test_module_names_are_sorted() -> None:
    """peft stores sets, whose order differs between processes."""
    names = ["v_proj", "q_proj", "up_proj", "o_proj", "k_proj", "down_proj"]
    values = canonical(training._lora_arguments(lora(target_modules=names, exclude_modules=names[:4])))
    assert (values["target_modules"], values["exclude_modules"]) == (sorted(names), sorted(names[:4]))


def test_training_uses_the_given_configuration(stage1: Dataset, base: EngineSpec) -> None:
    config = lora(target_modules=["k_proj"], use_rslora=True, bias="lora_only", rank_pattern={"k_proj": 2})
    folder = Path(warm_up(stage1, base, lora=config, **QUICK).adapter or "")
    stored = json.loads((folder / "adapter_config.json").read_text())
    assert stored["target_modules"] == ["k_proj"]
    assert (stored["use_rslora"], stored["bias"], stored["rank_pattern"]) == (True, "lora_only", {"k_proj": 2})
    assert (stored["task_type"], stored["inference_mode"]) == ("CAUSAL_LM", True)
    assert config.base_model_name_or_path is None


def test_deprecated_keywords_work_and_warn_with_the_replacement(
    stage1: Dataset, base: EngineSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = lora(r=4, lora_alpha=32, lora_dropout=0.1, target_modules=["q_proj"])
    first = warm_up(stage1, base, lora=config, **QUICK)
    monkeypatch.setattr(training, "_fill", None)
    deprecated: dict[str, Any] = {"r": 4, "alpha": 32, "dropout": 0.1, "target_modules": ("q_proj",)}
    with pytest.warns(DeprecationWarning, match=r"LoraConfig\(r=4, lora_alpha=32") as warned:
        assert warm_up(stage1, base, **QUICK, **deprecated).adapter == first.adapter
    assert [Path(warning.filename).name for warning in warned] == ["test_warm_up.py"]
    with pytest.raises(InputError, match="expected lora or r, found both"):
        warm_up(stage1, base, lora=config, r=4)
    with pytest.raises(TypeError, match="unexpected keyword argument 'rank'"):
        warm_up(stage1, base, rank=4)


def test_the_seed_determines_every_weight(stage1: Dataset, base: EngineSpec, adapters_folder: Path) -> None:
    import torch

    def weights(**changed: Any) -> bytes:
        folder = Path(warm_up(stage1, base, **{**QUICK, **changed}).adapter or "")
        data = (folder / "adapter_model.safetensors").read_bytes()
        folder.rename(adapters_folder / f"moved-{len(list(adapters_folder.iterdir()))}")
        return data

    first = weights()
    state = torch.random.get_rng_state()
    torch.manual_seed(99)
    assert weights() == first, "independent of the global generator"
    torch.random.set_rng_state(state)
    weights(seed=1)
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator is unchanged"
    assert weights(seed=1) != first


def test_a_damaged_adapter_is_trained_again_and_never_used(
    stage1: Dataset, base: EngineSpec, caplog: pytest.LogCaptureFixture
) -> None:
    warmed = warm_up(stage1, base, steps=1, batch_size=1)
    folder = Path(warmed.adapter or "")
    identity = LocalEngine(warmed).identity()
    for name in ("adapter_model.safetensors", "adapter_config.json", "training.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-40] + bytes([content[-40] ^ 1]) + content[-39:])
        with pytest.raises(InputError, match=f"{name} is damaged or missing: call warm_up again"):
            LocalEngine(warmed).identity()
        assert warm_up(stage1, base, steps=1, batch_size=1) == warmed
        assert LocalEngine(warmed).identity() == identity, "the same reply keys"
    assert [str(folder) in record.getMessage() for record in caplog.records] == [True] * 3


def test_the_list_of_files_is_not_part_of_an_adapters_identity(stage1: Dataset, base: EngineSpec) -> None:
    """Adapters of earlier versions have no list, and their replies stay stored."""
    warmed = warm_up(stage1, base, steps=1, batch_size=1)
    identity = LocalEngine(warmed).identity()
    for name in (SEALED, STAMPS):
        (Path(warmed.adapter or "") / name).unlink()
    assert LocalEngine(warmed).identity() == identity


def test_the_partial_folder_of_a_killed_run_is_ignored(
    stage1: Dataset, base: EngineSpec, adapters_folder: Path
) -> None:
    complete = Path(warm_up(stage1, base, **QUICK).adapter or "")
    expected = sorted(path.name for path in complete.iterdir())
    partial = adapters_folder / f".{complete.name}.new"
    complete.rename(partial)
    (partial / "adapter_config.json").write_text("{")
    (partial / "incomplete").write_text("")
    assert Path(warm_up(stage1, base, **QUICK).adapter or "") == complete
    assert sorted(path.name for path in complete.iterdir()) == expected
    assert not partial.exists()


def test_an_adapter_stores_the_users_name_of_its_model(stage1: Dataset, base: EngineSpec) -> None:
    folder = Path(warm_up(stage1, base, **QUICK).adapter or "")
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == base.model


def test_an_adapter_is_equal_in_every_process(stage1: Dataset, base: EngineSpec) -> None:
    """The order of sets differs between processes, and reply keys contain the digest of the adapter."""
    import peft

    names = ["q_proj", "o_proj", "v_proj", "k_proj", "gate_proj", "up_proj", "down_proj"]
    folder = Path(warm_up(stage1, base, lora=peft.LoraConfig(target_modules=names), **QUICK).adapter or "")
    assert json.loads((folder / "adapter_config.json").read_text())["target_modules"] == sorted(names)


def test_rows_above_max_tokens_are_skipped(stage1: Dataset, base: EngineSpec) -> None:
    with pytest.raises(InputError, match="no row can be used: 8 exceed max_tokens=5"):
        warm_up(stage1, base, **{**QUICK, "max_tokens": 5})


def test_unusable_arguments_raise(stage1: Dataset, base: EngineSpec, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="local model without an adapter"):
        warm_up(stage1, EngineSpec("scripted", "x"), **QUICK)
    with pytest.raises(InputError, match="local model without an adapter"):
        warm_up(stage1, replace(base, adapter="a"), **QUICK)
    with pytest.raises(MissingColumns, match="found: instruction"):
        warm_up(stage1.select_columns(["instruction"]), base, **QUICK)
    with pytest.raises(UnknownName, match="choose from"):
        warm_up(stage1, base, **{**QUICK, "style": "mumble"})
    plain = EngineSpec("local", str(tiny_llama(tmp_path / "plain", template=None)))
    with pytest.raises(InputError, match="no chat template"):
        warm_up(stage1, plain, **{**QUICK, "style": "chat"})


def test_variables_of_the_chat_template_are_in_the_name_of_an_adapter(
    stage1: Dataset, base: EngineSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They change the text that the model learns."""

    monkeypatch.setattr(training, "_fill", lambda *args: [])
    specs = [base, *(replace(base, options={"thinking": value}) for value in (True, False, True))]
    names = [warm_up(stage1, spec, **{**QUICK, "style": "chat"}).adapter for spec in specs]
    assert len(set(names)) == 3
    assert names[1] == names[3]
