"""Keys: read from where they stand, used by the engine alone, and in no text that is written down."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from toolrlef_data.engines.credentials import Address, Secrets, read_api_keys, resolve_address
from toolrlef_data.engines.openai_api.engine import OpenAIEngine
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import InputError, NoUsableApiKey
from toolrlef_data.tables.fingerprint import canonical

CANARY = "sk-proj-CANARY0123456789abcdefghijkl"
PLAIN = "CANARY0123456789abcdefghijkl"  # a key without the form of one
URL = "http://localhost:1/v1"


@pytest.fixture(autouse=True)
def no_keys_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "A", "B", "C"):
        monkeypatch.delenv(name, raising=False)


def spec_of(*keys: str, base_url: str | None = URL, **settings: Any) -> EngineSpec:
    return EngineSpec("openai_api", "m", base_url=base_url, keys=keys, **settings)


def said(error: BaseException) -> str:
    """All that a traceback shows of an exception, and what a logger or a notebook would show of its arguments."""
    return "".join(traceback.format_exception(error)) + repr(error) + str(error) + repr(error.args) + repr(vars(error))


# Where keys are read --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("one", ["one"]),
        ("  one \n", ["one"]),  # `export A=$(cat file)` and editors leave white space
        ("one,two", ["one", "two"]),
        ("one, two three\nfour", ["one", "two", "three", "four"]),
        ("two,one,two", ["two", "one"]),  # each once, in order
        ("one,,two,", ["one", "two"]),
        ("one\r\n", ["one"]),
    ],
)
def test_keys_of_a_variable(monkeypatch: pytest.MonkeyPatch, text: str, keys: list[str]) -> None:
    monkeypatch.setenv("A", text)
    assert read_api_keys(spec_of("A")) == keys


@pytest.mark.parametrize(
    ("raw", "keys"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\r\ntwo\r\n", ["one", "two"]),  # Windows
        (b"one\rtwo", ["one", "two"]),
        (b"\xef\xbb\xbfone\r\ntwo", ["one", "two"]),  # Notepad's byte order mark
        (b"# work\none # mine\n\n  \n#two\nthree", ["one", "three"]),
        (b"one,two # both\n", ["one", "two"]),
        (b"one\n\none\n", ["one"]),
        (b"one", ["one"]),
    ],
)
def test_keys_of_a_file(tmp_path: Path, raw: bytes, keys: list[str]) -> None:
    (tmp_path / "keys.txt").write_bytes(raw)
    assert read_api_keys(spec_of(f"file:{tmp_path}/keys.txt")) == keys


def test_keys_of_several_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("three\none\n")
    monkeypatch.setenv("A", "one")
    monkeypatch.setenv("B", "two")
    assert read_api_keys(spec_of("B", "A", f"file:{tmp_path}/keys")) == ["two", "one", "three"]
    assert read_api_keys(EngineSpec("openai_api", "m", base_url=URL, keys="A")) == ["one"]


def test_keys_are_read_when_they_are_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A key that is changed between two stages is seen, by the same spec."""
    spec = spec_of("A", f"file:{tmp_path}/keys")
    for key in ("first", "second"):
        monkeypatch.setenv("A", key)
        (tmp_path / "keys").write_text(f"file-{key}")
        assert read_api_keys(spec) == [key, f"file-{key}"]


