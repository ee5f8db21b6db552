"""Steps that do not hold: own sentences, and the worked solutions of GSM8K."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from toolrlef_data import ANNOTATIONS, TASKS, answer, build_stage1, grade, ledger, make_questions, scripted
from toolrlef_data.trice.annotations.consistency import false_step
from toolrlef_data.trice.not_calling.originals import original_of

FALSE = {
    "She pays <<12*3=35>>35 dollars.": "12*3=35",
    "12/4 = <<12/4=3>>3 and 3-1 = <<3-1=3>>3": "3-1=3",
    "10/3 = <<10/3=3.36>>3.36": "10/3=3.36",
    "In total 6 + 9 = 16 apples.": "6 + 9 = 16",
    "That is 4 x 5 = 25.": "4 x 5 = 25",
    "He has $1,200 - $300 = $800 left": "$1,200 - $300 = $800",
    "So 3 * $4 = $13": "3 * $4 = $13",
    "7 × 8 = 54": "7 × 8 = 54",
    "5 − 9 = 4": "5 − 9 = 4",
}
TRUE = [
    "12*3 = <<12*3=36>>36, and 100/3 = <<100/3=33.33>>33.33",
    "2/3 of 60: 60 students x 2/3 = 40",
    "3 + 4 * 2 = 11",
    "1 + 2 + 3 = 6",
    "(1/2) 278 + 11 = 150",
    "6*2.5 = $15",
    "5 * 3 = $15,000",
    "2 + 1 = 3 1/2",
    "10 - 4 = 6 and 1/2",
    "6:00 + 48 = 6:48",
    "120 – 80 - 15 = 25",
    "50 * 2 = 100%",
    "20% * 50 = 10",
    "x + 3 = 5",
    "7 - 4 = 3.5 - 0.5",
    "<<unknown=5>> <<=>> <<3*=4>> <<3*4>>",
    "5 - 9 = -4",
    "10 − 3 = 7",
    "1.5 + 2 = 3.5",
    "600 * 30 = 18 000",
    "",
]


@pytest.mark.parametrize("text", FALSE)
def test_false_steps(text: str) -> None:
    assert false_step(text) == FALSE[text]


@pytest.mark.parametrize("text", TRUE)
def test_steps_that_hold_or_cannot_be_read(text: str) -> None:
    assert false_step(text) == ""


def test_worked_solutions_are_flagged_in_at_most_one_of_a_thousand(shared: Path) -> None:
    files = [shared / "data" / "gsm8k" / f"{name}.jsonl" for name in ("train", "test")]
    solutions = [json.loads(line)["answer"] for file in files for line in file.read_text().splitlines()]
    assert len(solutions) == 6706
    assert sum(bool(false_step(text)) for text in solutions) <= 6


def test_it_is_no_target_unless_the_original_is_followed() -> None:
    rows = [{"q": "What is 6 times 7?", "a": "42", "s": "<<6*7=42>>"}]
    questions = make_questions(rows, task="math", question="q", answers="a", solution="s")
    lucky, sound = "<<6*7=43>>43, so the answer is 42.", "<<6*7=42>>42, so the answer is 42."
    graded = grade(answer(questions, scripted([lucky], progress=False)))
    stage1 = build_stage1(graded, ANNOTATIONS)
    assert (len(stage1), [(row["reason"], row["detail"]) for row in ledger([stage1])]) == (
        0,
        [("false_step", "6*7=43")],
    )
    assert build_stage1(graded, ANNOTATIONS, compat=True)["output"][:] == [lucky]
    sampled = answer(questions, scripted([lucky, sound], temperature=1.0, progress=False), samples=2)
    assert build_stage1(grade(sampled), ANNOTATIONS)["output"][:] == [sound]
    assert grade(sampled, compat=True)["response"][0]["text"] == lucky


@pytest.mark.parametrize(
    "flawed", ["<<6*7=43>>43, so the answer is 42.", "calculator(6*8) gives it. The answer is 42."]
)
def test_a_flawed_response_is_no_target_without_the_tool_either(flawed: str) -> None:
    rows = [{"q": "What is 6 times 7?", "a": "42", "s": "<<6*7=42>>"}]
    questions = make_questions(rows, task="math", question="q", answers="a", solution="s")
    stage1 = build_stage1(grade(answer(questions, scripted({"": "It is 41."}, progress=False))), ANNOTATIONS)
    row = {**stage1[0], "responses": [flawed], "origin": ["b"], "correct": [True], "finish_reasons": ["stop"]}
    stage2_row = {name: value for name, value in row.items() if name != "output"} | {"uses_tool": [False]}
    assert original_of(stage2_row, TASKS["math"]).answer is None
