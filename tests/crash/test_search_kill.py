"""Searches that are killed, doubled or interrupted repeat no call and agree on every answer."""

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


KILLED = """
import os, signal
from pathlib import Path
from tests.toolbench.search.test_generation import QUERIES, wild
from toolrlef_data import generate_trajectories, scripted

def noted(what):
    path = Path(os.environ["NOTED"])
    with open(path, "a") as file:
        file.write(what + "\\n")
    if len(path.read_text().splitlines()) == int(os.environ["LAST"]):
        os.kill(os.getpid(), signal.SIGKILL)

def model(request):
    noted("ask " + repr(request.in_key()))
    return wild(request)

def ping(host: str) -> str:
    '''Ask a host whether it is up.

    Args:
        host: its name.
    '''
    noted("call " + host)
    return f"{host} is up"

answers = generate_trajectories(QUERIES, [ping], scripted(model, temperature=1.0, progress=False, max_failed=1.0))
Path(os.environ["NOTED"]).with_name("answers").write_text("\\n".join(sorted(answers["answer"])))
"""


def test_a_killed_search_goes_on_without_repeating_a_call(tmp_path: Path) -> None:
    def run(home: Path, last: int) -> int:
        home.mkdir(exist_ok=True)
        (home / "searching.py").write_text(KILLED)
        environment = {**os.environ, "HF_HOME": str(home), "PYTHONPATH": str(ROOT)}
        environment |= {"NOTED": str(home / "noted"), "LAST": str(last)}
        environment.pop("TOOLRLEF_REPLIES")
        command = [sys.executable, str(home / "searching.py")]
        return subprocess.run(command, env=environment, stderr=subprocess.DEVNULL).returncode

    assert run(tmp_path / "whole", 0) == 0
    assert run(tmp_path / "killed", 25) == -signal.SIGKILL
    under_way = (tmp_path / "killed" / "noted").read_text().splitlines()[-3:]
    assert run(tmp_path / "killed", 0) == 0
    whole, killed = (Counter((tmp_path / name / "noted").read_text().splitlines()) for name in ("whole", "killed"))
    assert set(whole) == set(killed)
    assert set(whole.values()) == {1}, "in one run everything is asked and called once"
    repeated = {what for what, times in killed.items() if times > 1}
    assert repeated <= set(under_way), "only what was under way when it was killed"
    assert (tmp_path / "whole" / "answers").read_text() == (tmp_path / "killed" / "answers").read_text()


LEFT = """
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


def test_two_processes_on_one_store_agree_whatever_fails(tmp_path: Path) -> None:
    """The function gives each process something else, and the server fails now and then."""

    def often(received: ReceivedRequest, seen: int) -> ServerReply | None:
        return (
            error(503, "overloaded", "later")
            if seen == 0 and hash(received.raw) % 4 == 0
            else over_http(received, seen)
        )

    with ApiServer(often) as server:
        environment = {**os.environ, "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
        environment.pop("TOOLRLEF_REPLIES")
        (tmp_path / "left.py").write_text(LEFT)
        command = [sys.executable, str(tmp_path / "left.py"), server.url]
        both = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in "ab"
        ]
        said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said[0][1].decode() + said[1][1].decode()
    one, other = (out for out, _ in said)
    assert one == other
    assert len(one.splitlines()) == len(QUERIES)


def test_a_function_that_hangs_does_not_keep_an_interrupted_run(tmp_path: Path) -> None:
    code = (
        "import time\nfrom pathlib import Path\nfrom tests.toolbench.search.test_generation import HOST, pings_then_answers\n"
        "from toolrlef_data import Function, generate_trajectories, scripted\n"
        "def work(host):\n    Path(NOTED).write_text('begun')\n    time.sleep(3600)\n"
        "work.__globals__['NOTED'] = __import__('os').environ['NOTED']\n"
        "generate_trajectories(['a'], [Function('ping', '', HOST, work)], scripted(pings_then_answers, progress=False))\n"
    )
    (tmp_path / "hangs.py").write_text(code)
    environment = {**os.environ, "NOTED": str(tmp_path / "noted"), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, str(tmp_path / "hangs.py")], env=environment, stderr=subprocess.PIPE)
    wait_until(lambda: (tmp_path / "noted").exists() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=HANG_TIMEOUT)  # the function would take longer
    assert b"KeyboardInterrupt" in errors
