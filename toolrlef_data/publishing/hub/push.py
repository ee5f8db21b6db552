"""Push a published folder to the Hub as a release: one commit, and a tag that is made last.

The tag is the release. A push has four steps, and each one reads the state of the repository first:

1. The repository and the branch are created if they are missing.
2. The files that the head lacks are uploaded, then committed on that head, with the removal of the files of the release
   before. If another commit was first, the step begins again with the new head.
3. The commit is loaded: the digests of the files, and the configs, splits, row counts and version of `load_dataset`.
4. The tag is created.

An interrupted push leaves the tags as they were, and a second push uploads only what is missing.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import load_dataset_builder
from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.errors import RepositoryNotFoundError

from toolrlef_data.publishing.folder import Tables, publish
from toolrlef_data.publishing.hub.client import Client, Commit
from toolrlef_data.publishing.hub.difference import ConfigDiff, describe, difference
from toolrlef_data.publishing.hub.release import Release, changes_in, check_names, release_of, rows_by_config
from toolrlef_data.publishing.hub.versions import Version, commit_version, folder_version, newest_tag, numbers
from toolrlef_data.records import HubError, InputError

__all__ = ["Push", "check_pushable", "push_to_hub"]

MAIN = "main"
EMPTY = Version("no release", {"files": {}}, Path)
log = logging.getLogger("toolrlef_data")


@dataclass(frozen=True)
class Push:
    """Result of `push_to_hub`.

    Args:
        repo_id: the repository.
        commit: id of the commit with the release; None for a dry run.
        tag: the tag of the release; None if none was made, as with `create_pr` and `branch`.
        url: where to look at it: the pull request, the tag, the branch or the repository.
        since: the tag that `changes` begin at; None if there is none.
        changes: the difference by config.
    """

    repo_id: str
    commit: str | None
    tag: str | None
    url: str
    since: str | None = None
    changes: Mapping[str, ConfigDiff] = field(default_factory=dict)


def push_to_hub(
    what: str | Path | Tables,
    repo_id: str,
    *,
    version: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    branch: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
    move_tag: bool = False,
) -> Push:
    """Push a published folder, or tables, to a dataset repository on the Hub, and tag the release "v1.2.0".

    Everything is in one commit. Files in the repository that `push_to_hub` did not write stay as they are. The tag
    exists only if the commit is complete and loads. A release that the repository already has is not changed.

    Args:
        what: a folder that `publish` wrote with layout="hub", or tables as for `publish`.
        repo_id: the repository, such as "org/name"; created if it is missing.
        version: the version of tables. Default: the version of the folder.
        private: whether a new repository is private. Default: False.
        create_pr: whether to open a pull request instead; a push after its merge makes the tag. Default: False.
        branch: the branch to commit to; a push after its merge into main makes the tag. Default: main.
        token: access token. Default: that of `hf auth login`, or of the variable HF_TOKEN.
        dry_run: whether to print the difference to the newest tag and change nothing. Default: False.
        move_tag: whether to replace a tag that has other contents. Default: False.

    Returns:
        The commit, the tag and the changes.

    Raises:
        InputError: `publish` did not write the folder, a file changed since, the tag has other contents, the branch
            has a newer version, or the repository has a file of others with a needed name.
        HubError: the Hub refused a request, could not be reached, or has other files than were pushed.
    """
    client = Client(repo_id, token)
    if create_pr and branch is not None:
        raise InputError("create_pr=True and branch= are mutually exclusive: use one of them")
    if not isinstance(what, (str, Path)):
        if version is None:
            raise InputError("tables need a version: pass version=, such as version='1.0.0'")
        with tempfile.TemporaryDirectory() as scratch:
            folder = publish(what, Path(scratch, "data"), version=version)
            return _push(folder_version(folder), client, private, create_pr, branch, dry_run, move_tag)
    local = folder_version(Path(what))
    if version not in (None, local.facts["version"]):
        raise InputError(f"{what} has the version {local.facts['version']}, not {version}: publish it again")
    return _push(local, client, private, create_pr, branch, dry_run, move_tag)


def check_pushable(repo_id: str, version: str, *, private: bool = False, token: str | None = None) -> None:
    """Raise InputError if a release of a version cannot be pushed to a repository, whatever its rows are.

    Args:
        repo_id, version, private, token: as in `push_to_hub`.
    """
    client = Client(repo_id, token)

    def head() -> Commit | None:
        return client.commit(MAIN) if _exists(client, private) else None

    if (commit := client.step("read the head", head)) is not None:
        _check_head(client, commit, version)


def _push(
    local: Version, client: Client, private: bool, create_pr: bool, branch: str | None, dry_run: bool, move_tag: bool
) -> Push:
    repo_id, version = client.repo_id, local.facts["version"]
    check_names(set(local.facts["files"]), repo_id)
    url = f"{client.api.endpoint}/datasets/{repo_id}"
    if dry_run:
        since = newest_tag(client)
        changes = difference(_version_at(client, since), local)
        title = f"Changes since {since}:" if since else "First release:"
        print("\n".join([title, *(describe(changes) or ["no changes"])]))  # noqa: T201
        return Push(repo_id, None, None, url, since, changes)
    client.step("create the repository", lambda: _create(client, private))
    since = newest_tag(client, below=version)
    before = _version_at(client, since)
    changes = difference(before, local)
    release = release_of(local, repo_id, since, describe(changes), changes_in(before))
    tagged = client.step("read the tag", lambda: client.commit(release.tag))
    if tagged is not None and client.step("read the tag", lambda: release.is_at(tagged, client)):
        log.info("%s already has the release %s", repo_id, release.tag)
        return Push(repo_id, tagged.oid, release.tag, f"{url}/tree/{release.tag}", since, changes)
    if tagged is not None and not move_tag:
        raise _other_contents(client, release)
    commit, ref = client.step("commit", lambda: _commit(client, release, branch or MAIN, create_pr))
    _check(client, release, commit)
    if ref == MAIN:
        _set_tag(client, release, commit, move_tag)
        return Push(repo_id, commit, release.tag, f"{url}/tree/{release.tag}", since, changes)
    page = f"tree/{ref}" if ref == branch else f"discussions/{ref.rpartition('/')[2]}"
    return Push(repo_id, commit, None, f"{url}/{page}", since, changes)


def _version_at(client: Client, tag: str | None) -> Version:
    """Return the release at a tag; an empty one if there is none that `push_to_hub` wrote."""
    commit = client.step("read the release before", lambda: client.commit(tag)) if tag else None
    return commit_version(client, commit, str(tag)) if commit is not None and commit.facts else EMPTY


# Steps: each reads the state of the repository, and can be repeated -------------------------------------------------


def _create(client: Client, private: bool) -> None:
    """Create the repository if it is missing."""
    if not _exists(client, private):
        client.api.create_repo(client.repo_id, repo_type="dataset", private=private, exist_ok=True)


def _exists(client: Client, private: bool) -> bool:
    try:
        info = client.api.repo_info(client.repo_id, repo_type="dataset")
    except RepositoryNotFoundError:
        return False
    if private and not info.private:
        raise InputError(f"{client.repo_id} exists and is public: make it private on the Hub first")
    return True


def _check_head(client: Client, head: Commit, version: str) -> None:
    """Raise InputError if a release of a version cannot follow on a commit."""
    old = head.facts.get("version", version)
    if numbers(old) > numbers(version):
        raise InputError(f"{client.repo_id} has the version {old}, which is newer than {version}: raise the version")
    check_names(set(head.files), client.repo_id)


def _pulls(client: Client) -> list[str]:
    """Return the refs of all pull requests, such as "refs/pr/1", newest first."""
    refs = client.api.list_repo_refs(client.repo_id, repo_type="dataset", include_pull_requests=True)
    return sorted((pull.ref for pull in refs.pull_requests or ()), key=lambda ref: (len(ref), ref), reverse=True)


def _commit(client: Client, release: Release, branch: str, create_pr: bool) -> tuple[str, str]:
    """Return a commit that has the release, and its branch or pull request; make the commit if there is none."""
    head = client.commit(MAIN)
    if head is not None and release.is_at(head, client):
        return head.oid, MAIN
    for ref in _pulls(client) if create_pr else ():  # one may be of an attempt that got no response
        pull = client.commit(ref)
        if pull is not None and release.is_at(pull, client):
            return pull.oid, ref
    if branch != MAIN and (head := client.commit(branch)) is None:
        client.api.create_branch(client.repo_id, repo_type="dataset", branch=branch, exist_ok=True)
        head = client.commit(branch)
    if head is None:
        raise InputError(f"{client.repo_id} has no branch {branch!r}")
    if release.is_at(head, client):
        return head.oid, branch
    _check_head(client, head, release.version)
    old = head.facts
    missing = release.missing_from(head)
    for path in missing:
        if path in head.files and not client.is_published(head, path, old):
            raise InputError(
                f"{path} in {client.repo_id} was not written by `push_to_hub`, or has changed since: move it away first"
            )
    stale = [path for path in old.get("files", ()) if path in head.files and path not in release.files]
    stale = [path for path in stale if client.is_published(head, path, old)]
    additions = [CommitOperationAdd(path, _content(release, path)) for path in missing]
    options: dict[str, Any] = {"repo_type": "dataset", "revision": branch, "create_pr": create_pr}
    client.api.preupload_lfs_files(client.repo_id, additions, free_memory=False, **options)
    info = client.api.create_commit(
        client.repo_id,
        [*additions, *(CommitOperationDelete(path) for path in stale)],
        commit_message=f"Version {release.version}",
        parent_commit=head.oid,
        **options,
    )
    return str(info.oid), info.pr_revision or branch


def _content(release: Release, path: str) -> bytes | str:
    content = release.files[path]
    return content if isinstance(content, bytes) else str(content)


def _check(client: Client, release: Release, oid: str) -> None:
    """Raise HubError unless a commit has the files of a release, and `load_dataset` finds its rows in them."""
    commit = client.step("read the commit", lambda: client.commit(oid))
    if commit is None or not client.step("read the commit", lambda: release.is_at(commit, client)):
        raise HubError(f"{client.repo_id} has other files at {oid} than were pushed: push again")
    with tempfile.TemporaryDirectory() as cache:
        for config, rows in rows_by_config(release).items():
            info = client.step("load the commit", lambda: _load(client, config, oid, cache))  # noqa: B023
            if info != (release.version, rows):
                raise HubError(f"{client.repo_id} loads as {info} at {oid}; expected {(release.version, rows)}")


def _load(client: Client, config: str, oid: str, cache: str) -> tuple[str, dict[str, int]]:
    """Return version and split -> number of rows of a config, as `load_dataset` reads them."""
    builder = load_dataset_builder(client.repo_id, config, revision=oid, cache_dir=cache, token=client.token)
    return str(builder.info.version), {name: split.num_examples for name, split in builder.info.splits.items()}


def _set_tag(client: Client, release: Release, oid: str, move_tag: bool) -> None:
    """Create the tag of a release, or move it to the commit; put it back if it cannot be moved.

    The Hub has no request that moves a tag: it is deleted and created.
    """
    deleted: list[str] = []
    try:
        client.step("create the tag", lambda: _tag(client, release, oid, move_tag, deleted))
    except BaseException as error:  # also Ctrl-C
        if deleted:
            _restore(client, release.tag, deleted[0], error)
        raise


def _tag(client: Client, release: Release, oid: str, move_tag: bool, deleted: list[str]) -> None:
    """Create the tag of a release, or move it to the commit; append the commit of a tag to `deleted` before that."""
    tagged = client.commit(release.tag)
    if tagged is not None and tagged.oid == oid:
        return
    if tagged is not None:
        if not move_tag:
            raise _other_contents(client, release)
        deleted.append(tagged.oid)
        log.warning("moving the tag %s of %s from %s to %s", release.tag, client.repo_id, tagged.oid, oid)
        client.api.delete_tag(client.repo_id, repo_type="dataset", tag=release.tag)
    client.api.create_tag(client.repo_id, repo_type="dataset", tag=release.tag, revision=oid)


def _restore(client: Client, tag: str, oid: str, cause: BaseException) -> None:
    """Create a deleted tag again at its commit, unless it exists; raise a HubError with the commit if it fails."""

    def create() -> None:
        if client.commit(tag) is None:
            client.api.create_tag(client.repo_id, repo_type="dataset", tag=tag, revision=oid)

    try:
        client.step("restore the tag", create)
    except HubError as error:
        reason = str(error).partition(". Earlier releases")[0]
        raise HubError(
            f"{reason}. The tag {tag} was deleted to move it, and may be missing. It was at the commit {oid}, whose "
            "files are still there: run the same command to create the tag at the new commit"
        ) from cause


def _other_contents(client: Client, release: Release) -> InputError:
    return InputError(
        f"{client.repo_id} has the tag {release.tag} with other contents: publish under a new version, or replace the "
        "tag with move_tag=True (--move-tag)"
    )
