"""Local transformers models for tools: resolution, loading at first use, and batched generation.

Two heads are supported: "Seq2SeqLM", which generates text (T5, BART, Marian, M2M100, NLLB), and "QuestionAnswering",
which selects spans. A model is loaded once per process; the two most recently used models stay loaded.

A result does not depend on the batch, except for floating-point noise: rows are sorted by length and padded on the
right with an attention mask. `max_time` limits the generation of a batch; unfinished rows become "timeout" results.

Not covered: GGUF files, adapters, quantised loading, models over several GPUs, decoder-only models (use an engine).
"""

from __future__ import annotations

import importlib.metadata
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from toolrlef_data.engines.local.batching import first_line, halve_on_oom
from toolrlef_data.engines.local.loading import eos_token_ids, parse_device, resolve_dtype
from toolrlef_data.engines.local.weights import resolve_weights, silence_transformers
from toolrlef_data.engines.progress import step_bar
from toolrlef_data.records import InputError, MissingExtra, ToolError, ToolResult
from toolrlef_data.tables.fingerprint import digest

__all__ = [
    "DEFAULTS",
    "Decoding",
    "LoadedModel",
    "ModelOptions",
    "ModelSpec",
    "generate_ids",
    "generate_texts",
    "load_model",
    "package_version",
    "resolve_model",
    "run_in_batches",
    "token_limit",
]

MAX_CHARACTERS = 20_000  # longer inputs are refused before tokenisation

Row = TypeVar("Row")
Out = TypeVar("Out")


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


def token_limit(loaded: LoadedModel, max_tokens: int) -> int:
    """Return the maximum number of input tokens: `max_tokens`, or the number of the model's positions if smaller."""
    return min(max_tokens, getattr(loaded.model.config, "max_position_embeddings", None) or max_tokens)


def generate_texts(
    loaded: LoadedModel, rows: Sequence[Sequence[int]], spec: ModelSpec, decoding: Decoding
) -> list[ToolResult]:
    """Generate a text for each row of token ids.

    Returns:
        A result per row, in order: a text, or the error no_result (empty text), timeout or unavailable (out of memory).
    """
    max_tokens = decoding.max_tokens + (decoding.first is not None)
    eos_ids = eos_token_ids(loaded.model, loaded.tokenizer)
    # M2M100's tokenizer does not list its language tokens as special tokens.
    special = {*loaded.tokenizer.all_special_ids, *getattr(loaded.tokenizer, "id_to_lang_token", {}), decoding.first}

    def generate_batch(batch: Sequence[Sequence[int]]) -> list[ToolResult]:
        return [to_result(tokens) for tokens in generate_ids(loaded, batch, decoding, spec.max_time)]

    def to_result(tokens: list[int]) -> ToolResult:
        end = next((n for n, token in enumerate(tokens) if token in eos_ids), None)
        if end is None and len(tokens) < max_tokens:
            return ToolResult(error="timeout", detail=f"generation did not finish within {spec.max_time:g} s")
        text_ids = [token for token in tokens[:end] if token not in special]
        text = loaded.tokenizer.decode(text_ids, clean_up_tokenization_spaces=False).strip()
        return ToolResult(text) if text else ToolResult(error="no_result", detail="the model generated no text")

    return run_in_batches(generate_batch, rows, spec.batch, _unavailable)


def generate_ids(
    loaded: LoadedModel, rows: Sequence[Sequence[int]], decoding: Decoding, max_time: float
) -> list[list[int]]:
    """Return the generated token ids of one batch, without the start token and including padding.

    The model's other generation settings apply, such as banned tokens and length penalty. Sampling is off.
    """
    import torch
    from transformers import GenerationConfig

    pad = loaded.tokenizer.pad_token_id or 0
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=loaded.device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=loaded.device)
    settings = GenerationConfig(
        max_new_tokens=decoding.max_tokens + (decoding.first is not None),
        num_beams=decoding.num_beams,
        do_sample=False,
        max_time=max_time,
        forced_bos_token_id=decoding.first,
    )
    with silence_transformers(), torch.inference_mode():
        generated = loaded.model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
    return [list(row) for row in generated[:, 1:].tolist()]


def run_in_batches(
    function: Callable[[Sequence[Row]], Sequence[Out]],
    rows: Sequence[Row],
    size: int,
    out_of_memory: Callable[[str], Out],
) -> list[Out]:
    """Apply a function to rows in batches of similar length, longest first, and return its results in row order.

    A batch that runs out of memory is halved and retried.

    Args:
        function: batch -> one result per row.
        rows: rows with a length.
        size: maximum number of rows per batch.
        out_of_memory: message -> the result of a row that does not fit into memory alone.

    >>> run_in_batches(lambda batch: [len(batch)] * len(batch), ["a", "bcd", "ef"], 2, lambda message: 0)
    [1, 2, 2]
    """
    order = sorted(range(len(rows)), key=lambda n: -len(rows[n]))  # type: ignore[arg-type]
    results: dict[int, Out] = {}
    for start in range(0, len(order), size):
        indices = order[start : start + size]
        batch = [rows[n] for n in indices]
        batch_results = halve_on_oom(function, batch, lambda _, message: out_of_memory(message[:200]))
        results |= zip(indices, batch_results, strict=True)
    return [results[n] for n in range(len(rows))]


def _unavailable(detail: str) -> ToolResult:
    """Return the result of a row that does not fit into memory."""
    return ToolResult(error="unavailable", detail=f"out of memory: {detail}")


def package_version(name: str) -> str | None:
    """Return "name version" of a package, or None if it is not installed.

    >>> package_version("no-such-package")
    """
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return None
