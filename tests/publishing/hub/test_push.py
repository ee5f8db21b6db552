"""push_to_hub: the tag exists only with a complete release, and no fault of the Hub harms an earlier one."""

from __future__ import annotations

import hashlib
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from datasets import Dataset, load_dataset, load_dataset_builder

from tests.support.hub import use_hub
from tests.support.hub_server import Files, HubServer, Repository
from toolrlef_data import InputError, diff, publish, push_to_hub
from toolrlef_data.publishing.folder import publish as publish_function
from toolrlef_data.publishing.hub import client as client_module
from toolrlef_data.publishing.hub import release as release_module
from toolrlef_data.publishing.hub.push import Push
from toolrlef_data.records import HubError

REPO = "org/data"
CONFIG = "math-stage1"
TOKEN = "hf_ThisTokenMustNeverBeSeen0123"
NUMBERS = count()


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with use_hub() as server:
        yield server


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Version -> a folder: 1.0.0 has three shards, 1.1.0 has two and other rows."""
    out = tmp_path_factory.mktemp("releases")
    return {"1.0.0": write(out / "1", "1.0.0", 9), "1.1.0": write(out / "2", "1.1.0", 7, answer="8")}


def write(folder: Path, version: str, rows: int, *, answer: str = "4", **options: object) -> Path:
    """Publish rows in shards of about three rows."""
    module = publish_function.__globals__
    table = Dataset.from_list([{"id": str(n), "question": f"{n}?", "output": answer} for n in range(rows)])
    before = module["SHARD_BYTES"]
    module["SHARD_BYTES"] = table.data.nbytes * 3 // rows + 1
    try:
        return publish({"math": {"stage1": table}}, folder, version=version, **options)  # type: ignore[arg-type]
    finally:
        module["SHARD_BYTES"] = before


def repository(hub: HubServer) -> Repository:
    return hub.repositories[REPO]


def own_files(repo: Repository, revision: str = "main") -> Files:
    return {path: data for path, data in repo.files(revision).items() if path != ".gitattributes"}


def loaded_rows(tag: str, *, streaming: bool = True) -> int:
    return sum(1 for _ in load_dataset(REPO, CONFIG, revision=tag, split="train", streaming=streaming))


def shards(repo: Repository, revision: str) -> set[str]:
    """Return the LFS ids of the Parquet files at a revision."""
    files = repo.files(revision).items()
    return {hashlib.sha256(data).hexdigest() for path, data in files if path.endswith(".parquet")}


# A release ------------------------------------------------------------------------------------------------------------


def test_a_release_is_one_commit_and_a_tag_that_loads(hub: HubServer, releases: dict[str, Path]) -> None:
    push = push_to_hub(releases["1.0.0"], REPO)
    repo = repository(hub)
    assert push.tag == "v1.0.0" and repo.tags == {"v1.0.0": push.commit} and len(repo.commits) == 2
    assert [path for method, path in hub.requests if method == "POST"][-1].endswith(f"/tag/{push.commit}")
    assert loaded_rows("v1.0.0") == loaded_rows("v1.0.0", streaming=False) == 9
    assert str(load_dataset_builder(REPO, CONFIG, revision="v1.0.0").info.version) == "1.0.0"
    local = {path.name for path in releases["1.0.0"].rglob("*.parquet")}
    assert {Path(path).name for path in own_files(repo) if path.endswith(".parquet")} == local and len(local) == 3


def test_the_card_names_the_repository_and_the_tag(hub: HubServer, releases: dict[str, Path]) -> None:
    push_to_hub(releases["1.0.0"], REPO)
    card = repository(hub).files()["README.md"].decode()
    (line,) = [line for line in card.splitlines() if "load_dataset(" in line]
    assert "PATH" not in card
    call = line.split("`")[1]
    assert call == f'load_dataset("{REPO}", "{CONFIG}", revision="v1.0.0", split="train")'
    assert len(eval(call)) == 9


def test_a_download_of_the_repository_is_a_published_folder(
    hub: HubServer, releases: dict[str, Path], tmp_path: Path
) -> None:
    push_to_hub(releases["1.0.0"], REPO)
    for path, data in own_files(repository(hub)).items():
        (tmp_path / "copy" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / path).write_bytes(data)
    assert diff(tmp_path / "copy", releases["1.0.0"]) == {}
    assert write(tmp_path / "copy", "1.1.0", 7, answer="8").is_dir()


def test_a_release_with_fewer_shards_replaces_the_one_before(hub: HubServer, releases: dict[str, Path]) -> None:
    push_to_hub(releases["1.0.0"], REPO)
    push = push_to_hub(releases["1.1.0"], REPO)
    repo = repository(hub)
    assert len(repo.commits) == 3 and shards(repo, "main").isdisjoint(shards(repo, "v1.0.0"))
    assert (loaded_rows("v1.0.0"), loaded_rows("v1.1.0"), loaded_rows("main")) == (9, 7, 7)
    assert str(load_dataset_builder(REPO, CONFIG, revision="v1.1.0").info.version) == "1.1.0"
    assert push.since == "v1.0.0"
    assert (
        repo.files()["README.md"]
        .decode()
        .endswith("\n## Changes since v1.0.0\n\n- `math-stage1`: rows: 2 removed, 7 changed (output: 7)\n")
    )


def test_a_second_push_changes_nothing(hub: HubServer, releases: dict[str, Path]) -> None:
    first = [push_to_hub(releases[version], REPO) for version in ("1.0.0", "1.1.0")]
    repo = repository(hub)
    refs, commits, uploads = dict(repo.refs), len(repo.commits), len(hub.uploads)
    second = [push_to_hub(releases[version], REPO) for version in ("1.0.0", "1.1.0")]
    assert [push.commit for push in second] == [push.commit for push in first]
    assert (repo.refs, len(repo.commits), len(hub.uploads)) == (refs, commits, uploads)


def test_files_of_others_stay(hub: HubServer, releases: dict[str, Path]) -> None:
    push_to_hub(releases["1.0.0"], REPO)
    foreign = {"LICENSE": b"mine", "math-stage1/train-notes.parquet": b"not ours", "data/x.parquet": b"x"}
    repo = repository(hub)
    repo.commit("refs/heads/main", "foreign", {**repo.files(), **foreign})
    push_to_hub(releases["1.1.0"], REPO)
    assert repo.files().items() >= foreign.items()
    assert (loaded_rows("v1.1.0"), loaded_rows("v1.0.0")) == (7, 9)


@pytest.mark.parametrize("path", ["README.md", "provenance.json"])
def test_a_published_file_that_others_changed_is_not_replaced(
    path: str, hub: HubServer, releases: dict[str, Path]
) -> None:
    push_to_hub(releases["1.0.0"], REPO)
    repo = repository(hub)
    edited = repo.files()[path].replace(b"math", b"maths")
    repo.commit("refs/heads/main", "edited", {**repo.files(), path: edited})
    with pytest.raises(InputError, match=path):
        push_to_hub(releases["1.1.0"], REPO)
    assert repo.files()[path] == edited and set(repo.tags) == {"v1.0.0"} and loaded_rows("v1.0.0") == 9


def test_a_removed_config_is_removed(hub: HubServer, tmp_path: Path) -> None:
    table = Dataset.from_list([{"id": "1", "question": "?"}])
    for version, names in (("1.0.0", ("a", "b")), ("1.0.1", ("a",))):
        publish({"math": dict.fromkeys(names, table)}, tmp_path / "out", version=version)
        push_to_hub(tmp_path / "out", REPO)
    assert {path.partition("/")[0] for path in own_files(repository(hub))} == {"README.md", "math-a", "provenance.json"}
    assert "- `math-b`: removed, 1 row\n" in repository(hub).files()["README.md"].decode()


def test_tables_are_pushed_with_a_version(hub: HubServer) -> None:
    tables = {"math": {"stage1": Dataset.from_list([{"id": "1", "question": "?", "output": "1"}])}}
    with pytest.raises(InputError, match="version="):
        push_to_hub(tables, REPO)
    assert push_to_hub(tables, REPO, version="1.0.0").tag == "v1.0.0"
    assert loaded_rows("v1.0.0") == 1


# Tags, branches, pull requests ----------------------------------------------------------------------------------------


def test_a_tag_with_other_contents_is_refused_and_moved_on_demand(
    hub: HubServer, releases: dict[str, Path], tmp_path: Path
) -> None:
    push_to_hub(releases["1.0.0"], REPO)
    repo = repository(hub)
    refs = dict(repo.refs)
    other = write(tmp_path / "other", "1.0.0", 5)
    with pytest.raises(InputError, match=r"v1\.0\.0 with other contents"):
        push_to_hub(other, REPO)
    assert repo.refs == refs
    push = push_to_hub(other, REPO, move_tag=True)
    assert repo.tags == {"v1.0.0": push.commit} and loaded_rows("v1.0.0") == 5
    assert push_to_hub(other, REPO, move_tag=True).commit == push.commit


def test_another_card_under_the_same_version_is_refused(
    hub: HubServer, releases: dict[str, Path], tmp_path: Path
) -> None:
    push_to_hub(releases["1.0.0"], REPO)
    other = write(tmp_path / "other", "1.0.0", 9, card={"title": "Another title"})
    with pytest.raises(InputError, match="other contents"):
        push_to_hub(other, REPO)


@pytest.mark.parametrize("options", [{"create_pr": True}, {"branch": "next"}], ids=["pull request", "branch"])
def test_the_tag_is_made_after_the_merge(options: dict[str, object], hub: HubServer, releases: dict[str, Path]) -> None:
    push_to_hub(releases["1.0.0"], REPO)
    repo = repository(hub)
    main = repo.refs["refs/heads/main"]
    push = push_to_hub(releases["1.1.0"], REPO, **options)  # type: ignore[arg-type]
    assert push.tag is None and set(repo.tags) == {"v1.0.0"} and repo.refs["refs/heads/main"] == main
    assert push.commit in repo.refs.values() and loaded_rows(str(push.commit)) == 7
    assert push.url.endswith("/discussions/1" if "create_pr" in options else "/tree/next")
    merged = repo.commit("refs/heads/main", "merge", {**repo.files(str(push.commit)), "LICENSE": b"mine"})
    uploads = len(hub.uploads)
    again = push_to_hub(releases["1.1.0"], REPO)
    assert again.commit == merged == repo.tags["v1.1.0"] and len(hub.uploads) == uploads
    assert loaded_rows("v1.1.0") == 7


def test_an_older_version_does_not_replace_the_head(hub: HubServer, releases: dict[str, Path], tmp_path: Path) -> None:
    push_to_hub(releases["1.1.0"], REPO)
    with pytest.raises(InputError, match="newer than"):
        push_to_hub(releases["1.0.0"], REPO)
    assert set(repository(hub).tags) == {"v1.1.0"} and loaded_rows("main") == 7


def test_a_dry_run_prints_the_difference_and_writes_nothing(
    hub: HubServer, releases: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert push_to_hub(releases["1.0.0"], REPO, dry_run=True).tag is None
    assert capsys.readouterr().out == "Changes since no release:\n`math-stage1`: new, 9 rows\n"
    assert hub.repositories == {}
    push_to_hub(releases["1.0.0"], REPO)
    start = len(hub.requests)
    push_to_hub(releases["1.1.0"], REPO, dry_run=True)
    assert {method for method, _ in hub.requests[start:]} <= {"GET", "HEAD"}
    assert capsys.readouterr().out == ("Changes since v1.0.0:\n`math-stage1`: rows: 2 removed, 7 changed (output: 7)\n")


# What is refused ------------------------------------------------------------------------------------------------------


def test_too_many_files_are_refused(hub: HubServer, releases: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_module, "MAX_FILES", 4)  # README.md, provenance.json, three shards
    with pytest.raises(InputError, match="5 files are too many.*larger shards"):
        push_to_hub(releases["1.0.0"], REPO)
    monkeypatch.setattr(release_module, "MAX_FILES", 5)
    assert push_to_hub(releases["1.0.0"], REPO).tag == "v1.0.0"


def test_a_repository_with_a_loading_script_is_refused(hub: HubServer, releases: dict[str, Path]) -> None:
    push_to_hub(releases["1.0.0"], REPO)
    repo = repository(hub)
    repo.commit("refs/heads/main", "script", {**repo.files(), "data.py": b"print()"})
    with pytest.raises(InputError, match=r"data\.py"):
        push_to_hub(releases["1.1.0"], REPO)


def test_private_does_not_push_to_a_public_repository(hub: HubServer, releases: dict[str, Path]) -> None:
    push_to_hub(releases["1.0.0"], REPO)
    with pytest.raises(InputError, match="public"):
        push_to_hub(releases["1.1.0"], REPO, private=True)
    push_to_hub(releases["1.0.0"], "org/secret", private=True)
    push_to_hub(releases["1.1.0"], "org/secret", private=True)
    assert hub.repositories["org/secret"].private


@pytest.mark.parametrize("repo_id", ["data", "a/b/c", "org/", "org/.data", "org/da ta"])
def test_an_id_of_no_repository_is_refused(repo_id: str, hub: HubServer, releases: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="the id of a repository"):
        push_to_hub(releases["1.0.0"], repo_id)
    assert hub.requests == []


def test_a_folder_that_changed_is_refused(hub: HubServer, tmp_path: Path) -> None:
    folder = write(tmp_path / "out", "1.0.0", 3)
    (folder / "README.md").write_text("edited")
    with pytest.raises(InputError, match="has changed"):
        push_to_hub(folder, REPO)
    with pytest.raises(InputError, match="was not written by `publish`"):
        push_to_hub(tmp_path / "none", REPO)
    assert hub.requests == []


# Faults ---------------------------------------------------------------------------------------------------------------


def pushes_with(
    hub: HubServer, releases: dict[str, Path], fault: Callable[[int], int | str | None]
) -> tuple[Push | HubError, int]:
    """Push 1.0.0 to a new server state, then 1.1.0 with a fault by number of the request; return the result and count."""
    hub.fault = lambda number, method, path: None
    hub.repositories.clear()
    hub.objects.clear()
    push_to_hub(releases["1.0.0"], REPO)
    start = len(hub.requests)
    hub.fault = lambda number, method, path: fault(number - start)
    result: Push | HubError
    try:
        result = push_to_hub(releases["1.1.0"], REPO)
    except HubError as error:
        result = error
    hub.fault = lambda number, method, path: None
    return result, len(hub.requests) - start


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.mark.parametrize("kind", [503, 412, "cut"])
def test_one_fault_at_any_request_is_retried(
    kind: int | str, hub: HubServer, releases: dict[str, Path], quick: None
) -> None:
    _, total = pushes_with(hub, releases, lambda number: None)
    assert total > 20
    for k in range(1, total + 1):
        push, _ = pushes_with(hub, releases, lambda number: kind if number == k else None)
        assert isinstance(push, Push), (k, push)
        repo = repository(hub)
        assert repo.tags["v1.1.0"] == push.commit == repo.refs["refs/heads/main"], k
        assert len(repo.commits) == 3, k
