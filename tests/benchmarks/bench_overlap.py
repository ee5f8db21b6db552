"""Speed and memory of `overlaps` and `near_duplicates` on generated word problems, and the share of changed copies found.

    python tests/benchmarks/bench_overlap.py [--rows 100000] [--num-proc 2]

1,000 test questions; a hundredth of the rows are changed copies of them, and as many are copies of earlier rows with one
other word. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import datasets
from datasets import Dataset

from toolrlef_data import lineage, near_duplicates, overlaps

ROOT = Path(__file__).parents[2]
TESTS = 1000


def build_tables(rows: int) -> tuple[Dataset, Dataset]:
    """Return a table in which every hundredth row is a copy of a test question, and the next one of an earlier row."""
    sys.path.insert(0, str(ROOT))
    from tests.support.word_problems import CHANGES, word_problems

    rng = random.Random(0)
    tests, texts = word_problems(TESTS, seed=1), word_problems(rows, seed=2)
    kinds = list(CHANGES)
    for row in range(50, rows - 1, 100):
        texts[row] = CHANGES[kinds[row // 100 % len(kinds)]](tests[rng.randrange(TESTS)], rng)
        words = texts[rng.randrange(0, row, 100)].split()
        words[rng.randrange(len(words))] = "thing"
        texts[row + 1] = " ".join(words)
    ids = [str(row) for row in range(rows)]
    return Dataset.from_dict({"id": ids, "question": texts}), Dataset.from_dict({"question": tests})


def anonymous_megabytes() -> float:
    """Return the memory of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def measured(function: Callable[[], Dataset]) -> Dataset:
    """Run a function, and print its time and its memory at the start and at the peak."""
    start, peak, running = anonymous_megabytes(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not running.wait(0.02):
            peak = max(peak, anonymous_megabytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        return function()
    finally:
        seconds, cpu = time.perf_counter() - wall, time.process_time() - cpu
        running.set()
        watcher.join()
        print(f"  {seconds:.1f} s, {cpu:.1f} s of CPU in this process; memory {start:.0f} MB, peak {peak:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--num-proc", type=int, default=1)
    options = parser.parse_args()
    data, tests = build_tables(options.rows)
    with tempfile.TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = Path(folder)
        data.save_to_disk(f"{folder}/rows")
        data = datasets.load_from_disk(f"{folder}/rows")
        print(f"overlaps: {options.rows:,} rows, {TESTS:,} test questions, {options.num_proc} processes")
        found = measured(lambda: overlaps(data, tests, num_proc=options.num_proc))
        copies = range(50, options.rows - 1, 100)
        ids = set(map(int, found["id"]))
        print(f"  copies found {len(ids.intersection(copies))} of {len(copies)}; kinds {dict(Counter(found['kind']))}")
        print(f"  other rows found {len(ids - set(copies))}")
        print(f"near_duplicates: {options.rows:,} rows")
        pairs = measured(lambda: near_duplicates(data, num_proc=options.num_proc))
        print(f"  {lineage(pairs)[-1]['published']}")


if __name__ == "__main__":
    main()
