"""Training data for selective tool use, with execution feedback, on top of Hugging Face `datasets`.

The public names are listed in `__init__.pyi`. Each is imported on first access, so `import toolrlef_data` imports no
torch, transformers or openai.
"""

from __future__ import annotations

import importlib
from typing import Any

from toolrlef_data._names import PUBLIC_MODULES

__all__ = sorted(PUBLIC_MODULES)


def __getattr__(name: str) -> Any:
    if name not in PUBLIC_MODULES:
        raise AttributeError(f"module 'toolrlef_data' has no attribute {name!r}")
    return getattr(importlib.import_module(PUBLIC_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
