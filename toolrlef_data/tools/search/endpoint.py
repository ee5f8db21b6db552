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
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from toolrlef_data.records import InputError, ToolError, ToolResult
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tools.http import (
    Server,
    check_patience,
    check_url,
    fetch,
    is_variable,
    open_session,
    retry,
    run_loop,
    server_at,
)
from toolrlef_data.tools.search.corpus import cut
from toolrlef_data.tools.search.wiki_search import DESCRIPTION, check_query, check_sizes
from toolrlef_data.tools.tool import Tool, ToolInput

if TYPE_CHECKING:
    import aiohttp

__all__ = ["search_endpoint"]

BATCH = 64  # queries; what a batch found is stored when all of it is there


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
        retries: how often a query is sent again after a broken connection or status 429 or 5xx.
        revision: of the corpus behind the server, in your words; stored results are found again under the same one.
            With a variable and without a revision, they are those of the address that the variable held.

    Raises:
        InputError: url holds credentials or is none, its variable is not set (without a revision), or a number is out
            of range. A run raises it where the variable has gone, or without a revision holds another address by then.

    >>> search_endpoint("http://localhost:8893/api/search", revision="wiki17").version
    'endpoint ... k=2 words=384 revision=wiki17'
    """
    check_sizes(k=k, words=words, max_bytes=max_bytes, concurrency=concurrency)
    check_patience(timeout, retries)
    check_url(url, "the search URL")
    variable = is_variable(url)
    served = _digest_of(url) if variable and not revision else ""
    place = url if variable else _digest_of(url)  # an address of one's own is not for others
    version = f"endpoint {place}{served and f' at {served}'} k={k} words={words}{revision and f' revision={revision}'}"
    settings = Endpoint(url, k, words, timeout, max_bytes, concurrency, retries, served)
    return Tool(name, DESCRIPTION, parameter="query", many=partial(_search, settings), version=version, batch=BATCH)


def _digest_of(url: str) -> str:
    return digest(server_at(url, "the search URL").place)[:16]


# Asking ---------------------------------------------------------------------------------------------------------------


def _search(settings: Endpoint, inputs: Sequence[ToolInput]) -> list[ToolResult]:
    server = server_at(settings.url, "the search URL")
    if settings.served and digest(server.place)[:16] != settings.served:
        raise InputError(
            f"{settings.url} holds another address than when the tool was made: make it again, or give it a revision="
        )
    return run_loop(partial(_ask_all, settings, server, inputs))


async def _ask_all(settings: Endpoint, server: Server, inputs: Sequence[ToolInput]) -> list[ToolResult]:
    turns = asyncio.Semaphore(settings.concurrency)
    async with open_session(server, settings.concurrency) as session:

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


async def _ask(session: aiohttp.ClientSession, settings: Endpoint, server: Server, query: str) -> tuple[str, ...]:
    """Ask for one query until there is an answer, or a failure that will not pass."""
    text = query.encode("utf-8", "replace").decode()  # a lone surrogate has no place in a URL
    parameters = {**server.query, "query": text, "k": str(settings.k)}
    get = partial(fetch, session, "GET", server.place, limit=settings.max_bytes, params=parameters)
    body = await retry(get, settings.retries, settings.timeout)
    return tuple(map(server.secrets.redact_reply, _texts(body, settings)))


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
