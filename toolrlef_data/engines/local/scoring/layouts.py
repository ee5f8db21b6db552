"""Token log-probabilities of the responses to a prompt, in four layouts of the input.

| layout | input | works for |
|---|---|---|
| packed | `[prompt, response 1, ..., response n]` per row | models with position ids and 4-D masks, without windows |
| shared | the prompt, then its keys and values with each response | models with a cache |
| padded | `[prompt, response]` per response, padded on the right | all causal models |
| single | `[prompt, response]` per response, one at a time | all causal models; the reference |

In a packed row, a mask hides the other responses from each response, and its positions start after the prompt.

All layouts keep gradients. Logits are computed only for the positions that predict a response token. Equal responses of
a row are computed once. A caller selects the layout, for example by a comparison with "single".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolrlef_data.engines.local.decoding import last_logits_kwargs

if TYPE_CHECKING:
    import torch

__all__ = ["LAYOUTS", "TokenisedRow", "token_logprobs"]

CHUNK_ELEMENTS = 2**24  # logits that are converted to float32 at a time


@dataclass(frozen=True, slots=True)
class TokenisedRow:
    """The token ids of a prompt (at least one) and of each response (possibly none)."""

    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]


# One 1-D tensor per response of each row, with the log-probability of each of its tokens in float32.
Logprobs = list[list["torch.Tensor"]]


def token_logprobs(model: Any, rows: Sequence[TokenisedRow], layout: str = "packed") -> Logprobs:
    """Return the log-probability of each response token, given the prompt and the earlier tokens of the response.

    Args:
        model: a causal language model, possibly wrapped by peft. In training mode, dropout applies.
        rows: tokenised rows, all computed in one batch.
        layout: one of `LAYOUTS`; default "packed".

    Returns:
        For each row and response, a float32 tensor with one value per token; empty for a response without tokens. The
        tensors keep gradients, unless the caller disables them.

    Raises:
        ValueError: a prompt is empty.
    """
    if not all(row.prompt for row in rows):
        raise ValueError("expected prompts with at least one token")
    # A response without tokens has no prediction, and equal responses have the same.
    unique = [TokenisedRow(row.prompt, tuple(dict.fromkeys(filter(None, row.responses)))) for row in rows]
    nonempty = [row for row in unique if row.responses]
    computed = iter(LAYOUTS[layout](model, nonempty) if nonempty else [])
    results = []
    for row, distinct in zip(rows, unique, strict=True):
        values = dict(zip(distinct.responses, next(computed), strict=True)) if distinct.responses else {}
        results.append([values[response] if response else _empty(model) for response in row.responses])
    return results


def packed_logprobs(model: Any, rows: Sequence[TokenisedRow]) -> Logprobs:
    """Compute each row as one sequence, with its prompt once; rows are padded on both sides of the prompt's end.

    All prompts end in the same column, so that the columns with predictions are contiguous. The last token of a
    response predicts nothing and is not part of the input.
    """
    import torch

    device = model.device
    start = max(len(row.prompt) for row in rows)
    width = start + max(sum(len(response) - 1 for response in row.responses) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    segments = torch.full((len(rows), width), -1)  # -1: padding, 0: prompt, n: response n
    predictions = []
    for n, row in enumerate(rows):
        length = len(row.prompt)
        ids[n, start - length : start] = torch.tensor(row.prompt)
        positions[n, start - length : start] = torch.arange(length)
        segments[n, start - length : start] = 0
        column = start
        for number, response in enumerate(row.responses, 1):
            end = column + len(response) - 1
            ids[n, column:end] = torch.tensor(response[:-1], dtype=torch.long)
            positions[n, column:end] = torch.arange(length, length + len(response) - 1)
            segments[n, column:end] = number
            # Counted from the last token of the prompt, which predicts the first token of each response.
            predictions.append((n, [0, *range(column - start + 1, end - start + 1)], response))
            column = end
    logits = model(
        input_ids=ids.to(device),
        position_ids=positions.to(device),
        attention_mask=_block_mask(segments.to(device), model.dtype),
        use_cache=False,
        **last_logits_kwargs(model, width - start + 1),
    ).logits[:, start - width - 1 :]
    return _by_row(rows, _select(logits, predictions))


def _block_mask(segments: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return an additive mask (rows, 1, columns, columns): a token sees the prompt, and its response up to itself."""
    import torch

    queries, keys = segments[:, :, None], segments[:, None, :]
    columns = torch.arange(segments.shape[1], device=segments.device)
    is_causal = columns[:, None] >= columns[None, :]
    # Each token sees itself, also a padding token: a softmax over nothing would not be a number.
    is_visible = (is_causal & ((keys == 0) | ((keys == queries) & (keys > 0)))) | torch.eye(
        len(columns), dtype=torch.bool, device=segments.device
    )
    mask = torch.zeros(is_visible.shape, dtype=dtype, device=segments.device)
    return mask.masked_fill_(~is_visible, torch.finfo(dtype).min)[:, None]


def shared_logprobs(model: Any, rows: Sequence[TokenisedRow]) -> Logprobs:
    """Compute each prompt once, and then its responses in one batch with copies of the prompt's keys and values."""
    return [_shared_row(model, row) for row in rows]


