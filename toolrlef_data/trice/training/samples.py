"""Tokenised rows of stage 1 and stage 2 for training, and their order in batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from toolrlef_data.engines.local.scoring.layouts import TokenisedRow
from toolrlef_data.engines.local.scoring.requests import ScoringRequest
from toolrlef_data.engines.local.scoring.selection import row_length
from toolrlef_data.engines.prompts import render_prompt
from toolrlef_data.records import Reply

__all__ = ["STAGE1_COLUMNS", "STAGE2_COLUMNS", "Sample", "batches", "split", "tokenise_row"]

STAGE1_COLUMNS = ("instruction", "input", "output")
STAGE2_COLUMNS = ("instruction", "input", "responses", "scores")
SORTED_BATCHES = 50  # batches whose rows are sorted by length together

Row = Mapping[str, Any]
Tokenise = Callable[[ScoringRequest], "tuple[tuple[int, ...], tuple[int, ...]] | Reply"]


@dataclass(frozen=True, slots=True)
class Sample:
    """A row for training.

    Args:
        tokens: the prompt, and the responses with their end token.
        scores: one per response; empty for a row of stage 1, which has one response.
    """

    tokens: TokenisedRow
    scores: tuple[float, ...] = ()

    def __len__(self) -> int:
        """Return the number of tokens of the prompt and the longest response."""
        return row_length(self.tokens)


def tokenise_row(row: Row, tokenise: Tokenise, style: str) -> Sample | None:
    """Return the sample of a row of stage 1 or stage 2, or None for a row without a response to learn from.

    Responses of stage 2 without a text or a score are ignored.

    Args:
        row: the row.
        tokenise: a function of `request_tokeniser`, so that values are those of `logprobs`, with the end token.
        style: the prompt style.

    Raises:
        InputError: the tokenizer has no end token.
    """
    if "output" in row:
        scored = [(row["output"], 0.0)]
    else:
        pairs = zip(row["responses"], row["scores"], strict=True)
        scored = [(text, score) for text, score in pairs if text is not None and _is_finite(score)]
    prompt = render_prompt(style, row["instruction"], row["input"])
    place: dict[str, Any] = {"prompt": prompt} if isinstance(prompt, str) else {"messages": prompt}
    found = [(tokenise(ScoringRequest(**place, response=text)), score) for text, score in scored]
    usable = [(tokens, score) for tokens, score in found if not isinstance(tokens, Reply)]
    if not usable:
        return None
    tokens = TokenisedRow(usable[0][0][0], tuple(response for (_, response), _ in usable))
    return Sample(tokens, () if "output" in row else tuple(score for _, score in usable))


def _is_finite(score: float | None) -> bool:
    return score is not None and math.isfinite(score)


def batches(samples: Sequence[Sample], batch_size: int, seed: int) -> Iterator[list[Sample]]:
    """Yield batches of one epoch after the other, endlessly; the last batch of an epoch may be smaller.

    Each epoch has a seeded order of its own. Rows of similar length share a batch, so that there is little padding.
    """
    epoch = 0
    while True:
        random = Random(f"{seed}:{epoch}")
        order = random.sample(samples, len(samples))
        for start in range(0, len(order), batch_size * SORTED_BATCHES):
            window = sorted(order[start : start + batch_size * SORTED_BATCHES], key=len)
            parts = split(window, batch_size)
            yield from random.sample(parts, len(parts))
        epoch += 1


def split(samples: Sequence[Sample], size: int) -> list[list[Sample]]:
    """Return samples in parts of a size; the last one may be smaller."""
    return [list(samples[n : n + size]) for n in range(0, len(samples), size)]
