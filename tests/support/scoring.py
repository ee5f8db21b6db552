"""Causal models with random weights, tokenised rows, and their log-probabilities by a plain loop."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import torch

from toolrlef_data.engines.local.scoring.layouts import TokenisedRow
from toolrlef_data.engines.local.weights import silence_transformers

VOCABULARY = 97
WINDOW = 16
SIZES: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.3}
HEADS: dict[str, Any] = {"intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}


def causal_model(kind: str, **changes: Any) -> Any:
    """Return a model whose weights are large, so that other keys or positions change its predictions."""
    import transformers

    classes = {
        "llama": (transformers.LlamaConfig, SIZES | HEADS),
        "qwen": (transformers.Qwen2Config, SIZES | HEADS),
        "gpt2": (
            transformers.GPT2Config,
            {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
            | {"initializer_range": 0.3},
        ),
        "gemma": (
            transformers.Gemma2Config,
            SIZES | HEADS | {"head_dim": 8, "sliding_window": WINDOW, "final_logit_softcapping": 5.0},
        ),
        "mistral": (transformers.MistralConfig, SIZES | HEADS | {"sliding_window": WINDOW}),
        "bloom": (transformers.BloomConfig, {**SIZES, "n_layer": 2, "n_head": 4}),
        "mamba": (transformers.MambaConfig, SIZES | {"state_size": 8}),
    }
    config_class, arguments = classes[kind]
    with torch.random.fork_rng([]), silence_transformers():
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(config_class(**arguments | changes)).eval()


def draw_tokens(length: int, seed: str) -> tuple[int, ...]:
    rng = Random(seed)
    return tuple(rng.randrange(VOCABULARY) for _ in range(length))


def tokenised_row(name: str, prompt: int, lengths: Sequence[int]) -> TokenisedRow:
    """Return a row with random tokens, given the lengths of its prompt and responses."""
    responses = tuple(draw_tokens(length, f"{name} {n}") for n, length in enumerate(lengths))
    return TokenisedRow(draw_tokens(prompt, f"{name} prompt"), responses)


def naive_logprobs(model: Any, rows: Sequence[TokenisedRow]) -> list[list[list[float]]]:
    """Predict each token by a forward pass over all tokens before it."""

    def predict(before: tuple[int, ...], token: int) -> float:
        logits = model(input_ids=torch.tensor([before])).logits[0, -1]
        return float(torch.log_softmax(logits.double(), -1)[token])

    with torch.no_grad():
        return [
            [
                [predict(row.prompt + response[:n], token) for n, token in enumerate(response)]
                for response in row.responses
            ]
            for row in rows
        ]
