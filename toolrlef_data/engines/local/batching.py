"""Which prompts are answered together: groups that share a prefix, cut into batches of similar length.

A batch that the memory does not hold is halved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from toolrlef_data.engines.local.loading import free_memory

__all__ = ["Plan", "Row", "first_line", "halve_on_oom", "plan"]

In = TypeVar("In")
Out = TypeVar("Out")

# A shorter prefix is not worth a pass of its own. Already a chat template's own words (20 tokens) are.
PREFIX_TOKENS = 8
# Rows that agree on this many tokens have the same few-shots. Prefilling those of a few rows takes as long as the steps
# that a batch of their own costs, so from four rows on the group stays apart.
GROUP_TOKENS = 32
GROUP_ROWS = 4


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt: its token ids, and the seed of its random numbers."""

    tag: str
    tokens: tuple[int, ...]
    seed: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Rows that share the first `prefix` tokens, in batches of similar length."""

    prefix: int
    batches: tuple[tuple[Row, ...], ...]


def plan(rows: Sequence[Row], *, budget: int, new_tokens: int, most: int, share: bool = True) -> list[Plan]:
    """Group rows by shared prefix, and cut each group, sorted by length, into batches.

    Args:
        budget: padded tokens of a batch at most, prompt and reply; a longer row is a batch of its own.
        new_tokens: tokens that a reply may take.
        most: rows of a batch at most.
        share: False: no prefix is shared.

    >>> rows = [Row(str(n), (*range(40), *range(100, 101 + n)), "") for n in range(3)]
    >>> [(p.prefix, [len(batch) for batch in p.batches]) for p in plan(rows, budget=100, new_tokens=5, most=8)]
    [(40, [2, 1])]
    """
    plans = []
    for group in _groups(rows) if share else [list(rows)]:
        prefix = _common(group) if share else 0
        batches: list[tuple[Row, ...]] = []
        batch: list[Row] = []
        # The longest first: memory runs out at once or never.
        for row in sorted(group, key=lambda row: -len(row.tokens)):
            wide = len(batch[0].tokens if batch else row.tokens) + new_tokens
            if batch and (len(batch) == most or wide * (len(batch) + 1) > budget):
                batches.append(tuple(batch))
                batch = []
            batch.append(row)
        batches.append(tuple(batch))
        plans.append(Plan(prefix, tuple(batches)))
    return plans


def _groups(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows that agree on a stretch behind what all rows share (the few-shots of one data set); the rest together."""
    start = _common(rows, least=0)
    groups: dict[tuple[int, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(row.tokens[start : start + GROUP_TOKENS], []).append(row)
    rest = []
    for group in groups.values():
        if len(group) >= GROUP_ROWS:
            yield group
        else:
            rest += group
    if rest:
        yield rest


def _common(rows: Sequence[Row], least: int = PREFIX_TOKENS) -> int:
    """How many first tokens all rows share, the last token of a row left out; 0 where it is fewer than `least`."""
    first, last = min(row.tokens for row in rows), max(row.tokens for row in rows)
    most = min(len(row.tokens) for row in rows) - 1
    same = 0
    while same < most and first[same] == last[same]:
        same += 1
    return same if same >= least and len(rows) > 1 else 0


def halve_on_oom(
    work: Callable[[Sequence[In]], Iterable[Out]], batch: Sequence[In], failed: Callable[[In, str], Out]
) -> list[Out]:
    """The outcomes of a batch; where the memory does not hold it, those of its halves.

    Args:
        work: batch -> one outcome for each of its rows.
        failed: row, message -> the outcome of a row that the memory does not hold even alone.

    >>> halve_on_oom(lambda batch: [row * 2 for row in batch], [1, 2], lambda row, message: 0)
    [2, 4]
    """
    import torch

    try:
        return list(work(batch))
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is one; the CPU's has no class of its own
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "DefaultCPUAllocator" not in str(error):
            raise
        message = first_line(error)
    # Outside of the handler, whose traceback would keep the tensors of the failed batch.
    free_memory()
    if len(batch) == 1:
        return [failed(batch[0], message)]
    half = len(batch) // 2
    return halve_on_oom(work, batch[:half], failed) + halve_on_oom(work, batch[half:], failed)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
