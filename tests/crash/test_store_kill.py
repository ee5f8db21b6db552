"""The reply store loses no reply with concurrent writers or when a writer is killed."""

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


def start_writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, path, name, str(count)], stdout=subprocess.PIPE, text=True)


def test_concurrent_writers_lose_no_reply(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    for process in [start_writer(path, name, 300) for name in ("ada", "bob")]:
        process.communicate()
        assert process.returncode == 0
    replies = ReplyStore(path).get([f"{name}-{i}" for name in ("ada", "bob") for i in range(300)])
    assert {key: reply.text for key, reply in replies.items()} == {
        f"{name}-{i}": f"{name} says {i}" for name in ("ada", "bob") for i in range(300)
    }


@pytest.mark.parametrize("moment", [0, 7, 40])
def test_killed_writer_loses_no_stored_reply(tmp_path: Path, moment: int) -> None:
    path = tmp_path / "r.sqlite"
    with start_writer(path, "ada", 100_000) as process:
        assert process.stdout is not None
        last = -1
        process.stdout.readline()
        while last < moment:
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        last = max([last, *(int(line) for line in process.stdout if line.endswith("\n"))])
    store = ReplyStore(path)
    assert len(store.get([f"ada-{i}" for i in range(last + 1)])) == last + 1
    assert store.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
