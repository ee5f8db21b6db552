"""Rewards and environments: whole messages of what is refused, and the response in every form of a completion."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from toolrlef_data import TASKS, EngineSpec, InputError, Tool, environment, reward
from toolrlef_data.publishing.rl.environments import Environment, trainable_task
from toolrlef_data.publishing.rl.rewards import response_text

MATH = TASKS["math"]
SHOUT = Tool("shout", "Shouts.", str.upper, parameter="text")


def refused(act: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        act(*arguments, **options)
    return str(caught.value)


def test_tasks_that_no_trainer_can_grade() -> None:
    model = Tool("QA", "Answers.", engine=EngineSpec("openai_api", "m"), prompt=lambda argument, texts: argument)
    cases: list[tuple[Any, str]] = [
        (3, "task: expected a Task or the name of one, found 3"),
        (replace(MATH, tool=model), "the tool 'QA' needs a model, which cannot run inside a trainer"),
        (replace(TASKS["mlqa"], tool=SHOUT), "the task 'mlqa' needs a reader, which cannot run inside a trainer"),
    ]
    for task, message in cases:
        for act in (trainable_task, environment, reward):
            assert refused(act, task) == message
    answers = replace(TASKS["mlqa"], tool=SHOUT, output_is_answer=True)
    assert trainable_task(answers) is answers
    assert trainable_task("math") is MATH
    for name in ("reset", "get_reward", "_x"):
        task = replace(MATH, tool=Tool(name, "Shouts.", str.upper))
        assert refused(environment, task) == f"environment: a tool may not be named {name!r}"
    assert refused(reward, ["math", MATH]) == "reward: expected tasks with different names, found ['math', 'math']"
    assert refused(reward, []) == "reward: expected tasks with different names, found []"


def test_rows_that_no_environment_can_begin() -> None:
    made = environment(MATH)
    message = "environment: expected a row of the task 'math', found 'qa'"
    assert refused(made.reset, task="qa", answers=["1"]) == message
    missing = 'environment: expected the column answers, as in the format "trl_grpo", found {}'
    assert refused(made.reset, prompt="?", task=None) == missing.format("prompt, task")
    assert refused(made.reset) == missing.format("none")
    assert refused(made.reset, answers=None) == missing.format("answers")
    assert made.reset(answers=["1"], prompt="?", task="math") is None
    assert made.reset(answers=[], prompt="", input="x", instruction="") == f"{MATH.instruction}\n\nx"


def test_the_class_of_an_environment() -> None:
    made = environment(replace(MATH, tool=SHOUT))
    assert isinstance(made, Environment)
    assert (type(made).__name__, type(made).__doc__) == ("math_environment", "A rollout of the task math.")
    method: Any = vars(type(made))["shout"]
    assert (method.__name__, method.__qualname__, str(method.__signature__)) == (
        "shout",
        "shout",
        "(self, text: str) -> str",
    )
    assert method.__doc__ == SHOUT.as_function().__doc__
    assert made.shout("a") == made.shout(text="a") == "A"
    assert (made.is_graded, type(made()), made() is made) == (False, type(made), False)
    with pytest.raises(TypeError):
        made.shout("a", "b")


def test_rows_that_no_reward_grades() -> None:
    one, two = reward("math"), reward([MATH, replace(MATH, name="sums")])
    end = "; reward([...]) with all tasks grades each row by its task"
    columns: dict[str, Any] = {"completions": ["2"] * 3, "answers": [["2"]] * 3}
    found = refused(one, **columns, task=["z", None, "a"])
    assert found == f"reward: expected 'math' in the column task, found a, z{end}"
    assert refused(two, **columns) == f"reward: expected 'math' or 'sums' in the column task, found None{end}"
    assert two(**columns, task=["math", "sums", "math"]) == [1.0] * 3
    assert (one.__name__, two.__name__) == ("math_correctness", "math_sums_correctness")
    with pytest.raises(ValueError, match="zip"):
        one(completions=["2"], answers=[["2"]] * 2)


def call(arguments: Any, name: str = "calculator") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("It is 12.", "It is 12."),
        ([], ""),
        ([{"role": "user", "content": "x"}], ""),
        ([{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "tool", "content": "c"}], "b"),
        ([{"role": "assistant", "content": None}], ""),
        ([{"role": "assistant"}], ""),
        ([{"role": "assistant", "content": "So", "tool_calls": None}], "So"),
        ([{"role": "assistant", "content": "", "tool_calls": [call({"formula": "3*4"})]}], "calculator(3*4)"),
        ([{"role": "assistant", "content": "", "tool_calls": [call(json.dumps({"formula": "3*é"}))]}], "calculator(3*é)"),
    ],
)  # fmt: skip
def test_the_response_in_a_completion(completion: Any, text: str) -> None:
    assert response_text(completion, MATH) == text


def test_a_native_call_that_was_cut_off_is_no_call() -> None:
    messages = [{"role": "assistant", "content": "", "tool_calls": [call('{"formula": "3*4"}')]}]
    assert response_text(messages, MATH, "stop") == "calculator(3*4)"
    assert response_text(messages, MATH, "length") != "calculator(3*4)"
