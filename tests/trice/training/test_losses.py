"""The losses equal those of a loop over single forward passes, and so do their gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from toolrlef_data.engines.local.scoring.layouts import LAYOUTS, TokenisedRow, token_logprobs
from toolrlef_data.trice.training.losses import batch_loss
from toolrlef_data.trice.training.samples import Sample

EOS = 2


@pytest.fixture(scope="module")
def model() -> Any:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        shape: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
        return LlamaForCausalLM(
            LlamaConfig(vocab_size=50, num_hidden_layers=2, initializer_range=0.3, **shape)
        ).double()


RANKED = [
    Sample(TokenisedRow((5, 6, 7, 8), ((9, 10, EOS), (11, EOS), (9, 12, 13, EOS))), (20.0, 0.0, 10.0)),
    Sample(TokenisedRow((14, 5), ((15, EOS), (16, 17, 18, 19, 20, EOS), (15, EOS))), (10.0, 20.0, 20.0)),
    Sample(TokenisedRow((6, 7, 9), ((21, 22, EOS), (23, EOS))), (20.0, 20.0)),
]
CLONED = [Sample(TokenisedRow(sample.tokens.prompt, sample.tokens.responses[:1])) for sample in RANKED]


def naive_tokens(model: Any, prompt: tuple[int, ...], response: tuple[int, ...]) -> torch.Tensor:
    """Return the log-probabilities of the tokens of a response, from one forward pass."""
    logits = model(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1)[range(len(response)), list(response)]


def naive_loss(model: Any, samples: list[Sample], weight: float, compat: bool) -> torch.Tensor:
    """Return the loss, from one forward pass per response and Python loops."""
    loss, best_loss = torch.tensor(0.0), torch.tensor(0.0)
    for sample in samples:
        values = [naive_tokens(model, sample.tokens.prompt, response) for response in sample.tokens.responses]
        for i, low in enumerate(sample.scores):
            for j, high in enumerate(sample.scores):
                gap = values[i].sum() / len(values[i]) - values[j].sum() / len(values[j])
                if low < high and gap > 0:
                    loss = loss + gap
        best = values[sample.scores.index(max(sample.scores))]
        best_loss = best_loss - (best.sum() if compat else best.sum() / len(best))
    if compat:
        width = max(len(s.tokens.prompt) + len(r) for s in samples for r in s.tokens.responses)
        return weight * loss + best_loss / (len(samples) * width)
    return (weight * loss + best_loss) / len(samples)


def gradients(model: Any, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, [weight for weight in model.parameters() if weight.requires_grad]))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("compat", [False, True])
def test_the_ranking_loss_and_its_gradients_equal_those_of_a_loop(model: Any, layout: str, compat: bool) -> None:
    for weight in (0.01, 0.1, 1.0):
        values = token_logprobs(model, [sample.tokens for sample in RANKED], layout)
        loss = batch_loss(RANKED, values, weight=weight, compat=compat)
        expected = naive_loss(model, RANKED, weight, compat)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        for found, wanted in zip(gradients(model, loss), gradients(model, expected), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)


def test_behaviour_cloning_is_the_cross_entropy_of_the_response_tokens(model: Any) -> None:
    rows = [sample.tokens for sample in CLONED]
    sequences = [(*row.prompt, *row.responses[0]) for row in rows]
    width = max(map(len, sequences))
    ids = torch.tensor([[*sequence, *[0] * (width - len(sequence))] for sequence in sequences])
    labels = torch.full_like(ids, -100)
    for n, row in enumerate(rows):
        labels[n, len(row.prompt) : len(row.prompt) + len(row.responses[0])] = torch.tensor(row.responses[0])
    expected = model(ids, attention_mask=(labels != -99).long(), labels=labels).loss
    for layout in ("padded", "packed"):
        loss = batch_loss(CLONED, token_logprobs(model, rows, layout), weight=1.0, compat=False)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("samples", [CLONED, RANKED], ids=["cloning", "ranking"])
@pytest.mark.parametrize("compat", [False, True])
def test_the_losses_of_small_batches_add_up_to_that_of_their_update(
    model: Any, samples: list[Sample], compat: bool
) -> None:
    def loss_of(batch: list[Sample]) -> torch.Tensor:
        values = token_logprobs(model, [sample.tokens for sample in batch])
        return batch_loss(batch, values, weight=0.1, compat=compat, update=samples)

    expected = loss_of(samples)
    if samples is RANKED:
        assert expected.item() == pytest.approx(naive_loss(model, RANKED, 0.1, compat).item(), rel=1e-5)
    found = loss_of(samples[:2]) + loss_of(samples[2:])
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    for part, whole in zip(gradients(model, found), gradients(model, expected), strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-3, atol=1e-6)


def test_only_the_order_of_scores_matters(model: Any) -> None:
    values = token_logprobs(model, [sample.tokens for sample in RANKED])
    stretched = [Sample(sample.tokens, tuple(score * 3 - 7 for score in sample.scores)) for sample in RANKED]
    reversed_scores = [Sample(sample.tokens, tuple(-score for score in sample.scores)) for sample in RANKED]
    losses = [
        batch_loss(rows, values, weight=1.0, compat=False).item() for rows in (RANKED, stretched, reversed_scores)
    ]
    assert losses[0] == losses[1] != losses[2]
