"""Parts of the local engine against plain second implementations, and the names and messages of model files."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from toolrlef_data.engines.local import weights as weights_module
from toolrlef_data.engines.local.batching import TokenisedPrompt
from toolrlef_data.engines.local.decoding import (
    _append_token,
    _choose_tokens,
    _DecodeSlot,
    _filter_top_p,
    _finish,
    _preallocated_layer,
    _prompt_token_mask,
    last_logits_kwargs,
)
from toolrlef_data.engines.local.engine import (
    LocalEngine,
    _build_reply,
    _parse_arguments,
    _tokenise,
    context_length,
    request_windows,
    tokenise_prompt,
)
from toolrlef_data.engines.local.loading import load_model, parse_device, resolve_dtype
from toolrlef_data.engines.local.memory import first_line, is_out_of_memory
from toolrlef_data.engines.local.weights import (
    Weights,
    _is_hub_id,
    _split_digits,
    cached_digest,
    convert,
    folder_digest,
    resolve_adapter,
    resolve_weights,
    silence_transformers,
)
from toolrlef_data.engines.spec import EngineSpec, Message, Request
from toolrlef_data.records import InputError, MissingExtra, Reply
from toolrlef_data.tables.files import SEALED, STAMPS

pytestmark = pytest.mark.usefixtures("one_thread")

# Sampling -------------------------------------------------------------------------------------------------------------


def plain_probabilities(logits: list[float], spec: EngineSpec, seen: Sequence[int]) -> list[float]:
    """Return the probabilities of all tokens, by the documentation of the settings."""
    values = torch.tensor(logits, dtype=torch.float64)
    for token in set(seen):
        factor = 1 / spec.repetition_penalty if values[token] > 0 else spec.repetition_penalty
        values[token] *= factor
    probs: list[float] = torch.softmax(values / spec.temperature, -1).tolist()
    if spec.top_k:
        least = sorted(probs, reverse=True)[: spec.top_k][-1]
        probs = [p if p >= least else 0.0 for p in probs]
    total = sum(probs)
    if spec.top_p < 1:
        ranked, before, kept = sorted(probs, reverse=True), 0.0, 0
        while kept < len(ranked) and before < spec.top_p * total:
            before += ranked[kept]
            kept += 1
        probs = [p if p >= ranked[kept - 1] else 0.0 for p in probs]
    return probs


SETTINGS: list[dict[str, Any]] = [
    {"temperature": 1.0},
    {"temperature": 0.3},
    {"temperature": 2.0, "top_k": 3},
    {"temperature": 1.0, "top_k": 10_000},
    {"temperature": 1.0, "top_p": 0.5},
    {"temperature": 5.0, "top_p": 0.97},  # nearly flat: more than 256 tokens
    {"temperature": 1.0, "top_p": 0.9, "top_k": 5},
    {"temperature": 1.0, "repetition_penalty": 1.7},
    {"temperature": 0.7, "repetition_penalty": 0.6, "top_p": 0.8},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_token_is_drawn_by_inverting_the_distribution_in_the_order_of_the_vocabulary(
    settings: dict[str, Any],
) -> None:
    spec = EngineSpec("local", "m", **settings)
    logits = torch.randn(40, 700, generator=torch.Generator().manual_seed(1)) * 2
    prompts = [TokenisedPrompt(f"{n}", (n, 5, 699), f"seed {n}") for n in range(40)]
    slots = [_DecodeSlot(prompt, Random(prompt.seed)) for prompt in prompts]
    seen = _prompt_token_mask(prompts, logits) if spec.repetition_penalty != 1 else None
    found = _choose_tokens(logits, slots, spec, seen)
    expected = []
    for row, prompt in zip(logits.tolist(), prompts, strict=True):
        probs = plain_probabilities(row, spec, prompt.tokens)
        draw, total, token = Random(prompt.seed).random() * sum(probs), 0.0, -1
        while total <= draw:
            token += 1
            total += probs[token]
        expected.append(token)
    assert found == expected
    assert len(set(found)) > 5


def test_greedy_decoding_takes_the_most_likely_token_after_the_penalty() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [-1.0, -3.0, -2.0]])
    prompts = [TokenisedPrompt("a", (1,), ""), TokenisedPrompt("b", (0,), "")]
    slots = [_DecodeSlot(prompt, Random(0)) for prompt in prompts]
    seen = _prompt_token_mask(prompts, logits)
    assert seen.tolist() == [[False, True, False], [True, False, False]]
    assert _choose_tokens(logits, slots, EngineSpec("local", "m"), None) == [1, 0]
    assert _choose_tokens(logits, slots, EngineSpec("local", "m", repetition_penalty=2.5), seen) == [2, 2]


@pytest.mark.parametrize(
    ("probs", "top_p", "kept"),
    [
        ([0.5, 0.25, 0.25], 0.5, [0]),
        ([0.5, 0.25, 0.25], 0.51, [0, 1, 2]),  # equal tokens stay together
        ([0.25, 0.5, 0.125, 0.125], 0.75, [0, 1]),
        ([0.25, 0.5, 0.125, 0.125], 0.76, [0, 1, 2, 3]),
        ([1.0, 0.0], 0.99, [0]),
        ([0.125] * 8, 0.001, list(range(8))),
    ],
)
def test_the_smallest_set_of_tokens_that_reaches_the_mass_is_kept(
    probs: list[float], top_p: float, kept: list[int]
) -> None:
    found = _filter_top_p(torch.tensor([probs, probs[::-1]]), top_p).tolist()
    assert [n for n, p in enumerate(found[0]) if p] == [n for n in kept if probs[n]]
    assert found[1] == found[0][::-1]
    assert [p for p in found[0] if p] == [probs[n] for n in kept if probs[n]]


class Letters:
    """A tokenizer of letters."""

    @staticmethod
    def decode(tokens: Sequence[int], **_: Any) -> str:
        return "".join(map(chr, tokens))


@pytest.mark.parametrize(
    ("text", "stop", "max_tokens", "tokens", "count", "reason"),
    [
        ("abc$", (), 9, "abc", 4, "stop"),
        ("abcd", (), 4, "abcd", 4, "length"),
        ("abc$", (), 4, "abc", 4, "stop"),  # the last token that fits ends it
        ("abcd", ("cd", "x"), 9, "abcd", 4, "stop"),
        ("abcd", ("abcd",), 4, "abcd", 4, "stop"),
        ("a", ("b",), 1, "a", 1, "length"),
    ],
)
def test_how_a_reply_ends(
    text: str, stop: tuple[str, ...], max_tokens: int, tokens: str, count: int, reason: str
) -> None:
    spec = EngineSpec("local", "m", stop=stop, max_tokens=max_tokens)
    slot = _DecodeSlot(TokenisedPrompt("a", (1,), ""), Random(0))
    for number, letter in enumerate(text, 1):
        assert slot.finish_reason == ""
        _append_token(slot, ord(letter), Letters, spec, frozenset({ord("$")}))
        assert len(slot.tokens) == number
    completion = _finish(slot, frozenset({ord("$")}))
    assert (Letters.decode(completion.tokens), completion.token_count, completion.finish_reason) == (
        tokens,
        count,
        reason,
    )


@pytest.mark.parametrize(
    ("text", "stop", "reason", "expected", "finish"),
    [
        ("abcabc", (), "length", "abcabc", "length"),
        ("abcabc", ("ca", "b"), "length", "a", "stop"),  # the first match in the text
        ("abcabc", ("a",), "stop", "", "stop"),
        ("abcabc", ("x",), "stop", "abcabc", "stop"),
    ],
)
def test_the_reply_of_a_completion(text: str, stop: tuple[str, ...], reason: str, expected: str, finish: str) -> None:
    prompt = TokenisedPrompt("a", (1, 2, 3), "")
    completion = SimpleNamespace(prompt=prompt, tokens=tuple(map(ord, text)), token_count=8, finish_reason=reason)
    reply = _build_reply(completion, Letters, EngineSpec("local", "m", stop=stop))  # type: ignore[arg-type]
    assert reply == Reply(expected, finish_reason=finish, prompt_tokens=3, completion_tokens=8)


def test_a_preallocated_layer_equals_that_of_transformers() -> None:
    from transformers.cache_utils import DynamicLayer

    draw = torch.Generator().manual_seed(0)
    layers = [_preallocated_layer()(9), DynamicLayer()]
    for length, rows in ((4, None), (1, [2, 0]), (1, [1]), (3, None)):
        keys = [
            torch.randn(layers[0].keys.shape[0] if layers[0].is_initialized else 3, 2, length, 4, generator=draw)
            for _ in "kv"
        ]
        for layer in layers:
            layer.update(*keys)
        for name in ("keys", "values"):
            assert torch.equal(getattr(layers[0], name), getattr(layers[1], name))
        assert layers[0].get_seq_length() == layers[1].get_seq_length()
        if rows is not None:
            for layer in layers:
                layer.reorder_cache(torch.tensor(rows))
    assert layers[0].keys.data_ptr() == layers[0].buffers[0].data_ptr(), "no copy"


def test_the_logits_are_limited_if_the_model_can_do_so() -> None:
    class Limited:
        def forward(self, logits_to_keep: int = 0) -> None: ...

    class Plain:
        def forward(self, ids: int = 0) -> None: ...

    wrapped = SimpleNamespace(get_base_model=Limited)
    assert [last_logits_kwargs(model) for model in (Limited(), Plain(), wrapped)] == [
        {"logits_to_keep": 1}, {}, {"logits_to_keep": 1}
    ]  # fmt: skip
    assert last_logits_kwargs(Limited(), 5) == {"logits_to_keep": 5}


# Requests -------------------------------------------------------------------------------------------------------------


def test_windows_end_when_they_are_full_or_no_request_is_ready() -> None:
    a, b, c, d, e = (("abcde"[n], Request(prompt=str(n))) for n in range(5))
    assert list(request_windows(iter([a, b, c, None, None, d, e]), 2)) == [[a, b], [c], [d, e]]
    assert list(request_windows(iter([None, a, None]), 2)) == [[a]]
    assert list(request_windows(iter([a, b, c]), 9)) == [[a, b, c]]
    assert list(request_windows(iter([None, None]), 2)) == []


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('{"a": [1]}', {"a": [1]}),
        ("{}", {}),
        ("[1]", "[1]"),
        ("5", "5"),
        ("{", "{"),
        ("", ""),
        ("[" * 9999, "[" * 9999),
    ],
    ids=str,
)
def test_arguments_are_an_object_or_a_text(text: str, arguments: Any) -> None:
    assert _parse_arguments(text) == arguments


class Words:
    """A tokenizer of words; its template has the tools, if there are any."""

    chat_template: str | None = "template"

    def __call__(self, text: str, add_special_tokens: bool) -> Any:
        ids = [len(word) for word in text.split()]
        return SimpleNamespace(
            input_ids=[0, *ids] if add_special_tokens and text != "nothing" else ids * (text != "nothing")
        )

    def get_chat_template(self, tools: Any) -> str:
        return "tools" if tools == [{"name": "sum"}] else "no schemas"

    def apply_chat_template(self, chat: Any, **options: Any) -> str:
        assert (options.pop("tokenize"), options.pop("add_generation_prompt")) == (False, True)
        return " ".join([*(f"{m['role']} {m['content']}" for m in chat), f"{options}"])


CHAT = (Message("user", "one two"),)


def test_a_prompt_is_tokenised_or_refused_with_a_reason() -> None:
    spec, words = EngineSpec("local", "tiny", options={"b": 1}), Words()
    assert tokenise_prompt(Request(prompt="a bcd"), spec, words) == (0, 1, 3)
    options = [len(word) for word in ["{'tools':", "None,", "'b':", "1}"]]
    assert tokenise_prompt(Request(messages=CHAT), spec, words) == (4, 3, 3, *options), "no special token twice"
    options = [len(word) for word in ["{'tools':", "[{'name':", "'sum'}],", "'b':", "1}"]]
    assert tokenise_prompt(Request(messages=CHAT, tools=('{"name": "sum"}',)), spec, words) == (4, 3, 3, *options)
    refused = {
        "the chat template of tiny does not support tools": Request(messages=CHAT, tools=('{"name": "other"}',)),
        "the text contains an unpaired surrogate": Request(prompt="\ud800"),
        "the prompt is empty (no tokens)": Request(prompt="nothing"),
    }
    for detail, request in refused.items():
        assert tokenise_prompt(request, spec, words) == Reply(None, error="bad_request", error_detail=detail)
    words.chat_template = None
    assert tokenise_prompt(Request(messages=CHAT), spec, words) == Reply(
        None, error="bad_request", error_detail="tiny has no chat template: use the prompt style 'completion'"
    )
    assert tokenise_prompt(Request(prompt="a"), spec, words) == (0, 1)


def test_statistics_and_settings_of_the_engine() -> None:
    engine = LocalEngine(EngineSpec("local", "m", max_tokens=7))
    assert engine.stats() == {}
    engine._count_step(3)
    assert engine.stats() == {"batch": "3/7 tokens"}
    steps: list[Any] = []
    engine.on_step = lambda: steps.append(engine.step)
    engine._count_step(4)
    assert steps == [4]
    with pytest.raises(InputError) as caught:
        EngineSpec("local", "m", num_beams=2, temperature=0.5)
    assert str(caught.value) == "beam search does not support sampling: set temperature=0 or num_beams=1"
    assert EngineSpec("local", "m", num_beams=1, temperature=0.5).num_beams == 1
    for length in (5, None):
        config = SimpleNamespace(max_position_embeddings=length) if length else SimpleNamespace()
        assert context_length(SimpleNamespace(config=SimpleNamespace(get_text_config=lambda c=config: c))) == length


# Devices and memory ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "parsed"),
    [("auto", ("auto", 0)), ("cpu", ("cpu", 0)), ("cuda", ("cuda", 0)), ("cuda:11", ("cuda", 11)), ("mps:0", ("mps", 0)), ("xpu:1", ("xpu", 1))],
)  # fmt: skip
def test_devices_have_a_kind_and_a_number(device: str, parsed: tuple[str, int]) -> None:
    assert parse_device(device) == parsed


@pytest.mark.parametrize(
    "device", ["gpu", "", "cpu:0", "auto:1", "cuda:", "cuda:a", "cuda:-1", "cuda:²", "cuda:0:1", "CUDA", None]
)
def test_no_other_device_is_accepted(device: Any) -> None:
    with pytest.raises(InputError) as caught:
        parse_device(device)
    assert str(caught.value) == f"unknown device {device!r}; choose from: auto, cpu, cuda, cuda:0, mps, xpu"


@pytest.mark.parametrize(
    ("device", "capability", "dtype"),
    [("cpu", (9, 0), "float32"), ("auto", (9, 0), "float32"), ("cuda", (8, 0), "bfloat16"), ("cuda:0", (7, 5), "float16"), ("mps", (9, 0), "float16")],
)  # fmt: skip
def test_the_dtype_for_a_device(
    monkeypatch: pytest.MonkeyPatch, device: str, capability: tuple[int, int], dtype: str
) -> None:
    """A test machine need not have these devices: the capability is given."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve_dtype("auto", device) == dtype
    assert [resolve_dtype(name, device) for name in ("float32", "bfloat16", "float16")] == [
        "float32",
        "bfloat16",
        "float16",
    ]
    with pytest.raises(InputError, match=r"^unknown dtype 'int8'; choose from: auto, float32, bfloat16, float16$"):
        resolve_dtype("int8", device)


