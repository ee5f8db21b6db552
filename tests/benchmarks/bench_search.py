"""Speed and memory of WikiSearch compared with bare bm25s, on a synthetic corpus.

    python tests/benchmarks/bench_search.py [--rounds 3] [--passages 100000] [--queries 10000]

Words follow Zipf's law with a fixed seed, about 80 per passage; three in ten passages contain a word with an accent.
Both sides run alternately, each in a separate process:

- bm25s starts with a list of texts in memory.
- WikiSearch starts with a table on disk, which it also hashes, copies and indexes on disk.

The script prints the ratio of each round, then time and memory of a process that opens the existing index. Nothing is
asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

K = 2
VOCABULARY = 200_000


def draw_words(draw: np.random.Generator) -> np.ndarray[Any, Any]:
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    lengths = draw.integers(3, 10, VOCABULARY)
    words = ["".join(draw.choice(letters, length)) for length in lengths]
    return np.array([word + "é" if i % 300 == 299 else word for i, word in enumerate(words)])


def draw_texts(count: int, min_words: int, max_words: int, seed: int) -> Iterator[str]:
    words = draw_words(np.random.default_rng(0))
    draw = np.random.default_rng(seed)
    for length in draw.integers(min_words, max_words, count):
        yield " ".join(words[np.minimum(draw.zipf(1.15, length), VOCABULARY) - 1])


def timed(function: Callable[[], Any]) -> tuple[list[float], Any]:
    """Return [wall time, CPU time] and the result; CPU time hardly depends on other processes."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return [time.perf_counter() - wall, time.process_time() - cpu], result


def anonymous_megabytes() -> float:
    """Return the anonymous memory; pages of memory-mapped files do not count, since the system can reclaim them."""
    return int(re.findall(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1024


def run_bm25s(passages: list[str], queries: list[str]) -> dict[str, Any]:
    import bm25s  # type: ignore[import-untyped]

    def index() -> Any:
        retriever = bm25s.BM25()
        retriever.index(bm25s.tokenize(passages, show_progress=False), show_progress=False)
        return retriever

    def search() -> Any:
        return retriever.retrieve(bm25s.tokenize(queries, show_progress=False), k=K, show_progress=False)

    index_time, retriever = timed(index)
    search_time, results = timed(search)
    return {"index": index_time, "search": search_time, "hits": results.documents[:, 0].tolist()}


def run_wiki_search(corpus: Any, queries: list[str]) -> dict[str, Any]:
    from toolrlef_data.tools.search.wiki_search import wiki_search
    from toolrlef_data.tools.tool import ToolInput

    index_time, tool = timed(lambda: wiki_search(corpus, k=K))
    inputs = [ToolInput(query) for query in queries]
    batches = [inputs[i : i + tool.batch] for i in range(0, len(inputs), tool.batch)]
    search_time, results = timed(lambda: [result for batch in batches for result in tool.run_many(batch)])
    hits = [int(result.value[0].split(" | ")[0]) if result.value else None for result in results]
    return {"index": index_time, "search": search_time, "hits": hits}


def run_side(name: str, home: Path, num_queries: int) -> None:
    import datasets

    datasets.disable_progress_bars()
    corpus = datasets.load_from_disk(str(home / "corpus"))
    queries = list(draw_texts(num_queries, 2, 8, 2))
    passages = [f"{row['title']} {row['text']}" for row in corpus] if name == "bare" else []
    before, peak, done = anonymous_megabytes(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, anonymous_megabytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    measurements = run_bm25s(passages, queries) if name == "bare" else run_wiki_search(corpus, queries)
    done.set()
    watcher.join()
    print(json.dumps({**measurements, "before": before, "peak": max(peak, anonymous_megabytes())}))


def run_process(name: str, home: Path, hub: Path, queries: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", name, "--home", str(home), "--queries", str(queries)]
    process = subprocess.run(
        command, env={**os.environ, "HF_HOME": str(hub)}, capture_output=True, text=True, check=True
    )
    measurements: dict[str, Any] = json.loads(process.stdout)
    return measurements


def main(home: Path, rounds: int, passages: int, queries: int) -> None:
    from datasets import Dataset

    rows = list(draw_texts(passages, 60, 101, 1))
    titles = [str(i) for i in range(passages)]
    Dataset.from_dict({"title": titles, "text": rows}).save_to_disk(str(home / "corpus"))
    ratios: list[float] = []
    for number in range(rounds):
        hub = home / f"hub{number}"
        sides = [run_process(name, home, hub, queries) for name in ("bare", "tool")]
        for name, side in zip(("bm25s     ", "WikiSearch"), sides, strict=True):
            print(
                f"round {number + 1}: {name} index {side['index'][0]:.1f} s, search {side['search'][0]:.1f} s, "
                f"anonymous memory {side['before']:.0f} to {side['peak']:.0f} MB"
            )
        bare, tool = sides
        for clock, label in enumerate(("wall", "CPU")):
            index, search = (tool[phase][clock] / bare[phase][clock] for phase in ("index", "search"))
            both = [side["index"][clock] + side["search"][clock] for side in sides]
            print(
                f"    ratio of {label} time: index {index:.2f}, search {search:.2f}, together {both[1] / both[0]:.2f}"
            )
        ratios.append((tool["index"][0] + tool["search"][0]) / (bare["index"][0] + bare["search"][0]))
        agreement = statistics.mean(a == b for a, b in zip(bare["hits"], tool["hits"], strict=True))
        print(f"    same first passage: {agreement:.1%} of the queries")
    reopened = run_process("tool", home, hub, 1)
    print(f"{passages:,} passages, {queries:,} queries: {statistics.median(ratios):.2f} times the time of bare bm25s")
    print(
        f"reopened by another process: {reopened['index'][0]:.2f} s to hash the corpus, {reopened['search'][0]:.2f} s to open "
        f"the index and run a query, anonymous memory {reopened['before']:.0f} to {reopened['peak']:.0f} MB"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--side", choices=["bare", "tool"])
    parser.add_argument("--home", type=Path)
    args = parser.parse_args()
    if args.side:
        run_side(args.side, args.home, args.queries)
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder), args.rounds, args.passages, args.queries)
