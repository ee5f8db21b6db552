"""Rates: how fast a server wants to be asked.

`Gate` is the rule for one key: a shared pause, requests and tokens a minute, and a number of requests at once that
halves on a rate limit or a timeout and grows slowly. `Turns` lets requests through the gates of several keys, first
come, first served. Times are seconds of a monotonic clock that the caller passes in.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import NoReturn

from toolrlef_data.engines.openai_api.budget import Need, Spending
from toolrlef_data.engines.openai_api.rate_headers import budgets
from toolrlef_data.engines.spec import Limits

__all__ = ["Bucket", "Gate", "Turns"]

LONGEST_BACKOFF = 60.0


class Bucket:
    """At most `rate` in any minute, smoothly: what was not used in a second is lost, up to `burst`.

    >>> bucket = Bucket(rate=60, burst=1)
    >>> bucket.wait(1, now=0.0), bucket.take(1, now=0.0), bucket.wait(1, now=0.25)
    (0.0, None, 0.75)
    """

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = burst
        self.recent: list[tuple[float, float]] = []  # a heap of (when, amount) of the last minute
        self.sum = 0.0
        # A full bucket and what flows in meanwhile stay below the rate in every minute.
        self.per_second = (rate - max(0.0, burst - 1)) / 60
        self.level = burst
        self.at = -math.inf

    def _flow(self, now: float) -> None:
        while self.recent and self.recent[0][0] <= now - 60:
            self.sum -= heapq.heappop(self.recent)[1]
        self.level = min(self.burst, self.level + (now - self.at) * self.per_second)
        self.at = now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until an amount may be taken, or until it is time to ask again.

        One above the burst waits for a full bucket, and until it fits into the last minute with all others.
        """
        self._flow(now)
        wait = max(0.0, (min(amount, self.burst) - self.level) / self.per_second)
        if amount > 1 and self.recent and self.sum + amount > self.rate + 1e-6:
            wait = max(wait, self.recent[0][0] + 60 - now)
        return wait

    def take(self, amount: float, now: float, when: float | None = None) -> None:
        """Take an amount, or with a negative one give back what was not used; the level may fall below 0.

        Args:
            when: at what time what is given back was taken.
        """
        self._flow(now)
        self.level = min(self.burst, self.level - amount)
        when = now if when is None else when
        if when > now - 60:
            heapq.heappush(self.recent, (when, amount))
            self.sum += amount


def _bucket(rate: float | None, share: float) -> Bucket | None:
    """For a rate a minute, of which a share may go at once."""
    return None if rate is None or math.isinf(rate) else Bucket(rate, max(1.0, rate * share))


class Gate:
    """What one key may send now.

    Args:
        value: the key, or "" for a server that wants none.
        name: of the key in messages, which never show it.
        limits: the settings.
        most: requests at once at most.
    """

    def __init__(self, value: str, name: str, limits: Limits, most: int) -> None:
        self.value = value
        self.name = name
        self.most = self.limit = float(most)
        self.in_flight = 0
        self.answered = False  # whether the server took this key at least once
        self.dropped = ""  # why it is not used any more
        self.paused_until = -math.inf
        self.last_cut = -math.inf
        self.strikes = 0
        self.backoff = limits.backoff
        self.requests = _bucket(limits.rpm, 1 / 60)
        self.tokens = _bucket(limits.tpm, 1 / 10)
        self.left: dict[str, tuple[float, float]] = {}  # what the server says is left, and until when

    def __repr__(self) -> str:
        return f"Gate({self.name})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a gate holds a key and is not pickled")

    def wait(self, tokens: float, now: float) -> float:
        """Seconds until a request may go; infinite until another one comes back."""
        if self.in_flight >= max(1, int(self.limit)):
            return math.inf
        waits = [self.paused_until - now]
        if self.requests:
            waits.append(self.requests.wait(1, now))
        if self.tokens:
            waits.append(self.tokens.wait(tokens, now))
        for counted, (left, until) in list(self.left.items()):
            if until <= now:
                del self.left[counted]
            elif left < 1:
                waits.append(until - now)
        return max(0.0, *waits)

    def start(self, tokens: float, now: float) -> None:
        self.in_flight += 1
        if self.requests:
            self.requests.take(1, now)
        if self.tokens:
            self.tokens.take(tokens, now)
        for counted, amount in (("requests", 1.0), ("tokens", tokens)):
            if counted in self.left:
                left, until = self.left[counted]
                self.left[counted] = (left - amount, until)

    def finish(self, unused: float, now: float, sent: float) -> None:
        """A request that was sent at some time came back, and used fewer tokens than were set aside for it."""
        self.in_flight -= 1
        if self.tokens and unused:
            self.tokens.take(-unused, now, sent)

    def succeed(self, headers: Mapping[str, str], now: float, wall: float) -> None:
        self.answered = True
        self.strikes = 0
        self.limit = min(self.most, self.limit + 1 / self.limit)
        self.learn(headers, now, wall)

    def learn(self, headers: Mapping[str, str], now: float, wall: float) -> None:
        """Believe what the headers say is left; requests under way are counted in it by the server or not yet."""
        for counted, (left, seconds) in budgets(headers, wall).items():
            self.left[counted] = (left, now + seconds)

    def cut(self, sent: float, now: float) -> bool:
        """Halve the number at once, but once only for all requests that were under way together."""
        if sent <= self.last_cut:
            return False
        self.limit = max(1.0, self.limit / 2)
        self.last_cut = now
        return True

    def refuse(self, pause: float | None, sent: float, now: float) -> None:
        """A rate limit: all requests of this key wait, as long as the server asks or twice as long as the last time."""
        first = self.cut(sent, now)
        self.strikes += first
        if pause is None:
            if not first:
                return
            pause = min(LONGEST_BACKOFF, self.backoff * 2**self.strikes)
        elif self.strikes > 1:  # it came back too soon although it waited as long as it was asked to
            pause = max(pause, self.backoff)
        self.paused_until = max(self.paused_until, now + pause)