def test_arguments_of_a_loaded_model_are_checked_first() -> None:
    for arguments, message in (
        ({"model": "m", "device": "gpu"}, "unknown device 'gpu'"),
        ({"model": " "}, "model must be a name, found ' '"),
        ({"model": "m", "adapter": " "}, "adapter must be a name, found ' '"),
        ({"model": "./nowhere", "adapter": "x"}, r"no model at './nowhere'"),
    ):
        with pytest.raises(InputError, match=message):
            load_model(**arguments)


def test_exhausted_memory_is_recognised_and_described() -> None:
    errors = [
        MemoryError(),
        torch.OutOfMemoryError("CUDA"),
        RuntimeError("[enforce] DefaultCPUAllocator: not enough memory"),
    ]
    assert [is_out_of_memory(error) for error in errors] == [True] * 3
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal access"))
    lines = [first_line(error) for error in (*errors, RuntimeError("\n a\nb"))]
    assert lines == ["MemoryError", "CUDA", "[enforce] DefaultCPUAllocator: not enough memory", "a"]


# Model files ----------------------------------------------------------------------------------------------------------

PARTS = ["a.json", "a.safetensors", "a.bin", "a.txt", "a.model", "a.jinja", "a.tiktoken", "a.py"]
UNUSED = [
    "README.md",
    "a.pt",
    "trainer_state.json",
    "training_args.bin",
    "optimizer.bin",
    "scheduler.bin",
    STAMPS,
    SEALED,
]


