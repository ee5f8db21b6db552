"""What of a setting and of an error text is published: no local path, no private server, no API key."""

from __future__ import annotations

import enum
import functools
import re
from collections import UserDict
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest

from toolrlef_data.choices import Choices
from toolrlef_data.records import Drop, clean_text
from toolrlef_data.tables.redaction import (
    Secrets,
    redact,
    redact_fields,
    redact_hosts,
    redact_path,
    redact_url,
)

HOME, URL, SERVER = "/home/me/rows", "http://localhost:8000/v1", "a private server"


class Kind(enum.Enum):
    PATH = HOME


@dataclass(frozen=True)
class Mine:
    folder: str = HOME
    timeout: float = 1.0

    def ask(self) -> str:
        return self.folder


@dataclass(frozen=True)
class OfThePackage(Drop):
    store: str = HOME
    folder: Any = HOME


@dataclass(frozen=True)
class Publishing:
    prompt: str = "secret"

    def published(self) -> dict[str, Any]:
        return {"digest": b"a", "folder": HOME}


SHA_OF_A = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (HOME, "rows"),
        (URL, SERVER),
        (Path(HOME), "rows"),
        (PureWindowsPath(r"C:\me\rows"), "rows"),
        ({HOME: [URL, 1], "b": (None, 2.5)}, {"rows": [SERVER, 1], "b": [None, 2.5]}),
        (UserDict({"a": HOME}), {"a": "rows"}),
        ({1: HOME, "/a/b": 2}, {"items": [[1, "rows"], ["b", 2]]}),
        ({HOME, "a", "/c"}, ["a", "c", "rows"]),
        (frozenset({2, "/a"}), ["a", 2]),
        (Mine().ask, {"method": redact(Mine.ask), "self": {"folder": "rows", "timeout": 1.0}}),
        (re.compile("/home/me", re.M), {"pattern": "me", "flags": 40}),
        (np.array([HOME, "b"]), {"array": "<U13", "values": ["rows", "b"]}),
        (np.int64(3), {"array": "int64", "values": 3}),
        (functools.partial(print, HOME, end=URL), {"partial": [{"name": "builtins:print"}, ["rows"], {"end": SERVER}]}),
        (clean_text, {"name": "toolrlef_data.records:clean_text"}),
        (b"a", {"bytes": SHA_OF_A}),
        (Kind.PATH, {"name": "PATH"}),
        (Mine(), {"folder": "rows", "timeout": 1.0}),
        (OfThePackage("a"), {"reason": "a", "detail": "", "folder": "rows"}),
        ([OfThePackage("a", folder=[Mine()])], [{"reason": "a", "detail": "", "folder": [{"folder": "rows", "timeout": 1.0}]}]),
        (Publishing(), {"digest": {"bytes": SHA_OF_A}, "folder": HOME}),
        (Choices("digit", {"pi": "math:pi"}), {"choices": {"pi": "math:pi"}, "code": {}}),
    ],
)  # fmt: skip
def test_a_setting_as_it_is_published(value: Any, expected: Any) -> None:
    assert redact(value) == expected


def test_the_fields_of_a_class_are_redacted_whatever_it_publishes() -> None:
    assert redact_fields(Publishing(HOME)) == {"prompt": "rows"}
    assert list(redact(Publishing)) == ["name", "source"], "a class is no object"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        *(("/a/b", "b"), ("/a/b/", "b"), ("//a/b", "b"), ("/x", "x"), ("~/a/b.txt", "b.txt"), ("~me/a", "a")),
        *(("./a", "a"), ("../a/b", "b"), ("$HOME/a", "a"), (r"%TEMP%\a", "a"), (r"C:\a\b", "b"), ("c:/a/b", "b")),
        *((r"\\host\a\b", "b"), (r"\a\b", "b"), ("file:///a/b", "b"), ("file:/a/b", "b"), ("smb://host/b", "b")),
        *((r"/a\b", "b"), ("/a b/c d", "c d"), ("/a/b\\", "b"), ("~-x.y/a", "a"), ("/~a", "~a"), ("/$a", "$a")),
    ],
)
def test_a_path_is_its_last_name(path: str, name: str) -> None:
    assert redact_path(path) == name


@pytest.mark.parametrize(
    "text",
    [
        "org/name",
        "a",
        "",
        r"\frac{1}{2}",
        "and/or",
        "/",
        "~",
        "1/2",
        "// a",
        "a /b/c",
        "/a\nb",
        "hf:org/name",
        "~ /a",
        "x/$HOME/a",
    ],
)
def test_other_texts_are_no_paths(text: str) -> None:
    assert redact_path(text) == text


