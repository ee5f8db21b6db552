"""push_to_hub: the tag exists only with a complete release, and no fault of the Hub harms an earlier one."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_dataset, load_dataset_builder

from tests.support.hub import (
    CONFIG,
    REPO,
    loaded_rows,
    own_files,
    repository,
    shards,
    use_hub,
    write,
)
from tests.support.hub_server import HubServer
from toolrlef_data import InputError, diff, publish, push_to_hub
from toolrlef_data.publishing.hub import client as client_module
from toolrlef_data.publishing.hub import release as release_module
from toolrlef_data.publishing.hub.difference import describe
from toolrlef_data.publishing.hub.push import Push
from toolrlef_data.publishing.recipe_file import RecipeFile
from toolrlef_data.records import HubError

TOKEN = "hf_ThisTokenMustNeverBeSeen0123"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with use_hub() as server:
        yield server


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Version -> a folder: 1.0.0 has three shards, 1.1.0 has two and other rows."""
    out = tmp_path_factory.mktemp("releases")
    return {"1.0.0": write(out / "1", "1.0.0", 9), "1.1.0": write(out / "2", "1.1.0", 7, answer="8")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"token": 5}, "token: expected a text or None, found int"),
        ({"token": True}, "token: expected a text or None, found bool"),
        ({"repo_id": 5}, "expected the id of a repository"),
        ({"repo_id": "org/data/more"}, "expected the id of a repository"),
    ],
)
def test_arguments_of_another_type_are_refused(
    arguments: dict[str, Any], message: str, releases: dict[str, Path]
) -> None:
    with pytest.raises(InputError, match=message):
        push_to_hub(releases["1.0.0"], **{"repo_id": REPO, **arguments})


def test_metadata_that_the_hub_refuses_is_an_error_of_the_hub(hub: HubServer, releases: dict[str, Path]) -> None:
    """The Hub checks the metadata of a card, such as the name of a licence, before a commit."""
    hub.fault = lambda number, method, path: 400 if "validate-yaml" in path else None
    with pytest.raises(HubError, match=r"cannot commit of org/data: Invalid metadata in README\.md"):
        push_to_hub(releases["1.0.0"], REPO)
    assert len(repository(hub).commits) == 1
    assert repository(hub).tags == {}


# A release ------------------------------------------------------------------------------------------------------------


def test_a_release_is_one_commit_and_a_tag_that_loads(hub: HubServer, releases: dict[str, Path]) -> None:
    push = push_to_hub(releases["1.0.0"], REPO)
    repo = repository(hub)
    assert push.tag == "v1.0.0"
    assert repo.tags == {"v1.0.0": push.commit}
    assert len(repo.commits) == 2
    assert [path for method, path in hub.requests if method == "POST"][-1].endswith(f"/tag/{push.commit}")
    assert loaded_rows("v1.0.0") == loaded_rows("v1.0.0", streaming=False) == 9
    assert str(load_dataset_builder(REPO, CONFIG, revision="v1.0.0").info.version) == "1.0.0"
    local = {path.name for path in releases["1.0.0"].rglob("*.parquet")}
    assert {Path(path).name for path in own_files(repo) if path.endswith(".parquet")} == local
    assert len(local) == 3


def test_the_card_names_the_repository_and_the_tag(hub: HubServer, releases: dict[str, Path]) -> None:
    push_to_hub(releases["1.0.0"], REPO)
    card = repository(hub).files()["README.md"].decode()
    line = next(line for line in card.splitlines() if "load_dataset(" in line)
    assert "PATH" not in card
    call = line.split("`")[1]
    assert call == f'load_dataset("{REPO}", "{CONFIG}", revision="v1.0.0", split="train")'
    assert len(eval(call, {"load_dataset": load_dataset})) == 9


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
    assert len(repo.commits) == 3
    assert shards(repo, "main").isdisjoint(shards(repo, "v1.0.0"))
    assert (loaded_rows("v1.0.0"), loaded_rows("v1.1.0"), loaded_rows("main")) == (9, 7, 7)
    assert str(load_dataset_builder(REPO, CONFIG, revision="v1.1.0").info.version) == "1.1.0"
    assert push.since == "v1.0.0"
    assert (
        repo.files()["README.md"]
        .decode()
        .endswith("\n## Changes since v1.0.0\n\n- `math-stage1`: rows: 2 removed, 7 changed (output: 7)\n")
    )


