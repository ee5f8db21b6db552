"""Files and folders are whole or not there at all, whatever ends the writing."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from toolrlef_data.records import ToolrlefError
from toolrlef_data.tables.files import (
    SCRATCH,
    atomic_file,
    file_digest,
    fill_once,
    remove,
    replace_folder,
    scratch_file,
    sweep,
)


class Stop(BaseException):
    """What ends a write in these tests, as a key press would."""


@pytest.mark.parametrize("error", [OSError("odd"), Stop(), ValueError("mine")])
def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "rows"
    path.write_text("old")

    def write() -> None:
        with atomic_file(path) as scratch:
            scratch.write_text("new")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["rows"]


def test_a_file_has_the_rights_of_any_new_file(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "ours") as scratch:
        scratch.write_text("x")
    (tmp_path / "others").write_text("x")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "others").stat().st_mode)


def test_a_scratch_file_is_gone_unless_it_was_renamed(tmp_path: Path) -> None:
    with scratch_file(tmp_path) as scratch:
        scratch.write_text("x")
    with scratch_file(tmp_path) as scratch:
        assert scratch.name.startswith("."), "hidden, so that no reader takes it for a file of its own"
        scratch.write_text("x")
        scratch.rename(tmp_path / "kept")
    assert os.listdir(tmp_path) == ["kept"]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ToolrlefError, match=f"the disk under {tmp_path} is full"), atomic_file(tmp_path / "a"):
        raise full
    with pytest.raises(ToolrlefError, match="is full"), replace_folder(tmp_path / "b"):
        raise full
    assert os.listdir(tmp_path) == []


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for text in ("old", "new"):
        with replace_folder(folder) as new:
            (new / text).write_text(text)
    assert os.listdir(folder) == ["new"]

    def write() -> None:
        with replace_folder(folder) as new:
            (new / "half").write_text("")
            raise Stop

    with pytest.raises(Stop):
        write()
    assert (os.listdir(folder), os.listdir(tmp_path)) == (["new"], ["data"])


def test_a_folder_is_filled_once_by_whoever_comes_first(tmp_path: Path) -> None:
    begun, go_on, calls = threading.Event(), threading.Event(), []

    def fill(new: Path) -> None:
        calls.append(new)
        begun.set()
        go_on.wait()
        (new / "content").write_text("whole")

    threads = [threading.Thread(target=fill_once, args=(tmp_path / "index", fill)) for _ in range(4)]
    for thread in threads:
        thread.start()
    begun.wait()
    assert not (tmp_path / "index").exists(), "nothing is seen before all of it is there"
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert (tmp_path / "index" / "content").read_text() == "whole"


def test_a_damaged_folder_is_filled_again_and_stays_where_that_fails(tmp_path: Path) -> None:
    folder = tmp_path / "index"

    def whole(folder: Path) -> bool:
        return (folder / "content").is_file()

    folder.mkdir()
    (folder / "half").write_text("")
    with pytest.raises(Stop):
        fill_once(folder, lambda new: (_ for _ in ()).throw(Stop()), whole)
    assert os.listdir(folder) == ["half"]
    fill_once(folder, lambda new: (new / "content").write_text(""), whole)
    assert os.listdir(folder) == ["content"]


def test_an_interrupt_between_the_renames_brings_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, folder = Path.rename, tmp_path / "data"
    with replace_folder(folder) as new:
        (new / "old").write_text("")

    def interrupted(path: Path, target: Path) -> Path:
        if path.name == ".data.new":
            raise Stop
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)

    def write() -> None:
        with replace_folder(folder):
            pass

    with pytest.raises(Stop):
        write()
    assert (os.listdir(folder), os.listdir(tmp_path)) == (["old"], ["data"])


def test_a_folder_among_the_scratch_files_stops_no_sweep(tmp_path: Path) -> None:
    for name in (f"{SCRATCH}folder", "tmpfolder"):
        (tmp_path / name).mkdir()
    (tmp_path / "tmpz").touch()
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [f"{SCRATCH}folder", "tmpfolder"]


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    remove(tmp_path / "link")
    remove(tmp_path / "nothing")
    assert os.listdir(tmp_path) == ["elsewhere"]


def test_digests_are_pinned(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"weights")
    assert file_digest(tmp_path / "a", 64) == "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"
    assert file_digest(tmp_path / "a") == "9a129038d9a00aed0cf6a7ea059ca50a"
