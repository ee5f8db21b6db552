"""The files of a release on the Hub, made from a published folder.

They are those of the folder, but README.md names the repository and the tag, and ends with the changes since the
release before, followed by the changes of the earlier releases. The list in provenance.json has that README.md, so
that a download of the release is a published folder again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq
import yaml

from toolrlef_data.publishing.hub.client import Client, Commit, Content
from toolrlef_data.publishing.hub.versions import Version, tag_name
from toolrlef_data.publishing.manifest import CARD, as_json, bytes_entry, seal
from toolrlef_data.records import InputError
from toolrlef_data.trice.files.folder import PROVENANCE

__all__ = ["Release", "changes_in", "release_of", "rows_by_config"]

MAX_FILES = 20_000  # a commit has up to 25,000, with deletions
CHANGES = "\n## Changes since "


@dataclass(frozen=True)
class Release:
    """The files of a release.

    Args:
        facts: contents of provenance.json.
        card: README.md.
        files: path -> contents, or the local file with them.
    """

    facts: Mapping[str, Any]
    card: str
    files: Mapping[str, Content]

    @property
    def version(self) -> str:
        return str(self.facts["version"])

    @property
    def tag(self) -> str:
        return tag_name(self.version)

    def missing_from(self, commit: Commit) -> list[str]:
        """Return the paths of the files that a commit lacks or has with other contents."""
        entries = {**self.facts["files"], PROVENANCE: bytes_entry(as_json(self.facts).encode())}
        return [path for path, content in self.files.items() if not commit.has(path, content, entries[path])]

    def is_at(self, commit: Commit, client: Client) -> bool:
        """Return whether a commit has this release; the list of changes in its card may begin at another release."""
        missing = self.missing_from(commit)
        if not missing or not {CARD, PROVENANCE}.issuperset(missing):
            return not missing
        if not client.is_published(commit, CARD, commit.facts):
            return False
        card = client.file(commit, CARD).read_text(encoding="utf-8")
        return _without_changes(card, commit.facts) == _without_changes(self.card, self.facts)


def release_of(
    version: Version, repo_id: str, before: str | None, changes: Sequence[str], earlier: str = ""
) -> Release:
    """Return the release that a published folder becomes.

    Args:
        version: the folder.
        repo_id: the repository.
        before: tag of the release before; None if this is the first one.
        changes: the changes since then, one line per config.
        earlier: result of `changes_in` for the release before. Default: none.

    Raises:
        InputError: the release has too many files, or one that stops `load_dataset`.
    """
    facts = version.facts
    names = set(facts["files"])
    check_names(names, repo_id)
    if len(names) >= MAX_FILES:
        raise InputError(
            f"{len(names) + 1} files are too many for one commit, which has at most {MAX_FILES}: publish larger "
            "shards, or fewer tables"
        )
    card = _card(version.path(CARD).read_text(encoding="utf-8"), repo_id, tag_name(facts["version"]))
    if before is not None:
        lines = "".join(f"- {line}\n" for line in changes) or "The rows are the same.\n"
        card = f"{card}{CHANGES}{before}\n\n{lines}{earlier}"
    facts = json.loads(seal({**facts, "files": {**facts["files"], CARD: bytes_entry(card.encode())}}))
    files: dict[str, Content] = {name: version.path(name) for name in sorted(names)}
    return Release(facts, card, {**files, CARD: card.encode(), PROVENANCE: as_json(facts).encode()})


def changes_in(version: Version) -> str:
    """Return the lists of changes at the end of a card; empty if it has none, or is not as it was published."""
    entry = version.facts["files"].get(CARD)
    text = version.path(CARD).read_bytes() if entry is not None else b""
    if entry is None or bytes_entry(text) != entry:
        return ""
    _, marker, changes = text.decode().partition(CHANGES)
    return marker + changes


def check_names(names: set[str], repo_id: str) -> None:
    """Raise InputError for a file that `load_dataset` reads as a loading script, which it refuses."""
    script = f"{repo_id.partition('/')[2]}.py"
    if script in names:
        raise InputError(f"{repo_id} must not have the file {script}: `load_dataset` would refuse the repository")


def rows_by_config(release: Release) -> dict[str, dict[str, int]]:
    """Return config -> split -> number of rows in the files that the card names, from their Parquet metadata."""
    configs: dict[str, dict[str, int]] = {}
    for config in yaml.safe_load(release.card[4:].partition("\n---\n")[0])["configs"]:
        for split in config["data_files"]:
            paths = [split["path"]] if isinstance(split["path"], str) else split["path"]
            rows = sum(pq.read_metadata(release.files[path]).num_rows for path in paths)
            configs.setdefault(config["config_name"], {})[split["split"]] = rows
    return configs


def _card(text: str, repo_id: str, tag: str) -> str:
    """Return a card whose calls of `load_dataset` name a repository and a tag.

    >>> _card('load_dataset("PATH", "math-stage1", split="train")', "org/name", "v1.0.0")
    'load_dataset("org/name", "math-stage1", revision="v1.0.0", split="train")'
    """
    return re.sub(r'load_dataset\("PATH"((?:, "[^"\n]*")?)', rf'load_dataset("{repo_id}"\1, revision="{tag}"', text)


def _without_changes(card: str, facts: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a card and the contents of provenance.json as they are without the list of changes."""
    files = {path: entry for path, entry in facts["files"].items() if path != CARD}
    return card.partition(CHANGES)[0], {**facts, "files": files, "sha256": ""}
