"""TRL's trainers take the files and the Datasets as they are, and train exactly the targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_dataset

from tests.support.models import tiny_llama
from toolrlef_data import export, reward, to_trainer
from toolrlef_data.columns import STAGE1, STAGE2

trl = pytest.importorskip("trl", exc_type=ImportError)

TEXTS = ["calculator(3*12)", "The answer is 48", "calculator(12)"]


def row(n: int, features: Any, **columns: Any) -> dict[str, Any]:
    shared = {
        "id": f"r{n}",
        "task": "math",
        "instruction": "Answer",
        "input": "How many apples are there in 3 boxes of 12",
    }
    return {**dict.fromkeys(features), **shared, "answers": ["36"], **columns}


def stage1() -> Dataset:
    return Dataset.from_list([row(n, STAGE1, output=text) for n, text in enumerate(TEXTS)], features=STAGE1)


def stage2() -> Dataset:
    ranking = {
        "responses": TEXTS,
        "scores": [20.0, 5.0, 10.0],
        "origin": ["gold", "a", "b"],
        "correct": [True, False, False],
    }
    return Dataset.from_list([row(n, STAGE2, **ranking) for n in range(4)], features=STAGE2)


def settings(folder: Path, config: Any, **options: Any) -> Any:
    shared = {"output_dir": str(folder), "max_steps": 2, "per_device_train_batch_size": 2, "report_to": []}
    return config(**shared, save_strategy="no", use_cpu=True, disable_tqdm=True, logging_strategy="no", **options)


def sources(table: Dataset, name: str, folder: Path, **options: Any) -> list[Dataset]:
    path = export(table, name, folder / f"{name}.jsonl", **options)
    loaded = load_dataset("json", data_files=str(path), split="train", cache_dir=str(folder / "hf"))
    return [loaded, to_trainer(table, name, **options)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_llama(tmp_path_factory.mktemp("model"), context=512))


@pytest.mark.parametrize("style", ["chat", "alpaca", "completion"])
@pytest.mark.filterwarnings("ignore")  # of TRL and its dependencies
def test_the_trained_labels_decode_to_the_target(style: str, model: str, tmp_path: Path) -> None:
    for rows in sources(stage1(), "trl", tmp_path, style=style):
        trainer = trl.SFTTrainer(model, settings(tmp_path, trl.SFTConfig), train_dataset=rows)
        trainer.train()
        tokenizer = trainer.processing_class
        decoded = []
        for sample in trainer.train_dataset:
            labels = trainer.data_collator([sample])["labels"][0]
            decoded.append(tokenizer.decode(labels[labels != -100]))
        blank = " " if style == "completion" else ""
        assert decoded == [f"{blank}{text}</s>" for text in TEXTS]


@pytest.mark.filterwarnings("ignore")
def test_preferences_rewards_and_labels_are_trained(model: str, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    for rows in sources(stage2(), "trl_preference", tmp_path, style="completion", pairs="all"):
        dpo = trl.DPOTrainer(model, args=settings(tmp_path, trl.DPOConfig), train_dataset=rows)
        dpo.train()
        chosen = [dpo.processing_class.decode(sample["chosen_ids"]) for sample in dpo.train_dataset]
        assert chosen == [f" {text}</s>" for text in (TEXTS[0], TEXTS[0], TEXTS[2])] * 4
    for rows in sources(stage2(), "trl_reward", tmp_path):
        classifier = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1)
        arguments = settings(tmp_path, trl.RewardConfig)
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model)
        trainer = trl.RewardTrainer(classifier, arguments, train_dataset=rows, processing_class=tokenizer)
        trainer.train()
        assert trainer.data_collator([trainer.train_dataset[0]])["margin"].tolist() == [0.75]
    for rows in sources(stage2(), "trl_kto", tmp_path, style="alpaca"):
        kto = trl.KTOTrainer(model, args=settings(tmp_path, trl.KTOConfig), train_dataset=rows)
        kto.train()
        assert kto.train_dataset["label"][:3] == [True, False, False]


@pytest.mark.filterwarnings("ignore")
def test_grpo_asks_the_grader(model: str, tmp_path: Path) -> None:
    options = {"num_generations": 2, "max_completion_length": 4}
    for rows in sources(stage1(), "trl_grpo", tmp_path):
        arguments = settings(tmp_path, trl.GRPOConfig, **options)
        trainer = trl.GRPOTrainer(model, reward_funcs=reward("math"), args=arguments, train_dataset=rows)
        trainer.train()
        assert trainer.reward_func_names == ["math_correctness"]
