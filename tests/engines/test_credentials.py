"""API keys are read from their sources, used only by the engine, and never saved or shown."""

from __future__ import annotations

import base64
import copy
import dataclasses
import ipaddress
import json
import logging
import pickle
import random
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.cpu_time import cpu_limit
from toolrlef_data.engines.credentials import (
    Address,
    custom_headers,
    find_proxy,
    read_api_keys,
    read_headers,
    read_variable,
    read_variables,
    resolve_address,
)
from toolrlef_data.engines.openai_api.engine import OpenAIEngine
from toolrlef_data.engines.openai_api.session import HTTP_LOGGERS
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import InputError, NoUsableApiKey
from toolrlef_data.tables.fingerprint import canonical
from toolrlef_data.tables.redaction import Secrets, redact_hosts, redact_url

CANARY = "sk-proj-CANARY0123456789abcdefghijkl"
PLAIN = "CANARY0123456789abcdefghijkl"  # an API key without a known prefix
URL = "http://localhost:1/v1"


@pytest.fixture(autouse=True)
def unset_api_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "A", "B", "C"):
        monkeypatch.delenv(name, raising=False)


def spec_of(*keys: str, base_url: str | None = URL, **settings: Any) -> EngineSpec:
    return EngineSpec("openai_api", "m", base_url=base_url, keys=keys, **settings)


def all_texts(error: BaseException) -> str:
    """Return all texts of an exception: its traceback, and what a logger or a notebook shows."""
    return "".join(traceback.format_exception(error)) + repr(error) + str(error) + repr(error.args) + repr(vars(error))


# Reading API keys -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("one", ["one"]),
        ("  one \n", ["one"]),  # `export A=$(cat file)` and editors leave white space
        ("one,two", ["one", "two"]),
        ("one, two three\nfour", ["one", "two", "three", "four"]),
        ("two,one,two", ["two", "one"]),  # distinct, in order
        ("one,,two,", ["one", "two"]),
        ("one\r\n", ["one"]),
    ],
)
def test_keys_from_a_variable(monkeypatch: pytest.MonkeyPatch, text: str, keys: list[str]) -> None:
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
def test_keys_from_a_file(tmp_path: Path, raw: bytes, keys: list[str]) -> None:
    (tmp_path / "keys.txt").write_bytes(raw)
    assert read_api_keys(spec_of(f"file:{tmp_path}/keys.txt")) == keys


def test_keys_from_several_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("three\none\n")
    monkeypatch.setenv("A", "one")
    monkeypatch.setenv("B", "two")
    assert read_api_keys(spec_of("B", "A", f"file:{tmp_path}/keys")) == ["two", "one", "three"]
    assert read_api_keys(EngineSpec("openai_api", "m", base_url=URL, keys="A")) == ["one"]


def test_keys_are_read_at_each_stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A key that changes between two stages takes effect with the same spec."""
    spec = spec_of("A", f"file:{tmp_path}/keys")
    for key in ("first", "second"):
        monkeypatch.setenv("A", key)
        (tmp_path / "keys").write_text(f"file-{key}")
        assert read_api_keys(spec) == [key, f"file-{key}"]


def test_default_key_is_not_sent_to_other_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_API_KEY is for the default server; a server in `base_url` receives only the keys in `keys`."""
    monkeypatch.setenv("OPENAI_API_KEY", "openai-key")
    assert read_api_keys(spec_of(base_url=None)) == ["openai-key"]
    assert read_api_keys(spec_of()) == []
    assert read_api_keys(spec_of("OPENAI_API_KEY")) == ["openai-key"]
    monkeypatch.setenv("OPENAI_BASE_URL", URL)
    assert read_api_keys(spec_of(base_url=None)) == ["openai-key"]
    monkeypatch.delenv("OPENAI_API_KEY")
    assert read_api_keys(spec_of(base_url=None)) == [], "a custom server needs no key"
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(NoUsableApiKey, match="OPENAI_API_KEY"):
        read_api_keys(spec_of(base_url=None))


