"""The decode loop, with a shared prefix and a separate random generator for each prompt.

A row of the batch has the layout [shared prefix][left padding][rest of the prompt][reply]. A common prefix (few-shot
examples) is prefilled once, and its keys and values are copied to every row. Finished rows leave the batch.

A reply does not depend on its batch, except for floating-point noise. Sampling draws one number per token from the
prompt's `Random`, and inverts the cumulative distribution in vocabulary order: noise shifts a boundary only slightly.

Not covered: beam search (see `engine`). Models with a recurrent state or sliding-window attention share no prefix.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any

from toolrlef_data.engines.local.batching import TokenisedPrompt

if TYPE_CHECKING:
    import torch

    from toolrlef_data.engines.spec import EngineSpec

__all__ = ["Completion", "can_share_prefix", "decode", "last_logits_kwargs", "prefill"]


@dataclass(frozen=True, slots=True)
class Completion:
    """A decoded reply.

    Args:
        prompt: the prompt.
        tokens: token ids without the end-of-sequence token.
        token_count: number of generated tokens, including the end-of-sequence token.
        finish_reason: "stop" or "length".
    """

    prompt: TokenisedPrompt
    tokens: tuple[int, ...]
    token_count: int
    finish_reason: str


def prefill(model: Any, tokens: Sequence[int]) -> Any:
    """Return the keys and values of a prefix, in a cache with one row."""
    import torch
    from transformers.cache_utils import DynamicCache

    kv_cache = DynamicCache(config=model.config)
    ids = torch.tensor([list(tokens)], device=model.device)
    model(input_ids=ids, past_key_values=kv_cache, use_cache=True, **last_logits_kwargs(model))
    return kv_cache


@dataclass(slots=True)
class _DecodeSlot:
    """The state of one reply; `finish_reason` is empty until the reply is finished."""

    prompt: TokenisedPrompt
    random: Random
    tokens: list[int] = field(default_factory=list)
    finish_reason: str = ""


def decode(
    model: Any,
    tokenizer: Any,
    batch: Sequence[TokenisedPrompt],
    spec: EngineSpec,
    eos_ids: frozenset[int],
    shared_prefix: Any,
    on_step: Callable[[int], None] | None = None,
    on_finish: Callable[[Completion], None] | None = None,
) -> list[Completion]:
    """Decode replies to a batch of prompts, greedily or by sampling; to be called in `torch.inference_mode()`.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer, to detect stop strings.
        batch: prompts.
        spec: the sampling settings.
        eos_ids: token ids that end a reply.
        shared_prefix: result of `prefill` for the common prefix of the prompts, or None.
        on_step: called with the number of tokens of each unfinished reply, after each of them; default: not called.
        on_finish: called with each completion as soon as it is finished; default: not called.

    Returns:
        The completions, in the order of the prompts.
    """
    import torch

    device, pad_id = model.device, min(eos_ids, default=0)
    slots = [_DecodeSlot(prompt, Random(prompt.seed)) for prompt in batch]
    prefix_length = shared_prefix.get_seq_length() if shared_prefix is not None else 0
    width = max(len(prompt.tokens) for prompt in batch) - prefix_length
    pad_counts = [width + prefix_length - len(prompt.tokens) for prompt in batch]
    padded = [
        [pad_id] * count + list(prompt.tokens[prefix_length:]) for count, prompt in zip(pad_counts, batch, strict=True)
    ]
    ids = torch.tensor(padded, device=device)
    padding = torch.tensor(pad_counts, device=device)[:, None]
    column = torch.arange(width, device=device)[None]
    prefix_mask = torch.ones(len(batch), prefix_length, dtype=torch.long, device=device)
    mask = torch.cat([prefix_mask, (column >= padding).long()], 1)
    positions = (column - padding).clamp(min=0) + prefix_length
    kv_cache = _batch_cache(model, shared_prefix, len(batch), prefix_length + width + spec.max_tokens)
    active = list(range(len(batch)))  # row of the batch -> slot number
    seen_tokens = None
    fixed_kwargs = {"past_key_values": kv_cache, "use_cache": True, **last_logits_kwargs(model)}
    while True:
        position_kwargs = {"position_ids": positions} if _accepts(model, "position_ids") else {}
        logits = model(input_ids=ids, attention_mask=mask, **position_kwargs, **fixed_kwargs).logits[:, -1].float()
        if seen_tokens is None and spec.repetition_penalty != 1.0:
            seen_tokens = _prompt_token_mask(batch, logits)
        next_tokens = _choose_tokens(logits, [slots[n] for n in active], spec, seen_tokens)
        for n, token in zip(active, next_tokens, strict=True):
            if not slots[n].finish_reason:
                _append_token(slots[n], token, tokenizer, spec, eos_ids)
                if slots[n].finish_reason and on_finish is not None:
                    on_finish(_finish(slots[n], eos_ids))
        unfinished = [row for row, n in enumerate(active) if not slots[n].finish_reason]
        if not unfinished:
            break
        if on_step is not None:
            on_step(len(slots[active[unfinished[0]]].tokens))
        ids = torch.tensor(next_tokens, device=device)[:, None]
        positions = positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(active), 1)], 1)
        if seen_tokens is not None:
            seen_tokens.scatter_(1, ids, True)
        if len(unfinished) <= 0.75 * len(active):  # not for every finished row, because shrinking copies the cache
            rows = torch.tensor(unfinished, device=device)
            ids, positions, mask = ids[rows], positions[rows], mask[rows]
            seen_tokens = None if seen_tokens is None else seen_tokens[rows]
            kv_cache.reorder_cache(rows)
            active = [active[row] for row in unfinished]
    return [_finish(slot, eos_ids) for slot in slots]


def _append_token(slot: _DecodeSlot, token: int, tokenizer: Any, spec: EngineSpec, eos_ids: frozenset[int]) -> None:
    slot.tokens.append(token)
    if token in eos_ids:
        slot.finish_reason = "stop"
    elif spec.stop:
        # A token has at least one byte, so this tail contains any stop string that the new token completes.
        tail = slot.tokens[-max(len(stop.encode()) for stop in spec.stop) - 1 :]
        text = tokenizer.decode(tail, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if any(stop in text for stop in spec.stop):
            slot.finish_reason = "stop"
    if not slot.finish_reason and len(slot.tokens) >= spec.max_tokens:
        slot.finish_reason = "length"


def _finish(slot: _DecodeSlot, eos_ids: frozenset[int]) -> Completion:
    tokens = slot.tokens[:-1] if slot.tokens[-1] in eos_ids else slot.tokens
    return Completion(slot.prompt, tuple(tokens), len(slot.tokens), slot.finish_reason)


def _choose_tokens(
    logits: torch.Tensor, slots: Sequence[_DecodeSlot], spec: EngineSpec, seen_tokens: torch.Tensor | None
) -> list[int]:
    import torch

    if seen_tokens is not None:
        penalised = torch.where(logits > 0, logits / spec.repetition_penalty, logits * spec.repetition_penalty)
        logits = torch.where(seen_tokens, penalised, logits)
    if spec.temperature == 0:
        return [int(token) for token in logits.argmax(-1).tolist()]
    probs = torch.softmax(logits / spec.temperature, -1)
    if spec.top_k:
        threshold = probs.topk(min(spec.top_k, probs.shape[-1])).values[:, -1:]
        probs = torch.where(probs >= threshold, probs, 0)
    if spec.top_p < 1:
        probs = _filter_top_p(probs / probs.sum(-1, keepdim=True), spec.top_p)
    cumulative = probs.double().cumsum(-1)
    draws = torch.tensor([slot.random.random() for slot in slots], dtype=torch.float64, device=cumulative.device)
    tokens = torch.searchsorted(cumulative, draws[:, None] * cumulative[:, -1:], right=True)
    return [int(token) for token in tokens[:, 0].clamp(max=cumulative.shape[-1] - 1).tolist()]


def _filter_top_p(probs: torch.Tensor, top_p: float) -> torch.Tensor:
    """Return probabilities with zeros outside the smallest set of tokens whose sum reaches `top_p`."""
    import torch

    for size in (min(256, probs.shape[-1]), probs.shape[-1]):  # sorting the full vocabulary is slow and rarely needed
        top = probs.topk(size).values.double()
        preceding = top.cumsum(-1) - top
        if bool((preceding[:, -1] >= top_p).all()):
            break
    threshold = top.masked_fill(preceding >= top_p, 2.0).min(-1, keepdim=True).values
    return torch.where(probs >= threshold, probs, 0)


def _prompt_token_mask(batch: Sequence[TokenisedPrompt], logits: torch.Tensor) -> torch.Tensor:
    """Return a boolean tensor (batch, vocabulary) of the tokens in each prompt."""
    import torch

    seen_tokens = torch.zeros_like(logits, dtype=torch.bool)
    for row, prompt in enumerate(batch):
        seen_tokens[row, list(prompt.tokens)] = True
    return seen_tokens


def last_logits_kwargs(model: Any, count: int = 1) -> dict[str, int]:
    """Return model arguments that limit the logits to the last `count` positions; empty if the model has none.

    The logits of all positions of a prompt would need most of the memory.
    """
    return {"logits_to_keep": count} if _accepts(model, "logits_to_keep") else {}


def _accepts(model: Any, name: str) -> bool:
    """Return whether the `forward` method of a model has an argument of this name."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model  # a model wrapped by peft
    return name in _parameters(type(base).forward)


