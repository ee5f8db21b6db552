"""Budget: no cap is exceeded, and every billed token is counted."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.engines.openai_api.test_rate_limits import NEVER, SMALL, make_limiters, simulated
from tests.support.api_server import ApiServer, ServerReply, completion, error, rate_limited
from toolrlef_data.engines.openai_api.budget import SPENDING_BY_MODEL, Spending, TokenCounts, spending_of
from toolrlef_data.engines.openai_api.engine import OpenAIEngine
from toolrlef_data.engines.openai_api.scheduler import RequestScheduler
from toolrlef_data.engines.openai_api.session import Session
from toolrlef_data.engines.spec import EngineSpec, Limits, Request
from toolrlef_data.records import InputError, Reply


def cost_of(limits: Limits, prompt: float, completion: float) -> float:
    prompt_price, completion_price = limits.price or (0.0, 0.0)
    return (prompt * prompt_price + completion * completion_price) / 1e6 * (0.5 if limits.mode == "batch" else 1)


@pytest.mark.parametrize("seed", range(80))
def test_no_cap_is_exceeded(seed: int) -> None:
    """Many requests are in flight and use at most their reserved tokens; the caps are nearly used up."""
    draw = random.Random(seed)
    largest = draw.choice([10, 300, 5000])
    limits = Limits(
        max_requests=draw.choice([None, 0, 1, 17]),
        max_tokens_total=draw.choice([None, 0, 1, 400, 20_000]),
        max_cost=draw.choice([None, 0, 1e-4, 0.02]),
        price=draw.choice([(0.15, 0.6), (3.0, 15.0)]),
        mode=draw.choice(["direct", "batch"]),
    )
    spending = Spending()
    num_sent, total = 0, [0.0, 0.0]

    async def main(clock: Callable[[], float]) -> str:
        nonlocal num_sent
        scheduler = RequestScheduler(make_limiters(1, limits, 16), spending, limits, clock)

        async def send() -> None:
            nonlocal num_sent
            reserved = TokenCounts(draw.randint(1, largest), draw.randint(1, largest))
            limiter = await scheduler.acquire(reserved, NEVER)
            if limiter is None:
                return
            num_sent += 1
            await asyncio.sleep(draw.random())
            used = TokenCounts(draw.randint(0, int(reserved.prompt)), draw.randint(0, int(reserved.completion)))
            total[0] += used.prompt
            total[1] += used.completion
            limiter.finish(sum(reserved) - sum(used), clock(), clock())
            spending.finish(reserved, used)
            scheduler.dispatch()

        await asyncio.gather(*(send() for _ in range(120)))
        return scheduler.closed_reason

    closed_reason = simulated(main)
    assert num_sent == spending.requests
    assert [spending.prompt_tokens, spending.completion_tokens] == total
    assert (spending.in_flight, spending.reserved_prompt, spending.reserved_completion) == (0, 0, 0)
    if limits.max_requests is not None:
        assert num_sent <= limits.max_requests
    if limits.max_tokens_total is not None:
        assert sum(total) <= limits.max_tokens_total
    if limits.max_cost is not None:
        assert cost_of(limits, *total) <= limits.max_cost * (1 + 1e-9)
    assert num_sent == 120 or closed_reason, "there is a reason for every unsent request"
    assert not closed_reason or any(cap in closed_reason for cap in ("max_requests", "max_tokens_total", "max_cost"))
    if closed_reason.startswith("max_requests"):
        assert num_sent == limits.max_requests
    if closed_reason.startswith("max_tokens_total") and limits.max_tokens_total is not None:
        assert sum(total) + 2 * largest > limits.max_tokens_total, "the largest request would exceed the cap"


@pytest.mark.parametrize(
    ("limits", "tokens", "is_refused"),
    [
        (Limits(), TokenCounts(1e12, 1e12), False),
        (Limits(max_requests=0), SMALL, True),  # send nothing: use stored replies only
        (Limits(max_tokens_total=0), SMALL, True),
        (Limits(max_cost=0, price=(1, 1)), SMALL, True),
        (Limits(max_cost=0, price=(0, 0)), SMALL, False),  # a free server costs nothing
        (Limits(max_requests=1), SMALL, False),
        (Limits(max_tokens_total=10), SMALL, False),  # reaching the cap does not exceed it
        (Limits(max_tokens_total=9), SMALL, True),
        (Limits(max_cost=10e-6, price=(1, 1)), SMALL, False),
        (Limits(max_cost=5e-6, price=(1, 1), mode="batch"), SMALL, False),  # a batch costs half
        (Limits(max_cost=5e-6, price=(1, 1)), SMALL, True),
        (Limits(max_cost=5e-6, price=(1, 0)), SMALL, False),
        (Limits(max_cost=5e-6, price=(0, 2)), SMALL, True),
    ],
)
def test_a_cap_can_refuse_the_first_request(limits: Limits, tokens: TokenCounts, is_refused: bool) -> None:
    assert bool(Spending().exceeded_cap(limits, tokens)) == is_refused


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(max_requests=0), ["max_requests=0"]),
        (Limits(max_tokens_total=7), ["max_tokens_total=7", "10"]),
        (Limits(max_cost=0.5, price=(1e6, 1e6)), ["max_cost=0.5", "10"]),
    ],
)
def test_the_message_names_the_cap(limits: Limits, words: list[str]) -> None:
    exceeded_cap = Spending().exceeded_cap(limits, SMALL)
    assert exceeded_cap is not None
    assert all(word in exceeded_cap.message for word in words)


def test_a_cap_of_zero_sends_nothing_and_does_not_wait() -> None:
    async def main(clock: Callable[[], float]) -> None:
        for limits in (Limits(max_requests=0), Limits(max_tokens_total=0), Limits(max_cost=0, price=(1, 1))):
            scheduler = RequestScheduler(make_limiters(1, limits), Spending(), limits, clock)
            assert await scheduler.acquire(SMALL, NEVER) is None
            assert scheduler.closed_reason
            assert scheduler.spending.requests == 0
        assert clock() == 0

    simulated(main)


def test_an_in_flight_request_counts_with_its_reserved_tokens() -> None:
    limits = Limits(max_tokens_total=25)
    spending = Spending()
    spending.start(SMALL)
    spending.start(SMALL)
    assert spending.exceeded_cap(limits, SMALL)
    spending.finish(SMALL, TokenCounts(1, 1))  # it used fewer tokens, so the next request fits
    assert not spending.exceeded_cap(limits, SMALL)


def test_a_cap_waits_for_in_flight_requests() -> None:
    """The second request fits if the first one uses fewer tokens than reserved."""
    limits = Limits(max_tokens_total=15)

    async def main(clock: Callable[[], float]) -> float:
        scheduler = RequestScheduler(make_limiters(1, limits), Spending(), limits, clock)
        limiter = await scheduler.acquire(SMALL, NEVER)
        assert limiter is not None
        waiting = asyncio.ensure_future(scheduler.acquire(SMALL, NEVER))
        await asyncio.sleep(3)
        assert not waiting.done()
        assert not scheduler.closed_reason
        limiter.finish(8, clock(), clock())
        scheduler.spending.finish(SMALL, TokenCounts(1, 1))
        scheduler.dispatch()
        assert await waiting is limiter
        return clock()

    assert simulated(main) == pytest.approx(3)


def test_rounding_errors_of_reserved_tokens_do_not_add_up() -> None:
    """Prompt tokens are estimated, so reserved tokens are fractions."""
    draw = random.Random(1)
    spending = Spending()
    reservations = [TokenCounts(draw.uniform(0, 100) / 3, draw.uniform(0, 100) / 7) for _ in range(500)]
    for reserved in reservations:
        spending.start(reserved)
    for reserved in draw.sample(reservations, len(reservations)):
        spending.finish(reserved, TokenCounts(1, 1))
    assert spending.in_flight == 0
    assert not spending.exceeded_cap(Limits(max_tokens_total=1010), SMALL)


def test_failed_requests_count() -> None:
    limits = Limits(max_requests=2, price=(1e6, 1e6))
    spending = Spending()
    for _ in range(2):
        assert not spending.exceeded_cap(limits, SMALL)
        spending.start(SMALL)
        spending.finish(SMALL, TokenCounts(0, 0))
    assert spending.exceeded_cap(limits, SMALL)
    assert spending.cost(limits) == 0


def test_spending_is_counted_per_model_and_server() -> None:
    SPENDING_BY_MODEL.clear()
    spending = spending_of("http://a/v1", "m")
    spending.start(SMALL)
    assert spending_of("http://a/v1", "m") is spending
    assert spending_of("http://a/v1", "n").requests == spending_of("http://b/v1", "m").requests == 0
    SPENDING_BY_MODEL.clear()


@pytest.mark.parametrize(
    ("limits", "cost"),
    [
        (Limits(), None),  # without a price, the cost is unknown
        (Limits(price=(0.15, 0.60)), 0.75),
        (Limits(price=(0.15, 0.60), mode="batch"), 0.375),
        (Limits(price=(0, 0)), 0.0),
    ],
)
def test_cost_of_prompt_and_completion_tokens(limits: Limits, cost: float | None) -> None:
    spending = Spending(requests=1, prompt_tokens=1e6, completion_tokens=1e6)
    assert spending.cost(limits) == (None if cost is None else pytest.approx(cost))


@pytest.mark.parametrize(
    "settings",
    [
        {"max_requests": -1},
        {"max_tokens_total": -1},
        {"max_cost": -0.1, "price": (1, 1)},
        {"max_cost": 1},  # without a price
        {"max_cost": math.nan, "price": (1, 1)},  # every comparison with NaN is false, so it would be no cap
        {"max_cost": 1, "price": (math.nan, math.nan)},
        {"max_cost": 1, "price": (math.nan, 1)},
        {"max_cost": 1, "price": (1, math.nan)},
        {"price": (1,)},
        {"price": (1, 2, 3)},
        {"price": (-1, 2)},
        {"price": 5},
        {"price": ("1", "2")},
        {"max_requests": "10"},
        {"rpm": 0},
        {"rpm": -5},
        {"tpm": math.nan},
        {"deadline": 0},
        {"backoff": -1},
        {"mode": "fast"},
    ],
)
def test_invalid_limits_are_rejected(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Limits(**settings)


def test_the_estimated_bytes_of_a_token_fall_at_once_and_rise_slowly() -> None:
    """An estimate that is too high reserves too few tokens, and a cap would be exceeded."""
    session = Session(EngineSpec("openai_api", "m", base_url="http://127.0.0.1:9/v1"))
    first = session.bytes_per_token
    for num_tokens in (None, 0):
        session.update_bytes_per_token(Reply("4", prompt_tokens=num_tokens), 300)
        assert session.bytes_per_token == first, "the server reports no tokens"
    session.update_bytes_per_token(Reply("4", prompt_tokens=100), 120)
    low = session.bytes_per_token
    assert 1.0 < low <= 1.2
    for _ in range(10):
        session.update_bytes_per_token(Reply("4", prompt_tokens=10), 100)
    assert low < session.bytes_per_token < low + 2
    session.update_bytes_per_token(Reply("4", prompt_tokens=100_000), 100)
    assert 0 < session.bytes_per_token < low, "a count that cannot be right does not stop the run"


@pytest.mark.parametrize(
    ("first", "is_billed"),
    [
        (error(500, None, "boom"), False),
        (error(503, "overloaded", "later"), False),
        (rate_limited(**{"retry-after-ms": "1"}), False),
        (ServerReply(200, {"error": {"code": 429, "message": "Rate limit exceeded"}}), False),
        (ServerReply(200, b"{}"), True),
        (ServerReply(drop="body"), True),
    ],
)
def test_only_requests_that_a_server_may_have_processed_cost_tokens(first: ServerReply, is_billed: bool) -> None:
    SPENDING_BY_MODEL.clear()
    reply = completion("It is 4.", usage=(40, 10))
    with ApiServer(lambda received, repeats: reply if repeats else first) as server:
        spec = EngineSpec(
            "openai_api", "m", base_url=server.url, max_tokens=70, limits=Limits(backoff=0.001), progress=False
        )
        with OpenAIEngine(spec) as engine:
            replies = list(engine.generate([("a", Request(prompt="question"))]))
        assert [reply.text for batch in replies for _, reply in batch] == ["It is 4."]
        spending = spending_of(server.url, "m")
        assert (spending.requests, spending.in_flight) == (2, 0)
        assert spending.completion_tokens == (10 + 70 if is_billed else 10)
        assert (spending.prompt_tokens > 40) is is_billed
