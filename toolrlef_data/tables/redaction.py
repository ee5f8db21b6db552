"""Redaction of secrets in texts, and of settings before they are published.

Text from a server (errors, replies) passes through `Secrets.redact` or `Secrets.redact_reply`, which replace a secret
that the server echoes. A text that is shortened passes through `Secrets.excerpt`, which redacts it first: the beginning
of a secret would not be recognised.

A settings class may define a method `published() -> dict` that returns its publishable settings, for instance prompts
as digests. In all other values a path is reduced to its last component, and the URL of a private server is replaced.

Not covered: servers that return a secret in an unusual form (reversed, encrypted or split).
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import html
import json
import re
from collections.abc import Mapping
from pathlib import PurePath
from types import MethodType
from typing import Any, NoReturn
from urllib.parse import quote

import numpy as np

from toolrlef_data.choices import Choices
from toolrlef_data.tables.fingerprint import canonical, key_fields

__all__ = ["Secrets", "redact", "redact_fields", "redact_hosts", "redact_path", "redact_url"]

# API keys of well-known services, including keys shortened with dots or asterisks.
API_KEY_PATTERN = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|nvapi|fw|csk|r8|tgp|pplx)[-_][\w*.…-]{6,}|\bAIza[\w-]{6,}|"
    r"(?<=[Bb]earer )[\w.~+/=*-]{6,}"
)
MIN_SECRET_LENGTH = 6  # characters; placeholders such as "EMPTY" and "none" are not redacted
MIN_BEGINNING = 6  # characters of a secret that its sender has cut
MIN_SECRET_LENGTH_IN_REPLY = 16  # characters; shorter secrets could be ordinary words of a reply
PRIVATE_NETWORK = (
    r"(?:127\.|10\.|192\.168\.|169\.254\.|0\.0\.0\.|172\.(?:1[6-9]|2\d|3[01])\."
    r"|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.)"
)
PRIVATE_NAME = r"[\w.-]+\.(?:internal|local|lan|corp|intranet)"
PRIVATE_URL = rf"https?://(?:[^/@\s]*@)?(?:localhost|{PRIVATE_NETWORK}|\[|(?:{PRIVATE_NAME}|[\w-]+)(?:[:/?#]|END))"
# URLs of private servers.
PRIVATE_SERVER = re.compile(PRIVATE_URL.replace("END", "$"), re.IGNORECASE)
# The same inside a text, and addresses and names of private hosts, each with its port.
PRIVATE_HOST = re.compile(
    PRIVATE_URL.replace("END", r"(?![\w.-])|(?=\.(?!\w))")
    + r"[^\s\"'<>()]*"
    + rf"|(?<![\w.-])(?:(?=\d+(?:\.\d+){{3}}\b){PRIVATE_NETWORK}[\d.]*\d|{PRIVATE_NAME}(?![\w-]))(?::\d+)?",
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
    {'data_dir': 'rows', 'url': 'a private server', 'seed': 1, 'model': 'org/name'}
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
    'a private server'
    """
    return "a private server" if PRIVATE_SERVER.match(text) else text


def redact_hosts(text: str) -> str:
    """Return an error text with the addresses of private hosts replaced by "[server]".

    >>> redact_hosts("cannot reach gpu7.corp:8000 (10.0.0.7), see https://example.com")
    'cannot reach [server] ([server]), see https://example.com'
    """
    return PRIVATE_HOST.sub("[server]", text)


def _without_class_names(value: Any) -> Any:
    """Return a canonical value without class names, which `canonical` stores under the key ""."""
    if isinstance(value, dict):
        return {name: _without_class_names(part) for name, part in value.items() if name != ""}
    return [_without_class_names(part) for part in value] if isinstance(value, list) else value


