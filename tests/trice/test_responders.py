"""Responders, teachers and students: wrong settings are errors before a model is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from toolrlef_data import ANNOTATIONS, EngineSpec, InputError, Responder, answer, load_source, scripted, warm_up
from toolrlef_data.tables.lineage import lineage
from toolrlef_data.trice.responders import respond
from toolrlef_data.trice.stage1 import build_stage1
from toolrlef_data.trice.teachers import propose_calls

MODEL = scripted({"": "It is 8."}, progress=False)


def graded() -> Any:
    from toolrlef_data import grade

    return grade(answer(load_source("sample", split="train").select(range(1)), MODEL))


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: Responder("a", "gpt"), "'a' needs a model: expected an EngineSpec, found str"),  # type: ignore[arg-type]
    (lambda: Responder("a", MODEL, samples=0), "samples must be at least 1, found 0"),
    (
        lambda: Responder("a", MODEL, samples=2),
        "samples=2 of 'mapping' would all be the same: set a temperature above 0",
    ),
    (lambda: Responder("a", MODEL, examples=-1), "examples must be at least 0, found -1"),
    (lambda: Responder("a", MODEL, stop=("\n", "")), r"stop: expected texts, found \('\\n', ''\)"),
    (lambda: Responder("a", MODEL, style="poem"), "unknown prompt style 'poem'; choose from"),
    (lambda: Responder("a", MODEL, protocol="x"), "unknown protocol 'x'; choose from: text, tools"),
    (lambda: answer(load_source("sample", split="train"), MODEL, examples=-1), "examples must be at least 0, found -1"),
    (lambda: answer(load_source("sample", split="train"), MODEL, style="poem"), "unknown prompt style 'poem'"),
    (lambda: propose_calls(graded(), MODEL, attempts=0), "attempts must be at least 1, found 0"),
    (lambda: build_stage1(graded(), ANNOTATIONS, attempts=0), "attempts must be at least 1, found 0"),
    (lambda: warm_up(graded(), EngineSpec("local", "no/model"), style="poem"), "unknown prompt style 'poem'"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_wrong_settings_are_errors_before_a_model_is_asked(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_one_stop_string_is_not_read_as_its_characters() -> None:
    assert Responder("a", MODEL, stop="\n\n").stop == ("\n\n",)  # type: ignore[arg-type]


def test_the_stop_strings_of_engine_and_responder_end_a_response() -> None:
    responder = Responder("a", replace(MODEL, stop=("Question:",)), stop=("\n\n",))
    graded_rows = graded()
    responded = respond(build_stage1(graded_rows, ANNOTATIONS), [responder])
    (spec,) = [r["settings"]["spec"] for r in lineage(responded) if r["step"] == "respond: a"]
    assert spec["stop"] == ["Question:", "\n\n"]
