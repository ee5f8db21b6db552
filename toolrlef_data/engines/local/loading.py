"""Loading of models: separate copies for the caller, and one base model that all engines of this process share.

The engines share the most recent base model, and switch its LoRA adapters: a student and its fine-tuned adapter need
the memory of one model. `unload` frees that memory.

Not covered: models on several GPUs, quantised loading.
"""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolrlef_data.engines.local.memory import first_line, free_memory
from toolrlef_data.engines.local.weights import Weights, resolve_adapter, resolve_weights, silence_transformers
from toolrlef_data.engines.progress import step_bar
from toolrlef_data.engines.rules import NAME
from toolrlef_data.engines.settings import DTYPES
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import InputError
from toolrlef_data.tables.fingerprint import digest

if TYPE_CHECKING:
    import torch

__all__ = [
    "LoadedModel",
    "borrow_model",
    "eos_token_ids",
    "load_model",
    "parse_device",
    "require_vocabulary",
    "resolve_dtype",
    "unload",
]

ACCELERATORS = ("cuda", "mps", "xpu")
TOKENIZER_FILES = "tokenizer.json, or the vocabulary of the model's tokenizer class"
WEIGHT_FILES = "a config.json of a causal language model, and model.safetensors or pytorch_model.bin"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in evaluation mode, its tokenizer and its device ("cpu", "cuda", ...)."""

    model: Any
    tokenizer: Any
    device: str


def load_model(
    model: str, revision: str | None = None, adapter: str | None = None, dtype: str = "auto", device: str = "auto"
) -> LoadedModel:
    """Load a causal language model that is not shared with any engine, for training or modification.

    Args:
        model: Hub id, folder, `.gguf` file or `package:NAME`.
        revision: branch, tag or commit of a Hub id. Default: the locally cached commit, else the newest on the Hub.
        adapter: folder or Hub id of a LoRA adapter, activated in the returned `PeftModel`. Default: none.
        dtype: "auto" (default, see `resolve_dtype`), "float32", "bfloat16" or "float16".
        device: "auto" (default; a GPU if there is one), "cpu", "cuda", "cuda:1", ...

    Returns:
        The model in evaluation mode, its tokenizer and its device.

    Raises:
        InputError: the model or the adapter does not exist, its tokenizer or weights are missing or cannot be read, or
            the dtype or device is unknown.
        MissingExtra: a required package is not installed; the message contains the pip command.

    >>> load_model("./no/such/folder")
    Traceback (most recent call last):
    toolrlef_data.records.InputError: no model at './no/such/folder': expected a folder, a .gguf file, package:NAME ...
    """
    parse_device(device)
    for argument, name in {"model": model, "adapter": model if adapter is None else adapter}.items():
        NAME.check(argument, name)
    weights = resolve_weights(model, revision)
    lora = resolve_adapter(adapter) if adapter else None
    loaded = _load(weights, resolve_dtype(dtype, device), _resolve_device(device))
    if lora is None:
        return loaded
    import peft

    with silence_transformers():
        name, revision = lora.pretrained_args()
        wrapped = peft.PeftModel.from_pretrained(loaded.model, name, revision=revision).eval()
    return LoadedModel(wrapped, loaded.tokenizer, loaded.device)


def resolve_dtype(dtype: str, device: str = "auto") -> str:
    """Return a dtype; "auto" is float32 on CPUs, bfloat16 on CUDA from compute capability 8, and float16 elsewhere.

    >>> resolve_dtype("auto", "cpu")
    'float32'
    """
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}; choose from: {', '.join(DTYPES)}")
    if dtype != "auto":
        return dtype
    # The version reveals a CPU build of torch without the slow import.
    if device == "cpu" or (device == "auto" and _version("torch").endswith("+cpu")):
        return "float32"
    import torch

    resolved = _resolve_device(device)
    if resolved == "cpu":
        return "float32"
    has_bfloat16 = resolved.startswith("cuda") and torch.cuda.get_device_capability(torch.device(resolved))[0] >= 8
    return "bfloat16" if has_bfloat16 else "float16"


def parse_device(device: str) -> tuple[str, int]:
    """Return the kind and the number of a device; raise an `InputError` if the kind is unknown.

    >>> parse_device("cuda:1"), parse_device("auto")
    (('cuda', 1), ('auto', 0))
    """
    kind, colon, number = str(device).partition(":")
    has_number = kind in ACCELERATORS and number.isascii() and number.isdecimal()
    if kind not in ("auto", "cpu", *ACCELERATORS) or (colon and not has_number):
        raise InputError(f"unknown device {device!r}; choose from: auto, cpu, cuda, cuda:0, mps, xpu")
    return kind, int(number or 0)


_version = cache(importlib.metadata.version)


@dataclass(slots=True)
class _Base:
    """A base model that several engines share; peft inserts the adapters into its layers."""

    loaded: LoadedModel
    lock: Any = field(default_factory=threading.RLock)
    peft_model: Any = None  # the base model with its adapters; None before the first adapter
    adapters: set[str] = field(default_factory=set)


# The most recent base model, by digest of content, dtype and device. A second one might not fit into memory.
_BASES: dict[str, _Base] = {}
_LOADING = threading.Lock()


@contextmanager
def borrow_model(spec: EngineSpec) -> Iterator[LoadedModel]:
    """Lock the shared model and activate the spec's adapter, if any.

    Callers must not train or modify the model; `load_model` returns a separate one.
    """
    weights = resolve_weights(spec.model, spec.revision)
    dtype, device = resolve_dtype(spec.dtype, spec.device), _resolve_device(spec.device)
    key = digest(weights.identity(), dtype, device)
    with _LOADING:
        if key not in _BASES:
            _BASES.clear()
            _BASES[key] = _Base(_load(weights, dtype, device, spec.progress))
        base = _BASES[key]
    with base.lock, _activate_adapter(base, spec.adapter):
        yield base.loaded


def unload() -> None:
    """Free the memory of the shared base model and its adapters; the next request loads them again."""
    _BASES.clear()
    free_memory()


def require_vocabulary(tokenizer: Any) -> None:
    """Raise an `InputError` if a tokenizer has only special tokens.

    Of a model without the files of its tokenizer, transformers makes such a tokenizer for many classes, as for Llama
    and Qwen: it encodes every prompt as an empty one. That of T5 also has a token of the space.
    """
    if len(tokenizer.get_vocab().keys() - tokenizer.get_added_vocab().keys()) <= 1:
        raise InputError("the vocabulary of the tokenizer is empty")


def eos_token_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the end-of-sequence ids of the generation config (a list for some chat models) and the tokenizer."""
    configured = model.generation_config.eos_token_id
    eos_ids = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in (*eos_ids, tokenizer.eos_token_id) if token is not None)


