"""The engine openai_api against a local server that misbehaves: what is sent, how often, and what becomes of it."""

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
import time
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
from toolrlef_data.engines.spec import EngineSpec, Limits, Message, Request
from toolrlef_data.recipes.runner import load_recipe, run_recipe
from toolrlef_data.records import AllRequestsRefused, CapReached, InputError, NoUsableApiKey, Reply, TooManyFailures
from toolrlef_data.tables.lineage import lineage, usage

FAST = Limits(backoff=0.01)
CANARY = "sk-canary-7f3a9c1e5b2d4860"


def spec_of(server: ApiServer, **settings: Any) -> EngineSpec:
    fixed = {"model": "m", "base_url": server.url, "limits": FAST, "progress": False}
    return EngineSpec("openai_api", **{**fixed, **settings})


def replies_of(spec: EngineSpec, count: int = 1) -> list[Reply]:
    """Replies to different questions, in their order."""
    requests = [(str(i), Request(messages=(Message("user", f"question {i}"),))) for i in range(count)]
    with OpenAIEngine(spec) as engine:
        found = dict(chain.from_iterable(engine.generate(requests)))
    return [found[str(i)] for i in range(count)]


def always(answer: ServerReply) -> Any:
    return lambda received, seen: answer


def first(answer: ServerReply) -> Any:
    """Every question meets the fault once."""
    return lambda received, seen: answer if seen == 0 else None


NO_ANSWER = {  # what it is, and how many of the retries were sent
    "closed before a byte": (ServerReply(drop="before"), "connection"),
    "reset": (ServerReply(drop="reset"), "connection"),
    "closed in the body": (ServerReply(drop="body"), "connection"),
    "silent": (ServerReply(delay=STALL_SECONDS), "timeout"),
}


@pytest.mark.parametrize("fault", NO_ANSWER)
def test_what_did_not_come_is_told_by_its_kind(fault: str) -> None:
    answer, kind = NO_ANSWER[fault]
    with ApiServer(always(answer)) as server:
        (reply,) = replies_of(spec_of(server, retries=1, timeout=1.0))
        assert reply.error == kind, reply.error_detail
        assert len(server.requests) == 2


def test_a_server_that_is_not_there_costs_nothing_and_is_told() -> None:
    with ApiServer(start=False) as server:
        limits = Limits(backoff=0.01, max_cost=1e-9 + 0.001, price=(1.0, 1.0))
        replies = replies_of(spec_of(server, retries=1, limits=limits, concurrency=2), 6)
        assert {reply.error for reply in replies} == {"connection"}
        assert "Connect" in replies[0].error_detail
    for host in ("no-such-host.invalid", "a..b"):
        (reply,) = replies_of(spec_of(server, base_url=f"http://{host}/v1", retries=0))
        assert reply.error == "connection", reply


@pytest.mark.parametrize("status", [408, 409, 425, 498, 500, 502, 503, 504, 529])
def test_retry_after_holds_for_every_refusal(status: int) -> None:
    answer = ServerReply(status, {"error": "later"}, {"retry-after-ms": "250"})
    with ApiServer(first(answer)) as server:
        assert replies_of(spec_of(server))[0].text
        assert server.requests[1].time - server.requests[0].time >= 0.2


PASSING = {
    "408": error(408, None, "slow"),
    "409": error(409, None, "conflict"),
    "500": error(500, None, "boom"),
    "502, HTML": html(502),
    "503": error(503, "overloaded", "later"),
    "529": error(529, "overloaded_error", "later"),
    "HTML with 200": html(200),
    "empty body with 200": ServerReply(200, b""),
    "invalid JSON with 200": ServerReply(200, b'{"choices": [{"mess'),
    "JSON that is no object": ServerReply(200, b"[1, 2]"),
    "no choices": ServerReply(200, {"id": "x", "choices": []}),
    "an error body with 200": ServerReply(200, {"error": {"message": "upstream", "code": 502}}),
    "closed before a byte": ServerReply(drop="before"),
    "closed after the headers": ServerReply(drop="headers"),
    "closed in the body": ServerReply(drop="body"),
    "reset": ServerReply(drop="reset"),
    "no HTTP at all": ServerReply(200, b"", headers={"content-length": "x\r\n\r\n\x00\x01garbage"}),
}


