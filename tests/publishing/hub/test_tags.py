"""push_to_hub: which tag is the release before, and tags that others make meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub import REPO, repository, use_hub, write
from tests.support.hub_server import HubServer
from toolrlef_data import InputError, diff, push_to_hub

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
