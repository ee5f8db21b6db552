"""Tokenised rows of stage 1 and stage 2 for training, and their order in batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from toolrlef_data.engines.local.loading import LoadedModel
from toolrlef_data.engines.local.scoring.layouts import TokenisedRow
from toolrlef_data.engines.prompts import continuation, render_prompt
from toolrlef_data.records import InputError

__all__ = ["STAGE1_COLUMNS", "STAGE2_COLUMNS", "Sample", "batches", "tokenise_row"]

STAGE1_COLUMNS = ("instruction", "input", "output")
STAGE2_COLUMNS = ("instruction", "input", "responses", "scores")
SORTED_BATCHES = 50  # batches whose rows are sorted by length together

Row = Mapping[str, Any]


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
        return len(self.tokens.prompt) + max(map(len, self.tokens.responses))


def tokenise_row(row: Row, loaded: LoadedModel, style: str, options: Sequence[tuple[str, Any]]) -> Sample | None:
    """Return the sample of a row of stage 1 or stage 2, or None for a row without a response to learn from.

    Responses of stage 2 without a score are ignored; a row of stage 2 needs one with a score.
    """
    if "output" in row:
        scored = [(row["output"], 0.0)]
    else:
        pairs = zip(row["responses"], row["scores"], strict=True)
        scored = [(text, score) for text, score in pairs if text is not None and _is_finite(score)]
    tokens = _tokenise(loaded, render_prompt(style, row["instruction"], row["input"]), [t for t, _ in scored], options)
    kept = [(ids, score) for ids, (_, score) in zip(tokens.responses, scored, strict=True) if ids]
    if not kept:
        return None
    scores = () if "output" in row else tuple(score for _, score in kept)
    return Sample(TokenisedRow(tokens.prompt, tuple(ids for ids, _ in kept)), scores)


def _is_finite(score: float | None) -> bool:
    return score is not None and math.isfinite(score)


def _tokenise(
    loaded: LoadedModel, prompt: Any, responses: Sequence[str], options: Sequence[tuple[str, Any]]
) -> TokenisedRow:
    """Tokenise a prompt and its responses apart; each response has its end token."""
    tokenizer = loaded.tokenizer
    end = tokenizer.eos_token or ""
    texts = [response.strip() for response in responses]
    if isinstance(prompt, str):
        prompt_ids = tokenizer(prompt).input_ids
        endings = [continuation(prompt, text) + end for text in texts]
    else:
        if not tokenizer.chat_template:
            raise InputError('the model has no chat template: choose the style "completion", "alpaca" or "vicuna"')
        turns = [{"role": message.role, "content": message.content} for message in prompt]
        variables = dict(options)
        prompt_text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **variables)
        prompt_ids = tokenizer(prompt_text, add_special_tokens=False).input_ids
        endings = []
        for text in texts:
            full = [*turns, {"role": "assistant", "content": text}]
            full_text = tokenizer.apply_chat_template(full, tokenize=False, **variables)
            starts_equal = full_text.startswith(prompt_text)
            endings.append(full_text[len(prompt_text) :].rstrip() if starts_equal else text + end)
    ids = [tokenizer(ending, add_special_tokens=False).input_ids for ending in endings]
    return TokenisedRow(tuple(prompt_ids), tuple(map(tuple, ids)))


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
            parts = [window[n : n + batch_size] for n in range(0, len(window), batch_size)]
            yield from random.sample(parts, len(parts))
        epoch += 1
