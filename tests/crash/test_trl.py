"""TRL's trainers take every export as it is, from a file and as a Dataset, and train exactly the targets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_dataset

from tests.support.caches import use_caches
from tests.support.models import tiny_llama
from toolrlef_data import (
    ANNOTATIONS,
    TASKS,
    TOOLS,
    Responder,
    answer,
    build_stage1,
    build_stage2,
    environment,
    export,
    grade,
    load_source,
    preference_pairs,
    respond,
    reward,
    scripted,
    to_trainer,
    trajectories,
)

trl = pytest.importorskip("trl", exc_type=ImportError)

from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: E402
from transformers.utils import get_json_schema  # noqa: E402
from trl.chat_template_utils import qwen2_5_chat_template  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of TRL and its dependencies
TEXTS = {"hasty": "It is 8, I think.", "careful": "calculator(2*4)", "far": "I use calculator(2000*4)."}
END = "<|im_end|>"
CALL = '<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'  # of the chat template


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """Tables of all kinds; the student is right on one question, so that stage 1 has calls and answers."""
    with use_caches(tmp_path_factory.mktemp("caches")):
        questions = load_source("sample", split="train").select(range(4))
        stage1 = build_stage1(grade(answer(questions, scripted({"": "The answer is 54."}))), ANNOTATIONS)
        stage2 = build_stage2(respond(stage1, [Responder(name, scripted({"": text})) for name, text in TEXTS.items()]))
        answers = load_source("sample_trajectories").select(range(2))
        made = {
            "stage1": stage1,
            "stage2": stage2,
            "split": trajectories(answers, keep_thought=False),
            "merged": trajectories(answers, layout="merged"),
            "pairs": preference_pairs(answers),
        }
        return {name: Dataset.from_list(table.to_list(), features=table.features) for name, table in made.items()}


@pytest.fixture(scope="module")
def model(tables: dict[str, Dataset], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small random model with the chat template of Qwen2.5, which has tools."""
    texts = [qwen2_5_chat_template, *(json.dumps(row) for table in tables.values() for row in table)]
    folder = tmp_path_factory.mktemp("model")
    return str(tiny_llama(folder, template=qwen2_5_chat_template, context=4096, texts=texts, eos=END))


def settings(folder: Path, config: Any, **options: Any) -> Any:
    shared = {"output_dir": str(folder), "max_steps": 1, "per_device_train_batch_size": 2, "report_to": []}
    shared |= {"save_strategy": "no", "use_cpu": True, "disable_tqdm": True, "logging_strategy": "no"}
    return config(**{**shared, **options})


def sources(table: Dataset, name: str, folder: Path, **options: Any) -> list[Dataset]:
    path = export(table, name, folder / f"{name}.jsonl", unfit="drop", **options)
    loaded = load_dataset("json", data_files=str(path), split="train", cache_dir=str(folder / "hf"))
    return [loaded, to_trainer(table, name, unfit="drop", **options)]


def rendered(reply: Any) -> str:
    """Return the tokens of a reply as text: with the end of the turn, and with native calls as the template has them."""
    if isinstance(reply, str):
        return reply + END
    [message] = reply
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    texts = [CALL.format(name=call["name"], arguments=json.dumps(call["arguments"])) for call in calls]
    return "\n".join([*([message["content"]] if message["content"] else []), *texts]) + f"{END}\n"


SFT = [
    *(("stage1", {"style": style}) for style in ("chat", "alpaca", "completion", "vicuna")),
    ("stage1", {"calls": "native"}),
    ("split", {}),
    ("merged", {}),
]


@pytest.mark.parametrize(("name", "options"), SFT, ids=lambda value: str(value))
def test_the_trained_labels_decode_to_the_target(
    name: str, options: dict[str, str], tables: dict[str, Dataset], model: str, tmp_path: Path
) -> None:
    for rows in sources(tables[name], "trl", tmp_path, **options):
        trainer = trl.SFTTrainer(model, settings(tmp_path, trl.SFTConfig, max_length=4096), train_dataset=rows)
        decoded = []
        for sample in trainer.train_dataset:
            labels = trainer.data_collator([sample])["labels"][0]
            decoded.append(trainer.processing_class.decode(labels[labels != -100]))
        assert decoded == [rendered(row["completion"]) for row in rows]
    trainer.train()


