"""Training data for selective tool use, with execution feedback, on top of Hugging Face `datasets`.

The public names stand in `__init__.pyi`; each is imported when it is first used, so that `import toolrlef_data` loads
no torch, transformers or openai.
"""

from __future__ import annotations

import importlib
from typing import Any

from toolrlef_data._names import HOMES

__all__ = sorted(HOMES)


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'toolrlef_data' has no attribute {name!r}")
    return getattr(importlib.import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
