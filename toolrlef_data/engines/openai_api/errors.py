"""Failures: what an error status or a malformed body means for the request, the API key and the run.

| HTTP response | error kind | action |
|---|---|---|
| 4xx about quota or billing | rate_limit | disable the key and send the request with another one |
| 429 about a single request above the rate limit | too_long | final |
| other 429 | rate_limit | wait, or pause the key, and send the request again; this does not count as an attempt |
| 401, 402, other 4xx about an invalid key | rate_limit | disable the key |
| 403 about filtered content | content_filter | final |
| other 403, the key has never worked | rate_limit | disable the key |
| other 403, the key has worked | refused | final |
| 408, 409, 425, 498, 5xx | timeout, server | retry up to `retries` times, with exponential backoff and Retry-After |
| 2xx: not JSON, truncated, without choices or with an error | server, or the kind of that error | as for that kind |
| connection refused, reset or closed; no HTTP response in time | connection, timeout | retry |
| the server's certificate is not valid | connection | stop the run |
| a body above the size limit of the request | too_long | final |
| 404, 405, 410 and redirects | not_found | final in this run; the next run sends it again |
| 400, 413, 422 and the other 4xx | bad_request, too_long, content_filter | final |

Rejections (`bad_request`, `not_found`) without a single reply can mean that the settings are wrong, not the rows. In
direct mode they are therefore withheld until a reply arrives. Eight of them stop the run and are not stored. Fewer, and
those on which later requests depend, become the retryable error `rejected`: the next run sends the requests again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Failure", "classify_body", "classify_status"]

MAX_SEARCHED = 4000  # characters of an error message that are searched; `session` stores fewer, after redaction
TOO_LONG = re.compile(
    r"context_length_exceeded|string_above_max_length|context (?:length|window|size|limit)|maximum model length|"
    r"(?:prompt|input|message|request)s? (?:is |are )?too (?:long|large)|too many tokens|exceeds? the (?:model's )?max|"
    r"`inputs` tokens \+ `max_new_tokens`",
    re.I,
)
# Errors of a single request that exceeds the rate limit and would wait forever.
ABOVE_RATE_LIMIT = re.compile(r"request too large|context_length_exceeded|maximum context length", re.I)
FILTERED = re.compile(
    r"content_filter|content_policy|content management policy|content filtering|content exists risk|moderation|flagged|"
    r"safety system",
    re.I,
)
QUOTA = re.compile(
    r"insufficient_quota|insufficient_(?:balance|funds|credits)|exceeded your (?:current )?quota|"
    r"billing_(?:hard_limit|not_active|error)|billing (?:hard limit|not active|details)|credit balance is too low|"
    r"out of credits|used all available credits|insufficient (?:balance|credit)|key limit exceeded",
    re.I,
)
INVALID_KEY = re.compile(
    r"invalid_api_key|API_KEY_INVALID|api key (?:not valid|expired)|(?:incorrect|invalid) api key",
    re.I,
)
RETRY_HINT = re.compile(r"retryDelay|(?:try again|retry) (?:in|after) \d", re.I)
RATE_LIMIT = re.compile(r"rate.?limit|too many requests|overloaded.?quota", re.I)
RETRYABLE_STATUSES = {408: "timeout", 409: "server", 425: "server", 498: "server"}
# Finish reasons of failed generations, in order: of OpenRouter, of vLLM and SGLang, of DeepSeek.
FAILED_FINISH_REASONS = ("error", "abort", "insufficient_system_resource")


class Failure(NamedTuple):
    """Why a request has no reply, and what to do about it.

    | action | meaning |
    |---|---|
    | retry | send the request again; this counts as an attempt |
    | pause_key | rate limit: pause the key, then send the request again |
    | wait | rate limit while the server accepts most requests: send the request again after a wait |
    | disable_key | the key is unusable: send the request with another one |
    | check_key | `disable_key` if the key has never worked, else `final` |
    | stop | the set-up is wrong for every request: stop the run |
    | final | do not send the request again in this run |

    Args:
        kind: an error kind of `records.REPLY_ERRORS`.
        action: see the table.
        detail: the server's complete error message, with any secret that it echoes; `Session.clean` shortens it.
        may_be_billed: whether the server may have processed the request.
        wait: seconds that the server asks the client to wait before the request is sent again.
    """

    kind: str
    action: str
    detail: str
    may_be_billed: bool = True
    wait: float = 0.0


def classify_status(status: int, text: str) -> Failure:
    """Classify an HTTP response with a status other than 2xx and return its failure.

    Args:
        status: the HTTP status, or the status in the error body of a 200.
        text: the response body.

    >>> classify_status(429, '{"error": {"code": "insufficient_quota"}}').action
    'disable_key'
    >>> classify_status(400, "This model's maximum context length is 8192 tokens").kind
    'too_long'
    """
    message = _error_message(text)
    detail, message = f"{status}: {message}", message[:MAX_SEARCHED]
    if status == 429:
        is_temporary = RETRY_HINT.search(text) and "insufficient_quota" not in message
        if QUOTA.search(message) and not is_temporary:
            return Failure("rate_limit", "disable_key", detail)
        if ABOVE_RATE_LIMIT.search(message):
            return Failure("too_long", "final", detail)
        return Failure("rate_limit", "pause_key", detail)
    if status in (401, 402) or (400 <= status < 500 and (QUOTA.search(message) or INVALID_KEY.search(message))):
        # `rate_limit` is a retryable kind: if no other key is free before the deadline, the next run sends the request.
        return Failure("rate_limit", "disable_key", detail)
    if status == 403:
        is_filtered = FILTERED.search(message)
        return Failure("content_filter", "final", detail) if is_filtered else Failure("refused", "check_key", detail)
    if status in RETRYABLE_STATUSES or status >= 500:
        return Failure(RETRYABLE_STATUSES.get(status, "server"), "retry", detail)
    if status < 400 or status in (404, 405, 410):
        return Failure("not_found", "final", detail)
    if status == 413 or TOO_LONG.search(message):
        return Failure("too_long", "final", detail)
    return Failure("content_filter" if FILTERED.search(message) else "bad_request", "final", detail)


def classify_body(body: Any, text: str) -> Failure | None:
    """Return the failure in the body of a 2xx; None if it has choices and no error.

    Args:
        body: the parsed JSON; None if the text is not JSON.
        text: the response body.
    """
    if not isinstance(body, Mapping):
        return Failure("server", "retry", f"expected a JSON object as the response body, found: {_one_line(text)}")
    choices = body.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, Mapping) for choice in choices):
        choices = []
    error = body.get("error") or (choices[0].get("error") if choices else None)
    if error:
        try:
            error_json = json.dumps({"error": error})
        except RecursionError:  # nested so deeply that `json.loads` succeeds and `json.dumps` fails
            error_json = text
        complete_message = _error_message(error_json)
        message = complete_message[:MAX_SEARCHED]
        status = _embedded_status(error)
        if status is not None:
            return classify_status(status, error_json)
        if QUOTA.search(message):
            return classify_status(402, error_json)
        if RATE_LIMIT.search(message):
            return classify_status(429, error_json)
        if TOO_LONG.search(message) or FILTERED.search(message) or "invalid_request" in error_json:
            return classify_status(400, error_json)
        return Failure("server", "retry", f"error in the body of a 200: {complete_message}")
    if not choices:
        return Failure("server", "retry", f"the response body has no choices: {_one_line(text)}")
    finish_reason = str(choices[0].get("finish_reason") or "").lower()
    if finish_reason in FAILED_FINISH_REASONS:
        return Failure("server", "retry", f"generation failed with finish_reason {finish_reason!r}")
    has_content = isinstance(choices[0].get("message"), Mapping) or isinstance(choices[0].get("text"), str)
    if not has_content and finish_reason != "content_filter":
        return Failure("server", "retry", f"the first choice has neither message nor text: {_one_line(text)}")
    return None


def _embedded_status(error: Any) -> int | None:
    """Return the HTTP status that an error in the body of a 200 names."""
    if isinstance(error, Mapping):
        for name in ("code", "status"):
            code = error.get(name)
            if isinstance(code, (int, str)) and re.fullmatch(r"[45]\d\d", str(code)):
                return int(code)
    return None


def _error_message(text: str) -> str:
    """Return the message and the codes of an error body in any known format, without fields that echo the request."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return _one_line(text)
    while isinstance(body, list) and len(body) == 1:  # Google
        body = body[0]
    error = body.get("error", body) if isinstance(body, Mapping) else body
    if isinstance(error, Mapping):
        message = error.get("message") or error.get("detail") or error.get("errors")
        if isinstance(message, list):  # FastAPI: an entry per invalid field; omit its `input`, which echoes the request
            entries = [f"{e.get('msg')} at {e.get('loc')}" if isinstance(e, Mapping) else str(e) for e in message]
            message = "; ".join(entries)
        codes = [str(error[name]) for name in ("code", "type", "status") if error.get(name)]
        inner = error.get("innererror")
        codes += [str(inner["code"])] if isinstance(inner, Mapping) and inner.get("code") else []
        metadata = error.get("metadata")
        raw = metadata.get("raw") if isinstance(metadata, Mapping) else None  # OpenRouter: the provider's error
        parts = [message, *(f"({code})" for code in dict.fromkeys(codes)), raw]
        return _one_line(" ".join(str(part) for part in parts if part)) or _one_line(text)
    return _one_line(str(error or text))


def _one_line(text: str) -> str:
    return " ".join(text.split())
