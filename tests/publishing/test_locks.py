"""The lock of a published folder, between processes with different caches."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from toolrlef_data.publishing.locks import locked_folder
from toolrlef_data.publishing.placement import replace_publication


def is_locked(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def test_a_folder_is_locked_while_its_publication_is_written(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    seen = []

    def write(folder: Path) -> dict[str, Any]:
        seen.append(is_locked(out))
        raise OSError("interrupted")

    with pytest.raises(OSError, match="interrupted"):
        replace_publication(out, write, "1.0.0", layout="hub", replace=False)
    assert seen == [True]
    assert not list(tmp_path.iterdir()), "no lock file and no empty folder is left"


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_locks_is_warned_of(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Any other error ends the publication."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    is_other = code == errno.EIO
    with (
        pytest.raises(OSError, match=os.strerror(code)) if is_other else nullcontext(),
        locked_folder(tmp_path / "out"),
    ):
        assert not is_other
    assert ("publish to it from one process at a time" in caplog.text) == (not is_other)


def test_processes_with_different_caches_exclude_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process increments a number 50 times, and removes the folder when it is done with it."""
    out, total = tmp_path / "out", tmp_path / "total"
    total.write_text("0")
    children = []
    for number in range(4):
        if (child := os.fork()) == 0:
            status = 1
            try:
                monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / f"home {number}"))
                for _ in range(50):
                    with locked_folder(out):
                        total.write_text(str(int(total.read_text()) + 1))
                        out.rmdir()
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert total.read_text() == "200"
