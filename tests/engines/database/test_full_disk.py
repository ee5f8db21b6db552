"""A reply store on a disk that is full at any point says so, and keeps what it has stored.

The disks are file systems in memory, in a name space of their own.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.skips import FORBIDDEN
from toolrlef_data.engines.reply_store import ReplyStore
from toolrlef_data.records import Reply, ToolrlefError

UNSHARE = ["unshare", "--map-root-user", "--mount"]
KEYS = [f"{n:032x}" for n in range(40)]


def fill(path: Path) -> list[str]:
    """Store a reply for each key, and return those that were stored before the disk was full."""
    stored: list[str] = []
    try:
        with contextlib.closing(ReplyStore(path)) as store:
            for key in KEYS:
                store.put([(key, Reply("x" * 1000))])
                stored.append(key)
    except ToolrlefError as error:
        if " is full" not in str(error):
            raise
    return stored


def check_disks(folder: Path, option: str, sizes: range) -> None:
    """Fill disks of several sizes; each disk then gets more space, and all replies are stored."""
    full = 0
    for size in sizes:
        subprocess.run(["mount", "-t", "tmpfs", "-o", option.format(size), "tmpfs", folder], check=True)
        stored = fill(folder / "replies.sqlite")
        full += len(stored) < len(KEYS)
        subprocess.run(["mount", "-o", "remount,size=10m,nr_inodes=1000", folder], check=True)
        with contextlib.closing(ReplyStore(folder / "replies.sqlite")) as store:
            assert set(store.get(stored)) == set(stored), size
        assert fill(folder / "replies.sqlite") == KEYS
        subprocess.run(["umount", folder], check=True)
    print(full)


@pytest.mark.parametrize(
    ("option", "sizes", "least"), [("size={}k", range(4, 200, 8), 15), ("size=10m,nr_inodes={}", range(2, 6), 2)]
)
def test_a_full_disk_is_named(option: str, sizes: range, least: int, tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("the program unshare is not installed")
    probe = [*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip(f"{FORBIDDEN}a file system in a name space of its own")
    call = f"check_disks(Path({str(tmp_path)!r}), {option!r}, {sizes!r})"
    program = f"from pathlib import Path; from tests.engines.database.test_full_disk import check_disks; {call}"
    done = subprocess.run([*UNSHARE, sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) >= least, "disks that were full"
