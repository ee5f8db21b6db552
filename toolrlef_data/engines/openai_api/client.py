"""The HTTP connection of the engine `openai_api`: aiohttp for completions, the `openai` package for batches and files.

Completions bypass the `openai` package, for four reasons:

- Its retries support neither several API keys nor spending caps.
- Its typed objects are not needed.
- By default it follows redirects, which could send API keys to other hosts.
- Its import is slow (seconds).

A completion costs 0.28 ms of CPU time over aiohttp, and 0.52 ms through the package's aiohttp transport (8 paired runs
of 6,000 requests).

Authorities of certificates are those of certifi, or of SSL_CERT_FILE and SSL_CERT_DIR.

Not covered: client certificates, SOCKS proxies, cookies.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import time
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import httpx2
import yarl

from toolrlef_data.engines.credentials import Address, custom_headers
from toolrlef_data.engines.openai_api.errors import Failure
from toolrlef_data.engines.openai_api.rate_headers import lower_names
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import InputError

if sys.version_info >= (3, 11):
    from asyncio import timeout as time_limit
else:  # a dependency of aiohttp for this Python
    from async_timeout import timeout as time_limit

if TYPE_CHECKING:
    import openai

__all__ = ["Connection", "HTTPResponse", "TooLarge", "connection_failure", "describe_untrusted", "read_limited"]

HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
    "Content-Type": "application/json",
    "User-Agent": "toolrlef_data",
}
# Header -> environment variable: the organization and project to bill. The openai package reads the same variables.
BILLING_VARIABLES = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}
MAX_OBJECT_BYTES = 8_000_000  # of a JSON object of the batch endpoints; the largest is a list of 100 batches
MIN_BYTES_PER_SECOND = 10_000  # of a file that is uploaded or downloaded, after the first `timeout` seconds


class HTTPResponse(NamedTuple):
    """Status, headers (names in lower case) and body of an HTTP response."""

    status: int
    headers: Mapping[str, str]
    text: str


class Connection:
    """The connections to one server; each request carries its own API key. Create it inside the event loop.

    Args:
        spec: the engine spec; its `concurrency` is the maximum number of connections.
        address: the server's address.
        headers: the headers of every request.
        proxy: the proxy, or None.

    Raises:
        InputError: the address is not a valid URL.
    """

    def __init__(self, spec: EngineSpec, address: Address, headers: Mapping[str, str], proxy: Address | None) -> None:
        self.spec = spec
        self.address = address
        self.proxy = proxy
        self.headers = {name: os.environ[var] for name, var in BILLING_VARIABLES.items() if os.environ.get(var)}
        self.headers |= headers
        try:
            paths = ("/chat/completions", "/completions")
            self.urls = {path: yarl.URL(address.url + path).update_query(address.query) for path in paths}
        except ValueError:
            raise InputError(f"invalid server URL: {address.url}") from None
        self.session = aiohttp.ClientSession(
            headers=HEADERS | self.headers,
            auto_decompress=False,  # `_decode` limits the size
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # `post` sets the timeout of the complete request
            connector=aiohttp.TCPConnector(
                limit=spec.concurrency,  # never reached: `RequestScheduler` limits the in-flight requests
                keepalive_timeout=5,  # seconds; many servers close idle connections after 5 s too
                ssl=httpx2.create_ssl_context(),  # as for batches; Python's default misses certificates
            ),
        )

    @cached_property
    def client(self) -> openai.AsyncOpenAI:
        """The client of the `openai` package, for batches and files."""
        import openai

        proxy, headers = None, self.headers
        if self.proxy:
            login = {"Proxy-Authorization": self.proxy.basic_auth} if self.proxy.basic_auth else {}
            proxy = httpx2.Proxy(self.proxy.url, headers=login)
            if self.address.url.startswith("http://"):  # no tunnel: the proxy reads the headers of the request
                headers = headers | login
        # The package reads OPENAI_CUSTOM_HEADERS itself, for every server; only `headers` are sent.
        sent: Any = {name: openai.Omit() for name in custom_headers()} | headers | {"Accept-Encoding": "identity"}
        timeout = self.spec.timeout

        class TimedClient(openai.DefaultAioHttpClient):
            """Limits the time of a complete request; the timeouts of httpx start again with each byte."""

            async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
                num_bytes = int(request.headers.get("Content-Length", "0"))
                async with time_limit(timeout + num_bytes / MIN_BYTES_PER_SECOND):
                    return await super().send(request, **options)

        try:
            return openai.AsyncOpenAI(
                api_key="none",
                base_url=self.address.url,
                default_query=self.address.query,
                default_headers=sent,
                max_retries=0,
                http_client=TimedClient(
                    follow_redirects=False,
                    trust_env=False,
                    verify=httpx2.create_ssl_context(),
                    proxy=proxy,
                    event_hooks={"response": [partial(_limit_object, timeout=timeout)]},
                ),
            )
        except (httpx2.InvalidURL, UnicodeError):
            raise InputError(f"invalid server URL: {self.address.url}") from None

    async def close(self) -> None:
        await self.session.close()
        if "client" in vars(self):
            await self.client.close()

    async def post(
        self, path: str, body: bytes, authorization: str, timeout: float, max_bytes: int
    ) -> HTTPResponse | Failure:
        """Send one request and return the HTTP response, or the failure if none was received.

        Args:
            path: "/chat/completions" or "/completions".
            body: the request's JSON as UTF-8.
            authorization: the value of the Authorization header; empty for none.
            timeout: seconds for the complete request, from connecting to the last byte read.
            max_bytes: maximum size of the response body, also after decompression.
        """
        headers = {"Authorization": authorization} if authorization else None
        proxy = self.proxy.with_login if self.proxy else None
        try:
            async with (
                time_limit(timeout),
                self.session.post(
                    self.urls[path], data=body, headers=headers, allow_redirects=False, proxy=proxy
                ) as response,
            ):
                content = bytearray()
                async for chunk in response.content.iter_any():
                    content += chunk
                    if len(content) > max_bytes:
                        response.close()
                        break
                encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
                text = _decode(bytes(content), encoding, max_bytes).decode("utf-8-sig", errors="replace")
        except (asyncio.TimeoutError, TimeoutError):
            return Failure("timeout", "retry", f"no HTTP response within {timeout:.4g} s")
        except TooLarge:
            if 200 <= response.status < 300:
                return Failure("too_long", "final", f"the response body has more than {max_bytes} bytes")
            text = f"the response body has more than {max_bytes} bytes"
        except (aiohttp.ClientError, OSError, UnicodeError, zlib.error) as error:
            return connection_failure(error)
        return HTTPResponse(response.status, lower_names(response.headers), text)


class TooLarge(Exception):
    """A response body above its size limit."""


async def read_limited(body: AsyncIterable[bytes], max_bytes: int, timeout: float) -> AsyncIterator[bytes]:
    """Yield the chunks of a response body.

    Args:
        body: the body.
        max_bytes: maximum size of the body.
        timeout: seconds for a chunk, and for the body above the time that `MIN_BYTES_PER_SECOND` allows for its size.

    Raises:
        TooLarge: the body has more than `max_bytes` bytes.
        TimeoutError: the time is over; in Python 3.10 `asyncio.TimeoutError`.
    """
    chunks, num_bytes, start = aiter(body), 0, time.monotonic()
    while True:
        end = start + timeout + num_bytes / MIN_BYTES_PER_SECOND
        async with time_limit(min(timeout, end - time.monotonic())):
            chunk = await anext(chunks, None)
        if chunk is None:
            return
        if (num_bytes := num_bytes + len(chunk)) > max_bytes:
            raise TooLarge(f"the response body has more than {max_bytes} bytes")
        yield chunk


class _LimitedBody(httpx2.AsyncByteStream):
    """The body of a JSON object, or of an error, with limits (`read_limited`)."""

    def __init__(self, body: Any, timeout: float) -> None:
        self.body = body
        self.timeout = timeout

    def __aiter__(self) -> AsyncIterator[bytes]:
        return read_limited(self.body, MAX_OBJECT_BYTES, self.timeout)

    async def aclose(self) -> None:
        await self.body.aclose()


async def _limit_object(response: httpx2.Response, timeout: float) -> None:
    """Limit the body of a response of the batch endpoints, apart from a file, which its reader limits.

    Raises:
        TooLarge: the body is compressed, which was not asked for: its size is unknown.
    """
    if response.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        raise TooLarge("the response body is compressed, which was not asked for")
    if not (response.is_success and response.request.url.path.endswith("/content")):
        response.stream = _LimitedBody(response.stream, timeout)


def _decode(content: bytes, encoding: str, max_bytes: int) -> bytes:
    """Return a decompressed body.

    Raises:
        TooLarge: the body has more than `max_bytes` bytes.
        zlib.error: the body is damaged or incomplete, or has an encoding that was not asked for.
    """
    if len(content) > max_bytes:
        raise TooLarge
    if encoding in ("identity", ""):
        return content
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise zlib.error("unknown encoding")
    decoder = zlib.decompressobj(wbits=47)  # gzip or zlib
    decoded = decoder.decompress(content, max_bytes + 1)
    if len(decoded) > max_bytes:
        raise TooLarge
    if not decoder.eof:
        raise zlib.error("incomplete")
    return decoded


def describe_untrusted(error: BaseException) -> str:
    """Return a message about the certificate that an error names, with the remedy."""
    reason = getattr(error, "verify_message", "") or type(error).__name__
    return (
        f"the certificate of the server is not trusted: {reason}. If you trust its authority, set SSL_CERT_FILE to a "
        "file with the authority's certificate"
    )


def connection_failure(error: BaseException) -> Failure:
    """Return the failure for an exception of the connection, without its message.

    The message may name the host or quote the server, and may be shortened in the middle of a secret.
    """
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError)):
        detail = describe_untrusted(getattr(error, "certificate_error", error))
        return Failure("connection", "stop", detail, may_be_billed=False)
    cause = getattr(error, "os_error", error)  # of aiohttp.ClientConnectorError
    number = getattr(cause, "errno", None) or 0
    reason = os.strerror(number) if number > 0 else getattr(cause, "strerror", None)  # negative: an unknown host
    detail = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return Failure("connection", "retry", detail, not isinstance(error, aiohttp.ClientConnectorError))
