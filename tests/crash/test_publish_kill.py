"""A reader of a published folder sees the old or the new publication, wherever `publish` is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.kill_points import SCENARIOS


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_a_reader_sees_old_or_new_wherever_the_process_is_killed(scenario: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.kill_points", scenario, str(tmp_path)]
    run = subprocess.run(command, env={**os.environ, "USE_TORCH": "0"}, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert int(run.stdout) > 20, "kill points"
