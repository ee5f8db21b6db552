"""Headers: what a server's answer says about its rate limits, in the forms that model servers document.

Understood are Retry-After (seconds or a date, RFC 9110), retry-after-ms, the x-ratelimit-* family of OpenAI and of
those that follow it, anthropic-ratelimit-*, and Google's retryDelay, which stands in the body and in no header. A limit
that a header names is not taken for a rate, since some servers count it by the minute and some by the day; what is left
of it, and until when, is believed.
"""

from __future__ import annotations

import datetime
import email.utils
import re
from collections.abc import Mapping

__all__ = ["asked_pause", "budgets", "seconds_of"]

UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
LONGEST = 60  # characters of a time; a number of hundreds of digits is none
# google.rpc.RetryInfo, of google/rpc/error_details.proto.
RETRY_INFO = re.compile(r'"retryDelay": ?"(\d+(?:\.\d+)?s)"')
# (what is left of it, when it is full again), by what is counted.
COUNTED = {
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


def seconds_of(text: str, now: float) -> float | None:
    """How long from now a header means, whatever its form; None where it says nothing.

    Args:
        text: seconds ("20", "1.5"), a duration ("6m0s", "20ms"), an HTTP date, an RFC 3339 date, or a Unix time in
            seconds or milliseconds.
        now: the time of the server's answer, as Unix time.

    >>> seconds_of("1m30s", 0), seconds_of("Thu, 01 Jan 1970 00:00:20 GMT", 5), seconds_of("soon", 0)
    (90.0, 15.0, None)
    """
    text = text.strip()
    if len(text) > LONGEST:
        return None
    if NUMBER.fullmatch(text):
        value = float(text)
        if value >= 1e11:  # a Unix time in milliseconds, as OpenRouter's
            value = value / 1000 - now
        elif value >= 1e9:
            value -= now
        return max(0.0, value)
    if text and DURATION.sub("", text) == "":
        return sum(float(number) * UNIT[unit] for number, unit in DURATION.findall(text))
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        try:
            # Python 3.10 takes fractions of 3 or 6 digits only.
            whole = re.sub(r"\.(\d+)", lambda found: f".{found[1]:0<6.6}", text)
            moment = datetime.datetime.fromisoformat(whole.replace("Z", "+00:00"))
        except ValueError:
            return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    return max(0.0, moment.timestamp() - now)


def asked_pause(headers: Mapping[str, str], message: str, now: float) -> float | None:
    """Seconds to wait that a refusal asks for; None where it does not say.

    Args:
        headers: with lower-case names.
        message: the text of the answer.
        now: Unix time, for servers that send no Date.
    """
    now = _sent_at(headers, now)
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if NUMBER.fullmatch(headers.get(name, "").strip()) and len(headers[name]) < LONGEST:
            return float(headers[name]) / 1000
    if "retry-after" in headers and (pause := seconds_of(headers["retry-after"], now)) is not None:
        return pause
    if pauses := [pause for left, pause in budgets(headers, now).values() if left < 1]:
        return max(pauses)
    told = RETRY_INFO.search(message)
    return seconds_of(told[1], now) if told else None


def budgets(headers: Mapping[str, str], now: float) -> dict[str, tuple[float, float]]:
    """What a server says is left: {"requests" or "tokens": (how many, for how many seconds)}; the tightest of each.

    >>> budgets({"x-ratelimit-remaining-requests": "2", "x-ratelimit-reset-requests": "1s"}, 0)
    {'requests': (2.0, 1.0)}
    """
    found: dict[str, tuple[float, float]] = {}
    if not any("ratelimit" in name for name in headers):
        return found
    now = _sent_at(headers, now)
    for counted, names in COUNTED.items():
        for remaining, reset in names:
            left = headers.get(remaining, "").strip()
            until = seconds_of(headers.get(reset, ""), now)
            if not NUMBER.fullmatch(left) or until is None:
                continue
            if counted not in found or float(left) < found[counted][0]:
                found[counted] = (float(left), until)
    return found


def _sent_at(headers: Mapping[str, str], now: float) -> float:
    """The server's own clock where it sends one, since its dates are meant by it."""
    try:
        sent = email.utils.parsedate_to_datetime(headers["date"])
        return (sent if sent.tzinfo else sent.replace(tzinfo=datetime.timezone.utc)).timestamp()
    except (KeyError, ValueError, TypeError, IndexError, OverflowError):
        return now
