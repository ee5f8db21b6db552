"""Stage cache and reply store in a given folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import pytest

from toolrlef_data.engines.openai_api.budget import SPENDING_BY_MODEL


@contextmanager
def use_caches(folder: Path) -> Iterator[Path]:
    """Use a stage cache and a reply store in a folder.

    A shared fixture builds its tables in such a folder, and each test copies it over its `fresh_caches`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")
        patch.setenv("TOOLRLEF_REPLIES", str(folder / "replies.sqlite"))
        SPENDING_BY_MODEL.clear()  # another server may use the same port
        yield folder
