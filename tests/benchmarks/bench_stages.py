"""Speed of execute + score against a plain loop with eval; memory over many rows; the reply store.

    python tests/benchmarks/bench_stages.py [--memory]

Prints ratios of one run. `--memory` also measures the peak memory of execute + score at 10,000, 100,000 and 1,000,000
rows, which takes some minutes. Nothing here is asserted: machines are noisy.
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
from toolrlef_data.tables.stage_cache import materialize

NAMES = ["gold", "few_shot", "sampled", "plain", "warmed"]
ROUNDS = 5


def response(rng: random.Random, answer: int) -> str:
    draw = rng.random()
    if draw < 0.5:
        a, b = rng.randint(2, 99), rng.randint(2, 99)
        return f"calculator({a}*{b}-{a * b - answer})"
    if draw < 0.7:
        return f"calculator(({rng.randint(1, 60)}/{rng.randint(2, 60)})*{rng.randint(2, 90)})"
    return f"There were {rng.randint(1, 99)} figs, so the answer is {rng.choice([answer, answer + 3])}."


def rows(count: int) -> Iterator[dict[str, Any]]:
    rng = random.Random(0)
    for i in range(count):
        answer = rng.randint(1, 500)
        row: dict[str, Any] = {
            "instruction": "Given a math problem, please answer it and you can use a calculator for help.",
            "input": f"Question {i}: how many figs are there?", "output": f"calculator({answer}*1)", "id": str(i),
            "task": "math", "dataset": "sample", "answers": [str(answer)], "uses_tool": True, "source": "teacher", "verified_by": "value",
        }  # fmt: skip
        texts = [row["output"], *(response(rng, answer) for _ in NAMES[1:])]
        yield {**row, **{name: build_response(None, text=text) for name, text in zip(NAMES, texts, strict=True)}}


FEATURES = Features({**STAGE1, **dict.fromkeys(NAMES, RESPONSE)})


def plain_loop(table: list[dict[str, Any]]) -> list[list[int]]:
    """What the stages do, written as one loop that trusts its input: regex, eval, compare, rank."""
    scores = []
    for row in table:
        gold = round(float(row["answers"][0]), 2)
        read = []
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
            read.append((name, round(value, 2), "calculator" in text))
        own: dict[str, int] = {}
        wrong: list[tuple[float, int, str]] = []
        level = 15
        for name, value, tool in read:
            if value == gold:
                own[name] = 20 if name == "gold" or tool == read[0][2] else 15
                level = 10 if own[name] == 15 else level
            else:
                wrong.append((abs(value - gold), len(wrong), name))
        for _, _, name in sorted(wrong):
            own[name], level = level, max(level - 5, 0)
        scores.append([own[name] for name in NAMES])
    return scores


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def bench_stages() -> None:
    table = list(rows(6_400))
    data = materialize(Dataset.from_list(table, features=FEATURES))
    ratios = []
    build_stage2(data)  # not counted: imports, and digests of the code, which are taken once in a process
    for number in range(ROUNDS):
        datasets.config.HF_DATASETS_CACHE = Path(tempfile.mkdtemp(dir=HOME))  # nothing is cached
        loop, expected = seconds(lambda: plain_loop(table))
        ours, stage2 = seconds(lambda: build_stage2(data))
        assert stage2["scores"][:] == expected
        ratios.append(loop / ours)
        print(f"  round {number + 1}: loop {loop:.2f} s, stages {ours:.2f} s, ratio {loop / ours:.2f}")
    print(f"execute + grade + score of 32,000 responses: {statistics.median(ratios):.2f} of the plain loop's speed")


def bench_store() -> None:
    store = ReplyStore(Path(HOME) / "bench.sqlite")
    replies = [(f"{i:032x}", Reply(f"The answer is {i}.", completion_tokens=6)) for i in range(20_000)]

    def write() -> None:
        for key, reply in replies:
            store.put([(key, reply)])

    writing, _ = seconds(write)
    reading, found = seconds(
        lambda: sum(len(store.get([key for key, _ in replies[i : i + 256]])) for i in range(0, len(replies), 256))
    )
    assert found == len(replies)
    print(f"reply store: {len(replies) / writing:,.0f} replies written a second, one commit each")
    print(f"reply store: {len(replies) / reading:,.0f} replies read a second")


def peak_memory(count: int) -> None:
    """Run in a process of its own: peak memory of execute + score over a table on disk.

    Anonymous memory is what counts: pages of memory-mapped Arrow files are the system's to take back.
    """
    path = Path(HOME) / "rows"
    Dataset.from_generator(rows, gen_kwargs={"count": count}, features=FEATURES, cache_dir=str(path)).save_to_disk(
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
    spent, stage2 = seconds(lambda: build_stage2(data))
    done.set()
    watcher.join()
    assert len(stage2) == count
    print(f"{count:>9,} rows: {before:,.0f} MB before, peak {peak:,.0f} MB, {5 * count / spent:,.0f} responses/s")


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