def test_the_digest_of_a_folder_has_the_files_that_can_change_a_reply(tmp_path: Path) -> None:
    digests = [folder_digest(tmp_path)]
    for name in UNUSED:
        (tmp_path / name).write_text("x")
        assert folder_digest(tmp_path) == digests[0], name
    for name in PARTS:
        (tmp_path / name).write_text("x")
        digests.append(folder_digest(tmp_path))
    (tmp_path / "a.json").rename(tmp_path / "b.json")
    digests.append(folder_digest(tmp_path))
    (tmp_path / "b.json").write_text("y")
    digests.append(folder_digest(tmp_path))
    templates = tmp_path / "additional_chat_templates"
    templates.mkdir()
    (templates / "a.txt").write_text("x")
    (tmp_path / "folder.json").mkdir()
    assert folder_digest(tmp_path) == digests[-1]
    (templates / "a.jinja").write_text("x")
    digests.append(folder_digest(tmp_path))
    assert len(set(digests)) == len(digests) == len(PARTS) + 4


def test_only_digests_of_large_files_are_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(weights_module, "home_dir", lambda: tmp_path / "home")
    for size, count in ((2**20 - 1, 0), (2**20, 1)):
        path = tmp_path / f"{size}.bin"
        path.write_bytes(bytes(size))
        os.utime(path, (1e9, 1e9))
        assert len(cached_digest(path)) == 64
        assert len(list((tmp_path / "home").rglob("*.json"))) == count


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gpt2", True), ("org/m", True), ("a/b/c", False), ("./m", False), ("/m", False), ("~/m", False), ("org/", False), ("../m", False)],
)  # fmt: skip
def test_names_of_models_on_the_hub(name: str, expected: bool) -> None:
    assert _is_hub_id(name) is expected


