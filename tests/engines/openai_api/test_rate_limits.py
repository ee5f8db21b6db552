"""Rates, by a simulated clock: hours of traffic in milliseconds, and a wait that nothing would end is an error.

The promises: no minute holds more than its limit, progress is always made, a pause is its key's alone, and whoever
leaves the queue leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import selectors
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from toolrlef_data.engines.openai_api.budget import Need, Spending
from toolrlef_data.engines.openai_api.rate_limits import Gate, Turns
from toolrlef_data.engines.spec import Limits

T = TypeVar("T")
SMALL = Need(5, 5)
NEVER = math.inf


class Jump(selectors.SelectSelector):
    """Time goes on in jumps to the next timer; without one, nothing would ever happen again."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 1e7:
            raise RuntimeError("nobody would ever wake the run")
        self.now += max(0.0, timeout)
        return super().select(0)


def simulated(main: Callable[[Callable[[], float]], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine whose clock is the loop's own."""
    jump = Jump()
    loop = asyncio.SelectorEventLoop(jump)
    loop.time = lambda: jump.now  # type: ignore[method-assign]
    try:
        return loop.run_until_complete(main(loop.time))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        jump.now += 1
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def gates_of(count: int, limits: Limits, most: int = 64) -> list[Gate]:
    return [Gate(f"key {i}", f"API key {i}", limits, most) for i in range(count)]


Sent = list[tuple[float, Gate, float]]  # when, with which key, tokens


async def traffic(
    turns: Turns,
    rows: Sequence[tuple[float, Need]],
    latency: Callable[[], float],
    deadline: float = NEVER,
    limited: Callable[[Gate, float], bool] = lambda gate, now: False,
    pause: float | None = None,
) -> tuple[Sent, int]:
    """Rows that come at their times, as the engine sends them; what was sent, and how many were answered."""
    sent: Sent = []
    answered = 0

    async def row(arrives: float, need: Need) -> None:
        nonlocal answered
        await asyncio.sleep(arrives)
        ends = turns.clock() + deadline
        again = False
        while (gate := await turns.enter(need, ends, again=again)) is not None:
            at = turns.clock()
            sent.append((at, gate, sum(need)))
            refused = limited(gate, at)
            await asyncio.sleep(latency())
            if refused:
                gate.refuse(pause, at, turns.clock())
            else:
                gate.succeed({}, turns.clock(), 0.0)
            gate.finish(0, turns.clock(), at)
            turns.spending.finish(need, Need(0, 0) if refused else need)
            turns.move()
            if not refused:
                answered += 1
                return
            again = True

    await asyncio.gather(*(row(*one) for one in rows))
    return sent, answered


def fullest(sent: Sequence[tuple[float, float]], window: float = 60.0) -> float:
    """The most that any window holds; `sent` is (when, how much), in order of time."""
    most = total = 0.0
    first = 0
    for when, amount in sent:
        total += amount
        while sent[first][0] <= when - window + 1e-6:
            total -= sent[first][1]
            first += 1
        most = max(most, total)
    return most


def arrivals(draw: random.Random, count: int) -> list[float]:
    """All at once, a stream, bursts with rests between, or a late crowd."""
    kind = draw.randrange(4)
    if kind == 0:
        return [0.0] * count
    if kind == 1:
        return sorted(draw.uniform(0, 120) for _ in range(count))
    if kind == 2:
        return [90.0 * (i // max(1, count // 3)) for i in range(count)]
    return [0.0, *(59.9 + draw.random() for _ in range(count - 1))]


# A minute ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_no_minute_holds_more_requests_than_rpm(seed: int) -> None:
    draw = random.Random(seed)
    rpm = draw.choice([1, 2, 3, 7, 10, 59, 60, 61, 100, 500, 3000])
    keys = draw.randint(1, 3)
    count = min(400, max(3, int(rpm * keys * draw.uniform(0.5, 3))))
    rows = [(at, SMALL) for at in arrivals(draw, count)]
    slow = draw.choice([0.0, 0.01, 2.0, 30.0])
    limits = Limits(rpm=rpm)

    async def main(clock: Callable[[], float]) -> tuple[Sent, int, float]:
        turns = Turns(gates_of(keys, limits, draw.choice([1, 8, 256])), Spending(), limits, clock)
        sent, answered = await traffic(turns, rows, lambda: draw.uniform(0, slow))
        return sent, answered, clock()

    sent, answered, ended = simulated(main)
    assert answered == count
    for key in {gate.name for _, gate, _ in sent}:
        assert fullest([(at, 1.0) for at, gate, _ in sent if gate.name == key]) <= rpm
    if slow <= 0.01:
        least = count / (keys * rpm) * 60
        assert ended <= rows[-1][0] + least * 1.15 + 60 / rpm + 1, "the limit is used"


@pytest.mark.parametrize("rpm", [0.2, 0.5, 1.5, 10.5])
def test_a_rate_may_be_a_fraction(rpm: float) -> None:
    limits = Limits(rpm=rpm)

    async def main(clock: Callable[[], float]) -> Sent:
        return (await traffic(Turns(gates_of(1, limits), Spending(), limits, clock), [(0, SMALL)] * 25, lambda: 0.1))[0]

    sent = simulated(main)
    assert len(sent) == 25
    assert fullest([(at, 1.0) for at, _, _ in sent]) <= math.ceil(rpm)
    assert fullest([(at, 1.0) for at, _, _ in sent], 600) <= 10 * rpm + 1


@pytest.mark.parametrize("seed", range(30))
def test_no_minute_holds_more_tokens_than_tpm(seed: int) -> None:
    """Also where a single request is a large share of a minute's tokens."""
    draw = random.Random(seed)
    tpm = draw.choice([100, 1000, 30_000])
    largest = tpm * draw.choice([0.02, 0.1, 0.45, 0.9])
    needs = [Need(draw.uniform(0.2, 0.6) * largest, draw.uniform(0.1, 0.4) * largest) for _ in range(60)]
    rows = list(zip(arrivals(draw, 60), needs, strict=True))
    limits = Limits(tpm=tpm)

    async def main(clock: Callable[[], float]) -> tuple[Sent, int]:
        turns = Turns(gates_of(1, limits), Spending(), limits, clock)
        return await traffic(turns, rows, lambda: draw.uniform(0, 1))

    sent, answered = simulated(main)
    assert answered == 60
    assert fullest([(at, tokens) for at, _, tokens in sent]) <= tpm + 1


def test_a_request_above_the_whole_limit_goes_alone() -> None:
    """It may fail at the server, but it may not wait for ever, nor may those behind it."""
    limits = Limits(tpm=100)
    rows = [(0.0, Need(500, 0)), (0.0, SMALL), (0.0, Need(5000, 0)), (0.0, SMALL)]

    async def main(clock: Callable[[], float]) -> int:
        return (await traffic(Turns(gates_of(1, limits), Spending(), limits, clock), rows, lambda: 0.1))[1]

    assert simulated(main) == 4


def test_tokens_that_were_not_used_come_back() -> None:
    """A limit on tokens counts what a reply took, not what it might have taken."""
    gate = Gate("k", "k", Limits(tpm=6000), 64)
    gate.start(600, 0.0)
    assert gate.wait(600, 0.0) > 1
    gate.finish(600, 0.0, 0.0)
    assert gate.wait(600, 0.0) == 0


@pytest.mark.parametrize("rpm", [math.inf, 1e12])
def test_an_endless_rate_is_none(rpm: float) -> None:
    gate = Gate("k", "k", Limits(rpm=rpm, tpm=rpm), 64)
    for i in range(50):
        assert gate.wait(100, i * 1e-6) == 0
        gate.start(100, i * 1e-6)


# Several keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latency", [0.0, 1.0])
@pytest.mark.parametrize("keys", [2, 3, 5])
@pytest.mark.parametrize("step", [0.0, 3.0])
def test_keys_are_used_in_turn(keys: int, latency: float, step: float) -> None:
    limits = Limits()

    async def main(clock: Callable[[], float]) -> Sent:
        turns = Turns(gates_of(keys, limits), Spending(), limits, clock)
        return (await traffic(turns, [(i * step, SMALL) for i in range(10 * keys)], lambda: latency))[0]

    used = Counter(gate.name for _, gate, _ in simulated(main))
    assert len(used) == keys
    assert max(used.values()) - min(used.values()) <= 1


def test_a_pause_holds_for_its_key_and_no_other() -> None:
    limits = Limits()

    async def main(clock: Callable[[], float]) -> Sent:
        gates = gates_of(2, limits)
        gates[0].refuse(30.0, 0.0, 0.0)
        turns = Turns(gates, Spending(), limits, clock)
        return (await traffic(turns, [(float(i), SMALL) for i in range(60)], lambda: 0.1))[0]

    sent = simulated(main)
    assert len(sent) == 60
    assert [at for at, _, _ in sent] == pytest.approx(range(60)), "nobody waited: the other key is free"
    assert min(at for at, gate, _ in sent if gate.name == "API key 0") >= 30.0
    assert sum(gate.name == "API key 0" for _, gate, _ in sent) >= 10, "it is used again after its pause"


def test_a_pause_holds_for_all_requests_of_its_key() -> None:
    limits = Limits()

    async def main(clock: Callable[[], float]) -> Sent:
        turns = Turns(gates_of(1, limits), Spending(), limits, clock)
        first: list[float] = []

        def limited(gate: Gate, at: float) -> bool:
            first.append(at)
            return len(first) == 1

        rows = [(i * 0.05, SMALL) for i in range(40)]
        return (await traffic(turns, rows, lambda: 0.2, limited=limited, pause=10.0))[0]

    times = [at for at, _, _ in simulated(main)]
    assert len(times) == 41
    assert not [at for at in times if 0.2 < at < 10.2]


def test_a_longer_pause_is_not_cut_by_a_shorter_one() -> None:
    gate = gates_of(1, Limits())[0]
    gate.refuse(60.0, 0.0, 1.0)
    gate.refuse(1.0, 0.5, 2.0)
    assert gate.wait(1, 2.0) == pytest.approx(59.0)


def test_a_dropped_key_is_not_used() -> None:
    limits = Limits()

    async def main(clock: Callable[[], float]) -> Sent:
        gates = gates_of(3, limits)
        gates[1].dropped = "revoked"
        return (await traffic(Turns(gates, Spending(), limits, clock), [(0.0, SMALL)] * 30, lambda: 0.1))[0]

    assert Counter(gate.name for _, gate, _ in simulated(main)) == {"API key 0": 15, "API key 2": 15}


# How many at once -----------------------------------------------------------------------------------------------------


def test_a_round_of_refusals_halves_once() -> None:
    gate = gates_of(1, Limits(), 64)[0]
    for _ in range(64):
        gate.start(1, 0.0)
    for _ in range(64):
        gate.refuse(None, 0.0, 1.0)
        gate.finish(0, 1.0, 0.0)
    assert gate.limit == 32
    gate.refuse(None, 2.0, 3.0)
    assert gate.limit == 16
    for i in range(20):
        gate.refuse(None, 10.0 + i, 10.5 + i)
    assert gate.limit == 1, "one at a time always goes"


def test_growth_is_slow_and_ends_at_the_setting() -> None:
    gate = gates_of(1, Limits(), 64)[0]
    gate.cut(0.0, 1.0)
    for _ in range(32):
        gate.succeed({}, 2.0, 0.0)
    assert 32.9 <= gate.limit <= 33.1, "one more a round"
    for _ in range(10_000):
        gate.succeed({}, 2.0, 0.0)
    assert gate.limit == 64


def test_never_more_at_once_than_allowed() -> None:
    limits = Limits()

    async def main(clock: Callable[[], float]) -> int:
        gate = gates_of(1, limits, 8)[0]
        most = 0

        def limited(one: Gate, at: float) -> bool:
            nonlocal most
            assert one.in_flight <= max(1, int(one.limit))
            most = max(most, one.in_flight)
            return random.Random(at).random() < 0.1

        turns = Turns([gate], Spending(), limits, clock)
        _, answered = await traffic(turns, [(0.0, SMALL)] * 200, lambda: 0.5, limited=limited, pause=0.3)
        assert answered == 200
        assert gate.in_flight == turns.spending.under_way == 0
        return most

    assert simulated(main) == 8


def test_waits_without_a_hint_double_up_to_a_minute() -> None:
    gate = Gate("k", "k", Limits(backoff=0.5), 64)
    now, waits = 0.0, []
    for _ in range(12):
        sent = now
        now += 0.1
        for _ in range(10):  # a whole round is refused; it is one strike
            gate.refuse(None, sent, now)
        waits.append(gate.wait(1, now))
        now += waits[-1]
    assert all(later >= before - 1e-6 for before, later in itertools.pairwise(waits))
    assert waits[0] <= 2
    assert waits[-1] == pytest.approx(60.0)
    assert waits[3] >= 4 * waits[0]
    gate.succeed({}, now, 0.0)
    gate.refuse(None, now, now + 0.1)
    assert gate.wait(1, now + 0.1) <= 2, "a success begins anew"


@pytest.mark.parametrize("pause", [0.0, 0.001])
def test_a_server_that_says_now_is_not_hammered(pause: float) -> None:
    """`Retry-After: 0` with every 429 is met in the wild; a refusal uses up no attempt, so nothing else would slow it."""
    limits = Limits()

    async def main(clock: Callable[[], float]) -> Sent:
        turns = Turns(gates_of(1, limits, 8), Spending(), limits, clock)
        rows = [(0.0, SMALL)] * 8
        return (await traffic(turns, rows, lambda: 0.02, limited=lambda gate, at: at < 120, pause=pause))[0]

    assert len(simulated(main)) < 500, "two minutes of a server that refuses everything"


# What headers tell ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counted", ["requests", "tokens"])
def test_what_is_used_up_is_waited_for(counted: str) -> None:
    gate = gates_of(1, Limits())[0]
    gate.start(1, 0.0)
    gate.succeed({f"x-ratelimit-remaining-{counted}": "0", f"x-ratelimit-reset-{counted}": "20s"}, 1.0, 1e9)
    gate.finish(0, 1.0, 0.0)
    assert gate.wait(1, 1.0) == pytest.approx(20.0)
    assert gate.wait(1, 21.5) == 0
    gate.succeed({f"x-ratelimit-remaining-{counted}": "5", f"x-ratelimit-reset-{counted}": "20s"}, 22.0, 1e9)
    assert gate.wait(1, 22.0) == 0


def test_what_is_left_is_counted_down() -> None:
    gate = gates_of(1, Limits())[0]
    gate.succeed({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "60s"}, 0.0, 1e9)
    for _ in range(3):
        assert gate.wait(1, 0.0) == 0
        gate.start(1, 0.0)
    assert gate.wait(1, 0.0) == pytest.approx(60.0)


# Deadlines ------------------------------------------------------------------------------------------------------------


def test_who_cannot_go_before_the_deadline_is_told_at_once() -> None:
    limits = Limits()

    async def main(clock: Callable[[], float]) -> tuple[Gate | None, float]:
        gates = gates_of(1, limits)
        gates[0].refuse(1000.0, 0.0, 0.0)
        return await Turns(gates, Spending(), limits, clock).enter(SMALL, 100.0), clock()

    assert simulated(main) == (None, 0.0)


def test_a_deadline_holds_while_the_key_is_full() -> None:
    """All places are taken by requests that hang: the row's time is over when it is over."""
    limits = Limits()

    async def main(clock: Callable[[], float]) -> tuple[Gate | None, float]:
        turns = Turns(gates_of(1, limits, 1), Spending(), limits, clock)
        assert await turns.enter(SMALL, NEVER)
        return await turns.enter(SMALL, 10.0), clock()

    gate, ended = simulated(main)
    assert gate is None
    assert ended == pytest.approx(10.0, abs=0.5)


def test_a_deadline_holds_while_a_cap_waits_for_another_stage() -> None:
    """The books are those of the whole process: what is under way may be another stage's, which wakes nobody here."""
    limits = Limits(max_tokens_total=15)

    async def main(clock: Callable[[], float]) -> tuple[Gate | None, float]:
        spending = Spending()
        spending.start(SMALL)  # by the other one
        return await Turns(gates_of(1, limits), spending, limits, clock).enter(SMALL, 10.0), clock()

    gate, ended = simulated(main)
    assert gate is None
    assert ended == pytest.approx(10.0, abs=0.5)


@pytest.mark.parametrize("pause", [math.inf, 1e300])
def test_an_endless_pause_ends_at_the_deadline(pause: float) -> None:
    limits = Limits()

    async def main(clock: Callable[[], float]) -> Gate | None:
        gates = gates_of(1, limits)
        gates[0].refuse(pause, 0.0, 0.0)
        return await Turns(gates, Spending(), limits, clock).enter(SMALL, 100.0)

    assert simulated(main) is None


# The queue ------------------------------------------------------------------------------------------------------------


def test_first_come_first_served_and_those_who_come_again_before_them() -> None:
    limits = Limits(rpm=60)

    async def main(clock: Callable[[], float]) -> list[str]:
        turns = Turns(gates_of(1, limits), Spending(), limits, clock)
        order: list[str] = []

        async def one(name: str, again: bool) -> None:
            if await turns.enter(SMALL, NEVER, again=again):
                order.append(name)

        waiting = [asyncio.ensure_future(one(name, False)) for name in "abcd"]
        await asyncio.sleep(0)
        waiting.append(asyncio.ensure_future(one("again", True)))
        await asyncio.gather(*waiting)
        return order

    assert simulated(main) == ["a", "again", "b", "c", "d"]


def test_closing_lets_nobody_wait() -> None:
    limits = Limits(rpm=1)

    async def main(clock: Callable[[], float]) -> tuple[list[Gate | None], float]:
        turns = Turns(gates_of(1, limits), Spending(), limits, clock)
        waiting = [asyncio.ensure_future(turns.enter(SMALL, NEVER)) for _ in range(20)]
        await asyncio.sleep(0)
        turns.close("enough")
        found = list(await asyncio.gather(*waiting))
        assert await turns.enter(SMALL, NEVER) is None
        return found, clock()

    found, ended = simulated(main)
    assert [gate is None for gate in found] == [False, *[True] * 19]
    assert ended == 0.0


@pytest.mark.parametrize("seed", range(8))
def test_who_is_cancelled_leaves_nothing_behind(seed: int) -> None:
    """Ctrl-C in a notebook: a place or a reserve that stayed taken would slow down or stop every later stage.

    A row may be cancelled in the very moment when it got its turn and has not run yet.
    """
    draw = random.Random(seed)
    limits = Limits(rpm=600, max_tokens_total=10**9)

    async def main(clock: Callable[[], float]) -> None:
        turns = Turns(gates_of(2, limits, 2), Spending(), limits, clock)

        async def row() -> None:
            gate = await turns.enter(SMALL, NEVER)
            assert gate is not None
            try:
                await asyncio.sleep(draw.uniform(0, 1))
            finally:
                gate.finish(0, clock(), clock())
                turns.spending.finish(SMALL, SMALL)
                turns.move()

        rows = [asyncio.ensure_future(row()) for _ in range(30)]
        await asyncio.sleep(draw.uniform(0, 3))
        for one in draw.sample(rows, 15):
            one.cancel()  # its neighbour's `finally` gives a turn to one that is cancelled next
        await asyncio.sleep(draw.uniform(0, 1))
        for one in rows:
            one.cancel()
        await asyncio.gather(*rows, return_exceptions=True)
        assert [gate.in_flight for gate in turns.limiters] == [0, 0]
        assert (turns.spending.under_way, turns.spending.reserved_prompt) == (0, 0)
        assert await turns.enter(SMALL, clock() + 5) is not None, "the next stage goes on"

    simulated(main)


def test_a_turn_that_nobody_takes_is_given_back() -> None:
    limits = Limits()

    async def main(clock: Callable[[], float]) -> None:
        turns = Turns(gates_of(1, limits, 1), Spending(), limits, clock)
        gate = await turns.enter(SMALL, NEVER)
        assert gate is not None
        waiting = asyncio.ensure_future(turns.enter(SMALL, NEVER))
        await asyncio.sleep(0)
        gate.finish(0, clock(), clock())
        turns.spending.finish(SMALL, SMALL)
        turns.move()  # `waiting` has its turn now, but has not run
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert gate.in_flight == turns.spending.under_way == 0
        assert turns.spending.requests == 1, "it was never sent"

    simulated(main)


@pytest.mark.parametrize("seed", range(25))
def test_everybody_is_answered_in_the_end(seed: int) -> None:
    """Random limits, keys, refusals and pauses: nobody starves and nothing stays taken."""
    draw = random.Random(seed)
    limits = Limits(
        rpm=draw.choice([None, 30, 300]), tpm=draw.choice([None, 2000, 20_000]), backoff=draw.choice([0.01, 1.0])
    )
    pause = draw.choice([None, 0.0, 0.5, 20.0])
    rows = [(at, Need(draw.uniform(1, 200), draw.uniform(1, 50))) for at in arrivals(draw, 60)]

    async def main(clock: Callable[[], float]) -> tuple[int, Turns]:
        turns = Turns(gates_of(draw.randint(1, 3), limits, draw.choice([1, 16])), Spending(), limits, clock)
        limited = lambda gate, at: draw.random() < 0.2  # noqa: E731
        return (await traffic(turns, rows, lambda: draw.uniform(0, 2), limited=limited, pause=pause))[1], turns

    answered, turns = simulated(main)
    assert answered == 60
    assert not turns.waiting
    assert sum(gate.in_flight for gate in turns.limiters) == turns.spending.under_way == 0
