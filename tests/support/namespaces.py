"""A process with a network and processes of its own: it reaches nothing outside, and leaves no process behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from uuid import uuid4

import pytest

from tests.support.skips import FORBIDDEN

UNSHARE = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
LOOPBACK_UP = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
SECONDS = 1800  # until a run that hangs is ended


def run_in_namespace(module: str, *arguments: object, environment: Mapping[str, str]) -> str:
    """Run a module as a program in name spaces of its own, and return its output; fail with its errors.

    The test is skipped if the system has no such name spaces. All processes that the program has started end with it.
    """
    for program in ("unshare", "ip"):
        if shutil.which(program) is None:
            pytest.skip(f"the program {program} is not installed")
    if subprocess.run([*UNSHARE, *LOOPBACK_UP, "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"{FORBIDDEN}a name space of its own")
    command = [*UNSHARE, *LOOPBACK_UP, sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout


def ray_environment() -> dict[str, str]:
    """Return the variables of a Ray cluster with a token of its own, on a machine that may be busy."""
    settings = {"raylet_start_wait_time_s": 45, "gcs_server_port_wait_time_s": 300}
    settings |= {"worker_niceness": 0, "health_check_timeout_ms": 60_000, "worker_register_timeout_seconds": 300}
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid4().hex}
    return token | {f"RAY_{name}": str(value) for name, value in settings.items()}
