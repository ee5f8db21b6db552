"""Session: the shared state of all requests of one engine to one server.

It has the API keys and their scheduler, the spending, the failure counts, and the error that stops the run. Direct
requests (`requests`) and batch jobs (`batches`) share it, so both treat replies, failures, API keys and caps alike.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from toolrlef_data.engines.credentials import (
    Address,
    custom_headers,
    find_proxy,
    read_api_keys,
    read_headers,
    read_variables,
    resolve_address,
)
from toolrlef_data.engines.openai_api.budget import TokenCounts, spending_of
from toolrlef_data.engines.openai_api.errors import Failure, classify_body, classify_status
from toolrlef_data.engines.openai_api.payloads import find_quirks, parse_replies
from toolrlef_data.engines.openai_api.rate_limits import KeyLimiter
from toolrlef_data.engines.openai_api.scheduler import RequestScheduler
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import AllRequestsRefused, CapReached, NoUsableApiKey, Reply, ToolrlefError
from toolrlef_data.tables.redaction import Secrets, redact_hosts, redact_url

if TYPE_CHECKING:
    from toolrlef_data.engines.openai_api.client import Connection

__all__ = ["REJECTED", "Session"]

log = logging.getLogger(__name__)
# Loggers that record request URLs, whose query may contain an API key.
HTTP_LOGGERS = ("httpx2", "openai", "openai._base_client", "aiohttp.client")
REJECTED = ("bad_request", "not_found")  # error kinds whose cause is the row or the settings
MIN_REJECTIONS = 8  # the run stops after this many rejections if the server has sent no reply
MAX_DETAIL_LENGTH = 500  # characters of a stored error message
INITIAL_BYTES_PER_TOKEN = 3.0  # until the first reply; for most tokenizers the true value is higher
MIN_BYTES_PER_TOKEN = 0.3  # lower values, computed from a server's counts, are implausible
TOKEN_FIELDS = ("prompt_tokens", "completion_tokens")


class Session:
    """The shared state of all requests of one engine.

    Args:
        spec: the engine spec.

    Raises:
        InputError: the variable that `base_url` names is not set, or its value is no URL.
    """

    connection: Connection

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.address = resolve_address(spec)
        self.quirks = find_quirks(spec)
        self.secrets = Secrets(self.address.secrets)
        self.headers: dict[str, str] = {}
        self.extra_body: dict[str, Any] = {}
        self.proxy: Address | None = None
        is_private = redact_url(self.address.url) != self.address.url
        self.private_host = re.compile(
            rf"(?<![\w.-]){re.escape(self.address.host)}(?![\w-])(?::\d+)?" if is_private else r"(?!)", re.IGNORECASE
        )
        self.spending = spending_of(self.address.url, spec.model)
        self.scheduler = RequestScheduler([], self.spending, spec.limits, time.monotonic, spec.concurrency)
        self.failure_counts: Counter[str] = Counter()  # by error kind, for the progress bar
        self.bytes_per_token = INITIAL_BYTES_PER_TOKEN
        self.is_cancelled = False
        self.stop_error: ToolrlefError | None = None  # why no further requests are sent

    def __str__(self) -> str:
        return f"{self.spec.model!r} at {self.address.url}"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a session contains API keys and cannot be pickled; pickle its EngineSpec")

    def open(self) -> None:
        """Read the API keys, headers and other secrets, and redact them in the logs of HTTP libraries."""
        keys = read_api_keys(self.spec)
        own = read_headers(dict(self.spec.headers), str(self))
        names = {name.lower() for name in own}
        if self.spec.base_url is None:  # a server in `base_url` gets them as little as OPENAI_API_KEY
            own |= {name: value for name, value in custom_headers().items() if name.lower() not in names}
        self.headers, self.proxy = own, find_proxy(self.address.url)
        secrets: list[str] = []
        self.extra_body = read_variables(dict(self.spec.options).get("extra_body", {}), secrets)
        self.secrets.add([*secrets, *own.values(), *(self.proxy.secrets if self.proxy else ())])
        limiters = [self._limiter_for(key, number) for number, key in enumerate(keys, 1)]
        self.scheduler.limiters = limiters or [self._limiter_for("", 0)]  # a server that needs no API key
        for name in HTTP_LOGGERS:
            logging.getLogger(name).addFilter(self._redact_record)

    def close(self) -> None:
        for name in HTTP_LOGGERS:
            logging.getLogger(name).removeFilter(self._redact_record)

    def authorization(self, limiter: KeyLimiter) -> str:
        """Return the Authorization header: the API key, else the user's header, else the credentials of the URL."""
        own = next((value for name, value in self.headers.items() if name.lower() == "authorization"), "")
        return f"Bearer {limiter.key}" if limiter.key else own or self.address.basic_auth

    def stats(self) -> dict[str, Any]:
        """Return the values that the progress bar shows: in-flight requests, errors by kind, cost."""
        stats: dict[str, Any] = {"in flight": self.spending.in_flight}
        stats |= {f"{kind} errors": count for kind, count in self.failure_counts.most_common()}
        if (cost := self.spending.cost(self.spec.limits)) is not None:
            stats["cost"] = f"{cost:.4f}"
        return stats

    def _limiter_for(self, key: str, number: int) -> KeyLimiter:
        self.secrets.add([key])
        name = f"API key {number}" if key else "the server without an API key"
        return KeyLimiter(key, name, self.spec.limits, self.spec.concurrency)

    def _redact_record(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.secrets.redact(record.getMessage()), ()
        return True

    def halt_at_cap(self, cap: str) -> None:
        """Stop sending, because the next request would exceed a cap."""
        advice = "Completed requests are saved; to resume, start a new process, which counts from zero"
        self.halt(CapReached(f"{self}: {cap}. {advice}"))

    def halt(self, error: ToolrlefError) -> None:
        """Stop sending; in-flight requests are completed, then the engine raises the error."""
        self.stop_error = self.stop_error or error
        self.scheduler.close(str(error))

    def parse(self, status: int, text: str, max_replies: int = 1) -> list[Reply] | Failure:
        """Return the replies in an HTTP response, or its failure; `text` is the response body."""
        if not 200 <= status < 300:
            return classify_status(status, text)
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            body = None
        if failure := classify_body(body, text):
            return failure
        replies = parse_replies(body, self.spec.stop, max_replies, self.secrets.redact_reply)
        return [replace(r, error_detail=self.clean(r.error_detail)) if r.error else r for r in replies]

    def clean(self, detail: str) -> str:
        """Return an error text without secrets and private hosts, shortened after that."""
        redacted = self.private_host.sub("[server]", redact_hosts(self.secrets.redact(detail)))
        return redacted[:MAX_DETAIL_LENGTH]

    def update_bytes_per_token(self, reply: Reply, num_bytes: int) -> None:
        """Update the estimated number of body bytes per prompt token.

        The estimate falls at once and rises slowly, so that reservations tend to be too large rather than too small.
        """
        if reply.prompt_tokens:
            observed = 0.95 * num_bytes / reply.prompt_tokens
            smoothed = self.bytes_per_token + 0.02 * (observed - self.bytes_per_token)
            self.bytes_per_token = max(MIN_BYTES_PER_TOKEN, min(observed, smoothed))

    def tokens_used(self, replies: list[Reply], reserved: TokenCounts) -> TokenCounts:
        """Return the sums of the token counts that the server reports, or the reserved count if it reports none."""
        prompts, completions = ([getattr(reply, name) for reply in replies] for name in TOKEN_FIELDS)
        return TokenCounts(
            reserved.prompt if None in prompts else sum(prompts),
            reserved.completion if None in completions else sum(completions),
        )

    def has_succeeded(self) -> bool:
        """Return whether the server has sent a reply."""
        return any(limiter.has_succeeded for limiter in self.scheduler.limiters)

    def failed_reply(self, failure: Failure) -> Reply:
        return Reply(None, error=failure.kind, error_detail=self.clean(failure.detail))

    def rejects_everything(self, rejections: Sequence[tuple[str, Reply]]) -> bool:
        """Return whether there are at least `MIN_REJECTIONS` rejections and the server has sent no reply."""
        return len(rejections) >= MIN_REJECTIONS and not self.has_succeeded()

    def halt_after_rejections(self, rejections: Sequence[tuple[str, Reply]]) -> None:
        """Stop sending, because the server rejects every request."""
        error = rejections[0][1].error_detail
        self.halt(AllRequestsRefused(f"{self} rejected all {len(rejections)} requests; the first error is: {error}"))

    def disable(self, limiter: KeyLimiter, failure: Failure) -> None:
        """Disable an API key and add new API keys from the key sources; stop sending if no enabled key remains."""
        if limiter.disabled_reason:
            return
        limiter.disabled_reason = self.clean(failure.detail)
        log.warning("%s is no longer used: %s", limiter.name, limiter.disabled_reason)
        known = {limiter.key for limiter in self.scheduler.limiters}
        new_keys = []
        with suppress(NoUsableApiKey):  # the sources have no key any more; other keys may still work
            new_keys = [key for key in read_api_keys(self.spec) if key not in known] if limiter.key else []
        self.scheduler.limiters += [self._limiter_for(key, len(known) + i + 1) for i, key in enumerate(new_keys)]
        if all(limiter.disabled_reason for limiter in self.scheduler.limiters):
            problem = "requires an API key, set `keys` or `headers`"
            if limiter.key:
                problem = f"rejected all API keys ({len(known)})"
            self.halt(NoUsableApiKey(f"{self} {problem}: {limiter.disabled_reason}. Completed requests are saved"))
