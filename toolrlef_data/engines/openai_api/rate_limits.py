"""Rate limits of one API key: pauses, requests and tokens per minute, and a concurrency.

Times are seconds of a monotonic clock that the caller provides.

A few rate limits and timeouts among many requests are passing faults: each costs its own row a wait, and the other rows
nothing. A server is overloaded if it rejects a third of the requests that were sent one after the other, whenever their
responses arrive. Then the key is paused for all rows, and its concurrency is halved. After the pause, the number of
sent requests doubles every `RAMP` seconds, so that the next rejection arrives before many are sent. The concurrency
grows faster with every round of replies.
"""

from __future__ import annotations

import bisect
import heapq
import math
from collections.abc import Mapping
from typing import NoReturn

from toolrlef_data.engines.openai_api.rate_headers import remaining_budgets
from toolrlef_data.engines.spec import Limits

__all__ = ["MAX_BACKOFF", "KeyLimiter", "RateBucket"]

MAX_BACKOFF = 60.0  # seconds
NEIGHBOURS = 8  # requests sent before, and after, a rejected one
MIN_REJECTED = 6  # rejected requests among it and its neighbours, from which a server is overloaded
MAX_NUMBERS = 512  # remembered rejected requests
RAMP = 0.25  # seconds in which the number of requests after a pause doubles


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
        self.growth = 1.0  # requests by which the concurrency grows in the next round of replies
        self.num_sent = 0
        self.num_since_pause = 0  # requests sent since the last pause
        self.in_flight = 0
        self.has_succeeded = False  # whether the server has sent a reply to a request with this key
        self.disabled_reason = ""  # why the key is no longer used; empty while it is used
        self.paused_until = -math.inf
        self.num_reacted = 0  # requests that were sent before the last pause or halving
        # Sorted numbers of the rejected requests since then.
        self.rate_limited: list[int] = []
        self.timed_out: list[int] = []
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
        waits = [self.paused_until + RAMP * math.log2(self.num_since_pause + 1) - now]
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
        self.num_since_pause += 1
        if self.request_bucket:
            self.request_bucket.consume(1, now)
        if self.token_bucket:
            self.token_bucket.consume(tokens, now)
        for name, amount in (("requests", 1.0), ("tokens", tokens)):
            if name in self.budgets:
                remaining, reset_at = self.budgets[name]
                self.budgets[name] = (remaining - amount, reset_at)

    def next_number(self) -> int:
        """Return the number of the request that is being sent now, from 1."""
        self.num_sent += 1
        return self.num_sent

    def finish(self, unused_tokens: float, now: float, sent_at: float) -> None:
        """Release a request's slot and its unused reserved tokens."""
        self.in_flight -= 1
        if self.token_bucket and unused_tokens:
            self.token_bucket.consume(-unused_tokens, now, sent_at)

    def record_success(self, headers: Mapping[str, str], now: float, unix_time: float) -> None:
        """Record a reply: reset the backoff, update the budgets, raise the concurrency."""
        self.has_succeeded = True
        self.consecutive_rate_limits = 0
        step = self.growth / self.concurrency
        self.growth += step / 2
        self.concurrency = min(self.max_concurrency, self.concurrency + step)
        self._update_budgets(headers, now, unix_time)

    def _update_budgets(self, headers: Mapping[str, str], now: float, unix_time: float) -> None:
        """Replace the budgets with those in the headers.

        In-flight requests are not subtracted, because the server may have subtracted them already.
        """
        for name, (remaining, seconds) in remaining_budgets(headers, unix_time).items():
            self.budgets[name] = (remaining, now + seconds)

    def pause(self, seconds: float, now: float) -> None:
        """Send no request for some seconds, unless a longer pause ends later."""
        self.paused_until = max(self.paused_until, now + seconds)
        self.num_since_pause = 0

    def record_timeout(self, number: int) -> None:
        """Record that a request got no response; halve the concurrency if the server is overloaded."""
        if self._is_overloaded(self.timed_out, number):
            self._halve_concurrency()
            self._forget_rejections()

    def record_rate_limit(self, pause: float | None, number: int, now: float, is_only_key: bool = True) -> bool:
        """Record a rate limit, and return whether the key is paused; otherwise its row waits alone.

        The key is paused if the server is overloaded, or if another key is free. The concurrency is halved if the
        server has sent a reply since the last pause: a server that rejects everything has no better concurrency.

        Args:
            pause: seconds that the server requests. None pauses with exponential backoff.
            number: the number of the rejected request.
            now: the current time.
            is_only_key: whether all other keys are paused or disabled.
        """
        if number > self.num_reacted:
            is_overloaded = self._is_overloaded(self.rate_limited, number)
            if not is_overloaded and is_only_key:
                return False
            if is_overloaded and not self.consecutive_rate_limits:
                self._halve_concurrency()
            self.consecutive_rate_limits += 1
            self._forget_rejections()
            if pause is None:
                pause = min(MAX_BACKOFF, self.backoff * 2**self.consecutive_rate_limits)
        if pause is not None:
            # After a second rate limit, the requested pause was too short.
            self.pause(max(pause, self.backoff) if self.consecutive_rate_limits > 1 else pause, now)
        return True

    def _is_overloaded(self, rejected: list[int], number: int) -> bool:
        """Add a request to the rejected ones, and return whether many of its neighbours are rejected, or all so far."""
        if number <= self.num_reacted:
            return False
        bisect.insort(rejected, number)
        del rejected[:-MAX_NUMBERS]
        first = bisect.bisect_left(rejected, number - NEIGHBOURS)
        num_near = bisect.bisect_right(rejected, number + NEIGHBOURS) - first
        return num_near >= min(MIN_REJECTED, self.num_sent - self.num_reacted)

    def _forget_rejections(self) -> None:
        self.num_reacted = self.num_sent
        self.rate_limited, self.timed_out = [], []

    def _halve_concurrency(self) -> None:
        self.concurrency, self.growth = max(1.0, self.concurrency / 2), 1.0
