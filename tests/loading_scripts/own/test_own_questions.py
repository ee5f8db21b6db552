"""Questions of the user: strangers' files to stage 2, wrong files and rows, and the task that travels with the table."""

from __future__ import annotations

import decimal
import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDataset, Value, load_dataset

from tests.support.hub import use_hub
from tests.support.hub_server import Repository
from toolrlef_data import (
    TASKS,
    EngineSpec,
    InputError,
    Responder,
    Task,
    answer,
    build_stage1,
    build_stage2,
    grade,
    ledger,
    lineage,
    load_source,
    make_questions,
    publish,
    respond,
    run_recipe,
    scripted,
)
from toolrlef_data.columns import QUESTIONS
from toolrlef_data.recipes.schema import Recipe


def quiet(replies: Any) -> EngineSpec:
    return scripted(replies if isinstance(replies, Mapping) else {"": replies}, progress=False)


STUDENT, ONE = quiet("It is 0."), Responder("one", quiet("It is 7."))
TEACHER = quiet({"cakes": "calculator(2*3)", "": "calculator(5+1)"})


def own(name: str = "mine", **changes: Any) -> Task:
    return replace(TASKS["math"], name=name, instruction="Solve it; you can use calculator(formula).", **changes)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def dropped(table: Dataset) -> list[tuple[str, str]]:
    return [(row["reason"], row["detail"]) for row in ledger([table])]


def write(name: str, text: str) -> str:
    Path(name).parent.mkdir(exist_ok=True, parents=True)
    Path(name).write_text(text, encoding="utf-8", errors="surrogateescape")
    return name


ROWS = [{"q": "How many cakes?", "a": 6}, {"q": "How many figs?", "a": 6.0}]
# File -> its text, the columns, and the gold answers and dropped rows that it has.
STRANGERS: dict[str, tuple[str, dict[str, Any], list[list[str]], list[tuple[str, str]]]] = {
    "prices.csv": ("problem,gold\nHow many cakes?,$6\nHow many figs?,6 litres\n", {"question": "problem", "answers": "gold"}, [["6"], ["6"]], []),
    "excel.csv": ("\ufeffFrage;Antwort\nHow many cakes?;6\nWhat share?;12%\n", {"question": "Frage", "answers": "Antwort"}, [["6"], ["12"]], []),
    "codes.csv": ("question,answers\nHow many cakes?,006\nWhich code?,007\nWho?,NA\nWho else?,None\n", {}, [["006"], ["007"]], [("unreadable_answer", "codes.csv, line 4, column 'answers': 'NA'"), ("unreadable_answer", "codes.csv, line 5, column 'answers': 'None'")]),
    "gaps.csv": ('question,answers\n"How many, of all cakes?",6\n,6\nHow many figs?,\n', {}, [["6"]], [("no_question", "gaps.csv, line 3, column 'question': it is empty"), ("no_answer", "gaps.csv, line 4, column 'answers': it is empty")]),
    "twice.tsv": ("id\tquestion\tanswers\n1\tHow many cakes?\t6\n1\tHow many cakes?\t6\n2\tHow many cakes?\t5\n", {"id": "id"}, [["6"], ["5"]], [("duplicate", "twice.tsv, line 3: it equals twice.tsv, line 2")]),
    "numbers.jsonl": ("\n".join(map(json.dumps, ROWS)), {"question": "q", "answers": "a"}, [["6"], ["6"]], []),
    "several.json": (json.dumps([{"question": "How many cakes?", "answers": ["6", "six", 6, None]}]), {}, [["6"]], []),
    "nested.json": (json.dumps([{"text": {"q": "How many cakes?"}, "gold": "steps #### 1,044"}]), {"question": lambda row: row["text"]["q"], "answers": "gold"}, [["1044"]], []),
    "lists.csv": ('question,answers\nHow many cakes?,"[""6"", ""3/4""]"\n', {}, [["6", "0.75"]], []),
    "frames.csv": ("question,answers\nHow many cakes?,\"['6', None, 3]\"\nHow many figs?,\"['6' '3']\"\n", {}, [["6", "3"]], [("not_text", "frames.csv, line 3, column 'answers': expected a list with commas, found \"['6' '3']\"")]),
    "separator.csv": ("sep=;\nquestion;answers\nHow many, of all cakes?;6\n;6\n", {}, [["6"]], [("no_question", "separator.csv, line 4, column 'question': it is empty")]),
    "header.csv": ('"Frage, auf Deutsch";"Zahl, ganz, ohne Rest"\nHow many cakes?;6\n', {"question": "Frage, auf Deutsch", "answers": "Zahl, ganz, ohne Rest"}, [["6"]], []),
    "keys.jsonl": ('{"question": "How many cakes?", "answers": 6}\n{"question": "Why?"}\n{"question": "\\ud83d", "answers": 1}', {}, [["6"]], [("no_answer", "keys.jsonl, line 2, column 'answers': the row lacks it"), ("not_unicode", "keys.jsonl, line 3, column 'question': \\ud83d")]),
    "mixed.jsonl": ('{"question": "How many cakes?", "answers": 6}\n{"question": true, "answers": "6"}\n{"answers": [[6]], "question": "Why?"}', {}, [["6"]], [("not_text", "mixed.jsonl, line 2, column 'question': expected text or a number, found True"), ("not_text", "mixed.jsonl, line 3, column 'answers': expected text or a number, found [6]")]),
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGERS)
def test_a_strangers_file_reaches_stage_2_in_ten_lines(name: str) -> None:
    text, columns, gold, drops = STRANGERS[name]
    write(name, text)
    questions = load_source(name, task="math", **columns)
    graded = grade(answer(questions, STUDENT))
    stage1 = build_stage1(graded, TEACHER, attempts=1)
    stage2 = build_stage2(respond(stage1, [ONE]))
    assert (questions.features, questions["answers"][:], dropped(questions)) == (QUESTIONS, gold, drops)
    assert len(set(questions["id"])) == len(questions) == len(graded)
    assert len(stage2) + len(ledger([stage2])) == len(gold) + len(drops), "nothing is lost"
    if ["6"] in gold:
        assert stage2["scores"][0] == [20.0, 15.0]
    assert lineage(stage2)[0]["step"] == f"source {Path(name).stem}"


