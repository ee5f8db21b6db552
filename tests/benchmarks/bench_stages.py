"""Speed of execute + grade + score compared with a plain loop with eval; memory by number of rows; the reply store.

    python tests/benchmarks/bench_stages.py [--memory]

Prints the ratios of one run. `--memory` also measures the peak memory of the stages at 10,000, 100,000 and 1,000,000
rows, which takes several minutes. Nothing is asserted, since timings are noisy.
"""

from __future__ import annotations

import random
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

import datasets
from datasets import Dataset, Features

from toolrlef_data import build_stage2
from toolrlef_data.columns import RESPONSE, STAGE1
from toolrlef_data.engines.reply_store import ReplyStore
from toolrlef_data.engines.responses import build_response
from toolrlef_data.records import Reply
from toolrlef_data.tables.row_files import materialize

NAMES = ["gold", "few_shot", "sampled", "plain", "warmed"]
ROUNDS = 5


def draw_response(rng: random.Random, answer: int) -> str:
    draw = rng.random()
    if draw < 0.5:
        a, b = rng.randint(2, 99), rng.randint(2, 99)
        return f"calculator({a}*{b}-{a * b - answer})"
    if draw < 0.7:
        return f"calculator(({rng.randint(1, 60)}/{rng.randint(2, 60)})*{rng.randint(2, 90)})"
    return f"There were {rng.randint(1, 99)} figs, so the answer is {rng.choice([answer, answer + 3])}."


def draw_rows(count: int) -> Iterator[dict[str, Any]]:
    rng = random.Random(0)
    for i in range(count):
        answer = rng.randint(1, 500)
        row: dict[str, Any] = {
            "instruction": "Given a math problem, please answer it and you can use a calculator for help.",
            "input": f"Question {i}: how many figs are there?", "output": f"calculator({answer}*1)", "id": str(i),
            "task": "math", "dataset": "sample", "answers": [str(answer)], "uses_tool": True, "source": "teacher", "verified_by": "value",
        }  # fmt: skip
        texts = [row["output"], *(draw_response(rng, answer) for _ in NAMES[1:])]
        yield {**row, **{name: build_response(None, text=text) for name, text in zip(NAMES, texts, strict=True)}}


FEATURES = Features({**STAGE1, **dict.fromkeys(NAMES, RESPONSE)})


def plain_loop(table: list[dict[str, Any]]) -> list[list[int]]:
    """Return the scores of the stages, computed by a loop that trusts its input: regex, eval, compare, rank."""
    scores = []
    for row in table:
        gold = round(float(row["answers"][0]), 2)
        values = []
        for name in NAMES:
            text = row[name]["text"]
            call = re.search(r"calculator\((.*)\)", text)
            try:
                if call:
                    value = float(eval(call.group(1).replace(",", "").replace("^", "**")))
                else:
                    value = float(re.findall(r"-?\d+\.?\d*", text.replace(",", ""))[-1])
            except (ArithmeticError, IndexError, NameError, SyntaxError):
                value = 0.0
            values.append((name, round(value, 2), "calculator" in text))
        row_scores: dict[str, int] = {}
        wrong: list[tuple[float, int, str]] = []
        level = 15
        for name, value, uses_tool in values:
            if value == gold:
                row_scores[name] = 20 if name == "gold" or uses_tool == values[0][2] else 15
                level = 10 if row_scores[name] == 15 else level
            else:
                wrong.append((abs(value - gold), len(wrong), name))
        for _, _, name in sorted(wrong):
            row_scores[name], level = level, max(level - 5, 0)
        scores.append([row_scores[name] for name in NAMES])
    return scores


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a function runs, and its result."""
    started_at = time.perf_counter()
    result = function()
    return time.perf_counter() - started_at, result


def bench_stages() -> None:
    table = list(draw_rows(6_400))
    data = materialize(Dataset.from_list(table, features=FEATURES))
    ratios = []
    build_stage2(data)  # warm-up: imports, and code digests that are computed once per process
    for number in range(ROUNDS):
        datasets.config.HF_DATASETS_CACHE = Path(tempfile.mkdtemp(dir=HOME))  # an empty cache
        loop_time, expected = timed(lambda: plain_loop(table))
        stage_time, stage2 = timed(lambda: build_stage2(data))
        assert stage2["scores"][:] == expected
        ratios.append(loop_time / stage_time)
        print(f"  round {number + 1}: loop {loop_time:.2f} s, stages {stage_time:.2f} s, ratio {ratios[-1]:.2f}")
    print(f"execute + grade + score of 32,000 responses: {statistics.median(ratios):.2f} of the plain loop's speed")


def bench_store() -> None:
    store = ReplyStore(Path(HOME) / "bench.sqlite")
    replies = [(f"{i:032x}", Reply(f"The answer is {i}.", completion_tokens=6)) for i in range(20_000)]

    def write() -> None:
        for key, reply in replies:
            store.put([(key, reply)])

    write_time, _ = timed(write)
    read_time, num_read = timed(
        lambda: sum(len(store.get([key for key, _ in replies[i : i + 256]])) for i in range(0, len(replies), 256))
    )
    assert num_read == len(replies)
    print(f"reply store: {len(replies) / write_time:,.0f} replies written per second, one commit each")
    print(f"reply store: {len(replies) / read_time:,.0f} replies read per second")


def peak_memory(count: int) -> None:
    """Print the peak memory of the stages for a table on disk; run this in a separate process.

    Only anonymous memory counts: the system can reclaim the pages of memory-mapped Arrow files.
    """
    path = Path(HOME) / "rows"
    Dataset.from_generator(draw_rows, gen_kwargs={"count": count}, features=FEATURES, cache_dir=str(path)).save_to_disk(
        str(path / "table")
    )
    data = datasets.load_from_disk(str(path / "table"))
    before, peak = anonymous_megabytes(), 0.0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, anonymous_megabytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    seconds, stage2 = timed(lambda: build_stage2(data))
    done.set()
    watcher.join()
    assert len(stage2) == count
    print(f"{count:>9,} rows: {before:,.0f} MB before, peak {peak:,.0f} MB, {5 * count / seconds:,.0f} responses/s")


def anonymous_megabytes() -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"RssAnon:\s+(\d+) kB", status)[0]) / 1024


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as HOME:
        datasets.disable_progress_bars()
        datasets.config.HF_DATASETS_CACHE = Path(HOME) / "cache"
        if "--rows" in sys.argv:
            peak_memory(int(sys.argv[-1]))
        else:
            bench_stages()
            bench_store()
            for size in (10_000, 100_000, 1_000_000) if "--memory" in sys.argv else ():
                subprocess.run([sys.executable, __file__, "--rows", str(size)], check=True)
