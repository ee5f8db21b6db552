"""The state of one key: what a rejection, a reply and a header change, and what they leave as it was."""

from __future__ import annotations

import pytest

from toolrlef_data.engines.openai_api.rate_headers import remaining_budgets, requested_pause
from toolrlef_data.engines.openai_api.rate_limits import MAX_BACKOFF, KeyLimiter, RateBucket
from toolrlef_data.engines.spec import Limits

NOW = 1767225600.0  # 2026-01-01T00:00:00Z
DATES = {"date": "Thu, 01 Jan 2026 00:00:00 GMT"}


def limiter(**limits: float) -> KeyLimiter:
    return KeyLimiter("k", "key 1", Limits(**limits), 64)  # type: ignore[arg-type]


def send(key: KeyLimiter, count: int) -> list[int]:
    return [key.next_number() for _ in range(count)]


def overload(key: KeyLimiter, now: float, pause: float | None = None) -> None:
    """Reject so many requests that the key is paused."""
    for number in send(key, 8):
        key.record_rate_limit(pause, number, now)


def test_rejections_before_a_reaction_do_not_count_again() -> None:
    """After a halving, a single fault among new requests is a passing one."""
    timed_out, limited = limiter(), limiter()
    for number in send(timed_out, 8):
        timed_out.record_timeout(number)
    overload(limited, 0.0)
    assert (timed_out.concurrency, limited.concurrency) == (32, 32)
    first = send(timed_out, 8)[0]
    timed_out.record_timeout(first)
    assert timed_out.concurrency == 32
    limited.record_success({}, 100.0, NOW)
    concurrency, first = limited.concurrency, send(limited, 8)[0]
    assert limited.record_rate_limit(None, first, 100.0) is False, "the row waits alone"
    assert limited.concurrency == concurrency
    assert limited.wait_time(1, 100.0) == 0


def test_timeouts_are_no_rate_limits() -> None:
    key = limiter()
    numbers = send(key, 8)
    for number in numbers[:5]:
        key.record_timeout(number)
    for number in numbers[5:]:
        key.record_rate_limit(None, number, 0.0)
    assert key.concurrency == 64


def test_growth_starts_again_after_a_halving() -> None:
    key = limiter()
    key.concurrency = 8.0
    for _ in range(40):
        key.record_success({}, 0.0, NOW)
    assert key.growth > 2
    overload(key, 0.0)
    before = key.concurrency
    key.record_success({}, 0.0, NOW)
    assert key.concurrency == pytest.approx(before + 1 / before)


def test_the_first_requested_pause_is_exact_and_a_second_one_has_a_minimum() -> None:
    key = limiter(backoff=0.5)
    overload(key, 0.0, pause=0.1)
    assert key.paused_until == pytest.approx(0.1)
    overload(key, 10.0, pause=0.1)
    assert key.paused_until == pytest.approx(10.5), "the server rejected again after the pause that it asked for"
    overload(key, 20.0, pause=3.0)
    assert key.paused_until == pytest.approx(23.0)


def test_backoff_without_a_requested_pause() -> None:
    key = limiter(backoff=0.5)
    pauses = []
    for n in range(10):
        overload(key, 1000.0 * n)
        pauses.append(key.paused_until - 1000.0 * n)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, *[MAX_BACKOFF] * 4]
    key.record_success({}, 1e6, NOW)
    overload(key, 1e6)
    assert key.paused_until - 1e6 == 1.0, "a reply ends the series"


def test_a_pause_is_for_a_key_with_a_free_other_key_and_else_for_the_row() -> None:
    for is_only_key, paused in ((True, False), (False, True)):
        key = limiter()
        number = send(key, 8)[0]
        assert key.record_rate_limit(5.0, number, 0.0, is_only_key) is paused
        assert key.wait_time(1, 0.0) == (5.0 if paused else 0.0)
        assert key.concurrency == 64, "one rejection is no overload"


