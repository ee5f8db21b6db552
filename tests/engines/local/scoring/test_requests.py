"""Requests for log-probabilities: their keys, their tokens, and the replies of the engine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.support.models import tiny_llama
from toolrlef_data.engines.local.engine import LocalEngine, unload
from toolrlef_data.engines.local.scoring.engine import ScoringEngine, ScoringEngines, _build_reply
from toolrlef_data.engines.local.scoring.requests import ScoringRequest, end_token, request_tokeniser, tokenise_response
from toolrlef_data.engines.spec import EngineSpec, Message, Request
from toolrlef_data.records import InputError, Reply
from toolrlef_data.tables.fingerprint import canonical


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def spec(folder: Path) -> EngineSpec:
    return EngineSpec("local", str(folder), device="cpu", progress=False)


@pytest.fixture
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module", autouse=True)
def unloaded() -> Iterator[None]:
    yield
    unload()


def test_the_key_of_a_value_has_the_response_and_the_end() -> None:
    request = ScoringRequest(prompt="1+1?", response="2")
    # The key of stored values: a change means that all users compute them again.
    assert request.in_key() == {
        "messages": [],
        "prompt": "1+1?",
        "tools": [],
        "sample": 0,
        "seed": 0,
        "response": "2",
        "end": True,
    }
    others = [Request(prompt="1+1?"), ScoringRequest(prompt="1+1?", response="3")]
    others += [ScoringRequest(prompt="1+1?", response="2", end=False), ScoringRequest(prompt="1+2?", response="2")]
    keys = [str(other.in_key()) for other in [request, *others]]
    assert len(set(keys)) == 5


def test_devices_are_in_no_key() -> None:
    assert canonical(ScoringEngines(("cpu", "cpu"))) == canonical(ScoringEngines())


def test_the_identity_has_the_model_and_a_tolerance_of_the_user(spec: EngineSpec) -> None:
    identity = ScoringEngine(spec).identity()
    assert identity == LocalEngine(spec).identity() == ScoringEngine(spec, ["cpu", "cpu"]).identity()
    others = [ScoringEngine(spec, tolerance=tolerance).identity() for tolerance in (0.5, math.inf)]
    assert len({str(other) for other in [identity, *others]}) == 3


@pytest.mark.parametrize("devices", [["auto"], ["cpu", "auto"], ["cpu", "cuda:0"], ["gpu"]])
def test_devices_are_named_and_of_one_kind(spec: EngineSpec, devices: list[str]) -> None:
    with pytest.raises(InputError, match="device"):
        ScoringEngine(spec, devices)


def test_the_prompt_has_the_tools_of_its_request(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ messages[0].content }}{% for tool in tools or [] %}{{ tool.name }}{% endfor %}"
    tokenise = request_tokeniser(EngineSpec("local", "m"), tokenizer)
    chat = (Message("user", "How many?"),)
    prompts = []
    for tools in ((), ('{"name": "sum"}',), ('{"name": "many"}',)):
        tokens = tokenise(ScoringRequest(messages=chat, tools=tools, response="2"))
        assert not isinstance(tokens, Reply)
        prompts.append(tokenizer.decode(tokens[0]))
    assert prompts == ["How many?", "How many?sum", "How many?many"]


@pytest.mark.parametrize(("prompt", "blank"), [("Answer:", " "), ("### Response:\n", ""), (None, "")])
def test_a_response_is_tokenised_apart_from_its_prompt(tokenizer: Any, prompt: str | None, blank: str) -> None:
    ids = tokenise_response(tokenizer, prompt, " calculator(3*12)\n")
    assert ids == tuple(tokenizer(f"{blank}calculator(3*12)").input_ids)
    assert tokenise_response(tokenizer, prompt, " \n") == ()
    request = ScoringRequest(prompt=prompt or "Answer: ", response="calculator(3*12)")
    tokens = request_tokeniser(EngineSpec("local", "m"), tokenizer)(request)
    assert not isinstance(tokens, Reply)
    assert tokens[0] == tuple(tokenizer(request.prompt).input_ids), "the response does not change the prompt's tokens"


@pytest.mark.parametrize(
    ("template", "end"),
    [
        ("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n<|tools|>{% endfor %}", "<|tools|>"),
        ("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}", "</s>"),
        ("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}", "</s>"),
        ("{% for m in messages %}{{ m.content }} and so on{% endfor %}", "</s>"),
        ("{{ raise_exception('no') }}", "</s>"),
    ],
)
def test_a_reply_of_a_chat_ends_as_in_its_template(tokenizer: Any, template: str, end: str) -> None:
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>", "<|tools|>"]})
    tokenizer.chat_template = template
    assert tokenizer.convert_ids_to_tokens(end_token(tokenizer, is_chat=True)) == end
    assert tokenizer.convert_ids_to_tokens(end_token(tokenizer)) == "</s>"


def test_a_tokenizer_without_an_end_token(tokenizer: Any) -> None:
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="no end-of-text token: pass end=False"):
        end_token(tokenizer)


def replies(engine: ScoringEngine, requests: list[ScoringRequest]) -> list[Reply]:
    pairs = [(str(n), request) for n, request in enumerate(requests)]
    with engine:
        found = dict(pair for batch in engine.generate(iter([None, *pairs, None])) for pair in batch)
    return [found[tag] for tag, _ in pairs]


def test_requests_that_cannot_be_computed_are_errors_beside_the_others(spec: EngineSpec) -> None:
    good = ScoringRequest(prompt="How many?", response="36")
    bad = [
        ScoringRequest(prompt="", response="36"),
        ScoringRequest(prompt="How many?", response="\ud800"),
        ScoringRequest(prompt="\ud800", response="36"),
        ScoringRequest(prompt="9" * 300, response="36"),
    ]
    first, *others, last = replies(ScoringEngine(spec), [good, *bad, good])
    assert first == last
    assert float(first.text or "") < 0
    assert [reply.error for reply in others] == ["bad_request", "bad_request", "bad_request", "too_long"]


def test_the_last_token_of_a_response_needs_no_position(spec: EngineSpec, tokenizer: Any) -> None:
    n_prompt = len(tokenizer("9\n").input_ids)
    n_fits = 256 - n_prompt  # with the end token, one token more than the context
    requests = [ScoringRequest(prompt="9\n", response="9" * n) for n in (n_fits, n_fits + 1)]
    first, second = replies(ScoringEngine(spec), requests)
    assert (first.error, first.completion_tokens, second.error) == (None, n_fits + 1, "too_long")


def test_a_value_that_is_not_a_number_is_an_error(folder: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight[7] = float("nan")
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    spec = EngineSpec("local", str(tmp_path), device="cpu", progress=False)
    (reply,) = replies(ScoringEngine(spec), [ScoringRequest(prompt="How many?", response="36")])
    assert (reply.text, reply.error) == (None, "bad_request")
    assert "the log-probability is nan" in reply.error_detail
    for value in (math.inf, -math.inf):
        assert _build_reply(value, "", (1,), (2,)).error == "bad_request"
