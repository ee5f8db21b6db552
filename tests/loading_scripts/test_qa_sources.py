"""WebQuestions, NQ-open and TriviaQA: parsing of their formats, drops, and counts of real rows."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from toolrlef_data.loading_scripts import SOURCES, load_source, load_tables
from toolrlef_data.loading_scripts.command import Tables, build_tables, main
from toolrlef_data.loading_scripts.webquestions import parse_descriptions
from toolrlef_data.records import InputError


def _write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")
    return path


def _golds(tables: Tables, split: str) -> dict[str, list[str]]:
    return {row["question"]: row["answers"] for row in tables.questions[split]}


def _reasons(tables: Tables) -> dict[str, dict[str, int]]:
    counts = {split: dict(Counter(table["reason"])) for split, table in tables.dropped.items()}
    return {split: reasons for split, reasons in counts.items() if reasons}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("(list (description Oslo))", ["Oslo"]),
        ('(list (description "New Oslo"))', ["New Oslo"]),
        ('(list (description Oslo) (description "Old Oslo") (description Bergen))', ["Oslo", "Old Oslo", "Bergen"]),
        ('(list (description ""Dawn" is a fig tree"))', ['"Dawn" is a fig tree']),
        ('(list (description "she wrote "Dawn""))', ['she wrote "Dawn"']),
        ('(list (description ""All of it""))', ['"All of it"']),
        ('(list (description "Ann "Nan" Lee") (description "B C"))', ['Ann "Nan" Lee', "B C"]),
        ('(list (description "Medley ("Do we?"): Dawn / Dusk") (description Noon))', ['Medley ("Do we?"): Dawn / Dusk', "Noon"]),
        ('(list (description "Dawn ("Dusk")"))', ['Dawn ("Dusk")']),
        ('(list (description "Figs (and dates)"))', ["Figs (and dates)"]),
        ("(list (description Figs(2)))", ["Figs(2)"]),
        (r'(list (description "say \"Dawn\" twice"))', ['say "Dawn" twice']),
        ("(list (description Ann's))", ["Ann's"]),
        ("(list (description New Oslo))", ["New Oslo"]),
        ('  ( list (description a))', None),
        ('(list\n  (description a)\n  (description "b c")\n)\n', ["a", "b c"]),
        ("(list)", []),
        ('(list (description ""))', [""]),
        ("(list (number 3))", None),
        ('(list (description "a b") (date 2010 1 1))', None),
        ('(list (description "a b")', None),
        ("(list (description x) (number 3))", None),
        ("(list (description x) (number 3) (description y))", None),
        ('(list (description "x") (number 3) (description "y"))', None),
        ("(list (description x) (date 2010 1 1))", None),
        ("(list (description A))(list (description B))", None),
        ('(list (description "A"))(list (description "B"))', None),
        ('(list (description "x" ) (description y ))', ["x", "y "]),
        ('(list (description "Ab"c) (description d))', ['"Ab"c', "d"]),
        ("(list (description Figs(2)) (description a(b(c))d))", ["Figs(2)", "a(b(c))d"]),
        ("Oslo", None),
        ("", None),
    ],
)  # fmt: skip
def test_parse_descriptions(value: str, expected: list[str] | None) -> None:
    assert parse_descriptions(value) == expected


@pytest.mark.parametrize(
    "text",
    [
        '(list (description "' + '") ' * 50_000,
        "(list " + "(description " * 50_000,
        '(list (description "(' + '") (' * 50_000,
    ],
)
def test_descriptions_take_linear_time(text: str) -> None:
    assert parse_descriptions(text) is None


def test_webquestions(tmp_path: Path) -> None:
    row = {"url": "u", "utterance": "what did ann write?", "targetValue": '(list (description ""Figs" and me"))'}
    others = [
        {**row, "utterance": "who was ann?", "targetValue": "(list (number 3))"},
        {**row, "utterance": "when was ann?", "targetValue": "(list)"},
    ]
    repeated = {**row, "utterance": "What did  Ann write?"}
    _write(tmp_path / "webquestions.examples.train.json", [row, *others, repeated])
    _write(tmp_path / "webquestions.examples.test.json", [repeated, {**row, "utterance": "where was ann?"}])
    tables = load_tables("webquestions", tmp_path)
    assert _golds(tables, "train") == {"what did ann write?": ['"Figs" and me']}
    assert _golds(tables, "test") == {"where was ann?": ['"Figs" and me']}
    assert _reasons(tables) == {
        "train": {"unreadable_answer": 1, "no_answer": 1, "repeated": 1},
        "test": {"duplicate_across_splits": 1},
    }
    assert {(row["task"], row["dataset"]) for row in tables.questions["train"]} == {("qa", "webquestions")}


def test_nq_open(tmp_path: Path) -> None:
    row = {"question": "when do figs ripen", "answer": ["late\u00a0summer", "late summer", "August"]}
    _write(tmp_path / "NQ-open.dev.jsonl", f"{json.dumps(row)}\n{json.dumps(row)}\n")
    _write(tmp_path / "NQ-open.efficientqa.dev.1.1.jsonl", {"question": "who eats figs", "answer": ["Ann"]})
    tables = load_tables("nq_open", tmp_path)
    assert _golds(tables, "dev") == {"when do figs ripen": ["late summer", "August"]}
    assert _golds(tables, "efficientqa_dev") == {"who eats figs": ["Ann"]}
    assert _reasons(tables) == {"dev": {"repeated": 1}}
    with pytest.raises(InputError, match=r"the value of the key 'answer' is not a list of texts"):
        load_source("nq_open", data_dir=_write(tmp_path / "x/NQ-open.dev.jsonl", {**row, "answer": "August"}).parent)
    with pytest.raises(InputError, match=r"the key 'answer' is missing; found: question"):
        load_source("nq_open", data_dir=_write(tmp_path / "y/NQ-open.dev.jsonl", {"question": "q"}).parent)


@pytest.mark.parametrize(
    ("source", "file", "rows", "reasons"),
    [
        (
            "nq_open",
            "NQ-open.dev.jsonl",
            [
                {"question": "a", "answer": None},
                {"question": "b", "answer": [None]},
                {"question": None, "answer": ["1"]},
                {"question": None, "answer": ["1"]},
                {"question": float("nan"), "answer": ["1"]},
                {"question": True, "answer": ["1"]},
                {"question": {"a": 1}, "answer": ["1"]},
                {"question": "c", "answer": [3]},
                {"question": "d \ud800", "answer": ["1"]},
                {"question": "e", "answer": ["1", None]},
            ],
            ["no_answer"] * 2 + ["no_question"] * 2 + ["not_text"] * 4 + ["not_unicode"],
        ),
        (
            "webquestions",
            "webquestions.examples.test.json",
            [
                {"utterance": "a", "targetValue": None},
                {"utterance": None, "targetValue": "(list (description b))"},
                {"utterance": "b", "targetValue": ["b"]},
                {"utterance": "c", "targetValue": "(list (description x) (number 3))"},
                {"utterance": "d", "targetValue": "(list (description \ud800))"},
                {"utterance": "e", "targetValue": "(list (description f))"},
            ],
            ["no_answer", "no_question", "not_text", "unreadable_answer", "not_unicode"],
        ),
    ],
)
def test_incomplete_rows_are_dropped(tmp_path: Path, source: str, file: str, rows: Any, reasons: list[str]) -> None:
    folder = _write(tmp_path / file, json.dumps(rows)).parent
    tables = load_tables(source, folder)
    assert next(iter(tables.dropped.values()))["reason"][:] == reasons
    assert next(iter(tables.questions.values()))["question"][:] == ["e"]


def _trivia(*rows: tuple[str, Any]) -> dict[str, Any]:
    data = [
        {"Question": f"What is {name}?", "QuestionId": name, "EntityPages": [], "SearchResults": [{"Description": "d"}]}
        | ({} if answer is None else {"Answer": answer})
        for name, answer in rows
    ]
    return {"Data": data, "Domain": "Web", "Version": 1.0}


ANN = {
    "Aliases": ["Lee, Ann", "Ann\u00a0Lee"],
    "NormalizedAliases": ["lee ann"],
    "Value": "Ann Lee",
    "Type": "FreeForm",
}


def test_triviaqa_has_one_row_per_question(tmp_path: Path) -> None:
    verified = {**ANN, "HumanAnswers": ["Annie"]}
    _write(tmp_path / "qa/web-train.json", _trivia(("a", ANN), ("b", ANN)))
    _write(tmp_path / "qa/wikipedia-train.json", _trivia(("a", ANN)))
    _write(tmp_path / "qa/verified-web-dev.json", _trivia(("c", verified)))
    _write(tmp_path / "qa/web-dev.json", _trivia(("c", ANN), ("b", ANN)))
    _write(tmp_path / "triviaqa-unfiltered/unfiltered-web-train.json", _trivia(("b", ANN), ("d", {"Value": None})))
    _write(
        tmp_path / "qa/web-test-without-answers.json", _trivia(("e", None), ("f", {"Value": "<unk>", "Aliases": []}))
    )
    _write(tmp_path / "qa/evidence/web/web-train.json", "ignored")
    tables = load_tables("triviaqa", tmp_path)
    assert {split: table["id"][:] for split, table in tables.questions.items()} == {
        "train": ["triviaqa-a", "triviaqa-b"],
        "dev": ["triviaqa-c"],
        "test": [],
    }
    assert _reasons(tables) == {
        "train": {"repeated": 2, "no_answer": 1},
        "dev": {"repeated": 1, "duplicate_across_splits": 1},
        "test": {"no_answer": 2},
    }
    assert _golds(tables, "train")["What is a?"] == ["Ann Lee", "Lee, Ann"], "the value first, without duplicates"
    assert _golds(tables, "dev")["What is c?"] == ["Ann Lee", "Lee, Ann", "Annie"]
    data = load_source("triviaqa", split="train", data_dir=tmp_path / "qa")
    assert data["id"][:] == ["triviaqa-a", "triviaqa-b"], "data_dir can be the folder of the files"


def test_invalid_trivia_answers_are_dropped(tmp_path: Path) -> None:
    rows = [("a", {"Value": 5, "Aliases": [None, "five"]}), ("b", {"Value": ["x"]}), ("c", {"Value": {"x": 1}})]
    _write(tmp_path / "web-dev.json", _trivia(*rows, ("d", {"Value": None, "Aliases": None}), ("e", {"Value": True})))
    tables = load_tables("triviaqa", tmp_path)
    assert _golds(tables, "dev") == {"What is a?": ["5", "five"]}
    assert tables.dropped["dev"]["reason"][:] == ["not_text", "not_text", "no_answer", "not_text"]


def test_archives_in_one_folder_are_found(tmp_path: Path) -> None:
    _write(tmp_path / "triviaqa-rc/qa/web-dev.json", _trivia(("a", ANN)))
    _write(tmp_path / "triviaqa-rc/evidence/web/web-dev.json", "ignored")
    _write(tmp_path / "triviaqa-unfiltered/unfiltered-web-dev.json", _trivia(("a", ANN), ("b", ANN)))
    tables = load_tables("triviaqa", tmp_path)
    assert tables.questions["dev"]["id"][:] == ["triviaqa-a", "triviaqa-b"]
    assert tables.dropped["dev"]["detail"][:] == ["as triviaqa-rc/qa/web-dev.json, Data 1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "expected a JSON object, found list"),
        ({"data": []}, "expected a list under the key 'Data'; found the keys: data"),
        ({"Data": [3]}, "Data 1: expected a JSON object, found int"),
        ({"Data": []}, r"web-dev\.json is empty"),
        ({"Data": [{"Question": "q"}]}, "Data 1: the key 'QuestionId' is missing; found: Question"),
        ({"Data": [{"Question": "q", "QuestionId": "a", "Answer": "x"}]}, "the key 'answer': expected an object, found str"),
        ({"Data": [{"Question": "q", "QuestionId": "a", "Answer": {"Aliases": "x"}}]}, "value of the key 'Aliases' is not a list of texts"),
    ],
)  # fmt: skip
def test_invalid_trivia_files_raise_an_error_with_the_location(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_source("triviaqa", data_dir=_write(tmp_path / "web-dev.json", content).parent)


@pytest.mark.parametrize(
    ("source", "split", "row", "expected"),
    [
        ("webquestions", "test", {"url": "u", "question": "Who?", "answers": ["Ann", '"A" b']}, ["Ann", '"A" b']),
        ("nq_open", "validation", {"question": "Who?", "answer": ["Ann\u00a0Lee"]}, ["Ann Lee"]),
        (
            "triviaqa",
            "validation",
            {"question": "Who?", "question_id": "tc_1", "answer": {"aliases": ["A L"], "value": "Ann", "type": "x"}},
            ["Ann", "A L"],
        ),
    ],
)
def test_the_hubs_columns_are_supported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, split: str, row: dict[str, Any], expected: list[str]
) -> None:
    Dataset.from_list([row]).to_parquet(str(tmp_path / f"{split}.parquet"))
    monkeypatch.setattr(SOURCES[source], "hub", (str(tmp_path),))
    table = build_tables(SOURCES[source]).questions[split]
    assert (table["question"][:], table["answers"][:]) == (["Who?"], [expected])


def test_ids_of_files_and_of_the_hub_are_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"url": "u", "utterance": "Who?", "targetValue": "(list (description Ann))"}
    file = _write(tmp_path / "files/webquestions.examples.test.json", [row])
    (tmp_path / "hub").mkdir()
    Dataset.from_list([{"question": "Who?", "answers": ["Ann"]}]).to_parquet(str(tmp_path / "hub/test.parquet"))
    monkeypatch.setattr(SOURCES["webquestions"], "hub", (str(tmp_path / "hub"),))
    from_files, from_hub = (build_tables(SOURCES["webquestions"], folder) for folder in (file.parent, None))
    assert from_files.questions["test"][:] == from_hub.questions["test"][:]


def test_real_webquestions(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = load_tables("webquestions", shared / "data/webquestions")
    assert {split: len(table) for split, table in tables.questions.items()} == {"train": 3778, "test": 2032}
    assert _reasons(tables) == {}
    answers = [answer for table in tables.questions.values() for row in table["answers"] for answer in row]
    raw = [
        row["targetValue"]
        for split in ("train", "test")
        for row in json.loads((shared / f"data/webquestions/webquestions.examples.{split}.json").read_text("utf-8"))
    ]
    assert len(answers) == sum(value.count("(description ") for value in raw), "as many answers as descriptions"
    quotes = sum(value.count('"') for value in raw) - 2 * sum(value.count('(description "') for value in raw)
    assert sum(answer.count('"') for answer in answers) == quotes > 0, "all inner quotes are preserved"
    counts = [len(row) for table in tables.questions.values() for row in table["answers"]]
    assert (min(counts), max(counts)) == (1, 17)
    main("webquestions", ["--data-dir", str(shared / "data/webquestions"), "--out", str(tmp_path)])
    assert "3778 rows" in capsys.readouterr().out


def test_real_nq_open(shared: Path) -> None:
    tables = load_tables("nq_open", shared / "data/nq_open")
    assert {split: len(table) for split, table in tables.questions.items()} == {"dev": 3610, "efficientqa_dev": 1800}
    assert _reasons(tables) == {}
    raw = (shared / "data/nq_open/NQ-open.dev.jsonl").read_text("utf-8")
    assert raw.count("\u00a0") + raw.count("\\u00a0") >= 142
    answers = tables.questions["dev"]["answers"][:]
    assert not any("\u00a0" in answer for row in answers for answer in row)
    assert (min(map(len, answers)), max(map(len, answers))) == (1, 23)


def test_real_triviaqa(shared: Path, tmp_path: Path) -> None:
    tables = load_tables("triviaqa", shared / "data/triviaqa")
    assert {split: len(table) for split, table in tables.questions.items()} == {"train": 10, "dev": 6, "test": 0}
    paths = (shared / "data/triviaqa").glob("*/*.json")
    raw = [row for path in paths for row in json.loads(path.read_text("utf-8"))["Data"]]
    answered = {row["QuestionId"] for row in raw if "Answer" in row}
    assert len(answered) == 16
    unanswered = {row["QuestionId"] for row in raw} - answered
    copies = len(raw) - len(answered) - len(unanswered)
    assert len(unanswered) == 5, "each row once; copies are dropped as repeated"
    assert Counter(sum(map(Counter, _reasons(tables).values()), Counter())) == {"repeated": copies, "no_answer": 5}
    shutil.copy(shared / "data/triviaqa/merged.json", tmp_path / "web-train.json")
    merged = load_source("triviaqa", data_dir=tmp_path)
    assert len(merged) == 18
    values = {row["QuestionId"]: row["Answer"]["Value"] for row in json.loads((tmp_path / "web-train.json").read_text("utf-8"))["Data"]}  # fmt: skip
    assert {row["id"].removeprefix("triviaqa-"): row["answers"][0] for row in merged} == values
