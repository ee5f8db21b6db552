"""Caches in a folder of a test's choice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import pytest

from toolrlef_data.engines.openai_api.budget import SPENDING_BY_MODEL


@contextmanager
def use_caches(folder: Path) -> Iterator[Path]:
    """A stage cache and a reply store of one's own.

    A fixture that several tests share makes its tables in such a folder, and each test copies it over its `fresh_caches`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")
        patch.setenv("TOOLRLEF_REPLIES", str(folder / "replies.sqlite"))
        SPENDING_BY_MODEL.clear()  # a port may come back with another server
        yield folder