@pytest.mark.parametrize("options", [{"style": "completion"}, {"style": "chat"}, {"calls": "native"}], ids=str)
def test_pairs_margins_and_labels_are_trained(
    options: dict[str, str], tables: dict[str, Dataset], model: str, tmp_path: Path
) -> None:
    for rows in sources(tables["stage2"], "trl_preference", tmp_path, pairs="all", **options):
        dpo = trl.DPOTrainer(model, args=settings(tmp_path, trl.DPOConfig), train_dataset=rows)
        for side in ("chosen", "rejected"):
            ids = [dpo.processing_class.decode(sample[f"{side}_ids"]) for sample in dpo.train_dataset]
            assert ids == [rendered(row[side]) for row in rows]
    dpo.train()
    from trl.experimental.tpo import TPOConfig, TPOTrainer

    for rows in sources(tables["stage2"], "trl_reward", tmp_path, **options):
        classifier = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1)
        config = settings(tmp_path, trl.RewardConfig)
        judge = trl.RewardTrainer(
            classifier, config, train_dataset=rows, processing_class=AutoTokenizer.from_pretrained(model)
        )
        margins = [judge.data_collator([sample])["margin"].item() for sample in judge.train_dataset]
        assert margins == pytest.approx([row["margin"] for row in rows])
    judge.train()
    for rows in sources(tables["stage2"], "trl_kto", tmp_path, **options):
        kto = trl.KTOTrainer(model, args=settings(tmp_path, trl.KTOConfig), train_dataset=rows)
        assert kto.train_dataset["label"][:] == rows["label"][:]
        assert {True, False} == set(rows["label"])
    kto.train()
    for rows in sources(tables["stage2"], "trl_tpo", tmp_path, **options):
        tpo = TPOTrainer(model, args=settings(tmp_path, TPOConfig), train_dataset=rows)
        assert len(tpo.train_dataset) == len(rows)
    tpo.train()


def test_preferences_of_steps_are_trained(tables: dict[str, Dataset], model: str, tmp_path: Path) -> None:
    for rows in sources(tables["pairs"], "trl_preference", tmp_path):
        dpo = trl.DPOTrainer(model, args=settings(tmp_path, trl.DPOConfig, max_length=4096), train_dataset=rows)
        chosen = [dpo.processing_class.decode(sample["chosen_ids"]) for sample in dpo.train_dataset]
        assert chosen == [rendered(row["chosen"]) for row in rows]
    dpo.train()


@pytest.fixture(scope="module")
def caller(tables: dict[str, Dataset], model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model after training on the native call of one row, which it then makes by itself."""
    folder = tmp_path_factory.mktemp("caller")
    schema = json.dumps([get_json_schema(environment("math").calculator)])
    rows = to_trainer(first_row(tables), "trl", calls="native").map(lambda row: {"tools": schema})
    options = {"max_steps": 30, "learning_rate": 3e-3, "lr_scheduler_type": "constant", "max_length": 1024}
    trainer = trl.SFTTrainer(model, settings(folder, trl.SFTConfig, **options), train_dataset=rows)
    trainer.train()
    trainer.save_model(str(folder))
    return str(folder)


def first_row(tables: dict[str, Dataset]) -> Dataset:
    row = tables["stage1"].to_list()[1]
    assert row["uses_tool"]
    return Dataset.from_list([row], features=tables["stage1"].features)


GRPO = {"num_generations": 2, "max_completion_length": 200, "temperature": 0.01, "max_tool_calling_iterations": 1}


@pytest.mark.parametrize("way", ["environment", "environment and reward", "factory method", "tools"])
def test_grpo_executes_the_calls_and_asks_the_grader_once(
    way: str, tables: dict[str, Dataset], caller: str, tmp_path: Path
) -> None:
    ways: dict[str, dict[str, Any]] = {
        "environment": {"environment_factory": environment("math")},
        "environment and reward": {"environment_factory": environment("math"), "reward_funcs": reward("math")},
        "factory method": {"environment_factory": TASKS["math"].environment},
        "tools": {"tools": [TOOLS["calculator"].as_function()], "reward_funcs": reward("math")},
    }
    arguments = ways[way]
    config = settings(tmp_path, trl.GRPOConfig, **GRPO, max_steps=2, logging_strategy="steps", logging_steps=1)
    rows = to_trainer(first_row(tables), "trl_grpo")
    trainer = trl.GRPOTrainer(caller, args=config, train_dataset=rows, **arguments)
    trainer.train()
    logs = [log for log in trainer.state.log_history if "reward" in log]
    assert [log["tools/call_frequency"] for log in logs] == [1.0, 1.0]
    assert [log["tools/failure_frequency"] for log in logs] == [0.0, 0.0]
    if "reward_funcs" not in arguments:
        assert [log["reward"] for log in logs] == [1.0, 1.0]
    else:
        assert all(0.0 <= log["reward"] <= 1.0 for log in logs)


def test_grpo_trains_twenty_steps(tables: dict[str, Dataset], model: str, tmp_path: Path) -> None:
    options = {"num_generations": 2, "max_completion_length": 4, "max_steps": 20}
    for rows in sources(tables["stage2"], "trl_grpo", tmp_path):
        config = settings(tmp_path, trl.GRPOConfig, **options)
        trainer = trl.GRPOTrainer(
            model, reward("math"), args=config, train_dataset=rows, environment_factory=environment("math")
        )
    trainer.train()
    assert trainer.state.global_step == 20
    assert trainer.reward_func_names == ["math_correctness", "math_environment"]
