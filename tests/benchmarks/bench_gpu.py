"""Generation and log-probabilities on one GPU: tokens per second, and shares of the peak of compute and of bandwidth.

    python tests/benchmarks/bench_gpu.py [1B] [7B] [--device cpu --tiny]

It needs only torch, transformers and the modules for decoding and scoring, and downloads nothing: the models have the
shapes of Llama models with 1B and 7B weights, with random values. `--device cpu --tiny` runs the script with a model of
two small layers, to test it without a GPU.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from random import Random
from types import SimpleNamespace
from typing import Any

import torch

from toolrlef_data.engines.local.batching import TokenisedPrompt
from toolrlef_data.engines.local.decoding import decode
from toolrlef_data.engines.local.scoring.layouts import TokenisedRow, token_logprobs
from toolrlef_data.engines.local.scoring.scorer import Scorer

PEAK_FLOPS = 788e12  # of one H200 in bfloat16, measured with large matrix products
PEAK_BYTES = 4.8e12  # per second: the bandwidth of one H200, from its data sheet
LENGTHS = (7, 9, 11, 14, 10)
PROMPT = 300
SHAPES: dict[str, dict[str, Any]] = {
    "1B": {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128_256, "tie_word_embeddings": True,
    },
    "7B": {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 32_000, "tie_word_embeddings": False,
    },
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 1_000, "tie_word_embeddings": True,
    },
}  # fmt: skip


def build(shape: str, device: str) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    with torch.device(device):
        default = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        model = LlamaForCausalLM(LlamaConfig(**SHAPES[shape], max_position_embeddings=4096, eos_token_id=None))
        torch.set_default_dtype(default)
    return model.eval()


def layer_weights(model: Any) -> int:
    """Return the number of weights in the matrix products of each token, without embedding and head."""
    return sum(weight.numel() for name, weight in model.named_parameters() if ".layers." in name)


def draw_rows(count: int, vocabulary: int) -> list[TokenisedRow]:
    rng = Random(0)

    def draw(length: int) -> tuple[int, ...]:
        return tuple(rng.randrange(100, vocabulary) for _ in range(length))

    return [TokenisedRow(draw(PROMPT), tuple(draw(length) for length in LENGTHS)) for _ in range(count)]


def seconds(device: str, work: Callable[[], Any]) -> float:
    """Return the time of the second of two runs."""
    for _ in range(2):
        if device != "cpu":
            torch.cuda.synchronize()
        started_at = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
    return time.perf_counter() - started_at


def bench_scoring(model: Any, device: str, count: int, batch_tokens: int) -> None:
    config = model.config
    rows = draw_rows(count, config.vocab_size)
    scorer = Scorer(batch_tokens, tolerance=math.inf)

    def packed() -> None:
        for _ in scorer.score(rows, lambda: nullcontext(model)):
            pass

    def one_at_a_time() -> None:
        with torch.inference_mode():
            token_logprobs(model, rows[:16], "single")

    time_packed = seconds(device, packed)
    time_single = seconds(device, one_at_a_time) * count / 16
    n_inputs = PROMPT + sum(LENGTHS) - len(LENGTHS)
    n_predictions = n_inputs - PROMPT + 1
    # Two operations per weight and token, and the products of attention with the keys of the prompt.
    per_row = 2 * layer_weights(model) * n_inputs + 2 * config.vocab_size * config.hidden_size * n_predictions
    per_row += 4 * config.num_hidden_layers * config.hidden_size * n_inputs * PROMPT // 2
    print(
        f"  log-probabilities, {scorer.selection.layout}, {batch_tokens} tokens a batch: "
        f"{count * n_inputs / time_packed:,.0f} tokens/s, {count * len(LENGTHS) / time_packed:,.0f} responses/s, "
        f"{per_row * count / time_packed / PEAK_FLOPS:.1%} of the bf16 peak, "
        f"{time_single / time_packed:.1f} times one at a time"
    )


def bench_generation(model: Any, device: str, count: int, new_tokens: int) -> None:
    rng = Random(1)
    prompts = [
        TokenisedPrompt(str(n), tuple(rng.randrange(100, model.config.vocab_size) for _ in range(PROMPT)), str(n))
        for n in range(count)
    ]
    # The settings of `EngineSpec` that decoding reads; that class needs further packages.
    settings: Any = SimpleNamespace(
        temperature=0.0, top_p=1.0, top_k=0, repetition_penalty=1.0, max_tokens=new_tokens, stop=()
    )

    def ours() -> None:
        with torch.inference_mode():
            decode(model, None, prompts, settings, frozenset(), None)

    def continuous() -> None:
        from transformers import GenerationConfig

        config = GenerationConfig(max_new_tokens=new_tokens, do_sample=False, eos_token_id=-1, pad_token_id=0)
        model.generate_batch([list(prompt.tokens) for prompt in prompts], generation_config=config)

    n_bytes = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    for name, work in {"decode": ours, "generate_batch": continuous}.items():
        if name == "generate_batch" and device == "cpu":
            continue
        duration = seconds(device, work)
        print(
            f"  generation, {name}, {count} prompts at once: {count * new_tokens / duration:,.0f} tokens/s, "
            f"weights read at {n_bytes * new_tokens / duration / PEAK_BYTES:.1%} of the bandwidth"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("shapes", nargs="*", default=["1B", "7B"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    for shape in ["tiny"] if arguments.tiny else arguments.shapes:
        model = build(shape, arguments.device)
        print(f"{shape}: {sum(weight.numel() for weight in model.parameters()):,} weights, {model.dtype}")
        count, new_tokens = (16, 8) if arguments.tiny else (256, 128)
        for batch_tokens in (8192, 32768):
            bench_scoring(model, arguments.device, count, batch_tokens)
        bench_generation(model, arguments.device, 8 if arguments.tiny else 64, new_tokens)
        del model
        if arguments.device != "cpu":
            print(f"  peak memory: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    main()
