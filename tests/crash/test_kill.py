"""A run with a local model that is killed anywhere asks nothing twice and ends with the bytes of an undisturbed one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.models import tiny_llama

RUN = """
import sys
from pathlib import Path
from toolrlef_data import ANNOTATIONS, EngineSpec, Responder, answer, build_stage1, build_stage2, grade, load_source, publish, respond
from toolrlef_data.engines.local.engine import LocalEngine

pulled = open(sys.argv[2], "a")
ask = LocalEngine.generate

def counted(self, requests):
    def noted():
        for key, request in requests:
            print(key, file=pulled, flush=True)
            yield key, request
    return ask(self, noted())

LocalEngine.generate = counted
model = EngineSpec("local", sys.argv[1], max_tokens=24, batch_tokens=2048, progress=False)
questions = load_source("sample", split="train").select(range(60))
graded = grade(answer(questions, model))
stage1 = build_stage1(graded, ANNOTATIONS)
sampled = EngineSpec("local", sys.argv[1], max_tokens=16, batch_tokens=2048, temperature=1.0, progress=False)
stage2 = build_stage2(respond(stage1, [Responder("plain", model), Responder("sampled", sampled, samples=2)]))
publish({"math": {"stage1": stage1, "stage2": stage2}}, sys.argv[3], version="1.0.0")
"""


def start(model: Path, home: Path) -> subprocess.Popen[bytes]:
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "HF_HOME": str(home)}
    environment.pop("TOOLRLEF_REPLIES")
    command = [sys.executable, "-c", RUN, str(model), str(home / "pulled"), str(home / "out")]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()


def stored(home: Path) -> set[str]:
    path = home / "toolrlef_data" / "replies.sqlite"
    if not path.exists():
        return set()
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        made = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'replies'").fetchone()[0]
        return {key for (key,) in connection.execute("SELECT key FROM replies")} if made else set()


def published(home: Path) -> dict[str, str]:
    files = sorted(path for path in (home / "out").rglob("*") if path.is_file())
    return {str(p.relative_to(home)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # The prompts of a byte-level vocabulary are long.
    return tiny_llama(tmp_path_factory.mktemp("model"), context=4096)


def test_killed_at_several_moments(model: Path, tmp_path: Path) -> None:
    undisturbed, home = tmp_path / "undisturbed", tmp_path / "killed"
    finish(start(model, undisturbed))
    total = len(stored(undisturbed))
    before: set[str] = set()
    for share in (0.05, 0.4, 0.8, None):  # each run but the first goes on where the one before it was killed
        process = start(model, home)
        if share is None:
            finish(process)
        else:
            with process:
                while len(stored(home)) < share * total and process.poll() is None:
                    time.sleep(0.02)
                process.send_signal(signal.SIGKILL)
        pulled = (home / "pulled").read_text().split()
        assert pulled, "something was left to ask for"
        assert before.isdisjoint(pulled), "nothing that was answered is asked again"
        before = stored(home)
        assert len(before) >= (share or 1) * total
        (home / "pulled").write_text("")
    assert stored(home) == stored(undisturbed)
    assert published(home) == published(undisturbed)
    finish(start(model, home))
    assert (home / "pulled").read_text() == "", "a finished run asks nothing"
