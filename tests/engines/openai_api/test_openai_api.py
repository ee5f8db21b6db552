"""The engine openai_api with a misbehaving local server: requests, retries and replies."""

from __future__ import annotations

import asyncio
import gc
import gzip
import importlib
import io
import json
import logging
import pickle
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, Value, load_dataset

from tests.support.api_runs import STALL_SECONDS
from tests.support.api_server import ApiServer, ReceivedRequest, ServerReply, completion, error, html, rate_limited
from tests.support.chains import Chains
from toolrlef_data.cli.main import _print_run
from toolrlef_data.engines.model_stage import ModelStage, run_model_stage
from toolrlef_data.engines.openai_api.engine import OpenAIEngine
from toolrlef_data.engines.spec import PULL_INTERVAL, EngineSpec, Limits, Message, Request
from toolrlef_data.recipes.loading import load_recipe
from toolrlef_data.recipes.runner import run_recipe
from toolrlef_data.records import AllRequestsRefused, CapReached, InputError, NoUsableApiKey, Reply, TooManyFailures
from toolrlef_data.tables.lineage import lineage, usage

FAST = Limits(backoff=0.01)
CANARY = "sk-canary-7f3a9c1e5b2d4860"


def spec_of(server: ApiServer, **settings: Any) -> EngineSpec:
    fixed = {"model": "m", "base_url": server.url, "limits": FAST, "progress": False}
    return EngineSpec("openai_api", **{**fixed, **settings})


def replies_of(spec: EngineSpec, count: int = 1) -> list[Reply]:
    """Return the replies to `count` questions, in order."""
    requests = [(str(i), Request(messages=(Message("user", f"question {i}"),))) for i in range(count)]
    with OpenAIEngine(spec) as engine:
        replies = dict(chain.from_iterable(engine.generate(requests)))
    return [replies[str(i)] for i in range(count)]


def always(reply: ServerReply) -> Any:
    return lambda received, repeats: reply


def first_attempt(reply: ServerReply) -> Any:
    """Send this reply to the first attempt of every question."""
    return lambda received, repeats: reply if repeats == 0 else None


NO_RESPONSE = {  # server behaviour and error kind
    "closed before a byte": (ServerReply(drop="before"), "connection"),
    "reset": (ServerReply(drop="reset"), "connection"),
    "closed in the body": (ServerReply(drop="body"), "connection"),
    "silent": (ServerReply(delay=STALL_SECONDS), "timeout"),
}


@pytest.mark.parametrize("fault", NO_RESPONSE)
def test_a_missing_http_response_has_an_error_kind(fault: str) -> None:
    server_reply, kind = NO_RESPONSE[fault]
    with ApiServer(always(server_reply)) as server:
        (reply,) = replies_of(spec_of(server, retries=1, timeout=1.0))
        assert reply.error == kind, reply.error_detail
        assert len(server.requests) == 2


def test_an_unreachable_server_costs_nothing() -> None:
    with ApiServer(start=False) as server:
        limits = Limits(backoff=0.01, max_cost=1e-9 + 0.001, price=(1.0, 1.0))
        replies = replies_of(spec_of(server, retries=1, limits=limits, concurrency=2), 6)
        assert {reply.error for reply in replies} == {"connection"}
        assert "Connect" in replies[0].error_detail
    for host in ("no-such-host.invalid", "a..b"):
        (reply,) = replies_of(spec_of(server, base_url=f"http://{host}/v1", retries=0))
        assert reply.error == "connection", reply


@pytest.mark.parametrize("status", [408, 409, 425, 498, 500, 502, 503, 504, 529])
def test_retry_after_is_respected_for_every_status(status: int) -> None:
    """The requested pause ends after the deadline, so the request is not sent again."""
    later = ServerReply(status, {"error": "later"}, {"retry-after-ms": "600000"})
    with ApiServer(first_attempt(later)) as server:
        (reply,) = replies_of(spec_of(server, limits=replace(FAST, deadline=60.0)))
        assert "the server requests a pause of 600 s" in reply.error_detail
        assert len(server.requests) == 1


TEMPORARY = {
    "408": error(408, None, "slow"),
    "409": error(409, None, "conflict"),
    "500": error(500, None, "boom"),
    "502, HTML": html(502),
    "503": error(503, "overloaded", "later"),
    "529": error(529, "overloaded_error", "later"),
    "HTML with 200": html(200),
    "empty body with 200": ServerReply(200, b""),
    "invalid JSON with 200": ServerReply(200, b'{"choices": [{"mess'),
    "JSON that is not an object": ServerReply(200, b"[1, 2]"),
    "no choices": ServerReply(200, {"id": "x", "choices": []}),
    "an error body with 200": ServerReply(200, {"error": {"message": "upstream", "code": 502}}),
    "closed before a byte": ServerReply(drop="before"),
    "closed after the headers": ServerReply(drop="headers"),
    "closed in the body": ServerReply(drop="body"),
    "reset": ServerReply(drop="reset"),
    "not HTTP": ServerReply(200, b"", headers={"content-length": "x\r\n\r\n\x00\x01garbage"}),
}


@pytest.mark.parametrize("fault", TEMPORARY)
def test_a_temporary_failure_is_retried(fault: str) -> None:
    with ApiServer(first_attempt(TEMPORARY[fault])) as server:
        (reply,) = replies_of(spec_of(server))
        assert reply.error is None
        assert reply.text
        assert len(server.requests) == 2


@pytest.mark.parametrize("fault", TEMPORARY)
def test_a_persistent_failure_uses_up_the_retries(fault: str) -> None:
    with ApiServer(always(TEMPORARY[fault])) as server:
        (reply,) = replies_of(spec_of(server, retries=2))
        assert reply.text is None
        assert reply.error in {"timeout", "server", "connection"}
        assert reply.error_detail
        assert len(server.requests) == 3


