"""From token ids to token ids: a decode loop with a shared prefix and a seed of each row's own.

Rows of a batch stand as [shared prefix][left padding][rest of the prompt][reply], so that a common prefix (few-shot
examples) is prefilled once and its keys and values are copied to every row. A row leaves the batch when it ends. What a
row replies does not depend on its batch but for float noise: sampling draws one number a token from the row's own
`Random`, and inverts the distribution in vocabulary order, where noise moves a boundary by as little as itself.

Not covered: beams (`generate()` of transformers, in local.py), models that keep a state instead of keys and values or
attend through a sliding window share no prefix.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any

from toolrlef_data.engines.local.batching import Row
from toolrlef_data.engines.spec import EngineSpec

if TYPE_CHECKING:
    import torch

__all__ = ["Finished", "can_share", "decode", "last_logits_kwargs", "prefill"]


@dataclass(frozen=True, slots=True)
class Finished:
    """One reply: its token ids without the end token, how many tokens were made, and "stop" or "length"."""

    row: Row
    tokens: tuple[int, ...]
    made: int
    reason: str


def prefill(model: Any, tokens: Sequence[int]) -> Any:
    """The keys and values of a prefix, as a cache of one row."""
    import torch
    from transformers.cache_utils import DynamicCache

    past = DynamicCache(config=model.config)
    ids = torch.tensor([list(tokens)], device=model.device)
    model(input_ids=ids, past_key_values=past, use_cache=True, **last_logits_kwargs(model))
    return past


@dataclass(slots=True)
class _Slot:
    row: Row
    random: Random
    tokens: list[int] = field(default_factory=list)
    reason: str = ""


def decode(
    model: Any, tokenizer: Any, batch: Sequence[Row], spec: EngineSpec, ends: frozenset[int], shared: Any
) -> list[Finished]:
    """Reply to a batch of prompts, greedily or sampled; call it in `torch.inference_mode()`.

    Args:
        ends: token ids that end a reply.
        shared: what `prefill` gave for the rows' common prefix, or None.
    """
    import torch

    device, pad = model.device, min(ends, default=0)
    slots = [_Slot(row, Random(row.seed)) for row in batch]
    known = shared.get_seq_length() if shared is not None else 0
    width = max(len(row.tokens) for row in batch) - known
    pads = [width + known - len(row.tokens) for row in batch]
    padded = [[pad] * blank + list(row.tokens[known:]) for blank, row in zip(pads, batch, strict=True)]
    ids = torch.tensor(padded, device=device)
    blanks = torch.tensor(pads, device=device)[:, None]
    column = torch.arange(width, device=device)[None]
    mask = torch.cat([torch.ones(len(batch), known, dtype=torch.long, device=device), (column >= blanks).long()], 1)
    positions = (column - blanks).clamp(min=0) + known
    past = _batch_cache(model, shared, len(batch), known + width + spec.max_tokens)
    live = list(range(len(batch)))  # the slot of each row that is still computed
    seen = None
    fixed = {"past_key_values": past, "use_cache": True, **last_logits_kwargs(model)}
    while True:
        places = {"position_ids": positions} if _takes(model, "position_ids") else {}
        logits = model(input_ids=ids, attention_mask=mask, **places, **fixed).logits[:, -1].float()
        if seen is None and spec.repetition_penalty != 1.0:
            seen = _seen(batch, logits)
        chosen = _choose(logits, [slots[n] for n in live], spec, seen)
        for n, token in zip(live, chosen, strict=True):
            if not slots[n].reason:
                _take(slots[n], token, tokenizer, spec, ends)
        going = [at for at, n in enumerate(live) if not slots[n].reason]
        if not going:
            break
        ids = torch.tensor(chosen, device=device)[:, None]
        positions = positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(live), 1)], 1)
        if seen is not None:
            seen.scatter_(1, ids, True)
        if len(going) <= 0.75 * len(live):  # a shrink copies the cache, so not at every end
            keep = torch.tensor(going, device=device)
            ids, positions, mask = ids[keep], positions[keep], mask[keep]
            seen = None if seen is None else seen[keep]
            past.reorder_cache(keep)
            live = [live[at] for at in going]
    return [_finished(slot, ends) for slot in slots]


def _take(slot: _Slot, token: int, tokenizer: Any, spec: EngineSpec, ends: frozenset[int]) -> None:
    slot.tokens.append(token)
    if token in ends:
        slot.reason = "stop"
    elif spec.stop:
        # A token is a byte at least, so this many cover any stop string that the newest token completes.
        tail = slot.tokens[-max(len(stop.encode()) for stop in spec.stop) - 1 :]
        text = tokenizer.decode(tail, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if any(stop in text for stop in spec.stop):
            slot.reason = "stop"
    if not slot.reason and len(slot.tokens) >= spec.max_tokens:
        slot.reason = "length"


def _finished(slot: _Slot, ends: frozenset[int]) -> Finished:
    words = slot.tokens[:-1] if slot.tokens[-1] in ends else slot.tokens
    return Finished(slot.row, tuple(words), len(slot.tokens), slot.reason)


def _choose(logits: torch.Tensor, slots: Sequence[_Slot], spec: EngineSpec, seen: torch.Tensor | None) -> list[int]:
    import torch

    if seen is not None:
        lower = torch.where(logits > 0, logits / spec.repetition_penalty, logits * spec.repetition_penalty)
        logits = torch.where(seen, lower, logits)
    if spec.temperature == 0:
        return [int(token) for token in logits.argmax(-1).tolist()]
    odds = torch.softmax(logits / spec.temperature, -1)
    if spec.top_k:
        least = odds.topk(min(spec.top_k, odds.shape[-1])).values[:, -1:]
        odds = torch.where(odds >= least, odds, 0)
    if spec.top_p < 1:
        odds = _nucleus(odds / odds.sum(-1, keepdim=True), spec.top_p)
    heap = odds.double().cumsum(-1)
    drawn = torch.tensor([slot.random.random() for slot in slots], dtype=torch.float64, device=heap.device)
    found = torch.searchsorted(heap, drawn[:, None] * heap[:, -1:], right=True)
    return [int(token) for token in found[:, 0].clamp(max=heap.shape[-1] - 1).tolist()]


def _nucleus(odds: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zero all but the fewest tokens whose odds add up to `top_p`."""
    import torch

    for size in (min(256, odds.shape[-1]), odds.shape[-1]):  # sorting a whole vocabulary is slow and seldom needed
        top = odds.topk(size).values.double()
        before = top.cumsum(-1) - top
        if bool((before[:, -1] >= top_p).all()):
            break
    least = top.masked_fill(before >= top_p, 2.0).min(-1, keepdim=True).values
    return torch.where(odds >= least, odds, 0)


