"""Keys and addresses of an API: where they are read, and how they are kept out of everything that is written.

Keys are read when a stage begins to ask, from environment variables or files, and live in the engine alone. What came
from outside (a server's error, a reply) passes `Secrets.redact` before it goes anywhere: a key that a server echoes is
replaced. What is not covered: a server that sends a key back in a form of its own (reversed, encrypted, cut in pieces).
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

OPENAI = "https://api.openai.com/v1"
# Forms that keys of well-known services have, also where they are shortened with dots or stars.
LOOKS_LIKE_A_KEY = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|nvapi|fw|csk|r8|tgp|pplx)[-_][\w*.…-]{6,}|\bAIza[\w-]{6,}|"
    r"(?<=[Bb]earer )[\w.~+/=*-]{6,}"
)
SHORTEST = 6  # characters; "EMPTY" and "none", which servers without keys are given, hide nothing
SHORTEST_IN_REPLY = 16  # a word that a model may well say is not taken for a key


class Address:
    """A server's URL in two parts: what may be written down, and the credentials that stood in it.

    >>> resolve_address(EngineSpec("openai_api", "m", base_url="http://localhost:8000/v1/")).url
    'http://localhost:8000/v1'
    """

    def __init__(self, text: str) -> None:
        try:
            parts = urlsplit(text.strip())
            netloc = parts.netloc.rpartition("@")[2]
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            usable = False
        if not usable:
            raise InputError("the server's URL is not one of http or https (it is not shown: it may hold credentials)")
        self.url = urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        self.query = dict(pairs)
        self.login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if "@" in parts.netloc else ""
        # As they are meant, and as they are spelled in the URL.
        written = [parts.password or "", parts.username or "", parts.netloc.rpartition("@")[0]]
        meant = [*map(unquote, written), self.login, self.basic_auth[6:], *(value for _, value in pairs)]
        self.secrets = [part for part in (*written, *meant) if part]

    def __repr__(self) -> str:
        return f"Address({self.url!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an address may hold credentials and is not pickled")

    @property
    def basic_auth(self) -> str:
        """The value of an Authorization header for credentials in the URL; empty where there are none."""
        return "Basic " + base64.b64encode(self.login.encode()).decode() if self.login else ""


def resolve_address(spec: EngineSpec) -> Address:
    """The server of a spec, looked up in the environment where the spec names a variable.

    Raises:
        InputError: the variable is not set, or what it holds is no URL.
    """
    if spec.base_url is None:
        return Address(os.environ.get("OPENAI_BASE_URL", "").strip() or OPENAI)
    if not spec.base_url.startswith("$"):
        return Address(spec.base_url)
    if not (text := os.environ.get(spec.base_url[1:], "").strip()):
        raise InputError(f"base_url={spec.base_url!r}: the environment variable {spec.base_url[1:]} is not set")
    return Address(text)


def read_api_keys(spec: EngineSpec) -> list[str]:
    """All keys of a spec, each once, in order; none for a server of the user's own that wants none.

    A variable or a file may hold several, apart by white space or commas; in a file, `#` begins a comment.

    Raises:
        NoKeyLeft: no place that the spec names holds a key, or OpenAI's own server is meant and `OPENAI_API_KEY` unset.
    """
    places = spec.keys or (() if spec.base_url else ("OPENAI_API_KEY",))
    keys: list[str] = []
    for place in places:
        found = [word for word in re.split(r"[\s,]+", _text_in(place)) if word]
        if any(not word.isascii() or not word.isprintable() for word in found):
            raise NoUsableApiKey(f"{place} holds characters that no API key has; they are not shown")
        keys += found
    if not keys and (spec.keys or (places and "OPENAI_BASE_URL" not in os.environ)):
        # Many capitals without "_" may be a key that was written in the place of a name.
        shown = [place if "_" in place or len(place) < 16 else "a variable of `keys`" for place in places]
        raise NoUsableApiKey(f"no API key: not set or empty: {', '.join(shown)}")
    return list(dict.fromkeys(keys))


def _text_in(place: str) -> str:
    if not place.startswith("file:"):
        return os.environ.get(place, "")
    try:
        lines = Path(place[5:]).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError, RuntimeError) as error:  # a null byte in the path, an unknown home
        reason = error.strerror if isinstance(error, OSError) else "no text or no path"
        # Somebody may have written a key in the place of a path.
        shown = place if os.sep in place else "the file that `keys` names"
        raise NoUsableApiKey(f"no API key: {shown} cannot be read: {reason}") from None
    return "\n".join(line.partition("#")[0] for line in lines)


class Secrets:
    """Everything that must not be written down, and how text is cleaned of it.

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
        raise TypeError("secrets are not pickled")

    def add(self, values: list[str]) -> None:
        forms = [form for value in values for form in _forms(value)]
        # The longest first, so that none leaves a rest of another.
        self.values = sorted({*self.values, *(f for f in forms if len(f) >= SHORTEST)}, key=len, reverse=True)
        self.pattern = _any_of(self.values)
        self.known_in_reply = _any_of([value for value in self.values if len(value) >= SHORTEST_IN_REPLY])

    def redact(self, text: str) -> str:
        """An error text without keys, known ones and what looks like one."""
        return LOOKS_LIKE_A_KEY.sub("[key]", self.pattern.sub("[key]", text))

    def redact_reply(self, text: str) -> str:
        """A reply without known keys; the rest of it is left as the model wrote it."""
        return self.known_in_reply.sub("[key]", text)


def _any_of(values: list[str]) -> re.Pattern[str]:
    """Any of some texts, in any casing; never the empty one."""
    return re.compile("|".join(map(re.escape, values)) or r"(?!)", re.I)


def _forms(value: str) -> list[str]:
    """How a server may write a key: as it is, in a URL, in base64, in JSON, in a repr."""
    raw = value.encode()
    based = [base64.b64encode(raw), base64.urlsafe_b64encode(raw)]
    in_json = json.dumps(value)[1:-1]
    written = [value, quote(value, safe=""), quote(value), in_json, in_json.replace("/", "\\/"), repr(value)[1:-1]]
    return [*written, *(form.decode().rstrip("=") for form in based)]
