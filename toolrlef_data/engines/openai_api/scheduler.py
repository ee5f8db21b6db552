"""The request scheduler: when the next request may be sent, and with which API key; first come, first served."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable

from toolrlef_data.engines.openai_api.budget import Spending, TokenCounts
from toolrlef_data.engines.openai_api.rate_limits import KeyLimiter
from toolrlef_data.engines.spec import Limits

__all__ = ["RequestScheduler"]


class RequestScheduler:
    """A first-in, first-out queue of requests that rotates over the API keys and respects the caps.

    Args:
        limiters: one limiter per API key.
        spending: the requests and tokens so far.
        limits: the caps.
        clock: a monotonic clock, in seconds.
        max_in_flight: maximum number of in-flight requests with all keys. Default: none.
    """

    def __init__(
        self,
        limiters: list[KeyLimiter],
        spending: Spending,
        limits: Limits,
        clock: Callable[[], float],
        max_in_flight: float = math.inf,
    ) -> None:
        self.max_in_flight = max_in_flight
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
        exceeded_cap = None if self.closed_reason else self.spending.exceeded_cap(self.limits, reserved)
        if exceeded_cap and not exceeded_cap.may_fit_later:
            self.closed_reason = exceeded_cap.message
        if self.closed_reason:
            future.set_result(None)
            return True
        is_full = sum(limiter.in_flight for limiter in self.limiters) >= self.max_in_flight
        if now < deadline and not exceeded_cap and not is_full:  # at a cap: in-flight requests may use fewer tokens
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

    def is_only_key(self, limiter: KeyLimiter) -> bool:
        """Return whether all other keys are paused or disabled."""
        now = self.clock()
        others = (other for other in self.limiters if other is not limiter and not other.disabled_reason)
        return all(other.paused_until > now for other in others)

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
