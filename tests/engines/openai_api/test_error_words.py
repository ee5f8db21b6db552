"""Each phrase by which servers name a failure is recognised alone, and each failure has its complete text."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from toolrlef_data.engines.openai_api.client import (
    TooLarge,
    _decode,
    connection_failure,
    describe_untrusted,
    read_limited,
)
from toolrlef_data.engines.openai_api.errors import MAX_SEARCHED, Failure, classify_body, classify_status

TOO_LONG = [
    *("context_length_exceeded", "string_above_max_length", "context length", "context window", "context size"),
    *("context limit", "maximum model length", "prompt too long", "input is too large", "messages are too long"),
    *("request too large", "too many tokens", "exceeds the max", "exceed the model's max"),
    "`inputs` tokens + `max_new_tokens`",
]
FILTERED = [
    *("content_filter", "content_policy", "content management policy", "content filtering", "content exists risk"),
    *("moderation", "flagged", "safety system"),
]
QUOTA = [
    *("insufficient_quota", "insufficient_balance", "insufficient_funds", "insufficient_credits"),
    *("exceeded your quota", "exceeded your current quota", "billing_hard_limit", "billing_not_active"),
    *("billing_error", "billing hard limit", "billing not active", "billing details", "credit balance is too low"),
    *("out of credits", "used all available credits", "insufficient balance", "insufficient credit"),
    "key limit exceeded",
]
INVALID_KEY = [
    *("invalid_api_key", "API_KEY_INVALID", "api key not valid", "api key expired", "incorrect api key"),
    "invalid api key",
]
ABOVE_RATE_LIMIT = ["request too large", "context_length_exceeded", "maximum context length"]
RATE_LIMIT = ["rate limit", "rate_limit", "ratelimit", "too many requests", "overloaded_quota", "overloaded quota"]


def outcome(status: int, text: str) -> tuple[str, str]:
    """Return the kind and the action of a status, whose message stands in a text and in any case."""
    failures = [classify_status(status, form(f"so: {text}, and more")) for form in (str, str.upper, str.lower)]
    assert len({failure[:2] for failure in failures}) == 1, text
    return failures[0][:2]


def test_each_phrase_of_a_failure_is_recognised_alone() -> None:
    assert {outcome(400, text) for text in TOO_LONG} == {("too_long", "final")}
    assert {outcome(status, text) for text in FILTERED for status in (400, 403)} == {("content_filter", "final")}
    for status in (400, 403, 404, 413, 429, 499):
        assert {outcome(status, text) for text in QUOTA} == {("rate_limit", "disable_key")}, status
    for status in (400, 403, 404, 413):
        assert {outcome(status, text) for text in INVALID_KEY} == {("rate_limit", "disable_key")}, status
    assert {outcome(429, text) for text in INVALID_KEY} == {("rate_limit", "pause_key")}
    assert {outcome(429, text) for text in ABOVE_RATE_LIMIT} == {("too_long", "final")}
    assert {outcome(500, text) for text in [*QUOTA, *INVALID_KEY, *TOO_LONG]} == {("server", "retry")}
    for text in RATE_LIMIT:
        for form in (str, str.upper):
            failure = classify_body({"error": form(text)}, "")
            assert failure is not None
            assert failure[:2] == ("rate_limit", "pause_key"), text
    for text in (*TOO_LONG, *FILTERED, *QUOTA):
        failure = classify_body({"error": {"message": text}}, "")
        assert failure is not None
        expected = {"too_long": TOO_LONG, "content_filter": FILTERED, "rate_limit": QUOTA}[failure.kind]
        assert text in expected
    invalid = classify_body({"error": {"message": "x", "type": "invalid_request_error"}}, "")
    assert invalid is not None
    assert invalid[:2] == ("bad_request", "final")


@pytest.mark.parametrize(
    "hint", ["retryDelay", "try again in 5s", "try again after 5s", "retry in 5s", "Retry after 5s"]
)
def test_a_quota_that_returns_soon_is_a_rate_limit(hint: str) -> None:
    text = "exceeded your current quota"
    assert outcome(429, text) == ("rate_limit", "disable_key")
    assert outcome(429, f"{text}; {hint}") == ("rate_limit", "pause_key")
    assert outcome(400, f"{text}; {hint}") == ("rate_limit", "disable_key"), "only a 429 is temporary"
    assert outcome(429, f"{text}; retry soon") == ("rate_limit", "disable_key")


def test_only_the_beginning_of_a_message_is_searched_and_all_of_it_is_kept() -> None:
    for extra, kind in ((0, "too_long"), (1, "bad_request")):
        text = "x" * (MAX_SEARCHED - len(" context size") + extra) + " context size"
        failure = classify_status(400, text)
        assert (failure.kind, failure.detail) == (kind, f"400: {text}")
        in_body = classify_body({"error": {"message": text, "code": 400}}, "")
        assert in_body is not None
        assert in_body.detail == f"400: {text} (400)"


@pytest.mark.parametrize(
    ("body", "text", "expected"),
    [
        ([1], "[1]\n ", Failure("server", "retry", "expected a JSON object as the response body, found: [1]")),
        ({}, "{ }", Failure("server", "retry", "the response body has no choices: { }")),
        (
            {"choices": [{"finish_reason": "ABORT", "message": {}}]}, "",
            Failure("server", "retry", "generation failed with finish_reason 'abort'"),
        ),
        (
            {"choices": [{"text": None}]}, "the text",
            Failure("server", "retry", "the first choice has neither message nor text: the text"),
        ),
        ({"error": {"message": "a", "type": "t"}}, "", Failure("server", "retry", "error in the body of a 200: a (t)")),
        ({"choices": [{"text": ""}]}, "", None),
        ({"choices": [{"message": {}}, {}]}, "", None),
    ],
)  # fmt: skip
def test_the_text_of_a_body_without_a_reply(body: Any, text: str, expected: Failure | None) -> None:
    assert classify_body(body, text) == expected


def test_a_status_in_a_body_has_three_digits_and_the_code_goes_first() -> None:
    for error, status in (
        ({"code": 503, "status": 400}, "503"), ({"code": "x", "status": "503"}, "503"), ({"code": None, "status": 503}, "503"),
    ):  # fmt: skip
        failure = classify_body({"error": error}, "")
        assert failure is not None
        assert failure.detail.startswith(f"{status}: ")
    for code in (399, 600, 5030, "x503", 503.0, [503]):
        failure = classify_body({"error": {"code": code, "message": "context size"}}, "")
        assert failure is not None
        assert failure.kind == "too_long", "the words decide"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"error": {"message": "m", "code": "c", "type": "t", "status": "s"}}, "m (c) (t) (s)"),
        ({"error": {"message": "m", "code": "c", "type": "c", "innererror": {"code": "i"}}}, "m (c) (i)"),
        ({"error": {"message": "m", "innererror": {"code": ""}, "metadata": {"raw": " a\n b "}}}, "m a b"),
        ({"error": {"message": "m", "innererror": "i", "metadata": "raw"}}, "m"),
        ({"error": {"detail": "d", "errors": "e"}}, "d"),
        ({"error": {"errors": ["a", {"msg": "b", "loc": [1], "input": "c"}]}}, "a; b at [1]"),
        ({"error": {}, "message": "m"}, '{"error": {}, "message": "m"}'),
        ([[{"error": "e"}]], "e"),
        ([{"error": "e"}, 1], "[{'error': 'e'}, 1]"),
        ("", '""'),
        (5, "5"),
    ],
)
def test_the_message_of_an_error_body(body: Any, detail: str) -> None:
    assert classify_status(400, json.dumps(body)).detail == f"400: {detail}"


# Connections ----------------------------------------------------------------------------------------------------------

KEY = ConnectionKey("host", 443, True, True, None, None, None)
UNTRUSTED = ssl.SSLCertVerificationError(1, "secret")
UNTRUSTED.verify_message = "self-signed certificate"
ADVICE = "If you trust its authority, set SSL_CERT_FILE to a file with the authority's certificate"


@pytest.mark.parametrize(
    ("error", "detail", "may_be_billed"),
    [
        (ConnectionResetError(104, "secret"), "ConnectionResetError: Connection reset by peer", True),
        (OSError("secret"), "OSError", True),
        (socket.gaierror(-2, "unknown host"), "gaierror: unknown host", True),
        (aiohttp.ClientPayloadError("secret"), "ClientPayloadError", True),
        (aiohttp.ServerDisconnectedError(), "ServerDisconnectedError", True),
        (zlib.error("secret"), "error", True),
        (
            aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "secret")),
            "ClientConnectorError: Connection refused", False,
        ),
    ],
)  # fmt: skip
def test_the_failure_of_a_connection_does_not_quote_its_message(
    error: BaseException, detail: str, may_be_billed: bool
) -> None:
    assert connection_failure(error) == Failure("connection", "retry", detail, may_be_billed)


def test_an_untrusted_certificate_is_explained() -> None:
    text = f"the certificate of the server is not trusted: self-signed certificate. {ADVICE}"
    stopped = Failure("connection", "stop", text, may_be_billed=False)
    assert connection_failure(UNTRUSTED) == stopped
    assert connection_failure(aiohttp.ClientConnectorCertificateError(KEY, UNTRUSTED)) == stopped
    assert describe_untrusted(UNTRUSTED) == text
    unnamed = f"the certificate of the server is not trusted: ValueError. {ADVICE}"
    assert describe_untrusted(ValueError("secret")) == unnamed


@pytest.mark.parametrize("encoding", ["identity", "", "gzip", "x-gzip", "deflate"])
def test_a_body_is_decoded_up_to_its_limit(encoding: str) -> None:
    body = bytes(range(256)) * 4
    encoders: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "x-gzip": gzip.compress,
        "deflate": zlib.compress,
    }
    sent = encoders.get(encoding, bytes)(body)
    assert _decode(sent, encoding, max(len(sent), 1024)) == body
    with pytest.raises(TooLarge):
        _decode(sent, encoding, 1023)
    with pytest.raises(TooLarge):
        _decode(b"x" * 11, encoding, 10)
    if encoding in encoders:
        for damaged in (sent[:-1], b"", b"no archive"):
            with pytest.raises(zlib.error):
                _decode(damaged, encoding, 10_000)
    with pytest.raises(zlib.error, match="unknown encoding"):
        _decode(sent, f"{encoding}br", 10_000)


def test_a_body_is_read_up_to_its_limit_in_bytes() -> None:
    async def parts() -> AsyncIterator[bytes]:
        for part in (b"ab", b"", b"cde"):
            yield part

    async def read(limit: int) -> list[bytes]:
        return [chunk async for chunk in read_limited(parts(), limit, 5.0)]

    assert asyncio.run(read(5)) == [b"ab", b"", b"cde"]
    with pytest.raises(TooLarge, match=r"^the response body has more than 4 bytes$"):
        asyncio.run(read(4))
