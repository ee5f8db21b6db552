"""Atomic writes: a file or folder is complete or missing, also after an error or interrupt."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import threading
import time
from pathlib import Path

import datasets
import huggingface_hub
import pytest
import xxhash

from toolrlef_data.records import ToolrlefError
from toolrlef_data.tables.checksums import stamp, warn_of_damage
from toolrlef_data.tables.files import (
    SCRATCH,
    SEALED,
    STAMPS,
    atomic_file,
    create_folder,
    damaged_file,
    explain_disk_errors,
    file_digest,
    fill_once,
    home_dir,
    read_json,
    remove,
    remove_stale_files,
    replace_folder,
    scratch_file,
    scratch_folder,
    seal,
    write_json,
)


class Stop(BaseException):
    """An interrupt in the middle of a write."""


@pytest.mark.parametrize("error", [OSError("odd"), Stop(), ValueError("mine")])
def test_a_failed_write_does_not_change_the_file(tmp_path: Path, error: BaseException) -> None:
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


def test_an_atomic_file_has_default_permissions(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "atomic") as scratch:
        scratch.write_text("x")
    (tmp_path / "plain").write_text("x")
    assert stat.S_IMODE((tmp_path / "atomic").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_a_scratch_file_is_removed_unless_it_is_renamed(tmp_path: Path) -> None:
    with scratch_file(tmp_path) as scratch:
        scratch.write_text("x")
    with scratch_file(tmp_path) as scratch:
        assert scratch.name.startswith("."), "hidden from readers of the folder"
        scratch.write_text("x")
        scratch.rename(tmp_path / "renamed")
    assert os.listdir(tmp_path) == ["renamed"]


def test_the_error_of_a_full_disk_names_the_folder(tmp_path: Path) -> None:
    without_number = OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device")
    quota, too_large = (OSError(code, os.strerror(code)) for code in (errno.EDQUOT, errno.EFBIG))
    for full in (OSError(errno.ENOSPC, "No space left on device"), without_number, quota, too_large):
        with pytest.raises(ToolrlefError, match=f"the disk under {tmp_path} is full"), atomic_file(tmp_path / "a"):
            raise full
        with pytest.raises(ToolrlefError, match="is full"), replace_folder(tmp_path / "b"):
            raise full
        assert os.listdir(tmp_path) == []


def test_a_folder_is_replaced_completely(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for text in ("old", "new"):
        with replace_folder(folder) as new:
            (new / text).write_text(text)
    assert os.listdir(folder) == ["new"]

    def write() -> None:
        with replace_folder(folder) as new:
            (new / "incomplete").write_text("")
            raise Stop

    with pytest.raises(Stop):
        write()
    assert (os.listdir(folder), os.listdir(tmp_path)) == (["new"], ["data"])


def test_the_first_thread_fills_a_folder_and_others_wait(tmp_path: Path) -> None:
    started, may_finish, calls = threading.Event(), threading.Event(), []

    def fill(new: Path) -> None:
        calls.append(new)
        started.set()
        assert may_finish.wait(60)
        (new / "content").write_text("complete")

    threads = [threading.Thread(target=fill_once, args=(tmp_path / "index", fill)) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert started.wait(60)
    assert not (tmp_path / "index").exists(), "an incomplete folder is not visible"
    may_finish.set()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert (tmp_path / "index" / "content").read_text() == "complete"


def test_an_incomplete_folder_is_filled_again(tmp_path: Path) -> None:
    folder = tmp_path / "index"

    def is_complete(folder: Path) -> bool:
        return (folder / "content").is_file()

    folder.mkdir()
    (folder / "incomplete").write_text("")
    with pytest.raises(Stop):
        fill_once(folder, lambda new: (_ for _ in ()).throw(Stop()), is_complete)
    assert os.listdir(folder) == ["incomplete"], "a failed attempt does not change the folder"
    fill_once(folder, lambda new: (new / "content").write_text(""), is_complete)
    assert sorted(os.listdir(folder)) == [SEALED, STAMPS, "content"]


def damage(path: Path, how: str) -> None:
    """Damage a file: remove its last byte or all bytes, set all to zero, or flip a bit in the middle."""
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
    damaged = {"cut": content[:-1], "empty": b"", "zeroed": bytes(len(content)), "flipped": content}
    path.write_bytes(bytes(damaged[how]))


DAMAGES = ["cut", "empty", "zeroed", "flipped"]


@pytest.mark.parametrize("how", [*DAMAGES, "removed"])
@pytest.mark.parametrize("name", ["part/weights", STAMPS])
def test_a_damaged_folder_is_filled_again(
    tmp_path: Path, how: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "model"
    fills = []

    def fill(new: Path) -> None:
        fills.append(new)
        (new / "part").mkdir()
        (new / "part" / "weights").write_text("0123456789")

    for _ in range(2):
        fill_once(folder, fill)
    assert (len(fills), caplog.messages) == (1, [])
    if how == "removed":
        (folder / name).unlink()
    else:
        damage(folder / name, how)
    for _ in range(2):
        fill_once(folder, fill)
    assert len(fills) == 2
    assert [str(folder / name) in message for message in caplog.messages] == [True]
    assert (folder / "part" / "weights").read_text() == "0123456789"


def test_a_folder_of_an_earlier_version_counts_as_undamaged(tmp_path: Path) -> None:
    fills: list[Path] = []
    folder = fill_once(tmp_path / "model", fills.append)
    for name in (SEALED, STAMPS):
        (folder / name).unlink()
    assert fill_once(folder, fills.append) == folder
    assert len(fills) == 1


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_json_file_is_ignored(tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "record.json"
    assert read_json(path) is None
    write_json(path, {"rows": 5000})
    assert read_json(path) == {"rows": 5000}
    assert caplog.messages == []
    damage(path, how)
    for _ in range(2):
        assert read_json(path) is None
    assert [str(path) in message for message in caplog.messages] == [True], "one warning"


def test_each_flipped_bit_of_a_json_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"rows": 5, "files": ["a"]})
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert read_json(path) is None


def test_a_json_file_without_a_checksum_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "record.json"
    path.write_text('{\n "rows": 5\n}')
    assert read_json(path) == {"rows": 5}
    write_json(path, {"rows": 5})
    path.write_bytes(path.read_bytes()[:-33])
    assert read_json(path) == {"rows": 5}, "cut exactly before the checksum"
    assert caplog.messages == []


def test_a_checksum_is_computed_once_unless_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"0123456789")
    os.utime(path, (1, 1))
    first = stamp(path)
    assert first.size == 10
    path.write_bytes(b"012345678X")
    assert stamp(path) != first, "a recent modification time is not believed"
    os.utime(path, (1, 1))
    assert stamp(path) == first, "the file is not read again"
    os.utime(path, (2, 2))
    assert stamp(path) != first


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("HF_HOME", "set HF_HOME to"),
        ("HF_DATASETS_CACHE", "set HF_DATASETS_CACHE or HF_HOME to"),
        (None, "cannot write"),
    ],
)
def test_the_error_of_an_unwritable_folder_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None, message: str
) -> None:
    (tmp_path / "file").touch()
    if variable == "HF_HOME":
        monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path / "file"))
    if variable == "HF_DATASETS_CACHE":
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file")
    folder = tmp_path / "file" / "folder"
    with pytest.raises(ToolrlefError, match=message), atomic_file(folder / "a"):
        pass
    with pytest.raises(ToolrlefError, match=message):
        fill_once(folder / "model", Path.touch)
    with pytest.raises(ToolrlefError, match=message), scratch_folder(folder):
        pass


def test_the_error_of_a_parent_that_cannot_be_created_is_explained(tmp_path: Path) -> None:
    """`mkdir` names the first folder that it cannot create."""
    folder = tmp_path / "a" / "b"
    for name in (str(tmp_path / "a"), os.fsencode(tmp_path / "a"), str(folder / "file")):
        with pytest.raises(ToolrlefError, match=f"cannot write to {folder}"), explain_disk_errors(folder):
            raise PermissionError(errno.EACCES, "Permission denied", name)


def test_errors_of_other_files_pass_through(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), atomic_file(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/key")


def test_an_interrupt_between_the_renames_restores_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, folder = Path.rename, tmp_path / "data"
    with replace_folder(folder) as new:
        (new / "old").write_text("")

    def interrupted_rename(path: Path, target: Path) -> Path:
        if path.name == ".data.new":
            raise Stop
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted_rename)

    def write() -> None:
        with replace_folder(folder):
            pass

    with pytest.raises(Stop):
        write()
    assert (os.listdir(folder), os.listdir(tmp_path)) == (["old"], ["data"])


def test_stale_folders_are_removed_unless_they_are_the_users(tmp_path: Path) -> None:
    for name in (f"{SCRATCH}folder", "tmpfolder"):
        (tmp_path / name).mkdir()
    (tmp_path / "tmpz").touch()
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    remove_stale_files(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["tmpfolder"]


def test_remove_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    remove(tmp_path / "link")
    remove(tmp_path / "missing")
    assert os.listdir(tmp_path) == ["target"]


def test_file_digests_are_pinned(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"weights")
    assert file_digest(tmp_path / "a", 64) == "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"
    assert file_digest(tmp_path / "a") == "9a129038d9a00aed0cf6a7ea059ca50a"


def test_a_change_right_after_the_checksum_is_noticed(tmp_path: Path) -> None:
    """A file system's clock may tick too slowly to give two writes of the same size different times."""
    path = tmp_path / "rows"
    path.write_bytes(b"0123456789")
    written = path.stat().st_mtime_ns
    first = stamp(path)
    path.write_bytes(b"012345678X")
    os.utime(path, ns=(written, written))
    assert stamp(path) != first


