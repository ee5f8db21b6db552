"""The connection of the engine `openai_api`: the `openai` package's client and its aiohttp transport.

Batches and files go through the package's own methods. Completions, of which there are millions, go straight to its
transport, with its headers: its retries know nothing of keys and caps, nobody needs typed objects of every answer,
redirects would carry keys elsewhere, and cookies and hooks nobody set. A row of the stage `answer` took 1.05 to 1.12 ms
of the processor so, and 1.72 to 1.82 ms through its `post` (4,000 rows, two runs each, one after the other).

Not covered: proxies of the environment, which that transport does not use.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp
import httpx2
import openai

from toolrlef_data.engines import EngineSpec
from toolrlef_data.engines.faults import Fault
from toolrlef_data.engines.keys import Address
from toolrlef_data.records import InputError

if sys.version_info >= (3, 11):
    from asyncio import timeout as time_limit
else:  # comes with aiohttp there
    from async_timeout import timeout as time_limit

__all__ = ["Answer", "Connection"]


class Answer(NamedTuple):
    """What a server sent back: status, headers with lower-case names, text."""

    status: int
    headers: Mapping[str, str]
    text: str


class DirectClient(openai.DefaultAioHttpClient):
    """Can hand a request straight to the transport."""

    async def send_directly(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._transport.handle_async_request(request)
        response.request = request
        await response.aread()
        return response


class Connection:
    """One server; the keys come with each request. Made inside the event loop.

    Args:
        spec: whose `concurrency` is the number of connections.
        address: of the server.
    """

    def __init__(self, spec: EngineSpec, address: Address) -> None:
        # Never the limit: how many are under way is decided in `Turns`. None would leave aiohttp its own 100.
        limits = httpx2.Limits(max_connections=spec.concurrency, max_keepalive_connections=None)
        self.http = DirectClient(limits=limits, follow_redirects=False, timeout=None)
        try:
            self.client = openai.AsyncOpenAI(
                api_key="none",
                base_url=address.url,
                default_query=address.query,
                max_retries=0,
                timeout=None,
                http_client=self.http,
            )
            paths = ("/chat/completions", "/completions")
            self.urls = {path: httpx2.URL(address.url + path, params=address.query or None) for path in paths}
        except (httpx2.InvalidURL, UnicodeError):
            raise InputError(f"{address.url} is not a URL that can be asked") from None
        ours = {"content-type": "application/json"}
        sent = {name.lower(): value for name, value in self.client.default_headers.items() if isinstance(value, str)}
        self.headers = {**{name: value for name, value in sent.items() if name != "authorization"}, **ours}

    async def close(self) -> None:
        await self.client.close()

    async def post(self, path: str, body: bytes, authorization: str, limit: float) -> Answer | Fault:
        """Send one request; what came back, or why nothing did.

        Args:
            path: "/chat/completions" or "/completions".
            authorization: the header's value; empty for none.
            limit: seconds from the first byte sent to the last one read.
        """
        url = self.urls[path]
        headers = {"host": url.netloc.decode("ascii"), **self.headers}
        if authorization:
            headers["authorization"] = authorization
        request = httpx2.Request("POST", url, headers=headers, content=body)
        try:
            async with time_limit(limit):
                response = await self.http.send_directly(request)
        except (httpx2.HTTPError, aiohttp.ClientError, OSError, UnicodeError, asyncio.TimeoutError) as error:
            return _fault(error, limit)
        names = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}
        return Answer(response.status_code, names, response.content.decode("utf-8-sig", errors="replace"))


def _fault(error: Exception, limit: float) -> Fault:
    """What a failed request met; the transport calls every connection that failed a timeout, so its cause tells."""
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    in_time = isinstance(cause, (aiohttp.ClientError, UnicodeError)) and not isinstance(cause, asyncio.TimeoutError)
    if not in_time and isinstance(error, (asyncio.TimeoutError, TimeoutError, httpx2.TimeoutException)):
        return Fault("timeout", "again", f"no answer within {limit:.4g} s")
    words = " ".join(f"{type(cause).__name__}: {cause}".split())
    return Fault("connection", "again", words, worked=not isinstance(cause, aiohttp.ClientConnectorError))
