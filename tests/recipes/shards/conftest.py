"""Copies of folders that a fixture of a whole module has built."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def copy_tree() -> Callable[[Path, Path], Path]:
    """Return a function that copies a folder and returns the copy."""
    return lambda source, target: Path(shutil.copytree(source, target))