@pytest.mark.parametrize("text", ["", "  \n", ",", " , "])
def test_empty_source_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    monkeypatch.setenv("A", text)
    (tmp_path / "keys").write_text(text + "# none here")
    for source in ("A", "B", f"file:{tmp_path}/keys"):
        with pytest.raises(NoUsableApiKey, match=source.rpartition("/")[2]):
            read_api_keys(spec_of(source))


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("file:/nowhere/at/all", "missing file"),
        ("file:", "the current folder"),
        ("file:/", "a folder"),
        ("file:~nobody-of-this-name/keys", "unknown home folder"),
        ("file:/tmp/a\x00b", "invalid path"),
        ("file:" + "x" * 5000, "name too long"),
    ],
)
def test_unreadable_file_is_reported(source: str, why: str) -> None:
    with pytest.raises(NoUsableApiKey):
        read_api_keys(spec_of(source))


@pytest.mark.parametrize(
    "raw",
    [
        f"{CANARY}é".encode(),  # a typo
        f"{CANARY}\u200b".encode(),  # copied from a web page
        f"{CANARY}\x07".encode(),  # would break a header
        CANARY.encode("utf-16"),  # PowerShell's redirection
        f"{CANARY}é".encode("latin-1"),
        f"“{CANARY}”".encode(),
    ],
)
def test_invalid_key_is_reported_but_not_shown(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "keys").write_bytes(raw)
    with pytest.raises(NoUsableApiKey) as caught:
        read_api_keys(spec_of(f"file:{tmp_path}/keys"))
    assert "CANARY" not in all_texts(caught.value)


# A secret instead of a name -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [CANARY, PLAIN, f"Bearer {CANARY}", f"$A {CANARY}", "aB-CANARY", f"A\n{CANARY}", ""])
def test_key_instead_of_a_name_is_rejected_but_not_shown(key: str) -> None:
    for keys in ((key,), ("A", key), key):
        with pytest.raises(InputError) as caught:
            EngineSpec("openai_api", "m", base_url=URL, keys=keys)
        assert "CANARY" not in all_texts(caught.value)
        with pytest.raises(InputError) as caught:
            dataclasses.replace(spec_of("A"), keys=keys)
        assert "CANARY" not in all_texts(caught.value)


def test_key_instead_of_a_path_is_not_shown() -> None:
    with pytest.raises(NoUsableApiKey) as caught:
        read_api_keys(spec_of(f"file:{CANARY}"))
    assert CANARY not in all_texts(caught.value)


