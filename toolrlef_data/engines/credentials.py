"""API keys, headers, server addresses and proxies: reading them from the environment and from files.

Secrets are read when a stage starts to send requests. Only the engine stores them, in memory. Text from a server passes
through `redaction.Secrets`.

Not covered: SOCKS proxies.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit
from urllib.request import getproxies_environment

from toolrlef_data.engines.settings import is_variable, names_secret
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import InputError, NoUsableApiKey

__all__ = [
    "Address",
    "custom_headers",
    "find_proxy",
    "read_api_keys",
    "read_headers",
    "read_variable",
    "read_variables",
    "resolve_address",
]

OPENAI_URL = "https://api.openai.com/v1"


class Address:
    """A server's URL, split into a public URL and its credentials.

    The attributes are `url` (without credentials and query), `with_login` (without the query), `host`, `query`, `login`
    ("user:password", or "") and `secrets`.

    Args:
        text: the URL.
        what: what it is, for the error message.

    Raises:
        InputError: the text is not a valid http or https URL. The message omits it.

    >>> resolve_address(EngineSpec("openai_api", "m", base_url="http://localhost:8000/v1/")).url
    'http://localhost:8000/v1'
    """

    def __init__(self, text: str, what: str = "the server's URL") -> None:
        try:
            parts = urlsplit(text.strip())
            netloc = parts.netloc.rpartition("@")[2]
            is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_valid = False
        if not is_valid:
            raise InputError(f"{what} is not a valid http or https URL (omitted: it may contain credentials)")
        self.url = urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))
        self.with_login = self.url.replace(netloc, parts.netloc, 1)
        self.host = parts.hostname or ""
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
    return Address(read_variable(spec.base_url, f"base_url={spec.base_url!r}"))


def find_proxy(url: str) -> Address | None:
    """Return the proxy for a URL from HTTP_PROXY, HTTPS_PROXY or ALL_PROXY; None for this machine and for NO_PROXY.

    The names of the variables may be in lower case, which wins.

    Raises:
        InputError: the proxy is not an http or https URL. The message names the variable and omits its value.
    """
    parts, proxies = urlsplit(url), getproxies_environment()
    kind = parts.scheme if proxies.get(parts.scheme) else "all"
    host = (parts.hostname or "").rstrip(".")
    if not (proxy := proxies.get(kind)) or _is_this_machine(host):
        return None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if any(_is_excluded(entry, host, port) for entry in re.split(r"[\s,]+", proxies.get("no", "").lower())):
        return None
    names = [name for name, value in os.environ.items() if name.lower() == f"{kind}_proxy" and value]
    variable = max(names, key=str.islower)
    if proxy.lower().startswith("socks"):
        raise InputError(
            f"{variable} names a SOCKS proxy, which is not supported: set {parts.scheme.upper()}_PROXY to an http "
            "proxy, or add the server's host to NO_PROXY"
        )
    return Address(proxy if "://" in proxy else f"http://{proxy}", f"the proxy in the environment variable {variable}")


def _is_this_machine(host: str) -> bool:
    ip = _ip_address(host)
    return host == "localhost" or host.endswith(".localhost") or (ip is not None and ip.is_loopback)


def _is_excluded(entry: str, host: str, port: int) -> bool:
    """Return whether an entry of NO_PROXY matches a host.

    An entry is "*", an address, a network such as "10.0.0.0/8", or a domain, with its subdomains: "example.com",
    ".example.com" or "*.example.com". A port may follow an address or a domain.
    """
    if "/" in entry:
        ip = _ip_address(host)
        try:
            return ip is not None and ip in ipaddress.ip_network(entry, strict=False)
        except ValueError:  # not a network
            return False
    if _ip_address(entry) is None:
        entry, _, port_digits = entry.rpartition(":") if re.search(r":\d+$", entry) else (entry, "", "")
        if port_digits and int(port_digits) != port:
            return False
    domain = entry.strip("[]").removeprefix("*.").strip(".")
    return entry == "*" or (domain != "" and (host == domain or host.endswith(f".{domain}")))


def _ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address of a text, an IPv4 address inside an IPv6 address as itself; None for a host name."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


def read_variable(variable: str, what: str) -> str:
    """Return the value of the environment variable NAME for "$NAME", without surrounding white space.

    Raises:
        InputError: the variable is not set or empty; `what` names the setting in the message.
    """
    if not (value := os.environ.get(variable[1:], "").strip()):
        raise InputError(f"{what}: the environment variable {variable[1:]} is not set")
    return value


def read_headers(headers: Mapping[str, str], what: str) -> dict[str, str]:
    """Return headers with their values; "$NAME" is read from the environment.

    Raises:
        InputError: a variable is not set, or a value cannot be sent. The message omits the value.
    """
    values = {}
    for name, value in headers.items():
        values[name] = read_variable(value, f"the header {name} of {what}") if is_variable(value) else value
        if not (values[name].isascii() and values[name].isprintable()):
            raise InputError(f"the header {name} of {what}: the value must be printable ASCII")
    return values


def custom_headers() -> dict[str, str]:
    """Return the headers in OPENAI_CUSTOM_HEADERS, one "name: value" a line, as the `openai` package reads them."""
    lines = [line.partition(":") for line in os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()]
    return {name.strip(): value.strip() for name, colon, value in lines if colon and name.strip()}


def read_variables(value: Any, secrets: list[str], name: str = "") -> Any:
    """Return a JSON value in which each "$NAME" under the name of a secret is read from the environment.

    Args:
        value: the value.
        secrets: receives the values of the variables.
        name: the name under which the value stands.
    """
    if isinstance(value, Mapping):
        return {key: read_variables(part, secrets, str(key)) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [read_variables(part, secrets) for part in value]
    if names_secret(name) and isinstance(value, str) and is_variable(value):
        secrets.append(read_variable(value, f"options: {name}"))
        return secrets[-1]
    return value


def read_api_keys(spec: EngineSpec) -> list[str]:
    """Return the distinct API keys of a spec in order; an empty list if the server needs none of them.

    Without `keys`, a server in `base_url` gets no key, and neither does one whose `headers` contain the authorization.

    A variable or a file can contain several API keys, separated by white space or commas. In a file, `#` starts a
    comment.

    Raises:
        NoUsableApiKey: the sources contain no API key, or the server is OpenAI's and `OPENAI_API_KEY` is not set.
    """
    has_own = spec.base_url or any(name.lower() == "authorization" for name, _ in spec.headers)
    sources = spec.keys or (() if has_own else ("OPENAI_API_KEY",))
    keys: list[str] = []
    for source in sources:
        words = [word for word in re.split(r"[\s,]+", _read_source(source)) if word]
        if any(not word.isascii() or not word.isprintable() for word in words):
            raise NoUsableApiKey(f"{source} contains characters that are invalid in an API key (not shown)")
        keys += words
    if not keys and (spec.keys or (sources and not os.environ.get("OPENAI_BASE_URL", "").strip())):
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
