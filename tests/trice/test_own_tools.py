"""Stage 1 and stage 2 with tools of Python functions: no row is lost to bad arguments, and a bug stops the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from datasets import Dataset

from toolrlef_data import (
    TASKS,
    EngineSpec,
    InputError,
    Reply,
    Responder,
    Task,
    Tool,
    ToolUnavailable,
    answer,
    build_stage1,
    build_stage2,
    environment,
    grade,
    ledger,
    make_questions,
    publish,
    respond,
    reward,
    scripted,
    to_trainer,
)

METRES = {"km": 1000.0, "m": 1.0}


def convert(value: float, source: Literal["km", "m"], target: Literal["km", "m"] = "m") -> float:
    """Converts a length.

    Args:
        value: The length.
        source: Its unit.
        target: The unit of the result.
    """
    if value < 0:
        raise ValueError("a length is not negative")
    if value == 13:
        return METRES["parsec"]  # the bug
    if value == 12 and Path("down").exists():
        raise ToolUnavailable("the server is restarting")
    return value * METRES[source] / METRES[target]


TASK = replace(
    TASKS["math"],
    name="lengths",
    tool=Tool.from_function(convert),
    instruction="Solve it; you may call convert(value, source).",
)


def quiet(script: Any, **settings: Any) -> EngineSpec:
    return scripted(script, progress=False, **settings)


def questions(*values: int, task: Task = TASK) -> Dataset:
    rows = [
        {"id": f"q{value}", "question": f"How many metres are {value} km?", "answers": 1000 * value} for value in values
    ]
    return make_questions(rows, task=task, id="id")


def stage1(*values: int, call: str = 'convert({}, "km")') -> Dataset:
    graded = grade(answer(questions(*values), quiet({"": "It is 1."})))
    calls = {f"How many metres are {value} km?": call.format(value) for value in values}
    return build_stage1(graded, quiet(calls))


def stage2(table: Dataset, *replies: Any, **settings: Any) -> Dataset:
    protocols = ["tools" if isinstance(reply, Reply) else "text" for reply in replies]
    responders = [
        Responder(f"r{i}", quiet({"": reply}), protocol=protocol)
        for i, (reply, protocol) in enumerate(zip(replies, protocols, strict=True))
    ]
    return build_stage2(respond(table, responders), **settings)


def test_bad_arguments_never_lose_a_row() -> None:
    native = Reply("", tool_calls=(("convert", '{"source": "km", "value": 3}'),))
    replies = ("convert(3, km)", "convert(3, parsec)", "convert(-3, km)", 'convert("3", "km")', "convert(3", native)
    (row,) = stage2(stage1(3), *replies)
    assert row["responses"][0] == 'convert(3, "km")', "the verified call of the teacher"
    assert row["tool_outputs"] == ["3000.0", "3000.0", None, None, None, None, "3000.0"]
    assert row["correct"] == [True, True, False, False, False, False, True]
    assert row["errors"][2:6] == ["wrong_arguments", "invalid_value", "wrong_arguments", "incomplete_call"]
    assert row["error_details"] == [
        *(None, None, """the parameter 'source' must be one of ["km", "m"]""", "a length is not negative"),
        *("the parameter 'value' must be number, found string", None, None),
    ]
    assert row["scores"] == [20, 20, 0, 0, 0, 0, 20]


def test_the_ledger_has_the_error_text_of_a_rejected_call() -> None:
    table = stage1(3, call="convert(-{}, km)")
    assert len(table) == 0
    (row,) = ledger([table])
    text = 'tool_error:invalid_value: convert(-3, "km") -> a length is not negative'
    assert row["detail"].split("; ") == [text] * 3


def test_a_bug_stops_the_run_at_calls_that_must_work_and_leaves_a_responder_out() -> None:
    with pytest.raises(KeyError, match="parsec"):
        stage1(13)
    table = stage1(3)
    dropped = stage2(table, "convert(13, km)", "convert(3, km)")
    assert len(dropped) == 0
    (why,) = ledger([dropped])
    assert (why["reason"], why["detail"]) == (
        "tool_fault:crashed",
        """{"r0": "tool_fault:crashed: KeyError: 'parsec'"}""",
    )
    (row,) = stage2(table, "convert(13, km)", "convert(3, km)", "It is 4.", lacking="drop_response")
    assert row["origin"] == ["gold", "r1", "r2"]
    gold = table.map(lambda row: {**row, "output": 'convert(13, "km")'})
    with pytest.raises(KeyError, match="parsec"):
        stage2(gold)


def test_a_tool_that_is_unavailable_is_asked_again_by_a_re_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = stage1(12, 3)
    Path("down").touch()
    first = stage2(table, "convert(3, km)")
    assert (first["id"][:], [row["reason"] for row in ledger([first])]) == (["q3"], ["tool_fault:unavailable"])
    Path("down").unlink()
    assert stage2(table, "convert(3, km)")["id"][:] == ["q12", "q3"]


def test_a_call_with_one_number_is_no_leak_but_one_with_the_answer_is() -> None:
    assert len(stage1(3)) == 1
    table = stage1(3, call="convert(3000, m)")
    assert [row["reason"] for row in ledger([table])] == ["leaks_answer"]


def molar(formula: str) -> Any:
    """Returns the molar mass of a substance.

    Args:
        formula: Its formula.
    """
    return {"H2O": 18.02, "NaCl": 58.44, "CO2": 44.01, "C2H6": 30.07}[formula]


def molar_stage1(task: Task) -> Dataset:
    rows = [
        {"question": f"What is the molar mass of {name}?", "answers": molar(name)}
        for name in ("H2O", "NaCl", "CO2", "C2H6")
    ]
    graded = grade(answer(make_questions(rows, task=task), quiet({"": "It is 1."})))
    return build_stage1(graded, quiet({row["answers"][0]: f"molar({name_of(row)})" for row in graded}))


def name_of(row: dict[str, Any]) -> str:
    return str(row["question"]).split()[-1].rstrip("?")


MOLAR = replace(TASKS["math"], name="molar", tool=Tool.from_function(molar), instruction="You may call molar(formula).")


def test_a_text_with_one_number_is_no_leak() -> None:
    table = molar_stage1(MOLAR)
    assert table["output"][:] == ["molar(H2O)", "molar(NaCl)", "molar(CO2)", "molar(C2H6)"]


def molar_text(formula: str) -> str:
    return f"{molar(formula)} g/mol"


def is_close(prediction: str | None, answers: Sequence[str]) -> bool | None:
    """A rule of a user, which reads the output of a tool and the prediction of a response."""
    if prediction is None:
        return False
    return abs(float(prediction.removesuffix(" g/mol")) - float(answers[0])) < 0.1


def test_an_output_with_a_unit_is_verified_and_an_own_rule_decides_of_outputs() -> None:
    with_unit = replace(MOLAR, tool=Tool("molar", "Returns a molar mass.", molar_text, parameter="formula"))
    for task in (with_unit, replace(with_unit, grade=is_close)):
        table = molar_stage1(task)
        assert table["source"][:] == ["teacher"] * 4
        (row, *_) = stage2(table, "molar(NaCl)", "It is 18.02.", "It is 3.")
        assert row["tool_outputs"][:2] == ["18.02 g/mol", "58.44 g/mol"]
        assert row["correct"] == [True, False, True, False]
    assert len(molar_stage1(replace(with_unit, grade=lambda prediction, answers: False))) == 0


@pytest.mark.parametrize(
    ("grader", "found"),
    [
        (lambda prediction, answers: "yes", "returned 'yes'"),
        (lambda prediction, answers: 0.9, "returned 0.9"),
        (lambda prediction, answers: 1 / 0, "failed with ZeroDivisionError: division by zero"),
        (lambda prediction: True, "failed with TypeError: "),
    ],
)
def test_an_error_of_a_grading_function_names_the_task_and_the_row(grader: Any, found: str) -> None:
    answered = answer(questions(3, task=replace(TASK, grade=grader)), quiet({"": "It is 7."}))
    with pytest.raises(InputError) as raised:
        grade(answered)
    for part in ("task 'lengths': the row 'q3': ", "('7', ['3000']) " + found, "; expected a function of"):
        assert part in str(raised.value)


def test_an_error_of_a_grading_function_at_an_output_names_the_row() -> None:
    def grader(prediction: str | None, answers: Sequence[str]) -> Any:
        return prediction != "7" and 1

    task = replace(TASK, grade=grader)
    graded = grade(answer(questions(3, task=task), quiet({"": "It is 7."})))
    with pytest.raises(InputError, match=r"the row 'q3': .*'3000.0'.* returned 1; "):
        build_stage1(graded, quiet({"": "convert(3, km)"}))


def test_the_grades_of_a_function_may_be_of_numpy() -> None:
    task = replace(TASK, grade=lambda prediction, answers: np.float64(prediction) == float(answers[0]))
    assert grade(answer(questions(3, task=task), quiet({"": "It is 3000."})))["correct"][:] == [True]


def test_the_environment_and_the_reward_take_several_arguments() -> None:
    lengths = environment(TASK)
    lengths.reset(prompt="How many metres are 3 km?", answers=["3000"])
    assert (lengths.convert(3, source="km"), lengths.get_reward()) == ("3000.0", 1.0)
    (right, wrong) = reward(TASK)(completions=["convert(3, km)", "convert(3, parsec)"], answers=[["3000"]] * 2)
    assert (right, wrong) == (1.0, 0.0)


def test_native_calls_are_exported_and_a_cassette_rebuilds_stage_2(tmp_path: Path) -> None:
    from datasets import load_dataset

    table = stage1(3)
    candidates = respond(table, [Responder("bad", quiet({"": "convert(-3, km)"}))], task=TASK)
    built = build_stage2(candidates, task=TASK)
    publish({"math": {"responded": candidates, "stage2": built}}, tmp_path / "out", version="1.0.0", cassette=True)
    (config,) = [path.name for path in (tmp_path / "out").iterdir() if path.name.endswith("cassette")]
    cassette = load_dataset(str(tmp_path / "out"), config, split="train", cache_dir=str(tmp_path / "cache"))
    assert build_stage2(candidates, task=TASK, cassette=cassette).to_list() == built.to_list()

    exported = to_trainer(table, "trl", task=TASK, calls="native")[0]
    (call,) = exported["completion"][-1]["tool_calls"]
    assert json.loads(json.dumps(call["function"]["arguments"])) == {"value": 3, "source": "km"}
    (tool,) = json.loads(exported["tools"]) if isinstance(exported["tools"], str) else exported["tools"]
    assert list(tool["function"]["parameters"]["properties"]) == ["value", "source", "target"]