BAD_URLS = [
    "http://user:CANARY@localhost:1/v1",
    "http://CANARY@localhost:1/v1",  # a token as user name
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
def test_url_with_credentials_is_rejected_but_not_shown(url: str) -> None:
    with pytest.raises(InputError) as caught:
        spec_of(base_url=url)
    assert "CANARY" not in all_texts(caught.value)


@pytest.mark.parametrize("url", [*BAD_URLS[5:10], "http://user:CANARY@host:port/v1", "http:///CANARY", "CANARY"])
def test_invalid_url_from_the_environment_is_not_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("A", url)
    with pytest.raises(InputError) as caught:
        resolve_address(spec_of(base_url="$A"))
    assert "CANARY" not in all_texts(caught.value)


def test_unset_url_variable_is_reported() -> None:
    with pytest.raises(InputError, match="A is not set"):
        resolve_address(spec_of(base_url="$A"))


# Saved and shown texts -------------------------------------------------------------------------------------------------

SECRET_URL = f"https://user:{PLAIN}@example.com:8443/v1/?api_key=query-{PLAIN}&v=1"


def test_address_separates_url_and_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", SECRET_URL)
    address = resolve_address(spec_of(base_url="$A"))
    assert address.url == "https://example.com:8443/v1"
    assert address.query == {"api_key": f"query-{PLAIN}", "v": "1"}
    assert Address("http://h/v1?beta=&v=1").query == {"beta": "", "v": "1"}, "a flag may have no value"
    assert base64.b64decode(address.basic_auth.removeprefix("Basic ")) == f"user:{PLAIN}".encode()
    assert PLAIN not in repr(address) + str(address) + f"{address}"
    for copy_function in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            copy_function(address)


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("http://user:p%40ss%2Fword@h/v1", "user:p@ss/word"),  # percent-encoded, as required
        ("http://us%3Aer:x@h/v1", "us:er:x"),
        ("http://a@b:c@h/v1", "a@b:c"),  # the last @ is the separator
        ("http://h/v1", ""),
    ],
)
def test_login_of_a_url(url: str, login: str) -> None:
    address = Address(url)
    assert (address.url, address.login) == ("http://h/v1", login)


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        (f"http://user:{PLAIN}@h/v1", PLAIN),
        (f"http://{PLAIN}@h/v1", PLAIN),  # a token as user name, as git hosts accept it
        (f"http://{PLAIN}:@h/v1", PLAIN),
        (f"http://{PLAIN}:x-oauth-basic@h/v1", PLAIN),
        (f"http://h/v1?code={PLAIN}", PLAIN),
        (f"http://h/v1?code={PLAIN}&code=other", PLAIN),
        (f"http://user:{PLAIN}@h/v1", base64.b64encode(f"user:{PLAIN}".encode()).decode()),
        ("http://user:p%40ss%2Fword@h/v1", "p@ss/word"),
        ("http://user:p%40ss%2Fword@h/v1", "p%40ss%2Fword"),  # in the encoded URL
        ("http://user:p%40ss%2fword@h/v1", "p%40ss%2fword"),  # lower-case encoding
    ],
)
def test_secrets_of_a_url_are_redacted(url: str, secret: str) -> None:
    assert secret not in Secrets(Address(url).secrets).redact(f"cannot reach {secret} now")


def test_saved_and_shown_texts_contain_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", CANARY)
    monkeypatch.setenv("B", SECRET_URL)
    spec = spec_of("A", base_url="$B")
    shown = [repr(spec), json.dumps(canonical(spec)), repr(dataclasses.asdict(spec)), repr(spec.in_key())]
    shown += [pickle.dumps(spec).decode("latin-1"), repr(pickle.loads(pickle.dumps(spec))), repr(copy.deepcopy(spec))]
    with OpenAIEngine(spec) as engine:
        shown += [repr(engine), json.dumps(engine.identity()), repr(engine.stats()), repr(engine.session.secrets)]
        shown += [repr(engine.session.scheduler.limiters), repr(engine.session.spending), f"{engine.session.address}"]
        for copy_function in (pickle.dumps, copy.copy, copy.deepcopy):
            for secret_holder in (engine, engine.session, engine.session.secrets, engine.session.address):
                with pytest.raises(TypeError) as caught:
                    copy_function(secret_holder)
                shown.append(all_texts(caught.value))
    assert not [text for text in shown if "CANARY" in text]


