"""Faults: what a server's refusal or a broken answer means for the request, the key and the run.

| what came | it is | then |
|---|---|---|
| 429 | rate_limit | the key pauses; the request goes again and loses no attempt |
| 4xx that speak of quota or billing | - | the key drops out; the request goes again with another |
| 401, 402, 400 that speak of an invalid key | - | the key drops out |
| 403 of a key that never worked | - | the key drops out |
| 403 of a key that works | refused | final |
| 408, 409, 425, 498, 5xx | timeout, server | again, with growing waits, as often as `retries` says; Retry-After holds |
| 2xx that is no JSON, is cut, has no choices or holds an error | server, or what the error says | as above |
| connection refused, reset, cut; no answer in time | connection, timeout | as above |
| 404 and redirects | not_found | not again in this run; a re-run asks |
| 400, 413, 422 and the other 4xx | bad_request, too_long, content_filter | final |

Where a server has answered nothing but 400 and 404 so far, the settings are at fault and not the rows: the run stops,
and nothing of it is stored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Fault", "fault_in", "fault_of_status"]

MOST_WORDS = 4000  # characters of a server's message that are looked at; fewer are kept, once they are scrubbed
TOO_LONG = re.compile(
    r"context_length_exceeded|string_above_max_length|context (?:length|window|size|limit)|maximum model length|"
    r"(?:prompt|input|message|request)s? (?:is |are )?too (?:long|large)|too many tokens|exceeds? the (?:model's )?max|"
    r"`inputs` tokens \+ `max_new_tokens`",
    re.I,
)
# A single request above a whole rate limit, which would wait for ever.
NEVER_FITS = re.compile(r"request too large|context_length_exceeded|maximum context length", re.I)
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
BAD_KEY = re.compile(
    r"invalid_api_key|API_KEY_INVALID|api key (?:not valid|expired)|(?:incorrect|invalid) api key",
    re.I,
)
SAYS_WHEN = re.compile(r"retryDelay|(?:try again|retry) (?:in|after) \d", re.I)
RATE = re.compile(r"rate.?limit|too many requests|overloaded.?quota", re.I)
RETRIED = {408: "timeout", 409: "server", 425: "server", 498: "server"}
# Reasons for which a choice ended that is no reply: of OpenRouter, of vLLM and SGLang, of DeepSeek.
BROKEN_ENDS = ("error", "abort", "insufficient_system_resource")


class Fault(NamedTuple):
    """Why a request has no reply.

    Args:
        kind: of `records.REPLY_ERRORS`.
        action: "again" (an attempt is used up), "pause" (a rate limit), "drop" (the key is of no use), "doubt" (the key
            or the request is at fault: the key, if it never worked), or "final" (not again in this run).
        detail: what the server said.
        worked: whether the server may have worked for it.
    """

    kind: str
    action: str
    detail: str
    worked: bool = True


def fault_of_status(status: int, text: str) -> Fault:
    """What a status outside of 2xx means.

    Args:
        status: of the answer, or the one that an error inside a 200 names.
        text: the answer's body.

    >>> fault_of_status(429, '{"error": {"code": "insufficient_quota"}}').action
    'drop'
    >>> fault_of_status(400, "This model's maximum context length is 8192 tokens").kind
    'too_long'
    """
    words = _words(text)[:MOST_WORDS]
    detail = f"{status}: {words}"
    if status == 429:
        waits = SAYS_WHEN.search(text) and "insufficient_quota" not in words
        if QUOTA.search(words) and not waits:
            return Fault("rate_limit", "drop", detail)
        return Fault("too_long", "final", detail) if NEVER_FITS.search(words) else Fault("rate_limit", "pause", detail)
    if status in (401, 402) or (400 <= status < 500 and (QUOTA.search(words) or BAD_KEY.search(words))):
        # A rate limit of its kind: where no other key has its turn in time, the row is asked by a re-run.
        return Fault("rate_limit", "drop", detail)
    if status == 403:
        filtered = FILTERED.search(words)
        return Fault("content_filter", "final", detail) if filtered else Fault("refused", "doubt", detail)
    if status in RETRIED or status >= 500:
        return Fault(RETRIED.get(status, "server"), "again", detail)
    if status < 400 or status in (404, 405, 410):
        return Fault("not_found", "final", detail)
    if status == 413 or TOO_LONG.search(words):
        return Fault("too_long", "final", detail)
    return Fault("content_filter" if FILTERED.search(words) else "bad_request", "final", detail)


def fault_in(body: Any, text: str) -> Fault | None:
    """What is wrong with the body of a 2xx answer; None where it has choices and no error.

    Args:
        body: the parsed JSON, or None where the text was no JSON.
        text: the text itself.
    """
    if not isinstance(body, Mapping):
        return Fault("server", "again", f"the answer is not a JSON object: {text[:200]!r}")
    listed = body.get("choices")
    choices = listed if isinstance(listed, list) and all(isinstance(choice, Mapping) for choice in listed) else []
    error = body.get("error") or (choices[0].get("error") if choices else None)
    if error:
        try:
            inside = json.dumps({"error": error})
        except RecursionError:  # it could just be read, with a frame or two less on the stack
            inside = text
        words = _words(inside)[:MOST_WORDS]
        code = _status_in(error)
        if code is not None:
            return fault_of_status(code, inside)
        if QUOTA.search(words):
            return fault_of_status(402, inside)
        if RATE.search(words):
            return fault_of_status(429, inside)
        if TOO_LONG.search(words) or FILTERED.search(words) or "invalid_request" in inside:
            return fault_of_status(400, inside)
        return Fault("server", "again", f"an error inside a 200: {words}")
    if not choices:
        return Fault("server", "again", f"the answer has no choices: {text[:200]!r}")
    end = choices[0].get("finish_reason")
    if isinstance(end, str) and end in BROKEN_ENDS:
        return Fault("server", "again", f"the reply ended with {end!r}")
    said = isinstance(choices[0].get("message"), Mapping) or isinstance(choices[0].get("text"), str)
    if not said and end != "content_filter":
        return Fault("server", "again", f"the answer's choice holds no message: {text[:200]!r}")
    return None


def _status_in(error: Any) -> int | None:
    """The status that an error inside a 200 names."""
    if isinstance(error, Mapping):
        for name in ("code", "status"):
            code = error.get(name)
            if isinstance(code, (int, str)) and re.fullmatch(r"[45]\d\d", str(code)):
                return int(code)
    return None


def _words(text: str) -> str:
    """What an error body says about itself, whatever its shape, without what it repeats of the request."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return " ".join(text.split())
    while isinstance(body, list) and len(body) == 1:  # Google
        body = body[0]
    error = body.get("error", body) if isinstance(body, Mapping) else body
    if isinstance(error, Mapping):
        said = error.get("message") or error.get("detail") or error.get("errors")
        if isinstance(said, list):  # FastAPI: one entry a field, with the user's own input
            said = "; ".join(f"{e.get('msg')} at {e.get('loc')}" if isinstance(e, Mapping) else str(e) for e in said)
        codes = [str(error[name]) for name in ("code", "type", "status") if error.get(name)]
        inner = error.get("innererror")
        codes += [str(inner["code"])] if isinstance(inner, Mapping) and inner.get("code") else []
        meta = error.get("metadata")
        raw = meta.get("raw") if isinstance(meta, Mapping) else None  # OpenRouter: what the provider said
        parts = [said, *(f"({code})" for code in dict.fromkeys(codes)), raw]
        return " ".join(" ".join(str(part) for part in parts if part).split()) or " ".join(text.split())
    return " ".join(str(error or text).split())
