"""A stage that is killed while it is written leaves nothing that a later run believes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import wait_until

SLOW = """
import os, sys, time
from datasets import Dataset, Value
from toolrlef_data.tables.transform import apply
def slow(row, settings):
    if row["id"] == os.environ["STOP"]:
        time.sleep(3600)
    return {"x": row["id"] * 50}
data = Dataset.from_list([{"id": str(i)} for i in range(3000)])
done = apply(data, slow, None, reads=["id"], adds={"x": Value("string")})
print(done._fingerprint, len(done))
"""


def test_a_kill_during_an_arrow_write_leaves_nothing_that_is_believed(tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    environment = {**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache"), "STOP": "2500"}
    process = subprocess.Popen(
        [sys.executable, script], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    folder = tmp_path / "cache" / "toolrlef_data"
    wait_until(lambda: any(path.stat().st_size > 0 for path in folder.glob("tmp*")))  # the first batches are on disk
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(folder.glob("tmp*")), "killed in the middle of a write"

    def run(cache: Path) -> tuple[str, bytes]:
        environment.update(HF_DATASETS_CACHE=str(cache), STOP="")  # nothing is killed here
        out = subprocess.run(
            [sys.executable, script], env=environment, capture_output=True, text=True, check=True
        ).stdout
        return out, (cache / "toolrlef_data" / f"{out.split()[0]}.arrow").read_bytes()

    assert run(tmp_path / "cache") == run(tmp_path / "other")
