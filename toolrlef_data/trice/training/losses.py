"""The losses of the two stages, from the log-probabilities of response tokens.

p is the length-normalised log-probability of a response: the sum over its tokens, divided by their number. Both losses
are those of TRICE (arXiv 2305.13068, section 3), whose ranking loss is that of RRHF (arXiv 2304.05302).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolrlef_data.trice.training.samples import Sample

if TYPE_CHECKING:
    import torch

__all__ = ["batch_loss", "count_pairs", "ranking_loss"]


def batch_loss(
    samples: Sequence[Sample],
    logprobs: Sequence[Sequence[torch.Tensor]],
    *,
    weight: float,
    compat: bool,
    update: Sequence[Sample] = (),
) -> torch.Tensor:
    """Return the loss of a batch, or the part of a batch in the loss of an update of several batches.

    Stage 1: the mean negative log-likelihood of all response tokens. Stage 2: `weight` times the ranking loss, plus the
    negative log-likelihood per token of each row's best response, as means over the rows.

    Args:
        samples: rows of one stage.
        logprobs: log-probabilities of the tokens of each response, by row.
        weight: weight of the ranking loss.
        compat: reduce as the original code does: the ranking loss is the sum over the batch, and the log-likelihood of
            the best responses is divided by the number of all positions, with prompts and padding.
        update: all rows of the update, over which means are computed: the losses of its batches add up to the loss of
            one large batch. Default: the batch is the update.
    """
    import torch

    update = update or samples
    if not samples[0].scores:
        return -torch.cat([values[0] for values in logprobs]).sum() / sum(len(s.tokens.responses[0]) for s in update)
    rankings, likelihoods = [], []
    for sample, values in zip(samples, logprobs, strict=True):
        best = max(range(len(values)), key=sample.scores.__getitem__)  # the first of equal ones, which is gold
        likelihoods.append(values[best].sum() if compat else values[best].mean())
        rankings.append(ranking_loss([tokens.mean() for tokens in values], sample.scores))
    if compat:
        n_positions = len(update) * max(map(len, update))
        return weight * torch.stack(rankings).sum() - torch.stack(likelihoods).sum() / n_positions
    return (weight * torch.stack(rankings).sum() - torch.stack(likelihoods).sum()) / len(update)


def ranking_loss(normalised: Sequence[torch.Tensor], scores: Sequence[float]) -> torch.Tensor:
    """Return the sum of max(0, p_i - p_j) over the pairs with score_i < score_j.

    >>> import torch
    >>> ranking_loss([torch.tensor(-1.0), torch.tensor(-0.5), torch.tensor(-0.25)], [20, 10, 10])
    tensor(1.2500)
    """
    import torch

    p, score = torch.stack(list(normalised)), torch.tensor(scores)
    is_lower = score[:, None] < score[None, :]
    return torch.where(is_lower.to(p.device), (p[:, None] - p[None, :]).clamp(min=0), 0).sum()


def count_pairs(normalised: Sequence[float], scores: Sequence[float]) -> tuple[int, int]:
    """Return the number of pairs with p in the order of the scores, and of all pairs with different scores.

    >>> count_pairs([-1.0, -0.5, -0.25], [20, 10, 10])
    (0, 2)
    """
    pairs = [(i, j) for i, low in enumerate(scores) for j, high in enumerate(scores) if low < high]
    return sum(normalised[i] < normalised[j] for i, j in pairs), len(pairs)
