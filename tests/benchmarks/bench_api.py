"""Speed of the API engine against plain AsyncOpenAI, in one and in two processes; memory over many rows.

    python tests/benchmarks/bench_api.py [--memory] [--rows N]

A local server answers every request after 100 ms; 256 requests are under way at once in all. Ours is `answer` on a
table: prompts, reply store, progress, and the finished stage. Plain is `chat.completions.create` in 256 loops, of
which nothing is kept. `--memory` measures the anonymous peak at 10,000 and 100,000 rows. Nothing here is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LATENCY, AT_ONCE, ROUNDS = 0.1, 256, 3


def plain(url: str, count: int) -> None:
    import openai

    messages: Any = [{"role": "user", "content": "How many figs are there if 12 grow on each of 4 trees?"}]
    waiting = iter(range(count))

    async def all_of_them() -> None:
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:

            async def one_after_the_other() -> None:
                for _ in waiting:
                    await client.chat.completions.create(model="m", messages=messages, max_tokens=32, temperature=0)

            await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))

    started()
    asyncio.run(all_of_them())


def questions(count: int) -> Iterator[dict[str, Any]]:
    for i in range(count):
        yield {
            "id": str(i), "task": "math", "dataset": "sample", "question": f"Figs: 12 on each of {i} trees?",
            "context": "", "answers": [str(12 * i)], "solution": "", "split_origin": "train",
        }  # fmt: skip


def ours(url: str, count: int, at_once: int) -> None:
    import openai  # noqa: F401  (what is loaded is not measured)
    from datasets import Dataset

    from toolrlef_data import EngineSpec, answer
    from toolrlef_data.columns import QUESTIONS
    from toolrlef_data.tables.stage_cache import materialize

    table = materialize(Dataset.from_generator(questions, gen_kwargs={"count": count}, features=QUESTIONS))
    before, peak, done = anonymous_megabytes(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, anonymous_megabytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started()
    answered = answer(table, EngineSpec("openai_api", "m", base_url=url, max_tokens=32, concurrency=at_once))
    done.set()
    watcher.join()
    assert len(answered) == count
    print(f"{before:,.0f} MB before, peak {peak:,.0f} MB", flush=True)


def started() -> None:
    """Wait until everybody is ready."""
    print("ready", flush=True)
    sys.stdin.readline()


def anonymous_megabytes() -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"RssAnon:\s+(\d+) kB", status)[0]) / 1024


def measure(*commands: list[str]) -> tuple[float, str]:
    """Seconds that processes took from a common start, and what the last one printed."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HF_HOME": home, "PYTHONPATH": str(ROOT)}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        running = [
            subprocess.Popen([sys.executable, __file__, *command], env=environment, text=True, **pipes)
            for command in commands
        ]
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        start = time.perf_counter()
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        printed = [process.communicate()[0] for process in running]
        spent = time.perf_counter() - start
        assert not any(process.returncode for process in running)
        return spent, printed[-1].strip()


def compare(url: str, count: int) -> None:
    one, two = [], []
    for number in range(ROUNDS):
        fewer = count // 4  # it takes long, at a steady pace
        alone = fewer / measure(["plain", url, str(fewer)])[0]
        single = count / measure(["ours", url, str(count), str(AT_ONCE)])[0]
        half = ["ours", url, str(count), str(AT_ONCE // 2)]
        double = count / measure(half, half)[0]
        one.append(single / alone)
        two.append(double / alone)
        print(
            f"  round {number + 1}: AsyncOpenAI {alone:,.0f} requests/s, ours {single:,.0f} ({one[-1]:.2f} times), "
            f"in two processes {double:,.0f} ({two[-1]:.2f} times)"
        )
    print(f"median of {ROUNDS} rounds of {count:,} requests: {statistics.median(one):.2f} times AsyncOpenAI;", end=" ")
    print(f"two processes on one store {statistics.median(two):.2f} times")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--rows", type=int, default=12_000)
    given = parser.parse_args()
    command = [sys.executable, "-m", "tests.support.api_server", "--port", "0", "--latency", str(LATENCY), "--fast"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            if given.memory:
                for count in (10_000, 100_000):
                    spent, printed = measure(["ours", url, str(count), str(AT_ONCE)])
                    print(f"{count:>9,} rows: {printed}, {count / spent:,.0f} requests/s", flush=True)
            else:
                compare(url, given.rows)
        finally:
            server.terminate()
            server.stdout.read()  # what it has served


if __name__ == "__main__":
    if sys.argv[1:2] == ["plain"]:
        plain(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1:2] == ["ours"]:
        ours(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
