"""Stage 1: which questions need the tool, which calls are verified, and which rows are dropped."""

from __future__ import annotations

from collections.abc import Mapping
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
from toolrlef_data.tables.lineage import ledger, lineage
from toolrlef_data.tasks import TASKS
from toolrlef_data.tasks.math import MATH
from toolrlef_data.tools.calculator import calculate
from toolrlef_data.tools.parsing.calls import parse_call
from toolrlef_data.trice.teachers import write_calls

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
    """Answer the easy question correctly in every second sample, and all others wrongly."""
    text = request.messages[-1].content
    if "Mia" in text:
        return "She has 5 pens." if request.sample % 2 == 0 else "She has 6 pens."
    return "It is 7."


def quiet(script: Any, **settings: Any) -> EngineSpec:
    return scripted(script, progress=False, **settings)


def graded(*names: str) -> Dataset:
    return grade(answer(questions(*names), quiet(student)))


def reasons(*tables: Dataset) -> dict[str, str]:
    dropped = ledger(tables)
    return dict(zip(dropped["id"], dropped["reason"], strict=True))


def test_the_students_prompt_does_not_mention_the_tool() -> None:
    prompts: list[list[str]] = []

    class Recorded:
        texts = prompts

    def record(request: Request) -> str:
        Recorded.texts.append([message.content for message in request.messages])
        return "1"

    for examples in (0, 2, 3):
        answer(questions("easy"), quiet(record), examples=examples)
    assert [len(texts) for texts in prompts] == [2, 2 + 2 * 2, 2 + 2 * 3], "two messages for each example"
    assert not any(word in str(prompts).lower() for word in ("calculator", "tool"))


def test_only_rows_with_a_wrong_response_need_the_tool() -> None:
    table = graded("easy", "hard")
    assert table.features == GRADED
    assert [(r["id"], r["prediction"], r["correct"], r["needs_tool"]) for r in table] == [
        ("easy", "5", True, False),
        ("hard", "7", False, True),
    ]


def test_stage_1_contains_correct_responses_and_verified_calls() -> None:
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


def test_rows_without_a_composed_call_go_to_the_next_teacher() -> None:
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
def test_an_unverified_call_is_dropped_with_its_reason(reply: str | Reply, reason: str) -> None:
    stage1 = build_stage1(graded("hard"), quiet([reply], max_failed=1.0), attempts=1)
    assert len(stage1) == 0
    assert reasons(stage1) == {"hard": reason}


@pytest.mark.parametrize(
    ("reply", "argument"),
    [
        ('calculator("17*24 :)")', "17*24 :)"),
        ('{"name": "calculator", "arguments": {"formula": "17*24) ("}}', "17*24) ("),
        ('calculator(formula="text=17*24")', "text=17*24"),
        ('{"name": "calculator", "arguments": {"formula": "17*24 \\ud83d"}}', "17*24 \ufffd"),
    ],
)
def test_a_proposed_call_is_published_with_the_argument_that_was_executed(reply: str, argument: str) -> None:
    proposed = propose_calls(graded("hard"), quiet([reply]), attempts=1)
    call = parse_call(proposed[0]["tool_call"], MATH.tool)
    assert call is not None
    assert call.argument == argument
    assert not any(rejected.startswith("no_call") for rejected in proposed[0]["rejected"])


def no_argument(row: Mapping[str, Any]) -> str:
    return " "


def test_a_call_without_an_argument_is_not_executed() -> None:
    """Its text does not read back to a call."""
    task = replace(MATH, name="mine", make_argument=no_argument)
    (row,) = write_calls(graded("hard").map(lambda row: {"task": "mine"}), task=task)
    assert (row["tool_call"], row["rejected"]) == (None, ["unreadable_call: calculator()"])


