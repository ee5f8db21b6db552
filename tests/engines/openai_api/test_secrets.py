"""Secrets that a server echoes: redacted before any text is shortened, in every field and from every source."""

from __future__ import annotations

import base64
import html
import json
import logging
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tests.support.api_replies import always
from tests.support.api_server import ApiServer, ReceivedRequest, ServerReply, completion, error
from toolrlef_data import answer
from toolrlef_data.columns import QUESTIONS
from toolrlef_data.engines.openai_api.engine import OpenAIEngine
from toolrlef_data.engines.openai_api.session import MAX_DETAIL_LENGTH
from toolrlef_data.engines.spec import EngineSpec, Limits, Message, Request
from toolrlef_data.records import AllRequestsRefused, InputError, NoUsableApiKey, Reply
from toolrlef_data.tables.fingerprint import canonical
from toolrlef_data.tables.redaction import Secrets, redact_hosts

KEY = "QzCANARY7d81f0c2b9e4a6d3f5b7c8e9a0b1c2d3"  # without a known prefix
HARD = "Qz/CANARY+7d81=f0c2\"b9e4\\a6&<d3>'`f5b7"  # each spelling differs


@pytest.fixture(autouse=True)
def only_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_CUSTOM_HEADERS", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("A", KEY)


def spec_of(server: ApiServer, **settings: Any) -> EngineSpec:
    fixed = {"model": "m", "base_url": server.url, "limits": Limits(backoff=0.001), "progress": False, "retries": 0}
    return EngineSpec("openai_api", **{**fixed, **settings})


def ask(spec: EngineSpec, count: int = 1) -> list[Reply]:
    requests = [(str(i), Request(messages=(Message("user", f"question {i}"),))) for i in range(count)]
    with OpenAIEngine(spec) as engine:
        replies = dict(chain.from_iterable(engine.generate(requests)))
    return [replies[str(i)] for i in range(count)]


def number_of(received: ReceivedRequest) -> int:
    return int(received.body["messages"][-1]["content"].split()[-1])


def parts_of(secret: str, text: str) -> list[str]:
    """Return the pieces of at least four characters of a secret that a text contains, in any case."""
    return [secret[i : i + 4] for i in range(len(secret) - 3) if secret[i : i + 4].lower() in text.lower()]


# Clean, then cut -----------------------------------------------------------------------------------------------------

# How a server echoes a text: each has a cut of its own on the way to a reply.
ERRORS: dict[str, Callable[[str], ServerReply]] = {
    "HTML with 200": lambda text: ServerReply(200, f"<html>{text}</html>"),
    "JSON without choices": lambda text: ServerReply(200, {"note": text}),
    "a choice without message": lambda text: ServerReply(200, {"choices": [{"note": text}]}),
    "an error in a 200": lambda text: ServerReply(200, {"error": {"message": text}}),
    "a list in a 200": lambda text: ServerReply(200, json.dumps([text])),
    "400": lambda text: error(400, "bad", text),
    "400 of FastAPI": lambda text: ServerReply(400, {"detail": [{"msg": text, "loc": ["body"]}]}),
    "500, plain text": lambda text: ServerReply(500, text),
    "429 of one request": lambda text: error(429, None, f"request too large {text}"),
    "a refusal": lambda text: ServerReply(200, {"choices": [{"message": {"content": None, "refusal": text}}]}),
}


@pytest.mark.parametrize("way", ERRORS)
def test_no_part_of_a_key_remains_around_a_cut(way: str) -> None:
    """The key is echoed at every offset at which some piece of code could cut it."""
    offsets = [*range(140, 205), *range(MAX_DETAIL_LENGTH - 60, MAX_DETAIL_LENGTH + 5), *range(3940, 4005, 5)]

    def echo(received: ReceivedRequest, repeats: int) -> ServerReply:
        return ERRORS[way]("-" * offsets[number_of(received)] + KEY) if number_of(received) >= 0 else completion("8")

    with ApiServer(echo) as server, OpenAIEngine(spec_of(server, keys="A", concurrency=64)) as engine:
        engine.session.scheduler.limiters[0].has_succeeded = True  # so that no run of rejections is stopped
        requests = [(str(i), Request(messages=(Message("user", f"q {i}"),))) for i in range(len(offsets))]
        replies = dict(chain.from_iterable(engine.generate(requests)))
    assert len(replies) == len(offsets)
    for reply in replies.values():
        assert reply.error
        assert len(reply.error_detail) <= MAX_DETAIL_LENGTH
        assert not parts_of(KEY, reply.error_detail), reply.error_detail


