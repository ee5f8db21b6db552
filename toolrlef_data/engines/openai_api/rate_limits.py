"""Rate limits: when the next request may be sent, and with which API key.

`KeyLimiter` enforces the limits of one key: pauses, requests and tokens per minute, and a concurrency that halves on a
rate limit or timeout and grows slowly. `RequestScheduler` assigns requests to the keys, first come, first served. Times
are seconds of a monotonic clock that the caller provides.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import NoReturn

from toolrlef_data.engines.openai_api.budget import Spending, TokenCounts
from toolrlef_data.engines.openai_api.rate_headers import remaining_budgets
from toolrlef_data.engines.spec import Limits

__all__ = ["KeyLimiter", "RateBucket", "RequestScheduler"]

MAX_BACKOFF = 60.0  # seconds


class RateBucket:
    """A token bucket that also limits the total amount of any 60 seconds.

    Args:
        rate: maximum amount per 60 seconds.
        burst: capacity of the bucket, the maximum amount at once.

    >>> bucket = RateBucket(rate=60, burst=1)
    >>> bucket.wait_time(1, now=0.0), bucket.consume(1, now=0.0), bucket.wait_time(1, now=0.25)
    (0.0, None, 0.75)
    """

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = burst
        self.recent: list[tuple[float, float]] = []  # heap of (time, amount) of the last 60 seconds
        self.recent_sum = 0.0
        # A full bucket plus the refill of a minute must not exceed the rate.
        self.refill_rate = (rate - max(0.0, burst - 1)) / 60
        self.level = burst
        self.updated_at = -math.inf

    def _refill(self, now: float) -> None:
        while self.recent and self.recent[0][0] <= now - 60:
            self.recent_sum -= heapq.heappop(self.recent)[1]
        self.level = min(self.burst, self.level + (now - self.updated_at) * self.refill_rate)
        self.updated_at = now

    def wait_time(self, amount: float, now: float) -> float:
        """Return the seconds until an amount may be consumed, or until the next check.

        An amount above `burst` waits for a full bucket, and until the total of the last 60 seconds permits it. An
        amount above `rate` waits until that total is 0.
        """
        self._refill(now)
        wait = max(0.0, (min(amount, self.burst) - self.level) / self.refill_rate)
        if amount > 1 and self.recent and self.recent_sum + amount > self.rate + 1e-6:
            wait = max(wait, self.recent[0][0] + 60 - now)
        return wait

    def consume(self, amount: float, now: float, consumed_at: float | None = None) -> None:
        """Consume an amount, or refund an unused one, which is negative; the level may become negative.

        Args:
            consumed_at: when a refunded amount was consumed. Default: `now`.
        """
        self._refill(now)
        self.level = min(self.burst, self.level - amount)
        consumed_at = now if consumed_at is None else consumed_at
        if consumed_at > now - 60:
            heapq.heappush(self.recent, (consumed_at, amount))
            self.recent_sum += amount


def _bucket_for(rate: float | None, burst_share: float) -> RateBucket | None:
    """Return a bucket for a rate per minute; None without a limit. The burst is a share of the rate."""
    return None if rate is None or math.isinf(rate) else RateBucket(rate, max(1.0, rate * burst_share))


class KeyLimiter:
    """The limits of one API key, and its state.

    Args:
        key: the API key, or "" for a server that needs none.
        name: the key's name in messages, which never contain the key.
        limits: the rates per minute, and the first backoff.
        max_concurrency: maximum number of in-flight requests.
    """

    def __init__(self, key: str, name: str, limits: Limits, max_concurrency: int) -> None:
        self.key = key
        self.name = name
        self.max_concurrency = self.concurrency = float(max_concurrency)
        self.in_flight = 0
        self.has_succeeded = False  # whether the server has sent a reply to a request with this key
        self.disabled_reason = ""  # why the key is no longer used; empty while it is used
        self.paused_until = -math.inf
        self.last_halved = -math.inf
        self.consecutive_rate_limits = 0
        self.backoff = limits.backoff
        self.request_bucket = _bucket_for(limits.rpm, 1 / 60)
        self.token_bucket = _bucket_for(limits.tpm, 1 / 10)
        self.budgets: dict[str, tuple[float, float]] = {}  # from headers: (remaining amount, reset time)

    def __repr__(self) -> str:
        return f"KeyLimiter({self.name})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a KeyLimiter contains an API key and cannot be pickled")

    def wait_time(self, tokens: float, now: float) -> float:
        """Return the seconds until a request may be sent; infinity while no slot is free."""
        if self.in_flight >= max(1, int(self.concurrency)):
            return math.inf
        waits = [self.paused_until - now]
        if self.request_bucket:
            waits.append(self.request_bucket.wait_time(1, now))
        if self.token_bucket:
            waits.append(self.token_bucket.wait_time(tokens, now))
        for name, (remaining, reset_at) in list(self.budgets.items()):
            if reset_at <= now:
                del self.budgets[name]
            elif remaining < 1:
                waits.append(reset_at - now)
        return max(0.0, *waits)

    def start(self, tokens: float, now: float) -> None:
        """Count a request that is about to be sent, with its reserved tokens."""
        self.in_flight += 1
        if self.request_bucket:
            self.request_bucket.consume(1, now)
        if self.token_bucket:
            self.token_bucket.consume(tokens, now)
        for name, amount in (("requests", 1.0), ("tokens", tokens)):
            if name in self.budgets:
                remaining, reset_at = self.budgets[name]
                self.budgets[name] = (remaining - amount, reset_at)

    def finish(self, unused_tokens: float, now: float, sent_at: float) -> None:
        """Release a request's slot and its unused reserved tokens."""
        self.in_flight -= 1
        if self.token_bucket and unused_tokens:
            self.token_bucket.consume(-unused_tokens, now, sent_at)

    def record_success(self, headers: Mapping[str, str], now: float, unix_time: float) -> None:
        """Record a reply: reset the backoff, update the budgets, raise the concurrency by 1 per round of requests."""
        self.has_succeeded = True
        self.consecutive_rate_limits = 0
        self.concurrency = min(self.max_concurrency, self.concurrency + 1 / self.concurrency)
        self._update_budgets(headers, now, unix_time)

    def _update_budgets(self, headers: Mapping[str, str], now: float, unix_time: float) -> None:
        """Replace the budgets with those in the headers.

        In-flight requests are not subtracted, because the server may have subtracted them already.
        """
        for name, (remaining, seconds) in remaining_budgets(headers, unix_time).items():
            self.budgets[name] = (remaining, now + seconds)

    def halve_concurrency(self, sent_at: float, now: float) -> bool:
        """Halve the concurrency unless the request was sent before the last halving; return whether it was halved."""
        if sent_at <= self.last_halved:
            return False
        self.concurrency = max(1.0, self.concurrency / 2)
        self.last_halved = now
        return True

    def record_rate_limit(self, pause: float | None, sent_at: float, now: float) -> None:
        """Halve the concurrency once per round of in-flight requests, and pause the key.

        Args:
            pause: seconds that the server requests. None pauses with exponential backoff.
            sent_at: when the rejected request was sent.
            now: the current time.
        """
        is_first = self.halve_concurrency(sent_at, now)
        self.consecutive_rate_limits += is_first
        if pause is None:
            if not is_first:
                return
            pause = min(MAX_BACKOFF, self.backoff * 2**self.consecutive_rate_limits)
        elif self.consecutive_rate_limits > 1:  # the requested pause was too short
            pause = max(pause, self.backoff)
        self.paused_until = max(self.paused_until, now + pause)


