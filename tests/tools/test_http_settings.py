"""The settings of a tool's server: addresses, headers, timeout and retries, with the whole message of each error."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from toolrlef_data import InputError
from toolrlef_data.tools.http import check_headers, check_retry_settings, check_url, run_coroutine, server_at

INVALID_URL = "the server's URL is not a valid http or https URL (omitted: it may contain credentials)"
VARIABLE = 'the server: expected a URL or "$NAME", where NAME is an environment variable in capitals'
NAMES = "accept-encoding, connection, content-length, content-type, host, transfer-encoding"
BY_NAME = 'the server: expected headers as name -> "$NAME", where the environment variable NAME, in capitals, contains'
BY_NAME += " the value"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (5, "the server: expected a URL, found int"),
        (None, "the server: expected a URL, found NoneType"),
        ("$lower", VARIABLE),
        ("$", VARIABLE),
        ("x", INVALID_URL),
        ("ftp://host", INVALID_URL),
        ("http:///x", INVALID_URL),
        ("$SEARCH_URL", None),
        ("http://host/x", None),
    ],
)
def test_addresses(url: Any, message: str | None) -> None:
    if message is None:
        check_url(url, "the server")
        return
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        check_url(url, "the server")


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"b": "$KEY", "A": "$OTHER"}, (("A", "$OTHER"), ("b", "$KEY"))),
        ({}, ()),
        ({"A": "x"}, BY_NAME),
        ({"A": "$KEY", "b": "$key"}, BY_NAME),
        (5, "the server: headers must map names of headers to values"),
        ({"Host": "$KEY"}, f"the server: headers must have unique, valid names, none of {NAMES}"),
        ({"a": "$KEY", "A": "$KEY"}, f"the server: headers must have unique, valid names, none of {NAMES}"),
    ],
)
def test_headers(headers: Any, found: str | tuple[tuple[str, str], ...]) -> None:
    if isinstance(found, tuple):
        assert check_headers(headers, "the server") == found
        return
    with pytest.raises(InputError, match=f"^{re.escape(found)}$"):
        check_headers(headers, "the server")


@pytest.mark.parametrize("retries", [-1, 1.0, "1", None])
def test_retries_that_are_refused(retries: Any) -> None:
    with pytest.raises(InputError, match=f"^retries must be a whole number of at least 0, found {retries!r}$"):
        check_retry_settings(1, retries)


@pytest.mark.parametrize("timeout", [0, -1, True, "1", float("inf"), float("nan"), None])
def test_timeouts_that_are_refused(timeout: Any) -> None:
    with pytest.raises(InputError, match=f"^timeout must be a number of seconds above 0, found {timeout!r}$"):
        check_retry_settings(timeout, 0)


def test_the_least_settings_are_accepted() -> None:
    check_retry_settings(1e-3, 0)
    check_retry_settings(5, 1)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("http://localhost:1", ("http://localhost:1", {}, {})),
        ("http://localhost:1/x", ("http://localhost:1/x", {}, {})),
        (" http://localhost:1/x/ ", ("http://localhost:1/x/", {}, {})),  # servers distinguish /x and /x/
        ("http://localhost:1/x/?k=v&n=2", ("http://localhost:1/x/", {"k": "v", "n": "2"}, {})),
        ("http://u:pw@localhost:1/x", ("http://localhost:1/x", {}, {"Authorization": "Basic dTpwdw=="})),
    ],
)
def test_the_server_at_an_address(url: str, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", url)
    for address in (url, "$HERE"):
        at = server_at(address, "the server")
        assert (at.url, dict(at.query), dict(at.headers), at.proxy) == (*server, None)
    monkeypatch.setenv("TOKEN", "secretword")
    authorised = server_at(url, "the server", {"Authorization": "$TOKEN"})
    assert dict(authorised.headers) == {"Authorization": "secretword"}
    assert authorised.secrets.redact("with secretword") != "with secretword"


def test_a_coroutine_runs_with_and_without_a_running_loop() -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    async def inside() -> int:
        return run_coroutine(lambda: double(21))

    assert run_coroutine(lambda: double(4)) == 8
    assert asyncio.run(inside()) == 42
