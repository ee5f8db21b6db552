"""A run ignores the partial files of killed and of other processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import wait_until
from tests.tables.test_stage_cache import python
from toolrlef_data.tables.files import SCRATCH

SCRIPT = """
import os, sys, time
from datasets import Dataset, Value
from toolrlef_data.tables.transform import apply
def repeat_id(row, settings):
    if row["id"] == os.environ["STOP"]:
        time.sleep(3600)
    return {"x": row["id"] * 50}
data = Dataset.from_list([{"id": str(i)} for i in range(3000)])
result = apply(data, repeat_id, None, reads=["id"], adds={"x": Value("string")})
print(result._fingerprint, len(result))
"""


def test_partial_arrow_file_of_a_killed_stage_is_ignored(tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache"), "STOP": "2500"}
    process = subprocess.Popen(
        [sys.executable, script], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    folder = tmp_path / "cache" / "toolrlef_data"
    wait_until(
        lambda: any(path.stat().st_size > 0 for path in folder.glob(f"{SCRATCH}*/tmp*"))
    )  # the first batches are on disk
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(folder.glob(f"{SCRATCH}*")), "the process was killed during a write"

    def run(cache: Path) -> tuple[str, bytes]:
        environment.update(HF_DATASETS_CACHE=str(cache), STOP="")  # runs to completion
        out = subprocess.run(
            [sys.executable, script], env=environment, capture_output=True, text=True, check=True
        ).stdout
        (file,) = (cache / "toolrlef_data").glob(f"{out.split()[0]}-*.arrow")
        return out, file.read_bytes()

    assert run(tmp_path / "cache") == run(tmp_path / "other")


UNFINISHED = """
    import os, random, traceback
    import pyarrow.dataset
    from datasets import Dataset, Value
    from tests.tables.test_stage_cache import drop_odd
    from toolrlef_data import apply, keep, ledger, lineage

    def fail(row, settings):
        return {"error": random.choice(["unavailable", None])}

    def has_failed(result):
        return any(result["error"])

    def work():
        random.seed()
        for size in range(20, 32):
            rows = Dataset.from_dict({"id": [str(i) for i in range(size)]})
            failed = apply(rows, fail, reads=["id"], adds={"error": Value("string")}, unfinished=has_failed)
            even = keep(failed, drop_odd, reads=["id"], stage="even")
            assert len(failed.to_list()) == len(even.to_list()) + len(ledger([even]).to_list()) == size
            assert [record["step"] for record in lineage(even)] == ["rows", "fail", "even"]

    for _ in range(4):
        if os.fork() == 0:
            try:
                work()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
    print([os.wait()[1] for _ in range(4)])
"""


def test_processes_with_unfinished_stages_end_with_all_rows(tmp_path: Path) -> None:
    assert python(UNFINISHED, tmp_path) == "[0, 0, 0, 0]\n"