class Secrets:
    """API keys and credentials, and their redaction from text.

    Args:
        values: the secrets.

    >>> secrets = Secrets(["tok-0123456789abcdef"])
    >>> secrets.redact("wrong key tok-0123456789abcdef given")
    'wrong key [key] given'
    """

    def __init__(self, values: list[str]) -> None:
        self.values: list[str] = []
        self.add(values)

    def __repr__(self) -> str:
        return f"Secrets({len(self.values)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Secrets must not be pickled")

    def add(self, values: list[str]) -> None:
        """Add secrets to be redacted, in all their spellings; a server may echo "Bearer KEY" as KEY."""
        parts = {part for value in values for part in (value, *value.split())}
        spellings = [spelling for part in parts for spelling in _spellings(part)]
        # Longest first: a secret that contains another one is replaced completely.
        self.values = sorted(
            {*self.values, *(s for s in spellings if len(s) >= MIN_SECRET_LENGTH)}, key=len, reverse=True
        )
        self.pattern = _any_of(self.values)
        self.values_in_reply = [value for value in self.values if len(value) >= MIN_SECRET_LENGTH_IN_REPLY]
        self.reply_pattern = _any_of(self.values_in_reply)

    def redact(self, text: str) -> str:
        """Return an error text with each known secret, and any text that resembles an API key, replaced by "[key]".

        So is the beginning of a secret, which its sender may have cut, unless a letter or digit follows.

        >>> Secrets(["tok-0123456789abcdef"]).redact("wrong key tok-012345 (invalid_request_error)")
        'wrong key [key] (invalid_request_error)'
        """
        return API_KEY_PATTERN.sub("[key]", self.redact_known(text))

    def redact_known(self, text: str) -> str:
        """Return a text with each known secret, and each beginning of one, replaced by "[key]", as in `redact`."""
        return _without_beginnings(self.pattern.sub("[key]", text), self.values)

    def excerpt(self, text: str, length: int) -> str:
        """Return the first `length` characters of an error text after its redaction.

        >>> Secrets(["tok-0123456789abcdef"]).excerpt("key tok-0123456789abcdef", 12)
        'key [key]'
        """
        return self.redact(text)[:length]

    def redact_truncated(self, text: str) -> str:
        """Return a text that its sender may have cut, without secrets and without the beginning of one at its end.

        >>> Secrets(["tok-0123"]).redact_truncated("who is tok-0123, and who is TOK-01")
        'who is [key], and who is '
        """
        values = [value.lower() for value in self.values]
        # Ignore positions inside a complete secret: in a match of the secret "abab", the last "ab" is not a beginning.
        inside = {n for match in self.pattern.finditer(text) for n in range(match.start() + 1, match.end())}
        for start in range(max(0, len(text) - max(map(len, values), default=0)), len(text)):
            if start not in inside and any(value.startswith(text[start:].lower()) for value in values):
                text = text[:start]
                break
        return self.pattern.sub("[key]", text)

    def redact_reply(self, text: str) -> str:
        """Return a reply with known secrets replaced by "[key]", from `MIN_SECRET_LENGTH_IN_REPLY` characters.

        So is the beginning of one at the end, which the token limit may have cut.
        """
        redacted = self.reply_pattern.sub("[key]", text)
        start = len(redacted) - max(map(len, self.values_in_reply), default=0)
        return _without_beginnings(redacted, self.values_in_reply, max(0, start), only_at_end=True)


def _without_beginnings(text: str, values: list[str], start: int = 0, only_at_end: bool = False) -> str:
    """Return a text in which beginnings of values, of at least `MIN_BEGINNING` characters, are replaced by "[key]".

    Args:
        text: the text.
        values: the values, of at least `MIN_BEGINNING` characters.
        start: position of the first character that is searched.
        only_at_end: whether only a beginning at the end of the text is replaced; otherwise also one that no letter or
            digit follows.
    """
    pattern, parts, copied = _any_of(sorted({value[:MIN_BEGINNING] for value in values})), [], 0
    while match := pattern.search(text, start):
        start = match.start() + 1
        end = match.start() + max(_common_length(text, match.start(), value) for value in values)
        if end == len(text) or not (only_at_end or text[end].isalnum()):
            parts += [text[copied : match.start()], "[key]"]
            start = copied = end
    return "".join([*parts, text[copied:]])


def _common_length(text: str, start: int, value: str) -> int:
    """Return the number of characters of a value that stand in a text at a position, in any case."""
    pairs = zip(text[start : start + len(value)], value, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a.lower() != b.lower()), min(len(text) - start, len(value)))


def _any_of(values: list[str]) -> re.Pattern[str]:
    """Return a case-insensitive pattern that matches any of the values; without values, it matches nothing."""
    return re.compile("|".join(map(re.escape, values)) or r"(?!)", re.I)


def _spellings(value: str) -> list[str]:
    """Return the spellings of a secret: unchanged, URL-quoted, in JSON, in HTML, as a Python literal and in base64."""
    raw = value.encode()
    in_json = json.dumps(value)[1:-1]
    # Go and .NET write punctuation as \\uXXXX, so that JSON can stand in HTML.
    for_go, for_dotnet = ({ord(mark): f"\\u{ord(mark):04x}" for mark in marks} for marks in ("<>&", "<>&+'`\""))
    escaped = [in_json.translate(for_go), value.replace("\\", "\\\\").translate(for_dotnet)]
    as_text = [value, quote(value, safe=""), quote(value), in_json, in_json.replace("/", "\\/"), repr(value)[1:-1]]
    encoders = (base64.b64encode, base64.urlsafe_b64encode)
    in_base64 = [encode(raw).decode().rstrip("=") for encode in encoders]
    # In the base64 of a longer text, such as "user:KEY", a secret begins at one of three positions.
    for offset in range(3):
        start, stop = (8 * offset + 5) // 6, 8 * (offset + len(raw)) // 6
        in_base64 += [encode(bytes(offset) + raw).decode()[start:stop] for encode in encoders]
    return [*as_text, *escaped, html.escape(value), *in_base64]
