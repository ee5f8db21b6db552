"""Every line that is written from rich tables, and every row that is read from rich files, as in tests/fixtures/trails.

TOOLRLEF_RENEW=1 writes them again: read the difference before a commit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, Features

from tests.trice.test_golden_trails import FOLDER, lines_of
from toolrlef_data import TASKS, InputError, Tool, scripted
from toolrlef_data.columns import GRADED, LABELLED, QUESTIONS, RESPONSE, STAGE1, STAGE2
from toolrlef_data.engines.responses import build_response
from toolrlef_data.tables.lineage import lineage
from toolrlef_data.trice.files.lines import answer_text, dataset_unit
from toolrlef_data.trice.files.loader import load_trice
from toolrlef_data.trice.files.response_files import called_arguments, read_responses, score_responses, stage2_rows
from toolrlef_data.trice.files.writer import check_tables, write_trice

Row = dict[str, Any]


def check(name: str, lines: list[str]) -> None:
    """Compare JSON texts with those in a fixture."""
    path = FOLDER / f"{name}.jsonl"
    if os.environ.get("TOOLRLEF_RENEW"):
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    expected = path.read_text(encoding="utf-8").splitlines()
    for line, golden in zip(lines, expected, strict=False):
        assert json.loads(line) == json.loads(golden)
        assert list(json.loads(line)) == list(json.loads(golden)), "the order of the keys"
    assert len(lines) == len(expected)


def write(folder: Path, files: Mapping[str, list[Any]]) -> Path:
    for name, rows in files.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


# Written files --------------------------------------------------------------------------------------------------------

QUESTION: Row = {"task": "math", "context": "", "solution": "not written", "split_origin": "train"}
QUESTION_ROWS: dict[str, Row] = {
    "right": {**QUESTION, "id": "gsm8k-1", "dataset": "gsm8k", "question": "1+1?", "context": "Ann adds.", "answers": ["2"]},
    "wrong": {**QUESTION, "id": "svamp-2", "dataset": "svamp", "question": "3*4?", "answers": ["12", "12.0"]},
    "lost": {**QUESTION, "id": "own 3", "dataset": "gsm8k", "question": "5+5?", "answers": ["10"]},
    "untold": {**QUESTION, "id": "GSM8K_4", "dataset": "gsm8k", "question": "6-1?", "answers": ["$1,5", "5"]},
    "homeless": {**QUESTION, "id": "5", "dataset": "", "question": "8/2?", "answers": []},
    "facts": {**QUESTION, "id": "trex-6", "task": "lama", "dataset": "trex", "question": "Etna is in ?", "answers": ["Sicily", "Italy"]},
    "riddle": {**QUESTION, "id": "r-7", "task": "riddles", "dataset": "mine", "question": "Why?", "context": "It is so.", "answers": ["So"]},
    "short": {**QUESTION, "id": "r-8", "task": "riddles", "dataset": "mine", "question": "What?", "answers": ["That"]},
    "foreign": {**QUESTION, "id": "mlqa-9#de", "task": "mlqa", "dataset": "mlqa", "question": "Wo ist Zürich?", "context": "In Bern.", "answers": ["Bern", "Berna"]},
}  # fmt: skip


def questions(*names: str) -> Dataset:
    return Dataset.from_list([QUESTION_ROWS[name] for name in names], features=QUESTIONS)


def graded_rows() -> list[Row]:
    """Return a right and a wrong row, one whose reply is lost, one without the text, and one without a data set."""
    grades = {"right": (False, True, "It is 2."), "wrong": (True, False, "It is 7."), "lost": (None, None, None)}
    grades |= {"untold": (None, True, None), "homeless": (True, False, "No.")}
    rows = []
    for name, (needs_tool, correct, text) in grades.items():
        response = {
            **build_response(None, text=text),
            "correct": correct,
            "error": "timeout" if name == "lost" else None,
        }
        row: Row = {"response": response, "samples": [], "prediction": None, "correct": correct, "pass_rate": None}
        rows.append({**QUESTION_ROWS[name], **row, "needs_tool": needs_tool})
    return rows


def target(name: str, output: str, uses_tool: bool, **changes: Any) -> Row:
    row = QUESTION_ROWS[name]
    text = f"Context: {row['context']}\nQuestion: {row['question']}" if row["task"] == "mlqa" else row["question"]
    columns = {key: row[key] for key in ("id", "task", "dataset", "answers")}
    texts = {"instruction": f"Do {row['task']}.", "input": text, "output": output}
    return {**texts, **columns, "uses_tool": uses_tool, "source": "teacher", "verified_by": "value", **changes}


def stage1(*rows: Row) -> Dataset:
    return Dataset.from_list(list(rows), features=STAGE1)


def responded(*rows: tuple[Row, Mapping[str, str | None]]) -> Dataset:
    names = list(rows[0][1])
    filled: list[Row] = []
    for row, texts in rows:
        responses = {name: build_response(None, text=texts[name]) for name in names}
        for name in names:
            responses[name]["error"] = "too_long" if texts[name] is None else None
        filled.append({**row, **responses})
    return Dataset.from_list(filled, features=Features(**STAGE1, **dict.fromkeys(names, RESPONSE)))


def stage2(name: str, scores: list[float]) -> Dataset:
    row = {**dict.fromkeys(STAGE2), **{key: QUESTION_ROWS[name][key] for key in ("id", "task", "dataset", "answers")}}
    row |= {"query": "Do it.\nNow?", "responses": ["a", "b"], "origin": ["gold", "x"], "scores": scores}
    return Dataset.from_list([{**row, "answer": ["2", None], "uses_tool": [True, False]}], features=STAGE2)


def tables() -> dict[str, dict[str, Dataset]]:
    right, wrong = target("right", "It is 2.", False), target("wrong", "calculator(3*4)", True)
    homeless, foreign = target("homeless", "calculator(8/2)", True), target("foreign", "translator(Wo?)", True)
    facts = target("facts", "QA(Etna)", True)
    labels: Row = {**dict.fromkeys(LABELLED), "attempts": 1, "rejected": []}
    labelled = [{**labels, **QUESTION_ROWS["facts"], "needs_tool": True, "tool_call": call, "verified": verified}
                for call, verified in (("QA(Etna)", True), ("QA(Rome)", False), ("QA(?)", None), (None, None))]  # fmt: skip
    for row in labelled:
        row |= {"response": build_response(None), "samples": [], "correct": False}
    return {
        "math": {
            "graded": {"train": Dataset.from_list(graded_rows(), features=GRADED)},
            "stage1": {"train": stage1(right, wrong, homeless), "test": stage1(target("untold", "5", False))},
            "responded": {
                "train": responded(
                    (right, {"gold": "It is 2.", "chatgpt": " 2", "far": None}),
                    (homeless, {"gold": None, "chatgpt": "x", "far": "y"}),
                )
            },
            "stage2": {"train": stage2("right", [20.0, 7.5]), "test": stage2("wrong", [20.0, 0.0])},
        },
        "lama": {
            "labelled": {"train": Dataset.from_list(labelled, features=LABELLED)},
            "responded": {"test": responded((facts, {"gold": "QA(Etna)", "chatgpt": None}))},
        },
        "mlqa": {
            "stage1": {"train": stage1(foreign)},
            "stage2": {"train": stage2("foreign", [20.0, 15.0])},
            "responded": {"train": responded((foreign, {"chatgpt": "Bern"}))},
            "questions": {"train": questions("foreign"), "dev": questions("foreign"), "test": questions("foreign")},
        },
        "riddles": {"questions": {"train": questions("riddle"), "dev": questions("short")}},
    }


DROPPED_ROWS = [
    ("svamp-9", "math", "svamp", "stage1", "no_call", "b"),
    ("svamp-9", "math", "svamp", "stage1", "no_call", "a"),
    ("svamp-9", "math", "svamp", "stage1", "leaks_answer", ""),
    ("svamp-9", "math", "svamp", "answer", "no_question", ""),
    ("svamp-8", "math", "svamp", "stage2", "empty", ""),
    ("asdiv-9", "math", "asdiv", "stage2", "empty", ""),
    ("trex-9", "lama", "trex", "stage2", "empty", ""),
]


@pytest.mark.parametrize("by_dataset", [False, True])
def test_every_line_of_every_table(by_dataset: bool, tmp_path: Path) -> None:
    dropped = [
        dict(zip(("id", "task", "dataset", "stage", "reason", "detail"), row, strict=True)) for row in DROPPED_ROWS
    ]
    write_trice(tmp_path, tables(), dropped, **({"by_dataset": True} if by_dataset else {}))
    paths = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    lines = [
        json.dumps({"file": path.relative_to(tmp_path).as_posix(), **json.loads(line)}, ensure_ascii=False)
        for path in paths
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    check("files_by_dataset" if by_dataset else "files_by_task", lines)
    unit = "MLQA" if by_dataset else "mlqa"
    assert "Zürich" in (tmp_path / "stage1" / unit / f"{unit}.json").read_text(encoding="utf-8")


# Read files -----------------------------------------------------------------------------------------------------------


def raw(name: str, question: str, answer: Any, **more: Any) -> Row:
    return {"id": name, "question": question, "answer": answer, "input": question, **more}


def gold(name: str, instruction: str, text: str, output: str, answer: Any) -> Row:
    return {"instruction": instruction, "input": text, "output": output, "id": name, "answer": answer}


MATH = "Given a math problem, please answer it and you can use a calculator for help."
FILES: dict[str, list[Any]] = {
    "data/raw/math/GSM8K_right": [
        raw("GSM8K-1", "1+1?", "2", output="It is 2."),
        raw("GSM8K-2", "2+2?", 4),
        raw("GSM8K-8", "How many?", "8", input="Ann has 8.\nHow many?", output="8 pens"),
    ],
    "data/raw/math/GSM8K_wrong": [
        raw("GSM8K-3", "3+3?", ["6", "6.0", None, ""], output="It is 9."),
        raw("GSM8K-4", "4*4?", "16", instruction="4*4?"),
        raw("GSM8K-4", "4*5?", "20"),
    ],
    "data/raw/math/SVAMP": [raw("SVAMP-1", "7-2?", "5"), {"id": "SVAMP-2", "instruction": "7-3?", "answers": ["4", "four"], "answer": "4"}],
    "data/raw/qa/NaturalQuestions": [raw("x:TriviaQA-5", "Where?", ["Bern"]), raw("plain", "Who?", ["Ada"])],
    "data/stage1/math/GSM8K_wrong": [raw("GSM8K-3", "3+3?", "6", tool="calculator(3+3)"), raw("GSM8K-7", "7*7?", "49", tool="calculator(7*7)")],
    "data/stage1/math/math": [
        {"instruction": MATH, "input": "2+2?", "output": "It is 4."},
        {"instruction": MATH, "input": "3+3?", "output": "calculator(3+3)"},
        {"instruction": MATH, "input": "9+9?", "output": "calculator(9+9)"},
    ],
    "data/stage1/mix/any name": [
        {"instruction": MATH, "input": "9+9?", "output": "calculator(9+9)"},
        {"instruction": TASKS["mlqa"].instruction, "input": "Context: In Bern.\nQuestion: Wo?", "output": "translator(Wo?)"},
        {"instruction": "Sing.", "input": "la", "output": "la"},
    ],
    "data/stage2/math/Math_gold_response": [
        gold("GSM8K-3", MATH, "3+3?", "calculator(3+3)", "6.0"),
        gold("GSM8K-2", MATH, "2+2?", "It is 4.", "4"),
    ],
    "data/stage2/math/math_zeta_response": ["acc: 0.5", raw("GSM8K-2", "2+2?", "4", response="4"), raw("GSM8K-3", "3+3?", "6", response=None)],
    "data/stage2/math/GSM8K_davinci_response": [
        raw("GSM8K-3", "3+3?", ["6"], output=" calculator(3+3)"),
        raw("GSM8K-5", "5+5?", "10", output="It is 10."),
        raw("GSM8K-5", "5+5?", "10", output="It is 11."),
        '{"id": "GSM8K-6", "output": "',
    ],
    "data/stage2/math/math": [
        {"query": f"{MATH}\n3+3?", "responses": ["calculator(3+3)", "6"], "origin": ["gold", "zeta"], "scores": [20, 15.5], "answer": ["6.0", None]},
        {"query": f"{MATH}\nnew?", "responses": ["1"], "origin": ["gold"], "scores": [20], "answer": [["1", "one"]]},
        {"query": f"{MATH}\n7-2?", "responses": ["5"], "origin": ["gold"], "scores": [20], "answer": ["5.0"]},
    ],
    "data/stage2/mix/all": [
        {"query": f"{TASKS['mlqa'].instruction}\nContext: In Bern.\nQuestion: Wo?", "responses": ["translator(Wo?)"], "origin": ["gold"], "scores": [20]},
    ],
    "data/dev/lama/lama": [raw("TREx-1", "Etna is in ?", ["Sicily"]), {"instruction": "Use QA(q).", "input": "Rome is in ?", "output": "QA(Rome)"}],
    "data/dev/math/math_test": [raw("ASDiv-1", "1*1?", "1")],
    "data/dropped": [
        {"id": "GSM8K-3", "task": "math", "dataset": "gsm8k", "stage": "publish", "reason": "no_reply", "detail": "zeta: timeout"},
        {"id": "GSM8K-2", "task": "math", "dataset": "gsm8k", "stage": "publish", "reason": "no_reply", "detail": "echo: server"},
        {"id": "GSM8K-77", "task": "math", "dataset": "gsm8k", "stage": "publish", "reason": "no_reply", "detail": "zeta: refused"},
        {"id": "TREx-9", "task": "lama", "dataset": "trex", "stage": "answer", "reason": "no_question", "detail": None},
        {"id": "q", "task": "songs", "dataset": None, "stage": "answer", "reason": "no_question", "detail": ""},
    ],
}  # fmt: skip


def test_every_row_of_every_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (write(tmp_path, {**FILES, "data/raw/qa/empty": []}) / "data" / "notes").mkdir()
    loaded = load_trice(tmp_path)
    flat = {
        f"{task} {name} {split}": table
        for task, task_tables in loaded.items()
        for name, splits in task_tables.items()
        for split, table in (splits if isinstance(splits, DatasetDict) else {"train": splits}).items()
    }
    check("files_read", lines_of(flat))
    (record,) = (record for record in lineage(flat["lama stage1 dev"]) if record["step"] == "load_trice")
    places = {"dev/lama/lama.json": 2}
    assert record["settings"] == {"files": places, "fields": {}, "summary_lines": {}, "not_read": ["notes"]}
    assert (record["inputs"], record["rows_in"], record["rows_out"]) == ([], 5, 2)
    assert record["dropped"] == {"no_question": 2, "unknown_task": 1}
    (record,) = (record for record in lineage(flat["math stage2 train"]) if record["step"] == "load_trice")
    assert record["settings"]["fields"] == {"zeta": "response", "davinci": "output"}
    assert record["settings"]["summary_lines"] == {"stage2/math/math_zeta_response.json": "acc: 0.5"}
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path}: ignored, since these contain no rows of TRICE's stages: notes",
        f"{tmp_path}: these files contain no rows: raw/qa/empty.json",
    ]


# Response files -------------------------------------------------------------------------------------------------------

QA = TASKS["qa"].instruction
RESPONSES: dict[str, list[Any]] = {
    "qa/qa_gold_response": [gold(f"TriviaQA-{n}", QA, f"q{n}?", "WikiSearch(Bern)", "Bern") for n in (1, 2, 3)],
    "qa/QA_zeta_response": [
        raw("TriviaQA-2", "q2?", ["Bern"], response="WikiSearch(x)", pred=["Bern", "Rome"]),
        raw("TriviaQA-1", "q1?", ["Bern"], response="It is Rome.", pred=[]),
        raw("TriviaQA-3", "q3?", ["Bern"], response="I ask WikiSearch. Bern", pred=None),
    ],
    "qa/TriviaQA_chatgpt_response": [
        raw("TriviaQA-1", "q1?", ["Bern"], output="WikiSearch(Rome)"),
        raw("TriviaQA-2", "q2?", ["Bern"], output="Bern it is."),
        raw("TriviaQA-3", "q3?", ["Bern"], output="Rome", pred="Bern city"),
        raw("TriviaQA-4", "q4?", ["Bern"], output="Rome", pred="Bern"),
    ],
}


@pytest.mark.parametrize("compat", [True, False])
def test_response_files_are_read_executed_and_scored(compat: bool, tmp_path: Path) -> None:
    files = read_responses(write(tmp_path, RESPONSES) / "qa", TASKS["qa"])
    assert {name: path.name for name, path in files.paths.items()} == {
        "gold": "qa_gold_response.json",
        "chatgpt": "TriviaQA_chatgpt_response.json",
        "zeta": "QA_zeta_response.json",
    }
    ids = [f"triviaqa-{n}" for n in (1, 2, 3, 4)]
    assert files.predictions == {
        (ids[1], "zeta"): ["Bern"],
        (ids[0], "zeta"): ["[]"],
        (ids[2], "zeta"): [""],
        (ids[2], "chatgpt"): ["Bern city"],
        (ids[3], "chatgpt"): ["Bern"],
    }
    assert files.answers == dict.fromkeys(ids[:3], "Bern")
    assert called_arguments(files, TASKS["qa"]) == ["WikiSearch(Rome)"]
    tool = Tool("WikiSearch", "Searches.", str.strip)
    task = replace(TASKS["qa"], tool=tool, reader=scripted({"Rome": "It is Rome.", "": "Bern"}, progress=False))
    scored = score_responses(files, task, compat=compat)
    lines = [json.dumps(row, ensure_ascii=False) for row in stage2_rows(scored, files, compat=compat)]
    check(f"response_files_{'compat' if compat else 'fixed'}", lines + lines_of({"stage2": scored}))


UNUSABLE: list[tuple[dict[str, list[Any]], str]] = [
    (
        {"stage2/math/math_answers_response": [raw("1", "q", "2", output="2")]},
        "{folder}: stage2/math/math_answers_response.json: the responder 'answers' has the name of a column: rename it",
    ),
    (
        {"stage1/songs/songs": [{"instruction": "Sing.", "output": "la"}]},
        "{folder}: stage1/songs/songs.json, line 1: the file has no usable row: unknown_task: 'Sing.'; pass task= with the "
        "task that has this instruction",
    ),
    (
        {"raw/math/GSM8K_wrong": [{"id": 1}, {"id": 2}]},
        "{folder}: raw/math/GSM8K_wrong.json, line 1: the file has no usable row: no_question: '`question` and `instruction` "
        "have no text; found the keys id'",
    ),
    ({"raw/math/GSM8K_wrong": []}, "{folder} contains no rows of TRICE's stages"),
    (
        {"raw/math/GSM8K_wrong": [raw("1", "q", "2")], "dropped": [{"id": "1"}]},
        "dropped.json, line 1: not a row of a ledger; expected the keys id, task, dataset, stage, reason, detail",
    ),
    (
        {"raw/math/GSM8K_wrong": [raw("1", "q", "2")], "dropped": [[1]]},
        "dropped.json, line 1: not a row of a ledger; expected the keys id, task, dataset, stage, reason, detail",
    ),
]


@pytest.mark.parametrize(("files", "message"), UNUSABLE, ids=range(len(UNUSABLE)))
def test_the_whole_message_about_an_unusable_folder(files: dict[str, list[Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        load_trice(write(tmp_path, files))
    assert str(refused.value) == message.format(folder=tmp_path)


def test_one_task_is_no_mix(tmp_path: Path) -> None:
    write_trice(tmp_path, {"math": tables()["math"]}, [])
    assert sorted(path.name for path in (tmp_path / "stage1").iterdir()) == ["math"]
    assert sorted(path.name for path in (tmp_path / "stage2").iterdir()) == ["math"]


def test_tables_that_cannot_be_written() -> None:
    odd = Dataset.from_dict({"id": ["a"], "other": [1]})
    with pytest.raises(InputError) as refused:
        check_tables({"math": {"mine": {"train": odd}}})
    assert str(refused.value) == (
        "the table 'mine' of 'math' cannot be written as TRICE's files: expected a questions, graded, labelled, stage1, "
        "responded or stage2 table, found the columns id, other"
    )
    answered = questions("right").add_column("response", ["x"])
    with pytest.raises(InputError, match="the table 'a' of 'math' cannot be written"):
        check_tables({"math": {"a": {"train": answered}}})
    with pytest.raises(InputError) as refused:
        check_tables({"math": {"a": {"train": questions("right")}, "b": {"dev": questions("right")}}})
    assert str(refused.value) == (
        "the tables 'a' and 'b' of 'math' would be written to the same files: publish one of them"
    )
    assert check_tables(tables()) is None  # type: ignore[func-returns-value]
    for name in (".x", " ", "a/b", "a\\b", "a:b", 'a"b', "a<b", "a>b", "a|b", "a?b", "a*b", "a\tb"):
        with pytest.raises(InputError) as refused:
            dataset_unit({"dataset": name}, "math")
        assert str(refused.value) == f"{name!r} cannot be part of a file name: rename that responder or data set"
    assert [dataset_unit({"dataset": name}, "math") for name in ("", "gsm8k", "a.b c")] == ["math", "GSM8K", "a.b c"]
    texts = [
        answer_text({"task": "math", "answers": answers})
        for answers in (["many", "5"], ["x"], [], ["1,000"], ["-2.50"])
    ]
    assert texts == ["5", "x", "", "1,000", "-2.50"]
    assert [answer_text({"task": "qa", "answers": answers}) for answers in (["a", "b"], [])] == ["a", ""]
