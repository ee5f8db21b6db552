"""A search index that several processes build at once, or one that is killed, is built once and never half."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import wait_until
from tests.tools.search.test_wiki_search import drawn, folder_of, own_home, titles
from toolrlef_data.tools.search.bm25 import indexes_dir
from toolrlef_data.tools.search.wiki_search import wiki_search

ROOT = Path(__file__).parents[2]
__all__ = ["own_home"]  # a fixture


SEARCH = """
import sys
from toolrlef_data.tools.search.wiki_search import wiki_search
tool = wiki_search(sys.argv[1])
print(tool.version, tool.run("word0001").value[0], sep="\\n")
with open("/proc/self/maps") as maps:
    print(*sorted({line.split("/")[-1].strip() for line in maps if "indexes" in line}))
"""


def process(corpus: Path, home: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", SEARCH, str(corpus)]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "HF_HOME": str(home)}, stdout=subprocess.PIPE, text=True
    )


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (folder, *folder.iterdir())}


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"title": str(i), "text": t}) + "\n" for i, t in enumerate(drawn(3000, 20, 5))))
    return path


def test_processes_at_once_build_once_and_later_ones_find_it_mapped(lines: Path, own_home: Path) -> None:
    both = [process(lines, own_home) for _ in range(2)]
    outputs = [each.communicate()[0].splitlines() for each in both]
    assert [each.returncode for each in both] == [0, 0]
    tool = wiki_search(lines)
    assert outputs[0] == outputs[1]
    assert outputs[0][0] == tool.version
    value = tool.run("word0001").value
    assert isinstance(value, tuple)
    assert outputs[0][1] == value[0]
    assert {"passages.arrow", "data.csc.index.npy", "indices.csc.index.npy"} <= set(outputs[0][2].split())
    before = state(folder_of(tool))
    third = process(lines, own_home)
    assert third.communicate()[0].splitlines() == outputs[0]
    assert state(folder_of(tool)) == before, "no file was written again"
    left = {path.suffix for path in indexes_dir().iterdir()}
    assert left == {"", ".lock"}


def test_a_killed_build_leaves_nothing_half(lines: Path, own_home: Path) -> None:
    lines.write_text(lines.read_text() * 10)
    killed = process(lines, own_home)
    wait_until(lambda: any((own_home / "toolrlef_data" / "indexes").glob(".*.new/*")))
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert list((own_home / "toolrlef_data" / "indexes").glob(".*.new"))
    assert not list(indexes_dir().glob("*/manifest.json"))
    tool = wiki_search(lines)
    assert titles(tool, "word0001")
    assert not list(indexes_dir().glob(".*.new"))
