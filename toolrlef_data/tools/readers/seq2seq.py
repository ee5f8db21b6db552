"""Local transformers models for tools: resolution, and loading at first use; `generation` runs them.

Two heads are supported: "Seq2SeqLM", which generates text (T5, BART, Marian, M2M100, NLLB), and "QuestionAnswering",
which selects spans. A model is loaded once per process; the two most recently used models stay loaded.

Not covered: GGUF files, adapters, quantised loading, models over several GPUs, decoder-only models (use an engine).
"""

from __future__ import annotations

import importlib.metadata
import threading
import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict

from toolrlef_data.engines.local.loading import parse_device, require_vocabulary, resolve_dtype
from toolrlef_data.engines.local.memory import first_line
from toolrlef_data.engines.local.weights import resolve_weights, silence_transformers
from toolrlef_data.engines.progress import step_bar
from toolrlef_data.records import InputError, MissingExtra, ToolError
from toolrlef_data.tables.fingerprint import digest

__all__ = [
    "DEFAULTS",
    "Decoding",
    "LoadedModel",
    "ModelOptions",
    "ModelSpec",
    "load_model",
    "package_version",
    "resolve_model",
]

MAX_CHARACTERS = 20_000  # longer inputs are refused before tokenisation


class ModelOptions(TypedDict, total=False):
    """Options of `translator` and `qa_model` for loading and running the model.

    Args:
        revision: revision of a Hub id. Default None.
        device: device name. Default "auto": the GPU if one is available.
        dtype: name of a torch dtype. Default "auto": float32 on a CPU, bfloat16 on a recent GPU.
        batch: maximum number of texts, questions or windows of passages per forward pass. Default 16.
        max_input_tokens: maximum length of an input. Longer texts and questions are "too_large"; passages are
            truncated. Default 512.
        num_beams: number of beams for generation. Default 1, greedy decoding.
        max_time: seconds for the generation of one batch. Unfinished rows are "timeout". Default 60.
    """

    revision: str | None
    device: str
    dtype: str
    batch: int
    max_input_tokens: int
    num_beams: int
    max_time: float


DEFAULTS = ModelOptions(
    revision=None, device="auto", dtype="auto", batch=16, max_input_tokens=512, num_beams=1, max_time=60.0
)


@dataclass(frozen=True)
class ModelSpec:
    """A resolved model and its runtime settings, as plain values.

    Args:
        head: "Seq2SeqLM" or "QuestionAnswering".
        model: folder or Hub id, for `from_pretrained`.
        commit: commit of a Hub id, None for a folder.
        identity: digest of the weights and the tokenizer, or of a Hub id and its commit.
        dtype: name of a torch dtype, never "auto".
        device: "auto", "cpu", "cuda", ...
        batch: maximum number of rows per forward pass.
        max_time: seconds for the generation of one batch.
    """

    head: str
    model: str
    commit: str | None
    identity: str
    dtype: str
    device: str = "auto"
    batch: int = 16
    max_time: float = 60.0

    def in_key(self) -> dict[str, Any]:
        """Return constant values for reply keys, for the fields that do not determine a result beside `identity`."""
        return {"model": "", "commit": None, "batch": 0, "max_time": 0.0}

    @property
    def name(self) -> str:
        """The model's name in messages: the Hub id or the folder's name."""
        return self.model if self.commit else Path(self.model).name

    def version(self, *settings: object) -> str:
        """Return a text for `Tool.version`: the weights, the dtype, the package versions and the settings."""
        # sacremoses determines results, too: without it, Marian's tokenizer does not normalise punctuation.
        packages = filter(None, map(package_version, ("transformers", "sacremoses")))
        return ", ".join([f"weights {self.identity[:16]}", self.dtype, *packages, *map(str, settings)])