def test_whose_keys_are_sent_where(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_API_KEY is for the server of the environment; a server that the spec names gets only keys that it names."""
    monkeypatch.setenv("OPENAI_API_KEY", "openai-key")
    assert read_api_keys(spec_of(base_url=None)) == ["openai-key"]
    assert read_api_keys(spec_of()) == []
    assert read_api_keys(spec_of("OPENAI_API_KEY")) == ["openai-key"]
    monkeypatch.setenv("OPENAI_BASE_URL", URL)
    assert read_api_keys(spec_of(base_url=None)) == ["openai-key"]
    monkeypatch.delenv("OPENAI_API_KEY")
    assert read_api_keys(spec_of(base_url=None)) == [], "a server of one's own needs none"
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(NoUsableApiKey, match="OPENAI_API_KEY"):
        read_api_keys(spec_of(base_url=None))


@pytest.mark.parametrize("text", ["", "  \n", ",", " , "])
def test_an_empty_place_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    monkeypatch.setenv("A", text)
    (tmp_path / "keys").write_text(text + "# none here")
    for place in ("A", "B", f"file:{tmp_path}/keys"):
        with pytest.raises(NoUsableApiKey, match=place.rpartition("/")[2]):
            read_api_keys(spec_of(place))


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("file:/nowhere/at/all", "not there"),
        ("file:", "the working folder"),
        ("file:/", "a folder"),
        ("file:~nobody-of-this-name/keys", "no such home"),
        ("file:/tmp/a\x00b", "no path"),
        ("file:" + "x" * 5000, "too long a name"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(place: str, why: str) -> None:
    with pytest.raises(NoUsableApiKey):
        read_api_keys(spec_of(place))


@pytest.mark.parametrize(
    "raw",
    [
        f"{CANARY}é".encode(),  # a typing mistake
        f"{CANARY}\u200b".encode(),  # copied from a web page
        f"{CANARY}\x07".encode(),  # would break a header
        CANARY.encode("utf-16"),  # PowerShell's redirection
        f"{CANARY}é".encode("latin-1"),
        f"“{CANARY}”".encode(),
    ],
)
def test_a_key_that_is_none_is_told_and_not_shown(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "keys").write_bytes(raw)
    with pytest.raises(NoUsableApiKey) as caught:
        read_api_keys(spec_of(f"file:{tmp_path}/keys"))
    assert "CANARY" not in said(caught.value)


# A secret in the place of a name --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [CANARY, PLAIN, f"Bearer {CANARY}", f"$A {CANARY}", "aB-CANARY", f"A\n{CANARY}", ""])
def test_a_key_for_a_name_is_refused_and_not_shown(key: str) -> None:
    for keys in ((key,), ("A", key), key):
        with pytest.raises(InputError) as caught:
            EngineSpec("openai_api", "m", base_url=URL, keys=keys)
        assert "CANARY" not in said(caught.value)
        with pytest.raises(InputError) as caught:
            dataclasses.replace(spec_of("A"), keys=keys)
        assert "CANARY" not in said(caught.value)


def test_a_key_for_a_path_is_not_shown() -> None:
    with pytest.raises(NoUsableApiKey) as caught:
        read_api_keys(spec_of(f"file:{CANARY}"))
    assert CANARY not in said(caught.value)


BAD_URLS = [
    "http://user:CANARY@localhost:1/v1",
    "http://CANARY@localhost:1/v1",  # a token for a user's name
    "https://:CANARY@localhost/v1",
    "http://localhost:1/v1?api_key=CANARY",
    "http://localhost:1/v1#CANARY",
    "http://user:CANARY@[localhost/v1",  # urlsplit raises
    "http://user:CANARY@exa\u2100mple.com/v1",  # urlsplit raises with the credentials in its message
    "user:CANARY@localhost:1/v1",  # no scheme
    "ftp://user:CANARY@localhost/v1",
    "CANARY",
    "$CANARY lower",
    "$canary0123CANARY",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_with_credentials_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InputError) as caught:
        spec_of(base_url=url)
    assert "CANARY" not in said(caught.value)


@pytest.mark.parametrize("url", [*BAD_URLS[5:10], "http://user:CANARY@host:port/v1", "http:///CANARY", "CANARY"])
def test_a_broken_url_of_the_environment_is_not_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("A", url)
    with pytest.raises(InputError) as caught:
        resolve_address(spec_of(base_url="$A"))
    assert "CANARY" not in said(caught.value)


def test_a_url_that_is_not_set_is_told() -> None:
    with pytest.raises(InputError, match="A is not set"):
        resolve_address(spec_of(base_url="$A"))


# What is written down -------------------------------------------------------------------------------------------------

SECRET_URL = f"https://user:{PLAIN}@example.com:8443/v1/?api_key=query-{PLAIN}&v=1"


def test_an_address_in_two_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", SECRET_URL)
    address = resolve_address(spec_of(base_url="$A"))
    assert address.url == "https://example.com:8443/v1"
    assert address.query == {"api_key": f"query-{PLAIN}", "v": "1"}
    assert base64.b64decode(address.basic_auth.removeprefix("Basic ")) == f"user:{PLAIN}".encode()
    assert PLAIN not in repr(address) + str(address) + f"{address}"
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            copied(address)


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("http://user:p%40ss%2Fword@h/v1", "user:p@ss/word"),  # percent-encoded, as it has to be
        ("http://us%3Aer:x@h/v1", "us:er:x"),
        ("http://a@b:c@h/v1", "a@b:c"),  # the last @ parts
        ("http://h/v1", ""),
    ],
)
def test_credentials_of_a_url(url: str, login: str) -> None:
    address = Address(url)
    assert (address.url, address.login) == ("http://h/v1", login)


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        (f"http://user:{PLAIN}@h/v1", PLAIN),
        (f"http://{PLAIN}@h/v1", PLAIN),  # a token for a user's name, as git hosts take it
        (f"http://{PLAIN}:@h/v1", PLAIN),
        (f"http://{PLAIN}:x-oauth-basic@h/v1", PLAIN),
        (f"http://h/v1?code={PLAIN}", PLAIN),
        (f"http://h/v1?code={PLAIN}&code=other", PLAIN),
        (f"http://user:{PLAIN}@h/v1", base64.b64encode(f"user:{PLAIN}".encode()).decode()),
        ("http://user:p%40ss%2Fword@h/v1", "p@ss/word"),
        ("http://user:p%40ss%2Fword@h/v1", "p%40ss%2Fword"),  # as a server or a library repeats the URL
        ("http://user:p%40ss%2fword@h/v1", "p%40ss%2fword"),  # the same in small letters
    ],
)
def test_secrets_of_a_url_are_scrubbed(url: str, secret: str) -> None:
    assert secret not in Secrets(Address(url).secrets).redact(f"cannot reach {secret} now")


def test_nothing_that_is_written_down_holds_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", CANARY)
    monkeypatch.setenv("B", SECRET_URL)
    spec = spec_of("A", base_url="$B")
    shown = [repr(spec), json.dumps(canonical(spec)), repr(dataclasses.asdict(spec)), repr(spec.in_key())]
    shown += [pickle.dumps(spec).decode("latin-1"), repr(pickle.loads(pickle.dumps(spec))), repr(copy.deepcopy(spec))]
    with OpenAIEngine(spec) as engine:
        shown += [repr(engine), json.dumps(engine.identity()), repr(engine.stats()), repr(engine.session.secrets)]
        shown += [repr(engine.session.scheduler.limiters), repr(engine.session.spending), f"{engine.session.address}"]
        for copied in (pickle.dumps, copy.copy, copy.deepcopy):
            for held in (engine, engine.session, engine.session.secrets, engine.session.address):
                with pytest.raises(TypeError) as caught:
                    copied(held)
                shown.append(said(caught.value))
    assert not [text for text in shown if "CANARY" in text]


def test_a_gate_is_not_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds its key, and a debugger or a process pool may well pickle what it finds."""
    monkeypatch.setenv("A", CANARY)
    with OpenAIEngine(spec_of("A")) as engine, pytest.raises(TypeError):
        pickle.dumps(engine.session.scheduler.limiters[0])


def test_where_keys_stand_changes_no_cache_key() -> None:
    assert canonical(spec_of("A")) == canonical(spec_of("B", "file:/x")) == canonical(spec_of())


def test_libraries_log_no_secret(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("A", PLAIN)
    monkeypatch.setenv("B", SECRET_URL)
    with OpenAIEngine(spec_of("A", base_url="$B")), caplog.at_level(logging.DEBUG):
        for name in ("httpx2", "openai", "openai._base_client", "aiohttp.client"):
            logging.getLogger(name).info("POST %s with %s", SECRET_URL, {"Authorization": f"Bearer {PLAIN}"})
            logging.getLogger(name).warning(f"100% of {PLAIN}")
    assert len(caplog.records) == 8
    assert "CANARY" not in caplog.text


# Scrubbing ------------------------------------------------------------------------------------------------------------

HARD = 'tok/CANARY+0123=456"78\\9~&'  # every form writes it otherwise
FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "URL": lambda key: quote(key, safe=""),
    "URL, slashes kept": quote,
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 for URLs": lambda key: base64.urlsafe_b64encode(key.encode()).decode().rstrip("="),
    "JSON": lambda key: json.dumps(key)[1:-1],
    "JSON, slashes escaped": lambda key: json.dumps(key)[1:-1].replace("/", "\\/"),  # PHP
    "Python": lambda key: repr(key)[1:-1],
}


@pytest.mark.parametrize("key", [CANARY, PLAIN, HARD, "tok>>>???~~~CANARY/ab"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_key_is_scrubbed(form: str, key: str) -> None:
    echoed = FORMS[form](key)
    for redact in (Secrets([key]).redact, Secrets([key]).redact_reply):
        for text in (
            f"wrong key {echoed} given",
            f'{{"key": "{echoed}"}}',
            echoed,
            f"{echoed}{echoed}",
            f"\n{echoed}.",
        ):
            cleaned = redact(text)
            assert echoed not in cleaned
            assert "CANARY" not in cleaned
            assert "[key]" in cleaned


def test_one_key_inside_another_leaves_no_rest() -> None:
    for keys in (
        ["tok-0123456789abcdef", "tok-0123456789abcdef-REST"],
        ["tok-0123456789abcdef-REST", "tok-0123456789abcdef"],
    ):
        assert "REST" not in Secrets(keys).redact("x tok-0123456789abcdef-REST y")


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abcDEF123_456-789",  # OpenAI
        "sk-abcd1234*******wxyz",  # as it shortens a wrong one
        "sk-...wxyz12",
        "sk-ant-api03-abcdef0123456789",
        "sk-or-v1-0123456789abcdef",
        "gsk_abcdef0123456789",  # Groq
        "xai-abcdef0123456789",
        "hf_abcdefABCDEF012345",
        "nvapi-abcdef0123456789",
        "pplx-abcdef0123456789",
        "r8_abcdef0123456789",
        "fw_abcdef0123456789",
        "csk-abcdef0123456789",
        "tgp_v1_abcdef0123456789",
        "AIzaSyA-0123456789abcdefABCDEF_0123456789",  # Google: no mark after its first letters
    ],
)
def test_what_looks_like_a_key_is_scrubbed_though_unknown(key: str) -> None:
    for text in (f"Incorrect API key provided: {key}. See the page.", f"'{key}'", f"key={key}&x=1"):
        assert key not in Secrets([]).redact(text)
    assert key in Secrets([]).redact_reply(f"my {key}"), "a reply is left as the model wrote it"


@pytest.mark.parametrize(
    "header",
    [
        "Authorization: Bearer tok0123456789",
        "authorization: bearer tok0123456789",
        "{'authorization': 'Bearer tok0123456789'}",
        "Basic dG9rMDEyMzQ1Njc4OQ== tok0123456789",
    ],
)
def test_a_header_is_scrubbed(header: str) -> None:
    known = [] if "earer" in header else ["tok0123456789"]
    cleaned = Secrets(known).redact(header)
    assert "tok0123456789" not in cleaned
    assert "dG9rMDEyMzQ1Njc4OQ" not in cleaned


@pytest.mark.parametrize(
    "text", ["", "a risk-free disk-based task", "the ask-me desk", "no key here", "sk-", "x" * 100, "[key]"]
)
def test_ordinary_words_stay(text: str) -> None:
    assert Secrets([CANARY]).redact(text) == text


@pytest.mark.parametrize("key", ["EMPTY", "none", "x", ""])
def test_the_key_of_a_server_without_keys_hides_nothing(key: str) -> None:
    """vLLM's "EMPTY": the word stands in ordinary texts."""
    text = "The set is EMPTY, none is left: x."
    assert Secrets([key]).redact(text) == text
    assert Secrets([key]).redact_reply(text) == text


def test_scrubbing_takes_no_long_time() -> None:
    secrets = Secrets([f"tok-{i:032d}" for i in range(20)])
    for text in ("sk-" * 50_000, "tok-" * 50_000, "Bearer " * 25_000, "a" * 250_000):
        secrets.redact(text)
        secrets.redact_reply(text)