def test_created_folders_are_removed_again_after_an_error(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()

    def fail(folder: Path, name: str = "") -> None:
        with create_folder(folder):
            if name:
                (folder / name).touch()
            raise Stop

    for folder in (tmp_path / "a" / "b", tmp_path / "old" / "c", tmp_path / "old"):
        with pytest.raises(Stop):
            fail(folder)
        assert os.listdir(tmp_path) == ["old"]
        assert os.listdir(tmp_path / "old") == []
    with pytest.raises(Stop):
        fail(tmp_path / "a" / "b" / "c", "rows of another process")
    assert os.listdir(tmp_path / "a" / "b" / "c") == ["rows of another process"]
    with create_folder(tmp_path / "new" / "folder"):
        assert (tmp_path / "new" / "folder").is_dir()
    assert (tmp_path / "new" / "folder").is_dir()
    with create_folder(tmp_path / "new" / "folder"):
        pass


def test_a_replacement_that_a_killed_process_left_is_undone_or_removed(tmp_path: Path) -> None:
    folder, new, old = tmp_path / "data", tmp_path / ".data.new", tmp_path / ".data.old"
    for path in (new, old):
        path.mkdir()
        (path / path.name).touch()

    def replace(error: BaseException | None) -> None:
        with replace_folder(folder) as given:
            assert (given, os.listdir(given)) == (new, [])
            assert [folder.exists(), old.exists()] == [True, False], "the old folder is there while it is replaced"
            if error is not None:
                raise error

    with pytest.raises(Stop):
        replace(Stop())
    assert (os.listdir(tmp_path), os.listdir(folder)) == (["data"], [".data.old"])
    old.mkdir()
    replace(None)
    assert (os.listdir(tmp_path), os.listdir(folder)) == (["data"], [])


def test_the_list_of_a_sealed_folder(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("b/c/d", "a", ".hidden"):
        (tmp_path / name).write_text(name)
    assert damaged_file(tmp_path) is None, "not sealed"
    seal(tmp_path)
    assert read_json(tmp_path / STAMPS) == {name: list(stamp(tmp_path / name)) for name in (".hidden", "a", "b/c/d")}
    assert damaged_file(tmp_path) is None
    (tmp_path / "more").touch()
    assert damaged_file(tmp_path) is None, "a further file is no damage"
    (tmp_path / "b/c/d").write_text("other")
    assert damaged_file(tmp_path) == tmp_path / "b/c/d"
    (tmp_path / "b/c/d").unlink()
    (tmp_path / "b/c/d").mkdir()
    assert damaged_file(tmp_path) == tmp_path / "b/c/d", "no file"
    (tmp_path / STAMPS).write_text("{")
    assert damaged_file(tmp_path) == tmp_path / STAMPS
    (tmp_path / STAMPS).unlink()
    assert damaged_file(tmp_path) == tmp_path / STAMPS
    (tmp_path / SEALED).unlink()
    assert damaged_file(tmp_path) is None
    assert damaged_file(tmp_path / "a") is None, "a file is no sealed folder"
    assert read_json(tmp_path / "a" / "b") is None


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST])
def test_each_error_of_an_unwritable_folder_is_explained(code: int, tmp_path: Path) -> None:
    text = os.strerror(code)
    message = f"^cannot write to {re.escape(str(tmp_path))} \\({re.escape(text)}\\)$"
    for name in (tmp_path, tmp_path / "below" / "it", tmp_path.parent):
        with pytest.raises(ToolrlefError, match=message) as raised, explain_disk_errors(tmp_path):
            raise OSError(code, text, str(name))
        assert isinstance(raised.value.__cause__, OSError)
    for error in (
        OSError(code, text),
        OSError(code, text, f"{tmp_path}-other"),
        OSError(errno.EIO, "x", str(tmp_path)),
    ):
        with pytest.raises(OSError, match=f"{text}|x"), explain_disk_errors(tmp_path):
            raise error


