"""Sums of log-probabilities for many rows: batches of similar length, within limits on tokens and memory.

A batch that does not fit into memory halves the token budget of all following batches. A row that does not fit alone is
split into its responses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from toolrlef_data.engines.local.decoding import last_logits_kwargs
from toolrlef_data.engines.local.memory import first_line, free_memory, is_out_of_memory
from toolrlef_data.engines.local.scoring.layouts import TokenisedRow, token_logprobs
from toolrlef_data.engines.local.scoring.selection import ROUNDING_TOLERANCE, LayoutSelection, row_length

__all__ = ["ResponseScore", "Scorer"]

# On one core with a 135M model, batches of 4 rows of 350 tokens are the fastest: larger ones exceed the cache.
MAX_CPU_TOKENS = 2048
# Logits of a batch, and elements of its mask: 1 GB in float32. A row with more is a batch of its own.
MAX_ELEMENTS = 2**28


@dataclass(frozen=True, slots=True)
class ResponseScore:
    """The result for one response of one row.

    Args:
        row: number of the row.
        response: number of the response in its row.
        logprob: sum of the token log-probabilities; None if the response does not fit into memory.
        error: message of the memory error; otherwise "".
    """

    row: int
    response: int
    logprob: float | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Item:
    """A row, or some of its responses, with their numbers; on the last try, it is computed without a self-test."""

    number: int
    responses: tuple[int, ...]
    row: TokenisedRow
    is_last_try: bool = False


class Scorer:
    """Batches of rows for one model; the layout and the reduced budget are kept for later calls.

    Args:
        batch_tokens: maximum padded tokens per batch.
        tolerance: that of `LayoutSelection`.
    """

    def __init__(self, batch_tokens: int, tolerance: float = ROUNDING_TOLERANCE) -> None:
        self.budget = batch_tokens
        self.selection = LayoutSelection(tolerance)

    def score(self, rows: Sequence[TokenisedRow], borrow: Callable[[], Any]) -> Iterator[list[ResponseScore]]:
        """Yield the results of each batch, longest rows first.

        Args:
            rows: rows of any length.
            borrow: returns a context manager with the model in evaluation mode. It is entered once per batch.
        """
        import torch

        items = [_Item(n, tuple(range(len(row.responses))), row) for n, row in enumerate(rows) if row.responses]
        # Longest first: if the first batch fits into memory, all others do.
        pending = sorted(items, key=lambda item: -row_length(item.row))
        while pending:
            batch, sums, message = pending[:1], [], ""
            with borrow() as model, torch.inference_mode():
                try:
                    if batch[0].is_last_try:
                        sums = _sums(model, batch, "single")
                    else:
                        self.selection.update(model, [item.row for item in pending])
                        batch = self._next_batch(pending, model)
                        sums = _sums(model, batch, self.selection.layout)
                except (MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error):
                        raise
                    message = first_line(error)
            if not message:
                yield [
                    ResponseScore(item.number, response, logprob)
                    for item, row_sums in zip(batch, sums, strict=True)
                    for response, logprob in zip(item.responses, row_sums, strict=True)
                ]
                pending = pending[len(batch) :]
                continue
            free_memory()  # outside the handler, whose traceback keeps the tensors of the failed batch
            first, half = batch[0], len(batch[0].responses) // 2
            if len(batch) > 1:
                self.budget = _token_count([item.row for item in batch], self.selection.layout) // 2
            elif half:
                parts = [_part(first, slice(None, half)), _part(first, slice(half, None))]
                pending = sorted([*parts, *pending[1:]], key=lambda item: -row_length(item.row))
            elif not first.is_last_try:
                pending[0] = replace(first, is_last_try=True)
            else:
                yield [ResponseScore(first.number, first.responses[0], None, message)]
                pending = pending[1:]

    def _next_batch(self, pending: Sequence[_Item], model: Any) -> list[_Item]:
        """Return as many of the first items as fit into the limits, at least one."""
        layout = self.selection.layout
        budget = min(self.budget, MAX_CPU_TOKENS) if model.device.type == "cpu" else self.budget
        vocabulary = model.config.get_text_config().vocab_size
        batch: list[_Item] = []
        for item in pending:
            rows = [*(item.row for item in batch), item.row]
            n_tokens = _token_count(rows, layout)
            n_logits = _prediction_count(rows, layout) if last_logits_kwargs(model) else n_tokens
            n_mask = n_tokens * n_tokens // len(rows) if layout == "packed" else 0
            if batch and (n_tokens > budget or max(n_logits * vocabulary, n_mask) > MAX_ELEMENTS):
                break
            batch.append(item)
        return batch


def _sums(model: Any, batch: Sequence[_Item], layout: str) -> list[list[float]]:
    """Return the sum of each response of each row."""
    import torch

    rows = token_logprobs(model, [item.row for item in batch], layout)
    # One transfer from the device, which a sum of each response would wait for.
    values = torch.cat([response for row in rows for response in row]).double().cpu()
    sums = iter(torch.split(values, [len(response) for row in rows for response in row]))
    return [[float(next(sums).sum()) for _ in row] for row in rows]


def _token_count(rows: Sequence[TokenisedRow], layout: str) -> int:
    """Return the number of tokens of a batch with padding."""
    if layout == "packed":
        return len(rows) * (max(len(row.prompt) for row in rows) + max(map(_body_length, rows)))
    return sum(len(row.responses) for row in rows) * max(map(row_length, rows))


def _prediction_count(rows: Sequence[TokenisedRow], layout: str) -> int:
    """Return the number of positions of a batch whose logits are computed."""
    if layout == "packed":
        return len(rows) * (max(map(_body_length, rows)) + 1)
    width = max(map(row_length, rows)) - min(len(row.prompt) for row in rows)
    return sum(len(row.responses) for row in rows) * width


def _body_length(row: TokenisedRow) -> int:
    """Return the number of response tokens in a packed row, which omits the last token of each response."""
    return sum(max(0, len(response) - 1) for response in row.responses)


def _part(item: _Item, responses: slice) -> _Item:
    """Return an item with some of the responses of another one."""
    return _Item(item.number, item.responses[responses], TokenisedRow(item.row.prompt, item.row.responses[responses]))
