"""The proof's questions are answered as their solutions say, and what is held out is not trained on."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from toolrlef_data import (
    ANNOTATIONS,
    Responder,
    answer,
    build_stage1,
    build_stage2,
    decontaminate,
    grade,
    make_questions,
    near_duplicates,
    respond,
    scripted,
    without_tool,
)
from toolrlef_data.tools.calculator import calculate
from toolrlef_data.tools.parsing.calls import find_called_tool

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import proof_ladder
import proof_report
import proof_tables

ORDERED = {"pairs in order": (3, 4), "texts above calls": (1, 2)}


def outcome(right: bool, calls: bool, needs: bool) -> dict[str, object]:
    offered = {"correct": right, "uses_tool": calls, "tool_error": None, "tokens": 4}
    return {"needs_tool": needs, "plain": {"correct": not needs}, "offered": offered}


@pytest.mark.parametrize("templates", [proof_ladder.TRAINED, proof_ladder.HELD_OUT], ids=["trained", "held out"])
def test_questions_of_the_ladder_have_the_answers_of_their_solutions(templates: list[tuple[str, str]]) -> None:
    rows = proof_ladder.ladder(templates, 200, seed=3)
    assert len({row["question"] for row in rows}) == 200
    assert {row["template"] for row in rows} == {text for text, _ in templates}
    counts = {level: sum(row["level"] == level for row in rows) for level in proof_ladder.LEVELS}
    assert counts == {level: round(200 * share) for level, (share, *_) in proof_ladder.LEVELS.items()}
    for row in rows:
        formula, value = re.fullmatch(r"<<(.+)=(\d+)>>", row["solution"]).groups()  # type: ignore[union-attr]
        assert str(calculate(formula)) == value == row["answer"], row
        assert sorted(re.findall(r"\d+", formula)) == sorted(re.findall(r"\d+", row["question"])), row


def test_a_seed_determines_the_questions() -> None:
    first, again, other = (proof_ladder.ladder(proof_ladder.TRAINED, 50, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_held_out_questions_share_no_template_with_trained_ones() -> None:
    texts = [{text for text, _ in templates} for templates in (proof_ladder.TRAINED, proof_ladder.HELD_OUT)]
    assert not texts[0] & texts[1]
    trained, held_out = (
        make_questions(proof_ladder.ladder(templates, 200, 0), task="math", answers="answer", solution="solution")
        for templates in (proof_ladder.TRAINED, proof_ladder.HELD_OUT)
    )
    assert len(decontaminate(trained, against=held_out)) == len(trained)
    assert len(near_duplicates(trained, held_out)) == 0
    assert len(decontaminate(trained, against=trained.select(range(20)))) <= len(trained) - 20, "the check can fail"


@pytest.fixture(scope="module")
def trained() -> Dataset:
    rows = proof_ladder.ladder(proof_ladder.TRAINED, 40, 0)
    return make_questions(rows, task="math", answers="answer", solution="solution")


@pytest.fixture(scope="module")
def tables(trained: Dataset) -> dict[str, Dataset]:
    """Return "always", and "stage 1" of a student that knows every second question."""
    known = {row["question"]: [proof_tables.gold_answers([row])[row["id"]]] for row in trained.select(range(0, 40, 2))}
    unknown = {row["question"]: ["I do not know."] for row in trained.select(range(1, 40, 2))}
    student = scripted(proof_tables.nth_answer(known | unknown, 0), progress=False)
    selective = build_stage1(grade(answer(trained, student, style=proof_tables.STYLE)), ANNOTATIONS)
    return {"always": build_stage1(grade(answer(trained, proof_tables.WRONG)), ANNOTATIONS), "stage 1": selective}


@pytest.fixture(scope="module")
def stage2(tables: dict[str, Dataset]) -> Dataset:
    """Return rows with four different responses, of which gold is the first."""
    texts = ["The answer is 1.", "The answer is 2.", "calculator(1+1)"]
    responders = [Responder(f"model {n}", scripted({"": text}, progress=False)) for n, text in enumerate(texts)]
    return build_stage2(respond(tables["always"], responders), rule="cost")


def test_pairs_put_the_text_above_the_call_where_no_call_is_right(tables: dict[str, Dataset], stage2: Dataset) -> None:
    variants = without_tool(tables["stage 1"], kind=["missing_argument", "other_tools"])
    rows = proof_tables.with_pairs(stage2, variants).to_list()
    assert rows[: len(stage2)] == stage2.select_columns(proof_tables.RANKED).to_list()
    by_prompt = {(row["instruction"], row["input"]): row for row in variants if row["rejected"] is not None}
    assert len(rows) - len(stage2) == len(by_prompt) > 10
    for row in rows[len(stage2) :]:
        (text, call), variant = row["responses"], by_prompt[row["instruction"], row["input"]]
        assert (text, call, row["scores"]) == (variant["output"], variant["rejected"], [1, 0])
        assert [find_called_tool(response, "calculator") for response in (text, call)] == [None, "calculator"]


def test_the_shuffled_scores_tell_nothing_of_gold(stage2: Dataset) -> None:
    shuffled = proof_tables.with_shuffled_scores(stage2, seed=1)
    for before, after in zip(stage2, shuffled, strict=True):
        assert sorted(before["responses"]) == sorted(after["responses"])
        assert before["scores"] == after["scores"]
    firsts = [row["responses"].index(gold["responses"][0]) for row, gold in zip(shuffled, stage2, strict=True)]
    assert {firsts.count(place) > 2 for place in range(4)} == {True}, "gold is anywhere"
    assert shuffled["responses"][:] != proof_tables.with_shuffled_scores(stage2, seed=2)["responses"][:]


def test_other_need_moves_the_calls_and_keeps_the_rows(trained: Dataset, tables: dict[str, Dataset]) -> None:
    stage1, calls = tables["stage 1"], proof_tables.calls_in(tables["always"])
    assert 10 < sum(stage1["uses_tool"][:]) < len(stage1) - 10
    chosen = proof_tables.shuffled_need(tables, seed=0)
    assert len(chosen) == sum(stage1["uses_tool"][:])
    assert chosen != {row["id"] for row in stage1 if row["uses_tool"]}
    moved = proof_tables.relabelled(tables, trained, chosen)
    assert moved["id"][:] == stage1["id"][:]
    for row in moved:
        assert row["uses_tool"] is (row["id"] in chosen)
        assert row["output"] == (calls if row["uses_tool"] else proof_tables.gold_answers(trained))[row["id"]]


def test_the_report_counts_calls_by_need_and_pairs_the_questions() -> None:
    selective = [outcome(True, needs, needs) for needs in (True, True, False, False)]
    always = [outcome(needs, True, needs) for needs in (True, True, False, False)]
    figures = proof_report.figures_of(selective, ORDERED)
    assert [figures[name][0] for name in ("right", "calls", "calls where needed", "calls where not needed")] == [
        1,
        0.5,
        1,
        0,
    ]
    differences = proof_report.differences_of({"zero-shot": always, "always": always, "stage 1": selective})
    gain = differences["stage 1 - always"]
    assert (gain["right"][0], gain["calls"][0], gain["calls where not needed"][0]) == (0.5, -0.5, -1)
    assert differences["always - zero-shot"]["right"][0] == 0


CHOICES = {"best": ([-1, -2, -3, -4], 1, 1), "worst": ([-4, -3, -2, -1], 0, 0.5), "none": ([-1, -1, -1, -1], 0.5, 1)}


@pytest.mark.parametrize("name", CHOICES)
def test_the_choice_of_calls_is_judged_whatever_their_number(name: str) -> None:
    chances, ordered, right = CHOICES[name]
    rows = [outcome(True, True, needs) | {"id": str(n)} for n, needs in enumerate((True, True, False, False))]
    levels = {"0": 4, "1": 2, "2": 1, "3": 1}
    found = proof_report.choice_of(rows, chances, levels)
    assert found["needed first"] == found["harder first"]
    value, low, high, count = found["needed first"]
    assert (value, count) == (ordered, 4)
    assert low <= value <= high
    assert found["right at 50% calls"] == right  # two calls, on the questions that need them if the choice is good
    gains = proof_report.choice_differences_of(
        {"always": rows, "stage 1": rows}, {"always": [0, 0, 0, 0], "stage 1": chances}, {}
    )
    assert list(gains["stage 1 - always"]) == ["needed first"]
    assert gains["stage 1 - always"]["needed first"][0] == ordered - 0.5
    assert gains["always - stage 1"]["needed first"][0] == 0.5 - ordered


def test_the_interval_of_the_choice_covers_the_truth() -> None:
    """Chances of needed questions are one standard deviation higher: the share of ordered pairs is 0.76."""
    draw, covered = np.random.default_rng(1), 0
    needs = np.arange(100) < 40
    for _ in range(100):
        _, low, high = proof_report._first([draw.normal(size=100) + needs], needs, resamples=300)
        covered += low <= 0.7602 <= high
    assert 88 <= covered <= 99


@pytest.mark.parametrize("other_arm", [False, True], ids=["one arm", "difference"])
def test_the_interval_of_the_choice_covers_the_truth_also_with_few_errors(other_arm: bool) -> None:
    """One of 50 needed questions is below all others: without the two more questions, 57 % of the intervals cover it."""
    draw, covered = np.random.default_rng(2), 0
    needs = np.arange(150) < 43
    for _ in range(100):
        found = np.where(needs & (draw.random(150) < 0.02), -1.0, needs)
        chances = [found, needs.astype(float)] if other_arm else [found]
        value, low, high = proof_report._first(chances, needs, resamples=300)
        assert low <= value <= high
        covered += low <= (-0.02 if other_arm else 0.98) <= high
    assert covered >= 90
    assert proof_report._first([needs], np.ones(150, dtype=bool)) == (None, None, None)


def test_the_report_of_a_run_without_any_choice_has_dashes(tmp_path: Path) -> None:
    """Such as real rows that all need the tool."""
    rows = {"always": [outcome(True, True, True) | {"id": "a"}], "stage 1": [outcome(False, True, True) | {"id": "a"}]}
    rows["stage 1"][0]["offered"]["tokens"] = None  # type: ignore[index]
    chances: dict[str, list[float]] = {name: [-1.0] for name in rows}
    result = {
        "rows": {"held out": 1},
        "needed": 1,
        "settings": {"benchmarks": []},
        "arms": {
            name: proof_report.figures_of(rows[name], dict.fromkeys(ORDERED, (0, 0)))
            | proof_report.choice_of(rows[name], chances[name], {})
            for name in rows
        },
        "outside": {},
        "differences": proof_report.differences_of(rows),
        "differences of the choice": proof_report.choice_differences_of(rows, chances, {}),
        "outcomes": proof_report.outcomes_of(rows, chances, {}),
    }
    text = proof_report.as_markdown([result, result])
    assert "1, 1 held-out questions, 1, 1 need the tool" in text
    assert "| stage 1 | - |" in text
    assert "nan" not in text + json.dumps(result, allow_nan=False)
    proof_report.plot([result, result], tmp_path / "proof.svg")
    assert (tmp_path / "proof.svg").stat().st_size


def test_questions_of_when2tool_are_held_out_with_their_difficulties(tmp_path: Path) -> None:
    known = proof_ladder.ladder(proof_ladder.TRAINED, 40, seed=5)[3]
    rows = [
        {
            "id": number,
            "difficulty": difficulty,
            "multi_step": False,
            "instruction": text,
            "environments": [{"name": "CalculatorEnv"}],
            "expected": {"answer": value},
        }
        for number, (difficulty, text, value) in enumerate(
            [("hard", "Give 3**9", "19683"), ("easy", known["question"], known["answer"])]
        )
    ]
    (tmp_path / "tasks_v1_test.json").write_text(json.dumps(rows))
    options = argparse.Namespace(data_dir=None, when2tool=str(tmp_path), rows=40, questions=20)
    trained, held_out = proof_tables.draw_questions(5, options)
    assert held_out["answers"][:] == [["19683"], [known["answer"]]]
    assert known["question"] not in trained["question"]
    assert list(proof_tables.levels(held_out, 5, options).values()) == [3, 1]
    options.when2tool = None
    others, _ = proof_tables.draw_questions(5, options)
    assert set(trained["question"]) < set(others["question"])