def test_a_redacted_text_that_became_short_ends_without_part_of_a_key() -> None:
    """Many keys of 40 characters become "[key]", so that a cut at 4,000 characters would be visible."""
    with ApiServer(lambda received, repeats: error(400, None, "-" * number_of(received) + KEY * 200)) as server:
        for reply in ask(spec_of(server, keys="A", concurrency=1), 7):
            assert not parts_of(KEY, reply.error_detail)


def test_a_stop_string_inside_a_key_does_not_uncover_it() -> None:
    with ApiServer(lambda received, repeats: completion(f"it is {KEY} STOP", reasoning=KEY)) as server:
        (reply,) = ask(spec_of(server, keys="A", stop=("e9a0", " STOP")))
        assert (reply.text, reply.reasoning) == ("it is [key]", "[key]")


FIELDS: dict[str, Callable[[str], ServerReply]] = {
    "content": completion,
    "reasoning": lambda key: completion("8", reasoning=key),
    "reasoning of OpenRouter": lambda key: completion("8", reasoning=key, reasoning_field="reasoning"),
    "function name": lambda key: completion(None, tool_calls=[(key, {"x": 1})]),
    "arguments": lambda key: completion(None, tool_calls=[("f", {"x": key})]),
    "name of an argument": lambda key: completion(None, tool_calls=[("f", {key: 1})]),
    "parts of the content": lambda key: ServerReply(
        200, {"choices": [{"message": {"content": [{"text": key}, {"thinking": [{"text": key}]}]}}]}
    ),
    "old function call": lambda key: ServerReply(
        200, {"choices": [{"message": {"content": None, "function_call": {"name": "f", "arguments": {"x": key}}}}]}
    ),
    "refusal": lambda key: ServerReply(200, {"choices": [{"message": {"content": None, "refusal": key}}]}),
    "error": lambda key: error(400, None, key),
    "error code": lambda key: error(400, key, "bad"),
    "name of an error field": lambda key: ServerReply(400, {key: key}),
}


@pytest.mark.parametrize("key", [KEY, HARD])
@pytest.mark.parametrize("field", FIELDS)
def test_a_key_is_redacted_in_every_field(field: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", key)
    with ApiServer(lambda received, repeats: FIELDS[field](key)) as server:
        shown = repr(ask(spec_of(server, keys="A"))[0])
    assert "CANARY" not in shown
    assert "[key]" in shown


SPELLINGS: dict[str, Callable[[str], str]] = {
    "HTML": html.escape,
    "JSON of Go": lambda key: (
        json.dumps(key)[1:-1].replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    ),
    "JSON of .NET": lambda key: "".join(
        f"\\u{ord(c):04X}" if c in "<>&+'`\"" else c for c in key.replace("\\", "\\\\")
    ),
    "base64 of a login": lambda key: base64.b64encode(f"user:{key}".encode()).decode(),
    "base64 of another login": lambda key: base64.b64encode(f"me:{key}:x".encode()).decode(),
    "base64 of a header": lambda key: base64.urlsafe_b64encode(f"Bearer {key}".encode()).decode(),
}


@pytest.mark.parametrize("key", [KEY, HARD])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_more_spellings_of_a_key_are_redacted(spelling: str, key: str) -> None:
    echoed = SPELLINGS[spelling](key)
    for redact in (Secrets([key]).redact, Secrets([key]).redact_reply):
        cleaned = redact(f"you sent {echoed}, wrong")
        assert "[key]" in cleaned
        assert len(cleaned.replace("[key]", "")) < len("you sent , wrong") + 14, "only what surrounds the key remains"


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_body_that_ends_inside_a_key_shows_no_part_of_it(status: int) -> None:
    """A server or a proxy may cut what it sends; a token limit cuts a reply."""
    for end in range(6, len(KEY) + 1):
        with ApiServer(always(ServerReply(status, f"you sent {KEY[:end]}"))) as server:
            (reply,) = ask(spec_of(server, keys="A", retries=0))
            assert "you sent [key]" in str(reply.error_detail), reply
        cut = completion(f"you sent {KEY[:end]}", reasoning=KEY[:end], finish_reason="length")
        with ApiServer(always(cut)) as server:
            (reply,) = ask(spec_of(server, keys="A"))
            assert (reply.text, reply.reasoning) == ("you sent [key]", "[key]")


@pytest.mark.parametrize("status", [200, 400, 403, 404])
def test_a_message_that_ends_inside_a_key_shows_no_part_of_it(status: int) -> None:
    """The type and the advice follow the message that the server has cut."""
    for end in range(6, len(KEY) + 1):
        body = {"error": {"message": f"you sent {KEY[:end]}", "type": "t", "metadata": {"raw": f"{KEY[:end]}..."}}}
        with ApiServer(always(ServerReply(status, body))) as server:
            try:
                text = repr(ask(spec_of(server, keys="A", retries=0)))
            except NoUsableApiKey as error:
                text = str(error)
        assert "you sent [key] (t) [key]..." in text, text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sent Token-012.", "sent [key]."),
        ("sent 'token-0', token-01... and token-", "sent '[key]', [key]... and [key]"),
        ("sent token-0_9, token-012345678", "sent [key]_9, [key]"),
        ("token-99, token-server, mytoken", "token-99, token-server, mytoken"),
        ("tokens-0, token, toke", "tokens-0, token, toke"),
        ("\u0130token-01\u0130 \u0130token-01", "\u0130token-01\u0130 \u0130[key]"),
    ],
)
def test_the_beginning_of_a_key_is_redacted_as_a_word(text: str, expected: str) -> None:
    assert Secrets(["token-012345678"]).redact(text) == expected


