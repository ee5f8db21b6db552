"""Written files have the keys and types that the original's evaluator and scorer read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, Features

from toolrlef_data import TASKS, InputError, load_trice, publish
from toolrlef_data.columns import GRADED, LABELLED, QUESTIONS, RESPONSE, STAGE1, STAGE2
from toolrlef_data.engines.responses import build_response
from toolrlef_data.tables.lineage import ledger
from toolrlef_data.trice.files.names import UPSTREAM_TASKS, normalise_id

Row = dict[str, Any]

# Task -> data set, gold answers, tool call. The evaluator reads `answer` as one text in math and mlqa, as a list in qa
# and lama.
ROWS: dict[str, tuple[str, list[str], str]] = {
    "math": ("asdiv", ["1,234", "1234.0"], "calculator(1200+34)"),
    "mlqa": ("mlqa", ["Sicily", "Sicilia"], "translator(Wo liegt der Etna?)"),
    "qa": ("triviaqa", ["Turin", "Torino"], "WikiSearch(Mole)"),
    "lama": ("trex", ["Turin"], "QA(Where is the Mole?)"),
}
ONE_TEXT = {"math", "mlqa"}


def target(task: str, **more: Any) -> Row:
    dataset, answers, call = ROWS[task]
    shared = {"id": f"{dataset}-1", "task": task, "dataset": dataset, "answers": answers}
    texts = {"instruction": TASKS[task].instruction, "input": "Context: C.\nQuestion: Q?", "output": call}
    return {**shared, **texts, "uses_tool": True, "source": "teacher", "verified_by": "value", **more}


def responded(*rows: Row, **texts: str | None) -> Dataset:
    """Return a table of responders with the same text in every row; None is a missing response."""
    columns = {"gold": rows[0]["output"], **texts}
    filled = [{**row, **{name: build_response(None, text=text) for name, text in columns.items()}} for row in rows]
    for row in filled:
        row.update({name: {**row[name], "error": "not_found"} for name, text in texts.items() if text is None})
    return Dataset.from_list(filled, features=Features(**STAGE1, **dict.fromkeys(columns, RESPONSE)))


def wrong(task: str) -> Dataset:
    row = target(task)
    shared = {name: row[name] for name in ("id", "task", "dataset", "answers")}
    question = {"question": "Q?", "context": "C.", "solution": "", "split_origin": "train"}
    response = {**build_response(None, text="I do not know."), "correct": False}
    grades = {"prediction": None, "correct": False, "pass_rate": 0.0, "needs_tool": True}
    return Dataset.from_list([{**shared, **question, "response": response, "samples": [], **grades}], features=GRADED)


def read_lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def publish_files(folder: Path, task: str, tables: Mapping[str, Any], layout: str = "trice") -> dict[str, list[Row]]:
    publish({task: dict(tables)}, folder, version="1.0.0", layout=layout)
    return {path.relative_to(folder).as_posix(): read_lines(path) for path in sorted(folder.rglob("*_*.json"))}


@pytest.mark.parametrize(
    ("layout", "task", "unit", "prefix"),
    [
        ("trice", "math", "math", "Math"),  # the scorer opens {--data_path}/{--task}_{responder}_response.json
        ("trice", "mlqa", "mlqa", "MLQA"),
        ("trice", "qa", "qa", "QA"),
        ("trice", "lama", "lama", "LAMA"),
        ("trice-old", "math", "ASDiv", "ASDiv"),  # the older scorer takes the name of the folder
        ("trice-old", "mlqa", "MLQA", "MLQA"),
        ("trice-old", "qa", "TriviaQA", "TriviaQA"),
        ("trice-old", "lama", "TREx", "TREx"),
    ],
)
def test_response_files_have_the_names_that_the_scorer_opens(
    layout: str, task: str, unit: str, prefix: str, tmp_path: Path
) -> None:
    names = ["chatgpt", "davinci", "vicuna", "alpaca"]
    stage1, table = Dataset.from_list([target(task)], features=STAGE1), responded(target(task), **dict.fromkeys(names, "57"))  # fmt: skip
    for tables in ({"responded": table}, {"responded": table, "stage1": stage1}):
        folder = tmp_path / "-".join(tables)
        files = publish_files(folder, task, tables, layout)
        assert sorted(name for name in files if name.startswith("stage2/")) == sorted(
            f"stage2/{unit}/{prefix}_{name}_response.json" for name in ["gold", *names]
        )
        assert load_trice(folder)[task]["responded"].column_names[-5:] == ["gold", *names]


@pytest.mark.parametrize("layout", ["trice", "trice-old"])
@pytest.mark.parametrize("task", ROWS)
def test_answers_are_one_text_or_a_list(task: str, layout: str, tmp_path: Path) -> None:
    tables = {"graded": wrong(task), "responded": responded(target(task), chatgpt="57", alpaca=ROWS[task][2])}
    files = publish_files(tmp_path, task, tables, layout)
    answers = ROWS[task][1]
    for name, rows in files.items():
        expected = answers[0] if task in ONE_TEXT or name.endswith("_gold_response.json") else answers
        assert [row["answer"] for row in rows] == [expected], name
    loaded = load_trice(tmp_path)[task]
    assert loaded["responded"]["answers"][:] == [answers], "the other gold answers are in the files"
    assert loaded["graded"]["answers"][:] == [answers]


def test_responses_are_in_the_field_that_the_evaluator_reads(tmp_path: Path) -> None:
    files = publish_files(tmp_path, "math", {"responded": responded(target("math"), chatgpt=" 57", davinci=None)})
    (row,) = files["stage2/math/Math_chatgpt_response.json"]
    assert (row["response"], row["output"]) == (" 57", " 57")
    assert "stage2/math/Math_davinci_response.json" not in files, "the evaluator cannot read a missing response"
    again = publish_files(tmp_path / "again", "math", load_trice(tmp_path)["math"])
    assert again["stage2/math/Math_chatgpt_response.json"] == [row], "an API stays an API"


def test_files_with_other_fields_load(tmp_path: Path) -> None:
    """Earlier versions wrote `answer` as a list everywhere, and responses of APIs in `output` alone."""
    golds = [{k: target("math")[k] for k in ("instruction", "input", "output")} | {"id": f"GSM8K-{n}", "answer": "57"} for n in (1, 2)]  # fmt: skip
    shared: list[Row] = [
        {"id": f"GSM8K-{n}", "question": "Q?", "answer": ["57", "57.0"], "input": "Q?"} for n in (1, 2)
    ]
    texts: dict[str, list[Row]] = {
        "api": [{"output": "57"}, {"output": "58"}],
        "local": [{"output": "57", "response": "57"}, {"output": "57", "response": "58"}],
        "evaluated": [{"output": "57", "response": "57", "pred": 57.0}, {"output": "58", "response": "58", "pred": 58.0}],
    }  # fmt: skip
    folder = tmp_path / "stage2/math"
    folder.mkdir(parents=True)
    for name, rows in {"gold": golds, **{name: [a | b for a, b in zip(shared, texts[name], strict=True)] for name in texts}}.items():  # fmt: skip
        (folder / f"math_{name}_response.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = load_trice(tmp_path)["math"]["responded"]
    assert table["answers"][:] == [["57", "57.0"]] * 2
    for name in texts:
        assert [response["text"] for response in table[name]] == ["57", "58"], name
    files = publish_files(tmp_path / "again", "math", {"responded": table})
    outputs = {name: "output" in files[f"stage2/math/Math_{name}_response.json"][0] for name in texts}
    assert outputs == {"api": True, "local": False, "evaluated": True}, "one row decides that a responder is local"


@pytest.mark.parametrize(("layout", "unit"), [("trice", "math"), ("trice-old", "ASDiv")])
def test_calls_of_stage1_are_written_beside_the_wrong_rows(layout: str, unit: str, tmp_path: Path) -> None:
    stage1 = Dataset.from_list([target("math"), target("math", id="asdiv-2", uses_tool=False)], features=STAGE1)
    files = publish_files(tmp_path, "math", {"graded": wrong("math"), "stage1": stage1}, layout)
    (row,) = files[f"stage1/{unit}/ASDiv_wrong.json"]
    assert row == {**files[f"raw/{unit}/ASDiv_wrong.json"][0], "tool": "calculator(1200+34)"}
    without = publish_files(tmp_path / "without", "math", {"graded": wrong("math")}, layout)
    assert f"stage1/{unit}/ASDiv_wrong.json" not in without


@pytest.mark.parametrize(
    ("dataset", "row_id", "expected"),
    [
        ("gsm8k", "gsm8k-train-7", "GSM8K-train-7"),  # ids of this package
        ("gsm8k", "GSM8K_7", "GSM8K_7"),  # ids of the original
        ("gsm8k", "7", "GSM8K:7"),  # the evaluator counts right rows by the name in the id
        ("nq_open", "my gsm8k row", "NaturalQuestions:my gsm8k row"),
        ("mine", "7", "7"),  # the original does not know the data set
        ("", "7", "7"),
    ],
)
def test_ids_contain_the_name_of_the_data_set(dataset: str, row_id: str, expected: str, tmp_path: Path) -> None:
    row = {"id": row_id, "task": "math", "dataset": dataset, "question": "Q?", "context": "", "answers": ["1"], "solution": "", "split_origin": "train"}  # fmt: skip
    questions = Dataset.from_list([row], features=QUESTIONS)
    publish({"math": {"questions": questions}}, tmp_path, version="1.0.0", layout="trice")
    (path,) = (tmp_path / "raw/math").glob("*.json")
    assert [line["id"] for line in read_lines(path)] == [expected]
    assert normalise_id(dataset, expected) == row_id
    assert load_trice(tmp_path)["math"]["questions"]["id"][:] == [row_id]


@pytest.mark.parametrize(
    ("answers", "first"),
    [
        (["1,234"], "1,234"),  # the original removes commas
        (["many", "5"], "5"),  # the original stops at a gold answer that is no number
        (["-2.50", "5"], "-2.50"),
    ],
)
def test_the_answer_in_math_is_a_number(answers: list[str], first: str, tmp_path: Path) -> None:
    files = publish_files(tmp_path, "math", {"responded": responded(target("math", answers=answers), alpaca="57")})
    assert {row["answer"] for rows in files.values() for row in rows} == {first}
    assert set(load_trice(tmp_path)["math"]["responded"]["answers"][0]) == set(answers)


@pytest.mark.parametrize(("task", "answers"), [("math", ["many"]), ("math", []), ("qa", ["", "?"])])
def test_rows_whose_gold_answer_stops_the_evaluator_are_in_the_ledger(
    task: str, answers: list[str], tmp_path: Path
) -> None:
    rows = [target(task), target(task, id="bad", answers=answers)]
    files = publish_files(tmp_path, task, {"responded": responded(*rows, alpaca="57")})
    assert len(files[f"stage2/{task}/{UPSTREAM_TASKS[task]}_alpaca_response.json"]) == 1
    assert {row["id"] for row in ledger([load_trice(tmp_path)[task]["responded"]])} == {"bad"}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("layout", ["trice", "trice-old"])
def test_a_rejected_call_is_no_target(layout: str, split: str, tmp_path: Path) -> None:
    """`verified` is null for a call that was not executed, as are all calls of the original's files."""
    verified = {"right": True, "wrong": False, "unknown": None}
    (row,) = wrong("math")
    rows = [
        {**row, "id": f"asdiv-{name}", "tool_call": f"calculator({name})", "verified": value}
        for name, value in {**verified, "none": None}.items()
    ]
    rows[-1]["tool_call"] = None
    rows = [{**dict.fromkeys(LABELLED), "attempts": 1, "rejected": [], **row} for row in rows]
    table = DatasetDict({split: Dataset.from_list(rows, features=LABELLED)})
    files = publish_files(tmp_path, "math", {"labelled": table}, layout)
    (targets,) = [lines for lines in files.values() if "tool" in lines[0]]
    assert [line["tool"] for line in targets] == ["calculator(right)", "calculator(unknown)"]
    (all_wrong,) = [lines for lines in files.values() if "tool" not in lines[0]]
    assert len(all_wrong) == len(rows)


