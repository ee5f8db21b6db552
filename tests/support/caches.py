"""A stage cache and a reply store in a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import pytest

from toolrlef_data.engines.openai_api.budget import SPENDING_BY_MODEL


@contextmanager
def use_caches(folder: Path) -> Iterator[Path]:
    """Use the stage cache and the reply store of a folder.

    A fixture with a wider scope can build tables in such a folder once; each test then copies the folder to its
    `fresh_caches`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")
        patch.setenv("TOOLRLEF_REPLIES", str(folder / "replies.sqlite"))
        SPENDING_BY_MODEL.clear()  # another server may use the same port
        yield folder
