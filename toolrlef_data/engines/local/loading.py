"""Loaded models: one of the caller's own, or the one that the engines of this process share.

The engines share the base model used last and switch the LoRA adapters in its layers, so that a student and its
warmed-up twin take the memory of one. `unload` gives it back.

Not covered: models over several GPUs, quantised loading.
"""

from __future__ import annotations

import gc
import importlib.metadata
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from toolrlef_data.engines.local.weights import Weights, resolve_adapter, resolve_weights, silence_transformers
from toolrlef_data.engines.spec import DTYPES, EngineSpec
from toolrlef_data.records import InputError
from toolrlef_data.tables.fingerprint import digest

__all__ = [
    "LoadedModel",
    "borrow_model",
    "eos_token_ids",
    "free_memory",
    "load_model",
    "resolve_dtype",
    "unload",
]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in evaluation mode, its tokenizer, and where it is ("cpu", "cuda", ...)."""

    model: Any
    tokenizer: Any
    device: str


def load_model(
    model: str, revision: str | None = None, adapter: str | None = None, dtype: str = "auto", device: str = "auto"
) -> LoadedModel:
    """Load a causal language model that is the caller's own, to train or to change.

    Args:
        model: Hub id, folder, `.gguf` file or `package:NAME`.
        revision: of a Hub id.
        adapter: folder or Hub id of a LoRA adapter; the model is then peft's, its adapter active.
        dtype: "auto" is `resolve_dtype`'s.
        device: "auto" is the GPU if there is one.

    Raises:
        InputError: there is no such model, adapter or dtype.
        MissingExtra: a package that it needs is not installed; the message is the pip command.
    """
    weights = resolve_weights(model, revision)
    lora = resolve_adapter(adapter) if adapter else None
    loaded = _load(weights, resolve_dtype(dtype, device), _resolve_device(device))
    if lora is None:
        return loaded
    import peft

    with silence_transformers():
        name, commit = lora.pretrained_args()
        wrapped = peft.PeftModel.from_pretrained(loaded.model, name, revision=commit).eval()
    return LoadedModel(wrapped, loaded.tokenizer, loaded.device)


def resolve_dtype(dtype: str, device: str = "auto") -> str:
    """The dtype that "auto" means: float32 on a CPU, bfloat16 on CUDA of capability 8 and more, float16 elsewhere.

    >>> resolve_dtype("auto", "cpu")
    'float32'
    """
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}; choose from: {', '.join(DTYPES)}")
    if dtype != "auto":
        return dtype
    # A CPU build of torch is known by its version, which is read without the seconds that importing it takes.
    if device == "cpu" or (device == "auto" and _version("torch").endswith("+cpu")):
        return "float32"
    import torch

    found = _resolve_device(device)
    if found == "cpu":
        return "float32"
    new = found.startswith("cuda") and torch.cuda.get_device_capability(torch.device(found))[0] >= 8
    return "bfloat16" if new else "float16"


_version = cache(importlib.metadata.version)


@dataclass(slots=True)
class _Base:
    """A loaded base model that several engines share; peft puts the adapters into its layers."""

    loaded: LoadedModel
    lock: Any = field(default_factory=threading.RLock)
    wrapped: Any = None
    adapters: set[str] = field(default_factory=set)


# The base model used last, by content, dtype and device: a second one could fill the memory that it needs.
_BASES: dict[str, _Base] = {}
_LOADING = threading.Lock()


@contextmanager
def borrow_model(spec: EngineSpec) -> Iterator[LoadedModel]:
    """The model that the engines share, with the spec's adapter active or none, locked while it is borrowed.

    Only for reading: who trains or changes a model takes one of `load_model`.
    """
    weights = resolve_weights(spec.model, spec.revision)
    dtype, device = resolve_dtype(spec.dtype, spec.device), _resolve_device(spec.device)
    key = digest(weights.identity(), dtype, device)
    with _LOADING:
        if key not in _BASES:
            _BASES.clear()
            _BASES[key] = _Base(_load(weights, dtype, device))
        base = _BASES[key]
    with base.lock, _adapter(base, spec.adapter):
        yield base.loaded


def unload() -> None:
    """Forget the shared base model and its adapters, and give the memory back; the next request loads anew."""
    _BASES.clear()
    free_memory()


def free_memory() -> None:
    """Give back what no object holds any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def eos_token_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every id that ends a text: the generation settings' (a list for some chat models) and the tokenizer's."""
    named = model.generation_config.eos_token_id
    listed = named if isinstance(named, list) else [named]
    return frozenset(token for token in (*listed, tokenizer.eos_token_id) if token is not None)


def _adapter(base: _Base, adapter: str | None) -> Any:
    """Activate an adapter, loaded at its first use; the context in which it is active."""
    if adapter is None:
        return base.wrapped.disable_adapter() if base.wrapped is not None else nullcontext()
    import peft

    lora = resolve_adapter(adapter)
    name = digest(lora.identity())
    if name not in base.adapters:
        place, commit = lora.pretrained_args()
        with silence_transformers():
            if base.wrapped is None:
                base.wrapped = peft.PeftModel.from_pretrained(
                    base.loaded.model, place, adapter_name=name, revision=commit
                )
            else:
                base.wrapped.load_adapter(place, adapter_name=name, revision=commit)
        base.wrapped.eval()
        base.adapters.add(name)
    base.wrapped.set_adapter(name)
    base.wrapped.requires_grad_(False)
    return nullcontext()


def _load(weights: Weights, dtype: str, device: str) -> LoadedModel:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place, commit = weights.pretrained_args()
    with silence_transformers():
        tokenizer = AutoTokenizer.from_pretrained(place, revision=commit)
        model = AutoModelForCausalLM.from_pretrained(place, revision=commit, dtype=getattr(torch, dtype))
    return LoadedModel(model.to(device).eval(), tokenizer, device)


def _resolve_device(device: str) -> str:
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
