"""published: what of a stage's settings may be read by others.

An object says it itself, with a method `published() -> dict`: prompts as digests, no place on this machine. For all
other values, text is checked here: a path is cut to its last name, the address of a private server is left out.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from pathlib import PurePath
from types import MethodType
from typing import Any

import numpy as np

from toolrlef_data.records import Choices
from toolrlef_data.tables.fingerprint import canonical, key_fields

__all__ = ["published", "redact_fields", "redact_path", "redact_url"]

# A server of the user's own: its address says nothing to others.
PRIVATE_SERVER = re.compile(
    r"https?://(?:[^/@]*@)?(?:localhost|127\.|10\.|192\.168\.|169\.254\.|0\.0\.0\.0|172\.(?:1[6-9]|2\d|3[01])\."
    r"|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|\[|(?:[\w.-]+\.(?:internal|local|lan|corp|intranet)|[\w-]+)(?:[:/?#]|$))",
    re.IGNORECASE,
)
# What a path looks like; a Hub id is none, nor is a command of LaTeX.
PATH = re.compile(
    r"(?:/+|(?:~[\w.-]*|\.{1,2}|\$\w+|%\w+%|[a-z]:)[/\\]|\\\\|\\(?=[\w. -]+\\)|(?:file|smb):/*)[\w.~$-]", re.IGNORECASE
)


def published(value: Any) -> Any:
    """A setting as JSON values that may be published.

    Args:
        value: a setting; a dataclass may have a method `published() -> dict` that says what of it may be read.

    >>> published({"data_dir": "/home/me/rows", "url": "http://localhost:8000/v1", "seed": 1, "model": "org/name"})
    {'data_dir': 'rows', 'url': "a server of the author's own", 'seed': 1, 'model': 'org/name'}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        own = getattr(type(value), "published", None)
        return canonical(own(value)) if callable(own) else redact_fields(value)
    if isinstance(value, str):
        return redact_url(redact_path(value))
    if isinstance(value, PurePath):
        return value.name
    if isinstance(value, Mapping) and not isinstance(value, Choices):
        if all(isinstance(key, str) for key in value):
            return {published(key): published(value[key]) for key in value}
        return {"items": [[published(key), published(part)] for key, part in value.items()]}
    if isinstance(value, (list, tuple)):
        return [published(part) for part in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(published, value), key=repr)
    if isinstance(value, MethodType):
        return {"method": published(value.__func__), "self": published(value.__self__)}
    if isinstance(value, re.Pattern):
        return {"pattern": published(value.pattern), "flags": value.flags}
    if isinstance(value, (np.ndarray, np.generic)):
        return {"array": str(value.dtype), "values": published(value.tolist())}
    if isinstance(value, functools.partial):
        return {"partial": [published(part) for part in (value.func, value.args, value.keywords)]}
    return _without_kinds(canonical(value))


def redact_fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, each as `published` gives it; of our own those that a cache key holds."""
    return {name: published(part) for name, part in key_fields(value).items()}


def redact_path(text: str) -> str:
    """The last name of a path; any other text, such as a Hub id, as it is.

    >>> redact_path("/home/me/models/tiny"), redact_path("org/tiny")
    ('tiny', 'org/tiny')
    """
    return re.split(r"[/\\]", text.rstrip("/\\"))[-1] if PATH.match(text) and "\n" not in text else text


def redact_url(text: str) -> str:
    """A URL, unless it is that of a private server; any other text as it is.

    >>> redact_url("http://10.0.0.7:8000/v1")
    "a server of the author's own"
    """
    return "a server of the author's own" if PRIVATE_SERVER.match(text) else text


def _without_kinds(value: Any) -> Any:
    """A canonical value without the names of classes."""
    if isinstance(value, dict):
        return {name: _without_kinds(part) for name, part in value.items() if name != ""}
    return [_without_kinds(part) for part in value] if isinstance(value, list) else value