def test_a_teacher_retries_only_failed_rows() -> None:
    def teacher(request: Request) -> str:
        return "calculator(17*24)" if request.seed else "calculator(1+1)"  # only retries have a seed

    labelled = propose_calls(graded("easy", "hard"), quiet(teacher), attempts=3)
    assert labelled.features == LABELLED
    easy, hard = labelled
    assert (easy["tool_call"], easy["attempts"]) == (None, 0)
    assert (hard["tool_call"], hard["verified"], hard["attempts"], hard["rejected"]) == (
        "calculator(17*24)",
        True,
        2,
        ["wrong_value: calculator(1+1) -> 2"],
    )


def test_calls_without_verification_need_no_tool_and_are_verified_later() -> None:
    asked: list[Request] = []

    def teacher(request: Request) -> str:
        asked.append(request)
        return "I cannot." if len(asked) == 1 else "WikiSearch(the river)"

    unset = replace(MATH, name="mine", tool=replace(TASKS["qa"].tool))  # a tool that is not set up
    table = graded("hard").map(lambda row: {"task": "mine"})
    proposed = propose_calls(table, quiet(teacher), verify=False, style="completion", task=unset)
    row = proposed[0]
    assert (row["tool_call"], row["verified"], row["verified_by"]) == ("WikiSearch(the river)", None, None)
    assert (row["attempts"], row["rejected"]) == (2, ["no_call: I cannot."])
    assert all(request.prompt.endswith("Answer:") and not request.messages for request in asked)
    found = replace(MATH, name="mine", tool=replace(TASKS["qa"].tool, many=None, function=lambda term: "42"))
    checked = write_calls(proposed, task=found)[0]
    assert (checked["tool_call"], checked["tool_output"]) == ("WikiSearch(the river)", "42")
    assert checked["verified"] is not None


@pytest.mark.parametrize(("temperature", "retries"), [(0.0, 0.7), (0.7, 0.7), (1.2, 1.2)])
def test_a_retry_samples_with_another_seed(temperature: float, retries: float) -> None:
    """At the temperature of the teacher, but at least at 0.7: a greedy model would repeat its reply."""
    proposed = propose_calls(graded("hard"), quiet({"": "no"}, temperature=temperature, seed=5), attempts=3)
    specs = [record["settings"]["spec"] for record in lineage(proposed) if "spec" in (record["settings"] or {})][1:]
    assert [(spec["temperature"], spec["seed"]) for spec in specs] == [(temperature, 5), (retries, 6), (retries, 7)]
    assert proposed["attempts"][:] == [3]
    assert propose_calls(graded("bare"), ANNOTATIONS)["attempts"][:] == [0], "annotations make no attempts"


def test_unverified_calls_can_be_kept_as_in_the_original() -> None:
    stage1 = build_stage1(graded("hard"), quiet(["calculator(1+1)"]), attempts=1, keep_unverified=True)
    assert stage1["output"][:] == ["calculator(1+1)"]


@pytest.mark.parametrize(("threshold", "needs"), [(0.5, False), (0.51, True), (1.0, True)])
def test_the_threshold_applies_to_the_pass_rate_of_samples(threshold: float, needs: bool) -> None:
    answered = answer(questions("easy"), quiet(student, temperature=1.0), samples=4)
    assert answered.features == ANSWERED
    row = grade(answered, threshold=threshold)[0]
    assert (row["pass_rate"], row["needs_tool"], row["prediction"]) == (0.5, needs, "5")


def test_the_first_correct_sample_is_the_response() -> None:
    def mostly_wrong(request: Request) -> str:
        return "5 pens" if request.sample == 2 else "6 pens"

    table = grade(answer(questions("easy"), quiet(mostly_wrong, temperature=1.0), samples=3), threshold=0.3)
    assert build_stage1(table, ANNOTATIONS)["output"][:] == ["5 pens"]


def test_a_missing_reply_is_no_wrong_answer() -> None:
    failing = quiet([Reply(None, error="too_long")], max_failed=1.0)
    table = grade(answer(questions("hard"), failing))
    assert (table[0]["correct"], table[0]["needs_tool"], table[0]["pass_rate"]) == (None, None, None)
    assert reasons(build_stage1(table, ANNOTATIONS)) == {"hard": "no_reply"}


