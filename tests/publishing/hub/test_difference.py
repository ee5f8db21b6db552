"""diff: the rows that two versions of a data set differ in, by id."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from tests.support.hub import REPO, repository, use_hub
from toolrlef_data import InputError, diff, publish, push_to_hub
from toolrlef_data.publishing.hub.difference import ConfigDiff, describe
from toolrlef_data.trice.files.folder import PENDING, PROVENANCE

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub

ROWS = [{"id": str(n), "responses": ["a", "b"], "scores": [2.0, 1.0], "note": float("nan")} for n in range(6)]


def version(
    folder: Path, rows: list[dict[str, Any]] | DatasetDict, name: str = "stage2", number: str = "1.0.0"
) -> Path:
    table = rows if isinstance(rows, DatasetDict) else Dataset.from_list(rows)
    return publish({"math": {name: table}}, folder, version=number)


def changed(n: int, **values: Any) -> list[dict[str, Any]]:
    return [{**row, **values} if row["id"] == str(n) else row for row in ROWS]


def only(tmp_path: Path, before: Any, after: Any) -> ConfigDiff:
    changes = diff(version(tmp_path / "a", before), version(tmp_path / "b", after))
    assert list(changes) == ["math-stage2"]
    return changes["math-stage2"]


def test_equal_versions_have_no_difference(tmp_path: Path) -> None:
    """Other versions, order of rows, and number of files do not count; NaN equals NaN."""
    a = version(tmp_path / "a", ROWS)
    assert diff(a, version(tmp_path / "b", ROWS, number="2.0.0")) == {}
    (change,) = diff(a, version(tmp_path / "c", ROWS[::-1])).values()
    assert change == ConfigDiff((6, 6))
    assert describe({"x": change}) == ["`x`: the same rows in other files"]


def test_rows_are_added_removed_and_changed(tmp_path: Path) -> None:
    after = [*changed(3, responses=["a", "c"], note=1.0)[1:], {**ROWS[0], "id": "new"}]
    assert only(tmp_path, ROWS, after) == ConfigDiff(
        (6, 6), added=("new",), removed=("0",), changed={"3": ("note", "responses")}
    )


def test_rescored_rows_are_named(tmp_path: Path) -> None:
    change = only(tmp_path, ROWS, changed(4, scores=[1.0, 2.0]))
    assert (change.changed, change.rescored) == ({"4": ("scores",)}, ("4",))
    assert describe({"x": change}) == ["`x`: rows: 1 changed (scores: 1), 1 rescored"]


def test_columns_of_one_version_are_named_and_do_not_change_rows(tmp_path: Path) -> None:
    after = [{**{name: value for name, value in row.items() if name != "note"}, "rule": "x"} for row in ROWS]
    change = only(tmp_path, ROWS, after)
    assert change == ConfigDiff((6, 6), new_columns=("rule",), lost_columns=("note",))
    assert describe({"x": change}) == ["`x`: new columns: rule; removed columns: note"]


def test_a_row_that_moves_to_another_split_is_changed(tmp_path: Path) -> None:
    before, after = (DatasetDict(train=Dataset.from_list(ROWS[:n]), test=Dataset.from_list(ROWS[n:])) for n in (4, 3))
    assert only(tmp_path, before, after).changed == {"3": ("(split)",)}


def test_equal_ids_are_compared_in_their_order(tmp_path: Path) -> None:
    before = [ROWS[0], {**ROWS[0], "note": 1.0}]
    change = only(tmp_path, before, [ROWS[0], {**ROWS[0], "note": 2.0}, {**ROWS[0], "note": 3.0}])
    assert change == ConfigDiff((2, 3), added=("0",), changed={"0": ("note",)})


def test_without_ids_a_changed_row_is_added_and_removed(tmp_path: Path) -> None:
    before, after = ([{"text": text} for text in texts] for texts in ("abca", "abda"))
    change = only(tmp_path, before, after)
    assert (len(change.added), len(change.removed), change.changed) == (1, 1, {})


def test_new_and_removed_configs(tmp_path: Path) -> None:
    changes = diff(version(tmp_path / "a", ROWS, "one"), version(tmp_path / "b", ROWS[:1], "two"))
    assert describe(changes) == ["`math-two`: new, 1 row", "`math-one`: removed, 6 rows"]
    assert not any(change.new_columns or change.lost_columns for change in changes.values())


def test_folders_and_tags_are_compared(tmp_path: Path) -> None:
    folders = [version(tmp_path / "a", ROWS), version(tmp_path / "b", changed(1, note=1.0), number="1.0.1")]
    expected = diff(*folders)
    assert expected["math-stage2"].changed == {"1": ("note",)}
    with use_hub():
        for folder in folders:
            push_to_hub(folder, REPO)
        for a, b in ((f"{REPO}@v1.0.0", f"{REPO}@v1.0.1"), (f"{REPO}@v1.0.0", REPO), (str(folders[0]), REPO)):
            assert diff(a, b) == expected
        assert diff(REPO, folders[1]) == {}
        with pytest.raises(InputError, match="no repository org/other, or it is private: log in"):
            diff("org/other", REPO)
        with pytest.raises(InputError, match=r"no revision 'v9'"):
            diff(f"{REPO}@v9", REPO)


def test_a_repository_without_a_revision_is_its_newest_tag(tmp_path: Path) -> None:
    """A merged release has no tag before it is pushed again, and is not what users load."""
    folders = [version(tmp_path / "a", ROWS), version(tmp_path / "b", changed(1, note=1.0), number="1.0.1")]
    with use_hub() as hub:
        push_to_hub(folders[0], REPO)
        push = push_to_hub(folders[1], REPO, branch="next")
        repo = repository(hub)
        repo.commit("refs/heads/main", "merge", repo.files(str(push.commit)))
        assert diff(REPO, folders[0]) == {}
        assert diff(f"{REPO}@main", folders[1]) == {}
        assert diff(REPO, f"{REPO}@main")["math-stage2"].changed == {"1": ("note",)}


def test_what_is_no_version_is_an_error(tmp_path: Path) -> None:
    folder = version(tmp_path / "a", ROWS)
    for other in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="was not written by `publish`"):
            diff(folder, other)
    with pytest.raises(InputError, match="expected a folder, or a repository"):
        diff(folder, "none")
    (folder / PENDING).mkdir()
    shutil.copy(folder / PROVENANCE, folder / PENDING)
    with pytest.raises(InputError, match="was interrupted: publish again first"):
        diff(folder, folder)
    shutil.rmtree(folder / PENDING)
    (next(folder.rglob("*.parquet"))).write_bytes(b"")
    with pytest.raises(InputError, match="has changed since"):
        diff(folder, folder)
