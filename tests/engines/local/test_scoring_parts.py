"""Scoring without a real model: the layouts agree with a loop over tokens, and the self-test refuses those that do not."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.support.scoring import causal_model, naive_logprobs, tokenised_row
from toolrlef_data.engines.local.batching import PrefixGroup, TokenisedPrompt, halve_on_oom, plan_batches
from toolrlef_data.engines.local.scoring import selection
from toolrlef_data.engines.local.scoring.layouts import LAYOUTS, TokenisedRow, token_logprobs
from toolrlef_data.engines.local.scoring.requests import ScoringRequest
from toolrlef_data.engines.local.scoring.selection import LayoutSelection, row_length, window_sizes

ROWS = [tokenised_row("a", 6, [3, 5, 1]), tokenised_row("one token", 1, [4, 0]), TokenisedRow((5, 6), ((1, 2), (1, 2)))]


def test_all_layouts_agree_with_a_loop_over_tokens(one_thread: None) -> None:
    model = causal_model("llama")
    expected = naive_logprobs(model, ROWS)
    with torch.no_grad():
        for layout in LAYOUTS:
            found = token_logprobs(model, ROWS, layout)
            for found_row, expected_row in zip(found, expected, strict=True):
                assert [values.tolist() for values in found_row] == [
                    pytest.approx(values, abs=1e-4) for values in expected_row
                ]
        assert token_logprobs(model, [TokenisedRow((1,), ((),))])[0][0].tolist() == []
        with pytest.raises(ValueError, match="expected prompts with at least one token"):
            token_logprobs(model, [TokenisedRow((), ((1,),))])


def test_parts_of_a_row_that_the_self_test_uses() -> None:
    row = TokenisedRow(tuple(range(50)), ((1, 2), (3,), (4, 5, 6), (4, 5, 6)))
    assert [row_length(row), row_length(TokenisedRow((1, 2), ()))] == [53, 2]
    assert selection._fewer(row) == TokenisedRow(row.prompt, ((4, 5, 6), (1, 2)))
    assert selection._small_batch(row) == [
        TokenisedRow(row.prompt[:24], ((4, 5, 6), (1, 2))), TokenisedRow(row.prompt[:9], ((4, 5), (1, 2)))
    ]  # fmt: skip


def config(**values: Any) -> Any:
    text_config = SimpleNamespace(**values)
    return SimpleNamespace(get_text_config=lambda: text_config)


@pytest.mark.parametrize(
    ("values", "length"),
    [
        ({}, None),
        ({"sliding_window": 53}, None),  # not exceeded
        ({"sliding_window": 52}, 104),
        ({"sliding_window": 20, "attention_chunk_size": 40}, 80),
        ({"sliding_window": 52, "max_position_embeddings": 90}, 87),
        ({"sliding_window": 52, "max_position_embeddings": 53}, None),  # no longer than the row
        ({"sliding_window": None, "chunk": True, "window": 1, "hidden_size": 3}, None),
    ],
)
def test_the_row_beyond_a_window(values: dict[str, Any], length: int | None) -> None:
    row = TokenisedRow(tuple(range(50)), ((1, 2), (3,), (4, 5, 6)))
    extended = selection._extended(config(**values), row)
    if length is None:
        assert extended is None
    else:
        repeated = tuple(n % 50 for n in range(length))
        assert extended == TokenisedRow(repeated, ((4, 5, 6), (1, 2)))
    sizes = [
        value
        for name, value in values.items()
        if name != "max_position_embeddings" and type(value) is int and value > 3
    ]
    assert window_sizes(config(**values)) == sizes


class Model:
    """A model whose layouts are off by `errors`, or raise them."""

    def __init__(self, dtype: torch.dtype = torch.float32, **errors: Any) -> None:
        self.dtype, self.errors, self.config = dtype, errors, config()
        self.calls: list[tuple[str, int]] = []

    def values(self, rows: Any, layout: str) -> Any:
        self.calls.append((layout, len(rows)))
        error = self.errors.get(layout, 0.0)
        if isinstance(error, Exception):
            raise error
        return [[torch.full((len(response),), error) for response in row.responses] for row in rows]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "token_logprobs", lambda model, rows, layout: model.values(rows, layout))


@pytest.mark.parametrize(
    ("dtype", "errors", "layout", "refused"),
    [
        (torch.float32, {}, "packed", {}),
        (torch.float32, {"packed": 0.9e-4}, "packed", {}),
        (torch.float32, {"packed": 1.5e-4}, "shared", {"packed": "0.00015 nats per token off in a row of up to 9 tokens"}),
        (torch.float32, {"packed": math.nan}, "shared", {"packed": "nan nats per token off in a row of up to 9 tokens"}),
        (
            torch.float32, {"packed": ValueError("no mask"), "shared": TypeError("no cache"), "padded": 1.0}, "single",
            {"packed": "ValueError: no mask", "shared": "TypeError: no cache", "padded": "1 nats per token off in a row of up to 9 tokens"},
        ),
        (torch.bfloat16, {"packed": 0.02, "shared": 0.5}, "packed", {}),
        (torch.bfloat16, {"packed": 0.03}, "shared", {"packed": "rounding errors in torch.bfloat16 of 0.03 nats per token in a response"}),
        (torch.bfloat16, {"packed": 0.2, "shared": 0.05}, "padded", {"packed": "0.2 nats per token off in a row of up to 9 tokens", "shared": "rounding errors in torch.bfloat16 of 0.05 nats per token in a response"}),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("fake")
def test_the_layout_is_the_fastest_within_the_tolerance(
    dtype: torch.dtype, errors: dict[str, Any], layout: str, refused: dict[str, str]
) -> None:
    chosen, model = LayoutSelection(), Model(dtype, **errors)
    rows = [TokenisedRow((1,) * 5, ((1, 2), (1, 2, 3, 4))), TokenisedRow((1,), ((2,),))]
    chosen.update(model, rows)
    assert (chosen.layout, chosen.refused, chosen.tested_length) == (layout, refused, 9)
    n_calls = len(model.calls)
    chosen.update(model, rows)
    assert len(model.calls) == n_calls, "a row that is no longer than a tested one needs no test"
    chosen.update(model, [TokenisedRow((1,) * 6, ((1, 2, 3, 4),))])
    assert (len(model.calls) > n_calls) == (layout != "single")


@pytest.mark.usefixtures("fake")
def test_memory_and_foreign_errors() -> None:
    chosen = LayoutSelection(math.inf)
    chosen.update(Model(torch.bfloat16, packed=0.09), ROWS)
    assert chosen.layout == "packed", "infinity accepts all rounding errors"
    with pytest.raises(MemoryError):
        LayoutSelection().update(Model(packed=MemoryError()), ROWS)
    with pytest.raises(KeyError):
        LayoutSelection().update(Model(packed=KeyError("a")), ROWS)
    same, other = [torch.tensor([1.0, 2.0]), torch.zeros(0)], [torch.tensor([1.5, 2.5]), torch.zeros(0)]
    assert selection._difference(same, other) == 0.5
    assert selection._difference([torch.tensor([math.nan])], [torch.tensor([1.0])]) == math.inf
    pairs: list[tuple[Any, Any]] = [(None, other), (same, None), ([], [])]
    assert [selection._difference(*pair) for pair in pairs] == [0.0] * 3


def test_the_key_of_a_request_has_the_response_and_its_end() -> None:
    first = ScoringRequest(prompt="p", response="a")
    assert (first.in_key()["response"], first.in_key()["end"], first.in_key()["prompt"]) == ("a", True, "p")
    assert ScoringRequest(prompt="p", response="a", end=False).in_key() == {**first.in_key(), "end": False}


# Batches of decoding --------------------------------------------------------------------------------------------------


def prompt(tag: str, *tokens: int) -> TokenisedPrompt:
    return TokenisedPrompt(tag, tokens, "")


def plan(prompts: list[TokenisedPrompt], **options: Any) -> list[tuple[int, list[str]]]:
    groups = plan_batches(prompts, **{"token_budget": 1000, "new_tokens": 5, "max_batch_size": 8, **options})
    assert all(isinstance(group, PrefixGroup) for group in groups)
    return [(group.prefix_length, ["".join(p.tag for p in batch) for batch in group.batches]) for group in groups]


def test_batches_are_sorted_by_length_and_stay_within_both_limits() -> None:
    prompts = [prompt(tag, *range(n)) for tag, n in (("a", 3), ("b", 9), ("c", 5), ("d", 1))]
    assert plan(prompts, share_prefix=False) == [(0, ["bcad"])]
    assert plan(prompts, share_prefix=False, max_batch_size=3) == [(0, ["bca", "d"])]
    for budget, batches in ((42, ["bca", "d"]), (41, ["bc", "ad"]), (27, ["b", "ca", "d"]), (1, ["b", "c", "a", "d"])):
        assert plan(prompts, share_prefix=False, token_budget=budget) == [(0, batches)], budget


def test_prompts_share_a_prefix_of_at_least_eight_tokens() -> None:
    for n, length in ((7, 0), (8, 8)):
        assert plan([prompt("a", *range(n), 50, 60), prompt("b", *range(n), 51)])[0][0] == length
    assert plan([prompt("a", *range(20))]) == [(0, ["a"])], "a prompt alone shares nothing"
    assert plan([prompt("a", *range(9)), prompt("b", *range(9))])[0][0] == 8, "the last token is no part of the prefix"


def test_prompts_with_other_examples_are_a_group_of_their_own_if_that_saves_tokens() -> None:
    first = [prompt(f"a{n}", *range(100, 300), n) for n in range(3)]
    second = [prompt(f"b{n}", *range(300, 500), n) for n in range(3)]
    assert plan([*first, *second], new_tokens=1) == [(200, ["a0a1a2"]), (200, ["b0b1b2"])]
    assert [length for length, _ in plan([*first, *second], new_tokens=13)] == [0], "400 tokens are less than 13 * 32"
    assert [length for length, _ in plan([*first, *second], new_tokens=12)] == [200, 200]


def test_a_batch_is_halved_until_it_fits() -> None:
    sizes: list[int] = []

    def work(batch: Any) -> list[int]:
        sizes.append(len(batch))
        if len(batch) > 2 or 3 in batch:
            raise MemoryError("out of memory\nmore")
        return [item * 10 for item in batch]

    found = halve_on_oom(work, [0, 1, 2, 3, 4], lambda item, message: f"{item}: {message}")
    assert found == [0, 10, 20, "3: out of memory", 40]
    assert sizes == [5, 2, 3, 1, 2, 1, 1]
    with pytest.raises(RuntimeError, match="broken"):
        halve_on_oom(
            lambda batch: [][1:] if not batch else (_ for _ in ()).throw(RuntimeError("broken")), [1, 2], lambda *_: 0
        )
