"""push_to_hub: the whole results and messages, and the checks that need no tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset
from huggingface_hub.errors import HfHubHTTPError

from tests.support.hub import REPO, repository, use_hub, write
from tests.support.hub_server import HubServer
from toolrlef_data import InputError, diff, publish, push_to_hub
from toolrlef_data.publishing.hub import client as client_module
from toolrlef_data.publishing.hub.client import Client
from toolrlef_data.publishing.hub.difference import ConfigDiff, RowHashes, changed_columns, configs_of, describe
from toolrlef_data.publishing.hub.push import Push, check_pushable
from toolrlef_data.publishing.hub.release import changes_in, check_names, release_of, rows_by_config
from toolrlef_data.publishing.hub.versions import folder_version, newest_tag, numbers, version_of
from toolrlef_data.publishing.manifest import bytes_entry, seal
from toolrlef_data.records import HubError
from toolrlef_data.trice.files.folder import PENDING

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub
TOKEN = "hf_ThisTokenMustNeverBeSeen0123"


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with use_hub() as server:
        yield server


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("folders")
    return {"1.0.0": write(out / "1", "1.0.0", 1), "1.1.0": write(out / "2", "1.1.0", 2)}


def refused(act: Any, *arguments: Any, kind: type[Exception] = InputError, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        act(*arguments, **options)
    return str(caught.value)


# Results --------------------------------------------------------------------------------------------------------------


def test_the_whole_results_of_pushes(
    hub: HubServer, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{hub.url}/datasets/{REPO}"
    new = {"math-stage1": ConfigDiff((0, 1), added=("0",))}
    more = {"math-stage1": ConfigDiff((1, 2), added=("1",))}
    assert push_to_hub(folders["1.0.0"], REPO, dry_run=True) == Push(REPO, None, None, url, None, new)
    first = push_to_hub(folders["1.0.0"], REPO)
    repo = repository(hub)
    assert first == Push(REPO, repo.refs["refs/heads/main"], "v1.0.0", f"{url}/tree/v1.0.0", None, new)
    assert push_to_hub(folders["1.0.0"], REPO) == first
    assert repo.commits[str(first.commit)][0] == "Version 1.0.0"
    assert push_to_hub(folders["1.1.0"], REPO, dry_run=True) == Push(REPO, None, None, url, "v1.0.0", more)
    assert push_to_hub(folders["1.0.0"], REPO, dry_run=True) == Push(REPO, None, None, url, "v1.0.0", {})
    assert capsys.readouterr().out == (
        "First release:\n`math-stage1`: new, 1 row\nChanges since v1.0.0:\n`math-stage1`: rows: 1 added\n"
        "Changes since v1.0.0:\nno changes\n"
    )
    pull = push_to_hub(folders["1.1.0"], REPO, create_pr=True)
    assert pull == Push(REPO, repo.refs["refs/pr/1"], None, f"{url}/discussions/1", "v1.0.0", more)
    branch = push_to_hub(folders["1.1.0"], REPO, branch="next")
    assert branch == Push(REPO, repo.refs["refs/heads/next"], None, f"{url}/tree/next", "v1.0.0", more)
    last = push_to_hub(folders["1.1.0"], REPO, version="1.1.0", branch="main")
    assert last == Push(REPO, repo.refs["refs/heads/main"], "v1.1.0", f"{url}/tree/v1.1.0", "v1.0.0", more)
    assert repo.tags == {"v1.0.0": first.commit, "v1.1.0": last.commit}


def test_what_can_be_pushed(hub: HubServer, folders: dict[str, Path], tmp_path: Path) -> None:
    """The same checks as those of a push, before there are tables."""
    check_pushable(REPO, "1.0.0", private=True)
    assert hub.repositories == {}
    push_to_hub(folders["1.1.0"], REPO)
    for version in ("1.1.0", "1.2.0"):
        check_pushable(REPO, version)
    newer = f"{REPO} has the version 1.1.0, which is newer than 1.0.9: raise the version"
    assert refused(check_pushable, REPO, "1.0.9") == newer
    assert refused(push_to_hub, write(tmp_path / "old", "1.0.9", 2), REPO) == newer
    public = f"{REPO} exists and is public: make it private on the Hub first"
    assert refused(check_pushable, REPO, "1.2.0", private=True) == public
    assert refused(push_to_hub, folders["1.1.0"], REPO, private=True) == public
    other = write(tmp_path / "other", "1.1.0", 3)
    assert refused(push_to_hub, other, REPO) == (
        f"{REPO} has the tag v1.1.0 with other contents: publish under a new version, or replace the tag with "
        "move_tag=True (--move-tag)"
    )
    repo = repository(hub)
    repo.commit("refs/heads/main", "mine", {**repo.files(), "recipe.yaml": b"mine", "data.py": b""})
    script = f"{REPO} must not have the file data.py: `load_dataset` would refuse the repository"
    assert refused(check_pushable, REPO, "1.2.0") == script
    repo.commit("refs/heads/main", "mine", {name: data for name, data in repo.files().items() if name != "data.py"})
    recipe = write(tmp_path / "new", "1.2.0", 3)
    repo.commit("refs/heads/main", "mine", {**repo.files(), "README.md": b"mine"})
    assert refused(push_to_hub, recipe, REPO) == (
        f"README.md in {REPO} was not written by `push_to_hub`, or has changed since: move it away first"
    )


@pytest.mark.parametrize(
    "token", ["a b", " a", "a ", "a\n", "\t", "\u00e4", "a\u2028b"], ids=["blank", "start", "end", "line", "tab", "ascii", "separator"]
)  # fmt: skip
def test_tokens_that_are_no_header(token: str) -> None:
    message = "the token has blanks or characters that are not ASCII; log in again with `hf auth login`"
    assert refused(Client, REPO, token) == message


def test_the_token_of_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Client(REPO, TOKEN)
    assert (given.repo_id, given.token, given.api.token, given.api.library_name) == (
        REPO,
        TOKEN,
        TOKEN,
        "toolrlef_data",
    )
    assert TOKEN not in given.secrets.redact(f"x {TOKEN} y")
    monkeypatch.setattr(client_module, "get_token", lambda: TOKEN)
    for token in (None, ""):
        assert Client(REPO, token).token == TOKEN
    for kind in (5, True, b"x"):
        message = f"token: expected a text or None, found {type(kind).__name__}"
        assert refused(Client, REPO, kind) == message


@pytest.mark.parametrize("repo_id", ["data", "a/b/c", "org/", "/data", "org/.data", "org/da ta", "", 5, None])
def test_ids_of_no_repository(repo_id: Any) -> None:
    message = f"expected the id of a repository, such as 'org/name'; found {repo_id!r}"
    assert refused(client_module.check_repo_id, repo_id) == message


def http_error(status: int, asked: str | None = None) -> HfHubHTTPError:
    headers = {} if asked is None else {"Retry-After": asked}
    error = HfHubHTTPError.__new__(HfHubHTTPError)
    error.args = ("no\n  such file",)
    error.response = SimpleNamespace(status_code=status, headers=headers)  # type: ignore[assignment]
    return error


@pytest.mark.parametrize(
    ("error", "wait", "pause"),
    [
        (ConnectionError(), 2.0, 2.0), (ConnectionError(), None, None), (http_error(503), None, None),
        (http_error(500), 2.0, 2.0), (http_error(599, "1"), 2.0, 2.0), (http_error(429, "7"), 2.0, 7.0),
        (http_error(429, "300"), 2.0, 300.0), (http_error(429, "301"), 2.0, 300.0), (http_error(429, "soon"), 2.0, 2.0),
        *((http_error(status), 2.0, 2.0) for status in (408, 409, 412, 425)),
        *((http_error(status, "7"), 2.0, None) for status in (400, 401, 403, 404, 410, 422, 499)),
    ],
)  # fmt: skip
def test_pauses_before_the_next_attempt(error: Exception, wait: float | None, pause: float | None) -> None:
    assert client_module._pause(error, wait) == pause


def test_texts_of_errors() -> None:
    hint = " (log in with `hf auth login`, or set HF_TOKEN to a token with write access)"
    for status, end in ((401, hint), (403, hint), (404, ""), (500, "")):
        assert client_module._text(http_error(status)) == f"no such file{end}"
    assert client_module._text(TimeoutError()) == "TimeoutError"


def test_the_cause_of_an_error() -> None:
    """A failed request may be the cause or the context of another error; errors of code have none."""
    request = http_error(500)
    outer, inner = RuntimeError("outer"), ValueError("inner")
    outer.__cause__, inner.__context__ = inner, request
    cases = [(outer, request), (inner, request), (request, request), (RuntimeError(), None), (None, None)]
    assert [client_module._http_error(error) for error, _ in cases] == [cause for _, cause in cases]
    assert client_module._http_error(time_out := TimeoutError()) is time_out


def test_steps_of_a_client(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """6 retries with doubled waits; errors of code and of arguments are raised at once."""
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    client = Client(REPO, TOKEN)

    def fail(error: Exception) -> None:
        raise error

    message = f"cannot do it of {REPO}: lost"
    end = ". Earlier releases are unchanged; run the same command to resume"
    lost = ConnectionError("lost")
    assert refused(client.step, "do it", lambda: fail(lost), kind=HubError) == message + end
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert [record.message for record in caplog.records] == [f"{message}; retrying in {wait:g} s" for wait in waits]
    waits.clear()
    secret = ConnectionError(f"x {TOKEN}")
    assert TOKEN not in refused(client.step, "do it", lambda: fail(secret), kind=HubError)
    waits.clear()
    for error in (
        InputError("mine"),
        ValueError("odd"),
        RuntimeError("odd"),
        KeyError("odd"),
        FileNotFoundError("odd"),
    ):
        assert refused(client.step, "do it", lambda error=error: fail(error), kind=type(error)) == str(error)
    refusal = ValueError("bad metadata")
    refusal.__cause__ = http_error(400)
    assert (
        refused(client.step, "do it", lambda: fail(refusal), kind=HubError)
        == f"cannot do it of {REPO}: bad metadata{end}"
    )
    assert waits == []
    assert client.step("do it", lambda: 3) == 3


# Versions -------------------------------------------------------------------------------------------------------------


def test_what_is_no_version(hub: HubServer, folders: dict[str, Path], tmp_path: Path) -> None:
    assert refused(version_of, tmp_path / "no") == (
        f"{tmp_path / 'no'} was not written by `publish`: pass the folder with provenance.json"
    )
    form = "expected a folder, or a repository such as 'org/name' or 'org/name@v1.0.0'; found 'a/b/c'"
    assert refused(version_of, "a/b/c") == form
    assert refused(version_of, "org/none@v1") == (
        "there is no folder org/none@v1, and no repository org/none, or it is private: log in with `hf auth login`"
    )
    push_to_hub(folders["1.0.0"], REPO)
    ending = "with a data set that `push_to_hub` wrote"
    assert refused(version_of, f"{REPO}@v9") == f"{REPO} has no revision 'v9' {ending}"
    repository(hub).commit("refs/heads/empty", "mine", {"x": b""})
    assert refused(version_of, f"{REPO}@empty") == f"{REPO} has no revision 'empty' {ending}"
    found = version_of(REPO)
    assert (found.name, found.facts["version"]) == (f"{REPO}@v1.0.0", "1.0.0")
    assert found.path("README.md").read_bytes() == repository(hub).files()["README.md"]
    refs = repository(hub).refs
    refs |= dict.fromkeys(
        ["refs/tags/v1.0", "refs/tags/2.0.0", "refs/tags/v1.10.0", "refs/tags/v1.9.0"], refs["refs/heads/main"]
    )
    client = Client(REPO)
    below = {"1.9.0": "v1.0.0", "1.10.0": "v1.9.0", "1.10.1": "v1.10.0", "1.0.0": None}
    assert newest_tag(client) == "v1.10.0"
    assert {version: newest_tag(client, below=version) for version in below} == below
    assert newest_tag(Client("org/none")) is None
    assert numbers("10.2.33") == (10, 2, 33)


def test_folders_that_are_no_version(tmp_path: Path) -> None:
    out = write(tmp_path / "out", "1.0.0", 1)
    assert folder_version(out).name == str(out)
    (out / PENDING).mkdir()
    (out / PENDING / "provenance.json").write_bytes((out / "provenance.json").read_bytes())
    assert refused(folder_version, out) == f"{out}: `publish` was interrupted: publish again first"
    (out / PENDING / "provenance.json").unlink()
    facts = json.loads((out / "provenance.json").read_text())
    (out / "README.md").write_text("x")
    assert (
        refused(folder_version, out) == f"{out / 'README.md'} has changed since it was published: publish again first"
    )
    del facts["files"]["README.md"]
    (out / "provenance.json").write_text(seal(facts))
    no_card = f"{out} has no README.md that `publish` lists: publish with layout='hub' first"
    assert refused(folder_version, out) == no_card


# Releases -------------------------------------------------------------------------------------------------------------


def test_the_files_of_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = folder_version(write(tmp_path / "out", "1.0.0", 2))
    first = release_of(local, "org/name", None, ["unused"], "unused")
    card = local.path("README.md").read_text()
    assert first.card == card.replace(
        'load_dataset("PATH", "math-stage1"', 'load_dataset("org/name", "math-stage1", revision="v1.0.0"'
    )
    assert (first.version, first.tag) == ("1.0.0", "v1.0.0")
    assert list(first.files) == [*sorted(local.facts["files"]), "provenance.json"]
    assert first.files["README.md"] == first.card.encode()
    assert first.files["provenance.json"] == seal(first.facts).encode()
    entries = {**local.facts["files"], "README.md": bytes_entry(first.card.encode())}
    assert {**first.facts, "sha256": ""} == {**local.facts, "files": entries, "sha256": ""}
    assert rows_by_config(first) == {"math-stage1": {"train": 2}}
    earlier = "\n## Changes since v0.1.0\n\n- c\n"
    ends = {("a", "b"): "- a\n- b\n", (): "The rows are the same.\n"}
    for changes, lines in ends.items():
        later = release_of(local, "org/name", "v0.9.0", changes, earlier)
        assert later.card == f"{first.card}\n## Changes since v0.9.0\n\n{lines}{earlier}"
    assert refused(check_names, {"a", "name.py"}, "org/name") == (
        "org/name must not have the file name.py: `load_dataset` would refuse the repository"
    )
    check_names({"org.py", "sub/name.py"}, "org/name")
    monkeypatch.setattr("toolrlef_data.publishing.hub.release.MAX_FILES", n := len(local.facts["files"]))
    assert refused(release_of, local, "org/name", None, []) == (
        f"{n + 1} files are too many for one commit, which has at most {n}: publish larger shards, or fewer tables"
    )


def test_the_changes_in_a_card(tmp_path: Path) -> None:
    """They are those of a card as it was published."""
    out = write(tmp_path / "out", "1.0.0", 2)
    assert changes_in(folder_version(out)) == ""
    facts, text = (
        json.loads((out / "provenance.json").read_text()),
        "x\n## Changes since v1\n\n- a\n\n## Changes since v0\n",
    )
    (out / "README.md").write_text(text)
    facts["files"]["README.md"] = bytes_entry(text.encode())
    (out / "provenance.json").write_text(seal(facts))
    version = folder_version(out)
    assert changes_in(version) == text[1:]
    (out / "README.md").write_text(text + "edited")
    assert changes_in(version) == ""


# Differences ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (ConfigDiff((0, 1)), "new, 1 row"), (ConfigDiff((0, 2)), "new, 2 rows"), (ConfigDiff((3, 0)), "removed, 3 rows"),
        (ConfigDiff((1, 1)), "the same rows in other files"), (ConfigDiff((1, 1), lost_columns=("a", "b")), "removed columns: a, b"),
        (ConfigDiff((2, 3), ("a", "b"), ("c",), {"d": ("x", "y"), "e": ("y",)}, ("d",), ("n",), ("o",)),
         "rows: 2 added, 1 removed, 2 changed (x: 1, y: 2), 1 rescored; new columns: n; removed columns: o"),
    ],
)  # fmt: skip
def test_the_text_of_a_difference(change: ConfigDiff, text: str) -> None:
    assert describe({"a": change, "b": change}) == [f"`a`: {text}", f"`b`: {text}"]


def test_rows_of_files_are_compared_by_column(tmp_path: Path) -> None:
    """The rows of equal ids are numbered over all files; only common columns are compared."""
    rows = [{"id": "1", "x": 1, "y": "a"}, {"id": "1", "x": 2, "y": "b"}, {"id": "2", "x": None, "y": "c"}]
    after = [
        {"id": "1", "x": 1, "z": 0},
        {"id": "1", "x": 3, "z": 0},
        {"id": "2", "x": None, "z": 0},
        {"id": "3", "x": 1, "z": 0},
    ]
    a, b = (
        folder_version(publish({"m": {"t": Dataset.from_list(each)}}, tmp_path / name, version="1.0.0"))
        for name, each in (("a", rows), ("b", after))
    )
    assert {config: list(splits) for config, splits in configs_of(a).items()} == {"m-t": ["train"]}
    one, two = (RowHashes(version, configs_of(version)["m-t"], only_ids=False) for version in (a, b))
    assert (one.columns, two.columns) == (["(split)", "id", "x", "y"], ["(split)", "id", "x", "z"])
    assert list(one.rows) == [("1", 0), ("1", 1), ("2", 0)]
    assert changed_columns(one, two) == {("1", 1): ("x",)}
    ids = RowHashes(a, configs_of(a)["m-t"], only_ids=True)
    assert (ids.columns, list(ids.rows)) == (["(split)", "id"], list(one.rows))
    assert diff(tmp_path / "a", tmp_path / "b") == {
        "m-t": ConfigDiff((3, 4), added=("3",), changed={"1": ("x",)}, new_columns=("z",), lost_columns=("y",))
    }
