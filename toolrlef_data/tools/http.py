"""An HTTP client for tool servers: addresses, headers and secrets, bounded responses, retries.

An address is a URL without credentials, or "$NAME", where the environment variable NAME contains a URL. Such variables
are read when a request is sent, and their secrets never appear in an error. Server responses are untrusted: redirects
are not followed, compressed bodies are refused, and body sizes are limited while reading. A request can be retried
after a connection error or the status 429 or 5xx; see `Failure`.

The texts of failures are shown to models (see `functions.execution`), so they must not change.

The proxies of the environment are used, except for this machine and the hosts in NO_PROXY.

Not covered: SOCKS proxies, client certificates, cookies, a limit on the time of a DNS lookup.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from toolrlef_data.engines.credentials import Address, find_proxy, read_headers, read_variable
from toolrlef_data.engines.openai_api.rate_headers import lower_names, requested_pause
from toolrlef_data.engines.settings import header_pairs, is_variable, split_url
from toolrlef_data.records import InputError, ToolError
from toolrlef_data.tables.redaction import Secrets

if TYPE_CHECKING:
    import aiohttp

__all__ = [
    "Failure",
    "Server",
    "check_headers",
    "check_url",
    "fetch",
    "is_variable",
    "open_session",
    "retry",
    "run_coroutine",
    "server_at",
]

T = TypeVar("T")

BACKOFF = 0.25  # seconds before the first retry; doubles at most eight times
RETRYABLE_STATUSES = frozenset({429, *range(500, 600)})


class Failure(ToolError):
    """A failed request.

    Args:
        kind: "http" (an unusable response), "unavailable" (no connection, or a broken one) or "timeout".
        detail: message without any part of the URL.
        status: HTTP status of the response; 0 without a response.
        body: start of the response body, if the caller requested it.
        is_retryable: whether the same request may succeed later.
        retry_after: seconds to wait before a retry, as requested by the server; 0 by default.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        status: int = 0,
        body: bytes = b"",
        is_retryable: bool = False,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(kind, detail)
        self.status = status
        self.body = body
        self.is_retryable = is_retryable
        self.retry_after = retry_after


class Server(NamedTuple):
    """A server: the URL to request, the secrets that must not appear in outputs, and the proxy, or None."""

    url: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    secrets: Secrets
    proxy: Address | None


def check_url(url: str, what: str) -> None:
    """Raise InputError if a URL is invalid or contains secrets.

    The message does not repeat the URL. Environment variables are not read.

    >>> check_url("http://localhost:8893/api", "the URL"), check_url("$SEARCH_URL", "the URL")
    (None, None)
    """
    if not isinstance(url, str):
        raise InputError(f"{what}: expected a URL, found {type(url).__name__}")
    if is_variable(url):
        return
    if url[:1] == "$":
        raise InputError(f'{what}: expected a URL or "$NAME", where NAME is an environment variable in capitals')
    try:
        split_url(url)
    except InputError as error:
        raise InputError(f"{what} {error}") from None
    Address(url)


def check_retry_settings(timeout: float, retries: int) -> None:
    """Raise InputError if the timeout or the number of retries is out of range."""
    if not isinstance(retries, int) or retries < 0:
        raise InputError(f"retries must be a whole number of at least 0, found {retries!r}")
    if isinstance(timeout, bool) or not (isinstance(timeout, (int, float)) and 0 < timeout < float("inf")):
        raise InputError(f"timeout must be a number of seconds above 0, found {timeout!r}")


def check_headers(headers: Any, what: str) -> tuple[tuple[str, str], ...]:
    """Return headers as sorted (name, "$NAME") pairs, where the environment variable NAME contains the value.

    Raises:
        InputError: a header is malformed, reserved or duplicate, or has a literal value instead of a variable. The
            message does not repeat the value.

    >>> check_headers({"X-Api-Key": "$WEATHER_KEY"}, "the weather")
    (('X-Api-Key', '$WEATHER_KEY'),)
    """
    try:
        pairs = header_pairs(headers)
    except InputError as error:
        raise InputError(f"{what}: headers {error}") from None
    if not all(is_variable(value) for _, value in pairs):
        raise InputError(
            f'{what}: expected headers as name -> "$NAME", where the environment variable NAME, in capitals, contains '
            "the value"
        )
    return tuple(pairs)


