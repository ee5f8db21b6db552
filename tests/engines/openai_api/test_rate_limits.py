"""Rate limits on a simulated clock: hours of traffic in milliseconds, and an endless wait is an error.

Tested properties:

- No minute exceeds its limit.
- Every request is completed.
- A pause applies to one key only.
- A passing fault costs other rows nothing; an overloaded server receives few requests that it must reject.
- A cancelled request releases its slot and its reserved tokens.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import selectors
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

import pytest

from toolrlef_data.engines.openai_api.budget import Spending, TokenCounts
from toolrlef_data.engines.openai_api.rate_limits import KeyLimiter
from toolrlef_data.engines.openai_api.scheduler import RequestScheduler
from toolrlef_data.engines.spec import Limits

T = TypeVar("T")
SMALL = TokenCounts(5, 5)
NEVER = math.inf


class JumpingSelector(selectors.SelectSelector):
    """A selector whose clock jumps to the next timer instead of sleeping; no timer is an error."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 1e7:
            raise RuntimeError("the event loop would wait forever")
        self.now += max(0.0, timeout)
        return super().select(0)


def simulated(main: Callable[[Callable[[], float]], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function with the simulated clock of its event loop as the argument."""
    selector = JumpingSelector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    try:
        return loop.run_until_complete(main(loop.time))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        selector.now += 1
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def make_limiters(count: int, limits: Limits, max_concurrency: int = 64) -> list[KeyLimiter]:
    return [KeyLimiter(f"key {i}", f"API key {i}", limits, max_concurrency) for i in range(count)]


def make_scheduler(limiters: list[KeyLimiter], limits: Limits, clock: Callable[[], float]) -> RequestScheduler:
    return RequestScheduler(limiters, Spending(), limits, clock)


Sent = list[tuple[float, KeyLimiter, float]]  # time, key, tokens


async def send_all(
    scheduler: RequestScheduler,
    requests: Sequence[tuple[float, TokenCounts]],
    latency: Callable[[], float],
    deadline: float = NEVER,
    is_limited: Callable[[KeyLimiter, float], bool] = lambda limiter, now: False,
    pause: float | None = None,
) -> tuple[Sent, int]:
    """Send (arrival time, tokens) requests as the engine does; return all sent attempts and the number of replies."""
    sent: Sent = []
    num_replies = 0

    async def send(arrival: float, tokens: TokenCounts) -> None:
        nonlocal num_replies
        await asyncio.sleep(arrival)
        ends_at = scheduler.clock() + deadline
        is_retry = False
        while (limiter := await scheduler.acquire(tokens, ends_at, is_retry=is_retry)) is not None:
            sent_at = scheduler.clock()
            sent.append((sent_at, limiter, sum(tokens)))
            is_retry, is_paused, number = is_limited(limiter, sent_at), True, limiter.next_number()
            await asyncio.sleep(latency())
            if is_retry:
                is_only_key = scheduler.is_only_key(limiter)
                is_paused = limiter.record_rate_limit(pause, number, scheduler.clock(), is_only_key)
            else:
                limiter.record_success({}, scheduler.clock(), 0.0)
            limiter.finish(0, scheduler.clock(), sent_at)
            scheduler.spending.finish(tokens, TokenCounts(0, 0) if is_retry else tokens)
            scheduler.dispatch()
            if not is_retry:
                num_replies += 1
                return
            await asyncio.sleep(0 if is_paused else pause or limiter.backoff)

    await asyncio.gather(*(send(*request) for request in requests))
    return sent, num_replies


def max_window_sum(amounts: Sequence[tuple[float, float]], window: float = 60.0) -> float:
    """Return the maximal sum in any time window; `amounts` are (time, amount), ordered by time."""
    max_sum = window_sum = 0.0
    first = 0
    for time, amount in amounts:
        window_sum += amount
        while amounts[first][0] <= time - window + 1e-6:
            window_sum -= amounts[first][1]
            first += 1
        max_sum = max(max_sum, window_sum)
    return max_sum


def draw_arrivals(draw: random.Random, count: int) -> list[float]:
    """Draw arrival times: all at once, a stream, bursts with gaps, or most of them after a minute."""
    kind = draw.randrange(4)
    if kind == 0:
        return [0.0] * count
    if kind == 1:
        return sorted(draw.uniform(0, 120) for _ in range(count))
    if kind == 2:
        return [90.0 * (i // max(1, count // 3)) for i in range(count)]
    return [0.0, *(59.9 + draw.random() for _ in range(count - 1))]


# Limits per minute ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_no_minute_has_more_requests_than_rpm(seed: int) -> None:
    draw = random.Random(seed)
    rpm = draw.choice([1, 2, 3, 7, 10, 59, 60, 61, 100, 500, 3000])
    keys = draw.randint(1, 3)
    count = min(400, max(3, int(rpm * keys * draw.uniform(0.5, 3))))
    requests = [(arrival, SMALL) for arrival in draw_arrivals(draw, count)]
    max_latency = draw.choice([0.0, 0.01, 2.0, 30.0])
    limits = Limits(rpm=rpm)

    async def main(clock: Callable[[], float]) -> tuple[Sent, int, float]:
        scheduler = make_scheduler(make_limiters(keys, limits, draw.choice([1, 8, 256])), limits, clock)
        sent, num_replies = await send_all(scheduler, requests, lambda: draw.uniform(0, max_latency))
        return sent, num_replies, clock()

    sent, num_replies, ended_at = simulated(main)
    assert num_replies == count
    for key in {limiter.name for _, limiter, _ in sent}:
        assert max_window_sum([(sent_at, 1.0) for sent_at, limiter, _ in sent if limiter.name == key]) <= rpm
    if max_latency <= 0.01:
        min_duration = count / (keys * rpm) * 60
        assert ended_at <= requests[-1][0] + min_duration * 1.15 + 60 / rpm + 1, "the limit is used up"


@pytest.mark.parametrize("rpm", [0.2, 0.5, 1.5, 10.5])
def test_a_rate_can_be_a_fraction(rpm: float) -> None:
    limits = Limits(rpm=rpm)

    async def main(clock: Callable[[], float]) -> Sent:
        scheduler = make_scheduler(make_limiters(1, limits), limits, clock)
        return (await send_all(scheduler, [(0, SMALL)] * 25, lambda: 0.1))[0]

    sent = simulated(main)
    assert len(sent) == 25
    counts = [(sent_at, 1.0) for sent_at, _, _ in sent]
    assert max_window_sum(counts) <= math.ceil(rpm)
    assert max_window_sum(counts, 600) <= 10 * rpm + 1


@pytest.mark.parametrize("seed", range(30))
def test_no_minute_has_more_tokens_than_tpm(seed: int) -> None:
    """A single request may be a large share of a minute's tokens."""
    draw = random.Random(seed)
    tpm = draw.choice([100, 1000, 30_000])
    largest = tpm * draw.choice([0.02, 0.1, 0.45, 0.9])
    tokens = [TokenCounts(draw.uniform(0.2, 0.6) * largest, draw.uniform(0.1, 0.4) * largest) for _ in range(60)]
    requests = list(zip(draw_arrivals(draw, 60), tokens, strict=True))
    limits = Limits(tpm=tpm)

    async def main(clock: Callable[[], float]) -> tuple[Sent, int]:
        scheduler = make_scheduler(make_limiters(1, limits), limits, clock)
        return await send_all(scheduler, requests, lambda: draw.uniform(0, 1))

    sent, num_replies = simulated(main)
    assert num_replies == 60
    assert max_window_sum([(sent_at, amount) for sent_at, _, amount in sent]) <= tpm + 1


def test_a_request_above_the_limit_is_sent_alone() -> None:
    """The server may reject it, but neither it nor the requests behind it may wait forever."""
    limits = Limits(tpm=100)
    requests = [(0.0, TokenCounts(500, 0)), (0.0, SMALL), (0.0, TokenCounts(5000, 0)), (0.0, SMALL)]

    async def main(clock: Callable[[], float]) -> int:
        scheduler = make_scheduler(make_limiters(1, limits), limits, clock)
        return (await send_all(scheduler, requests, lambda: 0.1))[1]

    assert simulated(main) == 4


def test_unused_tokens_are_returned() -> None:
    """A token limit counts used tokens, not reserved ones."""
    limiter = KeyLimiter("k", "k", Limits(tpm=6000), 64)
    limiter.start(600, 0.0)
    assert limiter.wait_time(600, 0.0) > 1
    limiter.finish(600, 0.0, 0.0)
    assert limiter.wait_time(600, 0.0) == 0


@pytest.mark.parametrize("rpm", [math.inf, 1e12])
def test_a_huge_rate_is_no_limit(rpm: float) -> None:
    limiter = KeyLimiter("k", "k", Limits(rpm=rpm, tpm=rpm), 64)
    for i in range(50):
        assert limiter.wait_time(100, i * 1e-6) == 0
        limiter.start(100, i * 1e-6)


# Several keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latency", [0.0, 1.0])
@pytest.mark.parametrize("keys", [2, 3, 5])
@pytest.mark.parametrize("step", [0.0, 3.0])
def test_keys_are_used_in_rotation(keys: int, latency: float, step: float) -> None:
    limits = Limits()

    async def main(clock: Callable[[], float]) -> Sent:
        scheduler = make_scheduler(make_limiters(keys, limits), limits, clock)
        return (await send_all(scheduler, [(i * step, SMALL) for i in range(10 * keys)], lambda: latency))[0]

    used = Counter(limiter.name for _, limiter, _ in simulated(main))
    assert len(used) == keys
    assert max(used.values()) - min(used.values()) <= 1


def test_a_pause_applies_to_its_key_only() -> None:
    limits = Limits()

    async def main(clock: Callable[[], float]) -> Sent:
        limiters = make_limiters(2, limits)
        limiters[0].pause(30.0, 0.0)
        scheduler = make_scheduler(limiters, limits, clock)
        return (await send_all(scheduler, [(float(i), SMALL) for i in range(60)], lambda: 0.1))[0]

    sent = simulated(main)
    assert len(sent) == 60
    assert [sent_at for sent_at, _, _ in sent] == pytest.approx(range(60)), "no request waited: the other key is free"
    assert min(sent_at for sent_at, limiter, _ in sent if limiter.name == "API key 0") >= 30.0
    assert sum(limiter.name == "API key 0" for _, limiter, _ in sent) >= 10, "it is used again after its pause"


def test_a_rate_limit_sends_its_row_to_another_key() -> None:
    """The other key is free, so the row does not wait."""
    limits = Limits()

    async def main(clock: Callable[[], float]) -> Sent:
        scheduler = make_scheduler(make_limiters(2, limits), limits, clock)
        is_first = lambda limiter, sent_at: sent_at == 0.0  # noqa: E731
        return (await send_all(scheduler, [(0.0, SMALL)], lambda: 0.5, is_limited=is_first, pause=60.0))[0]

    (_, first, _), (sent_at, second, _) = simulated(main)
    assert (first is not second, sent_at) == (True, 0.5)


def test_a_pause_of_an_overloaded_server_applies_to_all_requests_of_its_key() -> None:
    limits = Limits()

    async def main(clock: Callable[[], float]) -> Sent:
        scheduler = make_scheduler(make_limiters(1, limits), limits, clock)
        requests = [(i * 0.05, SMALL) for i in range(40)]
        is_limited = lambda limiter, sent_at: sent_at < 1.0  # noqa: E731
        return (await send_all(scheduler, requests, lambda: 0.01, is_limited=is_limited, pause=10.0))[0]

    times = [sent_at for sent_at, _, _ in simulated(main)]
    assert len([sent_at for sent_at in times if sent_at < 9.9]) <= 6, "a quarter of the last 16"
    assert len(times) <= 46


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    limiter = make_limiters(1, Limits())[0]
    limiter.pause(60.0, 1.0)
    limiter.pause(1.0, 2.0)
    assert limiter.wait_time(1, 2.0) == pytest.approx(59.0)


def test_a_disabled_key_is_not_used() -> None:
    limits = Limits()

    async def main(clock: Callable[[], float]) -> Sent:
        limiters = make_limiters(3, limits)
        limiters[1].disabled_reason = "revoked"
        return (await send_all(make_scheduler(limiters, limits, clock), [(0.0, SMALL)] * 30, lambda: 0.1))[0]

    assert Counter(limiter.name for _, limiter, _ in simulated(main)) == {"API key 0": 15, "API key 2": 15}


@pytest.mark.parametrize(
    ("others", "is_only"),
    [
        ([], True),
        (["paused"], True),
        (["disabled"], True),
        (["paused", "disabled"], True),
        (["free"], False),
        (["paused", "free"], False),
    ],
)
def test_a_key_is_the_only_one_if_all_others_are_paused_or_disabled(others: list[str], is_only: bool) -> None:
    limiters = make_limiters(1 + len(others), Limits())
    for limiter, state in zip(limiters[1:], others, strict=True):
        limiter.disabled_reason = "revoked" if state == "disabled" else ""
        limiter.pause(60.0 if state == "paused" else 0.0, 0.0)
    assert make_scheduler(limiters, Limits(), lambda: 1.0).is_only_key(limiters[0]) is is_only


def test_the_remaining_pause_ends_with_that_of_the_first_free_key() -> None:
    limiters = make_limiters(2, Limits())
    scheduler = make_scheduler(limiters, Limits(), lambda: 5.0)
    assert scheduler.remaining_pause() == 0.0
    for limiter, seconds in zip(limiters, (30.0, 10.0), strict=True):
        limiter.pause(seconds, 5.0)
    assert scheduler.remaining_pause() == pytest.approx(10.0)
    limiters[1].budgets = {"requests": (0.0, 25.0), "tokens": (7.0, 95.0)}
    assert scheduler.remaining_pause() == pytest.approx(20.0), "its budget of requests is used up"


def test_the_free_key_with_the_fewest_requests_in_flight_is_used() -> None:
    limits = Limits()

    async def main(clock: Callable[[], float]) -> list[str]:
        limiters = make_limiters(3, limits)
        for limiter, count in zip(limiters, (3, 0, 2), strict=True):
            limiter.in_flight = count
        scheduler = make_scheduler(limiters, limits, clock)
        acquired = [await scheduler.acquire(SMALL, NEVER) for _ in range(4)]
        return [limiter.name if limiter else "" for limiter in acquired]

    used = simulated(main)
    assert used[:2] == ["API key 1"] * 2
    assert set(used[2:]) == {"API key 1", "API key 2"}, "both have two requests in flight"


# Concurrency -----------------------------------------------------------------------------------------------------


def reject(limiter: KeyLimiter, count: int, sent_at: float) -> None:
    """Send requests at one time, all of which are rejected a second later."""
    numbers = [limiter.next_number() for _ in range(count)]
    for number in numbers:
        limiter.record_rate_limit(None, number, sent_at + 1)


def test_a_round_of_rate_limits_halves_once() -> None:
    limiter = make_limiters(1, Limits(), 64)[0]
    reject(limiter, 64, 0.0)
    assert limiter.concurrency == 32
    reject(limiter, 1, 2.0)
    assert limiter.concurrency == 32, "the server has accepted no request since, whatever the concurrency"
    limiter.record_success({}, 4.0, 0.0)
    reject(limiter, 32, 5.0)
    assert limiter.concurrency <= 17
    for i in range(20):
        limiter.record_success({}, 10.0 + i, 0.0)
        reject(limiter, 16, 10.0 + i)
    assert 1 <= limiter.concurrency < 3, "one request is always possible"


def test_timeouts_of_most_requests_halve_the_concurrency() -> None:
    """A server on one's own machine may be too slow for so many requests at once."""
    limiter = make_limiters(1, Limits(), 64)[0]
    for _ in range(8):
        for number in [limiter.next_number() for _ in range(16)]:
            limiter.record_timeout(number)
    assert limiter.concurrency == 1
    assert limiter.wait_time(1, 100.0) == 0, "a timeout pauses no key"


def test_concurrency_grows_faster_with_every_round_up_to_the_setting() -> None:
    limiter = make_limiters(1, Limits(), 256)[0]
    limiter.concurrency = 1.0
    rounds = 0
    while limiter.concurrency < 256:
        for _ in range(int(limiter.concurrency)):
            limiter.record_success({}, 2.0, 0.0)
        rounds += 1
    assert rounds <= 14
    assert limiter.concurrency == 256


Outcome = tuple[str, float]  # "ok", "limit" or "timeout"; seconds until the response


class Flood(NamedTuple):
    """Counts of requests, the mean number of them in flight while rows are unsent, and the time of the last reply."""

    num_sent: int
    num_rejected: int
    mean_in_flight: float
    seconds: float


def flood(respond: Callable[[float, int], Outcome], count: int, concurrency: int, pause: float | None = None) -> Flood:
    """Send `count` requests that are ready at once, as the engine does.

    Args:
        respond: the time and the number of in-flight requests -> the server's outcome.
        count: number of requests.
        concurrency: maximum number of in-flight requests.
        pause: seconds that a rate limit requests.
    """
    limits = Limits(backoff=0.5)

    async def main(clock: Callable[[], float]) -> Flood:
        (limiter,) = limiters = make_limiters(1, limits, concurrency)
        scheduler = make_scheduler(limiters, limits, clock)
        num_sent = num_rejected = 0
        intervals: list[tuple[float, float]] = []
        first_attempts: list[float] = []

        async def send() -> None:
            nonlocal num_sent, num_rejected
            for attempt in itertools.count():
                assert await scheduler.acquire(SMALL, NEVER, is_retry=attempt > 0)
                sent_at = clock()
                num_sent += 1
                if not attempt:
                    first_attempts.append(sent_at)
                number = limiter.next_number()
                kind, seconds = respond(sent_at, limiter.in_flight)
                await asyncio.sleep(seconds)
                wait = 0.5 * 2.0**attempt
                if kind == "ok":
                    limiter.record_success({}, clock(), 0.0)
                elif kind == "timeout":
                    limiter.record_timeout(number)
                elif limiter.record_rate_limit(pause, number, clock()):
                    wait = 0.0
                else:
                    wait = max(pause or 0.0, wait)
                num_rejected += kind == "limit"
                limiter.finish(0, clock(), sent_at)
                scheduler.spending.finish(SMALL, SMALL)
                intervals.append((sent_at, clock()))
                scheduler.dispatch()
                if kind == "ok":
                    return
                await asyncio.sleep(wait)

        await asyncio.gather(*(send() for _ in range(count)))
        end = first_attempts[-1]
        busy = sum(min(ended_at, end) - sent_at for sent_at, ended_at in intervals if sent_at < end)
        return Flood(num_sent, num_rejected, busy / end if end else 0.0, clock())

    return simulated(main)


@pytest.mark.parametrize("pause", [None, 1.0, 20.0])
@pytest.mark.parametrize("faults", [("limit",), ("timeout",), ("limit", "timeout")])
@pytest.mark.parametrize("seed", range(2))
def test_passing_faults_cost_the_other_rows_nothing(faults: tuple[str, ...], pause: float | None, seed: int) -> None:
    """3 % of the requests have a fault of each kind."""
    draw = random.Random(seed)

    def respond(now: float, in_flight: int) -> Outcome:
        number = draw.random() / 0.03
        if number >= len(faults):
            return "ok", draw.lognormvariate(0, 0.4)
        return faults[int(number)], 0.05 if faults[int(number)] == "limit" else 5.0

    result = flood(respond, 3000, 128, pause)
    assert result.mean_in_flight >= 0.9 * 128
    assert result.num_sent < 3000 * 1.1


def test_the_concurrency_recovers_after_an_outage() -> None:
    """The server rejects everything for ten seconds; then all requests are soon in flight again."""
    in_flight: list[tuple[float, int]] = []

    def respond(now: float, num: int) -> Outcome:
        in_flight.append((now, num))
        return ("limit", 0.05) if 5 <= now < 15 else ("ok", draw.uniform(0.5, 1.5))

    draw = random.Random(0)
    result = flood(respond, 6000, 256)
    assert result.num_rejected <= 40
    full_again = next(now for now, num in in_flight if now > 15 and num >= 250)
    assert full_again <= 36, "the last pause, of up to 8 s, and a few rounds of replies"


@pytest.mark.parametrize(("rate", "max_rejected"), [(60, 18), (600, 30)])
@pytest.mark.parametrize("has_header", [False, True])
def test_a_strict_limit_per_minute_wastes_few_requests(rate: int, max_rejected: int, has_header: bool) -> None:
    """Each minute has a fixed number of requests, and rejections say nothing, or when the next minute begins."""
    counts: Counter[int] = Counter()
    minutes = 5

    def respond(now: float, in_flight: int) -> Outcome:
        counts[int(now // 60)] += 1
        return ("limit", 0.05) if counts[int(now // 60)] > rate else ("ok", 1.0)

    result = flood(respond, rate * minutes, 64, pause=60.0 if has_header else None)
    assert result.num_sent - result.num_rejected == rate * minutes
    assert result.num_rejected <= max_rejected * minutes
    assert result.seconds <= 60 * (minutes + (4 if has_header else 1)), "a pause of 60 s is longer than necessary"


@pytest.mark.parametrize("concurrency", [64, 256])
def test_a_limit_on_parallel_requests_is_found(concurrency: int) -> None:
    """The server processes eight requests at once and rejects all others."""
    busy: list[float] = []

    def respond(now: float, in_flight: int) -> Outcome:
        busy[:] = [ends_at for ends_at in busy if ends_at > now]
        if len(busy) >= 8:
            return "limit", 0.05
        busy.append(now + 1.0)
        return "ok", 1.0

    result = flood(respond, 1000, concurrency)
    assert result.num_rejected <= 0.5 * 1000 + concurrency
    assert result.seconds <= 1000 / 8 * 2, "at least half of the possible rate"


def test_a_server_that_rejects_everything_receives_few_requests() -> None:
    result = flood(lambda now, in_flight: ("limit", 0.05) if now < 600 else ("ok", 1.0), 64, 64)
    assert result.num_rejected <= 64 + 20, "the first round, and one request a pause"


def test_concurrency_is_never_exceeded() -> None:
    limits = Limits()

    async def main(clock: Callable[[], float]) -> int:
        limiter = make_limiters(1, limits, 8)[0]
        max_in_flight = 0

        def is_limited(limiter: KeyLimiter, sent_at: float) -> bool:
            nonlocal max_in_flight
            assert limiter.in_flight <= 8
            max_in_flight = max(max_in_flight, limiter.in_flight)
            return random.Random(sent_at).random() < 0.1

        scheduler = make_scheduler([limiter], limits, clock)
        requests = [(0.0, SMALL)] * 200
        _, num_replies = await send_all(scheduler, requests, lambda: 0.5, is_limited=is_limited, pause=0.3)
        assert num_replies == 200
        assert limiter.in_flight == scheduler.spending.in_flight == 0
        return max_in_flight

    assert simulated(main) == 8


def test_backoff_doubles_up_to_a_minute() -> None:
    limiter = KeyLimiter("k", "k", Limits(backoff=0.5), 64)
    now, waits = 0.0, []
    for _ in range(12):
        reject(limiter, 10, now)  # a round of rate limits counts once
        now += 1
        waits.append(limiter.wait_time(1, now))
        now += waits[-1]
    assert all(later >= before - 1e-6 for before, later in itertools.pairwise(waits))
    assert waits[0] <= 2
    assert waits[-1] == pytest.approx(60.0)
    assert waits[3] >= 4 * waits[0]
    limiter.record_success({}, now, 0.0)
    reject(limiter, 10, now)
    assert limiter.wait_time(1, now + 1) <= 2, "a success resets the backoff"


@pytest.mark.parametrize("pause", [0.0, 0.001])
def test_a_requested_pause_of_zero_does_not_flood_the_server(pause: float) -> None:
    """Real servers send `Retry-After: 0` with every 429, and `retries` does not limit rate limits."""
    limits = Limits()

    async def main(clock: Callable[[], float]) -> Sent:
        scheduler = make_scheduler(make_limiters(1, limits, 8), limits, clock)
        requests = [(0.0, SMALL)] * 8
        is_limited = lambda limiter, sent_at: sent_at < 120  # noqa: E731
        return (await send_all(scheduler, requests, lambda: 0.02, is_limited=is_limited, pause=pause))[0]

    assert len(simulated(main)) < 500, "the server sends only 429 for two minutes"


# Budgets in headers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", ["requests", "tokens"])
def test_an_exhausted_budget_delays_requests_until_its_reset(budget: str) -> None:
    limiter = make_limiters(1, Limits())[0]
    limiter.start(1, 0.0)
    limiter.record_success({f"x-ratelimit-remaining-{budget}": "0", f"x-ratelimit-reset-{budget}": "20s"}, 1.0, 1e9)
    limiter.finish(0, 1.0, 0.0)
    assert limiter.wait_time(1, 1.0) == pytest.approx(20.0)
    assert limiter.wait_time(1, 21.5) == 0
    limiter.record_success({f"x-ratelimit-remaining-{budget}": "5", f"x-ratelimit-reset-{budget}": "20s"}, 22.0, 1e9)
    assert limiter.wait_time(1, 22.0) == 0


def test_requests_reduce_the_remaining_budget() -> None:
    limiter = make_limiters(1, Limits())[0]
    limiter.record_success({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "60s"}, 0.0, 1e9)
    for _ in range(3):
        assert limiter.wait_time(1, 0.0) == 0
        limiter.start(1, 0.0)
    assert limiter.wait_time(1, 0.0) == pytest.approx(60.0)


# Deadlines ------------------------------------------------------------------------------------------------------------


def test_a_request_that_cannot_be_sent_before_the_deadline_fails_at_once() -> None:
    limits = Limits()

    async def main(clock: Callable[[], float]) -> tuple[KeyLimiter | None, float]:
        limiters = make_limiters(1, limits)
        limiters[0].pause(1000.0, 0.0)
        return await make_scheduler(limiters, limits, clock).acquire(SMALL, 100.0), clock()

    assert simulated(main) == (None, 0.0)


def test_a_deadline_applies_while_all_slots_are_occupied() -> None:
    """The in-flight requests hang, so no slot becomes free."""
    limits = Limits()

    async def main(clock: Callable[[], float]) -> tuple[KeyLimiter | None, float]:
        scheduler = make_scheduler(make_limiters(1, limits, 1), limits, clock)
        assert await scheduler.acquire(SMALL, NEVER)
        return await scheduler.acquire(SMALL, 10.0), clock()

    limiter, ended_at = simulated(main)
    assert limiter is None
    assert ended_at == pytest.approx(10.0, abs=0.5)


def test_a_deadline_applies_while_another_stage_uses_up_the_cap() -> None:
    """Stages share the spending: an in-flight request of another stage does not call `dispatch` here."""
    limits = Limits(max_tokens_total=15)

    async def main(clock: Callable[[], float]) -> tuple[KeyLimiter | None, float]:
        spending = Spending()
        spending.start(SMALL)  # a request of the other stage
        return await RequestScheduler(make_limiters(1, limits), spending, limits, clock).acquire(SMALL, 10.0), clock()

    limiter, ended_at = simulated(main)
    assert limiter is None
    assert ended_at == pytest.approx(10.0, abs=0.5)


@pytest.mark.parametrize("pause", [math.inf, 1e300])
def test_a_huge_pause_ends_at_the_deadline(pause: float) -> None:
    limits = Limits()

    async def main(clock: Callable[[], float]) -> KeyLimiter | None:
        limiters = make_limiters(1, limits)
        limiters[0].pause(pause, 0.0)
        return await make_scheduler(limiters, limits, clock).acquire(SMALL, 100.0)

    assert simulated(main) is None


# The queue ------------------------------------------------------------------------------------------------------------


def test_requests_are_sent_in_order_and_retries_first() -> None:
    limits = Limits(rpm=60)

    async def main(clock: Callable[[], float]) -> list[str]:
        scheduler = make_scheduler(make_limiters(1, limits), limits, clock)
        order: list[str] = []

        async def acquire(name: str, is_retry: bool) -> None:
            if await scheduler.acquire(SMALL, NEVER, is_retry=is_retry):
                order.append(name)

        waiting = [asyncio.ensure_future(acquire(name, False)) for name in "abcd"]
        await asyncio.sleep(0)
        waiting.append(asyncio.ensure_future(acquire("retry", True)))
        await asyncio.gather(*waiting)
        return order

    assert simulated(main) == ["a", "retry", "b", "c", "d"]


def test_closing_ends_all_waits() -> None:
    limits = Limits(rpm=1)

    async def main(clock: Callable[[], float]) -> tuple[list[KeyLimiter | None], float]:
        scheduler = make_scheduler(make_limiters(1, limits), limits, clock)
        waiting = [asyncio.ensure_future(scheduler.acquire(SMALL, NEVER)) for _ in range(20)]
        await asyncio.sleep(0)
        scheduler.close("enough")
        results = list(await asyncio.gather(*waiting))
        assert await scheduler.acquire(SMALL, NEVER) is None
        return results, clock()

    results, ended_at = simulated(main)
    assert [limiter is None for limiter in results] == [False, *[True] * 19]
    assert ended_at == 0.0


@pytest.mark.parametrize("seed", range(8))
def test_a_cancelled_request_releases_its_slot_and_tokens(seed: int) -> None:
    """After Ctrl-C in a notebook, occupied slots or reserved tokens would slow down or stop every later stage.

    A request can be cancelled after it is dispatched and before its task resumes.
    """
    draw = random.Random(seed)
    limits = Limits(rpm=600, max_tokens_total=10**9)

    async def main(clock: Callable[[], float]) -> None:
        scheduler = make_scheduler(make_limiters(2, limits, 2), limits, clock)

        async def send() -> None:
            limiter = await scheduler.acquire(SMALL, NEVER)
            assert limiter is not None
            try:
                await asyncio.sleep(draw.uniform(0, 1))
            finally:
                limiter.finish(0, clock(), clock())
                scheduler.spending.finish(SMALL, SMALL)
                scheduler.dispatch()

        tasks = [asyncio.ensure_future(send()) for _ in range(30)]
        await asyncio.sleep(draw.uniform(0, 3))
        for task in draw.sample(tasks, 15):
            task.cancel()  # the `finally` of one task can dispatch the request of the next cancelled task
        await asyncio.sleep(draw.uniform(0, 1))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [limiter.in_flight for limiter in scheduler.limiters] == [0, 0]
        assert (scheduler.spending.in_flight, scheduler.spending.reserved_prompt) == (0, 0)
        assert await scheduler.acquire(SMALL, clock() + 5) is not None, "the next stage can send requests"

    simulated(main)


def test_a_dispatched_request_that_is_cancelled_is_not_counted() -> None:
    limits = Limits()

    async def main(clock: Callable[[], float]) -> None:
        scheduler = make_scheduler(make_limiters(1, limits, 1), limits, clock)
        limiter = await scheduler.acquire(SMALL, NEVER)
        assert limiter is not None
        waiting = asyncio.ensure_future(scheduler.acquire(SMALL, NEVER))
        await asyncio.sleep(0)
        limiter.finish(0, clock(), clock())
        scheduler.spending.finish(SMALL, SMALL)
        scheduler.dispatch()  # dispatches `waiting`, whose task has not resumed
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert limiter.in_flight == scheduler.spending.in_flight == 0
        assert scheduler.spending.requests == 1, "it was never sent"

    simulated(main)


@pytest.mark.parametrize("seed", range(25))
def test_every_request_gets_a_reply(seed: int) -> None:
    """Random limits, keys, rate limits and pauses: no request starves, and every slot is released."""
    draw = random.Random(seed)
    limits = Limits(
        rpm=draw.choice([None, 30, 300]), tpm=draw.choice([None, 2000, 20_000]), backoff=draw.choice([0.01, 1.0])
    )
    pause = draw.choice([None, 0.0, 0.5, 20.0])
    requests = [
        (arrival, TokenCounts(draw.uniform(1, 200), draw.uniform(1, 50))) for arrival in draw_arrivals(draw, 60)
    ]

    async def main(clock: Callable[[], float]) -> tuple[int, RequestScheduler]:
        scheduler = make_scheduler(make_limiters(draw.randint(1, 3), limits, draw.choice([1, 16])), limits, clock)
        is_limited = lambda limiter, sent_at: draw.random() < 0.2  # noqa: E731
        latency = lambda: draw.uniform(0, 2)  # noqa: E731
        _, num_replies = await send_all(scheduler, requests, latency, is_limited=is_limited, pause=pause)
        return num_replies, scheduler

    num_replies, scheduler = simulated(main)
    assert num_replies == 60
    assert not scheduler.queue
    assert sum(limiter.in_flight for limiter in scheduler.limiters) == scheduler.spending.in_flight == 0


@pytest.mark.parametrize("tokens", [600.0, 1500.0, 3200.0, 4000.0])
def test_returned_tokens_permit_no_later_minute_more_than_its_limit(tokens: float) -> None:
    """An unused reservation is returned for the time at which it was reserved, not for the time of the reply."""
    limiter = KeyLimiter("k", "k", Limits(tpm=6000), 64)
    limiter.start(tokens, 0.0)
    limiter.finish(tokens, 50.0, 0.0)
    now, sent = 61.0, []
    while now < 200.0:
        if (wait := limiter.wait_time(tokens, now)) <= 0:
            limiter.start(tokens, now)
            limiter.finish(0, now, now)
            sent.append((now, tokens))
        now += max(wait, 0.01)
    assert max_window_sum(sent) <= 6000


def test_the_responses_of_one_burst_halve_once_and_the_longest_pause_counts() -> None:
    """The requests were sent together; their rejections arrive one after the other, with different pauses."""
    limiter = make_limiters(1, Limits(), 64)[0]
    numbers = [limiter.next_number() for _ in range(32)]
    for n, number in enumerate(numbers):
        limiter.record_rate_limit(20.0 if n == 20 else 2.0, number, 0.01 * n)
    assert limiter.concurrency == 32
    assert limiter.consecutive_rate_limits == 1
    assert limiter.wait_time(1, 1.0) == pytest.approx(20.0 + 0.2 - 1.0)


def test_only_rejections_of_requests_sent_one_after_the_other_mean_an_overload() -> None:
    """A slow rejection of an early request is not added to those of much later ones."""
    for order in ([10, 30, 50, 70, 90, 110, 130, 150], [150, 130, 110, 90, 70, 50, 30, 10], [90, 150, 10, 130, 50, 70]):
        limiter = make_limiters(1, Limits(), 64)[0]
        for _ in range(200):
            limiter.next_number()
        assert [limiter.record_rate_limit(5.0, number, 1.0) for number in order] == [False] * len(order)
        for number in order:
            limiter.record_timeout(number)
        assert (limiter.concurrency, limiter.wait_time(1, 1.0)) == (64, 0)
    assert [limiter.record_rate_limit(5.0, number, 1.0) for number in range(180, 186)] == [False] * 5 + [True]
