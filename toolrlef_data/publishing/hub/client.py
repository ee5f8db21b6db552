"""Requests to the Hub: retries, errors without secrets, and the files of a commit.

Each step of a push reads the state of the repository before it changes it, so a failed step is repeated from its start.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile, RepoFolder
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from toolrlef_data.publishing.manifest import as_json, parse_facts
from toolrlef_data.records import HubError, InputError
from toolrlef_data.tables.files import file_digest
from toolrlef_data.tables.redaction import Secrets
from toolrlef_data.trice.files.folder import PROVENANCE

__all__ = ["Client", "Commit", "Content", "check_repo_id"]

WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # seconds before each retry
LONGEST_WAIT = 300.0  # seconds that a server can ask for
RETRIED = frozenset({408, 409, 412, 425, 429})  # and 5xx; 409 and 412: another commit was first
# Failed requests and broken connections: a class of httpx or httpx2, depending on the version of huggingface_hub.
HTTP_ERROR = cast("type[Exception]", HfHubHTTPError.__mro__[1])
Content = bytes | Path
Result = TypeVar("Result")
log = logging.getLogger("toolrlef_data")


@dataclass(frozen=True)
class Commit:
    """The files of a repository at a commit.

    Args:
        oid: the commit.
        files: path -> size and digest.
        facts: contents of provenance.json; empty if there is none, or one without a list of files.
    """

    oid: str
    files: Mapping[str, RepoFile] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def has(self, path: str, content: Content, entry: Mapping[str, Any]) -> bool:
        """Return whether the commit has a file with this content; `entry` is its size and SHA-256."""
        file = self.files.get(path)
        if file is None or file.size != entry["bytes"]:
            return False
        if file.lfs is not None:
            return bool(file.lfs.sha256 == entry["sha256"])
        data = content if isinstance(content, bytes) else content.read_bytes()
        return bool(file.blob_id == hashlib.sha1(b"blob %d\0%b" % (len(data), data), usedforsecurity=False).hexdigest())


class Client:
    """A dataset repository on the Hub.

    Args:
        repo_id: "owner/name".
        token: access token. Default: that of `hf auth login`, or of the variable HF_TOKEN.

    Raises:
        InputError: `repo_id` cannot be the id of a repository, or the token is no text or has blanks.
    """

    def __init__(self, repo_id: str, token: str | None = None) -> None:
        check_repo_id(repo_id)
        if not isinstance(token, (str, type(None))):
            raise InputError(f"token: expected a text or None, found {type(token).__name__}")
        token = token or get_token()
        if token is not None and (not token.isascii() or len(token.split()) != 1 or token.strip() != token):
            raise InputError("the token has blanks or characters that are not ASCII; log in again with `hf auth login`")
        self.repo_id, self.token = repo_id, token
        self.api = HfApi(token=token, library_name="toolrlef_data")
        self.secrets = Secrets([token] if token else [])

    def step(self, name: str, function: Callable[[], Result]) -> Result:
        """Return the result of a function that sends requests; repeat it after an error that can pass.

        Args:
            name: what the function does, for messages.
            function: the requests; each call reads the state of the repository again.

        Raises:
            HubError: the Hub refused a request, or the last retry failed.
        """
        for wait in (*WAITS, None):
            try:
                return function()
            except OfflineModeIsEnabled:
                raise HubError(f"cannot {name}: the variable HF_HUB_OFFLINE forbids requests to the Hub") from None
            except InputError:
                raise
            except (HTTP_ERROR, OSError, RuntimeError, ValueError) as error:
                cause = _http_error(error)
                if cause is None:
                    raise
                shown = (
                    error if isinstance(error, ValueError) else cause
                )  # it lists what is wrong in the card's metadata
                message = self.secrets.redact(f"cannot {name} of {self.repo_id}: {_text(shown)}")
                pause = _pause(cause, wait)
            if pause is None:
                raise HubError(f"{message}. Earlier releases are unchanged; run the same command to resume")
            log.warning("%s; retrying in %g s", message, pause)
            time.sleep(pause)
        raise AssertionError("the last wait is None")

    def commit(self, revision: str) -> Commit | None:
        """Return the commit at a branch, tag or commit id; None if there is no such revision."""
        try:
            oid = self.api.repo_info(self.repo_id, repo_type="dataset", revision=revision).sha
        except RevisionNotFoundError:
            return None
        assert oid is not None
        tree = self.api.list_repo_tree(self.repo_id, recursive=True, revision=oid, repo_type="dataset")
        files = {entry.path: entry for entry in tree if not isinstance(entry, RepoFolder)}
        commit = Commit(oid, files)
        if PROVENANCE not in files:
            return commit
        facts = parse_facts(self.file(commit, PROVENANCE).read_bytes(), f"{PROVENANCE} in {self.repo_id}")
        return Commit(oid, files, facts if "files" in facts else {})

    def file(self, commit: Commit, path: str) -> Path:
        """Return the local copy of a file at a commit, in the cache of huggingface_hub."""
        return Path(self.api.hf_hub_download(self.repo_id, path, repo_type="dataset", revision=commit.oid))

    def is_published(self, commit: Commit, path: str, facts: Mapping[str, Any]) -> bool:
        """Return whether a file at a commit is as a publication wrote it: provenance.json, or one of its list."""
        if path == PROVENANCE:
            return bool(facts) and self.file(commit, path).read_bytes() == as_json(facts).encode()
        file, entry = commit.files.get(path), facts.get("files", {}).get(path)
        if file is None or entry is None or file.size != entry["bytes"]:
            return False
        return bool((file.lfs.sha256 if file.lfs else file_digest(self.file(commit, path), 64)) == entry["sha256"])


def check_repo_id(repo_id: str) -> None:
    """Raise InputError unless a text has the form "owner/name"."""
    is_full = isinstance(repo_id, str) and repo_id.count("/") == 1
    try:
        validate_repo_id(repo_id if is_full else "")
    except HFValidationError:
        is_full = False
    if not is_full:
        raise InputError(f"expected the id of a repository, such as 'org/name'; found {repo_id!r}")


def _http_error(error: BaseException | None) -> BaseException | None:
    """Return the failed request or broken connection that caused an error; None if it has another cause."""
    while error is not None and not isinstance(error, (HTTP_ERROR, ConnectionError, TimeoutError)):
        error = error.__cause__ or error.__context__
    return error


def _pause(error: BaseException, wait: float | None) -> float | None:
    """Return the seconds before the next attempt; None if there is none."""
    if wait is None or not isinstance(error, HfHubHTTPError):
        return wait
    if error.response.status_code not in RETRIED and error.response.status_code < 500:
        return None
    asked = error.response.headers.get("Retry-After", "")
    return min(max(wait, float(asked)), LONGEST_WAIT) if asked.isdecimal() else wait


def _text(error: BaseException) -> str:
    """Return the first lines of an error as one line, with what to do about missing permissions."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
        text += " (log in with `hf auth login`, or set HF_TOKEN to a token with write access)"
    return text