def test_the_card_has_the_changes_of_every_release(hub: HubServer, tmp_path: Path) -> None:
    for version, rows in (("1.0.0", 4), ("1.1.0", 5), ("1.2.0", 5), ("2.0.0", 3)):
        push_to_hub(write(tmp_path / version, version, rows), REPO)
    assert repository(hub).files()["README.md"].decode().partition("\n## Changes")[2] == (
        " since v1.2.0\n\n- `math-stage1`: rows: 2 removed\n"
        "\n## Changes since v1.1.0\n\nThe rows are the same.\n"
        "\n## Changes since v1.0.0\n\n- `math-stage1`: rows: 1 added\n"
    )
    # A release between two others begins at the one before it, and the later ones stay as they are.
    refs = dict(repository(hub).refs)
    again = push_to_hub(tmp_path / "1.1.0", REPO)
    assert (again.tag, again.since) == ("v1.1.0", "v1.0.0")
    assert describe(again.changes) == ["`math-stage1`: rows: 1 added"]
    assert repository(hub).refs == refs


def test_a_second_push_changes_nothing(hub: HubServer, releases: dict[str, Path]) -> None:
    first = [push_to_hub(releases[version], REPO) for version in ("1.0.0", "1.1.0")]
    repo = repository(hub)
    refs, commits, uploads = dict(repo.refs), len(repo.commits), len(hub.uploads)
    second = [push_to_hub(releases[version], REPO) for version in ("1.0.0", "1.1.0")]
    assert [push.commit for push in second] == [push.commit for push in first]
    assert (repo.refs, len(repo.commits), len(hub.uploads)) == (refs, commits, uploads)


def test_the_recipe_is_part_of_a_release(hub: HubServer, tmp_path: Path) -> None:
    recipe = RecipeFile({"name": "sums"}, commit="abc123")
    push_to_hub(write(tmp_path / "1", "1.0.0", 4, recipe=recipe), REPO)
    assert repository(hub).files()["recipe.yaml"] == b"name: sums\n"
    changed = write(tmp_path / "2", "1.0.0", 4, recipe=RecipeFile({"name": "sum"}))
    assert diff(REPO, changed) == {}
    with pytest.raises(InputError, match="other contents"):
        push_to_hub(changed, REPO)
    push_to_hub(write(tmp_path / "3", "1.0.1", 4), REPO)
    assert "recipe.yaml" not in repository(hub).files()
    assert repository(hub).files("v1.0.0")["recipe.yaml"] == b"name: sums\n"


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
    assert repo.files()[path] == edited
    assert set(repo.tags) == {"v1.0.0"}
    assert loaded_rows("v1.0.0") == 9


def test_a_published_file_that_others_changed_is_not_removed(hub: HubServer, releases: dict[str, Path]) -> None:
    """The next version has no file of its name; the other files of the old version are removed."""
    push_to_hub(releases["1.0.0"], REPO)
    repo = repository(hub)
    old = {path for path in repo.files() if path.endswith(".parquet")}
    kept = sorted(old)[1]
    repo.commit("refs/heads/main", "edited", {**repo.files(), kept: b"mine"})
    push_to_hub(releases["1.1.0"], REPO)
    assert repo.files()[kept] == b"mine"
    assert old & repo.files().keys() == {kept}
    assert loaded_rows("v1.1.0") == 7


def test_a_removed_config_is_removed(hub: HubServer, tmp_path: Path) -> None:
    table = Dataset.from_list([{"id": "1", "question": "?"}])
    for version, names in (("1.0.0", ("a", "b")), ("1.0.1", ("a",))):
        publish({"math": dict.fromkeys(names, table)}, tmp_path / "out", version=version)
        push_to_hub(tmp_path / "out", REPO)
    left = {path.partition("/")[0] for path in own_files(repository(hub))}
    assert left == {"README.md", "figures", "math-a", "provenance.json"}
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
    assert repo.tags == {"v1.0.0": push.commit}
    assert loaded_rows("v1.0.0") == 5
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
    assert push.tag is None
    assert set(repo.tags) == {"v1.0.0"}
    assert repo.refs["refs/heads/main"] == main
    assert push.commit in repo.refs.values()
    assert loaded_rows(str(push.commit)) == 7
    assert push.url.endswith("/discussions/1" if "create_pr" in options else "/tree/next")
    again = push_to_hub(releases["1.1.0"], REPO, **options)  # type: ignore[arg-type]
    assert (again.commit, again.url) == (push.commit, push.url)
    merged = repo.commit("refs/heads/main", "merge", {**repo.files(str(push.commit)), "LICENSE": b"mine"})
    uploads = len(hub.uploads)
    again = push_to_hub(releases["1.1.0"], REPO)
    assert again.commit == merged == repo.tags["v1.1.0"]
    assert len(hub.uploads) == uploads
    assert loaded_rows("v1.1.0") == 7


def test_an_older_version_does_not_replace_the_head(hub: HubServer, releases: dict[str, Path], tmp_path: Path) -> None:
    push_to_hub(releases["1.1.0"], REPO)
    with pytest.raises(InputError, match="newer than"):
        push_to_hub(releases["1.0.0"], REPO)
    assert set(repository(hub).tags) == {"v1.1.0"}
    assert loaded_rows("main") == 7


