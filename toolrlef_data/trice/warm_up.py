"""The LoRA warm-up: a short training run on stage 1 that turns a local model into a responder.

`warm_up` is cached: the adapter is stored in `$HF_HOME/toolrlef_data/adapters/`, in a folder named by a digest of the
rows, the model, the settings and the code. Training is a few updates on the CPU or on one GPU at a constant learning
rate, enough to learn the format of a call. For full training, export the rows to a trainer.
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

from toolrlef_data.checks import check_table
from toolrlef_data.engines.local.decoding import last_logits_kwargs
from toolrlef_data.engines.local.engine import LocalEngine
from toolrlef_data.engines.local.loading import LoadedModel, load_model, resolve_dtype
from toolrlef_data.engines.local.weights import silence_transformers
from toolrlef_data.engines.progress import step_bar
from toolrlef_data.engines.prompts import check_prompt, continuation, render_prompt
from toolrlef_data.engines.rules import integer_from, is_number, must_be
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import InputError, MissingColumns
from toolrlef_data.tables.files import fill_once, home_dir
from toolrlef_data.tables.fingerprint import canonical, code_digest, digest

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import LoraConfig

__all__ = ["warm_up"]

COLUMNS = ("instruction", "input", "output")
# PyTorch's cross-entropy ignores targets with this index.
IGNORE_INDEX = -100
# TRICE's adapter for a 7B model (its README, "Training"), as arguments of peft's LoraConfig.
LORA: dict[str, Any] = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.05, "target_modules": ["q_proj", "v_proj"]}
# Fields of LoraConfig that the training sets itself.
SET_BY_TRAINING = frozenset({"base_model_name_or_path", "inference_mode", "peft_version", "task_type"})
# Deprecated keywords of `warm_up` -> arguments of LoraConfig.
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
    """Fine-tune a LoRA adapter on stage 1, and return the spec of the model with the adapter.

    The defaults of learning rate, LoRA and tokens are TRICE's for a 7B model (its README, "Training", with 5 epochs).
    A model of 135M parameters learns the format of a call in 12 updates at a learning rate of 1e-3.

    Args:
        stage1: table with the columns instruction, input and output (text); only the output contributes to the loss.
        base: a spec of kind "local" without an adapter.
        lora: the adapter's configuration; default: rank 8, alpha 16, dropout 0.05, on q_proj and v_proj.
        steps: number of optimizer updates; default 12.
        batch_size: rows per update; default 4.
        learning_rate: constant, with AdamW; default 1e-4.
        max_tokens: maximum tokens of prompt and output together; longer rows are skipped. Default 512.
        seed: determines the row order, the adapter's initial weights and the dropout; default 0.
        style: the prompt style, which must equal the responder's; default "alpaca".
        deprecated: r, alpha, dropout and target_modules; use `lora` instead.

    Returns:
        A copy of `base` whose `adapter` is the folder of the trained adapter.

    Raises:
        InputError: `base` cannot be trained, or every row exceeds `max_tokens`.
        MissingColumns: `stage1` lacks instruction, input or output.
        MissingExtra: peft or torch is not installed.

    >>> from datasets import Dataset
    >>> row = {"instruction": "You can call calculator.", "input": "2 * 3?", "output": "calculator(2*3)"}
    >>> warm_up(Dataset.from_list([row]), EngineSpec("openai_api", "gpt-4o-mini"))
    Traceback (most recent call last):
    toolrlef_data.records.InputError: warm_up: expected a local model without an adapter, found kind='openai_api', ...
    """
    if not isinstance(base, EngineSpec):
        raise InputError(f"warm_up: expected an EngineSpec as base, found {type(base).__name__}")
    if base.kind != "local" or base.adapter:
        raise InputError(
            f"warm_up: expected a local model without an adapter, found kind={base.kind!r}, adapter={base.adapter!r}"
        )
    if isinstance(stage1, dict):
        raise InputError(f"warm_up: expected one split, found several: pass one of {', '.join(map(str, stage1))}")
    check_prompt(style)
    for name, value in {"steps": steps, "batch_size": batch_size, "max_tokens": max_tokens}.items():
        integer_from(1).check(name, value)
    integer_from(0).check("seed", seed)
    must_be("a number above 0", lambda n: is_number(n) and n > 0).check("learning_rate", learning_rate)
    stage1 = check_table(stage1)
    missing = [name for name in COLUMNS if name not in stage1.column_names]
    if missing:
        raise MissingColumns(f"warm_up needs the columns {', '.join(missing)}; found {', '.join(stage1.column_names)}")
    if deprecated:
        lora = _from_deprecated(lora, deprecated)
    loop = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    prompts = {"max_tokens": max_tokens, "style": style, "options": asdict(base)["options"]}
    settings = {"lora": LORA if lora is None else _lora_arguments(lora), **loop, **prompts}
    stored_settings = canonical(settings)
    identity = LocalEngine(base).identity()
    folder = home_dir() / "adapters" / digest(_content_digest(stage1), identity, stored_settings, code_digest(warm_up))

    def fill(new: Path) -> None:
        model, losses = _train(stage1, base, settings)
        # With the default, peft requests the base model's configuration from the Hub to compare the embedding sizes.
        model.save_pretrained(new, save_embedding_layers=False)
        (new / "warm_up.json").write_text(json.dumps({**stored_settings, "losses": losses}, indent=1), "utf-8")

    fill_once(folder, fill)
    return replace(base, adapter=str(folder))


def _from_deprecated(lora: LoraConfig | None, keywords: dict[str, Any]) -> LoraConfig:
    import peft

    if unknown := keywords.keys() - DEPRECATED.keys():
        raise TypeError(f"warm_up() got an unexpected keyword argument {min(unknown)!r}")
    if lora is not None:
        raise InputError(f"warm_up: expected lora or {', '.join(keywords)}, found both")
    arguments = {
        DEPRECATED[name]: list(value) if isinstance(value, tuple) else value for name, value in keywords.items()
    }
    advice = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    warnings.warn(
        f"{', '.join(keywords)} of warm_up: pass lora=peft.LoraConfig({advice}, ...)", DeprecationWarning, stacklevel=3
    )
    return peft.LoraConfig(**{**LORA, **arguments})


def _lora_arguments(lora: LoraConfig) -> dict[str, Any]:
    """Return the arguments that reproduce a configuration: those of `LORA`, and all that differ from peft's defaults.

    They are part of the digest that names the folder. Training builds a new configuration from them, since peft
    modifies its argument.
    """
    import peft

    if type(lora) is not peft.LoraConfig:  # subclasses such as AdaLora train differently
        raise InputError(f"lora: expected a peft.LoraConfig, found {type(lora).__name__}")
    defaults = peft.LoraConfig().to_dict()
    values = lora.to_dict().items()
    return {n: value for n, value in values if n in LORA or (n not in SET_BY_TRAINING and value != defaults[n])}


def _content_digest(stage1: Dataset) -> str:
    """Return a digest of the training columns; other columns and the lineage do not affect it."""
    total = hashlib.sha256()
    for batch in stage1.select_columns(list(COLUMNS)).iter(batch_size=1000):
        total.update(digest(batch).encode())
    return total.hexdigest()


def _train(stage1: Dataset, base: EngineSpec, settings: dict[str, Any]) -> tuple[Any, list[float]]:
    """Return the trained peft model, and the mean loss per response token of each update."""
    import peft
    import torch

    # Gradients of float16 underflow without loss scaling.
    resolved = resolve_dtype(base.dtype, base.device)
    dtype = "float32" if resolved == "float16" else resolved
    loaded = load_model(base.model, base.revision, dtype=dtype, device=base.device)
    rows = stage1.select_columns(list(COLUMNS))
    samples = [sample for row in rows if (sample := _sample(row, loaded, settings))]
    if not samples:
        raise InputError(f"all {len(rows)} rows of stage 1 exceed max_tokens={settings['max_tokens']}")
    devices = [loaded.model.device] if loaded.model.device.type == "cuda" else []
    bar = step_bar(f"Train {Path(base.model).name}", settings["steps"], base.progress)
    with torch.random.fork_rng(devices), silence_transformers(), bar:
        torch.manual_seed(settings["seed"])
        model = peft.get_peft_model(loaded.model, peft.LoraConfig(task_type="CAUSAL_LM", **settings["lora"]))
        config = model.peft_config["default"]
        # The user's name of the model, not the path of its weights on this machine.
        config.base_model_name_or_path = base.model
        for name, value in vars(config).items():
            if isinstance(value, set):  # a set's order, and so the adapter's digest, differs between processes
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
            bar.set_postfix(loss=losses[-1], refresh=False)
            bar.update()
    return model, losses


def _sample(row: dict[str, str], loaded: LoadedModel, settings: dict[str, Any]) -> tuple[list[int], list[int]] | None:
    """Return the token ids of the prompt and of the response with its end token, or None if they are too long."""
    tokenizer = loaded.tokenizer
    prompt = render_prompt(settings["style"], row["instruction"], row["input"])
    output = row["output"].strip()
    end = tokenizer.eos_token or ""
    if isinstance(prompt, str):
        prompt_ids = tokenizer(prompt).input_ids
        response = continuation(prompt, output) + end
    else:
        if not tokenizer.chat_template:
            raise InputError('the model has no chat template: choose the style "completion", "alpaca" or "vicuna"')
        turns = [{"role": message.role, "content": message.content} for message in prompt]
        variables = dict(settings["options"])
        prompt_text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **variables)
        turns.append({"role": "assistant", "content": output})
        full_text = tokenizer.apply_chat_template(turns, tokenize=False, **variables)
        prompt_ids = tokenizer(prompt_text, add_special_tokens=False).input_ids
        response = full_text[len(prompt_text) :].rstrip() if full_text.startswith(prompt_text) else output + end
    response_ids = tokenizer(response, add_special_tokens=False).input_ids
    return (prompt_ids, response_ids) if len(prompt_ids) + len(response_ids) <= settings["max_tokens"] else None


def _batches(samples: Sequence[Any], steps: int, batch_size: int, seed: int) -> Iterator[list[Any]]:
    """Yield batches in a seeded order that differs between epochs; a batch can span two epochs."""

    def endless() -> Iterator[Any]:
        epoch = 0
        while True:
            yield from Random(f"{seed}:{epoch}").sample(samples, len(samples))
            epoch += 1

    rows = endless()
    for _ in range(steps):
        yield [next(rows) for _ in range(batch_size)]


def _loss(model: Any, batch: Sequence[tuple[list[int], list[int]]]) -> Any:
    """Return the mean negative log-likelihood of a batch's response tokens; prompts and padding are masked."""
    import torch

    width = max(len(prompt) + len(response) for prompt, response in batch)
    ids, targets, mask = [], [], []
    for prompt, response in batch:
        padding = width - len(prompt) - len(response)
        ids.append(prompt + response + [0] * padding)
        targets.append([IGNORE_INDEX] * len(prompt) + response + [IGNORE_INDEX] * padding)
        mask.append([1] * (width - padding) + [0] * padding)
    # Computing logits from the last token of the shortest prompt on saves most of the work.
    n_logits = width - min(len(prompt) for prompt, _ in batch) + 1
    device = model.device
    logits = model(
        input_ids=torch.tensor(ids, device=device),
        attention_mask=torch.tensor(mask, device=device),
        use_cache=False,
        **last_logits_kwargs(model, n_logits),
    ).logits[:, -n_logits:-1]
    target_ids = torch.tensor(targets, device=device)[:, 1 - n_logits :]
    return torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), target_ids.flatten(), ignore_index=IGNORE_INDEX
    )