@pytest.mark.parametrize("offset", range(60))
def test_an_excerpt_is_redacted_first(offset: int) -> None:
    excerpt = Secrets([KEY]).excerpt("-" * offset + KEY + " end", 50)
    assert len(excerpt) <= 50
    assert not parts_of(KEY, excerpt)


# Headers -------------------------------------------------------------------------------------------------------------


def echo_headers(received: ReceivedRequest, repeats: int) -> ServerReply:
    """Echo all headers: in a reply for even questions, in an error for odd ones."""
    text = "you sent " + json.dumps(received.headers)
    return error(400, None, text) if number_of(received) % 2 else completion(text)


def questions(count: int) -> Dataset:
    row = {"task": "math", "dataset": "d", "context": "", "answers": ["8"], "solution": "", "split_origin": "train"}
    rows = [{**row, "id": f"d-{i}", "question": f"question {i}"} for i in range(count)]
    return Dataset.from_list(rows, features=QUESTIONS)


def test_own_headers_are_sent_and_never_saved(monkeypatch: pytest.MonkeyPatch, fresh_caches: Path) -> None:
    with ApiServer(echo_headers) as server:
        headers = {"api-key": "$A", "X-Title": "my application", "X-Other": "$B"}
        monkeypatch.setenv("B", f"Bearer CANARY-{HARD}")
        spec = spec_of(server, headers=headers, max_failed=1.0)
        rows = answer(questions(12), spec)["response"][:]
        received = server.requests[0].headers
        assert (received["api-key"], received["x-title"], received["x-other"]) == (
            KEY,
            "my application",
            f"Bearer CANARY-{HARD}",
        )
        assert any(row["error"] == "bad_request" for row in rows)
        assert any(row["text"] for row in rows)
        assert "CANARY" not in repr(rows)
        num_sent = len(server.requests)
        for other in ({}, {"api-key": "$B"}):
            answer(questions(12), spec_of(server, headers=other, max_failed=1.0, retries=1))
        assert len(server.requests) == num_sent, "headers are in no key"
    files = [file for file in fresh_caches.rglob("*") if file.is_file()]
    assert any(file.suffix == ".arrow" for file in files)
    assert not [file for file in files if b"CANARY" in file.read_bytes()]
    assert "CANARY" not in repr(spec) + json.dumps(canonical(spec)) + json.dumps(spec.published())


