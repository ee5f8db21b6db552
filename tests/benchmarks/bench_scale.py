"""CPU time, anonymous memory and disk of every stage by number of rows, with growth exponents and bytes a row.

    python tests/benchmarks/bench_scale.py [--sizes 10000,100000,1000000] [--stages load_source,answer,...]

The rows are synthetic questions of 50 words in GSM8K's form; student and responder are scripted, ANNOTATIONS is the
teacher. Each stage runs in a process of its own that reads the stages before it from the cache. Only anonymous memory
counts: the system can reclaim the pages of memory-mapped files. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NAMES = ("Ann", "Bo", "Cy", "Dee", "Eve", "Fay", "Gus", "Hal")
THINGS = ("figs", "plums", "pears", "cakes", "tickets", "stamps", "coins", "books")


def draw_rows(count: int) -> Iterator[dict[str, str]]:
    rng = random.Random(0)
    for n in range(count):
        a, b, price = rng.randint(3, 60), rng.randint(2, 40), rng.randint(2, 9)
        (who, other), (thing, rest) = rng.sample(NAMES, 2), rng.sample(THINGS, 2)
        question = (
            f"{who} keeps the {thing} of the market number {n} in a room with a door, and {who} has {a} {thing} there "
            f"on the first morning. Then {other} brings {b} more {thing} and a few {rest} that nobody counts. Each of "
            f"the {thing} costs {price} dollars. How many dollars do all the {thing} cost?"
        )
        total = a + b
        solution = f"Together there are {a}+{b} = <<{a}+{b}={total}>>{total} {thing}.\nThey cost {total}*{price} = "
        solution += f"$<<{total}*{price}={total * price}>>{total * price}.\n#### {total * price}"
        yield {"question": question, "answer": solution}


def run_stages(folder: Path, last: str, measure: Callable[[Callable[[], Any]], Any]) -> int:
    """Run the stages up to `last`, which is measured; return its number of rows."""
    from toolrlef_data import (
        ANNOTATIONS,
        Responder,
        answer,
        build_stage1,
        build_stage2,
        grade,
        load_source,
        publish,
        respond,
        scripted,
    )

    student = scripted({"": "The answer is 7."}, progress=False)
    responders = [Responder(name, scripted({"": f"calculator({n}*7)"}, progress=False)) for n, name in enumerate("ab")]
    data: Any = None
    stages: dict[str, Callable[[], Any]] = {
        "load_source": lambda: load_source("gsm8k", split="train", data_dir=folder),
        "answer": lambda: answer(data, student),
        "grade": lambda: grade(data),
        "build_stage1": lambda: build_stage1(data, ANNOTATIONS),
        "respond": lambda: respond(data, responders),
        "build_stage2": lambda: build_stage2(data),
        "publish": lambda: publish({"math": {"stage2": data}}, folder / "out", version="1.0.0"),
    }
    for name, stage in stages.items():
        if name == last:
            rows = len(data) if data is not None else 0
            result = measure(stage)
            return rows or len(result)
        data = stage()
    raise ValueError(last)


def measure_stage(folder: Path, name: str) -> None:
    """Print the measurements of one stage as JSON; for a process of its own."""
    import datasets

    datasets.disable_progress_bars()
    facts: dict[str, float] = {}

    def measure(stage: Callable[[], Any]) -> Any:
        disk, before, cpu = disk_bytes(folder), anonymous_bytes(), time.process_time()
        peak, done = [before], threading.Event()

        def watch() -> None:
            while not done.wait(0.002):
                peak[0] = max(peak[0], anonymous_bytes())

        watcher = threading.Thread(target=watch)
        watcher.start()
        result = stage()
        facts["cpu"] = time.process_time() - cpu
        done.set()
        watcher.join()
        facts.update(before=before, peak=max(peak[0], anonymous_bytes()), disk=disk_bytes(folder) - disk)
        return result

    facts["rows"] = run_stages(folder, name, measure)
    print(json.dumps(facts))


def anonymous_bytes() -> int:
    return int(re.findall(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024


def disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--stages", default="load_source,answer,grade,build_stage1,respond,build_stage2,publish")
    parser.add_argument("--measure", nargs=2, help="folder and stage: used by this script")
    args = parser.parse_args()
    if args.measure:
        measure_stage(Path(args.measure[0]), args.measure[1])
        return
    found: dict[str, list[dict[str, float]]] = {}
    for size in map(int, args.sizes.split(",")):
        with tempfile.TemporaryDirectory() as home:
            with (Path(home) / "train.jsonl").open("w") as file:
                file.writelines(f"{json.dumps(row)}\n" for row in draw_rows(size))
            for stage in args.stages.split(","):
                command = [sys.executable, __file__, "--measure", home, stage]
                done = subprocess.run(
                    command, env={**os.environ, "HF_HOME": f"{home}/hf"}, check=True, stdout=subprocess.PIPE, text=True
                )
                facts = json.loads(done.stdout)
                found.setdefault(stage, []).append(facts)
                print_facts(stage, facts, found[stage])


def print_facts(stage: str, facts: dict[str, float], sizes: list[dict[str, float]]) -> None:
    rows = facts["rows"]
    line = f"{stage:13} {rows:>9,.0f} rows: {1000 * facts['cpu'] / rows:.3f} ms CPU a row, memory "
    line += f"{facts['before'] / 1e6:.0f} to {facts['peak'] / 1e6:.0f} MB, disk {facts['disk'] / rows:,.0f} bytes a row"
    if len(sizes) > 1:
        smaller = sizes[-2]
        exponent = math.log(facts["cpu"] / smaller["cpu"]) / math.log(rows / smaller["rows"])
        growth = (facts["peak"] - smaller["peak"]) / (rows - smaller["rows"])
        line += f"; CPU exponent {exponent:.2f}, memory {growth:+.0f} bytes a row"
    print(line, flush=True)


if __name__ == "__main__":
    main()
