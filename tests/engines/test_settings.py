"""Engine settings: defaults, the boundary of each rule, headers and secrets, and what is published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolrlef_data.engines.local.batching import TokenisedPrompt
from toolrlef_data.engines.local.loading import LoadedModel
from toolrlef_data.engines.local.scoring.engine import ScoringEngines
from toolrlef_data.engines.local.scoring.layouts import TokenisedRow
from toolrlef_data.engines.local.scoring.requests import ScoringRequest
from toolrlef_data.engines.local.weights import Weights
from toolrlef_data.engines.model_stage import ModelStage, Row
from toolrlef_data.engines.prompts import check_prompt, continuation
from toolrlef_data.engines.rules import FLAG, FUNCTION, FUNCTION_OR_NONE, NAME, TEXT, integer_from, is_number, must_be
from toolrlef_data.engines.settings import (
    RESERVED_HEADERS,
    SECRET_HEADER,
    SECRET_NAMES,
    header_pairs,
    is_variable,
    names_secret,
    split_url,
)
from toolrlef_data.engines.spec import EngineSpec, Limits, Message, Request
from toolrlef_data.records import InputError, Reply, UnknownName

# Defaults -------------------------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_documentation() -> None:
    assert {field.name: field.default for field in fields(Limits)} == {
        "rpm": None,
        "tpm": None,
        "deadline": 1800.0,
        "backoff": 0.5,
        "max_requests": None,
        "max_tokens_total": None,
        "max_cost": None,
        "price": None,
        "mode": "direct",
        "batch_rows": 50_000,
        "poll": 30.0,
    }
    spec = EngineSpec("scripted", "m")
    assert {field.name: getattr(spec, field.name) for field in fields(EngineSpec)} == {
        "kind": "scripted",
        "model": "m",
        "base_url": None,
        "keys": (),
        "revision": None,
        "adapter": None,
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": 0,
        "num_beams": 1,
        "repetition_penalty": 1.0,
        "max_tokens": 128,
        "stop": (),
        "seed": 0,
        "dtype": "auto",
        "options": (),
        "device": "auto",
        "batch_tokens": 16384,
        "concurrency": 64,
        "timeout": 120.0,
        "retries": 5,
        "limits": Limits(),
        "max_failed": 0.2,
        "progress": True,
        "headers": (),
    }
    message = Message("user", "a")
    assert (message.tool_calls, message.tool_call_id, message.name) == ((), "", "")


def _render(row: Row, settings: Any) -> None:
    """Skip the row."""


def _finish(row: Row, replies: Sequence[Reply], settings: Any) -> dict[str, Any]:
    return {}


def test_settings_and_requests_are_values() -> None:
    """They are hashed by value, and a change would leave a stage under the key of the old settings."""
    values: list[tuple[Any, str]] = [
        (Limits(), "rpm"), (EngineSpec("scripted", "m"), "seed"), (Message("user", "a"), "name"), (Request(), "seed"),
        (ModelStage(_render, _finish, None, EngineSpec("scripted", "m"), [], {}, "test"), "samples"),
        (ScoringRequest(), "end"), (ScoringEngines(), "devices"), (TokenisedRow((1,), ()), "prompt"),
        (TokenisedPrompt("a", (1,), ""), "seed"), (Weights("hub", "m"), "commit"), (LoadedModel(1, 2, "cpu"), "device"),
    ]  # fmt: skip
    for value, name in values:
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, 5)
    assert len({EngineSpec("scripted", "m"), EngineSpec("scripted", "m"), EngineSpec("scripted", "n")}) == 2


# Rules ----------------------------------------------------------------------------------------------------------------

# Setting -> values that are accepted, and values that are refused, on both sides of each boundary.
VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "model": (["m"], ["", " ", None, 5]),
    "temperature": ([0, 2.0, np.float64(0.5)], [-0.1, math.inf, math.nan, True, None]),
    "top_p": ([1e-9, 1, 1.0], [0, 1.0001, -1, True]),
    "top_k": ([0, 1, np.int64(7)], [-1, 1.0, True]),
    "num_beams": ([1, 2], [0, 1.5, True]),
    "repetition_penalty": ([1e-9, 3], [0, -1, math.inf]),
    "max_tokens": ([1], [0, None]),
    "stop": (["a", ("a", "b"), ["a"], ()], ["", ("",), 5, ("a", 5), {"a"}]),
    "seed": ([0, -1, 2**70], [True, 1.0, None]),
    "dtype": (["auto", "float32", "bfloat16", "float16"], ["float64", "", None]),
    "batch_tokens": ([1], [0]),
    "concurrency": ([1], [0]),
    "timeout": ([1e-9, math.inf, 5], [0, -1, math.nan, None]),
    "retries": ([0], [-1, 0.5]),
    "max_failed": ([0, 1, 0.5], [-0.01, 1.01, math.nan]),
    "progress": ([True, False], [None, 1, "yes"]),
    "limits": ([Limits(rpm=1)], [None, {}, Limits]),
}
LIMITS: dict[str, tuple[list[Any], list[Any]]] = {
    "rpm": ([None, 0.5, math.inf], [0, -1, math.nan, True]),
    "tpm": ([None, 0.5, math.inf], [0, -1, math.nan, "1"]),
    "deadline": ([1e-9, math.inf], [0, None]),
    "backoff": ([1e-9, math.inf], [0, None]),
    "max_requests": ([None, 0, 5], [-1, math.inf]),
    "max_tokens_total": ([None, 0, 5], [-1, math.inf]),
    "price": ([None, (0, 0), [0.1, 2]], [(1,), (1, 2, 3), (-1, 1), (1, -1), (1, math.inf), "12", 5]),
    "mode": (["direct", "batch"], ["Batch", "", None]),
    "batch_rows": ([1], [0, None]),
    "poll": ([1e-9, math.inf], [0]),
}


@pytest.mark.parametrize("name", VALUES)
def test_each_setting_accepts_its_range_and_nothing_beside_it(name: str) -> None:
    accepted, refused = VALUES[name]
    for value in accepted:
        assert getattr(EngineSpec("local", **{"model": "m", name: value}), name) in (value, (value,))
    for value in refused:
        with pytest.raises(InputError, match=rf"^{name} must be "):
            EngineSpec("local", **{"model": "m", name: value})


@pytest.mark.parametrize("name", LIMITS)
def test_each_limit_accepts_its_range_and_nothing_beside_it(name: str) -> None:
    accepted, refused = LIMITS[name]
    for value in accepted:
        assert getattr(Limits(**{name: value}), name) == value
    for value in refused:
        with pytest.raises(InputError, match=rf"^limits: {name} must be "):
            Limits(**{name: value})


def test_a_cap_on_the_cost_needs_a_price() -> None:
    assert Limits(max_cost=0, price=(1, 1)).max_cost == 0
    with pytest.raises(InputError) as caught:
        Limits(max_cost=0)
    assert str(caught.value) == (
        "limits: max_cost needs price=(per million prompt tokens, per million completion tokens)"
    )


def test_rules_of_single_values() -> None:
    long = "x" * 200
    with pytest.raises(InputError) as caught:
        must_be("short", lambda value: len(value) < 9).check("name", long)
    assert str(caught.value) == f"name must be short, found {repr(long)[:80]}"
    assert caught.value.__cause__ is None
    assert integer_from(2).check("n", 2) == 2
    accepted = [(NAME, " a "), (TEXT, ""), (FLAG, False), (FUNCTION, len), (FUNCTION_OR_NONE, None)]
    for rule, value in [*accepted, (FUNCTION_OR_NONE, len)]:
        assert rule.check("name", value) == value
    for rule, value in ((NAME, " "), (NAME, "\ud800"), (TEXT, 5), (FLAG, 0), (FUNCTION, None), (FUNCTION_OR_NONE, 5)):
        with pytest.raises(InputError, match=r"^name must be "):
            rule.check("name", value)
    numbers = [0, -1.5, np.float32(2), math.nan, math.inf, -math.inf, True, "1", 1j, None]
    assert [is_number(number) for number in numbers] == [True] * 3 + [False] * 7
    assert [is_number(number, math.inf) for number in numbers[3:6]] == [False, True, False]


def test_few_shot_examples_are_a_natural_number_or_the_default_of_the_task() -> None:
    for number in (None, 0, 4):
        check_prompt("chat", number)
    with pytest.raises(InputError, match="examples must be an integer of at least 0, found -1"):
        check_prompt("chat", -1)
    with pytest.raises(
        UnknownName, match="unknown prompt style 'chatty'; choose from: alpaca, chat, completion, vicuna"
    ):
        check_prompt("chatty")
    assert [continuation(prompt, " 8 ") for prompt in ("Answer:", "Answer: ", "Answer:\n", "")] == [
        " 8",
        "8",
        "8",
        " 8",
    ]


# Headers --------------------------------------------------------------------------------------------------------------


def test_headers_are_sorted_pairs_with_valid_unique_names() -> None:
    assert (
        header_pairs({"X-B": "2", "X-A": ""})
        == header_pairs([["X-B", "2"], ("X-A", "")])
        == [("X-A", ""), ("X-B", "2")]
    )
    assert header_pairs(()) == []
    refused = "must have unique, valid names, none of " + ", ".join(sorted(RESERVED_HEADERS))
    unfit: list[Any] = [{"": "x"}, {"a b": "x"}, {"a:": "x"}, {"é": "x"}, [("X", "1"), ("x", "2")]]
    for name in ("Accept-Encoding", "CONNECTION", "content-length", "Content-Type", "Host", "transfer-encoding"):
        unfit.append({name: "x"})
    for headers in unfit:
        with pytest.raises(InputError) as caught:
            header_pairs(headers)
        assert str(caught.value) == refused
    malformed: list[Any] = ["X", None, {"X": 5}, {5: "X"}, [("X",)], [("X", "1", "2")], [5], {"X"}]
    for headers in malformed:
        with pytest.raises(InputError, match=r"^must map names of headers to values$"):
            header_pairs(headers)


SECRET_HEADERS = [
    "X-Auth",
    "my-KEY",
    "Tokens",
    "secrets",
    "X-Passwd",
    "credential",
    "Cookie",
    "session-id",
    "X-Signature",
]


def test_the_value_of_a_secret_header_is_a_variable() -> None:
    assert [bool(SECRET_HEADER.search(name)) for name in SECRET_HEADERS] == [True] * 9
    assert not SECRET_HEADER.search("X-Team")
    for name in SECRET_HEADERS:
        assert EngineSpec("openai_api", "m", headers={name: "$A_1"}).headers == ((name, "$A_1"),)
        with pytest.raises(InputError) as caught:
            EngineSpec("openai_api", "m", headers={name: "value"})
        assert str(caught.value) == (
            f'headers must not contain the value of {name}: put it into an environment variable and pass {name}="$NAME"'
        )
    assert EngineSpec("openai_api", "m", headers={"X-Team": "blue"}).headers == (("X-Team", "blue"),)
    assert EngineSpec("openai_api", "m", headers={"authorization": "$A"}).keys == ()
    with pytest.raises(InputError, match="keys and the header Authorization exclude each other"):
        EngineSpec("openai_api", "m", keys="A", headers={"AUTHORIZATION": "$A"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A", True),
        ("$_A9", True),
        ("A", False),
        ("$", False),
        ("$a", False),
        ("$9", False),
        ("$A ", False),
        ("", False),
    ],
)
def test_a_variable_is_a_dollar_and_a_name_in_capitals(text: str, expected: bool) -> None:
    assert is_variable(text) is expected


def test_names_of_secrets() -> None:
    assert {"apikey", "token", "accesstoken", "authorization", "password", "secret"} == SECRET_NAMES
    assert [names_secret(name) for name in ("API_key", "access-token", "TOKEN", "token_ids", "")] == [True] * 3 + [
        False
    ] * 2
    script = EngineSpec("scripted", "m", options=(("replies", (("token", "8"),)),))
    assert script.options[0][0] == "replies", "the words of a script are no settings"
    with pytest.raises(InputError) as caught:
        EngineSpec("local", "m", options={"deep": [{"Api-Key": "value"}]})
    assert str(caught.value) == (
        "options must not contain the value of Api-Key, which would be saved: put it into an environment variable and "
        'pass Api-Key="$NAME"'
    )


@pytest.mark.parametrize("part", ["user@", "user:word@", ":word@"])
@pytest.mark.parametrize("end", ["", "?a=b", "#a"])
def test_a_url_with_a_login_a_query_or_a_fragment_is_refused(part: str, end: str) -> None:
    url = f"http://{part}host:80/v1{end}"
    with pytest.raises(InputError) as caught:
        split_url(url)
    assert str(caught.value) == (
        "carries credentials or a query, which would be saved with the settings: put the URL into an environment "
        'variable and pass "$NAME"'
    )
    for own in ("?a=b", "#a"):
        with pytest.raises(InputError, match="carries credentials or a query"):
            split_url(f"http://host/v1{own}")
    assert split_url("http://host:80/v1").netloc == "host:80"
    assert tuple(split_url("http://[host/v1")) == ("", "", "", "", "")


def test_the_server_is_an_http_url_or_a_variable() -> None:
    for url in (None, "http://h", "https://h:8/v1/", "$A"):
        assert EngineSpec("openai_api", "m", base_url=url).base_url == url
    for refused in ("ftp://h", "h:8", "http://", "//h", "", 5):
        with pytest.raises(
            InputError, match=r'^base_url must be a URL such as "http://localhost:8000/v1", or "\$NAME"'
        ):
            EngineSpec("openai_api", "m", base_url=refused)  # type: ignore[arg-type]


def test_key_sources_are_variables_or_files() -> None:
    for keys in ("A", ("A", "file:x"), ["B_2"], ()):
        expected = (keys,) if isinstance(keys, str) else tuple(keys)
        assert EngineSpec("openai_api", "m", keys=keys).keys == expected  # type: ignore[arg-type]
    for refused in ("a", "A b", ("A", 5), 5, None, {"A": 1}):
        with pytest.raises(InputError, match=r"^keys must be names of environment variables \(CAPITALS\) or file:PATH"):
            EngineSpec("openai_api", "m", keys=refused)  # type: ignore[arg-type]


# What is shown and published ------------------------------------------------------------------------------------------


def test_paths_and_private_servers_are_not_published(tmp_path: Path) -> None:
    folder = str(tmp_path / "m")
    local = EngineSpec("local", folder, adapter=folder, stop=("a",), keys="A", headers={"X": "y"})
    facts = local.published()
    assert (facts["model"], facts["adapter"], facts["base_url"], facts["stop"]) == ("m", "m", None, ["a"])
    assert not {"keys", "headers", "device", "limits", "timeout"} & set(facts)
    assert local.in_key() == {"model": "m", "adapter": "m"}
    assert local.model_name == "m + m"
    for path, name in (("./a/m", "m"), ("~/m", "m"), ("a/m", "a/m"), ("C:\\a\\m", "m")):
        published = EngineSpec("local", path, adapter=path).published()
        assert (published["model"], published["adapter"]) == (name, name)
    hub = EngineSpec("local", "org/m")
    assert (hub.in_key(), hub.published()["model"], hub.published()["adapter"]) == ({}, "org/m", None)
    servers = {"http://10.0.0.7:8/v1": "a private server", "https://api.x.com/v1": "https://api.x.com/v1", "$A": "$A"}
    for url, shown in servers.items():
        assert EngineSpec("openai_api", "m", base_url=url).published()["base_url"] == shown
    private = EngineSpec("openai_api", "m", keys="MY_KEY"), EngineSpec("openai_api", "m", headers={"X-Own": "mine"})
    assert not [word for word in ("MY_KEY", "X-Own", "mine") if word in repr(private)]
