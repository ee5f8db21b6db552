"""Environments: the tool is a method with a schema, and a rollout is graded by its last call, once."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import pytest

from toolrlef_data import TASKS, TOOLS, InputError, Tool, ToolError, environment, reward
from toolrlef_data.publishing.rl.environments import Environment
from toolrlef_data.records import UnknownName

ROW: dict[str, Any] = {"prompt": [{"role": "user", "content": "3 * 4?"}], "answers": ["12"], "id": "r", "task": "math"}


def math() -> Environment:
    made = environment("math")
    assert made.reset(**ROW) is None
    return made


@pytest.mark.parametrize(
    ("formulas", "expected"),
    [
        (["3*4"], 1.0),
        (["3*5"], 0.0),
        (["3*5", "3*4"], 1.0),
        (["3*4", "3*5"], 0.0),
        (["3*4", "1/0"], 0.0),
        ([], None),
    ],
)
def test_the_last_call_is_graded(formulas: list[str], expected: float | None) -> None:
    made = math()
    for formula in formulas:
        if formula == "1/0":
            with pytest.raises(ToolError):
                made.calculator(formula)
        else:
            assert made.calculator(formula=formula) == TOOLS["calculator"].as_function()(formula)
    assert made.get_reward() == expected


def test_a_failure_of_the_tool_is_no_wrong_answer() -> None:
    def search(query: str) -> str:
        raise ToolError("timeout", "no reply")

    made = environment(replace(TASKS["math"], tool=Tool("Search", "Searches.", search, parameter="query")))
    made.reset(**ROW)
    with pytest.raises(ToolError):
        made.Search(query="12")
    assert made.get_reward() is None


def test_reset_forgets_the_earlier_rollout() -> None:
    made = math()
    made.calculator("3*4")
    reward("math")(completions=["It is 12."], answers=[["12"]], environments=[made])
    made.reset(**{**ROW, "answers": ["13"]})
    assert made.get_reward() is None
    made.calculator("3*4")
    assert made.get_reward() == 0.0


def test_a_row_of_another_task_is_refused() -> None:
    with pytest.raises(InputError, match="expected a row of the task 'math', found 'lama'"):
        environment("math").reset(**{**ROW, "task": "lama"})


def test_a_rollout_has_one_reward() -> None:
    made, other = math(), math()
    for one in (made, other):
        one.calculator("3*4")
    assert reward("math")(completions=["So 13."], answers=[["12"]], environments=[made]) == [0.0]
    assert made.get_reward() is None
    assert other.get_reward() == 1.0
    assert reward("math")(completions=["12"], answers=[["12"]], environments=[object()]) == [1.0]


def test_environments_of_one_task_share_nothing() -> None:
    first = environment("math")
    second = first()
    assert type(first) is type(second)
    first.reset(**ROW)
    first.calculator("3*4")
    assert second.get_reward() is None


def test_the_model_sees_the_tool_alone_with_its_schema() -> None:
    from transformers.utils import get_json_schema

    made = TASKS["math"].environment()
    methods = [name for name, _ in inspect.getmembers(type(made), inspect.isfunction) if not name.startswith("_")]
    assert sorted(methods) == ["calculator", "get_reward", "reset"]
    assert get_json_schema(made.calculator) == get_json_schema(TOOLS["calculator"].as_function())


def test_a_row_without_a_prompt_gets_its_question() -> None:
    made = environment("math")
    instruction = TASKS["math"].instruction
    assert made.reset(answers=["12"], input="3 * 4?") == f"{instruction}\n\n3 * 4?"
    assert made.reset(answers=["12"], question="3 * 4?", context="") == f"{instruction}\n\n3 * 4?"
    assert made.reset(answers=["12"], input="3 * 4?", instruction="Add.") == "Add.\n\n3 * 4?"


def test_the_rule_of_the_task_grades() -> None:
    task = replace(TASKS["qa"], tool=Tool("WikiSearch", "Searches.", lambda query: ("Paris is big.", "Rome.")))
    made = environment(task)
    made.reset(answers=["Paris"], prompt="?")
    assert made.WikiSearch("France") == "Paris is big.\n\nRome."
    assert made.get_reward() == 1.0


def test_what_no_trainer_can_run_is_refused() -> None:
    for name, message in (("qa", "not set up"), ("lama", "not set up"), ("maths", "unknown task")):
        with pytest.raises((InputError, UnknownName), match=message):
            environment(name)
    for name in ("reset", "_search", "get_reward", "wiki search"):
        with pytest.raises(InputError, match=r"named|Python names"):
            environment(replace(TASKS["math"], tool=Tool(name, "Searches.", str.upper)))
    with pytest.raises(InputError, match="expected the column answers"):
        environment("math").reset(prompt="3 * 4?")