@pytest.mark.parametrize("layout", ["trice", "trice-old"])
def test_scores_that_are_whole_are_written_as_whole_numbers_and_others_unchanged(layout: str, tmp_path: Path) -> None:
    """With `ties="share"`, a score can be a fraction; the original's files have whole numbers only."""
    scores = [20.0, 12.5, 0.0, -2.5]
    names = ["gold", "a", "b", "c"]
    row = {**dict.fromkeys(STAGE2), "id": "asdiv-1", "task": "math", "dataset": "asdiv", "answers": ["3"]}
    row |= {"query": "Add.\n1+2?", "responses": ["3", "4", "5", "6"], "origin": names, "scores": scores}
    row |= {"answer": ["3"] * 4, "uses_tool": [False] * 4}
    table = Dataset.from_list([row], features=STAGE2)
    publish({"math": {"stage2": table}}, tmp_path, version="1.0.0", layout=layout)
    unit = "math" if layout == "trice" else "ASDiv"
    (line,) = read_lines(tmp_path / f"stage2/{unit}/{unit}.json")
    assert json.dumps(line["scores"]) == "[20, 12.5, 0, -2.5]"
    assert load_trice(tmp_path)["math"]["stage2"]["scores"][:] == [scores]


@pytest.mark.parametrize("layout", ["trice", "trice-old"])
def test_each_gold_response_is_written_once(layout: str, tmp_path: Path) -> None:
    """Stage 1 and the responses both have the gold responses; a row of the responses alone has none in stage 1."""
    row = target("math")
    both = Dataset.from_list([row], features=STAGE1)
    files = publish_files(tmp_path / "both", "math", {"stage1": both, "responded": responded(row, alpaca="57")}, layout)
    alone = publish_files(tmp_path / "alone", "math", {"responded": responded(row, alpaca="57")}, layout)
    for written in (files, alone):
        (golds,) = [lines for name, lines in written.items() if name.endswith("_gold_response.json")]
        assert [line["output"] for line in golds] == [row["output"]]