def test_custom_headers_of_the_openai_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Like OPENAI_API_KEY, they are sent to the server of OPENAI_BASE_URL, and to no server in `base_url`."""
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"api-key: {KEY}\nX-Team: red\nno header")
    for mode in ("direct", "batch"):
        limits = Limits(mode=mode, poll=0.01, backoff=0.001)
        with ApiServer(lambda received, repeats: None) as server:
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
            ask(spec_of(server, base_url=None, limits=limits))
            assert {(r.headers.get("api-key"), r.headers.get("x-team")) for r in server.requests} == {(KEY, "red")}
        with ApiServer() as server:
            ask(spec_of(server, limits=limits))
            assert server.requests
            assert not [r for r in server.requests if KEY in str(r.headers) or "x-team" in r.headers]
    with ApiServer(echo_headers) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert "CANARY" not in repr(ask(spec_of(server, base_url=None), 2))
        ask(spec_of(server, base_url=None, headers={"x-TEAM": "blue"}))
        assert server.requests[-1].headers["x-team"] == "blue", "a header of the settings wins"


def test_own_headers_are_sent_to_the_batch_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    with ApiServer() as server:
        spec = spec_of(server, headers={"api-key": "$A"}, limits=Limits(mode="batch", poll=0.01))
        assert ask(spec)[0].text
        assert {received.headers.get("api-key") for received in server.requests} == {KEY}


@pytest.mark.parametrize("mode", ["direct", "batch"])
def test_the_authorization_may_be_an_own_header(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B", f"Token {KEY}")
    limits = Limits(mode=mode, poll=0.01, backoff=0.001)
    with ApiServer(echo_headers if mode == "direct" else None) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "not-for-this-server")
        for base_url in (None, server.url):
            spec = spec_of(server, base_url=base_url, headers={"Authorization": "$B"}, limits=limits)
            assert "CANARY" not in repr(ask(spec))
            assert {received.headers["authorization"] for received in server.requests} == {f"Token {KEY}"}
            with OpenAIEngine(spec) as engine:
                assert "CANARY" not in repr(engine) + repr(engine.session.secrets)


@pytest.mark.parametrize(
    "headers",
    [
        {"api-key": KEY},
        {"Authorization": f"Bearer {KEY}"},
        {"X-Auth-Token": KEY},
        {"Cookie": KEY},
        {"Ocp-Apim-Subscription-Key": KEY},
        {"X-Client-Secret": f"${KEY}"},
        {f"bad name {KEY}": "$A"},
        {"Host": KEY},
        {"Content-Length": KEY},
        [("api-key", "$A"), ("API-KEY", KEY)],
        [("api-key", KEY, "$A")],
        {"api-key": 5, "x": KEY},
        KEY,
        {KEY},
    ],
)
def test_a_secret_in_headers_is_refused_and_not_shown(headers: Any) -> None:
    with pytest.raises(InputError) as caught:
        EngineSpec("openai_api", "m", headers=headers)
    assert "CANARY" not in str(caught.value)


def test_headers_are_checked_before_the_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    with ApiServer() as server:
        with pytest.raises(InputError, match=r"header api-key .*variable C is not set"):
            ask(spec_of(server, headers={"api-key": "$C"}))
        monkeypatch.setenv("C", f"{KEY}\r\nHost: evil")
        with pytest.raises(InputError, match="printable") as caught:
            ask(spec_of(server, headers={"api-key": "$C"}))
        assert "CANARY" not in str(caught.value)
        with pytest.raises(InputError, match="exclude each other"):
            spec_of(server, keys="A", headers={"authorization": "$A"})
        assert not server.requests


# Options -------------------------------------------------------------------------------------------------------------

SECRET_NAMES = [
    "api_key",
    "apikey",
    "API-Key",
    "token",
    "Access_Token",
    "authorization",
    "password",
    "secret",
    "SECRET",
]


@pytest.mark.parametrize("kind", ["openai_api", "local"])
@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_secret_in_options_is_refused_and_not_shown(name: str, kind: str) -> None:
    for options in (
        {name: KEY},
        {"extra_body": {name: KEY}},
        {"extra_body": {"deep": [{"er": {name: KEY}}]}},
        {"extra_body": {"deep": ({name: {"x": KEY}},)}},
        (("extra_body", {name: f"$ {KEY}"}),),
        {"extra_body": {name: None}},
    ):
        with pytest.raises(InputError, match=name) as caught:
            EngineSpec(kind, "m", options=options)
        assert "CANARY" not in str(caught.value)


def test_a_secret_in_options_is_taken_by_variable(fresh_caches: Path) -> None:
    extra = {"provider": {"Token": "$A", "stop_token_ids": [5]}, "max_completion_tokens": 9, "note": "$A"}

    def echo(received: ReceivedRequest, repeats: int) -> ServerReply:
        return error(400, None, received.raw.decode()) if number_of(received) % 2 else completion(received.raw.decode())

    with ApiServer(echo) as server:
        rows = answer(questions(6), spec_of(server, options={"extra_body": extra}, max_failed=1.0))["response"][:]
        assert server.requests[0].body["provider"] == {"Token": KEY, "stop_token_ids": [5]}
        assert server.requests[0].body["note"] == "$A", "only under the name of a secret"
    assert "CANARY" not in repr(rows)
    assert not [file for file in fresh_caches.rglob("*") if file.is_file() and b"CANARY" in file.read_bytes()]
    with ApiServer() as server:
        batch = spec_of(server, options={"extra_body": extra}, limits=Limits(mode="batch", poll=0.01))
        assert ask(batch)[0].text
        assert server.lines[0].body["provider"]["Token"] == KEY
    with ApiServer() as server, pytest.raises(InputError, match="variable C is not set"):
        ask(spec_of(server, options={"extra_body": {"token": "$C"}}))


# Hosts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("upstream http://10.1.2.3:8000/v1 failed", "upstream [server] failed"),
        ("connect to 192.168.0.7:8000: refused", "connect to [server]: refused"),
        ("172.31.0.1, 172.32.0.1, 100.64.0.1, 169.254.1.1", "[server], 172.32.0.1, [server], [server]"),
        ("host gpu7.cluster.local not found", "host [server] not found"),
        ("see http://gpu7:8000/health.", "see [server]"),
        ("at http://me:pass@db.intranet/x", "at [server]"),
        ("see https://platform.openai.com/docs (error 10.2)", "see https://platform.openai.com/docs (error 10.2)"),
        ("versions 10.0.0 and 1.10.0.0.1; local", "versions 10.0.0 and 1.10.0.0.1; local"),
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
    ],
)
def test_private_hosts_in_errors(text: str, expected: str) -> None:
    assert redact_hosts(text) == expected


def test_errors_do_not_name_a_private_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Error details are published with the ledger."""
    with ApiServer(lambda received, repeats: error(500, None, f"worker of {received.headers['host']} died")) as server:
        (reply,) = ask(spec_of(server))
        assert reply.error_detail == "500: worker of [server] died (invalid_request_error)"
    for url in (server.url, "http://gpu7.invalid:8000/v1", "http://gpu7-no-such-host:8000/v1"):
        (reply,) = ask(spec_of(server, base_url=url))
        assert reply.error == "connection"
        assert not [host for host in ("127.0.0.1", "gpu7") if host in reply.error_detail]