def test_reserved_tokens_reduce_the_budget_of_tokens_and_requests_that_of_requests() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "60s",
        "x-ratelimit-remaining-tokens": "100", "x-ratelimit-reset-tokens": "30s",
    }  # fmt: skip
    key = limiter()
    key.record_success(headers, 0.0, NOW)
    key.start(60, 0.0)
    assert key.budgets == {"requests": (2.0, 60.0), "tokens": (40.0, 30.0)}
    assert key.wait_time(60, 0.0) == 0, "the server may count fewer tokens than are reserved"
    key.start(60, 0.0)
    assert key.budgets == {"requests": (1.0, 60.0), "tokens": (-20.0, 30.0)}
    assert key.wait_time(1, 0.0) == pytest.approx(30.0)
    key.start(1, 30.0)
    assert key.wait_time(1, 30.0) == pytest.approx(30.0), "now the requests are used up"


def test_a_slot_is_free_again_after_its_request_and_unused_tokens_return() -> None:
    key = KeyLimiter("k", "key 1", Limits(tpm=600), 1)
    key.start(300, 0.0)
    assert key.wait_time(1, 0.0) == float("inf")
    key.finish(300, 1.0, 0.0)
    assert (key.in_flight, key.wait_time(60, 1.0)) == (0, 0.0)


def test_any_60_seconds_have_at_most_the_rate_with_a_full_bucket_at_their_start() -> None:
    """The refill leaves room for the burst; a whole minute of single units never exceeds the rate."""
    for rate, burst in ((60.0, 1.0), (60.0, 10.0), (600.0, 60.0)):
        bucket, times, now = RateBucket(rate, burst), [], 0.0
        while now < 150:
            now += (wait := bucket.wait_time(1, now)) + 1e-9
            if not wait:
                bucket.consume(1, now)
                times.append(now)
        assert max(sum(start <= time < start + 60 for time in times) for start in times[:200]) <= rate
        assert len(times) > 2 * rate, "and nearly all of it is used"


@pytest.mark.parametrize(("first", "second"), [("5s", "40s"), ("40s", "5s")])
def test_of_two_exhausted_budgets_the_longer_pause_counts(first: str, second: str) -> None:
    headers = {
        "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": first,
        "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": second,
    }  # fmt: skip
    assert requested_pause(headers, "", NOW) == 40.0
    rejected = {name: text for name, text in headers.items() if "reset" in name}
    assert requested_pause(rejected, "", NOW) == 40.0, "a rejection without amounts has no budget left"
    assert remaining_budgets(rejected, NOW) == {}


def test_reset_dates_of_budgets_are_relative_to_the_clock_of_the_server() -> None:
    headers = {
        "anthropic-ratelimit-requests-remaining": "7", "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:20Z",
        **DATES,
    }  # fmt: skip
    for local in (NOW, NOW - 3600, NOW + 3600):
        assert remaining_budgets(headers, local) == {"requests": (7.0, 20.0)}
        key = limiter()
        key.record_success(headers, 5.0, local)
        assert key.budgets == {"requests": (7.0, 25.0)}


def test_a_bucket_as_numbers() -> None:
    """60 a minute in bursts of 7: nine tenths of a unit a second, so that a burst and a minute's refill are 60."""
    bucket = RateBucket(60, 7)
    assert bucket.refill_rate == pytest.approx(0.9)
    assert [bucket.wait_time(amount, 0.0) for amount in (1, 7, 60, 100)] == [0.0] * 4, (
        "a full bucket permits any amount"
    )
    bucket.consume(3, 0.0)
    assert bucket.wait_time(4, 0.0) == 0.0
    assert bucket.wait_time(5, 0.0) == pytest.approx(1 / 0.9)
    assert bucket.wait_time(57, 0.0) == pytest.approx(3 / 0.9), "until the bucket is full"
    assert bucket.wait_time(58, 0.0) == 60.0, "the last minute had 3"
    assert bucket.wait_time(58, 59.0) == pytest.approx(1.0)
    assert bucket.wait_time(58, 60.0) == 0.0
    bucket.consume(10, 61.0)
    assert (bucket.level, bucket.recent_sum) == (-3.0, 10.0)
    bucket.consume(-4, 62.0, 61.0)
    assert (bucket.level, bucket.recent_sum) == pytest.approx((-3 + 0.9 + 4, 6.0))
    bucket.consume(-1, 200.0, 61.0)
    assert (bucket.level, bucket.recent_sum, bucket.recent) == (7.0, 0.0, []), (
        "the refund of an old amount counts no more"
    )
    bucket.consume(2, 201.0)
    assert bucket.recent == [(201.0, 2)]


