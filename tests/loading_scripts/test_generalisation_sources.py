"""The held-out data sets: MultiArith, AddSub, LAMA's SQuAD and HotpotQA, each from upstream's files."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from toolrlef_data.columns import DROPPED, QUESTIONS
from toolrlef_data.loading_scripts import load_source, load_tables
from toolrlef_data.loading_scripts.base import Question
from toolrlef_data.loading_scripts.multiarith import Multiarith
from toolrlef_data.records import InputError
from toolrlef_data.trice.annotations.composer import compose

FIXTURES = Path(__file__).parents[1] / "fixtures"
UPSTREAM_ROWS = {
    "multiarith": {"test": 4},
    "addsub": {"test": 4},
    "squad": {"test": 8},  # 7 rows, one of them with two sentences
    "hotpotqa": {"train": 4, "dev": 4, "test": 1},
}


def rows_of(source: str, folder: Path = FIXTURES, split: str = "test", **options: Any) -> list[tuple[str, str, str]]:
    data = load_source(source, split=split, data_dir=folder, **options)
    return [(row["id"], row["question"], " | ".join(row["answers"])) for row in data]


def reasons_of(source: str, split: str = "test", **options: Any) -> dict[str, str]:
    dropped = load_tables(source, data_dir=FIXTURES, **options).dropped[split]
    return dict(zip(dropped["id"], dropped["reason"], strict=True))


def write_rows(folder: Path, name: str, rows: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(rows), encoding="utf-8")
    return folder


@pytest.mark.parametrize("source", sorted(UPSTREAM_ROWS))
def test_usable_and_dropped_rows_add_up_to_upstreams(source: str) -> None:
    tables = load_tables(source, FIXTURES)
    for split, count in UPSTREAM_ROWS[source].items():
        assert len(tables.questions[split]) + len(tables.dropped[split]) == count
        assert (tables.questions[split].features, tables.dropped[split].features) == (QUESTIONS, DROPPED)
        assert all(row_id.startswith(f"{source}-") for row_id in tables.questions[split]["id"])
        assert all(row["answers"] and row["context"] == "" for row in tables.questions[split])


@pytest.mark.parametrize(
    ("source", "task"), [("multiarith", "math"), ("addsub", "math"), ("squad", "lama"), ("hotpotqa", "retrieval")]
)
def test_each_source_has_its_task(source: str, task: str) -> None:
    data = load_source(source, split="dev" if source == "hotpotqa" else "test", data_dir=FIXTURES)
    assert {(row["task"], row["dataset"]) for row in data} == {(task, source)}


def test_multiarith() -> None:
    assert rows_of("multiarith") == [
        (
            "multiarith-test-1",
            "Olga baked 31 rolls and 14 buns. By noon 22 of them were sold. How many were left?",
            "23",  # 23.0 upstream
        ),
        ("multiarith-test-2", "Each of 4 jars and 1 can holds 2.5 liters. How many liters do they hold?", "12.5"),
    ]
    data = load_source("multiarith", data_dir=FIXTURES)
    assert data["solution"][:] == ["((31.0+14.0)-22.0)", "(2.5*(4.0+1.0))"], "without 'X ='"
    assert reasons_of("multiarith") == {"multiarith-test-3": "several_answers", "multiarith-test-4": "no_answer"}


def test_addsub() -> None:
    data = load_source("addsub", data_dir=FIXTURES)
    assert data["answers"][:] == [["39"], ["1.25"], ["5"]]
    assert data["solution"][:] == ["64 - 25", "0.75 + 0.5", "7 = X + 2"], "an unknown inside the equation is preserved"
    assert reasons_of("addsub") == {"addsub-test-4": "not_a_number"}


@pytest.mark.parametrize("source", ["multiarith", "addsub"])
def test_equations_compose_into_calls(source: str) -> None:
    for row in load_source(source, data_dir=FIXTURES):
        if "X" not in row["solution"]:
            assert compose(row["question"], row["solution"], row["answers"]).formula, row["solution"]


@pytest.mark.parametrize("copies", [0, 1])
def test_ids_do_not_depend_on_the_numbering_of_rows(copies: int, tmp_path: Path) -> None:
    rows = json.loads((FIXTURES / "AddSub.json").read_text(encoding="utf-8"))
    folder = write_rows(tmp_path / "a", "AddSub.json", [{**row, "iIndex": copies} for row in rows])
    assert rows_of("addsub", folder) == rows_of("addsub")


def test_multiarith_supports_the_hubs_columns() -> None:
    row = {"question": "What is 4 + 5?", "final_ans": "9", "hub_config": ""}
    (question,) = Multiarith(FIXTURES).rows(row, "multiarith-test-1", "location")
    assert question == Question("multiarith-test-1", "What is 4 + 5?", ("9",))


def test_multiarith_keeps_one_row_of_a_question(tmp_path: Path) -> None:
    def row(question: str, solution: str) -> dict[str, Any]:
        return {"sQuestion": question, "lSolutions": [solution], "lEquations": [f"X={solution}"]}

    rows = [
        row("How many figs? ", "9"),
        row("How many  figs ?", "9"),  # other blanks and punctuation are no other question
        row("How many pears?", "9"),
        row("how many figs?", "9"),
        {"sQuestion": "How many nuts?", "lSolutions": []},
        row("How many nuts?", "3"),  # the first usable row of a question remains
    ]
    folder = write_rows(tmp_path / "repeats", "MultiArith.json", rows)
    assert [row_id for row_id, *_ in rows_of("multiarith", folder)] == [f"multiarith-test-{n}" for n in (1, 3, 6)]
    dropped = load_source("multiarith", "dropped", data_dir=folder)
    assert list(zip(dropped["id"], dropped["reason"], strict=True)) == [
        ("multiarith-test-1", "repeated"),
        ("multiarith-test-1", "repeated"),
        ("multiarith-test-5", "no_answer"),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "row 1: the key 'sQuestion' is missing"),
        ({"sQuestion": "q"}, "row 1: the key 'lSolutions' is missing; found: sQuestion"),
        ({"sQuestion": "q", "lSolutions": "9"}, "expected a list .* found: '9'"),
        ({"sQuestion": "q", "lSolutions": [[9]]}, r"found: \[\[9\]\]"),
        ({"sQuestion": "q", "lSolutions": [9], "lEquations": "X=9"}, "'lEquations'; found: 'X=9'"),
    ],
)
def test_invalid_word_problems_raise_an_error_with_the_location(
    row: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        load_source("addsub", data_dir=write_rows(tmp_path / "bad", "AddSub.json", [row]))


@pytest.mark.parametrize("source", ["multiarith", "addsub"])
def test_incomplete_word_problems_are_dropped(source: str, tmp_path: Path) -> None:
    rows = [
        {"sQuestion": "q", "lSolutions": None},
        {"sQuestion": "r", "lSolutions": [None]},
        {"sQuestion": None, "lSolutions": [1]},
        {"sQuestion": ["q"], "lSolutions": [1]},
        {"sQuestion": "s", "lSolutions": [1], "lEquations": None},
    ]
    folder = write_rows(tmp_path / "null", "AddSub.json" if source == "addsub" else "MultiArith.json", rows)
    assert rows_of(source, folder) == [(f"{source}-test-5", "s", "1")]
    reasons = ["no_answer", "no_answer", "no_question", "not_text"]
    assert load_source(source, "dropped", data_dir=folder)["reason"][:] == reasons


def test_squad() -> None:
    assert rows_of("squad") == [
        ("squad-aa01_0", "The old mill by the river was driven by ?", "water"),
        ("squad-aa03_0#1", "A loaf is made of ?", "flour"),
        ("squad-aa03_0#2", "Bread is baked from ?", "flour"),
    ]
    assert reasons_of("squad") == {
        "squad-aa01_1": "mask_not_final",
        "squad-aa02_0": "mask_first",
        "squad-aa04_0": "several_masks",
        "squad-aa05_0": "no_mask",
        "squad-aa06_0": "no_mask",
    }


def test_squad_can_truncate_at_the_mask() -> None:
    rows = rows_of("squad", cut=True)
    assert ("squad-aa01_1", "In the village fair a ?", "parrot") in rows
    assert len(rows) + len(reasons_of("squad", cut=True)) == UPSTREAM_ROWS["squad"]["test"]
    assert rows_of("squad") != rows, "the option is in the cache key"


def test_squad_drops_repeated_sentences_and_nulls(tmp_path: Path) -> None:
    row = {"id": "a", "obj_label": "figs", "masked_sentences": ["Ann eats [MASK].", "Ann eats [MASK] daily.", None]}
    rows = [row, {**row, "id": "b", "obj_label": None}, {**row, "id": "c", "masked_sentences": None}]
    folder = write_rows(tmp_path / "twice", "test.jsonl", rows)
    assert rows_of("squad", folder, cut=True) == [("squad-a#1", "Ann eats ?", "figs")]
    dropped = load_source("squad", "dropped", data_dir=folder, cut=True)
    assert dropped["reason"][:] == ["repeated", "no_answer", "no_answer", "no_mask"]
    assert dropped["detail"][0] == "as squad-a#1"


@pytest.mark.parametrize("subfolder", [".", "Squad", "data/Squad"])
def test_squad_is_found_in_all_subfolders(tmp_path: Path, subfolder: str) -> None:
    (tmp_path / subfolder).mkdir(parents=True, exist_ok=True)
    shutil.copy(FIXTURES / "Squad/test.jsonl", tmp_path / subfolder / "test.jsonl")
    assert rows_of("squad", tmp_path) == rows_of("squad")


def test_hotpotqa() -> None:
    assert rows_of("hotpotqa", split="train") == [
        ("hotpotqa-5ab0", "On which river does the town of the Harbour Tower lie?", "the Ore"),
        ("hotpotqa-5ab3", 'Which band sang "Yes and No" in Lindow?', "Yes Men"),
    ]
    assert reasons_of("hotpotqa", "train") == {"hotpotqa-5ab1": "yes_no", "hotpotqa-5ab2": "yes_no"}
    assert reasons_of("hotpotqa", "test") == {"hotpotqa-5ad0": "no_answer"}
    rows = rows_of("hotpotqa", split="train", keep_yes_no=True)
    assert [answer for _, _, answer in rows] == ["the Ore", "yes", "No", "Yes Men"]


def test_incomplete_rows_of_hotpotqa_are_dropped(tmp_path: Path) -> None:
    rows = [{"_id": "a", "question": "q", "answer": None}, {"_id": "b", "question": None, "answer": "x"}]
    folder = write_rows(
        tmp_path / "null", "hotpot_train_v1.1.json", [*rows, {"_id": "c", "question": "q", "answer": ["x"]}]
    )
    assert load_source("hotpotqa", "dropped", data_dir=folder)["reason"][:] == ["no_answer", "no_question", "not_text"]
    texts = ["No.", "YES!", "yes men", "No. 1"]
    rows = [{"_id": f"d{i}", "question": f"q {i}", "answer": text} for i, text in enumerate(texts)]
    folder = write_rows(tmp_path / "yes", "hotpot_train_v1.1.json", rows)
    assert [answer for _, _, answer in rows_of("hotpotqa", folder, split="train")] == ["yes men", "No. 1"]


def test_a_question_of_both_dev_files_is_one_row() -> None:
    dropped = load_tables("hotpotqa", data_dir=FIXTURES).dropped["dev"]
    assert rows_of("hotpotqa", split="dev") == [("hotpotqa-5ac0", "Who built the red tower in Lindow?", "Ada Birch")]
    assert Counter(dropped["reason"])["repeated"] >= 1
    assert "duplicate_across_splits" in dropped["reason"], "a question of train is not in dev"


def test_hotpotqa_supports_the_hubs_columns(tmp_path: Path) -> None:
    rows = json.loads((FIXTURES / "hotpot_train_v1.1.json").read_text(encoding="utf-8"))
    renamed = [{"id" if key == "_id" else key: value for key, value in row.items()} for row in rows]
    folder = write_rows(tmp_path / "hub", "hotpot_train_v1.1.json", renamed)
    assert rows_of("hotpotqa", folder, "train") == rows_of("hotpotqa", split="train")


@pytest.mark.parametrize("source", sorted(UPSTREAM_ROWS))
def test_unknown_options_are_an_error(source: str) -> None:
    with pytest.raises(InputError, match="unknown option 'trim'"):
        load_source(source, split="test", data_dir=FIXTURES, trim=True)
