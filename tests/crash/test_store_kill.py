"""Processes that write into one reply store, or are killed while they write, lose no reply that was put."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from toolrlef_data.engines.reply_store import ReplyStore

WRITER = """
import sys
from pathlib import Path
from toolrlef_data.records import Reply
from toolrlef_data.engines.reply_store import ReplyStore
store = ReplyStore(Path(sys.argv[1]))
print("open", flush=True)
for i in range(int(sys.argv[3])):
    store.put([(f"{sys.argv[2]}-{i}", Reply(f"{sys.argv[2]} says {i}"))])
    print(i, flush=True)
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, path, name, str(count)], stdout=subprocess.PIPE, text=True)


def test_two_processes_lose_and_mix_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    for process in [writer(path, name, 300) for name in ("ada", "bob")]:
        process.communicate()
        assert process.returncode == 0
    found = ReplyStore(path).get([f"{name}-{i}" for name in ("ada", "bob") for i in range(300)])
    assert {key: reply.text for key, reply in found.items()} == {
        f"{name}-{i}": f"{name} says {i}" for name in ("ada", "bob") for i in range(300)
    }


@pytest.mark.parametrize("moment", [0, 7, 40])
def test_a_kill_loses_no_reply_that_was_put(tmp_path: Path, moment: int) -> None:
    path = tmp_path / "r.sqlite"
    with writer(path, "ada", 100_000) as process:
        assert process.stdout is not None
        seen = -1
        process.stdout.readline()
        while seen < moment:
            seen = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        seen = max([seen, *(int(line) for line in process.stdout if line.endswith("\n"))])
    store = ReplyStore(path)
    assert len(store.get([f"ada-{i}" for i in range(seen + 1)])) == seen + 1
    assert store.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