@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_is_tried_again(fault: str) -> None:
    with ApiServer(first(PASSING[fault])) as server:
        (reply,) = replies_of(spec_of(server))
        assert reply.error is None
        assert reply.text
        assert len(server.requests) == 2


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_stays_uses_up_the_retries(fault: str) -> None:
    with ApiServer(always(PASSING[fault])) as server:
        (reply,) = replies_of(spec_of(server, retries=2))
        assert reply.text is None
        assert reply.error in {"timeout", "server", "connection"}
        assert reply.error_detail
        assert len(server.requests) == 3


def test_a_compressed_answer_is_read_and_a_broken_one_tried_again() -> None:
    body = gzip.compress(json.dumps({"choices": [{"message": {"content": "8"}}]}).encode())
    answers = [
        ServerReply(200, body[:-9] + b"garbage!!", {"content-encoding": "gzip"}),
        ServerReply(200, body, {"content-encoding": "gzip"}),
    ]
    with ApiServer(lambda received, seen: answers[min(seen, 1)]) as server:
        (reply,) = replies_of(spec_of(server))
        assert (reply.text, len(server.requests)) == ("8", 2)


def test_who_pays_is_sent_and_cookies_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "")
    with ApiServer(first(ServerReply(503, b"", {"set-cookie": "a=b", "retry-after-ms": "1"}))) as server:
        replies_of(spec_of(server))
        assert len(server.requests) == 2
        for received in server.requests:
            assert (received.headers["openai-organization"], received.headers["accept"]) == (
                "org-1",
                "application/json",
            )
            assert not {"openai-project", "cookie"} & set(received.headers)


@pytest.mark.parametrize("drop", ["stall", "stall_body"])
def test_a_stall_ends_at_the_timeout(drop: Any) -> None:
    with ApiServer(first(ServerReply(drop=drop))) as server:
        (reply,) = replies_of(spec_of(server, timeout=1.0))  # the server would wait for ever
        assert reply.text
        assert [received.answered is None for received in server.requests] == [True, False]


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
def test_a_permanent_fault_is_asked_once(fault: str) -> None:
    answer, kind = FINAL[fault]
    with ApiServer(always(answer)) as server:
        (reply,) = replies_of(spec_of(server))
        assert (reply.text, reply.error) == (None, kind)
        assert len(server.requests) == 1


def test_a_rate_limit_uses_up_no_attempt_and_pauses_everybody() -> None:
    limited = rate_limited(**{"retry-after-ms": "300"})
    with ApiServer(lambda received, seen: limited if len(server.requests) <= 4 else None, gather=4) as server:
        replies = replies_of(spec_of(server, retries=0, concurrency=4), 8)
        assert all(reply.text for reply in replies)
        times = [received.time for received in server.requests]
        assert len(times) == 12, "four were sent again"
        assert times[4] - times[3] >= 0.25, "nobody goes during the pause"


def test_length_is_kept_and_marked() -> None:
    with ApiServer(always(completion("The answer is 4", finish_reason="length"))) as server:
        (reply,) = replies_of(spec_of(server))
        assert (reply.text, reply.finish_reason, reply.error) == ("The answer is 4", "length", None)


def test_the_concurrency_is_kept_and_used() -> None:
    with ApiServer(gather=7) as server:
        replies_of(spec_of(server, concurrency=7), 40)
        assert server.max_in_flight == 7


def test_a_timeout_or_a_rate_limit_makes_fewer_at_once() -> None:
    """Halved for all that were under way together, then up by one a round."""
    with ApiServer(latency=0.05, gather=16) as server:
        server.script = lambda received, seen: rate_limited(retry_after="0.1") if len(server.requests) <= 16 else None
        replies_of(spec_of(server, concurrency=16), 16)
        late = list(server.requests[16:])
        at_once = max(sum(r.time <= o.time < (r.answered or 0) for o in late) for r in late)
        assert at_once <= 10
        assert len(server.requests) == 32


# Keys ----------------------------------------------------------------------------------------------------------------

GOOD, REVOKED, EMPTY = "good-0123456789abcdef", "revoked-0123456789abcdef", "empty-0123456789abcdef"


def guarded(received: ReceivedRequest, seen: int) -> ServerReply | None:
    if received.key == REVOKED:
        return error(401, "invalid_api_key", f"Incorrect API key provided: {received.key}.")
    if received.key == EMPTY:
        return error(429, "insufficient_quota", f"You exceeded your current quota, {received.key}.")
    return None


