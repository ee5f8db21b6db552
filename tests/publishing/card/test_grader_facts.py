"""Error rates of graders in the card: of the package's graders, by rule, and of no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from toolrlef_data import (
    TASKS,
    Responder,
    Tool,
    answer,
    build_stage1,
    build_stage2,
    grade,
    load_source,
    make_questions,
    publish,
    respond,
    scripted,
)


def card_of(folder: Path, *, compat: bool = False, is_custom: bool = False) -> str:
    task = replace(TASKS["lama"], tool=Tool("QA", "Echoes.", str.strip))
    if is_custom:
        task = replace(task, name="mine", grade=lambda prediction, answers: True)
    model = scripted({"": "QA(What is it?)"}, progress=False)
    questions = make_questions(load_source("sample_lama", split="train"), task=task, id="id", rows=5)
    stage1 = build_stage1(grade(answer(questions, model)), model, keep_unverified=True)
    stage2 = build_stage2(respond(stage1, [Responder("other", model)]), compat=compat)
    publish({"lama": {"stage1": stage1, "stage2": stage2}}, folder, version="1.0.0")
    return (folder / "README.md").read_text(encoding="utf-8")


def test_the_card_states_the_error_rates_of_each_rule(tmp_path: Path) -> None:
    card = card_of(tmp_path / "default")
    assert "\n| lama | default | 10" in card
    assert " | 0.0 % | 0.0 % |\n" in card
    assert "| lama | paper |" not in card
    assert "\n| lama | paper | 10" in card_of(tmp_path / "compat", compat=True)
    assert "## Grading" not in card_of(tmp_path / "custom", is_custom=True)
