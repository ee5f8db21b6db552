"""Kill `publish` before each of its changes to files, and check the folder after each.

Usage: python -m tests.support.kill_points SCENARIO FOLDER

Each run is a process of its own, which ends without any clean-up. `SCENARIOS` has the publications before and after.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset, load_dataset
from datasets.data_files import EmptyDatasetError

from toolrlef_data import TASKS, InputError, load_trice, publish
from toolrlef_data.columns import STAGE1

FOREIGN = {".git/HEAD": "ref", "LICENSE": "mine", "math-a/notes.txt": "note", "mine/empty.txt": ""}
EVENTS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "os.link"}
KILLED = 9

State = Any  # what a reader sees of a folder


def table(*texts: str) -> Dataset:
    return Dataset.from_dict({"id": list(texts), "x": list(texts)})


def stage1(*texts: str, task: str = "math") -> Dataset:
    row = {"instruction": TASKS[task].instruction, "task": task, "dataset": "d", "answers": ["1"], "uses_tool": False}
    rows = [{**dict.fromkeys(STAGE1), **row, "id": text, "input": text, "output": text} for text in texts]
    return Dataset.from_list(rows, features=STAGE1)


def hub_1(out: Path) -> None:
    publish({"math": {"a": table("1"), "gone": table("g")}}, out, version="1.0.0")


def hub_2(out: Path) -> None:
    publish({"math": {"a": table("2", "3"), "new": table("n")}}, out, version="1.1.0")


def mix_1(out: Path) -> None:
    publish({"math": {"a": table("1")}, "qa": {"a": table("q")}}, out, version="1.0.0")


def mix_2(out: Path) -> None:
    publish({"math": {"a": table("2")}, "qa": {"a": table("q")}}, out, version="1.1.0")


def trice_1(out: Path) -> None:
    publish(
        {"math": {"stage1": stage1("1")}, "qa": {"stage1": stage1("q", task="qa")}},
        out,
        version="1.0.0",
        layout="trice",
    )


def trice_2(out: Path) -> None:
    publish({"math": {"stage1": stage1("2")}}, out, version="1.1.0", layout="trice")


def nothing(out: Path) -> None:
    out.mkdir()


def without_list(first: Callable[[Path], None]) -> Callable[[Path], None]:
    """Return a function that writes the folder of an earlier version, with patterns in the card and no list of files."""

    def write(out: Path) -> None:
        first(out)
        provenance, card = out / "provenance.json", out / "README.md"
        facts = json.loads(provenance.read_text())
        if card.exists():
            _, front, body = card.read_text().split("---\n", 2)
            metadata = yaml.safe_load(front)
            for config in metadata["configs"]:
                del config["version"]
                for part in config["data_files"]:
                    paths = [part["path"]] if isinstance(part["path"], str) else part["path"]
                    patterns = [path.partition("-0")[0] + "-*" for path in paths]
                    part["path"] = patterns[0] if len(patterns) == 1 else patterns
            card.write_text(f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n{body}")
        for path in out.glob("*/*.parquet"):
            path.rename(path.with_stem(path.stem.rpartition("-")[0]))
        provenance.write_text(json.dumps({key: facts[key] for key in ("version", "configs", "stages", "packages")}))

    return write


def hub_state(out: Path) -> State:
    """Return the version and the rows of every config, or the name of a reader's error."""
    try:
        if not (out / "README.md").exists():
            return list(load_dataset(str(out), split="train", streaming=True))
        metadata = yaml.safe_load((out / "README.md").read_text().split("---\n")[1])
        state = {}
        for name in [config["config_name"] for config in metadata["configs"]]:
            rows = load_dataset(str(out), name, split="train", streaming=True)
            state[name] = (str(rows.info.version), list(rows))
    except (FileNotFoundError, EmptyDatasetError) as error:
        return type(error).__name__
    return state


def card_state(out: Path) -> State:
    """Return the state of a folder in the layout "hub", or else None."""
    return hub_state(out) if (out / "README.md").exists() else None


def trice_state(out: Path) -> State:
    """Return the inputs of stage 1 by task, or None if the reader refuses the folder as incomplete."""
    try:
        return {task: sorted(tables["stage1"]["input"]) for task, tables in load_trice(out).items()}
    except InputError as error:
        assert "`publish` was interrupted" in str(error)  # noqa: PT017
        return None


# Name -> what publishes before, what publishes after, what a reader sees, the errors that a reader may get in between.
SCENARIOS: dict[
    str, tuple[Callable[[Path], None], Callable[[Path], None], Callable[[Path], State], set[str | None]]
] = {
    "hub": (hub_1, hub_2, hub_state, set()),
    "mix": (mix_1, mix_2, hub_state, set()),
    "first": (nothing, hub_1, hub_state, {"FileNotFoundError"}),
    "earlier": (without_list(hub_1), hub_2, hub_state, set()),
    "earlier_mix": (without_list(mix_1), mix_2, hub_state, set()),
    "trice": (trice_1, trice_2, trice_state, {None}),
    "layouts": (hub_1, trice_2, card_state, {"FileNotFoundError"}),
}


def killed_run(run: Callable[[Path], None], out: Path, n: int) -> bool:
    """Run a function in a process that dies before its n-th change of a file in a folder; return whether it died."""
    changes = count(1)

    def kill(event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS and str(arguments[0]).startswith(str(out)):
            reads = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if not reads and next(changes) == n:
                os._exit(KILLED)

    if (process := os.fork()) == 0:
        try:
            sys.addaudithook(kill)
            run(out)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert status in (0, KILLED), f"kill point {n}: the run failed"
    return status == KILLED


def foreign_files(out: Path) -> dict[str, str]:
    return {name: (out / name).read_text() for name in FOREIGN if (out / name).exists()}


def listing(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def main(scenario: str, folder: Path) -> None:
    before, after, state, errors = SCENARIOS[scenario]
    os.fsync = lambda fd: None  # the death of a process loses no writes
    template, complete, out = folder / "template", folder / "complete", folder / "out"
    for target in (template, complete):
        before(target)
        for name, text in FOREIGN.items():
            if before is not nothing or name.startswith("."):
                (target / name).parent.mkdir(exist_ok=True)
                (target / name).write_text(text)
    after(complete)
    foreign = foreign_files(template)
    old, new = ((state(path), version_of(path)) for path in (template, complete))
    for n in count(1):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(template, out)
        was_killed = killed_run(after, out, n)
        found, version = state(out), version_of(out)
        assert found in (old[0], new[0]) or found in errors, f"kill point {n}: neither old nor new: {found}"
        assert version is None or (found, version) in (old, new), f"kill point {n}: provenance.json of another version"
        assert foreign_files(out) == foreign, f"kill point {n}: another file has changed"
        after(out)
        assert listing(out) == listing(complete), f"kill point {n}: the next run ends otherwise"
        if not was_killed:
            print(n - 1)
            return


def version_of(out: Path) -> str | None:
    path = out / "provenance.json"
    return json.loads(path.read_text())["version"] if path.exists() else None


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
