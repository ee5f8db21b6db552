"""`publish` changes only the files that it wrote, and a reader sees the old or the new publication."""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset, DatasetDict, load_dataset, load_dataset_builder

from tests.support.kill_points import (
    FOREIGN,
    foreign_files,
    hub_1,
    hub_2,
    hub_state,
    listing,
    mix_1,
    table,
    trice_1,
    trice_2,
    without_list,
)
from tests.support.waiting import wait_until
from toolrlef_data import InputError, load_trice, publish
from toolrlef_data.publishing import folder as folder_module
from toolrlef_data.publishing import parquet_files
from toolrlef_data.publishing.manifest import seal
from toolrlef_data.publishing.placement import _check_targets, check_replaceable, usable_path
from toolrlef_data.tables.stage_cache import stages_in
from toolrlef_data.trice.files.folder import PENDING


def write(out: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)


def identities(out: Path) -> dict[str, tuple[int, int, bytes]]:
    paths = [path for path in out.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


# Interruptions --------------------------------------------------------------------------------------------------------


def seen(out: Path) -> dict[str, bytes]:
    """Return the card and the files that it names, which must be present."""
    card = (out / "README.md").read_text()
    parts = [part for config in yaml.safe_load(card.split("---\n")[1])["configs"] for part in config["data_files"]]
    return {name: (out / name).read_bytes() for name in ["README.md", *(part["path"] for part in parts)]}


@pytest.mark.parametrize(("module", "name"), [(os, "replace"), (Path, "unlink"), (os, "rmdir")])
def test_a_reader_sees_old_or_new_whichever_change_fails(
    module: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template, complete, out = tmp_path / "template", tmp_path / "complete", tmp_path / "out"
    for folder in (template, complete):
        hub_1(folder)
        write(folder, FOREIGN)
    hub_2(complete)
    old, new, expected = seen(template), seen(complete), listing(complete)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    real = getattr(module, name)
    for n in range(1, 100):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(template, out)
        calls = 0

        def fail(*arguments: Any, n: int = n, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == n:
                raise PermissionError(13, "denied")
            return real(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, fail)
            with contextlib.suppress(PermissionError):
                hub_2(out)
        assert seen(out) in (old, new), f"call {n}"
        hub_2(out)
        assert listing(out) == expected, f"call {n}"
        if calls < n:
            break
    assert n > 2, "at least two calls failed"


def test_the_new_files_are_on_the_disk_before_the_card_and_before_old_files_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_1(out := tmp_path / "out")
    flushed: set[int] = set()
    removed: set[str] = set()
    fsync, replace, unlink = os.fsync, os.replace, Path.unlink

    def note_fsync(descriptor: int) -> None:
        flushed.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def note_replace(source: Path, target: Path) -> None:
        if Path(target).parent in (out, *out.glob("math-*")):
            assert os.stat(source).st_ino in flushed, f"{target} is visible before it is on the disk"
        if Path(target).name == "README.md":
            for folder in (out / "math-a", out / "math-new"):
                assert folder.stat().st_ino in flushed, f"the card names files of {folder}"
            flushed.discard(out.stat().st_ino)
        replace(source, target)

    def note_unlink(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".parquet" and path.parent.parent == out:
            assert out.stat().st_ino in flushed, "an old file goes before the new card is on the disk"
            removed.add(path.parent.name)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    monkeypatch.setattr(Path, "unlink", note_unlink)
    hub_2(out)
    assert removed == {"math-a", "math-gone"}


def test_a_second_publisher_waits_for_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "toolrlef_data")
    out = tmp_path / "out"
    running: list[Path] = []
    numbers: list[int] = []
    write_hub = folder_module.LAYOUTS["hub"]

    def layout(folder: Path, *arguments: Any) -> None:
        running.append(folder)
        if second.ident is None:
            second.start()
            wait_until(lambda: "waiting for it" in caplog.text or len(running) > 1)  # it waits for the lock, or writes
        numbers.append(len(running))
        write_hub(folder, *arguments)
        running.pop()

    second = threading.Thread(target=hub_2, args=(out,))
    monkeypatch.setitem(folder_module.LAYOUTS, "hub", layout)
    hub_1(out)
    second.join()
    assert numbers == [1, 1]
    monkeypatch.undo()
    hub_2(tmp_path / "other")
    assert listing(out) == listing(tmp_path / "other")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("odd")])
def test_a_failure_while_files_are_written_leaves_nothing(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def layout(folder: Path, *arguments: Any) -> None:
        (folder / "README.md").write_text("unfinished")
        raise error

    hub_1(tmp_path / "old")
    before = identities(tmp_path)
    monkeypatch.setitem(folder_module.LAYOUTS, "hub", layout)
    for name in ("old", "new"):
        with pytest.raises(type(error)):
            hub_2(tmp_path / name)
    assert identities(tmp_path) == before
    assert os.listdir(tmp_path) == ["old"]


def test_an_interrupted_publication_of_trices_files_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trice_1(out := tmp_path / "out")
    replace = os.replace

    def stop(source: Path, target: Path) -> None:
        if Path(target).parent.parent == out / "stage2":
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            trice_2(out)
    with pytest.raises(InputError, match="files of two publications, since `publish` was interrupted: publish again"):
        load_trice(out)
    trice_2(out)
    assert load_trice(out)["math"]["stage1"]["input"][:] == ["2"]


@pytest.mark.parametrize("name", ["README.md", "math-gone"])
def test_a_file_that_changed_after_an_interruption_is_not_lost(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_1(out := tmp_path / "out")
    replace = os.replace

    def stop(source: Path, target: Path) -> None:
        if target == out / "README.md":
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            hub_2(out)
    path = next((out / name).iterdir()) if name == "math-gone" else out / name
    path.write_text("mine")
    if name == "README.md":
        with pytest.raises(InputError, match=r"README.md was not written by `publish`"):
            hub_2(out)
        path.rename(tmp_path / "moved")
        path = tmp_path / "moved"
    hub_2(out)
    assert path.read_text() == "mine"
    hub_2(tmp_path / "other")
    assert seen(out) == seen(tmp_path / "other")


# Files of others ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [(hub_1, hub_2), (trice_1, trice_2), (hub_1, trice_2), (trice_1, hub_2)])
def test_files_of_others_and_their_folders_are_not_changed(
    first: Callable[[Path], None], second: Callable[[Path], None], tmp_path: Path
) -> None:
    first(out := tmp_path / "out")
    write(out, {**FOREIGN, "stage1/notes.txt": "", "math-gone/.hidden": "", ".data/x": ""})
    (out / "empty").mkdir()
    (out / "link").symlink_to(tmp_path)
    foreign = {path: identity for path, identity in identities(out).items() if path not in identities_of_list(out)}
    second(out)
    assert foreign.items() <= identities(out).items()
    assert foreign_files(out) == FOREIGN
    assert (out / "empty").is_dir()
    assert (out / "link").is_symlink()
    second(tmp_path / "new")
    assert listing(tmp_path / "new").items() <= listing(out).items()
    assert len(identities(out)) == len(identities(tmp_path / "new")) + len(foreign), "no old file remains"


def identities_of_list(out: Path) -> set[str]:
    names = json.loads((out / "provenance.json").read_text())["files"]
    return {str(out / name) for name in [*names, "provenance.json"]}


def test_folders_that_become_empty_are_removed(tmp_path: Path) -> None:
    hub_1(out := tmp_path / "out")
    hub_2(out)
    assert sorted(os.listdir(out)) == ["README.md", "math-a", "math-new", "provenance.json"]
    trice_1(out := tmp_path / "trice")
    trice_2(out)
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_dir()) == [
        *("stage1", "stage1/math", "stage2", "stage2/math")
    ]


def provenance(**changes: Any) -> str:
    facts = {"version": "1.0.0", "configs": {}, "stages": {}, "packages": {"toolrlef_data": "0.1.0"}, "files": {}}
    return seal({**facts, **changes})


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[]", "null", "not json", '"toolrlef_data"', "[" * 100_000),
        provenance(packages={"torch": "2.0"}),
        provenance(packages=None),
        provenance(version="one"),
        provenance(version=1),
        provenance(files=[]),
        provenance(files={"/etc/passwd": {"bytes": 1, "sha256": ""}}),
        provenance(files={"../thesis.tex": {"bytes": 1, "sha256": ""}}),
        provenance(files={"a/../../thesis.tex": {"bytes": 1, "sha256": ""}}),
        provenance(files={"thesis.tex": 1}),
    ],
)
def test_a_folder_with_the_provenance_of_another_program_is_refused(text: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, {"provenance.json": text, "thesis.tex": "x"})
    write(tmp_path, {"thesis.tex": "y"})
    before = identities(tmp_path)
    with pytest.raises(InputError, match=r"provenance.json was not written by `publish`"):
        hub_1(out)
    assert identities(tmp_path) == before


@pytest.mark.parametrize("name", ["README.md", "provenance.json", "math-a"])
def test_a_published_file_that_has_changed_is_never_replaced(name: str, tmp_path: Path) -> None:
    hub_1(out := tmp_path / "out")
    path = next((out / name).iterdir()) if name == "math-a" else out / name
    text = path.read_bytes()
    path.write_bytes(text[:-3] + b"x" + text[-2:] if name == "math-a" else text.replace(b"1.0.0", b"1.0.1"))
    before = identities(out)
    for options in ({}, {"replace": True}):
        with pytest.raises(InputError, match=f"{path.name} has changed since it was published"):
            publish({"math": {"a": table("2")}}, out, version="2.0.0", **options)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="has changed since"):
            check_replaceable(out, "2.0.0", **options)  # type: ignore[arg-type]
    assert identities(out) == before
    if name != "provenance.json":
        path.rename(tmp_path / "moved")
        hub_2(out)
        hub_2(tmp_path / "other")
        assert listing(out) == listing(tmp_path / "other")


