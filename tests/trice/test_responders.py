"""Responders, teachers and students: wrong settings are errors before a model is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
from datasets import Dataset

from toolrlef_data import (
    ANNOTATIONS,
    TASKS,
    EngineSpec,
    InputError,
    Responder,
    answer,
    grade,
    load_source,
    scripted,
    warm_up,
)
from toolrlef_data.engines.spec import Request
from toolrlef_data.tables.lineage import lineage
from toolrlef_data.trice.responders import respond
from toolrlef_data.trice.stage1 import build_stage1
from toolrlef_data.trice.teachers import propose_calls

ANY = partial(cast, Any)  # for values that a type checker refuses
LOCAL = EngineSpec("local", "no/model")
MODEL = scripted({"": "It is 8."}, progress=False)


def graded() -> Any:
    return grade(answer(load_source("sample", split="train").select(range(1)), MODEL))


CLONED = Dataset.from_list([{"instruction": "Add.", "input": "1+1", "output": "2"}])
WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: Responder("a", "gpt"), "'a' needs a model: expected an EngineSpec, found str"),  # type: ignore[arg-type]
    (lambda: Responder("a", MODEL, samples=0), "samples must be an integer of at least 1, found 0"),
    (
        lambda: Responder("a", MODEL, samples=2),
        "samples=2 of 'mapping' would all be the same: set a temperature above 0",
    ),
    (lambda: Responder("a", MODEL, examples=-1), "examples must be an integer of at least 0, found -1"),
    (lambda: Responder("a", MODEL, stop=("\n", "")), r"stop: expected texts, found \('\\n', ''\)"),
    (lambda: Responder("a", MODEL, style="poem"), "unknown prompt style 'poem'; choose from"),
    (lambda: Responder("a", MODEL, protocol="x"), "unknown protocol 'x'; choose from: text, tools"),
    (
        lambda: answer(load_source("sample", split="train"), MODEL, examples=-1),
        "examples must be an integer of at least 0, found -1",
    ),
    (lambda: answer(load_source("sample", split="train"), MODEL, style="poem"), "unknown prompt style 'poem'"),
    (lambda: propose_calls(graded(), MODEL, attempts=0), "attempts must be an integer of at least 1, found 0"),
    (lambda: build_stage1(graded(), ANNOTATIONS, attempts=0), "attempts must be an integer of at least 1, found 0"),
    (lambda: build_stage1(graded(), MODEL, attempts=ANY("3")), "attempts must be an integer of at least 1, found '3'"),
    (lambda: build_stage1(graded(), ANY(None)), "teacher: expected ANNOTATIONS or an EngineSpec, found NoneType"),
    (lambda: grade(graded(), threshold=ANY("half")), "threshold must be a number above 0, up to 1, found 'half'"),
    (lambda: Responder(ANY(3), MODEL), "3 cannot be the name of a responder"),
    (lambda: Responder("a", MODEL, stop=ANY(3)), "stop: expected texts, found 3"),
    (lambda: Responder("a", MODEL, examples=ANY("4")), "examples must be an integer of at least 0, found '4'"),
    (lambda: warm_up(CLONED, LOCAL, style="poem"), "unknown prompt style 'poem'"),
    (lambda: warm_up(CLONED, LOCAL, steps=0), "steps must be an integer of at least 1, found 0"),
    (lambda: warm_up(CLONED, LOCAL, batch_size=0), "batch_size must be an integer of at least 1, found 0"),
    (lambda: warm_up(CLONED, LOCAL, learning_rate=-1), "learning_rate must be a number above 0, found -1"),
    (lambda: warm_up(CLONED, LOCAL, seed=ANY("x")), "seed must be an integer of at least 0, found 'x'"),
    (
        lambda: replace(TASKS["qa"], reader=ANY("gpt")),
        "the task 'qa': reader must be an EngineSpec or None, found 'gpt'",
    ),
    (lambda: replace(TASKS["qa"], reader_style="poem"), "unknown prompt style 'poem'"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_wrong_settings_are_errors_before_a_model_is_asked(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_all_teachers_are_checked_before_the_first_is_asked() -> None:
    def ask(request: Request) -> str:
        raise AssertionError("a model was asked")

    with pytest.raises(InputError, match="teacher: expected ANNOTATIONS or an EngineSpec, found str"):
        build_stage1(graded(), [scripted(ask), ANY("gpt")])


def test_one_stop_string_is_not_read_as_its_characters() -> None:
    assert Responder("a", MODEL, stop="\n\n").stop == ("\n\n",)  # type: ignore[arg-type]


def test_the_stop_strings_of_engine_and_responder_end_a_response() -> None:
    responder = Responder("a", replace(MODEL, stop=("Question:",)), stop=("\n\n",))
    graded_rows = graded()
    responded = respond(build_stage1(graded_rows, ANNOTATIONS), [responder])
    (spec,) = [r["settings"]["spec"] for r in lineage(responded) if r["step"] == "respond: a"]
    assert spec["stop"] == ["Question:", "\n\n"]