PRIVATE = [
    *("127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.1.1", "0.0.0.0", "172.16.0.1", "172.20.0.1", "172.31.9.9"),
    *("100.64.0.1", "100.70.0.1", "100.100.0.1", "100.119.0.1", "100.120.0.1", "100.127.0.1"),
    *("gpu.internal", "gpu.local", "a.lan", "a-b.corp", "x.y.intranet"),
]
PUBLIC = [
    *("128.0.0.1", "11.1.2.3", "192.169.0.1", "169.255.1.1", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1"),
    *("api.openai.com", "gpu.internals", "local.com", "1.10.0.0.1", "8.8.8.8"),
]


@pytest.mark.parametrize("host", [*PRIVATE, "localhost", "gpu7", "[::1]", "me:secret@gpu7", "GPU.Local"])
@pytest.mark.parametrize("end", ["", "/v1", ":8000", "?a=1", "#a"])
def test_the_url_of_a_private_server(host: str, end: str) -> None:
    for scheme in ("http", "HTTPS"):
        assert redact_url(f"{scheme}://{host}{end}") == redact(f"{scheme}://{host}{end}") == SERVER
        assert redact_hosts(f"see {scheme}://{host}{end}") == "see [server]"


@pytest.mark.parametrize("host", PUBLIC)
def test_the_url_of_a_public_server(host: str) -> None:
    url = f"https://{host}/v1"
    assert (redact_url(url), redact_hosts(f"see {url}, {host}")) == (url, f"see {url}, {host}")
    assert redact_url(f"see {URL}") == f"see {URL}", "a text is no URL"


@pytest.mark.parametrize("host", PRIVATE)
def test_the_name_of_a_private_host_in_a_text(host: str) -> None:
    assert redact_hosts(f"at {host}, {host}:80; ({host}).") == "at [server], [server]; ([server])."


@pytest.mark.parametrize("prefix", ["sk", "pk", "rk", "gsk", "xai", "hf", "nvapi", "fw", "csk", "r8", "tgp", "pplx"])
def test_what_looks_like_a_key_of_a_service(prefix: str) -> None:
    secrets = Secrets([])
    for key in (f"{prefix}-abc123", f"{prefix}_ABCDEF-x", f"{prefix}-ab…*.c"):
        assert secrets.redact(f"key {key} given") == "key [key] given"
    for text in (f"{prefix}-abc12 x", f"{prefix}abcdefgh", f"x{prefix}-abcdefgh"):
        assert secrets.redact(text) == text


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("AIzaabc-12", "[key]"),
        ("AIzaabc12", "AIzaabc12"),
        ("xAIzaabc-123", "xAIzaabc-123"),
        ("Bearer abc/+=", "Bearer [key]"),
        ("bearer a.b~c*-", "bearer [key]"),
        ("Bearer abc12", "Bearer abc12"),
        ("a bearer of news", "a bearer of news"),
    ],
)
def test_other_keys(text: str, redacted: str) -> None:
    assert Secrets([]).redact(text) == redacted


def test_secrets_are_added_in_their_words_from_six_characters_on() -> None:
    secrets = Secrets(["Token abcdef"])
    secrets.add(["EMPTY", "uvwxyz"])
    assert (
        secrets.redact_known("abcdef, ABCDEF, uvwxyz, EMPTY, Token, token abcdef")
        == "[key], [key], [key], EMPTY, Token, [key]"
    )
    assert repr(secrets) == f"Secrets({len(secrets.values)})"
    assert secrets.values == sorted(set(secrets.values), key=len, reverse=True) or len(secrets.values) > 1
    assert Secrets([]).redact_known("abcdef") == "abcdef"


def test_a_reply_keeps_short_secrets_which_may_be_words() -> None:
    secrets = Secrets(["password-of-me-1", "fifteen-letters"])
    text = "password-of-me-1 and fifteen-letters"
    assert secrets.redact(text) == "[key] and [key]"
    assert secrets.redact_reply(text) == "[key] and fifteen-letters"
    assert secrets.redact_reply("it is passwor") == "it is [key]", "cut at the end"
    assert secrets.redact_reply("it is passwo") == "it is [key]"
    assert secrets.redact_reply("it is passw") == "it is passw"
    assert secrets.redact_reply("passwor is a word") == "passwor is a word"
    assert secrets.redact("passwor. is a word") == "[key]. is a word"


def test_an_excerpt_has_the_length_after_its_redaction() -> None:
    secrets = Secrets(["abcdefgh"])
    assert [secrets.excerpt("x abcdefgh y", n) for n in (0, 3, 7, 9, 99)] == [
        "",
        "x [",
        "x [key]",
        "x [key] y",
        "x [key] y",
    ]


def test_a_truncated_text_loses_any_beginning_at_its_end() -> None:
    secrets = Secrets(["ababab", "xyzxyz"])
    cases = {"a": "", "1 ab": "1 ", "1 XY": "1 ", "ababab": "", "1 abab ": "1 abab ", "ababab b": "[key] b", "1 b": "1 b", "xyzxyz ababa": "[key] "}  # fmt: skip
    assert {text: secrets.redact_truncated(text) for text in cases} == cases
    assert Secrets([]).redact_truncated("a") == "a"
