"""The state that all requests of an engine share: why a run stops, and which keys are used."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any, cast

import pytest

from toolrlef_data.engines.openai_api.budget import TokenCounts
from toolrlef_data.engines.openai_api.errors import Failure, classify_status
from toolrlef_data.engines.openai_api.session import Session
from toolrlef_data.engines.spec import EngineSpec, Limits
from toolrlef_data.records import CapReached, NoUsableApiKey, Reply


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setenv("MY_KEYS", "key-0123456789,key-9876543210")
    session = Session(EngineSpec("openai_api", "m", base_url="http://127.0.0.1:9/v1", keys="MY_KEYS"))
    session.open()
    session.close()
    return session


def test_the_first_reason_to_stop_is_raised(session: Session) -> None:
    """Later errors can follow from it: no request is sent any more."""
    first = CapReached("the cap")
    session.halt(first)
    session.halt(NoUsableApiKey("no key"))
    assert (session.stop_error, session.scheduler.closed_reason) == (first, "the cap")


def test_requests_in_flight_disable_their_key_once(session: Session, caplog: pytest.LogCaptureFixture) -> None:
    first = session.scheduler.limiters[0]
    for text in ("revoked", "revoked", "unknown"):
        session.disable(first, classify_status(401, text))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert first.disabled_reason == "401: revoked"
    assert (len(session.scheduler.limiters), session.stop_error) == (2, None)


BODY = {"choices": [{"message": {"content": "8"}, "finish_reason": "stop"}]}


def test_a_response_is_a_list_of_replies_or_a_failure(session: Session) -> None:
    assert session.parse(200, json.dumps(BODY)) == session.parse(299, json.dumps(BODY)) == [Reply("8")]
    two = {"choices": [*BODY["choices"], *BODY["choices"]]}
    assert session.parse(200, json.dumps(two)) == [Reply("8")], "one reply was asked for"
    assert session.parse(200, json.dumps(two), 2) == [Reply("8"), Reply("8", prompt_tokens=0)]
    for status in (199, 300, 500):
        assert session.parse(status, json.dumps(BODY)) == classify_status(status, json.dumps(BODY))
    for text in ("", "{", "[" * 100_000):
        failure = session.parse(200, text)
        assert isinstance(failure, Failure)
        assert failure[:2] == ("server", "retry")
    refusal = {"choices": [{"message": {"refusal": "no, key-0123456789, http://10.0.0.7/x " + "x" * 600}}]}
    (reply,) = cast("list[Reply]", session.parse(200, json.dumps(refusal)))
    assert reply.error_detail == ("no, [key], [server] " + "x" * 600)[:500]
    ended = {"choices": [{"message": {"content": "a key-0123456789 STOP b"}}]}
    stopping = Session(replace(session.spec, stop=(" STOP",)))
    stopping.open()
    stopping.close()
    assert stopping.parse(200, json.dumps(ended)) == [Reply("a key-0123456789")], "short secrets stay in replies"


def test_a_private_host_is_no_part_of_a_message() -> None:
    local = Session(EngineSpec("openai_api", "m", base_url="http://gpu7:8000/v1"))
    text = "GPU7:8000, gpu7, gpu7.org, my-gpu7, gpu7x, gpu7-b"
    assert local.clean(text) == "[server], [server], [server].org, my-gpu7, gpu7x, gpu7-b"
    public = Session(EngineSpec("openai_api", "m", base_url="https://api.example.com/v1"))
    assert public.clean("api.example.com " + "x" * 600) == ("api.example.com " + "x" * 600)[:500]
    assert local.failed_reply(Failure("server", "retry", "gpu7 died")) == Reply(
        None, error="server", error_detail="[server] died"
    )


@pytest.mark.parametrize(
    ("settings", "authorizations"),
    [
        ({}, ["Basic bWU6d29yZA=="]),
        ({"headers": {"AUTHORIZATION": "$HEADER"}}, ["Token of-mine"]),
        ({"keys": "MY_KEYS"}, ["Bearer key-one", "Bearer key-two"]),
        ({"keys": "MY_KEYS", "headers": {"X": "y"}}, ["Bearer key-one", "Bearer key-two"]),
    ],
)
def test_a_key_goes_before_a_header_and_a_header_before_the_login_of_the_url(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], authorizations: list[str]
) -> None:
    variables = {"MY_URL": "http://me:word@h/v1", "HEADER": "Token of-mine", "MY_KEYS": "key-one key-two"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    session = Session(EngineSpec("openai_api", "m", base_url="$MY_URL", **settings))
    session.open()
    session.close()
    limiters = session.scheduler.limiters
    assert [session.authorization(limiter) for limiter in limiters] == authorizations
    names = [f"API key {number}" for number in (1, 2)] if "keys" in settings else ["the server without an API key"]
    assert [limiter.name for limiter in limiters] == names
    bare = Session(EngineSpec("openai_api", "m", base_url="http://h/v1"))
    bare.open()
    bare.close()
    assert bare.authorization(bare.scheduler.limiters[0]) == ""


def test_statistics_and_token_counts(session: Session) -> None:
    assert session.stats() == {"in flight": 0}
    session.failure_counts.update(["server", "timeout", "timeout"])
    session.spending.start(TokenCounts(5, 5))
    assert session.stats() == {"in flight": 1, "timeout errors": 2, "server errors": 1}
    session.spending.finish(TokenCounts(5, 5), TokenCounts(1_000_000, 500_000))
    priced = Session(replace(session.spec, limits=Limits(price=(1.5, 3))))
    assert priced.stats() == {"in flight": 0, "cost": "3.0000"}, "the spending is that of the model on the server"
    reserved = TokenCounts(7, 9)
    for counts, used in (([(3, 1), (4, 2)], (7, 3)), ([(3, None), (4, 2)], (7, 9)), ([(None, 1), (4, 2)], (7, 3))):
        replies = [Reply("8", prompt_tokens=prompt, completion_tokens=completion) for prompt, completion in counts]
        assert session.tokens_used(replies, reserved) == used
    assert session.tokens_used([Reply("8")], reserved) == reserved


def test_the_estimated_bytes_of_a_token_as_numbers(session: Session) -> None:
    assert session.bytes_per_token == 3.0
    session.update_bytes_per_token(Reply("8", prompt_tokens=100), 500)
    assert session.bytes_per_token == pytest.approx(3.0 + 0.02 * (4.75 - 3.0)), "a fiftieth of the way up"
    session.update_bytes_per_token(Reply("8", prompt_tokens=100), 200)
    assert session.bytes_per_token == pytest.approx(1.9), "95 % of the observed bytes, at once"
    session.update_bytes_per_token(Reply("8", prompt_tokens=1000), 20)
    assert session.bytes_per_token == 0.3


def test_a_server_that_never_replied_stops_the_run_after_eight_rejections(session: Session) -> None:
    rejections = [(f"{n}", Reply(None, error="bad_request", error_detail=f"unfit {n}")) for n in range(8)]
    assert [session.rejects_everything(rejections[:n]) for n in (0, 7, 8)] == [False, False, True]
    session.halt_after_rejections(rejections)
    assert str(session.stop_error) == (
        "'m' at http://127.0.0.1:9/v1 rejected all 8 requests; the first error is: unfit 0"
    )
    session.scheduler.limiters[1].has_succeeded = True
    assert session.has_succeeded()
    assert not session.rejects_everything(rejections)


def test_a_cap_says_how_to_resume(session: Session) -> None:
    session.halt_at_cap("max_requests=3 is reached")
    assert str(session.stop_error) == (
        "'m' at http://127.0.0.1:9/v1: max_requests=3 is reached. Completed requests are saved; to resume, start a new "
        "process, which counts from zero"
    )
    assert isinstance(session.stop_error, CapReached)


def test_the_last_key_is_replaced_by_new_ones_or_stops_the_run(
    session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_KEYS", "key-9876543210 key-of-today key-0123456789 key-of-tomorrow")
    failure = Failure("rate_limit", "disable_key", "401: key-of-today is unknown")
    session.disable(session.scheduler.limiters[0], failure)
    assert [(limiter.name, limiter.key) for limiter in session.scheduler.limiters[2:]] == [
        ("API key 3", "key-of-today"), ("API key 4", "key-of-tomorrow")
    ]  # fmt: skip
    assert caplog.messages == ["API key 1 is no longer used: 401: key-of-today is unknown"], "unknown until then"
    monkeypatch.delenv("MY_KEYS")
    for limiter in session.scheduler.limiters[1:]:
        assert session.stop_error is None
        session.disable(limiter, failure)
    assert str(session.stop_error) == (
        "'m' at http://127.0.0.1:9/v1 rejected all API keys (4): 401: [key] is unknown. Completed requests are saved"
    )


def test_a_server_that_needs_a_key_says_which_settings_have_one() -> None:
    session = Session(EngineSpec("openai_api", "m", base_url="http://127.0.0.1:9/v1"))
    session.open()
    session.close()
    session.disable(session.scheduler.limiters[0], Failure("rate_limit", "disable_key", "401: no key"))
    assert str(session.stop_error) == (
        "'m' at http://127.0.0.1:9/v1 requires an API key, set `keys` or `headers`: 401: no key. Completed requests are saved"
    )
    assert len(session.scheduler.limiters) == 1
