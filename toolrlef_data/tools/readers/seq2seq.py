"""Models of the tools that run on this machine: found, loaded at first use, and run in batches.

Two heads: "Seq2SeqLM", which writes (T5, BART, Marian, M2M100, NLLB), and "QuestionAnswering", which marks spans. A
model is loaded once a process and stays for the next call; the two used last are kept.

What a row gets does not depend on its batch but for float noise: rows are sorted by length and padded on the right
under an attention mask. `max_time` ends a batch, and rows that it cut are "timeout", never half a text.

Not covered: GGUF files, adapters, quantised loading, models over several GPUs; decoder-only models are engines.
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
from toolrlef_data.engines.local.loading import eos_token_ids, resolve_dtype
from toolrlef_data.engines.local.weights import resolve_weights, silence_transformers
from toolrlef_data.records import InputError, MissingExtra, ToolError, ToolResult
from toolrlef_data.tables.fingerprint import digest

__all__ = [
    "DEFAULTS",
    "Decoding",
    "Loaded",
    "ModelOptions",
    "ModelSpec",
    "find_model",
    "generate",
    "in_batches",
    "load",
    "package_version",
    "token_limit",
    "write",
]

# Of anything longer not even the tokens are counted.
MAX_CHARACTERS = 20_000

Row = TypeVar("Row")
Out = TypeVar("Out")


class ModelOptions(TypedDict, total=False):
    """How a tool's model is loaded and run: keywords of `translator` and `qa_model`.

    Args:
        revision: of a Hub id.
        device: "auto", the default, is the GPU if there is one.
        dtype: "auto", the default, is float32 on a CPU, bfloat16 on a new GPU.
        batch: texts, questions or windows of passages that the model gets at once; 16.
        max_input_tokens: 512. A longer text or question is "too_large"; passages are cut to fit.
        num_beams: of a model that writes; 1, the default, is greedy, which does not depend on the batch but for float
            noise.
        max_time: seconds for one batch of a model that writes; what is not written by then is "timeout"; 60.
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
    """Which model is run and where, as plain values.

    Args:
        head: "Seq2SeqLM" or "QuestionAnswering".
        model, commit: what `from_pretrained` takes.
        identity: digest of the weights and the tokenizer, or of a Hub id and its commit.
        dtype: resolved.
        device: "auto", "cpu", "cuda", ...
        batch: rows that the model gets at once.
        max_time: seconds that writing one batch may take.
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
        """`identity` says all of the model; how it is batched cannot change a result."""
        return {"model": "", "commit": None, "batch": 0, "max_time": 0.0}

    @property
    def name(self) -> str:
        """The model's name for messages: the Hub id, or the folder's name."""
        return self.model if self.commit else Path(self.model).name

    def version(self, *settings: object) -> str:
        """What decides a result, for `Tool.version`: the weights, the dtype, the package, the settings given."""
        # With sacremoses, Marian's tokenizer normalises punctuation; without, it leaves it.
        packages = filter(None, map(package_version, ("transformers", "sacremoses")))
        return ", ".join([f"weights {self.identity[:16]}", self.dtype, *packages, *map(str, settings)])


@dataclass(frozen=True)
class Decoding:
    """How a text is written: new tokens at most, beams (1 is greedy), and the token that is forced to be the first."""

    max_tokens: int
    num_beams: int = 1
    first: int | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in evaluation mode, its tokenizer, where it is, and a lock, since a tokenizer has a language as state."""

    model: Any
    tokenizer: Any
    device: str
    lock: Any = field(default_factory=threading.RLock)


