"""A real OpenAI-compatible server for tests: `transformers serve` in a process of its own, on loopback, on the CPU.

It has an HF_HOME and a temporary folder of its own, reaches no network, and dies with the process that started it.

Not covered: continuous batching, which samples every request as the first one asked for; GPUs; Windows.
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

# Standard input is a pipe from the tests: it ends when they do, also by `kill -9`, and the server's group with it.
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
# uvicorn says this when the socket listens, and a model that is named has been loaded before.
_LISTENS = re.compile(r"Uvicorn running on (http://\S+)")


class ServerNotStarted(Exception):
    """The server did not come up; the text ends with its log."""


@contextmanager
def serve(
    model: Path | None,
    *,
    name: str = "served",
    options: tuple[str, ...] = (),
    log: Path | None = None,
    wait: float = HANG_TIMEOUT,
) -> Iterator[str]:
    """Serve a folder of weights, and yield the base URL, as an `openai` client takes it.

    Args:
        model: the folder; None for a server that loads whatever folder a request names as its model.
        name: what requests call the model; any other name is answered with 400.
        options: more of the command line of `transformers serve`.
        log: file for the server's output, one line "POST /v1/..." for each answer; a temporary one without it.
        wait: seconds until it must listen.

    Raises:
        NoServer: it ended, or does not listen in time.
    """
    with tempfile.TemporaryDirectory(prefix="toolrlef-serving-") as home:
        log = log or Path(home) / "log"
        (Path(home) / "hub").mkdir()  # without it, /v1/models answers 500
        # The model's name is the path that `from_pretrained` takes: a folder in the one that the server runs in.
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
            # Nothing of it is worth a graceful end, for which it would first answer everything that it was asked.
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()
            server.stdin.close()


def _link(model: Path, folder: Path) -> None:
    """The same model with temperatures that count: the server obeys them only where the model samples by itself."""
    folder.mkdir()
    for file in model.absolute().iterdir():
        (folder / file.name).symlink_to(file)
    settings = folder / "generation_config.json"
    config = json.loads(settings.read_text("utf-8")) if settings.is_file() else {}
    settings.unlink(missing_ok=True)
    settings.write_text(json.dumps({**config, "do_sample": True, "top_k": 0}), "utf-8")


def _environment(home: str) -> dict[str, str]:
    ours = {"HF_HOME": home, "TMPDIR": home, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    ours["HF_HUB_DISABLE_UPDATE_CHECK"] = "1"
    theirs = {key: value for key, value in os.environ.items() if key not in ("HF_HUB_CACHE", "HF_DATASETS_CACHE")}
    return {**theirs, **ours, "PYTHONUNBUFFERED": "1"}


def _address(server: subprocess.Popen[bytes], log: Path, wait: float) -> str:
    until = time.monotonic() + wait
    while time.monotonic() < until:
        ended = server.poll()
        if found := _LISTENS.search(log.read_text("utf-8", "replace")):
            return found[1]
        if ended is not None:
            raise ServerNotStarted(f"transformers serve ended with {ended} before it listened:\n{_tail(log)}")
        time.sleep(0.05)
    raise ServerNotStarted(f"transformers serve does not listen after {wait:g} s:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-4000:]
