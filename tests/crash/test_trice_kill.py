"""The commands of TRICE's documents, killed at every change of their folder and between requests, and run again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from tests.support.api_replies import ReceivedRequest, ServerReply
from tests.support.api_runs import STALL_SECONDS, column_values
from tests.support.api_server import ApiServer
from tests.support.models import tiny_llama
from tests.support.trice_chain import raw_rows, read_lines, reply, write_lines, write_raw
from tests.support.waiting import wait_until
from toolrlef_data.tables.files import SCRATCH

KILLED = 9
# Ends the process without any clean-up, or interrupts it, before the n-th change of a file in the current folder.
KILLER = f"""
import os, sys
from pathlib import Path
interrupts, limit = sys.argv.pop(1) == "interrupt", int(sys.argv.pop(1))
here, seen = os.getcwd() + os.sep, [0]
def hook(event, arguments):
    if event in ("open", "os.mkdir", "os.rename", "os.remove") and isinstance(arguments[0], (str, os.PathLike)):
        is_read = event == "open" and not (arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if not is_read and os.path.abspath(arguments[0]).startswith(here):
            seen[0] += 1
            if seen[0] == limit:
                if interrupts:
                    raise KeyboardInterrupt
                os._exit({KILLED})
sys.addaudithook(hook)
from toolrlef_data.cli.main import main
main()
"""
COMMANDS = {
    "answer": ("--input", "data/raw/math/GSM8K.json", "--task", "math", "--engine", "student"),
    "generate_tool_api": ("--input", "wrong.json", "--output", "data/stage1/math/GSM8K_wrong.json", "--dataset_name", "GSM8K", "--engine", "teacher"),
    "merge": ("--right", "right.json", "--wrong", "calls.json", "--output", "data/stage1/math/math.json", "--task", "math"),
    "generate_response_gpt": ("--input", "data/raw/math/GSM8K.json", "--output", "data/stage2/math/math_chatgpt_response.json", "--task", "math", "--engine", "m"),
    "generate_response_llama": ("--base_model", "model", "--task", "math", "--data_path", "data/raw/math/GSM8K.json", "--output_path", "data/stage2/math/math_vicuna_response.json", "--max_tokens", "8"),
    "score": ("--task", "math", "--data_path", "responses", "--target_path", "data/stage2/math"),
}  # fmt: skip
WRITTEN = ("data/raw/math/GSM8K_right.json", "data/raw/math/GSM8K_wrong.json", "data/stage1/math/GSM8K_wrong.json", "data/stage1/math/math.json", "data/stage2/math/math_chatgpt_response.json", "data/stage2/math/math_vicuna_response.json", "data/stage2/math/responses.json")  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the inputs of all commands."""
    folder = tmp_path_factory.mktemp("inputs")
    rows = raw_rows("math", 4)
    write_raw(folder, "math", "math", 4)
    write_lines(folder / "wrong.json", rows)
    write_lines(folder / "right.json", [{**row, "output": "The answer is 30."} for row in rows[:2]])
    write_lines(folder / "calls.json", [{**row, "tool": "calculator(1+1)"} for row in rows[2:]])
    gold = [{"id": row["id"], "answer": row["answer"], "instruction": "Please.", "input": row["input"], "output": "30"} for row in rows]  # fmt: skip
    write_lines(folder / "responses" / "math_gold_response.json", gold)
    write_lines(folder / "responses" / "math_chatgpt_response.json", [{**row, "response": "30"} for row in rows])
    tiny_llama(folder / "model", context=2048)
    return folder


def written(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in WRITTEN if (folder / name).exists()}


@pytest.mark.parametrize(
    ("command", "stop"), [*((command, "kill") for command in COMMANDS), ("merge", "interrupt"), ("score", "interrupt")]
)
def test_a_file_is_missing_or_complete_wherever_the_command_is_stopped(
    command: str, stop: str, inputs: Path, tmp_path: Path
) -> None:
    def run(folder: Path, limit: int) -> int:
        words = [sys.executable, "-c", KILLER, stop, str(limit), "trice", command, *COMMANDS[command]]
        process = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert process.returncode in (0, KILLED if stop == "kill" else 130), process.stderr
        assert process.returncode != 130 or "run the same command to resume" in process.stderr
        return process.returncode

    calm, killed = (Path(shutil.copytree(inputs, tmp_path / name)) for name in ("calm", "killed"))
    with ApiServer(reply) as server:
        environment = {**os.environ, "OPENAI_BASE_URL": server.url}
        assert run(calm, 0) == 0
        expected = written(calm)
        assert expected
        for limit in count(1):
            code = run(killed, limit)
            for name, content in written(killed).items():
                assert content == expected[name], (name, limit)
            if code == 0:
                break
        assert limit > 2, "kill points"
        assert written(killed) == expected
        assert list(killed.rglob(f"{SCRATCH}*")) == [], "the next run removes the scratch files of killed ones"


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["generate_tool_api", "generate_response_gpt", "answer"])
def test_a_command_that_is_stopped_between_replies_sends_no_answered_request_again(
    command: str, stop: signal.Signals, inputs: Path, tmp_path: Path
) -> None:
    def stalled(received: ReceivedRequest, repeats: int) -> ServerReply:
        is_late = "Ann has 3" in str(received.body["messages"][-1])
        return ServerReply(200, reply(received).body, delay=STALL_SECONDS if is_late and repeats == 0 else 0.0)

    folder = Path(shutil.copytree(inputs, tmp_path / "folder"))
    words = [sys.executable, "-m", "toolrlef_data.cli", "trice", command, *COMMANDS[command]]
    caches = {"TOOLRLEF_REPLIES": str(tmp_path / "replies.sqlite"), "HF_DATASETS_CACHE": str(tmp_path / "datasets")}
    with ApiServer(reply) as server:
        environment = {**os.environ, "OPENAI_BASE_URL": server.url}
        subprocess.run(words, cwd=folder, env=environment, check=True, capture_output=True)
    expected = written(folder)
    for name in expected:
        (folder / name).unlink()
    with ApiServer(stalled) as server:
        environment = {**os.environ, **caches, "OPENAI_BASE_URL": server.url}
        process = subprocess.Popen(words, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: len(server.requests) >= 4 and len(column_values(tmp_path, "replies", "reply")) >= 3)
        process.send_signal(stop)
        message = process.communicate()[1]
        assert process.returncode == (130 if stop == signal.SIGINT else -stop), message
        assert stop != signal.SIGINT or "run the same command to resume" in message
        assert written(folder) == {}
        n_requests = len(server.requests)
        subprocess.run(words, cwd=folder, env=environment, check=True, capture_output=True)
        assert written(folder) == expected
        first, second = server.requests[:n_requests], server.requests[n_requests:]
        repeated = {request.raw for request in first} & {request.raw for request in second}
        assert [raw for raw in repeated if b"Ann has 3" not in raw] == []
        assert len(repeated) == 1
    assert read_lines(folder / next(iter(expected)))
