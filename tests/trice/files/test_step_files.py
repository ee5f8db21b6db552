"""One file of a step: what is read, continued and written, and the whole message about each unusable row."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from toolrlef_data.columns import GRADED, QUESTIONS, STAGE1
from toolrlef_data.records import InputError, UnknownName
from toolrlef_data.tasks import TASKS
from toolrlef_data.trice.files.response_files import read_responses
from toolrlef_data.trice.files.step_tables import (
    TRAINING_SETS,
    build_file,
    gold_row,
    graded_table,
    parse_rows,
    prompt_table,
    question_table,
    response_row,
    stage1_row,
    task_of_dataset,
    task_of_rows,
)
from toolrlef_data.trice.files.steps import Step, StepRow, describe, open_step, read_rows, unfinished_rows, write_rows

MATH, QA, MLQA, LAMA = (TASKS[name] for name in ("math", "qa", "mlqa", "lama"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(name: str, *rows: Any, end: str = "\n") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + (end if lines else ""))
    return path


def message(call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(InputError) as refused:
        call(*args, **options)
    return str(refused.value)


def rows_of(name: str, *rows: Any) -> list[StepRow]:
    return [StepRow(f"{name}, line {n}", row) for n, row in enumerate(rows, start=1)]


# Rows of a file -------------------------------------------------------------------------------------------------------

UNUSABLE: list[tuple[list[Any], tuple[str, ...], str]] = [
    (['{"id": "a"'], ("id",), "line 1: not a complete JSON object: '{\"id\": \"a\"'"),
    ([{"id": "a"}, [1]], ("id",), "line 2: not a JSON object: '[1]'"),
    (['{"id": "\\ud800"}'], ("id",), "line 1: a text with an unpaired surrogate: '{\"id\": \"\\\\ud800\"}'"),
    ([{}], ("id",), "line 1: expected the field id; found the fields (none)"),
    ([{"id": None, "b": 1}], ("id",), "line 1: expected the field id; found the fields id, b"),
    ([{"id": "a", "x": None}], ("id", "x|y"), "line 1: expected the field x or y; found the fields id, x"),
    ([{"id": ["a"]}], ("id",), "line 1: the id must be a text, found ['a']"),
    ([{"id": 1.5}], ("id",), "line 1: the id must be a text, found 1.5"),
    ([{"id": " "}], ("id",), "line 1: the id must be a text, found ' '"),
    ([{"id": [9] * 100}], ("id",), "line 1: the id must be a text, found [9" + ", 9" * 26),
    ([{"id": "1"}, {"id": 2}, {"id": 1}], ("id",), "line 3: the id '1' is also in in.json, line 1; remove one of the two rows"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "needs", "words"), UNUSABLE, ids=range(len(UNUSABLE)))
def test_unusable_rows_are_named(rows: list[Any], needs: tuple[str, ...], words: str) -> None:
    path = written("in.json", *rows)
    assert message(read_rows, path, needs=needs) == f"in.json, {words}"
    if len(rows) == 1 and not words.startswith("line 1: not a complete"):
        assert message(unfinished_rows, path, needs=needs) == f"in.json, {words}"


def test_rows_and_files_without_rows(caplog: pytest.LogCaptureFixture) -> None:
    rows: list[dict[str, Any]] = [{"id": 7, "x": 0}, {"id": "b", "y": ""}]
    path = written("in.json", rows[0], " ", rows[1], "")
    found = read_rows(path, needs=("id", "x|y"))
    assert (found, [row.id for row in found]) == ([StepRow("in.json, line 1", rows[0]), StepRow("in.json, line 3", rows[1])], ["7", "b"])  # fmt: skip
    assert [record.getMessage() for record in caplog.records] == [f"in.json, line {n}: empty, skipped" for n in (2, 4)]
    assert read_rows(written("same.json", {"x": 1}, {"x": 1}), needs=("x",))[1].row == {"x": 1}, "ids are not needed"
    empty = written("empty.json")
    assert read_rows(empty, may_be_empty=True) == unfinished_rows(empty) == unfinished_rows(Path("none.json")) == []
    for hint, end in (("", ""), ("make it", "; make it")):
        assert message(read_rows, empty, hint=hint) == f"empty.json: the file has no rows{end}"
        assert message(read_rows, Path("none.json"), hint=hint) == f"none.json: no such file{end}"
        assert message(read_rows, Path(), hint=hint) == f".: is a folder, not a file{end}"
    assert describe(found[0], "it is odd") == "in.json, line 1: it is odd; found the fields id, x"


def test_only_the_last_line_of_an_interrupted_file_may_be_incomplete(caplog: pytest.LogCaptureFixture) -> None:
    a, cut = {"id": "a"}, '{"id": "b'
    assert unfinished_rows(written("out.json", a, cut, end="")) == rows_of("out.json", a)
    assert caplog.text.strip().endswith(
        "out.json, line 2: incomplete, as after an interruption: this row is written again"
    )
    caplog.clear()
    assert unfinished_rows(written("out.json", a, end="")) == rows_of("out.json", a)
    assert caplog.text == ""
    for path in (
        written("out.json", a, cut),
        written("out.json", cut, a, end=""),
        written("out.json", a, "[1]", end=""),
    ):
        assert "JSON object" in message(unfinished_rows, path)


def test_a_step_continues_its_output_in_the_order_of_the_input() -> None:
    rows = [{"id": name, "question": f"{name}?"} for name in ("a", 2, "c", "d")]
    old = [{"id": "x", "tool": "0"}, {"id": "2", "tool": "old"}, {"id": "c", "tool": "old"}]
    source, target = written("in.json", *rows), written("out.json", *old)
    step = open_step(source, target, again=False, needs=("id", "question"), adds=("id", "tool"))
    assert step == Step(rows_of("in.json", *rows), rows_of("out.json", *old), [step.rows[0], step.rows[3]])
    new = {"a": {"id": "a", "tool": "new"}, "c": {"id": "c", "tool": "new"}}
    assert step.in_order(new) == [old[0], new["a"], old[1], old[2]]
    again = open_step(source, target, again=True, needs=("id",), adds=("other",))
    assert (again.old, again.remaining) == ([], again.rows)
    link = Path("link.json")
    link.symlink_to("in.json")
    options: dict[str, Any] = {"again": True, "needs": ("id",), "adds": ("id",)}
    assert (
        message(open_step, source, link, **options) == "link.json is both the input and the output: name another output"
    )
    Path("made").mkdir()
    assert message(open_step, source, Path("made"), **options) == "made is a folder: name a file"
    assert message(open_step, Path("none"), target, **options, hint="make it") == "none: no such file; make it"
    assert message(open_step, source, target, **{**options, "again": False, "adds": ("id", "b")}) == (
        "out.json, line 1: expected the field b; found the fields id, tool"
    )


def test_a_written_file_replaces_the_old_one_in_one_piece() -> None:
    path = written("out.json", {"id": "old"})
    inode = path.stat().st_ino

    def rows() -> Any:
        yield {"id": "ä\u2028"}
        assert json.loads(path.read_text()) == {"id": "old"}
        assert len(os.listdir()) == 2, "a scratch file beside it"
        yield {"n": [1, None]}

    write_rows(path, rows())
    assert path.read_bytes() == '{"id": "ä\u2028"}\n{"n": [1, null]}\n'.encode()
    assert (path.stat().st_ino != inode, os.listdir()) == (True, ["out.json"])

    def failing() -> Any:
        yield {"id": "new"}
        raise ValueError("stop")

    before = path.read_bytes()
    with pytest.raises(ValueError, match="stop"):
        write_rows(path, failing())
    assert (path.read_bytes(), os.listdir()) == (before, ["out.json"])


# Rows as tables -------------------------------------------------------------------------------------------------------


def test_the_task_of_a_data_set() -> None:
    tasks = {
        "math": "asdiv gsm8k svamp AddSub MultiArith",
        "lama": "T-REx",
        "mlqa": "MLQA",
        "qa": "WebQ NaturalQ TriviaQA",
    }
    for task, names in tasks.items():
        assert {task_of_dataset(name) for name in names.split()} == {task}
    assert {task_of_dataset(name) for name in TRAINING_SETS} == set(tasks)
    with pytest.raises(UnknownName, match="unknown data set 'mine'"):
        task_of_dataset("mine")


# Path, kind and row of a file -> its task
TASKS_OF_FILES: list[tuple[str, str, dict[str, Any], str]] = [
    ("raw/qa/GSM8K.json", "question", {"id": "GSM8K-1"}, "qa"),
    ("raw/MLQA/a.json", "question", {"id": "GSM8K-1"}, "mlqa"),
    ("raw/x/GSM8K_wrong.json", "wrong", {"id": "TREx-1"}, "math"),
    ("raw/x/TriviaQA_response.json", "right", {"id": "1"}, "qa"),
    ("raw/x/y.json", "question", {"id": "TREx-1"}, "lama"),
    ("raw/x/y.json", "stage1", {"instruction": MATH.instruction, "output": ""}, "math"),
    ("stage1/mix/y.json", "stage1", {"instruction": QA.instruction, "output": ""}, "qa"),
]


@pytest.mark.parametrize(("path", "kind", "row", "task"), TASKS_OF_FILES)
def test_the_task_of_a_file(path: str, kind: str, row: dict[str, Any], task: str) -> None:
    assert task_of_rows(Path(path), [StepRow("p", row), StepRow("p", {"id": "SVAMP-1"})], kind) == task


def test_a_file_of_an_unknown_task_asks_for_its_name() -> None:
    assert message(task_of_rows, Path("a/b/c.json"), [StepRow("p", {"id": "1"})], "question") == (
        "a/b/c.json: unknown task; name it with --task"
    )
    file = build_file(
        Path("a/GSM8K_wrong.json"), "u", "wrong", [StepRow("p", {"id": 7, "x": 1}), StepRow("q", {})], "r"
    )
    assert (file.path, file.name, file.responder, file.split) == ("a/GSM8K_wrong.json", "GSM8K", "r", "train")
    assert [tuple(line) for line in file.lines] == [("p", {"id": "7", "x": 1}), ("q", {})]
    assert build_file(Path("GSM8K_right.json"), "u", "right", []).name == "GSM8K"


def test_rows_of_a_file_become_tables() -> None:
    rows = rows_of("f", {"id": "SVAMP-1", "question": "q?", "input": "c\nq?", "answer": ["2"], "output": "It is 3."}, {"id": 7, "instruction": "r?", "answer": "4"})  # fmt: skip
    path = Path("raw/math/GSM8K_wrong.json")
    entries = parse_rows(path, rows, "wrong", MATH)
    assert [(e.id, e.dataset, e.text, e.kind, e.name) for e in entries] == [
        ("svamp-1", "svamp", "c\nq?", "raw", "wrong"), ("7", "gsm8k", "r?", "raw", "wrong")
    ]  # fmt: skip
    (first, second) = graded_table(MATH, entries)
    assert graded_table(MATH, entries).features == GRADED
    assert [(row["needs_tool"], row["correct"], row["pass_rate"], row["prediction"]) for row in (first, second)] == [
        (True, False, 0.0, "3"), (True, False, 0.0, None)
    ]  # fmt: skip
    assert (first["response"]["text"], second["response"]["error"]) == ("It is 3.", "not_found")
    named = parse_rows(path, rows, "question", MATH, "mine")
    assert [(e.id, e.dataset) for e in named] == [("SVAMP-1", "mine"), ("7", "mine")]
    assert [e.id for e in parse_rows(path, rows_of("f", {"id": "GSM8K-1", "question": "q"}), "question", MATH, "gsm8k")] == ["gsm8k-1"]  # fmt: skip
    table = question_table(MATH, named)
    assert (table.features, table["question"][:], table["context"][:]) == (QUESTIONS, ["q?", "r?"], ["c", ""])
    prompts = prompt_table(MATH, named, "Do it.")
    assert prompts.features == STAGE1
    assert prompts[1] == {
        **dict.fromkeys(STAGE1), "instruction": "Do it.", "input": "r?", "output": "", "id": "7", "task": "math",
        "dataset": "mine", "answers": ["4"],
    }  # fmt: skip


def test_rows_that_a_command_cannot_use() -> None:
    question: dict[str, Any] = {"question": "q?", "answer": "2"}
    assert message(parse_rows, Path("f.json"), rows_of("f", {"id": "a"}), "question", MATH) == (
        "f, line 1: no_question: `question` and `instruction` have no text; found the keys id; found the fields id"
    )
    twice = rows_of("f", {"id": "gsm8k-1", **question}, {"id": "GSM8K-1", **question})
    assert message(parse_rows, Path("f.json"), twice, "question", MATH) == (
        "f, line 2: the id 'GSM8K-1' is also in f, line 1; remove one of the rows"
    )
    other = rows_of("f", {"id": "TREx-1", **question})
    assert message(parse_rows, Path("f.json"), other, "question", MATH) == (
        "f, line 1: 'TREx-1' is a row of TREx, of the task lama, not math"
    )
    assert len(parse_rows(Path("f.json"), other, "question", TASKS["retrieval"])) == 1, "no task of the original"
    assert len(parse_rows(Path("f.json"), rows_of("f", {"id": "HotpotQA-1", **question}), "question", MATH)) == 1


# Task, row, answers of the entry -> what the row has then in `input`, `instruction`, `answer`, `answers`
RESPONSE_ROWS: list[tuple[str, dict[str, Any], list[str], dict[str, Any]]] = [
    ("math", {"answer": ["many", "2"]}, ["many", "2"], {"input": "t", "answer": "2", "answers": ["many", "2"]}),
    ("math", {"answer": "2", "input": "i"}, ["2"], {"input": "i", "answer": "2"}),
    ("math", {"answer": None}, [], {"input": "t", "answer": None}),
    ("mlqa", {"answer": 7}, ["7", "8"], {"input": "t", "answer": "7", "answers": ["7", "8"]}),
    ("qa", {"answer": "a", "input": ""}, ["a"], {"input": "t", "instruction": "t", "answer": ["a"]}),
    ("lama", {"answer": ["a"], "instruction": "x"}, ["a", "b"], {"input": "t", "instruction": "x", "answer": ["a"]}),
    ("qa", {}, [], {"input": "t", "instruction": "t"}),
]


@pytest.mark.parametrize(("task", "row", "answers", "expected"), RESPONSE_ROWS)
def test_the_row_of_a_response(task: str, row: dict[str, Any], answers: list[str], expected: dict[str, Any]) -> None:
    (entry,) = parse_rows(Path("f"), rows_of("f", {"id": "1", "question": "t"}), "question", TASKS[task])
    entry.answers = answers
    found = response_row({"id": "1", "mine": 3, **row}, entry, task, {"output": "o", "answer of": "x"})
    assert found == {"id": "1", "mine": 3, **expected, "output": "o", "answer of": "x"}


def test_the_rows_of_stage_1_and_gold() -> None:
    (row,) = rows_of("f", {"id": 5, "question": "t", "answer": ["b", "a"]})
    (entry,) = parse_rows(Path("f"), [row], "question", QA)
    line = stage1_row(row, entry, QA, " o ")
    assert line == {"instruction": QA.instruction, "input": "t", "output": " o "}
    assert gold_row(line, row, entry, QA) == {**line, "id": "5", "answer": "b"}
    assert message(stage1_row, row, entry, QA, " \n") == (
        "f, line 1: the output is empty; found the fields id, question, answer"
    )


# Folders of responses -------------------------------------------------------------------------------------------------

GOLD: dict[str, Any] = {
    "instruction": QA.instruction,
    "input": "q?",
    "output": "Bern",
    "id": "TriviaQA-1",
    "answer": "Bern",
}
RESPONSE: dict[str, Any] = {"id": "TriviaQA-1", "question": "q?", "answer": ["Bern"], "input": "q?", "response": "Rome"}


def test_folders_without_usable_responses_are_refused(folder: Path) -> None:
    data = folder / "data" / "stage2" / "qa"
    assert message(read_responses, data, QA) == f"{data}: no such folder"
    written("data/stage2/qa")
    assert message(read_responses, data, QA) == f"{data}: is a file, not a folder"
    data.unlink()
    written("data/stage2/qa/qa_gold_response.json", GOLD)
    expected = "expected names such as qa_chatgpt_response.json"
    assert message(read_responses, data, QA) == f"{data}: no response files; {expected}"
    written("data/stage2/qa/qa_b_response.json", RESPONSE)
    written("data/stage2/qa/QA_b_response.json", RESPONSE)
    assert message(read_responses, data, QA) == (
        f"{data / 'QA_b_response.json'} and {data / 'qa_b_response.json'}: two files of the responder 'b'; move one of them"
    )
    (data / "QA_b_response.json").rename(data / "new_b_response.json")
    assert message(read_responses, data, QA) == (
        f"{data / 'new_b_response.json'}: expected a name such as qa_chatgpt_response.json"
    )
    (data / "new_b_response.json").unlink()
    (data / "qa_gold_response.json").unlink()
    stage1 = folder / "data" / "stage1" / "qa" / "qa.json"
    assert (
        message(read_responses, data, QA) == f"{data}: no gold responses: expected qa_gold_response.json, or {stage1}"
    )


def test_stage_1_replaces_missing_gold_responses(folder: Path) -> None:
    written("data/stage2/qa/TriviaQA_b_response.json", RESPONSE, {**RESPONSE, "id": "TriviaQA-2", "input": "r?"})
    stage1 = {name: GOLD[name] for name in ("instruction", "input", "output")}
    default, given = written("data/stage1/qa/qa.json", stage1), written("mine.json", {**stage1, "output": "Biel"})
    for path, text in ((None, "Bern"), (given, "Biel")):
        found = read_responses(Path("data/stage2/qa"), QA, path)
        assert found.paths["gold"] == (path or folder / default)
        assert [(row["id"], row["gold"]["text"]) for row in found.rows] == [("triviaqa-1", text), ("triviaqa-2", None)]
        assert (found.answers, found.predictions, found.dropped) == ({}, {}, [])


def test_unusable_responses_are_named() -> None:
    written("qa/qa_gold_response.json", GOLD)
    place = "qa/qa_b_response.json, line 1: "
    for row, words in (
        ({"id": "TriviaQA-1"}, "expected the field output or response; found the fields id"),
        ({"response": "Rome"}, "expected the field id; found the fields response"),
        ({**RESPONSE, "response": 7}, f"no_text: response: expected text; found the fields {', '.join(RESPONSE)}"),
        ({**RESPONSE, "id": "GSM8K-1"}, "'GSM8K-1' is a row of GSM8K, of the task math, not qa"),
    ):
        written("qa/qa_b_response.json", row)
        assert message(read_responses, Path("qa"), QA) == place + words
