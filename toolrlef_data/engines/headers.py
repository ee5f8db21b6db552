"""Headers: what a server's answer says about its rate limits, in all the forms that are met.

Understood are Retry-After (seconds or a date, RFC 9110), retry-after-ms, the x-ratelimit-* family of OpenAI and of
those that follow it, anthropic-ratelimit-*, and the IETF drafts' RateLimit and RateLimit-*. A limit that a header
names is not taken for a rate, since some servers count it by the minute and some by the day; what is left of it, and
until when, is believed.
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
# What messages of well-known servers say where their headers do not.
IN_MESSAGE = re.compile(
    r"(?:try again|retry) (?:in|after) "
    r"((?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+|\d+(?:\.\d+)? ?(?:second|millisecond|minute)s?)"
    r"|\"retryDelay\": ?\"(\d+(?:\.\d+)?s)\"",
    re.I,
)
WORD_UNIT = {"second": 1.0, "millisecond": 0.001, "minute": 60.0}
# (what is left of it, when it is full again), by what is counted.
COUNTED = {
    "requests": (
        ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
        ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
        ("x-ratelimit-remaining", "x-ratelimit-reset"),
        ("x-rate-limit-remaining", "x-rate-limit-reset"),
        ("ratelimit-remaining", "ratelimit-reset"),
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
        if value >= 1e11:  # a Unix time in milliseconds
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
    if found := IN_MESSAGE.search(message):
        words = (found[1] or found[2]).lower()
        number = NUMBER.match(words)
        unit = next((u for word, u in WORD_UNIT.items() if word in words and f"milli{word}" not in words), None)
        return float(number[0]) * unit if unit and number else seconds_of(words, now)
    return None


def budgets(headers: Mapping[str, str], now: float) -> dict[str, tuple[float, float]]:
    """What a server says is left: {"requests" or "tokens": (how many, for how many seconds)}; the tightest of each.

    >>> budgets({"x-ratelimit-remaining-requests": "2", "x-ratelimit-reset-requests": "1s"}, 0)
    {'requests': (2.0, 1.0)}
    """
    found: dict[str, tuple[float, float]] = {}
    if not any("ratelimit" in name or "rate-limit" in name for name in headers):
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
    for policy in _policies(headers.get("ratelimit", "")):
        left_text, reset_text = policy.get("r", policy.get("remaining")), policy.get("t", policy.get("reset"))
        if left_text and reset_text and ("requests" not in found or float(left_text) < found["requests"][0]):
            found["requests"] = (float(left_text), float(reset_text))
    return found


def _policies(text: str) -> list[dict[str, str]]:
    """The fields of each policy of an IETF RateLimit header, such as `"a";r=5;t=30, "b";r=0;t=2`."""
    fields = re.findall(r"\b(r|remaining|t|reset)=(\d{1,12})\b", text)
    policies: list[dict[str, str]] = []
    for name, value in fields:
        if not policies or name in policies[-1]:
            policies.append({})
        policies[-1][name] = value
    return policies


def _sent_at(headers: Mapping[str, str], now: float) -> float:
    """The server's own clock where it sends one, since its dates are meant by it."""
    try:
        sent = email.utils.parsedate_to_datetime(headers["date"])
        return (sent if sent.tzinfo else sent.replace(tzinfo=datetime.timezone.utc)).timestamp()
    except (KeyError, ValueError, TypeError, IndexError, OverflowError):
        return now
