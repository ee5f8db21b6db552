"""API keys and server addresses: reading them, and redacting them from all text that is saved or shown.

API keys are read when a stage starts to send requests, from environment variables or files. Only the engine stores
them, in memory. Text from a server (errors, replies) passes through `Secrets.redact` or `Secrets.redact_reply`, which
replace an API key that the server echoes.

Not covered: servers that return an API key in an unusual form (reversed, encrypted or split).
"""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import NoReturn
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import InputError, NoUsableApiKey

__all__ = ["Address", "Secrets", "read_api_keys", "resolve_address"]

OPENAI_URL = "https://api.openai.com/v1"
# API keys of well-known services, including keys shortened with dots or asterisks.
API_KEY_PATTERN = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|nvapi|fw|csk|r8|tgp|pplx)[-_][\w*.…-]{6,}|\bAIza[\w-]{6,}|"
    r"(?<=[Bb]earer )[\w.~+/=*-]{6,}"
)
MIN_SECRET_LENGTH = 6  # characters; placeholders such as "EMPTY" and "none" are not redacted
MIN_SECRET_LENGTH_IN_REPLY = 16  # characters; shorter secrets could be ordinary words of a reply


class Address:
    """A server's URL, split into a public URL and its credentials.

    The attributes are `url` (without credentials and query), `query`, `login` ("user:password", or "") and `secrets`.

    Args:
        text: the URL.

    Raises:
        InputError: the text is not a valid http or https URL. The message omits it.

    >>> resolve_address(EngineSpec("openai_api", "m", base_url="http://localhost:8000/v1/")).url
    'http://localhost:8000/v1'
    """

    def __init__(self, text: str) -> None:
        try:
            parts = urlsplit(text.strip())
            netloc = parts.netloc.rpartition("@")[2]
            is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            is_valid = False
        if not is_valid:
            raise InputError("the server's URL is not a valid http or https URL (omitted: it may contain credentials)")
        self.url = urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        self.query = dict(pairs)
        self.login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if "@" in parts.netloc else ""
        encoded = [parts.password or "", parts.username or "", parts.netloc.rpartition("@")[0]]
        decoded = [*map(unquote, encoded), self.login, self.basic_auth[6:], *(value for _, value in pairs)]
        self.secrets = [secret for secret in (*encoded, *decoded) if secret]

    def __repr__(self) -> str:
        return f"Address({self.url!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Address can contain credentials and must not be pickled")

    @property
    def basic_auth(self) -> str:
        """The Authorization header for the credentials in the URL; empty without credentials."""
        return "Basic " + base64.b64encode(self.login.encode()).decode() if self.login else ""


def resolve_address(spec: EngineSpec) -> Address:
    """Return the server address of a spec; "$NAME" is read from the environment.

    Raises:
        InputError: the variable is not set, or its value is not a URL.
    """
    if spec.base_url is None:
        return Address(os.environ.get("OPENAI_BASE_URL", "").strip() or OPENAI_URL)
    if not spec.base_url.startswith("$"):
        return Address(spec.base_url)
    if not (text := os.environ.get(spec.base_url[1:], "").strip()):
        raise InputError(f"base_url={spec.base_url!r}: the environment variable {spec.base_url[1:]} is not set")
    return Address(text)


def read_api_keys(spec: EngineSpec) -> list[str]:
    """Return the distinct API keys of a spec in order; an empty list if `base_url` is set and `keys` is not.

    A variable or a file can contain several API keys, separated by white space or commas. In a file, `#` starts a
    comment.

    Raises:
        NoUsableApiKey: the sources contain no API key, or the server is OpenAI's and `OPENAI_API_KEY` is not set.
    """
    sources = spec.keys or (() if spec.base_url else ("OPENAI_API_KEY",))
    keys: list[str] = []
    for source in sources:
        words = [word for word in re.split(r"[\s,]+", _read_source(source)) if word]
        if any(not word.isascii() or not word.isprintable() for word in words):
            raise NoUsableApiKey(f"{source} contains characters that are invalid in an API key (not shown)")
        keys += words
    if not keys and (spec.keys or (sources and "OPENAI_BASE_URL" not in os.environ)):
        # A long name in capitals without "_" could be an API key given by mistake.
        shown = [source if "_" in source or len(source) < 16 else "a variable of `keys`" for source in sources]
        raise NoUsableApiKey(f"no API key: not set or empty: {', '.join(shown)}")
    return list(dict.fromkeys(keys))


def _read_source(source: str) -> str:
    if not source.startswith("file:"):
        return os.environ.get(source, "")
    try:
        lines = Path(source[5:]).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError, RuntimeError) as error:  # a null byte in the path, an unknown home folder
        reason = error.strerror if isinstance(error, OSError) else "not a text file or not a valid path"
        # A "path" without a separator could be an API key given by mistake.
        shown = source if os.sep in source else "the file in `keys`"
        raise NoUsableApiKey(f"no API key: cannot read {shown}: {reason}") from None
    return "\n".join(line.partition("#")[0] for line in lines)


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
        """Add secrets to be redacted, in all their spellings."""
        spellings = [spelling for value in values for spelling in _spellings(value)]
        # Longest first: a secret that contains another one is replaced completely.
        self.values = sorted(
            {*self.values, *(s for s in spellings if len(s) >= MIN_SECRET_LENGTH)}, key=len, reverse=True
        )
        self.pattern = _any_of(self.values)
        self.reply_pattern = _any_of([value for value in self.values if len(value) >= MIN_SECRET_LENGTH_IN_REPLY])

    def redact(self, text: str) -> str:
        """Return an error text with each known secret, and any text that resembles an API key, replaced by "[key]"."""
        return API_KEY_PATTERN.sub("[key]", self.pattern.sub("[key]", text))

    def redact_reply(self, text: str) -> str:
        """Return a reply with known secrets replaced by "[key]", from `MIN_SECRET_LENGTH_IN_REPLY` characters."""
        return self.reply_pattern.sub("[key]", text)


def _any_of(values: list[str]) -> re.Pattern[str]:
    """Return a case-insensitive pattern that matches any of the values; without values, it matches nothing."""
    return re.compile("|".join(map(re.escape, values)) or r"(?!)", re.I)


def _spellings(value: str) -> list[str]:
    """Return the spellings of a secret: unchanged, URL-quoted, in JSON, as a Python literal and in base64."""
    raw = value.encode()
    in_base64 = [base64.b64encode(raw), base64.urlsafe_b64encode(raw)]
    in_json = json.dumps(value)[1:-1]
    as_text = [value, quote(value, safe=""), quote(value), in_json, in_json.replace("/", "\\/"), repr(value)[1:-1]]
    return [*as_text, *(spelling.decode().rstrip("=") for spelling in in_base64)]
