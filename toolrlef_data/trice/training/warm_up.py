"""The LoRA warm-up: a short training run on stage 1 that turns a local model into a responder."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from toolrlef_data.checks import require_columns
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import InputError
from toolrlef_data.trice.training.adapter import LORA, train
from toolrlef_data.trice.training.samples import STAGE1_COLUMNS

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import LoraConfig

__all__ = ["warm_up"]

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
    """Train a LoRA adapter on stage 1 for a few updates, enough to learn the form of a call.

    A model of 135M parameters learns the form of a call in 12 updates at a learning rate of 1e-3. `train` does more.

    Args:
        stage1: table with the columns instruction, input and output (text).
        base: a spec of kind "local" without an adapter.
        lora, batch_size, max_tokens, seed, style: as in `train`.
        steps: number of optimizer updates; default 12.
        learning_rate: constant, with AdamW; default 1e-4.
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
    if not isinstance(stage1, dict):  # a DatasetDict: `train` refuses it
        require_columns(stage1, STAGE1_COLUMNS, "warm_up")
        stage1 = stage1.select_columns(list(STAGE1_COLUMNS))
    if deprecated:
        lora = _from_deprecated(lora, deprecated)
    options: dict[str, Any] = {"max_tokens": max_tokens, "seed": seed, "style": style, "schedule": "constant"}
    return train(stage1, base, lora=lora, steps=steps, batch_size=batch_size, learning_rate=learning_rate, **options)


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