def test_a_model_is_a_folder_a_gguf_file_or_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder, gguf = tmp_path / "m", tmp_path / "m.gguf"
    folder.mkdir()
    gguf.write_bytes(b"GGUF")
    with pytest.raises(InputError, match=r"^'.*/m' is not a model folder: expected config.json, found no files$"):
        resolve_weights(str(folder))
    (folder / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for name in (str(folder), "m", "./m", "~/m"):
        assert resolve_weights(name) == Weights("folder", str(folder))
    for name in (str(gguf), "m.gguf", "~/m.gguf"):
        assert resolve_weights(name) == Weights("gguf", str(gguf))
    expected = "expected a folder, a .gguf file, package:NAME (for a package with one) or a Hub id"
    for name in ("./n", "n.gguf", "org/n.gguf", "a/b/c"):
        with pytest.raises(InputError) as caught:
            resolve_weights(name)
        assert str(caught.value) == f"no model at {name!r}: {expected}"
    with pytest.raises(InputError) as caught:
        resolve_adapter("m")
    assert str(caught.value) == "no adapter at 'm': expected a folder with adapter_config.json, or a Hub id"
    (folder / "adapter_config.json").write_text("{}")
    assert resolve_adapter("~/m") == resolve_adapter("m") == Weights("folder", str(folder))
    assert Weights("folder", str(folder)).pretrained_args() == (str(folder), None)
    hub = Weights("hub", "org/m", "c0")
    assert (hub.pretrained_args(), hub.identity()) == (("org/m", "c0"), {"hub": "org/m", "commit": "c0"})


def test_a_damaged_adapter_of_a_warm_up_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_module, "home_dir", lambda: tmp_path)
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text("{}")
    (tmp_path / "lora" / SEALED).touch()
    with pytest.raises(InputError) as caught:
        resolve_adapter(str(tmp_path / "lora"))
    assert str(caught.value) == (
        f"{tmp_path / 'lora' / STAMPS} is damaged or missing: call warm_up again, which trains the adapter again"
    )


