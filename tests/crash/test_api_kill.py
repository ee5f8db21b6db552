"""Runs against an API that are killed, interrupted, doubled or robbed of their store lose nothing and pay nothing twice.

Not covered: batch mode, and a machine that loses its power.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.api_runs import (
    CONCURRENCY,
    STALL_SECONDS,
    answer_texts,
    column_values,
    load_questions,
    mark,
    owner_files,
    row_number,
    sent_marks,
    stall_first_requests,
    stored_marks,
    sum_reply,
    write_questions,
)
from tests.support.api_server import ApiServer, ReceivedRequest, ServerReply, error, rate_limited
from tests.support.waiting import HANG_TIMEOUT, wait_until

Process = subprocess.Popen[bytes]
STARTED: list[Process] = []
HEAD = f"""
import sys
from toolrlef_data import *
from toolrlef_data.engines.spec import Limits
url, source, out = sys.argv[1:4]
settings = dict(base_url=url, concurrency={CONCURRENCY}, limits=Limits(backoff=0.01), timeout=3600.0, progress=False)
student = EngineSpec("openai_api", "student", **settings)
import aiohttp, datasets, openai
sys.stdin.readline()  # imported, and ready to go
questions = load_source("gsm8k", split="train", data_dir=source)
"""
ANSWER = HEAD + "answer(questions, student)\n"
EVERYTHING = (
    HEAD
    + """
from dataclasses import replace
graded = grade(answer(questions, student))
stage1 = build_stage1(graded, replace(student, model="teacher"), attempts=2)
sampled = Responder("sampled", replace(student, model="b", temperature=1.0), samples=2)
stage2 = build_stage2(respond(stage1, [Responder("plain", replace(student, model="a")), sampled]))
publish({"math": {"stage1": stage1, "stage2": stage2}}, out, version="1.0.0")
"""
)
# What asyncio, aiohttp and Python say on standard error of what was left open, half done or never looked at.
NOISE = re.compile(
    r"never retrieved|was destroyed|Event loop is closed|[Uu]nclosed|never awaited|ResourceWarning|ignored"
)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No process outlives its test."""
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()


def start(script: str, server: ApiServer, source: Path, home: Path, out: str = "out") -> Process:
    """A process that imports everything and then waits for its `go`."""
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "HF_HOME": str(home), "TOOLRLEF_REPLIES": str(home / "replies.sqlite")}
    command = [sys.executable, "-c", script, server.url, str(source), str(home / out)]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    STARTED.append(process)
    return process


