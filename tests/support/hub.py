"""A Hub server for a test, used by `huggingface_hub` and `datasets` in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import datasets
import huggingface_hub.constants as constants
import pytest

from tests.support.hub_server import HubServer, serve_hub


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