def test_a_converted_file_is_named_by_its_digest_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_module, "home_dir", lambda: tmp_path)
    monkeypatch.setattr(weights_module, "_convert_into", lambda gguf, folder: (folder / "m").write_bytes(b"w"))
    gguf = tmp_path / "m.gguf"
    gguf.write_bytes(b"GGUF")
    folder = tmp_path / "converted" / f"{cached_digest(gguf)[:32]}-1"
    assert convert(gguf) == folder
    assert Weights("gguf", str(gguf)).pretrained_args() == (str(folder), None)


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        *((name, True) for name in ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")),
        *(("llama-bpe", False), ("default", False), (None, False)),
    ],
)
def test_the_pre_tokenizer_of_a_gguf_file_splits_off_each_digit(tmp_path: Path, name: str | None, splits: bool) -> None:
    from gguf import GGUFWriter
    from tokenizers import Tokenizer, models, pre_tokenizers

    path = tmp_path / "m.gguf"
    writer = GGUFWriter(path, "llama")
    if name is not None:
        writer.add_tokenizer_pre(name)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tokenizer = SimpleNamespace(backend_tokenizer=Tokenizer(models.BPE()))
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    _split_digits(tokenizer, path)
    words = [word for word, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a 12é")]
    assert words == (["a", "Ġ", "1", "2", "Ã©"] if splits else ["a", "Ġ12", "Ã©"])


@pytest.mark.filterwarnings("ignore:Cannot enable progress bars")  # an environment variable of the tests forbids it
@pytest.mark.parametrize("is_shown", [True, False])
def test_transformers_is_silent_for_a_while_only(is_shown: bool) -> None:
    from transformers.utils import logging as library

    def set_bars(shown: bool) -> None:
        (library.enable_progress_bar if shown else library.disable_progress_bar)()

    def state() -> tuple[int, bool]:
        return library.get_verbosity(), library.is_progress_bar_enabled()

    level, bars = state()
    try:
        library.set_verbosity(logging.INFO)
        set_bars(is_shown)
        with suppress(KeyError), silence_transformers():
            assert state() == (logging.ERROR, False)
            raise KeyError
        assert state() == (logging.INFO, is_shown)
    finally:
        library.set_verbosity(level)
        set_bars(bars)


def test_an_identity_is_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "adapter_config.json").write_text("{}")
    spec = EngineSpec("local", str(tmp_path), adapter=str(tmp_path), dtype="float16")
    folder = {"folder": folder_digest(tmp_path)}
    assert LocalEngine(spec).identity() == {"model": folder, "adapter": folder, "dtype": "float16"}
    plain = LocalEngine(EngineSpec("local", str(tmp_path), device="cpu")).identity()
    assert json.loads(json.dumps(plain)) == {"model": folder, "adapter": None, "dtype": "float32"}


