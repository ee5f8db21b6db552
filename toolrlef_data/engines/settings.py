"""Types of the settings of engines and tool servers, each with its rule; secrets are refused as values of settings.

A secret is passed as the name of the environment variable that contains it, because settings are saved and published.
The messages of the rules omit the value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from toolrlef_data.engines.rules import Rule, integer_from, is_number, must_be
from toolrlef_data.records import InputError

__all__ = [
    "CAP_RULE",
    "DTYPES",
    "STYLES",
    "BaseUrl",
    "Count",
    "Dtype",
    "Headers",
    "KeySources",
    "Mode",
    "Name",
    "Natural",
    "NotNegative",
    "Options",
    "Positive",
    "Price",
    "Rate",
    "Seconds",
    "Share",
    "TopP",
    "check_option_secrets",
    "header_pairs",
    "is_variable",
    "names_secret",
    "split_url",
]

STYLES = ("chat", "completion", "alpaca", "vicuna")  # prompt styles, see `prompts`
ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
RESERVED_HEADERS = frozenset(
    {"accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding"}
)
# Names in `options`, without "_" and "-", and parts of header names, whose values are secrets.
SECRET_NAMES = frozenset({"apikey", "token", "accesstoken", "authorization", "password", "secret"})
SECRET_HEADER = re.compile(r"auth|key|token|secret|passw|credential|cookie|session|signature", re.IGNORECASE)
DTYPES = ("auto", "float32", "bfloat16", "float16")

# Types of settings, each with its rule.
Name = Annotated[str, must_be("a name", lambda value: isinstance(value, str) and value.strip())]
Dtype = Annotated[str, must_be(f"one of {', '.join(DTYPES)}", lambda value: value in DTYPES)]
Count = Annotated[int, integer_from(1)]
Natural = Annotated[int, integer_from(0)]
Positive = Annotated[float, must_be("a number above 0", lambda n: is_number(n) and n > 0)]
NotNegative = Annotated[float, must_be("a number of at least 0", lambda n: is_number(n) and n >= 0)]
Seconds = Annotated[float, must_be("a number of seconds above 0", lambda n: is_number(n, math.inf) and n > 0)]
Share = Annotated[float, must_be("a share from 0 to 1", lambda n: is_number(n) and 0 <= n <= 1)]
TopP = Annotated[float, must_be("a number above 0, up to 1", lambda n: is_number(n) and 0 < n <= 1)]
Rate = Annotated[float | None, must_be("a number above 0", lambda n: n is None or (is_number(n, math.inf) and n > 0))]
CAP_RULE = must_be("a number of at least 0", lambda n: n is None or (is_number(n) and n >= 0))
Mode = Annotated[str, must_be("'direct' or 'batch'", lambda value: value in ("direct", "batch"))]


def _is_price(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(is_number(n) and n >= 0 for n in value)


PRICE_FORM = "two numbers: the price of a million prompt tokens and of a million completion tokens"
Price = Annotated[tuple[float, float] | None, must_be(PRICE_FORM, lambda value: value is None or _is_price(value))]


def _check_key_sources(value: str | tuple[str, ...]) -> tuple[str, ...]:
    sources = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not all(isinstance(s, str) and (ENV_NAME.fullmatch(s) or s.startswith("file:")) for s in sources):
        raise InputError("must be names of environment variables (CAPITALS) or file:PATH, never an API key itself")
    return sources


def is_variable(text: str) -> bool:
    """Return whether a text refers to an environment variable as "$NAME"."""
    return text[:1] == "$" and bool(ENV_NAME.fullmatch(text[1:]))


def names_secret(name: str) -> bool:
    """Return whether a complete name in `options` is that of a secret.

    >>> names_secret("API-Key"), names_secret("max_tokens"), names_secret("stop_token_ids")
    (True, False, False)
    """
    return re.sub("[_-]", "", name).lower() in SECRET_NAMES


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL; they are empty if it is malformed.

    Raises:
        InputError: the URL contains a secret.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # its message can contain the password
        parts = urlsplit("")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(
            "carries credentials or a query, which would be saved with the settings: put the URL into an environment "
            'variable and pass "$NAME"'
        )
    return parts


def _check_base_url(value: str | None) -> str | None:
    if value is None or (isinstance(value, str) and is_variable(value)):
        return value
    parts = split_url(value) if isinstance(value, str) else urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            'must be a URL such as "http://localhost:8000/v1", or "$NAME", where NAME is an environment variable'
        )
    return value


def _normalise_options(value: Any) -> tuple[tuple[str, Any], ...]:
    pairs = tuple(
        value.items() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else [None]
    )
    if not all(isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
        raise InputError(f"must be a mapping or (name, value) pairs, found {type(value).__name__}")
    return tuple(sorted(pairs)) if isinstance(value, Mapping) else pairs


def check_option_secrets(value: Any) -> None:
    """Raise InputError for a secret in the options; the message omits it."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            if names_secret(str(name)) and not (isinstance(part, str) and is_variable(part)):
                raise InputError(
                    f"options must not contain the value of {name}, which would be saved: put it into an environment "
                    f'variable and pass {name}="$NAME"'
                )
    if isinstance(value, (Mapping, list, tuple)):
        for part in value.values() if isinstance(value, Mapping) else value:
            check_option_secrets(part)


def header_pairs(value: Any) -> list[tuple[str, str]]:
    """Return HTTP headers, given as a mapping or pairs, as sorted (name, value) pairs.

    Raises:
        InputError: a header is malformed, reserved or repeated.

    >>> header_pairs({"X-Team": "blue"})
    [('X-Team', 'blue')]
    """
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(pairs, (tuple, list)) or not all(
        isinstance(pair, (tuple, list)) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
        for pair in pairs
    ):
        raise InputError("must map names of headers to values")
    names = [name.lower() for name, _ in pairs]
    is_valid = all(map(HEADER_NAME.fullmatch, names)) and not RESERVED_HEADERS.intersection(names)
    if not is_valid or len(set(names)) < len(names):
        raise InputError(f"must have unique, valid names, none of {', '.join(sorted(RESERVED_HEADERS))}")
    return sorted((name, text) for name, text in pairs)


def _check_headers(value: Any) -> tuple[tuple[str, str], ...]:
    pairs = header_pairs(value)
    if literals := [name for name, text in pairs if SECRET_HEADER.search(name) and not is_variable(text)]:
        raise InputError(
            f"must not contain the value of {literals[0]}: put it into an environment variable and pass "
            f'{literals[0]}="$NAME"'
        )
    return tuple(pairs)


# Types whose rules are functions.
KeySources = Annotated[tuple[str, ...] | str, Rule(_check_key_sources)]
BaseUrl = Annotated[str | None, Rule(_check_base_url)]
Headers = Annotated[Any, Rule(_check_headers)]
Options = Annotated[Any, Rule(_normalise_options)]