@dataclass(frozen=True)
class Decoding:
    """Generation settings: maximum number of new tokens, number of beams, and the forced first token (or None)."""

    max_tokens: int
    num_beams: int = 1
    first: int | None = None


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in evaluation mode, its tokenizer and device, and a lock, because translation modifies the tokenizer."""

    model: Any
    tokenizer: Any
    device: str
    lock: Any = field(default_factory=threading.RLock)


def resolve_model(head: str, model: str, options: ModelOptions) -> ModelSpec:
    """Return the spec of a model with a digest of its files; the model is not loaded.

    Args:
        head: "Seq2SeqLM" or "QuestionAnswering".
        model: folder or Hub id.
        options: all options of `ModelOptions`.

    Raises:
        InputError: the model or device does not exist, or an option is out of range.
        TypeError: unknown option.
    """
    if unknown := options.keys() - DEFAULTS.keys():
        raise TypeError(f"unexpected keyword argument {min(unknown)!r}; choose from: {', '.join(DEFAULTS)}")
    device, batch, max_time = options["device"], options["batch"], options["max_time"]
    if min(batch, options["max_input_tokens"], options["num_beams"]) < 1 or not max_time > 0:
        raise InputError(
            "batch, max_input_tokens and num_beams must be at least 1, and max_time more than 0 seconds; found "
            f"{batch}, {options['max_input_tokens']}, {options['num_beams']} and {max_time}"
        )
    _check_device(device)
    weights = resolve_weights(model, options["revision"])
    if weights.kind == "gguf":
        raise InputError(f"{model!r} is a GGUF file; expected a folder or a Hub id. Only engines support GGUF")
    dtype = resolve_dtype(options["dtype"], device)
    return ModelSpec(head, weights.place, weights.commit, digest(weights.identity()), dtype, device, batch, max_time)


def _check_device(device: str) -> None:
    """Raise InputError for an unknown or missing device, before a model is loaded."""
    kind, number = parse_device(device)
    if kind in ("auto", "cpu"):
        return
    import torch

    if number >= (count := torch.get_device_module(kind).device_count()):
        raise InputError(f"device {device!r} is not available: torch finds {count} {kind} devices on this machine")


_LOAD_LOCK = threading.Lock()


def load_model(spec: ModelSpec) -> LoadedModel:
    """Return the model and its tokenizer; they are loaded at the first call of a process.

    Only the exceptions below are raised: on any other, `Tool.run_many` would load the model again for each input.

    Raises:
        InputError: the files do not fit the head, lack its weights, or have changed since `resolve_model`.
        MissingExtra: a package that the tokenizer needs is not installed.
        ToolError: the kind is unavailable; the model does not fit into memory.
    """
    _check_device(spec.device)
    with _LOAD_LOCK:  # prevents two threads from loading the same model
        return _load(spec.head, spec.model, spec.commit, spec.identity, spec.dtype, spec.device)


@lru_cache(maxsize=2)
def _load(head: str, model_path: str, commit: str | None, identity: str, dtype: str, device: str) -> LoadedModel:
    import torch
    import transformers
    from safetensors import SafetensorError

    if digest(resolve_weights(model_path, commit).identity()) != identity:
        raise InputError(f"the files of {model_path!r} have changed since the tool was created; create the tool again")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model_class = getattr(transformers, f"AutoModelFor{head}")
    try:
        name = f"Load {Path(model_path).name}"
        with silence_transformers(), warnings.catch_warnings(), step_bar(name, 2) as bar:
            warnings.filterwarnings("ignore", "Recommended: pip install sacremoses", UserWarning)
            tokenizer = transformers.AutoTokenizer.from_pretrained(model_path, revision=commit)
            require_vocabulary(tokenizer)
            bar.update()
            model, loading_info = model_class.from_pretrained(
                model_path, revision=commit, dtype=getattr(torch, dtype), output_loading_info=True
            )
            bar.update()
    except ImportError as error:
        raise MissingExtra(
            f"the tokenizer of {model_path!r} needs a package: pip install sentencepiece ({error})"
        ) from None
    except MemoryError as error:
        raise ToolError("unavailable", f"the model does not fit into memory: {first_line(error):.200}") from None
    except (ValueError, OSError, RuntimeError, LookupError, TypeError, AttributeError, SafetensorError) as error:
        raise InputError(f"{model_path!r} cannot be loaded as a model for {head}: {first_line(error):.200}") from None
    if missing := sorted(loading_info["missing_keys"]):  # transformers would initialise them randomly
        raise InputError(f"{model_path!r} has no trained {head} head: its files lack {', '.join(missing[:4])}")
    try:
        return LoadedModel(model.to(device).eval(), tokenizer, device)
    except torch.OutOfMemoryError as error:
        raise ToolError("unavailable", f"the model does not fit into memory: {first_line(error):.200}") from None
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"{model_path!r} cannot be moved to the device {device!r}: {first_line(error):.200}") from None


def package_version(name: str) -> str | None:
    """Return "name version" of a package, or None if it is not installed.

    >>> package_version("no-such-package")
    """
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return None
