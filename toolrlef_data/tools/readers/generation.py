"""Generation with local transformers models, in batches of rows of similar length.

A result does not depend on the batch, except for floating-point noise: rows are sorted by length and padded on the
right with an attention mask. `max_time` limits the generation of a batch; unfinished rows become "timeout" results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from toolrlef_data.engines.local.batching import halve_on_oom
from toolrlef_data.engines.local.loading import eos_token_ids
from toolrlef_data.engines.local.weights import silence_transformers
from toolrlef_data.records import ToolResult
from toolrlef_data.tools.readers.seq2seq import Decoding, LoadedModel, ModelSpec

__all__ = ["generate_ids", "generate_texts", "run_in_batches", "token_limit"]

Row = TypeVar("Row")
Out = TypeVar("Out")


def token_limit(loaded: LoadedModel, max_tokens: int) -> int:
    """Return the maximum number of input tokens: `max_tokens`, or the number of the model's positions if smaller."""
    return min(max_tokens, getattr(loaded.model.config, "max_position_embeddings", None) or max_tokens)


def generate_texts(
    loaded: LoadedModel, rows: Sequence[Sequence[int]], spec: ModelSpec, decoding: Decoding
) -> list[ToolResult]:
    """Generate a text for each row of token ids.

    Returns:
        A result per row, in order: a text, or the error no_result (empty text), timeout or unavailable (out of memory).
    """
    max_tokens = decoding.max_tokens + (decoding.first is not None)
    eos_ids = eos_token_ids(loaded.model, loaded.tokenizer)
    # M2M100's tokenizer does not list its language tokens as special tokens.
    special = {*loaded.tokenizer.all_special_ids, *getattr(loaded.tokenizer, "id_to_lang_token", {}), decoding.first}

    def generate_batch(batch: Sequence[Sequence[int]]) -> list[ToolResult]:
        return [to_result(tokens) for tokens in generate_ids(loaded, batch, decoding, spec.max_time)]

    def to_result(tokens: list[int]) -> ToolResult:
        end = next((n for n, token in enumerate(tokens) if token in eos_ids), None)
        if end is None and len(tokens) < max_tokens:
            return ToolResult(error="timeout", detail=f"generation did not finish within {spec.max_time:g} s")
        text_ids = [token for token in tokens[:end] if token not in special]
        text = loaded.tokenizer.decode(text_ids, clean_up_tokenization_spaces=False).strip()
        return ToolResult(text) if text else ToolResult(error="no_result", detail="the model generated no text")

    return run_in_batches(generate_batch, rows, spec.batch, _unavailable)


def generate_ids(
    loaded: LoadedModel, rows: Sequence[Sequence[int]], decoding: Decoding, max_time: float
) -> list[list[int]]:
    """Return the generated token ids of one batch, without the start token and including padding.

    The model's other generation settings apply, such as banned tokens and length penalty. Sampling is off.
    """
    import torch
    from transformers import GenerationConfig

    pad = loaded.tokenizer.pad_token_id or 0
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=loaded.device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=loaded.device)
    settings = GenerationConfig(
        max_new_tokens=decoding.max_tokens + (decoding.first is not None),
        num_beams=decoding.num_beams,
        do_sample=False,
        max_time=max_time,
        forced_bos_token_id=decoding.first,
    )
    with silence_transformers(), torch.inference_mode():
        generated = loaded.model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
    return [list(row) for row in generated[:, 1:].tolist()]


def run_in_batches(
    function: Callable[[Sequence[Row]], Sequence[Out]],
    rows: Sequence[Row],
    size: int,
    out_of_memory: Callable[[str], Out],
) -> list[Out]:
    """Apply a function to rows in batches of similar length, longest first, and return its results in row order.

    A batch that runs out of memory is halved and retried.

    Args:
        function: batch -> one result per row.
        rows: rows with a length.
        size: maximum number of rows per batch.
        out_of_memory: message -> the result of a row that does not fit into memory alone.

    >>> run_in_batches(lambda batch: [len(batch)] * len(batch), ["a", "bcd", "ef"], 2, lambda message: 0)
    [1, 2, 2]
    """
    order = sorted(range(len(rows)), key=lambda n: -len(rows[n]))  # type: ignore[arg-type]
    results: dict[int, Out] = {}
    for start in range(0, len(order), size):
        indices = order[start : start + size]
        batch = [rows[n] for n in indices]
        batch_results = halve_on_oom(function, batch, lambda _, message: out_of_memory(message[:200]))
        results |= zip(indices, batch_results, strict=True)
    return [results[n] for n in range(len(rows))]


def _unavailable(detail: str) -> ToolResult:
    """Return the result of a row that does not fit into memory."""
    return ToolResult(error="unavailable", detail=f"out of memory: {detail}")
