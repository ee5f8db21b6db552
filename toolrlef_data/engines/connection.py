"""The connection of the engine `openai_api`: the `openai` package's client on its aiohttp transport, made light.

What the package does otherwise is left out where it is of no use here: its retries know nothing of keys and caps; typed
objects of answers are not needed; redirects would carry keys elsewhere; cookies and hooks nobody set. Measured on a
local server with 256 requests under way, a request takes 0.8 to 0.95 ms of the processor so, against 1.1 to 1.35 ms on
the package's aiohttp transport and 5 to 6 ms on its default one, for which it builds typed requests and answers.

Not covered: proxies of the environment, which that transport does not use.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp
import httpx2
import openai

from toolrlef_data.engines import EngineSpec
from toolrlef_data.engines.faults import Fault
from toolrlef_data.engines.keys import Address

if sys.version_info >= (3, 11):
    from asyncio import timeout as time_limit
else:  # comes with aiohttp there
    from async_timeout import timeout as time_limit

__all__ = ["Answer", "connect", "post"]

LIGHT = "toolrlef_data.light"


class Answer(NamedTuple):
    """What a server sent back: status, headers with lower-case names, text."""

    status: int
    headers: Mapping[str, str]
    text: str


class LightClient(openai.DefaultAioHttpClient):
    """Sends bodies of bytes straight to the transport; everything else as httpx2 does."""

    urls: dict[str, httpx2.URL]

    def build_request(self, method: str, url: Any, **given: Any) -> httpx2.Request:
        if not isinstance(given.get("content"), bytes) or given.get("params") or given.get("files"):
            return super().build_request(method, url, **given)
        timeout = given.get("timeout")
        extensions = {LIGHT: True, "timeout": httpx2.Timeout(timeout).as_dict() if timeout else {}}
        return httpx2.Request(method, url, headers=given["headers"], content=given["content"], extensions=extensions)

    async def send(self, request: httpx2.Request, *, stream: bool = False, **given: Any) -> httpx2.Response:
        if stream or LIGHT not in request.extensions:
            return await super().send(request, stream=stream, **given)
        response = await self._transport.handle_async_request(request)
        response.request = request
        await response.aread()
        return response


def connect(spec: EngineSpec, address: Address) -> openai.AsyncOpenAI:
    """A client for a server; the keys come with each request. Called inside the event loop."""
    # Never the limit: how many are under way is decided in `Turns`. None would leave aiohttp its own 100.
    limits = httpx2.Limits(max_connections=spec.concurrency, max_keepalive_connections=None)
    return openai.AsyncOpenAI(
        api_key="none",
        base_url=address.url,
        default_query=address.query,
        max_retries=0,
        timeout=None,
        http_client=LightClient(limits=limits, follow_redirects=False, timeout=None),
    )


async def post(client: openai.AsyncOpenAI, path: str, body: bytes, authorization: str, limit: float) -> Answer | Fault:
    """Send one request; what came back, or why nothing did.

    Args:
        authorization: the header's value; empty for none.
        limit: seconds from the first byte sent to the last one read.
    """
    headers = {"Content-Type": "application/json", "Authorization": authorization or openai.Omit()}
    options: Any = {"headers": headers, "follow_redirects": False}
    try:
        async with time_limit(limit):
            response = await client.post(path, cast_to=httpx2.Response, content=body, options=options)
    except openai.APIStatusError as error:
        response = error.response
    except (TimeoutError, asyncio.TimeoutError, openai.APITimeoutError):
        return Fault("timeout", "again", f"no answer within {limit:.4g} s")
    except (openai.APIConnectionError, httpx2.HTTPError, aiohttp.ClientError, OSError) as error:
        cause = error.__cause__ or error
        return Fault("connection", "again", " ".join(f"{type(cause).__name__}: {cause}".split())[:200])
    names = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}
    return Answer(response.status_code, names, response.content.decode(errors="replace"))