@pytest.mark.parametrize("dataset", [".hidden", " ", "a/b", "a\\b", "a:b", "a\nb"])
def test_a_data_set_whose_name_cannot_be_that_of_a_file_is_refused(dataset: str, tmp_path: Path) -> None:
    """A folder with a dot at its start would not be read again."""
    table = Dataset.from_list([target("math", dataset=dataset)], features=STAGE1)
    with pytest.raises(InputError, match="cannot be part of a file name"):
        publish({"math": {"stage1": table}}, tmp_path / "out", version="1.0.0", layout="trice-old")


def test_the_id_of_two_questions_is_refused(tmp_path: Path) -> None:
    """The files know a question by its id: the call of one split would be written beside the question of another."""
    rows = [target("math", id="1", dataset="mine", input=text) for text in ("1+1?", "2+2?")]
    splits = DatasetDict(
        {name: Dataset.from_list([row], features=STAGE1) for name, row in zip("ab", rows, strict=True)}
    )
    with pytest.raises(InputError, match=r"have the id '1', .*: one of them is '2\+2\?'; give"):
        publish({"math": {"stage1": splits}}, tmp_path / "out", version="1.0.0", layout="trice")
    splits["b"] = splits["a"]
    publish({"math": {"stage1": splits}}, tmp_path / "out", version="1.0.0", layout="trice")
    assert load_trice(tmp_path / "out")["math"]["stage1"].num_rows == {"a": 1, "b": 1}, "the same question"


