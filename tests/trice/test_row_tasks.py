"""The tasks of a table, and the warning of grades that an earlier version of a grader made."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from toolrlef_data import (
    ANNOTATIONS,
    TASKS,
    Responder,
    answer,
    build_stage1,
    build_stage2,
    execute,
    grade,
    lineage,
    load_source,
    make_questions,
    publish,
    respond,
    score,
    scripted,
)
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.tables.stage_cache import write_record
from toolrlef_data.tasks.math import MATH


def quiet(text: str) -> EngineSpec:
    return scripted({"": text}, progress=False)


def graded() -> Dataset:
    return grade(answer(load_source("sample", split="train").select(range(2)), quiet("It is 0.")))


def age(table: Dataset, step: str, code: str | None) -> None:
    """Let the last record of a stage name other code, or none, as the records of earlier versions."""
    record = [record for record in lineage(table) if record["step"] == step][-1]
    for settings in record["published"]["tasks"].values():
        settings.pop("grader_code")
        settings.update({} if code is None else {"grader_code": code})
    write_record(record["fingerprint"], record)


def warnings_of(caplog: pytest.LogCaptureFixture, run: Callable[[], Any]) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        run()
    return [record.getMessage() for record in caplog.records if "earlier version" in record.getMessage()]


@pytest.mark.parametrize("code", [None, "0" * 32])
def test_grades_of_an_earlier_version_of_the_grader_are_warned_of(
    code: str | None, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    table = graded()
    executed = execute(respond(build_stage1(table, ANNOTATIONS), [Responder("a", quiet("It is 1."))]))
    assert (
        warnings_of(caplog, lambda: (build_stage1(table, ANNOTATIONS), build_stage2(executed), score(executed))) == []
    )
    message = "the stage {!r} graded the task 'math' by an earlier version of its grader: run it again on its input"
    age(executed, "execute", code)
    assert warnings_of(caplog, lambda: score(executed)) == [message.format("execute")]
    assert warnings_of(caplog, lambda: score(pickle.loads(pickle.dumps(executed)))) == [message.format("execute")]
    assert warnings_of(caplog, lambda: build_stage2(executed)) == [], "it executes and grades the responses again"
    age(table, "graded", code)
    assert warnings_of(caplog, lambda: build_stage1(table, ANNOTATIONS)) == [message.format("graded")]
    assert warnings_of(caplog, lambda: build_stage2(executed)) == [message.format("graded")]
    tables = {"math": {"stage2": score(executed)}}
    assert warnings_of(caplog, lambda: publish(tables, tmp_path / "out", version="1.0.0")) == [
        message.format("execute"),
        message.format("graded"),
    ]


def test_a_grader_of_the_user_is_not_compared(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    task = replace(MATH, name="mine", grade=lambda prediction, answers: prediction in answers)
    questions = make_questions(load_source("sample", split="train"), task=task, id="id", rows=2)
    table = grade(answer(questions, quiet("It is 0.")))
    age(table, "graded", "0" * 32)
    assert warnings_of(caplog, lambda: publish({"math": {"graded": table}}, tmp_path / "out", version="1.0.0")) == []


def test_the_code_of_a_grader_does_not_depend_on_its_rule() -> None:
    for task in (TASKS[name] for name in TASKS):
        assert task.grader_code() == task.with_rule("paper").grader_code()
    assert TASKS["math"].grader_code() != TASKS["qa"].grader_code()
