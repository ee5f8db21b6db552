"""A search index is built once by concurrent processes, and a killed build leaves no partial index."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import wait_until
from tests.tools.search.test_wiki_search import folder_of, random_texts, temporary_home, titles
from toolrlef_data.tools.search.bm25 import indexes_dir
from toolrlef_data.tools.search.wiki_search import wiki_search

ROOT = Path(__file__).parents[2]
__all__ = ["temporary_home"]  # a fixture


SEARCH = """
import sys
from toolrlef_data.tools.search.wiki_search import wiki_search
tool = wiki_search(sys.argv[1])
print(tool.version, tool.run("word0001").value[0], sep="\\n")
with open("/proc/self/maps") as maps:
    print(*sorted({line.split("/")[-1].strip() for line in maps if "indexes" in line}))
"""


def start_search(corpus: Path, home: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", SEARCH, str(corpus)]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "HF_HOME": str(home)}, stdout=subprocess.PIPE, text=True
    )


def file_states(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (folder, *folder.iterdir())}


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text(
        "".join(json.dumps({"title": str(i), "text": t}) + "\n" for i, t in enumerate(random_texts(3000, 20, 5)))
    )
    return path


def test_concurrent_processes_build_one_index_and_later_ones_map_it(lines: Path, temporary_home: Path) -> None:
    processes = [start_search(lines, temporary_home) for _ in range(2)]
    outputs = [process.communicate()[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    tool = wiki_search(lines)
    assert outputs[0] == outputs[1]
    assert outputs[0][0] == tool.version
    value = tool.run("word0001").value
    assert isinstance(value, tuple)
    assert outputs[0][1] == value[0]
    assert {"passages.arrow", "data.csc.index.npy", "indices.csc.index.npy"} <= set(outputs[0][2].split())
    states = file_states(folder_of(tool))
    later = start_search(lines, temporary_home)
    assert later.communicate()[0].splitlines() == outputs[0]
    assert file_states(folder_of(tool)) == states, "no file was rewritten"
    suffixes = {path.suffix for path in indexes_dir().iterdir()}
    assert suffixes == {"", ".lock"}


def test_killed_build_leaves_no_partial_index(lines: Path, temporary_home: Path) -> None:
    lines.write_text(lines.read_text() * 10)
    killed = start_search(lines, temporary_home)
    wait_until(lambda: any((temporary_home / "toolrlef_data" / "indexes").glob(".*.new/*")))
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert list((temporary_home / "toolrlef_data" / "indexes").glob(".*.new"))
    assert not list(indexes_dir().glob("*/manifest.json"))
    tool = wiki_search(lines)
    assert titles(tool, "word0001")
    assert not list(indexes_dir().glob(".*.new"))