def test_dataset_dicts_are_accepted() -> None:
    both = DatasetDict({"train": questions("easy"), "test": questions("hard")})
    stage1 = build_stage1(grade(answer(both, quiet(student))), ANNOTATIONS)
    assert {name: split["output"][:] for name, split in stage1.items()} == {
        "train": ["She has 5 pens."],
        "test": ["calculator(17*24)"],
    }


def test_calls_of_an_unavailable_tool_are_retried(tmp_path: Path) -> None:
    up = tmp_path / "up"

    def flaky(argument: str) -> int | float:
        if not up.exists():
            raise ToolError("timeout")
        return calculate(argument)

    task = replace(MATH, tool=Tool("calculator", "", flaky))
    assert len(build_stage1(graded("hard"), ANNOTATIONS, task=task)) == 0
    up.touch()
    assert build_stage1(graded("hard"), ANNOTATIONS, task=task)["output"][:] == ["calculator(17*24)"]


def test_rows_without_a_question_or_answer_are_dropped() -> None:
    rows = questions("easy", "hard", "bare").to_list()
    rows[0]["question"], rows[1]["answers"] = None, [None]
    answered = answer(Dataset.from_list(rows, features=QUESTIONS), quiet(student))
    assert answered["id"][:] == ["bare"]
    assert reasons(answered) == {"easy": "no_question", "hard": "no_answer"}


def test_columns_of_a_wrong_type_raise() -> None:
    rows = [{**row, "answers": row["answers"][0]} for row in questions("easy")]
    with pytest.raises(InputError, match=r"answer needs the column answers as List\(Value\('string'\)\), found Value"):
        answer(Dataset.from_list(rows), quiet(student))
    with pytest.raises(InputError, match="answer needs the columns context, solution"):
        answer(questions("easy").remove_columns(["context", "solution"]), quiet(student))
    with pytest.raises(InputError, match=r"expected a datasets.Dataset or DatasetDict, found list"):
        answer([{"id": "1"}], quiet(student))


