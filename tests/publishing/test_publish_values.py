"""publish: whole messages of refused tables, and the mixes and ledgers of tasks as whole values."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, Features

from toolrlef_data import InputError, publish
from toolrlef_data.columns import DROPPED, STAGE1, STAGE2
from toolrlef_data.publishing import folder, parquet_files
from toolrlef_data.publishing.locks import locked_folder
from toolrlef_data.publishing.manifest import file_entry
from toolrlef_data.publishing.placement import _check_targets, check_replaceable, usable_path
from toolrlef_data.publishing.recipe_file import RecipeFile
from toolrlef_data.records import MissingColumns, UnknownName

Row = dict[str, Any]
ONE = Dataset.from_list([{"id": "1", "question": "?"}])
NONE = ONE.select([])


def table(features: Any, *rows: Row) -> Dataset:
    return Dataset.from_list([{**dict.fromkeys(features), **row} for row in rows], features=Features(features))


SHAPE = 'publish expects {task: {name: table}}, such as {"math": {"stage1": stage1}}; found a'
EMPTY = "publish needs at least one table, and every table at least one split"
ALLOWED = "must consist of letters A-Z, digits and _"
LONG = "must have at most 100 characters; found"


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (ONE, f"{SHAPE} Dataset"),
        (DatasetDict(train=ONE), f"{SHAPE} DatasetDict"),
        ({"m": ONE}, f"{SHAPE} Dataset at 'm'"),
        ({"m": DatasetDict(a=ONE)}, f"{SHAPE} DatasetDict at 'm'"),
        ({"m": {"a": 3}}, f"{SHAPE} int at 'm', 'a': a table is a Dataset or a DatasetDict"),
        ({}, EMPTY), ({"m": {"a": DatasetDict()}}, EMPTY), ({"m": {}}, EMPTY),
        ({"-m": {"a": ONE}}, f"the name of a task {ALLOWED}; also . and - after the first; found '-m'"),
        ({"m": {".a": ONE}}, f"the name of a table {ALLOWED}; also . and - after the first; found '.a'"),
        ({"m": {"a b": ONE}}, f"the name of a table {ALLOWED}; also . and - after the first; found 'a b'"),
        ({"m": {"a": DatasetDict({"x.y": ONE})}}, f"the name of a split {ALLOWED}; found 'x.y'"),
        ({3: {"a": ONE}}, f"the name of a task {ALLOWED}; also . and - after the first; found 3"),
        ({"m" * 101: {"a": ONE}}, f"the name of a task {LONG} {'m' * 101!r}"),
        ({"m": {"a" * 101: ONE}}, f"the name of a table {LONG} {'a' * 101!r}"),
        ({"m": {"a": DatasetDict({"s" * 101: ONE})}}, f"the name of a split {LONG} {'s' * 101!r}"),
        *(({"m": {name: ONE}}, f"a table cannot be named {name!r}, which is reserved for the dropped rows: pass dropped=") for name in ("dropped", "x-dropped")),
        ({"a": {"b-c": ONE}, "a-b": {"c": ONE}}, "two tables have the same config name 'a-b-c': rename one"),
        ({"m": {"a": NONE}}, "no rows to publish in m-a (train): `ledger([table])` lists the dropped rows"),
        ({"m": {"b": ONE, "a": DatasetDict(x=NONE, y=NONE)}}, "no rows to publish in m-a (x, y): `ledger([table])` lists the dropped rows"),
        (
            {"m": {"a": DatasetDict(x=ONE, y=ONE, z=ONE.rename_column("question", "other"))}},
            "m-a: expected the same columns in every split, found other, question only in one of x and z: build the split of an earlier "
            "version again, or publish it as another table",
        ),
        (
            {"m": {"a": DatasetDict(x=ONE.add_column("n", [7]), y=ONE.add_column("n", ["07"]))}},
            "m-a: expected the same features in every split, found Value('int64') in x and Value('string') in y for n: `cast` one of them",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_tables_that_are_refused(tables: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        publish(tables, tmp_path / "out", version="1.0.0")
    assert str(caught.value) == message
    assert not list(tmp_path.iterdir())


def test_names_that_are_published(tmp_path: Path) -> None:
    out = publish({"_m.-1": {"0.a-dropped.": DatasetDict(T_1=ONE)}}, tmp_path / "out", version="1.0.0")
    assert [path.name.rpartition("-")[0] for path in (out / "_m.-1-0.a-dropped.").iterdir()] == ["T_1-00000-of-00001"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "trice", "card": {"title": "x"}}, "the layout 'trice' has no card: omit card=, or publish with layout='hub'"),
        ({"layout": "trice-old", "cassette": True}, "the layout 'trice-old' has no cassette: omit cassette=, or publish with layout='hub'"),
        ({"layout": "trice", "recipe": RecipeFile({})}, "the layout 'trice' has no recipe: omit recipe=, or publish with layout='hub'"),
        *(({"provenance": {name: 1}}, f"provenance= has the reserved key {name!r}: rename it") for name in ("version", "configs", "stages", "packages", "files", "sha256", "recipe")),
        ({"version": "1"}, "version must be three numbers like '1.2.3', found '1'"),
        ({"dropped": ONE}, "dropped= lacks task, dataset, stage, reason, detail; found id, question"),
    ],
)  # fmt: skip
def test_options_that_are_refused(options: Row, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        publish({"m": {"a": ONE}}, tmp_path / "out", **{"version": "1.0.0", **options})
    assert str(caught.value) == message
    assert isinstance(caught.value, MissingColumns) == ("dropped" in options)
    with pytest.raises(UnknownName, match="unknown layout 'csv'"):
        publish({"m": {"a": ONE}}, tmp_path / "out", version="1.0.0", layout="csv")
    assert not list(tmp_path.iterdir())


def test_entries_of_the_publisher(tmp_path: Path) -> None:
    """They are beside those of `publish`, which has the recipe, too."""
    recipe = RecipeFile({"name": "x"}, commit="c", date="2026-11-30")
    out = publish({"m": {"a": ONE}}, tmp_path / "out", version="1.0.0", recipe=recipe, provenance={"mine": [1]})
    facts = json.loads((out / "provenance.json").read_text())
    assert sorted(facts) == ["configs", "files", "mine", "packages", "recipe", "sha256", "stages", "version"]
    assert (facts["mine"], facts["version"]) == ([1], "1.0.0")
    assert facts["recipe"] == {"file": "recipe.yaml", "commit": "c", "date": "2026-11-30"}


def test_mixes_of_tasks(caplog: pytest.LogCaptureFixture) -> None:
    """Of tables with one schema; each split has the configs that have it, in the order of the tasks."""
    other = ONE.rename_column("question", "x")
    splits: Any = {
        "b": {"t": {"train": ONE, "dev": ONE}, "own": {"train": ONE}, "u": {"train": ONE}},
        "a": {"t": {"test": ONE, "train": ONE}, "u": {"train": other}, "w": {"train": ONE}},
        "mix": {"w": {"train": ONE}},
    }
    expected = {"mix-t": {"train": ["b-t", "a-t"], "dev": ["b-t"], "test": ["a-t"]}}
    assert folder._mixes(splits) == expected
    assert [record.message for record in caplog.records] == ["no mix-u: b-u and a-u have different columns"]
    assert list(folder._configs(splits)) == ["b-t", "b-own", "b-u", "a-t", "a-u", "a-w", "mix-w"]


def test_ledgers_of_tasks() -> None:
    """A row of a task belongs to it, under whichever name its rows are published; other rows belong to all."""
    drops = table(
        DROPPED,
        *({"id": row_id, "task": task} for row_id, task in (("1", "math"), ("2", "qa"), ("3", None), ("4", "other"))),
    )
    stage1 = {task: {"t": {"train": table(STAGE1, {"id": "x", "task": task})}} for task in ("math", "qa")}
    renamed = {"mine": stage1["math"], "qa": stage1["qa"], "plain": {"t": {"train": ONE}}}
    found = folder._ledgers(renamed, drops)
    assert {task: data["id"][:] for task, data in found.items()} == {
        "mine": ["1", "3", "4"],
        "qa": ["2", "3", "4"],
        "plain": ["3", "4"],
    }
    assert folder._ledgers(renamed, drops.select([0])).keys() == {"mine"}
    assert folder._ledgers(renamed, None) == {}


def test_tables_of_earlier_versions_are_named(caplog: pytest.LogCaptureFixture) -> None:
    stage2 = table(STAGE2, {"id": "1"})
    older = stage2.remove_columns(["error_details", "finish_reasons"])
    folder._check_columns({"m": {"new": {"train": stage2}, "old": {"train": older}, "own": {"train": ONE}}})
    message = "m-old: a table of an earlier version, without the columns finish_reasons, error_details"
    assert sorted(record.message for record in caplog.records)[0].split(", without")[0] == message.split(", without")[0]
    assert {*caplog.records[0].message.partition("columns ")[2].split(", ")} == {"finish_reasons", "error_details"}
    assert len(caplog.records) == 1


def test_empty_splits_are_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "toolrlef_data")
    splits: Any = {"m": {"a": {"x": NONE, "y": ONE, "z": NONE}, "b": {"train": ONE}}}
    assert folder._without_empty(splits) == {"m": {"a": {"y": ONE}, "b": {"train": ONE}}}
    assert [record.message for record in caplog.records] == [
        "m-a: skipped x, z, which has no rows: `ledger` lists the dropped rows"
    ]


REMEDY = "raise the version, choose another folder, or replace it with replace=True (--replace)"


def test_publications_that_are_not_replaced(tmp_path: Path) -> None:
    publish({"m": {"a": ONE}}, out := tmp_path / "out", version="2.0.0")
    two = Dataset.from_list([{"id": "2", "question": "?"}])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").touch()
    cases: list[tuple[Any, str]] = [
        (lambda: publish({"m": {"a": two}}, out, version="2.0.0"), f"{out} has other rows under the same version 2.0.0: {REMEDY}"),
        (lambda: publish({"m": {"a": two}}, out, version="1.9.9"), f"{out} has the version 2.0.0, which is newer than 1.9.9: {REMEDY}"),
        (lambda: check_replaceable(out, "1.9.9"), f"{out} has the version 2.0.0, which is newer than 1.9.9: {REMEDY}"),
        (lambda: check_replaceable(out, "x"), "version must be three numbers like '1.2.3', found 'x'"),
        (lambda: check_replaceable(tmp_path / "other"), f"{tmp_path / 'other'} exists and is not a published data set: choose another folder, or move it away"),
    ]  # fmt: skip
    for act, message in cases:
        with pytest.raises(InputError) as caught:
            act()
        assert str(caught.value) == message
    assert (
        check_replaceable(out)
        == check_replaceable(out, "2.0.0")
        == check_replaceable(out, "1.0.0", replace=True)
        == out
    )
    (out / "recipe.yaml").write_text("mine")
    assert check_replaceable(out, "2.0.0") == out
    with pytest.raises(InputError) as caught:
        check_replaceable(out, "2.0.0", recipe=True)
    assert (
        str(caught.value) == f"{out / 'recipe.yaml'} was not written by `publish`, which needs this name: move it away"
    )
    assert check_replaceable(out, "2.0.0", recipe=True, layout="trice") == out


# Folders --------------------------------------------------------------------------------------------------------------


def message_of(act: Any, *arguments: Any) -> str:
    with pytest.raises(InputError) as caught:
        act(*arguments)
    return str(caught.value)


def test_paths_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("a*", "a?", "a[b]", "a::b", "x*/y"):
        path = tmp_path / name
        message = f"load_dataset cannot read a folder with *, ?, [...] or :: in its path: {path}"
        assert message_of(usable_path, path, "hub") == message
        assert usable_path(path, "trice") == path
    for path in (tmp_path / "file", tmp_path / "file" / "x" / "y"):
        message = f"{tmp_path / 'file'} exists and is not a folder, so {path} cannot be one: choose another"
        assert message_of(usable_path, path, "hub") == message
    start = f"{str(tmp_path / ('a' * 256))!r} cannot be a folder: "
    assert message_of(usable_path, tmp_path / ("a" * 256), "hub").startswith(start)
    deep = tmp_path.joinpath(*["a" * 200] * 20)
    fits = next(path for path in deep.parents if len(str(path)) + 603 < 4096)  # with three names of 200 characters
    assert usable_path(fits, "hub") == fits
    assert "cannot be a folder" in message_of(usable_path, deep, "hub")


def test_files_and_folders_that_are_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "file").touch()
    mine = {"files": {"a/x": file_entry(tmp_path / "a" / "x")}}
    _check_targets(tmp_path, ["a/x", "a/y", "new/z", "top"], [{"files": {}}, mine])
    needed = f"{tmp_path / 'a' / 'x'} was not written by `publish`, which needs this name: move it away"
    assert message_of(_check_targets, tmp_path, ["a/y", "a/x"], [{"files": {"a/y": mine["files"]["a/x"]}}]) == needed
    for name in ("link", "file"):
        message = f"{tmp_path / name} must be a folder, no link or mount point: move it away"
        assert message_of(_check_targets, tmp_path, [f"{name}/x"], [mine]) == message


def test_a_file_that_has_changed_is_named(tmp_path: Path) -> None:
    publish({"m": {"a": ONE}}, out := tmp_path / "out", version="1.0.0")
    (out / "README.md").write_text("mine")
    assert message_of(check_replaceable, out) == (
        f"{out / 'README.md'} has changed since it was published: move it out of the folder, and publish again (card= sets "
        "the metadata of README.md)"
    )


def test_rows_of_files_are_compared_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any files and row groups; a missing file, another last row and another number of rows are noticed."""
    monkeypatch.setattr(parquet_files, "COMPARED_ROWS", 3)

    def write(name: str, texts: str, rows: int, column: str = "id") -> str:
        pq.write_table(pa.table({column: [*texts]}), tmp_path / name, row_group_size=rows)
        return name

    whole = [write("whole", "abcdefg", 7)]
    parts = [write("one", "ab", 1), write("two", "cdefg", 2)]
    assert [part["id"].to_pylist() for part in parquet_files._equal_parts(tmp_path, parts)] == [
        [*"abc"],
        [*"def"],
        ["g"],
    ]
    cases = {
        "the same": (parts, True), "fewer": (parts[:1], False), "gone": ([*parts, "gone"], True), "none": ([], False),
        "another row": ([write("last", "abcdefx", 7)], False), "more": ([*whole, write("h", "h", 1)], False),
        "another order": (parts[::-1], False), "another column": ([write("y", "abcdefg", 7, "y")], False),
    }  # fmt: skip
    assert {name: parquet_files.have_equal_rows((tmp_path, whole), (tmp_path, names)) for name, (names, _) in cases.items()} == {
        name: is_equal for name, (_, is_equal) in cases.items()
    }  # fmt: skip
    six = [write("six", "abcdef", 6)], [write("half", "abc", 2), write("rest", "def", 3)]
    assert parquet_files.have_equal_rows(*((tmp_path, names) for names in six))
    assert not parquet_files.have_equal_rows((tmp_path, six[0]), (tmp_path, six[1][:1]))


def test_what_is_logged_of_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "toolrlef_data")
    (tmp_path / "file").touch()
    with pytest.raises(InputError) as caught, locked_folder(tmp_path / "file"):
        raise AssertionError("it is locked")
    assert str(caught.value) == f"{tmp_path / 'file'} exists and is not a folder"
    asked: list[int] = []

    def flock(descriptor: int, operation: int) -> None:
        asked.append(operation)
        if operation & fcntl.LOCK_NB:
            raise BlockingIOError
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked_folder(out := tmp_path / "new" / "out"):
        assert out.is_dir()
    assert asked == [fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_EX], "it waits for the other process"
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", f"another process publishes to {out}: waiting for it"),
        ("WARNING", f"{out} cannot be locked (No locks available): publish to it from one process at a time"),
    ]
    assert out.is_dir()
    with pytest.raises(KeyError), locked_folder(tmp_path / "gone" / "x"):
        raise KeyError
    with pytest.raises(KeyError), locked_folder(out):
        raise KeyError
    assert (out.is_dir(), (tmp_path / "gone").exists()) == (True, False), "only what it created is removed"
