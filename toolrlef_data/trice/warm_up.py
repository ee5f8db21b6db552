"""Training on the data sets of this package: the LoRA warm-up that makes a local model a responder.

`warm_up` is a cached step: the adapter lies in `$HF_HOME/toolrlef_data/adapters/`, in a folder named by the rows, the
model, the settings and the code that made it, written beside and renamed. It is a few steps on the CPU or one GPU with
a constant learning rate: enough to teach a form, not a trainer. For whole runs, export the rows to one.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from toolrlef_data.engines.local.decoding import last_logits_kwargs
from toolrlef_data.engines.local.engine import LocalEngine
from toolrlef_data.engines.local.loading import LoadedModel, load_model, resolve_dtype
from toolrlef_data.engines.local.weights import silence_transformers
from toolrlef_data.engines.prompts import render_prompt
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import InputError, MissingColumns
from toolrlef_data.tables.files import fill_once, home_dir
from toolrlef_data.tables.fingerprint import canonical, code_digest, digest

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import LoraConfig

__all__ = ["warm_up"]

COLUMNS = ("instruction", "input", "output")
# Targets that do not count into the loss: PyTorch's cross-entropy leaves this index out.
IGNORED = -100
# TRICE's adapter for a 7B model (its README, "Training"), as arguments of peft's LoraConfig.
LORA: dict[str, Any] = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.05, "target_modules": ["q_proj", "v_proj"]}
# What the training sets itself, whatever a configuration says.
SET_HERE = frozenset({"base_model_name_or_path", "inference_mode", "peft_version", "task_type"})
# Keywords of before there was `lora` -> arguments of LoraConfig.
DEPRECATED = {"r": "r", "alpha": "lora_alpha", "dropout": "lora_dropout", "target_modules": "target_modules"}


def warm_up(
    stage1: Dataset,
    base: EngineSpec,
    *,
    lora: LoraConfig | None = None,
    steps: int = 12,
    batch_size: int = 4,
    learning_rate: float = 1e-4,
    max_tokens: int = 512,
    seed: int = 0,
    style: str = "alpaca",
    **deprecated: Any,
) -> EngineSpec:
    """Fine-tune a LoRA adapter on stage 1, once, and return the spec of the model with it.

    The defaults of learning rate, LoRA and tokens are TRICE's for a 7B model (its README, "Training"; there 5 epochs).
    A model of 135M parameters learns the form of a call in 12 steps at a learning rate of 1e-3.

    Args:
        stage1: rows with instruction, input and output; the loss is on the output alone.
        base: a spec of kind "local" without an adapter.
        lora: the adapter; by default rank 8, alpha 16, dropout 0.05, on q_proj and v_proj.
        steps: optimizer steps.
        batch_size: rows a step.
        max_tokens: rows with more tokens, prompt and output, are not trained on.
        seed: of the order of rows, the adapter's first weights and the dropout.
        style: of the prompt, as the responder will be asked.
        deprecated: r, alpha, dropout and target_modules in the place of `lora`.

    Raises:
        InputError: `base` cannot be trained on, or no row is short enough.
        MissingColumns: `stage1` is no stage 1.
    """
    if base.kind != "local" or base.adapter:
        raise InputError(f"warm_up trains a local model without an adapter; found {base.kind!r} with {base.adapter!r}")
    if isinstance(stage1, dict):
        raise InputError(f"warm_up trains on one split: pass one of {', '.join(map(str, stage1))}")
    missing = [name for name in COLUMNS if name not in stage1.column_names]
    if missing:
        raise MissingColumns(f"warm_up reads {', '.join(missing)}; found {', '.join(stage1.column_names)}")
    if deprecated:
        lora = _from_deprecated(lora, deprecated)
    loop = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    prompts = {"max_tokens": max_tokens, "style": style, "options": asdict(base)["options"]}
    settings = {"lora": LORA if lora is None else _values_of(lora), **loop, **prompts}
    said = canonical(settings)
    identity = LocalEngine(base).identity()
    folder = home_dir() / "adapters" / digest(_content(stage1), identity, said, code_digest(warm_up))

    def fill(new: Path) -> None:
        model, losses = _train(stage1, base, settings)
        # Else peft asks the Hub for the base model's configuration, to see whether its embeddings changed.
        model.save_pretrained(new, save_embedding_layers=False)
        (new / "warm_up.json").write_text(json.dumps({**said, "losses": losses}, indent=1), "utf-8")

    fill_once(folder, fill)
    return replace(base, adapter=str(folder))


def _from_deprecated(lora: LoraConfig | None, given: dict[str, Any]) -> LoraConfig:
    import peft

    if unknown := given.keys() - DEPRECATED.keys():
        raise TypeError(f"warm_up() got an unexpected keyword argument {min(unknown)!r}")
    if lora is not None:
        raise InputError(f"warm_up takes lora= or {', '.join(given)}, not both")
    renamed = {DEPRECATED[name]: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    advice = ", ".join(f"{name}={value!r}" for name, value in renamed.items())
    warnings.warn(
        f"{', '.join(given)} of warm_up: pass lora=peft.LoraConfig({advice}, ...)", DeprecationWarning, stacklevel=3
    )
    return peft.LoraConfig(**{**LORA, **renamed})


def _values_of(lora: LoraConfig) -> dict[str, Any]:
    """The arguments that make a configuration anew: those of `LORA`, and others where they are not peft's own default.

    The adapter is made from these values, which its name holds, and peft never changes the caller's configuration.
    """
    import peft

    if type(lora) is not peft.LoraConfig:  # AdaLora and others are kinds of it, and train otherwise
        raise InputError(f"lora takes a peft.LoraConfig, found {type(lora).__name__}")
    plain = peft.LoraConfig().to_dict()
    values = lora.to_dict().items()
    return {n: value for n, value in values if n in LORA or (n not in SET_HERE and value != plain[n])}


def _content(stage1: Dataset) -> str:
    """What is trained on, whatever the table's other columns and its history are."""
    total = hashlib.sha256()
    for batch in stage1.select_columns(list(COLUMNS)).iter(batch_size=1000):
        total.update(digest(batch).encode())
    return total.hexdigest()


