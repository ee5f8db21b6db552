"""The connection of the engine `openai_api`: aiohttp for completions, the `openai` package for batches and files.

Completions, of which there are millions, need nothing of the package: its retries know nothing of keys and caps, nobody
needs typed objects of every answer, redirects would carry keys elsewhere, and loading it takes seconds. A request took
0.28 ms of the processor so, and 0.52 ms through the package's own aiohttp transport (8 paired runs of 6,000).

Not covered: proxies of the environment, certificates of one's own, cookies.
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
from toolrlef_data.engines.openai_api.errors import Fault
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import InputError

if sys.version_info >= (3, 11):
    from asyncio import timeout as time_limit
else:  # comes with aiohttp there
    from async_timeout import timeout as time_limit

if TYPE_CHECKING:
    import openai

__all__ = ["Answer", "Connection"]

HEADERS = {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": "toolrlef_data"}
# Who pays, where an account has several: variables that the openai package reads as well.
PAYS = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}


class Answer(NamedTuple):
    """What a server sent back: status, headers with lower-case names, text."""

    status: int
    headers: Mapping[str, str]
    text: str


class Connection:
    """One server; the keys come with each request. Made inside the event loop.

    Args:
        spec: whose `concurrency` is the number of connections.
        address: of the server.
    """

    def __init__(self, spec: EngineSpec, address: Address) -> None:
        self.spec = spec
        self.address = address
        try:
            paths = ("/chat/completions", "/completions")
            self.urls = {path: yarl.URL(address.url + path).update_query(address.query) for path in paths}
        except ValueError:
            raise InputError(f"{address.url} is not a URL that can be asked") from None
        self.session = aiohttp.ClientSession(
            headers=HEADERS | {name: os.environ[place] for name, place in PAYS.items() if os.environ.get(place)},
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # `post` limits all of it
            connector=aiohttp.TCPConnector(
                limit=spec.concurrency,  # never reached: how many are under way is decided in `Turns`
                keepalive_timeout=5,  # seconds after which many servers close as well
                ssl=httpx2.create_ssl_context(),  # as for batches; finds certificates where Python's own does not
            ),
        )

    @cached_property
    def client(self) -> openai.AsyncOpenAI:
        """For batches and files."""
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
            raise InputError(f"{self.address.url} is not a URL that can be asked") from None

    async def close(self) -> None:
        await self.session.close()
        if "client" in vars(self):
            await self.client.close()

    async def post(self, path: str, body: bytes, authorization: str, limit: float) -> Answer | Fault:
        """Send one request; what came back, or why nothing did.

        Args:
            path: "/chat/completions" or "/completions".
            authorization: the header's value; empty for none.
            limit: seconds from the first byte sent to the last one read.
        """
        url, headers = self.urls[path], {"Authorization": authorization} if authorization else None
        try:
            async with (
                time_limit(limit),
                self.session.post(url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                content = await response.read()
        except (asyncio.TimeoutError, TimeoutError):
            return Fault("timeout", "again", f"no answer within {limit:.4g} s")
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            words = " ".join(f"{type(error).__name__}: {error}".split())
            return Fault("connection", "again", words, worked=not isinstance(error, aiohttp.ClientConnectorError))
        names = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, names, content.decode("utf-8-sig", errors="replace"))
