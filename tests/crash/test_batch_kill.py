"""After a kill, a batch run resumes its jobs on the server and runs no row twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engines.openai_api.test_batches import BATCH, count_batches, run, stored_jobs
from tests.support.api_runs import STALL_SECONDS
from tests.support.api_server import ApiServer, ReceivedRequest, ServerReply
from tests.support.waiting import wait_until
from toolrlef_data.engines.reply_store import store_path

SCRIPT = """
import sys
sys.path[:0] = [sys.argv[3]]
from tests.engines.openai_api.test_batches import BATCH, stage_of
from dataclasses import replace
from datasets import Dataset, Value
from toolrlef_data.engines.model_stage import run_model_stage
from toolrlef_data.engines.spec import EngineSpec
spec = EngineSpec("openai_api", "m", base_url=sys.argv[1], limits=replace(BATCH, batch_rows=4), progress=False)
data = Dataset.from_list([{"id": str(i), "text": f"question {i}"} for i in range(int(sys.argv[2]))])
run_model_stage(data, stage_of(spec))
"""


@pytest.mark.parametrize("moment", ["uploaded", "created", "polled"])
def test_killed_run_resumes_its_jobs(moment: str, tmp_path: Path) -> None:
    def stall_once(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        is_poll = received.method == "GET" and received.path.startswith("/v1/batches/batch")
        is_creation = received.method == "POST" and received.path == "/v1/batches"
        is_upload = received.method == "POST" and received.path == "/v1/files"
        if {"polled": is_poll, "created": is_creation, "uploaded": is_upload}[moment]:
            stalled_paths.append(received.path)
            # The server has processed the request, but its reply never arrives.
            return ServerReply(delay=STALL_SECONDS) if len(stalled_paths) == 1 else None
        return None

    stalled_paths: list[str] = []
    with ApiServer(stall_once) as server:
        environment = {**os.environ, "PYTHONPATH": os.getcwd(), "TMPDIR": str(tmp_path)}
        command = [sys.executable, "-c", SCRIPT, server.url, "10", os.getcwd()]
        with subprocess.Popen(command, env=environment) as process:
            processed = server.batches.jobs if moment == "created" else server.batches.files
            wait_until(lambda: bool(stalled_paths and processed))
            process.send_signal(signal.SIGKILL)
        replies = run(server, 10, limits=replace(BATCH, batch_rows=4))
        assert not any(reply.startswith("<") for reply in replies)
        assert len(server.lines) == 10, "no row is run twice"
        assert count_batches(server) == 3
        assert stored_jobs(server) == {}
        assert json.dumps(replies)
        assert not [*tmp_path.iterdir(), *store_path().parent.glob("*.owners")], "a killed run leaves no prompts"