@pytest.mark.parametrize("name", ["README.md", "math-a", "math-new/README.md"])
def test_a_file_of_others_with_a_needed_name_is_refused(name: str, tmp_path: Path) -> None:
    trice_1(out := tmp_path / "out")
    write(out, {name: "mine"})
    before = identities(out)
    if name == "README.md":
        with pytest.raises(InputError, match=r"README.md was not written by `publish`, which needs this name"):
            check_replaceable(out, "1.1.0")
    if name == "math-new/README.md":  # a name that is not needed
        hub_2(out)
        assert (out / name).read_text() == "mine"
        return
    with pytest.raises(InputError, match=f"{name} (was not written|must be a folder)"):
        hub_2(out)
    assert identities(out) == before


def test_a_link_or_mount_point_instead_of_a_folder_is_refused(tmp_path: Path) -> None:
    hub_1(out := tmp_path / "out")
    (tmp_path / "disk").mkdir()
    (out / "math-new").symlink_to(tmp_path / "disk")
    with pytest.raises(InputError, match="math-new must be a folder, no link or mount point"):
        hub_2(out)
    assert os.listdir(tmp_path / "disk") == []
    assert not (out / PENDING).exists()


# Where to publish -----------------------------------------------------------------------------------------------------

UNUSABLE = {
    "/": "/ exists and is not a published data set",
    "file": "file exists and is not a folder",
    "file/data": "file exists and is not a folder",
    "data [v1]": "load_dataset cannot read a folder with",
    "data*/x": "load_dataset cannot read a folder with",
    "data?": "load_dataset cannot read a folder with",
    "a::b": "load_dataset cannot read a folder with",
    "a" * 256: "cannot be a folder: .*too long",
    "new/" + "a" * 256: "cannot be a folder: .*too long",
    "/".join(["a" * 250] * 16): "cannot be a folder: .*too long",
    "a\0b": "cannot be a folder",
    "loop": "cannot be a folder",
    "other": "other exists and is not a published data set",
}


