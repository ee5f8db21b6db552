"""The questions of test sets, each with its name and place, from tables, files and sources in one list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from toolrlef_data.loading_scripts.test_sets.reading import read_test_sets
from toolrlef_data.records import InputError
from toolrlef_data.tables.overlap.stage import TEST_QUESTIONS


def rows_of(against: Any, **options: Any) -> list[tuple[str, str, str]]:
    table = read_test_sets(against, **options)
    assert table.features == TEST_QUESTIONS
    return [(row["test_set"], row["test_id"], row["text"]) for row in table]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_the_places_of_test_questions(tmp_path: Path) -> None:
    (tmp_path / "a.TXT").write_text("one\n \n three \n")
    lines = write(tmp_path / "b.jsonl", [{"problem": "four"}, {"problem": None}, {"problem": "five", "text": "x"}])
    no_ids = Dataset.from_dict({"id": ["x", None], "question": ["six", "seven"], "query": ["y", "y"]})
    splits = DatasetDict(
        dev=Dataset.from_dict({"n": [1], "prompt": ["eight"]}), test=Dataset.from_dict({"instruction": ["nine"]})
    )
    assert rows_of([tmp_path / "a.TXT", str(lines), no_ids, splits]) == [
        ("a.TXT", "line 1", "one"),
        ("a.TXT", "line 3", " three "),
        ("b.jsonl", "b.jsonl, line 1", "four"),
        ("b.jsonl", "b.jsonl, line 3", "five"),
        ("table 3", "x", "six"),
        ("table 3", "row 2", "seven"),
        ("table 4, dev", "row 1", "eight"),
        ("table 4, test", "row 1", "nine"),
    ]
    assert rows_of(no_ids, column="query") == [("table 1", "x", "y"), ("table 1", "row 2", "y")]
    assert rows_of((no_ids.with_format("numpy"),))[0] == ("table 1", "x", "six")
    with pytest.raises(InputError, match=f"^{tmp_path}/c.txt: no such file$"):
        rows_of(tmp_path / "c.txt")
    with pytest.raises(InputError, match=r"^table 1, row 2: expected a text in 'question', found float$"):
        rows_of(Dataset.from_dict({"question": [None, 5.0]}))
    with pytest.raises(InputError, match=r"^against: the test sets contain no question$"):
        rows_of([])
    with pytest.raises(InputError, match=r"^b\.jsonl: no column 'x'; choose from: problem$"):
        rows_of(lines, column="x")
    for item in (5, None, {"question": ["a"]}):
        message = (
            "^against: expected a table, the path of a file, the name of a source, or a list of these, found "
            f"{type(item).__name__}$"
        )
        with pytest.raises(InputError, match=message):
            rows_of(item)


def test_the_splits_of_a_source_that_are_test_sets(tmp_path: Path) -> None:
    def row(text: str) -> dict[str, Any]:
        return {"question": text, "answer": "#### 1"}

    for split in ("train", "test"):
        write(tmp_path / f"{split}.jsonl", [row(f"Who is {split}?")])
        write(tmp_path / "each" / "gsm8k" / f"{split}.jsonl", [row(f"Where is {split}?")])
    assert rows_of("gsm8k", data_dir=tmp_path) == [("gsm8k test", "gsm8k-test-1", "Who is test?")]
    assert rows_of(["gsm8k"], data_dir=str(tmp_path / "each")) == [("gsm8k test", "gsm8k-test-1", "Where is test?")]
    (tmp_path / "test.jsonl").unlink()
    assert rows_of("gsm8k", data_dir=tmp_path) == [("gsm8k train", "gsm8k-train-1", "Who is train?")], "the only split"
    assert rows_of("sample")[0][:2] == ("sample train", "sample-001")