def test_wrong_settings_raise() -> None:
    with pytest.raises(InputError, match="threshold must be a number above 0, up to 1"):
        grade(answer(questions("easy"), quiet(student)), threshold=0)
    with pytest.raises(InputError, match="teacher: expected ANNOTATIONS or an EngineSpec, found str"):
        build_stage1(graded("hard"), ["gpt"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="needs a teacher"):
        build_stage1(graded("hard"), [])
    wrong = questions("easy").map(lambda row: {"task": "maths"})
    with pytest.raises(InputError, match=r"unknown task 'maths'; choose from: .*lama, math"):
        answer(wrong, quiet(student))


def test_the_rule_of_the_paper_grades_a_substring_of_20_words() -> None:
    rows = [
        {
            "id": str(i),
            "task": "qa",
            "dataset": "x",
            "question": f"question {i}",
            "context": "",
            "answers": ["Oslo"],
            "solution": "",
            "split_origin": "train",
        }
        for i in range(4)
    ]
    texts = ["Not Oslo, but Bergen.", "Either Oslo or Bergen", "It is Oslo.", "Let me think. " * 8 + "Oslo"]
    answers = {f"question {i}": text for i, text in enumerate(texts)}
    answered = answer(Dataset.from_list(rows, features=QUESTIONS), quiet(answers))
    assert grade(answered, rule="paper")["correct"][:] == [True, True, True, False]
    assert grade(answered)["correct"][:] == [False, False, True, True]
    with pytest.raises(InputError, match="unknown rule 'strict'"):
        grade(answered, rule="strict")
    answered = answered.map(lambda row: {"task": "mine"})
    custom = replace(TASKS["qa"], name="mine", grade=lambda prediction, answers: True)
    with pytest.raises(InputError, match="the grader of the task 'mine' does not support rule='paper'"):
        grade(answered, rule="paper", task=custom)
    assert grade(answered, task=custom, compat=True)["correct"][:] == [True] * 4  # keeps the custom grader


def test_an_unsure_grade_drops_the_row() -> None:
    row = {"id": "a", "task": "qa", "dataset": "x", "question": "Where?", "context": "", "answers": ["Oslo"], "solution": "", "split_origin": "train"}  # fmt: skip
    table = grade(answer(Dataset.from_list([row], features=QUESTIONS), quiet({"": "Oslo?"})))
    assert (table["correct"][:], table["needs_tool"][:]) == ([None], [None])
    tool = replace(TASKS["qa"], tool=Tool("WikiSearch", "Echoes.", str.strip))
    assert reasons(build_stage1(table, quiet({"": "WikiSearch(Oslo)"}), task=tool)) == {"a": "unsure_grade"}


def test_an_answer_that_cannot_be_read_is_neither_wrong_nor_a_target() -> None:
    texts = {"Mia": r"It is \boxed{A}.", "17 crates": "1/0", "31 nails": "I do not know the answer.", "left": "x"}
    answered = answer(questions(), quiet(texts))
    table = grade(answered)
    assert table["correct"][:] == [None, None, False, None]
    assert table["needs_tool"][:] == [None, None, True, None]
    stage1 = build_stage1(table, quiet(["calculator(10*31)"]))
    assert stage1["id"][:] == ["bare"], "the teacher has one reply: no call is proposed for a question of unknown need"
    assert reasons(stage1) == {"easy": "unreadable_answer", "hard": "unreadable_answer", "gold": "answer_not_a_number"}
    assert r"It is \boxed{A}." in ledger([stage1])["detail"][:]
    for original in (grade(answered, compat=True), grade(answered, rule="paper")):
        assert original["correct"][:] == [False, False, False, None]


def test_the_question_is_no_answer_in_any_stage() -> None:
    cloze = "The University of Oslo is in ?"
    row = {"id": "a", "task": "lama", "dataset": "x", "question": cloze, "context": "", "answers": ["Oslo"], "solution": "", "split_origin": "train"}  # fmt: skip
    table = grade(answer(Dataset.from_list([row], features=QUESTIONS), quiet({"": "The University of Oslo is in"})))
    assert table["correct"][:] == [False]


def test_the_ledger_tells_what_the_teacher_wrote_and_what_the_tool_returned() -> None:
    long_text = "I would add the numbers.\n " + "Then I would think. " * 30
    replies = [
        "calculator(17+24)",
        long_text,
        "calculator(17/0)",
        Reply(None, error="too_long", error_detail="9 tokens"),
    ]
    stage1 = build_stage1(graded("hard"), [quiet([reply], max_failed=1.0) for reply in replies], attempts=1)
    (row,) = ledger([stage1])
    assert (row["stage"], row["reason"]) == ("stage1", "no_reply:too_long")
    written = " ".join(long_text.split())[:200]
    assert row["detail"] == (
        f"wrong_value: calculator(17+24) -> 41; no_call: {written}; "
        "tool_error:zero_division: calculator(17/0) -> division by zero; no_reply:too_long: 9 tokens"
    )


def test_a_teachers_prompts_have_ten_gold_answers_and_examples_in_another_order_for_each_attempt() -> None:
    prompts: list[list[str]] = []

    class Recorded:
        texts = prompts

    def record(request: Request) -> str:
        Recorded.texts.append([message.content for message in request.messages])
        return "no call"

    answers = [str(n) for n in range(408, 420)]
    table = graded("hard").map(lambda row: {"answers": answers})
    propose_calls(table, quiet(record), attempts=6)
    assert len(prompts) == 6
    assert {texts[-1].splitlines()[-1] for texts in prompts} == {f"Golden answers: {' | '.join(answers[:10])}"}
    shots = [tuple(texts[1:-1]) for texts in prompts]
    assert len({frozenset(texts) for texts in shots}) == 1, "the same examples"
    assert len(set(shots)) > 1, "in another order"
