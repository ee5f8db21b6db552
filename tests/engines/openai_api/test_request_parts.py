"""Parts of direct requests: grouped samples, withheld rejections, waits, the sent headers and the texts of caps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain

import pytest

from tests.engines.openai_api.test_rate_limits import NEVER, SMALL, make_limiters, simulated
from tests.support.api_server import ApiServer, ReceivedRequest, ServerReply, completion, error
from toolrlef_data.engines.openai_api import client
from toolrlef_data.engines.openai_api.budget import Spending, TokenCounts
from toolrlef_data.engines.openai_api.engine import OpenAIEngine
from toolrlef_data.engines.openai_api.errors import Failure
from toolrlef_data.engines.openai_api.payloads import UNENCODABLE_REPLY, max_response_bytes
from toolrlef_data.engines.openai_api.rate_limits import KeyLimiter
from toolrlef_data.engines.openai_api.requests import RequestPool, _check_key, _group_requests
from toolrlef_data.engines.openai_api.scheduler import RequestScheduler
from toolrlef_data.engines.openai_api.session import Session
from toolrlef_data.engines.spec import EngineSpec, Limits, Message, Request
from toolrlef_data.records import AllRequestsRefused, Reply, TooManyFailures

SPEC = EngineSpec("openai_api", "m", base_url="http://127.0.0.1:9/v1", progress=False)

# Groups ---------------------------------------------------------------------------------------------------------------


def test_adjacent_samples_of_one_request_are_a_group() -> None:
    a, b = Request(prompt="a"), Request(prompt="b")
    pairs: list[tuple[str, Request] | None] = [
        ("1", a),
        ("2", replace(a, sample=1)),
        None,
        ("3", replace(a, sample=2)),
        ("4", b),
        ("5", b),
        ("6", a),
        None,
    ]

    def tags(together: bool) -> list[list[str] | None]:
        groups = _group_requests(iter(pairs), together)
        return [None if group is None else [tag for tag, _ in group] for group in groups]

    assert tags(together=True) == [["1", "2"], None, ["3"], ["4", "5"], ["6"], None]
    assert tags(together=False) == [["1"], ["2"], None, ["3"], ["4"], ["5"], ["6"], None]
    assert list(_group_requests(iter([]), together=True)) == []


# Rejections -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pool() -> Iterator[RequestPool]:
    loop = asyncio.new_event_loop()
    session = Session(SPEC)
    session.open()
    session.close()
    yield RequestPool(session, loop)
    loop.close()


def rejection(detail: str) -> Reply:
    return Reply(None, error="bad_request", error_detail=detail)


def test_rejections_are_withheld_until_a_reply_arrives(pool: RequestPool) -> None:
    pool.finished, pool.pending_rejections = [("a", Reply("8"))], [("b", rejection("unfit"))]
    assert pool.drain() == [("a", Reply("8"))]
    assert pool.drain() == []
    pool.session.scheduler.limiters[0].has_succeeded = True
    assert pool.drain() == [("b", rejection("unfit"))], "it is final after a reply"
    assert (pool.pending_rejections, pool.finished, pool.released_rejections) == ([], [], [])


def test_rejections_without_a_reply_become_retryable_at_the_end(pool: RequestPool) -> None:
    pool.pending_rejections = [("a", rejection("unfit")), ("b", UNENCODABLE_REPLY)]
    released = [("a", replace(rejection("unfit"), error="rejected")), ("b", UNENCODABLE_REPLY)]
    assert pool.drain(is_last=True) == released, "a text that cannot be sent is the fault of its row"
    assert pool.released_rejections == released
    pool.pending_rejections = [("c", rejection("unfit"))]
    pool.session.halt(AllRequestsRefused("all"))
    assert pool.drain(is_last=True) == [], "the run stops because of them"


async def check(limiter: KeyLimiter, failure: Failure) -> Failure:
    return await _check_key(failure, limiter)


def test_a_forbidden_request_is_final_if_its_key_works() -> None:
    forbidden = Failure("refused", "check_key", "403")
    (limiter,) = make_limiters(1, Limits())
    other = Failure("server", "retry", "500")
    assert asyncio.run(check(limiter, other)) is other
    assert asyncio.run(check(limiter, forbidden)) == Failure("rate_limit", "disable_key", "403")
    limiter.has_succeeded = True
    limiter.in_flight = 1
    assert asyncio.run(check(limiter, forbidden)) == Failure("refused", "final", "403")
    limiter.has_succeeded, limiter.disabled_reason = False, "revoked"
    assert asyncio.run(check(limiter, forbidden)).action == "disable_key"

    async def late(outcome: Callable[[], None]) -> str:
        waiting = asyncio.ensure_future(check(limiter, forbidden))
        await asyncio.sleep(0)
        assert not waiting.done(), "another request with this key is in flight"
        outcome()
        return (await waiting).action

    limiter.disabled_reason = ""
    assert asyncio.run(late(lambda: setattr(limiter, "has_succeeded", True))) == "final"
    limiter.has_succeeded = False
    assert asyncio.run(late(lambda: setattr(limiter, "in_flight", 0))) == "disable_key"


@pytest.mark.parametrize(
    ("num_waits", "requested", "deadline", "waits"),
    [(1, 0.0, 0.6, True), (1, 0.0, 0.2, False), (2, 0.0, 0.45, False), (1, 1.5, 1.4, False), (10, 0.0, 29.0, False)],
)
def test_the_backoff_doubles_with_each_wait_and_ends_before_the_deadline(
    num_waits: int, requested: float, deadline: float, waits: bool
) -> None:
    """The delay is between half of the maximum and the maximum: 0.25 to 0.5 s at first, 30 to 60 s at last."""

    async def main(clock: Callable[[], float]) -> tuple[bool, float]:
        session = Session(replace(SPEC, limits=Limits(backoff=0.5)))
        pool = RequestPool(session, asyncio.get_running_loop())
        start = clock()
        is_sent = await pool.wait_for_retry(num_waits, requested, time.monotonic() + deadline)
        assert pool.num_waiting == 0
        return is_sent, clock() - start

    for _ in range(20):
        is_sent, seconds = simulated(main)
        assert is_sent is waits
        assert 0.25 <= seconds <= 0.5 if waits else seconds == 0


# Sent requests --------------------------------------------------------------------------------------------------------


def ask(spec: EngineSpec, *requests: Request) -> list[Reply]:
    with OpenAIEngine(spec) as engine:
        pairs = [(f"{n}", request) for n, request in enumerate(requests)]
        replies = dict(chain.from_iterable(engine.generate(iter(pairs))))
    return [replies[tag] for tag, _ in pairs]


CHAT = Request(messages=(Message("user", "1+1?"),))


def test_the_sent_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MY_KEY": "key-0123456789", "OPENAI_ORG_ID": "org", "OPENAI_PROJECT_ID": "proj"}.items():
        monkeypatch.setenv(name, value)
    with ApiServer() as server:
        spec = replace(SPEC, base_url=server.url, keys="MY_KEY", headers={"X-Own": "mine", "OpenAI-Project": "own"})
        ask(spec, CHAT, Request(prompt="1+1="))
        chat, prompt = server.requests
        assert (chat.path, prompt.path) == ("/v1/chat/completions", "/v1/completions")
        fixed = {
            "accept": "application/json", "accept-encoding": "gzip, deflate", "content-type": "application/json",
            "user-agent": "toolrlef_data", "authorization": "Bearer key-0123456789", "openai-organization": "org",
            "openai-project": "own", "x-own": "mine", "host": f"127.0.0.1:{server.port}",
        }  # fmt: skip
        for received in server.requests:
            assert {name: text for name, text in received.headers.items() if name != "content-length"} == fixed
            assert received.headers["content-length"] == str(len(received.raw))


@pytest.mark.parametrize(
    ("first", "detail"),
    [
        (ServerReply(404, {"detail": "no"}), "404: no; the server has no POST /v1/completions: pass style=\"chat\", which sends requests to /v1/chat/completions"),
        (error(404, None, "no such model"), "404: no such model (invalid_request_error)"),
        (ServerReply(405, b""), "405: ; the server has no POST /v1/completions: pass style=\"chat\", which sends requests to /v1/chat/completions"),
        (ServerReply(410, {"detail": "gone"}), "410: gone"),
    ],
)  # fmt: skip
def test_a_missing_path_is_explained(first: ServerReply, detail: str) -> None:
    with ApiServer(lambda received, repeats: first) as server:
        (reply,) = ask(replace(SPEC, base_url=server.url), Request(prompt="1+1="))
        assert reply == Reply(
            None, error="rejected", error_detail=detail.replace(f"127.0.0.1:{server.port}", "[server]")
        )
    with ApiServer(lambda received, repeats: ServerReply(404, {"detail": "no"})) as server:
        (reply,) = ask(replace(SPEC, base_url=server.url), CHAT)
        assert reply.error_detail == (
            "404: no; the server has no POST /v1/chat/completions: check base_url, which usually ends with /v1"
        )


def test_the_identity_of_an_engine_and_its_misuse() -> None:
    engine = OpenAIEngine(replace(SPEC, model="org/o3", keys=()))
    quirks = {"rename": {"max_tokens": "max_completion_tokens"}, "drop": ["temperature", "top_p", "stop"]}
    assert engine.identity() == {
        "kind": "openai_api", "url": "http://127.0.0.1:9/v1", "model": "org/o3", "quirks": quirks
    }  # fmt: skip
    assert repr(engine) == "OpenAIEngine('org/o3' at http://127.0.0.1:9/v1)"
    with pytest.raises(
        RuntimeError, match=r"^this engine is not open, so no request could be sent: use it in a `with`"
    ):
        next(engine.generate(iter([("a", CHAT)])))
    with engine:
        engine.stop(TooManyFailures("enough"))
        with pytest.raises(TooManyFailures, match="enough"):
            list(engine.generate(iter([("a", CHAT)])))
    with engine:
        engine.cancel()
        assert list(engine.generate(iter([("a", CHAT)]))) == [[]]


def test_the_rotation_has_a_limit_over_all_keys() -> None:
    async def main(clock: Callable[[], float]) -> tuple[list[str], bool]:
        scheduler = RequestScheduler(make_limiters(3, Limits()), Spending(), Limits(), clock, 2)
        names = [limiter.name for limiter in [await scheduler.acquire(SMALL, NEVER) for _ in range(2)] if limiter]
        third = asyncio.ensure_future(scheduler.acquire(SMALL, 50.0))
        await asyncio.sleep(1)
        is_waiting = not third.done()
        scheduler.limiters[1].finish(0, clock(), 0.0)
        scheduler.spending.finish(SMALL, SMALL)
        scheduler.dispatch()
        assert (await third) is not None
        return names, is_waiting

    assert simulated(main) == (["API key 1", "API key 2"], True)


# Caps -----------------------------------------------------------------------------------------------------------------


def test_the_complete_text_of_each_cap() -> None:
    spending = Spending(3, 1e6, 5e5)
    requested = TokenCounts(2000, 1000)
    caps = {
        "max_requests=3 is reached: 3 requests were sent": Limits(max_requests=3),
        "max_tokens_total=1502999 would be exceeded: 1500000 tokens are used, and the next request may use 3000": Limits(
            max_tokens_total=1_502_999
        ),
        "max_cost=2.5 would be exceeded: 2.5000 is spent, and the next request may cost 0.0050": Limits(
            max_cost=2.5, price=(1, 3)
        ),
        "max_cost=1.25 would be exceeded: 1.2500 is spent, and the next request may cost 0.0025": Limits(
            max_cost=1.25, price=(1, 3), mode="batch"
        ),
    }
    for in_flight in (0, 1):
        spending.in_flight = in_flight
        for message, limits in caps.items():
            assert spending.exceeded_cap(limits, requested) == (
                message,
                bool(in_flight) and "requests" not in message[:12],
            )
    for limits in (Limits(max_requests=4), Limits(max_tokens_total=1_503_000), Limits(max_cost=2.505, price=(1, 3))):
        assert spending.exceeded_cap(limits, requested) is None
    spending.start(TokenCounts(1, 0))
    assert spending.exceeded_cap(Limits(max_tokens_total=1_503_000), requested) is not None


def test_a_request_that_was_never_sent_leaves_no_trace() -> None:
    spending = Spending()
    spending.start(SMALL)
    spending.start(TokenCounts(3, 4))
    assert (spending.requests, spending.in_flight, spending.reserved_prompt, spending.reserved_completion) == (
        2,
        2,
        8,
        9,
    )
    spending.undo_start(SMALL)
    assert spending == Spending(requests=1, in_flight=1, reserved_prompt=3, reserved_completion=4)
    spending.start(SMALL, requests=0)
    spending.finish(SMALL, TokenCounts(1, 2))
    assert spending == Spending(1, 1, 2, 1, 3, 4)


def test_the_tokens_of_a_reply_are_counted() -> None:
    reply = completion("It is 4.", usage=(40, 10))
    with ApiServer(lambda received, repeats: reply) as server:
        spec = replace(SPEC, base_url=server.url, limits=Limits(price=(1, 2)))
        with OpenAIEngine(spec) as engine:
            list(engine.generate(iter([("a", CHAT), ("b", CHAT)])))
            assert engine.stats() == {"in flight": 0, "cost": "0.0001"}
            assert engine.session.spending == Spending(2, 80, 20)
            assert engine.session.bytes_per_token < 3.0
            assert engine.session.scheduler.limiters[0].num_sent == 2


# Slow bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "end"),
    [
        ([(1.0, 10_000)] * 30, None),  # as fast as the least rate
        ([(1.0, 100)] * 30, 5.05),  # 5 seconds, and a hundredth for each chunk
        ([(0.5, 1_000_000), (4.9, 1), (4.9, 1)], None),
        ([(0.5, 1_000_000), (5.1, 1)], 5.5),  # a pause is at most the timeout
        ([(5.1, 1)], 5.0),
    ],
)
def test_a_body_may_be_slow_but_not_slower_than_its_size_allows(
    monkeypatch: pytest.MonkeyPatch, chunks: list[tuple[float, int]], end: float | None
) -> None:
    async def main(clock: Callable[[], float]) -> tuple[int, float | None]:
        monkeypatch.setattr(time, "monotonic", clock)

        async def body() -> AsyncIterator[bytes]:
            for seconds, size in chunks:
                await asyncio.sleep(seconds)
                yield bytes(size)

        num_chunks = 0
        try:
            async for _ in client.read_limited(body(), 10**8, 5.0):
                num_chunks += 1
        except (TimeoutError, asyncio.TimeoutError):
            return num_chunks, clock()
        return num_chunks, None

    num_chunks, ended_at = simulated(main)
    assert ended_at == (None if end is None else pytest.approx(end, abs=0.02))
    assert end is not None or num_chunks == len(chunks)


def _always(reply: ServerReply, received: ReceivedRequest, repeats: int) -> ServerReply:
    return reply


def test_the_complete_text_of_a_failed_request() -> None:
    with ApiServer(lambda received, repeats: ServerReply(delay=60.0)) as server:
        (reply,) = ask(replace(SPEC, base_url=server.url, timeout=0.25, retries=0), CHAT)
        assert reply == Reply(None, error="timeout", error_detail="no HTTP response within 0.25 s")
    for status, kind in ((200, "too_long"), (500, "server"), (413, "too_long")):
        long = ServerReply(status, b"x" * 1_100_000)
        with ApiServer(partial(_always, long)) as server:
            spec = replace(SPEC, base_url=server.url, retries=0, max_tokens=1)
            (reply,) = ask(spec, CHAT)
            limit = max_response_bytes(spec, len(server.requests[0].raw), 1)
        text = f"the response body has more than {limit} bytes"
        assert (reply.error, reply.error_detail) == (kind, text if status == 200 else f"{status}: {text}")
    with ApiServer() as server:
        limits = Limits(rpm=1, deadline=30.0)
        first, second = ask(replace(SPEC, base_url=server.url, limits=limits), CHAT, Request(prompt="1+1="))
        assert first.error is None
        assert second == Reply(None, error="rate_limit", error_detail="no API key was free within the deadline of 30 s")
