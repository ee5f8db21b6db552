"""`read_benchmark` reads the formats of When2Call, BFCL and When2Tool, and names the row that it cannot use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.benchmarks import BOOK, IRRELEVANT, SIMPLE, WHEN2CALL, write_bfcl, write_lines
from toolrlef_data import InputError, evaluate, scripted
from toolrlef_data.columns import QUESTIONS
from toolrlef_data.trice.benchmarks.files import read_benchmark

TASK: dict[str, Any] = {"id": 7, "difficulty": "easy", "multi_step": False, "instruction": "Answer with a number: 31+2"}
CALCULATOR = {"name": "CalculatorEnv", "tools": ["evaluate_expression"], "parameters": {}}


def test_when2call_rows_have_functions_answers_and_the_right_class(tmp_path: Path) -> None:
    kind, rows, _ = read_benchmark(write_lines(tmp_path / "rows.jsonl", WHEN2CALL))
    assert kind == "choices"
    assert [row["right"] for row in rows] == [row["correct_answer"] for row in WHEN2CALL]
    assert rows[0]["id"] == WHEN2CALL[0]["uuid"]
    assert rows[0]["functions"][0]["parameters"]["required"] == ["room"]
    assert rows[2]["functions"] == []
    assert rows[1]["answers"] == WHEN2CALL[1]["answers"]


def test_bfcl_rows_have_their_right_call_from_the_folder_beside_the_file(tmp_path: Path) -> None:
    kind, rows, _ = read_benchmark(write_bfcl(tmp_path, "BFCL_simple.json", SIMPLE))
    assert kind == "calls"
    assert [row["accepted"] for row in rows] == [accepted for _, accepted in SIMPLE]
    assert rows[0]["question"] == SIMPLE[0][0]
    assert rows[0]["dataset"] == "BFCL_simple"
    _, rows, _ = read_benchmark(write_bfcl(tmp_path, "BFCL_irrelevance.json", IRRELEVANT))
    assert [row["accepted"] for row in rows] == [None] * len(IRRELEVANT)


def test_messages_of_one_turn_are_joined(tmp_path: Path) -> None:
    turn = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "A table?"}]
    path = write_lines(tmp_path / "irrelevance.json", [{"id": "a", "question": [turn], "function": [BOOK]}])
    assert read_benchmark(path).rows[0]["question"] == "Be brief.\n\nA table?"


def test_a_separator_inside_a_text_ends_no_row(tmp_path: Path) -> None:
    row = {**WHEN2CALL[0], "question": "One\u2028two\u0085three"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n\n", "utf-8")
    assert read_benchmark(tmp_path / "rows.jsonl").rows[0]["question"] == "One\u2028two\u0085three"


@pytest.mark.parametrize("layout", ["data/tasks_v1_test.json", "tasks_v1_test.json", "single_hop/test-0.parquet"])
def test_when2tool_folders_give_questions_of_the_calculator(
    layout: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = [
        {**TASK, "environments": [CALCULATOR], "expected": {"answer": "33"}},
        {**TASK, "id": 8, "environments": [{**CALCULATOR, "name": "HashEnv"}], "expected": {"answer": "x"}},
        {**TASK, "id": 9, "environments": [CALCULATOR], "expected": {"answer": "3"}, "multi_step": True},
    ]
    path = tmp_path / layout
    path.parent.mkdir(exist_ok=True)
    if layout.endswith(".json"):
        path.write_text(json.dumps(tasks))
    else:
        flat = [
            {**TASK, "id": task["id"], "multi_step": task["multi_step"], "env_name": task["environments"][0]["name"]}
            | {"answer": task["expected"]["answer"], "tools": "[]", "parameters": "{}"}
            for task in tasks
        ]
        pq.write_table(pa.Table.from_pylist(flat), path)
    kind, _, rows = read_benchmark(tmp_path)
    assert kind == "questions"
    assert rows is not None
    assert rows.features == QUESTIONS
    assert rows["id"][:] == ["when2tool-7"]
    assert (rows["dataset"][0], rows["answers"][0]) == ("when2tool-easy", ["33"])
    assert rows["question"][0] == TASK["instruction"]
    assert "2 of 3 rows need other tools than CalculatorEnv" in caplog.text


def test_when2tool_is_evaluated_as_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    task = {**TASK, "environments": [CALCULATOR], "expected": {"answer": "33"}}
    (tmp_path / "tasks_v1_test.json").write_text(json.dumps([task, {**task, "id": 8, "expected": {"answer": "34"}}]))
    found = evaluate(scripted({"": "It is 33."}, progress=False), benchmark=tmp_path)
    assert found.figures()["right without the tool"].value == 0.5
    assert found.rows["needs_tool"][:] == [False, True], "as their labels: where the model is wrong without the tool"


UNUSABLE = [
    ({**WHEN2CALL[0], "correct_answer": "shrug"}, "row 1: expected answers with texts, one of them for 'shrug'"),
    ({**WHEN2CALL[0], "uuid": None}, "row 1: expected uuid as str, found None"),
    ({**WHEN2CALL[0], "answers": {"direct": "", "tool_call": "x"}}, "row 1: expected answers with texts"),
    ({**WHEN2CALL[0], "tools": ["{}"]}, "row 1: expected name as str"),
    ({"id": "a", "question": [[], []], "function": [BOOK]}, "row 1: expected a question with one turn, found 2"),
    ({"text": "hello"}, "expected a file of When2Call .*; found: text"),
    ({**TASK, "env_name": "HashEnv"}, "none of 1 rows of When2Tool"),
]


@pytest.mark.parametrize(("row", "message"), UNUSABLE)
def test_unusable_rows_are_named(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_benchmark(write_lines(tmp_path / "irrelevance.json", [row]))


def test_unusable_files_are_named(tmp_path: Path) -> None:
    for text, message in (
        ("", "found: no rows"),
        ("{'a': 1}", "is not JSON"),
        ("[1]", "expected JSON objects, found 1"),
    ):
        (tmp_path / "file.json").write_text(text)
        with pytest.raises(InputError, match=message):
            read_benchmark(tmp_path / "file.json")
    with pytest.raises(InputError, match="benchmark"):
        read_benchmark(3)  # type: ignore[arg-type]
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(InputError, match="is no file"):
            read_benchmark(path)


def test_bfcl_files_without_a_usable_right_call_are_refused(tmp_path: Path) -> None:
    path = write_bfcl(tmp_path, "BFCL_simple.json", SIMPLE)
    answers = tmp_path / "possible_answer" / path.name
    lines = [json.loads(line) for line in answers.read_text().split("\n")]
    write_lines(answers, lines[1:])
    with pytest.raises(InputError, match="no right call for BFCL_simple-0"):
        read_benchmark(path)
    write_lines(answers, [{"id": "BFCL_simple-0", "ground_truth": [{}, {}]}])
    with pytest.raises(InputError, match="expected one right call, found 2"):
        read_benchmark(path)
    answers.unlink()
    with pytest.raises(InputError, match=r"needs its right calls in the file .*possible_answer"):
        read_benchmark(path)


def test_types_of_other_languages_are_refused(tmp_path: Path) -> None:
    java = {"name": "f", "parameters": {"type": "dict", "properties": {"x": {"type": "HashMap"}}, "required": []}}
    row = {"id": "a", "question": [[{"role": "user", "content": "Hello"}]], "function": [java]}
    with pytest.raises(InputError, match=r"'HashMap'.*Java and JavaScript are not covered"):
        read_benchmark(write_lines(tmp_path / "irrelevance.json", [row]))
