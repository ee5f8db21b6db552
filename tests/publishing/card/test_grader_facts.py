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
    publish,
    respond,
    scripted,
)


def card_of(folder: Path, *, compat: bool = False, is_custom: bool = False) -> str:
    task = replace(TASKS["lama"], tool=Tool("QA", "Echoes.", str.strip))
    if is_custom:
        task = replace(task, grade=lambda prediction, answers: True)
    model = scripted({"": "QA(What is it?)"}, progress=False)
    graded = grade(answer(load_source("sample_lama", split="train").select(range(5)), model, task=task), task=task)
    stage1 = build_stage1(graded, model, task=task, keep_unverified=True)
    stage2 = build_stage2(respond(stage1, [Responder("other", model)], task=task), task=task, compat=compat)
    publish({"lama": {"stage1": stage1, "stage2": stage2}}, folder, version="1.0.0")
    return (folder / "README.md").read_text(encoding="utf-8")


def test_the_card_states_the_error_rates_of_each_rule(tmp_path: Path) -> None:
    card = card_of(tmp_path / "default")
    assert "\n| lama | default | 10" in card
    assert " | 0.0 % | 0.0 % |\n" in card
    assert "| lama | paper |" not in card
    assert "\n| lama | paper | 10" in card_of(tmp_path / "compat", compat=True)
    assert "## Grading" not in card_of(tmp_path / "custom", is_custom=True)