def _activate_adapter(base: _Base, adapter: str | None) -> Any:
    """Activate an adapter, or none, and return a context manager; an adapter is loaded at its first use."""
    if adapter is None:
        return base.peft_model.disable_adapter() if base.peft_model is not None else nullcontext()
    import peft

    lora = resolve_adapter(adapter)
    name = digest(lora.identity())
    if name not in base.adapters:
        source, revision = lora.pretrained_args()
        with silence_transformers():
            if base.peft_model is None:
                base.peft_model = peft.PeftModel.from_pretrained(
                    base.loaded.model, source, adapter_name=name, revision=revision
                )
            else:
                base.peft_model.load_adapter(source, adapter_name=name, revision=revision)
        base.peft_model.eval()
        base.adapters.add(name)
    base.peft_model.set_adapter(name)
    base.peft_model.requires_grad_(False)
    return nullcontext()


def _load(weights: Weights, dtype: str, device: str, progress: bool = True) -> LoadedModel:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name, revision = weights.pretrained_args()
    with silence_transformers(), step_bar(f"Load {Path(weights.place).name}", 3, progress) as bar:
        with _explain_unreadable("tokenizer", TOKENIZER_FILES, weights, name):
            tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
            require_vocabulary(tokenizer)
        bar.update()
        with _explain_unreadable("weights", WEIGHT_FILES, weights, name):
            model = AutoModelForCausalLM.from_pretrained(name, revision=revision, dtype=getattr(torch, dtype))
        bar.update()
        model = model.to(device).eval()
        bar.update()
    _copy_slices_for_logits(model)
    return LoadedModel(model, tokenizer, device)


@contextmanager
def _explain_unreadable(part: str, files: str, weights: Weights, name: str) -> Iterator[None]:
    """Raise an `InputError` that names the files of a part of a model, if transformers cannot read them."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, TypeError, ValueError, SafetensorError) as error:  # TypeError: the path of a vocabulary is None
        place = repr(weights.place) + (f" at commit {weights.commit}" if weights.commit else "")
        names = sorted(path.name for path in Path(name).iterdir()) if Path(name).is_dir() else []
        found = f"; found {', '.join(names[:12])}" if names else ""
        reason = first_line(error).rstrip(":. ")
        raise InputError(f"cannot load the {part} of {place}: expected {files}{found} ({reason})") from error


def _copy_slices_for_logits(model: Any) -> None:
    """Copy the hidden states from which a model computes logits: they are often a slice, as with `logits_to_keep`.

    For the product of a slice and frozen weights, as those below an adapter, torch copies the weights of the vocabulary
    for each row on a CPU. In bfloat16, that took 45 % of the time of training SmolLM2, and 57 MB a row.
    """
    import torch

    head = model.get_output_embeddings()
    if isinstance(head, torch.nn.Linear):
        head.register_forward_pre_hook(_copied)


def _copied(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    import torch

    return tuple(value.clone(memory_format=torch.contiguous_format) for value in inputs)


def _resolve_device(device: str) -> str:
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
