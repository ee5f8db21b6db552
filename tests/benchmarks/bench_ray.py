"""CPU time of the same recipe in one process, with num_proc, and on Ray: driver, workers and Ray's own processes.

    python tests/benchmarks/bench_ray.py [--rows 20000] [--ways local,num_proc,shards,steps]

The recipe grades the questions of `bench_scale` with a scripted student, makes stage 1 with ANNOTATIONS and publishes it.
Each way runs in a network and process name space of its own (Linux, with the programs unshare and ip), whose processes
are counted; caches are empty. It must publish the files of the first way. Nothing else is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.bench_scale import draw_rows
from tests.crash.test_ray_run import ray_cluster
from tests.support.namespaces import LOOPBACK_UP, UNSHARE, ray_environment
from tests.support.shards import published_files, with_engines

WORKERS = 2
SHARDS = 4
SAMPLE_SECONDS = 0.1  # the CPU time of a process that is killed is known up to this time before its end
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(way: str) -> dict[tuple[int, int], tuple[str, float]]:
    """Return (process, start) -> what the process is, and its CPU time, for the processes of this name space."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        is_worker = b"ray::ShardWorker" in command or b"ray::StepWorker" in command
        is_worker |= way in ("local", "num_proc")
        kind = "driver" if folder.name == str(os.getpid()) else "workers" if is_worker else "ray"
        found[int(folder.name), int(fields[19])] = kind, (int(fields[11]) + int(fields[12])) / TICKS
    return found


def run(way: str, folder: Path) -> None:
    """Run the recipe in a way, and print the CPU times as JSON; for a process of its own."""
    from toolrlef_data import backend, run_on_ray, run_recipe, scripted
    from toolrlef_data.recipes.schema import Recipe

    values = {
        "name": "Bench", "version": "1.0.0", "out": "out", "engines": {"model": {"kind": "scripted", "model": "x"}},
        "sources": [{"name": "gsm8k", "data_dir": str(folder)}], "student": {"engine": "model"},
    }  # fmt: skip
    model = scripted({"": "The answer is 7."}, progress=False)
    recipe, out = with_engines(Recipe.model_validate(values), model=model), folder / f"out-{way}"
    seen: dict[tuple[int, int], tuple[str, float]] = {}
    totals: dict[str, float] = {}
    is_done = threading.Event()

    def sample() -> None:
        while not is_done.wait(SAMPLE_SECONDS):
            seen.update(cpu_seconds(way))

    thread = threading.Thread(target=sample)
    thread.start()
    start = time.monotonic()
    if way in ("local", "num_proc"):
        run_recipe(recipe, out=out, num_proc=WORKERS if way == "num_proc" else None)
    else:
        shared = folder / f"shared-{way}"
        with ray_cluster(WORKERS) as cluster:
            if way == "shards":
                run_on_ray(recipe, shared, SHARDS, address=cluster.address, out=out)
            else:
                with backend("ray", address=cluster.address, shards=SHARDS, folder=shared):
                    run_recipe(recipe, out=out)
    wall = time.monotonic() - start
    is_done.set()
    thread.join()
    seen.update(cpu_seconds(way))
    for kind, seconds in seen.values():
        totals[kind] = round(totals.get(kind, 0.0) + seconds, 2)
    print(json.dumps({"wall": wall, **totals}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--ways", default="local,num_proc,shards,steps")
    parser.add_argument("--run", nargs=2, help="way and folder: used by this script")
    args = parser.parse_args()
    if args.run:
        run(args.run[0], Path(args.run[1]))
        return
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as home:
        folder = Path(home)
        with (folder / "train.jsonl").open("w") as file:
            file.writelines(f"{json.dumps(row)}\n" for row in draw_rows(args.rows))
        expected = None
        for way in args.ways.split(","):
            own = {"HOME": home, "HF_HOME": f"{home}/hf-{way}", "RAY_TMPDIR": home, **ray_environment()}
            environment = {**os.environ, **own, "PYTHONWARNINGS": "ignore"}
            command = [*UNSHARE, *LOOPBACK_UP, sys.executable, __file__, "--run", way, home]
            done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            facts = json.loads(done.stdout.splitlines()[-1])
            wall, total = facts.pop("wall"), sum(facts.values())
            parts = ", ".join(f"{kind} {seconds:.1f}" for kind, seconds in facts.items())
            line = f"{way:9} {total:6.1f} s of CPU ({parts}), {1000 * total / args.rows:.2f} ms a row; {wall:.0f} s"
            print(line, flush=True)
            files = published_files(folder / f"out-{way}")
            assert expected in (None, files), f"{way} publishes other files"
            expected = files


if __name__ == "__main__":
    main()
