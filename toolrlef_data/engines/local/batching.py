"""Batch planning: groups of prompts with a shared prefix, split into batches of similar length.

A batch that does not fit into memory is halved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from toolrlef_data.engines.local.memory import first_line, free_memory, is_out_of_memory

__all__ = ["PrefixGroup", "TokenisedPrompt", "halve_on_oom", "plan_batches"]

In = TypeVar("In")
Out = TypeVar("Out")

# A separate prefill pass pays off from this length. Even the fixed tokens of a chat template (about 20) exceed it.
MIN_PREFIX_TOKENS = 8
GROUP_TOKENS = 32  # prompts that agree on this many tokens have the same few-shot examples
# A group of its own saves the prefill of what its prompts share, and costs decoding steps for its batches. With a 135M
# model on 2 cores, a step of a small batch takes about as long as the prefill of this many tokens.
TOKENS_PER_STEP = 32


@dataclass(frozen=True, slots=True)
class TokenisedPrompt:
    """A prompt's tag, its token ids, and the seed of its random generator."""

    tag: str
    tokens: tuple[int, ...]
    seed: str


@dataclass(frozen=True, slots=True)
class PrefixGroup:
    """Prompts that share their first `prefix_length` tokens, in batches of similar length."""

    prefix_length: int
    batches: tuple[tuple[TokenisedPrompt, ...], ...]


def plan_batches(
    prompts: Sequence[TokenisedPrompt],
    *,
    token_budget: int,
    new_tokens: int,
    max_batch_size: int,
    share_prefix: bool = True,
) -> list[PrefixGroup]:
    """Group prompts by shared prefix, and split each group, sorted by length, into batches.

    Args:
        prompts: at least one prompt.
        token_budget: maximum padded tokens per batch, prompts and replies together; a longer prompt is a batch alone.
        new_tokens: maximum tokens per reply.
        max_batch_size: maximum prompts per batch.
        share_prefix: False puts all prompts into one group without a prefix.

    >>> prompts = [TokenisedPrompt(str(n), (*range(40), *range(100, 101 + n)), "") for n in range(3)]
    >>> (group,) = plan_batches(prompts, token_budget=100, new_tokens=5, max_batch_size=8)
    >>> group.prefix_length, [len(batch) for batch in group.batches]
    (40, [2, 1])
    """
    groups = []
    for members in _group_by_prefix(prompts, new_tokens) if share_prefix else [list(prompts)]:
        prefix_length = _common_prefix_length(members) if share_prefix else 0
        batches: list[tuple[TokenisedPrompt, ...]] = []
        batch: list[TokenisedPrompt] = []
        # Longest first: if the first batch fits into memory, all others do.
        for prompt in sorted(members, key=lambda prompt: -len(prompt.tokens)):
            width = len(batch[0].tokens if batch else prompt.tokens) + new_tokens
            if batch and (len(batch) == max_batch_size or width * (len(batch) + 1) > token_budget):
                batches.append(tuple(batch))
                batch = []
            batch.append(prompt)
        batches.append(tuple(batch))
        groups.append(PrefixGroup(prefix_length, tuple(batches)))
    return groups


def _group_by_prefix(prompts: Sequence[TokenisedPrompt], new_tokens: int) -> Iterator[list[TokenisedPrompt]]:
    """Yield groups of prompts with equal `GROUP_TOKENS` tokens after the common prefix; merge groups that save little.

    The samples of one question are such a group: it is merged, so that a batch has the samples of several questions.
    """
    start = _common_prefix_length(prompts, minimum=0)
    groups: dict[tuple[int, ...], list[TokenisedPrompt]] = {}
    for prompt in prompts:
        groups.setdefault(prompt.tokens[start : start + GROUP_TOKENS], []).append(prompt)
    merged = []
    for group in groups.values():
        shared = _common_prefix_length(group) - start
        if shared * (len(group) - 1) >= TOKENS_PER_STEP * new_tokens:
            yield group
        else:
            merged += group
    if merged:
        yield merged


def _common_prefix_length(prompts: Sequence[TokenisedPrompt], minimum: int = MIN_PREFIX_TOKENS) -> int:
    """Return the length of the common prefix, excluding each prompt's last token; 0 if it is below `minimum`."""
    first, last = min(prompt.tokens for prompt in prompts), max(prompt.tokens for prompt in prompts)
    limit = min(len(prompt.tokens) for prompt in prompts) - 1
    length = 0
    while length < limit and first[length] == last[length]:
        length += 1
    return length if length >= minimum and len(prompts) > 1 else 0


def halve_on_oom(
    work: Callable[[Sequence[In]], Iterable[Out]], batch: Sequence[In], build_failure: Callable[[In, str], Out]
) -> list[Out]:
    """Return the results of a batch; a batch that does not fit into memory is halved, repeatedly if necessary.

    Args:
        work: batch -> one result per item.
        batch: the items.
        build_failure: (item, error message) -> the result of an item that does not fit into memory even alone.

    >>> halve_on_oom(lambda batch: [item * 2 for item in batch], [1, 2], lambda item, message: 0)
    [2, 4]
    """
    try:
        return list(work(batch))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        message = first_line(error)
    # Outside the exception handler: the traceback would keep the tensors of the failed batch in memory.
    free_memory()
    if len(batch) == 1:
        return [build_failure(batch[0], message)]
    half = len(batch) // 2
    return halve_on_oom(work, batch[:half], build_failure) + halve_on_oom(work, batch[half:], build_failure)
