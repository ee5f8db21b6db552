"""WikiSearch over HTTP: a search server that answers in ColBERTv2's shape.

The server of ColBERTv2's authors, which TRICE asked, and those built after it. One call:

    GET http://localhost:8893/api/search?query=common+fig&k=2
    {"topk": [{"text": "Fig | The fig is ...", "rank": 1, "score": 21.4, "pid": 7, "prob": 0.6}, ...]}

The value is a tuple of the first `k` texts that are not blank, in the server's order, each cut to `words` words; ranks
and scores are not read. The server is not trusted: redirects are not followed, a compressed answer is refused, bytes
are counted as they come, and the time of a query, retries included, ends at `timeout`, whatever drips. Errors are
`timeout`, `unavailable` (no connection, or it broke), `http` (a status that is not 200, or an answer of another shape),
all of them the tool's fault, and `no_result` for no hits.

Not covered: servers that want a POST, a key in a header, or other names of the fields; proxies of the environment.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from toolrlef_data.engines import VARIABLE
from toolrlef_data.engines.keys import Address, Secrets
from toolrlef_data.fingerprints import digest
from toolrlef_data.records import InputError, ToolError, ToolResult
from toolrlef_data.tools import Tool, ToolInput
from toolrlef_data.tools.passages import cut
from toolrlef_data.tools.search import DESCRIPTION, check_query, check_sizes

if TYPE_CHECKING:
    import aiohttp

__all__ = ["search_endpoint"]

BATCH = 64  # queries; what a batch found is stored when all of it is there
BACKOFF = 0.25  # seconds before the first retry; they double
PASSING = frozenset({429, 500, 502, 503, 504})  # statuses after which a query is sent again


@dataclass(frozen=True)
class Endpoint:
    """Which server is asked and how; `served` is the digest of an address that a variable held, "" for any."""

    url: str
    k: int
    words: int
    timeout: float
    max_bytes: int
    concurrency: int
    retries: int
    served: str


class _Passing(ToolError):
    """A failure after which the query is sent again, `wait` seconds later at the earliest."""

    def __init__(self, kind: str, detail: str, wait: float = 0.0) -> None:
        super().__init__(kind, detail)
        self.wait = wait


def search_endpoint(
    url: str,
    *,
    name: str = "WikiSearch",
    k: int = 2,
    words: int = 384,
    timeout: float = 10.0,
    max_bytes: int = 2_000_000,
    concurrency: int = 8,
    retries: int = 2,
    revision: str = "",
) -> Tool:
    """A search tool that asks a server, which answers a GET with {"topk": [{"text": ...}, ...]}.

    Args:
        url: of the server, to which `?query=...&k=...` is added; or "$NAME" of an environment variable that holds it,
            which it must where the URL carries credentials or a query of its own.
        name: as responses write it.
        k: passages a call at most (arXiv 2305.13068: 2).
        words: of a passage at most (384 there).
        timeout: seconds that one query may take, with its retries.
        max_bytes: of an answer.
        concurrency: queries under way at once at most.
        retries: how often a query is sent again after a broken connection or status 429, 500, 502, 503 or 504.
        revision: of the corpus behind the server, in your words; stored results are found again under the same one.
            With a variable and without a revision, they are those of the address that the variable held.

    Raises:
        InputError: url holds credentials or is none, its variable is not set (without a revision), or a number is out
            of range. A run raises it where the variable has gone, or without a revision holds another address by then.

    >>> search_endpoint("http://localhost:8893/api/search", revision="wiki17").version
    'endpoint ... k=2 words=384 revision=wiki17'
    """
    check_sizes(k=k, words=words, max_bytes=max_bytes, concurrency=concurrency)
    if not isinstance(retries, int) or retries < 0:
        raise InputError(f"retries must be a whole number of at least 0, found {retries!r}")
    if not (isinstance(timeout, (int, float)) and 0 < timeout < float("inf")):
        raise InputError(f"timeout must be a number of seconds above 0, found {timeout!r}")
    variable = url[:1] == "$" and bool(VARIABLE.fullmatch(url[1:]))
    if not variable:
        _check_literal(url)
    served = digest(_address(url)[0])[:16] if variable and not revision else ""
    place = url if variable else digest(_address(url)[0])[:16]  # an address of one's own is not for others
    version = f"endpoint {place}{served and f' at {served}'} k={k} words={words}{revision and f' revision={revision}'}"
    settings = Endpoint(url, k, words, timeout, max_bytes, concurrency, retries, served)
    return Tool(name, DESCRIPTION, parameter="query", many=partial(_search, settings), version=version, batch=BATCH)


def _check_literal(url: str) -> None:
    if url[:1] == "$":
        raise InputError("after $ comes the name of an environment variable, in CAPITALS")
    try:
        parts = urlsplit(url)
    except ValueError:  # whose message may repeat a password
        parts = urlsplit("")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(
            "the search URL carries credentials or a query, which would be written down with the settings: put it "
            'into an environment variable and pass "$NAME"'
        )


def _address(url: str) -> tuple[str, Address]:
    """Where queries go, without credentials, and the address with them."""
    text = url
    if url[:1] == "$" and not (text := os.environ.get(url[1:], "").strip()):
        raise InputError(f"the search URL {url}: the environment variable {url[1:]} is not set")
    address = Address(text)
    slash = "/" if urlsplit(text.strip()).path.endswith("/") else ""  # servers tell /search from /search/
    return address.url + slash, address


# Asking ---------------------------------------------------------------------------------------------------------------


class _Server(NamedTuple):
    """An address as it is asked, and what must not be written down of it."""

    place: str
    query: Mapping[str, str]
    secrets: Secrets


def _search(settings: Endpoint, inputs: Sequence[ToolInput]) -> list[ToolResult]:
    place, address = _address(settings.url)
    if settings.served and digest(place)[:16] != settings.served:
        raise InputError(
            f"{settings.url} holds another address than when the tool was made: make it again, or give it a revision="
        )
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    if address.basic:
        headers["Authorization"] = address.basic
    server = _Server(place, address.query, Secrets(address.secrets))
    asking = partial(_ask_all, settings, server, headers, inputs)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(asking())
    with ThreadPoolExecutor(1, thread_name_prefix="search") as pool:  # a notebook's thread has a loop of its own
        return pool.submit(lambda: asyncio.run(asking())).result()


async def _ask_all(
    settings: Endpoint, server: _Server, headers: Mapping[str, str], inputs: Sequence[ToolInput]
) -> list[ToolResult]:
    import aiohttp

    turns = asyncio.Semaphore(settings.concurrency)
    async with aiohttp.ClientSession(
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None),  # the limit of all retries together is set below
        connector=aiohttp.TCPConnector(limit=settings.concurrency),
    ) as session:

        async def one(given: ToolInput) -> ToolResult:
            if (refused := check_query(given.argument)) is not None:
                return refused
            async with turns:
                try:
                    texts = await asyncio.wait_for(_ask(session, settings, server, given.argument), settings.timeout)
                except asyncio.TimeoutError:
                    return ToolResult(error="timeout", detail=f"no answer within {settings.timeout:g} s")
                except ToolError as error:
                    return ToolResult(error=error.kind, detail=error.detail)
            return ToolResult(texts) if texts else ToolResult(error="no_result", detail="the server found nothing")

        return list(await asyncio.gather(*map(one, inputs)))


async def _ask(session: aiohttp.ClientSession, settings: Endpoint, server: _Server, query: str) -> tuple[str, ...]:
    """Ask for one query until there is an answer, or a failure that will not pass."""
    text = query.encode("utf-8", "replace").decode()  # a lone surrogate has no place in a URL
    parameters = {**server.query, "query": text, "k": str(settings.k)}
    retry = 0
    while True:
        try:
            body = await _body(session, server.place, parameters, settings.max_bytes)
        except _Passing as error:
            if retry == settings.retries or error.wait >= settings.timeout:
                raise
            await asyncio.sleep(max(error.wait, BACKOFF * 2**retry))
            retry += 1
        else:
            return tuple(map(server.secrets.scrub_reply, _texts(body, settings)))


async def _body(session: aiohttp.ClientSession, place: str, parameters: Mapping[str, str], limit: int) -> bytes:
    """The bytes of one answer with status 200."""
    import aiohttp

    try:
        async with session.get(place, params=parameters, allow_redirects=False) as response:
            # What is left of an answer is not read: the connection is closed.
            if response.status != 200:
                response.close()
                detail = f"status {response.status}"
                if response.status in PASSING:
                    raise _Passing("http", detail, _seconds(response.headers.get("Retry-After", "")))
                raise ToolError(
                    "http", detail + ("; redirects are not followed" if response.status // 100 == 3 else "")
                )
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                response.close()
                raise ToolError("http", "the answer is compressed, which was not asked for")
            body = bytearray()
            async for part in response.content.iter_any():
                body += part
                if len(body) > limit:
                    response.close()
                    raise ToolError("http", f"the answer has more than {limit} bytes")
            return bytes(body)
    except (aiohttp.InvalidURL, UnicodeError):
        raise InputError("the search URL holds no host name that can be asked") from None
    except (aiohttp.ClientError, OSError) as error:  # whose words may repeat the URL
        number = getattr(error, "errno", None) or 0
        reason = f": {os.strerror(number)}" if number > 0 else ""
        raise _Passing("unavailable", f"{type(error).__name__}{reason}") from None


def _seconds(header: str) -> float:
    return float(header) if header.isdecimal() and len(header) < 9 else 0.0


def _texts(body: bytes, settings: Endpoint) -> tuple[str, ...]:
    """The texts of the first `k` hits that have more than blanks; what follows is not looked at.

    Raises:
        ToolError: http, for everything that is not the shape.
    """
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise ToolError("http", "the answer is no JSON") from None
    hits = found.get("topk") if isinstance(found, dict) else None
    if not isinstance(hits, list):
        raise ToolError("http", 'the answer has no list "topk"')
    texts: list[str] = []
    for hit in hits:
        text = hit.get("text") if isinstance(hit, dict) else None
        if not isinstance(text, str):
            raise ToolError("http", 'a hit of the answer has no "text"')
        # A lone surrogate, which JSON may escape and no table can hold, becomes "?".
        if (whole := cut(text.encode("utf-8", "replace").decode(), settings.words)).strip():
            texts.append(whole)
        if len(texts) == settings.k:
            break
    return tuple(texts)