def test_the_answer_of_the_gold_response_is_the_first_gold_answer(tmp_path: Path) -> None:
    row = {"id": "TriviaQA-1", "instruction": TASKS["qa"].instruction, "input": "Q?", "output": "WikiSearch(Q)"}
    raw = {"id": "TriviaQA-1", "question": "Q?", "answer": ["Turin", "Torino", "Taurinum"], "input": "Q?"}
    for name, line in {"stage2/qa/QA_gold_response": {**row, "answer": "Torino"}, "raw/qa/TriviaQA_wrong": raw}.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / f"{name}.json").write_text(json.dumps(line) + "\n")
    stage1 = load_trice(tmp_path)["qa"]["stage1"]
    assert stage1["answers"][:] == [["Torino", "Turin", "Taurinum"]]


@pytest.mark.parametrize("first", ["raw/qa/TriviaQA_wrong", "stage2/qa/QA_alpaca_response"])
def test_the_longest_list_of_gold_answers_counts_in_any_order_of_the_files(first: str, tmp_path: Path) -> None:
    row = {"id": "TriviaQA-1", "question": "Q?", "input": "Q?", "response": "Turin"}
    for name in ("raw/qa/TriviaQA_wrong", "stage2/qa/QA_alpaca_response"):
        answers = ["Turin"] if name == first else ["Turin", "Torino"]
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / f"{name}.json").write_text(json.dumps({**row, "answer": answers}) + "\n")
    tables = load_trice(tmp_path)["qa"]
    assert {tuple(answers) for table in tables.values() for answers in table["answers"]} == {("Turin", "Torino")}
