"""Every kind of fault at every request of a push; `tests/publishing/hub` has a mix of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.hub import check_failures, check_one_fault, use_hub, write
from toolrlef_data.publishing.hub import client as client_module

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub


@pytest.fixture
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return {"1.0.0": write(tmp_path / "1", "1.0.0", 9), "1.1.0": write(tmp_path / "2", "1.1.0", 7, answer="8")}


@pytest.mark.parametrize("kind", [503, 500, 429, 412, 409, "cut", "lost"])
def test_one_fault_at_any_request_is_retried(kind: int | str, releases: dict[str, Path]) -> None:
    with use_hub() as hub:
        check_one_fault(hub, releases, (kind,))


@pytest.mark.parametrize("kind", [503, 429, 412, 409, 404, 403, "cut"])
def test_a_push_that_fails_at_any_request_leaves_the_release_before_and_is_resumed(
    kind: int | str, releases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "WAITS", ())
    with use_hub() as hub:
        check_failures(hub, releases, (kind,))