def _seen(batch: Sequence[Row], logits: torch.Tensor) -> torch.Tensor:
    """Which tokens stand in each row so far."""
    import torch

    seen = torch.zeros_like(logits, dtype=torch.bool)
    for at, row in enumerate(batch):
        seen[at, list(row.tokens)] = True
    return seen


def last_logits_kwargs(model: Any, count: int = 1) -> dict[str, int]:
    """Arguments for the logits of the last positions alone, where the model, peft-wrapped or not, knows them.

    The logits of a whole prompt would be most of the memory.
    """
    return {"logits_to_keep": count} if _takes(model, "logits_to_keep") else {}


def _takes(model: Any, name: str) -> bool:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return name in _parameters(type(inner).forward)


@cache
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def can_share(model: Any) -> bool:
    """Whether every layer keeps the keys and values of all tokens, and positions can be given, past padding."""
    return _takes(model, "position_ids") and _keeps_all(model)


def _keeps_all(model: Any) -> bool:
    from transformers.cache_utils import DynamicCache, DynamicLayer

    layers = DynamicCache(config=model.config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def _batch_cache(model: Any, shared: Any, rows: int, room: int) -> Any:
    """A cache for a batch, the shared prefix copied to every row."""
    from transformers.cache_utils import DynamicCache

    past = DynamicCache(config=model.config)
    if _keeps_all(model):
        past.layers = [_roomy_layer()(room) for _ in past.layers]
    if shared is not None:
        for layer, source in zip(past.layers, shared.layers, strict=True):
            layer.update(source.keys.expand(rows, -1, -1, -1), source.values.expand(rows, -1, -1, -1))
    return past


@cache
def _roomy_layer() -> Any:
    """A cache layer that writes into room set aside at first.

    transformers' own allocates and copies everything at every token: with a few-shot prefix, half of the time.
    """
    from transformers.cache_utils import DynamicLayer

    class RoomyLayer(DynamicLayer):  # type: ignore[misc, unused-ignore]
        def __init__(self, room: int) -> None:
            super().__init__()
            self.room = room
            self.stores: list[torch.Tensor] = []

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
                self.stores = [
                    new.new_empty(*new.shape[:2], self.room, new.shape[3]) for new in (key_states, value_states)
                ]
            start = self.get_seq_length()
            end = start + key_states.shape[2]
            for store, new in zip(self.stores, (key_states, value_states), strict=True):
                store[:, :, start:end] = new
            self.keys, self.values = (store[:, :, :end] for store in self.stores)
            return self.keys, self.values

        def reorder_cache(self, beam_idx: Any) -> None:
            end = self.get_seq_length()
            self.stores = [store[beam_idx] for store in self.stores]
            self.keys, self.values = (store[:, :, :end] for store in self.stores)

    return RoomyLayer
