"""The bundled sample is varied, and every number in it is right."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

import toolrlef_data
from toolrlef_data.annotations import compose
from toolrlef_data.tools.calculator import calculate

ROWS = [
    json.loads(line)
    for line in (Path(toolrlef_data.__file__).parent / "samples/math.jsonl").read_text(encoding="utf-8").splitlines()
]


def test_every_annotation_executes_to_its_result() -> None:
    for row in ROWS:
        for formula, result in re.findall(r"<<([^=<>]*)=([^<>]*)>>(?=[^<]*)", row["solution"]):
            if "h" not in formula:  # one row has an unknown on purpose
                assert calculate(formula) == pytest.approx(float(result)), row["id"]


def test_the_solution_ends_in_the_answer() -> None:
    for row in ROWS:
        assert row["solution"].rpartition("#### ")[2].replace(",", "") == row["answer"], row["id"]


def test_ids_and_questions_are_unique() -> None:
    assert [row["id"] for row in ROWS] == [f"sample-{n:03d}" for n in range(1, len(ROWS) + 1)]
    assert len({row["question"] for row in ROWS}) == len(ROWS) >= 130


@pytest.mark.parametrize("rows", [ROWS, ROWS[:80]], ids=["all", "the demo's first 80"])
def test_it_is_varied(rows: list[dict[str, str]]) -> None:
    steps = Counter(row["solution"].count("<<") for row in rows)
    assert all(steps[n] >= 0.02 * len(rows) for n in (1, 2, 3)), steps
    answers = [float(row["answer"]) for row in rows]
    assert sum(answer < 0 for answer in answers) >= 2
    assert sum(answer >= 1000 for answer in answers) >= 4
    assert sum(answer != int(answer) for answer in answers) >= 3
    assert sum(row["question"].startswith("What is ") for row in rows) >= 0.15 * len(rows), "easy ones"
    assert sum("%" in row["question"] for row in rows) >= 3


def test_most_compose_and_the_rest_says_why() -> None:
    reasons = Counter(compose(row["question"], row["solution"], [row["answer"]]).reason for row in ROWS)
    assert 0.9 <= reasons.pop(None) / len(ROWS) < 1
    assert len(reasons) >= 3, reasons
