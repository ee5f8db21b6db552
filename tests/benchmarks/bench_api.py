"""Throughput of the API engine compared with plain AsyncOpenAI, in one and two processes; memory by number of rows.

    python tests/benchmarks/bench_api.py [--memory | --faults] [--rows N]

A local server sends each reply after 100 ms; 256 requests are in flight in total. `stage` runs `answer` on a table:
prompts, reply store, progress and the finished stage. `plain` calls `chat.completions.create` in 256 loops and discards
the replies. `--memory` measures the peak of anonymous memory at 10,000 and 100,000 rows. `--faults` counts the requests in flight on a
server with passing faults, from the start until the last row is sent. Nothing is asserted.
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
LATENCY, CONCURRENCY, ROUNDS = 0.1, 256, 3


def run_plain(url: str, count: int) -> None:
    import openai

    messages: Any = [{"role": "user", "content": "How many figs are there if 12 grow on each of 4 trees?"}]
    remaining = iter(range(count))

    async def send_all() -> None:
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:

            async def send_in_a_loop() -> None:
                for _ in remaining:
                    await client.chat.completions.create(model="m", messages=messages, max_tokens=32, temperature=0)

            await asyncio.gather(*(send_in_a_loop() for _ in range(CONCURRENCY)))

    wait_for_start()
    asyncio.run(send_all())


def questions(count: int) -> Iterator[dict[str, Any]]:
    for i in range(count):
        yield {
            "id": str(i), "task": "math", "dataset": "sample", "question": f"Figs: 12 on each of {i} trees?",
            "context": "", "answers": [str(12 * i)], "solution": "", "split_origin": "train",
        }  # fmt: skip


def run_stage(url: str, count: int, concurrency: int) -> None:
    import openai  # noqa: F401  (imports are not measured)
    from datasets import Dataset

    from toolrlef_data import EngineSpec, answer
    from toolrlef_data.columns import QUESTIONS
    from toolrlef_data.tables.row_files import materialize

    table = materialize(Dataset.from_generator(questions, gen_kwargs={"count": count}, features=QUESTIONS))
    before, peak, done = anonymous_megabytes(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, anonymous_megabytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    wait_for_start()
    result = answer(table, EngineSpec("openai_api", "m", base_url=url, max_tokens=32, concurrency=concurrency))
    done.set()
    watcher.join()
    assert len(result) == count
    print(f"{before:,.0f} MB before, peak {peak:,.0f} MB", flush=True)


def wait_for_start() -> None:
    """Report that this process is ready, and wait until all are."""
    print("ready", flush=True)
    sys.stdin.readline()


def anonymous_megabytes() -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"RssAnon:\s+(\d+) kB", status)[0]) / 1024


def measure(*commands: list[str]) -> tuple[float, str]:
    """Return the seconds from the common start to the end of all processes, and the output of the last one."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HF_HOME": home, "PYTHONPATH": str(ROOT)}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        processes = [
            subprocess.Popen([sys.executable, __file__, *command], env=environment, text=True, **pipes)
            for command in commands
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        started_at = time.perf_counter()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        outputs = [process.communicate()[0] for process in processes]
        seconds = time.perf_counter() - started_at
        assert not any(process.returncode for process in processes)
        return seconds, outputs[-1].strip()


def compare(url: str, count: int) -> None:
    ratios, pair_ratios = [], []
    for number in range(ROUNDS):
        plain_count = count // 4  # slow, but at a steady rate
        plain = plain_count / measure(["plain", url, str(plain_count)])[0]
        single = count / measure(["stage", url, str(count), str(CONCURRENCY)])[0]
        half = ["stage", url, str(count), str(CONCURRENCY // 2)]
        pair = count / measure(half, half)[0]
        ratios.append(single / plain)
        pair_ratios.append(pair / plain)
        print(
            f"  round {number + 1}: AsyncOpenAI {plain:,.0f} requests/s, stage {single:,.0f} ({ratios[-1]:.2f} times), "
            f"in two processes {pair:,.0f} ({pair_ratios[-1]:.2f} times)"
        )
    print(
        f"median of {ROUNDS} rounds of {count:,} requests: {statistics.median(ratios):.2f} times AsyncOpenAI;", end=" "
    )
    print(f"two processes on one store {statistics.median(pair_ratios):.2f} times")


def show_faults(rows: int) -> None:
    """Print the mean and the minimum of the requests in flight, ten times a second, for several mixes of faults."""
    import random

    from tests.support.api_replies import ReceivedRequest, ServerReply, error, rate_limited
    from tests.support.api_server import ApiServer
    from toolrlef_data.engines.openai_api.engine import OpenAIEngine
    from toolrlef_data.engines.spec import EngineSpec, Request

    faults = {
        "429": rate_limited(),
        "429 with Retry-After": rate_limited(retry_after="1"),
        "500": error(500, None, "boom"),
        "503 with Retry-After": ServerReply(503, b"", {"retry-after": "1"}),
        "timeout": ServerReply(delay=60.0),
    }
    mixes = [(), *((name,) for name in faults), ("429", "500", "timeout")]
    for mix in mixes:
        draw, first_attempts = random.Random(0), [0]
        samples: list[int] = []

        def script(
            received: ReceivedRequest,
            repeats: int,
            mix: Any = mix,
            draw: Any = draw,
            first_attempts: Any = first_attempts,
        ) -> ServerReply:
            first_attempts[0] += repeats == 0
            number = int(draw.random() / 0.03)
            return faults[mix[number]] if number < len(mix) else ServerReply(delay=draw.lognormvariate(0, 0.3))

        with ApiServer(script) as server:
            spec = EngineSpec(
                "openai_api", "m", base_url=server.url, concurrency=CONCURRENCY, timeout=5, progress=False
            )
            requests = ((str(i), Request(prompt=f"Figs: {i} trees?")) for i in range(rows))
            done = threading.Event()

            def watch(
                server: Any = server, samples: Any = samples, done: Any = done, first_attempts: Any = first_attempts
            ) -> None:
                while not done.wait(0.1) and first_attempts[0] < rows:
                    samples.append(server.in_flight)

            watcher = threading.Thread(target=watch)
            watcher.start()
            started_at = time.perf_counter()
            with OpenAIEngine(spec) as engine:
                num_replies = sum(reply.text is not None for batch in engine.generate(requests) for _, reply in batch)
            seconds = time.perf_counter() - started_at
            done.set()
            watcher.join()
            steady = samples[10:] or samples  # after the first second
            print(
                f"  3 % each of {', '.join(mix) or 'no fault':26} in flight: mean {statistics.mean(steady):5.1f}, "
                f"minimum {min(steady):3}; {num_replies:,} replies, {len(server.requests):,} requests, {seconds:.0f} s",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--rows", type=int, default=12_000)
    parser.add_argument("--faults", action="store_true")
    args = parser.parse_args()
    if args.faults:
        sys.path.insert(0, str(ROOT))
        show_faults(args.rows)
        return
    command = [sys.executable, "-m", "tests.support.api_server", "--port", "0", "--latency", str(LATENCY), "--fast"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            if args.memory:
                for count in (10_000, 100_000):
                    seconds, output = measure(["stage", url, str(count), str(CONCURRENCY)])
                    print(f"{count:>9,} rows: {output}, {count / seconds:,.0f} requests/s", flush=True)
            else:
                compare(url, args.rows)
        finally:
            server.terminate()
            server.stdout.read()  # the server prints its counts when it ends


if __name__ == "__main__":
    if sys.argv[1:2] == ["plain"]:
        run_plain(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1:2] == ["stage"]:
        run_stage(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
