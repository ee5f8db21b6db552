"""Stage 1: who needs the tool, which calls are believed, and where every row goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from toolrlef_data import (
    ANNOTATIONS,
    InputError,
    Reply,
    Tool,
    ToolError,
    answer,
    build_stage1,
    grade,
    propose_calls,
    scripted,
)
from toolrlef_data.columns import ANSWERED, GRADED, LABELLED, QUESTIONS, STAGE1
from toolrlef_data.engines.spec import EngineSpec, Request
from toolrlef_data.tables.lineage import ledger
from toolrlef_data.tasks.math import MATH
from toolrlef_data.tools.calculator import calculate

ROWS = {
    "easy": ("Mia has 2 pens and gets 3 more. How many pens has she?", "5", "2+3=<<2+3=5>>5\n#### 5"),
    "hard": ("A crate holds 24 jars. How many jars do 17 crates hold?", "408", "17*24=<<17*24=408>>408\n#### 408"),
    "bare": ("Ten boxes of 31 nails: how many nails?", "310", "There are 310 nails.\n#### 310"),
    "gold": ("What is left?", "nothing", ""),
}


def questions(*names: str) -> Dataset:
    rows = [
        {"id": n, "task": "math", "dataset": "sample", "question": q, "context": "", "answers": [a], "solution": s, "split_origin": "train"}
        for n, (q, a, s) in ROWS.items()
        if n in (names or ROWS)
    ]  # fmt: skip
    return Dataset.from_list(rows, features=QUESTIONS)


def student(request: Request) -> str | Reply:
    """Knows the easy one; for several samples it knows it every other time."""
    text = request.messages[-1].content
    if "Mia" in text:
        return "She has 5 pens." if request.sample % 2 == 0 else "She has 6 pens."
    return "It is 7."


def quiet(script: Any, **settings: Any) -> EngineSpec:
    return scripted(script, progress=False, **settings)


def graded(*names: str) -> Dataset:
    return grade(answer(questions(*names), quiet(student)))


def reasons(*tables: Dataset) -> dict[str, str]:
    gone = ledger(tables)
    return dict(zip(gone["id"], gone["reason"], strict=True))


def test_the_student_is_asked_without_a_word_of_the_tool() -> None:
    prompts: list[str] = []

    class Seen:
        made = prompts

    def remember(request: Request) -> str:
        Seen.made.extend(message.content for message in request.messages)
        return "1"

    answer(questions("easy"), quiet(remember), examples=2)
    assert prompts
    assert not any(word in " ".join(prompts).lower() for word in ("calculator", "tool"))


def test_right_rows_keep_their_response_and_wrong_ones_need_the_tool() -> None:
    done = graded("easy", "hard")
    assert done.features == GRADED
    assert [(r["id"], r["prediction"], r["correct"], r["needs_tool"]) for r in done] == [
        ("easy", "5", True, False),
        ("hard", "7", False, True),
    ]


def test_stage_1_holds_right_responses_and_verified_calls() -> None:
    stage1 = build_stage1(graded("easy", "hard"), ANNOTATIONS)
    assert stage1.features == STAGE1
    assert [(r["output"], r["uses_tool"], r["source"]) for r in stage1] == [
        ("She has 5 pens.", False, "student"),
        ("calculator(17*24)", True, "teacher"),
    ]
    assert stage1[0]["instruction"] == "Given a math problem, please answer it and you can use a calculator for help."


def test_every_row_is_in_stage_1_or_in_the_ledger() -> None:
    stage1 = build_stage1(graded(), ANNOTATIONS)
    assert stage1["id"][:] == ["easy", "hard"]
    assert reasons(stage1) == {"bare": "no_annotation", "gold": "answer_not_a_number"}


def test_what_annotations_cannot_serve_goes_on_to_the_model() -> None:
    teacher = quiet({"Ten boxes": "calculator(10*31)"})
    stage1 = build_stage1(graded("easy", "hard", "bare"), [ANNOTATIONS, teacher])
    assert stage1["output"][:] == ["She has 5 pens.", "calculator(17*24)", "calculator(10*31)"]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("calculator(24+17)", "wrong_value"),
        ("calculator(408)", "leaks_answer"),
        ("calculator(408+0)", "leaks_answer"),
        ("calculator(17*24", "no_call"),
        ("17*24", "no_call"),
        ("calculator(17*jars)", "tool_error:unknown_name"),
        ("calculator(1/0)", "tool_error:zero_division"),
        (Reply(None, error="content_filter"), "no_reply:content_filter"),
    ],
)
def test_a_call_is_verified_not_believed(reply: str | Reply, reason: str) -> None:
    stage1 = build_stage1(graded("hard"), quiet([reply], max_failed=1.0), attempts=1)
    assert len(stage1) == 0
    assert reasons(stage1) == {"hard": reason}


def test_a_teacher_tries_again_and_only_where_it_failed() -> None:
    def teacher(request: Request) -> str:
        return "calculator(17*24)" if request.seed else "calculator(1+1)"  # seeds come with the retries

    labelled = propose_calls(graded("easy", "hard"), quiet(teacher), attempts=3)
    assert labelled.features == LABELLED
    easy, hard = labelled
    assert (easy["tool_call"], easy["attempts"]) == (None, 0)
    assert (hard["tool_call"], hard["verified"], hard["attempts"], hard["rejected"]) == (
        "calculator(17*24)",
        True,
        2,
        ["wrong_value"],
    )


def test_unverified_calls_can_be_kept_as_the_original_does() -> None:
    stage1 = build_stage1(graded("hard"), quiet(["calculator(1+1)"]), attempts=1, keep_unverified=True)
    assert stage1["output"][:] == ["calculator(1+1)"]


@pytest.mark.parametrize(("threshold", "needs"), [(0.5, False), (0.51, True), (1.0, True)])
def test_samples_give_a_pass_rate_and_a_threshold_decides(threshold: float, needs: bool) -> None:
    answered = answer(questions("easy"), quiet(student, temperature=1.0), samples=4)
    assert answered.features == ANSWERED
    row = grade(answered, threshold=threshold)[0]
    assert (row["pass_rate"], row["needs_tool"], row["prediction"]) == (0.5, needs, "5")


def test_the_first_right_sample_becomes_the_response() -> None:
    def mostly_wrong(request: Request) -> str:
        return "5 pens" if request.sample == 2 else "6 pens"

    done = grade(answer(questions("easy"), quiet(mostly_wrong, temperature=1.0), samples=3), threshold=0.3)
    assert build_stage1(done, ANNOTATIONS)["output"][:] == ["5 pens"]


def test_no_reply_is_not_a_wrong_answer() -> None:
    failing = quiet([Reply(None, error="too_long")], max_failed=1.0)
    done = grade(answer(questions("hard"), failing))
    assert (done[0]["correct"], done[0]["needs_tool"], done[0]["pass_rate"]) == (None, None, None)
    assert reasons(build_stage1(done, ANNOTATIONS)) == {"hard": "no_reply"}


def test_dataset_dicts_go_through() -> None:
    both = DatasetDict({"train": questions("easy"), "test": questions("hard")})
    stage1 = build_stage1(grade(answer(both, quiet(student))), ANNOTATIONS)
    assert {name: split["output"][:] for name, split in stage1.items()} == {
        "train": ["She has 5 pens."],
        "test": ["calculator(17*24)"],
    }


def test_a_tool_that_was_down_is_executed_again(tmp_path: Path) -> None:
    up = tmp_path / "up"

    def flaky(argument: str) -> int | float:
        if not up.exists():
            raise ToolError("timeout")
        return calculate(argument)

    task = replace(MATH, tool=Tool("calculator", "", flaky))
    assert len(build_stage1(graded("hard"), ANNOTATIONS, task=task)) == 0
    up.touch()
    assert build_stage1(graded("hard"), ANNOTATIONS, task=task)["output"][:] == ["calculator(17*24)"]


def test_rows_without_a_question_or_answer_are_in_the_ledger() -> None:
    rows = questions("easy", "hard", "bare").to_list()
    rows[0]["question"], rows[1]["answers"] = None, [None]
    asked = answer(Dataset.from_list(rows, features=QUESTIONS), quiet(student))
    assert asked["id"][:] == ["bare"]
    assert reasons(asked) == {"easy": "no_question", "hard": "no_answer"}


def test_columns_of_another_type_are_named() -> None:
    rows = [{**row, "answers": row["answers"][0]} for row in questions("easy")]
    with pytest.raises(InputError, match=r"answer needs the column answers as List\(Value\('string'\)\), found Value"):
        answer(Dataset.from_list(rows), quiet(student))
    with pytest.raises(InputError, match="answer needs the columns context, solution"):
        answer(questions("easy").remove_columns(["context", "solution"]), quiet(student))
    with pytest.raises(InputError, match=r"expected a datasets.Dataset or DatasetDict, found list"):
        answer([{"id": "1"}], quiet(student))


def test_bad_settings_get_a_clear_error() -> None:
    with pytest.raises(InputError, match="threshold must be above 0"):
        grade(answer(questions("easy"), quiet(student)), threshold=0)
    with pytest.raises(InputError, match="found str"):
        build_stage1(graded("hard"), ["gpt"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="needs a teacher"):
        build_stage1(graded("hard"), [])
    wrong = questions("easy").map(lambda row: {"task": "maths"})
    with pytest.raises(InputError, match="unknown task 'maths'; choose from: lama, math"):
        answer(wrong, quiet(student))
