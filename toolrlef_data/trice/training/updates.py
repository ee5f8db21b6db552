"""The optimizer updates of a training run, by the Trainer of transformers and an adapter of peft."""

from __future__ import annotations

import itertools
import math
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolrlef_data.engines.local.loading import LoadedModel
from toolrlef_data.engines.local.scoring.layouts import token_logprobs
from toolrlef_data.engines.local.scoring.selection import LayoutSelection
from toolrlef_data.engines.local.weights import resolve_adapter, silence_transformers
from toolrlef_data.engines.progress import step_bar
from toolrlef_data.trice.training.losses import batch_loss, count_pairs
from toolrlef_data.trice.training.samples import Sample, batches, split

if TYPE_CHECKING:
    import torch

__all__ = ["Updates", "adapt", "run_updates", "seeded", "trainer_arguments"]


@dataclass(frozen=True, slots=True)
class Updates:
    """Settings of the optimizer updates.

    Args:
        steps: number of updates.
        batch_size: rows per batch.
        accumulation: batches per update, one after the other.
        learning_rate: the highest learning rate of the schedule, with AdamW.
        schedule: name of a schedule of transformers, such as "linear" or "constant".
        weight: weight of the ranking loss.
        compat: whether losses are reduced as in the original code.
        seed: determines the order of rows, the initial weights of an adapter and the dropout.
        kept_steps: updates after which the adapter is saved, too.
    """

    steps: int
    batch_size: int
    accumulation: int
    learning_rate: float
    schedule: str
    weight: float
    compat: bool
    seed: int
    kept_steps: tuple[int, ...]


@contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Seed the generators of torch, numpy and Python, and restore their states afterwards."""
    import numpy as np
    import torch

    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([torch.device(device)] if device.startswith("cuda") else []):
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def adapt(loaded: LoadedModel, name: str, adapter: str | None, lora: dict[str, Any]) -> Any:
    """Return a model with a trainable adapter: a new one, or a copy of an existing one.

    Args:
        loaded: the base model, which is modified.
        name: the user's name of the model; the adapter stores it in place of a path on this machine.
        adapter: the adapter to begin with. Default: a new one.
        lora: arguments of `peft.LoraConfig` for a new one. Modules named "q_proj" and "v_proj" become all linear layers
            in a model without "q_proj".
    """
    import peft

    if adapter is not None:
        source, revision = resolve_adapter(adapter).pretrained_args()
        model = peft.PeftModel.from_pretrained(loaded.model, source, revision=revision, is_trainable=True)
    else:
        has_q_proj = any(module.endswith("q_proj") for module, _ in loaded.model.named_modules())
        if not has_q_proj and sorted(lora.get("target_modules") or ()) == ["q_proj", "v_proj"]:
            has_conv1d = any(type(module).__name__ == "Conv1D" for module in loaded.model.modules())  # as in GPT-2
            lora = {**lora, "target_modules": "all-linear", "fan_in_fan_out": has_conv1d}
        model = peft.get_peft_model(loaded.model, peft.LoraConfig(task_type="CAUSAL_LM", **lora))
    config = model.peft_config["default"]
    config.base_model_name_or_path = name
    for field, value in vars(config).items():
        if isinstance(value, set):  # a set's order, and so the adapter's digest, differs between processes
            setattr(config, field, sorted(value))
    return model


def run_updates(
    model: Any,
    samples: Sequence[Sample],
    held_out: Sequence[Sample],
    updates: Updates,
    *,
    description: str,
    show: bool,
    save: Callable[[int], None],
) -> list[dict[str, float]]:
    """Train an adapter, and return a log of the updates.

    Args:
        model: a model with a trainable adapter.
        samples, held_out: rows of one stage; `held_out` are evaluated at the end and after each kept step.
        updates: the settings.
        description, show: text of the progress bar, and whether it is shown.
        save: saves the adapter after a kept step.

    Returns:
        One entry per update with step and loss; of evaluated steps, with held_out_loss and, for stage 2,
        held_out_ranked (the share of pairs in the right order).
    """
    import transformers

    log: list[dict[str, float]] = []
    layout = _layout(model, [*samples, *held_out])

    class AdapterTrainer(transformers.Trainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
            model.train()
            update, losses = inputs["samples"], []
            for batch in split(update, updates.batch_size):
                values = token_logprobs(model, [sample.tokens for sample in batch], layout)
                loss = batch_loss(batch, values, weight=updates.weight, compat=updates.compat, update=update)
                self.accelerator.backward(loss)
                losses.append(loss.detach())
            total = sum(losses)
            log.append({"step": len(log) + 1, "loss": round(float(total), 6)})
            return total

    class Steps(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            step = len(log)
            if held_out and (step in updates.kept_steps or step == updates.steps):
                log[-1] |= evaluate_samples(model, held_out, updates, layout)
            if step in updates.kept_steps:
                save(step)
            bar.set_postfix(loss=log[-1]["loss"], refresh=False)
            bar.update()

    n_rows = updates.batch_size * updates.accumulation
    planned = list(itertools.islice(batches(samples, n_rows, updates.seed), updates.steps))
    bar = step_bar(description, updates.steps, show)
    with tempfile.TemporaryDirectory() as scratch, silence_transformers(), bar:
        trainer = AdapterTrainer(
            model,
            trainer_arguments(scratch, updates, model.device),
            train_dataset=planned,
            data_collator=lambda items: {"samples": items[0]},
            callbacks=[Steps()],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return log


def trainer_arguments(folder: str, updates: Updates, model_device: torch.device) -> Any:
    """Return the arguments of a Trainer that leaves the model on its device; those of transformers use the first GPU.

    Args:
        folder: a folder for the files of the Trainer.
        updates: the settings.
        model_device: the device of the model.
    """
    import transformers

    class Arguments(transformers.TrainingArguments):  # type: ignore[misc]
        place_model_on_device = False

        @property
        def device(self) -> torch.device:
            _ = super().device  # sets up accelerate
            return model_device

    with _accelerate_device(str(model_device)):
        arguments = Arguments(
            output_dir=folder,
            per_device_train_batch_size=1,  # an item is an update
            num_train_epochs=1,
            train_sampling_strategy="sequential",
            learning_rate=updates.learning_rate,
            lr_scheduler_type=updates.schedule,
            weight_decay=0.0,
            max_grad_norm=1.0,
            seed=updates.seed,
            use_cpu=model_device.type == "cpu",
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        _ = arguments.device
    arguments._n_gpu = min(arguments.n_gpu, 1)  # else the Trainer splits the items over all GPUs
    return arguments


@contextmanager
def _accelerate_device(device: str) -> Iterator[None]:
    """Set the device of the state of accelerate that is set up meanwhile."""
    name = "ACCELERATE_TORCH_DEVICE"
    before = os.environ.get(name)
    os.environ[name] = device
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _layout(model: Any, samples: Sequence[Sample]) -> str:
    """Return the fastest layout that is exact for a model and its longest row; no prompt is shared in stage 1."""
    import torch

    if all(len(sample.tokens.responses) == 1 for sample in samples):
        return "padded"
    selection = LayoutSelection(tolerance=math.inf)  # rounding errors do not matter in training
    model.eval()
    with torch.inference_mode():
        selection.update(model, [sample.tokens for sample in samples])
    return selection.layout


def evaluate_samples(model: Any, samples: Sequence[Sample], updates: Updates, layout: str) -> dict[str, float]:
    """Return the mean loss of rows and, for stage 2, the share of pairs that the model ranks as the scores do."""
    import torch

    model.eval()
    losses, ranked, n_pairs = [], 0, 0
    with torch.no_grad():
        for batch in split(samples, updates.batch_size):
            values = token_logprobs(model, [sample.tokens for sample in batch], layout)
            loss = batch_loss(batch, values, weight=updates.weight, compat=updates.compat)
            losses.append(loss.item() * len(batch))
            for sample, tokens in zip(batch, values, strict=True):
                right, all_pairs = count_pairs([float(response.mean()) for response in tokens], sample.scores)
                ranked, n_pairs = ranked + right, n_pairs + all_pairs
    model.train()
    result = {"held_out_loss": round(sum(losses) / len(samples), 6)}
    return {**result, "held_out_ranked": round(ranked / n_pairs, 6)} if n_pairs else result
