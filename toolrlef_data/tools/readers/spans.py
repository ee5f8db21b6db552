"""Spans of passages that a model marks as the answer: extractive reading.

A passage longer than the model's window is cut into overlapping windows. Every span of a window's passage has the score
of its start plus that of its end; the answer is the span that scores highest over all windows and all passages, the
first among equals. Scores of different windows are compared as they are, as in BERT's own SQuAD runs.

Not covered: "no answer" scores of SQuAD 2 models (the best span is always the answer), spans across passages, word
boundaries (a span may end inside a word), XLNet's span head, tokenizers that do not tell where a token stands. Texts
without blanks between words have their answers bounded by tokens alone.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from toolrlef_data.records import InputError, ToolResult
from toolrlef_data.tools.readers.seq2seq import Loaded, in_batches, token_limit

__all__ = ["TOKENS_PER_WORD", "WINDOW", "best_spans"]

# Tokens of a window, its question with it, and those that neighbours share, as in BERT's SQuAD runs (Devlin et al.
# 2019): a span at the edge of a window stands whole in the next one.
WINDOW, OVERLAP = 384, 128
TOKENS_PER_WORD = 4


@dataclass(frozen=True, slots=True)
class Window:
    """A question and a part of a passage as token ids: where it belongs, and where each of its tokens stands."""

    question: int
    passage: str
    inputs: dict[str, list[int]]
    offsets: list[tuple[int, int] | None]  # of the passage's tokens, None of all others

    def __len__(self) -> int:
        return len(self.offsets)


class Span(NamedTuple):
    """The best span of a window, or why there is none."""

    score: float
    text: str
    error: str = ""


def best_spans(
    loaded: Loaded, asked: Sequence[tuple[str, tuple[str, ...]]], *, max_words: int, batch: int
) -> list[ToolResult]:
    """The best span of each question's passages, in order.

    Args:
        asked: questions, each with its passages.
        max_words: words of a span at most.
        batch: windows that the model gets at once.

    Returns:
        spans, or the errors too_large (the question fills half a window), no_result, unavailable (memory).

    Raises:
        InputError: the tokenizer does not tell where a token stands.
    """
    if not loaded.tokenizer.is_fast:
        raise InputError(
            f"{loaded.model.config.model_type} has no fast tokenizer, which tells where in the text a token stands"
        )
    width = token_limit(loaded, WINDOW)
    results: list[ToolResult | None] = [None] * len(asked)
    windows: list[Window] = []
    for n, (question, passages) in enumerate(asked):
        count = len(loaded.tokenizer(question, add_special_tokens=False, split_special_tokens=True).input_ids)
        if count > width // 2:
            results[n] = ToolResult(error="too_large", detail=f"{count} tokens, at most {width // 2} are read")
            continue
        for passage in passages:
            windows += _windows(loaded, n, question, passage, width, count)
    work = partial(_best_spans, loaded, max_words)
    spans = in_batches(work, windows, batch, lambda detail: Span(0.0, "", f"out of memory: {detail}"))
    for n in range(len(asked)):
        own = [span for window, span in zip(windows, spans, strict=True) if window.question == n]
        results[n] = results[n] or _best(own)
    return [result for result in results if result is not None]


def _best(spans: Sequence[Span]) -> ToolResult:
    for span in spans:
        if span.error:
            return ToolResult(error="unavailable", detail=span.error)
    best = max((span for span in spans if span.text), key=lambda span: span.score, default=None)
    return ToolResult(best.text) if best else ToolResult(error="no_result", detail="the passages hold no span")


def _windows(loaded: Loaded, n: int, question: str, passage: str, width: int, count: int) -> list[Window]:
    """A question with each part of a passage, overlapping by up to OVERLAP tokens."""
    cut = loaded.tokenizer(
        question,
        passage,
        truncation="only_second",
        max_length=width,
        stride=min(OVERLAP, (width - count) // 3),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        split_special_tokens=True,
    )
    names = [name for name in loaded.tokenizer.model_input_names if name in cut]
    windows = []
    for at in range(len(cut["input_ids"])):
        sides, offsets = cut.sequence_ids(at), cut["offset_mapping"][at]
        places = [offset if side == 1 else None for side, offset in zip(sides, offsets, strict=True)]
        windows.append(Window(n, passage, {name: cut[name][at] for name in names}, places))
    return windows


def _best_spans(loaded: Loaded, max_words: int, batch: Sequence[Window]) -> list[Span]:
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
        marked = loaded.model(**tensors)
    starts, ends = marked.start_logits.float().cpu(), marked.end_logits.float().cpu()
    return [_best_span(window, starts[n], ends[n], max_words) for n, window in enumerate(batch)]


def _best_span(window: Window, starts: Any, ends: Any, max_words: int) -> Span:
    """The span of one window whose start and end score highest together; text "" where it has none."""
    import torch

    text = window.passage
    places = [n for n, at in enumerate(window.offsets) if at is not None and text[at[0] : at[1]].strip()]
    if not places:
        return Span(0.0, "")
    offsets = [at for n in places if (at := window.offsets[n]) is not None]
    begins = [match.start() for match in re.finditer(r"\S+", text)]
    words = torch.tensor([bisect_right(begins, at[1] - 1) for at in offsets])  # a token may begin with a blank
    order = torch.arange(len(places))
    distance = order[None, :] - order[:, None]
    allowed = (distance >= 0) & (distance < max_words * TOKENS_PER_WORD)
    allowed &= words[None, :] - words[:, None] < max_words
    scores = starts[places][:, None] + ends[places][None, :]
    scores = scores.masked_fill(~allowed | scores.isnan(), -torch.inf)
    best = int(scores.argmax())
    first, last = divmod(best, len(places))
    return Span(float(scores[first, last]), text[offsets[first][0] : offsets[last][1]].strip())
