"""Rewards: the published correctness of every response, for texts and messages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.caches import use_caches
from toolrlef_data import (
    ANNOTATIONS,
    TASKS,
    EngineSpec,
    InputError,
    Responder,
    Tool,
    answer,
    build_stage1,
    build_stage2,
    grade,
    load_source,
    respond,
    reward,
    scripted,
)


def test_the_reward_of_a_response_is_its_published_correctness(tmp_path: Path) -> None:
    texts = [
        "It is 54.",
        "calculator(36+36/2)",
        "calculator(2*",
        "\\boxed{A}",
        "calculator(1/0)",
        "54, or calculator(1)",
    ]
    with use_caches(tmp_path):
        questions = load_source("sample", split="train").select(range(6))
        stage1 = build_stage1(grade(answer(questions, scripted({"": "It is 0."}, progress=False))), ANNOTATIONS)
        responders = [Responder(f"r{n}", scripted({"": text}, progress=False)) for n, text in enumerate(texts)]
        stage2 = build_stage2(respond(stage1, responders), lacking="drop_response")
    function = reward("math")
    found = set()
    for row in stage2:
        count = len(row["responses"])
        columns = {"answers": [row["answers"]] * count, "input": [row["input"]] * count}
        as_messages = [[{"role": "assistant", "content": text}] for text in row["responses"]]
        for completions in (row["responses"], as_messages):
            rewards = function(completions=completions, prompts=[""] * count, trainer_state=None, **columns)
            assert rewards == [None if correct is None else float(correct) for correct in row["correct"]]
            found.update(rewards)
    assert found >= {0.0, 1.0}


CALL = {"type": "function", "function": {"name": "calculator", "arguments": {"formula": "3*4"}}}
TEXT_CALL = {"type": "function", "function": {"name": "calculator", "arguments": json.dumps({"formula": "3*4"})}}
RESULT = {"role": "tool", "name": "calculator", "content": "12"}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([{"role": "assistant", "content": "", "tool_calls": [CALL]}], 1.0),
        ([{"role": "assistant", "content": "", "tool_calls": [TEXT_CALL]}, RESULT], 1.0),
        ([{"role": "assistant", "tool_calls": [CALL]}, RESULT, {"role": "assistant", "content": "So 12."}], 1.0),
        ([{"role": "assistant", "tool_calls": [CALL]}, RESULT, {"role": "assistant", "content": "So 13."}], 0.0),
        ([], 0.0),
    ],
)
def test_the_last_message_of_the_model_is_graded(messages: list[dict[str, Any]], expected: float) -> None:
    assert reward("math")(completions=[messages], answers=[["12"]]) == [expected]


def test_a_task_that_needs_a_model_is_refused() -> None:
    with pytest.raises(InputError, match="not set up"):
        reward("qa")
    engine = EngineSpec("openai_api", "m")
    tool = Tool("QA", "Answers.", engine=engine, prompt=lambda argument, texts: argument)
    with pytest.raises(InputError, match="needs a model"):
        reward(replace(TASKS["lama"], tool=tool))
    translator = Tool("translator", "Translates.", str.upper)
    with pytest.raises(InputError, match="needs a reader"):
        reward(replace(TASKS["mlqa"], tool=translator))


def test_a_grader_gets_the_question_of_its_row() -> None:
    """A prediction that repeats the question is no answer to it; the question is in `input`."""

    def differs(prediction: str, answers: list[str], question: str, context: str) -> bool:
        return prediction in answers and prediction not in question + context

    function = reward(replace(TASKS["math"], grade=differs))
    completions, answers = ["It is 12."] * 2, [["12"]] * 2
    assert function(completions=completions, answers=answers, input=["Is it 12?", "How much is 3*4?"]) == [0.0, 1.0]
    assert function(completions=completions, answers=answers) == [1.0, 1.0]


def test_each_row_is_graded_by_its_own_task() -> None:
    """The same words are an answer in one task and none in the other: a number counts in math only."""
    shout = Tool("shout", "Shouts.", str.upper, parameter="text")
    lama = replace(TASKS["lama"], tool=shout, reader_prompt=None, reader=None)
    completions, answers = ["It is 12.", "shout(paris)", "calculator(3*4)"] * 2, [["12"], ["Paris"], ["12"]] * 2
    names = ["math", "lama", "math"] * 2
    both = reward(["math", lama])
    assert both(completions=completions, answers=answers, task=names) == [1.0, 1.0, 1.0] * 2
    assert both.__name__ == "math_lama_correctness"
    for other in ("lama", "typo"):
        with pytest.raises(InputError, match=rf"expected 'math' in the column task, found {other}"):
            reward("math")(completions=["12"] * 2, answers=[["12"]] * 2, task=["math", other])
    with pytest.raises(InputError, match="expected 'math' or 'lama' in the column task, found None"):
        both(completions=["12"], answers=[["12"]])
    assert reward("math")(completions=["12"], answers=[["12"]], task=[None]) == [1.0]
    for tasks in ([], ["math", "math"]):
        with pytest.raises(InputError, match="expected tasks with different names"):
            reward(tasks)