# Messages ------------------------------------------------------------------------------------------------------------


def test_exceptions_and_logs_are_redacted_before_they_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for offset in range(MAX_DETAIL_LENGTH - 50, MAX_DETAIL_LENGTH, 7):
        unauthorized: Mapping[Any, Any] = {401: NoUsableApiKey, 400: AllRequestsRefused}
        for status, kind in unauthorized.items():
            reply = error(status, None, "-" * offset + KEY)
            with ApiServer(always(reply)) as server:
                with pytest.raises(kind) as caught:
                    ask(spec_of(server, keys="A"), 20)
                assert not parts_of(KEY, str(caught.value))
    assert not parts_of(KEY, caplog.text)


def test_an_empty_base_url_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", " ")
    with pytest.raises(NoUsableApiKey, match="OPENAI_API_KEY"), OpenAIEngine(EngineSpec("openai_api", "m")):
        pass
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with OpenAIEngine(EngineSpec("openai_api", "m")) as engine:
        assert engine.identity()["url"] == "https://api.openai.com/v1"


def test_the_reply_store_has_no_header(fresh_caches: Path) -> None:
    with ApiServer(echo_headers) as server:
        answer(questions(2), spec_of(server, keys="A", headers={"X-Team": "$A"}, max_failed=1.0))
    (path,) = fresh_caches.rglob("replies.sqlite")
    with closing(sqlite3.connect(path)) as connection:
        dump = "\n".join(connection.iterdump())
    assert "you sent" in dump
    assert "CANARY" not in dump
