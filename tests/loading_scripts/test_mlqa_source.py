"""MLQA: English paragraphs, questions in other languages, and ids that several languages share."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from toolrlef_data.loading_scripts import SOURCES, load_source, load_tables
from toolrlef_data.loading_scripts.command import build_tables, main
from toolrlef_data.records import InputError


def _write_file(folder: Path, name: str, *questions: tuple[str, str, list[str]], **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    qas = [
        {"id": row_id, "question": text, "answers": [{"text": gold, "answer_start": 0} for gold in golds]}
        for row_id, text, golds in questions
    ]
    paragraphs = [{"context": "No questions here.", "qas": []}, {"context": " Figs ripen in late summer.", "qas": qas}]
    content = {**more, "data": [{"title": "Fig", "paragraphs": paragraphs}, {"title": "Empty", "paragraphs": []}]}
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize("subfolder", [".", "dev", "MLQA_V1/dev"])
def test_files_are_found_in_upstreams_folders(tmp_path: Path, subfolder: str) -> None:
    _write_file(
        tmp_path / subfolder,
        "dev-context-en-question-zh.json",
        ("7d", "无花果何时成熟？", ["late summer"]),
        version=1.0,
    )
    _write_file(
        tmp_path / subfolder,
        "dev-context-en-question-es.json",
        ("7d", "¿Cuándo maduran?", ["late summer", "late summer"]),
    )
    _write_file(tmp_path / subfolder, "dev-context-en-question-en.json", ("7d", "When do figs ripen?", ["late summer"]))
    _write_file(tmp_path / subfolder, "dev-context-de-question-es.json", ("7d", "ignored", ["x"]))
    data = load_source("mlqa", data_dir=tmp_path)
    assert [(row["id"], row["question"], row["answers"]) for row in data] == [
        ("mlqa-7d#es", "¿Cuándo maduran?", ["late summer"]),
        ("mlqa-7d#zh", "无花果何时成熟？", ["late summer"]),
    ]
    assert set(data["context"]) == {"Figs ripen in late summer."}
    assert {(row["task"], row["dataset"]) for row in data} == {("mlqa", "mlqa")}
    dropped = load_source("mlqa", "dropped", data_dir=tmp_path)
    assert list(zip(dropped["id"], dropped["reason"], strict=True)) == [("mlqa-7d#en", "same_language")]


def test_a_question_in_several_languages_is_in_one_split_only(tmp_path: Path) -> None:
    _write_file(tmp_path, "dev-context-en-question-es.json", ("7d", "¿Cuándo?", ["summer"]))
    _write_file(
        tmp_path,
        "test-context-en-question-zh.json",
        ("7d", "何时？", ["summer"]),
        ("8e", "谁？", []),
        ("9f", "谁？", ["Ann"]),
    )
    tables = load_tables("mlqa", tmp_path)
    assert {split: table["id"][:] for split, table in tables.questions.items()} == {
        "dev": ["mlqa-7d#es"],
        "test": ["mlqa-9f#zh"],
    }
    assert tables.dropped["test"]["reason"][:] == ["duplicate_across_splits", "no_answer"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"version": 1.0}, "expected a list under the key 'data'"),
        (
            {"data": [{"title": "t"}]},
            "data 1: expected a list of objects under the key 'paragraphs'; found the keys: title",
        ),
        (
            {"data": [{"paragraphs": [{"context": "c"}]}]},
            "data 1, paragraph 1: expected a list of objects under the key 'qas'",
        ),
        ({"data": [{"paragraphs": [{"qas": [{"id": "a"}]}]}]}, "paragraph 1: the key 'context' is missing"),
        (
            {"data": [{"paragraphs": [{"context": "c", "qas": [{"id": "a", "question": "q"}]}]}]},
            "paragraph 1, question 1: the key 'answers' is missing; found: id, question",
        ),
        ({"data": [{"paragraphs": [{"context": "c", "qas": []}]}]}, "is empty: it contains no rows"),
    ],
)
def test_invalid_files_raise_an_error_with_the_location(tmp_path: Path, content: Any, message: str) -> None:
    (tmp_path / "dev-context-en-question-es.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_source("mlqa", data_dir=tmp_path)


def test_incomplete_rows_are_dropped(tmp_path: Path) -> None:
    answers = [{"text": "a"}]
    qas: list[dict[str, Any]] = [
        {"id": "a", "question": "q", "answers": None},
        {"id": "b", "question": "r", "answers": [{"text": None}]},
        {"id": "c", "question": None, "answers": answers},
        {"id": "d", "question": "t", "answers": [{"text": ["a"]}]},
        {"id": "e", "question": "u", "answers": [{"text": None}, *answers]},
    ]
    empty = [{"context": context, "qas": [{**qas[-1], "id": n}]} for n, context in enumerate([None, " "])]
    content = {"data": [{"paragraphs": [{"context": "c", "qas": qas}, *empty]}]}
    (tmp_path / "dev-context-en-question-es.json").write_text(json.dumps(content), encoding="utf-8")
    assert load_source("mlqa", data_dir=tmp_path)["id"][:] == ["mlqa-e#es"]
    reasons = ["no_answer", "no_answer", "no_question", "not_text", "no_context", "no_context"]
    assert load_source("mlqa", "dropped", data_dir=tmp_path)["reason"][:] == reasons


def test_the_hubs_columns_are_supported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = ["mlqa.en.es", "mlqa.en.zh"]
    row = {
        "id": "7d",
        "context": "Figs ripen.",
        "question": "q",
        "answers": {"text": ["a", "a"], "answer_start": [0, 1]},
    }
    for config in configs:
        (tmp_path / config).mkdir()
        Dataset.from_list([row]).to_parquet(str(tmp_path / config / "validation.parquet"))
    header = "".join(
        f"- config_name: {c}\n  data_files:\n  - split: validation\n    path: {c}/*.parquet\n" for c in configs
    )
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{header}---\n")
    monkeypatch.setattr(SOURCES["mlqa"], "hub", (str(tmp_path), *configs))
    table = build_tables(SOURCES["mlqa"]).questions["validation"]
    assert (table["id"][:], table["answers"][:]) == (["mlqa-7d#es", "mlqa-7d#zh"], [["a"], ["a"]])
    assert set(table["context"]) == {"Figs ripen."}


def test_real_questions(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared / "data/mlqa"
    tables = load_tables("mlqa", folder)
    assert [row_id[-2:] for row_id in tables.questions["dev"]["id"]] == ["ar", "de", "es", "hi", "vi", "zh"]
    assert tables.dropped["dev"]["reason"][:] == ["same_language"]
    joined = load_tables("mlqa", folder / "joined")
    assert {split: len(table) for split, table in joined.questions.items()} == {"dev": 292, "test": 431}
    assert sum(len(table) for table in joined.dropped.values()) == 0
    ids = {split: [row_id.partition("#")[0] for row_id in table["id"]] for split, table in joined.questions.items()}
    assert not set(ids["dev"]) & set(ids["test"])
    assert max(Counter(ids["dev"]).values()) > 1, "one question in several languages"
    rows = [row for table in joined.questions.values() for row in table]
    assert all(gold in row["context"] for row in rows for gold in row["answers"]), "the answer is in English"
    main("mlqa", ["--data-dir", str(folder / "joined"), "--out", str(tmp_path)])
    assert "431 rows" in capsys.readouterr().out