class RequestScheduler:
    """A first-in, first-out queue of requests that rotates over the API keys and respects the caps.

    Args:
        limiters: one limiter per API key.
        spending: the requests and tokens so far.
        limits: the caps.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self, limiters: list[KeyLimiter], spending: Spending, limits: Limits, clock: Callable[[], float]
    ) -> None:
        self.limiters = limiters
        self.spending = spending
        self.limits = limits
        self.clock = clock
        self.queue: deque[tuple[TokenCounts, float, asyncio.Future[KeyLimiter | None]]] = deque()
        self.timer: asyncio.TimerHandle | None = None
        self.rotation = 0
        self.closed_reason = ""

    async def acquire(self, reserved: TokenCounts, deadline: float, is_retry: bool = False) -> KeyLimiter | None:
        """Wait for an API key that may send a request and return its limiter.

        Returns None at the deadline, or once the scheduler is closed.

        Args:
            reserved: the maximum tokens of the request.
            deadline: the request's deadline, by `clock`; None is returned earlier if no key can become free in time.
            is_retry: whether the request was sent before; a retry goes to the front of the queue.
        """
        future: asyncio.Future[KeyLimiter | None] = asyncio.get_running_loop().create_future()
        (self.queue.appendleft if is_retry else self.queue.append)((reserved, deadline, future))
        if is_retry or len(self.queue) == 1:
            self.dispatch()
        try:
            return await future
        except asyncio.CancelledError:
            limiter = None if future.cancelled() else future.result()
            if limiter is not None:  # dispatched, but cancelled before it was sent
                limiter.finish(sum(reserved), self.clock(), self.clock())
                self.spending.undo_start(reserved)
                self.dispatch()
            raise

    def dispatch(self) -> None:
        """Assign API keys to queued requests in order, until one must wait; call this after every change of state."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        while self.queue:
            reserved, deadline, future = self.queue[0]
            if not future.done() and not self._resolve(reserved, deadline, future):
                return
            self.queue.popleft()

    def _resolve(self, reserved: TokenCounts, deadline: float, future: asyncio.Future[KeyLimiter | None]) -> bool:
        """Set the future to the limiter of an API key, or to None if the request cannot be sent.

        Returns False, without setting the future, if the request must wait.
        """
        now = self.clock()
        wait = math.inf
        exceeded_cap = "" if self.closed_reason else self.spending.exceeded_cap(self.limits, reserved)
        if exceeded_cap and (exceeded_cap.startswith("max_requests") or not self.spending.in_flight):
            self.closed_reason = exceeded_cap
        if self.closed_reason:
            future.set_result(None)
            return True
        if not exceeded_cap:  # otherwise wait: in-flight requests may use fewer tokens than reserved
            self.rotation += 1
            enabled = [limiter for limiter in self.limiters if not limiter.disabled_reason]
            start = self.rotation % len(enabled) if enabled else 0
            enabled = enabled[start:] + enabled[:start]
            waits = [(limiter.wait_time(sum(reserved), now), limiter.in_flight) for limiter in enabled]
            wait = min(waits, default=(math.inf, 0))[0]
            if wait <= 0:
                limiter = enabled[waits.index(min(waits))]
                limiter.start(sum(reserved), now)
                self.spending.start(reserved)
                future.set_result(limiter)
                return True
        if now >= deadline or (wait < math.inf and now + wait > deadline):
            future.set_result(None)
            return True
        if exceeded_cap:  # poll, because the in-flight requests of another thread do not call this `dispatch`
            wait = 0.1
        self.timer = asyncio.get_running_loop().call_later(max(min(wait, deadline - now), 0.001), self.dispatch)
        return False

    def remaining_pause(self) -> float:
        """Return the seconds until the first API key may be used again."""
        now = self.clock()
        usable_at = []
        for limiter in self.limiters:
            resets = [reset_at for remaining, reset_at in limiter.budgets.values() if remaining < 1]
            usable_at.append(max([limiter.paused_until, *resets]))
        return max(0.0, min(usable_at, default=now) - now)

    def close(self, reason: str) -> None:
        """Stop sending: `acquire` returns None for all queued and future requests."""
        self.closed_reason = self.closed_reason or reason
        self.dispatch()
