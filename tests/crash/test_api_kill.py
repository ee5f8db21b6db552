"""Runs against an API resume without loss and without repeated requests after kills, interrupts and store failures.

Not covered: batch mode, power failures.
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
PROCESSES: list[Process] = []
SCRIPT_START = f"""
import sys
from toolrlef_data import *
from toolrlef_data.engines.spec import Limits
url, source, out = sys.argv[1:4]
settings = dict(base_url=url, concurrency={CONCURRENCY}, limits=Limits(backoff=0.01), timeout=3600.0, progress=False)
student = EngineSpec("openai_api", "student", **settings)
import aiohttp, datasets, openai
sys.stdin.readline()  # wait for the start signal, with all imports done
questions = load_source("gsm8k", split="train", data_dir=source)
"""
ANSWER_SCRIPT = SCRIPT_START + "answer(questions, student)\n"
FULL_SCRIPT = (
    SCRIPT_START
    + """
from dataclasses import replace
graded = grade(answer(questions, student))
need = counterfactual(questions, replace(student, model="c", temperature=1.0), samples=2)
stage1 = build_stage1(graded, replace(student, model="teacher"), attempts=2, need=need, unsure="grade")
sampled = Responder("sampled", replace(student, model="b", temperature=1.0), samples=2)
stage2 = build_stage2(respond(stage1, [Responder("plain", replace(student, model="a")), sampled]))
publish({"math": {"need": need, "stage1": stage1, "stage2": stage2}}, out, version="1.0.0")
"""
)
# Warnings of asyncio, aiohttp and Python about open, unfinished or unawaited resources.
CLEANUP_WARNINGS = re.compile(
    r"never retrieved|was destroyed|Event loop is closed|[Uu]nclosed|never awaited|ResourceWarning|ignored"
)


@pytest.fixture(autouse=True)
def kill_remaining_processes() -> Iterator[None]:
    """Kill processes that are still running after a test."""
    yield
    while PROCESSES:
        process = PROCESSES.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()


def start(script: str, server: ApiServer, source: Path, home: Path, out: str = "out") -> Process:
    """Start a process that imports everything and then waits for `send_start_signal`."""
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "HF_HOME": str(home), "TOOLRLEF_REPLIES": str(home / "replies.sqlite")}
    command = [sys.executable, "-c", script, server.url, str(source), str(home / out)]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    PROCESSES.append(process)
    return process


def send_start_signal(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.stdin = None


def finish(process: Process) -> None:
    """Wait until the process has ended successfully."""
    if process.stdin is not None:
        send_start_signal(process)
    _, errors = process.communicate(timeout=HANG_TIMEOUT)
    assert process.returncode == 0, errors.decode()
    assert not CLEANUP_WARNINGS.search(errors.decode()), errors.decode()


def kill(process: Process) -> None:
    process.kill()
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()


def file_digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert files
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# kill -9 -------------------------------------------------------------------------------------------------------------


class Baseline(NamedTuple):
    """An uninterrupted run. Later runs use the same server, because its address is part of the reply keys."""

    server: ApiServer
    source: Path
    home: Path
    request_marks: set[str]


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Baseline]:
    folder = tmp_path_factory.mktemp("baseline")
    source, home = write_questions(folder / "rows", 300), folder / "home"
    with ApiServer(sum_reply, latency=0.005) as server:
        finish(start(FULL_SCRIPT, server, source, home))
        counts = sent_marks(server)
        assert set(counts.values()) == {1}, "each distinct request is sent once"
        assert set(counts) == stored_marks(home)
        yield Baseline(server, source, home, set(counts))


def test_run_killed_at_many_points(baseline: Baseline, tmp_path: Path) -> None:
    server, home, request_count = baseline.server, tmp_path, len(baseline.request_marks)
    shares = (0.02, 0.2, 0.4, 0.6, 0.75, 0.95)
    *processes, last = [start(FULL_SCRIPT, server, baseline.source, home) for _ in range(len(shares) + 1)]
    sent_at_start = len(server.requests)
    for share, process in zip(shares, processes, strict=True):
        sent_before, stored_before = len(server.requests), stored_marks(home)
        send_start_signal(process)
        wait_until(lambda share=share: len(stored_marks(home)) >= share * request_count)  # type: ignore[misc]
        kill(process)
        wait_until(lambda: not server.connections)
        assert stored_before.isdisjoint(sent_marks(server, sent_before)), "a stored reply was requested again"
        assert len(set(sent_marks(server, sent_at_start)) - stored_marks(home)) <= CONCURRENCY, (
            "more replies were lost than were in flight"
        )
    sent_before, stored_before = len(server.requests), stored_marks(home)
    shutil.rmtree(home / "datasets")  # only the reply store remains
    finish(last)
    assert stored_before.isdisjoint(sent_marks(server, sent_before))
    assert set(sent_marks(server, sent_at_start)) == baseline.request_marks == stored_marks(home)
    assert sent_marks(server, sent_at_start).total() <= request_count + len(shares) * CONCURRENCY
    assert file_digests(home / "out") == file_digests(baseline.home / "out")
    assert not owner_files(home)
    assert not column_values(home, "claims", "key"), "claims of dead processes are deleted"


def test_run_killed_with_a_faulty_server(tmp_path: Path) -> None:
    source, baseline, home = write_questions(tmp_path / "rows", 36), tmp_path / "baseline", tmp_path / "killed"
    number = itertools.count()

    def fail_often(received: ReceivedRequest, repeats: int) -> ServerReply:
        count = next(number)
        if count % 10 == 9:
            return rate_limited(retry_after="0.1")
        return error(503, "overloaded", "later") if count % 3 == 0 and repeats < 2 else sum_reply(received)

    with ApiServer(sum_reply, latency=0.005) as server:
        uninterrupted, killed, resumed = [
            start(FULL_SCRIPT, server, source, folder) for folder in (baseline, home, home)
        ]
        finish(uninterrupted)
        request_count = len(server.requests)
        server.script = fail_often
        send_start_signal(killed)
        wait_until(lambda: len(stored_marks(home)) >= 0.5 * request_count)
        kill(killed)
        sent_before, stored_before = len(server.requests), stored_marks(home)
        finish(resumed)
        assert stored_before.isdisjoint(sent_marks(server, sent_before))
        assert len(server.requests) > 2.3 * request_count, "the server must have failed often"
        assert stored_marks(home) == stored_marks(baseline)
        assert file_digests(home / "out") == file_digests(baseline / "out")


# Ctrl-C --------------------------------------------------------------------------------------------------------------


def pause_from_row_40(received: ReceivedRequest, repeats: int) -> ServerReply:
    return sum_reply(received) if row_number(received) < 40 or repeats else rate_limited(retry_after=str(STALL_SECONDS))


def all_stalled(server: ApiServer, home: Path) -> bool:
    """Return whether stalled rows occupy all connections, and all other replies are stored."""
    stalled_count = sum(row_number(received) % 2 == 0 for received in server.requests)
    return stalled_count == CONCURRENCY and len(stored_marks(home)) == len(server.requests) - CONCURRENCY


def all_paused(server: ApiServer, home: Path) -> bool:
    return len(server.requests) > 40 and len(stored_marks(home)) == 40


# name -> (server script, condition for the first Ctrl-C, number of Ctrl-C presses, maximum of lost replies)
INTERRUPT_CASES: dict[str, tuple[Any, Callable[[ApiServer, Path], bool], int, int]] = {
    "stalled": (stall_first_requests(lambda i: i % 2 == 0), all_stalled, 1, 0),
    "paused by a rate limit, three presses": (pause_from_row_40, all_paused, 3, 0),
    "at full speed": (sum_reply, lambda server, home: len(server.requests) > 60, 1, CONCURRENCY),
}


def test_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_questions(tmp_path / "rows", 120)
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(ApiServer(script, latency=0.02)) for script, *_ in INTERRUPT_CASES.values()]
        homes = [tmp_path / str(i) for i in range(len(servers))]
        processes = [start(ANSWER_SCRIPT, server, source, home) for server, home in zip(servers, homes, strict=True)]
        for case, server, home, process in zip(INTERRUPT_CASES, servers, homes, processes, strict=True):
            _, is_due, presses, max_lost = INTERRUPT_CASES[case]
            send_start_signal(process)
            wait_until(lambda is_due=is_due, server=server, home=home: is_due(server, home))  # type: ignore[misc]
            for _ in range(presses):
                process.send_signal(signal.SIGINT)
                time.sleep(0.02)
            _, errors = process.communicate(timeout=HANG_TIMEOUT)  # earlier than any stalled reply
            message = f"{case}: {errors.decode()}"
            assert process.returncode == -signal.SIGINT, message
            assert message.rstrip().endswith("KeyboardInterrupt"), message
            assert not CLEANUP_WARNINGS.search(message), message
            wait_until(lambda server=server: not server.connections)  # type: ignore[misc]
            stored = stored_marks(home)
            answered = {
                mark(r.raw)
                for r in server.requests
                if r.answered and (server.script is not pause_from_row_40 or row_number(r) < 40)
            }
            assert stored <= answered, case
            assert stored, case
            assert len(answered - stored) <= max_lost, f"{case}: a reply was lost"
            assert presses > 1 or not owner_files(home)
            server.script, sent_before = sum_reply, len(server.requests)
            monkeypatch.setenv("TOOLRLEF_REPLIES", str(home / "replies.sqlite"))
            answer_texts(server, load_questions(source))
            assert sent_marks(server, sent_before).total() == 120 - len(stored)
            assert stored.isdisjoint(sent_marks(server, sent_before))
            assert not owner_files(home), case


# Two processes ------------------------------------------------------------------------------------------------------


def test_concurrent_processes_share_one_store(baseline: Baseline, tmp_path: Path) -> None:
    server, home = baseline.server, tmp_path
    processes = [start(FULL_SCRIPT, server, baseline.source, home, out) for out in ("one", "two")]
    sent_before = len(server.requests)
    for process in processes:
        send_start_signal(process)
    for process in processes:
        finish(process)
    assert set(sent_marks(server, sent_before).values()) == {1}
    assert set(sent_marks(server, sent_before)) == baseline.request_marks == stored_marks(home)
    assert file_digests(home / "one") == file_digests(home / "two") == file_digests(baseline.home / "out")
    assert not owner_files(home)


def test_survivor_completes_the_run_of_a_killed_process(baseline: Baseline, tmp_path: Path) -> None:
    server, home = baseline.server, tmp_path
    killed, survivor = [start(FULL_SCRIPT, server, baseline.source, home, out) for out in ("killed", "out")]
    sent_before = len(server.requests)
    for process in (killed, survivor):
        send_start_signal(process)
    wait_until(lambda: len(stored_marks(home)) >= 0.4 * len(baseline.request_marks))
    kill(killed)
    finish(survivor)
    assert sent_marks(server, sent_before).total() <= len(baseline.request_marks) + CONCURRENCY
    assert set(sent_marks(server, sent_before)) == baseline.request_marks == stored_marks(home)
    assert file_digests(home / "out") == file_digests(baseline.home / "out")
    assert not owner_files(home)


def test_waiting_process_acquires_expired_claims(tmp_path: Path) -> None:
    source, home = write_questions(tmp_path / "rows", 60), tmp_path / "home"
    with ApiServer(stall_first_requests(lambda i: i < 4)) as server:
        sender, *waiting = [start(ANSWER_SCRIPT, server, source, home) for _ in range(4)]
        send_start_signal(sender)
        wait_until(lambda: len(stored_marks(home)) == 56)
        for process in waiting:
            send_start_signal(process)
        wait_until(lambda: len(owner_files(home)) == 4)
        time.sleep(0.5)
        assert (server.in_flight, len(server.requests)) == (4, 60), "in-flight requests are not sent again"
        interrupted, killed, survivor = waiting
        kill(killed)
        interrupted.send_signal(signal.SIGINT)
        _, errors = interrupted.communicate(timeout=HANG_TIMEOUT)  # earlier than any stalled reply
        assert not CLEANUP_WARNINGS.search(errors.decode()), errors.decode()
        kill(sender)
        wait_until(lambda: len(server.requests) == 64)  # the claims of a dead process have expired
        finish(survivor)
        assert (len(server.requests), len(stored_marks(home))) == (64, 60)
        assert not owner_files(home)


# Unusable stores -----------------------------------------------------------------------------------------------------

# Root ignores file permissions unless it drops its capabilities.
BROKEN_STORE_SCRIPT = (
    SCRIPT_START
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
        sys.last_value = error  # like a notebook, which keeps the error and its frames
    lock_files = [str(p) for p in home.glob("**/*.owners/*")]
    print(json.dumps([name, outcome, lock_files]), file=report, flush=True)

noise, good, truncated = (home / name / "replies.sqlite" for name in ("noise", "good", "truncated"))
noise.parent.mkdir()
noise.write_bytes(bytes(range(256)) * 64)
attempt("noise", noise, 20)
attempt("good", good, 21)
with contextlib.closing(sqlite3.connect(good)) as connection:
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
complete = good.read_bytes()
(home / "copy").mkdir()
(home / "copy" / "replies.sqlite").write_bytes(complete)
attempt("a folder", home, 22)
full = home / "full" / "replies.sqlite"
free = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, free[1]))
attempt("full", full, 23)
resource.setrlimit(resource.RLIMIT_FSIZE, free)
attempt("freed", full, 23)
truncated.parent.mkdir()
truncated.write_bytes(complete[:8192] + bytes(len(complete) - 8192))
attempt("pages lost", truncated, 24)
truncated.rename(home / "moved")
attempt("moved away", truncated, 24)

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
(home / "copy" / "replies.sqlite").chmod(0o400)
(home / "copy").chmod(0o500)
attempt("read-only", home / "copy" / "replies.sqlite", 27)
"""
)


def test_unusable_store_is_reported(tmp_path: Path) -> None:
    source, home = write_questions(tmp_path / "rows", 300), tmp_path / "home"
    with ApiServer(sum_reply, latency=0.002) as server:
        finish(start(BROKEN_STORE_SCRIPT, server, source, home))
        counts = Counter(received.body["max_tokens"] for received in server.requests)
    lines = [json.loads(line) for line in (home / "report").read_text().splitlines()]
    outcomes = {name: outcome for name, outcome, _ in lines}
    assert {name for name in outcomes if outcomes[name] == "done"} == {"good", "freed", "pages lost", "moved away"}
    assert all(str(home) in outcome for outcome in outcomes.values() if outcome != "done"), (
        "the message contains the path"
    )
    assert not any(lock_files for *_, lock_files in lines), "no lock file remains"
    assert counts[23] <= 300 + CONCURRENCY, "replies stored before the disk was full are retained"
    assert not {20, 22, 26, 27} & set(counts), "no request is sent without a usable store"
