"""Validation rules: settings from Python and from recipes produce the same errors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest

from toolrlef_data.engines.spec import EngineSpec, Limits
from toolrlef_data.records import InputError
from toolrlef_data.tables.fingerprint import canonical

SPECS = pydantic.TypeAdapter(EngineSpec)

INVALID_SETTINGS: list[tuple[str, Any, str]] = [
    ("model", " ", "model must be a name, found ' '"),
    ("temperature", -0.5, "temperature must be a number of at least 0, found -0.5"),
    ("temperature", math.nan, "temperature must be a number of at least 0, found nan"),
    ("temperature", math.inf, "temperature must be a number of at least 0, found inf"),
    ("top_p", 0.0, "top_p must be a number above 0, up to 1, found 0.0"),
    ("top_p", 1.5, "top_p must be a number above 0, up to 1, found 1.5"),
    ("top_k", -1, "top_k must be an integer of at least 0, found -1"),
    ("num_beams", 0, "num_beams must be an integer of at least 1, found 0"),
    ("repetition_penalty", 0.0, "repetition_penalty must be a number above 0, found 0.0"),
    ("max_tokens", 0, "max_tokens must be an integer of at least 1, found 0"),
    ("stop", ("\n", ""), "stop must be texts that are not empty, found ('\\n', '')"),
    ("dtype", "int8", "dtype must be one of auto, float32, bfloat16, float16, found 'int8'"),
    ("batch_tokens", 0, "batch_tokens must be an integer of at least 1, found 0"),
    ("concurrency", 0, "concurrency must be an integer of at least 1, found 0"),
    ("timeout", 0.0, "timeout must be a number of seconds above 0, found 0.0"),
    ("retries", -1, "retries must be an integer of at least 0, found -1"),
    ("max_failed", 1.5, "max_failed must be a share from 0 to 1, found 1.5"),
    ("options", "n=1", "options must be a mapping or (name, value) pairs, found str"),
    ("options", [1], "options must be a mapping or (name, value) pairs, found list"),
    ("options", {1: 2}, "options must be a mapping or (name, value) pairs, found dict"),
    ("keys", "sk-1", "keys must be names of environment variables (CAPITALS) or file:PATH, never an API key itself"),
    (
        "base_url",
        "host:80",
        'base_url must be a URL such as "http://localhost:8000/v1", or "$NAME", where NAME is an environment variable',
    ),
]


@pytest.mark.parametrize(("name", "value", "message"), INVALID_SETTINGS)
def test_error_message_is_the_same_in_python_and_in_a_recipe(name: str, value: Any, message: str) -> None:
    settings = {"kind": "local", "model": "m", name: value}
    with pytest.raises(InputError) as caught:
        EngineSpec(**settings)
    assert str(caught.value) == message
    with pytest.raises(pydantic.ValidationError) as pydantic_error:
        SPECS.validate_python(settings)
    (error,) = pydantic_error.value.errors()
    assert f"{error['loc'][0]} {error['ctx']['error']}" == message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "locl"}, "unknown engine kind 'locl'; choose from: local, openai_api, scripted"),
        ({"kind": "local", "device": "gpu"}, "unknown device 'gpu'; choose from: auto, cpu, cuda, cuda:0, mps, xpu"),
        ({"kind": "local", "num_beams": 2, "temperature": 1}, "beam search does not support sampling"),
        ({"kind": "openai_api", "num_beams": 2}, "num_beams is not supported by the openai_api engine"),
        (
            {"kind": "openai_api", "options": {"extra": {}}},
            "openai_api options: expected extra_body, quirks, n; found extra",
        ),
    ],
)
def test_a_spec_knows_what_its_kind_supports(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        EngineSpec(**{"model": "m", **settings})
    assert str(caught.value).startswith(message)
    with pytest.raises(pydantic.ValidationError, match=message.split(";")[0]):
        SPECS.validate_python({"model": "m", **settings})


@pytest.mark.parametrize(
    ("name", "value"),
    [("concurrency", 2.5), ("concurrency", "4"), ("max_tokens", True), ("seed", "1"), ("stop", 3), ("timeout", True), ("timeout", None), ("temperature", "1"), ("limits", 5)],
)  # fmt: skip
def test_wrong_type_is_rejected_in_python(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} must be"):
        EngineSpec("local", "m", **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rpm", 0, "limits: rpm must be a number above 0, found 0"),
        ("poll", -1, "limits: poll must be a number of seconds above 0, found -1"),
        ("max_cost", -1, "limits: max_cost must be a number of at least 0, found -1"),
        ("mode", "fast", "limits: mode must be 'direct' or 'batch', found 'fast'"),
        ("price", (1,), "limits: price must be two numbers: the price of a million prompt tokens"),
    ],
)
def test_limits_errors_start_with_limits(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Limits(**{name: value})
    assert str(caught.value).startswith(message)


def test_values_are_not_converted() -> None:
    """1 and 1.0 have different reply keys, so only recipes convert numbers."""
    values: dict[str, Any] = {
        "temperature": 1,
        "top_p": 1,
        "timeout": math.inf,
        "stop": ["a"],
        "max_tokens": np.int64(3),
    }
    spec = EngineSpec("local", "m", **values)
    assert {name: repr(getattr(spec, name)) for name in values} == {name: repr(value) for name, value in values.items()}
    read = SPECS.validate_python({"kind": "local", "model": "m", "temperature": 1, "stop": ["a"], "timeout": math.inf})
    assert (repr(read.temperature), read.timeout, read.stop) == ("1.0", math.inf, ("a",))


def test_the_folders_of_a_model_and_its_adapter_are_not_in_the_cache_key(tmp_path: Path) -> None:
    """`Engine.identity` has the digests of their contents."""
    specs = [EngineSpec("local", str(tmp_path / n / "m"), adapter=str(tmp_path / n / "lora")) for n in ("a", "b")]
    assert canonical(specs[0]) == canonical(specs[1])
    others = [EngineSpec("local", "org/m", adapter=name) for name in ("org/lora", "other/lora")]
    assert canonical(others[0]) != canonical(others[1])


def test_equivalent_values_are_normalised() -> None:
    values: dict[str, Any] = {"stop": "a", "keys": "A", "options": {"b": 1, "a": 2}}
    spec = EngineSpec("local", "m", **values)
    assert (spec.stop, spec.keys, spec.options) == (("a",), ("A",), (("a", 2), ("b", 1)))
    assert EngineSpec("local", "m", options=[("b", 1), ("a", 2)]).options == (("b", 1), ("a", 2))