@cache
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def can_share_prefix(model: Any) -> bool:
    """Return whether prompts can share a prefix: the model accepts position ids, and every layer caches all tokens."""
    return _accepts(model, "position_ids") and _caches_all_tokens(model)


def _caches_all_tokens(model: Any) -> bool:
    from transformers.cache_utils import DynamicCache, DynamicLayer

    layers = DynamicCache(config=model.config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def _batch_cache(model: Any, shared_prefix: Any, batch_size: int, capacity: int) -> Any:
    """Return a cache for a batch, with the shared prefix copied to every row."""
    from transformers.cache_utils import DynamicCache

    kv_cache = DynamicCache(config=model.config)
    if _caches_all_tokens(model):
        kv_cache.layers = [_preallocated_layer()(capacity) for _ in kv_cache.layers]
    if shared_prefix is not None:
        for layer, source in zip(kv_cache.layers, shared_prefix.layers, strict=True):
            layer.update(source.keys.expand(batch_size, -1, -1, -1), source.values.expand(batch_size, -1, -1, -1))
    return kv_cache


@cache
def _preallocated_layer() -> Any:
    """Return the class of cache layers with preallocated memory.

    The layers of transformers reallocate and copy their memory at each token, which takes half of the run time with
    few-shot prompts.
    """
    from transformers.cache_utils import DynamicLayer

    class PreallocatedLayer(DynamicLayer):  # type: ignore[misc, unused-ignore]
        def __init__(self, capacity: int) -> None:
            super().__init__()
            self.capacity = capacity
            self.buffers: list[torch.Tensor] = []

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
                self.buffers = [
                    new.new_empty(*new.shape[:2], self.capacity, new.shape[3]) for new in (key_states, value_states)
                ]
            start = self.get_seq_length()
            end = start + key_states.shape[2]
            for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
                buffer[:, :, start:end] = new
            self.keys, self.values = (buffer[:, :, :end] for buffer in self.buffers)
            return self.keys, self.values

        def reorder_cache(self, beam_idx: Any) -> None:
            end = self.get_seq_length()
            self.buffers = [buffer[beam_idx] for buffer in self.buffers]
            self.keys, self.values = (buffer[:, :, :end] for buffer in self.buffers)

    return PreallocatedLayer