def go(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.stdin = None


def finish(process: Process) -> None:
    """Let it run to its end."""
    if process.stdin is not None:
        go(process)
    _, errors = process.communicate(timeout=HANG_TIMEOUT)
    assert process.returncode == 0, errors.decode()
    assert not NOISE.search(errors.decode()), errors.decode()


def kill(process: Process) -> None:
    process.kill()
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()


def published(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert files
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# kill -9 -------------------------------------------------------------------------------------------------------------


class Calm(NamedTuple):
    """A run that nothing disturbed, and what one at its server would ask; the server's address is in the keys."""

    server: ApiServer
    source: Path
    home: Path
    everything: set[str]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calm]:
    folder = tmp_path_factory.mktemp("calm")
    source, home = write_questions(folder / "rows", 300), folder / "home"
    with ApiServer(sum_reply, latency=0.005) as server:
        finish(start(EVERYTHING, server, source, home))
        counts = sent_marks(server)
        assert set(counts.values()) == {1}, "each distinct body once"
        assert set(counts) == stored_marks(home)
        yield Calm(server, source, home, set(counts))


def test_killed_at_many_moments(calm: Calm, tmp_path: Path) -> None:
    server, home, total = calm.server, tmp_path, len(calm.everything)
    shares = (0.02, 0.2, 0.4, 0.6, 0.75, 0.95)
    *processes, last = [start(EVERYTHING, server, calm.source, home) for _ in range(len(shares) + 1)]
    begun = len(server.requests)
    for share, process in zip(shares, processes, strict=True):
        since, before = len(server.requests), stored_marks(home)
        go(process)
        wait_until(lambda share=share: len(stored_marks(home)) >= share * total)  # type: ignore[misc]
        kill(process)
        wait_until(lambda: not server.connections)
        assert before.isdisjoint(sent_marks(server, since)), "what is stored is asked again"
        assert len(set(sent_marks(server, begun)) - stored_marks(home)) <= CONCURRENCY, (
            "more was lost than was under way"
        )
    since, before = len(server.requests), stored_marks(home)
    shutil.rmtree(home / "datasets")  # the store alone must do
    finish(last)
    assert before.isdisjoint(sent_marks(server, since))
    assert set(sent_marks(server, begun)) == calm.everything == stored_marks(home)
    assert sent_marks(server, begun).total() <= total + len(shares) * CONCURRENCY
    assert published(home / "out") == published(calm.home / "out")
    assert not owner_files(home)
    assert not column_values(home, "claims", "key"), "claims of the dead do not pile up"


def test_killed_with_a_faulty_server(tmp_path: Path) -> None:
    source, calm, home = write_questions(tmp_path / "rows", 36), tmp_path / "calm", tmp_path / "killed"
    number = itertools.count()

    def faulty(received: ReceivedRequest, seen: int) -> ServerReply:
        count = next(number)
        if count % 10 == 9:
            return rate_limited(retry_after="0.1")
        return error(503, "overloaded", "later") if count % 3 == 0 and seen < 2 else sum_reply(received)

    with ApiServer(sum_reply, latency=0.005) as server:
        undisturbed, killed, last = [start(EVERYTHING, server, source, folder) for folder in (calm, home, home)]
        finish(undisturbed)
        total = len(server.requests)
        server.script = faulty
        go(killed)
        wait_until(lambda: len(stored_marks(home)) >= 0.5 * total)
        kill(killed)
        since, before = len(server.requests), stored_marks(home)
        finish(last)
        assert before.isdisjoint(sent_marks(server, since))
        assert len(server.requests) > 2.3 * total, "the server was faulty"
        assert stored_marks(home) == stored_marks(calm)
        assert published(home / "out") == published(calm / "out")


# Ctrl-C --------------------------------------------------------------------------------------------------------------


def paused(received: ReceivedRequest, seen: int) -> ServerReply:
    return sum_reply(received) if row_number(received) < 40 or seen else rate_limited(retry_after=str(STALL_SECONDS))


def all_stalled(server: ApiServer, home: Path) -> bool:
    """Rows without an answer hold every place, and what was answered is stored."""
    even = sum(row_number(received) % 2 == 0 for received in server.requests)
    return even == CONCURRENCY and len(stored_marks(home)) == len(server.requests) - CONCURRENCY


def all_paused(server: ApiServer, home: Path) -> bool:
    return len(server.requests) > 40 and len(stored_marks(home)) == 40


# name: (server, when Ctrl-C is pressed, how often, answers that may be lost)
INTERRUPTED: dict[str, tuple[Any, Callable[[ApiServer, Path], bool], int, int]] = {
    "stalled": (stall_first_requests(lambda i: i % 2 == 0), all_stalled, 1, 0),
    "a long pause, and pressed impatiently": (paused, all_paused, 3, 0),
    "at full speed": (sum_reply, lambda server, home: len(server.requests) > 60, 1, CONCURRENCY),
}


def test_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_questions(tmp_path / "rows", 120)
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(ApiServer(script, latency=0.02)) for script, *_ in INTERRUPTED.values()]
        homes = [tmp_path / str(i) for i in range(len(servers))]
        processes = [start(ANSWER, server, source, home) for server, home in zip(servers, homes, strict=True)]
        for case, server, home, process in zip(INTERRUPTED, servers, homes, processes, strict=True):
            _, moment, times, lost = INTERRUPTED[case]
            go(process)
            wait_until(lambda moment=moment, server=server, home=home: moment(server, home))  # type: ignore[misc]
            for _ in range(times):
                process.send_signal(signal.SIGINT)
                time.sleep(0.02)
            _, errors = process.communicate(timeout=HANG_TIMEOUT)  # what it waits for would take longer
            said = f"{case}: {errors.decode()}"
            assert process.returncode == -signal.SIGINT, said
            assert said.rstrip().endswith("KeyboardInterrupt"), said
            assert not NOISE.search(said), said
            wait_until(lambda server=server: not server.connections)  # type: ignore[misc]
            kept = stored_marks(home)
            came = {
                mark(r.raw)
                for r in server.requests
                if r.answered and (server.script is not paused or row_number(r) < 40)
            }
            assert kept <= came, case
            assert kept, case
            assert len(came - kept) <= lost, f"{case}: an answer was lost"
            assert times > 1 or not owner_files(home)
            server.script, since = sum_reply, len(server.requests)
            monkeypatch.setenv("TOOLRLEF_REPLIES", str(home / "replies.sqlite"))
            answer_texts(server, load_questions(source))
            assert sent_marks(server, since).total() == 120 - len(kept)
            assert kept.isdisjoint(sent_marks(server, since))
            assert not owner_files(home), case


# Two processes ------------------------------------------------------------------------------------------------------


def test_two_processes_on_one_store(calm: Calm, tmp_path: Path) -> None:
    server, home = calm.server, tmp_path
    processes = [start(EVERYTHING, server, calm.source, home, out) for out in ("one", "two")]
    since = len(server.requests)
    for process in processes:
        go(process)
    for process in processes:
        finish(process)
    assert set(sent_marks(server, since).values()) == {1}
    assert set(sent_marks(server, since)) == calm.everything == stored_marks(home)
    assert published(home / "one") == published(home / "two") == published(calm.home / "out")
    assert not owner_files(home)