def test_the_whole_message_of_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(ToolrlefError) as raised, explain_disk_errors(tmp_path):
        raise OSError(errno.EDQUOT, "x")
    assert str(raised.value) == (
        f"the disk under {tmp_path} is full ({os.strerror(errno.EDQUOT)}). Completed work is saved; free some space and "
        "run again."
    )


def test_the_folder_of_what_outlives_the_stage_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path))
    assert home_dir() == tmp_path / "toolrlef_data"


def test_files_are_stale_after_a_day(tmp_path: Path) -> None:
    now = time.time()
    for name, age in (
        (f"{SCRATCH}old", 86_460),
        (f"{SCRATCH}new", 86_340),
        ("tmpold", 86_460),
        ("tmpnew", 86_340),
        ("old", 99_999),
    ):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (now - age, now - age))
    remove_stale_files(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [f"{SCRATCH}new", "old", "tmpnew"]
    remove_stale_files(tmp_path / "missing")


def test_a_long_file_has_the_digest_of_all_its_parts(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000  # 1.28 MB
    (tmp_path / "a").write_bytes(content)
    assert file_digest(tmp_path / "a", 64) == hashlib.sha256(content).hexdigest()
    assert stamp(tmp_path / "a") == (len(content), xxhash.xxh3_128_hexdigest(content))


def test_the_form_of_a_json_file(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "a.json", {"b": 1, "a": [None]})
    text = '{\n "a": [\n  null\n ],\n "b": 1\n}'
    assert (tmp_path / "new" / "a.json").read_text() == f"{text}\n{xxhash.xxh3_128_hexdigest(text.encode())}"


def test_each_version_of_a_damaged_file_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for n in range(3):
        (tmp_path / "a").write_text("x" * n)
        for _ in range(2):
            warn_of_damage(tmp_path / "a", f"remedy {n}")
    assert caplog.messages == [f"{tmp_path / 'a'} is damaged: remedy {n}" for n in range(3)]


def test_scratch_files_and_folders_are_hidden_and_new(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "a" / "b") as one, scratch_folder(tmp_path / "a" / "b") as other:
        assert (one.parent, one.is_dir(), one != other) == (tmp_path / "a" / "b", True, True)
        assert [path.name[:5] for path in (one, other)] == [SCRATCH] * 2
        (one / "rows").touch()
    assert os.listdir(tmp_path / "a" / "b") == []
    with scratch_file(tmp_path, "mine-") as path:
        assert (path.name[:5], path.parent, path.exists()) == ("mine-", tmp_path, False)


def test_a_complete_folder_is_not_filled(tmp_path: Path) -> None:
    def fill(new: Path) -> None:
        (new / "content").write_text("x")

    folder = fill_once(tmp_path / "a" / "b", fill)
    assert folder == tmp_path / "a" / "b"
    assert fill_once(folder, lambda new: (_ for _ in ()).throw(Stop())) == folder
    with pytest.raises(Stop):
        fill_once(folder, lambda new: (_ for _ in ()).throw(Stop()), lambda folder: False)
