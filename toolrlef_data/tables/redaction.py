"""Redaction of settings before they are published.

A settings class may define a method `published() -> dict` that returns its publishable settings, for instance prompts
as digests. In all other values a path is reduced to its last component, and the URL of a private server is replaced.
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

__all__ = ["redact", "redact_fields", "redact_path", "redact_url"]

# URLs of private servers.
PRIVATE_SERVER = re.compile(
    r"https?://(?:[^/@]*@)?(?:localhost|127\.|10\.|192\.168\.|169\.254\.|0\.0\.0\.0|172\.(?:1[6-9]|2\d|3[01])\."
    r"|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|\[|(?:[\w.-]+\.(?:internal|local|lan|corp|intranet)|[\w-]+)(?:[:/?#]|$))",
    re.IGNORECASE,
)
# Paths; a Hub id and a LaTeX command do not match.
PATH = re.compile(
    r"(?:/+|(?:~[\w.-]*|\.{1,2}|\$\w+|%\w+%|[a-z]:)[/\\]|\\\\|\\(?=[\w. -]+\\)|(?:file|smb):/*)[\w.~$-]", re.IGNORECASE
)


def redact(value: Any) -> Any:
    """Return a setting as JSON values, without local paths and URLs of private servers.

    Args:
        value: a setting; a dataclass may define `published() -> dict`, which is then called instead.

    >>> redact({"data_dir": "/home/me/rows", "url": "http://localhost:8000/v1", "seed": 1, "model": "org/name"})
    {'data_dir': 'rows', 'url': "a server of the author's own", 'seed': 1, 'model': 'org/name'}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        method = getattr(type(value), "published", None)
        return canonical(method(value)) if callable(method) else redact_fields(value)
    if isinstance(value, str):
        return redact_url(redact_path(value))
    if isinstance(value, PurePath):
        return value.name
    if isinstance(value, Mapping) and not isinstance(value, Choices):
        if all(isinstance(key, str) for key in value):
            return {redact(key): redact(value[key]) for key in value}
        return {"items": [[redact(key), redact(part)] for key, part in value.items()]}
    if isinstance(value, (list, tuple)):
        return [redact(part) for part in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(redact, value), key=repr)
    if isinstance(value, MethodType):
        return {"method": redact(value.__func__), "self": redact(value.__self__)}
    if isinstance(value, re.Pattern):
        return {"pattern": redact(value.pattern), "flags": value.flags}
    if isinstance(value, (np.ndarray, np.generic)):
        return {"array": str(value.dtype), "values": redact(value.tolist())}
    if isinstance(value, functools.partial):
        return {"partial": [redact(part) for part in (value.func, value.args, value.keywords)]}
    return _without_class_names(canonical(value))


def redact_fields(value: Any) -> dict[str, Any]:
    """Return the redacted fields of a dataclass; of classes of this package, only those in the cache key."""
    return {name: redact(part) for name, part in key_fields(value).items()}


def redact_path(text: str) -> str:
    """Return the last component of a path, or any other text, such as a Hub id, unchanged.

    >>> redact_path("/home/me/models/tiny"), redact_path("org/tiny")
    ('tiny', 'org/tiny')
    """
    return re.split(r"[/\\]", text.rstrip("/\\"))[-1] if PATH.match(text) and "\n" not in text else text


def redact_url(text: str) -> str:
    """Return a placeholder for the URL of a private server, or any other text unchanged.

    >>> redact_url("http://10.0.0.7:8000/v1")
    "a server of the author's own"
    """
    return "a server of the author's own" if PRIVATE_SERVER.match(text) else text


def _without_class_names(value: Any) -> Any:
    """Return a canonical value without class names, which `canonical` stores under the key ""."""
    if isinstance(value, dict):
        return {name: _without_class_names(part) for name, part in value.items() if name != ""}
    return [_without_class_names(part) for part in value] if isinstance(value, list) else value