@pytest.mark.parametrize("name", UNUSABLE, ids=lambda name: name.replace("\0", "0")[:12])
def test_an_unusable_folder_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    write(tmp_path, {"file": "mine", "other/thesis.tex": "mine"})
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    before = sorted(tmp_path.rglob("*"))
    for act in (hub_1, check_replaceable):
        with pytest.raises(InputError, match=UNUSABLE[name]):
            act(tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["a" * 255, "data/", ".", "./x/../y", "ünï #%20", "{a}", "a[", "]", ".hidden"])
def test_other_names_are_usable(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for act in (hub_1, hub_2):
        act(name)  # type: ignore[arg-type]
    state = hub_state(Path(name).resolve())
    assert state["math-a"] == ("1.1.0", [{"id": "2", "x": "2"}, {"id": "3", "x": "3"}])


@pytest.mark.parametrize(
    "name", ["s3://bucket/data", Path("gs://bucket/data"), "hf://datasets/me/data", "file:///data"]
)
def test_a_url_is_no_folder(name: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be a local folder named s3: otherwise."""
    monkeypatch.chdir(tmp_path)
    for act in (hub_1, check_replaceable):
        with pytest.raises(InputError, match="is object storage or another URL: publish to a folder"):
            act(name)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_the_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert check_replaceable("~/data") == tmp_path / "home" / "data"
    with pytest.raises(InputError, match="'~nobody-at-all/data' cannot be a folder"):
        check_replaceable("~nobody-at-all/data")
    assert not any(path.name.startswith("~") for path in tmp_path.iterdir())


def test_trices_files_are_published_where_load_dataset_cannot_read(tmp_path: Path) -> None:
    trice_1(tmp_path / "data [v1]")
    assert load_trice(tmp_path / "data [v1]")["qa"]["stage1"]["input"][:] == ["q"]


def test_a_read_only_folder_is_refused() -> None:
    code = (
        "import os, sys\n"
        "from toolrlef_data.publishing.placement import usable_path\n"
        "os.getuid() or os.setuid(65534)\n"
        "for out in (sys.argv[1], sys.argv[1] + '/new/data'):\n"
        "    try: usable_path(out, 'hub')\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        run = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
        os.chmod(folder, 0o755)
    messages = [
        f"InputError {folder} is not writable: choose another folder for {folder}{end}" for end in ("", "/new/data")
    ]
    assert [line.partition(",")[0] for line in run.stdout.splitlines()] == messages


def test_a_folder_with_hidden_files_only_is_free(tmp_path: Path) -> None:
    """As a clone of a new repository of the Hub."""
    write(tmp_path, {".git/HEAD": "ref", ".gitattributes": "*.parquet filter=lfs"})
    hub_1(tmp_path)
    assert (tmp_path / ".gitattributes").read_text() == "*.parquet filter=lfs"
    assert hub_state(tmp_path)["math-a"][0] == "1.0.0"


def test_folders_beside_the_published_one_are_not_changed(tmp_path: Path) -> None:
    write(tmp_path, {".out.old/mine": "x", ".out.new/mine": "y", "out.lock": "z"})
    before = identities(tmp_path)
    hub_1(tmp_path / "out")
    hub_2(tmp_path / "out")
    assert before.items() <= identities(tmp_path).items()
    assert sorted(os.listdir(tmp_path)) == [".out.new", ".out.old", "out", "out.lock"]


def test_the_target_of_a_link_is_replaced_and_the_link_kept(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "data")
    for act in (hub_1, hub_2):
        act(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert hub_state(tmp_path / "disk" / "data")["math-a"][0] == "1.1.0"


# Versions -------------------------------------------------------------------------------------------------------------


def test_the_same_rows_under_the_same_version_change_nothing(tmp_path: Path) -> None:
    for number, act in enumerate((hub_1, trice_1)):
        act(out := tmp_path / str(number))
        before = identities(out)
        act(out)
        assert identities(out) == before


OTHER_ROWS: dict[str, Any] = {
    "another row": {"a": table("2"), "gone": table("g")},
    "one more row": {"a": table("1", "2"), "gone": table("g")},
    "another order": {"a": table("1"), "gone": table("h")},
    "one more table": {"a": table("1"), "gone": table("g"), "new": table("n")},
    "one table less": {"a": table("1")},
    "another split": {"a": DatasetDict(test=table("1")), "gone": table("g")},
    "another column": {"a": table("1").rename_column("x", "y"), "gone": table("g")},
}


@pytest.mark.parametrize("change", OTHER_ROWS)
def test_other_rows_under_the_same_version_are_refused(change: str, tmp_path: Path) -> None:
    hub_1(out := tmp_path / "out")
    before = identities(out)
    with pytest.raises(InputError, match=r"has other rows under the same version 1.0.0: raise the version"):
        publish({"math": OTHER_ROWS[change]}, out, version="1.0.0")
    assert identities(out) == before
    publish({"math": OTHER_ROWS[change]}, out, version="1.0.0", replace=True)
    publish({"math": OTHER_ROWS[change]}, tmp_path / "other", version="1.0.0")
    assert listing(out) == listing(tmp_path / "other")


def test_other_rows_in_trices_files_are_refused(tmp_path: Path) -> None:
    trice_2(out := tmp_path / "out")
    before = identities(out)
    with pytest.raises(InputError, match=r"has the version 1.1.0, which is newer than 1.0.0"):
        trice_1(out)
    with pytest.raises(InputError, match=r"has other rows under the same version 1.1.0"):
        hub_2(out)
    assert identities(out) == before


def test_the_same_rows_with_other_bytes_or_another_card_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version of pyarrow writes other bytes."""
    out = tmp_path / "out"
    data = table(*map(str, range(50)))
    publish({"math": {"a": data}}, out, version="1.0.0", card={"license": "mit"})
    before = listing(out)
    publish({"math": {"a": data}}, out, version="1.0.0", card={"license": "apache-2.0"})
    assert {name for name, text in listing(out).items() if before[name] != text} == {"README.md", "provenance.json"}
    with monkeypatch.context() as patch:
        patch.setattr(parquet_files, "ROW_GROUP_BYTES", data.data.nbytes // 5)
        patch.setattr(parquet_files, "COMPARED_ROWS", 7)
        other = table(*map(str, [*range(49), 50]))
        with pytest.raises(InputError, match="has other rows under the same version"):
            publish({"math": {"a": other}}, out, version="1.0.0")
        publish({"math": {"a": data}}, out, version="1.0.0", card={"license": "apache-2.0"})
    assert len(listing(out)) == 3
    assert not {name for name in before if name.endswith(".parquet")} & listing(out).keys()
    assert load_dataset(str(out), "math-a", split="train")[:] == data[:]


@pytest.mark.parametrize(("newer", "older"), [("1.1.0", "1.0.9"), ("2.0.0", "1.99.99"), ("0.10.0", "0.9.0")])
def test_an_older_version_is_refused(newer: str, older: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish({"math": {"a": table("1")}}, out, version=newer)
    before = identities(out)
    for act in (check_replaceable, lambda *a, **o: publish({"math": {"a": table("1")}}, *a[:1], version=a[1], **o)):
        with pytest.raises(InputError, match=rf"has the version {newer}, which is newer than {older}: raise"):
            act(out, older)
        assert identities(out) == before
        act(out, older, replace=True)
    assert json.loads((out / "provenance.json").read_text())["version"] == older


def test_load_dataset_reads_the_version_of_every_config(tmp_path: Path) -> None:
    dropped = {"id": "9", "task": "math", "dataset": "d", "stage": "s", "reason": "r", "detail": ""}
    tables = {"math": {"a": table("1"), "b": table("b")}, "qa": {"a": table("q")}}
    publish(tables, out := tmp_path / "out", version="3.20.1", dropped=Dataset.from_list([dropped]))
    front = (out / "README.md").read_text().split("---\n")[1]
    configs = {config["config_name"]: config for config in yaml.safe_load(front)["configs"]}
    assert list(configs) == ["math-a", "math-b", "qa-a", "math-dropped", "mix-a"]
    for name, config in configs.items():
        assert config["version"] == "3.20.1"
        assert str(load_dataset_builder(str(out), name).info.version) == "3.20.1"
    assert front.count("version: '3.20.1'\n") == len(configs)


def test_the_card_names_exact_files_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_files, "SHARD_BYTES", 200)
    data = table(*(f"{n:04}" for n in range(100)))
    publish({"math": {"a": data}}, out := tmp_path / "out", version="1.0.0")
    (config,) = yaml.safe_load((out / "README.md").read_text().split("---\n")[1])["configs"]
    (part,) = config["data_files"]
    assert len(part["path"]) == len(list((out / "math-a").iterdir())) > 5
    write(out, {"math-a/train-00000-of-00001.parquet": "of somebody else"})
    assert load_dataset(str(out), "math-a", split="train")["id"][:] == data["id"][:]


def test_names_that_are_too_long_for_files_are_refused(tmp_path: Path) -> None:
    names = [("t" * 101, "a", "train"), ("t", "a" * 101, "train"), ("t", "a", "s" * 101)]
    for task, name, split in names:
        with pytest.raises(InputError, match="must have at most 100 characters"):
            publish({task: {name: DatasetDict({split: table("1")})}}, tmp_path / "out", version="1.0.0")
    assert os.listdir(tmp_path) == []
    tables = {"t" * 100: {"a" * 100: DatasetDict({"s" * 100: table("1")})}}
    publish(tables, out := tmp_path / "out", version="1.0.0")
    assert load_dataset(str(out))["s" * 100]["id"][:] == ["1"]


# Folders of earlier versions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [hub_1, mix_1, trice_1])
def test_a_folder_of_an_earlier_version_is_replaced_without_loss(
    first: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    without_list(first)(out := tmp_path / "out")
    mine = {**FOREIGN, "math-a/train-mine.parquet": "", "other/train-00000-of-00001.parquet": "", "raw/mine.txt": ""}
    write(out, mine)
    assert check_replaceable(out, "1.1.0") == out
    tables = {"math": {"stage1": table("1")}}
    if first is trice_1:
        before = identities(out)
        with pytest.raises(InputError, match=r"remove stage1/math/d.json, or pass replace=True to remove 7 files"):
            publish(tables, out, version="1.1.0")
        assert identities(out) == before
    publish(tables, out, version="1.1.0", replace=first is trice_1)
    assert "of an earlier version of this package, which kept no list of its files" in caplog.text
    assert {name: (out / name).read_text() for name in mine} == mine
    publish(tables, tmp_path / "new", version="1.1.0")
    assert listing(out).keys() == {*listing(tmp_path / "new"), *mine}
    assert hub_state(out) == hub_state(tmp_path / "new")


def test_reserved_keys_of_provenance_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="reserved key 'files'"):
        publish({"math": {"a": table("1")}}, tmp_path / "out", version="1.0.0", provenance={"files": [], "mine": 1})
    own = {"mine": {1: "x", 10: "y", 2: 1.5}, "half": "\ud83d"}
    for version in ("1.0.0", "1.0.1"):
        publish({"math": {"a": table("1")}}, tmp_path / "out", version=version, provenance=own)
    facts = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert (facts["mine"], facts["half"]) == ({"1": "x", "10": "y", "2": 1.5}, "\ufffd")


def test_the_path_is_absolute_and_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert usable_path("a/../b/", "hub") == tmp_path / "b" == publish({"m": {"a": table("1")}}, "b/", version="1.0.0")


def mount_and_check(out: Path, name: str) -> int:
    """Return in a new process with mounts of its own: 0 if a file below a mount point is refused, 2 if none can be made."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            new_mounts, private = 0x00020000, 0x00040000 | 0x4000  # CLONE_NEWNS; MS_PRIVATE and MS_REC
            target = os.fsencode(out / name)
            if libc.unshare(new_mounts) or libc.mount(b"none", b"/", None, private, None):
                status = 2
            else:
                status = 2 if libc.mount(b"none", target, b"tmpfs", 0, None) else 1
            if status == 1:
                _check_targets(out, [f"{name}/train.parquet"], [])
        except InputError as error:
            status = 0 if "must be a folder, no link or mount point" in str(error) else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # the child starts no thread
def test_a_mount_point_in_the_folder_is_refused(tmp_path: Path) -> None:
    """Files of another file system could not be renamed into place."""
    hub_1(out := tmp_path / "out")
    (out / "math-new").mkdir()
    status = mount_and_check(out, "math-new")
    if status == 2:
        pytest.skip("this user cannot mount a file system")
    assert status == 0
    _check_targets(out, ["math-new/train.parquet"], [])  # an ordinary folder


@pytest.mark.parametrize("name", ["", "x", "x/y"])
@pytest.mark.parametrize("layout", ["hub", "trice"])
def test_a_folder_in_the_cache_of_stages_is_refused(name: str, layout: str, tmp_path: Path) -> None:
    with stages_in(tmp_path / "cache"):
        with pytest.raises(InputError, match=r"is in the cache of stages .*cache, which can be removed at any time"):
            check_replaceable(tmp_path / "cache" / name, layout=layout)
        check_replaceable(tmp_path / "cache-of-mine", layout=layout)
    assert list(tmp_path.iterdir()) == []
