"""push_to_hub: which tag is the release before, and tags that others make meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from tests.support.hub import REPO, repository, use_hub, write
from tests.support.hub_server import HubServer
from toolrlef_data import InputError, diff, push_to_hub
from toolrlef_data.publishing.hub import client as client_module
from toolrlef_data.records import HubError

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with use_hub() as server:
        yield server


def test_releases_are_ordered_by_number_and_not_as_text(hub: HubServer, tmp_path: Path) -> None:
    numbers = ["1.9.0", "1.10.0", "2.0.0"]
    folders = {number: write(tmp_path / number, number, rows) for number, rows in zip(numbers, (5, 6, 7), strict=True)}
    assert [push_to_hub(folders[number], REPO).since for number in numbers[:2]] == [None, "v1.9.0"]
    assert diff(REPO, folders["1.10.0"]) == {}, "the id of a repository is its newest tag"
    repository(hub).refs["refs/tags/v11"] = repository(hub).refs["refs/tags/v1.9.0"]  # a tag, but of no version
    assert push_to_hub(folders["2.0.0"], REPO, dry_run=True).since == "v1.10.0"
    with pytest.raises(InputError, match=r"has the version 1\.10\.0, which is newer than 1\.9\.0"):
        push_to_hub(write(tmp_path / "other", "1.9.0", 4), REPO, move_tag=True)


def test_a_moved_tag_is_compared_with_the_release_before_it(hub: HubServer, tmp_path: Path) -> None:
    push_to_hub(write(tmp_path / "1", "1.0.0", 9), REPO)
    push_to_hub(write(tmp_path / "2", "1.1.0", 8), REPO)
    push = push_to_hub(write(tmp_path / "3", "1.1.0", 6), REPO, move_tag=True)
    assert push.since == "v1.0.0"
    assert push.changes["math-stage1"].rows == (9, 6)


@pytest.mark.parametrize("move_tag", [False, True])
def test_a_tag_that_others_make_meanwhile_is_moved_only_on_demand(
    move_tag: bool, hub: HubServer, tmp_path: Path
) -> None:
    old = push_to_hub(write(tmp_path / "1", "1.0.0", 9), REPO).commit
    refs = repository(hub).refs

    def make_tag(number: int, method: str, path: str) -> None:
        if "/commit/" in path:
            refs["refs/tags/v1.1.0"] = str(old)

    hub.fault = make_tag
    folder = write(tmp_path / "2", "1.1.0", 7)
    if move_tag:
        moved = push_to_hub(folder, REPO, move_tag=True).commit
        assert refs["refs/tags/v1.1.0"] == moved != old
        return
    with pytest.raises(InputError, match=r"has the tag v1\.1\.0 with other contents"):
        push_to_hub(folder, REPO)
    assert refs["refs/tags/v1.1.0"] == old


@pytest.fixture
def moving(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """Return a folder with other rows under the version of a release, and the commit of that release."""
    monkeypatch.setattr(client_module, "WAITS", ())
    old = push_to_hub(write(tmp_path / "1", "1.0.0", 9), REPO).commit
    return write(tmp_path / "2", "1.0.0", 7), str(old)


@pytest.mark.parametrize("status", [403, 503, 409])
def test_a_tag_that_cannot_be_moved_stays_where_it_was(status: int, hub: HubServer, moving: tuple[Path, str]) -> None:
    folder, old = moving
    made: list[str] = []

    def refuse_the_first(number: int, method: str, path: str) -> int | None:
        if method == "POST" and "/tag/" in path:
            made.append(path.rpartition("/")[2])
            return status if len(made) == 1 else None
        return None

    hub.fault = refuse_the_first
    with pytest.raises(HubError, match=r"^cannot create the tag of .* Earlier releases are unchanged"):
        push_to_hub(folder, REPO, move_tag=True)
    assert repository(hub).tags == {"v1.0.0": old}
    assert (len(made), made[1]) == (2, old)
    moved = push_to_hub(folder, REPO, move_tag=True)
    assert repository(hub).tags == {"v1.0.0": moved.commit}
    assert moved.commit == made[0] != old


@pytest.mark.parametrize("fault", [403, "cut", "lost"])
@pytest.mark.parametrize("method", ["DELETE", "POST"])
def test_a_move_that_fails_names_the_commit_of_the_tag(
    method: str, fault: int | str, hub: HubServer, moving: tuple[Path, str], caplog: pytest.LogCaptureFixture
) -> None:
    """The tag stays where it was, is moved, or the error says where it was; the same command moves it."""
    folder, old = moving
    failing = False

    def fail_from(number: int, sent: str, path: str) -> int | str | None:
        nonlocal failing
        failing = failing or (sent == method and "/tag/" in path)
        return fault if failing else None

    hub.fault = fail_from
    with pytest.raises(HubError) as raised:
        push_to_hub(folder, REPO, move_tag=True)
    assert f"The tag v1.0.0 was deleted to move it, and may be missing. It was at the commit {old}" in str(raised.value)
    assert "releases are unchanged" not in str(raised.value)
    assert f"moving the tag v1.0.0 of {REPO} from {old}" in caplog.text, "also if the process is killed then"
    hub.fault = lambda number, method, path: None
    moved = push_to_hub(folder, REPO, move_tag=True).commit
    assert repository(hub).tags == {"v1.0.0": moved}
    assert moved != old


def test_an_interrupted_move_puts_the_tag_back(
    hub: HubServer, moving: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, old = moving
    create_tag = HfApi.create_tag

    def press_ctrl_c(*arguments: Any, revision: str, **options: Any) -> None:
        if revision != old:
            raise KeyboardInterrupt
        create_tag(*arguments, revision=revision, **options)

    monkeypatch.setattr(HfApi, "create_tag", press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        push_to_hub(folder, REPO, move_tag=True)
    assert repository(hub).tags == {"v1.0.0": old}