def test_a_dry_run_prints_the_difference_and_writes_nothing(
    hub: HubServer, releases: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert push_to_hub(releases["1.0.0"], REPO, dry_run=True).tag is None
    assert capsys.readouterr().out == "First release:\n`math-stage1`: new, 9 rows\n"
    assert hub.repositories == {}
    push_to_hub(releases["1.0.0"], REPO)
    start = len(hub.requests)
    push_to_hub(releases["1.1.0"], REPO, dry_run=True)
    assert {method for method, _ in hub.requests[start:]} <= {"GET", "HEAD"}
    assert capsys.readouterr().out == ("Changes since v1.0.0:\n`math-stage1`: rows: 2 removed, 7 changed (output: 7)\n")


# What is refused ------------------------------------------------------------------------------------------------------


def test_too_many_files_are_refused(hub: HubServer, releases: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_module, "MAX_FILES", 5)  # README.md, a figure, provenance.json, three shards
    with pytest.raises(InputError, match=r"6 files are too many.*larger shards"):
        push_to_hub(releases["1.0.0"], REPO)
    monkeypatch.setattr(release_module, "MAX_FILES", 6)
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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.mark.parametrize(
    ("status", "asked", "expected"),
    [
        (503, "", list(client_module.WAITS)),
        (429, "20", [20.0, 20.0, 20.0, 20.0, 20.0, 32.0]),
        (429, "100000", [client_module.LONGEST_WAIT] * len(client_module.WAITS)),
        (403, "20", []),
    ],
)
def test_waits_grow_and_follow_the_server(
    status: int,
    asked: str,
    expected: list[float],
    hub: HubServer,
    releases: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    hub.fault = lambda number, method, path: status if path.endswith("/refs") else None
    hub.fault_headers = {"Retry-After": asked} if asked else {}
    with pytest.raises(HubError, match="cannot list the tags"):
        push_to_hub(releases["1.0.0"], REPO)
    assert waits == expected


@pytest.mark.parametrize(
    ("status", "is_retried", "has_hint"),
    [
        *((status, True, False) for status in (408, 409, 412, 425, 429, 500)),
        *((status, False, True) for status in (401, 403)),
        (400, False, False),
    ],
)
def test_the_status_decides_whether_a_request_is_repeated_and_what_the_error_advises(
    status: int, is_retried: bool, has_hint: bool, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    monkeypatch.setattr(client_module, "WAITS", (1.0,))
    hub.fault = lambda number, method, path: status
    client = client_module.Client(REPO)
    with pytest.raises(HubError) as failure:
        client.step("read the head", lambda: client.api.list_repo_refs(REPO, repo_type="dataset"))
    assert waits == [1.0] * is_retried
    assert ("hf auth login" in str(failure.value)) == has_hint


def test_a_foreign_commit_between_the_head_and_the_commit_stays(
    hub: HubServer, releases: dict[str, Path], quick: None
) -> None:
    push_to_hub(releases["1.0.0"], REPO)
    repo = repository(hub)
    planted: list[str] = []

    def commit_first(number: int, method: str, path: str) -> None:
        if "/commit/" in path and not planted:
            planted.append(repo.commit("refs/heads/main", "foreign", {**repo.files(), "NOTES.md": b"mine"}))

    hub.fault = commit_first
    push = push_to_hub(releases["1.1.0"], REPO)
    assert repo.commits[str(push.commit)][1] == planted[0]
    assert repo.files()["NOTES.md"] == b"mine"
    assert repo.tags["v1.1.0"] == push.commit
    assert len(hub.uploads) == len(set(hub.uploads))
    assert loaded_rows("v1.1.0") == 7


def push_before_the_next_commit(hub: HubServer, folder: Path) -> list[Push]:
    """Push a folder when the server receives the next commit, before it executes that; return where the result will be."""
    pushed: list[Push] = []

    def push_first(number: int, method: str, path: str) -> None:
        if "/commit/" in path and not pushed:
            hub.fault = lambda number, method, path: None
            hub.lock.release()  # the nested push needs the server
            try:
                pushed.append(push_to_hub(folder, REPO))
            finally:
                hub.lock.acquire()

    hub.fault = push_first
    return pushed


def test_a_foreign_release_between_the_head_and_the_commit_is_replaced_in_full(
    hub: HubServer, releases: dict[str, Path], quick: None, tmp_path: Path
) -> None:
    """The difference is computed again: files of the release in between are removed too."""
    push_to_hub(releases["1.0.0"], REPO)
    push_before_the_next_commit(hub, write(tmp_path / "between", "1.0.5", 8, answer="5"))
    push_to_hub(releases["1.1.0"], REPO)
    repo = repository(hub)
    assert set(repo.tags) == {"v1.0.0", "v1.0.5", "v1.1.0"}
    assert [loaded_rows(tag) for tag in sorted(repo.tags)] == [9, 8, 7]
    refs = dict(repo.refs)
    assert push_to_hub(releases["1.1.0"], REPO).since == "v1.0.5"  # its card has the changes since v1.0.0
    assert repo.refs == refs
    names = {path.name for path in releases["1.1.0"].rglob("*.parquet")}
    assert {Path(path).name for path in repo.files() if path.endswith(".parquet")} == names


def test_two_pushes_of_one_release_make_one_commit(hub: HubServer, releases: dict[str, Path], quick: None) -> None:
    push_to_hub(releases["1.0.0"], REPO)
    other = push_before_the_next_commit(hub, releases["1.1.0"])
    push = push_to_hub(releases["1.1.0"], REPO)
    assert [push] == other
    assert len(repository(hub).commits) == 3


def test_a_lost_response_opens_one_pull_request(hub: HubServer, releases: dict[str, Path], quick: None) -> None:
    lost: list[str] = []

    def lose_first(number: int, method: str, path: str) -> str | None:
        if "/commit/" not in path or lost:
            return None
        lost.append(path)
        return "lost"

    hub.fault = lose_first
    push = push_to_hub(releases["1.0.0"], REPO, create_pr=True)
    assert push.url.endswith("/discussions/1")
    assert lost
    assert [ref for ref in repository(hub).refs if ref.startswith("refs/pr/")] == ["refs/pr/1"]


def test_a_moved_tag_survives_a_fault_between_its_removal_and_its_creation(
    hub: HubServer, releases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_to_hub(releases["1.0.0"], REPO)
    push_to_hub(releases["1.1.0"], REPO)
    monkeypatch.setattr(client_module, "WAITS", ())
    other = write(tmp_path / "other", "1.1.0", 5)
    hub.fault = lambda number, method, path: 503 if method == "POST" and "/tag/" in path else None
    with pytest.raises(HubError, match="create the tag"):
        push_to_hub(other, REPO, move_tag=True)
    hub.fault = lambda number, method, path: None
    assert set(repository(hub).tags) == {"v1.0.0"}
    assert loaded_rows("v1.0.0") == 9
    assert push_to_hub(other, REPO).tag == "v1.1.0"
    assert loaded_rows("v1.1.0") == 5


def test_a_server_that_loses_a_file_gets_no_tag(hub: HubServer, releases: dict[str, Path]) -> None:
    def lose(number: int, method: str, path: str) -> None:
        if "/revision/" in path and REPO in hub.repositories:
            repo = repository(hub)
            title, parent, files = repo.commits[repo.refs["refs/heads/main"]]
            kept = {name: data for name, data in files.items() if "00001-of" not in name}
            repo.commits[repo.refs["refs/heads/main"]] = (title, parent, kept)

    hub.fault = lose
    with pytest.raises(HubError, match="other files"):
        push_to_hub(releases["1.0.0"], REPO)
    assert repository(hub).tags == {}


# Secrets --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 503])
def test_the_token_is_in_no_error_log_or_file(
    status: int, hub: HubServer, releases: dict[str, Path], caplog: pytest.LogCaptureFixture, quick: None
) -> None:
    caplog.set_level(logging.DEBUG)
    hub.fault_message = f"token {TOKEN} is not welcome"
    hub.fault = lambda number, method, path: status if "/commit/" in path else None
    with pytest.raises(HubError, match="is not welcome") as caught:
        push_to_hub(releases["1.0.0"], REPO, token=TOKEN)
    assert TOKEN not in "".join(traceback.format_exception(caught.value)) + caplog.text
    assert ("hf auth login" in str(caught.value)) == (status == 403)
    hub.fault = lambda number, method, path: None
    push = push_to_hub(releases["1.0.0"], REPO, token=TOKEN)
    repo = repository(hub)
    sent = [
        headers
        for headers, (_, path) in zip(hub.headers, hub.requests, strict=True)
        if path.startswith("/api/datasets")
    ]
    assert sent
    assert all(headers.get("Authorization", headers.get("authorization")) == f"Bearer {TOKEN}" for headers in sent)
    stored = [data for _, _, files in repo.commits.values() for data in files.values()]
    assert not any(TOKEN.encode() in data for data in stored)
    assert TOKEN not in repr(push) + caplog.text


def test_a_token_that_is_no_header_is_not_shown(hub: HubServer, releases: dict[str, Path]) -> None:
    with pytest.raises(InputError) as caught:
        push_to_hub(releases["1.0.0"], REPO, token=f"{TOKEN}\nx")
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
    assert hub.requests == []
