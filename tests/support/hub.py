"""A Hub server for a test, used by `huggingface_hub` and `datasets` in this process; releases, and faults in a push."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants as constants
import pytest
from datasets import Dataset, load_dataset

from tests.support.hub_server import Files, HubServer, Repository, serve_hub
from toolrlef_data import publish, push_to_hub
from toolrlef_data.publishing import parquet_files
from toolrlef_data.publishing.hub.push import Push
from toolrlef_data.records import HubError

REPO = "org/data"
CONFIG = "math-stage1"


@contextmanager
def use_hub() -> Iterator[HubServer]:
    """Yield a Hub server; until the end, both libraries send their requests to it."""
    with serve_hub() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "ENDPOINT": server.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
        }.items():
            patch.setattr(constants, name, value)
        patch.setattr(datasets.config, "HF_ENDPOINT", server.url)
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        yield server


def write(folder: Path, version: str, rows: int, *, answer: str = "4", **options: Any) -> Path:
    """Publish rows in shards of about three rows."""
    table = Dataset.from_list([{"id": str(n), "question": f"{n}?", "output": answer} for n in range(rows)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_files, "SHARD_BYTES", table.data.nbytes * 3 // rows + 1)
        return publish({"math": {"stage1": table}}, folder, version=version, **options)


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


def pushes_with(
    hub: HubServer, releases: dict[str, Path], fault: Callable[[int], int | str | None]
) -> tuple[Push | HubError, int]:
    """Push 1.0.0 to a new server state, then 1.1.0 with a fault by number of the request; return the result and count."""
    hub.fault = lambda number, method, path: None
    hub.repositories.clear()
    hub.objects.clear()
    hub.uploads.clear()
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


def check_one_fault(hub: HubServer, releases: dict[str, Path], kinds: Sequence[int | str]) -> None:
    """Check that a push succeeds with one fault at any request; request k has the kind k modulo their number.

    A cut connection is closed before the request is executed, a lost one after that.
    """
    _, total = pushes_with(hub, releases, lambda number: None)
    assert total > 20
    for k in range(1, total + 1):
        push, _ = pushes_with(hub, releases, lambda number: kinds[k % len(kinds)] if number == k else None)  # noqa: B023
        assert isinstance(push, Push), (k, push)
        repo = repository(hub)
        assert repo.tags["v1.1.0"] == push.commit == repo.refs["refs/heads/main"], k
        assert len(repo.commits) == 3, k
        assert loaded_rows("v1.1.0") == 7, k


def check_failures(hub: HubServer, releases: dict[str, Path], kinds: Sequence[int | str]) -> None:
    """Check the old release and a second push when all requests from any one on fail, without retries."""
    for k in count(1):
        result, _ = pushes_with(hub, releases, lambda number: kinds[k % len(kinds)] if number >= k else None)  # noqa: B023
        repo = repository(hub)
        old = repo.tags["v1.0.0"]
        assert loaded_rows("v1.0.0") == 9, k
        if isinstance(result, Push):
            break
        assert "v1.1.0" not in repo.tags, k
        push = push_to_hub(releases["1.1.0"], REPO)
        assert repo.tags == {"v1.0.0": old, "v1.1.0": push.commit}, k
        assert len(repo.commits) == 3, k
        assert loaded_rows("v1.1.0") == 7, k
        assert len(hub.uploads) == len(hub.objects), f"{k}: an object was uploaded twice"
    assert k > 20
