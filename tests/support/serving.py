"""A real OpenAI-compatible server for tests: `transformers serve` in a separate process, on loopback, on the CPU.

It uses a temporary HF_HOME and no network, and ends with the process that started it.

Not covered: continuous batching, which applies the sampling settings of the first request to all; GPUs; Windows.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.waiting import HANG_TIMEOUT

# Standard input is a pipe from the test process. When it closes, even by `kill -9`, the process group is killed.
_SERVE = """
import os, shutil, signal, threading

def follow():
    os.read(0, 1)
    shutil.rmtree(os.getcwd(), ignore_errors=True)
    os.killpg(0, signal.SIGKILL)

threading.Thread(target=follow, daemon=True).start()
from transformers.cli.transformers import main
main()
"""
# uvicorn prints this when the socket listens; a named model is already loaded.
_LISTENING = re.compile(r"Uvicorn running on (http://\S+)")


class ServerNotStarted(Exception):
    """The server did not start; the message ends with its log."""


@contextmanager
def serve(
    model: Path | None,
    *,
    name: str = "served",
    options: tuple[str, ...] = (),
    log: Path | None = None,
    wait: float = HANG_TIMEOUT,
) -> Iterator[str]:
    """Serve a folder of weights, and yield the base URL for an `openai` client.

    Args:
        model: the folder; None for a server that loads the folder that a request names as its model.
        name: the model's name in requests; requests with other names fail with 400.
        options: additional options of `transformers serve`.
        log: file for the server's output, with one line "POST /v1/..." per request; default: a temporary file.
        wait: seconds until the server must listen.

    Raises:
        ServerNotStarted: the server ended, or does not listen in time.
    """
    with tempfile.TemporaryDirectory(prefix="toolrlef-serving-") as home:
        log = log or Path(home) / "log"
        (Path(home) / "hub").mkdir()  # without this folder, /v1/models fails with 500
        # The model's name is the path for `from_pretrained`, relative to the working directory of the server.
        named = [] if model is None else [name]
        if model is not None:
            _link(model, Path(home) / name)
        command = [sys.executable, "-c", _SERVE, "serve", *named, "--host", "127.0.0.1", "--port", "0"]
        command += ["--device", "cpu", *options]
        with log.open("wb") as output:
            server = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=home,
                env=_environment(home),
                start_new_session=True,
            )
        assert server.stdin is not None
        try:
            yield _address(server, log, wait) + "/v1"
        finally:
            # A graceful shutdown would first reply to all in-flight requests.
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()
            server.stdin.close()


def _link(model: Path, folder: Path) -> None:
    """Link the files of a model, with `do_sample` set: only then does the server apply a request's temperature."""
    folder.mkdir()
    for file in model.absolute().iterdir():
        (folder / file.name).symlink_to(file)
    settings = folder / "generation_config.json"
    config = json.loads(settings.read_text("utf-8")) if settings.is_file() else {}
    settings.unlink(missing_ok=True)
    settings.write_text(json.dumps({**config, "do_sample": True, "top_k": 0}), "utf-8")


def _environment(home: str) -> dict[str, str]:
    environment = {"HF_HOME": home, "TMPDIR": home, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment["HF_HUB_DISABLE_UPDATE_CHECK"] = "1"
    inherited = {key: value for key, value in os.environ.items() if key not in ("HF_HUB_CACHE", "HF_DATASETS_CACHE")}
    return {**inherited, **environment, "PYTHONUNBUFFERED": "1"}


def _address(server: subprocess.Popen[bytes], log: Path, wait: float) -> str:
    deadline = time.monotonic() + wait
    while time.monotonic() < deadline:
        status = server.poll()
        if match := _LISTENING.search(log.read_text("utf-8", "replace")):
            return match[1]
        if status is not None:
            raise ServerNotStarted(f"transformers serve ended with {status} before it listened:\n{_tail(log)}")
        time.sleep(0.05)
    raise ServerNotStarted(f"transformers serve does not listen after {wait:g} s:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-4000:]