def _shared_row(model: Any, row: TokenisedRow) -> list[torch.Tensor]:
    import torch
    from transformers.cache_utils import DynamicCache

    device, length = model.device, len(row.prompt)
    kv_cache = DynamicCache(config=model.config)
    prompt = torch.tensor([row.prompt], device=device)
    cached = {"past_key_values": kv_cache, "use_cache": True}
    first_logits = model(input_ids=prompt, **cached, **last_logits_kwargs(model)).logits[:, -1:]
    firsts = _select(first_logits, [(0, [0], response[:1]) for response in row.responses])
    width = max(len(response) for response in row.responses) - 1
    if width == 0:
        return firsts
    kv_cache.batch_repeat_interleave(len(row.responses))
    ids, mask = _pad_right([response[:-1] for response in row.responses], width, device)
    prompt_mask = torch.ones(len(row.responses), length, dtype=torch.long, device=device)
    positions = torch.arange(length, length + width, device=device).expand(len(row.responses), -1)
    logits = model(
        input_ids=ids, attention_mask=torch.cat([prompt_mask, mask], 1), position_ids=positions, **cached
    ).logits
    predictions = [(n, list(range(len(response) - 1)), response[1:]) for n, response in enumerate(row.responses)]
    return [torch.cat(pair) for pair in zip(firsts, _select(logits, predictions), strict=True)]


def padded_logprobs(model: Any, rows: Sequence[TokenisedRow]) -> Logprobs:
    """Compute each response as a sequence with its prompt; later tokens change no prediction, so padding is last."""
    sequences = [(row.prompt, response) for row in rows for response in row.responses]
    width = max(len(prompt) + len(response) for prompt, response in sequences) - 1
    ids, mask = _pad_right([(*prompt, *response[:-1]) for prompt, response in sequences], width, model.device)
    start = min(len(prompt) for prompt, _ in sequences) - 1
    kwargs = last_logits_kwargs(model, width - start)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **kwargs).logits[:, start - width :]
    predictions = [
        (n, list(range(len(prompt) - 1 - start, len(prompt) - 1 - start + len(response))), response)
        for n, (prompt, response) in enumerate(sequences)
    ]
    return _by_row(rows, _select(logits, predictions))


def single_logprobs(model: Any, rows: Sequence[TokenisedRow]) -> Logprobs:
    """Compute each response in a forward pass of its own, without padding.

    In low precision, the input has the last token of the response too, as in a plain script. Without it, the input is
    shorter, and SmolLM2's values in bfloat16 differed by up to 0.1 nats per token at some lengths.
    """
    return [[_single_response(model, row.prompt, response) for response in row.responses] for row in rows]


def _single_response(model: Any, prompt: tuple[int, ...], response: tuple[int, ...]) -> torch.Tensor:
    import torch

    length = len(prompt) + len(response)
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if model.dtype in (torch.float32, torch.float64) or (context and length > context):
        return padded_logprobs(model, [TokenisedRow(prompt, (response,))])[0][0]
    ids = torch.tensor([[*prompt, *response]], device=model.device)
    count = len(response) + 1
    logits = model(input_ids=ids, use_cache=False, **last_logits_kwargs(model, count)).logits[:, -count:]
    return _select(logits, [(0, range(len(response)), response)])[0]


# The layouts by speed, fastest first.
LAYOUTS: dict[str, Callable[[Any, Sequence[TokenisedRow]], Logprobs]] = {
    "packed": packed_logprobs,
    "shared": shared_logprobs,
    "padded": padded_logprobs,
    "single": single_logprobs,
}


def _pad_right(sequences: Sequence[Sequence[int]], width: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (ids, mask) of token sequences, padded on the right to `width`."""
    import torch

    ids = [[*sequence, *[0] * (width - len(sequence))] for sequence in sequences]
    mask = [[1] * len(sequence) + [0] * (width - len(sequence)) for sequence in sequences]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _select(
    logits: torch.Tensor, predictions: Sequence[tuple[int, Sequence[int], Sequence[int]]]
) -> list[torch.Tensor]:
    """Return the log-probabilities of target tokens.

    Args:
        logits: logits (sequences, columns, vocabulary).
        predictions: (sequence, columns, target tokens), one column for each target.

    Returns:
        One float32 tensor for each entry of `predictions`.
    """
    import torch

    flat = logits.flatten(0, 1)
    # Chunks, because float32 copies of all logits would need most of the memory.
    parts = torch.split(flat, max(1, CHUNK_ELEMENTS // flat.shape[-1]))
    totals = torch.cat([part.float().logsumexp(-1) for part in parts])
    n_columns = logits.shape[1]
    indices = [n * n_columns + column for n, columns, _ in predictions for column in columns]
    targets = [token for _, _, tokens in predictions for token in tokens]
    positions = torch.tensor(indices, dtype=torch.long, device=logits.device)
    tokens = torch.tensor(targets, dtype=torch.long, device=logits.device)
    values = flat[positions, tokens].float() - totals[positions]
    return list(torch.split(values, [len(tokens) for _, _, tokens in predictions]))


def _by_row(rows: Sequence[TokenisedRow], values: Sequence[torch.Tensor]) -> Logprobs:
    """Group the values of all responses by row."""
    remaining = iter(values)
    return [[next(remaining) for _ in row.responses] for row in rows]


def _empty(model: Any) -> torch.Tensor:
    import torch

    return torch.zeros(0, device=model.device)
