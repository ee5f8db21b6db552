"""A killed run with a local model repeats no request, and its output equals that of an uninterrupted run."""

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

SCRIPT = """
import sys
from pathlib import Path
from toolrlef_data import ANNOTATIONS, EngineSpec, Responder, answer, build_stage1, build_stage2, grade, load_source, publish, respond
from toolrlef_data.engines.local.engine import LocalEngine

pulled = open(sys.argv[2], "a")
generate = LocalEngine.generate

def generate_and_log(self, requests):
    def logged_requests():
        for key, request in requests:
            print(key, file=pulled, flush=True)
            yield key, request
    return generate(self, logged_requests())

LocalEngine.generate = generate_and_log
model = EngineSpec("local", sys.argv[1], max_tokens=24, batch_tokens=2048, progress=False)
questions = load_source("sample", split="train").select(range(60))
graded = grade(answer(questions, model), compat=True)  # the replies of the tiny model are cut off
stage1 = build_stage1(graded, ANNOTATIONS)
sampled = EngineSpec("local", sys.argv[1], max_tokens=16, batch_tokens=2048, temperature=1.0, progress=False)
candidates = respond(stage1, [Responder("plain", model), Responder("sampled", sampled, samples=2)])
stage2 = build_stage2(candidates, compat=True)
publish({"math": {"stage1": stage1, "stage2": stage2}}, sys.argv[3], version="1.0.0")
"""


def start(model: Path, home: Path) -> subprocess.Popen[bytes]:
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "HF_HOME": str(home)}
    environment.pop("TOOLRLEF_REPLIES")
    command = [sys.executable, "-c", SCRIPT, str(model), str(home / "pulled"), str(home / "out")]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()


def stored_keys(home: Path) -> set[str]:
    path = home / "toolrlef_data" / "replies.sqlite"
    if not path.exists():
        return set()
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        has_table = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'replies'").fetchone()[0]
        return {key for (key,) in connection.execute("SELECT key FROM replies")} if has_table else set()


def file_digests(home: Path) -> dict[str, str]:
    files = sorted(path for path in (home / "out").rglob("*") if path.is_file())
    return {str(p.relative_to(home)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A large context, because the tokenizer encodes prompts into many tokens.
    return tiny_llama(tmp_path_factory.mktemp("model"), context=4096)


def test_run_killed_at_several_points(model: Path, tmp_path: Path) -> None:
    uninterrupted, home = tmp_path / "uninterrupted", tmp_path / "killed"
    finish(start(model, uninterrupted))
    total = len(stored_keys(uninterrupted))
    stored_before: set[str] = set()
    for share in (0.05, 0.4, 0.8, None):  # each run resumes the previous one
        process = start(model, home)
        if share is None:
            finish(process)
        else:
            with process:
                while len(stored_keys(home)) < share * total and process.poll() is None:
                    time.sleep(0.02)
                process.send_signal(signal.SIGKILL)
        pulled = (home / "pulled").read_text().split()
        assert pulled, "the run had pending requests"
        assert stored_before.isdisjoint(pulled), "a stored reply was requested again"
        stored_before = stored_keys(home)
        assert len(stored_before) >= (share or 1) * total
        (home / "pulled").write_text("")
    assert stored_keys(home) == stored_keys(uninterrupted)
    assert file_digests(home) == file_digests(uninterrupted)
    finish(start(model, home))
    assert (home / "pulled").read_text() == "", "a finished run sends no request"
