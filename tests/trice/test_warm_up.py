"""`warm_up`: trained once, keyed by what decides it, whole or not there, and it learns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tests.support.models import tiny_llama
from toolrlef_data.engines.local.engine import LocalEngine, load_model, unload
from toolrlef_data.engines.prompts import STYLES, render_prompt
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.records import InputError, MissingColumns, UnknownName
from toolrlef_data.tables.fingerprint import canonical
from toolrlef_data.trice import warm_up as training
from toolrlef_data.trice.warm_up import warm_up

ROWS = [
    {"instruction": "Write a call.", "input": f"How many in {n} boxes of 12?", "output": f"calculator({n}*12)"}
    for n in range(2, 10)
]
QUICK: dict[str, Any] = {"steps": 3, "batch_size": 2, "learning_rate": 1e-2, "style": "completion"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A model this small gains nothing from threads."""
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
def own_adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(training, "home_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "adapters"


@pytest.fixture
def stage1() -> Dataset:
    return Dataset.from_list(ROWS)


def lora(**changed: Any) -> Any:
    import peft

    return peft.LoraConfig(**{**training.LORA, **changed})


def losses(spec: EngineSpec) -> list[float]:
    found: list[float] = json.loads((Path(spec.adapter or "") / "warm_up.json").read_text())["losses"]
    return found


def test_it_learns_the_form_of_the_output(stage1: Dataset, base: EngineSpec) -> None:
    style = "completion"
    warmed = warm_up(
        stage1, base, steps=60, batch_size=8, learning_rate=2e-2, lora=lora(r=16, lora_dropout=0.0), style=style
    )
    fall = losses(warmed)
    assert len(fall) == 60
    assert fall[-1] < fall[0] / 3
    prompt = render_prompt(style, ROWS[0]["instruction"], ROWS[0]["input"])
    assert isinstance(prompt, str)
    (((_, reply),),) = LocalEngine(warmed).generate([("a", Request(prompt=prompt))])
    (((_, before),),) = LocalEngine(base).generate([("a", Request(prompt=prompt))])
    assert "calculator(" in (reply.text or "")
    assert reply.finish_reason == "stop", "the end of a response is learnt too"
    assert "calculator(" not in (before.text or "")


def test_a_second_call_trains_nothing(stage1: Dataset, base: EngineSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    first = warm_up(stage1, base, **QUICK)
    times = {path: path.stat().st_mtime_ns for path in Path(first.adapter or "").iterdir()}
    monkeypatch.setattr(training, "_train", None)
    again = warm_up(stage1, replace(base, temperature=1.0, batch_tokens=99), **QUICK)
    assert again.adapter == first.adapter, "sampling and batches do not train"
    copy = Dataset.from_list([{**row, "id": str(n)} for n, row in enumerate(ROWS)])
    assert warm_up(copy, base, **QUICK).adapter == first.adapter, "the rows are the same"
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


def test_everything_that_decides_an_adapter_is_in_its_name(
    stage1: Dataset, base: EngineSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    class Adapter:
        def save_pretrained(self, folder: Path, **_: Any) -> None:
            folder.mkdir(exist_ok=True)

    def train(*what: Any) -> tuple[Adapter, list[float]]:
        trained.append(what)
        return Adapter(), []

    monkeypatch.setattr(training, "_train", train)
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
    monkeypatch.setattr(training, "_train", None)
    given = lora(target_modules=["v_proj", "q_proj"])
    before = given.to_dict()
    same = [given, lora(task_type="CAUSAL_LM", base_model_name_or_path="another", inference_mode=True)]
    assert {warm_up(stage1, base, lora=each, **QUICK).adapter for each in same} == {first.adapter}
    assert given.to_dict() == before
    for other in (peft.AdaLoraConfig(total_step=9), {"r": 8}):
        with pytest.raises(InputError, match=r"peft\.LoraConfig, found"):
            warm_up(stage1, base, lora=other, **QUICK)


def test_the_names_of_modules_are_in_order() -> None:
    """peft keeps sets of them, whose order is another in each process."""
    names = ["v_proj", "q_proj", "up_proj", "o_proj", "k_proj", "down_proj"]
    values = canonical(training._values_of(lora(target_modules=names, exclude_modules=names[:4])))
    assert (values["target_modules"], values["exclude_modules"]) == (sorted(names), sorted(names[:4]))


def test_what_a_configuration_says_is_trained(stage1: Dataset, base: EngineSpec) -> None:
    given = lora(target_modules=["k_proj"], use_rslora=True, bias="lora_only", rank_pattern={"k_proj": 2})
    folder = Path(warm_up(stage1, base, lora=given, **QUICK).adapter or "")
    said = json.loads((folder / "adapter_config.json").read_text())
    assert said["target_modules"] == ["k_proj"]
    assert (said["use_rslora"], said["bias"], said["rank_pattern"]) == (True, "lora_only", {"k_proj": 2})
    assert (said["task_type"], said["inference_mode"]) == ("CAUSAL_LM", True)
    assert given.base_model_name_or_path is None


def test_the_old_keywords_work_and_say_what_to_write(
    stage1: Dataset, base: EngineSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = lora(r=4, lora_alpha=32, lora_dropout=0.1, target_modules=["q_proj"])
    first = warm_up(stage1, base, lora=wanted, **QUICK)
    monkeypatch.setattr(training, "_train", None)
    old: dict[str, Any] = {"r": 4, "alpha": 32, "dropout": 0.1, "target_modules": ("q_proj",)}
    with pytest.warns(DeprecationWarning, match=r"LoraConfig\(r=4, lora_alpha=32") as told:
        assert warm_up(stage1, base, **QUICK, **old).adapter == first.adapter
    assert [Path(each.filename).name for each in told] == ["test_warm_up.py"]
    with pytest.raises(InputError, match="not both"):
        warm_up(stage1, base, lora=wanted, r=4)
    with pytest.raises(TypeError, match="unexpected keyword argument 'rank'"):
        warm_up(stage1, base, rank=4)


def test_the_seed_decides_every_weight(stage1: Dataset, base: EngineSpec, own_adapters: Path) -> None:
    import torch

    def weights(**changed: Any) -> bytes:
        folder = Path(warm_up(stage1, base, **{**QUICK, **changed}).adapter or "")
        data = (folder / "adapter_model.safetensors").read_bytes()
        folder.rename(own_adapters / f"moved-{len(list(own_adapters.iterdir()))}")
        return data

    first = weights()
    state = torch.random.get_rng_state()
    torch.manual_seed(99)
    assert weights() == first, "whatever the global generator was"
    torch.random.set_rng_state(state)
    weights(seed=1)
    assert torch.equal(torch.random.get_rng_state(), state), "and it is left as it was"
    assert weights(seed=1) != first


def test_a_killed_training_leaves_nothing_that_is_believed(
    stage1: Dataset, base: EngineSpec, own_adapters: Path
) -> None:
    whole = Path(warm_up(stage1, base, **QUICK).adapter or "")
    expected = sorted(path.name for path in whole.iterdir())
    partial = own_adapters / f".{whole.name}.new"
    whole.rename(partial)
    (partial / "adapter_config.json").write_text("{")
    (partial / "half").write_text("")
    assert Path(warm_up(stage1, base, **QUICK).adapter or "") == whole
    assert sorted(path.name for path in whole.iterdir()) == expected
    assert not partial.exists()


def test_an_adapter_names_its_model_as_the_user_did(stage1: Dataset, base: EngineSpec) -> None:
    folder = Path(warm_up(stage1, base, **QUICK).adapter or "")
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == base.model


def test_an_adapter_is_the_same_in_every_process(stage1: Dataset, base: EngineSpec) -> None:
    """Sets have another order in another process; the digest of the adapter is in reply keys."""
    import peft

    names = ["q_proj", "o_proj", "v_proj", "k_proj", "gate_proj", "up_proj", "down_proj"]
    folder = Path(warm_up(stage1, base, lora=peft.LoraConfig(target_modules=names), **QUICK).adapter or "")
    assert json.loads((folder / "adapter_config.json").read_text())["target_modules"] == sorted(names)


@pytest.mark.parametrize("style", STYLES)
def test_the_loss_is_on_the_response_and_its_end(base: EngineSpec, style: str) -> None:
    loaded = load_model(base.model)
    settings = {"style": style, "options": (), "max_tokens": 512}
    sample = training._sample(ROWS[0], loaded, settings)
    assert sample is not None
    asked, answered = (loaded.tokenizer.decode(ids) for ids in sample)
    assert answered.lstrip(" ") == ROWS[0]["output"] + "</s>"
    assert ROWS[0]["output"] not in asked
    assert asked.endswith("<|assistant|>") or not asked.endswith(" ")
    longer = training._loss(loaded.model, [sample, (sample[0] * 3, sample[1])])
    shorter = [training._loss(loaded.model, [each]) for each in [sample, (sample[0] * 3, sample[1])]]
    assert longer.item() == pytest.approx(sum(loss.item() for loss in shorter) / 2, rel=1e-4), "padding counts nothing"


def test_rows_that_are_too_long_are_left_out(stage1: Dataset, base: EngineSpec) -> None:
    with pytest.raises(InputError, match=r"none of the 8 rows .* max_tokens=5"):
        warm_up(stage1, base, **{**QUICK, "max_tokens": 5})


def test_batches_cover_every_row_before_one_comes_again() -> None:
    batches = list(training._batches(list(range(10)), 5, 4, 0))
    flat = [row for batch in batches for row in batch]
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10))
    assert flat[:10] != flat[10:]
    assert list(training._batches(list(range(3)), 2, 5, 0)) == list(training._batches(list(range(3)), 2, 5, 0))


def test_what_cannot_be_trained_is_refused(stage1: Dataset, base: EngineSpec, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="local model without an adapter"):
        warm_up(stage1, EngineSpec("scripted", "x"), **QUICK)
    with pytest.raises(InputError, match="local model without an adapter"):
        warm_up(stage1, replace(base, adapter="a"), **QUICK)
    with pytest.raises(MissingColumns, match="found instruction"):
        warm_up(stage1.select_columns(["instruction"]), base, **QUICK)
    with pytest.raises(UnknownName, match="choose from"):
        warm_up(stage1, base, **{**QUICK, "style": "mumble"})
    plain = EngineSpec("local", str(tiny_llama(tmp_path / "plain", template=None)))
    with pytest.raises(InputError, match="no chat template"):
        warm_up(stage1, plain, **{**QUICK, "style": "chat"})
