"""Each layout gives the values of a plain loop over token positions, for several kinds of models, and keeps gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch

from tests.support.scoring import WINDOW, causal_model, draw_tokens, naive_logprobs, tokenised_row
from toolrlef_data.engines.local.scoring.layouts import LAYOUTS, TokenisedRow, token_logprobs

REPEATED = draw_tokens(5, "repeated")
# Prompts and responses of different lengths, so that every batch has padding on both sides.
ROWS = [
    tokenised_row("usual", 30, [7, 9, 14, 1]),
    tokenised_row("a response longer than the prompt", 3, [4, 20]),
    tokenised_row("a prompt of one token", 1, [6]),
    tokenised_row("an empty response", 11, [0, 4]),
    tokenised_row("no response", 8, []),
    tokenised_row("only an empty response", 8, [0]),
    TokenisedRow(draw_tokens(9, "equal"), (REPEATED, REPEATED, REPEATED[:3], REPEATED)),
]


def as_lists(values: Sequence[Sequence[torch.Tensor]]) -> list[list[list[float]]]:
    return [[response.tolist() for response in item] for item in values]


def largest_difference(found: list[list[list[float]]], expected: list[list[list[float]]]) -> float:
    assert [[len(response) for response in item] for item in found] == [
        [len(response) for response in item] for item in expected
    ]
    flat = [
        (a, b)
        for found_row, expected_row in zip(found, expected, strict=True)
        for found_response, expected_response in zip(found_row, expected_row, strict=True)
        for a, b in zip(found_response, expected_response, strict=True)
    ]
    return max(abs(a - b) for a, b in flat)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


ALL, NO_WINDOW = tuple(LAYOUTS), ("shared", "padded", "single")
# (model, attention) -> the layouts that are exact for rows of any length.
EXACT: dict[tuple[str, str], tuple[str, ...]] = {
    ("llama", "sdpa"): ALL,
    ("llama", "eager"): ALL,
    ("qwen", "sdpa"): ALL,
    ("gpt2", "sdpa"): ALL,
    ("gemma", "eager"): NO_WINDOW,
    ("mistral", "sdpa"): NO_WINDOW,
    ("mamba", "sdpa"): ("padded", "single"),
}


@pytest.mark.parametrize(("kind", "attention"), EXACT)
def test_values_are_those_of_a_loop_over_tokens(kind: str, attention: str) -> None:
    model = causal_model(kind)
    if kind != "mamba":
        model.set_attn_implementation(attention)
    expected = naive_logprobs(model, ROWS)
    with torch.no_grad():
        for layout in EXACT[kind, attention]:
            found = as_lists(token_logprobs(model, ROWS, layout))
            assert largest_difference(found, expected) < 1e-4, layout


def test_packed_rows_are_exact_up_to_the_window_and_wrong_beyond_it() -> None:
    model = causal_model("mistral")
    short, long = tokenised_row("short", WINDOW - 4, [4, 3, 4, 2]), tokenised_row("long", 3 * WINDOW, [4, 3, 4, 2])
    with torch.no_grad():
        packed, single = (as_lists(token_logprobs(model, [short, long], layout)) for layout in ("packed", "single"))
    assert largest_difference(packed[:1], single[:1]) < 1e-4
    assert largest_difference(packed[1:], single[1:]) > 0.1


@pytest.mark.parametrize("layout", ["packed", "shared", "padded"])
def test_gradients_are_those_of_one_response_at_a_time(layout: str) -> None:
    model = causal_model("llama").train()

    def gradients(layout: str) -> dict[str, torch.Tensor]:
        model.zero_grad()
        values = token_logprobs(model, ROWS, layout)
        # Another factor for each response, so that exchanged responses change the gradients.
        terms = [(n + 1) * response.sum() for n, response in enumerate(value for item in values for value in item)]
        torch.autograd.backward(torch.stack(terms).sum())
        return {name: weight.grad.clone() for name, weight in model.named_parameters()}

    expected = gradients("single")
    for name, gradient in gradients(layout).items():
        assert torch.allclose(gradient, expected[name], rtol=1e-3, atol=1e-3), name
    assert any(gradient.abs().max() > 0.1 for gradient in expected.values())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_head_is_computed_only_where_a_token_is_predicted(layout: str) -> None:
    model = causal_model("llama")
    positions = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: positions.append(output.shape[:-1].numel()))
    rows = [tokenised_row("first", 200, [5, 5, 5]), tokenised_row("second", 200, [5, 5, 5])]
    with torch.no_grad():
        token_logprobs(model, rows, layout)
    predictions = 2 * 3 * 5
    assert predictions - 2 * (3 - 1) <= sum(positions) <= predictions, "a packed prompt predicts three first tokens"


def test_a_prompt_needs_a_token() -> None:
    with pytest.raises(ValueError, match="prompts with at least one token"):
        token_logprobs(causal_model("llama"), [TokenisedRow((), ((1,),))])
