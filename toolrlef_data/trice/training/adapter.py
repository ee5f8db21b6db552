"""Training of a LoRA adapter on stage 1 or stage 2, once for each set of inputs.

The adapter is stored in `$HF_HOME/toolrlef_data/adapters/`, in a folder named by a digest of the rows, the model, the
settings and the code. `training.json` in it has the settings and the log of all updates.

Not covered: training on several GPUs, full fine-tuning. Export the rows to a trainer for these.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolrlef_data.checks import check_table, check_type
from toolrlef_data.engines.local.engine import LocalEngine
from toolrlef_data.engines.local.loading import load_model, resolve_dtype
from toolrlef_data.engines.local.memory import free_memory
from toolrlef_data.engines.local.scoring.requests import request_tokeniser
from toolrlef_data.engines.local.weights import silence_transformers
from toolrlef_data.engines.prompts import check_prompt
from toolrlef_data.engines.rules import integer_from, is_number, must_be
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import InputError, MissingColumns
from toolrlef_data.tables.files import fill_once, home_dir, seal
from toolrlef_data.tables.fingerprint import canonical, code_digest, digest
from toolrlef_data.trice.training.samples import STAGE1_COLUMNS, STAGE2_COLUMNS, Sample, tokenise_row
from toolrlef_data.trice.training.updates import Updates, adapt, run_updates, seeded

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import LoraConfig

__all__ = ["LORA", "train"]

# TRICE's adapter for a 7B model (its README, "Training"), as arguments of peft's LoraConfig.
LORA: dict[str, Any] = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.05, "target_modules": ["q_proj", "v_proj"]}
# Fields of LoraConfig that the training sets itself.
SET_BY_TRAINING = frozenset({"base_model_name_or_path", "inference_mode", "peft_version", "task_type"})
# Epochs and learning rate for a 7B model (the README of TRICE, "Training").
STAGE1_DEFAULTS, STAGE2_DEFAULTS = (5, 1e-4), (2, 2e-5)
LOG = "training.json"
log = logging.getLogger("toolrlef_data")


def train(
    table: Dataset,
    base: EngineSpec,
    *,
    lora: LoraConfig | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 4,
    accumulation: int = 1,
    learning_rate: float | None = None,
    schedule: str = "linear",
    weight: float = 1.0,
    compat: bool = False,
    style: str = "alpaca",
    max_tokens: int = 512,
    seed: int = 0,
    held_out: Dataset | None = None,
    kept_steps: Sequence[int] = (),
) -> EngineSpec:
    """Train a LoRA adapter on stage 1 or stage 2, and return the spec of the model with the adapter.

    A table with the columns responses and scores is stage 2. Stage 1 is behaviour cloning: the loss is the mean
    negative log-likelihood of the tokens of `output`. The loss of stage 2 adds a ranking loss to the negative
    log-likelihood per token of the best response. It is the sum of max(0, p_i - p_j) over the pairs of a row with
    score_i < score_j; p is the mean log-probability of a response's tokens.

    Args:
        table: one split of stage 1 or stage 2.
        base: a spec of kind "local". Training continues its adapter, if it has one: pass the result of stage 1 to train
            on stage 2.
        lora: configuration of a new adapter; default: rank 8, alpha 16, dropout 0.05, on q_proj and v_proj, or on all
            linear layers of a model without q_proj.
        epochs: passes over the rows; default 5 for stage 1 and 2 for stage 2.
        steps: number of updates, in place of `epochs`.
        batch_size: rows per batch, each with all its responses; default 4.
        accumulation: batches per update; default 1. An update equals that of one large batch, in the memory of a small
            one, except for the dropout.
        learning_rate: the highest rate of the schedule, with AdamW; default 1e-4 for stage 1 and 2e-5 for stage 2.
        schedule: a schedule of transformers, such as "linear" (default), "cosine" or "constant".
        weight: weight of the ranking loss; the paper uses 0.01, 0.1 or 1. Default 1.
        compat: reduce the losses of stage 2 as the original code does: sums over the batch for the ranking, and a mean
            over all positions, prompts and padding included, for the likelihood. Default: means over rows.
        style: the prompt style, which must equal the responder's; default "alpaca".
        max_tokens: rows of which the prompt and the longest response have more tokens are skipped; default 512.
        seed: determines the row order, the initial weights and the dropout; default 0.
        held_out: rows of the same stage, evaluated at the last update and at `kept_steps`.
        kept_steps: updates after which the adapter is kept, too, in "step-N" in the folder of the adapter.

    Returns:
        A copy of `base` whose `adapter` is the folder of the adapter.

    Raises:
        InputError: `base` cannot be trained, an option is invalid, or no row can be used.
        MissingColumns: the table is neither stage 1 nor stage 2.
        MissingExtra: peft or torch is not installed.

    Source: section 3 and the training code of TRICE (arXiv 2305.13068), and its README for the defaults.

    >>> from datasets import Dataset
    >>> row = {"instruction": "You can call calculator.", "input": "2 * 3?", "output": "calculator(2*3)"}
    >>> train(Dataset.from_list([row]), EngineSpec("openai_api", "gpt-4o-mini"))
    Traceback (most recent call last):
    toolrlef_data.records.InputError: train: expected a local model, found kind='openai_api'
    """
    check_type("base", base, "an EngineSpec", EngineSpec)
    check_type("kept_steps", kept_steps, "a list of steps", Collection)
    check_type("compat", compat, "True or False", bool)
    if base.kind != "local":
        raise InputError(f"train: expected a local model, found kind={base.kind!r}")
    if base.adapter and lora is not None:
        raise InputError("train: lora is for a new adapter, and base has one: pass a base without adapter, or no lora")
    if epochs is not None and steps is not None:
        raise InputError("train: expected epochs or steps, found both")
    table, columns = _training_columns(table)
    n_epochs, rate = STAGE1_DEFAULTS if columns == STAGE1_COLUMNS else STAGE2_DEFAULTS
    n_epochs, rate = n_epochs if epochs is None else epochs, rate if learning_rate is None else learning_rate
    if held_out is not None:
        held_out, held_out_columns = _training_columns(held_out)
        if held_out_columns != columns:
            raise InputError("train: held_out must be of the same stage as the table")
    check_prompt(style)
    for name, number in {
        "epochs": n_epochs,
        "batch_size": batch_size,
        "accumulation": accumulation,
        "max_tokens": max_tokens,
    }.items():
        integer_from(1).check(name, number)
    if steps is not None:
        integer_from(1).check("steps", steps)
    for step in kept_steps:
        integer_from(1).check("kept_steps", step)
    integer_from(0).check("seed", seed)
    must_be("a number above 0", lambda n: is_number(n) and n > 0).check("learning_rate", rate)
    must_be("a number of at least 0", lambda n: is_number(n) and n >= 0).check("weight", weight)
    _check_schedule(schedule)
    settings = {
        "lora": LORA if lora is None else _lora_arguments(lora),
        "epochs": n_epochs if steps is None else None,
        "updates": {
            "batch_size": batch_size,
            "accumulation": accumulation,
            "learning_rate": rate,
            "schedule": schedule,
            "weight": weight,
            "compat": compat,
            "seed": seed,
            "kept_steps": tuple(sorted(set(kept_steps))),
        },
        "steps": steps,
        "prompts": {"style": style, "max_tokens": max_tokens},
        "options": asdict(base)["options"],
    }
    stored = canonical(settings)
    tables = [_content_digest(rows, columns) for rows in (table, held_out) if rows is not None]
    folder = home_dir() / "adapters" / digest(tables, LocalEngine(base).identity(), stored, code_digest(train))

    def fill(new: Path) -> None:
        entries = _fill(new, table.select_columns(list(columns)), held_out, base, settings)
        free_memory()  # the trained model is in reference cycles of the Trainer
        (new / LOG).write_text(json.dumps({**stored, "log": entries}, indent=1), "utf-8")

    fill_once(folder, fill)
    return replace(base, adapter=str(folder))


def _training_columns(table: Dataset) -> tuple[Dataset, tuple[str, ...]]:
    """Return a checked table and the names of the columns that are trained on."""
    if isinstance(table, dict):
        raise InputError(f"train: expected one split, found several: pass one of {', '.join(map(str, table))}")
    table = check_table(table)
    for columns in (STAGE2_COLUMNS, STAGE1_COLUMNS):
        if set(columns) <= set(table.column_names):
            return table, columns
    raise MissingColumns(
        f"train needs the columns {', '.join(STAGE1_COLUMNS)} (stage 1), or {', '.join(STAGE2_COLUMNS)} (stage 2); "
        f"found {', '.join(table.column_names)}"
    )


def _check_schedule(schedule: str) -> None:
    from transformers import SchedulerType

    # The other schedules of transformers need arguments, or metrics of an evaluation.
    usable = ("linear", "cosine", "constant")
    if schedule not in usable or schedule not in {item.value for item in SchedulerType}:
        raise InputError(f"unknown schedule {schedule!r}; choose from: {', '.join(usable)}")


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


def _content_digest(table: Dataset, columns: Sequence[str]) -> str:
    """Return a digest of the training columns; other columns and the lineage do not affect it."""
    total = hashlib.sha256()
    for batch in table.select_columns(list(columns)).iter(batch_size=1000):
        total.update(digest(batch).encode())
    return total.hexdigest()


def _fill(
    folder: Path, table: Dataset, held_out: Dataset | None, base: EngineSpec, settings: dict[str, Any]
) -> list[dict[str, float]]:
    """Train an adapter, save it into a folder, and return the log."""
    # Gradients of float16 underflow without loss scaling.
    resolved = resolve_dtype(base.dtype, base.device)
    dtype = "float32" if resolved == "float16" else resolved
    loaded = load_model(base.model, base.revision, dtype=dtype, device=base.device)
    prompts = {"tokenizer": loaded.tokenizer, "base": base, **settings["prompts"]}
    samples = _samples(table, **prompts)
    evaluated = [] if held_out is None else _samples(held_out, **prompts)
    updates = settings["updates"]
    steps = settings["steps"] or settings["epochs"] * math.ceil(
        len(samples) / (updates["batch_size"] * updates["accumulation"])
    )
    if late := [step for step in updates["kept_steps"] if step > steps]:
        raise InputError(f"kept_steps: {late[0]} is after the last of {steps} updates")

    def save(new: Path) -> None:
        # With the default, peft requests the base model's configuration from the Hub to compare the embedding sizes.
        model.save_pretrained(new, save_embedding_layers=False)

    def save_step(step: int) -> None:
        save(folder / f"step-{step}")
        seal(folder / f"step-{step}")

    with seeded(updates["seed"], loaded.device), silence_transformers():
        model = adapt(loaded, base.model, base.adapter, settings["lora"])
        entries = run_updates(
            model,
            samples,
            evaluated,
            Updates(steps=steps, **updates),
            description=f"Train {Path(base.model).name}",
            show=base.progress,
            save=save_step,
        )
        save(folder)
    return entries


def _samples(table: Dataset, tokenizer: Any, base: EngineSpec, style: str, max_tokens: int) -> list[Sample]:
    """Return the samples of a table; skipped rows are counted in a warning."""
    if style == "chat" and not tokenizer.chat_template:
        raise InputError('the model has no chat template: choose the style "completion", "alpaca" or "vicuna"')
    tokenise = request_tokeniser(base, tokenizer)
    found = [sample for row in table if (sample := tokenise_row(row, tokenise, style)) is not None]
    samples = [sample for sample in found if len(sample) <= max_tokens]
    n_long, n_empty = len(found) - len(samples), len(table) - len(found)
    if not samples:
        raise InputError(f"no row can be used: {n_long} exceed max_tokens={max_tokens}, {n_empty} have no response")
    if n_long or n_empty:
        log.warning(
            "training skips %d of %d rows: %d exceed max_tokens=%d, %d have no response",
            n_long + n_empty,
            len(table),
            n_long,
            max_tokens,
            n_empty,
        )
    return samples