def find_model(head: str, model: str, options: ModelOptions) -> ModelSpec:
    """Find a model and digest its files; loads nothing.

    Args:
        options: all of them.

    Raises:
        InputError: there is no such model or device, or an option is out of range.
        TypeError: an unknown option.
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
        raise InputError(f"{model!r} is a GGUF file: tools need a folder or a Hub id; an engine reads GGUF")
    dtype = resolve_dtype(options["dtype"], device)
    return ModelSpec(head, weights.place, weights.commit, digest(weights.identity()), dtype, device, batch, max_time)


def _check_device(device: str) -> None:
    """Refuse a device that this machine lacks before seconds are spent on a model."""
    if device in ("auto", "cpu"):
        return
    kind, _, number = device.partition(":")
    if kind not in ("cuda", "mps", "xpu") or (":" in device and not (number.isascii() and number.isdecimal())):
        raise InputError(f"unknown device {device!r}; choose from: auto, cpu, cuda, cuda:0, mps, xpu")
    import torch

    if int(number or 0) >= (count := torch.get_device_module(kind).device_count()):
        raise InputError(f"device {device!r} is not there: torch finds {count} of {kind} on this machine")


_LOADING = threading.Lock()


def load(spec: ModelSpec) -> Loaded:
    """The model and its tokenizer, loaded at the first call of a process.

    Raises:
        InputError: the files cannot be loaded with this head, lack its weights, or have changed since `find_model`.
        MissingExtra: a package that the tokenizer needs is not installed.
        ToolError: unavailable, where the memory does not hold it.

    Nothing else: `Tool.run_many` would load it again for each input.
    """
    _check_device(spec.device)
    with _LOADING:  # else two threads load it twice
        return _load(spec.head, spec.model, spec.commit, spec.identity, spec.dtype, spec.device)


@lru_cache(maxsize=2)
def _load(head: str, place: str, commit: str | None, identity: str, dtype: str, device: str) -> Loaded:
    import torch
    import transformers
    from safetensors import SafetensorError

    if digest(resolve_weights(place, commit).identity()) != identity:
        raise InputError(f"the files of {place!r} have changed since the tool was made: make it again")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = getattr(transformers, f"AutoModelFor{head}")
    try:
        with silence_transformers(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Recommended: pip install sacremoses", UserWarning)
            tokenizer = transformers.AutoTokenizer.from_pretrained(place, revision=commit)
            model, notes = kind.from_pretrained(
                place, revision=commit, dtype=getattr(torch, dtype), output_loading_info=True
            )
    except ImportError as error:
        raise MissingExtra(f"the tokenizer of {place!r} needs a package: pip install sentencepiece ({error})") from None
    except MemoryError as error:
        raise ToolError("unavailable", f"the model does not fit into memory: {first_line(error):.200}") from None
    except (ValueError, OSError, RuntimeError, LookupError, TypeError, AttributeError, SafetensorError) as error:
        raise InputError(f"{place!r} cannot be loaded as a model for {head}: {first_line(error):.200}") from None
    if missing := sorted(notes["missing_keys"]):  # transformers would fill them with random numbers
        raise InputError(f"{place!r} is no trained model for {head}: its files lack {', '.join(missing[:4])}")
    try:
        return Loaded(model.to(device).eval(), tokenizer, device)
    except torch.OutOfMemoryError as error:
        raise ToolError("unavailable", f"the model does not fit into memory: {first_line(error):.200}") from None
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"{place!r} cannot be put onto the device {device!r}: {first_line(error):.200}") from None


def token_limit(loaded: Loaded, most: int) -> int:
    """Tokens of an input at most: `most`, or what the model has positions for."""
    return min(most, getattr(loaded.model.config, "max_position_embeddings", None) or most)


def write(loaded: Loaded, rows: Sequence[Sequence[int]], spec: ModelSpec, how: Decoding) -> list[ToolResult]:
    """Let the model write a text for each row of token ids.

    Returns:
        results in the order of the rows: a text, or "no_result" (it wrote none), "timeout", "unavailable" (memory).
    """
    most = how.max_tokens + (how.first is not None)
    ends = eos_token_ids(loaded.model, loaded.tokenizer)
    # M2M100's tokenizer does not count its language tokens among the special ones.
    special = {*loaded.tokenizer.all_special_ids, *getattr(loaded.tokenizer, "id_to_lang_token", {}), how.first}

    def work(batch: Sequence[Sequence[int]]) -> list[ToolResult]:
        return [result(tokens) for tokens in generate(loaded, batch, how, spec.max_time)]

    def result(tokens: list[int]) -> ToolResult:
        end = next((at for at, token in enumerate(tokens) if token in ends), None)
        if end is None and len(tokens) < most:
            return ToolResult(error="timeout", detail=f"not written within {spec.max_time:g} seconds")
        kept = [token for token in tokens[:end] if token not in special]
        text = loaded.tokenizer.decode(kept, clean_up_tokenization_spaces=False).strip()
        return ToolResult(text) if text else ToolResult(error="no_result", detail="the model wrote no text")

    return in_batches(work, rows, spec.batch, _unavailable)


def generate(loaded: Loaded, rows: Sequence[Sequence[int]], how: Decoding, max_time: float) -> list[list[int]]:
    """The token ids that the model writes for one batch, behind its start token, with padding.

    What the model's own generation settings say beyond `how` (banned tokens, length penalty) holds; nothing is sampled.
    """
    import torch
    from transformers import GenerationConfig

    pad = loaded.tokenizer.pad_token_id or 0
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=loaded.device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=loaded.device)
    settings = GenerationConfig(
        max_new_tokens=how.max_tokens + (how.first is not None),
        num_beams=how.num_beams,
        do_sample=False,
        max_time=max_time,
        forced_bos_token_id=how.first,
    )
    with silence_transformers(), torch.inference_mode():
        found = loaded.model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
    return [list(row) for row in found[:, 1:].tolist()]


def in_batches(
    work: Callable[[Sequence[Row]], Sequence[Out]], rows: Sequence[Row], size: int, failed: Callable[[str], Out]
) -> list[Out]:
    """Run rows (each with a length) in batches of similar length, the longest first; in the order of the rows.

    Args:
        work: batch -> one outcome a row.
        size: rows of a batch at most.
        failed: message -> the outcome of a row that the memory does not hold even alone.

    >>> in_batches(lambda batch: [len(batch)] * len(batch), ["a", "bcd", "ef"], 2, lambda message: 0)
    [1, 2, 2]
    """
    order = sorted(range(len(rows)), key=lambda n: -len(rows[n]))  # type: ignore[arg-type]
    outcomes: dict[int, Out] = {}
    for start in range(0, len(order), size):
        places = order[start : start + size]
        done = halve_on_oom(work, [rows[n] for n in places], lambda _, message: failed(message[:200]))
        outcomes |= zip(places, done, strict=True)
    return [outcomes[n] for n in range(len(rows))]


def _unavailable(detail: str) -> ToolResult:
    return ToolResult(error="unavailable", detail=f"out of memory: {detail}")


def package_version(name: str) -> str | None:
    """The name and version of a package, None where it is not installed.

    >>> package_version("no-such-package")
    """
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return None
