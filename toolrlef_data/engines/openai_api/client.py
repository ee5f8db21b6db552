"""The HTTP connection of the engine `openai_api`: aiohttp for completions, the `openai` package for batches and files.

Completions bypass the `openai` package, for four reasons:

- Its retries support neither several API keys nor spending caps.
- Its typed objects are not needed.
- By default it follows redirects, which could send API keys to other hosts.
- Its import is slow (seconds).

A completion costs 0.28 ms of CPU time over aiohttp, and 0.52 ms through the package's aiohttp transport (8 paired runs
of 6,000 requests).

Not covered: proxies from the environment, custom certificates, cookies.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import httpx2
import yarl

from toolrlef_data.engines.credentials import Address
from toolrlef_data.engines.openai_api.errors import Failure
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import InputError

if sys.version_info >= (3, 11):
    from asyncio import timeout as time_limit
else:  # a dependency of aiohttp for this Python
    from async_timeout import timeout as time_limit

if TYPE_CHECKING:
    import openai

__all__ = ["Connection", "HTTPResponse"]

HEADERS = {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": "toolrlef_data"}
# Header -> environment variable: the organization and project to bill. The openai package reads the same variables.
BILLING_VARIABLES = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}


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

    Raises:
        InputError: the address is not a valid URL.
    """

    def __init__(self, spec: EngineSpec, address: Address) -> None:
        self.spec = spec
        self.address = address
        try:
            paths = ("/chat/completions", "/completions")
            self.urls = {path: yarl.URL(address.url + path).update_query(address.query) for path in paths}
        except ValueError:
            raise InputError(f"invalid server URL: {address.url}") from None
        self.session = aiohttp.ClientSession(
            headers=HEADERS | {name: os.environ[var] for name, var in BILLING_VARIABLES.items() if os.environ.get(var)},
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

        try:
            return openai.AsyncOpenAI(
                api_key="none",
                base_url=self.address.url,
                default_query=self.address.query,
                max_retries=0,
                http_client=openai.DefaultAioHttpClient(follow_redirects=False),
            )
        except (httpx2.InvalidURL, UnicodeError):
            raise InputError(f"invalid server URL: {self.address.url}") from None

    async def close(self) -> None:
        await self.session.close()
        if "client" in vars(self):
            await self.client.close()

    async def post(self, path: str, body: bytes, authorization: str, timeout: float) -> HTTPResponse | Failure:
        """Send one request and return the HTTP response, or the failure if none was received.

        Args:
            path: "/chat/completions" or "/completions".
            body: the request's JSON as UTF-8.
            authorization: the value of the Authorization header; empty for none.
            timeout: seconds for the complete request, from connecting to the last byte read.
        """
        url, headers = self.urls[path], {"Authorization": authorization} if authorization else None
        try:
            async with (
                time_limit(timeout),
                self.session.post(url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                content = await response.read()
        except (asyncio.TimeoutError, TimeoutError):
            return Failure("timeout", "retry", f"no HTTP response within {timeout:.4g} s")
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            detail = " ".join(f"{type(error).__name__}: {error}".split())
            was_connected = not isinstance(error, aiohttp.ClientConnectorError)
            return Failure("connection", "retry", detail, may_be_billed=was_connected)
        response_headers = {name.lower(): value for name, value in response.headers.items()}
        return HTTPResponse(response.status, response_headers, content.decode("utf-8-sig", errors="replace"))
