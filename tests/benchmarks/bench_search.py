"""Speed and memory of WikiSearch against bare bm25s, over a synthetic corpus.

    python tests/benchmarks/bench_search.py [--rounds 3] [--passages 100000] [--queries 10000]

Words are drawn by Zipf's law with a fixed seed, about 80 a passage; three passages in ten hold a word with an accent.
Each side runs in a process of its own, the two in turn, and begins with the corpus as it needs it: bm25s with a list of
texts in memory, WikiSearch with a table on the disk, which it also hashes, copies and indexes to the disk. Prints the
ratio of each round, then the time and memory of another process that finds the index. Nothing here is asserted.
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


def words_of(draw: np.random.Generator) -> np.ndarray[Any, Any]:
    signs = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    lengths = draw.integers(3, 10, VOCABULARY)
    words = ["".join(draw.choice(signs, length)) for length in lengths]
    return np.array([word + "é" if i % 300 == 299 else word for i, word in enumerate(words)])


def texts(count: int, least: int, most: int, seed: int) -> Iterator[str]:
    words = words_of(np.random.default_rng(0))
    draw = np.random.default_rng(seed)
    for length in draw.integers(least, most, count):
        yield " ".join(words[np.minimum(draw.zipf(1.15, length), VOCABULARY) - 1])


def seconds(function: Callable[[], Any]) -> tuple[list[float], Any]:
    """Time on the wall and of the processor; the second hardly knows what else the machine does."""
    start = time.perf_counter(), time.process_time()
    result = function()
    return [time.perf_counter() - start[0], time.process_time() - start[1]], result


def anonymous_megabytes() -> float:
    """Pages of memory-mapped files are the system's to take back and do not count."""
    return int(re.findall(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1024


def bare(passages: list[str], queries: list[str]) -> dict[str, Any]:
    import bm25s  # type: ignore[import-untyped]

    def index() -> Any:
        made = bm25s.BM25()
        made.index(bm25s.tokenize(passages, show_progress=False), show_progress=False)
        return made

    def search() -> Any:
        return made.retrieve(bm25s.tokenize(queries, show_progress=False), k=K, show_progress=False)

    indexing, made = seconds(index)
    searching, found = seconds(search)
    return {"index": indexing, "search": searching, "hits": found.documents[:, 0].tolist()}


def ours(corpus: Any, queries: list[str]) -> dict[str, Any]:
    from toolrlef_data.tools.search.wiki_search import wiki_search
    from toolrlef_data.tools.tool import ToolInput

    indexing, tool = seconds(lambda: wiki_search(corpus, k=K))
    inputs = [ToolInput(query) for query in queries]
    parts = [inputs[i : i + tool.batch] for i in range(0, len(inputs), tool.batch)]
    searching, results = seconds(lambda: [result for part in parts for result in tool.run_many(part)])
    hits = [int(result.value[0].split(" | ")[0]) if result.value else None for result in results]
    return {"index": indexing, "search": searching, "hits": hits}


def side(name: str, home: Path, queries: int) -> None:
    import datasets

    datasets.disable_progress_bars()
    corpus = datasets.load_from_disk(str(home / "corpus"))
    asked = list(texts(queries, 2, 8, 2))
    joined = [f"{row['title']} {row['text']}" for row in corpus] if name == "bare" else []
    before, peak, done = anonymous_megabytes(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, anonymous_megabytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    figures = bare(joined, asked) if name == "bare" else ours(corpus, asked)
    done.set()
    watcher.join()
    print(json.dumps({**figures, "before": before, "peak": max(peak, anonymous_megabytes())}))


def run(name: str, home: Path, hub: Path, queries: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", name, "--home", str(home), "--queries", str(queries)]
    done = subprocess.run(command, env={**os.environ, "HF_HOME": str(hub)}, capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def main(home: Path, rounds: int, passages: int, queries: int) -> None:
    from datasets import Dataset

    rows = list(texts(passages, 60, 101, 1))
    titles = [str(i) for i in range(passages)]
    Dataset.from_dict({"title": titles, "text": rows}).save_to_disk(str(home / "corpus"))
    ratios: list[float] = []
    for number in range(rounds):
        hub = home / f"hub{number}"
        sides = [run(name, home, hub, queries) for name in ("bare", "ours")]
        for name, figures in zip(("bm25s     ", "WikiSearch"), sides, strict=True):
            print(
                f"round {number + 1}: {name} index {figures['index'][0]:.1f} s, search {figures['search'][0]:.1f} s, "
                f"anonymous memory {figures['before']:.0f} to {figures['peak']:.0f} MB"
            )
        plain, tool = sides
        for clock, what in enumerate(("wall", "processor")):
            index, search = (tool[part][clock] / plain[part][clock] for part in ("index", "search"))
            both = [figures["index"][clock] + figures["search"][clock] for figures in sides]
            print(f"    ratio of {what} time: index {index:.2f}, search {search:.2f}, together {both[1] / both[0]:.2f}")
        ratios.append((tool["index"][0] + tool["search"][0]) / (plain["index"][0] + plain["search"][0]))
        same = statistics.mean(a == b for a, b in zip(plain["hits"], tool["hits"], strict=True))
        print(f"    the same passage first: {same:.1%} of the queries")
    again = run("ours", home, hub, 1)
    print(f"{passages:,} passages, {queries:,} queries: {statistics.median(ratios):.2f} times the time of bare bm25s")
    print(
        f"found again by another process: {again['index'][0]:.2f} s to hash the corpus, {again['search'][0]:.2f} s to open "
        f"the index and answer a query, anonymous memory {again['before']:.0f} to {again['peak']:.0f} MB"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--side", choices=["bare", "ours"])
    parser.add_argument("--home", type=Path)
    given = parser.parse_args()
    if given.side:
        side(given.side, given.home, given.queries)
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder), given.rounds, given.passages, given.queries)
