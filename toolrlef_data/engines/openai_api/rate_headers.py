"""Rate-limit headers: requested pauses and remaining budgets, in the formats that model servers document.

| source | meaning |
|---|---|
| Retry-After (RFC 9110) | pause, in seconds or as a date |
| retry-after-ms, x-ms-retry-after-ms | pause, in milliseconds |
| x-ratelimit-* (OpenAI and compatible servers), anthropic-ratelimit-* | remaining budget and its reset time |
| `retryDelay` in the body (Google) | pause, as a duration |

Remaining budgets and reset times are trusted. The maximum values in headers, such as x-ratelimit-limit-requests, are
ignored, since they are per minute for some servers and per day for others.
"""

from __future__ import annotations

import datetime
import email.utils
import re
from collections.abc import Mapping

__all__ = ["lower_names", "parse_seconds", "remaining_budgets", "requested_pause"]

UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
MAX_TIME_LENGTH = 60  # characters; a number with hundreds of digits is not a time
# google.rpc.RetryInfo in google/rpc/error_details.proto.
RETRY_INFO = re.compile(r'"retryDelay": ?"(\d+(?:\.\d+)?s)"')
# Budget -> pairs of the header with the remaining amount and the header with the reset time.
BUDGET_HEADERS = {
    "requests": (
        ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
        ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
        ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ),
    "tokens": (
        ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
        ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
        ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
        ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
    ),
}


def lower_names(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with their names in lower case, as the functions of this module expect them."""
    return {name.lower(): value for name, value in headers.items()}


def parse_seconds(text: str, now: float) -> float | None:
    """Parse a header value as a time and return the seconds from now until then; None if it is not a time.

    Args:
        text: seconds ("20", "1.5"), a duration ("6m0s", "20ms"), an HTTP date, an RFC 3339 date, or a Unix time in
            seconds or milliseconds.
        now: Unix time of the HTTP response.

    >>> parse_seconds("1m30s", 0), parse_seconds("Thu, 01 Jan 1970 00:00:20 GMT", 5), parse_seconds("soon", 0)
    (90.0, 15.0, None)
    """
    text = text.strip()
    if len(text) > MAX_TIME_LENGTH:
        return None
    if NUMBER.fullmatch(text):
        value = float(text)
        if value >= 1e11:  # Unix time in milliseconds, as from OpenRouter
            value = value / 1000 - now
        elif value >= 1e9:
            value -= now
        return max(0.0, value)
    if text and DURATION.sub("", text) == "":
        return sum(float(number) * UNIT_SECONDS[unit] for number, unit in DURATION.findall(text))
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        try:
            # Python 3.10 accepts only fractions of 3 or 6 digits.
            padded = re.sub(r"\.(\d+)", lambda match: f".{match[1]:0<6.6}", text)
            date = datetime.datetime.fromisoformat(padded.replace("Z", "+00:00"))
        except ValueError:
            return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=datetime.timezone.utc)
    return max(0.0, date.timestamp() - now)


def requested_pause(headers: Mapping[str, str], body: str, now: float) -> float | None:
    """Return the seconds that a server asks the client to wait; None if it does not ask.

    Args:
        headers: header values by lower-case name.
        body: the response body.
        now: Unix time, for servers that send no Date header.
    """
    now = _sent_at(headers, now)
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if NUMBER.fullmatch(headers.get(name, "").strip()) and len(headers[name]) < MAX_TIME_LENGTH:
            return float(headers[name]) / 1000
    if "retry-after" in headers and (pause := parse_seconds(headers["retry-after"], now)) is not None:
        return pause
    if pauses := [pause for remaining, pause in remaining_budgets(headers, now, missing="0").values() if remaining < 1]:
        return max(pauses)
    match = RETRY_INFO.search(body)
    return parse_seconds(match[1], now) if match else None


def remaining_budgets(headers: Mapping[str, str], now: float, missing: str = "") -> dict[str, tuple[float, float]]:
    """Return the tightest budgets: {"requests" or "tokens": (remaining amount, seconds until the reset)}.

    Args:
        headers: header values by lower-case name.
        now: Unix time, for servers that send no Date header.
        missing: the remaining amount if only the reset time is given; "0" for a rejected request. Default: no budget.

    >>> remaining_budgets({"x-ratelimit-remaining-requests": "2", "x-ratelimit-reset-requests": "1s"}, 0)
    {'requests': (2.0, 1.0)}
    """
    budgets: dict[str, tuple[float, float]] = {}
    if not any("ratelimit" in name for name in headers):
        return budgets
    now = _sent_at(headers, now)
    for budget, header_pairs in BUDGET_HEADERS.items():
        for remaining_header, reset_header in header_pairs:
            remaining = headers.get(remaining_header, missing).strip()
            seconds = parse_seconds(headers.get(reset_header, ""), now)
            if not NUMBER.fullmatch(remaining) or seconds is None:
                continue
            if budget not in budgets or float(remaining) < budgets[budget][0]:
                budgets[budget] = (float(remaining), seconds)
    return budgets


def _sent_at(headers: Mapping[str, str], now: float) -> float:
    """Return the Unix time of the Date header, because the server's other dates refer to its clock; else `now`."""
    try:
        date = email.utils.parsedate_to_datetime(headers["date"])
        return (date if date.tzinfo else date.replace(tzinfo=datetime.timezone.utc)).timestamp()
    except (KeyError, ValueError, TypeError, IndexError, OverflowError):
        return now
