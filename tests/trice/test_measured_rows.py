"""Whole rows of `evaluate` and `counterfactual` for a scripted model, and the parts that count them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from toolrlef_data import TASKS, EngineSpec, InputError, Reply, counterfactual, evaluate, make_questions, scripted
from toolrlef_data.columns import NEED
from toolrlef_data.engines.responses import build_response
from toolrlef_data.trice.evaluation.intervals import wilson
from toolrlef_data.trice.evaluation.outcomes import OUTCOMES, _needs, _outcome
from toolrlef_data.trice.need.counterfactual import (
    PLAIN,
    TOOL,
    ClassSettings,
    _class_columns,
    _figures,
    _plain_columns,
    _tool_columns,
)
from toolrlef_data.trice.offers import offer_tool

MATH = TASKS["math"]
ROWS = [{"id": name, "question": f"{name}: 6*7?", "answers": "42"} for name in ("right", "wrong", "lost", "unread")]
QUESTIONS = make_questions(ROWS, task="math", id="id", dataset="d")


def quiet(script: Any, **settings: Any) -> EngineSpec:
    return scripted(script, progress=False, max_failed=1.0, **settings)


def reply(request: Any) -> Reply:
    name = request.messages[-1].content.partition(":")[0]
    is_offered = request.messages[0].content == MATH.instruction
    plain = {"right": Reply("It is 42.", completion_tokens=5), "wrong": Reply("calculator(6*7)"), "lost": Reply(" "), "unread": Reply(r"\boxed{A}")}  # fmt: skip
    offered = {"right": Reply("calculator(6*7)", completion_tokens=7), "wrong": Reply("calculator(6*"), "lost": Reply(None, error="server"), "unread": Reply("It is 41.")}  # fmt: skip
    return (offered if is_offered else plain)[name]


def outcome(text: str | None, correct: bool | None, **changes: Any) -> dict[str, Any]:
    empty = {"text": text, "error": None, "uses_tool": False, "tool_error": None, "correct": correct, "tokens": None}
    return {**empty, **changes}


def test_the_rows_of_an_evaluation() -> None:
    found = evaluate(quiet(reply), QUESTIONS)
    lost = outcome(None, None, error="empty", uses_tool=None)
    expected = [
        (False, outcome("It is 42.", True, tokens=5), outcome("calculator(6*7)", True, uses_tool=True, tokens=7)),
        (True, outcome("calculator(6*7)", False), outcome("calculator(6*", False, uses_tool=True, tool_error="incomplete_call")),
        (None, lost, outcome(None, None, error="server", uses_tool=None)),
        (None, outcome(r"\boxed{A}", None), outcome("It is 41.", False)),
    ]  # fmt: skip
    names = [row["id"] for row in ROWS]
    assert (found.name, found.kind, found.rows.features) == ("reply", "questions", OUTCOMES)
    assert found.rows.to_list() == [
        {"id": name, "task": "math", "dataset": "d", "needs_tool": needs, "plain": plain, "offered": offered}
        for name, (needs, plain, offered) in zip(names, expected, strict=True)
    ]
    without = evaluate(quiet(reply), QUESTIONS, tools=False).rows.to_list()
    assert without == [{**row, "offered": None} for row in found.rows]
    labelled = QUESTIONS.add_column("need", ["harmed", "needs_tool", "indifferent", "hopeless"])
    assert evaluate(quiet(reply), labelled, tools=False).rows["needs_tool"][:] == [False, True, False, None]
    known = QUESTIONS.add_column("needs_tool", [True, None, False, True])
    assert _needs(known) == {"right": True, "wrong": None, "lost": False, "unread": True}
    assert _needs(QUESTIONS) == {}


def test_an_outcome_keeps_six_fields() -> None:
    response = {**build_response(Reply("t", completion_tokens=3)), "tool": "x", "tool_error": "y", "correct": False}
    assert _outcome(response) == outcome("t", False, uses_tool=True, tool_error="y", tokens=3)
    assert _outcome({**response, "error": "z"})["uses_tool"] is None


def test_evaluations_that_are_refused(tmp_path: Path) -> None:
    def message(*args: Any, **options: Any) -> str:
        with pytest.raises(InputError) as refused:
            evaluate(quiet(reply), *args, **options)
        return str(refused.value)

    assert message(QUESTIONS, tools=1) == "tools must be True or False, found 1"
    assert message(DatasetDict(a=QUESTIONS)) == "evaluate: expected one split, found a DatasetDict"
    row = {
        "uuid": "a",
        "source": "s",
        "question": "q?",
        "correct_answer": "direct",
        "tools": [],
        "answers": {"direct": "d"},
    }
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    options: dict[str, Any]
    for options in ({"tools": False}, {"examples": 1}, {"task": MATH}):
        assert (
            message(benchmark=path, **options)
            == f"evaluate: tools, examples and task do not apply to the rows of {path}"
        )
    for options in ({"stop": ("\n",)}, {"protocol": "tools"}):
        assert message(benchmark=path, **options) == (
            "evaluate: multiple choice has no replies: leave out stop and protocol"
        )


# Need -----------------------------------------------------------------------------------------------------------------


def test_the_row_of_a_measurement() -> None:
    def samples(request: Any) -> Reply:
        if request.messages[0].content.startswith(MATH.instruction):
            return Reply("calculator(6*7) calculator(1)" if request.sample else "calculator(6*8)", completion_tokens=9)
        return Reply("It is 42." if request.sample else "It is 41.", completion_tokens=request.sample)

    table = QUESTIONS.select([0]).add_column("extra", [1])
    need = counterfactual(table, quiet(samples, temperature=1.0), samples=8)
    assert need.features == NEED
    low, high = wilson(7, 8)
    shared = {"id": "right", "task": "math", "dataset": "d", "need": "indifferent", "model": "samples"}
    plain = {
        "p_plain": 7 / 8,
        "p_plain_low": low,
        "p_plain_high": high,
        "n_plain": 8,
        "tokens_plain": 3.5,
        "calls_plain": 0.0,
    }
    tool = {
        "p_tool": 7 / 8,
        "p_tool_low": low,
        "p_tool_high": high,
        "n_tool": 8,
        "tokens_tool": 9.0,
        "calls_tool": 15 / 8,
    }
    assert need[0] == {**shared, **plain, **tool}


def test_the_figures_of_one_side() -> None:
    responses = [{"completion_tokens": n} for n in (3, None, 6)]
    assert _figures(responses, [True, None, False], [1, 2]) == [0.5, *wilson(1, 2), 2, 4.5, 1.5]
    assert _figures([{"completion_tokens": None}], [None], []) == [None, 0.0, 1.0, 0, None, None]
    assert TOOL == ["p_tool", "p_tool_low", "p_tool_high", "n_tool", "tokens_tool", "calls_tool"]
    lost = {**build_response(None), "error": "empty", "correct": None, "n_calls": None, "tool": None}
    forced = [
        {**lost, "error": None, "correct": True, "tool": "calculator", "n_calls": 2, "completion_tokens": 4},
        {**lost, "error": None, "correct": True, "tool": None, "n_calls": 0},
        lost,
    ]
    row = dict(zip("abc", forced, strict=True))
    assert _tool_columns(row, list("abc")) == dict(zip(TOOL, [1.0, *wilson(1, 1), 1, 4.0, 1.0], strict=True))
    texts = [
        {**build_response(Reply(text)), "finish_reason": "stop"}
        for text in ("It is 42.", "calculator(1) calculator(2)")
    ]
    plain = _plain_columns({"id": "a", "task": "math", "answers": ["42"], "question": "q", "context": "", "response": texts[0], "samples": [texts[1], lost]}, {"math": MATH})  # fmt: skip
    assert plain == dict(zip(PLAIN, [0.5, *wilson(1, 2), 2, None, 1.0], strict=True))
    for sides, name in (
        ((0.0, 8, 1.0, 8), "needs_tool"),
        ((None, 0, 1.0, 8), "unsure"),
        ((0.875, 8, 0.125, 8), "harmed"),
    ):
        values = dict(zip(("p_plain", "n_plain", "p_tool", "n_tool"), sides, strict=True))
        assert _class_columns(values, ClassSettings("m", 0.5)) == {"need": name, "model": "m"}
    edge = {"p_plain": 0.25, "n_plain": 20, "p_tool": 0.75, "n_tool": 20}
    assert [_class_columns(edge, ClassSettings("m", value))["need"] for value in (0.5, 0.4, 0.1, 0.9)] == [
        "needs_tool", "unsure", "indifferent", "hopeless"
    ]  # fmt: skip


def test_questions_with_the_tool_offered() -> None:
    table = offer_tool(QUESTIONS.add_column("mine", [1] * 4), {"math": MATH})
    assert table[0] == {
        "id": "right", "task": "math", "dataset": "d", "answers": ["42"], "instruction": MATH.instruction, "output": "",
        "input": "right: 6*7?", "uses_tool": None, "source": None, "verified_by": None,
    }  # fmt: skip
    assert isinstance(table, Dataset)