def test_the_first_limits_of_a_key() -> None:
    key = KeyLimiter("k", "key 1", Limits(rpm=120, tpm=6000, backoff=2.0), 3)
    assert key.request_bucket is not None
    assert key.token_bucket is not None
    assert (key.request_bucket.rate, key.request_bucket.burst) == (120, 2.0)
    assert (key.token_bucket.rate, key.token_bucket.burst) == (6000, 600.0)
    assert (key.concurrency, key.max_concurrency, key.growth, key.backoff) == (3.0, 3.0, 1.0, 2.0)
    small = KeyLimiter("k", "key 1", Limits(rpm=6, tpm=float("inf")), 3)
    assert small.request_bucket is not None
    assert (small.request_bucket.burst, small.token_bucket) == (1.0, None)
    assert repr(small) == "KeyLimiter(key 1)"
    assert [key.next_number() for _ in range(3)] == [1, 2, 3]


def test_the_number_of_requests_doubles_after_a_pause() -> None:
    key = limiter()
    key.pause(10.0, 0.0)
    waits = []
    for _ in range(8):
        waits.append(key.wait_time(1, 0.0))
        key.start(1, 0.0)
    assert waits == pytest.approx([10.0, 10.25, 10 + 0.25 * 1.5849625, 10.5, *waits[4:7], 10.75])
    assert waits == sorted(waits)
    key.pause(1.0, 5.0)
    assert key.wait_time(1, 0.0) == 10.0, "the longer pause, and the number of requests begins again"


def test_the_concurrency_grows_by_one_and_then_by_more_in_each_round() -> None:
    key = limiter()
    key.concurrency, grown = 4.0, []
    for _ in range(3):
        key.record_success({}, 0.0, NOW)
        grown.append((key.concurrency, key.growth))
    assert grown[0] == (4.25, 1.125)
    assert grown[1] == pytest.approx((4.25 + 1.125 / 4.25, 1.125 + 1.125 / 4.25 / 2))
    key.concurrency = 63.999
    key.record_success({}, 0.0, NOW)
    assert key.concurrency == 64
    for concurrency, free in ((1.0, 0), (0.5, 0), (2.9, 1)):
        key.concurrency, key.in_flight = concurrency, 1
        assert (key.wait_time(1, 0.0) == 0.0) is bool(free)


@pytest.mark.parametrize(
    ("num_sent", "num_rejected", "is_overloaded"), [(3, 2, False), (3, 3, True), (40, 5, False), (40, 6, True)]
)
def test_a_server_is_overloaded_if_it_rejects_six_neighbours_or_all(
    num_sent: int, num_rejected: int, is_overloaded: bool
) -> None:
    for spread in (list(range(20, 26)), [16, 20, 28, 30, 32, 24]):
        key = limiter()
        send(key, num_sent)
        numbers = [1, 2, 3] if num_sent == 3 else spread
        found = [key.record_rate_limit(3.0, number, 0.0) for number in numbers[:num_rejected]]
        assert found == [False] * (num_rejected - 1) + [is_overloaded], numbers
        assert key.concurrency == (32 if is_overloaded else 64)
        assert key.num_reacted == (num_sent if is_overloaded else 0)
        assert (key.rate_limited == []) is is_overloaded
    apart = limiter()
    send(apart, 60)
    assert not any(apart.record_rate_limit(3.0, number, 0.0) for number in (15, 20, 28, 30, 32, 24)), (
        "15 is nine before 24"
    )
    far = limiter()
    send(far, 60)
    assert not any(far.record_rate_limit(3.0, number, 0.0) for number in range(1, 60, 9)), (
        "one of nine is a passing fault"
    )