def test_keys_are_used_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEYS", f"{GOOD}1, {GOOD}2 {GOOD}3")
    with ApiServer() as server:
        replies_of(spec_of(server, keys="MY_KEYS", concurrency=3), 30)
        used = [received.key for received in server.requests]
        assert all(used.count(f"{GOOD}{i}") >= 8 for i in (1, 2, 3))


def test_a_useless_key_drops_out_with_a_message(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_KEYS", f"{REVOKED},{EMPTY},{GOOD}")
    with ApiServer(guarded) as server:
        replies = replies_of(spec_of(server, keys="MY_KEYS", concurrency=1, retries=0), 10)
        assert all(reply.text for reply in replies)
        assert [received.key for received in server.requests].count(REVOKED) == 1
        assert [received.key for received in server.requests].count(EMPTY) == 1
    assert "API key 1 is not used any more: 401" in caplog.text
    assert "API key 2 is not used any more: 429" in caplog.text
    assert "0123456789abcdef" not in caplog.text


def test_the_run_stops_when_no_key_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEYS", f"{REVOKED},{EMPTY}")
    with ApiServer(guarded) as server, pytest.raises(NoUsableApiKey, match="none of the 2 API keys") as caught:
        replies_of(spec_of(server, keys="MY_KEYS", concurrency=4), 50)
    assert len(server.requests) <= 8
    assert "0123456789abcdef" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_key_that_was_renewed_in_its_file_is_found(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# mine\n{REVOKED}\n")

    def renew(received: ReceivedRequest, seen: int) -> ServerReply | None:
        (tmp_path / "new").write_text(f"{REVOKED}\n{GOOD}\n")
        (tmp_path / "new").replace(file)
        return guarded(received, seen)

    with ApiServer(renew) as server:
        assert all(reply.text for reply in replies_of(spec_of(server, keys=f"file:{file}"), 5))


def test_no_key_goes_to_a_server_for_which_none_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", GOOD)
    with ApiServer() as server:
        replies_of(spec_of(server))
        assert "authorization" not in server.requests[0].headers
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        replies_of(spec_of(server, base_url=None))
        assert server.requests[1].key == GOOD
    with ApiServer(keys={GOOD}) as server, pytest.raises(NoUsableApiKey, match="wants an API key, and none was named"):
        replies_of(spec_of(server))


def test_credentials_in_a_url_are_sent_and_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with ApiServer() as server:
        monkeypatch.setenv("MY_URL", server.url.replace("http://", "http://me:pass%2Fword@") + "?code=secret-code")
        spec = spec_of(server, base_url="$MY_URL")
        (reply,) = replies_of(spec)
        assert reply.text
        assert server.requests[0].headers["authorization"].startswith("Basic ")
        assert server.requests[0].query == {"code": "secret-code"}
        assert OpenAIEngine(spec).identity()["url"] == server.url


def test_403_is_about_the_key_until_it_has_worked(monkeypatch: pytest.MonkeyPatch) -> None:
    forbidden = error(403, None, "not allowed")
    monkeypatch.setenv("MY_KEYS", GOOD)
    with ApiServer(always(forbidden)) as server, pytest.raises(NoUsableApiKey):
        replies_of(spec_of(server, keys="MY_KEYS"), 3)
    slow = ServerReply(delay=0.3)
    for at_once in (1, 4):  # with four, it is refused before the others are answered
        with ApiServer(lambda received, seen: forbidden if b"question 2" in received.raw else slow) as server:
            replies = replies_of(spec_of(server, keys="MY_KEYS", concurrency=at_once), 4)
            assert [reply.error for reply in replies] == [None, None, "refused", None]
            assert len(server.requests) == 4


BAD_SETTINGS = {
    "no such model": error(404, "model_not_found", "no such model"),
    "an option that the server lacks": error(400, None, "tools need the option --enable-tools"),
}


@pytest.mark.parametrize("what", BAD_SETTINGS)
def test_a_server_that_refuses_everything_leaves_nothing_final(what: str) -> None:
    with ApiServer(always(BAD_SETTINGS[what])) as server:
        with pytest.raises(AllRequestsRefused, match=r"has refused all of \d+ requests"):
            run(spec_of(server, concurrency=4), [f"question {i}" for i in range(100)])
        assert len(server.requests) <= 16
        server.script = None
        replies = run(spec_of(server), [f"question {i}" for i in range(100)])
        assert all(reply for (reply,) in replies), "mended, everything is asked"


def test_refusals_before_the_first_reply_are_final_once_there_is_one() -> None:
    """The first rows of a table may well be bad ones."""
    bad = [f"question {i} bad" for i in range(6)]
    rows = [*bad, *(f"question {i}" for i in range(6, 40))]
    spec: dict[str, Any] = {"concurrency": 6, "max_failed": 0.5}
    with ApiServer(lambda received, seen: error(400, None, "unfit") if b" bad" in received.raw else None) as server:
        assert [i for i, (reply,) in enumerate(run(spec_of(server, **spec), rows)) if reply.startswith("<")] == [
            *range(6)
        ]
        run(spec_of(server, **spec, progress=False), [*rows, "another"])
        assert len(server.requests) == 41, "no refused row is sent again"


def test_quick_refusals_do_not_stop_a_run_that_has_slow_replies_under_way() -> None:
    """A 400 takes no time and a reply seconds: half of the first rows may be refused before the first reply."""

    def answer(received: ReceivedRequest, seen: int) -> ServerReply | None:
        return error(400, None, "unfit") if b" bad" in received.raw else ServerReply(delay=0.4)

    rows = [f"question {i}{' bad' if i % 2 else ''}" for i in range(60)]
    with ApiServer(answer) as server:
        replies = run(spec_of(server, concurrency=16, max_failed=0.6), rows)
        assert [reply.startswith("<") for (reply,) in replies] == [i % 2 == 1 for i in range(60)]
        assert len(server.requests) == 60


def test_a_key_that_a_400_calls_invalid_drops_out(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")
    monkeypatch.setenv("MY_KEYS", f"{REVOKED} {GOOD}")
    with ApiServer(lambda received, seen: refused if received.key == REVOKED else None) as server:
        assert all(reply.text for reply in replies_of(spec_of(server, keys="MY_KEYS"), 5))


def test_too_many_failures_store_what_is_under_way_and_say_why() -> None:
    def answer(received: ReceivedRequest, seen: int) -> ServerReply | None:
        bad = b"bad" in received.raw
        return error(400, None, "unfit text") if bad else ServerReply(delay=0.3)

    rows = ["question", *(f"bad {i}" for i in range(4)), *(f"question {i}" for i in range(40))]
    with ApiServer(answer) as server:
        with pytest.raises(TooManyFailures, match=r"(?s)bad_request.*does not ask again.*unfit text"):
            run(spec_of(server, concurrency=16, max_failed=0.05), rows)
        sent = len(server.requests)
        run(spec_of(server, concurrency=16, max_failed=1.0), rows)
        assert len(server.requests) == len(rows), "what was under way is stored and not sent again"
        assert sent < len(rows)


def test_a_wrong_model_stops_the_run_soon() -> None:
    with ApiServer(always(error(404, "model_not_found", "no such model"))) as server:
        with pytest.raises(AllRequestsRefused, match="no such model"):
            replies_of(spec_of(server, concurrency=4), 500)
        assert len(server.requests) <= 16


# Rates and caps ------------------------------------------------------------------------------------------------------


def test_requests_a_minute_are_kept() -> None:
    with ApiServer() as server:
        began = time.monotonic()
        replies_of(spec_of(server, limits=Limits(rpm=1200), concurrency=50), 60)
        assert server.requests[-1].time - began >= 1.5, "a burst of 20 and then 20 a second"


def test_what_the_server_says_is_left_is_believed() -> None:
    """After two answers nothing is left for 0.4 s; nobody meets the limit."""
    state = {"left": 2, "until": 0.0}

    def counted(received: ReceivedRequest, seen: int) -> ServerReply | None:
        if received.time >= state["until"]:
            state.update(left=2, until=received.time + 0.4)
        if state["left"] == 0:
            return rate_limited(retry_after="1")
        state["left"] -= 1
        left = {"x-ratelimit-remaining-requests": str(int(state["left"])), "x-ratelimit-reset-requests": "400ms"}
        return ServerReply(headers=left)

    with ApiServer(counted) as server:
        assert all(reply.text for reply in replies_of(spec_of(server, concurrency=1), 6))
        assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("cap", "price", "sent"),
    [
        ({"max_requests": 7}, None, 7),
        ({"max_requests": 0}, None, 0),
        ({"max_tokens_total": 500}, None, None),
        ({"max_cost": 0.001}, (1.0, 2.0), None),
    ],
)
def test_caps_stop_before_the_next_request(cap: Mapping[str, Any], price: Any, sent: int | None) -> None:
    usage: list[int] = []

    def counted(received: ReceivedRequest, seen: int) -> ServerReply:
        usage.append(1)
        return completion("The answer is 4.", usage=(40, 10))

    with ApiServer(counted) as server:
        spec = spec_of(server, limits=Limits(backoff=0.01, price=price, **cap), concurrency=8, max_tokens=20)
        engine = OpenAIEngine(spec)
        kept: list[tuple[str, Reply]] = []
        replies = chain.from_iterable(engine.generate((str(i), Request(prompt=f"question {i}")) for i in range(100)))
        with engine, pytest.raises(CapReached, match=next(iter(cap))):
            kept.extend(replies)
        assert len(kept) == len(server.requests), "what ran stays"
        if sent is not None:
            assert len(server.requests) == sent
        if "max_tokens_total" in cap:
            assert 7 <= len(server.requests) <= 10
        if price:
            assert 10 <= len(server.requests) <= 16


def test_retries_count_for_the_cap() -> None:
    with ApiServer(always(error(500, None, "boom"))) as server:
        with pytest.raises(CapReached):
            replies_of(spec_of(server, limits=Limits(backoff=0.001, max_requests=9), retries=3, concurrency=1), 5)
        assert len(server.requests) == 9


def test_a_row_gives_up_at_its_deadline() -> None:
    with ApiServer(always(rate_limited(retry_after="0.05"))) as server:
        (reply,) = replies_of(spec_of(server, limits=Limits(deadline=2.0, backoff=0.05)))
        assert reply.error == "rate_limit"
        assert len(server.requests) > 2
    with ApiServer(always(rate_limited(retry_after="3600"))) as server:
        replies = replies_of(spec_of(server, limits=Limits(deadline=5.0)), 3)
        assert [reply.error for reply in replies] == ["rate_limit"] * 3, "at once: the pause ends after the deadline"


def test_a_server_that_comes_late_is_waited_for() -> None:
    with ApiServer(start=False) as server:
        threading.Timer(0.4, server.start).start()
        replies = replies_of(spec_of(server, limits=Limits(backoff=0.1), retries=50), 4)
        assert all(reply.text for reply in replies)
        assert len(server.requests) == 4


# Bodies --------------------------------------------------------------------------------------------------------------


def test_a_prompt_goes_to_the_text_endpoint_and_options_go_along() -> None:
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


def test_quirks_are_data() -> None:
    with ApiServer() as server:
        replies_of(spec_of(server, model="o3-mini"))
        assert set(server.requests[0].body) == {"model", "messages", "max_completion_tokens"}
        replies_of(spec_of(server, options={"quirks": {"drop": ["temperature"], "rename": {"max_tokens": "limit"}}}))
        assert set(server.requests[1].body) == {"model", "messages", "limit"}


def test_reasoning_is_kept_apart_and_stop_strings_cut() -> None:
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
def test_settings_out_of_range_are_refused_before_anything_is_sent(settings: Mapping[str, Any]) -> None:
    with ApiServer() as server, pytest.raises(InputError):
        replies_of(spec_of(server, **settings))
    assert not server.requests


@pytest.mark.parametrize("settings", [{"adapter": "x"}, {"num_beams": 2}, {"revision": "v1"}, {"dtype": "float32"}])
def test_what_a_server_cannot_do_is_refused(settings: Mapping[str, Any]) -> None:
    with pytest.raises(InputError, match="cannot set"):
        OpenAIEngine(EngineSpec("openai_api", "m", base_url="http://localhost:1/v1", **settings))


# Whole stages --------------------------------------------------------------------------------------------------------


def question(row: Mapping[str, Any], settings: None) -> Request:
    return Request(messages=(Message("user", row["text"]),))


def texts(row: Mapping[str, Any], replies: Sequence[Reply], settings: None) -> dict[str, Any]:
    return {"reply": [reply.text or f"<{reply.error}: {reply.error_detail[:40]}>" for reply in replies]}


def run(spec: EngineSpec, rows: Sequence[str], samples: int = 1) -> list[list[str]]:
    data = Dataset.from_list([{"id": str(i), "text": text} for i, text in enumerate(rows)])
    adds = {"reply": [Value("string")]}
    stage = ModelStage(question, texts, None, spec, reads=["text"], adds=adds, name="test", samples=samples)
    found: list[list[str]] = run_model_stage(data, stage)["reply"][:]
    return found


def test_samples_have_seeds_of_their_own() -> None:
    with ApiServer() as server:
        ((a, b, c),) = run(spec_of(server, temperature=0.8), ["question"], samples=3)
        assert len({a, b, c}) == 3
        assert len({received.body["seed"] for received in server.requests}) == 3


@pytest.mark.parametrize("knows", [True, False], ids=["n", "no n"])
def test_samples_of_a_row_come_in_one_answer_where_the_server_can(knows: bool) -> None:
    def one_choice(received: ReceivedRequest, seen: int) -> ServerReply | None:
        return None if knows else completion(f"{len(server.requests)}")

    with ApiServer(one_choice) as server:
        replies = run(spec_of(server, temperature=0.8, options={"n": True}), ["a", "b"], samples=3)
        assert all(len(set(row)) == 3 for row in replies)
        assert [received.body.get("n") for received in server.requests].count(3) == 2
        assert len(server.requests) == (2 if knows else 6)


POISONS = ["a null \x00 byte", "x" * 1_000_000, "﷽‮\ufeff\U0010ffff"]


@pytest.mark.parametrize("poison", POISONS, ids=["null", "1 MB", "odd"])
def test_one_poisoned_row_of_a_thousand(poison: str) -> None:
    def picky(received: ReceivedRequest, seen: int) -> ServerReply | None:
        poisoned = b"\\u0000" in received.raw or len(received.raw) > 500_000 or "\u202e".encode() in received.raw
        return error(400, "invalid_prompt", "unfit text") if poisoned else None

    with ApiServer(picky) as server:
        rows = [poison if i == 500 else f"question {i}" for i in range(1000)]
        replies = [reply for (reply,) in run(spec_of(server), rows)]
        assert [i for i, reply in enumerate(replies) if reply.startswith("<")] == [500]
        assert replies[500].startswith("<bad_request: 400: unfit text")
        assert len(server.requests) == 1000


def test_a_lone_surrogate_is_refused_before_it_is_sent_and_repaired_where_it_came() -> None:
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
        done = run_model_stage(data, stage)
        again = run_model_stage(data, replace(stage, name="other"))
        usage = lineage(done)[-1]["usage"]
        assert usage == lineage(again)[-1]["usage"]
        assert usage["requests"] == 10
        assert usage["prompt_tokens"] > 0
        assert len(server.requests) == 5


def test_progress_tells_what_goes_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # The tests switch the bars of `datasets` off; the class under them is the same.
    monkeypatch.setattr("toolrlef_data.engines.model_stage.tqdm", importlib.import_module("tqdm").tqdm)

    def answer(received: ReceivedRequest, seen: int) -> ServerReply | None:
        return error(500, None, "boom") if seen == 0 and b"question 3" in received.raw else None

    with ApiServer(answer, latency=0.3) as server:
        run(
            spec_of(server, progress=True, limits=Limits(backoff=0.01, price=(1.0, 1.0)), concurrency=4),
            [f"question {i}" for i in range(12)],
        )
    shown = capsys.readouterr().err
    for part in ("12/12", "from store=", "in flight=", "req/s=", "tok/s=", "cost=", "left=", "met server=1"):
        assert part in shown, part


def test_the_shipped_recipe_runs_and_asks_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Student, teacher and three responders, one of them over tool calls, one with two samples."""
    with ApiServer(keys={CANARY}) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", CANARY)
        done = run_recipe(load_recipe("api", rows=6), out=tmp_path / "out")
        asked = len(server.requests)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "stages")
        run_recipe(load_recipe("api", rows=6), out=tmp_path / "again")
        assert len(server.requests) == asked
    ranked = load_dataset(str(tmp_path / "out"), "math-stage2", split="train")
    assert set(ranked[0]["origin"]) == {
        "gold", "four_o_mini", "four_o_mini_tools", "four_o_mini_sampled.1", "four_o_mini_sampled.2", "nano"
    }  # fmt: skip
    tools = [dict(zip(row["origin"], row["responses"], strict=True))["four_o_mini_tools"] for row in ranked]
    assert all(response.startswith("calculator(") for response in tools), "native calls as text calls"
    assert usage([done.stage1, done.stage2])["gpt-4.1-nano"]["requests"] == len(done.stage1)
    assert sum(taken["requests"] for taken in usage([done.stage1, done.stage2]).values()) >= asked
    _print_run(done)
    assert "gpt-4.1-nano" in capsys.readouterr().out
    told = (tmp_path / "out" / "provenance.json").read_text()
    assert '"usage"' in told
    for file in ("provenance.json", "README.md"):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
        assert CANARY not in (tmp_path / "out" / file).read_text()


def test_a_run_that_is_stopped_in_the_middle_leaves_nothing_open_in_a_notebook() -> None:
    """What hangs is waited for until its timeout and not sent again; no event loop is closed by the wrong thread."""

    def answer(received: ReceivedRequest, seen: int) -> ServerReply | None:
        if b"question 0" in received.raw:
            return None
        return ServerReply(delay=STALL_SECONDS) if b"question 1" in received.raw else error(400, None, "bad")

    async def cell(server: ApiServer) -> None:
        with pytest.raises(TooManyFailures):
            run(spec_of(server, max_failed=0.0, concurrency=8, timeout=1.0), [f"question {i}" for i in range(20)])
        gc.collect()
        await asyncio.sleep(0)

    with ApiServer(answer) as server:
        began = time.monotonic()
        asyncio.run(cell(server))
        assert time.monotonic() - began < STALL_SECONDS
        assert server.count('question 1"') == 1
        assert server.in_flight == 0 or not server.connections
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("ask")] == []


# Secrets -------------------------------------------------------------------------------------------------------------


def test_a_key_reaches_nothing_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Logs at their most talkative, the store, the caches, the lineage, error texts, reprs and pickles."""
    monkeypatch.setenv("MY_KEYS", CANARY)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    monkeypatch.setattr(logging.getLogger(), "level", logging.DEBUG)

    def echoing(received: ReceivedRequest, seen: int) -> ServerReply | None:
        number = received.body["messages"][0]["content"].split()[-1]
        echoes = {
            "1": error(400, "bad", f"you sent Bearer {CANARY}"),
            "2": completion(f"your key is {CANARY}"),
            "3": error(500, None, CANARY),
            "4": ServerReply(200, f"<html>{CANARY}</html>"),
            "6": error(400, None, "x" * (480 - len("400:  ")) + CANARY),
            "7": error(400, None, CANARY.upper()),
            "8": completion(None, tool_calls=[(CANARY, {"formula": CANARY})]),
            "5": error(429, "rate_limit_exceeded", f"limit for {CANARY}, try again in 1ms") if seen < 3 else None,
        }
        return echoes.get(number)

    try:
        with ApiServer(echoing) as server:
            monkeypatch.setenv("MY_URL", server.url.replace("http://", f"http://me:{CANARY}@") + f"?code={CANARY}")
            for url in (server.url, "$MY_URL"):
                spec = spec_of(server, base_url=url, keys="MY_KEYS", retries=1, max_failed=1.0, model=f"m{len(url)}")
                found = run(spec, [f"question {i}" for i in range(9)])
                assert found[2] == ["your key is [key]"]
            assert any(CANARY in str(received.headers) for received in server.requests), "it was sent"
            engine = OpenAIEngine(spec)
            with engine:
                written = [
                    repr(spec),
                    repr(engine),
                    repr(engine.session.__dict__),
                    str(engine.stats()),
                    pickle.dumps(spec),
                ]
                with pytest.raises(TypeError, match="not pickled"):
                    pickle.dumps(engine)
            with pytest.raises(InputError) as refused:
                EngineSpec("openai_api", "m", base_url=f"http://me:{CANARY}@host/v1")
            with pytest.raises(InputError) as named:
                EngineSpec("openai_api", "m", keys=CANARY)
            with ApiServer(always(error(401, None, f"no such key: {CANARY}"))) as server:
                with pytest.raises(NoUsableApiKey) as stopped:
                    run(spec_of(server, keys="MY_KEYS", model="other"), ["question 0"])
                written += [str(error.value) for error in (refused, named, stopped)]
    finally:
        logging.getLogger().removeHandler(handler)
    written += [stream.getvalue(), *capsys.readouterr()]
    assert all(CANARY[:16].lower() not in str(text).lower() for text in written)
    folders = [Path(datasets.config.HF_DATASETS_CACHE), tmp_path]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert any(file.suffix == ".arrow" for file in files)
    assert [file for file in files if CANARY[:16].lower().encode() in file.read_bytes().lower()] == []


def test_failures_above_the_limit_stop_the_run_with_their_kinds() -> None:
    def broken(received: ReceivedRequest, seen: int) -> ServerReply | None:
        return error(500, None, "boom") if b"question 7" in received.raw else None

    with ApiServer(broken) as server, pytest.raises(TooManyFailures, match="server 1"):
        run(spec_of(server, retries=0, max_failed=0.0), [f"question {i}" for i in range(20)])


# Requests that are not ready yet --------------------------------------------------------------------------------------


def test_a_slow_chain_holds_no_other_back() -> None:
    slow = ServerReply(delay=STALL_SECONDS)
    with ApiServer(lambda received, seen: slow if b'"slow' in received.raw else None) as server:
        chains = Chains(["slow", "fast"], steps=5)
        with OpenAIEngine(spec_of(server, timeout=2 * STALL_SECONDS)) as engine:
            for replies in engine.generate(chains.requests()):
                chains.receive(replies)
                if len(chains.texts["fast"]) == 5:
                    engine.cancel()  # and the slow one has not even its first reply
        fast = [event for step in range(5) for event in (f"fast {step} 0", f"(fast {step} 0)")]
        assert chains.events == ["slow 0 0", *fast]
        assert len(server.requests) == 6


def test_chains_use_the_whole_concurrency() -> None:
    with ApiServer(gather=3) as server:
        chains = Chains([f"c{i}" for i in range(9)], steps=4).run(spec_of(server, concurrency=3))
        assert server.max_in_flight == 3
        assert len(server.requests) == 36
        # Three are under way when the first reply comes, not all that were ready.
        assert next(n for n, event in enumerate(chains.events) if event.startswith("(")) <= 3


def test_waiting_for_what_is_not_ready_is_no_busy_loop() -> None:
    with ApiServer(latency=0.5) as server:
        began = time.monotonic()
        chains = Chains(["a"], steps=1).run(spec_of(server))
        most = 200 * (time.monotonic() - began) / 0.5
        assert 0 < chains.idle_pulls < most, "pulled now and then, not all the time"


def test_samples_are_sent_before_what_is_not_ready() -> None:
    with ApiServer() as server:
        chains = Chains(["a"], steps=2, samples=3).run(spec_of(server, temperature=1.0, options={"n": True}))
        assert [received.body["n"] for received in server.requests] == [3, 3]
        assert [event.startswith("(") for event in chains.events] == ([False] * 3 + [True] * 3) * 2


def test_a_chain_that_waits_for_a_refusal_gets_it() -> None:
    """Refusals are held back until a server has answered something, but here nothing else can come first."""
    unfit = error(400, None, "unfit")
    with ApiServer(lambda received, seen: unfit if b"bad_request" not in received.raw else None) as server:
        chains = Chains("abc", steps=2).run(spec_of(server))
        assert [said[0] for said in chains.texts.values()] == ["<bad_request>"] * 3
        assert not any(said[1].startswith("<") for said in chains.texts.values())


def test_a_server_that_refuses_every_chain_stops_the_run() -> None:
    with ApiServer(always(error(404, None, "no such model"))) as server:
        with pytest.raises(AllRequestsRefused, match=r"all of \d+ requests, such as: .*no such model"):
            Chains("abc", steps=20).run(spec_of(server))
        assert len(server.requests) < 12


@pytest.mark.parametrize("mode", ["direct", "batch"])
@pytest.mark.parametrize("busy", [False, True])
def test_waiting_for_ever_ends_at_a_cancel_or_a_stop(mode: str, busy: bool) -> None:
    def waiting() -> Iterator[tuple[str, Request] | None]:
        if busy:
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
            taken: list[str] = []
            with pytest.raises(TooManyFailures, match="enough"):
                taken.extend(tag for replies in engine.generate(waiting()) for tag, _ in replies)


def test_a_cap_ends_chains_with_what_they_have() -> None:
    with ApiServer() as server:
        chains = Chains("ab", steps=9)
        with pytest.raises(CapReached, match="max_requests=5"):
            chains.run(spec_of(server, limits=Limits(max_requests=5)))
        assert sum(map(len, chains.texts.values())) == len(server.requests) == 5
