"""Rate-limit headers: all documented formats are parsed, and no header value breaks or hangs a run."""

from __future__ import annotations

import itertools
import json
import math
import random
import time
from collections.abc import Iterator

import pytest

from tests.support.cpu_time import cpu_limit
from toolrlef_data.engines.openai_api.rate_headers import parse_seconds, remaining_budgets, requested_pause

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20", 20.0),  # RFC 9110 delay-seconds
        ("0", 0.0),
        ("  7 ", 7.0),  # white space around a header's value
        ("1.5", 1.5),  # OpenAI-compatible proxies send fractions
        ("6m0s", 360.0),  # OpenAI
        ("20ms", 0.02),  # OpenAI; not 20 minutes
        ("1s", 1.0),
        ("2m59.56s", 179.56),  # Groq
        ("7.66s", 7.66),
        ("1h2m3s", 3723.0),
        ("1d2h", 93600.0),
        ("0s", 0.0),
        ("1m26.4s", 86.4),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),  # RFC 9110 HTTP date
        ("Thursday, 01-Jan-26 00:00:30 GMT", 30.0),  # RFC 850, which recipients must accept
        ("Thu Jan  1 00:00:30 2026", 30.0),  # asctime, which recipients must accept; it is UTC
        ("Wed, 31 Dec 2025 23:00:00 GMT", 0.0),  # in the past: no wait
        ("2026-01-01T00:00:30Z", 30.0),  # Anthropic: RFC 3339
        ("2026-01-01T00:00:30.250Z", 30.25),
        ("2026-01-01T01:00:30+01:00", 30.0),
        ("2025-01-01T00:00:00Z", 0.0),
        ("1767225630", 30.0),  # GitHub, Hugging Face: Unix time
        ("1767225630000", 30.0),  # OpenRouter: Unix time in milliseconds
        ("1767225630.5", 30.5),
        ("1767225000", 0.0),
    ],
)
def test_every_time_format(text: str, seconds: float) -> None:
    assert parse_seconds(text, NOW) == pytest.approx(seconds, abs=1e-3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "-5",  # negative seconds are invalid
        "-1s",
        "nan",  # float() would accept it
        "inf",
        "Infinity",
        "1_000",
        "0x10",
        "s",
        "5 s extra",
        "Thu, 99 Foo 2026 00:00:30 GMT",
        "2026-13-45T99:99:99Z",
        "null",
        "1,2",
        "{}",
        "\x00",
        "Thu, 01 Jan 2026 00:00:30 +99999999",
    ],
)
def test_garbage_is_ignored(text: str) -> None:
    assert parse_seconds(text, NOW) is None


@pytest.mark.parametrize("text", ["9" * 400, "9" * 400 + "s", "1" + "0" * 320, "9" * 400 + "d", "9" * 5000 + ".5"])
def test_a_huge_number_is_no_infinite_pause(text: str) -> None:
    """An infinite timer would hang the run."""
    for pause in (
        parse_seconds(text, NOW),
        requested_pause({"retry-after": text}, "", NOW),
        requested_pause({"retry-after-ms": text}, "", NOW),
        requested_pause({}, f'"retryDelay": "{text}{"" if text[-1] in "sd" else "s"}"', NOW),
        requested_pause({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": text}, "", NOW),
    ):
        assert pause is None or math.isfinite(pause)


GOOGLE = json.dumps(
    [
        {
            "error": {
                "code": 429,
                "message": "You exceeded your current quota.",
                "status": "RESOURCE_EXHAUSTED",
                "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}],
            }
        }
    ]
)


@pytest.mark.parametrize(
    ("headers", "body", "pause"),
    [
        ({"retry-after": "20"}, "", 20.0),
        ({"retry-after": "0.5"}, "", 0.5),
        ({"retry-after": "Thu, 01 Jan 2026 00:01:00 GMT"}, "", 60.0),
        ({"retry-after-ms": "1500"}, "", 1.5),
        ({"retry-after-ms": "1500.5"}, "", 1.5005),
        ({"x-ms-retry-after-ms": "250"}, "", 0.25),  # Azure
        ({"retry-after-ms": "300", "retry-after": "1"}, "", 0.3),  # milliseconds are more precise
        ({"retry-after-ms": "soon", "retry-after": "3"}, "", 3.0),  # garbage does not hide the other header
        ({"retry-after": "-7"}, "", None),
        ({"retry-after": "whenever"}, GOOGLE, 34.0),
        # the server's clock from its Date header; the local clock is an hour late here
        ({"retry-after": "Thu, 01 Jan 2026 01:00:30 GMT", "date": "Thu, 01 Jan 2026 01:00:00 GMT"}, "", 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT", "date": "no date"}, "", 30.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m30s"}, "", 90.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, "", 0.02),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1767225610000"}, "", 10.0),  # OpenRouter
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:12Z",
            },
            "",
            12.0,
        ),
        # only the reset of the exhausted budget counts
        (
            {
                "x-ratelimit-remaining-requests": "99",
                "x-ratelimit-reset-requests": "6h0m0s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "2s",
            },
            "",
            2.0,
        ),
        ({"x-ratelimit-remaining-requests": "99", "x-ratelimit-reset-requests": "6m0s"}, "", None),
        ({"x-ratelimit-remaining-requests": "0"}, "", None),  # the reset time is unknown
        ({}, GOOGLE, 34.0),
        ({}, GOOGLE.replace('": "', '":"'), 34.0),
        ({}, GOOGLE.replace("34s", "34.074824224s"), 34.074824),
        ({}, "Too many requests.", None),
        ({}, "", None),
    ],
)
def test_requested_pause(headers: dict[str, str], body: str, pause: float | None) -> None:
    expected = None if pause is None else pytest.approx(pause, abs=1e-3)
    assert requested_pause(headers, body, NOW) == expected


