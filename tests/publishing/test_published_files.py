"""The files of a publication: the form of their list, their names and row groups, and the recipe among them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from tests.support.kill_points import hub_1, hub_2
from toolrlef_data import InputError
from toolrlef_data.publishing import manifest, parquet_files, placement
from toolrlef_data.publishing.manifest import (
    bytes_entry,
    check_version,
    file_entry,
    is_file,
    name_exact_files,
    parse_facts,
    publications_in,
    row_files,
    seal,
)
from toolrlef_data.publishing.recipe_file import RecipeFile, commit_of, date_of
from toolrlef_data.tables.row_files import materialize
from toolrlef_data.tables.stage_cache import read_record, write_record
from toolrlef_data.trice.files.folder import PENDING

FACTS: dict[str, Any] = {"version": "1.0.0", "configs": {}, "stages": {}, "packages": {"toolrlef_data": "0.1.0"}}
ENTRY = {"bytes": 1, "sha256": "x"}

# The list of files ----------------------------------------------------------------------------------------------------


def test_the_text_of_provenance_json() -> None:
    """Sorted keys, text as it is, and a digest of all other entries."""
    assert (
        manifest.as_json({"b": [1, "é"], "a": "\ud83d"}) == '{\n  "a": "\ufffd",\n  "b": [\n    1,\n    "é"\n  ]\n}\n'
    )
    facts = {**FACTS, "files": {"README.md": ENTRY}, "half": "\ud83d"}
    whole = {**facts, "half": "\ufffd", "sha256": ""}
    digest = hashlib.sha256(
        (json.dumps(whole, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()
    ).hexdigest()
    assert json.loads(seal(facts)) == {**whole, "sha256": digest}
    assert seal(json.loads(seal(facts))) == seal(facts) == manifest.as_json(json.loads(seal(facts)))


def test_the_contents_of_provenance_json_of_any_version() -> None:
    text = seal({**FACTS, "files": {"a/b": ENTRY}, "mine": 1})
    assert parse_facts(text.encode(), "here") == json.loads(text)
    older = {**FACTS, "mine": 1}
    for changes in ({}, {"files": {"a": ENTRY}}, {"sha256": "x"}):
        assert parse_facts(json.dumps({**older, **changes}).encode(), "here") == older, "no list without its digest"


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("", ENTRY), ("/a", ENTRY), ("../a", ENTRY), ("a/../b", ENTRY), (f"{PENDING}/a", ENTRY), (f"a/{PENDING}/b", ENTRY),
        ("a", {"bytes": 1}), ("a", {**ENTRY, "more": 1}), ("a", None),
    ],
)  # fmt: skip
def test_a_list_with_a_file_outside_of_the_folder(name: str, entry: Any) -> None:
    text = seal({**FACTS, "files": {"README.md": ENTRY, name: entry}})
    with pytest.raises(InputError) as caught:
        parse_facts(text.encode(), "here")
    message = "here was not written by `publish`: choose another folder, or move the file away"
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["version", "configs", "stages", "packages"])
def test_a_file_without_an_entry_is_of_another_program(name: str) -> None:
    facts = {key: value for key, value in {**FACTS, "files": {}}.items() if key != name}
    with pytest.raises(InputError, match="here was not written by `publish`"):
        parse_facts(seal(facts).encode(), "here")


def test_a_list_that_was_edited() -> None:
    text = seal({**FACTS, "files": {}}).replace("1.0.0", "1.0.1")
    with pytest.raises(InputError) as caught:
        parse_facts(text.encode(), "here")
    assert str(caught.value) == (
        "here has changed since it was published: undo the change, or choose another folder (provenance= adds entries)"
    )


def test_entries_of_files(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(content := b"some text")
    entry = {"bytes": 9, "sha256": hashlib.sha256(content).hexdigest()}
    assert file_entry(path) == bytes_entry(content) == entry
    cases = [(path, entry), (path, None), (tmp_path, entry), (tmp_path / "b", entry)]
    cases += [(path, {**entry, "bytes": 8}), (path, {**entry, "sha256": "x" * 64})]
    assert [is_file(*case) for case in cases] == [True, *[False] * 5]


@pytest.mark.parametrize("version", ["1.0.0", "10.20.30", "0.0.0"])
def test_versions(version: str) -> None:
    check_version(version)


@pytest.mark.parametrize("version", ["1.0", "1.0.0.0", "v1.0.0", "1.0.0 ", "1.0.x", "", None, 1.0])
def test_what_is_no_version(version: Any) -> None:
    with pytest.raises(InputError) as caught:
        check_version(version)
    assert str(caught.value) == f"version must be three numbers like '1.2.3', found {version!r}"


def test_files_with_rows() -> None:
    """By config and split, in the order of their names; the card, its figures and the recipe have no rows."""
    names = [
        "math-a/train-1-x.parquet",
        "math-a/train-0-y.parquet",
        "math-a/test-0-z.parquet",
        "math-b/train-0-z.parquet",
    ]
    others = ["README.md", "recipe.yaml", *(f"figures/{name}.svg" for name in ("funnel", "scores", "tool_rates", "need", "lengths"))]  # fmt: skip
    assert row_files([*names, *others, "dropped.json", "stage1/math/math.json"]) == {
        ("dropped.json",): ["dropped.json"],
        ("math-a", "test"): [names[2]],
        ("math-a", "train"): [names[1], names[0]],
        ("math-b", "train"): [names[3]],
        ("stage1/math/math.json",): ["stage1/math/math.json"],
    }


def test_publications_are_listed_newest_first(tmp_path: Path) -> None:
    assert publications_in(tmp_path) == []
    for place, version in (("provenance.json", "1.0.0"), (f"{PENDING}/provenance.json", "2.0.0"), (f"{PENDING}/provenance.old.json", "0.1.0")):  # fmt: skip
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(seal({**FACTS, "version": version, "files": {}}))
    assert [facts["version"] for facts in publications_in(tmp_path)] == ["2.0.0", "1.0.0", "0.1.0"]


def test_patterns_of_an_earlier_card_become_names(tmp_path: Path) -> None:
    for name in ("math-a/train-0", "math-a/train-1", "math-a/test-0"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    lines = ["  path: math-a/train-*", "  path: math-a/test-*", "  - math-a/train-*", "path: math-a/gone-*", "see math-a/train-*"]  # fmt: skip
    expected = ['  path: ["math-a/train-0", "math-a/train-1"]', "  path: math-a/test-0", "  - math-a/train-0", "  - math-a/train-1", "path: math-a/gone-*", "see math-a/train-*"]  # fmt: skip
    assert name_exact_files("\n".join(lines), tmp_path).splitlines() == expected


# Placement ------------------------------------------------------------------------------------------------------------


def test_the_card_is_the_first_file_of_a_new_folder_and_the_last_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a card, `load_dataset` would read any Parquet file; an earlier card still names the earlier files."""
    moved: list[str] = []
    replace = os.replace

    def note(source: Path, target: Path) -> None:
        if Path(source).is_relative_to(tmp_path / "out" / PENDING / "files"):
            moved.append(Path(target).relative_to(tmp_path / "out").as_posix().partition("/")[0])
        replace(source, target)

    monkeypatch.setattr(os, "replace", note)
    for publish, order in ((hub_1, ["README.md", "math-a", "math-gone"]), (hub_2, ["math-a", "math-new", "README.md"])):
        moved.clear()
        publish(tmp_path / "out")
        assert moved == order


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO])
def test_a_file_system_that_flushes_no_folders(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    before = set(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else set()
    with nullcontext() if code == errno.EINVAL else pytest.raises(OSError, match=os.strerror(code)):
        placement._flush(tmp_path)
    assert not before or set(os.listdir("/proc/self/fd")) == before, "the folder is closed"


# Parquet files --------------------------------------------------------------------------------------------------------


def test_files_of_500_megabytes_with_row_groups_of_10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {n_bytes: parquet_files._group_rows(1000, n_bytes) for n_bytes in (0, 10_000_000, 40_000_000, 10**11)}
    assert rows == {0: 1000 * 10_000_000, 10_000_000: 1000, 40_000_000: 250, 10**11: 1}
    data = Dataset.from_dict({"id": ["a", "b", "c"]})
    for n_bytes, shards in ((500_000_000, 1), (500_000_001, 2), (0, 1)):
        monkeypatch.setattr(parquet_files, "table_bytes", lambda data, n_bytes=n_bytes: n_bytes)
        parquet_files.write_parquet(data, folder := tmp_path / str(n_bytes), "test")
        names = sorted(path.name for path in folder.iterdir())
        parts = [name.rpartition("-") for name in names]
        assert [part[0] for part in parts] == [f"test-{i:05d}-of-{shards:05d}" for i in range(shards)]
        digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]
        assert [part[2] for part in parts] == [f"{digest[:16]}.parquet" for digest in digests]
        assert [row for name in names for row in pq.read_table(folder / name)["id"].to_pylist()] == ["a", "b", "c"]


def test_finished_files_are_published_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in shards has written them; on another file system they are copied."""
    data = materialize(Dataset.from_dict({"id": ["a", "b"]}))
    files = [tmp_path / f"part{i}" for i in range(2)]
    for i, file in enumerate(files):
        parquet_files.write_file(data.select([i]), file)
    record = read_record(data._fingerprint)
    assert record is not None
    write_record(data._fingerprint, {**record, "parquet_files": [*map(str, files)]})

    def refuse(*arguments: Any) -> None:
        raise OSError(errno.EXDEV, "another file system")

    digests = [hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files]
    names = [f"train-{i:05d}-of-00002-{digest}.parquet" for i, digest in enumerate(digests)]
    for is_linked in (True, False):
        parquet_files.write_parquet(data, folder := tmp_path / str(is_linked), "train")
        assert sorted(path.name for path in folder.iterdir()) == names
        assert [(folder / name).read_bytes() for name in names] == [file.read_bytes() for file in files]
        assert [os.path.samefile(folder / name, file) for name, file in zip(names, files, strict=True)] == [
            is_linked
        ] * 2
        monkeypatch.setattr(os, "link", refuse)


# The recipe -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["hf_", "sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "AIza", "AKIA"])
def test_tokens_of_every_provider_are_secrets(start: str) -> None:
    with pytest.raises(InputError) as caught:
        RecipeFile({"a": [{"b": f"x {start}{'aB3_-z' * 2}"}]}).text()
    assert str(caught.value) == (
        "the recipe holds a secret at a.0.b, and would be published: name an environment variable instead, as in "
        "keys: MY_KEY"
    )
    for text in (f"{start}{'a' * 11}", f"x{start}{'a' * 12}"):
        RecipeFile({"b": text}).text()


def test_values_of_named_variables_are_secrets_from_8_characters_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, is_secret in (("1234567", False), ("12345678", True)):
        monkeypatch.setenv("MY_KEY", value)
        recipe = RecipeFile({"keys": "$MY_KEY", "x": {"y": ("z", f"Bearer {value}")}})
        if is_secret:
            with pytest.raises(InputError, match=r"a secret at x\.y\.1,"):
                recipe.text()
            monkeypatch.setenv("OTHER_KEY", "abcdefghi")
            RecipeFile({"keys": "$MY_KEY", "x": "abcdefghi"}).text()  # no name of its variable
        else:
            recipe.text()


def test_the_token_of_the_hub_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-token-of-another-form")
    with pytest.raises(InputError, match=r"a secret at \(key\),"):
        RecipeFile({"a-token-of-another-form": 1}).text()
    with pytest.raises(InputError, match=r"a secret at a\.\(key\),"):
        RecipeFile({"a": {"a-token-of-another-form": 1}}).text()


def test_the_text_of_a_recipe() -> None:
    values = {"z": "ü " * 55 + "end", "a": [{"data_dir": "/home/me/rows", "n": 1, "on": True, "none": None}]}
    expected = f"z: {'ü ' * 55}end\na:\n- data_dir: rows\n  n: 1\n  'on': true\n  none: null\n"
    assert RecipeFile(values).text() == expected


def test_commits_have_an_id_and_a_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("name: a\n")
    assert (commit_of(file), date_of(file)) == (None, None)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2026-11-30T12:00:00+0000")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert (commit_of(file), date_of(file)) == (head, "2026-11-30")
    (tmp_path / "link").symlink_to(file)
    assert commit_of(tmp_path / "link") == head
    assert commit_of(tmp_path) is None, "a folder"
    broken = tmp_path / "bin" / "git"
    broken.parent.mkdir()
    broken.write_bytes(b"\0")
    broken.chmod(0o755)
    for place in (broken.parent, tmp_path / "none"):  # a program that does not start, and none
        monkeypatch.setenv("PATH", str(place))
        assert commit_of(file) is None
