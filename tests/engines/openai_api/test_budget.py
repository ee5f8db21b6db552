"""Spending: no cap is ever exceeded, whatever requests need and use, and what is paid for is counted."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.engines.openai_api.test_rate_limits import NEVER, SMALL, gates_of, simulated
from toolrlef_data.engines.openai_api.budget import SPENDING_BY_MODEL, Need, Spending, spending_of
from toolrlef_data.engines.openai_api.rate_limits import Turns
from toolrlef_data.engines.spec import Limits
from toolrlef_data.records import InputError


def priced(limits: Limits, prompt: float, completion: float) -> float:
    per_prompt, per_completion = limits.price or (0.0, 0.0)
    return (prompt * per_prompt + completion * per_completion) / 1e6 * (0.5 if limits.mode == "batch" else 1)


@pytest.mark.parametrize("seed", range(80))
def test_no_cap_is_exceeded(seed: int) -> None:
    """Requests that use at most what they said, many under way at once; and a cap is used, not feared."""
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
    sent, used_up = 0, [0.0, 0.0]

    async def main(clock: Callable[[], float]) -> str:
        nonlocal sent
        turns = Turns(gates_of(1, limits, 16), spending, limits, clock)

        async def row() -> None:
            nonlocal sent
            need = Need(draw.randint(1, largest), draw.randint(1, largest))
            gate = await turns.enter(need, NEVER)
            if gate is None:
                return
            sent += 1
            await asyncio.sleep(draw.random())
            used = Need(draw.randint(0, int(need.prompt)), draw.randint(0, int(need.completion)))
            used_up[0] += used.prompt
            used_up[1] += used.completion
            gate.finish(sum(need) - sum(used), clock(), clock())
            spending.finish(need, used)
            turns.move()

        await asyncio.gather(*(row() for _ in range(120)))
        return turns.closed

    closed = simulated(main)
    assert sent == spending.requests
    assert [spending.prompt, spending.completion] == used_up
    assert (spending.under_way, spending.reserved_prompt, spending.reserved_completion) == (0, 0, 0)
    if limits.max_requests is not None:
        assert sent <= limits.max_requests
    if limits.max_tokens_total is not None:
        assert sum(used_up) <= limits.max_tokens_total
    if limits.max_cost is not None:
        assert priced(limits, *used_up) <= limits.max_cost * (1 + 1e-9)
    assert sent == 120 or closed, "who is not sent is told why"
    assert not closed or any(name in closed for name in ("max_requests", "max_tokens_total", "max_cost"))
    if closed.startswith("max_requests"):
        assert sent == limits.max_requests
    if closed.startswith("max_tokens_total") and limits.max_tokens_total is not None:
        assert sum(used_up) + 2 * largest > limits.max_tokens_total, "no request of this size would have fitted"


@pytest.mark.parametrize(
    ("limits", "need", "refused"),
    [
        (Limits(), Need(1e12, 1e12), False),
        (Limits(max_requests=0), SMALL, True),  # nothing at all: to use the store alone
        (Limits(max_tokens_total=0), SMALL, True),
        (Limits(max_cost=0, price=(1, 1)), SMALL, True),
        (Limits(max_cost=0, price=(0, 0)), SMALL, False),  # a free server costs nothing
        (Limits(max_requests=1), SMALL, False),
        (Limits(max_tokens_total=10), SMALL, False),  # exactly the cap is not above it
        (Limits(max_tokens_total=9), SMALL, True),
        (Limits(max_cost=10e-6, price=(1, 1)), SMALL, False),
        (Limits(max_cost=5e-6, price=(1, 1), mode="batch"), SMALL, False),  # a batch costs half
        (Limits(max_cost=5e-6, price=(1, 1)), SMALL, True),
        (Limits(max_cost=5e-6, price=(1, 0)), SMALL, False),
        (Limits(max_cost=5e-6, price=(0, 2)), SMALL, True),
    ],
)
def test_the_first_request(limits: Limits, need: Need, refused: bool) -> None:
    assert bool(Spending().refusal(limits, need)) == refused


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(max_requests=0), ["max_requests=0"]),
        (Limits(max_tokens_total=7), ["max_tokens_total=7", "10"]),
        (Limits(max_cost=0.5, price=(1e6, 1e6)), ["max_cost=0.5", "10"]),
    ],
)
def test_the_reason_names_the_cap(limits: Limits, words: list[str]) -> None:
    assert all(word in Spending().refusal(limits, SMALL) for word in words)


def test_a_cap_of_nothing_sends_nothing_and_does_not_wait() -> None:
    async def main(clock: Callable[[], float]) -> None:
        for limits in (Limits(max_requests=0), Limits(max_tokens_total=0), Limits(max_cost=0, price=(1, 1))):
            turns = Turns(gates_of(1, limits), Spending(), limits, clock)
            assert await turns.enter(SMALL, NEVER) is None
            assert turns.closed
            assert turns.spending.requests == 0
        assert clock() == 0

    simulated(main)


def test_what_is_under_way_counts_with_all_that_it_may_use() -> None:
    limits = Limits(max_tokens_total=25)
    spending = Spending()
    spending.start(SMALL)
    spending.start(SMALL)
    assert spending.refusal(limits, SMALL)
    spending.finish(SMALL, Need(1, 1))  # it used less: now there is room
    assert not spending.refusal(limits, SMALL)


def test_a_cap_waits_for_what_is_under_way() -> None:
    """The next request may fit when the first one took less than it might have."""
    limits = Limits(max_tokens_total=15)

    async def main(clock: Callable[[], float]) -> float:
        turns = Turns(gates_of(1, limits), Spending(), limits, clock)
        gate = await turns.enter(SMALL, NEVER)
        assert gate is not None
        waiting = asyncio.ensure_future(turns.enter(SMALL, NEVER))
        await asyncio.sleep(3)
        assert not waiting.done()
        assert not turns.closed
        gate.finish(8, clock(), clock())
        turns.spending.finish(SMALL, Need(1, 1))
        turns.move()
        assert await waiting is gate
        return clock()

    assert simulated(main) == pytest.approx(3)


def test_books_that_were_kept_in_fractions_balance() -> None:
    """Prompts are estimated, so reserves are fractions: what is over leaves no crumb that a cap would count."""
    draw = random.Random(1)
    spending = Spending()
    needs = [Need(draw.uniform(0, 100) / 3, draw.uniform(0, 100) / 7) for _ in range(500)]
    for need in needs:
        spending.start(need)
    for need in draw.sample(needs, len(needs)):
        spending.finish(need, Need(1, 1))
    assert spending.under_way == 0
    assert not spending.refusal(Limits(max_tokens_total=1010), SMALL)


def test_requests_count_also_where_they_failed() -> None:
    limits = Limits(max_requests=2, price=(1e6, 1e6))
    spending = Spending()
    for _ in range(2):
        assert not spending.refusal(limits, SMALL)
        spending.start(SMALL)
        spending.finish(SMALL, Need(0, 0))
    assert spending.refusal(limits, SMALL)
    assert spending.cost(limits) == 0


def test_the_books_are_of_one_model_of_one_server() -> None:
    SPENDING_BY_MODEL.clear()
    books = spending_of("http://a/v1", "m")
    books.start(SMALL)
    assert spending_of("http://a/v1", "m") is books
    assert spending_of("http://a/v1", "n").requests == spending_of("http://b/v1", "m").requests == 0
    SPENDING_BY_MODEL.clear()


@pytest.mark.parametrize(
    ("limits", "cost"),
    [
        (Limits(), None),  # unknown is not free
        (Limits(price=(0.15, 0.60)), 0.75),
        (Limits(price=(0.15, 0.60), mode="batch"), 0.375),
        (Limits(price=(0, 0)), 0.0),
    ],
)
def test_cost(limits: Limits, cost: float | None) -> None:
    spending = Spending(requests=1, prompt=1e6, completion=1e6)
    assert spending.cost(limits) == (None if cost is None else pytest.approx(cost))


@pytest.mark.parametrize(
    "settings",
    [
        {"max_requests": -1},
        {"max_tokens_total": -1},
        {"max_cost": -0.1, "price": (1, 1)},
        {"max_cost": 1},  # of what?
        {"max_cost": math.nan, "price": (1, 1)},  # every comparison with it is false: no cap at all
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
def test_limits_that_mean_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Limits(**settings)