def test_limiter_cannot_be_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limiter contains its API key, and debuggers and process pools pickle objects."""
    monkeypatch.setenv("A", CANARY)
    with OpenAIEngine(spec_of("A")) as engine, pytest.raises(TypeError):
        pickle.dumps(engine.session.scheduler.limiters[0])


def test_key_sources_are_not_part_of_the_cache_key() -> None:
    assert canonical(spec_of("A")) == canonical(spec_of("B", "file:/x")) == canonical(spec_of())


def test_libraries_log_no_secret(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("A", PLAIN)
    monkeypatch.setenv("B", SECRET_URL)
    filters = [list(logging.getLogger(name).filters) for name in HTTP_LOGGERS]
    with OpenAIEngine(spec_of("A", base_url="$B")), caplog.at_level(logging.DEBUG):
        for name in ("httpx2", "openai", "openai._base_client", "aiohttp.client"):
            logging.getLogger(name).info("POST %s with %s", SECRET_URL, {"Authorization": f"Bearer {PLAIN}"})
            logging.getLogger(name).warning(f"100% of {PLAIN}")
    assert len(caplog.records) == 8
    assert "CANARY" not in caplog.text
    assert [logging.getLogger(name).filters for name in HTTP_LOGGERS] == filters, "an engine leaves no filter"


# Redaction ------------------------------------------------------------------------------------------------------------

HARD = 'tok/CANARY+0123=456"78\\9~&'  # differs in each spelling
SPELLINGS: dict[str, Callable[[str], str]] = {
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
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_key_is_redacted(spelling: str, key: str) -> None:
    echoed = SPELLINGS[spelling](key)
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


def test_key_that_contains_another_is_redacted_completely() -> None:
    for keys in (
        ["tok-0123456789abcdef", "tok-0123456789abcdef-REST"],
        ["tok-0123456789abcdef-REST", "tok-0123456789abcdef"],
    ):
        assert "REST" not in Secrets(keys).redact("x tok-0123456789abcdef-REST y")


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abcDEF123_456-789",  # OpenAI
        "sk-abcd1234*******wxyz",  # as OpenAI abbreviates an invalid key
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
        "AIzaSyA-0123456789abcdefABCDEF_0123456789",  # Google: no separator after the prefix
    ],
)
def test_unknown_keys_with_a_known_prefix_are_redacted(key: str) -> None:
    for text in (f"Incorrect API key provided: {key}. See the page.", f"'{key}'", f"key={key}&x=1"):
        assert key not in Secrets([]).redact(text)
    assert key in Secrets([]).redact_reply(f"my {key}"), "only known keys are redacted in replies"


@pytest.mark.parametrize(
    "header",
    [
        "Authorization: Bearer tok0123456789",
        "authorization: bearer tok0123456789",
        "{'authorization': 'Bearer tok0123456789'}",
        "Basic dG9rMDEyMzQ1Njc4OQ== tok0123456789",
    ],
)
def test_authorization_header_is_redacted(header: str) -> None:
    known = [] if "earer" in header else ["tok0123456789"]
    cleaned = Secrets(known).redact(header)
    assert "tok0123456789" not in cleaned
    assert "dG9rMDEyMzQ1Njc4OQ" not in cleaned


@pytest.mark.parametrize(
    "text", ["", "a risk-free disk-based task", "the ask-me desk", "no key here", "sk-", "x" * 100, "[key]"]
)
def test_ordinary_words_are_not_redacted(text: str) -> None:
    assert Secrets([CANARY]).redact(text) == text


@pytest.mark.parametrize("key", ["EMPTY", "none", "x", ""])
def test_placeholder_keys_are_not_redacted(key: str) -> None:
    """Ordinary texts contain words such as vLLM's "EMPTY"."""
    text = "The set is EMPTY, none is left: x."
    assert Secrets([key]).redact(text) == text
    assert Secrets([key]).redact_reply(text) == text


def test_redaction_is_fast() -> None:
    with cpu_limit():
        secrets = Secrets([f"tok-{i:032d}" for i in range(20)])
        for text in ("sk-" * 50_000, "tok-" * 50_000, "Bearer " * 25_000, "a" * 250_000):
            secrets.redact(text)
            secrets.redact_reply(text)


PRIVATE_NETWORKS = ["10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"]


@pytest.mark.parametrize("network", PRIVATE_NETWORKS)
def test_all_addresses_of_a_private_network_are_redacted_and_none_beside_it(network: str) -> None:
    addresses = ipaddress.ip_network(network)
    first, last = int(addresses[0]), int(addresses[-1])
    draw = random.Random(network)
    inside = [first, last, *(draw.randint(first, last) for _ in range(300))]
    for number, is_private in [*((n, True) for n in inside), (first - 1, False), (last + 1, False)]:
        host = str(ipaddress.ip_address(number))
        text, url = f"cannot reach {host}:8000 now", f"http://{host}:8000/v1"
        assert redact_hosts(text) == ("cannot reach [server] now" if is_private else text), host
        assert redact_url(url) == ("a private server" if is_private else url), host