def server_at(url: str, what: str, headers: Mapping[str, str] | None = None) -> Server:
    """Return the server at an address, with the current values of environment variables.

    Args:
        url: an address that `check_url` accepts.
        what: the server's name in messages.
        headers: name -> "$NAME", where the environment variable NAME contains the value.

    Raises:
        InputError: a variable is not set, or its value is not a valid URL, host name or header value.
    """
    text = read_variable(url, what) if is_variable(url) else url
    try:
        text.encode()
        (urlsplit(text.strip()).hostname or "").encode("idna")
    except ValueError:  # its message may contain a password
        raise InputError(f"{what}: expected a URL in UTF-8 with a valid host name") from None
    address = Address(text)
    slash = "/" if urlsplit(text.strip()).path.endswith("/") else ""  # servers distinguish /search and /search/
    values = read_headers(headers or {}, what)
    proxy = find_proxy(address.url)
    secrets = Secrets([*address.secrets, *values.values(), *(proxy.secrets if proxy else ())])
    authorization = {"Authorization": address.basic_auth} if address.basic_auth else {}
    return Server(address.url + slash, address.query, authorization | values, secrets, proxy)


# Requests -------------------------------------------------------------------------------------------------------------


def run_coroutine(make_coroutine: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to completion, also from a thread with a running event loop, such as a notebook's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(make_coroutine())
    with ThreadPoolExecutor(1, thread_name_prefix="tool") as pool:
        return pool.submit(lambda: asyncio.run(make_coroutine())).result()


def open_session(server: Server, connections: int) -> aiohttp.ClientSession:
    """Return a client session for one server, without a timeout and with at most `connections` connections."""
    import aiohttp

    return aiohttp.ClientSession(
        headers={"Accept": "application/json, */*;q=0.5", "Accept-Encoding": "identity", **server.headers},
        proxy=server.proxy.with_login if server.proxy else None,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None),  # callers limit the total time
        connector=aiohttp.TCPConnector(limit=connections),
    )


async def fetch(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    max_bytes: int,
    accepted: Collection[int] = (200,),
    max_error_bytes: int = 0,
    **options: Any,
) -> bytes:
    """Send one request and return the response body.

    Args:
        session: the client session.
        method: HTTP method.
        url: URL without credentials.
        max_bytes: maximum size of the body.
        accepted: accepted statuses; any other status is a failure.
        max_error_bytes: maximum number of bytes to read from the body of a failure.
        options: further arguments of aiohttp's `request`, such as `params`.

    Raises:
        Failure: no response, or an unusable one.
        InputError: the host name is invalid, or the server's certificate is not trusted.
    """
    import aiohttp

    from toolrlef_data.engines.openai_api.client import describe_untrusted  # at use, because it imports aiohttp

    try:
        async with session.request(method, url, allow_redirects=False, **options) as response:
            # `response.close()` closes the connection, so that the rest of a body is not read.
            status = response.status
            is_plain = response.headers.get("Content-Encoding", "identity").lower() == "identity"
            if status not in accepted:
                body = await _read_body(response, max_error_bytes) if max_error_bytes and is_plain else b""
                response.close()
                raise Failure(
                    "http",
                    f"status {status}" + ("; redirects are not followed" if status // 100 == 3 else ""),
                    status=status,
                    body=body[:max_error_bytes],
                    is_retryable=status in RETRYABLE_STATUSES,
                    retry_after=requested_pause(lower_names(response.headers), "", time.time()) or 0.0,
                )
            if not is_plain:
                response.close()
                raise Failure("http", "the answer is compressed, which was not asked for")
            if len(body := await _read_body(response, max_bytes)) > max_bytes:
                response.close()
                raise Failure("http", f"the answer has more than {max_bytes} bytes")
            return body
    except (aiohttp.InvalidURL, UnicodeError):
        raise InputError("the URL has no host name, or an invalid one") from None
    except aiohttp.ClientConnectorCertificateError as error:
        raise InputError(describe_untrusted(error.certificate_error)) from None
    except (aiohttp.ClientError, OSError) as error:  # its message may contain the URL
        number = getattr(error, "errno", None) or 0
        reason = f": {os.strerror(number)}" if number > 0 else ""
        raise Failure("unavailable", f"{type(error).__name__}{reason}", is_retryable=True) from None


async def _read_body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """Return the complete body, or slightly more than its first `max_bytes` bytes."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            break
    return bytes(body)


async def retry(attempt: Callable[[], Awaitable[T]], retries: int, max_wait: float) -> T:
    """Return the result of the first successful attempt; wait with backoff after retryable failures.

    Args:
        attempt: sends the request once.
        retries: maximum number of retries.
        max_wait: seconds. If the server requests a wait of at least this, the failure is raised.
    """
    attempts = 0
    while True:
        try:
            return await attempt()
        except Failure as failure:
            if not failure.is_retryable or attempts == retries or failure.retry_after >= max_wait:
                raise
            await asyncio.sleep(max(failure.retry_after, BACKOFF * 2 ** min(attempts, 8)))
            attempts += 1
