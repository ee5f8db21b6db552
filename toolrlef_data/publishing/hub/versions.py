"""The releases that `difference` compares: published folders, and commits of repositories on the Hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import RepositoryNotFoundError

from toolrlef_data.checks import check_type
from toolrlef_data.publishing.hub.client import Client, Commit
from toolrlef_data.publishing.manifest import CARD, VERSION, is_file, publications_in
from toolrlef_data.records import InputError
from toolrlef_data.trice.files.folder import PENDING, PROVENANCE

__all__ = ["Version", "commit_version", "folder_version", "newest_tag", "tag_name", "version_of"]


@dataclass(frozen=True)
class Version:
    """A published version.

    Args:
        name: what it is called in messages and cards.
        facts: contents of provenance.json.
        path: returns the local path of a published file.
    """

    name: str
    facts: Mapping[str, Any]
    path: Callable[[str], Path]


def version_of(what: str | Path, token: str | None = None) -> Version:
    """Return the version at a place.

    Args:
        what: a folder, the id of a repository (its newest tag), or "id@revision".
        token: as in `Client`.

    Raises:
        InputError: `publish` did not write the folder or the commit.
        HubError: the Hub refused a request or could not be reached.
    """
    check_type("version", what, "a folder or a repository", str, Path)
    if isinstance(what, Path) or os.path.exists(what):
        return folder_version(Path(what))
    repo_id, _, revision = what.partition("@")
    if repo_id.count("/") != 1:
        raise InputError(f"expected a folder, or a repository such as 'org/name' or 'org/name@v1.0.0'; found {what!r}")
    client = Client(repo_id, token)
    revision = revision or newest_tag(client) or "main"

    def read() -> Commit | None:
        try:
            return client.commit(revision)
        except RepositoryNotFoundError:
            raise InputError(
                f"there is no folder {what}, and no repository {repo_id}, or it is private: log in with `hf auth login`"
            ) from None

    commit = client.step("read the release", read)
    if commit is None or CARD not in commit.facts.get("files", {}):
        raise InputError(f"{repo_id} has no revision {revision!r} with a data set that `push_to_hub` wrote")
    return commit_version(client, commit, f"{repo_id}@{revision}")


def folder_version(folder: Path) -> Version:
    """Return the version in a folder, after a check that its files are as `publish` wrote them."""
    publications = publications_in(folder) if folder.is_dir() else []
    if not publications:
        raise InputError(f"{folder} was not written by `publish`: pass the folder with {PROVENANCE}")
    facts = publications[0]
    if CARD not in facts["files"] or "sha256" not in facts:
        raise InputError(f"{folder} has no {CARD} that `publish` lists: publish with layout='hub' first")
    if (folder / PENDING / PROVENANCE).exists():
        raise InputError(f"{folder}: `publish` was interrupted: publish again first")
    for name, entry in facts["files"].items():
        if not is_file(folder / name, entry):
            raise InputError(f"{folder / name} has changed since it was published: publish again first")
    return Version(str(folder), facts, folder.joinpath)


def commit_version(client: Client, commit: Commit, name: str) -> Version:
    """Return the version at a commit; its files are downloaded when they are read."""
    return Version(name, commit.facts, lambda path: client.step(f"read {path}", lambda: client.file(commit, path)))


def tag_name(version: str) -> str:
    return f"v{version}"


def newest_tag(client: Client, below: str | None = None) -> str | None:
    """Return the tag with the highest version, such as "v1.2.0"; with `below`, the highest one below a version."""

    def list_tags() -> list[str]:
        try:
            refs = client.api.list_repo_refs(client.repo_id, repo_type="dataset")
        except RepositoryNotFoundError:
            return []
        return [ref.name.removeprefix("v") for ref in refs.tags if ref.name.startswith("v")]

    versions = [version for version in client.step("list the tags", list_tags) if VERSION.fullmatch(version)]
    versions = [version for version in versions if below is None or numbers(version) < numbers(below)]
    return tag_name(max(versions, key=numbers)) if versions else None


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