# Texts and boundaries -------------------------------------------------------------------------------------------------


def test_the_parts_of_an_address() -> None:
    address = Address(" https://us%40er:p%2Fw@Host:8443/a/b//?x=1&x=2&y= ")
    assert (address.url, address.with_login) == ("https://Host:8443/a/b", "https://us%40er:p%2Fw@Host:8443/a/b")
    assert (address.host, address.query, address.login) == ("host", {"x": "2", "y": ""}, "us@er:p/w")
    assert repr(address) == "Address('https://Host:8443/a/b')"
    assert set(address.secrets) == {
        *("p%2Fw", "us%40er", "us%40er:p%2Fw", "p/w", "us@er", "us@er:p/w", "1", "2"),
        base64.b64encode(b"us@er:p/w").decode(),
    }
    plain = Address("http://h")
    assert (plain.url, plain.with_login, plain.basic_auth, plain.secrets, plain.query) == (
        "http://h",
        "http://h",
        "",
        [],
        {},
    )


@pytest.mark.parametrize(
    "url", ["", "h", "h:8/v1", "ftp://h", "http://", "http://h:0", "http://h:99999", "http://h:x", "http://[h"]
)
def test_no_other_address_is_accepted(url: str) -> None:
    for what, shown in (((), "the server's URL"), (("the proxy",), "the proxy")):
        with pytest.raises(InputError) as caught:
            Address(url, *what)
        assert str(caught.value) == f"{shown} is not a valid http or https URL (omitted: it may contain credentials)"


def test_variables_and_headers_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", " value-of-a ")
    monkeypatch.setenv("B", " ")
    assert read_variable("$A", "base_url") == "value-of-a"
    for name in ("B", "C"):
        with pytest.raises(InputError) as caught:
            read_variable(f"${name}", "what")
        assert str(caught.value) == f"what: the environment variable {name} is not set"
    assert read_headers({"X-A": "$A", "X-B": "$b", "X-C": ""}, "m") == {"X-A": "value-of-a", "X-B": "$b", "X-C": ""}
    with pytest.raises(InputError, match=r"^the header X-C of m: the environment variable C is not set$"):
        read_headers({"X-C": "$C"}, "m")
    for value in ("é", "a\tb", "a\nb"):
        with pytest.raises(InputError, match=r"^the header X of m: the value must be printable ASCII$"):
            read_headers({"X": value}, "m")
    assert resolve_address(spec_of(base_url="http://h/v1/")).url == "http://h/v1"
    with pytest.raises(InputError, match=r"^base_url='\$C': the environment variable C is not set$"):
        resolve_address(spec_of(base_url="$C"))
    for value, url in ((" ", "https://api.openai.com/v1"), (" http://own/v1 ", "http://own/v1")):
        monkeypatch.setenv("OPENAI_BASE_URL", value)
        assert resolve_address(spec_of(base_url=None)).url == url


def test_headers_of_the_openai_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_CUSTOM_HEADERS", raising=False)
    assert custom_headers() == {}
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", " A : 1:2 \nB:\nno header\n: no name\n A: 3")
    assert custom_headers() == {"A": "3", "B": ""}


