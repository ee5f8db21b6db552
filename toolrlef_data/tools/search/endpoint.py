"""WikiSearch over HTTP: a client for search servers with ColBERTv2's API.

TRICE used the server of ColBERTv2's authors. A request and its response:

    GET http://localhost:8893/api/search?query=common+fig&k=2
    {"topk": [{"text": "Fig | The fig is ...", "rank": 1, "score": 21.4, "pid": 7, "prob": 0.6}, ...]}

The value is a tuple of the first `k` non-blank texts in the server's order, each truncated to `words` words. Ranks and
scores are ignored. The server is untrusted: redirects are not followed, compressed bodies are refused, body sizes are
limited, and `timeout` limits the total time of a query including retries.

| error kind | cause |
|---|---|
| timeout | no response within `timeout` |
| unavailable | no connection, or a broken one |
| http | a status other than 200, or an invalid body |
| no_result | no hits |

The first three are tool failures. Not covered: POST requests, headers with an API key, other field names.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from toolrlef_data.records import InputError, ToolError, ToolResult, clean_text
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.redaction import Secrets
from toolrlef_data.tools.http import (
    Server,
    check_retry_settings,
    check_url,
    fetch,
    is_variable,
    open_session,
    retry,
    run_coroutine,
    server_at,
)
from toolrlef_data.tools.search.corpus import first_words
from toolrlef_data.tools.search.wiki_search import DESCRIPTION, check_query, check_sizes
from toolrlef_data.tools.tool import Tool, ToolInput

if TYPE_CHECKING:
    import aiohttp

__all__ = ["search_endpoint"]

BATCH = 64  # queries; results are stored once per batch


@dataclass(frozen=True)
class Endpoint:
    """Settings of a search server.

    `served` is the digest of the URL in the environment variable when the tool was created; "" accepts any URL.
    """

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
    """Return a search tool that queries a server with ColBERTv2's API.

    Args:
        url: URL to which `?query=...&k=...` is added. A URL with credentials or a query must be passed as "$NAME",
            where the environment variable NAME contains it.
        name: name of the tool in a call. Default "WikiSearch".
        k: maximum number of passages per call. Default 2, as in arXiv 2305.13068.
        words: maximum number of words per passage. Default 384, as in arXiv 2305.13068.
        timeout: seconds for one query, including retries. Default 10.
        max_bytes: maximum size of a response body, in bytes. Default 2,000,000.
        concurrency: maximum number of in-flight queries. Default 8.
        retries: maximum number of retries after a broken connection or status 429 or 5xx. Default 2.
        revision: a label of your choice for the corpus of the server. Stored results are reused under the same label.
            With a variable and without a label, they are reused only for the same URL. Default "": no label.

    Returns:
        A slow tool whose value is a tuple of passages.

    Raises:
        InputError: the URL is invalid or contains credentials, its variable is not set (checked here without a
            revision), or a number is out of range. Also raised during a run, if the variable is not set or, without a
            revision, has changed.

    >>> search_endpoint("http://localhost:8893/api/search", revision="wiki17").version
    'endpoint ... k=2 words=384 revision=wiki17'
    """
    check_sizes(k=k, words=words, max_bytes=max_bytes, concurrency=concurrency)
    check_retry_settings(timeout, retries)
    check_url(url, "the search URL")
    is_in_variable = is_variable(url)
    served = _digest_of(url) if is_in_variable and not revision else ""
    address = url if is_in_variable else _digest_of(url)  # the version is published, and a private URL must not be
    location = f"{address} at {served}" if served else address
    version = f"endpoint {location} k={k} words={words}" + (f" revision={revision}" if revision else "")
    settings = Endpoint(url, k, words, timeout, max_bytes, concurrency, retries, served)
    return Tool(name, DESCRIPTION, parameter="query", many=partial(_search, settings), version=version, batch=BATCH)


def _digest_of(url: str) -> str:
    """Return a digest of a URL, or of the URL in an environment variable, without credentials and query."""
    return digest(server_at(url, "the search URL").url)[:16]


# Queries --------------------------------------------------------------------------------------------------------------


def _search(settings: Endpoint, inputs: Sequence[ToolInput]) -> list[ToolResult]:
    server = server_at(settings.url, "the search URL")
    if settings.served and digest(server.url)[:16] != settings.served:
        raise InputError(
            f"the URL in {settings.url} has changed since the tool was created; create the tool again, or pass "
            "revision= to accept any URL"
        )
    return run_coroutine(partial(_query_all, settings, server, inputs))


async def _query_all(settings: Endpoint, server: Server, inputs: Sequence[ToolInput]) -> list[ToolResult]:
    slots = asyncio.Semaphore(settings.concurrency)
    async with open_session(server, settings.concurrency) as session:

        async def run(call: ToolInput) -> ToolResult:
            if (error := check_query(call.argument)) is not None:
                return error
            async with slots:
                try:
                    texts = await asyncio.wait_for(_query(session, settings, server, call.argument), settings.timeout)
                except asyncio.TimeoutError:
                    return ToolResult(error="timeout", detail=f"no response within {settings.timeout:g} s")
                except ToolError as failure:
                    return ToolResult(error=failure.kind, detail=failure.detail)
            return ToolResult(texts) if texts else ToolResult(error="no_result", detail="the server returned no hits")

        return list(await asyncio.gather(*map(run, inputs)))


async def _query(session: aiohttp.ClientSession, settings: Endpoint, server: Server, query: str) -> tuple[str, ...]:
    """Return the texts for one query; retryable failures are retried."""
    # A URL cannot contain an unpaired surrogate.
    parameters = {**server.query, "query": clean_text(query), "k": str(settings.k)}
    get = partial(fetch, session, "GET", server.url, max_bytes=settings.max_bytes, params=parameters)
    body = await retry(get, settings.retries, settings.timeout)
    return _texts(body, settings, server.secrets)


def _texts(body: bytes, settings: Endpoint, secrets: Secrets) -> tuple[str, ...]:
    """Return the first `k` non-blank texts of a response body; later hits are not validated.

    A text is redacted before it is truncated: the first words of a secret would not be recognised.

    Raises:
        ToolError: the kind is http; the body is invalid.
    """
    try:
        response: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise ToolError("http", "the response is not JSON") from None
    hits = response.get("topk") if isinstance(response, dict) else None
    if not isinstance(hits, list):
        raise ToolError("http", 'the response has no list "topk"')
    texts: list[str] = []
    for hit in hits:
        text = hit.get("text") if isinstance(hit, dict) else None
        if not isinstance(text, str):
            raise ToolError("http", 'a hit of the response has no "text"')
        # JSON may contain an unpaired surrogate, a table cannot.
        if (passage := first_words(secrets.redact_reply(clean_text(text)), settings.words)).strip():
            texts.append(passage)
        if len(texts) == settings.k:
            break
    return tuple(texts)