class Turns:
    """Lets requests through the gates, first come, first served, and below the caps; keys are used in turn.

    Args:
        gates: one a key.
        spending: what was sent so far.
        limits: the caps.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, gates: list[Gate], spending: Spending, limits: Limits, clock: Callable[[], float]) -> None:
        self.limiters = gates
        self.spending = spending
        self.limits = limits
        self.clock = clock
        self.waiting: deque[tuple[Need, float, asyncio.Future[Gate | None]]] = deque()
        self.timer: asyncio.TimerHandle | None = None
        self.turn = 0
        self.closed = ""

    async def enter(self, need: Need, deadline: float, again: bool = False) -> Gate | None:
        """Wait for a key that may send now; None where no key can before the deadline, or where `closed` says why.

        Args:
            need: what the request may use.
            deadline: of the row, by the clock.
            again: the row had a turn before and stands in front of those that had none.
        """
        future: asyncio.Future[Gate | None] = asyncio.get_running_loop().create_future()
        (self.waiting.appendleft if again else self.waiting.append)((need, deadline, future))
        if again or len(self.waiting) == 1:
            self.move()
        try:
            return await future
        except asyncio.CancelledError:
            gate = None if future.cancelled() else future.result()
            if gate is not None:  # it had its turn and will not use it
                gate.finish(sum(need), self.clock(), self.clock())
                self.spending.take_back(need)
                self.move()
            raise

    def move(self) -> None:
        """Let through whoever may go now; called whenever something has changed."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        while self.waiting:
            need, deadline, future = self.waiting[0]
            if not future.done() and not self._settle(need, deadline, future):
                return
            self.waiting.popleft()

    def _settle(self, need: Need, deadline: float, future: asyncio.Future[Gate | None]) -> bool:
        now = self.clock()
        wait = math.inf
        refusal = "" if self.closed else self.spending.refusal(self.limits, need)
        if refusal and (refusal.startswith("max_requests") or not self.spending.under_way):
            self.closed = refusal
        if self.closed:
            future.set_result(None)
            return True
        if not refusal:  # else what is under way may use less than it may
            self.turn += 1
            usable = [gate for gate in self.limiters if not gate.dropped]
            usable = usable[self.turn % len(usable) :] + usable[: self.turn % len(usable)] if usable else []
            waits = [(gate.wait(sum(need), now), gate.in_flight) for gate in usable]
            wait = min(waits, default=(math.inf, 0))[0]
            if wait <= 0:
                gate = usable[waits.index(min(waits))]
                gate.start(sum(need), now)
                self.spending.start(need)
                future.set_result(gate)
                return True
        if now >= deadline or (wait < math.inf and now + wait > deadline):
            future.set_result(None)
            return True
        if refusal:  # what is under way may belong to another thread, which wakes nobody here
            wait = 0.1
        self.timer = asyncio.get_running_loop().call_later(max(min(wait, deadline - now), 0.001), self.move)
        return False

    def pause(self) -> float:
        """Seconds until the first key may be used again."""
        now = self.clock()
        ends = [
            max([gate.paused_until, *(until for left, until in gate.left.values() if left < 1)])
            for gate in self.limiters
        ]
        return max(0.0, min(ends, default=now) - now)

    def close(self, why: str) -> None:
        """Let nobody through any more."""
        self.closed = self.closed or why
        self.move()