@pytest.mark.parametrize(
    ("name", "text", "columns", "message"),
    [
        ("no.csv", "", {}, "no.csv is empty: it contains no rows"),
        ("head.csv", "question,answers\n", {}, "head.csv is empty: it contains no rows"),
        ("short.csv", "question,answers\nWhy?,6\nWhy not?\n", {}, "short.csv, line 3: 1 values, but the header has 2"),
        ("same.csv", "question,question\na,b\n", {}, "the header names 'question' more than once"),
        ("quote.csv", 'question,answers\n"a"b,6\n', {}, r"quote.csv, line 2: not CSV: ',' expected after"),
        ("column.csv", "q,answers\nWhy?,6\n", {}, "the table lacks the columns of question='question'; found: q, answers"),
        ("words.csv", "question,answers\nWhy?,many\nWho?,few\n", {}, "none of the 2 rows can be used: words.csv, line 2, column 'answers': 'many'"),
        ("ids.csv", "id,question,answers\n1,Why?,6\n1,Who?,7\n", {"id": "id"}, "ids.csv, line 3: the id '1' is also the id of ids.csv, line 2"),
        ("bad.jsonl", '{"question": "a"}\n{', {}, "bad.jsonl, line 2: not JSON"),
        ("fails.jsonl", '{"question": "a"}', {"answers": lambda row: row["gold"]}, "fails.jsonl, line 1: the function answers= raised KeyError: 'gold'"),
        ("bad.parquet", "x", {}, "bad.parquet is not a Parquet file"),
        ("latin.csv", "question,answers\nWhy?,6\n\udce9?,6\n", {}, "latin.csv is not UTF-8 text: .*, in line 3; save the file as UTF-8"),
        ("some.txt", "x", {}, "some.txt: unknown format '.txt'; expected one of .csv, .tsv"),
        ("some.csv.gz", "x", {}, "some.csv.gz: unknown format '.gz'"),
        ("some.xlsx/", "", {}, "some.xlsx/: no such file or folder"),
        ("some.csv", "question,answers\nWhy?,6\n", {"anwser": "a"}, "unknown option of some.csv: 'anwser'; choose from: answers, config"),
        ("none.csv", "question,answers\nWhy?,6\n", {"task": "maths"}, "unknown task 'maths'; choose from: lama, math"),
        ("revision.csv", "question,answers\nWhy?,6\n", {"revision": "main"}, "belong to data sets on the Hub"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named_with_its_row(name: str, text: str, columns: dict[str, Any], message: str) -> None:
    if not name.endswith("/"):
        write(name, text)
    with pytest.raises(InputError, match=message):
        load_source(name, **{"task": "math", **columns})


def test_the_task_of_a_file_is_required(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"my\.csv: pass task=, a Task or one of math, qa"):
        load_source(write("my.csv", "question,answers\nWhy?,6\n"))


def test_a_long_value_of_a_csv_file_is_read() -> None:
    text = "fig " * 50_000
    table = load_source(write("long.csv", f"question,answers,passage\nWhy?,6,{text}\n"), task="math", context="passage")
    assert table["context"][0] == text.strip()


def test_a_folder_has_the_splits_of_its_file_names(caplog: pytest.LogCaptureFixture) -> None:
    for name, number in (("train-1", 1), ("train-2", 2), ("vAL", 3), ("trainer", 4)):
        write(f"data/{name}.csv", f"question,answers\nHow many {name}?,{number}\n")
    for name in ("README.md", "table.xlsx", "more/train.csv"):
        write(f"data/{name}", "x")
    options: dict[str, Any] = {"task": "math", "dataset": "figs"}
    train = load_source("data", split="train", **options)
    assert "data: not read: more, table.xlsx; formats that are read: .csv" in caplog.text
    assert (train["answers"][:], set(train["dataset"])) == ([["1"], ["2"], ["4"]], {"figs"})
    assert load_source("data/", split="validation", **options)["split_origin"][:] == ["validation"]
    with pytest.raises(InputError, match="data/: split= is missing; choose from: train, validation"):
        load_source("data/", **options)


def test_a_parquet_file_has_its_types() -> None:
    Dataset.from_list([{"q": "How many cakes?", "a": 6}, {"q": "How many?", "a": None}]).to_parquet("figs.parquet")
    columns: dict[str, Any] = {"question": "q", "answers": "a", "task": "math"}
    assert load_source("figs.parquet", **columns)["answers"][:] == [["6"]]


def test_data_sets_on_the_hub() -> None:
    Dataset.from_list([{"q": "How many cakes?", "a": 6}]).to_parquet("rows.parquet")
    columns: dict[str, Any] = {"question": "q", "answers": "a", "task": own("codes", clean_answer=None)}
    with use_hub() as hub:
        for name, files in (
            ("org/codes", {"train.csv": b"q,a\nWhich code?,007\n", "test.csv": b"q,a\nWho?,NA\n"}),
            ("org/figs", {"train.parquet": Path("rows.parquet").read_bytes()}),
        ):
            hub.repositories[name] = Repository()
            hub.repositories[name].commit("main", "first", files)
        table = load_source("hub:org/codes", split="train", **columns)
        assert (table["answers"][:], table["dataset"][:]) == ([["007"]], ["codes"])
        assert load_source("hub:org/figs", revision="main", **columns)["answers"][:] == [["6"]]
        assert (
            lineage(load_source("hub:org/figs", revision="main", **columns))[0]["settings"]["read_from"]
            == "org/figs@main"
        )
        with pytest.raises(
            InputError, match=r"none of the 1 rows can be used: hub:org/codes, test\.csv, line 2, .*'NA'"
        ):
            load_source("hub:org/codes", split="test", **{**columns, "task": "math"})
        for name, options, message in (
            ("hub:org/codes", {}, "split= is missing; choose from: train, test"),
            ("hub:org/codes", {"split": "dev"}, "unknown split 'dev'; choose from: train, test"),
            ("hub:org/none", {}, "hub:org/none: .*org/none"),
            ("hub:org/figs", {"config": "big"}, "hub:org/figs: .*big"),
        ):
            with pytest.raises(InputError, match=message):
                load_source(name, **columns, **options)


def test_a_table_in_memory_has_the_same_rows_as_a_file() -> None:
    rows = [{"question": "How many cakes?", "answers": "$6"}, {"question": "How many figs?", "answers": "1,044"}]
    data = Dataset.from_list(rows)
    tables = [
        rows,
        data,
        pd.DataFrame(rows),
        IterableDataset.from_generator(lambda: iter(rows)),
        data.with_format("numpy"),
        pa.table(data.with_format("arrow")[:]),  # exports Arrow, as a frame of Polars
    ]
    made = [make_questions(table, task="math", rows=2) for table in tables]
    assert {tuple(table["id"]) for table in made} == {tuple(made[0]["id"])}
    assert [table["answers"][:] for table in made] == [[["6"], ["1044"]]] * 6
    splits = make_questions(DatasetDict(train=data, test=data.select([1])), task="math")
    assert (len(splits["train"]), len(splits["test"])) == (2, 0)
    assert dropped(splits["test"]) == [("duplicate", "test, row 1: it equals train, row 2")]


def test_labels_have_their_names() -> None:
    features = Features({"question": Value("string"), "answers": ClassLabel(names=["no", "yes"])})
    data = Dataset.from_dict({"question": ["Is it?", "Was it?"], "answers": [1, None]}, features=features)
    table = make_questions(data, task="qa")
    assert (table["answers"][:], dropped(table)) == ([["yes"]], [("no_answer", "row 2, column 'answers': it is empty")])


def test_values_of_frames_are_cast() -> None:
    values = [np.int64(6), np.float64(6.0), decimal.Decimal("6.50"), 6.25, np.array([6, 7]), pd.NA, float("nan")]
    frame = pd.DataFrame({"question": [f"How many {n}?" for n in range(7)], "answers": values}, dtype=object)
    table = make_questions(frame, task="math")
    assert table["answers"][:] == [["6"], ["6"], ["6.50"], ["6.25"], ["6", "7"]]
    assert [reason for reason, _ in dropped(table)] == ["no_answer", "no_answer"]


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ([{"question": "a"}, 3], {}, "row 2: expected a dict, found int"),
        ({"question": ["a"]}, {}, "a dict of columns is Dataset.from_dict"),
        ("my.csv", {}, r"load_source\('my.csv', ...\) reads a file"),
        (7, {}, "expected a Dataset, DatasetDict, IterableDataset, pandas or Polars frame, Arrow table, or a list of dicts, found int"),
        ([], {"rows": 0}, "rows: expected a whole number above 0, found 0"),
        ([], {"question": 3}, "question: expected the name of a column or a function, found int"),
        ([], {"dataset": " "}, "dataset: expected a name"),
        ([], {"task": 3}, "task: expected a Task or a name in TASKS, found int"),
        (IterableDataset.from_generator(lambda: iter(ROWS)), {}, "may have no end: pass rows="),
        (pd.DataFrame([["a", "b"]], columns=["q", "q"]), {}, "several columns named q"),
        (pd.Series(["a"]), {}, "or a list of dicts, found Series"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_refused(table: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_questions(table, **{"task": "math", **options})


def test_left_out_gold_answers_are_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        make_questions([{"question": "Why?", "answers": ["6", "many"]}], task="math")
    assert "row 1, column 'answers': 'many' (the other answers are kept)" in caplog.text


def test_a_table_of_a_stage_keeps_its_lineage_and_may_change_its_task() -> None:
    source = load_source("sample", split="train").select(range(3))
    named = make_questions(load_source("sample", split="train"), task=own(), id="id", solution="solution", rows=3)
    assert named["id"][:] == source["id"][:]
    assert [record["step"] for record in lineage(named)] == ["source sample", "make_questions"]


def recipe_of(source: dict[str, Any]) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "Prices", "version": "1.0.0", "out": "recipe", "sources": [source],
            "engines": {"student": STUDENT, "teacher": TEACHER, "one": ONE.engine}, "student": {"engine": "student"},
            "teachers": ["teacher"], "attempts": 1, "responders": [{"name": "one", "engine": "one"}],
        }
    )  # fmt: skip


def test_the_first_rows_of_a_source_keep_its_dropped_rows() -> None:
    write("few.csv", "question,answers\nHow many cakes?,6\nWhy?,NA\nHow many figs?,6\nHow many pears?,6\n")
    run = run_recipe(recipe_of({"name": "few.csv", "task": "math", "rows": 2}))
    assert run.questions["question"][:] == ["How many cakes?", "How many figs?"]
    expected = [("unreadable_answer", "few.csv, line 3, column 'answers': 'NA'")]
    assert dropped(run.stage2) == expected
    published = load_dataset(str(run.out), "math-dropped", split="train")
    assert [(row["reason"], row["detail"]) for row in published] == expected


def test_a_recipe_with_the_same_file_publishes_equal_bytes() -> None:
    columns = {"question": "problem", "answers": "gold"}
    write("prices.csv", "problem,gold\nHow many cakes?,$6\nHow many figs?,6 litres\nWhy?,NA\n")
    stage1 = build_stage1(
        grade(answer(load_source("prices.csv", task="math", **columns), STUDENT)), TEACHER, attempts=1
    )
    stage2 = build_stage2(respond(stage1, [ONE]))
    card = {"title": "Prices"}
    by_hand = publish({"math": {"stage1": stage1, "stage2": stage2}}, "hand", version="1.0.0", card=card)
    run_recipe(recipe_of({"name": "prices.csv", "task": "math", **columns}))
    tables = {path.relative_to(by_hand): path.read_bytes() for path in by_hand.rglob("*.parquet")}
    assert tables == {path.relative_to("recipe"): path.read_bytes() for path in Path("recipe").rglob("*.parquet")}
    first, second = (json.loads(Path(folder, "provenance.json").read_text()) for folder in ("hand", "recipe"))
    assert first["stages"] == second["stages"]
    assert first["configs"] == second["configs"]
