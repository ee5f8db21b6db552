"""A server for the models of the commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api_server import ApiServer
from tests.support.trice_chain import reply


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """A server for all engine names, and an empty current folder."""
    monkeypatch.chdir(tmp_path)
    with ApiServer(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        yield server
