"""A reader of a published folder sees the old or the new publication, wherever `publish` is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.kill_points import SCENARIOS, hub_1, hub_state
from toolrlef_data.trice.files.folder import PENDING


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_a_reader_sees_old_or_new_wherever_the_process_is_killed(scenario: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.kill_points", scenario, str(tmp_path)]
    run = subprocess.run(command, env={**os.environ, "USE_TORCH": "0"}, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert int(run.stdout) > 15, "kill points"


def test_a_first_publication_is_not_loaded_before_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a card, `load_dataset` would read the Parquet files that are there."""
    hub_1(tmp_path / "complete")
    replace, complete = os.replace, hub_state(tmp_path / "complete")
    for n in range(3):
        moved: list[Path] = []
        out = tmp_path / str(n)

        def stop(source: Path, target: Path, n: int = n, moved: list[Path] = moved, out: Path = out) -> None:
            if Path(target).is_relative_to(out) and PENDING not in Path(target).parts:
                moved.append(Path(target))
                if len(moved) > n:
                    raise KeyboardInterrupt
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", stop)
            with pytest.raises(KeyboardInterrupt):
                hub_1(out)
        assert hub_state(out) in ("EmptyDatasetError", "FileNotFoundError")
        assert (out / PENDING).is_dir(), "all files are written"
        hub_1(out)
        assert hub_state(out) == complete