def test_only_values_under_the_name_of_a_secret_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "of-a")
    monkeypatch.setenv("B", "of-b")
    secrets = ["earlier"]
    value = {"token": "$A", "note": "$A", "deep": [{"Api-Key": "$B"}, ("$A", 5)], "password": "$a", "secret": None}
    assert read_variables(value, secrets) == {
        "token": "of-a", "note": "$A", "deep": [{"Api-Key": "of-b"}, ["$A", 5]], "password": "$a", "secret": None
    }  # fmt: skip
    assert secrets == ["earlier", "of-a", "of-b"]
    with pytest.raises(InputError, match=r"^options: token: the environment variable C is not set$"):
        read_variables({"x": {"token": "$C"}}, secrets)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["A", "B"], "no API key: not set or empty: A, B"),
        (["ABCDEFGHIJKLMNO"], "no API key: not set or empty: ABCDEFGHIJKLMNO"),
        (["ABCDEFGHIJKLMNOP"], "no API key: not set or empty: a variable of `keys`"),
        (["ABCDEFGHIJKLMNO_P"], "no API key: not set or empty: ABCDEFGHIJKLMNO_P"),
        (["file:/nowhere/keys"], "no API key: cannot read file:/nowhere/keys: No such file or directory"),
        (["file:nowhere"], "no API key: cannot read the file in `keys`: No such file or directory"),
        (["file:/a\x00b"], "no API key: cannot read file:/a\x00b: not a text file or not a valid path"),
        (["file:~nobody-of-this-name/keys"], "no API key: cannot read file:~nobody-of-this-name/keys: not a text file or not a valid path"),
        (["D"], "D contains characters that are invalid in an API key (not shown)"),
        ([], "no API key: not set or empty: OPENAI_API_KEY"),
    ],
)  # fmt: skip
def test_missing_keys_are_named_and_possible_keys_are_not(
    monkeypatch: pytest.MonkeyPatch, keys: list[str], message: str
) -> None:
    monkeypatch.setenv("D", "good bad\x07key")
    with pytest.raises(NoUsableApiKey) as caught:
        read_api_keys(spec_of(*keys, base_url=None if not keys else URL))
    assert str(caught.value) == message


def test_a_header_of_authorization_replaces_the_default_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "openai-key")
    assert read_api_keys(spec_of(base_url=None, headers={"authorization": "$A"})) == []
    assert read_api_keys(spec_of(base_url=None, headers={"X-Team": "blue"})) == ["openai-key"]


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, "http://h/v1", None),
        ({"https_proxy": "http://p:1"}, "http://h/v1", None),
        ({"https_proxy": "http://p:1", "all_proxy": "http://p:2"}, "https://h/v1", "http://p:1"),
        ({"https_proxy": "http://p:1", "all_proxy": "http://p:2"}, "http://h/v1", "http://p:2"),
        ({"all_proxy": "https://p"}, "https://h/v1", "https://p"),
        ({"http_proxy": "http://p", "no_proxy": "h:443"}, "http://h/v1", "http://p"),
        ({"https_proxy": "http://p", "no_proxy": "h:443"}, "https://h/v1", None),
        ({"https_proxy": "http://p", "no_proxy": "h:80"}, "https://h/v1", "http://p"),
        ({"http_proxy": "http://p", "no_proxy": "a,\tb  h"}, "http://h/v1", None),
        ({"http_proxy": "http://p", "no_proxy": "10.0.0.0/33"}, "http://10.0.0.1/v1", "http://p"),
        ({"http_proxy": "http://p", "no_proxy": "10.0.0.7/8"}, "http://10.9.9.9/v1", None),
        ({"http_proxy": "http://p", "no_proxy": "."}, "http://h/v1", "http://p"),
    ],
)
def test_which_proxy_is_used(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, proxy: str | None
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = find_proxy(url)
    assert (found and found.url) == proxy


def test_a_proxy_that_is_not_supported_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("ALL_PROXY", "SOCKS5://p:1080")
    with pytest.raises(InputError) as caught:
        find_proxy("https://h/v1")
    assert str(caught.value) == (
        "ALL_PROXY names a SOCKS proxy, which is not supported: set HTTPS_PROXY to an http proxy, or add the server's "
        "host to NO_PROXY"
    )
    monkeypatch.setenv("ALL_PROXY", "ftp://p")
    with pytest.raises(InputError, match=r"^the proxy in the environment variable ALL_PROXY is not a valid http"):
        find_proxy("https://h/v1")
