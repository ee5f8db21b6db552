"""Extractive reading: spans of passages that a model selects as the answer.

A passage longer than the model's window is split into overlapping windows. The score of a span is the sum of its start
and end scores. The answer is the highest-scoring span over all windows and passages; of equal scores, the
first wins. Scores of different windows are compared directly, as in BERT's SQuAD evaluation.

Not covered: the "no answer" score of SQuAD 2 models, spans across passages, XLNet's span head, tokenizers without
offsets. A span may end inside a word. In texts without blanks between words, only the number of tokens limits a span.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from toolrlef_data.records import InputError, ToolResult
from toolrlef_data.tools.readers.generation import run_in_batches, token_limit
from toolrlef_data.tools.readers.seq2seq import LoadedModel

__all__ = ["TOKENS_PER_WORD", "WINDOW", "best_spans"]

# Tokens per window, including the question, and tokens shared by adjacent windows, as in BERT's SQuAD evaluation
# (Devlin et al. 2019). A span that is cut off by one window is complete in the next.
WINDOW, OVERLAP = 384, 128
TOKENS_PER_WORD = 4  # the token limit of an answer is this times its maximum number of words


@dataclass(frozen=True, slots=True)
class Window:
    """The model input for a question and a part of a passage."""

    question: int  # index of the question
    passage: str
    inputs: dict[str, list[int]]
    offsets: list[tuple[int, int] | None]  # of each token in the passage; None for other tokens

    def __len__(self) -> int:
        return len(self.offsets)


class Span(NamedTuple):
    """The best span of a window, or an error."""

    score: float
    text: str
    error: str = ""


def best_spans(
    loaded: LoadedModel, questions: Sequence[tuple[str, tuple[str, ...]]], *, max_words: int, batch: int
) -> list[ToolResult]:
    """Select the best span for each question.

    Args:
        loaded: an extractive model.
        questions: (question, passages) pairs.
        max_words: maximum number of words per span.
        batch: maximum number of windows per forward pass.

    Returns:
        A result per question, in order: the span, or the error too_large (the question fills half a window), no_result
        or unavailable (out of memory).

    Raises:
        InputError: the tokenizer does not provide offsets.
    """
    if not loaded.tokenizer.is_fast:
        raise InputError(
            f"{loaded.model.config.model_type} has no fast tokenizer, which is needed for the offsets of tokens"
        )
    width = token_limit(loaded, WINDOW)
    results: list[ToolResult | None] = [None] * len(questions)
    windows: list[Window] = []
    for n, (question, passages) in enumerate(questions):
        num_tokens = len(loaded.tokenizer(question, add_special_tokens=False, split_special_tokens=True).input_ids)
        if num_tokens > width // 2:
            detail = f"the question has {num_tokens} tokens, at most {width // 2} are allowed"
            results[n] = ToolResult(error="too_large", detail=detail)
            continue
        for passage in passages:
            windows += _windows(loaded, n, question, passage, width, num_tokens)
    select = partial(_best_spans, loaded, max_words)
    spans = run_in_batches(select, windows, batch, lambda message: Span(0.0, "", f"out of memory: {message}"))
    for n in range(len(questions)):
        candidates = [span for window, span in zip(windows, spans, strict=True) if window.question == n]
        results[n] = results[n] or _best_result(candidates)
    return [result for result in results if result is not None]


def _best_result(spans: Sequence[Span]) -> ToolResult:
    """Return the highest-scoring span of one question; an error in any of its windows is the result."""
    for span in spans:
        if span.error:
            return ToolResult(error="unavailable", detail=span.error)
    best = max((span for span in spans if span.text), key=lambda span: span.score, default=None)
    return ToolResult(best.text) if best else ToolResult(error="no_result", detail="the passages contain no span")


def _windows(
    loaded: LoadedModel, question_index: int, question: str, passage: str, width: int, question_tokens: int
) -> list[Window]:
    """Return the windows of a passage, each with the question; adjacent windows share up to `OVERLAP` tokens."""
    encoded = loaded.tokenizer(
        question,
        passage,
        truncation="only_second",
        max_length=width,
        stride=min(OVERLAP, (width - question_tokens) // 3),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        split_special_tokens=True,
    )
    names = [name for name in loaded.tokenizer.model_input_names if name in encoded]
    windows = []
    for i in range(len(encoded["input_ids"])):
        sequences, offsets = encoded.sequence_ids(i), encoded["offset_mapping"][i]
        passage_offsets = [offset if part == 1 else None for part, offset in zip(sequences, offsets, strict=True)]
        windows.append(Window(question_index, passage, {name: encoded[name][i] for name in names}, passage_offsets))
    return windows


def _best_spans(loaded: LoadedModel, max_words: int, batch: Sequence[Window]) -> list[Span]:
    """Run the model on a batch of windows and return the best span of each."""
    import torch

    width = max(map(len, batch))
    pads = {"input_ids": loaded.tokenizer.pad_token_id or 0}
    tensors = {
        name: torch.tensor(
            [[*window.inputs[name], *[pads.get(name, 0)] * (width - len(window))] for window in batch],
            device=loaded.device,
        )
        for name in batch[0].inputs
    }
    with torch.inference_mode():
        output = loaded.model(**tensors)
    starts, ends = output.start_logits.float().cpu(), output.end_logits.float().cpu()
    return [_best_span(window, starts[n], ends[n], max_words) for n, window in enumerate(batch)]


def _best_span(window: Window, starts: Any, ends: Any, max_words: int) -> Span:
    """Return the highest-scoring span of one window; its text is "" if the window has no span.

    Args:
        window: the window.
        starts: start score of each token.
        ends: end score of each token.
        max_words: maximum number of words per span.
    """
    import torch

    text = window.passage
    positions = [n for n, offset in enumerate(window.offsets) if offset and text[offset[0] : offset[1]].strip()]
    if not positions:
        return Span(0.0, "")
    offsets = [offset for n in positions if (offset := window.offsets[n]) is not None]
    word_starts = [match.start() for match in re.finditer(r"\S+", text)]
    words = torch.tensor([bisect_right(word_starts, end - 1) for _, end in offsets])  # a token may begin with a blank
    order = torch.arange(len(positions))
    distance = order[None, :] - order[:, None]
    allowed = (distance >= 0) & (distance < max_words * TOKENS_PER_WORD)
    allowed &= words[None, :] - words[:, None] < max_words
    scores = starts[positions][:, None] + ends[positions][None, :]
    scores = scores.masked_fill(~allowed | scores.isnan(), -torch.inf)
    best = int(scores.argmax())
    first, last = divmod(best, len(positions))
    return Span(float(scores[first, last]), text[offsets[first][0] : offsets[last][1]].strip())
