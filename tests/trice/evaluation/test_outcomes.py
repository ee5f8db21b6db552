"""`evaluate` counts right answers, calls and lost replies of both runs, as a count by hand does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from toolrlef_data import TASKS, Evaluation, InputError, evaluate, scripted
from toolrlef_data.columns import QUESTIONS
from toolrlef_data.engines.spec import Request
from toolrlef_data.trice.benchmarks.function_calls import CALLS

NAMES = ["easy", "hard", "cut", "odd"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))


def questions(**columns: list[Any]) -> Dataset:
    rest = {"task": "math", "dataset": "mine", "context": "", "answers": ["6"], "solution": "", "split_origin": "train"}
    table = Dataset.from_list([{"id": name, "question": f"{name}: 2*3?", **rest} for name in NAMES], features=QUESTIONS)
    for name, values in columns.items():
        table = table.add_column(name, values)
    return table


def reply(request: Request) -> str:
    """The easy question is right without the tool; the hard one is right by a call; the odd call does not execute."""
    text = " ".join(message.content for message in request.messages)
    is_offered = TASKS["math"].instruction in text
    name = next(name for name in NAMES if f"{name}:" in text)
    without = {"easy": "It is 6.", "hard": "It is 5.", "cut": "", "odd": "It is 7."}
    offered = {"easy": "It is 6.", "hard": "calculator(2*3)", "cut": "It is 6.", "odd": "calculator(2*)"}
    return (offered if is_offered else without)[name]


MODEL = scripted(reply, progress=False, max_failed=1.0)


def values(evaluation: Evaluation) -> dict[str, tuple[float | None, int]]:
    return {name: (found.value, found.n) for name, found in evaluation.figures().items()}


def test_the_figures_equal_a_count_by_hand() -> None:
    found = evaluate(MODEL, questions())
    assert values(found) == {
        "right without the tool": (pytest.approx(1 / 3), 3),
        "right with the tool offered": (pytest.approx(3 / 4), 4),
        "calls where the tool is needed": (1.0, 2),
        "calls where it is not needed": (0.0, 1),
        "calls that execute": (0.5, 2),
        "calls that are right": (0.5, 2),
        "no response without the tool": (0.25, 4),
        "no response with the tool offered": (0.0, 4),
    }
    assert found.rows["needs_tool"][:] == [False, True, None, True], "a lost reply says nothing about the need"
    assert "right without the tool            33.3% [" in str(found)


def test_needs_of_the_table_replace_those_of_the_run() -> None:
    labels = ["needs_tool", "indifferent", "harmed", "unsure"]
    assert evaluate(MODEL, questions(need=labels)).rows["needs_tool"][:] == [True, False, False, None]
    assert evaluate(MODEL, questions(needs_tool=[True, True, None, False])).rows["needs_tool"][:] == [
        True,
        True,
        None,
        False,
    ]
    with pytest.raises(InputError, match="both columns need and needs_tool"):
        evaluate(MODEL, questions(need=labels, needs_tool=[True] * 4))


def test_without_tools_only_the_first_run_is_made() -> None:
    found = evaluate(MODEL, questions(), tools=False)
    assert found.rows["offered"][:] == [None] * 4
    assert values(found)["calls that execute"] == (None, 0)
    assert "calls" not in str(found)


def test_differences_are_paired_by_id_in_any_order() -> None:
    first, second = evaluate(MODEL, questions()), evaluate(scripted({"": "It is 6."}, progress=False), questions())
    shuffled = Evaluation(second.rows.shuffle(seed=1), second.name)
    assert first.differences(second) == first.differences(shuffled)
    assert first.differences(second)["right with the tool offered"].value == pytest.approx(0.25)
    moved = Evaluation(first.rows.select([1, 2, 3, 0]), "moved")
    for found in first.differences(moved).values():
        assert found.value == 0.0
        assert found.low == -(found.high or 0), "four questions do not show that two models are equal"
    with pytest.raises(InputError, match="different questions"):
        first.differences(Evaluation(second.rows.select([0, 1]), "fewer"))


def test_a_plot_is_written_as_a_picture(tmp_path: Path) -> None:
    found = evaluate(MODEL, questions())
    svg = found.plot(tmp_path / "figures.svg", found).read_text()
    assert svg == found.plot(tmp_path / "again.svg", found).read_text()
    assert found.plot(tmp_path / "figures.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"ends in \.svg, \.png or \.pdf"):
        found.plot(tmp_path / "figures.txt")


def test_wrong_tables_are_errors() -> None:
    with pytest.raises(InputError, match="expected one split"):
        evaluate(MODEL, {"train": questions()})
    with pytest.raises(InputError, match="question"):
        evaluate(MODEL, questions().remove_columns("question"))


def called(*n_calls: int, name: str = "m") -> Evaluation:
    rows = [
        {**dict.fromkeys(CALLS), "id": str(i), "needs_call": False, "n_calls": n, "is_invented": False, "is_cut": False}
        for i, n in enumerate(n_calls)
    ]
    return Evaluation(Dataset.from_list(rows, features=CALLS), name, "calls")


def test_a_plot_shows_each_figure_with_its_interval(tmp_path: Path) -> None:
    path = called(0, 1, 0, 0).plot(tmp_path / "a.svg", called(1, 1, 1, 1, name="other model"))
    text = path.read_text()
    for words in ("other model", "no call where no function fits", "replies at the token limit", "100%", "no reply"):
        assert f"<!-- {words} -->" in text
    assert "right call" not in text, "a figure without rows"
    assert "<dc:date>" not in text
    with pytest.raises(InputError) as refused:
        called(0).plot(tmp_path / "a.txt")
    assert str(refused.value) == "plot: expected a file name that ends in .svg, .png or .pdf, found 'a.txt'"