def test_a_compressed_body_is_decoded_and_a_damaged_one_retried() -> None:
    body = gzip.compress(json.dumps({"choices": [{"message": {"content": "8"}}]}).encode())
    responses = [
        ServerReply(200, body[:-9] + b"garbage!!", {"content-encoding": "gzip"}),
        ServerReply(200, body, {"content-encoding": "gzip"}),
    ]
    with ApiServer(lambda received, repeats: responses[min(repeats, 1)]) as server:
        (reply,) = replies_of(spec_of(server))
        assert (reply.text, len(server.requests)) == ("8", 2)


@pytest.mark.parametrize("billing", [{}, {"organization": "org-1"}, {"organization": "org-1", "project": "proj-1"}])
def test_billing_headers_are_sent_and_cookies_are_not(billing: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", billing.get("organization", ""))
    monkeypatch.setenv("OPENAI_PROJECT_ID", billing.get("project", ""))
    with ApiServer(first_attempt(ServerReply(503, b"", {"set-cookie": "a=b", "retry-after-ms": "1"}))) as server:
        replies_of(spec_of(server))
        assert len(server.requests) == 2
        for received in server.requests:
            sent = {name: value for name, value in received.headers.items() if name.startswith("openai-")}
            assert sent == {f"openai-{name}": value for name, value in billing.items()}
            assert received.headers["accept"] == "application/json"
            assert "cookie" not in received.headers


@pytest.mark.parametrize("drop", ["stall", "stall_body"])
def test_a_stall_ends_at_the_timeout(drop: Any) -> None:
    with ApiServer(first_attempt(ServerReply(drop=drop))) as server:
        (reply,) = replies_of(spec_of(server, timeout=1.0))  # the server waits forever
        assert reply.text
        assert server.requests[0].answered is None
        assert server.requests[-1].answered is not None


FINAL = {
    "400": (error(400, "invalid_value", "bad"), "bad_request"),
    "context length": (error(400, "context_length_exceeded", "maximum context length is 10"), "too_long"),
    "413": (error(413, None, "large"), "too_long"),
    "422": (ServerReply(422, {"detail": "Unexpected fields in the request: {'top_k'}"}), "bad_request"),
    "filtered": (error(400, "content_filter", "the prompt was flagged"), "content_filter"),
    "404": (error(404, "model_not_found", "no such model"), "not_found"),
    "redirect": (ServerReply(307, b"", headers={"location": "http://127.0.0.1:9/v1"}), "not_found"),
    "filtered reply": (completion("half", finish_reason="content_filter"), "content_filter"),
}


@pytest.mark.parametrize("fault", FINAL)
def test_a_final_failure_is_sent_once(fault: str) -> None:
    server_reply, kind = FINAL[fault]
    with ApiServer(lambda received, seen: server_reply if len(server.requests) == 1 else None) as server:
        replies = replies_of(spec_of(server, concurrency=1), 2)
        assert [(reply.text is None, reply.error) for reply in replies] == [(True, kind), (False, None)]
        assert len(server.requests) == 2


@pytest.mark.parametrize("fault", ["400", "422", "404", "redirect"])
def test_a_rejection_of_a_server_without_a_reply_is_retryable(fault: str) -> None:
    with ApiServer(always(FINAL[fault][0])) as server:
        assert [reply.error for reply in replies_of(spec_of(server), 2)] == ["rejected"] * 2
        assert len(server.requests) == 2


def test_a_rate_limit_is_not_an_attempt() -> None:
    limited = rate_limited(**{"retry-after-ms": "300"})
    with ApiServer(lambda received, repeats: limited if len(server.requests) <= 4 else None, gather=4) as server:
        replies = replies_of(spec_of(server, retries=0, concurrency=4), 8)
        assert all(reply.text for reply in replies)
        assert len(server.requests) == 12, "four requests were sent again"
        for first in server.requests[:4]:
            (again,) = (received for received in server.requests[4:] if received.raw == first.raw)
            assert again.time - first.time >= 0.3


def test_a_truncated_reply_has_finish_reason_length() -> None:
    with ApiServer(always(completion("The answer is 4", finish_reason="length"))) as server:
        (reply,) = replies_of(spec_of(server))
        assert (reply.text, reply.finish_reason, reply.error) == ("The answer is 4", "length", None)


def test_the_concurrency_is_respected_and_used() -> None:
    with ApiServer(gather=7) as server:
        replies_of(spec_of(server, concurrency=7), 40)
        assert server.max_in_flight == 7


def test_rate_limits_of_all_requests_reduce_the_concurrency() -> None:
    """It is halved once for all in-flight requests, then grows with the replies."""
    with ApiServer(latency=0.05, gather=16) as server:
        server.script = lambda received, repeats: (
            rate_limited(retry_after="0.1") if len(server.requests) <= 16 else None
        )
        replies_of(spec_of(server, concurrency=16), 16)
        retries = list(server.requests[16:])
        concurrency = max(sum(r.time <= o.time < (r.answered or 0) for o in retries) for r in retries)
        assert concurrency <= 11
        assert len(server.requests) == 32


PASSING = {
    "rate limit": rate_limited(),
    "rate limit with Retry-After": rate_limited(retry_after="60"),
    "500": error(500, None, "boom"),
    "503 with Retry-After": ServerReply(503, b"", {"retry-after": "60"}),
}


@pytest.mark.parametrize("fault", PASSING)
def test_a_row_that_waits_leaves_its_place_to_others(fault: str) -> None:
    """As many rows as there are places wait for minutes; all other rows are answered before they are sent again."""
    rows = {f'question {10 * i}"'.encode() for i in range(4)}

    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        return PASSING[fault] if any(row in received.raw for row in rows) else None

    requests = [(str(i), Request(messages=(Message("user", f"question {i}"),))) for i in range(40)]
    with (
        ApiServer(script) as server,
        OpenAIEngine(spec_of(server, concurrency=4, limits=Limits(backoff=60.0, deadline=100.0))) as engine,
    ):
        answered: list[str] = []
        for replies in engine.generate(requests):
            answered += [tag for tag, reply in replies if reply.text]
            if len(answered) == 36:
                engine.cancel()  # the other four wait
        assert len(answered) == 36
        assert len(server.requests) == 40
        assert server.max_in_flight <= 4


RETRY_AFTER = {
    "seconds": {"retry-after": "600"},
    "a fraction": {"retry-after": "599.6"},
    "milliseconds": {"retry-after-ms": "600000"},
    "a date": {"retry-after": "Thu, 01 Jan 2026 00:10:00 GMT", "date": "Thu, 01 Jan 2026 00:00:00 GMT"},
    "a reset": {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "10m"},
    "a reset without a remaining amount": {"x-ratelimit-reset-tokens": "599.9s"},
}


@pytest.mark.parametrize("form", RETRY_AFTER)
def test_a_row_waits_as_long_as_the_server_asks(form: str) -> None:
    """The requested pause ends after the deadline, so the request is not sent again."""
    limited = rate_limited(**{name.replace("-", "_"): value for name, value in RETRY_AFTER[form].items()})
    with ApiServer(first_attempt(limited)) as server:
        (reply,) = replies_of(spec_of(server, limits=replace(FAST, deadline=60.0)))
        assert reply.error == "rate_limit"
        assert "the server requests a pause of 600 s" in reply.error_detail
        assert len(server.requests) == 1


def test_a_row_is_sent_again_after_the_requested_pause() -> None:
    with ApiServer(first_attempt(rate_limited(**{"retry-after-ms": "300"}))) as server:
        assert replies_of(spec_of(server))[0].text
        first, second = server.requests
        assert second.time - first.time >= 0.3


def test_a_short_wait_that_the_server_asks_for_does_not_shorten_the_backoff() -> None:
    """The backoff of at least 15 s would end after the deadline."""
    overloaded = ServerReply(503, b"", {"retry-after-ms": "1"})
    with ApiServer(always(overloaded)) as server:
        (reply,) = replies_of(spec_of(server, limits=Limits(backoff=30.0, deadline=10.0)))
        assert (reply.error, len(server.requests)) == ("server", 1)


def test_a_row_whose_wait_ends_after_the_deadline_fails_with_the_reason() -> None:
    with ApiServer(first_attempt(rate_limited(retry_after="3600"))) as server:
        (reply,) = replies_of(spec_of(server, limits=Limits(deadline=60.0)))
        assert reply.error == "rate_limit"
        assert "the server requests a pause of 3600 s" in reply.error_detail
        assert len(server.requests) == 1


# Keys ----------------------------------------------------------------------------------------------------------------

GOOD, REVOKED, EMPTY = "good-0123456789abcdef", "revoked-0123456789abcdef", "empty-0123456789abcdef"


def reject_unusable_keys(received: ReceivedRequest, repeats: int) -> ServerReply | None:
    if received.key == REVOKED:
        return error(401, "invalid_api_key", f"Incorrect API key provided: {received.key}.")
    if received.key == EMPTY:
        return error(429, "insufficient_quota", f"You exceeded your current quota, {received.key}.")
    return None


def test_keys_are_used_in_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEYS", f"{GOOD}1, {GOOD}2 {GOOD}3")
    with ApiServer() as server:
        replies_of(spec_of(server, keys="MY_KEYS", concurrency=3), 30)
        used = [received.key for received in server.requests]
        assert all(used.count(f"{GOOD}{i}") >= 8 for i in (1, 2, 3))


def test_an_unusable_key_is_disabled_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_KEYS", f"{REVOKED},{EMPTY},{GOOD}")
    with ApiServer(reject_unusable_keys) as server:
        replies = replies_of(spec_of(server, keys="MY_KEYS", concurrency=1, retries=0), 10)
        assert all(reply.text for reply in replies)
        assert [received.key for received in server.requests].count(REVOKED) == 1
        assert [received.key for received in server.requests].count(EMPTY) == 1
    assert "API key 1 is no longer used: 401" in caplog.text
    assert "API key 2 is no longer used: 429" in caplog.text
    assert "0123456789abcdef" not in caplog.text


def test_the_run_stops_without_a_usable_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEYS", f"{REVOKED},{EMPTY}")
    with (
        ApiServer(reject_unusable_keys) as server,
        pytest.raises(NoUsableApiKey, match=r"rejected all API keys \(2\)") as caught,
    ):
        replies_of(spec_of(server, keys="MY_KEYS", concurrency=4), 50)
    assert len(server.requests) <= 8
    assert "0123456789abcdef" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_new_key_in_the_key_file_is_used(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# a comment\n{REVOKED}\n")

    def revoke_and_renew(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        (tmp_path / "new").write_text(f"{REVOKED}\n{GOOD}\n")
        (tmp_path / "new").replace(file)
        return reject_unusable_keys(received, repeats)

    with ApiServer(revoke_and_renew) as server:
        assert all(reply.text for reply in replies_of(spec_of(server, keys=f"file:{file}"), 5))


def test_no_key_is_sent_to_a_server_without_configured_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", GOOD)
    with ApiServer() as server:
        replies_of(spec_of(server))
        assert "authorization" not in server.requests[0].headers
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        replies_of(spec_of(server, base_url=None))
        assert server.requests[1].key == GOOD
    with ApiServer(keys={GOOD}) as server, pytest.raises(NoUsableApiKey, match="requires an API key, set `keys`"):
        replies_of(spec_of(server))


def test_credentials_in_a_url_are_sent_but_not_in_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    with ApiServer() as server:
        monkeypatch.setenv("MY_URL", server.url.replace("http://", "http://me:pass%2Fword@") + "?code=secret-code")
        spec = spec_of(server, base_url="$MY_URL")
        (reply,) = replies_of(spec)
        assert reply.text
        assert server.requests[0].headers["authorization"].startswith("Basic ")
        assert server.requests[0].query == {"code": "secret-code"}
        assert OpenAIEngine(spec).identity()["url"] == server.url


def test_403_disables_a_key_that_has_never_worked(monkeypatch: pytest.MonkeyPatch) -> None:
    forbidden = error(403, None, "not allowed")
    monkeypatch.setenv("MY_KEYS", GOOD)
    with ApiServer(always(forbidden)) as server, pytest.raises(NoUsableApiKey):
        replies_of(spec_of(server, keys="MY_KEYS"), 3)
    slow = ServerReply(delay=0.3)
    for concurrency in (1, 4):  # with 4, the 403 arrives before the other replies
        with ApiServer(lambda received, repeats: forbidden if b"question 2" in received.raw else slow) as server:
            replies = replies_of(spec_of(server, keys="MY_KEYS", concurrency=concurrency), 4)
            assert [reply.error for reply in replies] == [None, None, "refused", None]
            assert len(server.requests) == 4


BAD_SETTINGS = {
    "no such model": error(404, "model_not_found", "no such model"),
    "an unsupported server option": error(400, None, "tools need the option --enable-tools"),
}


@pytest.mark.parametrize("problem", BAD_SETTINGS)
def test_rejections_of_all_requests_are_not_final(problem: str) -> None:
    with ApiServer(always(BAD_SETTINGS[problem])) as server:
        with pytest.raises(AllRequestsRefused, match=r"rejected all \d+ requests"):
            run(spec_of(server, concurrency=4), [f"question {i}" for i in range(100)])
        assert len(server.requests) <= 16
        server.script = None
        replies = run(spec_of(server), [f"question {i}" for i in range(100)])
        assert all(reply for (reply,) in replies), "with correct settings, all requests are sent"


def test_rejections_before_the_first_reply_are_final_after_it() -> None:
    """The first rows of a table may be invalid."""
    bad = [f"question {i} bad" for i in range(6)]
    rows = [*bad, *(f"question {i}" for i in range(6, 40))]
    spec: dict[str, Any] = {"concurrency": 6, "max_failed": 0.5}
    with ApiServer(lambda received, repeats: error(400, None, "unfit") if b" bad" in received.raw else None) as server:
        replies = run(spec_of(server, **spec), rows)
        assert [i for i, (reply,) in enumerate(replies) if reply.startswith("<")] == list(range(6))
        run(spec_of(server, **spec, progress=False), [*rows, "another"])
        assert len(server.requests) == 41, "no rejected row is sent again"


def test_fast_rejections_do_not_stop_a_run_with_slow_in_flight_replies() -> None:
    """A 400 is faster than a reply, so half of the first rows may be rejected before the first reply."""

    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        return error(400, None, "unfit") if b" bad" in received.raw else ServerReply(delay=0.4)

    rows = [f"question {i}{' bad' if i % 2 else ''}" for i in range(60)]
    with ApiServer(script) as server:
        replies = run(spec_of(server, concurrency=16, max_failed=0.6), rows)
        assert [reply.startswith("<") for (reply,) in replies] == [i % 2 == 1 for i in range(60)]
        assert len(server.requests) == 60


def test_a_400_about_an_invalid_key_disables_it(monkeypatch: pytest.MonkeyPatch) -> None:
    invalid = error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")
    monkeypatch.setenv("MY_KEYS", f"{REVOKED} {GOOD}")
    with ApiServer(lambda received, repeats: invalid if received.key == REVOKED else None) as server:
        assert all(reply.text for reply in replies_of(spec_of(server, keys="MY_KEYS"), 5))


def test_too_many_failures_store_in_flight_replies_and_name_the_reason() -> None:
    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        bad = b"bad" in received.raw
        return error(400, None, "unfit text") if bad else ServerReply(delay=0.3)

    rows = ["question", *(f"bad {i}" for i in range(4)), *(f"question {i}" for i in range(40))]
    with ApiServer(script) as server:
        with pytest.raises(TooManyFailures, match=r"(?s)bad_request.*does not send the requests again.*unfit text"):
            run(spec_of(server, concurrency=16, max_failed=0.05), rows)
        num_sent = len(server.requests)
        run(spec_of(server, concurrency=16, max_failed=1.0), rows)
        assert len(server.requests) == len(rows), "in-flight replies are stored and not sent again"
        assert num_sent < len(rows)


def test_a_wrong_model_stops_the_run_early() -> None:
    with ApiServer(always(error(404, "model_not_found", "no such model"))) as server:
        with pytest.raises(AllRequestsRefused, match="no such model"):
            replies_of(spec_of(server, concurrency=4), 500)
        assert len(server.requests) <= 16


# Rates and caps ------------------------------------------------------------------------------------------------------


def test_requests_per_minute_are_respected() -> None:
    """The second minute starts after the deadline, so the requests beyond the first minute's fail at once."""
    with ApiServer() as server:
        replies = replies_of(spec_of(server, limits=Limits(rpm=1, deadline=30.0), concurrency=50), 5)
        assert sorted(reply.error or "" for reply in replies) == ["", *["rate_limit"] * 4]
        assert len(server.requests) == 1


def test_budgets_in_headers_are_respected() -> None:
    """The budget is two requests per 0.4 s, and no request exceeds it."""
    state = {"remaining": 2, "reset_at": 0.0}

    def counted(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        if received.time >= state["reset_at"]:
            state.update(remaining=2, reset_at=received.time + 0.4)
        if state["remaining"] == 0:
            return rate_limited(retry_after="1")
        state["remaining"] -= 1
        remaining = str(int(state["remaining"]))
        return ServerReply(headers={"x-ratelimit-remaining-requests": remaining, "x-ratelimit-reset-requests": "400ms"})

    with ApiServer(counted) as server:
        assert all(reply.text for reply in replies_of(spec_of(server, concurrency=1), 6))
        assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("cap", "price", "expected"),
    [
        ({"max_requests": 7}, None, 7),
        ({"max_requests": 0}, None, 0),
        ({"max_tokens_total": 500}, None, None),
        ({"max_cost": 0.001}, (1.0, 2.0), None),
    ],
)
def test_caps_stop_before_the_next_request(cap: Mapping[str, Any], price: Any, expected: int | None) -> None:
    with ApiServer(always(completion("The answer is 4.", usage=(40, 10)))) as server:
        spec = spec_of(server, limits=Limits(backoff=0.01, price=price, **cap), concurrency=8, max_tokens=20)
        engine = OpenAIEngine(spec)
        received: list[tuple[str, Reply]] = []
        replies = chain.from_iterable(engine.generate((str(i), Request(prompt=f"question {i}")) for i in range(100)))
        with engine, pytest.raises(CapReached, match=next(iter(cap))):
            received.extend(replies)
        assert len(received) == len(server.requests), "every paid reply is returned"
        if expected is not None:
            assert len(server.requests) == expected
        if "max_tokens_total" in cap:
            assert 7 <= len(server.requests) <= 10
        if price:
            assert 10 <= len(server.requests) <= 16


def test_retries_count_towards_the_cap() -> None:
    with ApiServer(always(error(500, None, "boom"))) as server:
        with pytest.raises(CapReached):
            replies_of(spec_of(server, limits=Limits(backoff=0.001, max_requests=9), retries=3, concurrency=1), 5)
        assert len(server.requests) == 9


def test_a_row_fails_at_its_deadline() -> None:
    with ApiServer(always(rate_limited(retry_after="0.05"))) as server:
        (reply,) = replies_of(spec_of(server, limits=Limits(deadline=2.0, backoff=0.05)))
        assert reply.error == "rate_limit"
        assert len(server.requests) > 2
    with ApiServer(always(rate_limited(retry_after="3600"))) as server:
        replies = replies_of(spec_of(server, limits=Limits(deadline=5.0)), 3)
        assert [reply.error for reply in replies] == ["rate_limit"] * 3, (
            "immediately, since the pause ends after the deadline"
        )


def test_a_server_that_starts_late_is_retried() -> None:
    with ApiServer(start=False) as server:
        threading.Timer(0.4, server.start).start()
        replies = replies_of(spec_of(server, limits=Limits(backoff=0.1), retries=50), 4)
        assert all(reply.text for reply in replies)
        assert len(server.requests) == 4


# Bodies --------------------------------------------------------------------------------------------------------------


def test_a_prompt_is_sent_to_the_text_endpoint_with_all_settings() -> None:
    with ApiServer() as server:
        spec = spec_of(
            server, temperature=0.7, top_p=0.9, top_k=5, stop=("\n",), seed=3, options={"extra_body": {"min_p": 0.1}}
        )
        with OpenAIEngine(spec) as engine:
            list(engine.generate([("a", Request(prompt="1+1=", seed=11, sample=2))]))
        body = server.requests[0].body
        assert server.requests[0].path == "/v1/completions"
        assert body == {
            "model": "m", "prompt": "1+1=", "max_tokens": 128, "temperature": 0.7, "seed": 13, "top_p": 0.9,
            "stop": ["\n"], "top_k": 5, "min_p": 0.1,
        }  # fmt: skip


def test_quirks_change_the_request_body() -> None:
    with ApiServer() as server:
        replies_of(spec_of(server, model="o3-mini"))
        assert set(server.requests[0].body) == {"model", "messages", "max_completion_tokens"}
        replies_of(spec_of(server, options={"quirks": {"drop": ["temperature"], "rename": {"max_tokens": "limit"}}}))
        assert set(server.requests[1].body) == {"model", "messages", "limit"}


def test_reasoning_is_separate_and_stop_strings_truncate() -> None:
    with ApiServer(always(completion("It is 4.\nQuestion: more", reasoning="2 and 2"))) as server:
        (reply,) = replies_of(spec_of(server, stop=("\nQuestion",)))
        assert (reply.text, reply.reasoning) == ("It is 4.", "2 and 2")


@pytest.mark.parametrize(
    "settings",
    [
        {"concurrency": 0}, {"concurrency": 2.5}, {"retries": -1}, {"timeout": 0}, {"max_failed": -1}, {"model": " "},
        {"limits": {"rpm": 5}}, {"max_tokens": 0}, {"temperature": float("nan")}, {"temperature": -1},
    ],
)  # fmt: skip
def test_invalid_settings_are_rejected_before_any_request(settings: Mapping[str, Any]) -> None:
    with ApiServer() as server, pytest.raises(InputError):
        replies_of(spec_of(server, **settings))
    assert not server.requests


@pytest.mark.parametrize("settings", [{"adapter": "x"}, {"num_beams": 2}, {"revision": "v1"}, {"dtype": "float32"}])
def test_unsupported_settings_are_rejected(settings: Mapping[str, Any]) -> None:
    with pytest.raises(InputError, match="is not supported by the openai_api engine"):
        OpenAIEngine(EngineSpec("openai_api", "m", base_url="http://localhost:1/v1", **settings))


# Stages --------------------------------------------------------------------------------------------------------


def question(row: Mapping[str, Any], settings: None) -> Request:
    return Request(messages=(Message("user", row["text"]),))


def texts(row: Mapping[str, Any], replies: Sequence[Reply], settings: None) -> dict[str, Any]:
    return {"reply": [reply.text or f"<{reply.error}: {reply.error_detail[:40]}>" for reply in replies]}


def run(spec: EngineSpec, rows: Sequence[str], samples: int = 1) -> list[list[str]]:
    data = Dataset.from_list([{"id": str(i), "text": text} for i, text in enumerate(rows)])
    adds = {"reply": [Value("string")]}
    stage = ModelStage(question, texts, None, spec, reads=["text"], adds=adds, name="test", samples=samples)
    replies: list[list[str]] = run_model_stage(data, stage)["reply"][:]
    return replies


def test_samples_have_distinct_seeds() -> None:
    with ApiServer() as server:
        ((a, b, c),) = run(spec_of(server, temperature=0.8), ["question"], samples=3)
        assert len({a, b, c}) == 3
        assert len({received.body["seed"] for received in server.requests}) == 3


@pytest.mark.parametrize("supports_n", [True, False], ids=["n", "no n"])
def test_samples_of_a_row_share_one_request_if_the_server_supports_n(supports_n: bool) -> None:
    def one_choice(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        return None if supports_n else completion(f"{len(server.requests)}")

    with ApiServer(one_choice) as server:
        replies = run(spec_of(server, temperature=0.8, options={"n": True}), ["a", "b"], samples=3)
        assert all(len(set(row)) == 3 for row in replies)
        assert [received.body.get("n") for received in server.requests].count(3) == 2
        assert len(server.requests) == (2 if supports_n else 6)


@pytest.mark.parametrize(
    "change",
    [
        {"messages": (), "prompt": "question"},
        {"messages": (Message("user", "another question"),)},
        {"messages": (Message("system", "question"),)},
        {"tools": ('{"type": "function", "function": {"name": "f"}}',)},
        {"seed": 1},
    ],
)
def test_only_samples_of_the_same_request_share_a_call(change: dict[str, Any]) -> None:
    first = Request(messages=(Message("user", "question"),))
    samples = [first, replace(first, sample=1), replace(first, sample=2, **change)]
    with ApiServer() as server:
        with OpenAIEngine(spec_of(server, temperature=0.8, options={"n": True})) as engine:
            replies = dict(chain.from_iterable(engine.generate((str(n), sample) for n, sample in enumerate(samples))))
        assert sorted(replies) == ["0", "1", "2"]
        assert sorted(received.body.get("n", 1) for received in server.requests) == [1, 2]


def test_the_tokens_of_all_samples_of_a_call_are_reserved() -> None:
    limits = Limits(max_tokens_total=250)
    with ApiServer() as server, pytest.raises(CapReached, match="max_tokens_total=250"):
        run(spec_of(server, temperature=0.8, options={"n": True}, max_tokens=100, limits=limits), ["a"], samples=3)
    assert not server.requests


POISONS = ["a null \x00 byte", "x" * 1_000_000, "﷽‮\ufeff\U0010ffff"]


@pytest.mark.parametrize("poison", POISONS, ids=["null", "1 MB", "unusual characters"])
def test_one_poisoned_row_of_a_thousand(poison: str) -> None:
    def reject_poison(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        poisoned = b"\\u0000" in received.raw or len(received.raw) > 500_000 or "\u202e".encode() in received.raw
        return error(400, "invalid_prompt", "unfit text") if poisoned else None

    with ApiServer(reject_poison) as server:
        rows = [poison if i == 500 else f"question {i}" for i in range(1000)]
        replies = [reply for (reply,) in run(spec_of(server), rows)]
        assert [i for i, reply in enumerate(replies) if reply.startswith("<")] == [500]
        assert replies[500].startswith("<bad_request: 400: unfit text")
        assert len(server.requests) == 1000


def test_an_unpaired_surrogate_is_rejected_in_requests_and_replaced_in_replies() -> None:
    with ApiServer(always(ServerReply(200, b'{"choices": [{"message": {"content": "half \\ud83d"}}]}'))) as server:
        with OpenAIEngine(spec_of(server)) as engine:
            ((_, reply),) = next(engine.generate([("a", Request(prompt="half \ud83d"))]))
        assert reply.error == "bad_request"
        assert not server.requests
        assert run(spec_of(server), ["fine"]) == [["half \ufffd"]]


def test_usage_is_in_the_lineage_and_the_same_from_the_store() -> None:
    with ApiServer() as server:
        data = Dataset.from_list([{"id": str(i), "text": f"question {i % 5}"} for i in range(10)])
        adds = {"reply": [Value("string")]}
        stage = ModelStage(question, texts, None, spec_of(server), reads=["text"], adds=adds, name="test")
        usage = lineage(run_model_stage(data, stage))[-1]["usage"]
        from_store = run_model_stage(data, replace(stage, name="other"))
        assert usage == lineage(from_store)[-1]["usage"]
        assert usage["requests"] == 10
        assert usage["prompt_tokens"] > 0
        assert len(server.requests) == 5


def test_the_progress_bar_shows_the_state_of_the_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tests disable the bars of `datasets`; this is their base class.
    monkeypatch.setattr("toolrlef_data.engines.model_stage.tqdm", importlib.import_module("tqdm").tqdm)

    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        return error(500, None, "boom") if repeats == 0 and b"question 3" in received.raw else None

    with ApiServer(script, latency=0.3) as server:
        run(
            spec_of(server, progress=True, limits=Limits(backoff=0.01, price=(1.0, 1.0)), concurrency=4),
            [f"question {i}" for i in range(12)],
        )
    shown = capsys.readouterr().err
    for part in ("12/12", "from store=", "in flight=", "req/s=", "tok/s=", "cost=", "eta=", "server errors=1"):
        assert part in shown, part


def test_the_shipped_recipe_runs_and_sends_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Student, teacher and three responders: plain, with native tool calls, and with two samples."""
    with ApiServer(keys={CANARY}) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", CANARY)
        result = run_recipe(load_recipe("api", rows=6), out=tmp_path / "out")
        num_sent = len(server.requests)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "stages")
        run_recipe(load_recipe("api", rows=6), out=tmp_path / "again")
        assert len(server.requests) == num_sent
    ranked = load_dataset(str(tmp_path / "out"), "math-stage2", split="train")
    assert set(ranked[0]["origin"]) == {
        "gold", "four_o_mini", "four_o_mini_tools", "four_o_mini_sampled.1", "four_o_mini_sampled.2", "nano"
    }  # fmt: skip
    tool_responses = [dict(zip(row["origin"], row["responses"], strict=True))["four_o_mini_tools"] for row in ranked]
    assert all(response.startswith("calculator(") for response in tool_responses), "native calls become text"
    assert usage([result.stage1, result.stage2])["gpt-4.1-nano"]["requests"] == len(result.stage1)
    assert sum(counts["requests"] for counts in usage([result.stage1, result.stage2]).values()) >= num_sent
    _print_run(result)
    assert "gpt-4.1-nano" in capsys.readouterr().out
    provenance = (tmp_path / "out" / "provenance.json").read_text()
    assert '"usage"' in provenance
    for file in ("provenance.json", "README.md"):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
        assert CANARY not in (tmp_path / "out" / file).read_text()


def test_a_stopped_run_closes_its_connections_and_threads_in_a_notebook() -> None:
    """A hanging request ends at its timeout and is not retried; each event loop is closed by its thread."""

    def script(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        if b"question 0" in received.raw:
            return None
        return ServerReply(delay=STALL_SECONDS) if b"question 1" in received.raw else error(400, None, "bad")

    async def notebook_cell(server: ApiServer) -> None:
        with pytest.raises(TooManyFailures):
            run(spec_of(server, max_failed=0.0, concurrency=8, timeout=1.0), [f"question {i}" for i in range(20)])
        gc.collect()
        await asyncio.sleep(0)

    with ApiServer(script) as server:
        asyncio.run(notebook_cell(server))
        assert server.count('question 1"') == 1
        assert server.in_flight == 0 or not server.connections
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("ask")] == []


# Secrets -------------------------------------------------------------------------------------------------------------


def test_a_key_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No debug log, store, cache, lineage, error message, repr or pickle contains an API key."""
    monkeypatch.setenv("MY_KEYS", CANARY)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    monkeypatch.setattr(logging.getLogger(), "level", logging.DEBUG)

    def echo_key(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        number = received.body["messages"][0]["content"].split()[-1]
        echoes = {
            "1": error(400, "bad", f"you sent Bearer {CANARY}"),
            "2": completion(f"your key is {CANARY}"),
            "3": error(500, None, CANARY),
            "4": ServerReply(200, f"<html>{CANARY}</html>"),
            "6": error(400, None, "x" * (480 - len("400:  ")) + CANARY),
            "7": error(400, None, CANARY.upper()),
            "8": completion(None, tool_calls=[(CANARY, {"formula": CANARY})]),
            "5": error(429, "rate_limit_exceeded", f"limit for {CANARY}, try again in 1ms") if repeats < 3 else None,
        }
        return echoes.get(number)

    try:
        with ApiServer(echo_key) as server:
            monkeypatch.setenv("MY_URL", server.url.replace("http://", f"http://me:{CANARY}@") + f"?code={CANARY}")
            for url in (server.url, "$MY_URL"):
                spec = spec_of(server, base_url=url, keys="MY_KEYS", retries=1, max_failed=1.0, model=f"m{len(url)}")
                replies = run(spec, [f"question {i}" for i in range(9)])
                assert replies[2] == ["your key is [key]"]
            assert any(CANARY in str(received.headers) for received in server.requests), "the key was sent"
            engine = OpenAIEngine(spec)
            with engine:
                written = [
                    repr(spec),
                    repr(engine),
                    repr(engine.session.__dict__),
                    str(engine.stats()),
                    pickle.dumps(spec),
                ]
                with pytest.raises(TypeError, match="cannot be pickled"):
                    pickle.dumps(engine)
            with pytest.raises(InputError) as url_error:
                EngineSpec("openai_api", "m", base_url=f"http://me:{CANARY}@host/v1")
            with pytest.raises(InputError) as key_error:
                EngineSpec("openai_api", "m", keys=CANARY)
            with ApiServer(always(error(401, None, f"no such key: {CANARY}"))) as server:
                with pytest.raises(NoUsableApiKey) as run_error:
                    run(spec_of(server, keys="MY_KEYS", model="other"), ["question 0"])
                written += [str(error.value) for error in (url_error, key_error, run_error)]
    finally:
        logging.getLogger().removeHandler(handler)
    written += [stream.getvalue(), *capsys.readouterr()]
    assert all(CANARY[:16].lower() not in str(text).lower() for text in written)
    folders = [Path(datasets.config.HF_DATASETS_CACHE), tmp_path]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert any(file.suffix == ".arrow" for file in files)
    assert [file for file in files if CANARY[:16].lower().encode() in file.read_bytes().lower()] == []


def test_too_many_failures_stop_the_run_and_name_the_error_kinds() -> None:
    def fail_one(received: ReceivedRequest, repeats: int) -> ServerReply | None:
        return error(500, None, "boom") if b"question 7" in received.raw else None

    with ApiServer(fail_one) as server, pytest.raises(TooManyFailures, match="server 1"):
        run(spec_of(server, retries=0, max_failed=0.0), [f"question {i}" for i in range(20)])


# Requests that depend on replies --------------------------------------------------------------------------------------


def test_a_slow_chain_does_not_delay_others() -> None:
    slow = ServerReply(delay=STALL_SECONDS)
    with ApiServer(lambda received, repeats: slow if b'"slow' in received.raw else None) as server:
        chains = Chains(["slow", "fast"], steps=5)
        with OpenAIEngine(spec_of(server, timeout=2 * STALL_SECONDS)) as engine:
            for replies in engine.generate(chains.requests()):
                chains.receive(replies)
                if len(chains.texts["fast"]) == 5:
                    engine.cancel()  # the slow chain has no reply yet
        fast = [event for step in range(5) for event in (f"fast {step} 0", f"(fast {step} 0)")]
        assert chains.events == ["slow 0 0", *fast]
        assert len(server.requests) == 6


def test_chains_use_the_full_concurrency() -> None:
    with ApiServer(gather=3) as server:
        chains = Chains([f"c{i}" for i in range(9)], steps=4).run(spec_of(server, concurrency=3))
        assert server.max_in_flight == 3
        assert len(server.requests) == 36
        # Three requests are in flight when the first reply arrives, not all ready ones.
        assert next(n for n, event in enumerate(chains.events) if event.startswith("(")) <= 3


class TimerLoop(asyncio.SelectorEventLoop):
    """An event loop that records the delays of its timers."""

    def __init__(self) -> None:
        super().__init__()
        self.delays: list[float] = []

    def call_later(self, delay: float, *arguments: Any, **settings: Any) -> asyncio.TimerHandle:  # type: ignore[override]
        self.delays.append(delay)
        return super().call_later(delay, *arguments, **settings)


def test_waiting_for_ready_requests_is_no_busy_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    with ApiServer(latency=0.1) as server:
        loop = TimerLoop()
        monkeypatch.setattr(asyncio, "new_event_loop", lambda: loop)
        chains = Chains(["a"], steps=1).run(spec_of(server))
        assert 0 < chains.idle_pulls <= loop.delays.count(PULL_INTERVAL), "each pull is followed by a timer"


def test_samples_are_sent_before_the_next_step_is_ready() -> None:
    with ApiServer() as server:
        chains = Chains(["a"], steps=2, samples=3).run(spec_of(server, temperature=1.0, options={"n": True}))
        assert [received.body["n"] for received in server.requests] == [3, 3]
        assert [event.startswith("(") for event in chains.events] == ([False] * 3 + [True] * 3) * 2


def test_rejections_are_passed_on_if_all_chains_wait_for_them() -> None:
    """Rejections are withheld until the first reply, but here no reply can arrive before them."""
    unfit = error(400, None, "unfit")
    with ApiServer(lambda received, repeats: unfit if b"rejected" not in received.raw else None) as server:
        chains = Chains("abc", steps=2).run(spec_of(server))
        assert [texts[0] for texts in chains.texts.values()] == ["<rejected>"] * 3
        assert not any(texts[1].startswith("<") for texts in chains.texts.values())


def test_a_server_that_rejects_every_chain_stops_the_run() -> None:
    with ApiServer(always(error(404, None, "no such model"))) as server:
        with pytest.raises(AllRequestsRefused, match=r"rejected all \d+ requests; the first error is: .*no such model"):
            Chains("abc", steps=20).run(spec_of(server))
        assert len(server.requests) < 12


@pytest.mark.parametrize("mode", ["direct", "batch"])
@pytest.mark.parametrize("has_request", [False, True])
def test_an_endless_wait_ends_at_a_cancel_or_stop(mode: str, has_request: bool) -> None:
    def waiting() -> Iterator[tuple[str, Request] | None]:
        if has_request:
            yield "a", Request(prompt="a")
        for i in range(1000):
            if i == 5:
                end()
            yield None
        raise AssertionError("the engine did not end")

    with ApiServer(latency=0.05) as server:
        spec = spec_of(server, limits=Limits(mode=mode, poll=0.01))
        with OpenAIEngine(spec) as engine:
            end = engine.cancel
            list(engine.generate(waiting()))
        with OpenAIEngine(spec) as engine:
            end = lambda: engine.stop(TooManyFailures("enough"))  # noqa: E731
            tags: list[str] = []
            with pytest.raises(TooManyFailures, match="enough"):
                tags.extend(tag for replies in engine.generate(waiting()) for tag, _ in replies)


def test_chains_keep_their_replies_at_a_cap() -> None:
    with ApiServer() as server:
        chains = Chains("ab", steps=9)
        with pytest.raises(CapReached, match="max_requests=5"):
            chains.run(spec_of(server, limits=Limits(max_requests=5)))
        assert sum(map(len, chains.texts.values())) == len(server.requests) == 5


def test_a_pause_that_only_the_body_of_a_rate_limit_names_is_respected() -> None:
    """Google's server names it there, and sends no header."""
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3600s"}]
    limited = ServerReply(429, [{"error": {"code": 429, "message": "Resource exhausted.", "details": details}}])
    with ApiServer(first_attempt(limited)) as server:
        (reply,) = replies_of(spec_of(server, limits=Limits(deadline=60.0)))
        assert (reply.error, len(server.requests)) == ("rate_limit", 1), "the pause ends after the deadline"
        assert "the server requests a pause of 3600 s" in reply.error_detail
    failed = ServerReply(503, [{"error": {"code": 503, "message": "overloaded", "details": details}}])
    with ApiServer(first_attempt(failed)) as server:
        assert replies_of(spec_of(server, limits=Limits(deadline=60.0, backoff=0.01)))[0].text
        assert len(server.requests) == 2, "the body of another failure names no pause"
