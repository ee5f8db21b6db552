"""A stage cache, a reply store and a memory of tasks of their own, as a new process has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import pytest

from toolrlef_data.engines.openai_api.budget import SPENDING_BY_MODEL
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.given import memory


@contextmanager
def use_caches(folder: Path) -> Iterator[Path]:
    """Use the stage cache and the reply store of a folder, and forget at the end which tasks were given.

    A fixture with a wider scope can build tables in such a folder once; each test then copies the folder to its
    `fresh_caches`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")
        patch.setenv("TOOLRLEF_REPLIES", str(folder / "replies.sqlite"))
        patch.setattr(TASKS, "added", dict(TASKS.added))
        for name in ("_of_tables", "_by_name"):
            patch.setattr(memory, name, dict(getattr(memory, name)))
        SPENDING_BY_MODEL.clear()  # another server may use the same port
        yield folder