def test_two_processes_of_which_one_is_killed(calm: Calm, tmp_path: Path) -> None:
    server, home = calm.server, tmp_path
    killed, heir = [start(EVERYTHING, server, calm.source, home, out) for out in ("killed", "out")]
    since = len(server.requests)
    for process in (killed, heir):
        go(process)
    wait_until(lambda: len(stored_marks(home)) >= 0.4 * len(calm.everything))
    kill(killed)
    finish(heir)
    assert sent_marks(server, since).total() <= len(calm.everything) + CONCURRENCY
    assert set(sent_marks(server, since)) == calm.everything == stored_marks(home)
    assert published(home / "out") == published(calm.home / "out")
    assert not owner_files(home)


def test_who_waits_takes_over_at_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    source, home = write_questions(tmp_path / "rows", 60), tmp_path / "home"
    with ApiServer(stall_first_requests(lambda i: i < 4)) as server:
        asking, *waiting = [start(ANSWER, server, source, home) for _ in range(4)]
        go(asking)
        wait_until(lambda: len(stored_marks(home)) == 56)
        for process in waiting:
            go(process)
        wait_until(lambda: len(owner_files(home)) == 4)
        time.sleep(0.5)
        assert (server.in_flight, len(server.requests)) == (4, 60), "nobody asks what is under way"
        interrupted, killed, heir = waiting
        kill(killed)
        interrupted.send_signal(signal.SIGINT)
        _, errors = interrupted.communicate(timeout=HANG_TIMEOUT)  # what it waits for would take longer
        assert not NOISE.search(errors.decode()), errors.decode()
        kill(asking)
        wait_until(lambda: len(server.requests) == 64)  # the claims of a dead process count no more
        finish(heir)
        assert (len(server.requests), len(stored_marks(home))) == (64, 60)
        assert not owner_files(home)


# A store that fails --------------------------------------------------------------------------------------------------

# Root may write everywhere, unless it gives that up.
BROKEN = (
    HEAD
    + """
import contextlib, ctypes, json, os, resource, sqlite3
from pathlib import Path
from dataclasses import replace

class Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]

home = Path(out).parent
report = open(home / "report", "a")

def attempt(name, path, tokens):
    path.parent.mkdir(exist_ok=True)
    os.environ["TOOLRLEF_REPLIES"] = str(path)
    outcome = "done"
    try:
        answer(questions, replace(student, max_tokens=tokens))
    except ToolrlefError as error:
        outcome = str(error)
        sys.last_value = error  # as a notebook keeps it, with everything that its frames hold
    left = [str(p) for p in home.glob("**/*.owners/*")]
    print(json.dumps([name, outcome, left]), file=report, flush=True)

noise, good, cut = (home / name / "replies.sqlite" for name in ("noise", "good", "cut"))
noise.parent.mkdir()
noise.write_bytes(bytes(range(256)) * 64)
attempt("noise", noise, 20)
attempt("good", good, 21)
with contextlib.closing(sqlite3.connect(good)) as connection:
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
whole = good.read_bytes()
(home / "kept").mkdir()
(home / "kept" / "replies.sqlite").write_bytes(whole)
attempt("a folder", home, 22)
full = home / "full" / "replies.sqlite"
free = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, free[1]))
attempt("full", full, 23)
resource.setrlimit(resource.RLIMIT_FSIZE, free)
attempt("freed", full, 23)
cut.parent.mkdir()
cut.write_bytes(whole[:8192] + bytes(len(whole) - 8192))
attempt("pages lost", cut, 24)
cut.rename(home / "moved")
attempt("moved away", cut, 24)

if os.geteuid() == 0:
    sets = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    head = Header(0x20080522, 0)
    assert libc.capget(ctypes.byref(head), sets) == 0
    sets[0] &= ~0b110  # DAC_OVERRIDE, DAC_READ_SEARCH
    assert libc.capset(ctypes.byref(head), sets) == 0
(home / "closed").mkdir()
(home / "closed").chmod(0o500)
attempt("a closed folder", home / "closed" / "replies.sqlite", 26)
(home / "kept" / "replies.sqlite").chmod(0o400)
(home / "kept").chmod(0o500)
attempt("read-only", home / "kept" / "replies.sqlite", 27)
"""
)


def test_a_store_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    source, home = write_questions(tmp_path / "rows", 300), tmp_path / "home"
    with ApiServer(sum_reply, latency=0.002) as server:
        finish(start(BROKEN, server, source, home))
        counts = Counter(received.body["max_tokens"] for received in server.requests)
    lines = [json.loads(line) for line in (home / "report").read_text().splitlines()]
    outcomes = {name: outcome for name, outcome, _ in lines}
    assert {name for name in outcomes if outcomes[name] == "done"} == {"good", "freed", "moved away"}
    assert all(str(home) in outcome for outcome in outcomes.values() if outcome != "done"), "the file is named"
    assert not any(left for *_, left in lines), "nothing stays behind"
    assert counts[23] <= 300 + CONCURRENCY, "what was stored before the disk was full is kept"
    assert not {20, 22, 26, 27} & set(counts), "nothing is sent where nothing can be kept"