def test_names_that_the_hub_does_not_know_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"^'a b' is not a folder, a file or a Hub id: Repo id must use"):
        resolve_weights("a b")
    text = r"^'org/m' is not a local folder or file, and cannot be read from the Hub: [^\n]+$"
    for resolve in (resolve_weights, resolve_adapter):
        with pytest.raises(InputError, match=text):
            resolve("org/m")
    commits = {"main": "0" * 40, "v1": "1" * 40}
    for revision, commit in commits.items():
        for path in (f"refs/{revision}", f"snapshots/{commit}/config.json", f"snapshots/{commit}/adapter_config.json"):
            (tmp_path / "models--org--m" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "models--org--m" / path).write_text(commit)
    assert resolve_weights("org/m") == resolve_adapter("org/m") == Weights("hub", "org/m", "0" * 40)
    assert resolve_weights("org/m", "v1") == Weights("hub", "org/m", "1" * 40)
    (tmp_path / "models--org--m" / "snapshots" / ("0" * 40) / "adapter_config.json").unlink()
    with pytest.raises(InputError, match=text):
        resolve_adapter("org/m")


def test_a_prompt_has_a_seed_of_its_own_and_room_for_its_reply() -> None:
    config = SimpleNamespace(max_position_embeddings=12)
    loaded: Any = SimpleNamespace(
        tokenizer=Words(), model=SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: config))
    )
    request = Request(prompt="a bcd", seed=7, sample=2)
    fits = EngineSpec("local", "m", max_tokens=9, seed=5)
    assert _tokenise("tag", request, fits, loaded) == TokenisedPrompt("tag", (0, 1, 3), "5:7:2"), (
        "replies are sampled from it"
    )
    assert _tokenise("tag", request, EngineSpec("local", "m", max_tokens=10), loaded) == Reply(
        None, error="too_long", error_detail="3 prompt tokens and max_tokens=10 exceed the context of 12 tokens"
    )


def test_a_file_that_is_not_converted_yet_needs_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_module, "home_dir", lambda: tmp_path)
    monkeypatch.setattr(weights_module, "_convert_into", lambda gguf, folder: (folder / "m").write_bytes(b"w"))
    gguf = tmp_path / "m.gguf"
    gguf.write_bytes(b"GGUF")
    find_spec = importlib.util.find_spec
    missing = lambda name, *rest: None if name == "gguf" else find_spec(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", missing)
    text = r"^reading m.gguf requires the package gguf: pip install gguf$"
    with pytest.raises(MissingExtra, match=text):
        convert(gguf)
    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    folder = convert(gguf)
    monkeypatch.setattr(importlib.util, "find_spec", missing)
    assert convert(gguf) == folder, "it is converted already"
    (folder / "m").write_bytes(b"x")
    with pytest.raises(MissingExtra, match=text):
        convert(gguf)
