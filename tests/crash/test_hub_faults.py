"""Every kind of fault at every request of a push."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.hub import REPO, check_failures, check_one_fault, loaded_rows, repository, use_hub, write
from toolrlef_data.publishing.hub import client as client_module

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub


@pytest.fixture
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return {"1.0.0": write(tmp_path / "1", "1.0.0", 9), "1.1.0": write(tmp_path / "2", "1.1.0", 7, answer="8")}


@pytest.mark.parametrize("kind", [503, 500, 429, 412, 409, "cut", "lost"])
def test_one_fault_at_any_request_is_retried(kind: int | str, releases: dict[str, Path]) -> None:
    with use_hub() as hub:
        check_one_fault(hub, releases, (kind,))


@pytest.mark.parametrize("kind", [503, 429, 412, 409, 404, 403, "cut"])
def test_a_push_that_fails_at_any_request_leaves_the_release_before_and_is_resumed(
    kind: int | str, releases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "WAITS", ())
    with use_hub() as hub:
        check_failures(hub, releases, (kind,))


def test_a_killed_command_leaves_the_release_before_and_is_resumed(tmp_path: Path, releases: dict[str, Path]) -> None:
    """The command runs as users run it: in a process, with the server, the token and the cache from its environment."""
    environment = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "HF_HOME")}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_ThisTokenMustNeverBeSeen0123", "USE_TORCH": "0"}
    with use_hub() as hub:
        environment |= {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}

        def start(version: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "toolrlef_data.cli", "push", str(releases[version]), REPO]
            pipe = subprocess.PIPE
            return subprocess.Popen(command, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True)

        first = start("1.0.0")
        output = first.communicate()[0]
        assert first.returncode == 0, output
        commit, total = repository(hub).tags["v1.0.0"], len(hub.requests)
        for k in range(2, total, 4):
            hub.requests.clear()
            process = start("1.1.0")
            hub.fault = lambda number, method, path: process.kill() if number == k else None  # noqa: B023
            process.communicate()
            hub.fault = lambda number, method, path: None
            if process.returncode == 0:  # earlier processes committed it, so it sent fewer requests
                break
            assert repository(hub).tags == {"v1.0.0": commit}, k
            assert loaded_rows("v1.0.0") == 9, k
        assert k > 12, "killed processes"
        last = start("1.1.0")
        output = last.communicate()[0]
        assert last.returncode == 0, output
        assert "hf_This" not in output
        assert loaded_rows("v1.1.0") == 7
        assert len(hub.uploads) == len(hub.objects)
        assert len(repository(hub).commits) == 3
