"""HTTP servers that tools ask: where they are, what must not be written down of it, and answers that are not trusted.

An address is a URL without credentials, or "$NAME" of an environment variable that holds one; what secrets a variable
holds is looked up when the server is asked, and never stands in an error. Redirects are not followed, a compressed
answer is refused, and bytes are counted as they come. A `Failure` says whether the same request may succeed later: no
connection, a broken one, status 429 or 5xx.

Not covered: proxies of the environment, certificates of one's own, cookies; a host name whose look-up hangs (that is
the system's, and takes its time).
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from toolrlef_data.engines.credentials import Address, Secrets
from toolrlef_data.engines.spec import ENV_NAME
from toolrlef_data.records import InputError, ToolError

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
    "run_loop",
    "scrub_cut",
    "server_at",
]

T = TypeVar("T")

BACKOFF = 0.25  # seconds before the first retry; they double eight times at most
PASSING = frozenset({429, *range(500, 600)})  # statuses after which a request is sent again
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
OWN_HEADERS = frozenset(
    {"accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding"}
)


class Failure(ToolError):
    """A request that got no answer.

    Args:
        kind: "http" (an answer that is none), "unavailable" (no connection, or it broke) or "timeout".
        detail: for people; holds no part of the URL.
        status: of the answer; 0 where there was none.
        body: how the answer began, where that was asked for.
        passing: whether the same request may succeed later.
        wait: seconds that the server asks to wait before it.
    """

    def __init__(
        self, kind: str, detail: str, *, status: int = 0, body: bytes = b"", passing: bool = False, wait: float = 0.0
    ) -> None:
        super().__init__(kind, detail)
        self.status = status
        self.body = body
        self.passing = passing
        self.wait = wait


class Server(NamedTuple):
    """An address as it is asked, and what must not be written down of it."""

    place: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    secrets: Secrets


def is_variable(text: str) -> bool:
    """Whether a text is "$NAME" of an environment variable."""
    return text[:1] == "$" and bool(ENV_NAME.fullmatch(text[1:]))


def check_url(url: str, what: str) -> None:
    """Raise InputError where a URL carries secrets or is none; it is not repeated, and no variable is read.

    >>> check_url("http://localhost:8893/api", "the URL"), check_url("$SEARCH_URL", "the URL")
    (None, None)
    """
    if is_variable(url):
        return
    if url[:1] == "$":
        raise InputError("after $ comes the name of an environment variable, in CAPITALS")
    try:
        parts = urlsplit(url)
    except ValueError:  # whose message may repeat a password
        parts = urlsplit("")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(
            f"{what} carries credentials or a query, which would be written down with the settings: put it into an "
            'environment variable and pass "$NAME"'
        )
    Address(url)


def check_patience(timeout: float, retries: int) -> None:
    """Raise InputError where one is no number to go by."""
    if not isinstance(retries, int) or retries < 0:
        raise InputError(f"retries must be a whole number of at least 0, found {retries!r}")
    if isinstance(timeout, bool) or not (isinstance(timeout, (int, float)) and 0 < timeout < float("inf")):
        raise InputError(f"timeout must be a number of seconds above 0, found {timeout!r}")


def check_headers(headers: Any, what: str) -> tuple[tuple[str, str], ...]:
    """Headers as pairs of a name and "$NAME" of the variable with its value, sorted.

    Raises:
        InputError: they are none, or hold a value in the place of a variable; it is not repeated.

    >>> check_headers({"X-Api-Key": "$WEATHER_KEY"}, "the weather")
    (('X-Api-Key', '$WEATHER_KEY'),)
    """
    pairs = list(headers.items()) if isinstance(headers, Mapping) else headers
    if not isinstance(pairs, (list, tuple)) or not all(map(_is_header, pairs)):
        raise InputError(
            f'{what}: headers takes pairs of a name and "$NAME" of an environment variable (CAPITALS), never a value'
        )
    names = [name.lower() for name, _ in pairs]
    if len(set(names)) < len(names) or OWN_HEADERS.intersection(names):
        raise InputError(f"{what}: each header once, and none of {', '.join(sorted(OWN_HEADERS))}")
    return tuple(sorted((name, place) for name, place in pairs))


def _is_header(pair: Any) -> bool:
    if not (isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
        return False
    return bool(HEADER.fullmatch(pair[0])) and is_variable(pair[1])


def server_at(url: str, what: str, headers: Mapping[str, str] | None = None) -> Server:
    """A server as it is asked now, with what the environment holds now.

    Args:
        url: as `check_url` takes it.
        what: what the messages call it.
        headers: name -> "$NAME" of the variable that holds its value.

    Raises:
        InputError: a variable is not set, or holds no URL, no host that can be asked, or nothing that a header can
            carry.
    """
    text = _held(url, what) if is_variable(url) else url
    try:
        text.encode()
        (urlsplit(text.strip()).hostname or "").encode("idna")
    except ValueError:  # whose message may repeat a password
        raise InputError(f"{what} holds no host name that can be asked, or bytes that are no text") from None
    address = Address(text)
    slash = "/" if urlsplit(text.strip()).path.endswith("/") else ""  # servers tell /search from /search/
    values = {name: _held(place, f"the header {name} of {what}") for name, place in (headers or {}).items()}
    for name, value in values.items():
        if not (value.isascii() and value.isprintable()):
            raise InputError(f"the header {name} of {what}: its variable holds characters that no header can carry")
    # "Bearer KEY" may come back as KEY.
    secrets = [*address.secrets, *values.values(), *(word for value in values.values() for word in value.split())]
    sent = {"Authorization": address.basic_auth} if address.basic_auth else {}
    return Server(address.url + slash, address.query, sent | values, Secrets(secrets))


def _held(place: str, what: str) -> str:
    if not (text := os.environ.get(place[1:], "").strip()):
        raise InputError(f"{what}: {place}: the environment variable {place[1:]} is not set")
    return text


def scrub_cut(text: str, secrets: Secrets) -> str:
    """A text that was cut, without secrets: also without the beginning of one at its end.

    >>> scrub_cut("who is tok-0123, and who is TOK-01", Secrets(["tok-0123"]))
    'who is [key], and who is '
    """
    values = [value.lower() for value in secrets.values]
    # Not inside a whole one: of "abab" that stands twice, the last "ab" is no beginning.
    inside = {n for found in secrets.pattern.finditer(text) for n in range(found.start() + 1, found.end())}
    for start in range(max(0, len(text) - max(map(len, values), default=0)), len(text)):
        if start not in inside and any(value.startswith(text[start:].lower()) for value in values):
            text = text[:start]
            break
    return secrets.pattern.sub("[key]", text)


# Asking ---------------------------------------------------------------------------------------------------------------


def run_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end, also from a thread that has a loop of its own, as a notebook's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    with ThreadPoolExecutor(1, thread_name_prefix="tool") as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


def open_session(server: Server, connections: int) -> aiohttp.ClientSession:
    """A session with one server, without limits of time."""
    import aiohttp

    return aiohttp.ClientSession(
        headers={"Accept": "application/json, */*;q=0.5", "Accept-Encoding": "identity", **server.headers},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None),  # the callers limit all of it
        connector=aiohttp.TCPConnector(limit=connections),
    )


async def fetch(
    session: aiohttp.ClientSession,
    method: str,
    place: str,
    *,
    limit: int,
    accepted: Collection[int] = (200,),
    explain: int = 0,
    **content: Any,
) -> bytes:
    """The bytes of one answer.

    Args:
        limit: of its bytes.
        accepted: statuses of an answer; all others are failures.
        explain: bytes of a failure's answer that are read at most.
        content: what aiohttp's `request` takes besides.

    Raises:
        Failure: there is no such answer.
        InputError: no host can have such a name.
    """
    import aiohttp

    try:
        async with session.request(method, place, allow_redirects=False, **content) as response:
            # What is left of an answer is not read: the connection is closed.
            status, plain = response.status, response.headers.get("Content-Encoding", "identity").lower() == "identity"
            if status not in accepted:
                body = await _start(response, explain) if explain and plain else b""
                response.close()
                raise Failure(
                    "http",
                    f"status {status}" + ("; redirects are not followed" if status // 100 == 3 else ""),
                    status=status,
                    body=body[:explain],
                    passing=status in PASSING,
                    wait=_seconds(response.headers.get("Retry-After", "")),
                )
            if not plain:
                response.close()
                raise Failure("http", "the answer is compressed, which was not asked for")
            if len(body := await _start(response, limit)) > limit:
                response.close()
                raise Failure("http", f"the answer has more than {limit} bytes")
            return body
    except (aiohttp.InvalidURL, UnicodeError):
        raise InputError("the URL holds no host name that can be asked") from None
    except (aiohttp.ClientError, OSError) as error:  # whose words may repeat the URL
        number = getattr(error, "errno", None) or 0
        reason = f": {os.strerror(number)}" if number > 0 else ""
        raise Failure("unavailable", f"{type(error).__name__}{reason}", passing=True) from None


async def _start(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """All of an answer, or a little more than `limit` bytes of it."""
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > limit:
            break
    return bytes(body)


def _seconds(header: str) -> float:
    return float(header) if header.isdecimal() and len(header) < 9 else 0.0


async def retry(attempt: Callable[[], Awaitable[T]], retries: int, longest: float) -> T:
    """Try until there is an answer, a failure that does not pass, or no retry is left.

    Args:
        longest: seconds; a server that asks for as long a wait is not waited for.
    """
    tried = 0
    while True:
        try:
            return await attempt()
        except Failure as failure:
            if not failure.passing or tried == retries or failure.wait >= longest:
                raise
            await asyncio.sleep(max(failure.wait, BACKOFF * 2 ** min(tried, 8)))
            tried += 1
