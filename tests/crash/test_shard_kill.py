"""Shards run by several processes, some of them killed, publish the files of a run without shards.

    python -m tests.crash.test_shard_kill --rows 200000 --shards 8 --processes 4 --kills 2

runs the same at a larger size and prints what it counted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from itertools import count
from pathlib import Path
from typing import Any

from tests.support.shards import published_files, with_engines
from toolrlef_data import merge_shards, run_recipe, run_shard, scripted
from toolrlef_data.engines.spec import Request
from toolrlef_data.recipes.schema import Recipe
from toolrlef_data.records import ToolrlefError

EVENTS = {"open", "os.mkdir", "os.remove", "os.rename", "os.link"}
KILLED = 9
COMMAND = [sys.executable, "-m", "tests.crash.test_shard_kill"]


def reply(request: Request) -> str:
    """Return a right answer, a wrong one or a call, and append a line to the log of requests."""
    descriptor = os.open(os.environ["REQUESTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b".\n")
    os.close(descriptor)
    numbers = re.findall(r"picks (\d+) figs and then (\d+)", request.messages[-1].content)
    first, second = map(int, numbers[-1])
    texts = [f"The answer is {first + second}.", f"It is {first}.", f"calculator({first}+{second})", "I do not know."]
    return texts[(first * 7 + len(request.messages[0].content)) % len(texts)]


def recipe_of(folder: Path) -> Recipe:
    values: dict[str, Any] = {
        "name": "Figs", "version": "1.0.0", "out": "out", "engines": {"model": {"kind": "scripted", "model": "x"}},
        "sources": [{"name": str(folder / "figs.jsonl"), "task": "math", "question": "q", "answers": "a", "solution": "s"}],
        "student": {"engine": "model"}, "responders": [{"name": "one", "engine": "model"}],
    }  # fmt: skip
    return with_engines(Recipe.model_validate(values), model=scripted(reply, progress=False))


def write_figs(folder: Path, rows: int) -> None:
    with open(folder / "figs.jsonl", "w", encoding="utf-8") as file:
        for n in range(rows):
            question = f"Ann picks {n} figs and then {rows + n} figs. How many figs has she?"
            row = {
                "q": question,
                "a": str(rows + 2 * n),
                "s": f"{n}+{rows + n}=<<{n}+{rows + n}={rows + 2 * n}>>{rows + 2 * n}",
            }
            print(json.dumps(row), file=file)


def start(folder: Path, task: str, *arguments: object) -> subprocess.Popen[bytes]:
    """Start a process that runs without shards ("local") or runs a shard, on a machine with a cache of its own."""
    environment = {**os.environ, "HF_HOME": str(folder / f"home-{task}"), "REQUESTS": str(folder / f"{task}-requests")}
    for name in ("TOOLRLEF_REPLIES", "HF_DATASETS_CACHE"):
        environment.pop(name, None)
    command = [*COMMAND, "--folder", str(folder), "--task", task, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def run_and_kill(folder: Path, shards: int, processes: int, kills: int, seed: int) -> int:
    """Run all shards, with up to `processes` at once, and kill some at random requests; return the number of kills."""
    draw = random.Random(seed)
    rows = count_lines(folder / "figs.jsonl")
    pending = deque(range(shards))
    running: dict[int, subprocess.Popen[bytes]] = {}
    marks = sorted(draw.randrange(1, 2 * rows) for _ in range(kills))  # requests after which a process is killed
    killed = 0
    while pending or running:
        while pending and len(running) < processes:
            index = pending.popleft()
            running[index] = start(folder, "shard", "--index", index, "--shards", shards)
        for index, process in list(running.items()):
            if process.poll() is not None:
                errors = process.communicate()[1].decode()
                assert process.returncode == 0, errors
                del running[index]
        if marks and running and count_lines(folder / "shard-requests") >= marks[0]:
            marks.pop(0)
            index = draw.choice(list(running))
            running[index].send_signal(signal.SIGKILL)
            running.pop(index).communicate()
            pending.append(index)
            killed += 1
        time.sleep(0.02)
    return killed


def check(folder: Path, rows: int, shards: int, processes: int, kills: int, seed: int = 0) -> dict[str, int]:
    """Run with and without shards, compare the published files, and return counts."""
    write_figs(folder, rows)
    local = start(folder, "local")
    errors = local.communicate()[1].decode()
    assert local.returncode == 0, errors
    killed = run_and_kill(folder, shards, processes, kills, seed)
    merge = start(folder, "merge")
    errors = merge.communicate()[1].decode()
    assert merge.returncode == 0, errors
    assert published_files(folder / "merged") == published_files(folder / "local")
    asked, needed = count_lines(folder / "shard-requests"), count_lines(folder / "local-requests")
    assert needed <= asked <= needed + killed, "a killed process had one request in flight"
    assert count_lines(folder / "merge-requests") == 0
    assert not list((folder / "shards" / "stages").iterdir()), "finished shards keep no stages"
    return {"requests without shards": needed, "requests in shards": asked, "killed": killed}


def test_killed_shards_publish_the_files_of_a_local_run(tmp_path: Path) -> None:
    counts = check(tmp_path, rows=120, shards=3, processes=2, kills=2)
    assert counts["killed"] == 2


# Every change of the files of a shard ----------------------------------------------------------------------------------


def exit_before_change(number: int, folder: Path) -> None:
    """End this process without any clean-up before a change of the files of the shards, other than stages and locks."""
    seen = count()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in EVENTS or (event == "open" and not _is_write(arguments[1])):
            return
        paths = [Path(os.fsdecode(path)) for path in arguments[:2] if isinstance(path, (str, bytes, os.PathLike))]
        names = [path.relative_to(folder).parts for path in paths if path.is_relative_to(folder)]
        if any(parts and parts[0] not in ("stages", "locks") for parts in names) and next(seen) == number:
            os._exit(KILLED)

    sys.addaudithook(hook)


def _is_write(mode: object) -> bool:
    return isinstance(mode, str) and any(letter in mode for letter in "wax+")


def kill_before_each_change(folder: Path) -> None:
    """Kill a shard before each change of its files, run it again, and compare what is published; print the number."""
    write_figs(folder, 6)
    recipe = recipe_of(folder).model_copy(update={"responders": ()})
    run_recipe(recipe, out=folder / "local")
    expected = published_files(folder / "local")
    for number in count():
        shards = folder / f"shards-{number}"
        if (child := os.fork()) == 0:
            exit_before_change(number, shards)
            run_shard(recipe, shards, 0, 1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, KILLED), status
        if not (shards / "done" / "00000-of-00001.json").exists():
            try:
                merge_shards(recipe, shards, out=folder / "out")
            except ToolrlefError:
                assert not (folder / "out").exists()
            else:
                raise AssertionError("merged without a record")
        run_shard(recipe, shards, 0, 1)
        merge_shards(recipe, shards, out=folder / f"out-{number}")
        assert published_files(folder / f"out-{number}") == expected, number
        if status == 0:
            print(number)
            return


def test_a_shard_killed_before_any_change_is_finished_by_the_next_run(tmp_path: Path) -> None:
    process = start(tmp_path, "points")
    output, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    assert int(output) > 8, "the record, three tables and the ledger are written beside their place and renamed"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--task", choices=["local", "shard", "merge", "points"])
    parser.add_argument("--index", type=int)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.task == "local":
        run_recipe(recipe_of(options.folder), out=options.folder / "local")
    elif options.task == "shard":
        run_shard(recipe_of(options.folder), options.folder / "shards", options.index, options.shards)
    elif options.task == "merge":
        merge_shards(recipe_of(options.folder), options.folder / "shards", out=options.folder / "merged")
    elif options.task == "points":
        kill_before_each_change(options.folder)
    if options.task is not None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        with open(options.folder / f"{options.task}-cost", "a", encoding="utf-8") as file:
            print(used.ru_utime + used.ru_stime, used.ru_maxrss // 1024, file=file)
        return
    with tempfile.TemporaryDirectory() as folder:
        counts = check(Path(folder), options.rows, options.shards, options.processes, options.kills, options.seed)
        for name, count in counts.items():
            print(f"{name}: {count:,}")
        for task in ("local", "shard", "merge"):
            costs = [line.split() for line in (Path(folder) / f"{task}-cost").read_text().splitlines()]
            seconds, peak = sum(float(cost[0]) for cost in costs), max(int(cost[1]) for cost in costs)
            print(f"{task}: {seconds:.1f} s of CPU, {1000 * seconds / options.rows:.2f} ms a row; peak {peak} MB")


if __name__ == "__main__":
    main()