@pytest.fixture
def _new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_new_york")
def test_a_date_without_a_zone_is_utc_on_every_machine() -> None:
    date = "Thu, 01 Jan 2026 00:00:30"
    assert parse_seconds("2026-01-01T00:00:30", NOW) == 30.0
    for zone in ("", " -0000", " GMT"):
        assert requested_pause({"retry-after": date + zone, "date": date.replace("30", "10") + zone}, "", NOW) == 20.0


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, {}),
        ({"content-type": "application/json", "date": "Thu, 01 Jan 2026 00:00:00 GMT"}, {}),
        (
            {"x-ratelimit-remaining-tokens": "149984", "x-ratelimit-reset-tokens": "6m0s"},
            {"tokens": (149984.0, 360.0)},
        ),
        # separate budgets of input and output tokens: the tighter one applies
        (
            {
                "anthropic-ratelimit-input-tokens-remaining": "900",
                "anthropic-ratelimit-input-tokens-reset": "2026-01-01T00:00:10Z",
                "anthropic-ratelimit-output-tokens-remaining": "5",
                "anthropic-ratelimit-output-tokens-reset": "2026-01-01T00:00:20Z",
            },
            {"tokens": (5.0, 20.0)},
        ),
        ({"x-ratelimit-remaining-requests": "many", "x-ratelimit-reset-requests": "1s"}, {}),
        ({"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "later"}, {}),
        ({"x-ratelimit-remaining-requests": "", "x-ratelimit-reset-requests": ""}, {}),
    ],
)
def test_remaining_budgets(headers: dict[str, str], expected: dict[str, tuple[float, float]]) -> None:
    assert remaining_budgets(headers, NOW) == {name: pytest.approx(pair) for name, pair in expected.items()}


NAMES = (
    *("retry-after", "retry-after-ms", "x-ms-retry-after-ms", "date"),
    *("x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit-remaining-requests"),
    *("x-ratelimit-reset-requests", "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
)
PIECES = (
    *("0", "1", "9", "59", "1767225630", "1e9", ".", "-", "+", "ms", "s", "m", "h", "d", " ", ",", ";", ":", "=", "T"),
    *("Thu, 01 Jan 2026 00:00:30 GMT", "2026-01-01T00:00:30Z", "Z", "GMT", "nan", "inf", "\x00"),
    *("é", "٣", "²", "\udcff", '"', "{", "-0000", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"),
)


def test_every_header_value_is_a_finite_time_or_ignored() -> None:
    for seed in range(4000):
        draw = random.Random(seed)
        headers = {
            name: "".join(draw.choices(PIECES, k=draw.randint(0, 4))) for name in draw.sample(NAMES, draw.randint(1, 5))
        }
        body = '"retryDelay": "' + "".join(draw.choices(PIECES, k=3)) + '"'
        pause = requested_pause(headers, body, NOW)
        assert pause is None or (0 <= pause < math.inf), headers
        for remaining, seconds in remaining_budgets(headers, NOW).values():
            assert 0 <= remaining < math.inf, headers
            assert 0 <= seconds < math.inf, headers


def test_a_long_body_is_parsed_in_linear_time() -> None:
    for body in ('"retryDelay": "' * 20_000, '"retryDelay": "' + "1" * 200_000, '"retryDelay":"1.' * 100_000):
        with cpu_limit():
            requested_pause({}, body, NOW)


def test_of_two_exhausted_budgets_the_later_reset_counts() -> None:
    """After the earlier one, the other budget would still reject the request."""
    resets = {"requests": "2s", "tokens": "1m"}
    for first, second in (("requests", "tokens"), ("tokens", "requests")):
        headers: dict[str, str] = {}
        for budget in (first, second):
            headers |= {f"x-ratelimit-remaining-{budget}": "0", f"x-ratelimit-reset-{budget}": resets[budget]}
        assert requested_pause(headers, "", NOW) == 60.0


def test_the_tightest_of_several_budgets_counts_in_any_order() -> None:
    """Anthropic limits input and output tokens separately."""
    amounts = {"tokens": ("900", "10"), "input-tokens": ("50", "20"), "output-tokens": ("400", "30")}
    for names in itertools.permutations(amounts):
        headers: dict[str, str] = {}
        for name, pair in zip(names, amounts.values(), strict=True):
            headers[f"anthropic-ratelimit-{name}-remaining"] = pair[0]
            headers[f"anthropic-ratelimit-{name}-reset"] = pair[1]
        assert remaining_budgets(headers, NOW) == {"tokens": (50.0, 20.0)}
