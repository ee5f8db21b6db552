"""Killed, concurrent and interrupted trajectory searches: no call is repeated, and all processes agree."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.support.api_server import ApiServer, ReceivedRequest, ServerReply, error
from tests.support.waiting import HANG_TIMEOUT, wait_until
from tests.toolbench.search.test_generation import QUERIES, over_http

ROOT = Path(__file__).parents[2]


KILL_SCRIPT = """
import os, signal
from pathlib import Path
from tests.toolbench.search.test_generation import QUERIES, wild
from toolrlef_data import generate_trajectories, scripted

def log_event(event):
    path = Path(os.environ["EVENT_LOG"])
    with open(path, "a") as file:
        file.write(event + "\\n")
    if len(path.read_text().splitlines()) == int(os.environ["LAST"]):
        os.kill(os.getpid(), signal.SIGKILL)

def model(request):
    log_event("request " + repr(request.in_key()))
    return wild(request)

def ping(host: str) -> str:
    '''Ask a host whether it is up.

    Args:
        host: its name.
    '''
    log_event("call " + host)
    return f"{host} is up"

answers = generate_trajectories(QUERIES, [ping], scripted(model, temperature=1.0, progress=False, max_failed=1.0))
Path(os.environ["EVENT_LOG"]).with_name("answers").write_text("\\n".join(sorted(answers["answer"])))
"""


def test_killed_search_resumes_without_repeating_calls(tmp_path: Path) -> None:
    def run(home: Path, last: int) -> int:
        home.mkdir(exist_ok=True)
        (home / "script.py").write_text(KILL_SCRIPT)
        environment = {**os.environ, "HF_HOME": str(home), "PYTHONPATH": str(ROOT)}
        environment |= {"EVENT_LOG": str(home / "events"), "LAST": str(last)}
        environment.pop("TOOLRLEF_REPLIES")
        command = [sys.executable, str(home / "script.py")]
        return subprocess.run(command, env=environment, stderr=subprocess.DEVNULL).returncode

    assert run(tmp_path / "full", 0) == 0
    assert run(tmp_path / "killed", 25) == -signal.SIGKILL
    last_events = (tmp_path / "killed" / "events").read_text().splitlines()[-3:]
    assert run(tmp_path / "killed", 0) == 0
    full, killed = (Counter((tmp_path / name / "events").read_text().splitlines()) for name in ("full", "killed"))
    assert set(full) == set(killed)
    assert set(full.values()) == {1}, "an uninterrupted run makes each request and call once"
    repeated = {event for event, count in killed.items() if count > 1}
    assert repeated <= set(last_events), "only requests and calls in flight at the kill are repeated"
    assert (tmp_path / "full" / "answers").read_text() == (tmp_path / "killed" / "answers").read_text()


CONCURRENT_SCRIPT = """
import os
from tests.toolbench.search.test_generation import QUERIES, wild
from toolrlef_data import EngineSpec, Function, Limits, generate_trajectories
import random, sys
def ping(host: str) -> str:
    '''Ask a host whether it is up.

    Args:
        host: its name.
    '''
    return host + str(os.getpid())

limits = Limits(backoff=0.01)
spec = EngineSpec("openai_api", "any", base_url=sys.argv[1], progress=False, retries=0, limits=limits, max_failed=1.0)
for _ in range(20):
    answers = generate_trajectories(QUERIES, [ping], spec)
    if len(answers) == len(QUERIES):
        break
print("\\n".join(sorted(answers["answer"])))
"""


def test_concurrent_processes_agree_despite_failures(tmp_path: Path) -> None:
    """The function returns a different output in each process, and the server fails occasionally."""

    def fail_sometimes(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        return (
            error(503, "overloaded", "later")
            if repeats == 0 and hash(received.raw) % 4 == 0
            else over_http(received, repeats)
        )

    with ApiServer(fail_sometimes) as server:
        environment = {**os.environ, "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
        environment.pop("TOOLRLEF_REPLIES")
        (tmp_path / "concurrent_search.py").write_text(CONCURRENT_SCRIPT)
        command = [sys.executable, str(tmp_path / "concurrent_search.py"), server.url]
        processes = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in "ab"
        ]
        outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs[0][1].decode() + outputs[1][1].decode()
    one, other = (out for out, _ in outputs)
    assert one == other
    assert len(one.splitlines()) == len(QUERIES)


def test_hanging_function_does_not_delay_an_interrupt(tmp_path: Path) -> None:
    code = (
        "import time\nfrom pathlib import Path\nfrom tests.toolbench.search.test_generation import HOST, pings_then_answers\n"
        "from toolrlef_data import Function, generate_trajectories, scripted\n"
        "def work(host):\n    Path(MARKER).write_text('started')\n    time.sleep(3600)\n"
        "work.__globals__['MARKER'] = __import__('os').environ['MARKER']\n"
        "generate_trajectories(['a'], [Function('ping', '', HOST, work)], scripted(pings_then_answers, progress=False))\n"
    )
    (tmp_path / "hangs.py").write_text(code)
    environment = {**os.environ, "MARKER": str(tmp_path / "started"), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, str(tmp_path / "hangs.py")], env=environment, stderr=subprocess.PIPE)
    wait_until(lambda: (tmp_path / "started").exists() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=HANG_TIMEOUT)  # the function sleeps longer than this
    assert b"KeyboardInterrupt" in errors