def _train(stage1: Dataset, base: EngineSpec, settings: dict[str, Any]) -> tuple[Any, list[float]]:
    """The trained peft model, and the mean loss a response token at each step."""
    import peft
    import torch

    # Gradients of float16 underflow without a loss scale.
    found = resolve_dtype(base.dtype, base.device)
    dtype = "float32" if found == "float16" else found
    loaded = load_model(base.model, base.revision, dtype=dtype, device=base.device)
    rows = stage1.select_columns(list(COLUMNS))
    samples = [sample for row in rows if (sample := _sample(row, loaded, settings))]
    if not samples:
        raise InputError(f"none of the {len(rows)} rows of stage 1 fits into max_tokens={settings['max_tokens']}")
    devices = [loaded.model.device] if loaded.model.device.type == "cuda" else []
    with torch.random.fork_rng(devices), silence_transformers():
        torch.manual_seed(settings["seed"])
        model = peft.get_peft_model(loaded.model, peft.LoraConfig(task_type="CAUSAL_LM", **settings["lora"]))
        config = model.peft_config["default"]
        # The name of the model as the user gave it, not the path where its weights lie on this machine.
        config.base_model_name_or_path = base.model
        for name, value in vars(config).items():
            if isinstance(value, set):  # whose order differs between processes, and with it the adapter's digest
                setattr(config, name, sorted(value))
        model.train()
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=settings["learning_rate"], weight_decay=0.0)
        losses = []
        for batch in _batches(samples, settings["steps"], settings["batch_size"], settings["seed"]):
            loss = _loss(model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(round(loss.item(), 6))
    return model, losses


def _sample(row: dict[str, str], loaded: LoadedModel, settings: dict[str, Any]) -> tuple[list[int], list[int]] | None:
    """Token ids of the prompt, as the responder will be asked, and of the response with its end; None if too long."""
    tokenizer = loaded.tokenizer
    prompt = render_prompt(settings["style"], row["instruction"], row["input"])
    output = row["output"].strip()
    end = tokenizer.eos_token or ""
    if isinstance(prompt, str):
        first = tokenizer(prompt).input_ids
        response = output + end if prompt[-1:].isspace() else f" {output}{end}"
    else:
        if not tokenizer.chat_template:
            raise InputError('this model has no chat template: choose the style "completion", "alpaca" or "vicuna"')
        turns = [{"role": message.role, "content": message.content} for message in prompt]
        variables = dict(settings["options"])
        asked = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **variables)
        turns.append({"role": "assistant", "content": output})
        whole = tokenizer.apply_chat_template(turns, tokenize=False, **variables)
        first = tokenizer(asked, add_special_tokens=False).input_ids
        response = whole[len(asked) :].rstrip() if whole.startswith(asked) else output + end
    second = tokenizer(response, add_special_tokens=False).input_ids
    return (first, second) if len(first) + len(second) <= settings["max_tokens"] else None


def _batches(samples: Sequence[Any], steps: int, batch_size: int, seed: int) -> Iterator[list[Any]]:
    """Rows in a new order each epoch, drawn from the seed; a batch may reach into the next epoch."""

    def endless() -> Iterator[Any]:
        epoch = 0
        while True:
            yield from Random(f"{seed}:{epoch}").sample(samples, len(samples))
            epoch += 1

    rows = endless()
    for _ in range(steps):
        yield [next(rows) for _ in range(batch_size)]


def _loss(model: Any, batch: Sequence[tuple[list[int], list[int]]]) -> Any:
    """Mean negative log-likelihood of the response tokens of a batch; right padding, which no token attends to."""
    import torch

    width = max(len(first) + len(second) for first, second in batch)
    ids, targets, mask = [], [], []
    for first, second in batch:
        blank = width - len(first) - len(second)
        ids.append(first + second + [0] * blank)
        targets.append([IGNORED] * len(first) + second + [IGNORED] * blank)
        mask.append([1] * (width - blank) + [0] * blank)
    # Logits are wanted from the last token of the shortest prompt on; those of all prompts would be most of the work.
    kept = width - min(len(first) for first, _ in batch) + 1
    device = model.device
    logits = model(
        input_ids=torch.tensor(ids, device=device),
        attention_mask=torch.tensor(mask, device=device),
        use_cache=False,
        **last_logits_kwargs(model, kept),
    ).logits[:, -kept:-1]
    wanted = torch.tensor(targets, device=device)[:, 1 - kept :]
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), ignore_index=IGNORED)
